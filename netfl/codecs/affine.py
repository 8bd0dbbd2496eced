"""Affine integers with a scale and a zero point for each tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.bits import pack, unpack
from netfl.codecs.pipeline import Shapes, Vector, require_finite
from netfl.codecs.tensors import Lengths, PerTensor, spread, starts_of
from netfl.errors import CodecError

__all__ = ["Affine"]

_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Affine(PerTensor):
    """Rounds each tensor's values to whole multiples of its scale s: x' = s (q - z), so that 0 stays exactly 0.

    s = (high - low) / (2^bits - 1), where low and high are the least and the greatest value but the range always holds 0;
    z = round(-low / s) and q = round(z + x / s), so an error is at most s / 2. A tensor of equal values c has s = |c| and is
    exact. Scale and zero point are 4 bytes each. Corrected against the authors' code: there the zero point is cut off, not
    rounded, and the range need not hold 0, so that tensors of one sign are clipped.

    Source: Xu et al., "FL-PQSU", IEEE Access 2021; Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", CVPR 2018.

    Args:
        bits: bits a value; 2 to 8.
        per: tensor, or channel: a scale and a zero point for each index of a tensor's first axis, where it has two or more.
    """

    bits: Annotated[int, annotated_types.Ge(2), annotated_types.Le(8)] = 8
    per: Literal["tensor", "channel"] = "tensor"

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"expected 2 to 8 bits a value, got {self.bits}")
        if self.per not in ("tensor", "channel"):
            raise ValueError(f"expected per tensor or per channel, got '{self.per}'")

    def lengths_of(self, shapes: Shapes) -> Lengths:
        """Of the tensors, or of their channels."""
        if self.per == "tensor":
            return super().lengths_of(shapes)
        lengths = [[math.prod(shape[1:])] * shape[0] if len(shape) > 1 else [math.prod(shape)] for shape in shapes]
        return np.array([length for each in lengths for length in each], np.int64)

    def quantized_tensor_bytes(self, count: int, num_tensors: int) -> int:
        """Eight bytes a tensor and the packed numbers.

        >>> Affine().quantized_tensor_bytes(1000, 3)
        1024
        """
        return 8 * num_tensors + -(-count * self.bits // 8)

    def quantize_tensors(self, values: Vector, lengths: Lengths, generator: np.random.Generator) -> bytes:
        """The scales, the zero points and the numbers; nothing is drawn."""
        require_finite(values, "affine")
        scales, zeros = self._grid(values, lengths)
        inverses = np.divide(1.0, scales, out=np.zeros(len(scales)), where=scales > 0)
        codes = values * spread(inverses, lengths)
        codes += spread(zeros, lengths)
        np.rint(codes, out=codes)
        np.clip(codes, 0, self._levels, out=codes)
        return scales.astype("<f4").tobytes() + zeros.astype("<u4").tobytes() + pack(codes.astype(np.uint8), self.bits)

    def dequantize_tensors(self, data: bytes, lengths: Lengths) -> Vector:
        """The multiples of each tensor's scale."""
        num_tensors = len(lengths)
        scales = np.frombuffer(data[: 4 * num_tensors], "<f4")
        zeros = np.frombuffer(data[4 * num_tensors : 8 * num_tensors], "<u4")
        if not (np.isfinite(scales).all() and (scales >= 0).all() and (zeros <= self._levels).all()):
            raise CodecError(f"affine: expected finite scales of at least 0 and zero points up to {self._levels}, got others")
        steps = unpack(data[8 * num_tensors :], self.bits, int(lengths.sum()), "affine").astype(np.float64)
        steps -= spread(zeros.astype(np.float64), lengths)
        steps *= spread(scales.astype(np.float64), lengths)
        return np.clip(steps, -_MOST, _MOST).astype(np.float32)

    def tensor_error_bound(self, values: Vector, lengths: Lengths) -> float:
        """Half the largest scale, and the rounding to float32."""
        scales, _ = self._grid(values, lengths)
        return float(scales.max()) / 2 + float(np.abs(values).max()) * 2.0**-22 + 2.0**-149

    @property
    def _levels(self) -> int:
        return (1 << self.bits) - 1

    def _grid(self, values: Vector, lengths: Lengths) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Scale and zero point of each tensor; the scale is a float32, rounded up so that the range fits."""
        if not len(lengths):
            return np.zeros(0), np.zeros(0)
        low = np.minimum.reduceat(values, starts_of(lengths)).astype(np.float64)
        high = np.maximum.reduceat(values, starts_of(lengths)).astype(np.float64)
        wide = (np.maximum(high, 0) - np.minimum(low, 0)) / self._levels
        wide = np.where(low == high, np.abs(low), wide)
        scales = wide.astype(np.float32)
        scales[scales < wide] = np.nextafter(scales[scales < wide], np.float32(np.inf))
        steps = scales.astype(np.float64)
        return steps, np.rint(np.divide(-np.minimum(low, 0), steps, out=np.zeros(len(steps)), where=steps > 0))
