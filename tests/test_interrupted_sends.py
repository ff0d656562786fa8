"""A task that is interrupted while it sends: the socket is as it was before, and can be used again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastws_compat import FastAPI, WebSocket
from tests.fake_server import converse


class Once:
    """Interrupts the first message of a type."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_over = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == self.kind and not self.is_over:
            self.is_over = True
            raise asyncio.CancelledError


def test_an_interrupted_accept_can_be_repeated() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        with pytest.raises(asyncio.CancelledError):
            await websocket.accept()
        await websocket.accept(subprotocol="again")
        await websocket.close(4000)

    sent = converse(app, on_send=Once("websocket.accept"))
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[0]["subprotocol"] == "again"


def test_an_interrupted_close_can_be_repeated() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(asyncio.CancelledError):
            await websocket.close(4000)
        await websocket.close(4001)

    sent = converse(app, on_send=Once("websocket.close"))
    assert [message.get("code") for message in sent] == [None, 4001]
