"""What a turn takes when its devices and links have nothing else to do: found out once in a world of its own, and used again.

A turn whose links carry nobody else's bytes and stay up takes what it takes, whenever it happens; so does a turn on devices and links that
are alike. Where that cannot be shown in advance, a turn is simulated message by message instead. So are pipelined turns: there, holders have
work of several batches waiting, and which of two messages that arrive at one instant comes first is decided by rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from netfl.network.routes import Hop, Route
from netfl.network.topology import Link, Topology
from netfl.network.transport import Fluid
from netfl.workloads.sliced_batches import Batches, Plan
from netfl.world import World

__all__ = ["Flown", "Rehearsals", "Spent", "apart"]


@dataclass(frozen=True)
class Flown:
    """Transfers over one route that ended alike.

    Args:
        source: the role that sends, or -1 for the server.
        target: the role that receives, or -1.
        delivered: whether they arrived; otherwise they are under way.
        messages: how many.
        payload_bytes: their length.
        sent_bytes: what moved.
        latency_s: seconds of silence.
    """

    source: int
    target: int
    delivered: bool
    messages: int
    payload_bytes: int
    sent_bytes: int
    latency_s: float


@dataclass(frozen=True)
class Spent:
    """What a turn, or the beginning of one, took.

    Args:
        duration_s: until the last weight was updated.
        flown: by route.
        computed: role to its FLOP, seconds of processor time, and most memory.
    """

    duration_s: float
    flown: tuple[Flown, ...]
    computed: tuple[tuple[int, float, float, int], ...]


class Rehearsals:
    """Rehearsed turns of one run.

    Args:
        world: whose devices and links.
        plan: what a batch takes.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._known: dict[Any, Spent] = {}
        self.rehearsed = 0

    def of(self, devices: tuple[str, ...], batches: tuple[int, ...]) -> Spent:
        """A turn on devices (of each role) that have their links for themselves, one batch under way at a time.

        Each batch begins where the last one has ended, so the turn is the sum of its batches.
        """
        counts = {batch: batches.count(batch) for batch in sorted(set(batches), reverse=True)}
        return _total([(count, self._one(devices, batch)) for batch, count in counts.items()])

    def begun(self, devices: tuple[str, ...], batches: tuple[int, ...], elapsed_s: float) -> Spent:
        """What had happened after so many seconds of a turn: with messages and work that are still under way."""
        return self._rehearse(devices, batches, elapsed_s)

    def routes(self, devices: Sequence[str]) -> list[Route]:
        """The routes of a turn's messages."""
        return _routes(self._world.topology, self._plan, devices)

    def _one(self, devices: tuple[str, ...], batch: int) -> Spent:
        key = (batch, self._likeness(devices))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._rehearse(devices, (batch,), None)
        return found

    def _rehearse(self, devices: tuple[str, ...], batches: tuple[int, ...], until_s: float | None) -> Spent:
        self.rehearsed += 1
        world = self._world.rehearsal()
        try:
            running = Batches(world, self._plan, devices, batches, "rehearsal", "", remembers=True)
            world.env.run(until=running.done if until_s is None else until_s)
            return self._spent(world, running)
        finally:
            world.trace.close()

    def _spent(self, world: World, running: Batches) -> Spent:
        role_of = {device: role for role, device in enumerate(running.devices)}
        flown: defaultdict[tuple[int, int, bool], list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
        for sending in running.sendings:
            transfer = sending.transfer
            source, target = role_of.get(transfer.route.source, -1), role_of.get(transfer.route.destination, -1)
            total = flown[source, target, transfer.outcome == "delivered"]
            for place, more in enumerate((1, transfer.num_bytes, transfer.sent_bytes, transfer.latency_s)):
                total[place] += more
        computed = []
        for role in self._plan.roles:
            flop, _, memory = running.computed.get(role, (0.0, 0.0, 0.0))
            computed.append((role, flop, world.busy_s(running.devices[role]), int(memory)))
        return Spent(
            world.now,
            tuple(
                Flown(*ends, int(messages), int(payload), int(sent), silent)
                for ends, (messages, payload, sent, silent) in sorted(flown.items())
            ),
            tuple(computed),
        )

    def _likeness(self, devices: tuple[str, ...]) -> Any:
        """What decides how long a turn takes: two choices of devices with equal likenesses differ in names alone."""
        numbers: dict[str, int] = {}
        hops = []
        for route in self.routes(devices):
            hops.append(tuple(_likeness(hop, numbers) for hop in route.hops))
        profiles = tuple(self._world.profile(device) for device in devices)
        return tuple(hops), profiles


def _likeness(hop: Hop, numbers: dict[str, int]) -> Any:
    link = hop.link
    shared = f"medium {link.medium}" if link.medium is not None else f"link {link.name}"
    number = numbers.setdefault(shared, len(numbers))
    return (
        number,
        numbers.setdefault(f"link {link.name}", len(numbers)),
        hop.forward,
        hop.rate_bps,
        link.latency_s,
        link.duplex,
        link.duty_cycle,
    )


def _routes(topology: Topology, plan: Plan, devices: Sequence[str]) -> list[Route]:
    """The routes of a turn's messages, by role."""
    legs: dict[tuple[str, str], None] = {}
    for boundary in plan.boundaries:
        for bundle in boundary.bundles:
            source, target = devices[bundle.source], devices[bundle.target]
            for ends in ((source, target), (target, source)):
                legs.update(dict.fromkeys(plan.wire.legs(*ends)))
    return [topology.route(*ends) for ends in legs]


def _total(parts: Iterable[tuple[int, Spent]]) -> Spent:
    duration_s = 0.0
    flown: dict[tuple[int, int, bool], Flown] = {}
    computed: dict[int, tuple[int, float, float, int]] = {}
    for times, part in parts:
        duration_s += times * part.duration_s
        for each in part.flown:
            ends = (each.source, each.target, each.delivered)
            before = flown.get(ends, Flown(*ends, 0, 0, 0, 0.0))
            flown[ends] = Flown(
                *ends, before.messages + times * each.messages, before.payload_bytes + times * each.payload_bytes,
                before.sent_bytes + times * each.sent_bytes, before.latency_s + times * each.latency_s,
            )  # fmt: skip
        for role, flop, busy_s, memory in part.computed:
            _, flop_before, busy_before_s, memory_before = computed.get(role, (role, 0.0, 0.0, 0))
            computed[role] = (role, flop_before + times * flop, busy_before_s + times * busy_s, max(memory, memory_before))
    return Spent(duration_s, tuple(flown[ends] for ends in sorted(flown)), tuple(computed[role] for role in sorted(computed)))


def apart(world: World, groups: Sequence[Sequence[str]], server: str | None) -> bool:
    """Whether groups never hold each other up: the transport is fluid, and no capacity is crossed by two groups, unless it carries all that the
    devices' own links can bring and take.

    Args:
        world: the devices and links.
        groups: the members of each.
        server: relays everything; None if members send to each other directly, too.
    """
    if type(world.transport) is not Fluid:
        return False
    topology = world.topology
    users: defaultdict[Any, set[int]] = defaultdict(set)
    rates: dict[Any, float] = {}
    links: dict[str, Link] = {}
    for number, members in enumerate(groups):
        ends = [(member, server) for member in members] if server is not None else [(a, b) for a in members for b in members if a < b]
        for a, b in ends:
            for route in (topology.route(a, b), topology.route(b, a)):
                for hop in route.hops:
                    links[hop.link.name] = hop.link
                    if hop.rates is not None:
                        return False
                    capacity = _capacity(hop)
                    users[capacity].add(number)
                    rates[capacity] = hop.rate_bps if len(capacity) == 3 else 0.0
    own = {member for members in groups for member in members}
    most_bps = _most_bps(links.values(), own)
    return all(len(by) == 1 or rates[capacity] >= most_bps for capacity, by in users.items())


def _capacity(hop: Hop) -> Any:
    """What a hop takes its share of; only a full-duplex link's direction has three parts."""
    link = hop.link
    if link.medium is not None:
        return ("medium", link.medium)
    return ("link", link.name) if link.duplex == "half" else ("link", link.name, hop.forward)


def _most_bps(links: Iterable[Link], members: set[str]) -> float:
    """More than all members together can send, or receive, at once."""
    return sum(max(link.up_bps, link.down_bps) for link in links if link.a in members or link.b in members)
