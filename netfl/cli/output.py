"""What every command prints with, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from netfl.errors import MissingExtraError, NetflError, Problem, ScenarioError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_INVALID",
    "EXIT_MISSING",
    "as_dict",
    "console",
    "exits",
    "print_json",
    "print_problems",
]

EXIT_FAILED, EXIT_INVALID, EXIT_MISSING, EXIT_INTERRUPTED = 1, 3, 4, 130


def console() -> Console:
    """The console for tables on stdout."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "120"))
    return Console(file=sys.stdout, width=width, highlight=False)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, indent=2))


def print_problems(problems: list[Problem]) -> None:
    """Print what is wrong in a file, each with its line, on stderr."""
    for problem in problems:
        click.echo(str(problem), err=True)
        if problem.source:
            click.echo(f"    {problem.source.rstrip()}", err=True)
            click.echo(f"    {' ' * (problem.column - 1)}^", err=True)


def as_dict(problem: Problem) -> dict[str, Any]:
    """A problem as JSON."""
    return {
        "message": problem.message,
        "path": problem.path,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "hint": problem.hint,
    }


@contextmanager
def exits(as_json: bool) -> Iterator[None]:
    """Turn netfl's errors into messages and exit codes; a bug keeps its traceback."""
    from netfl.studies import InterruptedRunError

    logging.lastResort = None
    notes = _Notes()
    logging.getLogger("netfl.store").addHandler(notes)
    try:
        yield
    except InterruptedRunError as error:
        _leave(EXIT_INTERRUPTED, "interrupted", error, as_json)
    except KeyboardInterrupt:
        _leave(EXIT_INTERRUPTED, "interrupted", RuntimeError("interrupted"), as_json)
    except ScenarioError as error:
        if not as_json:
            print_problems(list(error.problems))
            sys.exit(EXIT_INVALID)
        problems = [as_dict(problem) for problem in error.problems]
        print_json({"schema_version": 1, "success": False, "error": {"kind": "scenario", **problems[0]}, "problems": problems})
        sys.exit(EXIT_INVALID)
    except MissingExtraError as error:
        _leave(EXIT_MISSING, "missing", error, as_json)
    except NetflError as error:
        _leave(EXIT_FAILED, "run", error, as_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        _leave(EXIT_FAILED, "file", RuntimeError(f"{error.filename or 'file'}: {error.strerror}"), as_json)
    finally:
        logging.getLogger("netfl.store").removeHandler(notes)


class _Notes(logging.Handler):
    """Says on stderr, once each, what the store warns of: it is open before a run's log is, and closed after it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            click.echo(message, err=True)


def _leave(code: int, kind: str, error: Exception, as_json: bool) -> NoReturn:
    message = "; ".join([str(error), *getattr(error, "__notes__", ())])
    if as_json:
        print_json({"schema_version": 1, "success": False, "error": {"kind": kind, "message": message}})
    else:
        click.echo(message, err=True)
    sys.exit(code)
