"""NoNN: a network of students, one a device, that answer together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np

from netfl.codecs import Pipeline
from netfl.compute import Work
from netfl.errors import NetflError
from netfl.learning import values
from netfl.learning.data import Fraction
from netfl.learning.distillation import Distillation
from netfl.learning.models import MODELS, Cnn, Model
from netfl.learning.students import StudentTeam, answers, check_trainer, distilled, features, filter_activity, teacher_maps
from netfl.learning.trainer import TRAINERS, Adam, Trainer
from netfl.parts import Family
from netfl.placement.profile import VALUE_BYTES
from netfl.placement.stages import SOURCE, Cluster, Portion, Portions, StagedPlacement, check_memory
from netfl.placement.students import FilterGroups
from netfl.store import Recipe
from netfl.units import Duration
from netfl.workloads.cooperative_values import (
    filter_groups,
    received_features,
    received_samples,
    sent_bytes,
    sent_features,
    sent_samples,
    student_profile,
)
from netfl.workloads.divergence import Trained
from netfl.workloads.inference import Answers
from netfl.workloads.session import Session

__all__ = ["TRUNKS", "Students", "placement_of"]

TRUNKS = Family("models", {kind: path for kind, path in MODELS.builtin.items() if kind != "pruned"})
"""Models that can be a student: what a pruned one is, only its own server can say."""


@dataclass(frozen=True, kw_only=True)
class Students:
    """The model as a teacher of small students, one a worker: each learns some of the teacher's last filters, and none reads another.

    NoNN (K. Bhardwaj, C. Lin, A. Sartor, R. Marculescu, ACM TECS 18(5s), 2019, arXiv 1907.11804). Every worker runs its student on the
    sample and sends the means of its maps, one number for each filter that it learnt, to the device that joins them with one linear
    layer. A student that is late or lost counts as zeros; the accuracy of each set of students that is there is measured.

    Args:
        student: the model whose layers, as far as its last maps, are each student's trunk.
        filters: how the teacher's filters are dealt to the students.
        validation: share of the training samples, drawn, on which the teacher's filters are observed.
        distillation: what students learn from.
        trainer: how: sgd, adam or adamw, over all training samples.
        wait: how long after a request was made the joining device waits for students; null as long as it takes to hear of all of them.
        inputs: sent, the asking device sends the sample to every worker; everywhere, each worker has the sample already, as the
            authors reckon (cameras that see one scene).
    """

    student: Annotated[Model, TRUNKS] = field(default_factory=lambda: Cnn(channels=(8, 8)))
    filters: FilterGroups = field(default_factory=FilterGroups)
    validation: Fraction = 0.1
    distillation: Distillation = field(default_factory=Distillation)
    trainer: Annotated[Trainer, TRAINERS] = field(
        default_factory=lambda: Adam(learning_rate=0.01, epochs=60, batch_size=32, schedule="cosine")
    )
    wait: Duration | None = None
    inputs: Literal["sent", "everywhere"] = "sent"

    looks_at_model: ClassVar = True

    def __post_init__(self) -> None:
        if self.wait is not None and self.wait <= 0:
            raise ValueError("wait: expected a duration greater than 0")

    @property
    def wait_s(self) -> float | None:
        """See `Cooperation.wait_s`."""
        return float("inf") if self.wait is None else self.wait

    @property
    def has_inputs(self) -> bool:
        """Whether every worker has the sample already."""
        return self.inputs == "everywhere"

    def problems(self, session: Session, clusters: Sequence[Cluster]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """See `Cooperation.problems`; memory is checked with equally many filters a student."""
        try:
            check_trainer(self.trainer)
        except ValueError as error:
            yield ("trainer",), str(error)
        task = session.task
        try:
            filters, _, _ = session.store.force(teacher_maps(task.model, self.student, task.dataset))
        except ValueError as error:
            yield ("student",), str(error)
            return
        count = len(clusters[0].workers)
        if filters < count:
            yield (), f"the teacher's last convolution has {filters} filters, too few for {count} students"
            return
        for cluster in clusters:
            try:
                self.foreseen(session, cluster)
            except NetflError as error:
                yield (), f"for '{cluster.source}': {error}"

    def foreseen(self, session: Session, cluster: Cluster) -> StagedPlacement:
        """See `Cooperation.foreseen`; with equally many filters a student."""
        task, count = session.task, len(cluster.workers)
        filters, height, width = session.store.force(teacher_maps(task.model, self.student, task.dataset))
        edges = [place * filters // count for place in range(count + 1)]
        groups = tuple(tuple(range(first, behind)) for first, behind in pairwise(edges))
        team = StudentTeam(student=self.student, groups=groups, side=(height, width))
        placement = placement_of(session, team, cluster, self.has_inputs)
        check_memory(placement, cluster.tiers)
        return placement

    def answering(self, session: Session, name: str, model: Recipe, activations: Pipeline) -> _Team:
        """See `Cooperation.answering`."""
        return _Team(self, session, name, model, activations)


def placement_of(session: Session, team: StudentTeam, cluster: Cluster, has_inputs: bool) -> StagedPlacement:
    """What each device of a cluster computes and sends for a team.

    Args:
        session: of the run.
        team: one student a worker.
        cluster: the devices.
        has_inputs: whether every worker has the sample already.
    """
    task = session.task
    profiles = [session.store.force(student_profile(team, place, task.dataset)) for place in range(len(team.groups))]
    width, classes, count = sum(map(len, team.groups)), task.facts.num_classes, len(team.groups)
    join_values = width * classes + classes
    ran = tuple(
        Portion(
            operations=tuple((node.flop, node.moved_bytes) for node in profile.nodes[1:]),
            activation_bytes=profile.activation_bytes(0, len(profile.nodes)),
        )
        for profile in profiles
    )
    joined = Portion(
        operations=((2.0 * width * classes, float(VALUE_BYTES * (width + classes + join_values))),),
        activation_bytes=VALUE_BYTES * (width + classes),
    )
    nothing = Portion()
    portions = Portions(
        workers=count,
        steps=(
            ((nothing,) * (count + 1), tuple((SOURCE, place, profiles[place].nodes[0].output_values) for place in range(count))),
            ((*ran, nothing), tuple((place, count, len(group)) for place, group in enumerate(team.groups))),
            ((*(nothing for _ in range(count)), joined), ()),
        ),
        parameter_bytes=(*(profile.parameter_bytes for profile in profiles), VALUE_BYTES * join_values),
        described=(*(f"student {place}" for place in range(1, count + 1)), "join"),
    )
    return portions.placement(cluster, "students", classes, has_inputs, is_optional=True)


@dataclass(frozen=True)
class _Team:
    """See `Answering`."""

    settings: Students
    session: Session
    name: str
    teacher: Recipe
    activations: Pipeline
    _trained: dict[int, tuple[StudentTeam, Recipe]] = field(default_factory=dict)

    def trained(self, count: int) -> tuple[StudentTeam, Recipe]:
        """So many students and their parameters."""
        if count not in self._trained:
            task, streams, store, settings = self.session.task, self.session.world.streams, self.session.store, self.settings
            _, height, width = store.force(teacher_maps(task.model, settings.student, task.dataset))
            activity = filter_activity(task.model, self.teacher, task.dataset, settings.validation, streams.stream("validation", self.name))
            seed = int(streams.stream("communities", self.name).seed_sequence().generate_state(1, np.uint32)[0])
            groups = store.force(filter_groups(settings.filters, activity, count, seed))
            team = StudentTeam(student=settings.student, groups=groups, side=(height, width))
            start = values.initial_model(team, task.dataset, streams.stream("students", self.name))
            order = streams.stream("distil", self.name)
            vector = distilled(settings.trainer, settings.distillation, team, start, task.model, self.teacher, task.dataset, order)
            self._trained[count] = team, vector
        return self._trained[count]

    def placement(self, cluster: Cluster) -> StagedPlacement:
        """See `Answering.placement`."""
        team, _ = self.trained(len(cluster.workers))
        placement = placement_of(self.session, team, cluster, self.settings.has_inputs)
        check_memory(placement, cluster.tiers)
        return placement

    def preparation(self, cluster: Cluster) -> Work:
        """See `Answering.preparation`: the teacher looks at every sample in every epoch, and the students learn from it.

        Memory moves as often, three times for students; teacher, students, their gradients and a batch's activations are held at once.
        """
        team, _ = self.trained(len(cluster.workers))
        task, trainer = self.session.task, self.settings.trainer
        students = [self.session.store.force(student_profile(team, place, task.dataset)) for place in range(len(team.groups))]
        passes = [(task.profile, 1), *((profile, 3) for profile in students)]
        samples = task.facts.num_train * trainer.epochs
        return Work(
            kind="training",
            flop=samples * sum(times * profile.total_flop for profile, times in passes),
            moved_bytes=samples * sum(times * node.moved_bytes for profile, times in passes for node in profile.nodes),
            steps=trainer.steps(task.facts.num_train),
            memory_bytes=sum(times * profile.parameter_bytes for profile, times in passes)
            + 2 * trainer.batch_size * sum(4 * node.output_values for profile, _ in passes for node in profile.nodes),
        )

    def answers(self, cluster: Cluster, present: tuple[bool, ...]) -> Answers:
        """See `Answering.answers`.

        Raises:
            RunError: the students' training has diverged.
        """
        team, vector = self.trained(len(cluster.workers))
        data, store, streams = self.session.task.dataset, self.session.store, self.session.world.streams
        Trained("the students", "placement.trainer", team, vector).check(store, self.name, data)
        has_sample = tuple(self.settings.has_inputs or worker == cluster.source for worker in cluster.workers)
        at_join = tuple(worker == cluster.join for worker in cluster.workers)
        samples = sent_samples(self.activations, data, streams.stream("samples sent", self.name))
        exact = features(team, vector, data)
        coarse = exact
        if self.activations.stages and not all(has_sample):
            coarse = features(team, vector, data, received_samples(samples))
        sent = sent_features(self.activations, exact, coarse, has_sample, at_join, streams.stream("activations", self.name))
        correct = store.force(answers(team, vector, data, received_features(sent), present))
        sample_bytes = store.force(sent_bytes(samples))[0]
        feature_bytes = store.force(sent_bytes(sent))
        lengths = [sample_bytes for is_there in has_sample if not is_there]
        lengths += [length for length, is_there in zip(feature_bytes, at_join, strict=True) if not is_there]
        return Answers(correct, np.array(lengths, dtype=np.int64).reshape(len(lengths), -1))
