"""Sliced training on small crowds: bytes and times by hand, rehearsed turns against simulated ones, takeovers, bad settings."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netfl
from netfl.compute import PROFILES
from netfl.errors import RunError, ScenarioError
from netfl.learning.models import Mlp
from netfl.learning.slicing import Even, slice_graph
from netfl.learning.slicing.reading import read_units
from netfl.learning.slicing.schedule import schedule
from netfl.network import Fluid, Link, Medium, Site, Topology
from netfl.randomness import Streams
from netfl.store import Store
from netfl.trace import Trace
from netfl.workloads.sliced_batches import Batches, Plan, Wire
from netfl.workloads.sliced_rehearsal import apart
from netfl.world import World


def crowd(devices: int = 8, link: str = "", **training: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "crowd",
        "seed": 3,
        "topology": {
            "schema": 1,
            "name": "crowd",
            "devices": {"cloud": {"profile": "edge-server", "tier": "cloud"}, f"phone-{{1..{devices}}}": {"profile": "phone-mid"}},
            "links": {
                f"line-{{1..{devices}}}": {"between": [f"phone-{{1..{devices}}}", "cloud"], "rate": link or "20 Mbit/s", "latency": "20 ms"}
            },
        },
        "data": {"source": "digits", "partition": "iid"},
        "model": {"kind": "mlp", "hidden": [12, 8]},
        "workloads": {
            "training": {
                "kind": "sliced",
                "epochs": 1,
                "slices": 3,
                "trainer": {"kind": "sgd", "batch_size": 64, "learning_rate": 0.1},
                **training,
            }
        },
    }


STORE = Store()


def run(scenario: dict[str, Any], path: Path, name: str = "run") -> tuple[dict[str, Any], sqlite3.Connection]:
    done = netfl.run(scenario, output=path / name, store=STORE)
    assert done.run_dir is not None
    return done.metrics, sqlite3.connect(done.run_dir / "run.db")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    _, found = run(crowd(rehearse=False), tmp_path)
    yield found
    found.close()


def sums(database: sqlite3.Connection) -> dict[tuple[str, str, str], int]:
    rows = database.execute("SELECT source, destination, kind, sum(sent_bytes) FROM transfers GROUP BY source, destination, kind")
    return {row[:3]: row[3] for row in rows}


def evaluations(database: sqlite3.Connection) -> list[Any]:
    return database.execute("SELECT workload, version, accuracy, loss FROM evaluations ORDER BY workload, version").fetchall()


# --- bytes and order ------------------------------------------------------------------------------------------------------------


def test_bytes_of_an_epoch_by_hand(database: sqlite3.Connection) -> None:
    """Three even slices of 12 and 8 units: F = 12 + 8 (3 - 1) + 10 * 3 numbers forwards and as many backwards, 8 F bytes for each of 1438
    samples, all of it over two links. 3 + 6 + 3 messages each way and batch; each of 8 shards has 180 or 179 samples: three batches."""
    numbers = 12 + 8 * 2 + 10 * 3
    messages = 8 * 3 * 2 * (3 + 6 + 3)
    sent, count = database.execute("SELECT sum(sent_bytes), count(*) FROM transfers WHERE kind = 'activation'").fetchone()
    assert sent == 2 * (1438 * 8 * numbers + messages * 60)
    assert count == 2 * messages


def test_bytes_of_shuffles_and_sharing(database: sqlite3.Connection) -> None:
    """64 * 12 + 12 + 12 * 8 + 8 + 8 * 10 + 10 = 974 parameters; each share of them is 487 of them on the wire, with places as bits."""
    shares = dict(database.execute("SELECT label, sum(payload_bytes) FROM transfers WHERE kind = 'update' GROUP BY label"))
    assert set(shares) == {"group 1 epoch 1", "group 2 epoch 1"}
    # Four holders each: a count of 4 bytes and a bit for each weight they hold, in whole bytes.
    for payload_bytes in shares.values():
        assert 487 * 4 + 4 * 4 + 974 / 8 <= payload_bytes <= 487 * 4 + 4 * 4 + 974 / 8 + 4
    first = database.execute("SELECT source, payload_bytes FROM transfers WHERE label = 'group 1 epoch 1 turn 1 shuffle'").fetchall()
    assert {source for source, _ in first} == {"cloud"}
    assert sum(payload_bytes for _, payload_bytes in first) == 974 * 4 + 4 * 60
    # Later, what moves goes to the server and on; the dominator's layers move always.
    legs = database.execute(
        "SELECT source = 'cloud', payload_bytes FROM transfers WHERE label = 'group 1 epoch 1 turn 2 shuffle'"
    ).fetchall()
    assert Counter(bool(leg) for leg, _ in legs)[True] * 2 == len(legs) >= 2
    assert max(payload_bytes for _, payload_bytes in legs) == (64 * 12 + 10) * 4 + 60


def test_every_member_dominates_once_an_epoch(database: sqlite3.Connection) -> None:
    """Only the dominator multiplies the inputs: 2 * 64 * 12 * 64 FLOP for a batch of 64."""
    rows = database.execute(
        "SELECT device, label FROM computations WHERE flop = ? GROUP BY device, label", (2.0 * 64 * 12 * 64,)
    ).fetchall()
    assert sorted(device for device, _ in rows) == [f"phone-{number}" for number in range(1, 9)]
    assert len({label for _, label in rows}) == 8
    assert database.execute("SELECT selected, accepted, failed FROM rounds").fetchall() == [(8, 8, 0)]


def test_what_is_learnt_depends_on_no_setting_of_the_network(tmp_path: Path, database: sqlite3.Connection) -> None:
    expected = evaluations(database)
    for name, settings in {
        "direct": {"relay": False},
        "sealed": {"seal": "3 ms", "envelope": "200 B"},
        "every connection": {"partial_sums": False},
        "slow": {"link": "64 kbit/s"},
        "one spare": {"slices": 2, "dummies": 1},
        "rehearsed": {},
    }.items():
        _, other = run(crowd(**settings), tmp_path, name)
        if name == "one spare":
            assert [row[:2] for row in evaluations(other)] == [row[:2] for row in expected]
        else:
            assert evaluations(other) == expected
        other.close()


def star(rate_bps: float = 1e6, trunk_bps: float | None = None, medium: bool = False) -> Topology:
    sites = [Site(name="cloud", tier="cloud"), *(Site(name=f"d{number}") for number in range(4))]
    hub = "cloud"
    links = []
    if trunk_bps is not None:
        hub = "hub"
        sites.append(Site(name="hub", tier="gateway"))
        links.append(Link(name="trunk", a="hub", b="cloud", up_bps=trunk_bps, down_bps=trunk_bps))
    for number in range(4):
        links.append(
            Link(
                name=f"l{number}",
                a=f"d{number}",
                b=hub,
                up_bps=rate_bps,
                down_bps=rate_bps,
                latency_s=0.5,
                medium="air" if medium else None,
            )
        )
    return Topology(sites, links, [Medium(name="air")] if medium else [])


def world_of(topology: Topology) -> World:
    profiles = dict.fromkeys(topology.sites, PROFILES["phone-mid"])
    return World(topology=topology, profiles=profiles, transport=Fluid(), streams=Streams(seed=1), trace=Trace())


def plan_of(depth: int = 1, server: str | None = "cloud", seal_s: float = 0.0, partial_sums: bool = True) -> Plan:
    net = read_units(Mlp(hidden=(6, 4)), (5,), 3)
    graph = slice_graph(net)
    return Plan(schedule(net, graph.by_layer(Even().parts(graph, 2)), partial_sums), Wire(server, 10, seal_s), depth)


def test_one_batch_sends_the_messages_of_the_schedule_after_what_they_depend_on() -> None:
    """What the executor sends (its own test compares it with the schedule), each after all sums of the boundary before."""
    world, plan = world_of(star()), plan_of()
    running = Batches(world, plan, ["d0", "d1", "d2"], [7], "test", "", remembers=True)
    world.env.run(until=running.done)
    expected: Counter[tuple[int, int, int, str, int]] = Counter()
    for place, boundary in enumerate(plan.boundaries):
        for bundle in boundary.bundles:
            expected[bundle.source, bundle.target, place, "sums", 7 * bundle.sums] += 1
            expected[bundle.target, bundle.source, place, "errors", 7 * bundle.errors] += 1
    assert Counter(running.messages) == expected
    places = [(place if direction == "sums" else 5 - place) for _, _, place, direction, _ in running.messages]
    assert places == sorted(places)
    world.trace.close()


@pytest.mark.parametrize(("server", "seal_s", "crossings"), [("cloud", 0.0, 12), (None, 0.0, 12), ("cloud", 0.25, 12)])
def test_latency_of_a_batch(server: str | None, seal_s: float, crossings: int) -> None:
    """Three boundaries there and back are six messages one after the other, each over two links of 0.5 s, relayed or not; sealing and opening
    each take a quarter of a second. Work and bytes take little here: twelve computations of 1 ms overhead, messages of some 100 bytes."""
    world = world_of(star(rate_bps=1e9))
    running = Batches(world, plan_of(server=server, seal_s=seal_s), ["d0", "d1", "d2"], [7], "test", "")
    world.env.run(until=running.done)
    assert crossings * 0.5 + 12 * seal_s < world.now < crossings * 0.5 + 12 * seal_s + 0.02
    world.trace.close()


def test_pipelined_batches_overlap() -> None:
    """Latency alone counts: four batches one after the other take four times as long as one, and all at once as long as one."""
    took = []
    for depth in (1, 2, 4):
        world = world_of(star(rate_bps=1e9))
        running = Batches(world, plan_of(depth), ["d0", "d1", "d2"], [7, 7, 7, 7], "test", "")
        world.env.run(until=running.done)
        took.append(world.now)
        world.trace.close()
    assert took[0] == pytest.approx(24, rel=0.01)
    assert took[1] == pytest.approx(12, rel=0.01)
    assert took[2] == pytest.approx(6, rel=0.02)


def test_a_batch_that_is_cancelled_ends_nothing() -> None:
    world = world_of(star())
    running = Batches(world, plan_of(), ["d0", "d1", "d2"], [7], "test", "")
    world.env.run(until=3.0)
    running.cancel()
    world.env.run(until=30.0)
    assert not running.done.triggered
    assert running.ended == 0
    world.trace.close()


# --- rehearsals -----------------------------------------------------------------------------------------------------------------


def compare(scenario: dict[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rehearsed and message by message: the same bytes on every route, the same times but for rounding."""
    found = []
    for rehearse in (True, False):
        scenario["workloads"]["training"]["rehearse"] = rehearse
        found.append(run(scenario, path, f"rehearse-{rehearse}"))
    (first, one), (second, other) = found
    assert sums(one) == sums(other)
    assert first["bytes"] == second["bytes"]
    assert first["simulated_s"] == pytest.approx(second["simulated_s"], rel=1e-9)
    assert first["energy_j"] == pytest.approx(second["energy_j"], rel=1e-9)
    for name, device in second["devices"].items():
        tiers = device.pop("tier"), first["devices"][name].pop("tier")
        assert tiers[0] == tiers[1]
        assert first["devices"][name] == pytest.approx(device, rel=1e-9)
    assert evaluations(one) == evaluations(other)
    uses = [database.execute("SELECT * FROM link_use ORDER BY link, source, kind").fetchall() for database in (one, other)]
    assert uses[0] == uses[1]
    rows = [database.execute("SELECT count(*) FROM transfers").fetchone()[0] for database in (one, other)]
    assert rows[0] < rows[1]
    one.close()
    other.close()
    return first, second


