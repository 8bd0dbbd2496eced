"""Candidates scored by trying them out, in place of adding up what an idle path would take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Annotated

from annotated_types import Ge

from netfl.errors import NetflError
from netfl.placement.plan import Path, Placement, crossing_bytes, estimate, memory_shortages, place
from netfl.placement.planners.chain import Chain
from netfl.placement.profile import Profile
from netfl.units import Duration

__all__ = ["Simulate"]


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """The prefix cut that answers fastest in short simulations under the load that the scenario has.

    Candidates are prefix cuts that fit, of which no other takes less of every processor and every link; of many the ones of least
    estimate, and always the best of running all here and uploading the input. Each is tried in simulations of the whole scenario:
    training, background traffic and other serving included, whose random numbers are others than the run's, so that nothing of the
    run is known in advance. What is trained is not: models are lengths there. The lowest 95th percentile of the latency wins;
    requests that do not end count as endless. Equal: the candidate with the lower estimate.

    Source: proposing with a cheap model and scoring with the simulator is FlexFlow's idea (Jia et al., MLSys 2019).

    Args:
        candidates: how many to try at most.
        rollouts: simulations of each candidate.
        horizon: simulated time of each; requests of its last fifth are not counted.
        positions: the cuts that candidates are made of, those where the fewest bytes cross.
    """

    candidates: Annotated[int, Ge(2)] = 8
    rollouts: Annotated[int, Ge(1)] = 1
    horizon: Duration = 60.0
    positions: Annotated[int, Ge(2)] = 16

    def __post_init__(self) -> None:
        if self.horizon <= 0:
            raise ValueError("horizon: expected a duration greater than 0")

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """What `choose` would begin with; see `Planner.plan`.

        Raises:
            NetflError: always: without trying anything out there is no score. `choose` takes one.
        """
        raise NetflError("planner simulate scores placements by simulation, which only a serving workload can run")

    def choose(
        self,
        profile: Profile,
        path: Path,
        encoded_bytes: Callable[[int], int],
        result_bytes: int,
        score: Callable[[Placement], float],
    ) -> Placement:
        """The candidate with the lowest score.

        Args:
            profile: as for `Planner.plan`.
            path: as for `Planner.plan`.
            encoded_bytes: as for `Planner.plan`.
            result_bytes: as for `Planner.plan`.
            score: of a placement; lower is better.

        Raises:
            NetflError: no prefix cut fits.
        """
        return min(self.proposed(profile, path, encoded_bytes, result_bytes), key=lambda each: (score(each), each.estimate_s))

    def proposed(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> tuple[Placement, ...]:
        """The candidates, the one of least estimate first.

        Raises:
            NetflError: no prefix cut fits.
        """
        last = len(profile.nodes)
        narrow = sorted(range(2, last), key=lambda cut: (crossing_bytes(profile, cut, encoded_bytes), cut))[: self.positions - 2]
        found = []
        for cuts in combinations_with_replacement(sorted({1, last, *narrow}), len(path.hops)):
            if not any(memory_shortages(profile, path, cuts)):
                took = estimate(profile, path, cuts, encoded_bytes, result_bytes)
                loads = (*took.compute_s, *took.transmit_s, took.propagation_s + took.return_s)
                found.append((took.total_s, cuts, loads))
        if not found:
            # The best of all cuts, wherever they are; raises if none fits.
            return (Chain().plan(profile, path, encoded_bytes, result_bytes),)
        found.sort(key=lambda each: (each[0], tuple(-cut for cut in each[1])))
        chosen: list[tuple[float, tuple[int, ...], tuple[float, ...]]] = []
        for each in found:
            if not any(all(a <= b for a, b in zip(other[2], each[2], strict=True)) for other in chosen):
                chosen.append(each)
        kept = chosen[: self.candidates]
        ends = [each for each in found if set(each[1]) <= {1, last}]
        for each in ends[:2]:
            if each not in kept:
                kept[-1 if each is ends[0] else -2] = each
        kept.sort(key=lambda each: each[0])
        return tuple(place(profile, path, cuts, encoded_bytes, result_bytes, "simulate") for _, cuts, _ in dict.fromkeys(kept))
