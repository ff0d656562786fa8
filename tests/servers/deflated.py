"""Routes with compression: echoes with several parameters, a group, and a route without."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import Any

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.daphne import deflate, install
from fastws_compat.deflate import DeflateOptions
from fastws_compat.groups import Group

install()

CONTEXT: DeflateOptions = {"server_no_context_takeover": False, "client_no_context_takeover": False}

app = FastAPI(deflate=True)
# How sockets have ended, by the name that they gave themselves.
ended: defaultdict[str | None, asyncio.Queue[str]] = defaultdict(asyncio.Queue)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**message, "type": "websocket.send"})
    ended[websocket.query_params.get("as")].put_nowait(f"{message['code']} {message['reason']}")


app.websocket("/echo")(echo)
app.websocket("/off", deflate=False)(echo)
app.websocket("/small", max_message_size=1000)(echo)
app.websocket("/whole", deflate={"threshold": 0})(echo)
app.websocket("/context", deflate={**CONTEXT, "threshold": 0})(echo)
app.websocket("/context/small", deflate=CONTEXT, max_message_size=1000)(echo)


@app.websocket("/crowd", deflate=CONTEXT)
async def crowd(websocket: WebSocket) -> None:
    """Many tasks send at once; a context must not notice."""
    await websocket.accept()
    await websocket.receive()

    async def send(number: int) -> None:
        for part in range(20):
            await websocket.send_text(
                f"{number} {part} " + "the same words again " * (20 + 300 * (number % 3))
            )

    await asyncio.gather(*map(send, range(20)))
    await websocket.close()


@app.websocket("/member/{kind}")
@app.websocket("/member/context/{kind}", deflate=CONTEXT)
@app.websocket("/member/off/{kind}", deflate=False)
async def member(websocket: WebSocket, kind: str) -> None:
    """Everybody hears what one says."""
    await websocket.accept()
    await websocket.join(kind)
    await websocket.send_text("joined")
    async for text in websocket.iter_text():
        await Group(kind).asend(text)


@app.websocket("/late/{kind}")
async def late(websocket: WebSocket, kind: str) -> None:
    """Gets what has been sent to a group with a history."""
    await websocket.accept()
    await websocket.join(kind, last=100)
    await websocket.receive()


@app.websocket("/flood/{kind}", deflate=False)
async def flood(websocket: WebSocket, kind: str) -> None:
    """More for a group than the buffers of its members hold."""
    await websocket.accept()
    for number in range(await websocket.receive_json()):
        await Group(kind).asend(f"{number} {os.urandom(20_000).hex()}")
    await websocket.close()


@app.websocket("/accept")
async def accept(websocket: WebSocket) -> None:
    try:
        await websocket.accept()
    except WebSocketDisconnect as exc:
        ended["accept"].put_nowait(f"{exc.code}")


@app.websocket("/ended")
async def ending(websocket: WebSocket) -> None:
    """How the socket of this name has ended, once it has."""
    await websocket.accept()
    await websocket.send_text(await ended[websocket.query_params.get("as")].get())


made: list[Any] = []
new_deflater = deflate.new_deflater


def recorded(bits: int, level: int) -> Any:
    made.append((bits, level))
    return new_deflater(bits, level)


deflate.new_deflater = recorded


@app.websocket("/made", deflate=False)
async def made_since(websocket: WebSocket) -> None:
    """How many deflaters have been made since the last question; each message without context needs one."""
    await websocket.accept()
    await websocket.send_json(len(made))
    made.clear()
