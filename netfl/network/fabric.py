"""Flows in progress: the fluid on the network, over SimPy's clock.

A flow is silent for its route's latency, then its bits move at the max-min fair rate under all capacities that it crosses. While a
site or link on its route is down, nothing of it goes on: neither the silence nor the bits. One timer serves all flows, and one
solve follows all events of an instant.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import simpy

from netfl.network.battery import Supply
from netfl.network.bell import Bell
from netfl.network.clocks import Capacity, Load, Path, Shares
from netfl.network.outages import ALWAYS_UP, Availability, Timeline
from netfl.network.routes import Hop, Route
from netfl.network.topology import Topology
from netfl.network.variation import Gaps, Rates

__all__ = ["Fabric", "Flow", "Held", "Pace", "Step"]

_NORMAL: Any = 1
_SETTLE: Any = 2
"""SimPy priority of the solve: after the urgent (0) and normal (1) events of the same instant. SimPy takes any whole number as a priority; its type
hint names only its own two.
"""

_ROUNDING = 1e-12
"""A flow of which no more than this share is left when an outage begins has ended at that instant but for rounding."""

_INSTANTS = 1000
"""So many at most are dealt with in one event of SimPy's, so that whoever takes step by step can look at the clock in between."""

_EXPIRY, _CHANGE, _LATENCY, _PACE, _RATE = 0, 1, 2, 3, 4
"""What is due at an instant, in the order in which it is dealt with: patience at its end, availability, latency at its end, a new pace, a
link's new rate."""


class Step(NamedTuple):
    """How fast a flow may move until something is due.

    Args:
        cap_bps: never faster than this.
        cause: what the cap is, for explanations.
        due_s: when to ask again; infinity for never.
        due_bits: after how many bits of the flow to ask again; infinity for never.
    """

    cap_bps: float
    cause: str
    due_s: float
    due_bits: float


class Held(NamedTuple):
    """What held a flow back for how long.

    Args:
        cause: link or medium (a capacity on its way), set-up, last packet (lost and late), or the cause of a pace's cap.
        element: name of the link, with its direction if it has a capacity for each, or of the medium; else empty.
        seconds: for how long in all.
        moved_bits: what moved meanwhile.
        share: of the capacity, on average; 0 where the cause is none.
    """

    cause: str
    element: str
    seconds: float
    moved_bits: float
    share: float


class Pace(Protocol):
    """What holds one flow back besides capacities, as a transport's window does."""

    @property
    def num_bytes(self) -> int | None:
        """All that the flow is to move as things stand, what has moved included; None for what it was started with."""
        ...

    def begin(self, now_s: float, moved_bits: float) -> Step:
        """Bits begin to move, or do so again after an outage."""
        ...

    def step(self, now_s: float, moved_bits: float, rate_bps: float) -> Step:
        """What the last step named is due.

        Args:
            now_s: the clock.
            moved_bits: of the flow, so far.
            rate_bps: the flow's rate until now.
        """
        ...

    def tail_s(self, now_s: float) -> float:
        """Seconds that the flow goes on for when all of its bits have moved."""
        ...

    def repeated_bytes(self, moved_bytes: int) -> int:
        """How many of the bytes that have moved the network lost: they moved for nothing."""
        ...


class Availabilities(Protocol):
    """Who says when sites and links are up."""

    def get(self, name: str, default: Timeline, /) -> Timeline:
        """The timeline of a site or link, or the default if it is always up."""
        ...

    def __len__(self) -> int:
        """0 if all of them are always up."""
        ...


