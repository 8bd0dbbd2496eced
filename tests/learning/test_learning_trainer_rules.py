"""Optimisers, weight decay, clipping, proximal term and schedules: against torch's own, against the plain loop, and by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from trainer_nets import distance, jobs_of, same_bits

from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.models import Cnn, Mlp, Model, load_vector, to_vector
from netfl.learning.rules import factors
from netfl.learning.trainer import (
    TRAINERS,
    Adam,
    AdamW,
    FitJob,
    FitResult,
    Sgd,
    _orders,
    _placed,
    fit,
    fit_one_by_one,
    on_device,
    unusable_device,
)
from netfl.randomness import Streams

STREAMS = Streams(seed=5)
SHAPE = (1, 6, 6)
COMMON: dict[str, Any] = {"epochs": 2, "batch_size": 10}

TRAINING = {
    "sgd": Sgd(learning_rate=0.05, **COMMON),
    "momentum": Sgd(learning_rate=0.05, momentum=0.9, **COMMON),
    "nesterov": Sgd(learning_rate=0.05, momentum=0.9, nesterov=True, **COMMON),
    "weight decay": Sgd(learning_rate=0.05, weight_decay=0.1, **COMMON),
    "momentum, weight decay": Sgd(learning_rate=0.05, momentum=0.9, weight_decay=0.1, **COMMON),
    "clipped": Sgd(learning_rate=0.05, clip_norm=0.5, **COMMON),
    "proximal": Sgd(learning_rate=0.05, proximal=1.0, **COMMON),
    "step": Sgd(learning_rate=0.05, schedule="step", **COMMON),
    "cosine": Sgd(learning_rate=0.05, schedule="cosine", **COMMON),
    "all of sgd": Sgd(
        learning_rate=0.05, momentum=0.5, nesterov=True, weight_decay=0.1, clip_norm=1.0, proximal=0.5, schedule="cosine", **COMMON
    ),
    "adam": Adam(learning_rate=0.01, epsilon=1e-6, **COMMON),
    "all of adam": Adam(learning_rate=0.01, epsilon=1e-6, weight_decay=0.1, clip_norm=1.0, proximal=0.5, schedule="step", **COMMON),
    "adamw": AdamW(learning_rate=0.01, epsilon=1e-6, weight_decay=0.1, **COMMON),
    "all of adamw": AdamW(
        learning_rate=0.01, beta1=0.8, beta2=0.9, epsilon=1e-6, weight_decay=0.1, clip_norm=1.0, proximal=0.5, schedule="cosine", **COMMON
    ),
}
# Ten classes fill up to twelve: the two that are made up must stay out of norms, decay and proximal terms.
MODELS: dict[str, Model] = {"mlp": Mlp(hidden=(9,)), "cnn": Cnn(channels=(3, 6), hidden=7)}


def with_torch(trainer: Sgd | Adam | AdamW, model: Model, job: FitJob) -> np.ndarray:
    """The job by torch.optim, clip_grad_norm_ and torch's own schedules, the proximal term in the loss."""
    module = model.build(SHAPE, 10).double()
    load_vector(module, job.start)
    starts = [parameter.detach().clone() for parameter in module.parameters()]
    if isinstance(trainer, Sgd):
        momentum: dict[str, Any] = {"momentum": trainer.momentum, "nesterov": trainer.nesterov}
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            module.parameters(), trainer.learning_rate, weight_decay=trainer.weight_decay, **momentum
        )
    else:
        kind: Any = torch.optim.AdamW if isinstance(trainer, AdamW) else torch.optim.Adam
        betas = (trainer.beta1, trainer.beta2)
        optimizer = kind(module.parameters(), trainer.learning_rate, betas, trainer.epsilon, trainer.weight_decay)
    steps = trainer.steps(len(job.labels))
    schedule: Any = None
    if trainer.schedule == "cosine":
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    elif trainer.schedule == "step":
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [math.ceil(steps / 2), math.ceil(3 * steps / 4)], gamma=0.1)
    for order in _orders([job], trainer.epochs)[0]:
        for begin in range(0, len(order), trainer.batch_size):
            batch = order[begin : begin + trainer.batch_size]
            optimizer.zero_grad()
            loss = functional.cross_entropy(module(torch.from_numpy(job.inputs[batch])), torch.from_numpy(job.labels[batch]))
            for parameter, start in zip(module.parameters(), starts, strict=True):
                loss = loss + trainer.proximal / 2 * (parameter - start).square().sum()
            loss.backward()
            if trainer.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), trainer.clip_norm)
            optimizer.step()
            if schedule is not None:
                schedule.step()
    return to_vector(module)


