"""Full passes of the garbage collector that take no longer the more sockets are open.

A full pass visits every container object of the process, and each socket has dozens. What was imported when
the server starts, and later what survives a pass, is therefore frozen (`gc.freeze`), and the next one visits
only what is newer. Cyclic garbage among frozen objects is found by a complete pass, which comes when as many
objects have been frozen as were alive at the last one.

While thousands of sockets are opened at once, a full pass would find nothing and delay all of them. Python
therefore makes one only after more young passes than usual, and the timer makes one once the burst is over.

A timer of the server's loop looks whether there has been a pass. `gc.callbacks` would tell it at once, but
Python reports an exception of a callback and goes on: a Ctrl-C that arrived in one would be lost.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context

# Seconds between two checks of the number of passes.
INTERVAL = 0.5
# A complete pass over fewer objects than this is short anyway.
MIN_FROZEN = 250_000
# More young passes than this between two checks are a burst.
BURST = 5
# So many times as many young passes as usual come before a full one during a burst, and so many times as many
# objects are frozen before a complete one.
PATIENCE, COMPLETE_PATIENCE = 10, 2
MIDDLE, OLDEST = 1, 2
# In Python 3.14.0 to 3.14.4, the collector is incremental: it has no full passes.
IS_INCREMENTAL = (3, 14) <= sys.version_info < (3, 14, 5)


class Freezer:
    """Freezes what is alive at first, and what survives the full passes of the collector, soon after each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # How many objects were alive at the last complete pass (at first, the start counts as one), and have
        # been frozen since.
        self._alive, self._frozen_since = len(gc.get_objects()), 0
        gc.freeze()
        self._is_complete = False
        self._thresholds = gc.get_threshold()
        young, middle, self._usual = self._thresholds
        gc.set_threshold(young, middle, self._usual * PATIENCE)
        # At the last check, and at the last full pass.
        self._young, self._full = passes()
        self._young_at_full = self._young
        self._timer = self._start_timer()

    def _start_timer(self) -> asyncio.TimerHandle:
        return self._loop.call_later(INTERVAL, self._on_timer, context=Context())

    def _on_timer(self) -> None:
        self._timer = self._start_timer()
        self.check()

    def check(self) -> None:
        """Freeze what has survived a full pass since the last check, or make one if it is due."""
        young, full = passes()
        is_burst = young - self._young > BURST
        self._young = young
        if full != self._full:
            gc.collect(MIDDLE)  # freeze only survivors: objects have been created since the pass
            self._freeze(is_burst)
        elif not is_burst and young - self._young_at_full > self._usual:
            gc.collect()
            self._freeze(is_burst)

    def _freeze(self, is_burst: bool) -> None:
        survivors = len(gc.get_objects())
        gc.freeze()
        if self._is_complete:
            self._alive, self._frozen_since = survivors, 0
        else:
            self._frozen_since += survivors
        most = max(self._alive, MIN_FROZEN) * (COMPLETE_PATIENCE if is_burst else 1)
        self._is_complete = self._frozen_since >= most
        if self._is_complete:
            gc.unfreeze()  # the next pass visits everything
        self._young, self._full = passes()
        self._young_at_full = self._young

    def stop(self) -> None:
        self._timer.cancel()
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()


def passes() -> tuple[int, int]:
    """How many passes there have been over the middle generation, and over all that is not frozen."""
    stats = gc.get_stats()
    return int(stats[MIDDLE]["collections"]), int(stats[OLDEST]["collections"])


@contextmanager
def frozen_survivors(loop: asyncio.AbstractEventLoop) -> Iterator[Freezer | None]:
    """Freeze what survives full passes while the block runs the loop."""
    if IS_INCREMENTAL or gc.get_freeze_count():  # a project that freezes objects itself chooses which ones
        yield None
        return
    freezer = Freezer(loop)
    try:
        yield freezer
    finally:
        freezer.stop()
