"""How a message gets from one device to another: attempts, and what becomes of their bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import simpy
from annotated_types import Ge

from netfl.network.bursts import LossChains, RouteLoss
from netfl.network.fabric import Fabric, Flow, Held, Pace
from netfl.network.topology import Hop, Route, Topology
from netfl.network.under_way import UnderWay
from netfl.parts import Family
from netfl.randomness import Streams
from netfl.units import Duration

__all__ = [
    "TRANSPORTS",
    "Carrier",
    "Fluid",
    "HopBytes",
    "Sent",
    "Terms",
    "Transfer",
    "Transport",
    "TransportPart",
    "TransportSettings",
    "check_attempts",
]


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


class Sent(Protocol):
    """A message on its way, as the world sees it; `Transfer` says what each of these is."""

    outcome: Literal["delivered", "aborted", "failed", "in_flight"]
    end_s: float
    attempts: int

    @property
    def route(self) -> Route:
        """Its way."""
        ...

    @property
    def num_bytes(self) -> int:
        """Length of the message."""
        ...

    @property
    def start_s(self) -> float:
        """When it was asked for."""
        ...

    @property
    def done(self) -> simpy.Event:
        """Succeeds when it has ended, whichever way."""
        ...

    @property
    def sent_bytes(self) -> int:
        """Bytes that have moved."""
        ...

    @property
    def delivered_bytes(self) -> int:
        """Bytes that have arrived and count."""
        ...

    @property
    def wasted_bytes(self) -> int:
        """Bytes that moved for nothing."""
        ...

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that have moved and are neither delivered nor wasted."""
        ...

    @property
    def even(self) -> bool:
        """Whether the same bytes have moved over every hop of its route, and no others."""
        ...

    @property
    def latency_s(self) -> float:
        """Seconds of silence."""
        ...

    @property
    def stalled_s(self) -> float:
        """Seconds for which outages held it."""
        ...

    @property
    def held(self) -> Sequence[Held]:
        """What held it back, latency and outages excepted; with these the seconds sum to the duration of one that has ended."""
        ...

    def hop_bytes(self) -> list[HopBytes]:
        """What has moved over each hop."""
        ...

    def abort(self) -> None:
        """End it now."""
        ...


class Carrier(Protocol):
    """What sends the messages of one run."""

    def send(self, source: str, destination: str, num_bytes: int, announce: Callable[[Any], None] | None = None) -> Sent:
        """Begin to send a message now; `announce` is called with it at the instant when it ends."""
        ...

    def close(self) -> Sequence[Sent]:
        """Cut off what is still under way, at the run's end."""
        ...


class TransportPart(Protocol):
    """What `network:` can name: it says what it cannot do, and makes the carrier of a run."""

    @property
    def models_loss(self) -> bool:
        """Whether it knows what a link that loses packets does; if not, such links are refused."""
        ...

    def problems(self, topology: Topology) -> Iterator[str]:
        """What it cannot do on that topology, one sentence each."""
        ...

    def connect(self, env: simpy.Environment, fabric: Fabric, topology: Topology, streams: Streams) -> Carrier:
        """The carrier of one run."""
        ...


class TransportSettings(Protocol):
    """What the transports that send whole messages as flows let a scenario set."""

    @property
    def timeout(self) -> float:
        """Seconds after which an attempt that an outage holds has failed."""
        ...

    @property
    def attempts(self) -> int:
        """Attempts in all."""
        ...

    @property
    def wait(self) -> float:
        """Seconds before the next attempt."""
        ...

    @property
    def on_failure(self) -> Literal["resume", "restart", "reroute"]:
        """What the next attempt sends."""
        ...

    @property
    def models_loss(self) -> bool:
        """Whether it knows what a link that loses packets does; if not, such links are refused."""
        ...

    def wire_bytes(self, payload_bytes: int) -> int:
        """What a message is on the wire, all headers included."""
        ...

    def terms(self, route: Route, wire_bytes: int, losses: RouteLoss | None = None) -> Terms:
        """On what terms an attempt moves so many bytes of a message, headers included.

        Args:
            route: its way.
            wire_bytes: how many, those that the network loses not counted twice.
            losses: the route's loss over time; None where it does not change, or its means are to do.
        """
        ...


TRANSPORTS = Family(
    "transports",
    {"fluid": "netfl.network.transport:Fluid", "tcp": "netfl.network.tcp:Tcp", "datagram": "netfl.network.datagram:Datagram"},
)


