"""Which filters of a teacher each student learns: NoNN's filter activation network, its communities, and their packing.

K. Bhardwaj, C. Lin, A. Sartor, R. Marculescu: "Memory- and communication-aware model compression for distributed deep learning
inference on IoT", ACM TECS 18(5s), 2019 (arXiv 1907.11804), and what their public code does. The activity of a filter for one image
is the mean of its maps, negative values as 0, divided by the highest activity of that image; only the most active filters of an image
count. Filters are the nodes of a graph, and a pair gains for every image

- `hub`: a_i a_j |a_i - a_j|: a strongly active filter is tied to weakly active ones, so that what a class needs is spread over a
  community. Two filters of equal activity gain nothing;
- `correlation`: a_i a_j / (|a_i - a_j| + 1): filters that are active together.

Weights are divided by the highest one, and those below a percentile of the positive ones become 0. Communities are those of
Louvain's method (V. Blondel et al., J. Stat. Mech. P10008, 2008) for the modularity
Q = 1/2m sum_ij (A_ij - resolution k_i k_j / 2m) [c_i = c_j].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import annotated_types
import networkx as nx
import numpy as np
import numpy.typing as npt

from netfl.errors import NetflError

__all__ = ["FilterGroups", "Groups", "communities", "filter_weights", "modularity", "thresholded"]

Floats = npt.NDArray[np.floating[Any]]
Groups = tuple[tuple[int, ...], ...]
"""Of each student, the filters that it learns, sorted; no filter comes twice."""


@dataclass(frozen=True, kw_only=True)
class FilterGroups:
    """How a teacher's filters are dealt to students.

    `packing: authors` is what the authors' code does: communities of equal size become one group, the group with the most filters is
    dropped, the next ones go to a student each and every other to the student with the fewest filters; `isolated` then has no say.
    `packing: balanced`, the default and a choice of ours, gives communities, the largest first, to the student with the fewest filters;
    with fewer communities than students the largest is halved until there are enough.

    Args:
        rule: hub or correlation; see the module.
        top: how many filters of an image count.
        percentile: edges below this percentile of the positive ones are dropped.
        resolution: of the modularity; the authors' 0.7 of python-louvain, which acts inversely, is 1 / 0.7 here.
        packing: balanced or authors.
        isolated: what becomes of filters without an edge. balance, each goes to the student with the fewest filters; strongest_edge,
            to that of the filter with which it shares the highest weight below the percentile; drop, nobody learns them.
    """

    rule: Literal["hub", "correlation"] = "hub"
    top: Annotated[int, annotated_types.Ge(2)] = 50
    percentile: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(100)] = 99.0
    resolution: Annotated[float, annotated_types.Gt(0)] = 1 / 0.7
    packing: Literal["balanced", "authors"] = "balanced"
    isolated: Literal["balance", "strongest_edge", "drop"] = "balance"

    def groups(self, activity: Floats, count: int, seed: int) -> Groups:
        """The filters of each student, from the activities of all filters.

        Args:
            activity: (images, filters), the spatial mean of each filter's maps.
            count: how many students there are.
            seed: of the order in which Louvain's method visits filters.

        Raises:
            NetflError: there is nothing for some student.
        """
        if activity.shape[1] < count:
            raise NetflError(f"the teacher's last convolution has {activity.shape[1]} filters, too few for {count} students")
        weights = filter_weights(activity, self.rule, self.top)
        edges = thresholded(weights, self.percentile)
        found = communities(edges, self.resolution, seed)
        packed = _as_authors(found, count) if self.packing == "authors" else self._balanced(found, weights, edges, count)
        empty = [place for place, group in enumerate(packed, start=1) if not group]
        if empty:
            raise NetflError(
                f"student {empty[0]} of {count} got no filter: {len(found)} communities of {activity.shape[1]} filters are too few for "
                f"`packing: {self.packing}`, `isolated: {self.isolated}`; lower `percentile` or the number of students"
            )
        return tuple(tuple(sorted(group)) for group in packed)

    def _balanced(self, found: Sequence[Sequence[int]], weights: Floats, edges: Floats, count: int) -> list[list[int]]:
        lonely = [filter_ for filter_ in range(len(edges)) if not edges[filter_].any()]
        joined = [list(community) for community in found if edges[community[0]].any()]
        while joined and len(joined) < count and len(joined[0]) > 1:
            largest = joined.pop(0)
            half = (len(largest) + 1) // 2
            joined += [largest[:half], largest[half:]]
            joined.sort(key=lambda community: (-len(community), community[0]))
        packed: list[list[int]] = [[] for _ in range(count)]
        for community in joined:
            min(packed, key=len).extend(community)
        if self.isolated == "drop":
            return packed
        member = {filter_: group for group in packed for filter_ in group}
        for filter_ in lonely:
            group = min(packed, key=len)
            if self.isolated == "strongest_edge" and weights[filter_].any():
                near = np.array([weights[filter_, other] if other in member else -1.0 for other in range(len(weights))])
                group = member[int(near.argmax())] if near.max() > 0 else group
            group.append(filter_)
        return packed


def _as_authors(found: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for community in found:
        by_length[len(community)] += community
    groups = sorted(by_length.values(), key=lambda group: (-len(group), group[0]))[1:]
    packed = [list(group) for group in groups[:count]] + [[] for _ in range(count - len(groups))]
    for group in groups[count:]:
        min(packed, key=len).extend(group)
    return packed


def filter_weights(activity: Floats, rule: Literal["hub", "correlation"], top: int) -> Floats:
    """The weights between filters (F, F), the highest 1; all 0 where no pair gained anything.

    Args:
        activity: (images, filters); negative ones count as 0, and each image's are divided by its highest.
        rule: see the module.
        top: how many filters of an image count; of equal ones the first.

    >>> filter_weights(np.array([[4.0, 2.0, 1.0]]), "hub", 3).round(3).tolist()
    [[0.0, 1.0, 0.75], [1.0, 0.0, 0.125], [0.75, 0.125, 0.0]]
    """
    found = np.maximum(activity.astype(np.float64), 0)
    highest = found.max(axis=1, keepdims=True)
    found = np.divide(found, highest, out=np.zeros_like(found), where=highest > 0)
    quiet = np.argsort(-found, axis=1, kind="stable")[:, top:]
    np.put_along_axis(found, quiet, 0.0, axis=1)
    weights = np.zeros((found.shape[1], found.shape[1]))
    for image in found:
        apart = np.abs(image[:, None] - image[None, :])
        together = image[:, None] * image[None, :]
        weights += together * apart if rule == "hub" else together / (apart + 1)
    np.fill_diagonal(weights, 0.0)
    return weights / weights.max() if weights.any() else weights


def thresholded(weights: Floats, percentile: float) -> Floats:
    """The weights with those below a percentile of the positive ones as 0."""
    positive = weights[weights > 0]
    return np.where(weights >= np.percentile(positive, percentile), weights, 0.0) if len(positive) else weights


def communities(edges: Floats, resolution: float, seed: int) -> list[list[int]]:
    """Louvain's communities of a weighted graph (F, F), each sorted, the largest first; a filter without an edge is one by itself."""
    found = nx.community.louvain_communities(nx.from_numpy_array(edges), weight="weight", resolution=resolution, seed=seed)
    return sorted((sorted(community) for community in found), key=lambda community: (-len(community), community[0]))


def modularity(edges: Floats, groups: Sequence[Sequence[int]], resolution: float) -> float:
    """Q of a partition of all filters; see the module."""
    return float(
        nx.community.modularity(nx.from_numpy_array(edges), [set(group) for group in groups], weight="weight", resolution=resolution)
    )
