"""When Python looks for garbage: seldom while simulated time passes, and once when a run is over."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OBJECTS", "collecting_after", "collecting_seldom"]

OBJECTS = 500_000
"""After so many new objects Python looks for cycles of garbage among them, in place of its own 700."""


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """While this lasts, look for cycles of garbage after every `OBJECTS` new objects, and never among those that are there now.

    A simulation makes very many small objects that live on and hardly any cycles, and Python's collector would go through all of
    them again and again; what no cycle holds is freed at once as always. A collector that is switched off stays so.
    """
    before = gc.get_threshold()
    with _set_aside():
        if before[0]:
            gc.set_threshold(max(before[0], OBJECTS), *before[1:])
        try:
            yield
        finally:
            gc.set_threshold(*before)


@contextmanager
def collecting_after() -> Iterator[None]:
    """When this is over, free what it left in cycles, looking only among what it made.

    A run's world, processes and events refer to one another, and with them goes all that its store had in memory. Few objects may hold
    a gigabyte, so counting objects, as Python does, would free it much too late for those who run again in the same process.
    """
    with _set_aside():
        try:
            yield
        finally:
            gc.collect()


@contextmanager
def _set_aside() -> Iterator[None]:
    """Keep the collector from what is there now."""
    mine = gc.get_freeze_count() == 0
    if mine:
        gc.freeze()
    try:
        yield
    finally:
        if mine:
            gc.unfreeze()
