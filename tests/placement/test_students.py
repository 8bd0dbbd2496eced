"""NoNN's filter activation network, its communities and their packing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfl.errors import NetflError
from netfl.placement.students import FilterGroups, communities, filter_weights, modularity, thresholded


def test_three_filters_by_hand() -> None:
    # Divided by the highest: (1, 1/2, 1/4). hub: 1/2 * 1/2, 1/4 * 3/4, 1/8 * 1/4 = 8/32, 6/32, 1/32.
    # correlation: (1/2) / (3/2), (1/4) / (7/4), (1/8) / (5/4) = 1/3, 1/7, 1/10.
    activity = np.array([[8.0, 4.0, 2.0]])
    hub = np.array([[0, 8, 6], [8, 0, 1], [6, 1, 0]]) / 8
    correlation = 3 * np.array([[0, 1 / 3, 1 / 7], [1 / 3, 0, 1 / 10], [1 / 7, 1 / 10, 0]])
    assert filter_weights(activity, "hub", 3) == pytest.approx(hub)
    assert filter_weights(activity, "correlation", 3) == pytest.approx(correlation)
    # Only the two most active count; a second image without any activity, and one below 0, change nothing.
    two = filter_weights(np.array([[8.0, 4.0, 2.0], [0, 0, 0], [-1, -2, -3]]), "hub", 2)
    assert two == pytest.approx(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]))


def test_images_add_up_each_divided_by_its_own_highest() -> None:
    # (1, 1/2): 1/2 * 1/2 = 1/4 between 0 and 1; (1, 1/10): 1/10 * 9/10 = 9/100 between 0 and 2.
    found = filter_weights(np.array([[1.0, 0.5, 0.0], [100.0, 0.0, 10.0]]), "hub", 3)
    assert found[0].tolist() == pytest.approx([0, 1, 0.36])


def test_equal_activity_ties_nothing_by_the_hub_rule() -> None:
    assert not filter_weights(np.ones((3, 4)), "hub", 4).any()
    assert filter_weights(np.ones((3, 4)), "correlation", 4) == pytest.approx(1 - np.eye(4))


@given(st.integers(0, 2**32), st.sampled_from(["hub", "correlation"]), st.integers(2, 12))
def test_weights_are_symmetric_with_an_empty_diagonal_and_1_at_most(seed: int, rule: str, top: int) -> None:
    weights = filter_weights(np.random.default_rng(seed).normal(size=(6, 9)), rule, top)  # type: ignore[arg-type]
    assert (weights == weights.T).all()
    assert not weights.diagonal().any()
    assert weights.max() in (0.0, 1.0)
    assert weights.min() >= 0


def test_the_threshold_is_a_percentile_of_the_positive_weights() -> None:
    # Positive entries, both triangles: 1, 1, 3/4, 3/4, 1/8, 1/8; the 40th percentile is sorted place 2: 3/4.
    weights = np.array([[0, 8, 6], [8, 0, 1], [6, 1, 0]]) / 8
    assert thresholded(weights, 40).tolist() == [[0, 1, 0.75], [1, 0, 0], [0.75, 0, 0]]
    assert thresholded(np.zeros((2, 2)), 40).tolist() == [[0, 0], [0, 0]]


def planted(images: int = 20) -> np.ndarray:
    """Two hubs, 0 and 5, each with four weak members; an image shows one of both."""
    activity = np.zeros((images, 10))
    activity[::2, :5] = [1.0, 0.5, 0.45, 0.4, 0.35]
    activity[1::2, 5:] = [1.0, 0.5, 0.45, 0.4, 0.35]
    return activity


def test_planted_communities_are_found() -> None:
    for isolated in ("balance", "drop"):
        rule = FilterGroups(top=5, percentile=0, isolated=isolated)  # type: ignore[arg-type]
        assert rule.groups(planted(), 2, seed=1) == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))


def test_communities_beat_random_groups_in_modularity() -> None:
    generator = np.random.default_rng(3)
    edges = thresholded(filter_weights(planted() + 0.1 * generator.random((20, 10)), "hub", 8), 30)
    found = modularity(edges, communities(edges, 1.0, 1), 1.0)
    for _ in range(20):
        order = generator.permutation(10)
        assert found > modularity(edges, [order[:5].tolist(), order[5:].tolist()], 1.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from(["balance", "strongest_edge", "drop"]), st.integers(0, 90))
def test_groups_are_disjoint_complete_and_the_same_again(seed: int, count: int, isolated: str, percentile: int) -> None:
    activity = np.random.default_rng(seed).random((12, 16))
    rule = FilterGroups(top=8, percentile=percentile, isolated=isolated)  # type: ignore[arg-type]
    found = rule.groups(activity, count, seed=7)
    members = [filter_ for group in found for filter_ in group]
    assert len(found) == count
    assert all(found)
    assert len(set(members)) == len(members)
    assert isolated == "drop" or sorted(members) == list(range(16))
    assert rule.groups(activity, count, seed=7) == found


def test_isolated_filters() -> None:
    # Filter 10 shares a weak weight with hub 5, below the percentile; filter 11 shares none with anybody.
    activity = np.concatenate([planted(), np.zeros((20, 2))], axis=1)
    activity[1, 10] = 0.01
    first, second = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
    dealt = {
        isolated: FilterGroups(top=6, percentile=30, isolated=isolated).groups(activity, 2, seed=1)  # type: ignore[arg-type]
        for isolated in ("balance", "strongest_edge", "drop")
    }
    assert dealt["drop"] == (first, second)
    assert dealt["balance"] == ((*first, 10), (*second, 11))
    assert dealt["strongest_edge"] == ((*first, 11), (*second, 10))


def test_the_largest_community_is_halved_where_there_are_too_few() -> None:
    found = FilterGroups(top=5, percentile=0).groups(planted(), 3, seed=1)
    assert sorted(map(len, found)) == [2, 3, 5]


def test_packing_as_the_authors_do() -> None:
    # Communities of 4, 3, 3, 2 and six of 1: by length, groups of 6 (the ones), 6 (the threes), 4 and 2. The first is dropped, the
    # next two go to a student each, and the last to the one with fewer filters: 6 and 4 + 2.
    from netfl.placement.students import _as_authors

    lengths, found, at = (4, 3, 3, 2, 1, 1, 1, 1, 1, 1), [], 0
    for length in lengths:
        found.append(list(range(at, at + length)))
        at += length
    # Of equal groups the one with the lowest filter comes first: the threes (4..9) are dropped, the ones (12..17) kept.
    packed = _as_authors(found, 2)
    assert [sorted(group) for group in packed] == [[12, 13, 14, 15, 16, 17], [0, 1, 2, 3, 10, 11]]


def test_what_cannot_be_packed_is_told() -> None:
    with pytest.raises(NetflError, match=r"student 1 of 2 got no filter: 2 communities of 10 filters are too few for `packing: authors`"):
        FilterGroups(top=5, percentile=0, packing="authors").groups(planted(), 2, seed=1)
    with pytest.raises(NetflError, match="has 10 filters, too few for 11 students"):
        FilterGroups().groups(planted(), 11, seed=1)
    # No pair gained anything, and the filters without an edge are dropped.
    with pytest.raises(NetflError, match="got no filter"):
        FilterGroups(isolated="drop").groups(np.ones((2, 6)), 2, seed=1)
