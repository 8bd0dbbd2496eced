"""What a scenario can name: families of parts, link technologies, device profiles."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, asdict, fields
from typing import Any, get_type_hints

from netfl.codecs import CODECS
from netfl.compute import PROFILES
from netfl.learning.aggregators import AGGREGATORS
from netfl.learning.data import DATA
from netfl.learning.lessons import LESSONS, PRETRAINERS
from netfl.learning.models import MODELS
from netfl.learning.partition import PARTITIONS
from netfl.learning.select import SELECTORS
from netfl.learning.slicing import PARTITIONERS
from netfl.network.battery import Battery
from netfl.network.bursts import LossBursts
from netfl.network.generators import GENERATORS, LinkClass
from netfl.network.links import TECHNOLOGIES
from netfl.network.loss import LOSSES
from netfl.network.outages import OUTAGES
from netfl.network.transport import TRANSPORTS
from netfl.network.variation import RateTrace
from netfl.placement.planners import PLANNERS
from netfl.scenario.reader import to_plain
from netfl.scenario.schema import DeviceBlock, LinkBlock, MediumBlock, TopologyFile
from netfl.scenario.topologies import Attach, GenerateMesh, GenerateTiered, ImportBlock, TierProfiles
from netfl.units import format_bytes, format_duration, format_rate
from netfl.workloads import WORKLOADS
from netfl.workloads.arrivals import ARRIVALS
from netfl.workloads.background import TRAFFIC
from netfl.workloads.cooperation import COOPERATIONS

__all__ = ["CATALOGUES", "catalogue", "listing_tables"]

_FAMILIES = {
    family.name: family
    for family in (
        WORKLOADS, DATA, PARTITIONS, MODELS, PRETRAINERS, LESSONS, PARTITIONERS, SELECTORS, AGGREGATORS, CODECS, ARRIVALS, TRAFFIC, PLANNERS,
        COOPERATIONS, TRANSPORTS, LOSSES, OUTAGES, GENERATORS,
    )
}  # fmt: skip
_TOPOLOGY_BLOCKS = {
    "devices and links": TopologyFile,
    "a device": DeviceBlock,
    "a link": LinkBlock,
    "a medium": MediumBlock,
    "battery": Battery,
    "rate_trace": RateTrace,
    "loss_bursts": LossBursts,
    "import": ImportBlock,
    "generate (mesh)": GenerateMesh,
    "generate (tiered)": GenerateTiered,
    "attach": Attach,
    "profiles": TierProfiles,
    "link classes": LinkClass,
}
CATALOGUES: tuple[str, ...] = (*_FAMILIES, "topologies", "links", "devices")


def catalogue(name: str) -> dict[str, Any]:
    """One catalogue as plain values: kind or preset to what it says."""
    if name == "links":
        return {each.name: asdict(each) for each in TECHNOLOGIES.values()}
    if name == "devices":
        return {key: {field.name: getattr(each, field.name) for field in fields(each)} for key, each in PROFILES.items()}
    if name == "topologies":
        return {form: {"summary": _summary(block), "settings": _settings(block)} for form, block in _TOPOLOGY_BLOCKS.items()}
    family = _FAMILIES[name]
    return {kind: {"summary": _summary(family.find(kind)), "settings": _settings(family.find(kind))} for kind in family.kinds()}


def listing_tables(names: list[str]) -> Any:
    """Tables for a terminal."""
    from rich.console import Group

    return Group(*(table for name in names for table in _tables(name)))


def _tables(name: str) -> list[Any]:
    if name == "links":
        return [_links_table()]
    if name == "devices":
        return [_devices_table()]
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=name, title_justify="left", show_header=True, box=None, padding=(0, 2, 0, 0))
    for column in ("kind", "setting", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for kind, entry in catalogue(name).items():
        table.add_row(kind, "", "", escape(entry["summary"]))
        for setting, facts in entry["settings"].items():
            table.add_row("", setting, "required" if facts["required"] else escape(str(facts["default"])), escape(facts["meaning"]))
    return [table]


def _links_table() -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="links", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("technology", "up", "down", "latency", "duplex", "medium", "exponent", "source"):
        table.add_column(column, overflow="fold")
    for each in TECHNOLOGIES.values():
        table.add_row(
            each.name,
            format_rate(each.up_bps),
            format_rate(each.down_bps),
            format_duration(each.latency_s),
            each.duplex,
            each.medium,
            f"{each.efficiency_exponent:g}" if each.efficiency_exponent else "",
            escape(each.source),
        )
    return table


def _devices_table() -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="devices", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("profile", "inference", "training", "memory", "idle / busy", "source"):
        table.add_column(column, overflow="fold")
    for name, each in PROFILES.items():
        table.add_row(
            name,
            _flop_rate(each.inference_flop_per_s),
            _flop_rate(each.training_flop_per_s),
            format_bytes(each.memory_bytes),
            f"{each.idle_w:g} / {each.busy_w:g} W",
            escape(each.source),
        )
    return table


def _flop_rate(value: float) -> str:
    return format_rate(value).replace("bit/s", "FLOP/s")


def _summary(part: type) -> str:
    return (inspect.getdoc(part) or "").partition("\n")[0]


def _settings(part: type) -> dict[str, Any]:
    meanings: dict[str, str] = {}
    for each in reversed(part.__mro__):
        meanings.update(_meanings(inspect.cleandoc(each.__doc__ or "")))
    hints = get_type_hints(part, include_extras=True)
    found = {}
    for field in fields(part):
        if not field.init:
            continue
        required = field.default is MISSING and field.default_factory is MISSING
        found[field.name] = {
            "required": required,
            "default": None if required else to_plain(_default(field), hints[field.name]),
            "meaning": meanings.get(field.name, ""),
        }
    return found


def _default(field: Any) -> Any:
    return field.default if field.default is not MISSING else field.default_factory()


def _meanings(docstring: str) -> dict[str, str]:
    """The Args of a docstring: name to text."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in docstring.splitlines():
        if line.strip() == "Args:":
            inside = True
        elif inside and line and not line.startswith(" "):
            break
        elif inside and (match := re.match(r"    (\w+): (.*)", line)):
            name = match[1]
            found[name] = match[2]
        elif inside and name and line.startswith("        "):
            found[name] += " " + line.strip()
    return found
