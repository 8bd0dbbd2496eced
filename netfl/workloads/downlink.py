"""What the server sends at the beginning of a round, and what each client holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from netfl.codecs import Pipeline, dense_bytes
from netfl.learning import values
from netfl.randomness import Stream
from netfl.store import Recipe, Store

__all__ = ["Broadcast", "Downlink"]


@dataclass(frozen=True)
class Broadcast:
    """One round's downlink encoding; all receivers get the same bytes.

    Args:
        number: counted from 1.
        payload_bytes: length of the encoding.
        decoded: recipe of the model that a receiver makes of it, (P,).
    """

    number: int
    payload_bytes: int
    decoded: Recipe


@dataclass
class Downlink:
    """Models, or with a sparsifier deltas to the model of the broadcast before.

    A sparse encoding of a model would lose most of it, so a pipeline with a sparsifier encodes the change against what
    receivers hold. What an encoding of a delta loses stays in the next difference; what an encoding of a model loses is
    added to the next model (error feedback). A receiver that missed broadcasts gets all that it missed, or the dense model
    when that is shorter. Without codecs a model arrives bit for bit, so nothing is encoded.

    Args:
        pipeline: the codecs.
        num_values: length of the model, P.
        error_feedback: whether losses of encoded models are carried on.
        stream: draws the rounding; the broadcast's number is added to its name.
        store: for lengths that depend on the data.
    """

    pipeline: Pipeline
    num_values: int
    error_feedback: bool
    stream: Stream
    store: Store
    _lengths: list[int] = field(default_factory=list)
    _newest: Broadcast | None = None
    _held: dict[str, int] = field(default_factory=dict)
    _carried: Recipe | None = None

    def begin(self, model: Recipe, receivers: Iterable[str]) -> None:
        """Everyone holds this model already: nothing is sent for it."""
        self._newest = Broadcast(1, 0, model)
        self._lengths.append(0)
        for receiver in receivers:
            self.received(receiver, 1)

    def broadcast(self, model: Recipe) -> Broadcast:
        """Encode a model for a round."""
        number = len(self._lengths) + 1
        stream, pipeline = self.stream.child(number), self.pipeline.at_round(number)
        if not pipeline.stages:
            newest = Broadcast(number, dense_bytes(self.num_values), model)
        elif not self.pipeline.sparse:
            feedback = self.error_feedback and not self.pipeline.lossless
            encoded = values.encode(pipeline, model, self._carried, stream, feedback)
            self._carried = values.residual(encoded) if feedback else None
            newest = Broadcast(number, self._length(pipeline, encoded), values.decoded(encoded))
        elif self._newest is None:
            newest = Broadcast(number, dense_bytes(self.num_values), model)
        else:
            held = self._newest.decoded
            encoded = values.encode(pipeline, values.difference(model, held), None, stream)
            newest = Broadcast(number, self._length(pipeline, encoded), values.total(held, values.decoded(encoded)))
        self._newest = newest
        self._lengths.append(newest.payload_bytes)
        return newest

    def payload_bytes(self, client: str) -> int:
        """How many bytes bring a client up to the newest broadcast."""
        if not self.pipeline.sparse:
            return self._lengths[-1]
        held = self._held.get(client, 0)
        if held == 0:
            return dense_bytes(self.num_values)
        return min(dense_bytes(self.num_values), sum(self._lengths[held:]))

    def received(self, client: str, number: int) -> None:
        """A client decoded a broadcast."""
        self._held[client] = max(self._held.get(client, 0), number)

    def _length(self, pipeline: Pipeline, encoded: Recipe) -> int:
        length = pipeline.encoded_bytes(self.num_values)
        return int(self.store.force(values.payload_bytes(encoded))) if length is None else length
