"""Ray and Slurm, really started. `.ci/run` installs both and fails if these were skipped."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.studies.one_node_slurm import missing, one_node_slurm
from tests.workloads.small import training_only

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    sweep = {"grid": {"topology.links.trunk.rate": ["100 kbit/s", "100 Mbit/s"]}, "replicates": 2}
    path.write_text(yaml.safe_dump(training_only(training__rounds=2, sweep=sweep), sort_keys=False))
    return path


def sweep(file: Path, folder: Path, *options: str, **environment: str) -> Any:
    """The study from a cold store, in a process of its own."""
    command = [sys.executable, "-m", "netfl", "sweep", str(file), "-o", str(folder), "--json", "-q", *options]
    variables = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def digests(folder: Path) -> dict[str, str]:
    return {path.parent.name: json.loads(path.read_text())["metrics"]["trace_digest"] for path in folder.glob("points/*/metrics.json")}


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `ray`)")
def test_ray_gives_the_same_results(file: Path, tmp_path: Path) -> None:
    one = sweep(file, tmp_path / "one", NETFL_STORE=str(tmp_path / "store-1"))
    assert one.returncode == 0, one.stderr
    two = sweep(file, tmp_path / "two", "--executor", "ray", "-j", "2", NETFL_STORE=str(tmp_path / "store-2"))
    assert two.returncode == 0, two.stderr
    assert [point["status"] for point in json.loads(two.stdout)["points"]] == ["finished"] * 4
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(set(digests(tmp_path / "two").values())) == 4


@pytest.mark.slurm
@pytest.mark.skipif(bool(missing()), reason=f"no Slurm of one node without {', '.join(missing())}")
def test_slurm_is_submitted_to_and_left(file: Path, tmp_path: Path) -> None:
    one = sweep(file, tmp_path / "one", NETFL_STORE=str(tmp_path / "store-1"))
    assert one.returncode == 0, one.stderr
    folder = tmp_path / "two"
    with one_node_slurm(tmp_path / "slurm") as environment:
        variables = {key: environment[key] for key in ("SLURM_CONF", "PATH")} | {"NETFL_STORE": str(tmp_path / "store-2")}
        two = sweep(file, folder, "--executor", "slurm", "-j", "2", **variables)
        assert two.returncode == 0, two.stderr
        assert [point["status"] for point in json.loads(two.stdout)["points"]] == ["submitted"] * 4
        for _ in range(240):
            time.sleep(0.5)
            if not subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True, check=True).stdout.strip():
                break
        logs = "\n".join(path.read_text() for path in sorted((folder / "slurm").glob("*.log")))
        assert logs.count(": finished") == 4, logs
        again = sweep(file, folder, "--executor", "slurm", "-j", "2", **variables)
        assert [point["status"] for point in json.loads(again.stdout)["points"]] == ["stored"] * 4
        # A job that sbatch refuses is an error with its words.
        refused = sweep(file, tmp_path / "three", "--executor", "slurm", "--slurm", "--partition=none", **variables)
        assert refused.returncode == 1
        assert "sbatch refused" in refused.stdout
    assert digests(tmp_path / "one") == digests(folder)


def run(tmp_path: Path, name: str, *options: str, **environment: str) -> Any:
    """A run from a cold store, in a process of its own; what it prints as JSON."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(training_only(training__rounds=2, training__clients_per_round=4), sort_keys=False))
    command = [sys.executable, "-m", "netfl", "run", str(file), "-o", str(tmp_path / name), "--json", "-q", *options]
    paths = {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "NETFL_STORE": str(tmp_path / f"store-{name}")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | paths | environment)
    return json.loads(done.stdout) | {"code": done.returncode}


def log_of(tmp_path: Path, name: str) -> str:
    return (tmp_path / name / "log.txt").read_text()


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `ray`)")
def test_batches_of_a_run_train_on_ray(tmp_path: Path) -> None:
    here, there = run(tmp_path, "here", "--executor", "serial"), run(tmp_path, "there", "--executor", "ray", "-j", "2")
    assert there["success"], there
    assert there["metrics"]["trace_digest"] == here["metrics"]["trace_digest"]
    assert there["metrics"]["work"] == here["metrics"]["work"] == {"trained_clients": 8, "reused_clients": 0, "speculated_clients": 0}
    assert "WARNING" not in log_of(tmp_path, "there")  # which would say that shares trained here after all


@pytest.mark.slurm
@pytest.mark.skipif(bool(missing()), reason=f"no Slurm of one node without {', '.join(missing())}")
def test_batches_of_a_run_train_in_slurm_jobs(tmp_path: Path) -> None:
    here = run(tmp_path, "here", "--executor", "serial")
    with one_node_slurm(tmp_path / "slurm") as environment:
        variables = {key: environment[key] for key in ("SLURM_CONF", "PATH")}
        there = run(tmp_path, "there", "--executor", "slurm", "-j", "2", **variables)
        assert there["success"], there
        assert there["metrics"]["trace_digest"] == here["metrics"]["trace_digest"]
        assert "WARNING" not in log_of(tmp_path, "there")
        assert list((tmp_path / "store-there" / "batches").iterdir()) == []
        refused = run(tmp_path, "refused", "--executor", "slurm", "--slurm", "--partition=none", **variables)
        assert refused["code"] == 1
        assert "sbatch refused" in refused["error"]["message"]


def test_a_run_says_what_is_not_installed(tmp_path: Path) -> None:
    none = run(tmp_path, "none", "--executor", "slurm", PATH=str(Path(sys.executable).parent))
    assert (none["code"], none["success"]) == (4, False)
    assert "there is no `sbatch`" in none["error"]["message"]


def test_what_is_not_installed_is_said(file: Path, tmp_path: Path) -> None:
    """Exit code 4 and what to do."""
    none = sweep(file, tmp_path / "s", "--executor", "slurm", PATH=str(Path(sys.executable).parent))
    assert none.returncode == 4
    assert "there is no `sbatch`" in none.stdout
    if importlib.util.find_spec("ray") is None:
        none = sweep(file, tmp_path / "s", "--executor", "ray")
        assert none.returncode == 4
        assert "pip install 'netfl-sim[ray]'" in none.stdout
