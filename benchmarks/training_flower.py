"""Flower's side of `training.py`: its simulation engine (Ray), FedAvg, one client a core, as many at once as there are cores."""

import os
import sys
import time
from pathlib import Path

os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_DISABLE_DOCKER_CPU_WARNING="1", PYTHONWARNINGS="ignore", OMP_NUM_THREADS="1")
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)

import numpy as np
import torch
import training_case
from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import run_simulation

KIND, SHARDS, _ = training_case.load(Path(sys.argv[1]).resolve())


class Client(NumPyClient):
    def __init__(self, shard):
        torch.set_num_threads(1)
        self.inputs, self.labels = map(torch.from_numpy, shard)
        self.module = training_case.module(KIND)

    def fit(self, parameters, config):
        names = self.module.state_dict().keys()
        self.module.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in zip(names, parameters, strict=True)})
        optimizer = torch.optim.SGD(self.module.parameters(), lr=0.1)
        order = torch.randperm(len(self.labels))
        for begin in range(0, len(order), 10):
            batch = order[begin : begin + 10]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.module(self.inputs[batch]), self.labels[batch]).backward()
            optimizer.step()
        return [value.numpy() for value in self.module.state_dict().values()], len(order), {}


def client(context):
    return Client(SHARDS[int(context.node_config["partition-id"])]).to_client()


class Rounds(FedAvg):
    """Waits for orders between rounds."""

    left, count, begin = 1, 0, 0.0

    def aggregate_fit(self, server_round, results, failures):
        made = super().aggregate_fit(server_round, results, failures)
        self.left -= 1
        if not self.left:
            if failures or len(results) != len(SHARDS):
                training_case.tell(error=f"{len(failures)} clients failed: {failures[:1]}")
                os._exit(1)
            if self.count:
                training_case.tell(seconds=(time.perf_counter() - self.begin) / self.count)
            else:
                training_case.tell(ready=True)
            self.left = self.count = training_case.wait()
            if not self.count:
                os._exit(0)
            self.begin = time.perf_counter()
        return made


def server(context):
    start = [value.numpy() for value in training_case.module(KIND).state_dict().values()]
    number = len(SHARDS)
    rounds = Rounds(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=number,
        min_available_clients=number,
        initial_parameters=ndarrays_to_parameters(start),
    )
    return ServerAppComponents(strategy=rounds, config=ServerConfig(num_rounds=10**6))


if __name__ == "__main__":
    run_simulation(
        server_app=ServerApp(server_fn=server),
        client_app=ClientApp(client_fn=client),
        num_supernodes=len(SHARDS),
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0},
            "init_args": {"num_cpus": os.cpu_count(), "log_to_driver": False},
        },
    )
