"""Estimates and the simple planners, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netfl.errors import NetflError
from netfl.placement import Hop, Node, Path, Placement, Profile, Tier, estimate
from netfl.placement.plan import memory_shortages, node_s, piece_s
from netfl.placement.planners import PLANNERS
from netfl.placement.planners.baselines import DeviceOnly, Fixed, Upload
from netfl.placement.planners.chain import Chain


def node(name: str, reads: str, flop: float, moved_bytes: float, values: int, parameters: tuple[tuple[int, int], ...] = ()) -> Node:
    return Node(
        name=name,
        op=name if reads else "input",
        predecessors=tuple(reads.split()),
        flop=flop,
        moved_bytes=moved_bytes,
        output_values=values,
        output_shape=(values,),
        parameter_bytes=4 * sum(stop - start for start, stop in parameters),
        parameters=parameters,
    )


# x --> a --> b --> d, and a --> d: the output of a has two readers.
PROFILE = Profile(
    nodes=(
        node("x", "", 0, 0, 1000),
        node("a", "x", 4e6, 2e4, 200, ((0, 500),)),
        node("b", "a", 2e6, 1e4, 50, ((500, 600),)),
        node("d", "a b", 6e6, 8e4, 10, ((600, 3600),)),
    ),
    sample_shape=(1000,),
)
SLOW = Tier(device="cam", flop_per_s=1e6, memory_bytes_per_s=1e6, overhead_s=0.5, memory_bytes=1_000_000)
MIDDLE = Tier(device="gateway", flop_per_s=4e6, memory_bytes_per_s=1e6, overhead_s=0.25, memory_bytes=1_000_000)
FAST = Tier(device="edge", flop_per_s=1e9, memory_bytes_per_s=1e6, overhead_s=0.125, memory_bytes=1_000_000)
FIRST = Hop(latency_s=0.01, up_bps=8000, down_bps=16000)
SECOND = Hop(latency_s=0.02, up_bps=80000, down_bps=160000)
PATH = Path(tiers=(SLOW, MIDDLE, FAST), hops=(FIRST, SECOND))


def raw(values: int) -> int:
    return 4 * values


def test_estimate_by_hand():
    expected = estimate(PROFILE, PATH, (2, 3), raw, 100)
    # cam: 0.5 + 4e6 / 1e6; gateway: 0.25 + 2e6 / 4e6; edge: 0.125 + max(6e6 / 1e9, 8e4 / 1e6).
    assert expected.compute_s == pytest.approx((4.5, 0.75, 0.205))
    # a alone crosses the first hop: 800 B; a and b the second: 1000 B.
    assert expected.transmit_s == pytest.approx((6400 / 8000, 8000 / 80000))
    assert expected.propagation_s == pytest.approx(0.03)
    # 800 bits over both hops, and both latencies.
    assert expected.return_s == pytest.approx(0.03 + 800 / 16000 + 800 / 160000)
    assert expected.total_s == pytest.approx(4.5 + 0.75 + 0.205 + 0.8 + 0.1 + 0.03 + 0.03 + 0.05 + 0.005)


def test_trap_1_a_tensor_with_two_readers_is_sent_once():
    # After a, 200 values cross although b and d both read them.
    assert estimate(PROFILE, PATH, (2, 2), raw, 0).transmit_s[0] == pytest.approx(8 * 800 / 8000)


def test_trap_4_latency_once_per_used_hop_however_many_tensors_cross():
    # Two tensors cross behind b; the second hop is not used.
    late = estimate(PROFILE, PATH, (3, 4), raw, 0)
    assert late.propagation_s == late.return_s == pytest.approx(0.01)
    assert late.transmit_s[1] == 0
    alone = estimate(PROFILE, PATH, (4, 4), raw, 100)
    assert (alone.propagation_s, alone.return_s, alone.transmit_s) == (0, 0, (0, 0))


def test_trap_5_the_encoding_of_the_input_decides():
    path = Path(tiers=(SLOW, FAST), hops=(Hop(latency_s=0.01, up_bps=4000, down_bps=4000),))
    # Raw: the input is 4000 B = 8 s, more than 4.5 s for a on the camera and 1.6 s for its 800 B. At one byte a value it is 2 s.
    assert Chain().plan(PROFILE, path, raw, 0).cuts == (2,)
    assert Chain().plan(PROFILE, path, lambda values: values, 0).cuts == (1,)


def test_trap_5_the_input_is_as_long_as_it_is_sent():
    """One input as float32, as bytes and as a JPEG: split, upload, quick upload. Decoding it is not free."""
    path = Path(tiers=(SLOW, FAST), hops=(Hop(latency_s=0.01, up_bps=4000, down_bps=4000),))

    def sent(input_bytes: int, decode_flop: float = 0.0) -> Profile:
        return PROFILE.as_sent(lambda node: input_bytes if node.op == "input" else raw(node.output_values), decode_flop)

    # After a: 4.5 s on the camera, 1.6 s for 800 B, the rest at the edge. The upload takes 8 s as float32, 2 s as bytes, 0.4 s in 200 B.
    assert Chain().plan(sent(4000), path, raw, 0).cuts == (2,)
    assert Chain().plan(sent(1000), path, raw, 0).cuts == (1,)
    quick = Chain().plan(sent(200), path, raw, 0)
    # 0.4 s to send; the edge moves 1.1e5 bytes at 1e6 B/s after 0.125 s; two latencies.
    assert (quick.cuts, quick.estimate_s) == ((1,), pytest.approx(0.4 + 0.125 + 0.11 + 0.02))
    # Decoding counts where the first reader runs, unless that is the camera: 1e9 operations are 1 s at the edge, 1e10 are 10 s.
    assert Chain().plan(sent(200, 1e9), path, raw, 0).estimate_s == pytest.approx(quick.estimate_s + 1)
    assert Chain().plan(sent(200, 1e10), path, raw, 0).cuts == (2,)
    assert DeviceOnly().plan(sent(200, 1e10), path, raw, 0).estimate_s == DeviceOnly().plan(PROFILE, path, raw, 0).estimate_s


def test_trap_6_the_result_comes_back_over_every_used_hop_at_the_rate_back():
    small, large = (estimate(PROFILE, PATH, (1, 1), raw, result_bytes).return_s for result_bytes in (0, 2000))
    assert large - small == pytest.approx(16000 / 16000 + 16000 / 160000)
    # A result of 100 kB is 50 s away from the gateway: everything stays on the camera, which needs 12.5 s.
    assert Chain().plan(PROFILE, PATH, raw, 100_000).cuts == (4, 4)
    assert Chain().plan(PROFILE, PATH, raw, 40).cuts != (4, 4)


def test_trap_7_a_node_without_flop_takes_the_time_of_its_bytes():
    moves = Profile(nodes=(node("x", "", 0, 0, 10), node("copy", "x", 0, 5e5, 10)), sample_shape=(10,))
    assert piece_s(moves, SLOW, 0, 2) == pytest.approx(0.5 + 0.5)


def test_overhead_once_per_piece_and_none_for_the_input_alone():
    assert piece_s(PROFILE, SLOW, 0, 1) == 0
    assert piece_s(PROFILE, SLOW, 2, 2) == 0
    # Each node has a roofline of its own, and the piece one overhead: 4e6 + 2e6 + 6e6 operations weigh more than their bytes.
    assert piece_s(PROFILE, SLOW, 0, 4) == pytest.approx(0.5 + 12)
    # On the edge the bytes weigh more: 2e4 + 1e4 + 8e4 at 1e6 B/s.
    assert piece_s(PROFILE, FAST, 0, 4) == pytest.approx(0.125 + 0.11)
    # A node that computes and one that moves bytes do not overlap: 1 s and 0.5 s, where the roofline of the sum would give 1 s.
    mixed = Profile(nodes=(node("x", "", 0, 0, 10), node("a", "x", 1e6, 0, 10), node("b", "a", 0, 5e5, 10)), sample_shape=(10,))
    assert piece_s(mixed, SLOW, 0, 3) == pytest.approx(0.5 + 1.5)


def test_measured_seconds_count_in_place_of_the_roofline():
    measured = replace(PROFILE.nodes[1], measured_s=(("pi", 0.25), ("cloud", 0.0625)))
    assert node_s(measured, replace(SLOW, device_class="pi")) == 0.25
    # No such class: the roofline, 4e6 operations at 1e6 a second.
    assert node_s(measured, replace(SLOW, device_class="other")) == 4
    alone = replace(measured, flop=0.0, moved_bytes=0.0)
    with pytest.raises(NetflError, match="'a' has no seconds for the device class 'other' of cam, only for pi, cloud"):
        node_s(alone, replace(SLOW, device_class="other"))


def test_device_only_upload_and_fixed():
    assert DeviceOnly().plan(PROFILE, PATH, raw, 40).cuts == (4, 4)
    assert Upload().plan(PROFILE, PATH, raw, 40).cuts == (1, 1)
    assert Upload(to="gateway").plan(PROFILE, PATH, raw, 40).cuts == (1, 4)
    assert Fixed(after="b").plan(PROFILE, PATH, raw, 40).cuts == (3, 3)
    placement = Fixed(after="a", to="gateway").plan(PROFILE, PATH, raw, 40)
    assert placement.cuts == (2, 4)
    assert placement.pieces == (("cam", 0, 2), ("gateway", 2, 4), ("edge", 4, 4))
    assert placement.describe() == "cam:0-2 gateway:2-4"
    assert placement.estimate_s == estimate(PROFILE, PATH, (2, 4), raw, 40).total_s
    alone = Path(tiers=(SLOW,), hops=())
    for kind in ("device_only", "upload", "chain"):
        placement = PLANNERS.find(kind)().plan(PROFILE, alone, raw, 40)
        assert placement == Placement(cuts=(), devices=("cam",), nodes=4, estimate_s=12.5, planner=kind)


def test_unknown_names_are_met_with_the_nearest():
    with pytest.raises(NetflError, match=r"no device 'gatewy' on the path cam -> gateway -> edge; did you mean 'gateway'\?"):
        Upload(to="gatewy").plan(PROFILE, PATH, raw, 40)
    named = replace(PROFILE, nodes=(*PROFILE.nodes[:1], replace(PROFILE.nodes[1], name="conv1", predecessors=("x",))))
    with pytest.raises(NetflError, match=r"no node 'conv' to cut after; the nodes are x, conv1; did you mean 'conv1'\?"):
        Fixed(after="conv").plan(named, PATH, raw, 40)


def test_memory_by_hand():
    # Whole model: 3600 parameters; while a runs, the input and its output live: (3600 + 1200) * 4 bytes.
    assert PROFILE.memory_bytes(0, 4) == 19200
    # b and d: 3100 parameters and, while d runs, a, b and d: 260 values.
    assert PROFILE.memory_bytes(2, 4) == 4 * (3100 + 260)
    tight = replace(PATH, tiers=(replace(SLOW, memory_bytes=19199), MIDDLE, FAST))
    assert memory_shortages(PROFILE, tight, (4, 4)) == (1, 0, 0)
    with pytest.raises(NetflError, match=r"cam:0-4 of planner device_only does not fit: cam has 19.2 kB and lacks 1 B \(1 B\)"):
        DeviceOnly().plan(PROFILE, tight, raw, 40)


def test_chain_respects_memory_and_says_what_is_missing():
    ample = Chain().plan(PROFILE, PATH, raw, 100_000)
    assert ample.cuts == (4, 4)
    # 19200 B is what the whole needs; one byte less forbids it.
    tight = replace(PATH, tiers=(replace(SLOW, memory_bytes=19199), MIDDLE, FAST))
    placement = Chain().plan(PROFILE, tight, raw, 100_000)
    assert placement.cuts != (4, 4) and not any(memory_shortages(PROFILE, tight, placement.cuts))
    tiny = Path(tiers=tuple(replace(tier, memory_bytes=5000) for tier in (SLOW, FAST)), hops=(FIRST,))
    # d alone needs (3000 + 260) * 4 = 13040 B. Without d the camera needs (600 + 1200) * 4 = 7200 B, so (3,) lacks 2200 + 8040.
    # (2,): (500 + 1200) * 4 = 6800 and 13440: 1800 + 8440, as much in all; (1,): 4000 fits, 19200: 14200. Most on the camera: (3,).
    with pytest.raises(NetflError, match=r"cam has 5 kB and lacks 2.2 kB \(2200 B\); edge has 5 kB and lacks 8.04 kB \(8040 B\)"):
        Chain().plan(PROFILE, tiny, raw, 40)


def test_ties_put_most_nodes_on_the_earliest_device():
    # A view behind the first layer costs nothing and crosses as the same number of values: both cuts take as long.
    nodes = (node("x", "", 0, 0, 1000), node("a", "x", 1e3, 0, 10), node("view", "a", 0, 0, 10), node("d", "view", 5e7, 1, 1))
    profile = Profile(nodes=nodes, sample_shape=(1000,))
    path = Path(tiers=(SLOW, FAST), hops=(FIRST,))
    assert estimate(profile, path, (2,), raw, 0).total_s == estimate(profile, path, (3,), raw, 0).total_s
    assert Chain().plan(profile, path, raw, 0).cuts == (3,)


@pytest.mark.parametrize("cuts", [(1,), (0, 2), (3, 2), (2, 5), (1, 2, 3)])
def test_cuts_that_are_none_are_refused(cuts: tuple[int, ...]):
    with pytest.raises(ValueError, match="expected 2 non-decreasing cuts from 1 to 4"):
        estimate(PROFILE, PATH, cuts, raw, 0)


def test_paths_that_are_none_are_refused():
    with pytest.raises(ValueError, match="got 2 tiers and 0 hops"):
        Path(tiers=(SLOW, FAST), hops=())
    with pytest.raises(ValueError, match="every device once on a path, got cam, cam"):
        Path(tiers=(SLOW, SLOW), hops=(FIRST,))


def test_every_kind_is_found():
    assert PLANNERS.kinds()[:4] == ["device_only", "upload", "fixed", "chain"]
    assert PLANNERS.kind_of(Upload(to="edge")) == "upload"
