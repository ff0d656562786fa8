"""A group is what sockets join: whoever sends to it reaches all of them, in every process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync

from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.states import MEMBER, SESSION
from fastws_compat.exceptions import GroupNameError
from fastws_compat.groups.hub import Hub, home_of, hub_of
from fastws_compat.groups.member import Listener, Member, member_of
from fastws_compat.layers.client import DEFAULT, group_send, is_bound_to_loop, layer_of
from fastws_compat.layers.sequence import Numbering
from fastws_compat.layers.wire import Close, Payload, encode, pack, pack_close
from fastws_compat.logger import logger
from fastws_compat.websockets import WebSocket, WebSocketDisconnected, WebSocketState

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

# Channels' rule for names of groups.
NAME = re.compile(r"[a-zA-Z0-9\-_.]{1,99}", re.ASCII)

_numbering = Numbering()


class Group:
    """Everybody who joined a name. A Group itself is only the name: make one wherever you need it.

    Raises GroupNameError for a name that Channels would not take. With `type`, consumers of plain Channels
    in the group get what is sent as messages of that type. `layer` is an alias of `CHANNEL_LAYERS`.
    """

    __slots__ = ("layer", "name", "type")

    def __init__(self, name: str, *, type: str | None = None, layer: str = DEFAULT) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise GroupNameError(
                f"{name!r} cannot name a group: use 1 to 99 ASCII letters, digits, hyphens, underscores "
                "and periods."
            )
        self.name = name
        self.type = type
        self.layer = layer

    @classmethod
    def for_user(cls, user: AbstractBaseUser) -> Group:
        """The group for all sockets of a user, once they have joined it."""
        if user.pk is None:
            raise GroupNameError(f"{user} has no group: only a saved user has one.")
        from fastws_compat.logins.tenants import tenant_of

        if tenant := tenant_of(user):
            return cls(f"fastws.tenant.{sha256(f'{tenant} {user.pk}'.encode()).hexdigest()}")
        name = f"fastws.user.{user.pk}"
        if not NAME.fullmatch(name):  # not every key is a number or a UUID
            name = f"fastws.user.{sha256(str(user.pk).encode()).hexdigest()}"
        return cls(name)

    @classmethod
    def everyone(cls) -> Group:
        """One group for the whole project, of the sockets that have joined it."""
        return cls("fastws.everyone")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and (self.name, self.layer) == (other.name, other.layer)

    def __hash__(self) -> int:
        return hash((self.name, self.layer))

    def __repr__(self) -> str:
        return f"Group({self.name!r})"

    async def asend(self, message: Any, exclude: WebSocket[Any] | None = None) -> None:
        """Send to every member: a dict, list, pydantic model or dataclass as JSON, a `str` as text, `bytes`.

        Raises TypeError for what may not be sent, such as a model instance of Django, and GroupSendError if
        the channel layer fails or does not answer in time.
        """
        await self._send_encoded(message, encode(message), exclude)

    async def _send_encoded(
        self, message: Any, payload: Payload, exclude: WebSocket[Any] | None = None
    ) -> None:
        await self._asend(pack(self.name, payload, self.type, self._extra(exclude)))
        for observer in observers:
            observer(Sent(self, message, payload))

    def send(self, message: Any, exclude: WebSocket[Any] | None = None) -> None:
        """As `asend`, for sync code: views, signal handlers, management commands, tasks, the shell."""
        _refuse_running_loop("send", "asend")
        # Encoded here, in the caller's thread: a computed field of a model may query the database.
        async_to_sync(self._send_encoded)(message, encode(message), exclude)

    def send_on_commit(self, message: Any, using: str | None = None) -> None:
        """Send once the transaction is committed; now, if there is none; never, if it is rolled back.

        `using` is the database's alias. A layer that fails is logged and harms no transaction.
        """
        from django.db import transaction

        _refuse_running_loop("send_on_commit", "asend")
        layer_of(self.layer)  # what cannot be sent fails here, where its traceback says why
        payload = encode(message)
        transaction.on_commit(partial(self._send_or_log, message, payload), using=using, robust=True)

    async def adisconnect(
        self, code: int = 1000, reason: str = "", exclude: WebSocket[Any] | None = None
    ) -> None:
        """Close the sockets of all members, in every process; their endpoints see WebSocketDisconnect.

        Raises ValueError for a code that cannot be sent; the reason is cut at 123 bytes.
        """
        close = Close(close_code(code), close_reason(reason))
        await self._asend(pack_close(self.name, close, self._extra(exclude)))

    def disconnect(self, code: int = 1000, reason: str = "", exclude: WebSocket[Any] | None = None) -> None:
        """As `adisconnect`, for sync code."""
        _refuse_running_loop("disconnect", "adisconnect")
        async_to_sync(self.adisconnect)(code, reason, exclude)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Any]]:
        """Iterate over what the group is sent, from here to the end of the block (models come as dicts)."""
        listener, hub = Listener(), hub_of(self.layer)
        try:
            hub.add(self.name, listener)
            await hub.settle(self.name)
            yield listener.messages()
        finally:
            if hub.discard(self.name, listener):
                await hub.settle(self.name)

    async def _asend(self, message: dict[str, Any]) -> None:
        layer = layer_of(self.layer)
        call = group_send(self.layer, self.name, layer.group_send(self.name, message))
        home = home_of(layer) if is_bound_to_loop(layer) else None
        if home is None or home is asyncio.get_running_loop():
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, home))

    def _send_or_log(self, message: Any, payload: Payload) -> None:
        try:
            async_to_sync(self._send_encoded)(message, payload)
        except Exception as exc:
            logger.error("%r could not be sent a message after the commit: %s", self, exc)

    def _extra(self, exclude: WebSocket[Any] | None) -> dict[str, Any]:
        extra = _numbering.next(self.layer, self.name)
        member = None if exclude is None else exclude.scope.get(MEMBER)
        return extra if member is None else {**extra, "exclude": member.id}


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent to a group."""

    group: Group
    message: Any
    payload: Payload


