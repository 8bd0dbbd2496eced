"""Gradients of single samples, all of a batch at once, and training by their clipped, noisy sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from netfl.learning.models import Model, load_vector, to_vector
from netfl.learning.plain import module_of, one_thread
from netfl.learning.trainer import FitJob, seed_of

__all__ = ["gradients_of", "train"]


def gradients_of(
    module: torch.nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor, labels: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Each sample's gradient of its cross-entropy, (B, *shape) by parameter, and its loss (B,).

    Raises:
        ValueError: the module does something that has no gradient by sample.
    """

    def loss(given: Mapping[str, Tensor], sample: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.func.functional_call(module, dict(given), (sample.unsqueeze(0),))
        value = functional.cross_entropy(logits, label.unsqueeze(0))
        return value, value.detach()

    each: Any = torch.func.vmap(torch.func.grad(loss, has_aux=True), in_dims=(None, 0, 0), randomness="different")
    try:
        gradients, losses = each(dict(parameters), inputs, labels)
    except RuntimeError as error:
        raise ValueError(f"this model gives no gradients by sample, which dp_sgd needs: {error}") from error
    return gradients, losses


def train(
    model: Model,
    sample_shape: tuple[int, ...],
    num_classes: int,
    job: FitJob,
    *,
    steps: int,
    steps_an_epoch: int,
    batch_size: int,
    learning_rate: float,
    clip_norm: float,
    noise_multiplier: float,
) -> tuple[npt.NDArray[Any], float, float, float]:
    """Train one client; its vector (P,), the means of losses and of squared losses over the samples of the last epoch's steps, and the
    mean loss of the last step's.

    Raises:
        ValueError: the job's arrays do not fit the model or each other, or it has an offset, or there are no gradients by sample.
    """
    if job.offset is not None:
        raise ValueError("dp_sgd takes no offset to its gradients: it would not be covered by the clipping")
    if job.inputs.shape != (len(job.labels), *sample_shape) or not len(job.labels):
        raise ValueError(f"expected inputs of shape (samples, {sample_shape}), got {job.inputs.shape} for {len(job.labels)} labels")
    batches, noise = job.stream.child("batches").generator(), job.stream.child("noise").generator()
    losses: list[float] = []
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(job))
        module = module_of(model, sample_shape, num_classes, job.start.dtype)
        load_vector(module, job.start)
        module.train()
        parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
        for step in range(steps):
            rows = np.sort(batches.choice(len(job.labels), size=batch_size, replace=False))
            gradients, sample_losses = gradients_of(
                module, parameters, torch.from_numpy(job.inputs[rows]), torch.from_numpy(job.labels[rows])
            )
            squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients.values()]).sum(0)
            shares = (clip_norm / squares.sqrt()).clamp(max=1).nan_to_num(1.0)
            for name, parameter in parameters.items():
                total = torch.tensordot(shares, gradients[name], dims=1)
                if noise_multiplier:
                    drawn = noise.normal(scale=noise_multiplier * clip_norm, size=tuple(parameter.shape))
                    total += torch.from_numpy(drawn).to(total.dtype)
                parameter.sub_(total, alpha=learning_rate / batch_size)
            if step >= steps - steps_an_epoch:
                losses += sample_losses.tolist()
        vector = to_vector(module)
    return vector, float(np.mean(losses)), float(np.mean(np.square(losses))), float(np.mean(losses[-batch_size:]))
