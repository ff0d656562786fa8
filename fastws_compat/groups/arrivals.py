"""Joining groups that have a history: a member learns its position and gets what it missed.

The member is added to the group first. It is then sent what it missed until nothing is missing. In that same
step, with no other task in between, it begins to receive new messages.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypedDict

from fastws_compat.groups.delivery import Delivery, Frame, Participant
from fastws_compat.groups.entries import Kept, text_frame
from fastws_compat.groups.feed import can_recover
from fastws_compat.groups.feeds import GroupFeed, feed_of
from fastws_compat.groups.hub import Hub
from fastws_compat.groups.kinds import Kind
from fastws_compat.groups.member import TRY_AGAIN_LATER, Member
from fastws_compat.groups.positions import Position, parse_position
from fastws_compat.groups.stores import Reading
from fastws_compat.layers.client import counters
from fastws_compat.layers.wire import Change, Close

# The number of rounds after which the rest is queued at once, if more messages keep arriving.
MAX_ROUNDS = 3
# Seconds within which a member must catch up.
TIMEOUT = 30.0
# The worst of several results comes first.
RESULTS = (False, None, True)


@dataclass(frozen=True, slots=True)
class Joined:
    """The result of joining groups: whether everything since the client's position was sent.

    None means that there was nothing to recover.
    """

    #: The results by the name of the group.
    groups: dict[str, bool | None] = field(default_factory=dict)

    @property
    def recovered(self) -> bool | None:
        """The worst of the groups' results."""
        return min(self.groups.values(), key=RESULTS.index, default=None)


class JoinOptions(TypedDict, total=False):
    """The options of `websocket.join`."""

    recover: str | Literal[False] | None
    since: datetime | None
    last: int
    presence: Any
    presence_key: str | None
    watch: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What the endpoint requests from a group's history."""

    recover: str | Literal[False] | None = None
    since: datetime | None = None
    last: int = 0

    def position(self, member: Member, group: str) -> Position | None:
        """The position to recover from; None if it is unknown or the endpoint does not want to recover."""
        if self.recover is False:
            return None
        return member.claim(group).position if self.recover is None else parse_position(self.recover)


async def arrive(arrivals: list[Arrival], found: dict[str, bool | None]) -> dict[str, bool | None]:
    """Add the results of several arrivals to those of other groups."""
    results = await asyncio.gather(*(arrival.run() for arrival in arrivals))
    return found | {arrival.group: result for arrival, result in zip(arrivals, results, strict=True)}


async def listen(hub: Hub, group: str, kind: Kind, subscriber: Participant) -> None:
    """Add a participant that has no client: it receives everything from now on, in order."""
    feed = feed_of(hub, group, kind)
    feed.catch(subscriber.id, Waiting())
    hub.add(group, subscriber)
    try:
        await hub.wait_synced(group)
        await feed.confirm()
    finally:
        feed.catchers.pop(subscriber.id, None)


class Waiting:
    """A participant that has no position before it has joined."""

    given: Position | None = None
    wants_values = False


