"""A model whose first layers are split over devices by rows of their maps, fused: a worker computes its rows of all of them alone.

Fused tiles as in Z. Zhao, K. Barijough, A. Gerstlauer: "DeepThings", IEEE TCAD 37(11), 2018, in one dimension and with rows in
proportion to the workers' speeds as in J. Mao et al.: "MoDNN", DATE 2017. What a row of a convolution or a pooling reads is computed
exactly, from kernel, stride, padding and dilation; rows that two tiles both need are computed by both, and that work is counted. Layers
that look at a whole map (global pooling, group normalisation, linear layers), and all behind them, are run by the device that joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn import functional

from netfl.errors import NetflError
from netfl.placement.graph import Traced
from netfl.placement.profile import VALUE_BYTES
from netfl.placement.shared import SharedModel, Wire, attribute, operation, sent_through
from netfl.placement.stages import SOURCE, Portion, Portions

__all__ = ["Span", "TiledModel", "needed_rows", "rows_of"]

Span = tuple[int, int]
"""Rows, from the first to the one behind the last; (0, 0) for none."""

_BY_ELEMENT = {
    "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "dropout",
    "clone", "contiguous", "batch_norm", "add", "sub", "mul",
}  # fmt: skip


def rows_of(height: int, weights: Sequence[float]) -> tuple[Span, ...]:
    """So many rows dealt out in proportion to weights: whole rows by the largest remainder, of equal ones the first.

    >>> rows_of(8, (1.0, 2.0, 1.0))
    ((0, 2), (2, 6), (6, 8))
    """
    exact = [height * weight / sum(weights) for weight in weights]
    counts = [int(each) for each in exact]
    order = sorted(range(len(weights)), key=lambda place: (counts[place] - exact[place], place))
    for place in order[: height - sum(counts)]:
        counts[place] += 1
    edges = [sum(counts[:place]) for place in range(len(counts) + 1)]
    return tuple((first, behind) if first < behind else (0, 0) for first, behind in zip(edges, edges[1:], strict=False))


def needed_rows(span: Span, height: int, kernel: int, stride: int, padding: int, dilation: int) -> Span:
    """The rows of an input of some height from the first to the last that a window layer's output rows read.

    >>> needed_rows((2, 4), 8, kernel=3, stride=1, padding=1, dilation=1)
    (1, 5)
    >>> needed_rows((0, 1), 8, kernel=3, stride=2, padding=0, dilation=2)
    (0, 5)
    """
    read = [row for output in range(*span) for tap in range(kernel) if 0 <= (row := output * stride - padding + dilation * tap) < height]
    return (min(read), max(read) + 1) if read else (0, 0)


def _hull(one: Span, other: Span) -> Span:
    if one == (0, 0) or other == (0, 0):
        return max(one, other)
    return min(one[0], other[0]), max(one[1], other[1])


class TiledModel(SharedModel):
    """A model's first layers in tiles of rows, to count and to run.

    Args:
        traced: the model, as torch.export sees it; its weights are not read by `run`.
        weights: of each worker, its share of the rows.

    Raises:
        NetflError: another tracer made the graph, or not one layer works by rows.
    """

    def __init__(self, traced: Traced, weights: Sequence[float]) -> None:
        super().__init__(traced, len(weights))
        self._tiled = {self._data[0]} if len(self._shape(self._data[0])) == 3 else set()
        for node in self._data[1:]:
            sources = self._read(node)
            if set(sources) <= self._tiled and self._by_rows(node, sources):
                self._tiled.add(node)
        rest = [node for node in self._data if node not in self._tiled]
        self._edge = [node for node in self._data if node in self._tiled and (not node.users or any(user in rest for user in node.users))]
        if len(self._tiled) < 2 or self._data[-1] in self._tiled:
            raise NetflError("tiles: expected a model that begins with convolutions or poolings of maps and ends in another layer")
        self._spans = self._plan(tuple(weights))

    def _by_rows(self, node: fx.Node, sources: list[fx.Node]) -> bool:
        name, shape = operation(node), self._shape(node)
        if len(shape) != 3:
            return False
        if name == "conv2d":
            return True
        if name in ("max_pool2d", "avg_pool2d"):
            return self._is_plain_pooling(node)
        # Elementwise with a tensor of the same maps, and no broadcast.
        return name in _BY_ELEMENT and bool(sources) and all(self._shape(source) == shape for source in sources)

    def _is_plain_pooling(self, node: fx.Node) -> bool:
        """Without windows that hang over the edge, or padding that an average leaves out."""
        arguments: Any = node.args
        if operation(node) == "max_pool2d":
            return not (len(arguments) > 5 and arguments[5])
        no_padding = len(arguments) < 4 or not any(_pair(arguments[3]))
        return no_padding and not (len(arguments) > 4 and arguments[4]) and not (len(arguments) > 6 and arguments[6])

    def _window(self, node: fx.Node) -> tuple[int, int, int, int] | None:
        """(kernel, stride, padding, dilation) of a window layer's rows; None for a layer that works element by element."""
        arguments: Any = node.args
        name = operation(node)
        if name == "conv2d":
            kernel = self._shape_of_weight(node)[2]
            stride, padding, dilation = (
                _pair(arguments[place])[0] if len(arguments) > place else default for place, default in ((3, 1), (4, 0), (5, 1))
            )
            return kernel, stride, padding, dilation
        if name in ("max_pool2d", "avg_pool2d"):
            kernel = _pair(arguments[1])[0]
            stride = _pair(arguments[2])[0] if len(arguments) > 2 and arguments[2] else kernel
            padding = _pair(arguments[3])[0] if len(arguments) > 3 else 0
            dilation = _pair(arguments[4])[0] if name == "max_pool2d" and len(arguments) > 4 else 1
            return kernel, stride, padding, dilation
        return None

    def _shape_of_weight(self, node: fx.Node) -> torch.Size:
        weight: Any = node.args[1]
        return attribute(self._traced.body, weight).shape

    def _plan(self, weights: tuple[float, ...]) -> dict[fx.Node, tuple[Span, ...]]:
        """Which rows of each tiled node each worker computes, or has of the sample."""
        nothing: tuple[Span, ...] = ((0, 0),) * self._workers
        spans = {
            node: rows_of(self._shape(node)[1], weights) if node in self._edge else nothing for node in self._data if node in self._tiled
        }
        self._own = {node: spans[node] for node in self._edge}
        for node in reversed(self._data):
            if node not in self._tiled:
                continue
            window = self._window(node) if node is not self._data[0] else None
            for source in self._read(node):
                height = self._shape(source)[1]
                needs = [span if window is None else needed_rows(span, height, *window) for span in spans[node]]
                spans[source] = tuple(_hull(one, other) for one, other in zip(spans[source], needs, strict=True))
        return spans

    # --- what it costs ------------------------------------------------------------------------------------------------------

    def portions(self) -> Portions:
        """What each place computes, sends and stores."""
        nothing = Portion()
        portions, stored = [], []
        for place in range(self._workers):
            portion, parameters = self._portion(place)
            portions.append(portion)
            stored.append(parameters)
        rest = [node for node in self._data if node not in self._tiled]
        joined = tuple(self._traced.costs[node] for node in rest)
        held = VALUE_BYTES * (sum(self._values(node) for node in self._edge) + max(self._values(node) for node in rest))
        constants = {each for node in rest for each in self._constants(node)}
        first = self._data[0]
        inputs = tuple((SOURCE, place, self._held_values(first, span)) for place, span in enumerate(self._spans[first]))
        sent = tuple(
            (place, self._workers, self._held_values(node, self._own[node][place])) for node in self._edge for place in range(self._workers)
        )
        return Portions(
            workers=self._workers,
            steps=(
                ((nothing,) * (self._workers + 1), inputs),
                ((*portions, nothing), sent),
                ((*(nothing for _ in range(self._workers)), Portion(operations=joined, activation_bytes=held)), ()),
            ),
            parameter_bytes=(*stored, VALUE_BYTES * sum(attribute(self._traced.body, each).numel() for each in constants)),
            described=(*(self._words(place) for place in range(self._workers)), "join"),
        )

    def redundant_flop(self) -> float:
        """Operations that are done more than once, over all workers."""
        once = sum(self._traced.costs[node][0] for node in self._tiled)
        return sum(self._portion(place)[0].flop for place in range(self._workers)) - once

    def _words(self, place: int) -> str:
        first, behind = self._spans[self._data[0]][place]
        return f"rows {first}-{behind}"

    def _held_values(self, node: fx.Node, span: Span) -> int:
        channels, _, width = self._shape(node)
        return channels * (span[1] - span[0]) * width

    def _portion(self, place: int) -> tuple[Portion, int]:
        operations, constants, most = [], set(), 0
        for node in self._data[1:]:
            if node not in self._tiled:
                continue
            span = self._spans[node][place]
            if span == (0, 0):
                continue
            reads = sum(self._held_values(source, self._spans[source][place]) for source in self._read(node))
            writes = self._held_values(node, span)
            weights = self._constants(node)
            constants |= set(weights)
            moved = reads + writes + sum(attribute(self._traced.body, each).numel() for each in weights)
            flop, _ = self._traced.costs[node]
            operations.append((flop * (span[1] - span[0]) / self._shape(node)[1], float(VALUE_BYTES * moved)))
            most = max(most, reads + writes)
        parameters = VALUE_BYTES * sum(attribute(self._traced.body, each).numel() for each in constants)
        return Portion(operations=tuple(operations), activation_bytes=VALUE_BYTES * most), parameters

    # --- what it computes ---------------------------------------------------------------------------------------------------

    def _compute(
        self, inputs: torch.Tensor, wire: Wire, exact: tuple[bool, ...], join_place: int, lengths: list[NDArray[np.int64]]
    ) -> torch.Tensor:
        first = self._data[0]
        tiles: list[dict[fx.Node, torch.Tensor]] = []
        for place, (start, behind) in enumerate(self._spans[first]):
            rows = inputs[:, :, start:behind]
            if not exact[place] and rows.numel():
                rows, length = sent_through(wire, rows)
                lengths.append(length)
            tiles.append({first: rows})
        for node in self._data[1:]:
            if node in self._tiled:
                for place, held in enumerate(tiles):
                    held[node] = self._run_tile(node, place, held)
        joined: dict[fx.Node, torch.Tensor] = {}
        for node in self._edge:
            parts = []
            for place, held in enumerate(tiles):
                (own, behind), start = self._own[node][place], self._spans[node][place][0]
                part = held[node][:, :, own - start : behind - start]
                if place != join_place and part.numel():
                    part, length = sent_through(wire, part)
                    lengths.append(length)
                parts.append(part)
            joined[node] = torch.cat(parts, dim=2)
        for node in self._data:
            if node not in self._tiled:
                joined[node] = self._run_whole(node, joined)
        return joined[self._data[-1]]

    def _run_tile(self, node: fx.Node, place: int, held: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
        start, behind = self._spans[node][place]
        sources = self._read(node)
        if start == behind:
            channels, _, width = self._shape(node)
            return held[sources[0]].new_zeros((len(held[sources[0]]), channels, 0, width))
        window = self._window(node)
        if window is None:
            rows = {
                source: held[source][:, :, start - self._spans[source][place][0] : behind - self._spans[source][place][0]]
                for source in sources
            }
            return self._run_whole(node, rows)
        kernel, stride, padding, dilation = window
        low, high = start * stride - padding, (behind - 1) * stride - padding + dilation * (kernel - 1) + 1
        first, last = self._spans[sources[0]][place]
        is_maximum = operation(node) == "max_pool2d"
        x = held[sources[0]][:, :, max(low, first) - first : min(high, last) - first]
        # Rows beyond the map, which padding stands for, and rows between the windows' taps, which nobody reads.
        x = functional.pad(x, (0, 0, max(first, low) - low, high - min(last, high)), value=float("-inf") if is_maximum else 0.0)
        arguments: Any = node.args
        if operation(node) == "conv2d":
            weight, bias = (
                self._constant(arguments[1]),
                None if len(arguments) < 3 or arguments[2] is None else self._constant(arguments[2]),
            )
            strides, paddings, dilations = (
                _pair(arguments[index]) if len(arguments) > index else default for index, default in ((3, (1, 1)), (4, (0, 0)), (5, (1, 1)))
            )
            groups = arguments[6] if len(arguments) > 6 else 1
            return functional.conv2d(x, weight, bias, strides, (0, paddings[1]), dilations, groups)
        sides = _pair(arguments[1])
        strides = _pair(arguments[2]) if len(arguments) > 2 and arguments[2] else sides
        if not is_maximum:
            return functional.avg_pool2d(x, sides, strides)
        paddings = _pair(arguments[3]) if len(arguments) > 3 else (0, 0)
        dilations = _pair(arguments[4]) if len(arguments) > 4 else (1, 1)
        x = functional.pad(x, (paddings[1], paddings[1], 0, 0), value=float("-inf"))
        return functional.max_pool2d(x, sides, strides, 0, dilations)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    found = [int(each) for each in value]
    return (found[0], found[-1])
