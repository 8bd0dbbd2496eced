"""Studies: many runs of one scenario, side by side in one folder.

A study's folder holds `sweep.json` (what varies and which points there are), `points/HASH/` (a run folder each) and `results.csv`.
A point's folder is named after the hash of its configuration, so a study that grows runs only what is new.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netfl.errors import Problem, RunError, ScenarioError
from netfl.scenario import Scenario
from netfl.scenario.reader import to_plain
from netfl.store import default_folder
from netfl.studies.executors import Executor, ProcessExecutor, SerialExecutor, Watch
from netfl.studies.figures import figures_of
from netfl.studies.folders import locked, read_json, status_of, write_whole
from netfl.studies.points import Plan, Point, plan
from netfl.studies.run import Interrupt
from netfl.studies.tasks import Outcome, Task

if TYPE_CHECKING:
    import pandas

__all__ = ["Study", "default_executor", "read_study", "rows_of", "run_plan", "sweep", "table_of"]

_DONE = ("finished", "stored")


@dataclass(frozen=True)
class Study:
    """What a sweep left behind.

    Args:
        folder: of the study.
        plan: its points.
        outcomes: what became of each point, by hash; a point that was not begun is `waiting`.
        interrupted: whether a signal ended it.
    """

    folder: Path
    plan: Plan
    outcomes: Mapping[str, Outcome]
    interrupted: bool = False

    def point_folder(self, point: Point) -> Path:
        """The run folder of a point."""
        return self.folder / "points" / point.hash

    def with_status(self, *statuses: str) -> list[Point]:
        """The points of which this became."""
        return [point for point in self.plan.points if self.outcomes[point.hash].status in statuses]

    @property
    def finished(self) -> list[Point]:
        """The points whose results are there."""
        return self.with_status(*_DONE)


def sweep(
    source: str | Path | Scenario | Mapping[str, Any],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    replicates: int | None = None,
    set: Mapping[str, Any] | None = None,  # the word of the command line
    seed: int | None = None,
    output: str | Path | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    retry_failed: bool = False,
    force: bool = False,
    trust_code: bool = False,
) -> pandas.DataFrame:
    """Run every point of a study and return a table: a row a point, a column a varied setting or figure.

    Points that are finished are not run again; one that failed raises nothing, its `status` says so.

    Args:
        source: path of a scenario file, a mapping of its contents, or a scenario made in Python; its `sweep` block holds unless
            replaced here.
        grid: path of a setting to its values.
        replicates: how many independent repetitions.
        set: path of a setting to its value, in every point.
        seed: in place of the scenario's.
        output: the study's folder; default `sweeps/NAME`.
        jobs: how many points run at once.
        executor: where they run; by default in this process for one job, else in processes.
        retry_failed: run points again that failed.
        force: run all points again.
        trust_code: whether code that the scenario names may run.

    Raises:
        ScenarioError: the study cannot be run; every reason at once.
        RunError: it was interrupted; the same call goes on.
    """
    settings = dict(set or {})
    if seed is not None:
        settings["seed"] = seed
    made = plan(source, grid=grid, replicates=replicates, settings=settings)
    again = (("failed",) if retry_failed or force else ()) + (("finished",) if force else ())
    study = run_plan(
        made, Path(output) if output is not None else Path("sweeps") / made.base.scenario.name,
        executor=executor or default_executor(jobs), again=again, trust_code=trust_code,
    )  # fmt: skip
    if study.interrupted:
        raise RunError(f"the study was interrupted; the same call goes on with what is left of '{study.folder}'")
    return table_of(study)


def default_executor(jobs: int) -> Executor:
    """In this process for one job, in so many processes else."""
    return SerialExecutor() if jobs == 1 else ProcessExecutor(jobs)


class _Silent:
    """Tells nobody."""

    def began(self, task: Task) -> None:
        """A point is running now."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A point has ended."""

    def tick(self) -> None:
        """Called several times a second."""


@dataclass
class _Books:
    """Keeps the outcomes and passes on what is told."""

    watch: Watch
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def began(self, task: Task) -> None:
        self.watch.began(task)

    def ended(self, task: Task, outcome: Outcome) -> None:
        self.outcomes[task.hash] = outcome
        self.watch.ended(task, outcome)

    def tick(self) -> None:
        self.watch.tick()


