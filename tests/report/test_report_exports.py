"""Exports of a trace written by hand: read back, and checked against what the formats ask for."""

from __future__ import annotations

import csv
import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from netfl.errors import MissingExtraError
from netfl.report.exports import write_chrome_trace, write_csv, write_event_file, write_mlflow, write_parquet
from netfl.report.exports.curves import marks
from netfl.report.exports.event_files import crc32c
from netfl.trace import Computation, Outage
from tests.report.test_report import ROWS, trace_of

# The Trace Event Format as its public document has it, for the phases that netfl writes.
_NUMBER = {"type": "number", "minimum": 0}
_PLACE = {"pid": {"type": "integer"}, "tid": {"type": "integer"}, "name": {"type": "string"}, "ts": _NUMBER}


def _event(phase: str, required: list[str], **more: Any) -> dict[str, Any]:
    return {
        "type": "object", "additionalProperties": False, "required": ["ph", "pid", "tid", "name", *required],
        "properties": {"ph": {"const": phase}, **_PLACE, **more},
    }  # fmt: skip


SCHEMA = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {
            "type": "array",
            "items": {
                "oneOf": [
                    _event("b", ["ts", "cat", "id"], cat={"type": "string"}, id={"type": "string"}, args={"type": "object"}),
                    _event("e", ["ts", "cat", "id"], cat={"type": "string"}, id={"type": "string"}),
                    _event("C", ["ts", "args"], args={"type": "object", "additionalProperties": {"type": "number"}}),
                    _event("M", ["args"], args={"type": "object", "required": ["name"]}),
                ]
            },
        },
    },
}

MORE = [
    *ROWS,
    Computation(
        device="a", workload="training", kind="training", label="round 1", flop=1.0, queued_s=1.0, start_s=2.0, end_s=3.5, busy_s=1.5
    ),
    Outage(element="radio", element_kind="link", start_s=5.0, end_s=6.0),
]


