"""Where groups keep their entries: the protocol of a store, and the store in memory."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from fastws_compat.groups.entries import Kept
from fastws_compat.groups.kinds import History, Kind, State
from fastws_compat.groups.splice import Parts
from fastws_compat.layers.wire import Change, Payload

# The maximum number of groups in memory; the one that was used least recently is forgotten.
MAX_GROUPS = 10_000
# The number of entries that are searched for one that may have been appended before.
LOOK_BACK = 100


class StoreError(Exception):
    """The store failed. It may or may not have executed the call."""


class StoreRefused(StoreError):
    """The store failed, and has certainly not executed the call."""


class StoreRejected(StoreRefused):
    """The store works, and has rejected this call: others may succeed, and no call has to wait for it."""


@dataclass(frozen=True, eq=False, slots=True)
class Hole:
    """A message that was sent and is not kept. Without a sender, it is still being sent."""

    sender: str | None = None
    number: int = 0
    # The newest offset that the reporting process had received before; None if it has sent the message.
    after: int | None = None


@dataclass(slots=True)
class Draft:
    """An entry before it has an offset."""

    id: str
    content: Payload | Change
    exclude: str | None = None
    key: str | None = None
    # The field of the state that the entry changes, and the JSON text of its value; None removes it.
    field: str | None = None
    value: str | None = None
    # The parts of the layer's message around epoch and offset, if the store publishes it as well.
    copy: Parts | None = None


class Appended(NamedTuple):
    """The place of an entry; `is_new` is false if its key was known."""

    epoch: str
    offset: int
    is_new: bool = True


class Reading(NamedTuple):
    """The result of `read`."""

    epoch: str
    # The newest offset, and the one at which the epoch began.
    top: int
    base: int = 0
    # The offset at which a message was sent that is not kept.
    hole: int = -1
    # The first offset that is kept.
    first: int = 1
    entries: tuple[Kept, ...] = ()
    # The JSON texts of the last values at `top`, if they were requested.
    state: dict[str, str] | None = None


class Store:
    """The protocol of a store. A project's own store needs `append`, `read` and `head`.

    Methods raise StoreRefused if the store has certainly not executed the call, and StoreError if that is
    unknown. A message that the store has refused is sent without being kept only if there is a `mark_hole`:
    clients that missed it would otherwise be told that they have everything.
    """

    #: Whether it publishes the `copy` of a draft on the layer.
    splices = False

    @property
    def notes_holes(self) -> bool:
        """Whether it can remember that a message was sent and is not kept."""
        return type(self).mark_hole is not Store.mark_hole

    async def append(
        self, group: str, kind: Kind, draft: Draft, *, is_retry: bool = False, hole: Hole | None = None
    ) -> Appended:
        """Keep an entry at the next offset, after a hole if there is one.

        With `is_retry`, check first whether it has been kept already. Raises ValueError if the state would
        exceed its limits.
        """
        raise NotImplementedError

    async def read(
        self, group: str, kind: Kind, after: int | None = None, limit: int = 0, state: bool = False
    ) -> Reading:
        """The position of the history, and up to `limit` entries after an offset."""
        raise NotImplementedError

    async def head(self, group: str, kind: Kind) -> Reading:
        """The position of the history."""
        return await self.read(group, kind)

    async def heads(self, groups: dict[str, Kind]) -> dict[str, Reading]:
        """The positions of several histories."""
        return {group: await self.head(group, kind) for group, kind in groups.items()}

    async def begin_epoch(self, group: str, kind: Kind, epoch: str, top: int) -> None:
        """Begin a new epoch if the history ends before `top`, which somebody has seen in this epoch."""

    async def mark_hole(self, group: str, kind: Kind, epoch: str | None = None, hole: Hole = Hole()) -> None:
        """Note a hole in this epoch, or in any.

        It is at the newest offset, unless its sender has reported it already.
        """

    async def clear(self, group: str, kind: Kind) -> None:
        """Delete the entries and the state, and begin a new epoch."""


def new_epoch() -> str:
    """A new name, from the operating system: processes that seed `random` equally must not agree on one."""
    return os.urandom(4).hex()


def history_of(kind: Kind) -> History:
    return kind.history or DEFAULT_HISTORY


DEFAULT_HISTORY = History()


@dataclass(slots=True)
class Life:
    """The data of one group in memory."""

    epoch: str = field(default_factory=new_epoch)
    top: int = 0
    base: int = 0
    hole: int = -1
    entries: deque[Kept] = field(default_factory=deque)
    # By sender, the number of the newest message that is known not to be kept.
    unkept: dict[str | None, int] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    # By key, the id of its entry, its place, and when the key is forgotten.
    keys: OrderedDict[str, tuple[str, Appended, float]] = field(default_factory=OrderedDict)

    def begin_epoch(self) -> None:
        self.epoch, self.base, self.hole = new_epoch(), self.top, -1
        self.unkept.clear()

    def note_hole(self, hole: Hole) -> None:
        is_known = hole.number <= self.unkept.get(hole.sender, -1)
        if not is_known and hole.sender is not None:
            self.unkept[hole.sender] = hole.number
        after = hole.after if is_known and hole.after is not None else self.top
        self.hole = max(self.hole, min(after, self.top))

    def forget_what_is_old(self, history: History) -> None:
        now = time.time()
        while self.entries and (
            len(self.entries) > history.count or self.entries[0].time < now - history.age
        ):
            self.entries.popleft()
        while self.keys and next(iter(self.keys.values()))[2] < now:
            self.keys.popitem(last=False)

    def known(self, draft: Draft, is_retry: bool) -> Appended | None:
        """The existing place of the entry, or of one with its key."""
        if draft.key is not None and draft.key in self.keys:
            id, place, _ = self.keys[draft.key]
            return place if id == draft.id else place._replace(is_new=False)
        if is_retry:
            for kept in islice(reversed(self.entries), LOOK_BACK):
                if kept.id == draft.id:
                    return Appended(self.epoch, kept.offset)
        return None

    def reading(self, after: int | None, limit: int, state: bool) -> Reading:
        first = self.entries[0].offset if self.entries else self.top + 1
        start = len(self.entries) if after is None else max(0, min(after, self.top) + 1 - first)
        entries = tuple(islice(self.entries, start, start + limit))
        values = dict(self.state) if state else None
        return Reading(self.epoch, self.top, self.base, self.hole, first, entries, values)


class MemoryStore(Store):
    """The store in the memory of the process. All threads and event loops share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: OrderedDict[str, Life] = OrderedDict()

    async def append(
        self, group: str, kind: Kind, draft: Draft, *, is_retry: bool = False, hole: Hole | None = None
    ) -> Appended:
        history = history_of(kind)
        with self._lock:
            life = self._life(group)
            life.forget_what_is_old(history)
            known = life.known(draft, is_retry)
            if known is not None:
                return known
            if draft.field is not None:
                change_state(life.state, draft.field, draft.value, kind.state or State())
            if hole is not None:
                life.note_hole(hole)
            life.top += 1
            now = time.time()
            life.entries.append(Kept(life.top, draft.id, now, draft.content, draft.exclude, draft.key))
            place = Appended(life.epoch, life.top)
            if draft.key is not None:
                life.keys[draft.key] = (draft.id, place, now + history.age)
            life.forget_what_is_old(history)
            return place

    async def read(
        self, group: str, kind: Kind, after: int | None = None, limit: int = 0, state: bool = False
    ) -> Reading:
        with self._lock:
            life = self._life(group)
            life.forget_what_is_old(history_of(kind))
            return life.reading(after, limit, state)

    async def begin_epoch(self, group: str, kind: Kind, epoch: str, top: int) -> None:
        with self._lock:
            life = self._life(group)
            if life.epoch == epoch and life.top < top:
                life.begin_epoch()

    async def mark_hole(self, group: str, kind: Kind, epoch: str | None = None, hole: Hole = Hole()) -> None:
        with self._lock:
            life = self._life(group)
            if epoch in (None, life.epoch):
                life.note_hole(hole)

    async def clear(self, group: str, kind: Kind) -> None:
        with self._lock:
            life = self._life(group)
            life.entries.clear()
            life.state.clear()
            life.begin_epoch()

    def _life(self, group: str) -> Life:
        life = self._groups.get(group)
        if life is None:
            if len(self._groups) >= MAX_GROUPS:
                self._groups.popitem(last=False)
            life = self._groups[group] = Life()
        self._groups.move_to_end(group)
        return life


def change_state(state: dict[str, str], name: str, value: str | None, limits: State) -> None:
    """Set or remove a value; ValueError if the state would have too many keys or bytes."""
    if value is None:
        state.pop(name, None)
        return
    others = sum(len(key.encode()) + len(text.encode()) for key, text in state.items() if key != name)
    if name not in state and len(state) >= limits.keys:
        raise too_many_keys(limits)
    if others + len(name.encode()) + len(value.encode()) > limits.bytes:
        raise too_many_bytes(limits)
    state[name] = value


def too_many_keys(limits: State) -> ValueError:
    return ValueError(f"The state of the group would exceed {limits.keys} keys (`keys` of its kind).")


def too_many_bytes(limits: State) -> ValueError:
    return ValueError(f"The state of the group would exceed {limits.bytes} bytes (`bytes` of its kind).")
