"""A hub trains a model in rounds with its members: the server with its clients, or a gateway with the devices behind it."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Protocol

from netfl.codecs import Pipeline
from netfl.learning import values
from netfl.learning.aggregate import Aggregator
from netfl.learning.select import Selector
from netfl.store import Recipe
from netfl.workloads.downlink import Downlink
from netfl.workloads.federated import Process, Training
from netfl.world import Sending

__all__ = ["Hub", "Member", "Outcome"]


class Member(Protocol):
    """Who makes updates of models for a hub: a client, or another hub with members of its own."""

    name: str
    num_samples: int

    def update(self, start: Recipe, turn: int) -> Recipe | None:
        """The update that it would make in a round, if that is known in advance."""

    def work(self, start: Recipe, turn: int, label: str) -> Generator[Any, Any, Recipe]:
        """Spend the time that it takes; the update."""


class Outcome:
    """What became of a round.

    Args:
        selected: members asked.
        accepted: members whose update was aggregated.
        failed: members lost to the network.
    """

    def __init__(self, selected: int, accepted: int, failed: int) -> None:
        self.selected = selected
        self.accepted = accepted
        self.failed = failed


class _Cohort:
    """The members of one round and what became of them."""

    def __init__(self, goal: int, updates: dict[str, Recipe], count: int, complete: Any) -> None:
        self.goal = goal
        self.updates = updates
        self.pending = count
        self.complete = complete
        self.closed = False
        self.arrivals: dict[str, tuple[float, Recipe]] = {}
        self.accepted: dict[str, Recipe] = {}
        self.failed = 0
        self.sendings: dict[str, Sending] = {}

    def ended(self) -> None:
        """A member's part is over, whichever way."""
        self.pending -= 1
        if not self.closed and not self.complete.triggered and (self.pending == 0 or len(self.arrivals) >= self.goal):
            self.complete.succeed()

    def close(self) -> None:
        """Accept the first arrivals, those of one instant by name, and cut off everyone who still sends."""
        self.closed = True
        first = sorted(self.arrivals, key=lambda member: (self.arrivals[member][0], member))[: self.goal]
        self.accepted = {member: self.arrivals[member][1] for member in sorted(first)}
        for sending in self.sendings.values():
            sending.abort()


