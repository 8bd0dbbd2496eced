"""Opening a trace."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["has_table", "opened"]


@contextmanager
def opened(database: sqlite3.Connection | Path) -> Iterator[sqlite3.Connection]:
    """The trace, for reading; a connection is used as it is, a file is opened and closed again.

    Raises:
        sqlite3.OperationalError: there is no such file.
    """
    if isinstance(database, sqlite3.Connection):
        yield database
        return
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def has_table(trace: sqlite3.Connection, table: str) -> bool:
    """Whether the trace has a table; those of earlier versions lack some."""
    return trace.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone() is not None
