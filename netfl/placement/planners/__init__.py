"""Planners: pure functions from a profile and a path to a placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from netfl.parts import Family
from netfl.placement.plan import Path, Placement
from netfl.placement.profile import Profile

__all__ = ["PLANNERS", "Planner"]


class Planner(Protocol):
    """Decides which tier of a path runs which nodes.

    Equal arguments give equal placements: a planner reads no clock, draws nothing, and breaks ties by order on the path.
    """

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """The placement of a profile on a path.

        Args:
            profile: the model's nodes, and what each output is on a wire where that is known; `netfl.placement.plan.wire_bytes` reads it.
            path: the devices that may run them, the asking one first.
            encoded_bytes: wire bytes of one tensor of so many values, where a node does not say.
            result_bytes: wire bytes of the result.

        Raises:
            NetflError: nothing that this planner may choose fits; the message says which memory is short, and by how much.
        """
        ...


PLANNERS = Family(
    "planners",
    {
        "device_only": "netfl.placement.planners.baselines:DeviceOnly",
        "upload": "netfl.placement.planners.baselines:Upload",
        "fixed": "netfl.placement.planners.baselines:Fixed",
        "chain": "netfl.placement.planners.chain:Chain",
        "mincut": "netfl.placement.planners.mincut:MinCut",
        "memory_proportional": "netfl.placement.planners.proportional:MemoryProportional",
        "simulate": "netfl.placement.planners.simulate:Simulate",
        "adaptive": "netfl.placement.planners.adaptive:Adaptive",
        "early_exit": "netfl.placement.planners.early_exit:EarlyExit",
        "milp": "netfl.placement.planners.milp:Milp",
        "route": "netfl.placement.planners.route:Route",
    },
)
"""The kinds of planner that a scenario can name."""
