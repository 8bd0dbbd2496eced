"""Pruned models: fewer channels from the start (stage 1 of FL-PQSU)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.errors import RunError
from netfl.learning.models import MODELS, Model, identified, initial, load_vector, to_vector
from netfl.learning.trainer import TRAINERS, FitJob, Trainer, advice, fit
from netfl.parts import Family
from netfl.randomness import Stream

if TYPE_CHECKING:
    from torch import nn

    from netfl.learning.data import Dataset

__all__ = ["PRUNABLE", "Pruned"]

PRUNABLE = Family("models", {kind: path for kind, path in MODELS.builtin.items() if kind != "pruned"})


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Another model without its weakest channels: structured pruning by filter norms, once, before the training.

    Stage 1 of FL-PQSU (W. Xu, W. Fang, Y. Ding, M. Zou, N. Xiong: "Accelerating federated learning for IoT in big data analytics with
    pruning, quantization and selective updating", IEEE Access 2021), with biases, normalisation and the columns of the next
    layer carried over, which its code does not do. `netfl.learning.channels` says which layers lose channels together.

    The server makes the first model: it draws the full one, trains it on some samples of its own if `pretraining` is given, ranks
    the filters and removes the weakest. Its time for that is not simulated. Its samples are drawn from the training samples, which
    clients have too: a choice of ours, for data sets that are not divided otherwise.

    Args:
        model: the full model.
        keep: how many channels stay of each convolution and hidden linear layer, in the order of the forward pass; layers whose results are
            added have one number together.
        rate: or the share of the channels that is removed everywhere, rounded down. One of the two.
        importance: norm of the filters: l1, or l2.
        pretraining: trains the full model before it is pruned; none ranks the filters as they were drawn.
        pretraining_samples: how many samples the server has.
    """

    model: Annotated[Model, PRUNABLE]
    keep: tuple[Annotated[int, annotated_types.Ge(1)], ...] = ()
    rate: Annotated[float, annotated_types.Ge(0), annotated_types.Lt(1)] | None = None
    importance: Literal["l1", "l2"] = "l1"
    pretraining: Annotated[Trainer, TRAINERS] | None = None
    pretraining_samples: Annotated[int, annotated_types.Ge(1)] = 300

    def __post_init__(self) -> None:
        if bool(self.keep) == (self.rate is not None):
            raise ValueError("expected either `keep` or `rate`" + (", got both" if self.keep else ""))

    @property
    def runs_code(self) -> bool:
        """Whether building it runs code that the scenario names."""
        return bool(getattr(self.model, "runs_code", False))

    def identified(self) -> Pruned:
        """The same part with the identity of the code that the full model may be."""
        return replace(self, model=identified(self.model))

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """A new module; see `Model.build`.

        Raises:
            ValueError: the full model cannot be built or pruned so.
        """
        return self._pruned(self.model.build(sample_shape, num_classes), sample_shape)

    def start(self, data: Dataset, stream: Stream) -> npt.NDArray[np.float32]:
        """The first vector (P,): what is left of the full model, drawn from the stream and trained on samples drawn from it.

        Raises:
            RunError: that training has diverged.
        """
        vector = initial(self.model, data.sample_shape, data.num_classes, stream)
        if self.pretraining is not None:
            count = min(self.pretraining_samples, len(data.train_labels))
            rows = np.sort(stream.child("samples").generator().choice(len(data.train_labels), size=count, replace=False))
            job = FitJob(vector, data.train_inputs[rows], data.train_labels[rows], stream.child("pretraining"))
            trained = fit(self.pretraining, self.model, data.sample_shape, data.num_classes, [job])[0]
            if not math.isfinite(trained.mean_loss):
                raise RunError(
                    f"the model's pretraining ended with the loss {trained.mean_loss}: it has diverged; {advice('model.pretraining')}"
                )
            vector = trained.model
        module = self.model.build(data.sample_shape, data.num_classes).float()
        load_vector(module, vector)
        return to_vector(self._pruned(module, data.sample_shape))

    def _pruned(self, module: nn.Module, sample_shape: tuple[int, ...]) -> nn.Module:
        from netfl.learning.channels import prune

        return prune(module, sample_shape, keep=self.keep, rate=self.rate, norm=1 if self.importance == "l1" else 2)
