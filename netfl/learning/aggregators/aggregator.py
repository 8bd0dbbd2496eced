"""The contract of an aggregator, and the sums that aggregators share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from netfl.randomness import Stream

__all__ = ["Aggregated", "Aggregator", "Contributions", "checked", "weighted_mean"]

Vector = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Contributions:
    """What came back to the server, each in client-name order.

    Args:
        updates: (P,) each, what the clients changed: trained model minus the one they started from.
        num_samples: how many samples each was trained on.
        steps: how many optimiser steps each took.
        controls: (P,) each, by how much the clients' control variates changed (SCAFFOLD); empty for aggregators without.
        num_clients: all clients of the training, whether they took part or not.
        stream: what the aggregator draws from; None for those that draw nothing.
    """

    updates: Sequence[Vector]
    num_samples: Sequence[int]
    steps: Sequence[int]
    controls: Sequence[Vector] = ()
    num_clients: int
    stream: Stream | None = None


@dataclass(frozen=True, eq=False)
class Aggregated:
    """A new global model, and what the server keeps for the next one.

    Args:
        model: (P,) float32.
        state: named vectors (P,) float32; empty for aggregators without memory.
    """

    model: npt.NDArray[np.float32]
    state: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


class Aggregator(Protocol):
    """A pure function of the global model, the server's state and what came back. Subclass it to inherit the defaults."""

    remembers: ClassVar[bool] = False
    """Whether it leaves a state for the next aggregation."""

    uses_controls: ClassVar[bool] = False
    """Whether clients train with control variates: the state then holds the server's as `control`, (P,)."""

    needs_each: ClassVar[bool] = False
    """Whether it looks at each update, so that their sum is not enough."""

    draws: ClassVar[bool] = False
    """Whether it needs `Contributions.stream`."""

    @property
    def least_updates(self) -> int:
        """Of how many updates it can make a model. A workload refuses smaller rounds before it begins, and a round in which
        fewer arrive leaves the model as it is.
        """
        return 1

    def unfit(self, trainer: object) -> str | None:
        """Why it cannot aggregate what a trainer makes, as a sentence without subject (`expected ...`); None if it can."""
        return None

    def aggregate(self, model: Vector, state: Mapping[str, Vector], contributions: Contributions) -> Aggregated:
        """The next global model.

        Args:
            model: (P,) the present global model.
            state: what the aggregation before left; empty at the first.
            contributions: at least `least_updates`. Sums run in the order given, in float64.

        Raises:
            ValueError: the arguments do not belong together, or there are too few updates.
        """
        ...


def checked(model: Vector, contributions: Contributions, least: int) -> None:
    """Check that contributions belong together and are enough.

    Raises:
        ValueError: they do not, or are not.
    """
    updates = contributions.updates
    for name, numbers in (("samples", contributions.num_samples), ("steps", contributions.steps)):
        if len(updates) != len(numbers):
            raise ValueError(f"expected one number of {name} for each update, got {len(numbers)} for {len(updates)}")
    if len(updates) < least:
        raise ValueError(f"expected at least {least} updates, got {len(updates)}")
    wrong = [vector.shape for vector in (*updates, *contributions.controls) if vector.shape != model.shape]
    if wrong:
        raise ValueError(f"expected updates of the model's shape {model.shape}, got {wrong[0]}")


def weighted_mean(vectors: Sequence[Vector], weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """The mean by weights, summed in float64 in the order given.

    Raises:
        ValueError: a weight is negative, or all are zero.
    """
    if min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"expected numbers of samples of at least 0 and not all 0, got {list(weights)}")
    total = np.zeros(vectors[0].shape, dtype=np.float64)
    term = np.empty(vectors[0].shape, dtype=np.float64)
    for vector, weight in zip(vectors, weights, strict=True):
        np.multiply(vector, np.float64(weight), out=term)
        total += term
    total /= sum(weights)
    return total
