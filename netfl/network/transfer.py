"""One message on its way: its attempts, and what becomes of its bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import simpy

from netfl.network.fabric import Flow, Held, Pace
from netfl.network.routes import Hop, Route

if TYPE_CHECKING:
    from netfl.network.transport import Transport

__all__ = ["HopBytes", "Terms", "Transfer"]


class Terms(NamedTuple):
    """On what terms one attempt moves.

    Args:
        num_bytes: all that moves if nothing fails and its pace says nothing else.
        weight: its share relative to other flows.
        setup_s: silence before the latency.
        pace: what holds it back besides capacities.
    """

    num_bytes: int
    weight: float = 1.0
    setup_s: float = 0.0
    pace: Pace | None = None


_NO_TERMS = Terms(0)
"""Of a transfer before its first attempt."""


class HopBytes(NamedTuple):
    """What one transfer moved over one hop; sent = delivered + wasted + in_flight.

    Args:
        hop: which.
        sent: bytes that moved.
        delivered: those of a transfer that arrived.
        wasted: those that moved for nothing.
        in_flight: those of a transfer under way at the run's end.
        air_s: for how long they kept the sender's radio on.
    """

    hop: Hop
    sent: int
    delivered: int
    wasted: int
    in_flight: int
    air_s: float


class Transfer:
    """One message on its way. Made by `Transport.send`.

    Args:
        route: the way of the last attempt.
        num_bytes: length of the message.
        start_s: when it was asked for.
        end_s: when it ended; NaN until then.
        outcome: delivered, aborted, failed (out of attempts), or in_flight (not ended, or cut off by the run's end).
        attempts: begun so far.
        delivered_bytes: bytes that moved and count, headers included: all of them once it is delivered, none before.
        wasted_bytes: bytes that moved for nothing.
    """

    __slots__ = (
        "_announce",
        "_cut",
        "_done",
        "_earlier_latency_s",
        "_earlier_stalled_s",
        "_flow",
        "_held",
        "_held_bytes",
        "_past",
        "_paused_s",
        "_paused_since_s",
        "_terms",
        "_transport",
        "_wire_bytes",
        "attempts",
        "delivered_bytes",
        "end_s",
        "num_bytes",
        "outcome",
        "route",
        "start_s",
        "wasted_bytes",
    )

    def __init__(self, transport: Transport, route: Route, num_bytes: int, announce: Callable[[Transfer], None] | None) -> None:
        self.route = route
        self.num_bytes = num_bytes
        self.start_s: float = transport.env.now
        self.end_s = math.nan
        self.outcome: Literal["delivered", "aborted", "failed", "in_flight"] = "in_flight"
        self.attempts = 0
        self.delivered_bytes = 0
        self.wasted_bytes = 0
        self._transport = transport
        self._announce = announce
        self._done: simpy.Event | None = None
        self._cut = False
        self._flow: Flow | None = None
        self._wire_bytes = transport.settings.wire_bytes(num_bytes)
        self._terms = _NO_TERMS
        self._held_bytes = 0
        # Routes that it has left, and how many bytes moved there and count, and for nothing.
        self._past: Sequence[tuple[Route, int, int]] = ()
        self._earlier_latency_s = 0.0
        self._earlier_stalled_s = 0.0
        self._held: Sequence[Held] = ()
        self._paused_s = 0.0
        self._paused_since_s = math.nan

    @property
    def done(self) -> simpy.Event:
        """Succeeds with the transfer when it has ended, whichever way; never if the run's end cuts it off."""
        if self._done is None:
            self._done = self._transport.env.event()
            if self.outcome != "in_flight":
                self._done.succeed(self)
        return self._done

    @property
    def latency_s(self) -> float:
        """Seconds of silence spent so far, over all attempts; stalls excluded."""
        flow = self._flow
        return self._earlier_latency_s + (flow.latency_s if flow is not None else 0.0)

    @property
    def stalled_s(self) -> float:
        """Seconds for which outages have held its attempts so far."""
        return self._earlier_stalled_s + (self._flow.stalled_s if self._flow is not None else 0.0)

    @property
    def held(self) -> Sequence[Held]:
        """What held it back in the attempts that have ended, latency and outages excepted.

        For a transfer that has ended, these seconds and `latency_s` and `stalled_s` sum to its duration.
        """
        found = self._held
        if self.attempts > 1:
            together: dict[tuple[str, str], Held] = {}
            for cause, element, seconds, bits, share in found:
                before = together.get((cause, element), Held(cause, element, 0.0, 0.0, 0.0))
                total_s = before.seconds + seconds
                mean = (before.share * before.seconds + share * seconds) / total_s
                together[cause, element] = Held(cause, element, total_s, before.moved_bits + bits, mean)
            found = list(together.values())
        return [*found, Held("pause", "", self._paused_s, 0.0, 0.0)] if self._paused_s > 0 else found

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that have moved and are neither delivered nor wasted yet."""
        return self._held_bytes + (_whole_bytes(self._flow) if self._flow is not None else 0)

    @property
    def even(self) -> bool:
        """Whether the same bytes have moved over every hop of its route, and no others."""
        return self.attempts == 1

    @property
    def sent_bytes(self) -> int:
        """Bytes that have moved so far, in all attempts."""
        return self.delivered_bytes + self.wasted_bytes + self.in_flight_bytes

    def hop_bytes(self) -> list[HopBytes]:
        """What has moved over each hop so far, over all attempts, in the order of the route."""
        delivered, wasted, in_flight = self.delivered_bytes, self.wasted_bytes, self.in_flight_bytes
        if not self._past:
            sent = delivered + wasted + in_flight
            return [HopBytes(hop, sent, delivered, wasted, in_flight, hop.air_s(sent)) for hop in self.route.hops]
        # What moved on a route before counts as the rest does in the end.
        moved: dict[Hop, tuple[int, int, int]] = {}
        for route, held, lost in self._past:
            ended = (
                (held, lost, 0) if self.outcome == "delivered" else (0, lost, held) if self.outcome == "in_flight" else (0, held + lost, 0)
            )
            _add(moved, route, ended)
            delivered, wasted, in_flight = delivered - ended[0], wasted - ended[1], in_flight - ended[2]
        _add(moved, self.route, (delivered, wasted, in_flight))
        return [HopBytes(hop, sum(each), *each, hop.air_s(sum(each))) for hop, each in moved.items()]

    def abort(self) -> None:
        """End it now; what has moved is wasted. Nothing happens to a transfer that has ended."""
        if self.outcome != "in_flight" or self._cut:
            return
        flow = self._flow
        if flow is not None:
            flow.abort()
            self._close_attempt(flow)
        self._end("aborted")

    def cut_off(self) -> None:
        """End it without an outcome, at the run's end: what has moved stays in flight, and `done` never comes."""
        flow = self._flow
        if flow is not None:
            flow.abort()
            self._close_attempt(flow)
        self._end_pause()
        self._cut = True
        self.end_s = self._transport.env.now

    def _attempt(self) -> None:
        transport = self._transport
        self.attempts += 1
        losses = None if transport.losses is None else transport.losses.on(self.route)
        self._terms = terms = transport.settings.terms(self.route, self._wire_bytes - self._held_bytes, losses)
        self._flow = transport.fabric.start(
            self.route,
            terms.num_bytes,
            weight=terms.weight,
            patience_s=transport.settings.timeout,
            announce=self._over,
            setup_s=terms.setup_s,
            pace=terms.pace,
        )

    def _over(self, flow: Flow) -> None:
        if flow.outcome == "finished":
            self._close_attempt(flow)
            self._end("delivered")
            return
        settings = self._transport.settings
        self._close_attempt(flow)
        if self.attempts >= settings.attempts:
            self._end("failed")
            return
        if settings.on_failure == "restart":
            self.wasted_bytes += self._held_bytes
            self._held_bytes = 0
        self._paused_since_s = self._transport.env.now
        self._transport.env.timeout(settings.wait).callbacks.append(self._again)

    def _again(self, event: simpy.Event) -> None:
        if self.outcome == "in_flight" and not self._cut:
            self._end_pause()
            if self._transport.settings.on_failure == "reroute":
                self._reroute()
            self._attempt()

    def _end_pause(self) -> None:
        if not math.isnan(self._paused_since_s):
            self._paused_s += self._transport.env.now - self._paused_since_s
            self._paused_since_s = math.nan

    def _reroute(self) -> None:
        """Leave the route for the best one that is up now, if there is one."""
        transport, old = self._transport, self.route
        route = transport.topology.detour(old.source, old.destination, transport.fabric.passes)
        if route is not None and route.hops != old.hops:
            held = self._held_bytes - sum(each[1] for each in self._past)
            lost = self.wasted_bytes - sum(each[2] for each in self._past)
            self._past = [*self._past, (old, held, lost)]
            self.route = route

    def _close_attempt(self, flow: Flow) -> None:
        self._flow = None
        moved, pace = _whole_bytes(flow), self._terms.pace
        repeated = 0 if pace is None else pace.repeated_bytes(moved)
        self._held_bytes += moved - repeated
        self.wasted_bytes += repeated
        self._earlier_latency_s += flow.latency_s
        self._earlier_stalled_s += flow.stalled_s
        self._held = [*self._held, *flow.held] if self._held else flow.held

    def _end(self, outcome: Literal["delivered", "aborted", "failed"]) -> None:
        if outcome == "delivered":
            self.delivered_bytes = self._held_bytes
        else:
            self.wasted_bytes += self._held_bytes
        self._held_bytes = 0
        self._end_pause()
        self.outcome = outcome
        self.end_s = self._transport.env.now
        self._transport.forget(self)
        if self._done is not None:
            self._done.succeed(self)
        announce, self._announce = self._announce, None
        if announce is not None:
            # Whoever is told mostly has this transfer: they would keep each other alive until the garbage collector comes.
            announce(self)


def _add(moved: dict[Hop, tuple[int, int, int]], route: Route, each: tuple[int, int, int]) -> None:
    for hop in route.hops:
        before = moved.get(hop, (0, 0, 0))
        moved[hop] = (before[0] + each[0], before[1] + each[1], before[2] + each[2])


def _whole_bytes(flow: Flow) -> int:
    """Bytes that have moved to their last bit; a millionth of a bit forgives the rounding of times."""
    return flow.num_bytes if flow.outcome == "finished" else int((flow.moved_bits + 1e-6) // 8)
