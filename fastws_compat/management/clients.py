"""The connection that `ws_connect` opens: over the network, or to the application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.types import ASGIApp, Message

Headers = list[tuple[str, str]]
Content = str | bytes

# The maximum time for a handshake, and for the application to end, in seconds.
OPEN_TIMEOUT, CLOSE_TIMEOUT = 10, 5


@dataclass(frozen=True, slots=True)
class Target:
    """The address to connect to, and the headers of the handshake."""

    # "ws://example.com/ws/rooms/lobby", as the server sees it.
    url: str
    # The host and the port that are connected to.
    address: tuple[str, int]
    headers: Headers
    subprotocols: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the handshake."""

    status: int
    headers: Headers
    body: str = ""


class Closed(Exception):
    """The connection has been closed."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class Client(Protocol):
    """One connection. `open` raises OSError if there is no answer; `receive` raises Closed at the end."""

    async def open(self, target: Target) -> Answer: ...

    async def receive(self) -> Content: ...

    async def send(self, content: Content) -> None: ...

    async def ping(self) -> float | None: ...

    async def close(self, code: int, reason: str) -> None: ...


class NetworkClient:
    """A connection to a server, with the package `websockets`."""

    def __init__(self) -> None:
        self._connection: Any = None

    async def open(self, target: Target) -> Answer:
        import websockets
        from websockets.asyncio.client import connect

        headers, origin = _without_origin(target.headers)
        try:
            self._connection = await connect(
                target.url,
                host=target.address[0],
                port=target.address[1],
                additional_headers=headers,
                origin=origin,  # type: ignore[arg-type]
                subprotocols=target.subprotocols or None,  # type: ignore[arg-type]
                user_agent_header="fastws_compat ws_connect",
                open_timeout=OPEN_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                max_size=None,
                proxy=None,
            )
        except websockets.InvalidStatus as refusal:
            response = refusal.response
            body = bytes(response.body or b"").decode(errors="replace")
            return Answer(response.status_code, list(response.headers.raw_items()), body)
        except (websockets.WebSocketException, ValueError) as exc:  # ValueError: an invalid header
            raise ConnectionError(str(exc)) from exc
        return Answer(101, list(self._connection.response.headers.raw_items()))

    async def receive(self) -> Content:
        from websockets import ConnectionClosed

        try:
            content: Content = await self._connection.recv()
        except ConnectionClosed:
            raise Closed(self._connection.close_code, self._connection.close_reason) from None
        return content

    async def send(self, content: Content) -> None:
        from websockets import ConnectionClosed

        with suppress(ConnectionClosed):
            await self._connection.send(content)

    async def ping(self) -> float | None:
        from websockets import ConnectionClosed

        with suppress(ConnectionClosed):
            return float(await (await self._connection.ping()))
        return None

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


def _without_origin(headers: Headers) -> tuple[Headers, str | None]:
    """The headers without Origin, which `websockets` takes as a separate argument."""
    origins = [value for name, value in headers if name.lower() == "origin"]
    return [pair for pair in headers if pair[0].lower() != "origin"], origins[-1] if origins else None


class LocalClient:
    """A connection to an application in this process; it needs no server."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._lifespan = Lifespan(application)
        self._is_started = True
        self._to: asyncio.Queue[Message] = asyncio.Queue()
        self._from: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closed: Closed | None = None

    @contextmanager
    def running(self, runner: asyncio.Runner) -> Iterator[None]:
        """Run the application's lifespan, as a server does, also if a signal interrupts the block."""
        self._is_started = runner.run(self._lifespan.startup())
        try:
            yield
        finally:
            runner.run(self._stop())

    async def _stop(self) -> None:
        if self._task is not None and not self._task.done():
            self._disconnect(1006, "")
            await self._end()
        await self._lifespan.shutdown(CLOSE_TIMEOUT)

    async def open(self, target: Target) -> Answer:
        if not self._is_started:
            raise ConnectionError("the application's lifespan failed at startup")
        self._to.put_nowait({"type": "websocket.connect"})
        scope = {**_scope(target), "state": dict(self._lifespan.state)}
        self._task = asyncio.create_task(self._run(scope))
        answer = await asyncio.wait_for(self._from.get(), OPEN_TIMEOUT)
        if answer["type"] == "websocket.accept":
            chosen = answer.get("subprotocol")
            extra = [("Sec-WebSocket-Protocol", chosen)] if chosen else []
            return Answer(101, [*extra, *_text(answer.get("headers") or ())])
        status = answer["status"] if answer["type"] == "websocket.http.response.start" else 403
        body = await self._body() if answer["type"] == "websocket.http.response.start" else ""
        await self._end()
        return Answer(status, _text(answer.get("headers") or ()), body)

    async def _run(self, scope: Message) -> None:
        try:
            await self._application(scope, self._to.get, self._from.put)
        finally:
            self._from.put_nowait({"type": "websocket.close", "code": 1006, "reason": ""})

    async def _body(self) -> str:
        body, more = b"", True
        while more:
            message = await self._from.get()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body.decode(errors="replace")

    async def receive(self) -> Content:
        message = await self._from.get()
        if self._closed is not None:
            raise self._closed
        if message["type"] == "websocket.close":
            code = message.get("code", 1000)
            self._disconnect(code, message.get("reason") or "")
            raise Closed(code, message.get("reason") or "")
        content: Content = message["text"] if message.get("text") is not None else message["bytes"]
        return content

    async def send(self, content: Content) -> None:
        kind = "text" if isinstance(content, str) else "bytes"
        self._to.put_nowait({"type": "websocket.receive", kind: content})

    async def ping(self) -> float | None:
        return None

    async def close(self, code: int, reason: str) -> None:
        self._closed = Closed(code, reason)
        self._disconnect(code, reason)
        await self._end()

    def _disconnect(self, code: int, reason: str) -> None:
        self._to.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def _end(self) -> None:
        assert self._task is not None
        await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT)


def _text(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _bytes(text: str) -> bytes:
    """The bytes of an argument, as they were on the command line."""
    return text.encode(errors="surrogateescape")


def _scope(target: Target) -> Message:
    """The scope of the handshake, as a server would create it."""
    url = urlsplit(target.url)
    headers = [("Host", url.netloc), *target.headers]
    if target.subprotocols:
        headers = [*headers, ("Sec-WebSocket-Protocol", ", ".join(target.subprotocols))]
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": url.scheme,
        "path": unquote(url.path) or "/",
        "raw_path": (url.path or "/").encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": [(_bytes(name.lower()), _bytes(value)) for name, value in headers],
        "client": ("127.0.0.1", 0),
        "server": target.address,
        "subprotocols": target.subprotocols,
        "extensions": {"websocket.http.response": {}},
    }
