"""Values on their way to another process: as bytes among which arrays lie as they are in memory.

Parts of a parcel, one behind another: how many stretches there are and where each begins and ends (int64), the pickle, and each
array's numbers from a multiple of 64 bytes on. Packing copies no array, and neither does opening.
"""

from __future__ import annotations

import mmap
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Lendable", "Parcel", "borrowed", "opened", "packed"]

Parcel = list[bytes | memoryview]
"""What to write, one part behind another; `b"".join` makes one piece of it."""

_ALIGNMENT = 64


def packed(value: Any) -> Parcel:
    """A value and its arrays, which must not change before the parcel is written.

    Raises:
        pickle.PicklingError, AttributeError, TypeError: it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    stretches = [memoryview(text), *(buffer.raw() for buffer in buffers)]
    spans = np.empty((len(stretches), 2), dtype=np.int64)
    place = 8 + spans.nbytes
    parcel: Parcel = [len(stretches).to_bytes(8, "little"), spans.data.cast("B")]
    for span, stretch in zip(spans, stretches, strict=True):
        gap = -place % _ALIGNMENT
        span[:] = place + gap, place + gap + stretch.nbytes
        place = int(span[1])
        parcel += [bytes(gap), stretch]
    return parcel


def opened(data: bytes | memoryview) -> Any:
    """The value; its arrays are views of the data.

    Raises:
        AttributeError, ImportError: something in it is not known here.
    """
    whole = memoryview(data)
    count = int.from_bytes(whole[:8], "little")
    text, *arrays = (whole[begin:end] for begin, end in np.frombuffer(whole, np.int64, 2 * count, 8).reshape(count, 2).tolist())
    return pickle.loads(text, buffers=arrays)


class Lendable:
    """Memory that other processes can borrow; it has a name in no folder, so nothing is left of it however this process ends (Linux)."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.memfd_create("parcel"), "wb")
        self.num_bytes = 0

    def put(self, parcel: Parcel) -> str:
        """Copy a parcel into it, over what it held; the path for `borrowed`."""
        self._file.seek(0)
        self._file.writelines(parcel)
        self._file.flush()
        self.num_bytes = max(self.num_bytes, self._file.tell())
        return f"/proc/{os.getpid()}/fd/{self._file.fileno()}"

    def close(self) -> None:
        """Nobody can borrow it any more; it is gone when nobody has it."""
        self._file.close()


def borrowed(path: str) -> Any:
    """The value of a parcel that another process lends; its arrays may be changed, which nobody else sees.

    It is good until the memory holds another parcel.

    Raises:
        AttributeError, ImportError: something in it is not known here.
        OSError: it is not lent any more.
    """
    with Path(path).open("rb") as file:
        return opened(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))
