from __future__ import annotations

from fastws_compat import WebSocket, websocket


@websocket("/ws/shop")
async def shop(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.join("shop")
    await websocket.send_text("joined")
    await websocket.receive()
