"""The dry run of a study: what each point would find in the store, and the first value that it would have to compute, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netfl.errors import NetflError
from netfl.scenario import load
from netfl.store import Disk, default_folder
from netfl.studies.explain import Replay, replay
from netfl.studies.folders import status_of
from netfl.studies.points import Plan, Point

__all__ = ["Forecast", "forecast"]

_MOST_COMPARED = 3


@dataclass(frozen=True)
class Forecast:
    """What a point would do.

    Args:
        point: which.
        action: stored; kept (it failed before); replay (all its values are stored); run; refused.
        rounds: rounds that a replay would go through before something must be computed, and of how many.
        missing: the first value that is not stored.
        why: why it is not, where that can be told.
    """

    point: Point
    action: str
    rounds: tuple[int, int] = (0, 0)
    missing: str = ""
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line."""
        if self.action == "run" and self.rounds[0]:
            head = f"replay to round {self.rounds[0]} of {self.rounds[1]}, then run"
        else:
            head = {
                "stored": "finished", "kept": "failed before: --retry-failed runs it", "replay": "replay: nothing to compute",
                "run": "run", "refused": "cannot run",
            }[self.action]  # fmt: skip
        why = f" — the first value that is missing: {self.missing}" if self.missing else ""
        return f"{head}{why}{'; ' + '; '.join(self.why) if self.why else ''}"


def forecast(made: Plan, folder: Path, *, again: tuple[str, ...] = (), trust_code: bool = False) -> Iterator[Forecast]:
    """What each point of a plan would do if the study ran now, in the plan's order. Nothing is computed and nothing is written.

    Args:
        made: the plan.
        folder: of the study.
        again: statuses of points that would be run again: failed, finished.
        trust_code: whether code that the scenarios name may run.
    """
    disk = Disk(default_folder())
    replays: dict[str, Replay] = {}

    def replayed(point: Point) -> Replay:
        if point.hash not in replays:
            replays[point.hash] = replay(load(point.scenario), disk, trust_code=trust_code)
        return replays[point.hash]

    try:
        finished = [point for point in made.points if status_of(folder / "points" / point.hash) == "finished"]
        for point in made.points:
            status = status_of(folder / "points" / point.hash)
            if status in ("finished", "failed") and status not in again:
                yield Forecast(point, "stored" if status == "finished" else "kept")
                continue
            try:
                found = replayed(point)
            except NetflError as error:
                yield Forecast(point, "refused", why=(str(error),))
                continue
            if found.missing is None:
                finished.append(point)
                yield Forecast(point, "replay", found.rounds)
                continue
            yield Forecast(point, "run", found.rounds, found.told(found.missing), _why(point, found, finished, replayed))
    finally:
        disk.close()


def _why(point: Point, found: Replay, finished: list[Point], replayed: Callable[[Point], Replay]) -> tuple[str, ...]:
    """What differs from the point that is most like this one, of those whose values are stored."""
    assert found.missing is not None
    near = sorted(finished, key=lambda other: _distance(point, other))[:_MOST_COMPARED]
    return tuple(found.why_missing(found.missing, [(f"{other.hash} ({other.title})", replayed(other)) for other in near]))


def _distance(point: Point, other: Point) -> int:
    keys = point.settings.keys() | other.settings.keys()
    different: int = sum(point.settings.get(key) != other.settings.get(key) for key in keys)
    return 2 * different + int(point.replicate != other.replicate)
