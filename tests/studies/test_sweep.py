"""Studies as a user meets them: what is run, what is not run again, and what a kill, a failure or another process leaves."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import netfl as package
from netfl.cli.commands import cli
from netfl.studies.executors import ProcessExecutor, SerialExecutor
from netfl.studies.folders import LockedError, locked, status_of
from netfl.studies.points import plan
from netfl.studies.sweep import Study, run_plan
from netfl.trace import Trace
from tests.workloads.small import training_only


def study(**changes: Any) -> dict[str, Any]:
    """Two rates, two replicates; two rounds each."""
    sweep = {"grid": {"topology.links.trunk.rate": ["100 kbit/s", "100 Mbit/s"]}, "replicates": 2}
    return training_only(**{"training__rounds": 2, "sweep": sweep, **changes})


def run(folder: Path, scenario: dict[str, Any] | None = None, **options: Any) -> Study:
    return run_plan(plan(scenario or study()), folder, executor=options.pop("executor", SerialExecutor()), **options)


def digests(made: Study) -> list[str]:
    found = []
    for point in made.plan.points:
        metrics = json.loads((made.point_folder(point) / "metrics.json").read_text())["metrics"]
        found.append(metrics["trace_digest"])
    return found


def statuses(made: Study) -> list[str]:
    return [made.outcomes[point.hash].status for point in made.plan.points]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study(), sort_keys=False))
    return path


def netfl(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


def test_the_same_command_again_runs_nothing_and_a_larger_grid_what_is_new(file: Path, tmp_path: Path) -> None:
    first = netfl("sweep", str(file), "-o", str(tmp_path / "s"))
    assert first.exit_code == 0, first.stderr
    assert "4 finished" in first.stdout
    assert "4/4 points" in first.stderr
    folders = sorted((tmp_path / "s" / "points").iterdir())
    written = [(path / "run.db").stat().st_mtime_ns for path in folders]
    again = netfl("sweep", str(file), "-o", str(tmp_path / "s"), "-q")
    assert (again.exit_code, again.stderr) == (0, "")
    assert "4 already there" in again.stdout
    assert [(path / "run.db").stat().st_mtime_ns for path in folders] == written
    more = netfl(
        "sweep", str(file), "-o", str(tmp_path / "s"), "-g", "topology.links.trunk.rate=100 kbit/s,2 Mbit/s,100 Mbit/s", "--json", "-q"
    )
    document = json.loads(more.stdout)
    assert [point["status"] for point in document["points"]] == ["stored", "stored", "finished", "finished", "stored", "stored"]
    # Another rate of one link trains nobody again.
    assert [point["trained_clients"] for point in document["points"]][2:4] == [0, 0]
    rows = list(csv.DictReader((tmp_path / "s" / "results.csv").read_text().splitlines()))
    assert [row["topology.links.trunk.rate"] for row in rows] == ["100 kbit/s"] * 2 + ["2 Mbit/s"] * 2 + ["100 Mbit/s"] * 2
    assert [row["replicate"] for row in rows] == ["0", "1"] * 3


def test_a_study_ends_with_the_table_that_it_asks_for(tmp_path: Path) -> None:
    """The end devices train alike, so each has the same peak of memory; the figures of the command and of `compare` are the same."""
    path, folder = tmp_path / "study.yaml", tmp_path / "s"
    block: dict[str, Any] = {**study()["sweep"], "table": ["bytes_up", "device_peak_memory_bytes"]}
    path.write_text(yaml.safe_dump(study(sweep=block), sort_keys=False))
    told = netfl("sweep", str(path), "-o", str(folder), "-q")
    assert told.exit_code == 0, told.stderr
    assert "bytes_up" in told.stdout
    document = json.loads(netfl("compare", str(folder), "--format", "json").stdout)
    assert document["metrics"] == ["bytes_up", "device_peak_memory_bytes"]
    metrics = json.loads(next((folder / "points").glob("*/metrics.json")).read_text())["metrics"]
    most = max(each["peak_memory_bytes"] for name, each in metrics["devices"].items() if name.startswith("node-"))
    assert [group["metrics"]["device_peak_memory_bytes"]["mean"] for group in document["groups"]] == [most, most]
    path.write_text(yaml.safe_dump(study(sweep={**block, "table": ["bytes_upp"]}), sort_keys=False))
    wrong = netfl("sweep", str(path), "-o", str(folder), "-q")
    assert wrong.exit_code == 3
    assert "sweep.table: no figure 'bytes_upp' (did you mean 'bytes_up'?)" in wrong.stderr


def test_lists_of_points_are_columns(tmp_path: Path) -> None:
    lists = {
        "size": [{"label": "few"}, {"label": "many", "workloads.training.clients_per_round": 4}],
        "time": [{"label": "short"}, {"workloads.training.rounds": 1}],
    }
    scenario = training_only(training__rounds=2, sweep={"point_lists": lists})
    run(tmp_path / "s", scenario)
    document = json.loads(netfl("compare", str(tmp_path / "s"), "--metric", "training.rounds", "--format", "json").stdout)
    assert document["keys"] == ["size", "time"]
    assert [group["settings"] for group in document["groups"]][1:3] == [
        {"size": "few", "time": "entry 1"},
        {"size": "many", "time": "short"},
    ]
    assert [(each["key"], each["to"], each["mean"]) for each in document["effects"]] == [("size", "many", 0.0), ("time", "entry 1", -1.0)]


def test_points_pair_by_replicate(tmp_path: Path) -> None:
    """Common random numbers: with time to spare, a rate changes no model, and a replicate does."""
    table = package.sweep(study(), output=tmp_path / "s")
    accuracy = table.pivot_table(index="topology.links.trunk.rate", columns="replicate", values="training.loss")
    assert accuracy.loc["100 kbit/s"].tolist() == accuracy.loc["100 Mbit/s"].tolist()
    assert accuracy[0].tolist() != accuracy[1].tolist()
    assert (table["simulated_s"].to_numpy()[:2] > table["simulated_s"].to_numpy()[2:]).all()


def test_processes_give_the_same_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = run(tmp_path / "one")
    monkeypatch.setenv("NETFL_STORE", str(tmp_path / "other-store"))
    two = run(tmp_path / "two", executor=ProcessExecutor(2))
    assert statuses(one) == statuses(two) == ["finished"] * 4
    assert digests(one) == digests(two)
    assert len(set(digests(one))) == 4


def failing(**changes: Any) -> dict[str, Any]:
    """One of two points names code that is not there."""
    sweep = {"grid": {"model": [{"kind": "mlp", "hidden": [4]}, {"kind": "python", "module": "no_such_module:Net"}]}}
    return training_only(training__rounds=1, sweep=sweep, **changes)


def test_a_failed_point_leaves_the_others_and_is_run_again_only_when_asked(tmp_path: Path) -> None:
    first = run(tmp_path / "s", failing(), trust_code=True)
    assert statuses(first) == ["finished", "failed"]
    assert "no_such_module" in first.outcomes[first.plan.points[1].hash].message
    again = run(tmp_path / "s", failing(), trust_code=True)
    assert statuses(again) == ["stored", "kept"]
    assert "no_such_module" in again.outcomes[again.plan.points[1].hash].message
    assert statuses(run(tmp_path / "s", failing(), trust_code=True, again=("failed",))) == ["stored", "failed"]
    assert statuses(run(tmp_path / "s", failing(), trust_code=True, again=("failed", "finished"))) == ["finished", "failed"]


def test_a_failed_point_ends_the_command_with_1(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    scenario = failing()
    scenario["sweep"]["grid"]["model"].reverse()
    path.write_text(yaml.safe_dump(scenario))
    done = netfl("sweep", str(path), "-o", str(tmp_path / "s"), "--fail-fast", "--trust-code", "-q")
    assert done.exit_code == 1
    assert "1 failed, 1 not begun" in done.stdout
    assert "no_such_module" in done.stderr
    done = netfl("sweep", str(path), "-o", str(tmp_path / "s"), "-q")
    assert done.exit_code == 1
    assert "1 finished, 1 failed before" in done.stdout
    assert "--retry-failed" in done.stderr


@pytest.mark.parametrize("left", ["resolved.yaml", "run.json", "metrics.json"])
def test_a_folder_half_written_by_a_kill_is_written_again(tmp_path: Path, left: str) -> None:
    """Killed before its first event, in the middle, and between its results and its status."""
    whole = run(tmp_path / "s")
    before = digests(whole)
    folder = whole.point_folder(whole.plan.points[0])
    if left == "resolved.yaml":
        for each in folder.iterdir():
            if each.name != left:
                each.unlink()
    else:
        facts = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**facts, "status": "running"}))
        (folder / "run.db").write_bytes((folder / "run.db").read_bytes()[:4096])
        (folder / "run.db-wal").write_bytes(b"half")
        if left == "run.json":
            (folder / "metrics.json").unlink()
    again = run(tmp_path / "s")
    assert statuses(again) == ["finished", "stored", "stored", "stored"]
    assert digests(again) == before


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    whole = run(tmp_path / "s")
    folder = whole.point_folder(whole.plan.points[0])
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "status": "interrupted"}))
    (folder / "notes.txt").write_text("mine")
    again = run(tmp_path / "s")
    assert statuses(again) == ["failed", "stored", "stored", "stored"]
    assert "holds 'notes.txt', which no run wrote" in again.outcomes[whole.plan.points[0].hash].message
    assert (folder / "run.db").exists()


def test_another_process_holds_the_lock(file: Path, tmp_path: Path) -> None:
    made = plan(study())
    folder = tmp_path / "s" / "points" / made.points[1].hash
    folder.mkdir(parents=True)
    with locked(folder):
        done = run(tmp_path / "s")
        assert statuses(done) == ["finished", "busy", "finished", "finished"]
        assert f"another process (process {os.getpid()} on" in done.outcomes[made.points[1].hash].message
    with locked(tmp_path / "s", "sweep.lock"):
        refused = netfl("sweep", str(file), "-o", str(tmp_path / "s"), "-q")
        assert refused.exit_code == 1
        assert "is writing" in refused.stderr
        # Shards are made for working side by side.
        assert statuses(run(tmp_path / "s", shard=(2, 2))) == ["waiting", "finished", "waiting", "stored"]
    assert not list((tmp_path / "s").glob("*.lock"))


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    script = (
        "import time\nfrom pathlib import Path\nfrom netfl.studies.folders import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=str(holder.pid)), locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_everything_resumable_and_prints_the_command(tmp_path: Path, jobs: int) -> None:
    scenario = study(training__rounds=3000)
    scenario["model"] = {"kind": "mlp", "hidden": [32]}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(scenario))
    command = [sys.executable, "-m", "netfl", "sweep", str(path), "-o", str(tmp_path / "s"), "-j", str(jobs)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        points = tmp_path / "s" / "points"
        for _ in range(600):
            if sum("round 1 " in log.read_text() for log in points.glob("*/log.txt")) >= jobs:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"{jobs} interrupted, {4 - jobs} not begun" in out
    assert f"netfl sweep {path} -o {tmp_path / 's'} -j {jobs}" in err
    assert {status_of(folder) for folder in points.iterdir()} == {"interrupted"}
    assert not list(tmp_path.rglob("*.lock")) + list(tmp_path.rglob("progress.json"))


def test_a_killed_worker_takes_its_own_point_only(tmp_path: Path) -> None:
    scenario = study(training__rounds=2)
    scenario["sweep"]["zip"] = {"workloads.training.rounds": [100_000, 1]}
    scenario["sweep"]["grid"] = {}
    scenario["sweep"]["replicates"] = 1

    class Killer:
        """Kills the process of the first point once that has begun to train."""

        def began(self, task: Any) -> None:
            pass

        def ended(self, task: Any, outcome: Any) -> None:
            pass

        def tick(self) -> None:
            for lock in (tmp_path / "s" / "points").glob("*/netfl.lock"):
                log = lock.parent / "log.txt"
                if log.exists() and "round 1 of 100000" in log.read_text():
                    with suppress(ProcessLookupError):
                        os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)

    done = run(tmp_path / "s", scenario, executor=ProcessExecutor(2), watch=Killer())
    assert statuses(done) == ["interrupted", "finished"]
    assert "signal SIGKILL" in done.outcomes[done.plan.points[0].hash].message
    assert status_of(done.point_folder(done.plan.points[0])) == "running"


def test_an_unwritable_folder_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = netfl("sweep", str(file), "-o", str(tmp_path / "file" / "s"))
    assert done.exit_code == 3
    assert "cannot be written: Not a directory" in done.stderr


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself says that it is full, of a trace that may take 16 pages of 4 KiB."""
    begin = Trace.__init__

    def small(trace: Trace, path: Path | None = None) -> None:
        begin(trace, path)
        trace.connection.execute("PRAGMA max_page_count=16")

    scenario = training_only(training__rounds=60)
    with monkeypatch.context() as patched:
        patched.setattr(Trace, "__init__", small)
        full = run(tmp_path / "s", scenario)
    assert statuses(full) == ["interrupted"]
    assert "no room left for" in full.outcomes[full.plan.points[0].hash].message
    assert status_of(full.point_folder(full.plan.points[0])) == "interrupted"
    again = run(tmp_path / "s", scenario)
    assert statuses(again) == ["finished"]


