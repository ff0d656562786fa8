"""A group is a name that sockets join: a message to it reaches all of them, in every process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

from asgiref.sync import async_to_sync

from fastws_compat.connections import hooks
from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.pipe import Socket
from fastws_compat.connections.states import MEMBER
from fastws_compat.exceptions import GroupNameError
from fastws_compat.groups.arrivals import Arrival, Joined, Wish, arrive, listen
from fastws_compat.groups.attendance import Attended, attend, attendance_of
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.entries import count_of, key_text, text_frame
from fastws_compat.groups.hub import Hub, hub_of, loop_of, tell
from fastws_compat.groups.keeping import Keeping, refuse_running_loop
from fastws_compat.groups.kinds import Kind, kind_of, kind_with
from fastws_compat.groups.member import Member, member_of, own_id, refuse_ended
from fastws_compat.groups.publisher import sending
from fastws_compat.groups.publishing import publish
from fastws_compat.groups.subscriber import Subscriber
from fastws_compat.layers.client import DEFAULT, group_send, is_bound_to_loop, layer_of
from fastws_compat.layers.content import dump
from fastws_compat.layers.sequence import Numbering
from fastws_compat.layers.wire import Close, Payload, encode, pack, pack_close

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


class Group(Keeping, Attended, Generic[MessageT]):
    """The sockets that have joined a name. A Group is only the name: create one wherever you need it.

    Raises GroupNameError for a name that Channels would not accept. With `type`, plain Channels consumers in
    the group receive what is sent as messages of that type. `layer` is an alias of `CHANNEL_LAYERS`.
    `Group[Said | Typing]` takes messages of these types; others raise ResponseValidationError.
    """

    __slots__ = ("layer", "name", "type")

    #: The types of the messages; None if the group takes any.
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
        #: The name that sockets join.
        self.name = name
        #: The `type` of messages to plain Channels consumers; None if there are none.
        self.type = type
        #: The alias of the channel layer.
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

    async def asend(self, message: MessageT, exclude: Socket | None = None, key: str | None = None) -> bool:
        """Send a dict, list, pydantic model or dataclass (as JSON), a `str` or `bytes` to every member.

        Returns False if a message with the same `key` has been sent and the history still remembers it.
        Raises TypeError for a message that cannot be sent, such as a Django model instance, GroupSendError
        if the channel layer fails or times out, and GroupKindError for a key in a group without a history.
        """
        return await self._send_encoded(message, self._encode(message), exclude, key)

    async def _send_encoded(
        self, message: Any, payload: Payload, exclude: Socket | None = None, key: str | None = None
    ) -> bool:
        if (kind := kind_of(self.name)) is None and key is None:
            await self._asend(pack(self.name, payload, self.type, self._extra(exclude)))
        elif not await self._publish(kind, payload, exclude, key):
            self._confirm(key_text(key))
            return False
        for observer in observers:
            observer(Sent(self, message, payload))
        return True

    def _confirm(self, key: str) -> None:
        """Tell the client that sends this that its key is known: the message itself may never reach it."""
        tell(self.layer, self.name, own_id.get(), Frame(text_frame("message", group=self.name, key=key)))

    async def _publish(
        self, kind: Kind | None, payload: Payload, exclude: Socket | None, key: str | None
    ) -> bool:
        """Send to a group that may have a history."""
        if key is not None:
            kind = kind_with(self.name, "history")
            key = key_text(key)
        extra = self._extra(exclude)
        if kind is not None and kind.history is not None:
            route = self._route(partial(pack, self.name, payload, self.type))
            return await publish(route, kind, payload, extra, key)
        await self._asend(pack(self.name, payload, self.type, extra))
        return True

    def send(self, message: MessageT, exclude: Socket | None = None, key: str | None = None) -> bool:
        """Like `asend`, for sync code: views, signal handlers, management commands, tasks, the shell."""
        refuse_running_loop("send", "asend")
        # Encode in the caller's thread: a computed field of a model may query the database.
        return bool(async_to_sync(self._send_encoded)(message, self._encode(message), exclude, key))

    def send_on_commit(
        self,
        message: MessageT,
        using: str | None = None,
        *,
        exclude: Socket | None = None,
        key: str | None = None,
    ) -> None:
        """Send after the current transaction has been committed, or now if there is no transaction.

        After a rollback nothing is sent. `using` is the database's alias. If the layer fails, the failure is
        logged and the caller sees no exception.
        """
        refuse_running_loop("send_on_commit", "asend")
        if key is not None:
            kind_with(self.name, "history")
            key = key_text(key)
        send = partial(self._send_encoded, message, self._encode(message), exclude, key)
        self._on_commit(send, using)

    async def adisconnect(self, code: int = 1000, reason: str = "", exclude: Socket | None = None) -> None:
        """Close the sockets of all members, in every process; their endpoints see WebSocketDisconnect.

        Raises ValueError for a code that cannot be sent. The reason is truncated to 123 bytes.
        """
        close = Close(close_code(code), close_reason(reason))
        await self._asend(pack_close(self.name, close, self._extra(exclude)))

    def disconnect(self, code: int = 1000, reason: str = "", exclude: Socket | None = None) -> None:
        """Like `adisconnect`, for sync code."""
        refuse_running_loop("disconnect", "adisconnect")
        async_to_sync(self.adisconnect)(code, reason, exclude)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[MessageT]]:
        """Iterate over the messages sent to the group while the block runs; models come as dicts."""
        subscriber, hub = Subscriber(), hub_of(self.layer)
        kind = kind_of(self.name)
        try:
            if kind is None or kind.history is None:
                hub.add(self.name, subscriber)
                await hub.wait_synced(self.name)
            else:
                await listen(hub, self.name, kind, subscriber)
            yield self._read(subscriber)
        finally:
            if hub.discard(self.name, subscriber):
                await hub.wait_synced(self.name)

    def _read(self, subscriber: Subscriber) -> AsyncIterator[MessageT]:
        return subscriber.messages()

    async def _asend(self, message: dict[str, Any]) -> None:
        layer = layer_of(self.layer)
        call = group_send(self.layer, self.name, sending(layer, self.name, message))
        if hooks.sending is not None:
            call = hooks.wrapped(hooks.sending, call, self.layer, self.name, message)
        loop = loop_of(layer) if is_bound_to_loop(layer) else None
        if loop is None or loop is asyncio.get_running_loop():
            await call
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, loop))

    def _extra(self, exclude: Socket | None) -> dict[str, Any]:
        extra = _numbering.next(self.layer, self.name)
        member = None if exclude is None else exclude.scope.get(MEMBER)
        return extra if member is None else {**extra, "exclude": member.id}


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent to a group."""

    #: The group that it was sent to.
    group: Group[Any]
    #: The message as it was passed to the group.
    message: Any
    #: The content of the frame that members receive.
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
    recover: str | Literal[False] | None = None,
    since: datetime | None = None,
    last: int = 0,
    presence: Any = None,
    presence_key: str | None = None,
    watch: bool = False,
) -> Joined:
    """Add a socket to groups; it leaves them when its connection ends.

    Raises WebSocketDisconnected if the socket has been closed, WebSocketDisconnect if its login has ended,
    ValueError if `last` is negative, TypeError if `since` is not a datetime, and GroupNameError for a group
    that keeps something if the socket is in a group of that name on another layer.
    """
    refuse_ended(websocket)
    wanted = list(dict.fromkeys(map(_group, groups)))
    presence_key = None if presence_key is None else key_text(presence_key)
    wish = Wish(recover, _moment(since), count_of(last, "last"))
    info = None if presence is None else dump(presence)
    if info is not None or watch:
        for group in wanted:
            kind_with(group.name, "presence")
    member = member_of(websocket)
    kinds = {group: kind for group in wanted if (kind := kind_of(group.name)) is not None}
    _refuse_namesakes(member, kinds)
    hubs = [(group, _join(member, group)) for group in wanted]
    arrivals = []
    for group, hub in hubs:
        if group in kinds:
            arrivals.append(Arrival(member, hub, group.name, kinds[group], wish))
        hub.add(group.name, member)
    found = dict.fromkeys([group.name for group, _ in hubs])
    try:
        for group, hub in hubs:
            await hub.wait_synced(group.name)
        joined = Joined(await arrive(arrivals, found) if arrivals else found)
    except BaseException:
        for arrival in arrivals:
            arrival.give_up()
        raise
    if info is not None or watch:
        for group, _ in hubs:
            await attend(member, group.layer, group.name, info, presence_key)
    return joined


