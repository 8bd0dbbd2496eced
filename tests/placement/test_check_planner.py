"""The planners keep their contract, and the check sees one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from netfl.checks import check_planner
from netfl.errors import NetflError
from netfl.placement import Path, Placement, Profile
from netfl.placement.planners.baselines import DeviceOnly, Upload
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.milp import Milp
from netfl.placement.planners.mincut import MinCut
from netfl.placement.planners.proportional import MemoryProportional
from netfl.placement.planners.route import Route
from netfl.placement.planners.simulate import Simulate


@pytest.mark.parametrize(
    "planner",
    [
        DeviceOnly(),
        Upload(),
        Chain(),
        MinCut(),
        MinCut(objective="energy"),
        MemoryProportional(),
        Milp(),
        Milp(objective="throughput"),
        Simulate(),
        Chain(objective="throughput"),
        Chain(objective="energy"),
        Route(replicas=(("t0", "all"),)),
    ],
    ids=repr,
)
def test_the_planners_keep_the_contract(planner: Any) -> None:
    check_planner(planner, cases=16)


@dataclass(frozen=True)
class Wrong:
    """The chain's placement, spoilt."""

    spoil: Callable[[Placement], object]

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Any:
        return self.spoil(Chain().plan(profile, path, encoded_bytes, result_bytes))


def fail(_: Placement) -> object:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda placement: placement.cuts, "must return a Placement, but returned tuple"),
        (lambda placement: replace(placement, estimate_s=placement.estimate_s / 2), "the estimate must be what the placement takes"),
        (lambda placement: replace(placement, devices=("x",) * len(placement.devices)), "the devices must be the path's"),
        (lambda placement: replace(placement, cuts=tuple(0 for _ in placement.cuts)), "is none"),
        (fail, "must place or raise NetflError, but raised KeyError"),
    ],
)
def test_the_check_sees_what_is_wrong(spoil: Any, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_planner(Wrong(spoil), cases=16)


@dataclass(frozen=True)
class Deaf:
    """The chain's placement of a model whose outputs are all as long as the codec says."""

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        bare = replace(profile, nodes=tuple(replace(node, wire_bytes=None, decode_flop=0.0) for node in profile.nodes))
        return Chain().plan(bare, path, encoded_bytes, result_bytes)


def test_the_check_sees_who_does_not_look_at_what_is_sent() -> None:
    with pytest.raises(AssertionError, match="the estimate must be what the placement takes"):
        check_planner(Deaf(), cases=16)


def test_candidates_of_simulate_are_scored_by_what_is_given() -> None:
    from test_placement_traps import node, raw, tiers

    from netfl.placement import Hop

    profile = Profile(nodes=(node("x", "", 2, ()), node("a", "x", 1, (1.0, 0.5)), node("b", "a", 2, (3.0, 0.0))), sample_shape=(2,))
    path = Path(tiers=tiers(10**6, 10**6), hops=(Hop(latency_s=0.0, up_bps=64, down_bps=1e9),))
    planner = Simulate(candidates=3)
    proposed = planner.proposed(profile, path, raw, 0)
    # All here: 4 s. After a: 1 + 0.5 for its 4 bytes. Upload: 1 s for 8 bytes and 0.5.
    assert [(each.cuts, each.estimate_s) for each in proposed] == [((2,), 1.5), ((1,), 1.5), ((3,), 4.0)]
    assert planner.choose(profile, path, raw, 0, lambda each: -each.cuts[0]).cuts == (3,)
    assert planner.choose(profile, path, raw, 0, lambda each: each.cuts[0]).cuts == (1,)
    assert planner.choose(profile, path, raw, 0, lambda each: 7.0).cuts == (2,)
    with pytest.raises(NetflError, match="which only a serving workload can run"):
        planner.plan(profile, path, raw, 0)
