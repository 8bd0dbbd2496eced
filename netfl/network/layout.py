"""Where the sites of a topology stand on a picture: by their coordinates where known, else by rule; no chance is involved."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from netfl.network.topology import Topology

__all__ = ["Layout", "layout_of"]

_RANK = {"cloud": 0, "edge": 1, "gateway": 2, "device": 3}
_FAN = 0.022


@dataclass(frozen=True)
class Layout:
    """Places for a picture.

    Args:
        places: site to (x, y); y grows upwards. One unit is as long in both directions.
        told: how they were found, for a caption.
    """

    places: dict[str, tuple[float, float]]
    told: str


def layout_of(topology: Topology) -> Layout:
    """Places for all sites of a topology.

    By latitude and longitude where at least half of the sites that are more than a leaf have them, else by x and y likewise, else in
    circles around the cloud if the links form a tree, else by Fruchterman and Reingold's springs from such circles. A leaf without a
    place of its own, or at that of its neighbour, is fanned out around the neighbour.
    """
    sites = topology.sites.values()
    around = topology.graph.adj
    inner = [site for site in sites if len(around[site.name]) > 1] or list(sites)
    globe = {site.name: (site.longitude, site.latitude) for site in sites if site.longitude is not None and site.latitude is not None}
    plane = {site.name: (site.x_km, site.y_km) for site in sites if site.x_km is not None and site.y_km is not None}
    if 2 * sum(site.name in globe for site in inner) >= len(inner):
        middle = math.radians(sum(latitude for _, latitude in globe.values()) / len(globe))
        known = {name: (longitude * math.cos(middle), latitude) for name, (longitude, latitude) in globe.items()}
        return Layout(_with_rest(topology, known), "placed by latitude and longitude")
    if 2 * sum(site.name in plane for site in inner) >= len(inner):
        return Layout(_with_rest(topology, plane), "placed by their coordinates on a plane")
    circles = _circles(topology)
    if len(topology.links) < len(topology.sites):
        return Layout(circles, "in circles around the cloud")
    # Each step takes time in proportion to the square of the sites: fewer for many, so that it stays with seconds.
    steps = int(min(200, max(10, 200 * (500 / len(topology.sites)) ** 2)))
    found = nx.spring_layout(topology.graph, pos=circles, iterations=steps, seed=0, k=1.6 / math.sqrt(len(topology.sites)))
    return Layout({name: (float(x), float(y)) for name, (x, y) in found.items()}, "placed by springs between neighbours")


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts `x-2` before `x-10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _with_rest(topology: Topology, known: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """All sites, those without a place of their own around a neighbour that has one."""
    wide = max(x for x, _ in known.values()) - min(x for x, _ in known.values())
    high = max(y for _, y in known.values()) - min(y for _, y in known.values())
    radius = _FAN * (math.hypot(wide, high) or 1.0)
    around = topology.graph.adj
    taken: dict[tuple[float, float], str] = {}
    places: dict[str, tuple[float, float]] = {}
    fans: dict[str, list[str]] = {}
    # Sites of most neighbours first: they keep their places, and leaves there move aside.
    for name in sorted(known, key=lambda each: (-len(around[each]), each)):
        if known[name] in taken:
            fans.setdefault(taken[known[name]], []).append(name)
        else:
            taken[known[name]] = name
            places[name] = known[name]
    waiting = [name for name in topology.sites if name not in known]
    while waiting:
        placed = {*places, *(each for fan in fans.values() for each in fan)}
        now = [name for name in waiting if any(other in placed for other in around[name])]
        for name in now:
            fans.setdefault(min(other for other in around[name] if other in placed), []).append(name)
        if not now:
            fans.setdefault(next(iter(places)), []).extend(waiting)
            break
        waiting = [name for name in waiting if name not in now]
    pending = list(fans)
    while pending:
        centre = next((each for each in pending if each in places), None)
        if centre is None:
            break
        pending.remove(centre)
        x, y = places[centre]
        count = len(fans[centre])
        for index, name in enumerate(sorted(fans[centre], key=_by_number)):
            angle = 2 * math.pi * (index + 0.25) / count
            ring = radius * (1 + index % 3 * 0.45 if count > 14 else 1)
            places[name] = (x + ring * math.cos(angle), y + ring * math.sin(angle))
    return places


def _circles(topology: Topology) -> dict[str, tuple[float, float]]:
    """The breadth-first tree from the topmost site, a circle for each distance, each branch in a sector as wide as its leaves need."""
    around = topology.graph.adj
    order = sorted(topology.sites.values(), key=lambda site: (_RANK[site.tier], -len(around[site.name]), site.name))
    children: dict[str, list[str]] = {}
    depth: dict[str, int] = {}
    roots = []
    for start in order:
        if start.name in depth:
            continue
        roots.append(start.name)
        depth[start.name] = 0 if len(roots) == 1 else 1
        row = [start.name]
        while row:
            below = []
            for name in row:
                near = sorted(
                    (other for other in around[name] if other not in depth), key=lambda each: (-len(around[each]), _by_number(each))
                )
                for other in near:
                    depth[other] = depth[name] + 1
                children[name] = near
                below += near
            row = below
    leaves = dict.fromkeys(depth, 1.0)
    for name in sorted(depth, key=lambda each: -depth[each]):
        if children[name]:
            leaves[name] = sum(leaves[child] for child in children[name])
    top = roots[0]
    children[top] = [*children[top], *roots[1:]]
    leaves[top] = sum(leaves[child] for child in children[top]) or 1.0
    places = {top: (0.0, 0.0)}
    pending = [(top, 0.0, 2 * math.pi)]
    while pending:
        name, start_angle, width = pending.pop()
        angle = start_angle
        for child in children[name]:
            share = width * leaves[child] / sum(leaves[each] for each in children[name])
            middle = angle + share / 2
            places[child] = (depth[child] * math.cos(middle), depth[child] * math.sin(middle))
            pending.append((child, angle, share))
            angle += share
    return places
