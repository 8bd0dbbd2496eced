"""The network against SimGrid: how long N transfers take to simulate, and how the cost grows with N.

    python benchmarks/network.py [--json] [--repeats 3] [--most 100000] [--only "star 10000"] [--compiled]
    python benchmarks/network.py --profile "star 10000"
    python benchmarks/network.py --idle 1000000

Each case has two rows. `<case> solver` drives the sharing solver alone (`netfl.network.clocks.Shares`). `<case> send` goes through
`World.send`: devices, processors, routes, SimPy events, and the trace with its digest, written to a file on disk.

- star: uploads of 1 MB at time 0 over access links of 1-50 Mbit/s and 5-80 ms to a server behind 1 Gbit/s.
- tree: the same through 100 gateways, each of 10 Mbit/s and 1 ms: all of them together are as fast as the server's link, so that
  bottlenecks change all the time. `tree of wide gateways` has 1 Gbit/s for each, which never fill.
- mesh: 1 MB between random pairs of 200 nodes, links of 5-50 Mbit/s and 2-20 ms, routes of least latency (5.1 hops on average), twenty
  starts a second. `dense mesh`: all starts within 8 s.

The baseline is SimGrid, driven by `simgrid_driver.cpp`: plain max-min sharing, links without latency and each transfer started when its
latency has passed, routes given to it. Of the kinds of zone that can express a case (star and full; for meshes full), the one that was faster at
1,000 transfers is used. Its time is the library's set-up and run; reading the case and loading the library are not counted. netfl's
time is everything from a list of sites and links to the last row of the trace: topology, world, route search, run, closing the books;
for `solver`, making the capacities and paths, and the run. Both are CPU seconds of a process of its own, in turns; the best of the
repeats counts (of a baseline of more than 5 s the first), and on netfl's side Python looks for garbage as seldom as in `netfl run`.
Before a ratio is given, the finish of
every transfer is compared: equal to 1e-6 s, or the script fails.

`--compiled` installs netfl once more, in a temporary folder and with solver, fabric and transfers as machine code
(`docs/how-it-works.md`), and measures that in turns with the other; its rows end in "compiled".

`--idle` makes a star of so many devices with every kind of outage, batteries, recorded bandwidth and losses in bursts, lets one of them send
for an hour of simulated time, and prints what the others cost beside a star of devices that have none of it.

Where g++ or SimGrid (Debian: `apt install g++ libsimgrid-dev`) is absent the script says so, and gives netfl's times alone.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import os
import pstats
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from netfl.compute import DeviceProfile
from netfl.memory import collecting_seldom
from netfl.network.battery import Battery
from netfl.network.bursts import LossBursts
from netfl.network.clocks import Capacity, Shares
from netfl.network.outages import ExponentialOutages, PhoneDiurnal, WeibullOutages
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid
from netfl.network.variation import Rates
from netfl.randomness import Streams
from netfl.trace import Trace
from netfl.world import Message, World

DRIVER = Path(__file__).with_name("simgrid_driver.cpp")
BASELINE = "SimGrid, plain max-min"
MESSAGE_BYTES = 1_000_000
TOLERANCE_S = 1e-6
PROFILE = DeviceProfile(
    inference_flop_per_s=1e9, training_flop_per_s=1e9, memory_bytes_per_s=1e9, overhead_s=0.0, memory_bytes=10**9, idle_w=1.0, busy_w=2.0
)


class Start(NamedTuple):
    """One transfer: when, from where, to where."""

    time_s: float
    source: str
    destination: str


# --- the cases --------------------------------------------------------------------------------------------------------------


def uploads(count: int, gateways: int = 0, gateway_bps: float = 0.0) -> tuple[list[Site], list[Link], list[Start]]:
    choose = random.Random(1)
    sites = [Site(name="server", tier="cloud"), Site(name="core", tier="edge")]
    links = [Link(name="server link", a="core", b="server", up_bps=1e9, down_bps=1e9)]
    for i in range(gateways):
        sites.append(Site(name=f"gateway {i}", tier="gateway"))
        links.append(Link(name=f"gateway link {i}", a=f"gateway {i}", b="core", up_bps=gateway_bps, down_bps=gateway_bps, latency_s=0.001))
    for i in range(count):
        rate, latency = choose.uniform(1e6, 50e6), choose.uniform(0.005, 0.08)
        sites.append(Site(name=f"device {i}"))
        to = f"gateway {i % gateways}" if gateways else "core"
        links.append(Link(name=f"access {i}", a=f"device {i}", b=to, up_bps=rate, down_bps=rate, latency_s=latency))
    return sites, links, [Start(0.0, f"device {i}", "server") for i in range(count)]


def mesh(count: int, within_s: float, nodes: int = 200, joints: int = 315) -> tuple[list[Site], list[Link], list[Start]]:
    """A random tree of the nodes, and links between random pairs until there are `joints`."""
    choose = random.Random(1)
    names = [f"node {i}" for i in range(nodes)]
    pairs = {(choose.randrange(i), i) for i in range(1, nodes)}
    while len(pairs) < joints:
        a, b = sorted(choose.sample(range(nodes), 2))
        pairs.add((a, b))
    links = []
    for a, b in sorted(pairs):
        rate = choose.uniform(5e6, 50e6)
        links.append(
            Link(name=f"{a} - {b}", a=names[a], b=names[b], up_bps=rate, down_bps=rate, latency_s=choose.uniform(0.002, 0.02)),
        )
    starts = sorted(Start(choose.uniform(0, within_s), *choose.sample(names, 2)) for _ in range(count))
    return [Site(name=name) for name in names], links, starts


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        name: as in the table, without "solver" and "send".
        kind: star, tree, wide tree, mesh or dense mesh.
        count: how many transfers.
        baseline: whether SimGrid can stand it.
    """

    name: str
    kind: str
    count: int
    baseline: bool = True

    def parts(self) -> tuple[list[Site], list[Link], list[Start]]:
        if self.kind == "star":
            return uploads(self.count)
        if self.kind == "tree":
            return uploads(self.count, 100, 10e6)
        if self.kind == "wide tree":
            return uploads(self.count, 100, 1e9)
        return mesh(self.count, 8.0 if self.kind == "dense mesh" else self.count / 20)

    @property
    def zones(self) -> tuple[str, ...]:
        """The kinds of SimGrid's zone that can express the case; `dijkstra` and `floyd` take fewest hops, not least latency."""
        return ("full",) if "mesh" in self.kind else ("star", "full")


