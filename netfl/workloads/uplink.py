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
        """An update as it is sent at the sender's `turn`-th time, or in that round: the encoding and its length."""
        training, pipeline = self._training, self.pipeline.at_round(turn)
        stream = training.world.streams.stream("uplink", training.name, sender, turn)
        encoded = values.encode(pipeline, update, self._residuals.get(sender), stream, self._feedback, self._decay)
        training.released(sender, pipeline)
        return encoded, training.payload_bytes(pipeline, encoded)

    def settle(self, sender: str, encoded: Recipe, accepted: bool) -> None:
        """The hub took an update or did not."""
        if self._feedback:
            self._residuals[sender] = values.residual(encoded) if accepted else values.unsent(encoded)
