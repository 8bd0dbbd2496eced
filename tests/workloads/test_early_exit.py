"""Requests that are answered before the end of the model, on the device where they leave."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.codecs import dense_bytes
from netfl.compute import PROFILES
from netfl.errors import ScenarioError
from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.exits import ExitNetwork, WithExits, exit_answers, leaving
from netfl.learning.models import Cnn
from netfl.learning.trainer import Sgd
from netfl.placement import Hop, Tier, estimate, trace
from netfl.placement import Path as PlacementPath
from netfl.placement.exits import ExitProfile
from netfl.randomness import Streams
from netfl.store import Store
from tests.workloads.small import serving_only

NETWORK = ExitNetwork(model=Cnn(channels=(4, 96)), after=(3, 6))
EXITS = {"kind": "with_exits", "after": [3, 6], "trainer": {"kind": "sgd", "epochs": 8, "learning_rate": 0.2}}


def scenario(**changes: Any) -> dict[str, Any]:
    made = serving_only(model={"kind": "cnn", "channels": [4, 96]}, stop={"after": "20 s"})
    made["network"] = "fluid"
    made["topology"]["devices"]["node-{1..4}"]["profile"] = "cortex-m4"
    made["topology"]["links"]["node-{1..4}-radio"] |= {"rate": "1 Mbit/s", "latency": "1 ms"}
    made["data"] = {"source": {"kind": "digits", "limit": 1000, "test_limit": 120}}
    made["workloads"]["serving"] = {
        "kind": "requests", "pretrained": EXITS, "sources": ["node-1"], "placement": {"kind": "early_exit", "threshold": 1.0},
        "arrivals": {"kind": "periodic", "every": "0.2 s", "together": True}, **changes,
    }  # fmt: skip
    return made


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def expected() -> Any:
    """What the model's exits say of the test samples, from the same recipes."""
    streams = Streams(seed=5)
    data = values.dataset(Digits(limit=1000, test_limit=120), streams.stream("data"))
    settings = WithExits(trainer=Sgd(epochs=8, learning_rate=0.2), after=(3, 6))
    vector = settings.model(NETWORK.model, data, streams.stream("initial model"), streams.stream("pretrain", "with exits"))
    return Store().force(exit_answers(NETWORK, vector, data))


def test_each_sample_leaves_where_it_is_sure_and_is_answered_from_there(tmp_path: Path) -> None:
    found = run(scenario(), output=tmp_path / "out").metrics["serving"]["serving"]
    said = expected()
    left = leaving(said.entropies, 1.0)
    answers = rows(
        tmp_path / "out", "SELECT sample, placement, correct, end_s - arrival_s, transmit_s FROM requests WHERE outcome = 'answered'"
    )
    assert len(answers) == found["answered"] >= 98
    for sample, placement, correct, _, _ in answers:
        assert placement.endswith(f" exit {left[sample] + 1}")
        assert correct == said.correct[left[sample], sample]
    assert len({placement for _, placement, *_ in answers}) == 3
    # Nothing else happens, so each takes what the planner adds up for its exit.
    taken_s = {placement: {round(took_s, 9) for _, each, _, took_s, _ in answers if each == placement} for _, placement, *_ in answers}
    profile = ExitProfile(trace(NETWORK.build((1, 8, 8), 10), (1, 8, 8)))
    cuts = (7, len(profile.whole.nodes))
    for count, placement in enumerate(("node-1:0-7 exit 1", "node-1:0-7 gateway:7-13 exit 2", "node-1:0-7 gateway:7-15 exit 3"), start=1):
        used = (0, 1, 2)[:count]
        expected_s = estimate(profile.until(used), path(), profile.cuts_until(cuts, used), dense_bytes, dense_bytes(10)).total_s
        assert taken_s[placement] == {round(expected_s, 9)}
    assert {transmit_s for _, placement, _, _, transmit_s in answers if "gateway" not in placement} == {0.0}


def path() -> PlacementPath:
    """What the planner sees of the way from the node to the cloud."""
    tiers = []
    for device, kind in (("node-1", "cortex-m4"), ("gateway", "mini-pc"), ("cloud", "edge-server")):
        each = PROFILES[kind]
        tiers.append(
            Tier(
                device=device, flop_per_s=each.inference_flop_per_s, memory_bytes_per_s=each.memory_bytes_per_s, overhead_s=each.overhead_s,
                memory_bytes=each.memory_bytes,
            )
        )  # fmt: skip
    radio, trunk = Hop(latency_s=0.001, up_bps=1e6, down_bps=1e6), Hop(latency_s=0.01, up_bps=1e8, down_bps=1e8)
    return PlacementPath(tiers=tuple(tiers), hops=(radio, trunk))


def test_a_deadline_takes_one_exit_for_all(tmp_path: Path) -> None:
    said = expected()
    for number, (deadline, most) in enumerate((("1 s", max(said.accuracies)), ("0.4 ms", said.accuracies[0]))):
        found = run(scenario(placement={"kind": "early_exit", "deadline": deadline}), output=tmp_path / str(number))
        ((placement,),) = rows(tmp_path / str(number), "SELECT DISTINCT placement FROM requests")
        exit_ = int(placement.split(" exit ")[1]) - 1
        assert said.accuracies[exit_] == most
        assert found.metrics["serving"]["serving"]["answered"] >= 98
        for sample, correct in rows(tmp_path / str(number), "SELECT sample, correct FROM requests WHERE outcome = 'answered'"):
            assert correct == said.correct[exit_, sample]


def test_a_deadline_that_no_exit_meets() -> None:
    with pytest.raises(ScenarioError, match=r"no exit meets the deadline of .*; exit 1 takes the least"):
        run(scenario(placement={"kind": "early_exit", "deadline": "1 us"}))


def test_who_is_not_answered_in_time_takes_the_exit_that_is_passed(tmp_path: Path) -> None:
    made = scenario(failover={"timeout": "80 ms", "then": "early_exit"})
    made["topology"]["links"]["node-{1..4}-radio"]["outages"] = {"kind": "schedule", "down": [["5 s", "15 s"]]}
    run(made, output=tmp_path / "out")
    said = expected()
    setbacks = dict(rows(tmp_path / "out", "SELECT request, followed_by FROM setbacks"))
    assert set(setbacks.values()) == {"node-1"}
    for request, sample, placement, correct, took_s in rows(
        tmp_path / "out", "SELECT request, sample, placement, correct, end_s - arrival_s FROM requests WHERE outcome = 'answered'"
    ):
        if request in setbacks:
            exit_ = int(placement.removeprefix("node-1 exit ")) - 1
            assert correct == said.correct[exit_, sample]
            assert 0.080 <= took_s < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placement": "chain"}, "expected the planner `early_exit` with a model `pretrained` as `with_exits`"),
        (
            {"pretrained": {"kind": "sgd", "learning_rate": 0.1}},
            "expected the planner `early_exit` with a model `pretrained` as `with_exits`",
        ),
        ({"pretrained": {**EXITS, "after": [9]}}, "expected numbers below 8"),
        ({"failover": {"timeout": "1 s", "then": "local"}}, "expected `then: early_exit` or `drop`"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        run(scenario(**changes))
    assert message in str(caught.value)
