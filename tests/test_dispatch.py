"""Functions that choose an application by the type of the scope, as cookiecutter-django has one."""

from __future__ import annotations

from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
from django.core.asgi import get_asgi_application as django_asgi_application

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application
from fastws_compat.checks import application as checks
from fastws_compat.schema import catalogue
from fastws_compat.schema.dispatch import targets


async def endpoint(websocket: WebSocket) -> None: ...


async def lifespan(app: Any) -> Any:
    yield


sockets = FastAPI(lifespan=lifespan)
sockets.add_api_websocket_route("/ws", endpoint)
whole = get_asgi_application(sockets)
django = django_asgi_application()
module = SimpleNamespace(sockets=sockets)


async def other(scope: Any, receive: Any, send: Any) -> None: ...


async def by_type(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await django(scope, receive, send)
    elif scope["type"] == "websocket":
        await sockets(scope, receive, send)
    else:
        raise NotImplementedError(f"Unknown scope type {scope['type']}")


async def only_pages(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await whole(scope, receive, send)
        return
    await other(scope, receive, send)


async def otherwise(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await django(scope, receive, send)
        return
    await module.sockets(scope, receive=receive, send=send)


async def by_path(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/other":
        await other(scope, receive, send)
        return
    if scope["type"] == "lifespan":
        await whole(scope, receive, send)
        raise RuntimeError
    await sockets(scope, receive, send)


@pytest.mark.parametrize(
    ("function", "of_sockets", "of_lifespan"),
    [
        (by_type, [sockets], []),
        (only_pages, [other], [other]),
        (otherwise, [sockets], [django]),
        (by_path, [other, sockets], [other, whole]),
        (lambda scope, receive, send: sockets(scope, receive, send), [], []),
    ],
)
def test_what_a_function_passes_on(
    function: FunctionType, of_sockets: list[Any], of_lifespan: list[Any]
) -> None:
    assert targets(function, "websocket") == of_sockets
    assert targets(function, "lifespan") == of_lifespan


def test_an_application_that_does_not_exist() -> None:
    async def function(scope: Any, receive: Any, send: Any) -> None:
        await missing(scope, receive, send)  # type: ignore[name-defined]  # noqa: F821
        await sockets.missing(scope, receive, send)  # type: ignore[attr-defined]
        await [sockets][0](scope, receive, send)

    assert targets(function, "websocket") == []


def made_from_text() -> Any:
    names: dict[str, Any] = {"app": sockets}
    source = """def make(app):
    async def function(scope, receive, send):
        await app(scope, receive, send)
    return function
function = make(app)"""
    exec(source, names)
    return names["function"]


def passes_on(app: Any, pages: Any) -> Any:
    async def function(scope: Any, *channel: Any) -> None:
        if scope["type"] == "http":
            await pages(scope, channel[0], channel[1])
        else:
            await app(scope, *channel, *())

    return function


@pytest.mark.parametrize("function", [made_from_text(), passes_on(sockets, whole)])
def test_what_a_function_closes_over(function: FunctionType) -> None:
    assert targets(function, "websocket") == [sockets]


def test_routes_and_lifespans() -> None:
    assert [entry.path for entry in catalogue.entries(by_type)] == ["/ws"]
    assert [message.id for message in checks.check_lifespans(by_type)] == ["fastws.W020"]
    assert checks.check_lifespans(by_path) == []


def test_a_function_without_routes_is_told_what_to_do() -> None:
    [message] = checks.check_mounted(only_pages)
    assert message.id == "fastws.W002"
    assert message.hint.startswith(checks.REPLACE_FUNCTION)


class Tenants:
    """Middleware that keeps the application under a name of its own."""

    def __init__(self, following: Any) -> None:
        self.cache: dict[str, Any] = {}
        self.following = following

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Settings:
    """No application, although it refers to one."""

    def __init__(self, following: Any) -> None:
        self.following = following


def test_middleware_that_names_the_application_as_it_likes() -> None:
    assert catalogue.roots(Tenants(Tenants(whole))) == [sockets]
    assert catalogue.roots(Settings(whole)) == []
    assert catalogue.roots(Tenants(django)) == []
