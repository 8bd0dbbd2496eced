"""The store: computes recipes when they are forced, many at once, and keeps what it can."""

from __future__ import annotations

import functools
import operator
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from weakref import ref

import numpy as np

from netfl.store.disk import Disk
from netfl.store.recipes import FactForm, Function, Recipe, TensorForm
from netfl.store.shelf import Place, Shelf

__all__ = ["MissingValueError", "Store"]

_WRITE_S = 2e-3
_WRITE_BYTES_PER_S = 200e6
_WORTH = 20
_ALONE = 2
_PART_BYTES = 64 * 1024**2
_REMEMBERED = 4
_NOTHING = object()

Arrays = Sequence[tuple[bytes, Mapping[str, np.ndarray]]]

ANNOUNCED_TO_REST = 20_000
"""Of so many announced recipes, with what hangs on them, the ancestry may be in memory: some 50 MB."""


class MissingValueError(Exception):
    """A store that refuses to compute was asked for a value that it does not hold; its argument is the recipe.

    No `NetflError`: nothing is wrong, and nobody who turns those into problems of a scenario is to catch it.
    """


class Store:
    """Values by recipe: in memory under a size limit, and on disk where there is one.

    Forcing one value walks the graph that it needs in wavefronts: all calls of one function whose inputs are there run
    together. A value that is found, in memory or on disk, ends the walk: nothing below it is computed. Announced recipes
    join as soon as forcing needs any call of their function, so that a cohort trains as one batch.

    On disk, facts are kept for ever. They are written, and so are the tensors that later rounds begin with, when the seconds spent on
    computing since the last write are twenty times what a write costs, as the last ones did, so keeping costs about a twentieth, and a
    run that is killed loses little more than that much computing; a write is taken to cost two milliseconds at least, and facts without
    tensors wait twice as long. A tensor that was not kept, or was dropped, is computed again from its recipe.

    What must stay in memory as rounds go by: a recipe keeps alive all that it is made of, which would be the whole run. So a value with a
    `TensorForm` (a global model, an error-feedback residual: what later rounds begin with) is a resting place: once it was computed or
    read, its recipe holds it in place of its arguments, and what led to it is forgotten with the last one who refers to it. Held values are
    never dropped while a recipe holds them; beyond `limit_bytes` they lie in a file without a name (`netfl.store.shelf`). A dataset is held
    too, in memory whatever the limit. A fleeting value goes with its recipe, which holds it while all of these take half of the limit at
    most. All other values may be dropped, and are computed again from the nearest resting places. A run that finds all its facts computes
    no values and so reaches no resting place; there `announce` reads one from disk after every `ANNOUNCED_TO_REST` recipes. A run that is
    started again makes its recipes anew by replaying, so no recipe is ever stored.

    Args:
        limit_bytes: how much to keep in memory, and as much again of held values; the least recently used values go first.
        disk: where values outlive the process; None keeps nothing.
        refuses: raise `MissingValueError` in place of computing anything.
    """

    def __init__(self, limit_bytes: int = 512 * 1024**2, disk: Disk | None = None, refuses: bool = False) -> None:
        self._refuses = refuses
        self._limit_bytes = limit_bytes
        self._disk = disk
        self._values: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()  # with about how many bytes each takes
        self._kept_bytes = 0
        self._fleeting = _Room()
        self.computing_s = 0.0
        self._facts: list[tuple[bytes, Any]] = []
        # Tensors that are not written: those whose recipes nobody has any more need not be.
        self._resting: list[ref[Recipe]] = []
        self._facts_at_s = self._tensors_at_s = 0.0
        self._slowness = 1.0  # of writing, against what `_write_s` expects
        self._announced: defaultdict[str, dict[bytes, Recipe]] = defaultdict(dict)  # by function
        self._made: set[bytes] = set()
        self._shelf = Shelf(limit_bytes, disk.folder if disk is not None else None)
        self._since_rest = 0
        self.start_counting()

    def start_counting(self) -> None:
        """Count from here what is computed, by function, and what became of what was announced."""
        self.computed: Counter[str] = Counter()
        self.speculated = 0
        self._reused: set[bytes] = set()
        self.first_missing = b""  # the key of what was wanted first and not there
        self._announced.clear()
        self._made.clear()

    @property
    def reused(self) -> int:
        """How many announced values were settled and have not been computed."""
        return len(self._reused)

    def announce(self, recipes: Iterable[Recipe]) -> None:
        """Say that these values will probably be needed: they join the next batch of their function."""
        for each in recipes:
            self._announced[each.function.name][each.key] = each
            self._since_rest += 1
        if self._since_rest > ANNOUNCED_TO_REST:
            self._since_rest = 0
            self._rest([each for announced in self._announced.values() for each in announced.values()])

    def withdraw(self, recipes: Iterable[Recipe]) -> None:
        """Say that announced values will not be needed; those computed already are counted as speculated."""
        for each in recipes:
            if each.key in self._made:
                self._made.discard(each.key)
                self.speculated += 1
            else:
                self._announced[each.function.name].pop(each.key, None)

    def settle_computed(self, recipes: Collection[Recipe]) -> list[Recipe]:
        """Say that announced values were needed: the others of these, which have not been computed and may yet be."""
        others = [each for each in recipes if each.key not in self._made]
        self._made.difference_update(each.key for each in recipes)
        return others

    def settle(self, recipes: Iterable[Recipe]) -> None:
        """Say that all that announced values were for is there; those that were not computed for it are counted as reused."""
        for each in self.settle_computed(list(recipes)):
            self._announced[each.function.name].pop(each.key, None)
            self._reused.add(each.key)

    def force(self, wanted: Recipe) -> Any:
        """The value of a recipe."""
        return self.force_all([wanted])[0]

    def force_all(self, wanted: Sequence[Recipe], beside: Sequence[Recipe] = (), looks: bool = True) -> list[Any]:
        """The values of several recipes, computed together.

        Args:
            wanted: whose values are asked for.
            beside: what is computed too if anything must be: made of the same, for later.
            looks: whether to look for what is wanted on disk; who expects nothing there need not, and has it computed if it is there all the same.

        Raises:
            MissingValueError: one is not there, and this store refuses to compute.
        """
        values: dict[bytes, Any] = {}
        missing: dict[bytes, Recipe] = {}
        self._collect(wanted, values, missing, new=() if looks else {needed.key for each in wanted for needed in each.inputs})
        if missing:
            first = next(each for each in wanted if each.key in missing)
            self.first_missing = self.first_missing or first.key
            if self._refuses:
                raise MissingValueError(first)
            self._collect(beside, values, missing, new=missing)
        for each in list(missing.values()):
            joining = self._announced.pop(each.function.name, None)
            if joining is not None:
                self._collect(list(joining.values()), values, missing)
                self._made |= joining.keys() & missing.keys()
        made: list[Recipe] = []
        for wave in _waves(missing, values):
            for function, recipes in wave.items():
                made += self._compute(function, recipes, values)
        if made and self._disk is not None:
            self._write(self._disk, made, values)
        return [values[each.key] for each in wanted]

    def save(self) -> None:
        """Write what a longer run would go on from, if that is worth what has been computed."""
        if self._disk is not None:
            self._save(self._disk, 0.0)

    def close(self) -> None:
        """Write the facts that are not written yet, and let go of the disk."""
        if self._disk is not None:
            self._flush(self._disk, [])
            self._disk.close()

    def _collect(self, roots: Sequence[Recipe], values: dict[bytes, Any], missing: dict[bytes, Recipe], new: Container[bytes] = ()) -> None:
        """Find everything that the roots need: it goes into `values`, or if it is not there into `missing`, in the order of discovery.

        What is made of `new` values is not looked for on disk.
        """
        stack = list(reversed(roots))
        while stack:
            each = stack.pop()
            key = each.key
            if key in missing or key in values:
                continue
            found = self._find(each, new)
            if found is _NOTHING:
                missing[key] = each
                stack += each.inputs
            else:
                values[key] = found

    def _find(self, wanted: Recipe, new: Container[bytes] = ()) -> Any:
        """A value that is in memory or on disk, or `_NOTHING`."""
        key, form = wanted.key, wanted.function.form
        kept = self._values.get(key)
        if kept is not None:
            self._values.move_to_end(key)
            if wanted.held is None and wanted.function.rests:
                self._hold(wanted, kept[0])
            return kept[0]
        if wanted.held is not None:
            value = wanted.held.value()
            if wanted.function.fleeting:
                return value
        elif form is None or self._disk is None or any(needed.key in new for needed in wanted.inputs):
            return _NOTHING
        else:
            found = self._disk.fact(key) if isinstance(form, FactForm) else self._disk.arrays(key)
            if found is None:
                return _NOTHING
            value = form.load(found)
        self._keep(wanted, value)
        return value

    def _rest(self, recipes: Sequence[Recipe]) -> None:
        """Read the nearest resting places below these recipes from disk, as far as they are there."""
        stack, seen = list(recipes), set[bytes]()
        while stack:
            each = stack.pop()
            if each.key in seen:
                continue
            seen.add(each.key)
            if each.inputs and not (isinstance(each.function.form, TensorForm) and self._find(each) is not _NOTHING):
                stack.extend(each.inputs)

    def _compute(self, function: Function, recipes: list[Recipe], values: dict[bytes, Any]) -> list[Recipe]:
        """Run one batch; the recipes of what it made, parts included."""
        calls = [_filled(each.arguments, values) for each in recipes]
        started_s = time.perf_counter()
        results = function.run(calls)
        self.computing_s += time.perf_counter() - started_s
        self.computed[function.name] += len(recipes)
        if self._reused:
            self._reused.difference_update(each.key for each in recipes)
        made = list(recipes)
        keep = self._lend if function.fleeting else self._keep
        for each, value in zip(recipes, results, strict=True):
            values[each.key] = value
            keep(each, value)
        for part_function in function.parts:
            parts = [each.part(part_function) for each in recipes]
            for part, value in zip(parts, part_function.run([(value,) for value in results]), strict=True):
                values[part.key] = value
                self._keep(part, value)
            made += parts
        return made

    def _write(self, disk: Disk, made: list[Recipe], values: dict[bytes, Any]) -> None:
        """Keep the facts and the tensors if that is worth it; what is not written now is written with later ones."""
        for each in made:
            form = each.function.form
            if form is None:
                continue
            if isinstance(form, FactForm):
                self._facts.append((each.key, form.dump(values[each.key])))
            else:
                self._resting.append(ref(each))
        self._save(disk, self._tensors_at_s)
        if self._facts and self.computing_s - self._facts_at_s > _ALONE * _WORTH * self._slowness * _WRITE_S:
            self._flush(disk, [])

    def _save(self, disk: Disk, since_s: float) -> None:
        """Write tensors if that is worth the seconds of computing since then."""
        spent_s, worth = self.computing_s - since_s, _WORTH * self._slowness
        if spent_s <= worth * _WRITE_S:
            return
        alive = [each for each in (rests() for rests in self._resting) if each is not None]
        self._resting = [ref(each) for each in alive]
        waiting = [(each.key, each.held) for each in alive if isinstance(each.held, Place)]
        if waiting and spent_s > worth * _write_s(sum(place.num_bytes for _, place in waiting)):
            # Those that lie in a file are read for it: a part at a time.
            part: list[tuple[bytes, Mapping[str, np.ndarray]]] = []
            for key, place in waiting:
                part.append((key, place.arrays()))
                if _num_bytes(part) >= _PART_BYTES:
                    self._flush(disk, part)
                    part = []
            if part:
                self._flush(disk, part)
            self._resting.clear()

    def _flush(self, disk: Disk, arrays: Arrays) -> None:
        started_s = time.perf_counter()
        disk.put(self._facts, arrays)
        found = (time.perf_counter() - started_s) / _write_s(_num_bytes(arrays))
        self._slowness += (max(found, 1.0) - self._slowness) / _REMEMBERED
        self._facts = []
        self._facts_at_s = self.computing_s
        if arrays:
            self._tensors_at_s = self.computing_s

    def _keep(self, made: Recipe, value: Any) -> None:
        """Keep a value in memory, and let a recipe whose value is a resting place hold it."""
        key, function = made.key, made.function
        if function.rests and made.held is None:
            self._hold(made, value)
        if key in self._values:
            return
        num_bytes = _weight_bytes(value)
        if made.held is not None and 2 * num_bytes > self._limit_bytes:  # it would drive out all others
            return
        self._values[key] = value, num_bytes
        self._kept_bytes += num_bytes
        self._make_room()

    def _lend(self, made: Recipe, value: Any) -> None:
        """Let the recipe of a fleeting value hold it; beyond half of the memory it is kept as others are."""
        num_bytes, room = _weight_bytes(value), self._fleeting
        if 2 * (room.num_bytes + num_bytes) <= self._limit_bytes:
            made.hold(_Lent(value, num_bytes, room))
            self._make_room()
        else:
            self._keep(made, value)

    def _make_room(self) -> None:
        """Drop the values that were used least recently, beside what recipes hold of fleeting ones."""
        while self._kept_bytes + self._fleeting.num_bytes > self._limit_bytes and len(self._values) > 1:
            self._kept_bytes -= self._values.popitem(last=False)[1][1]

    def _hold(self, made: Recipe, value: Any) -> None:
        """Let a recipe hold its value in place of its arguments."""
        form = made.function.form
        made.hold(self._shelf.put(form, value) if isinstance(form, TensorForm) else _Here(value))


