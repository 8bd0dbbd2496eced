"""Random-k sparsification: values at random places that both ends draw from one seed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated

import annotated_types
import numpy as np

from netfl.codecs.indices import Places
from netfl.codecs.largest import kept_of
from netfl.codecs.pipeline import Leaves, Vector, check_fraction, require_finite
from netfl.errors import CodecError

__all__ = ["RandomK"]

_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class RandomK:
    """Keeps `ceil(fraction * n)` values at random places; an 8-byte seed says which, so no place is sent.

    Source: Konecny et al., "Federated learning: strategies for improving communication efficiency", 2016 (random mask).

    Args:
        fraction: share of values kept; above 0, at most 1.
        unbiased: multiply what is kept by n / k, so that the mean of the result is the value; without it, what is kept stays.
    """

    fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    unbiased: bool = False

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    epsilon_per_coordinate = 0.0

    @property
    def leaves(self) -> Leaves:
        """The values, or multiples of them."""
        return "changed" if self.unbiased else "values"

    @property
    def unbiased_up_to(self) -> float | None:
        """Any magnitude that float32 holds n / k times."""
        return float("inf") if self.unbiased else None

    def kept_count(self, count: int) -> int:
        """`ceil(fraction * count)`."""
        return kept_of(self.fraction, count)

    def side_bytes(self, count: int) -> int:
        """The seed."""
        return 8

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The seed, and the values at its places; draws one number."""
        require_finite(values, "randomk")
        seed = int(generator.integers(2**63))
        kept = values[self._places(seed, len(values))]
        if self.unbiased and len(values):
            scaled = kept.astype(np.float64) * (len(values) / self.kept_count(len(values)))
            kept = np.clip(scaled, -_MOST, _MOST).astype(np.float32)
        return struct.pack("<Q", seed), kept

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        """The kept values at the seed's places among zeros."""
        (seed,) = struct.unpack("<Q", side)
        if seed >= 2**63:
            raise CodecError(f"randomk: expected a seed below 2**63, got {seed}")
        values = np.zeros(count, np.float32)
        values[self._places(seed, count)] = kept
        return values

    def error_bound(self, values: Vector) -> float:
        """The largest magnitude, or n / k - 1 times it if what is kept is multiplied by that much more."""
        if not len(values):
            return 0.0
        gain = len(values) / self.kept_count(len(values)) if self.unbiased else 1.0
        largest = float(np.abs(values).max())
        return largest * max(1.0, gain - 1) + (gain * largest * 2.0**-23 + 2.0**-149 if self.unbiased else 0.0)

    def _places(self, seed: int, count: int) -> Places:
        generator = np.random.Generator(np.random.PCG64(seed))
        return np.sort(generator.choice(count, self.kept_count(count), replace=False, shuffle=False))
