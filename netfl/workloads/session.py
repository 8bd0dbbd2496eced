"""What the workloads of one run share: the world, the store, the learning task and each other's models."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import simpy

from netfl.codecs import dense_bytes
from netfl.compute import DeviceProfile, Work
from netfl.errors import MissingExtraError, NetflError, Problem, ScenarioError
from netfl.learning import values
from netfl.learning.data import DataSource
from netfl.learning.models import Model, identified
from netfl.learning.partition import Partition
from netfl.learning.trainer import Trainer
from netfl.network.topology import Topology
from netfl.placement import Profile
from netfl.randomness import Streams
from netfl.store import Recipe, Store
from netfl.workloads.inference import profile_of
from netfl.world import World

__all__ = ["ModelFeed", "Progress", "Session", "Setting", "Task", "matching"]


@dataclass(frozen=True)
class Setting:
    """What a workload's checks may look at before a run begins.

    Args:
        topology: the devices and links.
        profiles: what each device can compute.
        workloads: every workload of the scenario by name.
        has_task: whether the scenario names data and a model.
    """

    topology: Topology
    profiles: Mapping[str, DeviceProfile]
    workloads: Mapping[str, object]
    has_task: bool


@dataclass(frozen=True)
class Task:
    """What is learnt: data, who has which samples, and the kind of model.

    Args:
        model: the kind of model.
        dataset: recipe of the `Dataset`.
        facts: what must be known of it.
        partition: how training samples are dealt to clients.
        profile: the model's nodes and what each costs.
    """

    model: Model
    dataset: Recipe
    facts: values.DatasetFacts
    partition: Partition
    profile: Profile

    @classmethod
    def load(cls, source: DataSource, partition: Partition, model: Model, streams: Streams, store: Store) -> Task:
        """Read the data and trace the model, unless the store knows what is needed of both.

        Raises:
            ScenarioError: the data cannot be read, or the model does not fit it; the problem's path says which.
            MissingExtraError: the data, or a package that reads it, is not there.
        """
        with _problems_of("data.source"):
            dataset = values.dataset(source, streams.stream("data"))
            facts = store.force(values.dataset_facts(dataset))
        with _problems_of("model"):
            model = identified(model)
            profile = store.force(profile_of(model, dataset))
        return cls(model=model, dataset=dataset, facts=facts, partition=partition, profile=profile)

    @property
    def num_parameters(self) -> int:
        """Length of the flat model vector."""
        return self.profile.parameter_bytes // 4

    @functools.cached_property
    def _sample_bytes(self) -> tuple[float, int]:
        """What a sample's activations move in a forward pass, and how much memory its outputs take."""
        nodes = self.profile.nodes
        return sum(node.moved_bytes - node.parameter_bytes for node in nodes), 4 * sum(node.output_values for node in nodes)

    def training_work(self, trainer: Trainer, num_samples: int) -> Work:
        """A client's local training: three times the forward pass a sample.

        Memory moves three times what the forward pass moves: activations for every sample, parameters once a step. It
        holds parameters, gradients and the start model, and a batch of activations with their gradients.
        """
        epochs, steps = trainer.epochs, trainer.steps(num_samples)
        activation_bytes, output_bytes = self._sample_bytes
        return Work(
            kind="training",
            flop=3 * self.profile.total_flop * num_samples * epochs,
            moved_bytes=3 * (activation_bytes * num_samples * epochs + self.profile.parameter_bytes * steps),
            steps=steps,
            memory_bytes=3 * self.profile.parameter_bytes + 2 * min(trainer.batch_size, num_samples) * output_bytes,
        )


@contextmanager
def _problems_of(path: str) -> Iterator[None]:
    """Turn what is wrong with a setting's part into a problem there."""
    try:
        yield
    except MissingExtraError:
        raise
    except (NetflError, ValueError) as error:
        raise ScenarioError(Problem(str(error), path)) from error


