"""Synchronous federated training: rounds of selection, download, local training, upload and aggregation.

McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017, with the
over-selection and the deadline of Bonawitz et al., "Towards federated learning at scale", SysML 2019.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from netfl.codecs import CODECS, Pipeline, Stage
from netfl.compute import Work
from netfl.errors import CodecError, NetflError
from netfl.learning import values
from netfl.learning.aggregate import AGGREGATORS, Aggregator, Mean
from netfl.learning.select import SELECTORS, Selector, Uniform
from netfl.learning.trainer import TRAINERS, Trainer, unusable_device
from netfl.store import Recipe
from netfl.trace import Evaluation, Round
from netfl.units import Duration
from netfl.workloads.checks import check_pipeline, check_positive, missing_device, shortened, unmatched, unreachable
from netfl.workloads.divergence import check_losses, diverged
from netfl.workloads.downlink import Downlink
from netfl.workloads.session import ModelFeed, Session, Setting, matching
from netfl.world import Message, Sending

__all__ = ["Synchronous"]

Process = Generator[Any, Any, None]


@dataclass(frozen=True, kw_only=True)
class Synchronous:
    """Federated averaging in rounds.

    Args:
        rounds: how many rounds.
        clients_per_round: how many updates a round aggregates at most.
        trainer: what a client does with a model.
        server: the device that aggregates.
        clients: names or patterns (`camera-*`) of the devices that have data; every end device when empty.
        over_selection: ask this many times `clients_per_round` clients, rounded up, and abort who comes too late.
        deadline: a round ends after this long with the updates that it has; none waits for all.
        uplink: codecs of updates; none sends float32.
        downlink: codecs of models; none sends float32. With a sparsifier, a round sends the change of the model, and a
            client that missed some gets all of them or the dense model, whichever is shorter.
        error_feedback: whether what a lossy codec drops is added to what it encodes next, on both directions.
        selector: who takes part.
        aggregator: what the server makes of the updates.
        evaluate_every: measure the global model after every this many rounds, and after the last.
    """

    rounds: Annotated[int, Ge(1)]
    clients_per_round: Annotated[int, Ge(1)]
    trainer: Annotated[Trainer, TRAINERS]
    server: str = "cloud"
    clients: tuple[str, ...] = ()
    over_selection: Annotated[float, Ge(1), Le(100)] = 1.0
    deadline: Duration | None = None
    uplink: tuple[Annotated[Stage, CODECS], ...] = ()
    downlink: tuple[Annotated[Stage, CODECS], ...] = ()
    error_feedback: bool = True
    selector: Annotated[Selector, SELECTORS] = field(default_factory=Uniform)
    aggregator: Annotated[Aggregator, AGGREGATORS] = field(default_factory=Mean)
    evaluate_every: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        for name in ("uplink", "downlink"):
            check_pipeline(name, getattr(self, name))
        check_positive("deadline", self.deadline)

    def problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        if not setting.has_task:
            yield (), "training needs `data` and `model` in the scenario"
        yield from missing_device("server", self.server, setting)
        clients = matching(self.clients, setting.topology)
        yield from unmatched("clients", self.clients, setting)
        if not clients:
            yield ("clients",), "no device matches: training has no clients"
        if self.server in clients:
            yield ("clients",), f"the server '{self.server}' cannot be its own client"
        asked = self.num_asked
        if clients and asked > len(clients):
            yield ("clients_per_round",), f"asks {asked} clients a round (over-selection included); there are {len(clients)}"
        yield from unreachable("server", clients, self.server, setting)

    def model_problems(self, session: Session) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What shows only once data and model are there: shards that cannot be dealt, devices too small to train."""
        unusable = unusable_device(self.trainer)
        if unusable is not None:
            yield ("trainer", "device"), unusable
            return
        clients = matching(self.clients, session.world.topology)
        try:
            samples = session.store.force(values.shard_samples(self._shards(session, len(clients))))
        except (NetflError, ValueError) as error:
            yield (), f"the data cannot be dealt to {len(clients)} clients: {error}"
            return
        found = []
        for client, num_samples in zip(clients, samples, strict=True):
            need = self._work(session, num_samples).memory_bytes
            have = session.world.profile(client).memory_bytes
            if need > have:
                found.append(f"training needs {need:,} bytes of memory on '{client}', which has {have:,}")
        yield from shortened((), found)

    @property
    def num_asked(self) -> int:
        """How many clients a round asks."""
        return math.ceil(round(self.clients_per_round * self.over_selection, 9))

    role: ClassVar = "training"

    @property
    def ends(self) -> bool:
        """After its last round."""
        return True

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        session.feeds[name] = ModelFeed(session.world.env, self.server)
        return _Training(self, session, name).run()

    def _shards(self, session: Session, num_clients: int) -> Recipe:
        return values.shards(session.task.dataset, session.task.partition, num_clients, session.world.streams.stream("partition"))

    def _work(self, session: Session, num_samples: int) -> Work:
        trainer = self.trainer
        return session.task.training_work(num_samples, trainer.epochs, trainer.batch_size, trainer.steps(num_samples))


