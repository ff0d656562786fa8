"""Everybody comes back at once: what a server works on, what it leaves waiting, and what that costs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from websockets.sync.client import ClientConnection

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server  # a fixture
from tests.servers.client import Raw
from tests.servers.conftest import ROOT, UNMEASURED, Running, Server, in_turn, on_servers
from tests.servers.test_django_users import SCRIPT, SETTINGS, Site
from tests.servers.test_django_users import prepared as prepared  # fixtures
from tests.servers.test_django_users import site as site
from tests.servers.test_tenants import Tenants
from tests.servers.test_tenants import prepared as prepared_tenants  # noqa: F401
from tests.test_database import PostgreSQL
from tests.test_database import postgresql as postgresql

pytestmark = pytest.mark.servers

APP = "tests.servers.storm:application"
SOCKETS = 300


def start(
    site: Site, server: Server, limits: dict[str, Any] = {}, options: Sequence[str] = (), **settings: Any
) -> Running:
    # daphne has 5 seconds of its own for each handshake, so a slow machine may work on few of them.
    limits = {"REVALIDATE_SECONDS": 0, "MAX_HANDSHAKES": 30, "HANDSHAKE_TIMEOUT": 60, **limits}
    return site.start(server, APP, options, SETTINGS=json.dumps({"FASTWS": limits, **settings}))


def page(running: Running, key: str | None = None) -> list[tuple[str, str]]:
    """What a page's socket sends with its handshake."""
    cookie = [] if key is None else [("Cookie", f"sessionid={key}")]
    return [("Host", f"127.0.0.1:{running.port}"), ("Origin", running.http("")), *cookie]


class Crowd:
    """Clients that all send their handshakes before any of them reads an answer."""

    def __init__(self, running: Running, stack: ExitStack) -> None:
        self.running = running
        self._stack = stack
        self.sockets: list[Raw] = []

    def come(self, path: str, keys: list[str]) -> Crowd:
        for key in keys:
            socket = Raw(self.running, path, page(self.running, key))
            socket.socket.settimeout(60)
            self.sockets.append(self._stack.enter_context(socket))
        return self

    def statuses(self) -> list[int]:
        return [int(socket.answer().split()[1]) for socket in self.sockets]

    def names(self) -> list[str]:
        return [socket.data_frame()[1].decode() for socket in self.sockets]


def open_control(site: Site, running: Running, stack: ExitStack) -> ClientConnection:
    return stack.enter_context(site.open(running, "/storm/control"))


def tell(control: ClientConnection, what: str) -> dict[str, list[str]]:
    control.send(what)
    answer: dict[str, list[str]] = json.loads(control.recv(timeout=60))
    return answer


@on_servers("daphne")
@pytest.mark.parametrize(
    ("path", "kinds"), [("/storm/members", 2), pytest.param("/storm/viewers", 4, marks=pytest.mark.slow)]
)
def test_hundreds_in_a_handful_of_queries(server: Server, site: Site, path: str, kinds: int) -> None:
    """All of them wait for the first query; a batch of some is followed by a batch of all others."""
    keys = json.loads(site.run("crowd"))
    options = ["--websocket_connect_timeout", "60"] if server.is_daphne else []
    running = start(site, server, {"MAX_HANDSHAKES": SOCKETS}, options)
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        assert site.status(running, path, "root") == 101  # what the first connection builds
        tell(control, "forget")
        tell(control, "hold")
        crowd = Crowd(running, stack).come(path, (keys * 2)[:SOCKETS])
        tell(control, f"release {SOCKETS}")
        assert crowd.statuses() == [101] * SOCKETS
        assert crowd.names() == [f"user{number % 200}" for number in range(SOCKETS)]
        queries = tell(control, "tell")["statements"]
        tables = {re.findall('FROM "([a-z_]+)', query)[0] for query in queries}
        assert tables >= {"django_session", "auth_user"}
        # Permissions are looked up once users are known: for the first, for one more, and for the rest.
        assert len(queries) <= 3 * kinds
    assert "Traceback" not in running.logs()


