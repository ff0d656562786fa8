"""Typed routes for generated clients, which stream, refuse and close as the client asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import django
from pydantic import BaseModel

django.setup()

from fastws_compat import Call, Depends, FastAPI, HTTPException, Reply, TypedWebSocket  # noqa: E402


class Tick(BaseModel):
    type: Literal["tick"] = "tick"
    number: int


class Echoed(Reply):
    type: Literal["echoed"] = "echoed"
    text: str


class Echo(Call[Echoed]):
    type: Literal["echo"] = "echo"
    text: str


class End(BaseModel):
    type: Literal["end"] = "end"
    code: int


async def door(refuse: int = 0) -> None:
    if refuse:
        raise HTTPException(refuse, headers={"Retry-After": "1"})


application = FastAPI()


@application.websocket("/ws/ticks")
async def ticks(after: int = 0) -> AsyncIterator[Tick]:
    while True:
        after += 1
        yield Tick(number=after)
        await asyncio.sleep(0.02)


@application.websocket("/ws/talk", heartbeat=True, dependencies=[Depends(door)])
async def talk(websocket: TypedWebSocket[Echo | End, Echoed]) -> None:
    await websocket.accept()
    async for message in websocket:
        match message:
            case Echo():
                await websocket.reply(message, Echoed(text=message.text))
            case End():
                await websocket.close(message.code)
                return
