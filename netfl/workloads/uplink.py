"""Updates on their way to a hub, and what their senders add to the next ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netfl.codecs import Stage
from netfl.learning import values
from netfl.store import Recipe

if TYPE_CHECKING:
    from netfl.workloads.federated import Training

__all__ = ["Uplink"]


class Uplink:
    """The codecs of updates with error feedback: what an encoding lost, or all of it if it was not accepted, is carried on.

    Without codecs an update arrives bit for bit, so nothing is encoded: what was sent is the update itself.

    Args:
        training: what the updates belong to.
        stages: the codecs.
        error_feedback: whether anything is carried on.
        residual_decay: which share of it.
    """

    def __init__(self, training: Training, stages: tuple[Stage, ...], error_feedback: bool, residual_decay: float) -> None:
        self.pipeline = training.pipeline(stages)
        self._training = training
        self._feedback = error_feedback and not self.pipeline.lossless
        self._decay = residual_decay
        self._residuals: dict[str, Recipe] = {}

    def encode(self, sender: str, update: Recipe, turn: int) -> tuple[Recipe, int]:
        """An update as it is sent at the sender's `turn`-th time, or in that round: what is sent and its length."""
        training, pipeline = self._training, self.pipeline.at_round(turn)
        if not pipeline.stages:
            return update, training.payload_bytes(pipeline, update)
        stream = training.world.streams.stream("uplink", training.name, sender, turn)
        encoded = values.encode(pipeline, update, self._residuals.get(sender), stream, self._feedback, self._decay)
        training.released(sender, pipeline)
        return encoded, training.payload_bytes(pipeline, encoded)

    def decoded(self, sent: Recipe) -> Recipe:
        """The vector (P,) that the hub makes of what was sent, or an `Update`."""
        return values.decoded(sent) if self.pipeline.stages else sent

    def settle(self, sender: str, sent: Recipe, accepted: bool) -> None:
        """The hub took what was sent or did not."""
        if self._feedback:
            self._residuals[sender] = values.residual(sent) if accepted else values.unsent(sent)
