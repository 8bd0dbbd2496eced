"""Devices, the links that join them, and what they share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import networkx as nx

from netfl.network.battery import Battery
from netfl.network.bursts import LossBursts
from netfl.network.outages import Outages
from netfl.network.routes import Search
from netfl.network.variation import Rates
from netfl.parts import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netfl.network.routes import Hop, Route

__all__ = ["Link", "Medium", "Routing", "Site", "Topology", "TopologyError"]

Routing = Literal["latency", "hops", "cost"]
Wrong = tuple[tuple[str, ...], str]
"""What it is about, as ("links", name), ("media", name) or ("sites", name); and what is wrong with it."""


class TopologyError(ValueError):
    """Sites, links and media that make no topology; its text has one line for each reason."""

    def __init__(self, *found: Wrong) -> None:
        super().__init__(*found)

    @property
    def found(self) -> tuple[Wrong, ...]:
        """Every reason, in the order in which they were found."""
        return self.args

    def __str__(self) -> str:
        return "\n".join(message for _, message in self.found)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A device's place in the network.

    Args:
        name: unique among the sites.
        tier: how near it is to the edge of the network.
        outages: when it is down; None if never.
        battery: what it lives on; None if that never runs out.
        label: what people call it; need not be unique.
        latitude: degrees north; None if unknown.
        longitude: degrees east; None if unknown.
        x_km: place on a plane, where there is no place on the globe; None if unknown.
        y_km: likewise.
    """

    name: str
    tier: Literal["device", "gateway", "edge", "cloud"] = "device"
    outages: Outages | None = None
    battery: Battery | None = None
    label: str = ""
    latitude: float | None = None
    longitude: float | None = None
    x_km: float | None = None
    y_km: float | None = None


@dataclass(frozen=True, kw_only=True)
class Medium:
    """Airtime that several links share: a Wi-Fi cell, a radio channel.

    A bit over a member link takes `1 / rate` seconds of airtime, where `rate` is that link's in that direction; the medium
    has n ** -efficiency_exponent seconds of airtime a second while n member links carry moving flows.

    Args:
        name: unique among the media.
        efficiency_exponent: at least 0; 0 when contention costs nothing. Wi-Fi: 0.11, a choice that follows the shape of
            Bianchi's saturation analysis (JSAC 2000); the share that one station reaches is already in its link's rate.
        duplex: half: both directions take of the same airtime (Wi-Fi; cells of time division, TDD); full: each has its own (cells of frequency
            division, FDD).
    """

    name: str
    efficiency_exponent: float = 0.0
    duplex: Literal["half", "full"] = "half"


@dataclass(frozen=True, kw_only=True)
class Link:
    """What joins two sites.

    A full-duplex link has one capacity a direction. A half-duplex link has one second of airtime a second for both, and a bit
    takes `1 / rate` of it. A link in a medium has no capacity of its own: the medium's airtime is all there is.

    Args:
        name: unique among the links.
        a: the end nearer the edge of the network.
        b: the other end.
        up_bps: rate from a to b.
        down_bps: rate from b to a.
        latency_s: one way, the same in both directions.
        duplex: full or half.
        medium: name of the medium that it belongs to; None if it shares with no other link.
        technology: what it is, for reports.
        transmit_w: power of the radio at a while it sends.
        receive_w: power of the radio at a while it receives.
        b_transmit_w: the same at b.
        b_receive_w: the same at b.
        duty_cycle: share of the time for which its radios may send: the rates have it in them, a bit takes this share of a medium's airtime,
            and the radios draw power for this share.
        outages: when it is down; None if never.
        up_rates: the rate from a to b where it changes over time; None if it is always up_bps.
        down_rates: likewise from b to a.
        loss_up: probability that a packet from a to b is lost.
        loss_down: the same from b to a.
        bursts_up: how that changes over time, from a to b, in place of `loss_up`; None if it does not.
        bursts_down: likewise from b to a.
        queue_bytes: what waits before it at most, in each direction, before packets are dropped; None for what its rate carries in 100 ms (a choice:
            that of the measured transfers).
        cost: what routing by cost adds up, either direction; None if the link has none.
    """

    name: str
    a: str
    b: str
    up_bps: float
    down_bps: float
    latency_s: float = 0.0
    duplex: Literal["full", "half"] = "full"
    medium: str | None = None
    technology: str = ""
    transmit_w: float = 0.0
    receive_w: float = 0.0
    b_transmit_w: float = 0.0
    b_receive_w: float = 0.0
    duty_cycle: float = 1.0
    outages: Outages | None = None
    up_rates: Rates | None = None
    down_rates: Rates | None = None
    loss_up: float = 0.0
    loss_down: float = 0.0
    bursts_up: LossBursts | None = None
    bursts_down: LossBursts | None = None
    queue_bytes: float | None = None
    cost: float | None = None

    @property
    def loses(self) -> bool:
        """Whether any packet may be lost on it, in either direction."""
        return any((self.loss_up, self.loss_down, self.bursts_up, self.bursts_down))


