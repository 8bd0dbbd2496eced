"""A golden value for every stored function and its version: results that change without a raised version fail here.

If a change is meant, raise the version in `learning/values.py` or `workloads/inference.py` and record the new value. Figures
are rounded to what equal mathematics gives on any platform.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest

from netfl.codecs import Pipeline, Quantize, Threshold, TopK
from netfl.learning import values
from netfl.learning.aggregators.adaptive import FedAdam
from netfl.learning.data import Digits
from netfl.learning.models import Cnn
from netfl.learning.partition import Dirichlet
from netfl.learning.trainer import Sgd
from netfl.randomness import Streams
from netfl.store import Recipe
from netfl.workloads import inference
from netfl.workloads.crossing import Crossing
from netfl.workloads.inference import infer, profile_of, sent_input_bytes, served, served_bytes
from tests.golden.checks import assert_all_golden, assert_golden

STREAMS = Streams(seed=11)
MODEL = Cnn(channels=(4, 8))
CROSSING = Crossing(activations=Pipeline((Quantize(bits=8),)), inputs=Pipeline((Threshold(least=0.3),)))


def recipes() -> dict[str, Recipe]:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    shards = values.shards(data, Dirichlet(alpha=0.5), 6, STREAMS.stream("partition"))
    start = values.initial_model(MODEL, data, STREAMS.stream("initial"))
    cohort = values.cohort(Sgd(learning_rate=0.1, batch_size=16), MODEL, data, STREAMS.stream("fit"), shards)
    update = values.fit(cohort, start, 2)
    encoded = values.encode(Pipeline((TopK(fraction=0.1), Quantize(bits=8))), update, None, STREAMS.stream("encode"))
    decoded = values.decoded(encoded)
    aggregated_model, aggregated = values.aggregate(FedAdam(), start, None, [decoded, decoded], [3, 5], [18, 2], 6)
    assert aggregated is not None
    profile = profile_of(MODEL, data)
    weights = served(Pipeline((Quantize(bits=8),)), profile, start, STREAMS.stream("served"))
    return {
        "dataset": data,
        "shards": shards,
        "initial_model": start,
        "cohort": cohort,
        "fit": update,
        "training_loss": values.training_loss(update),
        "encode": encoded,
        "decode": decoded,
        "dataset_facts": values.dataset_facts(data),
        "shard_samples": values.shard_samples(shards),
        "payload_bytes": values.payload_bytes(encoded),
        "residual": values.residual(encoded),
        "served_bytes": served_bytes(weights),
        "losses": values.losses([update, update]),
        "unsent": values.unsent(encoded),
        "difference": values.difference(start, decoded),
        "total": values.total(start, update),
        "aggregate": aggregated,
        "aggregated_model": aggregated_model,
        "state_entry": values.state_entry(aggregated, "second"),
        "control": values.control(update, 18, 0.1, start, decoded),
        "scaled": values.scaled(update, 0.5),
        "mixed": values.mixed(start, values.total(start, update), 0.25),
        "tensor_shapes": values.tensor_shapes(MODEL, data),
        "average": values.average([start, decoded]),
        "consensus": values.consensus(start, decoded, [start, decoded], [0.25, 0.5]),
        "evaluate": values.evaluate(MODEL, start, data),
        "profile": profile,
        "sent_input_bytes": sent_input_bytes(data, profile, CROSSING, STREAMS.stream("inputs")),
        "served": weights,
        "infer": infer(MODEL, data, profile, (3,), (), weights, CROSSING, STREAMS.stream("activations")),
    }


def figures(name: str, value: Any) -> list[float]:
    """A few figures that any change of the value would move."""
    if name == "dataset":
        return [len(value.train_labels), len(value.test_labels), int(value.train_labels[:50].sum()), float(value.test_inputs[7].sum())]
    if name == "shards":
        return [float(len(shard)) for shard in value]
    if name == "cohort":
        return [float(len(value.data.train_labels)), float(len(value.shards[2]))]
    if name == "fit":
        return [*summary(value.values), value.mean_loss, value.num_samples]
    if name == "encode":
        return [len(value.payload), *summary(value.residual)]
    if name == "aggregate":
        return [*summary(value.model), *summary(value.state["mean"]), *summary(value.state["second"])]
    if name == "training_loss":
        return [value.mean, value.mean_square, value.last_batch]
    if name == "evaluate":
        return [value.accuracy, value.loss]
    if name == "profile":
        return [len(value.nodes), value.total_flop, value.parameter_bytes, sum(node.moved_bytes for node in value.nodes)]
    if name == "tensor_shapes":
        return [float(np.prod(shape)) for shape in value]
    if name == "served":
        return [*summary(value.vector), *value.node_bytes]
    if name == "infer":
        return [int(value.correct.sum()), int(value.payload_bytes.sum())]
    if name == "dataset_facts":
        return [*value.sample_shape, value.num_classes, value.num_test, value.num_train]
    if name in ("shard_samples", "served_bytes", "losses"):
        return list(value)
    if name in ("payload_bytes", "sent_input_bytes"):
        return [value]
    return summary(value)


def summary(vector: np.ndarray) -> list[float]:
    return [len(vector), float(np.abs(vector.astype(np.float64)).sum()), float(vector[: len(vector) // 3].astype(np.float64).sum())]


GOLDEN: dict[tuple[str, int], list[float]] = {
    ("dataset", 1): [1438.0, 359.0, 249.0, 16.25],
    ("shards", 1): [290.0, 251.0, 275.0, 194.0, 153.0, 275.0],
    ("initial_model", 1): [666.0, 60.947109, 1.025177],
    ("cohort", 2): [1438.0, 275.0],
    ("fit", 2): [666.0, 12.496707, 2.591252, 2.123234, 275.0],
    ("training_loss", 2): [2.123234, 4.606203, 1.916071],
    ("encode", 2): [163.0, 666.0, 6.822563, 1.113186],
    ("decode", 1): [666.0, 5.69797, 1.478066],
    ("dataset_facts", 2): [1.0, 8.0, 8.0, 10.0, 359.0, 1438.0],
    ("shard_samples", 1): [290.0, 251.0, 275.0, 194.0, 153.0, 275.0],
    ("payload_bytes", 1): [163.0],
    ("residual", 1): [666.0, 6.822563, 1.113186],
    ("served_bytes", 1): [0.0, 52.0, 0.0, 0.0, 308.0, 0.0, 0.0, 0.0, 342.0],
    ("losses", 2): [2.123234, 2.123234],
    ("unsent", 1): [666.0, 12.496707, 2.591252],
    ("difference", 1): [666.0, 61.509307, -0.452889],
    ("total", 1): [666.0, 63.536224, 3.616429],
    ("aggregate", 3): [666.0, 62.913682, 2.675764, 666.0, 0.569797, 0.147807, 666.0, 0.006349, 0.001512],
    ("aggregated_model", 1): [666.0, 62.913682, 2.675764],
    ("state_entry", 1): [666.0, 0.006349, 0.001512],
    ("control", 1): [666.0, 63.213927, -1.892474],
    ("scaled", 1): [666.0, 6.248353, 1.295626],
    ("mixed", 1): [666.0, 61.121409, 1.67299],
    ("tensor_shapes", 1): [36.0, 4.0, 288.0, 8.0, 320.0, 10.0],
    ("average", 1): [666.0, 31.380737, 1.251622],
    ("consensus", 1): [666.0, 76.110628, 0.911955],
    ("evaluate", 1): [0.119777, 2.307638],
    ("profile", 2): [9.0, 14944.0, 2664.0, 9872.0],
    ("served", 2): [666.0, 60.94125, 1.026149, 0.0, 52.0, 0.0, 0.0, 308.0, 0.0, 0.0, 0.0, 342.0],
    ("sent_input_bytes", 1): [121.0],
    ("infer", 4): [44.0, 96212.0],
}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_value(name: str) -> None:
    assert_golden(name, recipes()[name], partial(figures, name), GOLDEN)


def test_every_stored_function_has_a_golden_value() -> None:
    assert_all_golden(recipes(), GOLDEN, (values, inference))
