"""NoNN's learning: a teacher's filters observed, and students that learn them together, each a part, as recipes.

K. Bhardwaj, C. Lin, A. Sartor, R. Marculescu, ACM TECS 18(5s), 2019 (arXiv 1907.11804). A team of students is a `Model` of its own, so
that it starts, is evaluated and is profiled like any other; `distilled` trains it, all students and the layer that joins them
in one loss, against a teacher that does not change. Versions as in `netfl.learning.values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netfl.learning.distillation import Distillation
from netfl.learning.models import Model, load_vector
from netfl.learning.trainer import Adam, AdamW, Sgd, Trainer
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, TensorForm, recipe

if TYPE_CHECKING:
    from netfl.learning.data import Dataset
    from netfl.learning.student_nets import Student, Team

__all__ = ["StudentTeam", "answers", "check_teacher", "check_trainer", "distilled", "features", "filter_activity", "teacher_maps"]

Calls = Sequence[tuple[Any, ...]]
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class StudentTeam:
    """A model made of students: each a trunk and a bridge to the filters that it learns, joined by one linear layer.

    Its vector is the first student's parameters, then the next one's, and the joining layer's at the end.

    Args:
        student: the model whose layers, as far as its last maps, are each student's trunk.
        groups: of each student the filters of the teacher that it learns.
        side: height and width of the teacher's last maps, which the students' are brought to.
    """

    student: Model
    groups: Groups
    side: tuple[int, int]

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> Team:
        """A new module; see `Model.build`.

        Raises:
            ValueError: the student's model makes no maps of such samples.
        """
        from torch import nn

        from netfl.learning.student_nets import Team

        students = [self.build_student(place, sample_shape, num_classes) for place in range(len(self.groups))]
        return Team(students, nn.Linear(sum(map(len, self.groups)), num_classes))

    def build_student(self, place: int, sample_shape: tuple[int, ...], num_classes: int) -> Student:
        """What one device runs: from samples to the features of the student at that place."""
        from netfl.learning.student_nets import Student, last_maps

        trunk, (channels, _, _) = last_maps(self.student.build(sample_shape, num_classes), sample_shape)
        return Student(trunk, channels, len(self.groups[place]), self.side)


def check_teacher(teacher: Model, student: Model, sample_shape: tuple[int, ...], num_classes: int) -> tuple[int, int, int]:
    """The shape of the maps that students learn: (filters, height, width).

    Raises:
        ValueError: the teacher or the student makes no maps of such samples; the message says which.
    """
    import torch

    from netfl.learning.student_nets import last_maps

    shapes = []
    for name, model in (("student", student), ("teacher", teacher)):
        try:
            with torch.device("meta"):
                shapes.append(last_maps(model.build(sample_shape, num_classes), sample_shape)[1])
        except ValueError as error:
            raise ValueError(f"the {name} cannot be used: {error}") from error
    return shapes[1]


def check_trainer(trainer: Trainer) -> None:
    """Hold a trainer to what a team can be trained with.

    Raises:
        ValueError: it is another than sgd, adam and adamw, or asks for another device than the CPU.
    """
    if not isinstance(trainer, Sgd | Adam) or type(trainer) not in (Sgd, Adam, AdamW):  # what inherits of them does more
        raise ValueError(f"expected one of sgd, adam and adamw to train students with, got {type(trainer).__name__}")
    if trainer.device != "cpu":
        raise ValueError(f"device: students are trained on the cpu, got {trainer.device}")


def filter_activity(teacher: Model, vector: Recipe, data: Recipe, fraction: float, stream: Stream) -> Recipe:
    """What a teacher's last maps say of each filter for some training samples, (images, filters) float32.

    A filter's activity is the mean of its maps after negative values have become 0.

    Args:
        teacher: the kind of model.
        vector: its parameters (P,).
        data: the dataset.
        fraction: share of the training samples to look at; at least one of them.
        stream: draws which.
    """
    return recipe(_FILTER_ACTIVITY, teacher, vector, data, fraction, stream)


def _filter_activity(calls: Calls) -> list[npt.NDArray[np.float32]]:
    import torch

    from netfl.learning.plain import EVALUATION_BATCH, one_thread
    from netfl.learning.student_nets import last_maps

    results = []
    for teacher, vector, data, fraction, stream in calls:
        count = max(1, round(fraction * len(data.train_labels)))
        inputs = data.train_inputs[np.sort(stream.generator().permutation(len(data.train_labels))[:count])]
        with one_thread(), torch.inference_mode():
            module = _loaded(teacher, vector, data)
            maps, _ = last_maps(module, data.sample_shape)
            parts = [
                maps(torch.from_numpy(inputs[begin : begin + EVALUATION_BATCH])).clamp(min=0).mean((2, 3)).numpy()
                for begin in range(0, count, EVALUATION_BATCH)
            ]
        results.append(np.concatenate(parts))
    return results


def distilled(
    trainer: Trainer,
    distillation: Distillation,
    team: StudentTeam,
    start: Recipe,
    teacher: Model,
    vector: Recipe,
    data: Recipe,
    stream: Stream,
) -> Recipe:
    """A team's parameters (P,) after learning from a teacher on all training samples.

    Args:
        trainer: sgd, adam or adamw.
        distillation: the loss.
        team: what learns.
        start: its parameters (P,) before.
        teacher: the kind of model.
        vector: the teacher's parameters.
        data: the dataset.
        stream: draws the order of the samples.
    """
    return recipe(_DISTILLED, trainer, distillation, team, start, teacher, vector, data, stream)


def _distilled(calls: Calls) -> list[npt.NDArray[np.float32]]:
    from netfl.learning.plain import one_thread

    with one_thread():
        return [_train(*call) for call in calls]


def _train(
    trainer: Sgd | Adam | AdamW,
    distillation: Distillation,
    team: StudentTeam,
    start: npt.NDArray[np.float32],
    teacher: Model,
    vector: npt.NDArray[np.float32],
    data: Dataset,
    stream: Stream,
) -> npt.NDArray[np.float32]:
    import torch

    from netfl.learning.loop import minimise
    from netfl.learning.student_nets import last_maps

    check_trainer(trainer)
    expert = _loaded(teacher, vector, data)
    maps, _ = last_maps(expert, data.sample_shape)
    rest = expert[len(maps) :]
    module = _loaded(team, start, data)
    groups = [torch.tensor(group) for group in team.groups]

    def loss(rows: npt.NDArray[np.int64]) -> torch.Tensor:
        inputs, labels = torch.from_numpy(data.train_inputs[rows]), torch.from_numpy(data.train_labels[rows])
        with torch.no_grad():
            seen = maps(inputs)
            wanted = rest(seen)
            parts = [seen.clamp(min=0)[:, group] for group in groups]
        learnt = [student.maps(inputs) for student in module.students]
        pooled = [student.pool(part) for student, part in zip(module.students, learnt, strict=True)]
        return distillation.loss(module.join(torch.cat(pooled, dim=1)), wanted, labels, learnt, parts)

    return minimise(module, trainer, len(data.train_labels), loss, stream)


def teacher_maps(teacher: Model, student: Model, data: Recipe) -> Recipe:
    """`check_teacher` for a dataset's samples."""
    return recipe(_TEACHER_MAPS, teacher, student, data)


