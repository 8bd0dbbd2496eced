"""What Hugging Face's `datasets` and pyarrow read, through the extra `hf`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netfl.errors import DataError, MissingExtraError
from netfl.learning.data import Count, Dataset, Fraction
from netfl.learning.datasets.files import MOST_BYTES
from netfl.learning.datasets.tables import Table, TableFile, column_place, table_dataset
from netfl.randomness import Stream

__all__ = ["HuggingFace", "Parquet"]

_INSTALL = "pip install 'netfl-sim[hf]'"


@dataclass(frozen=True, kw_only=True)
class Parquet(TableFile):
    """A Parquet file: a column of labels, the others numbers or lists of one length. Needs the extra `hf`.

    Args:
        path: the file; relative to the scenario's file.
        label: the column of labels, numbers or texts.
        features: the columns of numbers, in this order; all but label and group when empty.
        group: a column that says whose each row is: a natural client.
        test_path: a second file with the same columns, to test on; without it, rows are drawn.
        standardise: scale each feature by the training rows' mean and standard deviation.
        test_fraction: share kept for testing without `test_path`, rounded to whole rows, at least one.
        limit: use the first so many training rows only.
        test_limit: use the first so many test rows only.
    """

    def _read(self, path: Path) -> Table:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingExtraError(f"Parquet needs pyarrow: {_INSTALL}") from None
        try:
            names = pyarrow.parquet.read_schema(path).names
            where = str(path)
            label = names[column_place(self.label, names, where)]
            group = None if self.group is None else names[column_place(self.group, names, where)]
            others = [name for name in names if name not in (label, group)]
            features = [names[column_place(name, names, where)] for name in self.features or others]
            table = pyarrow.parquet.read_table(path, columns=[*features, label, *([group] if group is not None else [])])
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: is no whole Parquet file: {error}") from None
        if table.nbytes > MOST_BYTES:
            raise DataError(f"{path}: has {table.nbytes:,} bytes of columns; netfl holds at most {MOST_BYTES:,}")
        inputs = np.concatenate([_numbers(table.column(name).to_pylist(), f"{path}: column '{name}'") for name in features], axis=1)
        return Table(inputs, table.column(label).to_pylist(), None if group is None else table.column(group).to_pylist())


def _numbers(values: Sequence[Any], where: str) -> npt.NDArray[np.float32]:
    """A column as (rows, numbers a row)."""
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"{where}: expected numbers, or lists of numbers of one length") from None
    array = array.reshape(len(values), -1)
    unfit = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(unfit):
        raise DataError(f"{where}: row {unfit[0]}: expected finite numbers, got something missing or not finite")
    return array


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """A data set of the Hugging Face hub by its name, through its `datasets` library. Needs the extra `hf`.

    `datasets` downloads it once and keeps it; without a network it takes what it has kept. Images become (C, H, W) in 0..1, lists and
    numbers stay as they are. Code that comes with a data set is never run.

    Args:
        name: as on the hub, such as `ylecun/mnist`; or a local folder that `datasets` reads.
        label: the column of labels.
        inputs: the column of images, lists or numbers.
        group: a column that says whose each row is: a natural client.
        config: which configuration of the data set.
        revision: which version: a branch, a tag or a commit.
        train: the split to train on.
        test: the split to test on; without it, rows of `train` are drawn.
        test_fraction: share kept for testing without `test`, rounded to whole rows, at least one.
        limit: use the first so many training rows only.
        test_limit: use the first so many test rows only.
    """

    name: str
    label: str
    inputs: str
    group: str | None = None
    config: str | None = None
    revision: str | None = None
    train: str = "train"
    test: str | None = "test"
    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def identity(self) -> str:
        """A hash of the fingerprints that `datasets` gives to the splits: they change with the files behind them."""
        marks = ":".join(str(split._fingerprint) for split in self._splits())
        return hashlib.sha256(marks.encode()).hexdigest()

    def load(self, stream: Stream) -> Dataset:
        """The rows; see `DataSource.load`."""
        train, *test = (self._read(split) for split in self._splits())
        return table_dataset(
            train,
            test[0] if test else None,
            test_fraction=self.test_fraction,
            standardise=False,
            limit=self.limit,
            test_limit=self.test_limit,
            stream=stream,
        )

    def _splits(self) -> list[Any]:
        try:
            import datasets
        except ImportError:
            raise MissingExtraError(f"names of the Hugging Face hub need its `datasets` library: {_INSTALL}") from None
        try:
            names = [name for name in (self.train, self.test) if name is not None]
            return [datasets.load_dataset(self.name, self.config, revision=self.revision, split=name) for name in names]
        except (ConnectionError, OSError, ValueError) as error:
            text = str(error).strip().splitlines()
            raise MissingExtraError(
                f"`datasets` has no '{self.name}': {text[0] if text else type(error).__name__}. Check the name and the splits; without a "
                "network, download it elsewhere first, or name local files: `kind: parquet`"
            ) from None

    def _read(self, split: Any) -> Table:
        names = list(split.column_names)
        where = f"'{self.name}'"
        for name in (self.label, self.inputs, *([self.group] if self.group is not None else [])):
            column_place(name, names, where)
        rows = [_sample(value) for value in split[self.inputs]]
        if len({np.shape(row) for row in rows}) > 1:
            raise DataError(f"{where}: column '{self.inputs}': expected samples of one shape")
        flat = _numbers([row.reshape(-1) for row in rows], f"{where}: column '{self.inputs}'")
        inputs = flat.reshape(len(rows), *(rows[0].shape or (1,)))
        return Table(inputs, split[self.label], None if self.group is None else split[self.group])


def _sample(value: Any) -> npt.NDArray[Any]:
    """One sample: an image as (C, H, W) in 0..1, anything else as the array that numpy makes of it."""
    if hasattr(value, "convert"):
        pixels = np.asarray(value if value.mode in ("L", "RGB") else value.convert("RGB"), dtype=np.float32) / 255
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    try:
        return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"expected images, numbers or lists of numbers, got {type(value).__name__}") from None
