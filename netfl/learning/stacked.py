"""Training many clients at once, each with weights of its own, on stacked parameters.

Parameters carry the client axis first: (K, *shape). A `Plan` says how one step of K clients goes through a model:
`netfl.learning.chains` with a backward pass written out, `netfl.learning.graphs` with autograd; `netfl.learning.paths` chooses.

Clients are sorted by samples, so those still at work in an epoch are always the first ones, and no step is made up. A short last
batch is filled up with samples of zero gradient to a multiple of `Plan.rows` or a whole batch: the few rows cost less than a
step of their own for every length that occurs.

**A client's bits do not depend on its company.** Products are taken client by client, and their shapes come from the
client's own shard. What is left is alignment: MKL picks a kernel by the address of a matrix modulo 16 bytes (measured: MKL
2024.2 with AVX-512), and the address depends on the client's place in the stack. So a client's part of every stacked matrix
is a multiple of `QUANTUM` numbers: widths are filled up with zero weights, which stay zero and change nothing. Reductions and
elementwise kernels gave the same bits at any place. Tests hold all this, batches of one client included.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netfl.learning import penalties
from netfl.learning.rules import Rule
from netfl.learning.updates import Update, updates_of

__all__ = ["QUANTUM", "Batch", "Plan", "Schedule", "Step", "clients_per_chunk", "filled", "num_parameters", "schedule", "train"]

_ALIGNMENT = 64
"""Of the memory of tensors, in bytes: as torch has it, since bits may depend on it."""

_TOGETHER = 64
"""So many clients' vectors are rows of one array: whoever is done with these can let go of them before the others."""

QUANTUM = 4
"""Numbers that make 16 bytes (float32; float64 more)."""


