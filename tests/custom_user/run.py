"""Logs members in and out in a process with another AUTH_USER_MODEL, and prints the results."""

from __future__ import annotations

import sys
from pathlib import Path

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
        "tests.custom_user",
    ],
    AUTH_USER_MODEL="custom_user.Member",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect  # noqa: E402
from fastws_compat.auth import disconnect_user, user_passes_test  # noqa: E402
from fastws_compat.testclient import TestClient, WebSocketDenialResponse  # noqa: E402
from tests.custom_user.models import Member  # noqa: E402

call_command("migrate", run_syncdb=True, verbosity=0)
app = FastAPI()


@app.websocket("/ws", dependencies=[Depends(user_passes_test(lambda member: not member.is_banned))])
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("in")
    async for _ in websocket.iter_text():
        pass


def client_of(member: Member) -> TestClient:
    client = TestClient(app, timeout=5)
    client.force_login(member)
    return client


def enter(client: TestClient) -> None:
    try:
        with client.websocket_connect("/ws") as websocket:
            print(websocket.receive_text())
    except WebSocketDenialResponse as refusal:
        print(refusal.status_code)


ann = Member.objects.create(email="ann@example.com")
bob = Member.objects.create(email="bob@example.com", is_banned=True)
client = client_of(ann)
enter(client)
enter(client_of(bob))
client.logout()
app.dependency_overrides.clear()
nobody = TestClient(app, cookies={"sessionid": "forged0000"})
Member.objects.filter(pk=ann.pk).update(is_banned=False)


@app.websocket("/members")
async def members(
    websocket: WebSocket, member: Member = Depends(user_passes_test(lambda m: m.is_authenticated))
) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass


try:
    nobody.websocket_connect("/members").__enter__()
except WebSocketDenialResponse as refusal:
    print(refusal.status_code)
for end in (lambda: disconnect_user(ann), ann.delete):
    with client_of(ann).websocket_connect("/members") as websocket:
        end()
        try:
            websocket.receive_text()
        except WebSocketDisconnect as closed:
            print("closed", closed.code)

# A key that the project has written in another way.
client = client_of(cyd := Member.objects.create(email="cyd@example.com"))
session = SessionStore(client.cookies["sessionid"])
session["_auth_user_id"] = cyd.pk.hex
session.save()
with client.websocket_connect("/members") as websocket:
    client.logout()
    try:
        websocket.receive_text()
    except WebSocketDisconnect as closed:
        print("closed", closed.code)
