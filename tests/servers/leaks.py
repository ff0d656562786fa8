"""A site in which every part fails, with sentry-sdk set up as in a project; $SENTRY_DSN is the test's."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import django
import sentry_sdk
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.sessions.backends.file import SessionStore as FileStore


class SessionStore(FileStore):
    """The session engine, which fails for the clients of one test."""

    def load(self) -> dict[str, Any]:
        where = self._key_to_file()
        if "broken" in where:
            raise LookupError("boom identify")
        return {}


directory = tempfile.TemporaryDirectory(prefix="fastws-leaks-")
if not settings.configured:
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "fastws_compat"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        SESSION_ENGINE="tests.servers.leaks",
        SESSION_FILE_PATH=directory.name,
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
        LOGGING={"version": 1, "disable_existing_loggers": False},
        FASTWS={"ALLOWED_ORIGINS": ["*"]},
    )
sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], send_default_pii=False, include_local_variables=True)

django.setup()

from fastws_compat import (  # noqa: E402
    BackgroundTasks,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    WebSocket,
)
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.concurrency import run_in_threadpool  # noqa: E402
from fastws_compat.exceptions import WebSocketRequestValidationError  # noqa: E402
from fastws_compat.groups import Group, on  # noqa: E402
from fastws_compat.middleware import Middleware  # noqa: E402
from fastws_compat.security import HTTPAuthorizationCredentials, HTTPBearer  # noqa: E402


class Boom(Exception):
    pass


class Legacy(AsyncWebsocketConsumer):
    """An existing consumer, whose failure reaches the server."""

    async def connect(self) -> None:
        raise Boom("boom fallback")


class Failing:
    """Middleware of the project, whose own frame contains no secret."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        if scope["path"] == "/middleware":
            fail("middleware")
        return self.app(scope, receive, send)


def fail(case: str) -> None:
    raise Boom(f"boom {case}")


app = FastAPI(middleware=[Middleware(Failing)])


@app.websocket("/endpoint")
async def endpoint(websocket: WebSocket) -> None:
    headers, query, url, jar = websocket.headers, websocket.query_params, websocket.url, websocket.cookies
    everything = [headers, query, url, jar, websocket.base_url, {"socket": websocket}]
    await websocket.accept(websocket.headers["sec-websocket-protocol"].partition(",")[0])
    fail(f"endpoint{everything and ''}")


@app.websocket("/header-missing")
async def header_missing(websocket: WebSocket) -> None:
    websocket.headers["boom header-missing"]


@app.websocket("/query-missing")
async def query_missing(websocket: WebSocket) -> None:
    websocket.query_params["boom query-missing"]


@app.websocket("/chained")
async def chained(websocket: WebSocket) -> None:
    try:
        websocket.headers["nothing"]
    except KeyError as exc:
        raise Boom("boom chained") from exc


@app.websocket("/context")
async def context(websocket: WebSocket) -> None:
    try:
        await websocket.receive_json(mode="none")
    except Exception:
        fail("context")


@app.websocket("/group-of-tasks")
async def group_of_tasks(websocket: WebSocket) -> None:
    async def one(socket: WebSocket) -> None:
        socket.query_params["boom group-of-tasks"]

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one(websocket))
        tasks.create_task(one(websocket))


@app.websocket("/misuse")
async def misuse(websocket: WebSocket) -> None:
    await websocket.accept(headers=[(b"x-echo", websocket.headers["x-plain"].encode())])
    try:
        await websocket.accept()
    except RuntimeError as exc:
        raise Boom("boom misuse") from exc


@app.websocket("/thread")
async def thread(websocket: WebSocket) -> None:
    await run_in_threadpool(in_thread, websocket)


def in_thread(connection: WebSocket) -> None:
    fail("thread")


async def failing(websocket: WebSocket, value: Annotated[str, Header(alias="x-plain")]) -> None:
    del value
    fail("dependency")


def failing_in_thread(websocket: WebSocket, value: Annotated[str, Header(alias="x-plain")]) -> None:
    del value
    fail("sync-dependency")


class Checker:
    """A dependency that is an object and is called with secrets."""

    def __call__(self, credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
        bearer = credentials
        fail(f"callable{bearer and ''}")


async def teardown(value: Annotated[str, Query(alias="q")]) -> AsyncIterator[None]:
    del value
    yield
    fail("teardown")


def sync_teardown(value: Annotated[str, Query(alias="q")]) -> Iterator[None]:
    del value
    yield
    fail("sync-teardown")


def route(case: str, dependency: Any) -> None:
    @app.websocket(f"/{case}", dependencies=[Depends(dependency)])
    async def accepting(websocket: WebSocket) -> None:
        await websocket.accept()


@app.websocket("/middleware")
async def behind_middleware(websocket: WebSocket) -> None: ...


route("dependency", failing)
route("sync-dependency", failing_in_thread)
route("callable", Checker())
route("teardown", teardown)
route("sync-teardown", sync_teardown)


@app.websocket("/background")
async def background(websocket: WebSocket, tasks: BackgroundTasks) -> None:
    await websocket.accept()
    tasks.add_task(in_background, websocket, websocket.headers["authorization"])


async def in_background(connection: WebSocket, value: str) -> None:
    del value
    fail("background")


@app.websocket("/invalid")
async def invalid(websocket: WebSocket, number: Annotated[int, Query(alias="q")]) -> None: ...


@app.exception_handler(WebSocketRequestValidationError)
async def on_invalid(websocket: WebSocket, exc: WebSocketRequestValidationError) -> None:
    fail("invalid")


@app.exception_handler(418)
async def on_teapot(websocket: WebSocket, exc: HTTPException) -> None:
    fail("handler")


@app.websocket("/handler")
async def handler(websocket: WebSocket) -> None:
    raise HTTPException(418, "tea")


@app.websocket("/group-handler")
async def group_handler(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.join("leaks")
    from channels.layers import get_channel_layer

    await get_channel_layer().group_send("leaks", {"type": "leak"})
    await websocket.receive_text()


@on("leak")
def leak(message: dict[str, Any]) -> Any:
    fail("group-handler")


@app.websocket("/group-refusal")
async def group_refusal(websocket: WebSocket) -> None:
    try:
        await Group("leaks").asend({"socket": websocket})
    except TypeError as exc:
        raise Boom("boom group-refusal") from exc


application = get_asgi_application(app, fallback=Legacy.as_asgi())
