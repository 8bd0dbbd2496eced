"""A dominator's turn: its data once through the network, batch by batch, with what every weight changed added up.

Training in slices is ordinary mini-batch training of the whole network (`netfl.learning.slicing.executor` proves it), so a turn trains the
whole network. Pipelined, with so many batches under way at once, a batch's gradient is made with the weights before the `depth - 1`
batches before it had changed them: every holder keeps the weights of the forward pass until the errors are back (a choice: the paper does
not say which weights it uses). Depth 1 is ordinary training.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from netfl.learning.models import Model
from netfl.learning.plain import module_of, one_thread
from netfl.learning.rules import Rule
from netfl.learning.slicing.schedule import batches_of
from netfl.learning.updates import updates_of
from netfl.randomness import Stream

__all__ = ["Loss", "train_turn"]

Vector = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Loss:
    """Weights that were lost with the device that held them, and fell back to what they were when the turn began.

    Args:
        role: whose weights: 0 the dominator's, who takes the rest of the turn with it.
        after_batches: how many batches had ended.
    """

    role: int
    after_batches: int


def train_turn(
    model: Model,
    sample_shape: tuple[int, ...],
    num_classes: int,
    start: Vector,
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    stream: Stream,
    *,
    batch_size: int,
    epochs: int,
    rule: Rule,
    depth: int,
    num_batches: int | None,
    losses: tuple[Loss, ...],
    owners: npt.NDArray[np.int16],
) -> tuple[Vector, Vector]:
    """Train one turn: the vector (P,) after it, and what each weight changed (P,), absolute values added up over the batches.

    Momentum and the like begin anew.

    Args:
        model: the network.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        start: (P,).
        inputs: (n, *sample_shape).
        labels: (n,).
        stream: draws the order of the samples.
        batch_size: samples a batch.
        epochs: passes over the data.
        rule: of the update.
        depth: batches under way at once.
        num_batches: only the first so many batches; None for all.
        losses: weights that fell back, in the order in which that happened. Batches under way then are made again.
        owners: (P,) who holds each weight.
    """
    module = module_of(model, sample_shape, num_classes, start.dtype)
    module.train()
    # All parameters lie in one tensor, so that what concerns all weights is one operation.
    weights_P = torch.from_numpy(start.copy())
    parameters, place = list(module.parameters()), 0
    for parameter in parameters:
        parameter.data = weights_P[place : place + parameter.numel()].view(parameter.shape)
        place += parameter.numel()
    first_P, change_P = weights_P.clone(), torch.zeros_like(weights_P)
    gone = [torch.from_numpy(owners == loss.role) for loss in losses]
    generator = stream.generator()
    order = np.concatenate([generator.permutation(len(labels)) for _ in range(epochs)])
    ends = np.cumsum(batches_of(len(labels), batch_size, epochs))[:num_batches]
    update = updates_of(rule, [parameter.detach().unsqueeze(0) for parameter in parameters], np.array([len(ends)]))(slice(0, 1))

    def fall_back(number: int) -> bool:
        """Whether weights were lost when so many batches had ended."""
        lost = [gone_P for loss, gone_P in zip(losses, gone, strict=True) if loss.after_batches == number]
        for gone_P in lost:
            weights_P.copy_(torch.where(gone_P, first_P, weights_P))
        return bool(lost)

    # The weights that the next forward passes will use: those before each batch under way.
    kept: deque[Tensor] = deque(maxlen=depth)
    begin = 0
    with one_thread():
        for number, end in enumerate(ends.tolist()):
            if fall_back(number):
                kept.clear()
            now_P = weights_P.clone()
            kept.append(now_P)
            rows = order[begin:end]
            weights_P.copy_(kept[0])
            loss = functional.cross_entropy(module(torch.from_numpy(inputs[rows])), torch.from_numpy(labels[rows]))
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                weights_P.copy_(now_P)
                for index, gradient in enumerate(gradients):
                    update.add(index, gradient.unsqueeze(0))
                update.finish(np.array([number]))
                change_P += (weights_P - now_P).abs_()
            begin = end
        fall_back(len(ends))
    return weights_P.numpy(), change_P.numpy()
