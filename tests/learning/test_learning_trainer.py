from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from netfl.learning import chains, stacked, values
from netfl.learning.aggregators import Contributions, Mean
from netfl.learning.chains import chain_of
from netfl.learning.data import Digits
from netfl.learning.models import Cnn, Mlp, Model, initial, load_vector, num_parameters, to_vector
from netfl.learning.partition import Dirichlet
from netfl.learning.paths import path_of
from netfl.learning.trainer import TRAINERS, FitJob, FitResult, Sgd, _orders, evaluate, fit, fit_one_by_one, training_steps
from netfl.randomness import Streams
from netfl.store import Store

STREAMS = Streams(seed=1)
DATA = Digits().load(STREAMS.stream("data"))
SHAPE = DATA.sample_shape
SHARDS = Dirichlet(alpha=0.5).split(DATA.train_labels, 60, 10, STREAMS.stream("partition"))


@dataclass(frozen=True)
class Built:
    """A model from a function, for layers that the parts do not use."""

    layers: Callable[[], list[nn.Module]]

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
        return nn.Sequential(*self.layers())

    def __str__(self) -> str:
        return self.layers.__name__


def conv_at_odd_places() -> list[nn.Module]:
    """Convolutions without padding, bias or pooling behind them, a pool without ReLU, odd sides and odd widths."""
    return [
        nn.Conv2d(1, 3, 2, bias=False),  # 7 x 7
        nn.MaxPool2d(2),  # 3 x 3 and a row and a column left over
        nn.Conv2d(3, 5, (3, 1), padding=(1, 0)),
        nn.ReLU(),
        nn.Conv2d(5, 6, 2, padding=1),  # 4 x 4
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 7, bias=False),
        nn.ReLU(),
        nn.Linear(7, 10),
    ]


def conv_with_strides() -> list[nn.Module]:
    """Strides of one and both axes, mean pooling with a row and a column left over, tanh and GELU."""
    return [
        nn.Conv2d(1, 3, 3, stride=(2, 1), padding=(1, 2)),  # 4 x 10
        nn.GELU(),
        nn.Conv2d(3, 6, (1, 3), stride=(1, 2), padding=1, bias=False),  # 6 x 5
        nn.Tanh(),
        nn.AvgPool2d(2),  # 3 x 2
        nn.Flatten(),
        nn.Linear(36, 7),
        nn.GELU(),
        nn.Linear(7, 10),
    ]


def conv_with_maxima() -> list[nn.Module]:
    """Large kernels with a maximum right behind them: with and without bias and ReLU, a row and a column left over, rows to fill up."""
    return [
        nn.Conv2d(1, 3, 5, padding=2),  # 8 x 8
        nn.ReLU(),
        nn.MaxPool2d(2),  # 4 x 4
        nn.Conv2d(3, 2, 2, padding=1),  # 5 x 5
        nn.ReLU(),
        nn.Conv2d(2, 5, (5, 7), padding=(2, 2), bias=False),  # 5 x 3
        nn.MaxPool2d(2),  # 2 x 1
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(10, 10),
    ]


def with_dropout() -> list[nn.Module]:
    return [nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)]


def with_batch_norm() -> list[nn.Module]:
    return [nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)]


def jobs_of(model: Model, dtype: type = np.float32, clients: int = len(SHARDS), own_starts: bool = True) -> list[FitJob]:
    starts = [initial(model, SHAPE, 10, STREAMS.stream("model", client * own_starts)).astype(dtype) for client in range(clients)]
    if not own_starts:
        starts = starts[:1] * clients
    return [
        FitJob(start, DATA.train_inputs[shard].astype(dtype), DATA.train_labels[shard], STREAMS.stream("fit", client))
        for client, (start, shard) in enumerate(zip(starts, SHARDS, strict=False))
    ]


