"""What a topology and a scenario come to, as tables, and a topology as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from netfl.errors import Problem, ScenarioError
from netfl.network.topology import Site
from netfl.scenario import Loaded
from netfl.scenario.expand import Built
from netfl.scenario.notes import notes
from netfl.units import format_duration, format_rate

__all__ = ["draw", "scenario_tables", "topology_tables"]

_MOST_ROWS = 60


def topology_tables(built: Built) -> Any:
    """Devices by tier and class, the links, what was filled in, and what may not be meant."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    topology = built.topology
    devices = Table(title=f"{topology.name}: {len(topology.sites)} devices", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("tier", "devices", "inference", "memory"):
        devices.add_column(column)
    counted = Counter((site.tier, built.profiles[name]) for name, site in topology.sites.items())
    for (tier, profile), count in counted.items():
        rate = format_rate(profile.inference_flop_per_s).replace("bit/s", "FLOP/s")
        devices.add_row(tier, str(count), rate, f"{profile.memory_bytes / 1e6:,.4g} MB")
    by = "" if topology.routing == "latency" else f", routes by {topology.routing}"
    links = Table(title=f"{len(topology.links)} links{by}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("link", "between", "up", "down", "latency", "duplex", "medium"):
        links.add_column(column)
    for link in list(topology.links.values())[:_MOST_ROWS]:
        rates = format_rate(link.up_bps), format_rate(link.down_bps)
        ends = " - ".join(_called(topology.sites[end]) for end in (link.a, link.b))
        links.add_row(escape(link.name), escape(ends), *rates, format_duration(link.latency_s), link.duplex, link.medium or "")
    if len(topology.links) > _MOST_ROWS:
        links.add_row(f"... and {len(topology.links) - _MOST_ROWS} more")
    told = []
    for title, sentences in (("filled in", built.filled), ("notes", notes(topology))):
        if sentences:
            table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
            for sentence in sentences:
                table.add_row(escape(sentence))
            told.append(table)
    return Group(devices, links, *told)


def draw(built: Built, path: Path) -> str:
    """Draw the topology into a file; returns how its sites were placed.

    Raises:
        ScenarioError: the file cannot be written.
    """
    from netfl.report.topologies import draw_topology

    if path.suffix.lower() != ".png":
        raise ScenarioError(Problem(f"expected a name that ends in .png, got '{path}'", file="--png"))
    try:
        return draw_topology(built.topology, path)
    except OSError as error:
        raise ScenarioError(Problem(f"'{path}' cannot be written: {error.strerror}", file="--png")) from None


def _called(site: Site) -> str:
    return f"{site.name} ({site.label})" if site.label and site.label != site.name else site.name


def scenario_tables(loaded: Loaded) -> Any:
    """A scenario's workloads and its topology."""
    from rich.console import Group
    from rich.table import Table

    scenario = loaded.scenario
    head = Table(title=f"{scenario.name} (seed {scenario.seed})", title_justify="left", box=None, padding=(0, 2, 0, 0))
    head.add_column("workload")
    head.add_column("settings")
    from netfl.scenario.reader import to_plain
    from netfl.workloads import WORKLOADS

    for name, workload in scenario.workloads.items():
        settings = ", ".join(f"{key}: {value}" for key, value in to_plain(workload).items())
        head.add_row(name, f"{WORKLOADS.kind_of(workload)}: {settings}")
    return Group(head, topology_tables(loaded.built))
