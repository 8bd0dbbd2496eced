"""Messages over datagram radios: frames with their time on air, duty cycles, collisions, losses and repetitions.

A message is cut into frames at its source, by the smallest limit of all radios on its route; each frame then goes its way hop by hop. A hop over
a radio takes the frame whole: nothing of it is forwarded before all of it is received; and it takes the frames of one message one at a time, in
their order, the next one when this one has been sent or, where frames are confirmed, answered. Between messages radios take turns. Runs of hops
that are no datagram radios move bytes as the fluid does, without the radio's headers: a message that begins on one moves as one flow, of which
each frame is there as soon as its last bit is, so that they follow one another at the wire's rate and the latency passes once; behind a radio
each frame is a flow of its own, and its latency passes while the radio sends the next.

A sender's radio sends one frame at a time, first come first served, and keeps silent in a sub-band as its duty cycle asks; while the device is
down its frames wait. On a medium of LoRaWAN radios they send at will, and two frames of one spreading factor and channel that overlap are both
lost (no capture: a stronger one does not survive), as are frames for a device that is sending. On media of other radios frames wait for one
another: what contention costs on average is in the time of a frame. A frame is also lost if its receiver or the link is down at any time
while it is on the air, or its sender goes down, and by what the link's `loss` or `loss_bursts`, or the transport's `losses`, draws.

Confirmed (LoRaWAN, RFC 7252's CoAP): the receiver of a radio hop answers a frame with one that has no payload; the sender repeats the
frame until it hears that. LoRaWAN's answer goes out a second later (its first window) or not at all, if the receiver is sending then or the
duty cycle forbids it. A transfer is delivered when all its frames have arrived and have been confirmed. Not confirmed, its sender never
learns of a loss: all frames go out, and the transfer has failed if one of them was lost.

What held a message back is told for the frame that ended it; while that waited for earlier frames of its message, for what those did meanwhile.

Devices listen all the time (LoRaWAN class C): class A's downlink only after an uplink is not modelled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import simpy
from annotated_types import Ge

from netfl.network.bursts import BurstyLoss, LossChains
from netfl.network.fabric import Fabric, Flow, Held, Step
from netfl.network.links import TECHNOLOGIES, Radio
from netfl.network.lora import SubBand
from netfl.network.loss import LOSSES, Delivery, Losses
from netfl.network.outages import Availability
from netfl.network.routes import Hop, Route
from netfl.network.topology import Link, Topology
from netfl.network.transport import HopBytes
from netfl.network.under_way import UnderWay
from netfl.randomness import Streams
from netfl.units import Duration, Size

__all__ = ["Datagram", "DatagramTransfer", "DatagramTransport"]


@dataclass(frozen=True, kw_only=True)
class Datagram:
    """Messages in frames over datagram radios (LoRaWAN, 802.15.4, BLE, CoAP over NB-IoT and LTE-M); other hops as the fluid.

    Args:
        payload_limit: most bytes in one frame, headers of `header` included; what the radio allows when absent.
        header: bytes of the application's protocol in every frame, as CoAP's 4 and its options; part of the limit.
        confirmed: whether every frame is acknowledged on every radio hop, and repeated until it is.
        retries: of a frame that is not acknowledged, before the transfer has failed; CoAP has 4, LoRaWAN up to 7.
        ack_timeout: how long to wait for an acknowledgement beyond the time at which it could have come.
        ack_random_factor: that wait is drawn between the timeout and this many times it; CoAP has 1.5.
        backoff: each further wait is this many times as long; CoAP has 2, LoRaWAN 1.
        sub_bands: where radios with a duty cycle send, in place of the technology's own.
        collisions: whether frames that overlap on a LoRaWAN medium are lost; false where `losses` is a measurement that has them in it.
        losses: of frames on links that have no `loss` or `loss_bursts` of their own.
        timeout: an outage may hold a frame at its sender or on a wire for this long; then the transfer has failed.
    """

    payload_limit: Annotated[Size, Ge(1)] | None = None
    header: Size = 0
    confirmed: bool = False
    retries: Annotated[int, Ge(0)] = 4
    ack_timeout: Duration = 2.0
    ack_random_factor: Annotated[float, Ge(1)] = 1.5
    backoff: Annotated[float, Ge(1)] = 2.0
    sub_bands: tuple[SubBand, ...] = ()
    collisions: bool = True
    losses: Annotated[Losses, LOSSES] | None = None
    timeout: Duration = 60.0

    models_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.payload_limit is not None and self.payload_limit < 1:
            raise ValueError(f"expected a payload_limit of at least 1 byte, got {self.payload_limit!r}")
        if self.retries < 0:
            raise ValueError(f"expected at least 0 retries, got {self.retries!r}")
        for name in ("ack_timeout", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} above 0 s, got {getattr(self, name)!r}")
        for name in ("ack_random_factor", "backoff"):
            if not (1 <= getattr(self, name) < math.inf):
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)!r}")

    def problems(self, topology: Topology) -> Iterator[str]:
        """What it cannot do on that topology."""
        radios = {link.name: radio for link in topology.links.values() if (radio := _radio(link)) is not None}
        if not radios:
            known = ", ".join(name for name, technology in TECHNOLOGIES.items() if technology.radio is not None)
            yield f"no link has a datagram radio: {known}"
        if self.sub_bands and all(band.duty_cycle == 1 for radio in radios.values() for band in radio.sub_bands):
            yield "sub_bands are set, and no link has a radio with a duty cycle (LoRaWAN)"
        with_battery = [site.name for site in topology.sites.values() if site.battery is not None]
        if with_battery:
            yield f"'{with_battery[0]}' has a battery: what frames draw from one is not modelled, expected network fluid or tcp"
        media: dict[str, set[str]] = {}
        for link in topology.links.values():
            radio = radios.get(link.name)
            if link.medium is not None:
                media.setdefault(link.medium, set()).add("none" if radio is None else radio.access)
            if radio is None:
                continue
            technology = TECHNOLOGIES[link.technology]
            limit = radio.payload_bytes if self.payload_limit is None else min(self.payload_limit, radio.payload_bytes)
            if self.header >= limit:
                yield f"a header of {self.header} bytes leaves no room in the {limit} bytes of a frame on link '{link.name}'"
            if (link.up_bps, link.down_bps) != (technology.up_bps, technology.down_bps):
                yield f"link '{link.name}' has a rate of its own: a datagram radio's follows from its frames"
        for name, access in media.items():
            if len(access) > 1:
                yield f"medium '{name}' has links that cannot share one under datagram: LoRaWAN, other datagram radios, and links that are none"
            elif access != {"none"} and topology.media[name].duplex == "full":
                yield f"medium '{name}' is full-duplex: datagram radios of one medium share its airtime in both directions, expected half"
            elif access != {"none"} and topology.media[name].efficiency_exponent:
                yield f"medium '{name}' has an efficiency_exponent: what contention costs is in the frames of a datagram radio, expected 0"

    def connect(self, env: simpy.Environment, fabric: Fabric, topology: Topology, streams: Streams) -> DatagramTransport:
        """The transport of one run."""
        return DatagramTransport(env, fabric, topology, self, streams)


def _radio(link: Link) -> Radio | None:
    technology = TECHNOLOGIES.get(link.technology)
    return None if technology is None else technology.radio


# --- what goes on the air ---------------------------------------------------------------------------------------------------


class _Burst:
    """One transmission of one frame, or of its acknowledgement, over one radio hop."""

    __slots__ = ("acknowledges", "air_s", "channel", "exchange", "held_since_s", "hop", "spoilt", "start_s", "wire_bytes")

    def __init__(self, exchange: _Exchange, hop: Hop, radio: Radio, payload_bytes: int, acknowledges: bool) -> None:
        self.exchange = exchange
        self.hop = hop
        self.wire_bytes = radio.header_bytes + payload_bytes
        self.air_s = radio.air_s(payload_bytes)
        self.acknowledges = acknowledges
        self.channel: tuple[str, int, int] = ("", 0, 0)
        self.start_s = math.nan
        self.held_since_s: float | None = None
        self.spoilt = False

    @property
    def wanted(self) -> bool:
        """Whether it is still of use to anyone."""
        return not self.exchange.frame.transfer.ended and (self.acknowledges or not self.exchange.confirmed)

    def turn(self, cause: str, element: str) -> None:
        """Say what its frame does now, if it is this burst that the frame waits for."""
        if not self.acknowledges:
            self.exchange.turn(cause, element)


class _Air:
    """What the frames of one medium, or of a link without one, share."""

    __slots__ = ("access", "bursts", "name", "waiting")

    def __init__(self, name: str, access: str) -> None:
        self.name = name
        self.access = access
        self.bursts: dict[_Burst, None] = {}
        self.waiting: deque[_Station] = deque()


class _Station:
    """One device's radio on one air: a queue of bursts, one of them sent at a time."""

    def __init__(self, transport: DatagramTransport, device: str, air: _Air) -> None:
        self.transport = transport
        self.device = device
        self.air = air
        self.queue: deque[_Burst] = deque()
        self.sending: _Burst | None = None
        self.in_line = False
        self.free_s: dict[int, float] = {}
        self._wake = 0

    def submit(self, burst: _Burst, first: bool = False) -> None:
        """Send this when its turn has come."""
        if first:
            self.queue.appendleft(burst)
        else:
            self.queue.append(burst)
        self.pump()

    def pump(self, its_turn: bool = False) -> None:
        """Send the next burst if nothing stands in its way; come back when that is gone.

        Args:
            its_turn: whether it has waited longest for a medium that is free now.
        """
        self._wake += 1
        now = self.transport.env.now
        while self.queue and not self.queue[0].wanted:
            self.queue.popleft()
        if self.sending is not None or not self.queue:
            return
        up = self.transport.fabric.availability(self.device)
        if not up.up_at(now):
            self._hold(now, up.next_change_s(now))
            return
        for burst in self.queue:
            if burst.held_since_s is not None:
                burst.held_since_s = None
                burst.turn("queue", self.air.name)
        burst = self.queue[0]
        band, free_s = self.open_band(burst.exchange.leg)
        if free_s > now:
            for waiting in self.queue:
                waiting.turn("duty cycle", waiting.hop.link.name)
            self._come_back(free_s)
        elif self.air.access == "queue" and (self.air.bursts or (self.air.waiting and not its_turn)):
            burst.turn("queue", self.air.name)
            if not self.in_line:
                self.in_line = True
                self.air.waiting.append(self)
        else:
            self.queue.popleft()
            self.send(burst, band)
            for waiting in self.queue:
                waiting.turn("queue", self.air.name)

    def open_band(self, leg: _Leg) -> tuple[int, float]:
        """The sub-band that is free first, and from when."""
        return min(((place, self.free_s.get(place, 0.0)) for place in range(len(leg.sub_bands))), key=lambda each: (each[1], each[0]))

    def send(self, burst: _Burst, band: int) -> None:
        """Put a burst on the air now."""
        transport, leg = self.transport, burst.exchange.leg
        now = transport.env.now
        sub_band = leg.sub_bands[band]
        burst.start_s = now
        burst.channel = (leg.radio.colour, band, transport.draws(burst.hop).channel(sub_band.channels))
        self.sending = burst
        self.free_s[band] = now + burst.air_s / sub_band.duty_cycle
        burst.exchange.begin(burst)
        if transport.settings.collisions and self.air.access == "aloha":
            for other in self.air.bursts:
                # Overlapping on one channel, or addressed to somebody who is sending.
                if other.channel == burst.channel:
                    other.spoilt = burst.spoilt = True
                other.spoilt = other.spoilt or other.hop.destination == self.device
                burst.spoilt = burst.spoilt or burst.hop.destination == other.hop.source
        self.air.bursts[burst] = None
        # Ends come before beginnings at one instant, so that frames that only touch do not overlap.
        transport.at(burst.air_s, lambda: self._sent(burst), urgent=True)

    def _sent(self, burst: _Burst) -> None:
        transport = self.transport
        self.sending = None
        del self.air.bursts[burst]
        lost = transport.draws(burst.hop).lost(transport.env.now)
        if not (burst.spoilt or lost) and transport.was_up(burst):
            latency_s = 0.0 if burst.exchange.leg.radio.latency_in_frame else burst.hop.link.latency_s
            burst.exchange.received(burst, latency_s)
        else:
            burst.exchange.missed(burst)
        self.pump()
        while self.air.waiting and not self.air.bursts:
            station = self.air.waiting.popleft()
            station.in_line = False
            station.pump(its_turn=True)

    def _hold(self, now: float, until_s: float) -> None:
        """The device is down."""
        patience_s = self.transport.settings.timeout
        for burst in list(self.queue):
            if burst.held_since_s is None:
                burst.held_since_s = now
                burst.turn("outage", self.device)
            elif burst.wanted and now >= burst.held_since_s + patience_s:
                burst.exchange.frame.transfer.fail(burst.exchange.frame)
        held = [burst.held_since_s for burst in self.queue if burst.wanted and burst.held_since_s is not None]
        if held:
            self._come_back(min(until_s, min(held) + patience_s))

    def _come_back(self, time_s: float) -> None:
        if time_s < math.inf:
            self._wake += 1
            wake = self._wake
            self.transport.at(max(0.0, time_s - self.transport.env.now), lambda: self.pump() if wake == self._wake else None)


