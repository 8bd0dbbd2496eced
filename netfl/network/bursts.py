"""Loss of packets in bursts over time: a link's direction that is good for a while and bad for a while.

Nothing here ticks: the state is a function of time, drawn by the link's name as far as somebody asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Lt

from netfl.network.outages import ExponentialOutages, Timeline
from netfl.randomness import Stream, Streams
from netfl.units import Duration

if TYPE_CHECKING:
    from netfl.network.routes import Hop, Route

__all__ = ["BurstyLoss", "LossBursts", "LossChains", "RouteLoss"]


@dataclass(frozen=True, kw_only=True)
class LossBursts:
    """A loss that comes in bursts: a chain of a good and a bad state over time, in its stationary state from time 0.

    Gilbert, Bell System Technical Journal 1960, and Elliott 1963, whose chain takes a step a packet; here it moves in continuous time, whether
    packets pass or not, as fading and interference do, so stays are exponential. Each direction has a chain of its own (a choice).

    Args:
        mean_good: seconds for which it stays good, on average.
        mean_bad: seconds for which it stays bad, on average.
        loss_in_bad: probability that a packet is lost in the bad state.
        loss_in_good: probability that a packet is lost in the good state.
        direction: which direction loses packets so.
    """

    mean_good: Duration
    mean_bad: Duration
    loss_in_bad: Annotated[float, Ge(0), Lt(1)]
    loss_in_good: Annotated[float, Ge(0), Lt(1)] = 0.0
    direction: Literal["up", "down", "both"] = "both"

    def __post_init__(self) -> None:
        for name in ("mean_good", "mean_bad"):
            if not (0 < getattr(self, name) < math.inf):
                raise ValueError(f"expected {name} above 0 s, got {getattr(self, name)!r}")
        for name in ("loss_in_bad", "loss_in_good"):
            if not (0 <= getattr(self, name) < 1):
                raise ValueError(f"expected {name} of at least 0 and below 1, got {getattr(self, name)!r}")
        if self.direction not in ("up", "down", "both"):
            raise ValueError(f"expected direction up, down or both, got {self.direction!r}")

    @property
    def mean_loss(self) -> float:
        """The mean over time."""
        bad = self.mean_bad / (self.mean_good + self.mean_bad)
        return self.loss_in_good + bad * (self.loss_in_bad - self.loss_in_good)

    def good(self, stream: Stream) -> Timeline:
        """When it is in the good state, in one run."""
        return ExponentialOutages(mean_up=self.mean_good, mean_down=self.mean_bad).timeline(stream)


class BurstyLoss:
    """The loss of one direction of a link in one run. Made by `LossChains.of`."""

    def __init__(self, bursts: LossBursts, states: Stream, frames: Stream) -> None:
        self._bursts = bursts
        self._good = bursts.good(states)
        self._frames = frames

    @cached_property
    def _draws(self) -> np.random.Generator:
        return self._frames.generator()

    def at(self, time_s: float) -> float:
        """The probability that a packet is lost at this instant."""
        return self._bursts.loss_in_good if self._good.up_at(time_s) else self._bursts.loss_in_bad

    def next_change_s(self, time_s: float) -> float:
        """The first change strictly after this instant."""
        return self._good.next_change_s(time_s)

    def lost(self, time_s: float) -> bool:
        """Whether a packet of this instant is lost: one draw."""
        return bool(self._draws.random() < self.at(time_s))


class RouteLoss:
    """The loss on the way of a route, where that changes over time. Made by `LossChains.on`."""

    def __init__(self, constant: float, chains: Sequence[BurstyLoss]) -> None:
        self._arrives = 1.0 - constant
        self._chains = chains

    def at(self, time_s: float) -> float:
        """The probability that a packet is lost on the way at this instant."""
        arrives = self._arrives
        for chain in self._chains:
            arrives *= 1.0 - chain.at(time_s)
        return 1.0 - arrives

    def next_change_s(self, time_s: float) -> float:
        """The first change strictly after this instant."""
        return min(chain.next_change_s(time_s) for chain in self._chains)


class LossChains:
    """The chains of one run: each is drawn by the name of its link and direction when something first crosses that.

    Args:
        streams: of the run.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._chains: dict[tuple[str, bool], BurstyLoss] = {}

    def of(self, hop: Hop) -> BurstyLoss:
        """The loss of a hop that has bursts."""
        key = (hop.link.name, hop.forward)
        found = self._chains.get(key)
        if found is None:
            assert hop.bursts is not None
            way = "up" if hop.forward else "down"
            streams = (self._streams.stream("bursts", what, hop.link.name, way) for what in ("states", "frames"))
            found = self._chains[key] = BurstyLoss(hop.bursts, *streams)
        return found

    def on(self, route: Route) -> RouteLoss | None:
        """The loss on a route; None if it does not change over time."""
        if all(hop.bursts is None for hop in route.hops):
            return None
        arrives = math.prod(1.0 - hop.loss for hop in route.hops if hop.bursts is None)
        return RouteLoss(1.0 - arrives, [self.of(hop) for hop in route.hops if hop.bursts is not None])
