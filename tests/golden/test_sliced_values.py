"""A golden value for every stored function of Crowdlearning and its version; see `test_golden_values`."""

from typing import Any

import numpy as np
import pytest

from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.models import Mlp
from netfl.learning.partition import Iid
from netfl.learning.slicing import Even
from netfl.learning.slicing import recipes as sliced
from netfl.learning.trainer import Sgd
from netfl.randomness import Streams
from netfl.store import Recipe
from tests.golden.checks import assert_all_golden, assert_golden, assert_same_from_disk

STREAMS = Streams(seed=11)
MODEL = Mlp(hidden=(12, 6))


def recipes() -> dict[str, Recipe]:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    shards = values.shards(data, Iid(), 20, STREAMS.stream("partition"))
    start = values.initial_model(MODEL, data, STREAMS.stream("initial"))
    slices = sliced.slicing(MODEL, data, Even(), 3)
    trainer = Sgd(learning_rate=0.1, batch_size=16)
    first = sliced.turn(trainer, MODEL, start, data, (shards, 0), STREAMS.stream("turn", 0), 1, slices)
    second = sliced.turn(trainer, MODEL, first, data, (shards, 1), STREAMS.stream("turn", 1), 2, slices, None, ((2, 1),))
    uploads = [sliced.upload(first, 0.3), sliced.upload(second, 0.5)]
    received = sliced.handed_on(uploads, start, 2, 0.5)
    return {
        "slicing": slices,
        "turn": second,
        "fallen_back": sliced.fallen_back(second, first, slices, 1),
        "trained": sliced.trained(second),
        "upload": uploads[1],
        "handed_on": received,
        "adopted": sliced.adopted(second, received),
        "server_model": sliced.server_model(start, uploads, 2),
        "selection_bytes": sliced.selection_bytes(uploads[1], slices),
    }


def figures(value: Any) -> list[float]:
    """A few figures that any change of the value would move."""
    if isinstance(value, sliced.Slicing):
        return [*value.loads, *(sum(place * role for place, role in enumerate(layer)) for layer in value.roles), value.net.num_parameters]
    if isinstance(value, sliced.Turn):
        return [*figures(value.model), *figures(value.change)]
    if isinstance(value, sliced.Selection):
        return [float(value.places.sum()), *figures(value.values)]
    if isinstance(value, tuple):
        return list(value)
    return [len(value), float(np.abs(value.astype(np.float64)).sum()), float(value[: len(value) // 3].astype(np.float64).sum())]


GOLDEN: dict[tuple[str, int], list[float]] = {
    ("slicing", 1): [50.0, 50.0, 50.0, 164.0, 38.0, 928.0],
    ("turn", 1): [928.0, 74.578849, 0.391023, 928.0, 4.717913, 1.036977],
    ("fallen_back", 1): [928.0, 74.582361, 0.391023, 928.0, 4.717913, 1.036977],
    ("trained", 1): [928.0, 74.578849, 0.391023],
    ("upload", 1): [225379.0, 464.0, 37.97983, 1.164185],
    ("handed_on", 1): [150825.0, 278.0, 24.829108, 0.513429],
    ("adopted", 1): [928.0, 74.631677, 0.336837],
    ("server_model", 1): [928.0, 74.627894, 0.307836],
    ("selection_bytes", 1): [1646.0, 139.0, 127.0, 79.0],
}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_value(name: str) -> None:
    assert_golden(name, recipes()[name], figures, GOLDEN)


@pytest.mark.parametrize("name", ["slicing", "turn", "upload", "handed_on", "adopted", "server_model", "selection_bytes"])
def test_what_the_disk_gives_back_is_the_value(name: str) -> None:
    assert_same_from_disk(recipes()[name], figures)


def test_every_stored_function_has_a_golden_value() -> None:
    assert_all_golden(recipes(), GOLDEN, (sliced,))
