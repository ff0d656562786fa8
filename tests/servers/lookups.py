"""Sockets of logged-in users, and an endpoint that keeps the async ORM's thread busy."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Annotated, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.django_settings")

import django

django.setup()

from channels.db import database_sync_to_async  # noqa: E402
from django.core.cache import cache  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.auth import login_required, user_passes_test  # noqa: E402

app = FastAPI()
outcomes: list[str] = []
begun, told = asyncio.Event(), asyncio.Event()


def known_to_cache(user: Any) -> bool:
    return bool(cache.get_or_set(f"known.{user.pk}", True))


async def known_to_cache_too(user: Any) -> bool:
    return bool(await cache.aget_or_set(f"known.{user.pk}", True))


KNOWN = [Depends(user_passes_test(known_to_cache)), Depends(user_passes_test(known_to_cache_too))]


@app.websocket("/members")
async def members(websocket: WebSocket, user: Annotated[Any, Depends(login_required)]) -> None:
    await websocket.accept()
    await websocket.send_text(user.username)
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/known", dependencies=KNOWN)
async def known(websocket: WebSocket) -> None:
    """Read and write the session, and stay connected."""
    await websocket.accept()
    count = await websocket.session.aget("count", 0) + 1
    await websocket.session.aset("count", count)
    await websocket.session.asave()
    await websocket.send_json(count)
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/block")
async def block(websocket: WebSocket) -> None:
    """Occupy the thread of the async ORM until the client sends something."""
    await websocket.accept()
    enough = threading.Event()
    blocking = asyncio.ensure_future(database_sync_to_async(enough.wait)(60))
    await websocket.send_text("blocking")
    await websocket.receive_text()
    enough.set()
    assert await blocking
    await websocket.send_text("done")


@app.websocket("/late")
async def late(websocket: WebSocket, seconds: float) -> None:
    """Accept after the server may already have abandoned the handshake."""
    begun.set()
    await database_sync_to_async(time.sleep)(seconds)
    try:
        await websocket.accept()
    except WebSocketDisconnect as gone:
        outcomes.append(f"WebSocketDisconnect {gone.code}")
        raise
    except BaseException as exc:
        outcomes.append(repr(exc))
        raise
    finally:
        told.set()


@app.websocket("/begun")
async def wait_for_late(websocket: WebSocket) -> None:
    await begun.wait()
    await websocket.accept()


@app.websocket("/outcomes")
async def tell(websocket: WebSocket) -> None:
    await websocket.accept()
    await told.wait()
    await websocket.send_json(outcomes)


application = get_asgi_application(app)
