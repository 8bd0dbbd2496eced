"""Models that can answer before their end."""

import numpy as np
import pytest
import torch

from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.exits import ExitNetwork, WithExits, entropies, exit_answers, joint, leaving
from netfl.learning.models import Cnn, Mlp, Model, initial, load_vector, num_parameters
from netfl.learning.pruning import Pruned
from netfl.learning.trainer import Sgd
from netfl.learning.zoo.images import ResNet
from netfl.learning.zoo.sequences import Gru
from netfl.randomness import Streams
from netfl.store import Recipe, Store

STREAMS = Streams(seed=1)
MODEL = Cnn(channels=(4, 8))
TRAINER = Sgd(learning_rate=0.2, epochs=8, batch_size=16)


def digits() -> Recipe:
    return values.dataset(Digits(limit=600), STREAMS.stream("data"))


@pytest.mark.parametrize(("model", "after"), [(MODEL, (3,)), (MODEL, (2, 6)), (Mlp(hidden=(16, 16)), (3,)), (ResNet(), (3, 5))])
def test_the_last_exit_is_the_model_itself(model: Model, after: tuple[int, ...]) -> None:
    """Its vector begins with the model's, and its last logits are the model's."""
    network = ExitNetwork(model=model, after=after)
    vector = initial(network, (1, 8, 8), 10, STREAMS.stream("initial"))
    own = num_parameters(model, (1, 8, 8), 10)
    whole, plain = network.build((1, 8, 8), 10).eval(), model.build((1, 8, 8), 10).eval()
    load_vector(whole, vector)
    load_vector(plain, vector[:own])
    assert len(vector) > own
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exits = whole(x).reshape(3, network.num_exits, 10)
        torch.testing.assert_close(exits[:, -1], plain(x), rtol=0, atol=0)


def test_entropies() -> None:
    # Of equal chances among 10: log 10; of certainty 0; of (3/4, 1/4): log 4 - 3/4 log 3.
    logits = np.stack([np.zeros(2), np.array([800.0, 0.0]), np.array([np.log(3), 0.0])])
    np.testing.assert_allclose(entropies(logits), [np.log(2), 0, np.log(4) - 0.75 * np.log(3)], atol=1e-12)
    assert entropies(np.zeros((1, 10)))[0] == pytest.approx(np.log(10))


def test_nobody_leaves_early_at_a_threshold_of_0_and_everybody_above_log_of_the_labels() -> None:
    drawn = entropies(np.random.default_rng(1).normal(size=(3, 50, 10)))
    assert leaving(drawn, 0.0).tolist() == [2] * 50
    assert leaving(drawn, np.log(10) + 1e-9).tolist() == [0] * 50
    shares = [(leaving(drawn, threshold) == 0).mean() for threshold in (0.5, 1.0, 1.5, 2.0)]
    assert shares == sorted(shares)


def test_all_exits_learn_and_later_ones_are_asked_about_harder_samples() -> None:
    data = digits()
    vector = WithExits(trainer=TRAINER, after=(3, 6)).model(MODEL, data, STREAMS.stream("start"), STREAMS.stream("fit"))
    said = Store().force(exit_answers(ExitNetwork(model=MODEL, after=(3, 6)), vector, data))
    assert min(said.accuracies) > 0.5
    assert said.accuracies[-1] > 0.8
    assert sum(said.shares(0.8)) == pytest.approx(1)
    left = leaving(said.entropies, 0.8)
    assert 0 < said.shares(0.8)[-1] < 1
    early, late = said.correct[-1, left < 2].mean(), said.correct[-1, left == 2].mean()
    assert early > late


def test_an_exit_of_weight_0_does_not_learn_and_changes_nothing() -> None:
    data = digits()
    network = ExitNetwork(model=MODEL, after=(3,))
    start = values.initial_model(network, data, STREAMS.stream("start"))
    store = Store()
    before = store.force(start)
    first, second = (
        store.force(joint(TRAINER, weights, network, start, data, STREAMS.stream("fit"))) for weights in ((0.0, 1.0), (0.0, 3.0))
    )
    own = num_parameters(MODEL, (1, 8, 8), 10)
    np.testing.assert_array_equal(first[own:], before[own:])
    assert np.abs(first[:own] - before[:own]).max() > 0.01
    np.testing.assert_allclose(first, second, atol=1e-4)  # weights count by their shares


@pytest.mark.parametrize(
    ("model", "after", "words"),
    [
        (MODEL, (8,), "expected numbers below 8, the layers of the model, got 8"),
        (Gru(vocabulary=12), (1,), "tokens"),
        (Pruned(model=MODEL, rate=0.5), (1,), "made of samples"),
    ],
)
def test_exits_that_a_model_cannot_have(model: Model, after: tuple[int, ...], words: str) -> None:
    found = WithExits(trainer=TRAINER, after=after).problem(model, digits(), Store())
    assert found is not None
    assert found[0] == "after"
    assert words in found[1]
    assert WithExits(trainer=TRAINER, after=(3,)).problem(MODEL, digits(), Store()) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"after": (3, 2)}, "after: expected rising"),
        ({"after": (2,), "weights": (1.0,)}, "weights: expected 2"),
        ({"after": (2,), "weights": (1.0, 0.0)}, "more than 0 for the end"),
        ({"after": (2,), "trainer": Sgd(learning_rate=0.1, device="cuda")}, "trainer: "),
    ],
)
def test_settings_that_are_none(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WithExits(**{"trainer": TRAINER, **settings})  # type: ignore[arg-type]
