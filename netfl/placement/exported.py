"""A module as torch.export sees it, made into a graph that reads like one of torch.fx.

Export follows what runs on an example batch, through any Python code, and leaves a flat list of library calls. Here the calls get the
names that torch.fx would give them (`conv1` for a layer that is one call, else the function's name), parameters become attributes
of the module again, and calls that write into a tensor become ones that return a new one.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import fx, nn
from torch._ops import OpOverload

from netfl.errors import NetflError

__all__ = ["OP", "exported_graph", "first_line", "leave_alone", "recurrent_weights", "without_words"]

OP = "netfl_op"
"""Key of a node's `meta` that holds what `Node.op` says."""

_EXAMPLES = 2
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}


def exported_graph(source: nn.Module, sample_shape: tuple[int, ...]) -> fx.Graph:
    """The graph of a module in eval mode, for batches of any length.

    Args:
        source: is given whatever tensors the graph reads that are no parameter or buffer of it, as plain attributes.
        sample_shape: without the batch axis.

    Raises:
        NetflError: torch.export cannot follow it, or it returns anything but one tensor.
    """
    batch = torch.zeros(_EXAMPLES, *sample_shape)
    with without_words():
        try:
            dynamic = ({0: torch.export.Dim("batch", min=1)},)
            program = torch.export.export(source, (batch,), dynamic_shapes=dynamic, strict=False)
            body = program.module(check_guards=False)
        except Exception as error:
            raise NetflError(f"cannot follow {type(source).__name__}: {first_line(error)}") from error
    form = program.call_spec.out_spec
    if form is None or not form.is_leaf():
        raise NetflError(f"expected a module that returns one tensor, got one that returns a {_called(form)}")
    graph = body.graph
    result = next(iter(reversed(graph.nodes)))
    value = result.args[0]
    result.args = (value[0] if isinstance(value, tuple | list) else value,)
    graph.set_codegen(fx.graph.CodeGen())
    for node in list(graph.nodes):
        if node.op == "call_module" and not node.users:
            graph.erase_node(node)
    _ask_shapes_late(graph)
    _keep_constants(graph, body, source)
    _name_nodes(graph)
    return graph


def first_line(error: BaseException) -> str:
    """What an error says before it goes into details."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def without_words() -> Iterator[None]:
    """Keep the library from printing graphs and warnings about a module that another tracer will take."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # Export prints the graph that it could not make, past the loggers.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def leave_alone(node: fx.Node) -> bool | None:
    """Make a library call that writes into its first input return a new tensor; None if the node is no library call.

    Raises:
        NetflError: the call has no form that returns a new tensor.
    """
    function: Any = node.target
    if not isinstance(function, OpOverload):
        return None
    if not any(argument.alias_info is not None and argument.alias_info.is_write for argument in function._schema.arguments):
        return False
    name = function._schema.name.split("::")[-1]
    packet = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") else None
    overload = getattr(packet, function._overloadname, None)
    if overload is None:
        raise NetflError(f"node '{node.name}' writes into a tensor with `{name}`, which has no form that leaves it alone")
    node.target = overload
    return True


def recurrent_weights(node: fx.Node) -> tuple[list[fx.Node], bool] | None:
    """The weights of a recurrent layer's call, and whether samples lie on its first axis; None for any other node."""
    function: Any = node.target
    if not isinstance(function, OpOverload) or function._schema.name.split("::")[-1] not in _RECURRENT:
        return None
    weights: Any = node.args[2]
    return list(weights), bool(node.args[-1])


def _called(form: Any) -> str:
    return getattr(getattr(form, "type", None), "__name__", "structure")


def _ask_shapes_late(graph: fx.Graph) -> None:
    """Move what asks for the batch's length from the beginning of the graph to where it is first used."""
    places = {node: place for place, node in enumerate(graph.nodes)}
    for node in reversed(list(graph.nodes)):
        if node.target is torch.ops.aten.sym_size.int and node.users:
            min(node.users, key=places.__getitem__).prepend(node)


def _keep_constants(graph: fx.Graph, body: fx.GraphModule, source: nn.Module) -> None:
    """Let the source hold the tensors that export lifted out of the code (`torch.tensor(2.0)` in `forward`)."""
    for node in graph.nodes:
        if node.op == "get_attr" and not _has(source, str(node.target)):
            holder: Any = body
            for part in str(node.target).split("."):
                holder = getattr(holder, part)
            setattr(source, str(node.target).replace(".", "_"), holder)
            node.target = str(node.target).replace(".", "_")


def _has(holder: Any, path: str) -> bool:
    for part in path.split("."):
        if not hasattr(holder, part):
            return False
        holder = getattr(holder, part)
    return True


def _name_nodes(graph: fx.Graph) -> None:
    """Name calls as torch.fx names them: a layer of torch.nn that is one call by its path, any other call by its function."""
    calls = [node for node in graph.nodes if node.op == "call_function"]
    counted = Counter(_layer_call(node) for node in calls)
    seen: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "placeholder":
            seen[node.name] += 1
    for node in calls:
        layer = _layer_call(node)
        if layer is not None and counted[layer] == 1:
            path, kind, _ = layer
            wanted, node.meta[OP] = path.replace(".", "_"), kind
            wanted = f"_{wanted}" if wanted[:1].isdigit() else wanted
        else:
            wanted = _function_name(node)
            node.meta[OP] = wanted
        seen[wanted] += 1
        node._rename(wanted if seen[wanted] == 1 else f"{wanted}_{seen[wanted] - 1}")


def _layer_call(node: fx.Node) -> tuple[str, str, str] | None:
    """(path, class, occasion) of the torch.nn layer that made the call; None where other code did."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return None
    occasion, (path, kind) = list(stack.items())[-1]
    name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if not path or not name.startswith("torch.nn."):
        return None
    return path, name.rsplit(".", 1)[-1], str(occasion)


def _function_name(node: fx.Node) -> str:
    function: Any = node.target
    if isinstance(function, OpOverload):
        name = function._schema.name.split("::")[-1]
        return {"sym_size": "size"}.get(name, name).rstrip("_")
    return str(getattr(function, "__name__", function)).rstrip("_")
