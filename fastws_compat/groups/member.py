"""Who takes part in groups: a socket, or somebody who only looks on."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator
from contextvars import copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from fastws_compat import conf
from fastws_compat.connections.closing import close_message
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.pipe import is_direct, mark_disconnected, passes
from fastws_compat.connections.states import CONNECTED, CONNECTING, DISCONNECTED, MEMBER, RESPONSE, SESSION
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.layers.client import counters
from fastws_compat.layers.wire import Close, Payload
from fastws_compat.logger import logger
from fastws_compat.types import Message, Send
from fastws_compat.websockets import WebSocket

if TYPE_CHECKING:
    from fastws_compat.groups.group import Group
    from fastws_compat.groups.hub import Hub

TRY_AGAIN_LATER = 1013
# How long a socket that is closed may take for what it was sent before.
PATIENCE = 1.0

_process = uuid4().hex[:16]
_numbers = count()


def new_id() -> str:
    """An id that no member in any process has."""
    return f"{_process}.{id(_numbers):x}.{next(_numbers)}"


class Server(Protocol):
    """A server that takes what goes to many sockets as one frame for all of them (daphne, completed)."""

    def frame_of(self, message: Message) -> bytes: ...

    def write_at_once(self, frame: bytes) -> bool: ...


class Delivery:
    """One message on its way to the members of a process, decoded and encoded once for all of them."""

    __slots__ = ("_written", "message", "payload")

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.message = payload.frame
        self._written: bytes | None = None

    def written(self, server: Server) -> bytes:
        """The frame of the message; a process has one kind of server."""
        if self._written is None:
            self._written = server.frame_of(self.message)
        return self._written


class Participant(Protocol):
    """What a hub knows of its members."""

    id: str

    def deliver(self, delivery: Delivery) -> None: ...

    def close(self, close: Close) -> None: ...


class Member:
    """A socket that joined groups; what they send never waits for it, and it never waits for others.

    What the server takes at once is simply sent; only while it makes the sender wait there is a task, and
    a bounded queue before it.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self.id = new_id()
        self.websocket = websocket
        self.joined: dict[Group, Hub] = {}
        self._queue: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self._complained = False
        # The way to the server, kept when the socket is closed over the endpoint's head.
        self._last: Send | None = None
        self._known: Send | None = None
        self._direct = False
        self._server: Server | None = None
        # What a middleware of the user sets for a connection is there when it sends for a group, too.
        self._context = copy_context()

    def deliver(self, delivery: Delivery) -> None:
        websocket = self.websocket
        if websocket.client_state is DISCONNECTED or websocket.application_state is DISCONNECTED:
            return
        if websocket.application_state is not CONNECTED:
            self._enqueue(delivery.message)
        elif self._task is None and not self._queue and self._is_direct(websocket._send):
            if not self._write(delivery):
                self._send_at_once(delivery.message)
        else:
            self._enqueue(delivery.message)
            self.flush()

    def flush(self) -> None:
        """Begin to send what waits; called when the socket is accepted, too."""
        if self._task is None and self._queue and self._may_send():
            self._begin(None)

    def close(self, close: Close) -> None:
        """Close the socket after what it was sent before; the endpoint is told at once."""
        websocket = self.websocket
        over = websocket.application_state in (RESPONSE, DISCONNECTED)
        if over or websocket.client_state is DISCONNECTED:
            return
        if websocket.application_state is CONNECTING:
            self._queue.clear()
        message = close_message(close.code, close.reason)
        self._last = mark_disconnected(websocket, {**message, "type": "websocket.disconnect"})
        self._queue.append(message)
        self.flush()
        asyncio.get_running_loop().call_later(PATIENCE, self._hurry)

    async def leave(self) -> None:
        """Leave every group, and let a close that was begun come to its end."""
        left = [(hub, group.name) for group, hub in self.joined.items() if hub.discard(group.name, self)]
        self.joined.clear()
        for hub, name in left:
            await hub.settle(name)
        if self._task is not None:
            if self._last is not None:
                await asyncio.wait([self._task], timeout=PATIENCE)
            self._last = None
            if self._task is not None:
                self._task.cancel()
        self._queue.clear()

    def _write(self, delivery: Delivery) -> bool:
        """Send as bytes, where the server can and no stage needs to see the message."""
        server = self._server
        if server is None or not passes(self.websocket):
            return False
        return server.write_at_once(delivery.written(server))

    def _send_at_once(self, message: Message) -> None:
        """Send without a task, as far as the server does not make us wait."""
        sending: Any = self.websocket._send(message)
        if not isinstance(sending, Coroutine):
            sending = _as_coroutine(sending)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            pass
        except Exception as exc:
            self._failed(exc)
        else:
            self._begin(_resume(sending, waits_for))

    def _begin(self, begun: Coroutine[Any, Any, None] | None) -> None:
        self._task = asyncio.get_running_loop().create_task(self._drain(begun), context=self._context)

    def _enqueue(self, message: Message) -> None:
        if len(self._queue) < conf.get("SLOW_CONSUMER_QUEUE"):
            self._queue.append(message)
            return
        close = conf.get("SLOW_CONSUMER") == "close"
        if not self._complained:
            self._complained = True
            route = getattr(self.websocket.scope.get("route"), "path", None)
            what = "is closed with 1013" if close else "misses messages of its groups"
            logger.warning("A client of WebSocket %s reads too slowly and %s", route, what)
        if close:
            counters["closed"] += 1
            self._queue.clear()
            self.close(Close(TRY_AGAIN_LATER, "reads too slowly"))
            self._hurry()
        else:
            counters["dropped"] += 1
            self._queue.popleft()
            self._queue.append(message)

    def _hurry(self) -> None:
        """The close was not sent yet: send nothing else any more."""
        if self._last is not None and self._queue:
            close = self._queue.pop()
            self._queue.clear()
            self._queue.append(close)
            if self._task is not None:
                self._task.cancel()

    async def _drain(self, begun: Coroutine[Any, Any, None] | None) -> None:
        """Finish the send that was begun, then send what waits."""
        try:
            if begun is not None:
                await begun
            while self._queue and self._may_send():
                send = self._last or self.websocket._send
                await send({**self._queue.popleft()})
        except Exception as exc:
            self._failed(exc)
        finally:
            self._task = None
            if self._last is not None:
                self.flush()
            elif not self._may_send():
                self._queue.clear()

    def _may_send(self) -> bool:
        if self._last is not None:
            return True
        websocket = self.websocket
        return websocket.application_state is CONNECTED and websocket.client_state is not DISCONNECTED

    def _is_direct(self, send: Send) -> bool:
        """Whether only the server and this library are behind `send`.

        Middleware may hold a timeout or a task group around its own, which wants a task of its own.
        """
        if send is not self._known:
            session: Session | None = self.websocket.scope.get(SESSION)
            self._known = send
            self._direct = session is not None and is_direct(self.websocket, session.server_send)
            server = getattr(session.server_send, "__self__", None) if session and self._direct else None
            self._server = server if hasattr(server, "write_at_once") else None
        return self._direct

    def _failed(self, exc: Exception) -> None:
        """The socket is broken or closed; its endpoint finds out for itself."""
        self._queue.clear()
        if not isinstance(exc, (OSError, RuntimeError)):
            logger.error("A message of a group could not be sent to a member", exc_info=for_log(exc))