@pytest.mark.parametrize("settings", [{}, {"relay": False, "seal": "1 ms"}, {"dummies": 1, "slices": 2}], ids=["relay", "direct", "spare"])
def test_rehearsed_turns_equal_those_simulated_message_by_message(settings: dict[str, Any], tmp_path: Path) -> None:
    compare(crowd(epochs=2, **settings), tmp_path)


@pytest.mark.parametrize("after", ["1.7 s", "3.1 s", "3.123 s"])
def test_a_run_that_ends_within_a_rehearsed_turn_counts_what_had_happened(after: str, tmp_path: Path) -> None:
    """On slow lines, so that bytes are in flight."""
    scenario = crowd(link="200 kbit/s")
    scenario["stop"] = {"after": after}
    first, _ = compare(scenario, tmp_path)
    assert first["bytes"]["by_kind"]["activation"]["sent"] > 0


def test_rehearsed_turns_run_batteries_down_at_the_same_instants(tmp_path: Path) -> None:
    """Phones that run empty in the last epoch, and come back with the harvest; a role may fall to one that never computed before."""
    scenario = crowd(epochs=3, dummies=2, slices=2, takeover_after="200 ms", link="200 kbit/s")
    scenario["topology"]["devices"]["phone-{1..8}"]["battery"] = {"capacity": "20 J", "harvest": "0.3 W", "restart": 0.2}
    found = []
    for rehearse in (True, False):
        scenario["workloads"]["training"]["rehearse"] = rehearse
        metrics, database = run(scenario, tmp_path, f"battery-{rehearse}")
        outages = database.execute("SELECT element, start_s, end_s, reason FROM outages ORDER BY element, start_s").fetchall()
        found.append((metrics, outages, database.execute("SELECT count(*) FROM transfers").fetchone()[0]))
        database.close()
    (first, downs, few), (second, expected, many) = found
    assert few < many
    assert {element for element, *_ in downs} == {f"phone-{number}" for number in range(1, 9)}
    for one, other in zip(downs, expected, strict=True):
        assert (one[0], one[3]) == (other[0], "battery")
        assert one[1:3] == pytest.approx(other[1:3], rel=1e-9)
    assert first["energy_j"] == pytest.approx(second["energy_j"], rel=1e-9)
    assert first["simulated_s"] == pytest.approx(second["simulated_s"], rel=1e-9)


