"""Signs alone, and a magnitude or two for all values of one sign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netfl.codecs.bits import pack, unpack
from netfl.codecs.pipeline import Vector, require_finite
from netfl.codecs.tensors import Lengths, PerTensor, spread, starts_of
from netfl.errors import CodecError

__all__ = ["OneBit", "Sign"]


@dataclass(frozen=True, kw_only=True)
class Sign(PerTensor):
    """Sends one bit a value and the mean magnitude m of each tensor: every value becomes m or -m; 0 counts as positive (a choice).

    Source: Bernstein et al., "signSGD: compressed optimisation for non-convex problems", ICML 2018, with the scale of
    Karimireddy et al., "Error feedback fixes SignSGD and other gradient compression schemes", ICML 2019.
    """

    def quantized_tensor_bytes(self, count: int, num_tensors: int) -> int:
        """A float32 a tensor and a bit a value."""
        return 4 * num_tensors + -(-count // 8)

    def quantize_tensors(self, values: Vector, lengths: Lengths, generator: np.random.Generator) -> bytes:
        """The means and the signs, 1 for negative; nothing is drawn."""
        require_finite(values, "sign")
        return _mean_magnitudes(values, lengths).tobytes() + pack(values < 0, 1)

    def dequantize_tensors(self, data: bytes, lengths: Lengths) -> Vector:
        """The mean with each sign."""
        magnitudes = np.frombuffer(data[: 4 * len(lengths)], "<f4")
        if not (np.isfinite(magnitudes).all() and (magnitudes >= 0).all()):
            raise CodecError("sign: expected finite magnitudes of at least 0, got others")
        negative = unpack(data[4 * len(lengths) :], 1, int(lengths.sum()), "sign")
        each = spread(magnitudes, lengths)
        values: Vector = np.where(negative, -each, each).astype(np.float32)
        return values

    def tensor_error_bound(self, values: Vector, lengths: Lengths) -> float:
        """The largest difference of a magnitude and its tensor's mean."""
        return float(np.abs(np.abs(values.astype(np.float64)) - spread(_mean_magnitudes(values, lengths), lengths)).max())


@dataclass(frozen=True, kw_only=True)
class OneBit(PerTensor):
    """Sends one bit a value and two numbers for each tensor: the mean of its values below 0 and of the others.

    Source: Seide et al., "1-bit stochastic gradient descent and its application to data-parallel distributed training of speech
    DNNs", Interspeech 2014, where a tensor is a column.
    """

    def quantized_tensor_bytes(self, count: int, num_tensors: int) -> int:
        """Two float32 a tensor and a bit a value."""
        return 8 * num_tensors + -(-count // 8)

    def quantize_tensors(self, values: Vector, lengths: Lengths, generator: np.random.Generator) -> bytes:
        """The means of both sides and the signs, 1 for negative; nothing is drawn."""
        require_finite(values, "onebit")
        return _side_means(values, lengths).tobytes() + pack(values < 0, 1)

    def dequantize_tensors(self, data: bytes, lengths: Lengths) -> Vector:
        """The mean of each value's side."""
        means = np.frombuffer(data[: 8 * len(lengths)], "<f4").reshape(2, -1)
        if not (np.isfinite(means).all() and (means[0] <= 0).all() and (means[1] >= 0).all()):
            raise CodecError("onebit: expected finite means, of at most and of at least 0, got others")
        negative = unpack(data[8 * len(lengths) :], 1, int(lengths.sum()), "onebit")
        values: Vector = np.where(negative, spread(means[0], lengths), spread(means[1], lengths)).astype(np.float32)
        return values

    def tensor_error_bound(self, values: Vector, lengths: Lengths) -> float:
        """The largest difference of a value and the mean of its side."""
        below, others = (spread(each.astype(np.float64), lengths) for each in _side_means(values, lengths))
        return float(np.abs(values - np.where(values < 0, below, others)).max())


def _mean_magnitudes(values: Vector, lengths: Lengths) -> npt.NDArray[np.float32]:
    if not len(lengths):
        return np.zeros(0, "<f4")
    return (np.add.reduceat(np.abs(values), starts_of(lengths), dtype=np.float64) / lengths).astype("<f4")


def _side_means(values: Vector, lengths: Lengths) -> npt.NDArray[np.float32]:
    """(2, t): means of the values below 0 and of the others; 0 for a side that is empty."""
    means = np.zeros((2, len(lengths)), "<f4")
    if len(lengths):
        for side, chosen in ((0, values < 0), (1, values >= 0)):
            sums = np.add.reduceat(np.where(chosen, values, 0), starts_of(lengths), dtype=np.float64)
            numbers = np.add.reduceat(chosen, starts_of(lengths), dtype=np.int64)
            means[side] = sums / np.maximum(numbers, 1)
    return means
