"""Placements in which several devices compute for one request at once: stages, and the messages between them.

A path of prefix cuts has one device at work at a time. Here a stage is work of several devices side by side, followed by messages; a device
begins its work of a stage once its own work before is done and all that was sent to it in earlier stages is there. NoNN's
students, filters that are split over devices, and tiles of rows have this form.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from netfl.errors import NetflError
from netfl.placement.plan import Tier
from netfl.units import format_bytes

__all__ = [
    "SOURCE",
    "Cluster",
    "Crossing",
    "Portion",
    "Portions",
    "Share",
    "Stage",
    "StageEstimate",
    "StagedPlacement",
    "Way",
    "check_memory",
    "estimate_stages",
    "share_s",
]

What = Literal["request", "activation", "reply"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How messages get from one device to another, as planners see it.

    Args:
        latency_s: of all links on the way, before the first bit arrives.
        bps: the rate of a message that has the way for itself, bit/s.
    """

    latency_s: float
    bps: float


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The devices that answer a request together.

    Args:
        source: who asks; it may be one of the workers.
        workers: who computes, in order.
        join: who makes the answer of what the workers send; it may be one of them.
        tiers: of every device that computes.
        ways: by sender and receiver, between all of these devices.
    """

    source: str
    workers: tuple[str, ...]
    join: str
    tiers: Mapping[str, Tier]
    ways: Mapping[tuple[str, str], Way]


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one device computes in a stage, for one sample.

    Args:
        device: which.
        operations: (forward operations, bytes moved) of each node that it runs, one after the other.
        activation_bytes: the most that it holds of activations meanwhile.
    """

    device: str
    operations: tuple[tuple[float, float], ...]
    activation_bytes: int = 0

    @property
    def flop(self) -> float:
        """Of all operations."""
        return math.fsum(flop for flop, _ in self.operations)

    @property
    def moved_bytes(self) -> float:
        """Of all operations."""
        return math.fsum(moved_bytes for _, moved_bytes in self.operations)


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """One message of a stage, sent when its sender's work of the stage is done.

    Args:
        sender: a device.
        receiver: another one.
        values: numbers that it carries, encoded by themselves.
        what: request, the sample; activation; reply, the answer.
        is_optional: whether the receiver can go on without it, with zeros in its place.
    """

    sender: str
    receiver: str
    values: int
    what: What = "activation"
    is_optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Work side by side, then messages.

    Args:
        shares: at most one a device.
        crossings: the messages behind it.
    """

    shares: tuple[Share, ...] = ()
    crossings: tuple[Crossing, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StagedPlacement:
    """What each device computes and sends for one request.

    Args:
        stages: in order. The asking device's sample is sent in the first; the answer is there when all that the last one sends is.
        source: who asks.
        parameter_bytes: (device, bytes) that each device stores to do its part.
        planner: the kind of what made it.
        described: one line for the trace.
    """

    stages: tuple[Stage, ...]
    source: str
    parameter_bytes: tuple[tuple[str, int], ...]
    planner: str
    described: str

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """All messages, stage by stage: the order in which their lengths are given."""
        return tuple(crossing for stage in self.stages for crossing in stage.crossings)

    @property
    def devices(self) -> tuple[str, ...]:
        """Everybody who computes, sorted."""
        return tuple(sorted({share.device for stage in self.stages for share in stage.shares}))

    def sent_bytes(self, encoded_bytes: Callable[[int], int], what: What = "activation") -> int:
        """Wire bytes of all messages of a kind, for one request."""
        return sum(encoded_bytes(crossing.values) for crossing in self.crossings if crossing.what == what)

    def memory_bytes(self, device: str) -> int:
        """What a device must hold: its parameters and the most that it has of activations."""
        held = [share.activation_bytes for stage in self.stages for share in stage.shares if share.device == device]
        return dict(self.parameter_bytes).get(device, 0) + max(held, default=0)


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """Between what one request takes on idle devices and links.

    Args:
        at_least_s: every message has its way for itself: exact where no two messages share a link or a medium at one time.
        at_most_s: no two messages ever move at one time: the longest chain of computing and latencies, and the bits of all messages one
            after the other. Max-min sharing takes no longer: while bits move, some capacity is full, so that what is left of all
            messages, each counted in seconds at its own full rate, falls by at least one second a second; while none move,
            the longest chain that is left falls so.
    """

    at_least_s: float
    at_most_s: float


def share_s(share: Share, tier: Tier) -> float:
    """Seconds of a share on a tier: its overhead once, and the roofline of each operation; measured seconds are not looked at."""
    if not share.operations:
        return 0.0
    return tier.overhead_s + math.fsum(
        max(flop / tier.flop_per_s, moved_bytes / tier.memory_bytes_per_s) for flop, moved_bytes in share.operations
    )


def estimate_stages(
    placement: StagedPlacement,
    tiers: Mapping[str, Tier],
    ways: Mapping[tuple[str, str], Way],
    encoded_bytes: Callable[[int], int],
    result_bytes: int,
) -> StageEstimate:
    """What one request takes when nothing else runs.

    Args:
        placement: of what.
        tiers: of the devices that compute.
        ways: by sender and receiver.
        encoded_bytes: wire bytes of a message of so many values.
        result_bytes: wire bytes of the answer.
    """

    def moving_s(crossing: Crossing) -> float:
        length = result_bytes if crossing.what == "reply" else encoded_bytes(crossing.values)
        return 8 * length / ways[crossing.sender, crossing.receiver].bps

    def ready_s(with_bits: bool) -> float:
        ready: defaultdict[str, float] = defaultdict(float)
        for stage in placement.stages:
            for share in stage.shares:
                ready[share.device] += share_s(share, tiers[share.device])
            arrivals: list[tuple[str, float]] = []
            for crossing in stage.crossings:
                way = ways[crossing.sender, crossing.receiver]
                arrivals.append((crossing.receiver, ready[crossing.sender] + way.latency_s + with_bits * moving_s(crossing)))
            for receiver, arrival_s in arrivals:
                ready[receiver] = max(ready[receiver], arrival_s)
        return ready[placement.source] if placement.crossings else max(ready.values(), default=0.0)

    return StageEstimate(at_least_s=ready_s(True), at_most_s=ready_s(False) + math.fsum(map(moving_s, placement.crossings)))


def check_memory(placement: StagedPlacement, tiers: Mapping[str, Tier]) -> None:
    """Hold a placement to the memory of its devices.

    Raises:
        NetflError: some memory is too small; the message says which, and how much it lacks.
    """
    short = []
    for device in placement.devices:
        lacking = placement.memory_bytes(device) - tiers[device].memory_bytes
        if lacking > 0:
            short.append(f"{device} has {format_bytes(tiers[device].memory_bytes)} and lacks {format_bytes(lacking)} ({lacking} B)")
    if short:
        raise NetflError(f"placement {placement.described} of planner {placement.planner} does not fit: {'; '.join(short)}")


SOURCE = -1
"""The place of the asking device in `Portions`."""


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What one place computes in one step of `Portions`; see `Share`."""

    operations: tuple[tuple[float, float], ...] = ()
    activation_bytes: int = 0

    @property
    def flop(self) -> float:
        """Of all operations."""
        return math.fsum(flop for flop, _ in self.operations)


