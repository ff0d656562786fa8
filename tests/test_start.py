"""The first five minutes: follow the page on a new project, step by step."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.test_tutorial import ROOT, manage

START = (ROOT / "docs" / "start.md").read_text()
TRY = """
from fastws_compat.testclient import TestClient
from mysite.asgi import application
with TestClient(application).websocket_connect("ws://localhost/ws/hello/ann") as socket:
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

    shown = block("$ python manage.py check", "console")
    checked, routes = shown.split("$ python manage.py ws_routes\n")
    assert manage(project, "check") == checked.partition("\n")[2]
    assert manage(project, "ws_routes") == routes.partition("$")[0]
    assert "ann says hello" in manage(project, "shell", typed=TRY)
    assert "`ann says hello`" in START
