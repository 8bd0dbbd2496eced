"""What goes into a page: bytes by slice of time, phases of devices, curves, escaped text."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl.network.topology import Link, Site, Topology
from netfl.report.page import SweptRun, Told, draw_sweep, run_page, sweep_page
from netfl.report.page.flow import Slices, busy_shares, moved_bytes, slices_for, sparse, spread
from netfl.report.page.markup import amount, data_block, document, element, table
from netfl.report.page.phases import PHASES, timeline
from netfl.report.page.placements import by_family
from netfl.report.page.series import accuracy, latency
from netfl.report.page.sweep import figures_of
from netfl.trace import Computation, Outage, Round, RunEnd, Trace, Transfer, Workload
from tests.report.test_report import ROWS, evaluation, request, trace_of

TOPOLOGY = Topology(
    [Site(name="a"), Site(name="b", tier="gateway"), Site(name="c", tier="cloud")],
    [Link(name="radio", a="a", b="b", up_bps=1e6, down_bps=1e6), Link(name="wire", a="b", b="c", up_bps=1e8, down_bps=1e8)],
)


def moved(kind: str, route: str, start_s: float, end_s: float, sent: int, *, latency_s: float = 0.0, label: str = "round 1") -> Transfer:
    devices = route.split(">")
    return Transfer(
        transfer=1, workload="training", kind=kind, label=label, source=devices[0], destination=devices[-1], route=route,
        payload_bytes=sent, start_s=start_s, end_s=end_s, outcome="delivered", attempts=1, sent_bytes=sent, wasted_bytes=0,
        latency_s=latency_s, stalled_s=0.0,
    )  # fmt: skip


def trained(device: str, queued_s: float, start_s: float, end_s: float, label: str = "round 1") -> Computation:
    return Computation(
        device=device, workload="training", kind="training", label=label, flop=1.0, queued_s=queued_s, start_s=start_s, end_s=end_s,
        busy_s=end_s - start_s,
    )  # fmt: skip


def written(*rows: Any) -> Trace:
    trace = Trace()
    trace.append(Workload(workload="training", role="training"))
    for row in rows:
        trace.append(row)
    trace.flush()
    return trace


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    document_: dict[str, Any] = json.loads(found[1])
    return document_


def test_spread_lays_amounts_over_their_slices() -> None:
    """10 over [0.5, 2.5) of slices of 1: a quarter, a half, a quarter. 4 at an instant within the last: all there."""
    ends = np.array([[0.5, 2.5], [3.2, 3.2]])
    found = spread(ends[:, 0], ends[:, 1], np.array([10.0, 4.0]), np.array([1, 0]), 2, Slices(width_s=1.0, count=4))
    assert found.tolist() == [[0, 0, 0, 4], [2.5, 5, 2.5, 0]]


def test_spread_keeps_sums_and_agrees_with_the_plain_way() -> None:
    chance = np.random.default_rng(1)
    start_s = chance.uniform(0, 90, 500)
    end_s = np.minimum(start_s + chance.exponential(8, 500), 100)
    amount_ = chance.uniform(1, 1000, 500)
    row = chance.integers(0, 3, 500)
    slices = Slices(width_s=100 / 37, count=37)
    plain = np.zeros((3, 37))
    for begins, ends, value, place in zip(start_s, end_s, amount_, row, strict=True):
        for number in range(37):
            inside = min(ends, (number + 1) * slices.width_s) - max(begins, number * slices.width_s)
            plain[place, number] += value * max(0.0, inside) / (ends - begins)
    assert spread(start_s, end_s, amount_, row, 3, slices) == pytest.approx(plain, abs=1e-6)


def test_moved_bytes_are_on_all_links_of_the_route_after_the_silence() -> None:
    trace = written(moved("update", "a>b>c", 0.0, 2.0, 100, latency_s=1.0), moved("model", "c>b>a", 0.0, 2.0, 60))
    hops = {("a", "b"): 0, ("b", "a"): 1, ("b", "c"): 2, ("c", "b"): 3}
    found = moved_bytes(trace.connection, hops, ["model", "update"], 4, Slices(width_s=1.0, count=2))
    # Rows: hop x kind. The update is silent for its first second.
    assert found.tolist() == [[0, 0], [0, 100], [30, 30], [0, 0], [0, 0], [0, 100], [30, 30], [0, 0]]


def test_busy_shares() -> None:
    trace = written(trained("a", 0.0, 0.5, 1.5))
    assert busy_shares(trace.connection, {"a": 0, "b": 1}, Slices(width_s=1.0, count=2)).tolist() == [[0.5, 0.5], [0, 0]]


def test_more_rows_get_fewer_slices() -> None:
    assert slices_for(10.0, 10).count == 600
    assert slices_for(10.0, 1000).count == 240
    assert slices_for(10.0, 1_000_000).count == 60
    assert slices_for(0.0, 10).width_s > 0


def test_sparse_rows_are_read_back() -> None:
    values = np.array([0.0, 0.0, 3.0, 0.0, 12345.0])
    assert sparse(values) == {"i": [2, 2], "v": [3, 12300]}


def test_phases_of_a_round() -> None:
    """a: download 0-1, waits for its processor 1-2, computes 2-5, uploads 5-6, waits for the round's end 6-10; down for 1 s. b: too late."""
    trace = written(
        moved("model", "c>b>a", 0.0, 1.0, 10),
        trained("a", 1.0, 2.0, 5.0),
        moved("update", "a>b>c", 5.0, 6.0, 10),
        Computation(device="c", workload="training", kind="aggregation", label="round 1", flop=1.0, queued_s=6.0, start_s=6.0, end_s=10.0,
                    busy_s=4.0),
        Outage(element="a", element_kind="device", start_s=7.0, end_s=8.0),
        Outage(element="radio", element_kind="link", start_s=7.0, end_s=8.0),
        Round(workload="training", round=1, start_s=0.0, end_s=10.0, selected=1, accepted=1, aborted=0, failed=0, version=1),
    )  # fmt: skip
    found = timeline(trace.connection, 10.0)
    assert found is not None
    assert found.devices == ["a"]
    assert dict(zip(PHASES, found.seconds[0].tolist(), strict=True)) == {
        "download": 1,
        "compute": 3,
        "upload": 1,
        "waiting": 5,
        "outage": 1,
    }
    assert [span[:3] for span in found.spans[0]] == [(0, 0, 1), (3, 1, 2), (1, 2, 5), (2, 5, 6), (3, 6, 10), (4, 7, 8)]


