"""The connection, beyond parity with Starlette."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastws_compat
from fastws_compat.datastructures import State
from fastws_compat.requests import (
    HTTPConnection,
    Request,
    empty_receive,
    empty_send,
    get_route_path,
    with_root_path,
)


def test_construction_reads_only_the_type() -> None:
    scope: dict[str, Any] = {"type": "websocket"}
    connection = HTTPConnection(scope)
    assert vars(connection) == {"scope": scope}
    assert scope == {"type": "websocket"}


def test_part_of_the_class_is_described() -> None:
    assert HTTPConnection.base_url.__doc__ == "The URL of the outermost app, also inside a mount."


def test_wrong_type_is_named() -> None:
    with pytest.raises(AssertionError, match="not 'lifespan'"):
        HTTPConnection({"type": "lifespan"})
    with pytest.raises(AssertionError, match="not 'websocket'"):
        Request({"type": "websocket"})


def test_subscription_is_the_class_itself() -> None:
    assert HTTPConnection[State] is HTTPConnection
    assert Request[State] is Request

    class Mine(HTTPConnection):
        pass

    assert Mine[State] is Mine


def test_session_of_django_is_given_as_it_is() -> None:
    from django.contrib.sessions.backends.signed_cookies import SessionStore

    session = SessionStore()
    assert HTTPConnection({"type": "websocket", "session": session}).session is session
    assert not session.accessed


def test_http_scope_has_no_channels() -> None:
    with pytest.raises(RuntimeError, match="Receive channel has not been made available"):
        asyncio.run(empty_receive())
    with pytest.raises(RuntimeError, match="Send channel has not been made available"):
        asyncio.run(empty_send({}))


def test_cookie_without_a_header() -> None:
    assert HTTPConnection({"type": "websocket", "headers": [(b"host", b"h")]}).cookies == {}


def test_router_is_called_before_the_app() -> None:
    class Provider:
        def __init__(self, path: str) -> None:
            self.path = path

        def url_path_for(self, name: str, /, **params: Any) -> Any:
            from fastws_compat.datastructures import URLPath

            return URLPath(self.path, protocol="websocket")

    scope = {"type": "websocket", "scheme": "ws", "path": "/", "headers": [(b"host", b"h")]}
    connection = HTTPConnection({**scope, "router": Provider("/router"), "app": Provider("/app")})
    assert str(connection.url_for("x")) == "ws://h/router"


def test_route_path_keeps_a_longer_segment() -> None:
    assert get_route_path({"path": "/apis/x", "root_path": "/api"}) == "/apis/x"
    assert get_route_path({"path": "/api/x", "root_path": "/api"}) == "/x"
    assert get_route_path({"path": "/api", "root_path": "/api"}) == ""


def test_imports_without_settings_and_without_other_frameworks() -> None:
    code = (
        "import sys, fastws_compat.authentication, fastws_compat.encoders, fastws_compat.middleware\n"
        "import fastws_compat.responses, fastws_compat.status, fastws_compat.logger\n"
        "from django.conf import settings\n"
        "assert not settings.configured\n"
        "print(sorted({'anyio', 'starlette', 'fastapi', 'httpx'} & set(sys.modules)))\n"
    )
    root = Path(fastws_compat.__file__).parents[1]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env={})
    assert done.stdout == "[]\n"


def test_private_names_of_the_class_are_descriptors():
    """Tools that look at a class, such as inspect or Sphinx, read them there."""
    assert HTTPConnection._headers is vars(HTTPConnection)["_headers"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ws", "/app x/ws"),
        ("/app x/ws", "/app x/ws"),
        ("/app x", "/app x"),
        ("/app xs", "/app x/app xs"),
        ("/", "/app x/"),
    ],
)
def test_scope_below_a_root_path(path, expected):
    scope = with_root_path("/app x", {"type": "websocket", "path": path, "root_path": ""})
    assert (scope["path"], scope["root_path"]) == (expected, "/app x")
    if path != expected:
        assert scope["raw_path"] == expected.replace(" ", "%20").encode()
