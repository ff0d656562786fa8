"""The ORM in sockets, without the help of a test's transaction: on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "databases" / "run.py"


def run(databases: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT],
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
    """A program of PostgreSQL's; Debian keeps those of the server out of the PATH."""
    paths = [os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=os.pathsep.join(paths))
    if found is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    return found


@pytest.fixture
def postgresql() -> Iterator[int]:
    """The port of a PostgreSQL server of this test's own, which trusts everybody on loopback."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="fastws-postgresql-"))
    # PostgreSQL refuses to run as root.
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres"}
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
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
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300"
    subprocess.run([*control, "-l", folder / "log", "-o", options, "start"], check=True, **quiet)
    try:
        yield port
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(folder)


def test_two_postgresql_databases(postgresql: int) -> None:
    import psycopg

    with psycopg.connect(
        host="127.0.0.1", port=postgresql, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute("CREATE DATABASE one")
        connection.execute("CREATE DATABASE two")
    server = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": postgresql,
        "USER": "postgres",
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
    run({"default": {**server, "NAME": "one"}, "other": {**server, "NAME": "two"}})
