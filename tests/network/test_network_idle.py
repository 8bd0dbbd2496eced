"""What nothing crosses and nobody asks about costs nothing: no events, no draws, next to no memory."""

import math
import tracemalloc

import pytest

from netfl.compute import DeviceProfile
from netfl.network.battery import Battery
from netfl.network.bursts import LossBursts
from netfl.network.outages import ExponentialOutages, PhoneDiurnal, ScheduledOutages, WeibullOutages
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Site, Topology
from netfl.network.variation import Rates
from netfl.randomness import Stream, Streams
from netfl.trace import Trace
from netfl.world import Message, World

PROFILE = DeviceProfile(
    inference_flop_per_s=1e9, training_flop_per_s=1e9, memory_bytes_per_s=1e9, overhead_s=0.0, memory_bytes=10**9, idle_w=1.0, busy_w=2.0
)
COUNT = 100_000
KINDS = (
    ExponentialOutages(mean_up=60.0, mean_down=6.0), WeibullOutages(up_scale=60.0, down_scale=6.0), PhoneDiurnal(),
    ScheduledOutages(down=((5.0, 6.0),), repeat_every=10.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def topology():
    """A star of 100,000 devices, each with outages of its own and of its link, a recorded bandwidth and losses in bursts; half have a battery."""
    rates, bursts = Rates([0.0, 1.0], [1e6, 2e6], 2.0), LossBursts(mean_good=1.0, mean_bad=1.0, loss_in_bad=0.1)
    battery = Battery(capacity=100.0, harvest=0.5)
    sites = [Site(name=f"d{i}", outages=KINDS[i % 4], battery=battery if i % 2 else None) for i in range(COUNT)]
    links = [
        Link(
            name=f"l{i}", a=f"d{i}", b="server", up_bps=1e6, down_bps=1e6, latency_s=0.01, outages=KINDS[(i + 3) % 4],
            up_rates=rates, down_rates=rates, bursts_up=bursts, bursts_down=bursts,
        )
        for i in range(COUNT)
    ]  # fmt: skip
    return Topology([Site(name="server"), *sites], links)


def test_a_hundred_thousand_idle_devices(topology, monkeypatch):
    drawn = []
    generator = Stream.generator
    monkeypatch.setattr(Stream, "generator", lambda stream: drawn.append(stream.name) or generator(stream))
    # The search for routes, which looks at all links once, is not what this is about.
    topology.route("d1", "server")
    profiles = dict.fromkeys(topology.sites, PROFILE)
    tracemalloc.start()
    try:
        world = World(topology=topology, profiles=profiles, transport=Tcp(), streams=Streams(1), trace=Trace())
        assert world.env.peek() == math.inf
        sending = world.send("d1", "server", Message(kind="update", payload_bytes=200_000, workload="w"))
        events = 0
        while world.now < 600 and world.step():
            events += 1
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # d1, its link and the battery change state, the link's rate and loss about once a second while it moves: some hundreds in 600 s; all of the
    # 100,000 would have tens of millions.
    assert sending.transfer.outcome == "delivered"
    assert events < 3_000
    assert {name[:2] for name in drawn} == {("outages", "device"), ("outages", "link"), ("bursts", "states")}
    assert all({"d1", "l1"} & set(name) for name in drawn)
    # The world's own dictionary of profiles has some 100 bytes a device; a timeline and its generator would have 2,000.
    assert held_bytes < 200 * COUNT
