"""Aggregation under differential privacy of whole clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np

from netfl.learning.aggregators.aggregator import Aggregated, Aggregator, Contributions, Vector, checked, weighted_mean
from netfl.learning.privacy import epsilon_of_fixed_number, sigma_of

__all__ = ["NoisyMean"]


@dataclass(frozen=True, kw_only=True)
class NoisyMean(Aggregator):
    """The mean of updates that are clipped to a norm, plus Gaussian noise (DP-FedAvg: H. B. McMahan et al., ICLR 2018).

    Clients count alike. The noise is added to the sum, with `noise_multiplier` times `clip_norm` as standard deviation, once, by the
    server, which must be trusted: the updates themselves travel as they are. `netfl.learning.privacy` counts the epsilon.

    Args:
        clip_norm: updates longer than this (Euclidean norm over all parameters) are scaled down to it.
        noise_multiplier: standard deviation of the noise on the sum, in clip norms; 0 clips only.
        delta: for which a run tells epsilon; the usual 1e-5 is a choice.
    """

    clip_norm: Annotated[float, annotated_types.Gt(0)]
    noise_multiplier: Annotated[float, annotated_types.Ge(0)]
    delta: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)] = 1e-5

    needs_each: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        if contributions.stream is None:
            raise ValueError("expected a stream to draw the noise from, got none")
        clipped = []
        for update in contributions.updates:
            wide = update.astype(np.float64)
            norm = float(np.sqrt(np.sum(wide**2)))
            clipped.append(wide * min(1.0, self.clip_norm / norm) if norm else wide)
        mean = weighted_mean(clipped, [1] * len(clipped))
        if self.noise_multiplier:
            noise = contributions.stream.generator().normal(size=model.shape)
            mean += noise * (self.noise_multiplier * self.clip_norm / len(clipped))
        return Aggregated((model + mean).astype(np.float32))

    def epsilon(self, *, clients_per_round: int, num_clients: int, rounds: int, delta: float) -> float:
        """What a client is protected by, all its samples together, under replacement of one client by another.

        It holds for the selector `uniform` and rounds that aggregate so many clients each.

        Raises:
            ValueError: the numbers make no sense.
            MissingExtraError: dp-accounting is not installed.
        """
        return epsilon_of_fixed_number(
            sigma=sigma_of(self.noise_multiplier), sampled=clients_per_round, total=num_clients, rounds=rounds, delta=delta
        )
