"""The store: computes recipes when they are forced, many at once, and keeps what it can."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from netfl.store.disk import Disk
from netfl.store.recipes import FactForm, Function, Recipe, TensorForm

__all__ = ["MissingValueError", "Store"]

_WRITE_S = 3e-3
_WRITE_BYTES_PER_S = 200e6
_WORTH = 20


class MissingValueError(Exception):
    """A store that refuses to compute was asked for a value that it does not hold; its argument is the recipe.

    No `NetflError`: nothing is wrong, and nobody who turns those into problems of a scenario is to catch it.
    """


class Store:
    """Values by recipe: in memory under a size limit, and on disk where there is one.

    Forcing one value walks the graph that it needs in wavefronts: all calls of one function whose inputs are there run
    together. A value that is found, in memory or on disk, ends the walk: nothing below it is computed. Announced recipes
    join as soon as forcing needs any call of their function, so that a cohort trains as one batch.

    On disk, facts are kept for ever. The tensors of a forcing are written when the seconds spent on computing since the last
    write are twenty times what the write costs, so keeping costs at most a twentieth; what was not kept, or was dropped, is
    computed again from its recipe.

    Args:
        limit_bytes: how much to keep in memory; the least recently used values go first.
        disk: where values outlive the process; None keeps nothing.
        refuses: raise `MissingValueError` in place of computing anything.
    """

    def __init__(self, limit_bytes: int = 512 * 1024**2, disk: Disk | None = None, refuses: bool = False) -> None:
        self._refuses = refuses
        self._limit_bytes = limit_bytes
        self._disk = disk
        self._values: OrderedDict[bytes, Any] = OrderedDict()
        self._kept_bytes = 0
        self._computed_s = 0.0
        self._announced: dict[bytes, Recipe] = {}
        self._made: set[bytes] = set()
        self.start_counting()

    def start_counting(self) -> None:
        """Count from here what is computed, by function, and what became of what was announced."""
        self.computed: Counter[str] = Counter()
        self.reused = 0
        self.speculated = 0
        self.first_missing: Recipe | None = None
        self._announced.clear()
        self._made.clear()

    def announce(self, recipes: Iterable[Recipe]) -> None:
        """Say that these values will probably be needed: they join the next batch of their function."""
        self._announced.update((each.key, each) for each in recipes)

    def withdraw(self, recipes: Iterable[Recipe]) -> None:
        """Say that announced values will not be needed; those computed already are counted as speculated."""
        for each in recipes:
            self._announced.pop(each.key, None)
            if each.key in self._made:
                self._made.discard(each.key)
                self.speculated += 1

    def settle(self, recipes: Iterable[Recipe]) -> None:
        """Say that all that announced values were for is there; those that were not computed for it are counted as reused."""
        for each in recipes:
            self._announced.pop(each.key, None)
            if each.key in self._made:
                self._made.discard(each.key)
            else:
                self.reused += 1

    def force(self, wanted: Recipe) -> Any:
        """The value of a recipe."""
        return self.force_all([wanted])[0]

    def force_all(self, wanted: Sequence[Recipe]) -> list[Any]:
        """The values of several recipes, computed together.

        Raises:
            MissingValueError: one is not there, and this store refuses to compute.
        """
        values: dict[bytes, Any] = {}
        missing = self._collect(wanted, values)
        if missing and self.first_missing is None:
            self.first_missing = next(each for each in wanted if each.key in missing)
        if missing and self._refuses:
            raise MissingValueError(self.first_missing)
        functions = {each.function.name for each in missing.values()}
        missing.update(self._collect([each for each in self._announced.values() if each.function.name in functions], values))
        for key in missing.keys() & self._announced.keys():
            del self._announced[key]
            self._made.add(key)
        made: list[Recipe] = []
        while missing:
            wave: dict[Function, list[Recipe]] = {}
            for each in missing.values():
                if all(needed.key in values for needed in each.inputs):
                    wave.setdefault(each.function, []).append(each)
            for function, recipes in wave.items():
                made += self._compute(function, recipes, values)
                for each in recipes:
                    del missing[each.key]
        if made and self._disk is not None:
            self._write(self._disk, made, values)
        return [values[each.key] for each in wanted]

    def close(self) -> None:
        """Let go of the disk."""
        if self._disk is not None:
            self._disk.close()

    def _collect(self, roots: Sequence[Recipe], values: dict[bytes, Any]) -> dict[bytes, Recipe]:
        """Everything the roots need that is not found, in the order of discovery; what is found goes into `values`."""
        missing: dict[bytes, Recipe] = {}
        stack = list(reversed(roots))
        while stack:
            each = stack.pop()
            if each.key in missing or each.key in values:
                continue
            if each.key in self._values:
                self._values.move_to_end(each.key)
                values[each.key] = self._values[each.key]
            elif self._read(each):
                values[each.key] = self._values[each.key]
            else:
                missing[each.key] = each
                stack.extend(each.inputs)
        return missing

    def _read(self, wanted: Recipe) -> bool:
        """Take a value from disk into memory, if it is there."""
        form = wanted.function.form
        if self._disk is None or form is None:
            return False
        found = self._disk.fact(wanted.key) if isinstance(form, FactForm) else self._disk.arrays(wanted.key)
        if found is None:
            return False
        self._keep(wanted.key, form.load(found))
        return True

    def _compute(self, function: Function, recipes: list[Recipe], values: dict[bytes, Any]) -> list[Recipe]:
        """Run one batch; the recipes of what it made, parts included."""
        calls = [_filled(each.arguments, values) for each in recipes]
        started_s = time.perf_counter()
        results = function.run(calls)
        self._computed_s += time.perf_counter() - started_s
        self.computed[function.name] += len(recipes)
        made = list(recipes)
        for each, value in zip(recipes, results, strict=True):
            values[each.key] = value
            self._keep(each.key, value)
            for part_function in function.parts if self._disk is not None else ():
                part = Recipe(part_function, (each,))
                (values[part.key],) = part_function.run([(value,)])
                self._keep(part.key, values[part.key])
                made.append(part)
        return made

    def _write(self, disk: Disk, made: list[Recipe], values: dict[bytes, Any]) -> None:
        """Keep the facts, and the tensors if that is worth it."""
        facts = [(each.key, each.function.form.dump(values[each.key])) for each in made if isinstance(each.function.form, FactForm)]
        arrays = [(each.key, each.function.form.dump(values[each.key])) for each in made if isinstance(each.function.form, TensorForm)]
        num_bytes = sum(array.nbytes for _, named in arrays for array in named.values())
        if self._computed_s <= _WORTH * (_WRITE_S + num_bytes / _WRITE_BYTES_PER_S):
            arrays = []
        elif arrays:
            self._computed_s = 0.0
        disk.put(facts, arrays)

    def _keep(self, key: bytes, value: Any) -> None:
        if key in self._values:
            return
        self._values[key] = value
        self._kept_bytes += _weight_bytes(value)
        while self._kept_bytes > self._limit_bytes and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self._kept_bytes -= _weight_bytes(dropped)


def _filled(arguments: tuple[Any, ...], values: dict[bytes, Any]) -> tuple[Any, ...]:
    """The arguments with each recipe replaced by its value."""

    def fill(argument: Any) -> Any:
        if isinstance(argument, Recipe):
            return values[argument.key]
        if isinstance(argument, tuple):
            return tuple(fill(part) for part in argument)
        return argument

    return tuple(fill(argument) for argument in arguments)


def _weight_bytes(value: Any) -> int:
    """About how much memory a value holds."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(_weight_bytes(part) for part in value)
    if is_dataclass(value):
        return sum(_weight_bytes(getattr(value, field.name)) for field in fields(value))
    return 64