class Topology:
    """Sites joined by links.

    Args:
        sites: in any order.
        links: in any order; at most one between two sites.
        media: those that links name.
        name: for reports.
        routing: what a route has least of: latency; hops; or the cost of its links, which all of them must then have.

    Raises:
        TopologyError: every name that is used twice or unknown, every link from a site to itself, every pair of parallel links,
            every rate, latency, cost or exponent out of range.
    """

    def __init__(
        self,
        sites: Iterable[Site],
        links: Iterable[Link] = (),
        media: Iterable[Medium] = (),
        name: str = "",
        routing: Routing = "latency",
    ) -> None:
        sites, links, media = list(sites), list(links), list(media)
        problems = _problems(sites, links, media) + _cost_problems(links, routing)
        if problems:
            raise TopologyError(*problems)
        self.name = name
        self.routing: Routing = routing
        self.sites = {site.name: site for site in sites}
        self.links = {link.name: link for link in links}
        self.media = {medium.name: medium for medium in media}

    @cached_property
    def graph(self) -> nx.Graph[str]:
        """The sites as nodes (attribute `site`) and the links as edges (attribute `link`)."""
        graph: nx.Graph[str] = nx.Graph(name=self.name)
        for site in self.sites.values():
            graph.add_node(site.name, site=site)
        for link in self.links.values():
            graph.add_edge(link.a, link.b, link=link)
        return graph

    @cached_property
    def _search(self) -> Search:
        return Search(self.sites, self.links, _WEIGHTS[self.routing])

    @property
    def numbers(self) -> Mapping[str, int]:
        """The sites' numbers by their names, from 0 in the order in which they were given."""
        return self._search.numbers

    def links_at(self, site: str) -> list[Link]:
        """The links that end at a site, in the order in which they were given."""
        return self._search.links_at(site)

    def route(self, source: str, destination: str) -> Route:
        """The route of least latency, hops or cost; among equals the one of fewest hops, then the first by the names on the way.

        The way back is the same way. From a site to itself the route has no hops.

        Raises:
            NoRouteError: a site is unknown, or no path joins the two.
        """
        return self._search.route(source, destination)

    def detour(self, source: str, destination: str, passes: Callable[[Hop], bool]) -> Route | None:
        """The best route, by the same rules as `route`, over those hops that pass; None if there is none.

        Args:
            source: a site, not the destination.
            destination: another one.
            passes: whether bytes can cross a hop now.
        """
        return self._search.detour(source, destination, passes)


def _femtoseconds(link: Link) -> int:
    """A link's latency as a whole number, so that equal sums are equal whatever the order of adding."""
    return round(link.latency_s * 1e15)


def _billionths(link: Link) -> int:
    """A link's cost as a whole number, likewise."""
    assert link.cost is not None
    return round(link.cost * 1e9)


_WEIGHTS: dict[Routing, Callable[[Link], int]] = {"latency": _femtoseconds, "hops": lambda link: 1, "cost": _billionths}


def _cost_problems(links: Sequence[Link], routing: Routing) -> list[Wrong]:
    problems: list[Wrong] = [
        (("links", link.name), f"link '{link.name}': expected cost of at least 0 and finite, got {link.cost!r}")
        for link in links
        if link.cost is not None and not (0 <= link.cost < math.inf)
    ]
    without = [link.name for link in links if link.cost is None]
    if routing == "cost" and without:
        rest = f" and {len(without) - 1} more" if len(without) > 1 else ""
        problems.append((("links", without[0]), f"routing by cost: expected a cost on every link, got none on '{without[0]}'{rest}"))
    return problems


