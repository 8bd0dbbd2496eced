"""Training a module on any differentiable loss of its batches: what a client's training does, without its labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netfl.learning.models import to_vector
from netfl.learning.trainer import Adam, AdamW, Sgd
from netfl.learning.updates import updates_of
from netfl.randomness import Stream

__all__ = ["minimise"]


def minimise(
    module: torch.nn.Module,
    trainer: Sgd | Adam | AdamW,
    num_samples: int,
    loss: Callable[[npt.NDArray[np.int64]], Tensor],
    stream: Stream,
) -> npt.NDArray[np.float32]:
    """The module's parameters (P,) after the trainer's epochs.

    Args:
        module: on the CPU; its parameters are overwritten.
        trainer: says the epochs, the batches and the rule of a step.
        num_samples: how many samples an epoch passes.
        loss: from the rows of a batch to a scalar.
        stream: draws the order of the samples, and what layers such as dropout draw; torch's own generator is left as it was.
    """
    parameters = list(module.train().parameters())
    stacked = [parameter.detach().unsqueeze(0) for parameter in parameters]
    steps_an_epoch = math.ceil(num_samples / trainer.batch_size)
    update = updates_of(trainer.rule, stacked, np.array([steps_an_epoch * trainer.epochs]))(slice(0, 1))
    generator = stream.generator()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator.integers(2**63)))
        for epoch in range(trainer.epochs):
            order = generator.permutation(num_samples)
            for step in range(steps_an_epoch):
                rows = order[step * trainer.batch_size : (step + 1) * trainer.batch_size]
                gradients = torch.autograd.grad(loss(rows), parameters, allow_unused=True)
                with torch.no_grad():
                    for index, gradient in enumerate(gradients):
                        unused = torch.zeros_like(parameters[index]) if gradient is None else gradient
                        update.add(index, unused.unsqueeze(0))
                    update.finish(np.array([epoch * steps_an_epoch + step]))
    return to_vector(module)
