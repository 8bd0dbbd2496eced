"""One run: a scenario in, a folder and metrics out."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import platform
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from netfl.errors import NetflError, RunError
from netfl.learning.workers import Executor, training_on
from netfl.memory import collecting_after, collecting_seldom
from netfl.report import metrics as metrics_of
from netfl.scenario import Loaded, Scenario, load, to_yaml
from netfl.scenario.build import Bench, prepare
from netfl.store import Disk, Store, default_folder
from netfl.studies.folders import unfinished_like, write_whole, written
from netfl.workloads import Progress, Session

__all__ = ["DiskFullError", "Interrupt", "InterruptedRunError", "Run", "new_run_folder", "run", "run_folder", "run_loaded"]

_LOG = logging.getLogger("netfl")
_STEPS_BETWEEN_LOOKS = 2000
NOTHING_LEFT = "nothing can happen any more"
"""Why a run ended in which everything waits for what never comes: devices whose batteries are empty for good."""


class DiskFullError(RunError):
    """There was no room to write a run; its folder is left unfinished, and the same run goes on once there is."""


class InterruptedRunError(RunError):
    """The run was stopped by a signal; its folder is readable and says `interrupted`."""


@dataclass(frozen=True)
class Run:
    """What a run left behind.

    Args:
        metrics: the stable results, as in `metrics.json`.
        run_dir: its folder; None if nothing was written.
        scenario: what was run.
    """

    metrics: dict[str, Any]
    run_dir: Path | None
    scenario: Scenario


@dataclass
class _Looks:
    """What to tell whoever watches.

    Args:
        on_progress: called at the end of every round.
        on_tick: called about five times a second with the simulated clock.
        interrupt: what signals set.
    """

    on_progress: Callable[[Progress], None] | None
    on_tick: Callable[[float], None] | None
    interrupt: Interrupt
    last_s: float = field(default_factory=time.monotonic)

    def round_ended(self, progress: Progress) -> None:
        """Log a round and pass it on."""
        _LOG.info(
            "%s: round %d of %d, %g s simulated, accuracy %.4f",
            progress.workload, progress.round, progress.rounds, progress.simulated_s, progress.accuracy,
        )  # fmt: skip
        if self.on_progress is not None:
            self.on_progress(progress)


def run(
    source: str | Path | Scenario | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | None = None,  # the word of the command line
    seed: int | None = None,
    output: str | Path | None = None,
    store: Store | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    executor: Executor | None = None,
    trust_code: bool = False,
) -> Run:
    """Run a scenario.

    Args:
        source: path of a scenario file, a mapping of its contents, or a scenario made in Python.
        set: path of a setting (`workloads.training.rounds`) to its value, as in YAML.
        seed: in place of the scenario's.
        output: the folder to write: new, empty, or left unfinished by the same run, which is then written anew from the start. None
            writes nothing.
        store: to share computed values with other runs in this process; None uses the folder `netfl.store.default_folder()`.
        on_progress: called at the end of every round.
        executor: where batches train (`netfl.learning.executors`); None goes by the rule of `netfl.learning.workers`. Results do not
            depend on it.
        trust_code: whether code that the scenario names (`model: {kind: python}`) may run.

    Raises:
        ScenarioError: the scenario cannot be run; every reason at once.
        MissingExtraError: data, or a package that reads it, is not there.
        RunError: the run began and could not go on.
    """
    settings = dict(set or {})
    if seed is not None:
        settings["seed"] = seed
    loaded = load(source, settings)
    with collecting_after():
        return run_loaded(loaded, output=output, store=store, on_progress=on_progress, executor=executor, trust_code=trust_code)


def run_loaded(
    loaded: Loaded,
    *,
    output: str | Path | None = None,
    store: Store | None = None,
    argv: Sequence[str] = (),
    on_progress: Callable[[Progress], None] | None = None,
    on_tick: Callable[[float], None] | None = None,
    interrupt: Interrupt | None = None,
    executor: Executor | None = None,
    trust_code: bool = False,
    again: tuple[str, ...] = (),
) -> Run:
    """Run a scenario that is loaded, its `sweep` left out; see `run`.

    Args:
        loaded: the scenario.
        output: see `run`.
        store: see `run`.
        argv: the command, for the folder.
        on_progress: see `run`.
        on_tick: called about five times a second with the simulated clock.
        interrupt: what signals set.
        executor: see `run`.
        trust_code: see `run`.
        again: statuses of runs that may be written over beside unfinished ones: failed, finished.
    """
    started_s = time.perf_counter()
    loaded = loaded.single()
    try:
        with _opened(store) as open_store, _claimed(output, loaded, again) as path, training_on(executor):
            open_store.start_counting()
            bench = prepare(loaded, open_store, trust_code=trust_code)
            with _folder(path, loaded, argv) as folder:
                return _run(bench, _Looks(on_progress, on_tick, interrupt or Interrupt()), folder, started_s)
    except (OSError, sqlite3.Error, RunError) as error:
        if not _is_full(error):
            raise
        raise DiskFullError(f"no room left for '{output}': make room, and run the same command again") from None


def _is_full(error: BaseException) -> bool:
    """Whether a disk is full, or its owner's share of it; the trace says so in a `RunError`."""
    if isinstance(error, sqlite3.Error | RunError):
        return "disk is full" in str(error)  # an error that SimPy raises again has lost its code
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def _opened(store: Store | None) -> Iterator[Store]:
    """The caller's store, or the one on disk for as long as a run takes."""
    if store is not None:
        yield store
        return
    own = Store(disk=Disk(default_folder()))
    try:
        yield own
    finally:
        own.close()


