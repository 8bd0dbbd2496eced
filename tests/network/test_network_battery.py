"""Batteries on small worlds: every expected instant is derived in a comment."""

import math
import random
from typing import Any

import pytest

from netfl.compute import DeviceProfile, Work
from netfl.network.battery import Battery
from netfl.network.datagram import Datagram
from netfl.network.outages import ScheduledOutages
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid
from netfl.network.variation import Rates
from netfl.randomness import Streams
from netfl.trace import Trace
from netfl.world import Message, World

PROFILE = DeviceProfile(
    inference_flop_per_s=100.0, training_flop_per_s=10.0, memory_bytes_per_s=1e9, overhead_s=0.0, memory_bytes=10**6,
    idle_w=1.0, busy_w=3.0,
)  # fmt: skip


def make(battery: Battery | None, *, transport: Any = None, down: Any = None, **link: Any) -> World:
    """a - hub and b - hub over 8 Mbit/s each, then hub - server over 8 Mbit/s. a lives on the battery: 1 W idle, 2 W more computing, 2 W
    sending, 0.5 W receiving."""
    sites = [Site(name="a", battery=battery, outages=down), Site(name="b"), Site(name="hub"), Site(name="server")]
    links = [
        Link(**{"name": "up", "a": "a", "b": "hub", "up_bps": 8e6, "down_bps": 8e6, "transmit_w": 2.0, "receive_w": 0.5} | link),
        Link(name="beside", a="b", b="hub", up_bps=8e6, down_bps=8e6),
        Link(name="core", a="hub", b="server", up_bps=8e6, down_bps=8e6),
    ]
    return World(
        topology=Topology(sites, links), profiles={site.name: PROFILE for site in sites}, transport=transport or Fluid(),
        streams=Streams(0), trace=Trace(),
    )  # fmt: skip


def message(num_bytes: int) -> Message:
    return Message(kind="update", payload_bytes=num_bytes, workload="w")


def rows(world: World, query: str) -> list[Any]:
    world.trace.flush()
    return world.trace.connection.execute(query).fetchall()


def outages(world: World) -> list[Any]:
    return rows(world, "SELECT element, start_s, end_s, reason FROM outages ORDER BY start_s")


def empty_s(world: World) -> float:
    """When a's battery first ran empty."""
    return world._timelines.get("a")._starts[0]


def at(world: World, seconds: float, what: Any) -> None:
    world.env.timeout(seconds).callbacks.append(lambda _: what())


def near(seconds: float) -> Any:
    return pytest.approx(seconds, rel=1e-11)


def test_idle_only() -> None:
    # 20 J at 1 W: 20 s. Nothing has to happen for that.
    world = make(Battery(capacity=20.0))
    world.env.run(19.999)
    assert world.is_up("a")
    world.env.run(20.001)
    assert not world.is_up("a")
    assert world.next_change_s("a") == math.inf
    world.env.run(50.0)
    world.finish("done")
    assert outages(world) == [("a", near(20.0), 50.0, "battery")]
    # Idle power ends with the battery; the others' does not.
    assert dict(rows(world, "SELECT device, idle_j FROM device_use WHERE device IN ('a', 'b')")) == {"a": near(20.0), "b": near(50.0)}


def test_part_of_the_capacity_at_time_0() -> None:
    world = make(Battery(capacity=20.0, initial=0.25))
    world.env.run(10.0)
    assert not world.is_up("a")
    assert empty_s(world) == near(5.0)


def test_computing() -> None:
    # Idle for 2 s: 2 J. Then 3 W for 4 s: 12 J. 6 J are left at 6 s: empty at 12 s.
    world = make(Battery(capacity=20.0))
    at(world, 2.0, lambda: world.compute("a", Work(kind="inference", flop=400), workload="w"))
    world.env.run()
    assert empty_s(world) == near(12.0)


