"""Connections without a server: the application's own cost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

HEADERS = [
    (b"host", b"localhost:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"*/*"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"sec-websocket-version", b"13"),
    (b"origin", b"http://localhost:8000"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"x-token", b"secret"),
    (b"connection", b"Upgrade"),
    (b"cookie", b"csrftoken=0123456789abcdef; session=0123456789abcdef"),
    (b"upgrade", b"websocket"),
]
CONNECT = {"type": "websocket.connect"}
DISCONNECT = {"type": "websocket.disconnect", "code": 1000}


def scope(path: str, query: bytes = b"") -> dict[str, Any]:
    """A new scope, as a server creates one for each connection."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": HEADERS[:],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }


async def swallow(message: Any) -> None:
    """`send` of a server that sends at once."""


def handshakes(app: Any, path: str, query: bytes, count: int) -> float:
    """Microseconds for a connection that is accepted and closed."""

    async def run() -> float:
        start = time.perf_counter()
        for _ in range(count):
            messages = iter((CONNECT, DISCONNECT))

            async def receive(messages: Any = messages) -> Any:
                return next(messages)

            await app(scope(path, query), receive, swallow)
        return (time.perf_counter() - start) / count * 1e6

    return asyncio.run(run())


def echoes(app: Any, path: str, message: dict[str, Any], count: int) -> float:
    """Microseconds for a message that is received and sent, on one connection."""
    sent = 0

    async def run() -> float:
        async def messages() -> Any:
            yield CONNECT
            for _ in range(count):
                yield message
            yield DISCONNECT

        async def send(message: Any) -> None:
            nonlocal sent
            sent += 1

        receive = messages().__anext__
        start = time.perf_counter()
        await app(scope(path), receive, send)
        return (time.perf_counter() - start) / count * 1e6

    elapsed = asyncio.run(run())
    assert sent >= count, f"{path}: {sent} of {count} messages came back"
    return elapsed