@dataclass(frozen=True, eq=False)
class _Draws:
    """The random numbers of one direction of one link."""

    losses: Iterator[bool] | None
    bursts: BurstyLoss | None
    channels: np.random.Generator
    waits: np.random.Generator

    def lost(self, end_s: float) -> bool:
        """Whether the next frame, on the air until then, is lost."""
        if self.bursts is not None:
            return self.bursts.lost(end_s)
        return self.losses is not None and next(self.losses)

    def channel(self, count: int) -> int:
        """One of so many channels."""
        return int(self.channels.integers(count)) if count > 1 else 0

    def wait(self, factor: float) -> float:
        """Between 1 and the factor."""
        return 1 + (factor - 1) * float(self.waits.random())


# --- the way of a message ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Leg:
    """One hop over a radio."""

    hop: Hop
    back: Hop
    radio: Radio
    sub_bands: tuple[SubBand, ...]
    sender: _Station
    receiver: _Station


class _Exchange:
    """A frame's crossing of one radio hop: its transmissions, and what is heard of them."""

    def __init__(self, frame: _Frame, line: _Line) -> None:
        self.frame = frame
        self.line = line
        self.leg = line.leg
        self.tries = 0
        self.heard = False
        self.confirmed = False
        self.submit()

    def submit(self) -> None:
        """Send the frame, for the first time or again."""
        settings = self.frame.transfer.transport.settings
        self.tries += 1
        self.frame.transfer.attempts = max(self.frame.transfer.attempts, self.tries)
        self.turn("queue", self.leg.sender.air.name)
        self.leg.sender.submit(_Burst(self, self.leg.hop, self.leg.radio, settings.header + self.frame.payload_bytes, False))

    def turn(self, cause: str, element: str) -> None:
        """Say what is done about this frame now: for the frames behind it until it is confirmed, for itself until it is heard."""
        now = self.frame.transfer.transport.env.now
        if not self.confirmed:
            self.line.times.turn(now, (cause, element))
        if not self.heard:
            self.frame.times.turn(now, (cause, element))

    def begin(self, burst: _Burst) -> None:
        """A burst goes on the air."""
        self.frame.transfer.on_air[burst] = None
        burst.turn("airtime", burst.hop.link.name)

    def received(self, burst: _Burst, latency_s: float) -> None:
        """A burst has come through."""
        transfer = self.frame.transfer
        if not transfer.take_off_air(burst):
            return
        transport = transfer.transport
        if burst.acknowledges:
            transfer.book(burst, useful=not self.confirmed)
            if not self.confirmed:
                self.confirmed = True
                transport.at(latency_s, self._answered)
            return
        transfer.book(burst, useful=not self.heard)
        if not self.heard:
            self.heard = True
            if latency_s:
                self.frame.times.turn(transport.env.now, ("latency", burst.hop.link.name))
            transport.at(latency_s, lambda: self.frame.enter(self.line.place + 1))
        if transport.settings.confirmed:
            transport.at(latency_s + self.leg.radio.ack_delay_s, self._answer)
        self._sent()

    def missed(self, burst: _Burst) -> None:
        """A burst has not come through."""
        transfer = self.frame.transfer
        if not transfer.take_off_air(burst):
            return
        transfer.book(burst, useful=False)
        if not burst.acknowledges:
            if not transfer.transport.settings.confirmed:
                transfer.resolve(self.frame, arrived=False)
            self._sent()

    def _sent(self) -> None:
        """The frame has left the sender: go on with the next, or wait for the answer."""
        transfer = self.frame.transfer
        settings = transfer.transport.settings
        if transfer.ended:
            return
        if not settings.confirmed:
            self.line.go_on()
            return
        self.turn("acknowledgement", self.leg.hop.link.name)
        radio = self.leg.radio
        latency_s = 0.0 if radio.latency_in_frame else 2 * self.leg.hop.link.latency_s
        answer_s = latency_s + radio.ack_delay_s + radio.air_s(settings.header)
        wait_s = settings.ack_timeout * settings.backoff ** (self.tries - 1)
        tries = self.tries
        wait_s *= transfer.transport.draws(self.leg.hop).wait(settings.ack_random_factor)
        transfer.transport.at(answer_s + wait_s, lambda: self._timed_out(tries))

    def _timed_out(self, tries: int) -> None:
        transfer = self.frame.transfer
        if self.confirmed or transfer.ended or tries != self.tries:
            return
        if self.tries > transfer.transport.settings.retries:
            transfer.fail(self.frame)
        else:
            self.submit()

    def _answer(self) -> None:
        """Send an acknowledgement."""
        if self.frame.transfer.ended or self.confirmed:
            return
        leg, station = self.leg, self.leg.receiver
        burst = _Burst(self, leg.back, leg.radio, self.frame.transfer.transport.settings.header, True)
        if station.air.access == "queue":
            station.submit(burst, first=True)
            return
        # A window of LoRaWAN does not wait.
        now = station.transport.env.now
        band, free_s = station.open_band(leg)
        if station.sending is None and free_s <= now and station.transport.fabric.availability(station.device).up_at(now):
            station.send(burst, band)

    def _answered(self) -> None:
        transfer = self.frame.transfer
        if transfer.ended:
            return
        self.line.go_on()
        self.frame.open -= 1
        self.frame.check()


