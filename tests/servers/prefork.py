"""Starts Python processes in half the time: they are forked from one that has imported the packages.

A server imports a thousand modules of Django, Twisted and others before it listens, and the tests start some
hundreds of servers. What is imported here neither reads settings nor chooses an event loop, and our own
package is not: it is imported in each process, and measured there.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import random
import resource
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import coverage

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    *("autobahn.twisted.websocket", "channels.auth", "channels.consumer", "channels.db"),
    *("channels.layers", "channels.routing", "channels.security.websocket", "channels.sessions"),
    *("channels_redis.core", "channels_redis.pubsub", "django.contrib.admin.options"),
    *("django.contrib.staticfiles.handlers", "django.core.handlers.asgi", "django.core.management"),
    *("django.db.backends.sqlite3.base", "django.forms", "django.middleware.csrf"),
    *("django.template.loader", "django.test", "django.urls", "fastapi", "h11", "httptools", "psycopg"),
    *("pydantic.networks", "twisted.internet.asyncioreactor", "twisted.internet.endpoints"),
    *("twisted.internet.ssl", "twisted.web.http", "twisted.web.server", "uvicorn.main"),
    *("uvicorn.protocols.http.httptools_impl", "websockets.server", "wsproto"),
)
# More than enough for a command line with its environment.
MAX_MESSAGE = 1 << 17
# What `become` applies to a forked process. The interpreter reads its other variables only when it starts.
OWN_VARIABLES = {"PYTHONPATH", "PYTHONUNBUFFERED"}
COVERAGE = "COVERAGE_PROCESS_CONFIG"


class Process:
    """A forked process: the part of `subprocess.Popen` that the tests use."""

    def __init__(self, parent: Parent, pid: int, args: Sequence[str]) -> None:
        self._parent = parent
        self.pid = pid
        self.args = args
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self.returncode = self._parent.code_of(self.pid, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Parent:
    """The process that forks, as its user sees it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()
        command = [sys.executable, "-m", "tests.servers.prefork", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment(), pass_fds=[theirs.fileno()])

    def start(self, args: Sequence[str], env: Mapping[str, str], output: IO[bytes]) -> Process:
        """Fork a process for `start`."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        request = json.dumps({"args": args, "env": dict(env), "files": files}).encode()
        with self._lock:
            socket.send_fds(self._control, [request], [output.fileno()])
            while (started := self._receive()) is None:
                pass
        return Process(self, started, args)

    def code_of(self, pid: int, timeout: float | None) -> int | None:
        """The exit code of a process; None if it is still running after so many seconds."""
        deadline = time.monotonic() + (threading.TIMEOUT_MAX if timeout is None else timeout)
        while True:
            with self._lock:
                while select.select([self._control], [], [], 0)[0]:
                    self._receive()
                if pid in self._codes:
                    return self._codes.pop(pid)
            if (left := deadline - time.monotonic()) <= 0:
                return None
            # Another thread may receive what this one waits for.
            select.select([self._control], [], [], min(left, 0.05))

    def _receive(self) -> int | None:
        """Take one message. It is the pid of a new process, or the exit code of one that has ended (None)."""
        if not (data := self._control.recv(MAX_MESSAGE)):
            raise RuntimeError("The process that forks the servers has ended.")
        pid, code = json.loads(data)
        if code is None:
            self._codes.pop(pid, None)  # of an earlier process with the same pid, for which nobody waited
            return int(pid)
        self._codes[pid] = code
        return None

    def close(self) -> None:
        self._control.close()
        self._process.wait(20)


def environment() -> dict[str, str]:
    """That of the forking process: without settings and coverage, which each process gets for itself."""
    env = {
        name: value for name, value in os.environ.items() if name not in ("DJANGO_SETTINGS_MODULE", COVERAGE)
    }
    return env | {"PYTHONPATH": str(ROOT)}


@functools.cache
def parent() -> Parent:
    """The forking process of this worker of pytest, which ends with it."""
    started = Parent()
    atexit.register(started.close)
    return started


def start(
    args: Sequence[str], env: Mapping[str, str], output: IO[bytes]
) -> Process | subprocess.Popen[bytes]:
    """Run `python -m` with these arguments in the root of the project; what it writes goes into a file."""
    if can_fork(env):
        return parent().start(args, env, output)
    command = [sys.executable, "-m", *args]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)


def can_fork(env: Mapping[str, str]) -> bool:
    """Whether the interpreter would start in the same way with this environment."""
    read_at_start = {name for name in {*env, *os.environ} if name.startswith("PYTHON")} - OWN_VARIABLES
    return all(env.get(name) == os.environ.get(name) for name in read_at_start)


# In the process that forks


def main(control: int) -> None:
    for name in MODULES:
        with suppress(ModuleNotFoundError):  # an optional package
            importlib.import_module(name)
    assert not {"fastws_compat", "uvloop", "twisted.internet.reactor"} & {*sys.modules}
    gc.freeze()  # each process would copy what a collection visits
    if (new := serve(socket.socket(fileno=control))) is not None:
        become(*new)


def serve(control: socket.socket) -> tuple[dict[str, Any], int] | None:
    """Fork for each request, until the tests have ended; in a new process, return what it has to do."""
    children: dict[int, int] = {}
    with control, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if (pid := children.pop(key.fd, None)) is not None:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    tell(control, pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    continue
                request, outputs, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
                if not request:
                    return None
                if not (pid := os.fork()):
                    for watched in children:
                        os.close(watched)
                    return json.loads(request), outputs[0]
                os.close(outputs[0])
                watched = os.pidfd_open(pid)
                children[watched] = pid
                selector.register(watched, selectors.EVENT_READ)
                tell(control, pid, None)


def tell(control: socket.socket, pid: int, code: int | None) -> None:
    control.send(json.dumps([pid, code]).encode())


def become(request: Mapping[str, Any], output: int) -> None:
    """Run the module as `python -m` does, in the state in which the interpreter would start."""
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    env = request["env"]
    before = sys.path[1:]
    for place in os.environ["PYTHONPATH"].split(os.pathsep):
        before.remove(place)
    sys.path[1:] = [*env.get("PYTHONPATH", "").split(os.pathsep), *before]
    os.environ.clear()
    os.environ.update(env)
    resource.setrlimit(resource.RLIMIT_NOFILE, request["files"])
    random.seed()
    gc.unfreeze()  # servers look whether the project has frozen objects
    atexit.register(gc.freeze)
    if env.get(COVERAGE):
        coverage.process_startup(slug="pth")
    name, *sys.argv[1:] = request["args"]
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(int(sys.argv[1]))
