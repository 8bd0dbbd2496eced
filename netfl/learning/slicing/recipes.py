"""Crowdlearning's values as recipes; see `netfl.learning.values`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netfl.learning.models import Model
from netfl.learning.slicing.graph import slice_graph
from netfl.learning.slicing.partitioners import Partitioner
from netfl.learning.slicing.sharing import Selection, encoded_bytes, means, most_changed, passing
from netfl.learning.slicing.units import UnitLayer, UnitNet
from netfl.learning.trainer import Trainer
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, TensorForm, recipe

__all__ = [
    "Selection",
    "Slicing",
    "Turn",
    "adopted",
    "handed_on",
    "selection_bytes",
    "server_model",
    "slicing",
    "trained",
    "turn",
    "upload",
]

Calls = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Slicing:
    """A network in slices.

    Args:
        net: its units.
        roles: of each unit of each hidden layer, 1 to n.
        loads: what each slice costs, as `SliceGraph.costs` counts it.
    """

    net: UnitNet
    roles: tuple[tuple[int, ...], ...]
    loads: tuple[int, ...]

    def to_plain(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {"net": asdict(self.net), "roles": self.roles, "loads": self.loads}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Slicing:
        """Back from `to_plain`."""
        layers = tuple(
            UnitLayer(**{**each, "sources": None if each["sources"] is None else tuple(map(tuple, each["sources"]))})
            for each in plain["net"]["layers"]
        )
        net = UnitNet(**{**plain["net"], "layers": layers})
        return cls(net, tuple(map(tuple, plain["roles"])), tuple(plain["loads"]))


def slicing(model: Model, data: Recipe, partitioner: Partitioner, count: int) -> Recipe:
    """The `Slicing` of a model into so many slices.

    Computing it raises ValueError if the model cannot be sliced, or has fewer hidden units than there are slices.
    """
    return recipe(_SLICING, model, data, partitioner, count)


def _slicing(calls: Calls) -> list[Slicing]:
    from netfl.learning.slicing.reading import read_units

    found = []
    for model, data, partitioner, count in calls:
        net = read_units(model, data.sample_shape, data.num_classes)
        if count > net.num_hidden_units:
            raise ValueError(f"expected at most {net.num_hidden_units} slices, one for each hidden unit of the model, got {count}")
        graph = slice_graph(net)
        parts = partitioner.parts(graph, count)
        found.append(Slicing(net, graph.by_layer(parts), tuple(int(load) for load in graph.loads(parts, count))))
    return found


@dataclass(frozen=True, eq=False)
class Turn:
    """A group's model after a dominator's turn.

    Args:
        model: (P,) float32.
        change: (P,) what each weight changed since the epoch began, absolute values added up batch by batch.
    """

    model: npt.NDArray[np.floating[Any]]
    change: npt.NDArray[np.floating[Any]]


def turn(
    trainer: Trainer,
    model: Model,
    start: Recipe,
    data: Recipe,
    shard: tuple[Recipe, int],
    stream: Stream,
    depth: int,
    slices: Recipe,
    num_batches: int | None = None,
    losses: tuple[tuple[int, int], ...] = (),
) -> Recipe:
    """The `Turn` that a dominator's data makes of the one before it, or of a vector (P,) when an epoch begins.

    Args:
        trainer: how to train.
        model: the kind of model.
        start: a `Turn` or a vector.
        data: the dataset.
        shard: the recipe of all shards, and which of them.
        stream: draws the order of the samples.
        depth: batches under way at once.
        slices: the `Slicing`, which says whose weights were lost.
        num_batches: only the first so many batches; None for all.
        losses: (role, batches that had ended) of each device that was lost with its weights.
    """
    return recipe(_TURN, trainer, model, start, data, shard, stream, depth, slices if losses else None, num_batches, losses)


def _turn(calls: Calls) -> list[Turn]:
    from netfl.learning.slicing.turns import Loss, train_turn

    found = []
    for trainer, model, start, data, (shards, index), stream, depth, slices, num_batches, losses in calls:
        vector, change = (start.model, start.change) if isinstance(start, Turn) else (start, np.zeros_like(start))
        rows = shards[index]
        owners = np.zeros(len(vector), np.int16) if slices is None else slices.net.owners(slices.roles)
        after, more = train_turn(
            model,
            data.sample_shape,
            data.num_classes,
            vector,
            data.train_inputs[rows],
            data.train_labels[rows],
            stream,
            batch_size=trainer.batch_size,
            epochs=trainer.epochs,
            rule=trainer.rule,
            depth=depth,
            num_batches=num_batches,
            losses=tuple(Loss(*each) for each in losses),
            owners=owners,
        )
        found.append(Turn(after, change + more))
    return found


def trained(after: Recipe) -> Recipe:
    """The model (P,) of a `Turn`."""
    return recipe(_TRAINED, after)


def _trained(calls: Calls) -> list[Any]:
    return [after.model for (after,) in calls]


def fallen_back(after: Recipe, before: Recipe, slices: Recipe, role: int) -> Recipe:
    """A group's model, a `Turn` or a vector (P,), with the weights of a role as they were in another one: they were lost with their holder."""
    return recipe(_FALLEN_BACK, after, before, slices, role)


