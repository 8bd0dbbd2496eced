"""Links that make no topology are told where they stand."""

from pathlib import Path

import pytest

from netfl.errors import ScenarioError
from netfl.scenario import load_topology


def test_self_loops_and_double_links_have_their_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        """schema: 1
name: t
devices:
  cloud: {profile: cloud-v100, tier: cloud}
  a-{1..2}: {profile: pi-4}
links:
  l1: {between: [a-1, cloud], rate: 1 Mbit/s, latency: 1 ms}
  l2: {between: [cloud, a-1], rate: 1 Mbit/s, latency: 1 ms}
  l3: {between: [a-1, a-1], rate: 1 Mbit/s, latency: 1 ms}
  m-{1..2}: {between: ["a-{1..2}", cloud], rate: 1 Mbit/s, latency: 1 ms}
"""
    )
    with pytest.raises(ScenarioError) as caught:
        load_topology(path)
    assert [str(problem) for problem in caught.value.problems] == [
        f"{path}:8:7: links.l2: links 'l1' and 'l2' both join 'a-1' and 'cloud'",
        f"{path}:9:7: links.l3: link 'l3' joins 'a-1' to itself",
        f"{path}:10:13: links.m-{{1..2}}: links 'l1' and 'm-1' both join 'a-1' and 'cloud'",
    ]
