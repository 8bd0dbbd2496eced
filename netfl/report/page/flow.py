"""What moved on every link, and how busy every processor was, in equal slices of simulated time."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Slices", "busy_shares", "moved_bytes", "slices_for", "sparse", "spread"]

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

_MOST_SLICES, _LEAST_SLICES = 600, 60
_MOST_CELLS = 240_000
_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Simulated time cut into equal slices.

    Args:
        width_s: length of one.
        count: how many; together they reach the run's end.
    """

    width_s: float
    count: int


def slices_for(end_s: float, num_rows: int) -> Slices:
    """Slices for so many rows of a picture: fewer the more rows there are, so that the page stays small."""
    count = int(np.clip(_MOST_CELLS // max(1, num_rows), _LEAST_SLICES, _MOST_SLICES))
    return Slices(width_s=end_s / count if end_s > 0 else 1.0, count=count)


def spread(start_s: Floats, end_s: Floats, amount: Floats, row: Whole, num_rows: int, slices: Slices) -> Floats:
    """Amounts laid evenly over the time from their start to their end, added up by row and slice.

    Args:
        start_s: (N,) when each began.
        end_s: (N,) when it ended, not before it began.
        amount: (N,) what is laid out.
        row: (N,) where it belongs.
        num_rows: how many rows there are.
        slices: of time.

    Returns:
        (num_rows, slices.count); its sum is that of the amounts, up to rounding.
    """
    first = np.clip((start_s / slices.width_s).astype(np.int64), 0, slices.count - 1)
    last = np.clip(np.ceil(end_s / slices.width_s).astype(np.int64) - 1, first, slices.count - 1)
    total = np.zeros(num_rows * slices.count)
    within = first == last
    total += np.bincount(row[within] * slices.count + first[within], weights=amount[within], minlength=len(total))
    across = np.flatnonzero(~within)
    spans = last[across] - first[across] + 1
    # In portions, so that long transfers over many slices take little memory.
    portions = np.split(across, np.flatnonzero(np.diff(np.cumsum(spans) // _AT_ONCE)) + 1) if len(across) else []
    for portion in portions:
        span = last[portion] - first[portion] + 1
        which = np.repeat(portion, span)
        place = np.arange(len(which)) - np.repeat(np.cumsum(span) - span, span) + first[which]
        begins = np.maximum(start_s[which], place * slices.width_s)
        ends = np.minimum(end_s[which], (place + 1) * slices.width_s)
        share = np.maximum(ends - begins, 0.0) / (end_s[which] - start_s[which])
        total += np.bincount(row[which] * slices.count + place, weights=amount[which] * share, minlength=len(total))
    return total.reshape(num_rows, slices.count)


def moved_bytes(trace: sqlite3.Connection, hops: Mapping[tuple[str, str], int], kinds: list[str], num_hops: int, slices: Slices) -> Floats:
    """Bytes of each kind over each direction of a link, by slice.

    A transfer's bytes are laid evenly over the time between its silence at the start and its end, on all links of its last route at
    once: a choice for the picture, while the tables have what the links really carried.

    Args:
        trace: of the run.
        hops: (sending device, receiving device) to the number of that direction of a link.
        kinds: of messages, in the order wanted.
        num_hops: how many directions there are.
        slices: of time.

    Returns:
        (num_hops x kinds, slices): the row of a hop and a kind is `hop * len(kinds) + kind`.
    """
    rows = trace.execute(
        "SELECT route, kind, start_s + min(latency_s, end_s - start_s), end_s, sent_bytes FROM transfers WHERE sent_bytes > 0"
    ).fetchall()
    if not rows:
        return np.zeros((num_hops * len(kinds), slices.count))
    number_of: dict[str, int] = {}
    kind_of = {kind: number for number, kind in enumerate(kinds)}
    route = np.array([number_of.setdefault(each[0], len(number_of)) for each in rows])
    kind = np.array([kind_of[each[1]] for each in rows])
    start_s, end_s, sent = np.array([each[2:] for each in rows], dtype=np.float64).T
    on_route = []
    for text in number_of:
        devices = text.split(">")
        on_route.append([hops[pair] for pair in zip(devices, devices[1:], strict=False) if pair in hops])
    lengths = np.array([len(each) for each in on_route])
    flat = np.array([hop for each in on_route for hop in each], dtype=np.int64)
    begins = np.cumsum(lengths) - lengths
    count = lengths[route]
    which = np.repeat(np.arange(len(route)), count)
    place = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    hop = flat[begins[route[which]] + place]
    return spread(
        start_s[which], np.maximum(end_s, start_s)[which], sent[which], hop * len(kinds) + kind[which], num_hops * len(kinds), slices
    )


def busy_shares(trace: sqlite3.Connection, sites: Mapping[str, int], slices: Slices) -> Floats:
    """The share of each slice for which each processor worked: (sites, slices)."""
    rows = trace.execute("SELECT device, start_s, end_s, busy_s FROM computations WHERE busy_s > 0").fetchall()
    rows = [each for each in rows if each[0] in sites]
    if not rows:
        return np.zeros((len(sites), slices.count))
    row = np.array([sites[each[0]] for each in rows])
    start_s, end_s, busy_s = np.array([each[1:] for each in rows], dtype=np.float64).T
    return spread(start_s, np.maximum(end_s, start_s), busy_s, row, len(sites), slices) / slices.width_s


def sparse(values: Floats) -> dict[str, list[Any]]:
    """A row as the places that are not zero, each counted from the one before, and their values to three digits."""
    places = np.flatnonzero(values > 0)
    return {"i": np.diff(places, prepend=0).tolist(), "v": [_three_digits(value) for value in values[places].tolist()]}


def _three_digits(value: float) -> float | int:
    rounded = float(f"{value:.3g}")
    return int(rounded) if rounded.is_integer() else rounded
