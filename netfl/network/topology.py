"""Devices, the links that join them, and the routes between them."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Literal

import networkx as nx

from netfl.errors import NoRouteError
from netfl.network.battery import Battery
from netfl.network.bursts import LossBursts
from netfl.network.outages import Outages
from netfl.network.variation import Rates
from netfl.parts import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DEFAULT_QUEUE_S", "Hop", "Link", "Medium", "Route", "Routing", "Site", "Topology"]

DEFAULT_QUEUE_S = 0.1
"""Seconds for which a link's queue can hold what arrives, where nothing else is said."""

_HOP_BITS, _SITE_BITS = 32, 32
"""Room for the number of hops, and of sites, in the whole numbers that a search compares."""
_UNREACHED = 1 << 256
"""Longer than any way."""

Routing = Literal["latency", "hops", "cost"]


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


class Hop:
    """One link, crossed in one direction. Two hops are equal only if they are the same object. Never changed.

    Args:
        link: which.
        forward: True from a to b.
        rate_bps: the link's rate in this direction.
    """

    __slots__ = ("forward", "link", "rate_bps")

    def __init__(self, link: Link, forward: bool) -> None:
        self.link = link
        self.forward = forward
        self.rate_bps = link.up_bps if forward else link.down_bps

    @property
    def source(self) -> str:
        """The site that sends."""
        return self.link.a if self.forward else self.link.b

    @property
    def destination(self) -> str:
        """The site that receives."""
        return self.link.b if self.forward else self.link.a

    @property
    def rates(self) -> Rates | None:
        """The rate as a function of time; None where it does not change."""
        return self.link.up_rates if self.forward else self.link.down_rates

    def air_s(self, num_bytes: int) -> float:
        """For how long so many bytes keep the sender's radio on: as long as they take at the link's own rate."""
        return 8 * num_bytes / self.rate_bps * self.link.duty_cycle

    @property
    def loss(self) -> float:
        """Probability that a packet is lost in this direction; the mean over time where it comes in bursts."""
        own = self.link.bursts_up if self.forward else self.link.bursts_down
        if own is not None:
            return own.mean_loss
        return self.link.loss_up if self.forward else self.link.loss_down

    @property
    def bursts(self) -> LossBursts | None:
        """How that probability changes over time; None if it does not."""
        found = self.link.bursts_up if self.forward else self.link.bursts_down
        return None if found is None or found.loss_in_bad == found.loss_in_good else found

    @property
    def queue_bytes(self) -> float:
        """What can wait before the link in this direction."""
        return DEFAULT_QUEUE_S * self.rate_bps / 8 if self.link.queue_bytes is None else self.link.queue_bytes


