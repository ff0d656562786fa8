"""`get_asgi_application(http=[...])`: the requests that mounted applications get; see also tests/servers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler

from fastws_compat import APIRouter, FastAPI
from fastws_compat.asgi import get_asgi_application
from fastws_compat.exceptions import DeclarationError
from fastws_compat.middleware.base import BaseHTTPMiddleware
from fastws_compat.routing.mounts import HTTPMounts
from tests.fake_server import FakeServer

pytestmark = pytest.mark.django_db

HTTP = "HTTP below the mount"


class Foreign:
    """An application that answers with the paths it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append((scope["path"], scope.get("root_path", "")))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"foreign"})


def mounted(path: str, inner: Any) -> FastAPI:
    app = FastAPI()
    app.mount(path, inner)
    return app


def ask(app: Any, path: str, status: int = 200, **options: Any) -> list[dict[str, Any]]:
    """The response to a request, if Django responds to everything with `status`."""

    async def django(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"django"})

    server = FakeServer({"type": "http.request", "body": b""})
    http = app if isinstance(app, HTTPMounts) else HTTPMounts(django, app, options.pop("http", ()))
    http.application = django
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(http({**scope, "server": ("testserver", 80), **options}, server.receive, server.send))
    return server.sent


def body(sent: list[dict[str, Any]]) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("http", [["/sub"], ["/sub/"], ("/sub",), "/sub"])
def test_a_listed_mount(http: Any) -> None:
    inner = Foreign()
    assert body(ask(mounted("/sub", inner), "/sub/x", http=http)) == b"foreign"
    assert inner.seen == [("/sub/x", "/sub")]


@pytest.mark.parametrize("path", ["/", "/x", "/subs/x", "/other/sub/x"])
def test_what_is_not_below_it(path: str) -> None:
    assert body(ask(mounted("/sub", Foreign()), path, http=["/sub"])) == b"django"


def test_a_mount_of_an_included_router() -> None:
    app, router, inner = FastAPI(), APIRouter(prefix="/unused"), Foreign()
    router.mount("/sub", inner)
    app.include_router(router, prefix="/v1")
    assert body(ask(app, "/v1/sub/x", http=["/v1/sub"])) == b"foreign"
    assert inner.seen == [("/v1/sub/x", "/v1/sub")]


def test_a_mount_inside_a_mounted_application() -> None:
    inner = Foreign()
    app = mounted("/outer", mounted("/inner", inner))
    assert body(ask(app, "/outer/inner/x", http=["/outer"])) == b"foreign"
    assert inner.seen == [("/outer/inner/x", "/outer/inner")]
    assert ask(app, "/outer/x", http=["/outer"])[0]["status"] == 404


def test_a_root_path_of_the_server() -> None:
    inner = Foreign()
    sent = ask(mounted("/sub", inner), "/site/sub/x", http=["/sub"], root_path="/site")
    assert (body(sent), inner.seen) == (b"foreign", [("/site/sub/x", "/site/sub")])


def test_a_middleware_of_the_application_is_around_it() -> None:
    class Refusing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"refused"})

    app = mounted("/sub", inner := Foreign())
    app.add_middleware(Refusing)
    assert body(ask(app, "/sub/x", http=["/sub"])) == b"refused"
    assert inner.seen == []


def test_a_slash_is_added() -> None:
    app = mounted("/sub", Foreign())
    start = ask(app, "/sub", http=["/sub"])[0]
    assert (start["status"], dict(start["headers"])[b"location"]) == (307, b"http://testserver/sub/")
    app.router.redirect_slashes = False
    assert body(ask(app, "/sub", http=["/sub"])) == b"django"


# Requests that still go to Django


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_mount_that_is_not_listed(caplog: pytest.LogCaptureFixture) -> None:
    app = mounted("/sub", inner := Foreign())
    http = HTTPMounts(inner, app, ())
    for path in ("/sub/x", "/sub/y"):
        assert body(ask(http, path, status=404)) == b"django"
    [line] = warnings_of(caplog)
    assert line.startswith(f"{HTTP} '/sub' goes to Django")
    assert "http=['/sub']" in line
    assert inner.seen == []


def test_a_page_of_djangos_below_a_mount(caplog: pytest.LogCaptureFixture) -> None:
    assert body(ask(mounted("/sub", Foreign()), "/sub/x")) == b"django"
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("inner", [FastAPI(), mounted("/deep", FastAPI()), APIRouter()])
def test_a_mount_that_has_sockets_only(inner: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert body(ask(mounted("/sub", inner), "/sub/deep/x", status=404)) == b"django"
    assert warnings_of(caplog) == []


def test_a_foreign_application_deep_inside(caplog: pytest.LogCaptureFixture) -> None:
    ask(mounted("/sub", mounted("/deep", Foreign())), "/sub/deep/x", status=404)
    assert len(warnings_of(caplog)) == 1


# At import


def test_an_application_without_mounts_leaves_http_to_django_alone() -> None:
    application: Any = get_asgi_application(FastAPI())
    assert isinstance(application.application_mapping["http"], ASGIHandler)


@pytest.mark.parametrize(
    ("app", "http", "has"),
    [
        (FastAPI(), ["/sub"], "it has none"),
        (mounted("/sub", FastAPI()), ["/other"], "it has '/sub'"),
        (mounted("/sub", FastAPI()), ["/sub/deeper"], "it has '/sub'"),
        (mounted("/sub", FastAPI()), ["/sub", ""], "it has '/sub'"),
    ],
)
def test_a_path_that_no_mount_has(app: FastAPI, http: list[str], has: str) -> None:
    with pytest.raises(DeclarationError, match=f"but no mount of the application has this path: {has}"):
        get_asgi_application(app, http=http)


def test_a_middleware_whose_dispatch_would_not_run() -> None:
    class Guard(BaseHTTPMiddleware): ...

    app = mounted("/sub", Foreign())
    app.add_middleware(Guard)
    with pytest.raises(DeclarationError, match=r"dispatch\(\) of the BaseHTTPMiddleware Guard does not run"):
        get_asgi_application(app, http=["/sub"])
    get_asgi_application(app)
