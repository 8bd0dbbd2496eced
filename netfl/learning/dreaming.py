"""The kernels of Dream Distillation: a teacher's activations, and inputs that have given ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netfl.learning.models import Model, load_vector
from netfl.learning.penalties import LastLinear
from netfl.learning.plain import EVALUATION_BATCH, module_of, one_thread

__all__ = ["activations", "check_dreamer", "dream", "teacher_logits"]

Floats = npt.NDArray[np.float32]
DREAM_BATCH = 300
"""Dreams searched together; fixed, because the shape of a batch decides its last bits."""


def activations(model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats, inputs: Floats) -> Floats:
    """What enters the last linear layer, (n, A), for inputs (n, *sample_shape).

    Raises:
        ValueError: the model does not end in a linear layer on one vector a sample.
    """
    with one_thread(), torch.inference_mode():
        module = _frozen(model, sample_shape, num_classes, vector)
        watch = LastLinear(module)
        parts = []
        for begin in range(0, len(inputs), EVALUATION_BATCH):
            module(torch.from_numpy(inputs[begin : begin + EVALUATION_BATCH]))
            parts.append(watch.activations().numpy())
        watch.close()
    return np.concatenate(parts)


def teacher_logits(model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats, inputs: Floats) -> Floats:
    """What a teacher says of inputs (n, *sample_shape): (n, classes)."""
    with one_thread(), torch.inference_mode():
        module = _frozen(model, sample_shape, num_classes, vector)
        batches = [module(torch.from_numpy(inputs[at : at + EVALUATION_BATCH])).numpy() for at in range(0, len(inputs), EVALUATION_BATCH)]
    return np.concatenate(batches)


def check_dreamer(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> None:
    """Hold a teacher to what dreaming needs, with values that mean nothing.

    Raises:
        ValueError: it does not end in a linear layer on one vector a sample, or takes tokens, which have no gradient.
    """
    if getattr(model, "vocabulary", None) is not None:
        raise ValueError("the teacher takes tokens, which no gradient can change into dreams")
    length = sum(parameter.numel() for parameter in module_of(model, sample_shape, num_classes, np.dtype(np.float32)).parameters())
    activations(model, sample_shape, num_classes, np.zeros(length, np.float32), np.zeros((1, *sample_shape), np.float32))


def dream(
    model: Model,
    sample_shape: tuple[int, ...],
    num_classes: int,
    vector: Floats,
    wanted: Floats,
    generator: np.random.Generator,
    *,
    steps: int,
    learning_rate: float,
    smoothness: float,
    weight_decay: float,
    jitter: int,
    lowest: float,
    highest: float,
) -> Floats:
    """Inputs (n, *sample_shape) whose activations are near those wanted, (n, A); settings as in `netfl.learning.dreams.Dreaming`."""
    is_map = len(sample_shape) == 3
    sides = tuple(range(2, len(sample_shape) + 1)) if len(sample_shape) > 1 else ()
    found = []
    with one_thread():
        module = _frozen(model, sample_shape, num_classes, vector)
        watch = LastLinear(module)
        for begin in range(0, len(wanted), DREAM_BATCH):
            target = torch.from_numpy(wanted[begin : begin + DREAM_BATCH])
            lengths = target.square().sum(1).clamp(min=1e-12)
            start = generator.uniform(lowest, highest, size=(len(target), *sample_shape)).astype(np.float32)
            inputs = torch.from_numpy(start).requires_grad_()
            search = torch.optim.Adam([inputs], lr=learning_rate)
            for _ in range(steps):
                shown = inputs
                if jitter and is_map:
                    down, right = generator.integers(-jitter, jitter + 1, size=2).tolist()
                    shown = torch.roll(inputs, (down, right), (2, 3))
                module(shown)
                loss = (watch.activations() - target).square().sum(1) / lengths
                loss = loss + weight_decay * inputs.flatten(1).square().mean(1)
                for side in sides:
                    loss = loss + smoothness * _variation(inputs, side)
                (inputs.grad,) = torch.autograd.grad(loss.sum(), inputs)
                search.step()
                with torch.no_grad():
                    inputs.clamp_(lowest, highest)
            found.append(inputs.detach().numpy())
        watch.close()
    return np.concatenate(found)


def _variation(inputs: Tensor, side: int) -> Tensor:
    """The mean absolute difference of neighbours along one axis, (n,)."""
    if inputs.shape[side] < 2:
        return inputs.new_zeros(len(inputs))
    return inputs.diff(dim=side).abs().flatten(1).mean(1)


def _frozen(model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats) -> Any:
    module = module_of(model, sample_shape, num_classes, vector.dtype)
    load_vector(module, vector)
    return module.eval().requires_grad_(False)
