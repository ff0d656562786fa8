"""`get_asgi_application`: Django for HTTP, our sockets behind the origin check and the session's user."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from traceback import format_exception

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core.handlers.asgi import ASGIHandler
from django.test import Client
from django.urls import path

from fastws_compat import APIRouter, FastAPI, HTTPException, WebSocket
from fastws_compat.applications import default_app
from fastws_compat.asgi import Identify, get_asgi_application
from fastws_compat.exceptions import DeclarationError
from tests.fake_server import FakeServer

pytestmark = pytest.mark.django_db  # Channels closes old database connections even if none is used

HERE = "http://testserver"

app = FastAPI()
not_an_app = "a string, but no name of an application"


@app.websocket("/module")
async def module(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json("module")


def says(word):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json(word)

    return endpoint


class Legacy(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send(text_data='"legacy"')


def headers_of(origin, cookie=None):
    headers = [(b"host", b"testserver")]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin1")))
    return headers if cookie is None else [*headers, (b"cookie", cookie.encode("latin1"))]


def answer(application, url, origin=HERE, cookie=None):
    """The first JSON text of the socket at `url`, or the code that refuses it."""

    async def main():
        communicator = WebsocketCommunicator(application, url, headers=headers_of(origin, cookie))
        accepted, code = await communicator.connect()
        if not accepted:
            return code
        value = await communicator.receive_json_from()
        await communicator.disconnect()
        return value

    # Django's sync code runs in this thread, and thus in the test's transaction.
    return async_to_sync(main)()


# Which application


def test_application_object():
    sockets = FastAPI()
    sockets.websocket("/ws")(says("object"))
    assert answer(get_asgi_application(sockets), "/ws") == "object"


def test_application_by_name():
    assert answer(get_asgi_application("tests.test_asgi:app"), "/module") == "module"


def test_default_application_with_discovered_sockets(tmp_path, monkeypatch, settings):
    package = tmp_path / "discovered_sockets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sockets.py").write_text(
        "from fastws_compat import WebSocket, websocket\n"
        "@websocket('/discovered')\n"
        "async def endpoint(websocket: WebSocket):\n"
        "    await websocket.accept()\n"
        "    await websocket.send_json('discovered')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "discovered_sockets"]
    try:
        assert answer(get_asgi_application(), "/discovered") == "discovered"
    finally:
        routes = default_app.router.routes
        routes[:] = [route for route in routes if route.path != "/discovered"]
        for name in [name for name in sys.modules if name.startswith("discovered_sockets")]:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tests.test_asgi",
            "'tests.test_asgi' is not the name of an application: write \"module:attribute\"",
        ),
        ("tests.test_asgi:", "'tests.test_asgi:' is not the name of an application"),
        ("tests.test_asgi:missing", "Module 'tests.test_asgi' has no 'missing'"),
        (object(), "get_asgi_application() got a object: pass a FastAPI or Starlette instance"),
        (APIRouter(), "get_asgi_application() got a APIRouter: pass a FastAPI or Starlette instance"),
        (
            "tests.test_asgi:says",
            "get_asgi_application() got a function: pass a FastAPI or Starlette instance",
        ),
    ],
)
def test_what_is_not_an_application(name, message):
    with pytest.raises(DeclarationError) as caught:
        get_asgi_application(name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("import no_such_library", ModuleNotFoundError, "no_such_library"),
        (
            "from fastws_compat import websocket\n@websocket('/ws')\ndef endpoint(): ...",
            DeclarationError,
            "endpoint",
        ),
        ("app = =", SyntaxError, "sockets.py"),
    ],
)
def test_sockets_module_that_fails_to_import(tmp_path, monkeypatch, settings, source, error, message):
    """The module's own error is raised, and its traceback shows the module."""
    package = tmp_path / "broken_sockets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sockets.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "broken_sockets"]
    try:
        with pytest.raises(error, match=message) as caught:
            get_asgi_application()
        assert str(package / "sockets.py") in "".join(format_exception(caught.value))
    finally:
        for name in [name for name in sys.modules if name.startswith("broken_sockets")]:
            del sys.modules[name]


def test_module_that_does_not_exist():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        get_asgi_application("no_such_module:app")


