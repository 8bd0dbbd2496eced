"""Runs side by side: intervals by hand, pairs, what was not reached, the Pareto front, main effects."""

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from netfl.cli.commands import cli
from netfl.errors import ScenarioError
from netfl.report.estimates import estimate
from netfl.scenario import load, to_yaml
from netfl.studies.compare import compare
from tests.workloads.small import training_only


def test_an_interval_by_hand() -> None:
    """1, 2, 3: s = 1, t(0.975, 2) = 4.302653, 4.302653 / sqrt(3) = 2.484138."""
    found = estimate([3.0, 1.0, 2.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(2.484138, abs=1e-6)
    assert found.interval == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    # 0, 10: s = sqrt(50), t(0.975, 1) = 12.706205, 12.706205 * sqrt(50 / 2) = 63.531024.
    assert estimate([0.0, 10.0]).half_width == pytest.approx(63.531024, abs=1e-5)
    assert (estimate([5.0]).mean, estimate([5.0]).half_width, estimate([5.0]).interval) == (5.0, None, None)
    assert (estimate([]).mean, estimate([]).n) == (None, 0)


RATES = ("1 Mbit/s", "2 Mbit/s")
CODECS: tuple[list[Any], ...] = ([], [{"kind": "quantize", "bits": 8}])


def written(folder: Path, rate: str, codec: list[Any], replicate: int, **figures: Any) -> None:
    """A run folder whose figures are made up: bytes, energy, and when which accuracy was there."""
    folder.mkdir(parents=True)
    scenario = load(training_only(replicate=replicate), {"topology.links.trunk.rate": rate, "workloads.training.uplink": codec}).scenario
    (folder / "resolved.yaml").write_text(to_yaml(scenario))
    (folder / "run.json").write_text(json.dumps({"status": "finished"}))
    reached: list[tuple[float, float]] = figures["evaluations"]
    best = max(accuracy for _, accuracy in reached)
    training = {
        "accuracy": reached[-1][1], "best_accuracy": best, "loss": 1.0, "rounds": len(reached), "mean_round_s": 1.0, "updates_accepted": 3,
        "updates_aborted": 0, "updates_failed": 0, "time_to_accuracy_s": {},
    }  # fmt: skip
    sums = {"up": 0, "down": 0, "wasted": 0, "total": figures["num_bytes"]}
    metrics = {
        "simulated_s": reached[-1][0], "bytes": sums, "energy_j": {"total": 1.0}, "devices": {}, "training": {"training": training}, "serving": {},
        "work": {"trained_clients": 0, "reused_clients": 0}, "host_s": 1.0,
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps({"success": True, "metrics": metrics}))
    with sqlite3.connect(folder / "run.db") as database:
        database.execute("CREATE TABLE evaluations (workload TEXT, version INTEGER, time_s REAL, accuracy REAL, loss REAL)")
        rows = [("training", version, time_s, accuracy, 1.0) for version, (time_s, accuracy) in enumerate(reached)]
        database.executemany("INSERT INTO evaluations VALUES (?, ?, ?, ?, ?)", rows)
    database.close()


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Times to 0.8: 40 and 42 s slow, 20 and 24 s fast, half of that when coded; the slow coded run of replicate 1 stays below 0.9."""
    folders = []
    for r, rate in enumerate(RATES):
        for c, codec in enumerate(CODECS):
            for replicate in (0, 1):
                time_s = ((40.0, 42.0), (20.0, 24.0))[r][replicate] / (1, 2)[c]
                last = 0.85 if (r, c, replicate) == (0, 1, 1) else 0.95
                folder = tmp_path / f"run-{r}{c}{replicate}"
                written(
                    folder, rate, codec, replicate, num_bytes=(1000, 400)[c], evaluations=[(0.0, 0.1), (time_s, 0.8), (2 * time_s, last)]
                )
                folders.append(folder)
    return folders


def test_only_what_differs_and_replicates_pooled(runs: list[Path]) -> None:
    found = compare(runs, metrics=["time_to_accuracy@0.8", "bytes"])
    assert found.keys == ("topology.links.trunk.rate", "workloads.training.uplink")
    assert [group.replicates for group in found.groups] == [(0, 1)] * 4
    assert [group.values["time_to_accuracy@0.8"] for group in found.groups] == [(40.0, 42.0), (20.0, 21.0), (20.0, 24.0), (10.0, 12.0)]
    # 40, 42: s = sqrt(2), 12.706205 * sqrt(2 / 2).
    assert found.groups[0].estimates["time_to_accuracy@0.8"].half_width == pytest.approx(12.706205, abs=1e-5)


def test_differences_are_paired(runs: list[Path]) -> None:
    """Replicate by replicate: 20 - 40 and 24 - 42."""
    found = compare(runs, metrics=["time_to_accuracy@0.8"], baseline=runs[1])
    assert found.baseline == found.groups[0].settings
    assert found.groups[2].differences["time_to_accuracy@0.8"].mean == -19.0
    assert found.groups[2].differences["time_to_accuracy@0.8"].half_width == pytest.approx(12.706205, abs=1e-5)
    assert found.groups[0].differences["time_to_accuracy@0.8"].mean == 0.0


def test_not_reached_is_a_value_of_its_own(runs: list[Path]) -> None:
    found = compare(runs)
    # The highest level that half of the runs reached.
    assert found.metrics[0] == "time_to_accuracy@0.95"
    coded = found.groups[1].estimates["time_to_accuracy@0.95"]
    assert (coded.n, coded.reached, coded.mean) == (2, 1, None)
    shown = CliRunner().invoke(cli, ["compare", *map(str, runs), "--format", "md", "--baseline", str(runs[0])])
    assert shown.exit_code == 0, shown.stderr
    assert "not reached in 1 of 2" in shown.stdout.splitlines()[3]


def test_main_effects(runs: list[Path]) -> None:
    """Rate: plain 20 - 40, 24 - 42; coded 10 - 20, 12 - 21; a replicate's mean over both: -15 and -13.5."""
    found = compare(runs, metrics=["time_to_accuracy@0.8"])
    rate, codec = found.effects
    assert (rate.key, rate.first, rate.level, rate.estimate.n) == ("topology.links.trunk.rate", "1000000.0 bit/s", "2000000.0 bit/s", 2)
    assert rate.estimate.mean == -14.25
    # -15, -13.5: s = 1.5 / sqrt(2), 12.706205 * 1.5 / 2.
    assert rate.estimate.half_width == pytest.approx(9.529654, abs=1e-5)
    # Codec: -20, -10 and -21, -12.
    assert codec.estimate.mean == pytest.approx(-15.75)


def test_by_one_key_averages_over_the_others(runs: list[Path]) -> None:
    found = compare(runs, by=["trunk.rate"], metrics=["bytes"])
    assert found.keys == ("topology.links.trunk.rate",)
    assert [group.values["bytes"] for group in found.groups] == [(700.0, 700.0), (700.0, 700.0)]
    with pytest.raises(ScenarioError, match="could be"):
        compare(runs, by=["rate"])
    with pytest.raises(ScenarioError, match="no setting 'ratte'"):
        compare(runs, by=["ratte"])


def test_the_pareto_front(runs: list[Path]) -> None:
    """Fast and coded is best in time and bytes and as good in accuracy and energy as all others."""
    assert [group.is_efficient for group in compare(runs).groups] == [False, False, False, True]
    # By one key, the others' means stand for all: coded against not.
    assert [group.is_efficient for group in compare(runs[:4], metrics=["bytes"]).groups] == [True, True]


def test_fail_if_ends_with_5(runs: list[Path]) -> None:
    def ended(condition: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["compare", *map(str, runs), "--fail-if", condition])
        return done.exit_code, done.stderr

    assert ended("accuracy < 0.8")[0] == 0
    assert ended("time_to_accuracy@0.8 > 30 s")[0] == 5
    # Not reached is later than every time.
    code, told = ended("time_to_accuracy > 1000 h")
    assert code == 5
    assert "uplink=quantize(bits=8, stochastic=true)" in told
    assert told.count("true of") == 1
    assert ended("bytes > 900 B and rate == 2 Mbit/s")[0] == 5
    code, told = ended("bytes > > 3")
    assert code == 3
    assert "--fail-if:1:9: expected a value, got '>'" in told


def test_formats(runs: list[Path]) -> None:
    def shown(form: str) -> str:
        done = CliRunner().invoke(cli, ["compare", *map(str, runs), "--metric", "time_to_accuracy@0.8", "--format", form])
        assert done.exit_code == 0, done.stderr
        return str(done.stdout)

    document = json.loads(shown("json"))
    assert document["groups"][3]["metrics"]["time_to_accuracy@0.8"]["mean"] == 11.0
    assert document["groups"][3]["pareto"] is True
    rows = list(csv.DictReader(io.StringIO(shown("csv"))))
    assert [float(row["time_to_accuracy@0.8:mean"]) for row in rows] == [41.0, 20.5, 22.0, 11.0]
    assert "main effects on time_to_accuracy@0.8" in shown("table")


def test_what_cannot_be_compared_is_said(runs: list[Path], tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["compare", *arguments])
        assert done.exit_code == 3
        return str(done.stderr)

    assert "expected the folder of a run or of a sweep" in refused(str(tmp_path / "nowhere"))
    assert "did you mean" in refused(str(runs[0]), "--metric", "acuracy")
    assert "after '@'" in refused(str(runs[0]), "--metric", "time_to_accuracy@high")
    (runs[0] / "run.json").write_text(json.dumps({"status": "interrupted"}))
    assert "no finished run to compare" in refused(str(runs[0]))
    done = CliRunner().invoke(cli, ["compare", *map(str, runs)])
    assert done.exit_code == 0
    assert f"{runs[0]}: interrupted, left out" in done.stderr


def test_a_study_compares_by_its_own_keys(tmp_path: Path) -> None:
    points = [{"label": "plain"}, {"label": "coded", "workloads.training.uplink": [{"kind": "quantize", "bits": 8}]}]
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(training_only(training__rounds=1, sweep={"points": points, "replicates": 2})))
    done = CliRunner().invoke(cli, ["sweep", str(path), "-o", str(tmp_path / "s"), "-q"])
    assert done.exit_code == 0, done.stderr
    found = compare([tmp_path / "s"])
    assert found.keys == ("label",)
    assert [group.settings["label"] for group in found.groups] == ["plain", "coded"]
    assert found.groups[1].estimates["bytes_up"].mean < found.groups[0].estimates["bytes_up"].mean  # type: ignore[operator]
