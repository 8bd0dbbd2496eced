"""A golden value for every stored function of NoNN's learning and its version; see `test_golden_values`."""

from typing import Any

import numpy as np
import pytest

from netfl.learning import students, values
from netfl.learning.data import Digits
from netfl.learning.distillation import Distillation
from netfl.learning.models import Cnn
from netfl.learning.trainer import Adam
from netfl.randomness import Streams
from netfl.store import Recipe
from tests.golden.checks import assert_all_golden, assert_golden, assert_same_from_disk

STREAMS = Streams(seed=11)
TEACHER = Cnn(channels=(4, 8))
TEAM = students.StudentTeam(student=Cnn(channels=(2, 4)), groups=((0, 2, 5), (1, 3, 4, 7)), side=(4, 4))


def recipes() -> dict[str, Recipe]:
    data = values.dataset(Digits(limit=200), STREAMS.stream("data"))
    teacher = values.initial_model(TEACHER, data, STREAMS.stream("initial"))
    start = values.initial_model(TEAM, data, STREAMS.stream("students"))
    trained = students.distilled(
        Adam(learning_rate=0.01, epochs=2), Distillation(), TEAM, start, TEACHER, teacher, data, STREAMS.stream("distil")
    )
    said = students.features(TEAM, trained, data)
    return {
        "filter_activity": students.filter_activity(TEACHER, teacher, data, 0.1, STREAMS.stream("validation")),
        "teacher_maps": students.teacher_maps(TEACHER, TEAM.student, data),
        "distilled": trained,
        "student_features": said,
        "student_answers": students.answers(TEAM, trained, data, said, (True, False)),
    }


def figures(value: Any) -> list[float]:
    """A few figures that any change of the value would move."""
    if isinstance(value, tuple) and isinstance(value[0], int):
        return list(value)
    if isinstance(value, tuple):
        return [figure for part in value for figure in figures(part)]
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    return [len(flat), float(np.abs(flat).sum()), float(flat[: len(flat) // 3].sum())]


GOLDEN: dict[tuple[str, int], list[float]] = {
    ("teacher_maps", 1): [8.0, 4.0, 4.0],
    ("filter_activity", 1): [160.0, 10.482874, 3.472435],
    ("distilled", 1): [314.0, 57.57011, 1.698933],
    ("student_features", 1): [1077.0, 470.177151, 157.541168, 1436.0, 504.033776, 168.384028],
    ("student_answers", 1): [359.0, 42.0, 17.0],
}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_value(name: str) -> None:
    assert_golden(name, recipes()[name], figures, GOLDEN)


@pytest.mark.parametrize("name", ["distilled", "student_answers"])
def test_what_the_disk_gives_back_is_the_value(name: str) -> None:
    assert_same_from_disk(recipes()[name], figures)


def test_every_stored_function_has_a_golden_value() -> None:
    assert_all_golden(recipes(), GOLDEN, (students,))
