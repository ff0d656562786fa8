"""Sockets for Django's users, as in a real project."""

from __future__ import annotations

from typing import Annotated, Any

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from pydantic import BaseModel

from fastws_compat import Depends, FastAPI, MessageRouter, TypedWebSocket, WebSocket
from fastws_compat.auth import get_user, login_required, permission_required, staff_member_required

app = FastAPI()


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.get_username() or "nobody")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/anybody")
async def anybody(websocket: WebSocket, user: Annotated[Any, Depends(get_user)]) -> None:
    await echo(websocket)


@app.websocket("/members")
async def members(websocket: WebSocket, user: Annotated[User, Depends(login_required)]) -> None:
    await echo(websocket)


@app.websocket("/staff", dependencies=[Depends(staff_member_required)])
async def staff(websocket: WebSocket) -> None:
    await echo(websocket)


@app.websocket("/viewers", dependencies=[Depends(permission_required("auth.view_user"))])
async def viewers(websocket: WebSocket) -> None:
    await echo(websocket)


def get_named(name: str, user: Annotated[User, Depends(login_required)]) -> User:
    return get_object_or_404(User, username=name)


@app.websocket("/named/{name}")
async def named(websocket: WebSocket, found: Annotated[User, Depends(get_named)]) -> None:
    await echo(websocket)


@app.websocket("/session", dependencies=[Depends(login_required)])
async def session(websocket: WebSocket) -> None:
    """Count in the session, which every page of the visitor can read."""
    await websocket.accept()
    count = await websocket.session.aget("count", 0) + 1
    await websocket.session.aset("count", count)
    await websocket.session.asave()
    await websocket.send_json(count)


class Order(BaseModel):
    text: str


commands = MessageRouter()


@commands.on(dependencies=[Depends(staff_member_required)])
async def obey(message: Order, user: Annotated[Any, Depends(get_user)]) -> Order:
    return Order(text=f"{user.username}: {message.text}")


@app.websocket("/commands", handlers=commands)
async def take_commands(websocket: TypedWebSocket[Order, Order]) -> None:
    await websocket.accept()
    await websocket.serve()
