"""A network that is trained in slices for real: each piece holds only its own weights, and pieces know each other by messages alone.

What the workload simulates, this does: the same messages in the same order, with the numbers in them. It proves that training in slices
is ordinary training. Per-slice weight blocks, partial sums and errors are those of `netfl.learning.slicing.units`.

Shapes: B samples, U units after a boundary, S units of one piece before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from netfl.learning.models import Model
from netfl.learning.slicing.reading import Stage, read_stages
from netfl.learning.slicing.units import DOMINATOR, UnitNet
from netfl.learning.zoo.layers import TableConvolution

__all__ = ["Note", "Piece", "SlicedNet"]

Vector = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Note:
    """One message between two pieces.

    Args:
        source: the role that sends.
        target: the role that receives.
        place: of the boundary, 0 after the input layer.
        direction: sums go forwards, errors backwards.
        units: (n,) of the layer after the boundary, that the numbers belong to.
        numbers: (B, n, ...) a sum or an error for each.
    """

    source: int
    target: int
    place: int
    direction: Literal["sums", "errors"]
    units: tuple[int, ...]
    numbers: Tensor


@dataclass(eq=False)
class Piece:
    """What one role holds and knows.

    Args:
        role: 0 for the dominator.
        units: place of a layer to its units there; -1 is the input layer.
        blocks: place of a boundary to the weights (U, S, ...) that lead from its units over it; 0 where units are not connected.
        connected: the same to (U, S) bool, which are.
        biases: place of a layer to the biases (n,) of its units there.
    """

    role: int
    units: dict[int, tuple[int, ...]]
    blocks: dict[int, Tensor] = field(default_factory=dict)
    connected: dict[int, Tensor] = field(default_factory=dict)
    biases: dict[int, Tensor] = field(default_factory=dict)
    _sums: dict[int, Tensor] = field(default_factory=dict)
    _partial: dict[int, Tensor] = field(default_factory=dict)
    block_gradients: dict[int, Tensor] = field(default_factory=dict)
    bias_gradients: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, inputs: Tensor) -> None:
        """The dominator gets a batch (B, inputs, ...)."""
        self._sums[-1] = inputs

    def multiply(self, place: int, stage: Stage, before: Stage | None) -> Tensor:
        """What its units give (B, U, ...) for every unit after the boundary."""
        x = self._sums[place - 1]
        for layer in before.local if before is not None else ():
            x = layer(x)
        self._partial[place] = _product(stage, x, self.blocks[place])
        return self._partial[place].detach()

    def reaches(self, place: int, units: tuple[int, ...]) -> tuple[int, ...]:
        """Those of some units after the boundary that any of its own units leads to."""
        reached = self.connected[place].any(1)
        return tuple(unit for unit in units if reached[unit])

    def add_up(self, place: int, notes: list[Note], own: Tensor | None) -> None:
        """The sums of its units: bias, and what all holders before the boundary gave, in the order of their roles."""
        units = self.units[place]
        position = {unit: index for index, unit in enumerate(units)}
        parts: dict[int, tuple[tuple[int, ...], Tensor]] = {note.source: (note.units, note.numbers) for note in notes}
        if own is not None:
            parts[self.role] = (units, own[:, list(units)])
        first = next(iter(parts.values()))[1]
        total = first.new_zeros((first.shape[0], len(units), *first.shape[2:]))
        for role in sorted(parts):
            some, numbers = parts[role]
            total[:, [position[unit] for unit in some]] += numbers
        if place in self.biases:
            total += self.biases[place].view(1, -1, *([1] * (total.dim() - 2)))
        self._sums[place] = total.requires_grad_()

    def sums(self, place: int) -> Tensor:
        """What its units summed, (B, n, ...)."""
        return self._sums[place]

    def errors_before(self, place: int, errors: Tensor) -> Tensor | None:
        """From the errors (B, U, ...) after a boundary to those (B, S, ...) of its own units before it; None of inputs."""
        wanted = [self.blocks[place]] if place == 0 else [self.blocks[place], self._sums[place - 1]]
        gradients = torch.autograd.grad(self._partial.pop(place), wanted, errors)
        self.block_gradients[place] = gradients[0]
        if place == 0:
            return None
        self.keep_bias_gradient(place - 1, gradients[1])
        return gradients[1]

    def keep_bias_gradient(self, place: int, errors: Tensor) -> None:
        """The gradient of its biases, from its units' errors."""
        self.bias_gradients[place] = errors.sum([0, *range(2, errors.dim())])


