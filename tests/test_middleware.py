"""`Middleware`, compared with the real one, and the differences in Starlette's middleware classes."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from starlette.middleware import Middleware as Theirs

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.applications import Starlette
from fastws_compat.asgi import get_asgi_application
from fastws_compat.logger import logger
from fastws_compat.middleware import Middleware
from fastws_compat.middleware.base import BaseHTTPMiddleware
from fastws_compat.middleware.httpsredirect import HTTPSRedirectMiddleware
from fastws_compat.middleware.sessions import SessionMiddleware
from fastws_compat.middleware.trustedhost import TrustedHostMiddleware
from fastws_compat.routing import WebSocketRoute
from fastws_compat.testclient import TestClient
from tests.fake_server import converse


class Tag:
    def __init__(self, app: Any, *words: str, **options: Any) -> None:
        self.app = app


@pytest.mark.parametrize("kind", [Middleware, Theirs])
def test_middleware_unpacks(kind: Any) -> None:
    cls, args, kwargs = kind(Tag, "a", "b", size=1)
    assert (cls, args, kwargs) == (Tag, ("a", "b"), {"size": 1})


@pytest.mark.parametrize("kind", [Middleware, Theirs])
@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((Tag,), {}, "Middleware(Tag)"),
        ((Tag, "a", 1), {"size": None}, "Middleware(Tag, 'a', 1, size=None)"),
        ((partial(Tag), "a"), {}, "Middleware(, 'a')"),
    ],
)
def test_middleware_repr(kind: Any, args: Any, kwargs: Any, expected: str) -> None:
    assert repr(kind(*args, **kwargs)) == expected


def test_logger_is_named_after_the_package() -> None:
    assert logger.name == "fastws_compat"


def messages_of(app: Any, kind: str, **scope: Any) -> list[dict[str, Any]]:
    """The messages of an application to a server without extensions."""
    return converse(app, **{"type": kind, "scheme": "ws", **scope})


@pytest.mark.parametrize(
    "middleware",
    [
        Middleware(TrustedHostMiddleware, allowed_hosts=["example.org"]),
        Middleware(TrustedHostMiddleware, allowed_hosts=["www.testserver"]),
        Middleware(HTTPSRedirectMiddleware),
    ],
)
def test_a_server_that_cannot_send_a_refusal_refuses_with_403(middleware: Any) -> None:
    app = Starlette(middleware=[middleware])
    sent = messages_of(app, "websocket", headers=[(b"host", b"testserver")])
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]


def test_http_does_not_get_past_a_middleware_for_http(caplog: pytest.LogCaptureFixture) -> None:
    class Guard(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            raise AssertionError("HTTP is Django's")

    app, reached = FastAPI(), []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    app.mount("/", inner)
    app.add_middleware(Guard)
    start, body = messages_of(app, "http", scheme="http")
    assert (start["status"], body["body"]) == (404, b"Not Found")
    assert reached == []
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "HTTP request refused: Guard serves HTTP, which stays with Django")
    ]


# SessionMiddleware


async def read_session(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(websocket.session.get("cart"))
    websocket.session["cart"] = ["from the socket"]
    await websocket.session.asave()
    await websocket.close()


def with_sessions(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key="unused", **options)
    app.add_api_websocket_route("/ws", read_session)
    return app


def a_session() -> SessionStore:
    session = SessionStore()
    session["cart"] = ["apples"]
    session.create()
    return session


@pytest.mark.django_db
@pytest.mark.parametrize("entry", [lambda app: app, get_asgi_application], ids=["alone", "asgi"])
def test_the_session_is_djangos(entry: Any) -> None:
    session = a_session()
    options = {"session_cookie": "unused", "max_age": 1, "same_site": "strict", "https_only": True}
    client = TestClient(entry(with_sessions(**options)))
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
    with client.websocket_connect("/ws") as socket:
        assert socket.receive_json() == ["apples"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert SessionStore(session.session_key)["cart"] == ["from the socket"]


@pytest.mark.django_db
def test_a_client_without_a_session_has_an_empty_one() -> None:
    with TestClient(with_sessions()).websocket_connect("/ws") as socket:
        assert socket.receive_json() is None


@pytest.mark.django_db
def test_a_session_that_is_already_in_the_scope_stays() -> None:
    class Outer:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope, "session": {"cart": "a dict"}}, receive, send)

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(websocket.session["cart"])

    middleware = [Middleware(Outer), Middleware(SessionMiddleware, secret_key="unused")]
    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)], middleware=middleware)
    with TestClient(app).websocket_connect("/ws") as socket:
        assert socket.receive_json() == "a dict"


@pytest.mark.django_db
def test_a_foreign_origin_has_no_session_of_an_application_that_stands_alone() -> None:
    [refusal] = messages_of(
        with_sessions(),
        "websocket",
        headers=[(b"host", b"testserver"), (b"origin", b"http://evil.example"), (b"cookie", b"sessionid=x")],
    )
    assert refusal == {"type": "websocket.close", "code": 1000, "reason": ""}


def test_an_option_that_no_session_middleware_has() -> None:
    with pytest.raises(TypeError, match=r"SessionMiddleware.__init__\(\) .* 'max_size'"):
        SessionMiddleware(FastAPI(), secret_key="unused", max_size=1)
