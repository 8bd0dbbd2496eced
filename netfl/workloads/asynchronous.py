"""Federated training without rounds: clients come and go, and the server takes their updates as they arrive.

`asynchronous` mixes every update into the model at once: C. Xie, S. Koyejo, I. Gupta, "Asynchronous federated optimization",
2019 (FedAsync). `buffered` waits for a few of them: J. Nguyen et al., "Federated learning with buffered asynchronous
aggregation", AISTATS 2022 (FedBuff).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from annotated_types import Ge, Gt, Le

from netfl.learning import values
from netfl.learning.aggregators import AGGREGATORS, Aggregator, Mean
from netfl.learning.select import SELECTORS, Selector, Uniform
from netfl.learning.staleness import STALENESS, Polynomial, Staleness
from netfl.store import Recipe
from netfl.workloads.aggregation import Aggregation
from netfl.workloads.checks import Found, aggregator_problems
from netfl.workloads.downlink import Broadcast
from netfl.workloads.federated import Federated, Process, Training
from netfl.workloads.known import Known
from netfl.workloads.session import Session, Setting, matching

__all__ = ["Asynchronous", "Buffered"]


@dataclass(frozen=True, kw_only=True)
class _Continuous(Federated):
    """Some clients are at work at any time; when one has ended its part, another begins with the newest model.

    Args:
        concurrency: how many clients are at work at a time.
        staleness: how little an update counts that was made from an old model.
        max_staleness: an update is not used when its start model is more versions old than this; all are when left out.
        selector: who begins next.
    """

    concurrency: Annotated[int, Ge(1)]
    staleness: Annotated[Staleness, STALENESS] = field(default_factory=Polynomial)
    max_staleness: Annotated[int, Ge(0)] | None = None
    selector: Annotated[Selector, SELECTORS] = field(default_factory=Uniform)

    def problems(self, setting: Setting) -> Found:
        """See `Workload`."""
        yield from super().problems(setting)
        clients = matching(self.clients, setting.topology)
        if clients and self.concurrency > len(clients):
            yield ("concurrency",), f"expected at most the number of clients, {len(clients)}; got {self.concurrency}"


@dataclass(frozen=True, kw_only=True)
class Asynchronous(_Continuous):
    """Every update is mixed into the global model when it arrives (FedAsync).

    The new model is (1 - a) times the present one plus a times the client's, with a = mixing * staleness factor. A round is one
    update.

    Args:
        mixing: how much of a client's fresh model is taken. Xie et al. 2019, section 6, try 0.4 to 0.9.
    """

    mixing: Annotated[float, Gt(0), Le(1)] = 0.6

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        training = Training(self, session, name, self.server)

        def mixed(model: Recipe, arrivals: list[Arrival]) -> Recipe:
            (arrival,) = arrivals
            share = self.mixing * self.staleness.factor(training.version - arrival.version)
            return values.mixed(model, values.total(arrival.start, arrival.decoded), share)

        return _Server(self, training, per_round=1, combine=mixed).run()


@dataclass(frozen=True, kw_only=True)
class Buffered(_Continuous):
    """The server aggregates whenever its buffer is full (FedBuff). A round is one such aggregation.

    Each update is multiplied with its staleness factor before the aggregator gets it; the mean weighs by samples, as everywhere
    in netfl (a choice: Nguyen et al. weigh alike).

    Args:
        buffer: how many updates it holds.
        aggregator: what the server makes of them.
    """

    buffer: Annotated[int, Ge(1)]
    aggregator: Annotated[Aggregator, AGGREGATORS] = field(default_factory=Mean)

    def problems(self, setting: Setting) -> Found:
        """See `Workload`."""
        yield from super().problems(setting)
        yield from aggregator_problems(self.aggregator, self.trainer, ("buffer", self.buffer), carries_controls=False)

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        training = Training(self, session, name, self.server)
        aggregation = Aggregation(self.aggregator, self.trainer, training.world, (name,), len(training.clients))

        def aggregated(model: Recipe, arrivals: list[Arrival]) -> Recipe:
            arrivals = sorted(arrivals, key=lambda arrival: (arrival.client, arrival.turn))
            factors = [self.staleness.factor(training.version - arrival.version) for arrival in arrivals]
            updates = [values.scaled(arrival.decoded, factor) for arrival, factor in zip(arrivals, factors, strict=True)]
            num_samples = [training.clients[arrival.client].num_samples for arrival in arrivals]
            return aggregation.combine(training.version + 1, model, updates, num_samples)

        return _Server(self, training, per_round=self.buffer, combine=aggregated).run()


@dataclass(frozen=True)
class Arrival:
    """An update that the server has.

    Args:
        start_s: when the client began its part.
        time_s: when the update arrived.
        client: who made it.
        turn: for the how-manieth time it took part.
        version: number of the global model that it was made from.
        start: what the client decoded of that model.
        decoded: the update as the server decodes it; the one that the client made if it was sent as it is.
        fit: the update as the client made it.
    """

    start_s: float
    time_s: float
    client: str
    turn: int
    version: int
    start: Recipe
    decoded: Recipe
    fit: Recipe


class _Combine(Protocol):
    """What the server makes of a model and the arrivals of a round."""

    def __call__(self, model: Recipe, arrivals: list[Arrival]) -> Recipe: ...


class _Server:
    """The server of a continuous training, and its clients' parts.

    Args:
        settings: of the workload.
        training: its state.
        per_round: how many updates it combines at a time.
        combine: how.
    """

    def __init__(self, settings: _Continuous, training: Training, *, per_round: int, combine: _Combine) -> None:
        self._settings = settings
        self._training = training
        self._world = training.world
        self._per_round = per_round
        self._combine = combine
        self._uplink, self._downlink = settings.directions(training)
        num_samples = {client: leaf.num_samples for client, leaf in training.clients.items()}
        self._known = Known(training, settings.server, self._uplink.pipeline, num_samples, settings.selector.needs_losses)
        self._broadcast: tuple[int, Broadcast] | None = None
        self._turns: Counter[str] = Counter()
        self._busy: dict[str, Recipe] = {}
        self._arrivals: list[Arrival] = []
        self._lost: Counter[str] = Counter()
        self._changed = self._world.env.event()

    def run(self) -> Process:
        """The process of the whole training."""
        training, world = self._training, self._world
        training.session.at_end(self._withdraw)
        training.begin()
        for number in range(1, self._settings.rounds + 1):
            start_s = world.now
            while len(self._arrivals) < self._per_round:
                yield from self._wait()
            # Those of one instant by name.
            self._arrivals.sort(key=lambda arrival: (arrival.time_s, arrival.client))
            taken, self._arrivals = self._arrivals[: self._per_round], self._arrivals[self._per_round :]
            model = self._combine(training.model, taken)
            for arrival in taken:
                self._known.accepted(arrival.client, arrival.time_s - arrival.start_s, arrival.fit)
            training.used(number, {f"{arrival.client}, turn {arrival.turn}": arrival.fit for arrival in taken}, model)
            yield world.compute(
                self._settings.server, training.aggregation_work(len(taken)), workload=training.name, label=f"round {number}"
            )
            training.advance(model)
            lost, self._lost = self._lost, Counter()
            training.end_round(number, start_s, len(taken) + lost.total(), len(taken), lost["failed"])

    def _wait(self) -> Process:
        """Set idle clients to work, and wait until something has changed."""
        self._fill()
        changes = [self._changed]
        if len(self._busy) < self._settings.concurrency:
            down = [client for client in self._training.clients if client not in self._busy and not self._world.is_up(client)]
            if down:
                changes.append(self._world.sleep(min(self._world.next_change_s(client) for client in down) - self._world.now))
        yield self._world.env.any_of(changes)

    def _fill(self) -> None:
        """Have as many clients at work as there should be."""
        training = self._training
        idle = self._world.up_among(client for client in training.clients if client not in self._busy)
        count = min(self._settings.concurrency - len(self._busy), len(idle))
        if count <= 0:
            return
        stream = self._world.streams.stream("select", training.name, self._turns.total())
        if self._broadcast is None or self._broadcast[0] != training.version:
            self._broadcast = training.version, self._downlink.broadcast(training.model)
        broadcast = self._broadcast[1]
        selector = self._settings.selector
        for client in selector.select(idle, count, stream, self._known.facts(idle)):
            self._known.selected(client, training.version + 1)
            self._turns[client] += 1
            self._busy[client] = training.clients[client].update(broadcast.decoded, self._turns[client])
            training.announce(training.version + 1, {client: self._busy[client]})
            self._world.go(self._client(client, training.version, broadcast))

    def _client(self, client: str, version: int, broadcast: Broadcast) -> Process:
        """One client's part: download, training, upload."""
        training, server, turn = self._training, self._settings.server, self._turns[client]
        label, start_s = f"turn {turn}", self._world.now
        download = training.send(server, client, "model", self._downlink.payload_bytes(client), label)
        yield download
        if not download.delivered:
            self._lose(client, "failed")
            return
        self._downlink.received(client, broadcast.number)
        update = yield from training.clients[client].work(broadcast.decoded, self._busy[client], turn, label)
        sent, upload_bytes = self._uplink.encode(client, update, turn)
        upload = training.send(client, server, "update", upload_bytes, label)
        yield upload
        oldest = self._settings.max_staleness
        accepted = upload.delivered and (oldest is None or training.version - version <= oldest)
        self._uplink.settle(client, sent, accepted)
        if not accepted:
            self._lose(client, "stale" if upload.delivered else "failed")
            return
        fit = self._busy.pop(client)
        decoded = self._uplink.decoded(sent)
        self._arrivals.append(Arrival(start_s, self._world.now, client, turn, version, broadcast.decoded, decoded, fit))
        self._notify()

    def _lose(self, client: str, why: str) -> None:
        """A client's part has come to nothing."""
        self._training.store.withdraw([self._busy.pop(client)])
        self._lost[why] += 1
        self._notify()

    def _withdraw(self) -> None:
        """The run has ended: nobody will need what is under way."""
        self._training.store.withdraw([*self._busy.values(), *(arrival.fit for arrival in self._arrivals)])

    def _notify(self) -> None:
        changed, self._changed = self._changed, self._world.env.event()
        changed.succeed()
