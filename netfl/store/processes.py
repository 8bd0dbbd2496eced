"""Processes that this one starts: forked from a server that has torch loaded, on one thread each, and gone when their parent is."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["WORKERS_NAME", "cores", "end_with_parent", "one_thread", "server", "without_script"]

WORKERS_NAME = "NETFL_WORKERS"
"""The environment variable that says how many processes may train."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def server(modules: Sequence[str]) -> Any:
    """The context that processes are made from.

    Where the system forks, they are forked from a server, which starts now and has these modules loaded (if none ran before).
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(list(modules))
    forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


@contextlib.contextmanager
def without_script() -> Iterator[None]:
    """Start processes as if this one had no script, which they would import and, without a guard, run again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def one_thread() -> None:
    """Have this process compute on one thread, and start no workers of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[WORKERS_NAME] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def end_with_parent() -> None:
    """Have this process end when the one that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
