"""Trees into frozen dataclasses: every problem at once, each with its place, what was expected and the nearest name."""

from __future__ import annotations

import json
import types
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from netfl.errors import Problem, ScenarioError
from netfl.parts import Family, Pairs, nearest, with_kinds
from netfl.scenario.tree import PathKey, Tree
from netfl.units import Quantity

__all__ = ["read", "schema_of", "to_plain"]

T = TypeVar("T")

_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@cache
def _model(cls: Any) -> type[BaseModel]:
    """A one-field model: pydantic hands its configuration down to the plain dataclasses below."""
    return create_model(f"Strict{cls.__name__}", __config__=_STRICT, it=(cls, ...))


def read(cls: type[T], tree: Tree) -> T:
    """An instance of a dataclass from a tree.

    Raises:
        ScenarioError: all problems, in the order of the file.
    """
    try:
        text = json.dumps({"it": tree.value})
        return cast(T, _model(cls).model_validate_json(text).it)  # type: ignore[attr-defined, arg-type]
    except ValidationError as error:
        # A block where a text or a block may stand fails twice: only what is wrong inside it is news.
        found = [
            each for each in error.errors(include_url=False) if not (each["type"] == "string_type" and isinstance(each["input"], dict))
        ]
        problems = [_problem(cls, each, tree) for each in found]
    problems.sort(key=lambda problem: (problem.file, problem.line, problem.column))
    raise ScenarioError(*problems)


def schema_of(cls: Any) -> dict[str, Any]:
    """The JSON Schema of a dataclass, with its definitions under `$defs`."""
    schema = with_kinds(_model(cls).model_json_schema())
    definitions = schema.get("$defs", {})
    root = schema["properties"]["it"]
    if "$ref" in root:
        root = definitions[root["$ref"].removeprefix("#/$defs/")]
    return {**root, "$defs": definitions}


def to_plain(value: Any, annotation: Any = None) -> Any:
    """A part back into YAML's plain values, every default written out; reading the result gives an equal part."""
    family = _metadata(annotation, Family)
    quantity = _metadata(annotation, Quantity)
    if value is None or isinstance(value, bool | str):
        return value
    if quantity is not None:
        return quantity.text(value)
    if _metadata(annotation, Pairs) is not None:
        return {name: to_plain(each) for name, each in value}
    if is_dataclass(value):
        hints = _hints(cast(Any, type(value)))
        block = {
            field.name: to_plain(getattr(value, field.name), hints[field.name])
            for field in fields(value)
            if field.init and not (field.default is None and getattr(value, field.name) is None)
        }
        return {"kind": family.kind_of(value), **block} if family is not None else block
    if isinstance(value, dict):
        return {key: to_plain(each, _element(annotation, "dict")) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each, _element(annotation, index)) for index, each in enumerate(value)]
    return value


# --- types, walked along a location -----------------------------------------------------------------------------------------


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _options(annotation: Any) -> list[Any]:
    """The members of a union without None; the annotation itself otherwise."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for option in get_args(annotation) if option is not type(None)]
    return [annotation]


def _metadata(annotation: Any, wanted: type) -> Any:
    for option in _options(annotation):
        if get_origin(option) is Annotated:
            for each in option.__metadata__:
                if isinstance(each, wanted):
                    return each
    return None


def _bare(annotation: Any) -> Any:
    option = _options(annotation)[0]
    return get_args(option)[0] if get_origin(option) is Annotated else option


def _element(annotation: Any, step: int | str) -> Any:
    """The annotation of one element of a tuple, list or dict."""
    for option in _options(annotation):
        bare = get_args(option)[0] if get_origin(option) is Annotated else option
        arguments = get_args(bare)
        if get_origin(bare) is dict and isinstance(step, str):
            return arguments[1]
        if get_origin(bare) in (tuple, list) and isinstance(step, int):
            if (len(arguments) == 2 and arguments[1] is Ellipsis) or get_origin(bare) is list:
                return arguments[0]
            return arguments[step] if step < len(arguments) else None
    return None


def _walk(cls: type, tree: Tree, location: tuple[str | int, ...]) -> tuple[PathKey, Any]:
    """The path in the tree that a pydantic location means, and the annotation there.

    A location holds a kind for every family and sometimes a member of a union: steps that the tree does not have.
    """
    path: PathKey = ()
    annotation: Any = cls
    value = tree.value
    for step in location:
        family = _metadata(annotation, Family)
        if family is not None and isinstance(step, str) and step in family.kinds() and _kind_in(value) == step:
            annotation = family.find(step)
            continue
        dataclass_type = next((_bare(option) for option in _options(annotation) if is_dataclass(_bare(option))), None)
        if _has(value, step):
            value = value[step]
        elif not (dataclass_type is not None and step in _hints(dataclass_type)):
            continue
        path = (*path, step)
        if dataclass_type is not None:
            annotation = _hints(dataclass_type).get(str(step))
        else:
            annotation = _element(annotation, step)
    return path, annotation


def _has(value: Any, step: int | str) -> bool:
    """Whether a tree's value has an entry of that key or index."""
    return step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int) and step < len(value)


