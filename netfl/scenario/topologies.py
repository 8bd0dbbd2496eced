"""Topology blocks that say `generate:` or `import:` instead of listing devices and links, unfolded into ones that list them.

What comes out is what a topology file could say by hand, so everything downstream (overrides of single links, the resolved
scenario of a run folder, reports) knows one form only. What was filled in on the way stands in its `filled`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from annotated_types import Ge

from netfl.compute import PROFILES, DeviceProfile
from netfl.errors import Problem, ScenarioError
from netfl.network.draft import (
    Draft,
    DraftLink,
    DraftSite,
    central,
    connected,
    named,
    neighbours,
    parallel_merged,
    with_latencies,
    with_places,
    with_rates,
    without_self_loops,
)
from netfl.network.generators import GENERATORS, LinkClass, link_class
from netfl.network.importers import FORMATS, Attributes, read_network
from netfl.network.links import TECHNOLOGIES
from netfl.network.topology import Routing
from netfl.parts import nearest
from netfl.randomness import Streams
from netfl.scenario.reader import read, schema_of, to_plain
from netfl.scenario.tree import Mark, PathKey, Tree
from netfl.units import DIMENSIONS, Bandwidth, Duration, Quantity, counted, format_duration, format_rate

__all__ = [
    "Attach",
    "GenerateMesh",
    "GenerateTiered",
    "ImportBlock",
    "TierProfiles",
    "block_schemas",
    "form_of",
    "generate_block",
    "unfold_topology",
]

_LONGEST_NAME = 90
_RULES = ("degree", "closeness")
_RATE, _DURATION = Quantity("rate"), Quantity("duration")
_JUNCTION = DeviceProfile(
    inference_flop_per_s=1.0, training_flop_per_s=1.0, memory_bytes_per_s=1.0, overhead_s=0.0, memory_bytes=1, idle_w=0.0, busy_w=0.0,
    source="a junction: with one byte of memory nothing can be placed on it; it only forwards",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TierProfiles:
    """Which device profile stands at each tier: a name (`netfl list devices`) or a block of figures.

    Args:
        device: of end devices.
        gateway: of gateways; junctions, which only forward, have a profile of their own with no memory to speak of.
        edge: of edge sites.
        cloud: of the server.
    """

    device: str | DeviceProfile = "pi-4"
    gateway: str | DeviceProfile = "mini-pc"
    edge: str | DeviceProfile = "edge-server"
    cloud: str | DeviceProfile = "cloud-v100"


@dataclass(frozen=True, kw_only=True)
class Attach:
    """End devices at the sites of a mesh or an imported network.

    Args:
        clients: how many at each site; they are named `client-SITE-1` and so on.
        sites: names or patterns of the sites, by name or label.
        profile: of the clients; that of the tier `device` when absent.
        link: of each client to its site: the name of a technology, or figures; those of a shared technology are one medium a site.
            The default, 100 Mbit/s and 5 ms, is a choice.
    """

    clients: Annotated[int, Ge(1)]
    sites: tuple[str, ...] = ("*",)
    profile: str | DeviceProfile | None = None
    link: str | LinkClass = field(default_factory=lambda: LinkClass(rate=100e6, latency=5e-3))


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What every block may say.

    Args:
        schema: version of the language.
        name: of the topology; the file's or the generator's when empty.
        description: for people.
        routing: what routes have least of.
        profiles: which device stands at which tier.
        change: path of a setting (`links.4-7.rate`, `devices.4.profile`) to its value, once all devices and links are there.
    """

    schema: Literal[1] = 1
    name: str = ""
    description: str = ""
    routing: Routing = "latency"
    profiles: TierProfiles = field(default_factory=TierProfiles)
    change: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Sites:
    """What a block may say about sites that are all alike.

    Args:
        server: the site that is the cloud: its name, a label that only it has, or a rule. degree: the site with most neighbours;
            closeness: the one with the least mean latency to all others. Ties go by name.
        attach: end devices at the sites, which are then of tier `edge`; without it the sites are the end devices.
        component: what to do with a network in parts: error, or keep the largest.
    """

    server: str | int = "degree"
    attach: Attach | None = None
    component: Literal["error", "largest"] = "error"


