"""The collector looks seldom while a run lasts, frees what it left, and is left as it was."""

import gc
import weakref

import pytest

from netfl.memory import collecting_after, collecting_seldom


def test_it_is_left_as_it_was() -> None:
    before = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
    with collecting_seldom():
        assert gc.get_threshold()[0] == 500_000
        assert gc.get_freeze_count() > before[2]
        with collecting_seldom():
            pass
        # The inner one leaves what the outer one set aside.
        assert gc.get_freeze_count() > before[2]
        assert gc.get_threshold()[0] == 500_000
    assert (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()) == before


def test_after_an_error_too() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), collecting_seldom():
        raise KeyError
    assert gc.get_threshold() == before


@pytest.mark.parametrize("thresholds", [(0, 10, 10), (1_000_000, 5, 5)])
def test_who_asked_for_less_gets_less(thresholds: tuple[int, int, int]) -> None:
    before = gc.get_threshold()
    gc.set_threshold(*thresholds)
    try:
        with collecting_seldom():
            assert gc.get_threshold() == thresholds
    finally:
        gc.set_threshold(*before)


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_left_in_cycles_is_freed_and_no_more() -> None:
    before = gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        earlier = weakref.ref(_Cycle())
        with collecting_after():
            later = weakref.ref(_Cycle())
            assert later() is not None
        assert later() is None
        # Not looked at: it was there.
        assert earlier() is not None
    finally:
        gc.enable()
    assert (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()) == before