def _problems(sites: Sequence[Site], links: Sequence[Link], media: Sequence[Medium]) -> list[Wrong]:
    problems: list[Wrong] = []
    site_names, link_names, medium_names = [site.name for site in sites], [link.name for link in links], [medium.name for medium in media]
    for what, block, names in (("site", "sites", site_names), ("link", "links", link_names), ("medium", "media", medium_names)):
        if len(set(names)) < len(names):
            twice = [(name, n) for name, n in Counter(names).items() if n > 1]
            problems += [((block, name), f"expected unique {what} names, got '{name}' {n} times") for name, n in twice]
    # An outage timeline is looked up by the name of a site or a link, so the two share one space of names.
    known_sites, known_media = set(site_names), set(medium_names)
    both = known_sites.intersection(link_names)
    problems += [(("links", name), f"expected different names for sites and links, got '{name}' for both") for name in sorted(both)]
    pairs: dict[tuple[str, str], str] = {}
    for link in links:
        a, b, place = link.a, link.b, ("links", link.name)
        for end in (a, b):
            if end not in known_sites:
                problems.append((place, f"link '{link.name}' ends at '{end}', which is no site. {nearest(end, site_names)}".rstrip()))
        if a == b:
            problems.append((place, f"link '{link.name}' joins '{a}' to itself"))
        pair = (a, b) if a < b else (b, a)
        if pair in pairs:
            problems.append((place, f"links '{pairs[pair]}' and '{link.name}' both join '{pair[0]}' and '{pair[1]}'"))
        pairs.setdefault(pair, link.name)
        if link.medium is not None and link.medium not in known_media:
            hint = nearest(link.medium, medium_names)
            problems.append((place, f"link '{link.name}' is in '{link.medium}', which is no medium. {hint}".rstrip()))
        if not _in_range(link):
            problems += [(place, message) for message in _range_problems(link)]
    full_media = {medium.name for medium in media if medium.duplex == "full"}
    problems += [
        (
            ("links", link.name),
            f"link '{link.name}' is half-duplex, and its medium '{link.medium}' has airtime of its own for each direction",
        )
        for link in links
        if link.duplex == "half" and link.medium in full_media
    ]
    problems += [
        (
            ("media", medium.name),
            f"medium '{medium.name}': expected efficiency_exponent of at least 0 and finite, got {medium.efficiency_exponent!r}",
        )
        for medium in media
        if not (0 <= medium.efficiency_exponent < math.inf)
    ]
    return problems


def _in_range(link: Link) -> bool:
    return (
        0 < link.up_bps < math.inf
        and 0 < link.down_bps < math.inf
        and 0 <= link.latency_s < math.inf
        and 0 <= link.loss_up < 1
        and 0 <= link.loss_down < 1
        and not (link.loss_up and link.bursts_up is not None)
        and not (link.loss_down and link.bursts_down is not None)
        and (link.queue_bytes is None or 0 <= link.queue_bytes < math.inf)
    )


def _range_problems(link: Link) -> list[str]:
    """Each thing that is out of range."""
    problems = []
    for direction, rate in (("up", link.up_bps), ("down", link.down_bps)):
        if not (0 < rate < math.inf):
            problems.append(f"link '{link.name}': expected {direction}_bps above 0 and finite, got {rate!r}")
    if not (0 <= link.latency_s < math.inf):
        problems.append(f"link '{link.name}': expected latency_s of at least 0 and finite, got {link.latency_s!r}")
    for direction, loss in (("up", link.loss_up), ("down", link.loss_down)):
        if not (0 <= loss < 1):
            problems.append(f"link '{link.name}': expected loss_{direction} of at least 0 and below 1, got {loss!r}")
    for direction, loss, bursts in (("up", link.loss_up, link.bursts_up), ("down", link.loss_down, link.bursts_down)):
        if loss and bursts is not None:
            problems.append(f"link '{link.name}': expected no loss_{direction} beside bursts_{direction}, got {loss!r}")
    if link.queue_bytes is not None and not (0 <= link.queue_bytes < math.inf):
        problems.append(f"link '{link.name}': expected queue_bytes of at least 0 and finite, got {link.queue_bytes!r}")
    return problems
