"""One point of a study as a task that any process can take: everything in it is plain text, and its result lies in its folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from netfl.errors import NetflError
from netfl.memory import collecting_after
from netfl.scenario import load
from netfl.store import Disk, Store
from netfl.studies.folders import LockedError, read_json, status_of, write_whole
from netfl.studies.run import DiskFullError, Interrupt, InterruptedRunError, run_loaded
from netfl.workloads import Progress

__all__ = ["Outcome", "Task", "progress_of", "run_task"]

_LOG = logging.getLogger("netfl")
_EVERY_S = 0.5


@dataclass(frozen=True)
class Task:
    """A point to run.

    Args:
        hash: of its configuration.
        title: for people.
        plain: the scenario with every default written out, as JSON.
        folder: to write.
        store: folder of the store.
        again: statuses of runs that are to be run again beside unfinished ones: failed, finished.
        trust_code: whether code that the scenario names may run.
        argv: the command, for the folder.
    """

    hash: str
    title: str
    plain: str
    folder: str
    store: str
    again: tuple[str, ...] = ()
    trust_code: bool = False
    argv: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a point.

    Args:
        hash: of its configuration.
        status: finished; stored (it was there); failed; kept (it had failed before); interrupted; busy (another process runs it); waiting
            (not begun); submitted.
        message: why, for a point that did not finish.
        host_s: seconds of this host.
    """

    hash: str
    status: str
    message: str = ""
    host_s: float = 0.0


def run_task(task: Task, interrupt: Interrupt | None = None, on_tick: Callable[[], None] | None = None) -> Outcome:
    """Run one point, unless its folder says that this is done.

    Args:
        task: the point.
        interrupt: what signals set.
        on_tick: called now and then while it runs.
    """
    folder = Path(task.folder)
    started_s = time.perf_counter()
    status = status_of(folder)
    if status in ("finished", "failed") and status not in task.again:
        return Outcome(task.hash, "stored" if status == "finished" else "kept", _why_failed(folder) if status == "failed" else "")
    progress = _ProgressFile(folder, on_tick)
    try:
        with collecting_after():
            _run(task, progress, interrupt)
    except LockedError as error:
        return Outcome(task.hash, "busy", str(error))
    except DiskFullError as error:
        return Outcome(task.hash, "interrupted", str(error))
    except (InterruptedRunError, KeyboardInterrupt):
        return Outcome(task.hash, "interrupted")
    except NetflError as error:
        _note_failure(folder, str(error))
        return Outcome(task.hash, "failed", str(error), time.perf_counter() - started_s)
    except Exception as error:  # a bug, or the host: one point fails and the others go on
        _LOG.debug("point %s", task.hash, exc_info=True)
        message = f"{type(error).__name__}: {error}"
        _note_failure(folder, message)
        return Outcome(task.hash, "failed", message, time.perf_counter() - started_s)
    return Outcome(task.hash, "finished", "", time.perf_counter() - started_s)


def _run(task: Task, progress: _ProgressFile, interrupt: Interrupt | None) -> None:
    store = Store(disk=Disk(Path(task.store)))
    try:
        run_loaded(
            load(json.loads(task.plain)),
            output=Path(task.folder),
            store=store,
            argv=task.argv,
            on_progress=progress.round_ended,
            on_tick=progress.tick,
            interrupt=interrupt,
            trust_code=task.trust_code,
            again=task.again,
        )
    finally:
        store.close()
        progress.remove()


def _note_failure(folder: Path, message: str) -> None:
    """Have the folder say why its run failed, also where it failed before its first event."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        facts = read_json(folder / "run.json") or {"schema_version": 1}
        write_whole(folder / "run.json", json.dumps({**facts, "status": "failed", "error": message}, indent=2) + "\n")


def _why_failed(folder: Path) -> str:
    return str((read_json(folder / "run.json") or {}).get("error", "see its log.txt"))


class _ProgressFile:
    """Tells other processes how far a run is."""

    def __init__(self, folder: Path, on_tick: Callable[[], None] | None) -> None:
        self._path = folder / "progress.json"
        self._on_tick = on_tick
        self._round: Progress | None = None
        self._last_s = 0.0

    def round_ended(self, progress: Progress) -> None:
        self._round = progress
        self.tick(progress.simulated_s)

    def tick(self, simulated_s: float) -> None:
        if time.monotonic() - self._last_s < _EVERY_S:
            return
        self._last_s = time.monotonic()
        told: dict[str, float] = {"simulated_s": simulated_s}
        if self._round is not None:
            told |= {"round": self._round.round, "rounds": self._round.rounds, "accuracy": self._round.accuracy}
        with suppress(OSError):
            write_whole(self._path, json.dumps(told))
        if self._on_tick is not None:
            self._on_tick()

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def progress_of(folder: Path) -> dict[str, float]:
    """How far the run in a folder says it is: `simulated_s`, and `round`, `rounds` and `accuracy` once it trains."""
    return read_json(folder / "progress.json") or {}