class Route:
    """Hops, each of which begins where the last one ended. Two routes are equal only if they are the same object. Never changed.

    Args:
        hops: empty for a route from a site to itself.
        source: the first site.
        destination: the last site.
        latency_s: of all its links.
    """

    __slots__ = ("_devices", "destination", "hops", "latency_s", "source")

    def __init__(self, hops: tuple[Hop, ...], source: str, destination: str) -> None:
        self.hops = hops
        self.source = source
        self.destination = destination
        self.latency_s = sum([hop.link.latency_s for hop in hops])
        self._devices: tuple[str, ...] | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the sites on the way, both ends included."""
        found = self._devices
        if found is None:
            found = self._devices = (self.source, *[hop.link.b if hop.forward else hop.link.a for hop in self.hops])
        return found


class Topology:
    """Sites joined by links.

    Args:
        sites: in any order.
        links: in any order; at most one between two sites.
        media: those that links name.
        name: for reports.
        routing: what a route has least of: latency; hops; or the cost of its links, which all of them must then have.

    Raises:
        ValueError: every name that is used twice or unknown, every link from a site to itself, every pair of parallel links,
            every rate, latency, cost or exponent out of range; one line each.
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
            raise ValueError("\n".join(problems))
        self.name = name
        self.routing: Routing = routing
        self.sites = {site.name: site for site in sites}
        self.links = {link.name: link for link in links}
        self.media = {medium.name: medium for medium in media}
        self._reaches: dict[int, _Reach] = {}
        self._asked: dict[int, int] = {}
        self._routes: dict[tuple[str, str], Route] = {}
        self._detours: dict[tuple[Hop, ...], Route] = {}

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
    def _map(self) -> _Map:
        return _Map(self.sites, self.links, _WEIGHTS[self.routing])

    def links_at(self, site: str) -> list[Link]:
        """The links that end at a site, in the order in which they were given."""
        return list(self._map.links_at[self._map.number[site]])

    def route(self, source: str, destination: str) -> Route:
        """The route of least latency, hops or cost; among equals the one of fewest hops, then the first by the names on the way.

        The way back is the same way. From a site to itself the route has no hops.

        Raises:
            NoRouteError: a site is unknown, or no path joins the two.
        """
        key = (source, destination)
        found = self._routes.get(key)
        if found is None:
            found = self._routes[key] = self._find(source, destination)
        return found

    def detour(self, source: str, destination: str, passes: Callable[[Hop], bool]) -> Route | None:
        """The best route, by the same rules as `route`, over those hops that pass; None if there is none.

        Args:
            source: a site, not the destination.
            destination: another one.
            passes: whether bytes can cross a hop now.
        """
        on, root = self._map, min(source, destination)
        leaf = on.number[destination if root == source else source]
        ways: dict[int, list[Hop]] = {}
        # In this order, the first way found to a site is the least by weight, then hops, then names as read from the root.
        frontier: list[tuple[int, tuple[str, ...], int, list[Hop]]] = [(0, (root,), on.number[root], [])]
        while frontier and leaf not in ways:
            length, names, site, hops = heapq.heappop(frontier)
            if site in ways:
                continue
            ways[site] = hops
            for other, _, (_, weight, there, back) in chain(*on.around(site)):
                taken = there if root == source else back
                if other not in ways and passes(taken):
                    heapq.heappush(frontier, (length + weight, (*names, on.names[other]), other, [*hops, taken]))
        if leaf not in ways:
            return None
        way = tuple(ways[leaf] if root == source else reversed(ways[leaf]))
        usual = self.route(source, destination)
        if way == usual.hops:
            return usual
        found = self._detours.get(way)
        if found is None:
            found = self._detours[way] = Route(way, source, destination)
        return found

    def _find(self, source: str, destination: str) -> Route:
        for name in (source, destination):
            if name not in self.sites:
                raise NoRouteError(f"no device '{name}' in the topology. {nearest(name, list(self.sites))}".rstrip())
        on = self._map
        first, last = on.number[source], on.number[destination]
        root = self._root(first, last)
        reach = self._reaches.get(root)
        if reach is None:
            reach = self._reaches[root] = _Reach(root, on)
        leaf = last if root == first else first
        if not reach.reaches(leaf):
            raise NoRouteError(f"no path of links joins '{source}' and '{destination}'")
        way = reach.way(leaf, read_from_root=(source < destination) == (root == first))
        if leaf == first:
            return Route(tuple([back for _, _, _, back in way]), source, destination)
        way.reverse()
        return Route(tuple([there for _, _, there, _ in way]), source, destination)

    def _root(self, first: int, last: int) -> int:
        """The end from which to look: one search serves every route from and to it, so the one that is asked for more often."""
        asked = self._asked
        asked[last] = of_last = asked.get(last, 0) + 1
        asked[first] = of_first = asked.get(first, 0) + 1
        if last in self._reaches:
            return last
        return first if first in self._reaches or of_first > of_last else last


_Trail = tuple[int, int, Hop, Hop]
"""How a site is left: its number, what the link adds to a way's length, the hop away from it, and the hop back."""
_Edge = tuple[int, int, _Trail]
"""The site at the other end of a link, by how much the mark of a search grows from this site to that one, and how this one is left."""


