"""Training shared with worker processes, or with a cluster.

A client's bits do not depend on its company, so any split of the jobs gives the same results. This process trains a share too;
every process runs torch on one thread.

The rule: `fit` with a number of workers shares among so many processes, this one included. Without a number, the environment
variable `NETFL_WORKERS` says how many there may be; unset, as many as this process may use cores, and one in a process that another
Python process started. Up to that number, the jobs of one call are shared if their work reaches `SHARED_WORK`, and processes start
once this process has had `STARTING_WORK` of such work to do: starting costs about as much as the import of torch, which a
short run would not earn back. Work is counted in multiply-adds: three times the forward pass, for every sample and epoch.

`training_on` names an executor (`netfl.learning.executors`) in place of the rule: every batch of a run is then cut into as many shares as
it asks for.

Workers start from a fork server that has torch loaded. They never import the script that called netfl, so it needs no
`if __name__ == "__main__"`; a model or trainer that is defined in such a script trains in this process alone. They end with
this process, however it ends.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from netfl.learning.models import Model, emptied
from netfl.learning.parcels import Lendable, Parcel, borrowed, opened, packed
from netfl.store.processes import WORKERS_NAME, cores, end_with_parent, one_thread, server, without_script

if TYPE_CHECKING:
    from netfl.learning.trainer import FitJob, FitResult, Trainer

__all__ = ["Executor", "LostShareError", "Processes", "fit", "forward_work", "stop", "train_share", "training_on", "workers_allowed"]

_LOG = logging.getLogger("netfl")

SHARED_WORK = 5e7
"""Multiply-adds of one call from which sharing pays: about ten milliseconds, of which two or three go to passing data on."""

STARTING_WORK = 2e10
"""Multiply-adds in this process from which starting workers pays: some seconds of training."""

MOST_IDLE_BYTES = 32 * 2**20
"""Memory that a share of a batch went through is kept for the next one, up to so much a worker."""

_MODULES = ("torch", "netfl.learning.paths")
"""What the server of workers has loaded."""


class Executor(Protocol):
    """Where the shares of a batch train; results do not depend on it."""

    @property
    def num_shares(self) -> int:
        """Into how many shares a batch is cut, at most."""

    @property
    def works_here(self) -> bool:
        """Whether this process trains the first of them."""

    def submit(self, shares: Sequence[Parcel]) -> Sequence[Future[bytes]]:
        """Have `train_share` work on each of these elsewhere, as one piece of bytes. A future raises `LostShareError` where that came to nothing."""

    def stop(self) -> None:
        """End what still works, and let go of the machines; a later `submit` begins anew."""


class LostShareError(Exception):
    """Whoever trained a share ended before it was done."""


_CHOSEN: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextlib.contextmanager
def training_on(executor: Executor | None) -> Iterator[None]:
    """Have every batch within train on an executor, which is stopped at the end; None goes by the rule."""
    if executor is None:
        yield
        return
    token = _CHOSEN.set(executor)
    try:
        yield
    finally:
        _CHOSEN.reset(token)
        executor.stop()


def fit(
    trainer: Trainer,
    model: Model,
    sample_shape: tuple[int, ...],
    num_classes: int,
    jobs: Sequence[FitJob],
    workers: int | None = None,
) -> list[FitResult]:
    """Train all jobs, shared with worker processes where the rule of this module says so.

    Args:
        trainer: how to train.
        model: what to train.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        jobs: any number of them.
        workers: how many processes, this one included; None to go by the rule.

    Raises:
        ValueError: what is asked is no number of workers.
    """
    task = (trainer, model, sample_shape, num_classes)
    executor, number = _executor(task, jobs, workers)
    number = min(number, len(jobs))
    if not jobs or (number <= 1 and executor.works_here) or getattr(trainer, "device", "cpu") != "cpu":
        return trainer.fit(*task[1:], jobs)
    shares = _shares([trainer.steps(len(job.labels)) for job in jobs], number)
    ours, theirs = (shares[:1], shares[1:]) if executor.works_here else ([], shares)
    try:
        calls = [packed((task, [jobs[index] for index in share])) for share in theirs]
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        _say_once(f"{type(model).__name__} trains in one process: it cannot be sent to another ({error})")
        return trainer.fit(*task[1:], jobs)
    results: dict[int, FitResult] = {}

    def train_here(share: Sequence[int]) -> None:
        results.update(zip(share, trainer.fit(*task[1:], [jobs[index] for index in share]), strict=True))

    try:
        futures = executor.submit(calls)
        for share in ours:
            train_here(share)
        for share, future in zip(theirs, futures, strict=True):
            answer = _answer(future, executor)
            if answer is None:
                train_here(share)
            else:
                results.update(zip(share, answer, strict=True))
    except BaseException:
        executor.stop()
        raise
    return [results[index] for index in range(len(jobs))]


def _executor(task: tuple[Trainer, Model, tuple[int, ...], int], jobs: Sequence[FitJob], workers: int | None) -> tuple[Executor, int]:
    """Who trains these jobs, in how many shares."""
    if workers is not None:
        return _POOL, _checked(workers, "workers")
    chosen = _CHOSEN.get()
    if chosen is not None:
        return chosen, chosen.num_shares
    return _POOL, _workers_for(*task, jobs)


def workers_allowed() -> int:
    """How many processes may train, this one included.

    Raises:
        ValueError: `NETFL_WORKERS` is no number of them.
    """
    text = os.environ.get(WORKERS_NAME, "")
    if text:
        return _checked(int(text) if text.isdecimal() else text, f"the environment variable {WORKERS_NAME}")
    return 1 if multiprocessing.parent_process() is not None else cores()


def stop() -> None:
    """End all workers now; a later `fit` starts new ones."""
    _POOL.stop()


@functools.lru_cache(maxsize=64)
def forward_work(model: Model, sample_shape: tuple[int, ...], num_classes: int) -> int:
    """About how many multiply-adds a sample's forward pass takes: for each layer, its outputs' places times its weights."""
    import torch

    with torch.device("meta"):
        module = model.build(sample_shape, num_classes)
    module = emptied(module).eval()  # really run, once: kernels of the device `meta` load torch's compiler, which takes a second
    total = 0

    def count(layer: torch.nn.Module, given: Any, output: Any) -> None:
        nonlocal total
        made = output[0] if isinstance(output, tuple) else output
        kind = torch.nn.modules.conv._ConvNd
        axis = 1 if isinstance(layer, kind) else -1
        if isinstance(made, torch.Tensor):
            weights = sum(parameter.numel() for parameter in layer.parameters(recurse=False) if parameter.dim() > 1)
            total += made.numel() // made.shape[axis] * weights

    for layer in module.modules():
        if any(parameter.dim() > 1 for parameter in layer.parameters(recurse=False)) and not isinstance(layer, torch.nn.Embedding):
            layer.register_forward_hook(count)
    for dtype in (torch.float32, torch.int64):
        total = 0
        try:
            with torch.no_grad():
                module(torch.zeros((1, *sample_shape), dtype=dtype))
        except Exception:  # code from outside, on samples that it may not like: it trains in one process
            continue
        return total
    return 0


def _workers_for(trainer: Trainer, model: Model, sample_shape: tuple[int, ...], num_classes: int, jobs: Sequence[FitJob]) -> int:
    """How many processes the rule gives these jobs."""
    samples = sum(len(job.labels) for job in jobs) * trainer.epochs
    if len(jobs) < 2:
        return 1
    work = 3 * samples * forward_work(model, sample_shape, num_classes)
    if work < SHARED_WORK:
        return 1
    allowed = workers_allowed()
    return allowed if allowed > 1 and _POOL.is_worth_it(work, allowed) else 1


def _checked(number: Any, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{what}: expected a number of processes, at least 1, got {number!r}")
    return number


def _shares(steps: Sequence[int], number: int) -> list[list[int]]:
    """Which jobs each process trains: the longest first, each to who has least; then swaps between who has most and who has least.

    Every share is in the order of the jobs.

    >>> _shares([5, 1, 4, 2], 2)
    [[0, 1], [2, 3]]
    >>> _shares([3, 3, 2, 2, 2], 2)
    [[2, 3, 4], [0, 1]]
    """
    shares: list[list[int]] = [[] for _ in range(number)]
    loads = [0] * number
    for index in sorted(range(len(steps)), key=lambda index: (-steps[index], index)):
        least = loads.index(min(loads))
        shares[least].append(index)
        loads[least] += steps[index]
    while True:
        most, least = loads.index(max(loads)), loads.index(min(loads))
        gap = loads[most] - loads[least]
        if gap <= 1:
            return [sorted(share) for share in shares]
        # What moves over and what comes back for it, if anything: nearest to half of the gap.
        swaps = [(ours, theirs) for ours in shares[most] for theirs in [None, *shares[least]]]
        moved = {swap: steps[swap[0]] - (0 if swap[1] is None else steps[swap[1]]) for swap in swaps}
        best = min(swaps, key=lambda swap: abs(2 * moved[swap] - gap), default=None)
        if best is None or not 0 < moved[best] < gap:
            return [sorted(share) for share in shares]
        ours, theirs = best
        shares[most].remove(ours)
        shares[least].append(ours)
        if theirs is not None:
            shares[least].remove(theirs)
            shares[most].append(theirs)
        loads[most] -= moved[best]
        loads[least] += moved[best]


def _answer(future: Future[bytes], executor: Executor) -> list[FitResult] | None:
    """What was trained elsewhere, or None when it was not."""
    try:
        answer: list[FitResult] | str = pickle.loads(future.result())
    except BrokenProcessPool:
        executor.stop()
        _say_once("a worker process ended early; this process trains its share")
        return None
    except LostShareError as error:
        _say_once(f"a share of a batch was lost ({error}); this process trains it")
        return None
    if isinstance(answer, str):
        _say_once(answer)
        return None
    return answer


@functools.lru_cache(maxsize=64)
def _say_once(what: str) -> None:
    _LOG.warning(what)


# --- in a worker ----------------------------------------------------------------------------------------------------------


def _begin() -> None:
    """A worker's start: one thread, none of the parent's signals, and an end when the parent ends."""
    import torch  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    one_thread()
    end_with_parent()


def train_share(share: bytes) -> bytes:
    """Train one share; a text says why a model or trainer is not known here."""
    return _trained(opened, share)


def _train_lent(path: str) -> bytes:
    """The same for one that the parent lends."""
    return _trained(borrowed, path)


def _trained(opening: Callable[[Any], Any], share: Any) -> bytes:
    try:
        (trainer, *task), jobs = opening(share)
    except (AttributeError, ImportError) as error:
        return pickle.dumps(f"a model or trainer trains in one process: a worker does not find it ({error})")
    return pickle.dumps(trainer.fit(*task, jobs), protocol=5)


def _ready() -> int:
    """Answers when the worker is there."""
    from netfl.learning import paths  # noqa: F401

    return os.getpid()


# --- the pool -------------------------------------------------------------------------------------------------------------


@dataclass
class Processes:
    """The workers of this process, which trains a share itself.

    Args:
        num_shares: into how many shares a batch is cut where `training_on` names these; a worker less than that.
        work: what shared calls have asked for so far, in multiply-adds.
    """

    num_shares: int = 1
    work: float = 0.0
    works_here = True
    _executor: ProcessPoolExecutor | None = None
    _number: int = 0
    _hellos: list[Future[int]] = field(default_factory=list)
    _owner: int = field(default_factory=os.getpid)
    _is_warm: bool = False
    _idle: list[Lendable] = field(default_factory=list)

    def is_worth_it(self, work: float, allowed: int) -> bool:
        """Whether workers are there, or are started now, after so much more work."""
        self._forget_parent()
        self.work += work
        if self._executor is None:
            if self.work >= STARTING_WORK / 2 and not self._is_warm:
                self._warm()
            if self.work >= STARTING_WORK:
                self._start(allowed - 1)
            return False
        return all(hello.done() for hello in self._hellos)

    def submit(self, shares: Sequence[Parcel]) -> list[Future[bytes]]:
        """Hand shares to the workers, which are started if there are too few."""
        self._forget_parent()
        if self._executor is None or self._number < len(shares):
            self.stop()
            self._start(len(shares))
        try:
            return [self._sent(share) for share in shares]
        except BrokenProcessPool:
            self.stop()
            self._start(len(shares))
            return [self._sent(share) for share in shares]

    def _sent(self, share: Parcel) -> Future[bytes]:
        """Hand one share to a worker: what is copied through a pipe comes late."""
        assert self._executor is not None
        with without_script():
            if not hasattr(os, "memfd_create"):
                return self._executor.submit(train_share, b"".join(share))
            memory = self._idle.pop() if self._idle else Lendable()
            try:
                answer = self._executor.submit(_train_lent, memory.put(share))
            except BrokenProcessPool:
                memory.close()
                raise
        answer.add_done_callback(lambda _: self._take_back(memory))
        return answer

    def _take_back(self, memory: Lendable) -> None:
        """Keep it for the next share: getting memory costs more than the copy."""
        if memory.num_bytes <= MOST_IDLE_BYTES and self._owner == os.getpid():
            self._idle.append(memory)
        else:
            memory.close()

    def stop(self) -> None:
        """End the workers, also in the middle of their work."""
        executor, self._executor = self._executor, None
        while self._idle:
            self._idle.pop().close()
        if executor is None:
            return
        processes = list((executor._processes or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def _forget_parent(self) -> None:
        """In a fork of the process that started the workers, they are not ours."""
        if self._owner != os.getpid():
            self._executor, self._owner, self._is_warm, self.work = None, os.getpid(), False, 0.0
            while self._idle:  # the parent writes there
                self._idle.pop().close()

    def _warm(self) -> Any:
        """Start the server that workers are forked from, and do not wait for it."""
        self._is_warm = True
        return server(_MODULES)

    def _start(self, number: int) -> None:
        self._number = number
        self._executor = ProcessPoolExecutor(number, mp_context=self._warm(), initializer=_begin)
        with without_script():
            self._hellos = [self._executor.submit(_ready) for _ in range(number)]


_POOL = Processes()
