"""Run folders: who may write one, which were left unfinished, and what of them is netfl's own.

A folder is locked while a run writes it, by a lock that ends with its process however that ends. A folder that a killed or interrupted
run left behind is written anew from the start by the same run; the store holds what it had computed.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from netfl.errors import NetflError, Problem, ScenarioError

__all__ = ["LockedError", "clear", "locked", "read_json", "status_of", "unfinished_like", "write_whole", "written"]

_LOG = logging.getLogger("netfl")
_LOCK = "netfl.lock"
_OWN = (
    "scenario.yaml", "resolved.yaml", "run.json", "run.db", "run.db-wal", "run.db-shm", "run.db-journal", "metrics.json", "log.txt",
    "progress.json", "accuracy.png", "bytes_by_link.png", "latency.png", "report.html", "host.json",
)  # fmt: skip
_UNFINISHED = ("absent", "empty", "begun", "running", "interrupted")


class LockedError(NetflError):
    """Another process is writing a folder."""


@contextmanager
def locked(folder: Path, name: str = _LOCK) -> Iterator[None]:
    """Hold a folder's lock; its file goes when the lock is given back.

    Args:
        folder: which exists.
        name: of the lock's file.

    Raises:
        LockedError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - a system without POSIX locks
        _LOG.warning("this system has no file locks: do not write '%s' from two processes", folder)
        yield
        return
    path = folder / name
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 200).decode(errors="replace").strip()
            os.close(handle)
            whom = f"another process ({holder})" if holder else "another process"
            raise LockedError(f"{whom} is writing '{folder}': wait for it, or write another folder") from None
        except BaseException:
            os.close(handle)
            raise
        try:
            if path.stat().st_ino == os.fstat(handle).st_ino:
                break
        except FileNotFoundError:
            pass
        os.close(handle)  # its holder took the file away between our opening and our locking it
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def status_of(folder: Path) -> str:
    """What became of the run in a folder.

    Returns:
        absent, empty, begun (killed before it could say anything), running (or killed), interrupted, failed, finished, or foreign: it holds
        something and no run.
    """
    if not folder.is_dir():
        return "absent"
    names = {each.name for each in folder.iterdir()} - {_LOCK}
    if not names:
        return "empty"
    facts = read_json(folder / "run.json")
    if facts is None:
        return "begun" if names <= {*_OWN, *(f"{own}.part" for own in _OWN)} else "foreign"
    status = str(facts.get("status"))
    if status == "finished":
        results = read_json(folder / "metrics.json")
        return "finished" if results is not None and results.get("success") else "running"
    return status if status in ("running", "interrupted", "failed") else "foreign"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def clear(folder: Path) -> None:
    """Take away what a run wrote into a folder.

    Raises:
        ScenarioError: it holds something else; nothing was taken away.
    """
    present = [each for each in folder.iterdir() if each.name != _LOCK]
    strange = sorted(each.name for each in present if each.name.removesuffix(".part") not in _OWN)
    if strange:
        message = f"'{folder}' holds '{strange[0]}', which no run wrote"
        raise ScenarioError(Problem(message, file="output", hint="move it, or name a new folder"))
    # The status goes last, so that a kill in between leaves an unfinished run.
    for each in sorted(present, key=lambda each: each.name == "run.json"):
        each.unlink(missing_ok=True)


@contextmanager
def written(path: Path, resolved: str, again: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder for a run, locked: new, empty, or one that the same run left unfinished, which is then cleared.

    Args:
        path: of the folder; made if it does not exist, taken away again if nothing was written.
        resolved: the scenario with every default written out.
        again: further statuses of runs that may be written over: failed, finished.

    Raises:
        ScenarioError: it cannot be made, or it holds something else.
        LockedError: another process is writing it.
    """
    with ExitStack() as stack:
        stack.callback(_drop_if_empty, path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path))
            status = status_of(path)
            if status not in (*_UNFINISHED, *again):
                raise ScenarioError(Problem(f"'{path}' is not an empty folder", file="output", hint="name a new folder"))
            if status in ("running", "interrupted") and not _is_same(path, resolved):
                message = f"'{path}' holds an unfinished run of another scenario"
                raise ScenarioError(Problem(message, file="output", hint="name a new folder"))
            clear(path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ScenarioError(Problem(f"the folder '{str(path)[:200]}' cannot be made: {reason}", file="output")) from None
        yield path


def _drop_if_empty(path: Path) -> None:
    try:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    except (OSError, ValueError):
        return


def unfinished_like(parent: Path, name_end: str, resolved: str) -> Path | None:
    """The newest folder in which a run of the same scenario was killed or interrupted and that nobody is writing.

    Args:
        parent: the folder of the scenario's runs.
        name_end: what the names of its folders hold after their stamp.
        resolved: the scenario with every default written out.
    """
    if not parent.is_dir():
        return None
    for folder in sorted(parent.iterdir(), key=lambda each: each.name, reverse=True):
        if name_end in folder.name and status_of(folder) in ("begun", "running", "interrupted") and _is_same(folder, resolved):
            try:
                with locked(folder):
                    return folder
            except LockedError:
                continue
    return None


def _is_same(folder: Path, resolved: str) -> bool:
    """Whether a folder's run is of this scenario, as far as it says."""
    try:
        return (folder / "resolved.yaml").read_text(encoding="utf-8") == resolved
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never half."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
