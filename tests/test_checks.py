"""Every system check: no message if all is well, and its number if one thing is wrong."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from channels.exceptions import InvalidChannelLayerError
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import path
from django.utils.autoreload import StatReloader, autoreload_started
from pydantic import BaseModel, Discriminator, Field, Tag, field_validator

import wsproject.asgi  # noqa: F401 - imports the demo's sockets, which would be found unimported
from fastws_compat import APIRouter, FastAPI, TypedWebSocket, WebSocket, checks, conf, daphne, installed
from fastws_compat.asgi import get_asgi_application
from fastws_compat.checks import application, messages, packages
from fastws_compat.groups import Group
from fastws_compat.origins import OriginCheck
from fastws_compat.routing import Host, Mount, Router
from fastws_compat.schema import catalogue

LAYER = "channels.layers.InMemoryChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


async def endpoint(websocket: WebSocket) -> None: ...


def app_with(*paths: str) -> FastAPI:
    app = FastAPI()
    for each in paths:
        app.add_api_websocket_route(each, endpoint)
    return app


def ids() -> list[str]:
    """The numbers of all our checks that report a problem."""
    return sorted(message.id.removeprefix("fastws.") for message in run_checks(tags=[checks.TAG]))


def serve(monkeypatch: pytest.MonkeyPatch, settings: Any, application: Any) -> None:
    module = ModuleType("checked_asgi")
    module.application = application  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "checked_asgi", module)
    settings.ASGI_APPLICATION = "checked_asgi.application"


@pytest.fixture(autouse=True)
def in_development(settings: Any) -> None:
    settings.DEBUG = True


def test_demo_is_fine() -> None:
    assert ids() == []


def test_silenced(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.SESSION_COOKIE_SAMESITE = "None"
    settings.SILENCED_SYSTEM_CHECKS = ["fastws.W006"]
    call_command("check", tags=[checks.TAG])
    assert "(1 silenced)" in capsys.readouterr().out


def test_every_message_is_documented_and_every_hint_leads_there() -> None:
    root = Path(__file__).resolve().parents[1]
    page = (root / messages.DOCS).read_text()
    sources = [*Path(checks.__file__).parent.glob("*.py"), Path(installed.__file__)]
    used = {number for path in sources for number in re.findall(r'"([EWI]\d{3})"', path.read_text())}
    assert used == set(re.findall(r"^### fastws\.([EWI]\d{3})$", page, re.MULTILINE))
    [message] = messages.message(messages.Info, "I001", "Text.", "Hint.")
    assert message.hint == "Hint. See docs/reference/checks.md#fastwsi001."


# The ASGI application


def test_asgi_application_missing(settings: Any) -> None:
    del settings.ASGI_APPLICATION
    assert ids() == ["E001"]


@pytest.mark.parametrize("name", ["no_such_module.application", "wsproject.asgi.missing", "nonsense"])
def test_asgi_application_that_leads_nowhere(settings: Any, name: str) -> None:
    settings.ASGI_APPLICATION = name
    assert ids() == ["E002"]


def test_asgi_application_that_raises(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_asgi.py").write_text("raise ValueError('half written')\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings.ASGI_APPLICATION = "broken_asgi.application"
    [message] = checks.check_asgi_application()
    assert message.id == "fastws.E002"
    assert message.msg.endswith(f"ValueError: half written ({tmp_path / 'broken_asgi.py'}, line 1)")


def test_declaration_that_raises(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from fastws_compat import FastAPI\n\napplication = FastAPI().websocket('/ws')(lambda: None)\n"
    (tmp_path / "declaring_asgi.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    settings.ASGI_APPLICATION = "declaring_asgi.application"
    [message] = checks.check_asgi_application()
    assert message.msg.endswith(f"({tmp_path / 'declaring_asgi.py'}, line 3)")


def test_misspelled_application(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is the line that names it, not one in the functions that import a module."""
    source = "from fastws_compat.asgi import get_asgi_application\n\nget_asgi_application('no_such:app')\n"
    (tmp_path / "misspelled_asgi.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    settings.ASGI_APPLICATION = "misspelled_asgi.application"
    [message] = checks.check_asgi_application()
    assert message.msg.endswith(f"'no_such' ({tmp_path / 'misspelled_asgi.py'}, line 3)")
    settings.ASGI_APPLICATION = "nonsense"
    [message] = checks.check_asgi_application()
    assert message.msg.endswith('ImportError: it is not a dotted name such as "mysite.asgi.application"')
    settings.ASGI_APPLICATION = "wsproject.asgi:application"
    assert [again.msg for again in checks.check_asgi_application()] == [
        message.msg.replace("nonsense", "wsproject.asgi:application")
    ]
    settings.ASGI_APPLICATION = "wsproject.asgi.app"
    [message] = checks.check_asgi_application()
    assert message.msg.endswith("ImportError: module 'wsproject.asgi' has no 'app'")


def test_attribute_error_in_a_module(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`import_string` would say that the module has no such application."""
    (tmp_path / "http_asgi.py").write_text("from fastws_compat import FastAPI\n\nFastAPI().get('/')\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings.ASGI_APPLICATION = "http_asgi.application"
    [message] = checks.check_asgi_application()
    assert "AttributeError: FastAPI.get serves HTTP, which stays with Django" in message.msg
    assert message.msg.endswith(f"({tmp_path / 'http_asgi.py'}, line 3)")


# What `runserver` also watches: the reloader does not know a module whose import failed


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("wsproject.asgi.application", True),
        ("wsproject.missing.application", False),
        ("no_such.asgi.application", False),
        ("", False),
    ],
)
def test_reloader_watches_modules_with_sockets(settings: Any, name: str, module: bool) -> None:
    settings.ASGI_APPLICATION = name
    reloader = StatReloader()
    autoreload_started.send(sender=reloader)
    root = Path(__file__).resolve().parents[1]
    assert "sockets.py" in reloader.directory_globs[root / "wsproject" / "chat"]
    assert ("asgi.py" in reloader.directory_globs[root / "wsproject"]) is module


def test_wsgi_instead_of_asgi(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, get_wsgi_application())
    [message] = checks.check_asgi_application()
    assert message.id == "fastws.W002"
    assert message.hint.startswith(application.NAME_ASGI)


def test_an_application_without_routes(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, get_asgi_application(FastAPI()))
    [message] = checks.check_asgi_application()
    assert message.id == "fastws.W002"
    assert message.msg.endswith("has no WebSocket route: its application declares none.")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/ws/<room>", "Write '{room}', and declare its type in the function, as in 'room: int'."),
        ("/ws/<int:pk>/x", "Write '{pk}', and declare its type in the function, as in 'pk: int'."),
        (r"/ws/(?P<room>\w+)", "Write '{room}', and declare its type in the function, as in 'room: int'."),
    ],
)
def test_path_with_parameters_of_django(path: str, hint: str) -> None:
    [message] = application.check_paths(app_with(path))
    assert message.id == "fastws.W022"
    assert message.hint.startswith(hint)
    assert application.check_paths(app_with("/ws/{room}/{pk:int}/<>/a<b")) == []


def test_django_alone(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.asgi import get_asgi_application as django_only

    serve(monkeypatch, settings, django_only())
    assert ids() == ["W002"]


def test_other_consumers_alone(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, ProtocolTypeRouter({"websocket": URLRouter([])}))
    assert ids() == ["W002"]
    [message] = application.check_mounted(ProtocolTypeRouter({"websocket": URLRouter([])}))
    assert "docs/channels.md" in (message.hint or "")


@pytest.mark.parametrize("others", [{"websocket": URLRouter([])}, {}])
def test_sockets_that_channels_routes_elsewhere(
    settings: Any, monkeypatch: pytest.MonkeyPatch, others: dict[str, Any]
) -> None:
    """In a project of Channels, it is not enough to change the import in asgi.py."""
    router = ProtocolTypeRouter({"http": get_asgi_application(app_with("/ws")), **others})
    serve(monkeypatch, settings, router)
    assert ids() == ["W002"]
    assert catalogue.entries(router) == []


# Origins


@pytest.mark.parametrize("origins", [["*"], ("https://example.com", "*"), {"*"}])
def test_every_origin_allowed(settings: Any, origins: Any) -> None:
    settings.FASTWS = {"ALLOWED_ORIGINS": origins}
    assert "W005" in ids()


def test_some_origins_allowed(settings: Any) -> None:
    settings.FASTWS = {"ALLOWED_ORIGINS": ["https://example.com"]}
    assert ids() == []


def test_mounted_by_hand_without_origin_check(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, ProtocolTypeRouter({"websocket": app_with("/ws")}))
    assert ids() == ["W005"]


def test_mounted_by_hand_with_origin_check(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    urlrouter = URLRouter(app_with("/ws").websocket_urlpatterns)
    serve(monkeypatch, settings, ProtocolTypeRouter({"websocket": OriginCheck(urlrouter)}))
    assert ids() == []


def test_mounted_by_hand_with_channels_validator(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    urlrouter = URLRouter(app_with("/ws").websocket_urlpatterns)
    serve(monkeypatch, settings, ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(urlrouter)}))
    assert ids() == []


def test_mounted_by_hand_with_a_validator_that_allows_all(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, settings, OriginValidator(app_with("/ws"), ["*"]))
    assert ids() == ["W005"]


def test_consumers_of_a_router_without_application(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    router = APIRouter()
    router.add_api_websocket_route("/ws", endpoint)
    serve(monkeypatch, settings, AllowedHostsOriginValidator(URLRouter(router.websocket_urlpatterns)))
    assert ids() == []


def test_fallback_is_no_reason_to_warn(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    application = get_asgi_application(app_with("/ws"), fallback=URLRouter([]))
    serve(monkeypatch, settings, application)
    assert ids() == []


# Shadowed routes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/ws/chat", "/ws/chat"),
        ("/ws/{room}", "/ws/{name}"),
        ("/ws/{room}", "/ws/lobby"),
        ("/ws/{room}", "/ws/{number:int}"),
        ("/ws/{room}", "/ws/room-{number}"),
        ("/ws/{number:int}", "/ws/1"),
        ("/ws/{a:float}", "/ws/{b:float}"),
        ("/ws/room-{a}", "/ws/room-{b}"),
        ("/ws/{rest:path}", "/ws/chat/{room}"),
        ("/ws/{rest:path}", "/ws/"),
        ("/{rest:path}", "/a/{more:path}"),
    ],
)
def test_shadowed_route(first: str, second: str) -> None:
    assert list(application.shadowed(app_with(first, second).routes)) == [(second, first)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/ws/chat", "/ws/chat/"),
        ("/ws/lobby", "/ws/{room}"),
        ("/ws/{number:int}", "/ws/{room}"),
        ("/ws/{number:int}", "/ws/lobby"),
        ("/ws/{number:int}", "/ws/{u:uuid}"),
        ("/ws/{room}", "/ws/{rest:path}"),
        ("/ws/{room}", "/ws/x{rest:path}"),
        ("/ws/{room}", "/ws/{room}/more"),
        ("/ws/room-{a}", "/ws/chat-{a}"),
        ("/ws/{rest:path}", "/ws"),
        ("/ws/a{rest:path}", "/ws/b"),
    ],
)
def test_route_that_can_be_reached(first: str, second: str) -> None:
    assert list(application.shadowed(app_with(first, second).routes)) == []


def test_mount_shadows_what_comes_after_it() -> None:
    routes = [Mount("/api", app_with("/ws")), *app_with("/api/ws").routes]
    assert list(application.shadowed(routes)) == [("/api/ws", "/api/{path:path}")]


def test_shadowed_inside_a_mount() -> None:
    assert list(application.shadowed([Mount("/api", app_with("/{a}", "/b"))])) == [("/api/b", "/api/{a}")]


def test_shadowed_by_an_included_router() -> None:
    app, router = FastAPI(), APIRouter()
    router.add_api_websocket_route("/{room}", endpoint)
    app.include_router(router, prefix="/ws")
    app.add_api_websocket_route("/ws/lobby", endpoint)
    assert list(application.shadowed(app.routes)) == [("/ws/lobby", "/ws/{room}")]


def test_host_shadows_nothing() -> None:
    app = app_with("/ws")
    assert list(application.shadowed([Host("a.example", Router(app.routes)), *app.routes])) == []


def test_shadowed_route_of_the_project(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, get_asgi_application(app_with("/ws/{room}", "/ws/lobby")))
    assert ids() == ["W008"]


# Channel layers


def test_groups_without_layer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNEL_LAYERS = {}
    module = ModuleType("wsproject.chat.more")
    module.Group = Group  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert ids() == ["W024"]


def test_groups_without_layer_work_in_their_process_and_raise_beside_other_layers(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So only the second is an error, which stops every command."""
    module = ModuleType("wsproject.chat.more")
    module.group = group = Group("g")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.CHANNEL_LAYERS = {}
    assert ids() == ["W024"]
    asyncio.run(group.asend("hi"))
    settings.CHANNEL_LAYERS = {"chat": {"BACKEND": LAYER}}
    assert ids() == ["E003"]
    with pytest.raises(InvalidChannelLayerError, match="CHANNEL_LAYERS has no 'default'"):
        asyncio.run(group.asend("hi"))


def test_groups_module_without_layer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastws_compat.groups

    settings.CHANNEL_LAYERS = {}
    module = ModuleType("wsproject.chat.more")
    module.groups = fastws_compat.groups  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert ids() == ["W024"]


async def by_name(websocket: WebSocket) -> None:
    await websocket.join("news")


async def of_words(websocket: WebSocket) -> None:
    await websocket.send_text(", ".join(["no", "group"]))


async def of_somebody_else(connection: Any, websocket: WebSocket) -> None:
    await connection.join("news")


@pytest.mark.parametrize(("function", "found"), [(by_name, ["W024"]), (of_words, []), (of_somebody_else, [])])
def test_group_joined_by_name_without_layer(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: Any, found: list[str]
) -> None:
    (tmp_path / "joining_app.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    module = ModuleType("joining_app.sockets")
    module.endpoint = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.CHANNEL_LAYERS = {}
    settings.INSTALLED_APPS = [*django_apps(settings), "joining_app"]
    assert ids() == found


@pytest.mark.parametrize(
    ("name", "found"),
    [("joining_site.sockets", ["W024"]), ("joining_site.below.sockets", []), ("elsewhere.sockets", [])],
)
def test_group_joined_beside_asgi_py_without_layer(
    settings: Any, monkeypatch: pytest.MonkeyPatch, name: str, found: list[str]
) -> None:
    """The folder with the settings, where the first steps put `sockets.py`, is not an installed app."""
    site, module = ModuleType("joining_site.asgi"), ModuleType(name)
    site.application = get_asgi_application(app_with("/ws"))  # type: ignore[attr-defined]
    module.endpoint = by_name  # type: ignore[attr-defined]
    for each in (site, module):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    settings.ASGI_APPLICATION = "joining_site.asgi.application"
    settings.CHANNEL_LAYERS = {}
    settings.INSTALLED_APPS = django_apps(settings)
    assert ids() == found


def django_apps(settings: Any) -> list[str]:
    """The installed apps without those of the demo, which use groups."""
    return [app for app in settings.INSTALLED_APPS if not app.startswith("wsproject")]


def test_no_groups_and_no_layer(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.INSTALLED_APPS = django_apps(settings)
    assert "W024" not in ids()
    settings.CHANNEL_LAYERS = {"chat": {"BACKEND": LAYER}}
    assert "E003" not in ids()


def test_in_memory_layer_in_production(settings: Any) -> None:
    settings.DEBUG = False
    assert ids() == ["W001"]


def test_in_memory_layer_in_djangos_test_command(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEBUG = False
    monkeypatch.setattr(sys, "argv", ["manage.py", "test"])
    assert ids() == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"hosts": ["redis://localhost"]},
        {"hosts": [("localhost", 6379)]},
        {"hosts": [{"address": "redis://a", "socket_timeout": None}, {"address": "redis://b"}]},
    ],
)
def test_redis_8_without_timeout(settings: Any, monkeypatch: pytest.MonkeyPatch, config: Any) -> None:
    monkeypatch.setattr(packages, "installed_version", {"redis": "8.1.0", "daphne": "4.2.3"}.get)
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE, "CONFIG": config}}
    assert ids() == ["W004"]


