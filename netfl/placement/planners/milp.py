"""The best placement under limits: memory, a deadline, throughput, energy, or a weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from netfl.errors import NetflError
from netfl.placement.plan import Path, Placement, place_labels
from netfl.placement.planners.chain import Chain
from netfl.placement.profile import Profile
from netfl.units import Duration, format_duration

if TYPE_CHECKING:
    from netfl.placement.planners.program import Program

__all__ = ["Milp"]

Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Milp:
    """The best placement of all in which data only moves away from the asking device, and every memory and the deadline are kept.

    A mixed-integer linear program, solved by HiGHS through scipy: exact unless it meets `node_limit`, and then the placement says how far
    it may be from the best. The memory of a piece is its parameters, tied ones once, and the most activations that it holds at once; the
    second is no sum, so rows that state it are added where a solution breaks it, until none does. Deterministic; among equally good
    placements the solver's choice.

    Source: the integer program of Tarnawski et al. (NeurIPS 2020), which charges a tensor once, on a row of tiers.

    Args:
        objective: latency of one request; throughput: the least time of the busiest processor or link direction; energy above idle;
            or `weighted`.
        deadline: the latency of one request must not be above it.
        latency_weight: with `weighted`, of a second of latency.
        bottleneck_weight: with `weighted`, of a second of the busiest part.
        energy_weight: with `weighted`, of a joule.
        node_limit: branches that the solver may look at.
    """

    objective: Literal["latency", "throughput", "energy", "weighted"] = "latency"
    deadline: Duration | None = None
    latency_weight: Weight = 1.0
    bottleneck_weight: Weight = 0.0
    energy_weight: Weight = 0.0
    node_limit: Annotated[int, Ge(1)] = 100_000

    def __post_init__(self) -> None:
        if self.deadline is not None and self.deadline <= 0:
            raise ValueError("deadline: expected a duration greater than 0")
        if self.objective == "weighted" and not self.latency_weight + self.bottleneck_weight + self.energy_weight:
            raise ValueError("expected a weight above 0")

    @property
    def weights(self) -> tuple[float, float, float]:
        """Of latency, of the busiest part, of energy."""
        if self.objective == "weighted":
            return self.latency_weight, self.bottleneck_weight, self.energy_weight
        return float(self.objective == "latency"), float(self.objective == "throughput"), float(self.objective == "energy")

    def plan(self, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> Placement:
        """See `Planner.plan`.

        Raises:
            NetflError: nothing fits, or nothing that fits keeps the deadline; the message says by how much.
        """
        from netfl.placement.planners.program import Program

        program = Program(profile, path, encoded_bytes, result_bytes)
        found = program.solve(self.weights, self.deadline, self.node_limit)
        if found is None:
            self._explain(program, profile, path, encoded_bytes, result_bytes)
            raise NetflError(f"milp found no placement within node_limit {self.node_limit}")
        labels, gap = found
        return place_labels(profile, path, labels, encoded_bytes, result_bytes, "milp", gap=gap)

    def _explain(self, program: Program, profile: Profile, path: Path, encoded_bytes: Callable[[int], int], result_bytes: int) -> None:
        """Raise what makes it impossible."""
        if self.deadline is not None:
            fastest = program.solve((1.0, 0.0, 0.0), None, self.node_limit)
            if fastest is not None:
                placement = place_labels(profile, path, fastest[0], encoded_bytes, result_bytes, "milp")
                raise NetflError(
                    f"no placement keeps the deadline of {format_duration(self.deadline)}: the fastest that fits takes "
                    f"{format_duration(placement.estimate_s)} ({placement.describe()})"
                )
        # A prefix cut that fits would be a placement: this raises, and says what the one with the least total shortage lacks.
        Chain().plan(profile, path, encoded_bytes, result_bytes)
