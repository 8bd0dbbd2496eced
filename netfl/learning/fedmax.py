"""FedMAX's local training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import annotated_types

from netfl.learning.rules import Penalty, Rule
from netfl.learning.trainer import NotNegative, Sgd

__all__ = ["FedMax"]


@dataclass(frozen=True, kw_only=True)
class FedMax(Sgd):
    """SGD that also keeps what enters the last linear layer near uniform (FedMAX: Chen, Bhardwaj, Marculescu, ECML PKDD 2020).

    A batch's loss is its mean cross-entropy plus `beta` times the mean over its samples of a penalty, summed over the activations, as
    `netfl.learning.penalties` spells out; the training loss that netfl reports is the cross-entropy alone. With `beta: 0` it is `sgd`, bit for
    bit. A model that is one linear layer has nothing to penalise. The server takes the mean, as in FedAvg.

    The authors' settings: 100 clients, a tenth a round, `fedmax_cnn`, batches of 100, learning rate 0.1, Nesterov momentum 0.1, weight
    decay 5e-4, a round_decay of 0.9992 (3000 rounds, 1 epoch) or 0.996 (600 rounds, 5 epochs), and a beta of 1000 in their
    reduction with 512 units, which is `penalty: kl_reversed, beta: 1.95` here.

    Args:
        learning_rate: step length, greater than 0.
        beta: weight of the penalty; 1 is a choice of ours.
        penalty: kl, the divergence of softmax(activations) from the uniform distribution; kl_reversed, that of the uniform one from
            it, as the authors' code has it; l2, the norm of the activations.
        round_decay: what the learning rate is multiplied with from one round to the next.
        epochs: passes over the shard.
        batch_size: samples a step.
        momentum: share of the last velocity that is kept, from 0 to below 1.
        nesterov: step along the gradient plus momentum times the velocity; needs momentum.
        weight_decay: L2 penalty: this times the weights is added to the gradient.
        clip_norm: upper bound of the norm of a step's gradient over all parameters; null for none.
        proximal: FedProx's mu: this times what the weights moved since the client started is added to the gradient.
        schedule: how the learning rate falls over a client's local steps; see `sgd`.
        device: where to train: cpu, cuda or auto; see `sgd`.
    """

    beta: NotNegative = 1.0
    penalty: Penalty = "kl"
    round_decay: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] = 1.0

    def in_round(self, number: int) -> FedMax:
        """See `Trainer`."""
        if self.round_decay == 1:
            return self
        return replace(self, learning_rate=self.learning_rate * self.round_decay ** (number - 1), round_decay=1.0)

    @property
    def rule(self) -> Rule:
        """What a step does with its gradient."""
        return replace(super().rule, beta=self.beta, penalty=self.penalty)
