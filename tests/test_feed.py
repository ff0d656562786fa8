"""The pure parts of recovery: the order of one group's messages, and the memory of the newest."""

from __future__ import annotations

from typing import Any

import pytest

from fastws_compat.groups import feed as feed_module
from fastws_compat.groups.entries import OVERHEAD, Kept
from fastws_compat.groups.feed import GRACE, Feed, Hand, Lost, Step
from fastws_compat.groups.positions import Position
from fastws_compat.groups.ring import Budget, Ring
from fastws_compat.groups.stores import Reading
from fastws_compat.layers.wire import Payload

TEN = OVERHEAD + 10


def entry(offset: int, size: int = 10) -> Kept:
    return Kept(offset, f"id{offset}", 0.0, Payload("text", "x" * size))


def offsets(entries: list[Kept]) -> list[int]:
    return [each.offset for each in entries]


# The ring


def ring(budget: Budget, *numbers: int, count: int = 100) -> Ring:
    made = Ring(budget, count)
    for number in numbers:
        made.add(entry(number))
    return made


def test_a_ring_gives_what_follows_without_a_gap() -> None:
    made = ring(Budget(), 1, 2, 3, 5)
    assert offsets(made.after(1, 100)) == [2, 3]
    assert offsets(made.after(0, 2)) == [1, 2]
    assert made.after(3, 100) == []


def test_a_ring_keeps_as_many_entries_as_the_history() -> None:
    made = ring(Budget(), 1, 2, 3, 4, count=3)
    assert offsets(made.after(1, 100)) == [2, 3, 4]
    assert made.after(0, 100) == []
    assert len(made) == 3


def test_an_entry_that_comes_twice_counts_once() -> None:
    budget = Budget()
    ring(budget, 1, 1)
    assert budget.size == TEN


def test_the_ring_that_was_used_least_recently_is_emptied_first(settings: Any) -> None:
    settings.FASTWS = {"RING_BYTES": 4 * TEN}
    budget = Budget()
    idle, busy = ring(budget, 1, 2), ring(budget, 1, 2)
    idle.after(0, 1)
    busy.after(0, 1)
    busy.add(entry(3))
    busy.add(entry(4))
    assert (len(idle), len(busy)) == (0, 4)
    busy.add(entry(5))  # the other ring has nothing left to give
    assert offsets(busy.after(1, 100)) == [2, 3, 4, 5]
    assert budget.size == 4 * TEN


def test_an_entry_that_is_larger_than_all_rings_may_be_is_not_kept(settings: Any) -> None:
    settings.FASTWS = {"RING_BYTES": TEN}
    budget = Budget()
    made = ring(budget, 1)
    made.add(entry(2, 1000))
    assert (len(made), budget.size) == (0, 0)
    made.add(entry(3))
    assert offsets(made.after(2, 100)) == [3]


def test_a_ring_that_is_closed_gives_its_memory_back() -> None:
    budget = Budget()
    closed, other = ring(budget, 1, 2), ring(budget, 1)
    closed.close()
    assert (budget.size, len(other)) == (TEN, 1)


# The feed


def reading(top: int, *numbers: int, epoch: str = "e", **more: Any) -> Reading:
    return Reading(epoch, top, entries=tuple(map(entry, numbers)), **more)


def begun(top: int = 0, epoch: str = "e") -> Feed:
    """A feed that has read the store once."""
    feed = Feed(Ring(Budget(), 100))
    feed.doubts = False
    assert feed.apply(Reading(epoch, top)) == [Lost(Position(epoch, top))]
    return feed


def told(steps: list[Step]) -> list[int | tuple[str, int]]:
    """The offsets that are passed on, and the positions before which something may be missing."""
    return [step.entry.offset if isinstance(step, Hand) else tuple(step.position) for step in steps]


def test_messages_out_of_order_wait_for_those_before_them() -> None:
    feed = begun()
    assert told(feed.receive("e", entry(2))) == []
    assert feed.delay == GRACE
    assert told(feed.receive("e", entry(1))) == [1, 2]
    assert told(feed.receive("e", entry(2))) == []
    assert feed.delay is None


def test_a_message_that_the_store_may_soon_drop_is_not_waited_for() -> None:
    feed = Feed(Ring(Budget(), 6))
    feed.apply(reading(0))
    feed.doubts = False
    feed.receive("e", entry(2))
    feed.receive("e", entry(3))
    assert feed.delay == GRACE
    feed.receive("e", entry(4))
    assert feed.delay == 0
    assert told(feed.apply(reading(4, 1, 2, 3, 4))) == [1, 2, 3, 4]
    assert feed.delay is None


@pytest.mark.parametrize("bound", ["MAX_PENDING", "MAX_PENDING_BYTES"])
def test_too_many_waiting_messages_are_read_from_the_store(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, bound, 3 if bound == "MAX_PENDING" else 3 * TEN)
    feed = begun()
    for number in (2, 3, 4):
        feed.receive("e", entry(number))
    assert (feed.has_pending, feed.delay) == (True, GRACE)
    feed.receive("e", entry(5))
    assert (feed.has_pending, feed.delay) == (False, 0)
    assert told(feed.apply(reading(5, 1, 2, 3, 4, 5))) == [1, 2, 3, 4, 5]


def test_what_the_store_no_longer_has_is_reported_where_it_is_missing() -> None:
    assert told(begun().apply(reading(5, 4, 5, first=4))) == [("e", 3), 4, 5]
    assert told(begun().apply(reading(5, first=6))) == [("e", 5)]
    assert told(begun(2).apply(reading(5, 3, 5))) == [3, ("e", 4), 5]


def test_a_new_epoch_begins_where_the_store_says_and_only_if_it_has_the_whole() -> None:
    assert told(begun(7).apply(reading(2, 1, 2, epoch="f"))) == [("f", 0), 1, 2]
    assert told(begun(7).apply(reading(9, 9, epoch="f", base=8, first=1))) == [("f", 8), 9]
    assert told(begun(7).apply(reading(8, epoch="f", base=8, first=9))) == [("f", 8)]
    # Its first entries are gone, or were not read.
    assert told(begun(7).apply(reading(9, 9, epoch="f", first=9))) == [("f", 9)]
    assert told(begun(7).apply(reading(9, epoch="f", first=1))) == [("f", 9)]


def test_a_store_that_does_not_respond_is_passed_by() -> None:
    assert begun().skip() == []
    feed = begun()
    feed.receive("e", entry(3))
    feed.receive("e", entry(4))
    assert told(feed.skip()) == [("e", 2), 3, 4]
    # Of an unknown epoch the newest counts; what waits for another one goes on waiting.
    unread = Feed(Ring(Budget(), 100))
    unread.receive("old", entry(9))
    unread.receive("new", entry(2))
    assert told(unread.skip()) == [("new", 1), 2]
    other = begun()
    other.receive("f", entry(1))
    assert other.skip() == []


def test_a_store_that_has_less_than_was_seen_is_doubted() -> None:
    feed = begun(5)
    feed.check(Reading("e", 6), seen=5)
    assert feed.delay == GRACE
    feed.check(Reading("e", 4), seen=5)
    assert feed.delay == 0
    other = begun(5)
    other.check(Reading("f", 9), seen=5)
    assert other.delay == 0
