"""Update rules: what an optimiser does with a step's gradient. Numbers only; `netfl.learning.updates` applies them to tensors.

A step's gradient is that of the mean cross-entropy of its batch. With g for it, w for the weights, w0 for those that the
client started from, t for the steps done before and T for all local steps of the client:

0. a client's own offset, if it has one (SCAFFOLD's difference of controls): g += offset;
1. proximal term (FedProx, T. Li et al., MLSys 2020): g += proximal * (w - w0);
2. clipping: g *= min(1, clip_norm / (|g| + 1e-6)) with the norm over all parameters, as `torch.nn.utils.clip_grad_norm_`;
3. the optimiser, at the learning rate of step t, exactly as `torch.optim.SGD`, `Adam` (D. Kingma, J. Ba, ICLR 2015: weight
   decay is added to g) or `AdamW` (I. Loshchilov, F. Hutter, ICLR 2019: weights shrink by learning_rate * weight_decay).

A client's optimiser is new in every round: nothing of it is sent, and nothing of it stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Penalty", "Rule", "Schedule", "factors"]

Schedule = Literal["constant", "step", "cosine"]
"""How the learning rate falls over a client's local steps, T in all.

- `constant`: not at all.
- `step`: to a tenth from half of the steps on, to a hundredth from three quarters on (K. He et al., CVPR 2016, section 4.2:
  divided by 10 at 32,000 and 48,000 of 64,000 steps).
- `cosine`: (1 + cos(pi t / T)) / 2 of it at step t = 0 .. T - 1 (I. Loshchilov, F. Hutter, ICLR 2017, one cycle without restart).
"""


Penalty = Literal["kl", "kl_reversed", "l2"]
"""On what enters the last linear layer; see `netfl.learning.penalties`."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An update rule; see the module.

    Args:
        learning_rate: of the first step.
        momentum: share of the last velocity that is kept.
        nesterov: step along the gradient plus momentum times the velocity.
        weight_decay: L2 penalty, or the rate of shrinking when `is_decoupled`.
        is_decoupled: shrink the weights instead of adding to the gradient.
        betas: shares kept of the running means of g and g^2; None for a rule without them.
        epsilon: added to the root of the mean of g^2.
        clip_norm: upper bound of the gradient's norm; None for none.
        proximal: weight of the proximal term.
        schedule: how the learning rate falls.
        beta: weight of a penalty on activations, which is part of the loss; 0 for none.
        penalty: which.
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    is_decoupled: bool = False
    betas: tuple[float, float] | None = None
    epsilon: float = 0.0
    clip_norm: float | None = None
    proximal: float = 0.0
    schedule: Schedule = "constant"
    beta: float = 0.0
    penalty: Penalty = "kl"

    @property
    def is_fused(self) -> bool:
        """Whether each parameter moves by its own gradient alone and by one rate for all steps, so that products can update it."""
        is_plain = self.betas is None and not self.nesterov and self.clip_norm is None
        return is_plain and not self.proximal and self.schedule == "constant"


def factors(schedule: Schedule, steps_done: npt.NDArray[np.int64], totals: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The share of the learning rate at a step, by clients: `steps_done` of `totals` are behind them.

    >>> factors("step", np.arange(8), np.full(8, 8)).tolist()
    [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    >>> factors("cosine", np.array([0, 1, 2]), np.array([3, 3, 4])).round(9).tolist()
    [1.0, 0.75, 0.5]
    """
    if schedule == "constant":
        return np.ones(len(totals))
    if schedule == "cosine":
        return (1 + np.cos(np.pi * steps_done / totals)) / 2
    return np.select([2 * steps_done < totals, 4 * steps_done < 3 * totals], [1.0, 0.1], 0.01)
