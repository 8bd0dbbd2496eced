"""An exact maximum flow in 64-bit whole numbers from a fast solver in 32-bit ones.

scipy's solver is compiled and takes capacities below 2 ** 31. Capacities are first counted in a coarse unit, rounded down: a flow
found there is a flow of the exact network too. What remains of each capacity after it is a smaller network of the same kind: its
maximum flow is at most what the coarse cut has left, and is solved in a finer unit, until the unit is 1. Two or three rounds reach 52
bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

__all__ = ["Cut", "Network", "minimum_cut"]

_MOST = 2**30 - 1
"""Largest coarse capacity: the solver adds two of them in 32 bits where arcs run both ways."""


class Network:
    """Arcs between numbered vertices, collected one by one; several between the same two add up."""

    def __init__(self) -> None:
        self._tails: list[int] = []
        self._heads: list[int] = []
        self._capacities: list[int] = []

    def arc(self, tail: int, head: int, capacity: int | None) -> None:
        """Add one; no capacity is more than any flow."""
        if capacity != 0:
            self._tails.append(tail)
            self._heads.append(head)
            self._capacities.append(-1 if capacity is None else capacity)

    def arrays(self, unbounded: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Tails, heads and capacities."""
        capacities = np.array(self._capacities, dtype=np.int64)
        capacities[capacities < 0] = unbounded
        return np.array(self._tails, dtype=np.int64), np.array(self._heads, dtype=np.int64), np.minimum(capacities, unbounded)


@dataclass(frozen=True)
class Cut:
    """A least cut.

    Args:
        value: the capacity of its arcs.
        on_source_side: of each vertex; of all least cuts the one with the most vertices there.
    """

    value: int
    on_source_side: NDArray[np.bool_]


def minimum_cut(network: Network, vertices: int, source: int, sink: int, at_most: int) -> Cut:
    """The least cut between two vertices.

    Args:
        network: its arcs.
        vertices: how many there are.
        source: from where.
        sink: to where.
        at_most: a bound on the cut, such as the capacity of any cut.
    """
    tails, heads, capacities = network.arrays(at_most + 1)
    shape = (vertices, vertices)
    # One entry for each pair that an arc joins, in either direction, so that entry and reverse entry can be found by sorting.
    both = coo_matrix(
        (np.concatenate([capacities, np.zeros_like(capacities)]), (np.concatenate([tails, heads]), np.concatenate([heads, tails]))), shape
    ).tocsr()
    both.sum_duplicates()
    both.sort_indices()
    rows = np.repeat(np.arange(vertices), np.diff(both.indptr))
    left = np.minimum(both.data, at_most + 1)
    flowed, bound = 0, at_most
    while True:
        unit = (bound + 1 + _MOST - 1) // _MOST
        coarse = csr_matrix((np.minimum(left // unit, _MOST).astype(np.int32), both.indices, both.indptr), shape)
        found = maximum_flow(coarse, source, sink)
        flow = found.flow.tocsr()
        flow.sort_indices()
        moved = _values_at(flow, rows, both.indices, both)
        left = left - unit * moved
        flowed += unit * int(found.flow_value)
        side = _source_side(left if unit == 1 else np.where(left >= unit, left, 0), both, sink)
        if unit == 1:
            return Cut(flowed, side)
        crossing = side[rows] & ~side[both.indices]
        bound = int(left[crossing].sum())
        if not bound:
            return Cut(flowed, _source_side(left, both, sink))
        left = np.minimum(left, bound + 1)


def _values_at(flow: csr_matrix, rows: NDArray[np.int64], columns: NDArray[np.int64], both: csr_matrix) -> NDArray[np.int64]:
    """The flow on each entry of `both`, whose entries hold all of the flow's."""
    vertices = both.shape[0]
    keys = rows * vertices + columns
    flow_rows = np.repeat(np.arange(vertices), np.diff(flow.indptr))
    values = np.zeros(len(keys), dtype=np.int64)
    values[np.searchsorted(keys, flow_rows * vertices + flow.indices)] = flow.data
    return values


def _source_side(left: NDArray[np.int64], both: csr_matrix, sink: int) -> NDArray[np.bool_]:
    """All vertices but those from which something can still flow to the sink."""
    residual = csr_matrix(((left > 0).astype(np.int8), both.indices, both.indptr), both.shape, copy=True)
    residual.eliminate_zeros()
    side = np.ones(both.shape[0], dtype=np.bool_)
    side[breadth_first_order(residual.T.tocsr(), sink, return_predecessors=False)] = False
    return side
