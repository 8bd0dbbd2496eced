"""Optimisers at the server: the mean update, weighted by samples, taken as a step's direction.

With D for the mean update, m and v for the server's memory and x for the model, all by coordinate:

- FedAvgM (T.-M. Harry Hsu, H. Qi, M. Brown: "Measuring the effects of non-identical data distribution for federated visual
  classification", 2019): m = momentum * m + D; x += learning_rate * m.
- FedAdagrad, FedAdam, FedYogi (S. Reddi et al.: "Adaptive federated optimization", ICLR 2021, algorithm 2):
  m = beta1 * m + (1 - beta1) * D; x += learning_rate * m / (sqrt(v) + tau), where v begins at tau^2 and becomes
  v + D^2, beta2 * v + (1 - beta2) * D^2, and v - (1 - beta2) * D^2 * sign(v - D^2). There is no correction of the bias towards 0.

Their algorithm weighs clients alike; their experiments weigh them by samples, as netfl does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.learning.aggregators.aggregator import Aggregated, Aggregator, Contributions, Vector, checked, weighted_mean

__all__ = ["FedAdagrad", "FedAdam", "FedAvgM", "FedYogi"]

Positive = Annotated[float, annotated_types.Gt(0)]
Share = Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)]
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FedAvgM(Aggregator):
    """The mean update with momentum at the server (Hsu et al., 2019).

    Args:
        learning_rate: of the server.
        momentum: share of the last velocity that is kept.
    """

    learning_rate: Positive = 1.0
    momentum: Share = 0.9

    remembers: ClassVar[bool] = True

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        velocity = _mean(model, contributions)
        if state:
            velocity += self.momentum * state["velocity"].astype(np.float64)
        return Aggregated((model + self.learning_rate * velocity).astype(np.float32), {"velocity": velocity.astype(np.float32)})


@dataclass(frozen=True, kw_only=True)
class FedAdagrad(Aggregator):
    """Adagrad at the server: steps shrink where updates have been large (Reddi et al., ICLR 2021).

    Args:
        learning_rate: of the server.
        beta1: share of the running mean of updates that is kept.
        tau: added to the root of the sum of squared updates; that sum begins at its square.
    """

    learning_rate: Positive = 0.1
    beta1: Share = 0.0
    tau: Positive = 1e-3

    remembers: ClassVar[bool] = True

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        mean, second = _memory(state, model, self.tau)
        update = _mean(model, contributions)
        return _moved(model, self.beta1 * mean + (1 - self.beta1) * update, second + update**2, self.learning_rate, self.tau)


@dataclass(frozen=True, kw_only=True)
class _SquareMean(Aggregator):
    """A rule that divides by the root of a running mean of squares; subclasses say how that mean moves."""

    learning_rate: Positive = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.99
    tau: Positive = 1e-3

    remembers: ClassVar[bool] = True

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        mean, second = _memory(state, model, self.tau)
        update = _mean(model, contributions)
        second = self._next(second, update**2)
        return _moved(model, self.beta1 * mean + (1 - self.beta1) * update, second, self.learning_rate, self.tau)

    def _next(self, second: Wide, square: Wide) -> Wide:
        """The mean of squares after one more."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class FedAdam(_SquareMean):
    """Adam at the server (Reddi et al., ICLR 2021).

    Args:
        learning_rate: of the server.
        beta1: share of the running mean of updates that is kept.
        beta2: the same for squared updates.
        tau: added to the root of the mean of squared updates; that mean begins at its square.
    """

    def _next(self, second: Wide, square: Wide) -> Wide:
        return self.beta2 * second + (1 - self.beta2) * square


@dataclass(frozen=True, kw_only=True)
class FedYogi(_SquareMean):
    """Yogi at the server: as Adam, but the mean of squares moves by steps of bounded length (Reddi et al., ICLR 2021).

    Args:
        learning_rate: of the server.
        beta1: share of the running mean of updates that is kept.
        beta2: one minus the share of a squared update that the mean of squares moves by.
        tau: added to the root of the mean of squared updates; that mean begins at its square.
    """

    def _next(self, second: Wide, square: Wide) -> Wide:
        return second - (1 - self.beta2) * square * np.sign(second - square)


def _mean(model: Vector, contributions: Contributions) -> Wide:
    checked(model, contributions, 1)
    return weighted_mean(contributions.updates, contributions.num_samples)


def _memory(state: Mapping[str, Vector], model: Vector, tau: float) -> tuple[Wide, Wide]:
    """The running means of updates and of their squares."""
    if not state:
        return np.zeros(model.shape), np.full(model.shape, tau**2)
    return state["mean"].astype(np.float64), state["second"].astype(np.float64)


def _moved(model: Vector, mean: Wide, second: Wide, learning_rate: float, tau: float) -> Aggregated:
    moved = model + learning_rate * mean / (np.sqrt(second) + tau)
    return Aggregated(moved.astype(np.float32), {"mean": mean.astype(np.float32), "second": second.astype(np.float32)})
