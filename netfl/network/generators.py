"""Topologies drawn by rule: `generate: star` and so on.

A generator is a part: its settings, and a pure method that draws a draft from a generator of random numbers. Two sorts: those
whose shape says which site is what (`tiered`: star, tree, hierarchical), and meshes, in which a site is a site until the scenario
names a server and attaches clients. Figures that are defaults here are choices, not measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le

from netfl.network.draft import Draft, DraftLink, DraftSite, named
from netfl.network.links import TECHNOLOGIES
from netfl.parts import Family
from netfl.units import Bandwidth, Duration, counted, format_duration, format_rate

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "GENERATORS",
    "BarabasiAlbert",
    "Generator",
    "Grid",
    "Hierarchical",
    "LinkClass",
    "RandomGeometric",
    "Star",
    "Tree",
    "Waxman",
    "link_class",
]

_MOST_SITES = 1_000_000
_MOST_BY_NAME = 200_000
"""Sites that are named one by one; devices of one parent are one range of names. Limits are choices."""
_MOST_PAIRWISE = 3_000


@dataclass(frozen=True, kw_only=True)
class LinkClass:
    """What all links of one class are: a technology's figures, unless a setting here says otherwise.

    Args:
        technology: name of a link technology (`netfl list links`).
        rate: both directions.
        uplink: away from the core of the network towards it.
        downlink: the other way.
        latency: one way, either direction.
    """

    technology: str | None = None
    rate: Bandwidth | None = None
    uplink: Bandwidth | None = None
    downlink: Bandwidth | None = None
    latency: Duration | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and (self.uplink is not None or self.downlink is not None):
            raise ValueError("expected either `rate` or `uplink` and `downlink`")
        if self.technology is None:
            one_way = self.uplink is None or self.downlink is None
            if (self.rate is None and one_way) or self.latency is None:
                raise ValueError("expected a `technology`, or `rate` (or `uplink` and `downlink`) and `latency`")

    @property
    def shared(self) -> bool:
        """Whether its links that end at one site share one medium."""
        return self.technology in TECHNOLOGIES and TECHNOLOGIES[self.technology].medium != "own"

    def told(self) -> str:
        """The class for people."""
        rates = [self.rate] if self.rate is not None else [self.uplink, self.downlink]
        figures = [format_rate(rate) for rate in rates if rate is not None]
        figures += [format_duration(self.latency)] if self.latency is not None else []
        return " ".join(([self.technology] if self.technology else []) + ([", ".join(figures)] if figures else []))

    def draft(self, name: str, a: str, b: str, cell: str = "") -> DraftLink:
        """Links of this class, from `a` up to `b`, in the medium of that cell if the technology is shared."""
        return DraftLink(
            name=name,
            a=a,
            b=b,
            technology=self.technology,
            up_bps=self.uplink if self.uplink is not None else self.rate,
            down_bps=self.downlink if self.downlink is not None else self.rate,
            latency_s=self.latency,
            medium=cell if cell and self.shared else None,
        )

    def media(self, *cells: str) -> tuple[tuple[str, float], ...]:
        """The media of cells, if the technology is shared."""
        return tuple((cell, TECHNOLOGIES[self.technology].efficiency_exponent) for cell in cells) if self.shared and self.technology else ()


def link_class(value: str | LinkClass) -> LinkClass:
    """A class of links from its block, or from the name of a technology."""
    return LinkClass(technology=value) if isinstance(value, str) else value


class Generator(Protocol):
    """Draws a topology."""

    tiered: ClassVar[bool]
    """Whether it says which sites are devices, gateways, edge and cloud."""

    def draw(self, generator: np.random.Generator) -> Draft:
        """A draft; a mesh leaves tiers open, and latencies where they follow from places."""
        ...


GENERATORS = Family(
    "generators",
    {
        "star": "netfl.network.generators:Star",
        "tree": "netfl.network.generators:Tree",
        "hierarchical": "netfl.network.generators:Hierarchical",
        "grid": "netfl.network.generators:Grid",
        "random_geometric": "netfl.network.generators:RandomGeometric",
        "waxman": "netfl.network.generators:Waxman",
        "barabasi_albert": "netfl.network.generators:BarabasiAlbert",
    },
)


def _default_access() -> LinkClass:
    return LinkClass(rate=10e6, latency=20e-3)


def _check_count(count: int, most: int = _MOST_SITES, what: str = "sites") -> None:
    if count > most:
        raise ValueError(f"expected at most {most:,} {what}, these settings make {count:,}")


def _numbered(stem: str, first: int, last: int) -> str:
    return f"{stem}-{first}" if first == last else f"{stem}-{{{first}..{last}}}"


# --- shapes that say what is what -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Star:
    """Devices around one server, or around an access point with one uplink to it.

    Args:
        devices: how many.
        link: of each device; the name of a technology, or figures. The default, 10 Mbit/s and 20 ms, is a choice.
        uplink: from an access point, which then stands between devices and server; none without it.
    """

    tiered: ClassVar[bool] = True

    devices: Annotated[int, Ge(1)]
    link: str | LinkClass = field(default_factory=_default_access)
    uplink: str | LinkClass | None = None

    def __post_init__(self) -> None:
        _check_count(self.devices)

    def draw(self, generator: np.random.Generator) -> Draft:
        """Draws nothing at random."""
        leaf = link_class(self.link)
        hub = "cloud" if self.uplink is None else "access-point"
        devices = _numbered("device", 1, self.devices)
        sites = [DraftSite(name="cloud", tier="cloud")]
        links = []
        media = leaf.media("cell")
        if self.uplink is not None:
            trunk = link_class(self.uplink)
            sites.append(DraftSite(name=hub, tier="gateway"))
            links.append(trunk.draft("uplink", hub, "cloud", "uplink-cell"))
            media += trunk.media("uplink-cell")
        sites.append(DraftSite(name=devices, tier="device"))
        links.append(leaf.draft(f"{devices}-link", devices, hub, "cell"))
        told = f"links: {leaf.told()} for each of the devices"
        if self.uplink is not None:
            told += f", {link_class(self.uplink).told()} from the access point to the cloud"
        return Draft(sites=tuple(sites), links=tuple(links), media=media, filled=(told,))


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree: the cloud is its root, devices are its leaves, gateways lie between.

    Args:
        depth: how many links lie between a device and the cloud.
        fanout: how many children the cloud and every gateway have.
        link: of each device; the name of a technology, or figures. The default, 10 Mbit/s and 20 ms, is a choice.
        trunk: of each gateway towards the cloud. The default, 1 Gbit/s and 2 ms, is a choice.
    """

    tiered: ClassVar[bool] = True

    depth: Annotated[int, Ge(1), Le(16)] = 2
    fanout: Annotated[int, Ge(1)] = 4
    link: str | LinkClass = field(default_factory=_default_access)
    trunk: str | LinkClass = field(default_factory=lambda: LinkClass(rate=1e9, latency=2e-3))

    def __post_init__(self) -> None:
        levels = [min(self.fanout, _MOST_SITES + 1) ** level for level in range(self.depth + 1)]
        _check_count(sum(levels[:-1]), _MOST_BY_NAME, "sites above the devices")
        _check_count(sum(levels))

    def draw(self, generator: np.random.Generator) -> Draft:
        """Draws nothing at random."""
        leaf, trunk = link_class(self.link), link_class(self.trunk)
        sites = [DraftSite(name="cloud", tier="cloud")]
        links = []
        media: tuple[tuple[str, float], ...] = ()
        parents = ["cloud"]
        for level in range(1, self.depth + 1):
            last = level == self.depth
            stem = "device" if last else "gateway" if self.depth == 2 else f"gateway-{level}"
            children = []
            for index, parent in enumerate(parents):
                name = _numbered(stem, index * self.fanout + 1, (index + 1) * self.fanout)
                of_links = leaf if last else trunk
                sites.append(DraftSite(name=name, tier="device" if last else "gateway"))
                links.append(of_links.draft(f"{name}-link", name, parent, f"cell-{parent}"))
                media += of_links.media(f"cell-{parent}")
                children += [f"{stem}-{number}" for number in range(index * self.fanout + 1, (index + 1) * self.fanout + 1)]
            parents = children
        told = [f"links: {leaf.told()} for each of the {len(parents):,} devices"]
        if self.depth > 1:
            told.append(f"links: {trunk.told()} for each of the gateways")
        return Draft(sites=tuple(sites), links=tuple(links), media=media, filled=tuple(told))


