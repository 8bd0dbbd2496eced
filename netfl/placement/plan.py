"""Where a model can run, what that would take, and what was decided.

A `Path` is a row of devices, the first being the one that asks. A prefix cut gives each tier the next nodes of a profile, so
data only moves away from the asking device and the result comes all the way back. `estimate` adds up what one request takes on
idle devices and links; a reported latency never comes from here but from the simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from netfl.errors import NetflError
from netfl.placement.profile import Node, Profile
from netfl.units import format_bytes

__all__ = [
    "Estimate",
    "Hop",
    "Path",
    "Placement",
    "Tier",
    "check_cuts",
    "crossing_bytes",
    "decode_s",
    "estimate",
    "memory_shortages",
    "node_s",
    "nodes_s",
    "piece_s",
    "place",
    "place_labels",
    "wire_bytes",
]


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One device of a path, as planners see it.

    Args:
        device: its name.
        flop_per_s: peak rate of forward operations.
        memory_bytes_per_s: rate at which its memory moves bytes.
        overhead_s: what starting a piece of nodes costs, once however many nodes the piece has.
        memory_bytes: what the piece's parameters and live activations must fit in.
        device_class: under which name a profile may hold measured seconds for it.
        busy_w: what it draws while it computes, over what it draws idle.
    """

    device: str
    flop_per_s: float
    memory_bytes_per_s: float
    overhead_s: float
    memory_bytes: int
    device_class: str = ""
    busy_w: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Hop:
    """The way from one tier to the next, as planners see it.

    Args:
        latency_s: in one direction, before the first bit arrives.
        up_bps: rate away from the asking device, bit/s.
        down_bps: rate back to it, bit/s.
        up_w: what both radios draw while bits go up.
        down_w: and down.
    """

    latency_s: float
    up_bps: float
    down_bps: float
    up_w: float = 0.0
    down_w: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Path:
    """The tiers that a request may use, in order.

    Args:
        tiers: the first is the device that asks.
        hops: hops[k] joins tiers[k] and tiers[k + 1].

    Raises:
        ValueError: no tier, a device twice, or another number of hops than tiers less one.
    """

    tiers: tuple[Tier, ...]
    hops: tuple[Hop, ...]

    def __post_init__(self) -> None:
        if not self.tiers or len(self.hops) != len(self.tiers) - 1:
            raise ValueError(f"expected one hop less than tiers, got {len(self.tiers)} tiers and {len(self.hops)} hops")
        if len(set(self.devices)) != len(self.devices):
            raise ValueError(f"expected every device once on a path, got {', '.join(self.devices)}")

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the tiers' devices."""
        return tuple(tier.device for tier in self.tiers)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a planner decided: tier k runs nodes[cuts[k - 1]:cuts[k]], the first from 0 and the last to the end.

    Any placement in which data only moves away from the asking device has this form, once the nodes are put in order of their tier:
    `arranged` does that.

    Args:
        cuts: one less than devices; non-decreasing, from 1 (the input stays where it is) to the number of nodes.
        devices: the path's, in order.
        nodes: how many nodes the placed profile has.
        estimate_s: what the planner expects one request to take on an idle path; only for choosing.
        planner: the kind of the planner.
        order: the nodes, by their place in the profile, in the order that is cut; empty for the profile's own.
        gap: by what fraction of the best possible objective the placement may miss it: 0 for an exact planner, none where nothing is
            known.
    """

    cuts: tuple[int, ...]
    devices: tuple[str, ...]
    nodes: int
    estimate_s: float
    planner: str
    order: tuple[int, ...] = ()
    gap: float | None = None

    def arranged(self, profile: Profile) -> Profile:
        """The profile in the order that is cut."""
        return profile.in_order(self.order) if self.order else profile

    @property
    def labels(self) -> tuple[int, ...]:
        """The tier of each node, in the profile's own order."""
        found = [0] * self.nodes
        for tier, (_, start, stop) in enumerate(self.pieces):
            for place in range(start, stop):
                found[self.order[place] if self.order else place] = tier
        return tuple(found)

    @property
    def pieces(self) -> tuple[tuple[str, int, int], ...]:
        """(device, first node, node after the last) for every device of the path, empty pieces included."""
        borders = (0, *self.cuts, self.nodes)
        return tuple(zip(self.devices, borders[:-1], borders[1:], strict=True))

    def describe(self) -> str:
        """The pieces that have nodes, by place in the profile.

        >>> Placement(cuts=(3, 3), devices=("cam", "gateway", "edge"), nodes=9, estimate_s=0.1, planner="chain").describe()
        'cam:0-3 edge:3-9'
        >>> Placement(cuts=(3,), devices=("cam", "edge"), nodes=5, estimate_s=0.1, planner="mincut", order=(0, 1, 3, 2, 4)).describe()
        'cam:0-2,3-4 edge:2-3,4-5'
        """
        return " ".join(
            f"{device}:{_spans(self.order[start:stop] if self.order else range(start, stop))}"
            for device, start, stop in self.pieces
            if start < stop
        )


