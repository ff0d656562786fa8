"""Where the presence of sockets is registered: the protocol, and the memory of one process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol
from uuid import uuid4

from fastws_compat.groups.roster import Diff, People

# The maximum number of sockets that one call registers or removes.
BATCH = 200
# The number of groups whose version stays in memory after everybody has left.
MAX_GROUPS = 10_000


@dataclass(frozen=True, slots=True)
class Seat:
    """The presence of one socket. If `renewed` is true, the info replaces one that the store may have."""

    socket: str
    key: str
    info: str
    renewed: bool = False
    # The epoch of the list in which it is registered; "" before it is.
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """What a process learns when it renews its lease.

    A token that differs from the previous one means that the store has lost the process.
    """

    token: str
    dead: list[str]


@dataclass(frozen=True, slots=True)
class Listed:
    """A person as the store knows them; `since` in ms since 1970."""

    info: str
    since: int
    sockets: int


class Seats(Protocol):
    """The store of some groups' presence. Each method may be called again if its answer was lost."""

    async def enter(self, group: str, process: str, seats: Sequence[Seat]) -> Diff:
        """Register sockets. The first of a key joins; another info is a change."""
        ...

    async def leave(self, group: str, process: str, sockets: Sequence[str]) -> Diff:
        """Remove sockets. With the last of a key, the key leaves."""
        ...

    async def tick(self, process: str, lease: float) -> Tick:
        """Renew the lease of a process for `lease` seconds, and learn whose lease is over."""
        ...

    async def release(self, process: str, seconds: float) -> None:
        """Let the lease of a process end in `seconds`."""
        ...

    async def groups_of(self, process: str) -> list[str]: ...

    async def reap(self, group: str, process: str) -> tuple[Diff, bool]:
        """Remove up to `BATCH` sockets of a process whose lease is over; return whether any are left."""
        ...

    async def versions(self, groups: Sequence[str]) -> list[tuple[str, int]]: ...

    async def people(self, group: str) -> tuple[str, int, People]: ...

    async def listed(self, group: str) -> dict[str, Listed]: ...

    async def count(self, group: str) -> int: ...

    def abandon(self, process: str) -> None:
        """The process has ended without a shutdown. Remove its sockets if the store ends with the process."""
        ...


class Leases:
    """Which processes are alive. None counts as dead until the store has been in use for a whole lease."""

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self.tokens: dict[str, str] = {}
        self._seen: float | None = None
        self._quiet_until = 0.0

    def tick(self, process: str, lease: float, now: float) -> Tick:
        if self._seen is None or now - self._seen > lease / 2:
            self._quiet_until = now + lease
        self._seen = now
        token = self.tokens.setdefault(process, uuid4().hex)
        self.ends[process] = now + lease
        if self.is_quiet(now):
            return Tick(token, [])
        return Tick(token, [other for other, end in self.ends.items() if end < now])

    def is_quiet(self, now: float) -> bool:
        """Whether every process still has time to register again, because the store was unavailable."""
        return now < self._quiet_until

    def forget(self, process: str) -> None:
        """Forget the token, so that the process gets a new one if it is alive after all."""
        self.tokens.pop(process, None)

    def strike(self, process: str) -> None:
        self.forget(process)
        self.ends.pop(process, None)


