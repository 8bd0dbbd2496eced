"""The learning side's values as recipes: what the event loop handles in place of tensors.

Each function below returns a recipe; the store computes it when something needs it, and computes all ready calls of one
function together. A version is raised by hand whenever a function's results change; golden values in the tests fail if it
was forgotten.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from netfl.codecs import Encoded, Pipeline, encode_with_feedback
from netfl.errors import RunError
from netfl.learning.aggregators import Aggregated, Aggregator, Contributions
from netfl.learning.data import Dataset, DataSource
from netfl.learning.models import Model
from netfl.learning.partition import Partition
from netfl.learning.trainer import Evaluation, FitJob, Trainer, on_device
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, TensorForm, recipe

__all__ = [
    "DatasetFacts",
    "TrainingLoss",
    "Update",
    "aggregate",
    "average",
    "cohort",
    "consensus",
    "control",
    "dataset",
    "dataset_facts",
    "decoded",
    "difference",
    "encode",
    "evaluate",
    "fit",
    "initial_model",
    "losses",
    "mixed",
    "payload_bytes",
    "residual",
    "scaled",
    "shard_samples",
    "shards",
    "state_entry",
    "tensor_shapes",
    "total",
    "training_loss",
    "unsent",
]

_LOG = logging.getLogger("netfl")

Calls = Sequence[tuple[Any, ...]]


class Update(NamedTuple):
    """What a client's training changed.

    Args:
        values: trained model minus the model it started from, (P,) float32.
        mean_loss: over the samples of the last local epoch.
        num_samples: how many samples the client has.
        mean_square_loss: of the squared losses of those samples.
        last_batch_loss: over those of the last batch.
    """

    values: np.ndarray
    mean_loss: float
    num_samples: int
    mean_square_loss: float
    last_batch_loss: float

    @property
    def nbytes(self) -> int:
        """About how much memory it takes, as the store asks."""
        return self.values.nbytes + 256


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
        num_train: how many training samples.
    """

    sample_shape: tuple[int, ...]
    num_classes: int
    num_test: int
    num_train: int


def dataset_facts(data: Recipe) -> Recipe:
    """The `DatasetFacts` of a dataset."""
    return recipe(_DATASET_FACTS, data)


def _dataset_facts(calls: Calls) -> list[DatasetFacts]:
    return [DatasetFacts(tuple(data.sample_shape), data.num_classes, len(data.test_labels), len(data.train_labels)) for (data,) in calls]


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


def tensor_shapes(model: Model, data: Recipe) -> Recipe:
    """The shapes of a model's parameters, in the order in which its vector holds them, as a tuple of tuples."""
    return recipe(_TENSOR_SHAPES, model, data)


def _tensor_shapes(calls: Calls) -> list[tuple[tuple[int, ...], ...]]:
    return [
        tuple(tuple(parameter.shape) for parameter in model.build(data.sample_shape, data.num_classes).parameters())
        for model, data in calls
    ]


def initial_model(model: Model, data: Recipe, stream: Stream) -> Recipe:
    """A flat model vector (P,) float32, drawn from the stream, or made from it by the model's own `start`."""
    return recipe(_INITIAL, model, data, stream)


def _initial(calls: Calls) -> list[np.ndarray]:
    from netfl.learning.models import initial

    return [
        model.start(data, stream) if hasattr(model, "start") else initial(model, data.sample_shape, data.num_classes, stream)
        for model, data, stream in calls
    ]


@dataclass(frozen=True)
class _Cohort:
    """See `cohort`."""

    trainer: Trainer
    model: Model
    data: Dataset
    stream: Stream
    shards: list[np.ndarray] | None

    @property
    def kind(self) -> tuple[Any, ...]:
        """Cohorts of one kind train together."""
        return self.trainer, self.model, self.data.sample_shape, self.data.num_classes


def cohort(trainer: Trainer, model: Model, data: Recipe, stream: Stream, shards: Recipe | None = None) -> Recipe:
    """What the `fit`s of clients have in common: written once, not with each of them.

    Args:
        trainer: how to train; with `device: auto` the recipe names the device that is there, and the log says which.
        model: the kind of model.
        data: the dataset.
        stream: draws the order of the samples.
        shards: who has which training samples; None for all.
    """
    placed: Any = on_device(trainer)
    if placed is not trainer:
        _LOG.info("device: auto: training on %s", placed.device)
    return recipe(_COHORT, placed, model, data, stream, shards)


def _cohort(calls: Calls) -> list[_Cohort]:
    return [_Cohort(*call) for call in calls]


