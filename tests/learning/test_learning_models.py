from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from netfl.learning.models import MODELS, Cnn, Mlp, Model, initial, load_vector, num_parameters, parameter_shapes, to_vector
from netfl.randomness import Streams

STREAM = Streams(seed=1).stream("model")
DIGITS = (1, 8, 8)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (Mlp(hidden=(64,)), DIGITS, 64 * 64 + 64 + 64 * 10 + 10),  # 4810
        (Mlp(hidden=()), DIGITS, 64 * 10 + 10),
        # 8 x 8 pools to 4 x 4 and to 2 x 2, 16 channels: 64 features
        (Cnn(channels=(8, 16)), DIGITS, (9 * 8 + 8) + (8 * 9 * 16 + 16) + (64 * 10 + 10)),
        # the third block does not pool a side of 2: 16 channels of 2 x 2 again
        (Cnn(channels=(8, 16, 16)), DIGITS, (9 * 8 + 8) + (8 * 9 * 16 + 16) + (16 * 9 * 16 + 16) + (64 * 10 + 10)),
        # 7 x 5 pools to 3 x 2: 4 channels, 24 features
        (Cnn(channels=(4,), hidden=6), (3, 7, 5), (27 * 4 + 4) + (24 * 6 + 6) + (6 * 10 + 10)),
    ],
)
def test_parameters_are_counted(model: Model, shape: tuple[int, ...], expected: int) -> None:
    assert num_parameters(model, shape, 10) == expected
    module = model.build(shape, 10)
    assert parameter_shapes(model, shape, 10) == tuple(tuple(parameter.shape) for parameter in module.parameters())
    assert initial(model, shape, 10, STREAM).shape == (expected,)
    assert module(torch.zeros(5, *shape)).shape == (5, 10)


def test_layers_are_plain() -> None:
    for model in (Mlp(), Cnn(hidden=3)):
        for layer in model.build(DIGITS, 10):
            assert type(layer) in (nn.Flatten, nn.Linear, nn.ReLU, nn.Conv2d, nn.MaxPool2d)
            assert not getattr(layer, "inplace", False)


def test_initial_is_pytorchs_default_from_the_stream_alone() -> None:
    torch.manual_seed(5)
    first = initial(Cnn(), DIGITS, 10, STREAM)
    torch.rand(3)
    assert first.dtype == np.float32
    assert first.tobytes() == initial(Cnn(), DIGITS, 10, STREAM).tobytes()
    assert first.tobytes() != initial(Cnn(), DIGITS, 10, Streams(seed=2).stream("model")).tobytes()
    # Linear: weights and biases are uniform within 1 / sqrt(inputs); 4096 draws come within 1 % of both ends.
    weights = initial(Mlp(), DIGITS, 10, STREAM)[: 64 * 64]
    assert 0.99 / math.sqrt(64) < weights.max() <= 1 / math.sqrt(64)
    assert -0.99 / math.sqrt(64) > weights.min() >= -1 / math.sqrt(64)


def test_vectors_go_in_and_out() -> None:
    vector = np.arange(num_parameters(Cnn(), DIGITS, 10), dtype=np.float32)
    vector.flags.writeable = False  # as the store may hand it out
    module = Cnn().build(DIGITS, 10)
    load_vector(module, vector)
    assert np.array_equal(to_vector(module), vector)
    # the first convolution has 8 x 1 x 3 x 3 = 72 weights; its biases follow
    assert module[0].bias[0].item() == 72
    with pytest.raises(ValueError, match=r"expected a vector of shape \(1898,\) for this module, got \(3,\)"):
        load_vector(module, vector[:3])


def test_cnn_wants_maps() -> None:
    with pytest.raises(ValueError, match=r"\(channels, height, width\), got \(64,\)"):
        Cnn().build((64,), 10)


def test_kinds() -> None:
    assert [MODELS.find(kind) for kind in ("mlp", "cnn")] == [Mlp, Cnn]


def test_parts_import_without_torch_and_sklearn() -> None:
    modules = "data partition models trainer aggregators select select_by_loss fedmax pruning privacy private_sgd".split()
    code = ";".join(f"import netfl.learning.{name}" for name in modules)
    code += ";import sys; assert not {'torch', 'sklearn', 'dp_accounting'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
