"""New attempts around what is down: times and bytes by hop."""

import itertools
import random

import pytest
import simpy

from netfl.network.fabric import Fabric
from netfl.network.outages import Timeline
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid, Transport
from netfl.network.variation import Rates


def diamond(timelines, rates=None, routing="latency", **settings):
    """a - b - d: 0.1 s a hop; a - c - d: 0.25 s a hop; a - d: 0.9 s. 8 Mbit/s each."""
    links = [
        Link(name=a + b, a=a, b=b, up_bps=8e6, down_bps=8e6, latency_s=latency, up_rates=(rates or {}).get(a + b))
        for a, b, latency in (("a", "b", 0.1), ("b", "d", 0.1), ("a", "c", 0.25), ("c", "d", 0.25), ("a", "d", 0.9))
    ]
    topology = Topology([Site(name=name) for name in "abcde"], links, routing=routing)
    env = simpy.Environment()
    fabric = Fabric(env, topology, {name: Timeline(changes) for name, changes in timelines.items()})
    return env, Transport(env, fabric, topology, Fluid(**{"on_failure": "reroute", "timeout": 2.0, "wait": 0.5, **settings}))


def books(transfer):
    found = {}
    for each in transfer.hop_bytes():
        assert each.sent == each.delivered + each.wasted + each.in_flight
        found[each.hop.source + each.hop.destination] = (each.delivered, each.wasted, each.in_flight)
    return found


def test_what_is_left_takes_the_way_round():
    # 0.2 s of latency and 1 MB until bd goes down at 1.2 s; fails at 3.2 s; at 3.7 s goes by c: 0.5 s and the other 1 MB.
    env, transport = diamond({"bd": [1.2]})
    transfer = transport.send("a", "d", 2 * 10**6)
    env.run(4.45)
    assert books(transfer) == {"ab": (0, 0, 10**6), "bd": (0, 0, 10**6), "ac": (0, 0, 250_000), "cd": (0, 0, 250_000)}
    env.run(transfer.done)
    assert (transfer.outcome, transfer.attempts, transfer.end_s) == ("delivered", 2, pytest.approx(5.2))
    assert (transfer.latency_s, transfer.stalled_s) == (pytest.approx(0.7), pytest.approx(2.0))
    assert transfer.route.devices == ("a", "c", "d")
    assert books(transfer) == dict.fromkeys(("ab", "bd", "ac", "cd"), (10**6, 0, 0))
    assert transfer.delivered_bytes == transfer.sent_bytes == 2 * 10**6


def test_a_site_or_a_gap_is_avoided_too():
    for down, rates in (({"b": [1.2]}, None), ({}, {"bd": Rates([0, 1.2], [8e6, 0], 1e6)})):
        env, transport = diamond(down, rates)
        transfer = transport.send("a", "d", 2 * 10**6)
        env.run(transfer.done)
        assert (transfer.end_s, transfer.route.devices) == (pytest.approx(5.2), ("a", "c", "d"))


def test_each_attempt_takes_the_best_way_of_its_instant():
    # By c from 3.7 s; c is down from 4.7 s (0.5 MB later): fails at 6.7 s; at 7.2 s bd is back: by b again.
    env, transport = diamond({"bd": [1.2, 7.0], "c": [4.7]})
    transfer = transport.send("a", "d", 2 * 10**6)
    env.run(transfer.done)
    assert (transfer.attempts, transfer.end_s) == (3, pytest.approx(7.2 + 0.2 + 0.5))
    half = 500_000
    assert books(transfer) == {"ab": (3 * half, 0, 0), "bd": (3 * half, 0, 0), "ac": (half, 0, 0), "cd": (half, 0, 0)}


def test_the_last_way_stays_where_there_is_no_other():
    # a itself is down from 1.2 to 5 s: the attempt of 3.7 s waits on the same route until 5 s; silent for 0.2 s, then the other MB.
    env, transport = diamond({"a": [1.2, 5.0]})
    transfer = transport.send("a", "d", 2 * 10**6)
    env.run(transfer.done)
    assert (transfer.attempts, transfer.end_s, transfer.route.devices) == (2, pytest.approx(6.2), ("a", "b", "d"))
    assert books(transfer) == {"ab": (2 * 10**6, 0, 0), "bd": (2 * 10**6, 0, 0)}


