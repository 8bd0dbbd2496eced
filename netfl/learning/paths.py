"""How a model is trained: the rule that chooses.

1. **chain**: `netfl.learning.chains`, many clients at once with gradients written out, for a model that is such a chain, unless one
   step's convolution windows take more than `MOST_WINDOW_BYTES` and more than the model's weights: gathering so many costs more than
   the loop's convolutions (measured: level at 4 MB of windows, 0.90 of the loop's speed at 7 MB, 0.75 at 13 MB).
2. **graph**: `netfl.learning.graphs`, many clients at once by autograd, for a model of known layers and functions if at least
   `LEAST_CLIENTS` clients' weights and steps fit a chunk (`graphs.CHUNK_BYTES`): beyond, the work of a step is so large that
   nothing is gained (measured: level with the loop at five clients a chunk, slower below). A rehearsal on made-up samples must end
   in the plain loop's numbers (to 1e-9 in float64), and every client of it in the same bits alone as among others.
3. **loop**: `netfl.learning.plain`, one client after another, for the rest, and for everything on a CUDA device.

`torch.func.vmap` over `functional_call` is not among them: it promises no client the same bits in any company, and on each of seven
nets whose graph is known it was slower than that graph (1.2 to 2.3 times, `benchmarks/training.py --paths`).

The choice depends on the model, the samples' shape and the batch size, never on how many clients there are.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from netfl.learning import plain, stacked
from netfl.learning.chains import chain_of
from netfl.learning.models import Model, initial
from netfl.learning.rules import Rule
from netfl.randomness import Streams

if TYPE_CHECKING:
    from netfl.learning.graphs import Graph

__all__ = ["LEAST_CLIENTS", "MOST_WINDOW_BYTES", "Path", "path_of"]

MOST_WINDOW_BYTES = 6 * 2**20
"""A step's convolution windows may take so much, or as much as the weights, in float32."""

LEAST_CLIENTS = 6
"""So many clients' weights and steps must fit a chunk."""

TOLERANCE = 1e-9
"""How far the rehearsal may end from the plain loop, in float64."""


@dataclass(frozen=True)
class Path:
    """How a model is trained.

    Args:
        kind: chain, graph or loop; see the module.
        reason: why not by what stands before it; empty for a chain.
        plan: of a chain or a graph.
    """

    kind: Literal["chain", "graph", "loop"]
    reason: str
    plan: stacked.Plan | None


@functools.lru_cache(maxsize=64)
def path_of(model: Model, sample_shape: tuple[int, ...], num_classes: int, batch_size: int) -> Path:
    """How a model is trained on the CPU, and why."""
    chain = chain_of(model, sample_shape, num_classes)
    if not isinstance(chain, str):
        window_bytes = 4 * batch_size * chain.windows_per_sample
        if window_bytes > max(MOST_WINDOW_BYTES, 4 * stacked.num_parameters(chain)):
            return Path("loop", f"a step's convolution windows take {window_bytes / 1e6:.1f} MB", None)
        return Path("chain", "", chain)
    # torch.fx takes a while to import, and chains do without.
    from netfl.learning.graphs import graph_of

    graph = graph_of(model, sample_shape, num_classes)
    if isinstance(graph, str):
        return Path("loop", graph, None)
    fitting = stacked.clients_per_chunk(graph, batch_size, 4)
    if fitting < LEAST_CLIENTS:
        return Path("loop", f"a chunk holds {fitting} clients, and a graph is worth it from {LEAST_CLIENTS} on", None)
    with plain.one_thread():
        try:
            refusal = _rehearse(graph, model, sample_shape, num_classes, batch_size)
        except Exception as error:  # code from outside; the loop shows whether it trains at all
            refusal = f"it does not run for many clients at once: {error}"
    return Path("loop", refusal, None) if refusal else Path("graph", chain, graph)


def _rehearse(graph: Graph, model: Model, sample_shape: tuple[int, ...], num_classes: int, batch_size: int) -> str:
    """What is wrong with a graph, or nothing."""
    streams = Streams(seed=0)
    rng = streams.generator("rehearsal")
    rule = Rule(learning_rate=0.1)
    lengths = [2 * batch_size, 2 * batch_size, batch_size + 1, batch_size, 1]
    samples, labels = [], [rng.integers(0, num_classes, length) for length in lengths]
    for length in lengths:
        shape = (length, *sample_shape)
        samples.append(rng.integers(0, graph.tokens, shape) if graph.tokens else rng.standard_normal(shape))
    orders = [[rng.permutation(length)] for length in lengths]
    start = initial(model, sample_shape, num_classes, streams.stream("rehearsal", "start"))
    module = plain.module_of(model, sample_shape, num_classes, np.dtype(np.float64))
    for dtype in (np.float64, np.float32):
        inputs = [each if graph.tokens else each.astype(dtype) for each in samples]
        starts = [start.astype(dtype) for _ in lengths]
        seeds = list(range(len(lengths)))
        together, _ = stacked.train(graph, starts, inputs, labels, orders, seeds, batch_size=batch_size, rule=rule)
        for client, vector in enumerate(together):
            one = slice(client, client + 1)
            (alone,), _ = stacked.train(
                graph, starts[one], inputs[one], labels[one], orders[one], seeds[one], batch_size=batch_size, rule=rule
            )
            if vector.tobytes() != alone.tobytes():
                return f"a client of {lengths[client]} samples ended in other bits alone than among others"
            if dtype == np.float64:
                expected, _ = plain.train(
                    module, starts[client], inputs[client], labels[client], orders[client], seeds[client], batch_size=batch_size, rule=rule
                )
                distance = float(np.abs(vector - expected).max())
                if not distance <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
                    return f"a client of {lengths[client]} samples ended {distance:.1e} away from the plain loop"
    return ""
