"""One training step of a model that is cut in pieces: activations cross forwards, their gradients backwards.

O. Gupta, R. Raskar, "Distributed learning of deep neural network over multiple agents", 2018. The step is ordinary backpropagation,
done piece by piece: the executor shows it, and shows every message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn.utils import parameters_to_vector

from netfl.errors import NetflError
from netfl.placement.graph import Sort, one_thread, trace_graph
from netfl.placement.profile import Profile

__all__ = ["Step", "split_step"]

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Step:
    """What a step made and sent.

    Args:
        loss: mean cross-entropy of the batch.
        gradient: of all parameters (P,), in the order of `parameters_to_vector`.
        forward: what crossed each cut forwards, by node, (N, ...) each.
        backward: its gradients, which crossed the same cut backwards; the cuts in the same order.
    """

    loss: float
    gradient: NDArray[np.float32]
    forward: tuple[Tensors, ...]
    backward: tuple[Tensors, ...]


def split_step(module: nn.Module, profile: Profile, cuts: tuple[int, ...], inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Step:
    """One forward and backward pass, each piece working only on what it holds and what crossed its cuts.

    Args:
        module: whose weights are read; never changed. Run in eval mode: dropout and batch statistics are off.
        profile: `trace(module, ...)`.
        cuts: prefix cuts, rising; one piece more than cuts.
        inputs: (N, *sample_shape).
        labels: (N,), used by the last piece alone.

    Raises:
        NetflError: what crosses a cut is not one tensor a node.
    """
    traced = trace_graph(module, profile.sample_shape)
    source, by_name = traced.source, {node.name: node for node in traced.steps}
    for mine, theirs in zip(source.parameters(), module.parameters(), strict=True):
        mine.data, mine.grad = theirs.detach().clone(), None
        mine.requires_grad_(True)
    borders = (0, *cuts, len(traced.steps))
    names = [(profile.nodes[0].name,), *(profile.crossing(cut) for cut in cuts)]
    received: list[dict[str, torch.Tensor]] = [{names[0][0]: torch.from_numpy(inputs)}]
    made: list[dict[str, torch.Tensor]] = []
    with one_thread():
        for k in range(len(borders) - 1):
            env = {by_name[name]: tensor for name, tensor in received[k].items()}
            _run(traced.body, [node for node in traced.nodes if traced.sorts[node] is Sort.CONSTANT], traced.steps[borders[k] : borders[k + 1]], env,
                 traced.shapes(len(inputs)))  # fmt: skip
            if k == len(borders) - 2:
                loss = nn.functional.cross_entropy(env[traced.steps[-1]], torch.from_numpy(labels))
                break
            made.append({name: env[by_name[name]] for name in names[k + 1]})
            if not all(isinstance(tensor, torch.Tensor) for tensor in made[-1].values()):
                raise NetflError("a tuple of tensors crosses the cut: cut elsewhere to train")
            received.append({name: tensor.detach().clone().requires_grad_() for name, tensor in made[-1].items()})
        torch.autograd.backward([loss])
        backward = []
        for k in range(len(made) - 1, -1, -1):
            gradients = {name: torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for name, tensor in received[k + 1].items()}
            trained = [name for name, tensor in made[k].items() if tensor.requires_grad]
            if trained:
                torch.autograd.backward([made[k][name] for name in trained], [gradients[name] for name in trained])
            backward.append({name: gradient.numpy().copy() for name, gradient in gradients.items()})
    gradient = parameters_to_vector([torch.zeros_like(each) if each.grad is None else each.grad for each in source.parameters()])
    forward = tuple({name: tensor.detach().numpy().copy() for name, tensor in tensors.items()} for tensors in made)
    return Step(float(loss.detach()), gradient.numpy(), forward, tuple(reversed(backward)))


def _run(
    body: fx.GraphModule,
    constants: list[fx.Node],
    steps: tuple[fx.Node, ...],
    env: dict[fx.Node, torch.Tensor],
    shapes: dict[fx.Node, object],
) -> None:
    """Run a piece's nodes; `env` holds what crossed its cut, and gets what they make."""
    runner = fx.Interpreter(body, garbage_collect_values=False)
    runner.env = {**shapes, **env}
    for node in (*constants, *steps):
        if node not in runner.env:
            runner.env[node] = runner.run_node(node)
    env.update(runner.env)
