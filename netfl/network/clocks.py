"""Loads that move at max-min fair rates, by a virtual clock for each bottleneck.

All loads whose bottleneck is the same capacity move at one level (rate over weight), so one counter of cumulative service, the
capacity's clock, stands for all of them: a load ends at a fixed point of that clock, however often the level changes. Loads
are kept so that a change touches only what it must:

- A capacity that one load alone crosses is that load's limit. Loads with the same set of shared capacities and the same
  weight form one class. In a class, the loads whose limit lies under the level are *limited* and run at their limit; the others follow
  the clock. A level that rises or falls moves only the loads whose limit it passes.
- A class is bound to the capacity of the lowest level among those that it crosses. When it is bound to another, its loads keep
  their end points and only the class's offset to the clock changes.
- A change makes the capacities it touches recompute their level, each from the present levels of the others, and goes on to those
  whose own answer this can change, until none is left. A fixed point of this is max-min fair: every load has a full capacity on
  its way on which none is faster. Levels settle from the lowest up, so it is reached; if rounding should get in the way, progressive
  filling of the component concerned decides.

Sums of weights and of limited rates are kept as whole numbers of a tiny unit: adding and taking away leaves no residue, and the
result does not depend on the order of events.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Any, NamedTuple

from netfl.network.sharing import max_min_rates

__all__ = ["Capacity", "Load", "Path", "Shares"]

_WEIGHT_UNIT = 2.0**-110
_RATE_UNIT = 2.0**-60
_FULL = 1.0 + 1e-12
"""A capacity whose use exceeds its offer by no more than rounding is not overloaded."""
_Entry = tuple[float, int, "_Class", int]
_SPARE = 256
"""Heaps keep entries that no longer hold until they come up, or until these and three quarters of the rest are such."""
_NEVER = math.inf
_SAME = 1e-14
"""A level that moves by no more than this share has not changed for others."""


class Capacity:
    """What loads share. Made by `Shares.capacity`.

    Args:
        name: for people.
        amount: what it offers a second: bits, or seconds of airtime.
        exponent: with n stations that have a moving load, it offers amount * n ** -exponent.
    """

    __slots__ = (
        "amount",
        "bound_nearby",
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

    def __init__(self, name: str, order: int, amount: float, exponent: float) -> None:
        self.name = name
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
        self.groups: dict[Capacity, _Group] = {}
        self.limited = 0
        self.total = 0
        # Its level, infinite while it is not full, and its clock: `served` bits per weight at `since_s`.
        self.level = _NEVER
        self.served = 0.0
        self.since_s = 0.0
        # Of the classes bound to it, the next to end (by clock), to reach their limit, and to come under it again.
        self.ends: list[tuple[float, int, _Class, int]] = []
        self.rises: list[tuple[float, int, _Class, int]] = []
        self.falls: list[tuple[float, int, _Class, int]] = []
        # Other capacities that its classes cross, those of them that are full, and a bound below which the rest stay not full.
        self.bound_nearby: dict[Capacity, _Group] = {}
        self.full_nearby: dict[Capacity, None] = {}
        self.lowest_safe = _NEVER
        self.safe = _NEVER
        self.queued = False
        self.touched = False
        self.ticket = 0

    def clock(self, now_s: float) -> float:
        """Cumulative service per weight."""
        return self.served if self.level == _NEVER else self.served + self.level * (now_s - self.since_s)


class _Group:
    """The classes that cross one capacity and are bound to another (or the same): their weight that follows the clock."""

    __slots__ = ("classes", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.classes: dict[_Class, None] = {}


class _Bound(NamedTuple):
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


class _Class:
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
        self.bound: _Bound
        # Tickets of the loads by which it stands in the three heaps of its bottleneck.
        self.offered_end = self.offered_rise = self.offered_fall = 0
        self.ends: list[tuple[float, int, Load]] = []
        self.rises: list[tuple[float, int, Load]] = []
        self.falls: list[tuple[float, int, Load]] = []


class Path:
    """What the loads of one route take of which capacities. Made by `Shares.path`."""

    __slots__ = ("costs", "stations")

    def __init__(self, costs: Mapping[Capacity, float], stations: Sequence[tuple[Capacity, str]]) -> None:
        self.costs = {capacity: costs[capacity] for capacity in sorted(costs, key=_by_order)}
        self.stations = stations


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
        "_left",
        "_mark",
        "_point",
        "_since_s",
        "_then",
        "active",
        "cap_bps",
        "cause",
        "following",
        "group",
        "limit",
        "limiter",
        "metered",
        "owner",
        "path",
        "rates",
        "spent",
        "ticket",
        "units",
        "weight",
    )

    def __init__(self, path: Path, bits: float, weight: float, owner: Any) -> None:
        self.path = path
        self.owner = owner
        self.weight = weight
        self.cap_bps = _NEVER
        self.cause = ""
        self.spent = _NOTHING
        self.limiter: Capacity | str = ""
        self.metered = 0.0
        self.active = False
        self.ticket = 0
        self.following = False
        self.limit = _NEVER
        self.group: _Class
        # What it takes of the capacities that it shares, of their level while it follows the clock and of their bits while it is limited.
        self.units: list[tuple[Capacity, int]] = []
        self.rates: list[tuple[Capacity, int]] | None = None
        self._left = bits
        self._point = 0.0
        self._mark = 0.0
        self._since_s = 0.0
        # How its class was bound when it began to follow the clock.
        self._then: _Bound

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


class Shares:
    """All loads that move, their rates and their ends."""

    def __init__(self, patience: int = 20) -> None:
        self._patience = patience
        self._free = Capacity("free", -1, _NEVER, 0.0)
        self._free.get_ready()
        self._free.touched = True
        # Of the loads that share no capacity now.
        self._lone = _Class(((), 0.0), self._free)
        self._unbound = self._lone.bound = _Bound(self._free, _NEVER, 0.0, 0.0, {})
        self._orders = 0
        self._tickets = 0
        self._classes: dict[tuple[tuple[Capacity, ...], float], _Class] = {}
        self._dirty: deque[Capacity] = deque()
        self._touched: list[Capacity] = []
        self._due: list[tuple[float, int, Capacity | Load]] = []
        self._due_room = _SPARE

    # What the fabric asks for.

    def capacity(self, name: str, amount: float, exponent: float = 0.0) -> Capacity:
        """A new capacity; see `Capacity`."""
        self._orders += 1
        return Capacity(name, self._orders, amount, exponent)

    def path(self, costs: Mapping[Capacity, float], stations: Sequence[tuple[Capacity, str]] = ()) -> Path:
        """A new path.

        Args:
            costs: what one bit takes of each capacity.
            stations: (medium, member link) for each hop in a medium.
        """
        return Path(costs, stations)

    def load(self, path: Path, bits: float, weight: float = 1.0, owner: Any = None) -> Load:
        """A new load, which does not move yet; see `Load`."""
        return Load(path, bits, weight, owner)

    def add(self, load: Load, now_s: float) -> None:
        """Let a load move; rates are right again after `settle`."""
        path = load.path
        for medium, station in path.stations:
            self._station(medium, station, 1)
        load.active = True
        joined: dict[Load, None] | None = None
        for capacity in path.costs:
            capacity.count += 1
            if capacity.count == 1:
                capacity.sole = load
            elif not capacity.shared:
                if not capacity.ready:
                    capacity.get_ready()
                capacity.shared = True
                assert capacity.sole is not None
                if joined is None:
                    joined = {capacity.sole: None}
                else:
                    joined[capacity.sole] = None
                capacity.sole = None
        if joined is not None:
            for sole in joined:
                self._leave(sole, now_s)
                self._enter(sole, now_s)
        self._enter(load, now_s)

    def remove(self, load: Load, now_s: float) -> None:
        """Take a load away with what has moved of it; rates are right again after `settle`."""
        self._leave(load, now_s)
        load.active = False
        path = load.path
        for capacity in path.costs:
            capacity.count -= 1
            if capacity.count == 0:
                capacity.sole = None
                capacity.shared = False
        for medium, station in path.stations:
            self._station(medium, station, -1)

    def resize(self, capacity: Capacity, amount: float, now_s: float) -> None:
        """Let a capacity offer another amount from now on; rates are right again after `settle`.

        Args:
            capacity: which.
            amount: above 0.
            now_s: the time.
        """
        sole = None if capacity.shared else capacity.sole
        if sole is not None:
            # What one load alone crosses is that load's limit.
            self._leave(sole, now_s)
        for group in capacity.groups[capacity].classes if capacity.shared and capacity in capacity.groups else ():
            # What it has spent at the amount of until now.
            clock = self._clock_of(group, now_s)
            group.bound = _Bound(capacity, amount, now_s, clock, group.bound.spent(now_s, clock))
        capacity.amount = amount
        stations = len(capacity.loads_at) if capacity.loads_at else 0
        capacity.offer = amount * stations**-capacity.exponent if capacity.exponent and stations else amount
        if capacity.shared:
            self._mark(capacity)
        elif sole is not None:
            self._enter(sole, now_s)

    def recost(self, path: Path, costs: Mapping[Capacity, float], loads: Sequence[Load], now_s: float) -> None:
        """Let a bit on a path take other amounts of its capacities from now on; rates are right again after `settle`.

        Args:
            path: which.
            costs: of every capacity of the path, above 0.
            loads: those on this path that move.
            now_s: the time.
        """
        for load in loads:
            self._leave(load, now_s)
        path.costs = {capacity: costs[capacity] for capacity in sorted(costs, key=_by_order)}
        for load in loads:
            self._enter(load, now_s)

    def change(self, load: Load, now_s: float, *, cap_bps: float, cause: str = "", more_bits: float = 0.0) -> None:
        """Give a load another cap, and more bits to move; rates are right again after `settle`."""
        if load.active:
            self._leave(load, now_s)
        load.cap_bps = cap_bps
        load.cause = cause
        load._left = max(load._left, 0.0) + more_bits
        if load.active:
            self._enter(load, now_s)

    def settle(self, now_s: float) -> None:
        """Find all rates anew where something has changed."""
        dirty = self._dirty
        if dirty:
            rounds, seen = 0, set()
            while dirty:
                capacity = dirty.popleft()
                self._level(capacity, now_s)
                # Only now: what its own work changed, it has seen.
                capacity.queued = False
                rounds += 1
                seen.add(capacity)
                if rounds > self._patience * (len(seen) + 4):
                    self._fill(list(dict.fromkeys([*dirty, capacity])), now_s)
                    break
        tickets = self._tickets
        for capacity in self._touched:
            capacity.touched = False
            tickets += 1
            capacity.ticket = tickets
            level = capacity.level
            if level < _NEVER and capacity.ends:
                top = self._next_end(capacity)
                if top is not None:
                    left = top[0] - (capacity.served + level * (now_s - capacity.since_s))
                    self._push_due(now_s + left / level if left > 0.0 else now_s, capacity)
        self._tickets = tickets
        self._touched.clear()

    def next_finish_s(self) -> float:
        """When the next load ends if nothing changes; infinity if none moves."""
        due = self._due
        while due:
            time_s, ticket, what = due[0]
            if what.ticket == ticket:
                return time_s
            heappop(due)
        return _NEVER

    def take_finished(self, now_s: float) -> list[Load]:
        """The loads that end now; each is to be removed."""
        finished: list[Load] = []
        due = self._due
        while due and due[0][0] <= now_s:
            _, ticket, what = heappop(due)
            if what.ticket != ticket:
                continue
            if isinstance(what, Load):
                what.ticket = 0
                finished.append(what)
                continue
            if not what.touched:
                what.touched = True
                self._touched.append(what)
            top = self._next_end(what)
            assert top is not None
            # The first has ended, whatever rounding says: the timer was set for it.
            last = max(top[0], what.clock(now_s) + 4e-16 * now_s * what.level)
            while top is not None and top[0] <= last:
                load = top[2].ends[0][2]
                load.ticket = 0
                finished.append(load)
                top = self._next_end(what)
        return finished

    def left_bits(self, load: Load, now_s: float) -> float:
        """What is still to move of it."""
        if not load.active:
            return load._left
        if load.following:
            return (load._point - self._clock_of(load.group, now_s)) * load.weight
        return load._left - load.limit * load.weight * (now_s - load._since_s)

    def metered_bits(self, load: Load, now_s: float) -> float:
        """Its rate integrated over time."""
        if not load.active:
            return load.metered
        if load.following:
            return load.metered + (self._clock_of(load.group, now_s) - load._mark) * load.weight
        return load.metered + load.limit * load.weight * (now_s - load._since_s)

    def rate_bps(self, load: Load) -> float:
        """Its rate now; 0 while it does not move."""
        if not load.active:
            return 0.0
        return load.weight * (load.group.bottleneck.level if load.following else load.limit)

    # Loads and classes.

    def _station(self, medium: Capacity, station: str, change: int) -> None:
        at = medium.loads_at
        if at is None:
            at = medium.loads_at = {}
        count = at.get(station, 0) + change
        if count:
            at[station] = count
        else:
            del at[station]
        if medium.exponent and at:
            offer = medium.amount * len(at) ** -medium.exponent
            if offer != medium.offer:
                medium.offer = offer
                if not medium.ready:
                    medium.get_ready()
                self._mark(medium)

    def _push_due(self, time_s: float, what: Capacity | Load) -> None:
        heappush(self._due, (time_s, what.ticket, what))
        if len(self._due) > self._due_room:
            _sweep(self._due)
            self._due_room = 4 * len(self._due) + _SPARE

    def _clock_of(self, group: _Class, now_s: float) -> float:
        return group.bottleneck.clock(now_s) + group.ahead

    def _enter(self, load: Load, now_s: float) -> None:
        """Put an active load into its class, at the class's present level."""
        weight = load.weight
        limit = load.cap_bps / weight
        limiter: Capacity | str = load.cause
        shared: list[Capacity] = []
        units: list[tuple[Capacity, int]] = []
        for capacity, cost in load.path.costs.items():
            take = cost * weight
            if capacity.shared:
                shared.append(capacity)
                units.append((capacity, _ONE if take == 1.0 else _units(take)))
            else:
                sole = capacity.offer / take
                if sole < limit:
                    limit = sole
                    limiter = capacity
        load.limit = limit
        load.limiter = limiter
        load.units = units
        load.rates = None
        if shared:
            key = (tuple(shared), weight)
            group = self._classes.get(key)
            if group is None:
                group = self._classes[key] = self._class(key, now_s)
            for capacity, unit in units:
                capacity.total += unit
                if not capacity.queued:
                    capacity.queued = True
                    self._dirty.append(capacity)
        else:
            group = self._lone
        group.count += 1
        load.group = group
        bottleneck = group.bottleneck
        if limit < bottleneck.level:
            self._limit(load, now_s)
            if bottleneck is not self._free:
                self._offer_fall(group)
        else:
            self._follow(load, now_s)
            if bottleneck is not self._free:
                self._offer_rise(group)
                self._offer_end(group)

    def _class(self, key: tuple[tuple[Capacity, ...], float], now_s: float) -> _Class:
        """A new class, bound to the capacity of the lowest level."""
        bottleneck, level = self._free, _NEVER
        for capacity in key[0]:
            if capacity.level < level:
                bottleneck, level = capacity, capacity.level
        group = _Class(key, bottleneck)
        self._attach(group)
        group.bound = self._unbound
        if bottleneck is not self._free:
            group.bound = _Bound(bottleneck, bottleneck.amount, now_s, bottleneck.clock(now_s), {})
        return group

    def _leave(self, load: Load, now_s: float) -> None:
        """Take an active load out of its class, with what is left of it."""
        group = load.group
        if load.following:
            self._unfollow(load, now_s)
        else:
            self._unlimit(load, now_s)
        load.ticket = 0
        group.count -= 1
        if len(group.rises) > 2 * group.count + _SPARE:
            _sweep(group.rises)
        bottleneck = group.bottleneck
        if not bottleneck.touched:
            bottleneck.touched = True
            self._touched.append(bottleneck)
        for capacity, unit in load.units:
            capacity.total -= unit
            if capacity.level < _NEVER and not capacity.queued:
                capacity.queued = True
                self._dirty.append(capacity)
        if not group.count and group is not self._lone:
            self._detach(group)
            del self._classes[group.key]

    def _follow(self, load: Load, now_s: float) -> None:
        group = load.group
        bottleneck = group.bottleneck
        load.following = True
        load._mark = mark = bottleneck.clock(now_s) + group.ahead
        load._point = point = mark + load._left / load.weight
        load._since_s = now_s
        load._then = group.bound
        self._tickets += 1
        load.ticket = ticket = self._tickets
        group.following += 1
        spare = 4 * group.count + _SPARE
        heappush(group.ends, (point, ticket, load))
        if len(group.ends) > spare:
            _sweep(group.ends)
        if load.limit < _NEVER:
            heappush(group.rises, (load.limit, ticket, load))
            if len(group.rises) > spare:
                _sweep(group.rises)
        weights = group.weights
        for capacity, unit in load.units:
            weights[capacity] += unit
            capacity.groups[bottleneck].weight += unit

    def _unfollow(self, load: Load, now_s: float) -> None:
        group = load.group
        bottleneck = group.bottleneck
        clock = bottleneck.clock(now_s) + group.ahead
        load._left = (load._point - clock) * load.weight
        moved = (clock - load._mark) * load.weight
        load.metered += moved
        if load._then is not group.bound:
            self._spend_following(load, clock, now_s)
        elif now_s > load._since_s:
            load.spend(bottleneck, now_s - load._since_s, moved, moved / group.bound.amount)
        group.following -= 1
        weights = group.weights
        for capacity, unit in load.units:
            weights[capacity] -= unit
            capacity.groups[bottleneck].weight -= unit

    def _spend_following(self, load: Load, clock: float, now_s: float) -> None:
        """Note the bottlenecks that its class had while it followed the clock: what the class has spent by now, less what it had spent then."""
        then = load._then.spent(load._since_s, load._mark)
        for capacity, (seconds, service, part) in load.group.bound.spent(now_s, clock).items():
            seconds_then, service_then, part_then = then.get(capacity, (0.0, 0.0, 0.0))
            if seconds > seconds_then:
                load.spend(capacity, seconds - seconds_then, (service - service_then) * load.weight, (part - part_then) * load.weight)

    def _limit(self, load: Load, now_s: float) -> None:
        group, limit = load.group, load.limit
        load.following = False
        load._since_s = now_s
        self._tickets += 1
        load.ticket = ticket = self._tickets
        left = load._left
        self._push_due(now_s + (left if left > 0.0 else 0.0) / (limit * load.weight), load)
        if not group.capacities:
            return
        heappush(group.falls, (-limit, ticket, load))
        if len(group.falls) > 4 * group.count + _SPARE:
            _sweep(group.falls)
        rates = load.rates
        if rates is None:
            whole = int(limit / _RATE_UNIT)
            rates = load.rates = [
                (capacity, whole if unit is _ONE else int(unit * _WEIGHT_UNIT * limit / _RATE_UNIT)) for capacity, unit in load.units
            ]
        for capacity, rate in rates:
            capacity.limited += rate

    def _unlimit(self, load: Load, now_s: float) -> None:
        seconds = now_s - load._since_s
        if seconds > 0.0:
            moved = load.limit * load.weight * seconds
            load._left -= moved
            load.metered += moved
            limiter = load.limiter
            load.spend(limiter, seconds, moved, 0.0 if isinstance(limiter, str) else moved / limiter.amount)
        if load.rates:
            for capacity, rate in load.rates:
                capacity.limited -= rate

    def _fit(self, group: _Class, level: float, now_s: float) -> None:
        """Limit the loads whose limit lies under the level, and no others, and let the bottleneck know."""
        moved = False
        heap = group.rises
        while heap and (heap[0][2].ticket != heap[0][1] or heap[0][0] < level):
            _, ticket, load = heappop(heap)
            if load.ticket == ticket:
                self._unfollow(load, now_s)
                self._limit(load, now_s)
                moved = True
        if not moved:
            heap = group.falls
            while heap and (heap[0][2].ticket != heap[0][1] or -heap[0][0] >= level):
                _, ticket, load = heappop(heap)
                if load.ticket == ticket:
                    self._unlimit(load, now_s)
                    self._follow(load, now_s)
        if group.bottleneck is not self._free:
            self._offer_rise(group)
            self._offer_fall(group)
            self._offer_end(group)

    # What a bottleneck knows of its classes' loads: of each class the first in each of three orders.

    def _offer_end(self, group: _Class) -> None:
        """Let its bottleneck know which of its loads ends first."""
        heap = group.ends
        while heap:
            point, ticket, load = heap[0]
            if load.ticket == ticket:
                if ticket != group.offered_end:
                    group.offered_end = ticket
                    self._offer(group.bottleneck, group.bottleneck.ends, (point - group.ahead, ticket, group, group.binding))
                return
            heappop(heap)

    def _offer_rise(self, group: _Class) -> None:
        """Let its bottleneck know which of its following loads has the lowest limit."""
        heap = group.rises
        while heap:
            limit, ticket, load = heap[0]
            if load.ticket == ticket:
                if ticket != group.offered_rise:
                    group.offered_rise = ticket
                    self._offer(group.bottleneck, group.bottleneck.rises, (limit, ticket, group, group.binding))
                return
            heappop(heap)

    def _offer_fall(self, group: _Class) -> None:
        """Let its bottleneck know which of its limited loads has the highest limit."""
        heap = group.falls
        while heap:
            limit, ticket, load = heap[0]
            if load.ticket == ticket:
                if ticket != group.offered_fall:
                    group.offered_fall = ticket
                    self._offer(group.bottleneck, group.bottleneck.falls, (limit, ticket, group, group.binding))
                return
            heappop(heap)

    def _offer(self, bottleneck: Capacity, heap: list[_Entry], entry: _Entry) -> None:
        heappush(heap, entry)
        if len(heap) > 4 * len(bottleneck.groups[bottleneck].classes) + _SPARE:
            if heap is bottleneck.ends:
                heap[:] = [each for each in heap if each[2].binding == each[3] and each[2].offered_end == each[1]]
            elif heap is bottleneck.rises:
                heap[:] = [each for each in heap if each[2].binding == each[3] and each[2].offered_rise == each[1]]
            else:
                heap[:] = [each for each in heap if each[2].binding == each[3] and each[2].offered_fall == each[1]]
            heapify(heap)

    def _next_end(self, capacity: Capacity) -> _Entry | None:
        """Of the classes bound to it, the one whose first load ends first; that load is at the head of the class's ends."""
        heap = capacity.ends
        while heap:
            top = heap[0]
            _, ticket, group, binding = top
            if group.binding == binding and group.offered_end == ticket:
                if group.ends:
                    _, first, load = group.ends[0]
                    if first == ticket and load.ticket == ticket:
                        return top
                group.offered_end = 0
                heappop(heap)
                self._offer_end(group)
            else:
                heappop(heap)
        return None

    # Classes and capacities.

    def _attach(self, group: _Class) -> None:
        """Enter a class in the groups of its bottleneck."""
        bottleneck = group.bottleneck
        for capacity, weight in group.weights.items():
            found = capacity.groups.get(bottleneck)
            if found is None:
                found = capacity.groups[bottleneck] = _Group()
                if capacity is not bottleneck and bottleneck is not self._free:
                    bottleneck.bound_nearby[capacity] = found
                    if capacity.level < _NEVER:
                        bottleneck.full_nearby[capacity] = None
                    elif capacity.safe < bottleneck.lowest_safe:
                        bottleneck.lowest_safe = capacity.safe
            if weight:
                found.weight += weight
            found.classes[group] = None

    def _detach(self, group: _Class) -> None:
        bottleneck = group.bottleneck
        for capacity, weight in group.weights.items():
            groups = capacity.groups
            found = groups[bottleneck]
            if weight:
                found.weight -= weight
            del found.classes[group]
            if not found.classes:
                del groups[bottleneck]
                if capacity is not bottleneck and bottleneck is not self._free:
                    del bottleneck.bound_nearby[capacity]
                    bottleneck.full_nearby.pop(capacity, None)
        group.binding += 1
        group.offered_end = group.offered_rise = group.offered_fall = 0

    def _bind(self, group: _Class, to: Capacity, now_s: float) -> None:
        """Bind a class to another capacity, of those that it crosses, or to none (`_free`)."""
        bottleneck = group.bottleneck
        clock = bottleneck.clock(now_s) + group.ahead
        bound = group.bound
        past = bound.spent(now_s, clock) if now_s > bound.since_s and group.following else bound.past
        group.bound = _Bound(to, to.amount, now_s, clock, past)
        if not bottleneck.touched:
            bottleneck.touched = True
            self._touched.append(bottleneck)
        self._detach(group)
        group.bottleneck = to
        level = to.level
        group.ahead = clock - to.clock(now_s)
        self._attach(group)
        if not to.touched:
            to.touched = True
            self._touched.append(to)
        self._fit(group, level, now_s)
        for capacity in group.capacities:
            if (capacity.level < _NEVER or level > capacity.safe) and not capacity.queued:
                capacity.queued = True
                self._dirty.append(capacity)

    def _mark(self, capacity: Capacity) -> None:
        if not capacity.queued:
            capacity.queued = True
            self._dirty.append(capacity)

    # Levels.

    def _set(self, capacity: Capacity, level: float, now_s: float) -> None:
        """Change a level: the clock first goes on to now at the old one."""
        was = capacity.level
        if was != _NEVER:
            capacity.served += was * (now_s - capacity.since_s)
        capacity.since_s = now_s
        capacity.level = level
        if not capacity.touched:
            capacity.touched = True
            self._touched.append(capacity)
        if was == _NEVER:
            if level != _NEVER:
                for other in capacity.groups:
                    if other is not capacity:
                        other.full_nearby[capacity] = None
        elif level == _NEVER:
            for other in capacity.groups:
                if other is not capacity:
                    other.full_nearby.pop(capacity, None)

    def _level(self, capacity: Capacity, now_s: float) -> None:
        """Recompute one level from the present levels of all others."""
        was, offer, groups = capacity.level, capacity.offer, capacity.groups
        level = was
        if was == _NEVER:
            if self._has_room(capacity):
                return
            level = self._top(capacity)
            self._set(capacity, level, now_s)
        if len(groups) > 1 or capacity not in groups:
            self._take(capacity, now_s)
        falling = True
        while True:
            # Loads of other bottlenecks that are no slower than this level would be held here, were it any lower.
            fixed, slope = capacity.limited * _RATE_UNIT, 0
            # The highest level below this one, and whether another bottleneck has this very level.
            below, tied = 0.0, False
            for other, group in groups.items():
                its_level = other.level
                if its_level >= level:
                    slope += group.weight
                    tied = tied or other is not capacity
                else:
                    if its_level > below:
                        below = its_level
                    if group.weight:
                        fixed += group.weight * _WEIGHT_UNIT * its_level
            if slope:
                # Use is a concave function of the level, so this tangent never leads beyond the answer.
                new = (offer - fixed) / (slope * _WEIGHT_UNIT)
                least = offer / (capacity.total * _WEIGHT_UNIT)
                if new < least:
                    new = least
                if new == level or (not falling and new <= level):
                    break
                falling = False
            elif fixed <= offer * _FULL:
                new = _NEVER
            else:
                new = self._top(capacity)
                falling = True
            level = new
            self._set(capacity, level, now_s)
            if level == _NEVER:
                break
            if tied or level <= below or not slope:
                self._take(capacity, now_s)
                self._shift(capacity, now_s)
            elif not self._shift(capacity, now_s):
                # No load is taken, limited or released: the same would be found again.
                break
        if level == _NEVER:
            self._free_all(capacity, now_s)
            self._has_room(capacity)
            self._spread(capacity)
        elif (was == _NEVER or abs(level - was) > _SAME * level) and (capacity.full_nearby or level > capacity.lowest_safe):
            self._spread(capacity)

    def _has_room(self, capacity: Capacity) -> bool:
        """Whether what crosses it takes no more than it offers; if so, find the level up to which other levels may rise before it could be full."""
        use = capacity.limited * _RATE_UNIT
        left = capacity.offer - use
        weight = 0
        levels: list[tuple[float, int]] = []
        for other, group in capacity.groups.items():
            if group.weight:
                weight += group.weight
                levels.append((other.level, group.weight))
                use += group.weight * _WEIGHT_UNIT * other.level
        if use > capacity.offer * _FULL:
            return False
        safe = _NEVER
        if weight:
            safe = left / (weight * _WEIGHT_UNIT)
            if len(levels) > 1:
                levels.sort(reverse=True, key=_first)
            for level, part in levels:
                if safe >= level:
                    break
                # What is faster than that stays as it is: if it changes, this is found anew.
                left -= part * _WEIGHT_UNIT * level
                weight -= part
                safe = left / (weight * _WEIGHT_UNIT) if weight else 0.0
        capacity.safe = safe
        if safe != _NEVER:
            for other in capacity.groups:
                if safe < other.lowest_safe:
                    other.lowest_safe = safe
        return True

    def _top(self, capacity: Capacity) -> float:
        """The highest level at which a load that crosses it runs; if a load has no bound yet, at least its equal share."""
        top = 0.0
        for other, found in capacity.groups.items():
            for group in found.classes:
                if group.following:
                    reach = other.level if other.level < _NEVER else capacity.offer / (capacity.total * _WEIGHT_UNIT)
                    top = max(top, reach)
                heap = group.falls
                while heap and heap[0][2].ticket != heap[0][1]:
                    heappop(heap)
                if heap:
                    top = max(top, -heap[0][0])
        return top

    def _take(self, capacity: Capacity, now_s: float) -> None:
        """Bind to it the classes that cross it and run at a higher level elsewhere."""
        level = capacity.level
        for other in [other for other in capacity.groups if other.level > level]:
            for group in list(capacity.groups[other].classes):
                self._bind(group, capacity, now_s)

    def _free_all(self, capacity: Capacity, now_s: float) -> None:
        """It is not full: bind its classes to the lowest of the other capacities that are."""
        own = capacity.groups.get(capacity)
        for group in list(own.classes) if own is not None else ():
            to = min(group.capacities, key=_by_level)
            self._bind(group, self._free if to.level == _NEVER else to, now_s)
        capacity.served = 0.0
        capacity.ends.clear()
        capacity.rises.clear()
        capacity.falls.clear()

    def _shift(self, capacity: Capacity, now_s: float) -> bool:
        """Limit and release the loads whose limit its level has passed; whether there were any."""
        level = capacity.level
        shifted = False
        heap = capacity.rises
        while heap and heap[0][0] < level:
            _, ticket, group, binding = heappop(heap)
            if group.binding == binding and group.offered_rise == ticket:
                group.offered_rise = 0
                self._fit(group, level, now_s)
                shifted = True
        heap = capacity.falls
        while heap and -heap[0][0] >= level:
            _, ticket, group, binding = heappop(heap)
            if group.binding == binding and group.offered_fall == ticket:
                group.offered_fall = 0
                self._fit(group, level, now_s)
                shifted = True
        return shifted

    def _spread(self, capacity: Capacity) -> None:
        """Its level has changed: those whose answer depends on it have to look again."""
        level = capacity.level
        for other in capacity.full_nearby:
            self._mark(other)
        if level > capacity.lowest_safe:
            lowest = _NEVER
            for other in capacity.bound_nearby:
                if other.level == _NEVER:
                    if level > other.safe:
                        self._mark(other)
                    else:
                        lowest = min(lowest, other.safe)
            capacity.lowest_safe = lowest

    def _fill(self, start: list[Capacity], now_s: float) -> None:
        """Solve the component of these capacities by progressive filling, load by load."""
        component = dict.fromkeys(start)
        classes: dict[_Class, None] = {}
        queue = list(component)
        for capacity in queue:
            for found in capacity.groups.values():
                for group in found.classes:
                    classes[group] = None
                    fresh = [other for other in group.capacities if other not in component]
                    component.update(dict.fromkeys(fresh))
                    queue += fresh
        place = {capacity: number for number, capacity in enumerate(component)}
        offers = [capacity.offer for capacity in component]
        loads = [
            load for group in classes for _, ticket, load in (*group.ends, *group.falls) if load.ticket == ticket and load.group is group
        ]
        costs: list[dict[int, float]] = []
        for load in loads:
            takes = {place[capacity]: unit * _WEIGHT_UNIT / load.weight for capacity, unit in load.units}
            if load.limit < _NEVER:
                takes[len(offers)] = 1.0
                offers.append(load.limit * load.weight)
            costs.append(takes)
        rates = max_min_rates(offers, costs, [load.weight for load in loads])
        use = [0.0] * len(component)
        highest = [0.0] * len(component)
        for load, rate, takes in zip(loads, rates, costs, strict=True):
            for number, cost in takes.items():
                if number < len(component):
                    use[number] += cost * rate
                    highest[number] = max(highest[number], rate / load.weight)
        for capacity, used, level in zip(component, use, highest, strict=True):
            self._set(capacity, level if used >= capacity.offer * (1 - 1e-9) else _NEVER, now_s)
        for group in classes:
            to = min(group.capacities, key=_by_level)
            self._bind(group, self._free if to.level == _NEVER else to, now_s)
        for capacity in component:
            if capacity.level == _NEVER:
                self._free_all(capacity, now_s)
                self._has_room(capacity)
            capacity.queued = False
        self._dirty.clear()


@lru_cache(maxsize=4096)
def _units(weight: float) -> int:
    return int(weight / _WEIGHT_UNIT)


_ONE = _units(1.0)


def _sweep(heap: list[Any]) -> None:
    """Drop the entries that no longer hold."""
    heap[:] = [entry for entry in heap if entry[2].ticket == entry[1]]
    heapify(heap)


def _by_level(capacity: Capacity) -> tuple[float, int]:
    return (capacity.level, capacity.order)


_by_order = attrgetter("order")


def _first(pair: tuple[float, int]) -> float:
    return pair[0]
