from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfl.errors import DataError, MissingExtraError
from netfl.learning.partition import PARTITIONS, ByLabel, Dirichlet, Flwr, Iid, Natural, Partition, Quantity, Shards
from netfl.randomness import Streams

LABELS = np.random.default_rng(0).integers(0, 10, 1437)
STREAM = Streams(seed=3).stream("partition")


def assert_is_partition(shards: list[np.ndarray], num_samples: int) -> None:
    assert all(shard.dtype == np.int64 and len(shard) > 0 for shard in shards)
    assert all(np.array_equal(shard, np.sort(shard)) for shard in shards)
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(num_samples))


DRAWN = [
    Iid(), Dirichlet(alpha=0.5), Dirichlet(alpha=1e-4), Dirichlet(alpha=1e6), ByLabel(), Shards(), Shards(shards_per_client=1),
    Quantity(alpha=0.5), Quantity(alpha=1e-3), Quantity(exponent=1.5), Quantity(exponent=9, min_samples=3),
]  # fmt: skip


@pytest.mark.parametrize("partition", DRAWN)
def test_disjoint_covering_nobody_empty_and_from_the_stream_alone(partition: Partition) -> None:
    shards = partition.split(LABELS, 40, 10, STREAM)
    assert len(shards) == 40
    assert_is_partition(shards, len(LABELS))
    again = partition.split(LABELS, 40, 10, Streams(seed=3).stream("partition"))
    assert all(np.array_equal(one, two) for one, two in zip(shards, again, strict=True))
    other = partition.split(LABELS, 40, 10, Streams(seed=3).stream("another"))
    assert not all(np.array_equal(one, two) for one, two in zip(shards, other, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    clients=st.integers(1, 20),
    alpha=st.floats(0.01, 100),
    least=st.integers(1, 4),
)
def test_dirichlet_always_exists_when_there_are_enough_samples(labels: list[int], clients: int, alpha: float, least: int) -> None:
    partition = Dirichlet(alpha=alpha, min_samples=least)
    if clients * least > len(labels):
        with pytest.raises(ValueError, match="use fewer clients or more data"):
            partition.split(np.array(labels), clients, 5, STREAM)
        return
    shards = partition.split(np.array(labels), clients, 5, STREAM)
    assert_is_partition(shards, len(labels))
    assert min(len(shard) for shard in shards) >= least


def test_iid_shares_differ_by_at_most_one() -> None:
    # 1437 = 40 * 35 + 37
    lengths = [len(shard) for shard in Iid().split(LABELS, 40, 10, STREAM)]
    assert sorted(lengths) == [35] * 3 + [36] * 37


def test_dirichlet_skew_falls_as_alpha_grows() -> None:
    def skew(alpha: float) -> float:
        """Mean total variation distance between a client's label shares and those of all."""
        shards = Dirichlet(alpha=alpha).split(LABELS, 20, 10, STREAM)
        everyone = np.bincount(LABELS, minlength=10) / len(LABELS)
        return float(np.mean([abs(np.bincount(LABELS[shard], minlength=10) / len(shard) - everyone).sum() / 2 for shard in shards]))

    skews = [skew(alpha) for alpha in (0.05, 0.5, 5, 500)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.5
    assert skews[-1] < 0.1


def test_by_label_gives_everyone_so_many_labels() -> None:
    shards = ByLabel(labels_per_client=3).split(LABELS, 20, 10, STREAM)
    assert [len(np.unique(LABELS[shard])) for shard in shards] == [3] * 20
    # 20 clients * 3 places / 10 labels = 6 holders of each label
    holders = [sum(label in LABELS[shard] for shard in shards) for label in range(10)]
    assert holders == [6] * 10


@pytest.mark.parametrize(
    ("partition", "clients", "message"),
    [
        (Iid(), 0, "at least 1 client, got 0"),
        (Iid(), 2000, "at least 2000 samples .* got 1437: use fewer clients"),
        (ByLabel(labels_per_client=11), 20, "labels_per_client of at most 10"),
        (ByLabel(labels_per_client=2), 4, "got room for 8: use more clients or more labels_per_client"),
        (ByLabel(labels_per_client=1), 1437, "one for each client that holds it"),
        (Shards(shards_per_client=50), 40, "at least 2000 samples for 40 clients with 50 or more each, got 1437"),
        (Quantity(alpha=1, min_samples=40), 40, "at least 1600 samples"),
        (Natural(), 3, r"does not say whose each sample is: use another partition"),
    ],
)
def test_impossible_partitions_say_what_to_change(partition: Partition, clients: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partition.split(LABELS, clients, 10, STREAM)


def test_shards_are_runs_of_the_sorted_samples() -> None:
    """McMahan et al.: 60,000 samples of ten labels in 200 shards of 300; each of 100 clients gets two, so most hold two labels."""
    labels = np.repeat(np.arange(10), 600)[np.random.default_rng(1).permutation(6000)]
    shards = Shards(shards_per_client=2).split(labels, 100, 10, STREAM)
    # 6,000 samples in 200 shards of 30; 600 of a label are 20 whole shards, so a shard has one label, a client one or two
    assert [len(shard) for shard in shards] == [60] * 100
    held = [len(np.unique(labels[shard])) for shard in shards]
    assert set(held) == {1, 2}
    # two of 200 shards drawn without order: the second has the first's label with probability 19 / 199
    assert np.mean(np.array(held) == 1) < 0.25


def test_quantity_keeps_the_mix_of_labels() -> None:
    labels = np.arange(20_000) % 10
    sizes = {}
    for partition in (Quantity(exponent=1), Quantity(alpha=0.5)):
        shards = partition.split(labels, 10, 10, STREAM)
        sizes[partition] = sorted(len(shard) for shard in shards)
        for shard in shards:
            # each label's share is rounded to whole samples at both ends: it is off by less than 1
            counts = np.bincount(labels[shard], minlength=10)
            assert np.abs(counts - len(shard) / 10).max() <= 1
    # 20,000 samples by 1, 1/2, ..., 1/10, which add up to 2.92897: from 682.8 to 6,828 (a label's share is rounded: within 10 / 2)
    expected = 20_000 / np.arange(10, 0, -1) / 2.9289683
    assert np.abs(np.array(sizes[Quantity(exponent=1)]) - expected).max() <= 10
    assert sizes[Quantity(alpha=0.5)] != sizes[Quantity(exponent=1)]
    assert [len(shard) for shard in Quantity(exponent=0).split(labels, 10, 10, STREAM)] == [2000] * 10


@pytest.mark.parametrize("settings", [{}, {"alpha": 1.0, "exponent": 1.0}])
def test_quantity_wants_one_law(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected one of `alpha`"):
        Quantity(**settings)  # type: ignore[arg-type]


def test_natural_clients_hold_whole_owners() -> None:
    groups = np.array([0, 0, 1, 2, 2, 3, 4])
    labels = np.zeros(7, np.int64)
    assert [shard.tolist() for shard in Natural().split(labels, 5, 1, STREAM, groups)] == [[0, 1], [2], [3, 4], [5], [6]]
    # clients 0 and 1 hold owners 0, 2, 4 and 1, 3
    assert [shard.tolist() for shard in Natural().split(labels, 2, 1, STREAM, groups)] == [[0, 1, 3, 4, 6], [2, 5]]
    with pytest.raises(ValueError, match="expected at most 5 clients, the number of owners in the data, got 6"):
        Natural().split(labels, 6, 1, STREAM, groups)


@pytest.mark.extras
def test_partitioners_of_flwr_datasets() -> None:
    pytest.importorskip("flwr_datasets")
    shards = Flwr(partitioner="IidPartitioner").split(LABELS, 40, 10, STREAM)
    assert_is_partition(shards, len(LABELS))
    arguments = (("alpha", 0.5), ("partition_by", "label"))
    skewed = Flwr(partitioner="DirichletPartitioner", arguments=arguments)
    shards = skewed.split(LABELS, 10, 10, STREAM)
    assert_is_partition(shards, len(LABELS))
    assert all(np.array_equal(one, two) for one, two in zip(shards, skewed.split(LABELS, 10, 10, STREAM), strict=True))
    natural = Flwr(partitioner="NaturalIdPartitioner", arguments={"partition_by": "group"})  # type: ignore[arg-type]
    assert len(natural.split(LABELS, 5, 10, STREAM, np.arange(len(LABELS)) % 5)) == 5
    for wrong, clients, message in (
        (Flwr(partitioner="IidPartitionner"), 4, "did you mean 'IidPartitioner'"),
        (Flwr(partitioner="DirichletPartitioner"), 4, "missing 2 required positional arguments"),
        (natural, 4, "NaturalIdPartitioner makes 5 shards for 4 clients"),
    ):
        with pytest.raises(DataError, match=message):
            wrong.split(LABELS, clients, 10, STREAM, np.arange(len(LABELS)) % 5)


def test_the_extra_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "flwr_datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netfl-sim\[hf\]'"):
        Flwr(partitioner="IidPartitioner").split(LABELS, 4, 10, STREAM)


def test_kinds() -> None:
    kinds = ("iid", "dirichlet", "by_label", "shards", "quantity", "natural", "flwr")
    assert [PARTITIONS.find(kind) for kind in kinds] == [Iid, Dirichlet, ByLabel, Shards, Quantity, Natural, Flwr]
