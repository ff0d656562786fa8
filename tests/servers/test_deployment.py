"""The guide to deployments without dropped clients, as printed: a held socket, nginx and two processes."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import websockets
from django.core.management import call_command
from websockets.asyncio.client import ClientConnection, connect
from websockets.sync.client import ClientConnection as SyncConnection

from fastws_compat.operations import sockets
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.conftest import ROOT, Server, python_path
from tests.servers.test_nginx import nginx, through
from tests.servers.test_operations import Cluster, name

pytestmark = [pytest.mark.servers, pytest.mark.slow]

GUIDE = (ROOT / "docs/howto/draining.md").read_text()
CLIENTS = 100
# Passes fd 3 to the command as systemd does, and becomes the command: the variables name the process itself.
ACTIVATE = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='site.socket', LISTEN_PID=str(os.getpid())); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


def documented(server: Server) -> list[str]:
    """The command of the guide that serves fd 3."""
    if server.is_daphne:
        found = re.search(
            r"^ExecStart=/srv/mysite/.venv/bin/(daphne --fd 3 --proxy-headers )mysite.asgi:application$",
            GUIDE,
            re.M,
        )
    else:
        found = re.search(r"`(uvicorn --fd 3)` works too", GUIDE)
    assert found is not None
    return ["-m", *shlex.split(found[1])]


@contextmanager
def activated(server: Server, held: socket.socket, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server as the service of a socket unit."""
    environ = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    environ |= {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, *documented(server), "tests.servers.measured:application"]
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", ACTIVATE, str(held.fileno()), *command],
            env=environ,
            cwd=ROOT,
            pass_fds=[held.fileno()],
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


async def hello(url: str) -> ClientConnection:
    """A client that has opened a socket and got an answer."""
    client = await connect(url, open_timeout=60, compression=None, proxy=None)
    await client.send("hello")
    assert await asyncio.wait_for(client.recv(), 60) == "hello"
    return client


async def come_back(client: ClientConnection, url: str) -> None:
    """Open another socket as soon as the server has closed this one."""
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await asyncio.wait_for(client.recv(), 60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    await (await hello(url)).close()


async def restart(server: Server, held: socket.socket, folder: Path) -> None:
    """Restart a server with clients that come back while no process accepts."""
    url = f"ws://127.0.0.1:{held.getsockname()[1]}/rooms/a"
    with activated(server, held, folder) as old:
        clients = await asyncio.gather(*(hello(url) for _ in range(CLIENTS)))
        old.send_signal(signal.SIGTERM)
        returning = [asyncio.create_task(come_back(client, url)) for client in clients]
        assert await asyncio.to_thread(old.wait, 60) in (0, -signal.SIGTERM)
        # A probe of a load balancer waits in the kernel's queue like the clients.
        reader, writer = await asyncio.open_connection(*held.getsockname())
        writer.write(b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    with activated(server, held, folder) as new:
        assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await asyncio.gather(*returning)
        assert new.poll() is None


def test_no_client_is_refused_while_a_held_socket_changes_hands(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as held:
        asyncio.run(restart(server, held, tmp_path))


@pytest.mark.redis
def test_no_client_of_nginx_sees_that_a_process_drains(
    daphne: Server, redis_server: RedisServer, settings: Any, tmp_path: Path
) -> None:
    [directive] = re.findall(r"^- nginx: `(proxy_next_upstream [^`]*;)`", GUIDE, re.M)
    cluster = Cluster(redis_server, "pubsub", settings)
    first, second = cluster.start(daphne, daphne)
    with nginx(tmp_path, first, second, directives=directive) as port, ExitStack() as stack:

        def arrive() -> SyncConnection:
            client = stack.enter_context(through(port, "/ws/1", open_timeout=20))
            assert client.recv(timeout=20) == "ready"
            return client

        for _ in range(4):
            arrive()
        assert {row.process for row in sockets().rows} == {name(first), name(second)}
        call_command("ws_drain", "--process", name(first), "--wait", "20", stdout=StringIO())
        for _ in range(10):
            arrive()
        assert {row.process for row in sockets().rows} == {name(second)}
