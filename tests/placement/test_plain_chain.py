"""Chains counted by hand: the nodes that torch.export finds, and nothing where there is more to them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from netfl.learning.models import Cnn, Mlp
from netfl.learning.zoo.images import FedAvgCnn, LeNet
from netfl.placement import trace
from netfl.placement.graph import TRACERS, trace_graph
from netfl.placement.plain_chain import plain_chain_nodes

CHAINS = {
    "mlp": (Mlp().build((1, 8, 8), 10), (1, 8, 8)),
    "logistic regression": (Mlp(hidden=()).build((13,), 3), (13,)),
    "cnn": (Cnn(channels=(3, 5), hidden=9).build((2, 9, 7), 4), (2, 9, 7)),
    "lenet": (LeNet().build((1, 28, 28), 10), (1, 28, 28)),
    "fedavg cnn": (FedAvgCnn().build((1, 28, 28), 10), (1, 28, 28)),
    "a linear layer first": (nn.Sequential(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 2)), (3, 7)),
    "one of each": (
        nn.Sequential(
            *(nn.Conv2d(4, 8, 3, groups=2, bias=False, stride=2, dilation=2), nn.GELU(), nn.AvgPool2d(2), nn.Dropout(0.3)),
            *(nn.Tanh(), nn.Linear(2, 5, bias=False), nn.Flatten(), nn.Dropout(), nn.Linear(80, 3)),
        ),
        (4, 13, 13),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_nodes_are_those_of_export(name: str) -> None:
    module, sample_shape = CHAINS[name]
    exported = trace_graph(module, sample_shape, TRACERS[0])
    assert plain_chain_nodes(module, sample_shape) == exported.profile_nodes()
    profile = trace(module, sample_shape)
    assert (profile.tracer, profile.notes) == (exported.tracer, exported.notes)


def test_what_is_more_than_such_a_chain_is_left_to_the_tracers() -> None:
    layer, relu = nn.Linear(4, 4), nn.ReLU()
    assert plain_chain_nodes(nn.Sequential(layer, relu), (4,)) is not None
    others = [
        nn.Sequential(layer, relu, layer, relu),  # one layer at two places
        nn.Sequential(layer, nn.ReLU(inplace=True)),
        nn.Sequential(layer, nn.Softmax(dim=1)),
        nn.Sequential(nn.Sequential(layer)),
        nn.Sequential(),
        layer,
    ]
    assert [plain_chain_nodes(module, (4,)) for module in others] == [None] * len(others)
    assert plain_chain_nodes(nn.Sequential(layer, relu), (5,)) is None  # does not run


def test_counting_changes_neither_the_module_nor_what_is_drawn() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Linear(7, 4))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    plain_chain_nodes(module, (7,))
    assert module.training
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_training_of_a_chain_loads_no_compiler() -> None:
    # torch.export, fake tensors and kernels of the device `meta` load it, in more than a second.
    code = """
import sys, netfl
from netfl.store import Store
ends = {"server": {"profile": "edge-server", "tier": "cloud"}, "a": {"profile": "esp32-s3"}, "b": {"profile": "esp32-s3"}}
links = {f"{name}-link": {"between": [name, "server"], "rate": "1 Mbit/s", "latency": "1 ms"} for name in "ab"}
trainer = {"kind": "sgd", "learning_rate": 0.1}
netfl.run({
    "schema": 1, "name": "small", "seed": 1, "topology": {"schema": 1, "name": "star", "devices": ends, "links": links},
    "data": {"source": "digits", "partition": "iid"}, "model": "mlp",
    "workloads": {"training": {"kind": "synchronous", "server": "server", "rounds": 1, "clients_per_round": 2, "trainer": trainer}},
}, store=Store())
assert "torch" in sys.modules
print({"torch._dynamo", "sympy", "sklearn"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"
