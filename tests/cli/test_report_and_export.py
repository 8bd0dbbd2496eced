"""`netfl report` and `netfl export` as a user meets them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import netfl
from netfl.cli.commands import cli
from tests.workloads.small import small


def command(*arguments: object) -> Any:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "one"
    netfl.run(small(), output=path)
    return path


def test_report_goes_into_the_folder_or_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    done = command("report", folder)
    assert done.exit_code == 0, done.output
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    done = command("report", folder, "-o", tmp_path / "page.html")
    assert done.output.startswith(str(tmp_path / "page.html"))
    assert (tmp_path / "page.html").read_bytes() == (folder / "report.html").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    done = command("report", folder, "-o", tmp_path / "page.html", "--png")
    names = {Path(line).name for line in done.output.splitlines()[1:]}
    assert names >= {"topology.png", "accuracy.png", "bytes_by_link.png"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)


@pytest.mark.parametrize("form", ["chrome-trace", "csv", "tensorboard"])
def test_export_says_what_it_wrote(folder: Path, tmp_path: Path, form: str) -> None:
    done = command("export", folder, "--format", form, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    written = [Path(line) for line in done.output.splitlines()]
    assert written
    assert all(path.is_file() and tmp_path in path.parents for path in written)


def test_no_run_there(tmp_path: Path) -> None:
    for arguments in (
        ["report", tmp_path],
        ["report", tmp_path / "nowhere"],
        ["export", tmp_path, "--format", "csv", "-o", tmp_path / "out"],
    ):
        done = command(*arguments)
        assert done.exit_code == 1
        assert "expected the folder of a run" in done.stderr
        assert str(arguments[1]) in done.stderr


def test_something_else_called_run_db(tmp_path: Path) -> None:
    (tmp_path / "run.db").write_bytes(b"no database at all, but long enough to look" * 20)
    done = command("report", tmp_path)
    assert (done.exit_code, "is no trace" in done.stderr) == (1, True)
    (tmp_path / "run.db").unlink()
    with sqlite3.connect(tmp_path / "run.db") as other:
        other.execute("CREATE TABLE rounds (a)")
    other.close()
    done = command("export", tmp_path, "--format", "csv", "-o", tmp_path / "out")
    assert (done.exit_code, "no table 'device_use'" in done.stderr) == (1, True)


def test_a_target_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    for arguments in (["report", folder, "-o", tmp_path / "no" / "such.html"],
                      ["export", folder, "--format", "csv", "-o", tmp_path / "file"],
                      ["export", folder, "--format", "chrome-trace", "-o", tmp_path / "no" / "trace.json"]):  # fmt: skip
        done = command(*arguments)
        assert done.exit_code == 1, done.output
        assert str(tmp_path) in done.stderr


def test_a_run_whose_other_files_are_gone_still_has_a_report(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    (tmp_path / "run.json").write_text("{half")
    done = command("report", tmp_path)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The status of this run is &#x27;unknown&#x27;" in page
    assert "drawn from the trace alone" in page


def test_a_sweep_named_by_its_own_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "points" / "abc")
    points = [
        {"hash": name, "label": "", "replicate": 0, "settings": {"model.hidden": value}} for name, value in (("abc", [16]), ("def", [32]))
    ]
    (tmp_path / "sweep.json").write_text(json.dumps({"scenario": "study", "argv": ["sweep", "file.yaml"], "points": points}))
    done = command("report", tmp_path)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>study</h1>" in page
    assert "netfl sweep file.yaml" in page
    assert "1 of 2 runs have not finished" in page
    assert command("report", tmp_path, "--png").output.splitlines()[1:] == [str(tmp_path / "points.png")]
    (tmp_path / "points" / "abc" / "metrics.json").write_text("{}")
    done = command("report", tmp_path)
    assert (done.exit_code, "none of the 2 runs" in done.stderr) == (1, True)