class SlicedNet:
    """Pieces, and the messages between them.

    Args:
        model: what to slice.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        roles: of each unit of each hidden layer.
        vector: (P,) the model; its type is that of all numbers.

    Raises:
        ValueError: the model cannot be sliced.
    """

    def __init__(
        self, model: Model, sample_shape: tuple[int, ...], num_classes: int, roles: tuple[tuple[int, ...], ...], vector: Vector
    ) -> None:
        self.net, self._stages = read_stages(model, sample_shape, num_classes)
        held: dict[int, dict[int, list[int]]] = {DOMINATOR: {-1: list(range(self.net.inputs)), len(roles): list(range(num_classes))}}
        for place, layer in enumerate(roles):
            for unit, role in enumerate(layer):
                held.setdefault(role, {}).setdefault(place, []).append(unit)
        self.pieces = {role: Piece(role, {place: tuple(units) for place, units in held[role].items()}) for role in sorted(held)}
        self._rows = isinstance(self._stages[0].linear, nn.Linear)
        for piece in self.pieces.values():
            self._load(piece, vector)

    def _load(self, piece: Piece, vector: Vector) -> None:
        """Give a piece its weights."""
        net: UnitNet = self.net
        for place, layer in enumerate(net.layers):
            if place in piece.units and layer.bias_start is not None:
                places = layer.bias_start + np.array(piece.units[place])
                piece.biases[place] = torch.from_numpy(vector[places])
            if place - 1 in piece.units:
                units, sources, places = _pairs_of(net, place, piece)
                block = np.zeros((layer.units, len(piece.units[place - 1]), layer.pair_weights), vector.dtype)
                block[units, sources] = vector[places]
                connected = np.zeros(block.shape[:2], bool)
                connected[units, sources] = True
                piece.connected[place] = torch.from_numpy(connected)
                piece.blocks[place] = torch.from_numpy(block).view(*block.shape[:2], *_kernel(self._stages[place])).requires_grad_()

    def step(self, inputs: Tensor, labels: Tensor) -> tuple[float, list[Note]]:
        """One batch, forwards and backwards: the mean loss, and every message in the order in which it is sent.

        Args:
            inputs: (B, *sample_shape).
            labels: (B,).
        """
        notes: list[Note] = []
        dominator = self.pieces[DOMINATOR]
        dominator.begin(inputs.flatten(1) if self._rows else inputs)
        for place in range(len(self._stages)):
            notes += self._forwards(place)
        last = len(self._stages) - 1
        logits = dominator.sums(last)
        loss = functional.cross_entropy(logits, labels)
        (errors,) = torch.autograd.grad(loss, logits)
        dominator.keep_bias_gradient(last, errors)
        known = {DOMINATOR: errors}
        for place in reversed(range(len(self._stages))):
            sent, known = self._backwards(place, known)
            notes += sent
        return float(loss.detach()), notes

    def _forwards(self, place: int) -> list[Note]:
        stage, before = self._stages[place], self._stages[place - 1] if place else None
        products = {role: piece.multiply(place, stage, before) for role, piece in self.pieces.items() if place - 1 in piece.units}
        notes = []
        for source, product in products.items():
            for target, piece in self.pieces.items():
                units = self.pieces[source].reaches(place, piece.units.get(place, ()))
                if target != source and units:
                    notes.append(Note(source, target, place, "sums", units, product[:, list(units)].clone()))
        for role, piece in self.pieces.items():
            if place in piece.units:
                piece.add_up(place, [note for note in notes if note.target == role], products.get(role))
        return notes

    def _backwards(self, place: int, known: dict[int, Tensor]) -> tuple[list[Note], dict[int, Tensor]]:
        """Errors over one boundary: the messages, and the errors of the holders before it."""
        notes, found = [], {}
        for source, piece in self.pieces.items():
            if place - 1 not in piece.units:
                continue
            first = next(iter(known.values()))
            errors = first.new_zeros((first.shape[0], self.net.layers[place].units, *first.shape[2:]))
            for target, holder in self.pieces.items():
                units = piece.reaches(place, holder.units.get(place, ()))
                if not units:
                    continue
                mine = known[target][:, [holder.units[place].index(unit) for unit in units]]
                if target != source:
                    notes.append(Note(target, source, place, "errors", units, mine.clone()))
                errors[:, list(units)] = mine
            before = piece.errors_before(place, errors)
            if before is not None:
                found[source] = before
        return notes, found

    def descend(self, learning_rate: float) -> None:
        """Every holder moves its own weights against their gradients."""
        with torch.no_grad():
            for piece in self.pieces.values():
                for place, gradient in piece.block_gradients.items():
                    mask = piece.connected[place].view(*gradient.shape[:2], *([1] * (gradient.dim() - 2)))
                    piece.blocks[place] -= learning_rate * gradient * mask
                for place, gradient in piece.bias_gradients.items():
                    if place in piece.biases:
                        piece.biases[place] -= learning_rate * gradient

    def vector(self, of: Literal["weights", "gradients"] = "weights") -> Vector:
        """All pieces' weights, or gradients, as one vector (P,): what no device could make."""
        dominator = self.pieces[DOMINATOR]
        found = np.zeros(self.net.num_parameters, dominator.blocks[0].detach().numpy().dtype)
        for piece in self.pieces.values():
            for place, layer in enumerate(self.net.layers):
                biases = piece.biases if of == "weights" else piece.bias_gradients
                if place in piece.units and layer.bias_start is not None:
                    found[layer.bias_start + np.array(piece.units[place])] = biases[place].numpy()
                if place - 1 in piece.units:
                    blocks = piece.blocks if of == "weights" else piece.block_gradients
                    units, sources, places = _pairs_of(self.net, place, piece)
                    block = blocks[place].detach().numpy().reshape(layer.units, -1, layer.pair_weights)
                    found[places] = block[units, sources]
        return found