@pytest.mark.parametrize("name", TRAINING)
def test_the_plain_loop_is_torchs_optimiser(name: str) -> None:
    trainer, model = TRAINING[name], MODELS["mlp"]
    for job in jobs_of(model, SHAPE, dtype=np.float64, lengths=(23, 7, 71)):
        (result,) = fit_one_by_one(trainer, model, SHAPE, 10, [job])
        assert abs(result.model - with_torch(trainer, model, job)).max() < 1e-12


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TRAINING)
def test_together_equals_the_plain_loop(name: str, model: str) -> None:
    trainer, kind = TRAINING[name], MODELS[model]
    jobs = jobs_of(kind, SHAPE, dtype=np.float64)
    assert distance(fit(trainer, kind, SHAPE, 10, jobs), fit_one_by_one(trainer, kind, SHAPE, 10, jobs)) < 1e-9
    if isinstance(trainer, Sgd):
        jobs = jobs_of(kind, SHAPE)
        assert distance(fit(trainer, kind, SHAPE, 10, jobs), fit_one_by_one(trainer, kind, SHAPE, 10, jobs)) < 1e-6


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TRAINING)
def test_bits_do_not_depend_on_company(name: str, model: str) -> None:
    trainer, kind = TRAINING[name], MODELS[model]
    jobs = jobs_of(kind, SHAPE)
    everyone = fit(trainer, kind, SHAPE, 10, jobs)
    rng = np.random.default_rng(0)
    for company in (1, 1, 1, 2, 3, 5, 9):
        chosen = rng.choice(len(jobs), company, replace=False)
        assert same_bits(fit(trainer, kind, SHAPE, 10, [jobs[client] for client in chosen]), [everyone[client] for client in chosen])


# --- by hand: logistic regression from zeros on one sample x = (1, 2, 0) with label 0 of 2 ---------------------------------
# As the first step's gradient: of the logits (-1/2, 1/2), of the weights (-x/2, x/2). Its norm over all parameters, biases too:
# sqrt(2 * (1 + 4 + 1) / 4) = sqrt(3). Parameters: three weights of each class, then the two biases.


def after(trainer: Sgd | Adam | AdamW, start: np.ndarray | None = None) -> FitResult:
    job = FitJob(np.zeros(8) if start is None else start, np.array([[1.0, 2.0, 0.0]]), np.array([0]), STREAMS.stream("fit"))
    results = [train(trainer, Mlp(hidden=()), (3,), 2, [job])[0] for train in (fit, fit_one_by_one)]
    assert results[0].model == pytest.approx(results[1].model, abs=1e-12)
    return results[0]


def test_clipping_by_hand() -> None:
    # Norm sqrt(3) clipped to 1: the step of length 0.1 is 0.1 / sqrt(3) of the gradient; 1e-6 is added to the norm.
    step = 0.1 / (math.sqrt(3) + 1e-6)
    assert after(Sgd(learning_rate=0.1, clip_norm=1.0)).model == pytest.approx(
        [step / 2, step, 0, -step / 2, -step, 0, step / 2, -step / 2], abs=1e-9
    )
    # A norm below the bound is left alone.
    assert after(Sgd(learning_rate=0.1, clip_norm=2.0)).model == pytest.approx([0.05, 0.1, 0, -0.05, -0.1, 0, 0.05, -0.05])


