"""Data: labelled samples, split into a part to train on and a part to test on.

Here are the sources that come with scikit-learn or are made by arithmetic; `netfl.learning.datasets` reads files.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.errors import DataError
from netfl.parts import Family
from netfl.randomness import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DATA",
    "Arithmetic",
    "BreastCancer",
    "Count",
    "DataSource",
    "Dataset",
    "Digits",
    "Fraction",
    "Wine",
    "limited",
    "random_split",
    "standardised",
]

Indices = npt.NDArray[np.int64]
Fraction = Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)]
Count = Annotated[int, annotated_types.Ge(1)]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples as numpy arrays.

    Args:
        train_inputs: (N, *sample_shape) float32; int64 when samples are tokens.
        train_labels: (N,) int64, from 0 to `num_classes` - 1.
        test_inputs: (M, *sample_shape) of the same type.
        test_labels: (M,) int64.
        num_classes: how many labels there are.
        sample_shape: of one sample.
        groups: (N,) int64, whose each training sample is (a person, a file), from 0 on without gaps; None where nobody owns samples.
        class_names: of the labels, in order; empty where they have no names but their numbers.
    """

    train_inputs: npt.NDArray[Any]
    train_labels: Indices
    test_inputs: npt.NDArray[Any]
    test_labels: Indices
    num_classes: int
    sample_shape: tuple[int, ...]
    groups: Indices | None = None
    class_names: tuple[str, ...] = ()


class DataSource(Protocol):
    """Where samples come from.

    A source that reads files has a method `identity() -> str` too: a hash of what it would read. Its dataset's key then holds that
    hash and the settings but `path`, so the same files in another folder are the same data, and changed files are not.
    """

    def load(self, stream: Stream) -> Dataset:
        """The samples; any choice among them, such as the split, is drawn from the stream.

        Raises:
            DataError: a file is not what it should be, or a setting leaves nothing to train on.
            MissingExtraError: the files, or a package that reads them, are not there.
        """


def random_split(
    inputs: npt.NDArray[Any],
    labels: Indices,
    test_fraction: float,
    stream: Stream,
    *,
    num_classes: int,
    groups: Indices | None = None,
    class_names: Sequence[str] = (),
) -> Dataset:
    """Samples split by a permutation drawn from the stream: the first ones test, the rest train.

    Args:
        inputs: (N, *sample_shape).
        labels: (N,).
        test_fraction: share of the samples kept for testing, rounded to whole samples, at least one.
        stream: what the permutation is drawn from.
        num_classes: how many labels there are.
        groups: (N,) whose each sample is.
        class_names: of the labels.

    Raises:
        DataError: the fraction leaves nothing to train on.
    """
    num_test = max(1, round(test_fraction * len(labels)))
    if num_test >= len(labels):
        raise DataError(f"expected a test_fraction that leaves samples to train on, got {test_fraction} of {len(labels)} samples")
    order = stream.generator().permutation(len(labels))
    test, train = order[:num_test], order[num_test:]
    return Dataset(
        inputs[train],
        labels[train],
        inputs[test],
        labels[test],
        num_classes=num_classes,
        sample_shape=tuple(map(int, inputs.shape[1:])),
        groups=None if groups is None else _without_gaps(groups[train]),
        class_names=tuple(class_names),
    )


def limited(data: Dataset, limit: int | None, test_limit: int | None) -> Dataset:
    """The first samples of a dataset.

    Args:
        data: all samples.
        limit: how many training samples to keep; None keeps all.
        test_limit: how many test samples to keep; None keeps all.

    Raises:
        DataError: some label has no training sample: no model could learn it.
    """
    if limit is not None and limit < len(data.train_labels):
        groups = None if data.groups is None else _without_gaps(data.groups[:limit])
        data = replace(data, train_inputs=data.train_inputs[:limit].copy(), train_labels=data.train_labels[:limit].copy(), groups=groups)
    if test_limit is not None and test_limit < len(data.test_labels):
        data = replace(data, test_inputs=data.test_inputs[:test_limit].copy(), test_labels=data.test_labels[:test_limit].copy())
    absent = np.flatnonzero(np.bincount(data.train_labels, minlength=data.num_classes) == 0)
    if len(absent):
        named = f" ('{data.class_names[absent[0]]}')" if data.class_names else ""
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        change = "raise `limit`" if limit is not None else "number labels from 0 without gaps, or keep a smaller test_fraction"
        raise DataError(f"label {absent[0]}{named}{more} of {data.num_classes} has no training sample: {change}")
    return data


def standardised(data: Dataset) -> Dataset:
    """Each feature minus its mean over the training samples, divided by its standard deviation over them; constant ones become 0."""
    mean = data.train_inputs.mean(axis=0, dtype=np.float64)
    deviation = data.train_inputs.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    train, test = (((inputs - mean) / deviation).astype(np.float32) for inputs in (data.train_inputs, data.test_inputs))
    return replace(data, train_inputs=train, test_inputs=test)


