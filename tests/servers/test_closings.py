"""Codes and reasons on the wire: every way to close, before and after accept, on every server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastws_compat.connections.closing import close_code, is_close_code, is_error_status
from tests.servers.client import Raw
from tests.servers.closings import AFTER, BEFORE, CODES, REASONS
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.closings:app"
KINDS = ["daphne", "uvicorn", "uvicorn --ws websockets", "uvicorn --ws wsproto"]
# Ways to close by a message of the application. WebSocketClose does not accept first.
ROADS = ["close", "send", "exception", "class", "mounted"]


@pytest.fixture(params=KINDS)
def running(request: pytest.FixtureRequest, shared_servers: Any) -> Running:
    name, *options = request.param.split()
    return Server(name, shared_servers).shared(APP, *options, settings="tests.servers.django_settings")


def status(running: Running, path: str) -> int:
    """The status of the response that refuses a handshake."""
    with Raw(running, path) as client:
        head = client.answer()
        assert head.startswith(b"HTTP/1.1 "), (path, head)
        return int(head.split()[1])


def closed(running: Running, path: str) -> tuple[int, str]:
    """The code and reason of the close frame after accept."""
    with Raw(running, path).accepted() as client:
        return client.close_frame()


def slash(road: str) -> str:
    """The last part of a mounted application's path."""
    return "/" if road in ("mounted", "app") else ""


@pytest.mark.parametrize("road", [*ROADS, "app"])
def test_before_accept_a_status_refuses_and_all_else_is_403(running: Running, road: str) -> None:
    answers = {name: status(running, f"/{road}/before/{name}/text{slash(road)}") for name in CODES}
    expected = {name: int(code) if is_error_status(code) else 403 for name, code in CODES.items()}
    if "--ws websockets" in " ".join(map(str, running.process.args)):  # knows only registered statuses
        answers["599"] = expected["599"]
    assert answers == expected


@pytest.mark.parametrize("road", [*ROADS, "group"])
def test_after_accept_a_code_is_sent_or_the_socket_ends_with_1011(running: Running, road: str) -> None:
    expected = {
        name: (close_code(code), "why") if is_close_code(code) or is_error_status(code) else (1011, "")
        for name, code in CODES.items()
    }
    assert {name: closed(running, f"/{road}/after/{name}/text{slash(road)}") for name in CODES} == expected


SHOWN = {
    "empty": "",
    "none": "",
    "text": "why",
    "exception": "no such room",
    "detail": '{"detail":[1,"é"]}',
    "list": '["a",{"b":null}]',
    "number": "7",
    "bytes": "café",
    "lazy": "Monday",
    "long": "x" * 123,
    "emoji": "🙂" * 30,
    "odd": "a" + "🙂" * 30,
    "surrogate": "a?b",
}


@pytest.mark.parametrize("road", [*ROADS, "group"])
def test_a_reason_of_any_kind_is_text_and_cut_between_characters(running: Running, road: str) -> None:
    assert SHOWN.keys() == REASONS.keys()
    reasons = {name: closed(running, f"/{road}/after/4000/{name}{slash(road)}") for name in REASONS}
    assert reasons == {name: (4000, reason) for name, reason in SHOWN.items()}


def test_an_http_exception_after_accept_is_4000_and_its_status_with_its_detail(running: Running) -> None:
    reasons = {name: closed(running, f"/http_exception/after/404/{name}") for name in REASONS}
    assert reasons == {name: (4404, reason) for name, reason in {**SHOWN, "none": "Not Found"}.items()}


DETAILS = {"detail": {"detail": [1, "é"]}, "lazy": "Monday", "exception": "no such room", "surrogate": "a?b"}


@pytest.mark.parametrize("reason", DETAILS)
def test_an_http_exception_before_accept_is_its_status(running: Running, reason: str) -> None:
    with Raw(running, f"/http_exception/before/404/{reason}") as client:
        assert client.answer().startswith(b"HTTP/1.1 404 ")
        assert json.loads(client.rest()) == {"detail": DETAILS[reason]}


@pytest.mark.parametrize("mistake", [mistake.__name__ for mistake in BEFORE])
def test_a_mistake_before_accept_is_a_500(running: Running, mistake: str) -> None:
    assert status(running, f"/mistakes/{mistake}") == 500


@pytest.mark.parametrize("mistake", [mistake.__name__ for mistake in AFTER])
def test_a_mistake_after_accept_is_a_1011(running: Running, mistake: str) -> None:
    assert closed(running, f"/mistakes/{mistake}") == (1011, "")


@pytest.mark.parametrize("road", ["close", "exception"])
def test_a_code_that_can_be_sent_is_what_fastapi_sends(running: Running, uvicorn: Server, road: str) -> None:
    fastapi = uvicorn.shared("tests.servers.closings_fastapi:app", settings="tests.servers.django_settings")
    for name in (name for name, code in CODES.items() if is_close_code(code)):
        for reason in ("text", "empty", "none"):
            after, before = f"/{road}/after/{name}/{reason}", f"/{road}/before/{name}/{reason}"
            assert closed(running, after) == closed(fastapi, after), after
            assert status(running, before) == status(fastapi, before), before