def distance(one: list[FitResult], two: list[FitResult]) -> float:
    weights = max(float(abs(a.model - b.model).max()) for a, b in zip(one, two, strict=True))
    losses = max(abs(a.mean_loss - b.mean_loss) / max(1, b.mean_loss) for a, b in zip(one, two, strict=True))
    return max(weights, losses)


MODELS = [
    Mlp(hidden=(64,)),
    Mlp(hidden=(33, 17)),
    Mlp(hidden=()),
    Cnn(),
    Cnn(channels=(5,), hidden=9),
    Built(conv_at_odd_places),
    Built(conv_with_strides),
    Built(conv_with_maxima),
]


def test_shards_are_as_the_tests_want_them() -> None:
    lengths = [len(shard) for shard in SHARDS]
    assert min(lengths) < 10 < 40 < max(lengths)
    assert len({length % 10 for length in lengths}) == 10


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-6)])
def test_together_equals_the_plain_loop(model: Model, momentum: float, dtype: type, tolerance: float) -> None:
    assert path_of(model, SHAPE, 10, 10).kind == "chain"
    trainer = Sgd(learning_rate=0.05, epochs=2, batch_size=10, momentum=momentum)
    jobs = jobs_of(model, dtype, clients=12)
    together = fit(trainer, model, SHAPE, 10, jobs)
    assert distance(together, fit_one_by_one(trainer, model, SHAPE, 10, jobs)) < tolerance
    for job, result in zip(jobs, together, strict=True):
        assert result.model.dtype == dtype
        assert not np.array_equal(result.model, job.start)
        assert result.num_samples == len(job.labels)
        assert result.num_steps == 2 * math.ceil(len(job.labels) / 10) == training_steps(trainer, len(job.labels))


@pytest.mark.parametrize("batch_size", [1, 7, 20, 64])
def test_batch_sizes(batch_size: int) -> None:
    # 20 and 64 have short batches filled up to 16, 20, 32, 48 and 64.
    trainer = Sgd(learning_rate=0.05, batch_size=batch_size)
    jobs = jobs_of(Mlp(), np.float64, clients=25, own_starts=False)
    assert distance(fit(trainer, Mlp(), SHAPE, 10, jobs), fit_one_by_one(trainer, Mlp(), SHAPE, 10, jobs)) < 1e-9


