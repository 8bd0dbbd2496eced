"""The processors of a run's devices: made when they are first asked for, and where there are many, no objects while they are idle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netfl.compute import Past, Processor
from netfl.network.topology import Topology

__all__ = ["Processors"]

_LEAST_PROCESSORS = 10_000
"""So many are at hand before those that rest are put away: of a hundred thousand devices, few are at work at a time."""

_ROW = np.dtype([("busy_s", "f8"), ("waiting_s", "f8"), ("most_waiting", "i8"), ("peak_memory_bytes", "i8"), ("is_known", "?")])
"""A `Past`, and whether there is one."""


class Processors:
    """Processors by device.

    Args:
        topology: of the devices.
        make: the processor of a device that did that before.
    """

    def __init__(self, topology: Topology, make: Callable[[str, Past], Processor]) -> None:
        self._topology = topology
        self._make = make
        self._at_hand: dict[str, Processor] = {}
        self._most = _LEAST_PROCESSORS
        self._put_away = np.zeros(0, _ROW)  # by the devices' numbers, once anything is

    def of(self, device: str) -> Processor:
        """The processor of a device."""
        found = self._at_hand.get(device)
        if found is None:
            if len(self._at_hand) >= self._most:
                self._put_away_idle()
            found = self._at_hand[device] = self._make(device, self._past(device) or Past())
        return found

    def get(self, device: str) -> Processor | None:
        """The same, of a device whose processor has anything to do."""
        return self._at_hand.get(device)

    def pasts(self) -> dict[str, Past]:
        """What those did that were ever asked for, by device, in the order of names."""
        names = np.array(list(self._topology.sites), object)[self._put_away["is_known"]] if len(self._put_away) else ()
        return {name: past for name in sorted({*names, *self._at_hand}) if (past := self._past(name)) is not None}

    def _past(self, device: str) -> Past | None:
        processor = self._at_hand.get(device)
        if processor is not None:
            return processor.past()
        if not len(self._put_away):
            return None
        *past, is_known = self._put_away[self._topology.numbers[device]].item()
        return Past(*past) if is_known else None

    def _put_away_idle(self) -> None:
        numbers = self._topology.numbers
        if not len(self._put_away):
            self._put_away = np.zeros(len(numbers), _ROW)
        for device, processor in list(self._at_hand.items()):
            if processor.rests:
                self._put_away[numbers[device]] = (*processor.past(), True)
                del self._at_hand[device]
        self._most = max(_LEAST_PROCESSORS, 2 * len(self._at_hand))
