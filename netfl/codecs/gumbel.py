"""Private top-k: the exponential mechanism with peeling, in one shot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np

from netfl.codecs.indices import IndexCoding, PlacedValues, check_coding
from netfl.codecs.largest import kept_of, places_of_largest
from netfl.codecs.pipeline import Leaves, Vector, check_fraction, require_finite

__all__ = ["GumbelTopK", "check_clip", "check_epsilon"]


@dataclass(frozen=True, kw_only=True)
class GumbelTopK(PlacedValues):
    """Keeps `ceil(fraction * n)` values, clipped to `clip`, those whose magnitude plus Gumbel noise is largest.

    The noise has scale 2 clip / epsilon. That equals k draws without replacement, each place with probability in proportion to
    exp(epsilon |x| / (2 clip)): the exponential mechanism, each draw epsilon-private for one value's magnitude, whose range is
    `clip`. The values that are kept are exact: only a private release behind it makes the message private.

    Source: McSherry and Talwar, "Mechanism design via differential privacy", FOCS 2007; the one-shot form is that of Durfee and
    Rogers, "Practical differentially private top-k selection with pay-what-you-get composition", NeurIPS 2019. In netfl's
    reconstruction of Du et al. (2020) it chooses what a participant sends.

    Args:
        fraction: share of values kept; above 0, at most 1.
        clip: values are clipped to this magnitude first; above 0.
        epsilon: spent on each draw; above 0. As it grows, the choice becomes plain top-k of the clipped values.
        indices: how the places are written: plain, coordinates, elias_gamma, elias_delta, rice or bitmap.
    """

    fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    clip: Annotated[float, annotated_types.Gt(0)]
    epsilon: Annotated[float, annotated_types.Gt(0)]
    indices: IndexCoding = "plain"

    first = True
    leaves: ClassVar[Leaves] = "changed"

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        check_clip(self.clip)
        check_epsilon(self.epsilon)
        check_coding(self.indices)

    @property
    def epsilon_per_coordinate(self) -> float:
        """Of one draw."""
        return self.epsilon

    def kept_count(self, count: int) -> int:
        """`ceil(fraction * count)`."""
        return kept_of(self.fraction, count)

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The places and the clipped values kept; draws one number a value."""
        require_finite(values, "gumbel_topk")
        clipped = np.clip(values, -self.clip, self.clip)
        scores = np.abs(clipped) + generator.gumbel(scale=2 * self.clip / self.epsilon, size=len(values))
        places = places_of_largest(scores, self.kept_count(len(values)))
        return self._placed(places, clipped[places], len(values))

    def error_bound(self, values: Vector) -> float:
        """The largest magnitude: any value may be dropped."""
        return float(np.abs(values).max()) if len(values) else 0.0


def check_clip(clip: float) -> None:
    """Raise ValueError unless a bound of magnitudes is above 0 and a number that float32 holds well."""
    if not 2.0**-126 <= clip <= 2.0**126:
        raise ValueError(f"expected a clip above 0 within the range of float32, got {clip}")


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless an epsilon is above 0."""
    if not epsilon > 0:
        raise ValueError(f"expected an epsilon above 0, got {epsilon}")
