"""Means over replicates with 95 % intervals, after Student (1908): the mean of n values plus or minus t(0.975, n - 1) s / sqrt(n)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """What replicates say about a figure.

    Args:
        n: how many replicates there are.
        reached: how many of them have the figure; the others did not get there.
        mean: of all; None unless all have it.
        half_width: of the 95 % interval; None for fewer than two.
    """

    n: int
    reached: int
    mean: float | None
    half_width: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval."""
        if self.mean is None or self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width


def estimate(values: Sequence[float | None]) -> Estimate:
    """The mean of replicates and its interval; a value of None was not reached.

    The mean of those that did get there would flatter, so with one that did not there is no mean.

    >>> estimate([1.0, 2.0, 3.0]).mean
    2.0
    >>> estimate([1.0, None])
    Estimate(n=2, reached=1, mean=None, half_width=None)
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return Estimate(len(values), len(known), None, None)
    n = len(known)
    mean = math.fsum(known) / n
    if n < 2:
        return Estimate(n, n, mean, None)
    from scipy.special import stdtrit

    variance = math.fsum((value - mean) ** 2 for value in known) / (n - 1)
    return Estimate(n, n, mean, float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n))
