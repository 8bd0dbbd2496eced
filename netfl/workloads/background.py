"""Background traffic: what others send over the same links.

Files come as a Poisson process with heavy-tailed lengths (Crovella and Bestavros, "Self-similarity in World Wide Web traffic", IEEE/ACM
Transactions on Networking 5(6), 1997: tail index near 1 to 1.5). On/off sources are the other classic (Willinger, Taqqu, Sherman and
Wilson, "Self-similarity through high-variability", the same journal, 5(1), 1997), here with exponential times. Both are open loops:
nobody waits for what was sent before.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from annotated_types import Gt

from netfl.errors import NoRouteError
from netfl.network.routes import Hop
from netfl.network.topology import Topology
from netfl.parts import Family
from netfl.randomness import Stream
from netfl.units import Bandwidth, Duration, Frequency, Size, counted, format_rate
from netfl.workloads.arrivals import Poisson
from netfl.workloads.session import Session, Setting, matching
from netfl.world import Message

__all__ = ["TRAFFIC", "Background", "Files", "OnOff", "Traffic", "bounded_pareto", "smallest_of"]

Process = Generator[Any, Any, None]

_DRAWN_AT_ONCE = 256


class Traffic(Protocol):
    """What one device sends to another."""

    @property
    def offered_bps(self) -> float:
        """Payload bits per second, over a long time."""
        ...

    def messages(self, stream: Stream) -> Iterator[tuple[float, int]]:
        """(seconds from 0, payload bytes) of each message, in order of time; endless.

        Args:
            stream: the pair's own random stream.
        """
        ...


TRAFFIC = Family("traffic", {"files": "netfl.workloads.background:Files", "on_off": "netfl.workloads.background:OnOff"})


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files that come independently of each other; most are short, a few are very long.

    Lengths follow a bounded Pareto distribution: density ~ x ** -(shape + 1) between a smallest length, which is chosen so that the
    mean is as asked, and the largest.

    Args:
        rate: files per second, on average.
        mean: mean length of a file.
        shape: how fast long files get rare; below 2 the spread is as wide as `largest` allows. 1.5 is a choice.
        largest: no file is longer; 100 MB is a choice.
    """

    rate: Frequency
    mean: Size = 1_000_000
    shape: Annotated[float, Gt(0)] = 1.5
    largest: Size = 100_000_000

    def __post_init__(self) -> None:
        if not (0 < self.rate < math.inf):
            raise ValueError("rate: expected a frequency greater than 0, such as '2 per s'")
        if not self.mean >= 1:
            raise ValueError(f"mean: expected at least 1 B, got {self.mean!r} B")
        if not (0 < self.shape < math.inf):
            raise ValueError(f"shape: expected a number greater than 0, got {self.shape!r}")
        if not self.largest > self.mean:
            raise ValueError(f"largest: expected more than the mean length of {self.mean:,} B, got {self.largest:,} B")
        try:
            smallest_of(self.mean, self.shape, self.largest)
        except ValueError as error:
            raise ValueError(f"mean: {error}") from None

    @property
    def offered_bps(self) -> float:
        """Files per second times bits per file."""
        return 8 * self.rate * self.mean

    def messages(self, stream: Stream) -> Iterator[tuple[float, int]]:
        """One message a file; times and lengths have streams of their own."""
        lengths = self._lengths(Stream(stream.seed, stream.replicate, (*stream.name, "lengths")).generator())
        return zip(Poisson(rate=self.rate).times_s(stream), lengths, strict=False)

    def _lengths(self, generator: np.random.Generator) -> Iterator[int]:
        smallest = smallest_of(self.mean, self.shape, self.largest)
        while True:
            drawn = bounded_pareto(generator.random(_DRAWN_AT_ONCE), smallest, self.largest, self.shape)
            yield from np.rint(drawn).astype(np.int64).tolist()


