"""Update rules (`netfl.learning.rules`) on stacked tensors: K clients, each with its own weights, state and step numbers.

`Fused` moves a parameter while its gradient is made; `Collected` takes all gradients of a step first. Both move clients by
elementwise kernels and sums within a client, so that a client's bits do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netfl.learning.rules import Rule, factors

__all__ = ["Collected", "Fused", "Update", "updates_of"]

CLIP_EPSILON = 1e-6
"""Added to the norm before it divides, as in `torch.nn.utils.clip_grad_norm_`."""


class Update(Protocol):
    """What takes the gradients of one step's parameters; the weights may move at once."""

    weights: Sequence[Tensor]

    def product(self, index: int, left: Tensor, right: Tensor) -> None:
        """The gradient of parameter `index` is left @ right, client by client."""

    def add(self, index: int, gradient: Tensor) -> None:
        """The gradient of parameter `index`; it may be overwritten."""

    def finish(self, steps_done: npt.NDArray[np.int64]) -> None:
        """All gradients are there; so many steps each client has behind it."""


def updates_of(
    rule: Rule,
    weights: Sequence[Tensor],
    totals: npt.NDArray[np.int64],
    after: Callable[[slice], None] | None = None,
    offsets: Sequence[Tensor] = (),
) -> Callable[[slice], Update]:
    """From some of the clients to their `Update`, with state that all updates of a client share.

    Args:
        rule: what to do.
        weights: the stacked parameters (K, *shape), moved in place.
        totals: (K,) local steps of each client.
        after: called when the weights of some clients have moved.
        offsets: what is added to the gradients of every step, as the weights; empty for nothing.
    """
    with_velocity = rule.betas is None and rule.momentum > 0
    velocities = [torch.zeros_like(weight) for weight in weights] if with_velocity else []
    moments = [torch.zeros_like(weight) for _ in (rule.betas or ()) for weight in weights]
    starts = [weight.clone() for weight in weights] if rule.proximal else []

    def of(clients: slice) -> Update:
        chosen = weights if clients == slice(0, len(totals)) else [weight[clients] for weight in weights]
        states = [[tensor[clients] for tensor in tensors] for tensors in (velocities, moments, starts, offsets)]
        moved = None if after is None else lambda: after(clients)
        if rule.is_fused and not offsets:
            return Fused(rule, chosen, states[0], moved)
        half = len(weights)
        return Collected(rule, chosen, states[0], states[1][:half], states[1][half:], states[2], states[3], totals[clients], moved)

    return of


class Fused:
    """SGD with momentum and weight decay, each parameter on its own: W += -lr * g^T x in one kernel.

    Args:
        rule: with `is_fused`.
        weights: one contiguous tensor (k, *shape) a parameter.
        velocities: the same for momentum; empty without.
        moved: called after each step.
    """

    def __init__(self, rule: Rule, weights: Sequence[Tensor], velocities: Sequence[Tensor], moved: Callable[[], None] | None) -> None:
        self.weights = weights
        self._rule = rule
        self._velocities = velocities
        self._moved = moved

    def product(self, index: int, left: Tensor, right: Tensor) -> None:
        """See `Update`."""
        rule, weight = self._rule, self.weights[index].flatten(2)
        if self._velocities:
            velocity = self._velocities[index].flatten(2).baddbmm_(left, right, beta=rule.momentum)
            if rule.weight_decay:
                velocity.add_(weight, alpha=rule.weight_decay)
            weight.sub_(velocity, alpha=rule.learning_rate)
        else:
            weight.baddbmm_(left, right, beta=1 - rule.learning_rate * rule.weight_decay, alpha=-rule.learning_rate)

    def add(self, index: int, gradient: Tensor) -> None:
        """See `Update`."""
        rule, weight = self._rule, self.weights[index]
        if rule.weight_decay:
            gradient = gradient.add(weight, alpha=rule.weight_decay)
        if self._velocities:
            gradient = self._velocities[index].mul_(rule.momentum).add_(gradient)
        weight.sub_(gradient, alpha=rule.learning_rate)

    def finish(self, steps_done: npt.NDArray[np.int64]) -> None:
        """See `Update`; the weights have moved already."""
        if self._moved is not None:
            self._moved()


