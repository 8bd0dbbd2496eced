"""A network as layers of units: what can be dealt to devices, and which weight belongs to whom.

A unit is a neuron or, in a convolutional layer, a feature map (a choice: the paper deals the single neurons of maps). It takes one
partial sum a value from every device that holds a unit which leads to it, adds them and its bias, activates, pools, and multiplies by the
weights that lead out of it. So a weight belongs to the holder of the unit that it leads out of, a bias to the holder of its unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

__all__ = ["DOMINATOR", "UnitLayer", "UnitNet"]

DOMINATOR = 0
"""The role that holds data, input layer and output layer."""


@dataclass(frozen=True, kw_only=True)
class UnitLayer:
    """The units of one layer, and the weights that lead into it.

    Args:
        units: how many.
        values: numbers that a unit sums for each sample: 1 of a neuron, height x width of a map before pooling.
        passed: numbers that it hands on: after pooling, where there is some.
        pair_weights: weights between two units that are connected: 1 for neurons, the kernel's for maps.
        sources: for each unit, the units of the layer before that lead to it, or None where all do.
        weight_start: place of the layer's weights in the model's vector: unit by unit, source by source.
        bias_start: place of its biases; None without.
        flattens: whether maps of the layer before become single neurons here.
    """

    units: int
    values: int
    passed: int
    pair_weights: int
    sources: tuple[tuple[int, ...], ...] | None
    weight_start: int
    bias_start: int | None
    flattens: bool = False

    def sources_of(self, unit: int, before: int) -> tuple[int, ...] | range:
        """The units of the layer before, of which there are so many, that lead to one."""
        return range(before) if self.sources is None else self.sources[unit]

    def num_pairs(self, before: int) -> int:
        """Connected pairs of units with the layer before, of which there are so many units."""
        return self.units * before if self.sources is None else sum(map(len, self.sources))

    def out_degrees(self, before: int) -> npt.NDArray[np.int64]:
        """(before,) to how many of these units each unit of the layer before leads."""
        if self.sources is None:
            return np.full(before, self.units, np.int64)
        return np.bincount(np.concatenate([np.asarray(each, np.int64) for each in self.sources]), minlength=before)


@dataclass(frozen=True, kw_only=True)
class UnitNet:
    """A network that can be sliced.

    Args:
        inputs: units of the input layer: values of a sample, or its channels.
        input_values: numbers of one of them.
        layers: hidden layers in order, then the output layer.
        num_parameters: length of the model's vector.
    """

    inputs: int
    input_values: int
    layers: tuple[UnitLayer, ...]
    num_parameters: int

    @property
    def hidden(self) -> tuple[UnitLayer, ...]:
        """The layers that are sliced."""
        return self.layers[:-1]

    @property
    def num_hidden_units(self) -> int:
        """How many units there are to deal."""
        return sum(layer.units for layer in self.hidden)

    def before(self, place: int) -> int:
        """How many units the layer before a layer has."""
        return self.layers[place - 1].units if place else self.inputs

    @cached_property
    def num_nodes(self) -> int:
        """Nodes as the paper counts them: pooled and flattened values are nodes of their own."""
        count = self.inputs * self.input_values
        for place, layer in enumerate(self.layers):
            count += layer.units * layer.values
            if layer.passed != layer.values:
                count += layer.units * layer.passed
            if layer.flattens and place:
                count += self.layers[place - 1].units * self.layers[place - 1].passed
        return count

    @cached_property
    def num_connections(self) -> int:
        """Weights as the paper counts them: one for each connection of two nodes, shared or not; none for biases.

        The paper's figure for its convolutional network leaves the output layer out, that for its perceptron does not.
        """
        count = 0
        for place, layer in enumerate(self.layers):
            count += layer.num_pairs(self.before(place)) * layer.pair_weights * layer.values
            if layer.passed != layer.values:
                count += layer.units * layer.values
            if layer.flattens and place:
                count += self.layers[place - 1].units * self.layers[place - 1].passed
        return count

    def weight_places(self, place: int) -> npt.NDArray[np.int64]:
        """(pairs, pair_weights) places in the model's vector of a layer's weights, unit by unit, source by source."""
        layer = self.layers[place]
        count = layer.num_pairs(self.before(place)) * layer.pair_weights
        return np.arange(layer.weight_start, layer.weight_start + count).reshape(-1, layer.pair_weights)

    def pairs(self, place: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(pairs,) units of a layer and (pairs,) their sources, in the order of the weights."""
        layer, before = self.layers[place], self.before(place)
        if layer.sources is None:
            return np.repeat(np.arange(layer.units), before), np.tile(np.arange(before), layer.units)
        lengths = [len(each) for each in layer.sources]
        return np.repeat(np.arange(layer.units), lengths), np.concatenate([np.asarray(each, np.int64) for each in layer.sources])

    def owners(self, roles: tuple[tuple[int, ...], ...]) -> npt.NDArray[np.int16]:
        """(P,) the role that holds each parameter.

        Args:
            roles: of each unit of each hidden layer, 1 to n.
        """
        owners = np.zeros(self.num_parameters, np.int16)
        for place, layer in enumerate(self.layers):
            if place:
                _, sources = self.pairs(place)
                owners[self.weight_places(place)] = np.asarray(roles[place - 1], np.int16)[sources][:, None]
            if layer.bias_start is not None and place < len(roles):
                owners[layer.bias_start : layer.bias_start + layer.units] = roles[place]
        return owners
