"""The commands as a user meets them: exit codes, what goes to stdout, what goes to stderr, what is left behind."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from netfl.cli.commands import cli
from tests.workloads.small import small, training_only

ROOT = Path(__file__).parents[2]


def netfl(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small(stop={"after": "2 s"}), sort_keys=False))
    return path


def test_run_writes_a_folder_and_prints_tables(scenario: Path, tmp_path: Path) -> None:
    done = netfl("run", str(scenario), "-o", str(tmp_path / "out"), "-s", "workloads.training.rounds=2", "--seed", "3")
    assert done.exit_code == 0, done.stderr
    assert "time to accuracy" in done.stdout
    assert "round 2/2" in done.stderr
    assert "real" in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "scenario.yaml", "resolved.yaml", "run.json", "run.db", "metrics.json", "log.txt", "accuracy.png", "bytes_by_link.png", "latency.png",
    }  # fmt: skip
    assert (tmp_path / "out" / "scenario.yaml").read_text() == scenario.read_text()
    resolved = yaml.safe_load((tmp_path / "out" / "resolved.yaml").read_text())
    assert resolved["seed"] == 3
    assert resolved["workloads"]["training"]["rounds"] == 2
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (facts["status"], facts["seed"]) == ("finished", 3)
    assert "round 2 of 2" in (tmp_path / "out" / "log.txt").read_text()
    for name in ("accuracy.png", "latency.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    again = netfl("run", str(tmp_path / "out" / "resolved.yaml"), "-o", str(tmp_path / "again"), "--json", "-q")
    assert (
        json.loads(again.stdout)["metrics"]["trace_digest"]
        == json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["trace_digest"]
    )


def test_json_is_one_document_with_the_stable_names(scenario: Path, tmp_path: Path) -> None:
    done = netfl("run", str(scenario), "-o", str(tmp_path / "out"), "--json", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert {"schema_version", "success", "run_dir", "metrics"} == document.keys()
    assert document["success"] is True
    metrics = document["metrics"]
    assert {"trace_digest", "simulated_s", "host_s", "bytes", "energy_j", "training", "serving", "devices", "work"} <= metrics.keys()
    assert {"accuracy", "rounds", "time_to_accuracy_s"} <= metrics["training"]["training"].keys()
    assert {"requests", "p50_s", "p95_s", "p99_s", "missed", "censored", "accuracy", "breakdown"} <= metrics["serving"]["serving"].keys()
    for device in metrics["devices"].values():
        assert {"compute_s", "peak_memory_bytes", "storage_bytes", "energy_j", "bytes_up", "bytes_down"} <= device.keys()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"] == metrics


def test_the_default_folder_is_named_after_the_scenario(scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = netfl("run", str(scenario), "--json", "-q")
    folder = Path(json.loads(done.stdout)["run_dir"])
    assert folder.parts[:2] == ("runs", "small")
    assert (tmp_path / folder / "run.db").exists()


def test_a_folder_in_use_is_not_touched(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    done = netfl("run", str(scenario), "-o", str(tmp_path / "out"))
    assert done.exit_code == 3
    assert "is not an empty folder" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


PLANTED = """\
schema: 1
name: planted
sed: 7
topology: {topology}
data:
  source: digits
model:
  kind: cnnn
workloads:
  training:
    kind: synchronous
    rounds: 3
    clients_per_round: 2
    deadline: 60
    trainer:
      kind: sgd
      learning_rate: 0
