"""docs/nginx.conf, with only the ports, the names and the certificate replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from tests.servers.client import OPEN_TIMEOUT
from tests.servers.conftest import ROOT, Running, Server, free_port
from tests.servers.tls import certificate, client_context

pytestmark = pytest.mark.servers

CONFIGURATION = ROOT / "docs" / "nginx.conf"
FORGED = {
    "Daphne-Root-Path": "/ws",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "X-Real-IP": "203.0.113.9",
}


@contextmanager
def nginx(folder: Path, *backends: Running, balance: str = "", directives: str = "") -> Iterator[int]:
    """The port on which nginx serves TLS for the servers; `balance` is its balancing method."""
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        pytest.skip("nginx and openssl are needed: apt-get install nginx openssl")
    pem = certificate(folder)
    port, plain = free_port(), free_port()
    upstream = [balance, *(f"server 127.0.0.1:{backend.port};" for backend in backends)]
    text = CONFIGURATION.read_text()
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("server 127.0.0.1:8001;", "\n".join(upstream)),
        ("/etc/ssl/example.com.pem", str(pem)),
        ("/etc/ssl/example.com.key", str(pem)),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    text = re.sub(r"^http \{\n", f"http {{\naccess_log off;\n{directives}\n{paths}", text, flags=re.MULTILINE)
    file = folder / "nginx.conf"
    # If root starts it, its workers run as a user who may not write here.
    user = "user root;\n" if os.geteuid() == 0 else ""
    file.write_text(f"{user}daemon off;\npid {folder / 'pid'};\nerror_log {folder / 'error'};\n{text}")
    command = ["nginx", "-e", str(folder / "error"), "-p", str(folder), "-c", str(file)]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_for(port, process, folder / "output")
            yield port
        finally:
            process.terminate()
            process.wait(10)


def wait_for(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            through(port, "/nothing", open_timeout=2).close()
        except websockets.InvalidStatus:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"nginx did not come up:\n{output.read_text()}")


def through(port: int, path: str, **options: object) -> ClientConnection:
    """A socket through nginx."""
    return connect(
        f"wss://127.0.0.1:{port}{path}",
        ssl=client_context(),
        server_hostname="example.com",
        compression=None,
        proxy=None,
        **{"open_timeout": OPEN_TIMEOUT, **options},  # type: ignore[arg-type]
    )


def started(server: Server) -> Running:
    options = ["--proxy-headers"] if server.is_daphne else ["--forwarded-allow-ips", "127.0.0.1"]
    return server.start("tests.servers.proxied:app", *options)


def test_socket_through_the_documented_nginx(server: Server, tmp_path: Path) -> None:
    with nginx(tmp_path, started(server)) as port:
        with through(port, "/ws/echo") as client:
            for text in ("hello", "", "x" * 100_000):
                client.send(text)
                assert client.recv(timeout=10) == text
            client.send(b"\x00\xff")
            assert client.recv(timeout=10) == b"\x00\xff"
        with through(port, "/ws/close") as client:
            with pytest.raises(websockets.ConnectionClosed) as caught:
                client.recv(timeout=10)
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "through nginx")
        with pytest.raises(websockets.InvalidStatus) as refused:
            through(port, "/ws/deny")
        assert refused.value.response.status_code == 401


def test_headers_of_a_client_are_not_trusted(server: Server, tmp_path: Path) -> None:
    with nginx(tmp_path, started(server)) as port:
        with through(port, "/ws/scope", additional_headers=FORGED) as client:
            scope = json.loads(client.recv(timeout=10))
    assert scope["client"] == "127.0.0.1"
    assert scope["root_path"] == ""
    assert scope["headers"].get("x-forwarded-proto") == "https"
    assert scope["headers"].get("x-forwarded-for") == "127.0.0.1"
    assert scope["headers"].get("host") == f"127.0.0.1:{port}"
    assert not {"x-forwarded-host", "x-real-ip", "daphne-root-path"} & scope["headers"].keys()


def test_slashes_reach_the_application(server: Server, tmp_path: Path) -> None:
    with nginx(tmp_path, started(server)) as port:
        with pytest.raises(websockets.InvalidStatus) as refused:
            through(port, "//ws/echo")
    assert refused.value.response.status_code == 403


def test_page_of_a_site_on_another_port_than_443_is_its_own(server: Server, tmp_path: Path) -> None:
    settings = {
        "ALLOWED_HOSTS": ["127.0.0.1"],
        "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
    }
    running = server.start("tests.servers.checked:application", env={"SETTINGS": json.dumps(settings)})
    with nginx(tmp_path, running) as port:
        assert port != 443
        with through(port, "/ws/echo", origin=f"https://127.0.0.1:{port}") as client:
            client.send("hello")
            assert client.recv(timeout=10) == "hello"
        for foreign in ("https://127.0.0.1", f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port + 1}"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                through(port, "/ws/echo", origin=foreign)
            assert refused.value.response.status_code == 403
