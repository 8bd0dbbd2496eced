"""What an asking device does when the others do not answer in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netfl.units import Duration
from netfl.workloads.checks import Found, missing_device, unreachable
from netfl.workloads.session import Setting

__all__ = ["Failover"]


@dataclass(frozen=True, kw_only=True)
class Failover:
    """A limit on how long an asking device waits for the others, and what it does then.

    It begins to wait when its own piece is done; a device that answers alone waits for nobody. What it is still sending itself is cut off
    and wasted; what others have got they go on with, since nobody tells them, and their answer is not used (a choice).
    Once the network has lost the request, what follows begins at once.

    Args:
        timeout: how long it waits for each that it asks.
        then: local: it runs the whole model, from the input, whose weights are kept up to date on it, stored and paid; replica: it asks
            `replicas`, one after the other; drop: it gives up; early_exit: it answers at the last exit that its own piece has passed, at once,
            which needs the planner `early_exit` with a threshold.
        replicas: devices in place of `server`, each at the end of a path of its own with a placement of its own; paid likewise.
        last: what follows when the last replica has not answered either: drop, or local.
    """

    timeout: Duration
    then: Literal["local", "drop", "replica", "early_exit"]
    replicas: tuple[str, ...] = ()
    last: Literal["drop", "local"] = "drop"

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise ValueError("timeout: expected a duration greater than 0")
        if (self.then == "replica") != bool(self.replicas):
            raise ValueError("expected `replicas` with `then: replica`, and only there")
        if len(set(self.replicas)) != len(self.replicas):
            raise ValueError(f"replicas: expected every device once, got {', '.join(self.replicas)}")
        if self.last != "drop" and self.then != "replica":
            raise ValueError("expected `last` with `then: replica`, and only there")

    @property
    def ends_locally(self) -> bool:
        """Whether an asking device may have to run the whole model."""
        return "local" in (self.then, self.last)

    def problems(self, setting: Setting, sources: list[str], server: str) -> Found:
        """What is wrong with these settings on that topology."""
        for index, replica in enumerate(self.replicas):
            for (_, *rest), message in missing_device("replicas", replica, setting):
                yield ("replicas", index, *rest), message
            if replica == server or replica in sources:
                whose = "the `server` itself" if replica == server else "a device that asks"
                yield ("replicas", index), f"expected another device, '{replica}' is {whose}"
            yield from unreachable("replicas", sources, replica, setting)
