"""Chains of layers on stacked parameters, the backward pass written out.

Every layer is one batched matrix product over the client axis (`netfl.learning.layers`), and the SGD update is fused into the
product that makes the gradient: W += -lr * g^T x.

A chain is a Sequential of maps, a Flatten and rows that ends in a Linear with a bias. Its layers are Linear, Conv2d (dilation 1,
groups 1, zero padding), MaxPool2d and AvgPool2d (2x2, stride 2), ReLU, Tanh, GELU and Flatten.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from netfl.learning.layers import AvgPool, Convolution, Flatten, Gelu, Layer, Linear, MaxPool, Relu, Tanh
from netfl.learning.models import Model
from netfl.learning.pooled import Candidates, MaxOfFour, Reusing
from netfl.learning.stacked import QUANTUM, Batch, filled
from netfl.learning.updates import Update

__all__ = ["Chain", "chain_of"]

CHUNK_BYTES = 32 * 2**20
"""Clients train in chunks whose weights and step fit this: about what processors have of last-level cache. (Measured: with 8 MB a
round of LeNet takes 1.03 of its time, one of the small CNN 1.07; from 11 MB on there is no difference.)"""

LEAST_SIDE, MOST_OUTPUTS = 5, 16
"""A convolution is done together with the maximum that follows it from so many rows and columns of its kernel on, and up to so many
outputs. (Measured: kernels of 3x3 behind other layers have 0.6 to 0.8 of the speed then; with 32 and 64 outputs the products take
all the time, and the loop's convolutions are faster.)"""

ROOMY = (Candidates, MaxOfFour)
"""Layers that use their tensors again from step to step."""

KEEP_NO_OUTPUT = (Linear, Convolution, MaxOfFour, MaxPool, AvgPool)
"""Layers whose gradients need nothing of what they made."""

ABSENT = -1e30
"""Bias of a class that only fills up the width: its probability is 0, and so is the gradient of all that leads to it."""


@dataclass(frozen=True)
class Chain:
    """A `netfl.learning.stacked.Plan`.

    Args:
        layers: in order.
        shapes: of the parameters, in the order of the vector.
        stacked_shapes: the same, filled up.
        inputs: stacked shape of a sample: (I,) for rows, (C, H, W) for maps.
        num_classes: how many labels there are.
        numbers_per_sample: outputs and windows of all layers.
        windows_per_sample: numbers in the windows of all convolutions.
    """

    layers: tuple[Layer, ...]
    shapes: tuple[tuple[int, ...], ...]
    stacked_shapes: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]
    num_classes: int
    numbers_per_sample: int
    windows_per_sample: int

    rows = 16
    quantum = 1
    has_draws = False
    needs_autograd = False

    @property
    def chunk_bytes(self) -> int:
        """See `CHUNK_BYTES`."""
        return CHUNK_BYTES

    @property
    def num_logits(self) -> int:
        """The classes, and what fills them up."""
        return self.stacked_shapes[-1][0]

    def at_work(self) -> Chain:
        """See `netfl.learning.stacked.Plan`."""
        if not any(isinstance(layer, ROOMY) for layer in self.layers):
            return self
        return replace(self, layers=tuple(Reusing(layer) if isinstance(layer, ROOMY) else layer for layer in self.layers))

    def settle(self, weights: Sequence[Tensor]) -> None:
        """Classes that only fill up stay absent."""
        weights[-1][:, self.num_classes :].fill_(ABSENT)

    def forward(self, weights: Sequence[Tensor], batch: Batch) -> tuple[Tensor, list[Any]]:
        """See `netfl.learning.stacked.Plan`."""
        x = batch.samples.view(len(batch.lengths), -1, *self.inputs)
        if len(self.inputs) == 3:
            x = x.permute(0, 2, 3, 4, 1)
        trail = []
        for layer in self.layers:
            x, kept = layer.forward(weights, x)
            trail.append(kept)
        return x, trail

    def backward(self, update: Update, kept: list[Any], gradient: Tensor, penalty: Callable[[Tensor], Tensor] | None = None) -> None:
        """See `netfl.learning.stacked.Plan`."""
        for position in reversed(range(len(kept))):
            layer = self.layers[position]
            upstream = layer.input_gradient(update.weights, kept[position], gradient) if position else gradient
            layer.descend(kept[position], gradient, update)
            gradient = upstream
            if penalty is not None and 0 < position == len(kept) - 1:
                own = self.shapes[-2][1]  # the rest fills up
                more = penalty(kept[position][..., :own].flatten(0, 1))
                gradient[..., :own].add_(more.view(*gradient.shape[:2], own))


