"""`netfl profile`: what a model costs, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from netfl.cli.output import console, exits
from netfl.errors import NetflError
from netfl.placement.profile import Profile

__all__ = ["profile_command", "profile_table"]

_MOST_READS = 3


@click.command("profile")
@click.argument("model")
@click.option("-s", "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the model; VALUE is YAML. Repeatable.")
@click.option("--data", default="digits", help="The dataset whose samples it takes (`netfl list data`).", show_default=True)
@click.option("--input", "sample", metavar="N,N,...", help="Shape of one sample, as 3,32,32; in place of a dataset's.")
@click.option("--classes", type=click.IntRange(min=1), default=10, help="How many labels, with --input.", show_default=True)
@click.option("--device", "devices", multiple=True, help="Also show the seconds on a device profile (`netfl list devices`). Repeatable.")
@click.option("--measure", metavar="CLASS", help="Also time each node on this machine, and store the seconds under that name.")
@click.option("--rename", multiple=True, metavar="OLD=NEW", help="A graph of Tarnawski et al.: what `cpu` and `accelerator` stand for.")
@click.option("--trust-code", is_flag=True, help="Let a dotted path be imported and run.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the profile as JSON into this file.")
@click.option("--json", "as_json", is_flag=True, help="The profile as one JSON document on stdout.")
def profile_command(
    model: str,
    settings: tuple[str, ...],
    data: str,
    sample: str | None,
    classes: int,
    devices: tuple[str, ...],
    measure: str | None,
    rename: tuple[str, ...],
    trust_code: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show what each node of a MODEL costs for one sample: operations, bytes, parameters.

    \b
    MODEL is a kind (`netfl list models`), a dotted path, a scenario, or a file of JSON: netfl's own, or a graph of Tarnawski et al.
      netfl profile cnn -s 'channels=[8, 16, 32]'
      netfl profile resnet --input 3,32,32 --classes 10 --device pi-4
      netfl profile torchvision.models:resnet18 --input 3,224,224 --classes 1000 --trust-code -o resnet18.json
    """
    with exits(as_json):
        profile = _profile(model, settings, data, sample, classes, measure, _pairs(rename), trust_code)
        if output is not None:
            output.write_text(profile.to_json() + "\n", encoding="utf-8")
        if as_json:
            click.echo(profile.to_json())
        else:
            console().print(profile_table(profile, devices))