def _spans(places: Sequence[int]) -> str:
    """Runs of places, as `first-behind`."""
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and runs[-1][1] == place:
            runs[-1][1] = place + 1
        else:
            runs.append([place, place + 1])
    return ",".join(f"{first}-{behind}" for first, behind in runs)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one request takes on an idle path, part by part; the total is their sum.

    Args:
        total_s: from asking to having the result.
        compute_s: per tier.
        transmit_s: per hop, the bits of what crosses it away from the asking device.
        propagation_s: the latencies of the used hops, once each.
        return_s: the result's way back over the used hops, latencies included.
    """

    total_s: float
    compute_s: tuple[float, ...]
    transmit_s: tuple[float, ...]
    propagation_s: float
    return_s: float


def node_s(node: Node, tier: Tier) -> float:
    """Seconds for one node on a tier: measured ones, else the roofline max(flop / flop_per_s, moved bytes / memory_bytes_per_s).

    Source: Williams, Waterman, Patterson, "Roofline", CACM 52(4), 2009.

    Raises:
        NetflError: the node's time is known from measurements alone, and none is for the tier's device class.
    """
    if node.measured_s:
        for name, seconds in node.measured_s:
            if name == tier.device_class:
                return seconds
        if not node.flop and not node.moved_bytes and node.op != "input":
            known = ", ".join(name for name, _ in node.measured_s)
            raise NetflError(
                f"node '{node.name}' has no seconds for the device class '{tier.device_class}' of {tier.device}, only for {known}"
            )
    return max(node.flop / tier.flop_per_s, node.moved_bytes / tier.memory_bytes_per_s)


def decode_s(node: Node, tier: Tier) -> float:
    """Seconds to decode the input for a node that runs on a tier behind the first."""
    return node.decode_flop / tier.flop_per_s


def nodes_s(profile: Profile, tier: Tier, start: int, stop: int) -> float:
    """Seconds of nodes[start:stop] on a tier without its overhead, decoding the input included where the piece does not begin with it."""
    piece = profile.nodes[start:stop]
    return math.fsum(node_s(node, tier) + (decode_s(node, tier) if start else 0.0) for node in piece)


def piece_s(profile: Profile, tier: Tier, start: int, stop: int) -> float:
    """Seconds for nodes[start:stop] on a tier: its overhead once, and the seconds of each node.

    The nodes run one after the other, so that one that moves bytes and one that computes do not overlap. The input alone costs nothing.
    """
    if max(start, 1) >= stop:
        return 0.0
    return tier.overhead_s + nodes_s(profile, tier, start, stop)


def estimate(profile: Profile, path: Path, cuts: tuple[int, ...], encoded_bytes: Callable[[int], int], result_bytes: int) -> Estimate:
    """What one request takes with these cuts when nothing else runs.

    Store and forward: a hop begins when all that crosses it is there, pays its latency once and then the bits of every crossing
    tensor. A hop with no node behind it is not used. Each tensor is encoded by itself; a tier without nodes forwards the
    bytes that it got. An input that is sent is decoded once, by the tier that runs the first node that reads it.

    Args:
        profile: what is placed.
        path: where.
        cuts: as in `Placement`.
        encoded_bytes: wire bytes of one tensor of so many values: the activation codec's closed form.
        result_bytes: wire bytes of the result.

    Raises:
        ValueError: cuts of another number, falling, or out of range.
    """
    check_cuts(profile, path, cuts)
    pieces = pairwise((0, *cuts, len(profile.nodes)))
    compute_s = tuple(piece_s(profile, tier, start, stop) for tier, (start, stop) in zip(path.tiers, pieces, strict=True))
    transmit_s, propagation_s, return_s = [], 0.0, 0.0
    for hop, cut in zip(path.hops, cuts, strict=True):
        transmit_s.append(8 * crossing_bytes(profile, cut, encoded_bytes) / hop.up_bps)
        if cut < len(profile.nodes):
            propagation_s += hop.latency_s
            return_s += hop.latency_s + 8 * result_bytes / hop.down_bps
    return Estimate(
        total_s=sum(compute_s) + sum(transmit_s) + propagation_s + return_s,
        compute_s=compute_s,
        transmit_s=tuple(transmit_s),
        propagation_s=propagation_s,
        return_s=return_s,
    )


def crossing_bytes(profile: Profile, cut: int, encoded_bytes: Callable[[int], int]) -> int:
    """Wire bytes of all tensors that cross a cut."""
    return sum(wire_bytes(profile.nodes[profile.index[name]], encoded_bytes) for name in profile.crossing(cut))


def wire_bytes(node: Node, encoded_bytes: Callable[[int], int]) -> int:
    """Wire bytes of a node's output: its own where they are known, else the codec's for as many values."""
    return encoded_bytes(node.output_values) if node.wire_bytes is None else node.wire_bytes


def check_cuts(profile: Profile, path: Path, cuts: tuple[int, ...]) -> None:
    """Hold cuts to their form.

    Raises:
        ValueError: cuts of another number than hops, falling, below 1 or beyond the last node.
    """
    borders = (1, *cuts, len(profile.nodes))
    if len(cuts) != len(path.hops) or any(left > right for left, right in pairwise(borders)):
        raise ValueError(f"expected {len(path.hops)} non-decreasing cuts from 1 to {len(profile.nodes)}, got ({', '.join(map(str, cuts))})")


def memory_shortages(profile: Profile, path: Path, cuts: tuple[int, ...]) -> tuple[int, ...]:
    """How many bytes each tier's memory lacks for its piece; 0 where the piece fits."""
    needs = (profile.memory_bytes(start, stop) for start, stop in pairwise((0, *cuts, len(profile.nodes))))
    return tuple(max(0, need - tier.memory_bytes) for tier, need in zip(path.tiers, needs, strict=True))


