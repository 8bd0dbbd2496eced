"""The page of a sweep: what its points reached and cost, side by side."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netfl.report.estimates import estimate
from netfl.report.page.headline import percent
from netfl.report.page.markup import amount, data_block, document, element, section, table, text, without_script
from netfl.report.page.parts import script, style
from netfl.units import format_bytes, format_duration, format_energy

__all__ = ["Figure", "SweptRun", "draw_sweep", "figures_of", "sweep_page"]

_MOST_PICTURED = 60
_AS_GIVEN = "as in the scenario"
"""The value of a setting that a point leaves alone while others change it."""


@dataclass(frozen=True, kw_only=True)
class SweptRun:
    """One run of a sweep.

    Args:
        settings: path of each setting that varies to its value, as text.
        label: what the sweep calls this combination; may be empty.
        replicate: which repetition.
        folder: its name.
        metrics: None if it did not finish.
    """

    settings: Mapping[str, str]
    label: str
    replicate: int
    folder: str
    metrics: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number by which points are compared.

    Args:
        name: for people.
        unit: s, B, J or share.
        more_is_better: else less is.
        of: metrics to the number; None if the run has none, such as a time that was not reached.
    """

    name: str
    unit: str
    more_is_better: bool
    of: Callable[[Mapping[str, Any]], float | None]

    @property
    def write(self) -> Callable[[float], str]:
        """Writes the number for people."""
        return {"s": format_duration, "B": format_bytes, "J": format_energy, "share": percent}[self.unit]


def figures_of(runs: Sequence[SweptRun]) -> list[Figure]:
    """What the runs of a sweep can be compared by: time to each accuracy that any run reached, accuracy, latency, misses, bytes, energy."""
    found: list[Figure] = []
    finished = [run.metrics for run in runs if run.metrics is not None]
    trainings = sorted({name for metrics in finished for name in metrics["training"]})
    servings = sorted({name for metrics in finished for name in metrics["serving"]})
    for name in trainings:
        of = f" of {name}" if len(trainings) > 1 else ""
        reached = Counter(
            level
            for metrics in finished
            for level, time_s in metrics["training"].get(name, {}).get("time_to_accuracy_s", {}).items()
            if time_s is not None
        )
        # First what most runs reached, of these the highest.
        for level in sorted(reached, key=lambda level: (-reached[level], -float(level))):
            found.append(Figure(name=f"time to accuracy {level}{of}", unit="s", more_is_better=False, of=_time_to(name, level)))
        found.append(Figure(name=f"best accuracy{of}", unit="share", more_is_better=True, of=_within("training", name, "best_accuracy")))
    for name in servings:
        of = f" of {name}" if len(servings) > 1 else ""
        found.append(Figure(name=f"latency p95{of}", unit="s", more_is_better=False, of=_within("serving", name, "p95_s")))
        found.append(Figure(name=f"missed requests{of}", unit="share", more_is_better=False, of=_within("serving", name, "miss_rate")))
    found.append(Figure(name="bytes sent", unit="B", more_is_better=False, of=lambda metrics: metrics["bytes"]["total"]))
    found.append(Figure(name="energy", unit="J", more_is_better=False, of=lambda metrics: metrics["energy_j"]["total"]))
    return found


