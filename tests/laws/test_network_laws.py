"""What holds for every network: nothing vanishes, nothing is carried twice, nothing idles that could carry."""

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from netfl.network.fabric import Fabric
from netfl.network.outages import Timeline
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Medium, Site, Topology
from netfl.network.transport import Fluid, Transport

RATE = st.sampled_from([1e6, 2e6, 8e6]) | st.floats(0.5e6, 50e6)
LATENCY = st.sampled_from([0.0, 0.01, 0.5])
LAWS = settings(max_examples=120, deadline=None, derandomize=True, database=None)


@st.composite
def timelines(draw):
    gaps = draw(st.lists(st.floats(0.05, 3.0), max_size=8))
    return Timeline([sum(gaps[: place + 1]) for place in range(len(gaps))])


TRANSPORT = st.sampled_from(["fluid", "cubic", "reno", "bbr"])


def transport_of(kind, **settings):
    return Fluid(**settings) if kind == "fluid" else Tcp(congestion_control=kind, **settings)


@st.composite
def networks(draw, lossy=False):
    """A tree of up to 8 sites with some links more, in a medium or not, and outages of some sites and links."""
    count = draw(st.integers(2, 8))
    names = [f"n{i}" for i in range(count)]
    pairs = [(names[i], names[draw(st.integers(0, i - 1))]) for i in range(1, count)]
    for _ in range(draw(st.integers(0, 3))):
        pair = (names[draw(st.integers(1, count - 1))], names[0])
        if pair not in pairs:
            pairs.append(pair)
    links = [
        Link(
            name=f"l{i}",
            a=a,
            b=b,
            up_bps=draw(RATE),
            down_bps=draw(RATE),
            latency_s=draw(LATENCY),
            duplex=draw(st.sampled_from(["full", "half"])),
            medium=draw(st.sampled_from([None, None, "cell"])),
            loss_up=draw(st.sampled_from([0.0, 0.01, 0.2])) if lossy else 0.0,
        )
        for i, (a, b) in enumerate(pairs)
    ]
    topology = Topology([Site(name=name) for name in names], links, [Medium(name="cell", efficiency_exponent=0.11)])
    down = {name: draw(timelines()) for name in [*names, *topology.links] if draw(st.integers(0, 3)) == 0}
    sends = draw(
        st.lists(
            st.tuples(
                st.sampled_from(names), st.sampled_from(names), st.integers(0, 2 * 10**6), st.sampled_from([0.0, 1.0]) | st.floats(0, 4)
            ),
            min_size=1,
            max_size=12,
        )
    )
    return topology, down, sends


def use_of(topology, before, after):
    """Airtime that each capacity gave between two readings of the meter, in seconds."""
    used = {}
    for (name, forward), bits in after.items():
        link = topology.links[name]
        moved = bits - before.get((name, forward), 0.0)
        assert moved > -1e-3
        key = link.medium or (name if link.duplex == "half" else (name, forward))
        used[key] = used.get(key, 0.0) + moved / (link.up_bps if forward else link.down_bps)
    return used


