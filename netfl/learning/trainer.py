"""Trainers: what a client does with a model and its shard of data.

`fit` trains many clients at once. A client's bits do not depend on its company: the same job gives the same vector and loss
alone, in any batch, in any order and with any number of worker processes, so a recipe of one client's job is complete. How a model is
trained is said in `netfl.learning.paths`, who trains it in `netfl.learning.workers`, what a step does in `netfl.learning.rules`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.learning.models import Model, load_vector
from netfl.learning.rules import Rule, Schedule
from netfl.parts import Family
from netfl.randomness import Stream

__all__ = [
    "TRAINERS",
    "Adam",
    "AdamW",
    "Evaluation",
    "FitJob",
    "FitResult",
    "Sgd",
    "Trainer",
    "advice",
    "evaluate",
    "fit",
    "fit_one_by_one",
    "on_device",
    "seed_of",
    "training_steps",
    "unusable_device",
]


Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int64]
Samples = npt.NDArray[np.floating[Any]] | Indices


class FitJob(NamedTuple):
    """One client's training.

    Args:
        start: (P,) the vector to start from; float32, or float64 to train in double precision. All jobs of one `fit` agree.
        inputs: (n, *sample_shape) of the same type, or int64 tokens for models that take them; n at least 1.
        labels: (n,) int64.
        stream: what the shuffles are drawn from.
        offset: (P,) of the vector's type, added to the gradient of every step; None for none.
    """

    start: Floats
    inputs: Samples
    labels: Indices
    stream: Stream
    offset: Floats | None = None


class FitResult(NamedTuple):
    """What one client's training gave.

    Args:
        model: (P,) the trained vector; a row of an array, as others of the same `fit` are.
        mean_loss: mean cross-entropy (nats) over the samples of the last epoch, each taken just before the step that it
            belongs to; nan or inf when training diverged.
        num_samples: in the shard.
        num_steps: of the optimiser.
        mean_square_loss: the mean of the squares of those losses.
        last_batch_loss: the mean of those of the last batch.
    """

    model: Floats
    mean_loss: float
    num_samples: int
    num_steps: int
    mean_square_loss: float
    last_batch_loss: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model measured on labelled samples.

    Args:
        accuracy: share classified rightly.
        loss: mean cross-entropy in nats.
    """

    accuracy: float
    loss: float


Positive = Annotated[float, annotated_types.Gt(0)]
NotNegative = Annotated[float, annotated_types.Ge(0)]
Share = Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)]
Count = Annotated[int, annotated_types.Ge(1)]
Device = Literal["cpu", "cuda", "auto"]


class Trainer(Protocol):
    """Settings of local training, and the training itself."""

    def fit(self, model: Model, sample_shape: tuple[int, ...], num_classes: int, jobs: Sequence[FitJob]) -> list[FitResult]:
        """Train all jobs; a result must not depend on the other jobs."""

    def steps(self, num_samples: int) -> int:
        """How many optimiser steps a shard of so many samples takes."""

    def in_round(self, number: int) -> Trainer:
        """Its settings in a round, counted from 1: the same ones, unless something changes from round to round."""

    @property
    def epochs(self) -> int:
        """Passes over the shard."""

    @property
    def batch_size(self) -> int:
        """Samples a step."""


