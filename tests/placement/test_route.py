"""Chains of replicas: by hand, against all chains, and what cannot be is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from test_placement_traps import node, raw, tiers

from netfl.errors import NetflError, NoRouteError
from netfl.placement import Hop, Path, Profile, Tier, estimate
from netfl.placement.planners.route import Route


@dataclass
class Grid:
    """A mesh by its hops; a way that is not there is none."""

    tiers: Mapping[str, Tier]
    hops: Mapping[tuple[str, str], Hop]

    def tier(self, device: str) -> Tier:
        return self.tiers[device]

    def hop(self, source: str, destination: str) -> Hop:
        if (source, destination) not in self.hops:
            raise NoRouteError(f"no path of links joins '{source}' and '{destination}'")
        return self.hops[source, destination]


def grid(names: list[str], hop: Hop, memory_bytes: int = 10**6, **others: Hop) -> Grid:
    made = dict(zip(names, tiers(*[memory_bytes] * len(names)), strict=True))
    hops = {(near, far): others.get(f"{near}_{far}", hop) for near in names for far in names if near != far}
    return Grid({name: Tier(**{**vars(tier), "device": name}) for name, tier in made.items()}, hops)


# Four nodes of 1 s on t0, 0.5 s on t1, 0.25 s on t2, 0.125 s on t3; each makes 8 values, 32 bytes.
CHAIN = Profile(
    nodes=(
        node("x", "", 8, ()),
        *(node(f"n{place}", f"n{place - 1}" if place > 1 else "x", 8, (1.0, 0.5, 0.25, 0.125), 10, 10 * place) for place in range(1, 5)),
    ),
    sample_shape=(8,),
)
NEAR = Hop(latency_s=0.05, up_bps=2560, down_bps=1e9)
"""32 bytes take 0.1 s, and the latencies both ways 0.1 s."""


def test_a_chain_by_hand():
    mesh = grid(["cam", "a", "b", "c"], NEAR)
    planner = Route(replicas=(("a", (1, 3)), ("b", (2, 5)), ("c", (3, 5))))
    # Who holds n1 is a alone, to the end of its span: 2 nodes of 0.5 s. Then b with 2 of 0.25 s or c with 2 of 0.125 s.
    placement = planner.through(CHAIN, "cam", mesh, raw, 0)
    assert (placement.devices, placement.cuts, placement.planner) == (("cam", "a", "c"), (1, 3), "route")
    assert placement.estimate_s == pytest.approx(0.2 + 1.0 + 0.2 + 0.25)
    assert placement.describe() == "cam:0-1 a:1-3 c:3-5"
    # Whole copies: one of them, the fastest; and far away if the near one is slow.
    whole = Route(replicas=(("a", "all"), ("c", "all")))
    assert whole.through(CHAIN, "cam", mesh, raw, 0).devices == ("cam", "c")
    far = grid(["cam", "a", "b", "c"], NEAR, cam_c=Hop(latency_s=2.0, up_bps=2560, down_bps=1e9))
    assert whole.through(CHAIN, "cam", far, raw, 0).devices == ("cam", "a")


def test_the_asking_device_may_hold_the_first_nodes():
    mesh = grid(["cam", "a", "b", "c"], NEAR)
    planner = Route(replicas=(("cam", (1, 2)), ("a", (1, 5)), ("c", (2, 5))))
    placement = planner.through(CHAIN, "cam", mesh, raw, 0)
    # n1 here in 1 s, the rest on c in 0.2 + 3 * 0.125; a alone would take 0.2 + 2.
    assert (placement.devices, placement.cuts) == (("cam", "c"), (2,))
    assert placement.estimate_s == pytest.approx(1.0 + 0.2 + 0.375)


def chains(planner: Route, source: str, last: int) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Every chain, written apart from the code under test."""
    spans = {device: (max(span[0], 1), span[1]) for device, span in planner.replicas}

    def extend(devices: tuple[str, ...], cuts: tuple[int, ...], done: int) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        if done == last:
            yield devices, cuts
            return
        for device, (start, stop) in spans.items():
            if device != source and start <= done < stop:
                yield from extend((*devices, device), (*cuts, done), stop)

    yield from extend((source,), (), 1)
    if source in spans and spans[source][0] == 1:
        yield from extend((source,), (), spans[source][1])