@LAWS
@given(
    st.data(), TRANSPORT, st.sampled_from(["resume", "restart", "reroute"]), st.lists(st.integers(0, 11), max_size=3), st.floats(1.0, 20.0)
)
def test_bytes_are_conserved_and_no_capacity_is_exceeded(data, kind, on_failure, aborted, end_s):
    topology, down, sends = data.draw(networks(lossy=kind != "fluid"))
    env = simpy.Environment()
    fabric = Fabric(env, topology, down)
    transport = Transport(env, fabric, topology, transport_of(kind, timeout=0.7, wait=0.3, attempts=3, on_failure=on_failure))
    transfers = []

    def send(source, destination, num_bytes, start_s):
        yield env.timeout(start_s)
        transfers.append(transport.send(source, destination, num_bytes))

    def abort(after_s, number):
        yield env.timeout(after_s)
        if number < len(transfers):
            transfers[number].abort()

    for one in sends:
        env.process(send(*one))
    for place, number in enumerate(aborted):
        env.process(abort(1.5 + place, number))
    before, step = fabric.moved_bits, 0.37
    while env.now + step < end_s:
        env.run(env.now + step)
        after = fabric.moved_bits
        for seconds in use_of(topology, before, after).values():
            assert seconds <= step * (1 + 1e-9) + 1e-9
        before = after
    env.run(end_s)
    cut = transport.close()

    carried = {}
    for transfer in transfers:
        # Every second has its reason, and every bit moved in one of them.
        waits = transfer.held
        parts = [transfer.latency_s, transfer.stalled_s, *(wait.seconds for wait in waits)]
        assert abs(sum(parts) - (transfer.end_s - transfer.start_s)) < 1e-9
        assert min(parts) >= 0
        assert all(0 <= wait.share <= 1 + 1e-9 for wait in waits)
        if transfer.route.hops:
            moved_bits = sum(wait.moved_bits for wait in waits)
            assert 8 * transfer.sent_bytes - 1e-3 <= moved_bits <= 8 * (transfer.sent_bytes + transfer.attempts) + 1e-3
        sent, delivered = transfer.sent_bytes, transfer.delivered_bytes
        assert sent == delivered + transfer.wasted_bytes + transfer.in_flight_bytes
        wire_bytes = transport.settings.wire_bytes(transfer.num_bytes)
        assert delivered == (wire_bytes if transfer.outcome == "delivered" else 0)
        assert (transfer.outcome == "in_flight") == (transfer in cut)
        assert transfer.in_flight_bytes == 0 or transfer in cut
        assert transfer.outcome != "delivered" or on_failure == "restart" or kind != "fluid" or transfer.wasted_bytes == 0
        for hop in transfer.hop_bytes():
            # A transfer that leaves a route has moved less over each of its hops than in all.
            assert hop.sent == hop.delivered + hop.wasted + hop.in_flight
            assert hop.sent == sent or (on_failure == "reroute" and hop.sent < sent)
            bits = carried.setdefault((hop.hop.link.name, hop.hop.forward), [0, 0])
            bits[0] += 8 * hop.sent
            bits[1] += 8 * transfer.attempts
    # The meter integrates rates over time and knows nothing of messages; whole bytes lose less than 8 bits an attempt.
    meter = fabric.moved_bits
    for hop, (bits, slack) in carried.items():
        assert bits - 1e-3 <= meter.get(hop, 0.0) <= bits + slack + 1e-3
    assert sum(meter.values()) <= sum(bits + slack for bits, slack in carried.values()) + 1e-3 * len(carried)


@LAWS
@given(
    st.lists(st.tuples(RATE.map(lambda rate: 60e6 + rate), st.integers(1, 10**6), st.floats(0, 3)), min_size=1, max_size=10),
    timelines(),
)
def test_work_is_conserved_at_a_shared_link(sources, down):
    """A link faster to reach than to cross never idles while a message is there: Lindley's recursion over its up time."""
    links = [Link(name="out", a="m", b="s", up_bps=5e6, down_bps=5e6)]
    links += [Link(name=f"l{i}", a=f"n{i}", b="m", up_bps=rate, down_bps=rate) for i, (rate, _, _) in enumerate(sources)]
    topology = Topology([Site(name=name) for name in ("m", "s", *(f"n{i}" for i in range(len(sources))))], links)
    env = simpy.Environment()
    fabric = Fabric(env, topology, {"out": down})
    ends = []

    def send(place, num_bytes, start_s):
        yield env.timeout(start_s)
        flow = fabric.start(topology.route(f"n{place}", "s"), num_bytes)
        yield flow.done
        ends.append(env.now)

    for place, (_, num_bytes, start_s) in enumerate(sources):
        env.process(send(place, num_bytes, start_s))
    env.run(1000.0)
    free_s = 0.0
    for _, num_bytes, start_s in sorted(sources, key=lambda source: source[2]):
        free_s = down.finish_of(max(free_s, start_s), 8 * num_bytes / 5e6)
    if free_s < 1000:
        assert len(ends) == len(sources)
        assert max(ends) == pytest.approx(free_s, rel=1e-9)


@LAWS
@given(st.data(), TRANSPORT, st.randoms(use_true_random=False))
def test_results_do_not_depend_on_the_order_in_which_flows_are_named(data, kind, shuffle):
    topology, down, sends = data.draw(networks(lossy=kind != "fluid"))

    def ends(order):
        env = simpy.Environment()
        transport = Transport(env, Fabric(env, topology, down), topology, transport_of(kind, timeout=0.7))
        found = {}

        def send(number, source, destination, num_bytes, start_s):
            yield env.timeout(start_s)
            transfer = transport.send(source, destination, num_bytes)
            yield transfer.done
            found[number] = (transfer.end_s, transfer.outcome, transfer.attempts, transfer.sent_bytes)

        for number in order:
            env.process(send(number, *sends[number]))
        env.run(60.0)
        return found

    forward = ends(range(len(sends)))
    mixed = list(range(len(sends)))
    shuffle.shuffle(mixed)
    other = ends(mixed)
    assert forward.keys() == other.keys()
    for number, (end_s, outcome, attempts, sent_bytes) in forward.items():
        assert other[number][0] == pytest.approx(end_s, rel=1e-9)
        assert other[number][1:3] == (outcome, attempts)
        assert abs(other[number][3] - sent_bytes) <= attempts
