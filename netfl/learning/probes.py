"""Attacks, as measures of what is not private: a sample from its gradient, and who was in the training data.

- Gradient inversion: L. Zhu, Z. Liu, S. Han: "Deep leakage from gradients", NeurIPS 2019, looks for a sample with the gradient that was
  seen; the label is read off the last layer (B. Zhao, K. R. Mopuri, H. Bilen: "iDLG", 2020: the one entry of the bias's gradient that
  is negative), and gradients are compared by their angle (J. Geiping et al., NeurIPS 2020).
- Membership inference: S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, CSF 2018: samples of low loss were members. The area under the
  curve is the probability that a member's loss is below another's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from netfl.learning.models import Model, load_vector
from netfl.learning.plain import EVALUATION_BATCH, module_of, one_thread
from netfl.randomness import Stream

__all__ = ["auc", "cosine", "gradient_of_sample", "invert", "membership_auc"]

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int64]


def gradient_of_sample(
    model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats, sample: Floats, label: int
) -> npt.NDArray[np.float64]:
    """The gradient (P,) that a client with one sample would send."""
    with one_thread():
        module = _module(model, sample_shape, num_classes, vector)
        loss = functional.cross_entropy(module(torch.from_numpy(sample).double().unsqueeze(0)), torch.tensor([label]))
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(module.parameters()))]).numpy()


def invert(
    model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats, gradient: Floats, stream: Stream, steps: int = 300
) -> npt.NDArray[np.float64]:
    """A sample whose gradient points where a given one does, as an attacker who knows the model would find it.

    Args:
        model: whose last parameter is the bias of the logits.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        vector: (P,), where the gradient was taken.
        gradient: (P,), as it was received.
        stream: draws where the search begins.
        steps: of the search (L-BFGS).

    Returns:
        The best sample found, (*sample_shape).
    """
    with one_thread():
        module = _module(model, sample_shape, num_classes, vector)
        seen = torch.from_numpy(np.asarray(gradient, dtype=np.float64))
        label = torch.tensor([int(seen[-num_classes:].argmin())])
        first = stream.generator().uniform(size=(1, *sample_shape))
        sample = torch.from_numpy(first).requires_grad_()
        search = torch.optim.LBFGS([sample], max_iter=steps, history_size=50, line_search_fn="strong_wolfe")
        best: list[tuple[float, Tensor]] = [(float("inf"), sample.detach().clone())]

        def distance() -> Tensor:
            loss = functional.cross_entropy(module(sample), label)
            made = torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(module.parameters()), create_graph=True)])
            value = 1 - functional.cosine_similarity(made, seen, dim=0)
            (sample.grad,) = torch.autograd.grad(value, sample)
            if float(value.detach()) < best[0][0]:
                best[0] = (float(value.detach()), sample.detach().clone())
            return value.detach()

        search.step(distance)  # type: ignore[no-untyped-call]
        return best[0][1][0].numpy()


def membership_auc(
    model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats,
    members: tuple[Floats, Indices], others: tuple[Floats, Indices],
) -> float:  # fmt: skip
    """How well low losses tell members of the training data from other samples: 0.5 is by chance, 1 always.

    Args:
        model: what the vector belongs to.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        vector: (P,), trained.
        members: samples and labels that it was trained on.
        others: that it was not.
    """
    with one_thread():
        module = _module(model, sample_shape, num_classes, vector)
        return auc(-_losses(module, *members), -_losses(module, *others))


def auc(higher: Floats, lower: Floats) -> float:
    """The probability that one of the first numbers is above one of the second; equal ones count half.

    >>> auc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    ordered = np.sort(lower)
    below, up_to = np.searchsorted(ordered, higher, "left"), np.searchsorted(ordered, higher, "right")
    return float((below + up_to).mean() / (2 * len(lower)))


def cosine(one: Floats, other: Floats) -> float:
    """The cosine of the angle between two arrays."""
    a, b = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _module(model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats) -> torch.nn.Module:
    module = module_of(model, sample_shape, num_classes, np.dtype(np.float64))
    load_vector(module, vector.astype(np.float64))
    return module.eval()


def _losses(module: torch.nn.Module, inputs: Floats, labels: Indices) -> npt.NDArray[np.float64]:
    found = []
    with torch.no_grad():
        for begin in range(0, len(labels), EVALUATION_BATCH):
            rows = slice(begin, begin + EVALUATION_BATCH)
            logits = module(torch.from_numpy(inputs[rows].astype(np.float64)))
            found.append(functional.cross_entropy(logits, torch.from_numpy(labels[rows]), reduction="none").numpy())
    return np.concatenate(found)
