"""Who is present in the groups of this event loop: joining, seeing, updating and leaving."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import count, starmap
from typing import Any
from weakref import WeakKeyDictionary

from django.dispatch import Signal

from fastws_compat import conf
from fastws_compat.connections.registry import shutdowns, startups
from fastws_compat.connections.states import SESSION
from fastws_compat.groups.entries import key_text
from fastws_compat.groups.hub import Hub, hub_of
from fastws_compat.groups.keeper import COLLECTING, Keeper
from fastws_compat.groups.kinds import Presence, kind_with
from fastws_compat.groups.member import Member
from fastws_compat.groups.roster import Diff, Person
from fastws_compat.groups.seating import seats_of
from fastws_compat.groups.seats import Listed, Seat, Seats
from fastws_compat.groups.upkeep import start_once
from fastws_compat.groups.watch import Viewer, Watch
from fastws_compat.layers.client import layer_of, with_timeout
from fastws_compat.layers.wire import Payload, pack
from fastws_compat.logger import in_words, logger

# Somebody has joined a group, or has left it: `group` is its name, `key` and `info` say who it is. Each is
# sent once, by the process that detects the change, without a sender.
presence_joined = Signal()
presence_left = Signal()

# The close codes after which a user leaves at once.
LOGGED_OUT, FORBIDDEN = 4401, 4403
SERVICE_RESTART = 1012


def diffs_group(name: str) -> str:
    """The group on which the changes are sent, so that only the processes that need them get them."""
    group = f"fastws.presence.{name}"
    return group if len(group) < 100 else f"fastws.presence.{sha256(name.encode()).hexdigest()}"


@dataclass(slots=True)
class Place:
    """The part that one member takes in a group: it is present, sees who is present, or both."""

    seat: Seat | None = None
    watch: Watch | None = None


def presence_key_of(user: Any, member_id: str) -> str:
    """The key of a member: that of its user, so that all of the user's sockets count as one person."""
    return str(user.pk) if getattr(user, "is_authenticated", False) else member_id


# Distinguishes the seats of this process. Redis keeps them by process, so they can be short.
_numbers = count()

# The maximum number of groups that are checked in one call, and per second.
CHECKS_PER_SECOND = 500


