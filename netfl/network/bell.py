"""The one event that the fabric puts into SimPy's queue."""

from __future__ import annotations

from collections.abc import Callable

import simpy

__all__ = ["Bell"]


class Bell(simpy.Event):
    """An event that has been told its outcome before it is scheduled, as SimPy's own `Timeout`."""

    def __init__(self, env: simpy.Environment, callback: Callable[[simpy.Event], None], value: float) -> None:
        self.env = env
        self.callbacks = [callback]
        self._ok = True
        self._value = value
