"""Stochastic levels between 0 and the norm of a bucket."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.bits import bytes_of, pack, unpack
from netfl.codecs.elias import BitReader, gamma
from netfl.codecs.pipeline import Vector, require_finite
from netfl.codecs.tensors import Lengths, spread, starts_of
from netfl.errors import CodecError

__all__ = ["Qsgd"]

_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Qsgd:
    """Each value becomes its sign times its bucket's norm times l / levels, l one of the whole numbers next to levels |x| / norm, at random.

    The mean of the result is the value. With `fixed` coding a value takes a bit for its sign and ceil(log2(levels + 1)) for l;
    with `elias_gamma` only values whose l is not 0 are sent: gaps, signs, levels, the first and the last in Elias gamma codes (the
    paper's Elias omega codes are a little shorter for large numbers; a choice).

    Source: Alistarh et al., "QSGD: communication-efficient SGD via gradient quantization and encoding", NeurIPS 2017.

    Args:
        levels: how many levels above 0; 1 to 4095. 127 are 8 bits a value.
        norm: what the levels are shares of: l2 as in the paper's analysis, or max as in its experiments, with less variance.
        bucket: how many values share a norm, at least 16; null lets all values share one.
        coding: fixed or elias_gamma.
    """

    levels: Annotated[int, annotated_types.Ge(1), annotated_types.Le(4095)] = 127
    norm: Literal["l2", "max"] = "l2"
    bucket: Annotated[int, annotated_types.Ge(16)] | None = None
    coding: Literal["fixed", "elias_gamma"] = "fixed"

    unbiased_up_to = float("inf")

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 4095:
            raise ValueError(f"expected 1 to 4095 levels, got {self.levels}")
        if self.bucket is not None and self.bucket < 16:
            raise ValueError(f"expected buckets of at least 16 values, got {self.bucket}")
        if self.norm not in ("l2", "max"):
            raise ValueError(f"expected the norm l2 or max, got '{self.norm}'")
        if self.coding not in ("fixed", "elias_gamma"):
            raise ValueError(f"expected the coding fixed or elias_gamma, got '{self.coding}'")

    def quantized_bytes(self, count: int) -> int | None:
        """With fixed codes: a float32 a bucket, and signs and levels.

        >>> Qsgd().quantized_bytes(1000), Qsgd(levels=1, bucket=500).quantized_bytes(1000)
        (1004, 258)
        """
        if self.coding != "fixed":
            return None
        return 4 * self._num_buckets(count) + -(-count * (1 + self._level_bits) // 8)

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The norms, the signs and the levels; draws one number a value."""
        require_finite(values, "qsgd")
        lengths = self._lengths(len(values))
        norms = self._norms(values, lengths)
        factors = np.divide(self.levels, norms, out=np.zeros(len(norms)), where=norms > 0)
        levels = np.abs(values) * spread(factors, lengths)
        levels += generator.random(len(values), dtype=np.float32)
        chosen = np.minimum(levels, self.levels).astype(np.uint32)
        negative = (values < 0).astype(np.uint32)
        head = norms.astype("<f4").tobytes()
        if self.coding == "fixed":
            return head + pack(negative << self._level_bits | chosen, 1 + self._level_bits)
        places = np.flatnonzero(chosen)
        signs = negative[places].astype(np.uint8)
        codes = bytes_of(*gamma(np.diff(places, prepend=-1)), signs, *gamma(chosen[places]))
        return head + struct.pack("<I", len(places)) + codes

    def dequantize(self, data: bytes, count: int) -> Vector:
        """The shares of the norms."""
        at = 4 * self._num_buckets(count)
        if len(data) < at:
            raise CodecError(f"qsgd: expected {at // 4} norms, got {len(data)} bytes")
        lengths = self._lengths(count)
        norms = np.frombuffer(data[:at], "<f4")
        if not (np.isfinite(norms).all() and (norms >= 0).all()):
            raise CodecError("qsgd: expected finite norms of at least 0, got others")
        negative, levels = self._fixed(data[at:], count) if self.coding == "fixed" else self._elias(data[at:], count)
        if len(levels) and levels.max() > self.levels:
            raise CodecError(f"qsgd: expected levels up to {self.levels}, got {levels.max()}")
        shares = levels / self.levels * spread(norms.astype(np.float64), lengths)
        values: Vector = np.where(negative, -shares, shares).astype(np.float32)
        return values

    def error_bound(self, values: Vector) -> float:
        """One level of the bucket with the largest norm, and the rounding to float32."""
        if not len(values):
            return 0.0
        norm = float(self._norms(values, self._lengths(len(values))).max())
        return norm / self.levels + norm * 2.0**-22 + 2.0**-149

    @property
    def _level_bits(self) -> int:
        return self.levels.bit_length()

    def _num_buckets(self, count: int) -> int:
        return -(-count // (self.bucket or max(count, 1)))

    def _lengths(self, count: int) -> Lengths:
        lengths = np.full(self._num_buckets(count), self.bucket or count, np.int64)
        if len(lengths):
            lengths[-1] += count - lengths.sum()
        return lengths

    def _norms(self, values: Vector, lengths: Lengths) -> npt.NDArray[np.float64]:
        """Of each bucket, a float32 and at least its largest magnitude; where an l2 norm exceeds float32, the largest float32."""
        if not len(lengths):
            return np.zeros(0)
        if self.norm == "max":
            return np.maximum.reduceat(np.abs(values), starts_of(lengths)).astype(np.float64)
        squares = np.square(values, dtype=np.float64)
        norms = np.minimum(np.sqrt(np.add.reduceat(squares, starts_of(lengths))), _MOST)
        short = norms.astype(np.float32)
        short[short < norms] = np.nextafter(short[short < norms], np.float32(np.inf))
        return short.astype(np.float64)

    def _fixed(self, data: bytes, count: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        codes = unpack(data, 1 + self._level_bits, count, "qsgd").astype(np.int64)
        return codes >> self._level_bits != 0, codes & ((1 << self._level_bits) - 1)

    def _elias(self, data: bytes, count: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        if len(data) < 4:
            raise CodecError(f"qsgd: expected a 4-byte count of levels, got {len(data)} bytes")
        (num_sent,) = struct.unpack_from("<I", data)
        if num_sent > count:
            raise CodecError(f"qsgd: {num_sent} levels of {count} values")
        reader = BitReader(data[4:], "qsgd")
        places = np.cumsum(reader.gamma(num_sent)) - 1
        if len(places) and places[-1] >= count:
            raise CodecError(f"qsgd: expected places below {count}, got {places[-1]}")
        signs = reader.suffixes(np.ones(num_sent, np.int64))
        sent = reader.gamma(num_sent)
        reader.end()
        negative, levels = np.zeros(count, bool), np.zeros(count, np.int64)
        negative[places], levels[places] = signs != 0, sent
        return negative, levels