def test_very_many_spans_become_columns_and_keep_their_seconds() -> None:
    rows = [trained("a", float(number), float(number), number + 0.75) for number in range(20_000)]
    trace = written(*rows)
    found = timeline(trace.connection, 20_000.0)
    assert found is not None
    assert found.column_s == pytest.approx(20_000 / 1200)
    assert found.seconds[0, 1] == 15_000
    # Every column is mostly computation: one span.
    assert found.spans == [[(1, 0.0, pytest.approx(20_000.0), "")]]


def test_no_training_no_timeline() -> None:
    assert timeline(written(moved("background", "a>b", 0.0, 1.0, 5)).connection, 1.0) is None


def test_latency_by_slices_is_that_of_the_requests() -> None:
    found = latency(trace_of(ROWS).connection, 50.0)[0]
    # Seven requests: one slice. Answered within 0.25, 0.5, 0.75 and 2 s; the late one, the lost one and one of the unfinished missed.
    assert (found["p50"], found["p95"], found["p99"], found["whole"]) == ([0.5], [2.0], [2.0], 2.0)
    assert (found["asked"], found["late"]) == ([7], [3])
    assert found["transmit"] == [pytest.approx(0.5 * (0.25 + 0.5 + 0.75 + 2.0) / 4)]
    assert found["deadline"] == 1.0
    assert found["sorted"] == [0.25, 0.5, 0.75, 2.0]


def test_curves_are_thinned_to_their_first_and_last() -> None:
    trace = trace_of([evaluation(number, float(number), 0.5) for number in range(5000)])
    found = accuracy(trace.connection)[0]
    assert len(found["t"]) == 1000
    assert (found["t"][0], found["t"][-1]) == (0.0, 4999.0)


def test_placements_by_family() -> None:
    rows = [request(number, float(number), number + 0.25, "answered", number % 2) for number in range(4)]
    rows = [type(row)(**{**{name: getattr(row, name) for name in row.__dataclass_fields__}, "placement": f"camera-{row.request}:0-3 edge:3-9"})
            for row in rows]  # fmt: skip
    # Two answers of four are right.
    assert by_family(trace_of(rows).connection) == [("camera-*:0-3 edge:3-9", [4, 4, 0.25, 0.25, 0.5])]


def test_text_is_escaped_everywhere() -> None:
    assert element("b", "", title="\"'<>&") == '<b title="&quot;&#x27;&lt;&gt;&amp;"></b>'
    assert amount(1.5, lambda value: "<b>") == '<data value="1.5">&lt;b&gt;</data>'
    assert "<i>" not in table("<i>", ["<i>"], [("<i>", [])], [])
    assert "</script" not in data_block({"a": "</script>"})[:-9]
    assert data_of(data_block({"a": "</script>&"})) == {"a": "</script>&"}
    with pytest.raises(ValueError, match="end its own element"):
        document("a", "", "", "'</SCRIPT>'")


def test_rows_beyond_the_limit_are_added_up() -> None:
    rows = [(f"row {number}", [1.0, None]) for number in range(1000)]
    made = table("many", ["name", "ones", "none"], rows, [str, str], total=True)
    assert made.count("<tr>") == 1 + 400 + 1 + 1
    assert "600 others together" in made
    assert made.count('value="1000.0"') == 1


