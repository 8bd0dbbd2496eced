"""Answers before the end of the model: at one exit for all, or where each sample is sure enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import annotated_types

from netfl.errors import NetflError
from netfl.placement.exits import ExitPlacement, ExitProfile, expected_s
from netfl.placement.plan import Path, Placement, Tier, crossing_bytes, memory_shortages, node_s
from netfl.placement.planners.chain import Chain
from netfl.placement.profile import Profile
from netfl.units import Duration, format_bytes, format_duration

__all__ = ["EarlyExit", "MeasuredExits"]


@dataclass(frozen=True, kw_only=True)
class MeasuredExits:
    """A model with exits, and what was measured of it on real samples.

    Args:
        profile: of the model.
        accuracies: of each exit, if all samples left there.
        shares: of the samples that leave at each exit at the planner's threshold.
    """

    profile: ExitProfile
    accuracies: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """Where a model with exits runs, and where its samples leave; for a model `pretrained` as `with_exits`. One of the settings is given.

    With a deadline every sample leaves at the same exit: the most accurate one, of all exits and all prefix cuts, whose estimate on an
    idle path meets the deadline; of equal ones the fastest (Edgent: E. Li, L. Zeng, Z. Zhou, X. Chen, IEEE TWC 2020). Side classifiers
    before it are not run.

    With a threshold a sample leaves at the first exit where the entropy of the softmax is below it (BranchyNet), and the prefix cuts
    are those of least expected latency, exactly: what an exit's sample takes, weighted by the share that leaves there, which was measured
    on the test samples with the model uncut.

    Args:
        deadline: by when every answer is to be there.
        threshold: in nats; 0 lets nobody leave early, above log(labels) everybody leaves at the first exit.
    """

    deadline: Duration | None = None
    threshold: Annotated[float, annotated_types.Ge(0)] | None = None

    def __post_init__(self) -> None:
        if (self.deadline is None) == (self.threshold is None):
            raise ValueError("expected one of `deadline` and `threshold`")
        if self.deadline is not None and self.deadline <= 0:
            raise ValueError("deadline: expected a duration greater than 0")

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """See `Planner.plan`; `choose` takes a model with exits.

        Raises:
            NetflError: always: a profile alone has no exits.
        """
        raise NetflError("planner early_exit needs a model with exits: serve one `pretrained` as `with_exits`")

    def choose(self, measured: MeasuredExits, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> ExitPlacement:
        """The exits to use, and where their nodes run.

        Args:
            measured: the model.
            path: the devices that may run it, the asking one first.
            encoded_bytes: wire bytes of one tensor of so many values.
            result_bytes: wire bytes of the result.

        Raises:
            NetflError: nothing fits, or no exit meets the deadline; the message says what the fastest takes.
        """
        if self.deadline is not None:
            return self._one_exit(measured, path, encoded_bytes, result_bytes, self.deadline)
        return self._any_exit(measured, path, encoded_bytes, result_bytes)

    def _one_exit(
        self, measured: MeasuredExits, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int, deadline_s: float
    ) -> ExitPlacement:
        profile, found = measured.profile, []
        refused: NetflError | None = None
        for place, accuracy in enumerate(measured.accuracies):
            try:
                best = Chain().plan(profile.until((place,)), path, encoded_bytes, result_bytes)
            except NetflError as error:  # a longer model may not fit where a shorter one does
                refused = error
                continue
            found.append((accuracy, -best.estimate_s, place, best))
        if not found:
            assert refused is not None
            raise refused
        in_time = [each for each in found if -each[1] <= deadline_s]
        if not in_time:
            fastest = max(found, key=lambda each: each[1])
            raise NetflError(
                f"planner early_exit: no exit meets the deadline of {format_duration(deadline_s)}; exit {fastest[2] + 1} takes the least, "
                f"{format_duration(-fastest[1])}"
            )
        _, _, place, best = max(in_time, key=lambda each: each[:2])
        cuts = profile.cuts_of_whole(best.cuts, (place,))
        return _placement(measured, path, cuts, best.estimate_s, used=(place,))

    def _any_exit(self, measured: MeasuredExits, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> ExitPlacement:
        assert self.threshold is not None
        profile, used = measured.profile, tuple(range(len(measured.shares)))
        cuts = _least_expected(measured, path, encoded_bytes, result_bytes)
        taken_s = expected_s(profile, path, cuts, used, measured.shares, encoded_bytes, result_bytes)
        return _placement(measured, path, cuts, taken_s, used=used, threshold=self.threshold)


def _placement(
    measured: MeasuredExits, path: Path, cuts: tuple[int, ...], estimate_s: float, used: tuple[int, ...], threshold: float = 0.0
) -> ExitPlacement:
    return ExitPlacement(
        cuts=cuts, devices=path.devices, nodes=len(measured.profile.whole.nodes), estimate_s=estimate_s, planner="early_exit", used=used,
        threshold=threshold,
    )  # fmt: skip


def _least_expected(measured: MeasuredExits, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> tuple[int, ...]:
    """Prefix cuts of least expected latency that fit every memory, as cuts of the whole profile.

    Nodes stand in the order in which a sample meets them. So a node costs its time times the share that comes to it, a piece its overhead
    times the share that comes to its first node, a hop what the samples of each exit send there; a row of tiers is then a shortest path.

    Raises:
        NetflError: no cuts fit.
    """
    profile, shares = measured.profile, measured.shares
    used = tuple(range(len(shares)))
    whole, places = profile.until(used), profile.places(used)
    last = len(places)
    ends = [places.index(place) + 1 for place in profile.exits]
    # What share of the samples runs a node, and so goes on behind a cut before it.
    reach = [math.fsum(share for share, end in zip(shares, ends, strict=True) if place < end) for place in range(last + 1)]
    sent_bytes = [0.0] * (last + 1)
    for count, (share, end) in enumerate(zip(shares, ends, strict=True), start=1):
        part = profile.until(used[:count])
        for cut in range(1, end):
            sent_bytes[cut] += share * crossing_bytes(part, cut, encoded_bytes)
    need_bytes = [[whole.memory_bytes(start, stop) for stop in range(last + 1)] for start in range(last + 1)]

    def piece_costs(tier: Tier) -> list[list[float]]:
        sums = [0.0]
        for node, share in zip(whole.nodes, reach, strict=False):
            sums.append(sums[-1] + (0.0 if node.op == "input" else share * node_s(node, tier)))
        costs = [[0.0] * (last + 1) for _ in range(last + 1)]
        for start, stop in product(range(last + 1), repeat=2):
            if max(start, 1) < stop:
                fits = need_bytes[start][stop] <= tier.memory_bytes
                costs[start][stop] = tier.overhead_s * reach[max(start, 1)] + sums[stop] - sums[start] if fits else math.inf
        return costs

    best: list[tuple[float, tuple[int, ...]]] = [(row[last], ()) for row in piece_costs(path.tiers[-1])]
    for tier, hop in zip(reversed(path.tiers[:-1]), reversed(path.hops), strict=True):
        costs, rest = piece_costs(tier), best
        there_s = [
            8 * sent_bytes[cut] / hop.up_bps + reach[cut] * (2 * hop.latency_s + 8 * result_bytes / hop.down_bps) for cut in range(last + 1)
        ]
        # Of equal totals the first: most nodes on the earliest tier.
        best = [
            min(
                (
                    (costs[start][stop] + there_s[stop] + rest[stop][0], (stop, *rest[stop][1]))
                    for stop in range(last, max(start, 1) - 1, -1)
                ),
                key=lambda each: each[0],
            )
            if start < last
            else (costs[start][last] + rest[last][0], (last, *rest[last][1]))
            for start in range(last + 1)
        ]
    total, cuts = best[0]
    if total == math.inf:
        lacking = memory_shortages(whole, path, (last,) * len(path.hops))[0]
        raise NetflError(
            f"planner early_exit: no prefix cuts of the model with its exits fit the memory of {', '.join(path.devices)}; "
            f"all of it on {path.devices[0]} lacks {format_bytes(lacking)}"
        )
    return profile.cuts_of_whole(cuts, used)