class Arrival:
    """One member that joins one group of a kind. Made before the member is added to the group."""

    def __init__(self, member: Member, hub: Hub, group: str, kind: Kind, wish: Wish) -> None:
        self.group = group
        self._member = member
        self._hub = hub
        self._wish = wish
        self._feed: GroupFeed | None = None
        # The position that the member has reached.
        self.given: Position | None = None
        # Whether the member still has to receive all values.
        self.wants_values = False
        self._has_begun = self._is_postponed = False
        self._is_new = member.id not in hub.members.get(group, {})
        if kind.history is not None and self._is_new:
            self._feed = feed_of(hub, group, kind)
            self._feed.catch(member.id, self)

    async def run(self) -> bool | None:
        """Join and catch up. Returns whether the member has recovered; None if there was nothing to do."""
        self._has_begun = True
        if self._feed is None:
            if self._is_new:
                self._tell("joined", epoch=None, offset=0, recovered=None)
            return None
        try:
            return await self._join(self._feed)
        except BaseException:
            self._withdraw()
            raise
        finally:
            if not self._is_postponed:
                self._end(self._feed)

    def give_up(self) -> None:
        """The call that joins was cancelled, perhaps before the arrival has begun."""
        if self._feed is not None and not self._has_begun:
            self._withdraw()
            self._end(self._feed)

    def _withdraw(self) -> None:
        """Remove the member, which would have a gap."""
        if self._is_member():
            self._hub.discard(self.group, self._member)
            self._member.forget(self._hub.alias, self.group)

    def _end(self, feed: GroupFeed) -> None:
        """Let the member receive what arrives."""
        if feed.catchers.get(self._member.id) is self:
            del feed.catchers[self._member.id]

    async def _join(self, feed: GroupFeed) -> bool | None:
        position = self._wish.position(self._member, self.group)
        reading = await feed.confirm()
        if not self._is_member():
            return None
        if reading is None or feed.given is None:
            feed.owe_position(self._member.id, self._wish.since)
            return self._join_blindly(position)
        if position is not None and can_recover(position, reading) and position.epoch == feed.given.epoch:
            counters["recovered"] += 1
            self.wants_values = feed.kind.state is not None and self._may_lack_values
            announcement = feed.announcement if self.wants_values else {}
            self._tell("joined", **position._asdict(), recovered=True, **announcement)
            await self._continue(feed, position)
            return True
        recovered = None if position is None else False
        counters["unrecovered"] += recovered is False
        start = self._start(feed.given, reading) if recovered is None else feed.given
        self._tell("joined", **start._asdict(), recovered=recovered, **feed.announcement)
        self.wants_values = True
        await self._continue(feed, start)
        return recovered

    @property
    def _may_lack_values(self) -> bool:
        """Whether a client that recovers lacks values that no change contains.

        It does if its position is that of a page, which has never joined; clients of an older release show
        that only by their first connection. It may if older changes are hidden from it.
        """
        member = self._member
        is_first = not member.has_returned or member.claim(self.group).is_first
        return is_first or self._wish.since is not None

    async def _continue(self, feed: GroupFeed, position: Position) -> None:
        """Catch up now; or after the socket has been accepted, because what waits for that must be little."""
        self.given = position
        work = partial(self._catch_up, feed, position)
        if self._member.is_connecting:
            self._is_postponed = True
            self._member.after_accept(work).add_done_callback(lambda _: self._end(feed))
        else:
            await work()

    def _join_blindly(self, position: Position | None) -> bool | None:
        """Join while the store is unavailable: the first position follows when it is back."""
        recovered = False if self._member.is_ours and self._wish.recover is not False else None
        recovered = recovered if position is None else False
        self._tell("joined", epoch=None, offset=0, recovered=recovered)
        return recovered

    def _start(self, given: Position, reading: Reading) -> Position:
        """Where a newcomer begins: before the newest messages, as many as the endpoint wants."""
        first = max(reading.first - 1, reading.base, given.offset - self._wish.last)
        return Position(given.epoch, min(first, given.offset))

    def _send_values(self, feed: GroupFeed) -> None:
        if feed.kind.state is None or not self._is_member():
            return
        frame = feed.snapshot()
        if frame is None:
            feed.owe_values()
        else:
            self._member.tell(frame)

    async def _catch_up(self, feed: GroupFeed, position: Position) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._chase(feed, position)
        except TimeoutError:
            self._member.close(Close(TRY_AGAIN_LATER, self._member.close_reason("caught up too slowly")))
        if self.wants_values:
            self._send_values(feed)
        # In the step in which nothing is missing: the next message must not pass it by.
        self._end(feed)

    async def _chase(self, feed: GroupFeed, position: Position) -> None:
        """Send what follows a position until nothing is missing."""
        rounds = 0
        while self._is_member() and (target := feed.given) is not None:
            while position.offset < target.offset and position.epoch == target.epoch:
                try:
                    entries = await feed.entries_after(position, timed=self._wish.since is not None)
                except Exception:  # a store of the project may raise anything
                    entries = []
                if not self._is_member():
                    return None
                if not entries:
                    return self._give_up(feed)
                for entry in entries:
                    # Before waiting: the entry is on its way even if the member leaves the group meanwhile.
                    self.given = position = Position(position.epoch, entry.offset)
                    await self._send(feed, entry)
                    if not self._is_member():
                        return None
            rounds += 1
            if rounds >= MAX_ROUNDS:
                position = self._queue_rest(feed, position)
            if feed.given is None or feed.given.epoch != position.epoch:
                return self._give_up(feed)
            if feed.given.offset <= position.offset:
                return None
        return None

    def _queue_rest(self, feed: GroupFeed, position: Position) -> Position:
        """Queue what the ring has, without waiting for the client."""
        given = feed.given or position
        for entry in feed.known_after(position, given.offset - position.offset):
            if frame := self._frame(feed, entry):
                self._member.put(frame)
            position = self.given = position._replace(offset=entry.offset)
        return position

    def _give_up(self, feed: GroupFeed) -> None:
        """Stop recovering, as the messages are no longer kept. The member continues where the others are."""
        self._member.tell(feed.lost())
        self.wants_values = True

    async def _send(self, feed: GroupFeed, entry: Kept) -> None:
        frame = self._frame(feed, entry)
        if frame is not None:
            await self._member.send(frame)

    def _frame(self, feed: GroupFeed, entry: Kept) -> Frame | None:
        """What this member receives of an entry that it missed."""
        member = self._member
        if self._is_hidden(entry):
            key = entry.key if entry.exclude in member.ids else None
            return feed.moved(entry.offset, key) if member.is_ours else None
        if isinstance(entry.content, Change) and not member.is_ours:
            return None
        frame = feed.missed(entry)
        return frame.envelope if isinstance(frame, Delivery) and member.is_ours else frame

    def _is_hidden(self, entry: Kept) -> bool:
        since = self._wish.since
        is_older = since is not None and entry.moment < since
        return is_older or entry.exclude in self._member.ids

    def _is_member(self) -> bool:
        """Whether the socket has neither left nor joined again in the meantime."""
        id, feed = self._member.id, self._feed
        is_current = feed is not None and feed.catchers.get(id) is self
        return is_current and self._hub.members.get(self.group, {}).get(id) is self._member

    def _tell(self, kind: str, **fields: Any) -> None:
        self._member.tell(Frame(text_frame(kind, group=self.group, **fields)))
