"""Penalties on what enters the last linear layer: FedMAX's entropy and its comparators, as gradients.

With a for a sample's activations (A of them), p = softmax(a) and U = 1 / A, a batch's loss is its mean cross-entropy plus beta times the
mean over its samples of:

- `kl`: KL(p || U) = sum p log(p A), a sum over the activations, as in the formula of W. Chen, K. Bhardwaj, R. Marculescu: "FedMAX:
  Mitigating activation divergence for accurate and communication-efficient federated learning", ECML PKDD 2020 (arXiv 2004.03657).
  Gradient: p_j (log p_j - sum p log p). Least where all activations are equal, where p has the highest entropy.
- `kl_reversed`: KL(U || p) = -sum log(p A) / A, what the authors' code evaluates; gradient p_j - 1 / A. Their code also divides by A once
  more, so that its beta of 1000 with 512 units is 1000 / 512 = 1.95 here.
- `l2`: the Euclidean norm of a, the alternative that they study; gradient a / |a|, 0 at 0.

No logarithm is taken: with z = a - max(a), log p_j - sum p log p = z_j - sum p z.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from netfl.learning.rules import Rule

__all__ = ["LastLinear", "gradient_of"]


class Gradient(Protocol):
    """From activations (N, A) and each sample's share of its batch (N, 1) to the penalty's gradient (N, A)."""

    def __call__(self, activations: Tensor, shares: Tensor) -> Tensor: ...


def gradient_of(rule: Rule) -> Gradient | None:
    """The gradient of a rule's penalty; None without one.

    >>> gradient = gradient_of(Rule(learning_rate=0.1, beta=2.0, penalty="kl_reversed"))
    >>> gradient(torch.zeros(1, 4), torch.ones(1, 1)).tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """
    if not rule.beta:
        return None
    form = {"kl": _kl, "kl_reversed": _kl_reversed, "l2": _l2}[rule.penalty]

    def gradient(activations: Tensor, shares: Tensor) -> Tensor:
        return form(activations.contiguous()).mul_(shares * rule.beta)

    return gradient


def _kl(a: Tensor) -> Tensor:
    z, p = _softmax(a)
    return p * (z - (p * z).sum(1, keepdim=True))


def _kl_reversed(a: Tensor) -> Tensor:
    _, p = _softmax(a)
    return p.sub_(1 / a.shape[1])


def _l2(a: Tensor) -> Tensor:
    norms = a.square().sum(1, keepdim=True).sqrt_()
    return torch.where(norms > 0, a / norms, 0)


def _softmax(a: Tensor) -> tuple[Tensor, Tensor]:
    z = a - a.amax(1, keepdim=True)
    p = z.exp()
    return z, p.div_(p.sum(1, keepdim=True))


class LastLinear:
    """Keeps what entered the linear layer that ran last, while it is open.

    Args:
        module: whose layers to watch.
    """

    def __init__(self, module: nn.Module) -> None:
        self._given: Tensor | None = None
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        self._hooks = [layer.register_forward_pre_hook(self._keep) for layer in layers]

    def _keep(self, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._given = given[0]

    def activations(self) -> Tensor:
        """Of the newest forward pass, (N, A).

        Raises:
            ValueError: no linear layer ran, or none on one vector a sample.
        """
        if self._given is None or self._given.dim() != 2:
            raise ValueError("expected a model that ends in a linear layer on one vector a sample, for a penalty on what enters it")
        return self._given

    def close(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()
