"""Files of recorded traces, read whole, up to a limit."""

from __future__ import annotations

from pathlib import Path

__all__ = ["bytes_of", "text_of"]

_MOST_BYTES = 256_000_000


def bytes_of(path: Path) -> bytes:
    """What a file holds.

    Raises:
        ValueError: it cannot be read, or is too long; beginning with the file's name.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path}: the file has {path.stat().st_size:,} bytes; at most {_MOST_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def text_of(path: Path) -> str:
    """The same as text.

    Raises:
        ValueError: likewise, or it is not UTF-8; beginning with file:line.
    """
    data = bytes_of(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: is not UTF-8 text (byte {error.start})") from None
