"""Rooms that show who is present. What this process hears by signals goes to its log."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from django.dispatch import receiver

from fastws_compat import FastAPI, WebSocket
from fastws_compat.groups import Group
from fastws_compat.signals import presence_joined, presence_left

app = FastAPI()


@receiver(presence_joined)
def note_join(group: str, key: str, info: Any, **kwargs: Any) -> None:
    note("joined", group, key, info)


@receiver(presence_left)
async def note_leave(group: str, key: str, info: Any, **kwargs: Any) -> None:
    note("left", group, key, info)


def note(*signal: Any) -> None:
    # In one piece: the server writes its own lines from another thread.
    sys.stdout.write(f"signal {json.dumps(signal)}\n")
    sys.stdout.flush()


@app.websocket("/in/{room}")
async def present(websocket: WebSocket, room: str, user: str) -> None:
    """Be present; a text is the new info, and an empty one leaves."""
    await websocket.accept()
    websocket.scope["user"] = SimpleNamespace(pk=user, is_authenticated=True)
    await websocket.join(room, presence=user)
    async for text in websocket.iter_text():
        if text:
            await websocket.update(room, text)
        else:
            await websocket.leave(room)


@app.websocket("/watch/{room}")
async def watching(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    await websocket.join(room, watch=True)
    async for _ in websocket.iter_text():
        pass


@app.websocket("/who/{room}")
async def who(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    people = await Group(room).apresence()
    await websocket.send_json({each.key: [each.info, each.sockets] for each in people})
