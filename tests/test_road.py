"""The road of one connection, as docs/design.md describes it."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from fastws_compat import Depends, FastAPI, WebSocket
from tests.fake_server import CONNECT, FakeServer, text, websocket_scope

PACKAGE = Path(__file__).resolve().parents[1] / "fastws_compat"


async def greeting(name: str = "hello") -> str:
    return name


async def echo(websocket: WebSocket, number: int, text: Annotated[str, Depends(greeting)]) -> None:
    await websocket.accept()
    await websocket.send_text(f"{text} {number} {await websocket.receive_text()}")


def road() -> list[str]:
    """The files of the package in the order in which one connection enters them."""
    app = FastAPI()
    app.websocket("/ws/{number}")(echo)
    entered: list[str] = []

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            entered.append(str(path.relative_to(PACKAGE)))

    async def connect() -> None:
        scope = websocket_scope("/ws/7", query_string=b"name=hello")
        servers = [FakeServer(CONNECT, text("hi")) for _ in range(2)]
        await app(dict(scope), servers[0].receive, servers[0].send)  # builds what all connections share
        sys.setprofile(trace)
        try:
            await app(scope, servers[1].receive, servers[1].send)
        finally:
            sys.setprofile(None)

    asyncio.run(connect())
    return entered


def test_one_connection_is_short_to_follow() -> None:
    entered = road()
    changes = sum(here != there for here, there in itertools.pairwise(entered))
    assert len(set(entered)) <= 12, sorted(set(entered))
    assert changes <= 20, entered