@pytest.mark.parametrize("num_classes", [2, 3, 4, 11])
def test_numbers_of_classes(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    jobs = [
        FitJob(
            initial(Mlp(hidden=(5,)), (3,), num_classes, STREAMS.stream("model")).astype(np.float64),
            rng.standard_normal((count, 3)),
            rng.integers(0, num_classes, count),
            STREAMS.stream("fit", count),
        )
        for count in (1, 4, 9)
    ]
    trainer = Sgd(learning_rate=0.1, epochs=3, batch_size=4, momentum=0.5)
    args = (trainer, Mlp(hidden=(5,)), (3,), num_classes, jobs)
    assert distance(fit(*args), fit_one_by_one(*args)) < 1e-9


def test_maps_of_several_channels() -> None:
    # 3 channels of 5 x 5: a client's windows, 27 x 25 x B numbers, would not be a multiple of 16 bytes.
    model, shape = Cnn(channels=(6,), hidden=0), (3, 5, 5)
    rng = np.random.default_rng(1)
    start = initial(model, shape, 10, STREAMS.stream("model"))
    jobs = [
        FitJob(start, rng.random((count, *shape), dtype=np.float32), rng.integers(0, 10, count), STREAMS.stream("fit", count))
        for count in (5, 1, 3, 11, 7, 2)
    ]
    trainer = Sgd(learning_rate=0.1, batch_size=5)
    together = fit(trainer, model, shape, 10, jobs)
    assert distance(together, fit_one_by_one(trainer, model, shape, 10, jobs)) < 1e-6
    for job, result in zip(jobs, together, strict=True):
        assert fit(trainer, model, shape, 10, [job])[0].model.tobytes() == result.model.tobytes()


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_bits_do_not_depend_on_company(model: Model, momentum: float) -> None:
    trainer = Sgd(learning_rate=0.1, epochs=2, batch_size=10, momentum=momentum)
    jobs = jobs_of(model)
    everyone = fit(trainer, model, SHAPE, 10, jobs)
    rng = np.random.default_rng(0)
    for company in (1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 10, 10, 40):
        chosen = rng.choice(len(jobs), company, replace=False)
        for client, result in zip(chosen, fit(trainer, model, SHAPE, 10, [jobs[client] for client in chosen]), strict=True):
            assert result.model.tobytes() == everyone[client].model.tobytes()
            assert result.mean_loss == everyone[client].mean_loss


@pytest.mark.parametrize("batch_size", [1, 3, 16, 40])
def test_bits_do_not_depend_on_company_at_any_batch_size(batch_size: int) -> None:
    trainer = Sgd(learning_rate=0.05, batch_size=batch_size)
    for model in (Cnn(), Mlp(hidden=(33,)), Built(conv_with_maxima)):
        jobs = jobs_of(model, clients=8)
        together = fit(trainer, model, SHAPE, 10, jobs)
        for job, result in zip(jobs, together, strict=True):
            assert fit(trainer, model, SHAPE, 10, [job])[0].model.tobytes() == result.model.tobytes()


def test_bits_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of(Cnn(), clients=20)
    trainer = Sgd(learning_rate=0.1, batch_size=10)
    whole = fit(trainer, Cnn(), SHAPE, 10, jobs)
    monkeypatch.setattr(chains, "CHUNK_BYTES", 2**20)
    plan = path_of(Cnn(), SHAPE, 10, 10).plan
    assert plan is not None
    assert 1 < stacked.clients_per_chunk(plan, 10, 4) < 20
    pieces = fit(trainer, Cnn(), SHAPE, 10, jobs)
    assert [result.model.tobytes() for result in pieces] == [result.model.tobytes() for result in whole]


def test_weights_lie_as_tensors_of_torch_do() -> None:
    for shape in ((3, 5), (1,), (0, 4), (7, 1000, 31)):
        rooms = [stacked._room(shape, dtype) for dtype in (torch.float32, torch.float64)]
        assert all(room.data_ptr() % 64 == 0 and room.shape == shape and room.is_contiguous() for room in rooms)


def test_one_step_by_hand() -> None:
    # Logistic regression from zeros on one sample x = (1, 2, 0), label 0 of 2: p = (1/2, 1/2), loss = ln 2, gradient of
    # the logits (-1/2, 1/2), of the weights (-x/2, x/2); one step of length 0.1 against it.
    job = FitJob(np.zeros(8), np.array([[1.0, 2.0, 0.0]]), np.array([0]), STREAMS.stream("fit"))
    for train in (fit, fit_one_by_one):
        (result,) = train(Sgd(learning_rate=0.1), Mlp(hidden=()), (3,), 2, [job])
        assert result.model == pytest.approx([0.05, 0.1, 0, -0.05, -0.1, 0, 0.05, -0.05])
        assert result.mean_loss == pytest.approx(math.log(2))


def test_momentum_by_hand() -> None:
    # The same sample twice over, two epochs: the first step is -0.1 g1, the second -0.1 (0.5 g1 + g2).
    # After the first, the logits are +-(0.05 * 5 + 0.05) = +-0.3 (|x|^2 = 5), so p0 = 1 / (1 + exp(-0.6)).
    job = FitJob(np.zeros(8), np.array([[1.0, 2.0, 0.0]]), np.array([0]), STREAMS.stream("fit"))
    p0 = 1 / (1 + math.exp(-0.6))
    bias = 0.05 + 0.1 * (0.5 * 0.5 + (1 - p0))
    for train in (fit, fit_one_by_one):
        (result,) = train(Sgd(learning_rate=0.1, epochs=2, momentum=0.5), Mlp(hidden=()), (3,), 2, [job])
        assert result.model[6] == pytest.approx(bias)
        assert result.mean_loss == pytest.approx(-math.log(p0))


def test_fedavg_with_one_client_is_plain_sgd() -> None:
    trainer, module = Sgd(learning_rate=0.1, batch_size=16), Mlp().build(SHAPE, 10)
    (job,) = jobs_of(Mlp(), clients=1)
    model = job.start
    load_vector(module, job.start)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for number in range(3):
        stream = STREAMS.stream("fit", number)
        round_job = FitJob(model, job.inputs, job.labels, stream)
        (result,) = fit(trainer, Mlp(), SHAPE, 10, [round_job])
        model = mean_of(model, [result])
        assert abs(model - result.model).max() < 1e-7  # the update is rounded once, the sum once
        ((order,),) = _orders([round_job], 1)
        for begin in range(0, len(order), 16):
            batch = order[begin : begin + 16]
            optimizer.zero_grad()
            logits = module(torch.from_numpy(job.inputs[batch]))
            nn.functional.cross_entropy(logits, torch.from_numpy(job.labels[batch])).backward()
            optimizer.step()
    assert abs(model - to_vector(module)).max() < 1e-6


def mean_of(model: np.ndarray, results: list[FitResult]) -> np.ndarray:
    """The next model by a weighted mean."""
    contributions = Contributions(
        updates=[result.model - model for result in results],
        num_samples=[result.num_samples for result in results],
        steps=[result.num_steps for result in results],
        num_clients=len(results),
    )
    return Mean().aggregate(model, {}, contributions).model


def test_shuffles_depend_on_the_stream_and_change_each_epoch() -> None:
    (job,) = jobs_of(Mlp(), clients=1)
    other = FitJob(job.start, job.inputs, job.labels, STREAMS.stream("fit", "other"))
    first, second = _orders([job, other], 3)
    assert all(np.array_equal(np.sort(order), np.arange(len(job.labels))) for order in first + second)
    assert len({order.tobytes() for order in first + second}) == 6
    # neither company nor the number of epochs shifts a shuffle
    ((alone,),) = _orders([other], 1)
    assert np.array_equal(alone, second[0])


def shared_layer() -> list[nn.Module]:
    linear = nn.Linear(64, 64)
    return [nn.Flatten(), linear, nn.ReLU(), linear, nn.Linear(64, 10)]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (shared_layer, "share no parameters"),
        (lambda: [nn.Flatten(), nn.Linear(64, 10, bias=False)], "linear layer with a bias"),
        (lambda: [nn.Flatten(), nn.Linear(64, 12)], "output for each class"),
        (lambda: [nn.Flatten()], "ends in a linear layer"),
        (lambda: [nn.Conv2d(1, 4, 3, padding="same"), nn.Flatten(), nn.Linear(256, 10)], "Conv2d"),
        (lambda: [nn.Conv2d(1, 4, 3, dilation=2), nn.Flatten(), nn.Linear(64, 10)], "Conv2d"),
        (lambda: [nn.MaxPool2d(3), nn.Flatten(), nn.Linear(4, 10)], "MaxPool2d"),
        (lambda: [nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Linear(49, 10)], "MaxPool2d"),
        (lambda: [nn.AvgPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(16, 10)], "AvgPool2d"),
        (lambda: [nn.Flatten(), nn.Linear(64, 8), nn.GELU(approximate="tanh"), nn.Linear(8, 10)], "GELU"),
        (with_dropout, "Dropout"),
        (with_batch_norm, "BatchNorm1d"),
    ],
)
def test_what_is_no_chain(layers: Callable[[], list[nn.Module]], reason: str) -> None:
    refusal = chain_of(Built(layers), SHAPE, 10)
    assert isinstance(refusal, str)
    assert reason in refusal


