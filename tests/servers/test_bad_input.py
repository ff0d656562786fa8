"""Invalid input from clients: the right code, one log line, no traceback, and cleanup exactly once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import websockets
import websockets.sync.client

from tests.servers.conftest import Running, Server
from tests.servers.test_specification import refusal, talk

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.sockets:app"
numbers = itertools.count(1)


@pytest.fixture
def running(server: Server) -> Running:
    return server.shared(APP)


def close_after(url: str, *frames: str | bytes) -> tuple[int | None, str | None]:
    """The code and reason with which the server closes after these frames."""

    async def run() -> tuple[int | None, str | None]:
        async with websockets.connect(url) as client, asyncio.timeout(10):
            for frame in frames:
                await client.send(frame)
            await client.wait_closed()
            return client.close_code, client.close_reason

    return asyncio.run(run())


def endings(running: Running, path: str, count: int = 1) -> str:
    """How many times the cleanup of a path has run, once it has run `count` times."""

    async def run() -> str:
        url = running.url(f"/endings?path={path}&count={count}")
        async with websockets.connect(url) as client, asyncio.timeout(15):
            return str(await client.recv())

    return asyncio.run(run())


@contextmanager
def one_ending(running: Running, path: str) -> Iterator[None]:
    """What the block does makes the cleanup of a path run exactly once."""
    before = int(endings(running, path, 0))
    yield
    assert endings(running, path, before + 1) == str(before + 1)


def new_lines(running: Running) -> list[str]:
    """The library's log lines since the test began."""
    return [line for line in running.logs().splitlines() if line.startswith("LOG ")]


@pytest.mark.parametrize("path", ["/text/x", "/text/1?limit=much", "/text/", "/text", "/raise", "/nowhere"])
def test_wrong_types_and_unknown_paths_are_refused(running: Running, path: str) -> None:
    assert refusal(running.url(path))[0] == 403


def test_unknown_path_is_one_line_in_the_log(server: Server) -> None:
    running = server.shared(APP)
    assert refusal(running.url("/nowhere/%0aLOG%20forged"))[0] == 403
    [line] = new_lines(running)
    assert "No WebSocket route for '/nowhere/\\nLOG forged'" in line
    assert "Traceback" not in running.logs()


def test_binary_frame_where_text_is_read(server: Server) -> None:
    running, path = server.shared(APP), f"/text/{next(numbers) + 1000}"
    assert close_after(running.url(path), b"\x00\xff") == (1003, "")
    assert endings(running, path) == "1"
    [line] = new_lines(running)
    assert "WARNING" in line
    assert "/text/{number}" in line
    assert "Traceback" not in running.logs()


def test_text_frame_where_text_is_read_may_have_a_mebibyte(running: Running) -> None:
    megabyte = "x" * (1024 * 1024)
    assert talk(running.url("/text/1"), megabyte) == [megabyte]


@pytest.mark.parametrize("frame", ["{bad", "", '"\\ud800', "1" * 5000, "[" * 100_000, "[" * 1000 + "x"])
def test_frame_that_is_no_json(running: Running, frame: str) -> None:
    assert close_after(running.url("/json"), frame) == (1007, "")
    assert "Traceback" not in running.logs()


def test_request_without_a_key_is_no_handshake(running: Running) -> None:
    request = (
        b"GET /text/1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    with running.connect() as raw:
        raw.sendall(request)
        assert raw.recv(4096).split(b" ")[1] in (b"400", b"426")
    assert talk(running.url("/text/1"), "still there") == ["still there"]


def test_client_that_vanishes(running: Running) -> None:
    path = f"/text/{next(numbers) + 1000}"

    async def vanish() -> None:
        client = await websockets.connect(running.url(path))
        client.transport.abort()

    asyncio.run(vanish())
    assert endings(running, path) == "1"


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [("/return/after", 1000, ""), ("/raise/after", 1011, ""), ("/policy", 1008, "not allowed")],
)
def test_end_of_an_accepted_socket(server: Server, path: str, code: int, reason: str) -> None:
    running = server.shared(APP)
    with one_ending(running, path):
        assert close_after(running.url(path)) == (code, reason)


@pytest.mark.parametrize(("path", "status"), [("/return/before", 403), ("/raise/before", 500)])
def test_end_of_a_socket_before_accept(server: Server, path: str, status: int) -> None:
    running = server.shared(APP)
    with one_ending(running, path):
        answered, body = refusal(running.url(path))
    assert answered == status
    assert b"secret" not in body


@pytest.mark.parametrize("what", ["exit", "interrupt", "cancelled", "frozen", "generator", "nested"])
def test_error_that_is_no_ordinary_exception(server: Server, what: str) -> None:
    """It ends its own connection only, and neither the process nor other sockets."""
    running = server.shared(APP)
    with websockets.sync.client.connect(running.url("/text/1")) as other:
        with one_ending(running, f"/raise/after/{what}"):
            assert close_after(running.url(f"/raise/after/{what}")) == (1011, "")
        with one_ending(running, f"/raise/before/{what}"):
            assert refusal(running.url(f"/raise/before/{what}"))[0] == 500
        other.send("still there")
        assert other.recv(timeout=10) == "still there"
    lines = [line for line in new_lines(running) if "Exception in WebSocket" in line]
    assert lines == ["LOG ERROR Exception in WebSocket /raise/{when}/{what}"] * 2


def test_a_disconnect_of_another_socket_is_an_error(server: Server) -> None:
    running = server.start(APP)
    with websockets.sync.client.connect(running.url("/member")) as member:
        assert member.recv(timeout=10) == "in"
        with websockets.sync.client.connect(running.url("/reader")) as reader:
            assert reader.recv(timeout=10) == "reading"
            member.close()
            with pytest.raises(websockets.ConnectionClosed) as end:
                reader.recv(timeout=10)
    assert end.value.rcvd is not None
    assert end.value.rcvd.code == 1011
    assert [line for line in new_lines(running) if "ERROR" in line] == [
        "LOG ERROR Exception in WebSocket /reader"
    ]


def test_exception_is_logged_once_with_its_route(server: Server) -> None:
    running = server.shared(APP)
    with one_ending(running, "/raise/after"):
        close_after(running.url("/raise/after"))
    [line] = new_lines(running)
    assert "ERROR Exception in WebSocket /raise/{when}" in line
    assert running.logs().count("Traceback") == 1
