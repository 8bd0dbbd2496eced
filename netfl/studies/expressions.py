"""The small language of `constraint` and `--fail-if`: comparisons of named values.

    rounds >= 5 and topology.links.uplink.rate < 10 Mbit/s
    accuracy < 0.9 or not time_to_accuracy <= 20 min

From loosest to tightest: `or`, `and`, `not`, comparisons (`<`, `<=`, `>`, `>=`, `==`, `!=`, `in`; `a < b < c` means both), `+` and `-`,
`*` and `/`, minus. Operands are numbers, quantities with their unit, texts in quotes, `true`, `false`, `null`, lists in brackets, names,
and `min`, `max`, `abs`. A name with characters such as `-` is written as it is where such a name exists, or between backticks.
A text is read and turned into a small tree; nothing is handed to Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from netfl.errors import Problem, ScenarioError
from netfl.parts import nearest
from netfl.units import DIMENSIONS, parse

__all__ = ["NOT_REACHED", "Expression"]

NOT_REACHED = math.inf
"""What a time that never came is in a comparison: later than every time."""

_LONGEST = 2000
_DEEPEST = 50
_UNITS = sorted({unit for dimension in DIMENSIONS.values() for unit in dimension.units if unit}, key=lambda unit: (-len(unit), unit))
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NAME = re.compile(r"[A-Za-z_](?:[\w.]|\[\d+\])*")
_SIGNS = ("<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "(", ")", "[", "]", ",")
_WORDS = {"true": True, "false": False, "null": None}
_KEYWORDS = ("and", "or", "not", "in")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=", "in")


@dataclass(frozen=True)
class _Amount:
    """A quantity: its text, and what it is worth in the first dimension that has its unit."""

    text: str
    value: float


@dataclass(frozen=True)
class _Token:
    kind: str
    value: Any
    column: int


@dataclass(frozen=True)
class _Node:
    """An operator, a function, a name or a constant, and what it works on."""

    operator: str
    column: int
    parts: tuple[_Node, ...] = ()
    value: Any = None


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Args:
        text: as it was given.
        file: how errors call the place it came from.
        names: every name in it.
    """

    text: str
    file: str
    names: tuple[str, ...]
    _root: _Node

    @classmethod
    def parse(cls, text: str, names: Collection[str], file: str) -> Expression:
        """An expression from its text.

        Args:
            text: of the expression.
            names: what it may name.
            file: how errors call the place it came from, such as `--fail-if`.

        Raises:
            ScenarioError: it cannot be read; with the column.
        """
        if len(text) > _LONGEST:
            raise ScenarioError(Problem(f"expected at most {_LONGEST:,} characters, got {len(text):,}", file=file))
        tokens = _tokens(text, names, file)
        reader = _Reader(tokens, text, names, file)
        root = reader.whole()
        used = tuple(dict.fromkeys(token.value for token in tokens if token.kind == "name" and token.value in names))
        return cls(text, file, used, root)

    def value(self, values: Mapping[str, Any]) -> Any:
        """What the expression comes to.

        Args:
            values: of the names: numbers, texts (also of quantities), true, false, None, lists.

        Raises:
            ScenarioError: it compares or computes what cannot be; with the column.
        """
        try:
            return _value(self._root, values)
        except _MisuseError as error:
            raise ScenarioError(_problem(str(error), self.text, error.column, self.file)) from None

    def is_true(self, values: Mapping[str, Any]) -> bool:
        """The same for an expression that must be true or false.

        Raises:
            ScenarioError: it is neither.
        """
        found = self.value(values)
        if not isinstance(found, bool):
            raise ScenarioError(_problem(f"expected a comparison, which is true or false, got {_shown(found)}", self.text, 1, self.file))
        return found


def _problem(message: str, text: str, column: int, file: str, hint: str = "") -> Problem:
    return Problem(message, file=file, line=1, column=column, hint=hint, source=text)


# --- reading ----------------------------------------------------------------------------------------------------------------


