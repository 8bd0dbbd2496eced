"""HTML from plain text: every text is escaped here and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["amount", "data_block", "document", "element", "picture", "section", "table", "text", "without_script"]

_MOST_ROWS = 400

_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
    "style-src 'sha256-{style}'; script-src 'sha256-{script}'; require-trusted-types-for 'script'"
)


def text(value: object) -> str:
    """A value as HTML text, quotes escaped too."""
    return html.escape(str(value), quote=True)


def element(name: str, content: str = "", **attributes: str | None) -> str:
    """An element.

    Args:
        name: of the element.
        content: HTML, escaped already.
        attributes: plain text each; an underscore at the end is dropped, others become hyphens; None leaves one out.
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{written}>{content}</{name}>"


def amount(value: float | None, write: Callable[[Any], str]) -> str:
    """A number for people, the exact one beside it for machines; a dash where there is none."""
    return element("data", text(write(value)), value=repr(value)) if value is not None else "–"


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None]]],
    writes: Sequence[Callable[[Any], str]],
    *,
    total: bool = False,
    identity: str | None = None,
    halves: Sequence[Sequence[float | None]] = (),
) -> str:
    """A table of numbers. Rows beyond the first few hundred are added up in one, so that sums stay whole.

    Args:
        caption: what it says.
        columns: names, that of the rows' names first.
        rows: name and numbers of each.
        writes: how numbers of each column are written for people.
        total: whether a last row has the sums of all columns.
        identity: of the element.
        halves: half the width of each number's interval, None for one without; empty for a table without intervals.
    """
    shown = list(rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        shown.append((f"{len(rows) - _MOST_ROWS:,} others together", _sums(rows[_MOST_ROWS:], len(columns) - 1)))
    body = "".join(_row(name, values, writes, halves[place] if place < len(halves) else ()) for place, (name, values) in enumerate(shown))
    foot = element("tfoot", _row("all", _sums(rows, len(columns) - 1), writes)) if total else ""
    head = element("thead", element("tr", "".join(element("th", text(column), scope="col") for column in columns)))
    whole = element("table", element("caption", text(caption)) + head + element("tbody", body) + foot, id=identity)
    return element("div", whole, class_="wide", tabindex="0", role="region", aria_label=caption)


def _sums(rows: Sequence[tuple[str, Sequence[float | None]]], count: int) -> list[float | None]:
    return [sum(value for _, values in rows if (value := values[column]) is not None) for column in range(count)]


def _row(name: str, values: Iterable[float | None], writes: Sequence[Callable[[Any], str]], halves: Sequence[float | None] = ()) -> str:
    cells = ""
    for place, (value, write) in enumerate(zip(values, writes, strict=True)):
        half = halves[place] if place < len(halves) else None
        more = "" if value is None or half is None else element("small", " ± " + amount(half, write))
        cells += element("td", amount(value, write) + more)
    return element("tr", element("th", text(name), scope="row") + cells)


def without_script(pictures: Sequence[tuple[str, bytes]]) -> str:
    """Pictures for readers without scripts: what each shows, and the PNG."""
    shown = "".join(element("figure", picture(png, told) + element("figcaption", text(told))) for told, png in pictures)
    return element("noscript", element("section", element("h2", "Pictures") + shown)) if shown else ""


def section(identity: str, title: str, *content: str) -> str:
    """A part of the page with a heading."""
    heading = element("h2", text(title), id=f"{identity}-title")
    return element("section", heading + "".join(content), id=identity, aria_labelledby=f"{identity}-title")


def picture(png: bytes, told: str) -> str:
    """A PNG within the page."""
    return f'<img alt="{text(told)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def data_block(data: Any) -> str:
    """JSON that no browser runs and that no text within can end early."""
    written = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for sign in "<>&":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="data">{written}</script>'


def document(title: str, body: str, style: str, script: str) -> str:
    """A whole page that asks nobody for anything: it may load nothing, and run only its own script.

    Args:
        title: plain text.
        body: HTML.
        style: the only style sheet.
        script: the only script.
    """
    if "</style" in style.lower() or "</script" in script.lower():
        raise ValueError("a style sheet or script would end its own element")
    policy = _POLICY.format(style=_digest(style), script=_digest(script))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n'
        f"<body>\n{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
