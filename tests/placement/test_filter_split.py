"""Models split by filters: what they exchange, and that they compute what the whole model does."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from netfl.learning.models import Cnn, to_vector
from netfl.learning.zoo.images import WideResNet
from netfl.placement import trace
from netfl.placement.filter_split import FilterSplitModel, channels_of
from netfl.placement.graph import trace_graph
from netfl.placement.stages import SOURCE
from tests.placement import placement_models
from tests.placement.shared_models import assert_pieces_compute_the_whole, lossless

MODELS = {
    "cnn": (lambda: Cnn(channels=(8, 16), hidden=12).build((1, 8, 8), 10), (1, 8, 8)),
    "wrn": (lambda: WideResNet(depth=10).build((3, 16, 16), 10), (3, 16, 16)),
    "wrn-batch": (lambda: WideResNet(depth=10, norm="batch", variant="paper").build((3, 16, 16), 10), (3, 16, 16)),
    "residual": (lambda: placement_models.seeded(placement_models.Residual), (3, 8, 8)),
    "mean": (lambda: placement_models.seeded(placement_models.Cnn), (1, 8, 8)),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_pieces_compute_what_the_whole_does(name: str) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(4)
    assert_pieces_compute_the_whole(
        make(), shape, [lambda traced, workers=workers: (FilterSplitModel(traced, workers), workers) for workers in (1, 2, 3, 4)]
    )


def test_what_a_small_network_exchanges() -> None:
    # 1x8x8 -> 8 maps of 8x8, ReLU, pooled to 4x4 -> 16 maps of 4x4, ReLU, pooled to 2x2 -> 64 values -> 12 units -> 10 labels.
    split = FilterSplitModel(trace_graph(Cnn(channels=(8, 16), hidden=12).build((1, 8, 8), 10), (1, 8, 8)), 2)
    found = split.portions()
    sent = [messages for _, messages in found.steps]
    assert sent == [
        ((SOURCE, 0, 64), (SOURCE, 1, 64)),
        ((0, 1, 4 * 16), (1, 0, 4 * 16)),  # before the second convolution: 4 of the 8 pooled maps each
        ((0, 1, 8 * 4), (1, 0, 8 * 4)),  # before the hidden layer: 8 of the 16 pooled maps each
        ((0, 2, 6), (1, 2, 6)),  # half of the hidden units each, to the one that joins
        (),
    ]
    # Parameters: half of 80 + 1168 + 780 for each worker, and 130 for the last layer.
    assert found.parameter_bytes == (4 * 1014, 4 * 1014, 4 * 130)
    # Operations: those of the whole model, every layer's halved, none done twice.
    whole = trace(Cnn(channels=(8, 16), hidden=12).build((1, 8, 8), 10), (1, 8, 8))
    flop = [math.fsum(flop for portions, _ in found.steps for flop, _ in portions[place].operations) for place in range(3)]
    assert sum(flop) == whole.total_flop
    assert flop[0] == flop[1]


def test_wrn16_2_exchanges_over_two_thousand_times_what_students_send() -> None:
    # The outputs of 13 convolutions but the last one, and what is pooled of that: 16 * 32^2 + 4 * 32 * 32^2 + 4 * 64 * 16^2
    # + 3 * 128 * 8^2 + 128 floats at k = 2 (seed-systems B.3 counts the last one before pooling: 245,760).
    model = WideResNet(depth=16, width=2, norm="batch", variant="paper").build((3, 32, 32), 10)
    found = FilterSplitModel(trace_graph(model, (3, 32, 32)), 2).portions()
    gathered = sum(values for _, messages in found.steps for sender, _, values in messages if sender != SOURCE)
    assert gathered == 16 * 1024 + 4 * 32 * 1024 + 4 * 64 * 256 + 3 * 128 * 64 + 128 == 237_696
    exchanges = sum(any(sender != SOURCE for sender, _, _ in messages) for _, messages in found.steps)
    assert exchanges == 13
    # Both students of the authors' WRN40-4 send 49 + 48 values.
    assert gathered > 2000 * 97


def test_a_worker_that_has_the_sample_or_joins_sends_itself_nothing() -> None:
    torch.manual_seed(4)
    module = Cnn(channels=(4, 6)).build((1, 8, 8), 10).eval()
    split = FilterSplitModel(trace_graph(module, (1, 8, 8)), 2)
    inputs = np.random.default_rng(1).normal(size=(2, 1, 8, 8)).astype(np.float32)
    calls: list[int] = []

    def coarse(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(samples.shape[1])
        return np.round(samples, 1), np.full(len(samples), samples.shape[1], dtype=np.int64)

    _, lengths = split.run(inputs, to_vector(module), coarse, (True, False), 1)
    # The sample to the second, half of 4 maps of 4x4 each way, and half of 6 maps of 2x2 from the first to the second, which joins.
    assert [int(length[0]) for length in lengths] == [64, 32, 32, 12]


def test_channels_are_dealt_to_the_last_one() -> None:
    assert channels_of(3, 4) == ((0, 0), (0, 1), (1, 2), (2, 3))


def test_a_layer_that_no_rule_knows_is_run_by_all() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softmax(dim=1), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 3)).eval()
    split = FilterSplitModel(trace_graph(module, (1, 8, 8)), 2)
    inputs = np.random.default_rng(1).normal(size=(2, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    found, _ = split.run(inputs, to_vector(module), lossless, (False, False), 0)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
