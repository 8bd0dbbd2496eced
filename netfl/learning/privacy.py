"""What privacy costs: epsilon of Gaussian noise on samples of fixed number, and ledgers of many small releases.

Epsilon comes from Google's dp-accounting (`pip install 'netfl-sim[privacy]'`), which is imported where it is used. A federated server
asks a *fixed* number of clients, and `dp_sgd` draws batches of a fixed number of samples. That is sampling without replacement, which
is accounted for by Renyi differential privacy under replacement of one record (Y.-X. Wang, B. Balle, S. Kasiviswanathan, AISTATS 2019).
Figures for Poisson sampling are smaller and hold for another mechanism: with sigma = 1.1, a sampled share of 0.01, 1000 rounds and
delta = 1e-5, epsilon is 3.19 for fixed-size sampling, 1.712 for Poisson sampling by Renyi accounting and 1.515 by privacy loss
distributions.

`sigma` is the noise's standard deviation in units of the sum's *sensitivity*. Replacing one of the clipped records by another moves
their sum by up to 2 clip norms, so a `noise_multiplier`, which counts clip norms, is 2 sigma: see `sigma_of`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from netfl.errors import MissingExtraError

__all__ = ["Ledger", "epsilon_of_fixed_number", "epsilon_of_poisson_sampling", "sigma_of"]


def sigma_of(noise_multiplier: float) -> float:
    """Standard deviation in sensitivities, from one in clip norms, where neighbours differ by the replacement of one record.

    >>> sigma_of(1.1)
    0.55
    """
    return noise_multiplier / 2


def epsilon_of_fixed_number(*, sigma: float, sampled: int, total: int, rounds: int, delta: float) -> float:
    """Epsilon of noisy sums over random sets of a fixed number of records; infinity without noise.

    Args:
        sigma: standard deviation of the noise in sensitivities of the sum; see `sigma_of`.
        sampled: how many records each sum takes, drawn without replacement.
        total: of how many.
        rounds: how many sums.
        delta: probability with which epsilon may fail, greater than 0 and below 1.

    Raises:
        ValueError: the numbers make no sense.
        MissingExtraError: dp-accounting is not installed.
    """
    _check(sigma, rounds, delta)
    if not 1 <= sampled <= total:
        raise ValueError(f"sampled: expected at least 1 and at most {total}, all there are, got {sampled}")
    if not rounds:
        return 0.0
    if not sigma:
        return math.inf
    library = _library()
    accountant = library.rdp.RdpAccountant(neighboring_relation=library.NeighboringRelation.REPLACE_ONE)
    accountant.compose(library.SampledWithoutReplacementDpEvent(total, sampled, library.GaussianDpEvent(sigma)), rounds)
    return float(accountant.get_epsilon(delta))


def epsilon_of_poisson_sampling(
    *, sigma: float, probability: float, rounds: int, delta: float, accountant: Literal["rdp", "pld"] = "rdp"
) -> float:
    """Epsilon of noisy sums over sets that each record joins with a probability, for comparison: nothing in netfl samples so.

    Neighbours differ by one record more or less, and the sensitivity of a sum is one clip norm.

    Args:
        sigma: standard deviation of the noise in sensitivities.
        probability: with which a record joins a sum.
        rounds: how many sums.
        delta: probability with which epsilon may fail.
        accountant: rdp, by Renyi differential privacy; pld, by privacy loss distributions, which is tighter.

    Raises:
        ValueError: the numbers make no sense.
        MissingExtraError: dp-accounting is not installed.
    """
    _check(sigma, rounds, delta)
    if not 0 < probability <= 1:
        raise ValueError(f"probability: expected more than 0 and at most 1, got {probability}")
    if not rounds:
        return 0.0
    if not sigma:
        return math.inf
    library = _library()
    counting = library.rdp.RdpAccountant() if accountant == "rdp" else library.pld.PLDAccountant()
    counting.compose(library.PoissonSampledDpEvent(probability, library.GaussianDpEvent(sigma)), rounds)
    return float(counting.get_epsilon(delta))


def _check(sigma: float, rounds: int, delta: float) -> None:
    if not sigma >= 0:
        raise ValueError(f"sigma: expected a standard deviation of at least 0, got {sigma}")
    if rounds < 0:
        raise ValueError(f"rounds: expected at least 0, got {rounds}")
    if not 0 < delta < 1:
        raise ValueError(f"delta: expected more than 0 and less than 1, got {delta}")


def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ModuleNotFoundError:
        raise MissingExtraError("epsilon needs dp-accounting: pip install 'netfl-sim[privacy]'") from None
    return dp_accounting


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What one client's releases of single coordinates add up to: per coordinate, as some papers state it, and for the whole model.

    Each of `released` coordinates a round is released with `epsilon`; choosing it counts into that. The whole model's epsilon is the one that
    protects a record: a record can show in every coordinate. Composition: basic, the sum; advanced (C. Dwork, G. Rothblum,
    S. Vadhan, FOCS 2010): epsilon sqrt(2 k ln(1 / delta)) + k epsilon (e^epsilon - 1) after k releases, with delta beside. What a
    server sends back is made from the releases alone and costs nothing.

    Args:
        epsilon: of one release; infinity for none of it private.
        released: coordinates a round.
        num_values: coordinates of the model.
        rounds: in which the client took part.
        delta: of advanced composition.
    """

    epsilon: float
    released: int
    num_values: int
    rounds: int
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon: expected more than 0, got {self.epsilon}")
        if not 0 <= self.released <= self.num_values:
            raise ValueError(f"released: expected at least 0 and at most {self.num_values}, all there are, got {self.released}")
        if self.rounds < 0:
            raise ValueError(f"rounds: expected at least 0, got {self.rounds}")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta: expected more than 0 and less than 1, got {self.delta}")

    @property
    def releases(self) -> int:
        """In all rounds."""
        return self.released * self.rounds

    @property
    def per_coordinate(self) -> float:
        """Of one coordinate that is released in every round."""
        return self.epsilon * self.rounds if self.releases else 0.0

    @property
    def per_round(self) -> float:
        """Of the whole model in one round, by basic composition."""
        return self.epsilon * self.released if self.released else 0.0

    @property
    def basic(self) -> float:
        """Of the whole model in all rounds, by basic composition."""
        return self.epsilon * self.releases if self.releases else 0.0

    @property
    def advanced(self) -> float:
        """Of the whole model in all rounds, by advanced composition; for large epsilons it is more than `basic`."""
        if not self.releases:
            return 0.0
        if self.epsilon > 700:  # e^epsilon is no number any more
            return math.inf
        return self.epsilon * math.sqrt(2 * self.releases * math.log(1 / self.delta)) + self.basic * math.expm1(self.epsilon)

    def __str__(self) -> str:
        """The two ways of counting, side by side.

        >>> print(Ledger(epsilon=0.5, released=200, num_values=10_000, rounds=10))
        epsilon of one release 0.5; 200 of 10,000 coordinates a round, 10 rounds
                        one coordinate     whole model
        a round                    0.5             100
        all, basic                   5           1,000
        all, advanced                -          756.02 (delta 1e-05)
        """
        rows = [
            ("", "one coordinate", "whole model"),
            ("a round", f"{self.epsilon:,g}", _shown(self.per_round)),
            ("all, basic", _shown(self.per_coordinate), _shown(self.basic)),
            ("all, advanced", "-", _shown(self.advanced)),
        ]
        lines = [f"{first:<14}{second:>16}{third:>16}" for first, second, third in rows]
        head = (
            f"epsilon of one release {self.epsilon:g}; {self.released:,} of {self.num_values:,} coordinates a round, {self.rounds} rounds"
        )
        return "\n".join([head, *lines]) + f" (delta {self.delta:g})"


def _shown(epsilon: float) -> str:
    return f"{epsilon:,.6g}"
