"""A golden value for every stored function of answering together and its version; see `test_golden_values`."""

import math
from typing import Any

import numpy as np
import pytest

from netfl.codecs import Pipeline, Quantize
from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.models import Cnn
from netfl.learning.students import StudentTeam, features, filter_activity
from netfl.placement import Profile
from netfl.placement.stages import Portions
from netfl.placement.students import FilterGroups
from netfl.randomness import Streams
from netfl.store import FactForm, Recipe
from netfl.workloads import cooperative_values as cooperative
from netfl.workloads.inference import Answers
from tests.golden.checks import assert_all_golden, assert_golden, assert_same_from_disk

STREAMS = Streams(seed=11)
TEACHER = Cnn(channels=(4, 8))
TEAM = StudentTeam(student=Cnn(channels=(2, 4)), groups=((0, 2, 5), (1, 3, 4, 7)), side=(4, 4))
CODEC = Pipeline((Quantize(bits=8),))


def recipes() -> dict[str, Recipe]:
    data = values.dataset(Digits(limit=200, test_limit=100), STREAMS.stream("data"))
    teacher = values.initial_model(TEACHER, data, STREAMS.stream("initial"))
    vector = values.initial_model(TEAM, data, STREAMS.stream("students"))
    activity = filter_activity(TEACHER, teacher, data, 0.5, STREAMS.stream("validation"))
    samples = cooperative.sent_samples(CODEC, data, STREAMS.stream("samples"))
    exact, coarse = features(TEAM, vector, data), features(TEAM, vector, data, cooperative.received_samples(samples))
    sent = cooperative.sent_features(CODEC, exact, coarse, (True, False), (True, False), STREAMS.stream("sent"))
    split = STREAMS.stream("split")
    return {
        "filter_groups": cooperative.filter_groups(FilterGroups(top=6, percentile=30), activity, 2, 7),
        "student_profile": cooperative.student_profile(TEAM, 1, data),
        "sent_samples": samples,
        "received_samples": cooperative.received_samples(samples),
        "sent_features": sent,
        "received_features": cooperative.received_features(sent),
        "sent_bytes": cooperative.sent_bytes(sent),
        "tile_portions": cooperative.tile_portions(TEACHER, data, (1.0, 2.0)),
        "tile_answers": cooperative.tile_answers(TEACHER, data, teacher, (1.0, 2.0), (True, False), 0, CODEC, split),
        "filter_portions": cooperative.filter_portions(TEACHER, data, 3),
        "filter_answers": cooperative.filter_answers(TEACHER, data, teacher, (True, False, False), 0, CODEC, split),
    }


def figures(value: Any) -> list[float]:
    """A few figures that any change of the value would move."""
    if isinstance(value, cooperative.Sent):
        return [*figures(value.parts), *figures(value.payload_bytes)]
    if isinstance(value, Answers):
        return [int(value.correct.sum()), *figures(value.payload_bytes)]
    if isinstance(value, Profile):
        return [len(value.nodes), value.total_flop, value.parameter_bytes]
    if isinstance(value, Portions):
        operations = [each for portions, _ in value.steps for portion in portions for each in portion.operations]
        sent = [values for _, messages in value.steps for _, _, values in messages]
        held = sum(portion.activation_bytes for portions, _ in value.steps for portion in portions)
        return [math.fsum(flop for flop, _ in operations), math.fsum(moved for _, moved in operations), sum(sent), len(sent), held]
    if isinstance(value, tuple) and not isinstance(value[0], int):
        return [figure for part in value for figure in figures(part)]
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    return [len(flat), float(np.abs(flat).sum()), float(flat[: len(flat) // 3].sum())]


GOLDEN: dict[tuple[str, int], list[float]] = {
    ("filter_groups", 1): [4.0, 10.0, 0.0, 4.0, 18.0, 2.0],
    ("student_profile", 1): [12.0, 5540.0, 480.0],
    ("sent_samples", 1): [6400.0, 1944.306455, 662.384832, 100.0, 7600.0, 2508.0],
    ("received_samples", 1): [6400.0, 1944.306455, 662.384832],
    ("sent_features", 1): [300.0, 122.402196, 41.108684, 400.0, 157.684579, 52.055966, 200.0, 1600.0, 0.0],
    ("received_features", 1): [300.0, 122.402196, 41.108684, 400.0, 157.684579, 52.055966],
    ("sent_bytes", 1): [100.0, 0.0, 0.0, 100.0, 1600.0, 528.0],
    ("filter_portions", 1): [14944.0, 11152.0, 352.0, 12.0, 3624.0],
    ("filter_answers", 1): [14.0, 1000.0, 40000.0, 18924.0],
    ("tile_portions", 1): [17408.0, 13712.0, 144.0, 4.0, 3328.0],
    ("tile_answers", 1): [14.0, 200.0, 9600.0, 4488.0],
}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_value(name: str) -> None:
    assert_golden(name, recipes()[name], figures, GOLDEN)


@pytest.mark.parametrize("name", sorted(name for name, recipe in recipes().items() if isinstance(recipe.function.form, FactForm)))
def test_what_the_disk_gives_back_is_the_value(name: str) -> None:
    assert_same_from_disk(recipes()[name], figures)


def test_every_stored_function_has_a_golden_value() -> None:
    assert_all_golden(recipes(), GOLDEN, (cooperative,))
