"""Quantizers: bytes by hand, tensors by themselves, means and bounds."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from netfl.codecs import (
    Affine,
    Bfloat16,
    Float16,
    LowRank,
    OneBit,
    Pipeline,
    Qsgd,
    Quantize,
    Shapes,
    Sign,
    Stage,
    TernGrad,
    TopK,
    Vector,
)
from netfl.errors import CodecError


def encoded(values: list[float], *stages: Stage, shapes: Shapes = ()) -> bytes:
    return Pipeline(stages, shapes).encode(np.array(values, np.float32), np.random.default_rng(0))


def decoded(values: list[float], *stages: Stage, shapes: Shapes = ()) -> list[float]:
    return Pipeline(stages, shapes).decode(encoded(values, *stages, shapes=shapes)).tolist()


def test_sign_bytes() -> None:
    # Mean magnitude (1 + 2 + 0 + 5) / 4 = 2; signs + - + - are the bits 0101.
    assert encoded([1, -2, 0, -5], Sign()) == struct.pack("<IfB", 4, 2.0, 0b01010000)
    assert decoded([1, -2, 0, -5], Sign()) == [2, -2, 2, -2]
    # Two tensors: means 1.5 and 5.
    assert decoded([1, -2, -5], Sign(), shapes=((2,), (1,))) == [1.5, -1.5, -5]


def test_onebit_bytes() -> None:
    # Below 0: -2 and -4, mean -3; others: 1, 0, 5, mean 2.
    assert encoded([1, -2, 0, -4, 5], OneBit()) == struct.pack("<IffB", 5, -3.0, 2.0, 0b01010000)
    assert decoded([1, -2, 0, -4, 5], OneBit()) == [2, -3, 2, -3, 2]
    assert decoded([1, 3, -2], OneBit(), shapes=((2,), (1,))) == [2, 2, -2]


def test_affine_by_hand() -> None:
    # Range -1 to 4 in 2 bits: s = 5/3, z = round(0.6) = 1; 4 -> 1 + 2.4 = 3.4 -> 3; -1 -> 0.4 -> 0; 1 -> 1.6 -> 2; 0 -> 1.
    s = np.float32(5 / 3)
    s = np.nextafter(s, np.float32(np.inf)) if float(s) < 5 / 3 else s
    assert encoded([4, -1, 1, 0], Affine(bits=2)) == struct.pack("<IfIB", 4, s, 1, 0b11001001)
    assert decoded([4, -1, 1, 0], Affine(bits=2)) == pytest.approx([10 / 3, -5 / 3, 5 / 3, 0])


def test_affine_wire_is_d_and_8_bytes_a_tensor() -> None:
    shapes = ((64, 64), (64,), (10, 64), (10,), ())
    count = 4096 + 64 + 640 + 10 + 1
    # The header is the 4-byte count.
    assert Pipeline((Affine(),), shapes).encoded_bytes(count) == 4 + count + 8 * 5
    # Channels: 64 + 1 + 10 + 1 + 1.
    assert Pipeline((Affine(per="channel"),), shapes).encoded_bytes(count) == 4 + count + 8 * 77
    assert Pipeline((Affine(bits=4),), shapes).encoded_bytes(count) == 4 + (count + 1) // 2 + 8 * 5


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (-3.0, 0.5), (0.3, 2.0), (-2.0, -0.1)])
def test_affine_errs_by_half_a_step_at_most(low: float, high: float) -> None:
    """Also for a tensor whose range does not hold 0, such as a running variance: its range is extended."""
    values = np.random.default_rng(1).uniform(low, high, 5000).astype(np.float32)
    values[0], values[1] = low, high
    step = (max(high, 0) - min(low, 0)) / 255
    pipeline = Pipeline((Affine(),))
    back = pipeline.decode(pipeline.encode(values, np.random.default_rng(0)))
    assert np.abs(back.astype(float) - values).max() <= step / 2 * (1 + 1e-5)


def test_affine_keeps_zero_and_constants_exactly() -> None:
    values = [0.0, 0.37, -1.91, 0.0, 2.3]
    back = decoded(values, Affine())
    assert back[0] == back[3] == 0.0
    shapes = ((3,), (2,), (2,))
    assert (
        decoded([0.1, 0.1, 0.1, -7.3, -7.3, 0, 0], Affine(), shapes=shapes)
        == np.array([0.1] * 3 + [-7.3] * 2 + [0] * 2, np.float32).tolist()
    )


def test_terngrad_bytes() -> None:
    # Largest magnitude 3: +-3 are sent for certain, 0 never: digits 1 2 0 1 0 -> 81 + 54 + 3 = 138.
    assert encoded([3, -3, 0, 3, 0], TernGrad()) == struct.pack("<IfB", 5, 3.0, 138)
    assert decoded([3, -3, 0, 3, 0, 0], TernGrad(), shapes=((4,), (2,))) == [3, -3, 0, 3, 0, 0]
    with pytest.raises(CodecError, match="below 243"):
        Pipeline((TernGrad(),)).decode(struct.pack("<IfB", 5, 3.0, 243))


@pytest.mark.parametrize(
    ("stage", "variance"),
    [
        # |x| s - x^2 for a magnitude s sent with probability |x| / s.
        (TernGrad(), lambda x: np.abs(x) * np.abs(x).max() - x**2),
        # Levels of the norm over 3: p (1 - p) (norm / 3)^2 with p the fraction of a level.
        (Qsgd(levels=3), lambda x: _rounding(np.abs(x) / np.linalg.norm(x) * 3) * (np.linalg.norm(x) / 3) ** 2),
        (Qsgd(levels=3, norm="max", coding="elias_gamma"), lambda x: _rounding(np.abs(x) / np.abs(x).max() * 3) * (np.abs(x).max() / 3) ** 2),
    ],
)  # fmt: skip
def test_means_are_right_within_4_standard_errors(stage: Stage, variance: object) -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=24).astype(np.float32)
    pipeline = Pipeline((stage,))
    draws = np.stack([pipeline.decode(pipeline.encode(values, generator)) for _ in range(3000)]).astype(float)
    standard_error = np.sqrt(np.maximum(variance(values.astype(float)), 0) / 3000)  # type: ignore[operator]
    assert (np.abs(draws.mean(axis=0) - values) <= 4 * standard_error + 1e-6).all()


def _rounding(levels: Vector) -> Vector:
    up = levels - np.floor(levels)
    return up * (1 - up)


def test_stochastic_rounding_of_many_equal_values_is_right_on_the_whole() -> None:
    """Values of one block share the last 1/256 of a step of their draws: their mean errs by no more than that allows."""
    # 0.3 of a step above the least: 200,000 values; ends 0 and 1 at 1 bit. Variance of the mean: p (1 - p) / n + (1/256)^2 / 4 / 4 blocks.
    values = np.full(200_000, 0.3, np.float32)
    values[0], values[1] = 0, 1
    pipeline = Pipeline((Quantize(bits=1),))
    draws = [float(pipeline.decode(pipeline.encode(values, np.random.default_rng(seed))).mean()) for seed in range(30)]
    deviation = math.sqrt(0.21 / 200_000 + (1 / 256) ** 2 / 16)
    assert abs(np.mean(draws) - values.mean(dtype=float)) <= 4 * deviation / math.sqrt(30)
    assert np.std(draws) <= 3 * deviation


def test_qsgd_bytes() -> None:
    # l2 norm of (3, -4) is 5; with 5 levels both are whole: codes sign and 3 bits: 0 011, 1 100.
    assert encoded([3, -4], Qsgd(levels=5)) == struct.pack("<IfB", 2, 5.0, 0b00111100)
    assert decoded([3, -4], Qsgd(levels=5)) == [3, -4]
    # Elias: length 4 + 4 + 2, norm, two sent; gaps 1 1 (bits 1 1), signs 0 1, levels 3 4 (prefixes 01 001, suffixes 1 00).
    assert encoded([3, -4], Qsgd(levels=5, coding="elias_gamma")) == struct.pack("<IIfIBB", 2, 10, 5.0, 2, 0b11010100, 0b11000000)
    assert decoded([3, 0, 0, -4], Qsgd(levels=5, coding="elias_gamma")) == [3, 0, 0, -4]


def test_qsgd_buckets_have_their_own_norms() -> None:
    values = [1.0] * 16 + [100.0] * 4
    assert decoded(values, Qsgd(levels=1, norm="max", bucket=16)) == values
    assert Pipeline((Qsgd(levels=1, bucket=16),)).encoded_bytes(20) == 4 + 2 * 4 + 5


def test_floats() -> None:
    assert encoded([1.0, -2.0], Float16()) == struct.pack("<Iee", 2, 1.0, -2.0)
    assert decoded([1e6, 2049, -1e6], Float16()) == [65504, 2048, -65504]
    # 1 = 0x3F80; 1 + 2^-8 lies half way to 0x3F81 and goes to the even 0x3F80; 1 + 3 x 2^-8 goes to the even 0x3F82.
    assert encoded([1.0, 1 + 2**-8, 1 + 3 * 2**-8], Bfloat16()) == struct.pack("<IHHH", 3, 0x3F80, 0x3F80, 0x3F82)
    most = float(np.finfo(np.float32).max)
    assert decoded([most, -most], Bfloat16()) == [255 * 2.0**120, -255 * 2.0**120]
    for stage, inf in ((Float16(), 0x7C00), (Bfloat16(), 0x7F80)):
        with pytest.raises(CodecError, match="expected finite values"):
            Pipeline((stage,)).decode(struct.pack("<IH", 1, inf))


def test_lowrank_gives_a_matrix_of_that_rank_back() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(20, 2)) @ generator.normal(size=(2, 30))
    bias = generator.normal(size=7)
    values = np.concatenate([matrix.ravel(), bias]).astype(np.float32)
    pipeline = Pipeline((LowRank(rank=2),), shapes=((20, 5, 6), (7,)))
    payload = pipeline.encode(values, generator)
    # P and Q have 2 x (20 + 30) numbers; the vector of 7 goes as it is.
    assert len(payload) == pipeline.encoded_bytes(607) == 4 + 4 * (100 + 7)
    assert np.allclose(pipeline.decode(payload), values, atol=1e-4)
    assert np.array_equal(pipeline.decode(payload)[600:], values[600:])


def test_lowrank_without_shapes_is_one_matrix_near_to_square() -> None:
    # 1000 values: 32 x 32 with 24 zeros; rank 3: 3 x 64 numbers. 9 values: 3 x 3, where 3 x 6 numbers are not fewer.
    assert Pipeline((LowRank(rank=3),)).encoded_bytes(1000) == 4 + 4 * 192
    assert decoded([1, 2, 3, 4, 5, 6, 7, 8, 9], LowRank(rank=3)) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_shapes_must_fit_the_vector() -> None:
    pipeline = Pipeline((Affine(),), shapes=((2, 2),))
    with pytest.raises(CodecError, match="expected 4 values, as many as the tensors have, got 3"):
        pipeline.encode(np.zeros(3, np.float32), np.random.default_rng(0))
    with pytest.raises(CodecError, match="expected 4 values"):
        pipeline.decode(struct.pack("<I", 2**28))
    # Behind a sparsifier what is left is one tensor: count, bitmap, 8 bytes, 2 numbers.
    assert Pipeline((TopK(fraction=0.5), Affine()), shapes=((2, 2),)).encoded_bytes(4) == 4 + 1 + 8 + 2


def test_a_receiver_that_expects_a_count_takes_no_other() -> None:
    with pytest.raises(CodecError, match="expected 3 values, got 2"):
        Pipeline().decode(struct.pack("<Iff", 2, 0, 0), 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Affine(bits=1), "2 to 8 bits"),
        (lambda: Affine(per="row"), "per tensor or per channel"),  # type: ignore[arg-type]
        (lambda: Qsgd(levels=0), "1 to 4095 levels"),
        (lambda: Qsgd(bucket=4), "at least 16 values"),
        (lambda: Qsgd(norm="l1"), "norm l2 or max"),  # type: ignore[arg-type]
        (lambda: Qsgd(coding="huffman"), "fixed or elias_gamma"),  # type: ignore[arg-type]
        (lambda: TernGrad(clip_deviations=0.0), "clip_deviations above 0"),
        (lambda: LowRank(rank=0), "rank of at least 1"),
        (lambda: Pipeline((TopK(fraction=0.1), LowRank())), "LowRank cannot follow TopK: it must see the whole vector"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
