"""The three verbs on small worlds whose timelines fit in a comment."""

import gc
import sqlite3
import weakref
from typing import Any

import pytest

from netfl.compute import DeviceProfile, Work
from netfl.errors import NoRouteError
from netfl.network.outages import ScheduledOutages
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid
from netfl.randomness import Streams
from netfl.trace import Trace
from netfl.world import Message, World

PROFILE = DeviceProfile(
    inference_flop_per_s=100.0, training_flop_per_s=10.0, memory_bytes_per_s=1e9, overhead_s=0.0, memory_bytes=10**6,
    idle_w=1.0, busy_w=3.0,
)  # fmt: skip


def make(transport: Fluid | None = None, down: Any = None) -> World:
    """a - b - c: 8 Mbit/s and 0.1 s, then 80 Mbit/s and 0.2 s. Radio of a: 2 W sending, 0.5 W receiving."""
    sites = [Site(name="a"), Site(name="b", tier="gateway", outages=down), Site(name="c", tier="cloud"), Site(name="alone")]
    links = [
        Link(name="ab", a="a", b="b", up_bps=8e6, down_bps=8e6, latency_s=0.1, transmit_w=2.0, receive_w=0.5),
        Link(name="bc", a="b", b="c", up_bps=80e6, down_bps=80e6, latency_s=0.2),
    ]
    return World(
        topology=Topology(sites, links), profiles={site.name: PROFILE for site in sites}, transport=transport or Fluid(),
        streams=Streams(0), trace=Trace(),
    )  # fmt: skip


def message(num_bytes: int, kind: Any = "update") -> Message:
    return Message(kind=kind, payload_bytes=num_bytes, workload="w")


def rows(world: World, query: str) -> list[Any]:
    world.trace.flush()
    connection: sqlite3.Connection = world.trace.connection
    return connection.execute(query).fetchall()


def test_send_compute_sleep() -> None:
    world = make()
    ends = []

    def process() -> Any:
        # 1 MB over 0.3 s of latency and 8 Mbit/s: 0.3 + 1 = 1.3 s.
        sending = world.send("a", "c", message(1_000_000))
        yield sending
        ends.append((world.now, sending.delivered))
        # 200 flop at 100 FLOP/s: 2 s.
        yield world.compute("c", Work(kind="inference", flop=200), workload="w")
        ends.append(world.now)
        yield world.sleep(0.7)
        ends.append(world.now)

    world.env.process(process())
    world.env.run()
    world.finish("done")
    assert ends == [(pytest.approx(1.3), True), pytest.approx(3.3), pytest.approx(4.0)]
    assert rows(world, "SELECT source, destination, route, payload_bytes, outcome, attempts, sent_bytes, wasted_bytes FROM transfers") == [
        ("a", "c", "a>b>c", 1_000_000, "delivered", 1, 1_000_000, 0)
    ]
    # Energy: a sends 8 Mbit at 8 Mbit/s with 2 W: 2 J; c computes for 2 s at 3 - 1 W above idle: 4 J; idle 1 W for 4 s.
    spent = {row[0]: row[1:] for row in rows(world, "SELECT device, busy_s, compute_j, idle_j, transmit_j, receive_j FROM device_use")}
    assert spent["a"] == (0.0, 0.0, pytest.approx(4.0), pytest.approx(2.0), 0.0)
    assert spent["c"] == (2.0, 4.0, pytest.approx(4.0), 0.0, 0.0)


def test_a_reply_costs_the_receiving_radio() -> None:
    world = make()
    world.send("c", "a", message(1_000_000))
    world.env.run()
    world.finish("done")
    # a receives for 1 s with 0.5 W.
    assert rows(world, "SELECT receive_j FROM device_use WHERE device = 'a'") == [(0.5,)]
    assert rows(world, "SELECT bytes_up, bytes_down FROM device_use WHERE device IN ('a', 'c') ORDER BY device") == [
        (0, 1_000_000),
        (1_000_000, 0),
    ]


def test_an_aborted_transfer_wastes_what_had_moved() -> None:
    world = make()
    sending = world.send("a", "c", message(1_000_000))

    def cut() -> Any:
        yield world.sleep(0.8)  # 0.3 s of silence, then 0.5 s at 1 MB/s: 500,000 bytes
        sending.abort()
        sending.abort()

    world.env.process(cut())
    world.env.run()
    world.finish("done")
    assert not sending.delivered
    assert rows(world, "SELECT outcome, sent_bytes, wasted_bytes FROM transfers") == [("aborted", 500_000, 500_000)]
    assert rows(world, "SELECT link, sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use") == [
        ("ab", 500_000, 0, 500_000, 0),
        ("bc", 500_000, 0, 500_000, 0),
    ]