def test_unlike_devices_are_rehearsed_apart(tmp_path: Path) -> None:
    scenario = crowd()
    scenario["topology"]["devices"] = {
        "cloud": {"profile": "edge-server", "tier": "cloud"},
        "phone-{1..5}": {"profile": "phone-mid"},
        "phone-{6..8}": {"profile": "pi-4"},
    }
    scenario["topology"]["links"] = {
        "line-{1..5}": {"between": ["phone-{1..5}", "cloud"], "uplink": "1 Mbit/s", "downlink": "5 Mbit/s", "latency": "10 ms"},
        "line-{6..8}": {"between": ["phone-{6..8}", "cloud"], "rate": "50 Mbit/s", "latency": "3 ms", "duplex": "half"},
    }
    compare(scenario, tmp_path)


def test_an_outage_in_a_turn_has_it_simulated(tmp_path: Path) -> None:
    """A short one, through which everything waits."""
    scenario = crowd(epochs=2)
    devices = scenario["topology"]["devices"]
    devices.pop("phone-{1..8}")
    devices["phone-{1..7}"] = {"profile": "phone-mid"}
    devices["phone-8"] = {"profile": "phone-mid", "outages": {"kind": "schedule", "down": [["1500 ms", "2500 ms"]]}}
    first, _ = compare(scenario, tmp_path)
    plain, database = run(crowd(epochs=2), tmp_path, "plain")
    database.close()
    assert plain["simulated_s"] < first["simulated_s"] < plain["simulated_s"] + 1.0 + 1e-6


