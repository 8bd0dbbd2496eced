"""Recipes are known by what they are made of; forcing computes what is missing, together."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from netfl.store import Function, Recipe, Store, recipe


class Counted:
    """A function that remembers its batches."""

    def __init__(self, name: str, compute: Any) -> None:
        self.batches: list[int] = []
        self._compute = compute
        self.function = Function(name, 1, self.run)

    def run(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        self.batches.append(len(calls))
        return [self._compute(*call) for call in calls]

    def __call__(self, *arguments: Any) -> Recipe:
        return recipe(self.function, *arguments)


@dataclass(frozen=True)
class Setting:
    rate: float


def test_equal_arguments_make_equal_keys_and_different_ones_do_not() -> None:
    one = Function("one", 1, list)
    variants = [
        recipe(one, 1), recipe(one, 1.0), recipe(one, "1"), recipe(one, True), recipe(one, None), recipe(one, b"1"), recipe(one),
        recipe(one, (1,)), recipe(one, 1, 2), recipe(one, (1, 2)), recipe(one, (1,), 2), recipe(one, "a", "b"), recipe(one, "ab", ""),
        recipe(one, Setting(0.1)), recipe(one, Setting(0.2)), recipe(Function("one", 2, list), 1), recipe(Function("two", 1, list), 1),
        recipe(one, recipe(one, 1)), recipe(one, -0.0), recipe(one, 0.0),
    ]  # fmt: skip
    assert len({each.key for each in variants}) == len(variants)
    assert recipe(one, Setting(0.1), (1, "x")).key == recipe(one, Setting(0.1), (1, "x")).key


def test_arguments_that_have_no_key_are_refused() -> None:
    with pytest.raises(TypeError, match="not list"):
        recipe(Function("one", 1, list), [1])


def test_forcing_runs_each_wave_of_a_function_as_one_batch() -> None:
    leaf, add = Counted("leaf", lambda x: x), Counted("add", lambda a, b: a + b)
    # (1 + 2) + (3 + 4): four leaves in one batch, two sums in one, one sum.
    whole = add(add(leaf(1), leaf(2)), add(leaf(3), leaf(4)))
    store = Store()
    assert store.force(whole) == 10
    assert (leaf.batches, add.batches) == ([4], [2, 1])
    assert store.force(whole) == 10
    assert (leaf.batches, add.batches) == ([4], [2, 1])


def test_recipes_inside_tuples_are_filled() -> None:
    leaf, total = Counted("leaf", lambda x: x), Counted("total", lambda parts, scale: sum(parts) * scale)
    assert Store().force(total((leaf(1), leaf(2), 3), 10)) == 60


def test_announced_calls_join_the_next_batch_of_their_function_only() -> None:
    fit, other = Counted("fit", lambda x: x), Counted("other", lambda x: x)
    store = Store()
    store.announce([fit(1), fit(2), fit(3)])
    store.force(other(0))
    assert fit.batches == []
    store.withdraw([fit(3)])
    store.force(fit(1))
    assert fit.batches == [2]
    store.force(fit(2))
    assert fit.batches == [2]
    assert store.speculated == 0


def test_what_was_computed_for_nothing_is_counted() -> None:
    fit = Counted("fit", lambda x: x)
    store = Store()
    store.announce([fit(1), fit(2), fit(3)])
    store.force(fit(1))
    store.withdraw([fit(2), fit(3)])
    assert store.speculated == 2
    assert store.computed["fit"] == 3


def test_a_client_that_is_lost_before_anything_is_forced_is_never_trained() -> None:
    fit = Counted("fit", lambda x: x)
    store = Store()
    store.announce([fit(1), fit(2)])
    store.withdraw([fit(2)])
    assert store.force_all([fit(1)]) == [1]
    assert fit.batches == [1]


def test_counting_begins_anew() -> None:
    fit = Counted("fit", lambda x: x)
    store = Store()
    store.force(fit(1))
    store.force(fit(1))
    store.start_counting()
    for value in (1, 1, 2):
        store.force(fit(value))
    assert store.computed["fit"] == 1


def test_announced_values_that_were_never_needed_are_reused() -> None:
    """Whatever they were for was found: here the sum of the second and third run."""
    fit, total = Counted("fit", lambda x: x), Counted("total", lambda a, b: a + b)
    store = Store()
    store.force(total(fit(1), fit(2)))
    store.start_counting()
    store.announce([fit(1), fit(2), fit(3)])
    store.withdraw([fit(3)])
    assert store.force(total(fit(1), fit(2))) == 3
    store.settle([fit(1), fit(2)])
    assert (store.computed["fit"], store.reused, store.speculated) == (0, 2, 0)


def test_what_was_dropped_is_computed_again() -> None:
    block = Counted("block", lambda x: np.full(1000, x, dtype=np.float32))
    store = Store(limit_bytes=10_000)  # two of three blocks of 4,000 bytes
    for value in (1, 2, 3, 1):
        assert store.force(block(value))[0] == value
    assert block.batches == [1, 1, 1, 1]
    store.force(block(3))
    assert block.batches == [1, 1, 1, 1]


def test_a_fleeting_value_goes_with_its_recipe() -> None:
    runs: list[int] = []
    update = Function("update", 1, lambda calls: [runs.append(x) or np.full(1000, x, dtype=np.float32) for (x,) in calls], fleeting=True)
    total = Counted("total", lambda values: float(sum(value.sum() for value in values)))
    store = Store(limit_bytes=20_000)  # in half of it, two blocks of 4,000 bytes; a total takes little
    first, second = recipe(update, 1), recipe(update, 2)
    assert store.force(total((first, second))) == 3000
    store.force_all([first, second])
    assert sorted(runs) == [1, 2]  # both recipes are there, and so are their values
    runs.clear()
    freed = weakref.ref(store.force(first))
    del first
    assert freed() is None
    store.force(recipe(update, 1))
    assert runs == [1]
    # The room of those that have gone is there for others.
    third = recipe(update, 3)
    store.force(third)
    # For a fourth there is none: it is kept as any other value, as long as these leave it there.
    fourth, block = recipe(update, 4), Counted("block", lambda x: np.full(1000, x, dtype=np.float32))
    for value in (5, 6):
        store.force(fourth)
        store.force(block(value))
    assert runs == [1, 3, 4]
    store.force_all([block(7), block(8)])  # which drive out what was used least recently: 5, and the fourth
    store.force(fourth)
    assert (block.batches, runs) == ([1, 1, 2], [1, 3, 4, 4])
    store.force_all([second, third])
    assert runs == [1, 3, 4, 4]


def test_kept_and_fleeting_values_stay_under_the_limit_together() -> None:
    block = Counted("block", lambda x: np.full(1000, x, dtype=np.float32))
    update = Function("update", 1, lambda calls: [np.zeros(1000, np.float32) for _ in calls], fleeting=True)
    store = Store(limit_bytes=40_000)
    store.force_all([block(number) for number in range(10)])
    updates = [recipe(update, number) for number in range(5)]
    store.force_all(updates)  # half of the limit: of ten blocks, the first five make room
    store.force_all([block(number) for number in range(5, 10)])
    assert block.batches == [10]
    store.force(block(4))
    assert block.batches == [10, 1]


def test_a_store_is_freed_without_the_garbage_collector_while_a_fleeting_value_is_there() -> None:
    update = Function("update", 1, lambda calls: [np.zeros(10) for _ in calls], fleeting=True)
    store = Store()
    wanted = recipe(update, 1)
    store.force(wanted)
    gone = weakref.ref(store)
    gc.disable()
    try:
        del store
        assert gone() is None
    finally:
        gc.enable()


def test_a_bundle_is_made_once_for_all_that_it_stands_in_and_needs_nothing_for_itself() -> None:
    bundles: list[Any] = []
    bundle = Function("bundle", 1, lambda calls: [bundles.append(call) or call for call in calls], bundles=True)
    leaf, user = Counted("leaf", lambda x: x), Counted("user", lambda given, factor: given[0] * factor)
    shared = recipe(bundle, leaf(3), "a name")
    users = [user(shared, factor) for factor in (1, 2)] + [user((leaf(5), shared), 1)]
    assert [each.inputs for each in users] == [(leaf(3),), (leaf(3),), (leaf(5), leaf(3))]
    assert user(recipe(bundle, leaf(4), "a name"), 1) != users[0] != user(recipe(bundle, leaf(3), "another"), 1)
    store = Store()
    assert store.force_all(users) == [3, 6, 5]
    assert (bundles, leaf.batches, user.batches) == ([(3, "a name")], [2], [3])
    assert store.force(shared) == (3, "a name")


def test_announced_values_that_have_been_computed_are_settled_at_once() -> None:
    fit = Counted("fit", lambda x: x)
    store = Store()
    store.announce([fit(1), fit(2)])
    store.force(fit(1))  # and with it the other
    store.announce([fit(3)])
    assert store.settle_computed([fit(1), fit(2), fit(3)]) == [fit(3)]
    store.settle([fit(3)])
    assert (store.computed["fit"], store.reused, store.speculated) == (2, 1, 0)


def test_a_part_that_came_with_its_whole_lets_what_needs_it_begin() -> None:
    half = Function("half", 1, lambda calls: [whole / 2 for (whole,) in calls])
    whole = Function("whole", 1, lambda calls: [float(x) for (x,) in calls], parts=(half,))
    total = Counted("total", lambda *parts: sum(parts))
    wholes = [recipe(whole, value) for value in (2, 4)]
    store = Store()
    # 2/2 + 4/2 + 2: both halves come with the first wave, so that the sum is the second.
    assert store.force(total(*(each.part(half) for each in wholes), wholes[0])) == 5
    assert (store.computed["whole"], store.computed["half"], total.batches) == (2, 0, [1])


def test_named_arrays_count_against_the_limit() -> None:
    block = Counted("state", lambda x: {"it": np.full(1000, x, dtype=np.float32)})
    store = Store(limit_bytes=10_000)  # two of three states of 4,000 bytes, as an aggregator keeps them
    for value in (1, 2, 3, 1):
        store.force(block(value))
    assert block.batches == [1, 1, 1, 1]
