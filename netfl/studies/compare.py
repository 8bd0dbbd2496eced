"""Finished runs side by side: what differs between them, their figures over replicates, and what follows.

Runs with equal settings are replicates of one group. A figure that was not reached is a value of its own: a group in which a replicate did
not reach it has no mean. Points that pair by replicate share their random numbers, so differences are taken pair by pair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netfl.errors import Problem, ScenarioError
from netfl.parts import nearest
from netfl.report import ACCURACY_LEVELS
from netfl.report.estimates import Estimate, estimate
from netfl.scenario import load
from netfl.scenario.reader import to_plain
from netfl.scenario.tree import format_path
from netfl.studies.expressions import NOT_REACHED, Expression
from netfl.studies.figures import figures_of, find_figure, time_to_accuracy
from netfl.studies.folders import read_json, status_of
from netfl.studies.points import shortest
from netfl.studies.sweep import read_study

__all__ = ["Comparison", "Effect", "Group", "Member", "compare", "members_of"]

_UNLIKE = ("description", "replicate", "sweep")
_OBJECTIVES = (("accuracy", 1), ("time", -1), ("bytes", -1), ("energy_j", -1))
_SERVING_METRICS = ("p95_s", "miss_rate", "accuracy_within_deadline")


@dataclass(frozen=True)
class Member:
    """A finished run.

    Args:
        folder: of the run.
        settings: path of each setting that may differ to its value.
        label: what its study calls it; may be empty.
        replicate: which repetition.
        figures: see `netfl.studies.figures.flat`.
    """

    folder: Path
    settings: Mapping[str, Any]
    label: str
    replicate: int
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Group:
    """Replicates of one combination of settings.

    Args:
        settings: key to value.
        replicates: which there are, in order.
        values: metric to the value of each replicate; None where it was not reached.
        estimates: metric to the estimate over them.
        differences: metric to the estimate of the paired differences from the baseline; empty without one.
        is_efficient: whether no other group is at least as good in accuracy, time, bytes and energy and better in one.
    """

    settings: Mapping[str, Any]
    replicates: tuple[int, ...]
    values: Mapping[str, tuple[float | None, ...]]
    estimates: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    is_efficient: bool = False


@dataclass(frozen=True)
class Effect:
    """What a setting does to a metric: the mean difference that a level makes against the key's first level, all else equal.

    Args:
        key: of the setting.
        level: its value.
        first: the value it is compared with.
        estimate: over replicates, each the mean over the combinations of the other settings that have both levels.
    """

    key: str
    level: Any
    first: Any
    estimate: Estimate


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        keys: the settings that differ, which tell the groups apart.
        metrics: in the order of the columns.
        groups: in the order of the runs.
        baseline: the settings of the group that differences are taken from; None without one.
        effects: main effects of every key on the first metric.
        skipped: folders without a finished run, and what is there.
    """

    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    groups: tuple[Group, ...]
    baseline: Mapping[str, Any] | None
    effects: tuple[Effect, ...]
    skipped: tuple[tuple[Path, str], ...]

    def failing(self, text: str, file: str = "--fail-if") -> list[Group]:
        """The groups for which an expression is true; it names metrics, figures and keys, and a time that was not reached is later than all.

        Raises:
            ScenarioError: the expression cannot be read, or compares what cannot be.
        """
        short = {shortest(key, self.keys): key for key in self.keys}
        names = {*self.keys, *short, *(metric for group in self.groups for metric in group.estimates), "replicates"}
        expression = Expression.parse(text, names, file)
        return [group for group in self.groups if expression.is_true(_values_of(group, short))]


def _values_of(group: Group, short: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: group.settings[key] for name, key in short.items()} | dict(group.settings)
    for metric, each in group.estimates.items():
        found[metric] = NOT_REACHED if each.mean is None and metric.startswith("time_to_accuracy") else each.mean
    return {**found, "replicates": len(group.replicates)}


