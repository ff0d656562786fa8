"""A test runner can drop its database after socket tests, on PostgreSQL with persistent connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_database import PostgreSQL
from tests.test_database import postgresql as postgresql  # a fixture

ROOT = Path(__file__).resolve().parents[1]

SETTINGS = """
import os
SECRET_KEY = "tests-only"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "project_settings"
ASGI_APPLICATION = "project_asgi.application"
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": os.environ["PORT"],
    "USER": "postgres", "NAME": "postgres", "CONN_MAX_AGE": 600,
    "TEST": {"NAME": "test_postgres"},
}}
INSTALLED_APPS = [
    "daphne", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "fastws_compat"
]
urlpatterns = []
STATIC_URL = "static/"
"""

ASGI = """
from fastws_compat.asgi import get_asgi_application
application = get_asgi_application("project_sockets:app")
"""

SOCKETS = """
from typing import Annotated
from django.contrib.auth.models import User
from django.db import transaction
from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.auth import login_required
from fastws_compat.concurrency import run_in_threadpool

app = FastAPI()

def counted() -> int:
    return User.objects.count()

def unit_of_work():
    with transaction.atomic():
        yield User.objects.count()

@app.websocket("/count")
async def count(
    websocket: WebSocket, a: Annotated[int, Depends(counted)], b: Annotated[int, Depends(unit_of_work)]
):
    await websocket.accept()
    c = await run_in_threadpool(User.objects.count)
    await websocket.send_json([a, b, c, await User.objects.acount()])

@app.websocket("/user")
async def user(websocket: WebSocket, user: Annotated[User, Depends(login_required)]):
    await websocket.accept()
    await websocket.send_json([user.get_username(), await User.objects.acount()])

@app.websocket("/plain")
async def plain(websocket: WebSocket, a: Annotated[int, Depends(counted)]):
    await websocket.accept()
    await websocket.send_json([a])
"""

TESTS = """
import asyncio
from channels.testing import ChannelsLiveServerTestCase, WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase
from websockets.sync.client import connect

from fastws_compat.testclient import TestClient
from project_asgi import application


class InTransaction(TestCase):
    def test_client(self):
        User.objects.create_user("ann")
        with TestClient(application).websocket_connect("/count") as socket:
            self.assertEqual(socket.receive_json(), [1, 1, 1, 1])


class Committed(TransactionTestCase):
    def test_client(self):
        User.objects.create_user("ann")
        with TestClient(application).websocket_connect("/count") as socket:
            self.assertEqual(socket.receive_json(), [1, 1, 1, 1])

    async def test_communicator(self):
        for path, users in (("/count", [0, 0, 0, 0]), ("/plain", [0])):
            communicator = WebsocketCommunicator(application, path)
            await communicator.connect(timeout=10)
            self.assertEqual(await communicator.receive_json_from(timeout=10), users)
            await communicator.disconnect()


class Live(ChannelsLiveServerTestCase):
    def test_server(self):
        User.objects.create_user("ann")
        url = self.live_server_ws_url + "/count"
        with connect(url, proxy=None, open_timeout=30) as socket:
            self.assertEqual(socket.recv(timeout=20), "[1,1,1,1]")


class Own(TransactionTestCase):
    def test_loop_of_its_own(self):
        # As with pytest-asyncio: the async ORM and the lookup of the user have threads of their own.
        self.client.force_login(User.objects.create_user("ann"))
        cookie = f"sessionid={self.client.cookies['sessionid'].value}".encode()
        headers = [(b"host", b"testserver"), (b"origin", b"http://testserver"), (b"cookie", cookie)]

        async def converse():
            communicator = WebsocketCommunicator(application, "/user", headers=headers)
            await communicator.connect(timeout=10)
            self.assertEqual(await communicator.receive_json_from(timeout=10), ["ann", 1])
            await communicator.disconnect()

        asyncio.run(converse())
"""

RUNNERS = {
    "manage.py test": ["-m", "django", "test", "--noinput"],
    "pytest": ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_project.py"],
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_test_database_is_dropped(runner: str, postgresql: PostgreSQL, tmp_path: Path) -> None:
    import psycopg

    for name, text in {
        "project_settings": SETTINGS,
        "project_asgi": ASGI,
        "project_sockets": SOCKETS,
        "test_project": TESTS,
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    environ = {
        **os.environ,
        "PORT": str(postgresql.port),
        "DJANGO_SETTINGS_MODULE": "project_settings",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
    }
    done = subprocess.run(
        [sys.executable, *RUNNERS[runner]],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "being accessed by other users" not in done.stdout + done.stderr
    with psycopg.connect(
        host="127.0.0.1", port=postgresql.port, user="postgres", dbname="postgres"
    ) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_database WHERE datname = 'test_postgres'"
        ).fetchone() == (0,)
