"""Of very many devices only those at work are objects, and nobody sees a difference."""

import random
import tracemalloc
from typing import Any

import pytest

from netfl.compute import DeviceProfile, Work
from netfl.network import fabric as fabrics
from netfl.network import routes
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid
from netfl.randomness import Streams
from netfl.trace import Trace
from netfl.world import Message, World, carried, processors

PROFILE = DeviceProfile(
    inference_flop_per_s=100.0, training_flop_per_s=10.0, memory_bytes_per_s=1e9, overhead_s=0.0, memory_bytes=10**6,
    idle_w=1.0, busy_w=3.0,
)  # fmt: skip
LIMITS = [
    (fabrics, "_LEAST_WAYS"), (routes, "_MOST_ROUTES"), (carried, "_MOST_ROUTES"), (processors, "_LEAST_PROCESSORS"),
]  # fmt: skip


def star(count: int, hub: str = "server", more: tuple[Link, ...] = ()) -> World:
    """Devices around a hub whose radio takes 2 W; what lies behind it."""
    names = [f"node-{number}" for number in range(count)]
    links = [Link(name=f"{name}-link", a=name, b=hub, up_bps=8e6, down_bps=3e6, latency_s=0.01, transmit_w=0.3) for name in names]
    sites = {end: Site(name=end) for each in (*links, *more) for end in (each.a, each.b)}
    topology = Topology(sites.values(), [*links, *more])
    return World(topology=topology, profiles=dict.fromkeys(sites, PROFILE), transport=Fluid(), streams=Streams(0), trace=Trace())


def tables(world: World) -> dict[str, list[Any]]:
    world.finish("done")
    names = [name for (name,) in world.trace.connection.execute("SELECT name FROM sqlite_master").fetchall()]
    return {name: world.trace.connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_put_away_or_forgotten_changes_nothing(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    found = []
    for most in (10_000, 3):
        for module, name in LIMITS:
            monkeypatch.setattr(module, name, most)
        # All that leaves the hub shares a trunk, whose radio's seconds are added up over all routes.
        world = star(12, "gateway", (Link(name="trunk", a="gateway", b="server", up_bps=7e6, down_bps=9e6, latency_s=0.1, transmit_w=0.7),))
        draw = random.Random(seed)
        names = [*(f"node-{number}" for number in range(12)), "server"]

        def device(name: str, draw: random.Random, names: list[str] = names, world: World = world) -> Any:
            for _ in range(8):
                yield world.sleep(draw.random())
                other = draw.choice(["server", *names])
                sending = world.send(
                    name, other, Message(kind=draw.choice(["update", "model"]), payload_bytes=draw.randrange(10**6), workload="w")
                )
                if draw.random() < 0.3:
                    yield world.sleep(0.2)
                    sending.abort()
                work = Work(kind="training", flop=draw.random(), steps=3, memory_bytes=draw.randrange(1000))
                # Two at once, so that one waits.
                first, last = (world.compute(draw.choice([name, other]), work, workload="w") for _ in range(2))
                yield first & last & sending

        for name in names:
            world.env.process(device(name, random.Random(draw.random())))
        # Some transfers are under way at the end, and some work.
        world.env.run(until=5.0)
        found.append((tables(world), world.trace.digest()))
    assert len(world._processors._at_hand) < 13 > len(world.topology._search._routes)
    assert any(row[-1] for row in found[0][0]["device_loads"]), found[0][0]["device_loads"]
    assert found[0] == found[1]


def test_a_device_that_takes_part_for_the_first_time_leaves_hardly_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in LIMITS:
        monkeypatch.setattr(module, name, 100)
    world = star(2000)
    bytes_after = {}
    tracemalloc.start()
    try:
        for number in range(2000):
            name = f"node-{number}"
            world.send("server", name, Message(kind="model", payload_bytes=1000, workload="w"))
            world.compute(name, Work(kind="training", flop=1.0, memory_bytes=10_000), workload="w")
            world.send(name, "server", Message(kind="update", payload_bytes=1000, workload="w"))
            if number % 100 == 99:
                world.env.run()
                world.trace.flush()
                bytes_after[number + 1] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # Two routes of 40 bytes each, and what else is at hand at one time or the other. It would be 3,200 if nothing were put away or forgotten.
    assert (bytes_after[2000] - bytes_after[1000]) / 1000 < 250
    found = tables(world)
    assert len(found["link_use"]) == 4000 and len(found["device_loads"]) == 2000
