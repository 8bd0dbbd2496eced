"""Loads that move at max-min fair rates, by a virtual clock for each bottleneck.

All loads whose bottleneck is the same capacity move at one level (rate over weight), so one counter of cumulative service, the
capacity's clock, stands for all of them: a load ends at a fixed point of that clock, however often the level changes. Loads
are kept so that a change touches only what it must:

- A capacity that one load alone crosses is that load's limit, and has no clock before a second one comes. Loads with the same set of
  shared capacities and the same weight form one class. In a class, the loads whose limit lies under the level are *limited* and run at
  their limit; the others follow the clock. A level that rises or falls moves only the loads whose limit it passes.
- A class is bound to the capacity of the lowest level among those that it crosses. When it is bound to another, its loads keep
  their end points and only the class's offset to the clock changes.
- A change makes the capacities it touches recompute their level, each from the present levels of the others, and goes on to those
  whose own answer this can change, until none is left. A fixed point of this is max-min fair: every load has a full capacity on
  its way on which none is faster. Levels settle from the lowest up, so it is reached; if rounding should get in the way, progressive
  filling of the component concerned decides.

Sums of weights and of limited rates are kept as whole numbers of a tiny unit: adding and taking away leaves no residue, and the
result does not depend on the order of events.

`netfl.network.loads` is what there is; `netfl.network.classes`, how loads enter and leave classes and how classes are bound; here are the levels,
and what the fabric asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heappop
from typing import Any

from netfl.network.classes import RATE_UNIT, WEIGHT_UNIT, Classes
from netfl.network.loads import NEVER, Bound, Capacity, Load, LoadClass, Path
from netfl.network.sharing import max_min_rates

__all__ = ["Capacity", "Load", "Path", "Shares"]

_FULL = 1.0 + 1e-12
"""A capacity whose use exceeds its offer by no more than rounding is not overloaded."""
_SAME = 1e-14
"""A level that moves by no more than this share has not changed for others."""


class Shares(Classes):
    """All loads that move, their rates and their ends."""

    def __init__(self, patience: int = 20) -> None:
        super().__init__()
        self._patience = patience
        self._orders = 0

    # What the fabric asks for.

    def capacity(self, name: str, amount: float, exponent: float = 0.0, cause: str = "link") -> Capacity:
        """A new capacity; see `Capacity`."""
        self._orders += 1
        return Capacity(name, self._orders, amount, exponent, cause)

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
            group.bound = Bound(capacity, amount, now_s, clock, group.bound.spent(now_s, clock))
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
        path.set_costs(costs)
        for load in loads:
            self._enter(load, now_s)

    def change(self, load: Load, now_s: float, *, cap_bps: float, cause: str = "", more_bits: float = 0.0) -> None:
        """Give a load another cap, and more bits to move; rates are right again after `settle`."""
        if load.active:
            self._leave(load, now_s)
        load.cap_bps = cap_bps
        load.cause = cause
        load.left = max(load.left, 0.0) + more_bits
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
            if level < NEVER and capacity.ends:
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
        return NEVER

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
            return load.left
        if load.following:
            return (load.point - self._clock_of(load.group, now_s)) * load.weight
        return load.left - load.limit * load.weight * (now_s - load.since_s)

    def metered_bits(self, load: Load, now_s: float) -> float:
        """Its rate integrated over time."""
        if not load.active:
            return load.metered
        if load.following:
            return load.metered + (self._clock_of(load.group, now_s) - load.mark) * load.weight
        return load.metered + load.limit * load.weight * (now_s - load.since_s)

    def rate_bps(self, load: Load) -> float:
        """Its rate now; 0 while it does not move."""
        if not load.active:
            return 0.0
        return load.weight * (load.group.bottleneck.level if load.following else load.limit)

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

    # Levels.

    def _set(self, capacity: Capacity, level: float, now_s: float) -> None:
        """Change a level: the clock first goes on to now at the old one."""
        was = capacity.level
        if was != NEVER:
            capacity.served += was * (now_s - capacity.since_s)
        capacity.since_s = now_s
        capacity.level = level
        if not capacity.touched:
            capacity.touched = True
            self._touched.append(capacity)
        if was == NEVER:
            if level != NEVER:
                for other in capacity.groups:
                    if other is not capacity:
                        other.full_nearby[capacity] = None
        elif level == NEVER:
            for other in capacity.groups:
                if other is not capacity:
                    other.full_nearby.pop(capacity, None)

    def _level(self, capacity: Capacity, now_s: float) -> None:
        """Recompute one level from the present levels of all others."""
        was, offer, groups = capacity.level, capacity.offer, capacity.groups
        level = was
        if was == NEVER:
            if self._has_room(capacity):
                return
            level = self._top(capacity)
            self._set(capacity, level, now_s)
        if len(groups) > 1 or capacity not in groups:
            self._take(capacity, now_s)
        falling = True
        while True:
            # Loads of other bottlenecks that are no slower than this level would be held here, were it any lower.
            fixed, slope = capacity.limited * RATE_UNIT, 0
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
                        fixed += group.weight * WEIGHT_UNIT * its_level
            if slope:
                # Use is a concave function of the level, so this tangent never leads beyond the answer.
                new = (offer - fixed) / (slope * WEIGHT_UNIT)
                least = offer / (capacity.total * WEIGHT_UNIT)
                if new < least:
                    new = least
                if new == level or (not falling and new <= level):
                    break
                falling = False
            elif fixed <= offer * _FULL:
                new = NEVER
            else:
                new = self._top(capacity)
                falling = True
            level = new
            self._set(capacity, level, now_s)
            if level == NEVER:
                break
            if tied or level <= below or not slope:
                self._take(capacity, now_s)
                self._shift(capacity, now_s)
            elif not ((capacity.rises or capacity.falls) and self._shift(capacity, now_s)):
                # No load is taken, limited or released: the same would be found again.
                break
        if level == NEVER:
            self._free_all(capacity, now_s)
            self._has_room(capacity)
            self._spread(capacity)
        elif (was == NEVER or abs(level - was) > _SAME * level) and (capacity.full_nearby or level > capacity.lowest_safe):
            self._spread(capacity)

    def _has_room(self, capacity: Capacity) -> bool:
        """Whether what crosses it takes no more than it offers; if so, find the level up to which other levels may rise before it could be full."""
        use = capacity.limited * RATE_UNIT
        left = capacity.offer - use
        weight = 0
        levels: list[tuple[float, int]] = []
        for other, group in capacity.groups.items():
            if group.weight:
                weight += group.weight
                levels.append((other.level, group.weight))
                use += group.weight * WEIGHT_UNIT * other.level
        if use > capacity.offer * _FULL:
            return False
        safe = NEVER
        if weight:
            safe = left / (weight * WEIGHT_UNIT)
            if len(levels) > 1:
                levels.sort(reverse=True, key=_first)
            for level, part in levels:
                if safe >= level:
                    break
                # What is faster than that stays as it is: if it changes, this is found anew.
                left -= part * WEIGHT_UNIT * level
                weight -= part
                safe = left / (weight * WEIGHT_UNIT) if weight else 0.0
        capacity.safe = safe
        if safe != NEVER:
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
                    reach = other.level if other.level < NEVER else capacity.offer / (capacity.total * WEIGHT_UNIT)
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
            self._bind(group, self._free if to.level == NEVER else to, now_s)
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
            lowest = NEVER
            for other in capacity.bound_nearby:
                if other.level == NEVER:
                    if level > other.safe:
                        self._mark(other)
                    else:
                        lowest = min(lowest, other.safe)
            capacity.lowest_safe = lowest

    def _fill(self, start: list[Capacity], now_s: float) -> None:
        """Solve the component of these capacities by progressive filling, load by load."""
        component = dict.fromkeys(start)
        classes: dict[LoadClass, None] = {}
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
            takes = {place[capacity]: unit * WEIGHT_UNIT / load.weight for capacity, unit in load.units}
            if load.limit < NEVER:
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
            self._set(capacity, level if used >= capacity.offer * (1 - 1e-9) else NEVER, now_s)
        for group in classes:
            to = min(group.capacities, key=_by_level)
            self._bind(group, self._free if to.level == NEVER else to, now_s)
        for capacity in component:
            if capacity.level == NEVER:
                self._free_all(capacity, now_s)
                self._has_room(capacity)
            capacity.queued = False
        self._dirty.clear()


def _by_level(capacity: Capacity) -> tuple[float, int]:
    return (capacity.level, capacity.order)


def _first(pair: tuple[float, int]) -> float:
    return pair[0]