@functools.lru_cache(maxsize=64)
def chain_of(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> Chain | str:
    """A model's chain, or why it is none."""
    with torch.device("meta"):
        module = model.build(sample_shape, num_classes)
    children = list(module) if type(module) is nn.Sequential else [module]
    if children and _is_flatten(children[0]):
        children, sample_shape = children[1:], (math.prod(sample_shape),)
    if len(sample_shape) not in (1, 3):
        return f"samples of shape {sample_shape} are neither rows nor maps"
    inputs = sample_shape if len(sample_shape) == 3 else (filled(sample_shape[0]),)
    shape: tuple[int, ...] = inputs
    layers: list[Layer] = []
    stacked_shapes: list[tuple[int, ...]] = []
    numbers = windows = 0
    is_pooled = False
    for place, child in enumerate(children):
        index = len(stacked_shapes)
        if type(child) is nn.ReLU:
            layers.append(Relu(overwrites=isinstance(layers[-1] if layers else None, KEEP_NO_OUTPUT)))
        elif type(child) is nn.Tanh:
            layers.append(Tanh())
        elif type(child) is nn.GELU and child.approximate == "none":
            layers.append(Gelu())
        elif type(child) is nn.Linear and len(shape) == 1:
            stacked_shapes.append((filled(child.out_features), *shape))
            shape = stacked_shapes[-1][:1]
            layers.append(Linear(index, child.bias is not None))
        elif type(child) is nn.Conv2d and len(shape) == 3 and _is_stackable(child) and _is_pooled(child, children[place + 1 :]):
            candidates = Candidates(index, (child.kernel_size[0], child.kernel_size[1]), (int(child.padding[0]), int(child.padding[1])))
            stacked_shapes.append((child.out_channels, *shape[:1], *candidates.kernel))
            maxima = candidates.maxima(shape[1], shape[2])
            windows += shape[0] * math.prod(side + 1 for side in candidates.kernel) * math.prod(maxima)
            shape = (child.out_channels, *maxima)
            numbers += 4 * math.prod(shape)
            layers += [candidates, MaxOfFour(None if child.bias is None else index + 1)]
            is_pooled = True
        elif type(child) is nn.MaxPool2d and is_pooled:
            is_pooled = False  # it is in the layers already
            continue
        elif type(child) is nn.Conv2d and len(shape) == 3 and _is_stackable(child):
            layer, shape = convolution_of(child, index, (shape[0], shape[1], shape[2]))
            stacked_shapes.append((shape[0], layer.channels, *layer.kernel))
            layers.append(layer)
            windows += layer.channels * math.prod(layer.kernel) * shape[1] * shape[2]
        elif type(child) in (nn.MaxPool2d, nn.AvgPool2d) and len(shape) == 3 and _is_two_by_two(child):
            shape = (shape[0], shape[1] // 2, shape[2] // 2)
            if type(child) is nn.AvgPool2d:
                layers.append(AvgPool())
            else:  # A ReLU and then the maximum, or the other way round: the same values and gradients, on a quarter of the numbers.
                layers.insert(len(layers) - bool(layers and isinstance(layers[-1], Relu)), MaxPool())
        elif _is_flatten(child) and len(shape) == 3:
            shape = (filled(math.prod(shape)),)
            layers.append(Flatten(shape[0]))
        else:
            return f"{str(child).partition(chr(10))[0].removesuffix('(')} is no layer of a chain at this place"
        if isinstance(child, nn.Linear | nn.Conv2d) and child.bias is not None:
            stacked_shapes.append(shape[:1])
        numbers += math.prod(shape)
    shapes = tuple(tuple(parameter.shape) for parameter in module.parameters())
    if len(shapes) != len(stacked_shapes):
        return "layers of a chain share no parameters"
    if layers[-1:] != [Linear(len(shapes) - 2, has_bias=True)] or shapes[-1] != (num_classes,):
        return "a chain ends in a linear layer with a bias and an output for each class"
    return Chain(tuple(layers), shapes, tuple(stacked_shapes), inputs, num_classes, numbers + windows, windows)


def convolution_of(layer: nn.Conv2d, index: int, shape: tuple[int, int, int]) -> tuple[Convolution, tuple[int, int, int]]:
    """The stacked form of a layer on maps of a shape (C, H, W), and the shape of what it makes, filled up.

    Args:
        layer: with dilation 1, groups 1 and padding by numbers of zeros.
        index: of its weight.
        shape: of the maps that it takes.
    """
    (kh, kw), (ph, pw), (sh, sw) = layer.kernel_size, map(int, layer.padding), layer.stride
    C, H, W = shape
    Ho, Wo = (H + 2 * ph - kh) // sh + 1, (W + 2 * pw - kw) // sw + 1
    channels = C if C * kh * kw * Ho * Wo % QUANTUM == 0 else filled(C)
    return Convolution(index, layer.bias is not None, channels, (kh, kw), (ph, pw), (sh, sw)), (filled(layer.out_channels), Ho, Wo)


def _is_pooled(layer: nn.Conv2d, following: Sequence[nn.Module]) -> bool:
    """Whether `netfl.learning.pooled` does a stackable convolution together with the maximum that follows it, if only a ReLU is between."""
    after = next((each for each in following if type(each) is not nn.ReLU), None)
    if type(after) is not nn.MaxPool2d or not _is_two_by_two(after):
        return False
    is_wide = all(side >= LEAST_SIDE and side % 2 for side in layer.kernel_size)
    return is_wide and layer.stride == (1, 1) and layer.out_channels <= MOST_OUTPUTS


def _is_flatten(layer: nn.Module) -> bool:
    return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)


def _is_stackable(layer: nn.Conv2d) -> bool:
    settings = (layer.dilation, layer.groups, layer.padding_mode)
    return settings == ((1, 1), 1, "zeros") and not isinstance(layer.padding, str)


def _is_two_by_two(layer: nn.Module) -> bool:
    two = (2, (2, 2))
    if layer.kernel_size not in two or layer.stride not in two or layer.padding not in (0, (0, 0)) or layer.ceil_mode:
        return False
    if isinstance(layer, nn.AvgPool2d):
        return layer.divisor_override is None
    return layer.dilation in (1, (1, 1)) and not layer.return_indices
