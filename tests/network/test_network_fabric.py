"""Flows on the fabric: every expected time is derived in a comment."""

import pytest
import simpy

from netfl.network import fabric as fabrics
from netfl.network.fabric import Fabric
from netfl.network.outages import Timeline
from netfl.network.sharing import max_min_rates
from netfl.network.topology import Link, Medium, Site, Topology


def network(*links, media=(), timelines=None):
    names = dict.fromkeys(end for link in links for end in (link.a, link.b))
    env = simpy.Environment()
    topology = Topology([Site(name=name) for name in names], links, media)
    return env, topology, Fabric(env, topology, timelines)


def link(a, b, up_bps, latency_s=0.0, down_bps=None, **more):
    return Link(**{"name": f"{a}{b}", "a": a, "b": b, "up_bps": up_bps, "down_bps": down_bps or up_bps, "latency_s": latency_s} | more)


def finishes(env, topology, fabric, flows, until=None):
    """When each (source, destination, bytes, start) finishes; None for one that does not."""
    finish = [None] * len(flows)

    def one(place, source, destination, num_bytes, start_s, weight=1.0):
        yield env.timeout(start_s)
        yield fabric.start(topology.route(source, destination), num_bytes, weight=weight).done
        finish[place] = env.now

    for place, flow in enumerate(flows):
        env.process(one(place, *flow))
    env.run(until)
    return finish


def test_two_sources_of_different_latency():
    # 8 Mbit/s. The near flow is alone from 0.1 to 0.5 s: 3.2 of its 8 Mbit. Then both get 4 Mbit/s: the near one needs 4.8 / 4 = 1.2 s and
    # ends at 1.7; the far one has 8 - 4.8 = 3.2 Mbit left, alone: 0.4 s.
    env, topology, fabric = network(link("n", "m", 1e9, 0.1), link("f", "m", 1e9, 0.5), link("m", "s", 8e6))
    assert finishes(env, topology, fabric, [("n", "s", 10**6, 0), ("f", "s", 10**6, 0)]) == pytest.approx([1.7, 2.1], rel=1e-12)
    assert fabric.moved_bits[("ms", True)] == pytest.approx(16e6, rel=1e-12)
    assert fabric.moved_bits[("nm", True)] == pytest.approx(8e6, rel=1e-12)


def test_parking_lot():
    # 10 and 6 Mbit/s; the long flow shares 6 with the second short one: 3 each; the first short one gets 10 - 3 = 7. 6 Mbit each:
    # 6 / 3 = 2 s, 6 / 7 s, 2 s.
    env, topology, fabric = network(link("a", "b", 10e6), link("b", "c", 6e6))
    got = finishes(env, topology, fabric, [("a", "c", 750_000, 0), ("a", "b", 750_000, 0), ("b", "c", 750_000, 0)])
    assert got == pytest.approx([2, 6 / 7, 2], rel=1e-12)


def test_a_late_flow_of_half_the_bytes():
    # 16 Mbit alone until 1.05 s: 8 moved since 0.05; then 4 Mbit/s each, and both have 8 Mbit left: 2 s more.
    env, topology, fabric = network(link("a", "b", 8e6, 0.05))
    assert finishes(env, topology, fabric, [("a", "b", 2 * 10**6, 0), ("a", "b", 10**6, 1)]) == pytest.approx([3.05, 3.05], rel=1e-12)


def test_full_duplex_directions_do_not_meet():
    env, topology, fabric = network(link("a", "b", 8e6, down_bps=4e6))
    assert finishes(env, topology, fabric, [("a", "b", 10**6, 0), ("b", "a", 10**6, 0)]) == pytest.approx([1, 2], rel=1e-12)


def test_half_duplex_directions_share_airtime():
    # 8 up, 4 down: a pair of bits takes 1/8 + 1/4 us, so both move at 8/3 Mbit/s; 8 Mbit each: 3 s.
    env, topology, fabric = network(link("a", "b", 8e6, down_bps=4e6, duplex="half"))
    assert finishes(env, topology, fabric, [("a", "b", 10**6, 0), ("b", "a", 10**6, 0)]) == pytest.approx([3, 3], rel=1e-12)


