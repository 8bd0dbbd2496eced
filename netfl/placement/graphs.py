"""Profiles from other people's files: the JSON graphs of Tarnawski et al.

A graph of layers or operators with measured times on a processor and on an accelerator. Format: the README of
github.com/msr-fiddle/dnn-partitioning (MIT licence), "Efficient Algorithms for Device Placement of DNN Graph Operators", NeurIPS 2020.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any

from netfl.errors import NetflError
from netfl.placement.profile import VALUE_BYTES, Node, Profile

__all__ = ["CLASSES", "read_graph"]

CLASSES = ("cpu", "accelerator")
"""Names of the two device classes of such a file."""

_MS = 1e-3
_BYTES_PER_MS = 2**31 / 1000
"""Where an edge tells a cost but no size: the published files hold 4 MiB at 1.953125 ms, which is 2 GiB/s."""


def read_graph(text: str, rename: Mapping[str, str] | None = None) -> Profile:
    """The profile of a graph in that format.

    Times are taken as milliseconds. Every node without predecessors reads an input of no values (the files do not say what the input
    is). The last node in topological order makes the result; a node that nothing reads is kept and computed.

    Args:
        text: the file.
        rename: new names for `cpu` and `accelerator`, such as the device profile whose times they stand for.

    Raises:
        NetflError: not such a file, one of training, or a graph with a cycle.
    """
    names = {each: (rename or {}).get(each, each) for each in CLASSES}
    try:
        document = json.loads(text)
        entries = {entry["id"]: entry for entry in document["nodes"]}
        if any(entry["isBackwardNode"] for entry in entries.values()):
            raise NetflError("a graph of training: expected one of inference, without backward nodes")
        reads, output_bytes = _edges(document["edges"], entries)
        order = _topological(entries, reads)
        nodes = [
            Node(
                name="input", op="input", predecessors=(), flop=0.0, moved_bytes=0.0, output_values=0, output_shape=(0,),
                parameter_bytes=0, parameters=(),
            )
        ]  # fmt: skip
        start = 0
        for number in order:
            entry = entries[number]
            stop = start + math.ceil(entry["size"] / VALUE_BYTES)
            values = math.ceil(output_bytes[number] / VALUE_BYTES)
            measured = [(names["cpu"], _MS * entry["cpuLatency"])]
            if entry["supportedOnFpga"]:
                measured.append((names["accelerator"], _MS * entry["fpgaLatency"]))
            nodes.append(
                Node(
                    name=_name(number), op=str(entry.get("name", "node")), predecessors=tuple(map(_name, reads[number])) or ("input",),
                    flop=0.0, moved_bytes=0.0, output_values=values, output_shape=(values,),
                    parameter_bytes=VALUE_BYTES * (stop - start), parameters=((start, stop),) if stop > start else (),
                    measured_s=tuple(measured),
                )
            )  # fmt: skip
            start = stop
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise NetflError(f"not a graph in the format of Tarnawski et al.: {said}") from error
    read = {name for number in order for name in map(_name, reads[number])}
    ends = [node.name for node in nodes if node.name not in read]
    notes = ["sizes are taken as parameters in float32, times as milliseconds"]
    if len(ends) > 1:
        notes.append(f"{len(ends)} nodes are read by none: the result is that of {ends[-1]}")
    return Profile(nodes=tuple(nodes), sample_shape=(0,), tracer="a graph in the format of Tarnawski et al.", notes=tuple(notes))


def _name(number: Any) -> str:
    return f"n{number}"


def _edges(edges: Any, entries: Mapping[Any, Any]) -> tuple[dict[Any, list[Any]], dict[Any, float]]:
    """What each node reads, and the bytes of each node's output: the largest that an edge tells."""
    reads: defaultdict[Any, list[Any]] = defaultdict(list)
    output_bytes: defaultdict[Any, float] = defaultdict(float)
    for edge in edges:
        source, destination = edge["sourceId"], edge["destId"]
        for end in (source, destination):
            if end not in entries:
                raise ValueError(f"an edge names node {end!r}, which is not among the nodes")
        if source not in reads[destination]:
            reads[destination].append(source)
        told = edge["size"] if "size" in edge else edge["cost"] * _BYTES_PER_MS
        output_bytes[source] = max(output_bytes[source], told)
    return reads, output_bytes


def _topological(entries: Mapping[Any, Any], reads: dict[Any, list[Any]]) -> list[Any]:
    """Node numbers in an order in which each follows what it reads; the least number first where there is a choice."""
    readers: defaultdict[Any, list[Any]] = defaultdict(list)
    missing = {number: len(reads[number]) for number in entries}
    for number in entries:
        for source in reads[number]:
            readers[source].append(number)
    ready: list[Any] = []
    for number in sorted(number for number, count in missing.items() if not count):
        heappush(ready, number)
    order = []
    while ready:
        number = heappop(ready)
        order.append(number)
        for reader in readers[number]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(entries):
        raise ValueError("the graph has a cycle")
    return order
