"""Real split inference with early exits over many samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from netfl.errors import NetflError
from netfl.placement.exits import ExitProfile
from netfl.placement.serve import BATCH, Receive, Send
from netfl.placement.split import OUTPUT, Split

__all__ = ["ExitResult", "infer"]


@dataclass(frozen=True, kw_only=True)
class ExitResult:
    """What came of running every sample through all pieces.

    Args:
        logits: (N, exits, classes) float32.
        payload_bytes: (boundaries, N, exits in use) int64, what a sample sends over a boundary if it leaves at that exit.
    """

    logits: NDArray[np.float32]
    payload_bytes: NDArray[np.int64]


def infer(
    module: nn.Module,
    profile: ExitProfile,
    used: tuple[int, ...],
    cuts: tuple[int, ...],
    vector: NDArray[np.float32],
    inputs: NDArray[np.float32],
    send: Send,
    receive: Receive,
) -> ExitResult:
    """Run the pieces over all samples; whatever a sample sends crosses as bytes.

    The logits of an exit cross no boundary: a sample that leaves there is answered from there, and one that goes on has no use for them. Each
    tensor is encoded once, and counted for the samples that send it: what an exit needs behind a boundary is sent by those that come there.
    A tier without nodes forwards the bytes that it got.

    Args:
        module: the model with exits.
        profile: of it.
        used: the exits in use.
        cuts: as in `Placement.cuts`, of the whole profile.
        vector: (P,) weights.
        inputs: (N, *sample_shape).
        send: what becomes of one tensor of one sample.
        receive: what is made of it.

    Raises:
        NetflError: a decoder that returns another number of values than were encoded.
    """
    whole = profile.whole
    split = Split(module, whole, cuts)
    borders = (*cuts, len(whole.nodes))
    boundaries = sum(cut < len(whole.nodes) for cut in cuts)
    answers = {whole.nodes[place].name for place in profile.exits}
    sending = [_senders(profile, used, cut) for cut in cuts[:boundaries]]
    payload_bytes = np.zeros((boundaries, len(inputs), len(used)), dtype=np.int64)
    outputs = []
    for first in range(0, len(inputs), BATCH):
        rows = slice(first, min(first + BATCH, len(inputs)))
        tensors = {whole.nodes[0].name: np.asarray(inputs[rows], dtype=np.float32)}
        for tier in range(boundaries + 1):
            if tier > 0 and borders[tier - 1] == borders[tier]:
                payload_bytes[tier, rows] = payload_bytes[tier - 1, rows]
                continue
            tensors = split.run_piece(tier, tensors, vector)
            if tier == boundaries:
                break
            for name, senders in sending[tier].items():
                if name not in answers:
                    for row, sample in enumerate(tensors[name]):
                        length, payload = send(sample.reshape(-1), name, tier, first + row)
                        values = receive(payload, name)
                        if values.size != sample.size:
                            raise NetflError(f"expected a decoder to return {sample.size} values, got {values.size}")
                        tensors[name][row] = values.reshape(sample.shape)
                        payload_bytes[tier, first + row] += length * senders
        outputs.append(tensors[OUTPUT])
    logits = np.concatenate(outputs)
    return ExitResult(logits=logits.reshape(len(logits), len(profile.exits), -1), payload_bytes=payload_bytes)


def _senders(profile: ExitProfile, used: tuple[int, ...], cut: int) -> dict[str, NDArray[np.int64]]:
    """The tensors that cross a cut of the whole, each with a 1 for the exits in use whose samples send it, else 0."""
    found: dict[str, NDArray[np.int64]] = {}
    for count in range(1, len(used) + 1):
        part = profile.until(used[:count])
        for name in part.crossing(profile.cuts_until((cut,), used[:count])[0]):
            found.setdefault(name, np.zeros(len(used), dtype=np.int64))[count - 1] = 1
    return found
