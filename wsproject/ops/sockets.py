"""The socket of the operations page, for users who may use the admin."""

from __future__ import annotations

from typing import Annotated

from channels.db import database_sync_to_async

from fastws_compat import Depends, Query, WebSocket, websocket
from fastws_compat.auth import staff_member_required

from .journal import recent, staff_group


@websocket("/ws/ops", dependencies=[Depends(staff_member_required)])
async def ops(websocket: WebSocket, after: Annotated[int, Query(ge=0, lt=2**63)] = 0) -> None:
    """Send the log entries after entry `after`, then each new entry."""
    await websocket.accept()
    await websocket.join(staff_group)
    entries = await database_sync_to_async(recent)(after)
    await websocket.send_json({"type": "history", "entries": entries})
    async for _ in websocket.iter_text():
        await websocket.send_json({"type": "pong"})