def profile_table(profile: Profile, devices: Iterable[str] = ()) -> Any:
    """A row a node, the sums, and how the profile came to be.

    Raises:
        NetflError: no such device profile.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    from netfl.placement.plan import node_s
    from netfl.units import format_bytes, format_duration

    tiers = [_tier(name) for name in devices]
    table = Table(title=f"{len(profile.nodes)} nodes, for one sample", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("", justify="right")
    for column in ("node", "op", "reads", "output"):
        table.add_column(column, overflow="fold")
    classes = list(dict.fromkeys(name for node in profile.nodes for name, _ in node.measured_s))
    for column in (
        "FLOP",
        "moved",
        "output",
        "parameters",
        *(f"on {tier.device}" for tier in tiers),
        *(f"measured {name}" for name in classes),
    ):
        table.add_column(column, justify="right")
    for place, node in enumerate(profile.nodes):
        reads = ", ".join(node.predecessors[:_MOST_READS]) + (", ..." if len(node.predecessors) > _MOST_READS else "")
        measured = dict(node.measured_s)
        table.add_row(
            str(place), escape(node.name), escape(node.op), escape(reads), "x".join(map(str, node.output_shape)), f"{node.flop:,.0f}",
            format_bytes(node.moved_bytes), format_bytes(4 * node.output_values), format_bytes(node.parameter_bytes),
            *(format_duration(node_s(node, tier)) for tier in tiers),
            *(format_duration(measured[name]) if name in measured else "" for name in classes),
        )  # fmt: skip
    table.add_section()
    total_moved = sum(node.moved_bytes for node in profile.nodes)
    table.add_row(
        "", "all", "", "", "", f"{profile.total_flop:,.0f}", format_bytes(total_moved), "", format_bytes(profile.parameter_bytes),
        *(format_duration(tier.overhead_s + sum(node_s(node, tier) for node in profile.nodes)) for tier in tiers),
        *(format_duration(sum(dict(node.measured_s).get(name, 0.0) for node in profile.nodes)) for name in classes),
    )  # fmt: skip
    told = [f"made by {escape(profile.tracer)}", *(f"  because {escape(note)}" for note in profile.notes)]
    if tiers:
        told.append("a device's sum holds its overhead, once")
    return Group(table, *told)


def _tier(name: str) -> Any:
    from netfl.compute import PROFILES
    from netfl.parts import nearest
    from netfl.placement import Tier

    if name not in PROFILES:
        raise NetflError(f"no device profile '{name}'; there are: {', '.join(PROFILES)}. {nearest(name, list(PROFILES))}".rstrip())
    device = PROFILES[name]
    return Tier(
        device=name, flop_per_s=device.inference_flop_per_s, memory_bytes_per_s=device.memory_bytes_per_s, overhead_s=device.overhead_s,
        memory_bytes=device.memory_bytes, device_class=name,
    )  # fmt: skip


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise click.BadParameter(f"expected OLD=NEW, got '{text}'", param_hint="--rename")
        found[old] = new
    return found


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise click.BadParameter(f"expected whole numbers above 0 such as 3,32,32, got '{text}'", param_hint="--input")
    return shape


def _profile(
    model: str,
    settings: tuple[str, ...],
    data: str,
    sample: str | None,
    classes: int,
    measure: str | None,
    rename: Mapping[str, str],
    trust_code: bool,
) -> Profile:
    path = Path(model)
    if path.suffix == ".json":
        return _read(path, rename)
    from netfl.scenario import load
    from netfl.scenario.build import prepare

    shape = None if sample is None else _shape(sample)
    if path.suffix in (".yaml", ".yml"):
        loaded = load(path, overrides=list(settings))
        if loaded.scenario.model is None:
            raise NetflError(f"{path} has no model")
    else:
        if "." in model and ":" not in model:
            module, _, name = model.rpartition(".")
            raise NetflError(f"'{model}' is no kind, and a dotted path has a colon before the class: '{module}:{name}'")
        block = {"kind": "python", "module": model} if ":" in model else {"kind": model}
        loaded = load(_scenario(block, data), overrides=[f"model.{each}" for each in settings])
    part = loaded.scenario.model
    assert part is not None
    if shape is None:
        task = prepare(loaded, trust_code=trust_code).task
        assert task is not None
        shape, classes = task.facts.sample_shape, task.facts.num_classes
        if measure is None:
            return task.profile
    elif getattr(part, "runs_code", False) and not trust_code:
        raise NetflError(f"'{model}' is code that would be imported and run; if you trust it, add --trust-code")
    from netfl.placement.measure import profile_part

    return profile_part(part, shape, classes, measure)


def _read(path: Path, rename: Mapping[str, str]) -> Profile:
    from netfl.placement.graphs import read_graph

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise NetflError(f"{path} is no text: {error}") from error
    return read_graph(text, rename) if '"edges"' in text else Profile.from_json(text)


def _scenario(model: Mapping[str, Any], data: str) -> dict[str, Any]:
    """The least scenario that has this model: it lets the scenario's reader check the settings."""
    topology = {
        "schema": 1,
        "name": "pair",
        "devices": {"a": {"profile": "pi-4"}, "b": {"profile": "pi-4"}},
        "links": {"ab": {"between": ["a", "b"], "rate": "1 Gbit/s", "latency": "1 ms"}},
    }
    return {
        "schema": 1,
        "name": "profile",
        "topology": topology,
        "workloads": {"any": {"kind": "background", "pairs": [["a", "b"]], "traffic": {"kind": "files", "rate": "1 per s"}}},
        "data": {"source": {"kind": data}},
        "model": dict(model),
        "stop": {"after": "1 s"},
    }