def test_dead_in_the_middle_of_work() -> None:
    # 3 W from the beginning: empty at 20 / 3 s, before the 8 s of work are over; the work never ends.
    world = make(Battery(capacity=20.0))
    done = []
    world.compute("a", Work(kind="inference", flop=800), workload="w").callbacks.append(done.append)
    world.env.run(100.0)
    world.finish("done")
    assert done == []
    assert outages(world) == [("a", near(20 / 3), 100.0, "battery")]
    # Its one step has not ended, so the books hold no work.
    assert rows(world, "SELECT busy_s, idle_j FROM device_use WHERE device = 'a'") == [(0.0, near(20 / 3))]


def test_work_that_ends_as_the_battery_does() -> None:
    # 24 J at 3 W are 8 s, and so is the work.
    world = make(Battery(capacity=24.0))
    computing = world.compute("a", Work(kind="inference", flop=800), workload="w")
    world.env.run()
    assert computing.processed
    assert empty_s(world) == near(8.0)


@pytest.mark.parametrize("capacity", [20.0, 200.0])
def test_one_transfer(capacity: float) -> None:
    # 1 MB at 8 Mbit/s: 1 s with 2 W for the radio, 2 J; idle takes the rest at 1 W.
    world = make(Battery(capacity=capacity))
    at(world, 3.0, lambda: world.send("a", "server", message(1_000_000)))
    world.env.run()
    assert empty_s(world) == near(capacity - 2.0)


def test_receiving() -> None:
    # 1 s at 0.5 W.
    world = make(Battery(capacity=20.0))
    world.send("server", "a", message(1_000_000))
    world.env.run()
    assert empty_s(world) == near(19.5)


def test_two_flows_that_share() -> None:
    # 'core' has 8 Mbit/s for both. a sends 4 MB from time 0, b 1 MB from 1 s. a: 8 Mbit in the first second, power 3 W: 3 J. Then 4 Mbit/s each,
    # a's power 1 + 2 / 2 = 2 W, until b's 8 Mbit are over at 3 s: 4 J. Then 8 Mbit/s and 3 W again: of 10 J the last 3 last 1 s: 4 s.
    world = make(Battery(capacity=10.0), transport=Fluid(timeout=5.0, attempts=1))
    sending = world.send("a", "server", message(4_000_000))
    at(world, 1.0, lambda: world.send("b", "server", message(1_000_000)))
    world.env.run(20.0)
    world.finish("done")
    assert outages(world) == [("a", near(4.0), 20.0, "battery")]
    # 8 + 2 x 4 + 8 Mbit have moved: 3 of 4 MB. The flow stalls for 5 s, then the only attempt has failed and all of it is wasted.
    assert rows(world, "SELECT end_s, outcome, sent_bytes, wasted_bytes, stalled_s FROM transfers WHERE source = 'a'") == [
        (near(9.0), "failed", 3_000_000, 3_000_000, near(5.0))
    ]
    assert sending.transfer.outcome == "failed"
    for sent, delivered, wasted, in_flight in rows(
        world, "SELECT sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use"
    ):
        assert sent == delivered + wasted + in_flight
    # 4 J at idle and 3 MB x 8 / 8 Mbit/s x 2 W.
    assert rows(world, "SELECT idle_j, transmit_j FROM device_use WHERE device = 'a'") == [(near(4.0), near(6.0))]


def test_a_relay_spends_on_both_of_its_radios() -> None:
    # The phone receives with 0.5 W from the watch and sends with 2 W, both at 4 Mbit/s of 8: 1 + 0.25 + 1 = 2.25 W. 9 J: 4 s.
    sites = [Site(name="watch"), Site(name="phone", battery=Battery(capacity=9.0)), Site(name="net")]
    links = [
        Link(name="body", a="watch", b="phone", up_bps=8e6, down_bps=8e6, b_receive_w=0.5),
        Link(name="cell", a="phone", b="net", up_bps=8e6, down_bps=8e6, transmit_w=2.0),
        Link(name="x", a="net", b="far", up_bps=4e6, down_bps=4e6),
    ]
    world = World(
        topology=Topology([*sites, Site(name="far")], links), profiles=dict.fromkeys(("watch", "phone", "net", "far"), PROFILE),
        transport=Fluid(), streams=Streams(0), trace=Trace(),
    )  # fmt: skip
    world.send("watch", "far", message(10_000_000))
    world.env.run(10.0)
    world.finish("done")
    assert outages(world) == [("phone", near(4.0), 10.0, "battery")]
    assert rows(world, "SELECT stalled_s FROM transfers") == [(near(6.0),)]


