"""Answering together as recipes: what the devices compute and send, run for real. Versions as in `netfl.learning.values`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netfl.codecs import Pipeline
from netfl.learning.models import Model
from netfl.learning.students import StudentTeam
from netfl.placement import Profile
from netfl.placement.stages import Portions
from netfl.placement.students import FilterGroups, Groups
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, recipe
from netfl.workloads.inference import Answers

__all__ = [
    "Sent",
    "filter_answers",
    "filter_groups",
    "filter_portions",
    "received_features",
    "received_samples",
    "sent_bytes",
    "sent_features",
    "sent_samples",
    "student_profile",
    "tile_answers",
    "tile_portions",
]

Calls = Sequence[tuple[Any, ...]]
BATCH = 64
"""Samples a forward pass: fixed, because the last bits of an output depend on the batch that it was computed in."""


@dataclass(frozen=True)
class Sent:
    """Messages of all test samples, and what their receivers have of them.

    Args:
        parts: one (N, ...) float32 a message.
        payload_bytes: (messages, N) int64.
    """

    parts: tuple[NDArray[np.float32], ...]
    payload_bytes: NDArray[np.int64]


def over_the_wire(
    pipeline: Pipeline, values: NDArray[np.float32], generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What the receiver has of (N, values), each row a message, and the bytes (N,) that it took."""
    received, lengths = np.empty_like(values), np.empty(len(values), dtype=np.int64)
    for row, sample in enumerate(values):
        payload = pipeline.encode(sample, generator)
        received[row], lengths[row] = pipeline.decode(payload), len(payload)
    return received, lengths


# --- students ---------------------------------------------------------------------------------------------------------------


def filter_groups(rule: FilterGroups, activity: Recipe, count: int, seed: int) -> Recipe:
    """The filters of each student; see `FilterGroups.groups`."""
    return recipe(_FILTER_GROUPS, rule, activity, count, seed)


def _filter_groups(calls: Calls) -> list[Groups]:
    return [rule.groups(activity, count, seed) for rule, activity, count, seed in calls]


def student_profile(team: StudentTeam, place: int, data: Recipe) -> Recipe:
    """The `Profile` of what the device of one student runs."""
    return recipe(_STUDENT_PROFILE, team, place, data)


def _student_profile(calls: Calls) -> list[Profile]:
    from netfl.placement import trace

    return [trace(team.build_student(place, data.sample_shape, data.num_classes), data.sample_shape) for team, place, data in calls]


def sent_samples(pipeline: Pipeline, data: Recipe, stream: Stream) -> Recipe:
    """The `Sent` test samples: one message each."""
    return recipe(_SENT_SAMPLES, pipeline, data, stream)


def _sent_samples(calls: Calls) -> list[Sent]:
    results = []
    for pipeline, data, stream in calls:
        flat = np.asarray(data.test_inputs, dtype=np.float32).reshape(len(data.test_inputs), -1)
        received, lengths = over_the_wire(pipeline, flat, stream.generator())
        results.append(Sent((received.reshape(data.test_inputs.shape),), lengths[None, :]))
    return results


def received_samples(sent: Recipe) -> Recipe:
    """What the receivers of the test samples have of them, (N, *sample_shape)."""
    return recipe(_RECEIVED_SAMPLES, sent)


def _received_samples(calls: Calls) -> list[NDArray[np.float32]]:
    return [sent.parts[0] for (sent,) in calls]


def sent_features(
    pipeline: Pipeline, exact: Recipe, coarse: Recipe, has_sample: tuple[bool, ...], at_join: tuple[bool, ...], stream: Stream
) -> Recipe:
    """The `Sent` features of all students: what the joining device has of them.

    Args:
        pipeline: codecs of what crosses.
        exact: what each student says of the samples as they are.
        coarse: what it says of those that were sent to it.
        has_sample: of each student, whether nothing is sent to it.
        at_join: of each student, whether its device joins, so that it sends nothing.
        stream: of random encoders.
    """
    return recipe(_SENT_FEATURES, pipeline, exact, coarse, has_sample, at_join, stream)


def _sent_features(calls: Calls) -> list[Sent]:
    results = []
    for pipeline, exact, coarse, has_sample, at_join, stream in calls:
        generator = stream.generator()
        parts, lengths = [], []
        for place, is_exact in enumerate(has_sample):
            part = (exact if is_exact else coarse)[place]
            length = np.zeros(len(part), dtype=np.int64)
            if not at_join[place]:
                part, length = over_the_wire(pipeline, part, generator)
            parts.append(part)
            lengths.append(length)
        results.append(Sent(tuple(parts), np.stack(lengths)))
    return results


def received_features(sent: Recipe) -> Recipe:
    """What the joining device has of the students' features: a tuple of (N, width)."""
    return recipe(_RECEIVED_FEATURES, sent)


def _received_features(calls: Calls) -> list[tuple[NDArray[np.float32], ...]]:
    return [sent.parts for (sent,) in calls]


def sent_bytes(sent: Recipe) -> Recipe:
    """`Sent.payload_bytes` alone, as a tuple of tuples."""
    return recipe(_SENT_BYTES, sent)


