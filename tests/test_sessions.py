"""How a connection ends: one close frame, at most one log line, no exception in the server."""

import asyncio
import logging
import signal
from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import BaseModel, Json

from fastws_compat import (
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.responses import Response
from fastws_compat.websockets import WebSocketDisconnected
from tests.fake_server import (
    CONNECT,
    DENIAL,
    FakeServer,
    binary,
    connected,
    converse,
    disconnect,
    text,
    websocket_scope,
)

ACCEPT = {"type": "websocket.accept", "subprotocol": None, "headers": []}
BYE = disconnect()


def close(code):
    return {"type": "websocket.close", "code": code, "reason": ""}


def records(caplog):
    return [record for record in caplog.records if record.name == "fastws_compat"]


def serving(endpoint, **options):
    app = FastAPI(**options)
    app.websocket("/ws")(endpoint)
    return app


# The endpoint returns


def test_returned_after_accept(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    assert converse(serving(endpoint)) == [ACCEPT, close(1000)]
    assert records(caplog) == []


def test_returned_before_accept(caplog):
    async def endpoint(websocket: WebSocket): ...

    assert converse(serving(endpoint)) == [close(1000)]
    assert records(caplog) == []


def test_returned_before_accept_where_the_server_can_deny():
    async def endpoint(websocket: WebSocket): ...

    assert converse(serving(endpoint), extensions=DENIAL) == [close(1000)]


def test_returned_after_its_own_close():
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.close(4001)

    assert converse(serving(endpoint)) == [ACCEPT, close(4001)]


def test_returned_after_its_own_refusal():
    async def endpoint(websocket: WebSocket):
        await websocket.close(4001)

    assert converse(serving(endpoint)) == [close(4001)]


def test_returned_after_a_denial_response():
    async def endpoint(websocket: WebSocket):
        await websocket.send_denial_response(Response("no", status_code=418))

    sent = converse(serving(endpoint), extensions=DENIAL)
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]


def test_returned_in_the_middle_of_a_denial_response():
    async def endpoint(websocket: WebSocket):
        await websocket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})

    assert converse(serving(endpoint), extensions=DENIAL)[1] == {
        "type": "websocket.http.response.body",
        "body": b"",
    }


