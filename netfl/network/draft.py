"""A network as a file or a generator states it, gaps included, and the rules that fill the gaps.

Every rule is a function from a draft to a draft that adds to `filled` what it did, in words. Figures used here: a great circle on
a globe of 6371.0088 km radius (the mean radius of the IUGG); fibre that is 1.5 times as long as the great circle, a choice within
the 1.3 to 1.5 that is usual for backbones; 5 microseconds a km, which is light in glass (200,000 km/s); at least 0.1 ms a link,
a choice for what switching costs on the shortest link.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from netfl.units import counted

if TYPE_CHECKING:
    from netfl.network.topology import Link, Site

__all__ = [
    "Draft",
    "DraftLink",
    "DraftSite",
    "central",
    "components",
    "connected",
    "distance_km",
    "falls_apart",
    "great_circle_km",
    "named",
    "neighbours",
    "parallel_merged",
    "path_latency_s",
    "with_latencies",
    "with_places",
    "with_rates",
    "without_self_loops",
]

EARTH_RADIUS_KM = 6371.0088
DETOUR = 1.5
SECONDS_PER_KM = 5e-6
LEAST_LATENCY_S = 0.1e-3

_MOST_SITES_FOR_CLOSENESS = 2_000


@dataclass(frozen=True, kw_only=True)
class DraftSite:
    """A site as far as it is known.

    Args:
        name: unique; a range such as `device-{1..9}` stands for several.
        label: what people call it.
        tier: None where it is not decided yet.
        latitude: degrees north; None if unknown.
        longitude: degrees east; None if unknown.
        x_km: place on a plane; None if unknown.
        y_km: likewise.
        junction: where links meet and nothing stands: it only forwards.
    """

    name: str
    label: str = ""
    tier: Literal["device", "gateway", "edge", "cloud"] | None = None
    latitude: float | None = None
    longitude: float | None = None
    x_km: float | None = None
    y_km: float | None = None
    junction: bool = False

    @property
    def on_globe(self) -> bool:
        """Whether its place on the globe is known."""
        return self.latitude is not None and self.longitude is not None


@dataclass(frozen=True, kw_only=True)
class DraftLink:
    """A link as far as it is known.

    Args:
        a: one end.
        b: the other end.
        name: unique; empty for `A-B`.
        up_bps: rate from a to b; None if unknown.
        down_bps: rate from b to a; None if unknown.
        latency_s: one way; None if unknown.
        cost: for routing by cost; None if it has none.
        technology: whose figures hold where there are none here.
        medium: the medium that it is part of.
        directed: whether the file speaks of the way from a to b alone.
    """

    a: str
    b: str
    name: str = ""
    up_bps: float | None = None
    down_bps: float | None = None
    latency_s: float | None = None
    cost: float | None = None
    technology: str | None = None
    medium: str | None = None
    directed: bool = False


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Sites and links, gaps included.

    Args:
        sites: in the order of the file.
        links: in the order of the file; several may join the same two sites.
        name: of the network.
        media: name to efficiency exponent.
        filled: what was filled in, merged or left out so far, a sentence each.
    """

    sites: tuple[DraftSite, ...]
    links: tuple[DraftLink, ...]
    name: str = ""
    media: tuple[tuple[str, float], ...] = ()
    filled: tuple[str, ...] = ()

    def noted(self, *sentences: str, **changes: object) -> Draft:
        """The same with changes and a word about them."""
        return replace(self, filled=(*self.filled, *sentences), **changes)  # type: ignore[arg-type]