@pytest.mark.parametrize(
    "host",
    [{"address": "redis://localhost", "socket_timeout": None}, "redis://localhost?socket_timeout=15"],
)
def test_redis_8_with_timeout(settings: Any, monkeypatch: pytest.MonkeyPatch, host: Any) -> None:
    monkeypatch.setattr(packages, "installed_version", {"redis": "8.1.0", "daphne": "4.2.3"}.get)
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE, "CONFIG": {"hosts": [host]}}}
    assert ids() == []


def test_layers_other_than_the_default_are_checked(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed_version", {"redis": "8.1.0", "daphne": "4.2.3"}.get)
    settings.DEBUG = False
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": PUBSUB},
        "near": {"BACKEND": LAYER},
        "far": {"BACKEND": CORE, "CONFIG": {"group_expiry": 60}},
    }
    named = {
        message.id: re.findall("'(near|far|default)'", message.msg)
        for message in run_checks(tags=[checks.TAG])
    }
    assert named == {"fastws.W001": ["near"], "fastws.W004": ["far"], "fastws.W007": ["far"]}


def test_redis_7_without_timeout(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed_version", {"redis": "7.4.1", "daphne": "4.2.3"}.get)
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE}}
    assert ids() == []


def test_group_expiry_below_a_day(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": LAYER, "CONFIG": {"group_expiry": 3600}}}
    assert ids() == ["W007"]


def test_group_expiry_of_a_day(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": LAYER, "CONFIG": {"group_expiry": 86400}}}
    assert ids() == []


# daphne


@pytest.mark.parametrize(
    ("version", "found"),
    [("4.2.1", ["E004"]), ("3.0", ["E004"]), ("4.2.2", []), ("4.3.0", ["W003"]), ("5.0rc1", ["W003"])],
)
def test_daphne_version(monkeypatch: pytest.MonkeyPatch, version: str, found: list[str]) -> None:
    monkeypatch.setattr(packages, "installed_version", {"daphne": version}.get)
    assert ids() == found


def test_daphne_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_installed(package: str) -> str:
        raise packages.PackageNotFoundError(package)

    monkeypatch.setattr(packages, "installed_version", none_installed)
    assert ids() == []


@pytest.mark.parametrize(
    ("mode", "found"), [("complete", []), ("absent", []), ("portable", ["I001"]), ("stock", ["I001"])]
)
def test_daphne_mode(monkeypatch: pytest.MonkeyPatch, mode: daphne.Mode, found: list[str]) -> None:
    monkeypatch.setattr(daphne, "_mode", mode)
    assert ids() == found


def test_daphne_after_staticfiles(settings: Any) -> None:
    others = [app for app in settings.INSTALLED_APPS if app != "daphne"]
    settings.INSTALLED_APPS = [*others, "daphne"]
    assert ids() == ["E005"]


def test_no_daphne_in_installed_apps(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "daphne"]
    assert ids() == ["W009"]


def test_no_daphne_in_production(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "daphne"]
    settings.DEBUG = False
    assert ids() == ["W001"]


# Settings


@pytest.mark.parametrize("value", ["None", None, False])
def test_session_cookie_for_every_site(settings: Any, value: Any) -> None:
    settings.SESSION_COOKIE_SAMESITE = value
    assert ids() == ["W006"]


@pytest.mark.parametrize("value", ["Lax", "Strict"])
def test_session_cookie_for_the_own_site(settings: Any, value: str) -> None:
    settings.SESSION_COOKIE_SAMESITE = value
    assert ids() == []


@pytest.mark.parametrize("value", [None, [], "THREADS"])
def test_settings_that_are_no_dict(settings: Any, value: Any) -> None:
    settings.FASTWS = value
    assert ids() == ["E006"]


def test_no_settings(settings: Any) -> None:
    del settings.FASTWS
    assert ids() == []


def test_unknown_key_gets_a_suggestion(settings: Any) -> None:
    settings.FASTWS = {"alowed_origins": []}
    [message] = checks.settings.check_settings()
    assert message.id == "fastws.E007"
    assert message.hint is not None
    assert message.hint.startswith("Did you mean 'ALLOWED_ORIGINS'?")


def test_hint_for_an_unknown_key_lists_the_keys(settings: Any) -> None:
    settings.FASTWS = {1: 2}
    [message] = checks.settings.check_settings()
    assert message.hint is not None
    assert message.hint.startswith("The keys are ACCESS_LOG, ALLOWED_ORIGINS, ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THREADS", 0),
        ("THREADS", "8"),
        ("THREADS", True),
        ("THREADS", None),
        ("DAPHNE", "portable"),
        ("HEALTH", "ready"),
        ("DAPHNE", True),
        ("DAPHNE_ROOT_PATH_HEADER", "yes"),
        ("SHUTDOWN_GRACE", -1),
        ("SHUTDOWN_GRACE", "5"),
        ("SHUTDOWN_GRACE", True),
        ("ALLOWED_ORIGINS", "https://example.com"),
        ("ALLOWED_ORIGINS", [443]),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", ["https://example.com", "https://example.com/"]),
        ("ALLOWED_ORIGINS", ["example.com"]),
        ("ALLOWED_ORIGINS", ["NULL"]),
        ("ALLOWED_ORIGINS", None),
        ("ORIGIN_REQUIRED", 1),
        ("REVALIDATE_SECONDS", None),
        ("REVALIDATE_SECONDS", -1),
        ("DEFLATE", "fast"),
        ("CLEANUP_TIMEOUT", "10"),
        ("CLEANUP_TIMEOUT", 0),
        ("DISCONNECT_GRACE", "5"),
        ("HANDSHAKE_TIMEOUT", "4"),
        ("LAYER_TIMEOUT", -1),
        ("LAYER_TIMEOUT", 0),
        ("OPERATIONS_TIMEOUT", 0),
        ("MAX_HANDSHAKES", "all"),
        ("MAX_HANDSHAKES", 0),
        ("MAX_CONNECTIONS", 0),
        ("MAX_CONNECTIONS_PER_ADDRESS", "10"),
        ("MAX_CONNECTIONS_PER_USER", 1.5),
        ("TENANT", "no.such.callable"),
        ("TENANT", "django.VERSION"),
        ("LOGIN_FIELDS", "password"),
        ("MAX_MESSAGE_SIZE", 0),
        ("SLOW_CONSUMER", "drop_newest"),
        ("SLOW_CONSUMER_QUEUE", 0),
        ("SHUTDOWN_GRACE", float("inf")),
        ("LAYER_TIMEOUT", float("nan")),
        ("CLEANUP_TIMEOUT", 10**400),
        ("DISCONNECT_GRACE", 10**400),
        ("BEAT_SECONDS", 1e300),
        ("TENANT", ".tenants"),
        ("TENANT", ".shop.tenants.current"),
        ("DOCS_ACCESS", b"mysite.access.may_see"),
        ("STORE", {"default": ".shop.store"}),
    ],
)
def test_value_of_a_wrong_kind(settings: Any, name: str, value: Any) -> None:
    settings.FASTWS = {name: value}
    assert ids() == ["E008"]


