"""Transactions that sync code leaves open in a thread of the pool are rolled back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, json, logging, os, sys
import django
from django.conf import settings
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    FASTWS={"THREADS": 1},
)
django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from django.contrib.auth.models import User
from fastws_compat.concurrency import contextmanager_in_threadpool, run_in_threadpool

call_command("migrate", verbosity=0)
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("fastws_compat").addHandler(handler)

def atomic():
    transaction.atomic().__enter__()
    User.objects.create_user("lost")

def broken():
    atomic()
    transaction.set_rollback(True)

def manual():
    transaction.set_autocommit(False)
    User.objects.create_user("lost")

def closed():
    atomic()
    connection.close()

def state():
    return [connection.in_atomic_block, User.objects.count(), transaction.get_autocommit()]

async def main():
    for leave in (atomic, broken, manual, closed):
        await run_in_threadpool(leave)
        assert await run_in_threadpool(state) == [False, 0, True], leave
    async with contextmanager_in_threadpool(transaction.atomic()):
        assert await run_in_threadpool(state) == [False, 0, True]
    await run_in_threadpool(User.objects.create_user, "kept")
    assert await run_in_threadpool(state) == [False, 1, True]

asyncio.run(main())
print(json.dumps(lines))
"""


@pytest.mark.parametrize("name", ["file", ":memory:"])
def test_transaction_left_open_is_rolled_back_before_the_next_call(name: str, tmp_path: Path) -> None:
    database = str(tmp_path / name) if name == "file" else "file:shared?mode=memory&cache=shared"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "DATABASE": database},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    line = "Sync code left a transaction open on the database 'default'; it was rolled back."
    assert json.loads(done.stdout) == [line] * 4
