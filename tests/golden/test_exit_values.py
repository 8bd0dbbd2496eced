"""A golden value for every stored function of early exits and its version; see `test_golden_values`."""

from typing import Any

import numpy as np
import pytest

from netfl.codecs import Pipeline, Quantize
from netfl.learning import exits, values
from netfl.learning.data import Digits
from netfl.learning.models import Cnn
from netfl.learning.trainer import Adam
from netfl.placement import Profile
from netfl.randomness import Streams
from netfl.store import Recipe
from netfl.workloads import exit_inference
from netfl.workloads.crossing import Crossing
from netfl.workloads.inference import served
from tests.golden.checks import assert_all_golden, assert_golden, assert_same_from_disk

STREAMS = Streams(seed=11)
NETWORK = exits.ExitNetwork(model=Cnn(channels=(2, 4)), after=(3, 6))


def recipes() -> dict[str, Recipe]:
    data = values.dataset(Digits(limit=200, test_limit=100), STREAMS.stream("data"))
    start = values.initial_model(NETWORK, data, STREAMS.stream("initial"))
    trained = exits.joint(Adam(learning_rate=0.01, epochs=3), (1.0, 0.5, 1.0), NETWORK, start, data, STREAMS.stream("fit"))
    profile = exit_inference.exit_profile(NETWORK, data)
    weights = served(Pipeline(()), profile, trained, STREAMS.stream("served"))
    crossing, stream = Crossing(activations=Pipeline((Quantize(bits=8),))), STREAMS.stream("activations")
    return {
        "exits_trained": trained,
        "exit_answers": exits.exit_answers(NETWORK, trained, data),
        "exit_problem": exits.exit_problem(exits.ExitNetwork(model=Cnn(channels=(2, 4)), after=(9,)), data),
        "exit_profile": profile,
        "infer_with_exits": exit_inference.infer_with_exits(NETWORK, (0, 1, 2), 2.27, data, profile, (7,), weights, crossing, stream),
    }


def figures(value: Any) -> list[float]:
    """A few figures that any change of the value would move."""
    if isinstance(value, str):
        return [len(value)]
    if isinstance(value, Profile):
        return [len(value.nodes), value.total_flop, value.parameter_bytes]
    if isinstance(value, exits.ExitAnswers):
        return [*figures(value.entropies), int(value.correct.sum())]
    if isinstance(value, exit_inference.AnswersWithExits):
        return [int(value.correct.sum()), int(value.payload_bytes.sum()), *np.bincount(value.left, minlength=3).tolist()]
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    return [len(flat), float(np.abs(flat).sum()), float(flat[: len(flat) // 3].sum())]


GOLDEN: dict[tuple[str, int], list[float]] = {
    ("exits_trained", 1): [526, 83.91913, -1.193548],
    ("exit_answers", 1): [300, 679.40172, 227.076486, 46],
    ("exit_problem", 1): [63],
    ("exit_profile", 1): [16, 5702.0, 2104],
    ("infer_with_exits", 1): [16, 2508, 43, 5, 52],
}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_value(name: str) -> None:
    assert_golden(name, recipes()[name], figures, GOLDEN)


@pytest.mark.parametrize("name", sorted(recipes()))
def test_what_the_disk_gives_back_is_the_value(name: str) -> None:
    assert_same_from_disk(recipes()[name], figures)


def test_every_stored_function_has_a_golden_value() -> None:
    assert_all_golden(recipes(), GOLDEN, (exits, exit_inference))
