"""A hub trains a model in rounds with its members: the server with its clients, or a gateway with the devices behind it."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from netfl.learning.aggregators import Aggregator
from netfl.learning.select import Selector
from netfl.store import Recipe
from netfl.workloads.aggregation import Aggregation, Controls
from netfl.workloads.downlink import Downlink
from netfl.workloads.federated import Process, Training
from netfl.workloads.known import Known
from netfl.workloads.privacy import ClientBooks
from netfl.workloads.secure import SecureAggregation
from netfl.workloads.selective import FLAG_BYTES, Selective, Uploads
from netfl.workloads.uplink import Uplink
from netfl.world import Sending

__all__ = ["Hub", "Member", "Outcome", "num_asked", "train"]


class Member(Protocol):
    """Who makes updates of models for a hub: a client, or another hub with members of its own."""

    name: str
    num_samples: int

    def update(self, start: Recipe, turn: int, offset: Recipe | None = None) -> Recipe | None:
        """The update that it would make in a round, if that is known in advance."""

    def work(self, start: Recipe, update: Recipe | None, turn: int, label: str) -> Generator[Any, Any, Recipe]:
        """Spend the time that it takes; the update, which is the one that `update` foretold if it did."""


@dataclass(frozen=True)
class Outcome:
    """What became of a round.

    Args:
        start_s: when its first members were set to work.
        selected: members asked.
        accepted: members whose update was aggregated.
        skipped: members that had nothing worth an upload.
        failed: members lost to the network.
    """

    start_s: float
    selected: int
    accepted: int
    skipped: int
    failed: int


class _Cohort:
    """The members of one round and what became of them."""

    def __init__(self, number: int, label: str, goal: int, asked: list[str], updates: dict[str, Recipe], complete: Any) -> None:
        self.number = number
        self.label = label
        self.goal = goal
        self.asked = asked
        self.updates = updates
        self.pending = len(asked)
        self.complete = complete
        self.closed = False
        self.arrivals: dict[str, tuple[float, Recipe]] = {}
        self.accepted: dict[str, Recipe] = {}
        self.skips: dict[str, float] = {}
        self.skipped: list[str] = []
        self.failed = 0
        self.sendings: dict[str, Sending] = {}

    def ended(self) -> None:
        """A member's part is over, whichever way."""
        self.pending -= 1
        decided = len(self.arrivals) + len(self.skips)
        if not self.closed and not self.complete.triggered and (self.pending == 0 or decided >= self.goal):
            self.complete.succeed()

    def close(self) -> None:
        """Accept the first arrivals and skips, those of one instant by name; cut off everyone who still sends."""
        self.closed = True
        times_s = {**self.skips, **{member: time_s for member, (time_s, _) in self.arrivals.items()}}
        first = sorted(sorted(times_s, key=lambda member: (times_s[member], member))[: self.goal])
        self.accepted = {member: self.arrivals[member][1] for member in first if member in self.arrivals}
        self.skipped = [member for member in first if member in self.skips]
        for sending in self.sendings.values():
            sending.abort()


