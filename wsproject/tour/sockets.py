"""The sockets of the home page: one capability each, in as few lines as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fastws_compat import Depends, HTTPException, Query, TypedWebSocket, WebSocket, websocket
from fastws_compat.auth import login_required, staff_member_required
from fastws_compat.groups import Group
from wsproject.chat.models import Room


@websocket("/ws/tour/hello/{number}")
async def hello(websocket: WebSocket, number: int, greeting: Annotated[str, Query(max_length=20)] = "Hello"):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{greeting} number {number}: {text}")


def get_rooms() -> list[str]:
    """A dependency that is a plain function may use the ORM, as a view does."""
    names = list(Room.objects.values_list("name", flat=True))
    if not names:
        raise HTTPException(404, "There are no rooms.")
    return names


@websocket("/ws/tour/rooms")
async def rooms(websocket: WebSocket, names: Annotated[list[str], Depends(get_rooms)]):
    await websocket.accept()
    await websocket.send_json({"rooms": names})


class Order(BaseModel):
    type: Literal["order"] = "order"
    dish: Annotated[str, Field(min_length=1, max_length=40)]
    portions: Annotated[int, Field(ge=1, le=9)] = 1


class Receipt(BaseModel):
    type: Literal["receipt"] = "receipt"
    text: str


@websocket("/ws/tour/kitchen")
async def kitchen(websocket: TypedWebSocket[Order, Receipt]):
    await websocket.accept()
    async for order in websocket:
        await websocket.send_message(Receipt(text=f"{order.portions} × {order.dish}"))


class Tick(BaseModel):
    at: datetime


@websocket("/ws/tour/clock")
async def clock(ticks: Annotated[int, Query(ge=1, le=60)] = 5) -> AsyncIterator[Tick]:
    for _ in range(ticks):
        yield Tick(at=datetime.now(UTC))
        await asyncio.sleep(1)


news = Group("tour.news")


@websocket("/ws/tour/news")
async def newsroom(websocket: WebSocket):
    await websocket.accept()
    await websocket.join(news)  # the socket leaves when the endpoint ends
    async for _ in websocket.iter_text():
        pass


wall = Group("tour.wall")


@websocket("/ws/tour/wall", rate_limit="10/10s", max_message_size=200)
async def write_on_wall(websocket: WebSocket):
    await websocket.accept()
    await websocket.join(wall, last=5)  # a newcomer gets five messages; live.js, what it has missed
    async for text in websocket.iter_text():
        await wall.asend(text)


@websocket("/ws/tour/people")
async def people(websocket: WebSocket):
    await websocket.accept()
    name = websocket.user.get_username() or "a visitor"
    await websocket.join("tour.people", presence={"name": name})
    async for _ in websocket.iter_text():
        pass


lamps = Group("tour.lamps")


class Switch(BaseModel):
    type: Literal["switch"] = "switch"
    lamp: Literal["hall", "kitchen"]
    on: bool


@websocket("/ws/tour/lamps", rate_limit="10/10s")
async def switch_lamps(websocket: TypedWebSocket[Switch, None]):
    await websocket.accept()
    await websocket.join(lamps)  # sends the values of now, then each change
    async for switch in websocket:
        await lamps.aset(switch.lamp, switch.on)


@websocket("/ws/tour/members", dependencies=[Depends(login_required)])
async def members(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(f"You are {websocket.user.get_username()}. Log out in another tab.")
    async for _ in websocket.iter_text():
        pass


@websocket("/ws/tour/staff", dependencies=[Depends(staff_member_required)])
async def staff(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text("You are staff.")


@websocket("/ws/tour/limited", rate_limit="3/10s", max_message_size=100)
async def limited(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@websocket("/ws/tour/wrong")
async def wrong(websocket: WebSocket):
    await websocket.accept()
    await websocket.close(4000, "This is the reason, and it arrives.")
