"""Families of parts: what a YAML block's `kind` can name.

A part is a small frozen, keyword-only dataclass whose fields are its settings. Its `kind` is the key of its family, not a
field. A family is one plain dictionary from kind to `"module:Class"`, so that naming a kind imports only that part, and then
the entry points of `netfl.<family>` that other packages declare.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["Family", "Pairs", "nearest", "with_kinds"]

_KIND = "kind of block"


def nearest(name: str, known: list[str]) -> str:
    """`did you mean 'x'?` for the closest known name, or an empty text.

    >>> nearest("topkk", ["topk", "quantize"])
    "did you mean 'topk'?"
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(_with_tuples(each) for each in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Pairs:
    """The annotation of a block whose names are not netfl's, such as keyword arguments; kept as (name, value) pairs, which hash.

    Values are numbers, texts, true, false, nothing, and lists of these.
    """

    def read(self, block: Any) -> tuple[tuple[str, Any], ...]:
        """The pairs of a block, sorted by name.

        Raises:
            ValueError: not a block of plain values.
        """
        if not isinstance(block, dict):
            raise ValueError("expected a block of names and values")
        return tuple(sorted((name, _plain(name, value)) for name, value in block.items()))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        value: dict[str, Any] = {"type": ["number", "string", "boolean", "null", "array"]}
        return {"type": "object", "additionalProperties": value}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_plain(name, each) for each in value)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"expected '{name}' to be a number, a text, true, false, nothing or a list of these")
    return value


@functools.cache
def _declared() -> Any:
    """What installed packages declare, read once: it takes five milliseconds, and every family asks."""
    return metadata.entry_points()  # whose class has another name before Python 3.12


@dataclass(frozen=True)
class Family:
    """The kinds of one family; as an annotation, it lets pydantic read a block of any of them.

    Args:
        name: in the plural, as in `netfl list codecs` and the entry point group `netfl.codecs`. In YAML a bare word stands for
            the block that names only that kind.
        builtin: kind to "module:Class".
    """

    name: str
    builtin: Mapping[str, str]
    _loaded: dict[str, type] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return hash(self.name)

    def kinds(self) -> list[str]:
        """Every kind that a `kind:` of this family may name, built-in ones first."""
        return list(dict.fromkeys([*self.builtin, *(entry.name for entry in self._entry_points())]))

    def find(self, kind: str) -> type:
        """The class of a kind.

        Raises:
            LookupError: no such kind; the message names the nearest.
        """
        if kind not in self._loaded:
            if kind in self.builtin:
                module, _, name = self.builtin[kind].partition(":")
                self._loaded[kind] = getattr(importlib.import_module(module), name)
            else:
                matches = [entry for entry in self._entry_points() if entry.name == kind]
                if not matches:
                    known = ", ".join(self.kinds())
                    raise LookupError(f"no kind '{kind}' among {self.name}: {known}. {nearest(kind, self.kinds())}".rstrip())
                self._loaded[kind] = matches[0].load()
        return self._loaded[kind]

    def kind_of(self, part: object) -> str:
        """The kind under which a part's class is known, or the class's own name for a part passed from Python."""
        for kind in self.kinds():
            if self.find(kind) is type(part):
                return kind
        return type(part).__name__

    def _entry_points(self) -> list[metadata.EntryPoint]:
        return sorted(_declared().select(group=f"netfl.{self.name}"), key=lambda entry: entry.name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def without_kind(block: Any) -> Any:
            # Behind a Python function pydantic no longer reads JSON, and a strict tuple is then a tuple only.
            return {key: _with_tuples(value) for key, value in block.items() if key != "kind"}

        def with_kind(block: Any) -> Any:
            return {"kind": block} if isinstance(block, str) else block

        blocks = core_schema.tagged_union_schema(
            {
                kind: core_schema.no_info_before_validator_function(
                    without_kind, handler.generate_schema(self.find(kind)), metadata={"kind": kind}
                )
                for kind in self.kinds()
            },
            discriminator="kind",
            custom_error_type="unknown_kind",
            custom_error_message="unknown kind",
            custom_error_context={"family": self.name},
        )
        return core_schema.no_info_before_validator_function(with_kind, blocks)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = [{"enum": self.kinds(), "description": "a kind whose settings are all left at their defaults"}]
        for kind, choice in cast(Any, schema)["schema"]["choices"].items():
            # A definition that a block refers to need not exist yet: see `with_kinds`.
            blocks.append({_KIND: [self.name, kind], **handler(choice)})
        return {"oneOf": blocks}


def with_kinds(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema with the `$defs` that it needs, in which every block of a family has its `kind` among its properties.

    A kind's block is a definition of its own, however many places it may stand in.
    """
    definitions = schema.get("$defs", {})
    kinds: dict[str, Any] = {}

    def completed(node: Any) -> Any:
        if isinstance(node, list):
            return [completed(each) for each in node]
        if not isinstance(node, dict):
            return node
        if _KIND not in node:
            return {name: completed(each) for name, each in node.items()}
        (family, kind), block = node[_KIND], {name: each for name, each in node.items() if name != _KIND}
        if "$ref" in block:
            block = definitions[block["$ref"].removeprefix("#/$defs/")]
        name = f"{family}.{kind}"
        if name not in kinds:
            kinds[name] = {}  # a block may hold another of its own kind
            made = completed(block)
            kinds[name] = {
                **made,
                "properties": {"kind": {"const": kind}, **made.get("properties", {})},
                "required": ["kind", *made.get("required", [])],
                "title": kind,
            }
        return {"$ref": f"#/$defs/{name}"}

    found: dict[str, Any] = completed({name: each for name, each in schema.items() if name != "$defs"})
    known = {name: completed(each) for name, each in definitions.items()} | kinds
    used = _referred(found, known, set())
    return {**found, "$defs": {name: each for name, each in known.items() if name in used}}


def _referred(node: Any, definitions: Mapping[str, Any], known: set[str]) -> set[str]:
    """The names of the definitions that a schema needs, directly or through others, added to those that are known."""
    if isinstance(node, list):
        for each in node:
            _referred(each, definitions, known)
    elif isinstance(node, dict):
        name = str(node.get("$ref", "")).removeprefix("#/$defs/")
        if name in definitions and name not in known:
            known.add(name)
            _referred(definitions[name], definitions, known)
        for each in node.values():
            _referred(each, definitions, known)
    return known
