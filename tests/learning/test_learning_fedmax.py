"""FedMAX: its penalties' gradients, its training against the plain loop, and what it does to activations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from trainer_nets import Built, distance, jobs_of, resnet, same_bits

from netfl.learning.aggregators import Contributions, Mean
from netfl.learning.data import Digits
from netfl.learning.fedmax import FedMax
from netfl.learning.models import Cnn, Mlp, Model, initial, load_vector
from netfl.learning.partition import Shards
from netfl.learning.penalties import gradient_of
from netfl.learning.rules import Rule
from netfl.learning.trainer import FitJob, Sgd, fit, fit_one_by_one
from netfl.randomness import Streams

STREAMS = Streams(seed=5)
SHAPE = (1, 6, 6)
PENALTIES: list[Any] = ["kl", "kl_reversed", "l2"]
MODELS: dict[str, Model] = {"mlp": Mlp(hidden=(9,)), "cnn": Cnn(channels=(3, 6)), "resnet": Built(resnet)}


def penalty(kind: str, a: torch.Tensor) -> torch.Tensor:
    """The mean over samples, as the module's text defines it, by torch's own functions."""
    if kind == "l2":
        return a.norm(dim=1).mean()
    log_p, log_u = torch.log_softmax(a, 1), -torch.log(torch.tensor(float(a.shape[1])))
    if kind == "kl":
        return (log_p.exp() * (log_p - log_u)).sum(1).mean()
    return (log_u - log_p).mean(1).mean()


@pytest.mark.parametrize("kind", PENALTIES)
def test_gradients_are_those_of_the_stated_penalty(kind: Any) -> None:
    a = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (expected,) = torch.autograd.grad(3.0 * penalty(kind, a), a)
    gradient = gradient_of(Rule(learning_rate=0.1, beta=3.0, penalty=kind))
    assert gradient is not None
    assert torch.allclose(gradient(a.detach(), torch.full((5, 1), 0.2, dtype=torch.float64)), expected, atol=1e-14)


def test_the_divergence_has_no_gradient_where_activations_are_constant() -> None:
    for kind in PENALTIES[:2]:
        gradient = gradient_of(Rule(learning_rate=0.1, beta=5.0, penalty=kind))
        assert gradient is not None
        assert gradient(torch.full((3, 8), 1.7), torch.ones(3, 1)).abs().max() == 0
    assert gradient_of(Rule(learning_rate=0.1)) is None


def test_the_norm_has_no_gradient_at_zero() -> None:
    gradient = gradient_of(Rule(learning_rate=0.1, beta=5.0, penalty="l2"))
    assert gradient is not None
    assert gradient(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.ones(2, 1)).numpy() == pytest.approx(np.array([[0, 0], [3, 4]]))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_beta_0_is_sgd_to_the_bit(model: Model) -> None:
    jobs = jobs_of(model, SHAPE)
    settings: dict[str, Any] = {"learning_rate": 0.05, "momentum": 0.1, "nesterov": True, "weight_decay": 5e-4, "batch_size": 10}
    plain = fit(Sgd(**settings), model, SHAPE, 10, jobs, workers=1)
    assert same_bits(plain, fit(FedMax(beta=0.0, **settings), model, SHAPE, 10, jobs, workers=1))
    assert not same_bits(plain, fit(FedMax(beta=0.1, **settings), model, SHAPE, 10, jobs, workers=1))


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_together_as_in_the_plain_loop_and_in_any_company(model: Model, kind: Any) -> None:
    trainer = FedMax(learning_rate=0.05, beta=2.0, penalty=kind, epochs=2, batch_size=10)
    jobs = jobs_of(model, SHAPE, dtype=np.float64)
    together = fit(trainer, model, SHAPE, 10, jobs, workers=1)
    assert distance(together, fit_one_by_one(trainer, model, SHAPE, 10, jobs)) < 1e-10
    single = jobs_of(model, SHAPE)
    results = fit(trainer, model, SHAPE, 10, single, workers=1)
    for index, job in enumerate(single):
        assert same_bits(results[index : index + 1], fit(trainer, model, SHAPE, 10, [job], workers=1))


def test_one_step_against_autograd() -> None:
    (job, *_) = jobs_of(Mlp(hidden=(9,)), SHAPE, dtype=np.float64)
    module = Mlp(hidden=(9,)).build(SHAPE, 10).double()
    load_vector(module, job.start)
    activations = module[:-1](torch.from_numpy(job.inputs))
    loss = torch.nn.functional.cross_entropy(module[-1](activations), torch.from_numpy(job.labels)) + 1.5 * penalty("kl", activations)
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    expected = job.start - 0.1 * torch.cat([each.flatten() for each in gradients]).numpy()
    (result,) = fit(FedMax(learning_rate=0.1, beta=1.5, batch_size=100), Mlp(hidden=(9,)), SHAPE, 10, [job])
    np.testing.assert_allclose(result.model, expected, rtol=0, atol=1e-13)


def test_the_rate_falls_from_round_to_round() -> None:
    trainer = FedMax(learning_rate=0.1, beta=1.0, round_decay=0.5)
    assert [trainer.in_round(number).rule.learning_rate for number in (1, 2, 4)] == pytest.approx([0.1, 0.05, 0.0125])
    steady = Sgd(learning_rate=0.1)
    assert steady.in_round(7) is steady


def test_the_entropy_of_activations_rises_where_clients_have_two_shards() -> None:
    """Ten clients with two shards of sorted digits each, eight rounds of all, with and without."""
    data = Digits().load(STREAMS.stream("data"))
    shards = Shards(shards_per_client=2).split(data.train_labels, 10, 10, STREAMS.stream("partition"))
    model = Mlp(hidden=(32,))

    def entropy(trainer: Sgd | FedMax) -> float:
        vector = initial(model, data.sample_shape, 10, STREAMS.stream("model"))
        for round_ in range(8):
            jobs = [
                FitJob(vector, data.train_inputs[shard], data.train_labels[shard], STREAMS.stream("fit", client, round_))
                for client, shard in enumerate(shards)
            ]
            results = fit(trainer, model, data.sample_shape, 10, jobs)
            contributions = Contributions(
                updates=[result.model - vector for result in results],
                num_samples=[result.num_samples for result in results],
                steps=[result.num_steps for result in results],
                num_clients=10,
            )
            vector = Mean().aggregate(vector, {}, contributions).model
        module: Any = model.build(data.sample_shape, 10)
        load_vector(module, vector)
        with torch.no_grad():
            log_p = torch.log_softmax(module[:-1](torch.from_numpy(data.test_inputs)), 1)
        return float(-(log_p.exp() * log_p).sum(1).mean())

    plain = Sgd(learning_rate=0.1)
    settings = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    # The most there can be is log(32) = 3.466.
    assert entropy(plain) + 0.05 < entropy(FedMax(beta=1.0, **settings)) < 3.466
