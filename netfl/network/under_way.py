"""Messages on their way, in the order in which they were sent, until they end or the run does."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

__all__ = ["UnderWay"]


class _Stoppable(Protocol):
    def cut_off(self) -> None:
        """End it without an outcome, at the run's end."""
        ...


T = TypeVar("T", bound=_Stoppable)


class UnderWay(Generic[T]):
    """What a transport has under way."""

    def __init__(self) -> None:
        self._under_way: dict[T, None] = {}

    def note(self, transfer: T) -> None:
        """A transfer begins."""
        self._under_way[transfer] = None

    def forget(self, transfer: T) -> None:
        """A transfer that has ended is no longer under way."""
        del self._under_way[transfer]

    def close(self) -> list[T]:
        """Cut off what is still under way, at the run's end: it stays in_flight and its `done` never comes.

        Returns:
            The transfers that were cut off, in the order in which they were sent.
        """
        cut = list(self._under_way)
        self._under_way.clear()
        for transfer in cut:
            transfer.cut_off()
        return cut
