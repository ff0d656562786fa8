"""Operates sockets in a project whose tables a router spreads over databases; the default one has none.

The arguments are the folder of the databases and, as JSON, the database of each app.
"""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.admin_settings import MIDDLEWARE, TEMPLATES

FOLDER, PLACES = Path(sys.argv[1]), json.loads(sys.argv[2])
APPS = ("admin", "auth", "contenttypes", "sessions")


class Router:
    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return PLACES.get(model._meta.app_label)

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return PLACES.get(app_label, "default") == db


def database(name: str) -> dict[str, Any]:
    # No database can check the keys of rows in another one.
    options = {"init_command": "PRAGMA foreign_keys=OFF"}
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / name), "OPTIONS": options}


settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver", "127.0.0.1"],
    ROOT_URLCONF="__main__",
    INSTALLED_APPS=[
        *(f"django.contrib.{name}" for name in APPS),
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "fastws_compat",
        "fastws_compat.operations",
        "tests.routed",
    ],
    MIDDLEWARE=MIDDLEWARE,
    TEMPLATES=TEMPLATES,
    AUTH_USER_MODEL="routed.Person",
    DATABASES={name: database(name) for name in {"default", *PLACES.values()}},
    DATABASE_ROUTERS=[Router()],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    STATIC_URL="static/",
    USE_TZ=False,
    FASTWS={"OPERATIONS_TAP": True, "ALLOWED_ORIGINS": ["*"]},
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.admin.models import LogEntry  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.sessions.models import Session  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.auth import login_required  # noqa: E402
from fastws_compat.operations.management import replies  # noqa: E402
from fastws_compat.testclient import TestClient  # noqa: E402

urlpatterns = [path("admin/", admin.site.urls)]
for name in settings.DATABASES:
    call_command("migrate", database=name, run_syncdb=True, verbosity=0)
connections.close_all()  # migrations switch the checks of keys on
app = FastAPI()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket, user: Annotated[Any, Depends(login_required)]) -> None:
    await websocket.accept()
    await websocket.send_text(str(user))
    async for _ in websocket.iter_text():
        pass


application = get_asgi_application(app)
settings.ASGI_APPLICATION = "__main__.application"
LIST = "/admin/fastws_operations/livesocket/"
ann = get_user_model().objects.create_superuser("ann")
client = Client()
client.force_login(ann)
cookie = {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def page(address: str, **values: Any) -> str:
    answer = client.post(address, values, follow=True) if values else client.get(address)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def confirm(action: str, id: str, **values: Any) -> str:
    [selection] = re.findall(
        r'name="selection" value="([^"]+)"', page(f"{LIST}{action}/", _selected_action=id)
    )
    return page(f"{LIST}{action}/", selection=selection, **values)


def only() -> str:
    [id] = re.findall(rf'href="{LIST}(\w{{32}})/"', page(LIST))
    return id


with TestClient(app).websocket_connect("/ws", headers=cookie) as websocket:
    assert websocket.receive_text() == "ann"
    one = only()
    assert "ann" in page(f"{LIST}{one}/")
    assert "Stop watching" in page(f"{LIST}{one}/tap/", action="start")
    assert "Sent a message to 1 socket" in confirm("message", one, text="hello")
    assert websocket.receive_text() == "hello"
    assert "Closed 1 socket in 1 process." in confirm("kick", one, code="4403")
    print(websocket.receive()["code"])
history = page(f"{LIST}{one}/")
assert history.count("<td>ann</td>") >= 3, history
with TestClient(app).websocket_connect("/ws", headers=cookie) as websocket:
    assert websocket.receive_text() == "ann"
    replies.require_layer = lambda: None  # the command runs in the process of the socket
    call_command("ws_kick", "--user", "ann", "--code", "4000", "--as", "ann", "--yes", stdout=StringIO())
    print(websocket.receive()["code"])
sessions, said = Session.objects.count(), StringIO()
call_command("ws_connect", "/ws", "--user", "ann", "--in-process", "--wait", "0.1", stdout=said)
print("< ann" in said.getvalue(), Session.objects.count() == sessions)
print(sorted({entry.change_message.split()[0] for entry in LogEntry.objects.all()}))
print(LogEntry.objects.filter(user_id=ann.pk).count() == LogEntry.objects.count())
