"""The signals of sockets, the fields of log records, and the cost of both."""

import asyncio
import logging
import sys
from contextlib import contextmanager

import pytest
from django.contrib.auth.models import User

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect, signals
from fastws_compat.auth import disconnect_user, login_required
from fastws_compat.connections import lifecycle as sessions
from fastws_compat.connections.pipe import pipe_of
from fastws_compat.groups import Group
from fastws_compat.signals import connected, disconnected, message_received, message_sent
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from tests.fake_server import CONNECT, FakeServer, disconnect, text, until, websocket_scope

ALL = {
    "connected": connected,
    "disconnected": disconnected,
    "message_received": message_received,
    "message_sent": message_sent,
}


def echo_app():
    app = FastAPI()

    @app.websocket("/echo/{room}")
    async def echo(websocket: WebSocket, room: str):
        await websocket.accept()
        async for data in websocket.iter_text():
            await websocket.send_text(data)

    return app


@contextmanager
def recorded(*names, sender=None):
    """The signals sent, as (name, arguments)."""
    heard, receivers = [], []
    for name in names or ALL:

        def receive(sender, signal, websocket, name=name, **values):
            heard.append((name, values.get("code", values.get("message", {}).get("text"))))

        receivers.append((ALL[name], receive))
        ALL[name].connect(receive, sender=sender)
    try:
        yield heard
    finally:
        for signal, receive in receivers:
            signal.disconnect(receive, sender=sender)


def test_a_conversation():
    with recorded() as heard:
        with TestClient(echo_app()).websocket_connect("/echo/1") as websocket:
            websocket.send_text("a")
            assert websocket.receive_text() == "a"
            websocket.close(3000)
    assert heard == [
        ("connected", None),
        ("message_received", "a"),
        ("message_sent", "a"),
        ("disconnected", 3000),
    ]


@pytest.mark.parametrize("name", ALL)
def test_one_signal_alone(name):
    with recorded(name) as heard:
        with TestClient(echo_app()).websocket_connect("/echo/1") as websocket:
            websocket.send_text("a")
            assert websocket.receive_text() == "a"
    told = {"connected": None, "disconnected": 1000}
    assert heard == [(name, told.get(name, "a"))]


def test_sender_is_the_route_and_the_socket_is_the_endpoints():
    app, heard = echo_app(), []

    def receive(sender, websocket, **kwargs):
        heard.append((sender, websocket.path_params, sender.path))

    connected.connect(receive)
    try:
        with TestClient(app).websocket_connect("/echo/7"):
            pass
    finally:
        connected.disconnect(receive)
    assert heard == [(app.routes[-1], {"room": "7"}, "/echo/{room}")]


def test_receiver_of_one_route_only():
    app, other = echo_app(), echo_app()
    with recorded(sender=app.routes[-1]) as heard:
        for application in (other, app):
            with TestClient(application).websocket_connect("/echo/1"):
                pass
    assert heard == [("connected", None), ("disconnected", 1000)]


def test_async_receiver_and_one_that_raises(caplog):
    heard = []

    async def receive(sender, websocket, **kwargs):
        await asyncio.sleep(0)
        heard.append("async")

    def fail(sender, websocket, **kwargs):
        raise ValueError("a receiver's own")

    message_received.connect(receive)
    message_received.connect(fail)
    try:
        with TestClient(echo_app()).websocket_connect("/echo/1") as websocket:
            websocket.send_text("a")
            assert websocket.receive_text() == "a"
    finally:
        message_received.disconnect(receive)
        message_received.disconnect(fail)
    assert heard == ["async"]
    assert [record.name for record in caplog.records] == ["django.dispatch"]


@pytest.mark.parametrize(
    ("how", "code"), [("return", 1000), ("close", 4000), ("raise", 1011), ("disconnect", 1006)]
)
def test_code_of_the_end(how, code):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        if how == "close":
            await websocket.close(4000)
        elif how == "raise":
            raise ValueError
        elif how == "disconnect":
            await websocket.receive_text()

    with recorded("disconnected") as heard:
        with TestClient(app, raise_server_exceptions=False).websocket_connect("/ws") as websocket:
            if how == "disconnect":
                websocket.close(1006)
            else:
                with pytest.raises(WebSocketDisconnect):
                    websocket.receive_text()
    assert heard == [("disconnected", code)]


def test_refused_handshake_sends_no_connected_signal():
    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(login_required)])
    async def endpoint(websocket: WebSocket):
        raise AssertionError("not reached")

    with recorded() as heard, pytest.raises(WebSocketDenialResponse):
        TestClient(app).websocket_connect("/ws").__enter__()
    assert heard == []