def compare(folders: Sequence[Path], *, by: Sequence[str] = (), metrics: Sequence[str] = (), baseline: Path | None = None) -> Comparison:
    """Finished runs side by side.

    Args:
        folders: of runs and of studies.
        by: the settings that tell groups apart, in place of all that differ; a replicate's value is then its mean over the others.
        metrics: names of figures, `time_to_accuracy` or `time_to_accuracy@0.8`; when there are none, those of the study's `table` if one
            study is all that is compared, else a few.
        baseline: a run of the group that differences are taken from.

    Raises:
        ScenarioError: there is nothing to compare, or a name is unknown.
    """
    members, skipped = members_of([*folders, *([baseline] if baseline is not None else [])])
    if not members:
        told = "; ".join(f"{folder}: {status}" for folder, status in skipped[:3])
        raise ScenarioError(Problem(f"no finished run to compare ({told})" if told else "no finished run to compare", file="compare"))
    keys = _differing(members)
    if by:
        keys = tuple(dict.fromkeys(_named_key(name, members) for name in by))
    own = () if metrics else _own_table(folders)
    try:
        readers = _readers(members, metrics or own)
    except ScenarioError as error:
        if not own:
            raise
        raise ScenarioError(*(replace(problem, file=f"{folders[0]}: sweep.table") for problem in error.problems)) from None
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(_place(member, keys), []).append(member)
    base_key = next((_place(member, keys) for member in members if baseline is not None and member.folder == baseline.resolve()), None)
    if baseline is not None and base_key is None:
        raise ScenarioError(Problem("expected the folder of a finished run", file="--baseline", hint=str(baseline)))
    names = {**readers, **_other_readers(members, readers)}
    made = {place: _group(group, keys, names) for place, group in groups.items()}
    base = made.get(base_key) if base_key is not None else None
    efficient = _efficient(list(made.values()))
    final = [
        Group(
            group.settings, group.replicates, group.values, group.estimates,
            {metric: _difference(group, base, metric) for metric in readers} if base is not None else {}, is_best,
        )
        for group, is_best in zip(made.values(), efficient, strict=True)
    ]  # fmt: skip
    effects = tuple(_effects(members, keys, next(iter(readers.values())))) if readers else ()
    return Comparison(keys, tuple(readers), tuple(final), base.settings if base is not None else None, effects, tuple(skipped))


def members_of(folders: Sequence[Path]) -> tuple[list[Member], list[tuple[Path, str]]]:
    """The finished runs in folders of runs and studies, each once, and the folders that hold none.

    Raises:
        ScenarioError: a folder is neither.
    """
    found: dict[Path, Member] = {}
    skipped: list[tuple[Path, str]] = []
    studies = [folder for folder in folders if (folder / "sweep.json").is_file()]
    alone = len(studies) == 1 and all(
        folder in studies or folder.resolve().parent == (studies[0] / "points").resolve() for folder in folders
    )
    for folder in folders:
        if folder in studies:
            for where, point in read_study(folder):
                if status_of(where) != "finished":
                    skipped.append((where, _what(status_of(where))))
                elif where.resolve() not in found:
                    axes = point.get("axes", point["settings"])
                    settings = axes if alone else _settings_of(where)
                    # Lists of points have a column each, so that their labels need none together.
                    label = "" if alone and axes.keys() != point["settings"].keys() else str(point.get("label", ""))
                    found[where.resolve()] = Member(where.resolve(), settings, label, int(point["replicate"]), figures_of(where))
            continue
        status = status_of(folder)
        if folder.resolve() in found:
            continue
        if status in ("absent", "foreign", "empty"):
            raise ScenarioError(Problem("expected the folder of a run or of a sweep", file=str(folder)))
        if status != "finished":
            skipped.append((folder, _what(status)))
            continue
        settings = _settings_of(folder)
        replicate = int(settings.pop("replicate", 0))
        found[folder.resolve()] = Member(folder.resolve(), settings, "", replicate, figures_of(folder))
    return list(found.values()), skipped


def _own_table(folders: Sequence[Path]) -> list[str]:
    """What the study says that its table should show, if the folders are one study."""
    facts = read_json(folders[0] / "sweep.json") if len(folders) == 1 else None
    return [str(name) for name in (facts or {}).get("table", [])]


