"""The points of a study: which settings each has, and the configuration that they come to."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netfl.errors import Problem, ScenarioError
from netfl.scenario import Loaded, Scenario, Sweep, from_folder, load
from netfl.scenario.reader import to_plain
from netfl.scenario.tree import Mark, format_path, load_text, parse_path
from netfl.studies.expressions import Expression

__all__ = ["Plan", "Point", "config_hash", "plan", "shortest", "shown_value"]

_MOST_POINTS = 100_000


@dataclass(frozen=True)
class Point:
    """One run of a study.

    Args:
        settings: path of each setting that the study varies to its value here.
        label: what the study calls this combination; may be empty.
        replicate: which repetition, from 0.
        scenario: what to run.
        hash: of the configuration; the name of the point's folder.
        axes: what tables tell points apart by: for each list of points its name and the entry's label, in place of the settings of that
            entry; else the settings.
    """

    settings: Mapping[str, Any]
    label: str
    replicate: int
    scenario: Scenario
    hash: str
    axes: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What tells this point from the others, for people."""
        parts = (
            [self.label]
            if self.label
            else [f"{shortest(key, list(self.settings))}={shown_value(value)}" for key, value in self.settings.items()]
        )
        return ", ".join([*parts, f"replicate {self.replicate}"])


@dataclass(frozen=True)
class Plan:
    """A study whose every point has been checked.

    Args:
        base: the scenario without its sweep.
        points: what to run, in order: replicates of one combination stand together.
        keys: the paths of the settings that vary.
        excluded: how many points the constraint removed.
        equal: how many points are the same configuration as an earlier one.
        table: the figures that the study's table shows.
    """

    base: Loaded
    points: tuple[Point, ...]
    keys: tuple[str, ...]
    excluded: int = 0
    equal: int = 0
    table: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    """Settings that go together, and where each came from."""

    settings: Mapping[str, Any]
    places: Mapping[str, Mark]
    axes: Mapping[str, Any]
    label: str = ""


