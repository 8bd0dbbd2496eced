"""What Crowdlearning is compared with: one server with everybody's data, and everybody with their own data alone."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import simpy
from annotated_types import Ge

from netfl.compute import Work
from netfl.errors import RunError
from netfl.learning import values
from netfl.learning.trainer import TRAINERS, Trainer
from netfl.store import Recipe
from netfl.trace import Evaluation, Round
from netfl.units import Size
from netfl.workloads.checks import Found, dealing_problems, learner_problems, server_problems, shortened
from netfl.workloads.divergence import what_to_lower
from netfl.workloads.session import ModelFeed, Session, Setting, matching
from netfl.workloads.sliced_batches import Wire, carry
from netfl.world import Message, World

__all__ = ["Centralised", "Standalone"]

Process = Generator[Any, Any, Any]


@dataclass(frozen=True, kw_only=True)
class Centralised:
    """Everybody sends their samples to the server, which trains alone.

    Samples go as messages of the kind `update` with the label `data`, sealed by nobody.

    Args:
        epochs: passes over all data, if the trainer's `epochs` is 1.
        trainer: what the server does in an epoch.
        server: the device that trains.
        clients: names or patterns (`camera-*`) of the devices that have data; every end device when empty.
        sample: bytes of one sample with its label on the wire; one byte a number and one for the label when not given.
        evaluate_every: measure the model after every this many epochs, and after the last.
    """

    epochs: Annotated[int, Ge(1)]
    trainer: Annotated[Trainer, TRAINERS]
    server: str = "cloud"
    clients: tuple[str, ...] = ()
    sample: Size | None = None
    evaluate_every: Annotated[int, Ge(1)] = 1

    def problems(self, setting: Setting) -> Found:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        yield from learner_problems(self.clients, setting)
        yield from server_problems(self.server, self.clients, setting)

    def model_problems(self, session: Session) -> Found:
        """What shows only once data and model are there: shards that cannot be dealt, a server that is too small."""
        num_clients = len(matching(self.clients, session.world.topology))
        undealt = list(dealing_problems(num_clients, session))
        if undealt:
            yield from undealt
            return
        work = session.task.training_work(self.trainer, sum(session.shard_samples(num_clients)))
        yield from _memory_problems([self.server], work, session, "server")

    role: ClassVar = "training"

    @property
    def ends(self) -> bool:
        """After its last epoch."""
        return True

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        session.feeds[name] = ModelFeed(session.world.env, self.server)
        return self._run(session, name)

    def _run(self, session: Session, name: str) -> Process:
        world, task, clients = session.world, session.task, matching(self.clients, session.world.topology)
        model = values.initial_model(task.model, task.dataset, world.streams.stream("initial model"))
        world.keep(self.server, name, 4 * task.num_parameters)
        session.feeds[name].publish(0, model)
        session.reached(_measured(session, name, 0, {"the global model": model}))
        sample_bytes = math.prod(task.facts.sample_shape) + 1 if self.sample is None else self.sample
        samples = session.shard_samples(len(clients))
        sent = []
        for client, count in zip(clients, samples, strict=True):
            message = Message(kind="update", payload_bytes=count * sample_bytes, workload=name, label="data")
            sent.append(world.env.process(carry(world, Wire(None, 0, 0.0), client, self.server, message)))
        start_s = world.now
        yield world.env.all_of(sent)
        work = session.task.training_work(self.trainer, sum(samples))
        for epoch in range(1, self.epochs + 1):
            yield from _until(world, self.server, world.compute(self.server, work, workload=name, label=f"epoch {epoch}"), name)
            stream = world.streams.stream("fit", name, epoch)
            model = values.total(model, values.fit(values.cohort(self.trainer, task.model, task.dataset, stream), model))
            session.feeds[name].publish(epoch, model)
            _record(session, name, epoch, start_s, 1)
            start_s = world.now
            if epoch % self.evaluate_every == 0 or epoch == self.epochs:
                session.report(name, epoch, self.epochs, _measured(session, name, epoch, {"the global model": model}))


@dataclass(frozen=True, kw_only=True)
class Standalone:
    """Everybody trains alone on their own data, and sends nothing. The accuracy is the mean over everybody's models.

    Args:
        epochs: passes over one's own data, if the trainer's `epochs` is 1.
        trainer: what everybody does in an epoch.
        clients: names or patterns (`camera-*`) of the devices that have data; every end device when empty.
        evaluate_every: measure the models after every this many epochs, and after the last.
    """

    epochs: Annotated[int, Ge(1)]
    trainer: Annotated[Trainer, TRAINERS]
    clients: tuple[str, ...] = ()
    evaluate_every: Annotated[int, Ge(1)] = 1

    def problems(self, setting: Setting) -> Found:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        yield from learner_problems(self.clients, setting)
        mine = [name for name, workload in setting.workloads.items() if workload is self]
        for name, workload in setting.workloads.items():
            if getattr(workload, "role", None) == "serving" and getattr(workload, "model", None) in mine:
                yield (), f"standalone training has no global model, which '{name}' would serve"

    def model_problems(self, session: Session) -> Found:
        """What shows only once data and model are there: shards that cannot be dealt, devices too small to train."""
        clients = matching(self.clients, session.world.topology)
        yield from dealing_problems(len(clients), session)
        yield from _memory_problems(clients, session.task.training_work(self.trainer, self.trainer.batch_size), session, "clients")

    role: ClassVar = "training"

    @property
    def ends(self) -> bool:
        """After its last epoch."""
        return True

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        return self._run(session, name)

    def _run(self, session: Session, name: str) -> Process:
        world, task, clients = session.world, session.task, matching(self.clients, session.world.topology)
        initial = values.initial_model(task.model, task.dataset, world.streams.stream("initial model"))
        models = [initial for _ in clients]
        cohort = values.cohort(self.trainer, task.model, task.dataset, world.streams.stream("fit", name), session.shards(len(clients)))
        samples = session.shard_samples(len(clients))
        session.reached(_measured(session, name, 0, {"the first model": initial}))
        for epoch in range(1, self.epochs + 1):
            start_s = world.now
            done = []
            for index, client in enumerate(clients):
                computing = world.compute(
                    client, session.task.training_work(self.trainer, samples[index]), workload=name, label=f"epoch {epoch}"
                )
                done.append(world.env.process(_until(world, client, computing, name)))
                models[index] = values.total(models[index], values.fit(cohort, models[index], index, client, epoch))
            yield world.env.all_of(done)
            _record(session, name, epoch, start_s, len(clients))
            if epoch % self.evaluate_every == 0 or epoch == self.epochs:
                session.report(name, epoch, self.epochs, _measured(session, name, epoch, _of_clients(clients, models)))


def _memory_problems(devices: Sequence[str], work: Work, session: Session, setting_name: str) -> Found:
    found = [
        f"training needs {work.memory_bytes:,} bytes of memory on '{device}', which has {session.world.profile(device).memory_bytes:,}"
        for device in devices
        if work.memory_bytes > session.world.profile(device).memory_bytes
    ]
    yield from shortened((setting_name,), found)


def _until(world: World, device: str, event: simpy.Event, workload: str) -> Process:
    """Wait for work on a device.

    Raises:
        RunError: the device is down for good.
    """
    while not event.triggered:
        change_s = world.next_change_s(device)
        if math.isfinite(change_s):
            yield event | world.sleep(change_s - world.now)
        elif world.is_up(device):
            yield event
        else:
            raise RunError(f"workload '{workload}': '{device}' went down while it trained, and never comes back")


def _record(session: Session, name: str, epoch: int, start_s: float, count: int) -> None:
    session.world.trace.append(
        Round(
            workload=name, round=epoch, start_s=start_s, end_s=session.world.now, selected=count, accepted=count, aborted=0, failed=0,
            version=epoch,
        )
    )  # fmt: skip


def _of_clients(clients: Sequence[str], models: Sequence[Recipe]) -> dict[str, Recipe]:
    """The models of clients, under what errors name them."""
    return {f"the model of client '{client}'": model for client, model in zip(clients, models, strict=True)}


def _measured(session: Session, name: str, epoch: int, models: Mapping[str, Recipe]) -> float:
    """Measure models, each under what an error calls it; their mean accuracy.

    Raises:
        RunError: a loss is not a number: training has diverged.
    """
    task = session.task
    found = session.store.force_all([values.evaluate(task.model, model, task.dataset) for model in models.values()])
    accuracy = math.fsum(each.accuracy for each in found) / len(found)
    loss = math.fsum(each.loss for each in found) / len(found)
    lost = [(what, each.loss) for what, each in zip(models, found, strict=True) if not math.isfinite(each.loss)]
    if lost:
        what, loss = lost[0]
        others = f", and that of {len(lost) - 1} more is not finite either" if len(lost) > 1 else ""
        raise RunError(
            f"workload '{name}': the loss of {what} after epoch {epoch} is {loss}{others}: training has diverged; {what_to_lower(name)}"
        )
    session.world.trace.append(Evaluation(workload=name, version=epoch, time_s=session.world.now, accuracy=accuracy, loss=loss))
    return accuracy
