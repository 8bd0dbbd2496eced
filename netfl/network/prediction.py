"""When given flows on given routes would end: the network alone, without devices, messages or retries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import simpy

from netfl.network.fabric import Fabric
from netfl.network.routes import Route
from netfl.network.topology import Topology
from netfl.network.transport import TransportSettings

__all__ = ["Sent", "finish_times"]


class Sent(NamedTuple):
    """One message, from when it is sent.

    Args:
        route: its way; at least one hop.
        num_bytes: its length, headers excluded.
        start_s: when it is sent.
    """

    route: Route
    num_bytes: int
    start_s: float


def finish_times(topology: Topology, sent: Iterable[Sent], settings: TransportSettings) -> list[float]:
    """When the last byte of each message arrives, in the order in which they are given; nothing is ever down."""
    env = simpy.Environment()
    fabric = Fabric(env, topology)
    ends: dict[int, float] = {}

    def send(number: int, one: Sent) -> None:
        terms = settings.terms(one.route, settings.wire_bytes(one.num_bytes))
        fabric.start(
            one.route,
            terms.num_bytes,
            weight=terms.weight,
            setup_s=terms.setup_s,
            pace=terms.pace,
            announce=lambda _: ends.__setitem__(number, float(env.now)),
        )

    messages = list(sent)
    for number, one in enumerate(messages):
        env.timeout(one.start_s).callbacks.append(partial(_at, send, number, one))
    env.run()
    return [ends[number] for number in range(len(messages))]


def _at(send: Callable[[int, Sent], None], number: int, one: Sent, event: simpy.Event) -> None:
    send(number, one)
