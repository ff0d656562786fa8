"""A connection begins with no context variables of another: tenants and languages are often kept in them."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import pytest

from tests.servers.client import Raw
from tests.servers.conftest import Server

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.contexts:app"


def test_handshakes_that_wait_for_a_place(server: Server) -> None:
    """The end of one handshake begins the next, and lets the server accept again."""
    names = ("one", "two", "three", "late")
    running = server.start(APP, env={"FASTWS": json.dumps({"MAX_HANDSHAKES": 2})})
    with ExitStack() as stack:
        # The server has accepted its connection before it is full, so that it can be told to answer.
        pages = stack.enter_context(closing(HTTPConnection("127.0.0.1", running.port, timeout=20)))
        pages.request("GET", "/go/late")
        assert pages.getresponse().read() == b"none"
        waiting = [stack.enter_context(Raw(running, f"/socket/{name}")) for name in names[:3]]
        found = []
        for name, client in zip(names[:3], waiting, strict=True):
            pages.request("GET", f"/go/{name}")
            assert pages.getresponse().read() == b"none"
            found.append(client.accepted().data_frame())
        late = stack.enter_context(Raw(running, "/socket/late"))
        found.append(late.accepted().data_frame())
    assert found == [(1, b"none")] * 4


def test_pages_that_are_requested_at_once_on_one_connection(daphne: Server) -> None:
    """The end of one page begins the next."""
    with daphne.shared(APP).connect() as client:
        page = b"GET /page HTTP/1.1\r\nHost: localhost\r\n"
        client.sendall(b"%s\r\n%s\r\n%sConnection: close\r\n\r\n" % (page, page, page))
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"\r\n\r\nnone") == 3
