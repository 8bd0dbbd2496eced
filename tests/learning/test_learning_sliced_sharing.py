"""What groups share, by hand, and turns against plain training."""

import numpy as np
import pytest

from netfl.errors import CodecError
from netfl.learning.models import Mlp, initial
from netfl.learning.slicing import sharing
from netfl.learning.slicing.schedule import batches_of
from netfl.learning.slicing.sharing import Selection, decode, encode, encoded_bytes, means, most_changed, passing
from netfl.learning.slicing.turns import Loss, train_turn
from netfl.learning.trainer import FitJob, Sgd, fit
from netfl.randomness import Streams

STREAM = Streams(seed=3).stream("turn")
MODEL, SHAPE, CLASSES = Mlp(hidden=(6,)), (5,), 3


def test_window_of_four_at_a_half() -> None:
    """omega x tau = 2: weight 0 was uploaded twice and is not sent, weight 1 three times and is."""
    uploads = [np.array([0, 1]), np.array([1]), np.array([0, 1]), np.array([2])]
    assert passing(uploads, 4, omega=4, tau=0.5).tolist() == [1]
    assert passing(uploads, 4, omega=4, tau=0.0).tolist() == [0, 1, 2]
    assert passing([np.arange(4)] * 9, 4, omega=4, tau=1.0).tolist() == []
    assert passing([np.arange(4)] * 9, 4, omega=4, tau=0.75).tolist() == [0, 1, 2, 3]


def test_only_the_last_records_count() -> None:
    assert passing([np.array([0])] * 5 + [np.array([1])] * 3, 2, omega=3, tau=0.0).tolist() == [1]


def test_the_bound_is_the_decimal_product() -> None:
    """0.29 x 100 is 29, though not in binary: 29 uploads do not pass, 30 do."""
    uploads = [np.array([0, 1])] * 29 + [np.array([1])] + [np.array([2])] * 70
    assert passing(uploads, 3, omega=100, tau=0.29).tolist() == [1, 2]


def test_means_over_the_uploads_that_hold_a_weight() -> None:
    first = Selection(np.array([0, 2]), np.array([1.0, 4.0], np.float32))
    second = Selection(np.array([2]), np.array([8.0], np.float32))
    assert means([first, second], np.array([0, 2]), 3).tolist() == [1.0, 6.0]


def test_most_changed_share() -> None:
    change = np.array([3.0, 1.0, 2.0, 2.0, 0.0])
    assert most_changed(change, 0.6).tolist() == [0, 2, 3]
    assert most_changed(change, 0.4).tolist() == [0, 2]
    assert most_changed(change, 0.0).tolist() == []
    assert most_changed(change, 1.0).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 40, 100])
def test_bytes_of_a_selection(count: int) -> None:
    """100 weights: 13 bytes as bits, which 4 places as numbers exceed."""
    generator = np.random.default_rng(count)
    selection = Selection(np.sort(generator.choice(100, count, replace=False)), generator.normal(size=count).astype(np.float32))
    payload = encode(selection, 100)
    assert len(payload) == encoded_bytes(count, 100) == 4 + min(13, 4 * count) + 4 * count
    back = decode(payload, 100)
    assert back.places.tolist() == selection.places.tolist()
    assert back.values.tolist() == selection.values.tolist()
    for wrong in (payload[:-1], payload + b"x", b"\xff" * len(payload)):
        with pytest.raises(CodecError):
            decode(wrong, 100)


def test_the_module_says_what_it_exports() -> None:
    assert sharing.encoded_bytes(0, 8) == 4


def data(num_samples: int = 20) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    return generator.normal(size=(num_samples, 5)).astype(np.float32), generator.integers(0, 3, num_samples)


def turn(depth: int = 1, losses: tuple[Loss, ...] = (), num_batches: int | None = None, rate: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    owners = np.zeros(57, np.int16)
    owners[36:] = 1
    trainer = Sgd(learning_rate=rate, batch_size=8)
    start = initial(MODEL, SHAPE, CLASSES, STREAM)
    return train_turn(
        MODEL, SHAPE, CLASSES, start, *data(), STREAM, batch_size=8, epochs=1, rule=trainer.rule, depth=depth,
        num_batches=num_batches, losses=losses, owners=owners,
    )  # fmt: skip


def test_batches() -> None:
    assert batches_of(20, 8, 2) == (8, 8, 4, 8, 8, 4)
    assert batches_of(16, 8, 1) == (8, 8)


def one_batch(start: np.ndarray, number: int) -> np.ndarray:
    """The trainer's own step on one batch of the turn."""
    x, y = data()
    rows = STREAM.generator().permutation(20)[8 * number : 8 * number + 8]
    (result,) = fit(Sgd(learning_rate=0.1, batch_size=8), MODEL, SHAPE, CLASSES, [FitJob(start, x[rows], y[rows], STREAM)])
    return result.model


def test_a_turn_is_plain_training() -> None:
    start = initial(MODEL, SHAPE, CLASSES, STREAM)
    expected = [start]
    for number in range(3):
        expected.append(one_batch(expected[-1], number))
    vector, change = turn()
    assert np.allclose(vector, expected[-1], atol=1e-6)
    assert np.allclose(change, sum(np.abs(after - before) for before, after in zip(expected, expected[1:], strict=False)), atol=1e-6)


def test_a_single_batch_changes_what_it_changes() -> None:
    start = initial(MODEL, SHAPE, CLASSES, STREAM)
    vector, change = turn(num_batches=1)
    assert np.allclose(change, np.abs(vector - start), atol=1e-7)


def test_depth_two_uses_the_weights_before_the_batch_before() -> None:
    """With two batches under way, the gradients of the first two are those at the start."""
    start = initial(MODEL, SHAPE, CLASSES, STREAM)
    both, _ = turn(depth=2, num_batches=2)
    # Each batch by itself from the start.
    assert np.allclose(both, one_batch(start, 0) + (one_batch(start, 1) - start), atol=1e-6)
    assert not np.allclose(both, turn(num_batches=2)[0], atol=1e-5)


def test_lost_weights_fall_back_to_the_beginning_of_the_turn() -> None:
    start = initial(MODEL, SHAPE, CLASSES, STREAM)
    after_two, _ = turn(num_batches=2)
    lost, _ = turn(num_batches=2, losses=(Loss(1, 2),))
    assert np.array_equal(lost[:36], after_two[:36])
    assert np.array_equal(lost[36:], start[36:])
    assert not np.array_equal(turn(losses=(Loss(1, 1),))[0], turn()[0])
