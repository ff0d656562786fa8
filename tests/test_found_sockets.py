"""Commands of a project whose sockets cannot be imported or are not served."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastws_compat.checks import application

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = """
SECRET_KEY = "x"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["daphne", "django.contrib.contenttypes", "django.contrib.auth", "fastws_compat", "chat"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "urls"
ASGI_APPLICATION = "asgi.application"
FASTWS = {"ALLOWED_ORIGINS": ["http://localhost"]}
"""
ASGI = "from fastws_compat.asgi import get_asgi_application\napplication = get_asgi_application(%s)\n"
MODELS = "from django.db import models\n\n\nclass Room(models.Model):\n    name = models.TextField()\n"
ROUTE = """
from fastws_compat import WebSocket, websocket


@websocket("/ws")
async def chat(websocket: WebSocket): ...
"""
APPLICATION = """
from fastws_compat import FastAPI, WebSocket

app = FastAPI()
inner = FastAPI()
empty = FastAPI()
app.mount("/inner", inner)
other = FastAPI()


@app.websocket("/ws")
@inner.websocket("/ws")
@other.websocket("/ws")
async def chat(websocket: WebSocket): ...
"""
ASKS = "from chat.models import Room\n\nROOMS = list(Room.objects.all())\n" + ROUTE
BROKEN = {
    "a table that is not there": ASKS,
    "an error": ROUTE + "\n1 / 0\n",
    "a typing mistake": "def chat(:\n",
    "a module that is not installed": "import no_such_module\n",
    "a declaration": ROUTE.replace("async def", "def"),
}


class Project:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("settings.py", SETTINGS)
        self.write("urls.py", "urlpatterns = []\n")
        self.write("asgi.py", ASGI % "")
        self.write("chat/__init__.py", "")
        self.write("chat/models.py", MODELS)
        self.write("chat/migrations/__init__.py", "")

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(exist_ok=True, parents=True)
        (self.path / name).write_text(text)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.path,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "settings",
                "PYTHONPATH": f"{self.path}{os.pathsep}{ROOT}",
            },
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_migrate_runs_although_sockets_cannot_be_imported(project: Project, source: str) -> None:
    project.write("chat/sockets.py", source)
    done = project.manage("migrate")
    assert done.returncode == 0, done.stderr
    assert "fastws.E002" in done.stderr


def test_check_and_runserver_stop_where_sockets_cannot_be_imported(project: Project) -> None:
    project.write("chat/sockets.py", BROKEN["an error"])
    for command in (["check"], ["runserver", "--noreload", "0"]):
        done = project.manage(*command)
        assert done.returncode != 0
        assert "ZeroDivisionError" in done.stderr
        assert "fastws.E002" in done.stderr


def test_migrate_can_repair_what_stops_the_sockets(project: Project) -> None:
    project.write("chat/sockets.py", BROKEN["a table that is not there"])
    assert project.manage("makemigrations", "chat").returncode == 0
    assert project.manage("migrate").returncode == 0
    assert project.manage("check").returncode == 0


def test_migrate_runs_although_a_layer_cannot_be_made(project: Project) -> None:
    project.write("chat/sockets.py", ROUTE)
    project.write("settings.py", SETTINGS + 'CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}\n')
    assert project.manage("migrate").returncode == 0
    done = project.manage("check")
    assert done.returncode != 0
    assert "fastws.E009" in done.stderr


# Routes that are not served


def warnings(project: Project, *texts: str) -> list[str]:
    """The numbers of the messages of `check`, whose output contains all of `texts`."""
    text = project.manage("check").stderr
    assert not [each for each in texts if each not in text], text
    return [number for number in ("W002", "W013", "W014") if f"fastws.{number}" in text]


def test_no_message_if_sockets_are_served(project: Project) -> None:
    project.write("chat/sockets.py", ROUTE)
    assert warnings(project) == []


def test_no_route_at_all(project: Project) -> None:
    assert warnings(project) == ["W002"]


@pytest.mark.parametrize("name", ["consumers.py", "ws.py"])
def test_routes_in_a_module_that_is_not_imported(project: Project, name: str) -> None:
    project.write(f"chat/{name}", ROUTE)
    assert warnings(project, f"chat/{name} declares", application.MOVE_SOCKETS) == ["W002", "W014"]


def test_sockets_that_asgi_does_not_look_for(project: Project) -> None:
    project.write("chat/sockets.py", ROUTE)
    project.write("asgi.py", ASGI.replace("fastws_compat.asgi", "django.core.asgi") % "")
    expected = ["W002", "W014"]
    assert warnings(project, "chat/sockets.py declares", application.FIND_SOCKETS) == expected


def test_routes_in_a_module_that_is_not_imported_beside_others(project: Project) -> None:
    project.write("chat/sockets.py", ROUTE)
    project.write("chat/consumers.py", ROUTE)
    assert warnings(project) == ["W014"]


def test_routes_in_a_module_that_is_imported(project: Project) -> None:
    project.write("chat/consumers.py", ROUTE)
    project.write("chat/sockets.py", "from chat import consumers\n")
    assert warnings(project) == []


def test_an_application_without_a_name(project: Project) -> None:
    project.write("chat/sockets.py", APPLICATION)
    assert warnings(project, *(f"chat.sockets:{name} has" for name in ("app", "inner", "other"))) == [
        "W002",
        "W013",
    ]


def test_an_application_that_is_named_and_what_is_mounted_in_it(project: Project) -> None:
    project.write("chat/sockets.py", APPLICATION)
    project.write("asgi.py", ASGI % '"chat.sockets:app"')
    text = project.manage("check").stderr
    assert re.findall(r"W013\) (\S+) has", text) == ["chat.sockets:other"]