def _tokens(text: str, names: Collection[str], file: str) -> list[_Token]:
    known = sorted(names, key=lambda name: (-len(name), name))
    found: list[_Token] = []
    at = 0
    while at < len(text):
        column = at + 1
        character = text[at]
        if character.isspace():
            at += 1
            continue
        if character in "'\"`":
            end = text.find(character, at + 1)
            if end < 0:
                raise ScenarioError(_problem(f"the {character} is never closed", text, column, file))
            found.append(_Token("name" if character == "`" else "constant", text[at + 1 : end], column))
            at = end + 1
            continue
        number = _NUMBER.match(text, at)
        if number is not None:
            at = number.end()
            unit = _unit_at(text, at)
            if unit is None:
                found.append(_Token("constant", float(number[0]) if set(number[0]) & set(".eE") else int(number[0]), column))
                continue
            start = at
            at = text.index(unit, at) + len(unit)
            amount = f"{number[0]} {text[start:at].strip()}"
            dimension = next(name for name, each in DIMENSIONS.items() if unit in each.units)
            found.append(_Token("constant", _Amount(amount, float(number[0]) * DIMENSIONS[dimension].units[unit]), column))
            continue
        name = next((each for each in known if text.startswith(each, at) and _ends_here(text, at + len(each))), None)
        plain = _NAME.match(text, at)
        if name is None and plain is not None:
            name = plain[0]
        if name is not None:
            at += len(name)
            found.append(_Token("word" if name in _KEYWORDS else "name", name, column))
            continue
        sign = next((each for each in _SIGNS if text.startswith(each, at)), None)
        if sign is None:
            hint = "equality is written `==`" if character == "=" else ""
            raise ScenarioError(_problem(f"'{character}' means nothing here", text, column, file, hint))
        found.append(_Token("sign", sign, column))
        at += len(sign)
    return found


def _unit_at(text: str, at: int) -> str | None:
    while at < len(text) and text[at] == " ":
        at += 1
    return next((unit for unit in _UNITS if text.startswith(unit, at) and _ends_here(text, at + len(unit))), None)


def _ends_here(text: str, at: int) -> bool:
    return at >= len(text) or not (text[at].isalnum() or text[at] in "_.[")


