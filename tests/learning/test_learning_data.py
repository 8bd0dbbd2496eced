from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl.errors import DataError
from netfl.learning import values
from netfl.learning.data import DATA, Arithmetic, BreastCancer, Dataset, Digits, Wine, limited, standardised
from netfl.learning.datasets.tables import Csv
from netfl.randomness import Streams
from netfl.store import Store

STREAM = Streams(seed=1).stream("data")


def test_digits_are_the_1797_samples_of_ten_labels() -> None:
    data = Digits(test_fraction=0.2).load(STREAM)
    # round(0.2 * 1797) = 359 to test, 1438 to train
    assert data.test_inputs.shape == (359, 1, 8, 8)
    assert data.train_inputs.shape == (1438, 1, 8, 8)
    assert data.train_inputs.dtype == data.test_inputs.dtype == np.float32
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    labels = np.concatenate([data.train_labels, data.test_labels])
    # the counts of the original file, from 0 to 9
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (data.num_classes, data.sample_shape) == (10, (1, 8, 8))
    inputs = np.concatenate([data.train_inputs, data.test_inputs])
    assert inputs.min() == 0
    assert inputs.max() == 1
    assert np.array_equal(inputs * 16, np.round(inputs * 16))


def test_split_is_a_partition_that_depends_on_the_stream_alone() -> None:
    first, again = Digits().load(STREAM), Digits().load(STREAM)
    other = Digits().load(Streams(seed=2).stream("data"))
    assert np.array_equal(first.train_inputs, again.train_inputs)
    assert not np.array_equal(first.train_inputs, other.train_inputs)

    def as_rows(*parts: np.ndarray) -> list[bytes]:
        return sorted(row.tobytes() for row in np.concatenate(parts))

    assert as_rows(first.train_inputs, first.test_inputs) == as_rows(other.train_inputs, other.test_inputs)


def test_a_fraction_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"leaves samples to train on, got 0\.9999"):
        Digits(test_fraction=0.9999).load(STREAM)


@pytest.mark.parametrize(
    ("source", "counts", "features"),
    [
        # the class counts that the data sets' own descriptions give
        (Wine(), [59, 71, 48], 13),
        (BreastCancer(), [212, 357], 30),
    ],
)
def test_tables_of_scikit_learn_are_standardised_by_what_is_trained_on(source: Wine, counts: list[int], features: int) -> None:
    data = source.load(STREAM)
    assert np.bincount(np.concatenate([data.train_labels, data.test_labels])).tolist() == counts
    assert len(data.class_names) == data.num_classes == len(counts)
    assert data.sample_shape == (features,)
    assert data.train_inputs.dtype == np.float32
    assert np.allclose(data.train_inputs.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(data.train_inputs.std(axis=0), 1, atol=1e-5)
    # the test samples are scaled by the training samples' figures, so theirs are near 0 and 1 but not those
    assert not np.allclose(data.test_inputs.mean(axis=0), 0, atol=1e-5)
    assert np.abs(data.test_inputs.mean(axis=0)).max() < 1


def test_a_constant_feature_becomes_zero() -> None:
    inputs = np.array([[3.0, 1], [3, 3]], np.float32)
    labels = np.array([0, 1])
    data = standardised(Dataset(inputs, labels, inputs + 1, labels, 2, (2,)))
    # 3 - 3 = 0; 1 and 3 have the mean 2 and the deviation 1
    assert data.train_inputs.tolist() == [[0, -1], [0, 1]]
    assert data.test_inputs.tolist() == [[1, 0], [1, 2]]


def test_arithmetic_is_right() -> None:
    data = Arithmetic().load(STREAM)
    tokens, labels = np.concatenate([data.train_inputs, data.test_inputs]), np.concatenate([data.train_labels, data.test_labels])
    assert tokens.shape == (10_000, 6)
    assert tokens.dtype == np.int64
    texts = ["".join("0123456789+="[token] for token in row) for row in tokens.tolist()]
    assert len(set(texts)) == 10_000
    assert all(
        int(text[:2]) + int(text[3:5]) == 10 * ((int(text[:2]) + int(text[3:5])) // 10) + label
        for text, label in zip(texts, labels, strict=True)
    )
    assert all(text[2] + text[5] == "+=" for text in texts)


def test_a_limit_keeps_the_first_training_samples() -> None:
    whole, few = Digits().load(STREAM), Digits(limit=100, test_limit=7).load(STREAM)
    assert np.array_equal(few.train_inputs, whole.train_inputs[:100])
    assert np.array_equal(few.test_labels, whole.test_labels[:7])
    assert few.train_inputs.base is None  # the rest is not held in memory
    assert len(Digits(limit=100_000).load(STREAM).train_labels) == 1438


def test_a_limit_renumbers_who_is_left() -> None:
    inputs, labels = np.zeros((6, 1), np.float32), np.array([0, 1, 0, 1, 0, 1])
    data = limited(Dataset(inputs, labels, inputs, labels, 2, (1,), groups=np.array([2, 0, 2, 1, 1, 1])), 3, None)
    assert data.groups is not None
    assert data.groups.tolist() == [1, 0, 1]


def test_a_label_without_a_training_sample_is_refused() -> None:
    with pytest.raises(DataError, match=r"label \d.* of 10 has no training sample: raise `limit`"):
        Digits(limit=5).load(STREAM)


def test_every_source_of_files_is_known_by_what_is_in_them(tmp_path: Path) -> None:
    """The same files elsewhere are the same data; other contents, or other settings, are not."""

    def key(folder: str, contents: str, **settings: Any) -> bytes:
        path = tmp_path / folder / "table.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(contents)
        return values.dataset(Csv(path=str(path), label="y", **settings), STREAM).key

    table = "x,y\n" + "1,a\n2,b\n" * 5
    assert key("one", table) == key("two", table)
    assert key("one", table) != key("one", table.replace("2", "3"))
    assert key("one", table) != key("one", table, limit=3)
    stored = Store().force(values.dataset(Csv(path=str(tmp_path / "two" / "table.csv"), label="y"), STREAM))
    assert stored.num_classes == 2


def test_kinds() -> None:
    assert DATA.find("digits") is Digits
    assert len(DATA.kinds()) == 16
