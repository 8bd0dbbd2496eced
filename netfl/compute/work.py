"""Counted work, and the time that it takes on a device."""

from __future__ import annotations

from dataclasses import dataclass, replace

from netfl.compute.profiles import DeviceProfile

__all__ = ["Work"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work for one processor, counted and never timed.

    Args:
        kind: training, inference or aggregation.
        flop: floating-point operations in all; a multiply-accumulate counts two.
        moved_bytes: bytes that memory moves in all.
        steps: how many equal, indivisible steps (mini-batches) it is made of; other work may run between them.
        memory_bytes: what it holds from its first step to its last.
        counted_s: seconds that the whole of it takes on its device besides overhead, where they were added up operation by operation
            (a measured one, or each with a roofline of its own); where absent, the roofline is taken over all of it.
        priority: waiting work of a higher one goes first; a step in progress is never cut short.
    """

    kind: str
    flop: float
    moved_bytes: float = 0.0
    steps: int = 1
    memory_bytes: int = 0
    counted_s: float | None = None
    priority: int = 0

    def times(self, count: int) -> Work:
        """So many of it in one step: all that is counted so many times, but one call."""
        counted_s = None if self.counted_s is None else count * self.counted_s
        return replace(
            self, flop=count * self.flop, moved_bytes=count * self.moved_bytes, memory_bytes=count * self.memory_bytes, counted_s=counted_s
        )

    def step_s(self, profile: DeviceProfile) -> float:
        """Seconds a step, by the roofline: overhead + max(flop / rate, bytes / bandwidth).

        Training runs at the profile's training rate, everything else at its inference rate.
        """
        if self.counted_s is not None:
            return profile.overhead_s + self.counted_s / self.steps
        rate = profile.training_flop_per_s if self.kind == "training" else profile.inference_flop_per_s
        return profile.overhead_s + max(self.flop / rate, self.moved_bytes / profile.memory_bytes_per_s) / self.steps
