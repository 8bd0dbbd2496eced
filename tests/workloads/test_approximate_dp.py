"""Seed system A, the reconstruction of Du et al. 2020: sparse both ways, private up, against dense training and the SVT baseline."""

import sqlite3
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.codecs import Pipeline, TopK
from netfl.randomness import Streams
from netfl.report import metrics
from netfl.store import Function, Recipe, Store, recipe
from netfl.workloads.downlink import Downlink

SCENARIO = Path(__file__).parents[2] / "scenarios" / "approximate-dp.yaml"
TOPK = [{"kind": "topk", "fraction": 0.0125, "indices": "rice"}]
DENSE = {"uplink": [], "downlink": [], "residual_decay": 1.0}
SPARSE = {"uplink": TOPK, "downlink": TOPK, "residual_decay": 1.0}
BASELINE = {
    "uplink": [{"kind": "svt", "fraction": 0.02, "clip": 0.05, "epsilon": 1.0, "threshold": 0.005, "indices": "rice"}],
    "residual_decay": 0.0,
}


def trained(settings: dict[str, Any], seed: int, rounds: int, rate: str = "50 kbit/s", **options: Any) -> dict[str, Any]:
    changes = {f"workloads.training.{name}": value for name, value in {**settings, "rounds": rounds}.items()}
    report = run(SCENARIO, set={**changes, "seed": seed, "topology.link.rate": rate}, **options)
    found: dict[str, Any] = report.metrics["training"]["training"]
    return found


def test_two_percent_of_the_bytes_within_three_points_of_dense() -> None:
    dense, sparse = ([trained(settings, seed, 100) for seed in (1, 2, 3)] for settings in (DENSE, SPARSE))
    assert mean(each["accuracy"] for each in sparse) >= mean(each["accuracy"] for each in dense) - 0.03
    for each in sparse:
        # Gap-coded indices: about 1.25 % of values at 32 + 8 bits each, of 32. The first model of each client is dense.
        assert each["byte_fraction_after_first"] <= 0.02
        assert each["byte_fraction_after_first"] < each["byte_fraction"] < 0.022
    assert all(each["byte_fraction"] == each["byte_fraction_after_first"] == 1 for each in dense)


def test_sparse_is_sooner_at_90_percent_on_slow_links_and_later_on_fast_ones() -> None:
    for rate, sparse_is_sooner in (("50 kbit/s", True), ("1 Gbit/s", False)):
        sparse, dense = (trained(settings, 1, 100, rate)["time_to_accuracy_s"]["0.9"] for settings in (SPARSE, DENSE))
        assert (sparse < dense) == sparse_is_sooner


def test_at_the_same_epsilon_of_a_coordinate_it_beats_the_baseline() -> None:
    private, baseline = ([trained(settings, seed, 120) for seed in (1, 2, 3)] for settings in ({}, BASELINE))
    assert mean(each["accuracy"] for each in private) >= mean(each["accuracy"] for each in baseline) + 0.16
    for each in (*private, *baseline):
        # 2 % of 64*128+128 + 128*64+64 + 64*10+10 = 17,226 values, rounded up, in each of 120 updates, at epsilon 1 each.
        ledger = each["privacy"]
        assert (ledger["epsilon_of_a_release"], ledger["released"], ledger["rounds"]) == (1.0, 345, 120)
        assert (ledger["per_coordinate"], ledger["whole_model_basic"]) == (120.0, 41400.0)


def test_the_download_is_sparse_whatever_the_uploads_hold(tmp_path: Path) -> None:
    """Ten clients' coordinates differ, so their union has many more than k; the server sends k of them."""
    trained(SPARSE, 1, 5, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        lengths = [length for (length,) in trace.execute("SELECT payload_bytes FROM transfers WHERE kind = 'model' ORDER BY transfer")]
    # 216 values (1.25 % of 17,226, rounded up) of 4 bytes; a place takes less than 2 bytes in Rice code.
    assert lengths[:10] == [4 + 4 * 17226] * 10
    assert all(216 * 4 < length < 216 * 6 for length in lengths[10:])
    assert metrics(tmp_path / "out" / "run.db")["training"]["training"]["privacy"] is None


def test_bytes_reported_are_those_of_the_encodings(tmp_path: Path) -> None:
    trained({}, 1, 3, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        sums = dict(trace.execute("SELECT kind, sum(payload_bytes) FROM transfers GROUP BY kind"))
    told = metrics(tmp_path / "out" / "run.db")["bytes"]["by_kind"]
    assert {kind: found["sent"] for kind, found in told.items()} == sums


def test_the_server_keeps_what_it_does_not_send() -> None:
    """What it sent and what it still owes are what it added up: w + sent + residual = model, to 1e-5."""
    store, generator = Store(), np.random.default_rng(4)
    downlink = Downlink(
        pipeline=Pipeline((TopK(fraction=0.1),)), num_values=50, error_feedback=True, stream=Streams(1).stream("downlink"), store=store
    )
    model = generator.normal(size=50).astype(np.float32)
    held = first = store.force(downlink.broadcast(given(*model)).decoded)
    np.testing.assert_array_equal(held, model)
    sent, added = np.zeros(50), np.zeros(50)
    for _ in range(6):
        update = generator.normal(size=50).astype(np.float32)
        model, added = model + update, added + update
        decoded = store.force(downlink.broadcast(given(*model)).decoded)
        assert np.count_nonzero(decoded - held) <= 5  # a tenth, whatever the updates held
        sent, held = sent + (decoded - held), decoded
    np.testing.assert_allclose(sent + (model - held), added, atol=1e-5)
    np.testing.assert_allclose(first + sent, held, atol=1e-5)


def given(*numbers: float) -> Recipe:
    return recipe(Function("given", 1, lambda calls: [np.array(call, np.float32) for call in calls]), *map(float, numbers))


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_the_scenario_runs_with_either_model(kind: str) -> None:
    report = run(SCENARIO, set={"model": {"kind": kind}, "workloads.training.rounds": 1})
    assert report.metrics["training"]["training"]["rounds"] == 1
