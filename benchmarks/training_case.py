"""One round of a case of `training.py`, as netfl and every peer see it: a file, the network in plain PyTorch, and the wire between.

Needs numpy only, and torch for `module`: peers live in environments without netfl.
"""

import json
import sys
import time

import numpy as np


def save(path, kind, shards, parallel):
    """Write a round: `kind` of network, [(inputs, labels)] of the clients that train, how many may train at once."""
    lengths = np.array([len(labels) for _, labels in shards])
    inputs, labels = (np.concatenate(parts) for parts in zip(*shards, strict=True))
    np.savez(path, kind=kind, lengths=lengths, inputs=inputs, labels=labels, parallel=parallel)


def load(path):
    """Kind of network, [(inputs, labels)] and how many may train at once."""
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        shards = list(zip(np.split(file["inputs"], ends), np.split(file["labels"], ends), strict=True))
        return str(file["kind"]), shards, int(file["parallel"])


def module(kind):
    """The network: `mlp` and `cnn` take 1 x 8 x 8, `lenet` takes 1 x 28 x 28."""
    from torch import nn

    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    if kind == "cnn":
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64, 10)),
        )
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def wait():
    """A peer's end of the wire: wait for the next order; returns how many rounds to run, 0 to end."""
    line = sys.stdin.readline()
    return int(line) if line.strip() else 0


def tell(**answer):
    """A peer's end of the wire: answer."""
    print("\n#" + json.dumps(answer), flush=True)


def serve(run_round):
    """Run rounds as they are ordered, for peers whose loop can be entered round by round."""
    run_round()
    tell(ready=True)
    while count := wait():
        begin = time.perf_counter()
        for _ in range(count):
            run_round()
        tell(seconds=(time.perf_counter() - begin) / count)


class Network:
    """The network as a netfl model; here, because worker processes import this file and not the script that runs."""

    def __init__(self, kind):
        self.kind = kind

    def __eq__(self, other):
        return isinstance(other, Network) and self.kind == other.kind

    def __hash__(self):
        return hash(self.kind)

    def build(self, sample_shape, num_classes):
        return module(self.kind)
