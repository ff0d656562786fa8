"""The time limit of calls to channel layers. All calls of a loop share one timer: one for each costs more."""

from __future__ import annotations

import asyncio
from types import TracebackType

from fastws_compat.connections.deadlines import Deadlines
from fastws_compat.connections.interrupt import current_task


class TimeLimit:
    """Raises TimeoutError in its block after some seconds, as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_deadlines", "_is_over", "_task")

    def __init__(self, seconds: float) -> None:
        self._deadlines = _deadlines_of(asyncio.get_running_loop(), seconds)
        self._task = current_task()
        self._is_over = False

    def __enter__(self) -> None:
        self._cancelling = self._task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.discard(self)
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from exc

    def expire(self) -> None:
        self._is_over = True
        self._task.cancel()


# By loop and number of seconds.
_deadlines: dict[tuple[asyncio.AbstractEventLoop, float], Deadlines[TimeLimit]] = {}


def _deadlines_of(loop: asyncio.AbstractEventLoop, seconds: float) -> Deadlines[TimeLimit]:
    return _deadlines.get((loop, seconds)) or _begin(loop, seconds)


def _begin(loop: asyncio.AbstractEventLoop, seconds: float) -> Deadlines[TimeLimit]:
    for other, limit in list(_deadlines):
        if other.is_closed():
            _deadlines.pop((other, limit), None)
    made = _deadlines[loop, seconds] = Deadlines(loop, seconds, TimeLimit.expire)
    return made
