"""Codes of a few bits each, packed into bytes and read back many at once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from netfl.errors import CodecError

__all__ = ["Bits", "bits_of", "bytes_of", "pack", "read_varying", "unpack", "varying"]

Bits: TypeAlias = npt.NDArray[np.uint8]
"""One 0 or 1 in each element."""

_ROWS = 1 << 14


def pack(codes: npt.NDArray[Any], bits: int) -> bytes:
    """Unsigned codes in `bits` bits each, the first code highest; the last byte is filled with zeros.

    Args:
        codes: (k,) below 2**bits.
        bits: 1 to 32.

    >>> pack(np.array([0, 7, 5]), 3).hex()
    '1e80'
    """
    if bits == 8:
        return codes.astype(np.uint8, copy=False).tobytes()
    if bits == 1:
        return np.packbits(codes.astype(np.uint8, copy=False)).tobytes()
    if bits == 4:
        even = np.zeros(len(codes) + len(codes) % 2, np.uint8)
        even[: len(codes)] = codes
        return ((even[0::2] << 4) | even[1::2]).tobytes()
    if bits > 8:
        return np.packbits(varying(codes, np.full(len(codes), bits))).tobytes()
    groups = -(-len(codes) // 8)
    padded = np.zeros(groups * 8, np.uint8)
    padded[: len(codes)] = codes
    words = np.zeros(groups, np.uint64)
    for i in range(8):
        words |= padded[i::8].astype(np.uint64) << np.uint64(bits * (7 - i))
    packed = words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - bits :]
    return packed.tobytes()[: -(-len(codes) * bits // 8)]


def unpack(data: bytes | memoryview, bits: int, count: int, stage: str) -> npt.NDArray[Any]:
    """`count` codes from what `pack` made.

    Args:
        data: exactly as many bytes as the codes take.
        bits: 1 to 32.
        count: how many codes.
        stage: who reads, for the message.

    Raises:
        CodecError: the last byte is not filled with zeros.
    """
    if bits == 8:
        return np.frombuffer(data, np.uint8)
    if bits == 1:
        codes = np.unpackbits(np.frombuffer(data, np.uint8))
    elif bits == 4:
        raw = np.frombuffer(data, np.uint8)
        codes = np.empty(2 * len(raw), np.uint8)
        codes[0::2] = raw >> 4
        codes[1::2] = raw & 15
    elif bits > 8:
        given = bits_of(data)
        if given[bits * count :].any():
            raise CodecError(f"{stage}: expected zeros after {count} values, got others")
        return read_varying(given[: bits * count], np.full(count, bits))
    else:
        groups = -(-count // 8)
        bytes_ = np.zeros((groups, 8), np.uint8)
        bytes_[:, 8 - bits :] = np.frombuffer(bytes(data).ljust(groups * bits, b"\0"), np.uint8).reshape(groups, bits)
        words = bytes_.view(">u8").ravel().astype(np.uint64)
        codes = np.empty(groups * 8, np.uint8)
        for i in range(8):
            codes[i::8] = (words >> np.uint64(bits * (7 - i))) & np.uint64(2**bits - 1)
    if codes[count:].any():
        raise CodecError(f"{stage}: expected zeros after {count} values, got others")
    return codes[:count]


def bits_of(data: bytes | memoryview) -> Bits:
    """The bits of some bytes, the highest of each byte first."""
    return np.unpackbits(np.frombuffer(data, np.uint8))


def bytes_of(*parts: Bits) -> bytes:
    """Runs of bits behind each other as bytes, the last filled with zeros."""
    return np.packbits(np.concatenate(parts)).tobytes() if parts else b""


def varying(numbers: npt.NDArray[Any], widths: npt.NDArray[Any]) -> Bits:
    """The lowest `widths[i]` bits of `numbers[i]`, the highest of them first, behind each other.

    Args:
        numbers: (k,) not negative, below 2**32.
        widths: (k,) 0 to 32.

    >>> varying(np.array([5, 1]), np.array([3, 2])).tolist()
    [1, 0, 1, 0, 1]
    """
    word = _word(widths)
    columns = np.arange(8 * word.itemsize)
    runs = []
    for start in range(0, len(numbers), _ROWS):
        rows = numbers[start : start + _ROWS].astype(word).view(np.uint8).reshape(-1, word.itemsize)
        wanted = columns >= len(columns) - widths[start : start + _ROWS, None]
        runs.append(np.unpackbits(rows, axis=1)[wanted])
    return np.concatenate(runs) if runs else np.zeros(0, np.uint8)


def read_varying(bits: Bits, widths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The numbers of which `varying` took the lowest bits.

    Args:
        bits: as many as the widths sum up to.
        widths: (k,) 0 to 32.
    """
    # Five bytes hold any 32 bits, wherever in the first byte they begin.
    packed = np.concatenate([np.packbits(bits), np.zeros(5, np.uint8)]).astype(np.int64)
    starts = np.cumsum(widths) - widths
    first = starts >> 3
    five = packed[first] << 32
    for i in range(1, 5):
        five |= packed[first + i] << (32 - 8 * i)
    numbers: npt.NDArray[np.int64] = (five >> (40 - (starts & 7) - widths)) & ((np.int64(1) << widths) - 1)
    return numbers


def _word(widths: npt.NDArray[Any]) -> np.dtype[Any]:
    """The shortest big-endian word that holds every code."""
    widest = int(widths.max()) if len(widths) else 0
    return np.dtype(">u1" if widest <= 8 else ">u2" if widest <= 16 else ">u4")