def named(names: Iterable[str], most: int = 6) -> str:
    """Names for a sentence.

    >>> named(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    every = list(names)
    text = ", ".join(f"'{name}'" for name in every[:most])
    return f"{text} and {len(every) - most} more" if len(every) > most else text


# --- distances --------------------------------------------------------------------------------------------------------------


def great_circle_km(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """The distance over the globe between two places in degrees, by the haversine formula.

    >>> round(great_circle_km(0, 0, 0, 90), 1)  # a quarter of the equator: 6371.0088 * pi / 2
    10007.6
    """
    here, there = math.radians(latitude), math.radians(to_latitude)
    turn = math.radians(to_longitude - longitude)
    half = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(turn / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def distance_km(a: DraftSite, b: DraftSite) -> float | None:
    """The distance over the globe, else on the plane; None where neither is known."""
    if a.latitude is not None and a.longitude is not None and b.latitude is not None and b.longitude is not None:
        return great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude)
    if a.x_km is not None and a.y_km is not None and b.x_km is not None and b.y_km is not None:
        return math.hypot(a.x_km - b.x_km, a.y_km - b.y_km)
    return None


def path_latency_s(km: float) -> float:
    """The latency of a link of that distance: km x 1.5 x 5 us, at least 0.1 ms.

    >>> round(path_latency_s(1000), 9), path_latency_s(1)
    (0.0075, 0.0001)
    """
    return max(LEAST_LATENCY_S, km * DETOUR * SECONDS_PER_KM)


def neighbours(sites: Iterable[DraftSite | Site], links: Iterable[DraftLink | Link]) -> dict[str, list[str]]:
    """Every site's neighbours, each once, in the order of the links."""
    found: dict[str, dict[str, None]] = {site.name: {} for site in sites}
    for link in links:
        found[link.a][link.b] = None
        found[link.b][link.a] = None
    return {name: list(others) for name, others in found.items()}


# --- rules ------------------------------------------------------------------------------------------------------------------


def without_self_loops(draft: Draft) -> Draft:
    """Leaves out links from a site to itself: nothing would ever cross them."""
    loops = [link.a for link in draft.links if link.a == link.b]
    if not loops:
        return draft
    kept = tuple(link for link in draft.links if link.a != link.b)
    return draft.noted(f"left out: {counted(len(loops), 'link')} from a site to itself, at {named(loops)}", links=kept)


def with_places(draft: Draft) -> Draft:
    """Puts a site without coordinates at the middle of its neighbours that have some.

    Round by round: in a round, every site that lacks coordinates and has a neighbour with some is put at the mean of those
    neighbours on the globe. What no such neighbour reaches stays without.
    """
    places = {site.name: site for site in draft.sites}
    missing = [site.name for site in draft.sites if not site.on_globe]
    if not missing or len(missing) == len(places):
        return draft
    around = neighbours(draft.sites, draft.links)
    waiting = list(missing)
    while True:
        found: dict[str, DraftSite] = {}
        for name in waiting:
            middle = _middle([places[other] for other in around[name] if places[other].on_globe])
            if middle is not None:
                found[name] = replace(places[name], latitude=middle[0], longitude=middle[1])
        if not found:
            break
        places.update(found)
        waiting = [name for name in waiting if name not in found]
    put = [name for name in missing if name not in waiting]
    sentences = []
    if put:
        middles = f"the middle of {'its' if len(put) == 1 else 'their'} neighbours"
        sentences.append(f"coordinates: {counted(len(put), 'site')} without any put at {middles}: {named(put)}")
    if waiting:
        sentences.append(f"coordinates: unknown for {counted(len(waiting), 'site')}: {named(waiting)}")
    return draft.noted(*sentences, sites=tuple(places.values()))


def _middle(sites: list[DraftSite]) -> tuple[float, float] | None:
    """The mean of places on the globe, as that of their unit vectors; None without places or where they cancel out."""
    x = y = z = 0.0
    for site in sites:
        assert site.latitude is not None and site.longitude is not None
        latitude, longitude = math.radians(site.latitude), math.radians(site.longitude)
        x += math.cos(latitude) * math.cos(longitude)
        y += math.cos(latitude) * math.sin(longitude)
        z += math.sin(latitude)
    if math.hypot(x, y, z) < 1e-9 * max(1, len(sites)):
        return None
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def with_rates(draft: Draft, default_bps: float, shown: str) -> Draft:
    """Gives links without a rate the default one.

    Args:
        draft: what to fill.
        default_bps: bit/s.
        shown: the default for people.
    """
    links, bare, halves = [], 0, 0
    for link in draft.links:
        up_bps, down_bps = link.up_bps, link.down_bps
        bare += up_bps is None and down_bps is None
        halves += (up_bps is None) != (down_bps is None) and not link.directed
        default = up_bps if up_bps is not None else down_bps if down_bps is not None else default_bps
        up_bps = default if up_bps is None else up_bps
        links.append(replace(link, up_bps=up_bps, down_bps=default if down_bps is None else down_bps))
    sentences = []
    if bare:
        sentences.append(f"rate: {shown} (default_rate) for {_of(bare, len(links))} that state{'s' if bare == 1 else ''} none")
    if halves:
        sentences.append(f"rate: that of the other direction for {_of(halves, len(links))} with one direction's")
    return draft.noted(*sentences, links=tuple(links))


