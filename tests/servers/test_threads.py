"""Sync dependencies with thread-bound resources, on real servers with both databases."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.servers.client import Raw, open_socket
from tests.servers.conftest import ROOT, UNMEASURED, Running, Server, in_turn, on_servers
from tests.sizes import size
from tests.test_database import running as running_postgresql

pytestmark = [pytest.mark.servers, pytest.mark.loops]

APP = "tests.servers.threads:application"
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "counted": {"BACKEND": "tests.servers.threads.CountedCache"},
}
CONNECTIONS = size("FASTWS_CONNECTIONS", 60, 200)
AT_A_TIME = 20


Database = dict[str, Any]


def environment(database: Database) -> dict[str, str]:
    return {"SETTINGS": json.dumps({"DATABASES": {"default": database}, "CACHES": CACHES})}


def prepare(database: Database) -> Database:
    """Create the tables and the users in a database."""
    subprocess.run(
        [sys.executable, "-c", PREPARE],
        check=True,
        cwd=ROOT,
        env={
            **os.environ,
            **UNMEASURED,
            **environment(database),
            "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings",
        },
    )
    return database


class Site:
    """A server with a database."""

    def __init__(self, running: Running, database: Database) -> None:
        self.running = running
        self.database = database

    def ask(self, path: str) -> Any:
        with open_socket(self.running, path) as socket:
            return json.loads(socket.recv(timeout=20))

    def connections(self, path: str, number: int = CONNECTIONS) -> list[Any]:
        """The answers to this many connections, with a limited number open at a time."""
        told: list[Any] = []
        while len(told) < number:
            with ExitStack() as stack:
                sockets = [stack.enter_context(Raw(self.running, path)) for _ in range(AT_A_TIME)]
                for socket in sockets:
                    socket.socket.settimeout(90)
                told += [json.loads(socket.accepted().data_frame()[1]) for socket in sockets]
                for socket in sockets:
                    socket.leave()
        return told

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.ask("/threads")
            time.sleep(0.1)

    def is_well(self) -> bool:
        """Whether dependencies of another route work in every thread of the pool."""
        return all(told == [[1, False]] for told in self.connections("/count", AT_A_TIME))

    def row(self) -> tuple[str, ...]:
        query = "SELECT first_name, last_name, email FROM auth_user WHERE username = 'counter'"
        if "sqlite3" in self.database["ENGINE"]:
            import sqlite3

            with closing(sqlite3.connect(self.database["NAME"])) as connection:
                return tuple(connection.execute(query).fetchone())
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.database["PORT"], user="postgres", dbname=self.database["NAME"]
        ) as connection:
            return tuple(connection.execute(query).fetchone())


PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create_user("counter")
User.objects.create_user("present")
"""


