"""Parcels: what goes in comes out, arrays where they lie."""

from __future__ import annotations

import os

import numpy as np
import pytest

from netfl.learning.parcels import Lendable, borrowed, opened, packed

VALUE = {
    "floats": np.arange(35, dtype=np.float32).reshape(5, 7),
    "none": np.empty((0, 3)),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strided": np.arange(20)[::3],
    "text": "x" * 101,
    "numbers": [1, (2.5, None)],
}


def same(value: dict[str, object]) -> bool:
    assert value.keys() == VALUE.keys()
    for name, expected in VALUE.items():
        found = value[name]
        if isinstance(expected, np.ndarray):
            assert isinstance(found, np.ndarray)
            assert (found.dtype, found.shape, found.tolist()) == (expected.dtype, expected.shape, expected.tolist()), name
        else:
            assert found == expected, name
    return True


def test_what_is_packed_is_opened() -> None:
    assert same(opened(b"".join(packed(VALUE))))
    assert opened(b"".join(packed(7))) == 7


def test_arrays_are_not_copied() -> None:
    array = VALUE["floats"]
    assert isinstance(array, np.ndarray)
    parcel = packed(VALUE)
    assert any(isinstance(part, memoryview) and np.shares_memory(np.frombuffer(part, np.uint8), array) for part in parcel)
    room = bytearray(b"".join(parcel))
    found = opened(memoryview(room))["floats"]
    assert np.shares_memory(found, np.frombuffer(room, np.uint8))
    begin = found.__array_interface__["data"][0] - np.frombuffer(room, np.uint8).__array_interface__["data"][0]
    assert begin % 64 == 0


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_memory_is_lent() -> None:
    memory = Lendable()
    path = memory.put(packed(VALUE))
    mine, yours = borrowed(path), borrowed(path)
    mine["floats"] += 1  # nobody else sees it
    assert same(yours)
    whole = memory.num_bytes
    assert whole == len(b"".join(packed(VALUE)))
    assert borrowed(memory.put(packed([np.ones(3), "short"])))[1] == "short"
    assert memory.num_bytes == whole  # it holds what it has
    assert same(borrowed(memory.put(packed(VALUE))))
    memory.close()
    with pytest.raises(OSError, match="No such file"):
        borrowed(path)
