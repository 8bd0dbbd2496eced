"""The planner `early_exit` against all exits and all cuts, one by one, and its expectation against one sample after the other."""

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest

from netfl.errors import NetflError
from netfl.learning.exits import ExitNetwork
from netfl.learning.models import Cnn, Mlp, Model
from netfl.placement import Hop, Path, Tier, estimate, trace
from netfl.placement.exits import ExitProfile, expected_s
from netfl.placement.plan import node_s
from netfl.placement.planners.early_exit import EarlyExit, MeasuredExits
from netfl.placement.planners.mincut import cheapest_labels
from netfl.placement.planners.problem import Problem


def exit_profile(model: Model, after: tuple[int, ...]) -> ExitProfile:
    return ExitProfile(trace(ExitNetwork(model=model, after=after).build((1, 8, 8), 10), (1, 8, 8)))


CNN = exit_profile(Cnn(channels=(2, 16)), (3, 6))
MLP = exit_profile(Mlp(hidden=(32, 16)), (3, 5))


def wire(count: int) -> int:
    return 8 + count


def some_path(tiers: int, seed: int) -> Path:
    """Devices of rising speed, hops whose latency and rate are drawn so that every sort of cut is the best for some seed."""
    drawn = np.random.default_rng(seed)
    rates = np.sort(10 ** drawn.uniform(4, 8, size=tiers))
    return Path(
        tiers=tuple(
            Tier(
                device=f"d{k}", flop_per_s=rate, memory_bytes_per_s=10 * rate, overhead_s=float(drawn.uniform(0, 2e-3)), memory_bytes=10**7
            )
            for k, rate in enumerate(rates)
        ),
        hops=tuple(
            Hop(latency_s=float(10 ** drawn.uniform(-4, -2)), up_bps=float(10 ** drawn.uniform(4, 7)), down_bps=1e6)
            for _ in range(tiers - 1)
        ),
    )


def all_cuts(profile: ExitProfile, path: Path) -> list[tuple[int, ...]]:
    return list(combinations_with_replacement(range(1, len(profile.whole.nodes) + 1), len(path.hops)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("profile", "tiers"), [(CNN, 2), (CNN, 3), (MLP, 2)])
def test_the_most_accurate_exit_that_meets_the_deadline(profile: ExitProfile, tiers: int, seed: int) -> None:
    path, accuracies = some_path(tiers, seed), (0.7, 0.9, 0.85)
    measured = MeasuredExits(profile=profile, accuracies=accuracies, shares=(1.0, 0.0, 0.0))
    fastest = []
    for exit_ in range(3):
        part = profile.until((exit_,))
        cuts = combinations_with_replacement(range(1, len(part.nodes) + 1), len(path.hops))
        fastest.append(min(estimate(part, path, each, wire, 40).total_s for each in cuts))
    for deadline_s in (*fastest, 0.5 * sum(fastest[:2]), 2 * max(fastest)):
        within = [exit_ for exit_ in range(3) if fastest[exit_] <= deadline_s * (1 + 1e-12)]
        planner = EarlyExit(deadline=deadline_s * (1 + 1e-9))
        if not within:
            with pytest.raises(NetflError, match="no exit meets the deadline"):
                planner.choose(measured, path, wire, 40)
            continue
        best = max(within, key=lambda exit_: accuracies[exit_])
        found = planner.choose(measured, path, wire, 40)
        assert found.used == (best,)
        assert found.estimate_s == pytest.approx(fastest[best])
        # The cuts of the whole say the same as those of the part that is run.
        again = expected_s(profile, path, found.cuts, found.used, (1.0,), wire, 40)
        assert again == pytest.approx(found.estimate_s)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("profile", "tiers"), [(CNN, 2), (CNN, 3), (MLP, 2), (MLP, 3)])
@pytest.mark.parametrize("shares", [(0.6, 0.3, 0.1), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.2, 0.0, 0.8)])
def test_least_expected_latency_of_all_cuts(profile: ExitProfile, tiers: int, seed: int, shares: tuple[float, ...]) -> None:
    path = some_path(tiers, seed)
    found = EarlyExit(threshold=0.5).choose(MeasuredExits(profile=profile, accuracies=(1, 1, 1), shares=shares), path, wire, 40)
    if tiers == 3 and profile is CNN and seed > 1:
        return  # 3 tiers have some 200 cuts, each with three exits: a few seeds are enough
    least = min(expected_s(profile, path, cuts, (0, 1, 2), shares, wire, 40) for cuts in all_cuts(profile, path))
    assert found.estimate_s == pytest.approx(least, rel=1e-12)
    assert found.used == (0, 1, 2)


@pytest.mark.parametrize("cut", range(1, len(CNN.whole.nodes)))
def test_expectation_is_cost_times_the_probability_of_being_reached(cut: int) -> None:
    """For two tiers: each node's time and each tensor's way, times the share that comes there; and one sample after the other."""
    path, shares = some_path(2, 3), (0.5, 0.3, 0.2)
    near, far = path.tiers
    (hop,) = path.hops
    first, second, third = CNN.exits
    reach = [1.0 if place <= first else 0.5 if place <= second else 0.2 for place in range(third + 1)]
    expected = near.overhead_s if cut > 1 else 0.0
    for place in range(1, third + 1):
        expected += reach[place] * node_s(CNN.whole.nodes[place], near if place < cut else far)
    if cut <= third:
        expected += reach[cut] * (far.overhead_s + 2 * hop.latency_s + 8 * 40 / hop.down_bps)
        for place in range(cut):
            behind = [reader for reader in range(cut, third + 1) if CNN.whole.nodes[place].name in CNN.whole.nodes[reader].predecessors]
            if behind:
                expected += reach[min(behind)] * 8 * wire(CNN.whole.nodes[place].output_values) / hop.up_bps
    assert expected_s(CNN, path, (cut,), (0, 1, 2), shares, wire, 40) == pytest.approx(expected, rel=1e-12)
    samples = [(0, 1, 2)[: count + 1] for count in (0, 0, 0, 0, 0, 1, 1, 1, 2, 2)]  # ten samples that leave in these shares
    taken = [estimate(CNN.until(used), path, CNN.cuts_until((cut,), used), wire, 40).total_s for used in samples]
    assert np.mean(taken) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("profile", [CNN, MLP])
