"""A chain of servers that each hold a part of the model, anywhere in the network."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from netfl.errors import NetflError, NoRouteError
from netfl.parts import Pairs
from netfl.placement.plan import Hop, Path, Placement, Tier, crossing_bytes, piece_s, place
from netfl.placement.profile import Profile
from netfl.units import format_bytes

__all__ = ["Mesh", "Route"]


class Mesh(Protocol):
    """Devices any two of which can be asked about."""

    def tier(self, device: str) -> Tier:
        """A device as planners see it; NoRouteError where there is none of that name."""
        ...

    def hop(self, source: str, destination: str) -> Hop:
        """The whole way from one device to another as one hop; NoRouteError where there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Route:
    """The fastest chain of replicas: servers that hold spans of the model's nodes, each used to the end of its span.

    A shortest path over (server, first node that it runs): the seconds of the span there, what crosses behind it on its way to the next
    server, latencies both ways and the result's way back along the chain. Exact for such chains; prefix cuts at the ends of spans, and a
    server that is left is not come back to. Between two servers a message goes through the network as one transfer, however many links
    there are. Equally fast: fewer servers, then the first by name.

    Source: the clients of Petals (Borzunov et al., "Distributed inference and fine-tuning of large language models over the internet",
    NeurIPS 2023) route so; their cost is the round-trip time and the server's rate, here it is the planner's estimate, bytes included.

    Args:
        replicas: device names, each with the first node that it holds and the one behind the last, by place in the profile (the input is 0,
            so [1, 4] are the first three nodes), or `all`.
    """

    replicas: Annotated[tuple[tuple[str, Any], ...], Pairs()]

    def __post_init__(self) -> None:
        if not self.replicas:
            raise ValueError("replicas: expected at least one device and what it holds")
        for device, span in self.replicas:
            whole = isinstance(span, tuple) and len(span) == 2 and all(type(each) is int for each in span)
            if span != "all" and not (whole and 0 <= span[0] < span[1]):
                raise ValueError(f"replicas: expected '{device}' with [first node, node behind the last] or all, got {_shown(span)}")

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """See `Planner.plan`.

        Raises:
            NetflError: always: replicas are anywhere in a network, of which a path knows one way only. `through` takes a mesh.
        """
        raise NetflError("planner route looks for replicas in the whole network, which only a serving workload knows")

    def through(self, profile: Profile, source: str, mesh: Mesh, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """The fastest chain for a device that asks.

        Args:
            profile: what is placed.
            source: who asks; runs nodes only if it is a replica itself that holds the first ones.
            mesh: the devices and the ways between them.
            encoded_bytes: as for `Planner.plan`.
            result_bytes: as for `Planner.plan`.

        Raises:
            NetflError: a span that the model does not have, a replica that has no room for its span or cannot be reached, or nodes that
                no replica holds.
        """
        spans = self._spans(profile)
        hops = _hops(source, spans, mesh)
        tiers = {device: mesh.tier(device) for device in (source, *spans)}
        _check_room(profile, spans, tiers)
        last = len(profile.nodes)

        def moved(near: str, far: str, cut: int) -> float:
            hop = hops[near, far]
            return 2 * hop.latency_s + 8 * crossing_bytes(profile, cut, encoded_bytes) / hop.up_bps + 8 * result_bytes / hop.down_bps

        # (seconds so far, servers so far, the cuts between them, nodes done)
        frontier: list[tuple[float, int, tuple[str, ...], tuple[int, ...], int]] = [(0.0, 0, (source,), (), 1)]
        if source in spans and spans[source][0] <= 1:
            stop = spans[source][1]
            frontier.append((piece_s(profile, tiers[source], 0, stop), 0, (source,), (), stop))
        heapq.heapify(frontier)
        seen: set[tuple[str, int]] = set()
        furthest = 1
        while frontier:
            seconds, count, devices, cuts, done = heapq.heappop(frontier)
            if done == last:
                path = Path(
                    tiers=tuple(tiers[device] for device in devices),
                    hops=tuple(hops[near, far] for near, far in zip(devices, devices[1:], strict=False)),
                )
                return place(profile, path, cuts, encoded_bytes, result_bytes, "route")
            if (devices[-1], done) in seen:
                continue
            seen.add((devices[-1], done))
            furthest = max(furthest, done)
            for device, (start, stop) in spans.items():
                if device != source and start <= done < stop:
                    after = seconds + moved(devices[-1], device, done) + piece_s(profile, tiers[device], done, stop)
                    heapq.heappush(frontier, (after, count + 1, (*devices, device), (*cuts, done), stop))
        raise NetflError(
            f"no replica holds node {furthest} ('{profile.nodes[furthest].name}') of {last} and the ones before it are with others; "
            f"the replicas hold {', '.join(f'{device} {start}-{stop}' for device, (start, stop) in spans.items())}"
        )

    def ways(self, source: str, mesh: Mesh) -> tuple[Hop, ...]:
        """The ways from a device to all replicas: devices of equal profiles with equal ways have equal chains.

        Raises:
            NetflError: a replica cannot be reached.
        """
        return tuple(_way(source, device, mesh) for device, _ in self.replicas if device != source)

    def _spans(self, profile: Profile) -> dict[str, tuple[int, int]]:
        last = len(profile.nodes)
        spans = {device: (1, last) if span == "all" else (max(span[0], 1), span[1]) for device, span in self.replicas}
        for device, (start, stop) in spans.items():
            if stop > last or start >= stop:
                raise NetflError(f"replica '{device}' holds nodes {start}-{stop}, but the model has nodes 1-{last}")
        return spans


def _check_room(profile: Profile, spans: dict[str, tuple[int, int]], tiers: dict[str, Tier]) -> None:
    short = []
    for device, (start, stop) in spans.items():
        lacking = profile.memory_bytes(start, stop) - tiers[device].memory_bytes
        if lacking > 0:
            has = format_bytes(tiers[device].memory_bytes)
            short.append(f"'{device}' has {has} and lacks {format_bytes(lacking)} ({lacking} B) for nodes {start}-{stop}")
    if short:
        raise NetflError(f"replicas do not fit: {'; '.join(short)}")


def _hops(source: str, spans: dict[str, tuple[int, int]], mesh: Mesh) -> dict[tuple[str, str], Hop]:
    """The ways that a chain can take: from the source to every replica, and from each to those that go on where it ends."""
    hops: dict[tuple[str, str], Hop] = {}
    for device, (start, stop) in spans.items():
        for near, done in ((source, 1), *((each, end) for each, (_, end) in spans.items())):
            if device not in (near, source) and (near, device) not in hops and (near == source or start <= done < stop):
                hops[near, device] = _way(near, device, mesh)
    return hops


def _way(near: str, device: str, mesh: Mesh) -> Hop:
    try:
        return mesh.hop(near, device)
    except NoRouteError as error:
        raise NetflError(f"replica '{device}' cannot be reached from '{near}': {error}") from error


def _shown(span: Any) -> str:
    return f"[{', '.join(map(str, span))}]" if isinstance(span, tuple) else repr(span)
