"""A model whose every layer is split over devices by filters: each has some output channels of every layer, and all exchange theirs.

The contrast to NoNN's students: a compressed network is divided without being made for it, so that devices wait for each other at
every convolution. Layers that work channel by channel (activations, pooling, batch normalisation, group normalisation whose groups lie
within a device) need no exchange; a convolution or a linear layer reads all channels, so what it reads is exchanged right before
it, and as late as possible. The last layer is run as a whole by the device that joins. What no rule here knows is run by all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.nn import functional

from netfl.placement.graph import Sort, Traced
from netfl.placement.profile import VALUE_BYTES
from netfl.placement.shared import SharedModel, Wire, attribute, operation, sent_through
from netfl.placement.stages import SOURCE, Portion, Portions

__all__ = ["FilterSplitModel", "channels_of"]

_BY_CHANNEL = {
    "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "hardswish", "hardsigmoid", "dropout",
    "clone", "contiguous", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d",
}  # fmt: skip
_PAIRWISE = {"add", "sub", "mul"}


def channels_of(channels: int, workers: int) -> tuple[tuple[int, int], ...]:
    """Which channels each worker has: neighbouring ones, as equal in number as they come.

    >>> channels_of(5, 2)
    ((0, 2), (2, 5))
    """
    return tuple((place * channels // workers, (place + 1) * channels // workers) for place in range(workers))


@dataclass(frozen=True)
class _Step:
    """How one node is run.

    Args:
        node: which.
        mode: share, each worker its channels; whole, each worker all; join, the joining place alone.
        exchanged: nodes whose outputs the workers exchange before it, or send to the joining place.
    """

    node: fx.Node
    mode: str
    exchanged: tuple[fx.Node, ...]


class FilterSplitModel(SharedModel):
    """A model split by filters over so many workers, to count and to run.

    Args:
        traced: the model, as torch.export sees it; its weights are not read by `run`.
        workers: how many devices have filters.

    Raises:
        NetflError: another tracer made the graph, whose operations have other names.
    """

    def __init__(self, traced: Traced, workers: int) -> None:
        super().__init__(traced, workers)
        self._shared: dict[fx.Node, tuple[tuple[int, int], ...]] = {}
        self._steps = self._decide()

    def _decide(self) -> list[_Step]:
        weighted = [node for node in self._data if operation(node) in ("conv2d", "linear")]
        at_join = set(self._data[self._data.index(weighted[-1]) :]) if weighted else set(self._data[1:])
        whole: set[fx.Node] = {self._data[0]}
        joined: set[fx.Node] = set()
        steps = []
        for node in self._data[1:]:
            sources = self._read(node)
            if node in at_join:
                exchanged = tuple(source for source in sources if source not in at_join and source not in joined)
                joined |= set(exchanged)
                steps.append(_Step(node, "join", exchanged))
                continue
            mode, needs_whole = self._mode(node, sources, whole)
            exchanged = tuple(source for source in needs_whole if source not in whole)
            whole |= set(exchanged)
            steps.append(_Step(node, mode, exchanged))
            if mode == "whole":
                whole.add(node)
        return steps

    def _mode(self, node: fx.Node, sources: list[fx.Node], whole: set[fx.Node]) -> tuple[str, list[fx.Node]]:
        """How to run a node, and which of its inputs all workers need as a whole."""
        name, shape = operation(node), self._shape(node)
        shared = [source for source in sources if source in self._shared]
        if name == "conv2d" and (len(node.args) < 7 or node.args[6] == 1):
            self._shared[node] = channels_of(shape[0], self._workers)
            return "share", sources
        if name == "linear" and len(shape) == 1:
            self._shared[node] = channels_of(shape[0], self._workers)
            return "share", sources
        if len(shared) == len(sources) and sources:
            spans = self._shared[sources[0]]
            if name in _BY_CHANNEL or name == "batch_norm" or (name in _PAIRWISE and all(self._shared[each] == spans for each in shared)):
                self._shared[node] = spans
                return "share", []
            channels = self._shape(sources[0])[0]
            if name == "group_norm" and all(edge % (channels // int(str(node.args[1]))) == 0 for span in spans for edge in span):
                self._shared[node] = spans
                return "share", []
            if name == "flatten" and node.args[1:] in ((1,), (1, -1)):
                each = math.prod(self._shape(sources[0])[1:])
                self._shared[node] = tuple((first * each, behind * each) for first, behind in spans)
                return "share", []
        return "whole", shared

    # --- what it costs ------------------------------------------------------------------------------------------------------

    def portions(self) -> Portions:
        """What each place computes, sends and stores."""
        places = self._workers + 1
        stored: list[dict[tuple[str, int, int], int]] = [{} for _ in range(places)]
        steps: list[tuple[tuple[Portion, ...], tuple[tuple[int, int, int], ...]]] = []
        current: list[list[tuple[float, float]]] = [[] for _ in range(places)]
        peaks = [0] * places
        first = self._data[0]
        everybody = tuple((SOURCE, place, self._values(first)) for place in range(self._workers))
        steps.append((tuple(Portion() for _ in range(places)), everybody))
        held: list[dict[fx.Node, float]] = [{first: 1.0} for _ in range(places)]
        held[-1] = {}
        last_use = {source: node for node in self._data for source in self._read(node)}
        for step in self._steps:
            if step.exchanged:
                messages = tuple(message for source in step.exchanged for message in self._messages(source, step.mode == "join"))
                steps.append((self._closed(current, peaks), messages))
                current, peaks = [[] for _ in range(places)], [0] * places
                for source in step.exchanged:
                    for place in (self._workers,) if step.mode == "join" else range(self._workers):
                        held[place][source] = 1.0
            for place in range(places):
                part = self._part(step, place)
                if part:
                    current[place].append(self._cost(step, place, part, stored[place]))
                    held[place][step.node] = part
                peaks[place] = max(peaks[place], sum(round(VALUE_BYTES * self._values(node) * much) for node, much in held[place].items()))
                for source in self._read(step.node):
                    if last_use[source] is step.node:
                        held[place].pop(source, None)
        steps.append((self._closed(current, peaks), ()))
        share = f"1/{self._workers}"
        return Portions(
            workers=self._workers,
            steps=tuple(steps),
            parameter_bytes=tuple(VALUE_BYTES * sum(each.values()) for each in stored),
            described=(*(f"filters {share}" for _ in range(self._workers)), "join"),
        )

    @staticmethod
    def _closed(current: list[list[tuple[float, float]]], peaks: list[int]) -> tuple[Portion, ...]:
        return tuple(Portion(operations=tuple(done), activation_bytes=peak) for done, peak in zip(current, peaks, strict=True))

    def _messages(self, source: fx.Node, to_join: bool) -> list[tuple[int, int, int]]:
        spans = self._shared.get(source)
        if spans is None:
            return [(0, self._workers, self._values(source))]  # all have it, and the first one sends it
        each = self._values(source) // self._shape(source)[0]
        receivers = (self._workers,) if to_join else range(self._workers)
        return [
            (sender, receiver, (behind - start) * each)
            for sender, (start, behind) in enumerate(spans)
            for receiver in receivers
            if sender != receiver
        ]

    def _part(self, step: _Step, place: int) -> float:
        """Which part of a node's output a place makes."""
        if (step.mode == "join") != (place == self._workers):
            return 0.0
        if step.mode != "share":
            return 1.0
        start, behind = self._shared[step.node][place]
        return (behind - start) / self._shape(step.node)[0]

    def _cost(self, step: _Step, place: int, part: float, stored: dict[tuple[str, int, int], int]) -> tuple[float, float]:
        flop, _ = self._traced.costs[step.node]
        reads_all = operation(step.node) in ("conv2d", "linear")
        moved = sum(self._values(source) * (1.0 if reads_all else part) for source in self._read(step.node))
        moved += self._values(step.node) * part
        for constant in self._constants(step.node):
            count = attribute(self._traced.body, constant).numel()
            rows = (0, count) if step.mode != "share" else (round(count * self._before(step.node, place)), round(count * part))
            stored[str(constant.target), *rows] = round(count * part)
            moved += count * part
        return flop * part, VALUE_BYTES * moved

    def _before(self, node: fx.Node, place: int) -> float:
        return self._shared[node][place][0] / self._shape(node)[0]

    # --- what it computes ---------------------------------------------------------------------------------------------------

    def _compute(
        self, inputs: torch.Tensor, wire: Wire, exact: tuple[bool, ...], join_place: int, lengths: list[NDArray[np.int64]]
    ) -> torch.Tensor:
        shares: list[dict[fx.Node, torch.Tensor]] = [{} for _ in range(self._workers)]
        wholes: list[dict[fx.Node, torch.Tensor]] = [{} for _ in range(self._workers + 1)]
        received: torch.Tensor | None = None
        for place in range(self._workers):
            sample = inputs
            if not exact[place]:
                if received is None:
                    received, length = sent_through(wire, sample)
                sample = received
                lengths.append(length)
            wholes[place][self._data[0]] = sample
        for step in self._steps:
            for source in step.exchanged:
                lengths += self._exchange(source, step.mode == "join", shares, wholes, wire, join_place)
            if step.mode == "join":
                wholes[-1][step.node] = self._run_whole(step.node, wholes[-1])
            elif step.mode == "whole":
                for place in range(self._workers):
                    wholes[place][step.node] = self._run_whole(step.node, wholes[place])
            else:
                for place in range(self._workers):
                    shares[place][step.node] = self._run_share(step.node, place, shares[place], wholes[place])
        return wholes[-1][self._data[-1]]

    def _exchange(
        self,
        source: fx.Node,
        to_join: bool,
        shares: list[dict[fx.Node, torch.Tensor]],
        wholes: list[dict[fx.Node, torch.Tensor]],
        wire: Wire,
        join_place: int,
    ) -> list[NDArray[np.int64]]:
        spans = self._shared.get(source)
        senders = [(0, wholes[0][source])] if spans is None else [(place, shares[place][source]) for place in range(self._workers)]
        sent = {place: sent_through(wire, part) for place, part in senders if part.numel()}
        lengths = []
        receivers = (self._workers,) if to_join else range(self._workers)
        for sender, _ in senders:
            for receiver in receivers:
                if sender in sent and sender != receiver and not (to_join and sender == join_place):
                    lengths.append(sent[sender][1])
        for receiver in receivers:
            own = join_place if to_join else receiver
            parts = [part if place == own or place not in sent else sent[place][0] for place, part in senders]
            wholes[receiver][source] = torch.cat(parts, dim=1)
        return lengths

    def _run_share(
        self, node: fx.Node, place: int, shares: dict[fx.Node, torch.Tensor], wholes: dict[fx.Node, torch.Tensor]
    ) -> torch.Tensor:
        name, (start, behind) = operation(node), self._shared[node][place]

        def rows(each: Any) -> Any:
            return self._constant(each)[start:behind] if isinstance(each, fx.Node) else each

        if name in ("conv2d", "linear"):
            read, weight, *rest = node.args
            bias = rows(rest[0]) if rest else None
            x = wholes[read]  # type: ignore[index]
            if start == behind:
                return x.new_zeros((len(x), 0, *self._shape(node)[1:]))
            arguments: Any = fx.map_arg(tuple(rest[1:]), self._constant)
            return functional.conv2d(x, rows(weight), bias, *arguments) if name == "conv2d" else functional.linear(x, rows(weight), bias)
        if name == "group_norm":
            read, groups, weight, bias, *rest = node.args
            x = shares[read]  # type: ignore[index]
            if start == behind:
                return x
            mine = int(str(groups)) * (behind - start) // self._shape(node)[0]
            return functional.group_norm(x, mine, rows(weight), rows(bias), *rest[:1])  # type: ignore[arg-type]
        found: Any = node.target
        if name == "batch_norm":
            read, *parameters = node.args
            return found(shares[read], *(rows(each) for each in parameters[:4]), *parameters[4:])  # type: ignore[index,no-any-return]
        result: torch.Tensor = found(
            *fx.map_arg(node.args, lambda each: shares[each] if self._traced.sorts[each] is Sort.DATA else self._constant(each)),
            **fx.map_arg(node.kwargs, self._constant),
        )
        return result
