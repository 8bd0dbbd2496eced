"""Any traced module on stacked parameters, the backward pass by autograd.

torch.fx traces the module; each node of the graph then runs once for all clients, on values that `netfl.learning.graph_values`
lays out. Known are the functions in the tables of that file and the layers in the table of `netfl.learning.graph_layers`;
`graph_of` says what stands in the way of any other module.

**A client's bits do not depend on its company**, as in `netfl.learning.stacked`. Besides, one client alone takes other
kernels for convolutions, so it trains beside a copy of itself; sums and activations are taken by kernels that give a number the same
bits wherever it lies; and a whole batch is filled up so that every client's part of every tensor is a multiple of `QUANTUM` numbers.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from netfl.learning.graph_layers import LAYERS, OF_PARAMETERS, named
from netfl.learning.graph_values import (
    ACTIVATIONS,
    BY_ELEMENT,
    BY_PLANE,
    BY_SAMPLE,
    IN_PLACE,
    SHAPES,
    Pass,
    Run,
    UnknownNodeError,
    Value,
    by_plane,
    by_sample,
    elementwise,
    shape_of,
)
from netfl.learning.models import Model
from netfl.learning.stacked import QUANTUM, Batch
from netfl.learning.updates import Update

__all__ = ["Graph", "graph_of"]

CHUNK_BYTES = 32 * 2**20
"""Clients train in chunks whose weights and step fit this. Of 8 and 32 MiB the greater was as fast or faster on eight small nets."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Slot:
    """An argument that is another node's value."""

    index: int


