"""A module as a graph of operations: the torch side of `profile` and `split`.

`trace_graph` copies the module, traces the copy (with torch.export, else with torch.fx, else child by child), replaces in-place
operations by ones that leave their input alone, and runs the graph on fake tensors of batches 2 and 3. What one batch has more
than the other belongs to one sample: its operations, its bytes, and the axis of each tensor on which samples lie.

Nodes are of three sorts. *Data* depends on the sample's values and is what crosses a cut. A *shape* (`size`, arithmetic on it)
follows from the batch's length, so each piece knows it without a byte. A *constant* (parameters, positions, a class token)
depends on no sample, so each piece makes it where it is read.
"""

from __future__ import annotations

import copy
import enum
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from netfl.errors import NetflError
from netfl.placement.exported import OP, exported_graph, first_line, leave_alone, recurrent_weights, without_words
from netfl.placement.profile import VALUE_BYTES, Node

__all__ = ["TRACERS", "Layout", "Sort", "Traced", "one_thread", "trace_graph"]


class Sort(enum.Enum):
    """What a node's output depends on."""

    DATA = "the values of the sample"
    SHAPE = "the shape of the batch"
    CONSTANT = "nothing of the sample"


@dataclass(frozen=True)
class Layout:
    """How the samples of a batch lie in one tensor.

    Args:
        shape: of one sample's part.
        axis: the axis on which the samples lie.
        rows: how many neighbouring rows of that axis belong to one sample (above 1 after a reshape such as (N * heads, ...)).
        order: the tensor's axes from the slowest to the fastest in memory.
        dtype: the tensor's, which float32 on the wire stands for.
    """

    shape: tuple[int, ...]
    axis: int
    rows: int
    order: tuple[int, ...]
    dtype: torch.dtype

    def to_samples(self, tensor: torch.Tensor) -> NDArray[np.float32]:
        """The tensor as (N, *shape) float32, contiguous and in memory of its own."""
        rows = tensor.movedim(self.axis, 0)
        samples = rows.reshape(rows.shape[0] // self.rows, *self.shape)
        return np.array(samples.to(torch.float32).numpy(), order="C")

    def from_samples(self, samples: NDArray[np.float32]) -> torch.Tensor:
        """The tensor whose `to_samples` gave these, its axes in the same order in memory, for kernels choose by that."""
        rows = torch.tensor(samples).to(self.dtype)
        if self.rows != 1:
            rows = rows.flatten(0, 1)
        dense = rows.movedim(0, self.axis).permute(self.order).contiguous()
        return dense.permute([self.order.index(axis) for axis in range(len(self.order))])


@dataclass(frozen=True)
class Traced:
    """A module's graph, what each of its nodes is, and what it costs for one sample.

    Args:
        source: the private copy that was traced: in eval mode, on the CPU; `body` shares its parameters and buffers.
        body: the traced graph as a module.
        nodes: every node that the output needs, in order.
        sorts: of each of these.
        layouts: of each tensor in a data node's output; None stands for a None in its place.
        forms: how these are nested.
        costs: (flop, moved bytes) of each data node.
        slices: the parameters of each data node, constants that it reads included.
        sample_shape: without the batch axis.
        tracer: which of `TRACERS` made it.
        notes: why those before it did not.
    """

    source: nn.Module
    body: fx.GraphModule
    nodes: tuple[fx.Node, ...]
    sorts: dict[fx.Node, Sort]
    layouts: dict[fx.Node, tuple[Layout | None, ...]]
    forms: dict[fx.Node, Any]
    costs: dict[fx.Node, tuple[float, float]]
    slices: dict[fx.Node, tuple[tuple[int, int], ...]]
    sample_shape: tuple[int, ...]
    tracer: str
    notes: tuple[str, ...]

    @property
    def steps(self) -> tuple[fx.Node, ...]:
        """The nodes that a placement places: all but the constants."""
        return tuple(node for node in self.nodes if self.sorts[node] is not Sort.CONSTANT)

    def profile_nodes(self) -> tuple[Node, ...]:
        """The steps as nodes of a profile."""
        return tuple(self._profile_node(node) for node in self.steps)

    def _profile_node(self, node: fx.Node) -> Node:
        flop, moved_bytes = self.costs.get(node, (0.0, 0.0))
        spans = self.slices.get(node, ())
        shapes = [layout.shape for layout in self.layouts.get(node, ()) if layout is not None]
        values = sum(math.prod(shape) for shape in shapes)
        return Node(
            name=node.name,
            op=_op_name(node, self.body),
            predecessors=tuple(dict.fromkeys(source.name for source in node.all_input_nodes if self.sorts[source] is not Sort.CONSTANT)),
            flop=flop,
            moved_bytes=moved_bytes,
            output_values=values,
            output_shape=shapes[0] if self._is_one_tensor(node) else (values,) * bool(shapes),
            parameter_bytes=VALUE_BYTES * sum(stop - start for start, stop in spans),
            parameters=spans,
        )

    def _is_one_tensor(self, node: fx.Node) -> bool:
        return node in self.forms and bool(self.forms[node].is_leaf())

    def pack(self, node: fx.Node, value: Any) -> NDArray[np.float32]:
        """A data node's output as (N, *output_shape) float32; a tuple of tensors as (N, values), one after the other."""
        parts = [
            layout.to_samples(leaf)
            for layout, leaf in zip(self.layouts[node], pytree.tree_leaves(value), strict=True)
            if layout is not None
        ]
        if self._is_one_tensor(node):
            return parts[0]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def unpack(self, node: fx.Node, samples: NDArray[np.float32]) -> Any:
        """The output whose `pack` gave these."""
        if self._is_one_tensor(node):
            layout = self.layouts[node][0]
            assert layout is not None
            return layout.from_samples(samples)
        leaves: list[torch.Tensor | None] = []
        place = 0
        for layout in self.layouts[node]:
            if layout is None:
                leaves.append(None)
                continue
            values = math.prod(layout.shape)
            leaves.append(layout.from_samples(samples[:, place : place + values].reshape(len(samples), *layout.shape)))
            place += values
        return pytree.tree_unflatten(leaves, self.forms[node])

    def shapes(self, count: int) -> dict[fx.Node, Any]:
        """The values of all shape nodes for a batch of so many samples."""
        if Sort.SHAPE not in self.sorts.values():
            return {}
        run = _fake_run(self.body, self.nodes, self.sample_shape, count)
        return {node: run.values[node] for node in self.nodes if self.sorts[node] is Sort.SHAPE}


TRACERS = ("torch.export", "torch.fx", "chain of children")
"""Ways to make a graph of a module, in the order in which they are tried."""


def trace_graph(module: nn.Module, sample_shape: tuple[int, ...], tracer: str = "") -> Traced:
    """Trace a copy of the module; see the top of this file.

    Args:
        module: takes one float32 batch (N, *sample_shape) and returns one tensor (N, ...).
        sample_shape: without the batch axis.
        tracer: the one of `TRACERS` to use; by default the first that can.

    Raises:
        NetflError: the module cannot be traced, does not run on such samples, or returns anything but one tensor per sample.
    """
    notes: list[str] = []
    for each in (tracer,) if tracer else TRACERS:
        if each == TRACERS[2] and not isinstance(module, nn.Sequential):
            continue
        try:
            return _traced_by(each, module, sample_shape, tuple(notes))
        except NetflError as error:
            notes.append(f"{each}: {error}")
    raise NetflError(f"{type(module).__name__} cannot be cut into nodes. {'; '.join(notes)}")


def _traced_by(tracer: str, module: nn.Module, sample_shape: tuple[int, ...], notes: tuple[str, ...]) -> Traced:
    # A gradient that could flow keeps attention off its fused eval path, whose operations the counter does not see.
    source = copy.deepcopy(module).cpu().eval()
    for parameter in source.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    if tracer == TRACERS[0]:
        graph = exported_graph(source, sample_shape)
    else:
        graph = _symbolic_graph(source, chain=tracer == TRACERS[2])
    _check_inputs(graph)
    writers = _leave_inputs_alone(graph, source)
    body = fx.GraphModule(source, graph)
    try:
        with without_words():
            mutations = _redirect_readers(body, writers, sample_shape)
            two, three = (_fake_run(body, _needed(body.graph, writers), sample_shape, count) for count in (2, 3))
    except (DynamicOutputShapeException, DataDependentOutputException) as error:
        raise NetflError(
            f"in {type(module).__name__} the shape of a tensor or the way taken depends on the sample's values (`{first_line(error)}`), "
            "so that its cost is no constant"
        ) from error
    except Exception as error:
        raise NetflError(f"{type(module).__name__} does not run on samples of shape {sample_shape}: {first_line(error)}") from error
    _check_aliases(mutations, body.graph, two)
    nodes = _needed(body.graph)
    if not isinstance(two.values[nodes[-1]], torch.Tensor):
        raise NetflError(f"{type(module).__name__} must return one tensor, but returns {type(two.values[nodes[-1]]).__name__}")
    sorts = _sorts(nodes, two)
    if sorts[nodes[-1]] is not Sort.DATA:
        raise NetflError(f"{type(module).__name__} returns a tensor that does not depend on its input")
    data = [node for node in nodes if sorts[node] is Sort.DATA]
    slices = _slices(nodes, sorts, body, source)
    return Traced(
        source=source,
        body=body,
        nodes=nodes,
        sorts=sorts,
        layouts={node: _layouts(node, two, three) for node in data},
        forms={node: pytree.tree_structure(two.values[node]) for node in data},
        costs={node: _cost(node, sorts, slices, body, two, three) for node in data},
        slices=slices,
        sample_shape=sample_shape,
        tracer=tracer,
        notes=notes,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums taken by two threads differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Tracing

_OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}


class _Proxy(fx.Proxy):
    """Records `x += y` as what it is; torch.fx's own proxy takes it for `x = x + y` and forgets that x is overwritten."""


def _recorder(function: Callable[..., Any]) -> Callable[[_Proxy, Any], fx.Proxy]:
    def record(self: _Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {}, name=_OPERATORS[function].__name__)

    return record


for _function in _OPERATORS:
    setattr(_Proxy, f"__{_function.__name__}__", _recorder(_function))


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _ChainTracer(_Tracer):
    """Takes every child as one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _symbolic_graph(source: nn.Module, *, chain: bool) -> fx.Graph:
    if chain:
        return _ChainTracer().trace(source)
    parameters = list(inspect.signature(source.forward).parameters.values())
    defaults = {parameter.name: parameter.default for parameter in parameters[1:] if parameter.default is not parameter.empty}
    try:
        return _Tracer().trace(source, concrete_args=defaults or None)
    except Exception as error:
        raise NetflError(
            f"cannot trace {type(source).__name__}: {first_line(error)}. "
            "Write it without control flow on tensor values, or as an nn.Sequential, which is then cut between its children"
        ) from error


def _check_inputs(graph: fx.Graph) -> None:
    needed = set(_needed(graph))
    extra = [node.name for node in graph.nodes if node.op == "placeholder" and node in needed][1:]
    if extra:
        raise NetflError(f"expected a module with one input, got the further inputs {', '.join(extra)}")


def _result(graph: fx.Graph) -> fx.Node:
    """The node whose output the module returns."""
    result = next(iter(reversed(graph.nodes))).args[0]
    if not isinstance(result, fx.Node):
        raise NetflError(f"expected a module that returns one tensor, got one that returns a {type(result).__name__}")
    return result


def _needed(graph: fx.Graph, others: Sequence[fx.Node] = ()) -> tuple[fx.Node, ...]:
    """The nodes that the output and some others need, in order, the input always first."""
    first = next(node for node in graph.nodes if node.op == "placeholder")
    wanted, todo = {first}, [_result(graph), *others]
    while todo:
        node = todo.pop()
        if node not in wanted:
            wanted.add(node)
            todo.extend(node.all_input_nodes)
    rest = tuple(node for node in graph.nodes if node in wanted and node is not first)
    return (first, *rest)


def _leave_inputs_alone(graph: fx.Graph, source: nn.Module) -> tuple[fx.Node, ...]:
    """Make every in-place node return a new tensor; the nodes that were in-place, in order."""
    modules = dict(source.named_modules())
    writers = tuple(node for node in graph.nodes if _leave_input_alone(node, modules))
    for inner in modules.values():
        if getattr(inner, "inplace", False) is True:
            inner.inplace = False
    return writers


def _redirect_readers(body: fx.GraphModule, writers: tuple[fx.Node, ...], sample_shape: tuple[int, ...]) -> list[tuple[fx.Node, fx.Node]]:
    """Let whoever read a tensor after it was overwritten read the node that overwrote it.

    Returns:
        (input that was overwritten, node that overwrote it), in order. `n += 1` on a number overwrites nothing.
    """
    if not writers:
        return []
    run = _fake_run(body, _needed(body.graph, writers), sample_shape, 2)
    places = {node: place for place, node in enumerate(body.graph.nodes)}
    mutations = []
    for writer in writers:
        overwritten = writer.all_input_nodes[0]
        if run.tensors(overwritten):
            later = {user for user in overwritten.users if places[user] > places[writer]}
            overwritten.replace_all_uses_with(writer, delete_user_cb=later.__contains__)
            mutations.append((overwritten, writer))
    body.recompile()
    return mutations


def _leave_input_alone(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Make one node out-of-place; whether it was in-place."""
    if node.op == "call_module":
        return getattr(modules[str(node.target)], "inplace", False) is True
    if node.op == "call_method":
        method = str(node.target)
        if not method.endswith("_") or method.endswith("__"):
            return False
        if not callable(getattr(torch.Tensor, method[:-1], None)):
            raise NetflError(f"node '{node.name}' writes into a tensor with `{method}`, which has no form that leaves it alone")
        node.target = method[:-1]
        return True
    if node.op != "call_function":
        return False
    found = leave_alone(node)
    if found is not None:
        return found
    function: Any = node.target
    if node.kwargs.get("out") is not None:
        raise NetflError(f"node '{node.name}' writes into a tensor with `out=`, which cannot be cut")
    if function in _OPERATORS:
        node.target = _OPERATORS[function]
        return isinstance(node.args[0], fx.Node)
    name = str(getattr(function, "__name__", ""))
    if name.endswith("_") and not name.startswith("_"):
        for place in (torch, nn.functional):
            if callable(getattr(place, name[:-1], None)):
                node.target = getattr(place, name[:-1])
                return True
        raise NetflError(f"node '{node.name}' writes into a tensor with `{name}`, which has no form that leaves it alone")
    return _unset_in_place_argument(node, function)


def _unset_in_place_argument(node: fx.Node, function: Callable[..., Any]) -> bool:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    place = names.index("inplace") if "inplace" in names else len(node.args)
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    if place < len(node.args) and node.args[place] is True:
        node.args = (*node.args[:place], False, *node.args[place + 1 :])
        return True
    return False


# Running on fake tensors


@dataclass(frozen=True)
class _FakeRun:
    """Every node's fake value, and the operations that were counted for it."""

    values: dict[fx.Node, Any]
    flop: dict[fx.Node, int]

    def bytes_of(self, node: fx.Node) -> int:
        return sum(leaf.numel() * leaf.element_size() for leaf in self.tensors(node))

    def tensors(self, node: fx.Node) -> list[torch.Tensor]:
        return [leaf for leaf in pytree.tree_leaves(self.values[node]) if isinstance(leaf, torch.Tensor)]

    def memory_of(self, node: fx.Node) -> set[int]:
        """Names of the memory that its tensors lie in."""
        return {leaf.untyped_storage()._cdata for leaf in self.tensors(node)}


def _counter() -> FlopCounterMode:
    """The library's counter, which knows attention's fused kernels but not the one for the CPU."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def count(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
        # Scores and mixture: 2 x pairs of places x length of a key, and of a value.
        return 2 * math.prod(query[:-1]) * key[-2] * (key[-1] + value[-1])

    return FlopCounterMode(display=False, custom_mapping={kernel: count})


def _fake_run(body: fx.GraphModule, nodes: tuple[fx.Node, ...], sample_shape: tuple[int, ...], count: int) -> _FakeRun:
    values: dict[fx.Node, Any] = {}
    flop: dict[fx.Node, int] = {}
    interpreter = fx.Interpreter(body, garbage_collect_values=False)
    interpreter.env = values
    # Inference mode would forbid the views and counters used here, so gradients are merely switched on for this run.
    with torch.enable_grad(), FakeTensorMode(allow_non_fake_inputs=True), _counter() as counter:
        before = 0
        for node in nodes:
            if node.op == "placeholder":
                values[node] = torch.empty(count, *sample_shape, dtype=torch.float32)
            else:
                values[node] = interpreter.run_node(node)
            after = counter.get_total_flops()
            flop[node], before = after - before, after
    return _FakeRun(values, flop)


def _check_aliases(mutations: list[tuple[fx.Node, fx.Node]], graph: fx.Graph, run: _FakeRun) -> None:
    """Refuse what redirecting readers cannot repair: a tensor that is read after its memory was overwritten under another name."""
    places = {node: place for place, node in enumerate(graph.nodes)}
    for overwritten, writer in mutations:
        for other in run.values:
            if other is overwritten or places[other] > places[writer]:
                continue
            read_later = any(places[user] > places[writer] for user in other.users)
            if read_later and other is not writer and run.memory_of(other) & run.memory_of(overwritten):
                raise NetflError(
                    f"node '{writer.name}' writes in place into memory that '{other.name}' shows and that is read later; "
                    "use the form that returns a new tensor"
                )


def _sorts(nodes: tuple[fx.Node, ...], run: _FakeRun) -> dict[fx.Node, Sort]:
    sorts: dict[fx.Node, Sort] = {}
    for node in nodes:
        sources = {sorts[source] for source in node.all_input_nodes}
        if node.op == "placeholder" or (Sort.DATA in sources and run.tensors(node)):
            sorts[node] = Sort.DATA
        elif sources - {Sort.CONSTANT} and not run.tensors(node):
            sorts[node] = Sort.SHAPE
        else:
            sorts[node] = Sort.CONSTANT
    return sorts


def _layouts(node: fx.Node, two: _FakeRun, three: _FakeRun) -> tuple[Layout | None, ...]:
    pairs = zip(pytree.tree_leaves(two.values[node]), pytree.tree_leaves(three.values[node]), strict=True)
    return tuple(_layout(node, *pair) for pair in pairs)


def _layout(node: fx.Node, two: Any, three: Any) -> Layout | None:
    if two is None and three is None:
        return None
    if not isinstance(two, torch.Tensor):
        raise NetflError(f"node '{node.name}' returns tensors together with a {type(two).__name__}, which cannot be cut")
    axes = [axis for axis in range(min(two.ndim, three.ndim)) if two.shape[axis] != three.shape[axis]]
    rows = three.shape[axes[0]] - two.shape[axes[0]] if len(axes) == 1 else 0
    if two.ndim != three.ndim or len(axes) != 1 or two.shape[axes[0]] != 2 * rows:
        raise NetflError(
            f"node '{node.name}' does not keep the samples of a batch apart: its output is "
            f"{tuple(two.shape)} for 2 samples and {tuple(three.shape)} for 3"
        )
    rest = tuple(int(length) for axis, length in enumerate(two.shape) if axis != axes[0])
    stride = two.stride()
    return Layout(
        shape=rest if rows == 1 else (int(rows), *rest),
        axis=axes[0],
        rows=int(rows),
        order=tuple(sorted(range(two.ndim), key=lambda axis: -stride[axis])),
        dtype=two.dtype,
    )


# Costs


def _cost(
    node: fx.Node,
    sorts: dict[fx.Node, Sort],
    slices: dict[fx.Node, tuple[tuple[int, int], ...]],
    body: fx.GraphModule,
    two: _FakeRun,
    three: _FakeRun,
) -> tuple[float, float]:
    """(flop, moved bytes) of a data node for one sample: what a batch of 3 has more than a batch of 2, and its parameters."""
    sources = [source for source in node.all_input_nodes if sorts[source] is Sort.DATA]
    if node.op == "placeholder" or any(two.memory_of(source) & two.memory_of(node) for source in sources):
        return 0.0, 0.0
    activations = sum(three.bytes_of(each) - two.bytes_of(each) for each in (*sources, node))
    parameters = VALUE_BYTES * sum(stop - start for start, stop in slices[node])
    layer = body.get_submodule(str(node.target)) if node.op == "call_module" else None
    recurrent = recurrent_weights(node)
    if recurrent is not None:
        weights, batch_first = recurrent
        steps = two.tensors(sources[0])[0].shape[1 if batch_first else 0]
        matrices = (two.tensors(weight)[0] for weight in weights)
        flop = 2 * sum(matrix.numel() for matrix in matrices if matrix.ndim > 1) * int(steps)
    elif isinstance(layer, nn.RNNBase):
        steps = two.tensors(sources[0])[0].shape[1 if layer.batch_first else 0]
        counted = sum(weight.numel() for name, weight in layer.named_parameters() if name.startswith("weight"))
        flop = 2 * counted * int(steps)
    else:
        flop = three.flop[node] - two.flop[node]
    if not flop:
        flop = sum(leaf.numel() for leaf in three.tensors(node)) - sum(leaf.numel() for leaf in two.tensors(node))
    return float(flop), float(activations + parameters)


def _slices(
    nodes: tuple[fx.Node, ...], sorts: dict[fx.Node, Sort], body: fx.GraphModule, source: nn.Module
) -> dict[fx.Node, tuple[tuple[int, int], ...]]:
    spans: dict[int, tuple[int, int]] = {}
    start = 0
    for parameter in source.parameters():
        spans[id(parameter)] = (start, start + parameter.numel())
        start += parameter.numel()
    found: dict[fx.Node, tuple[tuple[int, int], ...]] = {}
    for node in nodes:
        mine: set[tuple[int, int]] = set()
        if node.op == "call_module":
            mine |= {spans[id(parameter)] for parameter in body.get_submodule(str(node.target)).parameters()}
        elif node.op == "get_attr":
            mine |= {spans[id(attribute)] for attribute in [operator.attrgetter(str(node.target))(body)] if id(attribute) in spans}
        for read in node.all_input_nodes:
            if sorts[read] is Sort.CONSTANT:
                mine |= set(found[read])
        found[node] = tuple(sorted(mine))
    return found


def _op_name(node: fx.Node, body: fx.GraphModule) -> str:
    if node.op == "placeholder":
        return "input"
    if OP in node.meta:
        return str(node.meta[OP])
    if node.op == "call_module":
        return type(body.get_submodule(str(node.target))).__name__
    return str(getattr(node.target, "__name__", node.target))
