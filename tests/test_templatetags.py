"""`{% ws_url %}`: the URL of a socket in a template."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.template import Context, Template, TemplateSyntaxError
from django.test import RequestFactory
from django.urls import NoReverseMatch, set_script_prefix

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application
from fastws_compat.groups import Group


async def endpoint(websocket: WebSocket) -> None: ...


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, settings: Any) -> FastAPI:
    """A project with the routes "chat", "echo" and "named:echo"; the latter belongs to another host."""
    app, inner = FastAPI(), FastAPI()
    app.add_api_websocket_route("/ws/chat/{room_id:int}", endpoint, name="chat")
    app.add_api_websocket_route("/ws/echo", endpoint, name="echo")
    inner.add_api_websocket_route("/echo", endpoint, name="echo")
    app.host("live.example.com", inner, name="live")
    module = ModuleType("templates_asgi")
    module.application = get_asgi_application(app)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "templates_asgi", module)
    settings.ASGI_APPLICATION = "templates_asgi.application"
    return app


def render(tag: str, request: Any = None, **context: Any) -> str:
    if request is not None:
        context["request"] = request
    return Template("{% load fastws %}" + tag).render(Context(context))


def test_without_request() -> None:
    assert render('{% ws_url "echo" %}') == "/ws/echo"


def test_with_request() -> None:
    assert render('{% ws_url "echo" %}', RequestFactory().get("/")) == "ws://testserver/ws/echo"


def test_with_secure_request() -> None:
    request = RequestFactory().get("/", secure=True)
    assert render('{% ws_url "echo" %}', request) == "wss://testserver/ws/echo"


def test_behind_a_proxy(settings: Any) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.USE_X_FORWARDED_HOST = True
    settings.ALLOWED_HOSTS = ["example.com"]
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.com:8443"}
    request = RequestFactory(headers=headers).get("/")
    assert render('{% ws_url "echo" %}', request) == "wss://example.com:8443/ws/echo"


def test_path_parameter() -> None:
    assert render('{% ws_url "chat" room_id=1 %}') == "/ws/chat/1"


def test_variables() -> None:
    assert render("{% ws_url name room_id=room.pk %}", name="chat", room={"pk": 7}) == "/ws/chat/7"


def test_name_and_value_with_filters() -> None:
    assert render("{% ws_url name|lower room_id=pk|add:1 %}", name="CHAT", pk=1) == "/ws/chat/2"


def test_script_prefix() -> None:
    set_script_prefix("/site/")
    try:
        assert render('{% ws_url "echo" %}') == "/site/ws/echo"
    finally:
        set_script_prefix("/")


def test_route_of_a_host() -> None:
    request = RequestFactory().get("/", secure=True)
    assert render('{% ws_url "live:echo" %}', request) == "wss://live.example.com/echo"
    assert render('{% ws_url "live:echo" %}') == "//live.example.com/echo"


def test_as_variable() -> None:
    assert render('{% ws_url "echo" as url %}[{{ url }}]') == "[/ws/echo]"


def test_as_variable_without_a_match_is_empty() -> None:
    assert render('{% ws_url "nothing" as url %}[{{ url }}]') == "[]"


def test_unknown_name() -> None:
    with pytest.raises(
        NoReverseMatch, match=r"No WebSocket route is named 'nothing'. The names are: chat, echo, live:echo"
    ):
        render('{% ws_url "nothing" %}')


def test_parameter_that_is_missing() -> None:
    with pytest.raises(NoReverseMatch) as caught:
        render('{% ws_url "chat" %}')
    assert str(caught.value) == (
        "The WebSocket route 'chat' has other parameters: /ws/chat/{room_id:int}. Parameters tried: none."
    )


def test_parameter_that_the_route_does_not_have() -> None:
    with pytest.raises(NoReverseMatch, match=r"Parameters tried: room_id."):
        render('{% ws_url "echo" room_id=1 %}')


@pytest.mark.parametrize("value", ["one", None, -1])
def test_value_that_does_not_fit(value: Any) -> None:
    with pytest.raises(NoReverseMatch, match="The WebSocket route 'chat' does not accept"):
        render('{% ws_url "chat" room_id=value %}', value=value)


def test_no_name() -> None:
    with pytest.raises(
        TemplateSyntaxError, match="'ws_url' takes at least one argument, the name of a route"
    ):
        render("{% ws_url %}")


def test_parameter_without_name() -> None:
    with pytest.raises(
        TemplateSyntaxError, match="takes path parameters by name, for example room_id=1, not '1'"
    ):
        render('{% ws_url "chat" 1 %}')


def test_result_is_escaped_as_urls_are(project: FastAPI) -> None:
    project.add_api_websocket_route("/ws/{name}", endpoint, name="named")
    assert render('{% ws_url "named" name="a&b" %}') == "/ws/a&amp;b"
    assert render('{% autoescape off %}{% ws_url "named" name="a&b" %}{% endautoescape %}') == "/ws/a&b"


def test_the_position_of_a_group(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}}
    room = Group("room.7")
    room.send(["hi"])
    position = render('{% ws_position "room.7" %}')
    assert position == room.position()
    assert position.endswith(":1")
    assert render("{% ws_position room %}", room=room) == position


def test_the_position_of_a_group_in_an_async_view(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}}
    template = '{% ws_position "room.7" %}'

    async def view() -> None:
        with pytest.raises(SynchronousOnlyOperation, match=r"`await Group\('room.7'\).aposition\(\)`"):
            render(template)
        position = await Group("room.7").aposition()
        assert await sync_to_async(render)(template) == position
        assert render("{{ position }}", position=position) == position

    asyncio.run(view())