def _fallen_back(calls: Calls) -> list[Any]:
    found = []
    for after, before, slices, role in calls:
        old = before.model if isinstance(before, Turn) else before
        new = after.model if isinstance(after, Turn) else after
        vector = np.where(slices.net.owners(slices.roles) == role, old, new)
        found.append(Turn(vector, after.change) if isinstance(after, Turn) else vector)
    return found


def upload(after: Recipe, theta: float) -> Recipe:
    """The `Selection` of weights that a group uploads at the end of an epoch."""
    return recipe(_UPLOAD, after, theta)


def _upload(calls: Calls) -> list[Selection]:
    found = []
    for after, theta in calls:
        places = most_changed(after.change, theta)
        found.append(Selection(places, after.model[places]))
    return found


def handed_on(uploads: Sequence[Recipe], initial: Recipe, omega: int, tau: float) -> Recipe:
    """The `Selection` that a group receives.

    Args:
        uploads: oldest first; only the last omega count.
        initial: any model, for its length.
        omega: records in the window.
        tau: from 0 to 1.
    """
    return recipe(_HANDED_ON, tuple(uploads[-omega:]), initial, omega, tau)


def _handed_on(calls: Calls) -> list[Selection]:
    found = []
    for uploads, initial, omega, tau in calls:
        places = passing([each.places for each in uploads], len(initial), omega, tau)
        found.append(Selection(places, means(uploads, places, len(initial))))
    return found


def adopted(after: Recipe, received: Recipe) -> Recipe:
    """A group's model (P,), from a `Turn` or a vector, with what it received written over its own."""
    return recipe(_ADOPTED, after, received)


def _adopted(calls: Calls) -> list[np.ndarray]:
    found = []
    for after, received in calls:
        vector = (after.model if isinstance(after, Turn) else after).copy()
        vector[received.places] = received.values
        found.append(vector)
    return found


def server_model(before: Recipe, uploads: Sequence[Recipe], omega: int) -> Recipe:
    """The server's model (P,): the mean of what the window holds of a weight; what it held before where that is nothing."""
    return recipe(_SERVER_MODEL, before, tuple(uploads[-omega:]))


def _server_model(calls: Calls) -> list[np.ndarray]:
    found = []
    for before, uploads in calls:
        places = passing([each.places for each in uploads], len(before), len(uploads), 0.0)
        vector = before.copy()
        vector[places] = means(uploads, places, len(before))
        found.append(vector)
    return found


def selection_bytes(selection: Recipe, slices: Recipe) -> Recipe:
    """Length of the message with each role's part of a `Selection`, as a tuple from role 0 on; 0 for a role that has none of it."""
    return recipe(_SELECTION_BYTES, selection, slices)


def _selection_bytes(calls: Calls) -> list[tuple[int, ...]]:
    found = []
    for selection, slices in calls:
        owners = slices.net.owners(slices.roles)
        held = np.bincount(owners, minlength=len(slices.loads) + 1)
        chosen = np.bincount(owners[selection.places], minlength=len(held))
        found.append(tuple(encoded_bytes(int(count), int(all_)) if count else 0 for count, all_ in zip(chosen, held, strict=True)))
    return found


_AS_SELECTION = TensorForm(
    lambda selection: {"places": selection.places, "values": selection.values}, lambda named: Selection(named["places"], named["values"])
)
_AS_VECTOR = TensorForm(lambda vector: {"vector": vector}, lambda named: named["vector"])
_SLICING = Function("slicing", 1, _slicing, FactForm(Slicing.to_plain, Slicing.from_plain))
_TURN = Function(
    "turn",
    1,
    _turn,
    TensorForm(lambda each: {"model": each.model, "change": each.change}, lambda named: Turn(named["model"], named["change"])),
)
_TRAINED = Function("trained", 1, _trained)
_FALLEN_BACK = Function("fallen_back", 1, _fallen_back)
_UPLOAD = Function("upload", 1, _upload, _AS_SELECTION)
_HANDED_ON = Function("handed_on", 1, _handed_on, _AS_SELECTION)
_ADOPTED = Function("adopted", 1, _adopted, _AS_VECTOR)
_SERVER_MODEL = Function("server_model", 1, _server_model, _AS_VECTOR)
_SELECTION_BYTES = Function("selection_bytes", 1, _selection_bytes, FactForm(list, tuple))
