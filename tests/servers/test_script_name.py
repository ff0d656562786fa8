"""A site below a path, behind proxies that strip the path and proxies that do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from websockets.sync.client import connect

from tests.servers.conftest import ROOT, Running, Server, free_port, python_path, wait_until_ready

pytestmark = pytest.mark.servers

APP = "tests.servers.script_name:application"
SETTINGS = "tests.servers.script_name_settings"


def told(running: Running, path: str) -> list[str]:
    origin = f"http://127.0.0.1:{running.port}"
    with connect(running.url(path), origin=origin, proxy=None) as client:  # type: ignore[arg-type]
        found: list[str] = json.loads(client.recv(timeout=20))
        return found


def check_site(running: Running, cut: str) -> None:
    """Assert that the site works if the paths that a browser requests arrive without `cut`."""
    with urlopen(running.http("/app/links/".removeprefix(cut)), timeout=20) as page:
        urls = page.read().decode().split()
    base = f"ws://127.0.0.1:{running.port}"
    assert urls == [f"{base}/app/ws/where/7", f"{base}/app/sub/there"]
    paths = [url.removeprefix(base).removeprefix(cut) for url in urls]
    assert told(running, paths[0]) == ["/app/links/", "/app/ws/where/7", "/app/ws/where/8"]
    assert told(running, paths[1]) == ["/app/links/", "/app/sub/there"]
    assert told(running, "/app/old/".removeprefix(cut)) == ["/app/links/"]
    assert "Traceback" not in running.logs()


@pytest.mark.parametrize(
    ("forced", "cut"), [("/app", ""), ("/app", "/app"), ("/app/", "/app")], ids=["whole", "cut", "slash"]
)
def test_force_script_name(server: Server, forced: str, cut: str) -> None:
    check_site(server.shared(APP, settings=SETTINGS, env={"SCRIPT_NAME_FORCED": forced}), cut)


def test_force_script_name_with_a_slash_and_the_whole_path(server: Server) -> None:
    """Django itself then serves no pages, but sockets are where `reverse()` says."""
    running = server.shared(APP, settings=SETTINGS, env={"SCRIPT_NAME_FORCED": "/app/"})
    assert told(running, "/app/sub/there")[1] == "/app/sub/there"


@pytest.mark.parametrize("cut", ["", "/app"], ids=["whole", "cut"])
def test_root_path_of_daphne(daphne: Server, cut: str) -> None:
    check_site(daphne.shared(APP, "--root-path", "/app", settings=SETTINGS), cut)


def test_root_path_of_uvicorn(uvicorn: Server) -> None:
    """uvicorn prepends the root path to the requested path, so the proxy has to strip it."""
    check_site(uvicorn.start(APP, "--root-path", "/app", settings=SETTINGS), "/app")


@pytest.mark.parametrize("cut", ["", "/app"], ids=["whole", "cut"])
def test_root_path_of_daphne_without_a_site(daphne: Server, cut: str) -> None:
    running = daphne.shared("tests.servers.script_name:app", "--root-path", "/app", settings=SETTINGS)
    assert told(running, "/app/sub/there".removeprefix(cut))[1] == "/app/sub/there"


@contextmanager
def runserver(**env: str) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{port}"]
    environ = {**os.environ, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1", **env}
    log = tempfile.NamedTemporaryFile(prefix="fastws-runserver-", suffix=".log")  # noqa: SIM115
    process = subprocess.Popen(
        command, cwd=ROOT, env={**environ, "DJANGO_SETTINGS_MODULE": SETTINGS}, stdout=log, stderr=log
    )
    running = Running(process, port, log)
    wait_until_ready(running)
    try:
        yield running
    finally:
        running.stop()


def test_runserver() -> None:
    with runserver(SCRIPT_NAME_FORCED="/app") as running:
        check_site(running, "")
