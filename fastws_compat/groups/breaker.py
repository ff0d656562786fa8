"""Outages of a store: sends do not wait for it, and it learns afterwards which groups have a gap."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Literal
from weakref import WeakKeyDictionary

from fastws_compat.groups.kinds import Kind
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import Hole, Store, StoreRefused, StoreRejected
from fastws_compat.logger import logger, text_of
from fastws_compat.threads.retries import Retry

# Seconds between two attempts while the store fails.
RETRY_INTERVAL = 1.0
# Seconds after which a failing call that nobody repeats no longer counts.
MEMORY = 60.0

# What is called, and for which group; "" for all of them.
Call = tuple[Literal["append", "read", "any"], str]
HEADS: Call = ("read", "")
ANY: Call = ("any", "")


class Breaker:
    """Whether a store works, as seen from this process, and the groups with messages that it lacks."""

    def __init__(self, alias: str, store: Store) -> None:
        self.alias = alias
        self.store = store
        self._holes: dict[str, tuple[Kind, Hole]] = {}
        self._lock = threading.Lock()
        self._retry_at = 0.0
        self._retry = Retry(self.mark_holes)
        self._failing_since: float | None = None
        # When each call failed last. While one group fails, the success of others is not a recovery.
        self._failing: dict[Call, float] = {}

    @property
    def is_open(self) -> bool:
        """Whether it is too early to try the store again."""
        return time.monotonic() < self._retry_at

    def failed(self, exc: Exception, call: Call) -> None:
        """Begin an outage, and log it. Sends do not wait for a store that is away."""
        now = time.monotonic()
        if isinstance(exc, StoreRefused) and not isinstance(exc, StoreRejected):
            self._retry_at = now + RETRY_INTERVAL
            call = ANY
        with self._lock:
            self._failing[call] = now
            is_new = self._failing_since is None
            if is_new:
                self._failing_since = now
        if is_new:
            logger.error(
                "The store of channel layer %r fails (%s%s): messages are not kept until it recovers",
                self.alias,
                f"group {call[1]!r}: " if call[1] else "",
                text_of(exc),
            )

    def succeeded(self, call: Call) -> None:
        """End an outage, unless it consists of other calls that still fail."""
        if self._failing_since is None:
            return
        self.forget(call, ANY)
        with self._lock:
            begun = self._failing_since
            if begun is None or self._failing:
                return
            self._failing_since = None
        self._retry_at = 0.0
        seconds = time.monotonic() - begun
        logger.warning("The store of channel layer %r has recovered after %.1f s", self.alias, seconds)

    def forget(self, *calls: Call) -> None:
        """Stop counting these calls as failing, and every call that failed long ago."""
        with self._lock:
            oldest = time.monotonic() - MEMORY
            self._failing = {
                call: at for call, at in self._failing.items() if call not in calls and at >= oldest
            }

    def hole(self, group: str) -> Hole | None:
        """The hole of a group that the store does not know of."""
        return self._holes[group][1] if group in self._holes else None

    def fill_hole(self, group: str, hole: Hole) -> None:
        """Note that the store knows of a hole, unless there is a newer one."""
        with self._lock:
            if self.hole(group) is hole:
                del self._holes[group]

    def add_hole(self, group: str, kind: Kind, hole: Hole | None = None) -> None:
        """Report the hole as soon as the store responds, from a thread, because the loop may end earlier."""
        with self._lock:
            self._holes[group] = (kind, hole or Hole())
        self._retry.arm(RETRY_INTERVAL)

    def take_over(self, group: str, kind: Kind, holes: Collection[Hole]) -> None:
        """Report what a feed that is closed has not reported. One report is enough for several holes."""
        if holes and self.hole(group) is None:
            self.add_hole(group, kind, next(iter(holes)) if len(holes) == 1 else None)

    async def mark_holes(self) -> None:
        """Report the holes to the store. If one fails, this raises, and begins with another one next time."""
        for group in list(self._holes):
            try:
                await self.mark_hole(group)
            except Exception as exc:
                self._put_last(group)
                if isinstance(exc, StoreRejected):
                    self.failed(exc, ("append", group))
                raise

    async def mark_hole(self, group: str) -> None:
        """Report the hole of a group, if it has one that the store does not know of."""
        if (found := self._holes.get(group)) is not None:
            kind, hole = found
            await self.store.mark_hole(group, kind, None, hole)
            self.fill_hole(group, hole)
            self.succeeded(("append", group))

    def _put_last(self, group: str) -> None:
        """Let the other groups come first: it may be this one alone that the store refuses."""
        with self._lock:
            self._holes = dict(sorted(self._holes.items(), key=lambda item: item[0] == group))


_breakers: WeakKeyDictionary[Store, Breaker] = WeakKeyDictionary()


def breaker_of(alias: str) -> Breaker:
    """The one breaker of a layer's store."""
    store = store_of(alias)
    return _breakers.get(store) or _breakers.setdefault(store, Breaker(alias, store))
