"""Real server processes for tests: `server.start("tests.servers.apps:app")` runs daphne, then uvicorn.

The fixture `server` runs a test on both, `daphne` or `uvicorn` on one of them. A test that reads logs,
sends signals or counts things starts its own process with `start`; all others share one with `shared`.
Processes that are still running when their owner ends (the test, or the session) are terminated.

The servers run on asyncio's event loop. With FASTWS_TEST_LOOP=uvloop in the environment they run on uvloop.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from tests.ports import free_port
from tests.servers.prefork import ROOT, Process, start

# In the environment of a server: its coverage is not measured, so that a large load takes half the time.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}
LOOP = os.environ.get("FASTWS_TEST_LOOP", "asyncio")
SERVERS = ("daphne", "uvicorn")


def python_path(*directories: Path, loop: str = LOOP) -> str:
    """PYTHONPATH for a server; for asyncio it hides the installed uvloop."""
    hidden = [ROOT / "tests/servers/without_uvloop"] if loop == "asyncio" else []
    return os.pathsep.join(map(str, [*hidden, *directories, ROOT]))


def wait_for(condition: Callable[[], bool], timeout: float = 20) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Running:
    """A server process that listens on loopback, as seen by a test."""

    def __init__(self, process: subprocess.Popen[bytes] | Process, port: int, log: IO[bytes]) -> None:
        self.process = process
        self.port = port
        self.pid = process.pid
        self._log = log
        self._last_words: str | None = None

    def url(self, path: str = "/") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def http(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def connect(self, timeout: float = 30) -> socket.socket:
        """A plain TCP connection to the server."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def logs(self) -> str:
        """Everything that the process has written to stdout and stderr so far."""
        if self._last_words is not None:
            return self._last_words
        return Path(self._log.name).read_text(errors="replace")

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 15) -> int:
        """Wait for the process to exit by itself and return its exit code."""
        return self.process.wait(timeout)

    def stop(self, timeout: float = 15) -> int:
        """Terminate the process as an operator does: SIGTERM, and SIGKILL after `timeout`."""
        if self.process.poll() is None:
            self.signal()
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.wait()
        finally:
            self._last_words = self.logs()
            self._log.close()


class Shared(Running):
    """A process that other tests use too: its logs begin with this test."""

    def __init__(self, running: Running) -> None:
        super().__init__(running.process, running.port, running._log)
        self._before = len(super().logs())

    def logs(self) -> str:
        return super().logs()[self._before :]


class Server:
    """Starts processes of one server; `name` is "daphne" or "uvicorn"."""

    def __init__(self, name: str, shared: dict[tuple[str, ...], Running]) -> None:
        self.name = name
        self._shared = shared
        self._own: list[Running] = []

    @property
    def is_daphne(self) -> bool:
        return self.name == "daphne"

    def start(
        self,
        app: str,
        *args: str,
        settings: str | None = None,
        env: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> Running:
        """Start `module:attribute` and return once it accepts connections (at once if not `ready`).

        `args` are options of the server's command line; `settings` names Django's settings module (none
        without it); `env` is added to the environment.
        """
        running = launch(self.name, app, args, settings, env or {}, ready)
        self._own.append(running)
        return running

    def shared(
        self, app: str, *args: str, settings: str | None = None, env: Mapping[str, str] | None = None
    ) -> Running:
        """Like `start`, but all tests of the session with the same arguments share one process.

        What the process wrote before a test began is not in the test's `logs`.
        """
        measured = str(bool(os.environ.get("COVERAGE_PROCESS_CONFIG")))
        key = (self.name, app, settings or "", measured, *args, *map(str, (env or {}).items()))
        if key not in self._shared or self._shared[key].process.poll() is not None:
            self._shared[key] = launch(self.name, app, args, settings, env or {}, ready=True)
        return Shared(self._shared[key])

    def close(self) -> None:
        for running in self._own:
            running.stop(timeout=3)


def launch(
    name: str, app: str, args: Sequence[str], settings: str | None, env: Mapping[str, str], ready: bool
) -> Running:
    port = free_port()
    environ = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    environ |= {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1", **env}
    if settings:
        environ["DJANGO_SETTINGS_MODULE"] = settings
    log = tempfile.NamedTemporaryFile(prefix=f"fastws-{name}-", suffix=".log")  # noqa: SIM115
    process = start([*command(name, port, environ), *args, app], environ, log)
    running = Running(process, port, log)
    if ready:
        wait_until_ready(running)
    return running


def command(name: str, port: int, environ: Mapping[str, str] = os.environ) -> list[str]:
    if name == "daphne":
        return ["daphne", "--bind", "127.0.0.1", "--port", str(port)]
    uvicorn = "tests.servers.terminated" if environ.get("COVERAGE_PROCESS_CONFIG") else "uvicorn"
    return [uvicorn, "--host", "127.0.0.1", "--port", str(port)]


def wait_until_ready(running: Running, timeout: float = 60) -> None:
    """Connect until the server accepts. If the process exited or hangs, fail the test with its log."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            running.connect(timeout=1).close()
            return
        except OSError:
            if has_ended(running.process):
                break
    log = running.logs()
    running.process.kill()
    running.stop()
    pytest.fail(f"The server did not come up:\n{log}")


def has_ended(process: subprocess.Popen[bytes] | Process) -> bool:
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return False
    return True


def on_servers(*names: str) -> pytest.MarkDecorator:
    """A mark: the gate runs the test on these servers only, and `.ci/slow` on the others too."""
    servers = [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in SERVERS]
    return pytest.mark.parametrize("server", servers, indirect=True)


def in_turn(parameter: str, values: Mapping[str, Any], indirect: bool = False) -> pytest.MarkDecorator:
    """A mark: the gate runs each value on one of the servers, in turn, and `.ci/slow` on the other too."""
    gate = {(SERVERS[number % 2], id) for number, id in enumerate(values)}
    cases = [
        pytest.param(
            server, value, id=f"{server}-{id}", marks=[] if (server, id) in gate else pytest.mark.slow
        )
        for server in SERVERS
        for id, value in values.items()
    ]
    return pytest.mark.parametrize(("server", parameter), cases, indirect=["server", *[parameter] * indirect])


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[dict[tuple[str, ...], Running]]:
    servers: dict[tuple[str, ...], Running] = {}
    yield servers
    for running in servers.values():
        running.stop(timeout=8)


@pytest.fixture(params=SERVERS)
def server(
    request: pytest.FixtureRequest, shared_servers: dict[tuple[str, ...], Running]
) -> Iterator[Server]:
    server = Server(request.param, shared_servers)
    yield server
    server.close()


@pytest.fixture
def daphne(shared_servers: dict[tuple[str, ...], Running]) -> Iterator[Server]:
    server = Server("daphne", shared_servers)
    yield server
    server.close()


@pytest.fixture
def uvicorn(shared_servers: dict[tuple[str, ...], Running]) -> Iterator[Server]:
    server = Server("uvicorn", shared_servers)
    yield server
    server.close()
