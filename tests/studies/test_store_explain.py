"""What a run would find, what it found, and why not more."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netfl.cli.commands import cli
from netfl.learning.aggregators import AGGREGATORS
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.store import Disk, MissingValueError, Store, default_folder
from netfl.studies import run
from netfl.studies.dry import forecast
from netfl.studies.executors import SerialExecutor
from netfl.studies.hits import explain
from netfl.studies.points import plan
from netfl.studies.sweep import run_plan
from tests.workloads.small import training_only


def forecasts(scenario: dict[str, Any], folder: Path, **grid: Any) -> list[str]:
    return [str(each) for each in forecast(plan(scenario, grid={key.replace("__", "."): value for key, value in grid.items()}), folder)]


def test_a_refusing_store_names_the_first_missing_value() -> None:
    store = Store(disk=Disk(default_folder()), refuses=True)
    with pytest.raises(MissingValueError) as caught:
        prepare(load(training_only()), store)
    assert caught.value.args[0].function.name == "dataset_facts"
    assert store.first_missing == caught.value.args[0].key
    assert not store.computed
    store.close()


def test_the_dry_run_of_a_study_says_what_each_point_would_do_and_why(tmp_path: Path) -> None:
    scenario = training_only(training__rounds=3)
    nothing = forecasts(scenario, tmp_path / "s")
    assert nothing == ["run — the first value that is missing: dataset_facts; nothing like it was computed before"]
    assert not (tmp_path / "s").exists()
    run_plan(plan(scenario), tmp_path / "s", executor=SerialExecutor())
    assert forecasts(scenario, tmp_path / "s") == ["finished"]
    # A rate changes no value of a run without a deadline; a learning rate changes the first training.
    lines = forecasts(scenario, tmp_path / "s", topology__links__trunk__rate=["100 Mbit/s", "200 kbit/s"])
    assert lines == ["finished", "replay: nothing to compute"]
    lines = forecasts(scenario, tmp_path / "s", workloads__training__trainer__learning_rate=[0.1, 0.3])
    assert lines[0] == "finished"
    assert lines[1].startswith("run — the first value that is missing: losses; against ")
    assert lines[1].endswith(": cohort: trainer.learning_rate is 0.3, was 0.1")
    lines = forecasts(scenario, tmp_path / "s", workloads__training__rounds=[3, 5])
    assert lines[1].startswith("replay to round 3 of 5, then run — the first value that is missing: losses no. 4; ")
    assert lines[1].endswith(" ends before it")
    # Another seed deals other samples.
    lines = forecasts(scenario, tmp_path / "s", seed=[5, 6])
    assert "the stream data of seed 6, replicate 0, was the stream data of seed 5, replicate 0" in lines[1]


def test_another_set_of_updates_is_named(tmp_path: Path) -> None:
    scenario = training_only(training__rounds=2)
    run(scenario, output=tmp_path / "runs" / "all")
    # With one update of three in time, the first model after the initial one is made of fewer.
    cut = {"workloads.training.deadline": "250 ms"}
    result = run(scenario, set=cut, output=tmp_path / "runs" / "cut")
    assert result.metrics["training"]["training"]["updates_aborted"] > 0
    found = explain(tmp_path / "runs" / "cut", tmp_path / "runs" / "all")
    assert found.first_missing == "losses"
    assert found.why[0].endswith("losses: fits: 1 of them, were 3")
    assert found.missing_now == ""


@pytest.mark.parametrize(("aggregator", "before"), [("fedadam", "mean"), ("mean", "fedadam"), ("median", "mean")])
def test_another_aggregator_is_named(tmp_path: Path, aggregator: str, before: str) -> None:
    """Whether both, one or none of them remember."""
    for name, kind in (("before", before), ("after", aggregator)):
        run(training_only(training__rounds=2, training__aggregator=kind), output=tmp_path / "runs" / name)
    found = explain(tmp_path / "runs" / "after", tmp_path / "runs" / "before")
    assert f"aggregate: aggregator is {AGGREGATORS.find(aggregator)()}, was {AGGREGATORS.find(before)()}" in found.why[0]


def test_a_run_says_what_it_computed(tmp_path: Path) -> None:
    scenario = training_only(training__rounds=2)
    run(scenario, output=tmp_path / "runs" / "a")
    run(scenario, set={"topology.links.trunk.latency": "1 ms"}, output=tmp_path / "runs" / "b")
    run(scenario, set={"workloads.training.trainer.batch_size": 8}, output=tmp_path / "runs" / "c")
    first, second, third = (explain(tmp_path / "runs" / name) for name in "abc")
    assert first.computed["fit"] == 2 * 3
    assert first.first_missing == "dataset_facts"
    assert (second.computed, second.first_missing, second.why) == ({}, "", ())
    assert third.first_missing == "losses"
    assert third.why[0].endswith("cohort: trainer.batch_size is 8, was 16")


def test_the_cache_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netfl.store.store._WORTH", 0)  # every aggregate reaches the disk, however fast the host
    run(training_only(training__rounds=2), output=tmp_path / "runs" / "a")
    runner = CliRunner()
    held = json.loads(runner.invoke(cli, ["cache", "ls", "--json"]).stdout)
    assert held["facts"] > 0
    assert held["bytes"] > 0
    assert "facts" in runner.invoke(cli, ["cache", "ls"]).stdout
    done = json.loads(runner.invoke(cli, ["cache", "gc", "--limit", "1GB", "--json"]).stdout)
    assert (done["dropped_files"], done["bytes"]) == (0, held["bytes"])
    stray = default_folder() / "arrays" / "ab" / "left.part"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x" * 10)
    os.utime(stray, (1, 1))
    done = json.loads(runner.invoke(cli, ["cache", "gc", "--json"]).stdout)
    assert (done["bytes"], done["facts"], done["dropped_bytes"]) == (0, held["facts"], held["bytes"] + 10)
    assert not stray.exists()
    # What is left is enough for the same run.
    again = run(training_only(training__rounds=2))
    assert again.metrics["work"]["trained_clients"] == 0
    told = runner.invoke(cli, ["cache", "explain", str(tmp_path / "runs" / "a")])
    assert (told.exit_code, told.stderr) == (0, "")
    assert "6 fit" in told.stdout
    assert "misses nothing" in told.stdout
    refused = runner.invoke(cli, ["cache", "explain", str(tmp_path)])
    assert refused.exit_code == 3
    assert "expected the folder of a run" in refused.stderr
    assert runner.invoke(cli, ["cache", "gc", "--limit", "many"]).exit_code == 2
