"""Ray and Slurm: how to reach them.

Every machine of a cluster must see the folders that a command names under the same paths, and have netfl installed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from netfl.errors import MissingExtraError, RunError
from netfl.store.processes import WORKERS_NAME

__all__ = ["connected_ray", "submitted_array", "waiting_in_array"]


def connected_ray(num_cpus: int, address: str | None) -> Any:
    """The module `ray`, connected.

    Args:
        num_cpus: how many cores a Ray that is started here is told to use, never all that it finds.
        address: of a cluster, such as `ray://host:10001` or `auto`; None starts Ray on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        RunError: there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("Ray is not installed: pip install 'netfl-sim[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    variables = {"OMP_NUM_THREADS": "1", WORKERS_NAME: "1"}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "runtime_env": {"env_vars": variables}}
    if address is None:
        options |= {"num_cpus": num_cpus, "include_dashboard": False}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RunError(f"no Ray cluster at '{address or 'this machine'}': {error}") from None
    return ray


def submitted_array(folder: Path, name: str, command: Sequence[str], count: int, at_once: int, options: Sequence[str]) -> str:
    """Queue an array of jobs of one core each: the command, with each job's index behind it. The array's id.

    Args:
        folder: for the script, and the log of every job.
        name: theirs.
        command: what to run.
        count: how many jobs; their indices begin at 0.
        at_once: how many of them may run at once.
        options: for sbatch, such as `--time=2:00:00`.

    Raises:
        MissingExtraError: there is no sbatch.
        RunError: sbatch refused.
    """
    if shutil.which("sbatch") is None:
        raise MissingExtraError("there is no `sbatch` on this machine: submit from a login node of the Slurm cluster")
    script = folder / f"{name}.sh"
    script.write_text(
        "#!/bin/sh\n"
        f"#SBATCH --job-name=netfl\n#SBATCH --array=0-{count - 1}%{at_once}\n#SBATCH --ntasks=1\n#SBATCH --cpus-per-task=1\n"
        f"#SBATCH --output={folder}/{name}-%a.log\n"
        f'exec {shlex.join(command)} "$SLURM_ARRAY_TASK_ID"\n',
        encoding="utf-8",
    )
    done = subprocess.run(["sbatch", "--parsable", *options, str(script)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunError(f"sbatch refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]


def waiting_in_array(job: str) -> set[int]:
    """The indices of an array's jobs that wait or run; Slurm forgets an array some time after its end."""
    done = subprocess.run(["squeue", "-h", "-r", "-j", job, "-o", "%K"], capture_output=True, text=True, check=False)
    return {int(each) for each in done.stdout.split() if each.isdecimal()} if done.returncode == 0 else set()
