"""Delays: how much longer than its counted work a client's training takes, because the device does other things too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from netfl.parts import Family
from netfl.randomness import Stream
from netfl.units import Duration

__all__ = ["DELAYS", "Delay", "Exponential", "HalfNormal"]


class Delay(Protocol):
    """Seconds added to a local training, during which the processor is free for others."""

    def draw_s(self, stream: Stream) -> float:
        """The delay of one training."""


@dataclass(frozen=True, kw_only=True)
class HalfNormal:
    """The magnitude of a normal number: most trainings are quick, a few take several times longer.

    Source: the training durations of J. Nguyen et al., "Federated learning with buffered asynchronous aggregation",
    AISTATS 2022, section 5, follow a half-normal distribution.

    Args:
        scale: standard deviation of the normal number; the mean delay is sqrt(2 / pi) = 0.798 of it.
    """

    scale: Duration

    def draw_s(self, stream: Stream) -> float:
        """See `Delay`."""
        return abs(float(stream.generator().normal())) * self.scale


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Exponentially distributed.

    Args:
        mean: the mean delay.
    """

    mean: Duration

    def draw_s(self, stream: Stream) -> float:
        """See `Delay`."""
        return float(stream.generator().exponential()) * self.mean


DELAYS = Family("delays", {"half_normal": "netfl.workloads.delays:HalfNormal", "exponential": "netfl.workloads.delays:Exponential"})
