"""Batteries: what a device draws and harvests, and the instants at which it goes down empty and comes back."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol

import simpy
from annotated_types import Gt, Le

from netfl.network.outages import Timeline
from netfl.units import Energy, Power

__all__ = ["Battery", "Draw", "Radio", "Supply"]

_NOTHING = 1e-12
"""A battery that holds no more than this share of its capacity is empty but for rounding."""

_NEAR = 1 / 16
"""Under this share of its capacity, a battery's radio is followed solve by solve; it decides the cost and no result."""


@dataclass(frozen=True, kw_only=True)
class Battery:
    """What a device lives on. When it is empty, the device is down: for good, or until the harvest has refilled a share of it.

    A device draws its profile's power at idle while its battery holds out, more while it computes, and what its radios draw for the airtime of
    the bytes that they send and receive. While it is empty it draws nothing.

    Args:
        capacity: what it holds when it is full.
        initial: the share of it that is there at time 0.
        harvest: power that flows in at all times; what comes while it is full is lost.
        restart: the share of the capacity at which a device that went down comes back.
    """

    capacity: Energy
    initial: Annotated[float, Gt(0), Le(1)] = 1.0
    harvest: Power = 0.0
    restart: Annotated[float, Gt(0), Le(1)] = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.capacity < math.inf):
            raise ValueError(f"expected capacity above 0 J, got {self.capacity!r}")
        if not (0 <= self.harvest < math.inf):
            raise ValueError(f"expected harvest of at least 0 W, got {self.harvest!r}")
        for name in ("initial", "restart"):
            if not (0 < getattr(self, name) <= 1):
                raise ValueError(f"expected {name} above 0 and at most 1, got {getattr(self, name)!r}")


class Draw(NamedTuple):
    """What a device takes of its battery.

    Args:
        idle_w: all the time while it holds out.
        compute_w: more than that while the device computes.
        most_w: what all of it together never exceeds, radios included.
    """

    idle_w: float
    compute_w: float
    most_w: float


class Radio(Protocol):
    """What knows of the bytes that a device sends and receives."""

    def radio_j(self, name: str) -> float:
        """What its radios have drawn so far."""
        ...

    def radio_w(self, name: str) -> float:
        """What its radios draw now, until the next solve."""
        ...

    def is_crossed(self, name: str) -> bool:
        """Whether any flow goes through the device."""
        ...

    def tell_of_rates(self, name: str, told: bool) -> None:
        """Whether the device's supply is to look again after each solve; its first flow asks for that by itself."""
        ...

    def recheck(self, name: str) -> None:
        """Its availability is not what was foreseen."""
        ...


class _Silent:
    """The radios of a device that no flow crosses."""

    def radio_j(self, name: str) -> float:
        """Nothing so far."""
        return 0.0

    def radio_w(self, name: str) -> float:
        """Nothing now."""
        return 0.0

    def is_crossed(self, name: str) -> bool:
        """No."""
        return False

    def tell_of_rates(self, name: str, told: bool) -> None:
        """There is nothing to tell."""

    def recheck(self, name: str) -> None:
        """Nobody waits for it."""