def plan(
    source: str | Path | Scenario | Mapping[str, Any],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    grids: Sequence[str] = (),
    replicates: int | None = None,
    settings: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """The points of a study, each loaded and checked.

    Args:
        source: path of a scenario file, a mapping of its contents, or a scenario made in Python.
        grid: path of a setting to its values; goes before an entry of the file's `sweep` with the same path.
        grids: the same as `path=value,value` texts; errors call them `--grid #1`, `--grid #2`.
        replicates: in place of the sweep's.
        settings: of every point: path of a setting to its value.
        overrides: the same as `path=value` texts.

    Raises:
        ScenarioError: everything that is wrong, at once.
    """
    base = load(source, settings, overrides)
    sweep = base.scenario.sweep or Sweep()
    if replicates is not None:
        sweep = replace(sweep, replicates=replicates)
    own: dict[str, tuple[Sequence[Any], Mark]] = {}
    for number, text in enumerate(grids, 1):
        name, values = _grid(text, f"--grid #{number}")
        own[name] = (values, Mark(f"--grid #{number}", 1, 1))
    for name, given in (grid or {}).items():
        own[name] = (list(given), Mark(f"grid '{name}'", 1, 1))
    axes = _axes(base, sweep, own)
    keys = tuple(dict.fromkeys(key for axis in axes for row in axis for key in row.settings))
    total = sweep.replicates
    for axis in axes:
        total *= len(axis)
    if total > _MOST_POINTS:
        raise ScenarioError(base.problem(("sweep",), f"this makes {total:,} points; netfl runs at most {_MOST_POINTS:,}"))
    loaded = _Loading(source, settings, overrides)
    constraint = _constraint(base, sweep, keys)
    points: dict[str, Point] = {}
    excluded = equal = 0
    problems: dict[Problem, None] = {}
    for combination in itertools.product(*axes):
        row = _joined(combination)
        try:
            scenarios = list(loaded.replicates(row, sweep.replicates))
        except ScenarioError as error:
            problems.update(dict.fromkeys(error.problems))
            continue
        for replicate, scenario in enumerate(scenarios):
            if constraint is not None and not _holds(constraint, base, scenario, row.settings, replicate):
                excluded += 1
                continue
            point = Point(row.settings, row.label, replicate, scenario, config_hash(scenario), row.axes)
            equal += point.hash in points
            points.setdefault(point.hash, point)
    if problems:
        raise ScenarioError(*problems)
    if not points:
        raise ScenarioError(base.problem(("sweep", "constraint"), f"the constraint removes every point of {total:,}"))
    return Plan(base.single(), tuple(points.values()), keys, excluded, equal, sweep.table)


def config_hash(scenario: Scenario) -> str:
    """Sixteen hexadecimal digits of the hash of everything that a run is made of; its description is not part of it."""
    plain = to_plain(replace(scenario, sweep=None, description=""))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


class _Loading:
    """Loads the scenario of each combination."""

    def __init__(
        self, source: str | Path | Scenario | Mapping[str, Any], settings: Mapping[str, Any] | None, overrides: Sequence[str]
    ) -> None:
        self._source, self._settings, self._overrides = source, dict(settings or {}), overrides

    def replicates(self, row: _Row, count: int) -> Iterator[Scenario]:
        """The scenarios of a combination's replicates; a topology drawn by rule is drawn anew for each."""
        first = self._load(row, None)
        yield first
        is_drawn = first.topology.filled
        for number in range(1, count):
            index = first.replicate + number
            yield self._load(row, index) if is_drawn else replace(first, replicate=index)

    def _load(self, row: _Row, replicate: int | None) -> Scenario:
        settings = {**self._settings, **row.settings, **({"replicate": replicate} if replicate is not None else {})}
        return load(self._source, settings, self._overrides, row.places).single().scenario


def _joined(rows: Sequence[_Row]) -> _Row:
    settings = {key: value for row in rows for key, value in row.settings.items()}
    places = {key: place for row in rows for key, place in row.places.items()}
    axes = {name: value for row in rows for name, value in row.axes.items()}
    return _Row(settings, places, axes, ", ".join(row.label for row in rows if row.label))


def _axes(base: Loaded, sweep: Sweep, own: Mapping[str, tuple[Sequence[Any], Mark]]) -> list[list[_Row]]:
    """What varies independently: each key of the grid, the rows of `zip`, the entries of `points` and of each list of points."""
    problems: list[Problem] = []
    axes: list[list[_Row]] = []
    seen: dict[str, str] = {}

    def checked(key: str, where: tuple[str | int, ...], what: str, mark: Mark | None = None) -> None:
        place = mark or base.tree.mark(where, key=True) or Mark("", 0, 0)
        problem = None
        try:
            path = parse_path(key)
        except ValueError as error:
            path, problem = (), str(error)
        if path and path[0] in ("sweep", "extends", "schema"):
            problem = f"`{path[0]}` cannot be varied"
        elif path == ("replicate",):
            problem = "`replicate` cannot be varied: say how many `replicates`"
        elif seen.get(key, what) != what or (key in seen and not what.startswith("point")):
            problem = f"'{key}' stands in `{seen[key]}` too"
        seen.setdefault(key, what)
        if problem is not None:
            problems.append(Problem(problem, format_path(where), place.file, place.line, place.column, source=place.source))

    for key, values in sweep.grid.items():
        if key in own:
            continue
        checked(key, ("sweep", "grid", key), "grid")
        axes.append([_row(base, {key: value}, ("sweep", "grid", key, index)) for index, value in enumerate(values)])
        if not values:
            problems.append(base.problem(("sweep", "grid", key), "expected at least one value"))
    for key, (given, mark) in own.items():
        checked(key, (), mark.file, mark)
        axes.append([_Row({key: from_folder(key, value, Path())}, {key: mark}, {key: value}) for value in given])
        if not given:
            problems.append(Problem("expected at least one value", key, mark.file))
    if sweep.zip:
        lengths = {key: len(values) for key, values in sweep.zip.items()}
        for key in sweep.zip:
            checked(key, ("sweep", "zip", key), "zip")
        if len(set(lengths.values())) > 1 or not min(lengths.values()):
            told = ", ".join(f"'{key}' has {length}" for key, length in lengths.items())
            problems.append(base.problem(("sweep", "zip"), f"expected as many values for every key: {told}"))
        else:
            columns = [
                [_row(base, {key: value}, ("sweep", "zip", key, index)) for index, value in enumerate(values)]
                for key, values in sweep.zip.items()
            ]
            axes.append([_joined(rows) for rows in zip(*columns, strict=True)])
    lists: list[tuple[tuple[str, ...], Sequence[Mapping[str, Any]]]] = [(("points",), sweep.points)] if sweep.points else []
    lists += [(("point_lists", name), entries) for name, entries in sweep.point_lists.items()]
    for name, entries in lists:
        if not entries:
            problems.append(base.problem(("sweep", *name), "expected at least one entry"))
        for index, entry in enumerate(entries):
            for key in entry:
                if key != "label":
                    checked(key, ("sweep", *name, index, key), ".".join(name))
        axes.append([_point_row(base, entry, ("sweep", *name, index), problems) for index, entry in enumerate(entries)])
    if problems:
        raise ScenarioError(*problems)
    return axes


def _point_row(base: Loaded, entry: Mapping[str, Any], where: tuple[str | int, ...], problems: list[Problem]) -> _Row:
    label = entry.get("label", "")
    if not isinstance(label, str):
        problems.append(base.problem((*where, "label"), f"expected a text, got {label!r}"))
        label = ""
    rows = [_row(base, {key: value}, (*where, key)) for key, value in entry.items() if key != "label"]
    joined = replace(_joined(rows), label=label)
    return joined if where[1] == "points" else replace(joined, axes={str(where[2]): label or f"entry {where[3]}"})


def _row(base: Loaded, settings: Mapping[str, Any], where: tuple[str | int, ...]) -> _Row:
    """Settings of the file, with the paths in them made absolute, and their place in it."""
    mark = base.tree.mark(where)
    folder = Path(mark.file).parent if mark is not None and Path(mark.file).is_file() else Path()
    settled = {key: from_folder(key, value, folder) for key, value in settings.items()}
    return _Row(settled, dict.fromkeys(settings, mark) if mark is not None else {}, settled)


def _grid(text: str, label: str) -> tuple[str, list[Any]]:
    """`path=value,value` or `path=[value, value]`, the values being YAML."""
    name, equals, rest = text.partition("=")
    if not equals or not name.strip():
        raise ScenarioError(Problem(f"expected `path=value,value`, got '{text}'", file=label))
    values = load_text(f"[{rest}]", label).value
    if rest.strip().startswith("[") and len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    return name.strip(), values


# --- the constraint ---------------------------------------------------------------------------------------------------------


def _constraint(base: Loaded, sweep: Sweep, keys: Sequence[str]) -> Expression | None:
    if not sweep.constraint.strip():
        return None
    text = sweep.constraint
    names = {*keys, *_leaves(base.scenario), "replicate"}
    try:
        return Expression.parse(text, names, "constraint")
    except ScenarioError as error:
        raise ScenarioError(*(_placed(base, text, each) for each in error.problems)) from None


def _placed(base: Loaded, text: str, problem: Problem) -> Problem:
    """A problem of an expression at its place in the file."""
    mark = base.tree.mark(("sweep", "constraint"))
    if mark is None or text not in mark.source:
        return replace(problem, path="sweep.constraint")
    column = mark.source.index(text) + problem.column
    return Problem(problem.message, "sweep.constraint", mark.file, mark.line, column, problem.hint, mark.source)


def _holds(constraint: Expression, base: Loaded, scenario: Scenario, settings: Mapping[str, Any], replicate: int) -> bool:
    leaves = _leaves(scenario) if set(constraint.names) - settings.keys() - {"replicate"} else {}
    values = {name: settings[name] if name in settings else leaves.get(name) for name in constraint.names}
    if "replicate" in values:
        values["replicate"] = replicate
    try:
        return constraint.is_true(values)
    except ScenarioError as error:
        raise ScenarioError(*(_placed(base, constraint.text, each) for each in error.problems)) from None


def _leaves(scenario: Scenario) -> dict[str, Any]:
    """Every plain setting of a scenario by path, with units as texts."""
    return dict(_walked(to_plain(scenario), ()))


def _walked(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if path or key != "sweep":
                yield from _walked(each, (*path, key))
    elif isinstance(value, list) and value and any(isinstance(each, dict | list) for each in value):
        for index, each in enumerate(value):
            yield from _walked(each, (*path, index))
    else:
        yield format_path(path), value


# --- for people -------------------------------------------------------------------------------------------------------------


def shown_value(value: Any) -> str:
    """A setting's value in a few characters.

    >>> shown_value([{"kind": "topk", "fraction": 0.05}, {"kind": "quantize", "bits": 8}])
    'topk(fraction=0.05) + quantize(bits=8)'
    """
    if isinstance(value, dict):
        rest = ", ".join(f"{key}={shown_value(each)}" for key, each in value.items() if key != "kind")
        kind = str(value.get("kind", ""))
        return f"{kind}({rest})" if rest or not kind else kind
    if isinstance(value, list | tuple):
        return " + ".join(shown_value(each) for each in value) if value else "none"
    if value is None:
        return "removed"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and "/" in value and Path(value).suffix:
        return Path(value).stem
    return f"{value:g}" if isinstance(value, float) else str(value)


def shortest(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a key's path that no other key ends in.

    >>> shortest("a.b.rate", ["a.b.rate", "a.c.rate", "x"])
    'b.rate'
    """
    steps = key.split(".")
    ends = (".".join(steps[-length:]) for length in range(1, len(steps) + 1))
    return next((end for end in ends if sum(other == end or other.endswith("." + end) for other in keys) == 1), key)
