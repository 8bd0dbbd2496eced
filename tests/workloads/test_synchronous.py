"""Synchronous training on the simulated clock."""

import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netfl import run
from netfl.errors import RunError, ScenarioError
from netfl.learning import values
from netfl.learning.aggregators import Mean
from netfl.learning.data import Digits
from netfl.learning.models import Mlp
from netfl.learning.partition import Iid
from netfl.learning.trainer import FitJob, Sgd, fit_one_by_one
from netfl.randomness import Streams
from netfl.store import Store
from netfl.trace import Trace
from tests.workloads.small import training_only


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def test_federated_averaging_with_one_client_is_plain_sgd() -> None:
    """Three rounds of one client with all samples, uncoded, against a plain PyTorch loop round after round."""
    streams, store, trainer, model = Streams(1), Store(), Sgd(learning_rate=0.1, epochs=1, batch_size=32), Mlp(hidden=(16,))
    dataset = values.dataset(Digits(), streams.stream("data"))
    shards = values.shards(dataset, Iid(), 1, streams.stream("partition"))
    vector = values.initial_model(model, dataset, streams.stream("initial"))
    data = store.force(dataset)
    (shard,) = store.force(shards)
    plain = store.force(vector)
    for round_ in range(1, 4):
        stream = streams.stream("fit", "client", round_)
        update = values.fit(values.cohort(trainer, model, dataset, stream, shards), vector, 0)
        encoded = values.encode(_no_codec(), update, None, stream)
        vector, _ = values.aggregate(Mean(), vector, None, [values.decoded(encoded)], [len(shard)], [1], 1)
        job = FitJob(plain, data.train_inputs[shard], data.train_labels[shard], stream)
        (result,) = fit_one_by_one(trainer, model, data.sample_shape, data.num_classes, [job])
        plain = result.model
    np.testing.assert_allclose(store.force(vector), plain, rtol=0, atol=2e-6)


def _no_codec() -> Any:
    from netfl.codecs import Pipeline

    return Pipeline(())


def test_rounds_by_hand(tmp_path: Path) -> None:
    """One client, one round: download, training, upload and aggregation add up to the round."""
    scenario = training_only(training__rounds=1, training__clients_per_round=1, training__clients=["node-1"])
    run(scenario, output=tmp_path / "out")
    # MLP 64-16-10: 64*16+16+16*10+10 = 1210 float32 = 4840 bytes + 4 of count = 4844 bytes each way.
    # Route: 15 ms of latency, 1 Mbit/s: 0.015 + 4844*8/1e6 = 0.053752 s each way.
    transfers = rows(tmp_path / "out", "SELECT kind, payload_bytes, end_s - start_s FROM transfers ORDER BY transfer")
    assert transfers == [("model", 4844, pytest.approx(0.053752)), ("update", 4844, pytest.approx(0.053752))]
    computations = rows(tmp_path / "out", "SELECT kind, end_s - start_s FROM computations")
    assert [kind for kind, _ in computations] == ["training", "aggregation"]
    ((start_s, end_s),) = rows(tmp_path / "out", "SELECT start_s, end_s FROM rounds")
    assert end_s - start_s == pytest.approx(2 * 0.053752 + sum(seconds for _, seconds in computations))


def test_a_deadline_aborts_and_wastes(tmp_path: Path) -> None:
    # Four downloads share 1 Mbit/s: 4 * 4844 bytes take 0.155 s + 15 ms. At 0.1 s nobody has its model: every round is empty.
    scenario = training_only(training__rounds=2, training__clients_per_round=4, training__deadline="0.1 s")
    found = run(scenario, output=tmp_path / "out").metrics
    assert rows(tmp_path / "out", "SELECT round, end_s, selected, accepted, aborted, failed, version FROM rounds") == [
        (1, 0.1, 4, 0, 4, 0, 0),
        (2, 0.2, 4, 0, 4, 0, 0),
    ]
    # 85 ms of 1 Mbit/s in each round: 10,625 bytes moved for nothing (floored a transfer: 4 * 2656).
    assert found["bytes"]["by_kind"]["model"]["wasted"] == 2 * 4 * 2656
    assert found["work"]["trained_clients"] == 0


def test_surplus_clients_are_aborted_and_never_trained() -> None:
    found = run(training_only(training__rounds=3, training__clients_per_round=2, training__over_selection=2.0)).metrics
    assert found["training"]["training"]["updates_accepted"] == 6
    assert found["training"]["training"]["updates_aborted"] == 6
    assert found["work"] == {"trained_clients": 6, "reused_clients": 0, "speculated_clients": 0}


