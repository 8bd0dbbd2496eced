"""The page of one run."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netfl.network.layout import layout_of
from netfl.network.topology import Link, Site, Topology
from netfl.report.loads import busiest
from netfl.report.metrics import metrics
from netfl.report.page import series
from netfl.report.page.flow import busy_shares, moved_bytes, slices_for, sparse
from netfl.report.page.headline import headline
from netfl.report.page.markup import data_block, document, element, text, without_script
from netfl.report.page.parts import script, style
from netfl.report.page.phases import PHASES, Timeline, timeline
from netfl.report.page.sections import (
    accuracy_section,
    bytes_section,
    energy_section,
    latency_section,
    load_section,
    network_section,
    placements_section,
    provenance_section,
    rounds_section,
)
from netfl.report.reading import opened

__all__ = ["KINDS", "Told", "run_page"]

KINDS = ("model", "update", "activation", "request", "reply", "metadata", "background")
"""Kinds of messages in the order of their colours."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known of a run beside its trace.

    Args:
        name: of the scenario.
        description: for people.
        given: the scenario as it was given; empty if unknown.
        resolved: the scenario with every default; empty if unknown.
        facts: what made the run: seed, versions, command and such; name and value.
        notes: what readers must know, as that a run did not finish.
        pictures: PNG files for readers without scripts: what each shows, and its bytes.
    """

    name: str
    description: str = ""
    given: str = ""
    resolved: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pictures: tuple[tuple[str, bytes], ...] = ()


def run_page(database: sqlite3.Connection | Path, topology: Topology | None, told: Told) -> str:
    """One HTML file that shows a run and needs nothing else.

    Args:
        database: the run's trace, or its file.
        topology: on which it ran; None makes one from the trace, in which links that carried nothing are missing.
        told: what else is known.
    """
    with opened(database) as trace:
        notes = list(told.notes)
        if topology is None:
            topology = _from_trace(trace)
            notes.append("The topology is drawn from the trace alone: links that carried nothing are missing.")
        found = metrics(trace)
        end_s = found["simulated_s"]
        if found["stop_reason"] is None:
            notes.append("This run did not reach its end: what links and devices carried and spent is written only then.")
        spans = timeline(trace, end_s)
        loads = busiest(found["loads"])
        kinds = _kinds(trace)
        data = {
            "page": "run",
            "end": end_s,
            "kinds": kinds,
            "rounds": series.rounds(trace),
            "accuracy": series.accuracy(trace),
            "latency": series.latency(trace, end_s),
            "network": _network(trace, topology, kinds, end_s),
            "timeline": _timeline(spans),
            "links": _rows(found["bytes"]["by_link"], trace, kinds),
            "loads": [[row[:2] for row in rows[:40] if row[1]] for rows in loads],
            "energy": _energy(trace),
        }
        placements = _placements(trace)
        body = [
            _head(told, found),
            "".join(element("p", text(note), class_="note", role="note") for note in notes),
            headline(found),
            network_section(found, topology, trace),
            accuracy_section(trace, found),
            latency_section(trace, found),
            rounds_section(spans, found),
            bytes_section(trace, found),
            load_section(*loads),
            energy_section(trace, found),
            placements_section(placements),
            provenance_section(told, found),
            without_script(told.pictures),
        ]
    main = element("main", "".join(body[1:]), id="main")
    return document(f"{told.name} - netfl", body[0] + main + _foot() + data_block(data), style(), script())


def _head(told: Told, found: dict[str, Any]) -> str:
    jump = '<a class="jump" href="#main">To the content</a>'
    title = element("h1", text(told.name)) + (element("p", text(told.description), class_="lead") if told.description else "")
    theme = element("button", "Dark", id="theme", type="button", hidden="")
    return jump + element("header", element("div", title) + theme)


def _foot() -> str:
    return element("footer", element("p", "Made by netfl from the run's trace. This file asks the network for nothing."))


def _kinds(trace: sqlite3.Connection) -> list[str]:
    sent = {row[0] for row in trace.execute("SELECT DISTINCT kind FROM transfers")}
    return [kind for kind in KINDS if kind in sent] + sorted(sent - set(KINDS))


def _from_trace(trace: sqlite3.Connection) -> Topology:
    tiers = ("device", "gateway", "edge", "cloud")
    sites = {
        name: Site(name=name, tier=tier if tier in tiers else "device")
        for name, tier in trace.execute("SELECT device, tier FROM device_use ORDER BY device")
    }
    pairs: dict[tuple[str, str], str] = {}
    for name, source, destination in trace.execute("SELECT DISTINCT link, source, destination FROM link_use ORDER BY link, source"):
        pairs.setdefault((min(source, destination), max(source, destination)), name)
    for (route,) in trace.execute("SELECT DISTINCT route FROM transfers ORDER BY route"):
        devices = route.split(">")
        for a, b in zip(devices, devices[1:], strict=False):
            pairs.setdefault((min(a, b), max(a, b)), f"{min(a, b)} - {max(a, b)}")
    for pair in pairs:
        for name in pair:
            sites.setdefault(name, Site(name=name))
    if not sites:
        sites = {"-": Site(name="-")}
    links = [Link(name=name, a=a, b=b, up_bps=1.0, down_bps=1.0) for (a, b), name in pairs.items()]
    return Topology(sites.values(), links)


def _network(trace: sqlite3.Connection, topology: Topology, kinds: list[str], end_s: float) -> dict[str, Any]:
    """The topology with its places, and what moved when."""
    layout = layout_of(topology)
    site_of = {name: number for number, name in enumerate(topology.sites)}
    link_of = {name: number for number, name in enumerate(topology.links)}
    hops: dict[tuple[str, str], int] = {}
    for name, link in topology.links.items():
        hops[link.a, link.b] = 2 * link_of[name]
        hops[link.b, link.a] = 2 * link_of[name] + 1
    slices = slices_for(end_s, 2 * len(link_of) + len(site_of))
    moved = moved_bytes(trace, hops, kinds, 2 * len(link_of), slices)
    busy = busy_shares(trace, site_of, slices)
    kind_of = {kind: number for number, kind in enumerate(kinds)}
    totals: dict[int, list[int]] = {}
    for source, destination, kind, sent in trace.execute(
        "SELECT source, destination, kind, sum(sent_bytes) FROM link_use GROUP BY source, destination, kind"
    ):
        hop = hops.get((source, destination))
        if hop is not None:
            totals.setdefault(hop, [0] * len(kinds))[kind_of[kind]] += sent
    down = [
        [1, site_of[element_], start_s, stop_s] if element_kind == "device" else [0, link_of[element_], start_s, stop_s]
        for element_, element_kind, start_s, stop_s in trace.execute(
            "SELECT element, element_kind, start_s, end_s FROM outages ORDER BY start_s, element LIMIT 4000"
        )
        if element_ in (site_of if element_kind == "device" else link_of)
    ]
    return {
        "sites": [
            [site.name, site.label, site.tier, round(layout.places[name][0], 4), round(layout.places[name][1], 4)]
            for name, site in topology.sites.items()
        ],
        "links": [
            [link.name, site_of[link.a], site_of[link.b], link.up_bps, link.down_bps, link.medium] for link in topology.links.values()
        ],
        "told": layout.told,
        "slice": slices.width_s,
        "slices": slices.count,
        "moved": [[row // len(kinds), row % len(kinds), sparse(moved[row])] for row in range(len(moved)) if moved[row].any()],
        "busy": [[row, sparse(busy[row])] for row in range(len(busy)) if busy[row].any()],
        "totals": [[hop, sums] for hop, sums in sorted(totals.items())],
        "down": down,
    }


def _timeline(spans: Timeline | None) -> dict[str, Any] | None:
    if spans is None:
        return None
    labels: dict[str, int] = {}
    rows = [
        [
            value
            for phase, start_s, stop_s, label in row
            for value in (phase, float(f"{start_s:.7g}"), float(f"{stop_s - start_s:.4g}"), labels.setdefault(label, len(labels)))
        ]
        for row in spans.spans
    ]
    return {
        "phases": list(PHASES),
        "devices": spans.devices[: spans.drawn],
        "rows": rows,
        "labels": list(labels),
        "all": len(spans.devices),
        "column": spans.column_s,
    }


def _rows(by_link: dict[str, dict[str, int]], trace: sqlite3.Connection, kinds: list[str]) -> list[Any]:
    """Links by what they carried: name, then useful bytes and wasted ones of each kind."""
    kind_of = {kind: number for number, kind in enumerate(kinds)}
    most = sorted(by_link, key=lambda link: (-by_link[link]["sent"], link))[:40]
    found: dict[str, list[list[int]]] = {link: [[0, 0] for _ in kinds] for link in most}
    query = "SELECT link, kind, sum(sent_bytes - wasted_bytes), sum(wasted_bytes) FROM link_use GROUP BY link, kind"
    for link, kind, useful, wasted in trace.execute(query):
        if link in found and kind in kind_of:
            found[link][kind_of[kind]] = [useful, wasted]
    return [[link, [pair[0] for pair in found[link]], [pair[1] for pair in found[link]]] for link in most if by_link[link]["sent"]]


def _energy(trace: sqlite3.Connection) -> list[Any]:
    """Devices by what they spent above idle: name, compute, transmit, receive, idle."""
    rows = trace.execute(
        "SELECT device, compute_j, transmit_j, receive_j, idle_j FROM device_use "
        "ORDER BY compute_j + transmit_j + receive_j DESC, idle_j DESC, device LIMIT 40"
    ).fetchall()
    return [[row[0], *(float(f"{value:.6g}") for value in row[1:])] for row in rows if sum(row[1:]) > 0]


def _placements(trace: sqlite3.Connection) -> list[tuple[str, list[float | None]]]:
    """Where requests ran: families of placements, as `camera-*:0-11`, and how they did."""
    from netfl.report.page.placements import by_family

    return by_family(trace)