@dataclass(frozen=True, kw_only=True)
class OnOff:
    """A source that is on and off by turns and sends at a steady rate while it is on.

    While on, a message goes out whenever its bytes have been produced, one each `8 * message / rate` seconds; what is left when
    the source goes off goes out then, as a shorter message. On and off times are exponential. At time 0 the source is as it is at any
    time: on with probability mean_on / (mean_on + mean_off), its long-run share, and then in the midst of a message.

    Args:
        rate: while it is on.
        mean_on: of the times for which it is on.
        mean_off: of the times for which it is off.
        message: bytes of one message; 10 kB is a choice.
    """

    rate: Bandwidth
    mean_on: Duration
    mean_off: Duration
    message: Size = 10_000

    def __post_init__(self) -> None:
        if not (0 < self.rate < math.inf):
            raise ValueError("rate: expected a data rate greater than 0, such as '2 Mbit/s'")
        for name, value in (("mean_on", self.mean_on), ("mean_off", self.mean_off)):
            if not (0 < value < math.inf):
                raise ValueError(f"{name}: expected a duration greater than 0 s, got {value!r} s")
        if not self.message >= 1:
            raise ValueError(f"message: expected at least 1 B, got {self.message!r} B")

    @property
    def offered_bps(self) -> float:
        """The rate, for the share of time for which it is on."""
        return self.rate * self.mean_on / (self.mean_on + self.mean_off)

    def messages(self, stream: Stream) -> Iterator[tuple[float, int]]:
        """Message after message; draws the state at time 0, then one duration a change. How much of a message is there at time 0 has a
        stream of its own.
        """
        generator = stream.generator()
        gap_s = 8 * self.message / self.rate
        begin_s = 0.0
        made_s = 0.0
        if generator.random() * (self.mean_on + self.mean_off) >= self.mean_on:
            begin_s = float(generator.exponential(self.mean_off))
        else:
            # On times have no memory: the past of one that is on is exponential too, and what it made since its last whole message is the
            # rest. That is uniform over a message if messages are much shorter than on times.
            phase = stream.child("phase").generator()
            made_s = float(phase.exponential(self.mean_on)) % gap_s
        while True:
            # As if it had been on since the last message began.
            begin_s -= made_s
            on_s = made_s + float(generator.exponential(self.mean_on))
            made_s = 0.0
            whole = int(on_s / gap_s)
            for number in range(1, whole + 1):
                yield begin_s + number * gap_s, self.message
            rest = round((on_s - whole * gap_s) * self.rate / 8)
            if rest > 0:
                yield begin_s + on_s, rest
            begin_s += on_s + float(generator.exponential(self.mean_off))


def bounded_pareto(uniform: npt.NDArray[np.float64], smallest: float, largest: float, shape: float) -> npt.NDArray[np.float64]:
    """Bounded Pareto values from numbers in [0, 1), by the inverse of the distribution function.

    >>> bounded_pareto(np.array([0.0, 0.5]), 1.0, 4.0, 1.0)
    array([1. , 1.6])
    """
    inside: npt.NDArray[np.float64] = 1 - uniform * (1 - (smallest / largest) ** shape)
    return smallest * inside ** (-1 / shape)


def smallest_of(mean: float, shape: float, largest: float) -> float:
    """The lower bound, at least 1, at which a bounded Pareto distribution has this mean.

    Raises:
        ValueError: there is none: the mean is larger even if the lower bound is 1.

    >>> round(smallest_of(1e6, 1.5, 1e8))
    354357
    """
    low, high = 1.0, mean
    if _mean_of(low, shape, largest) > mean:
        least = _mean_of(low, shape, largest)
        raise ValueError(f"expected a mean of at least {least:.4g} B with this shape and largest length, got {mean:.4g} B")
    # The mean rises with the lower bound: bisection, to the last bit.
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return high
        if _mean_of(middle, shape, largest) < mean:
            low = middle
        else:
            high = middle


def _mean_of(smallest: float, shape: float, largest: float) -> float:
    """The integral of x times the density, shape * x ** -(shape + 1) * smallest ** shape / (1 - (smallest / largest) ** shape)."""
    log = math.log(largest / smallest)
    # x ** (1 - shape) integrated over the logarithm of x; the quotient tends to the logarithm as the shape tends to 1.
    integral = log if abs(1 - shape) * log < 1e-12 else math.expm1((1 - shape) * log) / (1 - shape)
    return smallest * shape * integral / -math.expm1(-shape * log)


