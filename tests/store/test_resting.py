"""Memory does not grow with the rounds: recipes hold tensors in place of what led to them."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.store import Disk, Function, MissingValueError, Recipe, Store, TensorForm, recipe, store
from tests.workloads.small import training_only

FORM = TensorForm(lambda vector: {"it": vector}, lambda named: named["it"])
LOSSY = [{"kind": "topk", "fraction": 0.1}, {"kind": "quantize", "bits": 8}]
CASES = {
    "as they are": {},
    "residuals up": {"training__uplink": LOSSY},
    "residuals both ways": {"training__uplink": LOSSY, "training__downlink": [{"kind": "quantize", "bits": 8}]},
    "deltas down": {"training__downlink": LOSSY},
    "lengths that depend on data": {"training__uplink": [*LOSSY, {"kind": "zstd"}]},
    "seldom evaluated": {"training__evaluate_every": 7},
}


def live_recipes(
    at_rounds: tuple[int, ...], store_: Store | None = None, per_round: int = 4, **changes: Any
) -> tuple[list[int], dict[str, Any]]:
    """How many recipes are alive at the end of these rounds, and the run's metrics."""
    counts = []

    def count(progress: Any) -> None:
        if progress.round in at_rounds:
            gc.collect()
            counts.append(sum(type(each) is Recipe for each in gc.get_objects()))

    scenario = training_only(
        training__rounds=at_rounds[-1], training__clients_per_round=per_round, model={"kind": "mlp", "hidden": [4]}, **changes
    )
    return counts, run(scenario, on_progress=count, store=store_).metrics


@pytest.mark.parametrize("case", sorted(CASES))
def test_recipes_do_not_grow_with_the_rounds(case: str) -> None:
    # All four clients take part in every round, so that every round leaves the same behind.
    (early, late), _ = live_recipes((14, 35), **CASES[case])
    assert late == early


def test_recipes_do_not_grow_with_the_clients_that_have_taken_part() -> None:
    # One of four in a round: after three rounds at most three have had a turn, after thirty all.
    (early, late), metrics = live_recipes((3, 30), per_round=1)
    assert late == early
    assert metrics["work"]["trained_clients"] == 30


def test_recipes_do_not_grow_in_a_run_that_finds_all_its_facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "_WORTH", 0)  # every aggregate reaches the disk
    cold = live_recipes((35,))[1]
    monkeypatch.setattr(store, "ANNOUNCED_TO_REST", 15)  # a rest every four rounds of four
    counts, warm = live_recipes((12, 32))
    assert counts[1] == counts[0]
    counts, warm = live_recipes((35,))
    assert warm["trace_digest"] == cold["trace_digest"]
    assert warm["work"] == {"trained_clients": 0, "reused_clients": 140, "speculated_clients": 0}


def counter() -> tuple[list[int], Function]:
    """A function x -> x + 1 on vectors that are resting places, and the batches that it ran."""
    calls: list[int] = []

    def compute(batch: Any) -> list[np.ndarray]:
        calls.append(len(batch))
        return [np.full(1000, 0.0 if x is None else x[0] + 1, dtype=np.float32) for (x,) in batch]

    return calls, Function("next", 1, compute, FORM)


def chain(function: Function, length: int) -> Recipe:
    last = recipe(function, None)
    for _ in range(length):
        last = recipe(function, last)
    return last


def test_a_held_value_ends_what_its_recipe_keeps_alive() -> None:
    calls, function = counter()
    last, store_ = chain(function, 5), Store()
    key = last.key
    assert store_.force(last)[0] == 5
    assert (last.arguments, last.inputs, last.key) == ((), (), key)
    assert store_.force(recipe(function, last))[0] == 6
    assert len(calls) == 7


def test_a_held_value_outlives_its_place_in_memory_and_a_dropped_one_is_computed_from_the_nearest() -> None:
    calls, function = counter()
    double = Function("double", 1, lambda batch: [2 * x for (x,) in batch])
    store_ = Store(limit_bytes=10_000)  # two vectors of 4,000 bytes
    held = [chain(function, length) for length in range(6)]
    doubled = recipe(double, held[3])
    assert store_.force(doubled)[0] == 6
    for each in held:  # those beyond the limit lie in the file
        store_.force(each)
    calls.clear()
    assert [store_.force(each)[0] for each in held] == [0, 1, 2, 3, 4, 5]
    assert store_.force(doubled)[0] == 6
    assert calls == []
    assert store_.computed["double"] == 2


