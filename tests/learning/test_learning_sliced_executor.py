"""Training in slices is ordinary training, and its messages are the ones that are counted and tell nobody too much."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from netfl.learning.models import Cnn, Mlp, Model, load_vector
from netfl.learning.slicing import Even, KernighanLin, Metis, Partitioner, slice_graph
from netfl.learning.slicing.executor import Note, SlicedNet
from netfl.learning.slicing.reading import read_units
from netfl.learning.slicing.schedule import schedule
from netfl.learning.zoo.crowd import SliceNetCnn, SliceNetMlp

CASES = [
    (Mlp(hidden=(12, 7)), (1, 4, 4), 3, Even()),
    (Mlp(hidden=(12, 7, 5)), (1, 4, 4), 4, KernighanLin()),
    (SliceNetMlp(hidden=(40, 20, 10)), (1, 8, 8), 5, Metis()),
    (Cnn(channels=(4, 6), hidden=5), (2, 8, 8), 3, Even()),
    (SliceNetCnn(kernel=3, maps=(6, 8), connections=(1, 4), hidden=(9,)), (3, 8, 8), 3, Even()),
]
NAMES = ["mlp", "mlp3", "paper mlp", "cnn", "paper cnn"]


def roles_of(model: Model, shape: tuple[int, ...], count: int, partitioner: Partitioner) -> tuple[tuple[int, ...], ...]:
    if isinstance(partitioner, Metis):
        pytest.importorskip("pymetis")
    graph = slice_graph(read_units(model, shape, 4))
    return graph.by_layer(partitioner.parts(graph, count))


def whole(model: Model, shape: tuple[int, ...], vector: np.ndarray, x: torch.Tensor, y: torch.Tensor) -> tuple[float, np.ndarray]:
    module = model.build(shape, 4).double()
    load_vector(module, vector)
    loss = functional.cross_entropy(module(x), y)
    loss.backward()
    return float(loss.detach()), np.concatenate([each.grad.numpy().reshape(-1) for each in module.parameters() if each.grad is not None])


def batch(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, *shape, generator=generator, dtype=torch.float64), torch.randint(0, 4, (6,), generator=generator)


def start(model: Model, shape: tuple[int, ...]) -> np.ndarray:
    count = read_units(model, shape, 4).num_parameters
    return np.random.default_rng(3).normal(scale=0.3, size=count)


@pytest.mark.parametrize(("model", "shape", "count", "partitioner"), CASES, ids=NAMES)
def test_loss_and_every_gradient_equal_those_of_the_whole_network(
    model: Model, shape: tuple[int, ...], count: int, partitioner: Partitioner
) -> None:
    vector = start(model, shape)
    net = SlicedNet(model, shape, 4, roles_of(model, shape, count, partitioner), vector)
    assert np.array_equal(net.vector(), vector)
    for step in range(3):
        x, y = batch(shape, step)
        loss, _ = net.step(x, y)
        expected_loss, expected = whole(model, shape, vector, x, y)
        assert loss == pytest.approx(expected_loss, rel=1e-10)
        assert np.abs(net.vector("gradients") - expected).max() < 1e-10
        net.descend(0.1)
        vector = vector - 0.1 * expected
        assert np.abs(net.vector() - vector).max() < 1e-10


@pytest.mark.parametrize(("model", "shape", "count", "partitioner"), CASES, ids=NAMES)
def test_messages_are_those_of_the_schedule_in_its_order(
    model: Model, shape: tuple[int, ...], count: int, partitioner: Partitioner
) -> None:
    roles = roles_of(model, shape, count, partitioner)
    _, notes = SlicedNet(model, shape, 4, roles, start(model, shape)).step(*batch(shape))
    boundaries = schedule(read_units(model, shape, 4), roles)
    expected = [(each.source, each.target, place, "sums", each.sums) for place, one in enumerate(boundaries) for each in one.bundles]
    for place in reversed(range(len(boundaries))):
        expected += [(each.target, each.source, place, "errors", each.errors) for each in boundaries[place].bundles]
    assert [(note.source, note.target, note.place, note.direction, note.numbers[0].numel()) for note in notes] == expected
    assert [note.numbers.shape[0] for note in notes] == [6] * len(notes)


def sent_values(notes: list[Note]) -> set[float]:
    return {abs(value) for note in notes if note.direction == "sums" for value in note.numbers.flatten().tolist()}


@pytest.mark.parametrize(("model", "shape", "count", "partitioner"), CASES, ids=NAMES)
def test_no_message_holds_an_input_an_activation_a_weight_or_a_label(
    model: Model, shape: tuple[int, ...], count: int, partitioner: Partitioner
) -> None:
    """Every number of a message to a follower is compared with every input, activation and weight that exists: none is the same."""
    vector = start(model, shape)
    net = SlicedNet(model, shape, 4, roles_of(model, shape, count, partitioner), vector)
    x, y = batch(shape)
    _, notes = net.step(x, y)
    module = model.build(shape, 4).double()
    load_vector(module, vector)
    secrets = {abs(each) for each in vector.tolist()}
    for layer in module:
        secrets |= {abs(each) for each in x.flatten().tolist()}
        x = layer(x)
    sent = sent_values([note for note in notes if note.target != 0]) - {0.0}
    assert sent
    assert not sent & (secrets - {0.0})
    # What the follower is told of labels: nothing but errors; errors of outputs go to the holders of the last hidden layer.
    assert {note.direction for note in notes if note.source == 0} == {"sums", "errors"}


def test_only_the_dominator_holds_what_leads_out_of_the_input() -> None:
    model, shape, count, partitioner = CASES[1]
    net = SlicedNet(model, shape, 4, roles_of(model, shape, count, partitioner), start(model, shape))
    assert [role for role, piece in net.pieces.items() if -1 in piece.units or 0 in piece.blocks] == [0]
    assert all(2 not in net.pieces[role].units or 3 not in net.pieces[role].units for role in range(1, 5))
    held = [len(piece.blocks) and sum(int(block.numel()) for block in piece.blocks.values()) for piece in net.pieces.values()]
    assert sum(held) == 16 * 12 + 12 * 7 + 7 * 5 + 5 * 4


def numbers_a_sample(model: Model, count: int, partitioner: Partitioner, partial_sums: bool = True) -> tuple[int, int]:
    """Forward and backward numbers a sample."""
    net = read_units(model, (1, 28, 28), 10)
    graph = slice_graph(net)
    boundaries = schedule(net, graph.by_layer(partitioner.parts(graph, count)), partial_sums)
    bundles = [bundle for boundary in boundaries for bundle in boundary.bundles]
    return sum(each.sums for each in bundles), sum(each.errors for each in bundles)


@pytest.mark.parametrize("count", [2, 5, 10, 20])
def test_traffic_of_an_even_split_is_the_closed_form(count: int) -> None:
    """400 sums from the dominator, 300 sums from n - 1 others each, 10 outputs from n: F = 400 + 300 (n - 1) + 10 n, and as many errors."""
    expected = 400 + 300 * (count - 1) + 10 * count
    assert numbers_a_sample(SliceNetMlp(), count, Even()) == (expected, expected)


def test_traffic_of_metis_rises_with_the_slices_and_stays_about_equal_for_a_device() -> None:
    """The paper's Table VII has traffic a device fall from 3.18 to 2.75 KB; the numbers that must be sent do not fall so."""
    pytest.importorskip("pymetis")
    counts = (5, 10, 15, 20)
    found = [numbers_a_sample(SliceNetMlp(), count, Metis())[0] for count in counts]
    assert found == [1650, 3160, 4650, 5812]
    assert [round(total / (count + 1)) for total, count in zip(found, counts, strict=True)] == [275, 287, 291, 277]


def test_without_partial_sums_every_cut_connection_sends_a_number() -> None:
    """784 * 400 from the dominator; 400 * 200 * 4 / 5 and 200 * 100 * 4 / 5 between five even slices; 100 * 10 to the dominator."""
    sums, errors = numbers_a_sample(SliceNetMlp(), 5, Even(), partial_sums=False)
    assert sums == 784 * 400 + 400 * 200 * 4 // 5 + 200 * 100 * 4 // 5 + 100 * 10
    assert errors == 400 + 300 * 4 + 10 * 5