def test_no_chain_is_faster():
    draw = np.random.default_rng(2)
    several = hopped = 0
    for _ in range(60):
        count = int(draw.integers(4, 9))
        nodes = [node("n0", "", int(draw.integers(1, 40)), ())]
        for place in range(1, count):
            reads = " ".join(f"n{read}" for read in sorted({place - 1, int(draw.integers(0, place))}))
            nodes.append(node(f"n{place}", reads, int(draw.integers(1, 40)), tuple(draw.uniform(0, 1, size=4))))
        profile = Profile(nodes=tuple(nodes), sample_shape=(nodes[0].output_values,))
        names = ["cam", "a", "b", "c"]
        hops = {f"{near}_{far}": Hop(latency_s=float(draw.uniform(0, 0.2)), up_bps=float(draw.uniform(1e3, 1e4)), down_bps=1e4)
                for near in names for far in names}  # fmt: skip
        mesh = grid(names, NEAR, **hops)
        firsts = {"a": 1, **{name: int(draw.integers(1, count)) for name in ("b", "c", "cam")}}
        planner = Route(replicas=tuple((name, (first, int(draw.integers(first + 1, count + 1)))) for name, first in firsts.items()))
        found = list(chains(planner, "cam", count))
        if not found:
            with pytest.raises(NetflError, match="no replica holds node"):
                planner.through(profile, "cam", mesh, raw, 40)
            continue
        several += len(found) > 1
        costs = []
        for devices, cuts in found:
            path = Path(
                tiers=tuple(map(mesh.tier, devices)), hops=tuple(mesh.hop(*pair) for pair in zip(devices, devices[1:], strict=False))
            )
            costs.append(estimate(profile, path, cuts, raw, 40).total_s)
        placement = planner.through(profile, "cam", mesh, raw, 40)
        assert placement.estimate_s == pytest.approx(min(costs), rel=1e-12)
        assert (placement.devices, placement.cuts) in found
        hopped += len(placement.devices) > 2
    assert several > 10 and hopped > 10


def test_what_cannot_be_is_said():
    mesh = grid(["cam", "a", "b", "c"], NEAR)
    with pytest.raises(NetflError, match=r"no replica holds node 3 \('n3'\) .*; the replicas hold a 1-3, c 4-5"):
        Route(replicas=(("a", (1, 3)), ("c", (4, 5)))).through(CHAIN, "cam", mesh, raw, 0)
    with pytest.raises(NetflError, match=r"replica 'a' holds nodes 1-9, but the model has nodes 1-5"):
        Route(replicas=(("a", (1, 9)),)).through(CHAIN, "cam", mesh, raw, 0)
    # Two nodes: 20 parameters and two tensors of 8 values are 144 bytes.
    tight = grid(["cam", "a", "b", "c"], NEAR, memory_bytes=100)
    with pytest.raises(NetflError, match=r"replicas do not fit: 'a' has 100 B and lacks 44 B \(44 B\) for nodes 1-3"):
        Route(replicas=(("a", (1, 3)), ("b", (3, 4)))).through(CHAIN, "cam", tight, raw, 0)
    cut_off = Grid(mesh.tiers, {pair: hop for pair, hop in mesh.hops.items() if "c" not in pair})
    with pytest.raises(NetflError, match=r"replica 'c' cannot be reached from 'cam': no path of links joins 'cam' and 'c'"):
        Route(replicas=(("a", "all"), ("c", "all"))).through(CHAIN, "cam", cut_off, raw, 0)
    with pytest.raises(NetflError, match="which only a serving workload knows"):
        Route(replicas=(("a", "all"),)).plan(CHAIN, Path(tiers=tiers(10**6), hops=()), raw, 0)
    for wrong in ((3, 3), (1,), "half", (1.5, 2), (1, True)):
        with pytest.raises(ValueError, match=r"replicas: expected 'a' with \[first node, node behind the last\] or all, got"):
            Route(replicas=(("a", wrong),))
    with pytest.raises(ValueError, match="at least one device"):
        Route(replicas=())
