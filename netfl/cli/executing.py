"""The options that say where things run, of `netfl run` and `netfl sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netfl.learning.executors import Executor as BatchExecutor
    from netfl.studies.executors import Executor as PointExecutor

__all__ = ["EXECUTORS", "address_option", "batch_executor", "point_executor", "slurm_option"]

EXECUTORS = ["serial", "process", "ray", "slurm"]

address_option = click.option("--address", help="Of a Ray cluster, such as ray://host:10001; without it, Ray starts on this machine.")
slurm_option = click.option(
    "--slurm", "slurm_options", multiple=True, metavar="OPTION", help="For sbatch, such as --time=2:00:00. Repeatable."
)


def batch_executor(name: str | None, jobs: int | None, address: str | None, slurm_options: tuple[str, ...]) -> BatchExecutor | None:
    """Where the batches of a run train; None for the rule.

    Raises:
        click.UsageError: options that do not belong together.
    """
    _check(name, jobs, address, slurm_options)
    if name is None:
        if jobs is None:
            return None
        name = "process"
    from netfl.learning.executors import Processes, Ray, Slurm
    from netfl.store import default_folder
    from netfl.store.processes import cores

    number = jobs or cores()
    if name == "ray":
        return Ray(number, address)
    if name == "slurm":
        return Slurm(number, default_folder() / "batches", slurm_options)
    return Processes(1 if name == "serial" else number)


def point_executor(name: str | None, jobs: int, address: str | None, slurm_options: tuple[str, ...], folder: Path) -> PointExecutor:
    """Where the points of a study run.

    Raises:
        click.UsageError: options that do not belong together.
    """
    _check(name, jobs, address, slurm_options)
    from netfl.studies.executors import ProcessExecutor, SerialExecutor

    if name == "ray":
        from netfl.studies.ray_cluster import RayExecutor

        return RayExecutor(jobs, address)
    if name == "slurm":
        from netfl.studies.slurm import SlurmExecutor

        return SlurmExecutor(folder, jobs, slurm_options)
    return SerialExecutor() if name == "serial" or (name is None and jobs == 1) else ProcessExecutor(jobs)


def _check(name: str | None, jobs: int | None, address: str | None, slurm_options: tuple[str, ...]) -> None:
    if address is not None and name != "ray":
        raise click.UsageError("--address is for --executor ray")
    if slurm_options and name != "slurm":
        raise click.UsageError("--slurm is for --executor slurm")
    if name == "serial" and (jobs or 1) > 1:
        raise click.UsageError("--executor serial runs one job at a time: leave out -j")