def test_when_groups_are_apart() -> None:
    groups = [["d0", "d1"], ["d2", "d3"]]
    for topology, expected in [
        (star(), True),
        (star(medium=True), False),
        (star(trunk_bps=1e6), False),
        (star(trunk_bps=4e6), True),  # what four lines of 1 Mbit/s can bring
    ]:
        world = world_of(topology)
        assert apart(world, groups, "cloud") is expected
        world.trace.close()


# --- losses ---------------------------------------------------------------------------------------------------------------------


def with_outage(device: int, begin: str, end: str, **training: Any) -> dict[str, Any]:
    scenario = crowd(**training)
    devices = scenario["topology"]["devices"]
    devices.pop("phone-{1..8}")
    for number in range(1, 9):
        devices[f"phone-{number}"] = {"profile": "phone-mid"}
    devices[f"phone-{device}"]["outages"] = {"kind": "schedule", "down": [[begin, end]]}
    return scenario


def role_at(scenario: dict[str, Any], path: Path, time_s: float) -> tuple[int, bool]:
    """A device that takes part in a turn at that time as a follower."""
    _, database = run(scenario, path, "look")
    rows = database.execute(
        "SELECT device, max(flop = ?) FROM computations WHERE label = "
        "(SELECT label FROM computations WHERE start_s <= ? AND label LIKE 'group 1%' ORDER BY start_s DESC LIMIT 1) GROUP BY device ORDER BY 1",
        (2.0 * 64 * 12 * 64, time_s),
    ).fetchall()
    database.close()
    followers = [device for device, dominates in rows if not dominates]
    return int(followers[0].split("-")[1]), True


