"""The chain planner against brute force over all monotone cuts."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import pytest

from netfl.errors import NetflError
from netfl.placement import Hop, Node, Path, Profile, Tier
from netfl.placement.figures import Figures, figures
from netfl.placement.plan import place as placed
from netfl.placement.planners.chain import Chain

CASES = 40


def random_profile(draw: np.random.Generator, branches: bool) -> Profile:
    """4 to 11 nodes; a chain, or a graph in which a node reads one to three earlier ones. Some are views, shapes, or tied."""
    count = int(draw.integers(4, 12))
    nodes = [make_node(draw, 0, ())]
    for place in range(1, count):
        reads = {place - 1} if not branches else {*draw.integers(0, place, size=draw.integers(1, 4)).tolist()}
        nodes.append(make_node(draw, place, tuple(f"n{read}" for read in sorted(reads))))
    return Profile(nodes=tuple(nodes), sample_shape=(nodes[0].output_values,))


def make_node(draw: np.random.Generator, place: int, reads: tuple[str, ...]) -> Node:
    free = place == 0 or draw.random() < 0.2
    values = 0 if place and draw.random() < 0.1 else int(draw.integers(1, 2000))
    # Slices are drawn from a small pool, so some are tied.
    spans = () if free else tuple({(100 * start, 100 * start + 100) for start in draw.integers(0, 12, size=2).tolist()})
    return Node(
        name=f"n{place}",
        op="op" if place else "input",
        predecessors=reads,
        flop=0.0 if free else float(draw.integers(0, 10**7)),
        moved_bytes=0.0 if free else float(draw.integers(0, 10**6)),
        output_values=values,
        output_shape=(values,),
        parameter_bytes=400 * len(spans),
        parameters=spans,
    )


def random_path(draw: np.random.Generator, tiers: int, memory_bytes: tuple[int, int]) -> Path:
    return Path(
        tiers=tuple(
            Tier(
                device=f"t{k}",
                flop_per_s=float(10 ** draw.uniform(6, 9)),
                memory_bytes_per_s=float(10 ** draw.uniform(6, 9)),
                overhead_s=float(draw.choice([0.0, 0.01, 0.5])),
                memory_bytes=int(draw.integers(*memory_bytes)),
            )
            for k in range(tiers)
        ),
        hops=tuple(
            Hop(latency_s=float(draw.uniform(0, 0.3)), up_bps=float(10 ** draw.uniform(4, 7)), down_bps=float(10 ** draw.uniform(4, 7)))
            for _ in range(tiers - 1)
        ),
    )


def total_s(profile: Profile, path: Path, cuts: tuple[int, ...], result_bytes: int) -> float | None:
    """What one request takes, written apart from the code under test; None where a piece does not fit."""
    names = [node.name for node in profile.nodes]
    borders = (0, *cuts, len(names))
    seconds = 0.0
    for tier, start, stop in zip(path.tiers, borders, borders[1:], strict=False):
        piece = profile.nodes[start:stop]
        if any(node.op != "input" for node in piece):
            seconds += tier.overhead_s + sum(max(node.flop / tier.flop_per_s, node.moved_bytes / tier.memory_bytes_per_s) for node in piece)
        parameter_bytes = 4 * sum(b - a for a, b in {span for node in piece for span in node.parameters})
        if piece and parameter_bytes + max(profile.live_bytes[start:stop]) > tier.memory_bytes:
            return None
    for hop, cut in zip(path.hops, cuts, strict=True):
        if cut == len(names):
            continue
        behind = [node for node in profile.nodes[cut:] if node.output_values]
        crossing = [node for node in profile.nodes[:cut] if any(node.name in reader.predecessors for reader in behind)]
        wire_bytes = sum(node.output_values + 9 for node in crossing if node.output_values)
        seconds += 2 * hop.latency_s + 8 * wire_bytes / hop.up_bps + 8 * result_bytes / hop.down_bps
    return seconds


@pytest.mark.parametrize("branches", [False, True], ids=["chains", "graphs"])
@pytest.mark.parametrize("tiers", [2, 3, 4])
@pytest.mark.parametrize("memory_bytes", [(10**6, 10**6 + 1), (8000, 40000)], ids=["ample", "tight"])
def test_chain_is_the_best_of_all_prefix_cuts(branches: bool, tiers: int, memory_bytes: tuple[int, int]):
    draw = np.random.default_rng([tiers, branches, memory_bytes[0]])
    impossible = crossed = limited = 0
    for _ in range(CASES):
        profile, path = random_profile(draw, branches), random_path(draw, tiers, memory_bytes)
        result_bytes = int(draw.integers(0, 1000))
        totals = {
            cuts: total_s(profile, path, cuts, result_bytes)
            for cuts in combinations_with_replacement(range(1, len(profile.nodes) + 1), tiers - 1)
        }
        possible = {cuts: total for cuts, total in totals.items() if total is not None}
        limited += len(possible) < len(totals)
        if not possible:
            impossible += 1
            with pytest.raises(NetflError, match="lacks"):
                Chain().plan(profile, path, lambda values: values + 9, result_bytes)
            continue
        placement = Chain().plan(profile, path, lambda values: values + 9, result_bytes)
        best = min(possible.values())
        # Of equal ones (up to rounding) the most nodes on the earliest tier: the largest cuts in order.
        expected = max(cuts for cuts, total in possible.items() if total <= best * (1 + 1e-12))
        assert placement.cuts == expected
        assert placement.estimate_s == pytest.approx(best, rel=1e-12)
        crossed += placement.cuts[0] < len(profile.nodes)
    # The draws reach what they are meant to: placements that cross and, with tight memory, limits that bind.
    assert crossed > CASES // 8
    assert limited >= CASES // 5 if memory_bytes[0] < 10**6 else limited == 0
    assert impossible < CASES // 2


@pytest.mark.parametrize("objective", ["throughput", "energy"])
def test_chain_is_the_best_prefix_cut_for_other_objectives(objective: Literal["throughput", "energy"]):
    draw = np.random.default_rng(41)
    moved = 0
    for number in range(24):
        profile, path = random_profile(draw, branches=True), random_path(draw, 2 + number % 2, (10**6, 10**6 + 1))
        path = replace(
            path,
            tiers=tuple(replace(tier, busy_w=float(draw.integers(0, 9))) for tier in path.tiers),
            hops=tuple(replace(hop, up_w=float(draw.uniform(0, 3)), down_w=0.5) for hop in path.hops),
        )
        found = {
            cuts: value_of(figures(profile, path, placed(profile, path, cuts, raw_9, 300, "all"), raw_9, 300), objective)
            for cuts in combinations_with_replacement(range(1, len(profile.nodes) + 1), len(path.hops))
        }
        placement = Chain(objective=objective).plan(profile, path, raw_9, 300)
        best = min(found.values())
        assert found[placement.cuts] == pytest.approx(best, rel=1e-9, abs=1e-15)
        moved += found[Chain().plan(profile, path, raw_9, 300).cuts] > best * (1 + 1e-9)
    # The best for latency is often not the best for these.
    assert moved > 3


def raw_9(values: int) -> int:
    return values + 9


def value_of(found: Figures, objective: str) -> float:
    return {"throughput": found.bottleneck_s, "energy": found.energy_j}[objective]


def test_prefix_sums_and_memory_agree_with_the_profile_on_every_piece():
    from netfl.placement.plan import piece_s
    from netfl.placement.planners.chain import _memory_matrix, _time_matrix

    draw = np.random.default_rng(11)
    for _ in range(5):
        profile, path = random_profile(draw, branches=True).as_sent(lambda node: 7, 3e5), random_path(draw, 1, (1, 2))
        need, seconds = _memory_matrix(profile), _time_matrix(profile, path.tiers[0])
        for start in range(len(profile.nodes)):
            for stop in range(start + 1, len(profile.nodes) + 1):
                assert need[start, stop] == profile.memory_bytes(start, stop)
                assert seconds[start, stop] == pytest.approx(piece_s(profile, path.tiers[0], start, stop), rel=1e-9, abs=1e-12)
