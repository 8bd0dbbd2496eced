"""The command `netfl compare`."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netfl.cli.output import console, exits, print_json

if TYPE_CHECKING:
    from netfl.report.estimates import Estimate
    from netfl.studies.compare import Comparison, Group

__all__ = ["compare_command", "print_tables"]

EXIT_TRUE = 5
_ROUNDING = 1e-15
"""What is left of differences that are none."""


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--by", multiple=True, metavar="KEY", help="Tell groups apart by this setting, averaging over the others. Repeatable.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="A figure, time_to_accuracy or time_to_accuracy@0.8. Repeatable.")
@click.option("--baseline", type=click.Path(path_type=Path), metavar="RUN", help="Show paired differences from this run's group.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "md", "json"]), default="table", show_default=True)
@click.option("--fail-if", "condition", metavar="EXPR", help="End with exit code 5 if this is true of a group: `accuracy < 0.9`.")
def compare_command(
    runs: tuple[Path, ...], by: tuple[str, ...], metrics: tuple[str, ...], baseline: Path | None, form: str, condition: str | None
) -> None:
    """Compare finished RUNS, or the points of sweeps: what differs, means with 95 % intervals over replicates, and what follows.

    \b
      netfl compare sweeps/bandwidth-codec
      netfl compare runs/a/* --metric time_to_accuracy@0.9 --baseline runs/a/first
      netfl compare sweeps/x --by rate --format md --fail-if 'accuracy < 0.9 or time_to_accuracy > 20 min'
    """
    with exits(form == "json"):
        from netfl.studies.compare import compare

        found = compare(runs, by=by, metrics=metrics, baseline=baseline)
        failing = found.failing(condition) if condition is not None else []
        for folder, status in found.skipped:
            click.echo(f"{folder}: {status}, left out", err=True)
        if form == "json":
            print_json(_document(found, failing))
        elif form == "table":
            print_tables(found)
        else:
            click.echo(_csv(found) if form == "csv" else _markdown(found), nl=False)
        if failing:
            for group in failing:
                click.echo(f"{condition}: true of {_title(group)}", err=True)
            sys.exit(EXIT_TRUE)


def print_tables(found: Comparison) -> None:
    """Print a comparison for people."""
    for table in _tables(found):
        console().print(table)


def _title(group: Group) -> str:
    from netfl.studies.points import shortest, shown_value

    return (
        ", ".join(f"{shortest(key, list(group.settings))}={shown_value(value)}" for key, value in group.settings.items())
        or "the only group"
    )


# --- tables -----------------------------------------------------------------------------------------------------------------


def _number(value: float, metric: str) -> str:
    from netfl.units import format_bytes, format_duration, format_energy

    sign = "-" if value < 0 else ""
    if metric.startswith("time_to_accuracy") or (metric.endswith("_s") and not metric.endswith("host_s")):
        return sign + format_duration(abs(value))
    if metric.startswith("bytes") or metric.endswith("_bytes"):
        return sign + format_bytes(abs(value))
    if metric.endswith("energy_j"):
        return sign + format_energy(abs(value))
    return f"{value:.4g}" if abs(value) > _ROUNDING else "0"


def _shown(each: Estimate, metric: str) -> str:
    if each.mean is None:
        if each.n == 0:
            return "no pair"
        return "not reached" if each.reached == 0 else f"not reached in {each.n - each.reached} of {each.n}"
    if each.half_width is None:
        return _number(each.mean, metric)
    return f"{_number(each.mean, metric)} ± {_number(each.half_width, metric)}"


def _columns(found: Comparison) -> list[tuple[str, list[str]]]:
    """The comparison as columns of texts."""
    from netfl.studies.points import shortest, shown_value

    groups = found.groups
    columns = [(shortest(key, found.keys), [shown_value(group.settings[key]) for group in groups]) for key in found.keys]
    columns.append(("n", [str(len(group.replicates)) for group in groups]))
    for metric in found.metrics:
        columns.append((metric, [_shown(group.estimates[metric], metric) for group in groups]))
        if found.baseline is not None:
            columns.append((f"Δ {metric}", [_shown(group.differences[metric], metric) for group in groups]))
    if len(groups) > 1:
        columns.append(("Pareto", ["*" if group.is_efficient else "" for group in groups]))
    return columns


def _effect_rows(found: Comparison) -> list[list[str]]:
    from netfl.studies.points import shortest, shown_value

    return [
        [
            shortest(each.key, found.keys), f"{shown_value(each.first)} → {shown_value(each.level)}", str(each.estimate.n),
            _shown(each.estimate, found.metrics[0]),
        ]
        for each in found.effects
    ]  # fmt: skip


def _tables(found: Comparison) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    columns = _columns(found)
    caption = "mean ± half of the 95 % interval over replicates; *: no other row is at least as good in accuracy, time, bytes and energy"
    table = Table(title="runs", title_justify="left", caption=caption, caption_justify="left", box=None, padding=(0, 1, 0, 0))
    for name, cells in columns:
        is_key = columns.index((name, cells)) < len(found.keys)
        table.add_column(Text(name), justify="left" if is_key else "right", overflow="fold")
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    tables = [table]
    if len(found.effects) > 0:
        effects = Table(
            title=f"main effects on {found.metrics[0]}: all else equal, paired by replicate",
            title_justify="left",
            box=None,
            padding=(0, 2, 0, 0),
        )
        for name in ("setting", "from → to", "n", "difference"):
            effects.add_column(name, justify="left" if name in ("setting", "from → to") else "right", overflow="fold")
        for line in _effect_rows(found):
            effects.add_row(*(Text(cell) for cell in line))
        tables.append(effects)
    return tables


def _markdown(found: Comparison) -> str:
    columns = _columns(found)
    lines = ["| " + " | ".join(_cell(name) for name, _ in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in zip(*(cells for _, cells in columns), strict=True)]
    if found.effects:
        lines += ["", f"| setting | from → to | n | effect on {_cell(found.metrics[0])} |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in _effect_rows(found)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# --- for machines -----------------------------------------------------------------------------------------------------------


def _csv(found: Comparison) -> str:
    from netfl.studies.points import shown_value

    parts = ("mean", "low", "high", "reached")
    differences = [f"{metric}:difference" for metric in found.metrics] if found.baseline is not None else []
    head = [*found.keys, "n", *(f"{name}:{part}" for name in (*found.metrics, *differences) for part in parts), "pareto"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for group in found.groups:
        row: list[Any] = [*(shown_value(group.settings[key]) for key in found.keys), len(group.replicates)]
        estimates = [group.estimates[metric] for metric in found.metrics]
        estimates += [group.differences[metric] for metric in found.metrics] if found.baseline is not None else []
        for each in estimates:
            low, high = each.interval or (None, None)
            row += [each.mean, low, high, each.reached]
        writer.writerow([*row, int(group.is_efficient)])
    return stream.getvalue()


def _plain(each: Estimate) -> dict[str, Any]:
    low, high = each.interval or (None, None)
    return {"n": each.n, "reached": each.reached, "mean": each.mean, "low": low, "high": high}


def _document(found: Comparison, failing: list[Group]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "success": not failing,
        "keys": list(found.keys),
        "metrics": list(found.metrics),
        "baseline": dict(found.baseline) if found.baseline is not None else None,
        "groups": [
            {
                "settings": dict(group.settings),
                "replicates": list(group.replicates),
                "metrics": {
                    metric: {
                        **_plain(group.estimates[metric]),
                        "values": list(group.values[metric]),
                        "difference": _plain(group.differences[metric]) if metric in group.differences else None,
                    }
                    for metric in found.metrics
                },
                "pareto": group.is_efficient,
                "fails": group in failing,
            }
            for group in found.groups
        ],
        "effects": [{"key": each.key, "from": each.first, "to": each.level, **_plain(each.estimate)} for each in found.effects],
        "skipped": [{"run_dir": str(folder), "status": status} for folder, status in found.skipped],
    }
