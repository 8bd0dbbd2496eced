"""Index coding: which k of n places a sparse message holds, as bytes.

Places ascend. The codes of gaps write every prefix first and then every suffix: the same bits as codeword behind codeword in
another order, so that numpy reads them all at once (a choice). A gap is the distance to the place before, at least 1.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from netfl.codecs.bits import bytes_of, pack, unpack, varying
from netfl.codecs.elias import BitReader, floor_log2, gamma, unary
from netfl.codecs.pipeline import Vector
from netfl.errors import CodecError

__all__ = ["IndexCoding", "PlacedValues", "Places", "check_coding", "decode_places", "encode_places", "places_bytes", "rice_bits"]

IndexCoding: TypeAlias = Literal["plain", "coordinates", "elias_gamma", "elias_delta", "rice", "bitmap"]
"""How places are written.

- `plain`: 16-bit numbers (32-bit above 65536 values), or the bitmap where that is shorter.
- `coordinates`: each place in ceil(log2 n) bits.
- `elias_gamma`, `elias_delta`: gaps in the codes of Elias, "Universal codeword sets and representations of the integers",
  IEEE Transactions on Information Theory 21(2), 1975. A gap g takes 2 floor(log2 g) + 1 bits in the first.
- `rice`: gaps less 1 in the code of Rice and Plaunt, "Adaptive variable-length coding for efficient compression of spacecraft
  television data", IEEE Transactions on Communication Technology 19(6), 1971: quotient by 2**b in unary, remainder in b bits.
  Both ends derive b from n and k.
- `bitmap`: one bit a value.
"""

Places: TypeAlias = npt.NDArray[np.int64]
"""Ascending places below the count of values, (k,)."""


def check_coding(coding: str) -> None:
    """Raise ValueError if no index coding has this name."""
    if coding not in get_args(IndexCoding):
        raise ValueError(f"expected an index coding among {', '.join(get_args(IndexCoding))}, got '{coding}'")


def places_bytes(coding: IndexCoding, kept_count: int, count: int) -> int | None:
    """Length of `kept_count` of `count` places; None if it depends on the places.

    >>> places_bytes("plain", 10, 1000), places_bytes("plain", 500, 1000), places_bytes("coordinates", 10, 1000)
    (20, 125, 13)
    """
    if coding == "bitmap" or (coding == "plain" and _bitmap_is_shorter(kept_count, count)):
        return -(-count // 8)
    if coding == "plain":
        return kept_count * _place_type(count).itemsize
    if coding == "coordinates":
        return -(-kept_count * _coordinate_bits(count) // 8)
    return None


def rice_bits(kept_count: int, count: int) -> int:
    """The parameter b of `rice`: the floor of log2(ln 2 n / k), which is near the best for gaps of that mean.

    >>> rice_bits(10, 1000), rice_bits(900, 1000)
    (6, 0)
    """
    return max(0, (6931 * count // (10000 * max(kept_count, 1))).bit_length() - 1)


def encode_places(coding: IndexCoding, places: Places, count: int) -> bytes:
    """The places as bytes.

    Args:
        coding: how.
        places: (k,) ascending, below `count`.
        count: n.
    """
    if coding == "bitmap" or (coding == "plain" and _bitmap_is_shorter(len(places), count)):
        kept = np.zeros(count, bool)
        kept[places] = True
        return np.packbits(kept).tobytes()
    if coding == "plain":
        return places.astype(_place_type(count)).tobytes()
    if coding == "coordinates":
        return pack(places, _coordinate_bits(count)) if count > 1 else b""
    gaps = np.diff(places, prepend=-1)
    if coding == "elias_gamma":
        return bytes_of(*gamma(gaps))
    if coding == "elias_delta":
        widths = floor_log2(gaps)
        return bytes_of(*gamma(widths + 1), varying(gaps, widths))
    low = rice_bits(len(places), count)
    return bytes_of(unary((gaps - 1) >> low), varying(gaps - 1, np.full(len(gaps), low)))


def decode_places(coding: IndexCoding, data: bytes, kept_count: int, count: int, stage: str) -> Places:
    """The places that the bytes stand for.

    Args:
        coding: how they are written.
        data: the bytes.
        kept_count: k.
        count: n.
        stage: who reads, for the message.

    Raises:
        CodecError: bytes that `encode_places` did not make.
    """
    places = _read_places(coding, data, kept_count, count, stage)
    if len(places) != kept_count or (len(places) and places[-1] >= count) or not (places[1:] > places[:-1]).all():
        raise CodecError(f"{stage}: expected {kept_count} ascending places below {count}, got others")
    return places


def _read_places(coding: IndexCoding, data: bytes, kept_count: int, count: int, stage: str) -> Places:
    stated = places_bytes(coding, kept_count, count)
    if stated is not None and len(data) != stated:
        raise CodecError(f"{stage}: expected {stated} bytes of places, got {len(data)}")
    if coding == "bitmap" or (coding == "plain" and _bitmap_is_shorter(kept_count, count)):
        return np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8)).view(bool))
    if coding == "plain":
        return np.frombuffer(data, _place_type(count)).astype(np.int64)
    if coding == "coordinates":
        return unpack(data, _coordinate_bits(count), kept_count, stage).astype(np.int64) if count > 1 else np.zeros(kept_count, np.int64)
    reader = BitReader(data, stage)
    if coding == "elias_gamma":
        gaps = reader.gamma(kept_count)
    elif coding == "elias_delta":
        widths = reader.gamma(kept_count) - 1
        gaps = reader.suffixes(widths) + (np.int64(1) << widths)
    else:
        low = rice_bits(kept_count, count)
        quotients = reader.unary(kept_count)
        gaps = (quotients << low) + reader.suffixes(np.full(kept_count, low)) + 1
    reader.end()
    return np.cumsum(gaps) - 1


def _bitmap_is_shorter(kept_count: int, count: int) -> bool:
    return -(-count // 8) < kept_count * _place_type(count).itemsize


def _place_type(count: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u2") if count <= 65536 else np.dtype("<u4")


def _coordinate_bits(count: int) -> int:
    """ceil(log2(count)); 0 for one place, which needs no saying."""
    return max(count - 1, 0).bit_length()


class PlacedValues:
    """What sparsifiers share that keep values as they are and say where they stood: `indices` is a setting of theirs."""

    indices: IndexCoding

    def kept_count(self, count: int) -> int | None:
        """How many of `count` values are kept; None if that depends on the values."""
        raise NotImplementedError

    def side_bytes(self, count: int) -> int | None:
        """Length of the places; None if it depends on them."""
        kept_count = self.kept_count(count)
        if kept_count is None:
            # Only a bitmap is as long whatever is kept.
            return places_bytes("bitmap", 0, count) if self.indices == "bitmap" else None
        return places_bytes(self.indices, kept_count, count)

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        """The kept values at their places among zeros."""
        places = decode_places(self.indices, side, len(kept), count, type(self).__name__.lower())
        values = np.zeros(count, np.float32)
        values[places] = kept
        return values

    def _placed(self, places: Places, kept: Vector, count: int) -> tuple[bytes, Vector]:
        return encode_places(self.indices, places, count), kept
