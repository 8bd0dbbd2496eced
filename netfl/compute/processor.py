"""The processor of a device: by priority and then first come, first served, between steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import simpy

from netfl.compute.profiles import DeviceProfile
from netfl.compute.work import Work

__all__ = ["Job", "Past", "Processor", "Uptime"]


class Past(NamedTuple):
    """What a processor did: all that an idle one has to remember.

    Args:
        busy_s: its seconds of work.
        waiting_s: for how long jobs waited, added up over the jobs, the one at work not counted.
        most_waiting: the most jobs that ever waited at once, the one at work not counted.
        peak_memory_bytes: the most that work that had begun and not ended ever held.
    """

    busy_s: float = 0.0
    waiting_s: float = 0.0
    most_waiting: int = 0
    peak_memory_bytes: int = 0


class Uptime(Protocol):
    """When a device is up, as a function of time."""

    def finish_of(self, start_s: float, work_s: float) -> float:
        """The time when `work_s` seconds of up time have passed since `start_s`."""
        ...


class Job:
    """Work that was given to a processor.

    Args:
        work: what to do.
        step_s: seconds a step on this processor.
        queued_s: when it was given.
        on_end: called with this job when its last step has ended; None for nobody.
    """

    __slots__ = ("busy_s", "end_s", "on_end", "queued_s", "start_s", "step_s", "steps_left", "work")

    def __init__(self, work: Work, step_s: float, queued_s: float, on_end: Callable[[Job], None] | None) -> None:
        self.work = work
        self.step_s = step_s
        self.queued_s = queued_s
        self.on_end = on_end
        self.steps_left = work.steps
        self.busy_s = work.steps * step_s
        self.start_s = float("nan")
        self.end_s = float("nan")

    @property
    def waited_s(self) -> float:
        """Seconds between being given and ending in which the processor did something else, or was down."""
        return max(0.0, self.end_s - self.queued_s - self.busy_s)


_NO_PAST = Past()
_NOBODY: deque[Job] = deque(maxlen=0)
"""The queue of an idle processor: one of its own takes 700 bytes, and there may be a hundred thousand of them."""


class Processor:
    """One queue of jobs; a job with steps left goes to its end whenever another job waits.

    So a request of one step that arrives during local training waits for the mini-batch in progress, not for the epoch. Work of higher
    priority goes before all that waits with a lower one; the step in progress always runs to its end.
    A job that is alone costs one event, however many steps it has.

    Args:
        env: the event loop.
        profile: what the device can do.
        uptime: when it is up; while it is down its work stands still.
        announce: called with whether there is work, when that changes; None for nobody.
        past: what it did before.
        memory_bytes: what work that has begun and not ended holds.
        peak_memory_bytes: the most that this ever was.
        most_waiting: the most jobs that ever waited at once, the one at work not counted.
    """

    __slots__ = (
        *("_announce", "_counted_s", "_env", "_finished_s", "_queue", "_stint", "_stint_start_s", "_stint_steps", "_uptime", "_waiting_s"),
        *("memory_bytes", "most_waiting", "peak_memory_bytes", "profile"),
    )

    def __init__(
        self,
        env: simpy.Environment,
        profile: DeviceProfile,
        uptime: Uptime,
        announce: Callable[[bool], None] | None = None,
        past: Past = _NO_PAST,
    ) -> None:
        self.profile = profile
        self._env = env
        self._uptime = uptime
        self._announce = announce
        self._queue = _NOBODY
        self._stint_start_s = 0.0
        self._stint_steps = 0
        self._stint = 0
        self._finished_s, self._waiting_s, self.most_waiting, self.peak_memory_bytes = past
        self.memory_bytes = 0
        self._counted_s = 0.0

    def submit(self, work: Work, on_end: Callable[[Job], None] | None = None) -> Job:
        """Queue the work; `on_end` is called with the job, at the instant, when it has ended."""
        job = Job(work, work.step_s(self.profile), self._env.now, on_end)
        self._count_waiting()
        self._enqueue(job)
        if len(self._queue) > self.most_waiting + 1:
            self.most_waiting = len(self._queue) - 1
        if len(self._queue) == 1:
            self._begin()
            if self._announce is not None:
                self._announce(True)
        elif self._stint_steps > 1:
            self._cut_stint()
        return job

    @property
    def rests(self) -> bool:
        """Whether another one that begins with its past could take its place: it is idle, and nobody is told when that changes."""
        return not self._queue and self._announce is None

    def past(self) -> Past:
        """What it did so far, whole steps of the stint in progress included."""
        return Past(self.busy_s(), self.waiting_s(), self.most_waiting, self.peak_memory_bytes)

    def book(self, busy_s: float, memory_bytes: int) -> None:
        """Count work that was done beside the queue, with the most memory that it held."""
        self._finished_s += busy_s
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory_bytes)

    def busy_s(self) -> float:
        """Processor seconds so far, whole steps of the stint in progress included."""
        if not self._queue:
            return self._finished_s
        return self._finished_s + self._steps_ended(at_least=0) * self._queue[0].step_s

    def waiting_s(self) -> float:
        """How long jobs have waited so far, added up over the jobs, the one at work not counted."""
        self._count_waiting()
        return self._waiting_s

    def _count_waiting(self) -> None:
        now = self._env.now
        if len(self._queue) > 1:
            self._waiting_s += (len(self._queue) - 1) * (now - self._counted_s)
        self._counted_s = now

    def recheck(self) -> None:
        """When it is up is not what was foreseen: the stint in progress ends at another time."""
        if self._queue:
            self._end_stint_after(self._stint_steps)

    def _enqueue(self, job: Job, running: bool = True) -> None:
        """Behind everyone of its own priority or a higher one; the first of the queue is at work, if anything is running."""
        if self._queue is _NOBODY:
            self._queue = deque()
        queue, priority = self._queue, job.work.priority
        place, least = len(queue), 1 if running else 0
        while place > least and queue[place - 1].work.priority < priority:
            place -= 1
        if place == len(queue):
            queue.append(job)
        else:
            queue.insert(place, job)

    def _begin(self) -> None:
        job = self._queue[0]
        self._stint_start_s = self._env.now
        if job.steps_left == job.work.steps:
            job.start_s = self._env.now
            self.memory_bytes += job.work.memory_bytes
            self.peak_memory_bytes = max(self.peak_memory_bytes, self.memory_bytes)
        self._end_stint_after(job.steps_left if len(self._queue) == 1 else 1)

    def _cut_stint(self) -> None:
        """Somebody waits now: end the stint with the step in progress."""
        self._end_stint_after(self._steps_ended(at_least=1, rounded_up=True))

    def _steps_ended(self, at_least: int, rounded_up: bool = False) -> int:
        """How many steps of the stint have ended by now; rounded up, the one in progress counts too."""
        low, high = at_least, self._stint_steps
        step_s = self._queue[0].step_s
        if rounded_up:
            while low < high:
                middle = (low + high) // 2
                if self._uptime.finish_of(self._stint_start_s, middle * step_s) >= self._env.now:
                    high = middle
                else:
                    low = middle + 1
            return low
        while low < high:
            middle = (low + high + 1) // 2
            if self._uptime.finish_of(self._stint_start_s, middle * step_s) <= self._env.now:
                low = middle
            else:
                high = middle - 1
        return low

    def _end_stint_after(self, steps: int) -> None:
        self._stint_steps = steps
        self._stint += 1
        end_s = self._uptime.finish_of(self._stint_start_s, steps * self._queue[0].step_s)
        if end_s == float("inf"):
            return
        self._env.timeout(max(0.0, end_s - self._env.now), self._stint).callbacks.append(self._stint_ended)

    def _stint_ended(self, timer: simpy.Event) -> None:
        if timer.value != self._stint:  # it was to end at another time
            return
        self._count_waiting()
        job = self._queue.popleft()
        job.steps_left -= self._stint_steps
        self._finished_s += self._stint_steps * job.step_s
        self._stint_steps = 0
        if job.steps_left:
            self._enqueue(job, running=False)
        else:
            self.memory_bytes -= job.work.memory_bytes
            job.end_s = self._env.now
        if self._queue:
            self._begin()
        else:
            self._queue = _NOBODY
            if self._announce is not None:
                self._announce(False)
        # Last, since whoever hears of it may bring more work.
        if not job.steps_left and job.on_end is not None:
            on_end, job.on_end = job.on_end, None  # who mostly has this job: a cycle that would wait for the garbage collector
            on_end(job)
