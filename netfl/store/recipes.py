"""Recipes: values that know how to be computed, and are known by what they are computed from.

A recipe is a function's name and version and the keys of its arguments. The event loop handles recipes; a value is computed
only when something needs it.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["FactForm", "Function", "Held", "Recipe", "TensorForm", "recipe"]


@dataclass(frozen=True)
class FactForm:
    """How a small value is kept for ever: as JSON.

    Args:
        dump: from the value to what `json` writes.
        load: back.
    """

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


@dataclass(frozen=True)
class TensorForm:
    """How a large value is kept while there is room: as named arrays.

    Functions whose values the work of later rounds begins with have this form: their recipes hold their values once these are there.

    Args:
        dump: from the value to its arrays.
        load: back.
    """

    dump: Callable[[Any], Mapping[str, np.ndarray]]
    load: Callable[[Mapping[str, np.ndarray]], Any]


@dataclass(frozen=True)
class Function:
    """A pure function that computes many calls at once.

    Args:
        name: unique in netfl.
        version: raised by hand whenever its results change.
        run: from the argument values of all calls to their results, in the same order.
        form: how a result is kept on disk; None keeps it in memory only.
        parts: functions of one argument that are computed and kept with every result, because they are what later work
            needs of it.
        lasting: whether recipes hold their value, because all rounds need it: a dataset.
    """

    name: str
    version: int
    run: Callable[[Sequence[tuple[Any, ...]]], Sequence[Any]]
    form: FactForm | TensorForm | None = None
    parts: tuple[Function, ...] = ()
    lasting: bool = False


class Held(Protocol):
    """Where a value is that a recipe holds in place of its arguments."""

    def value(self) -> Any:
        """The value."""


class Recipe:
    """A value to be computed: compare and hash it by `key`.

    A recipe keeps alive all that it is made of, back to the beginning of the run, until `hold` is called; see `netfl.store.store`.

    Args:
        function: what computes it.
        arguments: recipes, settings (frozen dataclasses) and plain values.
        key: SHA-256 of the function and the arguments' keys.
    """

    __slots__ = ("__weakref__", "_parts", "arguments", "function", "held", "inputs", "key")

    def __init__(self, function: Function, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        written: list[bytes] = []
        inputs: list[Recipe] = []
        _write((function.name, function.version, len(arguments)), written, inputs)
        _write(arguments, written, inputs)
        self.inputs = tuple(inputs)
        self.held: Held | None = None
        self._parts: tuple[Recipe, ...] = ()
        self.key = hashlib.sha256(b"".join(written)).digest()

    def part(self, function: Function) -> Recipe:
        """The recipe of one of the function's parts: always the same object, so that it holds its value once the whole is computed."""
        for part in self._parts:
            if part.function is function:
                return part
        self._parts += (Recipe(function, (self,)),)
        return self._parts[-1]

    def hold(self, held: Held) -> None:
        """Have the value in place of the arguments, so that what led to it can be forgotten."""
        self.held = held
        self.arguments = self.inputs = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.key == other.key

    def __hash__(self) -> int:
        return int.from_bytes(self.key[:8], "big")

    def __repr__(self) -> str:
        return f"<recipe {self.function.name} {self.key.hex()[:8]}>"


def recipe(function: Function, *arguments: Any) -> Recipe:
    """The recipe of `function(*arguments)`."""
    return Recipe(function, arguments)


def _write(values: Iterable[Any], written: list[bytes], inputs: list[Recipe]) -> None:
    """Write values so that unequal ones are unequal bytes: each part with its type and length.

    Args:
        values: arguments, or parts of one.
        written: gets the bytes.
        inputs: gets the recipes met on the way.
    """
    for value in values:
        if isinstance(value, Recipe):
            written.append(b"R" + value.key)
            inputs.append(value)
        elif isinstance(value, str):
            text = value.encode()
            written.append(b"s%d:%b" % (len(text), text))
        elif isinstance(value, tuple):
            written.append(b"(%d:" % len(value))
            _write(value, written, inputs)
        elif value is None or isinstance(value, bool):
            written.append(repr(value).encode())
        elif isinstance(value, int):
            written.append(b"i%d;" % value)
        elif isinstance(value, float):
            written.append(b"f" + struct.pack(">d", value))
        elif isinstance(value, bytes):
            written.append(b"b%d:%b" % (len(value), value))
        else:
            written.append(_settings(value))


def _settings(value: Any) -> bytes:
    """A frozen dataclass as bytes, remembered in the object: one trainer stands in the recipes of all clients of all rounds."""
    room: dict[str, Any] | None = getattr(value, "__dict__", None)  # a class with slots has none
    if room is not None and "_written" in room:
        known: bytes = room["_written"]
        return known
    kind: Any = type(value)
    begin, names = _layout(kind)
    written = [begin]
    _write([getattr(value, name) for name in names], written, [])
    known = b"".join(written)
    if room is not None:
        room["_written"] = known
    return known


@functools.cache
def _layout(kind: Any) -> tuple[bytes, tuple[str, ...]]:
    """What is written of every object of a class before its fields' values, and the fields' names."""
    names = tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()
    if not getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
        raise TypeError(f"a recipe's argument must be a recipe, a frozen dataclass or a plain value, not {kind.__name__}")
    written: list[bytes] = [b"d"]
    _write((f"{kind.__module__}.{kind.__qualname__}", names), written, [])
    return b"".join(written), names
