"""Every second of every transfer has its reason, and `netfl show RUN --transfer ID` tells it."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import netfl
from netfl.cli.commands import cli
from netfl.report import explain
from netfl.store import Store
from tests.workloads.small import small

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.yaml"))
QUIET = ("data-independent", "dream-distillation", "early-exit")
AFTER = {"nonn": "20 s"}


def check_sums(database: Path) -> int:
    """Latency, outages and waits sum to the duration of every transfer; how many there are."""
    connection = sqlite3.connect(database)
    rows = connection.execute(
        "SELECT transfer, end_s - start_s, latency_s + stalled_s + coalesce((SELECT sum(seconds) FROM waits WHERE waits.transfer = "
        "transfers.transfer), 0) FROM transfers"
    ).fetchall()
    for transfer, duration_s, parts_s in rows:
        assert abs(parts_s - duration_s) < 1e-9, transfer
    assert connection.execute("SELECT count(*) FROM waits WHERE seconds <= 0 OR share < 0 OR share > 1 + 1e-9").fetchone() == (0,)
    connection.close()
    return len(rows)


@pytest.fixture(scope="module")
def store() -> Store:
    """What is trained once for the fluid need not be trained again for TCP."""
    return Store()


@pytest.mark.parametrize("network", ["fluid", "tcp"])
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.name)
def test_the_parts_of_every_transfer_of_every_scenario_sum_to_its_duration(path: Path, network: str, store: Store, tmp_path: Path) -> None:
    netfl.run(path, set={"stop.after": AFTER.get(path.stem, "2 s"), "network.kind": network}, output=tmp_path, store=store)
    # fl-pqsu has three devices, whose first downloads fill the two seconds; in QUIET ones devices answer alone, in AFTER ones hardly anyone sends sooner.
    assert check_sums(tmp_path / "run.db") >= (0 if path.stem in QUIET else 3)


def run_small(folder: Path, **changes: Any) -> Path:
    """The small scenario for 2 s, with outages of a node's radio."""
    scenario = small(stop={"after": "2 s"}, **changes)
    scenario["topology"]["links"]["node-{1..4}-radio"]["outages"] = {"kind": "schedule", "down": [["50 ms", "900 ms"]]}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(scenario, sort_keys=False))
    netfl.run(path, output=folder / "out")
    return folder / "out"


def test_words(tmp_path: Path) -> None:
    out = run_small(tmp_path, network={"kind": "tcp", "timeout": "200 ms", "wait": "100 ms", "attempts": 9})
    check_sums(out / "run.db")
    first = explain(out / "run.db", 1)
    assert first.duration_s == pytest.approx(sum(part.seconds for part in first.parts), abs=1e-9)
    causes = [part.cause for part in first.parts]
    # The model goes out at 0, is held by the outage from 50 ms on, fails after 200 ms and tries again until the radio is back.
    assert causes[:2] == ["set-up", "latency"]
    assert {"medium", "outage", "pause"} <= set(causes)
    done = CliRunner().invoke(cli, ["show", str(out), "--transfer", "1"])
    assert done.exit_code == 0
    for text in (
        "Transfer 1: model of 'training', round 1",
        "connection set-up",
        "outages on the way",
        "pauses between attempts",
        "s  in all",
    ):
        assert text in done.stdout
    assert "bottleneck medium 'cell'" in done.stdout
    assert "Simulated 2 s" in CliRunner().invoke(cli, ["show", str(out)]).stdout


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    out = run_small(tmp_path)

    def shown(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["show", *arguments])
        return done.exit_code, done.stderr

    code, text = shown(str(out), "--transfer", "100000")
    assert (code, "no transfer 100000; there are" in text) == (2, True)
    code, text = shown(str(tmp_path), "--transfer", "1")
    assert (code, "there is no run.db in it" in text) == (3, True)
    code, text = shown(str(tmp_path / "small.yaml"), "--transfer", "1")
    assert (code, "--transfer is for a run's folder" in text) == (2, True)
    (tmp_path / "run.db").write_text("this is no database, and it is long enough to be looked at")
    code, text = shown(str(tmp_path), "--transfer", "1")
    assert (code, "not a trace that this version can read" in text) == (3, True)
