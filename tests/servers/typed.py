"""Routes with typed messages, one for each way to treat a message that does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel

from fastws_compat import (
    APIRouter,
    FastAPI,
    HTTPException,
    MessageRouter,
    MessageValidationError,
    TypedWebSocket,
    WebSocket,
    WebSocketException,
)
from fastws_compat.daphne import install
from tests.messages import Found, Post, Said, Search

install()


ended: list[str] = []


In = Post | Search
Out = Said | Found


async def speak(websocket: TypedWebSocket[In, Out]) -> None:
    await websocket.accept()
    async for message in websocket:
        match message:
            case Post(text="418"):
                await websocket.send_error(418)
            case Post(text="boom"):
                raise ValueError("boom")
            case Post(text="409"):
                raise HTTPException(409)
            case Post(text="misfit"):
                await websocket.send_message({"type": "said", "text": 1})  # type: ignore[arg-type]
            case Post(text="incomplete"):
                await websocket.send_message(Said.model_construct())
            case Post():
                await websocket.send_message(Said(text=message.text))
            case Search(q="404"):
                await websocket.send_error(404, "no hits", to=message)
            case Search():
                await websocket.reply(message, Found(hits=[message.q]))


app = FastAPI()
app.websocket("/answer", heartbeat=True)(speak)
app.websocket("/close", on_invalid="close")(speak)
app.websocket("/raise", on_invalid="raise")(speak)
app.websocket("/once", max_invalid=1)(speak)
app.websocket("/patient", max_invalid=None)(speak)
app.websocket("/small", max_message_size=100)(speak)
app.websocket("/binary", binary_json=True)(speak)

handled = FastAPI()
handled.websocket("/talk")(speak)
handled.websocket("/raise", on_invalid="raise")(speak)


@handled.exception_handler(MessageValidationError)
async def handle(websocket: Any, exc: MessageValidationError) -> None:
    await websocket.send_json({"handled": exc.status, "code": exc.close_code})


app.mount("/handled", handled)


app.websocket("/rate", rate_limit="3/h")(speak)
app.websocket("/idle", idle_timeout=0.2)(speak)

functions = MessageRouter()


@functions.on
async def say(message: Post, websocket: WebSocket) -> Said | None:
    match message.text:
        case "close":
            return await websocket.close(4005, "bye")
        case "wait":
            await websocket.send_json("waiting")
            try:
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0)
                ended.append(websocket.query_params["name"])
        case "409":
            raise HTTPException(409, {"why": ["a conflict"]})
        case "boom":
            raise ValueError("boom")
        case "bye":
            raise WebSocketException(4001, "bye")
    return Said(text=message.text)


@functions.on
def search(message: Search) -> Found:
    if message.q == "boom":
        raise ValueError("boom")
    return Found(hits=[message.q])


@app.websocket("/functions", handlers=functions)
async def serve(websocket: TypedWebSocket[In, Out]) -> None:
    await websocket.accept()
    await websocket.serve()


@app.websocket("/silent")
async def silent(websocket: TypedWebSocket[None, Said]) -> None:
    await websocket.accept()
    async for _ in websocket:
        raise AssertionError("the client has said something")


@app.websocket("/upload")
async def upload(websocket: TypedWebSocket[Post | bytes, Said | bytes]) -> None:
    await websocket.accept()
    async for message in websocket:
        await websocket.send_message(message if isinstance(message, bytes) else Said(text=message.text))


@app.websocket("/raw")
async def raw(websocket: TypedWebSocket[str, str]) -> None:
    await websocket.accept()
    async for message in websocket:
        await websocket.send_message(message.upper())


class Tick(BaseModel):
    number: int


@app.websocket("/ticks/{name}")
async def stream(name: str) -> AsyncIterator[Tick]:
    try:
        yield Tick(number=1)
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)
        ended.append(name)


@app.websocket("/flood/{name}")
async def flood(websocket: TypedWebSocket[None, Tick], name: str) -> AsyncIterator[Tick]:
    await websocket.accept()
    number = 0
    try:
        while True:
            number += 1
            yield Tick(number=number)
    finally:
        await asyncio.sleep(0)
        ended.append(name)


@app.websocket("/count/{last}")
async def count(last: int) -> AsyncIterator[Tick]:
    for number in range(last):
        yield Tick(number=number)
    if last == 13:
        raise ValueError("thirteen")


@app.websocket("/own/{name}")
async def closing_itself(websocket: TypedWebSocket[None, Tick], name: str) -> AsyncIterator[Tick]:
    await websocket.accept()
    yield Tick(number=1)
    await websocket.close(4010, "own")
    await asyncio.sleep(0.2)  # meanwhile the server reports the disconnect
    ended.append(name)


@app.websocket("/ended/{name}")
async def has_ended(websocket: TypedWebSocket[None, Tick], name: str) -> None:
    """Says how often a stream has cleaned up, once it has."""
    await websocket.accept()
    while name not in ended:
        await asyncio.sleep(0.01)
    await websocket.send_message(Tick(number=ended.count(name)))


router = APIRouter(on_invalid="close")
router.websocket("/closing")(speak)
router.websocket("/answering", on_invalid="answer", max_invalid=0)(speak)
app.include_router(router, prefix="/router")
