"""What moves and what it shares: capacities, paths, loads, and the classes of loads that move alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

__all__ = ["NEVER", "Bound", "Capacity", "Entry", "Group", "Load", "LoadClass", "Path"]

NEVER = math.inf
"""When nothing happens; the level of what is not full."""


class Capacity:
    """What loads share. Made by `Shares.capacity`.

    Args:
        name: for people.
        amount: what it offers a second: bits, or seconds of airtime.
        exponent: with n stations that have a moving load, it offers amount * n ** -exponent.
        cause: what it is, for people: link or medium.
    """

    __slots__ = (
        "amount",
        "bound_nearby",
        "cause",
        "count",
        "ends",
        "exponent",
        "falls",
        "full_nearby",
        "groups",
        "level",
        "limited",
        "loads_at",
        "lowest_safe",
        "name",
        "offer",
        "order",
        "queued",
        "ready",
        "rises",
        "safe",
        "served",
        "shared",
        "since_s",
        "sole",
        "ticket",
        "total",
        "touched",
    )

    def __init__(self, name: str, order: int, amount: float, exponent: float, cause: str) -> None:
        self.name = name
        self.cause = cause
        self.order = order
        self.amount = amount
        self.exponent = exponent
        self.offer = amount
        self.loads_at: dict[str, int] | None = None
        # Who crosses it: one load alone, or classes.
        self.count = 0
        self.sole: Load | None = None
        self.shared = False
        self.ready = False

    def get_ready(self) -> None:
        """Before it is shared. Most capacities never are: until then, those of one device's link hold nothing of what follows."""
        self.ready = True
        # Classes, grouped by the capacity to which they are bound.
        self.groups: dict[Capacity, Group] = {}
        self.limited = 0
        self.total = 0
        # Its level, infinite while it is not full, and its clock: `served` bits per weight at `since_s`.
        self.level = NEVER
        self.served = 0.0
        self.since_s = 0.0
        # Of the classes bound to it, the next to end (by clock), to reach their limit, and to come under it again.
        self.ends: list[Entry] = []
        self.rises: list[Entry] = []
        self.falls: list[Entry] = []
        # Other capacities that its classes cross, those of them that are full, and a bound below which the rest stay not full.
        self.bound_nearby: dict[Capacity, Group] = {}
        self.full_nearby: dict[Capacity, None] = {}
        self.lowest_safe = NEVER
        self.safe = NEVER
        self.queued = False
        self.touched = False
        self.ticket = 0

    def clock(self, now_s: float) -> float:
        """Cumulative service per weight."""
        return self.served if self.level == NEVER else self.served + self.level * (now_s - self.since_s)