def test_a_medium_shares_airtime_among_stations():
    # Rates 12 and 4 Mbit/s: equal rates r with r/12 + r/4 = 1: r = 3 Mbit/s. The short flow (3 Mbit) ends at 1 s; the other has 5 of
    # 8 Mbit left, alone at 12: 5/12 s.
    media = [Medium(name="cell")]
    env, topology, fabric = network(link("a", "p", 12e6, medium="cell"), link("b", "p", 4e6, medium="cell"), media=media)
    got = finishes(env, topology, fabric, [("a", "p", 10**6, 0), ("b", "p", 375_000, 0)])
    assert got == pytest.approx([1 + 5 / 12, 1], rel=1e-12)


def test_contention_costs_airtime_by_stations_not_by_flows():
    # Exponent 1: two stations have half the airtime. Both flows of station a and one of b: 3r/8 = 1/2, r = 4/3 Mbit/s. All hold 4 Mbit: 3 s.
    media = [Medium(name="cell", efficiency_exponent=1.0)]
    links = (link("a", "p", 8e6, medium="cell"), link("b", "p", 8e6, medium="cell"))
    env, topology, fabric = network(*links, media=media)
    assert finishes(env, topology, fabric, [("a", "p", 500_000, 0)] * 2 + [("b", "p", 500_000, 0)]) == pytest.approx([3] * 3, rel=1e-12)
    # Both flows at one station: all the airtime, 4 Mbit/s each: 1 s.
    env, topology, fabric = network(*links, media=media)
    assert finishes(env, topology, fabric, [("a", "p", 500_000, 0)] * 2) == pytest.approx([1, 1], rel=1e-12)


def test_a_flow_that_crosses_a_medium_twice_pays_both_airtimes():
    # From a over p to b at 8 and 4 Mbit/s: 1/8 + 1/4 us a bit: 8/3 Mbit/s; 8 Mbit: 3 s.
    media = [Medium(name="cell")]
    env, topology, fabric = network(link("a", "p", 8e6, medium="cell"), link("b", "p", 4e6, medium="cell"), media=media)
    assert finishes(env, topology, fabric, [("a", "b", 10**6, 0)]) == pytest.approx([3], rel=1e-12)
    # With exponent 1 its two member links are two stations: half the airtime.
    env, topology, fabric = network(
        link("a", "p", 8e6, medium="cell"), link("b", "p", 4e6, medium="cell"), media=[Medium(name="cell", efficiency_exponent=1.0)]
    )
    assert finishes(env, topology, fabric, [("a", "b", 10**6, 0)]) == pytest.approx([6], rel=1e-12)


def test_trap_16_latency_takes_no_capacity():
    # 8 Mbit/s and 1 s of latency, three messages of 0.5 s one straight after the other: they arrive at 1.5, 2 and 2.5 s. A link that is
    # taken until the last byte has arrived would deliver the second at 3 s and the third at 4.5 s.
    env, topology, fabric = network(link("a", "b", 8e6, 1.0))
    got = finishes(env, topology, fabric, [("a", "b", 500_000, 0), ("a", "b", 500_000, 0.5), ("a", "b", 500_000, 1.0)])
    assert got == pytest.approx([1.5, 2, 2.5], rel=1e-12)


def test_weights():
    # Weights 3 and 1 on 8 Mbit/s: 6 and 2. 6 Mbit end at 1 s; the other has 8 - 2 = 6 Mbit left at 8 Mbit/s.
    env, topology, fabric = network(link("a", "b", 8e6))
    got = finishes(env, topology, fabric, [("a", "b", 750_000, 0, 3.0), ("a", "b", 10**6, 0, 1.0)])
    assert got == pytest.approx([1, 1.75], rel=1e-12)


def test_an_outage_stalls_silence_and_bits():
    # Silent from 0, stalled 0.5 to 1.5 s with 0.5 s of latency left, silent until 2.0, moves 8 Mbit/s until the next outage at 2.5 (4 Mbit), up again
    # at 4: the other 4 Mbit take until 4.5.
    timelines = {"ab": Timeline([0.5, 1.5, 2.5, 4.0])}
    env, topology, fabric = network(link("a", "b", 8e6, 1.0), timelines=timelines)
    flow = fabric.start(topology.route("a", "b"), 10**6)
    env.run(1.0)
    assert (flow.latency_s, flow.stalled_since_s, flow.stalled_s) == (0.5, 0.5, 0.5)
    env.run(3.0)
    assert flow.moved_bits == pytest.approx(4e6, rel=1e-12)
    assert flow.stalled_s == pytest.approx(1.5)
    env.run(flow.done)
    assert env.now == pytest.approx(4.5, rel=1e-12)
    assert (flow.outcome, flow.stalled_s, flow.stalled_since_s, flow.moved_bits) == ("finished", pytest.approx(2.5), None, 8e6)
    assert fabric.moved_bits == {("ab", True): pytest.approx(8e6, rel=1e-12)}


