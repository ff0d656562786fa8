"""The warning about a project that serves sockets without "fastws_compat" in INSTALLED_APPS."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps

from fastws_compat import FastAPI, WebSocket, installed
from fastws_compat.asgi import get_asgi_application
from fastws_compat.testclient import TestClient
from tests.test_docs import ROOT, anchors

app = FastAPI()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")


def build() -> None:
    get_asgi_application(app)


def route() -> None:
    assert len(app.websocket_urlpatterns) == 1


def connect() -> None:
    with TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "hello"


@pytest.fixture
def without_app(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("fastws_compat", "fastws_compat.operations")
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name not in ours]
    settings.LOGGING_CONFIG = None  # `django.setup()` would replace pytest's handler
    monkeypatch.setattr(installed, "_is_done", False)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.usefixtures("without_app")
@pytest.mark.parametrize("first", [build, route, connect])
def test_warns_once_wherever_the_sockets_are_served(
    first: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    first()
    [text] = warnings(caplog)
    assert text.startswith('fastws.W021: "fastws_compat" is not in INSTALLED_APPS, so ')
    for again in (build, route, connect):
        again()
    assert warnings(caplog) == [text]
    page, anchor = text.rstrip(".").rpartition(" ")[2].split("#")
    assert anchor in anchors(ROOT / page)


@pytest.mark.usefixtures("without_app")
def test_silenced_like_a_check(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.SILENCED_SYSTEM_CHECKS = ["fastws.W021"]
    build()
    assert warnings(caplog) == []


@pytest.mark.usefixtures("without_app")
def test_waits_until_django_is_set_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(apps, "ready", False)
        route()
        assert warnings(caplog) == []
    route()
    assert len(warnings(caplog)) == 1


def test_quiet_in_a_project_with_the_app(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.LOGGING_CONFIG = None
    monkeypatch.setattr(installed, "_is_done", False)
    for serve in (build, route, connect):
        serve()
    assert warnings(caplog) == []