class _Times:
    """What something spent its time on: one cause at a time, each with the element that it is about."""

    __slots__ = ("doing", "since_s", "sums")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.doing: tuple[str, str] | None = None
        self.sums: dict[tuple[str, str], float] = {}

    def turn(self, now_s: float, doing: tuple[str, str] | None) -> None:
        """What it has done until now is over; from now on it does this."""
        if self.doing is not None and now_s > self.since_s:
            self.add(self.doing, now_s - self.since_s)
        self.since_s = now_s
        self.doing = doing

    def add(self, cause: tuple[str, str], seconds: float) -> None:
        """Count seconds of a cause."""
        self.sums[cause] = self.sums.get(cause, 0.0) + seconds

    def at(self, now_s: float) -> dict[tuple[str, str], float]:
        """The sums until now."""
        self.turn(now_s, self.doing)
        return dict(self.sums)


class _Line:
    """The frames of one message at one radio hop: one of them is being sent, or waits for its acknowledgement; the others wait for that."""

    __slots__ = ("busy", "leg", "place", "times", "transfer", "waiting")

    def __init__(self, transfer: DatagramTransfer, leg: _Leg, place: int) -> None:
        self.transfer = transfer
        self.leg = leg
        self.place = place
        self.waiting: deque[_Frame] = deque()
        self.busy = False
        self.times = _Times(transfer.start_s)

    def join(self, frame: _Frame) -> None:
        """Send a frame after those that came before it."""
        if self.busy:
            frame.wait(self)
            self.waiting.append(frame)
        else:
            self.busy = True
            _Exchange(frame, self)

    def go_on(self) -> None:
        """The radio is done with a frame: send the next."""
        now = self.transfer.transport.env.now
        self.busy = False
        self.times.turn(now, None)
        if self.waiting:
            frame = self.waiting.popleft()
            frame.waited()
            self.join(frame)
        elif self.place == 0:
            self.transfer.release(self)


