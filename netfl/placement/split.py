"""The pieces of a placed model, run for real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn.utils import vector_to_parameters

from netfl.errors import NetflError
from netfl.placement.graph import Sort, one_thread, trace_graph
from netfl.placement.profile import Profile

__all__ = ["OUTPUT", "Split"]

OUTPUT = "output"
"""The name under which the last piece gives the model's output."""

Tensors = dict[str, NDArray[np.float32]]


class Split:
    """A model cut into pieces, one per tier.

    Whatever crosses a cut does so as contiguous float32 arrays, one row per sample, each tensor once. Run with the same batches on
    one thread, the pieces in order give the whole model's output bit for bit (its eval mode): the receiving piece lays a tensor out in
    memory as the whole model has it, since kernels choose their order of summation by that.

    Args:
        module: whose weights and buffers are read at every call; never changed.
        profile: `trace(module, ...)`.
        cuts: as in `Placement.cuts`; there is one piece more than cuts.

    Raises:
        NetflError: the profile is another model's.
        ValueError: cuts that fall, lie below 1 or beyond the last node.
    """

    def __init__(self, module: nn.Module, profile: Profile, cuts: tuple[int, ...]) -> None:
        self._borders = (0, *cuts, len(profile.nodes))
        if list(self._borders[1:]) != sorted(self._borders[1:]) or self._borders[1] < 1:
            raise ValueError(f"expected non-decreasing cuts from 1 to {len(profile.nodes)}, got {cuts}")
        self._module = module
        self._profile = profile
        self._traced = trace_graph(module, profile.sample_shape, profile.tracer)
        self._by_name = {node.name: node for node in self._traced.steps}
        if sorted(self._by_name) != sorted(profile.index):
            raise NetflError(f"the profile's nodes are not those of this {type(module).__name__}: trace the module again")
        # A profile may hold the nodes in another order than the trace, as `Placement.arranged` does.
        self._steps = tuple(self._by_name[node.name] for node in profile.nodes)
        self._shapes: dict[int, dict[fx.Node, Any]] = {}
        self.cuts = cuts

    @property
    def pieces(self) -> tuple[Callable[..., Tensors], ...]:
        """One callable per tier: `run_piece` of that tier."""
        return tuple(partial(self.run_piece, place) for place in range(len(self._borders) - 1))

    def run_piece(self, k: int, tensors: Mapping[str, NDArray[np.float32]], vector: NDArray[np.float32] | None = None) -> Tensors:
        """Run one piece.

        Args:
            k: which tier's.
            tensors: what crosses the cut before it, by node, each (N, *output_shape); for the first piece the samples under the
                input node's name.
            vector: the weights (P,), in the order of `parameters_to_vector(module.parameters())`; the module's own where left out.

        Returns:
            What crosses the cut behind the piece, by node; from the piece that makes the output {"output": (N, ...)}. A piece without
            nodes returns what it was given.

        Raises:
            NetflError: other tensors, shapes or number of weights than the piece takes.
        """
        start, stop = self._borders[k], self._borders[k + 1]
        if start == stop:
            return dict(tensors)
        wanted = self._profile.crossing(start) if start else (self._profile.nodes[0].name,)
        count = self._check_tensors(wanted, tensors)
        steps = self._steps[start:stop]
        with torch.no_grad(), one_thread():
            self._load(vector)
            runner = fx.Interpreter(self._traced.body, garbage_collect_values=False)
            runner.env = {**self._shapes_of(count)}
            for name in wanted:
                node = self._by_name[name]
                runner.env[node] = self._traced.unpack(node, np.ascontiguousarray(tensors[name], dtype=np.float32))
            constants = self._constants_of(steps)
            for node in (*(node for node in self._traced.nodes if node in constants), *steps):
                if node not in runner.env:
                    runner.env[node] = runner.run_node(node)
            if stop == len(self._steps):
                return {OUTPUT: self._traced.pack(steps[-1], runner.env[steps[-1]])}
            crossing = (self._by_name[name] for name in self._profile.crossing(stop))
            return {node.name: self._traced.pack(node, runner.env[node]) for node in crossing}

    def _check_tensors(self, wanted: tuple[str, ...], tensors: Mapping[str, NDArray[np.float32]]) -> int:
        if set(wanted) != set(tensors):
            raise NetflError(f"expected the tensors {', '.join(wanted)}, got {', '.join(tensors) or 'none'}")
        count = len(tensors[wanted[0]])
        for name in wanted:
            shape = (count, *self._profile.nodes[self._profile.index[name]].output_shape)
            if tensors[name].shape != shape:
                raise NetflError(f"expected '{name}' of shape {shape}, got {tensors[name].shape}")
        return count

    def _load(self, vector: NDArray[np.float32] | None) -> None:
        """Bring the private copy's weights and buffers up to date."""
        source = self._traced.source
        if vector is None:
            for mine, theirs in zip(source.parameters(), self._module.parameters(), strict=True):
                mine.data = theirs.detach().cpu()
        else:
            expected = sum(parameter.numel() for parameter in source.parameters())
            if vector.shape != (expected,):
                raise NetflError(f"expected a vector of ({expected},) weights, got {vector.shape}")
            vector_to_parameters(torch.tensor(vector), source.parameters())
        for held, current in zip(source.buffers(), self._module.buffers(), strict=True):
            held.copy_(current)

    def _shapes_of(self, count: int) -> dict[fx.Node, Any]:
        if count not in self._shapes:
            self._shapes[count] = self._traced.shapes(count)
        return self._shapes[count]

    def _constants_of(self, steps: tuple[fx.Node, ...]) -> set[fx.Node]:
        """The constants that these steps read, directly or through others."""
        found: set[fx.Node] = set()
        todo = list(steps)
        while todo:
            for node in todo.pop().all_input_nodes:
                if self._traced.sorts[node] is Sort.CONSTANT and node not in found:
                    found.add(node)
                    todo.append(node)
        return found
