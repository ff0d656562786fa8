"""The stored data of a group: its position, its history and its last values."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import async_to_sync

from fastws_compat.connections.jsontext import dumps, loads
from fastws_compat.exceptions import GroupStoreError
from fastws_compat.groups.entries import Entry, count_of
from fastws_compat.groups.kinds import kind_with
from fastws_compat.groups.positions import Position
from fastws_compat.groups.publishing import Route, deliver, draft_id, failure
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import Draft, StoreError, StoreRefused
from fastws_compat.layers.client import layer_of
from fastws_compat.layers.content import dump
from fastws_compat.layers.wire import Change, Payload, pack_change
from fastws_compat.logger import logger

T = TypeVar("T")

# Entries that are read in one call.
PAGE = 100
# A change of the state that has no effect.
NOTHING = Change('{"del":[]}')


class Keeping:
    """The part of `Group` that reads and changes what the group keeps.

    Every method raises GroupKindError, which says what to declare, if the kind of the group lacks it.
    """

    __slots__ = ()

    name: str
    layer: str
    # Both belong to `Group`: sending on the layer, and the keys of the wire format that every message has.
    _asend: Callable[[dict[str, Any]], Awaitable[None]]
    _extra: Callable[[Any], dict[str, Any]]

    async def aposition(self) -> str:
        """The position after the newest message, for a page; "" if the store is unavailable.

        Read it before the data that the page shows.
        """
        kind = kind_with(self.name, "history")
        try:
            head = await store_of(self.layer).head(self.name, kind)
        except StoreError:
            return ""
        return str(Position(head.epoch, head.top))

    def position(self) -> str:
        """Like `aposition`, for sync code."""
        return self._run("position", self.aposition)

    async def ahistory(self, after: int = 0, limit: int | None = None) -> list[Entry]:
        """The kept messages after an offset, oldest first: all of them, or the first `limit`.

        Raises ValueError if one of these is negative, and GroupStoreError if the store fails.
        """
        kind = kind_with(self.name, "history")
        found: list[Entry] = []
        after, limit = count_of(after, "after"), None if limit is None else count_of(limit, "limit")
        with self._reading():
            while limit is None or len(found) < limit:
                reading = await store_of(self.layer).read(self.name, kind, after, PAGE)
                found += [
                    Entry(entry.offset, entry.moment, message)
                    for entry in reading.entries
                    if isinstance(entry.content, Payload)
                    for message in self._messages(entry.content)
                ]
                if not reading.entries or reading.entries[-1].offset >= reading.top:
                    break
                after = reading.entries[-1].offset
        return found[:limit]

    def history(self, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Like `ahistory`, for sync code."""
        return self._run("history", self.ahistory, after, limit)

    async def aset(self, key: str, value: Any) -> None:
        """Set the value of a key, and send the change to every member.

        Raises ValueError if the state would exceed the limits of its kind, and GroupSendError if the store
        fails.
        """
        await self._change(key, dump(value))

    def set(self, key: str, value: Any) -> None:
        """Like `aset`, for sync code."""
        self._run("set", self._change, key, dump(value))

    def set_on_commit(self, key: str, value: Any, using: str | None = None) -> None:
        """Like `set`, after the current transaction has been committed."""
        refuse_running_loop("set_on_commit", "aset")
        kind_with(self.name, "state")
        _check_key(key)
        self._on_commit(partial(self._change, key, dump(value)), using)

    async def aunset(self, key: str) -> None:
        """Remove the value of a key, and send the change to every member."""
        await self._change(key, None)

    def unset(self, key: str) -> None:
        """Like `aunset`, for sync code."""
        self._run("unset", self.aunset, key)

    async def astate(self) -> dict[str, Any]:
        """The last values by key. GroupStoreError if the store fails."""
        kind = kind_with(self.name, "state")
        with self._reading():
            reading = await store_of(self.layer).read(self.name, kind, state=True)
        return {key: loads(value) for key, value in (reading.state or {}).items()}

    def state(self) -> dict[str, Any]:
        """Like `astate`, for sync code."""
        return self._run("state", self.astate)

    async def aclear(self) -> None:
        """Delete the history and the state; members are notified that they may have missed something."""
        kind, store = kind_with(self.name, "history"), store_of(self.layer)
        with self._reading():
            await store.clear(self.name, kind)
            head = await store.head(self.name, kind)
        # Members must learn of the new epoch. The offset is that of no entry, though some may follow already.
        place = {"epoch": head.epoch, "offset": head.base}
        await self._asend(pack_change(self.name, NOTHING, {**self._extra(None), **place}))

    def clear(self) -> None:
        """Like `aclear`, for sync code."""
        self._run("clear", self.aclear)

    async def _change(self, key: str, value: str | None) -> None:
        """Set a value, given as JSON text, or remove it."""
        kind = kind_with(self.name, "state")
        _check_key(key)
        extra = self._extra(None)
        change = _change(key, value)
        draft = Draft(draft_id(extra), change, field=key, value=value)
        try:
            await deliver(self._route(partial(pack_change, self.name, change)), kind, draft, extra)
        except StoreRefused as exc:
            raise failure(self.layer, self.name, exc) from exc

    def _route(self, pack: Callable[[dict[str, Any]], dict[str, Any]]) -> Route:
        return Route(self.layer, self.name, pack, self._asend)

    def _messages(self, payload: Payload) -> list[Any]:
        """The message in a payload, unless it is none of this group."""
        return [payload.value]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except StoreError as exc:
            raise GroupStoreError(f"The store of {self!r} does not answer: {exc}") from exc

    def _run(self, name: str, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run the async form of a method for sync code."""
        refuse_running_loop(name, f"a{name}")
        result: T = async_to_sync(work)(*arguments)
        return result

    def _on_commit(self, work: Callable[[], Awaitable[Any]], using: str | None) -> None:
        from django.db import transaction

        layer_of(self.layer)  # fail now, while the traceback shows the caller
        transaction.on_commit(partial(self._run_or_log, work), using=using, robust=True)

    def _run_or_log(self, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            async_to_sync(work)()
        except Exception as exc:
            logger.error("A message to %r could not be sent after the commit: %s", self, exc)


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"The key of a value must be a str, not {key!r}.")
    key.encode()  # raises for a lone surrogate, as for a value


def _change(key: str, value: str | None) -> Change:
    """The change that sets a key to a value, given as JSON text, or removes it."""
    if value is None:
        return Change(f'{{"del":[{dumps(key)}]}}')
    return Change(f'{{"set":{{{dumps(key)}:{value}}}}}')


def refuse_running_loop(method: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"Group.{method}() cannot be called from async code: use `await group.{instead}(...)`."
    )
