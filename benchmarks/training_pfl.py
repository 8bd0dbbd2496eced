"""pfl-research's side of `training.py`: its FederatedAveraging on its SimulatedBackend, one process."""

import sys
import time

import numpy as np
import torch
import training_case
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Rounds(TrainingProcessCallback):
    """Waits for orders between rounds."""

    def __init__(self):
        self.left, self.count, self.begin = 1, 0, 0.0

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.left -= 1
        if self.left:
            return False, Metrics()
        if self.count:
            training_case.tell(seconds=(time.perf_counter() - self.begin) / self.count)
        else:
            training_case.tell(ready=True)
        self.left = self.count = training_case.wait()
        self.begin = time.perf_counter()
        return not self.count, Metrics()


def main():
    torch.set_num_threads(1)
    kind, shards, _ = training_case.load(sys.argv[1])
    module = training_case.module(kind)
    module.loss = lambda inputs, labels: torch.nn.functional.cross_entropy(module(inputs), labels)
    module.metrics = lambda inputs, labels: {}
    users = {number: [torch.from_numpy(inputs), torch.from_numpy(labels)] for number, (inputs, labels) in enumerate(shards)}
    turns = iter(lambda: turn(len(shards)), None)
    state = {"next": -1}

    def turn(count):
        state["next"] = (state["next"] + 1) % count
        return state["next"]

    data = FederatedDataset(lambda user: Dataset(users[user], user_id=str(user)), lambda: next(turns))
    model = PyTorchModel(
        model=module, local_optimizer_create=torch.optim.SGD, central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0)
    )
    np.random.seed(0)
    FederatedAveraging().run(
        NNAlgorithmParams(central_num_iterations=10**9, evaluation_frequency=10**9, train_cohort_size=len(shards), val_cohort_size=0),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=0.1, local_batch_size=10),
        None,
        callbacks=[Rounds()],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
