"""The page for users of Channels, followed on a project like that of Channels' own tutorial."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tests.test_docs import BLOCK
from tests.test_tutorial import ROOT, manage

PAGE = (ROOT / "docs" / "channels.md").read_text()
BLOCKS = [dedent(body) for _, body in BLOCK.findall(PAGE)]
ROUTING = """
from django.urls import re_path

from . import consumers

websocket_urlpatterns = [re_path(r"ws/chat/(?P<room_name>\\w+)/$", consumers.ChatConsumer.as_asgi())]
"""
SETTINGS = """
INSTALLED_APPS = ["daphne", "chat", "fastws_compat", *INSTALLED_APPS]
ASGI_APPLICATION = "mysite.asgi.application"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
"""
TRY = """
from django.core.management import call_command
from fastws_compat.testclient import TestClient
from mysite.asgi import application
call_command("check")
call_command("ws_routes")
client = TestClient(application, headers={"host": "localhost"})
with client.websocket_connect("/ws/hello/ann") as socket:
    socket.send_text("hello")
    print(socket.receive_text())

with client.websocket_connect("/ws/chat/lobby/") as socket:
    socket.send_json({"message": "from a consumer"})
    print(socket.receive_text())

"""


def block(containing: str) -> str:
    [body] = [body for body in BLOCKS if containing in body]
    return body


def test_first_function_beside_consumers(tmp_path: Path) -> None:
    start = [sys.executable, "-m", "django", "startproject", "mysite"]
    subprocess.run(start, cwd=tmp_path, check=True, timeout=60)
    project = tmp_path / "mysite"
    (project / "chat").mkdir()
    for name, content in {
        "chat/__init__.py": "",
        "chat/consumers.py": block("class ChatConsumer"),
        "chat/routing.py": ROUTING,
        "chat/sockets.py": block('@websocket("/ws/hello/{name}")'),
        "mysite/asgi.py": block("fallback=URLRouter(websocket_urlpatterns)"),
    }.items():
        (project / name).write_text(content)
    with (project / "mysite" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)

    shown = manage(project, "shell", typed=TRY)
    for found in ("no issues", "chat.sockets:hello", "ann says hello", '{"message": "from a consumer"}'):
        assert found in shown
