"""Structured pruning: the right filters go, and what is left computes what the full network with zeroed filters does."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trainer_nets import Built, mobile_net, resnet

from netfl.learning import values
from netfl.learning.channels import groups_of, prune
from netfl.learning.data import Digits
from netfl.learning.models import MODELS, Cnn, Mlp, Model, check_fit, num_parameters
from netfl.learning.pruning import Pruned
from netfl.learning.trainer import Sgd
from netfl.learning.zoo.images import AlexNet, ResNet, Vgg16, WideResNet
from netfl.learning.zoo.sequences import Gru, SensorCnn
from netfl.randomness import Streams
from netfl.store import Store

STREAMS = Streams(seed=2)


def built(model: Model, shape: tuple[int, ...], seed: int = 0, classes: int = 10) -> nn.Module:
    torch.manual_seed(seed)
    return model.build(shape, classes).eval()


def strongest(weight: Tensor, count: int) -> list[int]:
    """The rows of a weight with the greatest sums of magnitudes."""
    sums = weight.detach().abs().flatten(1).sum(1)
    return sorted(torch.topk(sums, count).indices.tolist())


def test_l1_keeps_the_right_filters_of_a_hand_made_layer() -> None:
    layer, last = nn.Linear(2, 4), nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0], [-3.0, 0.0], [0.5, 0.5], [0.0, 2.5]]))  # L1 norms 2, 3, 1 and 2.5
        layer.bias.copy_(torch.tensor([10.0, 20.0, 30.0, 40.0]))
        last.weight.copy_(torch.arange(8.0).view(2, 4))
    made: Any = prune(nn.Sequential(layer, nn.ReLU(), last), (2,), keep=(2,))
    assert made[0].weight.tolist() == [[-3.0, 0.0], [0.0, 2.5]]
    assert made[0].bias.tolist() == [20.0, 40.0]
    assert made[2].weight.tolist() == [[1.0, 3.0], [5.0, 7.0]]
    assert (made[0].out_features, made[2].in_features) == (2, 2)
    # By L2 norms 1.41, 3, 0.71 and 2.5 it is the same; three keep the first as well.
    assert prune(nn.Sequential(layer, nn.ReLU(), last), (2,), keep=(3,), norm=2).get_parameter("0.bias").tolist() == [10.0, 20.0, 40.0]


def zeroed(module: nn.Sequential, keep: list[int]) -> nn.Sequential:
    """The full network of a chain with the weakest filters, their biases and their normalisation at zero."""
    full = copy.deepcopy(module)
    counts = iter(keep)
    removed: list[int] = []
    layers = [layer for layer in full if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer in full:
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer is not layers[-1]:
                removed = sorted(set(range(len(layer.weight))) - set(strongest(layer.weight, next(counts))))
            if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and layer is not layers[-1]:
                layer.weight[removed] = 0
                if layer.bias is not None:
                    layer.bias[removed] = 0
    return full


CHAINS: list[tuple[Model, tuple[int, ...], list[int]]] = [
    (Mlp(hidden=(20, 12)), (1, 6, 6), [7, 5]),
    (Cnn(channels=(8, 12), hidden=16), (1, 8, 8), [3, 7, 9]),
    (AlexNet(channels=(8, 12, 16, 16, 12), hidden=(24, 20)), (1, 28, 28), [5, 7, 9, 3, 11, 13, 6]),
    (Vgg16(channels=(8,) * 13, hidden=(16, 12), norm="batch"), (3, 32, 32), [3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 2, 1, 5, 9, 4]),
]


@pytest.mark.parametrize(("model", "shape", "keep"), CHAINS, ids=lambda value: type(value).__name__)
def test_a_pruned_chain_is_the_full_one_with_zeroed_filters(model: Model, shape: tuple[int, ...], keep: list[int]) -> None:
    full: Any = built(model, shape)
    for layer in full:
        if isinstance(layer, nn.BatchNorm2d):  # statistics and scales that differ
            for value in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                value.uniform_(0.5, 1.5)
    samples = torch.randn(5, *shape)
    made = prune(full, shape, keep=keep).eval()
    with torch.no_grad():
        expected = zeroed(full, keep)(samples)
        assert torch.allclose(made(samples), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(full(samples), expected, rtol=0, atol=1e-3)


def test_layers_whose_results_are_added_lose_the_same_channels() -> None:
    """A residual network without normalisation, its groups' filters zeroed by hand."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
            self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
            self.head = nn.Linear(6 * 16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            x = x + self.two(torch.relu(self.one(x)))
            return self.head(self.depth(x).flatten(1))

    torch.manual_seed(1)
    net = Net().eval()
    assert [(group.layers, group.num_channels) for group in groups_of(net, (1, 4, 4))] == [(("stem", "two"), 6), (("one",), 8)]
    made: Any = prune(net, (1, 4, 4), keep=(4, 5))
    sums = [layer.weight.detach().abs().flatten(1).sum(1) for layer in (net.stem, net.two)]
    stay = sorted(torch.topk(sums[0] + sums[1], 4).indices.tolist())
    gone = sorted(set(range(6)) - set(stay))
    inner = sorted(set(range(8)) - set(strongest(net.one.weight, 5)))
    full = copy.deepcopy(net)
    with torch.no_grad():
        for layer, rows in ((full.stem, gone), (full.two, gone), (full.depth, gone), (full.one, inner)):
            layer.weight[rows] = 0
            assert layer.bias is not None
            layer.bias[rows] = 0
        samples = torch.randn(3, 1, 4, 4)
        assert torch.allclose(made(samples), full(samples), rtol=0, atol=1e-6)
    assert (made.depth.groups, made.head.in_features) == (4, 4 * 16)


COUNTS: list[tuple[Model, tuple[int, ...], int]] = [
    # FL-PQSU's five configurations
    (AlexNet(), (1, 28, 28), 29_583_562),
    (Pruned(model=AlexNet(), keep=(64, 128, 256, 256, 256, 3300, 3500)), (1, 28, 28), 20_744_834),
    (Pruned(model=AlexNet(), keep=(32, 64, 64, 128, 256, 1900, 2000)), (1, 28, 28), 8_626_278),
    (Vgg16(norm="batch"), (3, 32, 32), 33_642_442),
    (
        Pruned(model=Vgg16(norm="batch"), keep=(16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 1600, 1600)),
        (3, 32, 32),
        3_318_266,
    ),
]


@pytest.mark.parametrize(("model", "shape", "expected"), COUNTS, ids=["AlexNet", "AlexNet 30", "AlexNet 70", "VGG16", "VGG16 pruned"])
def test_parameters_of_the_five_configurations(model: Model, shape: tuple[int, ...], expected: int) -> None:
    """On the meta device: nothing is drawn."""
    assert num_parameters(model, shape, 10) == expected


def test_a_group_norm_bears_pruning_where_its_groups_divide_what_stays() -> None:
    assert num_parameters(Pruned(model=Vgg16(), keep=(8,) * 13 + (16, 16)), (3, 32, 32), 10) > 0
    with pytest.raises(ValueError, match="the 2 groups of normalisation '1' divide, got 7"):
        num_parameters(Pruned(model=Vgg16(), keep=(7,) + (8,) * 12 + (16, 16)), (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [(ResNet(), (3, 16, 16), 10), (WideResNet(depth=10), (3, 16, 16), 10), (Built(resnet), (1, 8, 8), 10), (Built(mobile_net), (1, 8, 8), 10),
     (SensorCnn(), (9, 128), 6)],
    ids=["resnet", "wrn", "tests' resnet", "tests' mobile net", "sensor cnn"],
)  # fmt: skip
def test_networks_with_branches_run_when_half_of_each_group_is_gone(model: Model, shape: tuple[int, ...], classes: int) -> None:
    full = built(model, shape, classes=classes)
    made = prune(full, shape, rate=0.5).eval()
    assert made(torch.randn(3, *shape)).shape == (3, classes)
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (made, full)]
    # A gate made by a sigmoid keeps its channels, and so does what it gates.
    assert counts[0] < (0.9 if model == Built(mobile_net) else 0.6) * counts[1]


def test_what_turns_zero_into_something_else_keeps_its_channels() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    assert [(group.layers, group.num_channels) for group in groups_of(module, (4,))] == [(("2",), 8)]


def test_a_layer_that_runs_twice_and_shared_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.again(torch.relu(self.again(torch.relu(self.first(x)))))))

    torch.manual_seed(0)
    net = Twice()
    assert [group.layers for group in groups_of(net, (4,))] == [("first", "again")]
    made: Any = prune(net, (4,), keep=(4,))
    assert made(torch.randn(2, 4)).shape == (2, 3)
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    tied[2].weight = tied[0].weight
    assert groups_of(tied, (4,)) == []


