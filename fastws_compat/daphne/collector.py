"""Full passes of the garbage collector that take no longer the more sockets are open.

A full pass visits every container object of the process, and each socket has dozens. What survives a pass
is therefore frozen (`gc.freeze`), and the next one visits only what is newer. Cyclic garbage among frozen
objects is found by a complete pass, which comes when as many objects have been frozen as were alive at the
last one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# A complete pass over fewer objects than this is short anyway.
MIN_FROZEN = 250_000
OLDEST = 2


class Freezer:
    """A callback for `gc.callbacks`."""

    def __init__(self) -> None:
        self._alive = 0
        self._frozen_since = MIN_FROZEN  # the first pass is complete
        self._complete = False

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if info["generation"] != OLDEST:
            return
        if phase == "start":
            self._complete = self._frozen_since >= max(self._alive, MIN_FROZEN)
            if self._complete:
                gc.unfreeze()
        else:
            self._freeze()

    def _freeze(self) -> None:
        survivors = len(gc.get_objects(OLDEST))
        gc.freeze()
        if self._complete:
            self._alive, self._frozen_since = survivors, 0
        else:
            self._frozen_since += survivors


@contextmanager
def frozen_survivors() -> Iterator[None]:
    """Freeze what survives full passes while the block runs."""
    if sys.version_info >= (3, 14) or gc.get_freeze_count():
        # Later versions collect incrementally; and a project that freezes objects knows which.
        yield
        return
    freezer = Freezer()
    gc.callbacks.append(freezer)
    try:
        yield
    finally:
        gc.callbacks.remove(freezer)
        gc.unfreeze()
