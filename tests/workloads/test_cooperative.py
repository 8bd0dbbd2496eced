"""Requests that several devices answer together, on the simulated clock."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import RunError, ScenarioError
from netfl.learning import values
from netfl.learning.students import StudentTeam
from netfl.placement.stages import estimate_stages
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.store import Store
from netfl.workloads.shared_layers import FilterSplit
from netfl.workloads.students import placement_of as students_placement
from tests.workloads.small import small

STORE = Store()
"""Shared by all tests here, which train the same models."""

STUDENTS = {
    "kind": "students",
    "student": {"kind": "cnn", "channels": [2, 4]},
    "filters": {"top": 6, "percentile": 30},
    "trainer": {"kind": "adam", "learning_rate": 0.02, "epochs": 2, "batch_size": 64},
}


def scenario(placement: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Four nodes, each with a link of its own to the gateway; node-1 asks and joins."""
    found = small(model={"kind": "cnn", "channels": [4, 8]})
    found["workloads"] = {
        "serving": {
            "kind": "cooperative",
            "pretrained": {"kind": "sgd", "epochs": 3, "learning_rate": 0.1},
            "arrivals": {"kind": "poisson", "rate": "0.2 per s"},
            "sources": ["node-1"],
            "workers": ["node-1", "node-2"],
            "placement": placement or STUDENTS,
            **changes,
        }
    }
    found["stop"] = {"after": "60 s"}
    found["data"] = {"source": {"kind": "digits", "limit": 300, "test_limit": 100}}
    del found["topology"]["media"]
    found["topology"]["links"]["node-{1..4}-radio"] = {"between": ["node-{1..4}", "gateway"], "rate": "1 Mbit/s", "latency": "5 ms"}
    return found


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def session_of(found: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The workload, its answering parts and its cluster, in a session that was not run."""
    bench = prepare(load(found), STORE)
    session = bench.session(None)
    workload: Any = bench.loaded.scenario.workloads["serving"]
    from netfl.workloads.cooperating import Cooperating

    serving = Cooperating(workload, session, "serving")
    return serving, serving.answering, workload.clusters(session)[0]


def test_each_remote_student_sends_its_features_once_and_nothing_else_crosses(tmp_path: Path) -> None:
    found = scenario({**STUDENTS, "inputs": "everywhere"}, workers=["node-1", "node-2", "node-3"])
    run(found, output=tmp_path / "out", store=STORE)
    requests = rows(tmp_path / "out", "SELECT count(*) FROM requests WHERE outcome = 'answered'")[0][0]
    assert requests > 5
    _, answering, _ = session_of(found)
    widths = [len(group) for group in answering.trained(3)[0].groups]
    assert sum(widths) == 8
    sent = rows(tmp_path / "out", "SELECT label, source, destination, kind, payload_bytes FROM transfers ORDER BY label, source")
    assert len(sent) == 2 * requests
    for label in {row[0] for row in sent}:
        # 4 bytes a feature, and the 4 that every message of float32 begins with.
        assert [row[1:] for row in sent if row[0] == label] == [
            ("node-2", "node-1", "activation", 4 * widths[1] + 4),
            ("node-3", "node-1", "activation", 4 * widths[2] + 4),
        ]


@pytest.mark.parametrize(
    ("kind", "inputs"), [("students", "sent"), ("students", "everywhere"), ("filter_split", "everywhere"), ("tiles", "sent")]
)
def test_an_idle_network_takes_what_the_estimate_says(tmp_path: Path, kind: str, inputs: str) -> None:
    """No two messages ever share a link in one direction, so the estimate is exact."""
    found = scenario({**(STUDENTS if kind == "students" else {"kind": kind}), "inputs": inputs})
    serving, answering, cluster = session_of(found)
    placement = answering.placement(cluster)
    lengths = {crossing.values: 4 * crossing.values + 4 for crossing in placement.crossings}
    expected = estimate_stages(placement, cluster.tiers, cluster.ways, lengths.__getitem__, serving.reply_bytes)
    run(found, output=tmp_path / "out", store=STORE)
    answered = rows(tmp_path / "out", "SELECT end_s - arrival_s, queue_s, compute_s, transmit_s, propagation_s FROM requests")
    assert len(answered) > 5
    for latency_s, *parts in answered:
        assert latency_s == pytest.approx(expected.at_least_s, abs=1e-9)
        assert math.fsum(parts) == pytest.approx(latency_s, abs=1e-9)
    assert expected.at_least_s <= expected.at_most_s


@pytest.mark.parametrize("kind", ["students", "filter_split"])
def test_a_shared_channel_stays_within_the_bounds(tmp_path: Path, kind: str) -> None:
    found = scenario(STUDENTS if kind == "students" else {"kind": kind}, workers=["node-2", "node-3", "node-4"], join="gateway")
    radio = {"between": ["node-{1..4}", "gateway"], "rate": "1 Mbit/s", "latency": "5 ms", "duplex": "half", "medium": "cell"}
    found["topology"]["media"] = {"cell": {}}
    found["topology"]["links"]["node-{1..4}-radio"] = radio
    serving, answering, cluster = session_of(found)
    placement = answering.placement(cluster)
    expected = estimate_stages(placement, cluster.tiers, cluster.ways, lambda count: 4 * count + 4, serving.reply_bytes)
    run(found, output=tmp_path / "out", store=STORE)
    for latency_s, *parts in rows(
        tmp_path / "out", "SELECT end_s - arrival_s, queue_s, compute_s, transmit_s, propagation_s FROM requests"
    ):
        assert expected.at_least_s < latency_s < expected.at_most_s
        assert math.fsum(parts) == pytest.approx(latency_s, abs=1e-9)


def test_a_late_student_counts_as_zeros_and_the_accuracy_is_that_of_the_others(tmp_path: Path) -> None:
    found = scenario(
        {**STUDENTS, "wait": "100 ms"}, workers=["node-2", "node-3"], join="gateway", arrivals={"kind": "poisson", "rate": "1 per s"}
    )
    links = found["topology"]["links"]
    radio = links.pop("node-{1..4}-radio")
    for number in (1, 2, 4):
        links[f"radio-{number}"] = {**radio, "between": [f"node-{number}", "gateway"]}
    links["radio-3"] = {**radio, "between": ["node-3", "gateway"], "latency": "60 ms"}
    _, answering, cluster = session_of(found)
    run(found, output=tmp_path / "out", store=STORE)
    answered = rows(tmp_path / "out", "SELECT sample, correct, placement, end_s - arrival_s FROM requests WHERE outcome = 'answered'")
    assert len(answered) > 30
    whole, alone = (answering.answers(cluster, present).correct for present in ((True, True), (True, False)))
    assert (whole != alone).any()
    for sample, correct, placement, latency_s in answered:
        assert correct == int(alone[sample])
        assert placement.endswith(" without node-3")
        # At 100 ms the gateway joins, and its answer is under way for some more: computing, and 44 bytes at 1 Mbit/s and 5 ms.
        assert 0.105 < latency_s < 0.108


def test_a_lost_student_counts_as_zeros_and_a_lost_share_of_filters_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"active": [0], "inactive": [20], "finish_time": 100, "duration": 100}')
    for kind in ("students", "filter_split"):
        found = scenario(STUDENTS if kind == "students" else {"kind": kind}, workers=["node-1", "node-2"])
        radios = found["topology"]["links"]
        radio = radios.pop("node-{1..4}-radio")
        for number in (1, 3, 4):
            radios[f"radio-{number}"] = {**radio, "between": [f"node-{number}", "gateway"]}
        outages = {"kind": "trace", "file": str(tmp_path / "up.json")}
        radios["node-2-radio"] = {**radio, "between": ["node-2", "gateway"], "outages": outages}
        found["network"] = {"kind": "fluid", "timeout": "1 s", "attempts": 1}
        run(found, output=tmp_path / kind, store=STORE)
        after = set(rows(tmp_path / kind, "SELECT outcome, placement LIKE '% without node-2' FROM requests WHERE arrival_s > 20"))
        before = set(rows(tmp_path / kind, "SELECT outcome, placement LIKE '% without node-2' FROM requests WHERE end_s < 20"))
        assert before == {("answered", 0)}
        assert after == ({("answered", 1)} if kind == "students" else {("failed", 0)})


@pytest.mark.parametrize("kind", ["filter_split", "tiles"])
def test_shared_layers_answer_as_the_whole_model(kind: str) -> None:
    _, answering, cluster = session_of(scenario({"kind": kind}, workers=["node-1", "node-2", "node-3"]))
    task = answering.session.task
    found = answering.session.store.force(values.evaluate(task.model, answering.model, task.dataset))
    assert answering.answers(cluster, (True, True, True)).correct.mean() == found.accuracy


def test_rows_are_in_proportion_to_speed() -> None:
    found = scenario({"kind": "tiles"}, workers=["node-1", "gateway"])
    # The last tiled layer has 2 rows after two poolings; the gateway is 2000 times as fast as a node and has both.
    _, answering, cluster = session_of(found)
    placement = answering.placement(cluster)
    assert placement.described == "node-1:rows 0-0+join gateway:rows 0-8"
    found["topology"]["devices"]["gateway"]["profile"] = "esp32-s3"
    _, answering, cluster = session_of(found)
    # A row each: of 4 rows after the first pooling 0-2 and 1-3, of 8 before it 0-5 and 2-7, and of the sample 0-6 and 1-7.
    assert answering.placement(cluster).described == "node-1:rows 0-7+join gateway:rows 1-8"


def test_students_answer_more_than_ten_times_as_fast_as_split_filters() -> None:
    """In scenarios/nonn.yaml: two nodes 20 ms and 1 Mbit/s apart. Nothing is trained for that: every student gets half of the filters."""
    scenarios = Path(__file__).parents[2] / "scenarios"
    bench = prepare(load(scenarios / "nonn.yaml"), STORE)
    session, workload = bench.session(None), bench.loaded.scenario.workloads["serving"]
    cluster = workload.clusters(session)[0]
    team = StudentTeam(student=workload.placement.student, groups=(tuple(range(64)), tuple(range(64, 128))), side=(2, 2))
    students, filters = students_placement(session, team, cluster, False), FilterSplit().placement(session, cluster)
    took = [estimate_stages(placement, cluster.tiers, cluster.ways, lambda count: 4 * count + 4, 44) for placement in (students, filters)]
    assert took[1].at_least_s > 10 * took[0].at_most_s
    assert filters.sent_bytes(lambda count: 4 * count + 4) > 250 * students.sent_bytes(lambda count: 4 * count + 4)
    # A twentieth of the network's operations and of its parameters, on each node.
    profile = session.task.profile
    for device in ("node-1", "node-2"):
        flop = sum(share.flop for stage in students.stages for share in stage.shares if share.device == device)
        assert 20 * flop < profile.total_flop
        assert 20 * dict(students.parameter_bytes)[device] < profile.parameter_bytes


def test_students_come_close_to_their_teacher() -> None:
    """B.3 asks for 0.02 on digits. Of seeds 5, 6 and 7 this is the one with the widest gap, 0.011."""
    students = {
        "kind": "students",
        "student": {"kind": "cnn", "channels": [8, 24]},
        "trainer": {"kind": "adam", "epochs": 40, "batch_size": 32, "learning_rate": 0.01, "schedule": "cosine"},
    }
    found = scenario(students, pretrained={"kind": "sgd", "epochs": 15, "batch_size": 16, "learning_rate": 0.1})
    found |= {"seed": 6, "model": {"kind": "cnn", "channels": [16, 32]}, "data": {"source": "digits"}}
    serving, answering, cluster = session_of(found)
    task = serving.session.task
    teacher = STORE.force(values.evaluate(task.model, answering.teacher, task.dataset)).accuracy
    assert teacher > 0.95
    assert answering.answers(cluster, (True, True)).correct.mean() >= teacher - 0.02


def test_codecs_work_on_what_crosses() -> None:
    for placement in (STUDENTS, {"kind": "filter_split"}, {"kind": "tiles"}):
        codec = [{"kind": "quantize", "bits": 8}]
        _, plain, cluster = session_of(scenario(placement))
        _, coded, _ = session_of(scenario(placement, activations=codec))
        before, after = (each.answers(cluster, (True, True)) for each in (plain, coded))
        assert before.payload_bytes.shape == after.payload_bytes.shape
        assert after.payload_bytes.sum() < before.payload_bytes.sum() / 2
        assert abs(before.correct.mean() - after.correct.mean()) < 0.05


@pytest.mark.parametrize("kind", ["students", "filter_split"])
def test_the_model_that_a_training_ended_with_is_shared_and_its_way_to_the_devices_is_paid(tmp_path: Path, kind: str) -> None:
    found = scenario(STUDENTS if kind == "students" else {"kind": kind}, model="training", per_source=4)
    found["workloads"]["training"] = small(training__rounds=2, training__clients_per_round=2)["workloads"]["training"]
    del found["workloads"]["serving"]["pretrained"], found["stop"]
    run(found, output=tmp_path / "out", store=STORE)
    ended_s = rows(tmp_path / "out", "SELECT max(end_s) FROM rounds")[0][0]
    sent = rows(tmp_path / "out", "SELECT source, destination, payload_bytes, start_s, end_s, label FROM transfers "
                "WHERE workload = 'serving' AND kind = 'model' ORDER BY destination")  # fmt: skip
    assert [(row[0], row[1], row[5]) for row in sent] == [("cloud", "node-1", "version 2"), ("cloud", "node-2", "version 2")]
    _, answering, cluster = session_of(scenario(STUDENTS if kind == "students" else {"kind": kind}))
    if kind == "filter_split":  # students' groups, and so their lengths, depend on what was trained
        assert [row[2] for row in sent] == [count + 4 for _, count in answering.placement(cluster).parameter_bytes]
    prepared = rows(tmp_path / "out", "SELECT device, start_s, end_s, flop FROM computations WHERE label = 'preparation'")
    if kind == "students":
        # Two epochs over 300 samples: the teacher looks once a sample, the two students look and learn, three times their forward pass.
        ((device, start_s, _, flop),) = prepared
        assert (device, start_s) == ("cloud", ended_s)
        teacher = prepare(load(found), STORE).session(None).task.profile.total_flop
        students = rows(tmp_path / "out", "SELECT max(flop) FROM computations WHERE kind = 'inference' GROUP BY device")
        assert flop == pytest.approx(2 * 300 * (teacher + 3 * sum(flop for (flop,) in students)), rel=1e-12)
    assert {row[3] for row in sent} == {prepared[0][2] if prepared else ended_s}
    answered = rows(tmp_path / "out", "SELECT version, outcome, arrival_s FROM requests")
    assert [row[:2] for row in answered] == [(2, "answered")] * 4
    assert min(row[2] for row in answered) > max(row[4] for row in sent)


def test_filters_that_make_too_few_groups_are_told_when_the_teacher_is_there() -> None:
    found = scenario({**STUDENTS, "filters": {"top": 2, "percentile": 99, "isolated": "drop"}}, workers=["node-1", "node-2", "node-3"])
    with pytest.raises(RunError, match=r"workload 'serving': student . of 3 got no filter: . communities of 8 filters are too few"):
        run(found, store=STORE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": ["node-1", "node-9"]}, "no device 'node-9' in the topology"),
        ({"workers": ["node-1", "node-1"]}, "expected every device once, got 'node-1' twice"),
        ({"model": "training", "pretrained": None}, "expected `per_source` beside it"),
        ({"model": "training", "pretrained": None, "per_source": 2}, "no training workload 'training'; there are: none"),
        ({"model": "training"}, "expected one of `model` (a training workload) and `pretrained` (a trainer)"),
        ({"join": "gatway"}, "did you mean 'gateway'"),
        ({"placement": {**STUDENTS, "student": {"kind": "mlp"}}}, "the student cannot be used"),
        ({"placement": {**STUDENTS, "trainer": {"kind": "fedmax", "learning_rate": 0.1}}}, "one of sgd, adam and adamw"),
        (
            {"workers": ["node-1", "node-2", "node-3", "node-4", "gateway", "cloud", "extra-1", "extra-2", "extra-3"]},
            "too few for 9 students",
        ),
        ({"placement": {**STUDENTS, "student": {"kind": "cnn", "channels": [64, 1024]}}}, "node-2 has"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    found = scenario(**changes)
    found["topology"]["devices"]["extra-{1..3}"] = {"profile": "esp32-s3"}
    found["topology"]["links"]["extra-{1..3}-wire"] = {"between": ["extra-{1..3}", "gateway"], "rate": "1 Mbit/s", "latency": "5 ms"}
    if "placement" in changes:
        found["topology"]["devices"]["node-{1..4}"] = {"profile": "cortex-m4"}
    with pytest.raises(ScenarioError) as caught:
        run(found)
    assert message in str(caught.value)