def with_latencies(draft: Draft, default_s: float, shown: str, by_distance: bool) -> Draft:
    """Gives links without a latency that of their length, or the default one where that is unknown or not wanted.

    Args:
        draft: what to fill.
        default_s: seconds, one way.
        shown: the default for people.
        by_distance: whether the distance of the two ends counts.
    """
    sites = {site.name: site for site in draft.sites}
    links, far, floored, defaulted = [], 0, 0, 0
    for link in draft.links:
        if link.latency_s is None:
            km = distance_km(sites[link.a], sites[link.b]) if by_distance else None
            if km is None:
                defaulted += 1
                link = replace(link, latency_s=default_s)
            else:
                far += 1
                floored += path_latency_s(km) == LEAST_LATENCY_S
                link = replace(link, latency_s=path_latency_s(km))
        links.append(link)
    sentences = []
    if far:
        least = f", of which {floored:,} got the least, 0.1 ms" if floored else ""
        sentences.append(f"latency: distance in km x 1.5 x 5 us for {_of(far, len(links))}{least}")
    if defaulted:
        why = " between sites whose distance is unknown" if by_distance else ""
        sentences.append(f"latency: {shown} (default_latency) for {_of(defaulted, len(links))}{why}")
    return draft.noted(*sentences, links=tuple(links))


def _of(number: int, total: int) -> str:
    if number == total:
        return "the only link" if total == 1 else f"all {total:,} links"
    return f"{number:,} of {total:,} links"


def parallel_merged(draft: Draft, how: Literal["sum", "max"]) -> Draft:
    """Makes one link of all that join the same two sites: rates added (or the largest), the least latency, the least cost.

    Two links of opposite directions in a directed file are the two directions of one link.
    """
    groups: dict[tuple[str, str], list[DraftLink]] = defaultdict(list)
    for link in draft.links:
        groups[min(link.a, link.b), max(link.a, link.b)].append(link)
    combine = sum if how == "sum" else max
    links, merged, pairs, one_way = [], 0, 0, 0
    for group in groups.values():
        first = group[0]
        ahead = [link for link in group if link.a == first.a]
        back = [link for link in group if link.a != first.a]
        up = [_rate(link.up_bps) for link in ahead] + [_rate(link.down_bps) for link in back if not link.directed]
        down = [_rate(link.down_bps) for link in ahead if not link.directed] + [_rate(link.up_bps) for link in back]
        one_way += not down
        pairs += bool(ahead and back and all(link.directed for link in group))
        if len(group) > 1 + bool(back and all(link.directed for link in group)):
            merged += 1
        costs = [link.cost for link in group if link.cost is not None]
        latencies = [link.latency_s for link in group if link.latency_s is not None]
        links.append(
            replace(
                first,
                up_bps=combine(up),
                down_bps=combine(down or up),
                latency_s=min(latencies, default=None),
                cost=min(costs, default=None),
                directed=False,
            )
        )
    sentences = []
    if pairs:
        sentences.append(f"directions: {counted(pairs, 'pair')} of opposite directed links made one link each")
    if one_way:
        sentences.append(f"directions: {counted(one_way, 'link')} with one direction in the file got its rate both ways")
    if merged:
        rates = "rates added" if how == "sum" else "the largest rate kept"
        extra = len(draft.links) - len(links) - pairs
        sentences.append(f"parallel: {counted(extra, 'link')} merged into {counted(merged, 'other')} between the same two sites, {rates}")
    return draft.noted(*sentences, links=tuple(links))


