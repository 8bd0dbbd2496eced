"""Structured pruning: which channels of a module belong together, and the smaller module without some of them.

torch.fx traces the module, and every value's axis 1 is followed channel by channel: a convolution or linear layer makes new channels, a
flattening repeats each channel for every place of its map, a sum or product makes channels of its operands the same, a depthwise
convolution keeps them. Channels that reach anything else stay: the samples' own, the logits, and what enters or leaves an
operation that is not known or that turns 0 into another number (a sigmoid, say), because removing a channel must be the same
as setting it to zero. Layers that make the same channels form one group and lose the same ones.

With group normalisation a group's statistics run over the channels that are left, so there removing is not the same as zeroing.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

__all__ = ["Group", "groups_of", "prune"]

Ids = npt.NDArray[np.int64]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
_PASSING_LAYERS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Dropout, nn.Dropout2d, nn.Identity, nn.MaxPool1d,
    nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
_PASSING_FUNCTIONS = {
    functional.relu, functional.relu6, functional.leaky_relu, functional.gelu, functional.silu, functional.hardswish, functional.dropout,
    functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, torch.relu, torch.tanh, Tensor.relu, Tensor.relu_,
    Tensor.tanh,
}  # fmt: skip
_JOINING_FUNCTIONS = {
    operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, torch.add, torch.mul, Tensor.add, Tensor.add_, Tensor.mul,
}  # fmt: skip
_FLATTENING_FUNCTIONS = {torch.flatten, Tensor.flatten, Tensor.view, Tensor.reshape}


@dataclass(frozen=True)
class Group:
    """Layers whose channels can only be removed together.

    Args:
        layers: names of the convolutions and linear layers that make the channels, in the order of the forward pass.
        num_channels: how many there are.
    """

    layers: tuple[str, ...]
    num_channels: int


@dataclass(frozen=True)
class _Layer:
    """A layer with parameters, and which channels it takes and makes; equal arrays where it keeps them."""

    name: str
    inputs: Ids
    outputs: Ids


def groups_of(module: nn.Module, sample_shape: tuple[int, ...]) -> list[Group]:
    """The groups whose channels can be removed, in the order of the forward pass.

    Raises:
        ValueError: torch.fx cannot trace the module.
    """
    graph = _Channels(module, sample_shape)
    return [Group(tuple(layer.name for layer in layers), len(roots)) for layers, roots in graph.groups()]


def prune(
    module: nn.Module, sample_shape: tuple[int, ...], *, keep: Sequence[int] = (), rate: float | None = None, norm: int = 1
) -> nn.Module:
    """A smaller module: of each group the channels stay whose filters have the greatest norms, with their values, in their order.

    A filter is a row of a layer's weight; where several layers make a channel, their norms add up. Of equal norms the first stay.

    Args:
        module: stays as it is; on the meta device, where there are no values, the first channels stay.
        sample_shape: of one sample.
        keep: how many channels of each group stay.
        rate: or the share that is removed of each, rounded down.
        norm: 1 for L1, 2 for L2.

    Raises:
        ValueError: the numbers do not fit the groups, or normalisation groups do not divide what stays, or nothing can be removed.
    """
    graph = _Channels(module, sample_shape)
    groups = graph.groups()
    if not groups:
        raise ValueError("the model has no channels that could be removed")
    counts = _counts(groups, keep, rate)
    lost: set[int] = set()
    for (layers, roots), count in zip(groups, counts, strict=True):
        scores = graph.scores(layers, roots, norm)
        stays = set(sorted(range(len(roots)), key=lambda index: (-scores[index], index))[:count])
        lost.update(root for index, root in enumerate(roots) if index not in stays)
    made = copy.deepcopy(module)
    for layer in graph.layers.values():
        _shrink(made.get_submodule(layer.name), layer, graph.staying(layer.inputs, lost), graph.staying(layer.outputs, lost))
    return made


def _counts(groups: Sequence[tuple[list[_Layer], list[int]]], keep: Sequence[int], rate: float | None) -> list[int]:
    widths = [len(roots) for _, roots in groups]
    shown = ", ".join(f"{layers[0].name or 'layer'} has {width}" for (layers, _), width in zip(groups, widths, strict=True))
    if rate is not None:
        return [width - int(round(rate * width, 9)) for width in widths]
    if len(keep) != len(widths):
        raise ValueError(f"keep: expected {len(widths)} numbers, one for each group of channels ({shown}), got {len(keep)}")
    for count, width in zip(keep, widths, strict=True):
        if not 1 <= count <= width:
            raise ValueError(f"keep: expected at least 1 channel and no more than there are ({shown}), got {list(keep)}")
    return list(keep)


def _shrink(layer: nn.Module, found: _Layer, inputs: Tensor, outputs: Tensor) -> None:
    """Cut a layer's parameters and buffers to the channels that stay."""
    weight: Any = getattr(layer, "weight", None)
    if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
        weight = weight.detach().index_select(0, outputs.to(weight.device))
        if found.inputs is not found.outputs:
            weight = weight.index_select(1, inputs.to(weight.device))
        layer.weight = nn.Parameter(weight.contiguous())
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach().index_select(0, outputs.to(weight.device)))
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = len(inputs), len(outputs)
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        layer.in_channels, layer.out_channels = len(inputs), len(outputs)
        if found.inputs is found.outputs:
            layer.groups = len(outputs)
    elif isinstance(layer, _NORMS):
        if isinstance(layer, nn.GroupNorm):
            if len(outputs) % layer.num_groups:
                raise ValueError(
                    f"expected a number of channels that the {layer.num_groups} groups of normalisation '{found.name}' divide, "
                    f"got {len(outputs)}"
                )
            layer.num_channels = len(outputs)
        else:
            layer.num_features = len(outputs)
        for name in ("weight", "bias"):
            value = getattr(layer, name)
            if value is not None:
                setattr(layer, name, nn.Parameter(value.detach().index_select(0, outputs.to(value.device))))
        for name in ("running_mean", "running_var"):
            value = getattr(layer, name, None)
            if value is not None:
                setattr(layer, name, value.index_select(0, outputs.to(value.device)))


