"""Privacy: what epsilon is, DP-SGD against plain gradients, and two attacks that work without it and fail with it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from trainer_nets import Built, jobs_of, resnet, same_bits

from netfl.learning.aggregators.private import NoisyMean
from netfl.learning.data import Digits
from netfl.learning.models import Cnn, Mlp, Model, initial, load_vector
from netfl.learning.privacy import Ledger, epsilon_of_fixed_number, epsilon_of_poisson_sampling, sigma_of
from netfl.learning.private_sgd import DpSgd
from netfl.learning.probes import auc, cosine, gradient_of_sample, invert, membership_auc
from netfl.learning.trainer import TRAINERS, FitJob, Sgd, evaluate, fit
from netfl.randomness import Streams

STREAMS = Streams(seed=3)
SHAPE = (1, 6, 6)
DATA = Digits().load(STREAMS.stream("data"))


# --- epsilon ---------------------------------------------------------------------------------------------------------------


def test_the_three_ways_of_counting() -> None:
    """sigma 1.1, a hundredth a round, 1000 rounds, delta 1e-5: figures of dp-accounting 0.6.0, frozen."""
    pytest.importorskip("dp_accounting")
    common: dict[str, Any] = {"sigma": 1.1, "rounds": 1000, "delta": 1e-5}
    assert epsilon_of_fixed_number(sampled=100, total=10_000, **common) == pytest.approx(3.19, abs=0.005)
    assert epsilon_of_poisson_sampling(probability=0.01, **common) == pytest.approx(1.712, abs=0.0005)
    assert epsilon_of_poisson_sampling(probability=0.01, accountant="pld", **common) == pytest.approx(1.515, abs=0.0005)


def test_a_noise_multiplier_counts_clip_norms_and_replacement_moves_two() -> None:
    pytest.importorskip("dp_accounting")
    aggregator = NoisyMean(clip_norm=0.3, noise_multiplier=2.2)
    counted = aggregator.epsilon(clients_per_round=100, num_clients=10_000, rounds=1000, delta=1e-5)
    assert counted == pytest.approx(3.19, abs=0.005)
    # A client of 50 samples in batches of 16 takes 4 steps an epoch: 2 epochs and 5 rounds are 40.
    trainer = DpSgd(learning_rate=0.1, noise_multiplier=3.0, epochs=2, batch_size=16)
    expected = epsilon_of_fixed_number(sigma=1.5, sampled=16, total=50, rounds=40, delta=1e-3)
    assert trainer.epsilon(50, rounds=5, delta=1e-3) == expected
    assert sigma_of(3.0) == 1.5


def test_epsilon_at_its_ends() -> None:
    common: dict[str, Any] = {"sampled": 10, "total": 100, "delta": 1e-5}
    assert epsilon_of_fixed_number(sigma=0.0, rounds=1, **common) == math.inf
    assert epsilon_of_fixed_number(sigma=1.0, rounds=0, **common) == 0
    pytest.importorskip("dp_accounting")
    values = [epsilon_of_fixed_number(sigma=sigma, rounds=10, **common) for sigma in (0.5, 1.0, 4.0)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": 1.0}, "delta: expected more than 0 and less than 1, got 1.0"),
        ({"delta": 0.0}, "delta: expected"),
        ({"sigma": -1.0}, "sigma: expected"),
        ({"sampled": 0}, "sampled: expected at least 1 and at most 100"),
        ({"sampled": 101}, "sampled: expected"),
        ({"rounds": -1}, "rounds: expected"),
    ],
    ids=str,
)
def test_numbers_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"sigma": 1.0, "sampled": 10, "total": 100, "rounds": 1, "delta": 1e-5, **change}
    with pytest.raises(ValueError, match=message):
        epsilon_of_fixed_number(**settings)


def test_a_ledger_adds_up() -> None:
    ledger = Ledger(epsilon=0.1, released=20, num_values=1000, rounds=5, delta=1e-6)
    assert ledger.per_coordinate == pytest.approx(0.5)
    assert ledger.per_round == pytest.approx(2.0)
    assert ledger.basic == pytest.approx(10.0)
    # 0.1 sqrt(2 * 100 * ln(1e6)) + 100 * 0.1 * (e^0.1 - 1) = 0.1 * 52.566 + 10 * 0.105171 = 6.308
    assert ledger.advanced == pytest.approx(6.3083, abs=1e-3)
    assert "one coordinate" in str(ledger)
    assert "10" in str(ledger)
    nothing = Ledger(epsilon=math.inf, released=0, num_values=10, rounds=3)
    assert (nothing.basic, nothing.advanced, nothing.per_coordinate) == (0, 0, 0)
    assert Ledger(epsilon=math.inf, released=1, num_values=10, rounds=1).advanced == math.inf


@pytest.mark.parametrize("change", [{"epsilon": 0.0}, {"epsilon": -1.0}, {"delta": 1.0}, {"released": 11}, {"rounds": -1}], ids=str)
def test_a_ledger_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected"):
        Ledger(**{"epsilon": 1.0, "released": 1, "num_values": 10, "rounds": 1, **change})


# --- DP-SGD ----------------------------------------------------------------------------------------------------------------


def clipped_by_hand(model: Model, job: FitJob, clip_norm: float) -> np.ndarray:
    """The mean of clipped gradients at the start, one sample after another."""
    module = model.build(SHAPE, 10).double()
    load_vector(module, job.start)
    total = np.zeros(len(job.start))
    for sample, label in zip(job.inputs, job.labels, strict=True):
        loss = functional.cross_entropy(module(torch.from_numpy(sample[None])), torch.tensor([label]))
        parts = torch.autograd.grad(loss, list(module.parameters()))
        gradient = torch.cat([part.flatten() for part in parts]).numpy()
        total += gradient * min(1.0, clip_norm / float(np.linalg.norm(gradient)))
    return total / len(job.labels)


@pytest.mark.parametrize("model", [Mlp(hidden=(9,)), Cnn(channels=(3, 4)), Built(resnet)], ids=["mlp", "cnn", "resnet"])
def test_one_step_of_all_samples_without_noise(model: Model) -> None:
    (job,) = jobs_of(model, SHAPE, dtype=np.float64, lengths=(12,))
    trainer = DpSgd(learning_rate=0.5, clip_norm=1.5, noise_multiplier=0.0, batch_size=50)
    (result,) = fit(trainer, model, SHAPE, 10, [job])
    np.testing.assert_allclose(result.model, job.start - 0.5 * clipped_by_hand(model, job, 1.5), rtol=0, atol=1e-12)
    assert result.num_steps == trainer.steps(12) == 1


def test_without_clipping_and_noise_it_descends_the_batchs_gradient() -> None:
    (job,) = jobs_of(Mlp(), SHAPE, dtype=np.float64, lengths=(12,))
    (private,) = fit(DpSgd(learning_rate=0.5, clip_norm=1e9, noise_multiplier=0.0, batch_size=50, epochs=3), Mlp(), SHAPE, 10, [job])
    (plain,) = fit(Sgd(learning_rate=0.5, batch_size=50, epochs=3), Mlp(), SHAPE, 10, [job])
    np.testing.assert_allclose(private.model, plain.model, rtol=0, atol=1e-12)
    assert private.mean_loss == pytest.approx(plain.mean_loss)
    assert private.mean_square_loss == pytest.approx(plain.mean_square_loss)


def test_noise_has_the_stated_spread() -> None:
    (job,) = jobs_of(Mlp(hidden=(200, 200)), SHAPE, lengths=(10,))
    quiet, noisy = (DpSgd(learning_rate=0.5, clip_norm=2.0, noise_multiplier=level, batch_size=10) for level in (0.0, 3.0))
    (one,), (other,) = (fit(trainer, Mlp(hidden=(200, 200)), SHAPE, 10, [job]) for trainer in (quiet, noisy))
    noise = other.model - one.model
    # 0.5 * 3 * 2 / 10 = 0.3 on 49,610 weights: standard errors 0.00095 and 0.0013; four of each
    assert noise.std() == pytest.approx(0.3, abs=0.004)
    assert noise.mean() == pytest.approx(0.0, abs=0.0055)


def test_a_client_trains_alike_in_any_company_and_samples_are_drawn_anew() -> None:
    trainer = DpSgd(learning_rate=0.1, noise_multiplier=0.5, batch_size=8)
    jobs = jobs_of(Mlp(), SHAPE)
    together = fit(trainer, Mlp(), SHAPE, 10, jobs)
    for index, job in enumerate(jobs):
        assert same_bits(together[index : index + 1], fit(trainer, Mlp(), SHAPE, 10, [job]))
    batches = STREAMS.stream("any").child("batches").generator()
    counts = Counter(int(row) for _ in range(400) for row in batches.choice(20, size=5, replace=False))
    # binomial(400, 1 / 4) for each sample: 100, standard deviation 8.7; five of them
    assert all(56 < counts[row] < 144 for row in range(20))


def test_what_it_cannot_train_is_refused() -> None:
    (job,) = jobs_of(Mlp(), SHAPE, lengths=(5,))
    with pytest.raises(ValueError, match="no offset"):
        fit(DpSgd(learning_rate=0.1), Mlp(), SHAPE, 10, [job._replace(offset=job.start)])
    with pytest.raises(ValueError, match="expected inputs of shape"):
        fit(DpSgd(learning_rate=0.1), Mlp(), SHAPE, 10, [job._replace(labels=job.labels[:2])])
    assert TRAINERS.find("dp_sgd") is DpSgd


# --- attacks ---------------------------------------------------------------------------------------------------------------


def test_a_digit_is_recovered_from_its_gradient_and_not_from_a_noisy_one() -> None:
    """The noise is DP-SGD's preset: the gradient clipped to 1, a noise multiplier of 1."""
    vector = initial(Mlp(), DATA.sample_shape, 10, STREAMS.stream("model"))
    preset = DpSgd(learning_rate=0.1)
    for number in range(3):
        sample, label = DATA.train_inputs[number], int(DATA.train_labels[number])
        gradient = gradient_of_sample(Mlp(), DATA.sample_shape, 10, vector, sample, label)
        job = FitJob(vector.astype(np.float64), sample[None].astype(np.float64), np.array([label]), STREAMS.stream("fit", number))
        (sent,) = fit(Sgd(learning_rate=1.0), Mlp(), DATA.sample_shape, 10, [job])
        np.testing.assert_allclose(job.start - sent.model, gradient, rtol=0, atol=1e-12)
        found = invert(Mlp(), DATA.sample_shape, 10, vector, gradient, STREAMS.stream("attack", number))
        assert cosine(found, sample) >= 0.95
        (noisy,) = fit(preset, Mlp(), DATA.sample_shape, 10, [job])
        found = invert(Mlp(), DATA.sample_shape, 10, vector, job.start - noisy.model, STREAMS.stream("attack", number))
        assert cosine(found, sample) < 0.6  # two unlike digits have about 0.5


