"""Mounted applications that serve HTTP and sockets: a plain ASGI one, and a real FastAPI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application
from fastws_compat.responses import StreamingResponse

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

app = FastAPI()


@app.websocket("/echo/ws")
async def ours(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("ours")


@app.websocket("/streamed")
async def streamed(websocket: WebSocket) -> None:
    await websocket.send_denial_response(StreamingResponse(iter(["come ", "back ", b"later"]), 503))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HTTP and sockets with data of the scope, and HTTP also with its body."""
    told = {name: scope.get(name) for name in ("type", "path", "root_path", "path_params")}
    told["query_string"] = scope["query_string"].decode()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": json.dumps(told)})
        await send({"type": "websocket.close"})
        return
    told["method"], body, more = scope["method"], b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    told["body"] = body.decode()
    headers = [(b"content-type", b"application/json"), (b"x-mounted", b"yes")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    text = json.dumps(told).encode()
    await send({"type": "http.response.body", "body": text[:10], "more_body": True})
    await send({"type": "http.response.body", "body": text[10:]})


theirs = fastapi.FastAPI()


@theirs.get("/items/{number}")
def item(number: int) -> dict[str, Any]:
    return {"number": number}


app.mount("/echo", echo, name="echo")
app.mount("/{tenant}/echo", echo)
app.mount("/api", theirs)
app.mount("/sockets", echo)

application = get_asgi_application(app, http=["/echo", "/{tenant}/echo", "/api"])
