"""`manage.py runserver` as a developer uses it: saving a file, and pressing Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import websockets
from websockets.protocol import State
from websockets.sync.client import ClientConnection

from tests.servers.client import open_socket
from tests.servers.conftest import Running, free_port, has_ended, python_path, wait_until_ready

pytestmark = [pytest.mark.servers, pytest.mark.loops]

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""

SETTINGS = """
SECRET_KEY = "tests-only"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["daphne", "channels", "fastws_compat"]
ROOT_URLCONF = "settings"
ASGI_APPLICATION = "sockets.app"
urlpatterns = []
"""

SOCKETS = """
import asyncio, os, time
from contextlib import asynccontextmanager
from asgiref.sync import sync_to_async
from fastws_compat import Depends, FastAPI, WebSocket

def record(*words):
    print("EVENT", *words, flush=True)

@asynccontextmanager
async def lifespan(app):
    record("startup")
    yield
    record("shutdown")

app = FastAPI(lifespan=lifespan)

async def resource():
    yield
    # Longer than `subprocess.run` waits after Ctrl-C, and in a thread, which needs an open executor.
    await sync_to_async(time.sleep)(0.6)
    record("cleanup")

@app.websocket("/ws", dependencies=[Depends(resource)])
async def endpoint(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(os.getpid())
    try:
        async for text in websocket.iter_text():
            pass
    finally:
        record("finally")

@app.websocket("/endless")
async def endless(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(os.getpid())
    try:
        while True:
            await asyncio.sleep(60)
    finally:
        record("endless finally")
"""

Start = Callable[..., Running]


@pytest.fixture
def runserver(tmp_path: Path) -> Iterator[Start]:
    """Start the project's `runserver` in its own process group, as a terminal does."""
    for name, text in (("manage", MANAGE), ("settings", SETTINGS), ("sockets", SOCKETS)):
        (tmp_path / f"{name}.py").write_text(text)
    started: list[Running] = []

    def start(*options: str) -> Running:
        port = free_port()
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", *options, f"127.0.0.1:{port}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": python_path()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        started.append(running := Running(process, port, log))
        wait_until_ready(running, 60)
        return running

    yield start
    for running in started:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.stop()


def save(tmp_path: Path) -> None:
    """Save a file without changing its content."""
    later = (tmp_path / "sockets.py").stat().st_mtime + 10
    os.utime(tmp_path / "sockets.py", (later, later))


def process_of(client: ClientConnection) -> int:
    return int(client.recv(timeout=20))


def reload(tmp_path: Path, client: ClientConnection) -> None:
    """Save a file until the reloader, which may not have read all files yet, closes `client`."""
    while client.protocol.state is State.OPEN:
        save(tmp_path)
        with suppress(TimeoutError, websockets.ConnectionClosed):
            client.recv(timeout=5)


def close_code(client: ClientConnection) -> int | None:
    with pytest.raises(websockets.ConnectionClosed) as caught:
        client.recv(timeout=30)
    return caught.value.rcvd.code if caught.value.rcvd else None


def connect_again(running: Running, path: str) -> ClientConnection:
    """Reconnect as a page does: at once, and until it succeeds."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return open_socket(running, path)
        except (OSError, websockets.InvalidHandshake):
            assert time.monotonic() < deadline, running.logs()
            has_ended(running.process)


def events(running: Running) -> list[str]:
    lines = running.logs().splitlines()
    return [line.removeprefix("EVENT ") for line in lines if line.startswith("EVENT")]


def ended(running: Running) -> list[str]:
    running.wait(30)
    assert "Traceback" not in running.logs()
    return events(running)


def test_a_reload_closes_with_1012_and_the_page_comes_back_to_the_new_process(
    runserver: Start, tmp_path: Path
) -> None:
    running = runserver()
    with open_socket(running, "/ws") as client:
        old = process_of(client)
        reload(tmp_path, client)
        assert close_code(client) == 1012
        with connect_again(running, "/ws") as again:
            assert process_of(again) != old
            assert events(running) == ["startup", "finally", "cleanup", "shutdown", "startup"]
            os.killpg(running.pid, signal.SIGINT)
            assert close_code(again) == 1012
    assert ended(running)[5:] == ["finally", "cleanup", "shutdown"]


def test_a_reload_does_not_wait_for_an_endpoint_that_goes_on(runserver: Start, tmp_path: Path) -> None:
    running = runserver()
    with open_socket(running, "/endless") as client:
        old = process_of(client)
        reload(tmp_path, client)
        assert close_code(client) == 1012
        told = time.monotonic()
        with connect_again(running, "/ws") as again:
            assert process_of(again) != old
        assert time.monotonic() - told < 20  # on a busy machine, the new process takes most of this time
    assert events(running)[:4] == ["startup", "endless finally", "shutdown", "startup"]


@pytest.mark.parametrize(
    "stop",
    [
        lambda running: os.killpg(running.pid, signal.SIGINT),  # what a terminal does
        lambda running: running.signal(signal.SIGINT),
        lambda running: running.signal(signal.SIGTERM),  # what a container does
    ],
    ids=["Ctrl-C", "SIGINT", "SIGTERM"],
)
@pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reloader", "noreload"])
def test_runserver_leaves_as_a_server_does(
    runserver: Start, stop: Callable[[Running], None], options: tuple[str, ...]
) -> None:
    running = runserver(*options)
    with open_socket(running, "/ws") as client:
        process_of(client)
        stop(running)
        assert close_code(client) == 1012
    assert ended(running) == ["startup", "finally", "cleanup", "shutdown"]


def test_a_refusal_is_explained_once(runserver: Start) -> None:
    running = runserver("--noreload")
    with pytest.raises(websockets.InvalidStatus, match="403"):
        open_socket(running, "/nowhere")
    with open_socket(running, "/ws") as client:  # its line comes after those of the refusal
        process_of(client)
    running.stop()
    log = running.logs()
    assert log.count("No WebSocket route for '/nowhere'") == 1
    assert re.search(r"^WebSocket REJECT /nowhere \[127\.0\.0\.1:\d+\] 403 not_found$", log, re.MULTILINE)


def test_a_second_ctrl_c_ends_the_wait(runserver: Start) -> None:
    running = runserver()
    with open_socket(running, "/endless") as client:
        process_of(client)
        os.killpg(running.pid, signal.SIGINT)
        assert close_code(client) == 1012
        os.killpg(running.pid, signal.SIGINT)
        running.wait(10)
    assert "shutdown" not in events(running)
