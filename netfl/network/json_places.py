"""Where in a JSON text something stands, found when there is something to say about it: Python's reader keeps no places."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

__all__ = ["place_of", "place_of_constant", "place_of_depth"]

_BLANK = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN|[\[\]{}]')
_DECODER = json.JSONDecoder()


def place_of(text: str, steps: Sequence[str | int]) -> tuple[int, int]:
    """Line and column of a value.

    Args:
        text: that has been read without an error.
        steps: keys and indices that lead to a value in it.

    >>> place_of('{"nodes": [1,\\n 2]}', ("nodes", 1))
    (2, 2)
    """
    at = _over_blank(text, 0)
    for step in steps:
        at = _child(text, at, step)
    return _line_and_column(text, at)


def place_of_constant(text: str) -> tuple[int, int]:
    """Line and column of the first NaN or Infinity in a text that is JSON up to there.

    >>> place_of_constant('{"NaN": -Infinity}')
    (1, 9)
    """
    return _line_and_column(text, next(token.start() for token in _TOKEN.finditer(text) if token[0][-1] in "Ny"))


def place_of_depth(text: str, most: int) -> tuple[int, int]:
    """Line and column of the first bracket that is nested deeper, in a text that is JSON up to there.

    >>> place_of_depth('["[", [{}]]', 2)
    (1, 8)
    """
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth > most:
            return _line_and_column(text, token.start())
    raise ValueError(f"nothing is nested deeper than {most} levels")


def _child(text: str, at: int, step: str | int) -> int:
    """Where the value of a key, or the element of an index, begins in the object or list that begins here."""
    at = _over_blank(text, at + 1)
    index = 0
    while True:
        key: str | int = index
        if isinstance(step, str):
            key, at = _DECODER.raw_decode(text, at)
            at = _over_mark(text, at)
        if key == step:
            return at
        _, at = _DECODER.raw_decode(text, at)
        at = _over_mark(text, at)
        index += 1


def _over_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _over_mark(text: str, at: int) -> int:
    """Past a colon or comma and the blanks around it."""
    return _over_blank(text, _over_blank(text, at) + 1)


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
