"""Sparsifiers: what they keep, what they draw, and what they say of themselves."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from scipy import stats

from netfl.codecs import Dgc, GumbelTopK, Pipeline, RandomK, Stage, Svt, Threshold, TopK, Vector, encode_with_feedback
from netfl.errors import CodecError


def sent(values: Vector, *stages: Stage, seed: int = 0) -> Vector:
    pipeline = Pipeline(stages)
    return pipeline.decode(pipeline.encode(values, np.random.default_rng(seed)), len(values))


def normal(count: int, seed: int = 3) -> Vector:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def test_randomk_sends_a_seed_and_no_places() -> None:
    # Count, seed, ceil(0.1 x 1000) float32: 4 + 8 + 400.
    pipeline = Pipeline((RandomK(fraction=0.1),))
    values = normal(1000)
    payload = pipeline.encode(values, np.random.default_rng(0))
    assert len(payload) == pipeline.encoded_bytes(1000) == 412
    decoded = pipeline.decode(payload)
    kept = np.flatnonzero(decoded)
    assert len(kept) == 100 and np.array_equal(decoded[kept], values[kept])
    with pytest.raises(CodecError, match=r"seed below 2\*\*63"):
        pipeline.decode(payload[:4] + b"\xff" * 8 + payload[12:])


def test_every_place_is_kept_equally_often() -> None:
    # 3 of 12, 4000 times: each place 1000 times on average, with variance 4000 x 1/4 x 3/4 = 750.
    kept = sum((sent(np.ones(12, np.float32), RandomK(fraction=0.25), seed=seed) != 0).astype(int) for seed in range(4000))
    assert np.abs(kept - 1000).max() <= 4 * math.sqrt(750)


def test_unbiased_randomk_multiplies_by_n_over_k() -> None:
    decoded = sent(np.ones(12, np.float32), RandomK(fraction=0.25, unbiased=True))
    assert sorted(decoded) == [0] * 9 + [4] * 3
    assert Pipeline((RandomK(fraction=0.25, unbiased=True),)).unbiased_up_to == math.inf
    assert Pipeline((RandomK(fraction=0.25),)).unbiased_up_to is None


def test_threshold_keeps_what_reaches_it() -> None:
    values = np.array([0.5, -1.0, 0.99, 3.0], np.float32)
    assert sent(values, Threshold(least=1.0)).tolist() == [0, -1, 0, 3]
    pipeline = Pipeline((Threshold(least=1.0, indices="bitmap"),))
    # Count; the bitmap, whose length follows from the count; how many are kept; they.
    assert pipeline.encode(values, np.random.default_rng(0)) == struct.pack("<IBIff", 4, 0b01010000, 2, -1.0, 3.0)
    assert pipeline.encoded_bytes(4) is None


def test_dgc_warms_up_in_equal_ratios() -> None:
    codec = Dgc(fraction=0.01, warmup_rounds=2, warmup_fraction=0.25)
    # Round 2: 0.25 x (0.04)^(1/2) = 0.05; from round 3 on 0.01. Of 1000: 250, 50, 10.
    pipeline = Pipeline((codec,))
    kept = [np.count_nonzero(sent(normal(1000), *pipeline.at_round(round_).stages)) for round_ in (1, 2, 3, 4)]
    assert kept == [250, 50, 10, 10]
    assert pipeline.at_round(3) == pipeline.at_round(50) == Pipeline((Dgc(fraction=0.01, warmup_rounds=0),))
    assert Pipeline((TopK(fraction=0.1),)).at_round(2) == Pipeline((TopK(fraction=0.1),))
    with pytest.raises(CodecError, match="ask for the pipeline of a round"):
        pipeline.encode(normal(10), np.random.default_rng(0))


def test_dgc_momentum_by_hand() -> None:
    # One of two is kept, m = 0.5, values (4, 1) each time.
    pipeline = Pipeline((Dgc(fraction=0.5, warmup_rounds=0, momentum=0.5),))
    values = np.array([4, 1], np.float32)
    first = encode_with_feedback(pipeline, values, None, np.random.default_rng(0))
    # Velocity (4, 1), owed (4, 1): 4 goes, its velocity starts again.
    assert first.decoded.tolist() == [4, 0]
    assert first.residual.tolist() == [0, 1, 0, 1]
    assert first.input.tolist() == [4, 1, 4, 1]
    # Velocity (4, 1.5), owed (4, 2.5).
    second = encode_with_feedback(pipeline, values, first.residual, np.random.default_rng(0))
    assert second.decoded.tolist() == [4, 0]
    assert second.residual.tolist() == [0, 2.5, 0, 1.5]
    # Had the first not arrived: velocity (4 + 2, 1 + 0.5), owed (4, 1) + that.
    again = encode_with_feedback(pipeline, values, first.input, np.random.default_rng(0))
    assert again.input.tolist() == [10, 2.5, 6, 1.5]


def test_dgc_without_momentum_is_topk_with_error_feedback() -> None:
    values = normal(50)
    ours = encode_with_feedback(Pipeline((Dgc(fraction=0.2, warmup_rounds=0, momentum=0.0),)), values, None, np.random.default_rng(0))
    plain = encode_with_feedback(Pipeline((TopK(fraction=0.2),)), values, None, np.random.default_rng(0))
    assert ours.payload == plain.payload and np.array_equal(ours.residual[:50], plain.residual)


def test_gumbel_selection_follows_the_exponential_mechanism() -> None:
    """Of utilities 0.2, 0.5, 1.0 with clip 1 and epsilon 4, one is drawn with probability in proportion to exp(4 u / 2)."""
    values = np.array([0.2, -0.5, 1.0], np.float32)
    weights = np.exp(2 * np.abs(values.astype(float)))
    chosen = np.zeros(3)
    pipeline = Pipeline((GumbelTopK(fraction=1 / 3, clip=1.0, epsilon=4.0),))
    generator = np.random.default_rng(5)
    for _ in range(6000):
        chosen += pipeline.decode(pipeline.encode(values, generator)) != 0
    assert chosen.sum() == 6000
    assert stats.chisquare(chosen, 6000 * weights / weights.sum()).pvalue > 0.01


def test_gumbel_pairs_follow_peeling() -> None:
    """Two of three: the one left out is last of three draws without replacement."""
    values = np.array([0.2, -0.5, 1.0], np.float32)
    w = np.exp(2 * np.abs(values.astype(float)))
    total = w.sum()
    # P(i is left out) = sum over the orders of the other two: w_a / W x w_b / (W - w_a) + the same with a and b exchanged.
    left_out = [
        sum(w[a] / total * w[b] / (total - w[a]) for a, b in ((j, k), (k, j)))
        for i in range(3)
        for j, k in [tuple(each for each in range(3) if each != i)]
    ]
    pipeline = Pipeline((GumbelTopK(fraction=2 / 3, clip=1.0, epsilon=4.0),))
    generator = np.random.default_rng(6)
    missing = sum((pipeline.decode(pipeline.encode(values, generator)) == 0).astype(float) for _ in range(6000))
    assert stats.chisquare(missing, 6000 * np.array(left_out)).pvalue > 0.01


@pytest.mark.parametrize("epsilon", [1e9, math.inf])
def test_without_noise_gumbel_is_topk(epsilon: float) -> None:
    values = normal(500)
    private = sent(values, GumbelTopK(fraction=0.1, clip=10.0, epsilon=epsilon))
    assert np.array_equal(private, sent(values, TopK(fraction=0.1)))


def test_gumbel_clips_what_it_keeps() -> None:
    decoded = sent(np.array([5, -7, 0.25], np.float32), GumbelTopK(fraction=1.0, clip=0.5, epsilon=1.0))
    assert decoded.tolist() == [0.5, -0.5, 0.25]


@pytest.mark.parametrize("variant", ["shokri2015", "lyu"])
def test_svt_releases_large_values_and_at_most_its_share(variant: str) -> None:
    # Almost no noise: what lies above the threshold passes, in random order, until 20 of 200 have.
    values = np.zeros(200, np.float32)
    values[:15] = 0.8
    codec = Svt(fraction=0.1, clip=1.0, epsilon=1e6, threshold=0.5, variant=variant)  # type: ignore[arg-type]
    decoded = sent(values, codec)
    assert np.flatnonzero(np.abs(decoded) > 0.1).tolist() == list(range(15))
    assert np.allclose(decoded[:15], 0.8, atol=1e-3)
    values[:100] = -0.8
    assert np.count_nonzero(sent(values, codec)) == 20


def test_svt_noise_has_the_stated_scales() -> None:
    """With a threshold of 0 and c = n everything may pass; what is released carries the value noise alone."""
    # Shokri: 2 c 2 clip / (2/9 c epsilon) = 18 clip / epsilon; Lyu: 2 c clip / (2/9 c epsilon) = 9 clip / epsilon.
    # Epsilon 900 makes them 0.02 and 0.01 of the clip, far from where released values are clipped.
    for variant, scale in (("shokri2015", 0.02), ("lyu", 0.01)):
        values = np.full(20_000, 0.5, np.float32)
        decoded = sent(values, Svt(fraction=1.0, clip=1.0, epsilon=900.0, threshold=0.0, variant=variant))  # type: ignore[arg-type]
        noise = decoded[decoded != 0].astype(float) - 0.5
        # |Laplace| has mean and standard deviation equal to its scale.
        assert abs(np.abs(noise).mean() - scale) <= 4 * scale / math.sqrt(len(noise))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomK(fraction=0.0), "fraction above 0 and at most 1, got 0"),
        (lambda: Threshold(least=0.0), "magnitude above 0"),
        (lambda: Dgc(fraction=0.5, warmup_fraction=0.1), "warmup_fraction of at least the fraction"),
        (lambda: Dgc(fraction=0.5, warmup_fraction=2.0), "warmup_fraction above 0 and at most 1"),
        (lambda: Dgc(fraction=0.1, warmup_rounds=-1), "at least 0 warm-up rounds"),
        (lambda: Dgc(fraction=0.1, momentum=1.0), "at least 0 and below 1"),
        (lambda: GumbelTopK(fraction=0.1, clip=0.0, epsilon=1.0), "clip above 0"),
        (lambda: GumbelTopK(fraction=0.1, clip=1.0, epsilon=0.0), "epsilon above 0, got 0"),
        (lambda: GumbelTopK(fraction=0.1, clip=1.0, epsilon=math.nan), "epsilon above 0, got nan"),
        (lambda: Svt(fraction=0.1, clip=1.0, epsilon=1.0, threshold=-1.0), "threshold of at least 0"),
        (lambda: Svt(fraction=0.1, clip=1.0, epsilon=1.0, threshold=0.0, variant="dwork"), "shokri2015 or lyu"),  # type: ignore[arg-type]
        (lambda: Pipeline((TopK(fraction=0.1), GumbelTopK(fraction=0.1, clip=1.0, epsilon=1.0))), "must see the whole vector"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