def test_a_lost_follower_costs_one_slice_transfer(tmp_path: Path) -> None:
    """At 0.5 s the first turn is under way. The follower never comes back: the spare member gets its slice from the server, once."""
    settings = {"slices": 2, "dummies": 1, "rehearse": False, "takeover_after": "200 ms", "epochs": 2}
    lost, _ = role_at(crowd(**settings), tmp_path, 0.5)
    metrics, database = run(with_outage(lost, "500 ms", "10 h", **settings), tmp_path, "lost")
    rows = database.execute("SELECT source, payload_bytes, start_s FROM transfers WHERE label LIKE '%takeover'").fetchall()
    assert len(rows) == 1
    assert rows[0][0] == "cloud"
    assert rows[0][2] == pytest.approx(0.7)
    assert metrics["stop_reason"] == "all training done"
    # It does not dominate in either epoch.
    assert database.execute("SELECT accepted, failed FROM rounds ORDER BY round").fetchall() == [(7, 1), (7, 1)]
    for sums_ in metrics["bytes"]["by_kind"].values():
        assert sums_["sent"] == sums_["delivered"] + sums_["wasted"] + sums_["in_flight"]
    database.close()


def test_without_a_spare_member_the_turn_waits_for_the_lost_one(tmp_path: Path) -> None:
    settings = {"rehearse": False, "takeover_after": "200 ms"}
    lost, _ = role_at(crowd(**settings), tmp_path, 0.5)
    metrics, database = run(with_outage(lost, "500 ms", "30 s", **settings), tmp_path, "back")
    assert metrics["simulated_s"] > 30
    assert database.execute("SELECT accepted FROM rounds").fetchall() == [(8,)]
    database.close()


def test_a_group_that_waits_for_ever_ends_with_the_run(tmp_path: Path) -> None:
    """Without spare members, a group whose member comes back in 200 years waits; the run ends when it is told to."""
    scenario = with_outage(1, "500 ms", "2000000 h", takeover_after="200 ms")
    scenario["stop"] = {"after": "1000 h"}
    metrics, database = run(scenario, tmp_path)
    database.close()
    assert metrics["training"]["training"]["rounds"] == 0
    assert metrics["stop_reason"] == "41 d 16 h passed"


# --- comparisons ----------------------------------------------------------------------------------------------------------------


def test_centralised_sends_all_samples_once(tmp_path: Path) -> None:
    """1438 samples of 64 numbers of a byte, and a byte for the label."""
    scenario = crowd()
    scenario["workloads"]["training"] = {"kind": "centralised", "epochs": 2, "trainer": {"kind": "sgd", "learning_rate": 0.1}}
    metrics, database = run(scenario, tmp_path)
    assert metrics["bytes"]["total"] == 1438 * 65
    assert metrics["training"]["training"]["rounds"] == 2
    assert metrics["training"]["training"]["accuracy"] > 0.5
    database.close()


@pytest.mark.parametrize(
    ("kind", "who"),
    [
        ({"kind": "standalone"}, r"the model of client 'phone-1' after epoch 2 is (nan|inf), and that of 7 more is not finite either"),
        ({"kind": "centralised"}, r"the global model after epoch 2 is (nan|inf)"),
    ],
)
def test_divergence_names_whose_model_it_is(tmp_path: Path, kind: dict[str, Any], who: str) -> None:
    scenario = crowd()
    trainer = {"kind": "sgd", "learning_rate": 1e30, "epochs": 2}
    scenario["workloads"]["training"] = {**kind, "epochs": 2, "evaluate_every": 2, "trainer": trainer}
    with pytest.raises(RunError, match=rf"workload 'training': the loss of {who}: .*learning_rate`, or set") as caught:
        netfl.run(scenario, output=tmp_path / "out")
    assert caught.value.__notes__ == [f"the results so far are in '{tmp_path / 'out'}'"]


def test_standalone_sends_nothing(tmp_path: Path) -> None:
    scenario = crowd()
    scenario["workloads"]["training"] = {"kind": "standalone", "epochs": 2, "trainer": {"kind": "sgd", "learning_rate": 0.1}}
    metrics, database = run(scenario, tmp_path)
    assert metrics["bytes"]["total"] == 0
    assert metrics["training"]["training"]["rounds"] == 2
    assert all(device["compute_s"] > 0 for name, device in metrics["devices"].items() if name != "cloud")
    database.close()