def test_a_dataset_above_the_limit_is_loaded_once() -> None:
    store_ = Store(limit_bytes=50_000)  # digits take 460,000
    found = run(training_only(training__clients_per_round=4), store=store_).metrics
    assert store_.computed["dataset"] == store_.computed["shards"] == 1
    assert found["trace_digest"] == run(training_only(training__clients_per_round=4)).metrics["trace_digest"]


def test_the_shelf_gives_room_back() -> None:
    _, function = counter()
    store_ = Store(limit_bytes=0)
    for _ in range(3):
        held = [chain(function, length) for length in range(4)]
        assert [store_.force(each)[0] for each in held] == [0, 1, 2, 3]
        del held
    # Twice four vectors at most are held at once: the new ones are made before the last of the old ones go.
    assert store_._shelf._end <= 8 * 4000


def test_a_value_read_from_disk_is_held_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "_WORTH", 0)
    calls, function = counter()
    first = Store(disk=Disk(tmp_path))
    first.force(chain(function, 3))
    first.close()
    again, last = Store(disk=Disk(tmp_path)), chain(function, 3)
    calls.clear()
    assert again.force(last)[0] == 3
    assert (calls, last.inputs) == ([], ())


def test_what_later_rounds_begin_with_is_written_with_the_next_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vector = Function("vector", 1, lambda calls: [np.full(1000, float(number)) for (number,) in calls], FORM)
    first = Store(disk=Disk(tmp_path))
    monkeypatch.setattr(store, "_WORTH", 1e9)
    kept, gone = [recipe(vector, 1)], recipe(vector, 2)
    first.force_all([*kept, gone])
    del gone  # as a residual that a newer one replaced
    monkeypatch.setattr(store, "_WORTH", 0)
    kept.append(recipe(vector, 3))
    first.force(kept[1])
    first.close()
    again = Store(disk=Disk(tmp_path), refuses=True)
    assert [again.force(recipe(vector, number))[0] for number in (1, 3)] == [1, 3]
    with pytest.raises(MissingValueError):
        again.force(recipe(vector, 2))


@pytest.mark.parametrize("case", ["residuals up", "residuals both ways", "deltas down"])
def test_a_longer_run_trains_the_rounds_that_are_new(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def trained(rounds: int, worth: float) -> tuple[int, int]:
        monkeypatch.setattr(store, "_WORTH", 1e9)  # nothing is written on the way

        def at_the_end(progress: Any) -> None:
            if progress.round == rounds:
                monkeypatch.setattr(store, "_WORTH", worth)

        scenario = training_only(training__rounds=rounds, model={"kind": "mlp", "hidden": [4]}, **CASES[case])
        own = Store(disk=Disk(tmp_path / str(worth)))
        work = run(scenario, store=own, on_progress=at_the_end).metrics["work"]
        own.close()
        return work["trained_clients"], work["reused_clients"]

    per_round = trained(1, 1e9)[0]
    assert trained(3, 0.0) == (3 * per_round, 0)
    assert trained(5, 0.0) == (2 * per_round, 3 * per_round)
    # Facts alone do not do: what was taken for reused at first is trained again after all.
    trained(3, 1e6)
    assert trained(5, 1e6) == (5 * per_round, 0)


def test_a_full_disk_leaves_held_values_in_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import tempfile

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    _, function = counter()
    store_ = Store(limit_bytes=0)
    held = [chain(function, length) for length in range(4)]
    assert [store_.force(each)[0] for each in held] == [0, 1, 2, 3]
    assert [store_.force(each)[0] for each in held] == [0, 1, 2, 3]
    assert caplog.text.count("No space left") == 1


def test_a_part_that_is_wanted_with_its_whole_is_computed_once() -> None:
    """The whole brings its part along, which then holds its value and has no arguments left."""
    half = Function("half", 1, lambda calls: [whole / 2 for (whole,) in calls], FORM)
    double = Function("double", 1, lambda calls: [np.full(2, 2.0 * number) for (number,) in calls], parts=(half,))
    whole = recipe(double, 3)
    np.testing.assert_array_equal(Store().force(whole.part(half)), [3.0, 3.0])
