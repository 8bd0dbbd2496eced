"""The best placement of all in which data does not flow back, by minimum cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, pairwise
from typing import Literal

from netfl.placement.plan import Path, Placement, place_labels
from netfl.placement.planners.problem import Problem, problem_of
from netfl.placement.profile import Profile

__all__ = ["MinCut", "cheapest_labels"]


@dataclass(frozen=True, kw_only=True)
class MinCut:
    """The placement with the least latency, or energy, of all in which data only moves away from the asking device; memory is not looked at.

    Exact for any graph and any number of tiers, in whole numbers. A tensor is sent once over a hop however many nodes behind it read it, a
    hop's latency is paid once, the result comes back. Equal costs: most nodes on the earliest device.

    Source: DADS (Hu et al., INFOCOM 2019) for two tiers; for more, one binary variable for each node and hop, as Ishikawa (PAMI 2003) cuts
    labels in order. A cut adds up what nodes, tensors and hops cost; what a tier in the middle costs once when it is used does not fit in it,
    so the tiers that may be used are tried in turn, each choice that could still be better with a cut of its own.

    Args:
        objective: latency, or energy above idle of processors and radios.
    """

    objective: Literal["latency", "energy"] = "latency"

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """See `Planner.plan`.

        Raises:
            NetflError: the best placement does not fit a memory; `milp` looks for the best of those that do.
        """
        labels = cheapest_labels(problem_of(profile, path, encoded_bytes, result_bytes, self.objective))
        return place_labels(profile, path, labels, encoded_bytes, result_bytes, "mincut", gap=0.0)


def cheapest_labels(problem: Problem) -> tuple[int, ...]:
    """The labels of least cost; of those that a cut of the same tiers allows the ones with most nodes early."""
    middle = range(1, problem.tiers - 1)
    free = replace(problem, tier=tuple(0 if k in middle else cost for k, cost in enumerate(problem.tier)))
    best = _cut(free, tuple(range(problem.tiers)))
    least = free.cost(best)
    best_cost = problem.cost(best)
    # With fewer tiers a cut costs no less; what they cost for being used comes on top.
    choices = sorted(
        chain.from_iterable(combinations(middle, count) for count in range(len(middle) + 1)),
        key=lambda chosen: (sum(problem.tier[k] for k in chosen), chosen),
    )
    for chosen in choices:
        if least + sum(problem.tier[k] for k in chosen) >= best_cost:
            continue
        labels = _cut(free, (0, *chosen, problem.tiers - 1))
        cost = problem.cost(labels)
        if cost < best_cost:
            best, best_cost = labels, cost
    return best


def _cut(problem: Problem, allowed: Sequence[int]) -> tuple[int, ...]:
    """The labels of least cost among some tiers, where only the first and the last cost something for being used."""
    # Imported here because naming the kinds of planner must stay quick.
    from netfl.placement.planners.maxflow import Network, minimum_cut

    if len(allowed) == 1:
        return (0,) * len(problem.node)
    steps = len(allowed) - 1
    count = len(problem.node)
    last = count - 1
    network = Network()
    source, sink, first = count * steps, count * steps + 1, count * steps + 2
    vertices = first + 1

    # Vertex v * steps + j lies on the source's side if node v runs on allowed[j] or before.
    base = 0
    for v, costs in enumerate(problem.node):
        here = v * steps
        least = min(costs[k] for k in allowed)
        base += least
        network.arc(source, here + steps - 1, costs[allowed[-1]] - least)
        for j in range(1, steps):
            network.arc(here + j, here + j - 1, costs[allowed[j]] - least)
            network.arc(here + j - 1, here + j, None)
        network.arc(here, sink, costs[allowed[0]] - least)
    for j in range(steps):
        network.arc(source, j, None)
    for u, v in problem.reads:
        for j in range(steps):
            network.arc(v * steps + j, u * steps + j, None)
    for u, readers in enumerate(problem.readers()):
        readers = list(dict.fromkeys(readers))
        for j, (near, far) in enumerate(pairwise(allowed)):
            cost = sum(problem.send[u][near:far])
            if not readers or not cost:
                continue
            tail = u * steps + j
            if len(readers) > 1:
                network.arc(tail, vertices, cost)
                tail, vertices = vertices, vertices + 1
            for v in readers:
                network.arc(tail, v * steps + j, cost if len(readers) == 1 else None)
    for j, (near, far) in enumerate(pairwise(allowed)):
        network.arc(source, last * steps + j, sum(problem.hop[near:far]) + (problem.tier[allowed[-1]] if j == steps - 1 else 0))
    if problem.tier[0]:
        for v in range(1, count):
            network.arc(v * steps, first, None)
        network.arc(first, sink, problem.tier[0])
    alone = sum(costs[0] for costs in problem.node) - base + (problem.tier[0] if count > 1 else 0)
    cut = minimum_cut(network, vertices, source, sink, alone)
    side = cut.on_source_side
    labels = tuple(allowed[steps - int(side[v * steps : (v + 1) * steps].sum())] for v in range(count))
    if problem.cost(labels) != cut.value + base:
        raise AssertionError(f"a cut of {cut.value + base} gave a placement of {problem.cost(labels)}")
    return labels
