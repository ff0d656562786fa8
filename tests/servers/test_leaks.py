"""The events that sentry-sdk, with its default integrations, sends after a failure: no secret of a client."""

from __future__ import annotations

import gzip
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.servers.client import Raw
from tests.servers.conftest import Server

pytestmark = pytest.mark.servers

SECRETS = {
    "session": "s3ss10nkeys3ss10nkeys3ss10nkey01",
    "cookie": "c00kievalue7",
    "authorization": "b34rerc0dex9",
    "subprotocol": "subpr0t0c0lt0ken5",
    "query": "qu3ryv4lue11",
    "header": "h34derv4lue13",
}
CASES = [
    *(
        "endpoint",
        "header-missing",
        "query-missing",
        "chained",
        "context",
        "group-of-tasks",
        "misuse",
        "thread",
    ),
    *("dependency", "sync-dependency", "callable", "teardown", "sync-teardown", "background", "invalid"),
    *("handler", "group-handler", "group-refusal", "identify"),
]


class Sentry(ThreadingHTTPServer):
    """The address to which events are sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.events: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []

    @property
    def dsn(self) -> str:
        return f"http://public@127.0.0.1:{self.server_port}/1"

    def event(self, text: str) -> str:
        """The first event that contains `text`."""
        while True:
            event = self.events.get(timeout=30)
            self.seen.append(event)
            if text in event:
                return event


class Receiver(BaseHTTPRequestHandler):
    server: Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.events.put(body.decode())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def sentry() -> Iterator[Sentry]:
    with Sentry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def site(request: Any, sentry: Sentry) -> Iterator[Any]:
    server = Server(request.param, {})
    yield server.start("tests.servers.leaks:application", env={"SENTRY_DSN": sentry.dsn})
    server.close()


def handshake(site: Any, case: str) -> Raw:
    session = "broken" + SECRETS["session"][6:] if case == "identify" else SECRETS["session"]
    return Raw(
        site,
        f"/{case}?q={SECRETS['query']}",
        {
            "Cookie": f"sessionid={session}; other={SECRETS['cookie']}",
            "Authorization": f"Bearer {SECRETS['authorization']}",
            "Sec-WebSocket-Protocol": f"chat, {SECRETS['subprotocol']}",
            "X-Plain": SECRETS["header"],
            "Origin": "http://localhost",
        },
    )


@pytest.mark.parametrize("case", CASES)
def test_an_error_event_holds_no_secret(site: Any, sentry: Sentry, case: str) -> None:
    with handshake(site, case) as client:
        assert client.answer()
        event = sentry.event(f"boom {case}")
    leaked = {name for name, secret in SECRETS.items() if secret in event or secret[6:] in event}
    assert not leaked, excerpts(event)
    assert "cookie" not in site.logs().lower()
    assert not [name for name, secret in SECRETS.items() if secret in site.logs()]


@pytest.mark.parametrize("case", ["endpoint", "sync-dependency", "teardown", "background", "thread"])
def test_an_error_event_still_shows_the_project_where_it_failed(site: Any, sentry: Sentry, case: str) -> None:
    with handshake(site, case) as client:
        assert client.answer()
        event = json.loads(sentry.event(f"boom {case}").splitlines()[-1])
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert {frame["module"] for frame in frames} == {"tests.servers.leaks"}
    assert frames[-1]["vars"]["case"] == f"'{case}'"
    assert event["extra"]["route"] == f"/{case}"


@pytest.mark.parametrize("case", ["fallback", "middleware"])
def test_where_a_scope_is_the_projects_own_no_frame_is_the_librarys(
    site: Any, sentry: Sentry, case: str
) -> None:
    """The project's middleware, Channels and the server have it in their own frames."""
    with handshake(site, case) as client:
        assert client.answer()
        event = json.loads(sentry.event(f"boom {case}").splitlines()[-1])
    for value in event["exception"]["values"]:
        assert not [f for f in value["stacktrace"]["frames"] if f["module"].startswith("fastws_compat")]


def test_a_failed_validation_is_one_line_with_the_parameter_and_no_value(server: Server) -> None:
    running = server.start("tests.servers.sockets:app")
    with Raw(running, f"/number?number={SECRETS['query']}") as client:
        assert b" 403 " in client.answer()
    line = "WebSocket /number: the handshake does not fit its parameters: query.number (int_parsing)"
    running.stop()
    assert running.logs().count(line) == 1
    assert SECRETS["query"] not in running.logs()


def excerpts(event: str) -> list[str]:
    found = []
    for name, secret in SECRETS.items():
        place = event.find(secret)
        if place >= 0:
            found.append(f"{name}: {event[max(0, place - 300) : place + 40]}")
    return found
