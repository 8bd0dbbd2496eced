"""One request that several devices answer together, simulated on an idle network before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from netfl.codecs import Compressor, Pipeline, dense_bytes
from netfl.learning.trainer import Sgd
from netfl.placement.stages import Cluster, StagedPlacement
from netfl.workloads.arrivals import Once
from netfl.workloads.cooperating import Cooperating, Spent, UnderWay
from netfl.workloads.cooperative import Cooperative
from netfl.workloads.inference import Answers
from netfl.workloads.session import Session

__all__ = ["idle_request", "reckoned_lengths"]


def reckoned_lengths(settings: Cooperative, placement: StagedPlacement) -> list[int]:
    """Wire bytes of every message but the reply, in the placement's order; what depends on the values is left out, as planners do."""
    pipeline = Pipeline(tuple(stage for stage in settings.activations if not isinstance(stage, Compressor)))
    found = []
    for crossing in placement.crossings:
        if crossing.what != "reply":
            stated = pipeline.encoded_bytes(crossing.values)
            found.append(dense_bytes(crossing.values) if stated is None else stated)
    return found


def idle_request(session: Session, settings: Cooperative, cluster: Cluster, placement: StagedPlacement) -> Spent:
    """Where the time of one request goes when nothing else happens, with transport `fluid` and no outages.

    Args:
        session: of a run, whose network is taken.
        settings: of the workload.
        cluster: who answers.
        placement: what each of them does.
    """
    world_of = session.rehearse
    assert world_of is not None
    bare, _ = world_of(0, session.store, True)
    # No model answers here, so that it does not matter which one is shared.
    alone = replace(
        settings,
        arrivals=Once(),
        sources=(cluster.source,),
        model=None,
        per_source=None,
        pretrained=settings.pretrained or Sgd(learning_rate=0.1),
    )
    tried = _Tried(alone, bare, "rehearsal")
    tried.answering = _Foreseen(settings, placement, session.task.facts.num_test)
    bare.world.env.process(tried.run())
    while tried.ended is None:
        bare.world.env.step()
    return tried.ended


@dataclass(frozen=True)
class _Foreseen:
    """An `Answering` that knows lengths, and is always right."""

    settings: Cooperative
    foreseen: StagedPlacement
    num_samples: int

    def placement(self, cluster: Cluster) -> StagedPlacement:
        return self.foreseen

    def preparation(self, cluster: Cluster) -> None:
        """Nothing: there is no model."""

    def answers(self, cluster: Cluster, present: tuple[bool, ...]) -> Answers:
        lengths = np.array(reckoned_lengths(self.settings, self.foreseen), dtype=np.int64)
        return Answers(np.ones(self.num_samples, dtype=bool), np.repeat(lengths[:, None], self.num_samples, axis=1))


class _Tried(Cooperating):
    """A workload of which only the end of its one request is wanted."""

    ended: Spent | None = None

    def end(self, request: UnderWay, outcome: str, spent: Spent, correct: bool | None = None) -> None:
        del self.open[request.number]
        request.over.succeed()
        self.ended = spent
