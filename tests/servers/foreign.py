"""Endpoints that use a library that was not ported: it raises FastAPI's and Starlette's exceptions."""

from typing import Annotated

import fastapi
import starlette.exceptions
import starlette.websockets

from fastws_compat import Depends, FastAPI, WebSocket

app = FastAPI()


async def current_user(token: str = "") -> str:
    """A dependency from a library."""
    if token != "secret":
        raise fastapi.HTTPException(401, "who?", {"WWW-Authenticate": "Bearer"})
    return "anna"


def current_user_in_a_thread(token: str = "") -> None:
    raise starlette.exceptions.WebSocketException(4003, "kicked")


@app.websocket("/dependency")
async def dependency(websocket: WebSocket, user: Annotated[str, Depends(current_user)]):
    await websocket.accept()
    await websocket.send_text(user)


@app.websocket("/thread", dependencies=[Depends(current_user_in_a_thread)])
async def thread(websocket: WebSocket): ...


@app.websocket("/http")
async def http(websocket: WebSocket):
    await websocket.accept()
    raise starlette.exceptions.HTTPException(404, "no such room")


@app.websocket("/websocket")
async def websocket_exception(websocket: WebSocket):
    await websocket.accept()
    raise fastapi.WebSocketException(4008, "slow down")


@app.websocket("/disconnect")
async def disconnect(websocket: WebSocket):
    await websocket.accept()
    raise starlette.websockets.WebSocketDisconnect(1001)


theirs = fastapi.FastAPI()


@theirs.websocket("/echo")
async def echo(websocket: fastapi.WebSocket, user: str = fastapi.Depends(current_user)):
    await websocket.accept()
    await websocket.send_text(user)
    await websocket.receive_text()  # raises their WebSocketDisconnect, which is not caught


app.mount("/mounted", theirs)
