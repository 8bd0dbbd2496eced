"""What a run would find in the store, found by replaying it with a store that refuses to compute; and why it would not find more.

A value's recipe says what it is made of, so two runs' recipes of the same step, laid side by side, show which setting, version or
set of updates differs.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from netfl.learning import values as learning_values
from netfl.randomness import Stream
from netfl.scenario import Loaded
from netfl.scenario.build import prepare
from netfl.store import Disk, MissingValueError, Recipe, Store
from netfl.studies.run import NOTHING_LEFT
from netfl.workloads import Progress

__all__ = ["Replay", "differences", "replay"]

_MOST_DIFFERENCES = 4
_NAMES = {"decode": "decoded"}


@dataclass(frozen=True)
class _Description:
    """A recipe that outlives it: function, version, and arguments with recipes named by their keys."""

    function: str
    version: int
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _Key:
    """A recipe among the arguments of another."""

    key: bytes


@dataclass
class Replay:
    """What a replay met.

    Args:
        forced: the key of each value that was asked for, in order.
        missing: the key of the first that is not stored; None if all are.
        rounds: rounds that were replayed, and of how many, of the workload that was furthest.
        found: how many values were asked for and found, by function.
        recipes: descriptions by key, of these values and of all that they are made of.
    """

    forced: list[bytes] = field(default_factory=list)
    missing: bytes | None = None
    rounds: tuple[int, int] = (0, 0)
    found: Counter[str] = field(default_factory=Counter)
    recipes: dict[bytes, _Description] = field(default_factory=dict)

    def told(self, key: bytes) -> str:
        """A value for people: `evaluate, the 3rd`."""
        function = self.recipes[key].function
        number = sum(self.recipes[each].function == function for each in self.forced[: self.forced.index(key) + 1])
        return f"{function} no. {number}" if number > 1 else function

    def counterpart(self, key: bytes, other: Replay) -> bytes | None:
        """What stands in another run where a value stands in this one: as many of its function come before; None if that run ended earlier."""
        function = self.recipes[key].function
        place = sum(self.recipes[each].function == function for each in self.forced[: self.forced.index(key)])
        theirs = [each for each in other.forced if other.recipes[each].function == function]
        return theirs[place] if place < len(theirs) else None

    def why_missing(self, key: bytes, others: Sequence[tuple[str, Replay]]) -> list[str]:
        """Why a value was not stored: what differs from the run that has most in common with this one up to there.

        Args:
            key: the value.
            others: runs that are stored, with what they are called.
        """
        if not others:
            return ["nothing like it was computed before"]
        common = [len(set(self.forced) & set(theirs.forced)) for _, theirs in others]
        name, theirs = others[common.index(max(common))]
        its = self.counterpart(key, theirs)
        if its is None:
            return [f"{name} ends before it" if max(common) else "nothing like it was computed before"]
        told = differences(key, self, its, theirs)
        return [f"against {name}: {line}" for line in told] or [f"{name} has the same recipe: the value was dropped from the store"]


class _Refusing(Store):
    """Refuses to compute, and notes what it was asked for."""

    def __init__(self, disk: Disk, into: Replay) -> None:
        super().__init__(disk=disk, refuses=True)
        self._into = into

    def force_all(self, wanted: Sequence[Recipe], beside: Sequence[Recipe] = (), looks: bool = True) -> list[Any]:
        """See `Store`."""
        for each in wanted:
            self._note(each)
        found = super().force_all(wanted, beside, looks)
        self._into.found.update(each.function.name for each in wanted)
        return found

    def _note(self, wanted: Recipe) -> None:
        _describe(wanted, self._into.recipes)
        if not self._into.forced or wanted.key != self._into.forced[-1]:
            self._into.forced.append(wanted.key)


def _describe(wanted: Recipe, into: dict[bytes, _Description]) -> None:
    stack = [wanted]
    while stack:
        each = stack.pop()
        if each.key in into:
            continue
        into[each.key] = _Description(each.function.name, each.function.version, _keyed(each.arguments))
        stack.extend(_recipes_in(each.arguments))


def _recipes_in(arguments: tuple[Any, ...]) -> Iterator[Recipe]:
    for each in arguments:
        if isinstance(each, Recipe):
            yield each
        elif isinstance(each, tuple):
            yield from _recipes_in(each)


def _keyed(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_Key(each.key) if isinstance(each, Recipe) else _keyed(each) if isinstance(each, tuple) else each for each in arguments)


def replay(loaded: Loaded, disk: Disk, *, trust_code: bool = False) -> Replay:
    """Replay a run until it ends or asks for a value that is not stored. Nothing is computed and nothing is written.

    Args:
        loaded: the scenario.
        disk: of the store.
        trust_code: whether code that the scenario names may run.

    Raises:
        ScenarioError: the scenario cannot be run.
    """
    found = Replay()

    def round_ended(progress: Progress) -> None:
        found.rounds = (progress.round, progress.rounds)

    try:
        bench = prepare(loaded.single(), _Refusing(disk, found), trust_code=trust_code)
        session = bench.session(None, round_ended)
        world, stopped = session.world, session.stopped
        while not stopped.processed and world.step():
            pass
        session.finish(str(stopped.value) if stopped.processed else NOTHING_LEFT)
    except MissingValueError as missing:
        recipe: Recipe = missing.args[0]
        found.missing = recipe.key
    return found


# --- differences ------------------------------------------------------------------------------------------------------------


def differences(key: bytes, ours: Replay, other_key: bytes, theirs: Replay) -> list[str]:
    """What differs between two recipes: the nearest causes, as `cohort: trainer.learning_rate is 0.2, was 0.1`.

    Args:
        key: the recipe in our run.
        ours: our run.
        other_key: the recipe that stands in its place in the other run.
        theirs: the other run.
    """
    told: dict[str, None] = {}
    stack = [(key, other_key)]
    seen: set[tuple[bytes, bytes]] = set()
    while stack and len(told) < _MOST_DIFFERENCES:
        pair = stack.pop()
        if pair in seen or pair[0] == pair[1]:
            continue
        seen.add(pair)
        one, other = _made_by(ours, pair[0]), _made_by(theirs, pair[1])
        if one.function != other.function:
            told[f"{one.function} stands where {other.function} stood"] = None
            continue
        if one.version != other.version:
            told[f"{one.function}: version {one.version} of the function, was {other.version}"] = None
            continue
        names = _argument_names(one.function, len(one.arguments))
        deeper: list[tuple[bytes, bytes]] = []
        for name, mine, its in zip(names, one.arguments, other.arguments, strict=True):
            for line in _unequal(name, mine, its, deeper):
                told[f"{one.function}: {line}"] = None
        stack.extend(reversed(deeper))
    return list(told)[:_MOST_DIFFERENCES]


def _made_by(replay: Replay, key: bytes) -> _Description:
    """What made a value; of a model that an aggregation left beside its state, the aggregation."""
    found = replay.recipes[key]
    return replay.recipes[found.arguments[0].key] if found.function == "aggregated_model" else found


def _argument_names(function: str, count: int) -> list[str]:
    """The names of a function's arguments, from the function that makes its recipes."""
    maker = getattr(learning_values, _NAMES.get(function, function), None)
    names = list(inspect.signature(maker).parameters)[:count] if callable(maker) else []
    return names if len(names) == count else [f"argument {number}" for number in range(1, count + 1)]


