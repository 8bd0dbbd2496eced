"""The tables at the end of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from netfl.report.loads import busiest
from netfl.units import counted, format_bytes, format_duration, format_energy

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["summary"]


def summary(metrics: dict[str, Any]) -> Group:
    """Training, serving, bytes and energy as tables for a terminal; a table with nothing to say is left out.

    Args:
        metrics: what `netfl.report.metrics` returns, or a run's, which say too what was trained for it.
    """
    from rich.console import Group
    from rich.text import Text

    head = f"Simulated {format_duration(metrics['simulated_s'])}"
    if metrics["stop_reason"]:
        head += f"; ended by: {metrics['stop_reason']}"
    trained, known = (metrics.get("work", {}).get(f"{what}_clients", 0) for what in ("trained", "reused"))
    if trained or known:
        head += f"\n{counted(trained, 'update')} trained, {known:,} found in the store"
    tables = []
    if metrics["training"]:
        tables.append(_training(metrics["training"]))
    noisy = {name: one["noisy_sums"] for name, one in metrics["training"].items() if one["noisy_sums"] is not None}
    if noisy:
        tables.append(_noisy_sums(noisy))
    spent = {name: one["privacy"] for name, one in metrics["training"].items() if one["privacy"] is not None}
    if spent:
        tables.append(_privacy(spent))
    if metrics["serving"]:
        tables.append(_serving(metrics["serving"]))
        if metrics["loads"]["devices"]:
            tables.append(_loads(metrics["loads"]))
    if metrics["bytes"]["by_kind"]:
        tables.append(_bytes(metrics["bytes"]))
    if metrics["devices"]:
        tables.append(_energy(metrics["energy_j"]))
    return Group(Text(head), *tables)


def _table(title: str, *columns: str, caption: str | None = None) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    # Names are the user's own: as Text, square brackets in them are no markup.
    table.add_column(Text(columns[0]))
    for column in columns[1:]:
        table.add_column(Text(column), justify="right")
    return table


def _or_dash(value: float | None, write: Callable[[float], str]) -> str:
    return "–" if value is None else write(value)


def _share(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %"


def _training(workloads: dict[str, Any]) -> Table:
    table = _table("Training", "", *workloads)
    of = list(workloads.values())
    for level in of[0]["time_to_accuracy_s"]:
        table.add_row(f"time to accuracy {level}", *(_or_dash(one["time_to_accuracy_s"][level], format_duration) for one in of))
    table.add_row("accuracy at the end", *(_or_dash(one["accuracy"], _share) for one in of))
    table.add_row("best accuracy", *(_or_dash(one["best_accuracy"], _share) for one in of), end_section=True)
    table.add_row("rounds", *(str(one["rounds"]) for one in of))
    table.add_row("mean round", *(_or_dash(one["mean_round_s"], format_duration) for one in of))
    for fate in ("accepted", "aborted", "failed", "skipped"):
        if fate != "skipped" or any(one["updates_skipped"] for one in of):
            table.add_row(f"updates {fate}", *(str(one[f"updates_{fate}"]) for one in of))
    for name, text in (("byte_fraction", "bytes of dense"), ("byte_fraction_after_first", "  without first models")):
        table.add_row(text, *(_or_dash(one[name], _share) for one in of))
    return table


def _noisy_sums(workloads: dict[str, Any]) -> Table:
    table = _table("Differential privacy", "", "protects one of the", "epsilon", "delta")
    for name, told in workloads.items():
        for records, found in told.items():
            epsilon = found["epsilon"]
            shown = found.get("missing") or ("infinite" if epsilon is None else f"{epsilon:.4g}")
            table.add_row(name, records, shown, f"{found['delta']:g}")
    return table


def _privacy(ledgers: dict[str, Any]) -> Table:
    """Per coordinate, as some papers count, and for the whole model, side by side."""
    caption = "epsilon of the client that uploaded most often; the whole model's is the one that protects a record"
    table = _table(
        "Privacy", "", "one release", "one coordinate, all rounds", "whole model, basic", "whole model, advanced", caption=caption
    )
    for name, ledger in ledgers.items():
        kinds = ("epsilon_of_a_release", "per_coordinate", "whole_model_basic", "whole_model_advanced")
        told = ["infinite" if ledger[kind] is None else f"{ledger[kind]:,.6g}" for kind in kinds]
        table.add_row(name, *told[:-1], f"{told[-1]} (delta {ledger['delta']:g})")
    return table


def _serving(workloads: dict[str, Any]) -> Table:
    table = _table("Serving", "", *workloads)
    of = list(workloads.values())
    for percent in (50, 95, 99):
        table.add_row(f"latency p{percent}", *(_or_dash(one[f"p{percent}_s"], format_duration) for one in of))
    table.add_row("mean latency", *(_or_dash(one["mean_s"], format_duration) for one in of))
    for part in ("queue", "compute", "transmit", "propagation"):
        table.add_row(f"  {part}", *(_or_dash(one["breakdown"][f"{part}_s"], format_duration) for one in of))
    table.add_section()
    table.add_row("requests", *(str(one["requests"]) for one in of))
    for name, text in (
        ("failed", "lost by the network"), ("dropped", "dropped after a timeout"), ("rejected", "rejected for memory"),
        ("answered_elsewhere", "answered after a failover"), ("waited_for_memory", "waited for memory"),
    ):  # fmt: skip
        if any(one[name] for one in of):
            table.add_row(text, *(str(one[name]) for one in of))
    table.add_row("missed deadline", *(f"{one['missed']} ({_share(one['miss_rate'])})" for one in of))
    table.add_row("unfinished", *(str(one["censored"]) for one in of))
    table.add_row("right answers", *(_or_dash(one["accuracy"], _share) for one in of))
    table.add_row("right and in time", *(_share(one["accuracy_within_deadline"]) for one in of))
    table.add_row("answers in time a second", *(_or_dash(one["goodput_per_s"], lambda value: f"{value:.4g}") for one in of))
    table.add_row("energy a right answer", *(_or_dash(one["energy_per_correct_answer_j"], format_energy) for one in of))
    table.add_row("planners expected", *(_or_dash(one["estimate_s"], format_duration) for one in of))
    return table


_BUSIEST = 3


def _loads(found: dict[str, Any]) -> Table:
    """The busiest processors and directions of links."""
    caption = f"the {_BUSIEST} busiest processors and directions; at once: jobs that wait, or transfers under way"
    table = _table("Load", "", "busy", "mean at once", "most at once", caption=caption)
    for rows in busiest(found):
        for name, busy, mean, most in rows[:_BUSIEST]:
            table.add_row(name, _share(busy), f"{mean:.3g}", str(most))
        table.add_section()
    return table


def _bytes(totals: dict[str, Any]) -> Table:
    caption = f"devices sent {format_bytes(totals['up'])} and received {format_bytes(totals['down'])}"
    table = _table("Bytes", "kind", "sent", "delivered", "wasted", "in flight", caption=caption)
    by_kind = totals["by_kind"]
    for kind, sums in by_kind.items():
        table.add_row(kind, *(format_bytes(value) for value in sums.values()))
    table.add_section()
    of_all = zip(*(sums.values() for sums in by_kind.values()), strict=True)
    table.add_row("all", *(format_bytes(sum(values)) for values in of_all))
    return table


def _energy(energy_j: dict[str, float]) -> Table:
    table = _table("Energy", "", *energy_j)
    table.add_row("all devices", *(format_energy(value) for value in energy_j.values()))
    return table