def _sent_bytes(calls: Calls) -> list[tuple[tuple[int, ...], ...]]:
    return [tuple(map(tuple, sent.payload_bytes.tolist())) for (sent,) in calls]


# --- layers that are shared -------------------------------------------------------------------------------------------------


def filter_portions(model: Model, data: Recipe, workers: int) -> Recipe:
    """The `Portions` of a model split by filters."""
    return recipe(_FILTER_PORTIONS, model, data, workers)


def _filter_portions(calls: Calls) -> list[Portions]:
    from netfl.placement.filter_split import FilterSplitModel

    return [FilterSplitModel(_traced(model, data), workers).portions() for model, data, workers in calls]


def tile_portions(model: Model, data: Recipe, weights: tuple[float, ...]) -> Recipe:
    """The `Portions` of a model in tiles of rows, these in proportion to the workers' weights."""
    return recipe(_TILE_PORTIONS, model, data, weights)


def _tile_portions(calls: Calls) -> list[Portions]:
    from netfl.placement.tiles import TiledModel

    return [TiledModel(_traced(model, data), weights).portions() for model, data, weights in calls]


def filter_answers(
    model: Model, data: Recipe, vector: Recipe, exact: tuple[bool, ...], join_place: int, pipeline: Pipeline, stream: Stream
) -> Recipe:
    """The `Answers` of a model split by filters, run for real over all test samples.

    Args:
        model: the kind of model.
        data: the dataset.
        vector: the parameters (P,).
        exact: of each worker, whether it has the sample without a message.
        join_place: which worker's device joins; -1 for another device.
        pipeline: codecs of what crosses.
        stream: of random encoders.
    """
    return recipe(_FILTER_ANSWERS, model, data, vector, exact, join_place, pipeline, stream)


def _filter_answers(calls: Calls) -> list[Answers]:
    from netfl.placement.filter_split import FilterSplitModel

    return [
        _answers(FilterSplitModel(_traced(model, data), len(exact)), data, vector, exact, join_place, pipeline, stream)
        for model, data, vector, exact, join_place, pipeline, stream in calls
    ]


def tile_answers(
    model: Model,
    data: Recipe,
    vector: Recipe,
    weights: tuple[float, ...],
    exact: tuple[bool, ...],
    join_place: int,
    pipeline: Pipeline,
    stream: Stream,
) -> Recipe:
    """The `Answers` of a model in tiles of rows; arguments as `filter_answers` and `tile_portions`."""
    return recipe(_TILE_ANSWERS, model, data, vector, weights, exact, join_place, pipeline, stream)


def _tile_answers(calls: Calls) -> list[Answers]:
    from netfl.placement.tiles import TiledModel

    return [
        _answers(TiledModel(_traced(model, data), weights), data, vector, exact, join_place, pipeline, stream)
        for model, data, vector, weights, exact, join_place, pipeline, stream in calls
    ]


def _traced(model: Model, data: Any) -> Any:
    from netfl.placement.graph import trace_graph

    return trace_graph(model.build(data.sample_shape, data.num_classes), tuple(data.sample_shape))


def _answers(shared: Any, data: Any, vector: Any, exact: tuple[bool, ...], join_place: int, pipeline: Pipeline, stream: Stream) -> Answers:
    generator = stream.generator()

    def wire(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return over_the_wire(pipeline, values, generator)

    correct, lengths = [], []
    for begin in range(0, len(data.test_labels), BATCH):
        inputs = np.asarray(data.test_inputs[begin : begin + BATCH], dtype=np.float32)
        output, took = shared.run(inputs, vector, wire, exact, join_place)
        correct.append(output.argmax(axis=1) == data.test_labels[begin : begin + BATCH])
        lengths.append(np.stack(took) if took else np.zeros((0, len(inputs)), dtype=np.int64))
    return Answers(np.concatenate(correct), np.concatenate(lengths, axis=1))


def _groups_from(plain: list[list[int]]) -> Groups:
    return tuple(map(tuple, plain))


_FILTER_GROUPS = Function("filter_groups", 1, _filter_groups, FactForm(list, _groups_from))
_STUDENT_PROFILE = Function("student_profile", 1, _student_profile, FactForm(Profile.to_json, Profile.from_json))
_SENT_SAMPLES = Function("sent_samples", 1, _sent_samples)
_RECEIVED_SAMPLES = Function("received_samples", 1, _received_samples)
_SENT_FEATURES = Function("sent_features", 1, _sent_features)
_RECEIVED_FEATURES = Function("received_features", 1, _received_features)
_SENT_BYTES = Function("sent_bytes", 1, _sent_bytes, FactForm(list, _groups_from))
_FILTER_PORTIONS = Function("filter_portions", 1, _filter_portions, FactForm(Portions.to_plain, Portions.from_plain))
_FILTER_ANSWERS = Function("filter_answers", 1, _filter_answers, FactForm(Answers.to_plain, Answers.from_plain))
_TILE_PORTIONS = Function("tile_portions", 1, _tile_portions, FactForm(Portions.to_plain, Portions.from_plain))
_TILE_ANSWERS = Function("tile_answers", 1, _tile_answers, FactForm(Answers.to_plain, Answers.from_plain))