def _rate(value: float | None) -> float:
    assert value is not None
    return value


def components(around: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The names of the sites of every part that links join, the largest part first; among equals the one of the least name.

    Args:
        around: every site's neighbours.
    """
    seen: set[str] = set()
    found = []
    for start in around:
        if start in seen:
            continue
        part, frontier = [start], [start]
        seen.add(start)
        while frontier:
            for other in around[frontier.pop()]:
                if other not in seen:
                    seen.add(other)
                    part.append(other)
                    frontier.append(other)
        found.append(part)
    return sorted(found, key=lambda part: (-len(part), min(part)))


def falls_apart(parts: Sequence[Sequence[str]]) -> str:
    """What several parts come to, in words.

    >>> falls_apart([["a", "b"], ["c"], ["d"]])
    "falls into 3 parts of 2, 2 x 1 sites that no link joins; not with 'a': 'c', 'd'"
    """
    counts = Counter(len(part) for part in parts)
    told = ", ".join(f"{times:,} x {number:,}" if times > 1 else f"{number:,}" for number, times in sorted(counts.items(), reverse=True))
    lost = [name for part in parts[1:] for name in part]
    return f"falls into {len(parts):,} parts of {told} sites that no link joins; not with '{parts[0][0]}': {named(lost)}"


def connected(draft: Draft, how: Literal["error", "largest"]) -> Draft:
    """The draft, or its largest part.

    Raises:
        ValueError: it falls into parts, and these are an error.
    """
    parts = components(neighbours(draft.sites, draft.links))
    if len(parts) < 2:
        return draft
    kept = set(parts[0])
    lost = [name for part in parts[1:] for name in part]
    if how == "error":
        raise ValueError(falls_apart(parts))
    return draft.noted(
        f"left out: {counted(len(lost), 'site')} that no path joins to the largest part of {len(kept):,}: {named(lost)}",
        sites=tuple(site for site in draft.sites if site.name in kept),
        links=tuple(link for link in draft.links if link.a in kept),
    )


def central(draft: Draft, rule: Literal["degree", "closeness"]) -> tuple[str, str]:
    """The site that a rule picks, and the rule in words. Ties go by name; junctions are never picked.

    Raises:
        ValueError: no site to pick, or closeness over too many.
    """
    eligible = sorted(site.name for site in draft.sites if not site.junction)
    if not eligible:
        raise ValueError("no site that is not a junction")
    if rule == "degree":
        around = neighbours(draft.sites, draft.links)
        best = min(eligible, key=lambda name: (-len(around[name]), name))
        return best, f"the site with most neighbours ({len(around[best])})"
    if len(draft.sites) > _MOST_SITES_FOR_CLOSENESS:
        most = f"{_MOST_SITES_FOR_CLOSENESS:,}"
        raise ValueError(f"closeness is for at most {most} sites, there are {len(draft.sites):,}: write `degree` or a site's name")
    ways: dict[str, list[tuple[str, int]]] = {site.name: [] for site in draft.sites}
    for link in draft.links:
        weight = round((link.latency_s or 0.0) * 1e15)
        ways[link.a].append((link.b, weight))
        ways[link.b].append((link.a, weight))
    totals = {name: _total_latency(name, ways) for name in eligible}
    best = min(eligible, key=lambda name: (totals[name], name))
    mean_ms = totals[best] / 1e12 / max(1, len(ways) - 1)
    return best, f"the site with the least mean latency to all others ({mean_ms:.3g} ms)"


def _total_latency(start: str, ways: dict[str, list[tuple[str, int]]]) -> int:
    """The sum of the latencies of the best routes from a site to all others, femtoseconds."""
    settled: set[str] = set()
    total = 0
    frontier = [(0, start)]
    while frontier:
        latency, name = heapq.heappop(frontier)
        if name in settled:
            continue
        settled.add(name)
        total += latency
        for other, weight in ways[name]:
            if other not in settled:
                heapq.heappush(frontier, (latency + weight, other))
    return total