def test_divergence_is_data() -> None:
    jobs = jobs_of(Cnn(), clients=5)
    for train in (fit, fit_one_by_one):
        results = train(Sgd(learning_rate=1e30, epochs=3, batch_size=4), Cnn(), SHAPE, 10, jobs)
        assert all(math.isnan(result.mean_loss) for result in results if result.num_steps > 3)


def test_evaluate_by_hand() -> None:
    # Weights 0 and biases (ln 3, 0): p = (3/4, 1/4) for every sample; labels 0, 0, 1.
    vector = np.array([0, 0, 0, 0, math.log(3), 0], dtype=np.float32)
    result = evaluate(Mlp(hidden=()), (2,), 2, vector, np.ones((3, 2), dtype=np.float32), np.array([0, 0, 1]))
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.loss == pytest.approx((2 * math.log(4 / 3) + math.log(4)) / 3, rel=1e-6)


def test_federated_averaging_learns_the_digits() -> None:
    trainer = Sgd(learning_rate=0.1, epochs=5, batch_size=10)
    model = initial(Mlp(), SHAPE, 10, STREAMS.stream("model"))
    before = evaluate(Mlp(), SHAPE, 10, model, DATA.test_inputs, DATA.test_labels)
    for number in range(20):
        jobs = [
            FitJob(model, DATA.train_inputs[shard], DATA.train_labels[shard], STREAMS.stream("fit", client, number))
            for client, shard in enumerate(SHARDS)
        ]
        results = fit(trainer, Mlp(), SHAPE, 10, jobs)
        model = mean_of(model, results)
    after = evaluate(Mlp(), SHAPE, 10, model, DATA.test_inputs, DATA.test_labels)
    assert before.accuracy < 0.3
    assert after.accuracy > 0.88
    assert after.loss < before.loss / 2


