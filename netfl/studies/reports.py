"""A folder in, a report or an export of it out."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from netfl.errors import NetflError, RunError
from netfl.network.topology import Topology
from netfl.report import metrics, plots
from netfl.report.exports import write_chrome_trace, write_csv, write_event_file, write_mlflow, write_parquet
from netfl.report.page import SweptRun, Told, draw_sweep, run_page, sweep_page
from netfl.report.topologies import draw_topology
from netfl.scenario import load
from netfl.scenario.tree import load_file
from netfl.units import format_bytes, format_duration, format_rate

__all__ = ["checked_trace", "export", "pictures", "report", "swept"]

_MOST_SITES_PICTURED = 300
_NOT_SETTINGS = {"seed", "replicate", "name", "description"}

_PICTURES = {
    "topology.png": "The topology",
    "accuracy.png": "Accuracy over simulated time",
    "latency.png": "Latency of requests",
    "bytes_by_link.png": "Bytes over links",
    "points.png": "The points of the sweep: means and their 95 % intervals",
}


def report(folder: str | Path) -> str:
    """The report on a run, or on a sweep, as one HTML file.

    Args:
        folder: of the run; or of the sweep, which holds its runs' folders.

    Raises:
        RunError: there is neither in it.
    """
    path = Path(folder)
    if _is_run(path):
        return _run_report(path)
    runs, facts = _finished_sweep(path)
    return sweep_page(facts.pop("sweep", path.name), runs, facts, _told(_sweep_pictures(runs)))


def pictures(folder: str | Path) -> dict[str, bytes]:
    """The report's pictures, for where a page cannot go: name of each file to the PNG.

    Args:
        folder: see `report`.

    Raises:
        RunError: there is neither a run nor a sweep in it.
    """
    path = Path(folder)
    if _is_run(path):
        database = checked_trace(path)
        return _run_pictures(database, _topology(path, [])[0])
    return _sweep_pictures(_finished_sweep(path)[0])


def _is_run(path: Path) -> bool:
    return (path / "run.db").is_file() or not path.is_dir()


def _finished_sweep(path: Path) -> tuple[list[SweptRun], dict[str, str]]:
    runs, facts = swept(path)
    if not runs:
        raise RunError(f"{path}: expected the folder of a run, with its run.db, or of a sweep, with its runs' folders")
    if all(run.metrics is None for run in runs):
        raise RunError(f"{path}: none of the {len(runs)} runs of this sweep has finished")
    return runs, facts


def _run_report(path: Path) -> str:
    database = checked_trace(path)
    notes: list[str] = []
    facts = _read_json(path / "run.json")
    status = facts.get("status", "unknown")
    if status != "finished":
        notes.append(f"The status of this run is '{status}': what follows is what it had written.")
    topology, description = _topology(path, notes)
    told = Told(
        name=str(facts.get("scenario") or path.name),
        description=description,
        given=_read_text(path / "scenario.yaml"),
        resolved=_read_text(path / "resolved.yaml"),
        facts=_told_facts(facts, _read_json(path / "metrics.json").get("metrics", {}), path),
        notes=tuple(notes),
        pictures=_told(_run_pictures(database, topology)),
    )
    return run_page(database, topology, told)


def _run_pictures(database: Path, topology: Topology | None) -> dict[str, bytes]:
    """The plots of a run and a picture of its topology."""
    with TemporaryDirectory() as folder:
        plots(database, Path(folder))
        if topology is not None and len(topology.sites) <= _MOST_SITES_PICTURED:
            draw_topology(topology, Path(folder) / "topology.png")
        return _read(Path(folder))


def _sweep_pictures(runs: list[SweptRun]) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        draw_sweep(runs, Path(folder) / "points.png")
        return _read(Path(folder))


def _read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _PICTURES if (folder / name).is_file()}


def _told(drawn: dict[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple((_PICTURES[name], png) for name, png in drawn.items())


def swept(folder: Path) -> tuple[list[SweptRun], dict[str, str]]:
    """The runs of a sweep and what made it: those that its `sweep.json` names, else every run's folder below.

    Without a `sweep.json` the settings that vary are found by comparing the runs' resolved scenarios.
    """
    facts = _read_json(folder / "sweep.json")
    points = facts.get("points")
    if isinstance(points, list):
        runs = [
            SweptRun(
                settings={str(key): _shown(value) for key, value in dict(point.get("axes", point.get("settings", {}))).items()},
                label=str(point.get("label") or ""), replicate=int(point.get("replicate", 0)), folder=str(point["hash"]),
                metrics=_finished(folder / "points" / str(point["hash"])),
            )
            for point in points
        ]  # fmt: skip
        command = {"command": "netfl " + " ".join(map(str, facts["argv"]))} if facts.get("argv") else {}
        return runs, {"sweep": str(facts.get("scenario") or folder.name), "folder": folder.name, **command}
    folders = sorted(path.parent for path in folder.rglob("resolved.yaml") if path.parent != folder)
    settings = [_flat_settings(each / "resolved.yaml") for each in folders]
    keys = sorted({key for each in settings for key in each if key not in _NOT_SETTINGS})
    varied = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    runs = [
        SweptRun(
            settings={key: own.get(key, "\u2013") for key in varied}, label="", replicate=int(own.get("replicate", "0")),
            folder=str(each.relative_to(folder)), metrics=_finished(each),
        )
        for each, own in zip(folders, settings, strict=True)
    ]  # fmt: skip
    return runs, {"sweep": folder.name, "folder": folder.name}


def _finished(folder: Path) -> dict[str, Any] | None:
    """The metrics of a run that finished."""
    found = _read_json(folder / "metrics.json")
    metrics = found.get("metrics")
    return metrics if found.get("success") and isinstance(metrics, dict) else None


def _shown(value: Any) -> str:
    """A setting as text; quantities in base units, as resolved scenarios have them, in units for people."""
    if isinstance(value, list):
        return " + ".join(map(_shown, value)) or "none"
    if isinstance(value, dict) and "kind" in value:
        return " ".join([str(value["kind"]), *(f"{key} {_shown(each)}" for key, each in value.items() if key != "kind")])
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    number, space, unit = value.partition(" ")
    writer = {"s": format_duration, "bit/s": format_rate, "B": format_bytes}.get(unit)
    try:
        return writer(float(number)) if space and writer else value
    except ValueError:
        return value


def _flat_settings(path: Path) -> dict[str, str]:
    """Path of each setting of a resolved scenario to its value as text."""
    found: dict[str, str] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                walk(below, f"{name}.{key}" if name else str(key))
        else:
            found[name] = _shown(value)

    try:
        walk(load_file(path).value, "")
    except NetflError:
        return {}
    return found


def export(folder: str | Path, form: str, output: str) -> list[str]:
    """Write a run for another program, on the simulated clock.

    Args:
        folder: of the run.
        form: chrome-trace, csv, parquet, tensorboard or mlflow.
        output: the file for chrome-trace; the folder for csv, parquet and tensorboard; a folder or an address for mlflow.

    Returns:
        What was written, for people.

    Raises:
        RunError: there is no run in the folder, or the target cannot be written.
        MissingExtraError: the format needs a package that is not there.
    """
    path = Path(folder)
    database = checked_trace(path)
    writers = {"chrome-trace": write_chrome_trace, "csv": write_csv, "parquet": write_parquet, "tensorboard": write_event_file}
    if form in writers:
        return [str(each) for each in writers[form](database, Path(output))]
    facts = _read_json(path / "run.json")
    return write_mlflow(
        database, output, experiment=str(facts.get("scenario") or "netfl"), name=path.name,
        settings=_flat_settings(path / "resolved.yaml"), figures=_flat_figures(metrics(database)),
    )  # fmt: skip


def _flat_figures(found: dict[str, Any]) -> dict[str, float]:
    """The numbers of a run under flat names; what single links and devices did is left out."""
    flat: dict[str, float] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, below in value.items():
                if key not in ("devices", "by_link"):
                    walk(below, f"{name}/{key}" if name else str(key))
        elif isinstance(value, int | float):
            flat[name] = float(value)

    walk(found, "")
    return flat


def checked_trace(folder: Path) -> Path:
    """The trace of a run's folder.

    Raises:
        RunError: it is not there, or it is no trace of netfl.
    """
    path = folder / "run.db"
    if not path.is_file():
        hint = "name the folder that `netfl run` wrote"
        raise RunError(f"{folder}: expected the folder of a run, with its run.db; {hint}")
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.close()
    except sqlite3.Error as error:
        raise RunError(f"{path}: is no trace: {error}") from None
    missing = {"transfers", "rounds", "requests", "link_use", "device_use", "run_end"} - tables
    if missing:
        raise RunError(f"{path}: is no trace of netfl, or of another version: no table '{min(missing)}'")
    return path


def _topology(path: Path, notes: list[str]) -> tuple[Topology | None, str]:
    """The topology and description of the scenario; none, and a note, where the scenario cannot be read any more."""
    try:
        loaded = load(path / "resolved.yaml")
    except NetflError as error:
        notes.append(f"The scenario cannot be read: {str(error).splitlines()[0]}")
        return None, ""
    return loaded.built.topology, loaded.scenario.description


def _told_facts(facts: dict[str, Any], metrics: dict[str, Any], path: Path) -> dict[str, str]:
    told = {
        "trace digest": metrics.get("trace_digest"),
        "seed": facts.get("seed"),
        "replicate": facts.get("replicate"),
        "command": "netfl " + " ".join(map(str, facts["argv"])) if facts.get("argv") else None,
        "started": facts.get("started"),
        "ended": facts.get("ended"),
        "folder": path.name,
        "Python": facts.get("python"),
        "platform": facts.get("platform"),
        "versions": ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items()),
    }
    work = metrics.get("work") or {}
    if work:
        counts = {name.removesuffix("_clients"): count for name, count in work.items() if name.endswith("_clients")}
        told["clients"] = ", ".join(f"{count} {name}" for name, count in counts.items())
        planned = ", ".join(f"{name} {format_duration(spent_s)}" for name, spent_s in (work.get("planner_s") or {}).items())
        told["planned for"] = f"{planned} of this machine's processor" if planned else None
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if it is missing or half written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
