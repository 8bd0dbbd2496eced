"""The graph that slicing cuts: hidden units, what each costs its holder, and what a cut between two of them would send."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from netfl.learning.slicing.units import UnitNet

__all__ = ["SliceGraph", "slice_graph"]

Roles = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class SliceGraph:
    """Hidden units in the order of their layers.

    Args:
        costs: (V,) what a unit costs its holder: its nodes and the connections that lead out of it. One for a node and one for a weight
            is the rule that gives the paper's Table V; its definition (in-degree plus out-degree) does not.
        neighbours: for each unit, the units that it is connected to: those of the layer before, then those of the layer after.
        edge_costs: the same shape: numbers a sample that the connection would send if it were cut.
        layer_units: units of each hidden layer.
    """

    costs: npt.NDArray[np.int64]
    neighbours: tuple[tuple[int, ...], ...]
    edge_costs: tuple[tuple[int, ...], ...]
    layer_units: tuple[int, ...]

    def loads(self, parts: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """(count,) the cost of each part."""
        return np.bincount(parts, weights=self.costs, minlength=count).astype(np.int64)

    def cut(self, parts: npt.NDArray[np.int64]) -> int:
        """What the connections between different parts cost in all."""
        total = 0
        for unit, (others, costs) in enumerate(zip(self.neighbours, self.edge_costs, strict=True)):
            if others:
                total += int(np.asarray(costs)[parts[list(others)] != parts[unit]].sum())
        return total // 2

    def by_layer(self, parts: npt.NDArray[np.int64]) -> Roles:
        """Parts 0 to n - 1 of all units as roles 1 to n of each layer's units."""
        ends = np.cumsum(self.layer_units)
        return tuple(tuple(int(part) + 1 for part in each) for each in np.split(parts, ends[:-1]))


def slice_graph(net: UnitNet) -> SliceGraph:
    """The graph of a network's hidden units."""
    starts = np.cumsum([0, *(layer.units for layer in net.hidden)])
    costs: list[int] = []
    for place, layer in enumerate(net.hidden):
        after = net.layers[place + 1]
        nodes, own = layer.values, 0
        if layer.passed != layer.values:
            nodes, own = nodes + layer.passed, own + layer.values
        if after.flattens:
            nodes, own = nodes + layer.passed, own + layer.passed
        costs += [nodes + own + int(degree) * after.pair_weights * after.values for degree in after.out_degrees(layer.units)]
    upward: list[list[int]] = [[] for _ in costs]
    downward: list[list[int]] = [[] for _ in costs]
    up_costs: list[list[int]] = [[] for _ in costs]
    down_costs: list[list[int]] = [[] for _ in costs]
    for place in range(1, len(net.hidden)):
        layer = net.layers[place]
        for unit in range(layer.units):
            here = int(starts[place]) + unit
            for source in layer.sources_of(unit, net.before(place)):
                there = int(starts[place - 1]) + source
                upward[here].append(there)
                up_costs[here].append(layer.values)
                downward[there].append(here)
                down_costs[there].append(layer.values)
    return SliceGraph(
        np.array(costs, np.int64),
        tuple((*up, *down) for up, down in zip(upward, downward, strict=True)),
        tuple((*up, *down) for up, down in zip(up_costs, down_costs, strict=True)),
        tuple(layer.units for layer in net.hidden),
    )
