"""How the requests of one source are answered: a placement, made ready for the event loop."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from netfl.compute import Work
from netfl.placement import Placement, Profile, Tier
from netfl.placement.plan import nodes_s

__all__ = ["Leg", "ServingHop", "ServingPlan", "nodes_of", "plan_of"]


@dataclass(frozen=True)
class Leg:
    """One device's part in the requests of a source.

    Args:
        device: who computes.
        work: its piece; None for a relay.
        boundary: index of the boundary behind it.
        nodes: its piece's, by their place in the profile.
    """

    device: str
    work: Work | None
    boundary: int
    nodes: tuple[int, ...] = ()


class ServingHop(NamedTuple):
    """One hop of a request or of its answer.

    Args:
        source: who sends.
        destination: who gets it.
        kind: of the message.
        boundary: index of the boundary that crosses it; -1 for the answer.
        leg: what the receiver then computes; None for nothing.
    """

    source: str
    destination: str
    kind: Literal["request", "activation", "reply"]
    boundary: int
    leg: Leg | None


@dataclass(frozen=True)
class ServingPlan:
    """How the requests of one source are answered.

    Args:
        placement: the planner's.
        legs: from the source as far as the last piece.
        devices: those that compute.
        described: the placement for the trace.
        hops: all the way out and back, in order.
    """

    placement: Placement
    legs: tuple[Leg, ...]
    devices: tuple[str, ...]
    described: str
    hops: tuple[ServingHop, ...]

    @property
    def nodes(self) -> dict[str, tuple[int, ...]]:
        """The nodes that each computing device runs, by their place in the profile."""
        return {leg.device: leg.nodes for leg in self.legs if leg.work is not None}


def plan_of(placement: Placement, profile: Profile, tiers: tuple[Tier, ...], priority: int = 0) -> ServingPlan:
    """The plan that does what a placement says.

    Args:
        placement: of a source's requests.
        profile: of the model, in its own order.
        tiers: of the source's path.
        priority: of the work.
    """
    nodes = nodes_of(placement)
    placed = placement.arranged(profile)
    legs = []
    last = max(index for index, (_, start, stop) in enumerate(placement.pieces) if stop > max(start, 1) or index == 0)
    for boundary, (device, start, stop) in enumerate(placement.pieces[: last + 1]):
        work = None
        if stop > max(start, 1):
            flop, moved_bytes = placed.work(max(start, 1), stop)
            if start:
                flop += sum(node.decode_flop for node in placed.nodes[start:stop])
            work = Work(
                kind="inference",
                flop=flop,
                moved_bytes=moved_bytes,
                memory_bytes=placed.activation_bytes(max(start, 1), stop),
                counted_s=nodes_s(placed, tiers[boundary], start, stop),
                priority=priority,
            )
        legs.append(Leg(device, work, boundary, tuple(sorted(nodes.get(device, ())))))
    computing = tuple(leg.device for leg in legs if leg.work is not None)
    return ServingPlan(placement, tuple(legs), computing, placement.describe(), _hops(legs, placement.cuts))


def _hops(legs: list[Leg], cuts: tuple[int, ...]) -> tuple[ServingHop, ...]:
    out = [
        ServingHop(
            leg.device, ahead.device, "request" if cuts[leg.boundary] <= 1 else "activation", leg.boundary, ahead if ahead.work else None
        )
        for leg, ahead in pairwise(legs)
    ]
    return (*out, *(ServingHop(hop.destination, hop.source, "reply", -1, None) for hop in reversed(out)))


def nodes_of(placement: Placement) -> dict[str, set[int]]:
    """The nodes that each computing device of a placement runs, by their place in the profile; the input needs no parameters."""
    found = {}
    for device, start, stop in placement.pieces:
        if stop > max(start, 1):
            found[device] = set(placement.order[max(start, 1) : stop] or range(max(start, 1), stop))
    return found