def _write_s(num_bytes: int) -> float:
    """What a write is expected to take on a middling disk."""
    return _WRITE_S + num_bytes / _WRITE_BYTES_PER_S


def _num_bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for _, named in arrays for array in named.values())


@dataclass(frozen=True)
class _Here:
    """A held value in memory, whatever the limit."""

    kept: Any

    def value(self) -> Any:
        return self.kept


class _Room:
    """How many bytes the fleeting values take that recipes hold."""

    num_bytes = 0


class _Lent:
    """A fleeting value, which goes with its recipe."""

    __slots__ = ("_num_bytes", "_room", "_value")

    def __init__(self, value: Any, num_bytes: int, room: _Room) -> None:
        self._value, self._num_bytes, self._room = value, num_bytes, room
        room.num_bytes += num_bytes

    def value(self) -> Any:
        return self._value

    def __del__(self) -> None:
        self._room.num_bytes -= self._num_bytes


def _waves(missing: Mapping[bytes, Recipe], values: Mapping[bytes, Any]) -> Iterator[dict[Function, list[Recipe]]]:
    """What can be computed now, by function; then what can be once that is in `values`; and so on."""
    counts: dict[bytes, int] = {}
    waiting: defaultdict[bytes, list[Recipe]] = defaultdict(list)
    ready: list[Recipe] = []
    for key, each in missing.items():
        count = 0
        for needed in each.inputs:
            if needed.key in missing:
                waiting[needed.key].append(each)
                count += 1
        if count:
            counts[key] = count
        else:
            ready.append(each)
    while ready:
        wave: dict[Function, list[Recipe]] = {}
        for each in ready:
            wave.setdefault(each.function, []).append(each)
        yield wave
        done, ready = ready, []
        for each in done:  # which grows by parts: they came with what they are parts of
            for user in waiting.get(each.key, ()):
                counts[user.key] -= 1
                if not counts[user.key]:
                    (done if user.key in values else ready).append(user)


