"""Selectors that prefer clients with high losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np

from netfl.learning.select import ClientFacts, Selector, checked
from netfl.randomness import Stream
from netfl.units import Duration

__all__ = ["Oort", "PowerOfChoice"]

Share = Annotated[float, annotated_types.Ge(0), annotated_types.Le(1)]


@dataclass(frozen=True, kw_only=True)
class Oort(Selector):
    """Clients whose data promises most a second (F. Lai et al.: "Oort", OSDI 2021, algorithm 1).

    A client that has sent a loss is worth sqrt(mean of squared sample losses) times its number of samples, at most what `clip` of them
    are worth, and in shares of the greatest; plus sqrt(staleness * ln R / L) in round R when it was asked last in round L; all times
    (T / t)^alpha if its last round took t, longer than T. Of those worth at least `cutoff` times the last one that would get in, some
    are drawn by their worth. A share of the round, which falls over the rounds, goes to clients that have sent no loss yet,
    drawn by their expected speed.

    Two choices of ours: worth in shares of the greatest, because otherwise the second term is lost beside it, and a fixed T in place
    of their pacer, which raises T when rounds bring less.

    Args:
        preferred: T; none takes the `percentile` of the candidates' last durations.
        percentile: of the durations, in percent.
        alpha: how hard slow clients are punished; 0 not at all.
        exploration: the first round's share for clients without a loss.
        decay: what that share is multiplied with after every round.
        least_exploration: below which it does not fall.
        cutoff: of the worth of the last one that would get in.
        clip: share of the clients whose worth is at most the bound.
        staleness: weight of the time since a client was asked last.
    """

    preferred: Duration | None = None
    percentile: Annotated[float, annotated_types.Ge(0), annotated_types.Le(100)] = 30.0
    alpha: Annotated[float, annotated_types.Ge(0)] = 2.0
    exploration: Share = 0.9
    decay: Share = 0.98
    least_exploration: Share = 0.2
    cutoff: Share = 0.95
    clip: Share = 0.95
    staleness: Annotated[float, annotated_types.Ge(0)] = 0.1

    needs_losses: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.preferred is not None and self.preferred <= 0:
            raise ValueError("preferred: expected a duration greater than 0")

    def select(self, candidates: Sequence[str], count: int, stream: Stream, known: Mapping[str, ClientFacts]) -> list[str]:
        """The clients of a round; see `Selector.select`."""
        names = checked(candidates, count)
        if count >= len(names):
            return names
        explored = [name for name in names if known[name].mean_square_loss is not None]
        new = [name for name in names if known[name].mean_square_loss is None]
        round_ = 1 + max(facts.last_round or 0 for facts in known.values())
        share = max(self.least_exploration, self.exploration * self.decay ** (round_ - 1))
        num_explored = min(len(explored), count - min(len(new), round(share * count)))
        generator = stream.generator()
        chosen: list[str] = []
        if num_explored:
            worth = self.worth([known[name] for name in explored], round_)
            least = self.cutoff * np.sort(worth)[-num_explored]
            admitted = np.flatnonzero(worth >= least)
            chosen += _drawn([explored[index] for index in admitted], worth[admitted], num_explored, generator)
        if count > num_explored:
            speeds = np.array([1 / max(known[name].expected_s, 1e-9) for name in new])
            chosen += _drawn(new, speeds, count - num_explored, generator)
        return sorted(chosen)

    def worth(self, facts: Sequence[ClientFacts], round_: int) -> np.ndarray:
        """What clients that have sent losses are worth in a round."""
        statistical = np.array([each.num_samples * math.sqrt(each.mean_square_loss or 0.0) for each in facts])
        statistical = np.minimum(statistical, np.quantile(statistical, self.clip))
        worth = statistical / (statistical.max() or 1.0)
        worth += np.array([math.sqrt(self.staleness * math.log(round_) / (each.last_round or 1)) for each in facts])
        durations = np.array([each.last_duration_s or 0.0 for each in facts])
        preferred = np.percentile(durations, self.percentile) if self.preferred is None else self.preferred
        is_slow = durations > preferred
        penalties = np.ones(len(facts))
        penalties[is_slow] = (preferred / durations[is_slow]) ** self.alpha
        made: np.ndarray = worth * penalties
        return made


@dataclass(frozen=True, kw_only=True)
class PowerOfChoice(Selector):
    """The clients of highest loss among some drawn at random (Y. J. Cho, J. Wang, G. Joshi, 2020, as rpow-d).

    Candidates are drawn with probabilities in proportion to their samples. Losses are those that clients sent with their last
    updates, which costs no message; who has sent none counts as infinitely bad.

    Args:
        factor: how many times the number wanted are drawn, rounded up; 1 draws without choosing.
    """

    factor: Annotated[float, annotated_types.Ge(1)] = 2.0

    needs_losses: ClassVar[bool] = True

    def select(self, candidates: Sequence[str], count: int, stream: Stream, known: Mapping[str, ClientFacts]) -> list[str]:
        """The clients of a round; see `Selector.select`."""
        names = checked(candidates, count)
        samples = np.array([float(known[name].num_samples) for name in names])
        drawn = sorted(_drawn(names, samples, math.ceil(round(self.factor * count, 9)), stream.generator()))

        def badness(name: str) -> tuple[float, str]:
            loss = known[name].last_loss
            return (-math.inf if loss is None else -loss, name)

        return sorted(sorted(drawn, key=badness)[:count])


def _drawn(names: Sequence[str], weights: np.ndarray, count: int, generator: np.random.Generator) -> list[str]:
    """So many names, without replacement, by weights; all alike where too few have any."""
    if count >= len(names):
        return list(names)
    total = weights.sum()
    shares = weights / total if total > 0 and np.count_nonzero(weights) >= count else None
    return [names[index] for index in generator.choice(len(names), size=count, replace=False, p=shares)]