@dataclass(frozen=True, kw_only=True)
class Background:
    """Traffic of others between pairs of devices.

    Every pair sends on its own; a device that is down sends nothing, and what it would have sent is dropped. What is sent is
    delivered, retried and given up like all other messages, and counted under the kind `background`. It never ends by itself.

    Args:
        pairs: (from, to), each the name or a pattern (`camera-*`) of devices; a pattern stands for every device that matches, but
            no device sends to itself.
        traffic: what each pair sends.
    """

    pairs: tuple[tuple[str, str], ...]
    traffic: Annotated[Traffic, TRAFFIC]

    def problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        from netfl.parts import nearest

        if not self.pairs:
            yield ("pairs",), "no pairs: nobody sends"
        known = sorted(setting.topology.sites)
        sound = True
        for index, ends in enumerate(self.pairs):
            unmatched = [place for place, pattern in enumerate(ends) if not matching((pattern,), setting.topology)]
            for place in unmatched:
                yield ("pairs", index, place), f"no device matches '{ends[place]}'. {nearest(ends[place], known)}".rstrip()
            alone = not unmatched and not _expanded((ends,), setting.topology)
            if alone:
                yield ("pairs", index), f"expected two devices, got '{ends[0]}' sending to itself"
            sound = sound and not unmatched and not alone
        if sound:
            yield from self._load_problems(setting)

    def _load_problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Pairs that no route joins, and links that would be asked for more than they carry."""
        offered_bps = self.traffic.offered_bps
        asked: defaultdict[_Capacity, _Asked] = defaultdict(_Asked)
        cut_off = []
        for source, destination in _expanded(self.pairs, setting.topology):
            try:
                route = setting.topology.route(source, destination)
            except NoRouteError:
                cut_off.append((source, destination))
                continue
            for hop in route.hops:
                for capacity, cost in _taken(hop, setting.topology):
                    asked[capacity].share += offered_bps * cost
                    asked[capacity].pairs.add((source, destination))
                    asked[capacity].links.add(hop.link.name)
        for source, destination in cut_off[:3]:
            yield ("pairs",), f"no route from '{source}' to '{destination}'"
        if len(cut_off) > 3:
            yield ("pairs",), f"no route for {counted(len(cut_off) - 3, 'more pair')}"
        full = {capacity: times for capacity, of_it in asked.items() if (times := of_it.share / capacity.left(len(of_it.links))) >= 1}
        for capacity in sorted(full, key=lambda capacity: (-full[capacity], capacity.words))[:3]:
            pairs, stations = len(asked[capacity].pairs), len(asked[capacity].links)
            crowd = f" with {counted(stations, 'station')}" if capacity.left(stations) < 1 else ""
            yield (
                ("traffic",),
                f"expected less than {capacity.words} carries{crowd}, got {full[capacity]:.3g} times that: {format_rate(offered_bps)} from "
                f"{'each of ' if pairs > 1 else ''}{counted(pairs, 'pair')}; what waits would grow without end",
            )
        if len(full) > 3:
            yield ("traffic",), f"likewise {counted(len(full) - 3, 'more link')}"

    def model_problems(self, session: Session) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """None: it needs neither data nor model."""
        return iter(())

    role: ClassVar = "background"

    @property
    def ends(self) -> bool:
        """It goes on for as long as the run lasts."""
        return False

    def start(self, session: Session, name: str) -> Process:
        """The process that starts one process for each pair."""
        world = session.world

        def send(source: str, destination: str) -> Process:
            stream = world.streams.stream("background", name, source, destination)
            for number, (time_s, payload_bytes) in zip(itertools.count(1), self.traffic.messages(stream), strict=False):
                yield world.sleep(max(0.0, time_s - world.now))
                if world.is_up(source):
                    message = Message(kind="background", payload_bytes=payload_bytes, workload=name, label=f"message {number}")
                    world.send(source, destination, message)

        for source, destination in _expanded(self.pairs, world.topology):
            world.go(send(source, destination))
        yield world.env.event()


def _expanded(pairs: tuple[tuple[str, str], ...], topology: Topology) -> list[tuple[str, str]]:
    """Every pair of devices that the patterns name, once."""
    found = {
        (source, destination): None
        for sources, destinations in pairs
        for source in matching((sources,), topology)
        for destination in matching((destinations,), topology)
        if source != destination
    }
    return list(found)


@dataclass(frozen=True)
class _Capacity:
    """What a fabric has of a link or a medium, one second a second.

    Args:
        words: what it is.
        exponent: of a medium's efficiency.
    """

    words: str
    exponent: float = 0.0

    def left(self, stations: int) -> float:
        """What so many stations leave of it when all of them have something to send, as they have when what waits grows."""
        return float(stations**-self.exponent)


@dataclass
class _Asked:
    """What is asked of a capacity.

    Args:
        share: seconds a second.
        pairs: by whom.
        links: over which of its links.
    """

    share: float = 0.0
    pairs: set[tuple[str, str]] = field(default_factory=set)
    links: set[str] = field(default_factory=set)


def _taken(hop: Hop, topology: Topology) -> Iterator[tuple[_Capacity, float]]:
    """How long a bit over the hop takes which capacities, by the rules of the fabric."""
    link = hop.link
    if link.medium is None:
        direction = "" if link.duplex == "half" else f" from '{hop.source}' to '{hop.destination}'"
        yield _Capacity(f"link '{link.name}'{direction}"), 1 / hop.rate_bps
        return
    medium = topology.media[link.medium]
    way = "" if medium.duplex == "half" else "the uplink of " if hop.forward else "the downlink of "
    yield _Capacity(f"{way}medium '{medium.name}'", medium.efficiency_exponent), link.duty_cycle / hop.rate_bps
    if link.duty_cycle < 1:
        # Its own limit, for both directions together.
        yield _Capacity(f"link '{link.name}'"), 1 / hop.rate_bps
