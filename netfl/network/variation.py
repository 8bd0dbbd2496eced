"""Rates that change over time: recorded bandwidth of a link.

Nothing here ticks: a rate is a function of time, asked for its next change only while something moves.
"""

from __future__ import annotations

import csv
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from netfl.network.files import text_of
from netfl.parts import nearest
from netfl.units import Bandwidth, Duration

__all__ = ["Gaps", "RateTrace", "Rates", "read_columns", "read_csv", "read_mahimahi"]

_SLOT_BITS = 8 * 1500


class Rates:
    """A rate as a function of time: constant from one breakpoint to the next.

    Args:
        starts_s: the breakpoints, the first at 0, in order.
        values_bps: the rate from each breakpoint on, at least 0, one of them above 0.
        length_s: how long the trace is; it ends after the last breakpoint.
        repeat: whether it begins anew at its end; the last rate holds for ever if not.
        offset_s: where in the trace time 0 lies.
    """

    def __init__(
        self, starts_s: Sequence[float], values_bps: Sequence[float], length_s: float, *, repeat: bool = True, offset_s: float = 0.0
    ) -> None:
        if not (starts_s and starts_s[0] == 0 and len(starts_s) == len(values_bps)):
            raise ValueError("expected as many rates as breakpoints, the first breakpoint at 0")
        if not all(first < second for first, second in itertools.pairwise([*starts_s, length_s])):
            raise ValueError("expected breakpoints in order, and a length beyond the last")
        if not all(0 <= value < math.inf for value in values_bps) or not any(values_bps):
            raise ValueError("expected finite rates of at least 0, one of them above 0")
        if not repeat and not values_bps[-1]:
            raise ValueError("expected a last rate above 0 where it holds for ever")
        changes = [place for place, value in enumerate(values_bps) if not place or value != values_bps[place - 1]]
        self._starts = [starts_s[place] for place in changes]
        self._values = [values_bps[place] for place in changes]
        self._length_s = length_s
        self._repeat = repeat
        self._offset_s = offset_s
        ends = [*self._starts[1:], length_s]
        self._bits = [0.0, *itertools.accumulate(v * (end - start) for v, start, end in zip(self._values, self._starts, ends, strict=True))]

    @property
    def mean_bps(self) -> float:
        """Mean over the length of the trace."""
        return self._bits[-1] / self._length_s

    @property
    def most_bps(self) -> float:
        """The highest rate."""
        return max(self._values)

    @property
    def has_gaps(self) -> bool:
        """Whether the rate is ever 0."""
        return not all(self._values)

    def at(self, time_s: float) -> float:
        """The rate at this instant; a breakpoint belongs to the rate that it begins."""
        return self._values[self._place(time_s)[1]]

    def next_change_s(self, time_s: float) -> float:
        """The first breakpoint strictly after this instant; infinity if there is none."""
        cycle, index = self._place(time_s)
        if index + 1 < len(self._starts):
            return self._begin(cycle, index + 1)
        if not self._repeat or len(self._starts) == 1:
            return math.inf
        # The rate at the end of a cycle may be that at its beginning; then this is no change, and asking again costs nothing.
        return self._begin(cycle + 1, 0)

    def bits_by(self, time_s: float) -> float:
        """The integral from time 0."""
        return self._integral(time_s + self._offset_s) - self._integral(self._offset_s)

    def averaged(self, window_s: float) -> Rates:
        """The means over windows of this length, the last one cut off by the trace's end: fewer changes, the same integral at their ends."""
        count = max(1, math.ceil(self._length_s / window_s - 1e-9))
        edges = [*(number * window_s for number in range(count)), self._length_s]
        values = [(self._integral(end) - self._integral(start)) / (end - start) for start, end in itertools.pairwise(edges)]
        return Rates(edges[:-1], values, self._length_s, repeat=self._repeat, offset_s=self._offset_s)

    def _integral(self, local_s: float) -> float:
        cycles = math.floor(local_s / self._length_s) if self._repeat else 0
        local_s -= cycles * self._length_s
        index = bisect_right(self._starts, local_s) - 1
        return cycles * self._bits[-1] + self._bits[index] + self._values[index] * (local_s - self._starts[index])

    def _begin(self, cycle: int, index: int) -> float:
        return cycle * self._length_s + self._starts[index] - self._offset_s

    def _place(self, time_s: float) -> tuple[int, int]:
        """The cycle and the last breakpoint in it that begins no later than this instant, as `_begin` rounds."""
        local = time_s + self._offset_s
        cycle = math.floor(local / self._length_s) if self._repeat else 0
        index = max(bisect_right(self._starts, local - cycle * self._length_s) - 1, 0)
        last = len(self._starts) - 1
        while self._begin(cycle, index) > time_s and (cycle, index) > (0, 0):
            cycle, index = (cycle, index - 1) if index else (cycle - 1, last)
        while True:
            after = (cycle, index + 1) if index < last else (cycle + 1, 0)
            if (after[1] == 0 and not self._repeat) or self._begin(*after) > time_s:
                return cycle, index
            cycle, index = after


