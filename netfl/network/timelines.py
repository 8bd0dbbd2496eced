"""The availability of every site and link of a run: made, and drawn, when something first asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from netfl.network.outages import ALWAYS_UP, Outages, Timeline
from netfl.network.topology import Topology
from netfl.randomness import Streams

__all__ = ["Timelines"]


class Timelines:
    """The timelines of one run, by name. One that nobody asks for takes no memory and draws nothing.

    Its length is no more than a mark: 0 if nothing is ever down.

    Args:
        topology: sites and links; their names are distinct.
        streams: of the run; each element has its own.
        on_battery: makes the timeline of a device with a battery, from its name and that of its other outages.
    """

    def __init__(self, topology: Topology, streams: Streams, on_battery: Callable[[str, Timeline], Timeline] | None = None) -> None:
        self._topology = topology
        self._streams = streams
        self._on_battery = on_battery
        self._known: dict[str, Timeline] = {}
        self._count = sum(1 for each in (self.with_outages(), self.with_batteries()) for _ in each)

    def __len__(self) -> int:
        return self._count

    def get(self, name: str, default: Timeline = ALWAYS_UP, /) -> Timeline:
        """The timeline of an element, or the default if it has no outages and no battery."""
        found = self._known.get(name)
        if found is None:
            found = self._made(name)
            if found is ALWAYS_UP:
                return default
            self._known[name] = found
        return found

    def glance(self, name: str) -> Timeline:
        """The timeline of an element for one look at it: what has to be made for that alone is not kept."""
        found = self._known.get(name)
        return self._made(name) if found is None else found

    def with_outages(self) -> Iterator[str]:
        """Names of the sites and links that have outages of their own, and no battery."""
        sites, links = self._topology.sites.values(), self._topology.links.values()
        yield from (site.name for site in sites if site.outages is not None and site.battery is None)
        yield from (link.name for link in links if link.outages is not None)

    def asked(self) -> Iterator[str]:
        """Those of them that somebody has asked for, in the same order: of a million devices, few may matter to a run."""
        return (name for name in self.with_outages() if name in self._known)

    def with_batteries(self) -> Iterator[str]:
        """Names of the sites that have a battery."""
        return (site.name for site in self._topology.sites.values() if site.battery is not None)

    def _made(self, name: str) -> Timeline:
        site = self._topology.sites.get(name)
        if site is None:
            link = self._topology.links.get(name)
            return ALWAYS_UP if link is None else self._drawn("link", name, link.outages)
        found = self._drawn("device", name, site.outages)
        return found if site.battery is None or self._on_battery is None else self._on_battery(name, found)

    def _drawn(self, what: str, name: str, outages: Outages | None) -> Timeline:
        return ALWAYS_UP if outages is None else outages.timeline(self._streams.stream("outages", what, name))
