"""What TCP adds to the fluid: headers, connection set-up, slow start, shares by round-trip time, windows that losses cut.

Sources: slow start and restart after idleness, RFC 5681; an initial window of 10 segments, RFC 6928; CUBIC, its growth law and its
Reno-friendly region, RFC 9438; Reno's halving and growth by one segment a round trip, RFC 5681. On a link that they fill, flows share in
the ratio of 1 / round-trip time, the textbook result for windows of equal length (Kurose and Ross, Computer Networking, section 3.7). BBR
probes for the bottleneck's rate and does not take a loss for a sign of congestion (Cardwell et al., ACM Queue 14(5), 2016).

Losses fall at fixed places and not by chance: one at packet 1 / 2p and then one every 1 / p packets, so that n packets lose n p of them
to the nearest whole number. A loss shows one window of packets later; what is lost until then is part of the same episode, which cuts the
window once, so that the next cut is 1 / p packets after that. Where p changes over time (`loss_bursts`), losses fall where the expected number
of them, counted on from state to state, says so. Losses of connection set-up and of acknowledgements are not modelled, nor
timeouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import simpy
from annotated_types import Ge

from netfl.network.bursts import LossChains, RouteLoss
from netfl.network.fabric import Fabric, Step
from netfl.network.routes import Hop, Route
from netfl.network.topology import Topology
from netfl.network.transport import Terms, Transport, check_attempts
from netfl.randomness import Streams
from netfl.units import Duration

__all__ = ["BurstyWindow", "Law", "Tcp", "Window"]

HEADER_BYTES = 52
"""IP 20, TCP 20, TCP's timestamp option 12, which Linux sends by default."""

LEAST_RTT_S = 1e-4
"""Round-trip times below this count as this: two sites without latency between them are not infinitely greedy."""

_BINDS = 1 - 1e-9
"""A rate of no more than this share of the cap is not held by the cap."""

_BIT = 1e-6
"""What rounding may add to a count of bits."""

