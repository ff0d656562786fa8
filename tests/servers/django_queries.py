"""The site of `django_site` in a process that reports its database queries."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.django_settings")

from fastws_compat.asgi import get_asgi_application

application = get_asgi_application("tests.servers.django_sockets:app")

from asgiref.sync import sync_to_async  # noqa: E402
from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402

from fastws_compat import WebSocket  # noqa: E402
from fastws_compat.logins import registry  # noqa: E402
from tests.servers.django_sockets import app  # noqa: E402

statements: list[str] = []


def note(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
    statements.append(sql)
    return execute(sql, *arguments)


def observe(connection: Any, **kwargs: Any) -> None:
    if note not in connection.execute_wrappers:
        connection.execute_wrappers.append(note)


connection_created.connect(observe)


def save_user() -> None:
    User.objects.get(username="user0").save()


def widen_group() -> None:
    Group.objects.get(name="viewers").permissions.add(Permission.objects.get(codename="add_user"))


def close_group() -> None:
    Group.objects.get(name="viewers").permissions.clear()


async def begin_rounds() -> None:
    """Check all logins every 0.2 s, as with REVALIDATE_SECONDS, but starting now."""
    for logins in registry.registries():
        logins.revalidate_every(0.2)


ACTIONS: dict[str, Callable[[], Any]] = {
    "save_user": sync_to_async(save_user),
    "widen_group": sync_to_async(widen_group),
    "close_group": sync_to_async(close_group),
    "begin_rounds": begin_rounds,
}


@app.websocket("/statements")
async def told(websocket: WebSocket) -> None:
    """Run the actions that the client names, and report the SQL statements since the last one."""
    await websocket.accept()
    async for what in websocket.iter_text():
        if what == "tell":
            await websocket.send_json(statements)
        else:
            statements.clear()
            await ACTIONS[what]()
            await websocket.send_json("done")
