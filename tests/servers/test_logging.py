"""The log under Django's default for `LOGGING`, which disables existing loggers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.servers.client import Raw
from tests.servers.conftest import ROOT, Running, Server, free_port, python_path, wait_until_ready

pytestmark = pytest.mark.servers

APP = "tests.servers.quiet_asgi:application"
SETTINGS = "tests.servers.quiet"


def visit(running: Running, *paths: str) -> str:
    """The log of a server after a client has requested each path."""
    for path in paths:
        with Raw(running, path, {"Origin": "http://localhost"}) as client:
            assert client.answer()
    running.stop()
    return running.logs()


def assert_everything_is_logged(log: str) -> None:
    assert "LOG fastws_compat Exception in WebSocket /boom" in log
    assert "ZeroDivisionError: boom" in log
    assert "LOG fastws_compat WebSocket /number: the handshake does not fit its parameters" in log


def test_everything_is_logged(server: Server) -> None:
    assert_everything_is_logged(visit(server.start(APP, settings=SETTINGS), "/boom", "/number"))


def test_a_forgotten_await_is_shown(server: Server) -> None:
    log = visit(server.start(APP, settings=SETTINGS), "/forgotten")
    assert "RuntimeWarning: coroutine 'WebSocket.send_text' was never awaited" in log


def test_what_the_completed_daphne_logs_is_logged(daphne: Server) -> None:
    log = visit(daphne.start(APP, settings=SETTINGS), "/elsewhere")
    assert "LOG daphne.server Exception inside application: broken fallback" in log


@pytest.mark.parametrize("how", ["SILENCED", "LOGGERS"])
def test_a_logger_that_the_project_switched_off_stays_off(server: Server, how: str) -> None:
    named = '{"fastws_compat": {"level": "CRITICAL"}}'
    env = {how: {"SILENCED": "fastws_compat", "LOGGERS": named}[how]}
    assert "LOG fastws_compat" not in visit(server.start(APP, settings=SETTINGS, env=env), "/boom", "/number")


@pytest.fixture
def runserver(tmp_path: Any) -> Iterator[Running]:
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", str(port)],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": python_path(),
                "DJANGO_SETTINGS_MODULE": SETTINGS,
                "PYTHONUNBUFFERED": "1",
            },
            stdout=log,
            stderr=log,
        )
        running = Running(process, port, log)
        wait_until_ready(running)
        yield running
        running.stop()


def test_everything_is_logged_by_runserver(runserver: Running) -> None:
    log = visit(runserver, "/boom", "/number", "/forgotten")
    assert_everything_is_logged(log)
    assert "was never awaited" in log


DJANGO_LOGS = {"LOGGERS": '{"django.request": {}}'}
HANDSHAKE = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def log_of_a_request(running: Running, headers: dict[str, str]) -> str:
    """The log of a server after a request for a page that does not exist."""
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=15)) as connection:
        connection.request("GET", "/number", headers=headers)
        with connection.getresponse() as response:
            assert response.status == 404
    running.stop()
    return running.logs()


def test_a_handshake_whose_upgrade_a_proxy_dropped_is_explained(server: Server) -> None:
    log = log_of_a_request(server.start(APP, settings=SETTINGS, env=DJANGO_LOGS), HANDSHAKE)
    text = "LOG fastws_compat A view answered the WebSocket handshake for '/number' with 404: the proxy must"
    assert log.count(text) == 1


def test_uvicorn_without_a_library_for_websockets_is_explained(uvicorn: Server) -> None:
    running = uvicorn.start(APP, "--ws", "none", settings=SETTINGS, env=DJANGO_LOGS)
    log = log_of_a_request(running, {**HANDSHAKE, **UPGRADE})
    text = "LOG fastws_compat A view answered the WebSocket handshake for '/number' with 404: this server"
    assert log.count(text) == 1
