"""How a message gets from one device to another: attempts, and what becomes of their bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import simpy
from annotated_types import Ge

from netfl.network.bursts import LossChains, RouteLoss
from netfl.network.fabric import Fabric, Held
from netfl.network.routes import Route
from netfl.network.topology import Topology
from netfl.network.transfer import HopBytes, Terms, Transfer
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
