"""The application that the Autobahn test suite talks to: every message comes back."""

import django.http  # noqa: F401 - as in a project. The first connection would wait for this import.

from fastws_compat import FastAPI, WebSocket
from fastws_compat.daphne import install
from fastws_compat.deflate import DeflateOptions

install()

# The suite judges windows of every size, and also how the shortest messages are compressed.
CONTEXT: DeflateOptions = {
    "server_no_context_takeover": False,
    "client_no_context_takeover": False,
    "server_max_window_bits": 15,
    "client_max_window_bits": 15,
    "threshold": 0,
}

app = FastAPI(max_message_size=None)


@app.websocket("/plain")
@app.websocket("/deflate", deflate=True)
@app.websocket("/context", deflate=CONTEXT)
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**message, "type": "websocket.send"})