@dataclass(frozen=True, kw_only=True)
class Hierarchical:
    """Devices under gateways under edge servers under one cloud.

    Source of the shape: client-edge-cloud training, Liu et al., ICC 2020 (50 clients, 5 edge servers). Counts and defaults are choices.

    Args:
        edges: how many edge servers.
        gateways_per_edge: how many gateways each of them has.
        devices_per_gateway: how many devices each gateway has.
        access: links of devices; links of a shared technology to one gateway are one medium.
        backhaul: links from gateways to their edge server.
        core: links from edge servers to the cloud.
    """

    tiered: ClassVar[bool] = True

    edges: Annotated[int, Ge(1)] = 2
    gateways_per_edge: Annotated[int, Ge(1)] = 2
    devices_per_gateway: Annotated[int, Ge(1)] = 5
    access: str | LinkClass = "wifi4_20"
    backhaul: str | LinkClass = "eth_1g"
    core: str | LinkClass = "wan"

    def __post_init__(self) -> None:
        gateways = self.edges * self.gateways_per_edge
        _check_count(1 + self.edges + gateways, _MOST_BY_NAME, "sites above the devices")
        _check_count(1 + self.edges + gateways + gateways * self.devices_per_gateway)

    def draw(self, generator: np.random.Generator) -> Draft:
        """Draws nothing at random."""
        access, backhaul, core = link_class(self.access), link_class(self.backhaul), link_class(self.core)
        edges = _numbered("edge", 1, self.edges)
        sites = [DraftSite(name="cloud", tier="cloud"), DraftSite(name=edges, tier="edge")]
        links = [core.draft(f"{edges}-link", edges, "cloud", "cell-cloud")]
        media = core.media("cell-cloud")
        for edge in range(1, self.edges + 1):
            gateways = _numbered("gateway", (edge - 1) * self.gateways_per_edge + 1, edge * self.gateways_per_edge)
            sites.append(DraftSite(name=gateways, tier="gateway"))
            links.append(backhaul.draft(f"{gateways}-link", gateways, f"edge-{edge}", f"cell-edge-{edge}"))
            media += backhaul.media(f"cell-edge-{edge}")
        for gateway in range(1, self.edges * self.gateways_per_edge + 1):
            devices = _numbered("device", (gateway - 1) * self.devices_per_gateway + 1, gateway * self.devices_per_gateway)
            sites.append(DraftSite(name=devices, tier="device"))
            links.append(access.draft(f"{devices}-link", devices, f"gateway-{gateway}", f"cell-gateway-{gateway}"))
            media += access.media(f"cell-gateway-{gateway}")
        told = f"links: {access.told()} to gateways, {backhaul.told()} to edge servers, {core.told()} to the cloud"
        return Draft(sites=tuple(sites), links=tuple(links), media=media, filled=(told,))