@pytest.fixture(scope="module")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Database:
    options = {"timeout": 60, "transaction_mode": "DEFERRED"}
    name = str(tmp_path_factory.mktemp("prepared") / "db")
    return prepare({"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options})


@pytest.fixture(scope="module")
def prepared_postgresql() -> Iterator[Database]:
    with running_postgresql() as server:
        execute(server.settings("postgres"), "CREATE DATABASE prepared")
        yield prepare(server.settings("prepared"))


def execute(database: Database, statement: str) -> None:
    import psycopg

    with psycopg.connect(
        host="127.0.0.1", port=database["PORT"], user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(statement)


numbers = count(1)


def own_postgresql(prepared: Database) -> Database:
    """A copy of the prepared database."""
    name = f"own{next(numbers)}"
    execute(prepared, f"CREATE DATABASE {name} TEMPLATE prepared")
    return {**prepared, "NAME": name}


on_every_database = in_turn("kind", {"sqlite": "sqlite", "postgresql": "postgresql"})


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    prepared: Database = request.getfixturevalue(f"prepared_{kind}")
    if kind == "postgresql":
        return own_postgresql(prepared)
    return {**prepared, "NAME": str(shutil.copy(prepared["NAME"], tmp_path / "db"))}


@pytest.fixture
def site(server: Server, database: Database) -> Site:
    """A server and a database for one test alone."""
    return Site(server.start(APP, env=environment(database)), database)


@pytest.fixture
def sqlite_site(server: Server, prepared_sqlite: Database) -> Site:
    return Site(server.shared(APP, env=environment(prepared_sqlite)), prepared_sqlite)


PATTERNS: dict[str, Any] = {
    "/atomic": [[True, True, 0]],
    "/raw": [[0]],
    "/cursor": [1],
    "/present": [1],
    "/failing": ["failing"],
    "/language": [["de", "Asia/Tokyo", "de"]],
    "/abandoned": ["abandoned"],
    "/manual": ["manual"],
    "/abandoned_by_a_generator": ["abandoned"],
}


def are_kept(names: list[str]) -> bool:
    """Whether a process has at most the threads that are kept: eight in the pool, eight without an owner."""
    return all(sum(name.startswith(kind) for name in names) <= 8 for kind in ("fastws-sync", "fastws-own"))


def last_lines_of_tracebacks(log: str) -> Counter[str]:
    return Counter(re.findall(r"^Traceback .*\n(?:\s.*\n|\n)*(\S.*)", log, re.M))


def other_threads(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(("fastws-sync", "fastws-own"))]


@pytest.mark.sized
@on_every_database
def test_two_hundred_connections_of_each_pattern_leave_the_process_as_it_was(site: Site) -> None:
    assert site.is_well()
    before = other_threads(site.ask("/threads"))
    for path, told in PATTERNS.items():
        assert site.connections(path) == [told] * CONNECTIONS, path
        assert site.is_well(), path
    assert site.ask("/language") == [["de", "Asia/Tokyo", "de"]]
    assert site.row() == ("committed", "written", "")
    # A thread that is not kept takes a moment to end.
    site.until(lambda: are_kept(site.ask("/threads")))
    assert other_threads(site.ask("/threads")) == before
    log = site.running.logs()
    assert last_lines_of_tracebacks(log) == {"LookupError: at the end": CONNECTIONS}
    for wrong in ("is locked", "ProgrammingError", "TransactionManagementError", "InterfaceError"):
        assert wrong not in log


@on_every_database
def test_two_hundred_open_transactions(site: Site) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(site.running, "/atomic")) for _ in range(200)]
        assert [json.loads(socket.recv(timeout=20)) for socket in sockets] == [[[True, True, 0]]] * 200
        assert site.is_well()
        for socket in sockets:
            socket.send("still here")
        assert {socket.recv(timeout=20) for socket in sockets} == {"still here"}
    assert site.is_well()


def test_generators_without_a_transaction_hold_no_connection(
    daphne: Server, prepared_postgresql: Database
) -> None:
    import psycopg

    database = {**own_postgresql(prepared_postgresql), "CONN_MAX_AGE": 600}
    site = Site(daphne.start(APP, env=environment(database)), database)
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(site.running, "/present")) for _ in range(60)]
        assert [json.loads(socket.recv(timeout=20)) for socket in sockets] == [[1]] * 60
        name, port = database["NAME"], database["PORT"]
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres") as own:
            others = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state = 'idle'"
            found = until(lambda: own.execute(others).fetchone()[0], lambda number: number <= 10)
            assert found <= 10


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 10) -> Any:
    import time

    deadline = time.monotonic() + seconds
    while not wanted(found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.mark.parametrize(("path", "told"), [("/locked", "locked"), ("/reentered", "mine")])
def test_a_lock_is_passed_from_socket_to_socket(sqlite_site: Site, path: str, told: str) -> None:
    def visit(_: int) -> Any:
        with open_socket(sqlite_site.running, path, open_timeout=30) as socket:
            return json.loads(socket.recv(timeout=30))

    with open_socket(sqlite_site.running, path) as first:
        assert json.loads(first.recv(timeout=20)) == [told]
        with ThreadPoolExecutor(20) as visitors:
            waiting = [visitors.submit(visit, number) for number in range(20)]
            assert sqlite_site.is_well()
            first.close()
            assert [visitor.result(30) for visitor in waiting] == [[told]] * 20
    assert sqlite_site.is_well()


def test_client_that_leaves_while_a_generator_is_entered(sqlite_site: Site) -> None:
    with open_socket(sqlite_site.running, "/locked") as first:
        first.recv(timeout=20)
        for _ in range(20):
            with Raw(sqlite_site.running, "/locked") as raw:
                raw.reset()
        assert sqlite_site.is_well()
    assert sqlite_site.ask("/locked") == ["locked"]
    assert sqlite_site.is_well()


def test_what_asgiref_carries_goes_both_ways(sqlite_site: Site) -> None:
    ask = sqlite_site.ask
    assert ask("/fr/seen") == [["fr", "middleware"]]
    assert ask("/fr/back") == ["fr", "middleware", "it", "it", "middleware"]
    assert ask("/seen") == [["en", "unset"]]


def test_thread_finds_the_way_back_to_the_loop(sqlite_site: Site) -> None:
    assert sqlite_site.ask("/fr/bridges") == [[True, True, "fr"]]


def test_caches_are_neither_made_for_each_call_nor_held_by_each_socket(sqlite_site: Site) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(sqlite_site.running, "/fr/cached")) for _ in range(50)]
        assert [json.loads(socket.recv(timeout=20)) for socket in sockets] == [["value"]] * 50
        number, again = sqlite_site.ask("/caches")
        assert number == again <= 8


def test_sync_iterator_stays_in_one_thread(sqlite_site: Site) -> None:
    assert sqlite_site.ask("/iterated") == [1]


@on_servers("daphne")
def test_tenant_goes_into_the_threads(server: Server, tmp_path: Path) -> None:
    database = prepare({"ENGINE": "tests.servers.tenants", "NAME": str(tmp_path / "db")})
    site = Site(server.start(APP, env=environment(database)), database)
    assert site.ask("/pooled_tenant") == ["public"] * 3
    with ExitStack() as stack:
        for number in range(20):
            for path, times in (("pooled_tenant", 3), ("held_tenant", 2)):
                socket = stack.enter_context(open_socket(site.running, f"/tenants/t{number}/{path}"))
                assert json.loads(socket.recv(timeout=20)) == [f"t{number}"] * times
        assert site.ask("/pooled_tenant") == ["public"] * 3
    ends = {f"ENDED FOR t{number}" for number in range(20)}
    assert (
        until(lambda: {end for end in ends if end in site.running.logs()}, lambda seen: seen == ends) == ends
    )
    assert site.ask("/tenant_of_all") == ["all"] * 3
