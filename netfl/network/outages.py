"""When a device or a link is down: availability as a function of time.

Nothing here ticks: a timeline is asked for the next change after an instant, and draws no further than it is asked.

A Gilbert-Elliott chain is a model of losses: `loss_bursts` of a link (`netfl.network.bursts`) and `losses` of `transport: datagram`. As an
availability it would be the kind `exponential`.
"""

from __future__ import annotations

import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Protocol

from annotated_types import Ge, Le

from netfl.network.files import bytes_of
from netfl.parts import Family, nearest
from netfl.randomness import Stream
from netfl.units import Duration

__all__ = [
    "ALWAYS_UP",
    "OUTAGES",
    "Availability",
    "DiurnalOutages",
    "ExponentialOutages",
    "IotMains",
    "Outages",
    "PhoneDiurnal",
    "ScheduledOutages",
    "Timeline",
    "TraceOutages",
    "VehicleLte",
    "WeibullOutages",
    "read_availability",
]


class Availability(Protocol):
    """Up or down, as a function of time."""

    def up_at(self, time_s: float) -> bool:
        """Whether it is up at this instant."""
        ...

    def next_change_s(self, time_s: float) -> float:
        """The first change strictly after this instant; infinity if there is none."""
        ...


class Timeline:
    """Up or down, as a function of time; up from time 0 to the first change.

    Args:
        changes: the instants at which it goes down, up, down, ... in order, none before 0; asked for only as far as needed.
            A change belongs to the state that it begins. Two changes at one instant cancel out.
    """

    def __init__(self, changes: Iterable[float] = ()) -> None:
        self._coming: Iterator[float] | None = iter(changes)
        self._changes: list[float] = []

    def up_at(self, time_s: float) -> bool:
        """Whether it is up at this instant."""
        self._extend(time_s)
        return bisect_right(self._changes, time_s) % 2 == 0

    def next_change_s(self, time_s: float) -> float:
        """The first change strictly after this instant; infinity if there is none."""
        self._extend(time_s)
        place = bisect_right(self._changes, time_s)
        return self._changes[place] if place < len(self._changes) else math.inf

    def finish_of(self, start_s: float, work_s: float) -> float:
        """The instant at which `work_s` seconds of up time have passed since `start_s`; infinity if that never comes."""
        now, left = start_s, work_s
        while True:
            up, change = self.up_at(now), self.next_change_s(now)
            if up and now + left <= change:
                return now + left
            if math.isinf(change):
                return math.inf
            if up:
                left -= change - now
            now = change

    def down_intervals(self, end_s: float) -> list[tuple[float, float]]:
        """The times for which it is down between 0 and `end_s`, the last one cut off there."""
        found: list[tuple[float, float]] = []
        now = 0.0
        while now < end_s:
            change = min(self.next_change_s(now), end_s)
            if not self.up_at(now):
                found.append((now, change))
            now = change
        return found

    def _extend(self, time_s: float) -> None:
        """Draw until two changes lie after this instant: the next one, and one to see that it is not taken back at once."""
        while self._coming is not None and (len(self._changes) < 2 or self._changes[-2] <= time_s):
            change = next(self._coming, None)
            if change is None:
                self._coming = None
            elif self._changes and self._changes[-1] == change:
                self._changes.pop()
            else:
                self._changes.append(change)


ALWAYS_UP = Timeline()
"""What has no outages."""


class Outages(Protocol):
    """When an element is down."""

    def timeline(self, stream: Stream) -> Timeline:
        """The element's availability in one run.

        Args:
            stream: the element's own random stream.
        """
        ...


OUTAGES = Family(
    "outages",
    {
        "exponential": "netfl.network.outages:ExponentialOutages",
        "schedule": "netfl.network.outages:ScheduledOutages",
        "weibull": "netfl.network.outages:WeibullOutages",
        "diurnal": "netfl.network.outages:DiurnalOutages",
        "trace": "netfl.network.outages:TraceOutages",
        "iot_mains": "netfl.network.outages:IotMains",
        "vehicle_lte": "netfl.network.outages:VehicleLte",
        "phone_diurnal": "netfl.network.outages:PhoneDiurnal",
    },
)


@dataclass(frozen=True, kw_only=True)
class ExponentialOutages:
    """Up and down times without memory, in their stationary state from time 0: up with probability up / (up + down).

    Args:
        mean_up: seconds between outages, on average.
        mean_down: seconds that an outage lasts, on average.
    """

    mean_up: Duration
    mean_down: Duration

    def __post_init__(self) -> None:
        for name, value in (("mean_up", self.mean_up), ("mean_down", self.mean_down)):
            if not value > 0:
                raise ValueError(f"expected {name} above 0 s, got {value!r}")

    def timeline(self, stream: Stream) -> Timeline:
        """Draws the state at time 0, then one duration a change."""
        return Timeline(self._changes(stream))

    def _changes(self, stream: Stream) -> Iterator[float]:
        generator = stream.generator()
        up, now = True, 0.0
        if generator.random() * (self.mean_up + self.mean_down) >= self.mean_up:
            up = False
            yield now
        while True:
            now += float(generator.exponential(self.mean_up if up else self.mean_down))
            up = not up
            yield now