class Collected:
    """Any rule.

    Args:
        rule: what to do.
        weights: one tensor (k, *shape) a parameter.
        velocities: of momentum; empty without.
        means: running means of g; empty without.
        squares: running means of g^2; empty without.
        starts: the weights that the clients started from; empty without a proximal term.
        offsets: added to every step's gradient; empty for nothing.
        totals: (k,) local steps of each client.
        moved: called after each step.
    """

    def __init__(
        self,
        rule: Rule,
        weights: Sequence[Tensor],
        velocities: Sequence[Tensor],
        means: Sequence[Tensor],
        squares: Sequence[Tensor],
        starts: Sequence[Tensor],
        offsets: Sequence[Tensor],
        totals: npt.NDArray[np.int64],
        moved: Callable[[], None] | None,
    ) -> None:
        self.weights = weights
        self._rule = rule
        self._velocities = velocities
        self._means = means
        self._squares = squares
        self._starts = starts
        self._offsets = offsets
        self._totals = totals
        self._moved = moved
        self._gradients: dict[int, Tensor] = {}

    def product(self, index: int, left: Tensor, right: Tensor) -> None:
        """See `Update`."""
        self._gradients[index] = torch.bmm(left, right).view(self.weights[index].shape)

    def add(self, index: int, gradient: Tensor) -> None:
        """See `Update`."""
        self._gradients[index] = gradient

    def finish(self, steps_done: npt.NDArray[np.int64]) -> None:
        """See `Update`."""
        rule = self._rule
        gradients = [self._gradients.pop(index) for index in range(len(self.weights))]
        for gradient, offset in zip(gradients, self._offsets, strict=False):
            gradient.add_(offset)
        if rule.proximal:
            for gradient, weight, start in zip(gradients, self.weights, self._starts, strict=True):
                gradient.add_(weight - start, alpha=rule.proximal)
        if rule.clip_norm is not None:
            squares = _squares(gradients[0])
            for gradient in gradients[1:]:  # one by one: a sum over a stack of them has other bits for one client than for many
                squares += _squares(gradient)
            shares = (rule.clip_norm / (squares.sqrt_() + CLIP_EPSILON)).clamp_(max=1)
            for gradient in gradients:
                gradient.mul_(_along(shares, gradient))
        rates = rule.learning_rate * factors(rule.schedule, steps_done, self._totals)
        if rule.weight_decay and rule.is_decoupled:
            shrinking = self._tensor(1 - rates * rule.weight_decay)
            for weight in self.weights:
                weight.mul_(_along(shrinking, weight))
        elif rule.weight_decay:
            for gradient, weight in zip(gradients, self.weights, strict=True):
                gradient.add_(weight, alpha=rule.weight_decay)
        if rule.betas is None:
            self._descend(gradients, rates)
        else:
            self._adapt(rule.betas, gradients, rates, steps_done)
        if self._moved is not None:
            self._moved()

    def _descend(self, gradients: Sequence[Tensor], rates: npt.NDArray[Any]) -> None:
        """SGD, with momentum if there are velocities."""
        rule = self._rule
        for index, (weight, gradient) in enumerate(zip(self.weights, gradients, strict=True)):
            direction = gradient
            if self._velocities:
                velocity = self._velocities[index].mul_(rule.momentum).add_(gradient)
                direction = gradient.add_(velocity, alpha=rule.momentum) if rule.nesterov else velocity
            if rule.schedule == "constant":
                weight.sub_(direction, alpha=rule.learning_rate)
            else:
                weight.sub_(direction * _along(self._tensor(rates), weight))

    def _adapt(
        self, betas: tuple[float, float], gradients: Sequence[Tensor], rates: npt.NDArray[Any], steps_done: npt.NDArray[np.int64]
    ) -> None:
        """Adam: the mean of g over the root of the mean of g^2, both freed of their bias towards zero."""
        first, second = betas
        steps = self._tensor(rates / (1 - first ** (steps_done + 1.0)))
        roots = self._tensor(1 / np.sqrt(1 - second ** (steps_done + 1.0)))
        for weight, gradient, mean, square in zip(self.weights, gradients, self._means, self._squares, strict=True):
            mean.mul_(first).add_(gradient, alpha=1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            divisor = square.sqrt().mul_(_along(roots, weight)).add_(self._rule.epsilon)
            weight.sub_((mean / divisor).mul_(_along(steps, weight)))

    def _tensor(self, numbers: npt.NDArray[Any]) -> Tensor:
        """Numbers of each client (k,), in the weights' type, where the weights are."""
        weight = self.weights[0]
        return torch.from_numpy(numbers).to(weight.device, weight.dtype)


def _squares(gradient: Tensor) -> Tensor:
    """The sum of squares of each client's numbers (k,)."""
    return gradient.reshape(len(gradient), -1).square().sum(1)


def _along(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Numbers of each client (k,), to be multiplied with a tensor (k, *shape)."""
    return numbers.view(-1, *([1] * (tensor.dim() - 1)))
