"""The rule of thumb of tools that pool devices to hold a model: as many nodes as memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from netfl.placement.plan import Path, Placement, place
from netfl.placement.profile import Profile

__all__ = ["MemoryProportional", "shares"]


@dataclass(frozen=True, kw_only=True)
class MemoryProportional:
    """Every device of the path runs a number of nodes in proportion to its memory, at least one each while there are enough.

    Neither speed nor bandwidth nor latency enters. A baseline: exo and llama.cpp's remote backend split layers so, the largest remainders
    being rounded up.
    """

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """See `Planner.plan`.

        Raises:
            NetflError: the nodes of some device need more memory than it has.
        """
        counts = shares([tier.memory_bytes for tier in path.tiers], len(profile.nodes) - 1)
        cuts = tuple(1 + until for until in accumulate(counts))[:-1]
        return place(profile, path, cuts, encoded_bytes, result_bytes, "memory_proportional")


def shares(weights: Sequence[int], count: int) -> list[int]:
    """So many things in proportion to weights, by largest remainder; at least one each if there are enough. Ties: the earlier.

    >>> shares([1, 1, 2], 8), shares([1, 1000], 5), shares([5, 5, 5], 2)
    ([2, 2, 4], [1, 4], [1, 1, 0])
    """
    total = sum(weights)
    found = [count * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: (-(count * weights[place] % total), place))
    for place_ in by_remainder[: count - sum(found)]:
        found[place_] += 1
    while count >= len(weights) and 0 in found:
        found[found.index(max(found))] -= 1
        found[found.index(0)] += 1
    return found