@pytest.mark.parametrize(
    "downlink", [[], [{"kind": "quantize", "bits": 8}], [{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 8}]]
)
@pytest.mark.parametrize("uplink", [[{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 4}], [{"kind": "zstd"}]])
def test_coded_training_learns(uplink: Any, downlink: Any) -> None:
    found = run(training_only(training__rounds=12, training__clients_per_round=4, training__uplink=uplink, training__downlink=downlink))
    assert found.metrics["training"]["training"]["accuracy"] > 0.6


def test_error_feedback_matters() -> None:
    """One bit a value of one value in a hundred: with feedback the model learns, without it loses most of every update."""
    accuracy = {}
    for feedback in (True, False):
        found = run(
            training_only(
                training__rounds=15, training__clients_per_round=4, training__error_feedback=feedback,
                training__uplink=[{"kind": "topk", "fraction": 0.01}],
            )
        )  # fmt: skip
        accuracy[feedback] = found.metrics["training"]["training"]["best_accuracy"]
    assert accuracy[True] > accuracy[False] + 0.05


def test_a_client_that_missed_deltas_pays_for_them(tmp_path: Path) -> None:
    scenario = training_only(training__rounds=8, training__clients_per_round=1, training__downlink=[{"kind": "topk", "fraction": 0.1}])
    run(scenario, output=tmp_path / "out")
    # A delta keeps 121 of 1210 values: 4 bytes of count + 121 * (2 + 4) = 730 bytes or 4 + bitmap 152 + 484 = 640, whichever
    # is shorter: 640. A dense model is 4844 bytes.
    held: dict[str, int] = {}
    for number, (client, payload_bytes) in enumerate(
        rows(tmp_path / "out", "SELECT destination, payload_bytes FROM transfers WHERE kind = 'model' ORDER BY transfer"), 1
    ):
        assert payload_bytes == (min(4844, 640 * (number - held[client])) if client in held else 4844)
        held[client] = number
    assert len(held) > 1


def test_the_target_accuracy_ends_the_run() -> None:
    found = run(training_only(training__rounds=50, training__clients_per_round=4, stop={"accuracy": 0.5})).metrics
    assert found["training"]["training"]["rounds"] < 50
    assert found["training"]["training"]["accuracy"] >= 0.5
    assert found["stop_reason"] == "accuracy 0.5 reached"


