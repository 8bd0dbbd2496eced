"""How often Python looks for garbage while simulated time passes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collecting_seldom"]

_OBJECTS = 500_000


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """While this lasts, look for cycles of garbage after every 500,000 new objects, and never among those that are there now.

    A simulation makes very many small objects that live on and hardly any cycles, and Python's collector would go through all of
    them again and again; what no cycle holds is freed at once as always. A collector that is switched off stays so.
    """
    before = gc.get_threshold()
    mine = gc.get_freeze_count() == 0
    if mine:
        gc.freeze()
    if before[0]:
        gc.set_threshold(max(before[0], _OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if mine:
            gc.unfreeze()
