"""Requests that wait at a device, computed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

import simpy
from annotated_types import Ge

from netfl.compute import Work
from netfl.units import Duration
from netfl.workloads.checks import Found, unmatched
from netfl.workloads.serving_plan import Leg
from netfl.workloads.session import Setting
from netfl.world import Computing, World

__all__ = ["Batches", "Batching"]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Requests for one piece of one version of the model that wait at a device are computed as one call.

    It takes the call's overhead once, and the counted work of all of them: what larger batches save beyond that on real hardware is left out (a
    choice, on the side of caution). One batch of a piece is computed at a time; those that come meanwhile are the next one. What
    is answered does not change: every sample's answer is computed in one fixed batching.

    Args:
        window: how long a request waits for others to come; 0 takes only those that wait anyhow, for the batch before them.
        max_requests: a batch of so many begins at once.
        devices: names or patterns of devices that do so; all but the asking ones when empty, which never do.
    """

    window: Duration = 0.0
    max_requests: Annotated[int, Ge(1)] = 16
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_requests < 1:
            raise ValueError(f"expected max_requests of at least 1, got {self.max_requests!r}")

    def problems(self, setting: Setting, sources: list[str], server: str) -> Found:
        """What is wrong with these settings on that topology."""
        for (_, *rest), message in unmatched("devices", self.devices, setting):
            yield ("devices", *rest), message

    def takes(self, device: str) -> bool:
        """Whether a device computes others' requests in batches."""
        return not self.devices or any(fnmatchcase(device, pattern) for pattern in self.devices)


class Batches:
    """The batches of one serving workload, gathering and under way.

    Args:
        settings: of batching.
        world: of the run.
        workload: its name.
        room_for: how many requests of a leg's piece there is memory for; None for any number.
    """

    def __init__(self, settings: Batching, world: World, workload: str, room_for: Callable[[Leg], int] | None = None) -> None:
        self.settings = settings
        self.world = world
        self.workload = workload
        self.room_for = room_for
        self._gathering: dict[tuple[str, int, tuple[int, ...]], _Gathering] = {}
        self._works: dict[tuple[Work, int], Work] = {}

    def add(self, leg: Leg, version: int, number: int) -> simpy.Event:
        """Have a request computed with others; the event succeeds with the batch's `Computing` when it has ended.

        Args:
            leg: with the piece that it needs.
            version: of the model.
            number: of the request.
        """
        key = (leg.device, version, leg.nodes)
        gathering = self._gathering.get(key)
        if gathering is None:
            gathering = self._gathering[key] = _Gathering(leg)
        done = self.world.env.event()
        gathering.waiting.append((self.world.now + self.settings.window, number, done))
        if self.settings.window and len(gathering.waiting) < self.settings.max_requests:
            self.world.env.timeout(self.settings.window).callbacks.append(lambda _: self._look(gathering))
        self._look(gathering)
        return done

    def _look(self, gathering: _Gathering) -> None:
        waiting = gathering.waiting
        if gathering.running or not waiting or (len(waiting) < self.settings.max_requests and self.world.now < waiting[0][0]):
            return
        leg, count = gathering.leg, min(len(waiting), self.settings.max_requests)
        assert leg.work is not None
        if self.room_for is not None:
            count = max(1, min(count, self.room_for(leg)))
        taken = [waiting.popleft() for _ in range(count)]
        work = self._works.get((leg.work, count))
        if work is None:
            work = self._works[leg.work, count] = leg.work.times(count)
        label = f"request {taken[0][1]}" if count == 1 else f"requests {', '.join(str(number) for _, number, _ in taken)}"
        gathering.running = True

        def ended(computing: Computing) -> None:
            gathering.running = False
            for _, _, done in taken:
                done.succeed(computing)
            self._look(gathering)

        self.world.compute(leg.device, work, workload=self.workload, label=label).callbacks.append(ended)


class _Gathering:
    """Requests for one piece of one version on one device: (when its window ends, number, what succeeds) of each that waits."""

    __slots__ = ("leg", "running", "waiting")

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.running = False
        self.waiting: deque[tuple[float, int, simpy.Event]] = deque()