@dataclass(frozen=True, kw_only=True)
class ScheduledOutages:
    """Down at stated times.

    Args:
        down: (start, end) pairs in order of time that do not overlap; down from start on, up again at end.
        repeat_every: seconds after which the pairs come again, no shorter than the last end; None for once only.
    """

    down: tuple[tuple[Duration, Duration], ...]
    repeat_every: Duration | None = None

    def __post_init__(self) -> None:
        last = 0.0
        for start, end in self.down:
            if not (last <= start < end):
                raise ValueError(f"expected (start, end) pairs in order of time that do not overlap, got {(start, end)!r} after {last!r} s")
            last = end
        if self.repeat_every is not None:
            if not (self.repeat_every > 0 and last <= self.repeat_every):
                expected = f"expected repeat_every to be above 0 s and no shorter than the last end, {last!r} s"
                raise ValueError(f"{expected}, got {self.repeat_every!r}")
            if math.fsum(end - start for start, end in self.down) >= self.repeat_every:
                raise ValueError(f"expected some up time in every {self.repeat_every!r} s, got down times that fill it")

    def timeline(self, stream: Stream) -> Timeline:
        """Draws nothing."""
        return Timeline(self._changes())

    def _changes(self) -> Iterator[float]:
        if not self.down:
            return
        for period in itertools.count():
            for start, end in self.down:
                begin = period * (self.repeat_every or 0.0)
                yield begin + start
                yield begin + end
            if self.repeat_every is None:
                return


@dataclass(frozen=True, kw_only=True)
class WeibullOutages:
    """Up and down times from Weibull distributions, in their stationary state from time 0.

    A shape below 1 gives many short times and a few very long ones, as volunteers' computers show them: 0.4 to 0.6 for up times is
    typical of that literature (a choice, not a measurement). The time to the first change is that of a renewal process seen at a
    random instant: a uniform share of a length-biased duration.

    Args:
        up_scale: seconds; 63 % of the up times are shorter.
        down_scale: seconds; 63 % of the outages are shorter.
        up_shape: of the up times; 1 is exponential.
        down_shape: of the outages.
    """

    up_scale: Duration
    down_scale: Duration
    up_shape: Annotated[float, Ge(0.1), Le(100)] = 0.5
    down_shape: Annotated[float, Ge(0.1), Le(100)] = 0.5

    def __post_init__(self) -> None:
        for name in ("up_scale", "down_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} above 0 s, got {getattr(self, name)!r}")
        for name in ("up_shape", "down_shape"):
            if not (0.1 <= getattr(self, name) <= 100):
                raise ValueError(f"expected {name} from 0.1 to 100, got {getattr(self, name)!r}")

    def timeline(self, stream: Stream) -> Timeline:
        """Draws the state at time 0 and its rest, then one duration a change."""
        return Timeline(self._changes(stream))

    def _changes(self, stream: Stream) -> Iterator[float]:
        generator = stream.generator()
        mean_up = self.up_scale * math.gamma(1 + 1 / self.up_shape)
        mean_down = self.down_scale * math.gamma(1 + 1 / self.down_shape)
        up, now = True, 0.0
        if generator.random() * (mean_up + mean_down) >= mean_up:
            up = False
            yield now
        scale, shape = (self.up_scale, self.up_shape) if up else (self.down_scale, self.down_shape)
        # (X / scale) ** shape is exponential for a Weibull X, and Gamma(1 + 1 / shape) for a length-biased one.
        now += float(generator.random() * scale * generator.gamma(1 + 1 / shape) ** (1 / shape))
        while True:
            up = not up
            yield now
            scale, shape = (self.up_scale, self.up_shape) if up else (self.down_scale, self.down_shape)
            now += float(scale * generator.weibull(shape))


