"""The digest is taken over the rows in the order of writing, whatever is buffered or written when."""

import hashlib
import math
import sqlite3
import struct
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from netfl.trace import ROW_TYPES, Computation, RunEnd, Trace, Transfer, writer


def transfer(number: int, **changes: Any) -> Transfer:
    values: dict[str, Any] = {
        "transfer": number, "workload": "w", "kind": "update", "label": f"round {number}", "source": "a", "destination": "b",
        "route": "a>b", "payload_bytes": 10**6, "start_s": 0.25 * number, "end_s": 1.5 + number, "outcome": "delivered", "attempts": 1,
        "sent_bytes": 10**6, "wasted_bytes": 0, "latency_s": 0.0, "stalled_s": -0.0,
    }  # fmt: skip
    values |= {field.name: (0.0 if str(field.type) == "float" else 0) for field in fields(Transfer) if field.name not in values}
    return Transfer(**{**values, **changes})


def computation(label: str, end_s: float) -> Computation:
    return Computation(
        device="a", workload="w", kind="training", label=label, flop=1e9, queued_s=0.0, start_s=0.1, end_s=end_s, busy_s=end_s - 0.1
    )


ROWS: list[Any] = [
    transfer(1),
    transfer(2, label="", source="Gerät ü", payload_bytes=0),
    computation("round 1", 2.0),
    transfer(3, end_s=math.inf),
    transfer(4, payload_bytes=2**62),
    computation("round 1", 1e-300),
    transfer(5),
    RunEnd(simulated_s=9.0, reason="2 h passed"),
]


def definition(rows: list[Any]) -> str:
    """The digest as its definition says, value by value."""
    tables = {row_type: table for table, row_type in ROW_TYPES.items()}
    found = hashlib.sha256()
    for row in rows:
        parts = [tables[type(row)].encode()]
        for field in fields(row):
            value = getattr(row, field.name)
            parts.append(
                {"float": lambda x: struct.pack(">d", x), "int": lambda x: str(x).encode(), "str": str.encode}[str(field.type)](value)
            )
        for part in parts:
            found.update(struct.pack(">I", len(part)) + part)
    return found.hexdigest()


def test_the_digest_is_its_definition() -> None:
    trace = Trace()
    for row in ROWS:
        trace.append(row)
    assert trace.digest() == definition(ROWS)


@pytest.mark.parametrize("buffered", [1, 2, 3, 5000])
def test_the_buffer_does_not_change_it(buffered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_BUFFERED_ROWS", buffered)
    trace = Trace()
    for number, row in enumerate(ROWS):
        trace.append(row)
        if number == 3:
            trace.flush()
        assert trace.digest() == definition(ROWS[: number + 1])


@pytest.mark.parametrize("times", [1, 2, 3, 10])
def test_values_that_come_again_are_the_same_to_it(times: int) -> None:
    # Rows of their own are encoded value by value; where most values of a column come again, each is encoded once.
    trace = Trace()
    for row in ROWS * times:
        trace.append(row)
    assert trace.digest() == definition(ROWS * times)


def test_rows_and_their_values_are_the_same_to_it(tmp_path: Path) -> None:
    by_row, by_values = Trace(tmp_path / "rows.db"), Trace(tmp_path / "values.db")
    for row in ROWS:
        by_row.append(row)
        by_values.append_values(type(row), tuple(getattr(row, field.name) for field in fields(row)))
    for trace in (by_row, by_values):
        trace.close()
    assert by_row.digest() == by_values.digest() == definition(ROWS)
    read = []
    for name in ("rows.db", "values.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            read.append([connection.execute(f"SELECT * FROM {table}").fetchall() for table in ROW_TYPES])
    assert read[0] == read[1]
    transfers = read[0][list(ROW_TYPES).index("transfers")]
    assert [row[0] for row in transfers] == [1, 2, 3, 4, 5]
    assert transfers[1][4] == "Gerät ü"


def test_the_order_of_writing_counts() -> None:
    digests = []
    for rows in (ROWS[:3], [ROWS[0], ROWS[2], ROWS[1]]):
        trace = Trace()
        for row in rows:
            trace.append(row)
        digests.append(trace.digest())
    assert digests[0] != digests[1]


def test_a_row_with_a_value_too_few_is_refused() -> None:
    trace = Trace()
    trace.append_values(RunEnd, (1.0,))
    with pytest.raises((ValueError, sqlite3.Error)):
        trace.flush()


def test_what_is_flushed_can_be_read_by_others(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "run.db")
    trace.append(ROWS[0])
    trace.flush()
    with closing(sqlite3.connect(tmp_path / "run.db")) as other:
        assert other.execute("SELECT count(*) FROM transfers").fetchone() == (1,)
    trace.close()
