"""Staleness: how little an update counts that was made from an old model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

from annotated_types import Ge, Gt

from netfl.parts import Family

__all__ = ["STALENESS", "Constant", "Hinge", "Polynomial", "Staleness"]


class Staleness(Protocol):
    """A factor for updates by their age, 1 for those of the present model."""

    def factor(self, age: int) -> float:
        """The factor of an update whose start model was `age` versions old when it was used."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Every update counts alike. Source: C. Xie, S. Koyejo, I. Gupta, "Asynchronous federated optimization", 2019, section 5.2."""

    def factor(self, age: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """(age + 1) ** -exponent.

    Source: Xie et al. 2019, section 5.2, with exponent 0.5; J. Nguyen et al. (FedBuff), AISTATS 2022, take the same.

    Args:
        exponent: how fast it falls.
    """

    exponent: Annotated[float, Ge(0)] = 0.5

    def factor(self, age: int) -> float:
        """See `Staleness`.

        >>> Polynomial().factor(3)
        0.5
        """
        return float((age + 1) ** -self.exponent)


@dataclass(frozen=True, kw_only=True)
class Hinge:
    """1 up to an age of `grace`, then 1 / (slope * (age - grace) + 1).

    Source: Xie et al. 2019, section 5.2, with slope 10 and grace 4.

    Args:
        slope: how fast it falls.
        grace: up to which age updates count whole.
    """

    slope: Annotated[float, Gt(0)] = 10.0
    grace: Annotated[int, Ge(0)] = 4

    def factor(self, age: int) -> float:
        """See `Staleness`.

        >>> Hinge().factor(4), Hinge().factor(5) == 1 / 11
        (1.0, True)
        """
        return 1.0 if age <= self.grace else 1 / (self.slope * (age - self.grace) + 1)


STALENESS = Family(
    "staleness",
    {
        "constant": "netfl.learning.staleness:Constant",
        "polynomial": "netfl.learning.staleness:Polynomial",
        "hinge": "netfl.learning.staleness:Hinge",
    },
)