class Attendance:
    """The members of one event loop that are present in groups of a layer, or see who is present."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._keepers: dict[Seats, Keeper] = {}
        # By member and group.
        self._places: dict[str, dict[str, Place]] = {}
        self._watches: dict[str, tuple[Watch, Hub]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._signals: deque[tuple[str, Diff]] = deque()
        # Whether the server has shut down.
        self.is_released = False

    # Members

    async def enter(self, member_id: str, group: str, key: str, info: str) -> None:
        """Make a member present, or replace its info, which is JSON, and wait until the store has it."""
        kind_with(group, "presence")
        place, keeper = self._place(member_id, group), self._keeper(group)
        old = place.seat
        if old is not None and old.key == key:
            place.seat = replace(old, info=info, renewed=True)
        else:
            place.seat = Seat(f"{next(_numbers):x}", key, info)
        is_urgent = old is not None or not self._is_shown(group, key, info)
        keeper.enter(group, place.seat, is_urgent=is_urgent)
        if old is not None and old.key != key:
            keeper.exit(group, old.socket)
        await keeper.wait_settled(group)

    def _is_shown(self, group: str, key: str, info: str) -> bool:
        """Whether everybody sees this already: the user has another socket, or had one until just now."""
        watch, _ = self._watches.get(group, (None, None))
        is_known = watch is not None and watch.roster.people.get(key) == info
        return is_known and _presence_of(group).linger > COLLECTING

    async def update(self, member_id: str, group: str, info: str) -> None:
        """Replace the info of a member that is present."""
        place = self._places.get(member_id, {}).get(group)
        if place is None or place.seat is None:
            raise RuntimeError(
                f"The socket is not present in {group!r}: join the group with `presence=` first."
            )
        await self.enter(member_id, group, place.seat.key, info)

    async def watch(self, member_id: str, group: str) -> None:
        """Make sure that this process knows who is present, before `show` shows it to the member."""
        presence = _presence_of(group)
        place = self._place(member_id, group)
        if group not in self._watches:
            self._watches[group] = self._new_watch(group, presence)
        place.watch, hub = self._watches[group]
        place.watch.reserve(member_id)
        await hub.wait_synced(diffs_group(group))

    def show(self, viewer: Viewer, group: str, version: str | None) -> None:
        """Send the list to a member, or only what has changed since `version`, and then each change."""
        place = self._places.get(viewer.id, {}).get(group)
        if place is not None and place.watch is not None:
            place.watch.add(viewer, version or "")

    def _new_watch(self, group: str, presence: Presence) -> tuple[Watch, Hub]:
        watch, hub = Watch(group, seats_of(self._alias, group), presence.limit), hub_of(self._alias)
        hub.add(diffs_group(group), watch)
        self._keeper_in(watch.seats).watch(group)
        start_once(self._tasks, "checks", self._check_forever)
        return watch, hub

    def leave(self, member_id: str, group: str) -> None:
        """Remove the member from the group; its user leaves at once."""
        place = self._places.get(member_id, {}).pop(group, None)
        if place is not None:
            self._end(member_id, group, place, 0)

    def expect_end(self, member: Member) -> None:
        """End the member's presence with its connection."""
        session = member.websocket.scope.get(SESSION)
        if session is not None and member.id not in self._places:
            session.at_end(partial(self._member_ended, member, session))
            member.on_close = (*member.on_close, partial(self.end, member.id))

    async def _member_ended(self, member: Member, session: Any) -> None:
        code, _ = session.closed
        self.end(member.id, code)

    def end(self, member_id: str, code: int | None) -> None:
        """The connection has ended: the user has time to come back, unless the code rules that out."""
        for group, place in self._places.pop(member_id, {}).items():
            self._end(member_id, group, place, _linger(group, code))

    def _place(self, member_id: str, group: str) -> Place:
        return self._places.setdefault(member_id, {}).setdefault(group, Place())

    def _end(self, member_id: str, group: str, place: Place, linger: float) -> None:
        watch, place.watch = place.watch, None
        if watch is not None and not watch.discard(member_id):
            self._stop_watching(group)
        if place.seat is not None:
            self._keeper(group).exit(group, place.seat.socket, linger)

    def _stop_watching(self, group: str) -> None:
        watch, hub = self._watches.pop(group)
        hub.discard(diffs_group(group), watch)
        self._keeper_in(watch.seats).stop_watching(group)
        watch.stop()

    # The store and other processes

    def _keeper(self, group: str) -> Keeper:
        return self._keeper_in(seats_of(self._alias, group))

    def _keeper_in(self, seats: Seats) -> Keeper:
        keeper = self._keepers.get(seats)
        if keeper is None:
            keeper = self._keepers[seats] = Keeper(seats, self._tell)
        return keeper

    def _tell(self, group: str, diff: Diff) -> None:
        """Pass on a change that this process has made in the store."""
        if group in self._watches:
            watch, _ = self._watches[group]
            diff = replace(diff, again=diff.again | watch.roster.survivors(diff))
            watch.apply(diff)
        task = asyncio.get_running_loop().create_task(self._send(group, diff), context=Context())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        if presence_joined.receivers or presence_left.receivers:
            self._signals.append((group, diff))
            start_once(self._tasks, "signals", self._send_signals)

    async def _send(self, group: str, diff: Diff) -> None:
        name = diffs_group(group)
        message = pack(name, Payload("json", json.dumps(diff.as_json())), None, {})
        try:
            await with_timeout(layer_of(self._alias).group_send(name, message))
        except Exception as exc:
            logger.debug("Other processes see a change of presence in %r late: %s", group, in_words(exc))

    async def _send_signals(self) -> None:
        while self._signals:
            group, diff = self._signals.popleft()
            joined = {key: info for key, info in diff.joined.items() if key not in diff.again}
            for signal, people in ((presence_joined, joined), (presence_left, diff.last)):
                for key, info in people.items():
                    await signal.asend_robust(sender=None, group=group, key=key, info=json.loads(info))

    async def _check_forever(self) -> None:
        """Find changes that the layer has lost, as long as somebody watches."""
        while self._watches:
            await asyncio.sleep(conf.get("CHECK_SECONDS"))
            by_seats: dict[Seats, list[Watch]] = {}
            for watch, _ in self._watches.values():
                by_seats.setdefault(watch.seats, []).append(watch)
            for seats, watches in by_seats.items():
                for start in range(0, len(watches), CHECKS_PER_SECOND):
                    await self._check(seats, watches[start : start + CHECKS_PER_SECOND])

    async def _check(self, seats: Seats, watches: list[Watch]) -> None:
        try:
            versions = await with_timeout(seats.versions([watch.group for watch in watches]))
        except Exception as exc:
            logger.debug("Presence cannot be checked: %s", in_words(exc))
            versions = []
        for watch, (epoch, version) in zip(watches, versions, strict=False):
            watch.roster.check(epoch, version)
        for watch in watches:
            watch.refresh()
        if len(watches) == CHECKS_PER_SECOND:
            await asyncio.sleep(1)

    async def release(self) -> None:
        """Shut down: nobody leaves now, because the users reconnect to other processes."""
        self.is_released = True
        for keeper in self._keepers.values():
            lingers = [_presence_of(group).linger for group in keeper.groups]
            await keeper.release(max(lingers, default=0))


