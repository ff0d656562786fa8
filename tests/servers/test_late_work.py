"""Work that an application still has to do after the end of its connection completes on every server."""

from __future__ import annotations

from contextlib import suppress

import pytest
from websockets.exceptions import InvalidStatus

from tests.servers.client import event, open_socket, unique
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.late_work:app"
PATHS = (
    "/except",
    "/finally",
    "/shielded",
    "/cancelled",
    "/failed_send",
    "/background",
    "/returned",
    "/closed",
    "/refused",
    "/foreign",
    "/consumer",
)
# A daphne that would cancel an application as soon as its client has left.
AT_ONCE = ("--application-close-timeout", "0")


@pytest.fixture
def running(server: Server) -> Running:
    options = AT_ONCE if server.is_daphne else ()
    return server.start(APP, *options, env={"FASTWS": '{"DISCONNECT_GRACE": 1}'})


def visit(running: Running, path: str) -> str:
    """Connect and leave; return the name under which the application records its events."""
    name = unique()
    with suppress(InvalidStatus), open_socket(running, f"{path}?as={name}"):
        event(running, f"{name} accepted")
    return name


def test_work_after_the_end_is_done(running: Running) -> None:
    names = {path: visit(running, path) for path in PATHS}
    for path, name in names.items():
        assert event(running, f"{name} work") == "done", path


def test_work_after_the_end_is_bounded_by_the_shutdown(server: Server) -> None:
    options = () if server.is_daphne else ("--timeout-graceful-shutdown", "1")
    running = server.start(APP, *options, env={"FASTWS": '{"SHUTDOWN_GRACE": 1}'})
    name = visit(running, "/except")
    running.signal()
    running.wait()
    assert f"EVENT {name} work cut" in running.logs()