class _Reader:
    """Tokens into a tree, by recursive descent."""

    def __init__(self, tokens: list[_Token], text: str, names: Collection[str], file: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._text, self._names, self._file = text, names, file

    def whole(self) -> _Node:
        if not self._tokens:
            raise ScenarioError(_problem("expected an expression such as `accuracy < 0.9`, got nothing", self._text, 1, self._file))
        root = self._or()
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            raise self._refused(f"expected `and`, `or` or the end, got '{_shown(token.value)}'", token.column)
        return root

    def _refused(self, message: str, column: int, hint: str = "") -> ScenarioError:
        return ScenarioError(_problem(message, self._text, column, self._file, hint))

    def _next_is(self, *values: str) -> _Token | None:
        """The next token if it is one of these signs or words; it is then passed."""
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind in ("sign", "word") and token.value in values:
                self._at += 1
                return token
        return None

    def _or(self) -> _Node:
        return self._row("or", self._and)

    def _and(self) -> _Node:
        return self._row("and", self._not)

    def _row(self, word: str, below: Callable[[], _Node]) -> _Node:
        parts = [below()]
        column = parts[0].column
        while self._next_is(word):
            parts.append(below())
        return parts[0] if len(parts) == 1 else _Node(word, column, tuple(parts))

    def _not(self) -> _Node:
        token = self._next_is("not")
        return self._comparison() if token is None else _Node("not", token.column, (self._deeper(self._not, token),))

    def _comparison(self) -> _Node:
        left = self._sum()
        found: list[_Node] = []
        while token := self._next_is(*_COMPARISONS):
            right = self._sum()
            found.append(_Node(token.value, token.column, (left, right)))
            left = right
        if not found:
            return left
        return found[0] if len(found) == 1 else _Node("and", found[0].column, tuple(found))

    def _sum(self) -> _Node:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> _Node:
        return self._chain(("*", "/"), self._minus)

    def _chain(self, signs: tuple[str, ...], below: Callable[[], _Node]) -> _Node:
        left = below()
        while token := self._next_is(*signs):
            left = _Node(token.value, token.column, (left, below()))
        return left

    def _minus(self) -> _Node:
        token = self._next_is("-")
        return self._single() if token is None else _Node("minus", token.column, (self._deeper(self._minus, token),))

    def _deeper(self, below: Callable[[], _Node], token: _Token) -> _Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._refused(f"nested deeper than {_DEEPEST} levels", token.column)
        found = below()
        self._depth -= 1
        return found

    def _single(self) -> _Node:
        if self._at >= len(self._tokens):
            raise self._refused("expected a value, got the end", len(self._text) + 1)
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "constant":
            return _Node("constant", token.column, value=token.value)
        if token.kind == "sign" and token.value == "(":
            inside = self._deeper(self._or, token)
            self._close(")", token)
            return inside
        if token.kind == "sign" and token.value == "[":
            return _Node("list", token.column, self._listed("]", token))
        if token.kind != "name":
            raise self._refused(f"expected a value, got '{token.value}'", token.column)
        opening = self._next_is("(")
        if opening is not None:
            if token.value not in _FUNCTIONS:
                hint = nearest(token.value, list(_FUNCTIONS)) or f"there are: {', '.join(_FUNCTIONS)}"
                raise self._refused(f"no function '{token.value}'", token.column, hint)
            parts = self._listed(")", opening)
            if not parts or (token.value == "abs" and len(parts) != 1):
                raise self._refused(f"`{token.value}` takes {'one value' if token.value == 'abs' else 'values'}", token.column)
            return _Node(token.value, token.column, parts)
        if token.value in _WORDS and token.value not in self._names:
            return _Node("constant", token.column, value=_WORDS[token.value])
        if token.value not in self._names:
            known = sorted(self._names)
            hint = nearest(token.value, known) or (f"there are: {', '.join(known[:12])}" if known else "")
            raise self._refused(f"unknown name '{token.value}'", token.column, hint)
        return _Node("name", token.column, value=token.value)

    def _listed(self, closing: str, opening: _Token) -> tuple[_Node, ...]:
        parts: list[_Node] = []
        if self._next_is(closing):
            return ()
        parts.append(self._deeper(self._or, opening))
        while self._next_is(","):
            parts.append(self._deeper(self._or, opening))
        self._close(closing, opening)
        return tuple(parts)

    def _close(self, closing: str, opening: _Token) -> None:
        if self._next_is(closing) is None:
            raise self._refused(f"the '{opening.value}' is never closed by '{closing}'", opening.column)


# --- values -----------------------------------------------------------------------------------------------------------------


class _MisuseError(Exception):
    """An operation that its values do not allow."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": lambda *values: min(values),
    "max": lambda *values: max(values),
    "abs": abs,
}


def _value(node: _Node, values: Mapping[str, Any]) -> Any:
    if node.operator == "constant":
        return node.value
    if node.operator == "name":
        return values[node.value]
    if node.operator == "list":
        return [_value(part, values) for part in node.parts]
    if node.operator in ("and", "or"):
        ends = node.operator == "or"
        for part in node.parts:
            if _truth(part, values) is ends:
                return ends
        return not ends
    if node.operator == "not":
        return not _truth(node.parts[0], values)
    if node.operator in _COMPARISONS:
        left, right = (_value(part, values) for part in node.parts)
        return _compared(node, left, right)
    numbers = [_number(part, values) for part in node.parts]
    if node.operator == "minus":
        return -numbers[0]
    if node.operator in _FUNCTIONS:
        return _FUNCTIONS[node.operator](*numbers)
    left, right = numbers
    if node.operator == "/" and right == 0:
        raise _MisuseError("a division by 0", node.column)
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else 0.0}[node.operator]


def _truth(node: _Node, values: Mapping[str, Any]) -> bool:
    found = _value(node, values)
    if not isinstance(found, bool):
        raise _MisuseError(f"expected true or false, got {_shown(found)}", node.column)
    return found


def _number(node: _Node, values: Mapping[str, Any]) -> float:
    found = _value(node, values)
    if isinstance(found, str):
        found = _quantity(found)
    if isinstance(found, _Amount):
        return found.value
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _MisuseError(f"expected a number, got {_shown(found)}", node.column)
    return found


def _quantity(text: str) -> Any:
    """A text as a quantity if it is one of some dimension, else the text."""
    for dimension in DIMENSIONS:
        try:
            return _Amount(text, parse(text, dimension))
        except ValueError:
            continue
    return text


def _compared(node: _Node, left: Any, right: Any) -> bool:
    if node.operator == "in":
        if not isinstance(right, list | tuple):
            raise _MisuseError(f"expected a list after `in`, got {_shown(right)}", node.parts[1].column)
        return any(_same(left, each) for each in right)
    if node.operator in ("==", "!="):
        return _same(left, right) == (node.operator == "==")
    left, right = _alike(left, right)
    for value, part in ((left, node.parts[0]), (right, node.parts[1])):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _MisuseError(f"expected a number to compare, got {_shown(value)}", part.column)
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[node.operator])


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    left, right = _alike(left, right)
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Two values as they can be compared: quantities in the base unit of a dimension that both have."""
    texts = [value.text if isinstance(value, _Amount) else value for value in (left, right)]
    if all(isinstance(text, str) for text in texts) and any(isinstance(value, _Amount) for value in (left, right)):
        for dimension in DIMENSIONS:
            try:
                return parse(texts[0], dimension), parse(texts[1], dimension)
            except ValueError:
                continue
        return left, right
    if all(isinstance(text, str) for text in texts):
        quantities = [_quantity(text) for text in texts]
        if all(isinstance(each, _Amount) for each in quantities):
            return _alike(*quantities)
    return tuple(value.value if isinstance(value, _Amount) else value for value in (left, right))  # type: ignore[return-value]


def _shown(value: Any) -> str:
    if isinstance(value, _Amount):
        return value.text
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str) else str(value)