def fit(
    cohort: Recipe,
    start: Recipe,
    shard: int | None = None,
    client: str | None = None,
    turn: int | None = None,
    offset: Recipe | None = None,
) -> Recipe:
    """The `Update` that training makes of a start model.

    A client's bits do not depend on who trains in the same batch, so the recipe holds its own arguments alone.

    Args:
        cohort: what it has in common with those of other clients, and of other rounds with the same trainer.
        start: a flat model vector, (P,).
        shard: which of the cohort's shards; None trains on all training samples.
        client: whose name, and
        turn: whose number the name of the cohort's stream goes on with; None for a cohort of one, who draws from the stream itself.
        offset: (P,) added to the gradient of every step, as SCAFFOLD's difference of controls; None for none.
    """
    return recipe(_FIT, cohort, start, shard, client, turn, *(() if offset is None else (offset,)))


def _fit(calls: Calls) -> list[Update]:
    from netfl.learning.trainer import fit as fit_together

    groups: dict[tuple[Any, ...], list[int]] = {}
    kinds = {id(each): each.kind for each, *_ in calls}
    for index, (each, *_) in enumerate(calls):
        groups.setdefault(kinds[id(each)], []).append(index)
    updates: dict[int, Update] = {}
    for (trainer, model, sample_shape, num_classes), indices in groups.items():
        jobs = []
        for index, (inputs, labels) in zip(indices, _dealt([calls[index] for index in indices]), strict=True):
            each, start, _, client, turn, *offset = calls[index]
            stream = each.stream if client is None else each.stream.child(client, turn)
            jobs.append(FitJob(start, inputs, labels, stream, *offset))
        # From here on nobody else has them: the arrays whose rows they are go one after the other, and updates take their place.
        results = fit_together(trainer, model, sample_shape, num_classes, jobs)[::-1]
        for index, job in zip(indices, jobs, strict=True):
            result = results.pop()
            updates[index] = Update(
                result.model - job.start, result.mean_loss, result.num_samples, result.mean_square_loss, result.last_batch_loss
            )
    return [updates[index] for index in range(len(calls))]


