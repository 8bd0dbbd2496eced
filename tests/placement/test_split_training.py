"""Split training against ordinary backpropagation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from netfl.placement import trace
from netfl.placement.split_training import split_step


class Residual(nn.Module):
    """Two tensors cross some of its cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.outer = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(x + torch.relu(self.inner(x)))


MODELS = {
    "mlp": (nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)), (3, 4)),
    "cnn": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3)), (1, 8, 8)),
    "norm": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)), (1, 6, 6)),
    "residual": (Residual(), (6,)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_gradient_in_pieces_is_the_whole_gradient(kind: str) -> None:
    module, shape = MODELS[kind]
    profile = trace(module, shape)
    generator = np.random.default_rng(3)
    inputs = generator.normal(size=(5, *shape)).astype(np.float32)
    labels = generator.integers(0, 3, 5)
    loss = nn.functional.cross_entropy(module(torch.from_numpy(inputs)), torch.from_numpy(labels))
    whole = parameters_to_vector(torch.autograd.grad(loss, list(module.parameters()))).numpy()
    count = len(profile.nodes)
    for cuts in [(cut,) for cut in range(1, count)] + [(first, last) for first in range(1, count) for last in range(first + 1, count)]:
        step = split_step(module, profile, cuts, inputs, labels)
        assert step.loss == pytest.approx(loss.item(), abs=1e-6)
        np.testing.assert_allclose(step.gradient, whole, rtol=1e-5, atol=1e-7)
        for cut, forward, backward in zip(cuts, step.forward, step.backward, strict=True):
            expected = {name: (5, *profile.nodes[profile.index[name]].output_shape) for name in profile.crossing(cut)}
            assert {name: tensor.shape for name, tensor in forward.items()} == expected
            assert {name: tensor.shape for name, tensor in backward.items()} == expected
