"""Models whose layers several devices share, and that answer as the whole model does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from netfl.codecs import Pipeline
from netfl.errors import NetflError
from netfl.placement.stages import Cluster, Portions, StagedPlacement, check_memory
from netfl.store import Recipe
from netfl.workloads.cooperative_values import filter_answers, filter_portions
from netfl.workloads.inference import Answers
from netfl.workloads.session import Session

__all__ = ["FilterSplit"]


@dataclass(frozen=True, kw_only=True)
class FilterSplit:
    """Every layer split over the workers by filters: each has an equal share of every layer's output channels, and all exchange theirs.

    The contrast to `students`: nothing is learnt anew and no answer is lost, but workers wait for each other at every convolution.
    Exchanges are as late and as small as they can be (after activations and pooling), and the last layer is run by the device that
    joins. Without codecs the answers are the whole model's up to rounding.

    Args:
        inputs: sent, the asking device sends the sample to every worker; everywhere, each worker has the sample already.
    """

    inputs: Literal["sent", "everywhere"] = "sent"

    @property
    def wait_s(self) -> float | None:
        """See `Cooperation.wait_s`."""
        return None

    def problems(self, session: Session, clusters: Sequence[Cluster]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """See `Cooperation.problems`."""
        for cluster in clusters:
            try:
                check_memory(self._placement(session, cluster), cluster.tiers)
            except NetflError as error:
                yield (), f"for '{cluster.source}': {error}"

    def answering(self, session: Session, name: str, model: Recipe, activations: Pipeline) -> _Split:
        """See `Cooperation.answering`."""
        return _Split(self, session, name, model, activations)

    def _placement(self, session: Session, cluster: Cluster) -> StagedPlacement:
        portions: Portions = session.store.force(filter_portions(session.task.model, session.task.dataset, len(cluster.workers)))
        return portions.placement(cluster, "filter_split", session.task.facts.num_classes, self.inputs == "everywhere")


class _Split:
    """See `Answering`."""

    def __init__(self, settings: FilterSplit, session: Session, name: str, model: Recipe, activations: Pipeline) -> None:
        self.settings = settings
        self.session = session
        self.name = name
        self.model = model
        self.activations = activations

    def placement(self, cluster: Cluster) -> StagedPlacement:
        """See `Answering.placement`."""
        return self.settings._placement(self.session, cluster)

    def answers(self, cluster: Cluster, present: tuple[bool, ...]) -> Answers:
        """See `Answering.answers`; everybody must be present."""
        assert all(present)
        task = self.session.task
        exact = tuple(self.settings.inputs == "everywhere" or worker == cluster.source for worker in cluster.workers)
        join_place = cluster.workers.index(cluster.join) if cluster.join in cluster.workers else -1
        stream = self.session.world.streams.stream("activations", self.name)
        found: Answers = self.session.store.force(
            filter_answers(task.model, task.dataset, self.model, exact, join_place, self.activations, stream)
        )
        return found
