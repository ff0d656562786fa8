"""Sync dependencies that hold thread-bound resources, or leave something behind in a thread."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.django_settings")

import django

django.setup()

import asyncio  # noqa: E402
import sqlite3  # noqa: E402
import threading  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextvars import ContextVar  # noqa: E402
from typing import Annotated, Any  # noqa: E402

import anyio  # noqa: E402
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.cache import caches  # noqa: E402
from django.core.cache.backends.locmem import LocMemCache  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.utils import timezone, translation  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.concurrency import iterate_in_threadpool, run_in_threadpool  # noqa: E402

app = FastAPI()
here = threading.local()
lock, rlock = threading.Lock(), threading.RLock()
variable: ContextVar[str] = ContextVar("variable", default="unset")


def me() -> int:
    return threading.get_ident()


async def serve(websocket: WebSocket, *told: Any) -> None:
    await websocket.accept()
    await websocket.send_json(told)
    async for text in websocket.iter_text():
        await websocket.send_text(text)


def route(*needed: Any) -> Callable[[Any], Any]:
    """A socket that sends the value of its last dependency."""

    def add(dependency: Any) -> Any:
        @app.websocket(f"/{dependency.__name__}", dependencies=[Depends(need) for need in needed])
        async def told(websocket: WebSocket, value: Any = Depends(dependency)) -> None:
            await serve(websocket, value)

        return dependency

    return add


# Generators that hold a resource, and dependencies that use it


def unit_of_work() -> Iterator[int]:
    with transaction.atomic():
        yield me()
        User.objects.filter(username="counter").update(first_name="committed")


@route()
def atomic(begun_in: Annotated[int, Depends(unit_of_work)]) -> list[Any]:
    return [begun_in == me(), connection.in_atomic_block, len(connection.savepoint_ids)]


def made_before() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def opened(raw: Annotated[sqlite3.Connection, Depends(made_before)]) -> Iterator[sqlite3.Connection]:
    raw.execute("CREATE TABLE t (x)")
    yield raw
    raw.execute("INSERT INTO t VALUES (1)")
    raw.close()


@route()
def raw(raw: Annotated[sqlite3.Connection, Depends(opened)]) -> list[Any]:
    return list(raw.execute("SELECT count(*) FROM t").fetchone())


def held_cursor() -> Iterator[Any]:
    with connection.cursor() as cursor:
        yield cursor
        cursor.execute("SELECT 2")


@route()
def cursor(cursor: Annotated[Any, Depends(held_cursor)]) -> Any:
    cursor.execute("SELECT 1")
    User.objects.count()
    return cursor.fetchone()[0]


def held_rlock() -> Iterator[None]:
    with rlock:
        here.value = "mine"
        yield
        assert here.value == "mine"
        del here.value


@route(held_rlock)
def reentered() -> str:
    with rlock:
        return str(here.value)


def held_lock() -> Iterator[None]:
    with lock:
        yield


@route(held_lock)
def locked() -> str:
    return "locked"


def german() -> Iterator[None]:
    with translation.override("de"), timezone.override("Asia/Tokyo"):
        yield
        assert translation.get_language() == "de"


@route(german)
async def language() -> list[Any]:
    in_thread = await run_in_threadpool(translation.get_language)
    return [translation.get_language(), timezone.get_current_timezone_name(), in_thread]


def presence() -> Iterator[None]:
    User.objects.filter(username="present").update(first_name="here")
    yield
    User.objects.filter(username="present").update(first_name="gone")


@route(presence)
def present() -> int:
    return User.objects.filter(username="present").count()


def fails() -> Iterator[None]:
    with transaction.atomic():
        yield
        User.objects.filter(username="counter").update(email="never committed")
        raise LookupError("at the end")


@route(fails)
def failing() -> str:
    return "failing"


# Dependencies that leave something behind


@route()
def abandoned() -> str:
    transaction.atomic().__enter__()
    return "abandoned"


@route()
def manual() -> str:
    User.objects.count()
    transaction.set_autocommit(False)
    return "manual"


def never_left() -> Iterator[None]:
    transaction.atomic().__enter__()
    yield


@route(never_left)
def abandoned_by_a_generator() -> str:
    return "abandoned"


# What other connections see of it


@route()
def count() -> list[Any]:
    User.objects.filter(username="counter").update(last_name="written")
    return [User.objects.filter(username="counter").count(), connection.in_atomic_block]


@app.websocket("/threads")
async def threads(websocket: WebSocket) -> None:
    await serve(websocket, *sorted(thread.name for thread in threading.enumerate()))


# What is passed along with a call


class Tenants:
    """Middleware that sets the language, a context variable and the tenant."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/fr/"):
            scope = {**scope, "path": scope["path"][3:]}
            translation.activate("fr")
            variable.set("middleware")
        if scope["path"].startswith("/tenants/"):
            _, _, tenant, path = scope["path"].split("/")
            async with ThreadSensitiveContext():
                await sync_to_async(lambda: connection.set_tenant(tenant))()
                await self.app({**scope, "path": f"/{path}"}, receive, send)
        else:
            if scope["path"] == "/tenant_of_all":
                await sync_to_async(lambda: connection.set_tenant("all"))()
            await self.app(scope, receive, send)