def _run(bench: Bench, looks: _Looks, folder: _Folder | None, started_s: float) -> Run:
    session = bench.session(folder.trace_path if folder else None, looks.round_ended)
    try:
        return _told(bench, session, looks, folder, started_s)
    except (OSError, sqlite3.Error):
        session.world.trace.connection.close()
        raise


def _told(bench: Bench, session: Session, looks: _Looks, folder: _Folder | None, started_s: float) -> Run:
    scenario = bench.loaded.scenario
    trace = session.world.trace
    _LOG.info("run of '%s', seed %d, replicate %d", scenario.name, scenario.seed, scenario.replicate)
    error: NetflError | None = None
    try:
        with collecting_seldom():
            reason = _go(session, looks)
    except KeyboardInterrupt:
        reason = "interrupted"
        error = InterruptedRunError(f"interrupted at {session.world.now:g} s of simulated time")
    except NetflError as failure:
        reason, error = "failed", failure
    except (OSError, sqlite3.Error):
        raise
    except BaseException:
        trace.close()
        raise
    finally:
        looks.interrupt.running = False
    session.finish(reason)
    bench.store.save()
    _LOG.info("ended at %g s simulated: %s", session.world.now, reason)
    found = metrics_of(trace.connection)
    found["trace_digest"] = trace.digest()
    found["host_s"] = time.perf_counter() - started_s
    found["work"] = {
        "trained_clients": bench.store.computed["fit"] + bench.store.computed["turn"],
        "reused_clients": bench.store.reused,
        "speculated_clients": bench.store.speculated,
    }
    if session.planner_s:
        found["work"]["planner_s"] = dict(session.planner_s)
    found = {key: found[key] for key in _ordered(found)}
    trace.close()
    if folder:
        folder.computed = {"computed": dict(bench.store.computed), "first_missing": _key(bench.store)}
        folder.write_results(found, success=error is None)
    if error is not None:
        if folder and not isinstance(error, InterruptedRunError):
            error.add_note(f"the results so far are in '{folder.path}'")
        raise error
    return Run(found, folder.path if folder else None, scenario)


def _key(store: Store) -> str | None:
    return store.first_missing.hex() or None


def _go(session: Session, looks: _Looks) -> str:
    """Let simulated time pass until the run ends; the reason why it did."""
    world, stopped = session.world, session.stopped
    steps = 0
    looks.interrupt.running = True
    while not stopped.processed:
        if not world.step():
            return NOTHING_LEFT
        steps += 1
        if looks.interrupt.requested:
            raise KeyboardInterrupt
        if steps % _STEPS_BETWEEN_LOOKS == 0 and looks.on_tick is not None and time.monotonic() - looks.last_s > 0.2:
            looks.last_s = time.monotonic()
            looks.on_tick(session.world.now)
    return str(stopped.value)


