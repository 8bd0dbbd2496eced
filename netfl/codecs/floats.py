"""Shorter floating-point numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netfl.codecs.pipeline import Vector, require_finite
from netfl.errors import CodecError

__all__ = ["Bfloat16", "Float16"]

_FLOAT16_MOST = 65504.0
_BFLOAT16_MOST = float(np.array([0x7F7F0000], np.uint32).view(np.float32)[0])


@dataclass(frozen=True, kw_only=True)
class Float16:
    """Rounds each value to IEEE 754 half precision: 11 significant bits, at most 65504; larger values become that (a choice).

    Source: IEEE 754-2019, binary16.
    """

    def quantized_bytes(self, count: int) -> int:
        """Two bytes a value."""
        return 2 * count

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The nearest half-precision numbers, of two the even one; nothing is drawn."""
        require_finite(values, "float16")
        return np.clip(values, -_FLOAT16_MOST, _FLOAT16_MOST).astype("<f2").tobytes()

    def dequantize(self, data: bytes, count: int) -> Vector:
        """The same numbers as float32."""
        values = np.frombuffer(data, "<f2")
        if not np.isfinite(values).all():
            raise CodecError("float16: expected finite values, got others")
        return values.astype(np.float32)

    def error_bound(self, values: Vector) -> float:
        """Half a unit in the last place of the largest, and what lies beyond 65504."""
        largest = float(np.abs(values).max()) if len(values) else 0.0
        return max(largest - _FLOAT16_MOST, min(largest, _FLOAT16_MOST) * 2.0**-11 + 2.0**-25)


@dataclass(frozen=True, kw_only=True)
class Bfloat16:
    """Rounds each value to its upper 16 bits: 8 significant bits and the exponents of float32.

    To the nearest, of two the even one; what would round to infinity becomes the largest finite number (a choice).

    Source: Kalamkar et al., "A study of BFLOAT16 for deep learning training", 2019.
    """

    def quantized_bytes(self, count: int) -> int:
        """Two bytes a value."""
        return 2 * count

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The upper halves, rounded; nothing is drawn."""
        require_finite(values, "bfloat16")
        bits = np.clip(values, -_BFLOAT16_MOST, _BFLOAT16_MOST).view(np.uint32)
        return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()

    def dequantize(self, data: bytes, count: int) -> Vector:
        """The numbers with 16 zeros behind."""
        values: Vector = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(values).all():
            raise CodecError("bfloat16: expected finite values, got others")
        return values

    def error_bound(self, values: Vector) -> float:
        """Half a unit in the last place of the largest."""
        return (float(np.abs(values).max()) * 2.0**-8 + 2.0**-134) if len(values) else 0.0
