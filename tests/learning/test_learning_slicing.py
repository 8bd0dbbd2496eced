"""Units, the graph that slicing cuts, and the ways to cut it."""

import numpy as np
import pytest

from netfl.learning.models import Cnn, Mlp, num_parameters
from netfl.learning.slicing import Even, KernighanLin, Metis, SliceGraph, UnitNet, slice_graph
from netfl.learning.slicing.reading import read_units
from netfl.learning.zoo.crowd import SliceNetCnn, SliceNetMlp
from netfl.learning.zoo.images import FedAvgCnn
from netfl.learning.zoo.sequences import Gru

MNIST, CIFAR, DIGITS = (1, 28, 28), (3, 32, 32), (1, 8, 8)


def mlp() -> UnitNet:
    return read_units(SliceNetMlp(), MNIST, 10)


def cnn() -> UnitNet:
    return read_units(SliceNetCnn(), CIFAR, 10)


def test_totals_of_the_papers_networks() -> None:
    """784 + 400 + 200 + 100 + 10 nodes; 784*400 + 400*200 + 200*100 + 100*10 weights. The paper's count of its convolutional network
    leaves out the 64*10 weights of the output layer."""
    assert (mlp().num_nodes, mlp().num_connections) == (1_494, 414_600)
    assert (cnn().num_nodes, cnn().num_connections - 64 * 10) == (38_154, 2_039_936)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (SliceNetMlp(), MNIST),
        (SliceNetCnn(), CIFAR),
        (SliceNetCnn(kernel=3), DIGITS),
        (Cnn(), DIGITS),
        (FedAvgCnn(), MNIST),
        (Mlp(), DIGITS),
    ],
)
def test_units_fit_the_models_vector(model: SliceNetMlp, shape: tuple[int, ...]) -> None:
    net = read_units(model, shape, 10)
    assert net.num_parameters == num_parameters(model, shape, 10)
    roles = slice_graph(net).by_layer(Even().parts(slice_graph(net), 3))
    owners = net.owners(roles)
    first = net.layers[0]
    # The dominator holds the weights that lead out of the input, and the biases of the output.
    input_weights = first.num_pairs(net.inputs) * first.pair_weights
    assert (owners == 0).sum() == input_weights + net.layers[-1].units
    assert set(owners.tolist()) == {0, 1, 2, 3}


def test_weight_belongs_to_the_unit_that_it_leads_out_of_and_bias_to_its_unit() -> None:
    """2 inputs, 2 hidden units, 1 output: vector = W1 (2 x 2), b1 (2), W2 (1 x 2), b2 (1)."""
    net = read_units(Mlp(hidden=(2,)), (2,), 1)
    assert net.owners(((2, 1),)).tolist() == [0, 0, 0, 0, 2, 1, 2, 1, 0]


def test_cost_of_a_unit_is_one_and_its_outgoing_weights() -> None:
    """400 * 201 + 200 * 101 + 100 * 11 = 101,700: the ideal load of Table V times n."""
    graph = slice_graph(mlp())
    assert graph.costs[[0, 400, 600]].tolist() == [201, 101, 11]
    assert graph.costs.sum() == 101_700
    assert len(graph.neighbours[0]) == 200
    assert len(graph.neighbours[400]) == 500


def test_cost_of_a_map_by_hand() -> None:
    """A second convolution's map of 10 x 10: 100 sums, 25 pooled values and 25 flattened ones are nodes; 100 connections into the pooling,
    25 into the flat layer, and 25 * 128 weights lead out. A first one's: 784 + 196 nodes, 784 into the pooling, and 2500 for each map of
    the second convolution that sees it."""
    net, graph = cnn(), slice_graph(cnn())
    assert graph.costs[16] == 100 + 25 + 25 + 100 + 25 + 25 * 128
    second = net.layers[1]
    assert second.sources is not None
    seen_by = sum(0 in row for row in second.sources)
    assert graph.costs[0] == 784 + 196 + 784 + 2500 * seen_by
    assert len(graph.neighbours[0]) == seen_by
    assert set(graph.edge_costs[0]) == {100}


@pytest.mark.parametrize(("count", "largest"), [(5, 20_948), (10, 10_471), (15, 6_977), (20, 5_229)])
def test_metis_gives_table_v_of_the_paper(count: int, largest: int) -> None:
    pytest.importorskip("pymetis")
    graph = slice_graph(mlp())
    assert graph.loads(Metis().parts(graph, count), count).max() == largest


def graphs() -> list[tuple[str, SliceGraph, int]]:
    small = slice_graph(read_units(Mlp(hidden=(32, 16)), (64,), 10))
    maps = slice_graph(read_units(SliceNetCnn(kernel=3), DIGITS, 10))
    return [("mlp of the paper", slice_graph(mlp()), 5), ("small mlp", small, 4), ("maps", maps, 6)]


@pytest.mark.parametrize("partitioner", [Even(), KernighanLin(), Metis()], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(("name", "graph", "count"), graphs(), ids=lambda each: each if isinstance(each, str) else "")
def test_slices_cover_all_units_and_are_balanced(partitioner: Even, name: str, graph: SliceGraph, count: int) -> None:
    if isinstance(partitioner, Metis):
        pytest.importorskip("pymetis")
    parts = partitioner.parts(graph, count)
    assert parts.shape == graph.costs.shape
    assert sorted(set(parts.tolist())) == list(range(count))
    assert graph.loads(parts, count).max() * count / graph.costs.sum() < (1.05 if name == "mlp of the paper" else 1.25)
    assert np.array_equal(parts, partitioner.parts(graph, count))


def test_kernighan_lin_finds_the_two_halves_that_one_edge_joins() -> None:
    """Two layers of four: units 0, 2 lead to 4, 6 and units 1, 3 to 5, 7, but for one edge from 0 to 5. An even split cuts half of the
    edges, the best one that single edge."""
    pairs = [(0, 4), (0, 6), (2, 4), (2, 6), (1, 5), (1, 7), (3, 5), (3, 7), (0, 5)]
    neighbours = tuple(tuple(b if a == unit else a for a, b in pairs if unit in (a, b)) for unit in range(8))
    graph = SliceGraph(np.ones(8, np.int64), neighbours, tuple((1,) * len(each) for each in neighbours), (4, 4))
    parts = KernighanLin().parts(graph, 2)
    assert graph.cut(parts) == 1
    assert graph.loads(parts, 2).tolist() == [4, 4]
    assert graph.cut(Even().parts(graph, 2)) > 1


def test_roles_by_layer() -> None:
    graph = slice_graph(read_units(Mlp(hidden=(3, 2)), (4,), 2))
    assert graph.by_layer(np.array([0, 1, 1, 0, 1])) == ((1, 2, 2), (1, 2))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Gru(vocabulary=20), (5,), "a layer TokenEmbedding before the first weights"),
        (Mlp(hidden=()), (4,), "no units to slice"),
    ],
)
def test_models_that_cannot_be_sliced(model: Gru, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_units(model, shape, 3)
