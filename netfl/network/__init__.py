"""Devices joined by links, and bytes that move between them."""

from netfl.network.datagram import Datagram
from netfl.network.fabric import Fabric, Flow
from netfl.network.links import TECHNOLOGIES, LinkTechnology
from netfl.network.outages import ALWAYS_UP, OUTAGES, Outages, Timeline
from netfl.network.routes import Hop, Route
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Medium, Site, Topology
from netfl.network.transport import TRANSPORTS, Fluid, Transfer, Transport

__all__ = [
    "ALWAYS_UP",
    "OUTAGES",
    "TECHNOLOGIES",
    "TRANSPORTS",
    "Datagram",
    "Fabric",
    "Flow",
    "Fluid",
    "Hop",
    "Link",
    "LinkTechnology",
    "Medium",
    "Outages",
    "Route",
    "Site",
    "Tcp",
    "Timeline",
    "Topology",
    "Transfer",
    "Transport",
]