class _Train:
    """The frames of a message on the wires of its first leg, one behind the other in one flow: a `Pace` that asks at the end of each.

    Args:
        transfer: whose.
        frame_bytes: of each frame but the last, which may have fewer.
        behind: frames after the first.
    """

    num_bytes: ClassVar[None] = None

    def __init__(self, transfer: DatagramTransfer, frame_bytes: int, behind: int) -> None:
        self.transfer = transfer
        self.frame_bytes = frame_bytes
        self.behind = behind
        self.passed = 0

    def begin(self, now_s: float, moved_bits: float) -> Step:
        """Nothing holds the flow but the wires, until the next frame is complete."""
        due_bits = 8.0 * self.frame_bytes * (self.passed + 1) if self.passed < self.behind else math.inf
        return Step(math.inf, "", math.inf, due_bits)

    def step(self, now_s: float, moved_bits: float, rate_bps: float) -> Step:
        """A frame is complete, and goes on in an event of its own: the fabric is at work."""
        self.passed += 1
        self.transfer.transport.at(0.0, self.transfer.uncouple)
        return self.begin(now_s, moved_bits)

    def tail_s(self, now_s: float) -> float:
        """The wires lose nothing."""
        return 0.0

    def repeated_bytes(self, moved_bytes: int) -> int:
        """The wires lose nothing."""
        return 0


