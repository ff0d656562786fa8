"""The event loop that the completed daphne runs on; FASTWS_TEST_LOOP runs the other tests on uvloop too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from fastws_compat.daphne.loop import can_move, prepare_loop
from tests.servers.client import Raw, event, open_socket
from tests.servers.conftest import LOOP, ROOT, Running, Server, free_port, python_path, wait_until_ready

# Each test names the loops of its servers, so only one depends on that of the environment.
pytestmark = pytest.mark.servers

APP = "tests.servers.loops:app"
RUNSERVER = "tests.servers.loops_site"


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def on(loop: str, **fastws: Any) -> dict[str, str]:
    """The environment of a server for which uvloop is installed or not."""
    return {"PYTHONPATH": python_path(loop=loop), "FASTWS": json.dumps(fastws)}


def ask(running: Running, path: str) -> Any:
    with open_socket(running, path) as client:
        return json.loads(client.recv(timeout=20))


def running_on(loop: str) -> dict[str, Any]:
    return {"loop": loop, "is the reactor's": True, "uvloop is imported": loop == "uvloop"}


def test_daphne_runs_on_uvloop_where_it_is_installed(daphne: Server, loop: str) -> None:
    running = daphne.start(APP, env=on(loop))
    assert ask(running, "/loop") == running_on(loop)
    assert f"Running on the event loop of {loop}\n" in running.logs()


def test_the_setting_keeps_asyncio(daphne: Server) -> None:
    running = daphne.start(APP, env=on("uvloop", LOOP="asyncio"))
    assert ask(running, "/loop") == running_on("asyncio")


def test_stock_daphne_is_left_on_asyncio(daphne: Server) -> None:
    running = daphne.start(APP, env=on("uvloop", DAPHNE="stock"))
    assert ask(running, "/loop") == running_on("asyncio")


@pytest.mark.loops
def test_the_tests_run_on_the_loop_that_the_environment_names(daphne: Server) -> None:
    assert ask(daphne.shared(APP), "/loop") == running_on(LOOP)


@pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reloader", "noreload"])
def test_runserver_too(tmp_path: Path, loop: str, options: tuple[str, ...]) -> None:
    port = free_port()
    environ = {**os.environ, **on(loop), "DJANGO_SETTINGS_MODULE": RUNSERVER, "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "django", "runserver", *options, f"127.0.0.1:{port}"],
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=log,
        )
        running = Running(process, port, log)
        try:
            wait_until_ready(running)
            assert ask(running, "/loop") == running_on(loop)
            running.signal(signal.SIGINT if options else signal.SIGTERM)
            running.wait(30)
            assert "Traceback" not in running.logs()
        finally:
            running.stop()


def test_threads_reach_the_loop(daphne: Server, loop: str) -> None:
    running = daphne.start(APP, env={**on(loop), "ASGI_THREADS": "3"})
    answer = ask(running, "/threads")
    pool, *called = answer["found"]
    assert called == ["called later", "called by Twisted"]
    assert answer["sensitive threads"] == 1
    assert answer["pooled"].startswith("fastws")
    # The executor that daphne makes for ASGI_THREADS, before our loop exists.
    assert pool.startswith("ThreadPoolExecutor-")


def test_a_reset_behind_data_is_seen(daphne: Server, loop: str) -> None:
    """uvloop lets Twisted read once when a socket has an error, and that finds only the data."""
    running = daphne.start("tests.servers.apps:app", env={"PYTHONPATH": python_path(loop=loop)})
    for _ in range(20):
        Raw(running, "/never_answer").reset()
    assert [event(running, "never_answer") for _ in range(20)] == ["1006"] * 20


def test_child_processes_are_waited_for(daphne: Server, loop: str) -> None:
    assert ask(daphne.shared(APP, env=on(loop)), "/processes") == [3, 4]


def test_what_the_reactor_was_asked_before_it_ran_is_done(daphne: Server, loop: str) -> None:
    running = daphne.start(APP, env=on(loop))
    with Raw(running, "/early").accepted() as client:
        assert client.close_frame() == (1000, "")
    running.signal()
    running.wait()
    done = {line for line in running.logs().splitlines() if line.startswith("EVENT called")}
    assert done == {f"EVENT called {when}" for when in ("from a thread", "later", "when running")}


@pytest.fixture
def reactor() -> Iterator[Any]:
    """A reactor of its own, on a loop that nobody runs."""
    loop = asyncio.new_event_loop()
    reactor: Any = AsyncioSelectorReactor(loop)
    yield reactor
    reactor.removeAll()
    loop.close()
    if not reactor._asyncioEventloop.is_closed():
        reactor._asyncioEventloop.close()


def test_a_loop_with_tasks_is_kept(reactor: Any) -> None:
    assert can_move(reactor)
    task = reactor._asyncioEventloop.create_task(_nothing())
    assert not can_move(reactor)
    reactor._asyncioEventloop.run_until_complete(task)
    assert can_move(reactor)


async def _nothing() -> None:
    pass


def test_an_unknown_reactor_is_left_alone() -> None:
    class Other:
        _asyncioEventloop = object()

    assert not can_move(Other())
    assert prepare_loop(Other()) is Other._asyncioEventloop


def test_what_survives_a_collection_is_frozen_unless_the_setting_is_off(daphne: Server, loop: str) -> None:
    assert ask(daphne.shared(APP, env=on(loop)), "/frozen") > 10_000
    assert ask(daphne.start(APP, env=on(loop, GC_FREEZE=False)), "/frozen") == 0
