from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from netfl.learning.select import SELECTORS, ClientFacts, Fastest, RoundRobin, Selector, Uniform
from netfl.learning.select_by_loss import Oort, PowerOfChoice
from netfl.randomness import Streams

STREAMS = Streams(seed=1)
NAMES = [f"client-{number}" for number in range(10)]
ALL: list[Selector] = [Uniform(), RoundRobin(), Fastest(), Fastest(by="link", factor=2.0), Oort(), PowerOfChoice()]


def facts(**changes: Any) -> ClientFacts:
    settings: dict[str, Any] = {"num_samples": 10, "expected_s": 5.0, "rate_bps": 1e6, "latency_s": 0.1, **changes}
    return ClientFacts(**settings)


KNOWN = {name: facts() for name in NAMES}


def test_every_kind_is_tested() -> None:
    assert {SELECTORS.find(kind) for kind in SELECTORS.kinds()} == {type(selector) for selector in ALL}


@pytest.mark.parametrize("selector", ALL, ids=str)
def test_selection_is_sorted_distinct_and_from_its_arguments_alone(selector: Selector) -> None:
    for count in range(12):
        stream = STREAMS.stream("select", count)
        chosen = selector.select(NAMES, count, stream, KNOWN)
        assert chosen == sorted(set(chosen))
        assert set(chosen) <= set(NAMES)
        assert len(chosen) == min(count, 10)
        assert chosen == selector.select(NAMES, count, stream, KNOWN)
    assert selector.select([], 2, STREAMS.stream("select"), {}) == []


@pytest.mark.parametrize("selector", ALL, ids=str)
def test_unsorted_candidates_and_negative_counts_are_refused(selector: Selector) -> None:
    with pytest.raises(ValueError, match="sorted by name"):
        selector.select(["b", "a"], 1, STREAMS.stream("select"), {"a": facts(), "b": facts()})
    with pytest.raises(ValueError, match="at least 0, got -1"):
        selector.select(NAMES, -1, STREAMS.stream("select"), KNOWN)


def test_uniform_everyone_is_as_likely() -> None:
    counts = Counter(name for number in range(2000) for name in Uniform().select(NAMES, 3, STREAMS.stream("select", number), {}))
    # binomial(2000, 0.3): mean 600, standard deviation 20.5; five of them either way
    assert set(counts) == set(NAMES)
    assert all(497 < count < 703 for count in counts.values())


def test_round_robin_takes_turns_and_lets_those_catch_up_who_were_away() -> None:
    known = {name: facts() for name in "abcde"}
    rounds = []
    for number, present in enumerate(["abcde", "abcde", "abd", "abcde"], 1):
        chosen = RoundRobin().select(list(present), 2, STREAMS.stream("select"), known)
        known.update({name: facts(last_round=number) for name in chosen})
        rounds.append("".join(chosen))
    # In round 3, c and e are away: a and b were asked longest ago of those present. Then e never was, and c in round 2.
    assert rounds == ["ab", "cd", "ab", "ce"]


def test_fastest_by_round_and_by_link() -> None:
    known = {
        "a": facts(expected_s=9, rate_bps=5e6),
        "b": facts(expected_s=2, rate_bps=1e6, latency_s=0.3),
        "c": facts(expected_s=4, rate_bps=1e6, latency_s=0.2),
        "d": facts(expected_s=7, rate_bps=2e6),
    }
    stream = STREAMS.stream("select")
    assert Fastest().select(list("abcd"), 2, stream, known) == ["b", "c"]
    assert Fastest(by="link").select(list("abcd"), 3, stream, known) == ["a", "c", "d"]
    assert Fastest(deadline=8).select(list("abcd"), 4, stream, known) == ["b", "c", "d"]
    assert Fastest(by="link", deadline=8).select(list("abcd"), 2, stream, known) == ["c", "d"]
    assert Fastest(deadline=1).select(list("abcd"), 3, stream, known) == ["b"]
    # Of two drawn for one place the faster one is taken: d is behind all but a, so it wins one draw of six.
    chosen = Counter(Fastest(factor=2).select(list("abcd"), 1, STREAMS.stream("select", n), known)[0] for n in range(600))
    assert chosen["a"] == 0
    assert 60 < chosen["d"] < 140  # binomial(600, 1 / 6): 100, standard deviation 9.1