def filled(width: int) -> int:
    """The next multiple of `QUANTUM`.

    >>> filled(10)
    12
    """
    return -(-width // QUANTUM) * QUANTUM


@dataclass(frozen=True)
class Batch:
    """One step's samples of k clients, B rows each.

    Args:
        samples: (k * B, *Plan.inputs).
        lengths: of each client's true batch; rows behind it are filling.
        generators: of each client, for layers that draw; empty for plans that do not.
    """

    samples: Tensor
    lengths: npt.NDArray[np.int64]
    generators: Sequence[torch.Generator]


class Plan(Protocol):
    """How a model trains on stacked parameters."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the parameters, in the order of the vector."""

    @property
    def stacked_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The same, filled up behind the model's own numbers on any axis."""

    @property
    def inputs(self) -> tuple[int, ...]:
        """Stacked shape of a sample: (I,) for rows, else the sample's own."""

    @property
    def numbers_per_sample(self) -> int:
        """How many numbers a pass makes of a sample: outputs and windows of all layers."""

    @property
    def chunk_bytes(self) -> int:
        """Clients train in chunks whose weights and step fit this."""

    @property
    def rows(self) -> int:
        """A short batch is filled up to a multiple of this, or to a whole batch."""

    @property
    def quantum(self) -> int:
        """A whole batch is filled up to a multiple of this."""

    @property
    def has_draws(self) -> bool:
        """Whether layers draw."""

    @property
    def needs_autograd(self) -> bool:
        """Whether steps record what they do."""

    @property
    def num_logits(self) -> int:
        """Width of the logits: the classes, and what fills them up."""

    def at_work(self) -> Plan:
        """The plan for one step after another: what a pass made and kept may be gone with the next one."""

    def settle(self, weights: Sequence[Tensor]) -> None:
        """Set the numbers that fill up stacked parameters (K, *stacked shape) to what they must be; called after they moved."""

    def forward(self, weights: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Any]:
        """Logits (k, B, num_logits), which the caller may overwrite, and what the backward pass needs."""

    def backward(self, update: Update, kept: Any, gradient: Tensor, penalty: Callable[[Tensor], Tensor] | None = None) -> None:
        """Give the parameters' gradients to `update`, from that of the logits (k, B, num_logits).

        Args:
            update: what takes them.
            kept: of the forward pass.
            gradient: of the logits.
            penalty: from what entered the last linear layer (k * B, A) to one more gradient of it; None for none.
        """


def num_parameters(plan: Plan) -> int:
    """P, the length of the vector."""
    return sum(math.prod(shape) for shape in plan.shapes)


def clients_per_chunk(plan: Plan, batch_size: int, number_bytes: int) -> int:
    """How many clients train at once."""
    numbers = sum(math.prod(shape) for shape in plan.stacked_shapes) + 2 * batch_size * plan.numbers_per_sample
    return max(1, plan.chunk_bytes // (numbers * number_bytes))


class Step(NamedTuple):
    """Clients that step together.

    Args:
        number: of the step within the epoch, counted from 0.
        clients: who; they are neighbours.
        rows: that hold their batches.
        lengths: of each one's batch, without what fills it up.
    """

    number: int
    clients: slice
    rows: slice
    lengths: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """One epoch of clients, sorted from long shards to short ones. Its rows are what the steps take, one step after another.

    Args:
        steps: in order.
        sources: which sample each row holds, counted client after client in shuffled order; their number for a row of filling.
        scales: of each row's gradient: 1 / its batch's own length, 0 for filling.
        owners: the client of each row.
    """

    steps: Sequence[Step]
    sources: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float64]
    owners: npt.NDArray[np.int64]


def schedule(lengths: Sequence[int], batch_size: int, rows: int = 16, quantum: int = 1) -> Schedule:
    """The epoch of clients with shards of these lengths, sorted from long to short.

    Args:
        lengths: of the shards.
        batch_size: samples a step.
        rows: a short batch is filled up to a multiple of this, or to a whole batch.
        quantum: a whole batch is filled up to a multiple of this.

    >>> epoch = schedule([5, 3], batch_size=2)
    >>> [(step.number, step.clients, step.rows, step.lengths.tolist()) for step in epoch.steps][1:]
    [(1, slice(0, 2, None), slice(4, 8, None), [2, 1]), (2, slice(0, 1, None), slice(8, 10, None), [1])]
    >>> epoch.sources.tolist()
    [0, 1, 5, 6, 2, 3, 7, 8, 4, 8]
    >>> epoch.scales.tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0]
    """
    counts = np.asarray(lengths, dtype=np.int64)
    whole = -(-batch_size // quantum) * quantum
    begins = np.arange(0, lengths[0], batch_size)
    left = np.minimum(counts - begins[:, None], batch_size)
    number, owners = np.nonzero(left > 0)  # of each batch, in the order of its rows
    left = left[number, owners]
    widths = np.minimum(-(-left // rows) * rows, whole)
    places = np.arange(whole)
    is_real = places < left[:, None]
    sources = np.where(is_real, ((counts.cumsum() - counts)[owners] + begins[number])[:, None] + places, counts.sum())
    scales = np.where(is_real, (1 / left)[:, None], 0.0)
    is_there = places < widths[:, None]
    edges = [0, *(np.nonzero((number[1:] != number[:-1]) | (widths[1:] != widths[:-1]))[0] + 1).tolist(), len(number)]
    steps = []
    row = 0
    for begin, end in itertools.pairwise(edges):
        clients = slice(int(owners[begin]), int(owners[begin]) + end - begin)
        more = (end - begin) * int(widths[begin])
        steps.append(Step(int(number[begin]), clients, slice(row, row + more), left[begin:end]))
        row += more
    return Schedule(steps, sources[is_there], scales[is_there], owners.repeat(widths))


def train(
    plan: Plan,
    starts: Sequence[npt.NDArray[Any]],
    inputs: Sequence[npt.NDArray[Any]],
    labels: Sequence[npt.NDArray[np.int64]],
    orders: Sequence[Sequence[npt.NDArray[np.int64]]],
    seeds: Sequence[int],
    *,
    batch_size: int,
    rule: Rule,
    offsets: Sequence[npt.NDArray[Any]] = (),
) -> tuple[list[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Train K clients; returns K vectors (P,), and (K, 3): means over the last epoch of losses and of squared losses, and the mean
    loss of the last batch.

    Args:
        plan: of the model.
        starts: K vectors (P,), all of one floating type.
        inputs: K arrays (n, *sample_shape) of that type, or of int64 for tokens.
        labels: K arrays (n,).
        orders: K sequences of one permutation of range(n) an epoch.
        seeds: K seeds for layers that draw; not looked at by plans without.
        batch_size: samples a step.
        rule: of the update.
        offsets: K vectors (P,) added to the gradients of every step; empty for nothing.
    """
    ranking = sorted(range(len(starts)), key=lambda client: -len(labels[client]))
    vectors: dict[int, npt.NDArray[Any]] = {}
    losses = np.empty((len(starts), 3))
    number = clients_per_chunk(plan, batch_size, starts[0].itemsize)
    with torch.no_grad() if plan.needs_autograd else torch.inference_mode():
        for begin in range(0, len(ranking), number):
            chunk = ranking[begin : begin + number]
            weights = _stack(plan, [starts[client] for client in chunk])
            plan.settle(weights)
            losses[chunk] = _train_chunk(
                plan,
                weights,
                [inputs[client] for client in chunk],
                [labels[client] for client in chunk],
                [orders[client] for client in chunk],
                [torch.Generator().manual_seed(seeds[client]) for client in chunk] if plan.has_draws else [],
                batch_size=batch_size,
                rule=rule,
                added=_stack(plan, [offsets[client] for client in chunk]) if offsets else (),
            )
            for first in range(0, len(chunk), _TOGETHER):
                part = slice(first, first + _TOGETHER)
                vectors.update(zip(chunk[part], _unstack(plan, [weight[part] for weight in weights]), strict=True))
    return [vectors[client] for client in range(len(starts))], losses


def _stack(plan: Plan, starts: Sequence[npt.NDArray[Any]]) -> list[Tensor]:
    """Parameters (k, *stacked shape) from vectors; what fills up is 0."""
    vectors = starts[0] if all(start is starts[0] for start in starts) else np.array(starts)
    dtype = torch.float32 if vectors.dtype == np.float32 else torch.float64
    weights = []
    begin = 0
    for shape, stacked_shape in zip(plan.shapes, plan.stacked_shapes, strict=True):
        end = begin + math.prod(shape)
        weight = _room((len(starts), *stacked_shape), dtype)
        if shape != stacked_shape:
            weight.zero_()
        _true_part(weight.numpy(), shape)[:] = vectors[..., begin:end].reshape(-1, *shape)
        begin = end
        weights.append(weight)
    return weights


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty tensor whose memory another one of the same length gets once it is gone.

    That of `torch.empty` comes from `posix_memalign`, which looks for more than it takes: in the GNU C library (its bug 30723) what one gave back
    is often too short for the next. So each round's weights took a new place, up to 300 MB before the old ones had joined.
    """
    memory = np.empty(math.prod(shape) * dtype.itemsize + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[begin : begin + memory.nbytes - _ALIGNMENT]).view(dtype).view(shape)


def _unstack(plan: Plan, weights: Sequence[Tensor]) -> npt.NDArray[Any]:
    """The vectors (k, P)."""
    vectors = np.empty((len(weights[0]), num_parameters(plan)), weights[0].numpy().dtype)
    begin = 0
    for weight, shape in zip(weights, plan.shapes, strict=True):
        end = begin + math.prod(shape)
        vectors[:, begin:end].reshape(-1, *shape)[:] = _true_part(weight.numpy(), shape)
        begin = end
    return vectors


def _true_part(weight: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The model's own numbers in a stacked parameter: what fills up stands behind them on every axis.

    (So it does for inputs that were flattened from maps: channels are their slowest axis.)
    """
    return weight[(slice(None), *(slice(length) for length in shape))]


def _train_chunk(
    plan: Plan,
    weights: Sequence[Tensor],
    inputs: Sequence[npt.NDArray[Any]],
    labels: Sequence[npt.NDArray[np.int64]],
    orders: Sequence[Sequence[npt.NDArray[np.int64]]],
    generators: Sequence[torch.Generator],
    *,
    batch_size: int,
    rule: Rule,
    added: Sequence[Tensor],
) -> npt.NDArray[np.float64]:
    """Train clients sorted from long shards to short ones, in place; (k, 3) as `train` says."""
    lengths = np.array([len(client) for client in labels], dtype=np.int64)
    epoch = schedule(lengths.tolist(), batch_size, plan.rows, plan.quantum)
    firsts = lengths.cumsum() - lengths
    offsets = firsts.repeat(lengths)
    samples = _with_filling(plan, inputs)
    answers = np.concatenate([*labels, [0]])
    shares = epoch.scales.astype(weights[0].numpy().dtype)
    scales = torch.from_numpy(shares[:, None])
    places = np.arange(len(shares))
    widths = [step.rows.stop - step.rows.start for step in epoch.steps]
    steps_an_epoch = -(-lengths // batch_size)

    def settle(clients: slice) -> None:
        plan.settle([weight[clients] for weight in weights])

    # Zeros that fill up stay zero under any rule; weight decay alone moves other filling.
    update_of = updates_of(rule, weights, steps_an_epoch * len(orders[0]), after=settle if rule.weight_decay else None, offsets=added)
    updates = {(step.clients.start, step.clients.stop): update_of(step.clients) for step in epoch.steps}
    sources = epoch.sources
    if plan.needs_autograd:  # A row of zeros may have no finite gradient (a norm's, say): fill up with a client's own sample.
        sources = np.where(epoch.scales > 0, sources, firsts[epoch.owners])
    penalise = penalties.gradient_of(rule)
    sums: list[Tensor] = []
    answered: list[Tensor] = []
    plan = plan.at_work()
    for past, shuffles in enumerate(zip(*orders, strict=True)):
        picked = np.append(offsets + np.concatenate(shuffles), len(offsets))[sources]
        samples_e = samples.index_select(0, torch.from_numpy(picked))
        answers_e = answers[picked]
        targets = np.zeros((len(shares), plan.num_logits), shares.dtype)
        targets[places, answers_e] = shares
        targets_e, answers_e = torch.from_numpy(targets), torch.from_numpy(answers_e[:, None])
        before = past * steps_an_epoch
        sums, answered = [], []  # those of the last epoch stay
        rows = (torch.split_with_sizes(tensor, widths) for tensor in (samples_e, targets_e, answers_e, scales))
        for step, samples_s, targets_s, answers_s, scales_s in zip(epoch.steps, *rows, strict=True):
            update = updates[step.clients.start, step.clients.stop]
            logits, kept = plan.forward(update.weights, Batch(samples_s, step.lengths, generators[step.clients]))
            gradient = _loss(logits, targets_s, answers_s, scales_s, sums, answered)
            penalty = None if penalise is None else functools.partial(penalise, shares=scales_s)
            plan.backward(update, kept, gradient, penalty)
            update.finish(before[step.clients] + step.number)
    is_real = epoch.scales.nonzero()[0]
    owners = epoch.owners[is_real]
    first, second = torch.cat(sums).numpy()[is_real, 0], torch.cat(answered).numpy()[is_real, 0]
    each = np.log(first.astype(np.float64)) - second
    before_last = (steps_an_epoch - 1) * batch_size
    in_last = epoch.sources[is_real] >= (firsts + before_last)[owners]
    losses = np.empty((len(lengths), 3))
    losses[:, 0] = np.bincount(owners, each) / lengths
    losses[:, 1] = np.bincount(owners, each**2) / lengths
    losses[:, 2] = np.bincount(owners, each * in_last) / (lengths - before_last)
    return losses


def _with_filling(plan: Plan, inputs: Sequence[npt.NDArray[Any]]) -> Tensor:
    """All clients' samples as the first layer takes them, and one more of zeros behind them."""
    count, shape = sum(map(len, inputs)), inputs[0].shape[1:]
    make = np.empty if math.prod(shape) == math.prod(plan.inputs) else np.zeros
    samples = make((count + 1, *plan.inputs), inputs[0].dtype)
    samples[count] = 0
    if len(plan.inputs) == 1:  # rows, of samples of whatever shape
        room = samples[:count, : math.prod(shape)].reshape(count, *shape)
    else:
        room = samples[(slice(count), *map(slice, shape))]
    np.concatenate(inputs, out=room)
    return torch.from_numpy(samples)


def _loss(stacked_logits: Tensor, targets: Tensor, answers: Tensor, scales: Tensor, sums: list[Tensor], answered: list[Tensor]) -> Tensor:
    """The gradient of the mean cross entropy, made of the logits in place.

    Args:
        stacked_logits: (k, B, outputs).
        targets: (k * B, outputs), one-hot times scales.
        answers: (k * B, 1), the labels.
        scales: (k * B, 1), of the gradients.
        sums: gets (k * B, 1), for each sample the sum of its exponentials: its loss is log(sum) - answered.
        answered: gets (k * B, 1), the logit of its label.
    """
    logits = stacked_logits.flatten(0, 1)
    logits.sub_(logits.amax(1, keepdim=True))
    answered.append(logits.gather(1, answers))
    gradient = logits.exp_()
    sums.append(gradient.sum(1, keepdim=True))
    return gradient.mul_(scales / sums[-1]).sub_(targets).view(stacked_logits.shape)