class _Epochs:
    """Training over shuffled epochs in mini-batches, by a rule; the last batch of an epoch may be short."""

    if TYPE_CHECKING:

        @property
        def epochs(self) -> int: ...

        @property
        def batch_size(self) -> int: ...

        @property
        def device(self) -> Device: ...

        @property
        def rule(self) -> Rule: ...

    def steps(self, num_samples: int) -> int:
        """How many steps a shard of so many samples takes.

        >>> Sgd(learning_rate=0.1, epochs=2, batch_size=10).steps(25)
        6
        """
        return self.epochs * math.ceil(num_samples / self.batch_size)

    def in_round(self, number: int) -> Trainer:
        """See `Trainer`."""
        return self

    def fit(self, model: Model, sample_shape: tuple[int, ...], num_classes: int, jobs: Sequence[FitJob]) -> list[FitResult]:
        """Train all jobs, together where `netfl.learning.paths` finds a way.

        Raises:
            ValueError: a job's arrays do not fit the model or each other, or the device is not there.
        """
        from netfl.learning import stacked
        from netfl.learning.paths import path_of
        from netfl.learning.plain import one_thread

        if self.device != "cpu":
            return self.fit_one_by_one(model, sample_shape, num_classes, jobs)
        if not jobs:
            return []
        with_offset = [job.offset is not None for job in jobs]
        if any(with_offset) and not all(with_offset):  # other kernels, so they do not train together
            results: dict[int, FitResult] = {}
            for wanted in (True, False):
                indices = [index for index, has in enumerate(with_offset) if has is wanted]
                trained = self.fit(model, sample_shape, num_classes, [jobs[index] for index in indices])
                results.update(zip(indices, trained, strict=True))
            return [results[index] for index in range(len(jobs))]
        path = path_of(model, sample_shape, num_classes, self.batch_size)
        if path.plan is None:
            return self.fit_one_by_one(model, sample_shape, num_classes, jobs)
        _check(jobs, sample_shape, stacked.num_parameters(path.plan), takes_tokens=path.kind != "chain")
        with one_thread():
            vectors, losses = stacked.train(
                path.plan,
                [job.start for job in jobs],
                [job.inputs for job in jobs],
                [job.labels for job in jobs],
                _orders(jobs, self.epochs),
                [seed_of(job) for job in jobs] if path.plan.has_draws else [0] * len(jobs),
                batch_size=self.batch_size,
                rule=self.rule,
                offsets=[job.offset for job in jobs if job.offset is not None],
            )
        return [
            FitResult(vector, mean, len(job.labels), self.steps(len(job.labels)), square, last)
            for job, vector, (mean, square, last) in zip(jobs, vectors, losses.tolist(), strict=True)
        ]

    def fit_one_by_one(self, model: Model, sample_shape: tuple[int, ...], num_classes: int, jobs: Sequence[FitJob]) -> list[FitResult]:
        """Train the jobs one after another with autograd, from the same shuffles, on the trainer's device.

        Raises:
            ValueError: a job's arrays do not fit the model or each other, or the device is not there.
        """
        from netfl.learning import plain

        if not jobs:
            return []
        _check_device(self)
        results = []
        module = plain.module_of(model, sample_shape, num_classes, jobs[0].start.dtype)
        _check(jobs, sample_shape, sum(parameter.numel() for parameter in module.parameters()), takes_tokens=True)
        with plain.one_thread(), plain.repeatable_cuda() if self.device == "cuda" else contextlib.nullcontext():
            for job, orders in zip(jobs, _orders(jobs, self.epochs), strict=True):
                vector, (mean, square, last) = plain.train(
                    module,
                    job.start,
                    job.inputs,
                    job.labels,
                    orders,
                    seed_of(job),
                    batch_size=self.batch_size,
                    rule=self.rule,
                    device=self.device,
                    offset=job.offset,
                )
                results.append(FitResult(vector, mean, len(job.labels), self.steps(len(job.labels)), square, last))
        return results


@dataclass(frozen=True, kw_only=True)
class Sgd(_Epochs):
    """Stochastic gradient descent over shuffled epochs, as `torch.optim.SGD` does it; the last batch of an epoch may be short.

    Clipping and proximal term as in `netfl.learning.rules`.

    Args:
        learning_rate: step length, greater than 0.
        epochs: passes over the shard.
        batch_size: samples a step.
        momentum: share of the last velocity that is kept, from 0 to below 1.
        nesterov: step along the gradient plus momentum times the velocity; needs momentum.
        weight_decay: L2 penalty: this times the weights is added to the gradient.
        clip_norm: upper bound of the norm of a step's gradient over all parameters; null for none.
        proximal: FedProx's mu: this times what the weights moved since the client started is added to the gradient.
        schedule: how the learning rate falls over a client's local steps. constant: not at all; step: to a tenth at half of them and
            a hundredth at three quarters; cosine: along half a cosine towards 0.
        device: where to train. cpu; cuda, one client after another in bits of its own; auto, cuda where there is one. Bits
            differ between devices, so `auto` gives other numbers on another machine; values that a CPU made are never taken
            for those of CUDA, or the other way round, and the run's log says which of them trained.
    """

    learning_rate: Positive
    epochs: Count = 1
    batch_size: Count = 16
    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None
    proximal: NotNegative = 0.0
    schedule: Schedule = "constant"
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: expected a momentum above 0 with it, got 0")

    @property
    def rule(self) -> Rule:
        """What a step does with its gradient."""
        return Rule(
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            proximal=self.proximal,
            schedule=self.schedule,
        )