@types.coroutine
def _resume(sending: Any, waits_for: Any) -> Generator[Any, Any, None]:
    """Go on, in a task, with a coroutine that was begun without one."""
    while True:
        try:
            value = yield waits_for
        except BaseException as exc:
            step, argument = sending.throw, exc
        else:
            step, argument = sending.send, value
        try:
            waits_for = step(argument)
        except StopIteration:
            return


async def _as_coroutine(awaitable: Any) -> None:
    await awaitable


def member_of(websocket: WebSocket[Any]) -> Member:
    """The socket's one Member; it leaves its groups when the session of the connection ends."""
    member: Member | None = websocket.scope.get(MEMBER)
    if member is None:
        member = websocket.scope[MEMBER] = Member(websocket)
        session: Session | None = websocket.scope.get(SESSION)
        if session is not None:
            session.at_end(member.leave)
    return member


class Listener:
    """Somebody who looks at the messages of a group; one who is too slow misses the oldest."""

    def __init__(self) -> None:
        self.id = new_id()
        self._queue: deque[Payload] = deque()
        self._arrived = asyncio.Event()
        self._complained = False

    def deliver(self, delivery: Delivery) -> None:
        if len(self._queue) >= conf.get("SLOW_CONSUMER_QUEUE"):
            counters["dropped"] += 1
            self._queue.popleft()
            if not self._complained:
                self._complained = True
                logger.warning("A subscriber of a group reads too slowly and misses messages")
        self._queue.append(delivery.payload)
        self._arrived.set()

    def close(self, close: Close) -> None:
        """A subscription is not a socket."""

    async def messages(self) -> AsyncIterator[Any]:
        """Every message, as it was sent (a model as a dict)."""
        while True:
            while self._queue:
                yield self._queue.popleft().value
            self._arrived.clear()
            await self._arrived.wait()
