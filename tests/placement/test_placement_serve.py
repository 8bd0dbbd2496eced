"""Serving through real bytes: predictions, payloads, relays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from placement_models import Residual, seeded

from netfl.errors import NetflError
from netfl.placement import trace
from netfl.placement.graph import one_thread
from netfl.placement.serve import BATCH, infer
from netfl.placement.split import Split

SAMPLES = 70
HEADER_BYTES = 3


class Wire:
    """Raw float32 behind a header of 3 bytes, that remembers every call."""

    def __init__(self, round_to: float | None = None) -> None:
        self.encoded: list[tuple[int, int, int]] = []
        self.decoded = 0
        self.names: set[str] = set()
        self.round_to = round_to

    def send(self, values: np.ndarray, name: str, boundary: int, sample: int) -> tuple[int, bytes]:
        assert values.ndim == 1 and values.dtype == np.float32
        self.encoded.append((boundary, sample, values.size))
        if self.round_to is not None:
            values = np.round(values / np.float32(self.round_to)) * np.float32(self.round_to)
        self.names.add(name)
        return HEADER_BYTES + values.nbytes, b"raw" + values.tobytes()

    def receive(self, payload: bytes, name: str) -> np.ndarray:
        self.decoded += 1
        return np.frombuffer(payload[HEADER_BYTES:], dtype=np.float32)


@pytest.fixture(scope="module")
def model():
    module = seeded(Residual)
    profile = trace(module, Residual.shape)
    inputs = np.random.default_rng(8).standard_normal((SAMPLES, *Residual.shape)).astype(np.float32)
    with torch.no_grad(), one_thread():
        # Untrained, the largest bias wins every time: with the mean output at 0, the samples decide.
        module.eval().fc.bias -= module(torch.tensor(inputs)).mean(dim=0)
        outputs = [module(torch.tensor(inputs[first : first + BATCH])) for first in range(0, SAMPLES, BATCH)]
    vector = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    return module, profile, vector, inputs, torch.cat(outputs).argmax(dim=1).numpy()


def test_lossless_predictions_are_the_whole_models(model):
    module, profile, vector, inputs, expected = model
    assert len(set(expected)) > 1
    for cuts in ((1,), (5,), (len(profile.nodes),), (1, 4), (4, 8)):
        wire = Wire()
        result = infer(module, profile, cuts, vector, inputs, wire.send, wire.receive)
        assert result.predictions.dtype == result.payload_bytes.dtype == np.int64
        assert np.array_equal(result.predictions, expected), cuts


def test_tensors_that_cross_one_boundary_are_encoded_apart_and_summed(model):
    module, profile, vector, inputs, _ = model
    assert profile.crossing(5) == ("relu", "conv")
    wire = Wire()
    result = infer(module, profile, (5,), vector, inputs, wire.send, wire.receive)
    # Two tensors of 8 * 8 * 8 float32, each behind its header.
    assert result.payload_bytes.tolist() == [[2 * (2048 + HEADER_BYTES)] * SAMPLES]
    assert sorted(wire.encoded) == sorted([(0, sample, 512) for sample in range(SAMPLES)] * 2)
    assert wire.decoded == 2 * SAMPLES
    assert wire.names == {"relu", "conv"}


def test_an_empty_middle_tier_forwards_the_same_bytes(model):
    module, profile, vector, inputs, _ = model
    direct, relayed = Wire(round_to=0.5), Wire(round_to=0.5)
    expected = infer(module, profile, (4,), vector, inputs, direct.send, direct.receive)
    result = infer(module, profile, (4, 4), vector, inputs, relayed.send, relayed.receive)
    assert result.payload_bytes.shape == (2, SAMPLES)
    assert np.array_equal(result.payload_bytes[0], result.payload_bytes[1])
    assert np.array_equal(result.payload_bytes[:1], expected.payload_bytes)
    assert np.array_equal(result.predictions, expected.predictions)
    # Nothing was encoded at the relay's boundary, and nothing decoded there.
    assert relayed.encoded == direct.encoded and relayed.decoded == direct.decoded == SAMPLES


def test_a_boundary_with_nothing_behind_it_carries_nothing(model):
    module, profile, vector, inputs, expected = model
    last = len(profile.nodes)
    wire = Wire()
    result = infer(module, profile, (4, last), vector, inputs, wire.send, wire.receive)
    assert result.payload_bytes.tolist() == [[2048 + HEADER_BYTES] * SAMPLES]
    silent = Wire()
    alone = infer(module, profile, (last, last), vector, inputs, silent.send, silent.receive)
    assert alone.payload_bytes.shape == (0, SAMPLES) and not silent.encoded
    assert np.array_equal(alone.predictions, expected)


def test_the_receiver_works_from_what_decode_returns(model):
    module, profile, vector, inputs, expected = model
    wire = Wire()
    result = infer(module, profile, (4,), vector, inputs, wire.send, lambda payload, name: wire.receive(payload, name) * np.float32(0))
    # Every sample looks the same behind a decoder that returns zeros.
    assert len(set(result.predictions)) == 1 and len(set(expected)) > 1


def test_a_split_can_be_used_again_with_other_weights(model):
    module, profile, vector, inputs, expected = model
    split = Split(module, profile, (4,))
    wire = Wire()
    rest = (module, profile, (4,))
    other = infer(*rest, np.zeros_like(vector), inputs, wire.send, wire.receive, split=split)
    # All weights 0: every output is 0, and the first class wins.
    assert not other.predictions.any()
    again = infer(*rest, vector, inputs, wire.send, wire.receive, split=split)
    assert np.array_equal(again.predictions, expected)


def test_a_decoder_that_loses_values_is_refused(model):
    module, profile, vector, inputs, _ = model
    wire = Wire()
    with pytest.raises(NetflError, match="return 512 values, got 511"):
        infer(module, profile, (4,), vector, inputs, wire.send, lambda payload, name: wire.receive(payload, name)[1:])


def test_no_samples_give_no_predictions(model):
    module, profile, vector, inputs, _ = model
    wire = Wire()
    result = infer(module, profile, (4,), vector, inputs[:0], wire.send, wire.receive)
    assert result.predictions.shape == (0,) and result.payload_bytes.shape == (1, 0)
