"""Real split inference over many samples: what a placement and a codec make of a model's predictions and of the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from netfl.errors import NetflError
from netfl.placement.profile import Profile
from netfl.placement.split import OUTPUT, Split

__all__ = ["BATCH", "InferenceResult", "Receive", "Send", "infer"]

Send: TypeAlias = Callable[[NDArray[np.float32], str, int, int], tuple[int, bytes]]
"""From (values (V,) float32, the node that made them, boundary, sample counted from 0) to the bytes that count on the wire, and those that
its receiver gets."""

Receive: TypeAlias = Callable[[bytes, str], NDArray[np.float32]]
"""From (what was sent, the node that made it) to (V,) float32."""

BATCH = 64
"""Samples per batch: fixed, because the last bits of an output depend on the batch that it was computed in."""


@dataclass(frozen=True, kw_only=True)
class InferenceResult:
    """What came of running every sample through a split model.

    Args:
        predictions: (N,) int64, the class with the largest output.
        payload_bytes: (boundaries that carry something, N) int64; row k is what crosses from tier k to tier k + 1. Boundaries with
            no node behind them carry nothing and are the last ones, so they have no row.
    """

    predictions: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]


def infer(
    module: nn.Module,
    profile: Profile,
    cuts: tuple[int, ...],
    vector: NDArray[np.float32],
    inputs: NDArray[np.float32],
    send: Send,
    receive: Receive,
    *,
    split: Split | None = None,
) -> InferenceResult:
    """Run the pieces over all samples; whatever crosses a boundary crosses as bytes.

    Each crossing tensor of each sample is encoded and decoded by itself, and those that cross one boundary are summed in its
    payload. A tier without nodes is a relay: it forwards the bytes that it got and neither decodes nor encodes, so the boundary
    behind it carries the same payload.

    Args:
        module: the model.
        profile: `trace(module, ...)`.
        cuts: as in `Placement.cuts`.
        vector: (P,) weights.
        inputs: (N, *sample_shape).
        send: what becomes of one tensor of one sample.
        receive: what is made of it.
        split: `Split(module, profile, cuts)` where the caller has it already; tracing again is most of the cost of a small model.

    Raises:
        NetflError: an output that is not (N, classes), or a decoder that returns another number of values than were encoded.
    """
    if split is None:
        split = Split(module, profile, cuts)
    borders = (*cuts, len(profile.nodes))
    used = sum(cut < len(profile.nodes) for cut in cuts)
    predictions = np.zeros(len(inputs), dtype=np.int64)
    payload_bytes = np.zeros((used, len(inputs)), dtype=np.int64)
    for first in range(0, len(inputs), BATCH):
        rows = slice(first, min(first + BATCH, len(inputs)))
        tensors = {profile.nodes[0].name: np.asarray(inputs[rows], dtype=np.float32)}
        for tier in range(used + 1):
            relays = tier > 0 and borders[tier - 1] == borders[tier]
            if relays:
                payload_bytes[tier, rows] = payload_bytes[tier - 1, rows]
                continue
            tensors = split.run_piece(tier, tensors, vector)
            if tier < used:
                for name, samples in tensors.items():
                    tensors[name], lengths = _over_the_wire(samples, name, tier, first, send, receive)
                    payload_bytes[tier, rows] += lengths
        output = tensors[OUTPUT]
        if output.ndim != 2:
            raise NetflError(f"expected an output of (samples, classes), got shape {output.shape}")
        predictions[rows] = output.argmax(axis=1)
    return InferenceResult(predictions=predictions, payload_bytes=payload_bytes)


def _over_the_wire(
    samples: NDArray[np.float32],
    name: str,
    boundary: int,
    first: int,
    send: Send,
    receive: Receive,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What the receiver has of one tensor's samples (N, ...), and the bytes (N,) that it took."""
    received = np.empty_like(samples)
    lengths = np.empty(len(samples), dtype=np.int64)
    for row, sample in enumerate(samples):
        length, payload = send(sample.reshape(-1), name, boundary, first + row)
        values = receive(payload, name)
        if values.size != sample.size:
            raise NetflError(f"expected a decoder to return {sample.size} values, got {values.size}")
        received[row] = values.reshape(sample.shape)
        lengths[row] = length
    return received, lengths
