"""The route of a source's requests, and the ways between any two devices, as planners see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from netfl.compute import PROFILES
from netfl.network.routes import Hop as Crossed
from netfl.network.topology import Link
from netfl.placement import Hop, Path, Tier
from netfl.workloads.session import Session

__all__ = ["Ways", "path_of"]


def path_of(session: Session, source: str, server: str) -> Path:
    """The devices on the route from a source to the server as tiers, for a planner."""
    route = session.world.topology.route(source, server)
    ways = Ways(session)
    return Path(tiers=tuple(map(ways.tier, route.devices)), hops=tuple(ways.over((hop,)) for hop in route.hops))


@dataclass(frozen=True)
class Ways:
    """Any devices of a network, and the ways between them: a `netfl.placement.planners.route.Mesh`.

    Args:
        session: of the run.
    """

    session: Session

    def tier(self, device: str) -> Tier:
        """A device, for a planner.

        Raises:
            NoRouteError: there is none of that name.
        """
        world = self.session.world
        world.topology.route(device, device)
        profile = world.profile(device)
        known = [name for name, each in PROFILES.items() if each == profile]
        return Tier(
            device=device,
            flop_per_s=profile.inference_flop_per_s,
            memory_bytes_per_s=profile.memory_bytes_per_s,
            overhead_s=profile.overhead_s,
            memory_bytes=profile.memory_bytes,
            device_class=known[0] if known else "",
            busy_w=profile.busy_w - profile.idle_w,
        )

    def hop(self, source: str, destination: str) -> Hop:
        """The whole route from one device to another as one hop.

        Raises:
            NoRouteError: no links join them.
        """
        return self.over(self.session.world.topology.route(source, destination).hops)

    def through(self, devices: Sequence[str]) -> Path:
        """Devices as the tiers of a path, with the whole route between each two as its hop."""
        hops = tuple(self.hop(near, far) for near, far in pairwise(devices))
        return Path(tiers=tuple(map(self.tier, devices)), hops=hops)

    def over(self, hops: Sequence[Crossed]) -> Hop:
        """Links that one flow crosses when it has them for itself, as one hop.

        Its rate is that of the slowest link, or of a medium that it crosses several times: each bit takes airtime on each of its links
        there. A radio is on for as long as the bits take at its own link's rate.
        """
        up_bps, down_bps = self._lone_bps(hops), self._lone_bps([_back(hop) for hop in hops])
        return Hop(
            latency_s=sum(hop.link.latency_s for hop in hops),
            up_bps=up_bps,
            down_bps=down_bps,
            up_w=sum(_radio_w(hop.link, hop.forward) * (up_bps / hop.rate_bps) for hop in hops),
            down_w=sum(_radio_w(hop.link, not hop.forward) * (down_bps / _back(hop).rate_bps) for hop in hops),
        )

    def _lone_bps(self, hops: Sequence[Crossed]) -> float:
        """The rate of the only flow over these links."""
        rates = [hop.rate_bps for hop in hops]
        shared: dict[tuple[str, bool], list[Crossed]] = {}
        for hop in hops:
            if hop.link.medium is not None:
                medium = self.session.world.topology.media[hop.link.medium]
                shared.setdefault((medium.name, medium.duplex == "full" and hop.forward), []).append(hop)
        for (name, _), members in shared.items():
            if len(members) > 1:
                medium = self.session.world.topology.media[name]
                airtime_s = sum(hop.link.duty_cycle / hop.rate_bps for hop in members)
                rates.append(len(members) ** -medium.efficiency_exponent / airtime_s)
        return min(rates)


def _back(hop: Crossed) -> Crossed:
    return Crossed(hop.link, not hop.forward)


def _radio_w(link: Link, forward: bool) -> float:
    """What sender and receiver of a link draw together while bits move in that direction."""
    return link.transmit_w + link.b_receive_w if forward else link.b_transmit_w + link.receive_w
