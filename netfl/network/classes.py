"""How loads enter and leave classes, and how classes are bound to capacities; `netfl.network.clocks` says what for."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Any

from netfl.network.loads import NEVER, Bound, Capacity, Entry, Group, Load, LoadClass

__all__ = ["RATE_UNIT", "WEIGHT_UNIT", "Classes"]

WEIGHT_UNIT = 2.0**-110
RATE_UNIT = 2.0**-60
_SPARE = 256
"""Heaps keep entries that no longer hold until they come up, or until these and three quarters of the rest are such."""


class Classes:
    """The loads that move, in classes, and the classes by the capacity to which they are bound."""

    def __init__(self) -> None:
        # To this one are bound the classes that no full capacity holds back. Nothing ends by its clock: it never has to be touched.
        self._free = Capacity("free", -1, NEVER, 0.0, "")
        self._free.get_ready()
        self._free.touched = True
        # Of the loads that share no capacity now, whatever their weights.
        self._lone = LoadClass(((), 0.0), self._free)
        self._unbound = self._lone.bound = Bound(self._free, NEVER, 0.0, 0.0, {})
        self._classes: dict[tuple[tuple[Capacity, ...], float], LoadClass] = {}
        self._tickets = 0
        # Capacities whose level is to be found anew, and those whose next end may be another.
        self._dirty: deque[Capacity] = deque()
        self._touched: list[Capacity] = []
        # When a capacity's next end comes, or that of a limited load.
        self._due: list[tuple[float, int, Capacity | Load]] = []
        self._due_room = _SPARE

    # Loads and classes.

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
                if group.rises:
                    self._offer_rise(group)
                self._offer_end(group)

    def _class(self, key: tuple[tuple[Capacity, ...], float], now_s: float) -> LoadClass:
        """A new class, bound to the capacity of the lowest level."""
        bottleneck, level = self._free, NEVER
        for capacity in key[0]:
            if capacity.level < level:
                bottleneck, level = capacity, capacity.level
        group = LoadClass(key, bottleneck)
        self._attach(group)
        group.bound = self._unbound
        if bottleneck is not self._free:
            group.bound = Bound(bottleneck, bottleneck.amount, now_s, bottleneck.clock(now_s), {})
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
            if capacity.level < NEVER and not capacity.queued:
                capacity.queued = True
                self._dirty.append(capacity)
        if not group.count and group is not self._lone:
            self._detach(group)
            del self._classes[group.key]

    def _follow(self, load: Load, now_s: float) -> None:
        group = load.group
        bottleneck = group.bottleneck
        load.following = True
        load.mark = mark = bottleneck.clock(now_s) + group.ahead
        load.point = point = mark + load.left / load.weight
        load.since_s = now_s
        load.then = group.bound
        self._tickets += 1
        load.ticket = ticket = self._tickets
        group.following += 1
        spare = 4 * group.count + _SPARE
        heappush(group.ends, (point, ticket, load))
        if len(group.ends) > spare:
            _sweep(group.ends)
        if load.limit < NEVER:
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
        load.left = (load.point - clock) * load.weight
        moved = (clock - load.mark) * load.weight
        load.metered += moved
        if load.then is not group.bound:
            self._spend_following(load, clock, now_s)
        elif now_s > load.since_s:
            load.spend(bottleneck, now_s - load.since_s, moved, moved / group.bound.amount)
        group.following -= 1
        weights = group.weights
        for capacity, unit in load.units:
            weights[capacity] -= unit
            capacity.groups[bottleneck].weight -= unit

    def _spend_following(self, load: Load, clock: float, now_s: float) -> None:
        """Note the bottlenecks that its class had while it followed the clock: what the class has spent by now, less what it had spent then."""
        then = load.then.spent(load.since_s, load.mark)
        for capacity, (seconds, service, part) in load.group.bound.spent(now_s, clock).items():
            seconds_then, service_then, part_then = then.get(capacity, (0.0, 0.0, 0.0))
            if seconds > seconds_then:
                load.spend(capacity, seconds - seconds_then, (service - service_then) * load.weight, (part - part_then) * load.weight)

    def _limit(self, load: Load, now_s: float) -> None:
        group, limit = load.group, load.limit
        load.following = False
        load.since_s = now_s
        self._tickets += 1
        load.ticket = ticket = self._tickets
        left = load.left
        self._push_due(now_s + (left if left > 0.0 else 0.0) / (limit * load.weight), load)
        if not group.capacities:
            return
        heappush(group.falls, (-limit, ticket, load))
        if len(group.falls) > 4 * group.count + _SPARE:
            _sweep(group.falls)
        rates = load.rates
        if rates is None:
            whole = int(limit / RATE_UNIT)
            rates = load.rates = [
                (capacity, whole if unit is _ONE else int(unit * WEIGHT_UNIT * limit / RATE_UNIT)) for capacity, unit in load.units
            ]
        for capacity, rate in rates:
            capacity.limited += rate

    def _unlimit(self, load: Load, now_s: float) -> None:
        seconds = now_s - load.since_s
        if seconds > 0.0:
            moved = load.limit * load.weight * seconds
            load.left -= moved
            load.metered += moved
            limiter = load.limiter
            load.spend(limiter, seconds, moved, 0.0 if isinstance(limiter, str) else moved / limiter.amount)
        if load.rates:
            for capacity, rate in load.rates:
                capacity.limited -= rate

    def _fit(self, group: LoadClass, level: float, now_s: float) -> None:
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
            if group.rises:
                self._offer_rise(group)
            if group.falls:
                self._offer_fall(group)
            if group.ends:
                self._offer_end(group)

    def _push_due(self, time_s: float, what: Capacity | Load) -> None:
        heappush(self._due, (time_s, what.ticket, what))
        if len(self._due) > self._due_room:
            _sweep(self._due)
            self._due_room = 4 * len(self._due) + _SPARE

    # What a bottleneck knows of its classes' loads: of each class the first in each of three orders.

    def _offer_end(self, group: LoadClass) -> None:
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

    def _offer_rise(self, group: LoadClass) -> None:
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

    def _offer_fall(self, group: LoadClass) -> None:
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

    def _offer(self, bottleneck: Capacity, heap: list[Entry], entry: Entry) -> None:
        heappush(heap, entry)
        if len(heap) > 4 * len(bottleneck.groups[bottleneck].classes) + _SPARE:
            if heap is bottleneck.ends:
                heap[:] = [each for each in heap if each[2].binding == each[3] and each[2].offered_end == each[1]]
            elif heap is bottleneck.rises:
                heap[:] = [each for each in heap if each[2].binding == each[3] and each[2].offered_rise == each[1]]
            else:
                heap[:] = [each for each in heap if each[2].binding == each[3] and each[2].offered_fall == each[1]]
            heapify(heap)

    def _next_end(self, capacity: Capacity) -> Entry | None:
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

    def _attach(self, group: LoadClass) -> None:
        """Enter a class in the groups of its bottleneck."""
        bottleneck = group.bottleneck
        for capacity, weight in group.weights.items():
            found = capacity.groups.get(bottleneck)
            if found is None:
                found = capacity.groups[bottleneck] = Group()
                if capacity is not bottleneck and bottleneck is not self._free:
                    bottleneck.bound_nearby[capacity] = found
                    if capacity.level < NEVER:
                        bottleneck.full_nearby[capacity] = None
                    elif capacity.safe < bottleneck.lowest_safe:
                        bottleneck.lowest_safe = capacity.safe
            if weight:
                found.weight += weight
            found.classes[group] = None

    def _detach(self, group: LoadClass) -> None:
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

    def _bind(self, group: LoadClass, to: Capacity, now_s: float) -> None:
        """Bind a class to another capacity, of those that it crosses, or to none (`_free`)."""
        bottleneck = group.bottleneck
        clock = bottleneck.clock(now_s) + group.ahead
        bound = group.bound
        past = bound.spent(now_s, clock) if now_s > bound.since_s and group.following else bound.past
        group.bound = Bound(to, to.amount, now_s, clock, past)
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
            if (capacity.level < NEVER or level > capacity.safe) and not capacity.queued:
                capacity.queued = True
                self._dirty.append(capacity)

    def _clock_of(self, group: LoadClass, now_s: float) -> float:
        return group.bottleneck.clock(now_s) + group.ahead

    def _mark(self, capacity: Capacity) -> None:
        if not capacity.queued:
            capacity.queued = True
            self._dirty.append(capacity)


@lru_cache(maxsize=4096)
def _units(weight: float) -> int:
    return int(weight / WEIGHT_UNIT)


_ONE = _units(1.0)


def _sweep(heap: list[Any]) -> None:
    """Drop the entries that no longer hold."""
    heap[:] = [entry for entry in heap if entry[2].ticket == entry[1]]
    heapify(heap)
