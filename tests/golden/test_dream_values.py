"""A golden value for every stored function of Dream Distillation and its version; see `test_golden_values`."""

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from netfl.learning import dreams, lessons, values
from netfl.learning.data import Digits
from netfl.learning.models import Cnn
from netfl.learning.trainer import Adam
from netfl.learning.zoo.sequences import Gru
from netfl.randomness import Streams
from netfl.store import Recipe
from tests.golden.checks import assert_all_golden, assert_golden, assert_same_from_disk

STREAMS = Streams(seed=11)
TEACHER = Cnn(channels=(4, 8))
STUDENT = Cnn(channels=(2, 4))


def recipes() -> dict[str, Recipe]:
    data = values.dataset(Digits(limit=200), STREAMS.stream("data"))
    teacher = values.initial_model(TEACHER, data, STREAMS.stream("initial"))
    found = dreams.metadata(dreams.Observation(clusters=3, components=2), TEACHER, teacher, data, STREAMS.stream("metadata"))
    dreaming = dreams.Dreaming(number=12, steps=5, jitter=1)
    rest = TEACHER, teacher, found, (1, 8, 8), 10, STREAMS.stream("dreams")
    dreamt = dreams.dreams(dreaming, *rest)
    trainer = Adam(learning_rate=0.01, epochs=3, batch_size=5)
    return {
        "dream_metadata": found,
        "dream_metadata_bytes": dreams.metadata_bytes(found),
        "dreams": dreamt,
        "dream_match_error": dreams.match_error(dreaming, *rest),
        "teacher_problem": lessons.teacher_problem(Gru(vocabulary=12), data, True),
        "noise": lessons.noise(lessons.Noise(number=7), (1, 8, 8), STREAMS.stream("noise")),
        "real_samples": lessons.real(lessons.Real(share=0.1), data, STREAMS.stream("real")),
        "taught": lessons.taught(
            trainer, 4.0, STUDENT, TEACHER, teacher, dreamt, (1, 8, 8), 10, STREAMS.stream("start"), STREAMS.stream("fit")
        ),
    }


def figures(value: Any) -> list[float]:
    """A few figures that any change of the value would move."""
    if isinstance(value, dreams.Metadata):
        return [figure for part in astuple(value) for figure in figures(part)]
    if isinstance(value, str):
        return [len(value)]
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    return [len(flat), float(np.abs(flat).sum()), float(flat[: len(flat) // 3].sum())]


GOLDEN: dict[tuple[str, int], list[float]] = {
    ("dream_metadata", 1): [96, 11.649205, 4.026918, 192, 24.628693, 2.136306, 6, 0.579489, 0.225322, 3, 20.0, 4.0, 1, 0.0, 0.0],
    ("dream_metadata_bytes", 1): [1, 1188.0, 0.0],
    ("dreams", 1): [768, 362.487482, 117.076132],
    ("dream_match_error", 1): [1, 0.287223, 0.0],
    ("teacher_problem", 1): [61.0],
    ("noise", 1): [448, 219.439742, 70.265469],
    ("real_samples", 1): [1280, 389.8125, 131.6875],
    ("taught", 1): [266, 31.996641, -0.19975],
}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_value(name: str) -> None:
    assert_golden(name, recipes()[name], figures, GOLDEN)


@pytest.mark.parametrize("name", ["dream_metadata", "dreams", "taught", "dream_match_error"])
def test_what_the_disk_gives_back_is_the_value(name: str) -> None:
    assert_same_from_disk(recipes()[name], figures)


def test_every_stored_function_has_a_golden_value() -> None:
    assert_all_golden(recipes(), GOLDEN, (dreams, lessons))
