"""Split inference as recipes: the profile of a model, the weights that are served, and what its pieces answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netfl.codecs import Pipeline
from netfl.learning.models import Model
from netfl.placement import Profile
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, recipe
from netfl.workloads.crossing import Crossing

__all__ = ["Answers", "Weights", "Wire", "infer", "node_bytes", "profile_of", "sent_input_bytes", "served", "served_bytes"]

Calls = Sequence[tuple[Any, ...]]

_INPUTS = 256
"""Test samples whose mean length stands for an input's: enough for a planner."""


def profile_of(model: Model, data: Recipe) -> Recipe:
    """The `Profile` of a kind of model on a dataset's samples, which it must fit."""
    return recipe(_PROFILE, model, data)


def _profile(calls: Calls) -> list[Profile]:
    from netfl.learning.models import check_fit
    from netfl.placement import trace

    for model, data in calls:
        check_fit(model, data)
    return [trace(model.build(data.sample_shape, data.num_classes), data.sample_shape) for model, data in calls]


@dataclass(frozen=True)
class Weights:
    """The weights that serve, after their way to the devices.

    Args:
        vector: flat model, (P,) float32, as decoded from the messages.
        node_bytes: length of the message that carries each node's parameters; 0 for nodes without any.
    """

    vector: np.ndarray
    node_bytes: tuple[int, ...]


def served(pipeline: Pipeline, profile: Recipe, model: Recipe, stream: Stream) -> Recipe:
    """The `Weights` of a global model, each node's parameters encoded as a message of its own.

    So what a node computes with does not depend on where the model is cut.
    """
    return recipe(_SERVED, pipeline, profile, model, stream)


def _served(calls: Calls) -> list[Weights]:
    results = []
    for pipeline, profile, model, stream in calls:
        generator = stream.generator()
        vector = model.copy()
        lengths = []
        for node in profile.nodes:
            if not node.parameters:
                lengths.append(0)
                continue
            payload = pipeline.encode(np.concatenate([model[start:stop] for start, stop in node.parameters]), generator)
            lengths.append(len(payload))
            decoded, at = pipeline.decode(payload), 0
            for start, stop in node.parameters:
                vector[start:stop] = decoded[at : at + stop - start]
                at += stop - start
        results.append(Weights(vector, tuple(lengths)))
    return results


def node_bytes(pipeline: Pipeline, profile: Profile) -> tuple[int, ...] | None:
    """`Weights.node_bytes` in advance, where every length is a closed form."""
    lengths: list[int] = []
    for node in profile.nodes:
        length = pipeline.encoded_bytes(sum(stop - start for start, stop in node.parameters)) if node.parameters else 0
        if length is None:
            return None
        lengths.append(length)
    return tuple(lengths)


def served_bytes(weights: Recipe) -> Recipe:
    """`Weights.node_bytes` alone."""
    return recipe(_SERVED_BYTES, weights)


def _served_bytes(calls: Calls) -> list[tuple[int, ...]]:
    return [weights.node_bytes for (weights,) in calls]


def infer(
    model: Model,
    data: Recipe,
    profile: Recipe,
    cuts: tuple[int, ...],
    order: tuple[int, ...],
    weights: Recipe,
    crossing: Crossing,
    stream: Stream,
) -> Recipe:
    """The `Answers` of the pieces of a placement, run for real over all test samples in one fixed batching.

    Args:
        model: the kind of model.
        data: recipe of the `Dataset`.
        profile: recipe of the `Profile`.
        cuts: as in `Placement`.
        order: as in `Placement`.
        weights: recipe of the `Weights`.
        crossing: codecs of what crosses a cut.
        stream: of random encoders.
    """
    return recipe(_INFER, model, data, profile, cuts, order, weights, crossing, stream)


@dataclass(frozen=True)
class Answers:
    """What the pieces of a cut make of the test samples.

    Args:
        correct: (N,) bool, whether the answer is the label.
        payload_bytes: (boundaries, N) int64, what each sample sends over each boundary in use.
    """

    correct: np.ndarray
    payload_bytes: np.ndarray

    def to_plain(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {"correct": "".join("01"[int(each)] for each in self.correct), "payload_bytes": self.payload_bytes.tolist()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Answers:
        """Back from `to_plain`."""
        correct = np.array([each == "1" for each in plain["correct"]])
        return cls(correct, np.array(plain["payload_bytes"], dtype=np.int64).reshape(-1, len(correct)))


def _infer(calls: Calls) -> list[Answers]:
    from netfl.placement.serve import infer as infer_one

    results = []
    for model, data, profile, cuts, order, weights, crossing, stream in calls:
        wire = Wire(profile, crossing, stream)
        module = model.build(data.sample_shape, data.num_classes)
        placed = profile.in_order(order) if order else profile
        found = infer_one(module, placed, cuts, weights.vector, data.test_inputs, wire.send, wire.receive)
        results.append(Answers(found.predictions == data.test_labels, found.payload_bytes))
    return results


class Wire:
    """Each node's output through its own codecs; an input with an encoding of its own as so many bytes.

    Args:
        profile: whose nodes they are.
        crossing: the codecs.
        stream: of random encoders.
    """

    def __init__(self, profile: Profile, crossing: Crossing, stream: Stream) -> None:
        self._pipelines = {node.name: crossing.pipeline(node) for node in profile.nodes if node.output_values}
        self._whole = {profile.nodes[0].name: crossing.input_bytes} if crossing.input_bytes is not None else {}
        self._generator = stream.generator()

    def send(self, values: np.ndarray, name: str, boundary: int, sample: int) -> tuple[int, bytes]:
        """The length of what is sent, and what the receiver gets."""
        if name in self._whole:
            return self._whole[name], values.tobytes()
        payload = self._pipelines[name].encode(values, self._generator)
        return len(payload), payload

    def receive(self, payload: bytes, name: str) -> np.ndarray:
        """What the receiver makes of it, (V,) float32."""
        if name in self._whole:
            return np.frombuffer(payload, dtype=np.float32)
        return self._pipelines[name].decode(payload)


def sent_input_bytes(data: Recipe, profile: Recipe, crossing: Crossing, stream: Stream) -> Recipe:
    """Wire bytes of an input: the mean over the first test samples, rounded up.

    Args:
        data: recipe of the `Dataset`.
        profile: recipe of the `Profile`.
        crossing: codecs of what crosses a cut.
        stream: of random encoders.
    """
    return recipe(_SENT_INPUT_BYTES, data, profile, crossing, stream)


def _sent_input_bytes(calls: Calls) -> list[int]:
    results = []
    for data, profile, crossing, stream in calls:
        wire = Wire(profile, crossing, stream)
        samples = data.test_inputs[:_INPUTS]
        lengths = [wire.send(sample.reshape(-1), profile.nodes[0].name, 0, row)[0] for row, sample in enumerate(samples)]
        results.append(math.ceil(sum(lengths) / len(lengths)))
    return results


_PROFILE = Function("profile", 2, _profile, FactForm(Profile.to_json, Profile.from_json))
_SERVED = Function("served", 2, _served)
_SERVED_BYTES = Function("served_bytes", 1, _served_bytes, FactForm(list, tuple))
_SENT_INPUT_BYTES = Function("sent_input_bytes", 1, _sent_input_bytes, FactForm(int, int))
_INFER = Function("infer", 4, _infer, FactForm(Answers.to_plain, Answers.from_plain))
