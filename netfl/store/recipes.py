"""Recipes: values that know how to be computed, and are known by what they are computed from.

A recipe is a function's name and version and the keys of its arguments. The event loop handles recipes; a value is computed
only when something needs it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
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
    """

    name: str
    version: int
    run: Callable[[Sequence[tuple[Any, ...]]], Sequence[Any]]
    form: FactForm | TensorForm | None = None
    parts: tuple[Function, ...] = ()


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
        _write((function.name, function.version, arguments), written, inputs)
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


def _write(value: Any, written: list[bytes], inputs: list[Recipe]) -> None:
    """Write a value so that unequal values are unequal bytes: each part with its type and length.

    Args:
        value: an argument, or a part of one.
        written: gets the bytes.
        inputs: gets the recipes met on the way.
    """
    if isinstance(value, Recipe):
        written.append(b"R" + value.key)
        inputs.append(value)
    elif isinstance(value, str):
        text = value.encode()
        written.append(b"s%d:%b" % (len(text), text))
    elif isinstance(value, tuple):
        written.append(b"(%d:" % len(value))
        for part in value:
            _write(part, written, inputs)
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
    known: bytes | None = getattr(value, "__dict__", {}).get("_written")
    if known is not None:
        return known
    kind = type(value)
    if not is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"a recipe's argument must be a recipe, a frozen dataclass or a plain value, not {kind.__name__}")
    name, fields_ = _layout(kind)
    written = [name]
    for field, begin in fields_:
        written.append(begin)
        _write(getattr(value, field), written, [])
    known = b"".join(written)
    with contextlib.suppress(AttributeError):  # a class with slots has no room for it
        object.__setattr__(value, "_written", known)
    return known


@functools.cache
def _layout(kind: type) -> tuple[bytes, list[tuple[str, bytes]]]:
    """What is written of every object of a class: its name, and each field's."""
    written: list[bytes] = [b"d"]
    _write(f"{kind.__module__}.{kind.__qualname__}", written, [])
    names = [field.name for field in fields(kind)]
    begins = []
    for name in names:
        begin: list[bytes] = [b"(2:"]
        _write(name, begin, [])
        begins.append((name, b"".join(begin)))
    return b"".join([*written, b"(%d:" % len(names)]), begins
