"""`check_codec` passes what keeps the contract and names the law that a broken stage breaks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from netfl.checks import check_codec
from netfl.codecs import Quantize, TopK, Vector
from netfl.errors import CodecError


@dataclass(frozen=True, kw_only=True)
class Half:
    """A right quantizer from outside, to be broken: float16, clipped to its range.

    Args:
        breaks: which law to break.
    """

    breaks: str = ""

    @property
    def unbiased_up_to(self) -> float | None:
        return 1.0 if self.breaks == "mean" else None

    def meant(self, values: Vector) -> Vector:
        # What counts as sent; error feedback believes it, so that the law holds for any.
        return np.clip(values, -60000, 60000).astype("<f2").astype(np.float32)

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        if self.breaks == "input" and len(values):
            values[0] = 7
        clipped = np.clip(values, -60000, 60000).astype("<f2")
        if self.breaks == "mean":
            clipped = np.nextafter(clipped, np.float16(60000))
        if self.breaks == "draws" and len(clipped):
            clipped[0] = np.random.default_rng().random()
        return clipped.tobytes() + (b"\0" if self.breaks == "length" else b"")

    def dequantize(self, data: bytes, count: int) -> Vector:
        if self.breaks == "memory":
            np.ones(10_000_000)
        if self.breaks == "error" and count == 9:
            raise IndexError("oops")
        if self.breaks == "fuzz" and not np.isfinite(np.frombuffer(data, "<f2")).all():
            raise IndexError("oops")
        if self.breaks == "type":
            return np.frombuffer(data, "<f2").astype(np.float64)  # type: ignore[return-value]
        values = np.frombuffer(data, "<f2").astype(np.float32)
        if not np.isfinite(values).all():
            raise CodecError("finite values")
        return values

    def quantized_bytes(self, count: int) -> int | None:
        return 2 * count

    def error_bound(self, values: Vector) -> float | None:
        if not len(values):
            return 0.0
        most = float(np.abs(values).max())
        bound = max(most - 60000, 0.0) + 2.0**-9 * most + 2.0**-22
        return bound / 1000 if self.breaks == "bound" else bound


def test_right_stages_pass() -> None:
    check_codec(Half(), fuzz=20)
    check_codec(TopK(fraction=0.3), fuzz=20)
    check_codec(Quantize(bits=2), fuzz=20)


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        ("input", "leave its input as it is"),
        ("draws", "equal generators must give equal bytes"),
        ("type", "decode must return a vector of 0 values"),
        ("bound", "the error must be at most"),
        ("error", r"decode must read what encode made of a vector of 9 values \(normal\), but raised IndexError\('oops'\)"),
        ("fuzz", r"must raise CodecError on wrong bytes, but raised IndexError\('oops'\)"),
        ("mean", "the mean of its results is the value, but over 400 encodings each value is off"),
        ("memory", "decode took 80[0-9]* bytes of memory"),
        ("length", "Half stated 0 bytes for 0 values and made 1"),
    ],
)
def test_a_broken_law_is_named(breaks: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_codec(Half(breaks=breaks), fuzz=100)