def _what(status: str) -> str:
    return {"absent": "not begun", "begun": "not finished", "running": "not finished", "empty": "not begun"}.get(status, status)


def _settings_of(folder: Path) -> dict[str, Any]:
    """Every plain setting of a run by path; the devices and links of a topology only where they are few enough to read."""
    try:
        plain = to_plain(load(folder / "resolved.yaml").scenario)
    except ScenarioError as error:
        raise ScenarioError(Problem(f"its scenario cannot be read: {error.problems[0].message}", file=str(folder))) from None
    return dict(_walked(plain, ()))


def _walked(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _walked(each, (*path, key))
    else:
        yield format_path(path), value


def _differing(members: Sequence[Member]) -> tuple[str, ...]:
    """The keys in which members differ; a label stands for all keys that it determines, a topology's name for the topology."""
    names = dict.fromkeys(key for member in members for key in member.settings if key.split(".")[0] not in _UNLIKE)
    keys = [key for key in names if len({_text(member.settings.get(key)) for member in members}) > 1]
    if "topology.name" in keys:
        keys = [key for key in keys if not key.startswith("topology.") or key == "topology.name"]
    labels = {member.label for member in members}
    if len(labels) > 1:
        determined = [key for key in keys if len({(member.label, _text(member.settings.get(key))) for member in members}) == len(labels)]
        keys = ["label", *(key for key in keys if key not in determined)]
    return tuple(keys)


def _named_key(name: str, members: Sequence[Member]) -> str:
    known = list(dict.fromkeys(["label", *(key for member in members for key in member.settings)]))
    if name in known:
        return name
    ends = [key for key in known if key.endswith("." + name)]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ScenarioError(Problem(f"'{name}' could be {' or '.join(ends[:6])}", file="--by"))
    raise ScenarioError(Problem(f"no setting '{name}'", file="--by", hint=nearest(name, known) or f"there are: {', '.join(known[:8])}"))


def _setting(member: Member, key: str) -> Any:
    return member.label if key == "label" else member.settings.get(key)


def _place(member: Member, keys: Sequence[str]) -> str:
    return _text([_setting(member, key) for key in keys])


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


# --- metrics ----------------------------------------------------------------------------------------------------------------

_Reader = Callable[[Member], float | None]


def _readers(members: Sequence[Member], asked: Sequence[str]) -> dict[str, _Reader]:
    """The metrics that are shown, by name."""
    if asked:
        return {name: reader for name in asked for name, reader in [_reader(name, members)]}
    found: dict[str, _Reader] = {}
    known = list(dict.fromkeys(name for member in members for name in member.figures))
    if any(name.endswith(".best_accuracy") for name in known):
        for name in ("time_to_accuracy", "accuracy"):
            full, reader = _reader(name, members)
            found[full] = reader
    for name in _SERVING_METRICS:
        if sum(each.endswith("." + name) for each in known) == 1:
            found[name] = _reader(name, members)[1]
    for name in ("simulated_s", "bytes", "energy_j"):
        found[name] = _reader(name, members)[1]
    return found


def _other_readers(members: Sequence[Member], shown: Mapping[str, _Reader]) -> dict[str, _Reader]:
    """What an expression or the Pareto front may name beside the metrics that are shown."""
    found: dict[str, _Reader] = {}
    for name in dict.fromkeys(name for member in members for name in member.figures):
        found[name] = _figure(name)
        short = name.rpartition(".")[2]
        if short not in shown:
            try:
                found[short] = _figure(find_figure(short, [each for member in members for each in member.figures]))
            except ScenarioError:
                continue
    if any(name.endswith(".best_accuracy") for name in found):
        for level in ("", *(f"@{level}" for level in ACCURACY_LEVELS)):
            full, reader = _reader(f"time_to_accuracy{level}", members)
            found |= {full: reader, f"time_to_accuracy{level}": reader}
    return {name: reader for name, reader in found.items() if name not in shown}


def _reader(name: str, members: Sequence[Member]) -> tuple[str, _Reader]:
    head, at, level_text = name.partition("@")
    workload, _, last = head.rpartition(".")
    if last == "time_to_accuracy":
        if at:
            try:
                level = float(level_text)
            except ValueError:
                raise ScenarioError(Problem(f"expected an accuracy after '@', got '{level_text}'", file="--metric")) from None
        else:
            level = _level(members)
        return f"{head}@{level:g}", _when(level, workload or None)
    known = list(dict.fromkeys(each for member in members for each in member.figures))
    return name, _figure(find_figure(name, known))


def _figure(name: str) -> _Reader:
    return lambda member: member.figures.get(name)


def _when(level: float, workload: str | None) -> _Reader:
    cache: dict[Path, float | None] = {}

    def read(member: Member) -> float | None:
        if member.folder not in cache:
            cache[member.folder] = time_to_accuracy(member.folder, level, workload)
        return cache[member.folder]

    return read


def _level(members: Sequence[Member]) -> float:
    """The accuracy whose time is told by default: the highest of 0.5, 0.8, 0.9 and 0.95 that half of the runs reached, or 0.5."""
    best = [
        max((value or 0.0 for name, value in member.figures.items() if name.endswith(".best_accuracy")), default=0.0) for member in members
    ]
    reached = [level for level in ACCURACY_LEVELS if 2 * sum(each >= level for each in best) >= len(best)]
    return max(reached, default=ACCURACY_LEVELS[0])


# --- groups -----------------------------------------------------------------------------------------------------------------


def _group(members: Sequence[Member], keys: Sequence[str], readers: Mapping[str, _Reader]) -> Group:
    replicates = sorted({member.replicate for member in members})
    values = {
        metric: tuple(_pooled([reader(member) for member in members if member.replicate == replicate]) for replicate in replicates)
        for metric, reader in readers.items()
    }
    return Group(
        {key: _setting(members[0], key) for key in keys}, tuple(replicates), values,
        {metric: estimate(each) for metric, each in values.items()}, {},
    )  # fmt: skip


def _pooled(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _difference(group: Group, base: Group, metric: str) -> Estimate:
    ours, theirs = (dict(zip(each.replicates, each.values[metric], strict=True)) for each in (group, base))
    pairs = [(ours[replicate], theirs[replicate]) for replicate in group.replicates if replicate in theirs]
    return estimate([left - right if left is not None and right is not None else None for left, right in pairs])


def _efficient(groups: Sequence[Group]) -> list[bool]:
    """Which groups no other dominates."""
    points = [_objectives(group) for group in groups]

    def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        return one != other and all(a >= b for a, b in zip(one, other, strict=True))

    return [not any(dominates(other, point) for other in points) for point in points]


def _objectives(group: Group) -> tuple[float, ...]:
    """Larger is better. Time is to the accuracy where something trains, of requests at the 95th percentile where only they are."""
    found = []
    time = next(
        (name for name in group.estimates if name.startswith("time_to_accuracy@")), "p95_s" if "p95_s" in group.estimates else "simulated_s"
    )
    for name, sign in _OBJECTIVES:
        each = group.estimates.get(time if name == "time" else name)
        mean = each.mean if each is not None else 0.0
        found.append(sign * mean if mean is not None else -NOT_REACHED)
    return tuple(found)


# --- effects ----------------------------------------------------------------------------------------------------------------


def _effects(members: Sequence[Member], keys: Sequence[str], reader: _Reader) -> Iterator[Effect]:
    for key in keys:
        others = [other for other in keys if other != key]
        levels = {_text(_setting(member, key)): _setting(member, key) for member in members}
        cells = {(_place(member, others), _text(_setting(member, key)), member.replicate): reader(member) for member in members}
        first = next(iter(levels))
        for level in list(levels)[1:]:
            by_replicate: dict[int, list[float | None]] = {}
            for (place, at, replicate), value in cells.items():
                if at == level and (place, first, replicate) in cells:
                    base = cells[place, first, replicate]
                    by_replicate.setdefault(replicate, []).append(value - base if value is not None and base is not None else None)
            if by_replicate:
                found = estimate([_pooled(each) for each in by_replicate.values()])
                yield Effect(key, levels[level], levels[first], found)
