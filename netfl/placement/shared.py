"""What models that several devices share have in common: the graph of torch.export, its operations by name, and running one node."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn.utils import vector_to_parameters

from netfl.errors import NetflError
from netfl.placement.graph import TRACERS, Sort, Traced

__all__ = ["SharedModel", "Wire", "attribute", "operation", "sent_through"]

Wire = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""From (N, values) to what its receiver has of them and the bytes (N,) that it took."""


def operation(node: fx.Node) -> str:
    """`conv2d` for a node that calls `aten.conv2d.default`."""
    return str(node.target).split(".")[1] if str(node.target).startswith("aten.") else str(node.target)


def attribute(body: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    """The parameter or buffer that a node reads."""
    found: torch.Tensor = operator.attrgetter(str(node.target))(body)
    return found


def sent_through(wire: Wire, part: torch.Tensor) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """What the receiver has of a tensor (N, ...), each sample a message, and the bytes (N,) that it took."""
    received, lengths = wire(part.contiguous().numpy().reshape(len(part), -1))
    return torch.from_numpy(np.ascontiguousarray(received)).reshape(part.shape), lengths


class SharedModel:
    """A model whose nodes several workers run parts of.

    Args:
        traced: the model, as torch.export sees it.
        workers: how many devices share it.

    Raises:
        NetflError: another tracer made the graph, whose operations have other names.
    """

    def __init__(self, traced: Traced, workers: int) -> None:
        if traced.tracer != TRACERS[0]:
            raise NetflError(f"a model can be shared only where {TRACERS[0]} traces it: {'; '.join(traced.notes)}")
        self._traced = traced
        self._workers = workers
        self._lengths: dict[fx.Node, Any] = {}
        self._data = [node for node in traced.nodes if traced.sorts[node] is Sort.DATA]

    def _shape(self, node: fx.Node) -> tuple[int, ...]:
        layout = self._traced.layouts[node][0]
        assert layout is not None
        return layout.shape

    def _values(self, node: fx.Node) -> int:
        return sum(math.prod(layout.shape) for layout in self._traced.layouts[node] if layout is not None)

    def _read(self, node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if self._traced.sorts[source] is Sort.DATA]

    def _constants(self, node: fx.Node) -> list[fx.Node]:
        return [each for each in node.all_input_nodes if each.op == "get_attr"]

    def _load(self, vector: NDArray[np.float32], count: int) -> None:
        """Take up weights (P,), for batches of so many samples."""
        vector_to_parameters(torch.tensor(vector), self._traced.source.parameters())
        self._lengths = self._traced.shapes(count)

    def _constant(self, node: fx.Node) -> Any:
        if node in self._lengths:
            return self._lengths[node]
        if node.op == "get_attr":
            return attribute(self._traced.body, node)
        found: Any = node.target
        return found(*fx.map_arg(node.args, self._constant), **fx.map_arg(node.kwargs, self._constant))

    def _run_whole(self, node: fx.Node, held: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
        def value(each: fx.Node) -> Any:
            return held[each] if self._traced.sorts[each] is Sort.DATA else self._constant(each)

        found: Any = node.target
        result: torch.Tensor = found(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
        return result
