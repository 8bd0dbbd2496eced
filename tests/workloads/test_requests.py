"""Requests answered by a split model on the simulated clock."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.workloads.serving_path import path_of
from tests.workloads.small import serving_only, small


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize(
    "placement",
    [{"kind": "device_only"}, {"kind": "upload"}, {"kind": "upload", "to": "gateway"}, {"kind": "fixed", "after": "_1"}, {"kind": "chain"}],
    ids=lambda placement: "-".join(placement.values()),
)
def test_a_request_on_an_idle_network_takes_what_the_planner_adds_up(tmp_path: Path, placement: dict[str, str]) -> None:
    """Hop by hop on idle links and processors, the simulation and the planner's sum agree, an idle middle tier included."""
    scenario = serving_only(
        serving__placement=placement, serving__arrivals={"kind": "poisson", "rate": "0.02 per s"}, serving__sources=["node-1"],
        stop={"after": "10 min"},
    )  # fmt: skip
    bench = prepare(load(scenario))
    session = bench.session(None)
    workload: Any = bench.loaded.scenario.workloads["serving"]
    expected = workload.first_plan(session, "node-1").estimate_s
    run(scenario, output=tmp_path / "out")
    latencies = rows(tmp_path / "out", "SELECT end_s - arrival_s, queue_s FROM requests WHERE outcome = 'answered'")
    assert len(latencies) > 3
    for latency_s, queue_s in latencies:
        assert queue_s == pytest.approx(0.0, abs=1e-9)
        assert latency_s == pytest.approx(expected, abs=1e-9)


def test_the_path_faces_the_server() -> None:
    scenario = serving_only()
    scenario["topology"]["links"]["node-{1..4}-radio"].update(rate=None, uplink="1 Mbit/s", downlink="4 Mbit/s")
    del scenario["topology"]["links"]["node-{1..4}-radio"]["rate"]
    session = prepare(load(scenario)).session(None)
    path = path_of(session, "node-1", "cloud")
    assert [tier.device for tier in path.tiers] == ["node-1", "gateway", "cloud"]
    assert [(hop.up_bps, hop.down_bps, hop.latency_s) for hop in path.hops] == [(1e6, 4e6, 0.005), (1e8, 1e8, 0.01)]


def test_the_parts_of_a_latency_sum_to_it(tmp_path: Path) -> None:
    run(small(serving__placement={"kind": "upload"}, serving__arrivals={"kind": "poisson", "rate": "20 per s"}), output=tmp_path / "out")
    found = rows(
        tmp_path / "out",
        "SELECT end_s - arrival_s, queue_s + compute_s + transmit_s + propagation_s FROM requests WHERE outcome = 'answered'",
    )
    assert len(found) > 50
    for whole_s, parts_s in found:
        assert parts_s == pytest.approx(whole_s, abs=1e-9)


def test_trap_17_requests_cut_off_by_the_end_are_censored_and_their_misses_count(tmp_path: Path) -> None:
    # 100 Mbit/s offered to a 1 Mbit/s cell: most requests never finish.
    scenario = serving_only(
        serving__placement={"kind": "upload"}, serving__arrivals={"kind": "poisson", "rate": "2000 per s"},
        serving__activations=[], stop={"after": "0.5 s"},
    )  # fmt: skip
    found = run(scenario, output=tmp_path / "out").metrics["serving"]["serving"]
    assert found["censored"] > 0.5 * found["requests"]
    assert found["requests"] == found["answered"] + found["censored"]
    # Those older than the deadline of 100 ms at the end have missed it.
    late = rows(
        tmp_path / "out",
        "SELECT count(*) FROM requests WHERE (outcome = 'censored' AND 0.5 - arrival_s > 0.1) "
        "OR (outcome = 'answered' AND end_s - arrival_s > 0.1)",
    )[0][0]
    assert found["missed"] == late


def test_answers_are_those_of_the_pieces_run_for_real(tmp_path: Path) -> None:
    """Every answer equals the prediction of the whole model on that sample, with activations sent as float32."""
    scenario = serving_only(serving__placement={"kind": "fixed", "after": "_1"}, serving__activations=[])
    bench = prepare(load(scenario))
    session = bench.session(None)
    task = session.task
    from netfl.learning import values
    from netfl.learning.trainer import Sgd

    streams = session.world.streams
    start = values.initial_model(task.model, task.dataset, streams.stream("initial model"))
    trainer, stream = Sgd(epochs=2, learning_rate=0.1), streams.stream("pretrain", "serving")
    update = values.fit(values.cohort(trainer, task.model, task.dataset, stream), start)
    vector = session.store.force(values.total(start, update))
    data = session.store.force(task.dataset)
    # The MLP by hand: flatten, 64 -> 16, ReLU, 16 -> 10.
    weights, at = [], 0
    for shape in ((16, 64), (16,), (10, 16), (10,)):
        count = math.prod(shape)
        weights.append(vector[at : at + count].reshape(shape))
        at += count
    hidden = np.maximum(data.test_inputs.reshape(-1, 64) @ weights[0].T + weights[1], 0)
    right = (hidden @ weights[2].T + weights[3]).argmax(1) == data.test_labels
    run(scenario, output=tmp_path / "out")
    answers = rows(tmp_path / "out", "SELECT sample, correct, version FROM requests WHERE outcome = 'answered'")
    assert len(answers) > 50
    assert {correct for _, correct, _ in answers} == {0, 1}
    for sample, correct, version in answers:
        assert (correct, version) == (int(right[sample]), 0)


