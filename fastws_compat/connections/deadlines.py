"""One timer for many objects that all have the same time limit."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Hashable
from contextvars import Context
from itertools import takewhile
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Calls `late` with each object that has not been discarded in time."""

    def __init__(self, loop: AbstractEventLoop, seconds: float, late: Callable[[T], object]) -> None:
        self._loop, self._seconds, self._late = loop, seconds, late
        # In the order in which they are due.
        self._due: dict[T, float] = {}
        self._is_armed = False

    def add(self, item: T) -> None:
        self._due[item] = due = self._loop.time() + self._seconds
        if not self._is_armed:
            self._arm(due)

    def discard(self, item: T) -> None:
        self._due.pop(item, None)

    def _arm(self, due: float) -> None:
        self._is_armed = True
        # In an empty context, because one timer serves all connections.
        self._loop.call_at(due, self._on_timer, context=Context())

    def _on_timer(self) -> None:
        now = self._loop.time()
        for item, _ in list(takewhile(lambda entry: entry[1] <= now, self._due.items())):
            if self._due.pop(item, None) is not None:
                self._late(item)
        self._is_armed = False
        if self._due:
            self._arm(next(iter(self._due.values())))