def test_proximal_term_by_hand() -> None:
    # The second step starts 0.05 from the start at bias 0: mu * 0.05 is added to the gradient, which is p0 - 1 there, with
    # logits +-(0.05 * 5 + 0.05) = +-0.3 as in momentum by hand, p0 = 1 / (1 + exp(-0.6)).
    p0 = 1 / (1 + math.exp(-0.6))
    assert after(Sgd(learning_rate=0.1, epochs=2, proximal=4.0)).model[6] == pytest.approx(0.05 - 0.1 * (p0 - 1 + 4 * 0.05))


def test_weight_decay_by_hand() -> None:
    # From weights of 1 for both classes and biases of 0, the logits are equal: p = 1/2 as from zeros. Decay takes 0.1 * 0.5 * 1.
    start = np.array([1.0] * 6 + [0.0] * 2)
    expected = [1.05 - 0.05, 1.1 - 0.05, 1 - 0.05, 0.95 - 0.05, 0.9 - 0.05, 1 - 0.05, 0.05, -0.05]
    assert after(Sgd(learning_rate=0.1, weight_decay=0.5), start).model == pytest.approx(expected)


def test_adam_by_hand() -> None:
    # In the first step the means are (1 - beta) g and (1 - beta) g^2, freed of their bias g and g^2: each weight moves by the
    # learning rate against the sign of its gradient, by epsilon less: g / (|g| + eps).
    assert after(Adam(learning_rate=0.1, epsilon=1e-8)).model == pytest.approx([0.1, 0.1, 0, -0.1, -0.1, 0, 0.1, -0.1], abs=1e-7)
    # AdamW shrinks weights by 0.1 * 0.5 first; Adam's penalty turns all gradients of 1.0 - 0.5 and so on positive but the biases'.
    start = np.array([1.0] * 6 + [0.0] * 2)
    shrunk = after(AdamW(learning_rate=0.1, weight_decay=0.5), start).model
    assert shrunk == pytest.approx([1.05, 1.05, 0.95, 0.85, 0.85, 0.95, 0.1, -0.1], abs=1e-7)
    # g + 0.5 w: (0, -0.5, 0.5, 1, 1.5, 0.5): the signs say where each weight goes; the first has no gradient left.
    penalised = after(Adam(learning_rate=0.1, weight_decay=0.5), start).model
    assert penalised == pytest.approx([1.0, 1.1, 0.9, 0.9, 0.9, 0.9, 0.1, -0.1], abs=1e-7)


def test_schedules_by_hand() -> None:
    # Two epochs of one sample are two steps: the second is taken at a tenth (step), at (1 + cos(pi / 2)) / 2 = 1/2 (cosine).
    p0 = 1 / (1 + math.exp(-0.6))
    for schedule, share in (("step", 0.1), ("cosine", 0.5)):
        result = after(Sgd(learning_rate=0.1, epochs=2, schedule=schedule))
        assert result.model[6] == pytest.approx(0.05 + 0.1 * share * (1 - p0))


def test_schedules_run_over_each_clients_own_steps() -> None:
    done, totals = np.array([3, 3, 3]), np.array([4, 6, 60])
    assert factors("cosine", done, totals) == pytest.approx([(1 + math.cos(math.pi * 3 / total)) / 2 for total in totals])
    assert factors("step", done, totals).tolist() == [0.01, 0.1, 1.0]


# --- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRAINERS.kinds())
def test_kinds_read_and_write(kind: str) -> None:
    schedule = {} if kind == "dp_sgd" else {"schedule": "cosine"}
    trainer = TRAINERS.find(kind)(learning_rate=0.25, clip_norm=2.0, **schedule)
    assert TRAINERS.kind_of(trainer) == kind
    for field in dataclasses.fields(trainer):
        assert f"        {field.name}: " in (type(trainer).__doc__ or ""), field.name


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov: expected a momentum above 0"):
        Sgd(learning_rate=0.1, nesterov=True)