class Flow:
    """The bytes of one attempt on one route. Made by `Fabric.start`.

    Args:
        route: where it goes.
        num_bytes: how much.
        start_s: when it began.
        stalled_since_s: since when an outage has held it; None while none does.
        outcome: moving, finished, aborted, or expired (an outage held it for longer than its patience).
    """

    __slots__ = (
        "_announce",
        "_done",
        "_down",
        "_elements",
        "_epoch",
        "_fabric",
        "_goal_bits",
        "_latency_left_s",
        "_latency_since_s",
        "_load",
        "_number",
        "_pace",
        "_pace_due_s",
        "_patience_s",
        "_setup_s",
        "_silent",
        "_stalled_s",
        "_tail_s",
        "_way",
        "_weight",
        "num_bytes",
        "outcome",
        "route",
        "stalled_since_s",
        "start_s",
    )

    def __init__(
        self,
        fabric: Fabric,
        number: int,
        route: Route,
        num_bytes: int,
        weight: float,
        patience_s: float,
        announce: Callable[[Flow], None] | None,
        setup_s: float,
        pace: Pace | None,
    ) -> None:
        self.route = route
        self.num_bytes = num_bytes
        self.start_s: float = fabric.env.now
        self.stalled_since_s: float | None = None
        self.outcome: Literal["moving", "finished", "aborted", "expired"] = "moving"
        self._fabric = fabric
        self._way: _Way
        self._number = number
        self._weight = weight
        self._patience_s = patience_s
        self._announce = announce
        self._done: simpy.Event | None = None
        self._elements: tuple[_Element | _Varying, ...] = ()
        self._down = 0
        self._epoch = 0
        self._silent = True
        self._setup_s = setup_s
        self._latency_left_s = setup_s + route.latency_s
        self._latency_since_s: float | None = None
        # None while bits are still to move; then how long its last packet is late.
        self._tail_s: float | None = None if num_bytes else 0.0
        self._pace = pace
        self._pace_due_s = math.inf
        self._goal_bits = 0.0
        self._stalled_s = 0.0
        self._load: Load | None = None

    @property
    def done(self) -> simpy.Event:
        """Succeeds with the flow when its last byte has moved, or when its patience is at an end; never if it is aborted."""
        if self._done is None:
            self._done = self._fabric.env.event()
            if self.outcome in ("finished", "expired"):
                self._done.succeed(self)
        return self._done

    @property
    def moved_bits(self) -> float:
        """How much has moved by now."""
        return self._fabric.moved_bits_of(self)

    @property
    def silence_left_s(self) -> float:
        """Seconds of silence still to come: of set-up and latency, or of a last packet that is late."""
        if self._latency_since_s is None:
            return self._latency_left_s
        return max(0.0, self._latency_left_s - (self._fabric.env.now - self._latency_since_s))

    @property
    def setup_s(self) -> float:
        """Seconds of connection set-up so far."""
        return self._setup_s if self._tail_s else self._setup_s - max(self.silence_left_s - self.route.latency_s, 0.0)

    @property
    def latency_s(self) -> float:
        """Seconds of silence for the route's latency so far."""
        if self._tail_s:
            return self.route.latency_s
        left_s = self._latency_left_s if self._latency_since_s is None else self.silence_left_s
        return max(self.route.latency_s - left_s, 0.0)

    @property
    def tail_s(self) -> float:
        """Seconds for which its last packet has been late so far."""
        return self._tail_s - self.silence_left_s if self._tail_s else 0.0

    @property
    def stalled_s(self) -> float:
        """Seconds for which outages have held it so far."""
        since = self.stalled_since_s
        return self._stalled_s if since is None else self._stalled_s + (self._fabric.env.now - since)

    @property
    def held(self) -> list[Held]:
        """What has held it back, latency and outages excepted; of a flow that moves, until its pace or a hold last changed."""
        return self._fabric.held_of(self)

    def abort(self) -> None:
        """Remove it at once; what has moved stays as it is. Nothing happens to a flow that has ended."""
        if self.outcome == "moving":
            self._fabric.end(self, "aborted")


class _Element:
    """A site or link with outages, or a link's direction whose rate is sometimes 0, as far as flows cross it now."""

    __slots__ = ("_epoch", "flows", "name", "radiated_j", "supply", "timeline", "up")

    def __init__(self, name: str, timeline: Availability) -> None:
        self.name = name
        self.timeline = timeline
        self.up = True
        self.flows: dict[int, Flow] = {}
        self._epoch = 0
        # Of a device with a battery: what its radios drew for flows that move no more.
        self.supply = timeline if isinstance(timeline, Supply) else None
        self.radiated_j = 0.0


