"""The fields of log records of connections, and the line for each connection that has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from fastws_compat import FastAPI, WebSocket, WebSocketException, logs
from fastws_compat.concurrency import run_in_threadpool
from fastws_compat.connections import census, hooks, refusal, sweeper
from fastws_compat.logger import in_words
from fastws_compat.operations import akick
from tests.fake_server import CONNECT, DENIAL, FakeServer, connected, disconnect, text, websocket_scope

app_log = logging.getLogger("tests.logs")


@pytest.fixture
def access(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Turns the access log on; a call gives its records."""
    caplog.set_level(logging.INFO)
    with override_settings(FASTWS={"ACCESS_LOG": True}):
        logs.install()
        yield lambda: [record for record in caplog.records if record.name == "fastws_compat.access"]


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (OSError("The disk is full."), "OSError: The disk is full"),
        (OSError("Connection lost.."), "OSError: Connection lost"),  # redis-py adds one of its own
        (OSError("refused\n\tIs the server running?\n"), "OSError: refused Is the server running?"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_an_exception_in_words_fits_into_a_sentence(exc: Exception, words: str) -> None:
    assert in_words(exc) == words


def run(app: Any, server: FakeServer, path: str = "/ws", **scope: Any) -> None:
    asyncio.run(app(websocket_scope(path, **scope), server.receive, server.send))


def test_records_of_two_sockets_at_once_have_their_own_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tests.logs")
    caplog.handler.addFilter(logs.Connection())
    app, ids = FastAPI(), {}

    def in_thread(name: str) -> None:
        app_log.info("%s thread", name)

    async def sub_task(name: str) -> None:
        app_log.info("%s task", name)

    @app.websocket("/ws/{name}")
    async def endpoint(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        ids[name] = websocket.scope["fastws_compat.session"].id
        app_log.info("%s endpoint", name)
        await asyncio.create_task(sub_task(name))
        await run_in_threadpool(in_thread, name)
        await websocket.receive_text()

    async def both() -> None:
        servers = [FakeServer(CONNECT), FakeServer(CONNECT)]
        for name, server in zip("ab", servers, strict=True):
            server.start(app, websocket_scope(f"/ws/{name}"))
        for server in servers:
            await server.wait_sent("websocket.accept")
            while server.receiving == 0:
                await asyncio.sleep(0.001)
            server.hang_up(1000)
            await server.wait_ended()

    asyncio.run(both())
    app_log.info("after")
    own = [record for record in caplog.records if record.name == "tests.logs"]
    assert len(own) == 7
    for record in own[:-1]:
        name = record.getMessage().split()[0]
        assert (record.connection_id, record.route, record.endpoint) == (ids[name], "/ws/{name}", "endpoint")
        assert (record.user_id, record.trace_id, record.span_id) == (None, None, None)
    assert own[-1].connection_id is None


@pytest.mark.django_db(transaction=True)
def test_records_of_the_orm_have_the_id_of_their_socket(
    caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.DEBUG = True  # so that the ORM logs its queries
    caplog.set_level(logging.DEBUG, "django.db.backends")
    caplog.handler.addFilter(logs.Connection())
    app, ids = FastAPI(), {}

    def in_thread(name: str) -> bool:
        return User.objects.filter(username=f"thread-{name}").exists()

    @app.websocket("/ws/{name}")
    async def endpoint(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        ids[name] = websocket.scope["fastws_compat.session"].id
        await User.objects.filter(username=f"async-{name}").aexists()
        await run_in_threadpool(in_thread, name)
        await websocket.send_text("done")

    async def both() -> None:
        servers = [FakeServer(CONNECT), FakeServer(CONNECT)]
        for name, server in zip("ab", servers, strict=True):
            server.start(app, websocket_scope(f"/ws/{name}"))
        for server in servers:
            await server.wait_sent("websocket.send")
            await server.leave()

    asyncio.run(both())
    found = {
        (kind, name, record.connection_id)
        for record in caplog.records
        if record.name == "django.db.backends"
        for kind in ("async", "thread")
        for name in "ab"
        if f"{kind}-{name}" in record.getMessage()
    }
    assert found == {(kind, name, ids[name]) for kind in ("async", "thread") for name in "ab"}


def test_a_record_after_the_end_has_no_connection() -> None:
    log_filter = logs.Connection()
    app, late = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    async def in_one_task() -> None:
        server = FakeServer(CONNECT)
        await app(websocket_scope(), server.receive, server.send)
        record = logging.makeLogRecord({})
        log_filter.filter(record)
        late.append(record.connection_id)

    asyncio.run(in_one_task())
    assert late == [None]


def test_fields_of_the_record_itself_stay() -> None:
    record = logging.makeLogRecord({"route": "/mine"})
    assert logs.Connection().filter(record)
    assert record.route == "/mine"


def test_the_lines_of_a_mounted_application_have_its_mount(caplog: pytest.LogCaptureFixture) -> None:
    inner, app = FastAPI(), FastAPI()

    @inner.websocket("/ws/{number}")
    async def endpoint(websocket: WebSocket, number: int) -> None:
        raise LookupError(number)

    app.mount("/shops/{name}", inner)
    run(app, FakeServer(CONNECT), "/shops/secret/ws/7")
    run(app, FakeServer(CONNECT), "/shops/secret/ws/seven")
    assert caplog.messages == [
        "Exception in WebSocket /shops/{name}/ws/{number}",
        "WebSocket /shops/{name}/ws/{number}: the handshake does not fit its parameters: "
        "path.number (int_parsing)",
    ]
    assert {record.route for record in caplog.records} == {"/shops/{name}/ws/{number}"}


def test_an_end_leaves_one_line(access: Any) -> None:
    app = FastAPI()

    @app.websocket("/ws/rooms/{slug}")
    async def echo(websocket: WebSocket, slug: str) -> None:
        await websocket.accept()
        async for each in websocket.iter_text():
            await websocket.send_text(each)

    server = FakeServer(CONNECT, text("one"), text("two"), disconnect(1001))
    run(app, server, "/ws/rooms/secret", client=("203.0.113.9", 5), query_string=b"token=secret")
    [record] = access()
    message = record.getMessage()
    assert message.startswith("/ws/rooms/{slug} closed 1001 by client after 0.")
    assert message.endswith(" s, 2 in, – out")
    assert (record.code, record.by, record.status, record.reason) == (1001, "client", 101, None)
    assert (record.messages_in, record.bytes_in, record.address) == (2, None, "203.0.113.x")
    assert record.route == "/ws/rooms/{slug}"
    assert 0 <= record.seconds < 60
    assert "secret" not in str(vars(record))


def app_of_endings() -> FastAPI:
    app = FastAPI(max_message_size=100)

    @app.websocket("/receives")
    @app.websocket("/idle", idle_timeout=0.05)
    async def receives(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.receive_text()

    @app.websocket("/sends")
    async def sends(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.send_text("tick")
            await asyncio.sleep(0.001)

    @app.websocket("/swallows")
    async def swallows(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(BaseException):
            while True:
                await websocket.receive_text()

    @app.websocket("/returns")
    async def returns(websocket: WebSocket) -> None:
        await websocket.accept()

    @app.websocket("/closes")
    async def closes(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4001, "enough")

    @app.websocket("/raises")
    async def raises(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ZeroDivisionError

    @app.websocket("/rejects")
    async def rejects(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketException(4003)

    return app


LOST, GONE = disconnect(1006), disconnect(1001)


@pytest.mark.parametrize(
    ("path", "last", "code", "by"),
    [
        ("/receives", GONE, 1001, "client"),
        ("/receives", LOST, 1006, "lost"),
        ("/receives", text("x" * 101), 1009, "server"),
        ("/receives", "kick", 4403, "operator"),
        ("/sends", GONE, 1001, "client"),
        ("/sends", LOST, 1006, "lost"),
        ("/sends", "kick", 4403, "operator"),
        ("/swallows", GONE, 1001, "client"),
        ("/swallows", "kick", 4403, "operator"),
        ("/idle", None, 4408, "server"),
        ("/returns", None, 1000, "server"),
        ("/closes", None, 4001, "server"),
        ("/raises", None, 1011, "server"),
        ("/rejects", None, 4003, "server"),
    ],
)
def test_each_ending_leaves_one_line(
    access: Any, monkeypatch: pytest.MonkeyPatch, path: str, last: Any, code: int, by: str
) -> None:
    monkeypatch.setattr(sweeper, "INTERVAL", 0.01)

    async def end() -> None:
        server = connected(app_of_endings(), path=path)
        await server.wait_sent("websocket.accept")
        if last == "kick":
            assert (await akick(route=path, code=code)).count == 1
            await server.wait_sent("websocket.close")
            server.hang_up(code)  # the client's answer
        elif last is not None:
            server.put(last)
        await server.wait_ended()

    asyncio.run(end())
    [record] = access()
    assert record.getMessage().startswith(f"{path} closed {code} by {by} after ")
    assert (record.code, record.by, record.status) == (code, by, 101)


def test_a_refusal_leaves_one_line(access: Any) -> None:
    app = FastAPI(max_connections=0)

    @app.websocket("/full")
    async def full(websocket: WebSocket) -> None: ...

    run(app, FakeServer(CONNECT), "/full", extensions=DENIAL)
    [record] = access()
    assert record.getMessage() == "/full refused 503 limit_process"
    assert (record.status, record.reason) == (503, "limit_process")
    assert not hasattr(record, "code")


def test_a_refusal_before_the_session_leaves_one_line(access: Any) -> None:
    server = FakeServer(CONNECT)
    scope = websocket_scope("/ws", client=("2001:db8:1:2::3", 5))
    asyncio.run(refusal.refuse(scope, server.send, 403, reason="origin"))
    census.refused(None, 503, "stopping")
    assert [record.getMessage() for record in access()] == [
        "(none) refused 403 origin",
        "(none) refused 503 stopping",
    ]
    assert [record.address for record in access()] == ["2001:db8:1::x", None]


def test_without_the_setting_nothing_is_logged(access: Any) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None: ...

    with override_settings(FASTWS={}):
        run(app, FakeServer(CONNECT))
        census.refused(None, 503, "stopping")
    assert access() == []


def test_following_twice_enters_once() -> None:
    logs.follow()
    logs.follow()
    assert len(hooks.begun) == 1


def test_the_span_of_a_record_is_the_current_one() -> None:
    from opentelemetry import trace

    assert logs.span_ids() == (None, None)
    context = trace.SpanContext(trace_id=0xA, span_id=0xB, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert logs.span_ids() == (f"{0xA:032x}", f"{0xB:016x}")