def test_overlapping_outages_of_site_and_link_and_what_others_gain():
    # b is down from 1 to 3, its link from 2 to 4 s. Until 1 s both flows have 4 Mbit/s; then a has 8: its last 4 Mbit end at 1.5. b's last
    # 4 Mbit move from 4 s on at 8: 4.5.
    timelines = {"b": Timeline([1.0, 3.0]), "bm": Timeline([2.0, 4.0]), "am": Timeline([1.5, 1.75])}
    env, topology, fabric = network(link("a", "m", 1e9), link("b", "m", 1e9), link("m", "s", 8e6), timelines=timelines)
    assert finishes(env, topology, fabric, [("a", "s", 10**6, 0), ("b", "s", 10**6, 0)]) == pytest.approx([1.5, 4.5], rel=1e-12)


def test_a_flow_that_begins_in_an_outage_and_an_element_that_is_left_and_joined_again():
    timelines = {"ab": Timeline([0.0, 1.0, 5.0, 6.0, 9.0, 10.0])}
    env, topology, fabric = network(link("a", "b", 8e6), timelines=timelines)
    # From 0: waits until 1, ends at 2. From 4.5: 4 Mbit until 5, the rest from 6 to 6.5. From 7: 8 Mbit until 8. Between 2 and 4.5 nothing crosses.
    assert finishes(env, topology, fabric, [("a", "b", 10**6, 0), ("a", "b", 10**6, 4.5), ("a", "b", 10**6, 7)]) == [2, 6.5, 8]


def test_patience():
    # Down from 1 to 3 and from 5 to 9 s; patience 2.5 s outlasts the first outage and not the second: expired at 7.5 with 1 + 2 s moved.
    timelines = {"ab": Timeline([1.0, 3.0, 5.0, 9.0])}
    env, topology, fabric = network(link("a", "b", 8e6), timelines=timelines)
    flow = fabric.start(topology.route("a", "b"), 10**7, patience_s=2.5)
    env.run(flow.done)
    assert (env.now, flow.outcome, flow.moved_bits, flow.stalled_s) == (7.5, "expired", pytest.approx(24e6, rel=1e-12), 4.5)


def test_abort_frees_the_capacity_at_once():
    env, topology, fabric = network(link("a", "b", 8e6))
    first, second = (fabric.start(topology.route("a", "b"), 10**6) for _ in range(2))
    env.run(1.0)
    first.abort()
    first.abort()
    assert (first.outcome, first.moved_bits) == ("aborted", pytest.approx(4e6))
    env.run(second.done)
    assert env.now == pytest.approx(1.5)  # its other 4 Mbit at 8 Mbit/s
    assert first.moved_bits == pytest.approx(4e6)
    assert not first.done.triggered
    assert fabric.moved_bits[("ab", True)] == pytest.approx(12e6)


def test_nothing_to_move():
    env, topology, fabric = network(link("a", "b", 8e6, 0.25), link("b", "c", 8e6))
    assert finishes(env, topology, fabric, [("a", "b", 0, 0), ("b", "c", 0, 1)]) == [0.25, 1]
    with pytest.raises(ValueError, match="at least 0 bytes"):
        fabric.start(topology.route("a", "b"), -1)
    with pytest.raises(ValueError, match="at least one hop"):
        fabric.start(topology.route("a", "a"), 1)


def test_progressive_filling_by_hand():
    # Capacities 10 and 6; as in the parking lot, with a flow that crosses nothing.
    assert max_min_rates([10, 6], [{0: 1, 1: 1}, {0: 1}, {1: 1}, {}]) == [3, 7, 3, float("inf")]
    # Weights 2 and 1, costs 1 and 3 of 10: level l with 2 l + 3 l = 10.
    assert max_min_rates([10], [{0: 1}, {0: 3}], [2, 1]) == [4, 2]