def test_diverged_training_ends_the_run_and_keeps_its_results(tmp_path: Path) -> None:
    scenario = training_only(training__trainer={"kind": "sgd", "learning_rate": 1e30, "epochs": 3})
    with pytest.raises(RunError, match=r"diverged.*learning_rate"):
        run(scenario, output=tmp_path / "out")
    assert rows(tmp_path / "out", "SELECT count(*) FROM transfers")[0][0] > 0
    assert '"status": "failed"' in (tmp_path / "out" / "run.json").read_text()
    assert (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_a_problem_of_the_scenario() -> None:
    with pytest.raises(ScenarioError) as caught:
        run(training_only(training__trainer={"kind": "sgd", "learning_rate": 0.1, "device": "cuda"}))
    (problem,) = caught.value.problems
    assert (problem.path, problem.message) == (
        "workloads.training.trainer.device",
        "device: cuda: torch finds no CUDA device; use cpu, or auto",
    )


def test_a_full_disk_under_the_trace_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Trace.__init__

    def begin_small(self: Trace, path: Path | None = None) -> None:
        begin(self, path)
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        self.connection.execute(f"PRAGMA max_page_count={pages}")  # SQLite then says what it says of a full disk

    monkeypatch.setattr(Trace, "__init__", begin_small)
    with pytest.raises(RunError, match=r"no room left for .*: make room"):
        run(training_only(training__rounds=100), output=tmp_path / "out")
    assert '"status": "interrupted"' in (tmp_path / "out" / "run.json").read_text()


def diverging(**changes: object) -> str:
    """What the run says of a training whose numbers get out of hand."""
    with pytest.raises(RunError) as caught:
        run(training_only(training__clients_per_round=4, **changes))
    return str(caught.value)


@pytest.mark.parametrize("changes", [{}, {"training__uplink": [{"kind": "quantize"}]}, {"training__evaluate_every": 3}])
def test_divergence_is_said_with_client_round_and_what_to_lower(changes: dict[str, object]) -> None:
    # A rate of 1e30: the first step's gradients are finite, the loss after it is not.
    said = diverging(training__trainer={"kind": "sgd", "learning_rate": 1e30, "epochs": 3}, **changes)
    assert re.fullmatch(
        r"workload 'training', round 1: the loss of client 'node-[1-4]' is (nan|inf): training has diverged; "
        r"lower `workloads.training.trainer.learning_rate`, or set a low `workloads.training.trainer.clip_norm`",
        said,
    )
    assert diverging(training__trainer={"kind": "sgd", "learning_rate": 1e30, "epochs": 3}, **changes) == said  # from known losses


def test_divergence_that_a_codec_meets_first_names_the_client_too() -> None:
    changes = {"training__uplink": [{"kind": "quantize"}, {"kind": "zstd"}]}  # the length depends on the data: encoded at the upload
    said = diverging(training__trainer={"kind": "sgd", "learning_rate": 1e30, "epochs": 3}, **changes)
    assert re.match(
        r"workload 'training', round 1: the loss of client 'node-[1-4]' is (nan|inf); quantize .*not finite.*learning_rate", said
    )


def test_divergence_in_the_last_step_shows_in_the_next_model() -> None:
    # One step a client: its loss is of before the step, and is finite; the weights after it are finite too, the model's loss is not.
    said = diverging(training__trainer={"kind": "sgd", "learning_rate": 1e30, "batch_size": 1000})
    assert re.match(r"workload 'training', round 1: the loss of global model 1 is (nan|inf): .*learning_rate", said)


def test_outages_lose_clients_and_everyone_comes_back() -> None:
    devices = training_only()["topology"]["devices"]
    devices["node-{1..4}"]["outages"] = {"kind": "exponential", "mean_up": "1 s", "mean_down": "0.5 s"}
    scenario = training_only(training__rounds=10, network={"timeout": "0.2 s", "attempts": 1, "kind": "fluid"})
    scenario["topology"]["devices"] = devices
    found = run(scenario).metrics
    assert found["training"]["training"]["updates_failed"] > 0
    assert found["training"]["training"]["updates_accepted"] > 0


def test_a_model_too_large_for_its_devices_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    scenario = training_only(model={"kind": "mlp", "hidden": [4096, 4096]})
    with pytest.raises(ScenarioError, match=r"training needs [\d,]+ bytes of memory on 'node-1', which has 8,000,000"):
        run(scenario, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_clients_than_samples_is_refused() -> None:
    scenario = training_only()
    scenario["topology"]["devices"]["node-{1..1500}"] = scenario["topology"]["devices"].pop("node-{1..4}")
    radio = scenario["topology"]["links"].pop("node-{1..4}-radio")
    scenario["topology"]["links"]["node-{1..1500}-radio"] = {**radio, "between": ["node-{1..1500}", "gateway"]}
    with pytest.raises(ScenarioError, match="cannot be dealt to 1500 clients"):
        run(scenario)


def test_no_more_updates_than_asked_even_if_they_arrive_together(tmp_path: Path) -> None:
    """Four equal clients with equal shards finish at one instant: the first two by name are accepted."""
    scenario = training_only(training__rounds=2, training__clients_per_round=2, training__over_selection=2.0)
    scenario["data"] = {"source": "digits", "partition": "iid"}
    scenario["topology"]["links"]["node-{1..4}-radio"].update(medium=None, duplex="full")
    del scenario["topology"]["links"]["node-{1..4}-radio"]["medium"]
    run(scenario, output=tmp_path / "out")
    assert rows(tmp_path / "out", "SELECT selected, accepted, aborted FROM rounds") == [(4, 2, 2), (4, 2, 2)]


def test_lengths_that_depend_on_the_data_train_whoever_may_be_needed() -> None:
    """With zstd the first upload's length trains the whole cohort; the deadline then makes most of it useless."""
    scenario = training_only(
        training__rounds=1, training__clients_per_round=4, training__deadline="0.27 s", training__uplink=[{"kind": "zstd"}]
    )
    found = run(scenario).metrics
    accepted = found["training"]["training"]["updates_accepted"]
    assert accepted < 3
    assert found["work"] == {"trained_clients": 4, "reused_clients": 0, "speculated_clients": 4 - accepted}


@pytest.mark.parametrize(
    "aggregator",
    ["fedavgm", {"kind": "fedadam", "learning_rate": 0.1, "beta1": 0.0, "tau": 0.03}, "fednova", "median", {"kind": "krum", "wrong": 0},
     {"kind": "noisy_mean", "clip_norm": 1.0, "noise_multiplier": 0.01}],
    ids=str,
)  # fmt: skip
def test_aggregators_train(aggregator: Any) -> None:
    """Two rounds leave a model that is better than the first, which knows a tenth."""
    report = run(training_only(training__rounds=2, training__aggregator=aggregator))
    assert report.metrics["training"]["training"]["accuracy"] > 0.15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training__aggregator": "krum"}, "needs at least 5 updates a round; `clients_per_round` is 3"),
        ({"training__aggregator": {"kind": "trimmed_mean", "trim": 0.1}}, "needs at least 10 updates a round"),
        ({"training__aggregator": "fednova", "training__trainer": "adam"}, "expected a trainer of stochastic gradient descent"),
    ],
    ids=str,
)
def test_an_aggregator_that_does_not_fit_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message) as caught:
        run(training_only(**change))
    assert "aggregator" in str(caught.value)


