"""`netfl place`: planners side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netfl.cli.output import console, exits, print_json
from netfl.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from netfl.scenario import Loaded
    from netfl.studies.cooperations import SharedGroup, Sharing
    from netfl.studies.placing import Compared, Comparison, Group

__all__ = ["place_command"]

_OBJECTIVES = ("latency", "throughput", "energy")


@click.command("place")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--planner",
    "planners",
    multiple=True,
    default=("all",),
    help="A kind (`netfl list planners`), or `all`. Repeatable.",
    show_default=True,
)
@click.option("--objective", type=click.Choice(_OBJECTIVES), default="latency", help="What to be best at.", show_default=True)
@click.option("--workload", help="Which serving workload, where there are several.")
@click.option("-s", "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a setting, as for `run`. Repeatable.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw where the time goes into this file.")
@click.option("--trust-code", is_flag=True, help="Let the scenario run code that it names.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def place_command(
    file: Path,
    planners: tuple[str, ...],
    objective: Any,
    workload: str | None,
    overrides: tuple[str, ...],
    png: Path | None,
    trust_code: bool,
    as_json: bool,
) -> None:
    """Compare where planners would run the nodes of a scenario FILE's model, and what each placement promises; for a workload of kind
    cooperative, the ways for its devices to share the work.

    \b
      netfl place scenarios/split-inference.yaml --planner all
      netfl place FILE --planner mincut --planner upload --objective energy --png placements.png
    """
    with exits(as_json):
        from netfl.scenario import load
        from netfl.studies.placing import compare, serving_of
        from netfl.workloads.cooperative import Cooperative

        if png is not None and png.suffix.lower() != ".png":
            raise ScenarioError(Problem(f"expected a name that ends in .png, got '{png}'", file="--png"))
        loaded = load(file, overrides=list(overrides))
        name, settings = serving_of(loaded, workload)
        if isinstance(settings, Cooperative):
            _place_together(loaded, name, planners, objective, png, trust_code, as_json)
            return
        found = compare(loaded, planners, objective, workload=name, trust_code=trust_code)
        if png is not None:
            from netfl.report.placements import draw_placements

            draw_placements([(_heading(found, group), _bars(group)) for group in found.groups], png)
        if as_json:
            print_json(_as_document(found))
        else:
            console().print(_tables(found))
            if png is not None:
                click.echo(f"\n{png}: where the time of one request goes", err=True)


def _place_together(
    loaded: Loaded, name: str, planners: tuple[str, ...], objective: str, png: Path | None, trust_code: bool, as_json: bool
) -> None:
    """The ways for several devices to answer together side by side."""
    from netfl.studies.cooperations import compare_cooperations

    if planners != ("all",) or objective != "latency":
        what = "--planner" if planners != ("all",) else "--objective"
        expected = "a workload of kind requests; devices that answer together have no planners: all ways to share the work are compared"
        raise ScenarioError(Problem(f"expected {expected}", file=what))
    found = compare_cooperations(loaded, name, trust_code=trust_code)
    if png is not None:
        from netfl.report.placements import draw_placements

        draw_placements([(_names(group.sources), _shared_bars(group)) for group in found.groups], png)
    if as_json:
        print_json(_shared_document(found))
        return
    console().print(_shared_tables(found))
    if png is not None:
        click.echo(f"\n{png}: where the time of one request goes", err=True)


def _names(sources: Sequence[str]) -> str:
    return f"{sources[0]} and {len(sources) - 1} like it" if len(sources) > 1 else sources[0]


def _shared_tables(found: Sharing) -> Any:
    from rich.console import Group as Together
    from rich.markup import escape
    from rich.table import Table

    from netfl.units import format_bytes, format_duration

    workers = f"{', '.join(found.workers)} compute, {found.join} joins"
    shown: list[Any] = [escape(f"{found.scenario}, workload {found.workload}: {workers}")]
    for group in found.groups:
        table = Table(title=escape(_names(group.sources)), title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("shared by", overflow="fold")
        for column in ("at least", "at most", "simulated", "sent", "messages", "stored", "held"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in group.rows:
            if row.estimate is not None and row.spent is not None:
                table.add_row(
                    escape(row.kind), format_duration(row.estimate.at_least_s), format_duration(row.estimate.at_most_s),
                    format_duration(row.spent.until_s), format_bytes(row.sent_bytes), str(row.messages), format_bytes(row.parameter_bytes),
                    format_bytes(row.memory_bytes),
                )  # fmt: skip
        shown += ["", table, *(f"[bold]{escape(row.kind)}[/bold]: {escape(row.error)}" for row in group.rows if row.error)]
    shown += [
        "",
        "at least, at most: bounds of one request on idle devices and links; simulated: the same, simulated. sent: all messages but the answer. "
        "stored, held: the most parameters, and parameters with activations, of one device. alone: the whole model on the first worker. "
        "Students answer by what they learnt: `netfl run` measures how often they are right.",
    ]
    return Together(*shown)


def _shared_bars(group: SharedGroup) -> list[tuple[str, list[tuple[str, float]], float]]:
    return [
        (
            row.kind,
            [("compute", row.spent.compute_s + row.spent.queue_s), ("send", row.spent.transmit_s), ("latency", row.spent.propagation_s)],
            row.spent.until_s,
        )
        for row in group.rows
        if row.spent is not None
    ]


def _shared_document(found: Sharing) -> dict[str, Any]:
    groups = []
    for group in found.groups:
        rows: list[dict[str, Any]] = []
        for row in group.rows:
            entry: dict[str, Any] = {"kind": row.kind, "error": row.error or None}
            if row.estimate is not None and row.spent is not None:
                entry |= {
                    "at_least_s": row.estimate.at_least_s,
                    "at_most_s": row.estimate.at_most_s,
                    "simulated_s": row.spent.until_s,
                    "sent_bytes": row.sent_bytes,
                    "messages": row.messages,
                    "parameter_bytes": row.parameter_bytes,
                    "memory_bytes": row.memory_bytes,
                }
            rows.append(entry)
        groups.append({"sources": list(group.sources), "cooperations": rows})
    return {
        "schema_version": 1,
        "success": True,
        "scenario": found.scenario,
        "workload": found.workload,
        "workers": list(found.workers),
        "join": found.join,
        "groups": groups,
    }


def _heading(found: Comparison, group: Group) -> str:
    others = f" and {len(group.sources) - 1} like it" if len(group.sources) > 1 else ""
    return f"{group.sources[0]}{others}: {' -> '.join(group.path.devices)}"


def _tables(found: Comparison) -> Any:
    from rich.console import Group as Together
    from rich.markup import escape
    from rich.table import Table

    from netfl.units import format_bytes, format_duration, format_energy

    nodes = found.profile.nodes
    shown: list[Any] = [
        f"{escape(found.scenario)}, workload {escape(found.workload)}: a model of {len(nodes)} nodes ({escape(nodes[0].name)} to {escape(nodes[-1].name)})"
    ]
    for group in found.groups:
        table = Table(title=escape(_heading(found, group)), title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("planner", overflow="fold")
        table.add_column("runs", overflow="fold", ratio=1)
        for column in ("estimate", "simulated", "gap", "at most", "energy", "sent", "planned in"):
            table.add_column(column, justify="right", no_wrap=True)
        failed = []
        for row in group.rows:
            if row.placement is None or row.figures is None or row.simulated_s is None:
                failed.append(row)
                continue
            table.add_row(
                escape(row.planner),
                escape(_in_words(found, row)),
                format_duration(row.figures.latency_s),
                format_duration(row.simulated_s),
                "" if row.gap is None else "best" if row.gap < 1e-6 else f"+{row.gap:.1%}",
                _rate(row.figures.bottleneck_s),
                format_energy(row.figures.energy_j),
                format_bytes(row.figures.sent_bytes[0] if row.figures.sent_bytes else 0),
                format_duration(row.planner_s),
            )
        shown += ["", table, *(f"[bold]{escape(row.planner)}[/bold]: {escape(row.error)}" for row in failed)]
    shown += [
        "",
        f"estimate: one request on idle devices and links, added up; simulated: the same, simulated. gap: to the best {found.objective} of any placement "
        "that fits. at most: requests a second of one device before something is always busy. energy: of one request, above idle. sent: over the "
        "first hop. "
        "planned in: CPU time on this machine.",
    ]
    return Together(*shown)


def _rate(bottleneck_s: float) -> str:
    return f"{1 / bottleneck_s:,.4g}/s" if bottleneck_s > 0 else ""


def _in_words(found: Comparison, row: Compared) -> str:
    """`sensor-1: _0 to _2 (3 nodes); cloud: the rest`."""
    placement = row.placement
    assert placement is not None
    placed = placement.arranged(found.profile)
    parts = []
    for device, start, stop in placement.pieces:
        first = max(start, 1)
        if first < stop:
            names = f"{placed.nodes[first].name} to {placed.nodes[stop - 1].name}" if stop - first > 1 else placed.nodes[first].name
            parts.append(f"{device}: {'all' if (first, stop) == (1, placement.nodes) else names}")
    return "; ".join(parts)


def _bars(group: Group) -> list[tuple[str, list[tuple[str, float]], float]]:
    """For each planner that found a placement: its name, the parts of its estimate, the simulated latency."""
    bars = []
    for row in group.rows:
        if row.parts is None or row.simulated_s is None or row.placement is None:
            continue
        devices = row.placement.devices
        parts = []
        for k, seconds in enumerate(row.parts.compute_s):
            parts.append((f"compute on {devices[k] if k else 'the device'}", seconds))
            if k < len(row.parts.transmit_s):
                parts.append((f"send to {devices[k + 1]}", row.parts.transmit_s[k]))
        parts.append(("latency and answer", row.parts.propagation_s + row.parts.return_s))
        bars.append((row.planner, parts, row.simulated_s))
    return bars


def _as_document(found: Comparison) -> dict[str, Any]:
    groups = []
    for group in found.groups:
        rows = []
        for row in group.rows:
            entry: dict[str, Any] = {"planner": row.planner, "planner_s": row.planner_s, "error": row.error or None}
            if row.placement is not None and row.figures is not None:
                entry |= {
                    "placement": row.placement.describe(),
                    "labels": list(row.placement.labels),
                    "estimate_s": row.figures.latency_s,
                    "simulated_s": row.simulated_s,
                    "gap": row.gap,
                    "bottleneck_s": row.figures.bottleneck_s,
                    "energy_j": row.figures.energy_j,
                    "sent_bytes": list(row.figures.sent_bytes),
                    "memory_bytes": list(row.figures.memory_bytes),
                }
            rows.append(entry)
        groups.append({"sources": list(group.sources), "path": list(group.path.devices), "planners": rows})
    return {
        "schema_version": 1,
        "success": True,
        "scenario": found.scenario,
        "workload": found.workload,
        "objective": found.objective,
        "nodes": [node.name for node in found.profile.nodes],
        "groups": groups,
    }