@dataclass(frozen=True, kw_only=True)
class DiurnalOutages:
    """On and off, with a rate of coming on that swings over the day.

    While off, it comes on at the rate (1 + swing x cos(2 pi (t - peak) / period)) / mean_down; while on, it goes off at the rate
    1 / mean_up. At time 0 it is in the periodic steady state.

    Args:
        mean_up: seconds that it stays on, on average.
        mean_down: one over the mean rate of coming on.
        swing: the rate swings by a factor of (1 + swing) / (1 - swing) over a period; so does, nearly, the share of devices that are on,
            where that is small.
        period: of the swing.
        peak: when the rate is highest, counted from the run's beginning.
    """

    mean_up: Duration
    mean_down: Duration
    swing: Annotated[float, Ge(0), Le(1)] = 0.6
    period: Duration = 86400.0
    peak: Duration = 0.0

    def __post_init__(self) -> None:
        for name in ("mean_up", "mean_down", "period"):
            if not getattr(self, name) > 0:
                raise ValueError(f"expected {name} above 0 s, got {getattr(self, name)!r}")
        if not (0 <= self.swing <= 1):
            raise ValueError(f"expected swing from 0 to 1, got {self.swing!r}")

    def timeline(self, stream: Stream) -> Timeline:
        """Draws the state at time 0, then durations; those of being off by thinning."""
        return Timeline(self._changes(stream))

    def share_up_at_0(self) -> float:
        """Probability of being on at time 0, in the periodic steady state."""
        return _periodic_share(self.mean_up, self.mean_down, self.swing, self.period, self.peak)

    def _changes(self, stream: Stream) -> Iterator[float]:
        generator = stream.generator()
        up, now = True, 0.0
        if generator.random() >= self.share_up_at_0():
            up = False
            yield now
        fastest = (1 + self.swing) / self.mean_down
        while True:
            if up:
                now += float(generator.exponential(self.mean_up))
            else:
                while True:
                    now += float(generator.exponential(1 / fastest))
                    if generator.random() * (1 + self.swing) < self._relative_rate(now):
                        break
            up = not up
            yield now

    def _relative_rate(self, time_s: float) -> float:
        return 1 + self.swing * math.cos(2 * math.pi * (time_s - self.peak) / self.period)


@lru_cache
def _periodic_share(mean_up: float, mean_down: float, swing: float, period: float, peak: float) -> float:
    """The periodic solution of p' = on(t) (1 - p) - p / mean_up at time 0, by the exact step of constant rates over 1/20,000 of a period."""
    steps = 20_000
    step_s = period / steps
    exponent, share = 0.0, 0.0
    for number in range(steps):
        time_s = (number + 0.5) * step_s
        on = (1 + swing * math.cos(2 * math.pi * (time_s - peak) / period)) / mean_down
        both = on + 1 / mean_up
        share = share * math.exp(-both * step_s) - on / both * math.expm1(-both * step_s)
        exponent += both * step_s
    return -share / math.expm1(-exponent)


@dataclass(frozen=True, kw_only=True)
class TraceOutages:
    """Availability from a recorded trace in the shape of FedScale's (SymbioticLab/FedScale@7ec441c2): up from active[i] to inactive[i].

    The file is JSON, never a pickle: {"client": {"duration": ..., "active": [...], "inactive": [...], "finish_time": ...}, ...}, in seconds,
    or one such record alone. Time is taken modulo finish_time; `duration` and other entries are not used. FedScale counts the
    instant inactive[i] itself as up; here it is the first instant of the outage.

    Args:
        file: path, from the folder of the file that names it.
        client: which record; without it, every device draws one by its own random stream.
        offset: seconds into the trace at which the run begins.
    """

    file: str
    client: str | None = None
    offset: Duration = 0.0

    def __post_init__(self) -> None:
        records = self._records
        if self.client is not None and self.client not in records:
            raise ValueError(f"no client '{self.client}' in {self.file}. {nearest(self.client, list(records))}".rstrip())

    @cached_property
    def _records(self) -> dict[str, _Record]:
        return read_availability(Path(self.file))

    @cached_property
    def _names(self) -> list[str]:
        return list(self._records)

    def timeline(self, stream: Stream) -> Timeline:
        """Draws which record it follows, unless that is set."""
        return Timeline(self._changes(stream))

    def _changes(self, stream: Stream) -> Iterator[float]:
        name = self.client if self.client is not None else self._names[int(stream.generator().integers(len(self._names)))]
        spans, finish_s = self._records[name]
        # Down wherever no span is: the first change, at 0, says so; a span that begins there takes it back.
        if spans == ((0.0, finish_s),):
            return
        yield 0.0
        if not spans:
            return

        def since_start(period: int, time_s: float) -> float:
            # The end of one period and the beginning of the next are one instant, and have to be one number.
            whole = period * finish_s + time_s if time_s < finish_s else (period + 1) * finish_s
            return whole - self.offset

        for period in itertools.count(math.floor(self.offset / finish_s)):
            for start, end in spans:
                if since_start(period, end) > 0:
                    yield max(since_start(period, start), 0.0)
                    yield since_start(period, end)


