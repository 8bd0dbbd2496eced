"""The report of a run of 500,000 trace rows: how long it takes to make, how large it is, how soon it answers in headless Chromium.

    python benchmarks/report.py [--json] [--rows N] [--keep FOLDER]

The trace is made by rule: 240 devices in 12 cells behind gateways, an edge and a cloud; rounds of training, and requests that are
answered on the edge. A tenth of the rows are rounds' transfers and computations, the rest come from requests: two transfers, one
computation and one request each. "interactive" is the time from the start of navigation until every chart is drawn and every control works,
plus the time from a click on Play to the frame that shows it. The limits are the project's own: 5 MB, and 2 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from netfl.network.topology import Link, Site, Topology
from netfl.report.page import Told, run_page
from netfl.trace import Computation, DeviceUse, Evaluation, LinkUse, Request, Round, RunEnd, Trace, Transfer, Workload

sys.path.insert(0, str(Path(__file__).parents[1]))

LIMIT_MB, LIMIT_S = 5.0, 2.0
CELLS, PER_CELL = 12, 20
END_S = 36_000.0


def topology() -> Topology:
    sites = [Site(name="cloud", tier="cloud"), Site(name="edge", tier="edge")]
    links = [Link(name="edge-cloud", a="edge", b="cloud", up_bps=1e9, down_bps=1e9)]
    for cell in range(CELLS):
        sites.append(Site(name=f"gateway-{cell}", tier="gateway"))
        links.append(Link(name=f"gateway-{cell}-edge", a=f"gateway-{cell}", b="edge", up_bps=1e8, down_bps=1e8))
        for number in range(PER_CELL):
            name = f"device-{cell}-{number}"
            sites.append(Site(name=name))
            links.append(Link(name=f"{name}-radio", a=name, b=f"gateway-{cell}", up_bps=1e6, down_bps=1e6))
    return Topology(sites, links)


def transfer(number: int, workload: str, kind: str, label: str, route: str, start_s: float, end_s: float, sent: int) -> Transfer:
    devices = route.split(">")
    return Transfer(
        transfer=number, workload=workload, kind=kind, label=label, source=devices[0], destination=devices[-1], route=route,
        payload_bytes=sent, start_s=start_s, end_s=end_s, outcome="delivered", attempts=1, sent_bytes=sent, wasted_bytes=0,
        latency_s=0.01, stalled_s=0.0,
    )  # fmt: skip


def write(num_rows: int, trace: Trace) -> None:
    """Rows by rule and by one random stream."""
    chance = np.random.default_rng(0)
    names = [f"device-{cell}-{number}" for cell in range(CELLS) for number in range(PER_CELL)]
    on_way = {name: (f"{name}>gateway-{name.split('-')[1]}>edge", f"edge>gateway-{name.split('-')[1]}>{name}") for name in names}
    trace.append(Workload(workload="training", role="training"))
    trace.append(Workload(workload="serving", role="serving"))
    count = 0
    rounds = num_rows // 10 // (3 * 20 + 2)
    round_s = END_S / max(1, rounds)
    for number in range(1, rounds + 1):
        start_s = (number - 1) * round_s
        for name in chance.choice(names, 20, replace=False):
            up, down = on_way[str(name)]
            t = start_s + np.cumsum(chance.uniform(0.02, 0.2, 3)) * round_s
            label = f"round {number}"
            trace.append(transfer(count + 1, "training", "model", label, f"cloud>{down}", start_s, float(t[0]), 100_000))
            trace.append(Computation(device=str(name), workload="training", kind="training", label=label, flop=1e8, queued_s=float(t[0]),
                                     start_s=float(t[0]), end_s=float(t[1]), busy_s=float(t[1] - t[0])))  # fmt: skip
            trace.append(transfer(count + 2, "training", "update", label, f"{up}>cloud", float(t[1]), float(t[2]), 30_000))
            count += 2
        trace.append(Round(workload="training", round=number, start_s=start_s, end_s=start_s + round_s, selected=20, accepted=20, aborted=0,
                           failed=0, version=number))  # fmt: skip
        trace.append(Evaluation(workload="training", version=number, time_s=start_s + round_s, accuracy=1 - 0.9 * 0.99**number, loss=0.5))
    for number, arrival_s in enumerate(np.sort(chance.uniform(0, END_S - 1, (num_rows - num_rows // 10) // 4)).tolist(), 1):
        name = names[int(chance.integers(len(names)))]
        up, down = on_way[name]
        parts = chance.exponential((0.01, 0.02, 0.05), 3)
        end_s = arrival_s + float(parts.sum()) + 0.02
        label = f"request {number}"
        trace.append(transfer(count + 1, "serving", "activation", label, up, arrival_s, arrival_s + float(parts[2]) / 2, 800))
        trace.append(Computation(device="edge", workload="serving", kind="inference", label=label, flop=1e7, queued_s=arrival_s,
                                 start_s=arrival_s, end_s=arrival_s + float(parts[1]), busy_s=float(parts[1])))  # fmt: skip
        trace.append(transfer(count + 2, "serving", "reply", label, down, end_s - float(parts[2]) / 2, end_s, 50))
        trace.append(Request(request=number, workload="serving", device=name, sample=0, version=1, placement=f"{name}:0-4 edge:4-11",
                             arrival_s=arrival_s, end_s=end_s, deadline_s=0.25, outcome="answered", correct=1, queue_s=float(parts[0]),
                             compute_s=float(parts[1]), transmit_s=float(parts[2]), propagation_s=0.02))  # fmt: skip
        count += 2
    for link in topology().links.values():
        for source, destination in ((link.a, link.b), (link.b, link.a)):
            trace.append(LinkUse(link=link.name, source=source, destination=destination, workload="training", kind="model", sent_bytes=1000,
                                 delivered_bytes=1000, wasted_bytes=0, in_flight_bytes=0, transmit_j=1.0, receive_j=1.0))  # fmt: skip
    for site in topology().sites.values():
        trace.append(DeviceUse(device=site.name, tier=site.tier, busy_s=1.0, compute_j=1.0, idle_j=1.0, transmit_j=1.0, receive_j=1.0,
                               bytes_up=1, bytes_down=1, peak_memory_bytes=1, storage_bytes=1))  # fmt: skip
    trace.append(RunEnd(simulated_s=END_S, reason="10 h passed"))


def interactive_s(path: Path, repeats: int) -> list[float]:
    """Seconds until the page answers, one a visit."""
    from tests.browser.devtools import browser

    found = []
    with browser() as opened:
        for _ in range(repeats):
            page = opened.page(path)
            ready_ms = page.run("performance.getEntriesByName('netfl ready')[0].startTime")
            click_ms = page.run(
                "new Promise((good) => { const began = performance.now(); document.getElementById('play').click(); "
                "requestAnimationFrame(() => requestAnimationFrame(() => good(performance.now() - began))); })"
            )
            found.append((ready_ms + click_ms) / 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--keep", type=Path, help="folder in which to leave run.db and report.html")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.db").unlink(missing_ok=True)
        trace = Trace(folder / "run.db")
        write(given.rows, trace)
        trace.close()
        began_s = time.process_time()
        page = run_page(folder / "run.db", topology(), Told(name=f"{given.rows:,} rows"))
        made_s = time.process_time() - began_s
        path = folder / "report.html"
        path.write_text(page, encoding="utf-8")
        page_mb = path.stat().st_size / 1e6
        case = f"report of {given.rows} rows"
        found: list[dict[str, object]] = [
            {
                "case": f"{case}: size",
                "baseline": f"limit of {LIMIT_MB:g} MB",
                "ratio": LIMIT_MB / page_mb,
                "page_mb": page_mb,
                "made_cpu_s": made_s,
            }
        ]
        try:
            from tests.browser.devtools import CHROMIUM
        except ImportError:
            CHROMIUM = None
        if CHROMIUM is None:
            found.append({"case": f"{case}: interactive", "baseline": "absent: needs Chromium and websockets"})
        else:
            taken_s = statistics.median(interactive_s(path, 5))
            found.append(
                {
                    "case": f"{case}: interactive",
                    "baseline": f"limit of {LIMIT_S:g} s",
                    "ratio": LIMIT_S / taken_s,
                    "netfl_s": taken_s,
                    "baseline_s": LIMIT_S,
                }
            )
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(f"page: {page_mb:.2f} MB (limit {LIMIT_MB:g}), made in {made_s:.1f} s of CPU")
    print(f"interactive after {found[1].get('netfl_s', 'unknown')} s (limit {LIMIT_S:g})")


if __name__ == "__main__":
    main()
