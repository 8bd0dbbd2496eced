"""Models: the networks that clients train, as flat vectors at the borders.

A model's vector is its parameters, float32, one after another in the order of `torch.nn.Module.parameters()`. netfl's own modules are
`torch.nn.Sequential`s without in-place operations, so that the stacked kernels, the FX tracer and a splitter of chains can all take
them. A vector has no place for buffers, such as the running means of batch normalisation: `check_fit` refuses a model that has any.
The parts here are the simplest; `netfl.learning.zoo` holds the others.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.parts import Family
from netfl.randomness import Stream

if TYPE_CHECKING:
    import torch

    from netfl.learning.data import Dataset

__all__ = [
    "MODELS",
    "Cnn",
    "Mlp",
    "Model",
    "check_fit",
    "emptied",
    "identified",
    "initial",
    "load_vector",
    "num_parameters",
    "parameter_shapes",
    "to_vector",
]

Vector = npt.NDArray[np.floating[Any]]
Positive = Annotated[int, annotated_types.Ge(1)]


class Model(Protocol):
    """A network's settings; hashable, as a frozen dataclass is."""

    def __hash__(self) -> int: ...

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> torch.nn.Module:
        """A new module from batches (B, *sample_shape) to logits (B, num_classes).

        A model of tokens has a setting `vocabulary`: how many tokens it knows.

        Args:
            sample_shape: of one sample: (channels, height, width) of maps, (channels, steps) of signals, (length,) of tokens.
            num_classes: how many labels there are.

        Raises:
            ValueError: no such module exists for samples of that shape; the message says what it needs.
        """


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A multilayer perceptron: flatten, then linear layers with ReLU between them.

    Args:
        hidden: units of each hidden layer; empty for multinomial logistic regression.
    """

    hidden: tuple[Positive, ...] = (64,)

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> torch.nn.Sequential:
        """A new module; see `Model.build`."""
        from torch import nn

        widths = [math.prod(sample_shape), *self.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))


@dataclass(frozen=True, kw_only=True)
class Cnn:
    """A convolutional network: blocks of convolution (3x3, padding 1), ReLU and max-pooling by 2, then linear layers.

    A block pools only while both sides of its maps are at least 4, so that no side falls below 2.

    Args:
        channels: output channels of each block.
        hidden: units of a hidden linear layer with ReLU after the blocks; 0 for none.
    """

    channels: Annotated[tuple[Positive, ...], annotated_types.MinLen(1)] = (8, 16)
    hidden: Annotated[int, annotated_types.Ge(0)] = 0

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> torch.nn.Sequential:
        """A new module; see `Model.build`.

        Raises:
            ValueError: the samples are not maps.
        """
        from torch import nn

        if len(sample_shape) != 3:
            raise ValueError(f"a cnn needs samples of shape (channels, height, width), got {sample_shape}")
        inputs, height, width = sample_shape
        layers: list[nn.Module] = []
        for outputs in self.channels:
            layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU()]
            if min(height, width) >= 4:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            inputs = outputs
        features = inputs * height * width
        layers.append(nn.Flatten())
        if self.hidden:
            layers += [nn.Linear(features, self.hidden), nn.ReLU()]
            features = self.hidden
        return nn.Sequential(*layers, nn.Linear(features, num_classes))


MODELS = Family(
    "models",
    {
        "mlp": "netfl.learning.models:Mlp",
        "cnn": "netfl.learning.models:Cnn",
        "lenet": "netfl.learning.zoo.images:LeNet",
        "fedavg_cnn": "netfl.learning.zoo.images:FedAvgCnn",
        "fedmax_cnn": "netfl.learning.zoo.images:FedMaxCnn",
        "alexnet": "netfl.learning.zoo.images:AlexNet",
        "vgg16": "netfl.learning.zoo.images:Vgg16",
        "resnet": "netfl.learning.zoo.images:ResNet",
        "mobilenet": "netfl.learning.zoo.images:MobileNet",
        "wrn": "netfl.learning.zoo.images:WideResNet",
        "sensor_cnn": "netfl.learning.zoo.sequences:SensorCnn",
        "gru": "netfl.learning.zoo.sequences:Gru",
        "transformer": "netfl.learning.zoo.sequences:Transformer",
        "slicenet_mlp": "netfl.learning.zoo.crowd:SliceNetMlp",
        "slicenet_cnn": "netfl.learning.zoo.crowd:SliceNetCnn",
        "pruned": "netfl.learning.pruning:Pruned",
        "python": "netfl.learning.zoo.python:PythonModel",
    },
)


def identified(model: Model) -> Model:
    """The model as recipes should hold it: one that is code from outside with the hash of that code.

    Raises:
        NetflError: the code is not there.
    """
    found: Model = model.identified() if hasattr(model, "identified") else model
    return found


MOST_PARAMETERS = 2**28
"""What one message can carry: the limit of the codecs."""


def check_fit(model: Model, data: Dataset) -> None:
    """Check that a model can be trained on a dataset: its module is built and takes two samples, with values that mean nothing.

    Raises:
        ValueError: it cannot; the message says why and what to change.
        NetflError: code from outside failed.
    """
    import torch

    with torch.device("meta"):
        module = model.build(data.sample_shape, data.num_classes)
    count = sum(parameter.numel() for parameter in module.parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"the model has {count:,} parameters; netfl encodes at most {MOST_PARAMETERS:,} values in a message")
    buffers = [name for name, _ in module.named_buffers()]
    if buffers:
        raise ValueError(
            f"the model keeps {len(buffers)} buffers beside its parameters ('{buffers[0]}' is the first), and netfl sends and averages parameters "
            "only, so it cannot be trained: use normalisation without running statistics, as `norm: group`"
        )
    vocabulary = getattr(model, "vocabulary", None)
    is_tokens = data.train_inputs.dtype == np.int64
    if vocabulary is not None and not is_tokens:
        raise ValueError(f"the model takes tokens, but the data's samples are numbers of shape {data.sample_shape}")
    if vocabulary is not None:
        highest = int(max(data.train_inputs.max(), data.test_inputs.max()))
        if highest >= vocabulary:
            raise ValueError(f"expected `vocabulary` of at least {highest + 1}, the data's number of tokens, got {vocabulary}")
    if is_tokens and vocabulary is None and not hasattr(model, "identified"):
        raise ValueError("the data's samples are tokens, which this model would take for amounts: use a model of tokens, as `gru`")
    module = emptied(module).float().eval()
    samples = torch.from_numpy(np.ascontiguousarray(data.train_inputs[:1])).expand(2, *data.sample_shape)
    try:
        with torch.no_grad():
            logits = module(samples)
    except Exception as error:
        raise ValueError(f"the model does not run on samples of shape {data.sample_shape}: {error}") from error
    if not isinstance(logits, torch.Tensor):
        raise ValueError(f"expected the model to return one tensor of logits, got a {type(logits).__name__}")
    shape = tuple(logits.shape)
    if shape != (2, data.num_classes):
        raise ValueError(f"expected the model to turn 2 samples into logits of shape (2, {data.num_classes}), got {shape}")


def initial(model: Model, sample_shape: tuple[int, ...], num_classes: int, stream: Stream) -> npt.NDArray[np.float32]:
    """A model's first vector (P,), from PyTorch's default distributions.

    The numbers come from a CPU generator seeded by the stream alone; torch's global generator is left as it was.
    """
    import torch

    seed = int(stream.seed_sequence().generate_state(1, np.uint64)[0])
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        module = model.build(sample_shape, num_classes)
    return to_vector(module.float())


@functools.lru_cache(maxsize=64)
def parameter_shapes(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> tuple[tuple[int, ...], ...]:
    """The shape of each parameter, in the order of the vector."""
    import torch

    with torch.device("meta"):
        module = model.build(sample_shape, num_classes)
    return tuple(tuple(map(int, parameter.shape)) for parameter in module.parameters())


def num_parameters(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> int:
    """P, the length of the model's vector."""
    return sum(math.prod(shape) for shape in parameter_shapes(model, sample_shape, num_classes))


def emptied(module: torch.nn.Module) -> torch.nn.Module:
    """A module of the device `meta`, given memory on the CPU; its values mean nothing.

    (`Module.to_empty` does the same, but loads a library for symbolic arithmetic first, in a quarter of a second.)
    """
    import torch

    made: torch.nn.Module = module._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))  # type: ignore[no-untyped-call]
    return made


def load_vector(module: torch.nn.Module, vector: Vector) -> None:
    """Copy a vector (P,) into a module's parameters, in their own type.

    Raises:
        ValueError: the vector has another length.
    """
    parameters = list(module.parameters())
    wanted = sum(parameter.numel() for parameter in parameters)
    if vector.shape != (wanted,):
        raise ValueError(f"expected a vector of shape ({wanted},) for this module, got {vector.shape}")
    start = 0
    for parameter in parameters:
        end = start + parameter.numel()
        parameter.detach().numpy()[...] = vector[start:end].reshape(parameter.shape)
        start = end


def to_vector(module: torch.nn.Module) -> npt.NDArray[Any]:
    """A module's parameters as a new vector (P,), in their own type."""
    return np.concatenate([parameter.detach().numpy().reshape(-1) for parameter in module.parameters()])
