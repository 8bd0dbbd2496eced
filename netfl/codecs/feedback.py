"""Error feedback: what a lossy pipeline drops now is added to what it encodes next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netfl.codecs.pipeline import Pipeline, Vector

__all__ = ["Encoded", "encode_with_feedback"]


@dataclass(frozen=True)
class Encoded:
    """One encoding and what it lost.

    With a pipeline that has a momentum the two vectors that are carried on are twice as long, (2n,): what is owed, and then the
    velocity of each value.

    Args:
        payload: the bytes.
        decoded: (n,) float32, what a receiver makes of the payload.
        residual: (n,) float32, `input` less what was sent: the next residual if the receiver accepts the payload.
        input: (n,) float32, the values with the residual before: the next residual if it does not.
    """

    payload: bytes
    decoded: Vector
    residual: Vector
    input: Vector


def encode_with_feedback(
    pipeline: Pipeline, values: Vector, residual: Vector | None, generator: np.random.Generator, decay: float = 1.0
) -> Encoded:
    """Encode `values + residual` with the whole pipeline and say what was lost.

    What was sent is what a receiver decodes, but for a private release what it would decode without the noise.

    Source: Karimireddy et al., "Error feedback fixes SignSGD and other gradient compression schemes", ICML 2019. With a momentum
    m: velocity = m velocity + values, and the sum of velocities is what is owed; the velocity of a value that is sent starts
    again at 0 (Lin et al., "Deep gradient compression", ICLR 2018).

    Args:
        pipeline: the codec.
        values: (n,) float32.
        residual: (n,) or (2n,) float32, what earlier payloads lost; None for nothing.
        generator: where the pipeline draws from.
        decay: share of what was lost that is carried on; 1 loses nothing.

    Raises:
        CodecError: the pipeline cannot encode the sum.
    """
    if pipeline.momentum is None:
        total = values if residual is None else values + residual
        made = pipeline.encode_fully(total, generator)
        # A diverged update's infinities less themselves would be no numbers.
        lost = np.zeros_like(total) if pipeline.lossless else _decayed(total - made.sent, decay)
        return Encoded(payload=made.payload, decoded=made.decoded, residual=lost, input=total)
    owed, velocity = np.split(np.zeros(2 * len(values), np.float32) if residual is None else residual, 2)
    velocity = np.float32(pipeline.momentum) * velocity + values
    total = owed + velocity
    made = pipeline.encode_fully(total, generator)
    kept_velocity = velocity.copy()
    kept_velocity[made.places] = 0
    return Encoded(
        payload=made.payload,
        decoded=made.decoded,
        residual=np.concatenate([_decayed(total - made.sent, decay), kept_velocity]),
        input=np.concatenate([total, velocity]),
    )


def _decayed(lost: Vector, decay: float) -> Vector:
    return lost if decay == 1 else np.float32(decay) * lost
