"""What asking devices do when the others do not answer in time."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from tests.workloads.small import serving_only, small

UP_TO_THE_CLOUD: dict[str, Any] = {
    "serving__placement": "upload", "serving__sources": ["node-1"], "serving__arrivals": {"kind": "periodic", "every": "1 s", "together": True},
    "serving__activations": [], "stop": {"after": "9.9 s"},
}  # fmt: skip


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def outage(scenario: dict[str, Any], link: str = "trunk", down: Any = (("2.5 s", "5.5 s"),)) -> dict[str, Any]:
    scenario["topology"]["links"][link]["outages"] = {"kind": "schedule", "down": [list(each) for each in down]}
    return scenario


def test_the_asking_device_answers_alone_after_the_timeout(tmp_path: Path) -> None:
    scenario = outage(serving_only(**UP_TO_THE_CLOUD, serving__failover={"timeout": "80 ms", "then": "local"}))
    found = run(scenario, output=tmp_path / "out").metrics["serving"]["serving"]
    answers = rows(tmp_path / "out", "SELECT arrival_s, end_s - arrival_s, placement, outcome, compute_s, queue_s FROM requests ORDER BY 1")
    # Asked at 0, 1, ... 9 s; those of 3, 4 and 5 s meet the outage. The node runs the whole model then: nodes 0 to 4.
    assert [(arrival_s, placement) for arrival_s, _, placement, _, _, _ in answers] == [
        (float(second), "node-1:0-5" if second in (3, 4, 5) else "node-1:0-1 cloud:1-5") for second in range(10)
    ]
    assert {outcome for *_, outcome, _, _ in answers} == {"answered"}
    late = [row for row in answers if row[2] == "node-1:0-5"]
    for _, took_s, _, _, compute_s, queue_s in late:
        # It uploads at once, waits 80 ms and computes.
        assert took_s == pytest.approx(0.080 + compute_s)
        assert queue_s == pytest.approx(0.0, abs=1e-9)
    setbacks = rows(tmp_path / "out", "SELECT request, cause, device, start_s, seconds, followed_by FROM setbacks")
    assert setbacks == [(second + 1, "timeout", "cloud", float(second), pytest.approx(0.080), "node-1") for second in (3, 4, 5)]
    assert (found["failovers"], found["answered_elsewhere"], found["answered"]) == (3, 3, 10)
    assert found["failover_s"] == pytest.approx(3 * 0.080 / 10)
    assert found["mean_s"] == pytest.approx(sum(found["breakdown"].values()) + found["failover_s"])


def test_what_others_have_got_they_go_on_with(tmp_path: Path) -> None:
    """Nobody tells the gateway that the device has given up: what it was sending arrives when the link is back, and the cloud computes."""
    scenario = outage(serving_only(**UP_TO_THE_CLOUD, serving__failover={"timeout": "80 ms", "then": "drop"}))
    run(scenario, output=tmp_path / "out")
    outcomes = rows(tmp_path / "out", "SELECT outcome, correct, version, end_s - arrival_s FROM requests WHERE request IN (4, 5, 6)")
    assert outcomes == [("dropped", -1, -1, pytest.approx(0.080))] * 3
    assert rows(tmp_path / "out", "SELECT count(*) FROM computations WHERE device = 'cloud'") == [(10,)]
    assert rows(tmp_path / "out", "SELECT count(*) FROM setbacks WHERE followed_by = 'drop'") == [(3,)]


def test_what_the_device_is_sending_itself_is_cut_off(tmp_path: Path) -> None:
    scenario = outage(serving_only(**UP_TO_THE_CLOUD, serving__failover={"timeout": "1 ms", "then": "drop"}))
    found = run(scenario, output=tmp_path / "out").metrics["serving"]["serving"]
    # 260 bytes at 1 Mbit/s take 2 ms after 5 ms of latency: no upload arrives within 1 ms.
    assert (found["dropped"], found["requests"], found["missed"]) == (10, 10, 10)
    assert rows(tmp_path / "out", "SELECT DISTINCT outcome, destination FROM transfers") == [("aborted", "gateway")]


def test_replicas_are_asked_in_turn_and_then_the_device_itself(tmp_path: Path) -> None:
    scenario = serving_only(
        **UP_TO_THE_CLOUD, serving__failover={"timeout": "80 ms", "then": "replica", "replicas": ["mirror", "gateway"], "last": "local"}
    )
    scenario["topology"]["devices"]["mirror"] = {"profile": "edge-server", "tier": "cloud"}
    scenario["topology"]["links"]["second"] = {"between": ["gateway", "mirror"], "rate": "100 Mbit/s", "latency": "10 ms"}
    # The cloud is away from 2.5 to 5.5, the mirror from 3.5, and all radios from 4.5 on.
    outage(scenario)
    outage(scenario, "second", (("3.5 s", "5.5 s"),))
    outage(scenario, "node-{1..4}-radio", (("4.5 s", "5.5 s"),))
    run(scenario, output=tmp_path / "out")
    last = rows(tmp_path / "out", "SELECT arrival_s, placement FROM requests WHERE arrival_s BETWEEN 2 AND 6")
    assert dict(last) == {
        2.0: "node-1:0-1 cloud:1-5", 3.0: "node-1:0-1 mirror:1-5", 4.0: "node-1:0-1 gateway:1-5", 5.0: "node-1:0-5", 6.0: "node-1:0-1 cloud:1-5",
    }  # fmt: skip
    assert rows(tmp_path / "out", "SELECT device, followed_by FROM setbacks WHERE request = 6") == [
        ("cloud", "mirror"), ("mirror", "gateway"), ("gateway", "node-1"),
    ]  # fmt: skip


def test_what_the_network_loses_is_asked_elsewhere_at_once(tmp_path: Path) -> None:
    scenario = outage(serving_only(**UP_TO_THE_CLOUD, serving__failover={"timeout": "10 s", "then": "local"}))
    scenario["network"] = {"kind": "fluid", "timeout": "50 ms", "attempts": 1}
    run(scenario, output=tmp_path / "out")
    setbacks = rows(tmp_path / "out", "SELECT cause, seconds, followed_by FROM setbacks")
    # 2080 bits at 1 Mbit/s and 5 ms of latency to the gateway, then 50 ms on the trunk: given up after 57 ms.
    assert setbacks == [("lost", pytest.approx(0.05708, abs=1e-4), "node-1")] * 3


def test_the_fallback_weights_are_stored_and_every_new_version_is_paid(tmp_path: Path) -> None:
    without = run(small(serving__placement="upload"), output=tmp_path / "without").metrics
    scenario = small(serving__placement="upload", serving__failover={"timeout": "80 ms", "then": "local"})
    found = run(scenario, output=tmp_path / "out").metrics
    # The MLP has 64 * 16 + 16 + 16 * 10 + 10 = 1210 parameters: 4840 bytes.
    for device in ("node-1", "node-4"):
        stored = found["devices"][device]["storage_bytes"] - without["devices"][device]["storage_bytes"]
        assert stored in (4840, 2 * 4840)
    sent = rows(
        tmp_path / "out",
        "SELECT destination, count(*) FROM transfers WHERE workload = 'serving' AND kind = 'model' AND payload_bytes = 4848 GROUP BY 1",
    )
    assert [device for device, _ in sent] == ["node-1", "node-2", "node-3", "node-4"]


def test_a_local_fallback_that_does_not_fit_is_refused() -> None:
    scenario = serving_only(
        model={"kind": "mlp", "hidden": [2048, 2048]}, serving__placement="upload", serving__failover={"timeout": "1 s", "then": "local"}
    )
    scenario["topology"]["devices"]["node-{1..4}"]["profile"] = "cortex-m4"
    with pytest.raises(ScenarioError, match=r"failover.*for 'node-1'.*lacks 16.8 MB"):
        run(scenario)


@pytest.mark.parametrize(
    ("failover", "message"),
    [
        ({"timeout": "1 s", "then": "early_exit"}, "expected the planner `early_exit` with a threshold"),
        ({"timeout": "0 s", "then": "drop"}, "timeout: expected a duration greater than 0"),
        ({"timeout": "1 s", "then": "replica"}, "expected `replicas`"),
        ({"timeout": "1 s", "then": "local", "replicas": ["gateway"]}, "expected `replicas`"),
        ({"timeout": "1 s", "then": "replica", "replicas": ["gatway"]}, "did you mean 'gateway'"),
        ({"timeout": "1 s", "then": "replica", "replicas": ["cloud"]}, "the `server` itself"),
        ({"timeout": "1 s", "then": "replica", "replicas": ["island"]}, "no route to 'island' from 'node-1'"),
        ({"timeout": "1 s", "then": "drop", "last": "local"}, "expected `last`"),
        ({"timeout": "1 s", "then": "wait"}, "expected 'local' or 'drop' or 'replica'"),
    ],
)
def test_mistakes_are_told(failover: dict[str, Any], message: str) -> None:
    scenario = serving_only(serving__failover=failover)
    scenario["topology"]["devices"]["island"] = {"profile": "edge-server", "tier": "edge"}
    with pytest.raises(ScenarioError) as caught:
        run(scenario)
    assert message in str(caught.value)
