"""Entropy coding of a whole body, byte by byte."""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netfl.errors import CodecError, MissingExtraError

__all__ = ["Entropy"]

_RAW, _REPEATED, _CODED = 0, 1, 2
_MOST_COUNT = 65535


@dataclass(frozen=True, kw_only=True)
class Entropy:
    """Asymmetric numeral systems over bytes, each byte by itself, with their frequencies in front; needs `netfl-sim[entropy]`.

    The length is the bytes' entropy, at most 545 bytes of frequencies and less than 8 more; what would not become shorter is
    sent as it is, behind one byte.

    Source: Duda, "Asymmetric numeral systems", 2013, in the library constriction (Bamler, 2022).
    """

    def __post_init__(self) -> None:
        if importlib.util.find_spec("constriction") is None:
            raise MissingExtraError("the codec `entropy` needs the library constriction: pip install 'netfl-sim[entropy]'")

    def compressed_bytes(self, length: int) -> None:
        """None: it depends on the data."""

    def most_bytes(self, length: int) -> int:
        """One byte more."""
        return length + 1

    def compress(self, data: bytes) -> bytes:
        """A form byte; then the data, or a length and one byte, or length, frequencies and code words."""
        symbols = np.frombuffer(data, np.uint8)
        counts = np.bincount(symbols, minlength=256)
        used = np.flatnonzero(counts)
        if len(used) == 1 and len(data) > 5:
            return struct.pack("<BIB", _REPEATED, len(data), int(used[0]))
        if len(used) > 1:
            # Scaled to 16 bits, so that both ends make the same model of the same numbers; a used byte counts at least 1.
            frequencies = np.maximum(1, counts[used] * _MOST_COUNT // counts.max())
            coder = _coder(None)
            coder.encode_reverse(np.searchsorted(used, symbols).astype(np.int32), _model(frequencies))
            words = coder.get_compressed().astype("<u4").tobytes()
            coded = b"".join(
                (
                    struct.pack("<BI", _CODED, len(data)),
                    np.packbits(counts > 0).tobytes(),
                    frequencies.astype("<u2").tobytes(),
                    words,
                )
            )
            if len(coded) <= len(data):
                return coded
        return bytes([_RAW]) + data

    def decompress(self, data: bytes, limit: int) -> bytes:
        """What was compressed."""
        form = data[0] if data else -1
        if form == _RAW:
            content = data[1:]
        elif form == _REPEATED and len(data) == 6:
            (length,) = struct.unpack_from("<I", data, 1)
            content = data[5:] * min(length, limit + 1)
        elif form == _CODED and len(data) >= 37:
            content = self._decoded(data, limit)
        else:
            raise CodecError("entropy: expected one of three forms, got something else")
        if len(content) > limit:
            raise CodecError(f"entropy: expected at most {limit} bytes, got more")
        return content

    def _decoded(self, data: bytes, limit: int) -> bytes:
        (length,) = struct.unpack_from("<I", data, 1)
        used = np.flatnonzero(np.unpackbits(np.frombuffer(data[5:37], np.uint8)))
        words_at = 37 + 2 * len(used)
        frequencies = np.frombuffer(data[37:words_at], "<u2")
        words = data[words_at:]
        if length > limit or len(used) < 2 or len(frequencies) != len(used) or not frequencies.all() or len(words) % 4:
            raise CodecError(f"entropy: expected at most {limit} bytes of at least two kinds with their frequencies, got others")
        try:
            coder = _coder(np.frombuffer(words, "<u4").astype(np.uint32))
            symbols = coder.decode(_model(frequencies), length)
        except ValueError as error:
            raise CodecError(f"entropy: {error}") from error
        if not coder.is_empty():
            raise CodecError(f"entropy: expected the end after {length} bytes, got more")
        content: npt.NDArray[np.uint8] = used.astype(np.uint8)[symbols]
        return content.tobytes()


def _coder(words: npt.NDArray[np.uint32] | None) -> Any:
    import constriction

    coder = constriction.stream.stack.AnsCoder
    return coder() if words is None else coder(words)


def _model(frequencies: npt.NDArray[Any]) -> Any:
    import constriction

    return constriction.stream.model.Categorical(frequencies / frequencies.sum(dtype=np.float64), perfect=False)