def test_torchs_global_state_is_left_alone() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    try:
        for model in (Mlp(), Cnn(), Built(with_dropout)):
            jobs = jobs_of(model, clients=3)
            trainer = Sgd(learning_rate=0.1)
            fit(trainer, model, SHAPE, 10, jobs)
            fit_one_by_one(trainer, model, SHAPE, 10, jobs)
            evaluate(model, SHAPE, 10, jobs[0].start, DATA.test_inputs, DATA.test_labels)
            num_parameters(model, SHAPE, 10)
            assert torch.get_num_threads() == 2
            assert torch.equal(torch.get_rng_state(), state)
            assert torch.get_default_dtype() == torch.float32
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
    finally:
        torch.set_num_threads(threads)


def test_inputs_are_left_alone_and_may_be_read_only() -> None:
    jobs = jobs_of(Mlp(), clients=3)
    for job in jobs:
        for array in (job.start, job.inputs, job.labels):
            array.flags.writeable = False
    for train in (fit, fit_one_by_one):
        train(Sgd(learning_rate=0.1), Mlp(), SHAPE, 10, jobs)
    test_inputs, test_labels = DATA.test_inputs.view(), DATA.test_labels.view()
    test_inputs.flags.writeable = test_labels.flags.writeable = False
    evaluate(Mlp(), SHAPE, 10, jobs[0].start, test_inputs, test_labels)


@pytest.mark.parametrize("train", [fit, fit_one_by_one])
def test_what_does_not_fit_is_refused(train: Callable[..., list[FitResult]]) -> None:
    (job,) = jobs_of(Mlp(), clients=1)
    trainer = Sgd(learning_rate=0.1)

    def attempt(**changes: np.ndarray) -> None:
        fields = {"start": job.start, "inputs": job.inputs, "labels": job.labels, **changes}
        train(trainer, Mlp(), SHAPE, 10, [FitJob(**fields, stream=job.stream)])

    with pytest.raises(ValueError, match=r"start vectors of shape \(4810,\)"):
        attempt(start=job.start[:-1])
    with pytest.raises(ValueError, match="expected start vectors of float32 or float64, got float16"):
        attempt(start=job.start.astype(np.float16))
    with pytest.raises(ValueError, match=r"expected inputs of shape .* got .* of float64"):
        attempt(inputs=job.inputs.astype(np.float64))
    with pytest.raises(ValueError, match="expected inputs of shape"):
        attempt(labels=job.labels[:-1])
    with pytest.raises(ValueError, match="at least one sample"):
        attempt(inputs=job.inputs[:0], labels=job.labels[:0])
    assert train(trainer, Mlp(), SHAPE, 10, []) == []


