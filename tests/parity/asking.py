"""What a client is told: `ask` for an answer, `refusal` and `errors` for the handshake that fails."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


def ask(lib: Any, app: Any, url: str = "/ws", **options: Any) -> Any:
    """What the endpoint sends first, as JSON."""
    with lib.TestClient(app).websocket_connect(url, **options) as websocket:
        return websocket.receive_json()


def raw_ask(app: Any, headers: list[tuple[bytes, bytes]], query: bytes = b"") -> Any:
    """Like `ask`, with the very bytes that a server passes on."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/ws", "headers": headers, "query_string": query, "extensions": {}}
    asyncio.run(app(scope, receive, send))
    return next(json.loads(message["text"]) for message in sent if message["type"] == "websocket.send")


def visit(lib: Any, app: Any, url: str = "/ws", *, stay: bool = True, **options: Any) -> None:
    """Connect, be accepted, and stay until the application has ended; raises what it raises.

    FastAPI's test client cancels what still runs when it hangs up; `stay=False` hangs up at once.
    """
    over = threading.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        finally:
            over.set()

    with lib.TestClient(watched).websocket_connect(url, **options):
        if stay:
            assert over.wait(10), "the application did not end"


def refusal(lib: Any, app: Any, url: str = "/ws", **options: Any) -> Any:
    """The exception that says how the handshake was refused."""
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        visit(lib, app, url, **options)
    return caught.value


def errors(lib: Any, app: Any, url: str = "/ws", **options: Any) -> list[dict[str, Any]]:
    """The error items of a handshake that does not validate."""
    refused = refusal(lib, app, url, **options)
    assert refused.code == 1008
    return refused.reason


def echo(lib: Any, annotation: Any, default: Any = ..., path: str = "/ws") -> Any:
    """An application that answers with the `repr` of its one parameter, `value`."""
    app = lib.FastAPI()
    app.websocket(path)(echo_endpoint(lib, annotation, default))
    return app


def echo_endpoint(lib: Any, annotation: Any, default: Any = ...) -> Callable[..., Awaitable[None]]:
    if default is ...:

        async def required(websocket: lib.WebSocket, value: annotation):
            await websocket.accept()
            await websocket.send_json(repr(value))

        return required

    async def optional(websocket: lib.WebSocket, value: annotation = default):
        await websocket.accept()
        await websocket.send_json(repr(value))

    return optional
