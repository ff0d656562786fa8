"""Django's users on real servers: refusals, and logins that end in one process and in two."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import closing as closing_connection
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import websockets
from django.contrib.auth.hashers import make_password
from websockets.sync.client import ClientConnection, connect

from tests.origins import HOSTS, ORIGINS, SITE
from tests.redis_server import RedisServer, wait_for_subscriber
from tests.redis_server import redis_server as redis_server  # a fixture
from tests.servers.client import OPEN_TIMEOUT, Raw
from tests.servers.conftest import ROOT, UNMEASURED, Running, Server, on_servers
from tests.sizes import size

pytestmark = [pytest.mark.servers, pytest.mark.unmeasured]

APP = "tests.servers.django_site:application"
SETTINGS = "tests.servers.django_settings"
SCRIPT = Path(__file__).with_name("django_site.py")
DEMOTE = "UPDATE auth_user SET is_staff = 0 WHERE username = 'staff'"


@dataclass
class Site:
    """A database with users and their sessions."""

    env: dict[str, str]
    sessions: dict[str, str]

    def start(self, server: Server, app: str = APP, options: Sequence[str] = (), **env: str) -> Running:
        env = {**self.env, "DEBUG": "0", **env}
        return server.start(app, *options, settings=SETTINGS, env=env)

    def run(self, *arguments: str, **env: str) -> str:
        """Run a command of the site's script in a separate process."""
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments],
            cwd=ROOT,
            env={**os.environ, **UNMEASURED, **self.env, **env, "DJANGO_SETTINGS_MODULE": SETTINGS},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def execute(self, statement: str) -> None:
        """Change the database without Django."""
        with closing_connection(sqlite3.connect(self.env["DATABASE_PATH"], timeout=20)) as database:
            database.execute(statement)
            database.commit()

    def open(self, running: Running, path: str, user: str | None = None, **headers: str) -> ClientConnection:
        """A socket opened by a page: with the Origin and the cookie that a browser sends."""
        sent = {"Origin": f"http://127.0.0.1:{running.port}"}
        if user is not None:
            sent["Cookie"] = f"sessionid={self.sessions[user]}"
        sent |= headers
        origin: Any = sent.pop("Origin") or None
        return connect(
            running.url(path),
            additional_headers=sent,
            origin=origin,
            open_timeout=OPEN_TIMEOUT,
            compression=None,
            proxy=None,
        )

    def raw(self, running: Running, path: str, user: str) -> Raw:
        """Like `open`, for a crowd: such a client takes a tenth of the time."""
        cookie = ("Cookie", f"sessionid={self.sessions[user]}")
        page = [("Host", f"127.0.0.1:{running.port}"), ("Origin", running.http(""))]
        return Raw(running, path, [*page, cookie]).accepted()

    def status(self, running: Running, path: str, user: str | None = None, **headers: str) -> int:
        """The status of the handshake."""
        try:
            with self.open(running, path, user, **headers):
                return 101
        except websockets.InvalidStatus as refusal:
            return refusal.response.status_code

    def post(self, running: Running, path: str, user: str, **fields: str) -> None:
        token = "a" * 32
        cookie = f"sessionid={self.sessions[user]}; csrftoken={token}"
        headers = {"Cookie": cookie, "X-CSRFToken": token}
        with urlopen(Request(running.http(path), urlencode(fields).encode(), headers), timeout=10) as page:
            assert page.status == 200

    def log_out(self, running: Running, user: str) -> None:
        self.post(running, "/logout/", user)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("site") / "site.sqlite3"
    env = {k: v for k, v in os.environ.items() if k != "REDIS_URL"}
    env |= {"DATABASE_PATH": str(path), "DJANGO_SETTINGS_MODULE": SETTINGS, **UNMEASURED}
    done = subprocess.run(
        [sys.executable, SCRIPT], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return path, json.loads(done.stdout)


@pytest.fixture
def site(prepared: tuple[Path, dict[str, str]], tmp_path: Path) -> Site:
    path, sessions = prepared
    copy = Path(shutil.copy(path, tmp_path / "site.sqlite3"))
    return Site({"DATABASE_PATH": str(copy)}, sessions)


def closing(client: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes, long before the next check of all logins."""
    with pytest.raises(websockets.ConnectionClosed) as caught:
        while True:
            client.recv(timeout=10)
    close = caught.value.rcvd
    assert close is not None
    return close.code, close.reason


def test_a_permission_is_checked_again_for_each_message(server: Server, site: Site) -> None:
    running = site.start(server)

    def order(client: ClientConnection) -> Any:
        client.send('{"text":"go"}')
        return json.loads(client.recv(timeout=20))

    with site.open(running, "/commands", "staff") as client:
        assert order(client) == {"text": "staff: go"}
        site.execute(DEMOTE)
        assert order(client) == {"type": "error", "status": 403, "detail": "Forbidden"}
    with site.open(running, "/commands", Origin="") as client:
        assert order(client)["status"] == 401


def test_refused_users(server: Server, site: Site) -> None:
    running = site.start(server)
    users = (None, "ann", "staff")
    assert [site.status(running, "/anybody", user) for user in users] == [101, 101, 101]
    assert [site.status(running, "/members", user) for user in users] == [401, 101, 101]
    assert [site.status(running, "/staff", user) for user in users] == [401, 403, 101]
    assert [site.status(running, "/viewers", user) for user in users] == [401, 403, 403]
    assert [site.status(running, "/named/bob", user) for user in users] == [401, 101, 101]
    assert [site.status(running, "/named/nobody", user) for user in users] == [401, 404, 404]

    assert site.status(running, "/members", "ann", Origin="") == 403
    assert site.status(running, "/anybody", Origin="") == 101
    with site.open(running, "/session", "ann") as client:
        assert client.recv(timeout=10) == "1"
    with site.open(running, "/session", "ann") as client:
        assert client.recv(timeout=10) == "2"
    assert "Traceback" not in running.logs()


def handshake(running: Running, *headers: tuple[str, str]) -> int:
    with Raw(running, "/anybody", list(headers)) as client:
        return int(client.answer().split()[1])


@on_servers("daphne")
def test_table_of_origins(server: Server, site: Site) -> None:
    running = site.start(server, SETTINGS=json.dumps(SITE))
    credentials = {
        "session cookie": [("Cookie", f"sessionid={site.sessions['ann']}")],
        "token": [("Authorization", "Bearer token")],
        "nothing": [],
    }
    answers, expected = {}, {}
    for sent, headers in credentials.items():
        for number, host in enumerate(HOSTS):
            for origin, allowed in ORIGINS.items():
                case = origin, host, sent
                answers[case] = handshake(running, ("Host", host), ("Origin", origin), *headers)
                expected[case] = 101 if number in allowed else 403
            without = None, host, sent
            answers[without] = handshake(running, ("Host", host), *headers)
            expected[without] = 403 if host == "evil.example" or sent == "session cookie" else 101
    assert answers == expected
    assert "Traceback" not in running.logs()


def test_repeated_origin(server: Server, site: Site) -> None:
    running = site.start(server)
    own = "Origin", f"http://127.0.0.1:{running.port}"
    # uvicorn responds itself, before it calls the application.
    assert handshake(running, own, own) == (403 if server.is_daphne else 400)


def test_logout_ends_the_sockets_of_the_session(server: Server, site: Site) -> None:
    running = site.start(server)
    with site.open(running, "/members", "ann") as ann, site.open(running, "/members", "bob") as bob:
        assert (ann.recv(timeout=10), bob.recv(timeout=10)) == ("ann", "bob")
        site.log_out(running, "ann")
        code, _ = closing(ann)
        bob.send("still here")
        assert (code, bob.recv(timeout=10)) == (4401, "still here")
    assert site.status(running, "/members", "ann") == 401


def test_a_session_that_a_page_deletes_ends_its_sockets(server: Server, site: Site) -> None:
    running = site.start(server, SETTINGS=json.dumps({"ROOT_URLCONF": "tests.servers.deleting"}))
    with site.open(running, "/members", "ann") as ann, site.open(running, "/members", "bob") as bob:
        assert (ann.recv(timeout=10), bob.recv(timeout=10)) == ("ann", "bob")
        site.post(running, "/delete/", "staff", key=site.sessions["ann"])
        code, _ = closing(ann)
        bob.send("still here")
        assert (code, bob.recv(timeout=10)) == (4401, "still here")


def test_login_of_somebody_else_ends_the_sockets_of_the_session(server: Server, site: Site) -> None:
    running = site.start(server)
    site.execute(f"UPDATE auth_user SET password = '{make_password('secret')}' WHERE username = 'staff'")
    with site.open(running, "/members", "ann") as ann, site.open(running, "/members", "bob") as bob:
        assert (ann.recv(timeout=10), bob.recv(timeout=10)) == ("ann", "bob")
        site.post(running, "/admin/login/", "ann", username="staff", password="secret", next="/")
        code, _ = closing(ann)
        bob.send("still here")
        assert (code, bob.recv(timeout=10)) == (4401, "still here")
    assert site.status(running, "/members", "ann") == 401


@on_servers("daphne")
def test_logout_ends_the_sockets_of_a_session_in_a_cookie(server: Server, site: Site) -> None:
    engine = {"SETTINGS": '{"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}'}
    running = site.start(server, **engine)
    for browser in ("here", "there"):
        site.sessions = {**site.sessions, browser: site.run("login", "ann", **engine).strip()}
    with site.open(running, "/members", "here") as here, site.open(running, "/members", "there") as there:
        assert (here.recv(timeout=10), there.recv(timeout=10)) == ("ann", "ann")
        site.log_out(running, "here")
        assert closing(here)[0] == 4401
        there.send("still here")
        assert there.recv(timeout=10) == "still here"


def test_change_in_the_admin_is_seen_at_once(server: Server, site: Site) -> None:
    running = site.start(server)
    with site.open(running, "/members", "ann") as ann, site.open(running, "/members", "bob") as bob:
        assert (ann.recv(timeout=10), bob.recv(timeout=10)) == ("ann", "bob")
        chosen = {"action": "delete_selected", "_selected_action": "1", "post": "yes"}
        site.post(running, "/admin/auth/user/", "root", **chosen)
        code, _ = closing(ann)
        bob.send("still here")
        assert (code, bob.recv(timeout=10)) == (4401, "still here")
    assert "could not be revalidated" not in running.logs()


def test_change_outside_of_django_is_seen_in_a_round(server: Server, site: Site) -> None:
    running = site.start(server, SETTINGS='{"FASTWS": {"REVALIDATE_SECONDS": 0.2}}')
    with site.open(running, "/staff", "staff") as staff, site.open(running, "/members", "bob") as bob:
        assert (staff.recv(timeout=10), bob.recv(timeout=10)) == ("staff", "bob")
        site.execute(DEMOTE)
        assert closing(staff) == (4403, "")
        bob.send("still here")
        assert bob.recv(timeout=10) == "still here"


ROUND = ["django_session", "auth_user", "auth_user_user_permissions", "auth_user_groups"]
QUERIES = {
    "django_session": 'FROM "django_session" WHERE',
    "auth_user": 'FROM "auth_user" WHERE "auth_user"."id" IN (',
    "auth_user_user_permissions": '"auth_user_user_permissions"."user_id" IN (',
    "auth_user_groups": '"auth_user_groups"."user_id" IN (',
}


TABS = size("FASTWS_TABS", 1, 5)


class Crowd:
    """Sockets of two hundred users, whose route requires a permission of their group."""

    def __init__(self, site: Site, daphne: Server, stack: ExitStack) -> None:
        allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= allowed < 4096:  # the new server has the same number of them
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most) if most >= 0 else 4096, most))
        keys = json.loads(site.run("crowd"))
        running = site.start(
            daphne,
            app="tests.servers.django_queries:application",
            SETTINGS='{"FASTWS": {"REVALIDATE_SECONDS": 0}}',
        )
        page = [("Host", f"127.0.0.1:{running.port}"), ("Origin", running.http(""))]
        self.sockets = [
            stack.enter_context(Raw(running, "/viewers", [*page, ("Cookie", f"sessionid={key}")])).accepted()
            for key in keys
            for _ in range(TABS)
        ]
        self.names = [socket.data_frame()[1].decode() for socket in self.sockets]
        self._told = stack.enter_context(connect(running.url("/statements"), proxy=None))

    def act(self, action: str) -> None:
        self._told.send(action)
        assert self._told.recv(timeout=30) == '"done"'

    @property
    def queries(self) -> list[str]:
        """The queries since the action: those of a round by name, and all others in full."""
        self._told.send("tell")
        statements = json.loads(self._told.recv(timeout=30))
        return [
            next((name for name, part in QUERIES.items() if part in statement), statement)
            for statement in statements
        ]


@pytest.mark.sized
def test_a_thousand_sockets_in_four_queries(daphne: Server, site: Site) -> None:
    with ExitStack() as stack:
        crowd = Crowd(site, daphne, stack)
        assert crowd.names == [f"user{number}" for number in range(200) for _ in range(TABS)]

        # A signal for one user, then one for all users. Messages from clients wait for the decision.
        for action in ("save_user", "widen_group"):
            crowd.act(action)
            crowd.sockets[0].send(1, b"still there")
            assert crowd.sockets[0].data_frame() == (1, b"still there")
            found = crowd.queries
            assert (found[-4:], [name for name in found if name in ROUND]) == (ROUND, ROUND)

        # Without a signal, the sockets close in the next round.
        crowd.act("begin_rounds")
        site.execute(
            "DELETE FROM auth_user_groups WHERE user_id IN "
            "(SELECT id FROM auth_user WHERE username = 'user199')"
        )
        assert {socket.close_frame()[0] for socket in crowd.sockets[-TABS:]} == {4403}
        found = crowd.queries
        assert len(found) >= 4
        assert found == list(islice(cycle(ROUND), len(found)))

        crowd.act("close_group")
        assert {socket.close_frame()[0] for socket in crowd.sockets[:-TABS]} == {4403}


def test_database_that_is_down_refuses_with_one_line(server: Server, site: Site) -> None:
    running = site.start(server, DATABASE_PATH="/nonexistent/site.sqlite3")
    assert site.status(running, "/members", "ann") == 503
    assert site.status(running, "/anybody") == 101
    lines = [line for line in running.logs().splitlines() if line.startswith("LOG ")]
    assert len(lines) == 1
    assert "the user cannot be identified (OperationalError: unable to open database file)" in lines[0]
    assert "Traceback" not in running.logs()


@pytest.mark.redis
@on_servers("daphne")
def test_login_that_ends_in_another_process(server: Server, site: Site, redis_server: RedisServer) -> None:
    layer = {"REDIS_URL": redis_server.url}
    here, there = site.start(server, **layer), site.start(server, **layer)
    with (
        site.open(here, "/members", "ann") as ann,
        site.open(here, "/members", "bob") as bob,
        site.open(here, "/members", "eve") as eve,
    ):
        assert [client.recv(timeout=10) for client in (ann, bob, eve)] == ["ann", "bob", "eve"]
        wait_for_subscriber(redis_server.url)
        site.log_out(there, "ann")
        code, _ = closing(ann)
        assert code == 4401
        site.run("disconnect", "bob", **layer)
        assert closing(bob) == (4401, "by hand")
        site.run("deactivate", "eve", **layer)
        assert closing(eve)[0] == 4401
    assert "Traceback" not in here.logs() + there.logs()
