"""The socket of the operations page, for users who may use the admin."""

from __future__ import annotations

from fastws_compat import Depends, WebSocket, websocket
from fastws_compat.auth import staff_member_required

from .journal import staff_group


@websocket("/ws/ops", dependencies=[Depends(staff_member_required)])
async def ops(websocket: WebSocket) -> None:
    """Send each new log entry. Joining delivers what a page that reconnects has missed."""
    await websocket.accept()
    await websocket.join(staff_group)
    async for _ in websocket.iter_text():
        pass
