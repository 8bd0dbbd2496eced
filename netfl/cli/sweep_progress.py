"""Progress of a study on stderr: an overall bar and a line for each running point, with both clocks; plain lines off a terminal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from netfl.studies.tasks import Outcome, Task, progress_of
from netfl.units import format_duration

__all__ = ["SweepWatcher"]

_PLAIN_EVERY_S = 30.0
_LIVE_EVERY_S = 0.5
_TOLD_LETTERS = 56
"""What a line says of its point, at its longest; the bar, and then the title, get the rest of a terminal's width."""


class SweepWatcher:
    """Shows how far a study is; a context manager.

    Args:
        points: how many there are.
        jobs: how many run at once.
        silent: show nothing.
    """

    def __init__(self, points: int, jobs: int, silent: bool) -> None:
        self._silent = silent
        self._live = not silent and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
        self._points, self._jobs = points, jobs
        self._started_s = self._shown_s = time.monotonic()
        self._ended = 0
        self._host_s: list[float] = []
        self._running: dict[str, tuple[Task, float]] = {}
        self._bars: Any = None

    def __enter__(self) -> SweepWatcher:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(stderr=True)
            bar_width = 8 if console.width < 110 else 24
            self._title_letters = max(8, min(60, console.width - bar_width - _TOLD_LETTERS - 2))
            self._bars = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width), TextColumn("{task.fields[told]}", markup=False),
                console=console, transient=True,
            )  # fmt: skip
            self._overall = self._bars.add_task("points", total=self._points, told="")
            self._lines: dict[str, Any] = {}
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def began(self, task: Task) -> None:
        """A point is running now."""
        self._running[task.hash] = (task, time.monotonic())
        if self._bars is not None:
            self._lines[task.hash] = self._bars.add_task(_cut(task.title, self._title_letters), total=None, told="")

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A point has ended."""
        self._running.pop(task.hash, None)
        self._ended += 1
        if outcome.status == "finished":
            self._host_s.append(outcome.host_s)
        if self._bars is not None:
            if task.hash in self._lines:
                self._bars.remove_task(self._lines.pop(task.hash))
            self._update()
        elif not self._silent and outcome.status != "stored":
            self._shown_s = time.monotonic()
            print(f"{self._overall_line()} · {task.title}: {outcome.status}", file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Time passes."""
        if self._silent or time.monotonic() - self._shown_s < (_PLAIN_EVERY_S if self._bars is None else _LIVE_EVERY_S):
            return
        self._shown_s = time.monotonic()
        if self._bars is not None:
            self._update()
            return
        for task, started_s in self._running.values():
            print(f"{self._overall_line()} · {task.title}: {_line(task, started_s)}", file=sys.stderr, flush=True)

    def _update(self) -> None:
        self._bars.update(self._overall, completed=self._ended, told=self._overall_line())
        for task, started_s in self._running.values():
            if task.hash in self._lines:
                found = progress_of(Path(task.folder))
                self._bars.update(
                    self._lines[task.hash], total=found.get("rounds"), completed=found.get("round", 0), told=_line(task, started_s, found)
                )

    def _overall_line(self) -> str:
        line = f"{self._ended}/{self._points} points · real {format_duration(max(time.monotonic() - self._started_s, 0.001))}"
        left = self._points - self._ended
        if self._host_s and left:
            per_point_s = sum(self._host_s) / len(self._host_s)
            line += f" · about {format_duration(max(left * per_point_s / self._jobs, 1.0))} left"
        return line


def _cut(title: str, letters: int) -> str:
    """The end of a title too: points of a study often differ there."""
    return title if len(title) <= letters else f"{title[: letters // 2 - 1]}…{title[letters // 2 - letters :]}"


def _line(task: Task, started_s: float, found: dict[str, float] | None = None) -> str:
    """How far a point is: `round 3/20 · sim 2 min · acc 0.810 · real 4 s`."""
    found = progress_of(Path(task.folder)) if found is None else found
    parts = []
    if "round" in found:
        parts.append(f"round {found['round']:.0f}/{found['rounds']:.0f}")
    if "simulated_s" in found:
        parts.append(f"sim {format_duration(found['simulated_s'])}")
    if "accuracy" in found:
        parts.append(f"acc {found['accuracy']:.3f}")
    parts.append(f"real {format_duration(max(time.monotonic() - started_s, 0.001))}")
    return " · ".join(parts)
