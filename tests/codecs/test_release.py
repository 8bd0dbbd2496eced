"""Private releases: distributions, privacy that is stated, and residuals without noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from netfl.codecs import (
    GumbelTopK,
    LaplaceRelease,
    OneBitRelease,
    Pipeline,
    Quantize,
    RandomK,
    Stage,
    Svt,
    TopK,
    Zstd,
    encode_with_feedback,
)

GUMBEL = GumbelTopK(fraction=0.25, clip=0.5, epsilon=2.0)


@pytest.mark.parametrize("value", [-0.5, -0.2, 0.0, 0.31, 0.5])
def test_onebit_is_unbiased(value: float) -> None:
    # B = 0.5 (e + 1) / (e - 1) = 1.082; a bit has variance B^2 - x^2; 1e5 draws.
    magnitude = 0.5 * (math.e + 1) / (math.e - 1)
    pipeline = Pipeline((OneBitRelease(clip=0.5, epsilon=1.0),))
    values = np.full(100_000, value, np.float32)
    decoded = pipeline.decode(pipeline.encode(values, np.random.default_rng(1))).astype(float)
    assert np.unique(np.abs(decoded)) == pytest.approx([magnitude], rel=1e-6)
    assert abs(decoded.mean() - value) <= 4 * math.sqrt((magnitude**2 - value**2) / 1e5)


def test_onebit_odds_differ_by_e_to_the_epsilon() -> None:
    # Plus with 1/2 + x / (2 B): at the two ends (1 +- tanh(eps / 2)) / 2, whose ratio is e^eps.
    pipeline = Pipeline((OneBitRelease(clip=2.0, epsilon=0.7),))
    plus = [
        float((pipeline.decode(pipeline.encode(np.full(200_000, end, np.float32), np.random.default_rng(2))) > 0).mean())
        for end in (2.0, -2.0)
    ]
    assert math.log(plus[0] / plus[1]) == pytest.approx(0.7, abs=0.03)
    # One bit a value and nothing else but the count.
    assert pipeline.encoded_bytes(1001) == 4 + 126


def test_onebit_with_any_epsilon() -> None:
    assert Pipeline((OneBitRelease(clip=1.0, epsilon=5000.0),)).decode(b"\1\0\0\0\x80").tolist() == [1.0]
    with pytest.raises(ValueError, match="fits float32"):
        OneBitRelease(clip=1.0, epsilon=1e-300)


def test_laplace_noise_has_scale_2_clip_over_epsilon() -> None:
    # 2 x 0.5 / 4 = 0.25: the mean and the standard deviation of its magnitude.
    values = np.full(100_000, 0.3, np.float32)
    pipeline = Pipeline((LaplaceRelease(clip=0.5, epsilon=4.0),))
    noise = pipeline.decode(pipeline.encode(values, np.random.default_rng(3))).astype(float) - 0.3
    assert abs(np.abs(noise).mean() - 0.25) <= 4 * 0.25 / math.sqrt(1e5)
    assert abs(noise.mean()) <= 4 * 0.25 * math.sqrt(2 / 1e5)
    # The median of |Laplace| is its scale times ln 2; the density there is 1 / (2 x 0.25) = 2.
    assert abs(np.median(np.abs(noise)) - 0.25 * math.log(2)) <= 4 * 0.5 / math.sqrt(1e5) / 2
    assert pipeline.encoded_bytes(100) == 404


def test_without_noise_a_release_is_the_clipped_value() -> None:
    values = np.array([0.2, -3.0], np.float32)
    pipeline = Pipeline((LaplaceRelease(clip=0.5, epsilon=math.inf),))
    assert pipeline.decode(pipeline.encode(values, np.random.default_rng(0))).tolist() == [np.float32(0.2), -0.5]


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((), None),
        ((TopK(fraction=0.1), Quantize()), None),
        ((RandomK(fraction=0.1),), None),
        ((GUMBEL, LaplaceRelease(clip=0.5, epsilon=1.5)), 3.5),
        ((GUMBEL, OneBitRelease(clip=0.5, epsilon=0.25), Zstd()), 2.25),
        ((LaplaceRelease(clip=0.5, epsilon=1.5),), 1.5),
        ((RandomK(fraction=0.1), LaplaceRelease(clip=0.5, epsilon=1.5)), 1.5),
        # The SVT baselines release by themselves; what follows only sees what is released.
        ((Svt(fraction=0.1, clip=0.5, epsilon=4.0, threshold=0.05),), 4.0),
        ((Svt(fraction=0.1, clip=0.5, epsilon=4.0, threshold=0.05), Quantize()), 4.0),
        # A selection that looks at the values, or a release that lets them through, spends everything.
        ((TopK(fraction=0.1), LaplaceRelease(clip=0.5, epsilon=1.5)), math.inf),
        ((GUMBEL,), math.inf),
        ((GUMBEL, Quantize()), math.inf),
    ],
)
def test_what_a_pipeline_spends_on_each_coordinate(stages: tuple[Stage, ...], expected: float | None) -> None:
    assert Pipeline(stages).epsilon_per_coordinate == expected


@pytest.mark.parametrize("release", [LaplaceRelease(clip=0.5, epsilon=1.0), OneBitRelease(clip=0.5, epsilon=1.0)])
def test_the_residual_holds_what_was_not_chosen_or_clipped_off_and_no_noise(release: Stage) -> None:
    values = np.array([3.0, 0.1, -0.2, 0.0], np.float32)
    pipeline = Pipeline((GumbelTopK(fraction=0.25, clip=0.5, epsilon=1e9), release))
    encoded = encode_with_feedback(pipeline, values, None, np.random.default_rng(0), decay=0.5)
    # The first is chosen: 3 less the 0.5 that was meant is carried on, and all of the others; a half of each.
    assert encoded.residual.tolist() == [1.25, np.float32(0.05), np.float32(-0.1), 0.0]
    assert encoded.decoded[0] != 0.5


def test_a_mean_is_claimed_only_up_to_the_clip() -> None:
    assert Pipeline((OneBitRelease(clip=0.5, epsilon=1.0),)).unbiased_up_to == 0.5
    assert Pipeline((LaplaceRelease(clip=0.5, epsilon=1.0), Zstd())).unbiased_up_to == 0.5
    assert Pipeline((GUMBEL, OneBitRelease(clip=0.5, epsilon=1.0))).unbiased_up_to is None
    # Values that were multiplied by n / k may exceed the clip.
    assert Pipeline((RandomK(fraction=0.1, unbiased=True), OneBitRelease(clip=0.5, epsilon=1.0))).unbiased_up_to is None
    assert Pipeline((RandomK(fraction=0.1, unbiased=True), Quantize())).unbiased_up_to == math.inf


@pytest.mark.parametrize("kind", [LaplaceRelease, OneBitRelease])
@pytest.mark.parametrize(
    ("settings", "words"), [({"clip": 0.0, "epsilon": 1.0}, "clip"), ({"clip": 1.0, "epsilon": -1.0}, "epsilon above 0")]
)
def test_no_epsilon_of_0(kind: type, settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kind(**settings)