class _Map:
    """The topology as searches need it: sites by number, and what is next to what.

    Args:
        sites: by name.
        links: by name.
        weight: what a link adds to a way's length: a whole number, so that equal sums are equal whatever the order of adding.
    """

    def __init__(self, sites: Mapping[str, Site], links: Mapping[str, Link], weight: Callable[[Link], int]) -> None:
        self.names = list(sites)
        self.number = number = {name: place for place, name in enumerate(self.names)}
        self.links_at: list[list[Link]] = [[] for _ in self.names]
        for link in links.values():
            self.links_at[number[link.a]].append(link)
            self.links_at[number[link.b]].append(link)
        # Of the sites that a search has come to: the links to sites that lead on, and those to sites that have no other link.
        self.edges: list[tuple[list[_Edge], list[_Edge]] | None] = [None] * len(self.names)
        self._weight = weight
        self._hops: dict[str, tuple[Hop, Hop]] = {}

    def around(self, site: int) -> tuple[list[_Edge], list[_Edge]]:
        """The edges at a site: to those sites that lead on, and to those that have no other link."""
        found = self.edges[site]
        if found is None:
            found = self.edges[site] = ([], [])
            for link in self.links_at[site]:
                hops = self._hops.get(link.name)
                if hops is None:
                    hops = self._hops[link.name] = (Hop(link, True), Hop(link, False))
                other = self.number[link.a]
                back, there = hops
                if other == site:
                    other, there, back = self.number[link.b], back, there
                # A link's weight counts first, then that it is a hop: both are in one whole number, so that one comparison does. Its lowest bits
                # are left free: the mark of a site has its number there.
                length = ((self._weight(link) << _HOP_BITS) + 1) << _SITE_BITS
                found[len(self.links_at[other]) == 1].append((other, length + other - site, (site, length, there, back)))
        return found


class _Reach:
    """How far every site is from one root, and the best ways there. Ties go by the names as read from the lesser end.

    The search goes on as far as it is asked for: what is known of a site, and of all nearer ones, is final.

    Args:
        root: where the search starts.
        on: what to search.
    """

    def __init__(self, root: int, on: _Map) -> None:
        self._map = on
        self._root = root
        self._next: dict[int, _Trail] = {}
        self._towards: dict[int, _Trail] = {}
        # Of each site its mark: the length of the best way known, with the site's number in the lowest bits; and how that way leaves the one before.
        self._marks = [_UNREACHED] * len(on.names)
        self._marks[root] = root
        self._found: list[_Trail | None] = [None] * len(on.names)
        # Whether two ways may have been equal; if not, the search has found the only best way to each site.
        self._tied = False
        # What waits, the least mark first, and the last mark that came up: the way to its site, and to all of lesser marks, is the best.
        self._frontier = [root]
        self._reached = -1

    def reaches(self, goal: int) -> bool:
        """Whether any path joins it to the root. To be asked before its way is read."""
        if self._marks[goal] > self._reached:
            links = self._map.links_at[goal]
            if len(links) != 1:
                self._search(goal)
            elif self._marks[goal] == _UNREACHED:
                # It is found with the only site beside it, and no way leads on from it.
                number = self._map.number
                self._search(number[links[0].a] + number[links[0].b] - goal)
        return self._marks[goal] < _UNREACHED

    def _search(self, goal: int) -> None:
        """Go on until the best way to a site, and to those that have no link but to it, is known."""
        marks, found, frontier, edges = self._marks, self._found, self._frontier, self._map.edges
        of_site = (1 << _SITE_BITS) - 1
        push, pop = heapq.heappush, heapq.heappop
        tied = self._tied
        while frontier:
            mark = pop(frontier)
            site = mark & of_site
            if mark != marks[site]:
                continue
            self._reached = mark
            onward, ends = edges[site] or self._map.around(site)
            for other, step, trail in onward:
                there = mark + step
                before = marks[other]
                if there < before:
                    marks[other] = there
                    found[other] = trail
                    push(frontier, there)
                elif there == before:
                    tied = True
            for other, step, trail in ends:
                if marks[other] == _UNREACHED:
                    marks[other] = mark + step
                    found[other] = trail
            if site == goal:
                break
        self._tied = tied

    def way(self, leaf: int, read_from_root: bool) -> list[_Trail]:
        """From the leaf to the root, how each next site is left on the best way; of equal ones that which comes first by the names as read from
        one of the two.
        """
        root = self._root
        found: list[_Trail | None] | dict[int, _Trail] = self._found
        if self._tied:
            found = self._first_from_root(leaf) if read_from_root else self._first_from_leaf(leaf)
        way = []
        site = leaf
        while site != root:
            trail = found[site]
            assert trail is not None
            way.append(trail)
            site = trail[0]
        return way

    def _ways(self, site: int) -> list[_Trail]:
        """How the sites before it are left on all best ways to a site."""
        marks = self._marks
        here = marks[site] - site
        return [
            (other, length, back, there)
            for other, _, (_, length, there, back) in chain(*self._map.around(site))
            if marks[other] - other + length == here
        ]

    def _first_from_leaf(self, leaf: int) -> dict[int, _Trail]:
        """For a site, and all on its way, how the one before is left on the way that comes first as read from the leaf."""
        names, towards = self._map.names, self._next
        site = leaf
        while site != self._root:
            if site not in towards:
                towards[site] = min(self._ways(site), key=lambda trail: names[trail[0]])
            site = towards[site][0]
        return towards

    def _first_from_root(self, leaf: int) -> dict[int, _Trail]:
        """The same for the way that comes first as read from the root."""
        towards = self._towards
        waiting = [leaf]
        while waiting:
            site = waiting[-1]
            ways = [] if site == self._root or site in towards else self._ways(site)
            unknown = [trail[0] for trail in ways if trail[0] != self._root and trail[0] not in towards]
            if unknown:
                waiting += unknown
                continue
            waiting.pop()
            if len(ways) == 1:
                towards[site] = ways[0]
            elif ways:
                # Equal lengths have equal numbers of hops: names are compared place by place.
                towards[site] = min(ways, key=lambda trail: self._names_from_root(trail[0]))
        return towards

    def _names_from_root(self, site: int) -> list[str]:
        names = [self._map.names[site]]
        while site != self._root:
            site = self._towards[site][0]
            names.append(self._map.names[site])
        return names[::-1]


