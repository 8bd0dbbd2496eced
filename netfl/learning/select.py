"""Selectors: which clients take part in a round, by chance, in turn or by speed. `netfl.learning.select_by_loss` has those by loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import annotated_types

from netfl.parts import Family
from netfl.randomness import Stream
from netfl.units import Duration

__all__ = ["SELECTORS", "ClientFacts", "Fastest", "RoundRobin", "Selector", "Uniform", "checked"]


@dataclass(frozen=True, kw_only=True)
class ClientFacts:
    """What a server knows of a client when it selects. Whatever comes from updates is of the last one that was aggregated.

    Args:
        num_samples: of its shard.
        expected_s: a round with it over idle links and an idle processor: download, training and upload.
        rate_bps: of the slowest link of its way to the server.
        latency_s: of that way.
        last_loss: mean training loss of its last local epoch; None if there was none, or if the selector does not need it.
        mean_square_loss: the mean of squared sample losses of that epoch; None likewise.
        last_duration_s: from the beginning of its last round to the arrival of its update; None if none arrived.
        times_selected: how often it was asked.
        last_round: when it was asked last, counted from 1; None for never.
    """

    num_samples: int
    expected_s: float
    rate_bps: float
    latency_s: float
    last_loss: float | None = None
    mean_square_loss: float | None = None
    last_duration_s: float | None = None
    times_selected: int = 0
    last_round: int | None = None


class Selector(Protocol):
    """A pure choice of clients. Subclass it to inherit the default."""

    needs_losses: ClassVar[bool] = False
    """Whether it looks at losses. A workload computes updates for one that does when it selects, and else only when a model is measured."""

    def select(self, candidates: Sequence[str], count: int, stream: Stream, known: Mapping[str, ClientFacts]) -> list[str]:
        """The clients of a round, sorted by name.

        Args:
            candidates: names of the clients that could take part, sorted.
            count: how many are wanted; with fewer candidates, all of them are chosen.
            stream: what the choice is drawn from.
            known: of every candidate.

        Raises:
            ValueError: the candidates are not sorted, or the count is negative.
        """
        ...


def checked(candidates: Sequence[str], count: int) -> list[str]:
    """The candidates.

    Raises:
        ValueError: they are not sorted, or the count is negative.
    """
    names = sorted(candidates)
    if names != list(candidates):
        raise ValueError("expected candidates sorted by name")
    if count < 0:
        raise ValueError(f"expected a count of at least 0, got {count}")
    return names


@dataclass(frozen=True, kw_only=True)
class Uniform(Selector):
    """Every set of `count` candidates is equally likely."""

    def select(self, candidates: Sequence[str], count: int, stream: Stream, known: Mapping[str, ClientFacts]) -> list[str]:
        """The clients of a round; see `Selector.select`."""
        names = checked(candidates, count)
        if count >= len(names):
            return names
        chosen = stream.generator().choice(len(names), size=count, replace=False)
        return [names[index] for index in sorted(chosen)]


@dataclass(frozen=True, kw_only=True)
class RoundRobin(Selector):
    """In turn: those whose last round is longest ago, by name among equals."""

    def select(self, candidates: Sequence[str], count: int, stream: Stream, known: Mapping[str, ClientFacts]) -> list[str]:
        """The clients of a round; see `Selector.select`."""
        names = checked(candidates, count)
        return sorted(sorted(names, key=lambda name: (known[name].last_round or 0, name))[:count])


@dataclass(frozen=True, kw_only=True)
class Fastest(Selector):
    """The fastest first, of all or of some drawn at random (as FedCS does: T. Nishio, R. Yonetani, ICC 2019).

    FedCS plans uploads one after another; here they share links, and speed is that of a client alone. The same fast clients are
    chosen again and again unless some are drawn first: slow clients' data is then hardly learnt.

    Args:
        by: round, the expected time of download, training and upload; or link, the rate of the way to the server, then its latency.
        deadline: leave out whom a round is expected to take longer; none leaves out nobody. If all are too slow, the fastest one is taken.
        factor: draw this many times the number wanted, rounded up, and choose among them; none chooses among all.
    """

    by: Literal["round", "link"] = "round"
    deadline: Duration | None = None
    factor: Annotated[float, annotated_types.Ge(1)] | None = None

    def __post_init__(self) -> None:
        if self.deadline is not None and self.deadline <= 0:
            raise ValueError("deadline: expected a duration greater than 0")

    def select(self, candidates: Sequence[str], count: int, stream: Stream, known: Mapping[str, ClientFacts]) -> list[str]:
        """The clients of a round; see `Selector.select`."""
        names = checked(candidates, count)
        if self.factor is not None:
            names = Uniform().select(names, math.ceil(round(self.factor * count, 9)), stream, known)

        def slowness(name: str) -> tuple[float, float, str]:
            facts = known[name]
            return (facts.expected_s, 0.0, name) if self.by == "round" else (-facts.rate_bps, facts.latency_s, name)

        ordered = sorted(names, key=slowness)
        if self.deadline is not None:
            in_time = [name for name in ordered if known[name].expected_s <= self.deadline]
            ordered = in_time or sorted(names, key=lambda name: (known[name].expected_s, name))[:1]
        return sorted(ordered[:count])


SELECTORS = Family(
    "selectors",
    {
        "uniform": "netfl.learning.select:Uniform",
        "round_robin": "netfl.learning.select:RoundRobin",
        "fastest": "netfl.learning.select:Fastest",
        "oort": "netfl.learning.select_by_loss:Oort",
        "power_of_choice": "netfl.learning.select_by_loss:PowerOfChoice",
    },
)
