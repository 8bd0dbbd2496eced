"""The route of a source's requests, as planners see it."""

from __future__ import annotations

from netfl.compute import PROFILES
from netfl.network.topology import Link
from netfl.placement import Hop, Path, Tier
from netfl.workloads.session import Session

__all__ = ["path_of"]


def path_of(session: Session, source: str, server: str) -> Path:
    """The devices on the route from a source to the server as tiers, for a planner."""
    world = session.world
    route = world.topology.route(source, server)
    tiers = []
    for device in route.devices:
        profile = world.profile(device)
        known = [name for name, each in PROFILES.items() if each == profile]
        tiers.append(
            Tier(
                device=device,
                flop_per_s=profile.inference_flop_per_s,
                memory_bytes_per_s=profile.memory_bytes_per_s,
                overhead_s=profile.overhead_s,
                memory_bytes=profile.memory_bytes,
                device_class=known[0] if known else "",
                busy_w=profile.busy_w - profile.idle_w,
            )
        )
    hops = tuple(
        Hop(
            latency_s=hop.link.latency_s,
            up_bps=hop.link.up_bps if hop.forward else hop.link.down_bps,
            down_bps=hop.link.down_bps if hop.forward else hop.link.up_bps,
            up_w=_radio_w(hop.link, hop.forward),
            down_w=_radio_w(hop.link, not hop.forward),
        )
        for hop in route.hops
    )
    return Path(tiers=tuple(tiers), hops=hops)


def _radio_w(link: Link, forward: bool) -> float:
    """What sender and receiver of a link draw together while bits move in that direction."""
    return link.transmit_w + link.b_receive_w if forward else link.b_transmit_w + link.receive_w
