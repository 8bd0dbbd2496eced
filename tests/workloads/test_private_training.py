"""What a run tells of differential privacy."""

import sqlite3
from pathlib import Path

import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.learning.privacy import epsilon_of_fixed_number, sigma_of
from tests.workloads.small import training_only


def test_noise_on_the_sum_of_clients_is_accounted() -> None:
    noisy = {"kind": "noisy_mean", "clip_norm": 1.0, "noise_multiplier": 2.2, "delta": 1e-4}
    found = run(training_only(training__rounds=5, training__clients_per_round=2, training__aggregator=noisy)).metrics
    # Two of four clients, drawn alike, in each of five rounds.
    expected = epsilon_of_fixed_number(sigma=sigma_of(2.2), sampled=2, total=4, rounds=5, delta=1e-4)
    told = found["training"]["training"]["noisy_sums"]
    assert told == {"clients": {"epsilon": pytest.approx(expected), "delta": 1e-4, "noise_multiplier": 2.2}}


def test_a_selector_that_prefers_clients_hides_nobody(tmp_path: Path) -> None:
    noisy = {"kind": "noisy_mean", "clip_norm": 1.0, "noise_multiplier": 2.2}
    settings = {"training__aggregator": noisy, "training__selector": "round_robin", "training__clients_per_round": 2}
    run(training_only(training__rounds=3, **settings), output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        assert trace.execute("SELECT records, sampled, total, sums FROM noisy_sums").fetchall() == [("clients", 4, 4, 3)]


def test_noise_on_samples_is_accounted_for_the_worst_client(tmp_path: Path) -> None:
    private = {"kind": "dp_sgd", "learning_rate": 0.1, "batch_size": 16, "noise_multiplier": 2.0}
    scenario = training_only(training__rounds=2, training__clients_per_round=4, training__trainer=private)
    scenario["data"]["partition"] = "iid"
    found = run(scenario, output=tmp_path / "out").metrics["training"]["training"]["noisy_sums"]
    # 1438 samples: two clients have 360, two have 359, all of them ceil(360 / 16) = 23 steps in each of two rounds; 16 of 359 is the larger share.
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        assert trace.execute("SELECT records, sampled, total, sums FROM noisy_sums").fetchall() == [("samples", 16, 359, 46)]
    expected = epsilon_of_fixed_number(sigma=1.0, sampled=16, total=359, rounds=46, delta=1e-5)
    assert found["samples"]["epsilon"] == pytest.approx(expected)


@pytest.mark.parametrize("delta", [0.0, 1.0])
def test_a_delta_that_means_nothing_is_refused(delta: float) -> None:
    noisy = {"kind": "noisy_mean", "clip_norm": 1.0, "noise_multiplier": 1.0, "delta": delta}
    with pytest.raises(ScenarioError, match="delta"):
        run(training_only(training__aggregator=noisy))
