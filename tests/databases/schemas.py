"""Two tenants, each with a schema of django-tenants on the PostgreSQL in $DATABASES; prints "ok"."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
PARTS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver"],
    SHARED_APPS=["django_tenants", "tests.databases.customers", *PARTS],
    TENANT_APPS=PARTS,
    INSTALLED_APPS=["django_tenants", "tests.databases.customers", *PARTS, "fastws_compat"],
    TENANT_MODEL="customers.Customer",
    TENANT_DOMAIN_MODEL="customers.Domain",
    DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
    DATABASES=json.loads(os.environ["DATABASES"]),
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    FASTWS={"REVALIDATE_SECONDS": 0.1, "MAX_CONNECTIONS_PER_USER": 1},
)
django.setup()

from channels.db import database_sync_to_async  # noqa: E402
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django_tenants.utils import schema_context  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.auth import adisconnect_user, disconnect_user, login_required  # noqa: E402
from fastws_compat.groups import Group  # noqa: E402
from tests.databases.customers.models import Customer  # noqa: E402

TENANTS = ("red", "blue")
app = FastAPI()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket, user: Annotated[User, Depends(login_required)]) -> None:
    await websocket.accept()
    await websocket.join(Group.for_user(user))
    await websocket.send_text(f"{user.first_name} {user.pk}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


site = get_asgi_application(app)


def prepare(name: str) -> str:
    """Create a tenant with one user, and return the key of the user's session."""
    Customer(schema_name=name).save(verbosity=0)
    with schema_context(name):
        user = User.objects.create_user("ann", first_name=name)
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        return str(session.session_key)


def in_tenant(name: str, call: Any) -> Any:
    """Run in the thread of the async ORM, in which middleware sets the tenant for each of its calls."""

    def work() -> Any:
        with schema_context(name):
            return call(User.objects.get())

    return database_sync_to_async(work)()


class Socket:
    """One connection of a browser. The middleware sets the schema for the duration of the handshake."""

    def __init__(self, tenant: str, key: str) -> None:
        self.tenant = tenant
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})
        headers = [("host", "testserver"), ("origin", "http://testserver"), ("cookie", f"sessionid={key}")]
        self.scope = {
            "type": "websocket",
            "path": "/ws",
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "query_string": b"",
            "extensions": {"websocket.http.response": {}},
        }

    async def open(self) -> Any:
        # In the thread that owns the connection, because the loop's thread has another one.
        await database_sync_to_async(lambda: connection.set_schema(self.tenant))()
        self.task = asyncio.create_task(site(self.scope, self.inbox.get, self.sent.put))  # type: ignore[arg-type]
        answer = await self.next()
        if answer["type"] == "websocket.accept":
            return (await self.next())["text"]
        return answer["status"]

    async def next(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.sent.get(), 20)

    async def answers(self) -> bool:
        await self.inbox.put({"type": "websocket.receive", "text": "still there?"})
        return (await self.next()).get("text") == "still there?"

    async def end(self) -> int:
        message = await self.next()
        await asyncio.wait_for(self.task, 20)
        return int(message["code"])


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


async def main(keys: dict[str, str]) -> None:
    red, blue = (Socket(name, keys[name]) for name in TENANTS)
    opened = [await red.open(), await blue.open()]
    assert opened == ["red 1", "blue 1"], opened
    assert await Socket("blue", keys["blue"]).open() == 429

    for _ in range(5):  # rounds, regardless of the schema that was last set in the thread
        await asyncio.sleep(0.15)
        assert await red.answers()
        assert await blue.answers()
    assert await database_sync_to_async(lambda: connection.schema_name)() == "blue"

    await in_tenant("blue", lambda user: Group.for_user(user).send("for blue"))
    assert (await blue.next())["text"] == "for blue"
    assert await red.answers()

    [refused] = await asyncio.gather(adisconnect_user(1), return_exceptions=True)
    assert isinstance(refused, RuntimeError)  # the user's tenant is unknown
    assert "database_sync_to_async" in str(refused)

    await in_tenant("blue", disconnect_user)
    assert await blue.end() == 4401
    assert await red.answers()

    blue = Socket("blue", keys["blue"])
    assert await blue.open() == "blue 1"
    await in_tenant("red", deactivate)
    assert await red.end() == 4401
    assert await blue.answers()
    await in_tenant("blue", lambda user: User.objects.update(is_active=False))
    assert await blue.end() == 4401


if __name__ == "__main__":
    call_command("migrate_schemas", shared=True, verbosity=0)
    keys = {name: prepare(name) for name in TENANTS}
    connection.close()
    asyncio.run(main(keys))
    print("ok")