def test_harvest_brings_it_back() -> None:
    # 10 J less 1 - 0.5 W: empty at 20 s. 0.5 W refill 20 % = 2 J in 4 s: back at 24 s, empty again 4 s later, and so on, every 8 s.
    world = make(Battery(capacity=10.0, harvest=0.5, restart=0.2))
    world.env.run(22.0)
    assert not world.is_up("a")
    assert world.next_change_s("a") == near(24.0)
    world.env.run(38.0)
    world.finish("done")
    assert outages(world) == [
        ("a", near(20.0), near(24.0), "battery"),
        ("a", near(28.0), near(32.0), "battery"),
        ("a", near(36.0), 38.0, "battery"),
    ]
    # Up for 20 + 4 + 4 s of 1 W: what it had, and half a watt for 38 s, less 1 J that is there again at 38 s.
    assert rows(world, "SELECT idle_j FROM device_use WHERE device = 'a'") == [(near(28.0),)]
    assert near(10.0 + 0.5 * 38.0 - 1.0) == 28.0


def test_work_goes_on_after_the_harvest() -> None:
    # 3 W - 1 W of harvest = 2 W: 10 J last 5 s. 1 W refills 4 J in 4 s: back at 9 s; the last 1 s of the 6 s of work ends at 10 s.
    world = make(Battery(capacity=10.0, harvest=1.0, restart=0.4))
    computing = world.compute("a", Work(kind="inference", flop=600), workload="w")
    ended = []
    computing.callbacks.append(lambda _: ended.append(world.now))
    world.env.run(11.0)
    assert ended == [near(10.0)]


def test_a_transfer_goes_on_after_the_harvest() -> None:
    # 3 W - 1 W = 2 W: 10 J last 5 s, 40 Mbit. Back at 9 s with 4 J; the last 8 of 48 Mbit take 1 s more.
    world = make(Battery(capacity=10.0, harvest=1.0, restart=0.4))
    sending = world.send("a", "server", message(6_000_000))
    world.env.run(11.0)
    assert sending.delivered
    assert sending.transfer.end_s == near(10.0)
    assert sending.transfer.stalled_s == near(4.0)


def test_what_comes_while_it_is_full_is_lost() -> None:
    # 2 W of harvest and 1 W at idle: full all the time. From 7 s on 3 W for computing and 2 W for a radio, a net of 3 W: 6 J last 2 s.
    world = make(Battery(capacity=6.0, harvest=2.0))
    at(world, 7.0, lambda: world.compute("a", Work(kind="inference", flop=10_000), workload="w"))
    at(world, 7.0, lambda: world.send("a", "server", message(10_000_000)))
    world.env.run(9.2)
    world.finish("done")
    assert outages(world) == [("a", near(9.0), 9.2, "battery")]


def test_a_full_battery_between_two_rates() -> None:
    # Harvest 1.5 W, idle 1 W, sending at the full rate 2 W more. 4 J. A transfer of 2 MB from 0 s: net 1.5 W for 2 s: 1 J left, then +0.5 W; full
    # at 2 + 6 = 8 s; at 20 s two more transfers: 3 W in all for 4 / 1.5 s.
    world = make(Battery(capacity=4.0, harvest=1.5), transport=Fluid(timeout=1.0, attempts=1))
    world.send("a", "server", message(2_000_000))
    for _ in range(2):
        at(world, 20.0, lambda: world.send("a", "server", message(4_000_000)))
    world.env.run(22.7)
    world.finish("done")
    assert outages(world) == [("a", near(20 + 4 / 1.5), 22.7, "battery")]