class _Varying:
    """A link's direction whose rate changes over time, as far as flows cross it now."""

    __slots__ = ("_epoch", "capacity", "flows", "rate_bps", "rates")

    def __init__(self, rates: Rates, rate_bps: float, capacity: Capacity | None) -> None:
        self.rates = rates
        self.capacity = capacity
        self.rate_bps = rate_bps
        self.flows: dict[int, Flow] = {}
        self._epoch = 0


_LEAST_WAYS = 10_000
"""So many ways are remembered before those that no flow is on are forgotten."""


class _Way:
    """What the fabric knows of a route: found once, used by every flow on it."""

    __slots__ = ("elements", "flows", "hops", "metered_bits", "path")

    def __init__(self, elements: tuple[_Element | _Varying, ...], hops: tuple[Hop, ...], path: Path) -> None:
        self.elements = elements
        self.hops = hops
        self.path = path
        # How many flows there are on it.
        self.flows = 0
        # What moved of the flows that move no more.
        self.metered_bits = 0.0


class Fabric:
    """All flows of one run.

    Args:
        env: whose clock it follows.
        topology: sites, links and media.
        timelines: availability by name of site or link; what is missing is always up.
        shares: who computes the rates; a new `Shares` if None.
    """

    def __init__(
        self, env: simpy.Environment, topology: Topology, timelines: Availabilities | None = None, shares: Shares | None = None
    ) -> None:
        self.env = env
        self.topology = topology
        self._shares = Shares() if shares is None else shares
        self._timelines: Availabilities = {} if timelines is None else timelines
        # Of those that something has crossed or asked for.
        self._elements: dict[str, _Element] = {}
        self._varying: dict[tuple[str, bool], _Varying] = {}
        self._gaps: dict[tuple[str, bool], _Element] = {}
        self._capacities: dict[tuple[str, str, str], Capacity] = {}
        self._ways: dict[tuple[Hop, ...], _Way] = {}
        self._most_ways = _LEAST_WAYS
        self._has_forgotten = False
        self._agenda: list[tuple[float, int, int, int, Any]] = []
        self._number = 0
        self._armed_s = math.inf
        self._settling = False
        self._waking = False
        self._moving: dict[int, Flow] = {}
        # Devices with a battery: which of them look after each solve, and what a bit on a route costs each in energy.
        self._looking: dict[str, Supply] = {}
        self._joules: dict[tuple[str, tuple[Hop, ...]], float] = {}
        self._supplied = False

    def start(
        self,
        route: Route,
        num_bytes: int,
        *,
        weight: float = 1.0,
        patience_s: float = math.inf,
        announce: Callable[[Flow], None] | None = None,
        setup_s: float = 0.0,
        pace: Pace | None = None,
    ) -> Flow:
        """Begin to move bytes now.

        Args:
            route: at least one hop.
            num_bytes: at least 0; a flow of no bytes ends when its latency has passed.
            weight: its share relative to the other flows.
            patience_s: it expires when one outage has held it for this long.
            announce: called with the flow, at the instant, when it finishes or expires.
            setup_s: silence before that of the latency.
            pace: what holds it back besides capacities; None for nothing.
        """
        if num_bytes < 0:
            raise ValueError(f"expected at least 0 bytes, got {num_bytes!r}")
        self._number += 1
        flow = Flow(self, self._number, route, num_bytes, weight, patience_s, announce, setup_s, pace)
        way = flow._way = self._ways.get(route.hops) or self._new_way(route)
        way.flows += 1
        if way.elements:
            flow._elements = way.elements
            for element in way.elements:
                self._join(element, flow)
        if flow._down:
            self._hold(flow)
        else:
            self._go_on(flow)
        if not self._settling:
            self._arm()
        return flow

    def availability(self, name: str) -> Availability:
        """When a site or link is up."""
        return self._timelines.get(name, ALWAYS_UP)

    def passes(self, hop: Hop) -> bool:
        """Whether a hop's link and ends are up now, and its rate is above 0."""
        now = self.env.now
        if hop.rates is not None and hop.rates.at(now) == 0:
            return False
        return all(self.availability(name).up_at(now) for name in (hop.link.name, hop.source, hop.destination))

    def follow(self, supply: Supply) -> None:
        """Let a device's battery know what its radios draw, from now on; nothing happens if it does."""
        self._element(supply.name)

    # What a device with a battery asks for (`netfl.network.battery.Radio`).

    def radio_j(self, name: str) -> float:
        """What the radios of a device with a battery have drawn so far."""
        element, now = self._elements[name], self.env.now
        drawn = element.radiated_j
        for number, flow in element.flows.items():
            if number in self._moving:
                assert flow._load is not None
                drawn += self._joules_a_bit(name, flow.route) * self._shares.metered_bits(flow._load, now)
        return drawn

    def radio_w(self, name: str) -> float:
        """What they draw at the rates of the last solve."""
        drawn = 0.0
        for number, flow in self._elements[name].flows.items():
            if number in self._moving:
                assert flow._load is not None
                drawn += self._joules_a_bit(name, flow.route) * self._shares.rate_bps(flow._load)
        return drawn

    def is_crossed(self, name: str) -> bool:
        """Whether any flow goes through a device with a battery."""
        return bool(self._elements[name].flows)

    def tell_of_rates(self, name: str, told: bool) -> None:
        """Whether a device's supply looks after each solve."""
        if told:
            supply = self._elements[name].supply
            assert supply is not None
            self._looking[name] = supply
        else:
            self._looking.pop(name, None)

    def recheck(self, name: str) -> None:
        """A battery has changed what was foreseen of a device's availability."""
        element = self._elements[name]
        if element.flows:
            up = element.timeline.up_at(self.env.now)
            element._epoch += 1
            self._note(element.timeline.next_change_s(self.env.now), _CHANGE, element._epoch, element)
            if up != element.up:
                self._turn(element, up)
            if not self._settling:
                self._arm()

    def _joules_a_bit(self, name: str, route: Route) -> float:
        found = self._joules.get((name, route.hops))
        if found is None:
            found = 0.0
            for hop in route.hops:
                link = hop.link
                if name == hop.source:
                    found += (link.transmit_w if hop.forward else link.b_transmit_w) * link.duty_cycle / hop.rate_bps
                elif name == hop.destination:
                    found += (link.b_receive_w if hop.forward else link.receive_w) * link.duty_cycle / hop.rate_bps
            self._joules[name, route.hops] = found
        return found

    @property
    def moved_bits(self) -> dict[tuple[str, bool], float]:
        """Fluid that has moved over each (link, forward): the rates, integrated over time. Known while no way has been forgotten."""
        assert not self._has_forgotten
        bits_on = {way: way.metered_bits for way in self._ways.values()}
        for flow in self._moving.values():
            assert flow._load is not None
            bits_on[flow._way] += self._shares.metered_bits(flow._load, self.env.now)
        total: dict[tuple[str, bool], float] = {}
        for way, bits in bits_on.items():
            for hop in way.hops:
                key = (hop.link.name, hop.forward)
                total[key] = total.get(key, 0.0) + bits
        return total

    def moved_bits_of(self, flow: Flow) -> float:
        """What has moved of one flow by now."""
        if flow.outcome == "finished":
            return 8.0 * flow.num_bytes
        if flow._load is None:
            return 0.0
        return min(max(flow._goal_bits - self._shares.left_bits(flow._load, self.env.now), 0.0), 8.0 * flow.num_bytes)

    def held_of(self, flow: Flow) -> list[Held]:
        """What has held a flow back, latency and outages excepted."""
        found = []
        if flow._setup_s and flow.setup_s > 0:
            found.append(Held("set-up", "", flow.setup_s, 0.0, 0.0))
        if flow._load is not None:
            for on, (seconds, bits, share_s) in flow._load.spent.items():
                cause, element = (on, "") if isinstance(on, str) else (on.cause, on.name)
                found.append(Held(cause, element, seconds, bits, share_s / seconds))
        if flow._tail_s and flow.tail_s > 0:
            found.append(Held("last packet", "", flow.tail_s, 0.0, 0.0))
        return found

    def end(self, flow: Flow, outcome: Literal["finished", "aborted", "expired"]) -> None:
        """Take a flow off the network and say how it ended."""
        now = self.env.now
        if flow._number in self._moving:
            self._stop_moving(flow)
        if flow._latency_since_s is not None:
            flow._latency_left_s = flow.silence_left_s
            flow._latency_since_s = None
        if flow.stalled_since_s is not None:
            flow._stalled_s += now - flow.stalled_since_s
            flow.stalled_since_s = None
        flow.outcome = outcome
        flow._epoch += 1
        flow._way.flows -= 1
        if flow._load is not None:
            # Flow and load would keep each other alive until the garbage collector comes.
            flow._load.owner = None
        for element in flow._elements:
            del element.flows[flow._number]
        if outcome != "aborted":
            if flow._done is not None:
                flow._done.succeed(flow)
            if flow._announce is not None:
                flow._announce(flow)

    # The life of one flow.

    def _go_on(self, flow: Flow) -> None:
        """Nothing holds it: let its silence, or its bits, run."""
        if flow._silent and flow._latency_left_s > 0:
            flow._latency_since_s = now = self.env.now
            self._note(now + flow._latency_left_s, _LATENCY, flow._epoch, flow)
        elif flow._silent and flow._tail_s is not None:
            # An event of its own, so that a flow never ends before `start` has given it back.
            self._note(self.env.now, _LATENCY, flow._epoch, flow)
        else:
            flow._silent = False
            self._move(flow)

    def _move(self, flow: Flow) -> None:
        now, load = self.env.now, flow._load
        if load is None:
            flow._goal_bits = 8.0 * flow.num_bytes
            load = flow._load = self._shares.load(flow._way.path, flow._goal_bits, flow._weight, flow)
        if flow._pace is not None:
            self._take_step(flow, flow._pace.begin(now, self.moved_bits_of(flow)))
        self._moving[flow._number] = flow
        self._shares.add(load, now)
        self._settle_later()

    def _go_on_at(self, flow: Flow, moved_bits: float) -> None:
        """Its pace has something due."""
        assert flow._pace is not None and flow._load is not None
        self._take_step(flow, flow._pace.step(self.env.now, moved_bits, self._shares.rate_bps(flow._load)))
        self._settle_later()

    def _take_step(self, flow: Flow, step: Step) -> None:
        load = flow._load
        assert load is not None
        assert flow._pace is not None
        num_bytes = flow._pace.num_bytes
        if num_bytes is not None:
            flow.num_bytes = num_bytes
        goal_bits = min(step.due_bits, 8.0 * flow.num_bytes)
        if step.cap_bps != load.cap_bps or goal_bits != flow._goal_bits:
            self._shares.change(load, self.env.now, cap_bps=step.cap_bps, cause=step.cause, more_bits=goal_bits - flow._goal_bits)
            flow._goal_bits = goal_bits
        if step.due_s != flow._pace_due_s:
            flow._pace_due_s = step.due_s
            self._note(step.due_s, _PACE, flow._epoch, flow)

    def _is_late(self, flow: Flow) -> bool:
        """All of its bits have moved: whether it goes on all the same, until its last packet is there."""
        tail_s = 0.0 if flow._pace is None else flow._pace.tail_s(self.env.now)
        if tail_s > 0:
            self._stop_moving(flow)
            flow._silent = True
            flow._tail_s = flow._latency_left_s = tail_s
        return tail_s > 0

    def _stop_moving(self, flow: Flow) -> None:
        load = flow._load
        assert load is not None
        del self._moving[flow._number]
        self._shares.remove(load, self.env.now)
        # Taken away, it is at rest: `metered` is all that moved of it.
        flow._way.metered_bits += load.metered
        if self._supplied:
            for element in flow._elements:
                if isinstance(element, _Element) and element.supply is not None:
                    element.radiated_j += self._joules_a_bit(element.name, flow.route) * load.metered
        load.metered = 0.0
        self._settle_later()

    def _hold(self, flow: Flow) -> None:
        """An outage holds it from now on."""
        now = self.env.now
        if flow._number in self._moving:
            assert flow._load is not None
            total_bits = 8.0 * flow.num_bytes
            if flow._goal_bits < total_bits or self._shares.left_bits(flow._load, now) > _ROUNDING * total_bits:
                self._stop_moving(flow)
            elif not self._is_late(flow):
                self.end(flow, "finished")
                return
        if flow._latency_since_s is not None:
            flow._latency_left_s = flow.silence_left_s
            flow._latency_since_s = None
        flow._epoch += 1
        flow.stalled_since_s = now
        if flow._patience_s < math.inf:
            self._note(now + flow._patience_s, _EXPIRY, flow._epoch, flow)

    def _release(self, flow: Flow) -> None:
        """No outage holds it any more."""
        assert flow.stalled_since_s is not None
        flow._stalled_s += self.env.now - flow.stalled_since_s
        flow.stalled_since_s = None
        flow._epoch += 1
        self._go_on(flow)

    # Availability.

    def _join(self, element: _Element | _Varying, flow: Flow) -> None:
        now = self.env.now
        if isinstance(element, _Varying):
            first = not element.flows
            element.flows[flow._number] = flow
            if first:
                element._epoch += 1
                self._vary(element)
            elif element.capacity is None:
                # The rate may have changed while no flow was on this route, though some were on others.
                path, (costs, _) = flow._way.path, self._costs(flow._way.hops)
                if costs != path.costs:
                    self._shares.recost(path, costs, (), now)
            return
        if not element.flows:
            element.up = element.timeline.up_at(now)
            element._epoch += 1
            self._note(element.timeline.next_change_s(now), _CHANGE, element._epoch, element)
            if element.supply is not None:
                self._looking[element.name] = element.supply
        element.flows[flow._number] = flow
        flow._down += not element.up

    def _change(self, element: _Element) -> None:
        now = self.env.now
        if not element.flows:
            return
        self._note(element.timeline.next_change_s(now), _CHANGE, element._epoch, element)
        self._turn(element, not element.up)

    def _turn(self, element: _Element, up: bool) -> None:
        """It has gone down, or has come back: let its flows wait, or go on."""
        element.up = up
        for flow in list(element.flows.values()):
            flow._down += -1 if up else 1
            if up and flow._down == 0:
                self._release(flow)
            elif not up and flow._down == 1:
                self._hold(flow)

    # Variation.

    def _vary(self, varying: _Varying) -> None:
        """Let a link's direction have the rate of this instant, and come back when it changes."""
        now = self.env.now
        if not varying.flows:
            return
        self._note(varying.rates.next_change_s(now), _RATE, varying._epoch, varying)
        rate_bps = varying.rates.at(now)
        if rate_bps == 0 or rate_bps == varying.rate_bps:
            return
        varying.rate_bps = rate_bps
        if varying.capacity is not None:
            self._shares.resize(varying.capacity, rate_bps, now)
        else:
            loads: dict[_Way, list[Load]] = {flow._way: [] for flow in varying.flows.values()}
            for flow in varying.flows.values():
                if flow._number in self._moving:
                    assert flow._load is not None
                    loads[flow._way].append(flow._load)
            for way, moving in loads.items():
                self._shares.recost(way.path, self._costs(way.hops)[0], moving, now)
        self._settle_later()

    # Time.

    def _note(self, time_s: float, kind: int, epoch: int, what: Flow | _Element | _Varying) -> None:
        if time_s < math.inf:
            self._number += 1
            heapq.heappush(self._agenda, (time_s, kind, self._number, epoch, what))

    def _due_s(self) -> float:
        """When the next thing is due."""
        due_s = self._shares.next_finish_s()
        agenda = self._agenda
        return agenda[0][0] if agenda and agenda[0][0] < due_s else due_s

    def _arm(self) -> None:
        """Have the timer ring when the next thing is due."""
        due_s = self._due_s()
        if due_s < self._armed_s:
            self._armed_s = due_s
            env = self.env
            now = env.now
            env.schedule(Bell(env, self._wake, due_s), _NORMAL, due_s - now if due_s > now else 0.0)

    def _wake(self, event: simpy.Event) -> None:
        """Deal with what is due, and go on to the next instant at once for as long as nothing but flows has anything to do before it."""
        env = self.env
        if event._value == self._armed_s:
            self._armed_s = math.inf
        for _ in range(_INSTANTS):
            now = env.now
            settles = not self._settling
            self._waking = True
            self._deal(now)
            self._waking = False
            if self._settling:
                if not settles:
                    return
                if env.peek() <= now:
                    env.schedule(Bell(env, self._settle, 0.0), _SETTLE)
                    return
                # Nothing else happens at this instant: no event of its own for the solve.
                self._solve(now)
                if self._settling:
                    return
            due_s = self._due_s()
            if due_s >= self._armed_s:
                return
            # As SimPy adds up times, so that whether a timer rings makes no difference to a single bit.
            then = now + (due_s - now) if due_s > now else now
            if then >= env.peek():
                break
            env._now = then
            self._armed_s = math.inf
        self._arm()

    def _deal(self, now: float) -> None:
        """Everything that is due now."""
        for load in self._shares.take_finished(now):
            flow = load.owner
            # What is told of one end may abort another flow that ends at the same instant.
            if flow is None:
                continue
            if flow._goal_bits < 8.0 * flow.num_bytes:
                self._go_on_at(flow, flow._goal_bits)
            elif self._is_late(flow):
                self._go_on(flow)
            else:
                self.end(flow, "finished")
        agenda = self._agenda
        while agenda and agenda[0][0] <= now:
            _, kind, _, epoch, what = heapq.heappop(agenda)
            if epoch == what._epoch:
                if kind == _LATENCY:
                    what._latency_since_s = None
                    what._latency_left_s = 0.0
                    if what._tail_s is not None:
                        self.end(what, "finished")
                    else:
                        what._silent = False
                        self._move(what)
                elif kind == _CHANGE:
                    self._change(what)
                elif kind == _RATE:
                    self._vary(what)
                elif kind == _EXPIRY:
                    self.end(what, "expired")
                elif what._pace_due_s <= now:
                    self._go_on_at(what, self.moved_bits_of(what))

    def _settle_later(self) -> None:
        if not self._settling:
            self._settling = True
            if not self._waking:
                self.env.schedule(Bell(self.env, self._settle, 0.0), _SETTLE)

    def _settle(self, event: simpy.Event) -> None:
        self._solve(self.env.now)
        if not self._settling:
            self._arm()

    def _solve(self, now: float) -> None:
        """Find the rates of this instant, and let batteries look at what they are."""
        self._settling = False
        self._shares.settle(now)
        if self._looking:
            for supply in list(self._looking.values()):
                supply.look()

    # Capacities.

    def _capacity(self, cause: str, name: str, way: str, amount: float, exponent: float = 0.0) -> Capacity:
        """That of a link or medium, or of one way of it: up or down."""
        key = (cause, name, way)
        found = self._capacities.get(key)
        if found is None:
            found = self._capacities[key] = self._shares.capacity(f"{name} {way}" if way else name, amount, exponent, cause)
        return found

    def _wire(self, hop: Hop) -> Capacity:
        """That of one direction of a full-duplex link."""
        return self._capacity("link", hop.link.name, "up" if hop.forward else "down", hop.rate_bps)

    def _forget(self) -> None:
        """Let go of ways that no flow is on, and of capacities that no other way crosses: of a hundred thousand devices, few are at work at a time.

        Nothing but memory depends on it: a capacity that no load crosses is as good as a new one.
        """
        self._ways = {
            hops: way for hops, way in self._ways.items() if way.flows or any(isinstance(each, _Varying) for each in way.elements)
        }
        self._most_ways = max(_LEAST_WAYS, 2 * len(self._ways))
        crossed = {capacity for way in self._ways.values() for capacity in way.path.costs}
        self._capacities = {key: capacity for key, capacity in self._capacities.items() if capacity in crossed}
        self._has_forgotten = True

    def _new_way(self, route: Route) -> _Way:
        if not route.hops:
            raise ValueError(f"expected a route of at least one hop, got one from '{route.source}' to itself")
        if len(self._ways) >= self._most_ways:
            self._forget()
        hops = route.hops
        varying = [hop for hop in hops if hop.link.up_rates is not None or hop.link.down_rates is not None]
        for hop in varying:
            if hop.rates is not None:
                key = (hop.link.name, hop.forward)
                if key not in self._varying:
                    # A full-duplex link's own capacity follows the rate; elsewhere the airtime of a bit does.
                    own = hop.link.medium is None and hop.link.duplex == "full"
                    capacity = self._wire(hop) if own else None
                    self._varying[key] = _Varying(hop.rates, hop.rate_bps, capacity)
                if hop.rates.has_gaps:
                    self._gaps.setdefault(key, _Element(hop.link.name, Gaps(hop.rates)))
        costs, stations = self._costs(hops)
        elements: list[_Element | _Varying] = []
        if varying:
            keys = [(hop.link.name, hop.forward) for hop in varying]
            elements += [self._varying[key] for key in keys if key in self._varying]
            elements += [self._gaps[key] for key in keys if key in self._gaps]
        if self._timelines:
            names = (*route.devices, *(hop.link.name for hop in hops))
            elements += [element for name in names if (element := self._element(name)) is not None]
        found = self._ways[hops] = _Way(tuple(elements), hops, self._shares.path(costs, stations))
        return found

    def _element(self, name: str) -> _Element | None:
        """A site or link as far as flows cross it; None if it is always up."""
        found = self._elements.get(name)
        if found is None:
            timeline = self._timelines.get(name, ALWAYS_UP)
            if timeline is not ALWAYS_UP:
                found = self._elements[name] = _Element(name, timeline)
                if found.supply is not None:
                    self._supplied = True
                    found.supply.connect(self)
        return found

    def _costs(self, hops: tuple[Hop, ...]) -> tuple[dict[Capacity, float], list[tuple[Capacity, str]]]:
        """What a bit on a way takes of which capacities at the present rates, and (medium, member link) for each hop in a medium."""
        costs: dict[Capacity, float] = {}
        stations: list[tuple[Capacity, str]] = []
        for hop in hops:
            link = hop.link
            if link.medium is None and link.duplex == "full":
                capacity = self._wire(hop)
                costs[capacity] = costs.get(capacity, 0.0) + 1.0
                continue
            varying = self._varying.get((link.name, hop.forward))
            rate_bps = hop.rate_bps if varying is None else varying.rate_bps
            if link.medium is not None:
                medium = self.topology.media[link.medium]
                way = "" if medium.duplex == "half" else "up" if hop.forward else "down"
                capacity = self._capacity("medium", medium.name, way, 1.0, medium.efficiency_exponent)
                cost = link.duty_cycle / rate_bps
                stations.append((capacity, link.name))
                if link.duty_cycle < 1:
                    # Its own limit keeps it at its rate, however little of the medium that takes.
                    own = self._capacity("link", link.name, "", 1.0)
                    costs[own] = costs.get(own, 0.0) + 1.0 / rate_bps
            else:
                capacity = self._capacity("link", link.name, "", 1.0)
                cost = 1.0 / rate_bps
            costs[capacity] = costs.get(capacity, 0.0) + cost
        return costs, stations
