"""What a student learns from when its teacher teaches it, and the teaching as a trainer: distillation without labels.

The student sees inputs and what the teacher says of them (soft targets, see `netfl.learning.distillation`). Where the inputs come
from is the difference: dreams need no data (`netfl.learning.dreams`), noise is what they are compared with, and real samples are what
both would like to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.learning import dreams as dream_distillation
from netfl.learning import values
from netfl.learning.models import Model, check_fit, identified, initial, load_vector
from netfl.learning.pruning import PRUNABLE
from netfl.learning.students import check_trainer
from netfl.learning.trainer import TRAINERS, Sgd, Trainer, unusable_device
from netfl.parts import Family
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, Store, TensorForm, recipe

__all__ = ["LESSONS", "PRETRAINERS", "Distilled", "Dreams", "Lessons", "Noise", "Real", "noise", "real", "taught", "teacher_problem"]

Calls = Sequence[tuple[Any, ...]]
Floats = npt.NDArray[np.float32]


class Lessons(Protocol):
    """Where the inputs come from that a student learns from."""

    def inputs(self, teacher: Model, vector: Recipe, data: Recipe, facts: values.DatasetFacts, stream: Stream) -> Recipe:
        """The recipe of inputs (n, *sample_shape) float32.

        Args:
            teacher: the kind of model that teaches.
            vector: its parameters (P,).
            data: the dataset, for what the data's owner does while it is there.
            facts: of the dataset.
            stream: of all that is drawn.
        """


@dataclass(frozen=True, kw_only=True)
class Dreams:
    """Inputs made up by the teacher from metadata, without any sample: Dream Distillation (Bhardwaj et al., 2019).

    Args:
        metadata: what the owner of the data lets out.
        dreaming: how dreams are made of it.
    """

    metadata: dream_distillation.Observation = field(default_factory=dream_distillation.Observation)
    dreaming: dream_distillation.Dreaming = field(default_factory=dream_distillation.Dreaming)

    def inputs(self, teacher: Model, vector: Recipe, data: Recipe, facts: values.DatasetFacts, stream: Stream) -> Recipe:
        """See `Lessons.inputs`."""
        found = dream_distillation.metadata(self.metadata, teacher, vector, data, stream.child("metadata"))
        return dream_distillation.dreams(
            self.dreaming, teacher, vector, found, facts.sample_shape, facts.num_classes, stream.child("dreams")
        )


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Inputs whose every element is uniform by chance: what dreams are compared with.

    Args:
        number: of inputs.
        lowest: least value of an element.
        highest: greatest value.
    """

    number: Annotated[int, annotated_types.Ge(1)] = 1200
    lowest: float = 0.0
    highest: float = 1.0

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError(f"highest: expected more than lowest, {self.lowest:g}, got {self.highest:g}")

    def inputs(self, teacher: Model, vector: Recipe, data: Recipe, facts: values.DatasetFacts, stream: Stream) -> Recipe:
        """See `Lessons.inputs`."""
        return noise(self, facts.sample_shape, stream.child("noise"))


@dataclass(frozen=True, kw_only=True)
class Real:
    """The training samples themselves, or some of them: what dreams stand in for.

    Args:
        share: of the training samples, drawn by chance.
    """

    share: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] = 1.0

    def inputs(self, teacher: Model, vector: Recipe, data: Recipe, facts: values.DatasetFacts, stream: Stream) -> Recipe:
        """See `Lessons.inputs`."""
        return real(self, data, stream.child("metadata", "samples"))


LESSONS = Family(
    "lessons",
    {
        "dreams": "netfl.learning.lessons:Dreams",
        "noise": "netfl.learning.lessons:Noise",
        "real": "netfl.learning.lessons:Real",
    },
)


@dataclass(frozen=True, kw_only=True)
class Distilled:
    """A student taught by a larger model: a teacher is trained on all training samples, then the student by the teacher.

    The student's loss is that of soft targets alone; it sees no label.

    Args:
        teacher: the model that teaches, of any kind but pruned; the scenario's model is the student.
        teacher_trainer: how the teacher is trained.
        lessons: the inputs that the student learns from.
        trainer: how the student is trained on them: sgd, adam or adamw, on the CPU.
        temperature: what logits are divided by in soft targets.
    """

    teacher: Annotated[Model, PRUNABLE]
    teacher_trainer: Annotated[Trainer, TRAINERS]
    lessons: Annotated[Lessons, LESSONS] = field(default_factory=Dreams)
    trainer: Annotated[Trainer, TRAINERS] = field(default_factory=lambda: Sgd(learning_rate=0.02, epochs=25, batch_size=32))
    temperature: Annotated[float, annotated_types.Gt(0)] = 4.0

    def __post_init__(self) -> None:
        try:
            check_trainer(self.trainer)
        except ValueError as error:
            raise ValueError(f"trainer: {error}") from None

    def model(self, student: Model, data: Recipe, facts: values.DatasetFacts, start: Stream, stream: Stream) -> Recipe:
        """The recipe of the student's parameters (P,).

        Args:
            student: the kind of model.
            data: the dataset.
            facts: of it.
            start: draws the student's first parameters.
            stream: of all else that is drawn.
        """
        teacher, vector = self.teaching(data, stream)
        inputs = self.lessons.inputs(teacher, vector, data, facts, stream)
        return taught(
            self.trainer,
            self.temperature,
            student,
            teacher,
            vector,
            inputs,
            facts.sample_shape,
            facts.num_classes,
            start,
            stream.child("fit"),
        )

    def teaching(self, data: Recipe, stream: Stream) -> tuple[Model, Recipe]:
        """The teacher, and the recipe of its parameters (P,); arguments as `model`."""
        teacher = identified(self.teacher)
        first = values.initial_model(teacher, data, stream.child("teacher"))
        learnt = values.fit(values.cohort(self.teacher_trainer, teacher, data, stream.child("teacher", "fit")), first)
        return teacher, values.total(first, learnt)

    def problem(self, student: Model, data: Recipe, store: Store) -> tuple[str, str] | None:
        """What is wrong with the teacher or the student for a dataset: (setting, message)."""
        unusable = unusable_device(self.teacher_trainer)
        if unusable is not None:
            return "teacher_trainer", unusable
        if hasattr(student, "start"):
            return (
                "trainer",
                "this model begins with samples of the data, so it cannot be taught without: choose another model for the student",
            )
        found: str = store.force(teacher_problem(identified(self.teacher), data, isinstance(self.lessons, Dreams)))
        return ("teacher", found) if found else None


