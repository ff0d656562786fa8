"""Work for a server that fails, which is repeated from a thread: most processes that need it run no loop."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

from asgiref.sync import async_to_sync

from fastws_compat.logger import logger


class Retry:
    """Calls `attempt` again and again until it succeeds, the first time after an interval."""

    def __init__(self, attempt: Callable[[], Awaitable[None]]) -> None:
        self._attempt = attempt
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        # Whether there has been new work since the last attempt began.
        self._is_due = False

    def arm(self, interval: float) -> None:
        """There is work to do in `interval` seconds; from then on, it is tried at that interval."""
        with self._lock:
            self._is_due = True
            if self._timer is None or not self._timer.is_alive():  # a fork has the timer, but not its thread
                self._start(interval)

    def _start(self, interval: float) -> None:
        self._timer = threading.Timer(interval, self._run, [interval])
        self._timer.daemon = True
        self._timer.start()

    def _run(self, interval: float) -> None:
        if not threading.main_thread().is_alive():
            return  # Python is exiting, and nothing can be started any more
        self._is_due = False
        try:
            async_to_sync(self._attempt)()
        except Exception as exc:  # a layer or a store of the project may raise anything
            logger.debug("Another attempt has failed: %r", exc)
            self._is_due = True
        with self._lock:
            if self._is_due:
                self._start(interval)
            else:
                self._timer = None
