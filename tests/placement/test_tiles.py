"""Tiles of rows: which rows a layer reads, and that tiles compute what the whole model does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netfl.errors import NetflError
from netfl.learning.models import Cnn, Mlp
from netfl.learning.zoo.images import WideResNet
from netfl.placement import trace
from netfl.placement.graph import trace_graph
from netfl.placement.stages import SOURCE
from netfl.placement.tiles import TiledModel, needed_rows, rows_of
from tests.placement import placement_models
from tests.placement.shared_models import assert_pieces_compute_the_whole

windows = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3), st.integers(6, 16), st.data())


@settings(max_examples=200, deadline=None)
@given(windows)
def test_the_rows_that_a_layer_reads_are_those_that_gradients_reach(window: tuple[int, int, int, int, int, st.DataObject]) -> None:
    kernel, stride, padding, dilation, height, data = window
    outputs = (height + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if outputs < 1:
        return
    first = data.draw(st.integers(0, outputs - 1))
    behind = data.draw(st.integers(first + 1, outputs))
    layer = nn.Conv2d(1, 1, (kernel, 1), stride=(stride, 1), padding=(padding, 0), dilation=(dilation, 1), bias=False)
    nn.init.ones_(layer.weight)
    x = torch.ones(1, 1, height, 1, requires_grad=True)
    layer(x)[:, :, first:behind].sum().backward()
    assert x.grad is not None
    read = x.grad.flatten().nonzero().flatten().tolist()
    expected = (min(read), max(read) + 1) if read else (0, 0)
    assert needed_rows((first, behind), height, kernel, stride, padding, dilation) == expected


def test_strides_pooling_and_large_kernels() -> None:
    # AlexNet's first layer, 11x11 / 4 with padding 2: rows 0 and 1 read -2..8 and 2..12 of 224, and a 3x3 / 2 pooling of row 0 reads 0..2.
    assert needed_rows((0, 2), 224, 11, 4, 2, 1) == (0, 13)
    assert needed_rows((1, 2), 55, 3, 2, 0, 1) == (2, 5)
    # All padding: nothing is read.
    assert needed_rows((0, 1), 8, 1, 1, 1, 1) == (0, 0)


@given(st.integers(1, 40), st.lists(st.floats(0.1, 10), min_size=1, max_size=5))
def test_rows_are_dealt_in_proportion(height: int, weights: list[float]) -> None:
    spans = rows_of(height, weights)
    covered = [row for span in spans for row in range(*span)]
    assert covered == list(range(height))
    for span, weight in zip(spans, weights, strict=True):
        assert abs(span[1] - span[0] - height * weight / sum(weights)) < 1


class Branches(nn.Module):
    """Two branches of different reach that are added, average pooling, dilation and groups."""

    shape = (2, 17, 9)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 1, 1))
        self.wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.pool = nn.AvgPool2d((2, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.pool(torch.relu(self.wide(x) + x)))


MODELS = {
    "cnn": (lambda: Cnn(channels=(8, 16, 8), hidden=12).build((1, 16, 16), 10), (1, 16, 16)),
    "large kernels": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 8, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Flatten(),
            nn.Linear(72, 4),
        ),
        (3, 64, 64),
    ),
    "wrn-batch": (lambda: WideResNet(depth=10, norm="batch").build((3, 16, 16), 10), (3, 16, 16)),
    "branches": (lambda: placement_models.seeded(Branches), Branches.shape),
    "residual": (lambda: placement_models.seeded(placement_models.Residual), (3, 8, 8)),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_tiles_compute_what_the_whole_model_does(name: str) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(4)
    shares = ((1.0,), (1.0, 1.0), (1.0, 3.0, 2.0), (1.0,) * 7)
    assert_pieces_compute_the_whole(
        make(), shape, [lambda traced, weights=weights: (TiledModel(traced, weights), len(weights)) for weights in shares]
    )


def test_a_small_network_by_hand() -> None:
    # 8 rows -> convolution 3x3 (padding 1) -> pooled to 4 rows -> convolution 3x3 (padding 1) -> 4 rows, two for each of two workers.
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Linear(48, 5))
    tiled = TiledModel(trace_graph(module, (1, 8, 8)), (1.0, 1.0))
    found = tiled.portions()
    # Rows 0-1 read 0-2 of the pooled ones, these 0-5 of the first convolution's, and these 0-6 of the sample.
    assert found.described == ("rows 0-7", "rows 1-8", "join")
    assert found.steps[0][1] == ((SOURCE, 0, 7 * 8), (SOURCE, 1, 7 * 8))
    assert found.steps[1][1] == ((0, 2, 3 * 2 * 4), (1, 2, 3 * 2 * 4))
    # The first convolution has 6 + 6 of its 8 rows done, the pooling 3 + 3 of 4: a half more of both.
    whole = trace(module, (1, 8, 8))
    first, pooling = whole.nodes[1].flop, whole.nodes[2].flop
    assert tiled.redundant_flop() == pytest.approx(0.5 * (first + pooling))
    # Both hold both convolutions: 20 and 57 parameters.
    assert found.parameter_bytes == (4 * 77, 4 * 77, 4 * 245)


def test_one_tile_repeats_nothing() -> None:
    module = Cnn().build((1, 8, 8), 10)
    assert TiledModel(trace_graph(module, (1, 8, 8)), (2.0,)).redundant_flop() == 0


def test_what_has_no_rows_is_told() -> None:
    with pytest.raises(NetflError, match="begins with convolutions or poolings of maps"):
        TiledModel(trace_graph(Mlp().build((1, 8, 8), 10), (1, 8, 8)), (1.0, 1.0))
