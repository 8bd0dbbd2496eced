"""Background traffic: what is offered is what moves, and every pair draws by its own name."""

import itertools
import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.compute import DeviceProfile
from netfl.errors import ScenarioError
from netfl.network.links import TECHNOLOGIES
from netfl.network.outages import ScheduledOutages
from netfl.network.topology import Link, Medium, Site, Topology
from netfl.network.transport import Fluid
from netfl.randomness import Streams
from netfl.store import Store
from netfl.trace import Trace
from netfl.workloads import Session, Setting
from netfl.workloads.background import Background, Files, OnOff, Traffic, bounded_pareto, smallest_of
from netfl.workloads.checks import shortened
from netfl.world import World
from tests.workloads.small import small, training_only

PROFILE = DeviceProfile(
    inference_flop_per_s=1e9, training_flop_per_s=1e9, memory_bytes_per_s=1e9, overhead_s=0.0, memory_bytes=10**6, idle_w=1.0, busy_w=3.0
)
SENDERS = 4
TRUNK_BPS = 40e6


def world_of(replicate: int, down: Any = None) -> World:
    """Four devices, a gateway, and a server behind 40 Mbit/s and 10 ms."""
    sites = [Site(name="server", tier="cloud"), Site(name="gateway", tier="gateway")]
    links = [Link(name="trunk", a="gateway", b="server", up_bps=TRUNK_BPS, down_bps=TRUNK_BPS, latency_s=0.01)]
    for i in range(SENDERS):
        sites.append(Site(name=f"node-{i}", outages=down))
        links.append(Link(name=f"access-{i}", a=f"node-{i}", b="gateway", up_bps=30e6, down_bps=30e6))
    return World(
        topology=Topology(sites, links), profiles={site.name: PROFILE for site in sites}, transport=Fluid(),
        streams=Streams(3, replicate), trace=Trace(),
    )  # fmt: skip


def sent(traffic: Traffic, replicate: int, until_s: float, pairs: Any = (("node-*", "server"),), down: Any = None) -> sqlite3.Connection:
    """The trace of a run of nothing but background traffic."""
    world = world_of(replicate, down)
    session = Session(world, Store(), None)
    world.env.process(Background(pairs=pairs, traffic=traffic).start(session, "others"))
    world.env.run(until=until_s)
    session.finish("time")
    return world.trace.connection


@pytest.mark.parametrize(
    ("traffic", "offered"),
    [
        # 4 pairs, 5 files a second, 100 kB each: 16 Mbit/s of 40.
        (Files(rate=5.0, mean=100_000, shape=1.5, largest=2_000_000), 0.4),
        # 4 pairs, 12 Mbit/s for a third of the time: 16 Mbit/s of 40.
        (OnOff(rate=12e6, mean_on=0.2, mean_off=0.4, message=50_000), 0.4),
    ],
)
def test_measured_utilisation_is_the_offered_load(traffic: Traffic, offered: float) -> None:
    duration_s, replicates = 50.0, 16
    measured = []
    for replicate in range(replicates):
        ((moved_bytes,),) = sent(traffic, replicate, duration_s).execute("SELECT sum(sent_bytes) FROM link_use WHERE link = 'trunk'")
        measured.append(8 * moved_bytes / (TRUNK_BPS * duration_s))
    assert SENDERS * traffic.offered_bps / TRUNK_BPS == pytest.approx(offered)
    error = np.std(measured, ddof=1) / math.sqrt(replicates)
    # So narrow that a wrong mean would show.
    assert error < 0.02 * offered
    assert abs(np.mean(measured) - offered) < 3 * error


