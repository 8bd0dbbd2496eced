"""What the holders of slices compute and send for one batch, counted for a sample.

A boundary lies between two layers. Forwards, the holders of the layer before it send partial sums to the holders of the layer after it;
backwards, these send back the errors of their units. One message carries all that goes from one holder to another over one boundary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netfl.learning.slicing.units import DOMINATOR, UnitNet

__all__ = ["Boundary", "Bundle", "batches_of", "schedule"]


@dataclass(frozen=True)
class Bundle:
    """One message.

    Args:
        source: the role that sends it forwards.
        target: the role that receives it forwards, and answers backwards.
        sums: numbers a sample forwards.
        errors: numbers a sample backwards.
    """

    source: int
    target: int
    sums: int
    errors: int


@dataclass(frozen=True)
class Boundary:
    """One boundary.

    Args:
        bundles: between different roles, by source and then target.
        products: (role, multiplications a sample forwards) of every role that holds units before the boundary.
        receivers: every role that holds units after it.
        unit_values: (role, numbers a sample that its units after the boundary sum).
        weights: (role, parameters that lead over it) of every role before it.
    """

    bundles: tuple[Bundle, ...]
    products: tuple[tuple[int, int], ...]
    receivers: tuple[int, ...]
    unit_values: tuple[tuple[int, int], ...]
    weights: tuple[tuple[int, int], ...]


def schedule(net: UnitNet, roles: tuple[tuple[int, ...], ...], partial_sums: bool = True) -> tuple[Boundary, ...]:
    """The boundaries from the input layer to the output layer.

    Args:
        net: the network.
        roles: of each unit of each hidden layer.
        partial_sums: whether a holder adds up what it has for a unit and sends the sum; otherwise it sends a number for each connection.
            Errors are one number a unit and holder either way.
    """
    found = []
    for place, layer in enumerate(net.layers):
        before = np.asarray(roles[place - 1]) if place else np.full(net.inputs, DOMINATOR)
        after = np.asarray(roles[place]) if place < len(roles) else np.full(layer.units, DOMINATOR)
        units, sources = net.pairs(place)
        # How many connections lead from each role to each unit.
        count = np.zeros((int(before.max()) + 1, layer.units), np.int64)
        np.add.at(count, (before[sources], units), 1)
        bundles, products, weights = [], [], []
        for source in np.unique(before).tolist():
            pairs = int(count[source].sum())
            products.append((source, pairs * layer.pair_weights * layer.values))
            weights.append((source, pairs * layer.pair_weights))
            for target in np.unique(after).tolist():
                numbers = count[source][after == target]
                reached = int((numbers > 0).sum())
                if source != target and reached:
                    sums = reached if partial_sums else int(numbers.sum())
                    bundles.append(Bundle(source, target, sums * layer.values, reached * layer.values))
        receivers = tuple(np.unique(after).tolist())
        values = tuple((role, int((after == role).sum()) * layer.values) for role in receivers)
        found.append(Boundary(tuple(bundles), tuple(products), receivers, values, tuple(weights)))
    return tuple(found)


def batches_of(num_samples: int, batch_size: int, epochs: int) -> tuple[int, ...]:
    """Samples of each batch of a turn, in order."""
    whole, rest = divmod(num_samples, batch_size)
    return ((batch_size,) * whole + ((rest,) if rest else ())) * epochs
