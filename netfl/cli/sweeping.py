"""The command `netfl sweep`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netfl.cli.executing import EXECUTORS, address_option, point_executor, slurm_option
from netfl.cli.output import EXIT_INTERRUPTED, exits, print_json

if TYPE_CHECKING:
    from netfl.studies.points import Plan
    from netfl.studies.sweep import Study

__all__ = ["sweep_command"]

EXIT_POINT_FAILED = 1


class _Shard(click.ParamType[tuple[int, int]]):
    """`I/N`: every N-th point from the I-th."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """The two numbers."""
        index, slash, count = str(value).partition("/")
        if slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
            return int(index), int(count)
        return self.fail(f"expected I/N with 1 <= I <= N, such as 2/8, got '{value}'", param, ctx)


@click.command("sweep")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-g", "--grid", "grids", multiple=True, metavar="PATH=V,V", help="Vary a setting: comma list or YAML list. Repeatable.")
@click.option("-s", "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a setting of every point. Repeatable.")
@click.option("--replicates", type=click.IntRange(1, 100_000), help="Independent repetitions of every point.")
@click.option("--seed", type=click.IntRange(min=0), help="In place of the scenario's seed.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Points that run at once.")
@click.option("--executor", type=click.Choice(EXECUTORS), help="Where points run; serial for one job, process for more.")
@address_option
@slurm_option
@click.option("--shard", type=_Shard(), help="Run every N-th point from the I-th; other processes may run the others.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the study; default sweeps/NAME.")
@click.option("--dry-run", is_flag=True, help="Run nothing; say for each point what is stored and what would be computed, and why.")
@click.option("--retry-failed", is_flag=True, help="Run points again that failed.")
@click.option("--force", is_flag=True, help="Run all points again, finished ones too.")
@click.option("--fail-fast", is_flag=True, help="Begin no further point once one has failed.")
@click.option("--trust-code", is_flag=True, help="Let the scenario run code that it names, as `model: {kind: python}` does.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def sweep_command(
    file: Path,
    grids: tuple[str, ...],
    overrides: tuple[str, ...],
    replicates: int | None,
    seed: int | None,
    jobs: int,
    executor: str | None,
    address: str | None,
    slurm_options: tuple[str, ...],
    shard: tuple[int, int] | None,
    output: Path | None,
    dry_run: bool,
    retry_failed: bool,
    force: bool,
    fail_fast: bool,
    trust_code: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run every point of a study: the FILE's `sweep` block, and what -g adds or replaces.

    \b
      netfl sweep scenarios/studies/bandwidth-codec.yaml
      netfl sweep FILE -g 'topology.links.uplink.rate=1 Mbit/s,10 Mbit/s' --replicates 5 -j 2
      netfl sweep FILE -g 'topology=[star.yaml, hospital.yaml]' --dry-run

    The same command again goes on where it was: finished points are not run again, and nothing that the store holds is computed again.
    """
    with exits(as_json):
        from netfl.cli.sweep_progress import SweepWatcher
        from netfl.studies import Interrupt
        from netfl.studies.points import plan
        from netfl.studies.sweep import run_plan

        made = plan(
            file,
            grids=grids,
            replicates=replicates,
            overrides=[*overrides, *([f"seed={seed}"] if seed is not None else [])],
        )
        folder = output or Path("sweeps") / made.base.scenario.name
        if not quiet:
            for line in _opening(made):
                click.echo(line, err=True)
        again = (("failed",) if retry_failed or force else ()) + (("finished",) if force else ())
        if dry_run:
            _print_forecast(made, folder, again, trust_code, as_json)
            return
        runs_on = point_executor(executor, jobs, address, slurm_options, folder)
        with Interrupt() as interrupt, SweepWatcher(len(made.points), jobs, silent=quiet) as watcher:
            interrupt.running = True
            study = run_plan(
                made,
                folder,
                executor=runs_on,
                watch=watcher,
                interrupt=interrupt,
                again=again,
                fail_fast=fail_fast,
                shard=shard,
                trust_code=trust_code,
                argv=sys.argv[1:],
            )
        if as_json:
            print_json(_document(study))
        else:
            _print_study(study)
        if study.interrupted:
            click.echo(f"interrupted; the same command goes on with what is left:\n  {_command()}", err=True)
            sys.exit(EXIT_INTERRUPTED)
        if study.with_status("failed", "kept", "busy", "interrupted"):
            sys.exit(EXIT_POINT_FAILED)


def _command() -> str:
    return shlex.join(["netfl", *sys.argv[1:]])


def _opening(made: Plan) -> list[str]:
    replicates = 1 + max(point.replicate for point in made.points)
    lines = [f"{len(made.points)} points: {', '.join(made.keys) or 'nothing varies'}; {replicates} replicate{'s' * (replicates > 1)}"]
    if made.excluded:
        lines.append(f"the constraint leaves out {made.excluded}")
    if made.equal:
        lines.append(f"{made.equal} are the same configuration as another and run once")
    return lines


def _print_forecast(made: Plan, folder: Path, again: tuple[str, ...], trust_code: bool, as_json: bool) -> None:
    from netfl.studies.dry import forecast

    points = []
    for each in forecast(made, folder, again=again, trust_code=trust_code):
        points.append(
            {
                "point": each.point.hash, "replicate": each.point.replicate, "settings": dict(each.point.settings), "action": each.action,
                "replayed_rounds": each.rounds[0], "missing": each.missing, "why": list(each.why),
            }
        )  # fmt: skip
        if not as_json:
            click.echo(f"{each.point.hash}  {each.point.title}: {each}")
    if as_json:
        print_json({"schema_version": 1, "success": True, "dry_run": True, "points": points})


def _document(study: Study) -> dict[str, Any]:
    from netfl.studies.sweep import rows_of

    rows = rows_of(study)
    return {
        "schema_version": 1,
        "success": len(study.finished) == len(study.plan.points),
        "sweep_dir": str(study.folder),
        "keys": list(study.plan.keys),
        "points": [{**row, "message": study.outcomes[row["point"]].message} for row in rows],
    }


def _print_study(study: Study) -> None:
    from netfl.cli.comparing import print_tables
    from netfl.studies.compare import compare

    if study.plan.table and study.with_status("finished", "stored"):
        print_tables(compare([study.folder]))
    counts = {name: len(study.with_status(*statuses)) for name, statuses in _COUNTED.items()}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    click.echo(f"{study.folder}: {told}; results.csv, points/")
    for point in study.with_status("failed", "kept", "busy", "interrupted"):
        outcome = study.outcomes[point.hash]
        if outcome.message:
            click.echo(f"{point.hash} ({point.title}): {outcome.status}: {outcome.message}", err=True)
    if study.with_status("kept"):
        click.echo("points that failed before are run again with --retry-failed", err=True)


_COUNTED = {
    "finished": ("finished",),
    "already there": ("stored",),
    "failed": ("failed",),
    "failed before": ("kept",),
    "left to another process": ("busy",),
    "interrupted": ("interrupted",),
    "submitted": ("submitted",),
    "not begun": ("waiting",),
}
