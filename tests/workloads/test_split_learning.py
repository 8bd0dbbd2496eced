"""Split learning on the simulated clock."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.models import Mlp
from netfl.learning.partition import Dirichlet
from netfl.learning.trainer import FitJob, Sgd, evaluate, fit_one_by_one
from netfl.randomness import Streams
from netfl.store import Store
from tests.workloads.small import training_only


def split(**settings: Any) -> dict[str, Any]:
    """The MLP 64-16-10 of nodes input_1, _0 (flatten), _1 (linear), _2 (ReLU), _3 (linear), cut after `_2`."""
    scenario = training_only()
    training = scenario["workloads"]["training"]
    del training["clients_per_round"]
    training.update({"kind": "split", "first": "_2", "rounds": 1, **settings})
    return scenario


def test_the_model_is_that_of_sgd_over_one_client_after_the_other(tmp_path: Path) -> None:
    report = run(split(clients=["node-1", "node-2"]), output=tmp_path / "out")
    streams, store, model = Streams(5), Store(), Mlp(hidden=(16,))
    trainer = Sgd(epochs=1, batch_size=16, learning_rate=0.1)
    dataset = values.dataset(Digits(), streams.stream("data"))
    data = store.force(dataset)
    shards = store.force(values.shards(dataset, Dirichlet(alpha=1.0), 2, streams.stream("partition")))
    vector = store.force(values.initial_model(model, dataset, streams.stream("initial model")))
    for client, shard in zip(("node-1", "node-2"), shards, strict=True):
        job = FitJob(vector, data.train_inputs[shard], data.train_labels[shard], streams.stream("fit", "training", client, 1))
        (result,) = fit_one_by_one(trainer, model, data.sample_shape, data.num_classes, [job])
        vector = result.model
    expected = evaluate(model, data.sample_shape, data.num_classes, vector, data.test_inputs, data.test_labels)
    found = report.metrics["training"]["training"]
    assert found["accuracy"] == pytest.approx(expected.accuracy, abs=1e-12)
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize("last", [None, "_2"])
def test_every_message_by_hand(tmp_path: Path, last: str | None) -> None:
    # In the U shape the client runs the linear layer `_1`, the server the ReLU `_2`, the client the linear layer `_3`.
    cuts = {"first": "_2"} if last is None else {"first": "_1", "last": last}
    run(split(clients=["node-1"], **cuts), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        transfers = connection.execute("SELECT kind, source, payload_bytes FROM transfers ORDER BY transfer").fetchall()
    store, streams = Store(), Streams(5)
    dataset = values.dataset(Digits(), streams.stream("data"))
    (num_samples,) = store.force(values.shard_samples(values.shards(dataset, Dirichlet(alpha=1.0), 1, streams.stream("partition"))))
    batches = [16] * (num_samples // 16) + [num_samples % 16] * bool(num_samples % 16)
    # 4 bytes of count before the float32 of every message. The client's layers: 64 * 16 + 16 = 1040 values, in the U shape with
    # the last layer's 16 * 10 + 10 = 170 more. 16 values a sample cross each cut, and 4 bytes of label in the plain shape.
    handed = 4 + 4 * (1040 if last is None else 1210)
    expected = [("model", "cloud", handed)]
    for batch in batches:
        crossing = 4 + 4 * 16 * batch
        if last is None:
            expected += [("activation", "node-1", crossing + 4 * batch), ("activation", "cloud", crossing)]
        else:
            expected += [("activation", device, crossing) for device in ("node-1", "cloud", "node-1", "cloud")]
    assert transfers == expected


def test_layers_pass_through_the_server_to_the_next_client(tmp_path: Path) -> None:
    run(split(clients=["node-1", "node-2"], rounds=2), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        handed = connection.execute("SELECT source, destination FROM transfers WHERE kind = 'model' ORDER BY transfer").fetchall()
    # The server deals them once; then from each client through the server to the next, round after round.
    there, back = [("node-1", "cloud"), ("cloud", "node-2")], [("node-2", "cloud"), ("cloud", "node-1")]
    assert handed == [("cloud", "node-1"), *there, *back, *there]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": "relu"}, "no node 'relu' in the model"),
        ({"first": "_0"}, "the client would train nothing"),
        ({"first": "_2", "last": "_1"}, "the server would run nothing"),
        ({"first": "_1", "last": "_3"}, "nothing is left for the client"),
        ({"clients": ["cloud"]}, "cannot be its own client"),
        ({"trainer": {"kind": "sgd", "learning_rate": 0.1, "clip_norm": 1.0}}, "cannot clip"),
    ],
)
def test_cuts_that_leave_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run(split(**settings))
