"""Codes of whole numbers that need no bound: unary and Elias gamma, many at once.

Of several numbers all prefixes come first and then all suffixes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netfl.codecs.bits import Bits, bits_of, read_varying, varying
from netfl.errors import CodecError

__all__ = ["BitReader", "floor_log2", "gamma", "unary"]


def floor_log2(numbers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The number of bits less 1, of numbers from 1 to 2**53."""
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1


def unary(numbers: npt.NDArray[Any]) -> Bits:
    """As many zeros as each number says and then a one."""
    ends = np.cumsum(numbers + 1)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    bits[ends - 1] = 1
    return bits


def gamma(numbers: npt.NDArray[Any]) -> tuple[Bits, Bits]:
    """Prefixes, floor(log2 number) in unary, and suffixes, the bits below the highest."""
    widths = floor_log2(numbers)
    return unary(widths), varying(numbers, widths)


class BitReader:
    """Takes runs of codes off the front of some bits."""

    def __init__(self, data: bytes, stage: str) -> None:
        self._bits = bits_of(data)
        self._at = 0
        self._stage = stage

    def unary(self, count: int) -> npt.NDArray[np.int64]:
        """`count` unary numbers."""
        ends = np.flatnonzero(self._bits[self._at :].view(bool))[:count]
        if len(ends) < count:
            raise CodecError(f"{self._stage}: expected {count} codes, got {len(ends)}")
        if count:
            self._at += int(ends[-1]) + 1
        return np.diff(ends, prepend=-1) - 1

    def gamma(self, count: int) -> npt.NDArray[np.int64]:
        """`count` numbers in Elias gamma code."""
        widths = self.unary(count)
        return self.suffixes(widths) + (np.int64(1) << np.minimum(widths, 32))

    def suffixes(self, widths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of these widths."""
        total = int(widths.sum())
        if total > len(self._bits) - self._at or (len(widths) and widths.max() > 32):
            raise CodecError(f"{self._stage}: codes that end before their last bit, or numbers above 2**32")
        self._at += total
        return read_varying(self._bits[self._at - total : self._at], widths)

    def end(self) -> None:
        """Raise CodecError if there is more than the zeros that fill the last byte."""
        rest = self._bits[self._at :]
        if len(rest) > 7 or rest.any():
            raise CodecError(f"{self._stage}: expected the end of the codes, got {len(rest)} more bits")