async def update(websocket: Socket, group: Group[Any] | str, info: Any) -> None:
    """Replace the info of a socket that is present in a group; RuntimeError if it is not present."""
    group, member = _group(group), member_of(websocket)
    if member.is_closed:
        return  # the endpoint has not noticed yet, and nobody sees the user any more
    await attendance_of(group.layer).update(member.id, group.name, dump(info))


def _refuse_namesakes(member: Member, groups: Iterable[Group]) -> None:
    """A client tells groups that keep something apart by their names, and has one position for each."""
    aliases: dict[str, str] = {}
    for group in groups:
        aliases = aliases or {name: alias for alias, name in member.joined}
        if (alias := aliases.setdefault(group.name, group.layer)) != group.layer:
            raise GroupNameError(
                f"The socket cannot join {group.name!r} on layer {group.layer!r}, because it joins a group "
                f"of this name on layer {alias!r}: groups that keep something need different names."
            )


def _moment(since: datetime | None) -> datetime | None:
    """The moment with its time zone, which is the server's if none is given."""
    if since is None:
        return None
    if not isinstance(since, datetime):  # such as the value of a DateField
        raise TypeError(f"join(since=...) takes a datetime, not a {type(since).__name__}.")
    return since if since.tzinfo is not None else since.astimezone()


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
        member.leaving(group.name, hub)
        hub.discard(group.name, member)
        if kind_of(group.name) is not None:
            attendance_of(group.layer).leave(member.id, group.name)
            member.tell(Frame(text_frame("left", group=group.name)))
    return hub


def _group(group: Group | str) -> Group:
    return group if isinstance(group, Group) else Group(group)
