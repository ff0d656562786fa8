"""A Django project whose users have sessions, with the same socket for each peer of `benchmarks.storm`.

    python -m benchmarks.storm_site USERS

prepares the database and prints the keys of the users' sessions. In the environment, STORM_SETTINGS has
Django's settings as JSON, BENCH_PEER names the peer, and BENCH_DAPHNE is "complete" or "stock".
"""

# Annotations are evaluated here: they name local classes.

import json
import os
import sys
from typing import Any

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "channels",
            "fastws_compat",
        ],
        FASTWS={"DAPHNE": os.environ.get("BENCH_DAPHNE", "complete")},
        LOGGING_CONFIG=None,
        **json.loads(os.environ["STORM_SETTINGS"]),
    )
    django.setup()

urlpatterns: list[Any] = []


def ours() -> Any:
    from fastws_compat import Depends, FastAPI, WebSocket
    from fastws_compat.asgi import get_asgi_application
    from fastws_compat.auth import login_required, permission_required

    app = FastAPI()

    @app.websocket("/anybody")
    async def anybody(websocket: WebSocket) -> None:
        await websocket.accept()
        async for _ in websocket.iter_text():
            pass

    app.websocket("/members", dependencies=[Depends(login_required)])(anybody)
    viewers = Depends(permission_required("auth.view_user"))
    app.websocket("/viewers", dependencies=[viewers])(anybody)
    return get_asgi_application(app)


def channels() -> Any:
    from channels.auth import AuthMiddlewareStack
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from channels.security.websocket import AllowedHostsOriginValidator
    from django.core.asgi import get_asgi_application
    from django.urls import path

    class Members(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            if self.scope["user"].is_authenticated:
                await self.accept()
            else:
                await self.close()

    class Anybody(AsyncWebsocketConsumer):  # type: ignore[misc]
        pass

    routes = URLRouter([path("members", Members.as_asgi()), path("anybody", Anybody.as_asgi())])
    sockets = AllowedHostsOriginValidator(AuthMiddlewareStack(routes))
    return ProtocolTypeRouter({"http": get_asgi_application(), "websocket": sockets})


def prepare(count: int) -> list[str]:
    """Make users with a session each, and return the keys of the sessions."""
    from importlib import import_module

    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import Group, Permission, User
    from django.core.management import call_command
    from django.db import transaction

    call_command("migrate", verbosity=0)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    keys = []
    with transaction.atomic():
        users = User.objects.bulk_create(User(username=f"user{number}") for number in range(count))
        group = Group.objects.create(name="viewers")
        group.permissions.add(Permission.objects.get(codename="view_user"))
        group.user_set.add(*users)
        for user in users:
            session = store()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            keys.append(session.session_key)
    return keys


if __name__ == "__main__":
    print(json.dumps(prepare(int(sys.argv[1]))))
elif "BENCH_PEER" in os.environ:
    app = {"fastws_compat": ours, "channels": channels}[os.environ["BENCH_PEER"]]()
