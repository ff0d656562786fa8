"""Running sync code in the thread of the test while that thread waits."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pump(Executor):
    """Runs submitted work in the thread that created the pump, while that thread waits in `run_until`."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._changed = threading.Condition()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._closed = False
        self.performed = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        work = functools.partial(fn, *args, **kwargs)
        if threading.get_ident() == self.thread:  # no other thread would run it
            _perform(future, work)
            return future
        with self._changed:
            if self._closed:
                raise RuntimeError("The test client is closed, so no thread can run its sync code.")
            self._work.append((future, work))
            self._changed.notify_all()
        return future

    def run_until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Run submitted work until `done()`; False after `timeout` seconds, not counting the work itself."""
        left = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        own = threading.get_ident() == self.thread
        while True:
            began = time.monotonic()
            with self._changed:
                if not self._changed.wait_for(lambda: (own and bool(self._work)) or done(), left):
                    return False
                if not (own and self._work):
                    return True
                future, work = self._work.popleft()
            left -= time.monotonic() - began
            self.performed += 1
            _perform(future, work)

    def wake(self) -> None:
        """Have the waiting thread check its condition again."""
        with self._changed:
            self._changed.notify_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        with self._changed:
            self._closed = True
            while self._work:
                self._work.popleft()[0].cancel()


def _perform(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except (KeyboardInterrupt, SystemExit):
        # These are for the test; raised in a task, they would stop the application's loop.
        future.set_exception(CancelledError())
        raise
    except BaseException as exc:
        future.set_exception(exc)
    else:
        future.set_result(result)