@dataclass(frozen=True, kw_only=True)
class Adam(_Epochs):
    """Adam over shuffled epochs, as `torch.optim.Adam` does it; its means start anew in every round.

    D. Kingma, J. Ba: "Adam: A method for stochastic optimization", ICLR 2015, whose values are the defaults. Clipping and
    proximal term as in `netfl.learning.rules`.

    Args:
        learning_rate: step length, greater than 0.
        epochs: passes over the shard.
        batch_size: samples a step.
        beta1: share of the running mean of gradients that is kept, from 0 to below 1.
        beta2: the same for squared gradients.
        epsilon: added to the root of the mean of squared gradients.
        weight_decay: L2 penalty: this times the weights is added to the gradient.
        clip_norm: upper bound of the norm of a step's gradient over all parameters; null for none.
        proximal: FedProx's mu: this times what the weights moved since the client started is added to the gradient.
        schedule: how the learning rate falls over a client's local steps; see `sgd`.
        device: where to train: cpu, cuda or auto; see `sgd`.
    """

    learning_rate: Positive = 0.001
    epochs: Count = 1
    batch_size: Count = 16
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None
    proximal: NotNegative = 0.0
    schedule: Schedule = "constant"
    device: Device = "cpu"

    @property
    def rule(self) -> Rule:
        """What a step does with its gradient."""
        return Rule(
            learning_rate=self.learning_rate,
            betas=(self.beta1, self.beta2),
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            proximal=self.proximal,
            schedule=self.schedule,
        )


@dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with weights that shrink apart from the gradient, as `torch.optim.AdamW` does it; its means start anew in every round.

    I. Loshchilov, F. Hutter: "Decoupled weight decay regularization", ICLR 2019. Clipping and proximal term as in
    `netfl.learning.rules`.

    Args:
        learning_rate: step length, greater than 0.
        epochs: passes over the shard.
        batch_size: samples a step.
        beta1: share of the running mean of gradients that is kept, from 0 to below 1.
        beta2: the same for squared gradients.
        epsilon: added to the root of the mean of squared gradients.
        weight_decay: a step shrinks the weights by the learning rate times this; 0.01 is torch's default.
        clip_norm: upper bound of the norm of a step's gradient over all parameters; null for none.
        proximal: FedProx's mu: this times what the weights moved since the client started is added to the gradient.
        schedule: how the learning rate falls over a client's local steps; see `sgd`.
        device: where to train: cpu, cuda or auto; see `sgd`.
    """

    weight_decay: NotNegative = 0.01

    @property
    def rule(self) -> Rule:
        """What a step does with its gradient."""
        return replace(super().rule, is_decoupled=True)


TRAINERS = Family(
    "trainers",
    {
        "sgd": "netfl.learning.trainer:Sgd",
        "adam": "netfl.learning.trainer:Adam",
        "adamw": "netfl.learning.trainer:AdamW",
        "fedmax": "netfl.learning.fedmax:FedMax",
        "dp_sgd": "netfl.learning.private_sgd:DpSgd",
    },
)


def advice(trainer: str) -> str:
    """What errors say to do about training that diverges; `trainer` is the place of its settings."""
    return f"lower `{trainer}.learning_rate`, or set a low `{trainer}.clip_norm`"


def on_device(trainer: Trainer) -> Trainer:
    """The trainer as recipes should hold it: with `device: auto` replaced by the device that is there.

    Bits differ between a CPU and CUDA, so the device must be part of a recipe's key; the trainer's settings are.
    """
    chosen: Any = trainer
    return _placed(chosen) if getattr(trainer, "device", "cpu") == "auto" else trainer


@functools.lru_cache(maxsize=64)
def _placed(trainer: Any) -> Trainer:
    import torch

    placed: Trainer = replace(trainer, device="cuda" if torch.cuda.is_available() else "cpu")
    return placed


def unusable_device(trainer: Trainer) -> str | None:
    """Why a trainer cannot train on this machine, if it cannot."""
    try:
        _check_device(on_device(trainer))
    except ValueError as error:
        return str(error)
    return None


def fit(
    trainer: Trainer,
    model: Model,
    sample_shape: tuple[int, ...],
    num_classes: int,
    jobs: Sequence[FitJob],
    *,
    workers: int | None = None,
) -> list[FitResult]:
    """Train all jobs at once; results in the order of the jobs.

    Args:
        trainer: how to train.
        model: what to train.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        jobs: any number of them; each one's result is what it would be alone, to the bit.
        workers: how many processes train, this one included; None to go by the rule of `netfl.learning.workers`. Results do not
            depend on it.

    Raises:
        ValueError: a job's arrays do not fit the model or each other, or the device is not there.
    """
    from netfl.learning import workers as processes

    return processes.fit(trainer, model, sample_shape, num_classes, jobs, workers)


def fit_one_by_one(
    trainer: Sgd | Adam | AdamW, model: Model, sample_shape: tuple[int, ...], num_classes: int, jobs: Sequence[FitJob]
) -> list[FitResult]:
    """The same training as `fit`, by a plain PyTorch loop; equal up to rounding."""
    return trainer.fit_one_by_one(model, sample_shape, num_classes, jobs)


def training_steps(trainer: Trainer, num_samples: int) -> int:
    """How many optimiser steps a shard of so many samples takes."""
    return trainer.steps(num_samples)


def evaluate(model: Model, sample_shape: tuple[int, ...], num_classes: int, vector: Floats, inputs: Samples, labels: Indices) -> Evaluation:
    """A model's accuracy and loss on labelled samples.

    Args:
        model: what the vector belongs to.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        vector: (P,).
        inputs: (n, *sample_shape) of the vector's type, or int64 tokens; n at least 1.
        labels: (n,).

    Raises:
        ValueError: the arrays do not fit the model or each other.
    """
    from netfl.learning import plain

    with plain.one_thread():
        module = plain.module_of(model, sample_shape, num_classes, vector.dtype)
        _check_samples(inputs, labels, sample_shape, vector.dtype)
        load_vector(module, vector)
        accuracy, loss = plain.evaluate(module, inputs, labels)
    return Evaluation(accuracy, loss)


def _check_device(trainer: Trainer) -> None:
    device = getattr(trainer, "device", "cpu")
    if device == "auto":
        raise ValueError("device: auto: expected it replaced by the device that is there, by `on_device`, so that recipes name it")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("device: cuda: torch finds no CUDA device; use cpu, or auto")


def seed_of(job: FitJob) -> int:
    """Of layers that draw, such as dropout: their numbers come from the job's stream too."""
    return int(job.stream.seed_sequence().generate_state(1, np.uint64)[0])


