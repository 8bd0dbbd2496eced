"""Index codings: bits by hand, closed forms, any places back again, wrong bytes refused."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfl.codecs import IndexCoding, Pipeline, TopK
from netfl.codecs.indices import decode_places, encode_places, places_bytes, rice_bits
from netfl.errors import CodecError

CODINGS: tuple[IndexCoding, ...] = get_args(IndexCoding)


def bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


@pytest.mark.parametrize(
    ("coding", "places", "count", "expected"),
    [
        # ceil(log2 10) = 4 bits each: 2, 7, 9.
        ("coordinates", [2, 7, 9], 10, "0010" "0111" "1001" "0000"),
        # Gaps 3, 5, 2 have 1, 2, 1 bits below their highest: prefixes 01 001 01, suffixes 1 01 0.
        ("elias_gamma", [2, 7, 9], 10, "01" "001" "01" "1" "01" "0" "00000"),
        # Those widths + 1 = 2, 3, 2 in gamma: prefixes 01 01 01, suffixes 0 1 0; then the gaps' own suffixes 1 01 0.
        ("elias_delta", [2, 7, 9], 10, "01" "01" "01" "0" "1" "0" "1" "01" "0" "000"),
        # floor(0.6931 x 10 / 3) = 2 has 2 bits: b = 1. Gaps less 1 are 2, 4, 1: quotients 1, 2, 0 in unary, remainders 0, 0, 1.
        ("rice", [2, 7, 9], 10, "01" "001" "1" "0" "0" "1" "0000000"),
        ("bitmap", [2, 7, 9], 10, "0010000101" "000000"),
        # 16-bit numbers, low byte first, are as short as the bitmap of two bytes.
        ("plain", [9], 16, "00001001" "00000000"),
        ("plain", [2, 7, 9], 10, "0010000101" "000000"),
    ],
)  # fmt: skip
def test_by_hand(coding: IndexCoding, places: list[int], count: int, expected: str) -> None:
    data = encode_places(coding, np.array(places), count)
    assert bits(data) == expected
    assert decode_places(coding, data, len(places), count, "x").tolist() == places


def test_the_rice_parameter_is_near_ln_2_times_the_mean_gap() -> None:
    # Mean gap 100: 69 = 0b1000101, b = 6. Mean gap 1: 0.69 rounds down to nothing, b = 0.
    assert rice_bits(10, 1000) == 6 and rice_bits(1000, 1000) == 0 and rice_bits(0, 1000) == 9


@settings(max_examples=150, deadline=None)
@given(data=st.data(), coding=st.sampled_from(CODINGS))
def test_any_places_come_back_in_the_stated_length(data: st.DataObject, coding: IndexCoding) -> None:
    count = data.draw(st.one_of(st.integers(0, 40), st.integers(65530, 65545), st.integers(2**20, 2**20 + 9)))
    places = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1), max_size=30)) if count else []), np.int64)
    encoded = encode_places(coding, places, count)
    assert places_bytes(coding, len(places), count) in (None, len(encoded))
    assert decode_places(coding, encoded, len(places), count, "x").tolist() == places.tolist()


@settings(max_examples=300, deadline=None)
@given(coding=st.sampled_from(CODINGS), data=st.binary(max_size=40), kept=st.integers(0, 50), count=st.integers(0, 400))
def test_any_bytes_give_ascending_places_or_an_error(coding: IndexCoding, data: bytes, kept: int, count: int) -> None:
    try:
        places = decode_places(coding, data, kept, count, "x")
    except CodecError:
        return
    assert len(places) == kept and all(np.diff(places) > 0)
    assert not kept or (places[0] >= 0 and places[-1] < count)


def test_gap_codes_of_one_percent_come_near_the_entropy() -> None:
    # Random places, 1 % of 200,000: the entropy is H(0.01) / 0.01 = 8.08 bits a place; plain numbers take 32, coordinates 18.
    places = np.sort(np.random.default_rng(0).choice(200_000, 2000, replace=False))
    per_place = {coding: 8 * len(encode_places(coding, places, 200_000)) / 2000 for coding in CODINGS}
    assert 8.0 < per_place["rice"] < 8.4
    assert per_place["rice"] < per_place["elias_delta"] < per_place["elias_gamma"] < 12.5
    assert per_place["coordinates"] == 18 and per_place["plain"] == 32 and per_place["bitmap"] == 100


@pytest.mark.parametrize(
    ("coding", "data", "kept", "words"),
    [
        ("elias_gamma", b"\x00", 1, "expected 1 codes, got 0"),
        ("elias_gamma", b"\x01", 1, "end before their last bit"),
        ("elias_gamma", b"\x80\x00", 1, "expected the end of the codes"),
        ("elias_gamma", b"\xc0", 1, "expected the end of the codes"),
        ("coordinates", b"\xff\xff", 1, "expected 1 bytes of places, got 2"),
        ("coordinates", b"\xf0", 1, "1 ascending places below 10"),
        ("rice", b"\xff", 20, "expected 20 codes, got 8"),
    ],
)
def test_wrong_bytes_are_named(coding: IndexCoding, data: bytes, kept: int, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        decode_places(coding, data, kept, 10, "x")


@pytest.mark.parametrize("coding", CODINGS)
def test_topk_keeps_exactly_k_at_the_right_places(coding: IndexCoding) -> None:
    values = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    pipeline = Pipeline((TopK(fraction=0.0125, indices=coding),))
    decoded = pipeline.decode(pipeline.encode(values, np.random.default_rng(0)))
    # ceil(0.0125 x 100,000) = 1250; magnitudes of normal draws are all different.
    expected = np.sort(np.argsort(-np.abs(values))[:1250])
    assert np.flatnonzero(decoded).tolist() == expected.tolist()
    assert np.array_equal(decoded[expected], values[expected])


def test_ties_of_a_long_vector_go_to_the_first() -> None:
    # 200,000 values pass the quick guess; every tenth is 1, all others 0.5: of 1000 kept, the first 1000 ones.
    values = np.full(200_000, 0.5, np.float32)
    values[::10] = -1.0
    pipeline = Pipeline((TopK(fraction=0.005),))
    decoded = pipeline.decode(pipeline.encode(values, np.random.default_rng(0)))
    assert np.flatnonzero(decoded).tolist() == list(range(0, 10_000, 10))


def test_an_unknown_coding_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected an index coding among plain, .*, got 'gap'"):
        TopK(fraction=0.1, indices="gap")  # type: ignore[arg-type]
