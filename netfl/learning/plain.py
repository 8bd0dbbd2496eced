"""The plain PyTorch loop: one client after another through a module and autograd. The oracle of the stacked kernels, their
baseline, and the way for modules that they do not know. Also evaluation, and the one-thread rule that both share.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from netfl.learning.models import Model, emptied, load_vector, to_vector
from netfl.learning.penalties import LastLinear, gradient_of
from netfl.learning.rules import Rule
from netfl.learning.updates import updates_of

__all__ = ["evaluate", "module_of", "one_thread", "repeatable_cuda", "train"]

EVALUATION_BATCH = 1024
"""Samples a forward pass of an evaluation; fixed, because the shape of a batch decides its last bits."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread within: bits must not depend on the number of cores."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def module_of(model: Model, sample_shape: tuple[int, ...], num_classes: int, dtype: np.dtype[Any]) -> torch.nn.Module:
    """A module without values, of a floating type; nothing is drawn for it.

    Raises:
        ValueError: the model has buffers.
    """
    with torch.device("meta"):
        module = model.build(sample_shape, num_classes)
    if any(True for _ in module.buffers()):
        raise ValueError(f"expected a model without buffers (a vector holds parameters only), got {model}")
    return emptied(module).to(torch.float64 if dtype == np.float64 else torch.float32)


@contextlib.contextmanager
def repeatable_cuda() -> Iterator[None]:
    """Have CUDA's libraries take kernels that give the same bits in every run."""
    # cuBLAS reads this when it starts; torch refuses kernels that would need it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def train(
    module: torch.nn.Module,
    start: npt.NDArray[Any],
    inputs: npt.NDArray[Any],
    labels: npt.NDArray[np.int64],
    orders: Sequence[npt.NDArray[np.int64]],
    seed: int | None,
    *,
    batch_size: int,
    rule: Rule,
    device: str = "cpu",
    offset: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    """Train one client; returns its vector (P,), and means over the last epoch of losses and of squared losses, and the mean loss of
    the last batch.

    Args:
        module: any module from samples to logits, on the CPU; its parameters are overwritten.
        start: (P,) where to start.
        inputs: (n, *sample_shape).
        labels: (n,).
        orders: a permutation of range(n) for each epoch.
        seed: of layers that draw, such as dropout; None for modules without. torch's own generators are left as they were.
        batch_size: samples a step.
        rule: of the update.
        device: cpu or cuda.
        offset: (P,) added to every step's gradient; None for none.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
            torch.default_generator.manual_seed(seed)
            if device == "cuda":
                torch.cuda.manual_seed(seed)
            return train(module, start, inputs, labels, orders, None, batch_size=batch_size, rule=rule, device=device, offset=offset)
    load_vector(module, start)
    module.to(device).train()
    parameters = list(module.parameters())
    steps_an_epoch = -(-len(labels) // batch_size)
    stacked = [parameter.detach().unsqueeze(0) for parameter in parameters]
    lengths = [parameter.numel() for parameter in parameters]
    parts = [] if offset is None else torch.split(torch.from_numpy(offset).to(device), lengths)
    offsets = [part.view(1, *parameter.shape) for part, parameter in zip(parts, parameters, strict=False)]
    penalise = gradient_of(rule)
    watch = None if penalise is None else LastLinear(module)
    update = updates_of(rule, stacked, np.array([steps_an_epoch * len(orders)]), offsets=offsets)(slice(0, 1))
    total = squares = last = 0.0
    for epoch, order in enumerate(orders):
        total = squares = 0.0
        inputs_e, labels_e = torch.from_numpy(inputs[order]).to(device), torch.from_numpy(labels[order]).to(device)
        for step in range(steps_an_epoch):
            rows = slice(step * batch_size, (step + 1) * batch_size)
            batch_labels = labels_e[rows]
            logits = module(inputs_e[rows])
            loss = functional.cross_entropy(logits, batch_labels)
            ends, more = [loss], [torch.ones_like(loss)]
            if penalise is not None and watch is not None and watch.activations().requires_grad:
                ends.append(watch.activations())
                shares = logits.new_full((len(batch_labels), 1), 1 / len(batch_labels))
                more.append(penalise(ends[1].detach(), shares))
            gradients = torch.autograd.grad(ends, parameters, more, allow_unused=True)
            with torch.no_grad():
                for index, gradient in enumerate(gradients):
                    unused = torch.zeros_like(parameters[index]) if gradient is None else gradient
                    update.add(index, unused.unsqueeze(0))
                update.finish(np.array([epoch * steps_an_epoch + step]))
            last = loss.item()
            total += last * len(batch_labels)
            each = functional.cross_entropy(logits.detach().double(), batch_labels, reduction="none")
            squares += each.square().sum().item()
    if watch is not None:
        watch.close()
    return to_vector(module.to("cpu")), (total / len(labels), squares / len(labels), last)


def evaluate(module: torch.nn.Module, inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and mean cross-entropy (nats) of a module on labelled samples, summed in float64."""
    module.eval()
    correct, loss = 0, 0.0
    with torch.inference_mode():
        for begin in range(0, len(labels), EVALUATION_BATCH):
            batch_inputs = torch.from_numpy(np.array(inputs[begin : begin + EVALUATION_BATCH]))
            batch_labels = torch.from_numpy(np.array(labels[begin : begin + EVALUATION_BATCH]))
            logits = module(batch_inputs)
            correct += int((logits.argmax(1) == batch_labels).sum())
            loss += float(functional.cross_entropy(logits.double(), batch_labels, reduction="sum"))
    return correct / len(labels), loss / len(labels)
