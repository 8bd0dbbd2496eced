"""The traps of published partitioners that concern planners; the others are next to what they concern, all named `test_trap_N`.

Each trap was met in a published tool or paper, or in a library that such tools build on. What goes wrong, and where it is tested:

| trap | what goes wrong | tested in |
|---|---|---|
| 1 | a tensor with several readers is charged once for each | placement/test_placement_traps, _plan, _profile |
| 2 | without arcs that forbid it, a node runs on the server and what it feeds on the device | placement/test_placement_traps |
| 3 | minimum cuts over floats give the right value and the wrong sides | placement/test_placement_traps |
| 4 | a hop's latency is paid for each tensor | placement/test_placement_traps, _plan |
| 5 | the input counts as float32, whatever it is sent as | placement/test_placement_plan |
| 6 | the result does not come back, or at the wrong rate | placement/test_placement_traps, _plan |
| 7 | a node without counted operations takes no time | placement/test_placement_plan, _profile |
| 8 | the library's counter: grouped convolutions backward, recurrent layers, attention in eval mode | placement/test_placement_profile |
| 9 | memory is looked at after the search | placement/test_placement_traps |
| 10 | an in-place operation changes what another piece reads | placement/test_placement_split, _profile |
| 11 | other threads, batches or memory formats: other last bits | placement/test_placement_split |
| 12 | a payload's length is that of a pickle, of the whole storage | placement/test_placement_split |
| 13 | profiling or splitting in training mode drops values and moves batch statistics | placement/test_placement_profile, _split |
| 14 | tied weights count once a use, or once although two devices hold them | placement/test_placement_profile |
| 15 | nodes that return no tensor; control flow on values | placement/test_placement_profile |
| 16 | a link is taken until the last byte has arrived: latency costs capacity | network/test_network_fabric |
| 17 | percentiles of completed requests alone look fine under overload | workloads/test_requests |
| 18 | a solver's tolerances meet costs in seconds | placement/test_placement_traps |
| 19 | moving a cut costs nothing | workloads/test_adaptive, test_requests |
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from netfl.placement import Hop, Node, Path, Placement, Profile, Tier
from netfl.placement.plan import place_labels
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.milp import Milp
from netfl.placement.planners.mincut import MinCut, cheapest_labels
from netfl.placement.planners.problem import Problem, problem_of

# A diamond: 0 is the input, 1 is read by 2 and 3, which 4 reads. Costs by tier (device, server).
DIAMOND = Problem(
    node=((0, 0), (10, 1), (10, 1), (10, 1), (10, 1)),
    send=((100,), (12,), (30,), (30,), (0,)),
    hop=(0,),
    tier=(0, 0),
    reads=((0, 1), (1, 2), (1, 3), (2, 4), (3, 4)),
    needs=((0, 1), (1, 2), (1, 3), (2, 4), (3, 4)),
)


def test_trap_1_a_tensor_with_two_readers_is_charged_once():
    # After node 1: 10 on the device, 12 for the tensor, three nodes on the server: 25. Charged twice it would be 37, and the 40 of the
    # device alone would still lose, but with the tensor at 20 the two ways of counting give different placements: 33 against 53 and 40.
    assert cheapest_labels(DIAMOND) == (0, 0, 1, 1, 1)
    assert DIAMOND.cost((0, 0, 1, 1, 1)) == 10 + 12 + 3
    dear = replace(DIAMOND, send=((100,), (20,), (30,), (30,), (0,)))
    assert cheapest_labels(dear) == (0, 0, 1, 1, 1)
    assert dear.cost((0, 0, 1, 1, 1)) == 33 < dear.cost((0,) * 5) == 40 < 33 + 20


def test_trap_2_data_never_flows_back():
    # Node 1 is cheap on the server only, node 4 on the device only: without the ban 1 would go out and 4 stay.
    torn = replace(DIAMOND, node=((0, 0), (50, 1), (1, 50), (1, 50), (1, 50)), send=((1,), (1,), (1,), (1,), (0,)))
    labels = cheapest_labels(torn)
    assert all(labels[u] <= labels[v] for u, v in torn.reads)
    # All on the device: 53. All on the server: 1 + 1 + 150.
    assert (labels, torn.cost(labels)) == ((0, 0, 0, 0, 0), 53)
    with pytest.raises(ValueError, match="data would flow back"):
        torn.cost((0, 1, 0, 0, 0))


def network_of(problem: Problem) -> nx.DiGraph:
    """The two-tier cut as networkx takes it, in whole numbers."""
    graph = nx.DiGraph()
    for v, (device, server) in enumerate(problem.node):
        graph.add_edge("s", v, capacity=server)
        graph.add_edge(v, "t", capacity=device)
    # The input stays where it is: an arc without capacity is one that nothing saturates.
    graph["s"][0].pop("capacity")
    for u, readers in enumerate(problem.readers()):
        graph.add_edge(u, f"sent {u}", capacity=problem.send[u][0])
        graph.add_edges_from((f"sent {u}", v) for v in readers)
    graph.add_edges_from((v, u) for u, v in problem.reads)
    return graph


def random_two_tier(draw: np.random.Generator) -> Problem:
    count = 12
    reads = tuple((int(u), v) for v in range(1, count) for u in sorted({*draw.integers(0, v, size=2).tolist()}))
    read = {u for u, _ in reads}
    return Problem(
        node=((0, 0), *((int(draw.integers(1, 3000)), int(draw.integers(1, 300))) for _ in range(count - 1))),
        send=tuple((int(draw.integers(1, 3000)),) for _ in range(count)),
        hop=(0,),
        tier=(0, 0),
        reads=(*reads, *((u, count - 1) for u in range(count - 1) if u not in read)),
        needs=reads,
    )


@pytest.mark.parametrize("factor", [1, 2**38], ids=["13 bits", "52 bits"])
def test_trap_3_the_placement_costs_what_the_least_cut_is_worth(factor: int):
    """With float capacities a library may return the value of one cut and the sides of another (networkx's issue 4972). Ours are whole
    numbers, the labels' cost is computed anew, and networkx's value in whole numbers is the witness; past 2 ** 31 as well."""
    draw = np.random.default_rng(4)
    for _ in range(60):
        problem = random_two_tier(draw)
        noise = draw.integers(0, factor, size=(len(problem.node), 2)).tolist()
        problem = replace(
            problem,
            node=tuple((factor * device + dust, factor * server + grit) if v else (0, 0)
                       for v, ((device, server), (dust, grit)) in enumerate(zip(problem.node, noise, strict=True))),
            send=tuple((factor * each,) for (each,) in problem.send),
        )  # fmt: skip
        value, _ = nx.minimum_cut(network_of(problem), "s", "t")
        assert problem.cost(cheapest_labels(problem)) == value


def test_trap_3_the_same_placement_in_every_process():
    program = (
        "import numpy as np; from tests.placement.test_placement_traps import random_two_tier; "
        "from netfl.placement.planners.mincut import cheapest_labels; draw = np.random.default_rng(8); "
        "print([cheapest_labels(random_two_tier(draw)) for _ in range(5)])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, env={**environment(), "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "1")
    }
    assert len(told) == 1


def environment() -> dict[str, str]:
    import os

    import netfl

    return {**os.environ, "PYTHONPATH": f"{next(iter(netfl.__path__))}/..", "OMP_NUM_THREADS": "1"}


def node(name: str, reads: str, values: int, seconds: tuple[float, ...], parameters: int = 0, at: int = 0) -> Node:
    return Node(
        name=name,
        op="op" if reads else "input",
        predecessors=tuple(reads.split()),
        flop=0.0,
        moved_bytes=0.0 if not reads else 1.0,
        output_values=values,
        output_shape=(values,),
        parameter_bytes=4 * parameters,
        parameters=((at, at + parameters),) if parameters else (),
        measured_s=tuple((f"t{k}", each) for k, each in enumerate(seconds)) if reads else (),
    )


def tiers(*memory_bytes: int, overhead_s: float = 0.0) -> tuple[Tier, ...]:
    return tuple(
        Tier(device=f"t{k}", flop_per_s=1e9, memory_bytes_per_s=1e9, overhead_s=overhead_s, memory_bytes=each, device_class=f"t{k}")
        for k, each in enumerate(memory_bytes)
    )


def raw(values: int) -> int:
    return 4 * values


def test_trap_4_a_hops_latency_is_paid_once_however_many_tensors_cross():
    # Two tensors cross behind b; 1 s a way, and their 8 + 8 bytes at 64 bit/s take 2 s.
    profile = Profile(
        nodes=(node("x", "", 500, ()), node("a", "x", 2, (0.0, 9.0)), node("b", "x a", 2, (0.0, 9.0)), node("c", "a b", 1, (20.0, 0.0))),
        sample_shape=(500,),
    )
    path = Path(tiers=tiers(10**6, 10**6), hops=(Hop(latency_s=1.0, up_bps=64, down_bps=1e9),))
    placement = MinCut().plan(profile, path, raw, 0)
    assert (placement.cuts, placement.estimate_s) == ((3,), pytest.approx(1 + 2 + 1))


def test_trap_6_the_result_comes_back_and_its_bytes_decide():
    profile = Profile(nodes=(node("x", "", 2, ()), node("a", "x", 2, (3.0, 0.0))), sample_shape=(2,))
    path = Path(tiers=tiers(10**6, 10**6), hops=(Hop(latency_s=0.0, up_bps=64, down_bps=64),))
    # Out: 8 bytes are 1 s. Back: 8 bytes 1 s, less than the 3 s here; 24 bytes would be 3 s.
    assert MinCut().plan(profile, path, raw, 8).labels == (0, 1)
    assert MinCut().plan(profile, path, raw, 24).labels == (0, 0)


def test_trap_9_memory_is_a_limit_of_the_search_and_not_a_repair():
    """A planner that does not see memory would put all on the fast tier, and one that then moves what is too much takes the wrong part."""
    # On the server everything is free, but it holds either a and b, 400 B each, or c, 800 B. On the device a, b take 1 s, c 5 s.
    nodes = (
        node("x", "", 1, ()),
        node("a", "x", 1, (1.0, 0.0), 100, 0),
        node("b", "a", 1, (1.0, 0.0), 100, 100),
        node("c", "b", 1, (5.0, 0.0), 200, 200),
    )
    profile = Profile(nodes=nodes, sample_shape=(1,))
    path = Path(tiers=tiers(10**6, 810), hops=(Hop(latency_s=0.0, up_bps=1e9, down_bps=1e9),))
    best = place_labels(profile, path, (0, 0, 0, 1), raw, 0, "by hand")
    for planner in (Chain(), Milp()):
        placement = planner.plan(profile, path, raw, 0)
        assert placement.cuts == best.cuts == (3,)
        assert placement.estimate_s == pytest.approx(2.0, rel=1e-6)
    from netfl.errors import NetflError

    with pytest.raises(NetflError, match=r"placement t0:0-1 t1:1-4 of planner mincut does not fit: t1 has 810 B and lacks 798 B"):
        # Parameters 1600 B, activations of two nodes 8 B.
        MinCut().plan(profile, path, raw, 0)


def test_trap_18_milp_is_exact_at_any_scale_of_its_costs():
    """Seconds of very different lengths, all small: HiGHS works with absolute tolerances, so costs are scaled before it sees them."""
    draw = np.random.default_rng(12)
    for scale in (1e-6, 1.0, 1e4):
        for _ in range(6):
            nodes = [node("x", "", 3, ())]
            nodes += [node(f"n{v}", " ".join(f"n{u}" if u else "x" for u in {int(draw.integers(0, v)), v - 1}), int(draw.integers(1, 50)),
                           (scale * draw.uniform(0, 1), scale * draw.uniform(0, 1), scale * draw.uniform(0, 1))) for v in range(1, 9)]  # fmt: skip
            profile = Profile(nodes=tuple(nodes), sample_shape=(3,))
            hops = tuple(Hop(latency_s=0.01 * scale, up_bps=5e3 / scale, down_bps=1e4 / scale) for _ in range(2))
            path = Path(tiers=tiers(10**6, 10**6, 10**6, overhead_s=0.05 * scale), hops=hops)
            assert Milp().plan(profile, path, raw, 40).estimate_s == pytest.approx(
                MinCut().plan(profile, path, raw, 40).estimate_s, rel=1e-7
            )
            assert problem_of(profile, path, raw, 40).unit < 1e-9 * scale


def test_equal_costs_keep_most_nodes_on_the_device():
    even = replace(DIAMOND, node=((0, 0),) * 5, send=((0,),) * 5)
    assert cheapest_labels(even) == (0,) * 5


def test_branches_may_part_and_the_pieces_are_put_in_order():
    # b is quick on the device, c on the server; d reads both. Reads: x -> a -> b, a -> c -> (server), b, c -> d.
    nodes = (
        node("x", "", 100, ()),
        node("a", "x", 1, (0.0, 9.0)),
        node("c", "a", 1, (9.0, 0.0)),
        node("b", "a", 1, (0.0, 9.0)),
        node("d", "b c", 1, (9.0, 0.0)),
    )
    profile = Profile(nodes=nodes, sample_shape=(100,))
    path = Path(tiers=tiers(10**6, 10**6), hops=(Hop(latency_s=0.0, up_bps=64, down_bps=64),))
    placement = MinCut().plan(profile, path, raw, 0)
    assert placement.labels == (0, 0, 1, 0, 1)
    assert (placement.order, placement.cuts) == ((0, 1, 3, 2, 4), (3,))
    assert placement.describe() == "t0:0-2,3-4 t1:2-3,4-5"
    # a and b cross: two tensors of 4 bytes at 64 bit/s. The best prefix cut pays 9 s for c or for b.
    assert placement.estimate_s == pytest.approx(1.0)
    assert Chain().plan(profile, path, raw, 0).estimate_s > 9
    assert isinstance(placement, Placement)
