"""The commands `netfl report` and `netfl export`."""

from __future__ import annotations

from pathlib import Path

import click

from netfl.cli.output import exits

__all__ = ["export_command", "report_command"]

_FORMATS = ("chrome-trace", "csv", "parquet", "tensorboard", "mlflow")


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; default report.html in the folder.")
@click.option("--png", is_flag=True, help="Write the pictures as PNG files too, beside the page.")
def report_command(folder: Path, output: Path | None, png: bool) -> None:
    """Write one HTML file about the run or the sweep in FOLDER; it opens anywhere and asks the network for nothing.

    \b
      netfl report runs/smart-building/20260101T120000Z-1a2b3c
      netfl report sweeps/bandwidth-codec -o report.html --png
    """
    with exits(False):
        from netfl.studies.reports import pictures, report

        page = report(folder)
        path = output or folder / "report.html"
        path.write_text(page, encoding="utf-8")
        click.echo(f"{path}: {len(page.encode()) / 1e6:.2f} MB")
        for name, drawn in pictures(folder).items() if png else ():
            path.with_name(name).write_bytes(drawn)
            click.echo(path.with_name(name))


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--format", "form", required=True, type=click.Choice(_FORMATS), help="What to write.")
@click.option("-o", "--output", required=True, help="File or folder to write; for mlflow the tracking server's address, or a folder.")
def export_command(folder: Path, form: str, output: str) -> None:
    """Write the run in FOLDER for another program, on the simulated clock.

    \b
      netfl export RUN --format chrome-trace -o trace.json    for ui.perfetto.dev
      netfl export RUN --format csv -o tables                 one file a table; parquet likewise
      netfl export RUN --format tensorboard -o logs/run-1
      netfl export RUN --format mlflow -o mlruns
    """
    with exits(False):
        from netfl.studies.reports import export

        for written in export(folder, form, output):
            click.echo(written)