# --- bad settings ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"slices": 8}, "workloads.training.slices", "9 members; the crowd has 8"),
        ({"slices": 3, "dummies": 5}, "workloads.training.slices", "the crowd has 8"),
        ({"tau": 1.5}, "workloads.training.tau", "1"),
        ({"theta": -0.1}, "workloads.training.theta", "0"),
        ({"omega": 0}, "workloads.training.omega", "1"),
        ({"server": "cluod"}, "workloads.training.server", "did you mean 'cloud'"),
        ({"clients": ["tablet-*"]}, "workloads.training.clients", "no device matches"),
        ({"partitioner": "metsi"}, "workloads.training.partitioner", "metis"),
    ],
)
def test_bad_settings_are_named_with_their_place(settings: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(ScenarioError) as error:
        netfl.run(crowd(**settings), store=STORE)
    found = [problem for problem in error.value.problems if problem.path.startswith(place)]
    assert found
    assert message in " ".join(f"{problem.message} {problem.hint}" for problem in found)


def test_more_slices_than_hidden_units(tmp_path: Path) -> None:
    scenario = crowd(slices=3)
    scenario["model"] = {"kind": "mlp", "hidden": [2]}
    with pytest.raises(ScenarioError, match="expected at most 2 slices, one for each hidden unit of the model, got 3") as error:
        netfl.run(scenario, store=STORE)
    assert error.value.problems[0].path == "workloads.training.slices"


def test_a_model_that_cannot_be_sliced() -> None:
    scenario = crowd()
    scenario["model"] = {"kind": "resnet"}
    with pytest.raises(ScenarioError, match="cannot be sliced"):
        netfl.run(scenario, store=STORE)


def test_a_device_too_small_for_its_slice() -> None:
    """The dominator of 64 - 12,000 - 8: 768,000 weights out of the input; with gradients, and a batch of 64, over 6 MB; the chip has 1.19 MB."""
    scenario = crowd()
    scenario["topology"]["devices"].popitem()
    scenario["topology"]["devices"]["phone-{1..8}"] = {"profile": "cortex-m7"}
    scenario["model"] = {"kind": "mlp", "hidden": [12_000, 8]}
    with pytest.raises(ScenarioError, match="the dominator's layers, which any member may hold, needs") as error:
        netfl.run(scenario, store=STORE)
    assert error.value.problems[0].path == "workloads.training.slices"


# --- the rest -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [{"dummies": 1, "slices": 2}, {"depth": 3}, {"relay": False, "slices": 2, "dummies": 1}], ids=str)
def test_a_crowd_that_comes_and_goes(settings: dict[str, Any], seed: int, tmp_path: Path) -> None:
    """Everybody is down a fifth of the time: the run ends, books balance, and an epoch has no more turns than members."""
    scenario = crowd(epochs=3, takeover_after="300 ms", **settings)
    scenario["seed"] = seed
    scenario["topology"]["devices"]["phone-{1..8}"]["outages"] = {"kind": "exponential", "mean_up": "4 s", "mean_down": "1 s"}
    metrics, database = run(scenario, tmp_path)
    assert metrics["stop_reason"] == "all training done"
    for kind in metrics["bytes"]["by_kind"].values():
        assert kind["sent"] == kind["delivered"] + kind["wasted"] + kind["in_flight"]
    rounds = database.execute("SELECT selected, accepted, failed FROM rounds").fetchall()
    assert len(rounds) == 3
    assert all(accepted + failed == selected == 8 for selected, accepted, failed in rounds)
    database.close()


def test_pipelining_is_faster_and_learns_from_older_weights(tmp_path: Path) -> None:
    (plain, one), (piped, other) = (run(crowd(depth=depth), tmp_path, f"depth-{depth}") for depth in (1, 3))
    assert piped["simulated_s"] < 0.6 * plain["simulated_s"]
    assert sums(one).keys() == sums(other).keys()
    assert evaluations(one)[1] != evaluations(other)[1]
    one.close()
    other.close()


def test_a_second_run_trains_nobody(tmp_path: Path) -> None:
    store = Store()
    first = netfl.run(crowd(), store=store).metrics
    again = netfl.run(crowd(), store=store).metrics
    assert first["work"]["trained_clients"] == 8
    assert again["work"]["trained_clients"] == 0
    assert again["trace_digest"] == first["trace_digest"]
