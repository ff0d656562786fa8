"""The real FastAPI, which closes like `closings`: "/close/{phase}/{code}/{reason}"."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket, WebSocketException

from tests.servers.closings import CODES, REASONS

app = FastAPI()


@app.websocket("/{road}/{phase}/{code}/{reason}")
async def endpoint(websocket: WebSocket, road: str, phase: str, code: str, reason: str) -> None:
    if phase == "after":
        await websocket.accept()
    if road == "exception":
        raise WebSocketException(CODES[code], REASONS[reason])
    await websocket.close(CODES[code], REASONS[reason])
