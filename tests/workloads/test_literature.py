"""What the literature says of federated training, on netfl's clock."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from netfl import run
from netfl.errors import ScenarioError
from netfl.learning import values
from netfl.learning.aggregators import Mean
from netfl.learning.data import Digits
from netfl.learning.models import Mlp, load_vector
from netfl.learning.partition import Dirichlet
from netfl.learning.trainer import Sgd
from netfl.randomness import Streams
from netfl.store import Store
from tests.workloads.small import training_only


def test_fedsgd_is_full_batch_gradient_descent() -> None:
    """One step of each client on its whole shard, weighted by samples, is one step on all samples."""
    streams, store, model, rate = Streams(3), Store(), Mlp(hidden=(16,)), 0.5
    trainer = Sgd(learning_rate=rate, epochs=1, batch_size=10_000)
    dataset = values.dataset(Digits(), streams.stream("data"))
    shards = values.shards(dataset, Dirichlet(alpha=0.5), 5, streams.stream("partition"))
    vector = values.initial_model(model, dataset, streams.stream("initial"))
    data, samples = store.force(dataset), store.force(values.shard_samples(shards))
    module = model.build(data.sample_shape, data.num_classes)
    load_vector(module, store.force(vector))
    for round_ in range(3):
        cohort = values.cohort(trainer, model, dataset, streams.stream("fit"), shards)
        fits = [values.fit(cohort, vector, i, f"client {i}", round_) for i in range(5)]
        vector, _ = values.aggregate(Mean(), vector, None, fits_as_vectors(fits), samples, [1] * 5, 5)
        loss = nn.functional.cross_entropy(module(torch.from_numpy(data.train_inputs)), torch.from_numpy(data.train_labels))
        for parameter, gradient in zip(module.parameters(), torch.autograd.grad(loss, list(module.parameters())), strict=True):
            parameter.data -= rate * gradient
    expected = parameters_to_vector(module.parameters()).detach().numpy()
    np.testing.assert_allclose(store.force(vector), expected, rtol=0, atol=2e-6)


def fits_as_vectors(fits: list[Any]) -> list[Any]:
    return [values.scaled(fit, 1.0) for fit in fits]


def test_more_local_work_needs_fewer_rounds() -> None:
    """McMahan et al. 2017, table 2: FedSGD needs many more rounds than E = 1, B = 10, and that more than E = 5, B = 10."""
    rounds = []
    for epochs, batch_size, most in [(1, 10_000, 400), (1, 10, 100), (5, 10, 100)]:
        scenario = training_only(training__rounds=most, training__clients_per_round=4, stop={"accuracy": 0.85})
        scenario["data"]["partition"] = {"kind": "iid"}
        scenario["workloads"]["training"]["trainer"].update(epochs=epochs, batch_size=batch_size)
        found = run(scenario).metrics
        assert found["training"]["training"]["accuracy"] >= 0.85
        rounds.append(found["training"]["training"]["rounds"])
    assert rounds[0] > 5 * rounds[1] > 5 * rounds[2]


def test_scaffold_carries_controls_both_ways(tmp_path: Path) -> None:
    scenario = training_only(training__rounds=6, training__clients_per_round=4, training__aggregator="scaffold")
    found = run(scenario, output=tmp_path / "out").metrics["training"]["training"]
    plain = run(training_only(training__rounds=6, training__clients_per_round=4)).metrics["training"]["training"]
    assert found["loss"] < 1.2 * plain["loss"]
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        lengths = trace.execute("SELECT kind, label, payload_bytes FROM transfers GROUP BY 1, 2, 3 ORDER BY 2, 1").fetchall()
    # 1210 float32 and a count are 4844 bytes; the server's control is 0 at first and not sent.
    assert lengths[:2] == [("model", "round 1", 4844), ("update", "round 1", 9688)]
    assert {length for _, label, length in lengths if label != "round 1"} == {9688}


def test_scaffold_drifts_less_than_averaging_where_labels_are_apart() -> None:
    """Karimireddy et al. 2020: with one or two labels a client and many local steps, controls take the drift out."""
    losses = {}
    for kind in ("mean", "scaffold"):
        scenario = training_only(training__rounds=30, training__clients_per_round=4, training__aggregator=kind)
        scenario["data"]["partition"] = {"kind": "shards", "shards_per_client": 2}
        scenario["workloads"]["training"]["trainer"].update(epochs=5, learning_rate=0.05)
        losses[kind] = run(scenario).metrics["training"]["training"]["loss"]
    assert losses["scaffold"] < losses["mean"]


def test_masked_updates_cost_bits_and_change_no_model(tmp_path: Path) -> None:
    plain = training_only(training__rounds=2)
    masked = training_only(training__rounds=2, training__secure_aggregation={"value_bits": 16})
    expected, found = run(plain), run(masked, output=tmp_path / "out")
    assert found.metrics["training"]["training"]["loss"] == expected.metrics["training"]["training"]["loss"]
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        lengths = {length for (length,) in trace.execute("SELECT payload_bytes FROM transfers WHERE kind = 'update'")}
    # Three clients: a sum of 3 values below 2^16 takes 18 bits; 1210 of them, 2 * 3 * 256 bits of keys, (15 - 4) * 256 of shares, and 3.
    assert lengths == {-(-(1210 * 18 + 1536 + 2816 + 3) // 8)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training__uplink": [{"kind": "quantize", "bits": 8}]}, "masked updates cannot be coded"),
        ({"training__aggregator": "median"}, "looks at each update"),
    ],
)
def test_masks_leave_nothing_to_look_at(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        run(training_only(training__secure_aggregation={"value_bits": 16}, **settings))
