"""The style sheet and the script of pages, from the files beside this one."""

from __future__ import annotations

from functools import cache
from importlib import resources

__all__ = ["script", "style"]

_SCRIPTS = ("base", "charts", "network", "timeline", "run", "sweep", "start")


@cache
def style() -> str:
    """The style sheet."""
    return _read("page.css")


@cache
def script() -> str:
    """The script: its files one after the other within one function, so that they share names with nothing else."""
    return '"use strict";\n(() => {\n' + "\n".join(_read(f"{name}.js") for name in _SCRIPTS) + "})();\n"


def _read(name: str) -> str:
    return resources.files("netfl.report.page").joinpath("files", name).read_text(encoding="utf-8")