class Group:
    """The classes that cross one capacity and are bound to another (or the same): their weight that follows the clock."""

    __slots__ = ("classes", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.classes: dict[LoadClass, None] = {}


class Bound(NamedTuple):
    """How a class is bound: to what, of which amount all that time, since when and since which reading of its clock, and what it has
    spent by capacity before that.
    """

    to: Capacity
    amount: float
    since_s: float
    mark: float
    past: dict[Capacity, tuple[float, float, float]]

    def spent(self, now_s: float, clock: float) -> dict[Capacity, tuple[float, float, float]]:
        """Seconds, service, and service over the capacity's amount at the time, by capacity until now."""
        seconds, service, part = self.past.get(self.to, (0.0, 0.0, 0.0))
        more = clock - self.mark
        return self.past | {self.to: (seconds + (now_s - self.since_s), service + more, part + more / self.amount)}


class LoadClass:
    """Loads with the same set of shared capacities and the same weight."""

    __slots__ = (
        "ahead",
        "binding",
        "bottleneck",
        "bound",
        "capacities",
        "count",
        "ends",
        "falls",
        "following",
        "key",
        "offered_end",
        "offered_fall",
        "offered_rise",
        "rises",
        "weights",
    )

    def __init__(self, key: tuple[tuple[Capacity, ...], float], bottleneck: Capacity) -> None:
        self.key = key
        self.capacities = key[0]
        self.weights = dict.fromkeys(key[0], 0)
        self.count = 0
        self.following = 0
        self.bottleneck = bottleneck
        self.binding = 0
        self.ahead = 0.0
        self.bound: Bound
        # Tickets of the loads by which it stands in the three heaps of its bottleneck.
        self.offered_end = self.offered_rise = self.offered_fall = 0
        self.ends: list[tuple[float, int, Load]] = []
        self.rises: list[tuple[float, int, Load]] = []
        self.falls: list[tuple[float, int, Load]] = []


_by_order = attrgetter("order")


class Path:
    """What the loads of one route take of which capacities. Made by `Shares.path`."""

    __slots__ = ("costs", "stations")

    def __init__(self, costs: Mapping[Capacity, float], stations: Sequence[tuple[Capacity, str]]) -> None:
        self.stations = stations
        self.set_costs(costs)

    def set_costs(self, costs: Mapping[Capacity, float]) -> None:
        """Let a bit on it take other amounts of its capacities; they are kept in the order in which these were made."""
        self.costs = {capacity: costs[capacity] for capacity in sorted(costs, key=_by_order)}


_NOTHING: dict[Capacity | str, tuple[float, float, float]] = {}
"""What a load has spent that has not moved; never changed."""


class Load:
    """Bits that move, or are to move, along a path. Made by `Shares.load`.

    Args:
        path: what it crosses.
        bits: how many.
        weight: its share relative to others.
        owner: whose it is.
        cap_bps: a rate that it never exceeds, whatever its path offers.
        cause: what that cap is.
        spent: what held it back until it last stopped or changed: its bottleneck, or the cause of its cap, to seconds, bits
            moved meanwhile, and those seconds times its share of that capacity (0 for a cause).
    """

    __slots__ = (
        "active",
        "cap_bps",
        "cause",
        "following",
        "group",
        "left",
        "limit",
        "limiter",
        "mark",
        "metered",
        "owner",
        "path",
        "point",
        "rates",
        "since_s",
        "spent",
        "then",
        "ticket",
        "units",
        "weight",
    )

    def __init__(self, path: Path, bits: float, weight: float, owner: Any) -> None:
        self.path = path
        self.owner = owner
        self.weight = weight
        self.cap_bps = NEVER
        self.cause = ""
        self.spent = _NOTHING
        self.limiter: Capacity | str = ""
        self.metered = 0.0
        self.active = False
        self.ticket = 0
        self.following = False
        self.limit = NEVER
        self.group: LoadClass
        # What it takes of the capacities that it shares, of their level while it follows the clock and of their bits while it is limited.
        self.units: list[tuple[Capacity, int]] = []
        self.rates: list[tuple[Capacity, int]] | None = None
        # Bits left at `since_s`, when it last began to follow or to be limited. While it follows: the points on its class's clock at which that was and
        # at which it ends, and how its class was bound then.
        self.left = bits
        self.since_s = 0.0
        self.mark = 0.0
        self.point = 0.0
        self.then: Bound

    def spend(self, on: Capacity | str, seconds: float, bits: float, part: float) -> None:
        """Note what held it back; `part` is of bits over the capacity's amount, its cost for a bit not counted."""
        share_s = part if isinstance(on, str) else part * self.path.costs[on]
        if self.spent is _NOTHING:
            self.spent = {on: (seconds, bits, share_s)}
            return
        before = self.spent.get(on)
        if before is not None:
            seconds, bits, share_s = before[0] + seconds, before[1] + bits, before[2] + share_s
        self.spent[on] = (seconds, bits, share_s)


Entry = tuple[float, int, LoadClass, int]
"""What a capacity's heaps hold: a point on its clock or a limit, the ticket of a load, its class, and how often that was bound by then."""