def test_what_is_under_way_at_the_end_is_in_flight() -> None:
    world = make()
    world.send("a", "c", message(1_000_000))
    world.env.run(until=0.8)
    world.finish("time")
    assert rows(world, "SELECT outcome, sent_bytes, wasted_bytes, end_s FROM transfers") == [("in_flight", 500_000, 0, 0.8)]
    assert rows(world, "SELECT sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use") == [(500_000, 0, 0, 500_000)] * 2


def test_outages_of_what_nobody_asks_for_are_not_recorded() -> None:
    down = ScheduledOutages(down=((0.5, 1.5),))
    crossed, asked, idle = (Site(name=name, outages=down) for name in ("crossed", "asked", "idle"))
    links = [Link(name=site.name + " link", a=site.name, b="hub", up_bps=8e6, down_bps=8e6) for site in (crossed, asked, idle)]
    sites = [Site(name="hub"), crossed, asked, idle]
    world = World(
        topology=Topology(sites, links),
        profiles={site.name: PROFILE for site in sites},
        transport=Fluid(),
        streams=Streams(0),
        trace=Trace(),
    )
    world.send("crossed", "hub", message(1_000_000))
    assert world.is_up("asked")
    world.env.run()
    world.finish("done")
    assert rows(world, "SELECT element, start_s, end_s FROM outages ORDER BY element") == [("asked", 0.5, 1.5), ("crossed", 0.5, 1.5)]


def test_an_outage_stalls_transfers_and_work_and_is_recorded() -> None:
    world = make(down=ScheduledOutages(down=((0.8, 2.8),)))
    sending = world.send("a", "c", message(1_000_000))
    computing = world.compute("b", Work(kind="inference", flop=100), workload="w")
    world.env.run()
    world.finish("done")
    # 500,000 bytes had moved; 2 s of outage; the rest takes 0.5 s: 3.3 s. Work of 1 s from 0 stands still for 2 s: 3 s.
    assert sending.transfer.end_s == pytest.approx(3.3)
    assert computing.job.end_s == pytest.approx(3.0)
    assert rows(world, "SELECT element, element_kind, start_s, end_s FROM outages") == [("b", "device", 0.8, 2.8)]
    assert rows(world, "SELECT stalled_s FROM transfers")[0][0] == pytest.approx(2.0)


def test_no_route() -> None:
    with pytest.raises(NoRouteError, match="alone"):
        make().send("alone", "c", message(1))


def test_a_message_to_oneself_arrives_at_once() -> None:
    world = make()
    sending = world.send("a", "a", message(5))
    world.env.run()
    world.finish("done")
    assert sending.delivered
    assert rows(world, "SELECT end_s, payload_bytes FROM transfers") == [(0.0, 5)]
    assert rows(world, "SELECT * FROM link_use") == []


def test_bytes_by_kind_and_workload_are_kept_apart() -> None:
    world = make()
    world.send("a", "b", message(10, "update"))
    world.send("a", "b", message(20, "request"))
    world.send("a", "b", Message(kind="request", payload_bytes=3, workload="other"))
    world.env.run()
    world.finish("done")
    assert rows(world, "SELECT workload, kind, sent_bytes FROM link_use ORDER BY 1, 2") == [
        ("other", "request", 3),
        ("w", "request", 20),
        ("w", "update", 10),
    ]


def test_equal_worlds_have_equal_digests_and_other_ones_do_not() -> None:
    digests = []
    for num_bytes in (1000, 1000, 1001):
        world = make()
        world.send("a", "c", message(num_bytes))
        world.env.run()
        world.finish("done")
        digests.append(world.trace.digest())
    assert digests[0] == digests[1] != digests[2]


def test_who_waits_for_a_send_finds_its_row_written() -> None:
    world = make()
    found = []

    def process() -> Any:
        sending = world.send("a", "c", message(1_000_000))
        yield sending
        found.append((sending.delivered, rows(world, "SELECT transfer, outcome FROM transfers")))

    world.env.process(process())
    world.env.run()
    assert found == [(True, [(1, "delivered")])]


