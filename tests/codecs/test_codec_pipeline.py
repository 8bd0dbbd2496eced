"""Frames, byte counts, and what cannot compose."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from netfl.codecs import CODECS, Pipeline, Quantize, Stage, TopK, Vector, Zstd, encode_with_feedback
from netfl.errors import CodecError


def encode(values: list[float], *stages: Stage) -> bytes:
    return Pipeline(stages).encode(np.array(values, np.float32), np.random.default_rng(0))


def test_empty_pipeline_is_the_count_and_raw_float32() -> None:
    assert encode([1.0, -2.0]) == struct.pack("<Iff", 2, 1.0, -2.0)
    assert np.array_equal(Pipeline().decode(struct.pack("<Iff", 2, 1.0, -2.0)), np.array([1, -2], np.float32))


def test_a_lossless_pipeline_keeps_nan_and_negative_zero() -> None:
    values = np.array([np.nan, -0.0, np.inf], np.float32)
    for pipeline in (Pipeline(), Pipeline((Zstd(),))):
        assert pipeline.decode(pipeline.encode(values, np.random.default_rng(0))).tobytes() == values.tobytes()


def test_topk_frame_bytes() -> None:
    # 16 values, 1/16 kept: place 3 as one u16 is as short as the bitmap of 2 bytes, so it is a number.
    values = [0.0] * 16
    values[3] = -5.0
    assert encode(values, TopK(fraction=1 / 16)) == struct.pack("<IHf", 16, 3, -5.0)
    # Two kept: two u16 are 4 bytes, the bitmap is 2: places 3 and 8 are bit 3 of byte 0 and bit 0 of byte 1 from the left.
    values[8] = 4.0
    assert encode(values, TopK(fraction=2 / 16)) == struct.pack("<IBBff", 16, 0b00010000, 0b10000000, -5.0, 4.0)


def test_quantize_frame_bytes() -> None:
    # Ends 0 and 15, 4 bits: step 1, so whole numbers are their own codes; five codes fill 2.5 bytes.
    frame = struct.pack("<Iff", 5, 0.0, 15.0) + bytes([0x0F, 0x12, 0x70])
    assert encode([0, 15, 1, 2, 7], Quantize(bits=4)) == frame
    # 3 bits, step 1: codes 0 7 5 = 000 111 101, zeros after.
    assert encode([0, 7, 5], Quantize(bits=3)) == struct.pack("<Iff", 3, 0.0, 7.0) + bytes([0b00011110, 0b10000000])
    assert encode([-1, 1, 1], Quantize(bits=1)) == struct.pack("<Iff", 3, -1.0, 1.0) + bytes([0b01100000])


@pytest.mark.parametrize(
    ("stages", "count", "expected"),
    [
        ((), 1000, 4 + 4000),
        # 10 kept of 1000: 10 u16 (20 < 125) and 10 float32.
        ((TopK(fraction=0.01),), 1000, 4 + 20 + 40),
        # 50 kept: 100 < 125.
        ((TopK(fraction=0.05),), 1000, 4 + 100 + 200),
        # 500 kept: the bitmap of 125 bytes is shorter than 1000.
        ((TopK(fraction=0.5),), 1000, 4 + 125 + 2000),
        # 65536 values still have 16-bit places, 65537 have 32-bit ones; ceil(655.37) = 656.
        ((TopK(fraction=0.01),), 65536, 4 + 2 * 656 + 4 * 656),
        ((TopK(fraction=0.01),), 65537, 4 + 4 * 656 + 4 * 656),
        ((Quantize(bits=8),), 1000, 4 + 8 + 1000),
        ((Quantize(bits=1),), 1001, 4 + 8 + 126),
        ((TopK(fraction=0.05), Quantize(bits=8)), 1000, 4 + 100 + 8 + 50),
        # The second keeps 5 of the 50; 5 u16 of 50 places are 10 bytes, the bitmap of 50 is 7.
        ((TopK(fraction=0.05), TopK(fraction=0.1), Quantize(bits=4)), 1000, 4 + 100 + 7 + 8 + 3),
        ((), 0, 4),
        ((TopK(fraction=0.5), Quantize(bits=2)), 0, 4 + 8),
    ],
)
def test_closed_form_lengths(stages: tuple[Stage, ...], count: int, expected: int) -> None:
    pipeline = Pipeline(stages)
    assert pipeline.encoded_bytes(count) == expected
    values = np.random.default_rng(1).normal(size=count).astype(np.float32)
    assert len(pipeline.encode(values, np.random.default_rng(0))) == expected


def test_zstd_has_no_closed_form_and_shortens_repetition() -> None:
    pipeline = Pipeline((Zstd(),))
    assert pipeline.encoded_bytes(1000) is None
    assert len(pipeline.encode(np.zeros(1000, np.float32), np.random.default_rng(0))) < 100


def test_fraction_counts_as_the_decimal_written() -> None:
    # 0.07 * 100 is 7.000000000000001 in binary64.
    assert TopK(fraction=0.07).kept_count(100) == 7
    assert TopK(fraction=1e-9).kept_count(10) == 1
    assert TopK(fraction=0.5).kept_count(0) == 0


def test_nearest_level_and_its_bound() -> None:
    # Ends 0 and 3, 2 bits: levels 0 1 2 3; half a step is 0.5, and float32 arithmetic is allowed 3 x 2**-19.
    pipeline = Pipeline((Quantize(bits=2, stochastic=False),))
    values = np.array([0, 0.4, 1.6, 3], np.float32)
    assert np.array_equal(pipeline.decode(pipeline.encode(values, np.random.default_rng(0))), np.array([0, 0, 2, 3], np.float32))
    assert pipeline.error_bound(values) == 0.5 + 3 * 2.0**-19


def test_bound_of_a_pipeline_is_the_worst_stage() -> None:
    # Kept: 100 and -60 (range 160, one step at 1 bit); dropped: at most 3.
    values = np.array([100, 3, -60, 1], np.float32)
    assert Pipeline((TopK(fraction=0.5),)).error_bound(values) == 3.0
    assert Pipeline((TopK(fraction=0.5), Quantize(bits=1))).error_bound(values) == pytest.approx(160, rel=1e-5)
    assert Pipeline((Zstd(),)).error_bound(values) == 0.0


def test_lossless_and_sparse() -> None:
    assert Pipeline().lossless and Pipeline((Zstd(),)).lossless and not Pipeline().sparse
    assert not Pipeline((Quantize(),)).lossless
    assert Pipeline((TopK(fraction=0.1), Zstd())).sparse


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Quantize(), TopK(fraction=0.1)), "TopK (a sparsifier) cannot follow Quantize (a quantizer)"),
        ((Zstd(), Quantize()), "Quantize (a quantizer) cannot follow Zstd (a compressor)"),
        ((Zstd(), TopK(fraction=0.1)), "TopK (a sparsifier) cannot follow Zstd (a compressor)"),
        ((Quantize(), Quantize(bits=4)), "Quantize (a quantizer) cannot follow Quantize (a quantizer)"),
        ((7,), "expected a codec stage (a sparsifier, quantizer or compressor), got int"),
    ],
)
def test_what_cannot_compose(stages: tuple[Stage, ...], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Pipeline(stages)
    assert words in str(caught.value)


@pytest.mark.parametrize("stage", [TopK(fraction=0.5), Quantize()])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(stage: Stage, bad: float) -> None:
    with pytest.raises(CodecError, match=rf"1 of 3 values that are not finite: value 1 is {bad}"):
        encode([0.0, bad, 1.0], stage)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((2, 2), np.float32), [1.0]])
def test_only_float32_vectors_encode(values: object) -> None:
    with pytest.raises(CodecError, match="expected a float32 vector"):
        Pipeline().encode(values, np.random.default_rng(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stages", "data", "words"),
    [
        ((), b"\1\0", "4-byte count"),
        ((), struct.pack("<I", 2**28 + 1), "at most 268435456 values"),
        ((), struct.pack("<I", 2**28), "expected 1073741824 more bytes, got 0"),
        ((), struct.pack("<If", 0, 1.0), "expected the end, got 4 more bytes"),
        ((TopK(fraction=1 / 16),), struct.pack("<IHf", 16, 16, 1.0), "1 ascending places below 16"),
        # 3 of 48: three u16 are as long as the bitmap; 5, 5 does not ascend.
        ((TopK(fraction=3 / 48),), struct.pack("<IHHHfff", 48, 5, 5, 6, 1, 1, 1), "3 ascending places below 48"),
        # A bitmap that names three places of two.
        ((TopK(fraction=2 / 16),), struct.pack("<IBBff", 16, 7, 0, 1, 1), "2 ascending places below 16"),
        ((Quantize(bits=1),), struct.pack("<IffB", 3, 2.0, 1.0, 0), "two finite ends in order"),
        ((Quantize(bits=1),), struct.pack("<IffB", 3, 0.0, float("nan"), 0), "two finite ends in order"),
        ((Quantize(bits=1),), struct.pack("<IffB", 3, 0.0, 1.0, 1), "zeros after 3 values"),
        ((Quantize(bits=4),), struct.pack("<IffBB", 3, 0.0, 1.0, 0, 1), "zeros after 3 values"),
        ((Zstd(),), struct.pack("<I", 1) + b"junk", "zstd"),
    ],
)
def test_wrong_bytes_are_refused(stages: tuple[Stage, ...], data: bytes, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        Pipeline(stages).decode(data)


def test_a_compressed_bomb_is_stopped_at_what_the_count_implies() -> None:
    bomb = Zstd().compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(CodecError, match="too much memory"):
        Pipeline((Zstd(),)).decode(struct.pack("<I", 3) + bomb)
    with pytest.raises(CodecError, match="at most 12 bytes"):
        Pipeline((Zstd(),)).decode(struct.pack("<I", 3) + Zstd().compress(bytes(13)))


def test_two_frames_or_half_a_frame_are_refused() -> None:
    pipeline = Pipeline((Zstd(),))
    whole = encode([1, 2, 3], Zstd())
    for wrong in (whole[:-1], whole + whole[4:]):
        with pytest.raises(CodecError, match="one whole frame"):
            pipeline.decode(wrong)


@pytest.mark.parametrize("level", [1, 19, 22])
def test_every_level_decodes_within_its_window(level: int) -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    pipeline = Pipeline((Zstd(level=level), Zstd(level=level)))
    assert pipeline.decode(pipeline.encode(values, np.random.default_rng(0))).tobytes() == values.tobytes()


def test_incompressible_bytes_stay_within_the_stated_most() -> None:
    generator = np.random.default_rng(0)
    for length in (0, 1, 100, 5000, 200_000):
        assert len(Zstd().compress(generator.bytes(length))) <= Zstd().most_bytes(length)


def test_feedback_by_hand() -> None:
    # Top 1 of 2: 3 goes, 2 stays owed; then 3 + 0 against 2 + 2 = 4: the second value goes whole.
    pipeline = Pipeline((TopK(fraction=0.5),))
    generator = np.random.default_rng(0)
    values = np.array([3, 2], np.float32)
    first = encode_with_feedback(pipeline, values, None, generator)
    assert first.decoded.tolist() == [3, 0] and first.residual.tolist() == [0, 2]
    second = encode_with_feedback(pipeline, values, first.residual, generator)
    assert second.input.tolist() == [3, 4]
    assert second.decoded.tolist() == [0, 4] and second.residual.tolist() == [3, 0]


def test_settings_are_read_strictly_and_out_of_range_ones_refused() -> None:
    adapter = TypeAdapter(Annotated[Stage, CODECS])
    assert adapter.validate_python({"kind": "topk", "fraction": 0.1}) == TopK(fraction=0.1)
    assert adapter.validate_python({"kind": "quantize", "bits": 4}) == Quantize(bits=4)
    assert adapter.validate_python({"kind": "zstd"}) == Zstd(level=3)
    for wrong in ({"kind": "topk", "fraction": 0.0}, {"kind": "quantize", "bits": 9}, {"kind": "zstd", "level": 23}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)
    with pytest.raises(ValueError, match=r"above 0 and at most 1, got 1\.5"):
        TopK(fraction=1.5)
    with pytest.raises(ValueError, match="1 to 8 bits a value, got 0"):
        Quantize(bits=0)
    with pytest.raises(ValueError, match="1 to 22, got 0"):
        Zstd(level=0)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A stage from outside whose lengths depend on the data: keeps magnitudes of at least `least`."""

    least: float

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        kept = np.abs(values) >= self.least
        return np.flatnonzero(kept).astype("<u4").tobytes(), values[kept]

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        if len(side) != 4 * len(kept):
            raise CodecError("as many places as values")
        places = np.frombuffer(side, "<u4")
        if (places >= count).any():
            raise CodecError("places in range")
        values = np.zeros(count, np.float32)
        values[places] = kept
        return values

    def kept_count(self, count: int) -> None:
        return None

    def side_bytes(self, count: int) -> None:
        return None

    def error_bound(self, values: Vector) -> float:
        return self.least


def test_a_section_of_unknown_length_carries_it() -> None:
    # Side bytes: length 4, place 1; then 1 kept value; then the value.
    data = encode([0.5, 2.0, 0.25], Threshold(least=1.0))
    assert data == struct.pack("<IIIIf", 3, 4, 1, 1, 2.0)
    pipeline = Pipeline((Threshold(least=1.0), Zstd()))
    assert pipeline.encoded_bytes(3) is None and Pipeline((Threshold(least=1.0), Quantize())).encoded_bytes(3) is None
    values = np.array([0.5, 2.0, 0.25], np.float32)
    assert pipeline.decode(pipeline.encode(values, np.random.default_rng(0))).tolist() == [0, 2, 0]
    with pytest.raises(CodecError, match="4 kept values of 3"):
        Pipeline((Threshold(least=1.0),)).decode(struct.pack("<IIIIf", 3, 4, 1, 4, 2.0))