def _kind_in(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else value


# --- messages ---------------------------------------------------------------------------------------------------------------

_EXPECTED = {
    "int_type": "a whole number such as 16",
    "int_from_float": "a whole number such as 16",
    "int_parsing": "a whole number such as 16",
    "float_type": "a number such as 0.1",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "dict_type": "a block of settings",
    "dataclass_type": "a block of settings",
    "model_attributes_type": "a block of settings with a 'kind'",
    "dataclass_exact_type": "a block of settings",
    "tuple_type": "a list",
    "list_type": "a list",
    "none_required": "nothing",
}
_COMPARED = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def _problem(cls: type, error: Any, tree: Tree) -> Problem:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    path, annotation = _walk(cls, tree, tuple(error["loc"][1:]))
    if kind == "unexpected_keyword_argument":
        _, parent = _walk(cls, tree, tuple(error["loc"][1:-1]))
        known = _settings_of(parent)
        name = str(error["loc"][-1])
        hint = nearest(name, known) or "; ".join(filter(None, (_elsewhere(cls, tree, error["loc"], name), _choices(known))))
        return tree.problem(f"unknown setting '{name}'", path, hint, key=True)
    if kind == "missing" and isinstance(error["loc"][-1], int):
        entries = len(get_args(_bare(_walk(cls, tree, tuple(error["loc"][1:-1]))[1])))
        return tree.problem(f"expected a list of {entries} entries, got {_shown(given)}", path)
    if kind == "missing":
        _, parent = _walk(cls, tree, tuple(error["loc"][1:-1]))
        return tree.problem(f"the required setting '{error['loc'][-1]}' is missing", path[:-1] if path else path, _example(annotation))
    if kind == "unknown_kind":
        family: Family | None = _metadata(annotation, Family)
        kinds = family.kinds() if family else []
        named = _kind_in(given)
        if isinstance(given, dict) and "kind" not in given:
            return tree.problem("the required setting 'kind' is missing", path, _choices(kinds))
        if not isinstance(named, str):
            return tree.problem(f"expected the name of a kind, got {_shown(named)}", path, _choices(kinds))
        where = (*path, "kind") if isinstance(given, dict) else path
        return tree.problem(f"unknown kind '{named}'", where, " ".join(filter(None, (nearest(named, kinds), _choices(kinds)))))
    if kind in _COMPARED:
        words, key = _COMPARED[kind]
        return tree.problem(f"expected a number {words} {context[key]:g}, got {_shown(given)}", path)
    if kind == "literal_error":
        allowed = _literals(annotation) or [context.get("expected", "")]
        hint = nearest(given, [each for each in allowed if isinstance(each, str)]) if isinstance(given, str) else ""
        return tree.problem(f"expected {' or '.join(repr(each) for each in allowed)}, got {_shown(given)}", path, hint)
    if kind == "value_error":
        message = str(context.get("error", error["msg"]))
        name, colon, rest = message.partition(": ")
        if colon and name in _settings_of(annotation):
            return tree.problem(rest, (*path, name))
        return tree.problem(message, path)
    if kind == "string_pattern_mismatch":
        is_key = error["loc"][-1] == "[key]"
        where = (*path, str(given)) if is_key else path
        return tree.problem(f"expected a name of letters, digits, '_', '-' and spaces, got {_shown(given)}", where, key=is_key)
    if kind in ("too_short", "too_long"):
        bound = "at least" if kind == "too_short" else "at most"
        few = context.get("min_length", context.get("max_length"))
        return tree.problem(f"expected {bound} {few} entries, got {context['actual_length']}", path)
    if kind in _EXPECTED:
        return tree.problem(f"expected {_EXPECTED[kind]}, got {_shown(given)}", path)
    return tree.problem(f"{error['msg']}, got {_shown(given)}", path)


def _elsewhere(cls: type, tree: Tree, location: tuple[str | int, ...], name: str) -> str:
    """Which other kinds of the block's family have that setting, in words; empty if none has, or it has no family."""
    family: Family | None = _metadata(_walk(cls, tree, tuple(location[1:-2]))[1], Family)
    owners = [kind for kind in family.kinds() if name in _settings_of(family.find(kind))] if family is not None else []
    return f"a setting of kind {' and '.join(owners)}" if owners else ""


def _literals(annotation: Any) -> list[Any]:
    return [each for option in _options(annotation) if get_origin(option) is Literal for each in get_args(option)]


def _settings_of(annotation: Any) -> list[str]:
    for option in _options(annotation):
        bare = _bare(option)
        if is_dataclass(bare):
            return [field.name for field in fields(bare) if field.init]
    return []


def _example(annotation: Any) -> str:
    quantity = _metadata(annotation, Quantity)
    if quantity is not None:
        return f"for example '{quantity.examples[0]}'"
    family = _metadata(annotation, Family)
    return _choices(family.kinds()) if family is not None else ""


def _choices(names: list[str]) -> str:
    return f"one of: {', '.join(names)}" if names else ""


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a block of settings"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = "true" if value is True else "false" if value is False else "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
