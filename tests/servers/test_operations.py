"""Operators and real servers: daphne and uvicorn with one Redis, stopped processes, and a failing Redis."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import websockets
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from websockets.sync.client import ClientConnection, connect

from fastws_compat.operations import Done, api, count, kick, listing, send, sockets, survey
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.client import Raw
from tests.servers.conftest import ROOT, UNMEASURED, Running, Server, in_turn, on_servers, wait_for
from tests.servers.test_metrics import fetch

pytestmark = [pytest.mark.servers, pytest.mark.redis]

APP = "tests.servers.operated:application"
LAYERS = {
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
BY_OPERATOR = "by an operator"


class Cluster:
    """Servers on one Redis, and the test's own process, which asks them."""

    def __init__(self, redis: RedisServer, backend: str, settings: Any) -> None:
        layer = {"BACKEND": LAYERS[backend], "CONFIG": {"hosts": redis.hosts}}
        settings.CHANNEL_LAYERS = {"default": layer}
        self._values: dict[str, Any] = {"CHANNEL_LAYERS": {"default": layer}}

    def configure(self, **values: Any) -> None:
        """Set values of FASTWS in the servers that are started from now on."""
        self._values["FASTWS"] = values

    @property
    def env(self) -> dict[str, str]:
        return {"SETTINGS": json.dumps(self._values)}

    def start(self, *servers: Server) -> list[Running]:
        """Start a process of each server, and wait until all answer."""
        started = [
            server.start(APP, settings="tests.servers.django_settings", env=self.env, ready=False)
            for server in servers
        ]
        wait_for(lambda: len(sockets().processes) == len(servers), 60)
        return started


def name(running: Running) -> str:
    return f"{socket.gethostname()}:{running.pid}"


