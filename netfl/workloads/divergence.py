"""Training that diverges: found at the end of a round, with the client whose loss is not a number, or where the model is first used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from netfl.errors import CodecError, RunError
from netfl.learning import values
from netfl.learning.models import Model
from netfl.learning.trainer import advice
from netfl.store import Recipe, Store

__all__ = ["Trained", "Unchecked", "check_losses", "diverged", "what_to_lower"]


def check_losses(store: Store, workload: str, round_: int, fits: Mapping[str, Recipe], model: Recipe, looks: bool = True) -> None:
    """End the run if a client whose update counts has lost its way.

    The losses are facts, so that a run that finds them trains nobody. Where they are not known yet, the round's clients train
    now, as one batch, and the model that they make is computed beside, so that memory holds one round's updates and not more.

    Args:
        store: where values are computed.
        workload: who trains.
        round_: the round that ends.
        fits: the `Update` of each client that counts, by name.
        model: the global model that the round makes.
        looks: whether the losses may be known from another run.

    Raises:
        RunError: a loss is not a number or infinite, or no codec can carry an update.
    """
    wanted, symptom = values.losses(list(fits.values())), None
    try:
        (losses,) = store.force_all([wanted], beside=[model], looks=looks)
    except CodecError as error:
        losses, symptom = store.force(wanted), error
    for client, loss in zip(fits, losses, strict=True):
        if not math.isfinite(loss):
            raise _error(workload, round_, f"the loss of client '{client}' is {loss}")
    if symptom is not None:
        raise diverged(store, workload, round_, fits, str(symptom)) from symptom


def diverged(store: Store, workload: str, round_: int, fits: Mapping[str, Recipe], symptom: str) -> RunError:
    """The error of a training whose numbers got out of hand; names the first client whose own did, if there is one.

    Args:
        store: where values are computed.
        workload: who trains.
        round_: the round in which it showed.
        fits: the `Update` of each client of the round, by name.
        symptom: where it showed.
    """
    for client, update in zip(fits, store.force_all(list(fits.values())), strict=True):
        if not math.isfinite(update.mean_loss):
            return _error(workload, round_, f"the loss of client '{client}' is {update.mean_loss}; {symptom}")
        if not np.isfinite(update.values).all():
            return _error(workload, round_, f"the update of client '{client}' has values that are not finite; {symptom}")
    return _error(workload, round_, symptom)


@dataclass(frozen=True)
class Trained:
    """A model that no round has looked at: trained before the clock starts, or made of another.

    Args:
        what: which, as an error names it.
        trainer: the setting that trained it.
        model: the kind of model.
        vector: its parameters (P,).
    """

    what: str
    trainer: str
    model: Model
    vector: Recipe

    def check(self, store: Store, workload: str, data: Recipe) -> None:
        """End the run if it has lost its way: the loss on the test samples tells, which is a fact and trains nobody a second time.

        Args:
            store: where values are computed.
            workload: who uses the model.
            data: the dataset.

        Raises:
            RunError: the loss is not a number or infinite.
        """
        loss = store.force(values.evaluate(self.model, self.vector, data)).loss
        if not math.isfinite(loss):
            raise RunError(
                f"workload '{workload}': the loss of {self.what} is {loss}: its training has diverged; {what_to_lower(workload, self.trainer)}"
            )


class Unchecked:
    """Models that were trained before a run, each to be looked at once, before anything is made of it.

    Args:
        store: where values are computed.
        workload: who uses the models.
        data: the dataset.
    """

    def __init__(self, store: Store, workload: str, data: Recipe) -> None:
        self._store = store
        self._workload = workload
        self._data = data
        self._waiting: list[Trained] = []

    def add(self, trained: Trained) -> None:
        """One more."""
        self._waiting.append(trained)

    def check(self) -> None:
        """Look at those that nobody has looked at, in their order.

        Raises:
            RunError: one of them has diverged.
        """
        while self._waiting:
            self._waiting[0].check(self._store, self._workload, self._data)
            del self._waiting[0]


def _error(workload: str, round_: int, what: str) -> RunError:
    return RunError(f"workload '{workload}', round {round_}: {what}: training has diverged; {what_to_lower(workload)}")


def what_to_lower(workload: str, trainer: str = "trainer") -> str:
    """What errors say to do, with the settings as `--set` takes them; `trainer` is their place in the workload."""
    return advice(f"workloads.{workload}.{trainer}")
