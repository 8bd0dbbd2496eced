"""Aggregators that bear some wrong updates. Clients count alike: a number of samples is a claim like any other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np

from netfl.learning.aggregators.aggregator import Aggregated, Aggregator, Contributions, Vector, checked, weighted_mean

__all__ = ["Krum", "Median", "TrimmedMean"]


@dataclass(frozen=True, kw_only=True)
class Median(Aggregator):
    """The median of the updates by coordinate (D. Yin et al., ICML 2018); the mean of the two middle ones when their number is even.

    It needs three updates: the median of two is their mean, and bears nothing.
    """

    needs_each: ClassVar[bool] = True

    @property
    def least_updates(self) -> int:
        """See `Aggregator`."""
        return 3

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        middle = np.median(np.stack(contributions.updates).astype(np.float64), axis=0)
        return Aggregated((model + middle).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class TrimmedMean(Aggregator):
    """The mean by coordinate without the greatest and the least values (D. Yin et al., ICML 2018).

    Args:
        trim: the share of the updates that is left out at either end, rounded down; rounds must be large enough that it leaves out one.
    """

    needs_each: ClassVar[bool] = True

    trim: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(0.5)] = 0.1

    @property
    def least_updates(self) -> int:
        """See `Aggregator`."""
        return math.ceil(round(1 / self.trim, 9))

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        count = len(contributions.updates)
        left_out = math.floor(round(self.trim * count, 9))
        ordered = np.sort(np.stack(contributions.updates).astype(np.float64), axis=0)
        return Aggregated((model + ordered[left_out : count - left_out].mean(axis=0)).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Krum(Aggregator):
    """The update that lies closest to its neighbours, or the mean of several such (P. Blanchard et al., NeurIPS 2017).

    An update's score is the sum of its squared distances to the n - wrong - 2 closest others of n; the lowest scores are
    chosen, of equal ones the first by client name.

    Args:
        wrong: how many updates may be wrong (f); a round needs 2 f + 2 + chosen.
        chosen: how many are averaged (m); more than one is Multi-Krum.
    """

    needs_each: ClassVar[bool] = True

    wrong: Annotated[int, annotated_types.Ge(0)] = 1
    chosen: Annotated[int, annotated_types.Ge(1)] = 1

    @property
    def least_updates(self) -> int:
        """See `Aggregator`."""
        return 2 * self.wrong + 2 + self.chosen

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        updates = [update.astype(np.float64) for update in contributions.updates]
        count = len(updates)
        distances = np.array([[np.sum((one - other) ** 2) for other in updates] for one in updates])
        scores = []
        for index in range(count):
            others = np.sort(np.delete(distances[index], index))
            scores.append(float(others[: count - self.wrong - 2].sum()))
        best = sorted(sorted(range(count), key=lambda index: (scores[index], index))[: self.chosen])
        mean = weighted_mean([updates[index] for index in best], [1] * self.chosen)
        return Aggregated((model + mean).astype(np.float32))
