"""A model's module as layers of units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from netfl.learning.models import Model
from netfl.learning.slicing.units import UnitLayer, UnitNet
from netfl.learning.zoo.layers import TableConvolution

__all__ = ["Stage", "read_stages", "read_units"]

LOCAL = (nn.ReLU, nn.Tanh, nn.GELU, nn.MaxPool2d, nn.AvgPool2d)
"""Layers that work within a unit."""


@dataclass(frozen=True, eq=False)
class Stage:
    """What turns the values of one layer into those of the next.

    Args:
        linear: a Linear, a Conv2d or a TableConvolution, without values.
        local: what each unit does by itself with its sums.
        shape: of the numbers that a unit sums: (H, W) of a map, () of a neuron.
        source_shape: of the numbers that a unit of the layer before hands on.
    """

    linear: nn.Module
    local: tuple[nn.Module, ...]
    shape: tuple[int, ...]
    source_shape: tuple[int, ...]


def read_units(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> UnitNet:
    """The units of a model.

    Raises:
        ValueError: the model is no sequence of linear layers and convolutions; the message names what is in the way.
    """
    return read_stages(model, sample_shape, num_classes)[0]


def read_stages(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> tuple[UnitNet, tuple[Stage, ...]]:
    """The units of a model, and what joins their layers.

    Raises:
        ValueError: see `read_units`.
    """
    with torch.device("meta"):
        module = model.build(sample_shape, num_classes)
        if not isinstance(module, nn.Sequential):
            raise ValueError(f"a model that is a {type(module).__name__} cannot be sliced: expected a sequence of layers")
        children = list(module)
        groups = _grouped(children)
        x = torch.empty(2, *sample_shape)
        if isinstance(groups[0][0], nn.Linear):
            x = x.flatten(1)
        inputs, source_shape = x.shape[1], tuple(x.shape[2:])
        input_values = math.prod(source_shape)
        layers: list[UnitLayer] = []
        stages: list[Stage] = []
        start = 0
        for linear, local in groups:
            flattens = isinstance(linear, nn.Linear) and len(source_shape) > 0
            units_before = inputs if not layers else layers[-1].units
            x = linear(x.flatten(1) if flattens else x)
            shape = tuple(x.shape[2:])
            for layer in local:
                x = layer(x)
            weight, bias = linear.weight, linear.bias
            assert isinstance(weight, torch.Tensor)
            table = linear.table if isinstance(linear, TableConvolution) else None
            pairs = x.shape[1] * units_before if table is None else sum(map(len, table))
            bias_start = None if bias is None else start + weight.numel()
            layers.append(
                UnitLayer(
                    units=x.shape[1],
                    values=math.prod(shape),
                    passed=math.prod(x.shape[2:]),
                    pair_weights=weight.numel() // pairs,
                    sources=table,
                    weight_start=start,
                    bias_start=bias_start,
                    flattens=flattens,
                )
            )
            stages.append(Stage(linear, local, shape, source_shape))
            start += weight.numel() + (0 if bias_start is None else x.shape[1])
            source_shape = tuple(x.shape[2:])
    if len(layers) < 2:
        raise ValueError("a model without a hidden layer has no units to slice")
    if stages[-1].local or layers[-1].values != 1:
        raise ValueError("expected the model to end in a linear layer, so that its outputs are logits")
    return UnitNet(inputs=inputs, input_values=input_values, layers=tuple(layers), num_parameters=start), tuple(stages)


def _grouped(children: list[nn.Module]) -> list[tuple[nn.Module, tuple[nn.Module, ...]]]:
    """Each linear layer or convolution with what follows it within units; a Flatten only says what its neighbours show."""
    found: list[tuple[nn.Module, tuple[nn.Module, ...]]] = []
    for child in children:
        if isinstance(child, nn.Linear | nn.Conv2d | TableConvolution):
            if isinstance(child, nn.Conv2d) and (child.groups != 1 or child.padding_mode != "zeros"):
                raise ValueError("a convolution with groups or with padding other than zeros cannot be sliced")
            found.append((child, ()))
        elif isinstance(child, LOCAL) and found:
            found[-1] = (found[-1][0], (*found[-1][1], child))
        elif not isinstance(child, nn.Flatten):
            place = "" if found else " before the first weights"
            raise ValueError(f"a model with a layer {type(child).__name__}{place} cannot be sliced")
    if not found:
        raise ValueError("a model without weights cannot be sliced")
    return found
