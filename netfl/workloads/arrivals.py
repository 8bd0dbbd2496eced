"""When requests come."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from netfl.parts import Family
from netfl.randomness import Stream
from netfl.units import Duration, Frequency

__all__ = ["ARRIVALS", "Arrivals", "Once", "Periodic", "Poisson", "TraceArrivals", "read_arrivals"]

_MOST_BYTES = 256_000_000


class Arrivals(Protocol):
    """A source of arrival times."""

    def times_s(self, stream: Stream, device: str = "") -> Iterator[float]:
        """Arrival times in seconds from 0, not falling; may be endless.

        Args:
            stream: the device's own random stream.
            device: who asks.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Once:
    """One arrival, at the beginning; no kind of a scenario's, but what a rehearsal asks."""

    def times_s(self, stream: Stream, device: str = "") -> Iterator[float]:
        """0, and no more."""
        return iter((0.0,))


@dataclass(frozen=True, kw_only=True)
class Poisson:
    """Arrivals independent of each other: exponential gaps.

    Args:
        rate: mean arrivals per second of each device.
    """

    rate: Frequency

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError("rate: expected a frequency greater than 0, such as '2 per s'")

    def times_s(self, stream: Stream, device: str = "") -> Iterator[float]:
        """Arrival times, endless; gaps are drawn a thousand at a time."""
        generator = stream.generator()
        now_s = 0.0
        while True:
            for gap_s in generator.exponential(1 / self.rate, 1000).tolist():
                now_s += gap_s
                yield now_s


@dataclass(frozen=True, kw_only=True)
class Periodic:
    """Arrivals at a steady beat, as a camera or a meter makes them.

    Args:
        every: time from one arrival to the next.
        together: whether all devices ask at the same instants, from 0 on; each begins at a random instant of the first period if not.
    """

    every: Duration
    together: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.every < math.inf:
            raise ValueError("every: expected a duration greater than 0")

    def times_s(self, stream: Stream, device: str = "") -> Iterator[float]:
        """Arrival times, endless; counted and not added up, so that they do not drift."""
        first_s = 0.0 if self.together else float(stream.generator().random()) * self.every
        for number in itertools.count():
            yield first_s + number * self.every


@dataclass(frozen=True, kw_only=True)
class TraceArrivals:
    """Arrivals from a recorded trace.

    The file is CSV: a line has a time in seconds, or a time and the name of the device that asks. Times count from the run's
    beginning, and do not fall. Lines without a device are for every device that asks.

    Args:
        file: path, from the folder of the file that names it.
        offset: seconds into the trace at which the run begins; what comes before is left out.
        repeat_every: seconds after which the trace begins anew, no shorter than its last time; once only if left out.
    """

    file: str
    offset: Duration = 0.0
    repeat_every: Duration | None = None

    def __post_init__(self) -> None:
        # What is wrong with a file is to be said where the file is named.
        last_s = max(times_s[-1] for times_s in self._recorded.values())
        if self.repeat_every is not None and not (self.repeat_every >= last_s and self.repeat_every > 0):
            raise ValueError(f"expected repeat_every to be above 0 s and no shorter than the last time of {self.file}, {last_s!r} s")

    @cached_property
    def _recorded(self) -> dict[str, list[float]]:
        return read_arrivals(Path(self.file))

    @property
    def devices(self) -> list[str]:
        """The devices that the file names, sorted."""
        return sorted(name for name in self._recorded if name)

    def times_s(self, stream: Stream, device: str = "") -> Iterator[float]:
        """Arrival times of a device; draws nothing."""
        times_s = sorted([*self._recorded.get("", ()), *(self._recorded.get(device, ()) if device else ())])
        if not times_s:
            return
        for cycle in itertools.count():
            begin_s = cycle * (self.repeat_every or 0.0) - self.offset
            yield from (begin_s + time_s for time_s in times_s if begin_s + time_s >= 0)
            if self.repeat_every is None:
                return


def read_arrivals(path: Path) -> dict[str, list[float]]:
    """The times of an arrival trace by device; those without one under an empty name. `#` begins a comment, and a header may come first.

    Raises:
        ValueError: what is wrong, beginning with file:line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path}: the file has {path.stat().st_size:,} bytes; at most {_MOST_BYTES:,} are read")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: is not UTF-8 text (byte {error.start})") from None
    found: dict[str, list[float]] = {}
    last_s, first = 0.0, True
    for line, each in enumerate(text.split("\n"), 1):
        said = each.strip()
        if not said or said.startswith("#"):
            continue
        time, *rest = [cell.strip() for cell in said.split(",")]
        is_header, first = first and any(letter.isalpha() for letter in time) and time.lower() not in ("nan", "inf"), False
        if is_header:
            continue
        if len(rest) > 1:
            raise ValueError(f"{path}:{line}: expected 'seconds' or 'seconds,device', got '{said[:60]}'")
        try:
            time_s = float(time)
        except ValueError:
            time_s = math.nan
        if not 0 <= time_s < math.inf:
            raise ValueError(f"{path}:{line}: expected a time of at least 0 s, got '{time[:60]}'")
        if time_s < last_s:
            raise ValueError(f"{path}:{line}: expected a time of at least {last_s!r} s, got {time_s!r}: time goes backward")
        last_s = time_s
        found.setdefault(rest[0] if rest else "", []).append(time_s)
    if not found:
        raise ValueError(f"{path}: holds no arrivals: it is empty")
    return found


ARRIVALS = Family(
    "arrivals",
    {
        "poisson": "netfl.workloads.arrivals:Poisson",
        "periodic": "netfl.workloads.arrivals:Periodic",
        "trace": "netfl.workloads.arrivals:TraceArrivals",
    },
)
