"""Affine quantization of a vector between its least and its greatest value."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.bits import pack, unpack
from netfl.codecs.pipeline import Vector, require_finite
from netfl.errors import CodecError

__all__ = ["Quantize"]

_BLOCK = 1 << 16

_Codes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """Rounds each value to one of `2**bits` levels, evenly spaced from the vector's least value to its greatest.

    The two ends are sent as float32, then the level numbers, `bits` each, packed. With one bit a value becomes one of the ends.
    Stochastic rounding draws 8 bits a value and one number for each 65,536 values, which extends all of them: every value
    rounds up with exactly the probability that makes its mean right, and two values of one such block are independent but for
    that last 1/256 of a step (a choice, for speed).

    Source: Suresh et al., "Distributed mean estimation with limited communication", ICML 2017 (stochastic k-level quantization).

    Args:
        bits: bits a value; 1 to 8.
        stochastic: round up with the probability that makes the mean of the result the value itself; else to the nearest level.
    """

    bits: Annotated[int, annotated_types.Ge(1), annotated_types.Le(8)] = 8
    stochastic: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise ValueError(f"expected 1 to 8 bits a value, got {self.bits}")

    def quantized_bytes(self, count: int) -> int:
        """Two float32 and the packed level numbers.

        >>> Quantize(bits=8).quantized_bytes(100), Quantize(bits=3).quantized_bytes(100)
        (108, 46)
        """
        return 8 + -(-count * self.bits // 8)

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes | memoryview:
        """The ends and the level numbers; draws if stochastic."""
        count = len(values)
        low, high = (float(values.min()), float(values.max())) if count else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            require_finite(values, "quantize")
        framed = np.empty(8 + count, np.uint8)
        framed[:8] = np.frombuffer(struct.pack("<ff", low, high), np.uint8)
        codes = framed[8:]
        if _is_plain(low, high):
            self._write_codes(codes, values, low, high, generator)
        elif low < high:
            self._write_codes_exactly(codes, values, low, high, generator)
        else:
            codes[:] = 0
        return framed.data if self.bits == 8 else framed[:8].tobytes() + pack(codes, self.bits)

    def dequantize(self, data: bytes, count: int) -> Vector:
        """The levels that the numbers name."""
        low, high = struct.unpack_from("<ff", data)
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise CodecError(f"quantize: expected two finite ends in order, got {low} and {high}")
        codes = unpack(memoryview(data)[8:], self.bits, count, "quantize")
        if not _is_plain(low, high):
            table = (low + self._step(low, high) * np.arange(self._levels + 1)).astype(np.float32)
            table[-1] = high
            taken: Vector = table[codes]
            return taken
        values = np.empty(count, np.float32)
        step, first = np.float32(self._step(low, high)), np.float32(low)
        for start in range(0, count, _BLOCK):
            block = values[start : start + _BLOCK]
            np.copyto(block, codes[start : start + _BLOCK])
            np.multiply(block, step, out=block)
            np.add(block, first, out=block)
        return values

    def error_bound(self, values: Vector) -> float:
        """One step (half a step to the nearest level), and what float32 rounds on the way."""
        if not len(values):
            return 0.0
        low, high = float(values.min()), float(values.max())
        rounding = max(abs(low), abs(high)) * 2.0**-19 + 2.0**-149
        return self._step(low, high) * (1.0 if self.stochastic else 0.5) + rounding

    @property
    def unbiased_up_to(self) -> float | None:
        """Any magnitude, if stochastic."""
        return float("inf") if self.stochastic else None

    @property
    def _levels(self) -> int:
        """The highest level number."""
        return (1 << self.bits) - 1

    def _step(self, low: float, high: float) -> float:
        return (high - low) / self._levels

    def _write_codes(self, codes: _Codes, values: Vector, low: float, high: float, generator: np.random.Generator) -> None:
        """In float32, in blocks that fit the cache; stochastic in 256ths of a step, so that random bytes are added as whole numbers."""
        count = len(values)
        scaled = np.empty(min(count, _BLOCK), np.float32)
        # A little less than a whole step, so that rounding never lifts the greatest value above the highest level.
        parts = (256.0 if self.stochastic else 1.0) * (1 - 2.0**-21) / self._step(low, high)
        factor = np.float32(parts)
        if self.stochastic:
            random = generator.integers(0, 2**64 - 1, -(-count // 8), np.uint64, endpoint=True).view(np.uint8)
            extensions = generator.random(-(-count // _BLOCK), dtype=np.float32)
            fine = np.empty(len(scaled), np.uint16)
        for start in range(0, count, _BLOCK):
            block = scaled[: min(_BLOCK, count - start)]
            np.multiply(values[start : start + _BLOCK], factor, out=block)
            if not self.stochastic:
                np.add(block, np.float32(0.5 - low * parts), out=block)
                np.copyto(codes[start : start + _BLOCK], block, casting="unsafe")
                continue
            np.add(block, np.float32(float(extensions[start // _BLOCK]) - low * parts), out=block)
            whole = fine[: len(block)]
            np.copyto(whole, block, casting="unsafe")
            np.add(whole, random[start : start + len(block)], out=whole)
            np.right_shift(whole, 8, out=whole)
            np.copyto(codes[start : start + _BLOCK], whole, casting="unsafe")

    def _write_codes_exactly(self, codes: _Codes, values: Vector, low: float, high: float, generator: np.random.Generator) -> None:
        """In float64: the range of two float32 may overflow float32, or be small beside them."""
        step = self._step(low, high)
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK].astype(np.float64)
            block -= low
            block /= step
            block += generator.random(len(block), dtype=np.float32) if self.stochastic else 0.5
            np.minimum(block, self._levels, out=block)
            codes[start : start + len(block)] = block.astype(np.uint8)


def _is_plain(low: float, high: float) -> bool:
    """Whether float32 arithmetic is exact enough: the range is neither extreme nor small beside the values themselves."""
    return 2.0**-100 < high - low < 2.0**100 and high - low >= max(abs(low), abs(high)) / 2
