"""Staged placements: what they take on idle devices and links, and what they need, by hand."""

import pytest

from netfl.errors import NetflError
from netfl.placement import Tier
from netfl.placement.stages import (
    SOURCE,
    Cluster,
    Crossing,
    Portion,
    Portions,
    Share,
    Stage,
    StagedPlacement,
    Way,
    check_memory,
    estimate_stages,
    share_s,
)


def tier(device: str, memory_bytes: int = 10_000) -> Tier:
    return Tier(device=device, flop_per_s=100.0, memory_bytes_per_s=1000.0, overhead_s=0.5, memory_bytes=memory_bytes)


TIERS = {device: tier(device) for device in ("a", "b", "c")}
WAYS = {(one, other): Way(latency_s=0.1, bps=80.0) for one in "abc" for other in "abc" if one != other}


def test_a_share_takes_its_overhead_and_each_operations_roofline() -> None:
    # 100 / 100 = 1 s against 10 / 1000; 10 / 100 against 500 / 1000 = 0.5 s.
    assert share_s(Share(device="a", operations=((100.0, 10.0), (10.0, 500.0))), TIERS["a"]) == 0.5 + 1 + 0.5
    assert share_s(Share(device="a", operations=()), TIERS["a"]) == 0


def test_the_barrier_waits_for_the_last_message() -> None:
    # a asks and sends 5 B to b and 10 B to c; b works 1.5 s and c 2.5 s; both send 2 B to a, which works 1.5 s.
    stages = (
        Stage(crossings=(Crossing(sender="a", receiver="b", values=5), Crossing(sender="a", receiver="c", values=10))),
        Stage(
            shares=(Share(device="b", operations=((100.0, 0.0),)), Share(device="c", operations=((200.0, 0.0),))),
            crossings=(Crossing(sender="b", receiver="a", values=2), Crossing(sender="c", receiver="a", values=2)),
        ),
        Stage(shares=(Share(device="a", operations=((100.0, 0.0),)),)),
    )
    placement = StagedPlacement(stages=stages, source="a", parameter_bytes=(), planner="test", described="")
    found = estimate_stages(placement, TIERS, WAYS, lambda count: count, 0)
    # By c: 0.1 + 10 * 8 / 80 = 1.1 s, 2.5 s, 0.1 + 0.2 s, and 1.5 s of a.
    assert found.at_least_s == pytest.approx(1.1 + 2.5 + 0.3 + 1.5)
    # The longest chain without bits, 0.1 + 2.5 + 0.1 + 1.5 s, and 19 B at 10 B/s.
    assert found.at_most_s == pytest.approx(4.2 + 1.9)
    assert placement.sent_bytes(lambda count: 4 * count) == 4 * 19
    assert placement.devices == ("a", "b", "c")


def test_a_reply_is_as_long_as_the_result() -> None:
    stages = (
        Stage(shares=(Share(device="b", operations=((100.0, 0.0),)),)),
        Stage(crossings=(Crossing(sender="b", receiver="a", values=9, what="reply"),)),
    )
    placement = StagedPlacement(stages=stages, source="a", parameter_bytes=(), planner="test", described="")
    assert estimate_stages(placement, TIERS, WAYS, lambda count: 99, 20).at_least_s == pytest.approx(1.5 + 0.1 + 2)


PORTIONS = Portions(
    workers=2,
    steps=(
        ((Portion(), Portion(), Portion()), ((SOURCE, 0, 6), (SOURCE, 1, 6))),
        (
            (Portion(operations=((1.0, 2.0),), activation_bytes=40), Portion(operations=((3.0, 4.0),), activation_bytes=50), Portion()),
            ((0, 2, 7), (1, 2, 8)),
        ),
        ((Portion(), Portion(), Portion(operations=((5.0, 6.0),), activation_bytes=60)), ()),
    ),
    parameter_bytes=(100, 200, 300),
    described=("one", "two", "join"),
)


def test_portions_on_devices_of_which_one_asks_works_and_joins() -> None:
    found = PORTIONS.placement(Cluster(source="a", workers=("a", "b"), join="a", tiers=TIERS, ways=WAYS), "test", 3, has_inputs=False)
    # Nothing within a device, and no reply to itself.
    assert [(each.sender, each.receiver, each.values, each.what) for each in found.crossings] == [
        ("a", "b", 6, "request"),
        ("b", "a", 8, "activation"),
    ]
    assert found.described == "a:one+join b:two"
    assert dict(found.parameter_bytes) == {"a": 400, "b": 200}
    assert found.memory_bytes("a") == 460


def test_portions_on_four_devices_that_have_the_sample() -> None:
    ways = {(one, other): Way(latency_s=0.1, bps=80.0) for one in "abcd" for other in "abcd" if one != other}
    cluster = Cluster(source="d", workers=("a", "b"), join="c", tiers=TIERS, ways=ways)
    found = PORTIONS.placement(cluster, "test", 3, has_inputs=True)
    assert [(each.sender, each.receiver, each.what) for each in found.crossings] == [
        ("a", "c", "activation"),
        ("b", "c", "activation"),
        ("c", "d", "reply"),
    ]
    assert Portions.from_plain(PORTIONS.to_plain()) == PORTIONS  # type: ignore[arg-type]


def test_memory_that_is_short_is_told() -> None:
    placement = PORTIONS.placement(Cluster(source="a", workers=("a", "b"), join="a", tiers=TIERS, ways=WAYS), "test", 3, has_inputs=False)
    check_memory(placement, TIERS)
    with pytest.raises(NetflError, match=r"placement a:one\+join b:two of planner test does not fit: b has 200 B and lacks 50 B \(50 B\)"):
        check_memory(placement, {**TIERS, "b": tier("b", 200)})