class Book:
    """The sockets of one group."""

    def __init__(self) -> None:
        self.epoch = uuid4().hex[:8]
        self.version = 0
        self.people: People = {}
        self.since: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.sockets: dict[str, dict[str, str]] = {}

    def enter(self, process: str, seats: Sequence[Seat], now: int) -> Diff:
        joined: People = {}
        changed: People = {}
        for seat in seats:
            is_new = self._sit(process, seat)
            before = self.people.get(seat.key)
            if before is None:
                joined[seat.key] = seat.info
                self.since[seat.key] = now
            elif before == seat.info or not (is_new or seat.renewed):
                continue
            else:
                (joined if seat.key in joined else changed)[seat.key] = seat.info
            self.people[seat.key] = seat.info
        return self._diff(joined, {}, changed)

    def _sit(self, process: str, seat: Seat) -> bool:
        sockets = self.sockets.setdefault(process, {})
        if seat.socket in sockets:
            return False
        sockets[seat.socket] = seat.key
        self.counts[seat.key] += 1
        return True

    def leave(self, process: str, ids: Sequence[str]) -> Diff:
        sockets = self.sockets.get(process, {})
        keys = [sockets.pop(id) for id in ids if id in sockets]
        if not sockets:
            self.sockets.pop(process, None)
        left = [key for key in keys if self._is_last(key)]
        for key in left:
            del self.counts[key], self.since[key]
        return self._diff({}, {key: self.people.pop(key) for key in left}, {})

    def _is_last(self, key: str) -> bool:
        """Decrement the count of sockets; return whether none is left."""
        self.counts[key] -= 1
        return self.counts[key] == 0

    def _diff(self, joined: People, left: People, changed: People) -> Diff:
        if joined or left or changed:
            self.version += 1
        return Diff(self.epoch, self.version, joined, list(left), changed, left)


class MemorySeats:
    """The presence of the sockets of this process, for any number of its threads and loops."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._leases = Leases()
        self._clock = clock
        self._books: dict[str, Book] = {}
        self._lock = threading.Lock()

    async def enter(self, group: str, process: str, seats: Sequence[Seat]) -> Diff:
        now = int(datetime.now(UTC).timestamp() * 1000)
        with self._lock:
            return self._book(group).enter(process, seats, now)

    async def leave(self, group: str, process: str, sockets: Sequence[str]) -> Diff:
        with self._lock:
            return self._leave(group, process, sockets)

    def _leave(self, group: str, process: str, sockets: Sequence[str]) -> Diff:
        book = self._book(group)
        diff = book.leave(process, sockets)
        if not book.people and len(self._books) > MAX_GROUPS:
            del self._books[group]
        return diff

    async def tick(self, process: str, lease: float) -> Tick:
        with self._lock:
            return self._leases.tick(process, lease, self._clock())

    async def release(self, process: str, seconds: float) -> None:
        with self._lock:
            self._leases.ends[process] = self._clock() + seconds

    async def groups_of(self, process: str) -> list[str]:
        with self._lock:
            groups = [group for group, book in self._books.items() if process in book.sockets]
            if not groups:
                self._strike(process)
            return groups

    async def reap(self, group: str, process: str) -> tuple[Diff, bool]:
        with self._lock:
            book = self._book(group)
            if self._leases.ends.get(process, 0) > self._clock():
                return Diff(book.epoch, book.version), False
            self._leases.forget(process)
            diff = self._leave(group, process, list(islice(book.sockets.get(process, ()), BATCH)))
            return diff, process in book.sockets

    def _strike(self, process: str) -> None:
        if self._leases.ends.get(process, 0) <= self._clock():
            self._leases.strike(process)

    def abandon(self, process: str) -> None:
        with self._lock:
            self._leases.strike(process)
            for group, book in list(self._books.items()):
                self._leave(group, process, list(book.sockets.get(process, ())))

    async def versions(self, groups: Sequence[str]) -> list[tuple[str, int]]:
        with self._lock:
            books = [self._book(group) for group in groups]
            return [(book.epoch, book.version) for book in books]

    async def people(self, group: str) -> tuple[str, int, People]:
        with self._lock:
            book = self._book(group)
            return book.epoch, book.version, dict(book.people)

    async def listed(self, group: str) -> dict[str, Listed]:
        with self._lock:
            book = self._book(group)
            return {key: Listed(info, book.since[key], book.counts[key]) for key, info in book.people.items()}

    async def count(self, group: str) -> int:
        with self._lock:
            return len(self._book(group).people)

    def _book(self, group: str) -> Book:
        try:
            return self._books[group]
        except KeyError:
            if len(self._books) >= MAX_GROUPS:  # groups that were only looked at have nobody either
                self._books = {name: book for name, book in self._books.items() if book.people}
            book = self._books[group] = Book()
            return book