def test_string_that_names_a_string():
    with pytest.raises(DeclarationError, match="is not the name of an application"):
        get_asgi_application("tests.test_asgi:not_an_app")


# Unknown paths and the fallback


def test_unknown_path_is_refused():
    assert answer(get_asgi_application(FastAPI()), "/nothing") == 1000


def test_fallback_gets_what_the_application_does_not_have():
    sockets = FastAPI()
    sockets.websocket("/ws")(says("ours"))
    application = get_asgi_application(sockets, fallback=URLRouter([path("legacy/", Legacy.as_asgi())]))
    assert answer(application, "/ws") == "ours"
    assert answer(application, "/legacy/") == "legacy"


def test_application_comes_before_its_fallback():
    sockets = FastAPI()
    sockets.websocket("/legacy/")(says("ours"))
    application = get_asgi_application(sockets, fallback=URLRouter([path("legacy/", Legacy.as_asgi())]))
    assert answer(application, "/legacy/") == "ours"


def test_fallback_and_mounted_applications():
    sockets, sub = FastAPI(), FastAPI()
    sub.websocket("/ws")(says("mounted"))
    sockets.mount("/sub", sub)
    application = get_asgi_application(sockets, fallback=URLRouter([path("legacy/", Legacy.as_asgi())]))
    assert answer(application, "/sub/ws") == "mounted"
    assert answer(application, "/legacy/") == "legacy"


@pytest.mark.parametrize("url", ["/legacy", "/mounted/ws"])
def test_channels_sees_that_send_is_async(url):
    """Its sync consumers pass `send` to `async_to_sync`, which otherwise warns."""
    found = []

    async def keeping(scope, receive, send):
        found.append(send)
        await send({"type": "websocket.close"})

    sockets = FastAPI()
    sockets.mount("/mounted", keeping)
    answer(get_asgi_application(sockets, fallback=keeping), url)
    assert list(map(iscoroutinefunction, found)) == [True]


def test_fallback_and_routes_added_later():
    sockets, router = FastAPI(), APIRouter()
    application = get_asgi_application(sockets, fallback=Legacy.as_asgi())
    sockets.include_router(router)
    router.websocket("/late")(says("late"))
    assert answer(application, "/late") == "late"


@pytest.mark.parametrize("url", ["/ws", "/api/ws"])
def test_fallback_and_a_root_path(url):
    sockets = FastAPI(root_path="/api")
    sockets.websocket("/ws")(says("ours"))
    assert answer(get_asgi_application(sockets, fallback=Legacy.as_asgi()), url) == "ours"


# Origins


@pytest.mark.parametrize("origin", [HERE, "http://testserver:80", "http://TestServer", None])
def test_origin_of_the_site_itself_or_none(origin):
    assert answer(get_asgi_application(app), "/module", origin=origin) == "module"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://testserver.evil.example",
        "https://testserver",
        "http://testserver:8000",
        "http://[",
        "null",
        "",
    ],
)
def test_origin_of_another_site(origin):
    assert answer(get_asgi_application(app), "/module", origin=origin) == 1000


def test_origin_is_checked_for_the_fallback_too():
    application = get_asgi_application(FastAPI(), fallback=Legacy.as_asgi())
    assert answer(application, "/any") == "legacy"
    assert answer(application, "/any", origin="http://evil.example") == 1000


def test_refused_origin_runs_nothing_of_the_application():
    seen, sockets = [], FastAPI()

    @sockets.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        seen.append("endpoint")

    answer(get_asgi_application(sockets), "/ws", origin="http://evil.example")
    assert seen == []


# The user and the session


def who():
    sockets = FastAPI()

    @sockets.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        if not websocket.user.is_authenticated:
            raise HTTPException(401)
        await websocket.accept()
        await websocket.send_json([websocket.user.username, websocket.session["color"]])

    return sockets


def test_user_and_session_of_the_cookie():
    client = Client()
    client.force_login(User.objects.create_user("ann"))
    session = client.session
    session["color"] = "red"
    session.save()
    cookie = f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
    assert answer(get_asgi_application(who()), "/ws", cookie=cookie) == ["ann", "red"]