def check_attempts(settings: TransportSettings) -> None:
    """Refuse timeouts, attempts and waits that cannot be.

    Raises:
        ValueError: what was expected and what was given.
    """
    if not settings.timeout > 0:
        raise ValueError(f"expected timeout above 0 s, got {settings.timeout!r}")
    if settings.attempts < 1:
        raise ValueError(f"expected at least 1 attempt, got {settings.attempts!r}")
    if not (0 <= settings.wait < math.inf):
        raise ValueError(f"expected wait of at least 0 s, got {settings.wait!r}")


@dataclass(frozen=True, kw_only=True)
class Fluid:
    """Bytes as a fluid: silent for the route's latency, then at the max-min fair rate; no headers, no slow start, no loss.

    Args:
        timeout: an attempt that one outage has held for this long has failed.
        attempts: in all, the first one included.
        wait: before the next attempt.
        on_failure: resume where the last attempt stopped; restart from the first byte and waste what had moved; or reroute: resume, over the
            best route that crosses nothing that is down when the new attempt begins, or over the last one if there is none.
    """

    timeout: Duration = 60.0
    attempts: Annotated[int, Ge(1)] = 3
    wait: Duration = 1.0
    on_failure: Literal["resume", "restart", "reroute"] = "resume"

    models_loss: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_attempts(self)

    def problems(self, topology: Topology) -> Iterator[str]:
        """None but losses, which are told beside."""
        return iter(())

    def connect(self, env: simpy.Environment, fabric: Fabric, topology: Topology, streams: Streams) -> Transport:
        """The transport of one run."""
        return Transport(env, fabric, topology, self)

    def wire_bytes(self, payload_bytes: int) -> int:
        """The message and nothing else."""
        return payload_bytes

    def terms(self, route: Route, wire_bytes: int, losses: RouteLoss | None = None) -> Terms:
        """Equal shares, nothing held back."""
        return Terms(wire_bytes)


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
        if route is not None and route is not old:
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
        if self._announce is not None:
            self._announce(self)


def _add(moved: dict[Hop, tuple[int, int, int]], route: Route, each: tuple[int, int, int]) -> None:
    for hop in route.hops:
        before = moved.get(hop, (0, 0, 0))
        moved[hop] = (before[0] + each[0], before[1] + each[1], before[2] + each[2])


def _whole_bytes(flow: Flow) -> int:
    """Bytes that have moved to their last bit; a millionth of a bit forgives the rounding of times."""
    return flow.num_bytes if flow.outcome == "finished" else int((flow.moved_bits + 1e-6) // 8)


class Transport(UnderWay[Transfer]):
    """Sends messages.

    Args:
        env: whose clock it follows.
        fabric: where flows move.
        topology: where routes are found.
        settings: a part of the family `TRANSPORTS`.
        losses: of links whose loss comes in bursts; None: they lose by their means.

    Raises:
        ValueError: a link loses packets and the transport knows no loss.
    """

    def __init__(
        self, env: simpy.Environment, fabric: Fabric, topology: Topology, settings: TransportSettings, losses: LossChains | None = None
    ) -> None:
        lossy = [] if settings.models_loss else [link.name for link in topology.links.values() if link.loses]
        if lossy:
            kind = TRANSPORTS.kind_of(settings)
            raise ValueError(
                f"link '{lossy[0]}' loses packets, and transport '{kind}' knows no loss: tcp and datagram do ({len(lossy)} such links)"
            )
        super().__init__()
        self.env = env
        self.fabric = fabric
        self.topology = topology
        self.settings = settings
        self.losses = losses

    def send(self, source: str, destination: str, num_bytes: int, announce: Callable[[Transfer], None] | None = None) -> Transfer:
        """Begin to send a message now.

        Args:
            source: a device.
            destination: a device; the same one is reached at once, over no hop.
            num_bytes: length of the message.
            announce: called with the transfer, at the instant, when it ends; before `send` returns if it is over no hop.

        Raises:
            NoRouteError: a device is unknown, or no path joins the two.
        """
        if num_bytes < 0:
            raise ValueError(f"expected at least 0 bytes, got {num_bytes!r}")
        transfer = Transfer(self, self.topology.route(source, destination), num_bytes, announce)
        self.note(transfer)
        if transfer.route.hops:
            transfer._attempt()
        else:
            transfer.attempts = 1
            transfer._held_bytes = transfer._wire_bytes
            transfer._end("delivered")
        return transfer
