"""Layers over stacked parameters: one batched matrix product for all clients, and its gradients written out.

Axes: K clients, B samples, C channels, H height, W width, I inputs, O outputs, D channels times window offsets, S positions
times samples. Rows are (K, B, I). Maps are (K, C, H, W, B): with samples innermost, a convolution is the product
(O, D) x (D, S), its result is the next layer's input as it lies, and windows are gathered in runs of W * B numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from netfl.learning import smooth
from netfl.learning.updates import Update

__all__ = ["AvgPool", "Convolution", "Flatten", "Gelu", "Layer", "Linear", "MaxPool", "Relu", "Tanh"]


class Layer(Protocol):
    """A layer; `weights` are the stacked parameters of the whole model."""

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Any]:
        """The output, and what the gradients need of this pass."""

    def input_gradient(self, weights: Sequence[Tensor], kept: Any, gradient: Tensor) -> Tensor:
        """The gradient of the input, from that of the output, which it may overwrite if `descend`, asked for later, has no use for it."""

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """Give the gradients of the parameters to `update`, if there are any."""


@dataclass(frozen=True)
class Linear:
    """x @ weight^T + bias on rows.

    Args:
        index: of the weight (O, I); the bias (O,) follows it.
        has_bias: whether there is one.
    """

    index: int
    has_bias: bool

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer`; the input is kept."""
        w_KIO = weights[self.index].transpose(1, 2)
        if self.has_bias:
            return torch.baddbmm(weights[self.index + 1].unsqueeze(1), x, w_KIO), x
        return torch.bmm(x, w_KIO), x

    def input_gradient(self, weights: Sequence[Tensor], kept: Tensor, gradient: Tensor) -> Tensor:
        """See `Layer`."""
        return torch.bmm(gradient, weights[self.index])

    def descend(self, kept: Tensor, gradient: Tensor, update: Update) -> None:
        """See `Layer`."""
        update.product(self.index, gradient.transpose(1, 2), kept)
        if self.has_bias:
            update.add(self.index + 1, gradient.sum(1))


@dataclass(frozen=True)
class Convolution:
    """A convolution of maps with zero padding, as a product with gathered windows.

    Args:
        index: of the weight (O, C, kh, kw); the bias (O,) follows it.
        has_bias: whether there is one.
        channels: C of the weight; maps with fewer are filled up with zeros.
        kernel: kh and kw.
        padding: rows and columns of zeros on each side.
        stride: rows and columns from one window to the next.
    """

    index: int
    has_bias: bool
    channels: int
    kernel: tuple[int, int]
    padding: tuple[int, int]
    stride: tuple[int, int] = (1, 1)

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, tuple[Tensor, torch.Size]]:
        """See `Layer`; the windows and the input's shape are kept."""
        K, C, H, W, B = x.shape
        (kh, kw), (ph, pw), (sh, sw) = self.kernel, self.padding, self.stride
        Hp, Wp = H + 2 * ph, W + 2 * pw
        Ho, Wo = (Hp - kh) // sh + 1, (Wp - kw) // sw + 1
        padded = x.new_zeros((K, self.channels, Hp, Wp, B))
        padded[:, :C, ph : ph + H, pw : pw + W].copy_(x)
        windows = _windows(padded, Ho, Wo, self.kernel, self.stride)
        windows_KDS = windows.reshape(K, self.channels * kh * kw, Ho * Wo * B)
        w_KOD = weights[self.index].flatten(2)
        if self.has_bias:
            y_KOS = torch.baddbmm(weights[self.index + 1].unsqueeze(2), w_KOD, windows_KDS)
        else:
            y_KOS = torch.bmm(w_KOD, windows_KDS)
        return y_KOS.view(K, -1, Ho, Wo, B), (windows_KDS, x.shape)

    def input_gradient(self, weights: Sequence[Tensor], kept: tuple[Tensor, torch.Size], gradient: Tensor) -> Tensor:
        """See `Layer`: the sum of the windows' gradients at each place of the padded maps, without the padding."""
        K, C, H, W, B = kept[1]
        Ho, Wo = gradient.shape[2:4]
        (kh, kw), (ph, pw) = self.kernel, self.padding
        w_KDO = weights[self.index].flatten(2).transpose(1, 2)
        g_windows = torch.bmm(w_KDO, gradient.reshape(K, -1, Ho * Wo * B)).view(K, self.channels, kh * kw, Ho, -1)
        Hp, Wp = H + 2 * ph, W + 2 * pw
        maps = gradient.new_zeros((K, self.channels, Hp, Wp, B))
        windows = _windows(maps, Ho, Wo, self.kernel, self.stride)
        places = [place for row in windows.unbind(2) for place in row.unbind(2)]
        # In one call, one window offset after another: places overlap, and the order of a sum decides its bits.
        torch._foreach_add_(places, [each.view(places[0].shape) for each in g_windows.unbind(2)])
        return maps[:, :C, ph : ph + H, pw : pw + W]

    def descend(self, kept: tuple[Tensor, torch.Size], gradient: Tensor, update: Update) -> None:
        """See `Layer`."""
        g_KOS = gradient.flatten(2)
        update.product(self.index, g_KOS, kept[0].transpose(1, 2))
        if self.has_bias:
            update.add(self.index + 1, g_KOS.sum(2))