def test_trap_19_the_newest_model_serves_and_its_way_to_the_pieces_is_paid(tmp_path: Path) -> None:
    run(small(serving__placement={"kind": "upload"}), output=tmp_path / "out")
    models = rows(
        tmp_path / "out", "SELECT source, destination, payload_bytes, label FROM transfers WHERE workload = 'serving' AND kind = 'model'"
    )
    # The server itself answers: nothing is sent to anyone.
    assert models == []
    run(small(serving__placement={"kind": "upload", "to": "gateway"}), output=tmp_path / "to-gateway")
    models = rows(
        tmp_path / "to-gateway",
        "SELECT source, destination, payload_bytes, label FROM transfers WHERE workload = 'serving' AND kind = 'model' ORDER BY 4",
    )
    # Two layers, each a message of its own: 64*16+16 = 1040 and 16*10+10 = 170 values: 4*1040+4 + 4*170+4 = 4848 bytes.
    assert models == [("cloud", "gateway", 4848, f"version {version}") for version in (1, 2, 3)][: len(models)]
    assert len(models) >= 2
    versions = [version for (version,) in rows(tmp_path / "to-gateway", "SELECT version FROM requests ORDER BY arrival_s")]
    assert versions[0] == 0
    assert max(versions) >= 2


def test_a_model_that_fits_nowhere_is_refused() -> None:
    scenario = serving_only(model={"kind": "mlp", "hidden": [2048, 2048]}, serving__placement={"kind": "device_only"})
    scenario["topology"]["devices"]["node-{1..4}"]["profile"] = "cortex-m4"
    with pytest.raises(ScenarioError, match=r"for 'node-1'.*lacks 16.8 MB"):
        run(scenario)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serving__model": "trainin"}, "no training workload 'trainin'; there are: training"),
        ({"serving__model": "serving"}, "no training workload 'serving'"),
        ({"serving__sources": ["nodes-*"]}, "no device matches 'nodes-*'"),
        ({"serving__server": "clod"}, "did you mean 'cloud'"),
        ({"serving__placement": {"kind": "fixed", "after": "_11"}}, "_1"),
        ({"serving__updates": [{"kind": "topk", "fraction": 0.1}]}, "sparsifier"),
        ({"serving__pretrained": {"kind": "sgd", "learning_rate": 0.1}}, "expected one of"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        run(small(**changes))
    assert message in str(caught.value)


def test_a_request_is_answered_by_a_version_that_all_its_devices_received(tmp_path: Path) -> None:
    """A slow device and a gateway far away: whatever answers was delivered to both before the request came."""
    scenario = small(
        training__rounds=60, training__clients=["node-2"], training__clients_per_round=1, serving__sources=["node-1"],
        serving__placement={"kind": "fixed", "after": "_1", "to": "gateway"},
        serving__arrivals={"kind": "poisson", "rate": "20 per s"},
    )  # fmt: skip
    links = scenario["topology"]["links"]
    radio = links.pop("node-{1..4}-radio")
    links["node-{2..4}-radio"] = {**radio, "between": ["node-{2..4}", "gateway"]}
    links["slow"] = {"between": ["node-1", "gateway"], "rate": "60 kbit/s", "latency": "5 ms"}
    links["trunk"]["latency"] = "60 ms"
    run(scenario, output=tmp_path / "out")
    arrived = {
        (device, int(label.split()[1])): end_s
        for device, label, end_s in rows(
            tmp_path / "out",
            "SELECT destination, label, end_s FROM transfers WHERE workload = 'serving' AND kind = 'model' AND outcome = 'delivered'",
        )
    }
    answers = rows(tmp_path / "out", "SELECT version, arrival_s FROM requests WHERE outcome = 'answered' ORDER BY arrival_s")
    assert len({version for version, _ in answers}) > 3
    for version, arrival_s in answers:
        for device in ("node-1", "gateway"):
            assert version == 0 or arrived[device, version] <= arrival_s
    assert [version for version, _ in answers] == sorted(version for version, _ in answers)


def test_a_workload_without_requests_says_so() -> None:
    found = run(serving_only(stop={"after": "1 ms"}))
    assert found.metrics["serving"]["serving"]["requests"] == 0
