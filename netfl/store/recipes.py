"""Recipes: values that know how to be computed, and are known by what they are computed from.

A recipe is a function's name and version and the keys of its arguments. The event loop handles recipes; a value is computed
only when something needs it.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
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


@dataclass(frozen=True, eq=False)
class Function:
    """A pure function that computes many calls at once; one object each, compared by identity.

    Args:
        name: unique in netfl, but for functions of one value in several forms.
        version: raised by hand whenever its results change.
        run: from the argument values of all calls to their results, in the same order.
        form: how a result is kept on disk; None keeps it in memory only.
        parts: functions of one argument that are computed and kept with every result, because they are what later work
            needs of it.
        lasting: whether recipes hold their value, because all rounds need it: a dataset.
        bundles: whether it only hands on its arguments, which are written once for many recipes: it is made where it stands in these, of
            what they then need themselves.
        fleeting: whether a value goes with its recipe, as far as there is memory for recipes to hold such values, as those of one client
            or one round: nobody makes that recipe again.
        written: name and version as they begin the bytes of a recipe.
        rests: whether recipes hold their value in place of their arguments, once it is there.
    """

    name: str
    version: int
    run: Callable[[Sequence[tuple[Any, ...]]], Sequence[Any]]
    form: FactForm | TensorForm | None = None
    parts: tuple[Function, ...] = ()
    lasting: bool = False
    bundles: bool = False
    fleeting: bool = False
    written: bytes = field(init=False, repr=False)
    rests: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        written: list[bytes] = []
        _write((self.name, self.version), written, [])
        object.__setattr__(self, "written", b"".join(written))
        object.__setattr__(self, "rests", self.lasting or isinstance(self.form, TensorForm))


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

    `inputs` are the recipes in the arguments, and in place of bundles theirs.
    """

    __slots__ = ("__weakref__", "_parts", "arguments", "function", "held", "inputs", "key")

    def __init__(self, function: Function, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        written = [function.written, b"i%d;" % len(arguments)]
        inputs: list[Recipe] = []
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
        kind = type(value)
        if kind is Recipe:
            written.append(b"R" + value.key)
            if value.function.bundles:
                inputs += value.inputs
            else:
                inputs.append(value)
        elif kind is str:
            written.append(_text(value))
        elif kind is int:
            written.append(b"i%d;" % value)
        elif kind is tuple:
            written.append(b"(%d:" % len(value))
            _write(value, written, inputs)
        elif kind in _LAYOUTS:
            _write_settings(value, kind, written)
        elif value is None or kind is bool:
            written.append(repr(value).encode())
        elif isinstance(value, float):
            written.append(b"f" + struct.pack(">d", value))
        elif isinstance(value, bytes):
            written.append(b"b%d:%b" % (len(value), value))
        elif isinstance(value, str):
            written.append(_text(str(value)))
        elif isinstance(value, int):
            written.append(b"i%d;" % value)
        elif isinstance(value, tuple):
            written.append(b"(%d:" % len(value))
            _write(value, written, inputs)
        else:
            _LAYOUTS[kind] = _layout(kind)
            _write_settings(value, kind, written)


@functools.lru_cache(maxsize=2**14)
def _text(value: str) -> bytes:
    text = value.encode()
    return b"s%d:%b" % (len(text), text)


_LAYOUTS: dict[Any, tuple[bytes, Callable[[Any], tuple[Any, ...]]]] = {}
"""Of the classes met so far."""


def _write_settings(value: Any, kind: Any, written: list[bytes]) -> None:
    """Write a frozen dataclass, and remember its bytes in the object: one trainer stands in the recipes of all clients of all rounds.

    A class with slots, as `Stream`, has no room for them; its objects stand in one recipe each.
    """
    begin, parts = _LAYOUTS[kind]
    room: dict[str, Any] | None = getattr(value, "__dict__", None)
    if room is None:
        written.append(begin)
        _write(parts(value), written, [])
        return
    known: bytes | None = room.get("_written")
    if known is None:
        mine = [begin]
        _write(parts(value), mine, [])
        known = room["_written"] = b"".join(mine)
    written.append(known)


def _layout(kind: Any) -> tuple[bytes, Callable[[Any], tuple[Any, ...]]]:
    """What is written of every object of a class before its fields' values, and how to get at these."""
    names = tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()
    if not getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
        raise TypeError(f"a recipe's argument must be a recipe, a frozen dataclass or a plain value, not {kind.__name__}")
    written: list[bytes] = [b"d"]
    _write((f"{kind.__module__}.{kind.__qualname__}", names), written, [])
    if len(names) > 1:
        return b"".join(written), operator.attrgetter(*names)
    return b"".join(written), lambda value: tuple(getattr(value, name) for name in names)
