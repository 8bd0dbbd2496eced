"""What a placement is expected to do besides its latency: requests a second, joules, bytes, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netfl.placement.plan import Path, Placement, crossing_bytes, estimate
from netfl.placement.profile import Profile

__all__ = ["Figures", "figures"]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one request takes on an idle path, and what the path can do for many.

    Args:
        latency_s: of one request; as `Estimate.total_s`.
        bottleneck_s: of the busiest processor or direction of a link, per request: its inverse is the rate that the path can keep up.
        energy_j: above idle: of processors while they compute and radios while bits move.
        sent_bytes: over each hop, away from the asking device.
        memory_bytes: of each tier's piece.
    """

    latency_s: float
    bottleneck_s: float
    energy_j: float
    sent_bytes: tuple[int, ...]
    memory_bytes: tuple[int, ...]


def figures(profile: Profile, path: Path, placement: Placement, encoded_bytes: Callable[[int], int], result_bytes: int) -> Figures:
    """The figures of a placement, when nothing else runs.

    Args:
        profile: what is placed, in its own order.
        path: where.
        placement: how.
        encoded_bytes: wire bytes of one tensor of so many values.
        result_bytes: wire bytes of the result.
    """
    placed = placement.arranged(profile)
    took = estimate(placed, path, placement.cuts, encoded_bytes, result_bytes)
    down_s = [8 * result_bytes / hop.down_bps * (cut < placement.nodes) for hop, cut in zip(path.hops, placement.cuts, strict=True)]
    energy_j = sum(tier.busy_w * seconds for tier, seconds in zip(path.tiers, took.compute_s, strict=True))
    for hop, up_s, back_s in zip(path.hops, took.transmit_s, down_s, strict=True):
        energy_j += hop.up_w * up_s + hop.down_w * back_s
    return Figures(
        latency_s=took.total_s,
        bottleneck_s=max((*took.compute_s, *took.transmit_s, *down_s)),
        energy_j=energy_j,
        sent_bytes=tuple(crossing_bytes(placed, cut, encoded_bytes) for cut in placement.cuts),
        memory_bytes=tuple(placed.memory_bytes(start, stop) if start < stop else 0 for _, start, stop in placement.pieces),
    )