@pytest.mark.redis
@in_turn("engine", {engine: engine for engine in ("cached_db", "cache", "signed_cookies", "file")})
def test_each_session_engine(
    server: Server, site: Site, redis_server: RedisServer, tmp_path: Path, engine: str
) -> None:
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_server.url}
    settings = {
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "SESSION_FILE_PATH": str(tmp_path),
        "CACHES": {"default": cache},
    }
    users = ("ann", "bob", "eve", "staff", "root")
    sessions = json.loads(site.run("sessions", *users, SETTINGS=json.dumps(settings)))
    running = start(site, server, **settings)
    with ExitStack() as stack:
        keys = [*(sessions[user] for user in users), "not-the-key-of-a-session"]
        crowd = Crowd(running, stack).come("/storm/members", keys * 20)
        assert crowd.statuses() == [101, 101, 101, 101, 101, 401] * 20
        crowd.sockets = [socket for number, socket in enumerate(crowd.sockets) if number % 6 < 5]
        assert crowd.names() == list(users) * 20
    assert "Traceback" not in running.logs()


@on_servers("daphne")
def test_own_engine_and_backend_while_the_key_is_rotated(server: Server, site: Site) -> None:
    """A user whom the backend cannot look up is refused alone, whatever comes at the same time."""
    own = "tests.servers.own_sessions"
    backends = [f"{own}.Directory", "django.contrib.auth.backends.ModelBackend"]
    settings = {"SESSION_ENGINE": own, "AUTHENTICATION_BACKENDS": backends, "SECRET_KEY": "old"}
    users, may = ("ann", "bob", "eve", "staff", "root"), {"/storm/viewers": "root", "/staff": "staff root"}
    sessions = json.loads(site.run("sessions", *users, SETTINGS=json.dumps(settings)))
    running = start(site, server, **settings | {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"]})
    paths = ("/storm/members", "/storm/viewers", "/staff")
    with ExitStack() as stack:
        crowd, expected = Crowd(running, stack), []
        for number in range(SOCKETS):
            user, path = users[number % 5], paths[number // 5 % 3]
            crowd.come(path, [sessions[user]])
            allowed = 101 if user in may.get(path, "ann eve staff root").split() else 403
            expected.append(500 if user == "bob" else allowed)
        assert crowd.statuses() == expected
        accepted = [number for number, status in enumerate(expected) if status == 101]
        crowd.sockets = [crowd.sockets[number] for number in accepted]
        assert crowd.names() == [users[number % 5] for number in accepted]
    assert running.logs().count("Traceback") == SOCKETS // 5  # those of `bob`


def run_script(env: dict[str, str], *arguments: str) -> Any:
    """What a command of the site's script prints, for the database of these settings."""
    command = [sys.executable, SCRIPT, *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, check=True)
    return json.loads(done.stdout)


@on_servers("daphne")
def test_restart_of_the_database_refuses_nobody(server: Server, postgresql: PostgreSQL) -> None:
    """Each thread has kept a connection, which the database has dropped by the time of the next storm."""
    kept = {"default": postgresql.settings("postgres", CONN_MAX_AGE=None)}
    changes = json.dumps({"DATABASES": kept, "FASTWS": {"REVALIDATE_SECONDS": 0, "HANDSHAKE_TIMEOUT": 60}})
    env = {**UNMEASURED, "DJANGO_SETTINGS_MODULE": SETTINGS, "SETTINGS": changes, "DEBUG": "0"}
    run_script(env)
    keys = run_script(env, "crowd")
    running = server.start(APP, settings=SETTINGS, env=env)
    for path in ("/storm/viewers", "/storm/viewers", "/storm/members"):
        with ExitStack() as stack:
            assert Crowd(running, stack).come(path, keys).statuses() == [101] * len(keys)
        postgresql.restart()
    assert "refused" not in running.logs()


@on_servers("daphne")
def test_users_that_are_deleted_while_they_are_looked_up(server: Server, site: Site) -> None:
    keys = json.loads(site.run("crowd"))
    options = ["--websocket_connect_timeout", "60"] if server.is_daphne else []
    running = start(site, server, {"MAX_HANDSHAKES": SOCKETS}, options)
    deleted = "(SELECT id FROM auth_user WHERE username IN ('user3', 'user7'))"
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        tell(control, "hold")
        crowd = Crowd(running, stack).come("/storm/members", (keys * 2)[:SOCKETS])
        site.execute(f"DELETE FROM auth_user_groups WHERE user_id IN {deleted}")
        site.execute(f"DELETE FROM auth_user WHERE id IN {deleted}")
        tell(control, f"release {SOCKETS}")
        statuses = dict(enumerate(crowd.statuses()))
        assert {number: statuses.pop(number) for number in (3, 7, 203, 207)} == dict.fromkeys(
            (3, 7, 203, 207), 401
        )
        assert set(statuses.values()) == {101}
    assert "Traceback" not in running.logs()


@on_servers("daphne")
def test_tenants_that_come_together(server: Server, prepared_tenants: Tenants) -> None:  # noqa: F811
    """Users of the same key in two databases: each is found in its own."""
    running = prepared_tenants.start(server)
    with ExitStack() as stack:
        sockets = []
        for number in range(100):
            name = ("default", "blue")[number % 2]
            host = f"{name}.localhost:{running.port}"
            cookie = f"sessionid={prepared_tenants.sessions[name]}"
            headers = [("Host", host), ("Origin", f"http://{host}"), ("Cookie", cookie)]
            sockets.append(stack.enter_context(Raw(running, "/members", headers)))
        for socket in sockets:
            socket.socket.settimeout(60)
        assert [socket.accepted().data_frame()[1] for socket in sockets] == [b"default 1", b"blue 1"] * 50
    assert "Traceback" not in running.logs()


@in_turn("engine", {"together": None, "one by one": "tests.servers.own_sessions"})
def test_database_that_hangs_refuses_in_time(server: Server, site: Site, engine: str | None) -> None:
    """A lone handshake too, and sessions that are read one by one."""
    own = {} if engine is None else {"SESSION_ENGINE": engine}
    options = ["--websocket_connect_timeout", "60"] if server.is_daphne else []
    running = start(site, server, {"HANDSHAKE_TIMEOUT": 1}, options, **own)
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        tell(control, "hold")
        for count in (1, 3):
            crowd = Crowd(running, stack).come("/storm/members", [site.sessions["ann"]] * count)
            answers = [socket.answer() for socket in crowd.sockets]
            assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers), answers
            assert all(b"retry-after: " in answer.lower() for answer in answers), answers
        tell(control, "release 0")
    assert running.logs().count("its user was not found in 1 s") == 4


@on_servers("daphne")
def test_others_begin_in_the_order_of_their_arrival(server: Server, site: Site) -> None:
    running = start(site, server, {"MAX_HANDSHAKES": 3})
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        crowd = Crowd(running, stack)
        for name in "abcdefg":
            crowd.come(f"/storm/slow/{name}", [site.sessions["ann"]])
            if name in "abc":  # the first three find a place; the order of those that wait is the server's
                tell(control, f"wait {len(crowd.sockets)}")
        for count in range(4, 8):
            tell(control, "answer")
            assert tell(control, f"wait {count}")["begun"] == list("abcdefg"[:count])
        for _ in range(3):
            tell(control, "answer")
        assert crowd.statuses() == [101] * 7
    assert "Traceback" not in running.logs()


def test_pages_are_served_once_there_is_a_place(server: Server, site: Site) -> None:
    """A connection that waits in the kernel is accepted when a handshake is answered or refused."""
    running = start(site, server, {"MAX_HANDSHAKES": 2, "HANDSHAKE_TIMEOUT": 3})
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        crowd = Crowd(running, stack).come("/storm/slow/x", [site.sessions["ann"]] * 2)
        tell(control, "wait 2")
        with urlopen(Request(running.http("/")), timeout=30) as answer:
            assert answer.status == 200
        assert crowd.statuses() == [503, 503]
    assert "Traceback" not in running.logs()


@on_servers("daphne")
def test_time_for_an_answer_begins_with_the_work(server: Server, site: Site) -> None:
    """All of them together take longer than one may take: the server's own limits do not count either."""
    running = start(site, server, {"MAX_HANDSHAKES": 2, "HANDSHAKE_TIMEOUT": 4})
    with ExitStack() as stack:
        begun = time.monotonic()
        crowd = Crowd(running, stack).come("/storm/sleep/1.5", [site.sessions["ann"]] * 10)
        assert crowd.statuses() == [101] * 10
        assert time.monotonic() - begun > 6
    assert "Traceback" not in running.logs()


@on_servers("daphne")
def test_client_that_has_left_costs_no_query_and_no_endpoint(server: Server, site: Site) -> None:
    running = start(site, server, {"MAX_HANDSHAKES": 2})
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        Crowd(running, stack).come("/storm/slow/first", [site.sessions["ann"]] * 2)
        tell(control, "wait 2")
        with ExitStack() as leaving:
            Crowd(running, leaving).come("/storm/slow/gone", [site.sessions["bob"]] * 30)
        last = Crowd(running, stack).come("/storm/slow/last", [site.sessions["eve"]])
        tell(control, "forget")
        for _ in range(3):
            tell(control, "answer")
        told = tell(control, "wait 3")
        assert last.statuses() == [101]
        assert told["begun"] == ["first", "first", "last"]
        assert len([query for query in told["statements"] if "django_session" in query]) == 1
    assert "Traceback" not in running.logs()


@pytest.mark.loops
@on_servers("daphne")
def test_anonymous_client_that_has_left_the_backlog_costs_no_endpoint(server: Server, site: Site) -> None:
    """The kernel kept its connection, so it has not waited in the process."""
    running = start(site, server, {"MAX_HANDSHAKES": 2})
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        Crowd(running, stack).come("/storm/open/first", [""] * 2)
        tell(control, "wait 2")
        with ExitStack() as leaving:
            Crowd(running, leaving).come("/storm/open/gone", [""] * 30)
        last = Crowd(running, stack).come("/storm/open/last", [""])
        for _ in range(3):
            tell(control, "answer")
        assert tell(control, "wait 3")["begun"] == ["first", "first", "last"]
        assert last.statuses() == [101]
    assert "Traceback" not in running.logs()


def retry_after(socket: Raw) -> int:
    """The seconds after which a client that was refused for now may come again."""
    head = socket.answer().decode("latin-1")
    assert head.startswith("HTTP/1.1 503 ")
    return int(re.findall(r"(?im)^retry-after: (\d+)\r?$", head)[0])


@on_servers("daphne")
def test_refusals_say_when_to_come_back(server: Server, site: Site) -> None:
    running = start(site, server, {"MAX_CONNECTIONS": 1, "HANDSHAKE_TIMEOUT": 1})
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        tell(control, "forget")
        refused = Crowd(running, stack).come("/storm/members", [site.sessions["ann"]] * 3)
        assert all(1 <= retry_after(socket) <= 10 for socket in refused.sockets)
        # Refused before anything is looked up.
        assert tell(control, "tell")["statements"] == []
    slow = Crowd(start(site, server, {"HANDSHAKE_TIMEOUT": 1}), stack := ExitStack())
    with stack:
        slow.come("/storm/slow/x", [site.sessions["ann"]])
        assert all(1 <= retry_after(socket) <= 10 for socket in slow.sockets)


def test_server_that_stops_refuses_those_that_wait(daphne: Server, site: Site) -> None:
    """In the process with 503; in the kernel the connection is reset, which a proxy tries elsewhere."""
    running = start(site, daphne, {"MAX_HANDSHAKES": 2, "SHUTDOWN_GRACE": 1})
    with ExitStack() as stack:
        control = open_control(site, running, stack)
        crowd = Crowd(running, stack).come("/storm/slow/x", [site.sessions["ann"]] * 6)
        tell(control, "wait 2")
        running.signal()
        answers = []
        for socket in crowd.sockets:
            try:
                answers.append(socket.answer()[:12].decode())
            except ConnectionError:
                answers.append("")
        assert answers[:2] == ["HTTP/1.1 503"] * 2
        assert set(answers[2:]) <= {"HTTP/1.1 503", ""}
        assert running.wait() == 0
    assert "Traceback" not in running.logs()
