"""Published networks have their published numbers of parameters; every model is traced, trains, and says what it does not fit."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netfl.errors import NetflError
from netfl.learning.data import Arithmetic, Dataset
from netfl.learning.models import MODELS, Cnn, Mlp, Model, check_fit, identified, initial, load_vector, num_parameters, to_vector
from netfl.learning.trainer import FitJob, Sgd, fit
from netfl.learning.zoo.images import AlexNet, FedAvgCnn, FedMaxCnn, LeNet, MobileNet, ResNet, Vgg16, WideResNet
from netfl.learning.zoo.python import PythonModel
from netfl.learning.zoo.sequences import Gru, SensorCnn, Transformer
from netfl.placement import trace
from netfl.randomness import Streams
from netfl.store import Function, recipe

STREAM = Streams(seed=1).stream("model")
GREY, COLOUR = (1, 28, 28), (3, 32, 32)

MOBILE = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
COUNTS: list[tuple[Model, tuple[int, ...], int, int]] = [
    # 6 * (25 + 1) + 16 * (6 * 25 + 1) + 120 * (400 + 1) + 84 * (120 + 1) + 10 * (84 + 1)
    (LeNet(), GREY, 10, 61_706),
    # three input channels: 6 * 50 more
    (LeNet(), COLOUR, 10, 62_006),
    # McMahan et al.: "1,663,370 total parameters": 32 * 26 + 64 * (32 * 25 + 1) + 512 * (64 * 49 + 1) + 10 * 513
    (FedAvgCnn(), GREY, 10, 1_663_370),
    # FedMAX's code on CIFAR-10, CIFAR-100 and EMNIST letters: 9 * (32 C + 32 * 64 + 3 * 64 * 64) + 512 * (64 s s + 1) + K * 513,
    # where s halves three times, 32 to 4 and 28 to 3
    (FedMaxCnn(), COLOUR, 10, 659_818),
    (FedMaxCnn(), COLOUR, 100, 705_988),
    (FedMaxCnn(), GREY, 26, 438_074),
    # FL-PQSU's code, whole and pruned by about 30 and 70 %
    (AlexNet(), GREY, 10, 29_583_562),
    (AlexNet(channels=(64, 128, 256, 256, 256), hidden=(3300, 3500)), GREY, 10, 20_744_834),
    (AlexNet(channels=(32, 64, 64, 128, 256), hidden=(1900, 2000)), GREY, 10, 8_626_278),
    # 14,710,464 in convolutions, 2 * 4,224 in normalisation, 512 * 4096 + 4096 + 4096 * 4096 + 4096 + 40,970 in linear layers
    (Vgg16(), COLOUR, 10, 33_642_442),
    (Vgg16(norm="batch"), COLOUR, 10, 33_642_442),
    (Vgg16(channels=(16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128), hidden=(1600, 1600)), COLOUR, 10, 3_318_266),
    # stem 432 + 32; stages 2 * (2304 + 32) = 4,672, 4608 + 64 + 9216 + 64 + shortcut 512 + 64 = 14,528, and
    # 18,432 + 128 + 36,864 + 128 + 2048 + 128 = 57,728; 650
    (ResNet(depth=8), COLOUR, 10, 464 + 4672 + 14_528 + 57_728 + 650),
    # as widely published for ResNet-18 with a 3x3 stem on CIFAR-10
    (ResNet(depth=18), COLOUR, 10, 11_173_962),
    # stem 864 + 64; then for each pair (a, b) of channels 9 a + 2 a + a b + 2 b; 1024 * 10 + 10
    (MobileNet(), COLOUR, 10, 928 + sum(11 * a + a * b + 2 * b for a, b in pairwise(MOBILE)) + 10_250),
    # Zagoruyko and Komodakis: 8.9 M and 0.2 M (paper's variant); NoNN's code adds a bias a channel of each convolution: 5,840 and 560
    (WideResNet(depth=40, width=4, variant="paper"), COLOUR, 10, 8_949_210),
    (WideResNet(depth=40, width=4), COLOUR, 10, 8_949_210 + 5_840),
    (WideResNet(depth=40, width=4, norm="batch"), COLOUR, 10, 8_955_050),
    (WideResNet(depth=16, width=1, variant="paper"), COLOUR, 10, 175_066),
    (WideResNet(depth=16, width=1), COLOUR, 10, 175_066 + 560),
    # 32 * (9 * 5 + 1) + 64 * (32 * 5 + 1) + 100 * (64 * 32 + 1) + 6 * 101: 128 steps halve to 32
    (SensorCnn(), (9, 128), 6, 1_472 + 10_304 + 204_900 + 606),
    # 90 * 8; 3 * 256 * (8 + 256 + 2) and 3 * 256 * (256 + 256 + 2), two biases a gate; 90 * 257
    (Gru(vocabulary=90), (80,), 90, 720 + 204_288 + 394_752 + 23_130),
    # 90 * 64 + 80 * 64; twice 4 * (64 * 64 + 64) + 128 * 65 + 64 * 129 + 4 * 64; 2 * 64; 90 * 65
    (Transformer(vocabulary=90), (80,), 90, 5_760 + 5_120 + 2 * (16_640 + 8_320 + 8_256 + 256) + 128 + 5_850),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "classes", "expected"), COUNTS, ids=lambda value: type(value).__name__)
def test_parameters_are_counted(model: Model, shape: tuple[int, ...], classes: int, expected: int) -> None:
    assert num_parameters(model, shape, classes) == expected


def test_the_spelt_out_count_is_the_published_one() -> None:
    assert num_parameters(MobileNet(), COLOUR, 10) == 3_217_226


SMALL: list[tuple[Model, tuple[int, ...]]] = [
    (LeNet(), GREY),
    (LeNet(), COLOUR),
    (FedAvgCnn(), (1, 8, 8)),
    (FedMaxCnn(), (1, 9, 8)),
    (AlexNet(channels=(4, 4, 4, 4, 4), hidden=(6, 6)), (1, 13, 12)),
    (AlexNet(channels=(4, 4, 4, 4, 4), hidden=(6, 6), relu_everywhere=True), GREY),
    (Vgg16(channels=(4,) * 13, hidden=(6, 6)), COLOUR),
    (ResNet(), (1, 9, 8)),
    (ResNet(depth=18, groups=4), (3, 8, 8)),
    (MobileNet(width=0.25), (3, 8, 8)),
    (WideResNet(), (3, 8, 9)),
    (WideResNet(depth=10, width=2, variant="paper"), (1, 4, 4)),
    (SensorCnn(channels=(4, 5), kernel=3, hidden=7), (3, 11)),
    (Gru(vocabulary=12, hidden=8), (6,)),
    (Transformer(vocabulary=12, width=8, heads=2, hidden=9), (6,)),
]


def samples(model: Model, shape: tuple[int, ...], count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    if hasattr(model, "vocabulary"):
        return generator.integers(0, model.vocabulary, (count, *shape)).astype(np.float32)
    return generator.normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize(("model", "shape"), SMALL, ids=lambda value: type(value).__name__)
def test_it_is_traced_and_its_graph_computes_what_it_does(model: Model, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        module = model.build(shape, 5)
    assert not list(module.buffers())
    assert not any(getattr(layer, "inplace", False) for layer in module.modules())
    module = module.to_empty(device="cpu")
    vector = initial(model, shape, 5, STREAM)
    load_vector(module, vector)
    assert np.array_equal(to_vector(module), vector)
    profile = trace(module, shape)
    assert profile.parameter_bytes == 4 * len(vector)
    assert profile.nodes[-1].output_shape == (5,)
    assert profile.total_flop > 2 * len(vector) * 0.5  # each weight is used, most more than once
    inputs = torch.from_numpy(samples(model, shape, 3))
    with torch.no_grad():
        logits = module.eval()(inputs)
        before = inputs.clone()
        assert torch.equal(torch.fx.symbolic_trace(module)(inputs), logits)
        assert torch.equal(inputs, before)
    assert logits.shape == (3, 5)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("model", "shape"), SMALL, ids=lambda value: type(value).__name__)
def test_it_trains(model: Model, shape: tuple[int, ...]) -> None:
    """A few steps on a handful of samples lower their loss, and every layer moves."""
    start = initial(model, shape, 2, STREAM)
    labels = np.arange(6) % 2
    rate = 0.01 if model == ResNet(depth=18, groups=4) else 0.05
    job = FitJob(start, samples(model, shape, 6), labels, STREAM)
    (first,) = fit(Sgd(learning_rate=rate, batch_size=6), model, shape, 2, [job])
    (last,) = fit(Sgd(learning_rate=rate, batch_size=6, epochs=30), model, shape, 2, [job])
    assert np.isfinite(last.model).all()
    assert last.mean_loss < first.mean_loss
    module = model.build(shape, 2)
    place = 0
    for name, parameter in module.named_parameters():
        moved = last.model[place : place + parameter.numel()] != start[place : place + parameter.numel()]
        # A bias of the keys adds the same to all scores of a query, so the softmax does not see it.
        assert moved.any() or name.endswith("key.bias"), name
        place += parameter.numel()


def test_where_the_stride_stands_decides_the_work_and_not_the_parameters() -> None:
    # NoNN's code: 1.41 G multiply-accumulates for WRN-40-4, on whose paper's form 1.30 G are counted
    nonn, paper = (trace(WideResNet(depth=40, width=4, variant=variant).build(COLOUR, 10), COLOUR) for variant in ("nonn", "paper"))
    assert nonn.total_flop / 2e9 == pytest.approx(1.41, abs=0.01)
    assert paper.total_flop < nonn.total_flop


def test_pruned_plans_save_the_published_share_of_work() -> None:
    # FL-PQSU: 0.489 and 0.151 of AlexNet's multiply-accumulates, 0.044 of VGG16's
    def work(model: Model, shape: tuple[int, ...]) -> float:
        return trace(model.build(shape, 10), shape).total_flop

    whole = work(AlexNet(), GREY)
    assert work(AlexNet(channels=(64, 128, 256, 256, 256), hidden=(3300, 3500)), GREY) / whole == pytest.approx(0.489, abs=0.001)
    assert work(AlexNet(channels=(32, 64, 64, 128, 256), hidden=(1900, 2000)), GREY) / whole == pytest.approx(0.151, abs=0.001)
    pruned = Vgg16(channels=(16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 128, 128, 128), hidden=(1600, 1600))
    assert work(pruned, COLOUR) / work(Vgg16(), COLOUR) == pytest.approx(0.044, abs=0.001)


# --- what does not fit ------------------------------------------------------------------------------------------------------


def dataset(shape: tuple[int, ...], classes: int = 4, tokens: int = 0) -> Dataset:
    labels = np.arange(8) % classes
    inputs = np.zeros((8, *shape), np.float32) if not tokens else np.arange(8 * shape[0]).reshape(8, *shape) % tokens
    return Dataset(inputs, labels, inputs, labels, classes, shape)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Cnn(), dataset((13,)), r"a cnn needs samples of shape \(channels, height, width\), got \(13,\)"),
        (LeNet(), dataset((1, 8, 8)), r"lenet needs maps of 28 x 28 or 32 x 32, got 8 x 8: `cnn` takes any"),
        (LeNet(), dataset((13,)), r"lenet needs samples of shape \(channels, height, width\)"),
        (FedAvgCnn(), dataset((1, 3, 3)), "sides of at least 4, got 3 x 3"),
        (AlexNet(), dataset((1, 8, 8)), "sides of at least 12"),
        (Vgg16(), dataset(GREY), "multiples of 32|at least 32"),
        (Vgg16(groups=3), dataset(COLOUR), "expected `groups` to divide all numbers of channels, got 3 for 64"),
        (Vgg16(norm="batch"), dataset(COLOUR), "so it cannot be trained: use normalisation without running statistics, as `norm: group`"),
        (WideResNet(norm="batch"), dataset(COLOUR), r"the model keeps \d+ buffers beside its parameters"),
        (SensorCnn(), dataset((561,)), r"samples of shape \(channels, steps\), got \(561,\)"),
        (SensorCnn(channels=(4, 4, 4)), dataset((9, 7)), "3 blocks needs at least 8 steps, got 7"),
        (Gru(vocabulary=12), dataset((6,)), "the model takes tokens, but the data's samples are numbers"),
        (Gru(vocabulary=12), dataset((6,), tokens=13), "expected `vocabulary` of at least 13, the data's number of tokens, got 12"),
        (Gru(vocabulary=12), dataset((1, 6, 6)), r"a gru needs samples of shape \(length,\), tokens, got \(1, 6, 6\)"),
        (Mlp(), dataset((6,), tokens=5), "use a model of tokens, as `gru`"),
    ],
)
def test_a_model_that_does_not_fit_its_data(model: Model, data: Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fit(model, data)


@pytest.mark.parametrize(("model", "shape"), SMALL, ids=lambda value: type(value).__name__)
def test_a_model_that_fits(model: Model, shape: tuple[int, ...]) -> None:
    check_fit(model, dataset(shape, tokens=getattr(model, "vocabulary", 0)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WideResNet(depth=15), r"depth: expected 6n \+ 4 layers"),
        (lambda: SensorCnn(kernel=4), "kernel: expected an odd number"),
        (lambda: Transformer(vocabulary=9, width=10, heads=4), "heads: expected a divisor of the width 10, got 4"),
        (lambda: PythonModel(module="nothing"), r"module: expected a dotted path such as 'package.module:Net'"),
        (lambda: PythonModel(module="a-b:Net"), "module: expected a dotted path"),
        (lambda: PythonModel(module="a.b:Net()"), "module: expected a dotted path"),
        (lambda: PythonModel(module="a:Net", arguments={"x": object()}), "expected 'x' to be a number"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_no_model_has(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_texts_can_be_learnt() -> None:
    """The last digit of a sum needs two of six tokens; a tenth of the answers would be right by chance."""
    from netfl.learning.trainer import evaluate

    data = Arithmetic(limit=2000, test_limit=500).load(STREAM)
    model = Transformer(vocabulary=12, width=32, hidden=64, layers=1)
    start = initial(model, data.sample_shape, 10, STREAM)
    inputs = [each.astype(np.float32) for each in (data.train_inputs, data.test_inputs)]
    job = FitJob(start, inputs[0], data.train_labels, STREAM)
    (result,) = fit(Sgd(learning_rate=0.03, momentum=0.9, epochs=12, batch_size=50), model, data.sample_shape, 10, [job])
    found = evaluate(model, data.sample_shape, 10, result.model, inputs[1], data.test_labels)
    assert found.accuracy > 0.8


# --- code from outside ------------------------------------------------------------------------------------------------------

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, depth=1, fail=False, outputs=10):
        super().__init__()
        if fail:
            raise RuntimeError("as asked")
        self.first = nn.Linear(64, width)
        self.last = nn.Linear(width, outputs)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.flatten(1))))


class Constant(Net):
    def __init__(self):
        super().__init__(3)
        self.scale = torch.tensor([2.0])

    def forward(self, x):
        return super().forward(x) * self.scale


def nothing():
    return 3
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "outside_netfl.py"
    path.write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside_netfl", raising=False)
    return path


DIGITS = dataset((1, 8, 8), classes=8)


def test_any_module_by_its_dotted_path(outside: Path) -> None:
    model = PythonModel(module="outside_netfl:Net", arguments={"width": 3, "outputs": 8})  # type: ignore[arg-type]
    assert num_parameters(model, (1, 8, 8), 8) == 64 * 3 + 3 + 3 * 8 + 8
    check_fit(model, DIGITS)
    assert trace(model.build((1, 8, 8), 8), (1, 8, 8)).parameter_bytes == 4 * 227
    assert hash(model) == hash(PythonModel(module="outside_netfl:Net", arguments=(("outputs", 8), ("width", 3))))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Net", {}, r"outside_netfl:Net\(\) raised TypeError: .*missing 1 required positional argument: 'width'"),
        ("Net", {"width": 3, "fail": True}, r"raised RuntimeError: as asked"),
        ("Net", {"width": 3, "outputs": 7}, r"logits of shape \(2, 8\), got \(2, 7\)"),
        ("Absent", {}, "raised AttributeError"),
        ("nothing", {}, "returned a int; expected a torch.nn.Module"),
        ("Constant", {}, "does not run on samples"),
    ],
)
def test_code_that_fails(outside: Path, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((NetflError, ValueError), match=message):
        check_fit(PythonModel(module=f"outside_netfl:{name}", arguments=arguments), DIGITS)  # type: ignore[arg-type]


def test_the_key_holds_the_code(outside: Path) -> None:
    function = Function("test", 1, lambda calls: calls)

    def key() -> bytes:
        return recipe(function, identified(PythonModel(module="outside_netfl:Net"))).key

    before = key()
    assert key() == before
    outside.write_text(CODE.replace("tanh", "sigmoid"))
    assert key() != before
    assert "outside_netfl" not in sys.modules  # nothing was run to find out
    with pytest.raises(NetflError, match="Python finds no module 'absent_netfl'"):
        identified(PythonModel(module="absent_netfl.models:Net"))
    assert identified(Mlp()) == Mlp()


def test_kinds() -> None:
    assert len(MODELS.kinds()) == 17
    assert MODELS.find("wrn") is WideResNet
