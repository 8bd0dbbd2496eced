"""Codecs in scenarios: every kind reads with its place when it is wrong, and every part of the docs page is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from netfl.codecs import CODECS
from netfl.codecs.indices import check_coding
from netfl.errors import ScenarioError
from netfl.scenario import load
from netfl.scenario.reader import read
from netfl.scenario.schema import Scenario
from netfl.scenario.tree import load_text

SCENARIO = """\
schema: 1
name: small
topology: {schema: 1, name: pair, devices: {cloud: {profile: edge-server, tier: cloud}, node: {profile: pi-4}},
  links: {air: {between: [node, cloud], rate: 8 Mbit/s, latency: 10 ms}}}
data: {source: digits}
model: {kind: mlp}
workloads:
  training:
    kind: synchronous
    rounds: 1
    clients_per_round: 1
    trainer: {kind: sgd, learning_rate: 0.1}
    uplink:
"""


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("{kind: topk, fraction: 1.5}", "f.yaml:14:32: workloads.training.uplink[0].fraction"),
        ("{kind: randomk, fraction: 0.0}", "f.yaml:14:35: workloads.training.uplink[0].fraction"),
        ("{kind: gumbel_topk, fraction: 0.1, clip: 1.0, epsilon: 0.0}", "f.yaml:14:64: workloads.training.uplink[0].epsilon"),
        ("{kind: laplace, clip: 1.0, epsilon: -1.0}", "f.yaml:14:45: workloads.training.uplink[0].epsilon"),
        ("{kind: onebit_release, clip: 0.0, epsilon: 1.0}", "f.yaml:14:38: workloads.training.uplink[0].clip"),
        ("{kind: topk, fraction: 0.1, indices: gaps}", "f.yaml:14:46: workloads.training.uplink[0].indices"),
        ("{kind: topkk, fraction: 0.1}", "did you mean 'topk'"),
        ("{kind: affine, bits: 9}", "workloads.training.uplink[0].bits"),
    ],
)
def test_wrong_settings_have_places(block: str, words: str) -> None:
    with pytest.raises(ScenarioError) as placed:
        read(Scenario, load_text(SCENARIO + f"      - {block}\n", "f.yaml"))
    assert words in str(placed.value)


@pytest.mark.parametrize("block", ["{kind: gumbel_topk, fraction: 0.1, clip: 1.0, epsilon: 1.0}", "{kind: lowrank}"])
def test_a_stage_that_must_come_first_is_told(block: str) -> None:
    with pytest.raises(ScenarioError, match="it must see the whole vector, so it comes first"):
        load(load_text(SCENARIO + f"      - {{kind: topk, fraction: 0.1}}\n      - {block}\n", "f.yaml").value)


def test_the_docs_page_has_every_kind_and_coding() -> None:
    page = (Path(__file__).parents[2] / "docs" / "codecs.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    codings = rows[8:14]
    for coding in codings:
        check_coding(coding)
    assert sorted(rows[:8] + rows[14:]) == sorted(CODECS.kinds())
