"""Tables of the user's own: CSV text, and numpy's NPZ archives."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from netfl.errors import DataError
from netfl.learning.data import Count, Dataset, Fraction, limited, random_split, standardised
from netfl.learning.datasets.files import MOST_BYTES, file_at, hash_of, text_lines
from netfl.parts import nearest
from netfl.randomness import Stream

__all__ = ["Csv", "Npz", "Table", "TableFile", "column_place", "table_dataset"]

Indices = npt.NDArray[np.int64]


# --- columns ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """What a reader of columns found.

    Args:
        inputs: (N, features).
        labels: of each row, as they stand in the file.
        groups: whose each row is, as it stands in the file; None without such a column.
    """

    inputs: npt.NDArray[np.float32]
    labels: Sequence[Any]
    groups: Sequence[Any] | None


def table_dataset(
    train: Table,
    test: Table | None,
    *,
    test_fraction: float,
    standardise: bool,
    limit: int | None,
    test_limit: int | None,
    stream: Stream,
) -> Dataset:
    """A dataset of one table, whose test samples are drawn, or of two.

    Labels are numbered in their order: of numbers where all are whole numbers, of the alphabet otherwise.

    Args:
        train: rows to train on; also to test on where `test` is None.
        test: rows to test on.
        test_fraction: share kept for testing where there is no `test`.
        standardise: whether to scale features by the training samples' means and standard deviations.
        limit: how many training samples to keep.
        test_limit: how many test samples to keep.
        stream: what the split is drawn from.

    Raises:
        DataError: fewer than two labels, or nothing left to train on.
    """
    names = _in_order({*train.labels, *(test.labels if test is not None else ())})
    if len(names) < 2:
        raise DataError(f"expected at least 2 different labels, got {len(names)}" + (f": '{names[0]}' everywhere" if names else ""))
    number = {name: place for place, name in enumerate(names)}
    labels = np.array([number[label] for label in train.labels], dtype=np.int64)
    groups = None
    if train.groups is not None:
        owners = {name: place for place, name in enumerate(_in_order(set(train.groups)))}
        groups = np.array([owners[group] for group in train.groups], dtype=np.int64)
    class_names = tuple(map(str, names))
    if test is None:
        data = random_split(train.inputs, labels, test_fraction, stream, num_classes=len(names), groups=groups, class_names=class_names)
    else:
        test_labels = np.array([number[label] for label in test.labels], dtype=np.int64)
        shape = train.inputs.shape[1:]
        data = Dataset(train.inputs, labels, test.inputs, test_labels, len(names), shape, groups, class_names)
    data = limited(data, limit, test_limit)
    return standardised(data) if standardise else data


def _in_order(values: set[Any]) -> list[Any]:
    try:
        return sorted(values, key=int)
    except (TypeError, ValueError):
        return sorted(values, key=str)


def column_place(name: str, header: Sequence[str], where: str) -> int:
    """Where a column stands.

    Raises:
        DataError: there is no such column.
    """
    if name not in header:
        shown = ", ".join(header[:20]) + (", ..." if len(header) > 20 else "")
        raise DataError(f"{where}: no column '{name}' among {shown}. {nearest(name, list(header))}".rstrip())
    return header.index(name)


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file of rows with named columns; subclasses read it."""

    path: str
    label: str
    features: tuple[str, ...] = ()
    group: str | None = None
    test_path: str | None = None
    standardise: bool = False
    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def identity(self) -> str:
        """SHA-256 of the files."""
        return hash_of((str(place), path) for place, path in enumerate(self._files()))

    def load(self, stream: Stream) -> Dataset:
        """The rows; see `DataSource.load`."""
        train, *test = (self._read(path) for path in self._files())
        try:
            return table_dataset(
                train,
                test[0] if test else None,
                test_fraction=self.test_fraction,
                standardise=self.standardise,
                limit=self.limit,
                test_limit=self.test_limit,
                stream=stream,
            )
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _files(self) -> list[Path]:
        return [file_at(path) for path in (self.path, self.test_path) if path is not None]

    def _read(self, path: Path) -> Table:
        raise NotImplementedError


