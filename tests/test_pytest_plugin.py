"""The fixtures, as used by a project's own tests."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[1]

SOCKETS = """
from django.contrib.auth.models import User
from fastws_compat import FastAPI, WebSocket
from fastws_compat.groups import Group

app = FastAPI()


@app.websocket("/ws/me")
async def me(websocket: WebSocket):
    await websocket.accept()
    user = await User.objects.filter(username="ann").afirst()
    await websocket.send_json([websocket.user.username, user and user.username])


@app.websocket("/ws/room")
async def room(websocket: WebSocket):
    group = Group("room")
    await websocket.accept()
    await websocket.join(group)
    async for text in websocket.iter_text():
        await group.asend({"text": text})
"""

SETTINGS = """
SECRET_KEY = "tests-only"
USE_TZ = True
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "project_settings"
ASGI_APPLICATION = "project_asgi.application"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = [
    "daphne", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "fastws_compat"
]
urlpatterns = []
"""

ASGI = """
from fastws_compat.asgi import get_asgi_application

application = get_asgi_application("project_sockets:app")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A Django project in an empty directory, whose tests load the plugin like the entry point does."""
    pytester.makepyfile(project_settings=SETTINGS, project_asgi=ASGI, project_sockets=SOCKETS)
    options = "-p no:anyio -p no:fastws -p fastws_compat.pytest_plugin"
    pytester.makeini(
        "[pytest]\nDJANGO_SETTINGS_MODULE = project_settings\nfilterwarnings = error\n"
        f"pythonpath = . {ROOT}\naddopts = {options}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    return pytester


def test_fixtures(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from django.contrib.auth.models import User
        from fastws_compat.groups import Group

        pytestmark = pytest.mark.django_db

        def test_nobody(ws_client):
            with ws_client.websocket_connect("/ws/me") as socket:
                assert socket.receive_json() == ["", None]

        def test_logged_in(ws_client):
            ws_client.force_login(User.objects.create_user("ann"))
            with ws_client.websocket_connect("/ws/me") as socket:
                assert socket.receive_json() == ["ann", "ann"]

        def test_rows_are_gone():
            assert not User.objects.exists()

        def test_messages_of_a_socket(ws_client, group_messages):
            with ws_client.websocket_connect("/ws/room") as socket:
                socket.send_text("hello")
                assert socket.receive_json() == {"text": "hello"}
            [sent] = group_messages
            assert (sent.group, sent.message) == (Group("room"), {"text": "hello"})

        def test_messages_of_sync_code(group_messages):
            Group("one").send("first")
            Group("two").send(b"second")
            assert [(sent.group.name, sent.message) for sent in group_messages] == [
                ("one", "first"), ("two", b"second")
            ]

        def test_messages_on_commit(group_messages, django_capture_on_commit_callbacks):
            with django_capture_on_commit_callbacks(execute=True):
                Group("one").send_on_commit("later")
                assert group_messages == []
            assert [sent.message for sent in group_messages] == ["later"]

        def test_nothing_sent(group_messages):
            assert group_messages == []
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=7)


def test_fixtures_are_described(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines(
        ["ws_client*", "*A client for the project's ASGI application*", "group_messages*"]
    )


def test_plugin_needs_no_django_until_a_fixture_is_used(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_subprocess(
        *("-W", "error", "-p", "no:anyio", "-p", "no:django"),
        *("-p", "no:fastws", "-p", "fastws_compat.pytest_plugin"),
    )
    result.assert_outcomes(passed=1)


def test_entry_point_names_the_plugin() -> None:
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    [name] = entry_points["pytest11"].values()
    plugin = import_module(name)
    assert all(hasattr(plugin, fixture) for fixture in ("ws_client", "group_messages"))
