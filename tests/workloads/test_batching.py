"""Requests computed together, before others, or not at all."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from tests.workloads.small import serving_only, small

AT_ONCE: dict[str, Any] = {
    "serving__placement": "upload", "serving__arrivals": {"kind": "periodic", "every": "1 s", "together": True},
    "serving__activations": [], "stop": {"after": "4.5 s"},
}  # fmt: skip


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def test_those_who_come_together_are_computed_together_for_one_overhead(tmp_path: Path) -> None:
    run(serving_only(**AT_ONCE), output=tmp_path / "alone")
    run(serving_only(**AT_ONCE, serving__batching={"window": "5 ms", "max_requests": 4}), output=tmp_path / "together")
    ((service_s,),) = rows(tmp_path / "alone", "SELECT DISTINCT round(compute_s, 12) FROM requests")
    # Four equal uploads share the cell evenly and come at one instant; one after the other they wait for 0, 1, 2, 3 services.
    waits_s = rows(tmp_path / "alone", "SELECT queue_s FROM requests WHERE arrival_s = 0 ORDER BY queue_s")
    assert [wait_s for (wait_s,) in waits_s] == pytest.approx([number * service_s for number in range(4)])
    # edge-server: 1 ms a call. Together: 1 ms + 4 x the rest, and the batch is full at once.
    found = rows(
        tmp_path / "together",
        "SELECT queue_s, compute_s, end_s - arrival_s, queue_s + compute_s + transmit_s + propagation_s FROM requests",
    )
    assert len(found) == 20
    for queue_s, compute_s, took_s, parts_s in found:
        assert queue_s == pytest.approx(0.0, abs=1e-12)
        assert compute_s == pytest.approx(0.001 + 4 * (service_s - 0.001))
        assert took_s == pytest.approx(parts_s)
    labels = rows(tmp_path / "together", "SELECT label FROM computations ORDER BY queued_s")
    assert labels[0] == ("requests 1, 2, 3, 4",)
    assert len(labels) == 5
    # What is answered is the same.
    answers = "SELECT device, sample, correct FROM requests ORDER BY request"
    assert rows(tmp_path / "alone", answers) == rows(tmp_path / "together", answers)


def test_a_request_that_nobody_joins_waits_for_the_window(tmp_path: Path) -> None:
    settings = {**AT_ONCE, "serving__sources": ["node-1"]}
    run(serving_only(**settings, serving__batching={"window": "5 ms"}), output=tmp_path / "window")
    assert rows(tmp_path / "window", "SELECT DISTINCT round(queue_s, 9) FROM requests") == [(0.005,)]
    run(serving_only(**settings, serving__batching={}), output=tmp_path / "none")
    assert rows(tmp_path / "none", "SELECT DISTINCT round(queue_s, 9) FROM requests") == [(0.0,)]


def test_without_a_window_those_who_wait_anyhow_are_the_next_batch(tmp_path: Path) -> None:
    run(serving_only(**AT_ONCE, serving__batching={"max_requests": 2}), output=tmp_path / "out")
    # All four come at one instant: the first begins alone, the next two fill a batch, the last one follows.
    assert rows(tmp_path / "out", "SELECT label FROM computations WHERE queued_s < 1 ORDER BY end_s") == [
        ("request 1",), ("requests 2, 3",), ("request 4",),
    ]  # fmt: skip


def test_only_named_devices_make_batches_and_the_asking_one_never_does(tmp_path: Path) -> None:
    split = {**AT_ONCE, "serving__placement": {"kind": "fixed", "after": "_1"}}
    run(serving_only(**split, serving__batching={"devices": ["gateway"]}), output=tmp_path / "out")
    assert rows(tmp_path / "out", "SELECT count(*) FROM computations WHERE label LIKE 'requests%'") == [(0,)]
    with pytest.raises(ScenarioError, match="no device matches 'clod'"):
        run(serving_only(**AT_ONCE, serving__batching={"devices": ["clod"]}))


def test_requests_of_higher_priority_do_not_wait_behind_others_of_their_kind(tmp_path: Path) -> None:
    waits_s = {}
    for priority in (-1, 0, 1):
        scenario = small(
            serving__placement="device_only", serving__arrivals={"kind": "poisson", "rate": "60 per s"}, serving__priority=priority
        )  # fmt: skip
        run(scenario, output=tmp_path / str(priority))
        ((waits_s[priority],),) = rows(tmp_path / str(priority), "SELECT avg(queue_s) FROM requests WHERE outcome = 'answered'")
    # Behind all mini-batches, among them, before them.
    assert waits_s[1] <= waits_s[0] < waits_s[-1] / 3


@pytest.mark.parametrize("otherwise", ["ignore", "wait", "reject"])
def test_a_request_for_which_there_is_no_memory_beside_training(tmp_path: Path, otherwise: str) -> None:
    scenario = small(
        serving__placement="device_only", serving__arrivals={"kind": "poisson", "rate": "100 per s"}, serving__short_of_memory=otherwise,
        serving__deadline=None, training__trainer={"kind": "sgd", "epochs": 20, "batch_size": 16, "learning_rate": 0.1},
    )  # fmt: skip
    plenty = run(scenario, output=tmp_path / "plenty").metrics
    # Activations of a request: 64 inputs and 16 hidden values at once, 80 x 4 B, or a little more; training holds more than 14 kB besides.
    most = max(plenty["devices"][f"node-{number}"]["peak_memory_bytes"] for number in range(1, 5))
    scenario["topology"]["devices"]["node-{1..4}"]["profile"] = {
        "inference_flop_per_s": "45 MFLOP/s", "training_flop_per_s": "45 MFLOP/s", "memory_bytes_per_s": "0.3 GB/s", "overhead_s": "0.1 ms",
        "memory_bytes": f"{most - 100} B", "idle_w": "100 mW", "busy_w": "220 mW",
    }  # fmt: skip
    found = run(scenario, output=tmp_path / "out").metrics
    serving = found["serving"]["serving"]
    kinds = dict(rows(tmp_path / "out", "SELECT followed_by, count(*) FROM setbacks WHERE cause = 'memory' GROUP BY 1"))
    assert plenty["serving"]["serving"]["rejected"] == plenty["serving"]["serving"]["waited_for_memory"] == 0
    if otherwise == "ignore":
        assert (kinds, serving["rejected"], serving["waited_for_memory"]) == ({}, 0, 0)
    elif otherwise == "wait":
        assert kinds == {"wait": serving["waited_for_memory"]} and kinds["wait"] > 0
        waited = rows(tmp_path / "out", "SELECT r.queue_s, s.seconds FROM requests AS r JOIN setbacks AS s ON r.request = s.request "
                                        "WHERE r.outcome = 'answered'")  # fmt: skip
        assert all(queue_s >= seconds - 1e-9 > 0 for queue_s, seconds in waited)
        assert waited
    else:
        assert kinds == {"reject": serving["rejected"]} and kinds["reject"] > 0
        assert serving["requests"] == serving["answered"] + serving["rejected"] + serving["censored"]
