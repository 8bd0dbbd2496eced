"""What is right by the rules in a topology, and may still not be what was meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from netfl.network.draft import components, falls_apart, named, neighbours
from netfl.network.links import TECHNOLOGIES
from netfl.network.topology import Topology
from netfl.units import counted

__all__ = ["notes"]


def notes(topology: Topology) -> list[str]:
    """A sentence about each such thing; `netfl validate` and `netfl show` print them."""
    return [*_air_of_their_own(topology), *_parts(topology)]


def _air_of_their_own(topology: Topology) -> Iterator[str]:
    """Radios that would share their air, at one site and in no medium: there the links of a generated network are one medium."""
    alone: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for link in topology.links.values():
        technology = TECHNOLOGIES.get(link.technology)
        if technology is not None and technology.medium != "own" and link.medium is None:
            alone[technology.name][link.b] += 1
    for name, ends in alone.items():
        several = {end: count for end, count in ends.items() if count > 1}
        if several:
            links = counted(sum(several.values()), "link")
            yield f"medium: {links} of '{name}' at {named(several)} are in no medium, so each has its air to itself; name a `medium` if they share it"


def _parts(topology: Topology) -> Iterator[str]:
    """A network that falls into parts."""
    parts = components(neighbours(topology.sites.values(), topology.links.values()))
    if len(parts) > 1:
        yield f"parts: the network {falls_apart(parts)}"
