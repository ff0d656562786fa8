"""A site with two tenants: the host determines the tenant, and ASGI middleware selects its database.

Run as a script, it prepares both databases, or performs the actions that it reads.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.tenants_settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.auth import adisconnect_user, disconnect_user, login_required, user_passes_test  # noqa: E402
from fastws_compat.groups import Group  # noqa: E402
from tests.servers.tenants_router import tenant  # noqa: E402

app = FastAPI()
CurrentUser = Annotated[User, Depends(login_required)]


def has_group(user: User) -> bool:
    """Whether the site of this tenant still has any group: a query that the router sends to its database."""
    from django.contrib.auth.models import Group as Role

    return Role.objects.exists()


async def talk(websocket: WebSocket, user: User) -> None:
    await websocket.accept()
    await websocket.join(Group.for_user(user))
    await websocket.send_text(f"{user.first_name} {user.pk}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@app.websocket("/members")
async def members(websocket: WebSocket, user: CurrentUser) -> None:
    await talk(websocket, user)


@app.websocket("/alone", max_connections_per_user=1)
async def alone(websocket: WebSocket, user: CurrentUser) -> None:
    await talk(websocket, user)


@app.websocket("/grouped", dependencies=[Depends(user_passes_test(has_group))])
async def grouped(websocket: WebSocket, user: CurrentUser) -> None:
    await talk(websocket, user)


@app.websocket("/kick")
async def kick(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    await adisconnect_user(user, reason="by themselves")


def act(request: HttpRequest, what: str) -> HttpResponse:
    """Perform an action on the user with key 1 of this tenant."""
    from django.contrib.auth.models import Group as Role

    user = User.objects.get(pk=1)
    if what == "save":
        user.save()
    elif what == "deactivate":
        user.is_active = False
        user.save()
    elif what == "update":
        User.objects.filter(pk=1).update(is_active=False)
    elif what == "ungroup":
        Role.objects.all()._raw_delete("blue")
    elif what == "disconnect":
        disconnect_user(user)
    elif what == "disconnect-key":
        disconnect_user(1)
    else:
        Group.for_user(user).send(what)
    return HttpResponse(f"{user._state.db}")


urlpatterns = [path("act/<what>/", act)]


class Tenants:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            tenant.set(dict(scope["headers"])[b"host"].decode().partition(".")[0])
        await self.inner(scope, receive, send)


application = Tenants(get_asgi_application(app))


def prepare() -> None:
    from django.contrib.auth.models import Group as Role
    from django.core.management import call_command
    from django.test import Client

    keys = {}
    for alias in ("default", "blue"):
        tenant.set(alias)
        call_command("migrate", database=alias, verbosity=0)
        Role.objects.create(name="everybody")
        user = User.objects.create_user("ann", first_name=alias)
        client = Client()
        client.force_login(user)
        keys[alias] = client.cookies["sessionid"].value
    print(json.dumps(keys))


def act_elsewhere(what: str, alias: str) -> None:
    """Perform an action on the user with key 1 of a tenant, outside of any tenant's context."""
    user = User.objects.using(alias).get(pk=1)
    if what == "disconnect":
        disconnect_user(user)
    elif what == "send":
        Group.for_user(user).send("from elsewhere")
    else:
        user.is_active = False
        user.save(using=alias)


if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        prepare()
    for line in sys.stdin:
        act_elsewhere(*line.split())
        print("done", flush=True)