# --- meshes -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Sites in rows and columns, each joined to the ones beside, above and below it.

    Args:
        rows: how many.
        columns: how many.
        spacing_km: between neighbours; a choice.
        rate: of every link, both directions; a choice.
        latency: of every link, one way; by its length when absent.
    """

    tiered: ClassVar[bool] = False

    rows: Annotated[int, Ge(1)]
    columns: Annotated[int, Ge(1)]
    spacing_km: Annotated[float, Gt(0)] = 10.0
    rate: Bandwidth = 1e9
    latency: Duration | None = None

    def __post_init__(self) -> None:
        _check_count(self.rows * self.columns, _MOST_BY_NAME)

    def draw(self, generator: np.random.Generator) -> Draft:
        """Draws nothing at random."""
        cells = [(row, column) for row in range(1, self.rows + 1) for column in range(1, self.columns + 1)]
        sites = [
            DraftSite(name=f"site-{row}-{column}", x_km=(column - 1) * self.spacing_km, y_km=(self.rows - row) * self.spacing_km)
            for row, column in cells
        ]
        pairs = [
            ((row, column), other)
            for row, column in cells
            for other in ((row, column + 1), (row + 1, column))
            if other[0] <= self.rows and other[1] <= self.columns
        ]
        links = [_mesh_link(f"site-{a[0]}-{a[1]}", f"site-{b[0]}-{b[1]}", self.rate, self.latency) for a, b in pairs]
        return Draft(sites=tuple(sites), links=tuple(links), filled=_mesh_told(self.rate, self.latency))


@dataclass(frozen=True, kw_only=True)
class RandomGeometric:
    """Sites strewn evenly over a square, each joined to all within a radius.

    Args:
        sites: how many.
        side_km: of the square; a choice.
        radius_km: the longest link; when absent side x sqrt(2 ln(n) / (pi n)), which is sqrt(2) times the radius at which such a graph
            of n sites begins to be connected (Gupta and Kumar, 1998).
        rate: of every link, both directions; a choice.
        latency: of every link, one way; by its length when absent.
        join: join parts that no link joins by the shortest links that do it; without it they stay apart.
    """

    tiered: ClassVar[bool] = False

    sites: Annotated[int, Ge(2)]
    side_km: Annotated[float, Gt(0)] = 1000.0
    radius_km: Annotated[float, Gt(0)] | None = None
    rate: Bandwidth = 1e9
    latency: Duration | None = None
    join: bool = True

    def __post_init__(self) -> None:
        _check_count(self.sites, _MOST_PAIRWISE)

    def draw(self, generator: np.random.Generator) -> Draft:
        """Two numbers for the place of each site."""
        places = generator.random((self.sites, 2)) * self.side_km
        radius_km = self.radius_km
        told = []
        if radius_km is None:
            radius_km = self.side_km * math.sqrt(2 * math.log(self.sites) / (math.pi * self.sites))
            told.append(f"radius: {radius_km:.4g} km, for a graph that is likely to be connected")
        distances = _distances(places)
        joined = np.triu(distances <= radius_km, 1)
        return _mesh(places, distances, joined, self.rate, self.latency, self.join, told)


@dataclass(frozen=True, kw_only=True)
class Waxman:
    """Sites strewn evenly over a square, joined the more likely the nearer they are: P = beta exp(-distance / (alpha longest)).

    Source: B. M. Waxman, "Routing of multipoint connections", IEEE JSAC 6(9), 1988.

    Args:
        sites: how many.
        alpha: how far links reach; `longest` is the distance of the two sites farthest apart.
        beta: how many links there are.
        side_km: of the square; a choice.
        rate: of every link, both directions; a choice.
        latency: of every link, one way; by its length when absent.
        join: join parts that no link joins by the shortest links that do it; without it they stay apart.
    """

    tiered: ClassVar[bool] = False

    sites: Annotated[int, Ge(2)]
    alpha: Annotated[float, Gt(0)] = 0.3
    beta: Annotated[float, Gt(0), Le(1)] = 0.4
    side_km: Annotated[float, Gt(0)] = 1000.0
    rate: Bandwidth = 1e9
    latency: Duration | None = None
    join: bool = True

    def __post_init__(self) -> None:
        _check_count(self.sites, _MOST_PAIRWISE)

    def draw(self, generator: np.random.Generator) -> Draft:
        """Two numbers for the place of each site, then one for each pair."""
        places = generator.random((self.sites, 2)) * self.side_km
        distances = _distances(places)
        chances = self.beta * np.exp(-distances / (self.alpha * distances.max()))
        joined = np.triu(generator.random(distances.shape) < chances, 1)
        return _mesh(places, distances, joined, self.rate, self.latency, self.join, [])


@dataclass(frozen=True, kw_only=True)
class BarabasiAlbert:
    """Sites that come one by one and join those that have many links already: few hubs, many leaves.

    It begins with a star of `links_per_site` + 1 sites. Source: Barabasi and Albert, "Emergence of scaling in random networks",
    Science 286, 1999. Places, which the model does not have, are strewn evenly over a square.

    Args:
        sites: how many.
        links_per_site: how many links a new site makes, to different sites.
        side_km: of the square; a choice.
        rate: of every link, both directions; a choice.
        latency: of every link, one way; by its length when absent.
    """

    tiered: ClassVar[bool] = False

    sites: Annotated[int, Ge(2)]
    links_per_site: Annotated[int, Ge(1)] = 2
    side_km: Annotated[float, Gt(0)] = 1000.0
    rate: Bandwidth = 1e9
    latency: Duration | None = None

    def __post_init__(self) -> None:
        _check_count(self.sites, 100_000)
        if self.links_per_site >= self.sites:
            raise ValueError(f"expected links_per_site below the number of sites, {self.sites}, got {self.links_per_site}")

    def draw(self, generator: np.random.Generator) -> Draft:
        """Two numbers for the place of each site, then one for each link and for each that hits a site twice."""
        places = generator.random((self.sites, 2)) * self.side_km
        count = self.links_per_site
        pairs = [(0, leaf) for leaf in range(1, count + 1)]
        # Every site stands here once for each of its links, so that a draw hits it in proportion to them.
        ends = [end for pair in pairs for end in pair]
        for new in range(count + 1, self.sites):
            chosen: dict[int, None] = {}
            while len(chosen) < count:
                chosen[ends[int(generator.random() * len(ends))]] = None
            pairs += [(old, new) for old in chosen]
            ends += [end for old in chosen for end in (old, new)]
        sites = tuple(_strewn(places))
        links = tuple(_mesh_link(sites[a].name, sites[b].name, self.rate, self.latency) for a, b in pairs)
        return Draft(sites=sites, links=links, filled=_mesh_told(self.rate, self.latency))


def _strewn(places: npt.NDArray[np.float64]) -> Iterator[DraftSite]:
    for number, (x_km, y_km) in enumerate(places.tolist(), 1):
        yield DraftSite(name=f"site-{number}", x_km=x_km, y_km=y_km)


def _mesh_link(a: str, b: str, rate_bps: float, latency_s: float | None) -> DraftLink:
    return DraftLink(a=a, b=b, up_bps=rate_bps, down_bps=rate_bps, latency_s=latency_s)


def _mesh_told(rate_bps: float, latency_s: float | None) -> tuple[str, ...]:
    latency = "" if latency_s is None else f", {format_duration(latency_s)}"
    return (f"links: {format_rate(rate_bps)}{latency} each",)


def _distances(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n, 2) places to (n, n) distances."""
    found: npt.NDArray[np.float64] = np.hypot(*(axis[:, None] - axis for axis in places.T))
    return found