# --- CSV --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Csv(TableFile):
    """A CSV file whose first line names the columns: one with labels, the others numbers.

    Args:
        path: the file, packed with gzip or not; relative to the scenario's file.
        label: the column of labels, numbers or texts.
        features: the columns of numbers, in this order; all but label and group when empty.
        group: a column that says whose each row is: a natural client.
        test_path: a second file with the same columns, to test on; without it, rows are drawn.
        delimiter: between columns.
        standardise: scale each feature by the training rows' mean and standard deviation.
        test_fraction: share kept for testing without `test_path`, rounded to whole rows, at least one.
        limit: use the first so many training rows only.
        test_limit: use the first so many test rows only.
    """

    delimiter: str = ","

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError(f"delimiter: expected one character, got {self.delimiter!r}")

    def _read(self, path: Path) -> Table:
        reader = csv.reader((line + "\n" for line in text_lines(path)), delimiter=self.delimiter, strict=True)
        rows: list[tuple[int, list[str]]] = []
        try:
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(f"{path}: line {reader.line_num}: expected {len(header)} columns, got {len(row)}")
                rows.append((reader.line_num, row))
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num}: {error}") from None
        if not rows:
            raise DataError(f"{path}: line 1: expected the names of columns, and rows below")
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise DataError(f"{path}: line 1: two columns are named '{twice}'")
        where = f"{path}: line 1"
        label = column_place(self.label, header, where)
        group = None if self.group is None else column_place(self.group, header, where)
        others = [name for place, name in enumerate(header) if place not in (label, group)]
        features = [(name, column_place(name, header, where)) for name in self.features or others]
        if not features:
            raise DataError(f"{where}: no column is left for the features")
        inputs = np.empty((len(rows), len(features)), dtype=np.float32)
        for place, (line, row) in enumerate(rows):
            for index, (name, column) in enumerate(features):
                inputs[place, index] = _number(row[column], path, line, name)
            if not row[label].strip():
                raise DataError(f"{path}: line {line}: column '{self.label}': expected a label, got nothing")
        groups = None if group is None else [row[group].strip() for _, row in rows]
        return Table(inputs, [row[label].strip() for _, row in rows], groups)


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        shown = repr(text[:40]) if text.strip() else "nothing"
        raise DataError(f"{path}: line {line}: column '{column}': expected a number, got {shown}") from None
    if not abs(value) < 3.4e38:
        raise DataError(f"{path}: line {line}: column '{column}': expected a finite float32, got {text[:40]}")
    return value


# --- NPZ --------------------------------------------------------------------------------------------------------------------

_SPLIT = ("train_inputs", "train_labels", "test_inputs", "test_labels")
_WHOLE = ("inputs", "labels")


@dataclass(frozen=True, kw_only=True)
class Npz:
    """An NPZ archive of numpy: `inputs` and `labels`, or `train_inputs`, `train_labels`, `test_inputs` and `test_labels`.

    Inputs are (N, *sample_shape), labels whole numbers from 0. `groups` (or `train_groups`) says whose each sample is. Numbers become
    float32 as they are. Pickled objects are refused.

    Args:
        path: the file; relative to the scenario's file.
        tokens: inputs are tokens: whole numbers that stay whole.
        standardise: scale each feature by the training samples' mean and standard deviation.
        test_fraction: share kept for testing of an archive without a split, rounded to whole samples, at least one.
        limit: use the first so many training samples only.
        test_limit: use the first so many test samples only.
    """

    path: str
    tokens: bool = False
    standardise: bool = False
    test_fraction: Fraction = 0.2
    limit: Count | None = None
    test_limit: Count | None = None

    def __post_init__(self) -> None:
        if self.tokens and self.standardise:
            raise ValueError("standardise: tokens are names, not amounts")

    def identity(self) -> str:
        """SHA-256 of the file."""
        return hash_of([("", file_at(self.path))])

    def load(self, stream: Stream) -> Dataset:
        """The arrays; see `DataSource.load`."""
        path = file_at(self.path)
        arrays = _npz(path, (*_SPLIT, *_WHOLE, "groups", "train_groups"))
        has_split = any(name in arrays for name in _SPLIT)
        for name in _SPLIT if has_split else _WHOLE:
            if name not in arrays:
                raise DataError(f"{path}: has no array '{name}'; expected {', '.join(_WHOLE)} or {', '.join(_SPLIT)}")
        prefix = "train_" if has_split else ""
        inputs, labels = self._inputs(path, arrays, prefix), _integers(path, arrays, f"{prefix}labels")
        groups = _integers(path, arrays, f"{prefix}groups") if f"{prefix}groups" in arrays else None
        for name, values in (("inputs", inputs), ("groups", groups)):
            if values is not None and len(values) != len(labels):
                raise DataError(f"{path}: {len(values)} {prefix}{name} for {len(labels)} {prefix}labels")
        if not has_split:
            classes = int(labels.max()) + 1
            data = random_split(inputs, labels, self.test_fraction, stream, num_classes=classes, groups=groups)
        else:
            test_inputs, test_labels = self._inputs(path, arrays, "test_"), _integers(path, arrays, "test_labels")
            if test_inputs.shape[1:] != inputs.shape[1:] or len(test_inputs) != len(test_labels):
                raise DataError(
                    f"{path}: test_inputs {test_inputs.shape} fit not {inputs.shape[1:]} a sample and {len(test_labels)} labels"
                )
            classes = int(max(labels.max(), test_labels.max())) + 1
            numbered = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
            data = Dataset(inputs, labels, test_inputs, test_labels, classes, inputs.shape[1:], numbered)
        if data.num_classes < 2:
            raise DataError(f"{path}: expected at least 2 different labels, got 1")
        data = limited(data, self.limit, self.test_limit)
        return standardised(data) if self.standardise else data

    def _inputs(self, path: Path, arrays: dict[str, npt.NDArray[Any]], prefix: str) -> npt.NDArray[Any]:
        name = f"{prefix}inputs"
        values = arrays[name]
        if values.ndim < 2 or 0 in values.shape:
            raise DataError(f"{path}: array '{name}': expected samples of numbers, (N, ...), got shape {values.shape}")
        if self.tokens:
            return _integers(path, arrays, name)
        if values.dtype.kind not in "fiub":
            raise DataError(f"{path}: array '{name}': expected numbers, got {values.dtype}")
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        if not np.isfinite(numbers).all():
            sample = int(np.argwhere(~np.isfinite(numbers))[0][0])
            raise DataError(f"{path}: array '{name}': sample {sample} has a number that is not a finite float32")
        return numbers


