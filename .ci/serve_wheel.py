"""Serves a socket from the installed package with daphne, talks to it, and looks for the data files."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import files, metadata, version
from pathlib import Path

import fastws_compat

NEEDED = [
    "py.typed",
    "static/fastws/live.js",
    "static/fastws/live.d.ts",
    "schema/connect.js",
    "schema/connect.d.ts",
]
SETTINGS = """
SECRET_KEY = "x"
DEBUG = True
INSTALLED_APPS = ["daphne", "fastws_compat", "django.contrib.staticfiles"]
STATIC_URL = "static/"
ROOT_URLCONF = "site_urls"
"""
ASGI = """
import os
from fastws_compat.asgi import get_asgi_application
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
application = get_asgi_application("site_sockets:app")
"""
SOCKETS = """
from fastws_compat import FastAPI, WebSocket
app = FastAPI()

@app.websocket("/ws/{name}")
async def echo(websocket: WebSocket, name: str, times: int = 1):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{name}: {text * times}")
"""
URLS = """
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
urlpatterns = staticfiles_urlpatterns()
"""


def check_files() -> None:
    """What a wheel may lack: data files, the type marker, the license."""
    home = Path(fastws_compat.__file__).parent
    assert Path(sys.prefix) in home.parents, f"{home} is not the installed package"
    missing = [name for name in NEEDED if not (home / name).is_file()]
    shipped = {str(file) for file in files("fastws-compat") or ()}
    sources = Path(__file__).resolve().parents[1]
    for path in (sources / "fastws_compat").rglob("*.*"):  # whatever the repository has besides Python
        name = str(path.relative_to(sources))
        if path.is_file() and path.suffix not in (".py", ".pyc") and name not in shipped:
            missing.append(name)
    assert not missing, f"not in the wheel: {missing}"
    about = metadata("fastws-compat")
    assert about["License-Expression"] == "MIT"
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
    assert version("fastws-compat") == fastws_compat.__version__


def connect(port: int, until: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def ask(port: int, request: str) -> bytes:
    with connect(port, time.monotonic() + 30) as line:
        line.sendall(request.replace("\n", "\r\n").encode())
        return line.recv(65536)


def talk(port: int) -> bytes:
    """The answer to one masked text frame, with nothing but the standard library."""
    key = base64.b64encode(os.urandom(16)).decode()
    with connect(port, time.monotonic() + 30) as line:
        line.sendall(
            f"GET /ws/ann?times=2 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = line.recv(65536)
        assert answer.startswith(b"HTTP/1.1 101"), answer
        line.sendall(b"\x81\x82\0\0\0\0hi")
        return line.recv(65536)


def main() -> None:
    check_files()
    with tempfile.TemporaryDirectory() as folder:
        sources = {"site_settings": SETTINGS, "site_asgi": ASGI, "site_sockets": SOCKETS, "site_urls": URLS}
        for name, text in sources.items():
            Path(folder, f"{name}.py").write_text(text)
        daphne = subprocess.Popen(
            [sys.executable, "-m", "daphne", "-p", "0", "site_asgi:application"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert daphne.stderr is not None
            shown = ""
            while not (found := re.search(r"Listening on TCP address 127\.0\.0\.1:(\d+)", shown)):
                line = daphne.stderr.readline()
                assert line, f"daphne did not start:\n{shown}"
                shown += line
            port = int(found[1])
            assert talk(port) == b"\x81\x09ann: hihi", "the socket does not echo"
            script = ask(
                port, f"GET /static/fastws/live.js HTTP/1.1\nHost: 127.0.0.1:{port}\nConnection: close\n\n"
            )
            assert script.startswith(b"HTTP/1.1 200"), script[:200]
        finally:
            daphne.terminate()
            daphne.wait(20)
    print(f"fastws_compat {fastws_compat.__version__}: the wheel serves a socket and a script.")


main()
