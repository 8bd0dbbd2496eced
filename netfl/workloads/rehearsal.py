"""Placements tried out: one request on an idle network, or a while of the whole scenario with other random numbers.

Nothing is trained and no model runs: models, updates and activations are their lengths. So a rehearsal costs what its events cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from netfl.errors import NetflError
from netfl.learning import values
from netfl.learning.trainer import Evaluation
from netfl.placement import Placement
from netfl.placement.plan import crossing_bytes
from netfl.store import Recipe, Store
from netfl.workloads.arrivals import Once
from netfl.workloads.inference import Answers, node_bytes
from netfl.workloads.requests import Requests
from netfl.workloads.served_model import ServedModel
from netfl.workloads.serving import Asked, Serving
from netfl.workloads.session import ModelFeed, Session

__all__ = ["idle_latency_s", "tail_latency_s"]

_QUANTILE = 0.95
_COUNTED = 0.8
_UNANSWERED_S = 1e9
"""What stands for a latency without end; the share of such requests is added, so that fewer are better."""


def idle_latency_s(session: Session, settings: Requests, source: str, placement: Placement) -> float:
    """The simulated latency of one request when nothing else happens, hop by hop, with transport `fluid` and no outages.

    Args:
        session: of the run, whose network is taken.
        settings: of the serving workload.
        source: who asks.
        placement: of the source's requests.
    """
    world_of = session.rehearse
    assert world_of is not None
    bare, _ = world_of(0, _Lengths(session.store), True)
    alone = replace(settings, arrivals=Once(), sources=(source,), failover=None)
    tried = _Tried(alone, bare, "rehearsal", {source: placement})
    bare.world.env.process(tried.run())
    while not tried.ended:
        bare.world.env.step()
    return tried.ended[0][1]


def tail_latency_s(
    session: Session, settings: Requests, name: str, placements: Mapping[str, Placement], horizon_s: float, rollouts: int
) -> float:
    """The 95th percentile of the latency of a serving workload's requests in rehearsals of the whole scenario.

    Args:
        session: of the run, whose scenario is rehearsed from its beginning, with the random numbers of other replicates.
        settings: of the serving workload.
        name: of the workload.
        placements: of every source.
        horizon_s: simulated time of each rehearsal.
        rollouts: how many.
    """
    world_of = session.rehearse
    assert world_of is not None
    latencies: list[float] = []
    for number in range(1, rollouts + 1):
        tried_session, workloads = world_of(number, _Lengths(session.store), False)
        trainings_first = sorted(workloads.items(), key=lambda item: item[1].role != "training")
        tried: _Tried | None = None
        for other, workload in trainings_first:
            if other == settings.after:
                continue  # it is over when the requests come
            if other == name:
                tried = _Tried(replace(settings, after=None), tried_session, name, placements)
                process = tried.run()
            elif isinstance(workload, Requests):
                process = _Tried(replace(workload, after=None), tried_session, other, _planned(workload, tried_session)).run()
            else:
                process = workload.start(tried_session, other)
            tried_session.world.env.process(process)
        assert tried is not None
        env = tried_session.world.env
        while env.peek() <= horizon_s:
            env.step()
        counted = [took_s for arrival_s, took_s in tried.ended if arrival_s <= _COUNTED * horizon_s]
        endless = [asked for asked in tried.open.values() if asked.arrival_s <= _COUNTED * horizon_s]
        latencies += counted + [float("inf")] * len(endless)
    if not latencies:
        raise NetflError(f"workload '{name}': nobody asks within the horizon of planner simulate: make it longer")
    ordered = sorted(latencies)
    tail_s = ordered[min(len(ordered) - 1, int(_QUANTILE * len(ordered)))]
    if tail_s == float("inf"):
        return _UNANSWERED_S * (1 + sum(each == float("inf") for each in ordered) / len(ordered))
    return tail_s


def _planned(settings: Requests, session: Session) -> dict[str, Placement]:
    """Placements of another serving workload: its planner's, or the first candidate of one that would rehearse in turn."""
    return {source: settings.first_plan(session, source) for source in settings.asking(session)}


class _Lengths(Store):
    """A store that knows lengths and facts of the data, and computes nothing that would have to be trained."""

    def __init__(self, real: Store) -> None:
        super().__init__()
        self._real = real

    def force_all(self, wanted: Any, beside: Any = (), looks: bool = True) -> list[Any]:
        return [self._value(each) for each in wanted]

    def _value(self, wanted: Recipe) -> Any:
        name = wanted.function.name
        if name == "evaluate":
            return Evaluation(accuracy=0.0, loss=0.0)
        if name == "losses":  # taken to be finite: nobody has to train to see whether training diverges
            return (0.0,) * len(wanted.arguments[0])
        if name in ("dataset_facts", "shard_samples", "profile", "shards", "dataset", "sent_input_bytes"):
            return self._real.force(wanted)
        raise NetflError(f"planner simulate cannot foresee the load of this scenario: '{name}' depends on what is trained")

    def announce(self, recipes: Any) -> None:
        """Nothing will be computed."""

    def withdraw(self, recipes: Any) -> None:
        """Nothing was announced."""

    def settle(self, recipes: Any) -> None:
        """Nothing was announced."""


class _ForeseenModel(ServedModel):
    """What serves, as lengths: right answers, and no weights."""

    def feed_of(self) -> ModelFeed:
        if self.settings.model is not None and self.settings.model in self.session.feeds:
            return self.session.feeds[self.settings.model]
        feed = ModelFeed(self.session.world.env, self.settings.server)
        stream = self.session.world.streams.stream("initial model")
        feed.publish(0, values.initial_model(self.session.task.model, self.session.task.dataset, stream))
        return feed

    def message_bytes(self, version: int, nodes: set[int]) -> int:
        profile = self.session.task.profile
        lengths = node_bytes(self.updates, profile)
        # What an entropy coder saves depends on the weights: reckoned without it.
        return sum(lengths[node] if lengths is not None else profile.nodes[node].parameter_bytes for node in nodes)

    def answers(self, placement: Placement, version: int) -> Answers:
        key = (placement.cuts, placement.order, (), 0)
        if key not in self.results:
            encoded_bytes, _ = self.settings.lengths(self.session)
            placed = placement.arranged(self.settings.profile(self.session))
            sizes = [crossing_bytes(placed, cut, encoded_bytes) for cut in placement.cuts]
            count = self.session.task.facts.num_test
            self.results[key] = Answers(np.ones(count, dtype=bool), np.repeat(np.array(sizes, dtype=np.int64)[:, None], count, axis=1))
        return self.results[key]


class _Tried(Serving):
    """A serving workload whose placements are given, and whose latencies are all that is wanted."""

    def __init__(self, settings: Requests, session: Session, name: str, placements: Mapping[str, Placement]) -> None:
        super().__init__(settings, session, name, _ForeseenModel(settings, session, name), placements)
        self.ended: list[tuple[float, float]] = []

    def end(self, asked: Asked, outcome: str, correct: bool | None = None) -> None:
        del self.open[asked.number]
        self.ended.append((asked.arrival_s, self.world.now - asked.arrival_s if outcome == "answered" else float("inf")))
