"""The nodes of an `nn.Sequential` of plain layers, counted by hand.

`netfl.placement.graph` finds the same by `torch.export`, which loads torch's compiler: that takes longer than many a training. Tests hold
both equal, name by name and cost by cost.
"""

from __future__ import annotations

import torch
from torch import nn

from netfl.placement.profile import VALUE_BYTES, Node

__all__ = ["plain_chain_nodes"]

_VIEWS = (nn.Flatten, nn.Dropout)
"""Of these no value moves (in eval mode)."""

_POINTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.MaxPool2d, nn.AvgPool2d)
"""These count one operation per output value."""


def plain_chain_nodes(module: nn.Module, sample_shape: tuple[int, ...]) -> tuple[Node, ...] | None:
    """The nodes of a module for one sample; None if it is no such chain, or does not run on such samples."""
    layers = list(module) if type(module) is nn.Sequential else []
    names = [name for name, _ in module.named_children()]  # a layer that stands there twice is named once
    if not layers or names != [str(place) for place in range(len(layers))] or not all(map(_is_plain, layers)):
        return None
    values = torch.zeros(2, *sample_shape)
    nodes = [_node("input_1", "input", (), 0.0, 0, values, ())]
    start = 0
    for name, layer in zip(names, layers, strict=True):
        before = values
        try:
            with torch.no_grad():
                values = before if type(layer) is nn.Dropout else layer(before)
        except (RuntimeError, IndexError):
            return None
        spans = []
        for parameter in layer.parameters():
            spans.append((start, start + parameter.numel()))
            start += parameter.numel()
        outputs = values[0].numel()
        flop = 0 if type(layer) in _VIEWS else outputs
        if isinstance(layer, nn.Linear | nn.Conv2d):
            flop = 2 * outputs * layer.weight[0].numel()
        moved = 0 if type(layer) in _VIEWS else before[0].numel() + outputs
        nodes.append(_node(f"_{name}", type(layer).__name__, (nodes[-1].name,), float(flop), moved, values, tuple(spans)))
    return tuple(nodes)


def _is_plain(layer: nn.Module) -> bool:
    if any(parameter.dtype != torch.float32 or parameter.device.type != "cpu" for parameter in layer.parameters()):
        return False
    if isinstance(layer, nn.Conv2d):
        return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.Flatten):
        return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
    is_plain_maximum = not (isinstance(layer, nn.MaxPool2d) and layer.return_indices)
    return type(layer) in (nn.Linear, *_VIEWS, *_POINTWISE) and is_plain_maximum and not getattr(layer, "inplace", False)


def _node(
    name: str, op: str, predecessors: tuple[str, ...], flop: float, moved: int, values: torch.Tensor, spans: tuple[tuple[int, int], ...]
) -> Node:
    parameter_bytes = VALUE_BYTES * sum(stop - start for start, stop in spans)
    return Node(
        name=name,
        op=op,
        predecessors=predecessors,
        flop=flop,
        moved_bytes=float(VALUE_BYTES * moved + parameter_bytes),
        output_values=values[0].numel(),
        output_shape=tuple(values.shape[1:]),
        parameter_bytes=parameter_bytes,
        parameters=spans,
    )
