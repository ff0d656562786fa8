"""Connections with stages leave nothing to the garbage collector, and late sends fail as before."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.connections.pipe import hang_up
from fastws_compat.connections.readahead import ReadAhead
from fastws_compat.connections.states import LOGIN, SESSION
from fastws_compat.logins import registry
from fastws_compat.signals import connected, disconnected, message_received, message_sent
from fastws_compat.types import Message
from tests.fake_server import CONNECT, FakeServer, disconnect, text, websocket_scope

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


async def read_ahead(websocket: WebSocket) -> None:
    """Leave once a message was read ahead, if the client has sent one."""
    websocket.scope[SESSION].read_ahead = ReadAhead(websocket)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def wait_in_a_task(websocket: WebSocket) -> None:
    """Leave while a task is receiving what is read ahead."""
    await read_ahead(websocket)
    websocket.state.task = asyncio.create_task(websocket.receive_text())
    await asyncio.sleep(0)


async def nothing(websocket: WebSocket) -> None: ...


async def late(act: Act, *incoming: Message, **limits: Any) -> tuple[WebSocket, FakeServer]:
    """A socket whose endpoint has returned, on a server that ignores what is sent to it from then on."""
    app, kept = FastAPI(), []

    @app.websocket("/ws", **limits)
    async def endpoint(websocket: WebSocket) -> None:
        kept.append(websocket)
        await websocket.accept()
        await act(websocket)

    server = FakeServer(CONNECT, *incoming)
    server.start(app, websocket_scope("/ws"))
    await server.wait_ended()
    return kept[0], server


@pytest.mark.parametrize(
    ("act", "early"), [(nothing, 0), (read_ahead, 0), (read_ahead, 1), (wait_in_a_task, 0)]
)
def test_a_task_that_outlives_its_connection_receives_what_is_left(act: Act, early: int) -> None:
    messages = [text("one"), text("two")]

    async def main() -> None:
        websocket, server = await late(act, *messages[:early])
        for message in (*messages[early:], disconnect(1000)):
            server.put(message)
        first = getattr(websocket.state, "task", None) or websocket.receive_text()
        assert [await first, await websocket.receive_text()] == ["one", "two"]
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.receive_text()
        assert caught.value.code == 1000

    asyncio.run(main())


def test_the_limits_of_a_connection_end_with_it() -> None:
    async def main() -> None:
        websocket, server = await late(nothing, text("one"), text("two"), rate_limit="1/m")
        closes = server.closes
        assert [await websocket.receive_text(), await websocket.receive_text()] == ["one", "two"]
        assert server.closes == closes == [1000]

    asyncio.run(main())


def test_nothing_is_greeted_after_the_end_of_a_connection() -> None:
    async def main() -> None:
        app, kept = FastAPI(), []

        @app.websocket("/ws")
        async def endpoint(websocket: WebSocket) -> None:
            kept.append(websocket)

        server = FakeServer(CONNECT)
        server.start(app, websocket_scope("/ws", query_string=b"fastws=1"))
        await server.wait_ended()
        await kept[0].accept()
        assert server.types == ["websocket.close", "websocket.accept"]

    asyncio.run(main())


def test_no_signal_follows_disconnected() -> None:
    """A server may ignore what a task sends late, so nothing was sent."""
    heard: list[str] = []

    async def note(sender: Any, signal: Signal, websocket: Any, **values: Any) -> None:
        heard.append(next(name for name, each in signals.items() if each is signal))
        if signal is signals["disconnected"]:
            await websocket.send_text("while it is sent")

    async def main() -> None:
        websocket, server = await late(nothing, text("late"))
        await websocket.send_text("late")
        assert await websocket.receive_text() == "late"
        assert server.texts[-1] == "late"

    signals = {"connected": connected, "disconnected": disconnected}
    signals |= {"message_received": message_received, "message_sent": message_sent}
    for signal in signals.values():
        signal.connect(note)
    try:
        asyncio.run(main())
        assert heard == ["connected", "disconnected"]
        heard.clear()
        disconnected.disconnect(note)
        asyncio.run(main())
        assert heard == ["connected"]
    finally:
        for signal in signals.values():
            signal.disconnect(note)


@pytest.mark.parametrize("act", [plain, log_in, log_out, be_kicked, be_busy])
def test_a_connection_with_a_stage_is_freed_without_the_collector(act: Act) -> None:
    assert asyncio.run(freed(act))


def test_a_connection_with_limits_is_freed_without_the_collector() -> None:
    assert asyncio.run(freed(plain, "/limited"))


@pytest.mark.usefixtures("listened")
def test_a_connection_with_signals_is_freed_without_the_collector() -> None:
    assert asyncio.run(freed(plain))
