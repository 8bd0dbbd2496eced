"""Neighbours: who talks to whom where nobody is in the middle, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import networkx as nx
from annotated_types import Ge

from netfl.network.topology import Topology
from netfl.parts import Family
from netfl.randomness import Stream

__all__ = ["GRAPHS", "Complete", "Graph", "Links", "RandomRegular", "Ring", "apart", "metropolis"]

Neighbours = Mapping[str, list[str]]


class Graph(Protocol):
    """Undirected: each of two neighbours has the other."""

    def neighbours(self, clients: Sequence[str], topology: Topology, stream: Stream) -> Neighbours:
        """The neighbours of every client, sorted by name.

        Raises:
            ValueError: no such graph of these clients.
        """


@dataclass(frozen=True, kw_only=True)
class Links:
    """Clients that a link of the topology joins are neighbours."""

    def neighbours(self, clients: Sequence[str], topology: Topology, stream: Stream) -> Neighbours:
        """See `Graph`."""
        found: dict[str, set[str]] = {client: set() for client in clients}
        for link in topology.links.values():
            if link.a in found and link.b in found:
                found[link.a].add(link.b)
                found[link.b].add(link.a)
        return {client: sorted(others) for client, others in found.items()}


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Each client has the one before and the one after it by name; the last is joined to the first."""

    def neighbours(self, clients: Sequence[str], topology: Topology, stream: Stream) -> Neighbours:
        """See `Graph`."""
        names = sorted(clients)
        return {name: sorted({names[i - 1], names[(i + 1) % len(names)]} - {name}) for i, name in enumerate(names)}


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Everyone has everyone."""

    def neighbours(self, clients: Sequence[str], topology: Topology, stream: Stream) -> Neighbours:
        """See `Graph`."""
        names = sorted(clients)
        return {name: [other for other in names if other != name] for name in names}


@dataclass(frozen=True, kw_only=True)
class RandomRegular:
    """Everyone has the same number of neighbours, drawn at random (networkx `random_regular_graph`).

    Args:
        degree: how many; less than the number of clients, and one of the two even.
    """

    degree: Annotated[int, Ge(1)]

    def neighbours(self, clients: Sequence[str], topology: Topology, stream: Stream) -> Neighbours:
        """See `Graph`."""
        names = sorted(clients)
        if self.degree >= len(names) or self.degree * len(names) % 2:
            raise ValueError(f"there is no graph of {len(names)} clients with {self.degree} neighbours each")
        graph = nx.random_regular_graph(self.degree, len(names), seed=int(stream.generator().integers(2**31)))
        return {name: sorted(names[other] for other in graph[i]) for i, name in enumerate(names)}


GRAPHS = Family(
    "graphs",
    {
        "links": "netfl.network.neighbours:Links",
        "ring": "netfl.network.neighbours:Ring",
        "complete": "netfl.network.neighbours:Complete",
        "random_regular": "netfl.network.neighbours:RandomRegular",
    },
)


def apart(neighbours: Neighbours) -> list[list[str]]:
    """The groups into which clients fall that never hear of each other, sorted; one if all do.

    >>> apart({"a": ["b"], "b": ["a"], "c": []})
    [['a', 'b'], ['c']]
    """
    graph = nx.Graph([(client, other) for client, others in neighbours.items() for other in others])
    graph.add_nodes_from(neighbours)
    return sorted(sorted(group) for group in nx.connected_components(graph))


def metropolis(neighbours: Neighbours) -> dict[str, dict[str, float]]:
    """How much each client counts for each: symmetric, every row sums to 1; the rest of a row is its own.

    Source: L. Xiao, S. Boyd, "Fast linear iterations for distributed averaging", 2004, the Metropolis-Hastings weights
    1 / (1 + max(degree, other's degree)).

    >>> metropolis({"a": ["b"], "b": ["a", "c"], "c": ["b"]})["a"]["b"] == 1 / 3
    True
    """
    return {
        client: {other: 1 / (1 + max(len(others), len(neighbours[other]))) for other in others} for client, others in neighbours.items()
    }
