"""The learning side's values as recipes: what the event loop handles in place of tensors.

Each function below returns a recipe; the store computes it when something needs it, and computes all ready calls of one
function together. A version is raised by hand whenever a function's results change; golden values in the tests fail if it
was forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from netfl.codecs import Encoded, Pipeline, encode_with_feedback
from netfl.learning.aggregate import Aggregator
from netfl.learning.data import Dataset, DataSource
from netfl.learning.models import Model
from netfl.learning.partition import Partition
from netfl.learning.trainer import Evaluation, FitJob, Trainer, on_device
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, TensorForm, recipe

__all__ = [
    "DatasetFacts",
    "Update",
    "aggregate",
    "dataset",
    "dataset_facts",
    "decoded",
    "difference",
    "encode",
    "evaluate",
    "fit",
    "initial_model",
    "losses",
    "payload_bytes",
    "residual",
    "shard_samples",
    "shards",
    "total",
    "unsent",
]

Calls = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Update:
    """What a client's training changed.

    Args:
        values: trained model minus the model it started from, (P,) float32.
        mean_loss: over the samples of the last local epoch.
        num_samples: how many samples the client has.
    """

    values: np.ndarray
    mean_loss: float
    num_samples: int


def dataset(source: DataSource, stream: Stream) -> Recipe:
    """The `Dataset` of a source; the stream draws the split into training and test samples.

    Of a source that reads files, the recipe holds what they contain and not where they lie; see `DataSource`.
    """
    return recipe(_DATASET, _Files.of(source) if hasattr(source, "identity") else source, stream)


def _dataset(calls: Calls) -> list[Dataset]:
    return [(source.source if isinstance(source, _Files) else source).load(stream) for source, stream in calls]


@dataclass(frozen=True)
class _Files:
    """A source of files, known by its settings and their contents.

    Args:
        kind: its class.
        settings: its fields but the paths.
        identity: the hash of the files.
    """

    kind: str
    settings: tuple[tuple[str, Any], ...]
    identity: str

    @classmethod
    def of(cls, source: Any) -> _Files:
        settings = tuple((field.name, getattr(source, field.name)) for field in fields(source) if not field.name.endswith("path"))
        made = cls(f"{type(source).__module__}.{type(source).__qualname__}", settings, source.identity())
        object.__setattr__(made, "source", source)  # no field, so it is part of no key
        return made

    source: ClassVar[DataSource]


@dataclass(frozen=True)
class DatasetFacts:
    """What must be known of a dataset to simulate without it.

    Args:
        sample_shape: of one sample.
        num_classes: how many labels there are.
        num_test: how many test samples there are.
    """

    sample_shape: tuple[int, ...]
    num_classes: int
    num_test: int


def dataset_facts(data: Recipe) -> Recipe:
    """The `DatasetFacts` of a dataset."""
    return recipe(_DATASET_FACTS, data)


def _dataset_facts(calls: Calls) -> list[DatasetFacts]:
    return [DatasetFacts(tuple(data.sample_shape), data.num_classes, len(data.test_labels)) for (data,) in calls]


def shards(data: Recipe, partition: Partition, num_clients: int, stream: Stream) -> Recipe:
    """A list of index arrays, one a client, into the training samples of a dataset."""
    return recipe(_SHARDS, data, partition, num_clients, stream)


def _shards(calls: Calls) -> list[list[np.ndarray]]:
    return [
        partition.split(data.train_labels, num_clients, data.num_classes, stream, data.groups)
        for data, partition, num_clients, stream in calls
    ]


def shard_samples(shards_: Recipe) -> Recipe:
    """How many training samples each client has, as a tuple."""
    return recipe(_SHARD_SAMPLES, shards_)


def _shard_samples(calls: Calls) -> list[tuple[int, ...]]:
    return [tuple(len(shard) for shard in all_shards) for (all_shards,) in calls]


def initial_model(model: Model, data: Recipe, stream: Stream) -> Recipe:
    """A flat model vector (P,) float32, drawn from the stream."""
    return recipe(_INITIAL, model, data, stream)


def _initial(calls: Calls) -> list[np.ndarray]:
    from netfl.learning.models import initial

    return [initial(model, data.sample_shape, data.num_classes, stream) for model, data, stream in calls]


def fit(trainer: Trainer, model: Model, start: Recipe, data: Recipe, shard: tuple[Recipe, int] | None, stream: Stream) -> Recipe:
    """The `Update` that training makes of a start model.

    A client's bits do not depend on who trains in the same batch, so the recipe holds its own arguments alone.

    Args:
        trainer: how to train; with `device: auto` the recipe names the device that is there.
        model: the kind of model.
        start: a flat model vector, (P,).
        data: the dataset.
        shard: the recipe of all shards, and which of them; None trains on all training samples.
        stream: draws the order of the samples.
    """
    return recipe(_FIT, on_device(trainer), model, start, data, shard, stream)


def _fit(calls: Calls) -> list[Update]:
    from netfl.learning.trainer import fit as fit_together

    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, (trainer, model, _, data, _, _) in enumerate(calls):
        groups.setdefault((trainer, model, data.sample_shape, data.num_classes), []).append(index)
    updates: dict[int, Update] = {}
    for (trainer, model, sample_shape, num_classes), indices in groups.items():
        jobs = []
        for index in indices:
            _, _, start, data, shard, stream = calls[index]
            rows = slice(None) if shard is None else shard[0][shard[1]]
            jobs.append(FitJob(start, data.train_inputs[rows], data.train_labels[rows], stream))
        results = fit_together(trainer, model, sample_shape, num_classes, jobs)
        for index, job, result in zip(indices, jobs, results, strict=True):
            updates[index] = Update(result.model - job.start, result.mean_loss, result.num_samples)
    return [updates[index] for index in range(len(calls))]


def losses(fits: Sequence[Recipe]) -> Recipe:
    """The mean loss of each `Update`, as a tuple; nan or inf where training diverged."""
    return recipe(_LOSSES, tuple(fits))


def _losses(calls: Calls) -> list[tuple[float, ...]]:
    return [tuple(float(update.mean_loss) for update in updates) for (updates,) in calls]


def encode(pipeline: Pipeline, values: Recipe, carried: Recipe | None, stream: Stream, feedback: bool = False) -> Recipe:
    """The `Encoded` of an update or a vector.

    Args:
        pipeline: the codecs.
        values: an `Update` or a vector (n,).
        carried: what earlier encodings left unsent, a `residual` or `unsent` vector (n,); None for nothing.
        stream: draws the rounding.
        feedback: whether its `residual` will be needed, so that it is kept; the value does not depend on it.
    """
    return recipe(_ENCODE_FOR_FEEDBACK if feedback else _ENCODE, pipeline, values, carried, stream)


def _encode(calls: Calls) -> list[Encoded]:
    return [encode_with_feedback(pipeline, _vector(values), carried, stream.generator()) for pipeline, values, carried, stream in calls]


def payload_bytes(encoded: Recipe) -> Recipe:
    """The length of an encoding, where it depends on the data."""
    return recipe(_PAYLOAD_BYTES, encoded)


def _payload_bytes(calls: Calls) -> list[int]:
    return [len(encoded.payload) for (encoded,) in calls]


def decoded(encoded: Recipe) -> Recipe:
    """The vector (n,) that the receiver makes of the bytes."""
    return recipe(_DECODED, encoded)


def _decoded(calls: Calls) -> list[np.ndarray]:
    return [encoded.decoded for (encoded,) in calls]


def residual(encoded: Recipe) -> Recipe:
    """What an encoding lost, (n,): carried to the next one if its bytes were accepted."""
    return encoded.part(_RESIDUAL)


def _residual(calls: Calls) -> list[np.ndarray]:
    return [encoded.residual for (encoded,) in calls]


def unsent(encoded: Recipe) -> Recipe:
    """The whole input of an encoding whose bytes were not accepted: all of it returns to the residual."""
    return recipe(_UNSENT, encoded)


def _unsent(calls: Calls) -> list[np.ndarray]:
    return [encoded.input for (encoded,) in calls]


def aggregate(aggregator: Aggregator, model: Recipe, updates: Sequence[Recipe], num_samples: Sequence[int]) -> Recipe:
    """The next global model (P,): a model and the decoded updates, in client-name order."""
    return recipe(_AGGREGATE, aggregator, model, tuple(updates), tuple(num_samples))


def _aggregate(calls: Calls) -> list[np.ndarray]:
    return [aggregator.aggregate(model, updates, num_samples) for aggregator, model, updates, num_samples in calls]


def difference(minuend: Recipe, subtrahend: Recipe) -> Recipe:
    """One vector (n,) minus another."""
    return recipe(_DIFFERENCE, minuend, subtrahend)


def _difference(calls: Calls) -> list[np.ndarray]:
    return [minuend - subtrahend for minuend, subtrahend in calls]


def total(first: Recipe, second: Recipe) -> Recipe:
    """One vector (n,) plus another, or plus an `Update`."""
    return recipe(_TOTAL, first, second)


def _total(calls: Calls) -> list[np.ndarray]:
    return [_vector(first) + _vector(second) for first, second in calls]


def evaluate(model: Model, vector: Recipe, data: Recipe) -> Recipe:
    """The `Evaluation` of a flat model vector on the test samples."""
    return recipe(_EVALUATE, model, vector, data)


def _evaluate(calls: Calls) -> list[Any]:
    from netfl.learning.trainer import evaluate as evaluate_one

    return [
        evaluate_one(model, data.sample_shape, data.num_classes, vector, data.test_inputs, data.test_labels)
        for model, vector, data in calls
    ]


def _vector(values: Any) -> np.ndarray:
    return values.values if isinstance(values, Update) else values


def _as_given(value: Any) -> Any:
    return value


def _evaluation_from(plain: list[float]) -> Evaluation:
    return Evaluation(*plain)


_AS_FACT = FactForm(_as_given, _as_given)
_AS_TENSOR = TensorForm(lambda vector: {"vector": vector}, lambda named: named["vector"])
_DATASET = Function("dataset", 1, _dataset, lasting=True)
_DATASET_FACTS = Function(
    "dataset_facts",
    1,
    _dataset_facts,
    FactForm(
        lambda found: [found.sample_shape, found.num_classes, found.num_test], lambda plain: DatasetFacts(tuple(plain[0]), *plain[1:])
    ),
)
_SHARDS = Function("shards", 1, _shards, lasting=True)
_SHARD_SAMPLES = Function("shard_samples", 1, _shard_samples, FactForm(list, tuple))
_INITIAL = Function("initial_model", 1, _initial)
_FIT = Function("fit", 1, _fit)
_LOSSES = Function("losses", 1, _losses, FactForm(list, tuple))
_RESIDUAL = Function("residual", 1, _residual, _AS_TENSOR)
_ENCODE = Function("encode", 1, _encode)
_ENCODE_FOR_FEEDBACK = Function("encode", 1, _encode, parts=(_RESIDUAL,))
_PAYLOAD_BYTES = Function("payload_bytes", 1, _payload_bytes, _AS_FACT)
_DECODED = Function("decode", 1, _decoded)
_UNSENT = Function("unsent", 1, _unsent)
_AGGREGATE = Function("aggregate", 1, _aggregate, _AS_TENSOR)
_DIFFERENCE = Function("difference", 1, _difference)
_TOTAL = Function("total", 1, _total, _AS_TENSOR)
_EVALUATE = Function("evaluate", 1, _evaluate, FactForm(lambda found: [found.accuracy, found.loss], _evaluation_from))