def _mesh(
    places: npt.NDArray[np.float64],
    distances: npt.NDArray[np.float64],
    joined: npt.NDArray[np.bool_],
    rate_bps: float,
    latency_s: float | None,
    join: bool,
    told: list[str],
) -> Draft:
    """The draft of strewn sites, its parts joined if wanted."""
    sites = tuple(_strewn(places))
    pairs = [(int(a), int(b)) for a, b in np.argwhere(joined)]
    added = _joining(pairs, distances) if join else []
    links = tuple(_mesh_link(sites[a].name, sites[b].name, rate_bps, latency_s) for a, b in pairs + added)
    if added:
        told = [*told, f"joined: parts that no link joined, by {counted(len(added), 'link')}: {named(_names(sites, added))}"]
    return Draft(sites=sites, links=links, filled=(*_mesh_told(rate_bps, latency_s), *told))


def _names(sites: tuple[DraftSite, ...], pairs: list[tuple[int, int]]) -> Iterator[str]:
    return (f"{sites[a].name}-{sites[b].name}" for a, b in pairs)


def _joining(pairs: list[tuple[int, int]], distances: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """The shortest links that make one part of all, by Kruskal's rule; ties by number."""
    parent = list(range(len(distances)))

    def root(site: int) -> int:
        while parent[site] != site:
            parent[site] = parent[parent[site]]
            site = parent[site]
        return site

    parts = len(distances)
    for a, b in pairs:
        if root(a) != root(b):
            parent[root(a)] = root(b)
            parts -= 1
    if parts == 1:
        return []
    first, second = np.triu_indices(len(distances), 1)
    added = []
    for index in np.argsort(distances[first, second], kind="stable").tolist():
        a, b = int(first[index]), int(second[index])
        if root(a) != root(b):
            parent[root(a)] = root(b)
            added.append((a, b))
            parts -= 1
            if parts == 1:
                break
    return added