@dataclass(frozen=True, kw_only=True)
class GenerateTiered(_Common):
    """A star, a tree or a hierarchy (`netfl list generators`): what a block may say beside the generator's own settings.

    Args:
        seed: of the drawing alone; the scenario's seed and replicate when absent.
    """

    seed: Annotated[int, Ge(0)] | None = None


@dataclass(frozen=True, kw_only=True)
class GenerateMesh(GenerateTiered, _Sites):
    """A mesh drawn by rule (`netfl list generators`): what a block may say beside the generator's own settings.

    Generators whose shape says which site is what (star, tree, hierarchical) take no `server`, `attach` or `component`.
    """


@dataclass(frozen=True, kw_only=True)
class ImportBlock(_Common, _Sites):
    """A network from a file: GraphML, node-link JSON, CAIDA as-rel lines.

    Args:
        delay: latency of links that state none: geographic, by the distance of their ends where both are known; or default.
        default_rate: of links that state none; 10 Gbit/s is a choice for a backbone.
        default_latency: of links whose distance is not known; 5 ms is a choice.
        merge_parallel: rates of links between the same two sites: sum, or max for the largest alone.
        rate_attribute: name of the link attribute that holds the rate.
        rate_unit: what 1 in it means, such as Mbit/s.
        latency_attribute: name of the link attribute that holds the one-way latency.
        latency_unit: what 1 in it means, such as ms.
        cost_attribute: name of the link attribute that holds the cost.
    """

    delay: Literal["geographic", "default"] = "geographic"
    default_rate: Bandwidth = 10e9
    default_latency: Duration = 5e-3
    merge_parallel: Literal["sum", "max"] = "sum"
    rate_attribute: str | None = None
    rate_unit: str | None = None
    latency_attribute: str | None = None
    latency_unit: str | None = None
    cost_attribute: str = "cost"

    def __post_init__(self) -> None:
        for what, attribute, unit, dimension in (
            ("rate", self.rate_attribute, self.rate_unit, "rate"),
            ("latency", self.latency_attribute, self.latency_unit, "duration"),
        ):
            known = DIMENSIONS[dimension].units
            if (attribute is None) != (unit is None):
                raise ValueError(f"expected `{what}_attribute` and `{what}_unit` together, as in '{list(known)[2]}'")
            if unit is not None and unit not in known:
                raise ValueError(
                    f"`{what}_unit`: expected a unit such as {', '.join(list(known)[:4])}, got '{unit}'. {nearest(unit, list(known))}"
                )

    @property
    def attributes(self) -> Attributes:
        """Which attribute of a link holds which figure."""
        return Attributes(
            rate=self.rate_attribute,
            bps_per_rate=DIMENSIONS["rate"].units.get(self.rate_unit or "", 1.0),
            latency=self.latency_attribute,
            s_per_latency=DIMENSIONS["duration"].units.get(self.latency_unit or "", 1.0),
            cost=self.cost_attribute,
        )


@cache
def generate_block(kind: str) -> Any:
    """The settings of a generator and of every block, as one dataclass."""
    part: Any = GENERATORS.find(kind)
    hints = get_type_hints(part, include_extras=True)
    own = []
    for each in fields(part):
        if each.default is not MISSING:
            own.append((each.name, hints[each.name], field(default=each.default)))
        elif each.default_factory is not MISSING:
            own.append((each.name, hints[each.name], field(default_factory=each.default_factory)))
        else:
            own.append((each.name, hints[each.name], field()))
    base = GenerateTiered if getattr(part, "tiered", False) else GenerateMesh
    return make_dataclass(f"Generate_{kind}", own, bases=(base,), frozen=True, kw_only=True)


def form_of(block: Any) -> str | None:
    """Whether a topology block generates or imports; None if it lists its devices and links."""
    return next((form for form in ("generate", "import") if isinstance(block, dict) and form in block), None)


