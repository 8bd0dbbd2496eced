"""The model that a serving workload serves: where it comes from, what its way to the pieces costs, and what the pieces answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netfl.codecs import Pipeline
from netfl.errors import CodecError, RunError
from netfl.learning import values
from netfl.learning.lessons import Distilled
from netfl.placement import Placement
from netfl.store import Recipe
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
        self.profile = profile_of(session.task.model, session.task.dataset)
        self.results: dict[tuple[tuple[int, ...], tuple[int, ...], int], Answers] = {}
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
        if isinstance(trainer, Distilled):
            model = trainer.model(task.model, task.dataset, task.facts, first, stream)
        else:
            start = values.initial_model(task.model, task.dataset, first)
            model = values.total(start, values.fit(trainer, task.model, start, task.dataset, None, stream))
        feed = ModelFeed(self.session.world.env, self.settings.server)
        feed.publish(0, model)
        return feed

    def message_bytes(self, version: int, nodes: set[int]) -> int:
        """Length of the message that brings these nodes' parameters of a version."""
        lengths = node_bytes(self.updates, self.session.task.profile)
        if lengths is None:
            lengths = self.session.store.force(served_bytes(self._weights(version)))
        return sum(lengths[node] for node in nodes)

    def answers(self, placement: Placement, version: int) -> Answers:
        """What the pieces of a placement answer with a version of the model; forced once.

        Raises:
            RunError: the model's activations cannot be encoded.
        """
        cuts, order = placement.cuts, placement.order
        if (cuts, order, version) not in self.results:
            task = self.session.task
            stream = self.session.world.streams.stream("activations", self.name, version, *cuts, *(f"node {place}" for place in order))
            weights = self._weights(version)
            result = infer(task.model, task.dataset, self.profile, cuts, order, weights, self.crossing, stream)
            try:
                self.results[cuts, order, version] = self.session.store.force(result)
            except CodecError as error:
                raise RunError(
                    f"workload '{self.name}': version {version} of the model cannot be served: {error}; has it diverged?"
                ) from error
        return self.results[cuts, order, version]

    def _weights(self, version: int) -> Recipe:
        stream = self.session.world.streams.stream("served", self.name, version)
        return served(self.updates, self.profile, self.feed.models[version], stream)