@pytest.mark.parametrize(("shape", "largest"), [(1.5, 1e8), (1.0, 1e8), (0.8, 2e7), (2.5, 1e9)])
def test_lengths_follow_the_bounded_pareto_law(shape: float, largest: float) -> None:
    smallest = smallest_of(1e6, shape, largest)
    # Its mean by quadrature over the logarithm of x: x * density(x) dx = shape * L ** a * x ** (1 - a) d(log x) / (1 - (L / H) ** a).
    at = np.exp(np.linspace(math.log(smallest), math.log(largest), 200_001))
    density = shape * smallest**shape * at ** (1 - shape) / (1 - (smallest / largest) ** shape)
    mean = float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(np.log(at))))
    assert mean == pytest.approx(1e6, rel=1e-6)
    # Its quantiles: P(X > x) = ((L / x) ** a - (L / H) ** a) / (1 - (L / H) ** a).
    uniform = np.array([0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
    drawn = bounded_pareto(uniform, smallest, largest, shape)
    beyond = ((smallest / drawn) ** shape - (smallest / largest) ** shape) / (1 - (smallest / largest) ** shape)
    np.testing.assert_allclose(beyond, 1 - uniform, atol=1e-12)
    assert drawn[0] == smallest
    assert drawn[-1] == pytest.approx(largest)


def test_files_are_within_their_bounds() -> None:
    files = Files(rate=1.0, mean=1_000_000, shape=1.5, largest=5_000_000)
    lengths = [length for _, length in itertools.islice(files.messages(Streams(1).stream("x")), 20_000)]
    assert round(smallest_of(1e6, 1.5, 5e6)) <= min(lengths) < max(lengths) <= 5_000_000
    # The variance of a length is at most that of a value that is 0 or 5 MB: 1 * (5 - 1) = 4 MB^2; 3 standard errors are 42 kB.
    assert abs(np.mean(lengths) - 1e6) < 42_000


def test_an_on_off_source_by_hand() -> None:
    """Every on time is cut into whole messages and a rest, and no bit is lost."""
    # 8 * 1000 B / 80 kbit/s = 0.1 s a message.
    source = OnOff(rate=80_000.0, mean_on=0.35, mean_off=1.0, message=1000)
    messages = list(itertools.takewhile(lambda each: each[0] < 3000, source.messages(Streams(2).stream("x"))))
    times = [time_s for time_s, _ in messages]
    assert times == sorted(times)
    for (time_s, length), (later_s, later_length) in itertools.pairwise(messages):
        if length == 1000 and later_s - time_s < 0.1 - 1e-9:
            # The rest of an on time: as many bytes as the time since the last message made.
            assert later_length == round((later_s - time_s) * 10_000)
        assert length <= 1000
    # On for 0.35 of 1.35 s: about 2222 times, 778 s in all, 7.78 MB; each on and off time varies by its mean, so the sum varies by
    # sqrt(2222) * sqrt((0.35 * 1.0) ** 2 + (1.0 * 0.35) ** 2) / 1.35 = 17.3 s, or 2.2 %.
    assert sum(length for _, length in messages) == pytest.approx(7.78e6, rel=3 * 0.022)


def firsts(source: OnOff, count: int) -> list[tuple[float, int]]:
    """The first message of so many sources."""
    return [next(source.messages(Streams(2, replicate).stream("x"))) for replicate in range(count)]


def test_it_is_on_at_time_0_as_often_as_later() -> None:
    # A source that is on for 3 of 4 s sends within 0.1 s, the time of a message, if it is on at time 0: a whole message, or the rest when it
    # goes off. One that is off does if off and on time together are shorter: 0.25 * 0.1 ** 2 / (2 * 1 * 3) = 0.0004. Of 2,000 sources
    # 0.7504 in all, 3 standard errors of which are 2.9 %.
    source = OnOff(rate=80_000.0, mean_on=3.0, mean_off=1.0, message=1000)
    assert sum(time_s <= 0.1 for time_s, _ in firsts(source, 2000)) / 2000 == pytest.approx(0.7504, abs=0.029)


def test_sources_that_are_on_at_time_0_are_anywhere_in_a_message() -> None:
    # On for a long time: the first whole message of 0.1 s comes at a time that is uniform from 0 to 0.1 s. Of n = 1,000 such times the
    # distribution function is nowhere farther than 1.63 / sqrt(n) = 0.052 from a straight line, in 99 of 100 cases (Kolmogorov, Smirnov).
    source = OnOff(rate=80_000.0, mean_on=1e4, mean_off=1e-3, message=1000)
    first = firsts(source, 1000)
    assert {length for _, length in first} <= {1000, *range(1, 1000)}
    phases = np.sort([time_s for time_s, length in first if length == 1000]) / 0.1
    assert len(phases) > 990
    assert np.max(np.abs(phases - np.arange(len(phases)) / len(phases))) < 0.052


def test_half_a_message_is_there_at_time_0_when_messages_are_as_long_as_on_times() -> None:
    # Messages take 1 s, on times 1 s on average: what a source that is on has made of its message, m seconds of it, has density
    # exp(-m) / (1 - exp(-1)) up to 1 s, of mean 1 - exp(-1) / (1 - exp(-1)) = 0.4180. It stays on until the message is whole with
    # probability E[exp(-(1 - m))] = exp(-1) / (1 - exp(-1)) * integral of exp(m) exp(-m) = 0.5820. So of 4,000 sources, nearly all of which
    # are on, 0.5820 send a whole message first; 3 standard errors are 0.0234.
    source = OnOff(rate=8_000.0, mean_on=1.0, mean_off=1e-6, message=1000)
    whole = sum(length == 1000 for _, length in firsts(source, 4000)) / 4000
    assert whole == pytest.approx(0.5820, abs=0.0234)


def test_a_pair_draws_by_its_own_name() -> None:
    traffic = Files(rate=2.0)
    query = "SELECT start_s, payload_bytes, label FROM transfers WHERE source = 'node-1' ORDER BY transfer"
    alone = sent(traffic, 0, 10.0, (("node-1", "server"),)).execute(query).fetchall()
    together = sent(traffic, 0, 10.0).execute(query).fetchall()
    assert len(alone) > 5
    assert alone == together
    assert alone != sent(traffic, 1, 10.0, (("node-1", "server"),)).execute(query).fetchall()


def test_a_device_that_is_down_sends_nothing() -> None:
    down = ScheduledOutages(down=((2.0, 9.0),))
    rows = sent(Files(rate=5.0, mean=1000, largest=9000), 0, 10.0, down=down).execute("SELECT start_s FROM transfers").fetchall()
    assert rows
    assert not [start_s for (start_s,) in rows if 2.0 <= start_s < 9.0]


def block(**changes: Any) -> dict[str, Any]:
    files = {"kind": "files", "rate": "1 per s", "mean": "2 kB", "largest": "100 kB"}
    return {"kind": "background", "pairs": [["node-1", "cloud"]], "traffic": files, **changes}


def beside_training(background: dict[str, Any], **changes: Any) -> dict[str, Any]:
    scenario = training_only(**changes)
    scenario["workloads"]["others"] = background
    return scenario


def test_beside_training(tmp_path: Path) -> None:
    alone = run(training_only(training__rounds=2))
    # 4 times 12 * 2 kB a second: 768 kbit/s of the cell's 1 Mbit/s.
    busy = block(pairs=[["node-*", "cloud"]], traffic={"kind": "files", "rate": "12 per s", "mean": "2 kB", "largest": "100 kB"})
    shared = run(beside_training(busy, training__rounds=2), output=tmp_path / "out")
    assert "background" not in alone.metrics["bytes"]["by_kind"]
    kept = shared.metrics["bytes"]["by_kind"]["background"]
    assert kept["sent"] == kept["delivered"] + kept["wasted"] + kept["in_flight"] > 0
    # The run ended with the training, and the training took longer.
    assert shared.metrics["stop_reason"] == "all training done"
    assert shared.metrics["simulated_s"] > alone.metrics["simulated_s"]
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        assert connection.execute("SELECT DISTINCT workload, destination FROM transfers WHERE kind = 'background'").fetchall() == [
            ("others", "cloud")
        ]


def test_it_does_not_end_a_run_and_needs_no_data() -> None:
    scenario = small(data=None, model=None)
    scenario["workloads"] = {"others": block()}
    with pytest.raises(ScenarioError, match="nothing ends this run"):
        run(scenario)
    found = run({**scenario, "stop": {"after": "30 s"}}).metrics
    assert found["simulated_s"] == 30
    assert found["bytes"]["by_kind"]["background"]["delivered"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": []}, "nobody sends"),
        ({"pairs": [["nod-1", "cloud"]]}, "no device matches 'nod-1'. did you mean 'node-1'?"),
        ({"pairs": [["node-1", "clout"]]}, "did you mean 'cloud'?"),
        ({"pairs": [["node-1", "node-1"]]}, "expected two devices, got 'node-1' sending to itself"),
        ({"pairs": [["node-1"]]}, "pairs[0]"),
        # The cell carries 1 Mbit/s: four nodes with 320 kbit/s each ask for 1.28 times that.
        (
            {"pairs": [["node-*", "cloud"]], "traffic": {"kind": "files", "rate": "20 per s", "mean": "2 kB"}},
            "expected less than medium 'cell' carries, got 1.28 times that: 320 kbit/s from each of 4 pairs",
        ),
        ({"traffic": {"kind": "files", "rate": "0 per s"}}, "rate: expected a frequency greater than 0"),
        ({"traffic": {"kind": "files", "rate": "1 per s", "mean": "1 MB", "largest": "1 MB"}}, "largest: expected more than the mean"),
        ({"traffic": {"kind": "files", "rate": "1 per s", "mean": "10 B", "shape": 0.1, "largest": "1 GB"}}, "expected a mean of at least"),
        ({"traffic": {"kind": "files", "rate": "1 per s", "shape": 0}}, "shape"),
        ({"traffic": {"kind": "on_off", "rate": "1 Mbit/s", "mean_on": "0 s", "mean_off": "1 s"}}, "mean_on: expected a duration greater"),
        ({"traffic": {"kind": "on_off", "rate": "1 Mbit/s", "mean_on": "1 s", "mean_off": "1 s", "message": "0 B"}}, "message: expected at least"),
        ({"traffic": {"kind": "on_of", "rate": "1 Mbit/s"}}, "did you mean 'on_off'?"),
    ],
)  # fmt: skip
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        run(beside_training(block(**changes)))
    assert message in str(caught.value)


def cell(technology: str, stations: int, **medium: Any) -> Topology:
    """Stations of one technology around a server, in one medium."""
    known = TECHNOLOGIES[technology]
    sites = [Site(name="server", tier="cloud"), *(Site(name=f"s-{i}") for i in range(stations))]
    links = [
        Link(
            name=f"r-{i}", a=f"s-{i}", b="server", up_bps=known.up_bps, down_bps=known.down_bps, medium="air", duplex=known.duplex,
            duty_cycle=known.duty_cycle, technology=technology,
        )
        for i in range(stations)
    ]  # fmt: skip
    return Topology(sites, links, [Medium(name="air", **medium)])


def overloads(topology: Topology, offered_bps: float, pairs: Any = (("s-*", "server"),)) -> list[str]:
    """What the check says of so much traffic from each pair."""
    # On half of the time at twice the rate.
    workload = Background(pairs=pairs, traffic=OnOff(rate=2 * offered_bps, mean_on=1.0, mean_off=1.0))
    setting = Setting(topology, dict.fromkeys(topology.sites, PROFILE), {"others": workload}, False)
    return [message for _, message in workload.problems(setting)]


def test_a_crowded_cell_carries_less() -> None:
    # 20 stations leave 20 ** -0.11 = 0.7192 of 45 Mbit/s, 32.37 Mbit/s, of which each has 1.618.
    wifi = cell("wifi4_20", 20, efficiency_exponent=0.11)
    assert overloads(wifi, 1.61e6) == []
    (told,) = overloads(wifi, 2.16e6)
    # 20 * 2.16 / 32.37 = 1.335.
    assert "expected less than medium 'air' carries with 20 stations, got 1.33 times that: 2.16 Mbit/s from each of 20 pairs" in told
    # Only those who send crowd it: 2 ** -0.11 * 45 / 2 = 20.8 Mbit/s for each of two.
    assert overloads(wifi, 20e6, (("s-0", "server"), ("s-1", "server"))) == []
    assert overloads(wifi, 21e6, (("s-0", "server"), ("s-1", "server")))


def test_each_direction_of_a_cell_of_frequency_division_has_its_own_air() -> None:
    # 8.18 Mbit/s of 10 up are 0.818, of 30 down 0.273: together 1.09, and neither full.
    pairs = (("s-0", "server"), ("server", "s-1"))
    assert overloads(cell("lte_cat4", 2, duplex="full"), 8.18e6, pairs) == []
    assert len(overloads(cell("lte_cat4", 2, duplex="half"), 8.18e6, pairs)) == 1
    # Up 10.2 of 10.
    (told,) = overloads(cell("lte_cat4", 2, duplex="full"), 10.2e6, pairs)
    assert "expected less than the uplink of medium 'air' carries, got 1.02 times that: 10.2 Mbit/s from 1 pair;" in told


def test_a_duty_cycle_limits_a_link_and_takes_its_share_of_the_air() -> None:
    # The rate has the 1 % of the duty cycle in it: with it a link takes 0.01 of the air. 20 links at 0.9 of their rates take 0.18 of it.
    rate_bps = TECHNOLOGIES["lorawan_sf9"].up_bps
    assert overloads(cell("lorawan_sf9", 20), 0.9 * rate_bps) == []
    # 1.1 times their rates are too much for each of them, and 0.22 of the air.
    told = overloads(cell("lorawan_sf9", 20), 1.1 * rate_bps)
    assert len(told) == 4
    assert "expected less than link 'r-0' carries, got 1.1 times that" in told[0]
    assert told[3] == "likewise 17 more links"
    # 120 links at 0.9 of their rates take 1.08 of the air.
    (told_of_air,) = overloads(cell("lorawan_sf9", 120), 0.9 * rate_bps)
    assert "expected less than medium 'air' carries, got 1.08 times that" in told_of_air


@pytest.mark.parametrize(
    ("count", "last"), [(4, "and 1 more device has the same problem"), (5, "and 2 more devices have the same problem")]
)
def test_like_problems_are_counted(count: int, last: str) -> None:
    assert [message for _, message in shortened((), ["wrong"] * count)] == [*["wrong"] * 3, last]


def test_devices_that_no_link_joins() -> None:
    scenario = beside_training(block(pairs=[["island", "cloud"]]), training__clients=["node-*"])
    scenario["topology"]["devices"]["island"] = {"profile": "esp32-s3"}
    with pytest.raises(ScenarioError, match="no route from 'island' to 'cloud'"):
        run(scenario)