class ModelFeed:
    """The global models of a training workload, as they come to be.

    Older models than the newest are forgotten unless someone reads them.

    Args:
        env: the event loop.
        server: the device that holds the newest model.
    """

    def __init__(self, env: simpy.Environment, server: str) -> None:
        self._env = env
        self.server = server
        self.is_read = False
        self.version = -1
        self.models: dict[int, Recipe] = {}
        self.changed = env.event()

    def publish(self, version: int, model: Recipe) -> None:
        """A new global model exists now; everyone who waits for `changed` learns of it."""
        if not self.is_read:
            self.models.clear()
        self.version = version
        self.models[version] = model
        changed, self.changed = self.changed, self._env.event()
        changed.succeed(version)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        simulated_s: the simulated clock.
        workload: who reports.
        round: rounds done.
        rounds: rounds in all.
        accuracy: of the newest global model.
    """

    simulated_s: float
    workload: str
    round: int
    rounds: int
    accuracy: float


Rehearse = Callable[[int, Store, bool], "tuple[Session, Mapping[str, Any]]"]
"""(number, store, idle) -> a session of the same scenario at time 0 with random numbers of that number's own, in which no workload has
been started, and the workloads. Idle: transport `fluid`, and nothing ever fails."""


class Session:
    """One run's shared state; `rehearse` makes others to try things out in.

    Args:
        world: devices and links on one clock.
        store: where values are computed.
        task: what is learnt; None in a scenario without data and model.
        target_accuracy: end the run once a global model reaches it; None for never.
        on_progress: called at the end of every round.
        alone: whether the run has one workload only, so that nobody else uses its devices and links.
        planner_s: CPU seconds of this machine that each serving workload's planner took.
    """

    def __init__(
        self,
        world: World,
        store: Store,
        task: Task | None,
        target_accuracy: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        alone: bool = False,
    ) -> None:
        self.alone = alone
        self.world = world
        self.store = store
        self._task = task
        self._target_accuracy = target_accuracy
        self._on_progress = on_progress
        self.rehearse: Rehearse | None = None
        self.feeds: dict[str, ModelFeed] = {}
        self.processes: Mapping[str, simpy.Event] = {}
        self.planner_s: defaultdict[str, float] = defaultdict(float)
        self.stopped = world.env.event()
        self._at_end: list[Callable[[], None]] = []

    @property
    def task(self) -> Task:
        """What is learnt; the checks before a run make sure that there is one where it is needed."""
        assert self._task is not None
        return self._task

    @property
    def dense_bytes(self) -> int:
        """Length of the task's model as a message of float32."""
        return dense_bytes(self.task.num_parameters)

    def shards(self, num_clients: int) -> Recipe:
        """Who has which training samples, when they are dealt to so many clients."""
        return values.shards(self.task.dataset, self.task.partition, num_clients, self.world.streams.stream("partition"))

    def shard_samples(self, num_clients: int) -> list[int]:
        """How many samples each of so many clients has.

        Raises:
            NetflError: the data cannot be dealt so.
            ValueError: the same, said by a partition.
        """
        found: list[int] = self.store.force(values.shard_samples(self.shards(num_clients)))
        return found

    def at_end(self, close: Callable[[], None]) -> None:
        """Have something called when the run has ended, before the world closes its books."""
        self._at_end.append(close)

    def finish(self, reason: str) -> None:
        """Close the books of the workloads and then of the world."""
        for close in self._at_end:
            close()
        self.world.finish(reason)

    def stop(self, reason: str) -> None:
        """End the run at this instant."""
        if not self.stopped.triggered:
            self.stopped.succeed(reason)

    def report(self, workload: str, round_: int, rounds: int, accuracy: float) -> None:
        """Say that a round has ended with a model of that accuracy; may end the run."""
        if self._on_progress is not None:
            self._on_progress(Progress(self.world.now, workload, round_, rounds, accuracy))
        self.reached(accuracy)

    def reached(self, accuracy: float) -> None:
        """Say that there is a global model of that accuracy; may end the run."""
        if self._target_accuracy is not None and accuracy >= self._target_accuracy:
            self.stop(f"accuracy {self._target_accuracy:g} reached")


def matching(patterns: tuple[str, ...], topology: Topology) -> list[str]:
    """The devices whose names match any of the patterns (`camera-*`), sorted; every end device when there is no pattern."""
    if not patterns:
        return sorted(name for name, site in topology.sites.items() if site.tier == "device")
    return sorted(name for name in topology.sites if any(fnmatchcase(name, pattern) for pattern in patterns))
