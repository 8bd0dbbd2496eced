"""The commands `netfl cache ls`, `gc` and `explain`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from netfl.cli.output import exits, print_json

__all__ = ["cache_group"]


class _Bytes(click.ParamType[int]):
    """A size such as `5 GB`."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        from netfl.units import parse

        try:
            return round(parse(str(value), "size"))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


@click.group("cache")
def cache_group() -> None:
    """What is stored of earlier runs, and what a run found there.

    \b
      netfl cache ls
      netfl cache gc --limit 5GB
      netfl cache explain runs/smart-building/20250101T120000Z-abcdef
    """


@cache_group.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def ls_command(as_json: bool) -> None:
    """Say what the store holds."""
    from netfl.units import format_bytes

    with exits(as_json):
        from netfl.store import Disk, default_folder

        disk = Disk(default_folder())
        found = disk.usage()
        disk.close()
        if as_json:
            print_json({"schema_version": 1, "store": str(disk.folder), **found})
            return
        click.echo(f"{disk.folder}: {found['facts']:,} facts, {found['values']:,} large values in {found['files']:,} files")
        click.echo(f"{format_bytes(found['bytes'])} of at most {format_bytes(found['limit_bytes'])}; facts are not counted and stay")
        if found["oldest_s"] is not None:
            oldest, newest = (datetime.fromtimestamp(found[name], UTC).isoformat(timespec="seconds") for name in ("oldest_s", "newest_s"))
            click.echo(f"last used between {oldest} and {newest}")


@cache_group.command("gc")
@click.option("--limit", "limit_bytes", type=_Bytes(), default="0 B", show_default=True, help="What the large values may take.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def gc_command(limit_bytes: int, as_json: bool) -> None:
    """Drop the large values that were not used for longest, until the rest fits; and what killed processes left.

    Results do not change: what is dropped is computed again when something needs it. Facts (lengths, losses, accuracies) stay.
    """
    from netfl.units import format_bytes

    with exits(as_json):
        from netfl.store import Disk, default_folder

        disk = Disk(default_folder())
        files, num_bytes = disk.collect_garbage(limit_bytes)
        left = disk.usage()
        disk.close()
        if as_json:
            print_json({"schema_version": 1, "store": str(disk.folder), "dropped_files": files, "dropped_bytes": num_bytes, **left})
        else:
            click.echo(f"{disk.folder}: {files:,} files dropped, {format_bytes(num_bytes)}; {format_bytes(left['bytes'])} left")


@cache_group.command("explain")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="The run to compare with; default those beside it that are most like it.")
@click.option("--trust-code", is_flag=True, help="Let the scenario run code that it names.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def explain_command(run: Path, against: Path | None, trust_code: bool, as_json: bool) -> None:
    """Say what a RUN found in the store, what it computed, and which part of the first missing recipe differed from another run's."""
    with exits(as_json):
        from netfl.studies.hits import explain

        found = explain(run, against, trust_code=trust_code)
        if as_json:
            print_json(
                {
                    "schema_version": 1, "run_dir": str(run), "status": found.status, "computed": found.computed, "found": dict(found.found),
                    "first_missing": found.first_missing, "why": list(found.why), "missing_now": found.missing_now,
                }
            )  # fmt: skip
            return
        click.echo(f"{run}: {found.status}")
        click.echo(f"computed: {_counted(found.computed) or 'nothing'}")
        if found.first_missing:
            click.echo(f"the first value that it did not find: {found.first_missing}")
        for line in found.why:
            click.echo(f"  {line}")
        click.echo(f"a replay finds now: {_counted(found.found) or 'nothing'}")
        click.echo(f"and misses first: {found.missing_now}" if found.missing_now else "and misses nothing")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
