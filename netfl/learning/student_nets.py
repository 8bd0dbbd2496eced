"""The modules of NoNN: what a teacher's last convolution sees, students with bridges, and the layer that joins them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Student", "Team", "last_maps"]

_TAIL = (nn.Linear, nn.Flatten, nn.Dropout, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.MaxPool2d)
"""Layers that no maps are taken from: what lies behind the last convolution and its activation."""


def last_maps(module: nn.Module, sample_shape: tuple[int, ...]) -> tuple[nn.Sequential, tuple[int, int, int]]:
    """The layers as far as the last convolution and what follows it before pooling, and the shape of the maps that they make.

    Args:
        module: an `nn.Sequential` from samples to logits.
        sample_shape: of one sample.

    Raises:
        ValueError: the module is no chain of layers, or makes no maps.
    """
    if not isinstance(module, nn.Sequential):
        raise ValueError(f"expected a model that is a chain of layers, got {type(module).__name__}")
    some = next(module.parameters())
    x = torch.zeros(1, *sample_shape, device=some.device, dtype=some.dtype)
    end, shape = 0, (0, 0, 0)
    with torch.no_grad():
        for place, layer in enumerate(module, start=1):
            x = layer(x)
            if x.dim() == 4 and not isinstance(layer, _TAIL):
                end, shape = place, (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    if not end:
        raise ValueError(f"expected a model that makes maps (channels, height, width) of samples of shape {sample_shape}, got none")
    return nn.Sequential(*list(module)[:end]), shape


class Student(nn.Module):
    """A small network whose bridge, a convolution of 1x1, makes the maps that this student learns; what it sends is their means.

    Args:
        trunk: makes maps.
        channels: of these maps.
        width: how many filters of the teacher it learns.
        side: height and width of the teacher's maps.
    """

    def __init__(self, trunk: nn.Sequential, channels: int, width: int, side: tuple[int, int]) -> None:
        super().__init__()
        # One group in place of batch normalisation, whose running means a vector has no place for; as many parameters.
        bridge = [nn.Conv2d(channels, width, 1, bias=False), nn.GroupNorm(1, width), nn.ReLU()]
        self.maps = nn.Sequential(*trunk, *bridge, nn.AdaptiveAvgPool2d(side))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(B, *sample_shape) to (B, width)."""
        features: Tensor = self.pool(self.maps(x))
        return features


class Team(nn.Module):
    """Students side by side, and the linear layer that reads the features of all.

    Args:
        students: none of which reads another.
        join: from all their features, in order, to logits.
    """

    def __init__(self, students: Sequence[Student], join: nn.Linear) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        """(B, *sample_shape) to logits (B, classes)."""
        logits: Tensor = self.join(torch.cat([student(x) for student in self.students], dim=1))
        return logits
