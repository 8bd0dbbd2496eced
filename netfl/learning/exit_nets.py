"""A chain of layers with side classifiers that answer before its end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ExitNet"]

_SIDE = 2
"""Maps are pooled to at most this many pixels a side before a side classifier: a choice of ours."""


class ExitNet(nn.Module):
    """The layers of a chain, and exits behind some of them; it returns the logits of all exits, the chain's own last.

    A side classifier is one linear layer, behind average pooling to 2 x 2 where there are maps. The layers run in the order in which a
    sample meets them: as far as the first exit, its classifier, as far as the next.

    Args:
        chain: the layers.
        after: behind how many layers each exit leaves, rising.
        sample_shape: of one sample.
        num_classes: how many labels there are.

    Raises:
        ValueError: the chain has no layers behind an exit, or what leaves there is no vector and no maps.
    """

    def __init__(self, chain: nn.Module, after: tuple[int, ...], sample_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        if not isinstance(chain, nn.Sequential):
            raise ValueError(f"expected a model that is a chain of layers, got {type(chain).__name__}")
        if after[-1] >= len(chain):
            raise ValueError(f"after: expected numbers below {len(chain)}, the layers of the model, got {after[-1]}")
        self.after = after
        some = next(chain.parameters())
        x = torch.zeros(1, *sample_shape, device=some.device, dtype=some.dtype)
        heads = []
        with torch.no_grad():
            for place, layer in enumerate(chain, start=1):
                x = layer(x)
                if place in after:
                    heads.append(_head(x, place, num_classes))
        self.trunk = chain
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *sample_shape) to (B, exits * classes)."""
        logits, heads = [], iter(self.heads)
        for place, layer in enumerate(self.trunk, start=1):
            x = layer(x)
            if place in self.after:
                logits.append(next(heads)(x))
        return torch.cat([*logits, x], dim=1)


def _head(x: Tensor, place: int, num_classes: int) -> nn.Sequential:
    if x.dim() == 2:
        return nn.Sequential(nn.Linear(x.shape[1], num_classes))
    if x.dim() == 4:
        height, width = min(x.shape[2], _SIDE), min(x.shape[3], _SIDE)
        return nn.Sequential(nn.AdaptiveAvgPool2d((height, width)), nn.Flatten(), nn.Linear(x.shape[1] * height * width, num_classes))
    raise ValueError(
        f"after: expected maps or a vector behind layer {place}, got {tuple(x.shape[1:])} a sample: an exit cannot leave there"
    )
