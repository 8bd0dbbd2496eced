"""Routes: hops that follow one another, and the search for the best.

Of least length, which is a whole number; among equals the one of fewest hops, then the first by the names on the way.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from netfl.errors import NoRouteError
from netfl.parts import nearest

if TYPE_CHECKING:
    from netfl.network.bursts import LossBursts
    from netfl.network.topology import Link, Site
    from netfl.network.variation import Rates

__all__ = ["DEFAULT_QUEUE_S", "Hop", "Route", "Search"]

_MOST_ROUTES = 20_000
"""So many routes are remembered; one that was forgotten is found again when somebody asks for it."""

DEFAULT_QUEUE_S = 0.1
"""Seconds for which a link's queue can hold what arrives, where nothing else is said."""

_HOP_BITS, _SITE_BITS = 32, 32
"""Room for the number of hops, and of sites, in the whole numbers that a search compares."""
_UNREACHED = 1 << 256
"""Longer than any way."""


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
    """Hops, each of which begins where the last one ended. Never changed.

    There may be two objects of the same way: a `Search` forgets routes. What is to be known by its way is kept by its `hops`.

    Args:
        hops: empty for a route from a site to itself.
        source: the first site.
        destination: the last site.
        latency_s: of all its links.
    """

    __slots__ = ("_devices", "_text", "destination", "hops", "latency_s", "source")

    def __init__(self, hops: tuple[Hop, ...], source: str, destination: str) -> None:
        self.hops = hops
        self.source = source
        self.destination = destination
        self.latency_s = sum([hop.link.latency_s for hop in hops])
        self._devices: tuple[str, ...] | None = None
        self._text = ""

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the sites on the way, both ends included."""
        found = self._devices
        if found is None:
            found = self._devices = (self.source, *[hop.link.b if hop.forward else hop.link.a for hop in self.hops])
        return found

    @property
    def text(self) -> str:
        """Those names as traces have them, with `>` between."""
        if not self._text:
            self._text = ">".join(self.devices)
        return self._text


class Search:
    """The best routes between the sites of a topology.

    Args:
        sites: by name.
        links: by name.
        weight: what a link adds to a route's length: a whole number, so that equal sums are equal whatever the order of adding.
    """

    def __init__(self, sites: Mapping[str, Site], links: Mapping[str, Link], weight: Callable[[Link], int]) -> None:
        self._map = _Map(sites, links, weight)
        self._reaches: dict[int, _Reach] = {}
        self._asked = [0] * len(self._map.names)
        self._routes: dict[tuple[str, str], Route] = {}
        self._detours: dict[tuple[Hop, ...], Route] = {}

    @property
    def numbers(self) -> Mapping[str, int]:
        """The sites' numbers by their names, from 0 in the order in which they were given."""
        return self._map.number

    def links_at(self, site: str) -> list[Link]:
        """The links that end at a site, in the order in which they were given."""
        return list(self._map.links_at[self._map.number[site]])

    def route(self, source: str, destination: str) -> Route:
        """The best route from one site to another; from a site to itself it has no hops.

        Raises:
            NoRouteError: a site is unknown, or no path joins the two.
        """
        key = (source, destination)
        found = self._routes.get(key)
        if found is None:
            if len(self._routes) >= _MOST_ROUTES:
                # All of them: who asks for more in turn, again and again, would not find those that had been kept either.
                self._routes.clear()
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
        on = self._map
        for name in (source, destination):
            if name not in on.number:
                raise NoRouteError(f"no device '{name}' in the topology. {nearest(name, on.names)}".rstrip())
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
        asked[last] = of_last = asked[last] + 1
        asked[first] = of_first = asked[first] + 1
        if last in self._reaches:
            return last
        return first if first in self._reaches or of_first > of_last else last


_Trail = tuple[int, int, Hop, Hop]
"""How a site is left: its number, what the link adds to a way's length, the hop away from it, and the hop back."""
_Edge = tuple[int, int, _Trail]
"""The site at the other end of a link, by how much the mark of a search grows from this site to that one, and how this one is left."""


class _Map:
    """The topology as searches need it: sites by number, and what is next to what. Arguments as those of `Search`."""

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
