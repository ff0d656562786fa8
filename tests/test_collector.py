"""Full passes of the garbage collector leave out what has survived one, and still find all garbage."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.lifespan.on import LifespanOn

from fastws_compat import FastAPI, collector
from fastws_compat.asgi import get_asgi_application
from fastws_compat.collector import frozen_survivors
from fastws_compat.testclient import TestClient

pytestmark = pytest.mark.skipif(collector.IS_INCREMENTAL, reason="the collector is incremental")


class Node:
    """A cycle, which only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True, scope="module")
def nothing_frozen() -> Iterator[None]:
    """Undo the freeze of `conftest.py`: in a new process, nothing is frozen."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Passes come only when a test asks for one."""
    monkeypatch.setattr(collector, "MIN_FROZEN", 0)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    assert gc.get_freeze_count() == 0


class Passes:
    """The passes that a test asks for, each followed by the look of the timer."""

    def __init__(self, freezer: collector.Freezer | None) -> None:
        self._freezer = freezer

    def __call__(self) -> None:
        gc.collect()
        if self._freezer is not None:
            self._freezer.check()


@contextmanager
def passes() -> Iterator[Passes]:
    """A loop that does not run, so that only the test makes the timer look."""
    loop = asyncio.new_event_loop()
    try:
        with frozen_survivors(loop) as freezer:
            yield Passes(freezer)
    finally:
        loop.close()


def grown() -> list[list[int]]:
    """More objects than are alive, so that the next pass is complete."""
    return [[number] for number in range(2 * len(gc.get_objects()) + 2 * gc.get_freeze_count())]


def test_no_pass_visits_what_was_alive_at_the_start() -> None:
    alive = len(gc.get_objects())
    with passes():
        assert gc.get_freeze_count() > 0.9 * alive
        assert len(gc.get_objects()) < 0.1 * alive


@pytest.mark.parametrize("since", ["the start", "a pass"])
def test_frozen_garbage_is_found_once_as_much_was_frozen_as_was_alive(since: str) -> None:
    node = Node()
    gone = weakref.ref(node)
    with passes() as full_pass:
        if since == "a pass":
            full_pass()
            node = Node()
            gone = weakref.ref(node)
            full_pass()  # freezes it
        del node
        full_pass()
        assert gone() is not None
        kept = grown()
        full_pass()  # not complete yet: it freezes these
        full_pass()
        assert gone() is None
        assert kept


def test_a_pass_visits_only_what_is_newer_than_the_last_one() -> None:
    with passes() as full_pass:
        full_pass()
        frozen = gc.get_freeze_count()
        assert frozen > 1000
        assert len(gc.get_objects(collector.OLDEST)) == 0
        new = [[number] for number in range(100)]
        full_pass()
        assert gc.get_freeze_count() >= frozen + len(new) - 50  # a few others are freed
        assert len(gc.get_objects(collector.OLDEST)) == 0


def test_new_garbage_is_found_by_the_next_pass() -> None:
    with passes() as full_pass:
        full_pass()
        gone = weakref.ref(Node())
        full_pass()
        assert gone() is None


def test_small_heaps_are_not_visited_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MIN_FROZEN", 10**9)
    with passes() as full_pass:
        full_pass()
        kept = grown()
        full_pass()
        node = Node()
        gone = weakref.ref(node)
        full_pass()
        del node
        full_pass()
        assert gone() is not None
        assert kept


def young_passes(count: int) -> None:
    for _ in range(count):
        gc.collect(collector.MIDDLE)


def test_a_burst_puts_the_complete_pass_off_until_twice_as_much_is_frozen() -> None:
    with passes() as full_pass:
        full_pass()
        alive = len(gc.get_objects()) + gc.get_freeze_count()
        node = Node()
        gone = weakref.ref(node)
        full_pass()
        del node
        kept = [[[number] for number in range(int(0.75 * alive))] for _ in range(2)]
        for _ in range(2):
            young_passes(collector.BURST + 1)
            full_pass()
        assert gone() is not None
        kept.append([[number] for number in range(alive)])
        young_passes(collector.BURST + 1)
        full_pass()
        full_pass()
        assert gone() is None
        assert len(kept) == 3


def test_the_timer_makes_a_full_pass_once_a_burst_is_over() -> None:
    usual = gc.get_threshold()[collector.OLDEST]
    loop = asyncio.new_event_loop()
    with frozen_survivors(loop) as freezer:
        assert freezer is not None
        node = Node()
        gone = weakref.ref(node)
        young_passes(2 * usual)
        del node
        freezer.check()
        assert gone() is not None
        young_passes(collector.BURST)
        freezer.check()
        assert gone() is None
        frozen = gc.get_freeze_count()
        kept = [[number] for number in range(1000)]
        young_passes(usual - 1)  # too few for another one
        freezer.check()
        freezer.check()
        assert gc.get_freeze_count() <= frozen
        assert kept
    loop.close()


def test_python_makes_fewer_full_passes_itself() -> None:
    *younger, oldest = gc.get_threshold()
    with passes():
        assert gc.get_threshold() == (*younger, oldest * collector.PATIENCE)
    assert gc.get_threshold() == (*younger, oldest)


def test_what_was_frozen_is_released_at_the_end() -> None:
    with passes() as full_pass:
        node = Node()
        gone = weakref.ref(node)
        full_pass()
        del node
    gc.collect()
    assert gone() is None


def test_a_project_that_freezes_objects_itself_is_left_alone() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with passes() as full_pass:
            full_pass()
            assert gc.get_freeze_count() <= frozen
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_younger_generations_are_collected_as_always() -> None:
    with passes():
        frozen = gc.get_freeze_count()
        gone = weakref.ref(Node())
        gc.collect(1)
        assert gone() is None
        assert gc.get_freeze_count() <= frozen


def test_the_timer_of_the_loop_freezes_soon_after_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "INTERVAL", 0.001)

    async def until_frozen() -> None:
        with frozen_survivors(asyncio.get_running_loop()):
            frozen = gc.get_freeze_count()
            new = [[number] for number in range(10_000)]
            await asyncio.sleep(0.01)
            assert gc.get_freeze_count() <= frozen  # there was no pass
            gc.collect()
            async with asyncio.timeout(20):
                while gc.get_freeze_count() <= frozen:
                    await asyncio.sleep(0.001)
            assert new

    asyncio.run(until_frozen())


def test_no_python_code_runs_inside_a_pass() -> None:
    """An exception that a callback of the collector raises, also KeyboardInterrupt, is lost."""
    before = list(gc.callbacks)
    with passes():
        assert gc.callbacks == before


@pytest.mark.parametrize("freezes", [True, False])
def test_uvicorn_freezes_from_the_startup_of_the_lifespan_to_its_shutdown(
    settings: Any, freezes: bool
) -> None:
    settings.FASTWS = {"GC_FREEZE": freezes}
    application = get_asgi_application(FastAPI())

    async def frozen() -> list[bool]:
        lifespan = LifespanOn(Config(application, lifespan="on", log_config=None))
        await lifespan.startup()
        serving = gc.get_freeze_count() > 1000
        await lifespan.shutdown()
        return [serving, gc.get_freeze_count() > 0]

    assert asyncio.run(frozen()) == [freezes, False]


def test_the_lifespan_of_a_test_client_freezes_nothing() -> None:
    with TestClient(get_asgi_application(FastAPI())):
        assert gc.get_freeze_count() == 0
