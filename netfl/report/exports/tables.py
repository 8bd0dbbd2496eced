"""Every table of a trace as CSV or as Parquet."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path
from typing import Any

from netfl.errors import MissingExtraError
from netfl.report.reading import opened

__all__ = ["write_csv", "write_parquet"]

_AT_ONCE = 50_000


def write_csv(database: sqlite3.Connection | Path, folder: Path) -> list[Path]:
    """Write TABLE.csv for each table: a head, then a row a row in the order of the trace; floats with all their digits.

    Args:
        database: the run's trace, or its file.
        folder: where the files go; made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with opened(database) as trace:
        for table, columns in _tables(trace).items():
            path = folder / f"{table}.csv"
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(trace.execute(f'SELECT * FROM "{table}" ORDER BY rowid'))
            written.append(path)
    return written


def write_parquet(database: sqlite3.Connection | Path, folder: Path) -> list[Path]:
    """Write TABLE.parquet for each table: whole numbers as int64, others as float64, texts as strings.

    Args:
        database: the run's trace, or its file.
        folder: where the files go; made if it is not there.

    Returns:
        The files.

    Raises:
        MissingExtraError: pyarrow is not there.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("writing Parquet needs pyarrow: pip install 'netfl-sim[parquet]'") from None
    types: dict[str, Any] = {"INTEGER": pyarrow.int64(), "REAL": pyarrow.float64(), "TEXT": pyarrow.string()}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with opened(database) as trace:
        for table, columns in _tables(trace).items():
            schema = pyarrow.schema([pyarrow.field(name, types[kind], nullable=False) for name, kind in columns.items()])
            path = folder / f"{table}.parquet"
            with parquet.ParquetWriter(path, schema) as writer:
                rows = trace.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
                while portion := rows.fetchmany(_AT_ONCE):
                    writer.write_table(pyarrow.table(list(map(list, zip(*portion, strict=True))), schema=schema))
            written.append(path)
    return written


def _tables(trace: sqlite3.Connection) -> dict[str, dict[str, str]]:
    """The trace's own tables, their columns and types."""
    names = [row[0] for row in trace.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")]
    return {name: {row[1]: row[2] for row in trace.execute(f'PRAGMA table_info("{name}")')} for name in names}
