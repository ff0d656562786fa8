"""Full passes of the garbage collector that take no longer the more sockets are open.

A full pass visits every container object of the process, and each socket has dozens. What was imported when
the server starts, and later what survives a pass, is therefore frozen (`gc.freeze`), and the next one visits
only what is newer. Cyclic garbage among frozen objects is found by a complete pass, which comes when as many
objects have been frozen as were alive at the last one. It is put off while full passes follow each other
closely, as when thousands of sockets are opened at once: it would find nothing and delay all of them.

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
# A full pass this many seconds after the last one ends a burst. During one, this many times as many objects
# are frozen before a complete pass.
CALM = 5.0
PATIENCE = 2
OLDEST = 2
# In Python 3.14.0 to 3.14.4, the collector is incremental: it has no full passes.
IS_INCREMENTAL = (3, 14) <= sys.version_info < (3, 14, 5)


class Freezer:
    """Freezes what is alive at first, and what survives the full passes of the collector, soon after each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._passes = full_passes()
        # How many objects were alive at the last complete pass (at first, the start counts as one), and have
        # been frozen since.
        self._alive, self._frozen_since = len(gc.get_objects()), 0
        gc.freeze()
        self._frozen_at = loop.time()
        self._is_complete = False
        self._timer = self._start_timer()

    def _start_timer(self) -> asyncio.TimerHandle:
        return self._loop.call_later(INTERVAL, self._on_timer, context=Context())

    def _on_timer(self) -> None:
        self._timer = self._start_timer()
        self.check()

    def check(self) -> None:
        """Freeze the survivors if there has been a full pass since the last check."""
        passes = full_passes()
        if passes != self._passes:
            self._freeze()
            self._passes = passes

    def _freeze(self) -> None:
        gc.collect(OLDEST - 1)  # freeze only survivors: objects have been created since the pass
        survivors = len(gc.get_objects())
        gc.freeze()
        if self._is_complete:
            self._alive, self._frozen_since = survivors, 0
        else:
            self._frozen_since += survivors
        self._is_complete = self._frozen_since >= self._most()
        if self._is_complete:
            gc.unfreeze()  # the next pass visits everything

    def _most(self) -> int:
        """How many objects are frozen before a complete pass."""
        before, self._frozen_at = self._frozen_at, self._loop.time()
        most = max(self._alive, MIN_FROZEN)
        return most if self._frozen_at - before >= CALM else PATIENCE * most

    def stop(self) -> None:
        self._timer.cancel()
        gc.unfreeze()


def full_passes() -> int:
    return int(gc.get_stats()[OLDEST]["collections"])


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
