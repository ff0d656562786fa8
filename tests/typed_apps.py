"""Applications with one typed socket, at "/", for messages that a test chooses."""

from __future__ import annotations

from typing import Any

from fastws_compat import FastAPI, MessageRouter, TypedWebSocket


def typed(endpoint: Any, received: Any, sent: Any = None, **options: Any) -> FastAPI:
    """An application whose `endpoint` receives and sends these messages."""
    app = FastAPI()
    endpoint.__annotations__["websocket"] = TypedWebSocket[received, sent]
    app.websocket("/", **options)(endpoint)
    return app


def echo(form: Any, **options: Any) -> FastAPI:
    """An application that sends back what it gets."""

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        async for message in websocket:
            await websocket.send_message(message)

    return typed(endpoint, form, form, **options)


def serving(received: Any, sent: Any, *functions: Any) -> FastAPI:
    """An application that has these functions for its messages."""
    handlers = MessageRouter()
    for function in functions:
        handlers.on(function)

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        await websocket.serve()

    return typed(endpoint, received, sent, handlers=handlers)
