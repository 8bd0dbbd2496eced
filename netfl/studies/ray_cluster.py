"""Points on a Ray cluster, or on a Ray that is started on this machine for as long as the study takes.

Every machine of the cluster must see the study's folder and the store under the same paths, and have netfl installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from netfl.store.clusters import connected_ray
from netfl.store.processes import one_thread
from netfl.studies.executors import Watch
from netfl.studies.run import Interrupt
from netfl.studies.tasks import Outcome, Task, run_task

__all__ = ["RayExecutor"]

_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class RayExecutor:
    """Points as Ray tasks of one core each.

    Args:
        num_cpus: how many points run at once; a Ray that is started here is told to use so many cores, never all that it finds.
        address: of a cluster, such as `ray://host:10001` or `auto`; None starts Ray on this machine.
    """

    num_cpus: int
    address: str | None = None

    def run(self, tasks: Sequence[Task], watch: Watch, interrupt: Interrupt, goes_on: Callable[[], bool]) -> None:
        """See `netfl.studies.executors.Executor`.

        Raises:
            MissingExtraError: Ray is not installed.
            RunError: there is no cluster at the address.
        """
        if not tasks:
            return
        ray = connected_ray(self.num_cpus, self.address)
        try:
            self._run(ray, tasks, watch, interrupt, goes_on)
        finally:
            ray.shutdown()

    def _run(self, ray: Any, tasks: Sequence[Task], watch: Watch, interrupt: Interrupt, goes_on: Callable[[], bool]) -> None:
        remote = ray.remote(num_cpus=1, max_retries=0)(_work)
        waiting = list(reversed(tasks))
        running: dict[Any, Task] = {}
        has_told = False
        while waiting or running:
            while waiting and len(running) < self.num_cpus and not interrupt.requested and goes_on():
                task = waiting.pop()
                running[remote.remote(task)] = task
                watch.began(task)
            if interrupt.requested and not has_told:
                has_told = True
                for reference in running:
                    ray.cancel(reference)
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY_S)
            for reference in done:
                task = running.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayError as error:
                    outcome = Outcome(task.hash, "interrupted", f"its Ray task ended: {str(error).splitlines()[0]}")
                watch.ended(task, outcome)
            watch.tick()


def _work(task: Task) -> Outcome:
    one_thread()
    return run_task(task)