def _ordered(found: Mapping[str, Any]) -> list[str]:
    first = ["trace_digest", "simulated_s", "host_s"]
    return [key for key in first if key in found] + [key for key in found if key not in first]


# --- the run folder ---------------------------------------------------------------------------------------------------------


class _Folder:
    """The files of one run."""

    def __init__(self, path: Path, loaded: Loaded, argv: Sequence[str]) -> None:
        self.path = path
        self.trace_path = path / "run.db"
        self._argv = list(argv)
        self._started = datetime.now(UTC)
        self._scenario = loaded.scenario
        self.computed: dict[str, Any] = {}
        resolved = to_yaml(loaded.scenario)
        (path / "scenario.yaml").write_text(loaded.given if loaded.given is not None else resolved, encoding="utf-8")
        (path / "resolved.yaml").write_text(resolved, encoding="utf-8")
        self.write_status("running")

    def write_status(self, status: str) -> None:
        versions = {name: metadata.version(name) for name in ("netfl-sim", "torch", "numpy", "simpy", "networkx")}
        facts = {
            "schema_version": 1,
            "status": status,
            "scenario": self._scenario.name,
            "seed": self._scenario.seed,
            "replicate": self._scenario.replicate,
            "argv": self._argv,
            "started": self._started.isoformat(timespec="seconds"),
            "ended": None if status == "running" else datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": versions,
            "store": self.computed,
        }
        write_whole(self.path / "run.json", json.dumps(facts, indent=2) + "\n")

    def write_results(self, found: Mapping[str, Any], success: bool) -> None:
        document = {"schema_version": 1, "success": success, "metrics": found}
        write_whole(self.path / "metrics.json", json.dumps(document, indent=2) + "\n")


@contextmanager
def _claimed(output: str | Path | None, loaded: Loaded, again: tuple[str, ...]) -> Iterator[Path | None]:
    """The folder for a run, or None."""
    if output is None:
        yield None
        return
    with written(Path(output), to_yaml(loaded.scenario), again) as path:
        yield path


@contextmanager
def _folder(path: Path | None, loaded: Loaded, argv: Sequence[str]) -> Iterator[_Folder | None]:
    """The run's files, with the log open and the status right whatever happens."""
    if path is None:
        yield None
        return
    folder = _Folder(path, loaded, argv)
    handler = logging.FileHandler(folder.path / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _LOG.level
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    try:
        yield folder
        folder.write_status("finished")
    except (InterruptedRunError, KeyboardInterrupt) as error:
        _LOG.warning("%s", error or "interrupted")
        with suppress(OSError):  # a full disk must not hide why the run ended
            folder.write_status("interrupted")
        raise
    except BaseException as error:
        if _is_full(error):
            with suppress(OSError):
                folder.write_status("interrupted")
            raise
        _LOG.error("%s", error, exc_info=not isinstance(error, NetflError))
        with suppress(OSError):
            folder.write_status("failed")
        raise
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)
        handler.close()


def run_folder(scenario: Scenario, root: Path = Path("runs")) -> Path:
    """The folder for a run: the newest one that the same run left unfinished, else a new one."""
    found = unfinished_like(root / scenario.name, f"Z-{_mark(scenario)}", to_yaml(scenario))
    return new_run_folder(scenario, root) if found is None else found


def new_run_folder(scenario: Scenario, root: Path = Path("runs")) -> Path:
    """A new folder `runs/NAME/UTC-STAMP-HASH`; two that are asked for at once are two."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{_mark(scenario)}"
    for number in count(1):
        path = root / scenario.name / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def _mark(scenario: Scenario) -> str:
    return hashlib.sha256(to_yaml(scenario).encode()).hexdigest()[:6]


class Interrupt:
    """Turns SIGINT and SIGTERM into an end between two events, so that no row is cut in half; a second signal ends at once.

    A context manager, for the main thread.
    """

    def __init__(self) -> None:
        self.running = False
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.running:
            raise KeyboardInterrupt
        self.requested = True
