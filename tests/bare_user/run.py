"""Operates a socket in a second admin site of a project with a bare user model; prints the results."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.admin_settings import MIDDLEWARE, TEMPLATES

settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF="__main__",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "fastws_compat",
        "fastws_compat.operations",
        "tests.bare_user",
    ],
    MIDDLEWARE=MIDDLEWARE,
    TEMPLATES=TEMPLATES,
    AUTH_USER_MODEL="bare_user.Operator",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    STATIC_URL="static/",
    LANGUAGE_CODE="de",
    USE_I18N=False,
    FASTWS={"OPERATIONS_TAP": True},
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.admin.models import LogEntry  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import path  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket  # noqa: E402
from fastws_compat.auth import login_required  # noqa: E402
from fastws_compat.management.input import user_named  # noqa: E402
from fastws_compat.operations import count, kick, sockets  # noqa: E402
from fastws_compat.operations.admin import LiveSocketAdmin  # noqa: E402
from fastws_compat.operations.models import LiveSocket  # noqa: E402
from fastws_compat.testclient import TestClient  # noqa: E402
from tests.bare_user.models import Operator  # noqa: E402

site = admin.AdminSite("operations")
site.register(LiveSocket, LiveSocketAdmin)
urlpatterns = [path("admin/", admin.site.urls), path("second/", site.urls)]
call_command("migrate", run_syncdb=True, verbosity=0)
app = FastAPI()


@app.websocket("/ws", dependencies=[Depends(login_required)])
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass


LIST = "/second/fastws_operations/livesocket/"
client = Client()
NAMES = {"text": ("7", "8"), "number": (7, 8), "uuid": (UUID(int=7), UUID(int=8))}
name, other = NAMES[os.environ.get("BADGE", "text")]
operator = Operator.objects.create(badge=name)
client.force_login(operator)
visitor = TestClient(app)
visitor.force_login(operator)


def page(address: str, **values: Any) -> str:
    answer = client.post(address, values) if values else client.get(address)
    assert answer.status_code == 200, answer
    html = answer.content.decode()
    assert '"/admin/' not in html, f"{address} leads to the other site"
    return html


def shown(query: str) -> int:
    return len(client.get(f"{LIST}data/?{query}").json()["rows"])


with visitor.websocket_connect("/ws") as websocket:
    print(shown(f"username={name}"), shown(f"username={other}"), shown("username=nonsense"))
    print(shown(f"q={name}"), shown("o=user"), shown("o=-user"), str(name) in page(LIST))
    print([row.user == str(name) for row in sockets(user=str(name)).rows], count(user=operator))
    print(user_named(str(name)) == operator, kick(user=str(other)).count)
    for unknown in (str(other), "nonsense", "\udcff"):
        try:
            print(user_named(unknown))
        except CommandError as error:
            print(error.args[0].startswith("There is no user"))
    [one] = re.findall(rf'href="{LIST}(\w{{32}})/"', page(LIST))
    assert one in page(f"{LIST}data/")
    print("1 process" in page(LIST), "daphne" not in page(f"{LIST}processes/"))
    print(client.post(f"{LIST}{one}/tap/", {"action": "start"}).url == f"{LIST}{one}/")
    print("Stop watching" in page(f"{LIST}{one}/"))
    [selection] = re.findall(r'name="selection" value="([^"]+)"', page(f"{LIST}kick/", _selected_action=one))
    answer = client.post(f"{LIST}kick/", {"selection": selection, "code": "4403"})
    print(answer.url == LIST, "Closed 1 socket in 1 process." in page(LIST))
    print(websocket.receive()["code"])
print(sorted({entry.change_message.split()[0] for entry in LogEntry.objects.all()} - {"Stopped"}))
