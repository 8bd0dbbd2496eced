"""Metrics of serving and of loads, from rows by hand and from small runs."""

from typing import Any

import pytest
import simpy

from netfl import run
from netfl.compute import Processor, Work
from netfl.network.outages import ALWAYS_UP
from netfl.report import metrics
from netfl.store import Store
from netfl.trace import Computation, DeviceLoad, DeviceUse, LinkLoad, LinkUse, Planned, Request, RunEnd, Setback, Trace, Transfer, Workload
from tests.compute.test_processor import profile
from tests.workloads.small import serving_only, small


def request(number: int, outcome: str, took_s: float, correct: int = -1, placement: str = "a:0-9", **changes: Any) -> Request:
    figures = {
        "request": number, "workload": "s", "device": "a", "sample": 0, "version": 0, "placement": placement, "arrival_s": 1.0,
        "end_s": 1.0 + took_s, "deadline_s": 1.0, "outcome": outcome, "correct": correct, "queue_s": 0.0, "compute_s": took_s, "transmit_s": 0.0,
        "propagation_s": 0.0,
    }  # fmt: skip
    return Request(**{**figures, **changes})  # type: ignore[arg-type]


def setback(number: int, cause: str, seconds: float, followed_by: str) -> Setback:
    return Setback(request=number, workload="s", cause=cause, device="b", start_s=1.0, seconds=seconds, followed_by=followed_by)


def told(*rows: Any, notes: tuple[Any, ...] = ()) -> dict[str, Any]:
    trace = Trace()
    for row in (Workload(workload="s", role="serving"), *rows, RunEnd(simulated_s=10.0, reason="by hand")):
        trace.append(row)
    for note in notes:
        trace.note(note)
    trace.flush()
    return metrics(trace.connection)


def test_requests_by_hand() -> None:
    found = told(
        request(1, "answered", 0.5, 1), request(2, "answered", 0.5, 0), request(3, "answered", 2.0, 1, placement="b:0-9"),
        request(4, "answered", 0.75, 1, placement="b:0-9"), request(5, "dropped", 0.25), request(6, "rejected", 0.0), request(7, "failed", 0.5),
        request(8, "censored", 0.5),
        setback(3, "timeout", 0.5, "c"), setback(3, "lost", 0.25, "a"), setback(4, "memory", 0.1, "wait"), setback(5, "timeout", 0.25, "drop"),
        setback(6, "memory", 0.0, "reject"),
        Computation(device="a", workload="s", kind="inference", label="", flop=1.0, queued_s=0, start_s=0, end_s=1, busy_s=1.0),
        Computation(device="a", workload="t", kind="training", label="", flop=1.0, queued_s=0, start_s=0, end_s=3, busy_s=3.0),
        DeviceUse(device="a", tier="device", busy_s=4.0, compute_j=8.0, idle_j=100.0, transmit_j=3.0, receive_j=0.0, bytes_up=0, bytes_down=0,
                  peak_memory_bytes=0, storage_bytes=0),
        LinkUse(link="l", source="a", destination="b", workload="s", kind="request", sent_bytes=1, delivered_bytes=1, wasted_bytes=0,
                in_flight_bytes=0, transmit_j=0.5, receive_j=0.25),
        LinkUse(link="l", source="a", destination="b", workload="t", kind="update", sent_bytes=1, delivered_bytes=1, wasted_bytes=0,
                in_flight_bytes=0, transmit_j=2.5, receive_j=0.0),
        notes=(
            Planned(workload="s", device="a", time_s=0.0, planner="chain", placement="a:0-9", estimate_s=0.4),
            Planned(workload="s", device="a", time_s=0.0, planner="chain", placement="b:0-9", estimate_s=1.0),
        ),
    )["serving"]["s"]  # fmt: skip
    assert (found["requests"], found["answered"], found["failed"], found["dropped"], found["rejected"], found["censored"]) == (
        8,
        4,
        1,
        1,
        1,
        1,
    )
    # Missed: the late answer, and those that failed, were dropped or rejected; the censored one is not old enough.
    assert (found["missed"], found["miss_rate"]) == (4, 0.5)
    # In time are 1, 2 and 4, right of these 1 and 4, in 10 s.
    assert (found["goodput_per_s"], found["correct_goodput_per_s"], found["accuracy_within_deadline"]) == (0.3, 0.2, 0.25)
    # A quarter of the processor's 8 J, and the radios' 0.75 J; right answers are 1, 3 and 4.
    assert (found["energy_j"], found["energy_per_correct_answer_j"]) == (2.75, pytest.approx(2.75 / 3))
    # Request 3 asked elsewhere twice; 5 was dropped. 0.75 s are lost over four answers.
    assert (found["failovers"], found["answered_elsewhere"], found["failover_s"], found["waited_for_memory"]) == (2, 1, 0.1875, 1)
    # Expected: (2 x 0.4 + 2 x 1.0) / 4; taken: 0.5 + 0.5 + 2 + 0.75 = 3.75 of 2.8.
    assert (found["estimate_s"], found["estimate_error"]) == (pytest.approx(0.7), pytest.approx(3.75 / 2.8 - 1))