def unfold_topology(tree: Tree, path: PathKey, streams: Streams) -> dict[str, Any]:
    """Put the devices and links of a generated or imported topology in place of its block.

    Args:
        tree: where the block stands.
        path: of the block.
        streams: the run's; a generator draws from the one named ("topology",).

    Returns:
        The block's `change`.

    Raises:
        ScenarioError: everything that is wrong with the block or with the file that it names.
    """
    block = tree.branch(path)
    form = form_of(block.value)
    assert form is not None
    if "generate" in block.value and "import" in block.value:
        raise ScenarioError(tree.problem("expected either `generate` or `import`, got both", (*path, "import"), key=True))
    named_value = block.value[form]
    rest = Tree({key: value for key, value in block.value.items() if key != form}, block.marks, block.key_marks)
    if form == "generate":
        if not isinstance(named_value, str) or named_value not in GENERATORS.kinds():
            hint = nearest(str(named_value), GENERATORS.kinds()) or f"one of: {', '.join(GENERATORS.kinds())}"
            raise ScenarioError(tree.problem(f"no generator '{named_value}'", (*path, form), hint))
        settings = _read(generate_block(named_value), rest, tree, path)
        found = _named_problems(settings, tree, path)
        if found:
            raise ScenarioError(*found)
        part: Any = GENERATORS.find(named_value)
        own = {each.name: getattr(settings, each.name) for each in fields(part)}
        pick = streams if settings.seed is None else Streams(settings.seed)
        try:
            generator = part(**own)
            draft = generator.draw(pick.generator("topology"))
        except ValueError as error:
            raise ScenarioError(tree.problem(str(error), path)) from None
        draft = draft if draft.name else draft.noted(name=named_value)
        is_mesh = not getattr(part, "tiered", False)
    else:
        if not isinstance(named_value, str):
            hint = f"the path of a file that ends in {', '.join(FORMATS)}"
            raise ScenarioError(tree.problem(f"expected a path, got {named_value!r}", (*path, form), hint))
        settings = _read(ImportBlock, rest, tree, path)
        found = _named_problems(settings, tree, path)
        if found:
            raise ScenarioError(*found)
        draft = _imported(settings, named_value, tree, path)
        is_mesh = True
    if is_mesh:
        draft = _mesh_draft(settings, draft, tree, path)
    plain = _plain(settings, draft, tree, path)
    mark = tree.mark(path) or Mark("", 0, 0)
    tree.graft(path, Tree(plain, {(): mark}))
    change: dict[str, Any] = settings.change
    return change


def _read(cls: type, rest: Tree, tree: Tree, path: PathKey) -> Any:
    try:
        return read(cls, rest)
    except ScenarioError as error:
        start = "".join(f"{step}" for step in path)
        raise ScenarioError(
            *(replace(each, path=".".join(part for part in (start, each.path) if part)) for each in error.problems)
        ) from None


def _named_problems(settings: Any, tree: Tree, path: PathKey) -> list[Problem]:
    """Every technology and profile that is named and unknown."""
    found = []
    for place, value, known, what in _names_in(settings, get_type_hints(type(settings), include_extras=True), path):
        if value not in known:
            hint = nearest(value, list(known)) or f"there are: {', '.join(list(known)[:12])}"
            found.append(tree.problem(f"no {what} '{value}'", place, hint))
    return found


def _names_in(part: Any, hints: dict[str, Any], path: PathKey) -> Iterator[tuple[PathKey, str, Any, str]]:
    for name, hint in hints.items():
        value = getattr(part, name, None)
        options = get_args(hint)
        place = (*path, name)
        if isinstance(value, LinkClass):
            if value.technology is not None:
                yield (*place, "technology"), value.technology, TECHNOLOGIES, "link technology"
        elif isinstance(value, str) and LinkClass in options:
            yield place, value, TECHNOLOGIES, "link technology"
        elif isinstance(value, str) and DeviceProfile in options:
            yield place, value, PROFILES, "device profile"
        elif isinstance(value, Attach | TierProfiles):
            yield from _names_in(value, get_type_hints(type(value), include_extras=True), place)


# --- from a file ------------------------------------------------------------------------------------------------------------


def _imported(settings: ImportBlock, file: str, tree: Tree, path: PathKey) -> Draft:
    where = Path(file)
    if not where.is_file():
        kind = "expected a file, this is something else" if where.exists() else "no such file"
        raise ScenarioError(tree.problem(f"{kind}: '{file}'", (*path, "import")))
    draft = without_self_loops(read_network(where, file, settings.attributes))
    if settings.delay == "geographic":
        draft = with_places(draft)
    draft = with_rates(draft, settings.default_rate, format_rate(settings.default_rate))
    draft = _timed(draft, settings.default_latency, settings.delay == "geographic")
    return parallel_merged(draft, settings.merge_parallel)


