"""How many names ranges may stand for."""

import pytest

from netfl.compute import PROFILES
from netfl.network.generators import Star
from netfl.scenario.expand import build_topology, unfold
from netfl.scenario.schema import DeviceBlock, TopologyFile


def test_a_range_has_a_million_names_at_most() -> None:
    Star(devices=1_000_000)
    with pytest.raises(ValueError, match="has more than 1,000,000 names"):
        unfold("camera-{0..1000000}")
    names = unfold("camera-{1..1000000}")
    assert (len(names), names[-1]) == (1_000_000, "camera-1000000")


def test_all_ranges_together_have_a_limit_and_nothing_is_unfolded_beyond_it() -> None:
    block = DeviceBlock(profile=PROFILES["pi-4"])
    # 3 times a million names would take gigabytes.
    file = TopologyFile(schema=1, name="t", devices={f"{kind}-{{1..1000000}}": block for kind in "abc"}, links={})
    built, found = build_topology(file)
    assert built is None
    assert found == [(("devices",), "expected at most 2,000,000 names, these ranges stand for 3,000,000", "")]
