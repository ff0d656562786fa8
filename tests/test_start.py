"""The first five minutes: follow the page on a new project, step by step."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.test_tutorial import ROOT, manage

START = (ROOT / "docs" / "start.md").read_text()
# What a browser with the session cookie of another project gets before and after `migrate`.
TRY = """
from django.core.management import call_command
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from mysite.asgi import application
client = TestClient(application, cookies={"sessionid": "x" * 32})
try:
    client.websocket_connect("ws://localhost/ws/hello/ann").__enter__()
except WebSocketDenialResponse as refused:
    print(refused.status_code)

call_command("migrate", verbosity=0)
with client.websocket_connect("ws://localhost/ws/hello/ann") as socket:
    socket.send_text("hello")
    print(socket.receive_text())

"""


def block(start: str, language: str = "python") -> str:
    """The only block of the page that starts with this text."""
    [source] = re.findall(rf"^```{language}\n({re.escape(start)}.*?)^```$", START, re.MULTILINE | re.DOTALL)
    return str(source)


def test_start(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite"], cwd=tmp_path, check=True, timeout=60
    )
    project = tmp_path / "mysite"
    (project / "mysite" / "sockets.py").write_text(block("from fastws_compat import FastAPI, WebSocket"))
    (project / "mysite" / "asgi.py").write_text(block("import os"))
    settings = project / "mysite" / "settings.py"
    apps = re.sub(
        r"INSTALLED_APPS = \[.*?\n\]\n", block("INSTALLED_APPS"), settings.read_text(), flags=re.DOTALL
    )
    settings.write_text(apps + block("ASGI_APPLICATION"))

    shown = block("$ python manage.py migrate --verbosity 0", "console")
    checked, routes = re.split(r"^\$ python manage.py (?:check|ws_routes)\n", shown, flags=re.MULTILINE)[1:]
    assert manage(project, "check") == checked
    assert manage(project, "ws_routes") == routes.partition("$")[0]
    tried = manage(project, "shell", typed=TRY)
    for found in ("503", "no such table: django_session", "ann says hello"):
        assert found in tried
        assert found in START