def test_the_original_stays_as_it_is() -> None:
    full = built(Cnn(), (1, 8, 8))
    before = [parameter.clone() for parameter in full.parameters()]
    prune(full, (1, 8, 8), rate=0.5)
    assert all(torch.equal(one, other) for one, other in zip(before, full.parameters(), strict=True))


def test_plans_that_do_not_fit_are_refused() -> None:
    full = built(Cnn(channels=(4, 6)), (1, 8, 8))
    with pytest.raises(ValueError, match=r"2 numbers, one for each group of channels \(0 has 4, 3 has 6\), got 1"):
        prune(full, (1, 8, 8), keep=(3,))
    with pytest.raises(ValueError, match=r"at least 1 channel and no more than there are .*, got \[0, 6\]"):
        prune(full, (1, 8, 8), keep=(0, 6))
    with pytest.raises(ValueError, match=r"got \[4, 7\]"):
        prune(full, (1, 8, 8), keep=(4, 7))
    with pytest.raises(ValueError, match="no channels that could be removed"):
        prune(built(Mlp(hidden=()), (4,)), (4,), rate=0.5)
    with pytest.raises(ValueError, match="either `keep` or `rate`"):
        Pruned(model=Cnn())
    with pytest.raises(ValueError, match="got both"):
        Pruned(model=Cnn(), keep=(1, 1), rate=0.5)
    with pytest.raises(ValueError, match="no channels"):
        Pruned(model=Gru(vocabulary=20, layers=1), rate=0.5).build((5,), 20)