_attendances: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Attendance]] = WeakKeyDictionary()


def attendance_of(alias: str) -> Attendance:
    """The attendance of the running loop in the groups of a layer."""
    here = _attendances.setdefault(asyncio.get_running_loop(), {})
    attendance = here.get(alias)
    if attendance is None:
        attendance = here[alias] = Attendance(alias)
    return attendance


async def release_all() -> None:
    """End the leases of the running loop."""
    for attendance in _attendances.get(asyncio.get_running_loop(), {}).values():
        await attendance.release()


async def attend(member: Member, alias: str, group: str, info: str | None, key: str | None) -> None:
    """Make a member present, if there is an info, and show a client of `live.js` who is present.

    The member may have left the group in the meantime, or may leave it while this waits for the store.
    """
    attendance = attendance_of(alias)
    if member.is_closed:
        return
    if info is not None and (alias, group) in member.joined:
        attendance.expect_end(member)
        key = presence_key_of(member.websocket.scope.get("user"), member.id) if key is None else key
        await attendance.enter(member.id, group, key_text(key), info)
    if member.is_ours and (alias, group) in member.joined:
        attendance.expect_end(member)
        await attendance.watch(member.id, group)
        attendance.show(member, group, member.claim(group).version)


class Attended:
    """The part of `Group` that reads who is present.

    Every method raises GroupKindError if the kind of the group has no presence, and GroupStoreError if the
    store fails.
    """

    __slots__ = ()

    name: str
    layer: str
    # Both belong to `Keeping`.
    _reading: Callable[[], AbstractContextManager[None]]
    _run: Callable[..., Any]

    async def apresence(self) -> list[Person]:
        """Who is present, in order of arrival."""
        _presence_of(self.name)
        with self._reading():
            listed = await seats_of(self.layer, self.name).listed(self.name)
        return sorted(starmap(_person, listed.items()), key=lambda person: (person.since, person.key))

    def presence(self) -> list[Person]:
        """Like `apresence`, for sync code."""
        found: list[Person] = self._run("presence", self.apresence)
        return found

    async def acount(self) -> int:
        """How many people are present."""
        _presence_of(self.name)
        with self._reading():
            return await seats_of(self.layer, self.name).count(self.name)

    def count(self) -> int:
        """Like `acount`, for sync code."""
        return int(self._run("count", self.acount))


def _person(key: str, each: Listed) -> Person:
    return Person(key, json.loads(each.info), datetime.fromtimestamp(each.since / 1000, UTC), each.sockets)


def _presence_of(group: str) -> Presence:
    presence = kind_with(group, "presence").presence
    assert presence is not None
    return presence


def _linger(group: str, code: int | None) -> float:
    if code in (LOGGED_OUT, FORBIDDEN):
        return 0
    linger = _presence_of(group).linger
    # If the server restarts, the process ends before its users can leave.
    return linger + conf.get("SHUTDOWN_GRACE") if code == SERVICE_RESTART else linger


def forget_released() -> None:
    """Begin anew in a loop in which an earlier server has shut down."""
    here = _attendances.get(asyncio.get_running_loop(), {})
    for alias in [alias for alias, attendance in here.items() if attendance.is_released]:
        del here[alias]


startups.append(forget_released)
shutdowns.append(release_all)
