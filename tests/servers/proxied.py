"""An application behind a proxy."""

from __future__ import annotations

from fastws_compat import FastAPI, HTTPException, WebSocket

app = FastAPI()


@app.websocket("/ws/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**message, "type": "websocket.send"})


@app.websocket("/ws/close")
async def close(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close(4001, "through nginx")


@app.websocket("/ws/deny")
async def deny(websocket: WebSocket) -> None:
    raise HTTPException(401)


@app.websocket("/ws/scope")
async def scope(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(
        {
            "client": websocket.client.host if websocket.client else None,
            "root_path": websocket.scope.get("root_path", ""),
            "headers": dict(websocket.headers),
        }
    )