def test_devices() -> None:
    trainer = Sgd(learning_rate=0.1)
    assert on_device(trainer) is trainer
    found = on_device(Sgd(learning_rate=0.1, device="auto"))
    assert found == Sgd(learning_rate=0.1, device="cuda" if torch.cuda.is_available() else "cpu")
    (job,) = jobs_of(MODELS["mlp"], SHAPE, lengths=(5,))
    with pytest.raises(ValueError, match="device: auto: expected it replaced"):
        fit(Sgd(learning_rate=0.1, device="auto"), MODELS["mlp"], SHAPE, 10, [job])
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: cuda: torch finds no CUDA device"):
            fit(Sgd(learning_rate=0.1, device="cuda"), MODELS["mlp"], SHAPE, 10, [job])
        assert unusable_device(Sgd(learning_rate=0.1, device="cuda")) == "device: cuda: torch finds no CUDA device; use cpu, or auto"
    assert unusable_device(Sgd(learning_rate=0.1, device="auto")) is None


@pytest.mark.parametrize("has_cuda", [True, False])
def test_what_auto_came_to_is_part_of_the_key(has_cuda: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    _placed.cache_clear()
    streams = Streams(seed=1)
    data = values.dataset(Digits(), streams.stream("data"))
    start = values.initial_model(MODELS["mlp"], data, streams.stream("model"))

    def key(device: str) -> bytes:
        return values.fit(values.cohort(Sgd(learning_rate=0.1, device=device), MODELS["mlp"], data, streams.stream("fit")), start).key

    with caplog.at_level("INFO", "netfl"):
        assert key("auto") == key("cuda" if has_cuda else "cpu")
    _placed.cache_clear()
    assert key("cpu") != key("cuda")
    assert f"training on {'cuda' if has_cuda else 'cpu'}" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_repeats_itself_and_is_near_the_cpu() -> None:
    for model in MODELS.values():
        jobs = jobs_of(model, SHAPE, dtype=np.float64)
        trainer = Sgd(learning_rate=0.05, device="cuda", **COMMON)
        first = fit(trainer, model, SHAPE, 10, jobs)
        assert same_bits(first[2:4], fit(trainer, model, SHAPE, 10, jobs[2:4]))
        assert distance(first, fit(dataclasses.replace(trainer, device="cpu"), model, SHAPE, 10, jobs)) < 1e-9


# --- offsets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("trainer", [TRAINING["sgd"], TRAINING["all of sgd"], TRAINING["adam"]], ids=["sgd", "all of sgd", "adam"])
def test_an_offset_is_added_to_every_steps_gradient(trainer: Sgd | Adam, model: Model) -> None:
    """Stacked against the plain loop; a first step of full batch by hand; company changes no bit, with or without offsets in it."""
    jobs = jobs_of(model, SHAPE)
    offsets = [np.random.default_rng(number).standard_normal(job.start.shape).astype(job.start.dtype) for number, job in enumerate(jobs)]
    moved = [job._replace(offset=offset) for job, offset in zip(jobs, offsets, strict=True)]
    together = fit(trainer, model, SHAPE, 10, moved, workers=1)
    assert distance(together, fit_one_by_one(trainer, model, SHAPE, 10, moved)) < 1e-4
    mixed = fit(trainer, model, SHAPE, 10, [*moved[:3], *jobs[3:6], *moved[6:]], workers=1)
    assert same_bits(mixed[:3], together[:3])
    assert same_bits(mixed[6:], together[6:])
    assert same_bits(mixed[3:6], fit(trainer, model, SHAPE, 10, jobs, workers=1)[3:6])


def test_one_step_with_an_offset_by_hand() -> None:
    (job, *_) = jobs_of(Mlp(), SHAPE)
    trainer = Sgd(learning_rate=0.5, batch_size=1000)
    offset = np.linspace(-1, 1, len(job.start)).astype(job.start.dtype)
    (without,) = fit(trainer, Mlp(), SHAPE, 10, [job])
    (moved,) = fit(trainer, Mlp(), SHAPE, 10, [job._replace(offset=offset)])
    np.testing.assert_allclose(moved.model, without.model - 0.5 * offset, rtol=0, atol=1e-6)


def test_a_wrong_offset_is_refused() -> None:
    (job, *_) = jobs_of(Mlp(), SHAPE)
    with pytest.raises(ValueError, match=r"offsets of shape \(\d+,\) and float32, got \(3,\)"):
        fit(Sgd(learning_rate=0.1), Mlp(), SHAPE, 10, [job._replace(offset=np.zeros(3, np.float32))])