def _femtoseconds(link: Link) -> int:
    """A link's latency as a whole number, so that equal sums are equal whatever the order of adding."""
    return round(link.latency_s * 1e15)


def _billionths(link: Link) -> int:
    """A link's cost as a whole number, likewise."""
    assert link.cost is not None
    return round(link.cost * 1e9)


_WEIGHTS: dict[Routing, Callable[[Link], int]] = {"latency": _femtoseconds, "hops": lambda link: 1, "cost": _billionths}


def _cost_problems(links: Sequence[Link], routing: Routing) -> list[str]:
    problems = [
        f"link '{link.name}': expected cost of at least 0 and finite, got {link.cost!r}"
        for link in links
        if link.cost is not None and not (0 <= link.cost < math.inf)
    ]
    without = [link.name for link in links if link.cost is None]
    if routing == "cost" and without:
        rest = f" and {len(without) - 1} more" if len(without) > 1 else ""
        problems.append(f"routing by cost: expected a cost on every link, got none on '{without[0]}'{rest}")
    return problems


def _problems(sites: Sequence[Site], links: Sequence[Link], media: Sequence[Medium]) -> list[str]:
    problems = []
    for what, names in (
        ("site", [site.name for site in sites]),
        ("link", [link.name for link in links]),
        ("medium", [medium.name for medium in media]),
    ):
        problems += [f"expected unique {what} names, got '{name}' {n} times" for name, n in Counter(names).items() if n > 1]
    # An outage timeline is looked up by the name of a site or a link, so the two share one space of names.
    both = {site.name for site in sites} & {link.name for link in links}
    problems += [f"expected different names for sites and links, got '{name}' for both" for name in sorted(both)]
    site_names, medium_names = [site.name for site in sites], [medium.name for medium in media]
    known_sites, known_media = set(site_names), set(medium_names)
    pairs: dict[tuple[str, str], str] = {}
    for link in links:
        for end in (link.a, link.b):
            if end not in known_sites:
                problems.append(f"link '{link.name}' ends at '{end}', which is no site. {nearest(end, site_names)}".rstrip())
        if link.a == link.b:
            problems.append(f"link '{link.name}' joins '{link.a}' to itself")
        pair = (min(link.a, link.b), max(link.a, link.b))
        if pair in pairs:
            problems.append(f"links '{pairs[pair]}' and '{link.name}' both join '{pair[0]}' and '{pair[1]}'")
        pairs.setdefault(pair, link.name)
        if link.medium is not None and link.medium not in known_media:
            hint = nearest(link.medium, medium_names)
            problems.append(f"link '{link.name}' is in '{link.medium}', which is no medium. {hint}".rstrip())
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
    full_media = {medium.name for medium in media if medium.duplex == "full"}
    problems += [
        f"link '{link.name}' is half-duplex, and its medium '{link.medium}' has airtime of its own for each direction"
        for link in links
        if link.duplex == "half" and link.medium in full_media
    ]
    problems += [
        f"medium '{medium.name}': expected efficiency_exponent of at least 0 and finite, got {medium.efficiency_exponent!r}"
        for medium in media
        if not (0 <= medium.efficiency_exponent < math.inf)
    ]
    return problems