def test_a_pruned_model_trains_and_begins_with_the_filters_of_the_full_one() -> None:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    model = Pruned(model=Cnn(channels=(8, 16)), rate=0.5, pretraining=Sgd(learning_rate=0.1, epochs=20), pretraining_samples=200)
    assert MODELS.find("pruned") is Pruned
    store = Store()
    check_fit(model, store.force(data))
    start = values.initial_model(model, data, STREAMS.stream("initial"))
    # 4 * 9 + 4, 8 * 4 * 9 + 8, 10 * 8 * 4 + 10 at 8 x 8 maps that are halved twice
    assert store.force(start).shape == (40 + 296 + 330,)
    update = values.fit(values.cohort(Sgd(learning_rate=0.1), model, data, STREAMS.stream("fit")), start)
    trained = values.total(start, update)
    drawn = values.initial_model(Pruned(model=Cnn(channels=(8, 16)), rate=0.5), data, STREAMS.stream("initial"))
    accuracy = {name: store.force(values.evaluate(model, vector, data)).accuracy for name, vector in
                {"drawn": drawn, "pretrained": start, "trained": trained}.items()}  # fmt: skip
    assert accuracy["drawn"] < 0.3
    assert accuracy["drawn"] + 0.15 < accuracy["pretrained"]
    assert accuracy["pretrained"] < accuracy["trained"]
    assert accuracy["trained"] > 0.7
    np.testing.assert_array_equal(store.force(start), Store().force(start))


def test_the_first_vector_holds_the_strongest_filters() -> None:
    data = Digits().load(STREAMS.stream("data"))
    full_vector = values.initial_model(Cnn(channels=(8, 16)), values.dataset(Digits(), STREAMS.stream("data")), STREAMS.stream("initial"))
    first_layer = Store().force(full_vector)[: 8 * 9].reshape(8, 9)
    stay = np.sort(np.argsort(-np.abs(first_layer).sum(1))[:3])
    made = Pruned(model=Cnn(channels=(8, 16)), keep=(3, 5)).start(data, STREAMS.stream("initial"))
    np.testing.assert_array_equal(made[: 3 * 9].reshape(3, 9), first_layer[stay])


def test_in_yaml() -> None:
    from netfl.scenario import load
    from tests.workloads.small import training_only

    block = {
        "kind": "pruned",
        "model": {"kind": "cnn", "channels": [8, 16]},
        "rate": 0.5,
        "pretraining": {"kind": "sgd", "learning_rate": 0.1},
    }
    loaded = load(training_only(model=block))
    assert loaded.scenario.model == Pruned(model=Cnn(channels=(8, 16)), rate=0.5, pretraining=Sgd(learning_rate=0.1))
