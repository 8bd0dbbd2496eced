"""`netfl place` as a user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from netfl.cli.commands import cli
from tests.workloads.small import serving_only, training_only
from tests.workloads.test_cooperative import STUDENTS
from tests.workloads.test_cooperative import scenario as cooperative


def netfl(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(
        yaml.safe_dump(
            serving_only(serving__placement={"kind": "fixed", "after": "_1"}, serving__arrivals={"kind": "poisson", "rate": "0.3 per s"}),
            sort_keys=False,
        )
    )
    return path


def test_all_planners_and_the_scenarios_own(scenario: Path, tmp_path: Path) -> None:
    done = netfl("place", str(scenario), "--png", str(tmp_path / "out.png"))
    assert done.exit_code == 0, done.stderr
    # Four nodes with equal paths are one table.
    assert done.stdout.count("planned in") == 2
    assert "node-1 and 3 like it: node-1 -> gateway -> cloud" in done.stdout
    for kind in ("device_only", "upload", "chain", "mincut", "milp", "memory_proportional", "simulate", "scenario: fixed"):
        assert kind in done.stdout
    assert "node-1: all" in done.stdout
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_json_and_that_estimates_are_what_is_simulated(scenario: Path) -> None:
    planners = ("--planner", "upload", "--planner", "milp", "--planner", "mincut")
    done = netfl("place", str(scenario), *planners, "--objective", "latency", "--json")
    document = json.loads(done.stdout)
    assert (document["schema_version"], document["success"], document["objective"]) == (1, True, "latency")
    (group,) = document["groups"]
    assert group["sources"] == ["node-1", "node-2", "node-3", "node-4"]
    found = {each["planner"]: each for each in group["planners"]}
    assert list(found) == ["upload", "milp", "mincut"]
    for each in found.values():
        assert each["simulated_s"] == pytest.approx(each["estimate_s"], rel=1e-9)
        assert len(each["labels"]) == len(document["nodes"])
    assert found["milp"]["gap"] == found["mincut"]["gap"] == 0
    assert found["upload"]["gap"] == pytest.approx(found["upload"]["estimate_s"] / found["milp"]["estimate_s"] - 1)


def test_planners_minimise_what_is_asked_or_say_why_not(scenario: Path) -> None:
    planners = [word for kind in ("chain", "mincut", "milp", "upload") for word in ("--planner", kind)]
    throughput, energy = (json.loads(netfl("place", str(scenario), *planners, "--objective", objective, "--json").stdout)
                          for objective in ("throughput", "energy"))  # fmt: skip
    found = {each["planner"]: each for each in throughput["groups"][0]["planners"]}
    assert "the least sum, and throughput is what the busiest" in found["mincut"]["error"]
    # A chain of four layers: the best prefix cut is the best placement.
    assert found["chain"]["bottleneck_s"] == pytest.approx(found["milp"]["bottleneck_s"])
    assert found["chain"]["gap"] == pytest.approx(0, abs=1e-9)
    assert found["upload"]["bottleneck_s"] > found["chain"]["bottleneck_s"]
    found = {each["planner"]: each for each in energy["groups"][0]["planners"]}
    assert found["chain"]["energy_j"] == pytest.approx(found["milp"]["energy_j"]) == pytest.approx(found["mincut"]["energy_j"])
    assert all(each["planner_s"] > 0 for each in found.values())


def test_what_does_not_fit_is_a_row_of_its_own(tmp_path: Path) -> None:
    scenario = serving_only()
    scenario["topology"]["devices"]["node-{1..4}"] = {
        "profile": {
            "inference_flop_per_s": "45 MFLOP/s", "training_flop_per_s": "45 MFLOP/s", "memory_bytes_per_s": "0.3 GB/s",
            "overhead_s": "0.1 ms", "memory_bytes": "2 kB", "idle_w": "0.1 W", "busy_w": "0.2 W",
        }
    }  # fmt: skip
    path = tmp_path / "tight.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False))
    done = netfl("place", str(path), "--planner", "device_only", "--planner", "chain")
    assert done.exit_code == 0, done.stderr
    assert "device_only: placement node-1:0-5 of planner device_only does not fit: node-1 has 2 kB and lacks" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--planner", "minct"], "did you mean 'mincut'?"),
        (["--planner", "fixed"], "needs settings"),
        (["--workload", "serve"], "did you mean 'serving'?"),
        (["--png", "x.pdf"], "ends in .png"),
    ],
)
def test_bad_input_is_said(scenario: Path, arguments: list[str], says: str) -> None:
    done = netfl("place", str(scenario), *arguments)
    assert done.exit_code == 3
    assert says in done.stderr


def test_a_scenario_that_serves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(training_only(), sort_keys=False))
    done = netfl("place", str(path))
    assert done.exit_code == 3 and "there is nothing to place" in done.stderr


def test_ways_to_answer_together_are_compared_without_training(tmp_path: Path) -> None:
    """Four filters a student: 16 bytes and 4 of header from node-2 to node-1; the sample, 64 values, goes to node-2 first."""
    found = cooperative(STUDENTS)
    path = tmp_path / "together.yaml"
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    document = json.loads(netfl("place", str(path), "--json").stdout)
    (group,) = document["groups"]
    rows = {row["kind"]: row for row in group["cooperations"]}
    assert set(rows) == {"students", "filter_split", "tiles", "alone"}
    assert (rows["students"]["messages"], rows["students"]["sent_bytes"]) == (2, (4 + 4 * 64) + (4 + 4 * 4))
    assert (rows["alone"]["messages"], rows["alone"]["sent_bytes"]) == (0, 0)
    for row in rows.values():
        assert row["at_least_s"] * (1 - 1e-9) <= row["simulated_s"] <= row["at_most_s"] * (1 + 1e-9)
    shown = netfl("place", str(path), "--png", str(tmp_path / "out.png"))
    assert shown.exit_code == 0 and "filter_split" in shown.stdout
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    refused = netfl("place", str(path), "--planner", "chain")
    assert refused.exit_code == 3 and "devices that answer together have no planners" in refused.stderr
