"""Selective updating: who uploads, what a skip costs, and what the server takes in its place."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.learning import values
from netfl.learning.values import TrainingLoss
from netfl.scenario import load
from netfl.store import FactForm, Function, Recipe, Store, recipe
from netfl.workloads.selective import FLAG_BYTES, Selective, Uploads
from netfl.workloads.uplink import Uplink
from tests.workloads.small import small, training_only

Scripted = Callable[[Mapping[str, Sequence[float]]], None]

_SCRIPTED = Function(
    "tests.scripted_loss",
    1,
    lambda calls: [TrainingLoss(loss, loss**2, loss) for (loss,) in calls],
    FactForm(lambda found: [found.mean, found.mean_square, found.last_batch], lambda plain: TrainingLoss(*plain)),
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """Says what each client's losses are, round after round; who is not named gets better all the time."""

    def scripted(losses: Mapping[str, Sequence[float]]) -> None:
        def loss_of(update: Recipe) -> Recipe:
            client, number = update.arguments[3:5]
            return recipe(_SCRIPTED, float(losses[client][number - 1] if client in losses else 1 / number))

        monkeypatch.setattr(values, "training_loss", loss_of)

    return scripted


class Made:
    """The recipes that a run made: what clients trained and sent, and what the server aggregated, by round."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fits: dict[tuple[str, int], tuple[Recipe, Recipe]] = {}
        self.sent: dict[tuple[str, int], tuple[Recipe, Recipe | None, Recipe]] = {}
        self.aggregates: list[tuple[Recipe, list[Recipe], Recipe]] = []
        self._store = Store()
        fit, encode, aggregate = values.fit, Uplink.encode, values.aggregate

        def recorded_fit(cohort: Recipe, start: Recipe, shard: int, client: str, turn: int, *offset: Any) -> Recipe:
            found = fit(cohort, start, shard, client, turn, *offset)
            self.fits[client, turn] = (start, found)
            return found

        def recorded_encode(uplink: Uplink, sender: str, update: Recipe, turn: int) -> tuple[Recipe, int]:
            found = encode(uplink, sender, update, turn)
            self.sent[sender, turn] = (update, uplink._residuals.get(sender), found[0])
            return found

        def recorded_aggregate(aggregator: Any, model: Recipe, before: Any, updates: list[Recipe], *others: Any) -> tuple[Recipe, Any]:
            made, newest = aggregate(aggregator, model, before, updates, *others)
            self.aggregates.append((model, list(updates), made))
            return made, newest

        monkeypatch.setattr(values, "fit", recorded_fit)
        monkeypatch.setattr(Uplink, "encode", recorded_encode)
        monkeypatch.setattr(values, "aggregate", recorded_aggregate)

    def value(self, wanted: Recipe) -> np.ndarray:
        """The vector of a recipe; of an update, what it changed."""
        found = self._store.force(wanted)
        return np.asarray(found.values if isinstance(found, values.Update) else found)

    def trained(self, client: str, number: int) -> np.ndarray:
        """What a client's training changed in a round."""
        return self.value(self.fits[client, number][1])

    def model(self, number: int) -> np.ndarray:
        """The model that the first, second, ... aggregation made; at 0, what it began with."""
        return self.value(self.aggregates[number - 1][2] if number else self.aggregates[0][0])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.allclose(found, expected, rtol=0, atol=1e-6))


def two(clients: int = 2, **changes: Any) -> dict[str, Any]:
    """So many clients with equally many samples, all in every round."""
    settings: dict[str, Any] = {"training__selective": {}, "data__partition": "iid", "training__clients_per_round": clients}
    return training_only(training__clients=[f"node-{number}" for number in range(1, clients + 1)], **{**settings, **changes})


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def test_the_rule() -> None:
    rule = Selective(margin=0.25)
    before = TrainingLoss(mean=2.0, mean_square=4.0, last_batch=1.0)
    assert rule.worth(before, None)
    assert rule.worth(TrainingLoss(9.0, 81.0, 0.7), before)
    assert not rule.worth(TrainingLoss(0.1, 0.01, 0.75), before)  # lower, but not by more than 0.25
    assert Selective(metric="mean_epoch_loss").worth(TrainingLoss(1.9, 4.0, 5.0), before)
    assert not Selective(metric="mean_epoch_loss").worth(TrainingLoss(2.0, 4.0, 0.0), before)
    for loss in (math.nan, math.inf):  # a client that has diverged must not hide behind its flag
        assert rule.worth(TrainingLoss(loss, loss, loss), before)


