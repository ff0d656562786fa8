"""SIGTERM, the lifespan, and the ways in which the completed daphne is started."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import websockets

from tests.servers.client import Raw, event, open_socket
from tests.servers.conftest import ROOT, Running, Server, free_port, python_path, wait_until_ready

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.apps:app"
TEARDOWNS = "tests.servers.teardowns:app"
GRACE = {"FASTWS": '{"SHUTDOWN_GRACE": 1}'}


def events(running: Running) -> list[str]:
    return [
        line.removeprefix("EVENT ").strip()
        for line in running.logs().splitlines()
        if line.startswith("EVENT")
    ]


def terminate(running: Running) -> float:
    """The time that the process takes to exit after SIGTERM."""
    start = time.monotonic()
    running.signal(signal.SIGTERM)
    running.wait()
    return time.monotonic() - start


def test_sigterm_closes_with_1012_and_lets_applications_end(server: Server) -> None:
    running = server.start(APP)
    with open_socket(running, "/patient") as client:
        event(running, "patient accepted")
        running.signal()
        with pytest.raises(websockets.ConnectionClosed) as caught:
            client.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
    running.wait()
    assert events(running)[-3:] == ["patient disconnected 1012", "patient finally", "shutdown"]


def teardown(daphne: Server) -> float:
    """The time that this machine takes now to stop a process that has nothing to wait for.

    It may take twice as long a moment later, when other tests are running.
    """
    return terminate(daphne.start(APP))


def kept_alive(running: Running) -> socket.socket:
    """A connection that has received a response and is kept open for the next request."""
    client = running.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = b""
    while not answer.endswith(b"hello"):
        answer += client.recv(65536)
    return client


HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: a"
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"


def test_every_finally_runs_and_the_process_leaves_within_the_grace_and_a_second(daphne: Server) -> None:
    slack = teardown(daphne)
    running = daphne.start(TEARDOWNS, env=GRACE)
    with ExitStack() as stack:
        paths = ("/stubborn", "/undead", "/hangs_too", "/sticks")
        clients = [stack.enter_context(Raw(running, path)).accepted() for path in (*paths, "/return")]
        connecting = stack.enter_context(Raw(running, "/never_answer"))
        half_head, half_body, waiting, undead = (stack.enter_context(running.connect()) for _ in range(4))
        half_head.sendall(HALF_A_HEAD)
        half_body.sendall(HALF_A_BODY)
        waiting.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        undead.sendall(b"GET /undead HTTP/1.1\r\nHost: a\r\n\r\n")
        stack.enter_context(kept_alive(running))
        for path in paths:
            event(running, f"{path.strip('/')} accepted")
        event(running, "wait")
        event(running, "undead request")
        took = terminate(running)
        assert connecting.answer().startswith(b"HTTP/1.1 503 ")
        # None of these responds.
        assert [client.close_frame()[0] for client in clients] == [1012, 1012, 1012, 1012, 1000]
    print(f"left {took:.2f} s after SIGTERM with a grace of 1 s; a process alone takes {slack:.2f} s")
    assert 1 <= took <= 2 + 2 * slack
    seen = events(running)
    assert seen.count("stubborn finally") == 1
    assert "undead cancelled" in seen
    assert "undead request cancelled" in seen
    assert seen.count("wait finally") == 1
    assert seen.count("never_answer 1012") == 1
    assert [seen.count(f"hangs_too {what}") for what in ("cleanup", "cancelled", "outer ended")] == [1, 1, 1]
    assert seen.count("sticks cleanup") == 1
    assert seen.count("shutdown") == 1
    assert "Exited although these threads had not ended in time: fastws-own_0" in running.logs()


def test_a_cleanup_goes_on_a_little_after_the_grace(daphne: Server) -> None:
    slack = teardown(daphne)
    running = daphne.start(TEARDOWNS, env=GRACE)
    with Raw(running, "/overtime").accepted():
        event(running, "overtime accepted")
        assert 1 <= terminate(running) <= 2 + 2 * slack
    assert events(running)[2:] == [
        "overtime disconnected 1012",
        "overtime cleanup",
        "overtime cleaned up",
        "overtime outer ended",
        "shutdown",
    ]


def test_connections_without_an_application_do_not_use_the_grace(daphne: Server) -> None:
    slack = teardown(daphne)
    running = daphne.start(APP, env={"FASTWS": '{"SHUTDOWN_GRACE": 60}'})
    with Raw(running, "/return").accepted() as returned, running.connect() as head, running.connect() as body:
        assert returned.close_frame() == (1000, "")  # without a close frame in reply
        head.sendall(HALF_A_HEAD)
        body.sendall(HALF_A_BODY)
        with kept_alive(running):
            assert terminate(running) <= 2 + slack  # clients have a second to answer the close frame


def test_applications_that_returned_do_not_stop_the_shutdown(daphne: Server) -> None:
    """Stock daphne looks up the application of every connection and fails if it has ended."""
    running = daphne.start(APP)
    with Raw(running, "/return").accepted() as returned, open_socket(running, "/patient"):
        assert returned.close_frame() == (1000, "")  # no reply, so it stays open for a while
        event(running, "patient accepted")
        assert terminate(running) < 4
    assert "patient finally" in events(running)


def test_no_new_sockets_while_the_old_ones_end(daphne: Server) -> None:
    running = daphne.start(APP, env=GRACE)
    with open_socket(running, "/stubborn") as client, running.connect() as kept_alive:
        event(running, "stubborn accepted")
        running.signal()
        with pytest.raises(websockets.ConnectionClosed):
            client.recv(timeout=10)
        with pytest.raises(OSError):
            running.connect()
        kept_alive.sendall(
            b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert kept_alive.recv(65536).startswith(b"HTTP/1.1 503 ")
        running.wait()


def test_an_idle_server_leaves_at_once(daphne: Server) -> None:
    running = daphne.start(APP)
    assert terminate(running) < 4
    assert events(running) == ["startup", "shutdown"]


def test_sigint_is_a_shutdown_too(daphne: Server) -> None:
    running = daphne.start(APP)
    with open_socket(running, "/patient") as client:
        event(running, "patient accepted")
        running.signal(signal.SIGINT)
        with pytest.raises(websockets.ConnectionClosed):
            client.recv(timeout=10)
    running.wait()
    assert events(running)[-2:] == ["patient finally", "shutdown"]


def test_a_failed_startup_is_logged_and_ends_the_process(server: Server) -> None:
    running = server.start("tests.servers.apps:unstartable", ready=False)
    assert running.wait() != 0
    assert "the database is on fire" in running.logs()


def test_a_port_that_is_taken_ends_the_process_and_its_lifespan(daphne: Server) -> None:
    port = daphne.shared(APP).port
    command = [sys.executable, "-m", "daphne", "--bind", "127.0.0.1", "--port", str(port), APP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    assert "Listen failure: Couldn't listen" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["startup", "shutdown"]


def test_an_application_without_a_lifespan_is_served(server: Server) -> None:
    with open_socket(server.shared("tests.servers.apps:plain"), "/echo") as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"


def test_stock_stays_stock(daphne: Server) -> None:
    running = daphne.start(APP, env={"FASTWS": '{"DAPHNE": "stock"}'})
    with open_socket(running, "/scope") as client:
        assert "state" not in json.loads(client.recv(timeout=10))


def test_runserver_is_completed(tmp_path: Path) -> None:
    """`manage.py runserver`, with an app whose `ready` calls `install`."""
    port = free_port()
    command = [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"]
    environ = {
        "PYTHONPATH": python_path(),
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": "tests.servers.runserver",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        running = Running(process, port, log)
        try:
            wait_until_ready(running)
            with open_socket(running, "/close?code=1008&reason=complete") as client:
                with pytest.raises(websockets.ConnectionClosed) as caught:
                    client.recv(timeout=10)
        finally:
            running.stop()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "complete")