def _pairs_of(net: UnitNet, place: int, piece: Piece) -> tuple[Any, Any, Any]:
    """The connections from a piece's units over a boundary: (n,) units, (n,) local numbers of the sources, (n, pair_weights) places."""
    units, sources = net.pairs(place)
    local = np.full(net.before(place), -1)
    local[list(piece.units[place - 1])] = np.arange(len(piece.units[place - 1]))
    own = local[sources] >= 0
    return units[own], local[sources[own]], net.weight_places(place)[own]


def _kernel(stage: Stage) -> tuple[int, ...]:
    """The shape of the weights between two units."""
    if isinstance(stage.linear, nn.Linear):
        return (math.prod(stage.source_shape),)
    weight = stage.linear.weight
    assert isinstance(weight, Tensor)
    return tuple(weight.shape[2:])


def _product(stage: Stage, x: Tensor, block: Tensor) -> Tensor:
    """(B, S, ...) through the weights (U, S, ...) to (B, U, ...), without biases."""
    linear = stage.linear
    if isinstance(linear, nn.Linear):
        return functional.linear(x.flatten(1), block.flatten(1))
    if isinstance(linear, TableConvolution):
        return functional.conv2d(x, block)
    assert isinstance(linear, nn.Conv2d) and not isinstance(linear.padding, str)
    return functional.conv2d(x, block, stride=linear.stride, padding=linear.padding, dilation=linear.dilation)
