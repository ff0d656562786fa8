"""Connections with stages leave nothing to the garbage collector, and late sends fail as before."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.connections.pipe import hang_up
from fastws_compat.connections.readahead import ReadAhead
from fastws_compat.connections.states import LOGIN, SESSION
from fastws_compat.logins import registry
from fastws_compat.signals import message_received
from tests.fake_server import CONNECT, FakeServer, websocket_scope

Act = Callable[[WebSocket], Awaitable[None]]


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def listened() -> Iterator[None]:
    def receiver(**kwargs: Any) -> None: ...

    message_received.connect(receiver)
    yield
    message_received.disconnect(receiver)


async def plain(websocket: WebSocket) -> None:
    await websocket.receive_text()


async def log_in(websocket: WebSocket) -> None:
    registry.enter(websocket, "1", None)
    await websocket.receive_text()


async def log_out(websocket: WebSocket) -> None:
    registry.enter(websocket, "1", None)
    websocket.scope[LOGIN].end(4401, "")
    with pytest.raises(WebSocketDisconnect):
        await websocket.receive_text()
    with pytest.raises(WebSocketDisconnect):
        await websocket.send_text("late")


async def be_kicked(websocket: WebSocket) -> None:
    await hang_up(websocket, 4000, "kicked")
    with pytest.raises(WebSocketDisconnect):
        await websocket.send_text("late")


async def be_busy(websocket: WebSocket) -> None:
    """The endpoint receives in the turn of the loop in which the message that is read ahead comes."""
    websocket.scope[SESSION].read_ahead = ReadAhead(websocket)
    await asyncio.sleep(0)
    await websocket.receive_text()


async def freed(act: Act, path: str = "/ws") -> bool:
    app, sockets = FastAPI(), []

    async def endpoint(websocket: WebSocket) -> None:
        sockets.append(weakref.ref(websocket))
        await websocket.accept()
        await act(websocket)

    app.websocket("/ws")(endpoint)
    app.websocket("/limited", idle_timeout=1000)(endpoint)
    server = FakeServer(CONNECT)
    server.start(app, websocket_scope(path))
    await server.wait_sent("websocket.accept")
    server.say("on")
    await server.wait_ended()
    del server
    [socket] = sockets
    async with asyncio.timeout(5):
        while socket() is not None:
            await asyncio.sleep(0)
    return True


def test_what_is_sent_after_the_end_of_a_kicked_connection_raises_its_disconnect() -> None:
    async def main() -> None:
        app, kept = FastAPI(), []

        @app.websocket("/ws")
        async def endpoint(websocket: WebSocket) -> None:
            await websocket.accept()
            await hang_up(websocket, 4000, "kicked")
            kept.append(websocket._send)

        server = FakeServer(CONNECT)
        server.start(app, websocket_scope("/ws"))
        await server.wait_ended()
        with pytest.raises(WebSocketDisconnect) as caught:
            await kept[0]({"type": "websocket.send", "text": "late"})
        assert (caught.value.code, caught.value.reason) == (4000, "kicked")

    asyncio.run(main())


@pytest.mark.parametrize("act", [plain, log_in, log_out, be_kicked, be_busy])
def test_a_connection_with_a_stage_is_freed_without_the_collector(act: Act) -> None:
    assert asyncio.run(freed(act))


def test_a_connection_with_limits_is_freed_without_the_collector() -> None:
    assert asyncio.run(freed(plain, "/limited"))


@pytest.mark.usefixtures("listened")
def test_a_connection_with_signals_is_freed_without_the_collector() -> None:
    assert asyncio.run(freed(plain))
