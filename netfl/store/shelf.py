"""The shelf: values that recipes hold in place of their arguments, so that they must not be lost while the recipe lives."""

from __future__ import annotations

import logging
import os
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from netfl.store.recipes import TensorForm

__all__ = ["Place", "Shelf"]

_LOG = logging.getLogger("netfl")


class Place:
    """Where a value lies; it is taken down when the last one who holds the place lets go.

    Args:
        shelf: which it is on.
        num_bytes: how long it is.
        form: how arrays are made of it and back.
        value: itself if it is in memory, else None.
        arrays: name, type, shape and offset in the file of each array if it is not.
    """

    __slots__ = ("_arrays", "_form", "_shelf", "_value", "num_bytes")

    def __init__(
        self, shelf: Shelf, num_bytes: int, form: TensorForm, value: Any, arrays: list[tuple[str, np.dtype[Any], Any, int]]
    ) -> None:
        self._shelf, self.num_bytes, self._form, self._value, self._arrays = shelf, num_bytes, form, value, arrays

    def value(self) -> Any:
        """The value."""
        if self._value is not None:
            return self._value
        return self._form.load(self.arrays())

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Those that the value is kept as."""
        if self._value is not None:
            return self._form.dump(self._value)
        return {name: self._shelf.read(dtype, shape, at) for name, dtype, shape, at in self._arrays}

    def __del__(self) -> None:
        self._shelf.take_down(self.num_bytes if self._value is not None else 0, self._arrays)


class Shelf:
    """Values in memory up to a limit, and beyond it in a file without a name that ends with the process.

    Args:
        limit_bytes: how much to have in memory.
        folder: where the file is made; None for the system's folder of temporary files.
    """

    def __init__(self, limit_bytes: int, folder: Path | None) -> None:
        self._limit_bytes = limit_bytes
        self._folder = folder
        self._memory_bytes = 0
        self._file: IO[bytes] | None = None
        self._end = 0
        self._free: defaultdict[int, list[int]] = defaultdict(list)

    def put(self, form: TensorForm, value: Any) -> Place:
        """Put a value up; a file that cannot be written means that it stays in memory."""
        named = form.dump(value)
        num_bytes = sum(array.nbytes for array in named.values())
        if self._memory_bytes + num_bytes > self._limit_bytes:
            try:
                return Place(self, num_bytes, form, None, [(n, a.dtype, a.shape, self._write(a)) for n, a in named.items()])
            except OSError as error:
                _LOG.warning("values that later rounds need stay in memory, beyond its limit: no file for them can be written (%s)", error)
                self._limit_bytes = 2**62
        self._memory_bytes += num_bytes
        return Place(self, num_bytes, form, value, [])

    def read(self, dtype: np.dtype[Any], shape: tuple[int, ...], at: int) -> np.ndarray:
        """An array from the file."""
        assert self._file is not None
        array = np.empty(shape, dtype)
        view, begin = array.reshape(-1).view(np.uint8).data, 0
        while begin < array.nbytes:
            begin += os.preadv(self._file.fileno(), [view[begin:]], at + begin)
        return array

    def take_down(self, memory_bytes: int, arrays: list[tuple[str, np.dtype[Any], Any, int]]) -> None:
        """Make room for others."""
        self._memory_bytes -= memory_bytes
        for _, dtype, shape, at in arrays:
            self._free[int(np.prod(shape)) * dtype.itemsize].append(at)

    def _write(self, array: np.ndarray) -> int:
        """Where in the file an array was put."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        free = self._free[array.nbytes]
        at = free.pop() if free else self._end
        self._end = max(self._end, at + array.nbytes)
        self._file.seek(at)
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        while len(data):
            data = data[self._file.write(data) :]
        return at
