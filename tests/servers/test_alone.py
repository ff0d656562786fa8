"""Routes that are served without an application: refusals, handlers and limits are the same."""

from __future__ import annotations

import pytest

from tests.servers.alone import ROADS
from tests.servers.client import Raw
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.alone:app"
SETTINGS = "tests.servers.django_settings"
# What a client sees before and after accept.
ENDS = {
    "http": (409, (4409, "taken")),
    "websocket": (403, (4001, "why")),
    "http404": (404, (4404, "Not Found")),
    "denied": (403, (4403, "Forbidden")),
    "suspicious": (400, (4400, "Bad Request")),
}


def status(running: Running, target: str) -> int:
    with Raw(running, target) as client:
        return int(client.answer().split()[1])


@pytest.mark.parametrize("road", ROADS)
def test_what_an_endpoint_raises_has_the_default_handler(server: Server, road: str) -> None:
    running = server.shared(APP, settings=SETTINGS)
    for fault, (refused, closed) in ENDS.items():
        assert status(running, f"{road}?fault={fault}") == refused, fault
        with Raw(running, f"{road}?fault={fault}&after=1").accepted() as client:
            assert client.close_frame() == closed, fault


@pytest.mark.parametrize(("target", "code"), [("/validated?number=x", 403), ("/login", 401)])
def test_what_the_library_refuses_itself(server: Server, target: str, code: int) -> None:
    assert status(server.shared(APP, settings=SETTINGS), target) == code


UNKNOWN = ("/nothing", "/fallback/nothing", "/urls/nothing", "/urls/known/no")


def test_a_path_that_no_url_router_has_is_one_line(server: Server) -> None:
    running = server.start(APP, settings=SETTINGS)
    assert {path: status(running, path) for path in UNKNOWN} == dict.fromkeys(UNKNOWN, 403)
    running.stop()
    lines = [line for line in running.logs().splitlines() if "No WebSocket route" in line]
    assert lines == [f"LOG WARNING No WebSocket route for {path!r}" for path in UNKNOWN]
    assert "Traceback" not in running.logs()


def test_an_error_of_a_consumer_is_no_unknown_path(server: Server) -> None:
    running = server.start(APP, settings=SETTINGS)
    assert status(running, "/fallback/broken") == 500
    with Raw(running, "/fallback/known") as client:
        client.accepted()
    running.stop()
    assert "ValueError: No route found for path 'broken'." in running.logs()
    assert "No WebSocket route" not in running.logs()


def test_no_client_can_provoke_a_traceback(server: Server) -> None:
    running = server.start(APP, settings=SETTINGS)
    for road in ROADS:
        for fault in ENDS:
            status(running, f"{road}?fault={fault}")
    running.stop()
    assert "Traceback" not in running.logs()
    assert "secret" not in running.logs()


def test_a_reason_of_a_consumer_is_cut_by_daphne(daphne: Server) -> None:
    """On other servers, nothing stands between a Channels consumer and the server."""
    with Raw(daphne.shared(APP, settings=SETTINGS), "/fallback/long").accepted() as client:
        assert client.close_frame() == (4000, "x" * 123)
