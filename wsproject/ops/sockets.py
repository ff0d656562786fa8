"""The operations page's socket, for whoever may use the admin."""

from __future__ import annotations

from typing import Annotated

from channels.db import database_sync_to_async

from fastws_compat import Depends, Query, WebSocket, websocket
from wsproject.access import staff
from wsproject.fanout import joined

from .journal import recent, staff_group


@websocket("/ws/ops", dependencies=[Depends(staff)])
async def ops(websocket: WebSocket, after: Annotated[int, Query(ge=0, lt=2**63)] = 0) -> None:
    """What was saved in the admin since log entry `after`, then what is being saved."""
    await websocket.accept()
    async with joined(websocket, staff_group):
        entries = await database_sync_to_async(recent)(after)
        await websocket.send_json({"type": "history", "entries": entries})
        async for _ in websocket.iter_text():
            await websocket.send_json({"type": "pong"})
