"""The places of the largest magnitudes, exactly."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["kept_of", "places_of_largest"]

_SAMPLES = 1 << 14


def kept_of(fraction: float, count: int) -> int:
    """`ceil(fraction * count)`; the fraction counts as the decimal that was written.

    >>> kept_of(0.07, 100)
    7
    """
    return math.ceil(Fraction(str(fraction)) * count)


def places_of_largest(magnitudes: npt.NDArray[Any], kept_count: int) -> npt.NDArray[np.int64]:
    """The ascending places of the `kept_count` largest; of equal ones, those that come first.

    Of many, a sample first guesses a bound that somewhat more than `kept_count` reach; the exact choice is then among those.
    Only the time depends on the guess.

    Args:
        magnitudes: (n,) without NaN.
        kept_count: 0 to n.
    """
    count = len(magnitudes)
    if kept_count == count:
        return np.arange(count)
    if kept_count == 0:
        return np.zeros(0, np.int64)
    if count > 4 * _SAMPLES and kept_count < count // 4:
        sample = magnitudes[:: count // _SAMPLES]
        expected = len(sample) * kept_count / count
        rank = len(sample) - 1 - int(expected + 4 * math.sqrt(expected) + 4)
        places = np.flatnonzero(magnitudes >= np.partition(sample, rank)[rank])
        if kept_count <= len(places) < count // 2:
            return places[places_of_largest(magnitudes[places], kept_count)]
    smallest = np.partition(magnitudes, count - kept_count)[count - kept_count]
    kept = magnitudes > smallest
    # A partition orders equal magnitudes as it likes: take the first of them.
    kept[np.flatnonzero(magnitudes == smallest)[: kept_count - np.count_nonzero(kept)]] = True
    return np.flatnonzero(kept)