def test_chrome_trace_keeps_to_the_format(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    assert write_chrome_trace(trace_of(MORE).connection, path) == [path]
    found = json.loads(path.read_text())
    jsonschema.validate(found, SCHEMA)
    events = found["traceEvents"]
    # Every span is begun once and ended once, later, in the same process.
    begun = {(event["cat"], event["id"]): event for event in events if event["ph"] == "b"}
    ended = {(event["cat"], event["id"]): event for event in events if event["ph"] == "e"}
    assert begun.keys() == ended.keys()
    assert all(begun[key]["ts"] <= ended[key]["ts"] and begun[key]["pid"] == ended[key]["pid"] for key in begun)
    # The transfers by hand share a number, so their pairs are counted as one here: 3 rounds, 7 requests, and one each of the others.
    assert Counter(kind for kind, _ in begun) == {"round": 3, "request": 7, "transfer": 1, "computation": 1, "outage": 1}
    # Every process has a name, told before anything else about it.
    named: set[int] = set()
    for event in events:
        if event["ph"] == "M":
            named.add(event["pid"])
        assert event["pid"] in named
    # Computation from 2 to 3.5 s, in microseconds.
    assert [event["ts"] for event in events if event.get("cat") == "computation"] == [2e6, 3.5e6]
    assert [event["args"] for event in events if event["ph"] == "C" and event["ts"] == 20e6] == [{"accuracy": 0.9375}, {"loss": 0.0625}]


def test_csv_has_every_row_with_all_digits(tmp_path: Path) -> None:
    trace = trace_of(MORE)
    for path in write_csv(trace.connection, tmp_path / "tables"):
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = list(csv.reader(file))
        expected = trace.connection.execute(f"SELECT * FROM {path.stem} ORDER BY rowid")
        assert head == [column[0] for column in expected.description]
        for read, row in zip(rows, expected, strict=True):
            assert [type(value)(text) for text, value in zip(read, row, strict=True)] == list(row)


def records(data: bytes) -> list[bytes]:
    """The records of a TFRecord file; check sums are verified by the rule of the format."""
    found = []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        for content, place in ((data[:8], 8), (data[12 : 12 + length], 12 + length)):
            crc = crc32c(content)
            assert struct.unpack_from("<I", data, place)[0] == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
        found.append(data[12 : 12 + length])
        data = data[16 + length :]
    return found


def test_check_sums_are_castagnolis() -> None:
    """Examples of RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_event_file_by_hand(tmp_path: Path) -> None:
    (path,) = write_event_file(trace_of(ROWS).connection, tmp_path)
    first, second, *rest = records(path.read_bytes())
    assert first == b"\x09" + bytes(8) + b"\x1a\x0dbrain.Event:2"
    # Accuracy 0.125 of version 0 at 0 s: wall_time, step, and a summary of 29 bytes with one value of 27.
    value = b"\x0a\x11training/accuracy\x15" + struct.pack("<f", 0.125)
    assert second == b"\x09" + bytes(8) + b"\x10\x00" + b"\x2a" + bytes([len(value) + 2]) + b"\x0a" + bytes([len(value)]) + value
    assert len(rest) + 1 == len(list(marks(trace_of(ROWS).connection)))


def test_marks_are_on_the_simulated_clock() -> None:
    found = list(marks(trace_of(ROWS).connection))
    assert [(mark.step, mark.time_s, mark.value) for mark in found if mark.tag == "training/accuracy"] == [
        (0, 0.0, 0.125), (1, 10.0, 0.5), (2, 20.0, 0.9375), (3, 40.0, 0.875),
    ]  # fmt: skip
    assert [(mark.step, mark.time_s, mark.value) for mark in found if mark.tag == "training/round_s"] == [
        (1, 10.0, 10.0), (2, 20.0, 10.0), (3, 40.0, 20.0),
    ]  # fmt: skip
    # One slice of 50 s, told at its end.
    assert [(mark.time_s, mark.value) for mark in found if mark.tag == "serving/latency_p50_s"] == [(50.0, 0.5)]


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pyarrow", "mlflow.entities"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netfl-sim\[parquet\]'"):
        write_parquet(trace_of(ROWS).connection, tmp_path)
    with pytest.raises(MissingExtraError, match=r"pip install 'netfl-sim\[mlflow\]'"):
        write_mlflow(trace_of(ROWS).connection, str(tmp_path), experiment="a", name="b", settings={}, figures={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exports
def test_parquet_reads_back(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'netfl-sim[parquet]'")
    trace = trace_of(MORE)
    for path in write_parquet(trace.connection, tmp_path):
        read = parquet.read_table(path)
        expected = trace.connection.execute(f"SELECT * FROM {path.stem} ORDER BY rowid")
        assert read.column_names == [column[0] for column in expected.description]
        assert list(zip(*(column.to_pylist() for column in read.columns), strict=True)) == expected.fetchall()


@pytest.mark.exports
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_the_event_file(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed")
    write_event_file(trace_of(ROWS).connection, tmp_path)
    found = reader.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(event.wall_time, event.step, event.value) for event in found.Scalars("training/accuracy")] == [
        (0.0, 0, 0.125), (10.0, 1, 0.5), (20.0, 2, 0.9375), (40.0, 3, 0.875),
    ]  # fmt: skip


@pytest.mark.exports
@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_the_run(tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed: pip install 'netfl-sim[mlflow]'")
    settings = {f"setting.{number}": "x" * 600 for number in range(120)}
    write_mlflow(
        trace_of(ROWS).connection, str(tmp_path), experiment="study", name="one", settings=settings, figures={"bytes/total": 205.0}
    )
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    history = client.get_metric_history(run.info.run_id, "training/accuracy")
    assert sorted((each.timestamp, each.step, each.value) for each in history) == [
        (0, 0, 0.125), (10_000, 1, 0.5), (20_000, 2, 0.9375), (40_000, 3, 0.875),
    ]  # fmt: skip
    assert run.data.metrics["bytes/total"] == 205.0
    assert len(run.data.params) == 100
    assert (run.info.status, run.info.start_time) == ("FINISHED", 1)
