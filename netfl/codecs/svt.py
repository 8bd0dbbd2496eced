"""Private selection by the sparse vector technique: baselines that release what passes a noisy threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.gumbel import check_clip, check_epsilon
from netfl.codecs.indices import IndexCoding, PlacedValues, Places, check_coding
from netfl.codecs.largest import kept_of
from netfl.codecs.pipeline import Leaves, Vector, check_fraction, require_finite

__all__ = ["Svt"]

_SHARE_OF_VALUES = 2 / 9
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Svt(PlacedValues):
    """Visits the values in random order and releases, with noise and clipped, those that pass a noisy threshold, at most `ceil(fraction * n)`.

    A baseline: selection and release in one. With c releases at most and epsilon each, the whole budget is E = c epsilon.
    `shokri2015` splits it 8/9 to 2/9 as its authors wrote (more than E in sum), with sensitivity 2 clip: threshold noise
    Lap(2 c 2 clip / E1), drawn anew after each release, query noise of twice that scale, value noise Lap(2 c 2 clip / E2). It is
    kept for comparison; variants of that kind are known not to be private. `lyu` is the safe form: threshold noise Lap(clip / E1)
    drawn once, query noise Lap(2 c clip / E2), value noise Lap(2 c clip / E3), E1 + E2 + E3 = E, E1 : E2 = 1 : (2 c)^(2/3), and
    E3 = 2/9 E, as large a share as the other variant's (a choice). Both clip what is released, which costs no privacy (of `lyu`
    a choice). Fewer values than c pass if the threshold is high: the length depends on the data.

    Source: Shokri and Shmatikov, "Privacy-preserving deep learning", CCS 2015; Lyu, Su and Li, "Understanding the sparse vector
    technique for differential privacy", PVLDB 10(6), 2017.

    Args:
        fraction: share of values released at most; above 0, at most 1.
        clip: values are clipped to this magnitude; above 0.
        epsilon: spent on each value released; above 0.
        threshold: the magnitude that a value is compared with, before noise; at least 0.
        variant: shokri2015 or lyu.
        indices: how the places are written: plain, coordinates, elias_gamma, elias_delta, rice or bitmap.
    """

    fraction: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)]
    clip: Annotated[float, annotated_types.Gt(0)]
    epsilon: Annotated[float, annotated_types.Gt(0)]
    threshold: Annotated[float, annotated_types.Ge(0)]
    variant: Literal["shokri2015", "lyu"] = "lyu"
    indices: IndexCoding = "plain"

    first = True
    releases = True
    leaves: ClassVar[Leaves] = "changed"

    def __post_init__(self) -> None:
        check_fraction(self.fraction)
        check_clip(self.clip)
        check_epsilon(self.epsilon)
        check_coding(self.indices)
        if not self.threshold >= 0:
            raise ValueError(f"expected a threshold of at least 0, got {self.threshold}")
        if self.variant not in ("shokri2015", "lyu"):
            raise ValueError(f"expected the variant shokri2015 or lyu, got '{self.variant}'")

    @property
    def epsilon_per_coordinate(self) -> float:
        """Of one release: the whole budget over the most releases."""
        return self.epsilon

    def kept_count(self, count: int) -> None:
        """None: it depends on the values and the noise."""

    def most_kept(self, count: int) -> int:
        """`ceil(fraction * count)`."""
        return kept_of(self.fraction, count)

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The places released and their noised values."""
        require_finite(values, "svt")
        count = len(values)
        most = kept_of(self.fraction, count)
        clipped = np.clip(values.astype(np.float64), -self.clip, self.clip)
        order = generator.permutation(count)
        budget = self.epsilon * max(most, 1)
        if self.variant == "shokri2015":
            threshold_scale = 4 * most * self.clip / (budget * 8 / 9)
            query_scale = 2 * threshold_scale
            value_scale = 4 * most * self.clip / (budget * _SHARE_OF_VALUES)
        else:
            of_queries = (2 * most) ** (2 / 3)
            of_selection = budget * (1 - _SHARE_OF_VALUES)
            threshold_scale = self.clip / (of_selection / (1 + of_queries))
            query_scale = 2 * most * self.clip / (of_selection * of_queries / (1 + of_queries)) if most else 0.0
            value_scale = 2 * most * self.clip / (budget * _SHARE_OF_VALUES)
        queries = np.abs(clipped[order]) + generator.laplace(scale=query_scale, size=count)
        passed = self._passed(queries, most, threshold_scale, generator)
        places: Places = np.sort(order[passed])
        noised = clipped[places] + generator.laplace(scale=value_scale, size=len(places))
        return self._placed(places, np.clip(noised, -self.clip, self.clip).astype(np.float32), count)

    def error_bound(self, values: Vector) -> float:
        """The largest magnitude and the clip: what is released may be anything up to the clip."""
        return float(np.abs(values).max()) + self.clip * (1 + 2.0**-23) if len(values) else 0.0

    def _passed(self, queries: npt.NDArray[np.float64], most: int, scale: float, generator: np.random.Generator) -> Places:
        """The first `most` queries that reach the noisy threshold, as numbers in the order of the visit."""
        if self.variant == "lyu":
            return np.flatnonzero(queries >= self.threshold + generator.laplace(scale=scale))[:most]
        passed: list[int] = []
        noises = generator.laplace(scale=scale, size=most)
        at = 0
        while at < len(queries) and len(passed) < most:
            reached = queries[at : at + _CHUNK] >= self.threshold + noises[len(passed)]
            found = int(reached.argmax())
            if reached[found]:
                passed.append(at + found)
                at += found + 1
            else:
                at += len(reached)
        return np.array(passed, np.int64)
