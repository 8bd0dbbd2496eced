"""Laws that every pipeline of the shipped stages keeps, for any vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from netfl.checks import check_codec
from netfl.codecs import (
    CODECS,
    Affine,
    Bfloat16,
    CountSketch,
    Dgc,
    Entropy,
    Float16,
    GumbelTopK,
    LaplaceRelease,
    LowRank,
    OneBit,
    OneBitRelease,
    Pipeline,
    Qsgd,
    Quantize,
    RandomK,
    Shapes,
    Sign,
    Stage,
    Svt,
    TernGrad,
    Threshold,
    TopK,
    Zstd,
    encode_with_feedback,
)
from netfl.errors import CodecError

fractions = st.floats(min_value=0.0, max_value=1.0, exclude_min=True)
codings = st.sampled_from(["plain", "coordinates", "elias_gamma", "elias_delta", "rice", "bitmap"])
clips = st.floats(min_value=2.0**-20, max_value=2.0**20)
epsilons = st.floats(min_value=2.0**-10, max_value=2.0**10)
whole_sparsifiers = st.one_of(
    st.builds(Dgc, fraction=fractions, warmup_rounds=st.just(0), indices=codings),
    st.builds(GumbelTopK, fraction=fractions, clip=clips, epsilon=epsilons, indices=codings),
    st.builds(Svt, fraction=fractions, clip=clips, epsilon=epsilons, threshold=clips, variant=st.sampled_from(["shokri2015", "lyu"])),
    st.builds(LowRank, rank=st.integers(1, 3)),
)
sparsifiers = st.one_of(
    st.builds(TopK, fraction=fractions, indices=codings),
    st.builds(RandomK, fraction=fractions, unbiased=st.booleans()),
    st.builds(Threshold, least=st.floats(min_value=2.0**-20, max_value=2.0**20), indices=codings),
    st.builds(CountSketch, fraction=fractions, rows=st.integers(1, 4), largest=st.none() | fractions),
)
quantizers = st.one_of(
    st.builds(Quantize, bits=st.integers(1, 8), stochastic=st.booleans()),
    st.builds(
        Qsgd,
        levels=st.integers(1, 4095),
        norm=st.sampled_from(["l2", "max"]),
        bucket=st.none() | st.integers(16, 30),
        coding=st.sampled_from(["fixed", "elias_gamma"]),
    ),
    st.builds(TernGrad, clip_deviations=st.none() | st.just(2.5)),
    st.builds(Affine, bits=st.integers(2, 8), per=st.sampled_from(["tensor", "channel"])),
    st.sampled_from([Sign(), OneBit(), Float16(), Bfloat16()]),
    st.builds(LaplaceRelease, clip=clips, epsilon=epsilons),
    st.builds(OneBitRelease, clip=clips, epsilon=epsilons),
)
compressors = st.one_of(st.builds(Zstd, level=st.integers(1, 5)), st.just(Entropy()))


@st.composite
def pipelines(draw: st.DrawFn, shapes: Shapes = ()) -> Pipeline:
    stages: list[Stage] = [*draw(st.lists(whole_sparsifiers, max_size=1)), *draw(st.lists(sparsifiers, max_size=2))]
    stages += draw(st.lists(quantizers, max_size=1))
    return Pipeline((*stages, *draw(st.lists(compressors, max_size=2))), shapes)


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = arrays(np.float32, st.integers(0, 70), elements=finite)


@settings(max_examples=300, deadline=None)
@given(pipeline=pipelines(), values=vectors, seed=st.integers(0, 2**32))
def test_error_within_bound_and_length_as_stated(pipeline: Pipeline, values: np.ndarray, seed: int) -> None:
    payload = pipeline.encode(values, np.random.default_rng(seed))
    assert pipeline.encoded_bytes(len(values)) in (None, len(payload))
    decoded = Pipeline(pipeline.stages).decode(payload)
    assert decoded.dtype == np.float32 and decoded.shape == values.shape
    bound = pipeline.error_bound(values, np.random.default_rng(seed))
    if bound is not None:
        assert np.all(np.abs(decoded.astype(np.float64) - values.astype(np.float64)) <= bound)
    if pipeline.lossless:
        assert decoded.tobytes() == values.tobytes()


@settings(max_examples=300, deadline=None)
@given(pipeline=pipelines(), data=st.binary(max_size=80))
def test_arbitrary_bytes_decode_or_raise_codec_error(pipeline: Pipeline, data: bytes) -> None:
    try:
        decoded = pipeline.decode(data)
    except CodecError:
        return
    assert len(decoded) == int.from_bytes(data[:4], "little")
    assert pipeline.encoded_bytes(len(decoded)) in (None, len(data))


@pytest.mark.parametrize("bits", range(1, 9))
def test_stochastic_rounding_is_unbiased(bits: int) -> None:
    generator = np.random.default_rng(bits)
    values = generator.normal(size=32).astype(np.float32)
    pipeline = Pipeline((Quantize(bits=bits),))
    draws = np.stack([pipeline.decode(pipeline.encode(values, generator)) for _ in range(2000)]).astype(np.float64)
    # A value at t steps above the least rounds up with probability p = t - floor(t): variance p (1 - p) step^2.
    step = (float(values.max()) - float(values.min())) / (2**bits - 1)
    t = (values.astype(np.float64) - values.min()) / step
    up = t - np.floor(t)
    standard_error = step * np.sqrt(up * (1 - up) / len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - values) <= 4 * standard_error + 1e-6)


@settings(max_examples=200, deadline=None)
@given(pipeline=pipelines(), values=arrays(np.float32, 20, elements=st.floats(-100, 100, width=32)), data=st.data())
def test_a_stated_count_is_checked_before_anything_else(pipeline: Pipeline, values: np.ndarray, data: st.DataObject) -> None:
    payload = pipeline.encode(values, np.random.default_rng(0))
    assert len(pipeline.decode(payload, 20)) == 20
    with pytest.raises(CodecError, match="expected 21 values, got 20"):
        pipeline.decode(payload, 21)


SHAPES: Shapes = ((3, 4), (5,), (), (2, 0), (2, 3, 2))


@settings(max_examples=150, deadline=None)
@given(pipeline=pipelines(shapes=SHAPES), values=arrays(np.float32, 30, elements=finite), seed=st.integers(0, 2**32))
def test_tensors_keep_the_laws_too(pipeline: Pipeline, values: np.ndarray, seed: int) -> None:
    payload = pipeline.encode(values, np.random.default_rng(seed))
    assert pipeline.encoded_bytes(30) in (None, len(payload))
    decoded = Pipeline(pipeline.stages, SHAPES).decode(payload)
    bound = pipeline.error_bound(values, np.random.default_rng(seed))
    if bound is not None:
        assert np.all(np.abs(decoded.astype(np.float64) - values.astype(np.float64)) <= bound)


@settings(max_examples=200, deadline=None)
@given(pipeline=pipelines(), values=arrays(np.float32, 20, elements=st.floats(-100, 100, width=32)))
def test_error_feedback_loses_nothing(pipeline: Pipeline, values: np.ndarray) -> None:
    first = encode_with_feedback(pipeline, values, None, np.random.default_rng(1))
    second = encode_with_feedback(pipeline, values, first.residual, np.random.default_rng(2))
    sent = [pipeline.encode_fully(each.input[:20], np.random.default_rng(i)).sent for i, each in ((1, first), (2, second))]
    private = any(isinstance(stage, LaplaceRelease | OneBitRelease) for stage in pipeline.stages)
    assert private or all(np.array_equal(of, each.decoded) for of, each in zip(sent, (first, second), strict=True))
    # What was sent and what is still owed make up what was put in: 2 x values, and with momentum the two velocities.
    put_in = 2 * values.astype(np.float64)
    if pipeline.momentum is not None:
        again = np.float32(pipeline.momentum) * first.residual[20:] + values
        put_in = values.astype(np.float64) + again
    total = sent[0].astype(np.float64) + sent[1] + second.residual[:20]
    largest = max(float(np.abs(each).max()) for each in (*sent, second.residual, second.input))
    assert np.allclose(total, put_in, rtol=0, atol=8 * largest * 2.0**-24)


@pytest.mark.parametrize(
    "stages",
    [
        (),
        (TopK(fraction=0.01),),
        (TopK(fraction=0.5),),
        (TopK(fraction=0.3), TopK(fraction=0.1), Quantize(bits=3), Zstd(), Zstd(level=19)),
        (Quantize(),),
        (Quantize(bits=4, stochastic=False),),
        (Quantize(bits=1),),
        (Zstd(level=1),),
        (TopK(fraction=0.1), Quantize(bits=8), Zstd(level=3)),
        *((TopK(fraction=0.1, indices=coding),) for coding in ("coordinates", "elias_gamma", "elias_delta", "rice", "bitmap")),
        (RandomK(fraction=0.1),),
        (RandomK(fraction=0.2, unbiased=True), Quantize(bits=3), Entropy()),
        (Threshold(least=0.7, indices="rice"), Qsgd(bucket=16), Zstd()),
        (Dgc(fraction=0.1, warmup_rounds=0), Float16()),
        (GumbelTopK(fraction=0.1, clip=0.5, epsilon=1.0, indices="rice"), OneBitRelease(clip=0.5, epsilon=1.0)),
        (GumbelTopK(fraction=0.1, clip=0.5, epsilon=1.0), LaplaceRelease(clip=0.5, epsilon=1.0)),
        (Svt(fraction=0.1, clip=0.5, epsilon=1.0, threshold=0.1),),
        (Svt(fraction=0.1, clip=0.5, epsilon=1.0, threshold=0.1, variant="shokri2015"),),
        (LowRank(rank=2),),
        (LowRank(rank=1), Float16()),
        (CountSketch(fraction=0.2),),
        (CountSketch(fraction=0.2, largest=0.05), Bfloat16()),
        (Qsgd(),),
        (Qsgd(levels=1000, norm="max", bucket=16),),
        (Qsgd(levels=7, bucket=64, coding="elias_gamma"),),
        (TernGrad(),),
        (TernGrad(clip_deviations=2.5),),
        (Sign(),),
        (OneBit(),),
        (Affine(),),
        (Affine(bits=3), Zstd()),
        (Float16(),),
        (Bfloat16(),),
        (LaplaceRelease(clip=0.1, epsilon=1.0),),
        (OneBitRelease(clip=0.1, epsilon=1.0),),
        (Entropy(),),
    ],
)
def test_shipped_pipelines_keep_the_contract(stages: tuple[Stage, ...]) -> None:
    check_codec(Pipeline(stages), fuzz=25, draws=200)


@pytest.mark.parametrize(
    "stage",
    [Affine(), Affine(per="channel", bits=4), TernGrad(), Sign(), OneBit(), LowRank(rank=1)],
    ids=lambda stage: type(stage).__name__,
)
def test_stages_that_know_their_tensors_keep_the_contract(stage: Stage) -> None:
    check_codec(Pipeline((stage,), shapes=((4, 6), (5,), (), (3, 2, 2), (0, 3))), fuzz=25, draws=200)


def test_every_kind_is_checked_here() -> None:
    kinds = {CODECS.find(kind) for kind in CODECS.kinds()}
    assert kinds == {
        Affine, Bfloat16, CountSketch, Dgc, Entropy, Float16, GumbelTopK, LaplaceRelease, LowRank, OneBit, OneBitRelease, Qsgd, Quantize,
        RandomK, Sign, Svt, TernGrad, Threshold, TopK, Zstd,
    }  # fmt: skip
