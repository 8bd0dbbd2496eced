"""What models that several devices share have in common: the graph of torch.export, its operations by name, and running one node."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn.utils import vector_to_parameters

from netfl.errors import NetflError
from netfl.placement.graph import TRACERS, Sort, Traced, one_thread
from netfl.placement.stages import Portions

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


class SharedModel(ABC):
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

    def run(
        self, inputs: NDArray[np.float32], vector: NDArray[np.float32], wire: Wire, exact: tuple[bool, ...], join_place: int
    ) -> tuple[NDArray[np.float32], list[NDArray[np.int64]]]:
        """The joining place's output (N, ...) for a batch, and the length (N,) of every message that is sent, in the order of `portions`.

        Every place computes with what it has: its own parts as they are, those of others as the wire brought them.

        Args:
            inputs: (N, *sample_shape).
            vector: the weights (P,).
            wire: what messages go through.
            exact: of each worker, whether it has the sample without a message.
            join_place: which worker's device joins, so that it sends itself nothing; -1 for another device.
        """
        lengths: list[NDArray[np.int64]] = []
        with torch.no_grad(), one_thread():
            vector_to_parameters(torch.tensor(vector), self._traced.source.parameters())
            self._lengths = self._traced.shapes(len(inputs))
            output = self._compute(torch.from_numpy(inputs), wire, exact, join_place, lengths)
            return self._traced.pack(self._data[-1], output), lengths

    @abstractmethod
    def portions(self) -> Portions:
        """What each place computes, sends and stores."""

    @abstractmethod
    def _compute(
        self, inputs: torch.Tensor, wire: Wire, exact: tuple[bool, ...], join_place: int, lengths: list[NDArray[np.int64]]
    ) -> torch.Tensor:
        """The last node's values for a batch; appends the length of every message."""

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