@dataclass(frozen=True)
class Graph:
    """A `netfl.learning.stacked.Plan`.

    Args:
        nodes: each node's way to run, its arguments and its keyword arguments, in order; the first takes the samples.
        shapes: of the parameters, in the order of the vector.
        stacked_shapes: the same, filled up.
        inputs: shape of a sample.
        num_logits: the classes.
        numbers_per_sample: outputs and windows of all nodes.
        quantum: a whole batch is filled up to a multiple of this.
        has_draws: whether there is dropout.
        tokens: how many tokens the least embedding knows; 0 without.
        entrance: index of the value that enters the last linear layer; None if there is none on one vector a sample.
    """

    nodes: tuple[tuple[Run, tuple[Any, ...], Mapping[str, Any]], ...]
    shapes: tuple[Shape, ...]
    stacked_shapes: tuple[Shape, ...]
    inputs: Shape
    num_logits: int
    numbers_per_sample: int
    quantum: int
    has_draws: bool
    tokens: int
    entrance: int | None

    rows = 8
    needs_autograd = True

    @property
    def chunk_bytes(self) -> int:
        """See `CHUNK_BYTES`."""
        return CHUNK_BYTES

    def at_work(self) -> Graph:
        """Nothing is used again."""
        return self

    def settle(self, weights: Sequence[Tensor]) -> None:
        """What fills up is zero, and stays so: it is cut off behind every product."""

    def forward(self, weights: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Any]:
        """See `netfl.learning.stacked.Plan`."""
        clients = len(weights[0])
        samples = batch.samples.view(-1, *self.inputs)
        if clients == 1:
            samples = torch.cat([samples, samples])
        with torch.enable_grad():
            leaves = [(torch.cat([weight, weight]) if clients == 1 else weight.detach()).requires_grad_() for weight in weights]
            width = len(leaves[0])
            step = Pass(width, len(samples) // width, leaves, batch)
            values: list[Any] = [Value("rows", samples)]
            for run, arguments, options in self.nodes:
                given = [_filled_in(argument, values) for argument in arguments]
                values.append(run(step, *given, **{name: _filled_in(option, values) for name, option in options.items()}))
            logits = step.apart(step.rows(values[-1]))
            entered = None if self.entrance is None else step.rows(values[self.entrance])
        return logits.detach()[:clients].clone(), (logits, leaves, entered)

    def backward(self, update: Update, kept: Any, gradient: Tensor, penalty: Callable[[Tensor], Tensor] | None = None) -> None:
        """See `netfl.learning.stacked.Plan`.

        Raises:
            ValueError: there is a penalty on what enters the last linear layer, and no such layer.
        """
        logits, leaves, entered = kept
        clients = len(gradient)
        ends, gradients = [logits], []
        if penalty is not None:
            if entered is None:
                raise ValueError("expected a model that ends in a linear layer on one vector a sample, for a penalty on what enters it")
            if entered.requires_grad:
                more = penalty(entered.detach()[: clients * gradient.shape[1]])
                ends.append(entered)
                gradients.append(torch.cat([more, torch.zeros_like(more)]) if clients < len(logits) else more)
        if clients < len(logits):
            gradient = torch.cat([gradient, torch.zeros_like(gradient)])
        for index, part in enumerate(torch.autograd.grad(ends, leaves, [gradient, *gradients], allow_unused=True)):
            update.add(index, torch.zeros_like(update.weights[index]) if part is None else part[:clients])


def _filled_in(argument: Any, values: Sequence[Any]) -> Any:
    if isinstance(argument, _Slot):
        return values[argument.index]
    if isinstance(argument, tuple | list):
        return type(argument)(_filled_in(part, values) for part in argument)
    if isinstance(argument, slice):
        return slice(*(_filled_in(part, values) for part in (argument.start, argument.stop, argument.step)))
    return argument


@functools.lru_cache(maxsize=64)
def graph_of(model: Model, sample_shape: Shape, num_classes: int) -> Graph | str:
    """A model's graph, or what stands in its way."""
    with torch.device("meta"):
        module = model.build(sample_shape, num_classes).train()
    try:
        traced = fx.Tracer().trace(module)
    except Exception as error:  # a module's own code runs on proxies here, and may fail in any way
        return f"torch.fx cannot trace it: {error}"
    try:
        return _Compiler(module, traced, sample_shape, num_classes).graph()
    except UnknownNodeError as error:
        return str(error)


class _Compiler:
    """Finds each node's way to run.

    Args:
        module: on the meta device.
        traced: its graph.
        sample_shape: of one sample.
        num_classes: how many labels there are.
    """

    def __init__(self, module: nn.Module, traced: fx.Graph, sample_shape: Shape, num_classes: int) -> None:
        self.module = module
        self.traced = traced
        self.sample_shape = sample_shape
        self.num_classes = num_classes
        self.shapes = tuple(tuple(parameter.shape) for parameter in module.parameters())
        self.stacked_shapes: dict[int, Shape] = {}
        self.numbers = 0
        self.widths: list[int] = []
        self.tokens: list[int] = []
        self.has_draws = False
        self.kinds: dict[fx.Node, str] = {}
        order = {id(parameter): index for index, parameter in enumerate(module.parameters())}
        self.indices = {name: order[id(parameter)] for name, parameter in module.named_parameters(remove_duplicate=False)}

    def graph(self) -> Graph:
        """The whole of it."""
        self.values = self._values()
        slots: dict[fx.Node, _Slot] = {}

        def place(node: fx.Node) -> Any:
            return slots[node]

        nodes = []
        for node in self.traced.nodes:
            if node.op == "placeholder":
                if slots:
                    raise UnknownNodeError("its forward takes more than one argument")
                slots[node] = _Slot(0)
                self._count(node)
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node) or self.shape(node.args[0]) != (self.num_classes,):
                    raise UnknownNodeError(f"it ends in something other than {self.num_classes} logits a sample")
                if list(slots)[-1] is not node.args[0]:
                    raise UnknownNodeError("its result is not its last node")
            else:
                run = self._run(node)
                arguments = fx.node.map_arg(node.args, place)
                nodes.append((run, tuple(arguments), fx.node.map_arg(node.kwargs, place)))
                slots[node] = _Slot(len(nodes))
                self._count(node)
        stacked_shapes = tuple(self.stacked_shapes.get(index, shape) for index, shape in enumerate(self.shapes))
        quantum = max((QUANTUM // math.gcd(QUANTUM, width) for width in self.widths), default=1)
        return Graph(
            tuple(nodes),
            self.shapes,
            stacked_shapes,
            self.sample_shape,
            self.num_classes,
            self.numbers,
            quantum,
            self.has_draws,
            min(self.tokens, default=0),
            self._entrance(slots),
        )

    def _entrance(self, slots: Mapping[fx.Node, _Slot]) -> int | None:
        for node in reversed(self.traced.nodes):
            if node.op == "call_module" and isinstance(self.module.get_submodule(str(node.target)), nn.Linear):
                return slots[node.args[0]].index if len(self.shape(node.args[0])) == 1 else None
        return None

    def _values(self) -> dict[fx.Node, tuple[Any, Any]]:
        """What every node gives for 7 and for 11 samples, without values."""
        found = []
        owner = fx.GraphModule(self.module, self.traced)
        for length in (7, 11):
            recorder = _Recorder(owner)
            reason: Exception | None = None
            for dtype in (torch.float32, torch.int64):
                try:
                    recorder.run(torch.empty((length, *self.sample_shape), dtype=dtype, device="meta"))
                    break
                except Exception as error:  # code from outside, on samples that it may not like
                    reason = reason or error
            else:
                raise UnknownNodeError(f"it does not run on samples of shape {self.sample_shape}: {reason}")
            found.append(recorder.values)
        return {node: (found[0][node], found[1][node]) for node in self.traced.nodes}

    def shape(self, node: Any) -> Shape:
        """A node's shape, without the samples."""
        seven, eleven = self.values[node]
        if self.kind(node) != "samples" or not isinstance(seven, Tensor):
            raise UnknownNodeError(f"{named(node)} gives no tensor of samples")
        _check_batched(node, seven, eleven)
        return tuple(seven.shape[1:])

    def _count(self, node: fx.Node) -> None:
        for value in _tensors(self.values[node][0]):
            if value.dim() and value.shape[0] == 7:
                self.numbers += value.numel() // 7
                self.widths.append(value.numel() // 7)

    def _run(self, node: fx.Node) -> Run:
        """A node's way to run."""
        if node.op == "get_attr":
            return self._attribute(str(node.target))
        if node.op == "call_module":
            return self._layer(node, self.module.get_submodule(str(node.target)))
        target: Any = node.target
        if node.op == "call_method":
            target = getattr(Tensor, target, None)
        if target is getattr and node.args[1] == "shape":
            return shape_of
        if target in (Tensor.size, Tensor.dim):
            return SHAPES[target]
        kinds = {self.kind(argument) for argument in node.all_input_nodes}
        if target is operator.getitem:
            return self._item(node)
        if kinds <= {"plain"}:
            return lambda step, *given, **options: target(*given, **options)
        if target in IN_PLACE or node.kwargs.get("inplace"):
            self._check_in_place(node)
            target = IN_PLACE.get(target, target)
        if target in OF_PARAMETERS:
            return OF_PARAMETERS[target](self, node)
        if target in BY_ELEMENT:
            return self._elementwise(node, BY_ELEMENT[target])
        if target is functional.dropout:
            return self.dropout(node, node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5), node.kwargs.get("training", True))
        if target in BY_SAMPLE or target in BY_PLANE:
            if "own" in kinds:
                raise UnknownNodeError(f"{named(node)} takes parameters")
            for argument in node.all_input_nodes:
                if self.kind(argument) == "samples":
                    self.shape(argument)
            for value in zip(*(_tensors(each) for each in self.values[node]), strict=True):
                _check_batched(node, *value)
            return by_plane(target) if target in BY_PLANE else by_sample(target)
        raise UnknownNodeError(f"{named(node)} has no stacked form")

    def _check_in_place(self, node: fx.Node) -> None:
        if len(node.all_input_nodes[0].users) > 1:
            raise UnknownNodeError(f"{named(node)} works in place on a value that others use")

    def kind(self, node: Any) -> str:
        """Whether a node is made of samples, of parameters alone (own), or of neither (plain)."""
        if not isinstance(node, fx.Node):
            return "plain"
        if node not in self.kinds:
            if node.op == "placeholder":
                kind = "samples"
            elif node.op == "get_attr":
                kind = "own" if str(node.target) in self.indices else "plain"
            elif node.op == "call_module":
                kind = "samples" if any(self.kind(argument) == "samples" for argument in node.all_input_nodes) else "own"
            elif not _tensors(self.values[node][0]):
                kind = "plain"  # a length, say
            else:
                kinds = {self.kind(argument) for argument in node.all_input_nodes}
                kind = next((each for each in ("samples", "own") if each in kinds), "plain")
            self.kinds[node] = kind
        return self.kinds[node]

    def _elementwise(self, node: fx.Node, function: Callable[..., Any]) -> Run:
        """A function of numbers at the same place, after broadcasting."""
        if any(self.kind(option) != "plain" for option in node.kwargs.values()):
            raise UnknownNodeError(f"{named(node)} takes samples by keyword")
        shapes = []
        for argument in node.args:
            value = self.values[argument][0] if isinstance(argument, fx.Node) else None
            shapes.append(tuple(value.shape) if isinstance(value, Tensor) else ())
            if self.kind(argument) == "samples":
                self.shape(argument)
        kinds = [self.kind(argument) for argument in node.args]
        ranks = {len(shape) for shape, kind in zip(shapes, kinds, strict=True) if kind == "samples"}
        if len(ranks) > 1:
            raise UnknownNodeError(f"{named(node)} joins samples of unequal numbers of axes")
        for shape, kind in zip(shapes, kinds, strict=True):
            if ranks and kind != "samples" and len(shape) >= max(ranks) and (len(shape) > max(ranks) or shape[0] != 1):
                raise UnknownNodeError(f"{named(node)} joins samples with a tensor that has a number for each")
        options = {name: option for name, option in node.kwargs.items() if name != "inplace"}
        return functools.partial(elementwise, function, tuple(map(len, shapes)), options)

    def _attribute(self, name: str) -> Run:
        if name not in self.indices:
            owner, _, attribute = name.rpartition(".")
            constant = getattr(self.traced.owning_module or self.module.get_submodule(owner), attribute, None)
            if not isinstance(constant, Tensor) or constant.device.type == "meta":
                raise UnknownNodeError(f"it reads '{name}', which is no parameter")
            return lambda step: constant
        index = self.indices[name]
        cut = (slice(None), *(slice(length) for length in self.shapes[index]))
        return lambda step: Value("own", step.weights[index][cut])

    def weight(self, node: fx.Node, name: str, shape: Shape | None = None) -> int:
        """The index of a layer's parameter, whose stacked form has the given shape."""
        index = self.indices[f"{node.target}.{name}"]
        wanted = self.shapes[index] if shape is None else shape
        if self.stacked_shapes.setdefault(index, wanted) != wanted:
            raise UnknownNodeError(f"{named(node)} shares a parameter with another kind of layer")
        return index

    def _layer(self, node: fx.Node, layer: nn.Module) -> Run:
        """A layer of torch's own."""
        kind = type(layer)
        if kind in ACTIVATIONS:
            if getattr(layer, "inplace", False):
                self._check_in_place(node)
            self.shape(node.args[0])
            function = ACTIVATIONS[kind](layer)
            return lambda step, x: Value(x.layout, function(x.tensor))
        if kind in LAYERS:
            if kind is not nn.Embedding or self.kind(node.args[0]) != "plain":  # positions may be numbered alike for all samples
                self.shape(node.args[0])
            return LAYERS[kind](self, node, layer)
        raise UnknownNodeError(f"{named(node)} has no stacked form")

    def _item(self, node: fx.Node) -> Run:
        """Part of a value."""
        container, key = cast(tuple[Any, Any], node.args)
        kind, values = self.kind(container), self.values[container]
        if kind == "own":
            cut = key if isinstance(key, tuple) else (key,)
            return lambda step, x, key: Value("own", x.tensor[(slice(None), *cut)])
        if kind == "samples" and isinstance(values[0], Tensor):
            if values[0].shape[:1] == (7,) and values[1].shape[:1] == (11,):
                first = key[0] if isinstance(key, tuple) and key else key
                if first != slice(None):
                    raise UnknownNodeError(f"{named(node)} picks among the samples")
                return by_sample(operator.getitem)
            if not isinstance(key, int):
                raise UnknownNodeError(f"{named(node)} has no stacked form")
            return lambda step, x, key: Value("rows", x.tensor[key])  # one of the last states
        return lambda step, x, key: x[key]

    def dropout(self, node: fx.Node, share: Any, is_training: Any) -> Run:
        """Numbers of each client's own, as the plain loop draws them: one array for a layer and a true batch."""
        self.shape(node.args[0])
        if not isinstance(share, float | int):
            raise UnknownNodeError(f"{named(node)} takes its share from the samples")
        if not share or not is_training:
            return lambda step, x, *_, **__: x
        self.has_draws = True

        def run(step: Pass, x: Value, *_: Any, **__: Any) -> Value:
            rows = step.rows(x)
            masks = rows.new_zeros((step.clients, step.length, *rows.shape[1:]))
            if share < 1:
                for mask, length, generator in zip(masks, step.batch.lengths.tolist(), step.batch.generators, strict=False):
                    mask[:length] = torch.empty_like(mask[:length]).bernoulli_(1 - share, generator=generator)
                masks.div_(1 - share)
            return Value("rows", rows * masks.flatten(0, 1))

        return run


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps every node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Keep values under the nodes of this run alone."""
        self.values = {}
        with torch.no_grad():
            return super().run(*args, **kwargs)

    def run_node(self, n: fx.Node) -> Any:
        """Keep what the node gave."""
        with torch.device("meta"):
            value = super().run_node(n)
        self.values[n] = value.to("meta") if n.op == "get_attr" else value
        return self.values[n]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple | list) else []


def _check_batched(node: fx.Node, seven: Tensor, eleven: Tensor) -> None:
    """Check that a value has the samples as its first axis, and nowhere else."""
    if (seven.shape[:1], eleven.shape[:1]) != ((7,), (11,)) or seven.shape[1:] != eleven.shape[1:]:
        raise UnknownNodeError(f"{named(node)} gives {tuple(seven.shape)} for 7 samples: they are not its first axis alone")