class _Shuffler(threading.local):
    """A generator, one a thread, that is keyed anew for each job: making one costs more than a small client's training."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(0)  # of no meaning, but drawn from nowhere
        self.fresh = self.bits.state
        self.permutation = np.random.Generator(self.bits).permutation


@functools.cache
def _shuffler() -> _Shuffler:
    return _Shuffler()


def _orders(jobs: Sequence[FitJob], epochs: int) -> list[list[Indices]]:
    """Each job's shuffles: one permutation an epoch from a Philox generator keyed by SHA-256 of its stream."""
    shuffler = _shuffler()
    bits, permutation = shuffler.bits, shuffler.permutation
    counter = np.zeros(4, dtype=np.uint64)
    orders = []
    for job in jobs:
        stream = job.stream
        digest = hashlib.sha256(repr((stream.seed, stream.replicate, stream.name)).encode()).digest()
        bits.state = {**shuffler.fresh, "state": {"counter": counter, "key": np.frombuffer(digest, "<u8", 2)}}
        count = len(job.labels)
        orders.append([permutation(count) for _ in range(epochs)])
    return orders


def _check(jobs: Sequence[FitJob], sample_shape: tuple[int, ...], num_parameters: int, takes_tokens: bool) -> None:
    dtype = jobs[0].start.dtype
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"expected start vectors of float32 or float64, got {dtype}")
    for job in jobs:
        if job.start.shape != (num_parameters,) or job.start.dtype != dtype:
            raise ValueError(
                f"expected start vectors of shape ({num_parameters},) and one type, {dtype}, got {job.start.shape} of {job.start.dtype}"
            )
        if job.offset is not None and (job.offset.shape, job.offset.dtype) != (job.start.shape, dtype):
            raise ValueError(f"expected offsets of shape ({num_parameters},) and {dtype}, got {job.offset.shape} of {job.offset.dtype}")
        _check_samples(job.inputs, job.labels, sample_shape, dtype, takes_tokens)


def _check_samples(
    inputs: Samples, labels: Indices, sample_shape: tuple[int, ...], dtype: np.dtype[Any], takes_tokens: bool = True
) -> None:
    if len(labels) == 0:
        raise ValueError("expected at least one sample, got none")
    types = (dtype, np.dtype(np.int64)) if takes_tokens else (dtype,)
    if inputs.shape != (len(labels), *sample_shape) or inputs.dtype not in types:
        raise ValueError(
            f"expected inputs of shape {(len(labels), *sample_shape)} and the vector's type {dtype}"
            f"{' (int64 for tokens)' if takes_tokens else ''}, got {inputs.shape} of {inputs.dtype}"
        )
