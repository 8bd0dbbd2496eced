"""Metrics, tables and plots of a trace written by hand."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from netfl.report import metrics, plots, summary
from netfl.trace import DeviceUse, Evaluation, LinkUse, Request, Round, RunEnd, Trace, Transfer, Workload


def transfer(kind: str, outcome: str, sent: int, wasted: int) -> Transfer:
    return Transfer(
        transfer=1,
        workload="training",
        kind=kind,
        label="",
        source="a",
        destination="c",
        route="a>b>c",
        payload_bytes=100,
        start_s=0.0,
        end_s=1.0,
        outcome=outcome,
        attempts=1,
        sent_bytes=sent,
        wasted_bytes=wasted,
        latency_s=0.0,
        stalled_s=0.0,
    )


def link_use(link: str, kind: str, sent: int, delivered: int, wasted: int, *, back: bool = False) -> LinkUse:
    return LinkUse(
        link=link,
        source="b" if back else "a",
        destination="a" if back else "b",
        workload="training",
        kind=kind,
        sent_bytes=sent,
        delivered_bytes=delivered,
        wasted_bytes=wasted,
        in_flight_bytes=sent - delivered - wasted,
        transmit_j=0.0,
        receive_j=0.0,
    )


def request(number: int, arrival_s: float, end_s: float, outcome: str, correct: int, deadline_s: float = 1.0) -> Request:
    latency_s = end_s - arrival_s
    return Request(
        request=number,
        workload="serving",
        device="a",
        sample=0,
        version=0,
        placement="a:0-9",
        arrival_s=arrival_s,
        end_s=end_s,
        deadline_s=deadline_s,
        outcome=outcome,
        correct=correct,
        queue_s=0.125 * latency_s,
        compute_s=0.25 * latency_s,
        transmit_s=0.5 * latency_s,
        propagation_s=0.125 * latency_s,
    )


def device_use(device: str, tier: str, up: int, down: int) -> DeviceUse:
    return DeviceUse(
        device=device,
        tier=tier,
        busy_s=3.0,
        compute_j=1.0,
        idle_j=20.0,
        transmit_j=0.5,
        receive_j=0.25,
        bytes_up=up,
        bytes_down=down,
        peak_memory_bytes=1024,
        storage_bytes=512,
    )


def evaluation(version: int, time_s: float, accuracy: float) -> Evaluation:
    return Evaluation(workload="training", version=version, time_s=time_s, accuracy=accuracy, loss=1.0 - accuracy)


def a_round(number: int, start_s: float, end_s: float, accepted: int, aborted: int, failed: int) -> Round:
    return Round(
        workload="training",
        round=number,
        start_s=start_s,
        end_s=end_s,
        selected=4,
        accepted=accepted,
        aborted=aborted,
        failed=failed,
        version=number,
    )


ROWS: list[Any] = [
    transfer("model", "delivered", 110, 10),
    transfer("model", "aborted", 40, 40),
    transfer("update", "failed", 30, 30),
    transfer("update", "in_flight", 25, 5),
    evaluation(0, 0.0, 0.125),
    evaluation(1, 10.0, 0.5),
    evaluation(2, 20.0, 0.9375),
    evaluation(3, 40.0, 0.875),
    a_round(1, 0.0, 10.0, 4, 0, 0),
    a_round(2, 10.0, 20.0, 2, 1, 1),
    a_round(3, 20.0, 40.0, 3, 1, 0),
    # Answered after 0.25 0.5 0.75 and, late, 2 s; lost; unfinished after 1.5 s of 1 s and after 0.5 s of 1 s; run end at 50 s.
    request(1, 1.0, 1.25, "answered", 1),
    request(2, 2.0, 2.5, "answered", 0),
    request(3, 3.0, 3.75, "answered", 1),
    request(4, 4.0, 6.0, "answered", 1),
    request(5, 5.0, 5.5, "failed", -1),
    request(6, 48.5, 50.0, "censored", -1),
    request(7, 49.5, 50.0, "censored", -1),
    link_use("radio", "model", 150, 100, 50),
    link_use("radio", "update", 55, 0, 35, back=True),
    link_use("wire", "model", 100, 100, 0),
    device_use("a", "device", 55, 100),
    device_use("b", "gateway", 7, 9),
    device_use("c", "device", 5, 6),
    RunEnd(simulated_s=50.0, reason="50 s"),
]


def trace_of(rows: list[Any], path: Path | None = None) -> Trace:
    trace = Trace(path)
    trainings = {row.workload for row in rows if isinstance(row, Round | Evaluation)}
    servings = {row.workload for row in rows if isinstance(row, Request)}
    for role, names in (("training", trainings), ("serving", servings)):
        for name in sorted(names):
            trace.append(Workload(workload=name, role=role))
    for row in rows:
        trace.append(row)
    trace.flush()
    return trace


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return metrics(trace_of(ROWS).connection)


def test_bytes(found: dict[str, Any]) -> None:
    totals = found["bytes"]
    # Once a transfer: delivered = sent - wasted of those that arrived, in flight the same of those under way.
    assert totals["by_kind"] == {
        "model": {"sent": 150, "delivered": 100, "wasted": 50, "in_flight": 0},
        "update": {"sent": 55, "delivered": 0, "wasted": 35, "in_flight": 20},
    }
    assert (totals["total"], totals["wasted"]) == (205, 85)
    # Devices a and c; the gateway is not of tier `device`.
    assert (totals["up"], totals["down"]) == (60, 106)
    # Once on every link.
    assert totals["by_link"] == {
        "radio": {"sent": 205, "delivered": 100, "wasted": 85, "in_flight": 20},
        "wire": {"sent": 100, "delivered": 100, "wasted": 0, "in_flight": 0},
    }
    assert totals["over_links"] == {"sent": 305, "delivered": 200, "wasted": 85, "in_flight": 20}
    for sums in (*totals["by_kind"].values(), *totals["by_link"].values(), totals["over_links"]):
        assert sums["sent"] == sums["delivered"] + sums["wasted"] + sums["in_flight"]


def test_energy_and_devices(found: dict[str, Any]) -> None:
    # Three equal devices: 1 + 20 + 0.5 + 0.25 = 21.75 J each.
    assert found["energy_j"] == {"total": 65.25, "compute": 3.0, "idle": 60.0, "transmit": 1.5, "receive": 0.75}
    assert list(found["devices"]) == ["a", "b", "c"]
    assert found["devices"]["b"] == {
        "tier": "gateway",
        "compute_s": 3.0,
        "peak_memory_bytes": 1024,
        "storage_bytes": 512,
        "energy_j": 21.75,
        "bytes_up": 7,
        "bytes_down": 9,
    }


def test_training(found: dict[str, Any]) -> None:
    assert found["training"] == {
        "training": {
            "accuracy": 0.875,
            "best_accuracy": 0.9375,
            "loss": 0.125,
            "rounds": 3,
            # 10, 10 and 20 s.
            "mean_round_s": pytest.approx(40 / 3),
            # Exactly 0.5 counts as reached; 0.9375 was reached although it was lost again.
            "time_to_accuracy_s": {"0.5": 10.0, "0.8": 20.0, "0.9": 20.0, "0.95": None},
            "updates_accepted": 9,
            "updates_aborted": 2,
            "updates_failed": 1,
            "updates_skipped": 0,
            # The length of its dense model is not in this trace.
            "byte_fraction": None,
            "byte_fraction_after_first": None,
            "privacy": None,
            "noisy_sums": None,
        }
    }


def test_serving(found: dict[str, Any]) -> None:
    of = found["serving"]["serving"]
    assert (of["requests"], of["answered"], of["failed"], of["censored"]) == (7, 4, 1, 2)
    # Late: 4; lost: 5; past its deadline at the end: 6, but not 7.
    assert of["missed"] == 3 and of["miss_rate"] == 3 / 7
    # Least latency that half of the four do not exceed is the second; 95 % and 99 % need all four.
    assert (of["p50_s"], of["p95_s"], of["p99_s"]) == (0.5, 2.0, 2.0)
    # (0.25 + 0.5 + 0.75 + 2) / 4 = 0.875, cut in 1/8 1/4 1/2 1/8.
    assert of["mean_s"] == 0.875
    assert of["breakdown"] == {"queue_s": 0.109375, "compute_s": 0.21875, "transmit_s": 0.4375, "propagation_s": 0.109375}
    # Right: 1, 3 and 4 of four answers; in time: 1 and 3 of seven requests.
    assert of["accuracy"] == 0.75 and of["accuracy_within_deadline"] == 2 / 7


def test_no_deadline_misses_only_what_was_lost() -> None:
    rows = [request(1, 0.0, 9.0, "answered", 1, math.inf), request(2, 0.0, 9.0, "failed", -1, math.inf)]
    of = metrics(trace_of([*rows, request(3, 0.0, 9.0, "censored", -1, math.inf)]).connection)["serving"]["serving"]
    assert (of["missed"], of["accuracy_within_deadline"]) == (1, 1 / 3)


def test_no_answer_has_no_latency() -> None:
    of = metrics(trace_of([request(1, 0.0, 2.0, "failed", -1)]).connection)["serving"]["serving"]
    assert of["p50_s"] is of["mean_s"] is of["accuracy"] is of["breakdown"]["queue_s"] is None
    assert of["miss_rate"] == 1.0 and of["accuracy_within_deadline"] == 0.0


def test_metrics_are_strict_json_and_do_not_depend_on_where_the_trace_lies(tmp_path: Path, found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    trace_of(ROWS, tmp_path / "run.db").close()
    assert metrics(tmp_path / "run.db") == found


def test_a_loss_that_is_not_finite_is_no_number() -> None:
    diverged = Evaluation(workload="training", version=1, time_s=1.0, accuracy=0.1, loss=math.inf)
    assert metrics(trace_of([diverged]).connection)["training"]["training"]["loss"] is None


def test_a_killed_run_ends_at_its_last_row() -> None:
    found = metrics(trace_of([evaluation(0, 0.0, 0.5), a_round(1, 0.0, 12.0, 1, 0, 0)]).connection)
    assert (found["simulated_s"], found["stop_reason"]) == (12.0, None)
    assert found["devices"] == {} and found["bytes"]["total"] == 0


def test_an_empty_trace_has_metrics_and_a_summary_and_no_plots(tmp_path: Path) -> None:
    trace = trace_of([])
    found = metrics(trace.connection)
    assert (found["simulated_s"], found["training"], found["serving"]) == (0.0, {}, {})
    assert shown(found).strip() == "Simulated 0 s"
    assert plots(trace.connection, tmp_path / "plots") == []


def shown(found: dict[str, Any]) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(summary(found))
    return capture.get()


def test_summary_says_the_numbers(found: dict[str, Any]) -> None:
    lines = [" ".join(line.replace("│", " ").split()) for line in shown(found).splitlines()]
    for line in (
        "Simulated 50 s; ended by: 50 s",
        "time to accuracy 0.8 20 s",
        "time to accuracy 0.95 –",
        "accuracy at the end 87.5 %",
        "latency p50 500 ms",
        "transmit 438 ms",
        "missed deadline 3 (42.9 %)",
        "update 55 B 0 B 35 B 20 B",
        "all 205 B 100 B 85 B 20 B",
        "devices sent 60 B and received 106 B",
        "all devices 65.2 J 3 J 60 J 1.5 J 750 mJ",
    ):
        assert line in lines


def test_the_summary_says_how_much_was_trained(found: dict[str, Any]) -> None:
    assert "trained" not in shown(found)
    cold, warm = ({"trained_clients": trained, "reused_clients": reused} for trained, reused in ((1, 0), (0, 1278)))
    assert "1 update trained, 0 found in the store\n" in shown({**found, "work": cold})
    assert "0 updates trained, 1,278 found in the store\n" in shown({**found, "work": warm})


def test_names_are_not_markup(found: dict[str, Any]) -> None:
    renamed = {**found, "training": {"[bold]": found["training"]["training"]}}
    assert "[bold]" in shown(renamed)


def png_width_and_height(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_three_plots(tmp_path: Path) -> None:
    written = plots(trace_of(ROWS).connection, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["accuracy.png", "bytes_by_link.png", "latency.png"]
    for path in written:
        # 6.8 inches at 150 dots an inch.
        assert png_width_and_height(path)[0] == 1020


def test_a_plot_without_its_workload_is_left_out(tmp_path: Path) -> None:
    training = [row for row in ROWS if not isinstance(row, Request)]
    assert [path.name for path in plots(trace_of(training).connection, tmp_path)] == ["accuracy.png", "bytes_by_link.png"]
    serving = [row for row in ROWS if isinstance(row, Request)]
    assert [path.name for path in plots(trace_of(serving).connection, tmp_path)] == ["latency.png"]


def test_plots_of_the_least_and_of_the_uneven(tmp_path: Path) -> None:
    one = [evaluation(0, 0.0, 0.1), request(1, 0.0, 0.0, "answered", 1), link_use("radio", "model", 1, 1, 0)]
    assert len(plots(trace_of(one).connection, tmp_path)) == 3
    # Overlapping rounds, latencies over four orders, more rounds and links than are drawn one by one, an unknown kind.
    rounds = [a_round(i, float(i), i + 1.5, 1, 0, 0) for i in range(80)]
    requests = [request(i, float(i), i + 10.0 ** (i % 5 - 3), "answered", 1, math.inf) for i in range(80)]
    links = [link_use(f"link-{i}", "odd", 1000 + i, 1000, i) for i in range(40)]
    assert len(plots(trace_of([*rounds, *requests, *links, *one]).connection, tmp_path)) == 3
