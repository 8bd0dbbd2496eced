"""Layers that torch lacks, for the models of this package.

torch.fx traces into each of them, none works in place, and none has a buffer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "LastStep", "Normed", "Positions", "PreActivation", "Residual", "TableConvolution", "TokenEmbedding"]


class Residual(nn.Module):
    """body(x) + shortcut(x), then ReLU (He, Zhang, Ren, Sun: "Deep residual learning for image recognition", CVPR 2016)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the shape that body and shortcut agree on."""
        return functional.relu(self.body(x) + self.shortcut(x))


class PreActivation(nn.Module):
    """A residual block that activates first: y = activation(x), then body(y) + x, or + shortcut(y) where the shape changes.

    He et al., "Identity mappings in deep residual networks", ECCV 2016, as used by Zagoruyko and Komodakis, BMVC 2016.
    """

    def __init__(self, activation: nn.Module, body: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.activation = activation
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the shape that body and shortcut agree on."""
        y = self.activation(x)
        total: Tensor = self.body(y) + (x if self.shortcut is None else self.shortcut(y))
        return total


class Normed(nn.Module):
    """x + body(norm(x)): a residual step of a pre-norm transformer (Xiong et al., ICML 2020)."""

    def __init__(self, norm: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) to (B, L, W)."""
        total: Tensor = x + self.body(self.norm(x))
        return total


class TokenEmbedding(nn.Embedding):
    """An embedding that also takes tokens that came as floats: the tracer and the wire carry float32, exact below 2^24."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, L) to (B, L, W)."""
        return functional.embedding(x.long(), self.weight)


class Positions(nn.Module):
    """Adds a learned vector to each position."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        # The standard deviation is that of GPT-2's positions (Radford et al., 2019, published code).
        self.vectors = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) to (B, L, W)."""
        return x + self.vectors


class Attention(nn.Module):
    """Scaled dot-product self-attention with several heads (Vaswani et al., NeurIPS 2017), every position seeing all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = 1 / math.sqrt(width // heads)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) to (B, L, W)."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )  # each (B, heads, L, W / heads)
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.scale, dim=-1)
        mixed: Tensor = self.output((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class LastStep(nn.Module):
    """The last position of a sequence; of a recurrent network's outputs, where one is given to run first."""

    def __init__(self, recurrent: nn.Module | None = None) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) to (B, W')."""
        if self.recurrent is not None:
            x = self.recurrent(x)[0]
        return x[:, -1]


class TableConvolution(nn.Module):
    """A convolution without padding in which each map sees only the maps that a table names for it.

    Args:
        table: for each map, the maps before it that it sees; equally many for all.
        kernel: side of the kernels.
    """

    def __init__(self, table: tuple[tuple[int, ...], ...], kernel: int) -> None:
        super().__init__()
        self.table = table
        connections = len(table[0])
        self.weight = nn.Parameter(torch.empty(len(table), connections, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(len(table)))
        bound = 1 / math.sqrt(connections * kernel * kernel)  # that of torch's own convolutions
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, maps, H - kernel + 1, W - kernel + 1)."""
        seen = x[:, [channel for row in self.table for channel in row]]
        return functional.conv2d(seen, self.weight, self.bias, groups=len(self.table))