def place(
    profile: Profile,
    path: Path,
    cuts: tuple[int, ...],
    encoded_bytes: Callable[[int], int],
    result_bytes: int,
    planner: str,
    *,
    order: tuple[int, ...] = (),
    gap: float | None = None,
) -> Placement:
    """The placement with these cuts, once it is known to fit.

    Args:
        profile: what is placed.
        path: where.
        cuts: as in `Placement`.
        encoded_bytes: wire bytes of one tensor of so many values.
        result_bytes: wire bytes of the result.
        planner: the kind of the planner.
        order: as in `Placement`.
        gap: as in `Placement`.

    Raises:
        NetflError: a tier's memory is too small; the message says which, and how much it lacks.
        ValueError: cuts that are none for this profile and path.
    """
    if order == tuple(range(len(profile.nodes))):
        order = ()
    placed = profile.in_order(order) if order else profile
    expected = estimate(placed, path, cuts, encoded_bytes, result_bytes)
    placement = Placement(
        cuts=cuts, devices=path.devices, nodes=len(profile.nodes), estimate_s=expected.total_s, planner=planner, order=order, gap=gap
    )
    short = [
        f"{tier.device} has {format_bytes(tier.memory_bytes)} and lacks {format_bytes(lacking)} ({lacking} B)"
        for tier, lacking in zip(path.tiers, memory_shortages(placed, path, cuts), strict=True)
        if lacking
    ]
    if short:
        raise NetflError(f"placement {placement.describe()} of planner {planner} does not fit: {'; '.join(short)}")
    return placement


def place_labels(
    profile: Profile,
    path: Path,
    labels: Sequence[int],
    encoded_bytes: Callable[[int], int],
    result_bytes: int,
    planner: str,
    gap: float | None = None,
) -> Placement:
    """The placement that gives each node the tier of its label; see `place`.

    Args:
        profile: what is placed.
        path: where.
        labels: the tier of each node; no node's is below that of one that it reads, and the last node's is the highest.
        encoded_bytes: wire bytes of one tensor of so many values.
        result_bytes: wire bytes of the result.
        planner: the kind of the planner.
        gap: as in `Placement`.

    Raises:
        NetflError: as `place`.
        ValueError: labels that let data flow back.
    """
    order = tuple(sorted(range(len(labels)), key=lambda place: (labels[place], place)))
    if order[-1] != len(labels) - 1:
        raise ValueError("expected the last node, which makes the result, on the highest tier in use")
    cuts = tuple(sum(label <= hop for label in labels) for hop in range(len(path.hops)))
    return place(profile, path, cuts, encoded_bytes, result_bytes, planner, order=order, gap=gap)
