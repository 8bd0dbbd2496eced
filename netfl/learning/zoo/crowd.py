"""The networks of the Crowdlearning paper (Chen et al., "Crowdlearning: Crowded deep learning with data privacy", SECON 2018)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import annotated_types

from netfl.learning.models import Mlp

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SliceNetCnn", "SliceNetMlp"]

Positive = Annotated[int, annotated_types.Ge(1)]


@dataclass(frozen=True, kw_only=True)
class SliceNetMlp(Mlp):
    """The Crowdlearning paper's perceptron: 784-400-200-100-10 on MNIST, 1,494 nodes and 414,600 weights.

    With biases and without the paper's batch normalisation, whose running means a vector of parameters has no place for.

    Args:
        hidden: neurons of each hidden layer.
    """

    hidden: Annotated[tuple[Positive, ...], annotated_types.MinLen(1)] = (400, 200, 100)


@dataclass(frozen=True, kw_only=True)
class SliceNetCnn:
    """The Crowdlearning paper's convolutional network: on CIFAR-10 38,154 nodes and 2,039,936 connections before the output layer.

    Two convolutions without padding, each with ReLU and max-pooling by 2, whose maps see only some of the maps before them; then linear
    layers. The paper prints no kernels: 5 x 5, 16 and 128 maps and 1 and 4 connections are the figures that give its counts. A layer
    whose maps are one value wide does not pool. For digits: `kernel: 3`.

    Args:
        maps: of the two convolutions.
        kernel: side of the kernels.
        connections: to how many maps before it each map of a convolution is joined, at most all.
        hidden: neurons of each hidden linear layer.
        table: seed of the draw of those maps.
    """

    maps: tuple[Positive, Positive] = (16, 128)
    kernel: Positive = 5
    connections: tuple[Positive, Positive] = (1, 4)
    hidden: tuple[Positive, ...] = (128, 64)
    table: Annotated[int, annotated_types.Ge(0)] = 0

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
        """A new module; see `Model.build`.

        Raises:
            ValueError: the samples are no maps, or too small.
        """
        from torch import nn

        from netfl.learning.zoo.layers import TableConvolution

        if len(sample_shape) != 3:
            raise ValueError(f"slicenet_cnn needs samples of shape (channels, height, width), got {sample_shape}")
        channels, height, width = sample_shape
        drawn = random.Random(self.table)
        layers: list[nn.Module] = []
        for maps, connections in zip(self.maps, self.connections, strict=True):
            if min(height, width) < self.kernel:
                raise ValueError(f"slicenet_cnn needs larger maps than {sample_shape[1]} x {sample_shape[2]} for kernels of {self.kernel}")
            count = min(connections, channels)
            rows = tuple(tuple(sorted(drawn.sample(range(channels), count))) for _ in range(maps))
            layers += [TableConvolution(rows, self.kernel), nn.ReLU()]
            channels, height, width = maps, height - self.kernel + 1, width - self.kernel + 1
            if min(height, width) >= 2:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        layers.append(nn.Flatten())
        widths = [channels * height * width, *self.hidden]
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
