"""A model with early exits, placed: which nodes a sample needs that leaves at an exit, and what that takes.

The profile is that of a module that returns all exits' logits joined by its last node, whose predecessors they are, in order. A
sample that leaves at exit s has run the exits before it that are in use, and nothing behind it. So what it takes is what an ordinary model
takes that consists of these nodes alone, and the expectation over samples is the sum of these weighted by the shares that leave.
Whether a sample leaves does not depend on where nodes run, so that this expectation is exact; percentiles do not follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from netfl.placement.plan import Path, Placement, estimate
from netfl.placement.profile import Profile

__all__ = ["ExitPlacement", "ExitProfile", "expected_s"]


@dataclass(frozen=True, kw_only=True)
class ExitPlacement(Placement):
    """Where the nodes of a model with exits run, and which exits are used.

    Args:
        used: the exits, counted from 0, rising; every sample leaves at one of them, at the last if at none before.
        threshold: a sample leaves at an exit where its entropy is below, in nats.
    """

    used: tuple[int, ...]
    threshold: float = 0.0


@dataclass(frozen=True)
class ExitProfile:
    """The profile of a model with exits.

    Args:
        whole: of the module that joins all exits' logits.
    """

    whole: Profile

    @cached_property
    def exits(self) -> tuple[int, ...]:
        """The place of each exit's logits."""
        return tuple(self.whole.index[name] for name in self.whole.nodes[-1].predecessors)

    @cached_property
    def _needs(self) -> tuple[frozenset[int], ...]:
        """For each exit the places of the nodes that it needs, itself included."""
        found = []
        for place in self.exits:
            needed, todo = {0}, [place]
            while todo:
                node = todo.pop()
                if node not in needed:
                    needed.add(node)
                    todo += [self.whole.index[name] for name in self.whole.nodes[node].predecessors]
            found.append(frozenset(needed))
        return tuple(found)

    def places(self, used: tuple[int, ...]) -> tuple[int, ...]:
        """The nodes, by place, that a sample runs that leaves at the last of these exits and passes the others."""
        return tuple(sorted(frozenset().union(*(self._needs[each] for each in used))))

    def until(self, used: tuple[int, ...]) -> Profile:
        """The profile of these nodes alone; its result is the last exit's logits."""
        return replace(self.whole, nodes=tuple(self.whole.nodes[place] for place in self.places(used)))

    def cuts_until(self, cuts: tuple[int, ...], used: tuple[int, ...]) -> tuple[int, ...]:
        """Cuts of the whole profile as cuts of `until`."""
        places = self.places(used)
        return tuple(max(1, sum(place < cut for place in places)) for cut in cuts)

    def cuts_of_whole(self, cuts: tuple[int, ...], used: tuple[int, ...]) -> tuple[int, ...]:
        """Cuts of `until` as cuts of the whole profile; what is behind all nodes stays behind them."""
        places = self.places(used)
        return tuple(places[cut] if cut < len(places) else len(self.whole.nodes) for cut in cuts)


def expected_s(
    profile: ExitProfile,
    path: Path,
    cuts: tuple[int, ...],
    used: tuple[int, ...],
    shares: tuple[float, ...],
    encoded_bytes: Callable[[int], int],
    result_bytes: int,
) -> float:
    """What one request takes on an idle path on average.

    Args:
        profile: of the model.
        path: where.
        cuts: of the whole profile.
        used: the exits in use.
        shares: of the samples that leave at each of these.
        encoded_bytes: wire bytes of one tensor of so many values.
        result_bytes: wire bytes of the result.
    """
    total = 0.0
    for count, share in enumerate(shares, start=1):
        if share:
            until = used[:count]
            taken = estimate(profile.until(until), path, profile.cuts_until(cuts, until), encoded_bytes, result_bytes)
            total += share * taken.total_s
    return total