def test_a_store_of_another_version_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with sqlite3.connect(tmp_path / "store" / "store.db") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    done = CliRunner().invoke(cli, ["sweep", str(file), "-o", str(tmp_path / "s"), "-q"], env={"NETFL_STORE": str(tmp_path / "store")})
    assert done.exit_code == 1
    assert "is of version 99" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_checks_every_point(file: Path) -> None:
    assert netfl("validate", str(file)).exit_code == 0
    scenario = study()
    scenario["sweep"]["grid"]["workloads.training.clients_per_round"] = [2, 200]
    file.write_text(yaml.safe_dump(scenario))
    done = netfl("validate", str(file))
    assert done.exit_code == 3
    assert "clients_per_round" in done.stderr


def test_run_of_a_study_says_that_it_runs_one(file: Path, tmp_path: Path) -> None:
    done = netfl("run", str(file), "-o", str(tmp_path / "r"), "-q")
    assert done.exit_code == 0
    assert "has a sweep" in done.stderr
    assert "sweep" not in yaml.safe_load((tmp_path / "r" / "resolved.yaml").read_text())


def test_an_interrupted_run_is_entered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(training_only(training__rounds=2)))
    first = json.loads(netfl("run", str(path), "--json", "-q").stdout)
    second = json.loads(netfl("run", str(path), "--json", "-q").stdout)
    assert second["run_dir"] != first["run_dir"]
    folder = tmp_path / second["run_dir"]
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "status": "interrupted"}))
    third = json.loads(netfl("run", str(path), "--json", "-q").stdout)
    assert third["run_dir"] == second["run_dir"]
    assert third["metrics"]["trace_digest"] == first["metrics"]["trace_digest"]
    other = netfl("run", str(path), "-o", str(folder), "-q")
    assert "is not an empty folder" in other.stderr
    (folder / "run.json").write_text(json.dumps({**facts, "status": "interrupted"}))
    other = netfl("run", str(path), "-s", "seed=6", "-o", str(folder), "-q")
    assert other.exit_code == 3
    assert "unfinished run of another scenario" in other.stderr
