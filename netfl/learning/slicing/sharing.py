"""What groups share through the server, as pure functions: which weights a group uploads, and which the server hands on.

A group uploads the share theta of its weights that changed most over the epoch, added up batch by batch. The server keeps the last omega
uploads; a weight that more than omega x tau of them hold is handed on, as the mean of what they say of it. So tau = 0 hands on everything
that was uploaded at all, and tau = 1 nothing. On the wire a selection of weights is a count, which places (as numbers or as a bit each,
whichever is shorter), and the values in float32.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netfl.errors import CodecError

__all__ = ["Selection", "decode", "encode", "encoded_bytes", "means", "most_changed", "passing"]

Vector = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Selection:
    """Some of the weights of a model.

    Args:
        places: (k,) int64, ascending.
        values: (k,) float32.
    """

    places: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]


def most_changed(change: Vector, theta: float) -> npt.NDArray[np.int64]:
    """The places, ascending, of the share theta of weights that changed most; among equals the first ones.

    >>> most_changed(np.array([0.5, 2.0, 0.5, 1.0]), 0.75).tolist()
    [0, 1, 3]
    """
    count = int(round(theta * len(change), 9))
    return np.sort(np.argsort(-change, kind="stable")[:count])


def passing(uploads: Sequence[npt.NDArray[np.int64]], num_weights: int, omega: int, tau: float) -> npt.NDArray[np.int64]:
    """The places, ascending, that more than omega x tau of the last omega uploads hold.

    Args:
        uploads: the places of each upload, oldest first; only the last omega count.
        num_weights: length of the model.
        omega: records in the window.
        tau: from 0 to 1.

    >>> twice, three_times = np.array([0]), np.array([0, 1])
    >>> passing([three_times, three_times, np.array([1])], 2, omega=4, tau=0.5).tolist()
    [1]
    """
    # Rounded, so that 0.29 x 100 is 29.
    return np.flatnonzero(_counts(uploads[-omega:], num_weights) > round(omega * tau, 9))


def means(uploads: Sequence[Selection], places: npt.NDArray[np.int64], num_weights: int) -> npt.NDArray[np.float32]:
    """What some uploads say of places that at least one of them holds, on average; added up in their order, in float64."""
    total = np.zeros(num_weights)
    for upload in uploads:
        total[upload.places] += upload.values
    counts = _counts([upload.places for upload in uploads], num_weights)
    return (total[places] / counts[places]).astype(np.float32)


def _counts(uploads: Sequence[npt.NDArray[np.int64]], num_weights: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(num_weights, np.int64)
    for places in uploads:
        counts[places] += 1
    return counts


def encode(selection: Selection, num_weights: int) -> bytes:
    """The bytes of a selection out of so many weights."""
    count = len(selection.places)
    if _as_bits(count, num_weights):
        chosen = np.zeros(num_weights, bool)
        chosen[selection.places] = True
        where = np.packbits(chosen).tobytes()
    else:
        where = selection.places.astype("<u4").tobytes()
    return struct.pack("<I", count) + where + selection.values.astype("<f4").tobytes()


def encoded_bytes(count: int, num_weights: int) -> int:
    """The length of `encode`: 4 bytes, the shorter of 4 bytes a place and a bit a weight, and 4 bytes a value."""
    return 4 + (_bit_bytes(num_weights) if _as_bits(count, num_weights) else 4 * count) + 4 * count


def decode(payload: bytes, num_weights: int) -> Selection:
    """A selection back from its bytes.

    Raises:
        CodecError: no encoder made these bytes.
    """
    if len(payload) < 4:
        raise CodecError("expected at least 4 bytes of a selection of weights")
    (count,) = struct.unpack_from("<I", payload)
    if count > num_weights or len(payload) != encoded_bytes(count, num_weights):
        raise CodecError(f"a selection of {count:,} out of {num_weights:,} weights has another length than {len(payload):,} bytes")
    if _as_bits(count, num_weights):
        length = _bit_bytes(num_weights)
        bits = np.unpackbits(np.frombuffer(payload, np.uint8, length, 4))
        places = np.flatnonzero(bits).astype(np.int64)
    else:
        length = 4 * count
        places = np.frombuffer(payload, "<u4", count, 4).astype(np.int64)
    if len(places) != count or (count and (places[-1] >= num_weights or bool((np.diff(places) <= 0).any()))):
        raise CodecError("the places of a selection of weights are not ascending, or not as many as it says")
    return Selection(places, np.frombuffer(payload, "<f4", count, 4 + length).astype(np.float32))


def _as_bits(count: int, num_weights: int) -> bool:
    return _bit_bytes(num_weights) < 4 * count


def _bit_bytes(num_weights: int) -> int:
    return -(-num_weights // 8)
