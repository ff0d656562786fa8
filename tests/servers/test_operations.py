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
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import websockets
from asgiref.sync import async_to_sync
from channels.layers import channel_layers
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import ClientConnection, connect

from fastws_compat.operations import Done, api, count, kick, listing, send, sockets, survey
from fastws_compat.operations.line import GROUP
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.servers.client import Raw
from tests.servers.conftest import ROOT, UNMEASURED, Running, Server, in_turn, wait_for
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
        self._database: dict[str, str] = {}

    def configure(self, **values: Any) -> None:
        """Set values of FASTWS in the servers that are started from now on."""
        self._values["FASTWS"] = values

    def with_urls(self, module: str) -> None:
        """Set the URLs of the servers that are started from now on."""
        self._values["ROOT_URLCONF"] = module

    @property
    def env(self) -> dict[str, str]:
        return {"SETTINGS": json.dumps(self._values), **self._database}

    def prepare(self, database: Path) -> dict[str, str]:
        """Create the users of `django_site` in a database; returns the keys of their sessions."""
        self._database = {"DATABASE_PATH": str(database)}
        environ = {**os.environ, **UNMEASURED, **self.env}
        environ["DJANGO_SETTINGS_MODULE"] = "tests.servers.django_settings"
        command = [sys.executable, str(ROOT / "tests/servers/django_site.py")]
        made = subprocess.run(command, cwd=ROOT, env=environ, check=True, timeout=60, capture_output=True)
        keys: dict[str, str] = json.loads(made.stdout)
        return keys

    def start(self, *servers: Server, app: str = APP) -> list[Running]:
        """Start a process of each server, and wait until all answer."""
        started = [
            server.start(app, settings="tests.servers.django_settings", env=self.env, ready=False)
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


def gathered(running: Running) -> dict[str, dict[str, float]]:
    """The samples of each process, by the name of the sample, from the metrics of all processes."""
    status, text = fetch(running, "/metrics/sockets?all=1")
    assert status == 200
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            assert labels.get("process"), sample
            name = f"{sample.name} {labels.get('route', '')}".strip()
            found.setdefault(labels["process"], {})[name] = sample.value
    return found


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_metrics_of_all_processes_while_one_of_them_stops(
    number: signal.Signals, daphne: Server, uvicorn: Server, redis_server: RedisServer, settings: Any
) -> None:
    """What it has counted is missing, which is a gap and no fall; the others are there."""
    cluster = Cluster(redis_server, "pubsub", settings)
    cluster.with_urls("tests.servers.gathered")
    first, second = cluster.start(daphne, uvicorn)
    for each in (first, second):
        open_socket(each, f"/ws/{each.pid}")
    names = {name(first), name(second)}
    found = gathered(first)
    assert {*found} == names
    assert gathered(second).keys() == names
    for each in names:
        assert found[each]["fastws_connections /ws/{room}"] == 1
        assert found[each]["fastws_connections_opened_total /ws/{room}"] == 1
    second.signal(number)
    try:
        for _ in range(3):  # the first of them waits for it
            assert {*gathered(first)} == {name(first)}
    finally:
        second.signal(signal.SIGCONT if number == signal.SIGSTOP else 0)
    if number == signal.SIGSTOP:
        wait_for(lambda: gathered(first).keys() == names)
        assert gathered(first)[name(second)]["fastws_connections_opened_total /ws/{room}"] == 1


def times_of(work: Callable[[Any], Any], items: Iterable[Any]) -> list[tuple[float, Any]]:
    """Do work on all items at the same time; each result with the time at which it was there."""

    def do(item: Any) -> tuple[float, Any]:
        result = work(item)
        return time.time(), result

    chosen = list(items)
    with ThreadPoolExecutor(len(chosen)) as threads:
        return list(threads.map(do, chosen))


async def asked_at(work: Callable[[], Any], questions: int) -> tuple[Any, list[float]]:
    """The result of work in a thread, and the times of the questions that it sends to the processes."""
    layer = channel_layers.make_backend("default")
    channel = await layer.new_channel()
    await layer.group_add(GROUP, channel)
    try:
        result = await asyncio.to_thread(work)
        asked = [await asyncio.wait_for(layer.receive(channel), 20) for _ in range(questions)]
        await layer.group_discard(GROUP, channel)
    finally:
        await (layer.close_pools() if hasattr(layer, "close_pools") else layer.flush())
    return result, [question["at"] for question in asked]


OPERATORS = 12


def test_all_operators_are_answered_at_once_while_a_process_is_silent(
    cluster: Cluster, daphne: Server, tmp_path: Path, settings: Any
) -> None:
    """In a server and in a worker without a loop."""
    cluster.configure(OPERATIONS_TIMEOUT=4)
    settings.FASTWS = {**settings.FASTWS, "OPERATIONS_TIMEOUT": 4}
    root = cluster.prepare(tmp_path / "site.sqlite3")["root"]
    stopped, admin = cluster.start(daphne, daphne)
    open_socket(admin, "/ws/1")
    data = admin.http("/admin/fastws_operations/livesocket/data/?q=")

    def poll(search: int) -> list[str]:
        request = urllib.request.Request(f"{data}{search}", headers={"Cookie": f"sessionid={root}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            warnings: list[str] = json.load(response)["warnings"]
            return warnings

    def look(search: int) -> list[str]:
        page, _ = listing.ask(listing.Query(str(search), {}, "-since"), personal=True)
        return page.silent

    def check(work: Callable[[int], Any], searches: list[int], answer: Any) -> None:
        answers, asked = asyncio.run(asked_at(lambda: times_of(work, searches), OPERATORS))
        assert [found for _, found in answers] == [answer] * len(searches)
        assert max(asked) < min(at for at, _ in answers)  # nobody waits for the answer of somebody else

    assert [found for _, found in times_of(poll, range(OPERATORS))] == [[]] * OPERATORS
    stopped.signal(signal.SIGSTOP)
    try:
        polled = [*range(100, 100 + OPERATORS), 100, 100]
        check(poll, polled, [f"No answer from {name(stopped)}; its sockets are not listed."])
        check(look, [*range(OPERATORS)], [name(stopped)])
    finally:
        stopped.signal(signal.SIGCONT)


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

# The frame that closes with 4403 and the reason "abuse", and the client's answer to it.
CLOSE, REPLY = b"\x88\x07\x11\x33abuse", b"\x88\x82\0\0\0\0\x11\x33"
STATES = ("receiving", "busy", "held", "ahead", "flood", "handshaking")


@pytest.fixture
def alone(server: Server, redis_server: RedisServer, settings: Any) -> Running:
    [running] = Cluster(redis_server, "pubsub", settings).start(server)
    return running


def until(client: Raw, end: bytes) -> None:
    """Read until the data ends with `end`, or all that the server sends."""
    while not client.data.endswith(end) and (data := client.socket.recv(65536)):
        client.data += data


def test_kick_in_every_state(alone: Running) -> None:
    with ExitStack() as stack:
        raw = {name: stack.enter_context(Raw(alone, f"/{name}")) for name in (*STATES, "closing")}
        for name in ("receiving", "busy", "held", "flood", "ahead", "closing"):
            raw[name].accepted()
        raw["ahead"].socket.sendall(b"\x81\x81\0\0\0\0a" * 3)
        for name in ("receiving", "busy", "held", "ahead"):
            until(raw[name], b"\x81\x05ready")
        raw["held"].socket.sendall(b"\x81\x81\0\0\0\0a")
        until(raw["closing"], b"\x88\x02\x11\x31")
        states = lambda: sorted(row.state for row in sockets().rows if row.path != "/closing")  # noqa: E731
        wait_for(lambda: states() == ["handshaking", *["open"] * 5])
        assert kick(everything=True, code=4403, reason="abuse").count == 6
        assert kick(everything=True).count == 0
        assert raw["handshaking"].answer().startswith(b"HTTP/1.1 403 ")
        for name in STATES[:-1]:
            until(raw[name], CLOSE)
            raw[name].socket.sendall(REPLY)
            assert raw[name].rest().endswith(CLOSE), name
            assert raw[name].data.count(CLOSE) == 1, name
        raw["closing"].socket.sendall(b"\x88\x82\0\0\0\0\x11\x31")
        assert raw["closing"].rest() == b"\x88\x02\x11\x31"
    wait_for(lambda: sockets().total == 0)
    wait_for(lambda: alone.logs().count("CLEANUP") == 7)
    logs = alone.logs()
    for name in STATES:
        assert logs.count(f"CLEANUP /{name}\n") == logs.count(f"DISCONNECT /{name} 4403\n") == 1, name
    assert "DISCONNECT /closing 4" not in logs
    assert logs.count(BY_OPERATOR) == len(STATES)
    assert "Traceback" not in logs


# Many processes


CROWD = {f"web-{number}:1" for number in range(120)}


@pytest.fixture
def crowd(request: pytest.FixtureRequest, redis_server: RedisServer, settings: Any) -> Iterator[None]:
    """120 processes on the core layer, as far as an asker can tell; the parameter is the layer's capacity."""
    Cluster(redis_server, "core", settings)
    settings.FASTWS = {"OPERATIONS_TIMEOUT": 5}  # one process plays all of them
    command = [sys.executable, "-m", "tests.servers.crowd", redis_server.url, str(request.param)]
    process = subprocess.Popen(
        [*command, *CROWD], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()
        process.wait(20)


@pytest.mark.parametrize("crowd", [100, pytest.param(10, marks=pytest.mark.slow)], indirect=True)
def test_many_processes_on_the_core_layer(crowd: None) -> None:
    heard: set[str] = set()

    def all_are_heard() -> bool:
        heard.update(sockets().processes)
        return heard == CROWD

    wait_for(all_are_heard, 60)
    page = sockets(limit=100)
    assert {*page.processes} | {*page.silent} == CROWD
    assert page.total == 2 * len(page.processes)
    assert len(page.rows) == 100


# Commands against servers


def manage(env: dict[str, str], *args: str, **options: Any) -> subprocess.Popen[str]:
    environ = {**os.environ, **env, "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings"}
    environ |= {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error::DeprecationWarning:fastws_compat"}
    command = [sys.executable, "-m", "django", *args]
    return subprocess.Popen(command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, **options)


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


def test_drain_of_an_application_that_is_served_alone(
    server: Server, redis_server: RedisServer, settings: Any
) -> None:
    """Without `get_asgi_application` there are no probes, but handshakes are refused too."""
    cluster = Cluster(redis_server, "pubsub", settings)
    [running] = cluster.start(server, app="tests.servers.operated:app")
    client = open_socket(running, "/ws/1")
    said = StringIO()
    call_command("ws_drain", "--process", name(running), "--wait", "20", stdout=said)
    assert close_of(client) == (1012, "")
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(running.url("/ws/1"), compression=None, proxy=None)
    assert refused.value.response.status_code == 503
    call_command("ws_drain", "--all", "--undo", stdout=said)
    open_socket(running, "/ws/2").close()


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


class Storm:
    """Clients that come back as soon as they are refused or closed."""

    def __init__(self, running: Running, count: int) -> None:
        self._url, self._count = running.url("/ws/storm"), count
        # The number of acceptances and of refusals since the last `clear`, by client.
        self.accepted, self.refused = Counter[int](), Counter[int]()
        # The codes of closes, and the statuses of refusals.
        self.ends: set[int | None] = set()
        self._done = threading.Event()

    def clear(self) -> None:
        self.accepted.clear()
        self.refused.clear()

    def stop(self) -> None:
        self._done.set()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        await asyncio.gather(*map(self._come_back, range(self._count)))

    async def _come_back(self, number: int) -> None:
        while not self._done.is_set():
            try:
                async with websockets.connect(self._url, compression=None, proxy=None) as client:
                    self.accepted[number] += 1
                    while not self._done.is_set():
                        with suppress(TimeoutError):
                            await asyncio.wait_for(client.recv(), 0.2)
            except websockets.ConnectionClosed as closed:
                self.ends.add(None if closed.rcvd is None else closed.rcvd.code)
            except websockets.InvalidStatus as refused:
                self.ends.add(refused.response.status_code)
                self.refused[number] += 1


def test_drain_while_everybody_comes_back(server: Server, redis_server: RedisServer, settings: Any) -> None:
    cluster, count = Cluster(redis_server, "pubsub", settings), 30
    cluster.configure(MAX_HANDSHAKES=2)  # so that most of them wait for their turn
    [running] = cluster.start(server)
    storm = Storm(running, count)
    with ThreadPoolExecutor(1) as threads:
        weather = threads.submit(storm.run)
        try:
            wait_for(lambda: len(storm.accepted) == count)
            said = StringIO()
            drain = ["ws_drain", "--process", name(running), "--wait", "20"]
            call_command(*drain, "--over", "0.5", stdout=said)
            assert said.getvalue() == f"Draining: 1 process with {count} sockets.\nNo sockets are left.\n"
            storm.clear()
            wait_for(lambda: len(storm.refused) == count)
            assert not storm.accepted
            call_command(*drain, stdout=said)
            assert "Draining: 1 process with 0 sockets.\nNo sockets are left.\n" in said.getvalue()
            call_command("ws_drain", "--all", "--undo", stdout=said)
            wait_for(lambda: len(storm.accepted) == count)
        finally:
            storm.stop()
        weather.result(60)
    assert storm.ends == {1012, 503}
    assert "Traceback" not in running.logs()
