"""Private release of clipped values: Laplace noise, or one random bit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import annotated_types
import numpy as np

from netfl.codecs.bits import pack, unpack
from netfl.codecs.gumbel import check_clip, check_epsilon
from netfl.codecs.pipeline import Vector, require_finite
from netfl.errors import CodecError

__all__ = ["LaplaceRelease", "OneBitRelease"]

_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class _Release:
    """Sends values clipped and noised, so that their mean is the clipped value.

    Args:
        clip: values are clipped to this magnitude first; above 0.
        epsilon: spent on each value; above 0.
    """

    clip: Annotated[float, annotated_types.Gt(0)]
    epsilon: Annotated[float, annotated_types.Gt(0)]

    def __post_init__(self) -> None:
        check_clip(self.clip)
        check_epsilon(self.epsilon)

    @property
    def epsilon_per_coordinate(self) -> float:
        """Of one value."""
        return self.epsilon

    @property
    def unbiased_up_to(self) -> float:
        """The clip."""
        return self.clip

    def meant(self, values: Vector) -> Vector:
        """The clipped values without noise."""
        return np.clip(values, -self.clip, self.clip)


@dataclass(frozen=True, kw_only=True)
class LaplaceRelease(_Release):
    """Sends each value clipped to `clip` plus Laplace noise of scale 2 clip / epsilon, as float32.

    A value may lie anywhere from -clip to clip, so this is epsilon-private for each value. It has no error bound. The noise is
    drawn in floating point, whose lowest bits are known to leak (Mironov, CCS 2012): good for a simulation, not for a product.

    Source: Dwork et al., "Calibrating noise to sensitivity in private data analysis", TCC 2006.
    """

    def quantized_bytes(self, count: int) -> int:
        """Four bytes a value."""
        return 4 * count

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The noised values; draws one number a value."""
        require_finite(values, "laplace")
        noised = self.meant(values) + generator.laplace(scale=2 * self.clip / self.epsilon, size=len(values))
        return np.clip(noised, -_MOST, _MOST).astype("<f4").tobytes()

    def dequantize(self, data: bytes, count: int) -> Vector:
        """The noised values."""
        values = np.frombuffer(data, "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise CodecError("laplace: expected finite values, got others")
        return values

    def error_bound(self, values: Vector) -> None:
        """None: Laplace noise has no bound."""


@dataclass(frozen=True, kw_only=True)
class OneBitRelease(_Release):
    """Sends each value clipped to `clip` as one random bit: B or -B, B = clip (e^epsilon + 1) / (e^epsilon - 1).

    Plus with probability 1/2 + x / (2 B), so that the mean is x; the odds of a bit differ by at most e^epsilon between any two
    values. B follows from the settings and is not sent.

    Source: Duchi, Jordan and Wainwright, "Minimax optimal procedures for locally private estimation", Journal of the American
    Statistical Association 113, 2018, in one dimension.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._magnitude > _MOST:
            raise ValueError(f"expected an epsilon for which clip (e^epsilon + 1) / (e^epsilon - 1) fits float32, got {self.epsilon}")

    def quantized_bytes(self, count: int) -> int:
        """One bit a value."""
        return -(-count // 8)

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The bits, 1 for plus; draws one number a value."""
        require_finite(values, "onebit_release")
        plus = generator.random(len(values)) < 0.5 + self.meant(values).astype(np.float64) / (2 * self._magnitude)
        return pack(plus, 1)

    def dequantize(self, data: bytes, count: int) -> Vector:
        """B for each 1, -B for each 0."""
        magnitude = np.float32(self._magnitude)
        return np.where(unpack(data, 1, count, "onebit_release"), magnitude, -magnitude)

    def error_bound(self, values: Vector) -> float:
        """The largest magnitude and B."""
        return float(np.abs(values).max()) + self._magnitude * (1 + 2.0**-23) if len(values) else 0.0

    @property
    def _magnitude(self) -> float:
        """B; (e^x + 1) / (e^x - 1) is 1 / tanh(x / 2), which does not overflow."""
        tilt = math.tanh(self.epsilon / 2)
        return self.clip / tilt if tilt else math.inf