def _timed(draft: Draft, default_s: float, by_distance: bool) -> Draft:
    return with_latencies(draft, default_s, format_duration(default_s), by_distance)


# --- meshes: a server, and clients at the sites -----------------------------------------------------------------------------


def _mesh_draft(settings: Any, draft: Draft, tree: Tree, path: PathKey) -> Draft:
    try:
        draft = connected(draft, settings.component)
    except ValueError as error:
        hint = "`component: largest` keeps the largest part"
        raise ScenarioError(tree.problem(f"the network {error}", path, hint)) from None
    # Sites without places have a default latency already; a generator's mesh has places.
    draft = _timed(draft, 5e-3, True)
    server, why = _server(settings.server, draft, lambda message, hint="": tree.problem(message, (*path, "server"), hint))
    around = neighbours(draft.sites, draft.links)
    clients: list[DraftSite] = []
    links: list[DraftLink] = []
    media = list(draft.media)
    cells = {name for name, _ in media}
    others: Literal["device", "edge"] = "device"
    told = [f"server: '{server}'{_labelled(draft, server)}, {why}, is the cloud"]
    if settings.attach is None:
        rest = sum(not site.junction for site in draft.sites) - 1
        told.append(f"tiers: the {counted(rest, 'other site')} {'is an end device' if rest == 1 else 'are end devices'} (no `attach`)")
    else:
        others = "edge"
        attach: Attach = settings.attach
        chosen = [site for site in draft.sites if not site.junction and _matches(site, attach.sites)]
        if not chosen:
            hint = nearest(attach.sites[0], [site.name for site in draft.sites]) if attach.sites else ""
            raise ScenarioError(tree.problem("no site matches", (*path, "attach", "sites"), hint))
        of_link = link_class(attach.link)
        for site in chosen:
            many = f"client-{site.name}-1" if attach.clients == 1 else f"client-{site.name}-{{1..{attach.clients}}}"
            clients.append(
                DraftSite(name=many, tier="device", latitude=site.latitude, longitude=site.longitude, x_km=site.x_km, y_km=site.y_km)
            )
            cell = "cell-" + _as_name(site.name, r"[^\w -]")
            while cell in cells:
                cell += "_"
            cells.add(cell)
            links.append(of_link.draft(f"{many}-access", many, site.name, cell))
            media += of_link.media(cell)
        told.append(
            f"attach: {counted(attach.clients * len(chosen), 'end device')} at {counted(len(chosen), 'site')} over {of_link.told()} each"
        )
    tiered = tuple(replace(site, tier="gateway" if site.junction else "cloud" if site.name == server else others) for site in draft.sites)
    isolated = [name for name, near in around.items() if not near and len(around) > 1]
    assert not isolated
    return draft.noted(*told, sites=(*tiered, *clients), links=(*draft.links, *links), media=tuple(media))


def _server(wanted: str | int, draft: Draft, problem: Callable[..., Problem]) -> tuple[str, str]:
    """The name of the site that is the cloud, and why."""
    names = {site.name: site for site in draft.sites}
    text = str(wanted)
    if text in names:
        if names[text].junction:
            raise ScenarioError(problem(f"'{text}' is a junction, where nothing stands"))
        return text, "as named"
    labelled = [site.name for site in draft.sites if site.label == text and not site.junction]
    if len(labelled) == 1:
        return labelled[0], "as labelled"
    if len(labelled) > 1:
        raise ScenarioError(problem(f"{len(labelled)} sites have the label '{text}'", f"name one of: {named(labelled)}"))
    if text not in _RULES:
        labels = [site.label for site in draft.sites if site.label]
        hint = nearest(text, [*names, *labels, *_RULES]) or "a site's name or label, `degree` or `closeness`"
        raise ScenarioError(problem(f"no site '{text}'", hint))
    try:
        return central(draft, "degree" if text == "degree" else "closeness")
    except ValueError as error:
        raise ScenarioError(problem(str(error))) from None


