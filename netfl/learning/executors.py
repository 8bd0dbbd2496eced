"""Where a run trains its batches: in this process, in several, on a Ray cluster, or in Slurm jobs that it waits for.

A share of a batch goes there as bytes and its results come back as bytes; a client's bits do not depend on its company, so results are the
same on all of them. On a cluster this process trains nothing itself.

A Slurm job runs `python -m netfl.learning.executors FOLDER INDEX`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netfl.learning.parcels import Parcel
from netfl.learning.workers import Executor, LostShareError, Processes, train_share
from netfl.store.clusters import connected_ray, submitted_array, waiting_in_array
from netfl.store.processes import one_thread

__all__ = ["Executor", "Processes", "Ray", "Slurm", "main"]

_LOOK_EVERY_S = 0.1
_ASK_EVERY_S = 5.0


@dataclass
class Ray:
    """Shares as Ray tasks of one core each; Ray starts, or is reached, when the first batch trains.

    Args:
        num_shares: how many train at once; a Ray that is started here is told to use so many cores, never all that it finds.
        address: of a cluster, such as `ray://host:10001` or `auto`; None starts Ray on this machine.
    """

    num_shares: int
    address: str | None = None
    works_here = False
    _ray: Any = field(default=None, init=False)

    def submit(self, shares: Sequence[Parcel]) -> list[Future[bytes]]:
        """See `Executor`.

        Raises:
            MissingExtraError: Ray is not installed.
            RunError: there is no cluster at the address.
        """
        if self._ray is None:
            self._ray = connected_ray(self.num_shares, self.address)
        remote = self._ray.remote(num_cpus=1, max_retries=0)(train_share)
        return [self._answered(remote.remote(b"".join(share))) for share in shares]

    def stop(self) -> None:
        """See `Executor`."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None

    def _answered(self, reference: Any) -> Future[bytes]:
        ray, answer = self._ray, Future[bytes]()

        def told(found: Future[bytes]) -> None:
            error = found.exception()
            if error is None:
                answer.set_result(found.result())
            elif isinstance(error, ray.exceptions.RayTaskError):
                answer.set_exception(error.cause if isinstance(error.cause, Exception) else error)
            else:
                answer.set_exception(LostShareError(f"its Ray task ended: {str(error).partition(chr(10))[0]}"))

        reference.future().add_done_callback(told)
        return answer


@dataclass
class Slurm:
    """Shares as an array of Slurm jobs of one core each, which this process waits for.

    Args:
        num_shares: how many jobs a batch is cut into; they may run at once.
        folder: that every node sees under the same path, such as the store's; each batch has a folder of its own in it while it trains.
        options: for sbatch, such as `--time=2:00:00`.
    """

    num_shares: int
    folder: Path
    options: tuple[str, ...] = ()
    works_here = False
    _batches: list[_Batch] = field(default_factory=list, init=False)

    def submit(self, shares: Sequence[Parcel]) -> list[Future[bytes]]:
        """See `Executor`.

        Raises:
            MissingExtraError: there is no sbatch.
            RunError: sbatch refused.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="batch-", dir=self.folder.absolute()))  # for nobody else: answers are believed
        try:
            for index, share in enumerate(shares):
                (folder / f"share-{index}").write_bytes(b"".join(share))
            command = [sys.executable, "-m", "netfl.learning.executors", str(folder)]
            job = submitted_array(folder, "batch", command, len(shares), self.num_shares, self.options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        batch = _Batch(folder, job, [Future[bytes]() for _ in shares])
        self._batches = [each for each in self._batches if not each.is_over] + [batch]
        threading.Thread(target=batch.watch, name=f"netfl Slurm job {job}", daemon=True).start()
        return batch.answers

    def stop(self) -> None:
        """See `Executor`."""
        for batch in self._batches:
            batch.cancel()
        self._batches = []


@dataclass
class _Batch:
    """An array of jobs."""

    folder: Path
    job: str
    answers: list[Future[bytes]]
    is_over: bool = False

    def watch(self) -> None:
        """Wait for answers, and for jobs that ended without one; then the folder goes."""
        missing = dict(enumerate(self.answers))
        asked_s, gone = time.monotonic(), set[int]()
        while missing and not self.is_over:
            for index in list(missing):
                path = self.folder / f"answer-{index}"
                if path.exists():
                    missing.pop(index).set_result(path.read_bytes())
            if missing and time.monotonic() - asked_s > _ASK_EVERY_S:
                asked_s = time.monotonic()
                absent = missing.keys() - waiting_in_array(self.job)
                for index in absent & gone:  # twice not in the queue, with time for its answer to be seen in between
                    log = self.folder / f"batch-{index}.log"
                    words = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
                    missing.pop(index).set_exception(LostShareError(f"Slurm job {self.job}_{index} ended: {(words or ['no log'])[-1]}"))
                gone = absent
            time.sleep(_LOOK_EVERY_S)
        self.is_over = True
        for answer in missing.values():
            answer.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cancel(self) -> None:
        """End the jobs."""
        if not self.is_over:
            self.is_over = True
            subprocess.run(["scancel", self.job], capture_output=True, check=False)


def main(folder: str, index: str) -> int:
    """Train one share of a batch; the exit code of its job."""
    one_thread()
    place = Path(folder)
    answer = train_share((place / f"share-{index}").read_bytes())
    temporary = place / f"answer-{index}.part"
    temporary.write_bytes(answer)
    temporary.rename(place / f"answer-{index}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