def test_returned_after_the_client_left(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        assert [item async for item in websocket.iter_text()] == ["a"]

    assert converse(serving(endpoint), text("a"), BYE) == [ACCEPT]
    assert records(caplog) == []


def test_returned_from_a_raw_route():
    app = FastAPI()

    @app.websocket_route("/ws")
    async def endpoint(websocket):
        await websocket.accept()

    assert converse(app) == [ACCEPT, close(1000)]


def test_returned_from_a_mounted_application():
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    app = FastAPI()
    app.mount("/sub", serving(endpoint))
    assert converse(app, path="/sub/ws") == [ACCEPT, close(1000)]


def test_returned_from_a_foreign_application():
    async def foreign(scope, receive, send):
        await receive()
        await send(ACCEPT)

    app = FastAPI()
    app.mount("/foreign", foreign)
    assert converse(app, path="/foreign/") == [ACCEPT, close(1000)]


def test_returned_from_a_foreign_application_that_said_nothing():
    async def foreign(scope, receive, send): ...

    app = FastAPI()
    app.mount("/foreign", foreign)
    assert converse(app, path="/foreign/") == [close(1000)]


def test_returned_from_a_foreign_application_that_closed():
    async def foreign(scope, receive, send):
        await send(close(4001))

    app = FastAPI()
    app.mount("/foreign", foreign)
    assert converse(app, path="/foreign/") == [close(4001)]


def test_middleware_sends_after_the_endpoint_and_before_the_close():
    class After:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            await send({"type": "websocket.send", "text": "after"})

    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    app = serving(endpoint)
    app.add_middleware(After)
    assert converse(app) == [ACCEPT, {"type": "websocket.send", "text": "after"}, close(1000)]


# The endpoint raises


def raising(error, *, accepts):
    async def endpoint(websocket: WebSocket):
        if accepts:
            await websocket.accept()
        raise error

    return endpoint


def test_raised_before_accept(caplog):
    assert converse(serving(raising(LookupError("why"), accepts=False))) == [close(1011)]
    [record] = records(caplog)
    assert (record.levelname, record.getMessage()) == ("ERROR", "Exception in WebSocket /ws")
    assert str(record.exc_info[1]) == "why"
    assert (record.route, record.endpoint) == ("/ws", "endpoint")


def test_raised_before_accept_where_the_server_can_deny(caplog):
    sent = converse(serving(raising(LookupError("secret"), accepts=False)), extensions=DENIAL)
    assert sent == [
        {"type": "websocket.http.response.start", "status": 500, "headers": []},
        {"type": "websocket.http.response.body", "body": b""},
    ]
    assert len(records(caplog)) == 1


@pytest.mark.parametrize("extensions", [{}, DENIAL])
def test_raised_after_accept(caplog, extensions):
    sent = converse(serving(raising(LookupError("why"), accepts=True)), extensions=extensions)
    assert sent == [ACCEPT, close(1011)]
    [record] = records(caplog)
    assert (record.levelname, str(record.exc_info[1])) == ("ERROR", "why")


def test_raised_after_its_own_close(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.close(4001)
        raise LookupError

    assert converse(serving(endpoint)) == [ACCEPT, close(4001)]
    assert len(records(caplog)) == 1


def test_raised_after_the_client_left(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive()
        raise LookupError

    assert converse(serving(endpoint), BYE) == [ACCEPT]
    assert len(records(caplog)) == 1


def test_raised_in_the_middle_of_a_denial_response(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        raise LookupError

    sent = converse(serving(endpoint), extensions=DENIAL)
    assert sent[1:] == [{"type": "websocket.http.response.body", "body": b""}]
    assert len(records(caplog)) == 1


def test_raised_in_a_dependency(caplog):
    async def dependency():
        raise LookupError("dependency")

    async def endpoint(websocket: WebSocket): ...

    assert converse(serving(endpoint, dependencies=[Depends(dependency)])) == [close(1011)]
    assert len(records(caplog)) == 1


def test_raised_after_the_yield(caplog):
    async def dependency():
        yield
        raise LookupError("teardown")

    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    assert converse(serving(endpoint, dependencies=[Depends(dependency)])) == [ACCEPT, close(1011)]
    assert [str(record.exc_info[1]) for record in records(caplog)] == ["teardown"]


def test_raised_in_a_handler(caplog):
    async def handler(websocket, exc):
        raise LookupError("handler")

    app = serving(raising(ValueError("endpoint"), accepts=True), exception_handlers={ValueError: handler})
    assert converse(app) == [ACCEPT, close(1011)]
    assert [str(record.exc_info[1]) for record in records(caplog)] == ["handler"]


def test_raised_in_middleware(caplog):
    class Broken:
        def __init__(self, app): ...

        async def __call__(self, scope, receive, send):
            raise LookupError("middleware")

    app = FastAPI()
    app.add_middleware(Broken)
    assert converse(app) == [close(1011)]
    assert [str(record.exc_info[1]) for record in records(caplog)] == ["middleware"]


def test_raised_in_middleware_after_the_endpoint(caplog):
    class Broken:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            raise LookupError("middleware")

    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    app = serving(endpoint)
    app.add_middleware(Broken)
    assert converse(app) == [ACCEPT, close(1011)]
    assert len(records(caplog)) == 1


def test_raised_in_a_mounted_application(caplog):
    app = FastAPI()
    app.mount("/sub", serving(raising(LookupError("sub"), accepts=True)))
    assert converse(app, path="/sub/ws") == [ACCEPT, close(1011)]
    assert len(records(caplog)) == 1


def test_raised_in_a_foreign_application(caplog):
    async def foreign(scope, receive, send):
        await send(ACCEPT)
        raise LookupError("foreign")

    app = FastAPI()
    app.mount("/foreign", foreign)
    assert converse(app, path="/foreign/") == [ACCEPT, close(1011)]
    assert len(records(caplog)) == 1


def test_raised_what_has_a_handler(caplog):
    assert converse(serving(raising(WebSocketException(4001), accepts=True))) == [ACCEPT, close(4001)]
    assert records(caplog) == []


def test_raised_refusal_without_the_extension(caplog):
    assert converse(serving(raising(HTTPException(401), accepts=False))) == [close(1000)]
    assert records(caplog) == []


def test_failed_validation_sends_no_reason(caplog):
    async def endpoint(websocket: WebSocket, number: int): ...

    assert converse(serving(endpoint)) == [{"type": "websocket.close", "code": 1008, "reason": ""}]
    [record] = records(caplog)
    line = "WebSocket /ws: the handshake does not fit its parameters: query.number (missing)"
    assert (record.levelname, record.getMessage(), record.exc_info) == ("WARNING", line, None)
    assert record.route == "/ws"


def test_failed_validation_is_logged_without_anything_that_the_client_sent(caplog):
    class Strict(BaseModel):
        model_config = {"extra": "forbid"}
        name: str

    async def endpoint(
        websocket: WebSocket,
        strict: Annotated[Strict, Query()],
        token: Annotated[int, Header()],
        nested: Annotated[Json[dict[str, int]], Cookie()],
    ): ...

    headers = [(b"token", b"s3cret"), (b"cookie", b'nested={"s3cret": "s3cret"}')]
    converse(serving(endpoint), query_string=b"s3cret=s3cret&other%0aline=1", headers=headers)
    [record] = records(caplog)
    assert record.getMessage().partition("parameters: ")[2] == (
        "query.name (missing), query (extra_forbidden), "
        "header.token (int_parsing), cookie.nested (int_parsing)"
    )


def test_used_before_accept_is_a_mistake_of_the_endpoint(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.receive_text()

    assert converse(serving(endpoint)) == [close(1011)]
    [record] = records(caplog)
    assert isinstance(record.exc_info[1], WebSocketDisconnected)


# A path without a route


@pytest.mark.parametrize("extensions", [{}, DENIAL])
def test_unknown_path(caplog, extensions):
    assert converse(FastAPI(), path="/nothing", extensions=extensions) == [close(1000)]
    [record] = records(caplog)
    assert (record.levelname, record.getMessage()) == ("WARNING", "No WebSocket route for '/nothing'")
    assert record.exc_info is None


@pytest.mark.parametrize("path", ["/a\nERROR forged", "/a\r", "/a\x1b[31m", "/a\x00", "/a\u2028b", "/a\x85b"])
def test_control_characters_of_an_unknown_path_are_escaped(caplog, path):
    converse(FastAPI(), path=path)
    [record] = records(caplog)
    assert record.getMessage().isprintable()
    assert repr(path) in record.getMessage()


def test_long_unknown_path_is_cut(caplog):
    converse(FastAPI(), path="/" + "a" * 100_000)
    [record] = records(caplog)
    assert len(record.getMessage()) < 300


def test_unknown_path_of_a_mounted_application(caplog):
    app = FastAPI()
    app.mount("/sub", FastAPI())
    assert converse(app, path="/sub/nothing") == [close(1000)]
    assert len(records(caplog)) == 1


# The client leaves


def test_uncaught_disconnect_is_no_error(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        while True:
            await websocket.receive_text()

    assert converse(serving(endpoint), text("a"), BYE) == [ACCEPT]
    assert records(caplog) == []


def test_disconnect_that_the_endpoint_raises_itself(caplog):
    assert converse(serving(raising(WebSocketDisconnect(1000), accepts=True))) == [ACCEPT, close(1000)]
    assert records(caplog) == []


def test_group_of_disconnects_is_no_error(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(websocket.receive_text())
            tasks.create_task(asyncio.Event().wait())

    assert converse(serving(endpoint), BYE) == [ACCEPT]
    assert records(caplog) == []


def test_nested_groups_of_disconnects_are_no_error(caplog):
    inner = ExceptionGroup("inner", [WebSocketDisconnect(), WebSocketDisconnect(1006)])
    outer = ExceptionGroup("outer", [inner, WebSocketDisconnect()])
    assert converse(serving(raising(outer, accepts=True))) == [ACCEPT, close(1000)]
    assert records(caplog) == []


def test_group_with_another_error_is_one(caplog):
    group = ExceptionGroup("both", [WebSocketDisconnect(), LookupError("other")])
    assert converse(serving(raising(group, accepts=True))) == [ACCEPT, close(1011)]
    assert len(records(caplog)) == 1


def test_disconnect_without_a_code(caplog):
    seen = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as exc:
            seen.append((exc.code, exc.reason))

    converse(serving(endpoint), {"type": "websocket.disconnect"})
    converse(serving(endpoint), {"type": "websocket.disconnect", "code": None})
    assert seen == [(1005, ""), (1005, "")]


def test_client_leaves_before_the_handshake_is_answered(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.receive()
        assert (await websocket.receive())["type"] == "websocket.disconnect"

    assert converse(serving(endpoint), BYE) == []
    assert records(caplog) == []


# The client sends a frame that the endpoint cannot read


@pytest.mark.parametrize(
    ("reader", "frame", "code", "error"),
    [
        ("receive_text", binary(b"x"), 1003, "KeyError"),
        ("receive_bytes", text("x"), 1003, "KeyError"),
        ("receive_json", binary(b"1"), 1003, "KeyError"),
        ("receive_json", text("{"), 1007, "JSONDecodeError"),
        ("receive_json", text(""), 1007, "JSONDecodeError"),
        ("receive_json", text("[" * 100_000), 1007, "RecursionError"),
    ],
)
def test_frame_that_is_not_read(caplog, reader, frame, code, error):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await getattr(websocket, reader)()

    assert converse(serving(endpoint), frame) == [ACCEPT, close(code)]
    [record] = records(caplog)
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert record.getMessage() == (
        f"WebSocket /ws: the client sent a frame that the endpoint cannot read ({error}); closed with {code}"
    )


def test_binary_json_that_is_not_utf_8(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_json("binary")

    assert converse(serving(endpoint), binary(b'"\xff"')) == [ACCEPT, close(1007)]
    assert [record.exc_info for record in records(caplog)] == [None]


@pytest.mark.parametrize("reader", ["iter_text", "iter_json"])
def test_frame_that_a_loop_does_not_read(caplog, reader):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async for _ in getattr(websocket, reader)():
            pass

    assert converse(serving(endpoint), text("1"), binary(b"x")) == [ACCEPT, close(1003)]
    assert [record.exc_info for record in records(caplog)] == [None]


def test_frame_that_a_task_does_not_read(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(websocket.receive_json())

    assert converse(serving(endpoint), text("{")) == [ACCEPT, close(1007)]
    assert [record.exc_info for record in records(caplog)] == [None]


def test_frame_that_a_raw_route_does_not_read(caplog):
    app = FastAPI()

    @app.websocket_route("/ws")
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.receive_json()

    assert converse(app, text("{")) == [ACCEPT, close(1007)]
    assert [record.exc_info for record in records(caplog)] == [None]


def test_frame_that_an_endpoint_class_does_not_read(caplog):
    app = FastAPI()

    @app.websocket_route("/ws")
    class Endpoint(WebSocketEndpoint):
        encoding = "json"

    assert converse(app, text("{")) == [ACCEPT, close(1003)]
    assert [record.exc_info for record in records(caplog)] == [None]


def test_endpoint_answers_a_bad_frame_itself(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_json()
        except ValueError:
            await websocket.send_text("no JSON")

    assert converse(serving(endpoint), text("{"))[1:] == [
        {"type": "websocket.send", "text": "no JSON"},
        close(1000),
    ]
    assert records(caplog) == []


def test_same_error_of_the_endpoint_itself(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        with pytest.raises(KeyError):
            await websocket.receive_text()
        raise KeyError("text")

    assert converse(serving(endpoint), binary(b"x")) == [ACCEPT, close(1011)]
    assert [record.levelname for record in records(caplog)] == ["ERROR"]


def test_handler_for_the_error_of_a_bad_frame(caplog):
    async def handler(websocket, exc):
        await websocket.close(4007)

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_json()

    app = serving(endpoint, exception_handlers={ValueError: handler})
    assert converse(app, text("{")) == [ACCEPT, close(4007)]
    assert records(caplog) == []


# The server cannot send


def failing(kind, error):
    """A server that fails for messages of this type."""

    async def sends(message):
        if message["type"] == kind:
            raise error

    return sends


def test_send_fails_with_an_os_error(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("lost")

    assert converse(serving(endpoint), on_send=failing("websocket.send", ConnectionResetError())) == [ACCEPT]
    assert records(caplog) == []


def test_endpoint_sees_that_the_client_is_lost():
    seen = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.send_text("lost")
        except WebSocketDisconnect as exc:
            seen.append(exc.code)

    assert converse(serving(endpoint), on_send=failing("websocket.send", OSError())) == [ACCEPT]
    assert seen == [1006]


@pytest.mark.parametrize("send", ["send_text", "send_bytes", "send_json"])
def test_send_after_the_server_has_closed_for_a_frame_of_the_client(send, caplog):
    """uvicorn's exception in this case. A client must not be able to cause a traceback."""
    seen = []
    error = RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'.")

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        try:
            await getattr(websocket, send)(b"x" if send == "send_bytes" else "x")
        except WebSocketDisconnect as exc:
            seen.append(exc.code)
            raise

    assert converse(serving(endpoint), on_send=failing("websocket.send", error)) == [ACCEPT]
    assert seen == [1006]
    assert records(caplog) == []


def test_accept_fails_with_an_os_error(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    converse(serving(endpoint), on_send=failing("websocket.accept", ConnectionResetError("lost")))
    assert [record for record in records(caplog) if record.exc_info] == []


@pytest.mark.parametrize("error", [OSError("lost"), RuntimeError("unexpected websocket.close")])
def test_last_close_fails(caplog, error):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    caplog.set_level(logging.INFO, "fastws_compat")
    assert converse(serving(endpoint), on_send=failing("websocket.close", error)) == [ACCEPT]
    assert records(caplog) == []


def test_last_close_after_an_exception_fails(caplog):
    caplog.set_level(logging.INFO, "fastws_compat")
    app = serving(raising(LookupError("why"), accepts=True))
    assert converse(app, on_send=failing("websocket.close", OSError("lost"))) == [ACCEPT]
    assert [str(record.exc_info[1]) for record in records(caplog)] == ["why"]


def test_send_fails_with_another_error(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("x")

    sent = converse(serving(endpoint), on_send=failing("websocket.send", ValueError("server")))
    assert sent == [ACCEPT, close(1011)]
    assert [str(record.exc_info[1]) for record in records(caplog)] == ["server"]


# Cleanup


def generators(seen):
    async def later():
        try:
            yield
        finally:
            seen.append("async")

    def sync():
        try:
            yield
        finally:
            seen.append("sync")

    return [Depends(later), Depends(sync), Depends(later, scope="function")]


async def returns(websocket: WebSocket):
    await websocket.accept()


async def fails(websocket: WebSocket):
    await websocket.accept()
    raise LookupError


async def reads(websocket: WebSocket):
    await websocket.accept()
    await websocket.receive_text()


async def refuses(websocket: WebSocket):
    raise HTTPException(403)


@pytest.mark.parametrize("endpoint", [returns, fails, reads, refuses])
def test_generators_end_once(endpoint):
    seen = []
    converse(serving(endpoint, dependencies=generators(seen)), BYE)
    assert seen == ["async", "sync", "async"]


def test_generators_end_once_when_the_connection_is_cancelled():
    seen = []

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    app = serving(endpoint, dependencies=generators(seen))

    async def main():
        server = connected(app)
        await server.wait_sent("websocket.accept")
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.task
        return server.sent

    sent = asyncio.run(main())
    assert seen == ["async", "sync", "async"]
    assert sent == [ACCEPT]


def test_cancelled_connection_is_not_logged(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        converse(serving(endpoint))
    assert records(caplog) == []


class Abort(BaseException):
    """Not an Exception, like the exceptions of pytest and of some libraries."""


async def await_cancelled():
    task = asyncio.create_task(asyncio.sleep(20))
    task.cancel()
    await task


RAISED = [
    (asyncio.CancelledError, "CancelledError"),
    (await_cancelled, "CancelledError"),
    (Abort, "Abort"),
    (lambda: SystemExit(3), "SystemExit"),
    (GeneratorExit, "GeneratorExit"),
    (lambda: BaseExceptionGroup("", [Abort()]), "Abort"),
]


async def raise_(make):
    made = make()
    raise (await made) if asyncio.iscoroutine(made) else made


@pytest.mark.parametrize(("make", "name"), RAISED)
@pytest.mark.parametrize("when", ["before accept", "after accept", "in a dependency", "in its end"])
def test_every_exception_of_the_project_is_an_error(when, make, name, caplog):
    """Servers do not close a socket for a BaseException, or end the process."""

    async def dependency():
        if when == "in a dependency":
            await raise_(make)
        yield
        if when == "in its end":
            await raise_(make)

    async def endpoint(websocket: WebSocket):
        if when != "before accept":
            await websocket.accept()
        if when.endswith("accept"):
            await raise_(make)

    app = FastAPI()
    app.websocket("/ws", dependencies=[Depends(dependency)])(endpoint)
    accepted = [ACCEPT] if when in ("after accept", "in its end") else []
    assert converse(app) == [*accepted, close(1011)]
    [record] = records(caplog)
    assert record.message == "Exception in WebSocket /ws"
    assert record.exc_info[0].__name__ == name


def test_exceptions_that_are_nested_too_deep_to_be_formatted(caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        group = ExceptionGroup("innermost", [ValueError()])
        for _ in range(2000):
            group = ExceptionGroup("nested", [ValueError(), group])
        raise group

    assert converse(serving(endpoint)) == [ACCEPT, close(1011)]
    [record] = records(caplog)
    assert record.exc_text.count("ValueError") == 15  # as many as Python prints of one group


def test_a_coroutine_that_is_closed_sends_nothing(caplog):
    """So ends what a loop that was closed has left behind: nothing can be awaited any more."""

    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await asyncio.Event().wait()

    server, loop = FakeServer(CONNECT), asyncio.new_event_loop()

    async def main():
        task = server.start(serving(endpoint))
        await server.wait_sent("websocket.accept")
        task._log_destroy_pending = False
        return task.get_coro()

    coroutine = loop.run_until_complete(main())
    loop.close()
    coroutine.close()
    assert server.sent == [ACCEPT]
    assert records(caplog) == []


async def interrupt(websocket: WebSocket):
    raise KeyboardInterrupt


def test_keyboard_interrupt_of_the_project(monkeypatch, caplog):
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    assert converse(serving(interrupt)) == [close(1011)]
    assert len(records(caplog)) == 1


def test_control_c_that_the_server_leaves_to_python(monkeypatch, caplog):
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)

    async def main():
        server = FakeServer(CONNECT)
        with pytest.raises(KeyboardInterrupt):  # in a task of its own it would end the loop too
            await serving(interrupt)(websocket_scope(), server.receive, server.send)
        assert server.sent == []

    asyncio.run(main())
    assert records(caplog) == []


@dataclass(frozen=True)
class Frozen(Exception):
    """A dataclass that refuses every assignment, also to `__traceback__`."""

    detail: str


@pytest.mark.parametrize("handled", [False, True])
def test_frozen_dataclass_as_an_exception(handled, caplog):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        raise Frozen("secret")

    async def answer(websocket: WebSocket, exc: Frozen):
        await websocket.close(4000)

    app = serving(endpoint)
    if handled:
        app.add_exception_handler(Frozen, answer)
    assert converse(app) == [ACCEPT, close(4000 if handled else 1011)]
    assert [record.exc_info[0] for record in records(caplog)] == ([] if handled else [Frozen])


def test_generators_end_before_the_close_is_sent():
    order = []

    async def dependency(websocket: WebSocket):
        yield
        await websocket.send_text("goodbye")

    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    async def note(message):
        order.append(message["type"])

    converse(serving(endpoint, dependencies=[Depends(dependency)]), on_send=note)
    assert order == ["websocket.accept", "websocket.send", "websocket.close"]


def test_entered_generators_end_when_a_later_dependency_fails():
    seen = []

    async def dependency():
        raise LookupError

    async def endpoint(websocket: WebSocket): ...

    converse(serving(endpoint, dependencies=[*generators(seen), Depends(dependency)]))
    assert seen == ["async", "sync", "async"]
