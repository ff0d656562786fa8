"""A socket as a member of groups."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from contextvars import ContextVar, copy_context
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Protocol

from fastws_compat import conf
from fastws_compat.connections.closing import close_message
from fastws_compat.connections.outcomes import Closed
from fastws_compat.connections.outlet import Outlet, form_of
from fastws_compat.connections.pipe import ENDED, Socket, is_direct, mark_disconnected, passes
from fastws_compat.connections.states import (
    CONNECTED,
    CONNECTING,
    DISCONNECTED,
    MEMBER,
    RESPONSE,
    SESSION,
    WebSocketDisconnect,
    WebSocketDisconnected,
    WebSocketState,
)
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.groups.delivery import Delivery, Frame, FrameServer, new_id
from fastws_compat.groups.hub import Hub
from fastws_compat.groups.positions import NO_CLAIM, Claim, Claims, claims_of
from fastws_compat.layers.client import counters
from fastws_compat.layers.wire import Close
from fastws_compat.logger import logger
from fastws_compat.types import Send

TRY_AGAIN_LATER = 1013
# The id of the member whose connection this task or thread belongs to, if its client is `live.js`.
own_id: ContextVar[str] = ContextVar("fastws_compat.own_id", default="")
# Seconds that a socket which is being closed has to send what was queued before the close.
CLOSE_TIMEOUT = 1.0


class Session(Protocol):
    """The lifecycle of a connection as its member sees it."""

    server_send: Send
    # Whether the endpoint has returned.
    leaving: bool

    @property
    def state(self) -> WebSocketState: ...

    @property
    def closed(self) -> Closed: ...

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None: ...


class Member(Outlet):
    """A socket that has joined groups. A slow member delays neither the sender nor other members.

    A message that the server takes without waiting is sent in the hub's task. While the server makes the
    member wait, further messages are queued, up to a limit, and sent by the member's own task.
    """

    server: FrameServer | None
    # Whether the client is `live.js`, which understands envelopes.
    is_ours = False
    # Whether the client says that it has been connected before.
    has_returned = False
    # Set when the socket is accepted; None if nothing waits for that.
    _accepted: asyncio.Event | None = None
    _postponed: tuple[asyncio.Task[None], ...] = ()
    # Whether the connection has been closed while its endpoint may still be running.
    is_closed = False
    # Called with the close code when that happens.
    on_close: tuple[Callable[[int | None], None], ...] = ()

    def __init__(self, websocket: Socket) -> None:
        super().__init__()
        self.id = new_id()
        self.websocket = websocket
        # The hubs of its groups, by the layer's alias and the group's name.
        self.joined: dict[tuple[str, str], Hub] = {}
        self._queue: deque[Frame] = deque()
        self._task: asyncio.Task[None] | None = None
        self._has_warned = False
        # Leads to the client after a group has closed the socket on the endpoint's behalf.
        self._close_send: Send | None = None
        # What `_is_direct` has found out about this `send`.
        self._known_send: Send | None = None
        self._direct = False
        # Group messages are sent with the context variables that middleware has set for the connection.
        self._context = copy_context()

    def tell(self, frame: Frame) -> None:
        """Do nothing: the client would mistake the frame for a message."""

    @property
    def ids(self) -> Collection[str]:
        """The id of this connection, and those of earlier ones if the client names them."""
        return (self.id,)

    def claim(self, group: str) -> Claim:
        """What the client says about a group."""
        return NO_CLAIM

    def close_reason(self, reason: str) -> str:
        """The reason for a close after which the client may reconnect."""
        return reason

    def forget(self, layer: str, group: str) -> None:
        """Note that the member is no longer in a group of a layer."""
        self.joined.pop((layer, group), None)

    def leaving(self, group: str, hub: Hub) -> None:
        """Note the position that the member has reached in a group, if it may recover from there."""

    def put(self, frame: Frame) -> None:
        """Queue a frame behind what is queued already, unless the socket is being closed."""
        if self._close_send is None:
            self._enqueue(frame)
            self.flush()

    async def send(self, frame: Frame) -> None:
        """Send a frame, unless the socket is closed, and wait while the client reads too slowly."""
        if self._close_send is not None or not self._may_send():
            return
        if self._task is None and not self._queue and self._is_direct(self.websocket._send):
            self._send_at_once(frame)
        else:
            self.put(frame)
        if self._task is not None:  # what is sent meanwhile stays behind it
            await asyncio.wait([self._task])

    def deliver(self, delivery: Frame) -> None:
        websocket = self.websocket
        if websocket.client_state is DISCONNECTED or websocket.application_state is DISCONNECTED:
            return
        if websocket.application_state is not CONNECTED:
            self._enqueue(delivery)
        elif self._task is None and not self._queue and self._is_direct(websocket._send):
            if self._write_frame(delivery):
                self._get_ready()
            else:
                self._send_at_once(delivery)
        else:
            self._enqueue(delivery)
            self.flush()

    @property
    def is_connecting(self) -> bool:
        """Whether the endpoint has neither accepted nor refused the socket."""
        return self.websocket.application_state is CONNECTING

    def after_accept(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do something in a task of its own, once the socket has been accepted."""
        self._accepted = self._accepted or asyncio.Event()
        waiting = _after(self._accepted, work)
        task = asyncio.get_running_loop().create_task(waiting, context=self._context)
        self._postponed = (*self._postponed, task)
        return task

    def flush(self) -> None:
        """Start to send the queue. Also called when the socket has been accepted."""
        if self._accepted is not None and self._may_send():
            self._accepted.set()
        if self._task is None and self._queue and self._may_send():
            self._start_task(None)

    def close(self, close: Close) -> None:
        """Close the socket after the queued messages; the endpoint sees the disconnect at once."""
        websocket = self.websocket
        over = websocket.application_state in (RESPONSE, DISCONNECTED)
        if over or websocket.client_state is DISCONNECTED:
            return
        if websocket.application_state is CONNECTING:
            self._queue.clear()
        message = close_message(close.code, close.reason)
        self._close_send = mark_disconnected(websocket, {**message, "type": "websocket.disconnect"}, "server")
        self._queue.append(Frame(message))
        self.flush()
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._skip_to_close)

    async def leave(self) -> None:
        """Leave every group; a close that has been started gets `CLOSE_TIMEOUT` to finish."""
        for hub, name in self._leave_all():
            await hub.wait_synced(name)
        if self._task is not None:
            if self._close_send is not None:
                await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT)
            self._close_send = None
            if self._task is not None:
                self._task.cancel()
        self._queue.clear()
        # Its scope refers to the member, which would be left to the garbage collector.
        self.websocket = ENDED

    def _leave_all(self) -> list[tuple[Hub, str]]:
        """Leave every group; returns those of which the layer has to be updated."""
        stale = [(hub, name) for (_, name), hub in self.joined.items() if hub.discard(name, self)]
        self.joined.clear()
        for task in self._postponed:
            task.cancel()
        return stale

    def expel(self, code: int) -> None:
        """The login has ended: leave every group at once, even if the endpoint does not notice it."""
        self._leave_all()
        self._queue.clear()
        self.note_close(code)

    def note_close(self, code: int | None) -> None:
        """The connection has been closed, although its endpoint may still be running."""
        self.is_closed = True
        self.socket = None
        for callback in self.on_close:
            callback(code)

    def _write_frame(self, delivery: Frame) -> bool:
        """Write the shared frame, if the server can do that and no stage needs to see the message."""
        server = self.server
        if server is None or not passes(self.websocket):
            return False
        return server.write_at_once(delivery.frame(server.frame_of), delivery.size)

    def _get_ready(self) -> None:
        """Have further messages written without these checks until the server or a stage asks for them."""
        server = self.server
        assert server is not None
        self.form = form_of(self.is_ours, server.frame_of)
        server.lend(self)
        if not passes(self.websocket):  # another thread has ended the login meanwhile
            self.socket = None

    def _send_at_once(self, frame: Frame) -> None:
        """Send in the current task; a task is created only if the server makes us wait."""
        server = self.server
        sending: Any
        try:
            if server is None or not passes(self.websocket):
                sending = self.websocket._send(frame.message)
            else:  # the frame is shared, although this member has to wait
                sending = server.write_in_turn(frame.frame(server.frame_of), frame.size)
            if not isinstance(sending, Coroutine):
                sending = _as_coroutine(sending)
            waits_for = sending.send(None)
        except StopIteration:
            pass
        except Exception as exc:
            self._send_failed(exc)
        else:
            self._start_task(_resume(sending, waits_for))

    def _start_task(self, started: Coroutine[Any, Any, None] | None) -> None:
        self.socket = None
        drain = self._drain(started)
        self._task = asyncio.get_running_loop().create_task(drain, context=self._context)

    def _enqueue(self, frame: Frame) -> None:
        if len(self._queue) < conf.get("SLOW_CONSUMER_QUEUE"):
            self._queue.append(frame)
            return
        close = self.is_ours or conf.get("SLOW_CONSUMER") == "close"
        self._warn_once("is closed with 1013" if close else "misses messages of its groups")
        if close:
            counters["closed"] += 1
            self._queue.clear()
            self.close(Close(TRY_AGAIN_LATER, self.close_reason("reads too slowly")))
            self._skip_to_close()
        else:
            counters["dropped"] += 1
            self._queue.popleft()
            self._queue.append(frame)

    def _warn_once(self, consequence: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            route = getattr(self.websocket.scope.get("route"), "path", None)
            logger.warning("The client of WebSocket %s reads too slowly and %s", route, consequence)

    def _skip_to_close(self) -> None:
        """Drop what is queued before the close, and the send that is waiting."""
        if self._close_send is not None and self._queue:
            close = self._queue.pop()
            self._queue.clear()
            self._queue.append(close)
            if self._task is not None and _has_begun(self._task):
                self._task.cancel()
            elif self._task is not None:
                # Cancelled now, it would end without its cleanup, which sends the close.
                asyncio.get_running_loop().call_soon(self._skip_to_close)

    async def _drain(self, started: Coroutine[Any, Any, None] | None) -> None:
        """Finish the send that was started, then send the queue."""
        try:
            if started is not None:
                await started
            while self._queue and self._may_send():
                await self._send_next(self._queue.popleft())
        except Exception as exc:
            self._send_failed(exc)
        finally:
            self._task = None
            if self._close_send is not None:
                self.flush()
            elif not self._may_send():
                self._queue.clear()

    async def _send_next(self, frame: Frame) -> None:
        send = self._close_send or self.websocket._send
        server = self.server if self._close_send is None and self._is_direct(send) else None
        if server is None or not passes(self.websocket):
            await send({**frame.message})
        else:
            await server.write_in_turn(frame.frame(server.frame_of), frame.size)

    def _may_send(self) -> bool:
        if self._close_send is not None:
            return True
        websocket = self.websocket
        return websocket.application_state is CONNECTED and websocket.client_state is not DISCONNECTED

    def _is_direct(self, send: Send) -> bool:
        """Whether only this library and the server run in `send`.

        Other middleware may hold a timeout or a task group around its own `send`, which must run in a task
        of its own.
        """
        if send is not self._known_send:
            session: Session | None = self.websocket.scope.get(SESSION)
            self._known_send = send
            self._direct = session is not None and is_direct(self.websocket, session.server_send)
            server = getattr(session.server_send, "__self__", None) if session and self._direct else None
            self.server = server if getattr(server, "shares_frames", False) else None
        return self._direct

    def _send_failed(self, exc: Exception) -> None:
        """Drop the queue. The endpoint finds out by itself that the connection is lost or closed."""
        self._queue.clear()
        if not isinstance(exc, (OSError, RuntimeError, WebSocketDisconnect)):
            logger.error("A group message could not be sent to a member", exc_info=for_log(exc))


class LiveMember(Member):
    """A member whose client is `live.js`: it gets envelopes, and its URL contains its last positions."""

    is_ours = True

    def __init__(self, websocket: Socket, claims: Claims) -> None:
        super().__init__(websocket)
        self._claims = claims
        self._ids = claims.ids | {self.id}
        own_id.set(self.id)
        self.has_returned = bool(claims.ids)

    def deliver(self, delivery: Frame) -> None:
        super().deliver(delivery.envelope if isinstance(delivery, Delivery) else delivery)

    def tell(self, frame: Frame) -> None:
        super().deliver(frame)

    @property
    def ids(self) -> Collection[str]:
        return self._ids

    def claim(self, group: str) -> Claim:
        return self._claims.of(group)

    def leaving(self, group: str, hub: Hub) -> None:
        if (claim := self._claims.groups.get(group)) is not None:
            # It has received more than its URL says, and must not get that again if it comes back.
            feed = hub.feeds.get(group)
            reached = claim.position if feed is None else feed.position_of(self.id) or claim.position
            lacks_values = feed is not None and feed.owes_values_to(self.id)
            self._claims.groups[group] = Claim(None if lacks_values else reached, None)

    def close_reason(self, reason: str) -> str:
        """The reason, with the seconds over which clients spread their reconnects."""
        return f"{reason}; {spread()}"


def spread() -> str:
    """The part of a close reason that tells clients of `live.js` over how many seconds to reconnect."""
    return f"spread={conf.get('RECONNECT_SPREAD')}"


@types.coroutine
def _resume(sending: Any, waits_for: Any) -> Generator[Any, Any, None]:
    """Continue, in a task, a coroutine that was started without one."""
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


def _has_begun(task: asyncio.Task[None]) -> bool:
    coroutine: Any = task.get_coro()
    return getcoroutinestate(coroutine) != CORO_CREATED


async def _after(event: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
    await event.wait()
    await work()


async def _as_coroutine(awaitable: Any) -> None:
    await awaitable


def member_of(websocket: Socket) -> Member:
    """The socket's one Member. It leaves its groups when the connection ends."""
    member: Member | None = websocket.scope.get(MEMBER)
    if member is None:
        claims = claims_of(websocket.scope.get("query_string", b""))
        member = Member(websocket) if claims is None else LiveMember(websocket, claims)
        websocket.scope[MEMBER] = member
        session: Session | None = websocket.scope.get(SESSION)
        if session is not None:
            session.at_end(member.leave)
    return member


def refuse_ended(websocket: Socket) -> None:
    """Raise if it is too late to join a group: nothing would remove the socket from it again.

    WebSocketDisconnect if the connection was closed on the endpoint's behalf, because its login has ended.
    """
    session: Session | None = websocket.scope.get(SESSION)
    if websocket.application_state is DISCONNECTED or (session is not None and session.leaving):
        raise WebSocketDisconnected("A socket cannot join a group after it has been closed.")
    if session is not None and session.state is DISCONNECTED:
        raise WebSocketDisconnect(session.closed[0])