def run_plan(
    made: Plan,
    folder: Path,
    *,
    executor: Executor,
    watch: Watch | None = None,
    interrupt: Interrupt | None = None,
    again: tuple[str, ...] = (),
    fail_fast: bool = False,
    shard: tuple[int, int] | None = None,
    trust_code: bool = False,
    argv: Sequence[str] = (),
) -> Study:
    """Run the points of a plan that are not finished yet.

    Args:
        made: the plan.
        folder: of the study.
        executor: where points run.
        watch: who is told.
        interrupt: what signals set.
        again: statuses of points that are run again: failed, finished.
        fail_fast: begin no further point once one has failed.
        shard: (i, n) runs every n-th point from the i-th, counted from 1; other processes may run the others.
        trust_code: whether code that the scenario names may run.
        argv: the command, for the folders.

    Raises:
        ScenarioError: the folder cannot be used.
        LockedError: another process runs this study.
    """
    books = _Books(watch or _Silent())
    interrupt = interrupt or Interrupt()
    store = default_folder().absolute()
    with ExitStack() as stack:
        try:
            (folder / "points").mkdir(parents=True, exist_ok=True)
            name = "sweep.lock" if shard is None else f"shard-{shard[0]}-of-{shard[1]}.lock"
            stack.enter_context(locked(folder, name))
            write_whole(folder / "sweep.json", json.dumps(_facts(made, argv), indent=2) + "\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ScenarioError(Problem(f"the folder '{str(folder)[:200]}' cannot be written: {reason}", file="output")) from None
        tasks = []
        chosen = made.points if shard is None else made.points[shard[0] - 1 :: shard[1]]
        for point in chosen:
            where = (folder / "points" / point.hash).absolute()
            task = Task(
                point.hash, point.title, json.dumps(to_plain(point.scenario)), str(where), str(store), again, trust_code, tuple(argv)
            )
            status = status_of(where)
            if status == "finished" and status not in again:
                books.ended(task, Outcome(point.hash, "stored"))
            else:
                tasks.append(task)
        failed = ("failed",)

        def goes_on() -> bool:
            return not (fail_fast and any(each.status in failed for each in books.outcomes.values()))

        if tasks:
            executor.run(tasks, books, interrupt, goes_on)
        outcomes = {point.hash: books.outcomes.get(point.hash, Outcome(point.hash, "waiting")) for point in made.points}
        study = Study(folder, made, outcomes, interrupt.requested)
        _write_results(study)
    return study


def _facts(made: Plan, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "scenario": made.base.scenario.name,
        "keys": list(made.keys),
        "argv": list(argv),
        "table": list(made.table),
        "points": [
            {
                "hash": point.hash,
                "label": point.label,
                "replicate": point.replicate,
                "settings": dict(point.settings),
                "axes": dict(point.axes),
            }
            for point in made.points
        ],
    }


def read_study(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The points that a study's folder names: run folder and `{hash, label, replicate, settings}` each.

    Raises:
        ScenarioError: it is no study's folder.
    """
    facts = read_json(folder / "sweep.json")
    if facts is None or not isinstance(facts.get("points"), list):
        raise ScenarioError(Problem("expected the folder of a sweep, which holds `sweep.json`", file=str(folder)))
    return [(folder / "points" / str(point["hash"]), point) for point in facts["points"]]


def rows_of(study: Study) -> list[dict[str, Any]]:
    """A row a point: `point`, `label`, `replicate`, `status`, the varied settings, the figures and `run_dir`."""
    rows = []
    for point in study.plan.points:
        folder = study.point_folder(point)
        outcome = study.outcomes[point.hash]
        row: dict[str, Any] = {"point": point.hash, "label": point.label, "replicate": point.replicate, "status": outcome.status}
        row |= {key: point.settings.get(key) for key in study.plan.keys}
        if status_of(folder) == "finished":
            row |= figures_of(folder)
        row["run_dir"] = str(folder)
        rows.append(row)
    return rows


def _write_results(study: Study) -> None:
    rows = rows_of(study)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    temporary = study.folder / "results.csv.part"
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    temporary.replace(study.folder / "results.csv")


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def table_of(study: Study) -> pandas.DataFrame:
    """A study as a table: a row a point, with `point`, `label`, `replicate`, `status`, the varied settings, the figures and `run_dir`.

    A figure that a run does not have, such as a time that was not reached, is missing (NaN) there.
    """
    import pandas

    return pandas.DataFrame(rows_of(study))
