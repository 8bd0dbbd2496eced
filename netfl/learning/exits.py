"""Early exits: a model that can answer before its end, trained as a whole, as recipes.

S. Teerapittayanon, B. McDanel, H. T. Kung: "BranchyNet: fast inference via early exiting from deep neural networks", ICPR 2016: side
classifiers leave the chain of layers; all are trained in one loss, the weighted sum of their cross-entropies; a sample leaves at the first
exit whose softmax has an entropy below a threshold, and at the end otherwise. What a side classifier is made of is a choice of
ours, see `netfl.learning.exit_nets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.learning import values
from netfl.learning.models import Model, check_fit, load_vector
from netfl.learning.students import check_trainer
from netfl.learning.trainer import TRAINERS, Trainer
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, Store, TensorForm, recipe

if TYPE_CHECKING:
    from netfl.learning.exit_nets import ExitNet

__all__ = ["ExitAnswers", "ExitNetwork", "WithExits", "entropies", "exit_answers", "exit_problem", "joint", "leaving"]

Calls = Sequence[tuple[Any, ...]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ExitNetwork:
    """A model with exits: its vector is the model's own, and then each side classifier's.

    Its module returns the logits of all exits, one after the other, so that it is no model that clients could train.

    Args:
        model: a chain of layers.
        after: behind how many layers each exit leaves.
    """

    model: Model
    after: tuple[int, ...]

    @property
    def num_exits(self) -> int:
        """Exits, the end of the model included."""
        return len(self.after) + 1

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> ExitNet:
        """A new module; see `Model.build`.

        Raises:
            ValueError: the model is no chain, or an exit cannot leave where it should.
        """
        from netfl.learning.exit_nets import ExitNet

        return ExitNet(self.model.build(sample_shape, num_classes), self.after, sample_shape, num_classes)


@dataclass(frozen=True, kw_only=True)
class WithExits:
    """The scenario's model with side classifiers, all trained together on all training samples; planner `early_exit` serves it.

    Args:
        trainer: sgd, adam or adamw, on the CPU.
        after: behind how many layers of the model each exit leaves, rising; the last layer is none of them. A `cnn` has per block a
            convolution, a ReLU and, while maps are large enough, a pooling layer.
        weights: of each exit's loss, the model's own end last; 1 for each where none are given.
    """

    trainer: Annotated[Trainer, TRAINERS]
    after: Annotated[tuple[Annotated[int, annotated_types.Ge(1)], ...], annotated_types.MinLen(1)]
    weights: tuple[Annotated[float, annotated_types.Ge(0)], ...] = ()

    def __post_init__(self) -> None:
        if list(self.after) != sorted(set(self.after)):
            raise ValueError(f"after: expected rising numbers, got {', '.join(map(str, self.after))}")
        if self.weights and len(self.weights) != len(self.after) + 1:
            raise ValueError(f"weights: expected {len(self.after) + 1}, one for each exit and one for the end, got {len(self.weights)}")
        if self.weights and not self.weights[-1]:
            raise ValueError("weights: expected more than 0 for the end of the model, which is the last exit")
        try:
            check_trainer(self.trainer)
        except ValueError as error:
            raise ValueError(f"trainer: {error}") from None

    def network(self, model: Model) -> ExitNetwork:
        """The model with these exits."""
        return ExitNetwork(model=model, after=self.after)

    def model(self, model: Model, data: Recipe, start: Stream, stream: Stream) -> Recipe:
        """The recipe of the parameters (P,) of the model with its exits.

        Args:
            model: the kind of model.
            data: the dataset.
            start: draws the first parameters.
            stream: draws the order of the samples.
        """
        network = self.network(model)
        weights = self.weights or (1.0,) * network.num_exits
        return joint(self.trainer, weights, network, values.initial_model(network, data, start), data, stream)

    def problem(self, model: Model, data: Recipe, store: Store) -> tuple[str, str] | None:
        """What is wrong with the exits for a model and a dataset: (setting, message)."""
        if hasattr(model, "start"):
            return "after", "this model's first vector is made of samples, which exits have no part in: choose another model"
        found: str = store.force(exit_problem(self.network(model), data))
        return ("after", found.removeprefix("after: ")) if found else None


def exit_problem(network: ExitNetwork, data: Recipe) -> Recipe:
    """Why a model cannot have these exits; an empty text where it can."""
    return recipe(_EXIT_PROBLEM, network, data)


def _exit_problem(calls: Calls) -> list[str]:
    import torch

    results = []
    for network, data in calls:
        try:
            check_fit(network.model, data)
            with torch.device("meta"):
                network.build(data.sample_shape, data.num_classes)
            results.append("")
        except ValueError as error:
            results.append(str(error))
    return results


def joint(trainer: Trainer, weights: tuple[float, ...], network: ExitNetwork, start: Recipe, data: Recipe, stream: Stream) -> Recipe:
    """Parameters (P,) of a model with exits after training all of it at once.

    The loss of a batch is the sum over the exits of weight times mean cross-entropy, divided by the sum of the weights, so that a learning
    rate means the same with any number of exits: the division is a choice of ours.

    Args:
        trainer: sgd, adam or adamw.
        weights: of each exit.
        network: the model.
        start: its parameters (P,) before.
        data: the dataset.
        stream: draws the order of the samples.
    """
    return recipe(_JOINT, trainer, weights, network, start, data, stream)


def _joint(calls: Calls) -> list[npt.NDArray[np.float32]]:
    import torch
    from torch.nn import functional

    from netfl.learning.loop import minimise
    from netfl.learning.plain import module_of, one_thread

    results = []
    for trainer, weights, network, start, data, stream in calls:
        module = module_of(network, data.sample_shape, data.num_classes, start.dtype)
        load_vector(module, start)

        def loss(rows: npt.NDArray[np.int64], module: Any = module, data: Any = data, weights: Any = weights) -> Any:
            labels = torch.from_numpy(data.train_labels[rows])
            exits = module(torch.from_numpy(data.train_inputs[rows])).split(data.num_classes, dim=1)
            each = [weight * functional.cross_entropy(logits, labels) for weight, logits in zip(weights, exits, strict=True)]
            return torch.stack(each).sum() / sum(weights)

        with one_thread():
            results.append(minimise(module, trainer, len(data.train_labels), loss, stream))
    return results


@dataclass(frozen=True, eq=False)
class ExitAnswers:
    """What each of E exits says of N samples.

    Args:
        entropies: (E, N) of the softmax, in nats.
        correct: (E, N) bool, whether it names the label.
    """

    entropies: Floats
    correct: npt.NDArray[np.bool_]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of each exit, if every sample left there."""
        return tuple(self.correct.mean(axis=1).tolist())

    def shares(self, threshold: float) -> tuple[float, ...]:
        """The share of the samples that leaves at each exit; they sum to 1."""
        left = leaving(self.entropies, threshold)
        return tuple((np.bincount(left, minlength=len(self.entropies)) / len(left)).tolist())


