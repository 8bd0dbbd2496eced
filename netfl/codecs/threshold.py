"""Threshold sparsification: the values of at least some magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import annotated_types
import numpy as np

from netfl.codecs.indices import IndexCoding, PlacedValues, check_coding
from netfl.codecs.pipeline import Vector, require_finite

__all__ = ["Threshold"]


@dataclass(frozen=True, kw_only=True)
class Threshold(PlacedValues):
    """Keeps the values whose magnitude is at least `least`; the others become 0, and the length depends on the data.

    Source: Strom, "Scalable distributed DNN training using commodity GPU cloud computing", Interspeech 2015.

    Args:
        least: the magnitude; above 0.
        indices: how the places are written: plain, coordinates, elias_gamma, elias_delta, rice or bitmap.
    """

    least: Annotated[float, annotated_types.Gt(0)]
    indices: IndexCoding = "plain"

    def __post_init__(self) -> None:
        if not self.least > 0:
            raise ValueError(f"expected a magnitude above 0, got {self.least}")
        check_coding(self.indices)

    def kept_count(self, count: int) -> None:
        """None: it depends on the values."""

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The places and the values kept; nothing is drawn."""
        magnitudes = np.abs(values)
        require_finite(values, "threshold", magnitudes)
        places = np.flatnonzero(magnitudes >= self.least)
        return self._placed(places, values[places], len(values))

    def error_bound(self, values: Vector) -> float:
        """`least`, or the largest magnitude if that is less."""
        return min(self.least, float(np.abs(values).max())) if len(values) else 0.0