def test_scripted_losses_3_2_2_5_1_9_upload_upload_skip_upload(tmp_path: Path, script: Scripted) -> None:
    script({"node-1": [3, 2, 2.5, 1.9]})
    found = run(two(1, training__rounds=4), output=tmp_path / "out").metrics["training"]["training"]
    assert rows(tmp_path / "out", "SELECT kind, payload_bytes, sent_bytes FROM transfers WHERE source = 'node-1' ORDER BY transfer") == [
        ("update", 4844, 4844),
        ("update", 4844, 4844),
        ("metadata", FLAG_BYTES, 1),  # a skipping device moves no more than a header's bytes
        ("update", 4844, 4844),
    ]
    assert rows(tmp_path / "out", "SELECT accepted, skipped, aborted, failed, version FROM rounds ORDER BY round") == [
        (1, 0, 0, 0, 1), (1, 0, 0, 0, 2), (0, 1, 0, 0, 3), (1, 0, 0, 0, 4),
    ]  # fmt: skip
    assert (found["updates_accepted"], found["updates_skipped"]) == (3, 1)


def test_a_skip_shortens_the_round_by_the_upload(tmp_path: Path, script: Scripted) -> None:
    script({"node-1": [3, 4]})
    run(two(1, training__rounds=2), output=tmp_path / "out")
    (full,), (skipped,) = rows(tmp_path / "out", "SELECT end_s - start_s FROM rounds ORDER BY round")
    assert full - skipped == pytest.approx((4844 - 1) * 8 / 1e6)  # 4844 bytes, or one, at 1 Mbit/s; aggregating one model costs the same


def test_the_mean_uses_the_stale_model(script: Scripted, made: Made) -> None:
    """Node 1 skips round 2: the mean is of what it uploaded in round 1, w0 + u, and of node 2's new model, w1 + v."""
    script({"node-1": [3, 4, 2]})
    run(two())
    w0, w1, w2 = made.model(0), made.model(1), made.model(2)
    u = made.trained("node-1", 1)
    assert close(w1, w0 + (u + made.trained("node-2", 1)) / 2)
    assert close(w2, ((w0 + u) + (w1 + made.trained("node-2", 2))) / 2)
    # Without gating it trains again from the newest model.
    assert close(made.value(made.fits["node-1", 3][0]), w2)
    assert close(made.model(3), w2 + (made.trained("node-1", 3) + made.trained("node-2", 3)) / 2)


def test_exclude_takes_nothing_for_a_client_that_skips(script: Scripted, made: Made) -> None:
    script({"node-1": [3, 4, 2]})
    run(two(training__selective={"on_skip": "exclude"}))
    assert close(made.model(2), made.model(1) + made.trained("node-2", 2))


def test_a_round_in_which_all_skip(tmp_path: Path, script: Scripted, made: Made) -> None:
    script({"node-1": [3, 4, 2], "node-2": [3, 3, 2]})  # as low as before is not lower
    run(two(), output=tmp_path / "stale")
    assert rows(tmp_path / "stale", "SELECT accepted, skipped FROM rounds ORDER BY round") == [(2, 0), (0, 2), (2, 0)]
    assert close(made.model(2), made.model(1))  # the mean of the models of which it was made
    made.aggregates.clear()
    run(two(training__selective={"on_skip": "exclude"}), output=tmp_path / "exclude")
    assert rows(tmp_path / "exclude", "SELECT accepted, skipped, version FROM rounds ORDER BY round") == [(2, 0, 1), (0, 2, 1), (2, 0, 2)]
    assert len(made.aggregates) == 2


def test_gated_downloads(tmp_path: Path, script: Scripted, made: Made) -> None:
    """Node 1 skips rounds 2 and 3: it downloads in rounds 1, 2 and 5, and its upload of round 4 is relative to round 2's download."""
    script({"node-1": [3, 4, 5, 2, 1]})
    run(two(training__rounds=5, training__selective={"gate_downloads": True}), output=tmp_path / "out")
    query = "SELECT label FROM transfers WHERE kind = 'model' AND destination = 'node-1' ORDER BY transfer"
    assert rows(tmp_path / "out", query) == [("round 1",), ("round 2",), ("round 5",)]
    first, second, third = (made.trained("node-1", number) for number in (2, 3, 4))
    w1, w3 = made.model(1), made.model(3)
    assert close(made.value(made.fits["node-1", 2][0]), w1)
    assert close(made.value(made.fits["node-1", 3][0]), w1 + first)
    assert close(made.value(made.fits["node-1", 4][0]), w1 + first + second)
    assert close(made.value(made.sent["node-1", 4][2]), first + second + third)
    # The server replaces its model of node 1 by w1 + all that.
    assert close(made.model(4), ((w1 + first + second + third) + (w3 + made.trained("node-2", 4))) / 2)
    assert close(made.value(made.fits["node-1", 5][0]), made.model(4))
    # Meanwhile the server took what node 1 uploaded in round 1.
    assert close(w3, ((made.model(0) + made.trained("node-1", 1)) + (made.model(2) + made.trained("node-2", 3))) / 2)


