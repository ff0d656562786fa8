"""Protocol errors, request targets that pretend to be another path, TLS and proxies."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.servers.client import KEY, Raw, event, frame, open_socket, unique
from tests.servers.conftest import Running, Server, free_port, has_ended
from tests.servers.tls import certificate, client_context

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.apps:app"


@pytest.mark.parametrize(
    "sent",
    [
        frame(1, b"\xce\xba\xe1\xbd\xb9\xf4\x90", first=1),
        frame(1, b"\xce\xba\xe1", first=1) + frame(0, b"\xbd\xb9\xf4", first=0) + frame(0, b"\x90", first=0),
        frame(1, b"\xce\xba\xe1\xbd\xb9\xf4\x90" + b"x" * 1000)[:-1000],
        frame(1, b"ab\xed\xa0" + b"x" * 100_000)[:-100_000],
    ],
    ids=["6.4.1", "6.4.2", "6.4.3", "surrogate"],
)
def test_a_text_that_cannot_become_utf_8_is_refused_at_once(daphne: Server, sent: bytes) -> None:
    """As in Autobahn's cases 6.4: before the client has finished the message, or even the frame."""
    running, name = daphne.shared(APP), unique()
    with Raw(running, f"/echo?as={name}").accepted() as client:
        client.socket.sendall(sent)
        code, reason = client.close_frame()
        assert (code, reason[:22]) == (1007, "invalid UTF-8 at byte ")
        assert event(running, name).startswith("1007 invalid UTF-8")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"\xff\xfe"), 1007),
        (frame(1, b"a\xc3"), 1007),
        (frame(1, b"a" * 200 + b"\xed\xa0\x80"), 1007),
        (frame(8, b"\x03\xe8\xff"), 1007),
        (frame(1, b"unmasked", masked=False), 1002),
        (frame(3, b"opcode"), 1002),
        (frame(1, b"rsv", first=0xC1), 1002),
        (frame(0, b"nothing to continue"), 1002),
        (frame(9, b"fragmented ping", first=0x09), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(8, b"\x03\xed"), 1002),
    ],
)
def test_a_fault_is_answered_with_its_code(server: Server, data: bytes, code: int) -> None:
    running, name = server.shared(APP), unique()
    with Raw(running, f"/echo?as={name}").accepted() as client:
        client.socket.sendall(data)
        assert client.close_frame()[0] == code
        with suppress(ConnectionError):
            client.send(8, code.to_bytes(2, "big"))
        assert client.ended() == b""
    assert event(running, name).startswith(str(code))


@pytest.mark.parametrize(
    "data",
    [frame(1, bytes(1024 * 1024 + 1)), frame(2, bytes(600_000), first=0x02) + frame(0, bytes(600_000))],
)
def test_a_message_over_the_limit_is_1009(daphne: Server, data: bytes) -> None:
    with Raw(daphne.shared(APP), "/echo").accepted() as client:
        client.socket.sendall(data)
        assert client.close_frame()[0] == 1009
        client.send(8, (1009).to_bytes(2, "big"))
        assert client.rest() == b""


def test_a_fault_that_is_not_answered_ends_soon(daphne: Server) -> None:
    with Raw(daphne.shared(APP), "/echo").accepted() as client:
        client.send(1, b"\xff")
        assert client.close_frame()[0] == 1007
        with pytest.raises(ConnectionError):
            client.rest()


def scope(running: Running, target: str, headers: list[tuple[str, str]] | None = None) -> dict[str, object]:
    with Raw(running, target, headers or []).accepted() as client:
        found: dict[str, object] = json.loads(client.frame()[1])
        return found


@pytest.mark.parametrize("target", ["//public/scope", "ws://public/scope", "/scope;a=b/c", "/scope/%2e%2e/x"])
def test_a_target_is_not_another_path(daphne: Server, target: str) -> None:
    found = scope(daphne.shared(APP), target)
    assert found["raw_path"] == target
    assert found["path"] == target.replace("%2e", ".")


def test_a_client_does_not_set_the_root_path(daphne: Server) -> None:
    found = scope(daphne.shared(APP), "/public/scope", [("Daphne-Root-Path", "/public")])
    assert found["root_path"] == ""


def test_an_operator_may_let_a_proxy_set_the_root_path(daphne: Server) -> None:
    running = daphne.start(APP, env={"FASTWS": '{"DAPHNE_ROOT_PATH_HEADER": true}'})
    assert scope(running, "/public/scope", [("Daphne-Root-Path", "/public")])["root_path"] == "/public"


def test_headers_with_underscores_are_dropped(daphne: Server) -> None:
    found = scope(daphne.shared(APP), "/scope", [("X_User", "admin"), ("X-User", "me")])
    assert [h for h in found["headers"] if "user" in h[0]] == [["x-user", "me"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "status"), [("Host", 400), ("Origin", 403)])
def test_a_header_that_decides_must_not_come_twice(daphne: Server, name: str, status: int) -> None:
    with Raw(daphne.shared(APP), "/scope", [(name, "http://a"), (name, "http://b")]) as client:
        assert client.answer().startswith(b"HTTP/1.1 %d " % status)
        client.rest()