class _Frame:
    """A part of a message, on its way over the legs of the route."""

    __slots__ = ("_line", "_mark", "arrived", "on_wires", "open", "payload_bytes", "times", "transfer")

    def __init__(self, transfer: DatagramTransfer, payload_bytes: int) -> None:
        self.transfer = transfer
        self.payload_bytes = payload_bytes
        self.arrived = False
        self.open = 0
        self.times = _Times(transfer.start_s)
        self.on_wires: dict[tuple[str, str], Held] = {}
        # The line in which it waits, and what its frames had spent their time on when it joined.
        self._line: _Line | None = None
        self._mark: dict[tuple[str, str], float] = {}

    def wait(self, line: _Line) -> None:
        """Wait for the earlier frames of the message from now on."""
        now = self.transfer.transport.env.now
        self.times.turn(now, None)
        self._line = line
        self._mark = line.times.at(now)

    def waited(self, line: _Line | None = None) -> None:
        """That is over: what those did meanwhile is what it waited for.

        Args:
            line: in which it waited since the message began; None for the one that it joined, if any.
        """
        line = line or self._line
        if line is None:
            return
        now = self.transfer.transport.env.now
        for cause, seconds in line.times.at(now).items():
            meanwhile_s = seconds - self._mark.get(cause, 0.0)
            if meanwhile_s:
                self.times.add(cause, meanwhile_s)
        self.times.turn(now, None)
        self._line = None
        self._mark = {}

    def enter(self, place: int) -> None:
        """Begin a leg, or arrive."""
        transfer = self.transfer
        if transfer.ended:
            return
        if place == len(transfer.legs):
            self.arrived = True
            self.times.turn(transfer.transport.env.now, ("acknowledgement", "") if self.open else None)
            self.check()
            return
        leg = transfer.legs[place]
        if isinstance(leg, _Leg):
            self.open += transfer.transport.settings.confirmed
            transfer.line(leg, place).join(self)
        else:
            self.times.turn(transfer.transport.env.now, None)
            transfer.carry(self, leg, place)

    def book(self, flow: Flow) -> None:
        """Say what held it back on a run of wired hops until now."""
        self.times.turn(self.transfer.transport.env.now, None)
        for cause, seconds in (("latency", flow.latency_s), ("outage", flow.stalled_s)):
            if seconds:
                self.times.add((cause, flow.route.source), seconds)
        for held in flow.held:
            key = (held.cause, held.element)
            before = self.on_wires.get(key, Held(*key, 0.0, 0.0, 0.0))
            seconds = before.seconds + held.seconds
            share = (before.share * before.seconds + held.share * held.seconds) / seconds
            self.on_wires[key] = Held(*key, seconds, before.moved_bits + held.moved_bits, share)

    def check(self) -> None:
        """Whether all of its way is behind it."""
        if self.arrived and not self.open:
            self.transfer.resolve(self, arrived=True)


class _Account:
    """What moved over one hop."""

    __slots__ = ("air_s", "hop", "spoilt", "under_way", "useful")

    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.useful = 0
        self.spoilt = 0
        self.under_way = 0
        self.air_s = 0.0