def test_an_upload_that_is_lost_opens_the_gate() -> None:
    """Otherwise its change would count twice: in the residual, and in what the client goes on with."""
    store = Store()
    vector = Function("tests.vector", 1, lambda calls: [np.full(2, each, np.float32) for (each,) in calls])
    uploads = Uploads(Selective(gate_downloads=True), store.force)
    uploads.downloaded("node", recipe(vector, 1))
    uploads.skipped("node", recipe(vector, 10))
    assert store.force(uploads.goes_on_with("node")).tolist() == [11, 11]  # type: ignore[arg-type]
    assert store.force(uploads.change("node", recipe(vector, 100))).tolist() == [110, 110]
    assert uploads.goes_on_with("node") is None


def test_skips_leave_the_residual_as_it_is(script: Scripted, made: Made) -> None:
    script({"node-1": [3, 4, 2]})
    run(two(training__uplink=[{"kind": "topk", "fraction": 0.1}]))
    assert ("node-1", 2) not in made.sent
    given, carried, sent = made.sent["node-1", 1]
    assert carried is None
    _, carried_later, _ = made.sent["node-1", 3]
    assert carried_later is not None
    # All that was not sent in round 1 is added in round 3; what training changed in round 2 is forgotten.
    assert close(made.value(carried_later), made.value(given) - made.value(values.decoded(sent)))
    assert np.count_nonzero(made.value(values.decoded(sent))) == 121


def test_a_deadline_together_with_skips(tmp_path: Path, script: Scripted, made: Made) -> None:
    """Node 2 is behind 10 kbit/s: 4844 bytes take 3.9 s down and up again, and a round ends after 5 s and the aggregation. Node 1 skips round 2."""
    script({"node-1": [3, 4, 2]})
    scenario = two(training__deadline="5 s")
    links = scenario["topology"]["links"]
    del links["node-{1..4}-radio"]
    links["node-1-radio"] = {"between": ["node-1", "gateway"], "rate": "1 Mbit/s", "latency": "5 ms"}
    links["node-{2..4}-radio"] = {"between": ["node-{2..4}", "gateway"], "rate": "10 kbit/s", "latency": "5 ms"}
    run(scenario, output=tmp_path / "out")
    assert rows(tmp_path / "out", "SELECT accepted, skipped, aborted, end_s FROM rounds ORDER BY round") == [
        (1, 0, 1, pytest.approx(5, abs=0.01)), (0, 1, 1, pytest.approx(10, abs=0.01)), (1, 0, 1, pytest.approx(15, abs=0.01)),
    ]  # fmt: skip
    assert close(made.model(2), made.model(0) + made.trained("node-1", 1))  # stale alone


def test_clients_that_skip_count_among_those_that_a_round_waits_for(tmp_path: Path, script: Scripted) -> None:
    script({f"node-{number}": [3, 4] for number in (1, 2, 3)})
    run(two(4, training__rounds=2, training__clients_per_round=2, training__over_selection=2.0), output=tmp_path / "out")
    for accepted, skipped, aborted in rows(tmp_path / "out", "SELECT accepted, skipped, aborted FROM rounds"):
        assert (accepted + skipped, aborted) == (2, 2)


@pytest.mark.parametrize("gate_downloads", [False, True])
@pytest.mark.parametrize("downlink", [[], [{"kind": "affine"}], [{"kind": "topk", "fraction": 0.1}]])
def test_real_losses_coded_and_serving(gate_downloads: bool, downlink: Any) -> None:
    scenario = small(
        training__rounds=12, training__clients_per_round=4, training__selective={"gate_downloads": gate_downloads},
        training__uplink=[{"kind": "affine"}], training__downlink=downlink, data__partition="iid",
    )  # fmt: skip
    found = run(scenario).metrics
    training = found["training"]["training"]
    assert training["updates_skipped"] > 0
    assert training["updates_accepted"] + training["updates_skipped"] == 48
    assert training["accuracy"] > 0.6
    assert found["serving"]["serving"]["answered"] > 0


def test_bad_input_is_a_problem_with_its_place() -> None:
    with pytest.raises(ScenarioError) as caught:
        load(two(training__selective={"margin": -1, "on_skip": "reuse"}))
    assert {problem.path for problem in caught.value.problems} == {
        "workloads.training.selective.margin",
        "workloads.training.selective.on_skip",
    }
    with pytest.raises(ScenarioError, match="needs control variates"):
        load(two(training__aggregator={"kind": "scaffold"}))


def test_an_aggregator_that_needs_several_updates_is_refused() -> None:
    scenario = training_only(training__clients_per_round=4, training__selective={}, training__aggregator="median")
    with pytest.raises(ScenarioError, match="any number of clients may skip"):
        run(scenario)
