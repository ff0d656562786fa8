"""A group is a name that sockets join: a message to it reaches all of them, in every process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

from asgiref.sync import async_to_sync

from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.pipe import Socket
from fastws_compat.connections.states import MEMBER, SESSION, WebSocketDisconnected
from fastws_compat.exceptions import GroupNameError
from fastws_compat.groups.attendance import Attendance, attendance_of, count, people, presence_key_of
from fastws_compat.groups.hub import Hub, hub_of, loop_of
from fastws_compat.groups.kinds import kind_of
from fastws_compat.groups.member import Member, has_ended, member_of
from fastws_compat.groups.positions import claims_of
from fastws_compat.groups.roster import Person
from fastws_compat.groups.subscriber import Subscriber
from fastws_compat.layers.client import DEFAULT, group_send, is_bound_to_loop, layer_of
from fastws_compat.layers.sequence import Numbering
from fastws_compat.layers.wire import Close, Payload, encode, pack, pack_close
from fastws_compat.logger import logger

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from typing_extensions import TypeVar

    from fastws_compat.messages.outgoing import Outgoing

    MessageT = TypeVar("MessageT", default=Any)
else:
    from typing import TypeVar

    MessageT = TypeVar("MessageT")

# Channels' rule for group names.
NAME = re.compile(r"[a-zA-Z0-9\-_.]{1,99}", re.ASCII)

_numbering = Numbering()


class Group(Generic[MessageT]):
    """The sockets that have joined a name. A Group is only the name: create one wherever you need it.

    Raises GroupNameError for a name that Channels would not accept. With `type`, plain Channels consumers in
    the group receive what is sent as messages of that type. `layer` is an alias of `CHANNEL_LAYERS`.
    `Group[Said | Typing]` takes messages of these types; others raise ResponseValidationError.
    """

    __slots__ = ("layer", "name", "type")

    # The types of the messages; None if the group takes any.
    outgoing: ClassVar[Outgoing | None] = None
    # Turns a message into the payload of its frame.
    _encode: ClassVar[Any] = staticmethod(encode)

    def __class_getitem__(cls, form: Any) -> Any:
        if cls.outgoing is not None:
            raise TypeError(f"{cls.__name__} has its messages already.")
        from fastws_compat.groups.typed import typed_group

        return typed_group(cls, form)

    def __init__(self, name: str, *, type: str | None = None, layer: str = DEFAULT) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise GroupNameError(
                f"{name!r} is not a valid group name: use 1 to 99 ASCII letters, digits, hyphens, "
                "underscores and periods."
            )
        self.name = name
        self.type = type
        self.layer = layer

    @classmethod
    def for_user(cls, user: AbstractBaseUser) -> Self:
        """The group for the sockets of one user; each has to join it."""
        if user.pk is None:
            raise GroupNameError(f"{user} has no group until the user has been saved.")
        from fastws_compat.logins.tenants import tenant_of

        if tenant := tenant_of(user):
            return cls(f"fastws.tenant.{sha256(f'{tenant} {user.pk}'.encode()).hexdigest()}")
        name = f"fastws.user.{user.pk}"
        if not NAME.fullmatch(name):  # a primary key may be any text
            name = f"fastws.user.{sha256(str(user.pk).encode()).hexdigest()}"
        return cls(name)

    @classmethod
    def everyone(cls) -> Self:
        """The group for the sockets of the whole project; each has to join it."""
        return cls("fastws.everyone")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and (self.name, self.layer) == (other.name, other.layer)

    def __hash__(self) -> int:
        return hash((self.name, self.layer))

    def __repr__(self) -> str:
        return f"Group({self.name!r})"

    async def asend(self, message: MessageT, exclude: Socket | None = None) -> None:
        """Send a dict, list, pydantic model or dataclass (as JSON), a `str` or `bytes` to every member.

        Raises TypeError for a message that cannot be sent, such as a Django model instance, and
        GroupSendError if the channel layer fails or times out.
        """
        await self._send_encoded(message, self._encode(message), exclude)

    async def _send_encoded(self, message: Any, payload: Payload, exclude: Socket | None = None) -> None:
        await self._asend(pack(self.name, payload, self.type, self._extra(exclude)))
        for observer in observers:
            observer(Sent(self, message, payload))

    def send(self, message: MessageT, exclude: Socket | None = None) -> None:
        """Like `asend`, for sync code: views, signal handlers, management commands, tasks, the shell."""
        _refuse_running_loop("send", "asend")
        # Encode in the caller's thread: a computed field of a model may query the database.
        async_to_sync(self._send_encoded)(message, self._encode(message), exclude)

    def send_on_commit(self, message: MessageT, using: str | None = None) -> None:
        """Send after the current transaction has been committed, or now if there is no transaction.

        After a rollback nothing is sent. `using` is the database's alias. If the layer fails, the failure is
        logged and the caller sees no exception.
        """
        from django.db import transaction

        _refuse_running_loop("send_on_commit", "asend")
        layer_of(self.layer)  # fail now, while the traceback shows the caller
        payload = self._encode(message)
        transaction.on_commit(partial(self._send_or_log, message, payload), using=using, robust=True)

    async def adisconnect(self, code: int = 1000, reason: str = "", exclude: Socket | None = None) -> None:
        """Close the sockets of all members, in every process; their endpoints see WebSocketDisconnect.

        Raises ValueError for a code that cannot be sent. The reason is truncated to 123 bytes.
        """
        close = Close(close_code(code), close_reason(reason))
        await self._asend(pack_close(self.name, close, self._extra(exclude)))

    def disconnect(self, code: int = 1000, reason: str = "", exclude: Socket | None = None) -> None:
        """Like `adisconnect`, for sync code."""
        _refuse_running_loop("disconnect", "adisconnect")
        async_to_sync(self.adisconnect)(code, reason, exclude)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[MessageT]]:
        """Iterate over the messages sent to the group while the block runs; models come as dicts."""
        subscriber, hub = Subscriber(), hub_of(self.layer)
        try:
            hub.add(self.name, subscriber)
            await hub.wait_synced(self.name)
            yield self._read(subscriber)
        finally:
            if hub.discard(self.name, subscriber):
                await hub.wait_synced(self.name)

    async def apresence(self) -> list[Person]:
        """Who is present, in the order in which they have come. Raises StoreError if the store fails."""
        return await people(self.layer, self.name)

    def presence(self) -> list[Person]:
        """Like `apresence`, for sync code."""
        _refuse_running_loop("presence", "apresence")
        return async_to_sync(self.apresence)()

    async def acount(self) -> int:
        """How many are present. Raises StoreError if the store fails."""
        return await count(self.layer, self.name)

    def count(self) -> int:
        """Like `acount`, for sync code."""
        _refuse_running_loop("count", "acount")
        return async_to_sync(self.acount)()

    def _read(self, subscriber: Subscriber) -> AsyncIterator[MessageT]:
        return subscriber.messages()

    async def _asend(self, message: dict[str, Any]) -> None:
        layer = layer_of(self.layer)
        call = group_send(self.layer, self.name, layer.group_send(self.name, message))
        loop = loop_of(layer) if is_bound_to_loop(layer) else None
        if loop is None or loop is asyncio.get_running_loop():
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, loop))

    def _send_or_log(self, message: Any, payload: Payload) -> None:
        try:
            async_to_sync(self._send_encoded)(message, payload)
        except Exception as exc:
            logger.error("A message to %r could not be sent after the commit: %s", self, exc)

    def _extra(self, exclude: Socket | None) -> dict[str, Any]:
        extra = _numbering.next(self.layer, self.name)
        member = None if exclude is None else exclude.scope.get(MEMBER)
        return extra if member is None else {**extra, "exclude": member.id}


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent to a group."""

    group: Group[Any]
    message: Any
    payload: Payload