# Called with each Sent, in whichever thread it was sent.
observers: list[Callable[[Sent], None]] = []


@contextmanager
def record() -> Iterator[list[Sent]]:
    """The list of what this process sends to groups, while the block runs."""
    sent: list[Sent] = []
    observer = sent.append
    observers.append(observer)
    try:
        yield sent
    finally:
        observers.remove(observer)


async def join(websocket: WebSocket[Any], *groups: Group | str) -> None:
    """Let a socket have what the groups are sent; it leaves them when its connection ends."""
    if _is_over(websocket):
        raise WebSocketDisconnected("A socket cannot join a group after it was closed.")
    member = member_of(websocket)
    hubs = [(group, member.joined.setdefault(group, hub_of(group.layer))) for group in map(_group, groups)]
    for group, hub in hubs:
        hub.add(group.name, member)
    for group, hub in hubs:
        await hub.settle(group.name)


async def leave(websocket: WebSocket[Any], *groups: Group | str) -> None:
    """Take a socket out of groups; not to be in one is no mistake."""
    hubs = [(group, discard(websocket, group)) for group in map(_group, groups)]
    for group, hub in hubs:
        if hub is not None:
            await hub.settle(group.name)


def discard(websocket: WebSocket[Any], group: Group) -> Hub | None:
    """As `leave`, without waiting until the layer knows; the hub of the group, if the socket was in it."""
    member: Member | None = websocket.scope.get(MEMBER)
    hub = None if member is None else member.joined.pop(group, None)
    if member is not None and hub is not None:
        hub.discard(group.name, member)
    return hub


def _is_over(websocket: WebSocket[Any]) -> bool:
    """Whether nobody would take the socket out of a group again."""
    session: Session | None = websocket.scope.get(SESSION)
    left = session is not None and session.leaving
    return left or websocket.application_state is WebSocketState.DISCONNECTED


def _group(group: Group | str) -> Group:
    return group if isinstance(group, Group) else Group(group)


def _refuse_running_loop(method: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"Group.{method}() cannot be called in async code: write `await group.{instead}(...)`."
    )
