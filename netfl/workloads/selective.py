"""Selective updating: a client whose training has not got better says so in one byte in place of an update.

Stage 3 of FL-PQSU: W. Xu et al., "Accelerating federated learning for IoT in big data analytics with pruning, quantization and selective
updating", IEEE Access 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from netfl.learning import values
from netfl.learning.values import TrainingLoss
from netfl.store import Recipe

__all__ = ["FLAG_BYTES", "Selective", "Uploads"]

FLAG_BYTES = 1
"""Length of the message that says that no update comes."""


@dataclass(frozen=True, kw_only=True)
class Selective:
    """Who uploads: a client whose loss is lower than at its last accepted upload; at first everyone.

    Args:
        metric: the loss of the last mini-batch, as the authors' code has it, which is noisy; or the mean over the last local epoch.
        margin: by how much it must be lower.
        on_skip: what the server takes for a client that skips: its last uploaded model (reuse_stale), or nothing (exclude).
        gate_downloads: whether a client that skipped goes on with its own model and downloads none until it has sent an upload, also one
            that is lost.
    """

    metric: Literal["last_batch_loss", "mean_epoch_loss"] = "last_batch_loss"
    margin: Annotated[float, Ge(0)] = 0.0
    on_skip: Literal["reuse_stale", "exclude"] = "reuse_stale"
    gate_downloads: bool = False

    def worth(self, loss: TrainingLoss, accepted: TrainingLoss | None) -> bool:
        """Whether a client uploads; one that has diverged does, so that the round's end tells it.

        Args:
            loss: of its training.
            accepted: at its last accepted upload; None if there was none.
        """
        if accepted is None or not math.isfinite(self._of(loss)):
            return True
        return self._of(loss) < self._of(accepted) - self.margin

    def _of(self, loss: TrainingLoss) -> float:
        return loss.last_batch if self.metric == "last_batch_loss" else loss.mean


class Uploads:
    """What selective updating remembers of each client.

    Args:
        rule: who uploads.
        force: computes a loss.
    """

    def __init__(self, rule: Selective, force: Callable[[Recipe], Any]) -> None:
        self._rule = rule
        self._force = force
        self._loss: dict[str, TrainingLoss] = {}
        self._uploaded: dict[str, Recipe] = {}
        self._own: dict[str, Recipe] = {}
        self._base: dict[str, Recipe] = {}
        self._gated: set[str] = set()

    def goes_on_with(self, client: str) -> Recipe | None:
        """The client's own model, if it downloads none."""
        return self._own.get(client)

    def downloaded(self, client: str, model: Recipe) -> None:
        """A client has a model of the server's; what it uploads is relative to that."""
        self._base[client] = model

    def is_worth(self, client: str, update: Recipe) -> bool:
        """Whether a client uploads what its training made."""
        return self._rule.worth(self._force(values.training_loss(update)), self._loss.get(client))

    def skipped(self, client: str, update: Recipe) -> None:
        """A client sends nothing of what its training made."""
        if self._rule.gate_downloads:
            self._own[client] = values.total(self._own.get(client, self._base[client]), update)

    def change(self, client: str, update: Recipe) -> Recipe:
        """What a client uploads: what changed since it downloaded a model. It downloads one again, whatever becomes of the upload."""
        own = self._own.pop(client, None)
        if own is None:
            self._gated.discard(client)
            return update
        self._gated.add(client)
        return values.difference(values.total(own, update), self._base[client])

    def accepted(self, client: str, update: Recipe, decoded: Recipe, model: Recipe) -> Recipe:
        """The server has a client's upload, made from `update`; what it changes in the present model."""
        self._loss[client] = self._force(values.training_loss(update))
        self._uploaded[client] = values.total(self._base[client], decoded)
        return values.difference(self._uploaded[client], model) if client in self._gated else decoded

    def stale(self, client: str, model: Recipe) -> Recipe | None:
        """What the last upload of a client that skips changes in the present model; None if it is not used."""
        if self._rule.on_skip == "exclude" or client not in self._uploaded:
            return None
        return values.difference(self._uploaded[client], model)
