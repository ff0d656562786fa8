"""The commands of the guide to operations, as printed, against the demo on daphne and Redis."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.conftest import ROOT

pytestmark = [pytest.mark.servers, pytest.mark.redis, pytest.mark.slow]

GUIDE = (ROOT / "docs/howto/operations.md").read_text()


class Terminal:
    """Starts the commands of the guide with the Redis server, the database and the port of this test."""

    def __init__(self, redis_server: RedisServer, folder: Path) -> None:
        self.port = free_port()
        hidden = ("DEBUG", "ALLOWED_HOSTS", "DJANGO_SETTINGS_MODULE")
        self.environ = {key: value for key, value in os.environ.items() if key not in hidden}
        self.environ |= {"REDIS_URL": redis_server.url, "DATABASE_PATH": str(folder / "demo.sqlite3")}
        self.environ |= {"PYTHONUNBUFFERED": "1"}

    @contextmanager
    def open(self, command: str) -> Iterator[subprocess.Popen[str]]:
        assert command.startswith("python manage.py ")
        words = [sys.executable, *shlex.split(command)[1:]]
        if "demo" in words:
            words += ["--port", str(self.port)]
        if "ws_connect" in words:
            words += ["--url", f"http://127.0.0.1:{self.port}"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(words, cwd=ROOT, env=self.environ, text=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, command: str) -> str:
        with self.open(command) as process:
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        return out


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    read = []
    while text not in (line := process.stdout.readline()):
        read.append(line)
        assert line, "".join(read)


def test_the_commands_of_the_guide(redis_server: RedisServer, tmp_path: Path) -> None:
    terminal = Terminal(redis_server, tmp_path)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) for line in block.splitlines()]
    demo, connect, send, top, kick, drain, undo = (
        line.removeprefix("REDIS_URL=redis://127.0.0.1:6379/0 ") for line in lines if "manage.py" in line
    )
    with terminal.open(demo) as server:
        read_until(server, "/ws/ops ->")
        with terminal.open(connect) as client:
            read_until(client, '< {"type":"pong"}')
            assert terminal.run(send) == "Sent to typing.1: 1 member in 1 process.\n"
            read_until(client, '< {"type":"typing","user":"nobody"}')
            row = terminal.run(top).splitlines()[1].split()
            assert row[1:3] == ["/ws/chat/{slug}", "1"]
            [shown] = json.loads(terminal.run(top.replace("--once", "--json")))["rows"]
            assert (shown["route"], shown["open"]) == ("/ws/chat/{slug}", 1)
            assert "Closed 1 socket in 1 process." in terminal.run(kick)
            read_until(client, "closed 4403 abuse")
            assert client.wait(60) == 3
        assert terminal.run(drain) == "Draining: 1 process with 0 sockets.\nNo sockets are left.\n"
        with terminal.open(connect) as client:
            out, _ = client.communicate(timeout=60)
            assert client.returncode == 2
            assert out.startswith("HTTP/1.1 503 ")
        assert terminal.run(undo) == "Back in service: 1 process with 0 sockets.\n"
        with terminal.open(connect) as client:
            read_until(client, '< {"type":"pong"}')
            out, _ = client.communicate("/close 1000 bye\n", timeout=60)
            assert (client.returncode, out.splitlines()[-1].split(" ", 1)[1]) == (0, "closed 1000 bye")
