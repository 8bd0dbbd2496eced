"""The availability of every site and link of a run: made, and drawn, when something first asks for it."""

from __future__ import annotations

from collections.abc import Iterator

from netfl.network.outages import ALWAYS_UP, Outages, Timeline
from netfl.network.topology import Topology
from netfl.randomness import Streams

__all__ = ["Timelines"]


class Timelines:
    """The timelines of one run, by name. One that nobody asks for takes no memory and draws nothing.

    Args:
        topology: sites and links; their names are distinct.
        streams: of the run; each element has its own.
    """

    def __init__(self, topology: Topology, streams: Streams) -> None:
        self._topology = topology
        self._streams = streams
        self._known: dict[str, Timeline] = {}

    def get(self, name: str, default: Timeline = ALWAYS_UP, /) -> Timeline:
        """The timeline of an element, or the default if it has no outages."""
        found = self._known.get(name)
        if found is None:
            what, outages = self._of(name)
            if outages is None:
                return default
            found = self._known[name] = outages.timeline(self._streams.stream("outages", what, name))
        return found

    def put(self, name: str, timeline: Timeline) -> None:
        """Let this be the timeline of an element."""
        self._known[name] = timeline

    def with_outages(self) -> Iterator[str]:
        """Names of the sites and links that have outages of their own."""
        sites, links = self._topology.sites.values(), self._topology.links.values()
        yield from (site.name for site in sites if site.outages is not None)
        yield from (link.name for link in links if link.outages is not None)

    def down_intervals(self, name: str, end_s: float) -> list[tuple[float, float]]:
        """When an element with outages is down between 0 and `end_s`; what had to be drawn for that alone is not kept."""
        kept = name in self._known
        found = self.get(name).down_intervals(end_s)
        if not kept:
            self._known.pop(name, None)
        return found

    def _of(self, name: str) -> tuple[str, Outages | None]:
        """What an element is, and its outages."""
        site = self._topology.sites.get(name)
        if site is not None:
            return "device", site.outages
        link = self._topology.links.get(name)
        return "link", None if link is None else link.outages