def _windows(maps: Tensor, Ho: int, Wo: int, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Maps (K, C, H, W, B) seen as windows (K, C, kh, kw, Ho, Wo * B), where these are runs of numbers, else (K, C, kh, kw, Ho, Wo, B)."""
    K, C, H, W, B = maps.shape
    (kh, kw), (sh, sw) = kernel, stride
    row = W * B
    strides = (C * H * row, H * row, row, B, sh * row)
    if sw == 1:
        return maps.as_strided((K, C, kh, kw, Ho, Wo * B), (*strides, 1))
    return maps.as_strided((K, C, kh, kw, Ho, Wo, B), (*strides, sw * B, 1))


@dataclass(frozen=True)
class MaxPool:
    """The maximum of 2x2 windows side by side; of equal values the first in reading order wins, as in PyTorch."""

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, torch.Size]]:
        """See `Layer`; left and right, top and bottom candidates are kept."""
        K, C, H, W, B = x.shape
        sides = x[:, :, : H // 2 * 2, : W // 2 * 2].view(K, C, H // 2 * 2, W // 2, 2, B)
        levels = torch.maximum(sides[..., 0, :], sides[..., 1, :]).view(K, C, H // 2, 2, W // 2, B)
        return torch.maximum(levels[:, :, :, 0], levels[:, :, :, 1]), (sides, levels, x.shape)

    def input_gradient(self, weights: Sequence[Tensor], kept: tuple[Tensor, Tensor, torch.Size], gradient: Tensor) -> Tensor:
        """See `Layer`."""
        sides, levels, shape = kept
        g_levels = levels.new_empty(levels.shape)
        _share(gradient, levels[:, :, :, 0], levels[:, :, :, 1], g_levels[:, :, :, 0], g_levels[:, :, :, 1])
        g_sides = sides.new_empty(sides.shape)
        _share(g_levels.flatten(2, 3), sides[..., 0, :], sides[..., 1, :], g_sides[..., 0, :], g_sides[..., 1, :])
        result = g_sides.flatten(3, 4)
        left_over = (0, 0, 0, shape[3] % 2, 0, shape[2] % 2)
        return functional.pad(result, left_over) if any(left_over) else result

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """See `Layer`; there are none."""


def _share(gradient: Tensor, first: Tensor, second: Tensor, g_first: Tensor, g_second: Tensor) -> None:
    """Hand the gradient of max(first, second) to the second where it is the greater, else to the first."""
    excess = second - first
    torch.ops.aten.threshold_backward.grad_input(gradient, excess, 0, grad_input=excess)
    g_second.copy_(excess)
    torch.sub(gradient, excess, out=g_first)


@dataclass(frozen=True)
class AvgPool:
    """The mean of 2x2 windows side by side."""

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, torch.Size]:
        """See `Layer`; the input's shape is kept."""
        K, C, H, W, B = x.shape
        sides = x[:, :, : H // 2 * 2, : W // 2 * 2].reshape(K, C, H // 2, 2, W // 2, 2, B)
        columns = sides[..., 0, :] + sides[..., 1, :]
        return (columns[:, :, :, 0] + columns[:, :, :, 1]).mul_(0.25), x.shape

    def input_gradient(self, weights: Sequence[Tensor], kept: torch.Size, gradient: Tensor) -> Tensor:
        """See `Layer`."""
        H, W = kept[2:4]
        result = gradient.new_zeros(kept) if H % 2 or W % 2 else gradient.new_empty(kept)
        quarters = gradient * 0.25
        places = result[:, :, : H // 2 * 2, : W // 2 * 2]
        for i in range(2):
            for j in range(2):
                places[:, :, i::2, j::2] = quarters
        return result

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """See `Layer`; there are none."""


@dataclass(frozen=True)
class Relu:
    """max(x, 0).

    Args:
        overwrites: whether the output takes the input's place, which the layer before must not keep.
    """

    overwrites: bool = False

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer`; the output is kept."""
        y = torch.relu_(x) if self.overwrites else torch.relu(x)
        return y, y

    def input_gradient(self, weights: Sequence[Tensor], kept: Tensor, gradient: Tensor) -> Tensor:
        """See `Layer`; it takes the gradient's place where that is as dense as the output."""
        if gradient.is_contiguous():
            torch.ops.aten.threshold_backward.grad_input(gradient, kept, 0, grad_input=gradient)
            return gradient
        result: Tensor = torch.ops.aten.threshold_backward.default(gradient, kept, 0)
        return result

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """See `Layer`; there are none."""


@dataclass(frozen=True)
class Tanh:
    """The hyperbolic tangent."""

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer`; the output is kept."""
        y = torch.tanh(x)
        return y, y

    def input_gradient(self, weights: Sequence[Tensor], kept: Tensor, gradient: Tensor) -> Tensor:
        """See `Layer`."""
        result: Tensor = torch.ops.aten.tanh_backward(gradient, kept)
        return result

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """See `Layer`; there are none."""


@dataclass(frozen=True)
class Gelu:
    """x times the normal distribution function of x; see `netfl.learning.smooth`."""

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer`; the input is kept."""
        return smooth.gelu(x), x

    def input_gradient(self, weights: Sequence[Tensor], kept: Tensor, gradient: Tensor) -> Tensor:
        """See `Layer`."""
        return smooth.gelu_gradient(gradient, kept)

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """See `Layer`; there are none."""


@dataclass(frozen=True)
class Flatten:
    """From maps to rows, filled up with zeros.

    Args:
        width: of the rows.
    """

    width: int

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, torch.Size]:
        """See `Layer`; the input's shape is kept."""
        # Into a new tensor: a copy by `contiguous` has odd strides at axes of length 1, and they pick another kernel.
        features, shape = math.prod(x.shape[1:4]), (len(x), x.shape[4], self.width)
        given = x.flatten(1, 3).transpose(1, 2)
        if features == self.width:
            return x.new_empty(shape).copy_(given), x.shape
        rows = x.new_zeros(shape)
        rows[..., :features].copy_(given)
        return rows, x.shape

    def input_gradient(self, weights: Sequence[Tensor], kept: torch.Size, gradient: Tensor) -> Tensor:
        """See `Layer`."""
        return gradient.new_empty(kept).copy_(gradient[..., : math.prod(kept[1:4])].transpose(1, 2).view(kept))

    def descend(self, kept: Any, gradient: Tensor, update: Update) -> None:
        """See `Layer`; there are none."""
