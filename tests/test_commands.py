"""`manage.py ws_routes`, the routes that a started server prints, and the nearest path in the log."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.management import CommandError, call_command
from django.urls import path

from fastws_compat import APIRouter, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.apps import print_routes
from fastws_compat.asgi import get_asgi_application
from fastws_compat.responses import Response
from fastws_compat.routing import Mount, Router
from fastws_compat.routing.hints import nearest
from fastws_compat.schema import catalogue
from fastws_compat.testclient import TestClient

ROOT = Path(__file__).resolve().parents[1]


async def endpoint(websocket: WebSocket) -> None: ...


class Foreign:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


def get_token() -> str:
    return "token"


def get_user(token: Annotated[str, Depends(get_token)]) -> str:
    return token


async def guarded(websocket: WebSocket, user: Annotated[str, Depends(get_user)]) -> None: ...


def ws_routes(*args: str) -> str:
    out = io.StringIO()
    call_command("ws_routes", *args, stdout=out)
    return out.getvalue()


def serve(monkeypatch: pytest.MonkeyPatch, settings: Any, application: Any) -> None:
    module = ModuleType("listed_asgi")
    module.application = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "listed_asgi", module)
    settings.ASGI_APPLICATION = "listed_asgi.application"


# ws_routes


def test_table(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws/{room_id:int}", guarded, name="room")
    app.add_api_websocket_route("/ws", endpoint)
    serve(monkeypatch, settings, get_asgi_application(app))
    assert ws_routes().splitlines() == [
        "Path               Name      Endpoint                      Dependencies",
        "/ws/{room_id:int}  room      tests.test_commands:guarded   get_token, get_user",
        "/ws                endpoint  tests.test_commands:endpoint",
    ]


def test_json(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws/{room_id}", guarded, name="room")
    serve(monkeypatch, settings, get_asgi_application(app))
    assert json.loads(ws_routes("--json")) == [
        {
            "path": "/ws/{room_id}",
            "name": "room",
            "endpoint": "tests.test_commands:guarded",
            "dependencies": ["get_token", "get_user"],
            "limits": {},
        }
    ]


def test_limits_of_a_route(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws", endpoint, idle_timeout=300, rate_limit="20/s")
    serve(monkeypatch, settings, get_asgi_application(app))
    assert ws_routes().splitlines()[1].endswith("  idle_timeout=300, rate_limit=20/s")


def test_no_routes(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, get_asgi_application(FastAPI()))
    assert ws_routes() == "No WebSocket routes.\n"
    assert json.loads(ws_routes("--json")) == []


def test_application_that_cannot_be_imported(settings: Any) -> None:
    settings.ASGI_APPLICATION = "no_such_module.application"
    with pytest.raises(CommandError, match="cannot be imported: No module named 'no_such_module'"):
        ws_routes()


def test_setting_that_is_missing(settings: Any) -> None:
    del settings.ASGI_APPLICATION
    with pytest.raises(CommandError, match="ASGI_APPLICATION is missing"):
        ws_routes()


def test_demo_is_listed() -> None:
    assert "/ws/chat/{slug}" in ws_routes()


# What is listed


def paths(application: Any) -> list[tuple[str, str]]:
    return [(entry.path, entry.name) for entry in catalogue.entries(application)]


def test_included_routers_mounts_and_hosts() -> None:
    app, router, inner = FastAPI(), APIRouter(prefix="/{room}"), FastAPI()
    router.add_api_websocket_route("/talk", endpoint, name="talk")
    inner.add_websocket_route = inner.router.add_websocket_route  # type: ignore[attr-defined]
    inner.router.add_websocket_route("/raw", endpoint)
    app.include_router(router, prefix="/ws")
    app.mount("/v1", inner, name="v1")
    app.mount("/v2", inner)
    app.host("a.example.com", inner, name="a")
    app.mount("/foreign", Foreign(), name="foreign")
    assert paths(app) == [
        ("/ws/{room}/talk", "talk"),
        ("/v1/raw", "v1:endpoint"),
        ("/v2/raw", "endpoint"),
        ("//a.example.com/raw", "a:endpoint"),
        ("/foreign/*", "foreign"),
    ]
    assert catalogue.entries(app)[-1].endpoint == "tests.test_commands:Foreign"


def test_consumers_that_were_put_into_a_urlrouter() -> None:
    app, alone = FastAPI(), APIRouter()
    app.add_api_websocket_route("/one", endpoint)
    alone.add_api_websocket_route("/two", endpoint)
    patterns = [*app.websocket_urlpatterns, *alone.websocket_urlpatterns, path("x", Response())]
    router = ProtocolTypeRouter({"websocket": URLRouter(patterns)})
    assert paths(router) == [("/one", "endpoint"), ("/two", "endpoint")]


def test_application_inside_a_function() -> None:
    app = FastAPI()
    app.add_api_websocket_route("/one", endpoint)

    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        await later(scope, receive, send)

    assert paths(wrapper) == [("/one", "endpoint")]
    later = wrapper  # a closure whose cell is filled later, and a cycle
    assert paths(wrapper) == [("/one", "endpoint")]


def test_application_that_is_mounted_twice_is_listed_once() -> None:
    app = FastAPI()
    app.add_api_websocket_route("/one", endpoint)
    assert paths(ProtocolTypeRouter({"websocket": app, "lifespan": app})) == [("/one", "endpoint")]


# What a started server prints


def test_print_routes(capsys: pytest.CaptureFixture[str]) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws", endpoint)
    catalogue.print_routes(app)
    assert capsys.readouterr().out == "WebSocket /ws -> tests.test_commands:endpoint\n"


PROJECT = """
from django.apps import AppConfig
from fastws_compat import FastAPI, WebSocket

