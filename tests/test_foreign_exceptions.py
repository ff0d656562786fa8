"""Exceptions of FastAPI and Starlette, raised by libraries that were not ported, have the same effect."""

import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any

import fastapi
import fastapi.exceptions
import pytest
import starlette.authentication
import starlette.exceptions
import starlette.routing
import starlette.websockets

from fastws_compat import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Response,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastws_compat.authentication import AuthenticationBackend, AuthenticationError
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exceptions import (
    RequestValidationError,
    ResponseValidationError,
    ValidationException,
    WebSocketRequestValidationError,
)
from fastws_compat.middleware.authentication import AuthenticationMiddleware
from fastws_compat.porting import foreign
from fastws_compat.responses import JSONResponse
from tests.fake_server import DENIAL, converse, disconnect

ERRORS = [{"type": "missing", "loc": ("query", "q"), "msg": "Field required", "input": None}]
HEADERS = {"www-authenticate": "Bearer"}


class Expired(fastapi.HTTPException):
    """A library's subclass of FastAPI's exception, with its own attributes."""

    def __init__(self) -> None:
        super().__init__(401, "expired", HEADERS)
        self.since = 7


class Kicked(starlette.exceptions.WebSocketException):
    def __init__(self) -> None:
        super().__init__(4003, "kicked")


# The exceptions and their meaning here.
PAIRS: dict[str, tuple[Callable[[], Exception], Callable[[], Exception]]] = {
    "HTTPException of FastAPI": (
        lambda: fastapi.HTTPException(401, {"why": "token"}, HEADERS),
        lambda: HTTPException(401, {"why": "token"}, HEADERS),
    ),
    "HTTPException of Starlette": (
        lambda: starlette.exceptions.HTTPException(404, headers=HEADERS),
        lambda: HTTPException(404, headers=HEADERS),
    ),
    "HTTPException without a body": (lambda: fastapi.HTTPException(204), lambda: HTTPException(204)),
    "subclass of HTTPException": (Expired, lambda: HTTPException(401, "expired", HEADERS)),
    "WebSocketException of FastAPI": (
        lambda: fastapi.WebSocketException(4008, "slow down"),
        lambda: WebSocketException(4008, "slow down"),
    ),
    "WebSocketException of Starlette": (
        lambda: starlette.exceptions.WebSocketException(1008),
        lambda: WebSocketException(1008),
    ),
    "subclass of WebSocketException": (Kicked, lambda: WebSocketException(4003, "kicked")),
    "RequestValidationError": (
        lambda: fastapi.exceptions.RequestValidationError(ERRORS, body="{}"),
        lambda: RequestValidationError(ERRORS, body="{}"),
    ),
    "WebSocketRequestValidationError": (
        lambda: fastapi.exceptions.WebSocketRequestValidationError(ERRORS),
        lambda: WebSocketRequestValidationError(ERRORS),
    ),
    "ResponseValidationError": (
        lambda: fastapi.exceptions.ResponseValidationError(ERRORS),
        lambda: ResponseValidationError(ERRORS),
    ),
    "AuthenticationError": (
        lambda: starlette.authentication.AuthenticationError("who?"),
        lambda: AuthenticationError("who?"),
    ),
    "WebSocketDisconnect": (
        lambda: starlette.websockets.WebSocketDisconnect(1001, "away"),
        lambda: WebSocketDisconnect(1001, "away"),
    ),
    "group of WebSocketDisconnects": (
        lambda: ExceptionGroup("", [starlette.websockets.WebSocketDisconnect(1001)]),
        lambda: ExceptionGroup("", [WebSocketDisconnect(1001)]),
    ),
}

Raise = Callable[[], Any]


def before_accept(fail: Raise) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        fail()

    return app


def after_accept(fail: Raise) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        fail()

    return app