def test_a_round_with_too_few_updates_for_its_aggregator_changes_nothing(tmp_path: Path) -> None:
    """A deadline that all miss but two, whom a median does not suffice."""
    scenario = training_only(training__rounds=1, training__aggregator="median", training__deadline="1 s")
    links = scenario["topology"]["links"]
    radio = links.pop("node-{1..4}-radio")
    radio.pop("medium")
    links["node-{1..2}-radio"] = {**radio, "between": ["node-{1..2}", "gateway"], "rate": "10 Mbit/s"}
    links["node-{3..4}-radio"] = {**radio, "between": ["node-{3..4}", "gateway"], "rate": "10 kbit/s"}
    scenario["workloads"]["training"]["clients_per_round"] = 4
    run(scenario, output=tmp_path / "out")
    assert rows(tmp_path / "out", "SELECT selected, accepted, version FROM rounds") == [(4, 0, 0)]


@pytest.mark.parametrize("selector", ["round_robin", "fastest", "oort", "power_of_choice"])
def test_selectors_train(selector: str, tmp_path: Path) -> None:
    report = run(training_only(training__rounds=4, training__clients_per_round=2, training__selector=selector), output=tmp_path / "out")
    assert report.metrics["training"]["training"]["accuracy"] > 0.15
    asked = rows(tmp_path / "out", "SELECT destination, count(*) FROM transfers WHERE kind = 'model' GROUP BY destination")
    assert sum(count for _, count in asked) == 8
    if selector == "round_robin":
        assert [count for _, count in asked] == [2, 2, 2, 2]
    if selector == "fastest":
        assert [count for _, count in asked] == [4, 4]
    else:
        assert len(asked) >= 3


def test_fedmax_moves_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name, trainer in (("fedavg", {"kind": "sgd"}), ("fedmax", {"kind": "fedmax", "beta": 2.0, "round_decay": 0.9})):
        scenario = training_only(training__trainer={**trainer, "learning_rate": 0.1, "batch_size": 16})
        report = run(scenario, output=tmp_path / name)
        made.append(rows(tmp_path / name, "SELECT kind, payload_bytes, start_s, end_s FROM transfers ORDER BY transfer"))
        assert report.metrics["training"]["training"]["accuracy"] > 0.15
    assert made[0] == made[1]


def test_a_trainer_that_changes_from_round_to_round_does_so_in_a_run() -> None:
    """At half the rate the second round makes another model; the first, at the full one, the same."""
    trainer = {"kind": "fedmax", "beta": 1.0, "learning_rate": 0.1}
    losses = [
        [
            run(training_only(training__rounds=rounds, training__trainer={**trainer, "round_decay": decay})).metrics["training"][
                "training"
            ]["loss"]
            for decay in (1.0, 0.5)
        ]
        for rounds in (1, 2)
    ]
    assert losses[0][0] == losses[0][1]
    assert losses[1][0] != losses[1][1]


def test_the_log_says_what_device_auto_came_to(tmp_path: Path) -> None:
    run(
        training_only(training__rounds=1, training__trainer={"kind": "sgd", "learning_rate": 0.1, "device": "auto"}),
        output=tmp_path / "out",
    )
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.count(f"device: auto: training on {'cuda' if torch.cuda.is_available() else 'cpu'}") == 1


def test_what_the_fits_of_a_training_have_in_common_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, cohort = [], values.cohort

    def recorded(*given: Any) -> Any:
        made.append(given)
        return cohort(*given)

    monkeypatch.setattr(values, "cohort", recorded)
    run(training_only(training__rounds=3))
    assert len(made) == 1


def test_private_training_runs_as_any_other(tmp_path: Path) -> None:
    """Samples of every client are protected, and so is every client; equal seeds draw equal noise."""
    digests = set()
    for name in ("one", "other"):
        scenario = training_only(
            training__trainer={"kind": "dp_sgd", "learning_rate": 0.5, "noise_multiplier": 0.3},
            training__aggregator={"kind": "noisy_mean", "clip_norm": 2.0, "noise_multiplier": 0.01},
        )
        report = run(scenario, output=tmp_path / name)
        digests.add(report.metrics["trace_digest"])
        assert report.metrics["training"]["training"]["accuracy"] > 0.15
    assert len(digests) == 1


def test_what_is_sent_without_codecs_is_never_encoded() -> None:
    counts = []
    for changes in ({}, {"training__uplink": [{"kind": "quantize"}]}, {"training__downlink": [{"kind": "quantize"}]}):
        store = Store()
        run(training_only(training__rounds=2, **changes), store=store)
        counts.append((store.computed["fit"], store.computed["encode"], store.computed["decode"]))
    # Two rounds of three clients: three fits each; an update is encoded three times a round, a model once.
    assert counts == [(6, 0, 0), (6, 6, 6), (6, 2, 2)]
