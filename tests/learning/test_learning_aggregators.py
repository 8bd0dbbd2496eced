"""Aggregators by hand, on quadratics whose training has a closed form, and under the checks for outsiders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from netfl.checks import check_aggregator
from netfl.errors import RunError
from netfl.learning import values
from netfl.learning.aggregators import AGGREGATORS, Aggregator, Contributions, Mean
from netfl.learning.aggregators.adaptive import FedAdagrad, FedAdam, FedAvgM, FedYogi
from netfl.learning.aggregators.corrected import FedNova, Scaffold
from netfl.learning.aggregators.private import NoisyMean
from netfl.learning.aggregators.robust import Krum, Median, TrimmedMean
from netfl.learning.fedmax import FedMax
from netfl.learning.trainer import Adam, Sgd
from netfl.randomness import Streams
from netfl.store import Function, Recipe, Store, recipe

STREAM = Streams(seed=1).stream("aggregate")
ALL: list[Aggregator] = [
    Mean(), FedAvgM(), FedAdagrad(), FedAdam(), FedYogi(), FedNova(), FedNova(momentum=0.9), Scaffold(), Median(), TrimmedMean(trim=0.2),
    Krum(), Krum(wrong=2, chosen=3), NoisyMean(clip_norm=1.0, noise_multiplier=0.5),
]  # fmt: skip


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


def given(updates: Sequence[np.ndarray], samples: Sequence[int] | None = None, **others: Any) -> Contributions:
    count = len(updates)
    settings: dict[str, Any] = {"steps": [1] * count, "num_clients": count, **others}
    return Contributions(updates=updates, num_samples=[1] * count if samples is None else samples, **settings)


@pytest.mark.parametrize("aggregator", ALL, ids=str)
def test_contract(aggregator: Aggregator) -> None:
    check_aggregator(aggregator)


def test_every_kind_is_checked() -> None:
    assert {AGGREGATORS.find(kind) for kind in AGGREGATORS.kinds()} == {type(aggregator) for aggregator in ALL}


def test_the_check_sees_what_is_wrong() -> None:
    class Forgetful(Mean):
        def aggregate(self, model: Any, state: Any, contributions: Any) -> Any:
            model += 1
            return super().aggregate(model, state, contributions)

    class Ordered(Mean):
        def aggregate(self, model: Any, state: Any, contributions: Any) -> Any:
            return super().aggregate(model, state, given([contributions.updates[0]], contributions.num_samples[:1]))

    class Secretive(FedAvgM):
        remembers = False

    globals().update(Forgetful=Forgetful, Ordered=Ordered, Secretive=Secretive)  # pickle finds a class by its name
    for broken in (Forgetful, Ordered, Secretive):
        broken.__qualname__ = broken.__name__
    with pytest.raises(AssertionError, match="leave its arguments"):
        check_aggregator(Forgetful())
    with pytest.raises(AssertionError, match="order must not matter"):
        check_aggregator(Ordered())
    with pytest.raises(AssertionError, match=r"must say that it remembers, but kept \[.velocity"):
        check_aggregator(Secretive())


# --- the mean --------------------------------------------------------------------------------------------------------------


def test_mean_of_updates_is_weighted_by_samples_and_added_to_the_model() -> None:
    # (1 * 3 + 5 * 1) / 4 = 2; (2 * 3 + 2) / 4 = 2; (3 * 3 - 1) / 4 = 2
    result = Mean().aggregate(floats(10, 20, 30), {}, given([floats(1, 2, 3), floats(5, 2, -1)], [3, 1]))
    assert result.model.tolist() == [12, 22, 32]
    assert result.state == {}


def test_sums_are_in_double_precision() -> None:
    # 2**25 + 1 is no float32: single precision would lose both ones.
    updates = [np.full(3, value, dtype=np.float32) for value in (2.0**25, 1, 1, -(2.0**25))]
    assert Mean().aggregate(floats(0, 0, 0), {}, given(updates)).model.tolist() == [0.5, 0.5, 0.5]


def test_one_update_is_added_whole_whatever_its_weight() -> None:
    update = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    for num_samples in (1, 7, 1437):
        assert Mean().aggregate(np.zeros_like(update), {}, given([update], [num_samples])).model.tobytes() == update.tobytes()


def test_what_does_not_belong_together_is_refused() -> None:
    model = floats(1, 2, 3)
    with pytest.raises(ValueError, match="one number of samples for each update, got 2 for 1"):
        Mean().aggregate(model, {}, given([model], [1, 2]))
    with pytest.raises(ValueError, match="not all 0"):
        Mean().aggregate(model, {}, given([model], [0]))
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        Mean().aggregate(model, {}, given([model[:2]]))
    with pytest.raises(ValueError, match="at least 1 updates, got 0"):
        Mean().aggregate(model, {}, given([]))


# --- optimisers at the server ----------------------------------------------------------------------------------------------


def two_rounds(aggregator: Aggregator) -> list[float]:
    """The model after each of two aggregations of the mean updates 1 and 2, from 0."""
    model, state, made = floats(0), {}, []
    for update in (1.0, 2.0):
        result = aggregator.aggregate(model, state, given([floats(update - 1), floats(update + 1)]))
        model, state = result.model, dict(result.state)
        made.append(float(model[0]))
    return made


def test_momentum_by_hand() -> None:
    # velocities 1 and 0.5 * 1 + 2 = 2.5; steps of 0.1 times them
    assert two_rounds(FedAvgM(learning_rate=0.1, momentum=0.5)) == pytest.approx([0.1, 0.35])


def test_adam_by_hand() -> None:
    # m: 0.5, then 0.25 + 1 = 1.25. v begins at 0.5^2 = 0.25: 0.75 * 0.25 + 0.25 * 1 = 0.4375, then 0.328125 + 1 = 1.328125.
    first = 0.1 * 0.5 / (0.4375**0.5 + 0.5)
    second = first + 0.1 * 1.25 / (1.328125**0.5 + 0.5)
    assert two_rounds(FedAdam(learning_rate=0.1, beta1=0.5, beta2=0.75, tau=0.5)) == pytest.approx([first, second])


def test_yogi_by_hand() -> None:
    # v: 0.25 - 0.25 * 1 * sign(0.25 - 1) = 0.5, then 0.5 - 0.25 * 4 * sign(0.5 - 4) = 1.5
    first = 0.1 * 0.5 / (0.5**0.5 + 0.5)
    second = first + 0.1 * 1.25 / (1.5**0.5 + 0.5)
    assert two_rounds(FedYogi(learning_rate=0.1, beta1=0.5, beta2=0.75, tau=0.5)) == pytest.approx([first, second])


def test_adagrad_by_hand() -> None:
    # v: 0.25 + 1, then + 4; m is the update itself
    first = 0.1 * 1 / (1.25**0.5 + 0.5)
    second = first + 0.1 * 2 / (5.25**0.5 + 0.5)
    assert two_rounds(FedAdagrad(learning_rate=0.1, tau=0.5)) == pytest.approx([first, second])


# --- quadratics: f_i(x) = h_i / 2 (x - b_i)^2 ------------------------------------------------------------------------------

CURVES = [(1.0, -1.0), (2.0, 3.0), (0.5, 8.0)]
STEPS = [1, 4, 9]
SAMPLES = [10, 30, 60]
RATE = 0.05


def trained(x: float, curve: tuple[float, float], steps: int, offset: float = 0.0) -> float:
    """Gradient descent with an offset in every gradient has the closed form y = m + (1 - rate h)^steps (x - m), m = b - offset / h."""
    h, b = curve
    minimum = b - offset / h
    return minimum + (1 - RATE * h) ** steps * (x - minimum)


def test_fednova_on_a_quadratic() -> None:
    """Against its formula written out on closed-form updates; with steps of unequal number its fixed point is nearer to the optimum."""
    optimum = sum(n * h * b for n, (h, b) in zip(SAMPLES, CURVES, strict=True)) / sum(
        n * h for n, (h, _) in zip(SAMPLES, CURVES, strict=True)
    )
    ends = {}
    for aggregator in (FedNova(), Mean()):
        model = floats(0.0)
        for _ in range(300):
            x = float(model[0])
            moves = [trained(x, curve, steps) - x for curve, steps in zip(CURVES, STEPS, strict=True)]
            model = aggregator.aggregate(model, {}, given([floats(move) for move in moves], SAMPLES, steps=STEPS)).model
            if isinstance(aggregator, FedNova):
                # p = 0.1, 0.3, 0.6; effective steps 0.1 * 1 + 0.3 * 4 + 0.6 * 9 = 6.7
                expected = x + 6.7 * (0.1 * moves[0] + 0.3 * moves[1] / 4 + 0.6 * moves[2] / 9)
                assert float(model[0]) == pytest.approx(expected, rel=1e-6, abs=1e-6)
        ends[type(aggregator)] = float(model[0])
    # optimum: (10 * 1 * -1 + 30 * 2 * 3 + 60 * 0.5 * 8) / (10 + 60 + 30) = 410 / 100
    assert optimum == pytest.approx(4.1)
    # The mean ends where steps weigh: at about sum(n t h b) / sum(n t h) = 5.66 for small rates.
    assert abs(ends[FedNova] - optimum) < 0.25 < 1.0 < abs(ends[Mean] - optimum)


def test_fednova_counts_momentum() -> None:
    # Of two steps with momentum 0.5 the first gradient counts 1 + 0.5, the second 1: 2.5. Of three: 1.75 + 1.5 + 1 = 4.25.
    made = FedNova(momentum=0.5).aggregate(floats(0), {}, given([floats(5.0), floats(17.0)], steps=[2, 3]))
    # (2.5 + 4.25) / 2 * (5 / 2.5 + 17 / 4.25) / 2 = 3.375 * 3
    assert made.model[0] == pytest.approx(10.125)


def test_fednova_with_equal_steps_is_the_mean() -> None:
    updates = [floats(1, 2), floats(5, -3)]
    made = FedNova().aggregate(floats(1, 1), {}, given(updates, [3, 1], steps=[7, 7]))
    assert made.model == pytest.approx(Mean().aggregate(floats(1, 1), {}, given(updates, [3, 1])).model)


def vector(value: float) -> Recipe:
    return recipe(Function("a test's vector", 1, lambda calls: [np.array(call, np.float32) for call in calls]), value)


def number(store: Store, wanted: Recipe) -> float:
    return float(store.force(wanted)[0])


def test_scaffold_on_a_quadratic() -> None:
    """Against its algorithm in plain floats, two of three clients a round; then, with all of them, its fixed point is the optimum."""
    store, aggregator = Store(), Scaffold(learning_rate=0.8)
    model, before = vector(0.0), None
    own: dict[int, Recipe] = {}
    x, c, plain_own = 0.0, 0.0, dict.fromkeys(range(3), 0.0)
    for round_ in range(400):
        part = [[0, 1], [1, 2], [0, 2]][round_ % 3] if round_ < 6 else [0, 1, 2]
        shared = None if before is None else values.state_entry(before, "control")
        updates, changes = [], []
        moves = {}
        for client in part:
            moves[client] = trained(x, CURVES[client], STEPS[client], c - plain_own[client]) - x
            update = vector(moves[client])
            control = values.control(update, STEPS[client], RATE, own.get(client), shared)
            changes.append(control if client not in own else values.difference(control, own[client]))
            updates.append(update)
            own[client] = control
        model, before = values.aggregate(
            aggregator, model, before, updates, [1] * len(part), [STEPS[client] for client in part], 3, changes
        )  # fmt: skip
        assert before is not None
        found = {client: plain_own[client] - c - moves[client] / (STEPS[client] * RATE) for client in part}
        x += 0.8 * sum(moves.values()) / len(part)
        c += sum(found[client] - plain_own[client] for client in part) / 3
        plain_own.update(found)
        if round_ < 9:
            assert number(store, model) == pytest.approx(x, rel=1e-5, abs=1e-5)
            assert number(store, values.state_entry(before, "control")) == pytest.approx(c, rel=1e-4, abs=1e-4)
    # The minimum of the mean of all curves, clients alike: (-1 + 6 + 4) / 3.5
    assert number(store, model) == pytest.approx(9 / 3.5, abs=1e-4)


def test_scaffold_needs_a_control_for_each_update() -> None:
    with pytest.raises(ValueError, match="one change of a control for each update, got 0 for 1"):
        Scaffold().aggregate(floats(0), {}, given([floats(1)]))


def test_corrections_refuse_trainers_that_their_formulas_do_not_hold_for() -> None:
    plain = Sgd(learning_rate=0.1)
    assert Scaffold().unfit(plain) is None
    assert FedNova().unfit(plain) is None
    assert FedNova(momentum=0.9).unfit(Sgd(learning_rate=0.1, momentum=0.9)) is None
    assert "momentum to be 0, got 0.9" in str(Scaffold().unfit(Sgd(learning_rate=0.1, momentum=0.9)))
    assert "gradient descent" in str(FedNova().unfit(Adam()))
    assert "constant, got cosine" in str(Scaffold().unfit(Sgd(learning_rate=0.1, schedule="cosine")))
    assert "round_decay to be 1" in str(Scaffold().unfit(FedMax(learning_rate=0.1, beta=1.0, round_decay=0.9)))
    assert Mean().unfit(Adam()) is None


# --- robust ----------------------------------------------------------------------------------------------------------------


def test_median_and_trimmed_mean_by_hand() -> None:
    updates = [floats(value, -value) for value in (3, 100, 1, 2, 4)]
    assert Median().aggregate(floats(10, 10), {}, given(updates)).model.tolist() == [13, 7]
    # Without the fourth of 1, 2, 3, 4 | 100 the even number of values has two middle ones: (2 + 3) / 2.
    assert Median().aggregate(floats(0, 0), {}, given(updates[:1] + updates[2:])).model.tolist() == [2.5, -2.5]
    # A fifth at either end: (2 + 3 + 4) / 3.
    assert TrimmedMean(trim=0.2).aggregate(floats(0, 0), {}, given(updates)).model.tolist() == [3, -3]


def test_krum_by_hand() -> None:
    # Five updates on a line at 0, 1, 3, 6 and 100, one of which may be wrong: scores are sums over the 5 - 1 - 2 = 2 closest.
    # 0: 1 + 9 = 10; 1: 1 + 4 = 5; 3: 4 + 9 = 13; 6: 9 + 25 = 34; 100: 94^2 + 97^2.
    updates = [floats(value) for value in (100, 6, 3, 0, 1)]
    assert Krum(wrong=1).aggregate(floats(10), {}, given(updates)).model.tolist() == [11]
    # Six for two chosen, the sixth at 7: scores over the 3 closest. 0: 1 + 9 + 36 = 46; 1: 1 + 4 + 25 = 30; 3: 4 + 9 + 9 = 22;
    # 6: 1 + 9 + 25 = 35; 7: 1 + 16 + 36 = 53. The mean of 3 and 1 is 2.
    assert Krum(wrong=1, chosen=2).aggregate(floats(10), {}, given([*updates, floats(7)])).model.tolist() == [12]


def test_how_many_updates_are_needed() -> None:
    assert Krum(wrong=1).least_updates == 5
    assert Krum(wrong=2, chosen=4).least_updates == 10
    assert TrimmedMean(trim=0.1).least_updates == 10
    assert TrimmedMean(trim=0.3).least_updates == 4
    assert Median().least_updates == 3
    assert Mean().least_updates == 1


# --- noise -----------------------------------------------------------------------------------------------------------------


def test_updates_are_clipped_whole_and_count_alike() -> None:
    # (3, 4) has norm 5 and is scaled to 1: (0.6, 0.8); (0, 0.5) stays. The mean is (0.3, 0.65), whatever the samples.
    updates = [floats(3, 4), floats(0, 0.5)]
    made = NoisyMean(clip_norm=1.0, noise_multiplier=0).aggregate(floats(0, 0), {}, given(updates, [1, 99], stream=STREAM))
    assert made.model == pytest.approx([0.3, 0.65])


def test_noise_has_the_stated_spread_and_comes_from_the_stream_alone() -> None:
    updates = [np.zeros(40_000, np.float32)] * 4
    aggregator = NoisyMean(clip_norm=2.0, noise_multiplier=3.0)
    made = aggregator.aggregate(updates[0], {}, given(updates, stream=STREAM)).model
    # 3 * 2 / 4 = 1.5; the standard error of a standard deviation is s / sqrt(2 n) = 0.0053, of the mean 0.0075: four of each
    assert made.std() == pytest.approx(1.5, abs=0.022)
    assert made.mean() == pytest.approx(0, abs=0.03)
    other = aggregator.aggregate(updates[0], {}, given(updates, stream=STREAM.child(2))).model
    assert not np.array_equal(made, other)
    with pytest.raises(ValueError, match="a stream"):
        aggregator.aggregate(updates[0], {}, given(updates))


# --- recipes ---------------------------------------------------------------------------------------------------------------


def test_mixed_and_scaled() -> None:
    store = Store()
    assert store.force(values.mixed(vector(2.0), vector(10.0), 0.25)) == pytest.approx(4.0)
    assert store.force(values.scaled(vector(2.0), 0.25)) == pytest.approx(0.5)


def test_a_stream_is_no_part_of_what_draws_nothing() -> None:
    def made(aggregator: Aggregator, *name: str) -> Recipe:
        return values.aggregate(aggregator, vector(1.0), None, [vector(2.0)], [1], [1], 1, stream=STREAM.child(*name))[0]

    assert made(Mean(), "a") == made(Mean(), "b")
    noisy = NoisyMean(clip_norm=1.0, noise_multiplier=1.0)
    assert made(noisy, "a") != made(noisy, "b")


def test_a_state_that_an_aggregator_does_not_tell_of_is_not_lost_in_silence() -> None:
    class Secretive(FedAvgM):
        remembers = False

    model, before = values.aggregate(Secretive(), vector(1.0), None, [vector(2.0)], [1], [1], 1)
    assert before is None
    with pytest.raises(RunError, match=r"Secretive leaves a state: .* `remembers = True`"):
        Store().force(model)
