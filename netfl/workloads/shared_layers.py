"""Models whose layers several devices share, and that answer as the whole model does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from netfl.codecs import Pipeline
from netfl.errors import NetflError
from netfl.placement.stages import Cluster, Portions, StagedPlacement, check_memory
from netfl.store import Recipe
from netfl.workloads.cooperation import COOPERATIONS
from netfl.workloads.cooperative_values import filter_answers, filter_portions, tile_answers, tile_portions
from netfl.workloads.inference import Answers
from netfl.workloads.session import Session

__all__ = ["FilterSplit", "Tiles"]


class _SharedLayers:
    """What both have in common."""

    inputs: Literal["sent", "everywhere"]
    looks_at_model: ClassVar = False

    @property
    def wait_s(self) -> float | None:
        """See `Cooperation.wait_s`."""
        return None

    def problems(self, session: Session, clusters: Sequence[Cluster]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """See `Cooperation.problems`."""
        for cluster in clusters:
            try:
                self.foreseen(session, cluster)
            except NetflError as error:
                yield (), f"for '{cluster.source}': {error}"

    def foreseen(self, session: Session, cluster: Cluster) -> StagedPlacement:
        """See `Cooperation.foreseen`."""
        placement = self.placement(session, cluster)
        check_memory(placement, cluster.tiers)
        return placement

    def answering(self, session: Session, name: str, model: Recipe, activations: Pipeline) -> _Answering:
        """See `Cooperation.answering`."""
        return _Answering(self, session, name, model, activations)

    def portions(self, session: Session, cluster: Cluster) -> Recipe:
        """The recipe of the `Portions`."""
        raise NotImplementedError

    def answers(
        self, session: Session, cluster: Cluster, model: Recipe, activations: Pipeline, name: str, exact: tuple[bool, ...], join_place: int
    ) -> Recipe:
        """The recipe of the `Answers`."""
        raise NotImplementedError

    def placement(self, session: Session, cluster: Cluster) -> StagedPlacement:
        """What each device computes and sends."""
        portions: Portions = session.store.force(self.portions(session, cluster))
        return portions.placement(cluster, COOPERATIONS.kind_of(self), session.task.facts.num_classes, self.inputs == "everywhere")


@dataclass(frozen=True, kw_only=True)
class FilterSplit(_SharedLayers):
    """Every layer split over the workers by filters: each has an equal share of every layer's output channels, and all exchange theirs.

    The contrast to `students`: nothing is learnt anew and no answer is lost, but workers wait for each other at every convolution.
    Exchanges are as late and as small as they can be (after activations and pooling), and the last layer is run by the device that
    joins. Without codecs the answers are the whole model's up to rounding.

    Args:
        inputs: sent, the asking device sends the sample to every worker; everywhere, each worker has the sample already.
    """

    inputs: Literal["sent", "everywhere"] = "sent"

    def portions(self, session: Session, cluster: Cluster) -> Recipe:
        """See `_SharedLayers`."""
        return filter_portions(session.task.model, session.task.dataset, len(cluster.workers))

    def answers(
        self, session: Session, cluster: Cluster, model: Recipe, activations: Pipeline, name: str, exact: tuple[bool, ...], join_place: int
    ) -> Recipe:
        """See `_SharedLayers`."""
        stream = session.world.streams.stream("activations", name)
        return filter_answers(session.task.model, session.task.dataset, model, exact, join_place, activations, stream)


@dataclass(frozen=True, kw_only=True)
class Tiles(_SharedLayers):
    """The first layers split over the workers by rows of their maps, fused: a worker needs some rows of the sample and nothing of the others.

    Each worker has rows of the last of these maps in proportion to its speed, computes all that they depend on, overlaps included, and
    sends its rows to the device that joins, which runs the rest: all from the first layer on that looks at whole maps (group
    normalisation is one). Fused tiles of rows as in DeepThings (Z. Zhao et al., IEEE TCAD 2018) and MoDNN (J. Mao et al., DATE 2017).
    Without codecs the answers are the whole model's up to rounding.

    Args:
        inputs: sent, the asking device sends each worker its rows; everywhere, each worker has the sample already.
    """

    inputs: Literal["sent", "everywhere"] = "sent"

    def portions(self, session: Session, cluster: Cluster) -> Recipe:
        """See `_SharedLayers`."""
        return tile_portions(session.task.model, session.task.dataset, _speeds(cluster))

    def answers(
        self, session: Session, cluster: Cluster, model: Recipe, activations: Pipeline, name: str, exact: tuple[bool, ...], join_place: int
    ) -> Recipe:
        """See `_SharedLayers`."""
        stream = session.world.streams.stream("activations", name)
        return tile_answers(session.task.model, session.task.dataset, model, _speeds(cluster), exact, join_place, activations, stream)


def _speeds(cluster: Cluster) -> tuple[float, ...]:
    return tuple(cluster.tiers[worker].flop_per_s for worker in cluster.workers)


@dataclass(frozen=True)
class _Answering:
    """See `Answering`."""

    settings: _SharedLayers
    session: Session
    name: str
    model: Recipe
    activations: Pipeline

    def placement(self, cluster: Cluster) -> StagedPlacement:
        """See `Answering.placement`."""
        return self.settings.placement(self.session, cluster)

    def preparation(self, cluster: Cluster) -> None:
        """See `Answering.preparation`: the model's own parameters are sent."""

    def answers(self, cluster: Cluster, present: tuple[bool, ...]) -> Answers:
        """See `Answering.answers`; everybody must be present."""
        assert all(present)
        exact = tuple(self.settings.inputs == "everywhere" or worker == cluster.source for worker in cluster.workers)
        join_place = cluster.workers.index(cluster.join) if cluster.join in cluster.workers else -1
        wanted = self.settings.answers(self.session, cluster, self.model, self.activations, self.name, exact, join_place)
        found: Answers = self.session.store.force(wanted)
        return found
