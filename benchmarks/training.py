"""Batched local training against a plain PyTorch loop over the same clients, shuffles and steps.

    python benchmarks/training.py [--json] [--pairs N]

A case is one steady round: the `fit` of its clients and the `aggregate` of what they made, without the event loop, on one
thread. netfl and the plain loop run in turns in one process, a few rounds each a pair; figures are seconds a round, medians
over the pairs, and the ratio is the median of the pairs' ratios (above 1 where netfl is faster). The plain loop is what a
user would write: load_state_dict, torch.optim.SGD, cross_entropy, backward, sliced batches, a weighted mean of state dicts.
It gets its shuffles for nothing; netfl draws its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from netfl.learning.aggregators import Contributions, Mean
from netfl.learning.data import Dataset, Digits
from netfl.learning.models import Cnn, Mlp, Model, initial, load_vector, to_vector
from netfl.learning.partition import Dirichlet
from netfl.learning.trainer import FitJob, Sgd, fit
from netfl.randomness import Streams

STREAMS = Streams(seed=1)
SGD = Sgd(learning_rate=0.1, epochs=1, batch_size=10)
ROUNDS = 5


@dataclass(frozen=True)
class Case:
    name: str
    model: Model
    num_clients: int
    per_round: int


CASES = [
    Case("mlp100", Mlp(hidden=(64,)), 100, 10),
    Case("mlp1000", Mlp(hidden=(64,)), 1000, 100),
    Case("cnn100", Cnn(channels=(8, 16)), 100, 10),
    Case("cnn1000", Cnn(channels=(8, 16)), 1000, 100),
    Case("100 clients mlp", Mlp(hidden=(64,)), 100, 100),
]


def jobs_of(case: Case, data: Dataset) -> list[FitJob]:
    """One round's jobs. With more clients than 100, samples are drawn with replacement so that shards keep their mean length."""
    count = len(data.train_labels)
    samples = np.arange(count)
    if case.num_clients > 100:
        samples = STREAMS.generator("samples").integers(0, count, count * case.num_clients // 100)
    labels = data.train_labels[samples]
    shards = Dirichlet(alpha=0.5).split(labels, case.num_clients, data.num_classes, STREAMS.stream("partition"))
    chosen = np.sort(STREAMS.generator("round").choice(case.num_clients, case.per_round, replace=False))
    start = initial(case.model, data.sample_shape, data.num_classes, STREAMS.stream("model"))
    return [
        FitJob(start, data.train_inputs[samples[shards[client]]], labels[shards[client]], STREAMS.stream("fit", f"client-{client}", 1))
        for client in chosen
    ]


def with_netfl(case: Case, data: Dataset, jobs: Sequence[FitJob]) -> np.ndarray:
    """A round by netfl."""
    results = fit(SGD, case.model, data.sample_shape, data.num_classes, jobs)
    updates = [result.model - job.start for job, result in zip(jobs, results, strict=True)]
    contributions = Contributions(
        updates=updates,
        num_samples=[result.num_samples for result in results],
        steps=[result.num_steps for result in results],
        num_clients=case.num_clients,
    )
    return Mean().aggregate(jobs[0].start, {}, contributions).model


def with_plain_loop(module: torch.nn.Module, jobs: Sequence[FitJob], orders: Sequence[np.ndarray]) -> np.ndarray:
    """A round by a plain PyTorch loop, from samples that are already tensors."""
    load_vector(module, jobs[0].start)
    start = {name: value.clone() for name, value in module.state_dict().items()}
    total = {name: torch.zeros_like(value) for name, value in start.items()}
    num_samples = sum(len(job.labels) for job in jobs)
    for job, order in zip(jobs, orders, strict=True):
        module.load_state_dict(start)
        optimizer = torch.optim.SGD(module.parameters(), lr=SGD.learning_rate)
        inputs, labels = torch.from_numpy(job.inputs)[order], torch.from_numpy(job.labels)[order]
        for begin in range(0, len(labels), SGD.batch_size):
            optimizer.zero_grad()
            logits = module(inputs[begin : begin + SGD.batch_size])
            functional.cross_entropy(logits, labels[begin : begin + SGD.batch_size]).backward()
            optimizer.step()
        for name, value in module.state_dict().items():
            total[name] += value * (len(labels) / num_samples)
    module.load_state_dict(total)
    return to_vector(module)


def measure(case: Case, data: Dataset, pairs: int) -> dict[str, str | float]:
    """One row."""
    jobs = jobs_of(case, data)
    module = case.model.build(data.sample_shape, data.num_classes)
    orders = [torch.from_numpy(np.random.default_rng(1).permutation(len(job.labels))) for job in jobs]
    with_netfl(case, data, jobs)
    with_plain_loop(module, jobs, orders)
    netfl_s, baseline_s = [], []
    for _ in range(pairs):
        begin = time.perf_counter()
        for _ in range(ROUNDS):
            with_netfl(case, data, jobs)
        middle = time.perf_counter()
        for _ in range(ROUNDS):
            with_plain_loop(module, jobs, orders)
        netfl_s.append((middle - begin) / ROUNDS)
        baseline_s.append((time.perf_counter() - middle) / ROUNDS)
    return {
        "case": case.name,
        "baseline": "plain PyTorch loop",
        "ratio": statistics.median(plain / ours for plain, ours in zip(baseline_s, netfl_s, strict=True)),
        "netfl_s": statistics.median(netfl_s),
        "baseline_s": statistics.median(baseline_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs a case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = Digits().load(STREAMS.stream("data"))
    rows = [measure(case, data, arguments.pairs) for case in CASES]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'case':<16} {'baseline':<20} {'ratio':>6} {'netfl':>10} {'baseline':>10}")
    for row in rows:
        print(
            f"{row['case']:<16} {row['baseline']:<20} {row['ratio']:>6.1f}"
            f" {1000 * float(row['netfl_s']):>7.2f} ms {1000 * float(row['baseline_s']):>7.2f} ms"
        )


if __name__ == "__main__":
    main()
