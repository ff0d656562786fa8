"""Runs the feed of a group: reads the store, and passes messages to the members in this process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from functools import partial
from typing import Any

from fastws_compat import conf
from fastws_compat.connections.outlet import write_to_ready
from fastws_compat.groups.breaker import HEADS, Breaker, breaker_of
from fastws_compat.groups.delivery import Catcher, Delivery, Frame, Participant
from fastws_compat.groups.entries import Kept, change_frame, snapshot_frame, text_frame
from fastws_compat.groups.feed import Feed, Lost, Step, Values
from fastws_compat.groups.hub import Hub, next_batch
from fastws_compat.groups.kinds import Kind
from fastws_compat.groups.positions import Position
from fastws_compat.groups.ring import Budget, Ring
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import Hole, Reading, Store, StoreRefused, history_of
from fastws_compat.layers.client import counters
from fastws_compat.layers.wire import Change, Close, Envelope, Payload
from fastws_compat.logger import logger

# Entries that are read in one call.
PAGE = 100
# The number of failures, or seconds, after which members get what there is without waiting for the store.
MAX_FAILURES = 5
PATIENCE = 2.0
FAILURE_PAUSE = 0.4
MIN_PAUSE = 0.05
# Seconds between two attempts while the store fails.
RETRY_INTERVAL = 1.0
# The maximum number of groups that are checked in one call, and per second.
BATCH = 500


class GroupFeed:
    """The feed of one group in one hub, with the tasks and timers that it needs."""

    def __init__(self, hub: Hub, group: str, kind: Kind, store: Store, breaker: Breaker, ring: Ring) -> None:
        self.hub = hub
        self.group = group
        self.kind = kind
        self.feed = Feed(ring)
        # What catches up for members, by their ids. Deliveries skip these members.
        self.catchers: dict[str, Catcher] = {}
        # The position that members have reached; the feed itself may be ahead.
        self.given: Position | None = None
        # Whether the store is unavailable, as far as is known.
        self.is_blind = False
        self._sees = asyncio.Event()
        self._store = store
        self._breaker = breaker
        self._steps: deque[Step] = deque()
        self._is_giving = False
        # By id, who still has to receive the message that `given` includes; the next one is the last.
        self._unserved: dict[str, Participant] = {}
        self._values: Values | None = None
        self._owes_values = False
        # The ids of members that joined while the store was unavailable, and have no position.
        self._strangers: set[str] = set()
        # Those of them that must not receive what is older than a time, until the feed has caught up.
        self._bounds: dict[str, datetime] = {}
        self._waiting: list[asyncio.Future[Reading | None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._failing_since = 0.0
        self._is_closed = False
        self._page_lock = asyncio.Lock()
        self._has_warned = False

    # What arrives

    async def receive(self, envelope: Envelope) -> bool:
        """Take a message that is kept. Any other goes to the members at once."""
        if envelope.epoch is None or isinstance(envelope.content, Close):
            self._note_unkept(envelope)
            return False
        if self.is_blind:
            # The sender has reached the store, so members that join now wait for the next attempt.
            self.is_blind = False
            self._sees.set()
        id = f"{envelope.sender}.{envelope.number}"
        content, exclude, key = envelope.content, envelope.exclude, envelope.key
        entry = Kept(envelope.offset, id, time.time(), content, exclude, key, is_copy=True)
        self._push(self.feed.receive(envelope.epoch, entry))
        self._wake()
        await self._give_all()
        return True

    def _note_unkept(self, envelope: Envelope) -> None:
        if not isinstance(envelope.content, Payload):
            return
        feed, sender = self.feed, envelope.sender
        if envelope.kept is False and sender not in feed.holes:
            # Report it now: processes without a member do not know of it, and its sender may die.
            feed.doubts = True
            self._wake()
        feed.holes[sender] = Hole(sender, envelope.number, feed.top)
        if envelope.kept is None and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "A message to group %r was not kept: its sender has other settings or an older release",
                self.group,
            )

    def position_of(self, member_id: str) -> Position | None:
        if (catcher := self.catchers.get(member_id)) is not None:
            return catcher.given
        return self.given and self.given._replace(offset=self.given.offset - (member_id in self._unserved))

    def catch(self, member_id: str, catcher: Catcher) -> None:
        """Pass a member by, also with the message that is under way, until it has caught up."""
        self.catchers[member_id] = catcher
        self._unserved.pop(member_id, None)

    def owes_values_to(self, member_id: str) -> bool:
        """Whether a member that leaves now lacks values which no recovery contains."""
        catcher = self.catchers.get(member_id)
        return self._owes_values if catcher is None else catcher.wants_values

    def check(self, reading: Reading, seen: int) -> None:
        """Compare with what the store has."""
        self.feed.check(reading, seen)
        self._wake()

    async def confirm(self) -> Reading | None:
        """Read the store now, and get everything that it has; None if it is unavailable."""
        if self.is_blind or self._is_closed:
            return None
        future: asyncio.Future[Reading | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._start()
        reading = await future
        while self._steps:  # noqa: ASYNC110 - for a few turns of the loop at most
            await asyncio.sleep(0)
        return reading

    def close(self) -> None:
        self._is_closed = True
        self._breaker.take_over(self.group, self.kind, self.feed.holes.values())
        self.catchers.clear()
        self._steps.clear()
        self.feed.ring.close()
        self._breaker.forget(("read", self.group))
        if not self.hub.feeds and self.hub.checker is not None:
            self.hub.checker.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._answer(None)

    # Reading the store

    def _wake(self) -> None:
        """Read the store once the feed needs it."""
        delay = self.feed.delay
        if delay is None or self._task is not None or self._is_closed:
            return
        if not delay:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        is_needed = self._waiting or self.feed.delay is not None
        if self._task is None and is_needed and not self._is_closed:
            # In an empty context: that of one connection would be shared with all others.
            self._task = asyncio.get_running_loop().create_task(self._heal_all(), context=Context())

    async def _heal_all(self) -> None:
        """Read the store until nothing is missing."""
        try:
            while self._waiting or self.feed.delay is not None:
                waiting, self._waiting = self._waiting, []
                self.feed.doubts = False
                try:
                    reading = await self._read()
                except asyncio.CancelledError:  # the feed is closed
                    self._waiting += waiting
                    self._answer(None)
                    raise
                except Exception as exc:  # a crypter may raise anything
                    self._waiting = waiting + self._waiting
                    pause = self._failed(exc)
                    await self._give_all()
                    await self._pause(pause)
                else:
                    self._succeeded()
                    self._take(reading, waiting)
                    await self._give_all()
                    if self.feed.delay and not self._waiting:
                        break
        finally:
            self._task = None
        self._wake()

    async def _pause(self, seconds: float) -> None:
        """Wait until the next attempt, which is brought forward if the store may be available again."""
        self._sees.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._sees.wait()
                await asyncio.sleep(MIN_PAUSE)

    async def _read(self) -> Reading:
        """What the store has after the known messages, or since its current epoch began."""
        feed, store = self.feed, self._store
        await self._report_holes()
        seen, epoch = feed.seen, feed.epoch
        with_values = self.kind.state is not None and self._values is None
        after = None if epoch is None else feed.top
        has_hole = feed.has_hole or self._breaker.hole(self.group) is not None
        reading = await store.read(self.group, self.kind, after, PAGE, with_values)
        if reading.epoch == epoch and reading.top < seen:
            # The store has lost messages that somebody has received.
            await store.begin_epoch(self.group, self.kind, epoch, seen)
            reading = await store.head(self.group, self.kind)
        if epoch is not None and reading.epoch != epoch:
            with_values = self.kind.state is not None
            reading = await store.read(self.group, self.kind, reading.base, PAGE, with_values)
        # As long as the store does not know of a hole, nobody recovers.
        return reading._replace(hole=reading.top) if has_hole or feed.has_hole else reading

    async def _report_holes(self) -> None:
        """Report what is not kept: its senders may have died. A store that is full refuses it."""
        feed = self.feed
        with suppress(StoreRefused):
            await self._breaker.mark_hole(self.group)
            for hole in list(feed.holes.values()):
                await self._store.mark_hole(self.group, self.kind, feed.epoch, hole)
                feed.holes = {sender: each for sender, each in feed.holes.items() if each is not hole}

    def _take(self, reading: Reading, waiting: list[asyncio.Future[Reading | None]]) -> None:
        feed = self.feed
        epoch, showed_gap = feed.epoch, feed.has_pending
        steps = feed.apply(reading)
        counters["resets"] += epoch not in (None, feed.epoch)
        counters["healed" if showed_gap else "late"] += sum(not isinstance(step, Lost) for step in steps)
        self._push(steps)
        if self.kind.state is not None and reading.state is not None:
            self._values = Values(reading.state, Position(reading.epoch, reading.top))
        if feed.epoch == reading.epoch and feed.top >= reading.top:
            for future in waiting:
                if not future.done():
                    future.set_result(reading)
        else:
            self._waiting = waiting + self._waiting

    def _failed(self, exc: Exception) -> float:
        """Note a failure of the store; returns the seconds until the next attempt."""
        now = asyncio.get_running_loop().time()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._breaker.failed(exc, ("read", self.group))
        self.feed.doubts = True
        is_late = self._failures >= MAX_FAILURES or now - self._failing_since >= PATIENCE
        if self.feed.epoch is not None and not is_late:
            return FAILURE_PAUSE
        self.is_blind = True
        self._push(self.feed.skip())
        self._answer(None)
        return RETRY_INTERVAL

    def _succeeded(self) -> None:
        self._failures, self.is_blind = 0, False
        if not self.feed.has_hole:
            self._breaker.succeeded(("read", self.group))

    def _answer(self, reading: Reading | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(reading)
        self._waiting = []

    # Passing on messages

    def _push(self, steps: Iterable[Step]) -> None:
        self._steps.extend(steps)

    async def _give_all(self) -> None:
        """Pass on messages in order; only one task does so at a time."""
        if self._is_giving:
            return
        self._is_giving = True
        try:
            while self._steps:
                step = self._steps.popleft()
                if isinstance(step, Lost):
                    self._give_lost(step.position)
                else:
                    await self._give(step.entry)
            self._give_owed()
        finally:
            self._is_giving = False

    def _live(self) -> list[Participant]:
        members = self.hub.members.get(self.group, {})
        if not self.catchers:
            return [*members.values()]
        return [member for id, member in members.items() if id not in self.catchers]

    async def _give(self, entry: Kept) -> None:
        assert self.given is not None
        self._welcome_strangers()
        self.given = Position(self.given.epoch, entry.offset)
        content, hidden_from = entry.content, self._hidden_from(entry)
        if isinstance(content, Change):
            if self._values is not None:
                self._values.apply(content, self.given)
            self._tell_change(content, entry.offset, hidden_from)
            return
        members, delivery = self.hub.members.get(self.group, {}), self.delivery(entry, content)
        is_for_all, departures = entry.exclude is None and not hidden_from, self.hub.departures
        self._unserved = {each.id: each for each in reversed(self._live())}
        while self._unserved:
            batch = next_batch(self._unserved)
            is_whole = is_for_all and departures == self.hub.departures
            for member in write_to_ready(delivery, batch) if is_whole else batch:
                if member.id not in members or member.id in self.catchers:
                    continue  # it has left, or has joined again
                is_excluded = entry.exclude is not None and entry.exclude in member.ids
                if is_excluded or member.id in hidden_from:
                    member.tell(self.moved(entry.offset, entry.key if is_excluded else None))
                else:
                    member.deliver(delivery)
            if self._unserved:
                await asyncio.sleep(0)

    def _hidden_from(self, entry: Kept) -> Collection[str]:
        """The ids of members for which the entry is too old."""
        return [id for id, bound in self._bounds.items() if entry.moment < bound]

    def _tell_change(self, change: Change, offset: int, hidden_from: Collection[str]) -> None:
        frame = Frame(change_frame(change, self.group, offset))
        for member in self._live():
            member.tell(self.moved(offset) if member.id in hidden_from else frame)

    def _give_lost(self, position: Position) -> None:
        self.given = position
        self._strangers.clear()
        if self._values is not None and not self._values.covers(position):
            self._values = None
        self.tell(self.lost())
        if self.kind.state is not None:
            self._owes_values = True
            self.feed.doubts = self.feed.doubts or self._values is None
            self._wake()

    def tell(self, frame: Frame) -> None:
        """Send a frame to every live member that is a client of `live.js`."""
        for member in self._live():
            member.tell(frame)

    def _give_owed(self) -> None:
        """Send the positions and values that members still have to receive."""
        if not self._failures and self.given is not None:
            self._welcome_strangers()
            if self.feed.delay is None:
                self._bounds.clear()
        if self._owes_values and (frame := self.snapshot()) is not None:
            self._owes_values = False
            self.tell(frame)

    def _welcome_strangers(self) -> None:
        """Tell members that have no position where they begin, before they receive what follows it."""
        if self._strangers:
            members = self.hub.members.get(self.group, {})
            for id in self._strangers & members.keys():
                members[id].tell(self.lost())
            self._strangers.clear()
            self._owes_values = self.kind.state is not None

    # The frames

    def delivery(self, entry: Kept, payload: Payload) -> Delivery:
        return Delivery(payload, self.group, entry.offset, entry.key)

    def missed(self, entry: Kept) -> Frame:
        """A message or change for a member that catches up; many of them may be missing the same ones."""
        return self.hub.recent.get((self.group, entry.offset, entry.id), partial(self._missed, entry))

    def _missed(self, entry: Kept) -> Frame:
        content = entry.content
        if isinstance(content, Change):
            return Frame(change_frame(content, self.group, entry.offset))
        return self.delivery(entry, content)

    def moved(self, offset: int, key: str | None = None) -> Frame:
        """A frame that advances the client's position past a message whose content it does not receive.

        A client that is excluded as the sender learns by the key that its message has arrived.
        """
        extra = {} if key is None else {"key": key}
        return Frame(text_frame("message", group=self.group, offset=offset, **extra))

    def lost(self) -> Frame:
        epoch, offset = self.given or (None, 0)
        return Frame(text_frame("lost", group=self.group, epoch=epoch, offset=offset, **self.announcement))

    @property
    def announcement(self) -> dict[str, bool]:
        """What tells a client that all values follow: it has no valid position until they arrive."""
        return {} if self.kind.state is None else {"state": True}

    def snapshot(self) -> Frame | None:
        """All values, if they are known at the position that the members have reached."""
        values, given = self._values, self.given
        if values is None or given is None or values.at.epoch != given.epoch:
            return None
        if values.at.offset > given.offset:
            return None
        key, texts, offset = (values, values.at, given.offset), values.texts, given.offset
        return self.hub.recent.get(key, lambda: Frame(snapshot_frame(texts, self.group, offset)))

    def owe_position(self, id: str, since: datetime | None) -> None:
        """Tell a member its position as soon as the store is back, and nothing older than `since`."""
        self._strangers.add(id)
        if since is not None:
            self._bounds[id] = since

    def owe_values(self) -> None:
        """Send all values to all members as soon as they are known."""
        self._owes_values = True
        self.feed.doubts = True
        self._wake()

    # Catching up

    async def entries_after(self, position: Position, *, timed: bool = False) -> list[Kept]:
        """The entries after a position, up to the newest that members have received; none if they are gone.

        With `timed`, they have the time of the store. Raises StoreError if the store fails. Members that
        catch up at the same time share one read.
        """
        if not (found := self._remembered(position, timed)):
            async with self._page_lock:
                found = self._remembered(position, timed) or await self._page(position)
        given = self.given or position
        return [entry for entry in found if entry.offset <= given.offset]

    def known_after(self, position: Position, limit: int = PAGE) -> list[Kept]:
        """The entries after a position that are in memory; the ring may already be of another epoch."""
        return self.feed.ring.after(position.offset, limit) if self.feed.epoch == position.epoch else []

    def _remembered(self, position: Position, timed: bool) -> list[Kept]:
        found = self.known_after(position)
        return [] if timed and any(entry.is_copy for entry in found) else found

    async def _page(self, position: Position) -> list[Kept]:
        reading = await self._store.read(self.group, self.kind, position.offset, PAGE)
        if reading.epoch != position.epoch or self.feed.epoch != position.epoch:
            return []
        if not reading.entries or reading.entries[0].offset != position.offset + 1:
            return []
        for entry in reading.entries:
            if entry.offset <= self.feed.top:
                self.feed.ring.add(entry)
        return list(reading.entries)


def feed_of(hub: Hub, group: str, kind: Kind) -> GroupFeed:
    """The feed of a group in a hub, created with its first member."""
    feed: Any = hub.feeds.get(group)
    if feed is None:
        store = store_of(hub.alias)
        ring = Ring(_budget_of(hub), history_of(kind).count)
        feed = hub.feeds[group] = GroupFeed(hub, group, kind, store, breaker_of(hub.alias), ring)
        if hub.checker is None or hub.checker.done() or hub.checker.cancelling():
            hub.checker = asyncio.get_running_loop().create_task(_check_all(hub), context=Context())
    found: GroupFeed = feed
    return found


def _budget_of(hub: Hub) -> Budget:
    """The rings of all groups of a hub share one budget."""
    feeds = (feed for feed in hub.feeds.values() if isinstance(feed, GroupFeed))
    return next((feed.feed.ring.budget for feed in feeds), None) or Budget()


async def _check_all(hub: Hub) -> None:
    """Check every few seconds whether the store has messages that have not arrived, while there are feeds."""
    while hub.feeds:
        await asyncio.sleep(conf.get("CHECK_SECONDS"))
        feeds = [feed for feed in hub.feeds.values() if isinstance(feed, GroupFeed)]
        for start in range(0, len(feeds), BATCH):
            if start:
                await asyncio.sleep(1)
            await check_heads(hub, feeds[start : start + BATCH])


async def check_heads(hub: Hub, feeds: list[GroupFeed]) -> None:
    """Compare several feeds with what the store has."""
    seen = {feed.group: feed.feed.seen for feed in feeds}
    try:
        heads = await store_of(hub.alias).heads({feed.group: feed.kind for feed in feeds})
    except Exception as exc:  # a store of the project may raise anything, and the checks must go on
        breaker_of(hub.alias).failed(exc, HEADS)
        return
    breaker_of(hub.alias).forget(HEADS)
    for feed in feeds:
        if feed.group in heads:
            feed.check(heads[feed.group], seen[feed.group])
