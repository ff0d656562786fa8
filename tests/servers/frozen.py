"""The project's application, and how many objects the garbage collector leaves out."""

from __future__ import annotations

import asyncio
import gc
import json
import os

from django.conf import settings

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application

settings.configure(
    ALLOWED_HOSTS=["*"], FASTWS=json.loads(os.environ.get("FASTWS", "{}")), ROOT_URLCONF=__name__
)
urlpatterns: list[object] = []
app = FastAPI()


@app.websocket("/new")
async def new(websocket: WebSocket) -> None:
    """How many more objects are frozen after a pass that new ones have survived."""
    await websocket.accept()
    frozen = gc.get_freeze_count()
    survivors = [[number] for number in range(20_000)]
    gc.collect()
    for _ in range(300 if frozen else 0):  # a timer freezes them
        if gc.get_freeze_count() > frozen:
            break
        await asyncio.sleep(0.1)
    more = gc.get_freeze_count() - frozen
    await websocket.send_json({"at first": frozen, "later": more, "kept": len(survivors)})


application = get_asgi_application(app)