def transfer(number: int, route: str, start_s: float, end_s: float) -> Transfer:
    devices = route.split(">")
    return Transfer(
        transfer=number, workload="s", kind="request", label="", source=devices[0], destination=devices[-1], route=route, payload_bytes=1,
        start_s=start_s, end_s=end_s, outcome="delivered", attempts=1, sent_bytes=1, wasted_bytes=0, latency_s=0.0, stalled_s=0.0,
    )  # fmt: skip


def test_loads_by_hand() -> None:
    found = told(
        transfer(1, "a>b>c", 0.0, 4.0), transfer(2, "a>b", 2.0, 3.0), transfer(3, "a>b", 3.0, 6.0), transfer(4, "c>b", 0.0, 1.0),
        notes=(
            DeviceLoad(device="a", busy_s=2.5, mean_waiting=0.5, most_waiting=3),
            LinkLoad(link="ab", source="a", destination="b", busy_s=4.0), LinkLoad(link="bc", source="b", destination="c", busy_s=1.0),
            LinkLoad(link="bc", source="c", destination="b", busy_s=0.5),
        ),
    )["loads"]  # fmt: skip
    assert found["devices"] == {"a": {"utilisation": 0.25, "mean_queue": 0.5, "max_queue": 3}}
    # a>b: 4 + 1 + 3 s of transfers in 10 s, two at once (the third begins as the second ends).
    assert found["links"] == {
        "ab": {"a>b": {"utilisation": 0.4, "mean_transfers": 0.8, "max_transfers": 2}},
        "bc": {
            "b>c": {"utilisation": 0.1, "mean_transfers": 0.4, "max_transfers": 1},
            "c>b": {"utilisation": 0.05, "mean_transfers": 0.1, "max_transfers": 1},
        },
    }


def test_a_processor_counts_who_waits() -> None:
    env = simpy.Environment()
    processor = Processor(env, profile(), ALWAYS_UP)
    for _ in range(3):
        processor.submit(Work(kind="inference", flop=100))
    env.run(until=10.0)
    # One second each: two wait in the first, one in the second, none from then on.
    assert (processor.waiting_s(), processor.most_waiting) == (3.0, 2)


def test_notes_are_no_part_of_the_digest() -> None:
    plain, noted = Trace(), Trace()
    for trace in (plain, noted):
        trace.append(RunEnd(simulated_s=1.0, reason="x"))
    noted.note(DeviceLoad(device="a", busy_s=1.0, mean_waiting=0.0, most_waiting=0))
    assert plain.digest() == noted.digest()
    assert noted.connection.execute("SELECT * FROM device_loads").fetchall() == [("a", 1.0, 0.0, 0)]


def test_a_run_tells_loads_and_what_the_planner_took() -> None:
    found = run(serving_only(serving__placement="upload", serving__arrivals={"kind": "poisson", "rate": "1 per s"})).metrics
    serving, loads = found["serving"]["serving"], found["loads"]
    assert loads["devices"]["cloud"]["utilisation"] == pytest.approx(found["devices"]["cloud"]["compute_s"] / found["simulated_s"])
    # Little's law for the radios' uplinks: transfers under way = requests a second x seconds each.
    up_s = sum(ways.get(f"node-{number}>gateway", {"mean_transfers": 0.0})["mean_transfers"] for number, ways in enumerate(
        (loads["links"][f"node-{number}-radio"] for number in range(1, 5)), 1))  # fmt: skip
    # 68 bytes at 1 Mbit/s and 5 ms, seldom shared.
    assert up_s == pytest.approx(serving["requests"] / found["simulated_s"] * (0.005 + 8 * 68 / 1e6), rel=0.05)
    assert serving["estimate_error"] == pytest.approx(0.0, abs=0.05)
    assert found["work"]["planner_s"]["serving"] >= 0.0


def test_accuracy_is_computed_once_for_each_version_cut_and_codec() -> None:
    store = Store()
    found = run(
        small(serving__placement="upload", serving__failover={"timeout": "31 ms", "then": "local"}, training__rounds=5), store=store
    ).metrics
    versions = found["training"]["training"]["rounds"] + 1
    assert found["serving"]["serving"]["requests"] > 2 * versions
    # Two placements, all versions at most, whatever the number of requests and of devices that ask.
    assert 2 <= store.computed["infer"] <= 2 * versions
    again = serving_only(serving__placement="upload", serving__arrivals={"kind": "poisson", "rate": "50 per s"})
    run(again, store=(other := Store()))
    assert other.computed["infer"] == 1
