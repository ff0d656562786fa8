"""Dependencies with a slow cleanup, on daphne; all other paths are those of the bare applications.

"/slow?as=mine" records events as "mine ..."; its dependency depends on one that records its end as well.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.daphne.server import Server
from fastws_compat.types import Receive, Scope, Send
from tests.servers import apps
from tests.servers.apps import record

library = FastAPI()
check_applications = Server.application_checker


class Checks:
    """Lets a coroutine wait for daphne's checks of its applications, which happen once a second."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def happened(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, count: int) -> None:
        for _ in range(count):
            await self._next.wait()


checks = Checks()


def look(server: Server) -> None:
    check_applications(server)
    checks.happened()


Server.application_checker = look  # type: ignore[method-assign]


def name(websocket: WebSocket) -> str:
    return websocket.query_params.get("as", websocket.url.path.strip("/"))


async def outer(name: str = Depends(name)) -> AsyncIterator[None]:
    try:
        yield
    finally:
        record(f"{name} outer ended")


async def slow(name: str = Depends(name), outer: None = Depends(outer)) -> AsyncIterator[None]:
    """Clean up for longer than two of daphne's checks."""
    try:
        yield
    finally:
        await noted(name, checks.wait(4))


async def overtime(name: str = Depends(name), outer: None = Depends(outer)) -> AsyncIterator[None]:
    """Clean up for a little longer than a grace of one second."""
    try:
        yield
    finally:
        await noted(name, asyncio.sleep(1.1))


async def hangs(name: str = Depends(name), outer: None = Depends(outer)) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await noted(name, asyncio.Event().wait())


async def hangs_too(name: str = Depends(name), hangs: None = Depends(hangs)) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.Event().wait()


def sticks(name: str = Depends(name), outer: None = Depends(outer)) -> Iterator[None]:
    """Keep a thread busy."""
    try:
        yield
    finally:
        os.write(1, f"EVENT {name} cleanup\n".encode())  # a single write, unlike print() in two threads
        time.sleep(60)


async def noted(name: str, work: object) -> None:
    record(f"{name} cleanup")
    try:
        await work  # type: ignore[misc]
    except asyncio.CancelledError:
        record(f"{name} cancelled")
        raise
    record(f"{name} cleaned up")


async def listen(websocket: WebSocket, name: str = Depends(name)) -> None:
    await websocket.accept()
    record(f"{name} accepted")
    try:
        await websocket.receive_text()
    except WebSocketDisconnect as gone:
        record(f"{name} disconnected", gone.code)


async def ignore(websocket: WebSocket, name: str = Depends(name)) -> None:
    await websocket.accept()
    record(f"{name} accepted")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        record(f"{name} told to end")
        raise


for dependency in (slow, overtime, hangs, hangs_too, sticks):
    library.add_api_websocket_route(f"/{dependency.__name__}", listen, dependencies=[Depends(dependency)])
library.add_api_websocket_route("/ignore", ignore, dependencies=[Depends(slow)])


async def long_finally(scope: Scope, receive: Receive, send: Send) -> None:
    """A bare application that ends only when cancelled, and after some time."""
    await apps.accepted(receive, send)
    record("long_finally accepted")
    try:
        await asyncio.Event().wait()
    finally:
        await noted("long_finally", checks.wait(3))


async def wait_for_checks(scope: Scope, receive: Receive, send: Send) -> None:
    await apps.accepted(receive, send)
    await checks.wait(4)
    await apps.text(send, "daphne has looked")


async def undead_request(scope: Scope, receive: Receive, send: Send) -> None:
    record("undead request")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            record("undead request cancelled")


APPLICATIONS = {
    **{("websocket", route.path): library for route in library.routes},
    ("websocket", "/long_finally"): long_finally,
    ("websocket", "/checks"): wait_for_checks,
    ("http", "/undead"): undead_request,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await APPLICATIONS.get((scope["type"], scope.get("path")), apps.app)(scope, receive, send)