CASES = [
    Case("star 10000", "star", 10_000),
    Case("tree 10000", "tree", 10_000),
    Case("tree of wide gateways 10000", "wide tree", 10_000, baseline=False),
    Case("mesh 1000", "mesh", 1_000),
    Case("dense mesh 1000", "dense mesh", 1_000),
    *(Case(f"{kind} {count}", kind, count, count <= 3_000) for kind in ("star", "tree") for count in (1_000, 3_000, 30_000, 100_000)),
]
GROWTH = ("star", "tree")
_LONG_S = 5.0
"""A baseline that takes longer than this is run once: it scatters by less than its distance."""


# --- netfl ------------------------------------------------------------------------------------------------------------------


def by_solver(case: Case) -> tuple[float, list[float]]:
    """CPU seconds of the sharing solver alone, and the finish of every transfer."""
    sites, links, starts = case.parts()
    topology = Topology(sites, links)
    routes = [topology.route(start.source, start.destination) for start in starts]
    rates = {(hop.link.name, hop.forward): hop.rate_bps for route in routes for hop in route.hops}
    hops = [[(hop.link.name, hop.forward) for hop in route.hops] for route in routes]
    order = sorted((start.time_s + route.latency_s, number) for number, (start, route) in enumerate(zip(starts, routes, strict=True)))
    ends = [math.nan] * len(starts)
    begin = time.process_time()
    shares = Shares()
    capacities: dict[tuple[str, bool], Capacity] = {key: shares.capacity(key[0], rate) for key, rate in rates.items()}
    loads = [shares.load(shares.path({capacities[key]: 1.0 for key in keys}), 8.0 * MESSAGE_BYTES, 1.0, i) for i, keys in enumerate(hops)]
    place = 0
    while True:
        now = shares.next_finish_s()
        if place < len(order) and order[place][0] < now:
            now = order[place][0]
        elif now == math.inf:
            break
        for load in shares.take_finished(now):
            shares.remove(load, now)
            ends[load.owner] = now
        while place < len(order) and order[place][0] <= now:
            shares.add(loads[order[place][1]], now)
            place += 1
        shares.settle(now)
    return time.process_time() - begin, ends


