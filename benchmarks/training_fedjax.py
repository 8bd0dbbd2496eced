"""FedJAX's side of `training.py`: its federated averaging with its own shuffles, on as many cores as the case allows."""

import os
import sys

import training_case

kind, shards, parallel = training_case.load(sys.argv[1])
if hasattr(os, "sched_setaffinity"):  # XLA takes every core that it is given
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:parallel]))
if parallel == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import jax  # noqa: E402

for name in ("tree_map", "tree_leaves"):  # FedJAX 0.0.17 calls names that newer versions of JAX have in jax.tree_util only
    if not hasattr(jax, name):
        setattr(jax, name, getattr(jax.tree_util, name))

import fedjax  # noqa: E402
import haiku  # noqa: E402


def forward(batch):
    x = batch["x"]
    if kind == "mlp":
        return haiku.Sequential([haiku.Flatten(), haiku.Linear(64), jax.nn.relu, haiku.Linear(10)])(x)
    pool = haiku.MaxPool((2, 2, 1), (2, 2, 1), "VALID")
    if kind == "cnn":
        layers = [*(haiku.Conv2D(8, 3), jax.nn.relu, pool), *(haiku.Conv2D(16, 3), jax.nn.relu, pool)]
        return haiku.Sequential([*layers, haiku.Flatten(), haiku.Linear(10)])(x)
    layers = [*(haiku.Conv2D(6, 5), jax.nn.relu, pool), *(haiku.Conv2D(16, 5, padding="VALID"), jax.nn.relu, pool)]
    rest = [haiku.Linear(120), jax.nn.relu, haiku.Linear(84), jax.nn.relu, haiku.Linear(10)]
    return haiku.Sequential([*layers, haiku.Flatten(), *rest])(x)


def main():
    # FedJAX's way for images: channels last.
    clients = [
        (str(number).encode(), fedjax.ClientDataset({"x": inputs.transpose(0, 2, 3, 1), "y": labels}))
        for number, (inputs, labels) in enumerate(shards)
    ]
    model = fedjax.create_model_from_haiku(
        haiku.transform(forward),
        {"x": clients[0][1].raw_examples["x"][:1], "y": clients[0][1].raw_examples["y"][:1]},
        lambda batch, output: fedjax.metrics.unreduced_cross_entropy_loss(batch["y"], output),
    )
    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        fedjax.model_grad(model),
        fedjax.optimizers.sgd(0.1),
        fedjax.optimizers.sgd(1.0),
        fedjax.ShuffleRepeatBatchHParams(batch_size=10, num_epochs=1, seed=0),
    )
    state = {"server": algorithm.init(model.init(jax.random.PRNGKey(0)))}
    keys = jax.random.split(jax.random.PRNGKey(1), len(clients))

    def run_round():
        chosen = [(name, data, key) for (name, data), key in zip(clients, keys, strict=True)]
        state["server"], _ = algorithm.apply(state["server"], chosen)
        jax.block_until_ready(state["server"].params)

    run_round()  # compiles
    training_case.serve(run_round)


if __name__ == "__main__":
    main()