def test_members_are_told_from_others_on_an_overfit_model_and_not_with_privacy() -> None:
    """600 digits, a fifth of whose labels are wrong, learnt by heart or with noise; epsilon 5.4 at delta 1e-3 and still a useful model."""
    generator = STREAMS.generator("wrong labels")
    labels = DATA.train_labels.copy()
    wrong = generator.random(len(labels)) < 0.2
    labels[wrong] = generator.integers(0, 10, int(wrong.sum()))
    order = generator.permutation(len(labels))
    members, others = ((DATA.train_inputs[rows], labels[rows]) for rows in (order[:600], order[600:]))
    start = initial(Mlp(), DATA.sample_shape, 10, STREAMS.stream("model"))
    job = FitJob(start, *members, STREAMS.stream("fit"))
    (overfit,) = fit(Sgd(learning_rate=0.3, epochs=100), Mlp(), DATA.sample_shape, 10, [job])
    assert membership_auc(Mlp(), DATA.sample_shape, 10, overfit.model, members, others) >= 0.6
    (private,) = fit(DpSgd(learning_rate=0.5, noise_multiplier=4.0, epochs=10, batch_size=100), Mlp(), DATA.sample_shape, 10, [job])
    assert membership_auc(Mlp(), DATA.sample_shape, 10, private.model, members, others) <= 0.55
    assert evaluate(Mlp(), DATA.sample_shape, 10, private.model, DATA.test_inputs, DATA.test_labels).accuracy > 0.5


def test_auc_by_hand() -> None:
    # Of 3 * 2 pairs: 3 beats both, 2 beats 1 and ties with 2, 0 beats none: (2 + 1.5) / 6
    assert auc(np.array([3.0, 2.0, 0.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 6)