_Record = tuple[tuple[tuple[float, float], ...], float]
"""Spans of being up, in order, and the length of the trace."""


def read_availability(path: Path) -> dict[str, _Record]:
    """The records of a trace of availability in FedScale's shape.

    Raises:
        ValueError: what is wrong, beginning with the file's name and, where it is known, the line.
    """
    data = bytes_of(path)
    if data[:1] == b"\x80" or path.suffix in (".pkl", ".pickle"):
        raise ValueError(f"{path}: is a pickle, which could run any code when it is read: convert it to JSON")
    try:
        found = json.loads(data, parse_constant=float)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}:{error.colno}: is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: is not JSON that can be read: not UTF-8, nested too deep, or a number too long") from None
    if isinstance(found, dict) and "active" in found:
        found = {"": found}
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path}: expected an object of records by client, got {_kind(found)}")
    return {name: _record(f"{path}: client '{name}'" if name else str(path), record) for name, record in found.items()}


def _record(where: str, record: Any) -> _Record:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a record with active, inactive and finish_time, got {_kind(record)}")
    missing = [name for name in ("active", "inactive", "finish_time") if name not in record]
    if missing:
        raise ValueError(f"{where}: '{missing[0]}' is missing")
    active, inactive = (_times(where, name, record[name]) for name in ("active", "inactive"))
    finish_s = _time(f"{where}: finish_time", record["finish_time"])
    if not finish_s > 0:
        raise ValueError(f"{where}: expected finish_time above 0 s, got {finish_s!r}")
    if len(active) != len(inactive):
        raise ValueError(f"{where}: expected as many times in 'active' as in 'inactive', got {len(active)} and {len(inactive)}")
    last = 0.0
    spans: list[tuple[float, float]] = []
    for index, (start, end) in enumerate(zip(active, inactive, strict=True)):
        if not (last <= start <= end <= finish_s):
            expected = f"expected {last!r} <= active[{index}] <= inactive[{index}] <= finish_time"
            raise ValueError(f"{where}: {expected} {finish_s!r}, got {start!r} and {end!r}")
        if spans and start == last:
            spans[-1] = (spans[-1][0], end)
        elif start < end:
            spans.append((start, end))
        last = end
    return tuple(spans), finish_s


def _times(where: str, name: str, value: Any) -> list[float]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list of times for '{name}', got {_kind(value)}")
    return [_time(f"{where}: {name}[{index}]", each) for index, each in enumerate(value)]


def _time(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{where}: expected a finite number of seconds, got {value!r}"[:400])
    return float(value)


def _kind(value: Any) -> str:
    return {dict: "an empty object", list: "a list", str: "a text", type(None): "nothing"}.get(type(value), repr(value)[:40])


@dataclass(frozen=True, kw_only=True)
class IotMains(ExponentialOutages):
    """A device on the mains that restarts now and then: on for 7 days, off for 10 minutes, on average (a choice).

    Args:
        mean_up: seconds between outages, on average.
        mean_down: seconds that an outage lasts, on average.
    """

    mean_up: Duration = 7 * 86400.0
    mean_down: Duration = 600.0


@dataclass(frozen=True, kw_only=True)
class VehicleLte(ExponentialOutages):
    """A moving vehicle on LTE: 50 s of service, 5 s without, on average.

    Rounded from public Mahimahi traces in bins of 1 s, bad being below 50 kbit/s: AT&T LTE driving, up, 50 s good and 6.5 s bad;
    others 23 to 85 s and 1.8 to 5.2 s.

    Args:
        mean_up: seconds between outages, on average.
        mean_down: seconds that an outage lasts, on average.
    """

    mean_up: Duration = 50.0
    mean_down: Duration = 5.0


@dataclass(frozen=True, kw_only=True)
class PhoneDiurnal(DiurnalOutages):
    """A phone that may take part while it is idle, charging and on an unmetered network: many more do so by night.

    The rate of coming on swings 4 to 1 over 24 h, as the number of participating devices did in Bonawitz et al., SysML 2019. Choices: on
    for 54 min on average, so that 8 % (of the 6 to 10 % there) are lost in a round of 270 s; on once in 24 h; the peak 3 h into the run.

    Args:
        mean_up: seconds that it stays on, on average.
        mean_down: one over the mean rate of coming on.
        swing: the rate swings by a factor of (1 + swing) / (1 - swing) over a period.
        period: of the swing.
        peak: when the rate is highest, counted from the run's beginning.
    """

    mean_up: Duration = 3240.0
    mean_down: Duration = 86400.0
    swing: Annotated[float, Ge(0), Le(1)] = 0.6
    period: Duration = 86400.0
    peak: Duration = 3 * 3600.0