@dataclass(frozen=True, kw_only=True)
class Portions:
    """How a model is dealt to so many workers, before anybody knows which devices these are.

    Places are 0 to `workers` - 1, `workers` for the one that joins what they made, and `SOURCE`.

    Args:
        workers: how many.
        steps: of each, the portions by place, the joining one's last, and the messages behind them as (sender, receiver, values).
        parameter_bytes: of each place, the joining one's last.
        described: of each place, in a word, what it has.
    """

    workers: int
    steps: tuple[tuple[tuple[Portion, ...], tuple[tuple[int, int, int], ...]], ...]
    parameter_bytes: tuple[int, ...]
    described: tuple[str, ...]

    def device(self, place: int, cluster: Cluster) -> str:
        """The device at a place."""
        if place == SOURCE:
            return cluster.source
        return cluster.join if place == self.workers else cluster.workers[place]

    def crosses(self, message: tuple[int, int, int], cluster: Cluster, has_inputs: bool) -> bool:
        """Whether a message goes over the network: not within a device, and no sample where all have it."""
        sender, receiver, values = message
        if sender == SOURCE and has_inputs:
            return False
        return values > 0 and self.device(sender, cluster) != self.device(receiver, cluster)

    def placement(
        self, cluster: Cluster, planner: str, result_values: int, has_inputs: bool, *, is_optional: bool = False
    ) -> StagedPlacement:
        """On these devices.

        Args:
            cluster: as many workers as there are portions.
            planner: the kind of what dealt it out.
            result_values: numbers in the answer.
            has_inputs: whether every worker has the sample, so that nobody sends it.
            is_optional: whether the answer can be made without what some workers send.
        """
        stages = []
        for portions, messages in self.steps:
            operations: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
            held: defaultdict[str, int] = defaultdict(int)
            for place, portion in enumerate(portions):
                if portion.operations:
                    operations[self.device(place, cluster)] += portion.operations
                    held[self.device(place, cluster)] += portion.activation_bytes
            shares = tuple(Share(device=name, operations=tuple(done), activation_bytes=held[name]) for name, done in operations.items())
            crossings = tuple(
                Crossing(
                    sender=self.device(message[0], cluster),
                    receiver=self.device(message[1], cluster),
                    values=message[2],
                    what="request" if message[0] == SOURCE else "activation",
                    is_optional=is_optional and message[0] != SOURCE,
                )
                for message in messages
                if self.crosses(message, cluster, has_inputs)
            )
            stages.append(Stage(shares=shares, crossings=crossings))
        if cluster.join != cluster.source:
            stages.append(Stage(crossings=(Crossing(sender=cluster.join, receiver=cluster.source, values=result_values, what="reply"),)))
        stored: defaultdict[str, int] = defaultdict(int)
        words: defaultdict[str, list[str]] = defaultdict(list)
        for place, (count, word) in enumerate(zip(self.parameter_bytes, self.described, strict=True)):
            stored[self.device(place, cluster)] += count
            words[self.device(place, cluster)].append(word)
        return StagedPlacement(
            stages=tuple(stages),
            source=cluster.source,
            parameter_bytes=tuple(stored.items()),
            planner=planner,
            described=" ".join(f"{device}:{'+'.join(word)}" for device, word in words.items()),
        )

    def to_plain(self) -> dict[str, object]:
        """As JSON writes it."""
        steps = [([(each.operations, each.activation_bytes) for each in portions], messages) for portions, messages in self.steps]
        return {"workers": self.workers, "steps": steps, "parameter_bytes": self.parameter_bytes, "described": self.described}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Portions:
        """Back from `to_plain`."""
        steps = tuple(
            (
                tuple(Portion(operations=tuple((flop, moved) for flop, moved in done), activation_bytes=held) for done, held in portions),
                tuple((sender, receiver, values) for sender, receiver, values in messages),
            )
            for portions, messages in plain["steps"]
        )
        return cls(
            workers=plain["workers"], steps=steps, parameter_bytes=tuple(plain["parameter_bytes"]), described=tuple(plain["described"])
        )
