"""Traced modules on stacked parameters: the plain loop's numbers, and the same bits in any company."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trainer_nets import GRAPHS, Built, distance, jobs_of, same_bits

from netfl.learning import graphs, smooth
from netfl.learning.graphs import Graph, graph_of
from netfl.learning.models import Cnn, Mlp
from netfl.learning.paths import LEAST_CLIENTS, path_of
from netfl.learning.trainer import Adam, AdamW, Sgd, evaluate, fit, fit_one_by_one

SGD = Sgd(learning_rate=0.05, epochs=2, batch_size=10)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-6)])
def test_together_equals_the_plain_loop(name: str, dtype: type, tolerance: float) -> None:
    model, shape, tokens = GRAPHS[name]
    path = path_of(model, shape, 10, 10)
    assert (path.kind, path.plan is not None) == ("graph", True), path.reason
    jobs = jobs_of(model, shape, tokens, dtype)
    together = fit(SGD, model, shape, 10, jobs)
    assert distance(together, fit_one_by_one(SGD, model, shape, 10, jobs)) < tolerance
    assert all(not np.array_equal(result.model, job.start) for result, job in zip(together, jobs, strict=True))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("trainer", [SGD, AdamW(epochs=2, batch_size=10, clip_norm=1.0)], ids=["sgd", "adamw"])
def test_bits_do_not_depend_on_company(name: str, trainer: Sgd | AdamW) -> None:
    model, shape, tokens = GRAPHS[name]
    jobs = jobs_of(model, shape, tokens)
    everyone = fit(trainer, model, shape, 10, jobs)
    rng = np.random.default_rng(0)
    for company in (1, 1, 1, 1, 2, 2, 3, 5, 9):
        chosen = rng.choice(len(jobs), company, replace=False)
        assert same_bits(fit(trainer, model, shape, 10, [jobs[client] for client in chosen]), [everyone[client] for client in chosen])


@pytest.mark.parametrize("name", ["resnet", "transformer"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_bits_do_not_depend_on_company_at_any_batch_size(name: str, batch_size: int) -> None:
    model, shape, tokens = GRAPHS[name]
    trainer = Sgd(learning_rate=0.02, batch_size=batch_size)
    assert path_of(model, shape, 10, batch_size).kind == "graph"
    jobs = jobs_of(model, shape, tokens, lengths=(9, 4, 20, 1))
    everyone = fit(trainer, model, shape, 10, jobs)
    for client in range(len(jobs)):
        assert same_bits(fit(trainer, model, shape, 10, jobs[client : client + 1]), everyone[client : client + 1])


def test_bits_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shape, tokens = GRAPHS["resnet"]
    jobs = jobs_of(model, shape, tokens)
    whole = fit(SGD, model, shape, 10, jobs)
    monkeypatch.setattr(graphs, "CHUNK_BYTES", 2**21)
    assert same_bits(fit(SGD, model, shape, 10, jobs), whole)


# The bias of a transformer's keys has a gradient of 0: softmax takes no notice of it. Of rounding, some 1e-17 are left, and Adam
# divides them by epsilon; hence one that leaves them below 1e-9.
@pytest.mark.parametrize(
    "trainer",
    [
        Adam(epochs=2, batch_size=10, epsilon=1e-6),
        AdamW(epochs=2, batch_size=10, epsilon=1e-6, schedule="cosine", proximal=0.1),
    ],
    ids=["adam", "adamw"],
)
@pytest.mark.parametrize("name", ["mobile", "gru, state", "transformer"])
def test_other_optimisers_equal_the_plain_loop(name: str, trainer: Adam | AdamW) -> None:
    model, shape, tokens = GRAPHS[name]
    jobs = jobs_of(model, shape, tokens, np.float64)
    assert distance(fit(trainer, model, shape, 10, jobs), fit_one_by_one(trainer, model, shape, 10, jobs)) < 1e-9


def test_tokens_may_come_as_floats() -> None:
    model, shape, tokens = GRAPHS["gru, last step"]
    jobs = jobs_of(model, shape, tokens)
    floats = [type(job)(job.start, job.inputs.astype(np.float32), job.labels, job.stream) for job in jobs]
    assert same_bits(fit(SGD, model, shape, 10, jobs), fit(SGD, model, shape, 10, floats))
    assert evaluate(model, shape, 10, jobs[0].start, jobs[4].inputs, jobs[4].labels).loss > 0


def test_chains_take_no_tokens() -> None:
    (job,) = jobs_of(Mlp(), (7,), lengths=(5,))
    tokens = type(job)(job.start, np.zeros((5, 7), dtype=np.int64), job.labels, job.stream)
    with pytest.raises(ValueError, match="got \\(5, 7\\) of int64"):
        fit(SGD, Mlp(), (7,), 10, [tokens])


def test_chains_as_graphs_equal_the_plain_loop() -> None:
    # Any chain is a graph too; the kernels of chains are chosen because they are faster.
    for model in (Mlp(hidden=(9,)), Cnn(channels=(4, 6))):
        graph = graph_of(model, (1, 8, 8), 10)
        assert isinstance(graph, Graph)
        assert path_of(model, (1, 8, 8), 10, 10).kind == "chain"


# --- which path, and why --------------------------------------------------------------------------------------------------


class Whole(nn.Module):
    """A linear layer behind a function of whole batches, and what a test wants to put there."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 10)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.function(x))


def behind(function: Callable[[Tensor], Tensor]) -> Built:
    return Built(lambda shape, classes: Whole(function))


def sequence(*layers: Callable[[], nn.Module]) -> Built:
    return Built(lambda shape, classes: nn.Sequential(*(layer() for layer in layers)))