def _without_gaps(groups: Indices) -> Indices:
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Digits:
    """The 1797 handwritten digits, 8x8 pixels in 0..1, that come with scikit-learn (E. Alpaydin, C. Kaynak: UCI, 1998).

    Args:
        test_fraction: share of the samples kept for testing, rounded to whole samples, at least one.
        limit: use the first so many training samples only.
        test_limit: use the first so many test samples only.
    """

    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def load(self, stream: Stream) -> Dataset:
        """The digits, split by a permutation drawn from the stream; see `DataSource.load`."""
        rows = np.loadtxt(_bundled("digits.csv.gz"), delimiter=",")  # 64 pixels of 0 to 16, then the label
        inputs = (rows[:, :-1].reshape(-1, 8, 8) / 16).astype(np.float32)[:, None]
        data = random_split(inputs, rows[:, -1].astype(np.int64), self.test_fraction, stream, num_classes=10)
        return limited(data, self.limit, self.test_limit)


@dataclass(frozen=True, kw_only=True)
class Wine:
    """178 wines of three cultivars, 13 chemical features (S. Aeberhard, M. Forina: UCI, 1992); comes with scikit-learn.

    Features are standardised: minus the mean of the training samples, divided by their standard deviation.

    Args:
        test_fraction: share of the samples kept for testing, rounded to whole samples, at least one.
        limit: use the first so many training samples only.
        test_limit: use the first so many test samples only.
    """

    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def load(self, stream: Stream) -> Dataset:
        """The wines, split by a permutation drawn from the stream; see `DataSource.load`."""
        return _table("wine_data.csv", self.test_fraction, self.limit, self.test_limit, stream)


@dataclass(frozen=True, kw_only=True)
class BreastCancer:
    """569 tumours, malignant or benign, 30 features of cell nuclei (W. Wolberg et al.: UCI, 1993); comes with scikit-learn.

    Features are standardised: minus the mean of the training samples, divided by their standard deviation.

    Args:
        test_fraction: share of the samples kept for testing, rounded to whole samples, at least one.
        limit: use the first so many training samples only.
        test_limit: use the first so many test samples only.
    """

    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def load(self, stream: Stream) -> Dataset:
        """The tumours, split by a permutation drawn from the stream; see `DataSource.load`."""
        return _table("breast_cancer.csv", self.test_fraction, self.limit, self.test_limit, stream)


def _table(name: str, test_fraction: float, limit: int | None, test_limit: int | None, stream: Stream) -> Dataset:
    path = _bundled(name)
    with path.open(encoding="utf-8") as file:
        _, _, *names = file.readline().strip().split(",")  # how many samples, how many features, the labels' names
        rows = np.loadtxt(file, delimiter=",")
    data = random_split(rows[:, :-1], rows[:, -1].astype(np.int64), test_fraction, stream, num_classes=len(names), class_names=names)
    return standardised(limited(data, limit, test_limit))


def _bundled(name: str) -> Path:
    """A data file of scikit-learn, which is not imported for it: that takes as long as importing torch.

    Raises:
        DataError: scikit-learn, or the file in it, is not there.
    """
    found = importlib.util.find_spec("sklearn")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / "datasets" / "data" / name
        if path.is_file():
            return path
    raise DataError(f"'{name}' comes with scikit-learn, and no installed one has it: pip install 'scikit-learn>=1.4'")


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Texts such as `07+45=`, all 10,000 sums of two numbers below 100; the label is the last digit of the sum.

    Made by netfl, so that models of texts have something to learn without a file. Tokens are 0 to 9 for the digits, 10 for `+`
    and 11 for `=`: a model's `vocabulary` is 12.

    Args:
        test_fraction: share of the samples kept for testing, rounded to whole samples, at least one.
        limit: use the first so many training samples only.
        test_limit: use the first so many test samples only.
    """

    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def load(self, stream: Stream) -> Dataset:
        """The sums, split by a permutation drawn from the stream; see `DataSource.load`."""
        first, second = np.divmod(np.arange(10_000, dtype=np.int64), 100)
        plus, equals = np.full_like(first, 10), np.full_like(first, 11)
        tokens = np.stack([first // 10, first % 10, plus, second // 10, second % 10, equals], axis=1)
        data = random_split(tokens, (first + second) % 10, self.test_fraction, stream, num_classes=10)
        return limited(data, self.limit, self.test_limit)


DATA = Family(
    "data",
    {
        "digits": "netfl.learning.data:Digits",
        "wine": "netfl.learning.data:Wine",
        "breast_cancer": "netfl.learning.data:BreastCancer",
        "arithmetic": "netfl.learning.data:Arithmetic",
        "mnist": "netfl.learning.datasets.images:Mnist",
        "fashion_mnist": "netfl.learning.datasets.images:FashionMnist",
        "cifar10": "netfl.learning.datasets.images:Cifar10",
        "cifar100": "netfl.learning.datasets.images:Cifar100",
        "image_folder": "netfl.learning.datasets.images:ImageFolder",
        "uci_har": "netfl.learning.datasets.sensors:UciHar",
        "generated_sensors": "netfl.learning.datasets.sensors:GeneratedSensors",
        "csv": "netfl.learning.datasets.tables:Csv",
        "npz": "netfl.learning.datasets.tables:Npz",
        "text": "netfl.learning.datasets.texts:Text",
        "parquet": "netfl.learning.datasets.hub:Parquet",
        "hf": "netfl.learning.datasets.hub:HuggingFace",
    },
)
