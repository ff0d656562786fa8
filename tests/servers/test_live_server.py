"""A project's `ChannelsLiveServerTestCase` uses the completed daphne with every test runner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.conftest import python_path

pytestmark = [pytest.mark.servers, pytest.mark.unmeasured]

MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""

SETTINGS = """
SECRET_KEY = "tests-only"
USE_TZ = True
ALLOWED_HOSTS = ["localhost"]
INSTALLED_APPS = [
    {apps}
    "channels",
    "django.contrib.staticfiles",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "fastws_compat",
]
MIDDLEWARE = []
STATIC_URL = "static/"
ROOT_URLCONF = "settings"
ASGI_APPLICATION = "asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3",
        "TEST": {{"NAME": "test.sqlite3"}},
        "OPTIONS": {{"timeout": 20}},
    }}
}}
FASTWS = {{"DAPHNE": "{mode}"}}
urlpatterns = []
"""

ASGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
from contextlib import asynccontextmanager
import django
django.setup()
from django.contrib.auth.models import User
from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.asgi import get_asgi_application

def record(what):
    with open("events", "a") as events:
        events.write(what + "\\n")

@asynccontextmanager
async def lifespan(app):
    yield {"started": "started"}
    record("shutdown")

app = FastAPI(lifespan=lifespan)

def count():
    return User.objects.count()

@app.websocket("/ws/users")
async def users(websocket: WebSocket, in_a_thread: int = Depends(count)):
    await websocket.accept()
    await websocket.send_json([in_a_thread, await User.objects.acount(), websocket.state.started])
    await websocket.close(1012, "again")

@app.websocket("/ws/wait")
async def wait(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text("ready")
    try:
        await websocket.receive_text()
    finally:
        record("finally")

application = get_asgi_application(app)
"""

TESTS = """
import asyncio, json, multiprocessing, os
from asgiref.sync import sync_to_async
from channels.testing import ChannelsLiveServerTestCase
from django.contrib.auth.models import User
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

multiprocessing.set_start_method(os.environ["START_METHOD"], force=True)
# The thread of the async ORM is at work in this process before it forks.
asyncio.run(sync_to_async(int)())

PATIENCE = float(os.environ["PATIENCE"])

class LiveTests(ChannelsLiveServerTestCase):
    def connect(self, path):
        return connect(self.live_server_ws_url + path, compression=None, proxy=None, open_timeout=PATIENCE)

    def test_rows_state_and_close_codes(self):
        User.objects.create(username="ada")
        with self.connect("/ws/users") as socket:
            assert json.loads(socket.recv(timeout=PATIENCE)) == [1, 1, "started"]
            with self.assertRaises(ConnectionClosed) as caught:
                socket.recv(timeout=PATIENCE)
        assert (caught.exception.rcvd.code, caught.exception.rcvd.reason) == (1012, "again")

    def test_rows_are_gone(self):
        with self.connect("/ws/users") as socket:
            assert json.loads(socket.recv(timeout=PATIENCE)) == [0, 0, "started"]

    def test_the_end_of_the_server(self):
        type(self).left_open = self.connect("/ws/wait")
        assert self.left_open.recv(timeout=PATIENCE) == "ready"

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        try:
            cls.left_open.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            print("CLOSED", closed.rcvd.code if closed.rcvd else None)
"""

RUNNERS = {
    "manage.py": ["manage.py", "test", "-v", "2"],
    "pytest": ["-m", "pytest", "-v", "-s", "--ds", "settings", "-p", "no:cacheprovider", "test_live.py"],
}


def run_tests(
    path: Path, runner: str, method: str, apps: str, mode: str, patience: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run the tests in a project of their own; each waits `patience` seconds for a message."""
    texts = {"manage": MANAGE, "settings": SETTINGS.format(apps=apps, mode=mode), "asgi": ASGI}
    for name, text in {**texts, "test_live": TESTS}.items():
        (path / f"{name}.py").write_text(text)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "DJANGO"))}
    return subprocess.run(
        [sys.executable, *RUNNERS[runner]],
        cwd=path,
        env={
            **environ,
            "PYTHONPATH": python_path(path),
            "DJANGO_SETTINGS_MODULE": "settings",
            "START_METHOD": method,
            "PATIENCE": str(patience),
        },
        capture_output=True,
        text=True,
        timeout=180,
    )


APPS = {"daphne installed": '"daphne",', "channels only": ""}
# Each runner, method and list of apps once in the gate.
GATE = ("manage.py-fork-daphne installed", "pytest-spawn-channels only")
CASES = {
    f"{runner}-{method}-{apps}": (runner, method, APPS[apps])
    for runner in RUNNERS
    for method in ("fork", "spawn", "forkserver")  # the last is the default of Python 3.14
    for apps in APPS
}


@pytest.mark.parametrize(
    ("runner", "method", "apps"),
    [pytest.param(*case, id=id, marks=[] if id in GATE else pytest.mark.slow) for id, case in CASES.items()],
)
def test_a_live_server_test_case_runs_the_completed_daphne(
    tmp_path: Path, runner: str, method: str, apps: str
) -> None:
    done = run_tests(tmp_path, runner, method, apps, "complete")
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "3 passed" in output or "Ran 3 tests" in output
    assert "CLOSED 1012" in output
    assert (tmp_path / "events").read_text().splitlines() == ["finally", "shutdown"]


def test_a_live_server_test_case_runs_stock_daphne_on_request(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "pytest", "fork", '"daphne",', "stock", patience=3)
    assert "test_rows_state_and_close_codes FAILED" in done.stdout, done.stdout
    assert not (tmp_path / "events").exists()
