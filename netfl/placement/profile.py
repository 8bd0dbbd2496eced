"""The cost of a model, node by node: what planners read.

A `Profile` is plain numbers and names: planners, `netfl validate` and other tools handle it without torch. `trace` makes one
from a module; `to_json` and `from_json` carry one between tools.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from netfl.errors import NetflError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

__all__ = ["VALUE_BYTES", "Node", "Profile", "trace"]

VALUE_BYTES = 4
"""Bytes of a float32, the only number that parameters and activations are kept in."""

_SCHEMA_VERSION = 1
_EXPORT = "torch.export"


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation of a model, and what it costs for ONE sample.

    Args:
        name: unique in its profile; for a traced module the name that torch.fx gives (`conv1`, `layer1_0_relu`, `add`).
        op: what it does: a module's class, a function or a method; `input` for the sample itself.
        predecessors: names of the nodes whose output it reads.
        flop: forward operations, a multiply-accumulate counting two. A node that the library's counter knows nothing of (pooling,
            ReLU, normalisation) counts one per output value; a view (flatten, dropout in eval mode) counts none.
        moved_bytes: bytes of its inputs, outputs and parameters together: what memory must carry. A view moves none.
        output_values: numbers in its output; 0 where the output is no tensor (`size`), for every device knows it from the shapes.
        output_shape: of its output without the batch axis; a tuple of tensors counts as one vector of all their values.
        parameter_bytes: of the parameters that it reads, a tied one once.
        parameters: where these lie in `parameters_to_vector(module.parameters())`: slices (start, stop).
        measured_s: (device class, seconds) where it was measured; there this counts in place of the roofline.
        wire_bytes: of its output as it is sent, where that is known; none leaves it to what planners are told of the codec.
        decode_flop: more operations where it runs on another device than the one that asks: decoding the input that it reads.
    """

    name: str
    op: str
    predecessors: tuple[str, ...]
    flop: float
    moved_bytes: float
    output_values: int
    output_shape: tuple[int, ...]
    parameter_bytes: int
    parameters: tuple[tuple[int, int], ...]
    measured_s: tuple[tuple[str, float], ...] = ()
    wire_bytes: int | None = None
    decode_flop: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A model as nodes in topological order, of which a prefix cut takes the first so many.

    Args:
        nodes: the first is the input (op `input`, 0 flop, its output is the sample), the last makes the output.
        sample_shape: shape of one sample, without the batch axis.
        tracer: what made it: torch.export, torch.fx, the chain of a Sequential's children, or the format that it was read from.
        notes: what is worth knowing of that, such as why a better tracer did not make it.

    Raises:
        ValueError: the first node is no input, a name comes twice, or a node reads one that does not come before it.
    """

    nodes: tuple[Node, ...]
    sample_shape: tuple[int, ...]
    tracer: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.nodes or self.nodes[0].op != "input":
            raise ValueError(f"expected a first node with op 'input', got {self.nodes[0].op if self.nodes else 'no node at all'!r}")
        if self.nodes[0].output_values != math.prod(self.sample_shape):
            raise ValueError(f"expected an input of {self.sample_shape} values, got {self.nodes[0].output_values}")
        seen: set[str] = set()
        for node in self.nodes:
            late = [name for name in node.predecessors if name not in seen]
            if late:
                raise ValueError(f"expected nodes in topological order, got '{node.name}' before its predecessor '{late[0]}'")
            if node.name in seen:
                raise ValueError(f"expected every node name once, got '{node.name}' twice")
            seen.add(node.name)

    @cached_property
    def total_flop(self) -> float:
        """Forward operations of the whole model for one sample."""
        return math.fsum(node.flop for node in self.nodes)

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters, tied ones once."""
        return self.piece_parameter_bytes(0, len(self.nodes))

    @cached_property
    def index(self) -> dict[str, int]:
        """The place of each node, by name."""
        return {node.name: place for place, node in enumerate(self.nodes)}

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each node the last place that needs the values of its output; its own place where nothing does.

        A consumer without output values (`size`) needs the shape alone, which every device knows.
        """
        last = list(range(len(self.nodes)))
        for place, node in enumerate(self.nodes):
            if node.output_values:
                for name in node.predecessors:
                    last[self.index[name]] = place
        return tuple(last)

    @cached_property
    def owners(self) -> tuple[int, ...]:
        """For each node the place of the one whose memory its output lies in: its own but for views."""
        owner = list(range(len(self.nodes)))
        for place, node in enumerate(self.nodes):
            if node.op != "input" and node.output_values and not node.moved_bytes and not node.measured_s:
                shown = next((self.index[name] for name in node.predecessors if self.nodes[self.index[name]].output_values), place)
                owner[place] = owner[shown]
        return tuple(owner)

    @cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Bytes of the activations that exist while each node runs: its inputs, its output and whatever is read later.

        A view (output values, but no bytes moved) lies in the memory of what it shows, which it keeps alive.
        """
        owner = self.owners
        last = list(self.last_use)
        for place, root in enumerate(owner):
            last[root] = max(last[root], last[place])
        change = [0] * (len(self.nodes) + 1)
        for place, root in enumerate(owner):
            if root == place:
                change[place] += VALUE_BYTES * self.nodes[place].output_values
                change[last[place] + 1] -= VALUE_BYTES * self.nodes[place].output_values
        live, total = [], 0
        for step in change[:-1]:
            total += step
            live.append(total)
        return tuple(live)

    def crossing(self, cut: int) -> tuple[str, ...]:
        """The tensors that cross the prefix cut nodes[:cut] | nodes[cut:], each once however many nodes read it.

        Args:
            cut: how many nodes lie before it.

        Returns:
            Names of the nodes that make them, in topological order; empty where nothing lies behind the cut.
        """
        before = zip(self.nodes[:cut], self.last_use, strict=False)
        return tuple(node.name for node, last_use in before if node.output_values and last_use >= cut)

    def work(self, start: int, stop: int) -> tuple[float, float]:
        """The forward operations and the moved bytes of nodes[start:stop] for one sample."""
        piece = self.nodes[start:stop]
        return math.fsum(node.flop for node in piece), math.fsum(node.moved_bytes for node in piece)

    def piece_parameter_bytes(self, start: int, stop: int) -> int:
        """Bytes of the parameters that nodes[start:stop] read, tied ones once."""
        slices = {span for node in self.nodes[start:stop] for span in node.parameters}
        return VALUE_BYTES * sum(end - begin for begin, end in slices)

    def activation_bytes(self, start: int, stop: int) -> int:
        """The most bytes of activations that exist at once while nodes[start:stop] run, what came in and what goes out included."""
        return max(self.live_bytes[start:stop], default=0)

    def memory_bytes(self, start: int, stop: int) -> int:
        """What a device must hold to run nodes[start:stop]: their parameters and their peak of live activations."""
        return self.piece_parameter_bytes(start, stop) + self.activation_bytes(start, stop)

    def to_json(self) -> str:
        """The profile as JSON text that `from_json` reads back to an equal one."""
        document = {
            "schema_version": _SCHEMA_VERSION,
            "sample_shape": self.sample_shape,
            "tracer": self.tracer,
            "notes": self.notes,
            "nodes": [_written_node(node) for node in self.nodes],
        }
        return json.dumps(document, indent=1)

    def as_sent(self, wire_bytes: Callable[[Node], int], decode_flop: float = 0.0) -> Profile:
        """The same nodes with what their outputs are on a wire.

        Args:
            wire_bytes: of the output of a node; asked of those that have one.
            decode_flop: to decode an input, once, by whoever runs the first node that reads it, unless that is the device that asks.
        """
        reader = next(
            (place for place, node in enumerate(self.nodes) if self.nodes[0].name in node.predecessors and node.output_values), None
        )
        nodes = (
            dataclasses.replace(
                node,
                wire_bytes=wire_bytes(node) if node.output_values else None,
                decode_flop=decode_flop if place == reader else 0.0,
            )
            for place, node in enumerate(self.nodes)
        )
        return dataclasses.replace(self, nodes=tuple(nodes))

    def in_order(self, order: tuple[int, ...]) -> Profile:
        """The same nodes in another order.

        Args:
            order: places in this profile.

        Raises:
            ValueError: a node would come before one that it reads, or the places are not all of them once.
        """
        if sorted(order) != list(range(len(self.nodes))):
            raise ValueError(f"expected every place from 0 to {len(self.nodes) - 1} once, got {order}")
        return dataclasses.replace(self, nodes=tuple(self.nodes[place] for place in order))

    @classmethod
    def from_json(cls, text: str) -> Profile:
        """The profile of a JSON text, its own or another tool's.

        Raises:
            NetflError: not JSON, another schema version, or a field that is missing or unknown.
        """
        try:
            document = json.loads(text)
            if not isinstance(document, dict) or "schema_version" not in document:
                raise ValueError("expected an object with a schema_version")
            if document["schema_version"] != _SCHEMA_VERSION:
                raise ValueError(f"expected schema_version {_SCHEMA_VERSION}, got {document['schema_version']!r}")
            return cls(
                nodes=tuple(_read_node(entry) for entry in document["nodes"]),
                sample_shape=tuple(document["sample_shape"]),
                tracer=document["tracer"],
                notes=tuple(document["notes"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            missing = isinstance(error, KeyError)
            raise NetflError(f"not a profile that netfl wrote: {f'{error} is missing' if missing else error}") from error


def _written_node(node: Node) -> dict[str, Any]:
    """Its fields; how it is sent only where that is known."""
    fields = dataclasses.asdict(node)
    if node.wire_bytes is None:
        del fields["wire_bytes"]
    if not node.decode_flop:
        del fields["decode_flop"]
    return fields


def _read_node(entry: dict[str, Any]) -> Node:
    lists = {key: tuple(entry[key]) for key in ("predecessors", "output_shape")}
    spans = tuple((begin, end) for begin, end in entry["parameters"])
    measured = tuple((str(name), float(seconds)) for name, seconds in entry["measured_s"])
    return Node(**{**entry, **lists, "parameters": spans, "measured_s": measured})


def trace(module: torch.nn.Module, sample_shape: tuple[int, ...], tracer: str = "") -> Profile:
    """The profile of a module for samples of one shape.

    A copy in eval mode is traced: by torch.export, by torch.fx where that fails, and as the chain of its children where that fails too
    and it is an `nn.Sequential`; `Profile.tracer` and `Profile.notes` say which, and why. In-place operations are replaced. Operations
    and bytes are counted on fake tensors, so nothing of the model's real arithmetic runs, and the module and torch's global state stay
    as they were.

    The nodes of an `nn.Sequential` of plain layers are counted by hand: they are those that torch.export finds, which also cuts it where
    it is served.

    Recurrent layers count 2 x weights x steps (the library's counter gives 0 for an LSTM). A tensor that depends on no sample
    (a class token, positions) is no node: every piece that reads it makes it again, and its parameters count with each reader.

    Args:
        module: takes one float32 batch (N, *sample_shape) and returns one tensor (N, ...).
        sample_shape: without the batch axis.
        tracer: one of "torch.export", "torch.fx" and "chain of children", to use that and no other.

    Raises:
        NetflError: the module cannot be traced, does not run on such samples, or returns anything but one tensor per sample.
    """
    from netfl.placement.plain_chain import plain_chain_nodes

    nodes = plain_chain_nodes(module, tuple(sample_shape)) if tracer in ("", _EXPORT) else None
    if nodes is not None:
        return Profile(nodes=nodes, sample_shape=tuple(sample_shape), tracer=_EXPORT)
    from netfl.placement.graph import trace_graph

    traced = trace_graph(module, tuple(sample_shape), tracer)
    return Profile(nodes=traced.profile_nodes(), sample_shape=tuple(sample_shape), tracer=traced.tracer, notes=traced.notes)