@pytest.mark.django_db
def test_login_that_ends_disconnects():
    app, ann = FastAPI(), User.objects.create_user("ann")

    @app.websocket("/ws", dependencies=[Depends(login_required)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async for _ in websocket.iter_text():
            pass

    client = TestClient(app)
    client.force_login(ann)
    with recorded() as heard:
        with client.websocket_connect("/ws") as websocket:
            disconnect_user(ann)
            with pytest.raises(WebSocketDisconnect):
                websocket.receive_text()
    assert heard == [("connected", None), ("disconnected", 4401)]


def test_nothing_is_wrapped_without_receivers(monkeypatch):
    monkeypatch.setattr(signals, "Observer", None)  # calling it would fail
    with TestClient(echo_app()).websocket_connect("/echo/1") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"


def test_log_records_contain_user_and_route_but_nothing_that_was_sent(caplog):
    app = FastAPI()

    @app.websocket("/rooms/{room}")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise ValueError("boom")

    client = TestClient(app, raise_server_exceptions=False, headers={"x-secret": "hidden"})
    with caplog.at_level(logging.DEBUG, "fastws_compat"):
        with client.websocket_connect("/rooms/7?token=hidden") as websocket:
            with pytest.raises(WebSocketDisconnect):
                websocket.receive_text()
    [record] = caplog.records
    extra = {name: vars(record)[name] for name in ("route", "endpoint", "user_id")}
    assert extra == {"route": "/rooms/{room}", "endpoint": "endpoint", "user_id": None}
    assert len(record.connection_id) == 32
    assert not any("hidden" in str(value) for value in vars(record).values())


def calls_of(messages):
    """The number of Python functions that a connection with this many messages calls.

    The minimum of several runs, to exclude calls by the garbage collector and the loop's timers.
    """
    return min(calls_of_one(messages) for _ in range(5))


def calls_of_one(messages):
    app, server = echo_app(), FakeServer(CONNECT, *[text("a")] * messages, disconnect(1000))
    scope = websocket_scope("/echo/1")
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    async def main():
        sys.setprofile(count)
        try:
            await app(scope, server.receive, server.send)
        finally:
            sys.setprofile(None)

    asyncio.run(main())
    assert len(server.sent) == messages + 1  # the accept
    return calls


def test_signals_without_receivers_cost_no_call(monkeypatch):
    calls_of(1)  # creates everything that is created once
    with_signals = calls_of(10), calls_of(110)
    monkeypatch.setattr(sessions, "observers", [])
    without = calls_of(10), calls_of(110)
    assert with_signals[1] - with_signals[0] == without[1] - without[0] > 0
    with recorded("message_received"):
        monkeypatch.setattr(sessions, "observers", [signals.observe])
        assert calls_of(110) - calls_of(10) > with_signals[1] - with_signals[0]


def test_format_may_name_the_fields_in_every_record():
    record = logging.LogRecord("fastws_compat", logging.WARNING, "", 0, "refused", None, None)
    assert logging.getLogger("fastws_compat").filter(record)
    form = logging.Formatter("%(route)s %(endpoint)s %(user_id)s %(connection_id)s %(message)s")
    assert form.format(record) == "None None None None refused"


@pytest.mark.parametrize(("listened", "is_direct"), [("message_received", True), ("message_sent", False)])
def test_a_broadcast_is_direct_unless_somebody_listens_to_what_is_sent(listened, is_direct):
    app, found = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        pipe = pipe_of(websocket)
        found.append((pipe.passes, pipe.runs_user_code))
        await websocket.join("g")
        await Group("g").asend("hi")
        await websocket.receive()

    with recorded(listened) as heard:
        with TestClient(app).websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "hi"
    assert found == [(is_direct, not is_direct)]
    assert heard == ([] if is_direct else [("message_sent", "hi")])


def test_message_survives_a_receive_that_is_cancelled_while_its_signal_is_sent():
    """`asyncio.wait_for(websocket.receive_text(), 1)` must lose nothing while a receiver writes its log."""
    heard, met, app = [], [], FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        while len(met) < 2:
            task = asyncio.create_task(websocket.receive_text())
            tasks.append(task)
            await asyncio.wait([task])
            if not task.cancelled():
                met.append(task.result())

    async def receive(sender, message, **values):
        heard.append(message["text"])
        if len(heard) == 1:
            await asyncio.Event().wait()

    async def main():
        server = FakeServer(CONNECT, text("one"), text("two"))
        server.start(app, websocket_scope())
        await until(lambda: heard)
        tasks[0].cancel()
        await server.wait_ended()

    tasks = []
    message_received.connect(receive)
    try:
        asyncio.run(main())
    finally:
        message_received.disconnect(receive)
    assert met == heard == ["one", "two"]
