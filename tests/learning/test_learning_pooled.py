from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from netfl.learning.chains import Chain, chain_of
from netfl.learning.layers import Layer, Relu
from netfl.learning.pooled import Candidates, MaxOfFour, Reusing, Roomy
from tests.learning.test_learning_trainer import Built

CLIENTS, BATCH, OUTPUTS = 3, 2, 3


class Noted:
    """An update that keeps the gradients."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights
        self.gradients: dict[int, Tensor] = {}

    def product(self, index: int, left: Tensor, right: Tensor) -> None:
        raise AssertionError

    def add(self, index: int, gradient: Tensor) -> None:
        self.gradients[index] = gradient

    def finish(self, steps_done: object) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("kernel", "padding", "shape"),
    [
        ((5, 5), (2, 2), (1, 8, 8)),
        ((5, 5), (0, 0), (2, 9, 8)),  # 5 x 4: a row is left over
        ((3, 7), (0, 1), (2, 6, 9)),  # 4 x 5: a column is left over
        ((1, 5), (1, 4), (3, 3, 3)),  # 5 x 7: both, and maxima of padding alone
    ],
)
def test_as_in_pytorch_among_equals(kernel: tuple[int, int], padding: tuple[int, int], shape: tuple[int, int, int]) -> None:
    # Small whole numbers: every sum is exact in any order, and most maxima are reached at several places.
    draw = torch.Generator().manual_seed(1)
    x = torch.randint(0, 2, (CLIENTS, *shape, BATCH), generator=draw).double()
    weight = torch.randint(-1, 2, (CLIENTS, OUTPUTS, shape[0], *kernel), generator=draw).double()
    bias = torch.randint(-1, 2, (CLIENTS, OUTPUTS), generator=draw).double()
    candidates, maximum = Candidates(0, kernel, padding), MaxOfFour(1)
    made, kept = candidates.forward([weight, bias], x)
    y, kept_of_maximum = maximum.forward([weight, bias], made)
    gradient = torch.randint(-3, 4, y.shape, generator=draw).double()
    update = Noted([weight, bias])
    g_candidates = maximum.input_gradient([weight, bias], kept_of_maximum, gradient)
    maximum.descend(kept_of_maximum, gradient, update)
    g_input = candidates.input_gradient([weight, bias], kept, g_candidates)
    candidates.descend(kept, g_candidates, update)
    for client in range(CLIENTS):
        samples = x[client].permute(3, 0, 1, 2).clone().requires_grad_()
        own = [each[client].clone().requires_grad_() for each in (weight, bias)]
        expected = functional.max_pool2d(functional.conv2d(samples, own[0], own[1], padding=padding), 2)
        expected.backward(gradient[client].permute(3, 0, 1, 2))
        assert torch.equal(y[client].permute(3, 0, 1, 2), expected)
        assert torch.equal(g_input[client].permute(3, 0, 1, 2), samples.grad)
        assert torch.equal(update.gradients[0][client], own[0].grad)
        assert torch.equal(update.gradients[1][client], own[1].grad)


def passed(layers: Sequence[Layer], weights: list[Tensor], x: Tensor, gradient: Tensor) -> list[Tensor]:
    """The output of a convolution and its maximum, and all gradients, copied before they are gone."""
    made, kept = layers[0].forward(weights, x)
    y, kept_of_maximum = layers[1].forward(weights, made)
    found = [y.clone()]
    update = Noted(weights)
    g_made = layers[1].input_gradient(weights, kept_of_maximum, gradient)
    found.append(layers[0].input_gradient(weights, kept, g_made).clone())
    layers[0].descend(kept, g_made, update)
    layers[1].descend(kept_of_maximum, gradient, update)
    return [*found, *(gradient.clone() for gradient in update.gradients.values())]


def test_a_room_serves_again_and_leaves_nothing_of_the_step_before() -> None:
    draw = torch.Generator().manual_seed(2)
    weights = [[torch.randn((K, OUTPUTS, 2, 5, 5), generator=draw), torch.randn((K, OUTPUTS), generator=draw)] for K in (3, 3, 2)]
    fresh: list[Roomy] = [Candidates(0, (5, 5), (2, 2)), MaxOfFour(1)]
    reusing = [Reusing(layer) for layer in fresh]
    rooms = []
    for clients, batch in ((0, 4), (0, 4), (1, 4), (1, 3), (2, 3), (2, 3), (0, 4)):
        own = weights[clients]
        x = torch.randn((len(own[0]), 2, 8, 6, batch), generator=draw)
        gradient = torch.randn((len(own[0]), OUTPUTS, 4, 3, batch), generator=draw)
        for again, once in zip(passed(reusing, own, x, gradient), passed(fresh, own, x, gradient), strict=True):
            assert torch.equal(again, once)
        own[0].sub_(0.1)  # as a step moves them
        rooms.append(reusing[0].forward(own, x)[1])
    same = [room is before for before, room in itertools.pairwise(rooms)]
    assert same == [True, False, False, False, True, False]  # other weights, other batches, other clients; both


def test_relu_overwrites_what_nobody_keeps() -> None:
    def overwriting(*layers: nn.Module) -> list[bool]:
        return [layer.overwrites for layer in chain([*layers, *end(4 * 16)], (1, 8, 8)).layers if isinstance(layer, Relu)]

    convolution = nn.Conv2d(1, 4, 3, padding=1)
    assert overwriting(convolution, nn.ReLU(), nn.MaxPool2d(2)) == [True]
    assert overwriting(nn.Conv2d(1, 4, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()) == [True]
    assert overwriting(nn.ReLU(), convolution, nn.MaxPool2d(2)) == [False]  # the samples
    assert overwriting(convolution, nn.Tanh(), nn.ReLU(), nn.MaxPool2d(2)) == [False]
    assert overwriting(convolution, nn.GELU(), nn.MaxPool2d(2), nn.ReLU(), nn.ReLU()) == [True, False]


def chain(layers: list[nn.Module], shape: tuple[int, int, int]) -> Chain:
    found = chain_of(Built(lambda: layers), shape, 10)
    assert isinstance(found, Chain)
    return found


def end(features: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features, 10)]


def test_where_a_chain_takes_both_as_one() -> None:
    for between in ([], [nn.ReLU()]):
        plan = chain([nn.Conv2d(1, 6, 5), *between, nn.MaxPool2d(2), *end(24)], (1, 8, 8))  # 4 x 4, then 2 x 2
        assert [type(layer).__name__ for layer in plan.layers[:2]] == ["Candidates", "MaxOfFour"]
        assert plan.windows_per_sample == 36 * 2 * 2
        assert plan.stacked_shapes[:2] == ((6, 1, 5, 5), (6,))
    for layers, features in (
        ([nn.Conv2d(1, 4, 3), nn.MaxPool2d(2)], 36),  # a small kernel
        ([nn.Conv2d(1, 4, 6), nn.MaxPool2d(2)], 4),  # an even one
        ([nn.Conv2d(1, 20, 5), nn.MaxPool2d(2)], 80),  # many outputs
        ([nn.Conv2d(1, 4, 5, stride=2), nn.MaxPool2d(2)], 4),
        ([nn.Conv2d(1, 4, 5), nn.Tanh(), nn.MaxPool2d(2)], 16),
        ([nn.Conv2d(1, 4, 5), nn.AvgPool2d(2)], 16),
        ([nn.Conv2d(1, 4, 5)], 64),
    ):
        plan = chain([*layers, *end(features)], (1, 8, 8))
        assert type(plan.layers[0]).__name__ == "Convolution"
