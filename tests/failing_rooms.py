"""An application whose endpoint fails, with the scope in a frame of its middleware, for error trackers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import sentry_sdk

from fastws_compat import FastAPI, WebSocket


class Passing:
    """Middleware of the project."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


async def at_once() -> None:
    """Do not wait."""


def failing_app(wait: Callable[[], Awaitable[Any]] = at_once) -> FastAPI:
    """Its endpoint tags its room, and raises after the first message and after `wait`."""
    app = FastAPI()
    app.add_middleware(Passing)

    @app.websocket("/rooms/{room}")
    async def boom(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        sentry_sdk.set_tag("room", room)
        await websocket.receive_text()
        await wait()
        raise ZeroDivisionError(room)

    return app
