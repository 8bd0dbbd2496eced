"""What routes carried: of those of late as numbers to add to, of all others in arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from netfl.network.routes import Route
from netfl.network.topology import Topology

__all__ = ["Carried"]

_MOST_ROUTES = 20_000
"""So many are at hand before they are put away: of a hundred thousand devices, few are at work at a time."""


class Carried(dict[Route, list[int]]):
    """Bytes delivered, wasted and in flight, of the routes of late; one that is not at hand begins at 0.

    A route counts as others with the same ends do: no detours, of which two ends may have several.

    Args:
        topology: whose routes.
    """

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        self._topology = topology
        # Of what was put away, in the order of the ends: both ends in one number, how many were there before, and the bytes.
        self._ends: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._places: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._bytes: npt.NDArray[np.int64] = np.empty((0, 3), np.int64)
        self._next = 0

    def __missing__(self, route: Route) -> list[int]:
        if len(self) >= _MOST_ROUTES:
            self._put_away()
        found = self[route] = [0, 0, 0]
        return found

    def totals(self) -> Iterator[tuple[Route, list[int]]]:
        """Every route with its bytes, in the order in which they were first asked for; once, at the end."""
        if not len(self._ends) and len({route.hops for route in self}) == len(self):
            # All are at hand, none of them twice.
            yield from self.items()
            return
        self._put_away()
        names = list(self._topology.sites)
        order = np.argsort(self._places)
        for ends, counts in zip(self._ends[order].tolist(), self._bytes[order].tolist(), strict=True):
            first, last = divmod(ends, len(names))
            yield self._topology.route(names[first], names[last]), counts

    def _put_away(self) -> None:
        number = self._topology.numbers
        ends = np.fromiter((number[route.source] * len(number) + number[route.destination] for route in self), np.int64, len(self))
        places = np.arange(self._next, self._next + len(self))
        counts = np.array(list(self.values()), np.int64).reshape(-1, 3)
        self._next += len(self)
        self.clear()
        self._ends, first, groups = np.unique(np.concatenate([self._ends, ends]), return_index=True, return_inverse=True)
        self._places = np.concatenate([self._places, places])[first]
        counts = np.concatenate([self._bytes, counts])
        self._bytes = np.zeros((len(first), 3), np.int64)
        np.add.at(self._bytes, groups, counts)
