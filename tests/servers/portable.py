"""An application on a daphne whose version is treated as unknown."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import daphne

daphne.__version__ = "9.0"

from fastws_compat import FastAPI, WebSocket  # noqa: E402


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    print("LIFESPAN up", file=sys.stderr, flush=True)
    yield {"database": "open"}
    print("LIFESPAN down", file=sys.stderr, flush=True)


app = FastAPI(lifespan=lifespan)


@app.websocket("/state")
async def state(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.state.database)
    await websocket.receive_text()
    await websocket.close(1008, "not allowed")
