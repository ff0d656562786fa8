"""The stage between a socket and the server that closes the socket when its login ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, ClassVar, Protocol

from fastws_compat.connections.closing import close_message
from fastws_compat.connections.interrupt import Interrupt
from fastws_compat.connections.outcomes import By, Reason
from fastws_compat.connections.pipe import Place, Socket, Stage, look_again, pipe_of
from fastws_compat.connections.states import (
    CONNECTED,
    CONNECTING,
    MEMBER,
    RESPONSE,
    WebSocketDisconnect,
    WebSocketState,
    disconnect_message,
    raised_by,
)
from fastws_compat.logger import logger
from fastws_compat.logins.judge import LOGGED_OUT, Claim, Condition
from fastws_compat.logins.session_names import session_digest
from fastws_compat.logins.tenants import Location
from fastws_compat.types import Message

_lock = threading.Lock()


class Connection(Protocol):
    """The connection of a socket, as its login sees it."""

    begun: float

    @property
    def state(self) -> WebSocketState: ...

    @property
    def extra(self) -> dict[str, Any]: ...

    def mark_closed(self) -> None: ...

    def note_close(self, code: int, by: By) -> None: ...

    def note_refusal(self, status: int, reason: Reason = ...) -> None: ...

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None: ...


class Login(Stage):
    """One open socket and the login that it depends on.

    After the login has ended, the endpoint receives nothing more from the client and cannot send.
    """

    place: ClassVar[Place] = Place.LOGIN

    # Most logins change few of these attributes, so the others stay in the class.
    conditions: tuple[Condition, ...] = ()
    # The close code and reason, once the login has ended.
    ended: tuple[int, str] | None = None
    _state_at_end = CONNECTING
    _holds = 0
    # Set when the socket is no longer held; only a socket whose client sends meanwhile needs it.
    _released: asyncio.Event | None = None
    _close_task: asyncio.Task[None] | None = None
    # The messages that arrived while the socket was held, if the calls that had received them were cancelled.
    _kept: tuple[Message, ...] = ()

    def __init__(
        self,
        websocket: Socket,
        connection: Connection,
        user_id: str,
        session_key: str | None = None,
        session_name: str | None = None,
        location: Location = Location(),
    ) -> None:
        self.user_id = user_id
        self.session_key = session_key
        self.digest = session_digest(session_name) if session_name else None
        self.location = location
        self.loop = asyncio.get_running_loop()
        # Middleware of the project may store the current tenant in it.
        self.context = copy_context()
        self._socket = websocket
        self._connection = connection
        self._interrupt = Interrupt()
        pipe_of(websocket).insert(self)

    @property
    def passes(self) -> bool:
        return self.ended is None

    @property
    def claim(self) -> Claim:
        return Claim(self.user_id, self.session_key, self.conditions, self.location.using, self.context)

    def require(self, condition: Condition) -> None:
        """Require the user to meet `condition` for as long as the socket is open."""
        if condition not in self.conditions:
            self.conditions = *self.conditions, condition

    async def receive(self) -> Message:
        message, was_kept = None, bool(self._kept)
        if self.ended is None:
            if was_kept:
                message, self._kept = self._kept[0], self._kept[1:]
            else:
                message = await self._interrupt.wait(self._receive)
            while self._holds and self.ended is None:
                pending: Message | None = self._socket._pending_disconnect
                if pending is not None:
                    return pending
                if self._released is None or self._released.is_set():  # else another task waits for it too
                    self._released = asyncio.Event()
                try:
                    await self._interrupt.wait(self._released.wait)
                except asyncio.CancelledError:
                    # For the next call: only this one is given up.
                    own = () if message is None else (message,)
                    self._kept = own + self._kept if was_kept else self._kept + own
                    raise
        if self.ended is None and message is not None:
            return message
        code, reason = self.ended or (LOGGED_OUT, "")
        if self._socket.client_state is CONNECTING:
            raise raised_by(self._socket, WebSocketDisconnect(code, reason))
        return disconnect_message(code, reason)

    async def send(self, message: Message) -> None:
        if self.ended is None:
            await self._send(message)
        elif message["type"] != "websocket.close":  # the endpoint may close a socket that is closing
            raise raised_by(self._socket, WebSocketDisconnect(*self.ended))

    def end(self, code: int, reason: str) -> None:
        """End the login, from any thread. From here on the endpoint receives nothing from the client."""
        with _lock:
            if self.ended is not None:
                return
            self.ended = (code, reason)
            self._state_at_end = self._connection.state
            if self._state_at_end is not RESPONSE:
                if self._state_at_end is CONNECTING:
                    self._connection.note_refusal(403, "login")
                self._connection.note_close(code, "server")
                self._connection.mark_closed()
                look_again(self._socket)
        call_in_loop(self.loop, self.context, self._hang_up)

    def _hang_up(self) -> None:
        if self._close_task is None:
            self._close_task = self.loop.create_task(self._send_close())
            self._interrupt.fire()
            if (member := self._socket.scope.get(MEMBER)) is not None:
                code, _ = self.ended or (LOGGED_OUT, "")
                member.expel(code)

    async def _send_close(self) -> None:
        if self.ended is None or self._state_at_end not in (CONNECTING, CONNECTED):
            return
        code, reason = self.ended
        extra = {**self._connection.extra, "code": code}
        logger.info("WebSocket %s: the login ended; closed with %d", extra["route"], code, extra=extra)
        try:
            await self._send(close_message(code, reason))
        except Exception as exc:
            logger.debug("The client left before its login ended (%r)", exc)

    async def wait_closed(self) -> None:
        """Wait until the close frame is sent, if the login has ended."""
        if self.ended is not None:
            self._hang_up()
        if self._close_task is not None:
            await self._close_task

    def cut(self) -> None:
        if self._released is not None:
            self._released.set()

    def hold(self) -> None:
        """Hold back what the client sends until `release`, while the login is being checked."""
        with _lock:
            self._holds += 1

    def release(self) -> None:
        with _lock:
            self._holds -= 1
        if not self._holds:
            self.cut()


def call_in_loop(loop: asyncio.AbstractEventLoop, context: Context, callback: Callable[[], None]) -> None:
    """Call `callback` in the loop, from any thread; a closed loop has no sockets left.

    `context` is not the caller's, in which asgiref keeps the thread for the sync code of one request.
    """
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, context=context)