"""


def test_validate_prints_every_planted_mistake_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "planted.yaml"
    path.write_text(PLANTED.replace("{topology}", str(ROOT / "topologies" / "star.yaml")))
    done = netfl("validate", str(path))
    assert done.exit_code == 3
    assert done.stdout == ""
    places = [line.split(": ")[0] for line in done.stderr.splitlines() if line.startswith(str(path))]
    assert places == [f"{path}:3:1", f"{path}:8:9", f"{path}:14:15", f"{path}:17:22"]
    for part in ("did you mean 'seed'", "did you mean 'cnn'", "'20 ms'", "greater than 0", "    sed: 7\n    ^"):
        assert part in done.stderr
    as_json = json.loads(netfl("validate", "--json", str(path)).stdout)
    assert [problem["line"] for problem in as_json["problems"]] == [3, 8, 14, 17]


def test_list_links_says_what_contention_costs() -> None:
    lines = netfl("list", "links").stdout.splitlines()
    at = next(line for line in lines if line.startswith("technology")).index("exponent")
    found = {line.split()[0]: line[at:].split()[0] for line in lines if line.startswith(("wifi4_20", "eth_1g"))}
    assert found == {"wifi4_20": "0.11", "eth_1g": "[D]"}


def test_list_topologies_says_which_block_takes_what() -> None:
    found = json.loads(netfl("list", "topologies", "--json").stdout)["topologies"]
    assert {"file", "direction"} <= set(found["rate_trace"]["settings"])
    assert {"mean_good", "mean_bad"} <= set(found["loss_bursts"]["settings"])
    assert {"capacity", "harvest"} <= set(found["battery"]["settings"])
    assert {"rate_trace", "loss_bursts"} <= set(found["a link"]["settings"])
    assert "battery" in found["a device"]["settings"]
    # A star, a tree and a hierarchy say themselves which site is what.
    meshes_only = {"server", "attach", "component"}
    assert set(found["generate (mesh)"]["settings"]) - set(found["generate (tiered)"]["settings"]) == meshes_only


def test_validate_says_ok() -> None:
    files = [str(path) for path in sorted((ROOT / "scenarios").glob("*.yaml")) + sorted((ROOT / "topologies").glob("*.yaml"))]
    done = netfl("validate", *files)
    assert done.exit_code == 0
    assert done.stdout.count(": ok") == len(files) >= 5


def test_a_loop_in_extends(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    done = netfl("validate", str(tmp_path / "a.yaml"))
    assert done.exit_code == 3
    assert "b.yaml:1:10: extends: a loop: a.yaml -> b.yaml -> a.yaml" in done.stderr


def test_extends_merges_blocks_and_replaces_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(training_only()))
    (tmp_path / "child.yaml").write_text(
        "extends: base.yaml\nname: child\nmodel: {kind: cnn}\nworkloads: {training: {rounds: 9, trainer: {epochs: 2}}}\n"
    )
    done = netfl("show", str(tmp_path / "child.yaml"), "--resolved")
    assert done.exit_code == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert (resolved["name"], resolved["model"]["kind"]) == ("child", "cnn")
    assert "hidden" not in resolved["model"] or resolved["model"]["hidden"] == 0
    training = resolved["workloads"]["training"]
    assert (training["rounds"], training["clients_per_round"], training["trainer"]["epochs"]) == (9, 3, 2)
    assert training["trainer"]["learning_rate"] == 0.1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("workloads.training.round=5", "--set #1:1:1: workloads.training.round: unknown setting 'round' (did you mean 'rounds'?)"),
        ("workloads.training.rounds=five", "--set #1:1:1: workloads.training.rounds: expected a whole number"),
        ("workloads.training.rounds", "expected `path=value`"),
        ("workloads.training.uplink[3].fraction=1", "there is no entry [3]"),
        ("seed.x=1", "'seed' is not a block"),
        ("a..b=1", "expected a path"),
        ("name=[1", "--set #1"),
        ("topology=absent.yaml", "no such file: 'absent.yaml'"),
    ],
)
def test_overrides_that_do_not_fit(scenario: Path, override: str, message: str) -> None:
    done = netfl("show", str(scenario), "-s", override)
    assert done.exit_code == 3
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "override",
    [
        "workloads.training.uplink=[{kind: topk, fraction: 0.5}]",
        "workloads.training.deadline=60 s",
        "topology.links.trunk.rate=1 Gbit/s",
        "workloads.training.trainer.epochs=2",
        "model={kind: cnn}",
        "description=",
    ],
)
def test_overrides_that_fit(scenario: Path, override: str) -> None:
    done = netfl("show", str(scenario), "-s", override, "--resolved")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\n" * 3, "stands twice"),
        ("x" * 10_000_000, "netfl reads at most"),
        ("- 1", "expected a block of settings"),
        ("schema: 1\nname: x\ntopology: none.yaml\nworkloads: {}", "no such file: 'none.yaml'"),
        ("{}", "the required setting 'name' is missing"),
        ("schema: 1\nname: x\nworkloads: {}\ntopology: {schema: 1, name: t, devices: {}, links: {}}", "expected at least one device"),
    ],
)
def test_files_that_are_no_scenarios(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    done = netfl("run", str(path), "-o", str(tmp_path / "out"))
    assert done.exit_code == 3, done.output
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_file() -> None:
    done = netfl("run", "scenarios/smart-bilding.yaml")
    assert done.exit_code == 3
    assert "no such file" in done.stderr


def test_usage_errors() -> None:
    assert netfl("run").exit_code == 2
    assert "Did you mean" in netfl("run", "x.yaml", "--sed", "3").stderr
    assert netfl("list", "codec").exit_code == 2


def test_json_failures_are_one_document(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("schema: 1\nname: 3\n")
    done = netfl("run", str(path), "--json")
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    assert document["success"] is False
    assert {"kind", "message", "file", "line", "column", "path", "hint"} <= document["error"].keys()


def test_a_run_that_fails_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "diverges.yaml"
    path.write_text(yaml.safe_dump(training_only(training__trainer={"kind": "sgd", "learning_rate": 1e30, "epochs": 3})))
    done = netfl("run", str(path), "-o", str(tmp_path / "out"), "-q")
    assert done.exit_code == 1
    assert "diverged" in done.stderr
    assert done.stderr.endswith(f"; the results so far are in '{tmp_path / 'out'}'\n")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["success"] is False


def test_schema_and_list() -> None:
    schema = json.loads(netfl("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator.check_schema(json.loads(netfl("schema", "--topology").stdout))
    validator = jsonschema.Draft202012Validator(schema)
    for path in sorted((ROOT / "scenarios").glob("*.yaml")):
        validator.validate(yaml.safe_load(path.read_text()))
    listed = json.loads(netfl("list", "--json").stdout)
    assert listed.pop("schema_version") == 1
    assert {"codecs", "links", "devices", "workloads", "planners"} <= listed.keys()
    assert listed["codecs"]["topk"]["settings"]["fraction"]["required"] is True
    for family, entries in listed.items():
        for kind, entry in entries.items():
            if "settings" in entry:
                assert entry["summary"], (family, kind)
                for name, facts in entry["settings"].items():
                    assert facts["meaning"], (family, kind, name)
    text = netfl("list", "links").stdout
    assert "wifi4_20" in text


def test_show_a_topology() -> None:
    done = netfl("show", str(ROOT / "topologies" / "smart-building.yaml"))
    assert done.exit_code == 0
    assert "42 devices" in done.stdout
    assert "41 links" in done.stdout


AS_REL = "1|2|-1\n1|3|-1\n"


def test_show_and_validate_say_what_was_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "net.txt"
    path.write_text(AS_REL)
    done = netfl("validate", str(path))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == f"{path}: ok"
    assert "  rate: 10 Gbit/s (default_rate) for all 2 links that state none" in done.stdout.splitlines()
    assert json.loads(netfl("validate", str(path), "--json").stdout)["filled"][str(path)][1].startswith("rate: 10 Gbit/s")
    shown = netfl("show", str(path), "-s", "default_rate=7 Mbit/s", "-s", "links.2-1.latency=3 ms", "--png", str(tmp_path / "net.png"))
    assert shown.exit_code == 0, shown.stderr
    for part in ("3 devices", "2 (AS2) - 1 (AS1)", "7 Mbit/s", "3 ms", "filled in", "changed afterwards: `links.2-1.latency`"):
        assert part in shown.stdout
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")
    assert "in circles around the cloud" in shown.stderr


def test_show_draws_a_scenarios_topology_and_refuses_other_endings(scenario: Path, tmp_path: Path) -> None:
    assert netfl("show", str(scenario), "--png", str(tmp_path / "a.png")).exit_code == 0
    assert (tmp_path / "a.png").exists()
    for name, message in (("a.pdf", "ends in .png"), ("none/a.png", "cannot be written")):
        done = netfl("show", str(scenario), "--png", str(tmp_path / name))
        assert done.exit_code == 3
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bomb.graphml", "<!DOCTYPE x [<!ENTITY a 'a'>]><graphml/>", "bomb.graphml:1:13: document types and entities are not read"),
        ("cut.graphml", "<graphml><graph><node id='0'/>", "the file ends too early"),
        ("nan.json", '{"nodes": [{"id": 1, "lat": NaN}], "edges": []}', "is no number"),
        ("lines.txt", "hello\n", "lines.txt:1:1: expected `PROVIDER|CUSTOMER|-1`"),
        ("parts.txt", "1|2|0\n3|4|0\n", "falls into 2 parts"),
    ],
)
def test_bad_network_files_leave_no_traceback(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    for command in (["validate"], ["show"]):
        done = netfl(*command, str(path))
        assert done.exit_code == 3
        assert message in done.stderr
        assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_readable_folder(tmp_path: Path, number: int) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(yaml.safe_dump(small(stop={"after": "100 h"}, training__rounds=1_000_000)))
    process = subprocess.Popen(
        [sys.executable, "-m", "netfl", "run", str(path), "-o", str(tmp_path / "out"), "-q"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    log = tmp_path / "out" / "log.txt"
    for _ in range(600):
        if log.exists() and "round 3" in log.read_text():
            break
        time.sleep(0.1)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.startswith("interrupted at ")
    assert "Traceback" not in stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    with sqlite3.connect(tmp_path / "out" / "run.db") as connection:
        assert connection.execute("SELECT count(*) FROM rounds").fetchone()[0] >= 3
        assert connection.execute("SELECT reason FROM run_end").fetchone()[0] == "interrupted"
