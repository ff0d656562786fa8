"""The ORM in sockets, without a test's transaction, on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import SyncToAsync

from fastws_compat.threads.orm import RECONNECTS, reconnect_after_errors
from tests.ports import free_port

SCRIPT = Path(__file__).parent / "databases" / "run.py"


def run(databases: dict[str, Any], script: str = "run.py") -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name(script)],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "DATABASES": json.dumps(databases)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "ok\n", done.stderr


def test_two_sqlite_databases(tmp_path: Path) -> None:
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 20}}
    run({alias: {**sqlite, "NAME": str(tmp_path / alias)} for alias in ("default", "other")})


def program(name: str) -> str:
    """A program of PostgreSQL; on Debian, those of the server are not in the PATH."""
    paths = [os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=os.pathsep.join(paths))
    if found is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    return found


@dataclass
class PostgreSQL:
    """A server for the tests that trusts every local client."""

    port: int
    restart: Callable[[], None]

    def settings(self, name: str, **more: Any) -> dict[str, Any]:
        engine = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "USER": "postgres"}
        return {**engine, "PORT": self.port, "NAME": name, **more}


@contextmanager
def running() -> Iterator[PostgreSQL]:
    """A new server, without data. The test is skipped if PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="fastws-postgresql-"))
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres"}
        shutil.chown(folder, "postgres")
    port = free_port()
    data = folder / "data"
    quiet: dict[str, Any] = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": folder,
        **user,
    }
    initdb = [program("initdb"), "--auth", "trust", "--username", "postgres", "--no-sync", "--pgdata", data]
    subprocess.run(initdb, check=True, **quiet)
    control = [program("pg_ctl"), "--pgdata", data, "-w"]

    def restart() -> None:
        subprocess.run([*control, "-m", "fast", "restart"], check=True, **quiet)

    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300"
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], check=True, **quiet)
    try:
        yield PostgreSQL(port, restart)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(folder)


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    with running() as server:
        yield server


def test_two_postgresql_databases(postgresql: PostgreSQL) -> None:
    import psycopg

    with psycopg.connect(
        host="127.0.0.1", port=postgresql.port, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute("CREATE DATABASE one")
        connection.execute("CREATE DATABASE two")
    kept = {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    run({alias: postgresql.settings(name, **kept) for alias, name in (("default", "one"), ("other", "two"))})


@pytest.mark.parametrize("how", ["get", "iterate"])
def test_restart_of_the_database_fails_one_call(postgresql: PostgreSQL, how: str) -> None:
    """The call that finds the connection lost fails; the next one gets a new connection."""
    databases = {"default": postgresql.settings("postgres", CONN_MAX_AGE=None)}
    process = subprocess.Popen(
        [sys.executable, SCRIPT.with_name("restart.py")],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "DATABASES": json.dumps(databases)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = []
    try:
        for restarts in (False, True, False, False):
            if restarts:
                postgresql.restart()
            process.stdin.write(f"{how}\n")
            process.stdin.flush()
            answers.append(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
    assert answers == ["1", '"OperationalError"', "1", "1"]


def test_schemas_of_tenants(postgresql: PostgreSQL) -> None:
    pytest.importorskip("django_tenants", reason="django-tenants is not installed")
    engine = {"ENGINE": "django_tenants.postgresql_backend"}
    run({"default": {**postgresql.settings("postgres"), **engine}}, "schemas.py")


def test_a_thread_that_connects_before_its_executor_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor of the async ORM starts its thread first, and then adds it to its threads."""

    def reconnects() -> bool:
        executor._threads.clear()
        connection = SimpleNamespace(ensure_connection=lambda: None)
        reconnect_after_errors(None, connection)
        return RECONNECTS in vars(connection)

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(1) as other:
        monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
        assert executor.submit(reconnects).result(10)
        assert not other.submit(reconnects).result(10)