def branching(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def in_place(x: Tensor) -> Tensor:
    y = x * 2
    z = functional.relu(y, inplace=True)
    return y + z


REFUSED = {
    "cannot trace": (behind(branching), "torch.fx cannot trace it"),
    "mean over samples": (behind(lambda x: x - x.mean(0)), "not its first axis alone"),
    "softmax over samples": (behind(lambda x: torch.softmax(x, 0)), "other bits alone than among others"),
    "samples picked": (behind(lambda x: x[1:]), "picks among the samples"),
    "samples moved": (behind(lambda x: x.transpose(0, 1).reshape(-1, 6)), "not its first axis alone"),
    "unknown function": (behind(lambda x: torch.cumsum(x, 1)), "(cumsum) has no stacked form"),
    "scalar code of its own": (behind(lambda x: functional.elu(x)), "(elu) has no stacked form"),
    "in place": (behind(in_place), "in place on a value that others use"),
    "batch norm": (sequence(lambda: nn.BatchNorm1d(6, track_running_stats=False), lambda: nn.Linear(6, 10)), "has no stacked form"),
    "lstm": (sequence(lambda: nn.Unflatten(1, (3, 2)), lambda: nn.LSTM(2, 4), lambda: nn.Flatten()), "it does not run"),
    "other logits": (sequence(lambda: nn.LayerNorm(6), lambda: nn.Linear(6, 9)), "something other than 10 logits"),
    "norm of embeddings": (
        sequence(lambda: nn.Embedding(4, 2, max_norm=1.0), lambda: nn.Flatten(), lambda: nn.Linear(12, 10)),
        "largest norm",
    ),
    "gru both ways": (
        sequence(lambda: nn.Unflatten(1, (3, 2)), lambda: nn.GRU(2, 4, bidirectional=True, batch_first=True)),
        "runs backwards",
    ),
    "too large": (
        sequence(lambda: nn.LayerNorm(6), lambda: nn.Linear(6, 500_000), lambda: nn.Linear(500_000, 10)),
        "a chunk holds 1 clients",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_goes_through_the_loop_and_why(name: str) -> None:
    model, reason = REFUSED[name]
    path = path_of(model, (6,), 10, 4)
    assert (path.kind, path.plan) == ("loop", None)
    assert reason in path.reason


def test_what_goes_through_the_loop_trains() -> None:
    model, _ = REFUSED["softmax over samples"]
    jobs = jobs_of(model, (6,), lengths=(5, 9))
    everyone = fit(SGD, model, (6,), 10, jobs)
    assert same_bits(fit(SGD, model, (6,), 10, jobs[1:]), everyone[1:])


def test_the_path_depends_on_the_batch_size() -> None:
    # 1,500 units behind a layer norm: 4 bytes x (16,500 parameters and 2 x 1,522 numbers a sample); 32 MiB hold six clients of
    # up to (2^25 / 6 / 4 - 25,510) / 3,044 = 450 samples a step.
    model = sequence(lambda: nn.LayerNorm(6), lambda: nn.Linear(6, 1500), lambda: nn.ReLU(), lambda: nn.Linear(1500, 10))
    assert path_of(model, (6,), 10, 100).kind == "graph"
    assert path_of(model, (6,), 10, 1000).kind == "loop"
    assert str(LEAST_CLIENTS) in path_of(model, (6,), 10, 1000).reason


def test_convolutions_with_too_many_windows_go_through_the_loop() -> None:
    # A 3 x 3 convolution of 3 channels on 32 x 32: 27 * 1024 numbers a sample, 4 bytes each: 110,592; 6 MiB hold 56 samples.
    model = Cnn(channels=(4,))
    assert path_of(model, (3, 32, 32), 10, 56).kind == "chain"
    path = path_of(model, (3, 32, 32), 10, 57)
    assert (path.kind, path.reason) == ("loop", "a step's convolution windows take 6.3 MB")


def test_a_graph_that_lies_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # A function whose stacked form is wrong, and one whose bits depend on company, must both fail the rehearsal.
    from netfl.learning import graph_values

    model = behind(torch.tanh)
    monkeypatch.setitem(graph_values.BY_ELEMENT, torch.tanh, torch.sin)
    assert "away from the plain loop" in path_of(model, (6,), 10, 4).reason
    monkeypatch.setitem(graph_values.BY_ELEMENT, torch.tanh, lambda x: torch.tanh(x) * (1 + 1e-12 * len(x)))
    assert "other bits alone than among others" in path_of(behind(lambda x: torch.tanh(x)), (6,), 10, 4).reason


# --- activations ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "theirs"), [(smooth.sigmoid, torch.sigmoid), (smooth.silu, functional.silu), (smooth.gelu, functional.gelu)]
)
def test_smooth_activations_equal_torchs(own: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-40, 40, 801, dtype=torch.float64, requires_grad=True)
    assert (own(x) - theirs(x)).abs().max() < 1e-14
    gradients = [torch.autograd.grad(function(x).sum(), x)[0] for function in (own, theirs)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-14
    far = torch.tensor([-1e4, 1e4], requires_grad=True)
    assert torch.autograd.grad(own(far).sum(), far)[0].isfinite().all()


@pytest.mark.parametrize("function", [smooth.sigmoid, smooth.silu, smooth.gelu, torch.tanh], ids=lambda each: each.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smooth_activations_have_the_same_bits_at_any_place(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(4000) * 3).to(dtype).requires_grad_()
    whole = function(x)
    (whole_gradient,) = torch.autograd.grad(whole.sum(), x)
    for begin, end in ((0, 4), (4, 40), (8, 100), (100, 357), (2000, 2001), (3000, 4000)):
        part = x[begin:end].detach().clone().requires_grad_()
        result = function(part)
        assert torch.equal(result, whole[begin:end])
        assert torch.equal(torch.autograd.grad(result.sum(), part)[0], whole_gradient[begin:end])
