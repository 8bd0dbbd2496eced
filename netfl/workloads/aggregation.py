"""An aggregation under way: an aggregator with its state, and the control variates of those that use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netfl.codecs import dense_bytes
from netfl.learning import values
from netfl.learning.aggregators import Aggregator
from netfl.learning.trainer import Trainer
from netfl.store import Recipe
from netfl.world import World

__all__ = ["Aggregation", "Controls"]


class Aggregation:
    """An aggregator and what it keeps from one aggregation to the next.

    Args:
        aggregator: what is made of the updates.
        trainer: what made them.
        world: for the random streams.
        name: of the workload, and what tells this aggregation's stream from those of others.
        num_clients: all clients that could take part.
    """

    def __init__(self, aggregator: Aggregator, trainer: Trainer, world: World, name: tuple[str, ...], num_clients: int) -> None:
        self.aggregator = aggregator
        self._trainer = trainer
        self._world = world
        self._name = name
        self._num_clients = num_clients
        self._newest: Recipe | None = None

    def combine(
        self,
        number: int,
        model: Recipe,
        updates: Sequence[Recipe],
        num_samples: Sequence[int],
        changes: Sequence[Recipe] = (),
    ) -> Recipe:
        """The model that a round makes.

        Args:
            number: of the round.
            model: the present one.
            updates: as the hub decoded them, in the order of clients' names.
            num_samples: that each was trained on.
            changes: of the clients' controls, if the aggregator uses them.
        """
        made, self._newest = values.aggregate(
            self.aggregator, model, self._newest, updates, num_samples, [self._trainer.steps(each) for each in num_samples],
            self._num_clients, changes,
            self._world.streams.stream("aggregate", *self._name, number),
        )  # fmt: skip
        return made

    @property
    def control(self) -> Recipe | None:
        """The server's control variate; None before there is one."""
        return None if self._newest is None else values.state_entry(self._newest, "control")


class Controls:
    """The control variates of SCAFFOLD's clients (Karimireddy et al., ICML 2020).

    They travel as float32 beside the model and the update: a codec for updates would destroy them (a choice). A client's control
    becomes what its training made of it when the server accepts its update.

    Args:
        aggregation: which has the server's.
        trainer: of the clients.
        num_values: length of the model.
    """

    def __init__(self, aggregation: Aggregation, trainer: Trainer, num_values: int) -> None:
        self._aggregation = aggregation
        self._trainer = trainer
        self._num_values = num_values
        self._own: dict[str, Recipe] = {}

    @property
    def payload_bytes(self) -> int:
        """Length of one of them in a message."""
        return dense_bytes(self._num_values)

    @property
    def download_bytes(self) -> int:
        """How much longer the server's makes a download; the first, which is 0, is not sent."""
        return 0 if self._aggregation.control is None else self.payload_bytes

    def offset(self, client: str) -> Recipe | None:
        """What the client adds to each gradient: the server's control minus its own; None for nothing."""
        shared, own = self._aggregation.control, self._own.get(client)
        return shared if shared is None or own is None else values.difference(shared, own)

    def changes(self, fits: Mapping[str, Recipe], num_samples: Sequence[int]) -> list[Recipe]:
        """By how much the accepted clients' controls change; they have changed afterwards. To be called before the aggregation."""
        changes = []
        for (client, fit), count in zip(fits.items(), num_samples, strict=True):
            own, rate = self._own.get(client), self._trainer.learning_rate  # type: ignore[attr-defined]
            self._own[client] = values.control(fit, self._trainer.steps(count), rate, own, self._aggregation.control)
            changes.append(self._own[client] if own is None else values.difference(self._own[client], own))
        return changes