# Called with each Sent, in the thread that sent it.
observers: list[Callable[[Sent], None]] = []


@contextmanager
def record() -> Iterator[list[Sent]]:
    """A list that collects what this process sends to groups while the block runs."""
    sent: list[Sent] = []
    observer = sent.append
    observers.append(observer)
    try:
        yield sent
    finally:
        observers.remove(observer)


async def join(
    websocket: Socket,
    *groups: Group[Any] | str,
    presence: Any = None,
    presence_key: str | None = None,
    watch: bool = False,
) -> None:
    """Add a socket to groups; it leaves them when its connection ends.

    Raises WebSocketDisconnected if the socket has been closed.
    """
    if has_ended(websocket):
        raise WebSocketDisconnected("A socket cannot join a group after it has been closed.")
    member = member_of(websocket)
    hubs = [(group, _join(member, group)) for group in map(_group, groups)]
    for group, hub in hubs:
        hub.add(group.name, member)
    for group, hub in hubs:
        await hub.wait_synced(group.name)
    if presence is not None or watch:
        for group, _ in hubs:
            await _attend(websocket, member, group, presence, presence_key)


async def _attend(websocket: Socket, member: Member, group: Group, info: Any, key: str | None) -> None:
    """Make a member present, if there is an info, and have it see who is."""
    attendance, session = attendance_of(group.layer), websocket.scope.get(SESSION)
    if session is not None and not attendance.knows(member.id):
        session.at_end(partial(_end_attendance, websocket, member, attendance))
    if info is not None:
        key = presence_key_of(websocket.scope.get("user"), member.id) if key is None else key
        await attendance.enter(member.id, group.name, key, info)
    if (claims := claims_of(websocket.scope.get("query_string", b""))) is not None:
        await attendance.watch(member.id, group.name)
        attendance.show(member, group.name, claims.of(group.name).version)


async def _end_attendance(websocket: Socket, member: Member, attendance: Attendance) -> None:
    attendance.end(member.id, websocket._end_code)


async def update(websocket: Socket, group: Group[Any] | str, info: Any) -> None:
    """Give a socket that is present in a group another info; RuntimeError if it is not present."""
    group, member = _group(group), member_of(websocket)
    await attendance_of(group.layer).update(member.id, group.name, info)


def _join(member: Member, group: Group) -> Hub:
    return member.joined.setdefault((group.layer, group.name), hub_of(group.layer))


async def leave(websocket: Socket, *groups: Group | str) -> None:
    """Remove a socket from groups; those that it has not joined are ignored."""
    hubs = [(group, discard(websocket, group)) for group in map(_group, groups)]
    for group, hub in hubs:
        if hub is not None:
            await hub.wait_synced(group.name)


def discard(websocket: Socket, group: Group) -> Hub | None:
    """Like `leave`, but does not wait for the layer. Returns the group's hub if the socket was a member."""
    member: Member | None = websocket.scope.get(MEMBER)
    hub = None if member is None else member.joined.pop((group.layer, group.name), None)
    if member is not None and hub is not None:
        hub.discard(group.name, member)
        if kind_of(group.name) is not None:
            attendance_of(group.layer).leave(member.id, group.name)
    return hub


def _group(group: Group | str) -> Group:
    return group if isinstance(group, Group) else Group(group)


def _refuse_running_loop(method: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"Group.{method}() cannot be called from async code: use `await group.{instead}(...)`."
    )
