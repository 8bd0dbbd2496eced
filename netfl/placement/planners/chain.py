"""The best prefix cuts of a model on a row of devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netfl.placement.plan import Hop, Path, Placement, Tier, crossing_bytes, decode_s, node_s, place
from netfl.placement.planners.problem import Objective
from netfl.placement.profile import VALUE_BYTES, Profile

__all__ = ["Chain"]

_TIE = 1e-12
"""Two totals that differ by less than this fraction differ by rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The best placement among all prefix cuts that fit, for any number of tiers: by default the one with the least estimate.

    Exact for prefix cuts. A model whose branches would best run on different tiers at once has better placements than any
    prefix cut. Equally good: most nodes on the earliest device.

    Source: the segment form of Neurosurgeon's scan (Kang et al., ASPLOS 2017) over K tiers, O(K n^2); segments, because memory
    limits the piece. With throughput the largest part counts in place of the sum, as in the partitions of pipelines.

    Args:
        objective: latency of one request; throughput: the least time of the busiest processor or link direction; energy above idle.
    """

    objective: Objective = "latency"

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """See `Planner.plan`.

        Raises:
            NetflError: no prefix cuts fit; the message tells what the cuts with the least total shortage lack.
        """
        last = len(profile.nodes)
        need = _memory_matrix(profile)
        costs = [_time_matrix(profile, tier) for tier in path.tiers]
        if self.objective == "energy":
            costs = [
                tier.busy_w * seconds if tier.busy_w else np.where(np.isfinite(seconds), 0.0, np.inf)
                for tier, seconds in zip(path.tiers, costs, strict=True)
            ]
        fits = [np.where(need <= tier.memory_bytes, cost, np.inf) for tier, cost in zip(path.tiers, costs, strict=True)]
        crossing = np.array([crossing_bytes(profile, cut, encoded_bytes) for cut in range(last + 1)], dtype=np.float64)
        hops = [_hop_costs(crossing, hop, result_bytes, self.objective) for hop in path.hops]
        total, cuts = _best_segments(fits, hops, np.maximum if self.objective == "throughput" else np.add)
        if not np.isfinite(total):
            short = [
                np.where(np.isfinite(cost), np.maximum(0, need - tier.memory_bytes), np.inf)
                for tier, cost in zip(path.tiers, costs, strict=True)
            ]
            _, cuts = _best_segments(short, [np.zeros(last + 1)] * len(path.hops), np.add)
        return place(profile, path, cuts, encoded_bytes, result_bytes, "chain")


def _hop_costs(crossing: NDArray[np.float64], hop: Hop, result_bytes: int, objective: Objective) -> NDArray[np.float64]:
    """What a cut at each place costs on a hop: (n + 1,); the last, behind which nothing lies, costs nothing."""
    used = np.arange(len(crossing)) < len(crossing) - 1
    up_s, down_s = 8 * crossing / hop.up_bps, used * (8 * result_bytes / hop.down_bps)
    costs: NDArray[np.float64] = up_s + used * 2 * hop.latency_s + down_s
    if objective == "throughput":
        costs = np.maximum(up_s, down_s)
    elif objective == "energy":
        costs = hop.up_w * up_s + hop.down_w * down_s
    return costs


def _best_segments(
    pieces: Sequence[NDArray[np.float64]], hops: Sequence[NDArray[np.float64]], joined: np.ufunc
) -> tuple[float, tuple[int, ...]]:
    """The least cost of a split of nodes 0..n into one segment per tier.

    Args:
        pieces: per tier an (n + 1, n + 1) matrix: the cost of nodes[start:stop].
        hops: per hop (n + 1,): the cost of a cut there.
        joined: what the parts make together: their sum or their maximum.

    Returns:
        The cost and its cuts; of equal ones those with the most nodes on the earliest tier.
    """
    rest = pieces[-1][:, -1]
    choices: list[NDArray[np.intp]] = []
    for piece, hop in zip(reversed(pieces[:-1]), reversed(hops), strict=True):
        totals = joined(piece, joined(hop, rest)[None, :])
        rest = totals.min(axis=1)
        ties = totals <= (rest * (1 + _TIE))[:, None]
        choices.append(totals.shape[1] - 1 - ties[:, ::-1].argmax(axis=1))
    cuts: list[int] = []
    for choice in reversed(choices):
        cuts.append(int(choice[cuts[-1] if cuts else 0]))
    return float(rest[0]), tuple(cuts)


def _time_matrix(profile: Profile, tier: Tier) -> NDArray[np.float64]:
    """`plan.piece_s` of nodes[start:stop] at [start, stop]; infinite where that is no piece or would not hold the input at 0."""
    until = np.concatenate([[0.0], np.cumsum([node_s(node, tier) for node in profile.nodes])])
    decoded = np.concatenate([[0.0], np.cumsum([decode_s(node, tier) for node in profile.nodes])])
    start, stop = np.indices((len(until), len(until)))
    seconds: NDArray[np.float64] = tier.overhead_s + (until[None, :] - until[:, None])
    seconds[1:] += decoded[None, :] - decoded[1:, None]
    seconds[np.maximum(start, 1) >= stop] = 0.0
    seconds[start > stop] = np.inf
    seconds[0, 0] = np.inf
    return seconds


def _memory_matrix(profile: Profile) -> NDArray[np.float64]:
    """`Profile.memory_bytes(start, stop)` at [start, stop]."""
    last = len(profile.nodes)
    live = np.array(profile.live_bytes, dtype=np.float64)
    uses: list[tuple[int, int, int]] = []  # (node, the node before it that reads the same slice or -1, bytes)
    seen: dict[tuple[int, int], int] = {}
    for index, node in enumerate(profile.nodes):
        for span in node.parameters:
            uses.append((index, seen.get(span, -1), VALUE_BYTES * (span[1] - span[0])))
            seen[span] = index
    where, before, byte_counts = np.array(uses, dtype=np.int64).reshape(-1, 3).T
    need = np.zeros((last + 1, last + 1))
    for start in range(last):
        first_reads = (before < start) & (where >= start)
        per_node = np.bincount(where[first_reads] - start, weights=byte_counts[first_reads], minlength=last - start)
        need[start, start + 1 :] = np.cumsum(per_node) + np.maximum.accumulate(live[start:])
    return need