class Hub:
    """Rounds of selection, download, training, upload and aggregation, of one device with its members.

    Args:
        training: what it belongs to.
        device: the hub.
        members: who makes updates for it, by name.
        per_round: how many updates a round aggregates at most.
        asked: how many members a round asks.
        deadline_s: a round ends after this long with the updates that it has; None waits for all.
        selector: who takes part.
        aggregator: what the hub makes of the updates.
        model: what it begins with.
        place: what tells this hub's random streams from those of others; nothing for the server.
    """

    def __init__(
        self,
        training: Training,
        device: str,
        members: Mapping[str, Member],
        *,
        per_round: int,
        asked: int,
        deadline_s: float | None,
        selector: Selector,
        aggregator: Aggregator,
        model: Recipe,
        place: tuple[str, ...] = (),
    ) -> None:
        settings, world = training.settings, training.world
        self.device = device
        self.members = members
        self.model = model
        self._training = training
        self._world = world
        self._store = training.store
        self._per_round = per_round
        self._asked = asked
        self._deadline_s = deadline_s
        self._selector = selector
        self._aggregator = aggregator
        self._place = place
        self._residuals: dict[str, Recipe] = {}
        self._cohort: _Cohort | None = None
        self._downlink = Downlink(
            pipeline=Pipeline(settings.downlink),
            num_values=training.session.task.num_parameters,
            error_feedback=settings.error_feedback,
            stream=world.streams.stream("downlink", training.name, *place),
            store=training.store,
        )
        training.session.at_end(self._withdraw)

    def round(self, number: int) -> Generator[Any, Any, Outcome]:
        """Improve the hub's model by one round; what became of it."""
        yield from self._training.wait_for_any(list(self.members))
        cohort, selected = self._open(number)
        self._cohort = cohort
        if self._deadline_s is None:
            yield cohort.complete
        else:
            yield cohort.complete | self._world.sleep(self._deadline_s)
        cohort.close()
        self._withdraw()
        for member, (_, encoded) in cohort.arrivals.items():
            self._carry(member, encoded, accepted=member in cohort.accepted)
        if cohort.accepted:
            yield from self._aggregate(cohort, number)
        return Outcome(selected, len(cohort.accepted), cohort.failed)

    def _withdraw(self) -> None:
        """Nobody will need what the other members of the newest cohort would have made."""
        if self._cohort is not None:
            accepted: Iterable[str] = self._cohort.accepted if self._cohort.closed else ()
            self._store.withdraw(update for member, update in self._cohort.updates.items() if member not in accepted)
            self._cohort = None

    def _open(self, number: int) -> tuple[_Cohort, int]:
        """Select the round's members and set them to work."""
        candidates = [member for member in self.members if self._world.is_up(member)]
        stream = self._world.streams.stream("select", self._training.name, *self._place, number)
        selected = self._selector.select(candidates, min(self._asked, len(candidates)), stream)
        broadcast = self._downlink.broadcast(self.model)
        updates = {}
        for member in selected:
            update = self.members[member].update(broadcast.decoded, number)
            if update is not None:
                updates[member] = update
        cohort = _Cohort(min(self._per_round, len(selected)), updates, len(selected), self._world.env.event())
        self._store.announce(updates.values())
        for member in selected:
            self._world.env.process(self._member(cohort, self.members[member], broadcast.decoded, broadcast.number, number))
        return cohort, len(selected)

    def _member(self, cohort: _Cohort, member: Member, start: Recipe, broadcast: int, number: int) -> Process:
        """One member's part in a round."""
        download = self._send(cohort, member.name, self.device, member.name, "model", self._downlink.payload_bytes(member.name), number)
        yield download
        if download.delivered:
            self._downlink.received(member.name, broadcast)
            if not cohort.closed:
                update = yield from member.work(start, number, f"round {number}")
                if not cohort.closed:
                    yield from self._upload(cohort, member.name, update, number)
        elif download.transfer.outcome == "failed":
            cohort.failed += not cohort.closed
        cohort.ended()

    def _upload(self, cohort: _Cohort, member: str, update: Recipe, number: int) -> Process:
        training = self._training
        stream = self._world.streams.stream("uplink", training.name, member, number)
        encoded = values.encode(training.uplink, update, self._residuals.get(member), stream, training.feedback)
        upload = self._send(cohort, member, member, self.device, "update", training.payload_bytes(encoded), number)
        yield upload
        if upload.delivered and not cohort.closed:
            cohort.arrivals[member] = (self._world.now, encoded)
            return
        self._carry(member, encoded, accepted=False)
        if upload.transfer.outcome == "failed":
            cohort.failed += not cohort.closed

    def _carry(self, member: str, encoded: Recipe, accepted: bool) -> None:
        """Remember what a member adds to its next update: what the encoding lost, or all of it if it was not accepted."""
        if self._training.feedback:
            self._residuals[member] = values.residual(encoded) if accepted else values.unsent(encoded)

    def _send(self, cohort: _Cohort, member: str, source: str, destination: str, kind: Any, payload_bytes: int, number: int) -> Sending:
        sending = cohort.sendings[member] = self._training.send(source, destination, kind, payload_bytes, f"round {number}")
        return sending

    def _aggregate(self, cohort: _Cohort, number: int) -> Process:
        updates = [values.decoded(encoded) for encoded in cohort.accepted.values()]
        weights = [self.members[member].num_samples for member in cohort.accepted]
        self._training.used([cohort.updates[member] for member in cohort.accepted if member in cohort.updates])
        self.model = values.aggregate(self._aggregator, self.model, updates, weights)
        work = self._training.aggregation_work(len(updates))
        yield self._world.compute(self.device, work, workload=self._training.name, label=f"round {number}")


def num_asked(per_round: int, over_selection: float) -> int:
    """How many members a round asks to get `per_round` updates."""
    return math.ceil(round(per_round * over_selection, 9))
