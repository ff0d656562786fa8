"""HTTP of mounted applications on real servers, beside Django's pages."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.servers.client import open_socket
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.mounted:application"
SETTINGS = "tests.servers.django_settings"


def ask(running: Running, method: str, target: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
    """The status, headers and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_http_below_a_listed_mount_is_the_mounted_applications(server: Server) -> None:
    running = server.shared(APP, settings=SETTINGS)
    status, headers, body = ask(running, "POST", "/echo/socket.io/?transport=polling", b"x" * 100_000)
    assert (status, headers["x-mounted"]) == (200, "yes")
    assert json.loads(body) == {
        "type": "http",
        "method": "POST",
        "path": "/echo/socket.io/",
        "root_path": "/echo",
        "path_params": {},
        "query_string": "transport=polling",
        "body": "x" * 100_000,
    }


def test_a_mount_with_a_parameter(server: Server) -> None:
    status, _, body = ask(server.shared(APP, settings=SETTINGS), "GET", "/acme/echo/a%20b")
    told = json.loads(body)
    assert (status, told["path"], told["root_path"]) == (200, "/acme/echo/a b", "/acme/echo")
    assert told["path_params"] == {"tenant": "acme"}


def test_a_real_fastapi_application(server: Server) -> None:
    running = server.shared(APP, settings=SETTINGS)
    assert ask(running, "GET", "/api/items/7")[::2] == (200, b'{"number":7}')
    assert ask(running, "GET", "/api/items/x")[0] == 422
    assert b"/api/openapi.json" in ask(running, "GET", "/api/docs")[2]


def test_a_missing_slash_is_redirected(server: Server) -> None:
    running = server.shared(APP, settings=SETTINGS)
    status, headers, _ = ask(running, "POST", "/echo?a=b")
    assert (status, headers["location"]) == (307, running.http("/echo/?a=b"))


def test_sockets_go_where_they_went(server: Server) -> None:
    running = server.shared(APP, settings=SETTINGS)
    with open_socket(running, "/echo/other?a=b") as socket:
        told = json.loads(socket.recv(timeout=20))
    assert (told["type"], told["path"], told["root_path"]) == ("websocket", "/echo/other", "/echo")
    with open_socket(running, "/echo/ws") as socket:
        assert socket.recv(timeout=20) == "ours"


def test_a_refusal_in_pieces(server: Server) -> None:
    with pytest.raises(InvalidStatus) as caught:
        open_socket(server.shared(APP, settings=SETTINGS), "/streamed")
    assert (caught.value.response.status_code, caught.value.response.body) == (503, b"come back later")


def test_everything_else_is_djangos(server: Server) -> None:
    running = server.shared(APP, settings=SETTINGS)
    assert ask(running, "GET", "/")[0] == 200
    assert b"csrfmiddlewaretoken" in ask(running, "GET", "/admin/login/")[2]
    assert ask(running, "GET", "/echoes/x")[0] == 404


def test_the_log_explains_why_a_mount_has_no_http(server: Server) -> None:
    running = server.start(APP, settings=SETTINGS)
    for _ in range(2):
        assert ask(running, "GET", "/sockets/x")[0] == 404
    running.stop()
    lines = [line for line in running.logs().splitlines() if "HTTP below the mount" in line]
    assert lines == [
        "LOG WARNING HTTP below the mount '/sockets' goes to Django, which has no such page; "
        "get_asgi_application(..., http=['/sockets']) gives it to the mounted application"
    ]