def test_the_worth_of_a_client_by_hand() -> None:
    selector = Oort(preferred=10, clip=1.0)
    clients = [
        facts(num_samples=100, mean_square_loss=4.0, last_round=9, last_duration_s=5.0),  # 100 * 2 = 200: 1 of the greatest
        facts(num_samples=50, mean_square_loss=1.0, last_round=3, last_duration_s=10.0),  # 50: a quarter
        facts(num_samples=100, mean_square_loss=1.0, last_round=9, last_duration_s=20.0),  # 100: a half; twice too slow: a quarter of it
    ]
    expected = [
        1 + math.sqrt(0.1 * math.log(10) / 9),
        0.25 + math.sqrt(0.1 * math.log(10) / 3),
        (0.5 + math.sqrt(0.1 * math.log(10) / 9)) * (10 / 20) ** 2,
    ]
    assert selector.worth(clients, 10) == pytest.approx(expected)
    # The 30th percentile of 5, 10 and 20 is 5 + 0.6 * 5 = 8: the second is slow too.
    assert Oort(clip=1.0).worth(clients, 10)[1] == pytest.approx(expected[1] * 0.8**2)
    # Without an outlier's bound one client would be worth 1 and the others next to nothing.
    outlier = [facts(mean_square_loss=1.0, last_round=1) for _ in range(20)] + [facts(mean_square_loss=1e6, last_round=1)]
    assert Oort(staleness=0).worth(outlier, 2).min() == 1.0


def test_oort_explores_less_and_less() -> None:
    def new_of(round_: int) -> int:
        known = {f"old-{n:02}": facts(mean_square_loss=1.0, last_round=round_ - 1, last_duration_s=1.0) for n in range(30)}
        known |= {f"new-{n:02}": facts() for n in range(30)}
        chosen = Oort().select(sorted(known), 20, STREAMS.stream("select", round_), known)
        return sum(name.startswith("new") for name in chosen)

    # 0.9 * 20 = 18; 0.9 * 0.98^20 = 0.6009: 12; the floor of 0.2: 4
    assert [new_of(round_) for round_ in (1, 21, 300)] == [18, 12, 4]


def test_oort_prefers_high_losses_and_fast_newcomers() -> None:
    known = {f"c-{n}": facts(mean_square_loss=float(n), last_round=1, last_duration_s=1.0) for n in range(8)}
    selector = Oort(exploration=0, least_exploration=0)
    # The third best is worth sqrt(5 / 7) = 0.845 and a bonus; 0.95 of it admits nobody else: sqrt(4 / 7) = 0.756.
    assert selector.select(sorted(known), 3, STREAMS.stream("select"), known) == ["c-5", "c-6", "c-7"]
    slow = {f"n-{n}": facts(expected_s=1.0 if n == 0 else 9.0) for n in range(10)}
    counts = Counter(Oort().select(sorted(slow), 1, STREAMS.stream("select", n), slow)[0] for n in range(1000))
    # 1 against nine ninths: one half; binomial(1000, 0.5) has a standard deviation of 15.8
    assert 420 < counts["n-0"] < 580


def test_power_of_choice_takes_the_worst_of_those_drawn() -> None:
    known = {f"c-{n}": facts(last_loss=float(n), num_samples=10) for n in range(10)}
    assert PowerOfChoice(factor=5).select(sorted(known), 2, STREAMS.stream("select"), known) == ["c-8", "c-9"]
    known["c-0"] = facts()  # never trained
    assert PowerOfChoice(factor=5).select(sorted(known), 2, STREAMS.stream("select"), known) == ["c-0", "c-9"]
    large = {f"c-{n}": facts(num_samples=91 if n == 3 else 1) for n in range(10)}
    counts = Counter(PowerOfChoice(factor=1).select(sorted(large), 1, STREAMS.stream("select", n), large)[0] for n in range(500))
    # binomial(500, 0.91): 455, standard deviation 6.4
    assert 423 < counts["c-3"] < 487


def test_who_looks_at_losses_says_so() -> None:
    assert [selector.needs_losses for selector in ALL] == [False, False, False, False, True, True]