class _Cohort:
    """The clients of one round and what became of them."""

    def __init__(self, goal: int, fits: dict[str, Recipe], complete: Any) -> None:
        self.goal = goal
        self.fits = fits
        self.pending = len(fits)
        self.complete = complete
        self.closed = False
        self.arrivals: dict[str, tuple[float, Recipe]] = {}
        self.accepted: dict[str, Recipe] = {}
        self.failed = 0
        self.sendings: dict[str, Sending] = {}

    def ended(self) -> None:
        """A client's part is over, whichever way."""
        self.pending -= 1
        if not self.closed and not self.complete.triggered and (self.pending == 0 or len(self.arrivals) >= self.goal):
            self.complete.succeed()

    def close(self) -> None:
        """Accept the first arrivals, those of one instant by name, and cut off everyone who still sends."""
        self.closed = True
        first = sorted(self.arrivals, key=lambda client: (self.arrivals[client][0], client))[: self.goal]
        self.accepted = {client: self.arrivals[client][1] for client in sorted(first)}
        for sending in self.sendings.values():
            sending.abort()


class _Training:
    """One training workload under way."""

    def __init__(self, settings: Synchronous, session: Session, name: str) -> None:
        self.settings = settings
        self.session = session
        self.world = session.world
        self.store = session.store
        self.name = name
        self.uplink = Pipeline(settings.uplink)
        self.feedback = settings.error_feedback and not self.uplink.lossless
        self.clients = matching(settings.clients, self.world.topology)
        self.index = {client: index for index, client in enumerate(self.clients)}
        self.shards = settings._shards(session, len(self.clients))
        task = session.task
        self.num_samples = dict(zip(self.clients, self.store.force(values.shard_samples(self.shards)), strict=True))
        self.model = values.initial_model(task.model, task.dataset, self.world.streams.stream("initial model"))
        self.version = 0
        self.residuals: dict[str, Recipe] = {}
        self.cohort: _Cohort | None = None
        self.unsettled: list[Recipe] = []
        self.round = 0
        self.fits: dict[str, Recipe] = {}
        self.downlink = Downlink(
            pipeline=Pipeline(settings.downlink),
            num_values=task.num_parameters,
            error_feedback=settings.error_feedback,
            stream=self.world.streams.stream("downlink", name),
            store=self.store,
        )

    def run(self) -> Process:
        self.session.at_end(self._withdraw)
        feed = self.session.feeds[self.name]
        self.world.keep(self.settings.server, self.name, 4 * self.session.task.num_parameters)
        feed.publish(self.version, self.model)
        self.session.reached(self._evaluate())
        for round_ in range(1, self.settings.rounds + 1):
            yield from self._wait_for_clients()
            start_s = self.world.now
            cohort, selected = self._open(round_)
            self.cohort = cohort
            if self.settings.deadline is None:
                yield cohort.complete
            else:
                yield cohort.complete | self.world.sleep(self.settings.deadline)
            cohort.close()
            self._withdraw()
            for client, (_, encoded) in cohort.arrivals.items():
                self._carry(client, encoded, accepted=client in cohort.accepted)
            if cohort.accepted:
                yield from self._aggregate(cohort, round_)
                feed.publish(self.version, self.model)
            self.world.trace.append(
                Round(
                    workload=self.name, round=round_, start_s=start_s, end_s=self.world.now, selected=selected,
                    accepted=len(cohort.accepted), failed=cohort.failed,
                    aborted=selected - len(cohort.accepted) - cohort.failed, version=self.version,
                )
            )  # fmt: skip
            if round_ % self.settings.evaluate_every == 0 or round_ == self.settings.rounds:
                self.session.report(self.name, round_, self.settings.rounds, self._evaluate())

    def _withdraw(self) -> None:
        """Nobody will need what the other clients of the newest cohort would have trained."""
        if self.cohort is not None:
            accepted = self.cohort.accepted if self.cohort.closed else {}
            self.store.withdraw(fit for client, fit in self.cohort.fits.items() if client not in accepted)
            self.cohort = None

    def _wait_for_clients(self) -> Process:
        """Until any client is up."""
        while not any(self.world.is_up(client) for client in self.clients):
            yield self.world.sleep(min(self.world.next_change_s(client) for client in self.clients) - self.world.now)

    def _open(self, round_: int) -> tuple[_Cohort, int]:
        """Select the round's clients and set them to work."""
        candidates = [client for client in self.clients if self.world.is_up(client)]
        stream = self.world.streams.stream("select", self.name, round_)
        selected = self.settings.selector.select(candidates, min(self.settings.num_asked, len(candidates)), stream)
        broadcast = self.downlink.broadcast(self.model)
        task = self.session.task
        fits = {
            client: values.fit(
                self.settings.trainer, task.model, broadcast.decoded, task.dataset, (self.shards, self.index[client]),
                self.world.streams.stream("fit", self.name, client, round_),
            )
            for client in selected
        }  # fmt: skip
        self.round, self.fits = round_, fits
        cohort = _Cohort(min(self.settings.clients_per_round, len(selected)), fits, self.world.env.event())
        self.store.announce(fits.values())
        for client in selected:
            self.world.env.process(self._client(cohort, client, fits[client], broadcast.number, round_))
        return cohort, len(selected)

    def _client(self, cohort: _Cohort, client: str, fitted: Recipe, broadcast: int, round_: int) -> Process:
        """One client's part in a round."""
        server = self.settings.server
        download = self._send(cohort, client, server, client, "model", self.downlink.payload_bytes(client), round_)
        yield download
        if download.delivered:
            self.downlink.received(client, broadcast)
            work = self.settings._work(self.session, self.num_samples[client])
            if not cohort.closed:
                yield self.world.compute(client, work, workload=self.name, label=f"round {round_}")
            if not cohort.closed:
                yield from self._upload(cohort, client, fitted, round_)
        elif download.transfer.outcome == "failed":
            cohort.failed += not cohort.closed
        cohort.ended()

    def _upload(self, cohort: _Cohort, client: str, fitted: Recipe, round_: int) -> Process:
        stream = self.world.streams.stream("uplink", self.name, client, round_)
        encoded = values.encode(self.uplink, fitted, self.residuals.get(client), stream, self.feedback)
        payload_bytes = self.uplink.encoded_bytes(self.session.task.num_parameters)
        if payload_bytes is None:
            payload_bytes = self._force(values.payload_bytes(encoded))
        upload = self._send(cohort, client, client, self.settings.server, "update", payload_bytes, round_)
        yield upload
        if upload.delivered and not cohort.closed:
            cohort.arrivals[client] = (self.world.now, encoded)
            return
        self._carry(client, encoded, accepted=False)
        if upload.transfer.outcome == "failed":
            cohort.failed += not cohort.closed

    def _carry(self, client: str, encoded: Recipe, accepted: bool) -> None:
        """Remember what a client adds to its next update: what the encoding lost, or all of it if it was not accepted."""
        if self.feedback:
            self.residuals[client] = values.residual(encoded) if accepted else values.unsent(encoded)

    def _send(self, cohort: _Cohort, client: str, source: str, destination: str, kind: Any, payload_bytes: int, round_: int) -> Sending:
        message = Message(kind=kind, payload_bytes=payload_bytes, workload=self.name, label=f"round {round_}")
        sending = self.world.send(source, destination, message)
        cohort.sendings[client] = sending
        return sending

    def _aggregate(self, cohort: _Cohort, round_: int) -> Process:
        updates = [values.decoded(encoded) for encoded in cohort.accepted.values()]
        weights = [self.num_samples[client] for client in cohort.accepted]
        fits = {client: cohort.fits[client] for client in cohort.accepted}
        self.unsettled += fits.values()
        self.model = values.aggregate(self.settings.aggregator, self.model, updates, weights)
        with self._diverging():
            check_losses(self.store, self.name, round_, fits, self.model)
        self.version += 1
        size = self.session.task.num_parameters
        work = Work(
            kind="aggregation",
            flop=2.0 * size * len(updates),
            moved_bytes=4.0 * size * (len(updates) + 2),
            memory_bytes=4 * size * (len(updates) + 1),
        )
        yield self.world.compute(self.settings.server, work, workload=self.name, label=f"round {round_}")

    def _force(self, wanted: Recipe) -> Any:
        """A value of the training."""
        with self._diverging():
            return self.store.force(wanted)

    @contextmanager
    def _diverging(self) -> Iterator[None]:
        """An update that no codec can carry means that training has diverged."""
        try:
            yield
        except CodecError as error:
            raise diverged(self.store, self.name, self.round, self.fits, str(error)) from error

    def _evaluate(self) -> float:
        """Measure the newest global model.

        Raises:
            RunError: its loss is not a number: training has diverged.
        """
        task = self.session.task
        found = self._force(values.evaluate(task.model, self.model, task.dataset))
        self.store.settle(self.unsettled)
        self.unsettled.clear()
        if not math.isfinite(found.loss):
            raise diverged(self.store, self.name, self.round, self.fits, f"the loss of global model {self.version} is {found.loss}")
        self.world.trace.append(
            Evaluation(workload=self.name, version=self.version, time_s=self.world.now, accuracy=found.accuracy, loss=found.loss)
        )
        return float(found.accuracy)
