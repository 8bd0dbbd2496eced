"""A convolution and the maximum of 2x2 places of what it makes, over stacked parameters: two layers that belong together.

The four windows behind one maximum overlap: together they are one window with a row and a column more. A product of such windows
with four copies of the weights, each between zeros at its own place, makes the four candidates of every maximum. For a kernel of
5x5 that gathers 36 numbers a maximum in place of 100. It multiplies by zeros too, 1.44 times what is needed, in products whose
shapes suit processors better. Candidates lie in four blocks, so that the maximum and its gradient run along memory.

Axes as in `netfl.learning.layers`, but D is places of the larger window times channels, and S is maxima times samples. Q is the four
candidates times outputs. Planes are maps with even and odd rows and columns apart, (K, 2, 2, C, H / 2, W / 2, B): windows two
places apart are runs of W / 2 * B numbers there.

A step is many short calls, so both layers have rooms: tensors for one shape of step, and all views of them that a pass takes. A chain
at work uses a room again and again (`Reusing`): what a pass made is gone with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from netfl.learning.layers import Layer
from netfl.learning.updates import Update

__all__ = ["Candidates", "MaxOfFour", "Reusing", "Roomy"]


_Sum = tuple[Tensor, Tensor, Tensor, list[tuple[Tensor, Tensor]]]
_Backward = tuple[list[_Sum], list[tuple[Tensor, Tensor]], Tensor]


@dataclass(frozen=True)
class Candidates:
    """A convolution of maps with stride 1 and zero padding, without bias: from (K, C, H, W, B) to (K, 2, 2, O, Ho, Wo, B).

    Ho and Wo are those of the maxima; a row or column of outputs that is left over is not made.

    Args:
        index: of the weight (O, C, kh, kw).
        kernel: kh and kw, odd.
        padding: rows and columns of zeros on each side.
    """

    index: int
    kernel: tuple[int, int]
    padding: tuple[int, int]

    def maxima(self, H: int, W: int) -> tuple[int, int]:
        """Ho and Wo."""
        (kh, kw), (ph, pw) = self.kernel, self.padding
        return (H + 2 * ph - kh + 1) // 2, (W + 2 * pw - kw + 1) // 2

    def room(self, weights: Sequence[Tensor], x: Tensor) -> _RoomOfCandidates:
        """See `Roomy`."""
        return _RoomOfCandidates(self, weights[self.index], x)

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, _RoomOfCandidates]:
        """See `Layer`; the room is kept."""
        room = self.room(weights, x)
        return room.forward(x), room

    def input_gradient(self, weights: Sequence[Tensor], kept: _RoomOfCandidates, gradient: Tensor) -> Tensor:
        """See `Layer`."""
        return kept.input_gradient(gradient)

    def descend(self, kept: _RoomOfCandidates, gradient: Tensor, update: Update) -> None:
        """See `Layer`."""
        update.add(self.index, kept.weight_gradient(gradient))


class _RoomOfCandidates:
    """Room for steps of `Candidates`.

    Args:
        layer: whose.
        weight: (K, O, C, kh, kw); it may move, but stays where it is.
        x: an input of the steps' shape.
    """

    def __init__(self, layer: Candidates, weight: Tensor, x: Tensor) -> None:
        K, C, H, W, B = x.shape
        (kh, kw), (ph, pw), (Ho, Wo) = layer.kernel, layer.padding, layer.maxima(H, W)
        outputs = weight.shape[1]
        # Zeros around the maps, less what no window reaches, for `functional.pad`. Where no pair of rows or columns is cut, they stay in
        # the planes, and maps are copied between them.
        self._sides: tuple[int, ...] = (0, 0, pw, 2 * Wo + kw - 1 - W - pw, ph, 2 * Ho + kh - 1 - H - ph)
        planes = x.new_zeros((K, 2, 2, C, Ho + kh // 2, Wo + kw // 2, B))
        self._begins, self._maps = (0, 0), (K, C, 2 * planes.shape[4], 2 * planes.shape[5], B)
        if not any(side % 2 for side in (*self._sides, H, W)):
            self._sides, self._begins, self._maps = (), (ph // 2, pw // 2), (K, C, H, W, B)
        self._inner = self._pairs_of(planes)
        k, odd_row, odd_column, channel, row, column, _ = planes.stride()
        shape = (K, kh // 2 + 1, 2, kw // 2 + 1, 2, C, Ho, Wo * B)
        self._seen = planes.as_strided(shape, (k, row, odd_row, column, odd_column, channel, row, 1))
        self._windows = x.new_empty(shape)
        self._windows_KDS = self._windows.view(K, (kh + 1) * (kw + 1) * C, Ho * Wo * B)
        self._windows_KSD = self._windows_KDS.transpose(1, 2)
        self._has_windows = False
        # The weights as (O, kh, kw, C), and their four copies.
        self._weight = weight.permute(0, 1, 3, 4, 2)
        self._turned = weight.new_empty(self._weight.shape)
        self._turned_once = self._turned.unsqueeze(1).unsqueeze(1)
        copies = weight.new_zeros((K, 2, 2, outputs, kh + 1, kw + 1, C))
        self._between_zeros = _between_zeros(copies)
        self._w_KQD = copies.view(K, 4 * outputs, -1)
        self._w_KDQ = self._w_KQD.transpose(1, 2)
        self._made_KQS = x.new_empty((K, 4 * outputs, Ho * Wo * B))
        self._made = self._made_KQS.view(K, 2, 2, outputs, Ho, Wo, B)
        self._g_copies = torch.empty_like(self._w_KQD)
        upper, lower = _between_zeros(self._g_copies.view(copies.shape)).unbind(1)
        self._g_quarters = [*upper.unbind(1), *lower.unbind(1)]
        self._g_turned = torch.empty_like(self._turned)
        self._g_weight = self._g_turned.permute(0, 1, 4, 2, 3)
        self._backward: _Backward | None = None

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, self._sides) if self._sides else x
        self._inner.copy_(padded.view(self._inner.shape))
        self._windows.copy_(self._seen)
        self._turned.copy_(self._weight)
        self._between_zeros.copy_(self._turned_once)
        self._has_windows = True
        torch.bmm(self._w_KQD, self._windows_KDS, out=self._made_KQS)
        return self._made

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """The gradients of the four copies, added up."""
        if self._has_windows:
            torch.bmm(gradient.view(self._made_KQS.shape), self._windows_KSD, out=self._g_copies)
        first, second, third, fourth = self._g_quarters
        torch.add(first, second, out=self._g_turned).add_(third).add_(fourth)
        return self._g_weight

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """The sum of the windows' gradients at each place of the planes, put together again."""
        if self._backward is None:
            self._backward = self._room_for_gradient(gradient)
        sums, g_pairs, g_maps = self._backward
        g_KQS = gradient.view(self._made_KQS.shape)
        torch.bmm(g_KQS, self._windows_KSD, out=self._g_copies)
        self._has_windows = False  # their gradients take their place
        torch.bmm(self._w_KDQ, g_KQS, out=self._windows_KDS)
        for begin, end, first, others in sums:
            begin.copy_(first)
            end.zero_()
            for place, part in others:
                place.add_(part)
        for place, part in g_pairs:
            place.copy_(part)
        return functional.pad(g_maps, [-side for side in self._sides]) if self._sides else g_maps

    def _room_for_gradient(self, like: Tensor) -> _Backward:
        """Only the first layer does without."""
        g_windows = self._windows
        K, rows, _, columns, _, C, Ho, _ = g_windows.shape
        B = self._maps[-1]
        # Rows first, then columns: that is a third of the additions of single places.
        g_lines = like.new_empty((K, 2, columns, 2, C, Ho + rows - 1, g_windows.shape[-1]))
        g_planes = like.new_empty((K, 2, 2, C, g_lines.shape[5], g_lines.shape[6] + (columns - 1) * B))
        sums = [_sum(g_windows.unbind(1), g_lines, 5, 1), _sum(g_lines.unbind(2), g_planes, 5, B)]
        g_maps = like.new_empty(self._maps)
        unfolded = g_planes.view(*g_planes.shape[:5], -1, B)
        # Even columns, then odd ones: of both at once, a copy runs along two columns only.
        g_pairs = list(zip(g_maps.view(self._inner.shape).unbind(5), self._pairs_of(unfolded).unbind(5), strict=True))
        return sums, g_pairs, g_maps

    def _pairs_of(self, planes: Tensor) -> Tensor:
        """Planes without what is around the maps, (K, C, H / 2, 2, W / 2, 2, B)."""
        inner = planes.narrow(4, self._begins[0], self._maps[2] // 2).narrow(5, self._begins[1], self._maps[3] // 2)
        return inner.permute(0, 3, 4, 1, 5, 2, 6)


def _sum(parts: Sequence[Tensor], total: Tensor, axis: int, step: int) -> _Sum:
    """How to add up parts, each of which begins a step later on an axis: a copy of the first, zeros behind it, and additions."""
    length = parts[0].shape[axis]
    begin, end = total.narrow(axis, 0, length), total.narrow(axis, length, total.shape[axis] - length)
    return begin, end, parts[0], [(total.narrow(axis, number * step, length), part) for number, part in enumerate(parts) if number]


def _between_zeros(copies: Tensor) -> Tensor:
    """Copies (K, 2, 2, O, kh + 1, kw + 1, C) seen without the zeros, (K, 2, 2, O, kh, kw, C): each starts at its own row and column."""
    K, _, _, outputs, height, width, C = copies.shape
    k, below, right, output, row, column, _ = copies.stride()
    return copies.as_strided((K, 2, 2, outputs, height - 1, width - 1, C), (k, below + row, right + column, output, row, column, 1))


@dataclass(frozen=True)
class MaxOfFour:
    """The maximum of four candidates, plus the convolution's bias; of equal candidates the first in reading order wins, as in PyTorch.

    Args:
        bias: index of the bias (O,); None for none.
    """

    bias: int | None

    def room(self, weights: Sequence[Tensor], x: Tensor) -> _RoomOfMaxima:
        """See `Roomy`."""
        return _RoomOfMaxima(None if self.bias is None else weights[self.bias], x)

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, _RoomOfMaxima]:
        """See `Layer`; the room is kept, and the candidates in it."""
        room = self.room(weights, x)
        return room.forward(x), room

    def input_gradient(self, weights: Sequence[Tensor], kept: _RoomOfMaxima, gradient: Tensor) -> Tensor:
        """See `Layer`; it takes the candidates' place."""
        return kept.input_gradient(gradient)

    def descend(self, kept: _RoomOfMaxima, gradient: Tensor, update: Update) -> None:
        """See `Layer`."""
        if self.bias is not None:
            update.add(self.bias, gradient.flatten(2).sum(2))