_STEPS = 16
"""A window grows in steps of a whole packet, or of this part of the window where that is more: a resolution, not a model."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """How a congestion window reacts to losses.

    Args:
        keeps: the share of the window that a loss leaves.
        gains: packets by which the window grows a round trip.
        cubic: C of CUBIC's window C (t - K)^3 + W_max, in packets / s^3; 0 for none.
    """

    keeps: float
    gains: float
    cubic: float = 0.0


LAWS: dict[str, Law | None] = {
    # RFC 9438: beta 0.7, C 0.4, and 3 (1 - beta) / (1 + beta) packets a round trip in the Reno-friendly region.
    "cubic": Law(keeps=0.7, gains=3 * 0.3 / 1.7, cubic=0.4),
    "reno": Law(keeps=0.5, gains=1.0),
    "bbr": None,
}
"""By congestion control; None: losses cut no window."""


@dataclass(frozen=True, kw_only=True)
class Tcp:
    """TCP as a fluid with its corrections: headers, connection set-up, slow start, shares by round-trip time, loss.

    Args:
        congestion_control: cubic (Linux's default), reno or bbr.
        connection: new: every attempt opens its own connection, which takes a round trip; kept: the connection stands already. Both start slowly,
            as Linux does after idleness.
        timeout: an attempt that one outage has held for this long has failed.
        attempts: in all, the first one included.
        wait: before the next attempt.
        on_failure: resume where the last attempt stopped; restart from the first byte and waste what had moved; or reroute: resume, over the
            best route that crosses nothing that is down when the new attempt begins, or over the last one if there is none.
        mtu_bytes: longest IP packet; each carries 52 bytes of headers.
        initial_window: packets that may be on the way before the first acknowledgement.
    """

    congestion_control: Literal["cubic", "reno", "bbr"] = "cubic"
    connection: Literal["new", "kept"] = "new"
    timeout: Duration = 60.0
    attempts: Annotated[int, Ge(1)] = 3
    wait: Duration = 1.0
    on_failure: Literal["resume", "restart", "reroute"] = "resume"
    mtu_bytes: Annotated[int, Ge(HEADER_BYTES + 1)] = 1500
    initial_window: Annotated[int, Ge(1)] = 10

    models_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_attempts(self)
        if self.congestion_control not in LAWS:
            raise ValueError(f"expected congestion_control {', '.join(LAWS)}, got {self.congestion_control!r}")
        if self.connection not in ("new", "kept"):
            raise ValueError(f"expected connection new or kept, got {self.connection!r}")
        if self.mtu_bytes <= HEADER_BYTES:
            raise ValueError(f"expected mtu_bytes above {HEADER_BYTES}, the headers, got {self.mtu_bytes!r}")
        if self.initial_window < 1:
            raise ValueError(f"expected an initial_window of at least 1 packet, got {self.initial_window!r}")

    def problems(self, topology: Topology) -> Iterator[str]:
        """None."""
        return iter(())

    def connect(self, env: simpy.Environment, fabric: Fabric, topology: Topology, streams: Streams) -> Transport:
        """The transport of one run."""
        changes = any(link.bursts_up or link.bursts_down for link in topology.links.values())
        return Transport(env, fabric, topology, self, LossChains(streams) if changes else None)

    def wire_bytes(self, payload_bytes: int) -> int:
        """The message and the headers of its packets."""
        return payload_bytes + HEADER_BYTES * -(-payload_bytes // (self.mtu_bytes - HEADER_BYTES))

    def terms(self, route: Route, wire_bytes: int, losses: RouteLoss | None = None) -> Terms:
        """An attempt of its own window."""
        rtt_s = self.rtt_s(route)
        # The set-up's packets are small: no time on the wire, only the way there and back.
        setup_s = 2 * route.latency_s if self.connection == "new" else 0.0
        narrowest = min(route.hops, key=_rate_of)
        queue_s = 8 * narrowest.queue_bytes / narrowest.rate_bps
        if losses is not None:
            bursty = BurstyWindow(
                law=LAWS[self.congestion_control],
                rtt_s=rtt_s,
                narrowest_bps=narrowest.rate_bps,
                queue_s=queue_s,
                mtu_bytes=self.mtu_bytes,
                wire_bytes=wire_bytes,
                initial=self.initial_window,
                losses=losses,
            )
            return Terms(wire_bytes, 1 / rtt_s, setup_s, bursty)
        arrives = 1.0
        for hop in route.hops:
            arrives *= 1.0 - hop.loss
        loss = 1.0 - arrives
        repeated_bytes = math.floor(wire_bytes / self.mtu_bytes * loss + 0.5) * self.mtu_bytes
        window = Window(
            law=LAWS[self.congestion_control],
            rtt_s=rtt_s,
            narrowest_bps=narrowest.rate_bps,
            queue_s=queue_s,
            loss=loss,
            packet_bits=8 * self.mtu_bytes,
            packets_lost=repeated_bytes // self.mtu_bytes,
            total_bits=8 * (wire_bytes + repeated_bytes),
            initial=self.initial_window,
        )
        return Terms(wire_bytes + repeated_bytes, 1 / rtt_s, setup_s, window)

    def rtt_s(self, route: Route) -> float:
        """There and back without queues, one full packet's time on every link of the way included."""
        packet_bits = 8 * self.mtu_bytes
        return max(2 * route.latency_s + math.fsum(packet_bits / hop.rate_bps for hop in route.hops), LEAST_RTT_S)


def _rate_of(hop: Hop) -> float:
    return hop.rate_bps


class Window:
    """The congestion window of one attempt, as a cap of its rate that changes at known times and after known bits.

    Slow start: the window doubles every round trip from the initial one; the cap is dropped when it binds no more or when the rest fits
    into one window. Under loss, each episode cuts the window, and after the round trip of the recovery it grows by its law. What is in flight
    is never more than the rate times the round trip and the queue of the narrowest link, so a window that does not bind is cut from
    there. A lost packet arrives a round trip after it should have: at least so long after its last loss a transfer ends.

    Args:
        law: how it reacts to losses; None: not at all.
        rtt_s: round-trip time without queues.
        narrowest_bps: rate of the slowest link.
        queue_s: how long that link's queue can hold a packet.
        loss: probability that a packet is lost on the way.
        packet_bits: length of a packet.
        packets_lost: how many of them are lost and sent again.
        total_bits: all that is to move.
        initial: packets in the first window.
    """

    __slots__ = (
        "_began_bits", "_cap_bps", "_curve_s", "_cut_bits", "_cut_from", "_due_s", "_epoch_s", "_initial", "_kept", "_law", "_lost_bits", "_lost_s",
        "_narrowest_bps", "_packet_bits", "_packets_lost", "_peak", "_queue_s", "_rtt_s", "_slow", "_spacing_bits", "_total_bits", "_window",
    )  # fmt: skip

    def __init__(
        self,
        *,
        law: Law | None,
        rtt_s: float,
        narrowest_bps: float,
        queue_s: float,
        loss: float,
        packet_bits: float,
        packets_lost: int,
        total_bits: float,
        initial: int,
    ) -> None:
        self._law = law
        self._rtt_s = rtt_s
        self._narrowest_bps = narrowest_bps
        self._queue_s = queue_s
        self._packet_bits = packet_bits
        self._packets_lost = packets_lost
        self._total_bits = total_bits
        self._initial = initial
        # Where the next packet is lost, where that shows, and the window that is cut there. Without a law only the last loss matters.
        self._spacing_bits = packet_bits / loss if loss else math.inf
        self._lost_bits = math.inf
        if packets_lost:
            self._lost_bits = self._spacing_bits * (0.5 if law is not None else packets_lost - 0.5)
        self._cut_bits = math.inf
        self._cut_from = 0.0
        self._lost_s = -math.inf
        self._slow = True
        self._window = float(initial)
        self._began_bits = 0.0
        self._cap_bps = self._due_s = math.inf
        # Since the last cut: when it was, what it left, CUBIC's W_max and K.
        self._epoch_s = 0.0
        self._kept = 0.0
        self._peak = 0.0
        self._curve_s = 0.0

    def begin(self, now_s: float, moved_bits: float) -> Step:
        """Bits begin to move, or do so again after an outage: slow start."""
        self._slow = True
        self._window = float(self._initial)
        self._began_bits = moved_bits
        self._cut_bits = math.inf
        self._open(now_s, moved_bits)
        return self._step()

    def step(self, now_s: float, moved_bits: float, rate_bps: float) -> Step:
        """A time or a count of bits that the last step named has come."""
        if moved_bits >= self._cut_bits:
            self._cut(now_s, moved_bits, rate_bps)
        elif moved_bits >= self._lost_bits:
            self._lose(now_s, moved_bits, rate_bps)
        elif rate_bps < self._cap_bps * _BINDS:
            self._cap_bps = self._due_s = math.inf
        elif self._slow:
            self._window *= 2
            self._open(now_s, moved_bits)
        else:
            self._window = _next_step(self._window)
            self._hold(now_s, moved_bits)
        return self._step()

    def tail_s(self, now_s: float) -> float:
        """How long the last packet is still on its way when all bits have moved."""
        return max(self._lost_s + self._rtt_s - now_s, 0.0)

    @property
    def num_bytes(self) -> int | None:
        """What was lost is counted from the first: as many bytes as the flow was started with."""
        return None

    def repeated_bytes(self, moved_bytes: int) -> int:
        """How many of the bytes that have moved the network lost: losses are spread evenly over the attempt."""
        return int(moved_bytes * self._packets_lost * self._packet_bits // self._total_bits) if self._packets_lost else 0

    def _step(self) -> Step:
        mark = min(self._lost_bits, self._cut_bits)
        return Step(self._cap_bps, "slow start" if self._slow else "window", self._due_s, mark if mark < self._total_bits else math.inf)

    def _open(self, now_s: float, moved_bits: float) -> None:
        """The cap of a round of slow start."""
        if not self._fits(moved_bits):
            self._due_s = now_s + self._rtt_s

    def _fits(self, moved_bits: float) -> bool:
        """Whether the window holds nothing back: it takes the rest at once, or is more than the path can carry. Sets the cap, and that nothing is due."""
        bits = self._window * self._packet_bits
        self._cap_bps = bits / self._rtt_s
        self._due_s = math.inf
        if bits < self._total_bits - moved_bits and self._cap_bps < self._narrowest_bps:
            return False
        self._cap_bps = math.inf
        return True

    def _lose(self, now_s: float, moved_bits: float, rate_bps: float) -> None:
        self._lost_s = now_s
        if self._law is None:
            self._lost_bits = math.inf
            return
        if self._slow:
            # Every packet that is acknowledged has opened the window by one.
            window = self._initial + (moved_bits - self._began_bits) / self._packet_bits
        else:
            window = self._grown(now_s, rate_bps)
        self._cut_from = max(1.0, min(window, rate_bps * (self._rtt_s + self._queue_s) / self._packet_bits))
        self._cut_bits = moved_bits + self._cut_from * self._packet_bits
        self._lost_bits = self._cut_bits + self._spacing_bits

    def _cut(self, now_s: float, moved_bits: float, rate_bps: float) -> None:
        law, window = self._law, self._cut_from
        assert law is not None
        self._cut_bits = math.inf
        self._slow = False
        # RFC 9438, section 4.7, fast convergence: a flow that is cut below its last peak makes room.
        self._peak = window * (1 + law.keeps) / 2 if law.cubic and window < self._peak else window
        self._kept = self._window = max(math.floor(window * law.keeps), 2.0)
        # Congestion avoidance, and with it all growth, begins when the recovery's round trip is over.
        self._epoch_s = now_s + max(self._rtt_s, self._window * self._packet_bits / rate_bps)
        self._curve_s = (max(self._peak - self._kept, 0.0) / law.cubic) ** (1 / 3) if law.cubic else 0.0
        held = rate_bps >= self._cap_bps * _BINDS or self._window * self._packet_bits < rate_bps * self._rtt_s
        self._hold(now_s, moved_bits)
        if not held:
            self._cap_bps = self._due_s = math.inf

    def _hold(self, now_s: float, moved_bits: float) -> None:
        """The cap of a window after a cut, until it has grown by a step."""
        law = self._law
        assert law is not None
        if self._fits(moved_bits):
            return
        window = _next_step(self._window)
        grows_s = self._epoch_s + (window - self._kept) / law.gains * self._rtt_s
        if law.cubic:
            grows_s = min(grows_s, self._epoch_s + self._curve_s + math.cbrt((window - self._peak) / law.cubic))
        # By no more than half in any round trip (RFC 9438, section 4.4).
        self._due_s = max(grows_s, max(now_s, self._epoch_s) + (window - self._window) / (0.5 * self._window) * self._rtt_s)

    def _grown(self, now_s: float, rate_bps: float) -> float:
        """The window that has grown since the last cut, whether it binds or not; its round trips include its own queue."""
        law = self._law
        assert law is not None
        since_s = max(now_s - self._epoch_s, 0.0)
        round_s = max(self._rtt_s, self._kept * self._packet_bits / rate_bps)
        window = max(self._window, self._kept + law.gains * since_s / round_s)
        if law.cubic:
            window = max(window, law.cubic * (since_s - self._curve_s) ** 3 + self._peak)
        return window


class BurstyWindow(Window):
    """The same under a loss that changes over time.

    What is expected to be lost is counted on from state to state: a packet is lost where the count passes a half, and where it has grown by
    one since the last episode. How much is to be sent again is known of the states that were, and supposed of the present one to last.

    Args:
        law: how it reacts to losses; None: not at all.
        rtt_s: round-trip time without queues.
        narrowest_bps: rate of the slowest link.
        queue_s: how long that link's queue can hold a packet.
        mtu_bytes: length of a packet.
        wire_bytes: what is to arrive.
        initial: packets in the first window.
        losses: on the way.
    """

    __slots__ = (
        "_changes_s", "_expected", "_from_bits", "_loss", "_losses", "_mtu_bytes", "_own_bits", "_repeated_bits", "_seen_bits", "_total_bytes",
        "_wire_bytes",
    )  # fmt: skip

    def __init__(
        self,
        *,
        law: Law | None,
        rtt_s: float,
        narrowest_bps: float,
        queue_s: float,
        mtu_bytes: int,
        wire_bytes: int,
        initial: int,
        losses: RouteLoss,
    ) -> None:
        super().__init__(
            law=law, rtt_s=rtt_s, narrowest_bps=narrowest_bps, queue_s=queue_s, loss=0.0, packet_bits=8 * mtu_bytes, packets_lost=0,
            total_bits=8 * wire_bytes, initial=initial,
        )  # fmt: skip
        self._losses = losses
        self._mtu_bytes = mtu_bytes
        self._wire_bytes = self._total_bytes = wire_bytes
        self._loss = 0.0
        self._changes_s = -math.inf
        # Of the next loss: from how many bits on, and how many losses are expected until then.
        self._from_bits = 0.0
        self._expected = 0.5
        # Until the present state began: what had moved, and what of that arrived and was lost.
        self._seen_bits = 0.0
        self._own_bits = 0.0
        self._repeated_bits = 0.0

    def begin(self, now_s: float, moved_bits: float) -> Step:
        """Bits begin to move, or do so again after an outage: slow start."""
        self._see(now_s, moved_bits)
        return super().begin(now_s, moved_bits)

    def step(self, now_s: float, moved_bits: float, rate_bps: float) -> Step:
        """A time or a count of bits that the last step named has come, or the loss has changed."""
        self._see(now_s, moved_bits)
        if moved_bits >= min(self._cut_bits, self._lost_bits) or now_s >= self._due_s:
            return super().step(now_s, moved_bits, rate_bps)
        return self._step()

    @property
    def num_bytes(self) -> int:
        """What is to arrive and what was and, if the present state lasts, will be lost."""
        return self._total_bytes

    def repeated_bytes(self, moved_bytes: int) -> int:
        """How many of the bytes that have moved the network lost."""
        present_bits = max(8 * moved_bytes - self._seen_bits, 0.0) * self._loss / (1 + self._loss)
        lost = int((self._repeated_bits + present_bits) / 8)
        # What is sent again are whole packets: no more than those, and all of them when all has moved.
        return max(min(lost, self._total_bytes - self._wire_bytes), moved_bytes - self._wire_bytes, 0)

    def _step(self) -> Step:
        step = super()._step()
        return step._replace(due_s=min(step.due_s, self._changes_s))

    def _see(self, now_s: float, moved_bits: float) -> None:
        """Let the loss be that of this instant."""
        if now_s < self._changes_s:
            return
        before, self._loss = self._loss, self._losses.at(now_s)
        self._changes_s = self._losses.next_change_s(now_s)
        if before:
            # Of the bits in a state, one share has arrived and p times as much was lost.
            own_bits = (moved_bits - self._seen_bits) / (1 + before)
            self._own_bits += own_bits
            self._repeated_bits += own_bits * before
            counted_bits = max(moved_bits - self._from_bits, 0.0)
            self._expected = max(self._expected - counted_bits * before / self._packet_bits, 0.0)
        else:
            self._own_bits += moved_bits - self._seen_bits
        self._seen_bits = moved_bits
        self._from_bits = max(self._from_bits, moved_bits)
        self._spacing_bits = self._packet_bits / self._loss if self._loss else math.inf
        self._lost_bits = self._from_bits + self._expected * self._spacing_bits if self._loss else math.inf
        repeated = (self._repeated_bits + max(8 * self._wire_bytes - self._own_bits, 0.0) * self._loss) / self._packet_bits
        repeated_bytes = math.floor(repeated + 0.5) * self._mtu_bytes
        self._total_bytes = max(self._wire_bytes + repeated_bytes, math.ceil((moved_bits - _BIT) / 8))
        self._total_bits = 8 * self._total_bytes

    def _lose(self, now_s: float, moved_bits: float, rate_bps: float) -> None:
        super()._lose(now_s, moved_bits, rate_bps)
        if self._law is None:
            self._lost_bits = moved_bits + self._spacing_bits
        self._from_bits = self._cut_bits if self._law is not None else moved_bits
        self._expected = 1.0


def _next_step(window: float) -> float:
    return window + max(1.0, window // _STEPS)
