"""Three values: minus, nothing and plus the largest magnitude, at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.pipeline import Vector, require_finite
from netfl.codecs.tensors import Lengths, PerTensor, spread, starts_of
from netfl.errors import CodecError

__all__ = ["TernGrad"]

_WEIGHTS = np.array([81, 27, 9, 3, 1], np.uint8)
_DIGITS = (np.arange(243, dtype=np.uint8)[:, None] // _WEIGHTS) % 3


@dataclass(frozen=True, kw_only=True)
class TernGrad(PerTensor):
    """Each value becomes 0 or its sign times its tensor's largest magnitude s, the latter with probability |x| / s.

    The mean of the result is the value. Five values share a byte, as digits 0, plus and minus to the base 3.

    Source: Wen et al., "TernGrad: ternary gradients to reduce communication in distributed deep learning", NeurIPS 2017.

    Args:
        clip_deviations: first clip each tensor's values to this many standard deviations, 2.5 in the paper, which makes s
            smaller and the result biased; null does not clip.
    """

    clip_deviations: Annotated[float, annotated_types.Gt(0)] | None = None

    def __post_init__(self) -> None:
        if self.clip_deviations is not None and not self.clip_deviations > 0:
            raise ValueError(f"expected clip_deviations above 0, got {self.clip_deviations}")

    @property
    def unbiased_up_to(self) -> float | None:
        """Any magnitude, without clipping."""
        return float("inf") if self.clip_deviations is None else None

    def quantized_tensor_bytes(self, count: int, num_tensors: int) -> int:
        """A float32 a tensor and a byte for five values.

        >>> TernGrad().quantized_tensor_bytes(101, 1)
        25
        """
        return 4 * num_tensors + -(-count // 5)

    def quantize_tensors(self, values: Vector, lengths: Lengths, generator: np.random.Generator) -> bytes:
        """The largest magnitudes and the digits; draws one number a value."""
        require_finite(values, "terngrad")
        largest = self._largest(values, lengths)
        inverses = np.divide(1.0, largest, out=np.zeros(len(largest)), where=largest > 0)
        sent = generator.random(len(values), dtype=np.float32) < np.abs(values) * spread(inverses, lengths)
        digits = np.zeros(-(-len(values) // 5) * 5, np.uint8)
        digits[: len(values)] = np.where(sent, np.where(values < 0, np.uint8(2), np.uint8(1)), np.uint8(0))
        return largest.astype("<f4").tobytes() + (digits.reshape(-1, 5) @ _WEIGHTS).astype(np.uint8).tobytes()

    def dequantize_tensors(self, data: bytes, lengths: Lengths) -> Vector:
        """The largest magnitude, its negative or 0."""
        count = int(lengths.sum())
        largest = np.frombuffer(data[: 4 * len(lengths)], "<f4")
        packed = np.frombuffer(data[4 * len(lengths) :], np.uint8)
        if not (np.isfinite(largest).all() and (largest >= 0).all() and (packed < 243).all()):
            raise CodecError("terngrad: expected finite magnitudes of at least 0 and bytes below 243, got others")
        digits = _DIGITS[packed].ravel()
        if digits[count:].any():
            raise CodecError(f"terngrad: expected zeros after {count} values, got others")
        signs = np.array([0, 1, -1], np.float32)[digits[:count]]
        values: Vector = signs * spread(largest.astype(np.float32), lengths)
        return values

    def tensor_error_bound(self, values: Vector, lengths: Lengths) -> float:
        """The largest magnitude."""
        return float(np.abs(values).max())

    def _largest(self, values: Vector, lengths: Lengths) -> npt.NDArray[np.float64]:
        """The largest magnitude of each tensor's values after clipping, a float32."""
        if not len(lengths):
            return np.zeros(0)
        largest = np.maximum.reduceat(np.abs(values), starts_of(lengths)).astype(np.float64)
        if self.clip_deviations is None:
            return largest
        wide = values.astype(np.float64)
        means = np.add.reduceat(wide, starts_of(lengths)) / lengths
        wide -= spread(means, lengths)
        deviations = np.sqrt(np.add.reduceat(wide * wide, starts_of(lengths)) / lengths)
        # Equal values deviate from nothing: they are not clipped to 0.
        clips = np.where(deviations > 0, self.clip_deviations * deviations, largest)
        return np.minimum(largest, clips).astype(np.float32).astype(np.float64)