class Supply(Timeline):
    """The availability of a device with a battery: down while the battery is empty, and in its other outages.

    Only the past and what follows from it are known: of a device that is up, the changes of its other outages; of one that is down, its return.
    Whoever relies on that is told when the battery decides otherwise.

    Between two solves of the network, and between two changes of the processor, the power is constant, so the instant of depletion is known
    and one timer stands for it. With flows on the way and much charge left, the solves need not be looked at: at the most power that the device
    can draw it cannot be empty before half of that time is over, and then it is looked at again.

    As long as no flow crosses the device and it computes nothing, there is no timer either: what has become of the battery at its power at idle is
    found when somebody asks. `connect` ends that.

    Args:
        env: whose clock it follows.
        name: of the device.
        battery: what it lives on.
        draw: what it takes.
        outages: when it is down for other reasons.
    """

    def __init__(self, env: simpy.Environment, name: str, battery: Battery, draw: Draw, outages: Timeline) -> None:
        super().__init__()
        self.battery = battery
        self._env = env
        self.name = name
        self._draw = draw
        self._outages = outages
        self._radio: Radio = _Silent()
        self._on_change: Callable[[], None] | None = None
        self._busy = False
        self._computing = False
        self._charge_j = battery.capacity * battery.initial
        self._since_s = 0.0
        self._radio_j = 0.0
        self._armed_s = math.inf
        self._empty = False
        # The times at which it was empty; the last one may end in the future.
        self._starts: list[float] = []
        self._ends: list[float] = []
        # Without a timer: when it would ring, and the time of its last ring while that is gone through.
        self._alone = True
        self._rings_s = 0.0
        self._then_s: float | None = None

    # Set-up.

    def connect(self, radio: Radio) -> None:
        """Begin to follow what the radios draw, and what the processor does."""
        self._catch_up()
        self._alone = False
        self._radio = radio
        if self._armed_s < math.inf:
            due_s, self._armed_s = self._armed_s, math.inf
            self._ring_at(due_s)

    def tell(self, on_change: Callable[[], None]) -> None:
        """Call this whenever the battery has become empty, or holds enough again."""
        self._on_change = on_change

    # As a function of time, as far as it is known.

    def up_at(self, time_s: float) -> bool:
        """Whether it is up at this instant."""
        self._catch_up()
        return self._outages.up_at(time_s) and self._empty_until_s(time_s) is None

    def next_change_s(self, time_s: float) -> float:
        """The first change strictly after this instant that is known now; infinity if there is none."""
        was_up = self.up_at(time_s)
        while True:
            end_s = self._empty_until_s(time_s)
            if end_s is None:
                place = bisect_right(self._starts, time_s)
                start_s = self._starts[place] if place < len(self._starts) else math.inf
                time_s = min(start_s, self._outages.next_change_s(time_s))
            else:
                time_s = end_s
            if time_s == math.inf or self.up_at(time_s) != was_up:
                return time_s

    def earliest_change_s(self) -> float:
        """No change comes before: the next known one, or the instant at which the battery would be empty at the most power there can be."""
        now = self._now
        known_s = self.next_change_s(now)
        if self._empty:
            return known_s
        self._count()
        return min(known_s, max(now + self._charge_j / self._draw.most_w, math.nextafter(now, math.inf)))

    @property
    def may_overflow(self) -> bool:
        """Whether the harvest can be more than the device draws."""
        return self.battery.harvest > self._draw.idle_w

    def downtimes(self, end_s: float) -> list[tuple[float, float, Literal["outage", "battery"]]]:
        """When it was down before `end_s`, and why: battery for as long as that was empty, outage for the rest. In order of time."""
        self._catch_up()
        found: list[tuple[float, float, Literal["outage", "battery"]]] = []
        empty = [(start_s, min(stop_s, end_s)) for start_s, stop_s in zip(self._starts, self._ends, strict=True) if start_s < end_s]
        found += [(start_s, stop_s, "battery") for start_s, stop_s in empty]
        for start_s, stop_s in self._outages.down_intervals(end_s):
            for first_s, last_s in empty:
                if first_s < stop_s and last_s > start_s:
                    if first_s > start_s:
                        found.append((start_s, first_s, "outage"))
                    start_s = min(last_s, stop_s)
            if start_s < stop_s:
                found.append((start_s, stop_s, "outage"))
        return sorted(found)

    def empty_s(self) -> float:
        """Seconds for which the battery has been empty so far."""
        self._catch_up()
        now = self._now
        return math.fsum(min(end_s, now) - start_s for start_s, end_s in zip(self._starts, self._ends, strict=True))

    def charge_j(self) -> float:
        """What the battery holds now."""
        self._catch_up()
        self._count()
        return self._charge_j

    # What happens.

    def computes(self, busy: bool) -> None:
        """The processor has work from now on, or has none."""
        self._busy = busy
        self.look()

    def take(self, joules: float) -> None:
        """Take what was drawn beside the network and the processor."""
        self._catch_up()
        self._count()
        self._charge_j -= joules
        self.look()

    @property
    def _now(self) -> float:
        return float(self._env.now) if self._then_s is None else self._then_s

    def _catch_up(self) -> None:
        """Go through what a timer would have told of until now."""
        if self._alone and self._then_s is None:
            while self._rings_s <= self._env.now:
                self._then_s, self._rings_s = self._rings_s, math.inf
                self._armed_s = math.inf
                self.look()
            self._then_s = None

    def _empty_until_s(self, time_s: float) -> float | None:
        place = bisect_right(self._starts, time_s) - 1
        return self._ends[place] if place >= 0 and time_s < self._ends[place] else None

    def _count(self) -> None:
        """Bring the charge up to now: nothing but the radios' power has changed since it was last done."""
        now, battery = self._now, self.battery
        seconds, self._since_s = now - self._since_s, now
        radio_j = self._radio.radio_j(self.name)
        if self._empty:
            self._charge_j += battery.harvest * seconds
        else:
            power_w = self._draw.idle_w + (self._draw.compute_w if self._computing else 0.0)
            left_j = self._charge_j + (battery.harvest - power_w) * seconds - (radio_j - self._radio_j)
            self._charge_j = min(left_j, battery.capacity)
        self._radio_j = radio_j

    def look(self) -> None:
        """Count, and set the timer for when that has to be done again."""
        now, battery, draw, radio = self._now, self.battery, self._draw, self._radio
        self._count()
        if self._empty and now < self._ends[-1]:
            radio.tell_of_rates(self.name, told=False)
            self._ring_at(self._ends[-1])
            return
        if self._empty:
            self._empty = False
            self._charge_j = battery.restart * battery.capacity
            self._ends[-1] = now
            self._has_changed()
        self._computing = self._busy and self._outages.up_at(now)
        crossed = radio.is_crossed(self.name)
        follows = crossed and (self.may_overflow or self._charge_j < _NEAR * battery.capacity)
        if crossed and not follows:
            due_s = now + self._charge_j / (2 * draw.most_w)
        else:
            power_w = draw.idle_w + (draw.compute_w if self._computing else 0.0) + radio.radio_w(self.name) - battery.harvest
            due_s = now + self._charge_j / power_w if power_w > 0 else math.inf
            if power_w > 0 and (due_s <= now or self._charge_j <= _NOTHING * battery.capacity):
                self._run_empty()
                return
        radio.tell_of_rates(self.name, told=follows)
        if self._busy:
            due_s = min(due_s, self._outages.next_change_s(now))
        self._ring_at(due_s)

    def _run_empty(self) -> None:
        now, battery = self._now, self.battery
        self._charge_j = 0.0
        self._empty = True
        self._starts.append(now)
        self._ends.append(now + battery.restart * battery.capacity / battery.harvest if battery.harvest else math.inf)
        self._radio.tell_of_rates(self.name, told=False)
        self._ring_at(self._ends[-1])
        self._has_changed()

    def _has_changed(self) -> None:
        self._radio.recheck(self.name)
        if self._on_change is not None:
            self._on_change()

    def _ring_at(self, due_s: float) -> None:
        if due_s < self._armed_s:
            self._armed_s = due_s
            wait_s = max(due_s - self._now, 0.0)
            if self._alone:
                self._rings_s = self._now + wait_s
            else:
                self._env.timeout(wait_s, due_s).callbacks.append(self._rung)

    def _rung(self, event: simpy.Event) -> None:
        if event.value == self._armed_s:
            self._armed_s = math.inf
            self.look()
