"""The commands of `netfl`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from netfl import __version__
from netfl.cli.caching import cache_group
from netfl.cli.comparing import compare_command
from netfl.cli.executing import EXECUTORS, address_option, batch_executor, slurm_option
from netfl.cli.output import EXIT_INVALID, as_dict, console, exits, print_json, print_problems
from netfl.cli.placing import place_command
from netfl.cli.profiling import profile_command
from netfl.cli.reporting import export_command, report_command
from netfl.cli.sweeping import sweep_command
from netfl.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from netfl.scenario.expand import Built

__all__ = ["cli"]

_EPILOG = (
    "Exit codes: 0 ok, 1 the run or a point of a sweep failed, 2 usage, 3 invalid scenario or topology, 4 missing extra or data, "
    "5 --fail-if is true, 130 interrupted."
)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="netfl")
def cli() -> None:
    """Real PyTorch training and real split inference on one simulated network, on one clock.

    \b
      netfl run scenarios/smart-building.yaml
      netfl run scenarios/smart-building.yaml -s workloads.training.rounds=5
      netfl validate scenarios/*.yaml topologies/*.yaml
      netfl list codecs
    """


_SET = click.option(
    "-s", "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a setting, as a.b[0].c=VALUE; VALUE is YAML. Repeatable."
)


@cli.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@_SET
@click.option("--seed", type=click.IntRange(min=0), help="In place of the scenario's seed.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write; default runs/NAME/STAMP-HASH.")
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    help="Where batches of clients train: in this process, in several, on Ray, in Slurm jobs. By default, in as many processes as pay.",
)
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="Shares of a batch that train at once; default: one a core.")
@address_option
@slurm_option
@click.option("--trust-code", is_flag=True, help="Let the scenario run code that it names, as `model: {kind: python}` does.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run_command(
    file: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    output: Path | None,
    executor: str | None,
    jobs: int | None,
    address: str | None,
    slurm_options: tuple[str, ...],
    trust_code: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a scenario FILE and write its folder.

    \b
      netfl run scenarios/smart-building.yaml
      netfl run FILE -s 'workloads.training.uplink[0].fraction=0.01' --seed 3 -o out
      netfl run FILE --executor ray -j 8 --address ray://host:10001
    """
    with exits(as_json):
        trains_on = batch_executor(executor, jobs, address, slurm_options)
        from netfl.cli.progress import Watcher
        from netfl.report import plots, summary
        from netfl.scenario import load
        from netfl.studies import Interrupt, run_folder, run_loaded

        loaded = load(file, overrides=[*overrides, *([f"seed={seed}"] if seed is not None else [])])
        if loaded.scenario.sweep is not None:
            click.echo(f"{file} has a sweep, which `netfl sweep {file}` runs; this runs the scenario as it stands", err=True)
            loaded = loaded.single()
        folder = output or run_folder(loaded.scenario)
        with Interrupt() as interrupt, Watcher(loaded.scenario, silent=quiet) as watcher:
            result = run_loaded(
                loaded,
                output=folder,
                argv=sys.argv[1:],
                on_progress=watcher.round_ended,
                on_tick=watcher.tick,
                interrupt=interrupt,
                executor=trains_on,
                trust_code=trust_code,
            )
        pictures = plots(folder / "run.db", folder)
        if as_json:
            print_json({"schema_version": 1, "success": True, "run_dir": str(folder), "metrics": result.metrics})
        else:
            console().print(summary(result.metrics))
            click.echo(f"\n{folder}: metrics.json, run.db, {', '.join(path.name for path in pictures)}")


@cli.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def validate_command(files: tuple[Path, ...], as_json: bool) -> None:
    """Check scenario and topology FILES and print everything that is wrong, what was filled in, and what may not be meant.

    A topology is netfl's YAML, GraphML, node-link JSON or CAIDA as-rel lines.
    What needs data or torch (shards, memory for the model) is checked by `run`, before anything is written.
    """
    from netfl.scenario import is_topology, load_topology
    from netfl.scenario.notes import notes

    problems: list[Problem] = []
    filled: dict[str, list[str]] = {}
    noted: dict[str, list[str]] = {}
    for file in files:
        try:
            built = load_topology(file) if is_topology(file) else _checked(file)
            filled[str(file)] = list(built.filled)
            noted[str(file)] = notes(built.topology)
            if not as_json:
                click.echo("\n  ".join([f"{file}: ok", *built.filled, *(f"note: {sentence}" for sentence in noted[str(file)])]))
        except ScenarioError as error:
            problems += error.problems
    if as_json:
        told = [as_dict(problem) for problem in problems]
        print_json({"schema_version": 1, "success": not problems, "problems": told, "filled": filled, "notes": noted})
    else:
        print_problems(problems)
    if problems:
        sys.exit(EXIT_INVALID)


def _checked(file: Path) -> Built:
    """The topology of a scenario that passed its checks, every point of its sweep included."""
    from netfl.scenario import load

    loaded = load(file)
    if loaded.scenario.sweep is not None:
        from netfl.studies.points import plan

        plan(file)
    return loaded.built


@cli.command("schema")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write in place of stdout.")
@click.option("--topology", is_flag=True, help="The schema of topology files.")
def schema_command(output: Path | None, topology: bool) -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from netfl.scenario import Scenario, TopologyFile
    from netfl.scenario.json_schema import file_schema

    text = json.dumps(file_schema(TopologyFile if topology else Scenario), indent=2)
    with exits(False):
        if output is None:
            click.echo(text)
        else:
            output.write_text(text + "\n", encoding="utf-8")


@cli.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@_SET
@click.option("--resolved", is_flag=True, help="The scenario with every default written out, as YAML.")
@click.option("--data", "show_data", is_flag=True, help="Who has which samples, as the run would deal them.")
@click.option("--transfer", type=int, metavar="ID", help="Of a run: where the time of that transfer went.")
@click.option(
    "--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the topology, or with --data the samples, into this file."
)
def show_command(file: Path, overrides: tuple[str, ...], resolved: bool, show_data: bool, transfer: int | None, png: Path | None) -> None:
    """Show what a scenario or topology FILE comes to, and what was filled in; or what came of a run (its folder).

    \b
      netfl show topologies/national-backbone.yaml --png backbone.png
      netfl show Abilene.graphml -s server=closeness -s 'attach={clients: 3}'
      netfl show scenarios/smart-building.yaml --data
      netfl show runs/NAME/STAMP-HASH --transfer 17
    """
    if resolved and show_data:
        raise click.UsageError("--resolved and --data are two things to show")
    with exits(False):
        if file.is_dir():
            if resolved or show_data or png is not None or overrides:
                raise click.UsageError("--resolved, --data, --png and --set are for scenarios and topologies, not for a run's folder")
            _show_run(file, transfer)
            return
        if transfer is not None:
            raise click.UsageError("--transfer is for a run's folder")
        from netfl.cli.show import draw, scenario_tables, topology_tables
        from netfl.scenario import is_topology, load, load_topology, to_yaml

        if is_topology(file):
            if resolved or show_data:
                raise click.UsageError("--resolved and --data are for scenarios")
            built = load_topology(file, overrides)
            console().print(topology_tables(built))
        else:
            loaded = load(file, overrides=list(overrides))
            built = loaded.built
            if show_data:
                from netfl.cli.show_data import data_tables, draw_data

                if png is None:
                    console().print(data_tables(loaded))
                else:
                    for path in draw_data(loaded, png):
                        click.echo(path)
                return
            if resolved:
                click.echo(to_yaml(loaded.scenario), nl=False)
            else:
                console().print(scenario_tables(loaded))
        if png is not None:
            click.echo(f"{png}: {draw(built, png)}", err=True)


def _show_run(folder: Path, transfer: int | None) -> None:
    import sqlite3

    from netfl.report import explain, metrics, summary

    database = folder / "run.db"
    if not database.is_file():
        raise ScenarioError(Problem("not a run's folder: there is no run.db in it", file=str(folder)))
    try:
        if transfer is None:
            console().print(summary(metrics(database)))
        else:
            click.echo(str(explain(database, transfer)))
    except LookupError as error:
        raise click.BadParameter(str(error), param_hint="--transfer") from None
    except sqlite3.DatabaseError as error:
        raise ScenarioError(Problem(f"not a trace that this version can read: {error}", file=str(database))) from None


@cli.command("list")
@click.argument("families", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_command(families: tuple[str, ...], as_json: bool) -> None:
    """List what a scenario can name: the kinds of each family and their settings, links and devices with their sources."""
    from netfl.cli.listing import CATALOGUES, catalogue, listing_tables
    from netfl.parts import nearest

    for name in families:
        if name not in CATALOGUES:
            raise click.BadParameter(f"no '{name}'; there are: {', '.join(CATALOGUES)}. {nearest(name, list(CATALOGUES))}".rstrip())
    names = list(families or CATALOGUES)
    if as_json:
        print_json({"schema_version": 1, **{name: catalogue(name) for name in names}})
    else:
        console().print(listing_tables(names))


@cli.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--transport", type=click.Choice(["fluid", "tcp"]), help="By default tcp where a file names a congestion control, else fluid."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def verify_command(files: tuple[Path, ...], transport: Literal["fluid", "tcp"] | None, as_json: bool) -> None:
    """Compare finish times in FILES, measured or exact, with what netfl predicts for the same flows.

    \b
    A file is a JSON object: nodes, links (u, v, bandwidth_bps, latency_s, loss_up, queue_bytes), flows (src, dst, bytes, start_s) and
    finish_s, one time a flow; `cc` where TCP carried them; `connect_s` where connection set-up is part of the times.
    """
    with exits(as_json):
        from netfl.cli.verifying import as_document, verify_table
        from netfl.studies.verify import verify

        cases = verify(files, transport)
        if as_json:
            print_json(as_document(cases))
        else:
            console().print(verify_table(cases))


for each in (sweep_command, compare_command, cache_group, report_command, export_command, profile_command, place_command):
    cli.add_command(each)