@pytest.mark.parametrize("cookie", [None, f"{settings.SESSION_COOKIE_NAME}=forged", "other=1"])
def test_anonymous_without_a_valid_cookie(cookie):
    assert answer(get_asgi_application(who()), "/ws", cookie=cookie) == 1000


def test_user_reaches_the_fallback():
    class Who(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            await self.send(text_data=f'"{self.scope["user"].username}"')

    client = Client()
    client.force_login(User.objects.create_user("ann"))
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    assert answer(get_asgi_application(FastAPI(), fallback=Who.as_asgi()), "/ws", cookie=cookie) == "ann"


def member_cookie():
    client = Client()
    client.force_login(User.objects.create_user("ann"))
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


class Impersonation:
    """Middleware as projects write it for Channels: it sets another user in the lazy object."""

    def __init__(self, inner):
        self.inner = inner

    async def __call__(self, scope, receive, send):
        if scope["user"].is_authenticated:
            scope["user"]._wrapped = User(username=f"{scope['user']._wrapped.username} as bob")
        await self.inner(scope, receive, send)


class Who(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        user = self.scope["user"]
        await self.send(text_data=f'"{user.username} {isinstance(user, User | AnonymousUser)}"')


def test_middleware_of_the_fallback_may_put_another_user_into_the_lazy_one():
    application = get_asgi_application(FastAPI(), fallback=Impersonation(Who.as_asgi()))
    assert answer(application, "/ws", cookie=member_cookie()) == "ann as bob True"
    assert answer(application, "/ws") == " True"


def test_client_of_the_fallback_with_a_cookie_may_lack_an_origin(settings):
    """Existing consumers accept programs with a session cookie; our own routes do not."""
    sockets = FastAPI()
    sockets.websocket("/ws")(says("ours"))
    application = get_asgi_application(sockets, fallback=Who.as_asgi())
    cookie = member_cookie()
    assert answer(application, "/old", cookie=cookie, origin=None) == "ann True"
    assert answer(application, "/old", cookie=cookie, origin="http://evil.example") == 1000
    assert answer(application, "/ws", cookie=cookie, origin=None) == 1000
    settings.FASTWS = {"ORIGIN_REQUIRED": True}
    assert answer(application, "/old", cookie=cookie, origin=None) == 1000


def seen_in(stack, cookie):
    """The scope of an application inside `stack`, with its lazy objects evaluated."""
    found = {}

    async def inner(scope, receive, send):
        session = scope["session"]
        found.update(scope, session=(session.session_key, await sync_to_async(dict)(session)))
        found["user"] = await sync_to_async(read_user)(scope["user"])
        await send({"type": "websocket.close"})

    async def main():
        communicator = WebsocketCommunicator(stack(inner), "/ws/7?a=1", headers=headers_of(HERE, cookie))
        await communicator.connect()
        await communicator.wait()

    async_to_sync(main)()
    return {name: value for name, value in found.items() if not name.startswith("fastws_compat.")}


def read_user(user):
    return type(user.__class__()), user.pk, user.is_authenticated, user.get_username()


@pytest.mark.parametrize("kind", ["none", "logged in", "of nobody", "forged"])
def test_scope_is_that_of_channels_auth_middleware_stack(kind):
    client = Client()
    if kind == "logged in":
        client.force_login(User.objects.create_user("ann"))
    elif kind == "of nobody":
        session = client.session
        session["color"] = "red"
        session.save()
    key = client.session.session_key if kind != "forged" else "forged"
    cookie = None if kind == "none" else f"theme=dark; {settings.SESSION_COOKIE_NAME}={key}"
    ours = seen_in(Identify, cookie)
    assert ours == seen_in(AuthMiddlewareStack, cookie)
    assert {"cookies", "session", "user"} <= set(ours)
    assert ours["user"][2] is (kind == "logged in")


BARE = """
import sys
from django.conf import settings

memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["testserver"], INSTALLED_APPS=sys.argv[1:], DATABASES={"default": memory}
)
from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.asgi import get_asgi_application
from fastws_compat.auth import get_user
from fastws_compat.testclient import TestClient

app = FastAPI()
application = get_asgi_application(app)
client = TestClient(application, timeout=5)

@app.websocket("/open")
async def of_anybody(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json("user" in websocket.scope)

@app.websocket("/users", dependencies=[Depends(get_user)])
async def of_users(websocket: WebSocket):
    await websocket.accept()
    await websocket.receive_text()

with client.websocket_connect("/open") as websocket:
    print(websocket.receive_json())
"""
WITHOUT_USERS = """
from django.core.exceptions import ImproperlyConfigured

try:
    client.websocket_connect("/users").__enter__()
except ImproperlyConfigured as error:
    print(error)
"""
WITHOUT_SESSIONS = """
client.cookies["sessionid"] = "the0cookie0of0another0project000"
with client.websocket_connect("/open") as websocket:
    print(websocket.receive_json())
"""
LOGOUT = """
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
client.force_login(User.objects.create_user("ann"))
try:
    with client.websocket_connect("/users") as websocket:
        client.logout()
        websocket.receive_text()
except WebSocketDisconnect as end:
    print(end.code)
"""
USERS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]


@pytest.mark.parametrize(
    ("rest", "installed", "printed"),
    [
        (WITHOUT_USERS, ["fastws_compat"], "False\nA dependency of fastws_compat.auth asks for the user"),
        (WITHOUT_SESSIONS, ["fastws_compat", *USERS[:2]], "True\nTrue\n"),
        (LOGOUT, USERS, "True\n4401\n"),
    ],
    ids=["no users", "no sessions", "not installed"],
)
def test_project_with_few_installed_apps(rest, installed, printed):
    done = subprocess.run(
        [sys.executable, "-c", BARE + rest, *installed],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(printed), done.stderr


def test_invalid_settings_are_logged(settings, caplog):
    """A server runs no checks, and would fail at a connection, or ignore what has been set."""
    settings.FASTWS = {"MAX_CONNECTIONS": "5", "TRHEADS": 8}
    settings.SILENCED_SYSTEM_CHECKS = ["fastws.E007"]
    settings.LOGGING_CONFIG = None  # `django.setup()` would replace pytest's handler
    get_asgi_application(FastAPI())
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [
        "fastws.E008: FASTWS['MAX_CONNECTIONS'] has the invalid value '5'. Set it to a positive integer or "
        "None. See docs/reference/checks.md#fastwse008."
    ]


# HTTP and the lifespan


def test_lifespan_is_the_applications():
    seen = []
    sockets = FastAPI(on_startup=[lambda: seen.append("up")], on_shutdown=[lambda: seen.append("down")])
    server = FakeServer({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    scope = {"type": "lifespan", "state": {}}
    asyncio.run(get_asgi_application(sockets)(scope, server.receive, server.send))
    assert seen == ["up", "down"]
    assert server.types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_parts_stand_under_channels_name():
    mapping = get_asgi_application(app).application_mapping
    assert set(mapping) == {"http", "websocket", "lifespan"}
    assert isinstance(mapping["http"], ASGIHandler)
    assert mapping["lifespan"] is app


def test_runworker_needs_a_place_for_its_consumers(capsys):
    """The recipe of docs/deployment.md, called as `manage.py runworker thumbnails` calls the application."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "deployment.md").read_text()
    [source] = re.findall(r"```python run\n(from channels\.consumer.*?)```", page, re.DOTALL)
    recipe = {"__name__": "recipe"}
    exec(source, recipe)

    async def work():
        scope = {"type": "channel", "channel": "thumbnails"}
        communicator = ApplicationCommunicator(recipe["application"], scope)
        await communicator.send_input({"type": "generate", "picture": "cat.png"})
        async with asyncio.timeout(20):
            while not (out := capsys.readouterr().out):
                await asyncio.sleep(0.01)
        communicator.stop(exceptions=False)
        return out

    assert async_to_sync(work)() == "cat.png\n"


def test_urls_that_cannot_be_imported_do_not_keep_the_sockets_from_starting(settings):
    settings.ROOT_URLCONF = "no_such_urls"
    server = FakeServer({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    async_to_sync(get_asgi_application(FastAPI()))({"type": "lifespan"}, server.receive, server.send)
    assert server.types == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