class _RoomOfMaxima:
    """Room for steps of `MaxOfFour`.

    Args:
        bias: (K, O); it may move, but stays where it is.
        x: the candidates, whose place is always the same.
    """

    def __init__(self, bias: Tensor | None, x: Tensor) -> None:
        self.x = x
        self._bias = None if bias is None else bias.view(*bias.shape, 1, 1, 1)
        self._left, self._right = x.unbind(2)
        self._rows = torch.empty_like(self._left)
        self._upper, self._lower = self._rows.unbind(1)
        self._y = torch.empty_like(self._upper)

    def forward(self, x: Tensor) -> Tensor:
        assert x is self.x
        torch.maximum(self._left, self._right, out=self._rows)
        torch.maximum(self._upper, self._lower, out=self._y)
        return self._y if self._bias is None else self._y.add_(self._bias)

    def input_gradient(self, gradient: Tensor) -> Tensor:
        _share(gradient, self._upper, self._lower)
        _share(self._rows, self._left, self._right)
        return self.x


def _share(gradient: Tensor, first: Tensor, second: Tensor) -> None:
    """Put in place of two numbers the gradients that max(first, second) gives them: all to the second if it is the greater, else to the first."""
    second.sub_(first)
    torch.ops.aten.threshold_backward.grad_input(gradient, second, 0, grad_input=second)
    torch.sub(gradient, second, out=first)


class Room(Protocol):
    """What a layer needs for steps of one shape."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Layer`."""


class Roomy(Layer, Protocol):
    """A layer with rooms."""

    def room(self, weights: Sequence[Tensor], x: Tensor) -> Room:
        """Room for steps with these weights and inputs like this one."""


class Reusing:
    """A layer with rooms at work: the last room serves again for steps of its shape with its weights.

    Args:
        layer: which.
    """

    def __init__(self, layer: Roomy) -> None:
        self._layer = layer
        self._room: Room | None = None
        self._weights: Sequence[Tensor] = ()
        self._shape = torch.Size()
        self.input_gradient = layer.input_gradient
        self.descend = layer.descend

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Room]:
        """See `Layer`."""
        if self._room is None or weights is not self._weights or x.shape != self._shape:
            self._room, self._weights, self._shape = self._layer.room(weights, x), weights, x.shape
        return self._room.forward(x), self._room
