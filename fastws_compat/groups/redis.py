"""The store on Redis. Each of its steps is one script, so entries and positions always agree."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from hashlib import sha1
from typing import Any

from fastws_compat.groups.entries import Kept
from fastws_compat.groups.kinds import Kind, State
from fastws_compat.groups.servers import RUN_ID, Call, Servers, script
from fastws_compat.groups.stores import (
    Appended,
    Draft,
    Hole,
    Reading,
    Store,
    StoreError,
    history_of,
    new_epoch,
    too_many_bytes,
    too_many_keys,
)
from fastws_compat.layers.wire import Change, Payload

DAY = 86_400
# The maximum number of groups whose heads are read in one call, and by one run of the script.
BATCH = 500
PAGE = 50
# The type of an entry in the stream.
CODES = {"json": "j", "text": "t", "bytes": "b"}
KINDS: dict[str, Any] = {code: kind for kind, code in CODES.items()}
CHANGE = "c"


class RedisStore(Store):
    """The store on the servers of a channel layer. `crypter` encrypts the content of messages."""

    def __init__(self, servers: Servers, crypter: Any = None) -> None:
        self.servers = servers
        self.crypter = crypter
        # The keys of a group.
        self._keys = lru_cache(maxsize=1_000)(self._keys_of)

    async def append(
        self, group: str, kind: Kind, draft: Draft, *, is_retry: bool = False, hole: Hole | None = None
    ) -> Appended:
        reply = await self.servers.run(group, self._append(group, kind, draft, is_retry, hole))
        epoch, *place = _text(reply).split()
        if not place:
            limits = kind.state
            assert limits is not None
            raise too_many_keys(limits) if epoch == "keys" else too_many_bytes(limits)
        offset, is_new = map(int, place)
        return Appended(epoch, offset, bool(is_new))

    def _append(self, group: str, kind: Kind, draft: Draft, is_retry: bool, hole: Hole | None) -> Call:
        history, keys, content = history_of(kind), self._keys(group), draft.content
        if draft.key is not None:
            keys = (*keys, self.servers.key(group, f"k:{sha1(draft.key.encode()).hexdigest()}"))
        code = CHANGE if isinstance(content, Change) else CODES[content.kind]
        channel = "" if draft.copy is None else self.servers.place(group)
        age = _milliseconds(history.age)
        constants = (history.count, age, ttl(kind), code, channel, int(is_retry), _name(hole), RUN_ID)
        arguments = [new_epoch(), draft.id, self.seal(content.data), *(draft.copy or ())]
        if draft.exclude or draft.key is not None or draft.field is not None:
            arguments += [""] * (6 - len(arguments)) + [draft.exclude or "", draft.key or ""]
        if draft.field is not None and kind.state is not None:
            arguments += self._state(kind.state, draft)
        return Call(script("append"), keys, arguments, constants)

    def _state(self, limits: State, draft: Draft) -> list[Any]:
        value = "" if draft.value is None else self.seal(draft.value)
        return [draft.field, value, limits.keys, limits.bytes]

    async def read(
        self, group: str, kind: Kind, after: int | None = None, limit: int = 0, state: bool = False
    ) -> Reading:
        reading = self._reading(await self.servers.run(group, self._read(group, kind, after, limit, state)))
        return reading if state else reading._replace(state=None)

    def _read(
        self, group: str, kind: Kind, after: int | None = None, limit: int = 0, state: bool = False
    ) -> Call:
        age = _milliseconds(history_of(kind).age)
        wanted = [after or 0, 0 if after is None else limit, age, ttl(kind), int(state)]
        return Call(script("read"), self._keys(group), [new_epoch(), RUN_ID, *wanted])

    def _reading(self, reply: Any) -> Reading:
        from msgpack import unpackb

        return self._reading_of(unpackb(reply, raw=True))

    def _reading_of(self, fields: list[Any]) -> Reading:
        epoch, top, base, hole, first, entries, state = fields
        kept = tuple(self._kept(_text(id), fields) for id, fields in entries)
        values = dict(zip(map(_text, state[::2]), map(self._open_text, state[1::2]), strict=True))
        return Reading(_text(epoch), top, base, hole, first, kept, values)

    def _kept(self, id: str, fields: list[bytes]) -> Kept:
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        code, data = _text(found[b"k"]), self.open(found[b"d"])
        content: Payload | Change
        if code == CHANGE:
            content = Change(data.decode())
        else:
            content = Payload(KINDS[code], data if code == CODES["bytes"] else data.decode())
        exclude, key = found.get(b"x"), found.get(b"y")
        return Kept(
            int(id.partition("-")[0]),
            _text(found[b"i"]),
            int(found[b"t"]) / 1000,
            content,
            None if exclude is None else _text(exclude),
            None if key is None else _text(key),
        )

    async def heads(self, groups: dict[str, Kind]) -> dict[str, Reading]:
        by_place: dict[tuple[int, Kind], list[str]] = defaultdict(list)
        for group, kind in groups.items():
            by_place[self.servers.index(group), kind].append(group)
        found: dict[str, Reading] = {}
        for (index, kind), names in by_place.items():
            for start in range(0, len(names), BATCH):
                found |= await self._heads(index, kind, names[start : start + BATCH])
        return found

    async def _heads(self, index: int, kind: Kind, groups: list[str]) -> dict[str, Reading]:
        """The heads of groups of one kind on one server, without those that cannot be read."""
        from msgpack import unpackb

        pages = [groups[at : at + PAGE] for at in range(0, len(groups), PAGE)]
        wanted = [new_epoch(), RUN_ID, 0, 0, _milliseconds(history_of(kind).age), ttl(kind), "several"]
        keys = [[key for name in page for key in self._keys(name)] for page in pages]
        replies = await self.servers.run_all(index, [Call(script("read"), each, wanted) for each in keys])
        answered = [found for found in zip(pages, replies, strict=True) if isinstance(found[1], bytes)]
        return {
            name: self._reading_of(fields)
            for page, reply in answered
            for name, fields in zip(page, unpackb(reply, raw=True), strict=True)
            if fields
        }

    async def begin_epoch(self, group: str, kind: Kind, epoch: str, top: int) -> None:
        await self._mark(group, kind, "epoch", epoch, top)

    async def mark_hole(self, group: str, kind: Kind, epoch: str | None = None, hole: Hole = Hole()) -> None:
        after = "" if hole.after is None else hole.after
        await self._mark(group, kind, "hole", epoch or "", 0, _name(hole), after)

    async def clear(self, group: str, kind: Kind) -> None:
        await self._mark(group, kind, "clear")

    async def _mark(
        self, group: str, kind: Kind, what: str, epoch: str = "", top: int = 0, *hole: str | int
    ) -> None:
        arguments = [new_epoch(), RUN_ID, what, epoch, top, ttl(kind), *hole]
        await self.servers.run(group, Call(script("mark"), self._keys(group), arguments))

    def _keys_of(self, group: str) -> tuple[str, ...]:
        return tuple(self.servers.key(group, part) for part in ("m", "s", "st"))

    def seal(self, data: str | bytes) -> bytes:
        """The data as it is stored: encrypted if the layer encrypts its messages."""
        plain = data.encode() if isinstance(data, str) else data
        return plain if self.crypter is None else bytes(self.crypter.encrypt(plain))

    def open(self, data: bytes) -> bytes:
        """What `seal` was given, as bytes; StoreError if the layer cannot decrypt it."""
        if self.crypter is None:
            return data
        try:
            return bytes(self.crypter.decrypt(data))
        except Exception as exc:  # a crypter may raise anything
            raise StoreError(f"it has data that cannot be decrypted ({type(exc).__name__})") from exc

    def _open_text(self, data: bytes) -> str:
        return self.open(data).decode()


def ttl(kind: Kind) -> int:
    """Seconds after which an unused group expires in Redis."""
    return max(DAY, int(10 * history_of(kind).age))


def _name(hole: Hole | None) -> str:
    """A hole as the scripts take it: "" for none, "-" for one without a sender."""
    if hole is None:
        return ""
    return "-" if hole.sender is None else f"{hole.sender}.{hole.number}"


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _text(data: bytes | str) -> str:
    return data if isinstance(data, str) else data.decode()
