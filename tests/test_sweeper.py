"""Which connections are looked at in each tick of the timer that all of an event loop share."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from fastws_compat.connections import sweeper
from fastws_compat.connections.sweeper import Sweeper


class Member:
    def __init__(self) -> None:
        self.is_restless = False
        self.looks: list[float] = []

    def sweep(self, now: float) -> bool:
        self.looks.append(now)
        return self.is_restless


def looks(members: Collection[Member], ticks: int, timer: Sweeper) -> list[int]:
    """How many members are looked at in each tick."""
    found = []
    for tick in range(ticks):
        before = sum(len(member.looks) for member in members)
        timer._look(tick)
        found.append(sum(len(member.looks) for member in members) - before)
    return found


def test_few_are_all_looked_at_in_every_tick() -> None:
    members = {Member() for _ in range(10)}
    assert looks(members, 3, Sweeper(members)) == [10, 10, 10]
    assert all(member.looks == [0, 1, 2] for member in members)


def test_many_are_looked_at_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "SLICE", 4)
    members = {Member() for _ in range(10)}
    assert looks(members, 6, Sweeper(members)) == [4, 4, 2, 4, 4, 2]
    assert all(len(member.looks) == 2 for member in members)


def test_those_that_may_need_something_are_looked_at_in_every_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "SLICE", 4)
    busy, *calm = [Member() for _ in range(10)]
    busy.is_restless = True
    members = {busy, *calm}
    timer = Sweeper(members)
    looks(members, 6, timer)
    first = busy.looks[0]
    assert busy.looks == list(range(int(first), 6))
    assert all(len(member.looks) == 2 for member in calm)
    busy.is_restless = False
    busy.looks.clear()
    looks(members, 4, timer)
    assert len(busy.looks) == 2  # once more, and then in its turn


def test_new_members_join_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "SLICE", 4)
    members = {Member() for _ in range(8)}
    timer = Sweeper(members)
    looks(members, 1, timer)
    late = Member()
    members.add(late)
    assert looks([late], 1, timer) == [0]
    assert sum(looks([late], 3, timer)) == 1
