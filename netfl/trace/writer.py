"""The append-only trace: rows into SQLite as they happen, and their digest."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from netfl.errors import RunError
from netfl.trace.rows import NOTE_TYPES, ROW_TYPES

__all__ = ["Trace"]

_SQL_TYPES = {"int": "INTEGER", "float": "REAL", "str": "TEXT"}
_BUFFERED_ROWS = 5000
_BUFFERED_S = 1.0


class Trace:
    """Writes rows to one SQLite file and keeps SHA-256 over them in the order of writing.

    A killed run leaves a readable file that ends within the last second or five thousand rows.

    Args:
        path: the file, which must not exist; None keeps the trace in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._connection = sqlite3.connect(path or ":memory:")
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._digest = hashlib.sha256()
        self._tables = {row_type: _Table(table, row_type) for table, row_type in ROW_TYPES.items()}
        self._notes = {row_type: _Table(table, row_type) for table, row_type in NOTE_TYPES.items()}
        self._order: list[_Table] = []
        self._failure: sqlite3.Error | None = None
        self._flushed_at = time.monotonic()
        self._connection.execute("BEGIN")
        for table in (*self._tables.values(), *self._notes.values()):
            self._connection.execute(table.create)
        self._connection.commit()

    @property
    def connection(self) -> sqlite3.Connection:
        """For reading; call `flush` first."""
        return self._connection

    def append(self, row: Any) -> None:
        """Add one row of a type of `ROW_TYPES`."""
        row_type = type(row)
        self.append_values(row_type, self._tables[row_type].values_of(row))

    def append_values(self, row_type: type, values: tuple[Any, ...]) -> None:
        """Add one row without making it: for those who write very many.

        Args:
            row_type: of `ROW_TYPES`.
            values: its fields in their order; no more and no fewer, or `flush` raises.
        """
        table = self._tables[row_type]
        table.rows.append(values)
        order = self._order
        order.append(table)
        if len(order) >= _BUFFERED_ROWS or time.monotonic() - self._flushed_at > _BUFFERED_S:
            self.flush()

    def extend(self, row_type: type, rows: Iterable[tuple[Any, ...]]) -> None:
        """The same for many rows of one type, in order."""
        table = self._tables[row_type]
        waiting = iter(rows)
        while more := list(itertools.islice(waiting, max(1, _BUFFERED_ROWS - len(self._order)))):
            table.rows += more
            self._order += itertools.repeat(table, len(more))
            if len(self._order) >= _BUFFERED_ROWS:
                self.flush()

    def note(self, row: Any) -> None:
        """Add one row of a type of `NOTE_TYPES`, which is no part of the digest."""
        table = self._notes[type(row)]
        table.rows.append(table.values_of(row))

    def extend_notes(self, row_type: type, rows: Iterable[tuple[Any, ...]]) -> None:
        """The same for many rows of one type: the fields of each in their order."""
        self._notes[row_type].rows += rows

    def flush(self) -> None:
        """Make all rows so far readable to others.

        Raises:
            RunError: they cannot be written, on a full disk for example; from then on always, since rows are missing.
        """
        if self._failure is None:
            try:
                self._write()
                return
            except sqlite3.Error as error:
                self._failure = error
        raise RunError(f"the trace cannot be written: {self._failure}; make room, or write to another folder (`--output`)")

    def _write(self) -> None:
        if self._order:
            # Encoded a table at a time, a column at a time; hashed in the order of writing.
            encoded = {table: table.encoded() for table in dict.fromkeys(self._order)}
            self._digest.update(b"".join(map(next, map(encoded.__getitem__, self._order))))
            for table in encoded:
                self._connection.executemany(table.insert, table.rows)
                table.rows.clear()
            self._order.clear()
        for table in self._notes.values():
            if table.rows:
                self._connection.executemany(table.insert, table.rows)
                table.rows.clear()
        self._connection.commit()
        self._flushed_at = time.monotonic()

    def digest(self) -> str:
        """SHA-256 of all rows so far, in hexadecimal: simulated meaning only, floats as binary64.

        A row is its table's name and its values; each is preceded by its length in four bytes, the greatest first. A text is UTF-8, a
        whole number its decimal digits, any other number its binary64, the greatest byte first.
        """
        if self._order:
            self.flush()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self.flush()
        self._connection.execute("PRAGMA journal_mode=DELETE")
        self._connection.close()


class _Table:
    """A table of the file, and its rows that are not written yet."""

    def __init__(self, name: str, row_type: type) -> None:
        columns = [(field.name, str(field.type)) for field in fields(row_type)]
        declared = ", ".join(f'"{column}" {_SQL_TYPES[kind]} NOT NULL' for column, kind in columns)
        self.name = _framed(name.encode())
        self.create = f"CREATE TABLE {name} ({declared})"
        self.insert = f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})"
        self.values_of = attrgetter(*(column for column, _ in columns))
        # How many columns of one kind follow one another.
        self.runs = [(kind, len(list(run))) for kind, run in itertools.groupby(kind for _, kind in columns)]
        self.num_columns = len(columns)
        self.rows: list[tuple[Any, ...]] = []

    def encoded(self) -> Iterator[bytes]:
        """The bytes of the rows for the digest, which no other row shares."""
        columns = list(zip(*self.rows, strict=True))
        if len(columns) != self.num_columns:
            raise ValueError(f"expected {self.num_columns} values a row, got {len(columns)}: {self.insert}")
        parts: list[Iterable[bytes]] = []
        place = 0
        for kind, count in self.runs:
            run = columns[place : place + count]
            place += count
            if kind == "float":
                # The numbers of a row in one call, each after its length.
                lengths_and_numbers = itertools.chain.from_iterable((itertools.repeat(8), column) for column in run)
                parts.append(map(struct.Struct(">" + "Id" * count).pack, *lengths_and_numbers))
            else:
                parts += [_each_framed(column, str.encode if kind == "str" else b"%d".__mod__) for column in run]
        return map(b"".join, zip(itertools.repeat(self.name), *parts, strict=False))


_LENGTH = struct.Struct(">I").pack


def _framed(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


def _each_framed(column: Sequence[Any], encode: Callable[[Any], bytes]) -> Iterable[bytes]:
    """The values of a column as they are hashed; where most come again and again, each is made once."""
    distinct = set(column)
    if 2 * len(distinct) < len(column):
        return map({value: _framed(encode(value)) for value in distinct}.__getitem__, column)
    return map(_framed, map(encode, column))
