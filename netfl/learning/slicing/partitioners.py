"""Partitioners: which hidden unit goes into which slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.errors import MissingExtraError
from netfl.learning.slicing.graph import SliceGraph
from netfl.parts import Family

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["PARTITIONERS", "Even", "KernighanLin", "Metis", "Partitioner"]

Parts = npt.NDArray[np.int64]


class Partitioner(Protocol):
    """A deal of hidden units to slices: pure, and the same for the same graph."""

    def parts(self, graph: SliceGraph, count: int) -> Parts:
        """(V,) the slice of each unit, 0 to count - 1, none of them empty.

        Args:
            graph: the units.
            count: how many slices; at most as many as units.
        """
        ...


PARTITIONERS = Family(
    "partitioners",
    {
        "even": "netfl.learning.slicing.partitioners:Even",
        "kernighan_lin": "netfl.learning.slicing.partitioners:KernighanLin",
        "metis": "netfl.learning.slicing.partitioners:Metis",
    },
)


@dataclass(frozen=True, kw_only=True)
class Even:
    """Every layer in equal runs, the next layer going on where the last one stopped, so that all slices have equally many units."""

    def parts(self, graph: SliceGraph, count: int) -> Parts:
        """The slices; see `Partitioner.parts`."""
        found, dealt = [], 0
        for units in graph.layer_units:
            lengths = np.full(count, units // count)
            lengths[(dealt + np.arange(units % count)) % count] += 1
            found.append(np.repeat(np.arange(count), lengths))
            dealt += units % count
        return np.concatenate(found)


@dataclass(frozen=True, kw_only=True)
class KernighanLin:
    """Kernighan and Lin's bisection, again and again, from networkx; then units move until the loads are balanced.

    B. Kernighan, S. Lin: "An efficient heuristic procedure for partitioning graphs", Bell System Technical Journal 49(2), 1970. It swaps
    units without regard to what they cost, so what it leaves unbalanced is moved to the lightest slice, the unit first that adds least to
    the cut for its cost (a choice). Where that cuts more than the even split, the even split is taken.

    Args:
        balance: the largest load over the ideal one that is let stand. 1.03 is METIS's own.
        seed: of the order in which units are looked at.
    """

    balance: Annotated[float, annotated_types.Gt(1)] = 1.03
    seed: Annotated[int, annotated_types.Ge(0)] = 0

    def parts(self, graph: SliceGraph, count: int) -> Parts:
        """The slices; see `Partitioner.parts`."""
        import networkx as nx

        even = Even().parts(graph, count)
        if count == 1:
            return even
        joined: nx.Graph[int] = nx.Graph()
        joined.add_nodes_from(range(len(graph.costs)))
        for unit, (others, costs) in enumerate(zip(graph.neighbours, graph.edge_costs, strict=True)):
            joined.add_weighted_edges_from((unit, other, cost) for other, cost in zip(others, costs, strict=True) if other > unit)
        parts = even.copy()
        layers = np.repeat(np.arange(len(graph.layer_units)), graph.layer_units)
        self._bisect(joined, layers, parts, list(range(count)))
        parts = _balanced(graph, parts, count, max(self.balance, float(graph.loads(even, count).max() * count / graph.costs.sum())))
        return parts if graph.cut(parts) < graph.cut(even) else even

    def _bisect(self, joined: nx.Graph[int], layers: Parts, parts: Parts, slices: list[int]) -> None:
        """Better the cut between the first and the second half of some slices, then within each half."""
        from networkx.algorithms.community import kernighan_lin_bisection

        if len(slices) < 2:
            return
        halves = slices[: len(slices) // 2], slices[len(slices) // 2 :]
        before = [set(np.flatnonzero(np.isin(parts, half)).tolist()) for half in halves]
        sides = kernighan_lin_bisection(joined.subgraph(before[0] | before[1]), (before[0], before[1]), max_iter=10, seed=self.seed)
        # Swaps keep the two numbers of units; which side comes first is networkx's affair.
        ordered = sides if len(sides[0]) == len(before[0]) else sides[::-1]
        for side, half in zip(ordered, halves, strict=True):
            units = np.array(sorted(side))
            # Each layer's share in equal parts, for the next bisection to better.
            places = np.concatenate([np.arange((layers[units] == layer).sum()) for layer in np.unique(layers)])
            parts[units] = np.asarray(half)[places % len(half)]
            self._bisect(joined, layers, parts, half)


def _balanced(graph: SliceGraph, parts: Parts, count: int, balance: float) -> Parts:
    """Move units from the heaviest slice to the lightest until no load is over the ideal times the balance, or none can move."""
    parts = parts.copy()
    most = balance * graph.costs.sum() / count
    loads = graph.loads(parts, count)
    for _ in range(10 * len(parts)):
        heavy, light = int(loads.argmax()), int(loads.argmin())
        if loads[heavy] <= most:
            break
        units = np.flatnonzero(parts == heavy)
        fitting = [int(unit) for unit in units if loads[light] + graph.costs[unit] < loads[heavy]] if len(units) > 1 else []
        if not fitting:
            break
        unit = min(fitting, key=lambda each: (_added(graph, parts, each, heavy, light) / graph.costs[each], each))
        parts[unit] = light
        loads[heavy] -= graph.costs[unit]
        loads[light] += graph.costs[unit]
    return parts


def _added(graph: SliceGraph, parts: Parts, unit: int, source: int, target: int) -> int:
    """By how much the cut grows when a unit moves."""
    others = np.asarray(graph.neighbours[unit], np.int64)
    costs = np.asarray(graph.edge_costs[unit], np.int64)
    return int(costs[parts[others] == source].sum() - costs[parts[others] == target].sum())


@dataclass(frozen=True, kw_only=True)
class Metis:
    """METIS's k-way partitioning, which the paper uses; needs `netfl-sim[metis]`.

    G. Karypis, V. Kumar: "Multilevel k-way partitioning scheme for irregular graphs", Journal of Parallel and Distributed Computing
    48(1), 1998. With its defaults it gives the paper's Table V for the perceptron.
    """

    def parts(self, graph: SliceGraph, count: int) -> Parts:
        """The slices; see `Partitioner.parts`.

        Raises:
            MissingExtraError: pymetis is not there.
            ValueError: METIS left a slice empty.
        """
        try:
            import pymetis
        except ImportError as error:
            raise MissingExtraError("the partitioner 'metis' needs pymetis: pip install 'netfl-sim[metis]'") from error

        starts = np.cumsum([0, *map(len, graph.neighbours)])
        ends = np.array([each for others in graph.neighbours for each in others], np.int64)
        costs = [each for one in graph.edge_costs for each in one]
        weights: dict[str, Any] = {"eweights": costs} if set(costs) - {1} else {}
        found = pymetis.part_graph(
            count,
            adjacency=pymetis.CSRAdjacency(starts.tolist(), ends.tolist()),
            vweights=graph.costs.tolist(),
            recursive=False,
            **weights,
        )
        parts = np.array(found[1], np.int64)
        empty = sorted(set(range(count)) - set(parts.tolist()))
        if empty:
            raise ValueError(f"METIS left {len(empty)} of {count} slices empty: ask for fewer slices, or use `even`")
        return parts
