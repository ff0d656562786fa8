"""Sockets that use the two databases in $DATABASES, outside a test's transaction; prints "ok"."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "fastws_compat",
    ],
    DATABASES=json.loads(os.environ["DATABASES"]),
    FASTWS={"THREADS": 4},
)
django.setup()

from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.auth import login_required, permission_required  # noqa: E402
from fastws_compat.groups import Group, record  # noqa: E402
from fastws_compat.testclient import TestClient, WebSocketTestSession  # noqa: E402

app = FastAPI()


def counted(database: str) -> int:
    """A sync dependency, in one of the library's threads."""
    return User.objects.using(database).count()


@app.websocket("/count/{database}")
async def count(websocket: WebSocket, sync: Annotated[int, Depends(counted)], database: str) -> None:
    await websocket.accept()
    await websocket.send_json([sync, await User.objects.using(database).acount()])


@app.websocket("/create/{database}/{name}")
async def create(websocket: WebSocket, database: str, name: str) -> None:
    await websocket.accept()
    user = await User.objects.using(database).acreate(username=name)
    names = [user.username async for user in User.objects.using(database).order_by("pk")]
    await websocket.send_json([user._state.db, *names])


@app.websocket("/viewers", dependencies=[Depends(permission_required("auth.view_user"))])
async def viewers(websocket: WebSocket, user: Annotated[User, Depends(login_required)]) -> None:
    await websocket.accept()
    await websocket.send_text(user.username)
    async for _ in websocket.iter_text():
        pass


@app.websocket("/orders")
async def orders(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.join("orders")
    await websocket.send_text("joined")
    async for _ in websocket.iter_text():
        pass


application = get_asgi_application(app)
for alias in connections:
    call_command("migrate", database=alias, verbosity=0)
ann = User.objects.create_user("ann")
ann.user_permissions.add(Permission.objects.get(codename="view_user"))
client = TestClient(application, timeout=20)


def closed(websocket: WebSocketTestSession) -> int:
    try:
        raise AssertionError(f"the socket is still open: {websocket.receive_text()}")
    except WebSocketDisconnect as end:
        return end.code


def ask(path: str) -> Any:
    with client.websocket_connect(path) as websocket:
        return websocket.receive_json()


@contextmanager
def rolled_back(using: str) -> Iterator[None]:
    """A transaction or savepoint that ends with an exception."""
    with suppress(ZeroDivisionError), transaction.atomic(using=using):
        yield
        raise ZeroDivisionError


assert ask("/count/default") == [1, 1]
assert ask("/count/other") == [0, 0]
assert ask("/create/other/bob") == ["other", "bob"]
assert ask("/count/other") == [1, 1]
assert User.objects.using("other").get().username == "bob"
assert not User.objects.filter(username="bob").exists()

with ExitStack() as stack:  # more sockets than threads
    sockets = [stack.enter_context(client.websocket_connect("/count/default")) for _ in range(20)]
    assert [socket.receive_json() for socket in sockets] == [[1, 1]] * 20

client.force_login(ann)
with client.websocket_connect("/viewers") as websocket:
    assert websocket.receive_text() == "ann"
    with transaction.atomic():
        ann.user_permissions.clear()
        websocket.send_text("not committed yet")
    end = closed(websocket)
    assert end == 4403, end

with client.websocket_connect("/orders") as websocket, record() as sent:
    group = Group("orders")

    def heard(*messages: str) -> None:
        """Assert that exactly these messages were sent, and that the socket received them."""
        assert [item.message for item in sent] == [*messages], (sent, messages)
        assert [websocket.receive_text() for _ in messages] == [*messages]
        sent.clear()

    assert websocket.receive_text() == "joined"
    group.send_on_commit("no transaction")
    group.send_on_commit("none there either", using="other")
    heard("no transaction", "none there either")

    with transaction.atomic(using="other"):
        group.send_on_commit("at once", using="default")
        heard("at once")
        User.objects.using("other").create(username="carl")
        group.send_on_commit("with the row", using="other")
        heard()
    heard("with the row")

    with transaction.atomic(using="default"):
        group.send_on_commit("default", using="default")
        with transaction.atomic(using="other"):
            group.send_on_commit("other", using="other")
        heard("other")
    heard("default")

    with rolled_back(using="other"):
        with transaction.atomic(using="default"):
            group.send_on_commit("default is committed", using="default")
            group.send_on_commit("other is not", using="other")
        heard("default is committed")
    heard()

    with rolled_back(using="default"):
        with transaction.atomic(using="other"):
            group.send_on_commit("nor is default")
            group.send_on_commit("other is committed", using="other")
        heard("other is committed")
    heard()

    with transaction.atomic(using="other"):
        group.send_on_commit("first", using="other")
        with rolled_back(using="other"):
            group.send_on_commit("of a savepoint that is gone", using="other")
            with transaction.atomic(using="other"):
                group.send_on_commit("of one inside it", using="other")
        with transaction.atomic(using="other"):
            group.send_on_commit("of a savepoint that stays", using="other")
        group.send_on_commit("last", using="other")
        heard()
    heard("first", "of a savepoint that stays", "last")

    with rolled_back(using="other"):
        with transaction.atomic(using="other"):
            group.send_on_commit("of a savepoint in a transaction that is gone", using="other")
    heard()

if connection.vendor == "postgresql":
    with connection.cursor() as cursor:
        others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        cursor.execute(f"SELECT count(*) {others}")
        [[alive]] = cursor.fetchall()
        assert alive <= 4 + 1, alive  # the library's threads and asgiref's single one
        cursor.execute(f"SELECT pg_terminate_backend(pid) {others}")
    assert ask("/count/default") == [1, 1]

print("ok")
