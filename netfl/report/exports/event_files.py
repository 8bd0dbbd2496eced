"""TensorBoard's event files, written without TensorBoard.

A file is a row of records: eight bytes of length (least byte first), a masked CRC-32C of these, the data, a masked CRC-32C of the data
(the TFRecord format). Data is an `Event` in protocol buffers' encoding: wall_time = 1 (double), step = 2 (int64), file_version = 3
(string), summary = 5, which holds values = 1 with tag = 1 (string) and simple_value = 2 (float).
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from netfl.report.exports.curves import marks
from netfl.report.reading import opened

__all__ = ["crc32c", "write_event_file"]

# Castagnoli's polynomial, bits reversed, as RFC 3720 (iSCSI) uses it.
_POLYNOMIAL = 0x82F63B78
_FILE_NAME = "events.out.tfevents.0000000000.netfl"


def write_event_file(database: sqlite3.Connection | Path, folder: Path) -> list[Path]:
    """Write one event file. Its wall clock is the simulated one, in seconds from 1970, so that TensorBoard's "relative" axis is simulated time.

    Args:
        database: the run's trace, or its file.
        folder: where it goes; made if it is not there.

    Returns:
        The file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FILE_NAME
    with opened(database) as trace, path.open("wb") as file:
        for event in _events(trace):
            length = struct.pack("<Q", len(event))
            file.write(length + _masked_crc(length) + event + _masked_crc(event))
    return [path]


def _events(trace: sqlite3.Connection) -> Iterator[bytes]:
    yield _field(1, 1, struct.pack("<d", 0.0)) + _text(3, "brain.Event:2")
    for mark in marks(trace):
        value = _text(1, mark.tag) + _field(2, 5, struct.pack("<f", mark.value))
        summary = _field(1, 2, _varint(len(value)) + value)
        yield (
            _field(1, 1, struct.pack("<d", mark.time_s)) + _field(2, 0, _varint(mark.step)) + _field(5, 2, _varint(len(summary)) + summary)
        )


def _field(number: int, wire_type: int, content: bytes) -> bytes:
    return _varint(number << 3 | wire_type) + content


def _text(number: int, content: str) -> bytes:
    encoded = content.encode()
    return _field(number, 2, _varint(len(encoded)) + encoded)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the least first, the top bit saying that more follow."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C, Castagnoli.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked_crc(data: bytes) -> bytes:
    """A check sum as TFRecord stores it: rotated by 15 bits and shifted by a constant."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