@pytest.mark.parametrize("key", ["TENANT", "DOCS_ACCESS"])
def test_a_setting_that_names_a_module_with_a_mistake(
    settings: Any, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tenants_with_a_mistake.py").write_text("def current(:")
    monkeypatch.syspath_prepend(tmp_path)
    settings.FASTWS = {key: "tenants_with_a_mistake.current"}
    assert [found.msg for found in checks.settings.check_settings()] == [
        f"FASTWS['{key}'] has the invalid value 'tenants_with_a_mistake.current'."
    ]


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("METRICS_TOKEN", b"hunter2", "bytes"),
        ("METRICS_TOKEN", ["hunter2"], "list"),
        ("STORE", "redis://:hunter2@cache:6379/1", "str"),
        ("STORE", {"default": "redis://:hunter2@cache:6379/1"}, "dict"),
    ],
)
def test_the_message_about_an_invalid_secret_does_not_show_it(
    settings: Any, key: str, value: Any, kind: str
) -> None:
    settings.FASTWS = {key: value}
    [found] = checks.settings.check_settings()
    assert found.msg == f"FASTWS['{key}'] has an invalid value of type {kind}."
    assert "hunter2" not in str(found)


def test_an_invalid_value_that_python_does_not_print(settings: Any) -> None:
    settings.FASTWS = {"HEALTH": 10**5000}
    [found] = checks.settings.check_settings()
    assert found.msg.startswith("FASTWS['HEALTH'] has the invalid value <int object at ")