class DatagramTransfer:
    """One message on its way in frames. Made by `DatagramTransport.send`.

    Its bytes are those on the air or the wire, headers included. `sent_bytes`, `wasted_bytes` and `in_flight_bytes` are of the first hop,
    `delivered_bytes` of the last one; `hop_bytes` has all hops, and the way back of acknowledgements.

    Args:
        route: its way.
        num_bytes: length of the message.
        start_s: when it was asked for.
        end_s: when it ended; NaN until then.
        done: succeeds when it has ended, whichever way.
        even: never: each hop has its own headers and repetitions.
        outcome: delivered, aborted, failed (a frame was lost for good), or in_flight (not ended, or cut off by the run's end).
        attempts: the most times that one of its frames was sent over one hop.
        latency_s: seconds of silence of the frame that ended it.
        stalled_s: seconds for which outages held that frame, or earlier ones that it waited for.
        held: what else that frame, or earlier ones that it waited for, waited for; with these, the seconds sum to the duration.
    """

    even: ClassVar[bool] = False

    def __init__(
        self, transport: DatagramTransport, route: Route, num_bytes: int, announce: Callable[[DatagramTransfer], None] | None
    ) -> None:
        env = transport.env
        self._announce = announce
        self.transport = transport
        self.route = route
        self.num_bytes = num_bytes
        self.start_s: float = env.now
        self.end_s = math.nan
        self.done: simpy.Event = env.event()
        self.outcome: Literal["delivered", "aborted", "failed", "in_flight"] = "in_flight"
        self.attempts = 0
        self.latency_s = 0.0
        self.stalled_s = 0.0
        self.held: list[Held] = []
        self.ended = False
        self.legs = transport.legs(route)
        self.on_air: dict[_Burst, None] = {}
        self.flows: dict[Flow, _Frame] = {}
        self._lines: dict[int, _Line] = {}
        # Bytes of the frames that have left the flow in which others follow them.
        self._uncoupled: dict[Flow, int] = {}
        self._accounts = {(hop.link.name, hop.forward): _Account(hop) for hop in route.hops}
        per_frame = [leg.radio.payload_bytes for leg in self.legs if isinstance(leg, _Leg)]
        limit = transport.settings.payload_limit
        self.framed = bool(per_frame)
        self._per_frame = max(num_bytes, 1)
        if self.framed:
            self._per_frame = min(per_frame if limit is None else [*per_frame, limit]) - transport.settings.header
        self._count = max(1, -(-num_bytes // self._per_frame))
        self._released = 0
        self._unresolved = self._count
        self._lost = False
        self._frames: dict[_Frame, None] = {}

    # What is asked of it.

    @property
    def sent_bytes(self) -> int:
        """Bytes that have moved over the first hop."""
        return self._totals(0).sent

    @property
    def delivered_bytes(self) -> int:
        """Bytes that have moved over the last hop and count: once it is delivered, none before."""
        return self._totals(-1).delivered

    @property
    def wasted_bytes(self) -> int:
        """Bytes that have moved over the first hop for nothing."""
        return self._totals(0).wasted

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that have moved over the first hop and are neither delivered nor wasted yet."""
        return self._totals(0).in_flight

    def hop_bytes(self) -> list[HopBytes]:
        """What has moved over each hop so far, in the order of the route, and then back."""
        return [self._hop_bytes(account) for account in self._accounts.values()]

    def abort(self) -> None:
        """End it now; what has moved is wasted, and a frame that is on the air goes on to its end. Nothing happens to one that has ended."""
        if not self.ended:
            self._end("aborted", next(iter(self._frames), None))

    def cut_off(self) -> None:
        """End it without an outcome, at the run's end: what has moved stays in flight, and `done` never comes."""
        if self.ended:
            return
        now = self.transport.env.now
        for burst in self.on_air:
            share = (now - burst.start_s) / burst.air_s
            account = self._account(burst.hop)
            account.under_way += int(burst.wire_bytes * share)
            account.air_s += share * burst.air_s
        self._stop_flows(in_flight=True)
        self._close(next(iter(self._frames), None))

    # What becomes of its frames.

    def begin(self) -> None:
        """Send the first frame."""
        if self.legs:
            self._next_frame().enter(0)
        else:
            self.attempts = 1
            self._end("delivered", None)

    def release(self, line: _Line) -> None:
        """The radio of the first hop is done with a frame: send the next."""
        if self._released < self._count and not self.ended:
            frame = self._next_frame()
            frame.waited(line)
            frame.enter(0)

    def _next_frame(self) -> _Frame:
        rest = self.num_bytes - self._released * self._per_frame
        frame = _Frame(self, min(rest, self._per_frame))
        self._released += 1
        self.attempts = max(self.attempts, 1)
        self._frames[frame] = None
        return frame

    def line(self, leg: _Leg, place: int) -> _Line:
        """Where its frames wait for one another before a radio hop."""
        if place not in self._lines:
            self._lines[place] = _Line(self, leg, place)
        return self._lines[place]

    def carry(self, frame: _Frame, leg: Route, place: int) -> None:
        """Move a frame over a run of wired hops; if they are the first, all other frames behind it."""
        transport = self.transport
        header = transport.settings.header if self.framed else 0
        behind = self._count - 1 if place == 0 else 0
        flow = transport.fabric.start(
            leg,
            self.num_bytes + header * self._count if place == 0 else header + frame.payload_bytes,
            patience_s=transport.settings.timeout,
            announce=lambda flow: self._carried(flow, place),
            pace=_Train(self, header + self._per_frame, behind) if behind else None,
        )
        self.flows[flow] = frame

    def uncouple(self) -> None:
        """A frame has come to the end of the wires of the first leg, and another is behind it."""
        if self.ended:
            return
        # It was there before all others, and is until its last frame has left it.
        flow = next(iter(self.flows))
        frame = self.flows[flow]
        num_bytes = self._per_frame + self.transport.settings.header
        self._count_flow(flow, num_bytes, useful=True)
        self._uncoupled[flow] = self._uncoupled.get(flow, 0) + num_bytes
        frame.book(flow)
        self.flows[flow] = self._next_frame()
        frame.enter(1)

    def _carried(self, flow: Flow, place: int) -> None:
        """A run of wired hops is behind a frame, or has failed."""
        arrived = flow.outcome == "finished"
        self._count_flow(flow, self._coupled_bytes(flow), useful=arrived)
        self._uncoupled.pop(flow, None)
        frame = self.flows.pop(flow)
        frame.book(flow)
        if arrived:
            frame.enter(place + 1)
        else:
            self.fail(frame)

    def _count_flow(self, flow: Flow, num_bytes: int, *, useful: bool) -> None:
        for hop in flow.route.hops:
            self.count(hop, num_bytes, useful=useful, air_s=hop.air_s(num_bytes))

    def _coupled_bytes(self, flow: Flow) -> int:
        """What has moved of a flow, less the frames that have left it."""
        return int((flow.moved_bits + 1e-6) // 8) - self._uncoupled.get(flow, 0)

    def resolve(self, frame: _Frame, arrived: bool) -> None:
        """A frame has reached the end of its way, or is lost for good."""
        if self.ended:
            return
        del self._frames[frame]
        self._unresolved -= 1
        self._lost = self._lost or not arrived
        if not self._unresolved:
            self._end("failed" if self._lost else "delivered", frame)

    def fail(self, frame: _Frame) -> None:
        """A frame is given up, and the transfer with it."""
        if not self.ended:
            self._end("failed", frame)

    def take_off_air(self, burst: _Burst) -> bool:
        """A burst is over: whether it was still this transfer's."""
        return self.on_air.pop(burst, 0) is None

    def book(self, burst: _Burst, useful: bool) -> None:
        """Count a burst that is over."""
        self.count(burst.hop, burst.wire_bytes, useful=useful, air_s=burst.air_s)

    def count(self, hop: Hop, num_bytes: int, *, useful: bool, air_s: float) -> None:
        """Count bytes that have moved over a hop."""
        account = self._account(hop)
        account.air_s += air_s
        if useful:
            account.useful += num_bytes
        else:
            account.spoilt += num_bytes

    def _account(self, hop: Hop) -> _Account:
        key = (hop.link.name, hop.forward)
        if key not in self._accounts:
            self._accounts[key] = _Account(hop)
        return self._accounts[key]

    def _totals(self, place: int) -> HopBytes:
        if self.route.hops:
            hop = self.route.hops[place]
            return self._hop_bytes(self._accounts[hop.link.name, hop.forward])
        arrived = self.num_bytes if self.outcome == "delivered" else 0
        return HopBytes(cast("Any", None), arrived, arrived, 0, 0, 0.0)

    def _hop_bytes(self, account: _Account) -> HopBytes:
        delivered = account.useful if self.outcome == "delivered" else 0
        in_flight = account.under_way + (account.useful if self.outcome == "in_flight" else 0)
        if not self.ended:
            in_flight += self._moving(account.hop)
        wasted = account.spoilt + (account.useful if self.outcome in ("aborted", "failed") else 0)
        return HopBytes(account.hop, delivered + in_flight + wasted, delivered, wasted, in_flight, account.air_s)

    def _moving(self, hop: Hop) -> int:
        """Bytes of frames that are on this hop now."""
        now = self.transport.env.now
        on_air = sum(int(b.wire_bytes * (now - b.start_s) / b.air_s) for b in self.on_air if _same(b.hop, hop))
        flowing = sum(self._coupled_bytes(flow) for flow in self.flows if any(_same(each, hop) for each in flow.route.hops))
        return on_air + flowing

    def _stop_flows(self, in_flight: bool) -> None:
        for flow, frame in list(self.flows.items()):
            flow.abort()
            frame.book(flow)
            moved = self._coupled_bytes(flow)
            if not in_flight:
                self._count_flow(flow, moved, useful=False)
                continue
            for hop in flow.route.hops:
                account = self._account(hop)
                account.under_way += moved
                account.air_s += hop.air_s(moved)
        self.flows.clear()
        self._uncoupled.clear()

    def _end(self, outcome: Literal["delivered", "aborted", "failed"], frame: _Frame | None) -> None:
        # A frame on the air goes on to its end, heard by nobody who cares.
        for burst in self.on_air:
            self.book(burst, useful=False)
        self._stop_flows(in_flight=False)
        self.outcome = outcome
        self._close(frame)
        self.transport.forget(self)
        self.done.succeed()
        announce, self._announce = self._announce, None
        if announce is not None:
            announce(self)

    def _close(self, frame: _Frame | None) -> None:
        self.on_air.clear()
        self.ended = True
        self.end_s = self.transport.env.now
        self._lines.clear()
        if frame is None:
            return
        frame.waited()
        for (cause, element), seconds in frame.times.at(self.end_s).items():
            if cause == "latency":
                self.latency_s += seconds
            elif cause == "outage":
                self.stalled_s += seconds
            else:
                self.held.append(Held(cause, element, seconds, 0.0, 0.0))
        self.held.extend(frame.on_wires.values())


class DatagramTransport(UnderWay[DatagramTransfer]):
    """Sends messages in frames.

    Args:
        env: whose clock it follows.
        fabric: where frames move over wires, and what says who is up.
        topology: where routes are found.
        settings: of the transport.
        streams: of the run; each direction of a link has its own.
    """

    def __init__(self, env: simpy.Environment, fabric: Fabric, topology: Topology, settings: Datagram, streams: Streams) -> None:
        super().__init__()
        self.env = env
        self.fabric = fabric
        self.topology = topology
        self.settings = settings
        self._streams = streams
        self._chains = LossChains(streams)
        self._airs: dict[tuple[str, str], _Air] = {}
        self._stations: dict[tuple[str, _Air], _Station] = {}
        self._draws: dict[tuple[str, bool], _Draws] = {}
        self._legs: dict[tuple[Hop, ...], tuple[_Leg | Route, ...]] = {}

    def send(
        self, source: str, destination: str, num_bytes: int, announce: Callable[[DatagramTransfer], None] | None = None
    ) -> DatagramTransfer:
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
        transfer = DatagramTransfer(self, self.topology.route(source, destination), num_bytes, announce)
        self.note(transfer)
        transfer.begin()
        return transfer

    def legs(self, route: Route) -> tuple[_Leg | Route, ...]:
        """A route as hops over radios, and runs of hops between them."""
        found = self._legs.get(route.hops)
        if found is None:
            legs: list[_Leg | Route] = []
            wires: list[Hop] = []
            for hop in (*route.hops, None):
                radio = None if hop is None else _radio(hop.link)
                if (hop is None or radio is not None) and wires:
                    legs.append(Route(tuple(wires), wires[0].source, wires[-1].destination))
                    wires = []
                if radio is not None:
                    assert hop is not None
                    legs.append(self._leg(hop, radio))
                elif hop is not None:
                    wires.append(hop)
            found = self._legs[route.hops] = tuple(legs)
        return found

    def draws(self, hop: Hop) -> _Draws:
        """The random numbers of one direction of a link."""
        key = (hop.link.name, hop.forward)
        found = self._draws.get(key)
        if found is None:
            way = "up" if hop.forward else "down"
            bursts = None if hop.bursts is None else self._chains.of(hop)
            losses = Delivery(ratio=1 - hop.loss) if hop.loss else self.settings.losses
            found = self._draws[key] = _Draws(
                None if losses is None else losses.frames(self._streams.stream("datagram", "loss", hop.link.name, way)),
                bursts,
                self._streams.generator("datagram", "channel", hop.link.name, way),
                self._streams.generator("datagram", "wait", hop.link.name, way),
            )
        return found

    def was_up(self, burst: _Burst) -> bool:
        """Whether sender, link and receiver were up for all of the time for which a burst was on the air."""
        hop = burst.hop
        end_s = burst.start_s + burst.air_s
        for name in (hop.source, hop.link.name, hop.destination):
            availability: Availability = self.fabric.availability(name)
            if not (availability.up_at(burst.start_s) and availability.next_change_s(burst.start_s) >= end_s):
                return False
        return True

    def at(self, delay_s: float, callback: Callable[[], object], urgent: bool = False) -> None:
        """Call this after so long; urgent comes before everything else of that instant."""
        event = simpy.Event(self.env)
        event._ok = True
        event._value = None
        event.callbacks.append(lambda _: cast("None", callback()))
        self.env.schedule(event, cast("Any", 0 if urgent else 1), delay_s)

    def _leg(self, hop: Hop, radio: Radio) -> _Leg:
        link = hop.link
        key = ("link", link.name) if link.medium is None else ("medium", link.medium)
        if key not in self._airs:
            self._airs[key] = _Air(key[1], radio.access)
        air = self._airs[key]
        ends = []
        for device in (hop.source, hop.destination):
            if (device, air) not in self._stations:
                self._stations[device, air] = _Station(self, device, air)
            ends.append(self._stations[device, air])
        limited = any(band.duty_cycle < 1 for band in radio.sub_bands)
        sub_bands = self.settings.sub_bands if self.settings.sub_bands and limited else radio.sub_bands
        return _Leg(hop, Hop(link, not hop.forward), radio, sub_bands, ends[0], ends[1])


def _same(one: Hop, other: Hop) -> bool:
    return one.link is other.link and one.forward == other.forward
