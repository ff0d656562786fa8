"""One-call clients: `ask` returns the answer; `refusal` and `errors` describe a refused handshake."""

import json
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.fake_server import converse


def without_address(value: Any) -> str:
    """The `repr` of a value, as the name of a test: the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def ask(lib: Any, app: Any, url: str = "/ws", **options: Any) -> Any:
    """The first message of the endpoint, parsed as JSON."""
    with lib.TestClient(app).websocket_connect(url, **options) as websocket:
        return websocket.receive_json()


def raw_ask(app: Any, headers: list[tuple[bytes, bytes]], query: bytes = b"") -> Any:
    """Like `ask`, with exactly these bytes in the scope."""
    sent = converse(app, headers=headers, query_string=query, extensions={})
    return next(json.loads(message["text"]) for message in sent if message["type"] == "websocket.send")


def visit(lib: Any, app: Any, url: str = "/ws", *, stay: bool = True, **options: Any) -> None:
    """Connect and stay until the application has ended; raises its exception.

    With `stay=False`, the client leaves at once; FastAPI's test client then cancels what is still running.
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
    """The exception of a handshake that is refused."""
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        visit(lib, app, url, **options)
    return caught.value


def errors(lib: Any, app: Any, url: str = "/ws", **options: Any) -> list[dict[str, Any]]:
    """The validation errors with which a handshake is refused."""
    refused = refusal(lib, app, url, **options)
    assert refused.code == 1008
    return refused.reason


def echo(lib: Any, annotation: Any, default: Any = ..., path: str = "/ws") -> Any:
    """An application that answers with the `repr` of its only parameter, `value`."""
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