def _teacher_maps(calls: Calls) -> list[tuple[int, int, int]]:
    return [check_teacher(teacher, student, data.sample_shape, data.num_classes) for teacher, student, data in calls]


def features(team: StudentTeam, vector: Recipe, data: Recipe, samples: Recipe | None = None) -> Recipe:
    """What each student says of the test samples: a tuple of (N, width) float32, each student run by itself.

    Args:
        team: the students.
        vector: their parameters (P,).
        data: the dataset.
        samples: (N, *sample_shape) in place of the test samples: what was received of them; None for themselves.
    """
    return recipe(_FEATURES, team, vector, data, samples)


def _features(calls: Calls) -> list[tuple[npt.NDArray[np.float32], ...]]:
    import torch

    from netfl.learning.plain import EVALUATION_BATCH, one_thread

    results = []
    for team, vector, data, samples in calls:
        inputs = data.test_inputs if samples is None else samples
        parts, at = [], 0
        for place in range(len(team.groups)):
            student = team.build_student(place, data.sample_shape, data.num_classes)
            length = sum(parameter.numel() for parameter in student.parameters())
            load_vector(student, vector[at : at + length])
            at += length
            with one_thread(), torch.inference_mode():
                student.eval()
                batches = [
                    student(torch.from_numpy(inputs[begin : begin + EVALUATION_BATCH])).numpy()
                    for begin in range(0, len(inputs), EVALUATION_BATCH)
                ]
            parts.append(np.concatenate(batches))
        results.append(tuple(parts))
    return results


def answers(team: StudentTeam, vector: Recipe, data: Recipe, received: Recipe, present: tuple[bool, ...]) -> Recipe:
    """Whether the joining layer names the label of each test sample, (N,) bool, from the features of the students that are present.

    The features of the others are 0.

    Args:
        team: the students.
        vector: their parameters (P,).
        data: the dataset.
        received: a tuple of (N, width), as `features` or what a decoder made of them.
        present: of each student.
    """
    return recipe(_ANSWERS, team, vector, data, received, present)


def _answers(calls: Calls) -> list[npt.NDArray[np.bool_]]:
    results = []
    for team, vector, data, received, present in calls:
        width = sum(map(len, team.groups))
        join = vector[-(width + 1) * data.num_classes :]
        weights, bias = join[: width * data.num_classes].reshape(data.num_classes, width), join[width * data.num_classes :]
        seen = np.concatenate([part * np.float32(is_there) for part, is_there in zip(received, present, strict=True)], axis=1)
        logits = seen.astype(np.float64) @ weights.astype(np.float64).T + bias
        results.append(logits.argmax(axis=1) == data.test_labels)
    return results


def _loaded(model: Model, vector: npt.NDArray[np.float32], data: Dataset) -> Any:
    from netfl.learning.plain import module_of

    module = module_of(model, data.sample_shape, data.num_classes, vector.dtype)
    load_vector(module, vector)
    return module.eval()


_AS_TENSOR = TensorForm(lambda vector: {"vector": vector}, lambda named: named["vector"])
_FILTER_ACTIVITY = Function("filter_activity", 1, _filter_activity)
_DISTILLED = Function("distilled", 1, _distilled, _AS_TENSOR)
_TEACHER_MAPS = Function("teacher_maps", 1, _teacher_maps, FactForm(list, tuple))
_FEATURES = Function("student_features", 1, _features)
_ANSWERS = Function(
    "student_answers",
    1,
    _answers,
    FactForm(lambda found: "".join("01"[int(each)] for each in found), lambda plain: np.array([each == "1" for each in plain])),
)
