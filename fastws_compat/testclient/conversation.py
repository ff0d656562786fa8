"""One run of an application in a portal, and the messages between it and the test."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import copy_context
from typing import Any

from fastws_compat.concurrency import is_cleaning
from fastws_compat.connections.registry import connections_of
from fastws_compat.testclient.portal import CANCEL_TIMEOUT, Portal
from fastws_compat.types import ASGIApp, Message, Scope

# How many seconds an application may run on after the end of its connection; more is an error.
DEFAULT_GRACE = 30.0
# An application that made no progress in this many turns of the loop is waiting for something outside it.
IDLE_TURNS = 3
# Added to a timeout in an async test.
BLOCKED = (
    "TestClient blocks the event loop of an async test while it waits, so nothing else ran in that loop: "
    "make the test a plain function, or use WebsocketCommunicator of channels.testing."
)


class Conversation:
    """Runs an application in a portal and exchanges messages between it and the test."""

    def __init__(self, portal: Portal, app: ASGIApp, scope: Scope) -> None:
        self.ended = False
        self.idle = False
        self.exception: BaseException | None = None
        self._portal = portal
        self._app = app
        self._scope = scope
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: deque[Message] = deque()
        self._receiving = 0
        self._last: str | None = None
        self._has_closed = False
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None
        portal.share_database()
        portal.loop.call_soon_threadsafe(self._start, context=copy_context())

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._finished)

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.exception = task.exception()
        elif not self._cancelled:
            self.exception = asyncio.CancelledError()
        self.ended = True
        self._portal.pump.wake()

    async def _receive(self) -> Message:
        self._receiving += 1
        self._update_idle()
        try:
            message = await self._inbox.get()
            self._last = message["type"]
        finally:
            self._receiving -= 1
            self._update_idle()
        return message

    def _update_idle(self) -> None:
        """Record whether the application is waiting for a message; only the loop's thread can know."""
        self.idle = self._receiving > 0 and self._inbox.empty()
        if self.idle:
            self._portal.pump.wake()

    def _deliver(self, message: Message) -> None:
        self._inbox.put_nowait(message)
        self._update_idle()

    async def _send(self, message: Message) -> None:
        if self.ended:
            raise OSError("The test has closed this connection.")
        await asyncio.sleep(0)  # an application that only sends must not block the loop
        self._has_closed = self._has_closed or _ends_connection(message)
        self._portal.loop.call_soon_threadsafe(self._publish, message)

    def _publish(self, message: Message) -> None:
        """Make a message visible to the test. The loop calls this once the application waits for something.

        By then the application has done everything between this message and that wait.
        """
        self._outbox.append(message)
        self._portal.pump.wake()

    def put(self, message: Message) -> None:
        """Send a message to the application, unless it has ended."""
        if not self.ended:
            self._portal.loop.call_soon_threadsafe(self._deliver, message)

    def get(self, expected: str, timeout: float | None) -> Message | None:
        """The application's next message, or None if it has returned; raises its exception if it failed."""
        self._portal.pump.run_until(lambda: bool(self._outbox) or self.ended, timeout)
        if self._outbox:
            return self._outbox.popleft()
        if self.exception is not None:
            raise self.exception
        if self.ended:
            return None
        state = "is waiting for a message from the test" if self.idle else "is still running"
        blocked = "" if self._portal.sync_executor is None else f" {BLOCKED}"
        raise TimeoutError(f"{self} sent no {expected} within {timeout} s and {state}.{blocked}")

    def wait_settled(self) -> None:
        """Wait until the application has received every message or is waiting for something else."""
        turns, state = 0, None
        while self._portal.turn() and turns < IDLE_TURNS and not (self.ended or self.idle):
            before, state = state, (self._inbox.qsize(), self._portal.pump.performed)
            turns = turns + 1 if state == before else 0

    def finish(self, grace: float) -> bool:
        """Give the application `grace` seconds to end, then cancel it; at once if it waits for a message.

        Return False if it was still running when its time was over. Dependencies may always clean up.
        """
        pump = self._portal.pump
        in_time = not grace or pump.run_until(lambda: self.ended or self.idle, grace)
        if is_cleaning(self._task):
            in_time = pump.run_until(lambda: self.ended, DEFAULT_GRACE)
        if self.ended:
            return True
        self._portal.loop.call_soon_threadsafe(self._cancel)
        if not pump.run_until(lambda: self.ended, CANCEL_TIMEOUT):
            raise RuntimeError(f"{self} did not end within {CANCEL_TIMEOUT} s of being cancelled.")
        return in_time

    @property
    def knows_end(self) -> bool:
        """Whether the application closed the connection or received its disconnect."""
        return self._has_closed or (self._last == "websocket.disconnect" and not self._is_unaware)

    @property
    def _is_unaware(self) -> bool:
        """Whether the library received the disconnect and the endpoint has not seen it yet."""
        return any(session.is_unaware for session in connections_of(self._portal.loop, self._task))

    @property
    def route(self) -> Any:
        """The route that has taken the connection."""
        sockets = [each.websocket for each in connections_of(self._portal.loop, self._task)]
        scopes = [self._scope, *(socket.scope for socket in sockets if socket is not None)]
        return scopes[-1].get("route")

    def _cancel(self) -> None:
        assert self._task is not None
        self._cancelled = True
        self._task.cancel()

    def __str__(self) -> str:
        endpoint = self._scope.get("endpoint")
        name = getattr(endpoint, "__name__", type(endpoint).__name__)
        where = self._scope.get("path", self._scope["type"])
        return f"The application at {where}" + (f" (endpoint {name})" if endpoint is not None else "")


def _ends_connection(message: Message) -> bool:
    """Whether an application ends its connection with this message."""
    kind = message["type"]
    return kind == "websocket.close" or (
        kind == "websocket.http.response.body" and not message.get("more_body", False)
    )
