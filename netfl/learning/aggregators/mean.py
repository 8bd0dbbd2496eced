"""The weighted mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from netfl.learning.aggregators.aggregator import Aggregated, Aggregator, Contributions, Vector, checked, weighted_mean

__all__ = ["Mean"]


@dataclass(frozen=True, kw_only=True)
class Mean(Aggregator):
    """The model plus the mean of the updates, weighted by samples (FedAvg: McMahan et al., AISTATS 2017)."""

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        total = weighted_mean(contributions.updates, contributions.num_samples)
        total += model
        return Aggregated(total.astype(np.float32))
