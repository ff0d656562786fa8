"""Events of sockets in sentry-sdk, with a local transport."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from fastws_compat import BackgroundTasks, FastAPI, WebSocket, logs
from fastws_compat.connections import hooks
from fastws_compat.contrib import sentry as sentry_module
from fastws_compat.contrib.sentry import FastWSIntegration
from tests.failing_rooms import Passing, failing_app
from tests.fake_server import CONNECT, FakeServer, disconnect, websocket_scope

SECRETS = ("c00kie-secret", "qu3ry-secret", "t0ken-secret")


class Local(Transport):
    """Keeps the envelopes."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.envelopes.append(envelope)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [item.payload.json for each in self.envelopes for item in each.items if item.type == "event"]


@contextmanager
def client(isolate: bool, **options: Any) -> Iterator[Local]:
    """sentry-sdk with the integration; its hooks are taken out again."""
    transport, begun = Local(), list(hooks.begun)
    sentry_sdk.init(
        dsn="http://key@localhost/1",
        transport=transport,
        integrations=[FastWSIntegration(isolate=isolate)],
        auto_enabling_integrations=False,
        traces_sample_rate=1.0,
        **options,
    )
    hooks.begun[:] = [*begun, logs._enter, sentry_module._isolate]  # an SDK sets up an integration only once
    try:
        yield transport
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
        hooks.begun[:] = begun


@pytest.fixture(params=[True, False], ids=["isolated", "shared"])
def sentry(request: Any) -> Iterator[Local]:
    with client(request.param) as transport:
        yield transport


def fail_two_at_once() -> None:
    app = failing_app()

    async def run() -> None:
        servers = {name: FakeServer(CONNECT) for name in ("a", "b")}
        for name, server in servers.items():
            server.start(
                app,
                websocket_scope(
                    f"/rooms/{name}",
                    query_string=b"q=qu3ry-secret",
                    headers=[(b"cookie", b"s=c00kie-secret"), (b"authorization", b"Bearer t0ken-secret")],
                ),
            )
        for server in servers.values():
            await server.wait_sent("websocket.accept")
        for server in servers.values():
            server.say("go")
        for server in servers.values():
            await server.wait_ended()

    asyncio.run(run())


def test_each_error_is_one_event_with_its_own_connection(sentry: Local) -> None:
    fail_two_at_once()
    events = sentry.events
    assert len(events) == 2
    ids = set()
    for event in events:
        [value] = event["exception"]["values"]
        assert value["mechanism"] == {"type": "fastws", "handled": False}
        assert (event["transaction"], event["transaction_info"]) == ("/rooms/{room}", {"source": "route"})
        assert event["tags"]["route"] == "/rooms/{room}"
        assert event["tags"]["close_code"] == "1011"
        assert event["contexts"]["websocket"]["messages_in"] == 1
        assert "user" not in event or "id" not in event["user"]
        ids.add(event["tags"]["connection_id"])
        if sentry_sdk.get_client().get_integration(FastWSIntegration).isolate:
            assert event["tags"]["room"] == value["value"]
    assert len(ids) == 2


def test_no_secret_leaves_and_a_socket_is_no_transaction(sentry: Local) -> None:
    fail_two_at_once()
    assert {item.type for each in sentry.envelopes for item in each.items} == {"event"}
    sent = json.dumps(sentry.events)
    assert not [secret for secret in SECRETS if secret in sent]


@pytest.mark.parametrize(("end", "code"), [("close", "4000"), ("leave", None), ("refuse", None)])
def test_an_error_names_the_code_that_the_library_has_sent(sentry: Local, end: str, code: str | None) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def fail(websocket: WebSocket) -> None:
        if end == "close":
            await websocket.accept()
            await websocket.close(4000)
        elif end == "leave":
            await websocket.accept()
            await websocket.receive()
        raise LookupError

    server = FakeServer(CONNECT, disconnect(1001))
    asyncio.run(app(websocket_scope(), server.receive, server.send))
    [event] = sentry.events
    assert event["tags"].get("close_code") == code


def test_an_error_after_the_close_names_the_code_of_the_close(sentry: Local) -> None:
    app = FastAPI()
    app.add_middleware(Passing)

    def fail() -> None:
        raise LookupError

    @app.websocket("/ws")
    async def leave_work(websocket: WebSocket, tasks: BackgroundTasks) -> None:
        await websocket.accept()
        tasks.add_task(fail)

    server = FakeServer(CONNECT)
    asyncio.run(app(websocket_scope(), server.receive, server.send))
    [event] = sentry.events
    assert event["tags"]["close_code"] == "1000"
    assert [message["type"] for message in server.sent] == ["websocket.accept", "websocket.close"]


def test_uvicorns_line_for_a_refusal_is_no_event(sentry: Local) -> None:
    logging.getLogger("uvicorn.error").error("ASGI callable returned without sending handshake.")
    assert sentry.events == []
    logging.getLogger("uvicorn.error").error("Something else.")
    assert len(sentry.events) == 1


@pytest.mark.filterwarnings("ignore:The send_default_pii option:DeprecationWarning")
@pytest.mark.parametrize("send_default_pii", [True, False])
def test_the_user_is_named_if_the_project_allows_it(send_default_pii: bool) -> None:
    class User:
        pk = 7

    app = FastAPI()

    @app.websocket("/ws")
    async def report(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.scope["fastws_compat.session"].finish(4000)
        sentry_sdk.capture_message("hello")

    with client(True, send_default_pii=send_default_pii) as transport:
        server = FakeServer(CONNECT)
        asyncio.run(app(websocket_scope(user=User()), server.receive, server.send))
        [event] = transport.events
    assert event["tags"]["close_code"] == "4000"
    assert event["transaction"] == "/ws"
    assert event.get("user", {}).get("id") == ("7" if send_default_pii else None)


def test_without_the_integration_events_stay_as_they_are() -> None:
    with client(True):
        pass
    transport = Local()
    sentry_sdk.init(dsn="http://key@localhost/1", transport=transport, auto_enabling_integrations=False)
    try:
        logging.getLogger("uvicorn.error").error("ASGI callable returned without sending handshake.")
        assert len(transport.events) == 1
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)


EARLY = """
import sentry_sdk
from fastws_compat.contrib.sentry import FastWSIntegration

sentry_sdk.init(dsn="http://key@localhost/1", integrations=[FastWSIntegration(isolate=True)])
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "fastws_compat"]
FASTWS = {"ACCESS_LOG": True}
"""
SET_UP = """
import django, sentry_sdk
django.setup()
print(sentry_sdk.get_client().get_integration("fastws").isolate)
"""


def test_the_integration_is_made_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(EARLY)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    environ = {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "early"}
    command = [sys.executable, "-c", SET_UP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert done.stdout == "True\n", done.stderr