def test_a_send_that_ends_with_the_run_is_written_once() -> None:
    world = make()
    sending = world.send("a", "c", message(1_000_000))
    sending.callbacks.append(lambda _: None)  # somebody waits
    while not sending.triggered:
        world.env.step()
    assert not sending.processed
    world.finish("time")
    assert rows(world, "SELECT transfer, outcome, sent_bytes FROM transfers") == [(1, "delivered", 1_000_000)]
    assert rows(world, "SELECT link, sent_bytes, delivered_bytes FROM link_use") == [
        ("ab", 1_000_000, 1_000_000),
        ("bc", 1_000_000, 1_000_000),
    ]


def test_bytes_of_one_attempt_and_of_several_add_up_on_a_link() -> None:
    # b is down from 0.8 to 1.8 s and the timeout is 0.5 s: 500,000 bytes move, are wasted at 1.3 s, and all of them move again.
    world = make(Fluid(timeout=0.5, wait=1.0, on_failure="restart"), ScheduledOutages(down=((0.8, 1.8),)))
    world.send("a", "c", message(1_000_000))
    world.env.run()
    again = world.send("a", "c", message(300))
    world.env.run()
    world.finish("done")
    assert again.delivered
    assert rows(world, "SELECT attempts, sent_bytes, wasted_bytes FROM transfers") == [(2, 1_500_000, 500_000), (1, 300, 0)]
    assert (
        rows(world, "SELECT sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use")
        == [(1_500_300, 1_000_300, 500_000, 0)] * 2
    )
    assert rows(world, "SELECT bytes_up FROM device_use WHERE device = 'a'") == [(1_500_300,)]
    assert rows(world, "SELECT bytes_down FROM device_use WHERE device = 'c'") == [(1_000_300,)]


def test_a_send_without_a_route_leaves_nothing_under_way() -> None:
    world = make()
    with pytest.raises(NoRouteError):
        world.send("alone", "c", message(1))
    world.finish("done")
    assert rows(world, "SELECT * FROM transfers") == []


def test_a_send_for_which_nobody_waits_can_still_be_waited_for() -> None:
    world = make()
    first, second = world.send("a", "c", message(1_000_000)), world.send("a", "a", message(5))
    ends = []

    def process() -> Any:
        yield world.sleep(5.0)
        for event in (first, second, first | world.sleep(1.0), first & second):
            yield event
            ends.append(world.now)

    world.env.process(process())
    world.env.run()
    world.finish("done")
    assert first.processed and second.processed
    assert ends == [5.0] * 4
    assert rows(world, "SELECT transfer, end_s, outcome FROM transfers ORDER BY transfer") == [
        (1, pytest.approx(1.3), "delivered"),
        (2, 0.0, "delivered"),
    ]


def test_what_has_ended_is_freed_without_the_collector() -> None:
    world = make()
    kept = []

    def process() -> Any:
        for _ in range(3):
            for event in (world.send("a", "c", message(1000)), world.compute("c", Work(kind="inference", flop=2), workload="w")):
                kept.append(weakref.ref(event))
                yield event
            cut = world.send("a", "c", message(1000))
            kept.append(weakref.ref(cut))
            cut.abort()

    gc.collect()
    gc.disable()
    try:
        world.env.process(process())
        world.env.run()
        # Nor what they were made of: a cycle of anything would be found here.
        assert gc.collect() == 0
        assert len(kept) == 9 and all(each() is None for each in kept)
    finally:
        gc.enable()


def test_a_process_that_nobody_waits_for_costs_no_events_of_its_own() -> None:
    world = make()
    happened: list[tuple[str, float]] = []
    before = world.sleep(1.0)

    def process() -> Any:
        happened.append(("begun", world.now))
        yield world.sleep(2.0)
        yield before  # long over: it goes on at once
        happened.append(("over", world.now))

    world.go(process())
    assert happened == [("begun", 0.0)]
    steps = 0
    while world.step():
        steps += 1
    assert happened == [("begun", 0.0), ("over", 2.0)]
    assert steps == 2  # the two sleeps


def test_an_error_in_a_process_that_nobody_waits_for_comes_out() -> None:
    world = make()

    def process() -> Any:
        yield world.sleep(1.0)
        raise AssertionError("a bug of ours")

    world.go(process())
    with pytest.raises(AssertionError, match="a bug of ours"):
        world.env.run()