def exit_answers(network: ExitNetwork, vector: Recipe, data: Recipe) -> Recipe:
    """The `ExitAnswers` of a model with exits on the test samples, uncut and with no codec."""
    return recipe(_EXIT_ANSWERS, network, vector, data)


def _exit_answers(calls: Calls) -> list[ExitAnswers]:
    from netfl.learning.dreaming import teacher_logits

    results = []
    for network, vector, data in calls:
        logits = teacher_logits(network, data.sample_shape, data.num_classes, vector, data.test_inputs)
        exits = logits.reshape(len(logits), network.num_exits, data.num_classes).transpose(1, 0, 2)
        results.append(ExitAnswers(entropies(exits), exits.argmax(axis=2) == data.test_labels))
    return results


def entropies(logits: npt.NDArray[Any]) -> Floats:
    """The entropy of softmax(logits) over the last axis, in nats.

    >>> entropies(np.zeros((1, 4))).round(6).tolist()  # log 4
    [1.386294]
    """
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=-1)
    found: Floats = np.log(sums) - (exponentials * shifted).sum(axis=-1) / sums
    return found


def leaving(entropies: Floats, threshold: float) -> npt.NDArray[np.int64]:
    """The exit of each sample, (N,): the first of which its entropy is below the threshold, else the last.

    >>> leaving(np.array([[0.1, 0.9, 0.9], [0.5, 0.1, 0.9], [0.5, 0.5, 0.9]]), 0.3).tolist()
    [0, 1, 2]
    """
    below = entropies < threshold
    below[-1] = True
    first: npt.NDArray[np.int64] = below.argmax(axis=0).astype(np.int64)
    return first


_EXIT_PROBLEM = Function("exit_problem", 1, _exit_problem, FactForm(lambda found: found, lambda plain: plain))
_JOINT = Function("exits_trained", 1, _joint, TensorForm(lambda vector: {"vector": vector}, lambda named: named["vector"]))
_EXIT_ANSWERS = Function(
    "exit_answers",
    1,
    _exit_answers,
    FactForm(
        lambda found: {"entropies": found.entropies.tolist(), "correct": found.correct.astype(int).tolist()},
        lambda plain: ExitAnswers(np.array(plain["entropies"]), np.array(plain["correct"], dtype=bool)),
    ),
)
