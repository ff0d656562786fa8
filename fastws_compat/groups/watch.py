"""One hub's copy of the list of who is present in a group, and the members that see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import perf_counter
from typing import Protocol

from fastws_compat import conf
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.groups.delivery import Delivery, Frame, new_id
from fastws_compat.groups.roster import Change, Diff, Roster, presence_text
from fastws_compat.groups.seats import Seats
from fastws_compat.groups.upkeep import start_once
from fastws_compat.layers.client import with_timeout
from fastws_compat.layers.wire import Close
from fastws_compat.logger import in_words, logger

# Seconds to wait for a diff that arrives out of order.
OVERTAKING = 0.05
# Seconds until a list that could not be read is read again.
RETRY_INTERVAL = 1.0
# The pause between two frames: long enough that frames take this share of the loop's time, within these
# limits in seconds.
SHARE, MIN_PAUSE, MAX_PAUSE = 0.05, 0.1, 5.0
# The minimum for a group for which only the count is sent.
COUNT_PAUSE = 1.0
# The maximum number of members that get a frame before other tasks get a turn.
MAX_DELIVERIES_IN_A_ROW = 256


class Viewer(Protocol):
    """A member that sees who is present."""

    id: str

    def tell(self, frame: Frame) -> None: ...


class Watch:
    """A participant of the group on which the changes are sent: it keeps the list, and sends frames."""

    socket = None

    def __init__(self, group: str, seats: Seats, limit: int) -> None:
        self.id = new_id()
        self.ids = (self.id,)
        self.group = group
        self.seats = seats
        self.roster = Roster(conf.get("PRESENCE_TTL"))
        self.viewers: dict[str, Viewer] = {}
        self._expected: set[str] = set()
        self._limit = limit
        # The versions known to viewers that have not received a frame yet.
        self._newcomers: dict[str, str] = {}
        self._pause = MIN_PAUSE
        self._next_frame = 0.0
        self._was_above = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def reserve(self, viewer_id: str) -> None:
        """Keep the list for a member that is about to see it."""
        self._expected.add(viewer_id)

    def add(self, viewer: Viewer, version: str) -> None:
        """Show the list to a member that may know some version of it, unless it sees the list already."""
        self._expected.discard(viewer.id)
        if viewer.id in self.viewers:
            return
        self.viewers[viewer.id] = viewer
        self._newcomers[viewer.id] = version
        self.refresh()

    def discard(self, viewer_id: str) -> bool:
        """Remove a member; return whether anybody still sees the list."""
        self._expected.discard(viewer_id)
        self.viewers.pop(viewer_id, None)
        self._newcomers.pop(viewer_id, None)
        return bool(self.viewers or self._expected)

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    # Changes

    def deliver(self, delivery: Delivery) -> None:
        """Apply a change that has arrived over the layer."""
        self.apply(Diff(*delivery.payload.value))

    def tell(self, frame: Frame) -> None:
        """Do nothing: there is no client."""

    def close(self, close: Close) -> None:
        """Do nothing: this group is never closed."""

    def apply(self, diff: Diff) -> None:
        self.roster.apply(diff)
        if self.roster.has_gap:
            asyncio.get_running_loop().call_later(OVERTAKING, self._fill_gap)
        self.refresh()

    def _fill_gap(self) -> None:
        if self.roster.has_gap:
            self.roster.stale = True
            self.refresh()

    def refresh(self) -> None:
        """Compare the list with the store if that is due, and send the changes."""
        if self.roster.is_due(asyncio.get_running_loop().time()):
            start_once(self._tasks, "compare", self._compare)
        if self.roster.has_news or self._newcomers:
            start_once(self._tasks, "show", self._show)

    async def _compare(self) -> None:
        now = asyncio.get_running_loop().time
        while self.viewers and self.roster.is_due(now()):
            self.roster.stale = False
            try:
                epoch, version, people = await with_timeout(self.seats.people(self.group))
            except Exception as exc:
                logger.debug("The presence in %r cannot be read: %s", self.group, in_words(exc))
                self.roster.stale = True
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            self.roster.compare(epoch, version, people, now())
            start_once(self._tasks, "show", self._show)

    # Frames

    async def _show(self) -> None:
        """Send frames while there is something new."""
        loop = asyncio.get_running_loop()
        while self.roster.epoch is not None and (self.roster.has_news or self._newcomers):
            await asyncio.sleep(max(0.0, self._next_frame - loop.time()))
            begun = perf_counter()
            try:
                await self._send_frames()
            except Exception as exc:
                logger.error("Presence in %r could not be sent", self.group, exc_info=for_log(exc))
            self._pause = min(max((perf_counter() - begun) / SHARE, MIN_PAUSE), MAX_PAUSE)
            if self._was_above:
                self._pause = max(self._pause, COUNT_PAUSE)
            self._next_frame = loop.time() + self._pause

    async def _send_frames(self) -> None:
        """Send the change to those who know the previous version, and what they need to the others."""
        newcomers, self._newcomers = self._newcomers, {}
        change = self.roster.take()
        above, was_above = len(self.roster.people) > self._limit, self._was_above
        self._was_above = above
        old = [viewer for id, viewer in self.viewers.items() if id not in newcomers]
        batches: list[tuple[Frame, list[Viewer]]] = []
        if change and not (above and not (change.joined or change.left)):
            batches.append((self._frame(None if was_above else change), old))
        batches += self._batches_for(newcomers)
        await self._deliver(batches)

    def _batches_for(self, newcomers: dict[str, str]) -> Iterable[tuple[Frame, list[Viewer]]]:
        """The frames for viewers with these versions; viewers who are up to date get none."""
        by_version: dict[str, list[Viewer]] = {}
        for id, version in newcomers.items():
            by_version.setdefault(version, []).append(self.viewers[id])
        for version, viewers in by_version.items():
            change = self.roster.since(version)
            if change is None or change:
                yield self._frame(change), viewers

    async def _deliver(self, batches: Iterable[tuple[Frame, list[Viewer]]]) -> None:
        number = 0
        for frame, viewers in batches:
            for viewer in viewers:
                if viewer.id in self.viewers:
                    viewer.tell(frame)
                number += 1
                if not number % MAX_DELIVERIES_IN_A_ROW:
                    await asyncio.sleep(0)

    def _frame(self, change: Change | None) -> Frame:
        text = presence_text(self.group, self.roster, self._limit, change)
        return Frame({"type": "websocket.send", "text": text})
