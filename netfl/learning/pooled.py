"""A convolution and the maximum of 2x2 places of what it makes, over stacked parameters: two layers that belong together.

The four windows behind one maximum overlap: together they are one window with a row and a column more. A product of such windows
with four copies of the weights, each between zeros at its own place, makes the four candidates of every maximum. For a kernel of
5x5 that gathers 36 numbers a maximum in place of 100. It multiplies by zeros too, 1.44 times what is needed, in products whose
shapes suit processors better. Candidates lie in four blocks, so that the maximum and its gradient run along memory.

Axes as in `netfl.learning.layers`, but D is places of the larger window times channels, and S is maxima times samples. Q is the four
candidates times outputs. Planes are maps with even and odd rows and columns apart, (K, 2, 2, C, H / 2, W / 2, B): windows two
places apart are runs of W / 2 * B numbers there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from netfl.learning.updates import Update

__all__ = ["Candidates", "MaxOfFour"]

Kept = tuple[Tensor, Tensor, torch.Size]


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

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Kept]:
        """See `Layer`; the windows, the copies of the weights and the input's shape are kept."""
        K, C, H, W, B = x.shape
        (kh, kw), (Ho, Wo) = self.kernel, self.maxima(H, W)
        padded = _padded(x, self._sides(H, W)).view(K, C, Ho + kh // 2, 2, Wo + kw // 2, 2, B)
        planes = padded.permute(0, 3, 5, 1, 2, 4, 6).contiguous()
        k, odd_row, odd_column, channel, row, column, _ = planes.stride()
        windows = planes.as_strided(
            (K, kh // 2 + 1, 2, kw // 2 + 1, 2, C, Ho, Wo * B), (k, row, odd_row, column, odd_column, channel, row, 1)
        )
        windows_KDS = windows.reshape(K, (kh + 1) * (kw + 1) * C, Ho * Wo * B)
        w_KQD = self._copies(weights[self.index])
        return torch.bmm(w_KQD, windows_KDS).view(K, 2, 2, -1, Ho, Wo, B), (windows_KDS, w_KQD, x.shape)

    def input_gradient(self, weights: Sequence[Tensor], kept: Kept, gradient: Tensor) -> Tensor:
        """See `Layer`: the sum of the windows' gradients at each place of the planes, put together again."""
        _, w_KQD, (K, C, H, W, B) = kept
        (kh, kw), (Ho, Wo) = self.kernel, gradient.shape[4:6]
        g_KDS = torch.bmm(w_KQD.transpose(1, 2), gradient.view(K, -1, Ho * Wo * B))
        g_windows = g_KDS.view(K, kh // 2 + 1, 2, kw // 2 + 1, 2, C, Ho, Wo * B)
        # Rows first, then columns: that is a third of the additions of single places.
        lines = gradient.new_zeros((K, 2, kw // 2 + 1, 2, C, Ho + kh // 2, Wo * B))
        for i, each in enumerate(g_windows.unbind(1)):
            lines.narrow(5, i, Ho).add_(each)
        planes = gradient.new_zeros((K, 2, 2, C, Ho + kh // 2, (Wo + kw // 2) * B))
        for j, each in enumerate(lines.unbind(2)):
            planes.narrow(5, j * B, Wo * B).add_(each)
        padded = planes.view(K, 2, 2, C, Ho + kh // 2, Wo + kw // 2, B).permute(0, 3, 4, 1, 5, 2, 6).flatten(4, 5).flatten(2, 3)
        return _padded(padded, [-side for side in self._sides(H, W)])

    def descend(self, kept: Kept, gradient: Tensor, update: Update) -> None:
        """See `Layer`: the gradients of the four copies, added up."""
        windows_KDS, (K, C) = kept[0], kept[2][:2]
        kh, kw = self.kernel
        g_copies = torch.bmm(gradient.view(K, -1, windows_KDS.shape[2]), windows_KDS.transpose(1, 2))
        upper, lower = _between_zeros(g_copies.view(K, 2, 2, -1, kh + 1, kw + 1, C)).unbind(1)
        g_weight = torch.add(*upper.unbind(1))
        for each in lower.unbind(1):
            g_weight.add_(each)
        update.add(self.index, g_weight.permute(0, 1, 4, 2, 3))

    def _sides(self, H: int, W: int) -> tuple[int, ...]:
        """What to add around maps for `functional.pad`: the padding, less what no window reaches."""
        (kh, kw), (ph, pw), (Ho, Wo) = self.kernel, self.padding, self.maxima(H, W)
        return 0, 0, pw, 2 * Wo + kw - 1 - W - pw, ph, 2 * Ho + kh - 1 - H - ph

    def _copies(self, weight: Tensor) -> Tensor:
        """The four copies of the weights (K, Q, D)."""
        K, outputs, C, kh, kw = weight.shape
        copies = weight.new_zeros((K, 2, 2, outputs, kh + 1, kw + 1, C))
        _between_zeros(copies).copy_(weight.permute(0, 1, 3, 4, 2).contiguous().unsqueeze(1).unsqueeze(1))
        return copies.view(K, 4 * outputs, -1)


def _padded(maps: Tensor, sides: Sequence[int]) -> Tensor:
    return functional.pad(maps, sides) if any(sides) else maps


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

    def forward(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer`; the candidates are kept."""
        y = x.flatten(1, 2).amax(1)
        if self.bias is not None:
            y.add_(weights[self.bias].view(*y.shape[:2], 1, 1, 1))
        return y, x

    def input_gradient(self, weights: Sequence[Tensor], kept: Tensor, gradient: Tensor) -> Tensor:
        """See `Layer`; it takes the candidates' place."""
        left, right = kept.unbind(2)
        rows = torch.maximum(left, right)
        _share(gradient, *rows.unbind(1))
        _share(rows, left, right)
        return kept

    def descend(self, kept: Tensor, gradient: Tensor, update: Update) -> None:
        """See `Layer`."""
        if self.bias is not None:
            update.add(self.bias, gradient.flatten(2).sum(2))


def _share(gradient: Tensor, first: Tensor, second: Tensor) -> None:
    """Put in place of two numbers the gradients that max(first, second) gives them: all to the second if it is the greater, else to the first."""
    second.sub_(first)
    torch.ops.aten.threshold_backward.grad_input(gradient, second, 0, grad_input=second)
    torch.sub(gradient, second, out=first)