class Gaps:
    """The times at which a rate is 0, as an availability.

    Args:
        rates: of which.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def up_at(self, time_s: float) -> bool:
        """Whether the rate is above 0."""
        return self._rates.at(time_s) > 0

    def next_change_s(self, time_s: float) -> float:
        """When it next becomes, or ceases to be, 0; infinity if never."""
        up, now = self.up_at(time_s), time_s
        while self._rates.has_gaps and now < math.inf:
            now = self._rates.next_change_s(now)
            if now < math.inf and self.up_at(now) != up:
                return now
        return math.inf


@dataclass(frozen=True, kw_only=True)
class RateTrace:
    """A link's bandwidth from a recorded trace.

    Where the trace says 0 nothing moves, as in an outage. The link's rate elsewhere (planners' estimates, energy) is the trace's mean.

    Args:
        file: path, from the folder of the file that names it.
        format: columns: lines of "seconds rate", a rate holding until the next line; csv: the same with commas, and a header if there is one;
            mahimahi: each line the millisecond at which 1500 bytes can go, which move evenly since the line before.
        direction: which direction follows the trace.
        down_file: a second trace, for the downlink; `file` is then the uplink's.
        repeat: whether the trace begins anew at its end; the last rate holds if not.
        unit: what 1 is in the rates of columns and csv.
        time_column: name in the header of a csv; the first column without it.
        rate_column: name in the header of a csv; the second column without it.
        offset: seconds into the trace at which the run begins.
        average_over: means over windows of this length in place of the trace's own steps: fewer events.
    """

    file: str
    format: Literal["columns", "mahimahi", "csv"] = "columns"
    direction: Literal["up", "down", "both"] = "both"
    down_file: str | None = None
    repeat: bool = True
    unit: Bandwidth = 1e6
    time_column: str | None = None
    rate_column: str | None = None
    offset: Duration = 0.0
    average_over: Duration | None = None

    def __post_init__(self) -> None:
        if self.down_file is not None and self.direction != "both":
            raise ValueError(f"expected no direction beside down_file, got '{self.direction}'")
        if self.format != "csv" and (self.time_column is not None or self.rate_column is not None):
            raise ValueError(f"time_column and rate_column are for csv, the format is '{self.format}'")
        if self.average_over is not None and not self.average_over > 0:
            raise ValueError(f"expected average_over above 0 s, got {self.average_over!r}")
        # What is wrong with a file is to be said where the file is named.
        _ = self.rates

    @cached_property
    def rates(self) -> tuple[Rates | None, Rates | None]:
        """Uplink and downlink; None for a direction that follows no trace."""
        first = self._read(self.file)
        if self.down_file is not None:
            return first, self._read(self.down_file)
        return (first if self.direction != "down" else None, first if self.direction != "up" else None)

    def _read(self, file: str) -> Rates:
        path = Path(file)
        if self.format == "mahimahi":
            starts, values, length = read_mahimahi(path)
        elif self.format == "csv":
            starts, values, length = read_csv(path, self.unit, self.time_column, self.rate_column)
        else:
            starts, values, length = read_columns(path, self.unit)
        if not self.repeat and not values[-1]:
            raise ValueError(f"{path}: the last rate is 0, and would hold for ever: set `repeat`, or end the trace with a rate above 0")
        rates = Rates(starts, values, length, repeat=self.repeat, offset_s=self.offset)
        return rates if self.average_over is None else rates.averaged(self.average_over)


Steps = tuple[list[float], list[float], float]
"""Breakpoints (s), the rates (bit/s) that they begin, and the length of the trace (s)."""


def read_columns(path: Path, unit_bps: float = 1e6) -> Steps:
    """A trace of lines "seconds rate"; times count from the first line, and the last rate lasts as long as the one before it.

    Raises:
        ValueError: what is wrong, beginning with file:line.
    """
    rows = []
    for line, text in _lines(path):
        cells = text.split()
        if len(cells) != 2:
            raise ValueError(f"{path}:{line}: expected 'seconds rate', got '{text[:60]}'")
        rows.append((line, cells[0], cells[1]))
    return _steps(path, rows, unit_bps)


def read_csv(path: Path, unit_bps: float = 1e6, time_column: str | None = None, rate_column: str | None = None) -> Steps:
    """The same with commas, and a header if the first cell is no number.

    Raises:
        ValueError: what is wrong, beginning with file:line.
    """
    numbered = list(_lines(path))
    table: list[tuple[int, list[str]]] = []
    for line, text in numbered:
        try:
            table.append((line, [cell.strip() for cell in next(csv.reader([text]))]))
        except csv.Error as error:
            raise ValueError(f"{path}:{line}: is not CSV: {error}") from None
    header: list[str] = []
    if table and not _is_number(table[0][1][0]):
        header = table.pop(0)[1]
    places = []
    for column, default in ((time_column, 0), (rate_column, 1)):
        if column is not None and column not in header:
            hint = nearest(column, header)
            raise ValueError(f"{path}:{numbered[0][0] if numbered else 1}: no column '{column}' in the header. {hint}".rstrip())
        places.append(default if column is None else header.index(column))
    rows = []
    for line, cells in table:
        if len(cells) <= max(places):
            raise ValueError(f"{path}:{line}: expected at least {max(places) + 1} columns, got {len(cells)}")
        rows.append((line, cells[places[0]], cells[places[1]]))
    return _steps(path, rows, unit_bps)


def read_mahimahi(path: Path) -> Steps:
    """A trace of Mahimahi (mm-link): each line the millisecond at which 1500 bytes can go; its length is the last of them.

    The bytes of an instant move evenly since the instant before, so at every line as much has moved as Mahimahi would let go. A slot at 0 is
    the one at the end of the cycle before.

    Raises:
        ValueError: what is wrong, beginning with file:line.
    """
    slots: dict[int, int] = {}
    last = 0
    for line, text in _lines(path):
        if not (text.isascii() and text.isdigit() and len(text) <= 15):
            raise ValueError(f"{path}:{line}: expected a whole number of milliseconds, got '{text[:60]}'")
        time = int(text)
        if time < last:
            raise ValueError(f"{path}:{line}: expected a time of at least {last} ms, got {time}: time goes backward")
        slots[time] = slots.get(time, 0) + 1
        last = time
    if not slots:
        raise ValueError(f"{path}: holds no trace: it is empty")
    if not last:
        raise ValueError(f"{path}: expected a last time above 0 ms")
    slots[last] += slots.pop(0, 0)
    starts, values, before = [], [], 0
    for time, count in slots.items():
        starts.append(before / 1000)
        values.append(count * _SLOT_BITS / ((time - before) / 1000))
        before = time
    return starts, values, last / 1000


def _steps(path: Path, rows: list[tuple[int, str, str]], unit_bps: float) -> Steps:
    if not rows:
        raise ValueError(f"{path}: holds no trace: it is empty")
    times: list[float] = []
    values: list[float] = []
    for line, time_text, rate_text in rows:
        for what, text in (("a time", time_text), ("a rate", rate_text)):
            if not _is_number(text):
                raise ValueError(f"{path}:{line}: expected {what} that is a finite number, got '{text[:60]}'")
        time, rate = float(time_text), float(rate_text) * unit_bps
        if times and not time > times[-1]:
            raise ValueError(f"{path}:{line}: expected a time after {times[-1]!r} s, got {time!r}: time goes backward or stands still")
        if not (0 <= rate < math.inf):
            raise ValueError(f"{path}:{line}: expected a rate of at least 0, got '{rate_text[:60]}'")
        times.append(time)
        values.append(rate)
    if not any(values):
        raise ValueError(f"{path}: every rate is 0: nothing would ever move")
    starts = [time - times[0] for time in times]
    last_s = times[-1] - times[-2] if len(times) > 1 else 1.0
    return starts, values, starts[-1] + last_s


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that say something, numbered from 1; `#` begins a comment."""
    for line, each in enumerate(text_of(path).split("\n"), 1):
        said = each.strip()
        if said and not said.startswith("#"):
            yield line, said