def test_its_other_outages() -> None:
    # Down from 2 to 5 s: idle power goes on, work stands still, flows too. 1 + 2 + 2 W for 2 s, 1 W for 3 s, then 5 W: 20 - 10 - 3 = 7 J: 6.4 s.
    world = make(Battery(capacity=20.0), down=ScheduledOutages(down=((2.0, 5.0), (6.0, 7.0), (8.0, 9.0))))
    world.compute("a", Work(kind="inference", flop=10_000), workload="w")
    world.send("a", "server", message(100_000_000))
    world.env.run(10.0)
    world.finish("done")
    # From 6 to 7 s: 7 - 5 = 2 J less 1 J; then 5 W: 0.2 s. What is empty is not down for another reason as well.
    assert outages(world) == [("a", 2.0, 5.0, "outage"), ("a", 6.0, 7.0, "outage"), ("a", near(7.2), 10.0, "battery")]


def test_a_rate_that_varies() -> None:
    # 4 Mbit/s for 2 s, 12 Mbit/s for 2 s, mean 8: airtime is counted at the mean, so the radio draws 1 W, then 3 W. 2 W for 2 s, then 4 W: 10 J
    # are spent at 2 + 6 / 4 = 3.5 s.
    rates = Rates([0.0, 2.0], [4e6, 12e6], 4.0)
    sites = [Site(name="a", battery=Battery(capacity=10.0)), Site(name="c")]
    links = [Link(name="l", a="a", b="c", up_bps=8e6, down_bps=8e6, transmit_w=2.0, up_rates=rates)]
    world = World(
        topology=Topology(sites, links), profiles={"a": PROFILE, "c": PROFILE}, transport=Fluid(), streams=Streams(0), trace=Trace()
    )  # fmt: skip
    world.send("a", "c", message(100_000_000))
    world.env.run(5.0)
    world.finish("done")
    assert outages(world) == [("a", near(3.5), 5.0, "battery")]


def test_devices_without_a_battery_and_idle_ones_cost_nothing() -> None:
    world = make(None)
    assert world.env.peek() == math.inf
    world = make(Battery(capacity=1e6))
    assert world.env.peek() == math.inf
    # Asked for, it is there, and still without a timer; with work, or a flow, it has one.
    assert world.is_up("a")
    assert world.env.peek() == math.inf
    world.compute("a", Work(kind="inference", flop=0), workload="w")
    assert world.env.peek() < math.inf


@pytest.mark.parametrize(
    "battery", [Battery(capacity=20.0), Battery(capacity=9.0, initial=0.4, harvest=0.7, restart=0.3), Battery(capacity=9.0, harvest=2.0)]
)
def test_what_nobody_asked_about_is_what_a_timer_would_have_told(battery: Battery) -> None:
    # A message from the server over b's link touches nothing of a; one of no bytes to a, at time 0, sets its timer.
    told = []
    for first in ("b", "a"):
        world = make(battery)
        world.send("server", first, message(0))
        at(world, 61.0, lambda world=world: world.send("a", "server", message(1_000_000)))
        world.env.run(200.0)
        world.finish("done")
        told.append([(row[0], near(row[1]), near(row[2]), row[3]) for row in outages(world)])
    assert told[0] == [(row[0], row[1].expected, row[2].expected, row[3]) for row in told[1]]
    assert len(told[0]) == (0 if battery.harvest > 1 else 1 if not battery.harvest else len(told[0]))


def test_checks_are_few_while_much_is_left() -> None:
    # 300 transfers of b change a's rate 600 times. 5 kJ at 1 W idle; a's own transfer of 100 MB takes its 200 J of radio in any case.
    world = make(Battery(capacity=5_000.0))
    looks = 0
    supply = world._timelines.get("a")
    look = supply.look

    def counted() -> None:
        nonlocal looks
        looks += 1
        look()

    supply.look = counted  # type: ignore[method-assign]
    world.send("a", "server", message(100_000_000))
    for number in range(300):
        at(world, 0.3 * number, lambda: world.send("b", "server", message(100_000)))
    world.env.run(200.0)
    assert looks < 20
    world.env.run()
    assert empty_s(world) == near(4_800.0)


