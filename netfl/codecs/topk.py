"""Top-k sparsification: the values of largest magnitude and their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import annotated_types
import numpy as np

from netfl.codecs.indices import IndexCoding, PlacedValues, check_coding
from netfl.codecs.largest import kept_of, places_of_largest
from netfl.codecs.pipeline import Vector, check_fraction, require_finite

__all__ = ["TopK"]


@dataclass(frozen=True, kw_only=True)
class TopK(PlacedValues):
    """Keeps the `ceil(fraction * n)` values of largest magnitude, of equal ones those that come first; the others become 0.

    `fraction` counts as the decimal that was written: 0.07 of 100 is 7, though the nearest binary number is a little more.

    Source: Aji and Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017.

    Args:
        fraction: share of values kept; above 0, at most 1.
        indices: how the places are written: plain, coordinates, elias_gamma, elias_delta, rice or bitmap.
    """

    fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    indices: IndexCoding = "plain"

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        check_coding(self.indices)

    def kept_count(self, count: int) -> int:
        """`ceil(fraction * count)`.

        >>> TopK(fraction=0.07).kept_count(100)
        7
        """
        return kept_of(self.fraction, count)

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The places and the values kept; nothing is drawn."""
        magnitudes = np.abs(values)
        require_finite(values, "topk", magnitudes)
        places = places_of_largest(magnitudes, self.kept_count(len(values)))
        return self._placed(places, values[places], len(values))

    def error_bound(self, values: Vector) -> float:
        """The largest magnitude that is not kept."""
        dropped = len(values) - self.kept_count(len(values))
        return float(np.partition(np.abs(values), dropped - 1)[dropped - 1]) if dropped else 0.0