def test_a_long_invalid_value_is_cut(settings: Any) -> None:
    settings.FASTWS = {"LOOP": "x" * 100_000}
    [found] = checks.settings.check_settings()
    assert found.msg == f"FASTWS['LOOP'] has the invalid value '{'x' * 199}...."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THREADS", 1),
        ("DAPHNE", "stock"),
        ("HEALTH", "/health/"),
        ("DAPHNE_ROOT_PATH_HEADER", True),
        ("SHUTDOWN_GRACE", 0),
        ("SHUTDOWN_GRACE", 0.5),
        ("ALLOWED_ORIGINS", ("https://example.com",)),
        ("ALLOWED_ORIGINS", {"https://*.example.com"}),
        ("ALLOWED_ORIGINS", ["null", "file://", "capacitor://localhost", "app://."]),
        ("ORIGIN_REQUIRED", True),
        ("TENANT", "django.get_version"),
        ("LOGIN_FIELDS", ["password", "plan"]),
        ("LOGIN_FIELDS", None),
        ("REVALIDATE_SECONDS", 0),
        ("CLEANUP_TIMEOUT", None),
        ("DISCONNECT_GRACE", None),
        ("HANDSHAKE_TIMEOUT", None),
        ("MAX_HANDSHAKES", "auto"),
        ("MAX_HANDSHAKES", None),
        ("MAX_CONNECTIONS", 5),
        ("MAX_CONNECTIONS", None),
        ("SLOW_CONSUMER", "drop_oldest"),
    ],
)
def test_value_of_the_right_kind(settings: Any, name: str, value: Any) -> None:
    settings.FASTWS = {name: value}
    assert ids() == []


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("FAST_WS", {"THREADS": 4}, "Rename it to FASTWS."),
        ("FASTWS_COMPAT", {}, "Rename it to FASTWS."),
        ("FASTWS_THREADS", 4, "Write FASTWS = {'THREADS': ...}."),
        ("FASTWS_GROUPS", {"room.*": {"history": True}}, "Write FASTWS = {'GROUPS': ...}."),
    ],
)
def test_setting_with_a_wrong_name(settings: Any, name: str, value: Any, hint: str) -> None:
    setattr(settings, name, value)
    [found] = checks.settings.check_setting_names()
    assert (found.id, found.msg) == (
        "fastws.W023",
        f"The setting {name} has no effect: the library reads FASTWS only.",
    )
    assert str(found.hint).startswith(hint)


