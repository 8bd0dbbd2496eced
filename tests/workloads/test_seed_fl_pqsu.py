"""FL-PQSU whole: the bytes of its stages, and the ablation of `scenarios/studies/fl-pqsu.yaml` in one replicate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from netfl import run
from netfl.codecs import Pipeline
from netfl.codecs.affine import Affine
from netfl.learning.models import Model
from netfl.learning.pruning import Pruned
from netfl.learning.zoo.images import AlexNet, Vgg16

STUDY = Path(__file__).parents[2] / "scenarios" / "studies" / "fl-pqsu.yaml"

VGG = Vgg16(norm="batch")
TRANSFERS: list[tuple[Model, tuple[int, ...], tuple[int, ...], float]] = [
    (AlexNet(), (64, 128, 256, 256, 256, 3300, 3500), (1, 28, 28), 0.18),
    (AlexNet(), (32, 64, 64, 128, 256, 1900, 2000), (1, 28, 28), 0.075),
    (VGG, (16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 1600, 1600), (3, 32, 32), 0.025),
]


def shapes_of(model: Model, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Of its parameters, on the meta device: nothing is drawn."""
    import torch

    with torch.device("meta"):
        return tuple(tuple(parameter.shape) for parameter in model.build(shape, 10).parameters())


def length(pipeline: Pipeline, num_values: int) -> int:
    found = pipeline.encoded_bytes(num_values)
    assert found is not None
    return found


@pytest.mark.parametrize(("full", "keep", "shape", "most"), TRANSFERS, ids=["AlexNet 30", "AlexNet 70", "VGG16"])
def test_bytes_per_transfer_of_the_three_pruned_configurations(
    full: Model, keep: tuple[int, ...], shape: tuple[int, ...], most: float
) -> None:
    dense, pruned = shapes_of(full, shape), shapes_of(Pruned(model=full, keep=keep), shape)
    counts = [sum(math.prod(each) for each in shapes) for shapes in (dense, pruned)]
    coded = length(Pipeline((Affine(),), pruned), counts[1])
    # A byte a value, eight bytes a tensor, and a header of a few.
    assert 0 <= coded - counts[1] - 8 * len(pruned) <= 16
    assert coded / length(Pipeline(()), counts[0]) <= most


@pytest.fixture(scope="module")
def ablation() -> dict[str, dict[str, Any]]:
    """Metrics of the study's four points, by label."""
    found = {}
    for point in yaml.safe_load(STUDY.read_text(encoding="utf-8"))["sweep"]["points"]:
        scenario = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
        del scenario["sweep"]
        label = point.pop("label")
        for path, value in point.items():
            *steps, last = path.split(".")
            place = scenario
            for step in steps:
                place = place[step]
            place[last] = value
        found[label] = run(scenario).metrics
    return found


ORDER = ["PQSU", "PQ", "P", "FL"]


def test_bytes_of_pqsu_below_pq_below_p_below_fl(ablation: dict[str, dict[str, Any]]) -> None:
    totals = [sum(each["sent"] for each in ablation[label]["bytes"]["by_kind"].values()) for label in ORDER]
    assert totals == sorted(totals)
    assert len(set(totals)) == 4


def test_accuracy_within_0_03_of_fl(ablation: dict[str, dict[str, Any]]) -> None:
    accuracy = {label: ablation[label]["training"]["training"]["accuracy"] for label in ORDER}
    assert accuracy["FL"] > 0.9
    assert min(accuracy.values()) >= accuracy["FL"] - 0.03


def test_time_to_target_is_strictly_ordered_on_slow_links(ablation: dict[str, dict[str, Any]]) -> None:
    times_s = [ablation[label]["training"]["training"]["time_to_accuracy_s"]["0.9"] for label in ORDER]
    assert all(fast < slow for fast, slow in zip(times_s, times_s[1:], strict=False))


def test_what_each_stage_saves(ablation: dict[str, dict[str, Any]]) -> None:
    """Quantisation makes messages shorter, selective updating makes them fewer."""
    training = {label: ablation[label]["training"]["training"] for label in ORDER}
    assert training["FL"]["byte_fraction"] == training["P"]["byte_fraction"] == 1
    assert 0.25 < training["PQ"]["byte_fraction"] < 0.26
    assert training["PQ"]["updates_skipped"] == 0 < training["PQSU"]["updates_skipped"]
    assert training["PQSU"]["updates_accepted"] + training["PQSU"]["updates_skipped"] == 3 * 40