application = Tenants(get_asgi_application(app))


@route()
def seen() -> list[Any]:
    before = [translation.get_language(), variable.get()]
    variable.set("dependency")
    return before


@app.websocket("/back")
async def back(websocket: WebSocket, seen: Annotated[Any, Depends(seen)]) -> None:
    await run_in_threadpool(translation.activate, "it")
    again = await run_in_threadpool(translation.get_language)
    await serve(websocket, *seen, translation.get_language(), again, variable.get())


async def where() -> list[Any]:
    return [id(asyncio.get_running_loop()), translation.get_language()]


@route()
def bridges() -> list[Any]:
    loop, language = async_to_sync(where)()
    results: list[Any] = [
        anyio.from_thread.run(where)[0] == loop,
        anyio.from_thread.run_sync(lambda: id(asyncio.get_running_loop())) == loop,
        language,
    ]
    anyio.from_thread.check_cancelled()
    return results


made: list[Any] = []


class CountedCache(LocMemCache):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        made.append(self)


@route()
def cached() -> Any:
    return caches["counted"].get_or_set("key", "value")


@app.websocket("/caches")
async def number_of_caches(websocket: WebSocket) -> None:
    await serve(websocket, len(made), await run_in_threadpool(lambda: len(made)))


@app.websocket("/iterated")
async def iterated(websocket: WebSocket) -> None:
    rows = [row async for row in iterate_in_threadpool(threads_of_rows())]
    await serve(websocket, len(set(rows)))


def threads_of_rows() -> Iterator[int]:
    for _ in User.objects.all().iterator(chunk_size=1):
        yield me()
    for _ in range(10):
        yield me()


def for_tenant() -> Iterator[str]:
    yield connection.tenant
    print(f"ENDED FOR {connection.tenant}", flush=True)


def tenant_in_pool() -> str:
    return str(connection.tenant)


@app.websocket("/pooled_tenant")
async def pooled_tenant(websocket: WebSocket, tenant: Annotated[str, Depends(tenant_in_pool)]) -> None:
    await serve(
        websocket, tenant, await sync_to_async(tenant_in_pool)(), await run_in_threadpool(tenant_in_pool)
    )


app.add_api_websocket_route("/tenant_of_all", pooled_tenant)


@app.websocket("/held_tenant")
async def held_tenant(
    websocket: WebSocket,
    begun: Annotated[str, Depends(for_tenant)],
    tenant: Annotated[str, Depends(tenant_in_pool)],
) -> None:
    await serve(websocket, begun, tenant)