SECRET_KEY, DEBUG, USE_TZ = "tests-only", {debug}, True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["daphne", "fastws_compat"]
ROOT_URLCONF = "started"
ASGI_APPLICATION = "started.app"
urlpatterns = []
app = FastAPI()

@app.websocket("/ws/printed")
async def endpoint(websocket: WebSocket): ...

@app.router.on_event("startup")
async def enough():
    raise SystemExit(3)
"""


@pytest.mark.servers
@pytest.mark.parametrize("debug", [True, False])
def test_runserver_prints_the_routes_once(tmp_path: Path, debug: bool) -> None:
    (tmp_path / "started.py").write_text(PROJECT.format(debug=debug))
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "started", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "django", "runserver", "--noreload", "127.0.0.1:0"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.count("WebSocket /ws/printed -> started:endpoint\n") == (1 if debug else 0), (
        done.stderr
    )


# The nearest path in the log


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/ws/chta/7", "/ws/chat/{room_id:int}"),
        ("/ws/chat/lobby", "/ws/chat/{room_id:int}"),
        ("/ws/echo/", "/ws/echo"),
        ("/echo", "/ws/echo"),
        ("/WS/echo", "/ws/echo"),
        ("/completely/different/thing", None),
        ("", None),
    ],
)
def test_nearest(path: str, found: str | None) -> None:
    assert nearest(path, ["/ws/chat/{room_id:int}", "/ws/echo", "/ws/orders/{a}-{b}"]) == found


def test_nearest_of_nothing() -> None:
    assert nearest("/ws", []) is None


def refused(router: Any, path: str, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING, "fastws_compat"), pytest.raises(WebSocketDisconnect):
        with TestClient(router).websocket_connect(path):
            pass
    [record] = caplog.records
    return record.getMessage()


@pytest.mark.parametrize("debug", [True, False])
def test_a_server_prints_its_routes_with_debug(
    debug: bool, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.DEBUG = debug
    app = FastAPI()
    app.add_api_websocket_route("/ws/chat/{room_id}", endpoint)
    print_routes(app)
    printed = capsys.readouterr()
    assert ("/ws/chat/{room_id}" in printed.out + printed.err) is debug


def test_unknown_path_with_debug(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.DEBUG = True
    app = FastAPI()
    app.add_api_websocket_route("/ws/chat/{room_id}", endpoint)
    line = "No WebSocket route for '/ws/chta/7': did you mean '/ws/chat/{room_id}'?"
    assert refused(app, "/ws/chta/7", caplog) == line


def test_unknown_path_below_a_mount(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.DEBUG = True
    inner, app = FastAPI(), FastAPI()
    inner.add_api_websocket_route("/ws/{room_id}", endpoint)
    app.mount("/shops/{name}", inner)
    line = "No WebSocket route for '/shops/ann/wss/7': did you mean '/shops/ann/ws/{room_id}'?"
    assert refused(app, "/shops/ann/wss/7", caplog) == line


@pytest.fixture
def beside_consumers() -> Any:
    """A project with consumers. A fixture makes it, because Django's set-up removes pytest's log handler."""
    app = FastAPI()
    app.add_api_websocket_route("/ws/chat/{room_id}/", endpoint)
    return get_asgi_application(app, fallback=URLRouter([]))


def test_unknown_path_beside_consumers(
    settings: Any, beside_consumers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = True
    line = "No WebSocket route for '/ws/chat/7': did you mean '/ws/chat/{room_id}/'?"
    assert refused(beside_consumers, "/ws/chat/7", caplog) == line


def test_unknown_path_like_no_other(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.DEBUG = True
    assert refused(Router([Mount("/api", Foreign())]), "/zzz", caplog) == "No WebSocket route for '/zzz'"


def test_unknown_path_without_debug(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.DEBUG = False
    app = FastAPI()
    app.add_api_websocket_route("/ws/chat/{room_id}", endpoint)
    assert refused(app, "/ws/chta/7", caplog) == "No WebSocket route for '/ws/chta/7'"


def test_debug_without_django_settings() -> None:
    code = "from fastws_compat import conf; print(conf.debug())"
    environ = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
