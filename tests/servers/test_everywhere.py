"""Messages to groups from every kind of code in a Django project; the members are in two other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection

from tests.redis_server import running as running_redis
from tests.servers.client import open_socket
from tests.servers.conftest import ROOT, Running, launch

pytestmark = [pytest.mark.servers, pytest.mark.redis]

SETTINGS_MODULE = "tests.servers.django_settings"
SETTINGS = {
    "INSTALLED_APPS": [
        "daphne",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "fastws_compat",
        "tests.servers.shop",
    ],
    "ROOT_URLCONF": "tests.servers.shop.urls",
    "MIDDLEWARE": [],
}
TIMEOUT = 15


class Shop:
    """Two daphne processes of one site, on one Redis and one database."""

    def __init__(self, env: dict[str, str], redis: str) -> None:
        self.env = env
        self.redis = redis
        self.processes: list[Running] = []

    def start(self) -> None:
        for _ in range(2):
            running = launch(
                "daphne", "wsproject.asgi:application", [], SETTINGS_MODULE, self.env, ready=True
            )
            self.processes.append(running)

    def get(self, path: str) -> None:
        """A request to the first process."""
        with urlopen(self.processes[0].http(path), timeout=TIMEOUT):
            pass

    def manage(self, *arguments: str) -> None:
        """A separate process."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")

    @contextmanager
    def listeners(self) -> Iterator[Listeners]:
        with ExitStack() as stack:
            sockets = [stack.enter_context(open_socket(running, "/ws/shop")) for running in self.processes]
            assert [socket.recv(TIMEOUT) for socket in sockets] == ["joined", "joined"]
            yield Listeners(sockets)


class Listeners:
    """A socket in each process."""

    def __init__(self, sockets: list[ClientConnection]) -> None:
        self.sockets = sockets

    def hear(self, *messages: Any) -> None:
        """Both receive exactly these messages in this order."""
        for socket in self.sockets:
            assert [json.loads(socket.recv(TIMEOUT)) for _ in messages] == [*messages]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with running_redis() as redis:
        env = {**os.environ, "REDIS_URL": redis.url, "SETTINGS": json.dumps(SETTINGS)}
        env |= {"DATABASE_PATH": str(tmp_path_factory.mktemp("shop") / "sqlite3")}
        env |= {"DJANGO_SETTINGS_MODULE": SETTINGS_MODULE}
        site = Shop(env, redis.url)
        try:
            site.manage("migrate", "--verbosity", "0")
            site.start()
            yield site
        finally:
            for running in site.processes:
                running.stop()
    for running in site.processes:
        assert "Traceback" not in running.logs()


def test_a_sync_view(shop: Shop) -> None:
    with shop.listeners() as listeners:
        shop.get("/sync")
        listeners.hear({"from": "a sync view"})


def test_an_async_view(shop: Shop) -> None:
    with shop.listeners() as listeners:
        shop.get("/async")
        listeners.hear({"from": "an async view"})


def test_a_signal_of_a_transaction_that_is_committed_or_rolled_back(shop: Shop) -> None:
    with shop.listeners() as listeners:
        shop.get("/customers/nobody")
        shop.get("/customers/ann")
        listeners.hear({"saving": "nobody"}, {"saving": "ann"}, {"customer": "ann"})


def test_a_management_command(shop: Shop) -> None:
    with shop.listeners() as listeners:
        shop.manage("tell", '"from a command"')
        listeners.hear("from a command")


def test_the_shell(shop: Shop) -> None:
    code = "from fastws_compat.groups import Group; Group('shop').send({'from': 'the shell'})"
    with shop.listeners() as listeners:
        shop.manage("shell", "--command", code)
        listeners.hear({"from": "the shell"})


def test_a_worker_keeps_the_order_of_its_jobs_and_no_connections(shop: Shop) -> None:
    from redis import Redis

    command = [sys.executable, str(ROOT / "tests" / "servers" / "shop" / "worker.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with shop.listeners() as listeners, Redis.from_url(shop.redis) as redis:
        before = redis.info("clients")["connected_clients"]
        with subprocess.Popen(command, cwd=ROOT, env=shop.env, **pipes) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None

            def work(*jobs: str) -> None:
                for job in jobs:
                    print(job, file=worker.stdin, flush=True)
                    assert worker.stdout.readline() == "done\n"

            work(*(f"job {number}" for number in range(50)))
            assert redis.info("clients")["connected_clients"] <= before + 2
            work("fork 50", "job 51", "fork 52")
            worker.stdin.close()
            assert worker.wait(TIMEOUT) == 0
        jobs = [{"job": number} for number in range(50)]
        listeners.hear(*jobs, {"child": 50}, {"job": 51}, {"child": 52})
