"""Brute force = mincut = milp, in whole numbers, on random graphs; chain = brute force over prefix cuts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from netfl.errors import NetflError
from netfl.placement import Hop, Node, Path, Profile, Tier
from netfl.placement.figures import figures
from netfl.placement.plan import memory_shortages, place_labels
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.milp import Milp
from netfl.placement.planners.mincut import MinCut, cheapest_labels
from netfl.placement.planners.problem import Problem, problem_of
from netfl.placement.planners.program import Program
from tests.oracles.test_placement_oracles import random_path, random_profile

AMPLE, TIGHT = (10**6, 10**6 + 1), (5000, 30000)


def raw(values: int) -> int:
    return 4 * values


def wide_profile(draw: np.random.Generator, count: int) -> Profile:
    """A graph whose nodes take different times on different devices, whatever their neighbours take: branches want to part."""
    nodes = [
        Node(
            name="n0",
            op="input",
            predecessors=(),
            flop=0,
            moved_bytes=0,
            output_values=50,
            output_shape=(50,),
            parameter_bytes=0,
            parameters=(),
        )
    ]
    for place in range(1, count):
        reads = sorted({*draw.integers(0, place, size=int(draw.integers(1, 3))).tolist()})
        values = int(draw.integers(1, 100))
        nodes.append(
            Node(
                name=f"n{place}", op="op", predecessors=tuple(f"n{read}" for read in reads), flop=1.0, moved_bytes=1.0,
                output_values=values, output_shape=(values,), parameter_bytes=0, parameters=(),
                measured_s=tuple((f"t{k}", float(draw.uniform(0, 1))) for k in range(4)),
            )
        )  # fmt: skip
    return Profile(nodes=tuple(nodes), sample_shape=(50,))


def even_path(draw: np.random.Generator, tiers: int) -> Path:
    """Devices of a class each; a tensor takes about as long to send as a node to compute."""
    return Path(
        tiers=tuple(
            Tier(
                device=f"t{k}",
                flop_per_s=1e9,
                memory_bytes_per_s=1e9,
                overhead_s=float(draw.uniform(0, 0.3)),
                memory_bytes=10**9,
                device_class=f"t{k}",
            )
            for k in range(tiers)
        ),
        hops=tuple(
            Hop(latency_s=float(draw.uniform(0, 0.1)), up_bps=float(draw.uniform(2e3, 2e4)), down_bps=1e4) for _ in range(tiers - 1)
        ),
    )


def placements(profile: Profile, tiers: int, reads: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, ...]]:
    """Every labelling in which no data flows back and the last node is on the highest tier in use."""
    count = len(profile.nodes)
    before: list[list[int]] = [[u for u, v in reads if v == place] for place in range(count)]

    def extend(labels: list[int]) -> Iterator[tuple[int, ...]]:
        place = len(labels)
        if place == count:
            if max(labels) == labels[-1]:
                yield tuple(labels)
            return
        for label in range(max(labels[u] for u in before[place]) if before[place] else 0, tiers):
            yield from extend([*labels, label])

    yield from extend([0])


def written_out(profile: Profile, path: Path, labels: tuple[int, ...], result_bytes: int) -> float:
    """Seconds of one request, written apart from the code under test: node by node, tensor by tensor, hop by hop."""
    seconds = 0.0
    for k, tier in enumerate(path.tiers):
        mine = [node for node, label in zip(profile.nodes, labels, strict=True) if label == k and node.op != "input"]
        if mine:
            seconds += tier.overhead_s
        for node in mine:
            roofline = max(node.flop / tier.flop_per_s, node.moved_bytes / tier.memory_bytes_per_s)
            seconds += dict(node.measured_s).get(tier.device_class, roofline) + (node.decode_flop / tier.flop_per_s if k else 0.0)
    for hop, link in enumerate(path.hops):
        if max(labels) <= hop:
            continue
        behind = {
            name
            for node, label in zip(profile.nodes, labels, strict=True)
            if label > hop and node.output_values
            for name in node.predecessors
        }
        crossing = [node for node, label in zip(profile.nodes, labels, strict=True) if label <= hop and node.name in behind]
        bits = sum(8 * (raw(node.output_values) if node.wire_bytes is None else node.wire_bytes) for node in crossing)
        seconds += 2 * link.latency_s + bits / link.up_bps + 8 * result_bytes / link.down_bps
    return seconds


@pytest.mark.parametrize("tiers", [1, 2, 3, 4])
def test_brute_force_mincut_and_milp_agree_to_the_last_digit(tiers: int):
    draw = np.random.default_rng([7, tiers])
    crossed = apart = 0
    for number in range(24):
        if number % 2:
            profile, path = random_profile(draw, branches=True), random_path(draw, tiers, AMPLE)
        else:
            profile, path = wide_profile(draw, (12, 12, 12, 10)[tiers - 1]), even_path(draw, tiers)
        if number % 3 == 0:
            # An input of few bytes that takes a while to decode, and codecs that make other lengths than float32 has.
            profile = profile.as_sent(lambda node: 20 if node.op == "input" else node.output_values // 2 + 8, decode_flop=2e8)
        result_bytes = int(draw.integers(0, 1000))
        problem = problem_of(profile, path, raw, result_bytes)
        best = min(map(problem.cost, placements(profile, tiers, problem.reads)))
        assert problem.cost(cheapest_labels(problem)) == best
        found = Program(profile, path, raw, result_bytes).solve((1.0, 0.0, 0.0), None, 100_000)
        assert found is not None and found[1] == 0
        assert problem.cost(found[0]) == best
        placement = MinCut().plan(profile, path, raw, result_bytes)
        assert placement.gap == 0
        # In seconds: rounding each of the costs to whole units leaves less than 1e-9 of the sum.
        assert placement.estimate_s == pytest.approx(best * problem.unit, rel=1e-9)
        assert placement.estimate_s == pytest.approx(written_out(profile, path, placement.labels, result_bytes), rel=1e-9)
        crossed += max(placement.labels) > 0
        apart += bool(placement.order)
    assert tiers == 1 or crossed > 4
    assert tiers == 1 or apart > 0


@pytest.mark.parametrize("big", [1, 10**12])
def test_whole_numbers_of_any_length(big: int):
    """Costs that fit 32 bits, and costs that need 52."""
    draw = np.random.default_rng(3)
    for _ in range(30):
        problem = random_problem(draw, int(draw.integers(2, 9)), int(draw.integers(2, 4)), big)
        found = cheapest_labels(problem)
        best = min(
            problem.cost((0, *labels)) for labels in product(range(problem.tiers), repeat=len(problem.node) - 1) if valid(problem, labels)
        )
        assert problem.cost(found) == best


def random_problem(draw: np.random.Generator, count: int, tiers: int, big: int) -> Problem:
    def numbers(below: int, many: int) -> tuple[int, ...]:
        return tuple(big * int(each) + int(big > 1) * int(draw.integers(0, 1000)) for each in draw.integers(0, below, size=many))

    reads = [(int(u), v) for v in range(1, count) for u in sorted({*draw.integers(0, v, size=2).tolist()})]
    read = {u for u, _ in reads}
    return Problem(
        node=((0,) * tiers, *(numbers(30, tiers) for _ in range(count - 1))),
        send=tuple(numbers(20, tiers - 1) for _ in range(count)),
        hop=numbers(10, tiers - 1),
        tier=numbers(10, tiers),
        reads=(*reads, *((u, count - 1) for u in range(count - 1) if u not in read)),
        needs=tuple(reads),
    )


def valid(problem: Problem, labels: tuple[int, ...]) -> bool:
    try:
        problem.check((0, *labels))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("objective", ["latency", "throughput", "energy"])
@pytest.mark.parametrize("memory_bytes", [AMPLE, TIGHT], ids=["ample", "tight"])
def test_milp_is_the_best_that_fits(objective: str, memory_bytes: tuple[int, int]):
    draw = np.random.default_rng([5, memory_bytes[0]])
    limited = impossible = 0
    for number in range(12):
        profile, path = random_profile(draw, branches=True), random_path(draw, 2 + number % 2, memory_bytes)
        path = replace(
            path,
            tiers=tuple(replace(tier, busy_w=float(draw.uniform(1, 9))) for tier in path.tiers),
            hops=tuple(replace(hop, up_w=float(draw.uniform(0, 3)), down_w=1.0) for hop in path.hops),
        )
        problem = problem_of(profile, path, raw, 400)
        best = np.inf
        for labels in placements(profile, problem.tiers, problem.reads):
            try:
                placement = place_labels(profile, path, labels, raw, 400, "brute force")
            except NetflError:
                limited += 1
                continue
            best = min(best, value_of(profile, path, placement, objective))
        if best == np.inf:
            impossible += 1
            with pytest.raises(NetflError, match="lacks"):
                Milp(objective=objective).plan(profile, path, raw, 400)
            continue
        placement = Milp(objective=objective).plan(profile, path, raw, 400)
        assert placement.gap == 0
        assert not any(memory_shortages(placement.arranged(profile), path, placement.cuts))
        assert value_of(profile, path, placement, objective) == pytest.approx(best, rel=1e-6)
    assert impossible < 6
    assert (limited > 0) == (memory_bytes == TIGHT)


def value_of(profile: Profile, path: Path, placement: object, objective: str) -> float:
    found = figures(profile, path, placement, raw, 400)  # type: ignore[arg-type]
    return {"latency": found.latency_s, "throughput": found.bottleneck_s, "energy": found.energy_j}[objective]


def test_a_deadline_is_kept_at_the_least_energy():
    draw = np.random.default_rng(23)
    moved = 0
    for _ in range(12):
        profile, path = random_profile(draw, branches=True), random_path(draw, 3, AMPLE)
        path = replace(path, tiers=tuple(replace(tier, busy_w=watts) for tier, watts in zip(path.tiers, (1.0, 5.0, 20.0), strict=True)))
        problem = problem_of(profile, path, raw, 400)
        all_of_them = [place_labels(profile, path, labels, raw, 400, "all") for labels in placements(profile, 3, problem.reads)]
        fastest, thriftiest = (min(value_of(profile, path, each, what) for each in all_of_them) for what in ("latency", "energy"))
        deadline = 1.3 * fastest
        best = min(value_of(profile, path, each, "energy") for each in all_of_them if each.estimate_s <= deadline)
        placement = Milp(objective="energy", deadline=deadline).plan(profile, path, raw, 400)
        assert placement.estimate_s <= deadline * (1 + 1e-6)
        assert value_of(profile, path, placement, "energy") == pytest.approx(best, rel=1e-6)
        moved += best > thriftiest * (1 + 1e-6)
        with pytest.raises(NetflError, match=r"no placement keeps the deadline of .*: the fastest that fits takes "):
            Milp(objective="energy", deadline=0.9 * fastest).plan(profile, path, raw, 400)
    assert moved > 0


def test_prefix_cuts_sometimes_lose_to_cuts_of_the_graph():
    """On wide graphs; never on chains. How often and by how much over more graphs: benchmarks/placement.py."""
    draw = np.random.default_rng(19)
    lost = 0
    for _ in range(60):
        profile, path = wide_profile(draw, 12), even_path(draw, 3)
        chain, cut = (planner.plan(profile, path, raw, 100).estimate_s for planner in (Chain(), MinCut()))
        assert cut <= chain * (1 + 1e-9)
        lost += chain > cut * (1 + 1e-9)
    assert 5 < lost < 55
    for _ in range(10):
        profile, path = random_profile(draw, branches=False), random_path(draw, 3, AMPLE)
        chain, cut = (planner.plan(profile, path, raw, 100).estimate_s for planner in (Chain(), MinCut()))
        assert chain == pytest.approx(cut, rel=1e-9)