def test_a_minimum_cut_finds_the_same_expectation(profile: ExitProfile, seed: int) -> None:
    """With costs weighted by reach the exact planner for any graph stays exact: it finds nothing better than the prefix cuts.

    Overheads of devices are left out, which a cut does not add up. What goes on behind an exit is a node of its own, which waits for the
    exit's decision; what a hop costs the samples of an exit is a tensor that this exit alone reads, from a node that stays with the input.
    """
    path = some_path(3, seed)
    path = replace(path, tiers=tuple(replace(tier, overhead_s=0.0) for tier in path.tiers))
    shares = (0.5, 0.3, 0.2)
    whole, exits = profile.whole, profile.exits
    unit, big = 1e-12, 2**50
    node, send, reads, needs = [], [], [], []
    at: dict[str, int] = {}

    def add(costs: list[float], sends: list[float], reading: list[int], needing: list[int]) -> int:
        node.append(tuple(big if each == np.inf else round(each / unit) for each in costs))
        send.append(tuple(round(each / unit) for each in sends))
        reads.extend((source, len(node) - 1) for source in reading)
        needs.extend((source, len(node) - 1) for source in needing)
        return len(node) - 1

    stage = 0
    for place, each in enumerate(whole.nodes[: exits[-1] + 1]):
        reach = sum(shares[stage:])
        sources = [at[name] for name in each.predecessors]
        first_reach = 1.0 if not place else reach
        costs = [0.0, np.inf, np.inf] if not place else [reach * node_s(each, tier) for tier in path.tiers]
        ups = [first_reach * 8 * wire(each.output_values) / hop.up_bps for hop in path.hops]
        extra = []
        if place in exits:
            there = [shares[stage] * (2 * hop.latency_s + 8 * 40 / hop.down_bps) for hop in path.hops]
            extra = [add([0.0, np.inf, np.inf], there, [0], [])]
        at[each.name] = add(costs, ups, sources, [*sources, *extra])
        if place in exits[:-1]:
            stage += 1
            # What later nodes read of the layers so far, once the decision is known.
            later = {name for reader in whole.nodes[place + 1 : exits[-1] + 1] for name in reader.predecessors}
            for name in sorted(name for name in later if name in at and whole.index[name] < place and whole.index[name] not in exits):
                carried = sum(shares[stage:])
                ups = [carried * 8 * wire(whole.nodes[whole.index[name]].output_values) / hop.up_bps for hop in path.hops]
                at[name] = add([0.0] * 3, ups, [at[name], at[each.name]], [at[name]])
    last = len(node) - 1
    read = {source for source, _ in reads}
    reads += [(place, last) for place in range(last) if place not in read]
    problem = Problem(
        node=tuple(node), send=tuple(send), hop=(0, 0), tier=(0, 0, 0), reads=tuple(reads), needs=tuple(needs), unit=unit,
    )  # fmt: skip
    found = problem.cost(cheapest_labels(problem)) * unit
    planned = EarlyExit(threshold=0.5).choose(MeasuredExits(profile=profile, accuracies=(1, 1, 1), shares=shares), path, wire, 40)
    assert found == pytest.approx(planned.estimate_s, rel=1e-6)


def test_memory_is_kept() -> None:
    path, shares = some_path(2, 1), (0.5, 0.3, 0.2)
    measured = MeasuredExits(profile=CNN, accuracies=(0.5, 0.6, 0.7), shares=shares)
    small = replace(path, tiers=(replace(path.tiers[0], memory_bytes=300), path.tiers[1]))
    found = EarlyExit(threshold=0.5).choose(measured, small, wire, 40)
    whole = CNN.until((0, 1, 2))
    assert whole.memory_bytes(0, CNN.cuts_until(found.cuts, (0, 1, 2))[0]) <= 300
    none = replace(path, tiers=tuple(replace(tier, memory_bytes=100) for tier in path.tiers))
    with pytest.raises(NetflError, match="no prefix cuts of the model with its exits fit"):
        EarlyExit(threshold=0.5).choose(measured, none, wire, 40)
    with pytest.raises(NetflError, match="lacks"):
        EarlyExit(deadline=100.0).choose(measured, none, wire, 40)


def test_a_short_exit_may_fit_where_the_model_does_not() -> None:
    path = some_path(1, 1)
    need = CNN.until((0,)).memory_bytes(0, len(CNN.until((0,)).nodes))
    small = replace(path, tiers=(replace(path.tiers[0], memory_bytes=need),))
    measured = MeasuredExits(profile=CNN, accuracies=(0.5, 0.6, 0.7), shares=(1.0, 0.0, 0.0))
    assert EarlyExit(deadline=100.0).choose(measured, small, wire, 40).used == (0,)


def test_settings() -> None:
    for settings in ({}, {"deadline": 1.0, "threshold": 1.0}):
        with pytest.raises(ValueError, match="expected one of"):
            EarlyExit(**settings)
    with pytest.raises(ValueError, match="greater than 0"):
        EarlyExit(deadline=0.0)
    with pytest.raises(NetflError, match="with_exits"):
        EarlyExit(threshold=1.0).plan(CNN.whole, some_path(1, 1), wire, 40)
