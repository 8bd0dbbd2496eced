"""Requests that begin when training has ended, and end by themselves."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from tests.workloads.small import small


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as trace:
        return trace.execute(query).fetchall()


def test_the_last_model_goes_to_the_pieces_and_then_requests_come(tmp_path: Path) -> None:
    """The nodes run the whole model: each gets the last model only, once. Four sources make twenty requests each; none before that."""
    scenario = small(serving__after="training", serving__per_source=20, serving__placement={"kind": "device_only"})
    scenario["stop"] = {}
    run(scenario, output=tmp_path / "out")
    ((trained_s,),) = rows(tmp_path / "out", "SELECT max(end_s) FROM rounds")
    sent = rows(
        tmp_path / "out", "SELECT destination, label, start_s, end_s FROM transfers WHERE workload = 'serving' ORDER BY destination"
    )
    assert [(name, label) for name, label, _, _ in sent] == [(f"node-{index}", "version 3") for index in range(1, 5)]
    assert {start_s for *_, start_s, _ in sent} == {trained_s}
    deployed_s = max(end_s for *_, end_s in sent)
    requests = rows(tmp_path / "out", "SELECT device, version, arrival_s, end_s, outcome FROM requests")
    assert sorted(device for device, *_ in requests) == sorted([f"node-{index}" for index in range(1, 5)] * 20)
    assert {(version, outcome) for _, version, _, _, outcome in requests} == {(3, "answered")}
    assert min(arrival_s for _, _, arrival_s, _, _ in requests) > deployed_s
    assert rows(tmp_path / "out", "SELECT * FROM run_end") == [(max(end_s for *_, end_s, _ in requests), "all workloads done")]


def test_requests_of_a_number_are_the_first_ones_of_endless_arrivals(tmp_path: Path) -> None:
    endless = small(training__rounds=15)
    endless["stop"] = {"after": "3 s"}
    run(endless, output=tmp_path / "endless")
    counted = small(training__rounds=1, serving__per_source=3)
    run(counted, output=tmp_path / "counted")
    query = "SELECT device, arrival_s, sample FROM requests ORDER BY device, arrival_s"
    first: dict[str, list[Any]] = {}
    for row in rows(tmp_path / "endless", query):
        first.setdefault(row[0], []).append(row)
    assert rows(tmp_path / "counted", query) == [row for each in first.values() for row in each[:3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serving__after": "training"}, "after: expected `per_source` beside it"),
        ({"serving__after": "trainin", "serving__per_source": 3}, "serving.after: no training workload 'trainin'; there are: training"),
        ({"serving__per_source": 0}, "serving.per_source"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        run(small(**changes))
    assert message in str(caught.value)
