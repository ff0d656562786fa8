"""An application with one endpoint for each mistake that a client can make."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastws_compat import (
    Depends,
    FastAPI,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketState,
)
from fastws_compat.security import HTTPAuthorizationCredentials, WebSocketBearer

# daphne sets up logging before it imports this.
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("LOG %(levelname)s %(message)s"))
logging.getLogger("fastws_compat").addHandler(handler)
logging.getLogger("fastws_compat").propagate = False

app = FastAPI()
ended: list[str] = []
members: list[WebSocket] = []
left = asyncio.Event()


async def counted(websocket: WebSocket) -> AsyncIterator[None]:
    """Record that the endpoint's cleanup has run."""
    try:
        yield
    finally:
        await asyncio.sleep(0)
        ended.append(websocket.url.path)


@app.websocket("/text/{number}", dependencies=[Depends(counted)])
async def text(websocket: WebSocket, number: int, limit: float = 1.0) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


@app.websocket("/json", dependencies=[Depends(counted)])
async def json(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_json(await websocket.receive_json())


@app.websocket("/raise/{when}", dependencies=[Depends(counted)])
async def fail(websocket: WebSocket, when: str) -> None:
    if when == "after":
        await websocket.accept()
    raise ValueError("secret detail")


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every assignment to its attributes, also those that Python sets."""


def nested(depth: int) -> ExceptionGroup[Exception]:
    """Deeper than the recursion limit allows to format it."""
    group = ExceptionGroup("innermost", [Frozen()])
    for _ in range(depth):
        group = ExceptionGroup("nested", [Frozen(), group])
    return group


NO_EXCEPTIONS = {
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "cancelled": asyncio.CancelledError(),
    "frozen": Frozen(),
    "generator": GeneratorExit(),
    "nested": nested(2000),
}


@app.websocket("/raise/{when}/{what}", dependencies=[Depends(counted)])
async def fail_otherwise(websocket: WebSocket, when: str, what: str) -> None:
    if when == "after":
        await websocket.accept()
    raise NO_EXCEPTIONS[what]


@app.websocket("/member")
async def member(websocket: WebSocket) -> None:
    await websocket.accept()
    members.append(websocket)
    await websocket.send_text("in")
    await left.wait()


@app.websocket("/reader")
async def read_another(websocket: WebSocket) -> None:
    """Reads the socket of the member, in a task of its own."""
    await websocket.accept()
    await websocket.send_text("reading")
    try:
        await asyncio.create_task(members[0].receive_text())
    finally:
        left.set()


@app.websocket("/return/{when}", dependencies=[Depends(counted)])
async def leave(websocket: WebSocket, when: str) -> None:
    if when == "after":
        await websocket.accept()


@app.websocket("/guarded")
async def guarded(websocket: WebSocket) -> None:
    """Send until that fails, and then close, as public code does."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text("x" * 1000)
            await asyncio.sleep(0.001)
    except WebSocketDisconnect:
        if websocket.client_state != WebSocketState.DISCONNECTED:
            await websocket.close()
    print("EVENT guarded", websocket.client_state.name, flush=True)


@app.websocket("/policy", dependencies=[Depends(counted)])
async def policy(websocket: WebSocket) -> None:
    await websocket.accept()
    raise WebSocketException(1008, "not allowed")


@app.websocket("/endings")
async def endings(websocket: WebSocket, path: str, count: int) -> None:
    """Report how many times the cleanup of a path has run, once it has run `count` times."""
    await websocket.accept()
    async with asyncio.timeout(10):
        while ended.count(path) < count:
            await asyncio.sleep(0.01)
    await websocket.send_text(str(ended.count(path)))


@app.websocket("/token")
async def token(
    websocket: WebSocket, credentials: HTTPAuthorizationCredentials = Depends(WebSocketBearer())
) -> None:
    await websocket.accept()
    await websocket.send_text(credentials.credentials)


@app.websocket("/number")
async def number(websocket: WebSocket, number: int) -> None: ...