def test_models_with_buffers_are_refused() -> None:
    jobs = jobs_of(Mlp(), clients=1)
    with pytest.raises(ValueError, match="expected a model without buffers"):
        fit(Sgd(learning_rate=0.1), Built(with_batch_norm), SHAPE, 10, jobs)


def test_kinds() -> None:
    assert TRAINERS.find("sgd") is Sgd


def test_squared_losses_of_the_last_epoch() -> None:
    """One step of the whole shard: the losses are those of the start model."""
    (job, *_) = jobs_of(Mlp(), clients=1)
    for train in (fit, fit_one_by_one):
        (result,) = train(Sgd(learning_rate=0.1, batch_size=2000), Mlp(), SHAPE, 10, [job])
        module = Mlp().build(SHAPE, 10)
        load_vector(module, job.start)
        with torch.no_grad():
            logits = module(torch.from_numpy(job.inputs))
            losses = nn.functional.cross_entropy(logits, torch.from_numpy(job.labels), reduction="none")
        assert result.mean_loss == pytest.approx(float(losses.mean()), rel=1e-5)
        assert result.mean_square_loss == pytest.approx(float(losses.square().mean()), rel=1e-5)
        assert result.last_batch_loss == pytest.approx(float(losses.mean()), rel=1e-5)


@pytest.mark.parametrize("batch_size", [16, 10_000])
def test_the_loss_of_the_last_batch_is_the_same_alone_and_together(batch_size: int) -> None:
    jobs = jobs_of(Mlp(), clients=5)
    trainer = Sgd(learning_rate=0.1, batch_size=batch_size, epochs=2)
    together, alone = (train(trainer, Mlp(), SHAPE, 10, jobs) for train in (fit, fit_one_by_one))
    for job, one, other in zip(jobs, together, alone, strict=True):
        assert one.last_batch_loss == pytest.approx(other.last_batch_loss, rel=1e-4)
        if batch_size >= len(job.labels):
            assert one.last_batch_loss == pytest.approx(one.mean_loss, rel=1e-6)
        else:
            assert one.last_batch_loss != pytest.approx(one.mean_loss, rel=1e-3)


def test_cohorts_of_other_shards_and_data_train_together_as_they_do_alone() -> None:
    """Fits whose samples are gathered a cohort at a time: two partitions, another split of the data, and all of the samples."""
    data, other = (values.dataset(Digits(), STREAMS.stream("data", name)) for name in ("one", "two"))
    model, stream = Mlp(hidden=(8,)), STREAMS.stream("fit")
    start = values.initial_model(model, data, STREAMS.stream("initial"))
    shards = [values.shards(data, Dirichlet(alpha=alpha), 5, STREAMS.stream("partition", n)) for n, alpha in enumerate((0.3, 10.0))]
    cohorts = [
        values.cohort(Sgd(learning_rate=0.1), model, of, stream, each)
        for of, each in ((data, shards[0]), (data, shards[1]), (other, shards[0]))
    ]
    fits = [values.fit(cohort, start, shard, f"client-{shard}", 1) for shard in (1, 3) for cohort in cohorts]
    fits.append(values.fit(values.cohort(Sgd(learning_rate=0.1), model, other, stream), start))
    together = Store().force_all(fits)
    for fit_, update in zip(fits, together, strict=True):
        alone = Store().force(fit_)
        assert update.num_samples == alone.num_samples
        assert np.array_equal(update.values, alone.values)
    assert len({update.values.tobytes() for update in together}) == len(fits)