def test_an_origin_that_is_none_reaches_the_application(daphne: Server) -> None:
    found = scope(daphne.shared(APP), "/scope", [("Origin", "http://[::1")])
    assert ["origin", "http://[::1"] in found["headers"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("headers", "status"),
    [([("Sec-WebSocket-Version", "8")], 400), ([("Sec-WebSocket-Key", "twice")], 400)],
)
def test_a_bad_handshake_is_answered(daphne: Server, headers: list[tuple[str, str]], status: int) -> None:
    with Raw(daphne.shared(APP), "/scope", headers) as client:
        assert client.answer().startswith(b"HTTP/1.1 %d " % status)
        client.rest()


def test_behind_a_proxy_the_scheme_and_the_client_are_the_real_ones(daphne: Server) -> None:
    headers = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Port", "4711"),
        ("X-Forwarded-Proto", "https"),
    ]
    trusting = daphne.start(APP, "--proxy-headers")
    found = scope(trusting, "/scope", headers)
    assert (found["scheme"], found["client"]) == ("wss", ["203.0.113.7", 4711])
    assert scope(daphne.shared(APP), "/scope", headers)["scheme"] == "ws"


HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


@pytest.mark.parametrize(
    "version", [b"8", b"7", b"14", b"x", b"013", b"+13", b"", b"13, 8", b"13\r\nSec-WebSocket-Version: 8"]
)
def test_another_version_is_refused_with_the_one_that_works(daphne: Server, version: bytes) -> None:
    """RFC 6455, 4.2.2. Version 8 is a draft, in which the Origin header has another name."""
    with daphne.shared(APP).connect() as client:
        client.sendall(HANDSHAKE.replace(b"Version: 13", b"Version: " + version))
        answer = read_until(client, b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
    assert answer.count(b"\nSec-WebSocket-Version") == 1


BODY = frame(1, b"body")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (b"Content-Length: %d" % len(BODY), BODY),
        (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        (b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
    ],
)
def test_a_handshake_with_a_body_is_refused(daphne: Server, header: bytes, body: bytes) -> None:
    """The body was read as frames: a proxy that takes it for a body would let them pass unseen."""
    with daphne.shared(APP).connect() as client:
        client.sendall(HANDSHAKE[:-2] + header + b"\r\n\r\n" + body + frame(1, b"after"))
        answer = read_until(client, b"must not have a body.")
        assert answer.startswith(b"HTTP/1.1 400 ")
        with suppress(ConnectionError):  # what the client has sent after it was not read
            assert client.recv(65536) == b""


def test_a_handshake_may_say_that_it_has_no_body(daphne: Server) -> None:
    with daphne.shared(APP).connect() as client:
        client.sendall(HANDSHAKE[:-2] + b"Content-Length: 0\r\n\r\n" + frame(1, b"one"))
        read_until(client, b"\x81\x03one")


HTTP_REQUEST = b"GET /http HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("before", [b"", HTTP_REQUEST], ids=["first", "pipelined"])
def test_what_comes_in_one_packet_with_the_handshake_is_not_lost(daphne: Server, before: bytes) -> None:
    with daphne.shared(APP).connect() as client:
        client.sendall(before + HANDSHAKE + frame(1, b"one") + frame(1, b"two")[:4])
        read_until(client, b"\x81\x03one")
        client.sendall(frame(1, b"two")[4:])
        read_until(client, b"\x81\x03two")


def read_until(client: socket.socket, expected: bytes) -> bytes:
    found = b""
    while expected not in found:
        data = client.recv(65536)
        assert data, f"the server closed, after {found!r}"
        found += data
    return found


def test_tls_takes_the_ordinary_way(daphne: Server, tmp_path: Path) -> None:
    port, pem = free_port(), certificate(tmp_path)
    running = daphne.start(APP, "--endpoint", f"ssl:port={port}:interface=127.0.0.1:privateKey={pem}")
    context = client_context(pem)
    with connect(f"wss://127.0.0.1:{port}/scope", ssl=context, proxy=None) as client:
        assert json.loads(client.recv(timeout=10))["scheme"] == "wss"
    with connect(f"wss://127.0.0.1:{port}/echo", ssl=context, proxy=None) as client:
        for message in ("", "a" * 200, bytes(700_000)):
            client.send(message)
            assert client.recv(timeout=10) == message
        client.close(4000, "done")
    assert event(running, "echo") == "4000 done"
    plain = socket.create_connection(("127.0.0.1", port), 30)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as early:
        early.sendall(HANDSHAKE + frame(1, b"early"))
        read_until(early, b"\x81\x05early")


def connected_to(path: str, running: Running) -> socket.socket:
    """A connection to a Unix socket; daphne may listen on its TCP port before it listens there."""
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
        except OSError:
            client.close()
            assert not has_ended(running.process)
        else:
            return client


def test_a_unix_socket_has_no_addresses(daphne: Server, tmp_path: Path) -> None:
    path = str(tmp_path / "daphne.sock")
    running = daphne.start(APP, "--unix-socket", path)
    with connected_to(path, running) as client:
        client.settimeout(5)
        client.sendall(HANDSHAKE)
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        client.sendall(frame(1, b"hello"))
        assert client.recv(65536) == b"\x81\x05hello"


def test_the_connection_goes_on_after_a_fault_on_another(daphne: Server) -> None:
    running = daphne.shared(APP)
    with open_socket(running, "/echo") as healthy:
        with Raw(running, "/echo").accepted() as faulty:
            faulty.send(1, b"\xff")
            assert faulty.close_frame()[0] == 1007
        healthy.send("still here")
        assert healthy.recv(timeout=10) == "still here"