def test_what_held_a_flow_back():
    # As two sources of different latency, above: the near flow has the way to s, 8 Mbit/s, alone for 0.4 s (3.2 Mbit) and half of it for 1.2 s; the far one
    # half of it for 1.2 s and then all of it for 0.4 s: 8 Mbit in 1.6 s, 5/8 of it.
    env, topology, fabric = network(link("n", "m", 1e9, 0.1), link("f", "m", 1e9, 0.5), link("m", "s", 8e6))
    near, far = (fabric.start(topology.route(name, "s"), 10**6) for name in "nf")
    env.run()
    for flow in (near, far):
        assert flow.held == [("link", "ms up", pytest.approx(1.6), pytest.approx(8e6), pytest.approx(0.625))]


def test_a_flow_held_first_by_one_link_and_then_by_another():
    # Over 4 and then 6 Mbit/s: alone at 4 on its own first link. At 1 s a second flow joins on the second: 3 each until that one's 3 Mbit have moved, at
    # 2 s; then 4 again until 8 Mbit are done: 4 + 3 + 1, at 2.25 s.
    env, topology, fabric = network(link("a", "b", 4e6), link("c", "b", 1e9), link("b", "d", 6e6))
    flow = fabric.start(topology.route("a", "d"), 10**6)
    env.timeout(1.0).callbacks.append(lambda _: fabric.start(topology.route("c", "d"), 375_000))
    env.run()
    assert sorted(flow.held) == [
        ("link", "ab up", pytest.approx(1.25), pytest.approx(5e6), pytest.approx(1.0)),
        ("link", "bd up", pytest.approx(1.0), pytest.approx(3e6), pytest.approx(0.5)),
    ]


def test_airtime_of_a_cell_and_of_a_half_duplex_link():
    # Rates 12 and 4 Mbit/s in a cell, 3 Mbit/s each: a quarter of the air for the one, three quarters for the other. Then the half-duplex link at 8, alone.
    media = [Medium(name="cell")]
    links = (link("a", "p", 12e6, medium="cell"), link("b", "p", 4e6, medium="cell"), link("h", "i", 8e6, duplex="half"))
    env, topology, fabric = network(*links, media=media)
    one, other, half = (fabric.start(topology.route(*ends), 375_000) for ends in (("a", "p"), ("b", "p"), ("i", "h")))
    env.run()
    assert one.held == [("medium", "cell", pytest.approx(1.0), pytest.approx(3e6), pytest.approx(0.25))]
    assert other.held == [("medium", "cell", pytest.approx(1.0), pytest.approx(3e6), pytest.approx(0.75))]
    assert half.held == [("link", "hi", pytest.approx(0.375), pytest.approx(3e6), pytest.approx(1.0))]


def test_a_cell_of_frequency_division_has_airtime_for_each_direction():
    # Up at 4 and down at 8 Mbit/s in one cell, 4 Mbit each. Frequency division: 1 s and 0.5 s. Time division: equal rates r with r / 4 + r / 8 = 1,
    # 8/3 Mbit/s each, both done at 1.5 s.
    for duplex, ends in (("full", [1.0, 0.5]), ("half", [1.5, 1.5])):
        cell = Medium(name="cell", duplex=duplex)
        env, topology, fabric = network(link("a", "p", 4e6, medium="cell"), link("b", "p", 8e6, medium="cell"), media=[cell])
        assert finishes(env, topology, fabric, [("a", "p", 500_000, 0), ("p", "b", 500_000, 0)]) == pytest.approx(ends)


def test_a_half_duplex_link_in_a_full_duplex_medium_is_refused():
    with pytest.raises(ValueError, match="link 'ap' is half-duplex, and its medium 'cell' has airtime of its own for each direction"):
        network(link("a", "p", 4e6, medium="cell", duplex="half"), media=[Medium(name="cell", duplex="full")])


def test_ways_that_no_flow_is_on_are_forgotten_and_nothing_changes(monkeypatch):
    # Twelve sources behind a trunk, one after the other, two of them at a time; those of the second turn come again.
    links = [link(f"n{place}", "m", (1 + place) * 1e6, 0.01) for place in range(12)] + [link("m", "s", 5e6)]
    flows = [(f"n{turn % 12}", "s", 10**5 + turn, 0.3 * turn) for turn in range(24)]
    found = []
    for most in (10_000, 3):
        monkeypatch.setattr(fabrics, "_LEAST_WAYS", most)
        env, topology, fabric = network(*links)
        found.append(finishes(env, topology, fabric, flows))
    assert found[0] == found[1]
    assert len(fabric._ways) <= 4
    # At least the two wires of the newest way; that of a forgotten way is forgotten unless another way crosses it.
    assert 2 <= len(fabric._capacities) <= 5
