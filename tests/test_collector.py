"""Full passes of the garbage collector leave out what has survived one, and still find all garbage."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from fastws_compat.daphne import collector
from fastws_compat.daphne.collector import frozen_survivors

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="the collector is incremental")


class Node:
    """A cycle, which only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passes come only when a test asks for one."""
    monkeypatch.setattr(collector, "MIN_FROZEN", 0)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    assert gc.get_freeze_count() == 0
    assert not any(isinstance(callback, collector.Freezer) for callback in gc.callbacks)


def grown() -> list[list[int]]:
    """More objects than are alive, so that the next pass is complete."""
    return [[number] for number in range(2 * len(gc.get_objects()) + 2 * gc.get_freeze_count())]


def test_a_pass_visits_only_what_is_newer_than_the_last_one() -> None:
    with frozen_survivors():
        gc.collect()
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        assert len(gc.get_objects(collector.OLDEST)) == 0
        new = [[number] for number in range(100)]
        gc.collect()
        assert gc.get_freeze_count() >= frozen + len(new) - 50  # a few others are freed
        assert len(gc.get_objects(collector.OLDEST)) == 0


def test_new_garbage_is_found_by_the_next_pass() -> None:
    with frozen_survivors():
        gc.collect()
        gone = weakref.ref(Node())
        gc.collect()
        assert gone() is None


def test_frozen_garbage_is_found_once_as_much_was_frozen_as_was_alive() -> None:
    with frozen_survivors():
        gc.collect()
        node = Node()
        gone = weakref.ref(node)
        gc.collect()  # freezes it
        del node
        gc.collect()
        assert gone() is not None
        kept = grown()
        gc.collect()  # not complete yet: it freezes these
        gc.collect()
        assert gone() is None
        assert kept


def test_small_heaps_are_not_visited_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MIN_FROZEN", 10**9)
    with frozen_survivors():
        gc.collect()
        kept = grown()
        gc.collect()
        node = Node()
        gone = weakref.ref(node)
        gc.collect()
        del node
        gc.collect()
        assert gone() is not None
        assert kept


def test_what_was_frozen_is_released_at_the_end() -> None:
    with frozen_survivors():
        node = Node()
        gone = weakref.ref(node)
        gc.collect()
        del node
    gc.collect()
    assert gone() is None


def test_a_project_that_freezes_objects_itself_is_left_alone() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with frozen_survivors():
            gc.collect()
            assert gc.get_freeze_count() <= frozen
            assert not any(isinstance(callback, collector.Freezer) for callback in gc.callbacks)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_younger_generations_are_collected_as_always() -> None:
    with frozen_survivors():
        gone = weakref.ref(Node())
        gc.collect(1)
        assert gone() is None
        assert gc.get_freeze_count() == 0