class _Channels(fx.Interpreter):
    """Follows channels through a module.

    Args:
        module: to be looked at.
        sample_shape: of one sample.
    """

    def __init__(self, module: nn.Module, sample_shape: tuple[int, ...]) -> None:
        try:
            bare = copy.deepcopy(module).to("meta").eval()
            traced = fx.GraphModule(bare, fx.Tracer().trace(bare))
        except Exception as error:  # a module's own code runs on proxies here, and may fail in any way
            raise ValueError(f"the model cannot be pruned: torch.fx cannot trace it: {error}") from error
        super().__init__(traced, garbage_collect_values=False)
        self.original = module
        self.layers: dict[str, _Layer] = {}
        self._makers: list[str] = []
        self._parents: list[int] = []
        self._fixed: set[int] = set()
        self._ids: dict[fx.Node, Ids] = {}
        named = list(module.named_parameters(remove_duplicate=False))
        uses = Counter(id(parameter) for _, parameter in named)
        self._shared = {name for name, parameter in named if uses[id(parameter)] > 1}
        with torch.no_grad(), torch.device("meta"):
            self.run(torch.empty((2, *sample_shape)))

    # --- what the graph says ----------------------------------------------------------------------------------------------

    def groups(self) -> list[tuple[list[_Layer], list[int]]]:
        """Layers that make the same channels, and those channels; only groups none of whose channels must stay."""
        fixed = {self._root(each) for each in self._fixed}
        found: list[tuple[list[_Layer], list[int]]] = []
        for name in self._makers:
            layer = self.layers[name]
            roots = list(dict.fromkeys(self._root(int(each)) for each in layer.outputs))
            joined = [group for group in found if set(group[1]) & set(roots)]
            layers = [each for group in joined for each in group[0]]
            channels = list(dict.fromkeys([*(each for group in joined for each in group[1]), *roots]))
            place = min((found.index(group) for group in joined), default=len(found))
            found = [group for group in found if group not in joined]
            found.insert(place, ([*layers, layer], channels))
        return [(layers, roots) for layers, roots in found if not fixed & set(roots)]

    def scores(self, layers: Sequence[_Layer], roots: Sequence[int], norm: int) -> list[float]:
        """The summed norms of the filters that make each channel."""
        places = {root: index for index, root in enumerate(roots)}
        scores = np.zeros(len(roots))
        for layer in layers:
            weight: Any = self.original.get_submodule(layer.name).weight
            if weight.device.type == "meta":
                continue
            norms = torch.linalg.vector_norm(weight.detach().double().flatten(1), ord=norm, dim=1).cpu().numpy()
            np.add.at(scores, [places[self._root(int(each))] for each in layer.outputs], norms)
        return [float(score) for score in scores]

    def staying(self, ids: Ids, lost: set[int]) -> Tensor:
        """Positions of the channels that are not lost."""
        return torch.tensor([place for place, each in enumerate(ids) if self._root(int(each)) not in lost], dtype=torch.int64)

    # --- the walk ---------------------------------------------------------------------------------------------------------

    def run_node(self, n: fx.Node) -> Any:
        """Compute a node's shape and follow its channels."""
        value = super().run_node(n)
        if n.op == "output":
            for each in n.all_input_nodes:
                self._fix(self._ids.get(each))
        elif isinstance(value, Tensor) and value.dim() > 1:
            self._ids[n] = self._follow(n, value)
        else:
            self._fix_inputs(n)
        return value

    def _follow(self, node: fx.Node, value: Tensor) -> Ids:
        given = [self._ids[each] for each in node.all_input_nodes if each in self._ids]
        if node.op == "call_module" and len(given) == 1:
            layer: Any = self.module.get_submodule(str(node.target))
            found = self._through(str(node.target), layer, node.all_input_nodes[0], given[0], value)
            if found is not None:
                return found
        target: Any = getattr(Tensor, str(node.target), None) if node.op == "call_method" else node.target
        if node.op in ("call_function", "call_method") and given:
            widths = {len(ids) for ids in given}
            if target in _PASSING_FUNCTIONS and len(given) == 1 and widths == {value.shape[1]}:
                return given[0]
            if target in _JOINING_FUNCTIONS and self._joins(node) and widths == {value.shape[1]}:
                for ids in given[1:]:
                    self._join(given[0], ids)
                return given[0]
            if target in _FLATTENING_FUNCTIONS and len(given) == 1 and self._flattens(node.all_input_nodes[0], value):
                return given[0].repeat(value.shape[1] // len(given[0]))
            if target is torch.cat and self._dim_of_cat(node) == 1 and sum(len(ids) for ids in given) == value.shape[1]:
                return np.concatenate(given)
        self._fix_inputs(node)
        return self._new(value.shape[1], is_fixed=True)

    def _through(self, name: str, layer: Any, source: fx.Node, ids: Ids, value: Tensor) -> Ids | None:
        """Through a layer; None if it is not known."""
        if any(f"{name}.{each}" in self._shared for each in ("weight", "bias")):
            return None
        rows = self.env[source].dim() == 2
        if isinstance(layer, nn.Linear) and rows:
            return self._made(name, ids, value.shape[1])
        if isinstance(layer, _CONVOLUTIONS):
            if layer.groups == 1:
                return self._made(name, ids, value.shape[1])
            if layer.groups == layer.in_channels == layer.out_channels:
                return self._kept(name, ids)
            return None
        if isinstance(layer, _NORMS):
            return self._kept(name, ids)
        if isinstance(layer, nn.Flatten) and self._flattens(source, value):
            return ids.repeat(value.shape[1] // len(ids))
        if isinstance(layer, _PASSING_LAYERS) and value.shape[1] == len(ids) and value.shape[1] == self.env[source].shape[1]:
            return ids
        return None

    def _made(self, name: str, inputs: Ids, width: int) -> Ids:
        if name in self.layers:  # a layer that runs twice makes and takes the same channels both times
            self._join(self.layers[name].inputs, inputs)
            return self.layers[name].outputs
        self.layers[name] = _Layer(name, inputs, self._new(width, is_fixed=False))
        self._makers.append(name)
        return self.layers[name].outputs

    def _kept(self, name: str, ids: Ids) -> Ids:
        if name in self.layers:
            self._join(self.layers[name].inputs, ids)
        else:
            self.layers[name] = _Layer(name, ids, ids)
        return ids

    def _flattens(self, source: fx.Node, value: Tensor) -> bool:
        """Whether all axes behind the samples become one."""
        before = self.env[source]
        return value.dim() == 2 and value.shape[0] == before.shape[0] and value.shape[1] == before[0].numel()

    def _joins(self, node: fx.Node) -> bool:
        """Whether each operand is a tensor with channels."""
        return all(isinstance(each, fx.Node) and each in self._ids for each in node.args) and not node.kwargs

    @staticmethod
    def _dim_of_cat(node: fx.Node) -> Any:
        return node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)

    # --- sets of channels -------------------------------------------------------------------------------------------------

    def _new(self, count: int, *, is_fixed: bool) -> Ids:
        ids = np.arange(len(self._parents), len(self._parents) + count)
        self._parents += ids.tolist()
        if is_fixed:
            self._fixed.update(ids.tolist())
        return ids

    def _fix(self, ids: Ids | None) -> None:
        if ids is not None:
            self._fixed.update(ids.tolist())

    def _fix_inputs(self, node: fx.Node) -> None:
        for each in node.all_input_nodes:
            if node.target not in (getattr, "size", "dim"):  # a shape is no channel; code that reads one reads it again when it runs
                self._fix(self._ids.get(each))

    def _join(self, one: Ids, other: Ids) -> None:
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            first, second = sorted((self._root(a), self._root(b)))
            self._parents[second] = first

    def _root(self, each: int) -> int:
        while self._parents[each] != each:
            self._parents[each] = self._parents[self._parents[each]]
            each = self._parents[each]
        return each