def test_datagram_refuses_batteries() -> None:
    sites = [Site(name="a", battery=Battery(capacity=10.0)), Site(name="c")]
    links = [Link(name="l", a="a", b="c", up_bps=8e6, down_bps=8e6)]
    assert any("'a' has a battery" in problem for problem in Datagram().problems(Topology(sites, links)))


@pytest.mark.parametrize(("bad", "told"), [({"capacity": 0.0}, "capacity"), ({"initial": 0.0}, "initial"), ({"restart": 1.5}, "restart")])
def test_bad_batteries(bad: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Battery(**{"capacity": 10.0} | bad)


@pytest.mark.parametrize("seed", range(12))
def test_no_more_is_spent_than_there_was(seed: int) -> None:
    """Random loads: capacity and harvest are all there is, nothing of a flow is lost, and every depletion is that of an independent integration."""
    draw = random.Random(seed)
    battery = Battery(
        capacity=draw.uniform(5, 60),
        harvest=draw.choice([0.0, 0.3, 0.9, 1.7]),
        restart=draw.uniform(0.05, 0.5),
        initial=draw.uniform(0.3, 1),
    )
    transport = draw.choice([Fluid(timeout=2.0, wait=0.5), Tcp(timeout=2.0, wait=0.5), Fluid(timeout=2.0, on_failure="restart")])
    down = draw.choice([None, ScheduledOutages(down=((1.5, 2.5), (4.0, 4.3)), repeat_every=6.0)])
    world = make(battery, transport=transport, down=down, latency_s=0.01)
    ends = [("a", "server"), ("server", "a"), ("b", "server"), ("server", "b"), ("a", "b")]
    for _ in range(60):
        source, destination = draw.choice(ends)
        num_bytes = draw.randrange(3_000_000)
        at(world, draw.uniform(0, 80), lambda s=source, d=destination, n=num_bytes: world.send(s, d, message(n)))
    for _ in range(12):
        work = Work(kind="inference", flop=draw.randrange(10, 400))
        at(world, draw.uniform(0, 80), lambda work=work: world.compute("a", work, workload="w"))
    end_s = 90.0
    # An independent integration in steps of 1 ms, from rates and the processor's state.
    supply, step_s = world._timelines.get("a"), 1e-3
    charge_j, worst_j = battery.capacity * battery.initial, 0.0
    was_up = True
    for number in range(1, round(end_s / step_s)):
        world.env.run(number * step_s)
        empty = supply._empty
        if was_up and not empty:
            processor = world._processors.get("a")
            computes = processor is not None and bool(processor._queue) and supply._outages.up_at(world.now)
            fabric = supply._radio
            power_w = 1.0 + 2.0 * computes + fabric.radio_w("a")
            charge_j = min(charge_j + (battery.harvest - power_w) * step_s, battery.capacity)
            worst_j = max(worst_j, abs(charge_j - supply.charge_j()))
        elif empty and was_up:
            # It runs empty in the step in which an integration in steps says so.
            assert abs(charge_j) < 0.1
        elif not empty:
            charge_j = battery.capacity * battery.restart
        was_up = not empty
    # Each change of power falls somewhere within a step of at most 5 W: 5 mJ each.
    assert worst_j < 0.2
    world.env.run(end_s)
    world.finish("done")
    (spent,) = rows(world, "SELECT compute_j + idle_j + transmit_j + receive_j FROM device_use WHERE device = 'a'")
    assert spent[0] <= battery.capacity * battery.initial + battery.harvest * end_s + 1e-9
    for sent, delivered, wasted, in_flight in rows(
        world, "SELECT sent_bytes, delivered_bytes, wasted_bytes, in_flight_bytes FROM link_use"
    ):
        assert sent == delivered + wasted + in_flight