def in_a_dependency(fail: Raise) -> FastAPI:
    app = FastAPI()

    async def user() -> None:
        fail()

    async def below(user: Annotated[None, Depends(user)]) -> None: ...

    @app.websocket("/ws", dependencies=[Depends(below)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    return app


def in_a_thread(fail: Raise) -> FastAPI:
    app = FastAPI()

    def user() -> None:
        fail()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: Annotated[None, Depends(user)]):
        await websocket.accept()

    return app


def around_the_endpoint(fail: Raise) -> FastAPI:
    app = FastAPI()

    async def user():
        yield
        fail()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: Annotated[None, Depends(user)]):
        await websocket.accept()

    return app


def in_an_endpoint_of_starlettes_kind(fail: Raise) -> FastAPI:
    app = FastAPI()

    @app.websocket_route("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        fail()

    return app


def in_a_class(fail: Raise) -> FastAPI:
    app = FastAPI()

    @app.websocket_route("/ws")
    class Chat(WebSocketEndpoint):
        async def on_connect(self, websocket: WebSocket) -> None:
            fail()

    return app


def in_a_mounted_application(fail: Raise) -> FastAPI:
    app = FastAPI()

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        fail()

    app.mount("/", mounted)
    return app


def in_a_mounted_router_of_starlette(fail: Raise) -> FastAPI:
    app = FastAPI()

    async def endpoint(websocket: starlette.websockets.WebSocket) -> None:
        await websocket.accept()
        fail()

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await endpoint(starlette.websockets.WebSocket(scope, receive, send))

    app.mount("/", starlette.routing.Router([starlette.routing.Mount("/", mounted)]))
    return app


def in_middleware(fail: Raise) -> FastAPI:
    class Gate:
        def __init__(self, app: Any) -> None:
            pass

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            fail()

    app = FastAPI()
    app.add_middleware(Gate)
    return app


PLACES = [
    *(before_accept, after_accept, in_a_dependency, in_a_thread, around_the_endpoint, in_a_class),
    *(in_an_endpoint_of_starlettes_kind, in_a_mounted_application, in_a_mounted_router_of_starlette),
    in_middleware,
]


def sent_by(app: FastAPI) -> list[Any]:
    """The messages of the application to a server that can refuse with any status."""
    return converse(app, disconnect(), extensions=DENIAL)


def raising(make: Callable[[], Exception]) -> Raise:
    def fail() -> None:
        raise make()

    return fail


def logged(caplog: pytest.LogCaptureFixture) -> list[Any]:
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return lines


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_answer(place: Callable[[Raise], FastAPI], pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    theirs = sent_by(place(raising(pair[0]))), logged(caplog)
    ours = sent_by(place(raising(pair[1]))), logged(caplog)
    assert theirs == ours


def handlers_for(fail: Raise, place: Callable[[Raise], FastAPI], *keys: Any) -> list[Any]:
    """The handler that was called, and its argument."""
    app, called = place(fail), list[Any]()
    for key in keys:

        def handler(websocket: WebSocket, exc: Exception, key: Any = key) -> None:
            called.append((key, type(exc), vars(exc), exc.args, str(exc)))

        app.add_exception_handler(key, handler)
    sent_by(app)
    return called


@pytest.mark.parametrize("place", [before_accept, after_accept, in_a_dependency, in_a_mounted_application])
@pytest.mark.parametrize(
    "keys",
    [
        (HTTPException, WebSocketException, ValidationException),
        (401, 204, WebSocketRequestValidationError, Exception),
        (RequestValidationError, ResponseValidationError, WebSocketDisconnect, AuthenticationError),
        (Exception,),
    ],
)
@pytest.mark.parametrize(
    "pair", [value for name, value in PAIRS.items() if "subclass" not in name and "group" not in name]
)
def test_handler(pair: Any, keys: tuple[Any, ...], place: Callable[[Raise], FastAPI]) -> None:
    theirs = handlers_for(raising(pair[0]), place, *keys)
    assert theirs == handlers_for(raising(pair[1]), place, *keys)


@pytest.mark.parametrize("keys", [(HTTPException, 404), (401, HTTPException), (401,)])
def test_handler_for_a_subclass_of_theirs(keys: tuple[Any, ...]) -> None:
    """Its own attributes are kept, and the exception itself is the cause."""
    app, called = before_accept(raising(Expired)), list[Any]()

    def handler(websocket: WebSocket, exc: Any) -> Response:
        called.append((type(exc), exc.since, type(exc.__cause__)))
        return JSONResponse({}, exc.status_code, exc.headers)

    for key in keys:
        app.add_exception_handler(key, handler)
    start, _ = sent_by(app)
    assert called == [(HTTPException, 7, Expired)]
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]


class Denied(Exception):
    """An exception of the project."""


class DeniedByUs(Denied, fastapi.HTTPException):
    pass


class DeniedByThem(fastapi.HTTPException, Denied):
    pass


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(DeniedByUs, (Denied, DeniedByUs)), (DeniedByThem, (HTTPException, HTTPException))],
)
def test_nearest_class_has_the_handler(raised: Any, expected: Any) -> None:
    [(key, kind, *_)] = handlers_for(raising(lambda: raised(403)), before_accept, Denied, HTTPException)
    assert (key, kind) == expected


