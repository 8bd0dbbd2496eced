"""Quantizers that treat each tensor of a vector by itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from netfl.codecs.pipeline import Quantizer, Shapes, Vector
from netfl.errors import CodecError

__all__ = ["Lengths", "PerTensor", "spread", "starts_of"]

Lengths: TypeAlias = npt.NDArray[np.int64]
"""How many values each tensor has, (t,), all at least 1; they sum up to the count of values."""


class PerTensor(ABC):
    """A quantizer whose numbers hold for one tensor each; of a vector without shapes, for all of it."""

    @abstractmethod
    def quantize_tensors(self, values: Vector, lengths: Lengths, generator: np.random.Generator) -> bytes:
        """The tensors as bytes."""

    @abstractmethod
    def dequantize_tensors(self, data: bytes, lengths: Lengths) -> Vector:
        """The tensors behind each other; CodecError if `quantize_tensors` can not have made `data`."""

    @abstractmethod
    def quantized_tensor_bytes(self, count: int, num_tensors: int) -> int | None:
        """Length of `count` values in so many tensors; None if that depends on the values."""

    @abstractmethod
    def tensor_error_bound(self, values: Vector, lengths: Lengths) -> float | None:
        """The most by which any of these values changes."""

    def lengths_of(self, shapes: Shapes) -> Lengths:
        """What counts as one tensor, of tensors of these shapes."""
        return np.array([math.prod(shape) for shape in shapes], np.int64)

    def for_shapes(self, shapes: Shapes) -> Quantizer:
        """The quantizer for a vector of tensors of these shapes."""
        return _OfTensors(self, tuple(int(length) for length in self.lengths_of(shapes) if length))

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The values as one tensor."""
        return self.quantize_tensors(values, _one(len(values)), generator)

    def dequantize(self, data: bytes, count: int) -> Vector:
        """`count` values that were one tensor."""
        return self.dequantize_tensors(data, _one(count))

    def quantized_bytes(self, count: int) -> int | None:
        """Length of `count` values that are one tensor."""
        return self.quantized_tensor_bytes(count, len(_one(count)))

    def error_bound(self, values: Vector) -> float | None:
        """The most by which any of these values changes when they are one tensor."""
        return self.tensor_error_bound(values, _one(len(values))) if len(values) else 0.0


@dataclass(frozen=True)
class _OfTensors:
    """A quantizer for a vector of known tensors.

    Args:
        quantizer: what each tensor goes through.
        lengths: of the tensors that have values.
    """

    quantizer: PerTensor
    lengths: tuple[int, ...]

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        return self.quantizer.quantize_tensors(values, self._lengths(len(values)), generator)

    def dequantize(self, data: bytes, count: int) -> Vector:
        return self.quantizer.dequantize_tensors(data, self._lengths(count))

    def quantized_bytes(self, count: int) -> int | None:
        return self.quantizer.quantized_tensor_bytes(count, len(self._lengths(count)))

    def error_bound(self, values: Vector) -> float | None:
        return self.quantizer.tensor_error_bound(values, self._lengths(len(values))) if len(values) else 0.0

    def __getattr__(self, name: str) -> Any:
        # What the quantizer states about itself holds for it with shapes too.
        if name in ("epsilon_per_coordinate", "unbiased_up_to", "meant"):
            return getattr(self.quantizer, name)
        raise AttributeError(name)

    def _lengths(self, count: int) -> Lengths:
        lengths = np.array(self.lengths, np.int64)
        if lengths.sum() != count:
            raise CodecError(f"expected {lengths.sum()} values, as many as the tensors have, got {count}")
        return lengths


def starts_of(lengths: Lengths) -> npt.NDArray[np.int64]:
    """Where each tensor begins, for `np.add.reduceat` and its like."""
    starts: npt.NDArray[np.int64] = np.cumsum(lengths) - lengths
    return starts


def spread(per_tensor: npt.NDArray[Any], lengths: Lengths) -> npt.NDArray[Any]:
    """Each tensor's number for each of its values; for one tensor a single number, which is as good and quicker."""
    return per_tensor if len(lengths) == 1 else np.repeat(per_tensor, lengths)


def _one(count: int) -> Lengths:
    return np.array([count] if count else [], np.int64)