def test_giving_up_and_aborting_waste_what_moved_on_every_route():
    env, transport = diamond({"bd": [1.2], "c": [4.7], "ad": [0.0]}, attempts=2)
    transfer = transport.send("a", "d", 2 * 10**6)
    env.run(transfer.done)
    assert (transfer.outcome, transfer.end_s) == ("failed", pytest.approx(6.7))
    expected = {"ab": (0, 10**6, 0), "bd": (0, 10**6, 0), "ac": (0, 500_000, 0), "cd": (0, 500_000, 0)}
    assert books(transfer) == expected
    env, transport = diamond({"bd": [1.2]})
    transfer = transport.send("a", "d", 2 * 10**6)
    env.run(4.7)
    transfer.abort()
    assert books(transfer) == expected
    env, transport = diamond({"bd": [1.2]})
    transfer = transport.send("a", "d", 2 * 10**6)
    env.run(4.7)
    transport.close()
    assert books(transfer) == {hop: (0, 0, moved) for hop, (_, moved, _) in expected.items()}


def test_detours_follow_the_rule_of_routes():
    _, transport = diamond({}, routing="hops")
    topology = transport.topology
    assert topology.detour("a", "d", lambda hop: True) is topology.route("a", "d")
    around = topology.detour("a", "d", lambda hop: hop.link.name != "ad")
    # Two ways of two hops: the first by name; the way back is the same, and a detour is one object however often it is found.
    assert around.devices == ("a", "b", "d")
    assert topology.detour("d", "a", lambda hop: hop.link.name != "ad").devices == ("d", "b", "a")
    assert topology.detour("a", "d", lambda hop: hop.link.name != "ad") is around
    assert topology.detour("a", "e", lambda hop: True) is None
    # A hop may pass in one direction only.
    assert topology.detour("d", "a", lambda hop: hop.forward) is None


@pytest.mark.parametrize("kind", [Fluid, Tcp])
@pytest.mark.parametrize("seed", range(10))
def test_books_balance_on_random_meshes(seed, kind):
    """Per hop and per flow: what the fabric has metered is what the transfers say, to the byte that each attempt rounds down."""
    choose = random.Random(seed)
    names = "abcdefgh"
    links = [
        Link(name=f"{a}{b}", a=a, b=b, up_bps=choose.uniform(1, 9) * 1e6, down_bps=4e6, latency_s=choose.uniform(0.001, 0.05))
        for a, b in itertools.combinations(names, 2)
        if choose.random() < 0.5 or ord(b) - ord(a) == 1
    ]
    topology = Topology([Site(name=name) for name in names], links)
    timelines = {}
    for link in links:
        if choose.random() < 0.6:
            timelines[link.name] = Timeline(list(itertools.accumulate(choose.uniform(0.2, 3.0) for _ in range(40))))
    env = simpy.Environment()
    fabric = Fabric(env, topology, timelines)
    transport = Transport(env, fabric, topology, kind(on_failure="reroute", timeout=0.5, wait=0.1, attempts=4))
    transfers = []

    def work():
        for _ in range(60):
            yield env.timeout(choose.expovariate(10.0))
            transfers.append(transport.send(*choose.sample(names, 2), choose.randint(0, 10**6)))

    env.process(work())
    env.run(12.0)
    transport.close()
    moved = {}
    for transfer in transfers:
        assert sum(sum(each) for each in books(transfer).values()) >= transfer.sent_bytes or not transfer.route.hops
        for each in transfer.hop_bytes():
            key = (each.hop.link.name, each.hop.forward)
            moved[key] = moved.get(key, 0) + each.sent
    assert any(transfer._past for transfer in transfers)
    rounding = sum(transfer.attempts for transfer in transfers)
    for key, bits in fabric.moved_bits.items():
        assert abs(moved.get(key, 0) - bits / 8) <= rounding
