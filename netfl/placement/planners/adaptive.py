"""A planner that looks again while requests are served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated

from annotated_types import Gt, Le, Lt

from netfl.parts import Family
from netfl.placement.plan import Path, Placement, estimate
from netfl.placement.planners import PLANNERS, Planner
from netfl.placement.planners.chain import Chain
from netfl.placement.profile import Profile
from netfl.units import Duration

__all__ = ["INNER", "Adaptive"]

INNER = Family("planners", {kind: PLANNERS.builtin[kind] for kind in ("chain", "mincut", "milp")})
"""The kinds of planner that can plan again."""


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Plans as another planner does, and again every so often with the rates that the requests' own transfers had.

    A serving workload measures what its transfers get on each hop, either way, smoothed; a hop that it has not used keeps its nominal rate, so a
    way that was left is tried again only if it looks better on paper. A new placement is taken up only if its estimate is lower by
    more than `hysteresis`, and only once every device that needs parameters which it does not hold has been sent them; these bytes are paid.

    Args:
        inner: how to plan.
        period: between two looks.
        smoothing: weight of a new measurement in the mean of all.
        hysteresis: by what fraction the estimate must be lower.
    """

    inner: Annotated[Planner, INNER] = field(default_factory=Chain)
    period: Duration = 10.0
    smoothing: Annotated[float, Gt(0), Le(1)] = 0.3
    hysteresis: Annotated[float, Lt(1)] = 0.1

    def __post_init__(self) -> None:
        if self.period <= 0:
            raise ValueError("period: expected a duration greater than 0")
        if self.hysteresis < 0:
            raise ValueError(f"hysteresis: expected at least 0, got {self.hysteresis:g}")

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """The inner planner's placement; see `Planner.plan`.

        Raises:
            NetflError: the inner planner places nothing.
        """
        placement: Placement = self.inner.plan(profile, path, encoded_bytes, result_bytes)
        return replace(placement, planner="adaptive", gap=None)

    def again(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int, current: Placement) -> Placement:
        """The placement to go on with: the current one, unless another is enough better on the path as measured.

        Args:
            profile: as for `Planner.plan`.
            path: with the measured rates.
            encoded_bytes: as for `Planner.plan`.
            result_bytes: as for `Planner.plan`.
            current: the placement in use.
        """
        now_s = estimate(current.arranged(profile), path, current.cuts, encoded_bytes, result_bytes).total_s
        proposed = self.plan(profile, path, encoded_bytes, result_bytes)
        return proposed if proposed.estimate_s < (1 - self.hysteresis) * now_s else current
