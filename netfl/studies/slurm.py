"""Points as an array of Slurm jobs: submitted, and then left alone.

`sbatch` takes one task a point; the command ends as soon as they are queued. The same command later says which points are finished, and
submits those that are not; a point that is still running is left to its job by its folder's lock. Every node must see the study's folder
and the store under the same paths, and have this Python.

A job runs `python -m netfl.studies.slurm TASKS INDEX`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from netfl.store.clusters import submitted_array
from netfl.store.processes import one_thread
from netfl.studies.executors import Watch
from netfl.studies.run import Interrupt
from netfl.studies.tasks import Outcome, Task, run_task

__all__ = ["SlurmExecutor", "main"]

_LARGEST_ARRAY = 1000


@dataclass(frozen=True)
class SlurmExecutor:
    """Submits and leaves.

    Args:
        folder: of the study; scripts and logs go to its `slurm/`.
        at_once: how many jobs of the array may run at once.
        options: for sbatch, such as `--time=2:00:00`.
    """

    folder: Path
    at_once: int
    options: tuple[str, ...] = ()

    def run(self, tasks: Sequence[Task], watch: Watch, interrupt: Interrupt, goes_on: Callable[[], bool]) -> None:
        """See `netfl.studies.executors.Executor`; every task ends as `submitted`.

        Raises:
            MissingExtraError: there is no sbatch.
            RunError: sbatch refused.
        """
        if not tasks:
            return
        for number, part in enumerate(_parts(tasks, _LARGEST_ARRAY)):
            job = self._submit(part, number)
            for index, task in enumerate(part):
                watch.ended(task, Outcome(task.hash, "submitted", f"job {job}_{index}"))

    def _submit(self, tasks: Sequence[Task], number: int) -> str:
        """Queue one array; its job id."""
        folder = (self.folder / "slurm").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{number}"
        listed = folder / f"{name}.json"
        listed.write_text(json.dumps([asdict(task) for task in tasks]), encoding="utf-8")
        command = [sys.executable, "-m", "netfl.studies.slurm", str(listed)]
        return submitted_array(folder, name, command, len(tasks), self.at_once, self.options)


def _parts(tasks: Sequence[Task], largest: int) -> list[Sequence[Task]]:
    return [tasks[start : start + largest] for start in range(0, len(tasks), largest)]


def main(listed: str, index: str) -> int:
    """Run one task of a list; the exit code of its job.

    Args:
        listed: path of the list.
        index: which of it.
    """
    one_thread()
    plain: dict[str, Any] = json.loads(Path(listed).read_text(encoding="utf-8"))[int(index)]
    settings: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    task = Task(**settings)
    with Interrupt() as interrupt:
        outcome = run_task(task, interrupt)
    print(f"{task.hash} ({task.title}): {outcome.status} {outcome.message}".rstrip(), flush=True)
    return 0 if outcome.status in ("finished", "stored", "busy") else 130 if outcome.status == "interrupted" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
