"""What every training of clients around a server has in common: its settings, its checks, and its state while it runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from netfl.codecs import CODECS, Pipeline, Stage
from netfl.compute import Work
from netfl.errors import CodecError
from netfl.learning import values
from netfl.learning.trainer import TRAINERS, Trainer, unusable_device
from netfl.store import Recipe
from netfl.trace import Evaluation, Release, Round
from netfl.workloads.checks import Found, check_pipeline, dealing_problems, learner_problems, server_problems, shortened
from netfl.workloads.delays import DELAYS, Delay
from netfl.workloads.divergence import check_losses, diverged
from netfl.workloads.downlink import Downlink
from netfl.workloads.privacy import SampleBooks
from netfl.workloads.session import ModelFeed, Session, Setting, matching
from netfl.workloads.uplink import Uplink
from netfl.world import Message, Sending

__all__ = ["Federated", "Leaf", "Learners", "Process", "Training"]

Process = Generator[Any, Any, None]

_NEW_AFTER = 4
_LOOKS_EVERY = 16
"""After four rounds in a row that had to be trained, only every sixteenth round's losses are looked for on disk: facts are kept in the order of
rounds, so what lacks one lacks all behind it, unless another process is ahead with the same training.
"""


@dataclass(frozen=True, kw_only=True)
class Learners:
    """Clients that train on their own samples.

    Args:
        rounds: how many new global models.
        trainer: what a client does with a model.
        clients: names or patterns (`camera-*`) of the devices that have data; every end device when empty.
        delay: how much longer than its work a client's training takes; nothing when left out.
        evaluate_every: measure the global model after every this many rounds, and after the last.
    """

    rounds: Annotated[int, Ge(1)]
    trainer: Annotated[Trainer, TRAINERS]
    clients: tuple[str, ...] = ()
    delay: Annotated[Delay, DELAYS] | None = None
    evaluate_every: Annotated[int, Ge(1)] = 1

    role: ClassVar = "training"

    @property
    def ends(self) -> bool:
        """After its last round."""
        return True

    def problems(self, setting: Setting) -> Found:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        yield from learner_problems(self.clients, setting)

    def model_problems(self, session: Session) -> Found:
        """What shows only once data and model are there: shards that cannot be dealt, devices too small to train."""
        unusable = unusable_device(self.trainer)
        if unusable is not None:
            yield ("trainer", "device"), unusable
            return
        clients = matching(self.clients, session.world.topology)
        undealt = list(dealing_problems(len(clients), session))
        if undealt:
            yield from undealt
            return
        found = []
        for client, num_samples in zip(clients, session.shard_samples(len(clients)), strict=True):
            need = session.task.training_work(self.trainer, num_samples).memory_bytes
            have = session.world.profile(client).memory_bytes
            if need > have:
                found.append(f"training needs {need:,} bytes of memory on '{client}', which has {have:,}")
        yield from shortened((), found)


@dataclass(frozen=True, kw_only=True)
class Federated(Learners):
    """Clients that train the models of a server.

    Args:
        server: the device that aggregates.
        uplink: codecs of updates; none sends float32.
        downlink: codecs of models; none sends float32. With a sparsifier, the change of the model is sent, and a client
            that missed some gets all of them or the dense model, whichever is shorter.
        error_feedback: whether what a lossy codec drops is added to what it encodes next, on both directions.
        residual_decay: share of what a codec of updates dropped that is carried on.
    """

    server: str = "cloud"
    uplink: tuple[Annotated[Stage, CODECS], ...] = ()
    downlink: tuple[Annotated[Stage, CODECS], ...] = ()
    error_feedback: bool = True
    residual_decay: Annotated[float, Ge(0), Le(1)] = 1.0

    def __post_init__(self) -> None:
        for name in ("uplink", "downlink"):
            check_pipeline(name, getattr(self, name))

    def problems(self, setting: Setting) -> Found:
        """See `Learners`; and whether everyone reaches the server."""
        yield from super().problems(setting)
        yield from server_problems(self.server, self.clients, setting)

    def directions(self, training: Training, *place: str) -> tuple[Uplink, Downlink]:
        """What carries updates to a hub of a training, and models from it.

        Args:
            training: of this workload.
            place: what tells the hub's random streams from those of others; nothing for the server.
        """
        uplink = Uplink(training, self.uplink, self.error_feedback, self.residual_decay)
        return uplink, training.downlink(self.downlink, self.error_feedback, *place)


class Training:
    """One training under way: what its server and its clients share.

    Args:
        settings: of the workload.
        session: the run.
        name: of the workload.
        holder: the device that holds the newest global model.
    """

    def __init__(self, settings: Learners, session: Session, name: str, holder: str) -> None:
        self.settings = settings
        self.session = session
        self.world = session.world
        self.store = session.store
        self.name = name
        self.holder = holder
        clients = matching(settings.clients, self.world.topology)
        self.shards = session.shards(len(clients))
        num_samples = session.shard_samples(len(clients))
        self.clients = {client: Leaf(self, client, index, num_samples[index]) for index, client in enumerate(clients)}
        task = session.task
        self.model = values.initial_model(task.model, task.dataset, self.world.streams.stream("initial model"))
        self.version = 0
        self.feed = session.feeds[name] = ModelFeed(self.world.env, holder)
        self._unsettled: list[Recipe] = []
        self._releases: Counter[str] = Counter()
        self.sample_books = SampleBooks(settings.trainer)
        session.at_end(lambda: self.sample_books.write(name, self.world.trace))
        self._local_work: dict[int, Work] = {}
        self._cohort: tuple[Trainer, Recipe] | None = None
        self._round = 0
        self._fits: Mapping[str, Recipe] = {}
        self._trained_in_a_row: Counter[tuple[str, ...]] = Counter()  # rounds of each hub whose clients all had to be trained

    def begin(self) -> None:
        """Publish and measure the initial model."""
        self.world.keep(self.holder, self.name, 4 * self.session.task.num_parameters)
        self.feed.publish(self.version, self.model)
        self.session.reached(self._evaluate())

    def advance(self, model: Recipe) -> None:
        """There is a new global model."""
        self.model = model
        self.version += 1

    def end_round(self, round_: int, start_s: float, selected: int, accepted: int, failed: int, skipped: int = 0) -> None:
        """Publish what a round made, write it down, and measure the model when that is due."""
        if self.feed.version != self.version:
            self.feed.publish(self.version, self.model)
        self.world.trace.append(
            Round(
                workload=self.name, round=round_, start_s=start_s, end_s=self.world.now, selected=selected, accepted=accepted,
                failed=failed, skipped=skipped, aborted=selected - accepted - failed - skipped, version=self.version,
            )
        )  # fmt: skip
        if round_ % self.settings.evaluate_every == 0 or round_ == self.settings.rounds:
            self.session.report(self.name, round_, self.settings.rounds, self._evaluate())

    def send(self, source: str, destination: str, kind: Any, payload_bytes: int, label: str) -> Sending:
        """Send a message of this workload."""
        return self.world.send(source, destination, Message(kind=kind, payload_bytes=payload_bytes, workload=self.name, label=label))

    def pipeline(self, stages: tuple[Stage, ...]) -> Pipeline:
        """The codecs of vectors of this model, which know the shapes of its tensors if they look at them."""
        task = self.session.task
        if not any(hasattr(stage, "for_shapes") for stage in stages):
            return Pipeline(stages)
        return Pipeline(stages, self.store.force(values.tensor_shapes(task.model, task.dataset)))

    def downlink(self, stages: tuple[Stage, ...], error_feedback: bool, *place: str) -> Downlink:
        """What carries models from a device: the server, or the one that `place` names."""
        return Downlink(
            pipeline=self.pipeline(stages),
            num_values=self.session.task.num_parameters,
            error_feedback=error_feedback,
            stream=self.world.streams.stream("downlink", self.name, *place),
            store=self.store,
        )

    def payload_bytes(self, pipeline: Pipeline, encoded: Recipe) -> int:
        """Length of a model's or an update's encoding, in closed form where there is one."""
        stated = pipeline.encoded_bytes(self.session.task.num_parameters)
        return int(self.force(values.payload_bytes(encoded))) if stated is None else stated

    def released(self, client: str, pipeline: Pipeline) -> None:
        """A client sends an update; what its codecs spend of privacy is written down at the end."""
        if pipeline.epsilon_per_coordinate is not None:
            self._releases[client] += 1
            if self._releases.total() == 1:
                self.session.at_end(lambda: self._record_releases(pipeline))

    def _record_releases(self, pipeline: Pipeline) -> None:
        epsilon, num_values = pipeline.epsilon_per_coordinate, self.session.task.num_parameters
        assert epsilon is not None
        self.world.trace.append(
            Release(
                workload=self.name, epsilon=epsilon, released=pipeline.most_kept(num_values), num_values=num_values,
                rounds=max(self._releases.values()),
            )
        )  # fmt: skip

    def local_work(self, num_samples: int) -> Work:
        """What a client with so many samples does in a round."""
        if num_samples not in self._local_work:
            self._local_work[num_samples] = self.session.task.training_work(self.settings.trainer, num_samples)
        return self._local_work[num_samples]

    def aggregation_work(self, num_updates: int) -> Work:
        """Adding up that many updates: two operations a value, each read once, the model read and written."""
        num_values = self.session.task.num_parameters
        return Work(
            kind="aggregation",
            flop=2.0 * num_values * num_updates,
            moved_bytes=4.0 * num_values * (num_updates + 2),
            memory_bytes=4 * num_values * (num_updates + 1),
        )

    def wait_for_any(self, devices: list[str]) -> Process:
        """Until any of the devices is up."""
        while not any(self.world.is_up(device) for device in devices):
            yield self.world.sleep(min(self.world.next_change_s(device) for device in devices) - self.world.now)

    def cohort(self, turn: int) -> Recipe:
        """What clients that train in a round have in common: one recipe for all rounds with the same trainer."""
        trainer = self.settings.trainer.in_round(turn)
        if self._cohort is None or self._cohort[:1] != (trainer,):
            task, stream = self.session.task, self.world.streams.stream("fit", self.name)
            self._cohort = trainer, values.cohort(trainer, task.model, task.dataset, stream, self.shards)
        return self._cohort[1]

    def announce(self, number: int, fits: Mapping[str, Recipe]) -> None:
        """These clients' updates, of that round, will probably be needed."""
        self._round, self._fits = number, fits
        self.store.announce(fits.values())

    def used(self, number: int, fits: Mapping[str, Recipe], model: Recipe, place: tuple[str, ...] = ()) -> None:
        """These clients' updates made that model in that round: the next evaluation settles those that have not been computed for it.

        Args:
            number: of the round.
            fits: the `Update` of each client that counts, by name.
            model: the global model that the round made.
            place: what tells the hub whose round it is from others; nothing for the server.

        Raises:
            RunError: one of them has diverged.
        """
        looks = self._trained_in_a_row[place] < _NEW_AFTER or number % _LOOKS_EVERY == 0
        check_losses(self.store, self.name, number, fits, model, looks)
        not_computed = self.store.settle_computed(fits.values())
        self._unsettled += not_computed
        if fits:
            self._trained_in_a_row[place] = 0 if not_computed else self._trained_in_a_row[place] + 1

    def force(self, wanted: Recipe) -> Any:
        """A value of the training.

        Raises:
            RunError: no codec can carry it: training has diverged.
        """
        with self._diverging():
            return self.store.force(wanted)

    @contextmanager
    def _diverging(self) -> Iterator[None]:
        """An update that no codec can carry means that training has diverged."""
        try:
            yield
        except CodecError as error:
            raise diverged(self.store, self.name, self._round, self._fits, str(error)) from error

    def _evaluate(self) -> float:
        """Measure the newest global model.

        Raises:
            RunError: its loss is not a number: training has diverged.
        """
        task = self.session.task
        found = self.force(values.evaluate(task.model, self.model, task.dataset))
        self.store.settle(self._unsettled)
        self._unsettled.clear()
        if not math.isfinite(found.loss):
            raise diverged(self.store, self.name, self._round, self._fits, f"the loss of global model {self.version} is {found.loss}")
        self.world.trace.append(
            Evaluation(workload=self.name, version=self.version, time_s=self.world.now, accuracy=found.accuracy, loss=found.loss)
        )
        return float(found.accuracy)


class Leaf:
    """A client that trains on its own samples.

    Args:
        training: what it takes part in.
        name: the device.
        index: which shard is its own.
        num_samples: how many samples that has.
    """

    __slots__ = ("_index", "_training", "name", "num_samples")

    def __init__(self, training: Training, name: str, index: int, num_samples: int) -> None:
        self.name = name
        self.num_samples = num_samples
        self._training = training
        self._index = index

    def update(self, start: Recipe, turn: int, offset: Recipe | None = None) -> Recipe:
        """What training makes of a model at the client's `turn`-th time, or in that round; the offset is added to each gradient."""
        return values.fit(self._training.cohort(turn), start, self._index, self.name, turn, offset)

    def work(self, start: Recipe, update: Recipe | None, turn: int, label: str) -> Generator[Any, Any, Recipe]:
        """Spend the time that training takes; the update."""
        training = self._training
        work = training.local_work(self.num_samples)
        training.sample_books.trained(self.name, self.num_samples)
        yield training.world.compute(self.name, work, workload=training.name, label=label)
        delay = training.settings.delay
        if delay is not None:
            yield training.world.sleep(delay.draw_s(training.world.streams.stream("delay", training.name, self.name, turn)))
        return self.update(start, turn) if update is None else update
