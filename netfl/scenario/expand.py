"""A topology file into a topology: names with ranges unfolded, presets filled in, every problem at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from netfl.compute import PROFILES, DeviceProfile
from netfl.network.links import TECHNOLOGIES
from netfl.network.topology import Link, Medium, Site, Topology, TopologyError
from netfl.parts import nearest
from netfl.scenario.schema import DeviceBlock, LinkBlock, TopologyFile
from netfl.scenario.tree import PathKey

__all__ = ["Built", "build_topology", "unfold"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_NAMES = 1_000_000
"""Of one range; a choice. All ranges of devices, and all of links, have twice as many at most."""

Found = list[tuple[PathKey, str, str]]


@dataclass(frozen=True)
class Built:
    """A topology and what its devices can compute.

    Args:
        topology: devices' sites, links and media.
        profiles: device name to profile.
        filled: what an import or a generator filled in, merged or left out, a sentence each.
    """

    topology: Topology
    profiles: dict[str, DeviceProfile]
    filled: tuple[str, ...] = ()


def unfold(name: str) -> list[str]:
    """The names that a range stands for.

    Raises:
        ValueError: an empty or huge range, or two of them.

    >>> unfold("camera-{1..3}"), unfold("edge")
    (['camera-1', 'camera-2', 'camera-3'], ['edge'])
    """
    found = _RANGE.findall(name)
    if not found:
        return [name]
    if len(found) > 1:
        raise ValueError(f"expected at most one range in a name, got '{name}'")
    first, last = int(found[0][0]), int(found[0][1])
    if last < first:
        raise ValueError(f"the range in '{name}' is empty: write {{{last}..{first}}}")
    if last - first >= _MOST_NAMES:
        raise ValueError(f"the range in '{name}' has more than {_MOST_NAMES:,} names")
    return [_RANGE.sub(str(number), name) for number in range(first, last + 1)]


def build_topology(file: TopologyFile) -> tuple[Built | None, Found]:
    """The topology that a file describes.

    Returns:
        The topology, or None, and what is wrong: (path below the topology, message, hint) each.
    """
    found = [*_too_many("devices", file.devices), *_too_many("links", file.links)]
    if found:
        return None, found
    sites: dict[str, Site] = {}
    profiles: dict[str, DeviceProfile] = {}
    for key, block in file.devices.items():
        path: PathKey = ("devices", key)
        profile = _profile(block, path, found)
        for name in _unfold(key, path, found):
            if name in sites:
                found.append((path, f"device '{name}' is named twice", ""))
            sites[name] = Site(
                name=name, tier=block.tier, outages=block.outages, battery=block.battery, label=block.label,
                latitude=block.latitude, longitude=block.longitude, x_km=block.x_km, y_km=block.y_km,
            )  # fmt: skip
            if profile is not None:
                profiles[name] = profile
    media = {name: Medium(name=name) for name in file.media}
    links: dict[str, Link] = {}
    for key, link_block in file.links.items():
        for link in _links(key, link_block, sites, media, found):
            if link.name in links:
                found.append((("links", key), f"link '{link.name}' is named twice", ""))
            if link.name in sites:
                found.append((("links", key), f"'{link.name}' is a device's name too: outages need distinct names", ""))
            links[link.name] = link
    members: dict[str, list[Link]] = {name: [] for name in media}
    for link in links.values():
        if link.medium is not None:
            members[link.medium].append(link)
    for name, medium_block in file.media.items():
        exponent = medium_block.efficiency_exponent
        media[name] = replace(
            media[name],
            duplex=medium_block.duplex or _duplex(members[name]),
            efficiency_exponent=_exponent(members[name]) if exponent is None else exponent,
        )
    found += _contradictions(file, media)
    if not sites:
        found.append((("devices",), "expected at least one device", ""))
    if found:
        return None, found
    try:
        topology = Topology(sites.values(), links.values(), media.values(), name=file.name, routing=file.routing)
        return Built(topology, profiles, file.filled), []
    except TopologyError as error:
        keys = {("links", name): key for key in file.links for name in unfold(key)}
        return None, [(("links", keys[path]) if path in keys else path, message, "") for path, message in error.found]


def _too_many(what: str, names: Iterable[str]) -> Found:
    """Whether so many ranges, each within its limit, stand for more than fits into memory."""
    count = sum(max(1, int(last) - int(first) + 1) for name in names for first, last in _RANGE.findall(name))
    if count <= 2 * _MOST_NAMES:
        return []
    return [((what,), f"expected at most {2 * _MOST_NAMES:,} names, these ranges stand for {count:,}", "")]


def _unfold(key: str, path: PathKey, found: Found) -> list[str]:
    try:
        return unfold(key)
    except ValueError as error:
        found.append((path, str(error), ""))
        return []


def _profile(block: DeviceBlock, path: PathKey, found: Found) -> DeviceProfile | None:
    if isinstance(block.profile, DeviceProfile):
        return block.profile
    if block.profile not in PROFILES:
        found.append(((*path, "profile"), f"no device profile '{block.profile}'", _named(block.profile, list(PROFILES))))
        return None
    return PROFILES[block.profile]


def _links(key: str, block: LinkBlock, sites: dict[str, Site], media: dict[str, Medium], found: Found) -> list[Link]:
    path: PathKey = ("links", key)
    preset = _preset(block, path, found)
    names = _unfold(key, path, found)
    ends = [_unfold(end, (*path, "between", index), found) for index, end in enumerate(block.between)]
    if not names or not all(ends):
        return []
    count = max(len(each) for each in ends)
    if any(len(each) not in (1, count) for each in ends) or len(names) != count:
        counts = f"{len(names)} links between {len(ends[0])} and {len(ends[1])} devices"
        found.append((path, f"ranges do not fit together: {counts}; put the same range into the link's name", ""))
        return []
    if block.medium is not None and block.medium not in media:
        found.append(((*path, "medium"), f"no medium '{block.medium}'", _named(block.medium, list(media))))
        return []
    if preset is None:
        return []
    for index, each in enumerate(ends):
        unknown = [name for name in each if name not in sites]
        if unknown:
            found.append(((*path, "between", index), f"no device '{unknown[0]}'", _named(unknown[0], list(sites))))
            return []
    pairs = zip(names, ends[0] * (count // len(ends[0])), ends[1] * (count // len(ends[1])), strict=True)
    return [replace(preset, name=name, a=a, b=b) for name, a, b in pairs]


def _preset(block: LinkBlock, path: PathKey, found: Found) -> Link | None:
    """The link that all links of a block equal but for names; None if its technology or rate is missing."""
    up_bps = down_bps = latency_s = None
    duplex, transmit_w, receive_w, duty_cycle = "full", 0.0, 0.0, 1.0
    if block.technology is not None:
        technology = TECHNOLOGIES.get(block.technology)
        if technology is None:
            found.append(((*path, "technology"), f"no link technology '{block.technology}'", _named(block.technology, list(TECHNOLOGIES))))
            return None
        up_bps, down_bps, latency_s = technology.up_bps, technology.down_bps, technology.latency_s
        duplex, transmit_w, receive_w = technology.duplex, technology.transmit_w, technology.receive_w
        duty_cycle = technology.duty_cycle
    if block.rate is not None and (block.uplink is not None or block.downlink is not None):
        found.append(((*path, "rate"), "expected either `rate` or `uplink` and `downlink`", ""))
    up_rates, down_rates = block.rate_trace.rates if block.rate_trace is not None else (None, None)
    for name, rates, own in (("uplink", up_rates, block.uplink), ("downlink", down_rates, block.downlink)):
        if rates is not None and own is not None:
            found.append(((*path, name), f"the {name} has a `rate_trace`: expected either", ""))
    if up_rates is not None and down_rates is not None and block.rate is not None:
        found.append(((*path, "rate"), "both directions have a `rate_trace`: expected either", ""))
    up_bps = up_rates.mean_bps if up_rates is not None else _first(block.uplink, block.rate, up_bps)
    down_bps = down_rates.mean_bps if down_rates is not None else _first(block.downlink, block.rate, down_bps)
    if block.loss is not None and (block.uplink_loss is not None or block.downlink_loss is not None):
        found.append(((*path, "loss"), "expected either `loss` or `uplink_loss` and `downlink_loss`", ""))
    bursts = block.loss_bursts
    bursts_up, bursts_down = (None if bursts is None or bursts.direction == other else bursts for other in ("down", "up"))
    for name, given, covered in (("uplink_loss", block.uplink_loss, bursts_up), ("downlink_loss", block.downlink_loss, bursts_down)):
        if covered is not None and given is not None:
            found.append(((*path, name), "`loss_bursts` covers that direction: expected either, or another `direction` there", ""))
    if bursts is not None and block.loss is not None:
        found.append(((*path, "loss"), "expected either `loss` or `loss_bursts`", ""))
    latency_s = _first(block.latency, latency_s)
    missing = [name for name, value in (("uplink", up_bps), ("downlink", down_bps), ("latency", latency_s)) if value is None]
    if missing:
        found.append((path, f"`{'` and `'.join(missing)}` missing", "or name a `technology`"))
        return None
    assert up_bps is not None and down_bps is not None and latency_s is not None
    return Link(
        name="",
        a="",
        b="",
        up_bps=up_bps,
        down_bps=down_bps,
        latency_s=latency_s,
        duplex="half" if (block.duplex or duplex) == "half" else "full",
        medium=block.medium,
        technology=block.technology or "",
        transmit_w=transmit_w if block.transmit_power is None else block.transmit_power,
        receive_w=receive_w if block.receive_power is None else block.receive_power,
        duty_cycle=duty_cycle,
        outages=block.outages,
        up_rates=up_rates,
        down_rates=down_rates,
        loss_up=_first(block.uplink_loss, block.loss) or 0.0,
        loss_down=_first(block.downlink_loss, block.loss) or 0.0,
        bursts_up=bursts_up,
        bursts_down=bursts_down,
        queue_bytes=block.queue,
        cost=block.cost,
    )


_SHARED_BY = {"cell": "a base station shares out", "csma": "stations contend for", "aloha": "stations send into at will"}


def _contradictions(file: TopologyFile, media: dict[str, Medium]) -> Found:
    """Links that cannot be in the medium that they name: wires, radios that share their air in another way than the first one there, and
    half-duplex ones where each direction has its own.
    """
    found: Found = []
    first: dict[str, tuple[str, str]] = {}
    for key, block in file.links.items():
        technology = TECHNOLOGIES.get(block.technology or "")
        if block.medium not in media:
            continue
        path: PathKey = ("links", key, "medium")
        duplex = block.duplex or (technology.duplex if technology is not None else "full")
        if duplex == "half" and media[block.medium].duplex == "full":
            found.append((path, f"'{key}' is half-duplex, and medium '{block.medium}' has airtime of its own for each direction", ""))
        if technology is None:
            continue
        if technology.medium == "own":
            hint = "leave out `medium`, or give a `rate` and a `latency` in place of the technology"
            found.append(
                (path, f"'{technology.name}' shares its capacity with no other link, and cannot be in medium '{block.medium}'", hint)
            )
            continue
        name, way = first.setdefault(block.medium, (technology.name, technology.medium))
        if way != technology.medium:
            here, there = _SHARED_BY[technology.medium], _SHARED_BY[way]
            found.append(
                (path, f"'{technology.name}' is air that {here}, and medium '{block.medium}' has links of '{name}', air that {there}", "")
            )
    return found


def _duplex(members: list[Link]) -> Literal["half", "full"]:
    """Whether each direction of a medium has airtime of its own, by the technologies of its links."""
    for link in members:
        technology = TECHNOLOGIES.get(link.technology)
        if technology is None or technology.medium != "cell" or technology.radio is not None or link.duplex == "half":
            return "half"
    return "full" if members else "half"


def _exponent(members: list[Link]) -> float:
    """What contention costs in a medium, by the technologies of its links: the most that one of them says."""
    technologies = {link.technology for link in members}
    return max((TECHNOLOGIES[name].efficiency_exponent for name in technologies if name in TECHNOLOGIES), default=0.0)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _named(name: str, known: list[str]) -> str:
    close = nearest(name, known)
    return close or (f"there are: {', '.join(known[:12])}" if known else "")
