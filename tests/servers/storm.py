"""Sockets of logged-in users, and endpoints that answer when they are told to."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Annotated, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.django_settings")

from fastws_compat.asgi import get_asgi_application

application = get_asgi_application("tests.servers.django_sockets:app")

from django.db.backends.signals import connection_created  # noqa: E402

from fastws_compat import Depends, WebSocket  # noqa: E402
from fastws_compat.auth import login_required, permission_required  # noqa: E402
from fastws_compat.logins import batches  # noqa: E402
from tests.servers.django_queries import observe, statements  # noqa: E402
from tests.servers.django_sockets import app  # noqa: E402

connection_created.connect(observe)
begun: list[str] = []
may_answer = asyncio.Semaphore(0)
may_query = threading.Event()
may_query.set()


def wait_until_released(execute: Callable[..., Any], *arguments: Any) -> Any:
    assert may_query.wait(60)
    return execute(*arguments)


def hold(connection: Any, **kwargs: Any) -> None:
    connection.execute_wrappers.append(wait_until_released)


connection_created.connect(hold)


def looked_up() -> int:
    """The number of handshakes whose look-up waits or is being made."""
    queues = batches._of_loop()._queues.values()
    return sum(len(queue.entries()) for queue in queues)


@app.websocket("/storm/members")
async def members(websocket: WebSocket, user: Annotated[Any, Depends(login_required)]) -> None:
    await websocket.accept()
    await websocket.send_text(user.username)
    await websocket.receive()


@app.websocket("/storm/viewers")
async def viewers(
    websocket: WebSocket, user: Annotated[Any, Depends(permission_required("auth.view_user"))]
) -> None:
    await members(websocket, user)


@app.websocket("/storm/slow/{name}", dependencies=[Depends(login_required)])
async def slow(websocket: WebSocket, name: str) -> None:
    begun.append(name)
    await may_answer.acquire()
    await websocket.accept()
    await websocket.receive()


app.websocket("/storm/open/{name}")(slow)


@app.websocket("/storm/sleep/{seconds}")
async def sleep(websocket: WebSocket, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await websocket.accept()
    await websocket.receive()


@app.websocket("/storm/control")
async def control(websocket: WebSocket) -> None:
    """Does what its client says; it is opened before the others come."""
    await websocket.accept()
    async for what in websocket.iter_text():
        if what == "forget":
            statements.clear()
        elif what == "hold":
            may_query.clear()
        elif what.startswith("release"):
            while looked_up() < int(what.split()[1]):
                await asyncio.sleep(0.01)
            may_query.set()
        elif what.startswith("wait"):
            while len(begun) < int(what.split()[1]):
                await asyncio.sleep(0.01)
        elif what == "answer":
            may_answer.release()
        await websocket.send_json({"begun": begun, "statements": statements})
