"""Count sketch and entropy coding."""

from __future__ import annotations

import importlib.util
import struct

import numpy as np
import pytest

from netfl.codecs import CountSketch, Entropy, Pipeline, Quantize, TopK
from netfl.errors import CodecError, MissingExtraError


def test_a_sketch_finds_the_few_large_values() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(scale=0.01, size=5000).astype(np.float32)
    large = generator.choice(5000, 20, replace=False)
    values[large] = np.where(generator.random(20) < 0.5, -3, 3)
    pipeline = Pipeline((CountSketch(fraction=0.7, rows=7, largest=0.004),))
    payload = pipeline.encode(values, generator)
    # Count, seed, 7 x 500 float32.
    assert len(payload) == 4 + 8 + 14_000
    decoded = pipeline.decode(payload)
    assert np.flatnonzero(decoded).tolist() == sorted(large)
    # The other 4980 values put 10 into a cell: 0.03 = sqrt(10) x 0.01 beside a large one, whose median of 7 rows is right.
    assert np.abs(decoded[large] - values[large]).max() < 0.1


def test_a_sketch_of_one_value_is_exact() -> None:
    values = np.zeros(100, np.float32)
    values[7] = 2.5
    pipeline = Pipeline((CountSketch(fraction=0.2, rows=1, largest=0.01),))
    decoded = pipeline.decode(pipeline.encode(values, np.random.default_rng(0)))
    # Only values in its cell share the estimate, which is +-2.5; the first of those is kept.
    assert np.abs(decoded).max() == 2.5 and np.count_nonzero(decoded) == 1
    with pytest.raises(ValueError, match="1 to 25 rows"):
        CountSketch(fraction=0.1, rows=0)
    with pytest.raises(ValueError, match="largest estimates above 0"):
        CountSketch(fraction=0.1, largest=0.0)


def test_entropy_comes_near_the_entropy() -> None:
    data = np.clip(np.random.default_rng(0).normal(128, 10, 100_000), 0, 255).astype(np.uint8)
    shares = np.bincount(data, minlength=256) / len(data)
    bits = -np.sum(shares[shares > 0] * np.log2(shares[shares > 0])) * len(data)
    length = len(Entropy().compress(data.tobytes()))
    # Frequencies take 37 + 2 x 256 bytes at most; their rounding to 16 bits costs less than a thousandth.
    assert bits / 8 <= length <= bits / 8 * 1.001 + 37 + 512 + 8
    assert Entropy().decompress(Entropy().compress(data.tobytes()), len(data)) == data.tobytes()


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"aaaaaaa", bytes(100_000), bytes(range(256)), np.random.default_rng(0).bytes(5000)])
def test_any_bytes_come_back_and_cost_one_more_at_most(data: bytes) -> None:
    coded = Entropy().compress(data)
    assert len(coded) <= Entropy().most_bytes(len(data))
    assert Entropy().decompress(coded, len(data)) == data


def test_equal_bytes_are_six() -> None:
    assert Entropy().compress(bytes(100_000)) == struct.pack("<BIB", 1, 100_000, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "one of three forms"),
        (b"\7abc", "one of three forms"),
        (b"\0abcd", "at most 3 bytes, got more"),
        (struct.pack("<BIB", 1, 2**32 - 1, 0), "at most 3 bytes, got more"),
        (struct.pack("<BI", 2, 2**32 - 1) + bytes(60), "at least two kinds"),
        (struct.pack("<BI", 2, 3) + b"\xc0" + bytes(31) + bytes(4) + bytes(4), "at least two kinds"),
        (struct.pack("<BI", 2, 3) + b"\xc0" + bytes(31) + struct.pack("<HH", 1, 1) + bytes(4), "never ends in a zero word"),
        (struct.pack("<BI", 2, 3) + b"\xc0" + bytes(31) + struct.pack("<HHIII", 1, 1, 5, 5, 5), "expected the end after 3 bytes"),
    ],
)
def test_wrong_bytes_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        Entropy().decompress(data, 3)


def test_entropy_behind_others_is_shorter() -> None:
    values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    plain = len(Pipeline((Quantize(bits=8),)).encode(values, np.random.default_rng(0)))
    coded = len(Pipeline((Quantize(bits=8), Entropy())).encode(values, np.random.default_rng(0)))
    assert coded < 0.95 * plain
    assert Pipeline((TopK(fraction=0.1), Entropy())).encoded_bytes(100) is None


def test_without_the_library_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netfl-sim\[entropy\]'"):
        Entropy()