def _time_to(name: str, level: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda metrics: metrics["training"].get(name, {}).get("time_to_accuracy_s", {}).get(level)


def _within(role: str, name: str, key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda metrics: metrics[role].get(name, {}).get(key)


@dataclass(frozen=True, kw_only=True)
class _Point:
    """The replicates of one combination: for each figure the mean, least and most, and half the width of the mean's 95 % interval; None
    where a replicate has no number, and no interval of one replicate.
    """

    name: str
    settings: Mapping[str, str]
    finished: int
    runs: int
    numbers: list[tuple[float, float, float] | None]
    halves: list[float | None]


def sweep_page(name: str, runs: Sequence[SweptRun], facts: Mapping[str, str], pictures: Sequence[tuple[str, bytes]] = ()) -> str:
    """One HTML file that shows a sweep and needs nothing else.

    Args:
        name: of the sweep.
        runs: its runs, in order.
        facts: what made it; name and value.
        pictures: for readers without scripts: what each shows, and the PNG.
    """
    figures = figures_of(runs)
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    points = _points(runs, figures, keys)
    unfinished = [run for run in runs if run.metrics is None]
    notes = [f"{len(unfinished)} of {len(runs)} runs have not finished; they are left out."] if unfinished else []
    values = {key: sorted({point.settings[key] for point in points}, key=_by_number) for key in keys}
    data = {
        "page": "sweep",
        "figures": [{"name": each.name, "unit": each.unit, "more": each.more_is_better} for each in figures],
        "keys": [{"name": key, "values": values[key]} for key in keys],
        "points": [
            {
                "name": point.name,
                "at": [values[key].index(point.settings[key]) for key in keys],
                "runs": point.finished,
                "numbers": point.numbers,
            }
            for point in points
        ],
    }
    title = element("h1", text(name)) + element("p", text(f"{len(points)} points, {len(runs)} runs"), class_="lead")
    theme = element("button", "Dark", id="theme", type="button", hidden="")
    body = [
        "".join(element("p", text(note), class_="note", role="note") for note in notes),
        _headline(points, figures),
        _front(figures),
        _heat(keys),
        _table(points, figures),
        section("provenance", "What was run?", element("dl", "".join(
            element("div", element("dt", text(key)) + element("dd", text(value))) for key, value in facts.items()), class_="facts")),
        without_script(pictures),
    ]  # fmt: skip
    jump = '<a class="jump" href="#main">To the content</a>'
    head = jump + element("header", element("div", title) + theme)
    foot = element("footer", element("p", "Made by netfl from the runs' results. This file asks the network for nothing."))
    return document(f"{name} - netfl", head + element("main", "".join(body), id="main") + foot + data_block(data), style(), script())


def _by_number(value: str) -> tuple[int, float, str]:
    """A key by which numbers stand in their order, with or without units of one kind, and other texts after them."""
    found = re.match(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", value)
    return (0, float(found[0]), value) if found else (1, 0.0, value)


def draw_sweep(runs: Sequence[SweptRun], path: Path) -> bool:
    """Write a PNG: every point's mean by up to four figures, with its 95 % interval; nothing, and False, if no run has finished.

    Args:
        runs: of the sweep.
        path: the file.
    """
    from matplotlib.figure import Figure as Picture

    every = figures_of(runs)
    points = _points(runs, every, list(dict.fromkeys(key for run in runs for key in run.settings)))[:_MOST_PICTURED]
    # Of the times to accuracy the first, which most runs reached.
    shown = [place for place, figure in enumerate(every) if place == 0 or not figure.name.startswith("time to accuracy")][:4]
    shown = [place for place in shown if any(point.numbers[place] is not None for point in points)]
    if not shown:
        return False
    picture = Picture(figsize=(2.2 + 2.3 * len(shown), 1.2 + 0.28 * len(points)), layout="constrained")
    for axes, place in zip(picture.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        figure = every[place]
        for row, point in enumerate(points):
            numbers, half = point.numbers[place], point.halves[place]
            if numbers is not None:
                axes.errorbar(numbers[0], row, xerr=half, fmt="o", color="#0072B2", markersize=4, capsize=2)
        axes.set_title(figure.name, fontsize=9)
        axes.set_yticks(range(len(points)), [point.name for point in points], fontsize=8)
        axes.set_ylim(len(points) - 0.5, -0.5)
        axes.xaxis.set_major_formatter(lambda value, _, write=figure.write: write(value) if value >= 0 else "")
        axes.tick_params(axis="x", labelsize=7, labelrotation=30)
        axes.grid(color="#E5E5E5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, dpi=150)
    return True


def _points(runs: Sequence[SweptRun], figures: Sequence[Figure], keys: Sequence[str]) -> list[_Point]:
    groups: dict[tuple[Any, ...], list[SweptRun]] = {}
    for run in runs:
        groups.setdefault((run.label, *(run.settings.get(key, _AS_GIVEN) for key in keys)), []).append(run)
    # Points of one label (a grid around labelled points) are told apart by what differs among them.
    alike: dict[str, list[tuple[Any, ...]]] = {}
    for label, *values in groups:
        alike.setdefault(label, []).append(tuple(values))
    points = []
    for (label, *values), members in groups.items():
        first = members[0]
        finished = [run.metrics for run in members if run.metrics is not None]
        numbers: list[tuple[float, float, float] | None] = []
        halves: list[float | None] = []
        for figure in figures:
            found = [figure.of(metrics) for metrics in finished]
            known = [value for value in found if value is not None]
            mean = estimate(found)
            numbers.append(None if mean.mean is None else (mean.mean, min(known), max(known)))
            halves.append(mean.half_width)
        varied = [len({each[place] for each in alike[label]}) > 1 for place in range(len(keys))]
        told = [f"{_last(key)} = {value}" for key, value, differs in zip(keys, values, varied, strict=True) if differs]
        name = ", ".join([label, *told] if label else told or [f"{_last(key)} = {value}" for key, value in first.settings.items()])
        settings = dict(zip(keys, values, strict=True))
        points.append(
            _Point(
                name=name or first.folder, settings=settings, finished=len(finished), runs=len(members), numbers=numbers, halves=halves
            )
        )  # fmt: skip
    return points


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _headline(points: Sequence[_Point], figures: Sequence[Figure]) -> str:
    """The best point by each figure."""
    cards = []
    # One card for times to accuracy: the first, which most runs reached.
    shown = [place for place, figure in enumerate(figures) if place == 0 or not figure.name.startswith("time to accuracy")]
    for place in shown:
        figure = figures[place]
        known = [(numbers[0], point.name) for point in points if (numbers := point.numbers[place]) is not None]
        if not known:
            continue
        best, name = max(known) if figure.more_is_better else min(known)
        told = element("strong", amount(best, figure.write)) + element("span", text(name))
        cards.append(
            element("div", element("dt", text(f"{'highest' if figure.more_is_better else 'lowest'} {figure.name}")) + element("dd", told))
        )
    return element("dl", "".join(cards), class_="headline", id="headline")


def _choice(identity: str, label: str, names: Sequence[str], chosen: int) -> str:
    options = "".join(
        element("option", text(name), value=str(number), selected="" if number == chosen else None) for number, name in enumerate(names)
    )
    return element("label", f"{text(label)} " + element("select", options, id=identity))


def _front(figures: Sequence[Figure]) -> str:
    names = [figure.name for figure in figures]
    axes = _choice("front-x", "across", names, len(names) - 2) + _choice("front-y", "up", names, 0)
    controls = element("div", axes, class_="controls", role="group", aria_label="Axes")
    told = "Points of the sweep by two figures"
    plot = element("div", "", class_="plot", id="front-plot", role="group", aria_roledescription="chart", aria_label=told, tabindex="0")
    caption = "A point on the front is beaten in both figures by no other. Whiskers reach from the least to the most of its replicates."
    figure = element("figure", controls + plot + element("figcaption", text(caption)))
    return section("front", "Which points are worth it?", figure, element("p", "", id="front-told", role="status", class_="caption"))


def _heat(keys: Sequence[str]) -> str:
    if not keys:
        return ""
    second = 1 if len(keys) > 1 else 0
    controls = (
        _choice("heat-x", "across", keys, second)
        + _choice("heat-y", "down", keys, 0)
        + element("label", "figure " + element("select", "", id="heat-figure"))
    )
    place = element("div", "", id="heat-map", class_="wide", tabindex="0", role="region", aria_label="Heat map")
    caption = element("figcaption", "Means over the points that share both values; a dash where a run among them did not get there.")
    figure = element("figure", element("div", controls, class_="controls", role="group", aria_label="Axes and figure") + place + caption)
    return section("heat", "What does each setting do?", figure)


def _table(points: Sequence[_Point], figures: Sequence[Figure]) -> str:
    rows: list[tuple[str, list[float | None]]] = [
        (point.name, [point.finished, *(numbers[0] if numbers else None for numbers in point.numbers)]) for point in points
    ]
    columns = ["point", "runs", *(figure.name for figure in figures)]
    writes: list[Callable[[Any], str]] = [lambda value: f"{value:,}", *(figure.write for figure in figures)]
    caption = "Means over replicates ± half of the 95 % interval (Student's t); a dash: not reached by all"
    halves = [[None, *point.halves] for point in points]
    return section("points", "All points", table(caption, columns, rows, writes, identity="points-table", halves=halves))