class Hub:
    """Rounds of selection, download, training, upload and aggregation, of one device with its members.

    Args:
        training: what it belongs to.
        device: the hub.
        members: who makes updates for it, by name.
        uplink: what carries updates to it.
        downlink: what carries models from it.
        per_round: how many updates a round aggregates at most.
        asked: how many members a round asks.
        deadline_s: a round ends after this long with the updates that it has; None waits for all.
        selector: who takes part.
        aggregator: what the hub makes of the updates.
        model: what it begins with.
        selective: which clients upload; None has all of them do so.
        secure: how updates are masked; None sends them as the codecs make them.
        place: what tells this hub's random streams and labels from those of others; nothing for the server.
    """

    def __init__(
        self,
        training: Training,
        device: str,
        members: Mapping[str, Member],
        *,
        uplink: Uplink,
        downlink: Downlink,
        per_round: int,
        asked: int,
        deadline_s: float | None,
        selector: Selector,
        aggregator: Aggregator,
        model: Recipe,
        selective: Selective | None = None,
        secure: SecureAggregation | None = None,
        place: tuple[str, ...] = (),
    ) -> None:
        world = training.world
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
        trainer, num_values = training.settings.trainer, training.session.task.num_parameters
        self._aggregation = Aggregation(aggregator, trainer, world, (training.name, *place), len(members))
        self._controls = Controls(self._aggregation, trainer, num_values) if aggregator.uses_controls else None
        self._client_books = ClientBooks(aggregator, selector, len(members))
        training.session.at_end(lambda: self._client_books.write(training.name, world.trace))
        self._place = place
        self._secure = secure
        self._uploads = None if selective is None else Uploads(selective, training.force)
        self._uplink = uplink
        self._downlink = downlink
        self._cohort: _Cohort | None = None
        num_samples = {name: member.num_samples for name, member in members.items()}
        self._known = Known(training, device, uplink.pipeline, num_samples, selector.needs_losses)
        training.session.at_end(self._withdraw)

    def round(self, number: int) -> Generator[Any, Any, Outcome]:
        """Improve the hub's model by one round; what became of it."""
        yield from self._training.wait_for_any(list(self.members))
        start_s = self._world.now
        cohort, selected = self._open(number)
        self._cohort = cohort
        if self._deadline_s is None:
            yield cohort.complete
        else:
            yield cohort.complete | self._world.sleep(self._deadline_s)
        cohort.close()
        contributions = self._contributions(cohort)
        if len(contributions) < self._aggregation.aggregator.least_updates:
            contributions, cohort.accepted = {}, {}
        self._withdraw()
        for member, (_, sent) in cohort.arrivals.items():
            self._uplink.settle(member, sent, accepted=member in cohort.accepted)
        for member in cohort.accepted:
            self._known.accepted(member, cohort.arrivals[member][0] - start_s, cohort.updates.get(member))
        if contributions:
            yield from self._aggregate(cohort, contributions)
        return Outcome(start_s, selected, len(cohort.accepted), len(cohort.skipped), cohort.failed)

    def _withdraw(self) -> None:
        """Nobody will need what the other members of the newest cohort would have made."""
        if self._cohort is not None:
            accepted: Iterable[str] = self._cohort.accepted if self._cohort.closed else ()
            self._store.withdraw(update for member, update in self._cohort.updates.items() if member not in accepted)
            self._cohort = None

    def _open(self, number: int) -> tuple[_Cohort, int]:
        """Select the round's members and set them to work."""
        candidates = self._world.up_among(self.members)
        stream = self._world.streams.stream("select", self._training.name, *self._place, number)
        known = self._known.facts(candidates)
        selected = self._selector.select(candidates, min(self._asked, len(candidates)), stream, known)
        for member in selected:
            self._known.selected(member, number)
        broadcast = self._downlink.broadcast(self.model)
        updates = {}
        for member in selected:
            offset = None if self._controls is None else self._controls.offset(member)
            own = None if self._uploads is None else self._uploads.goes_on_with(member)
            update = self.members[member].update(broadcast.decoded if own is None else own, number, offset)
            if update is not None:
                updates[member] = update
        label = " ".join((*self._place, f"round {number}"))
        cohort = _Cohort(number, label, min(self._per_round, len(selected)), selected, updates, self._world.env.event())
        self._training.announce(number, updates)
        for member in selected:
            self._world.go(self._member(cohort, self.members[member], broadcast.decoded, broadcast.number))
        return cohort, len(selected)

    def _member(self, cohort: _Cohort, member: Member, start: Recipe, broadcast: int) -> Process:
        """One member's part in a round."""
        if self._uploads is not None and self._uploads.goes_on_with(member.name) is not None:
            yield from self._train(cohort, member, start)
            cohort.ended()
            return
        download_bytes = self._downlink.payload_bytes(member.name) + (0 if self._controls is None else self._controls.download_bytes)
        download = self._send(cohort, member.name, self.device, member.name, "model", download_bytes)
        yield download
        if download.delivered:
            self._downlink.received(member.name, broadcast)
            if self._uploads is not None:
                self._uploads.downloaded(member.name, start)
            if not cohort.closed:
                yield from self._train(cohort, member, start)
        elif download.transfer.outcome == "failed":
            cohort.failed += not cohort.closed
        cohort.ended()

    def _train(self, cohort: _Cohort, member: Member, start: Recipe) -> Process:
        """Train, and upload if the round is still open."""
        update = yield from member.work(start, cohort.updates.get(member.name), cohort.number, cohort.label)
        if cohort.closed:
            return
        if self._uploads is None:
            yield from self._upload(cohort, member.name, update)
        elif self._uploads.is_worth(member.name, update):
            yield from self._upload(cohort, member.name, self._uploads.change(member.name, update))
        else:
            self._uploads.skipped(member.name, update)
            flag = self._send(cohort, member.name, member.name, self.device, "metadata", FLAG_BYTES)
            yield flag
            if flag.delivered and not cohort.closed:
                cohort.skips[member.name] = self._world.now
            elif flag.transfer.outcome == "failed":
                cohort.failed += not cohort.closed

    def _upload(self, cohort: _Cohort, member: str, update: Recipe) -> Process:
        sent, upload_bytes = self._uplink.encode(member, update, cohort.number)
        if self._secure is not None:
            upload_bytes = self._secure.payload_bytes(self._training.session.task.num_parameters, len(cohort.asked))
        upload_bytes += 0 if self._controls is None else self._controls.payload_bytes
        upload = self._send(cohort, member, member, self.device, "update", upload_bytes)
        yield upload
        if upload.delivered and not cohort.closed:
            cohort.arrivals[member] = (self._world.now, sent)
            return
        self._uplink.settle(member, sent, accepted=False)
        if upload.transfer.outcome == "failed":
            cohort.failed += not cohort.closed

    def _send(self, cohort: _Cohort, member: str, source: str, destination: str, kind: Any, payload_bytes: int) -> Sending:
        sending = cohort.sendings[member] = self._training.send(source, destination, kind, payload_bytes, cohort.label)
        return sending

    def _contributions(self, cohort: _Cohort) -> dict[str, Recipe]:
        """What the hub aggregates, by member in the order of names."""
        found = {member: self._uplink.decoded(sent) for member, sent in cohort.accepted.items()}
        if self._uploads is not None:
            for member, decoded in list(found.items()):
                found[member] = self._uploads.accepted(member, cohort.updates[member], decoded, self.model)
            for member in cohort.skipped:
                stale = self._uploads.stale(member, self.model)
                if stale is not None:
                    found[member] = stale
        return dict(sorted(found.items()))

    def _aggregate(self, cohort: _Cohort, contributions: Mapping[str, Recipe]) -> Process:
        num_samples = [self.members[member].num_samples for member in contributions]
        fits = {member: cohort.updates[member] for member in cohort.accepted if member in cohort.updates}
        changes = () if self._controls is None else self._controls.changes(fits, num_samples)
        self.model = self._aggregation.combine(cohort.number, self.model, list(contributions.values()), num_samples, changes)
        self._client_books.aggregated(len(cohort.asked))
        self._training.used(cohort.number, fits, self.model, self._place)
        work = self._training.aggregation_work(len(contributions))
        yield self._world.compute(self.device, work, workload=self._training.name, label=cohort.label)


def train(training: Training, server: Hub) -> Process:
    """All rounds of a training whose global model is that of a hub."""
    training.begin()
    for number in range(1, training.settings.rounds + 1):
        outcome = yield from server.round(number)
        if server.model is not training.model:
            training.advance(server.model)
        training.end_round(number, outcome.start_s, outcome.selected, outcome.accepted, outcome.failed, outcome.skipped)


def num_asked(per_round: int, over_selection: float) -> int:
    """How many members a round asks to get `per_round` updates."""
    return math.ceil(round(per_round * over_selection, 9))