def test_exception_without_a_counterpart_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    assert foreign.twin(starlette.exceptions.StarletteDeprecationWarning("old")) is not None
    theirs = type("Unknown", (Exception,), {"__module__": "starlette.unknown"})
    sent_by(after_accept(raising(theirs)))
    assert logged(caplog) == [("ERROR", "Exception in WebSocket /ws")]
    assert foreign.twin(theirs()) is None


def test_exception_object_that_is_raised_again_and_again_keeps_no_frames() -> None:
    exc = fastapi.HTTPException(401)
    app = before_accept(raising(lambda: exc))
    for _ in range(2):
        sent_by(app)
        assert exc.__traceback__ is None


def test_background_tasks_run_after_their_disconnect() -> None:
    app, done = FastAPI(), list[str]()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks):
        await websocket.accept()
        tasks.add_task(done.append, "mail")
        raise starlette.websockets.WebSocketDisconnect(1001)

    sent_by(app)
    assert done == ["mail"]


def test_response_of_theirs_that_a_handler_returns() -> None:
    app = before_accept(raising(lambda: HTTPException(401)))
    app.add_exception_handler(401, lambda websocket, exc: fastapi.responses.JSONResponse({"a": 1}, 402))
    start, body, *_ = sent_by(app)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 402)
    assert body["body"] == b'{"a":1}'


@pytest.mark.parametrize("kind", [AuthenticationError, starlette.authentication.AuthenticationError])
def test_authentication_error_in_a_backend(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            raise kind("who?")

    app = after_accept(raising(RuntimeError))
    app.add_middleware(AuthenticationMiddleware, backend=Backend())
    assert [message["type"] for message in sent_by(app)] == ["websocket.close"]
    assert logged(caplog) == []


def test_neither_package_is_imported() -> None:
    """Module names are enough, even for classes that only claim to be from the packages."""
    code = """
import asyncio, sys
from fastws_compat import FastAPI, WebSocket
from fastws_compat.exceptions import DeclarationError

Depends = type("Depends", (), {"__module__": "fastapi.params"})
Refusal = type("HTTPException", (Exception,), {"__module__": "starlette.exceptions"})
app = FastAPI()

async def guarded(websocket: WebSocket, user=Depends()): ...

try:
    app.websocket("/a")(guarded)
except DeclarationError as exc:
    print(exc)

@app.websocket("/ws")
async def endpoint(websocket: WebSocket):
    exc = Refusal()
    exc.status_code, exc.detail, exc.headers = 418, "tea", None
    raise exc

async def receive(): return {"type": "websocket.connect"}
async def send(message): print(message["type"], message.get("status"))

scope = {"type": "websocket", "path": "/ws", "headers": [], "extensions": {"websocket.http.response": {}}}
asyncio.run(app(scope, receive, send))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"fastapi", "starlette"}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        "Parameter 'user' of guarded uses fastapi.params.Depends, which fastws_compat does not recognize: "
        "write 'from fastws_compat import Depends'.",
        "websocket.http.response.start 418",
        "websocket.http.response.body None",
        "[]",
    ]
