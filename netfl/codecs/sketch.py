"""Count sketch: a table of signed sums, from which every value can be estimated."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.largest import kept_of, places_of_largest
from netfl.codecs.pipeline import Leaves, Vector, check_fraction, require_finite
from netfl.errors import CodecError

__all__ = ["CountSketch"]

_BLOCK = 1 << 16
_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class CountSketch:
    """Adds each value, with a random sign, into one random cell of each row of a table; the receiver estimates it by the median of its cells.

    The table has about `fraction * n` cells; an 8-byte seed says signs and cells to both ends. Estimates are unbiased, with a
    variance of about the sum of all squares over the cells of a row: good for a few large values among many small ones. Without
    `largest` the estimates of small values are mostly noise, larger than what is lost by any sparsifier: error feedback then
    grows without bound, and switching it off is right.

    Source: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", ICALP 2002; for updates, Rothchild et al.,
    "FetchSGD", ICML 2020.

    Args:
        fraction: cells as a share of the values; above 0, at most 1.
        rows: how many cells each value is added to; 1 to 25, fewer if there are fewer cells.
        largest: share of values whose estimates the receiver keeps, the largest; the others become 0. Null keeps all.
    """

    fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    rows: Annotated[int, annotated_types.Ge(1), annotated_types.Le(25)] = 5
    largest: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] | None = None

    leaves: ClassVar[Leaves] = "mixed"

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        if self.largest is not None:
            check_fraction(self.largest, "share of largest estimates")
        if not 1 <= self.rows <= 25:
            raise ValueError(f"expected 1 to 25 rows, got {self.rows}")

    @property
    def unbiased_up_to(self) -> float | None:
        """Any magnitude whose sums float32 holds, if all estimates are kept."""
        return float("inf") if self.largest is None else None

    def kept_count(self, count: int) -> int:
        """How many cells there are: as many columns as fit into `ceil(fraction * count)` cells.

        >>> CountSketch(fraction=0.1).kept_count(1009)
        100
        """
        rows, columns = self._shape(count)
        return rows * columns

    def side_bytes(self, count: int) -> int:
        """The seed."""
        return 8

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The seed and the table, row by row; draws one number."""
        require_finite(values, "sketch")
        seed = int(generator.integers(2**63))
        rows, columns = self._shape(len(values))
        table = np.zeros((rows, columns))
        for start, cells, signs in self._hashes(seed, len(values)):
            block = values[start : start + _BLOCK].astype(np.float64)
            for row in range(rows):
                table[row] += np.bincount(cells[row], weights=signs[row] * block, minlength=columns)
        return struct.pack("<Q", seed), np.clip(table, -_MOST, _MOST).astype(np.float32).ravel()

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        """The medians, or the largest of them."""
        (seed,) = struct.unpack("<Q", side)
        if seed >= 2**63 or not np.isfinite(kept).all():
            raise CodecError("sketch: expected a seed below 2**63 and finite sums, got others")
        rows, columns = self._shape(count)
        table = kept.reshape(rows, columns)
        values = np.empty(count, np.float32)
        for start, cells, signs in self._hashes(seed, count):
            estimates = np.take_along_axis(table, cells, axis=1) * signs
            values[start : start + _BLOCK] = np.median(estimates.astype(np.float64), axis=0)
        if self.largest is None:
            return values
        places = places_of_largest(np.abs(values), kept_of(self.largest, count))
        chosen = np.zeros(count, np.float32)
        chosen[places] = values[places]
        return chosen

    def error_bound(self, values: Vector) -> float:
        """The sum of all magnitudes: all others may share a value's cells."""
        total = float(np.abs(values).sum(dtype=np.float64))
        return total * (1 + 2.0**-22) + 2.0**-149

    def _shape(self, count: int) -> tuple[int, int]:
        cells = kept_of(self.fraction, count)
        rows = min(self.rows, cells)
        return rows, cells // rows if rows else 0

    def _hashes(self, seed: int, count: int) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Where a block of values begins, and each value's cell and sign in each row."""
        rows, columns = self._shape(count)
        generator = np.random.Generator(np.random.PCG64(seed))
        for start in range(0, count, _BLOCK):
            length = min(_BLOCK, count - start)
            cells = generator.integers(columns, size=(rows, length))
            signs = generator.integers(2, size=(rows, length), dtype=np.uint8).astype(np.float32) * 2 - 1
            yield start, cells, signs
