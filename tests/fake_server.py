"""A fake ASGI server: one connection, whose server side the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]

TIMEOUT = 20
CONNECT: Message = {"type": "websocket.connect"}
DENIAL: dict[str, Any] = {"websocket.http.response": {}}


def text(data: str) -> Message:
    return {"type": "websocket.receive", "text": data}


def binary(data: bytes) -> Message:
    return {"type": "websocket.receive", "bytes": data}


def disconnect(code: int | None = 1001, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def websocket_scope(path: str = "/ws", **values: Any) -> dict[str, Any]:
    return {"type": "websocket", "path": path, "headers": [], "query_string": b"", **values}


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.002)


class FakeServer:
    """The `receive` and `send` of one connection.

    `receive` returns the incoming messages in order, raises those that are exceptions, and blocks if none
    are left. `send` records each message in `sent`. First it raises `error` if there is one, and
    awaits `on_send` with the message; an exception of `on_send` propagates.
    """

    def __init__(
        self,
        *incoming: Message | Exception,
        error: Exception | None = None,
        on_send: Callable[[Message], Awaitable[None]] | None = None,
    ) -> None:
        self.incoming = list(incoming)
        self.sent: list[Message] = []
        self.error = error
        self.on_send = on_send
        # The number of calls of `receive` that are blocked or about to return.
        self.receiving = 0
        self.task: asyncio.Task[None] | None = None
        self._returned = 0
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()

    async def receive(self) -> Message:
        self.receiving += 1
        try:
            while not self.incoming:
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self.receiving -= 1
        message = self.incoming.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)
        self._changed.set()

    def start(self, app: Any, scope: dict[str, Any] | None = None) -> asyncio.Task[None]:
        """Run the connection of `scope` in a task."""
        scope = websocket_scope() if scope is None else scope
        self.task = asyncio.create_task(app(scope, self.receive, self.send))
        return self.task

    async def wait_ended(self) -> None:
        """Wait until the application returns; raises its exception."""
        assert self.task is not None
        await asyncio.wait_for(self.task, TIMEOUT)

    # The client's side

    def put(self, message: Message | Exception) -> None:
        self.incoming.append(message)
        self._arrived.set()

    def say(self, data: str) -> None:
        self.put(text(data))

    def hang_up(self, code: int = 1001, reason: str = "") -> None:
        self.put(disconnect(code, reason))

    async def leave(self) -> None:
        """Hang up, and wait until the application returns."""
        self.hang_up()
        await self.wait_ended()

    # The messages of the application

    async def frame(self) -> Message:
        """The next message that neither `frame` nor `take` has returned yet."""
        await self._until(lambda: len(self.sent) > self._returned)
        self._returned += 1
        return self.sent[self._returned - 1]

    async def text(self) -> str:
        data: str = (await self.frame())["text"]
        return data

    def take(self) -> list[Message]:
        """All messages that neither `frame` nor `take` has returned yet."""
        taken = self.sent[self._returned :]
        self._returned = len(self.sent)
        return taken

    async def wait_sent(self, kind: str) -> None:
        """Wait until a message of this type has been sent."""
        await self._until(lambda: kind in self.types)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]

    @property
    def closes(self) -> list[int]:
        return [message["code"] for message in self.sent if message["type"] == "websocket.close"]


class Dam:
    """A server's `send` that blocks while the dam is closed."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, message: Any) -> None:
        if message["type"] == "websocket.send":
            await self.open.wait()


def connected(
    app: Any,
    *incoming: Message | Exception,
    path: str = "/ws",
    on_send: Callable[[Message], Awaitable[None]] | None = None,
    **scope: Any,
) -> FakeServer:
    """Start a connection in the running loop."""
    server = FakeServer(CONNECT, *incoming, on_send=on_send)
    server.start(app, websocket_scope(path, **scope))
    return server


def converse(
    app: Any,
    *incoming: Message | Exception,
    on_send: Callable[[Message], Awaitable[None]] | None = None,
    **scope: Any,
) -> list[Message]:
    """The messages that an application sends in one connection: connect, then `incoming`, then nothing."""
    return asyncio.run(aconverse(app, *incoming, on_send=on_send, **scope))


async def aconverse(
    app: Any,
    *incoming: Message | Exception,
    on_send: Callable[[Message], Awaitable[None]] | None = None,
    **scope: Any,
) -> list[Message]:
    """Like `converse`, in the running loop."""
    server = connected(app, *incoming, on_send=on_send, **scope)
    await server.wait_ended()
    return server.sent
