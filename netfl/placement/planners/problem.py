"""A placement as a problem in whole numbers: what the exact planners solve, and what checks them.

Every time is a whole number of one unit, so that sums are exact, equal costs are equal, and a solver's answer can be compared with
another's to the last digit. A placement gives each node a label, its tier; data never flows back, so no node's label is below that of
a node that it reads. The last node makes the result and has the highest label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from netfl.placement.plan import Path, decode_s, node_s, wire_bytes
from netfl.placement.profile import Node, Profile

__all__ = ["Objective", "Problem", "problem_of"]

Objective = Literal["latency", "throughput", "energy"]

_LARGEST = 2**52
"""No sum of costs is larger: below it every whole number is a float too."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The sum that latency and energy have in common: nodes, tensors, hops in use, tiers in use.

    Args:
        node: node[v][k] is the cost of node v on tier k.
        send: send[u][l] is the cost of sending the output of u over hop l; paid once however many nodes read it.
        hop: hop[l] is paid once if hop l is used: latency there, and the result's way back. A hop is used if the last node is behind it.
        tier: tier[k] is paid once if tier k runs any node but the input.
        reads: (u, v) for each v that reads u, by place; the order of nodes is topological.
        needs: (u, v) for each v that needs the values of u's output.
        unit: what 1 stands for, in seconds or joules.
    """

    node: tuple[tuple[int, ...], ...]
    send: tuple[tuple[int, ...], ...]
    hop: tuple[int, ...]
    tier: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    needs: tuple[tuple[int, int], ...]
    unit: float = 1.0

    @property
    def tiers(self) -> int:
        """How many tiers there are."""
        return len(self.tier)

    def readers(self) -> list[list[int]]:
        """For each node those that need its values."""
        found: list[list[int]] = [[] for _ in self.node]
        for source, reader in self.needs:
            found[source].append(reader)
        return found

    def cost(self, labels: Sequence[int]) -> int:
        """What a placement costs.

        Raises:
            ValueError: the labels are none: data would flow back, or the input not stay where it is.
        """
        self.check(labels)
        total = sum(costs[label] for costs, label in zip(self.node, labels, strict=True))
        for source, readers in enumerate(self.readers()):
            furthest = max((labels[reader] for reader in readers), default=0)
            total += sum(self.send[source][labels[source] : furthest])
        total += sum(self.hop[: labels[-1]])
        return total + sum(self.tier[k] for k in set(labels[1:]))

    def check(self, labels: Sequence[int]) -> None:
        """Hold labels to their form.

        Raises:
            ValueError: as for `cost`.
        """
        if len(labels) != len(self.node) or labels[0] != 0 or max(labels) >= self.tiers:
            raise ValueError(f"expected {len(self.node)} labels below {self.tiers}, the first 0, got {list(labels)}")
        for source, reader in self.reads:
            if labels[reader] < labels[source]:
                raise ValueError(
                    f"node {reader} on tier {labels[reader]} reads node {source} on tier {labels[source]}: data would flow back"
                )
        if max(labels) > labels[-1]:
            raise ValueError(f"expected the last node on the highest tier in use, got {list(labels)}")


def problem_of(
    profile: Profile,
    path: Path,
    encoded_bytes: Callable[[int], int],
    result_bytes: int,
    objective: Literal["latency", "energy"] = "latency",
) -> Problem:
    """The problem of placing a profile on a path.

    Latency is in seconds, energy in joules above idle: of processors while they compute, of radios while bits move.

    Args:
        profile: what is placed.
        path: where.
        encoded_bytes: wire bytes of one tensor of so many values.
        result_bytes: wire bytes of the result.
        objective: what is added up.
    """
    energy = objective == "energy"
    factors = [tier.busy_w if energy else 1.0 for tier in path.tiers]
    up = [(hop.up_w if energy else 1.0) * 8 / hop.up_bps for hop in path.hops]
    node = [[0.0] * len(path.tiers) if each.op == "input" else _node_costs(each, path, factors) for each in profile.nodes]
    sizes = [wire_bytes(each, encoded_bytes) if each.output_values else 0 for each in profile.nodes]
    send = [[size * each for each in up] for size in sizes]
    hop = [
        result_bytes * 8 / each.down_bps * (each.down_w if energy else 1.0) + (0.0 if energy else 2 * each.latency_s) for each in path.hops
    ]
    tier = [each.overhead_s * factor for each, factor in zip(path.tiers, factors, strict=True)]
    # Every placement costs less than all of this together.
    most = sum(map(max, node)) + sum(map(sum, send)) + sum(hop) + sum(tier)
    unit = 10.0 ** math.ceil(math.log10(max(most, 1e-300) / _LARGEST))

    def whole(values: Sequence[float]) -> tuple[int, ...]:
        return tuple(round(value / unit) for value in values)

    last = len(profile.nodes) - 1
    index = profile.index
    reads = [(index[name], place) for place, each in enumerate(profile.nodes) for name in each.predecessors]
    read = {source for source, _ in reads}
    # What nothing reads is computed before the result is sent back.
    reads += [(place, last) for place in range(last) if place not in read]
    needs = [(index[name], place) for place, each in enumerate(profile.nodes) if each.output_values for name in each.predecessors]
    return Problem(
        node=tuple(map(whole, node)),
        send=tuple(map(whole, send)),
        hop=whole(hop),
        tier=whole(tier),
        reads=tuple(reads),
        needs=tuple((source, reader) for source, reader in needs if profile.nodes[source].output_values),
        unit=unit,
    )


def _node_costs(node: Node, path: Path, factors: Sequence[float]) -> list[float]:
    seconds = [node_s(node, tier) + (decode_s(node, tier) if k else 0.0) for k, tier in enumerate(path.tiers)]
    return [each * factor for each, factor in zip(seconds, factors, strict=True)]
