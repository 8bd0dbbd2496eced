"""Aggregators that correct what unequal clients do to the mean: FedNova their unequal numbers of steps, SCAFFOLD their drift.

With x for the model, u_i for a client's update, p_i for its share of the round's samples:

- FedNova (J. Wang, Q. Liu, H. Liang, G. Joshi, H. V. Poor: "Tackling the objective inconsistency problem in heterogeneous
  federated optimization", NeurIPS 2020): x += (sum p_i a_i) * sum p_i u_i / a_i, where a_i is how many gradients of full weight
  a client's steps come to: its number of steps t, and with momentum r (t - r (1 - r^t) / (1 - r)) / (1 - r).
- SCAFFOLD (S. P. Karimireddy et al.: "SCAFFOLD: Stochastic controlled averaging for federated learning", ICML 2020):
  clients add c - c_i to every gradient; x += learning_rate * mean(u_i); c += sum(change of c_i) / (number of all clients). Clients
  count alike, as in the paper. A client's own control is its option II: c_i - c - u_i / (steps * its learning rate).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np

from netfl.learning.aggregators.aggregator import Aggregated, Aggregator, Contributions, Vector, checked, weighted_mean

__all__ = ["FedNova", "Scaffold"]


@dataclass(frozen=True, kw_only=True)
class FedNova(Aggregator):
    """The mean of updates a step, times the mean number of steps: clients with many steps pull no more than others (Wang et al., 2020).

    Args:
        momentum: of the clients' trainer, which must be sgd at a constant rate.
    """

    momentum: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.0

    def unfit(self, trainer: object) -> str | None:
        """See `Aggregator`."""
        return _plain_sgd(trainer, self.momentum)

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        lengths = [self._length(steps) for steps in contributions.steps]
        directions = [update / length for update, length in zip(contributions.updates, lengths, strict=True)]
        total = weighted_mean(directions, contributions.num_samples)
        total *= float(np.average(lengths, weights=contributions.num_samples))
        return Aggregated((model + total).astype(np.float32))

    def _length(self, steps: int) -> float:
        if steps < 1:
            raise ValueError(f"expected at least 1 step of each client, got {steps}")
        r = self.momentum
        return (steps - r * (1 - r**steps) / (1 - r)) / (1 - r)


@dataclass(frozen=True, kw_only=True)
class Scaffold(Aggregator):
    """The mean update, where clients correct their gradients by control variates (Karimireddy et al., ICML 2020).

    Both ways carry a control beside the model, so traffic doubles.

    Args:
        learning_rate: of the server.
    """

    learning_rate: Annotated[float, annotated_types.Gt(0)] = 1.0

    remembers: ClassVar[bool] = True
    uses_controls: ClassVar[bool] = True

    def unfit(self, trainer: object) -> str | None:
        """See `Aggregator`."""
        if getattr(trainer, "round_decay", 1.0) != 1:
            return "expected the trainer's round_decay to be 1: controls are gradients at one learning rate"
        return _plain_sgd(trainer, 0.0)

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """See `Aggregator`."""
        checked(model, contributions, self.least_updates)
        count = len(contributions.updates)
        if len(contributions.controls) != count:
            raise ValueError(f"expected one change of a control for each update, got {len(contributions.controls)} for {count}")
        if contributions.num_clients < count:
            raise ValueError(f"expected at least as many clients as updates, got {contributions.num_clients} for {count}")
        moved = model + self.learning_rate * weighted_mean(contributions.updates, [1] * count)
        control = weighted_mean(contributions.controls, [1] * count) * (count / contributions.num_clients)
        if state:
            control += state["control"]
        return Aggregated(moved.astype(np.float32), {"control": control.astype(np.float32)})


def _plain_sgd(trainer: object, momentum: float) -> str | None:
    """Why a trainer's steps are not gradients times one rate, up to momentum."""
    if not hasattr(trainer, "momentum"):
        return "expected a trainer of stochastic gradient descent, as sgd: its formula counts gradients times a learning rate"
    if getattr(trainer, "schedule", "constant") != "constant":
        return f"expected the trainer's schedule to be constant, got {trainer.schedule}"  # type: ignore[attr-defined]
    if trainer.momentum != momentum:
        return f"expected the trainer's momentum to be {momentum:g}, got {trainer.momentum:g}"
    return "expected the trainer without nesterov" if getattr(trainer, "nesterov", False) else None
