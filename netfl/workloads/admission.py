"""Requests whose activations do not fit beside what a device holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any, Literal

import simpy

from netfl.workloads.serving_plan import Leg
from netfl.world import World

__all__ = ["Admission", "ShortOfMemory"]

ShortOfMemory = Literal["ignore", "wait", "reject"]


class Admission:
    """Looks, when a request comes to a device, whether its activations fit beside the models stored there and the work that has begun.

    Those who wait go in in the order in which they came, looked at whenever work ends there or something else is stored.

    Args:
        world: of the run.
        otherwise: wait, or reject.
    """

    def __init__(self, world: World, otherwise: Literal["wait", "reject"]) -> None:
        self.world = world
        self.otherwise = otherwise
        self._queues: dict[str, deque[simpy.Event]] = {}

    def room_for(self, leg: Leg) -> int:
        """How many requests of a leg's piece there is memory for now."""
        needed_bytes = 0 if leg.work is None else leg.work.memory_bytes
        return max(0, self.world.free_bytes(leg.device)) // max(1, needed_bytes)

    def enter(self, leg: Leg) -> Generator[Any, Any, bool]:
        """Whether a request's piece may be computed on the leg's device, after waiting if need be."""
        queue = self._queues.setdefault(leg.device, deque())
        if not queue and self.room_for(leg):
            return True
        if self.otherwise == "reject":
            return False
        turn = self.world.env.event()
        queue.append(turn)
        if len(queue) > 1:
            yield turn
        while not self.room_for(leg):
            yield self.world.memory_changed(leg.device)
        queue.popleft()
        if queue:
            queue[0].succeed()
        return True