def _labelled(draft: Draft, name: str) -> str:
    label = next(site.label for site in draft.sites if site.name == name)
    return f" ({label})" if label and label != name else ""


def _matches(site: DraftSite, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(site.name, pattern) or (site.label != "" and fnmatchcase(site.label, pattern)) for pattern in patterns)


# --- drafts into what a file could say --------------------------------------------------------------------------------------


def _plain(settings: Any, draft: Draft, tree: Tree, path: PathKey) -> dict[str, Any]:
    attached = getattr(settings, "attach", None)
    devices: dict[str, Any] = {}
    links: dict[str, Any] = {}
    twice: list[str] = []
    for site in draft.sites:
        tier = site.tier or "device"
        profile = _JUNCTION if site.junction else getattr(settings.profiles, tier)
        if attached is not None and tier == "device" and attached.profile is not None:
            profile = attached.profile
        entry = {"profile": to_plain(profile), "tier": tier}
        for name in ("label", "latitude", "longitude", "x_km", "y_km"):
            value = getattr(site, name)
            if value not in ("", None):
                entry[name] = value
        _put(devices, site.name, entry, twice)
    for link in draft.links:
        _put(links, _link_name(link, links, devices), _plain_link(link), twice)
    if twice:
        raise ScenarioError(tree.problem(f"names that netfl gives to clients and links are in the network already: {named(twice)}", path))
    return {
        "schema": 1,
        "name": settings.name or _as_name(draft.name, r"[^\w .-]"),
        "description": settings.description,
        "routing": settings.routing,
        "devices": devices,
        "media": {name: {"efficiency_exponent": exponent} for name, exponent in draft.media},
        "links": links,
        "filled": list(draft.filled),
    }


def _as_name(text: str, foreign: str) -> str:
    """A text made a name that netfl takes: what it does not take becomes a dash."""
    return re.sub(foreign, "-", text).strip(" .-_")[:_LONGEST_NAME] or "network"


def _put(into: dict[str, Any], name: str, entry: Any, twice: list[str]) -> None:
    if name in into:
        twice.append(name)
    into[name] = entry


def _link_name(link: DraftLink, links: dict[str, Any], devices: dict[str, Any]) -> str:
    """The link's own name, else A-B or, where that is too long, a number; made different from all other names."""
    name = link.name or f"{link.a}-{link.b}"
    if not link.name and len(name) > _LONGEST_NAME:
        name = f"link-{len(links) + 1}"
    while not link.name and (name in links or name in devices):
        name += "~"
    return name


def _plain_link(link: DraftLink) -> dict[str, Any]:
    entry: dict[str, Any] = {"between": [link.a, link.b]}
    if link.technology is not None:
        entry["technology"] = link.technology
    if link.up_bps is not None and link.up_bps == link.down_bps:
        entry["rate"] = _RATE.text(link.up_bps)
    else:
        for name, rate_bps in (("uplink", link.up_bps), ("downlink", link.down_bps)):
            if rate_bps is not None:
                entry[name] = _RATE.text(rate_bps)
    if link.latency_s is not None:
        entry["latency"] = _DURATION.text(link.latency_s)
    if link.medium is not None:
        entry["medium"] = link.medium
    if link.cost is not None:
        entry["cost"] = link.cost
    return entry


# --- schema -----------------------------------------------------------------------------------------------------------------


def block_schemas() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The JSON Schemas of `generate` and `import` blocks, and the definitions that they refer to."""
    definitions: dict[str, Any] = {}
    found = []
    blocks: list[tuple[str, dict[str, Any], Any]] = [
        ("generate", {"const": kind, "description": "the shape"}, generate_block(kind)) for kind in GENERATORS.kinds()
    ]
    blocks.append(("import", {"type": "string", "description": "path of a GraphML, node-link JSON or as-rel file"}, ImportBlock))
    for form, named_by, cls in blocks:
        schema = dict(schema_of(cls))
        definitions.update(schema.pop("$defs", {}))
        schema["properties"] = {form: named_by, **schema.get("properties", {})}
        schema["required"] = [form, *schema.get("required", [])]
        schema["title"] = f"{form}: {named_by['const']}" if "const" in named_by else form
        found.append(schema)
    return found, definitions
