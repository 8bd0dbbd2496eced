"""Knowledge distillation: losses that make a student answer, and see, as a teacher does.

With z for the student's logits, t for the teacher's, p(x) = softmax(x / T) at a temperature T, and a batch of N samples:

- soft targets: T^2 times the mean over samples of KL(p(t) || p(z)) (G. Hinton, O. Vinyals, J. Dean: "Distilling the knowledge in a
  neural network", arXiv 1503.02531; T^2 keeps the gradient's length as T grows). It is 0 where both give the same distribution.
- activations: what the student's last maps have of the teacher's (S. Zagoruyko, N. Komodakis, ICLR 2017, for the form; K. Bhardwaj,
  C. Lin, A. Sartor, R. Marculescu: "Memory- and communication-aware model compression for distributed deep learning inference on IoT",
  ACM TECS 18(5s), 2019, arXiv 1907.11804, for students that each imitate a part): the squared distance of the two vectors of a sample,
  each divided by its Euclidean norm; a vector of norm 0 stays 0.

Where the authors' code takes the mean over all elements, that is the same loss divided by the elements of a sample as well: `mean: elements`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import annotated_types

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Distillation", "Mean", "Normalisation", "activation_loss", "soft_target_loss"]

Mean = Literal["samples", "elements"]
"""What a loss is divided by: the samples of the batch, or all elements of the tensors compared."""

Normalisation = Literal["part", "whole"]
"""Which vector of a sample is divided by its norm: each part by itself, or all parts together."""


def soft_target_loss(logits: Tensor, teacher_logits: Tensor, temperature: float, mean: Mean = "samples") -> Tensor:
    """T^2 times the mean of KL(softmax(teacher / T) || softmax(student / T)); a scalar.

    Args:
        logits: (N, classes) of the student.
        teacher_logits: (N, classes).
        temperature: T, greater than 0; 1 for the distributions as they are.
        mean: over samples, or over samples and classes.
    """
    from torch.nn import functional

    expected = functional.log_softmax(teacher_logits / temperature, dim=1)
    found = functional.log_softmax(logits / temperature, dim=1)
    divergence = functional.kl_div(found, expected, reduction="batchmean", log_target=True)
    return temperature**2 * divergence / (logits.shape[1] if mean == "elements" else 1)


def activation_loss(
    parts: Sequence[Tensor], teacher_parts: Sequence[Tensor], normalisation: Normalisation = "part", mean: Mean = "samples"
) -> Tensor:
    """The mean squared distance of normalised activations; a scalar.

    Args:
        parts: one (N, ...) a student.
        teacher_parts: what each is to imitate, of the same shapes.
        normalisation: `part` takes the sum over the parts of their distances, as the paper writes it; `whole` the distance of all parts
            laid end to end, as the authors' code does.
        mean: over samples, or over samples and all elements of one.

    Raises:
        ValueError: shapes that differ.
    """
    import torch
    from torch.nn import functional

    shapes = [tuple(part.shape) for part in parts], [tuple(part.shape) for part in teacher_parts]
    if shapes[0] != shapes[1] or not parts:
        raise ValueError(f"expected the students' activations in the shapes of the teacher's, {shapes[1]}, got {shapes[0]}")
    found, expected = [part.flatten(1) for part in parts], [part.flatten(1) for part in teacher_parts]
    if normalisation == "whole":
        found, expected = [torch.cat(found, dim=1)], [torch.cat(expected, dim=1)]
    distances = [
        (functional.normalize(mine, dim=1) - functional.normalize(wanted, dim=1)).square().sum()
        for mine, wanted in zip(found, expected, strict=True)
    ]
    elements = sum(part.shape[1] for part in found) if mean == "elements" else 1
    return torch.stack(distances).sum() / (len(found[0]) * elements)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How a student learns from a teacher: 2 alpha (soft targets) + (1 - alpha) (cross-entropy of the labels) + beta (activations).

    The authors of NoNN: temperature 4, alpha 0.9, beta 10,000 with `normalisation: whole` and `mean: elements`; the factor 2 is theirs.
    The defaults here divide as the paper writes it, and their beta, 1, is a choice of ours.

    Args:
        temperature: what logits are divided by in soft targets.
        alpha: share of the soft targets, from 0 to 1; 1 needs no labels.
        beta: weight of the activations; 0 for none.
        normalisation: part, each student's activations divided by their own norm; whole, all together by one.
        mean: samples, losses are divided by the samples of a batch; elements, by the elements of the tensors compared as well.
    """

    temperature: Annotated[float, annotated_types.Gt(0)] = 4.0
    alpha: Annotated[float, annotated_types.Ge(0), annotated_types.Le(1)] = 0.9
    beta: Annotated[float, annotated_types.Ge(0)] = 1.0
    normalisation: Normalisation = "part"
    mean: Mean = "samples"

    def loss(
        self,
        logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor | None,
        parts: Sequence[Tensor] = (),
        teacher_parts: Sequence[Tensor] = (),
    ) -> Tensor:
        """The loss of one batch; a scalar.

        Args:
            logits: (N, classes) of the student.
            teacher_logits: (N, classes).
            labels: (N,) int64; None only with an alpha of 1.
            parts: as `activation_loss`; none leaves activations out.
            teacher_parts: as `activation_loss`.

        Raises:
            ValueError: labels are missing, or shapes differ.
        """
        from torch.nn import functional

        total = 2 * self.alpha * soft_target_loss(logits, teacher_logits, self.temperature, self.mean)
        if self.alpha < 1:
            if labels is None:
                raise ValueError(f"expected labels with an alpha below 1, got none with {self.alpha:g}")
            total = total + (1 - self.alpha) * functional.cross_entropy(logits, labels)
        if self.beta and parts:
            total = total + self.beta * activation_loss(parts, teacher_parts, self.normalisation, self.mean)
        return total