def _unequal(path: str, mine: Any, its: Any, deeper: list[tuple[bytes, bytes]]) -> Iterator[str]:
    """What differs between two arguments; recipes among them go into `deeper`."""
    if isinstance(mine, _Key) and isinstance(its, _Key):
        if mine != its:
            deeper.append((mine.key, its.key))
    elif isinstance(mine, Stream) and isinstance(its, Stream):
        if mine != its:
            yield f"{path} is {_stream(mine)}, was {_stream(its)}"
    elif isinstance(mine, tuple) and isinstance(its, tuple):
        if len(mine) != len(its):
            yield f"{path}: {len(mine)} of them, were {len(its)}"
        else:
            for number, (left, right) in enumerate(zip(mine, its, strict=True)):
                yield from _unequal(f"{path}[{number}]", left, right, deeper)
    elif is_dataclass(mine) and type(mine) is type(its):
        for each in fields(mine):
            yield from _unequal(f"{path}.{each.name}", getattr(mine, each.name), getattr(its, each.name), deeper)
    elif type(mine) is not type(its) or mine != its:
        yield f"{path} is {_shown(mine)}, was {_shown(its)}"


def _stream(stream: Stream) -> str:
    return f"the stream {'/'.join(map(str, stream.name))} of seed {stream.seed}, replicate {stream.replicate}"


def _shown(value: Any) -> str:
    if isinstance(value, _Key):
        return "a computed value"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