class Limits:
    """asyncio as surveys see it, with a record of how long they are ready to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def timeout(self, seconds: float) -> asyncio.Timeout:
        self.seconds.append(seconds)
        return asyncio.timeout(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    limits = Limits()
    monkeypatch.setattr(survey, "asyncio", limits)
    return limits


clients = ExitStack()


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    with clients:
        yield


def open_socket(running: Running, path: str) -> ClientConnection:
    client = clients.enter_context(connect(running.url(path), compression=None, proxy=None))
    assert client.recv(timeout=20) == "ready"
    return client


def close_of(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(websockets.ConnectionClosed) as caught:
        while True:
            client.recv(timeout=20)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


@pytest.fixture(params=["pubsub", pytest.param("core", marks=pytest.mark.slow)])
def cluster(request: pytest.FixtureRequest, redis_server: RedisServer, settings: Any) -> Cluster:
    return Cluster(redis_server, request.param, settings)


def test_all_processes_are_asked(cluster: Cluster, daphne: Server, uvicorn: Server) -> None:
    running = cluster.start(daphne, daphne, uvicorn)
    page = sockets()
    assert (page.total, page.silent, page.local) == (0, [], False)
    assert page.processes == sorted(map(name, running))
    opened = [open_socket(each, f"/ws/{n}") for n, each in enumerate(running)]
    opened.append(open_socket(running[0], "/ws/0"))
    page = sockets(order="since")
    assert [row.path for row in page.rows] == ["/ws/0", "/ws/1", "/ws/2", "/ws/0"]
    assert [row.process for row in page.rows] == [name(running[n]) for n in (0, 1, 2, 0)]
    assert [row.server for row in page.rows] == ["daphne", "daphne", "uvicorn", "daphne"]
    assert (count(group="room.0"), count(route="/ws/{room}")) == (2, 4)
    assert sockets(limit=2, process=name(running[0])).matched == 2
    assert [row.path for row in sockets(search="/ws/2").rows] == ["/ws/2"]
    for row, client in zip(page.rows, opened, strict=True):
        assert send(row.id, {"n": row.path}) == Done(1, 1, [])
        assert json.loads(client.recv(timeout=20)) == {"n": row.path}
    assert kick(group="room.0", code=4403, reason="abuse") == Done(2, 1, [])
    assert [close_of(opened[n]) for n in (0, 3)] == [(4403, "abuse")] * 2
    assert kick(id=page.rows[1].id) == Done(1, 1, [])
    assert close_of(opened[1]) == (1012, "")
    assert kick(everything=True).count == 1
    assert close_of(opened[2]) == (1012, "")
    wait_for(lambda: sockets().total == 0)


@pytest.mark.django_db(transaction=True)
def test_the_admin_in_a_worker_without_a_loop(
    cluster: Cluster, redis_server: RedisServer, daphne: Server, uvicorn: Server, admin_user: User
) -> None:
    running = cluster.start(daphne, uvicorn)
    opened = [open_socket(each, f"/ws/{number % 2}") for number in range(3) for each in running]
    page = "/admin/fastws_operations/livesocket/"

    operator = Client()
    operator.force_login(admin_user)

    def found(**query: str) -> list[str]:
        listing.forget()
        rows = operator.get(page + "data/", query).json()["rows"]
        return [next(cell["text"] for cell in row["cells"] if cell["name"] == "process") for row in rows]

    assert sorted(found()) == sorted([*map(name, running)] * 3)
    assert found(process=name(running[0])) == [name(running[0])] * 3
    assert len(found(q="room.1")) == 2
    assert len(found(route="/ws/{room}", login="no", o="-messages")) == 6
    connections = redis_server.connections()
    with ThreadPoolExecutor(4) as threads:  # as a worker with threads
        assert list(threads.map(lambda _: len(sockets().rows), range(12))) == [6] * 12
    wait_for(lambda: redis_server.connections() <= connections + 4)  # each query closes its own
    confirmation = operator.post(f"{page}?group=room.1", {"action": "kick_all"}).content.decode()
    [selection] = re.findall(r'name="selection" value="([^"]+)"', confirmation)
    operator.post(page + "kick/", {"selection": selection, "code": "4403", "reason": "abuse"})
    assert [close_of(opened[n]) for n in (2, 3)] == [(4403, "abuse")] * 2
    assert "Closed 2 sockets in 2 processes." in operator.get(page).content.decode()
    assert len(found()) == 4


def test_stopped_process_is_named_and_obeys_no_old_kick(
    cluster: Cluster, daphne: Server, limits: Limits
) -> None:
    first, second = cluster.start(daphne, daphne)
    client, other = open_socket(first, "/ws/1"), open_socket(second, "/ws/2")
    assert sockets().total == 2
    first.signal(signal.SIGSTOP)
    try:
        limits.seconds.clear()
        page = sockets()
        # OPERATIONS_TIMEOUT is one second, and it waits to send, for the other process, and for this one.
        assert max(limits.seconds) <= 1
        assert len(limits.seconds) <= 3
        assert (page.total, page.silent) == (1, [name(first)])
        assert kick(everything=True) == Done(1, 1, [name(first)])
        assert close_of(other) == (1012, "")
        time.sleep(2.2)  # the kick is now older than OPERATIONS_TIMEOUT + 1 s
    finally:
        first.signal(signal.SIGCONT)
    wait_for(lambda: sockets().silent == [])
    client.send("still here")
    assert client.recv(timeout=20) == "still here"
    client.close()


def test_redis_that_fails(
    cluster: Cluster, redis_server: RedisServer, daphne: Server, limits: Limits
) -> None:
    [running] = cluster.start(daphne)
    client = open_socket(running, "/ws/1")
    redis_server.freeze()
    limits.seconds.clear()
    page = sockets()
    redis_server.thaw()
    assert max(limits.seconds) <= 1
    assert len(limits.seconds) <= 2  # to send the question, and for answers if Redis had room for it
    assert page.total == 0
    assert page.silent == [name(running)]
    wait_for(lambda: sockets().total == 1)
    redis_server.kill()
    page = sockets()
    assert page.unreached_since is not None
    assert kick(everything=True).silent == [name(running)]
    redis_server.start()
    wait_for(lambda: sockets().total == 1, 30)
    assert sockets().unreached_since is None
    client.send("nothing noticed")
    assert client.recv(timeout=20) == "nothing noticed"
    client.close()


# Kicks in every state, on both servers

# The frame that closes with 4403 and the reason "abuse".
CLOSE = b"\x88\x07\x11\x33abuse"


@pytest.fixture
def alone(server: Server, redis_server: RedisServer, settings: Any) -> Running:
    [running] = Cluster(redis_server, "pubsub", settings).start(server)
    return running


def test_kick_in_every_state(alone: Running) -> None:
    receiving, busy = open_socket(alone, "/ws/1"), open_socket(alone, "/busy")
    flooded, slow = Raw(alone, "/flood").accepted(), Raw(alone, "/slow")
    states = lambda: sorted(row.state for row in sockets().rows)  # noqa: E731
    wait_for(lambda: states() == ["handshaking", "open", "open", "open"])
    assert kick(everything=True, code=4403, reason="abuse").count == 4
    assert kick(everything=True).count == 0
    assert close_of(receiving) == (4403, "abuse")
    assert close_of(busy) == (4403, "abuse")
    assert slow.answer().startswith(b"HTTP/1.1 403 ")
    while CLOSE not in flooded.data:
        flooded.data += flooded.socket.recv(65536)
    assert flooded.data.endswith(CLOSE)
    assert flooded.data.count(CLOSE) == 1
    for each in (flooded, slow):
        each.socket.close()
    wait_for(lambda: sockets().total == 0)
    logs = alone.logs()
    assert logs.count(BY_OPERATOR) == 4
    assert "Traceback" not in logs


# Commands against servers


def manage(env: dict[str, str], *args: str, **options: Any) -> subprocess.Popen[str]:
    environ = {**os.environ, **env, "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings"}
    environ |= {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error::DeprecationWarning:fastws_compat"}
    command = [sys.executable, "-m", "django", *args]
    return subprocess.Popen(command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, **options)


@on_servers("daphne")
def test_connect(server: Server, tmp_path: Path) -> None:
    env = {"DATABASE_PATH": str(tmp_path / "site.sqlite3")}
    environ = {**os.environ, **UNMEASURED, **env, "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings"}
    prepared = [sys.executable, str(ROOT / "tests/servers/django_site.py")]
    subprocess.run(prepared, cwd=ROOT, env=environ, check=True, timeout=60, capture_output=True)
    with closing(sqlite3.connect(env["DATABASE_PATH"])) as database:
        [[before]] = database.execute("select count(*) from django_session")
    site = "tests.servers.django_site:application"
    running = server.start(site, settings="tests.servers.django_settings", env=env)
    args = ["ws_connect", "/members", "--user", "ann", "--url", running.http("")]
    talking = manage(env, *args, stdin=subprocess.PIPE)
    out, _ = talking.communicate("hello\n/ping\n/close 1000 bye\n", timeout=60)
    assert talking.returncode == 0, out
    assert out.startswith("HTTP/1.1 101 Switching Protocols")
    for text in ("< ann", "> hello", "pong after", "closed 1000 bye"):
        assert text in out
    refused = manage(env, "ws_connect", "/members", "--url", running.http(""), stdin=subprocess.DEVNULL)
    out, _ = refused.communicate(timeout=60)
    assert (refused.returncode, out.splitlines()[0]) == (2, "HTTP/1.1 401 Unauthorized")
    ended = manage(env, *args, stdin=subprocess.PIPE)
    assert ended.stdout is not None
    while "< ann" not in ended.stdout.readline():
        assert ended.poll() is None
    ended.send_signal(signal.SIGTERM)
    ended.communicate(timeout=60)
    assert ended.returncode == 128 + signal.SIGTERM
    with closing(sqlite3.connect(env["DATABASE_PATH"])) as database:
        assert database.execute("select count(*) from django_session").fetchall() == [(before,)]


@in_turn("cluster", {"core": "core", "pubsub": "pubsub"}, indirect=True)
def test_messages_are_watched_from_another_process(cluster: Cluster, server: Server) -> None:
    [running] = cluster.start(server)
    client = open_socket(running, "/ws/1")
    id, ann = sockets().rows[0].id, User(pk=1)

    def tap(action: str, **values: Any) -> dict[str, Any]:
        return async_to_sync(api.tap)(id, action, by=ann, spare=True, **values)

    def seen() -> list[tuple[str, str]]:
        return [(each["direction"], each["text"]) for each in tap("renew")["messages"]]

    assert tap("start")["matched"] == 1
    assert sockets().rows[0].tapped
    client.send("one")  # the endpoint was already waiting for it
    assert client.recv(timeout=20) == "one"
    assert seen() == [("in", "one"), ("out", "one")]
    client.send(b"\x01\x02")
    send(id, "by an operator")
    client.close(4001, "bye")
    wait_for(lambda: tap("renew").get("refused") == "gone")
    assert sockets().total == 0


def test_drain_and_back(server: Server, redis_server: RedisServer, settings: Any) -> None:
    cluster = Cluster(redis_server, "pubsub", settings)
    cluster.configure(HEALTH="/-/")
    [running] = cluster.start(server)
    client = open_socket(running, "/ws/1")
    assert fetch(running, "/-/ready") == (200, "ready")
    said = StringIO()
    call_command("ws_drain", "--process", name(running), "--wait", "20", stdout=said)
    assert said.getvalue() == "Draining: 1 process with 1 socket.\nNo sockets are left.\n"
    assert close_of(client) == (1012, "")
    assert fetch(running, "/-/ready") == (503, "draining")
    assert fetch(running, "/-/live")[0] == 200
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(running.url("/ws/1"), compression=None, proxy=None)
    assert refused.value.response.status_code == 503
    call_command("ws_drain", "--all", "--undo", stdout=said)
    assert "Back in service: 1 process with 0 sockets." in said.getvalue()
    assert fetch(running, "/-/ready") == (200, "ready")
    open_socket(running, "/ws/2").close()