_MOST_LABEL, _MOST_NUMBER = 2**16 - 1, 2**31


def _integers(path: Path, arrays: dict[str, npt.NDArray[Any]], name: str) -> Indices:
    """An array of whole numbers from 0; of one axis, if it is not inputs. The highest label says how many classes there are: 65,536 at most, a choice."""
    values = arrays[name]
    if values.dtype.kind not in "iu" or 0 in values.shape or (values.ndim != 1 and not name.endswith("inputs")):
        raise DataError(f"{path}: array '{name}': expected whole numbers, (N,), got {values.dtype} of shape {values.shape}")
    most = _MOST_LABEL if name.endswith("labels") else _MOST_NUMBER
    wrong = np.argwhere((values < 0) | (values > most))
    if len(wrong):
        raise DataError(
            f"{path}: array '{name}': entry {int(wrong[0][0])}: expected a whole number from 0 to {most:,}, got {values[tuple(wrong[0])]}"
        )
    return values.astype(np.int64)


def _npz(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Those of the named arrays that an archive has; each is checked against the bytes that are there before it is made."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                if f"{name}.npy" in archive.namelist():
                    arrays[name] = _npy(archive, name, path)
    except zipfile.BadZipFile as error:
        ends = f"it ends at byte {path.stat().st_size:,}, where the list of a whole one's arrays ends"
        raise DataError(f"{path}: is no whole NPZ archive: {error}; {ends}") from None
    except (OSError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: is no whole NPZ archive: {error}") from None
    return arrays


def _npy(archive: zipfile.ZipFile, name: str, path: Path) -> npt.NDArray[Any]:
    length = archive.getinfo(f"{name}.npy").file_size
    if length > MOST_BYTES:
        raise DataError(f"{path}: array '{name}' has {length:,} bytes; netfl reads at most {MOST_BYTES:,}")
    try:
        with archive.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            read_head: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
            if read_head is None:
                raise DataError(f"{path}: array '{name}': NPY version {version}, which netfl does not read")
            shape, is_fortran, dtype = read_head(file)
            if dtype.hasobject:
                raise DataError(f"{path}: array '{name}': holds Python objects, which are pickles; netfl reads numbers only")
            start = file.tell()
            count = 1
            for side in shape:
                count *= side
            if start + count * dtype.itemsize != length:
                raise DataError(
                    f"{path}: array '{name}' of shape {shape} and {dtype}: expected {start + count * dtype.itemsize} bytes, has {length}"
                )
            data = file.read()
    except (ValueError, EOFError, zipfile.BadZipFile, SyntaxError) as error:
        raise DataError(f"{path}: array '{name}': is damaged: {error}") from None
    values = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if is_fortran else "C")
    return cast(npt.NDArray[Any], values)