def test_setting_of_the_project_with_a_similar_name(settings: Any) -> None:
    settings.FASTWS = {"THREADS": 4}
    settings.FASTWS_URL = "wss://example.com"
    assert checks.settings.check_setting_names() == []


def test_defaults_are_of_the_right_kind(settings: Any) -> None:
    settings.FASTWS = dict(conf.DEFAULTS)
    assert ids() == []


def test_key_without_a_rule_has_the_kind_of_its_default(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(conf.DEFAULTS, "NEW", "text")
    settings.FASTWS = {"NEW": 1}
    [message] = checks.settings.check_settings()
    assert message.hint is not None
    assert message.hint.startswith("Set it to a str, for example 'text'.")


def test_pattern_of_another_library_in_a_urlrouter(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    router = URLRouter([path("legacy/", AllowedHostsOriginValidator(app_with("/ws")))])
    serve(monkeypatch, settings, ProtocolTypeRouter({"websocket": router}))
    assert ids() == []


# Classes of FastAPI and Starlette that are left over

HEAD = """
from typing import Annotated
from fastws_compat import Depends, FastAPI, WebSocket
{imports}
app = FastAPI()

async def user():
    {dependency}

@app.websocket("/ws")
async def endpoint(websocket: WebSocket, user: Annotated[None, Depends(user)]):
    {endpoint}

{rest}
"""


def module_with(monkeypatch: pytest.MonkeyPatch, name: str = "leftover_sockets", **parts: str) -> ModuleType:
    """A module with an application, with the given imports, dependency and endpoint."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    source = HEAD.format(**{"imports": "", "dependency": "pass", "endpoint": "pass", "rest": "", **parts})
    exec(compile(source, name, "exec"), vars(module))
    return module


def told(module: ModuleType) -> list[str]:
    return [message.msg for message in application.check_leftovers(module.app)]


LEFT_OVER = {
    "imported": ("from fastapi import WebSocketDisconnect", "pass"),
    "imported under another name": ("from starlette.websockets import WebSocketDisconnect as Gone", "pass"),
    "in a tuple": (
        "from fastapi import websockets\nGONE = (OSError, websockets.WebSocketDisconnect)",
        "pass",
    ),
    "read from the package": ("import fastapi", "print(fastapi.WebSocketDisconnect)"),
    "read from a module": ("import starlette.websockets", "print(starlette.websockets.WebSocketDisconnect)"),
    "read from a module with another name": (
        "from starlette import websockets as w",
        "w.WebSocketDisconnect",
    ),
    "imported by the function": (
        "",
        "from fastapi.websockets import WebSocketState as S, WebSocketDisconnect",
    ),
    "in a function inside": ("import fastapi", "(lambda: fastapi.WebSocketDisconnect)()"),
}


@pytest.mark.parametrize("place", ["endpoint", "dependency"])
@pytest.mark.parametrize(("imports", "line"), LEFT_OVER.values(), ids=LEFT_OVER)
def test_left_over(monkeypatch: pytest.MonkeyPatch, imports: str, line: str, place: str) -> None:
    import fastapi  # noqa: F401 - the project has it installed, for a library that was not ported

    [text] = told(module_with(monkeypatch, imports=imports, **{place: line}))
    assert text.startswith("The module 'leftover_sockets' uses starlette.websockets.WebSocketDisconnect")


@pytest.mark.parametrize(
    "name", ["HTTPException", "WebSocketException", "WebSocketDisconnect", "websockets.WebSocketState"]
)
def test_foreign_names(monkeypatch: pytest.MonkeyPatch, settings: Any, name: str) -> None:
    module = module_with(monkeypatch, imports="import fastapi.websockets", endpoint=f"fastapi.{name}")
    serve(monkeypatch, settings, get_asgi_application(module.app))
    assert ids() == ["W012"]
    [text] = told(module)
    assert re.search(
        rf" uses (fastapi|starlette)\.\w+\.{name.split('.')[-1]}, which sockets of fastws_compat never raise",
        text,
    )


def test_left_over_in_other_functions_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    method = "class Manager:\n    @staticmethod\n    async def send():\n        fastapi.WebSocketException"
    function = "def helper():\n    fastapi.HTTPException"
    assert len(told(module_with(monkeypatch, imports="import fastapi.exceptions", rest=function))) == 1
    assert len(told(module_with(monkeypatch, imports="import fastapi", rest=method))) == 1


def test_left_over_in_the_module_of_a_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    guards = ModuleType("leftover_guards")
    monkeypatch.setitem(sys.modules, "leftover_guards", guards)
    source = """
import functools
from fastapi import WebSocketDisconnect

def guarded(func):
    @functools.wraps(func)
    async def wrapper(*args, **kwargs):
        try:
            await func(*args, **kwargs)
        except WebSocketDisconnect:
            pass
    return wrapper
"""
    exec(source, vars(guards))
    module = module_with(monkeypatch)
    module.app.add_api_websocket_route("/guarded", guards.guarded(endpoint))
    [text] = told(module)
    assert text.startswith("The module 'leftover_guards' uses starlette.websockets.WebSocketDisconnect")


def test_left_over_in_the_module_of_a_base_class(monkeypatch: pytest.MonkeyPatch) -> None:
    bases = ModuleType("leftover_bases")
    monkeypatch.setitem(sys.modules, "leftover_bases", bases)
    source = "from fastapi import HTTPException\nclass Base:\n    async def __call__(self): ..."
    exec(source, vars(bases))
    module = module_with(
        monkeypatch,
        rest="import leftover_bases\nclass Own(leftover_bases.Base): ...\n"
        "app.add_api_websocket_route('/base', endpoint, dependencies=[Depends(Own())])",
    )
    [text] = told(module)
    assert text.startswith("The module 'leftover_bases' uses fastapi.exceptions.HTTPException")


def test_left_over_below_a_mount_of_ours_and_in_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = module_with(monkeypatch, "leftover_inner", imports="from fastapi import HTTPException")
    outer = module_with(
        monkeypatch,
        imports="from fastapi import WebSocketException\nfrom fastws_compat.endpoints import *",
        rest='@app.websocket_route("/class")\nclass Chat(WebSocketEndpoint):\n    pass',
    )
    outer.app.mount("/inner", inner.app)
    assert [text.split("'")[1] for text in told(outer)] == ["leftover_sockets", "leftover_inner"]


@pytest.mark.parametrize(
    ("imports", "line"),
    [
        ("from fastws_compat import HTTPException, WebSocketDisconnect, WebSocketState", "pass"),
        ("import fastapi", "fastapi.status"),
        ("import fastapi, fastws_compat", "fastapi.status, fastws_compat.WebSocketDisconnect"),
        ("from fastapi import status", "status.WS_1008_POLICY_VIOLATION"),
        (
            "from fastapi import HTTPException\nclass Mine(HTTPException): ...\ndel HTTPException",
            "raise Mine(401)",
        ),
    ],
)
def test_nothing_left_over(monkeypatch: pytest.MonkeyPatch, imports: str, line: str) -> None:
    assert told(module_with(monkeypatch, imports=imports, endpoint=line)) == []


def test_mounted_application_of_fastapi_may_use_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import fastapi

    theirs, module = fastapi.FastAPI(), module_with(monkeypatch)
    other = ModuleType("leftover_theirs")
    monkeypatch.setitem(sys.modules, "leftover_theirs", other)
    exec("from fastapi import WebSocket, HTTPException\nasync def ws(socket: WebSocket): ...", vars(other))
    theirs.websocket("/ws")(other.ws)
    module.app.mount("/theirs", theirs)
    assert told(module) == []


def test_without_fastapi_no_module_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_with(monkeypatch, imports="from fastapi import HTTPException")
    monkeypatch.delitem(sys.modules, "starlette")
    monkeypatch.delitem(sys.modules, "fastapi")
    assert told(module) == []


# Lifespans that never run


def app_that_begins(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    app.add_api_websocket_route("/begins", endpoint)
    return app


def nothing() -> None: ...


async def lifespan(app: Any) -> Any:
    yield


BEGINNINGS: list[dict[str, Any]] = [
    {"on_startup": [nothing]},
    {"on_shutdown": [nothing]},
    {"lifespan": lifespan},
]


@pytest.mark.parametrize("options", BEGINNINGS)
def test_lifespan_of_an_application_in_a_url_router(options: dict[str, Any]) -> None:
    app = app_that_begins(**options)
    checked = OriginCheck(URLRouter(app.websocket_urlpatterns))
    [message] = application.check_lifespans(ProtocolTypeRouter({"websocket": checked}))
    assert message.id == "fastws.W020"
    assert "the route '/begins' never runs" in message.msg


def test_lifespan_of_a_router_in_a_url_router() -> None:
    inner, router = APIRouter(lifespan=lifespan), APIRouter()
    router.add_api_websocket_route("/begins", endpoint)
    router.include_router(inner)
    [message] = application.check_lifespans(URLRouter(router.websocket_urlpatterns))
    assert "the route '/begins' never runs" in message.msg


def test_lifespan_of_a_consumer_in_a_url_router() -> None:
    route = app_that_begins(lifespan=lifespan).routes[0]
    [message] = application.check_lifespans(URLRouter([path("x/", route.consumer.as_asgi())]))
    assert message.id == "fastws.W020"


def test_lifespan_in_a_fallback() -> None:
    app = app_that_begins(lifespan=lifespan)
    served = get_asgi_application(app_with("/ws"), fallback=URLRouter(app.websocket_urlpatterns))
    assert [message.id for message in application.check_lifespans(served)] == ["fastws.W020"]


def test_lifespans_that_run() -> None:
    app = app_that_begins(lifespan=lifespan)
    both = {"websocket": URLRouter(app.websocket_urlpatterns), "lifespan": app}
    fallback = get_asgi_application(app, fallback=URLRouter(app.websocket_urlpatterns))
    for served in (app, app.router, ProtocolTypeRouter(both), get_asgi_application(app), fallback):
        assert application.check_lifespans(served) == []


def test_no_lifespan_in_a_url_router() -> None:
    app, router = app_with("/ws"), APIRouter()
    app.include_router(router)
    assert application.check_lifespans(URLRouter(app.websocket_urlpatterns)) == []


def test_prometheus_in_several_processes_exports_no_collectors(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "fastws_compat.contrib.prometheus"]
    assert ids() == []
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/tmp")
    assert ids() == ["W011"]


@pytest.mark.parametrize("name", ["SentryAsgiMiddleware", "OpenTelemetryMiddleware"])
def test_middleware_that_replaces_send(monkeypatch: pytest.MonkeyPatch, settings: Any, name: str) -> None:
    wrapper = type(name, (), {})()
    wrapper.app = get_asgi_application(app_with("/ws"))
    serve(monkeypatch, settings, wrapper)
    assert ids() == ["W010"]


class Note(BaseModel):
    text: str


class LongNote(BaseModel):
    text: str
    title: str = ""


class Picture(BaseModel):
    url: str


class NoExample(BaseModel):
    code: Annotated[str, Field(pattern="^(?:zz|yy){9}$")]


class Fussy(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def reject(cls, value: str) -> str:
        raise ValueError("never good enough")


def told_apart_by_function(value: Any) -> str:
    return "long" if "title" in value else "short"


ByFunction = Annotated[
    Annotated[Note, Tag("short")] | Annotated[LongNote, Tag("long")], Discriminator(told_apart_by_function)
]


@pytest.mark.parametrize(
    ("received", "sent", "words"),
    [
        (Note | LongNote, None, ["takes Note and LongNote without a tag"]),
        (Picture, LongNote | Picture | Note, ["sends LongNote and Note without a tag"]),
        (Note | Picture | bytes, dict[str, int] | list[int] | None, []),
        (ByFunction, Note, []),
        (NoExample | Note, None, []),
        (Fussy | Note, None, []),
    ],
)
def test_W017_messages_that_overlap(
    settings: Any, monkeypatch: pytest.MonkeyPatch, received: Any, sent: Any, words: list[str]
) -> None:
    async def endpoint(websocket: Any) -> None: ...

    endpoint.__annotations__["websocket"] = TypedWebSocket[received, sent]
    app = FastAPI()
    app.add_api_websocket_route("/notes", endpoint)
    serve(monkeypatch, settings, get_asgi_application(app))
    found = [found.msg for found in run_checks(tags=[checks.TAG])]
    assert [re.sub("The WebSocket route '/notes' |, but.*", "", text) for text in found] == words