def _filled(arguments: tuple[Any, ...], values: dict[bytes, Any]) -> tuple[Any, ...]:
    """The arguments with each recipe replaced by its value; bundles are made here, and put into `values` too."""
    filled = []
    for each in arguments:
        kind = type(each)
        if kind is Recipe:
            key = each.key
            if key not in values:
                assert each.function.bundles
                values[key] = each.function.run([_filled(each.arguments, values)])[0]
            filled.append(values[key])
        else:
            filled.append(_filled(each, values) if kind is tuple else each)
    return tuple(filled)


def _weight_bytes(value: Any) -> int:
    """About how much memory a value holds."""
    kind: Any = type(value)
    if hasattr(kind, "nbytes"):
        return int(value.nbytes)
    if kind is bytes:
        return len(value)
    total = 0
    for part in _parts_of(kind)(value):
        total += 64 if type(part) in _NUMBERS else _weight_bytes(part)
    return total or 64


_NUMBERS = {int, float, bool, str, type(None)}


@functools.cache
def _parts_of(kind: Any) -> Callable[[Any], Iterable[Any]]:
    """How to get at what an object of a class holds."""
    if issubclass(kind, Mapping):
        return lambda value: value.values()
    if issubclass(kind, list | tuple):
        return iter
    names = tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()
    return operator.attrgetter(*names) if len(names) > 1 else lambda value: [getattr(value, name) for name in names]
