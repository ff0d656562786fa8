"""The guarantees of ASGI for WebSockets, on the completed daphne and on uvicorn."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
import websockets

from tests.servers.client import Raw, event, open_socket, unique
from tests.servers.conftest import Running, Server

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.apps:app"


def closed(running: Running, path: str) -> tuple[int, str]:
    """The code and reason with which the server closes."""
    with open_socket(running, path) as client:
        with pytest.raises(websockets.ConnectionClosed) as caught:
            client.recv(timeout=10)
    close = caught.value.rcvd
    return (close.code, close.reason) if close else (1006, "")


def refused(running: Running, path: str) -> Any:
    with pytest.raises(websockets.InvalidStatus) as caught:
        open_socket(running, path)
    return caught.value.response


def get(running: Running, path: str) -> bytes:
    with running.connect() as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("message", ["text", b"bytes", "", b"", "ä" * 63, "x" * 70_000, bytes(200_000)])
def test_a_message_comes_back(server: Server, message: str | bytes) -> None:
    with open_socket(server.shared(APP), "/echo") as client:
        client.send(message)
        assert client.recv(timeout=10) == message


def test_empty_messages_are_sent(server: Server) -> None:
    with open_socket(server.shared(APP), "/empty") as client:
        assert [client.recv(timeout=10), client.recv(timeout=10)] == ["", b""]


def test_fragments_and_pings_between_them(server: Server) -> None:
    with Raw(server.shared(APP), "/echo").accepted() as client:
        client.send(1, "aé".encode()[:2], first=0x01)
        client.send(9, b"ping")
        client.send(0, "é".encode()[1:], first=0x80)
        assert client.frame() == (0xA, b"ping")
        assert client.frame() == (1, "aé".encode())


@pytest.mark.parametrize("code", [*range(1000, 1004), *range(1007, 1015), 3000, 4000, 4999])
def test_every_valid_close_code_arrives_with_its_reason(server: Server, code: int) -> None:
    assert closed(server.shared(APP), f"/close?code={code}&reason=wegen+%C3%A4") == (code, "wegen ä")


def test_a_close_is_followed_by_a_disconnect(server: Server) -> None:
    running, name = server.shared(APP), unique()
    assert closed(running, f"/close?code=1008&reason=why&as={name}") == (1008, "why")
    assert event(running, name) == "1008 why"


def test_a_long_reason_is_cut_between_characters(daphne: Server) -> None:
    assert closed(daphne.shared(APP), "/close?code=1008&reason=" + "%C3%A9" * 90) == (1008, "é" * 61)


def test_an_invalid_close_code_raises(daphne: Server) -> None:
    with open_socket(daphne.shared(APP), "/close_badly") as client:
        assert json.loads(client.recv(timeout=10)) == [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1014, 3000, 4999])
def test_the_clients_close_code_and_reason_arrive(server: Server, code: int) -> None:
    running, name = server.shared(APP), unique()
    with open_socket(running, f"/echo?as={name}") as client:
        client.close(code, "bye")
    assert event(running, name) == f"{code} bye"


def test_a_close_frame_without_a_code_is_1005(server: Server) -> None:
    running, name = server.shared(APP), unique()
    with Raw(running, f"/echo?as={name}").accepted() as client:
        client.send(8)
        assert client.frame()[0] == 8
    assert event(running, name) == "1005"


def test_a_lost_connection_is_1006(server: Server) -> None:
    running, name = server.shared(APP), unique()
    Raw(running, f"/echo?as={name}").accepted().reset()
    # The WebSocket specification says 1006, uvicorn reports 1005.
    assert event(running, name) == ("1006" if server.is_daphne else "1005")


def test_send_after_the_client_left_raises(server: Server) -> None:
    running, name = server.shared(APP), unique()
    with open_socket(running, f"/send_late?as={name}") as client:
        client.close(1000)
    assert event(running, name) == "ClientDisconnected 1000"


def test_messages_out_of_order_raise(server: Server) -> None:
    running = server.start(APP)
    with open_socket(running, "/misuse") as client:
        assert client.recv(timeout=10) == "ready"
        client.send("go on")
        with pytest.raises(websockets.ConnectionClosedOK):
            client.recv(timeout=10)
    assert set(json.loads(event(running, "misuse")).items()) == {
        ("send first", "RuntimeError"),
        ("unknown first", "RuntimeError"),
        ("accept twice", "RuntimeError"),
        ("unknown", "RuntimeError"),
        ("deny late", "RuntimeError"),
        ("send after close", "RuntimeError"),
        ("close twice", "RuntimeError"),
    }


def test_the_scope_is_whole(server: Server) -> None:
    headers = [("X-Twice", "1"), ("X-Other", "a,b"), ("X-Twice", "2")]
    options = {"additional_headers": headers, "subprotocols": ["a", "b"]}
    with open_socket(server.shared(APP), "/scope/a%20b?x=1", **options) as client:
        scope = json.loads(client.recv(timeout=10))
    assert scope["type"] == "websocket"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["asgi"]["spec_version"] == ("2.5" if server.is_daphne else "2.4")
    assert (scope["scheme"], scope["http_version"]) == ("ws", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/scope/a b", "/scope/a%20b", "x=1")
    assert scope["state"] == {"answer": 42}
    own = {"fastws_compat.deflate": {}} if server.is_daphne else {}
    assert scope["extensions"] == {"websocket.http.response": {}, **own}
    assert scope["subprotocols"] == ["a", "b"]
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert [value for name, value in scope["headers"] if name == "x-twice"] == ["1", "2"]
    assert ["x-other", "a,b"] in scope["headers"]


def test_a_state_belongs_to_one_connection(server: Server) -> None:
    with open_socket(server.shared("tests.servers.apps:plain"), "/scope") as client:
        assert json.loads(client.recv(timeout=10))["state"] == {}


def test_accept_sends_headers_and_the_subprotocol(server: Server) -> None:
    with Raw(server.shared(APP), "/accept?subprotocol=b", {"Sec-WebSocket-Protocol": "a, b"}) as client:
        head = client.answer().lower()
    assert b"\r\nset-cookie: a=1; path=/\r\nset-cookie: b=2\r\n" in head
    assert b"\r\nx-name: caf\xe9" in head
    assert b"\r\nsec-websocket-protocol: b" in head


def test_headers_that_break_out_are_not_sent(server: Server) -> None:
    response = refused(server.shared(APP), "/accept_badly")
    assert response.status_code == 500
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("offered", [{}, {"Sec-WebSocket-Protocol": "a, b"}])
def test_a_subprotocol_that_was_not_offered_is_sent(server: Server, offered: dict[str, str]) -> None:
    """The client decides; browsers close such a socket, other clients do not care."""
    with Raw(server.shared(APP), "/accept?subprotocol=c", offered) as client:
        head = client.answer().lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"\r\nsec-websocket-protocol: c" in head


def test_a_subprotocol_that_breaks_out_is_not_sent(daphne: Server) -> None:
    response = refused(daphne.shared(APP), "/accept?subprotocol=c%0D%0ASet-Cookie:%20evil=1")
    assert response.status_code == 500
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("path", ["/deny?", "/deny?stream=1&"])
def test_a_denial_has_status_headers_and_body(server: Server, path: str) -> None:
    running, name = server.shared(APP), unique()
    response = refused(running, f"{path}as={name}")
    assert response.status_code == 401
    assert bytes(response.body) == (b"not today" if "stream" in path else b"today")
    assert response.headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert event(running, name) == "1006"


def test_the_connection_closes_after_a_denial(server: Server) -> None:
    with Raw(server.shared(APP), "/deny") as client:
        assert client.rest().endswith(b"today")


def test_close_before_accept_is_403(server: Server) -> None:
    running, name = server.shared(APP), unique()
    assert refused(running, f"/refuse?as={name}").status_code == 403
    assert event(running, name) == "1006"


@pytest.mark.parametrize("path", ["/fail_first", "/return_first", "/deny_and_fail"])
def test_no_answer_is_500_at_once(daphne: Server, path: str) -> None:
    """Stock daphne checks once a second."""
    running, start = daphne.shared(APP), time.monotonic()
    for _ in range(10):
        assert refused(running, path).status_code == 500
    assert time.monotonic() - start < 4


def test_an_error_closes_with_1011_at_once_and_is_logged_once(daphne: Server) -> None:
    running = daphne.start(APP)
    start = time.monotonic()
    for _ in range(10):
        assert closed(running, "/fail") == (1011, "")
    assert time.monotonic() - start < 4
    running.stop()
    assert running.logs().count("Exception inside application: after accept") == 10
    assert running.logs().count("Traceback") == 10


def test_a_return_without_a_close_closes_with_1000(daphne: Server) -> None:
    assert closed(daphne.shared(APP), "/return") == (1000, "")


def test_a_handshake_that_is_not_answered_ends(daphne: Server) -> None:
    running = daphne.start(APP, "--websocket_connect_timeout", "1")
    with Raw(running, "/never_answer") as client:
        assert client.answer().startswith(b"HTTP/1.1 503 ")
        assert client.rest() == b""
    assert event(running, "never_answer") == "1006"


def test_a_client_that_leaves_before_the_answer(server: Server) -> None:
    running = server.start(APP)
    client = Raw(running, "/never_answer")
    client.reset()
    assert event(running, "never_answer") == "1006"


def test_a_half_closed_client_is_gone(daphne: Server) -> None:
    running, name = daphne.shared(APP), unique()
    with Raw(running, f"/echo?as={name}").accepted() as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert event(running, name) == "1006"


def test_plain_http_is_as_it_was(server: Server) -> None:
    assert get(server.shared(APP), "/page").endswith(b"\r\n\r\nhello")
