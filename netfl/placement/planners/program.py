"""A placement as a mixed-integer linear program.

x[v, l] is 1 if node v runs behind hop l; y[u, l] if the output of u crosses hop l; m[k] if tier k runs anything but the input;
p[s, k] if tier k holds the parameters of slice s. All but x are whole by themselves where x is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from netfl.placement.plan import Path
from netfl.placement.planners.problem import Problem, problem_of
from netfl.placement.profile import VALUE_BYTES, Profile

__all__ = ["Program"]

_MOST_ROUNDS = 200
_LARGEST = 1e6
"""Objectives are scaled so that no placement costs more: HiGHS works with absolute tolerances of about 1e-6."""


class Program:
    """The program of placing a profile on a path; keeps what it has learnt of memory from one `solve` to the next.

    Args:
        profile: what is placed.
        path: where.
        encoded_bytes: wire bytes of one tensor of so many values.
        result_bytes: wire bytes of the result.
        latency: in place of the problem that these make.
        energy: in place of the problem that these make.
    """

    def __init__(
        self,
        profile: Profile,
        path: Path,
        encoded_bytes: Callable[[int], int],
        result_bytes: int,
        *,
        latency: Problem | None = None,
        energy: Problem | None = None,
    ) -> None:
        self.profile = profile
        self.path = path
        self.latency = latency or problem_of(profile, path, encoded_bytes, result_bytes)
        self.energy = energy or problem_of(profile, path, encoded_bytes, result_bytes, "energy")
        self._down = [8 * result_bytes / hop.down_bps / self.latency.unit for hop in path.hops]
        self._columns: dict[tuple[object, ...], int] = {}
        self._whole: list[int] = []
        self._rows: list[dict[int, float]] = []
        self._least: list[float] = []
        self._count = len(profile.nodes)
        self._tiers = len(path.tiers)
        self._place_nodes()
        self._bound_memory()

    # --- columns and rows ---------------------------------------------------------------------------------------------------

    def _column(self, *name: object, whole: bool = False) -> int:
        if name not in self._columns:
            self._columns[name] = len(self._columns)
            self._whole.append(int(whole))
        return self._columns[name]

    def _at_least(self, row: Mapping[int, float], least: float) -> None:
        self._rows.append(dict(row))
        self._least.append(least)

    def _behind(self, v: int, hop: int) -> tuple[dict[int, float], float]:
        """Whether node v runs behind a hop, as columns and a constant; hop -1 is behind of which everything is, the last of which nothing."""
        if hop < 0:
            return {}, 1.0
        if v == 0 or hop >= self._tiers - 1:
            return {}, 0.0
        return {self._column("x", v, hop, whole=True): 1.0}, 0.0

    def _sum(self, *parts: tuple[float, tuple[dict[int, float], float]]) -> tuple[dict[int, float], float]:
        total: defaultdict[int, float] = defaultdict(float)
        constant = 0.0
        for factor, (columns, value) in parts:
            for column, each in columns.items():
                total[column] += factor * each
            constant += factor * value
        return dict(total), constant

    def _on(self, v: int, k: int) -> tuple[dict[int, float], float]:
        """Whether node v runs on tier k."""
        return self._sum((1.0, self._behind(v, k - 1)), (-1.0, self._behind(v, k)))

    def _force(self, column: int, *parts: tuple[float, tuple[dict[int, float], float]], less: float = 0.0) -> None:
        """The column is at least the sum of the parts less a number."""
        columns, constant = self._sum(*parts)
        row = {each: -factor for each, factor in columns.items()}
        row[column] = row.get(column, 0.0) + 1.0
        self._at_least(row, constant - less)

    def _place_nodes(self) -> None:
        problem = self.latency
        for v in range(1, self._count):
            for hop in range(1, self._tiers - 1):
                columns, constant = self._sum((1.0, self._behind(v, hop - 1)), (-1.0, self._behind(v, hop)))
                self._at_least(columns, -constant)
        for u, v in dict.fromkeys(problem.reads):
            for hop in range(self._tiers - 1):
                columns, constant = self._sum((1.0, self._behind(v, hop)), (-1.0, self._behind(u, hop)))
                if columns:
                    self._at_least(columns, -constant)
        for u, v in dict.fromkeys(problem.needs):
            for hop in range(self._tiers - 1):
                self._force(self._column("y", u, hop), (1.0, self._behind(v, hop)), (-1.0, self._behind(u, hop)))
        for k in range(self._tiers):
            for v in range(1, self._count):
                self._force(self._column("m", k), (1.0, self._on(v, k)))

    # --- what is minimised --------------------------------------------------------------------------------------------------

    def _total(self, problem: Problem) -> tuple[dict[int, float], float]:
        """`Problem.cost` as columns and a constant."""
        parts = [(float(problem.node[v][k]), self._on(v, k)) for v in range(self._count) for k in range(self._tiers)]
        parts += [(float(problem.tier[k]), ({self._column("m", k): 1.0}, 0.0)) for k in range(self._tiers)]
        for hop in range(self._tiers - 1):
            parts.append((float(problem.hop[hop]), self._behind(self._count - 1, hop)))
            for u in sorted({source for source, _ in problem.needs}):
                parts.append((float(problem.send[u][hop]), ({self._column("y", u, hop): 1.0}, 0.0)))
        return self._sum(*parts)

    def _busiest(self) -> tuple[dict[int, float], float]:
        """A column that is at least what every processor and direction of a link takes for a request."""
        problem = self.latency
        known = ("busiest",) in self._columns
        column = self._column("busiest")
        # In a unit of about what it can be, as HiGHS works with absolute tolerances.
        unit = max(1.0, float(sum(map(max, problem.node)) + sum(problem.tier)))
        if not known:
            sources = sorted({source for source, _ in problem.needs})
            for k in range(self._tiers):
                parts = [(problem.node[v][k] / unit, self._on(v, k)) for v in range(self._count)]
                self._force(column, *parts, (problem.tier[k] / unit, ({self._column("m", k): 1.0}, 0.0)))
            for hop in range(self._tiers - 1):
                self._force(column, *((problem.send[u][hop] / unit, ({self._column("y", u, hop): 1.0}, 0.0)) for u in sources))
                self._force(column, (self._down[hop] / unit, self._behind(self._count - 1, hop)))
        return {column: unit}, 0.0

    def solve(self, weights: tuple[float, float, float], deadline_s: float | None, node_limit: int) -> tuple[tuple[int, ...], float] | None:
        """The best labels that fit, and by what fraction they may miss the best; None where there are none.

        Args:
            weights: of a second of latency, a second of the busiest part, a joule.
            deadline_s: latency must not be above it.
            node_limit: branches that the solver may look at.
        """
        latency, busiest, energy = weights
        parts = [(latency * self.latency.unit, self._total(self.latency)), (energy * self.energy.unit, self._total(self.energy))]
        if busiest:
            parts.append((busiest * self.latency.unit, self._busiest()))
        columns, constant = self._sum(*parts)
        most = sum(abs(factor) for factor in columns.values())
        scale = _LARGEST / most if most > 0 else 1.0
        kept = len(self._rows)
        if deadline_s is not None:
            total, start = self._total(self.latency)
            room = deadline_s / self.latency.unit - start
            # A rounding of each cost to whole units is no reason to miss a deadline by a hair.
            room += self._count * self._tiers
            size = max(map(abs, total.values()), default=1.0) or 1.0
            self._at_least({each: -factor / size for each, factor in total.items()}, -room / size)
        try:
            return self._rounds(columns, constant, scale, node_limit)
        finally:
            if deadline_s is not None:
                # Rows on memory that were learnt meanwhile stay; the deadline's goes.
                del self._rows[kept], self._least[kept]

    def _rounds(self, columns: Mapping[int, float], constant: float, scale: float, node_limit: int) -> tuple[tuple[int, ...], float] | None:
        for _ in range(_MOST_ROUNDS):
            width = len(self._columns)
            objective = np.zeros(width)
            for column, factor in columns.items():
                objective[column] = factor * scale
            if not width:
                labels: tuple[int, ...] | None = (0,) * self._count
                gap = 0.0
            else:
                labels, gap = self._solved(objective, constant * scale, node_limit)
            if labels is None:
                return None
            if not self._learn(labels):
                return labels, gap
            if not width:
                return None
        return None

    def _solved(self, objective: np.ndarray, constant: float, node_limit: int) -> tuple[tuple[int, ...] | None, float]:
        width = len(self._columns)
        at: list[int] = []
        factors: list[float] = []
        starts = [0]
        for row in self._rows:
            at += row.keys()
            factors += row.values()
            starts.append(len(at))
        matrix = csr_matrix((factors, at, starts), (len(self._rows), width))
        upper = np.ones(width)
        for name, column in self._columns.items():
            if name == ("busiest",):
                upper[column] = np.inf
        found = milp(
            objective,
            integrality=np.array(self._whole),
            bounds=Bounds(np.zeros(width), upper),
            constraints=LinearConstraint(matrix, lb=np.array(self._least)),
            options={"mip_rel_gap": 0.0, "node_limit": node_limit},
        )
        if found.x is None:
            return None, 0.0
        labels = []
        for v in range(self._count):
            behind = (self._columns.get(("x", v, hop)) for hop in range(self._tiers - 1))
            labels.append(sum(column is not None and found.x[column] > 0.5 for column in behind))
        gap = 0.0
        if found.status != 0 and found.mip_dual_bound is not None:
            value = found.fun + constant
            gap = max(0.0, (found.fun - found.mip_dual_bound) / value) if value > 0 else 0.0
        return tuple(labels), gap

    # --- memory -------------------------------------------------------------------------------------------------------------

    def _bound_memory(self) -> None:
        """What the parameters of each tier take must fit; activations come as they are found to matter."""
        for k in range(self._tiers):
            spans: dict[tuple[int, int], None] = {}
            for v, node in enumerate(self.profile.nodes):
                for span in node.parameters:
                    spans[span] = None
                    self._force(self._column("p", span, k), (1.0, self._on(v, k)))
            self._parameter_bytes = {span: VALUE_BYTES * (span[1] - span[0]) for span in spans}
            self._fits(k, {})

    def _fits(self, k: int, activations: Mapping[int, float]) -> None:
        """Tier k has room for its parameters and some activations: columns and bytes."""
        row = {self._column("p", span, k): -float(count) for span, count in self._parameter_bytes.items()}
        for column, count in activations.items():
            row[column] = row.get(column, 0.0) - count
        room = float(self.path.tiers[k].memory_bytes)
        size = max(room, 1.0)
        if row:
            self._at_least({column: factor / size for column, factor in row.items()}, -room / size)

    def _learn(self, labels: tuple[int, ...]) -> bool:
        """Add what forbids a placement that does not fit, and whatever is too large for the same reason; whether anything was added."""
        order = tuple(sorted(range(self._count), key=lambda place: (labels[place], place)))
        placed = self.profile.in_order(order)
        learnt = False
        for k, tier in enumerate(self.path.tiers):
            start, stop = sum(label < k for label in labels), sum(label <= k for label in labels)
            if placed.memory_bytes(start, stop) <= tier.memory_bytes:
                continue
            learnt = True
            peak = max(range(start, stop), key=lambda place: placed.live_bytes[place])
            self._forbid(k, order[peak], [order[place] for place in _live(placed, peak)], labels)
        return learnt

    def _forbid(self, k: int, v: int, live: list[int], labels: tuple[int, ...]) -> None:
        """While v runs on tier k, the outputs of `live` are there if they have come, and are needed then or later, here or beyond."""
        owners = self.profile.owners
        readers: defaultdict[int, list[int]] = defaultdict(list)
        for w, node in enumerate(self.profile.nodes):
            if node.output_values:
                for name in node.predecessors:
                    readers[owners[self.profile.index[name]]].append(w)
        key = ("round", len(self._rows))
        activations = {}
        for u in live:
            column = self._column("h", key, u)
            activations[column] = float(VALUE_BYTES * self.profile.nodes[u].output_values)
            if u == v:
                self._force(column, (1.0, self._on(v, k)))
                continue
            come = self._sum((-1.0, self._behind(u, k if u < v else k - 1)), (1.0, ({}, 1.0)))
            for w in readers[u]:
                later = self._behind(w, k - 1 if w >= v else k)
                self._force(column, (1.0, come), (1.0, later), (1.0, self._on(v, k)), less=2.0)
        self._fits(k, activations)
        # Should the solver's tolerance let the same placement pass again, this does not.
        chosen = [self._columns[("x", node, hop)] for node in range(1, self._count) for hop in range(self._tiers - 1)]
        here = [float(labels[node] > hop) for node in range(1, self._count) for hop in range(self._tiers - 1)]
        self._at_least({column: 1.0 - 2.0 * value for column, value in zip(chosen, here, strict=True)}, 1.0 - sum(here))


def _live(placed: Profile, place: int) -> list[int]:
    """The places of the outputs that exist while the node at a place runs, as `Profile.live_bytes` counts them."""
    last = list(placed.last_use)
    for view, owner in enumerate(placed.owners):
        last[owner] = max(last[owner], last[view])
    return [
        each
        for each, owner in enumerate(placed.owners)
        if owner == each and each <= place <= last[each] and placed.nodes[each].output_values
    ]
