"""The books of differential privacy: how often which records were summed up with noise."""

from __future__ import annotations

from collections import Counter

from netfl.learning.aggregators import Aggregator
from netfl.learning.select import Selector, Uniform
from netfl.learning.trainer import Trainer
from netfl.trace import NoisySums, Trace

__all__ = ["ClientBooks", "SampleBooks"]


class ClientBooks:
    """Of a hub whose aggregator adds noise to the sum of updates.

    Args:
        aggregator: which has a `noise_multiplier` and a `delta`, or nothing is written.
        selector: only one that draws every set of clients alike hides who takes part; with others each sum is taken to be over all.
        total: how many clients there are.
    """

    def __init__(self, aggregator: Aggregator, selector: Selector, total: int) -> None:
        self._aggregator = aggregator
        self._is_drawn = isinstance(selector, Uniform)
        self._total = total
        self._sampled = 0
        self._sums = 0

    def aggregated(self, asked: int) -> None:
        """One more round, of so many clients."""
        self._sampled = max(self._sampled, asked if self._is_drawn else self._total)
        self._sums += 1

    def write(self, workload: str, trace: Trace) -> None:
        """At the end."""
        if self._sums and hasattr(self._aggregator, "noise_multiplier"):
            trace.append(
                NoisySums(
                    workload=workload, records="clients", noise_multiplier=self._aggregator.noise_multiplier, sampled=self._sampled,
                    total=self._total, sums=self._sums, delta=self._aggregator.delta,  # type: ignore[attr-defined]
                )
            )  # fmt: skip


class SampleBooks:
    """Of clients whose trainer adds noise to the sum of samples' gradients.

    Args:
        trainer: which has a `noise_multiplier` and a `delta`, or nothing is written.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._turns: Counter[str] = Counter()
        self._num_samples: dict[str, int] = {}

    def trained(self, client: str, num_samples: int) -> None:
        """A client trained once more; whether its update arrived does not matter."""
        if hasattr(self._trainer, "noise_multiplier"):
            self._turns[client] += 1
            self._num_samples[client] = num_samples

    def write(self, workload: str, trace: Trace) -> None:
        """At the end, for clients to whom no other had both a larger sampled share and more sums."""
        trainer = self._trainer
        if not hasattr(trainer, "noise_multiplier"):
            return
        found = set()
        for client, turns in self._turns.items():
            count = self._num_samples[client]
            found.add((min(trainer.batch_size, count), count, turns * trainer.steps(count)))
        for sampled, total, sums in sorted(found):
            worse = [each for each in found if each[0] * total >= sampled * each[1] and each[2] >= sums]
            if all((each[0] * total, each[2]) == (sampled * each[1], sums) for each in worse):
                trace.append(
                    NoisySums(
                        workload=workload, records="samples", noise_multiplier=trainer.noise_multiplier, sampled=sampled, total=total,
                        sums=sums, delta=trainer.delta,  # type: ignore[attr-defined]
                    )
                )  # fmt: skip