def _dealt(calls: Calls) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The training samples of each `fit` with their labels, gathered a cohort at a time."""
    for _, of_cohort in itertools.groupby(calls, key=lambda call: id(call[0])):
        members = [(each, shard) for each, _, shard, *_ in of_cohort]
        each, first = members[0]
        data = each.data
        if first is None:
            yield from itertools.repeat((data.train_inputs, data.train_labels), len(members))
            continue
        rows = [each.shards[shard] for _, shard in members]
        gathered = np.concatenate(rows)
        inputs, labels = data.train_inputs[gathered], data.train_labels[gathered]
        ends = itertools.accumulate(map(len, rows), initial=0)
        yield from ((inputs[begin:end], labels[begin:end]) for begin, end in itertools.pairwise(ends))


def losses(fits: Sequence[Recipe]) -> Recipe:
    """The mean loss of each `Update`, as an array of float64; nan or inf where training diverged."""
    return recipe(_LOSSES, tuple(fits))


def _losses(calls: Calls) -> list[np.ndarray]:
    return [np.array([update.mean_loss for update in updates], np.float64) for (updates,) in calls]


@dataclass(frozen=True)
class TrainingLoss:
    """A client's losses (nats) over the samples of its last local epoch, each taken just before the step that it belongs to.

    Args:
        mean: of the losses.
        mean_square: of their squares.
        last_batch: of those of the last batch.
    """

    mean: float
    mean_square: float
    last_batch: float


def training_loss(update: Recipe) -> Recipe:
    """The `TrainingLoss` of an `Update`."""
    return recipe(_TRAINING_LOSS, update)


def _training_loss(calls: Calls) -> list[TrainingLoss]:
    return [TrainingLoss(update.mean_loss, update.mean_square_loss, update.last_batch_loss) for (update,) in calls]


def encode(
    pipeline: Pipeline, values: Recipe, carried: Recipe | None, stream: Stream, feedback: bool = False, decay: float = 1.0
) -> Recipe:
    """The `Encoded` of an update or a vector.

    Args:
        pipeline: the codecs.
        values: an `Update` or a vector (n,).
        carried: what earlier encodings left unsent, a `residual` or `unsent` vector (n,); None for nothing.
        stream: draws the rounding.
        feedback: whether its `residual` will be needed, so that it is kept; the value does not depend on it.
        decay: share of what was lost that is carried on.
    """
    function = _ENCODE_FOR_FEEDBACK if feedback else _ENCODE
    return recipe(function, pipeline, values, carried, stream, *([decay] if decay != 1 else []))


def _encode(calls: Calls) -> list[Encoded]:
    return [
        encode_with_feedback(pipeline, _vector(values), carried, stream.generator(), *decay)
        for pipeline, values, carried, stream, *decay in calls
    ]


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


def aggregate(
    aggregator: Aggregator,
    model: Recipe,
    before: Recipe | None,
    updates: Sequence[Recipe],
    num_samples: Sequence[int],
    steps: Sequence[int],
    num_clients: int,
    controls: Sequence[Recipe] = (),
    stream: Stream | None = None,
) -> tuple[Recipe, Recipe | None]:
    """The next model (P,) of a model and what came back, each in client-name order; and the `before` of the next aggregation.

    An aggregator that remembers nothing has no `before`, and makes the model alone.

    Args:
        aggregator: how.
        model: the present global model.
        before: the `Aggregated` that the present model came from, for its state; None at the first, and of aggregators without one.
        updates: decoded, (P,) each; or an `Update` that was sent as it is.
        num_samples: how many samples each was trained on.
        steps: how many optimiser steps each took.
        num_clients: all clients of the training.
        controls: (P,) each, by how much the clients' controls changed, for aggregators that use them.
        stream: what it draws from; only for aggregators that draw.
    """
    if stream is not None and not aggregator.draws:
        stream = None  # nothing of it is used, so it is no part of the key
    given = (model, before, tuple(updates), tuple(num_samples), tuple(steps), num_clients, tuple(controls), stream)
    if not aggregator.remembers:
        return recipe(_AGGREGATE, aggregator, *given), None
    aggregated = recipe(_AGGREGATE_ON, aggregator, *given)
    return recipe(_AGGREGATED_MODEL, aggregated), aggregated


def _aggregate(calls: Calls) -> list[np.ndarray]:
    results = []
    for call, aggregated in zip(calls, _aggregate_on(calls), strict=True):
        if aggregated.state:
            raise RunError(f"the aggregator {type(call[0]).__name__} leaves a state: expected its class to say `remembers = True`")
        results.append(aggregated.model)
    return results


def _aggregate_on(calls: Calls) -> list[Aggregated]:
    results = []
    for aggregator, model, before, updates, num_samples, steps, num_clients, controls, stream in calls:
        contributions = Contributions(
            updates=[_vector(each) for each in updates],
            num_samples=num_samples,
            steps=steps,
            controls=controls,
            num_clients=num_clients,
            stream=stream,
        )
        results.append(aggregator.aggregate(model, {} if before is None else before.state, contributions))
    return results


def _aggregated_model(calls: Calls) -> list[np.ndarray]:
    return [aggregated.model for (aggregated,) in calls]


def state_entry(aggregated: Recipe, name: str) -> Recipe:
    """A vector (P,) of an `Aggregated`'s state, as SCAFFOLD's `control`."""
    return recipe(_STATE_ENTRY, aggregated, name)


def _state_entry(calls: Calls) -> list[np.ndarray]:
    return [aggregated.state[name] for aggregated, name in calls]


def control(update: Recipe, steps: int, learning_rate: float, own: Recipe | None, shared: Recipe | None) -> Recipe:
    """A client's next control variate (P,): SCAFFOLD's option II, own - shared - update / (steps * learning_rate).

    Args:
        update: the client's `Update`, made with the offset shared - own, at a constant rate without momentum.
        steps: how many optimiser steps it took.
        learning_rate: of the client.
        own: the client's present control; None for 0.
        shared: the server's, as the client holds it; None for 0.
    """
    return recipe(_CONTROL, update, steps, learning_rate, own, shared)


def _control(calls: Calls) -> list[np.ndarray]:
    results = []
    for update, steps, learning_rate, own, shared in calls:
        control = _vector(update).astype(np.float64) / (-steps * learning_rate)
        control += 0 if own is None else own
        control -= 0 if shared is None else shared
        results.append(control.astype(np.float32))
    return results


def scaled(values: Recipe, factor: float) -> Recipe:
    """A vector (n,), or an `Update`, times a number."""
    return recipe(_SCALED, values, factor)


def _scaled(calls: Calls) -> list[np.ndarray]:
    return [_vector(values) * np.float32(factor) for values, factor in calls]


def mixed(model: Recipe, other: Recipe, share: float) -> Recipe:
    """A model (P,) moved towards another one by a share of the way: (1 - share) * model + share * other."""
    return recipe(_MIXED, model, other, share)


def _mixed(calls: Calls) -> list[np.ndarray]:
    return [((1 - share) * model.astype(np.float64) + share * other.astype(np.float64)).astype(np.float32) for model, other, share in calls]


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


def average(vectors: Sequence[Recipe]) -> Recipe:
    """The plain mean (n,) of vectors, in the order given."""
    return recipe(_AVERAGE, tuple(vectors))


def _average(calls: Calls) -> list[np.ndarray]:
    return [np.asarray(np.mean(np.stack(vectors), axis=0, dtype=np.float64), np.float32) for (vectors,) in calls]


def consensus(own: Recipe, own_view: Recipe, views: Sequence[Recipe], shares: Sequence[float]) -> Recipe:
    """A vector (n,) moved towards others: own + the sum of share * (view - own_view), in the order given."""
    return recipe(_CONSENSUS, own, own_view, tuple(views), tuple(shares))


def _consensus(calls: Calls) -> list[np.ndarray]:
    results = []
    for own, own_view, views, shares in calls:
        moved = own.astype(np.float64)
        for view, share in zip(views, shares, strict=True):
            moved += share * (view.astype(np.float64) - own_view)
        results.append(moved.astype(np.float32))
    return results


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


def _dumped(aggregated: Aggregated) -> dict[str, np.ndarray]:
    return {"model": aggregated.model, **{f"state {name}": vector for name, vector in aggregated.state.items()}}


def _loaded(named: Mapping[str, np.ndarray]) -> Aggregated:
    state = {name.removeprefix("state "): vector for name, vector in named.items() if name != "model"}
    return Aggregated(named["model"], state)


def _as_given(value: Any) -> Any:
    return value


def _evaluation_from(plain: list[float]) -> Evaluation:
    return Evaluation(*plain)


_AS_FACT = FactForm(_as_given, _as_given)
_AS_TENSOR = TensorForm(lambda vector: {"vector": vector}, lambda named: named["vector"])
_DATASET = Function("dataset", 1, _dataset, lasting=True)
_DATASET_FACTS = Function(
    "dataset_facts",
    2,
    _dataset_facts,
    FactForm(
        lambda found: [found.sample_shape, found.num_classes, found.num_test, found.num_train],
        lambda plain: DatasetFacts(tuple(plain[0]), *plain[1:]),
    ),
)
_SHARDS = Function("shards", 1, _shards, lasting=True)
_SHARD_SAMPLES = Function("shard_samples", 1, _shard_samples, FactForm(list, tuple))
_INITIAL = Function("initial_model", 1, _initial)
_TENSOR_SHAPES = Function("tensor_shapes", 1, _tensor_shapes, FactForm(list, lambda plain: tuple(map(tuple, plain))))
_COHORT = Function("cohort", 2, _cohort, bundles=True)
_FIT = Function("fit", 2, _fit, fleeting=True)
_LOSSES = Function(
    "losses",
    2,
    _losses,
    # Digits of a thousand numbers in each round would take longer than all else that the store does for it.
    FactForm(lambda losses: losses.astype("<f8").tobytes().hex(), lambda plain: np.frombuffer(bytes.fromhex(plain), "<f8")),
)
_TRAINING_LOSS = Function(
    "training_loss",
    2,
    _training_loss,
    FactForm(lambda found: [found.mean, found.mean_square, found.last_batch], lambda plain: TrainingLoss(*plain)),
)
_RESIDUAL = Function("residual", 1, _residual, _AS_TENSOR)
_ENCODE = Function("encode", 2, _encode, fleeting=True)
_ENCODE_FOR_FEEDBACK = Function("encode", 2, _encode, parts=(_RESIDUAL,), fleeting=True)
_PAYLOAD_BYTES = Function("payload_bytes", 1, _payload_bytes, _AS_FACT)
_DECODED = Function("decode", 1, _decoded, fleeting=True)
_UNSENT = Function("unsent", 1, _unsent, fleeting=True)
_AGGREGATE = Function("aggregate", 3, _aggregate, _AS_TENSOR)
_AGGREGATE_ON = Function("aggregate", 3, _aggregate_on, TensorForm(_dumped, _loaded))
_AGGREGATED_MODEL = Function("aggregated_model", 1, _aggregated_model, fleeting=True)
_STATE_ENTRY = Function("state_entry", 1, _state_entry)
_CONTROL = Function("control", 1, _control, _AS_TENSOR)
_SCALED = Function("scaled", 1, _scaled, fleeting=True)
_MIXED = Function("mixed", 1, _mixed, _AS_TENSOR)
_DIFFERENCE = Function("difference", 1, _difference, fleeting=True)
_TOTAL = Function("total", 1, _total, _AS_TENSOR)
_AVERAGE = Function("average", 1, _average, fleeting=True)
_CONSENSUS = Function("consensus", 1, _consensus, _AS_TENSOR)
_EVALUATE = Function("evaluate", 1, _evaluate, FactForm(lambda found: [found.accuracy, found.loss], _evaluation_from))