def by_send(case: Case) -> tuple[float, list[float]]:
    """CPU seconds through `World.send` with the trace on disk, and the finish of every transfer."""
    sites, links, starts = case.parts()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        world = World(
            topology=Topology(sites, links), profiles={site.name: PROFILE for site in sites}, transport=Fluid(),
            streams=Streams(1), trace=Trace(Path(folder) / "run.db"),
        )  # fmt: skip
        message = Message(kind="update", payload_bytes=MESSAGE_BYTES, workload="benchmark")
        sendings = []

        def sender() -> Iterator[Any]:
            for start in starts:
                if start.time_s > world.now:
                    yield world.sleep(start.time_s - world.now)
                sendings.append(world.send(start.source, start.destination, message))

        world.env.process(sender())
        world.env.run()
        world.finish("done")
        world.trace.close()
        took = time.process_time() - begin
    assert all(sending.delivered for sending in sendings)
    return took, [sending.transfer.end_s for sending in sendings]


THROUGH = {"solver": by_solver, "send": by_send}


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measured(case: Case, through: str, installed: Path | None) -> dict[str, Any]:
    """One run in a process of its own, so that its memory is its own; of netfl as it is imported here, or as it is installed in a folder."""
    command = [sys.executable, __file__, "--measure", case.name, "--through", through]
    environment = os.environ if installed is None else {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compiled(folder: Path) -> Path:
    """The folder, in which netfl is installed with solver, fabric and transfers as machine code; made from a copy, since building leaves files behind."""
    root, copy = Path(__file__).parents[1], folder / "source"
    shutil.copytree(root / "netfl", copy / "netfl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "installed"), str(copy)]
    subprocess.run(command, check=True, env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"})
    if not list(folder.glob("installed/netfl/network/clocks.*.so")):
        raise FileNotFoundError(f"pip left no machine code in {folder}")
    return folder / "installed"


# --- SimGrid ----------------------------------------------------------------------------------------------------------------


class AbsentError(Exception):
    """There is no baseline, for the reason given."""


def build(folder: Path) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        raise AbsentError("g++ is not installed")
    program = folder / "simgrid_driver"
    done = subprocess.run(
        [compiler, "-O2", "-std=c++17", str(DRIVER), "-o", str(program), "-lsimgrid"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-300:])
        raise AbsentError(f"simgrid_driver.cpp does not compile; is libsimgrid-dev installed? {reason}")
    return program


def statements(case: Case, zone: str) -> tuple[str, list[int]]:
    """The case as the driver reads it, and the number of the transfer behind each of its flows."""
    sites, links, starts = case.parts()
    topology = Topology(sites, links)
    hosts = {site.name: number for number, site in enumerate(sites)}
    numbers = {link.name: number for number, link in enumerate(links)}

    def of(hop: Any) -> str:
        return str(2 * numbers[hop.link.name] + (not hop.forward))

    lines = [f"zone {zone}"]
    for link in links:
        lines += [f"link {link.up_bps / 8!r}", f"link {link.down_bps / 8!r}"]
    lines += ["host"] * len(hosts)
    flows, told = [], set()
    for number, start in enumerate(starts):
        route = topology.route(start.source, start.destination)
        source, destination = hosts[start.source], hosts[start.destination]
        flows.append((start.time_s + route.latency_s, number, f"{MESSAGE_BYTES} {source} {destination}"))
        if zone == "full" and (source, destination) not in told:
            told.add((source, destination))
            lines.append(f"route {source} {destination} {len(route.hops)} {' '.join(of(hop) for hop in route.hops)}")
        elif zone == "star":
            # Every route ends with the server's link.
            *before, last = (of(hop) for hop in route.hops)
            lines.append(f"up {source} {len(before)} {' '.join(before)}")
            if not told:
                told.add((destination, destination))
                lines.append(f"down {destination} 1 {last}")
    flows.sort()
    return "\n".join([*lines, *(f"flow {time_s!r} {rest}" for time_s, _, rest in flows)]), [number for _, number, _ in flows]


def by_simgrid(program: Path, text: str, order: list[int]) -> tuple[float, list[float]]:
    """CPU seconds of set-up and run, and the finish of every transfer."""
    done = subprocess.run([str(program)], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the SimGrid driver failed with {done.returncode}: {done.stderr[-500:]}")
    set_up_s, run_s, *finish_s = (float(line) for line in done.stdout.split())
    ends = [math.nan] * len(order)
    for number, end_s in zip(order, finish_s, strict=True):
        ends[number] = end_s
    return set_up_s + run_s, ends


# --- the table --------------------------------------------------------------------------------------------------------------


def compare(case: Case, ends: list[list[float]]) -> None:
    for other in ends[1:]:
        apart = max(abs(a - b) for a, b in zip(ends[0], other, strict=True))
        if not apart <= TOLERANCE_S:
            raise SystemExit(f"{case.name}: finish times differ by {apart:g} s: nothing is compared")


class Bench:
    def __init__(self, program: Path | None, absent: str, repeats: int, installed: Path | None) -> None:
        self.variants: dict[str, tuple[str, Path | None]] = {through: (through, None) for through in THROUGH}
        if installed is not None:
            self.variants |= {f"{through}, compiled": (through, installed) for through in THROUGH}
        self.program = program
        self.absent = absent
        self.repeats = repeats
        self.zone: dict[str, str] = {}

    def faster_zone(self, case: Case) -> str:
        assert self.program is not None
        if case.kind not in self.zone:
            small = Case("", case.kind, 1_000)
            texts = {zone: statements(small, zone) for zone in case.zones}
            took = {zone: min(by_simgrid(self.program, *text)[0] for _ in range(3)) for zone, text in texts.items()}
            self.zone[case.kind] = min(took, key=lambda zone: took[zone])
        return self.zone[case.kind]

    def rows(self, case: Case) -> list[dict[str, Any]]:
        best: dict[str, float] = {}
        peak: dict[str, int] = {}
        text = None
        if self.program is not None and case.baseline:
            text = statements(case, self.faster_zone(case))
        for _ in range(self.repeats if case.count <= 10_000 else 1):
            ends = []
            for name, variant in self.variants.items():
                found = measured(case, *variant)
                best[name] = min(best.get(name, math.inf), found["cpu_s"])
                peak[name] = max(peak.get(name, 0), found["peak_bytes"])
                ends.append(found["end_s"])
            if text is not None and self.program is not None and best.get("baseline", 0.0) < _LONG_S:
                took, baseline_ends = by_simgrid(self.program, *text)
                best["baseline"] = min(best.get("baseline", math.inf), took)
                ends.append(baseline_ends)
            compare(case, ends)
        if text is not None:
            baseline = f"{BASELINE}, {self.zone[case.kind]} zone"
        else:
            baseline = f"none: {self.absent}" if self.program is None else f"none: {BASELINE} is not run on this many"
        baseline_s = best.get("baseline")
        return [
            {
                "case": f"{case.name} {name}", "baseline": baseline, "ratio": None if baseline_s is None else baseline_s / best[name],
                "netfl_s": best[name], "baseline_s": baseline_s, "peak_bytes": peak[name],
            }
            for name in self.variants
        ]  # fmt: skip


def told(case: Case, row: dict[str, Any]) -> str:
    each = f"{row['netfl_s'] / case.count * 1e6:6.1f} us each, {row['peak_bytes'] / 1e6:4.0f} MB"
    against = f"{row['baseline']}" if row["ratio"] is None else f"{row['baseline_s']:8.4f} s ({row['baseline']}): {row['ratio']:.2f} x"
    return f"{row['case']:38} {row['netfl_s']:8.4f} s ({each}); {against}"


def growth(rows: list[dict[str, Any]], kind: str, through: str) -> list[str]:
    """How the cost of one transfer grows from 1,000 transfers on, beside log N."""
    found = {row["case"]: row["netfl_s"] for row in rows}
    counts = sorted(case.count for case in CASES if case.kind == kind and f"{case.name} {through}" in found)
    if len(counts) < 2:
        return []
    first = found[f"{kind} {counts[0]} {through}"] / counts[0]
    costs = (
        f"{count}: {found[f'{kind} {count} {through}'] / count / first:.2f} (log {math.log(count) / math.log(counts[0]):.2f})"
        for count in counts
    )
    return [f"{kind} {through}, cost of one transfer relative to that at {counts[0]}: {', '.join(costs)}"]


def profile(case: Case) -> None:
    """Shares of the time spent in each module's own code, and in the 15 functions that take most."""
    profiler = cProfile.Profile()
    with collecting_seldom():
        profiler.enable()
        by_send(case)
        profiler.disable()
    modules: dict[str, list[float]] = {}
    functions = []
    for (file, _, function), (_, calls, own_s, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if Path(file).name == Path(__file__).name:
            continue
        name = "built-in" if file == "~" else "/".join(Path(file).parts[-2:])
        found = modules.setdefault(name, [0.0, 0])
        found[0] += own_s
        found[1] += calls
        functions.append((own_s, f"{name}:{function}", calls))
    total = sum(own_s for own_s, _ in modules.values())
    for own_s, name, calls in sorted(((own_s, name, calls) for name, (own_s, calls) in modules.items()), reverse=True)[:15]:
        print(f"{own_s / total:6.1%}  {calls / case.count:7.1f} calls each  {name}")
    print()
    for own_s, name, calls in sorted(functions, reverse=True)[:15]:
        print(f"{own_s / total:6.1%}  {calls / case.count:7.1f} calls each  {name}")


IDLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "outages": (
        {"outages": ExponentialOutages(mean_up=3600.0, mean_down=60.0)},
        {"outages": WeibullOutages(up_scale=3600.0, down_scale=60.0)},
    ),
    "availability": ({"outages": PhoneDiurnal()}, {}),
    "battery": ({"battery": Battery(capacity=1e5, harvest=0.5)}, {}),
    "recorded bandwidth": ({}, {"up_rates": Rates([0.0, 1.0], [1e6, 2e6], 2.0), "down_rates": Rates([0.0, 1.0], [2e6, 1e6], 2.0)}),
    "losses in bursts": ({}, {way: LossBursts(mean_good=10.0, mean_bad=1.0, loss_in_bad=0.1) for way in ("bursts_up", "bursts_down")}),
}
"""What each site and each link of a star has."""


def idle(count: int, what: str) -> dict[str, Any]:
    """One of so many devices sends 1 MB; the rest are there. What the world takes beside its topology, over an hour."""
    of_site, of_link = IDLE[what]
    # The first device has none of it, so that the transfer is the same one.
    sites = [Site(name="server"), Site(name="d0"), *(Site(name=f"d{i}", **of_site) for i in range(1, count))]
    links = [
        Link(name=f"l{i}", a=f"d{i}", b="server", up_bps=1e6, down_bps=1e6, latency_s=0.01, **(of_link if i else {})) for i in range(count)
    ]
    topology = Topology(sites, links)
    topology.route("d0", "server")
    profiles = dict.fromkeys(topology.sites, PROFILE)
    begin, held = time.process_time(), resident_bytes()
    world = World(topology=topology, profiles=profiles, transport=Tcp(), streams=Streams(1), trace=Trace())
    sending = world.send("d0", "server", Message(kind="update", payload_bytes=MESSAGE_BYTES, workload="benchmark"))
    world.sleep(3600.0)
    events = 0
    while world.step():
        events += 1
    ran, held_then = time.process_time(), resident_bytes()
    assert sending.delivered
    world.finish("done")
    return {
        "what": what, "events": events, "run_s": ran - begin, "run_bytes": held_then - held, "books_s": time.process_time() - ran,
        "topology_bytes": held,
    }  # fmt: skip


def resident_bytes() -> int:
    """Memory of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status names no VmRSS")


def tell_of_idle(count: int) -> None:
    print(f"{count:,} devices, one of which sends: what the world takes in an hour, each kind in a process of its own")
    for what in IDLE:
        command = [sys.executable, __file__, "--idle", str(count), "--idle-with", what]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{what:20} {found['events']:5} events, {found['run_s']:6.2f} s, {found['run_bytes'] / count:6.0f} bytes a device; "
            f"closing the books {found['books_s']:6.2f} s; before that, the topology {found['topology_bytes'] / 1e6:5.0f} MB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3, help="of the cases of at most 10,000 transfers")
    parser.add_argument("--most", type=int, default=100_000, help="largest number of transfers")
    parser.add_argument("--only", help="one case, as 'star 10000'")
    parser.add_argument("--compiled", action="store_true", help="measure the machine code too")
    parser.add_argument("--profile", help="where the time of one case goes through `World.send`, as 'star 10000'")
    parser.add_argument("--idle", type=int, help="what so many idle devices cost, with outages, batteries, recorded bandwidth and losses")
    parser.add_argument("--idle-with", choices=list(IDLE), help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--through", choices=list(THROUGH), help=argparse.SUPPRESS)
    options = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    for name in (options.only, options.measure, options.profile):
        if name is not None and name not in by_name:
            parser.error(f"no case '{name}'; there are: {', '.join(by_name)}")
    if options.measure:
        with collecting_seldom():
            cpu_s, end_s = THROUGH[options.through](by_name[options.measure])
        print(json.dumps({"cpu_s": cpu_s, "peak_bytes": peak_bytes(), "end_s": end_s}))
        return
    if options.idle is not None:
        with collecting_seldom():
            if options.idle_with:
                print(json.dumps(idle(options.idle, options.idle_with)))
            else:
                tell_of_idle(options.idle)
        return
    if options.profile:
        profile(by_name[options.profile])
        return
    with tempfile.TemporaryDirectory() as folder:
        program, absent = None, ""
        try:
            program = build(Path(folder))
        except AbsentError as reason:
            absent = f"{BASELINE}, is absent: {reason}"
            print(absent, file=sys.stderr)
        bench = Bench(program, absent, options.repeats, compiled(Path(folder) / "compiled") if options.compiled else None)
        rows: list[dict[str, Any]] = []
        for case in CASES:
            if case.count <= options.most and options.only in (None, case.name):
                for row in bench.rows(case):
                    rows.append(row)
                    if not options.json:
                        print(told(case, row), flush=True)
    if options.json:
        print(json.dumps([{key: value for key, value in row.items() if key != "peak_bytes"} for row in rows], indent=1))
    else:
        for kind in GROWTH:
            for through in THROUGH:
                print("\n".join(growth(rows, kind, through)))


if __name__ == "__main__":
    main()