def test_a_page_is_the_same_every_time_and_holds_its_policy() -> None:
    pages = [run_page(trace_of(ROWS).connection, TOPOLOGY, Told(name="one")) for _ in range(2)]
    assert pages[0] == pages[1]
    assert "default-src 'none'" in pages[0]
    assert "unsafe" not in pages[0]
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", pages[0])
    assert not re.search(r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|eval|fetch|XMLHttpRequest)\b", pages[0])


def test_a_page_from_a_trace_alone_says_so() -> None:
    page = run_page(trace_of(ROWS).connection, None, Told(name="one"))
    assert "drawn from the trace alone" in page
    assert {site[0] for site in data_of(page)["network"]["sites"]} == {"a", "b", "c"}


def test_a_run_that_was_cut_off_has_a_page() -> None:
    page = run_page(trace_of([row for row in ROWS if not isinstance(row, RunEnd)]).connection, TOPOLOGY, Told(name="one"))
    assert "did not reach its end" in page
    assert run_page(Trace().connection, TOPOLOGY, Told(name="nothing yet")).count("<section") >= 2


def test_numbers_that_are_none_are_no_numbers_of_the_page() -> None:
    trace = trace_of([type(evaluation(0, 0.0, 0.5))(workload="training", version=0, time_s=0.0, accuracy=0.5, loss=math.inf)])
    assert data_of(run_page(trace.connection, TOPOLOGY, Told(name="one")))["accuracy"][0]["loss"] == [None]


def swept(rate: str, replicate: int, time_s: float | None, total: int) -> SweptRun:
    metrics = {
        "training": {"training": {"time_to_accuracy_s": {"0.5": 1.0, "0.9": time_s}, "best_accuracy": 0.9}},
        "serving": {}, "bytes": {"total": total}, "energy_j": {"total": 5.0},
    }  # fmt: skip
    return SweptRun(settings={"rate": rate}, label="", replicate=replicate, folder="x", metrics=metrics)


def test_points_of_one_label_are_told_apart_and_what_a_point_leaves_alone_is_a_value() -> None:
    runs = [
        SweptRun(settings={"a.rate": rate, **more}, label=label, replicate=0, folder="x", metrics=swept(rate, 0, 4.0, 100).metrics)
        for rate in ("1 Mbit/s", "9 Mbit/s")
        for label, more in (("plain", {}), ("small", {"uplink": "quantize bits 8"}))
    ]
    data = data_of(sweep_page("study", runs, {}))
    assert [point["name"] for point in data["points"]] == [
        "plain, rate = 1 Mbit/s", "small, rate = 1 Mbit/s", "plain, rate = 9 Mbit/s", "small, rate = 9 Mbit/s",
    ]  # fmt: skip
    assert data["keys"][1] == {"name": "uplink", "values": ["as in the scenario", "quantize bits 8"]}
    assert [point["at"] for point in data["points"]] == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_sweep_is_drawn_for_where_a_page_cannot_go(tmp_path: Path) -> None:
    runs = [swept("10 Mbit/s", 0, 4.0, 100), swept("10 Mbit/s", 1, 6.0, 300), swept("2 Mbit/s", 0, None, 50)]
    assert draw_sweep(runs, tmp_path / "points.png")
    png = (tmp_path / "points.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert base64.b64encode(png).decode() in sweep_page("study", runs, {}, [("all points", png)])
    unfinished = SweptRun(settings={"rate": "2 Mbit/s"}, label="", replicate=2, folder="y", metrics=None)
    assert not draw_sweep([unfinished], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_points_of_a_sweep_are_means_over_replicates() -> None:
    runs = [swept("10 Mbit/s", 0, 4.0, 100), swept("10 Mbit/s", 1, 6.0, 300), swept("2 Mbit/s", 0, 8.0, 50), swept("2 Mbit/s", 1, None, 50)]
    assert [figure.name for figure in figures_of(runs)] == [
        "time to accuracy 0.5", "time to accuracy 0.9", "best accuracy", "bytes sent", "energy",
    ]  # fmt: skip
    unfinished = SweptRun(settings={"rate": "2 Mbit/s"}, label="", replicate=2, folder="y", metrics=None)
    page = sweep_page("study", [*runs, unfinished], {})
    data = data_of(page)
    assert data["keys"] == [{"name": "rate", "values": ["2 Mbit/s", "10 Mbit/s"]}]
    fast, slow = data["points"]
    assert (fast["at"], slow["at"]) == ([1], [0])
    # Mean, least and most; a replicate that did not get there leaves the point without a time.
    assert fast["numbers"] == [[1, 1, 1], [5, 4, 6], [0.9, 0.9, 0.9], [200, 100, 300], [5, 5, 5]]
    assert slow["numbers"][1] is None
    assert "1 of 5 runs have not finished" in page
    # t(0.975, 1) = 12.706; two values 2 apart: s = sqrt(2), half the interval 12.706 * sqrt(2) / sqrt(2).
    assert '± <data value="12.706' in page
    assert "12.7 s" in page
