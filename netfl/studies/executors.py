"""Where the points of a study run: in this process, in several, on a Ray cluster, or as an array of Slurm jobs.

A task is plain text and its result lies in its folder, so every executor gives the same results.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from netfl.store.processes import end_with_parent, one_thread, server, without_script
from netfl.studies.run import Interrupt
from netfl.studies.tasks import Outcome, Task, run_task

__all__ = ["Executor", "ProcessExecutor", "SerialExecutor", "Watch"]

_LOOK_EVERY_S = 0.2
_MODULES = ("torch", "netfl.learning.paths", "netfl.studies.executors")


class Watch(Protocol):
    """Who is told how a study goes on."""

    def began(self, task: Task) -> None:
        """A point is running now."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A point has ended."""

    def tick(self) -> None:
        """Called several times a second."""


class Executor(Protocol):
    """Runs tasks."""

    def run(self, tasks: Sequence[Task], watch: Watch, interrupt: Interrupt, goes_on: Callable[[], bool]) -> None:
        """Run all tasks, each told to the watch when it begins and when it ends; what was not begun is not told.

        Args:
            tasks: in the order in which they begin.
            watch: who is told.
            interrupt: once it is requested, nothing begins any more and what runs is interrupted.
            goes_on: whether further tasks may begin.
        """


@dataclass(frozen=True)
class SerialExecutor:
    """One point after another, in this process."""

    def run(self, tasks: Sequence[Task], watch: Watch, interrupt: Interrupt, goes_on: Callable[[], bool]) -> None:
        """See `Executor`."""
        for task in tasks:
            if interrupt.requested or not goes_on():
                return
            watch.began(task)
            watch.ended(task, run_task(task, interrupt, watch.tick))


@dataclass(frozen=True)
class ProcessExecutor:
    """Several points at once, each in a process of its own, which is forked from a server that has torch loaded.

    A process that ends for want of memory, or is killed, takes its own point with it and no other.

    Args:
        num_processes: how many run at once.
    """

    num_processes: int

    def run(self, tasks: Sequence[Task], watch: Watch, interrupt: Interrupt, goes_on: Callable[[], bool]) -> None:
        """See `Executor`."""
        context = server(_MODULES)
        waiting = list(reversed(tasks))
        running: dict[Any, _Running] = {}
        has_told = False
        try:
            while waiting or running:
                while waiting and len(running) < self.num_processes and not interrupt.requested and goes_on():
                    started = _Running.start(context, waiting.pop())
                    running[started.process.sentinel] = started
                    watch.began(started.task)
                if interrupt.requested and not has_told:
                    has_told = True
                    for each in running.values():
                        each.process.terminate()
                if not running:
                    return
                for ended in wait(list(running), timeout=_LOOK_EVERY_S):
                    each = running.pop(ended)
                    watch.ended(each.task, each.outcome())
                watch.tick()
        finally:
            for each in running.values():
                each.process.kill()


@dataclass
class _Running:
    """A point in a process."""

    task: Task
    process: Any
    answers: Connection
    _found: list[Outcome] = field(default_factory=list)

    @classmethod
    def start(cls, context: Any, task: Task) -> _Running:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(task, theirs), name=f"netfl {task.hash}")
        with without_script():
            process.start()
        theirs.close()
        return cls(task, process, ours)

    def outcome(self) -> Outcome:
        """What the process said before it ended."""
        try:
            found: Outcome = self.answers.recv()
        except EOFError:
            self.process.join()
            found = Outcome(self.task.hash, "interrupted", f"its process ended with {_ending(self.process.exitcode)}")
        self.answers.close()
        self.process.join()
        return found


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def _work(task: Task, answers: Connection) -> None:
    """What a point's process does: the parent says when to end, and it ends with the parent."""
    one_thread()
    end_with_parent()
    with Interrupt() as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answers.send(run_task(task, interrupt))
