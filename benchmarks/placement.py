"""Planners: how long an exact placement takes to find, and what the simpler planner loses.

    python benchmarks/placement.py [--json] [--repeats 5] [--nodes 785] [--tiers 4]

`mincut` finds the best placement of a wide random graph: every node reads one or two of the 30 before it, takes a random time on each
tier, and its output a random time on each hop. Two rows: with tiers that cost nothing for being used (one cut), and with tiers that do
(a cut for each choice of tiers that could be better). The baseline is `networkx.minimum_cut` (its default, preflow-push) on the same graph of
capacities, in whole numbers, built anew each time as ours is, and one cut only, which answers the first question and not the second.
Both are CPU seconds of this process, in turns; the best of the repeats counts. Costs are compared first: equal, or the script fails.

`chain` against `mincut`: how often the best prefix cut is worse than the best placement, and by how much. On wide random graphs of 12
nodes over 3 tiers, once with a random time for each node and tier, once with a random work for each node and a speed for each tier (ten
times as fast from one to the next); and on models that ship, from a Raspberry Pi 4 over a mini PC to an edge server, over first hops of
0.1 to 50 Mbit/s and with activations in float32 or 8 bits. Printed, not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

from netfl.placement import Hop, Node, Path, Profile, Tier
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.mincut import MinCut, cheapest_labels
from netfl.placement.planners.problem import Problem

BASELINE = "networkx.minimum_cut"
WINDOW = 30


def wide_problem(draw: np.random.Generator, nodes: int, tiers: int) -> Problem:
    reads = [
        (int(u), v)
        for v in range(1, nodes)
        for u in sorted({*draw.integers(max(0, v - WINDOW), v, size=int(draw.integers(1, 3))).tolist()})
    ]
    read = {u for u, _ in reads}

    def costs(below: int, count: int) -> tuple[int, ...]:
        return tuple(draw.integers(1, below, size=count).tolist())

    return Problem(
        node=((0,) * tiers, *(costs(10**9, tiers) for _ in range(nodes - 1))),
        send=tuple(costs(10**9, tiers - 1) for _ in range(nodes)),
        hop=costs(10**10, tiers - 1),
        tier=costs(10**10, tiers),
        reads=(*reads, *((u, nodes - 1) for u in range(nodes - 1) if u not in read)),
        needs=tuple(reads),
    )


def by_networkx(problem: Problem) -> int:
    """The cost of the least cut, by the construction that `netfl.placement.planners.mincut` states."""
    graph = nx.DiGraph()
    last = problem.tiers - 2

    def add(tail: Any, head: Any, capacity: int) -> None:
        if graph.has_edge(tail, head):
            graph[tail][head]["capacity"] = graph[tail][head].get("capacity", 0) + capacity
        else:
            graph.add_edge(tail, head, capacity=capacity)

    for v, costs in enumerate(problem.node):
        add("s", (v, last), costs[-1])
        add((v, 0), "t", costs[0])
        for k in range(1, last + 1):
            add((v, k), (v, k - 1), costs[k])
            graph.add_edge((v, k - 1), (v, k))
    for hop in range(last + 1):
        graph.add_edge("s", (0, hop))
        add("s", (len(problem.node) - 1, hop), problem.hop[hop])
        for u, readers in enumerate(problem.readers()):
            add((u, hop), ("sent", u, hop), problem.send[u][hop])
            graph.add_edges_from((("sent", u, hop), (v, hop)) for v in readers)
        graph.add_edges_from(((v, hop), (u, hop)) for u, v in problem.reads)
    for hop in range(last + 1):
        # The input stays where it is: an arc without capacity is one that nothing saturates.
        graph["s"][(0, hop)].pop("capacity", None)
    value, _ = nx.minimum_cut(graph, "s", "t")
    return int(value)


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def mincut_rows(nodes: int, tiers: int, repeats: int) -> list[dict[str, Any]]:
    problem = wide_problem(np.random.default_rng(1), nodes, tiers)
    free = replace(problem, tier=(0,) * tiers)
    cheapest_labels(wide_problem(np.random.default_rng(2), 20, tiers))
    took: dict[str, float] = {}
    for _ in range(repeats):
        for name, action in (
            ("free", lambda: cheapest_labels(free)),
            ("paid", lambda: cheapest_labels(problem)),
            ("networkx", lambda: by_networkx(free)),
        ):
            seconds, result = timed(action)
            took[name] = min(took.get(name, float("inf")), seconds)
            if name == "free":
                ours = free.cost(result)
            elif name == "networkx" and result != ours:
                sys.exit(f"networkx finds a cut of {result}, netfl a placement of {ours}")
    return [
        {
            "case": f"mincut {nodes} nodes {tiers} tiers{what}",
            "baseline": BASELINE,
            "ratio": took["networkx"] / took[name],
            "netfl_s": took[name],
            "baseline_s": took["networkx"],
        }
        for name, what in (("free", ""), ("paid", ", overheads too"))
    ]


def wide_profile(draw: np.random.Generator, count: int, tiers: int, even: bool) -> Profile:
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
        work_s = float(draw.uniform(0, 2))
        seconds = [work_s / 10**k if even else float(draw.uniform(0, 1)) for k in range(tiers)]
        nodes.append(
            Node(
                name=f"n{place}", op="op", predecessors=tuple(f"n{read}" for read in reads), flop=1.0, moved_bytes=1.0,
                output_values=values, output_shape=(values,), parameter_bytes=0, parameters=(),
                measured_s=tuple((f"t{k}", each) for k, each in enumerate(seconds)),
            )
        )  # fmt: skip
    return Profile(nodes=tuple(nodes), sample_shape=(50,))


def even_path(draw: np.random.Generator, tiers: int) -> Path:
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


def loss(profile: Profile, path: Path, bits: int = 32) -> float:
    """By what fraction the best prefix cut is worse than the best placement."""
    chain, cut = (planner.plan(profile, path, lambda values: bits * values // 8, 100).estimate_s for planner in (Chain(), MinCut()))
    return chain / cut - 1


def told(what: str, losses: list[float]) -> str:
    lost = [each for each in losses if each > 1e-9]
    by = f", there by {np.mean(lost):.1%} on average and {max(lost):.1%} at most" if lost else ""
    return f"chain against mincut, {what}: worse in {len(lost)} of {len(losses)}{by}"


def random_losses(graphs: int, even: bool) -> list[float]:
    draw = np.random.default_rng(5)
    return [loss(wide_profile(draw, 12, 3, even), even_path(draw, 3)) for _ in range(graphs)]


def model_losses() -> list[float]:
    from netfl.compute import PROFILES
    from netfl.learning.models import MODELS
    from netfl.placement.measure import profile_part

    tiers = [
        Tier(
            device=name, flop_per_s=each.inference_flop_per_s, memory_bytes_per_s=each.memory_bytes_per_s, overhead_s=each.overhead_s,
            memory_bytes=10**12, device_class=name,
        )
        for name, each in ((name, PROFILES[name]) for name in ("pi-4", "mini-pc", "edge-server"))
    ]  # fmt: skip
    second = Hop(latency_s=0.01, up_bps=1e8, down_bps=1e8)
    losses = []
    for kind, shape in (("lenet", (1, 28, 28)), ("alexnet", (3, 32, 32)), ("vgg16", (3, 32, 32)), ("resnet", (3, 32, 32)),
                        ("mobilenet", (3, 32, 32)), ("wrn", (3, 32, 32))):  # fmt: skip
        profile = profile_part(MODELS.find(kind)(), shape, 10)
        for rate_bps in (1e5, 5e5, 1e6, 5e6, 2e7, 5e7):
            path = Path(tiers=tuple(tiers), hops=(Hop(latency_s=0.005, up_bps=rate_bps, down_bps=rate_bps), second))
            losses += [loss(profile, path, bits) for bits in (32, 8)]
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=785)
    parser.add_argument("--tiers", type=int, default=4)
    parser.add_argument("--graphs", type=int, default=300)
    given = parser.parse_args()
    rows = mincut_rows(given.nodes, given.tiers, given.repeats)
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['case']}: {row['ratio']:.1f} times as fast as {BASELINE} ({row['netfl_s']:.3f} s against {row['baseline_s']:.3f} s)")
    print(told("wide graphs of 12 nodes over 3 tiers, any node quick on any tier", random_losses(given.graphs, even=False)))
    print(told("the same, each tier ten times as fast as the one before", random_losses(given.graphs, even=True)))
    print(told("six models that ship, 72 cases", model_losses()))


if __name__ == "__main__":
    main()
