"""The parts of a run's page: each asks a question, answers it in a figure, and has the figure's numbers as tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netfl.network.topology import Topology
from netfl.report.loads import Load
from netfl.report.page.headline import percent
from netfl.report.page.markup import element, section, table, text
from netfl.report.page.phases import PHASES, Timeline
from netfl.report.page.series import rounds
from netfl.units import format_bytes, format_duration, format_energy

if TYPE_CHECKING:
    from netfl.report.page.run import Told

__all__ = [
    "accuracy_section",
    "bytes_section",
    "energy_section",
    "latency_section",
    "load_section",
    "network_section",
    "placements_section",
    "provenance_section",
    "rounds_section",
]

_MOST_EVALUATIONS = 400
_MOST_LOADS = 200


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _figure(identity: str, told: str, caption: str) -> str:
    """A place that the script fills with a chart; without scripts it says what the chart would."""
    place = element("div", "", class_="plot", id=identity, role="group", aria_roledescription="chart", aria_label=told, tabindex="0")
    return element("figure", place + element("figcaption", text(caption)))


def _folded(summary: str, *content: str) -> str:
    return element("details", element("summary", text(summary)) + "".join(content))


def network_section(found: dict[str, Any], topology: Topology, trace: sqlite3.Connection) -> str:
    """The topology with its traffic, and the controls of its clock."""
    told = f"{len(topology.sites):,} devices and {len(topology.links):,} links"
    scene = element("canvas", text(f"A picture of {told}; the tables below say what every link carried."), id="network", tabindex="0",
                    role="img", aria_label=f"The topology: {told}, with what every link carried. Arrow keys step through the run, space plays.")  # fmt: skip
    play = element("button", "Play", id="play", type="button")
    scrub = '<input type="range" id="scrub" min="0" max="0" value="0" step="1" aria-label="Simulated time">'
    clock = element("output", "whole run", id="clock", for_="scrub")
    speeds = "".join(
        f'<option value="{seconds}"{" selected" if seconds == "30" else ""}>{label}</option>'
        for seconds, label in (("10", "in 10 s"), ("30", "in 30 s"), ("90", "in 90 s"), ("300", "in 5 min"), ("live", "real time"))
    )
    speed = f'<label>Run <select id="speed">{speeds}</select></label>'
    whole = element("button", "Whole run", id="whole", type="button")
    controls = element(
        "div", play + scrub + clock + speed + whole, class_="controls", id="controls", role="group", aria_label="Clock of the picture"
    )
    now = element("aside", element("dl", "", id="now"), aria_label="At this time", class_="now")
    legend = element("div", "", id="legend", class_="legend")
    caption = "Each dot stands for bytes on their way in this slice of time, not for one message; lines are as wide as what they carried."
    figure = element("figure", scene + controls + legend + element("figcaption", text(caption), id="network-caption"))
    links = _folded("Links and devices as tables", _links_table(trace), _devices_table(found))
    return section("traffic", "What happens on the network?", element("div", figure + now, class_="stage"), links)


def _links_table(trace: sqlite3.Connection) -> str:
    rows = trace.execute(
        "SELECT link, sum(sent_bytes), sum(delivered_bytes), sum(wasted_bytes), sum(in_flight_bytes), "
        "total(transmit_j), total(receive_j) FROM link_use GROUP BY link ORDER BY sum(sent_bytes) DESC, link"
    ).fetchall()
    columns = ("link", "sent", "delivered", "wasted", "in flight", "sending radio", "receiving radio")
    writes = (*[format_bytes] * 4, format_energy, format_energy)
    return table(
        "Bytes over each link, both directions", columns, [(row[0], row[1:]) for row in rows], writes, total=True, identity="links"
    )


def _devices_table(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            (one["compute_s"], one["bytes_up"], one["bytes_down"], one["energy_j"], one["peak_memory_bytes"], one["storage_bytes"]),
        )
        for name, one in found["devices"].items()
    ]
    columns = ("device", "computed for", "sent", "received", "energy", "most memory", "stored")
    writes = (format_duration, format_bytes, format_bytes, format_energy, format_bytes, format_bytes)
    return table("What each device did", columns, rows, writes, total=True, identity="devices")


def accuracy_section(trace: sqlite3.Connection, found: dict[str, Any]) -> str:
    """Accuracy against simulated time."""
    rows = trace.execute("SELECT workload, version, time_s, accuracy, loss FROM evaluations ORDER BY workload, time_s, version").fetchall()
    if not rows:
        return ""
    told = []
    for name, one in found["training"].items():
        if one["accuracy"] is None:
            continue
        times = [f"{level} after {format_duration(time_s)}" for level, time_s in one["time_to_accuracy_s"].items() if time_s is not None]
        reached = f"; reached {', '.join(times)}" if times else ""
        told.append(f"{name}: accuracy {percent(one['accuracy'])} at the end{reached}")
    every = -(-len(rows) // _MOST_EVALUATIONS)
    chosen = rows[::every]
    told_rows = f" (every {every}th of {len(rows):,})" if every > 1 else ""
    numbers = [(f"{row[0]}, version {row[1]}", row[2:]) for row in chosen]
    columns = ("model", "came to be", "accuracy", "loss")
    evaluations = table(f"Evaluations{told_rows}", columns, numbers, (format_duration, percent, _nats), identity="evaluations")
    levels = [
        (f"{name}: {level}", (time_s,)) for name, one in found["training"].items() for level, time_s in one["time_to_accuracy_s"].items()
    ]
    reached_table = table("Time to accuracy", ("accuracy", "first reached after"), levels, (format_duration,), identity="levels")
    caption = f"Accuracy on the test samples; a model holds until the next one comes.{_tints(trace)}"
    return section(
        "accuracy", "How long until it is accurate?", _figure("accuracy-plot", ". ".join(told), caption),
        _folded("As tables", reached_table, evaluations),
    )  # fmt: skip


def _tints(trace: sqlite3.Connection) -> str:
    return " Tints are rounds." if rounds(trace) else ""


def _nats(value: float) -> str:
    return f"{value:.4g}"


def latency_section(trace: sqlite3.Connection, found: dict[str, Any]) -> str:
    """How long requests wait, when, and for what."""
    serving = {name: one for name, one in found["serving"].items() if one["requests"]}
    if not serving:
        return ""
    parts = []
    for number, (name, one) in enumerate(serving.items()):
        of = f" of {name}" if len(serving) > 1 else ""
        if one["p50_s"] is None:
            told = f"{one['requests']:,} requests{of}, none answered"
        else:
            told = (
                f"Latency{of}: half of the answers within {format_duration(one['p50_s'])}, 95 % within {format_duration(one['p95_s'])}, "
                f"99 % within {format_duration(one['p99_s'])}"
            )
        parts.append(_figure(f"latency-plot-{number}", told, f"Latency{of} by the time at which requests arrived.{_tints(trace)}"))
        means = one["breakdown"]
        told = f"Mean parts of the latency{of}: " + ", ".join(
            f"{part.removesuffix('_s')} {format_duration(value)}" for part, value in means.items() if value is not None
        )
        beside = _figure(f"parts-plot-{number}", told, f"What answers{of} waited for, on average.")
        shares = _figure(
            f"spread-plot-{number}",
            f"Distribution of the latency{of}; the table has its percentiles",
            f"Share of answers{of} within a time.",
        )
        parts.append(element("div", beside + shares, class_="pair"))
    columns = ("workload", "requests", "answered", "failed", "unfinished", "missed", "p50", "p95", "p99", "mean", "right", "right in time")
    keys = ("requests", "answered", "failed", "censored", "missed", "p50_s", "p95_s", "p99_s", "mean_s", "accuracy",
            "accuracy_within_deadline")  # fmt: skip
    writes = (*[_count] * 5, *[format_duration] * 4, percent, percent)
    rows = [(name, tuple(one[key] for key in keys)) for name, one in serving.items()]
    requests = table("Requests", columns, rows, writes, identity="requests")
    waits = [(name, tuple(one["breakdown"].values())) for name, one in serving.items()]
    breakdown = table(
        "Mean parts of the latency of answered requests", ("workload", "queue", "compute", "transmit", "propagation"), waits,
        [format_duration] * 4, identity="breakdown",
    )  # fmt: skip
    worth = ("workload", "in time a second", "right a second", "energy a right answer", "dropped", "rejected", "failovers")
    figures = ("goodput_per_s", "correct_goodput_per_s", "energy_per_correct_answer_j", "dropped", "rejected", "failovers")
    served = [(name, tuple(one[key] for key in figures)) for name, one in serving.items()]
    goodput = table("Answers, and what they cost", worth, served, (_nats, _nats, format_energy, *[_count] * 3), identity="goodput")
    return section("latency", "How fast does it answer?", *parts, _folded("As tables", requests, breakdown, goodput))


def rounds_section(spans: Timeline | None, found: dict[str, Any]) -> str:
    """What each device that trains did, and when."""
    if spans is None:
        return ""
    seconds = spans.seconds.sum(axis=0).tolist()
    told = "All devices together: " + ", ".join(
        f"{phase} {format_duration(value)}" for phase, value in zip(PHASES, seconds, strict=True) if value
    )
    buttons = "".join(
        element("button", label, type="button", id=f"time-{name}", aria_label=aria)
        for name, label, aria in (
            ("in", "+", "Zoom in"), ("out", "\u2212", "Zoom out"), ("left", "\u2190", "Earlier"), ("right", "\u2192", "Later"), ("all", "All", "Whole run"),
        )
    )  # fmt: skip
    caption = "One row a device. Drag or use the arrow keys to move, plus and minus to zoom."
    if spans.drawn < len(spans.devices):
        caption += f" The first {spans.drawn} of {len(spans.devices):,} devices are drawn; the table has all."
    if spans.column_s is not None:
        caption += f" Drawn in columns of {format_duration(spans.column_s)}, each with what fills most of it."
    controls = element("div", buttons, class_="controls", role="group", aria_label="Part of the timeline that is shown")
    plot = element("div", "", class_="plot", id="rounds-plot", role="group", aria_roledescription="chart", aria_label=told, tabindex="0")
    figure = element("figure", plot + controls + element("figcaption", text(caption)))
    rows = [(device, tuple(row)) for device, row in zip(spans.devices, spans.seconds.tolist(), strict=True)]
    spent = table("Time by device", ("device", *PHASES), rows, [format_duration] * len(PHASES), total=True, identity="phases")
    columns = ("workload", "rounds", "mean round", "accepted", "aborted", "failed")
    keys = ("rounds", "mean_round_s", "updates_accepted", "updates_aborted", "updates_failed")
    writes = (_count, format_duration, _count, _count, _count)
    fates = table(
        "Rounds and updates", columns, [(name, tuple(one[key] for key in keys)) for name, one in found["training"].items()], writes,
        identity="rounds-table",
    )  # fmt: skip
    return section("rounds", "What do devices do in a round?", figure, _folded("As tables", fates, spent))


def bytes_section(trace: sqlite3.Connection, found: dict[str, Any]) -> str:
    """Bytes by link and by kind of message."""
    sums = found["bytes"]
    if not sums["by_kind"]:
        return ""
    told = "Bytes by kind of message: " + ", ".join(f"{kind} {format_bytes(one['sent'])}" for kind, one in sums["by_kind"].items())
    columns = ("kind", "sent", "delivered", "wasted", "in flight")
    once = [(kind, tuple(one.values())) for kind, one in sums["by_kind"].items()]
    kinds = table("By kind, each transfer counted once", columns, once, [format_bytes] * 4, total=True, identity="kinds")
    rows = trace.execute(
        "SELECT kind, sum(sent_bytes), sum(delivered_bytes), sum(wasted_bytes), sum(in_flight_bytes) FROM link_use GROUP BY kind ORDER BY kind"
    ).fetchall()
    over = table(
        "By kind, counted on every link crossed", columns, [(row[0], row[1:]) for row in rows], [format_bytes] * 4, total=True,
        identity="kinds-over-links",
    )  # fmt: skip
    caption = "Bytes over each link, the busiest first, counted on every link that they crossed. Hatched: moved for nothing."
    figure = _figure("bytes-plot", told, caption)
    return section("bytes", "What does it send, and where?", figure, _folded("As tables", kinds, over))


def energy_section(trace: sqlite3.Connection, found: dict[str, Any]) -> str:
    """Joules by device."""
    sums = found["energy_j"]
    if not found["devices"] or not sums["total"]:
        return ""
    told = "Energy: " + ", ".join(f"{part} {format_energy(value)}" for part, value in sums.items())
    rows = trace.execute("SELECT device, compute_j, transmit_j, receive_j, idle_j FROM device_use ORDER BY device").fetchall()
    spent = table(
        "Energy by device", ("device", "compute", "sending", "receiving", "idle"), [(row[0], row[1:]) for row in rows],
        [format_energy] * 4, total=True, identity="energy-table",
    )  # fmt: skip
    idle = f"All devices idle for {format_energy(sums['idle'])} more, whatever they do."
    figure = _figure("energy-plot", told, f"Energy above idling, the devices that spend most first. {idle}")
    return section("energy", "What energy does it take?", figure, _folded("As a table", spent))


def load_section(processors: Sequence[Load], directions: Sequence[Load]) -> str:
    """How busy processors and directions of links were, the busiest first."""
    if not processors and not directions:
        return ""
    shown = []
    for kind, rows, what, waits in (
        ("processors", processors, "computed", "jobs that wait"),
        ("links", directions, "carried something at full rate", "transfers under way"),
    ):
        if not any(busy for _, busy, _, _ in rows):
            continue
        told = f"The busiest of the {kind}: " + ", ".join(f"{name} {percent(busy)}" for name, busy, _, _ in rows[:3])
        caption = f"Share of the run in which {kind} {what}, the busiest first."
        columns = (kind, "busy", f"{waits}, mean", "most")
        listed = f", the {_MOST_LOADS} busiest of {len(rows):,}" if len(rows) > _MOST_LOADS else ""
        lines = [(row[0], row[1:]) for row in rows[:_MOST_LOADS]]
        numbers = table(f"Load of {kind}{listed}", columns, lines, (percent, _nats, _count), identity=f"load-{kind}")
        shown += [_figure(f"load-plot-{kind}", told, caption), _folded("As a table", numbers)]
    return section("load", "What is busy?", *shown)


def placements_section(rows: list[tuple[str, list[float | None]]]) -> str:
    """Where requests ran."""
    if not rows:
        return ""
    columns = ("placement: nodes of the model by device", "requests", "answered", "p50", "p95", "right answers")
    writes = (_count, _count, format_duration, format_duration, percent)
    shown = table("Requests by placement", columns, rows, writes, identity="placements-table")
    note = "A piece such as camera-*:0-4 says that the devices so named run nodes 0 to 3 of the model; the next piece goes on."
    return section("placements", "Where does the model run?", shown, element("p", text(note), class_="caption"))


def provenance_section(told: Told, found: dict[str, Any]) -> str:
    """The scenario, and what made this run."""
    facts = {
        "simulated time": format_duration(found["simulated_s"]),
        "ended because": found["stop_reason"] or "it did not end",
        **told.facts,
    }
    listed = element("dl", "".join(element("div", element("dt", text(name)) + element("dd", text(value))) for name, value in facts.items()),
                     class_="facts")  # fmt: skip
    shown = []
    for summary, content in (("Scenario as given", told.given), ("Scenario with every default", told.resolved)):
        if content:
            shown.append(_folded(summary, element("pre", element("code", text(content)), tabindex="0", role="region", aria_label=summary)))
    return section("provenance", "What was run?", listed, *shown)
