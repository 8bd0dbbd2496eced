"""The model that a serving workload serves: where it comes from, what its way to the pieces costs, and what the pieces answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netfl.codecs import Pipeline
from netfl.errors import CodecError, RunError
from netfl.learning import values
from netfl.learning.exits import WithExits
from netfl.learning.lessons import Distilled
from netfl.placement import Placement
from netfl.placement.exits import ExitPlacement
from netfl.store import Recipe
from netfl.workloads.divergence import Trained, Unchecked
from netfl.workloads.exit_inference import exit_profile, infer_with_exits, vector_with_exits
from netfl.workloads.inference import Answers, infer, node_bytes, profile_of, served, served_bytes
from netfl.workloads.session import ModelFeed, Session

if TYPE_CHECKING:
    from netfl.workloads.requests import Requests

__all__ = ["ServedModel"]


class ServedModel:
    """What is known of the model that serves, forced from the store where it must be computed.

    Args:
        settings: of the serving workload.
        session: of the run.
        name: of the workload.
    """

    def __init__(self, settings: Requests, session: Session, name: str) -> None:
        self.settings = settings
        self.session = session
        self.name = name
        self.crossing = settings.crossing
        self.updates = Pipeline(settings.updates)
        self.network = None
        self.profile = profile_of(session.task.model, session.task.dataset)
        self.placed = session.task.profile
        if isinstance(settings.pretrained, WithExits):
            self.network = settings.pretrained.network(session.task.model)
            self.profile = exit_profile(self.network, session.task.dataset)
            self.placed = session.store.force(self.profile)
        self.results: dict[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int], Answers] = {}
        # One with exits was looked at when its exits were measured.
        self._unchecked = Unchecked(session.store, name, session.task.dataset)
        self.feed = self.feed_of()

    def feed_of(self) -> ModelFeed:
        """The models that serve, as they come to be."""
        if self.settings.model is not None:
            read = self.session.feeds[self.settings.model]
            read.is_read = True
            return read
        task, trainer, streams = self.session.task, self.settings.pretrained, self.session.world.streams
        assert trainer is not None
        first, stream = streams.stream("initial model"), streams.stream("pretrain", self.name)
        if isinstance(trainer, WithExits):
            model = vector_with_exits(self.session, trainer)
        elif isinstance(trainer, Distilled):
            model = trainer.model(task.model, task.dataset, task.facts, first, stream)
            self._unchecked.add(Trained("the teacher", "pretrained.teacher_trainer", *trainer.teaching(task.dataset, stream)))
            self._unchecked.add(Trained("the student", "pretrained.trainer", task.model, model))
        else:
            start = values.initial_model(task.model, task.dataset, first)
            model = values.total(start, values.fit(values.cohort(trainer, task.model, task.dataset, stream), start))
            self._unchecked.add(Trained("the pretrained model", "pretrained", task.model, model))
        feed = ModelFeed(self.session.world.env, self.settings.server)
        feed.publish(0, model)
        return feed

    def message_bytes(self, version: int, nodes: set[int]) -> int:
        """Length of the message that brings these nodes' parameters of a version.

        Raises:
            RunError: the length depends on the parameters, and their training has diverged.
        """
        lengths = node_bytes(self.updates, self.placed)
        if lengths is None:
            self._unchecked.check()
            lengths = self.session.store.force(served_bytes(self._weights(version)))
        return sum(lengths[node] for node in nodes)

    def answers(self, placement: Placement, version: int) -> Answers:
        """What the pieces of a placement answer with a version of the model; forced once.

        Raises:
            RunError: the model's training has diverged, or its activations cannot be encoded.
        """
        key = (placement.cuts, placement.order, placement.used if isinstance(placement, ExitPlacement) else (), version)
        if key not in self.results:
            self._unchecked.check()
            try:
                self.results[key] = self.session.store.force(self._answers(placement, version))
            except CodecError as error:
                raise RunError(
                    f"workload '{self.name}': version {version} of the model cannot be served: {error}; has it diverged?"
                ) from error
        return self.results[key]

    def _answers(self, placement: Placement, version: int) -> Recipe:
        task, cuts, order = self.session.task, placement.cuts, placement.order
        streams, weights = self.session.world.streams, self._weights(version)
        stream = streams.stream("activations", self.name, version, *cuts, *(f"node {place}" for place in order))
        if isinstance(placement, ExitPlacement):
            assert self.network is not None
            exits = (placement.used, placement.threshold)
            return infer_with_exits(self.network, *exits, task.dataset, self.profile, cuts, weights, self.crossing, stream)
        return infer(task.model, task.dataset, self.profile, cuts, order, weights, self.crossing, stream)

    def _weights(self, version: int) -> Recipe:
        stream = self.session.world.streams.stream("served", self.name, version)
        return served(self.updates, self.profile, self.feed.models[version], stream)
