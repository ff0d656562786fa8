"""Plain HTTP requests on the completed daphne: their paths are parsed as strictly as those of sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.servers.client import Raw
from tests.servers.conftest import Running, Server

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.http_scope:app"
ALLOWED = {"FASTWS": '{"DAPHNE_ROOT_PATH_HEADER": true}'}

Ask = Callable[..., dict[str, Any]]


def http(running: Running, target: str, *headers: str) -> dict[str, Any]:
    """The scope of a GET request."""
    with running.connect() as client:
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
        client.sendall("\r\n".join(lines).encode("latin-1"))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    found: dict[str, Any] = json.loads(dechunked(body) if b"chunked" in head.lower() else body)
    return found


def dechunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


def websocket(running: Running, target: str, *headers: str) -> dict[str, Any]:
    """The scope of a handshake."""
    pairs = [(name, value) for name, _, value in (header.partition(": ") for header in headers)]
    with Raw(running, target, pairs).accepted() as client:
        found: dict[str, Any] = json.loads(client.frame()[1])
        return found


both = pytest.mark.parametrize("ask", [http, websocket])


@both
@pytest.mark.parametrize(
    "header", ["Daphne-Root-Path: /evil", "DAPHNE-ROOT-PATH: %2Fevil", "Daphne_Root_Path: /a"]
)
def test_a_client_does_not_set_the_root_path(daphne: Server, ask: Ask, header: str) -> None:
    found = ask(daphne.shared(APP), "/evil/scope", header)
    assert (found["root_path"], found["path"]) == ("", "/evil/scope")
    assert not [name for name, _ in found["headers"] if name.startswith("daphne")]


@both
def test_an_operator_sets_the_root_path(daphne: Server, ask: Ask) -> None:
    running = daphne.shared(APP, "--root-path", "/site")
    assert ask(running, "/site/scope", "Daphne-Root-Path: /evil")["root_path"] == "/site"


@both
def test_an_operator_lets_a_proxy_set_the_root_path(daphne: Server, ask: Ask) -> None:
    found = ask(daphne.start(APP, env=ALLOWED), "/site/scope", "Daphne-Root-Path: %2Fsite")
    assert found["root_path"] == "/site"


@both
@pytest.mark.parametrize(
    "target", ["//public/scope", "http://public/scope", "/scope;a=b/c", "/scope/%2e%2e/x"]
)
def test_a_target_is_not_another_path(daphne: Server, ask: Ask, target: str) -> None:
    found = ask(daphne.shared(APP), f"{target}?a=/b?c")
    assert found["raw_path"] == target
    assert found["path"] == target.replace("%2e", ".")
    assert found["query_string"] == "a=/b?c"


def test_a_page_cannot_end_the_process(daphne: Server) -> None:
    """asyncio would raise SystemExit in the event loop, and every socket would be cut off."""
    running = daphne.start(APP)
    with Raw(running, "/echo").accepted() as other:
        with running.connect() as client:
            client.sendall(b"GET /exit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 500 ")
        other.send(1, b"still there")
        assert other.data_frame() == (1, b"still there")
    assert "The application raised SystemExit" in running.logs()