PRETRAINERS = Family(
    "trainers",
    {**TRAINERS.builtin, "distilled": "netfl.learning.lessons:Distilled", "with_exits": "netfl.learning.exits:WithExits"},
)
"""The kinds of trainer, teaching, and training with exits: how a model can come to be before a run begins."""


def teacher_problem(teacher: Model, data: Recipe, dreams: bool) -> Recipe:
    """Why a model cannot teach what a dataset holds; an empty text where it can.

    Args:
        teacher: the kind of model.
        data: the dataset.
        dreams: whether it must be able to dream too.
    """
    return recipe(_TEACHER_PROBLEM, teacher, data, dreams)


def _teacher_problem(calls: Calls) -> list[str]:
    from netfl.learning.dreaming import check_dreamer

    results = []
    for teacher, data, must_dream in calls:
        try:
            check_fit(teacher, data)
            if must_dream:
                check_dreamer(teacher, data.sample_shape, data.num_classes)
            results.append("")
        except ValueError as error:
            results.append(str(error))
    return results


def noise(settings: Noise, sample_shape: tuple[int, ...], stream: Stream) -> Recipe:
    """Inputs (number, *sample_shape) float32 by chance."""
    return recipe(_NOISE, settings, sample_shape, stream)


def _noise(calls: Calls) -> list[Floats]:
    return [
        stream.generator().uniform(settings.lowest, settings.highest, size=(settings.number, *sample_shape)).astype(np.float32)
        for settings, sample_shape, stream in calls
    ]


def real(settings: Real, data: Recipe, stream: Stream) -> Recipe:
    """Training samples (n, *sample_shape) of a dataset, in their order."""
    return recipe(_REAL, settings, data, stream)


def _real(calls: Calls) -> list[Floats]:
    results = []
    for settings, data, stream in calls:
        count = max(1, round(settings.share * len(data.train_labels)))
        results.append(data.train_inputs[np.sort(stream.generator().permutation(len(data.train_labels))[:count])])
    return results


def taught(
    trainer: Trainer,
    temperature: float,
    student: Model,
    teacher: Model,
    vector: Recipe,
    inputs: Recipe,
    sample_shape: tuple[int, ...],
    num_classes: int,
    start: Stream,
    stream: Stream,
) -> Recipe:
    """A student's parameters (P,) after learning what a teacher says of some inputs; no dataset is an argument.

    Args:
        trainer: sgd, adam or adamw.
        temperature: of the soft targets.
        student: the kind of model that learns.
        teacher: the kind of model that teaches.
        vector: the teacher's parameters.
        inputs: (n, *sample_shape).
        sample_shape: of one sample.
        num_classes: how many labels there are.
        start: draws the student's first parameters.
        stream: draws the order of the inputs.
    """
    return recipe(_TAUGHT, trainer, temperature, student, teacher, vector, inputs, sample_shape, num_classes, start, stream)


def _taught(calls: Calls) -> list[Floats]:
    import torch

    from netfl.learning.distillation import soft_target_loss
    from netfl.learning.dreaming import teacher_logits
    from netfl.learning.loop import minimise
    from netfl.learning.plain import module_of, one_thread

    results = []
    for trainer, temperature, student, teacher, vector, inputs, sample_shape, num_classes, start, stream in calls:
        wanted = teacher_logits(teacher, sample_shape, num_classes, vector, inputs)
        module = module_of(student, sample_shape, num_classes, np.dtype(np.float32))
        load_vector(module, initial(student, sample_shape, num_classes, start))

        def loss(
            rows: npt.NDArray[np.int64], module: Any = module, seen: Any = inputs, said: Any = wanted, temperature: float = temperature
        ) -> Any:
            return soft_target_loss(module(torch.from_numpy(seen[rows])), torch.from_numpy(said[rows]), temperature)

        with one_thread():
            results.append(minimise(module, trainer, len(inputs), loss, stream))
    return results


_AS_TENSOR = TensorForm(lambda vector: {"vector": vector}, lambda named: named["vector"])
_TEACHER_PROBLEM = Function("teacher_problem", 1, _teacher_problem, FactForm(lambda found: found, lambda plain: plain))
_NOISE = Function("noise", 1, _noise)
_REAL = Function("real_samples", 1, _real)
_TAUGHT = Function("taught", 1, _taught, _AS_TENSOR)
