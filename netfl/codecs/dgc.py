"""Deep gradient compression: top-k with momentum correction and a fraction that warms up over rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import annotated_types
import numpy as np

from netfl.codecs.indices import IndexCoding, PlacedValues, check_coding
from netfl.codecs.largest import kept_of, places_of_largest
from netfl.codecs.pipeline import Vector, check_fraction, require_finite
from netfl.errors import CodecError

__all__ = ["Dgc"]


@dataclass(frozen=True, kw_only=True)
class Dgc(PlacedValues):
    """Top-k with momentum correction, whose fraction falls over the first rounds from `warmup_fraction` to `fraction`.

    Momentum correction and momentum factor masking are error feedback's part: it keeps each value's velocity beside the
    residual. Clipping gradients is the trainer's part (`clip_norm`). Round r of w warm-up rounds keeps
    `warmup_fraction * (fraction / warmup_fraction) ** ((r - 1) / w)`; with 0.25 and 0.001 in four rounds this is the paper's
    25 %, 6.25 %, 1.56 %, 0.4 %, 0.1 % to 1 % of each. A round of the federation stands for the paper's epoch (a choice).

    Source: Lin et al., "Deep gradient compression: reducing the communication bandwidth for distributed training", ICLR 2018.

    Args:
        fraction: share of values kept after the warm-up; above 0, at most 1.
        warmup_rounds: how many rounds keep more.
        warmup_fraction: share of values kept in the first of them; at least `fraction`, at most 1.
        momentum: factor of the velocity; 0 is top-k with error feedback.
        indices: how the places are written: plain, coordinates, elias_gamma, elias_delta, rice or bitmap.
    """

    fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    warmup_rounds: Annotated[int, annotated_types.Ge(0)] = 4
    warmup_fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] = 0.25
    momentum: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] = 0.9
    indices: IndexCoding = "plain"

    first = True

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        check_fraction(self.warmup_fraction, "warmup_fraction")
        check_coding(self.indices)
        if self.warmup_rounds and self.warmup_fraction < self.fraction:
            raise ValueError(f"expected a warmup_fraction of at least the fraction, {self.fraction}, got {self.warmup_fraction}")
        if self.warmup_rounds < 0:
            raise ValueError(f"expected at least 0 warm-up rounds, got {self.warmup_rounds}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"expected a momentum of at least 0 and below 1, got {self.momentum}")

    def at_round(self, round_: int) -> Dgc:
        """The same without a warm-up, with that round's fraction.

        >>> [round(Dgc(fraction=0.001).at_round(r).fraction, 4) for r in (1, 2, 3, 4, 5, 6)]
        [0.25, 0.0629, 0.0158, 0.004, 0.001, 0.001]
        """
        if round_ > self.warmup_rounds:
            return replace(self, warmup_rounds=0)
        share = (round_ - 1) / self.warmup_rounds
        fraction = self.warmup_fraction * (self.fraction / self.warmup_fraction) ** share
        return replace(self, warmup_rounds=0, fraction=round(fraction, 12))

    def kept_count(self, count: int) -> int:
        """`ceil(fraction * count)` of a round; CodecError if the round is not known."""
        if self.warmup_rounds:
            raise CodecError("dgc keeps another share in each round of its warm-up: ask for the pipeline of a round (`at_round`)")
        return kept_of(self.fraction, count)

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The places and the values kept; nothing is drawn."""
        magnitudes = np.abs(values)
        require_finite(values, "dgc", magnitudes)
        places = places_of_largest(magnitudes, self.kept_count(len(values)))
        return self._placed(places, values[places], len(values))

    def error_bound(self, values: Vector) -> float:
        """The largest magnitude that is not kept."""
        dropped = len(values) - self.kept_count(len(values))
        return float(np.partition(np.abs(values), dropped - 1)[dropped - 1]) if dropped else 0.0
