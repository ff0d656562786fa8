"""Server processes, each of which runs one peer."""

from __future__ import annotations

import functools
import importlib.util
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    # The clients do not answer pings.
    "daphne": ["daphne", "-v", "0", "--ping-interval", "3600", "--bind", "127.0.0.1", "--port"],
    "uvicorn": [
        *("uvicorn", "--log-level", "critical", "--no-access-log"),
        *("--host", "127.0.0.1", "--port"),
    ],
    "granian": [
        *("granian", "--interface", "asgi", "--workers", "1", "--log-level", "critical", "--no-access-log"),
        *("--host", "127.0.0.1", "--port"),
    ],
}


@functools.cache
def node_ws() -> Path | None:
    """The script of Node's `ws`, installed for this run; None without Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    _folders.append(tempfile.TemporaryDirectory())
    folder = Path(_folders[-1].name)
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "ws@8"]
    if subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False).returncode:
        return None
    return Path(shutil.copy(Path(__file__).with_name("node_ws.mjs"), folder))


# Removed when the run ends.
_folders: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Serving:
    """One peer on one server; `daphne` is "complete" or "stock", `layer` the URL of a channel layer.

    `gc_freeze` is this library's setting; `metrics` installs the collector for Prometheus, and a client of
    `/counting/{on}` turns the counting off and on.
    """

    peer: str
    server: str
    daphne: str = "stock"
    app: str = "benchmarks.peers:app"
    layer: str = ""
    gc_freeze: bool = True
    metrics: bool = False

    @property
    def is_available(self) -> bool:
        if self.server == "node":
            return node_ws() is not None
        return importlib.util.find_spec(self.server) is not None

    def _command(self, port: int) -> list[str]:
        if self.server == "node":
            return ["node", str(node_ws()), str(port)]
        return [sys.executable, "-m", *COMMANDS[self.server], str(port), self.app]

    @contextmanager
    def process(self) -> Iterator[tuple[int, int]]:
        """The port and the pid of a process that serves it and is stopped afterwards."""
        port = free_port()
        process = subprocess.Popen(
            self._command(port),
            cwd=ROOT,
            env={
                **environment(),
                "BENCH_PEER": self.peer,
                "BENCH_DAPHNE": self.daphne,
                "BENCH_LAYER": self.layer,
                "BENCH_GC_FREEZE": "1" if self.gc_freeze else "",
                "BENCH_METRICS": "1" if self.metrics else "",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(process, port)
            yield port, worker_of(process.pid) if self.server == "granian" else process.pid
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit("The server did not start.")


@contextmanager
def started(served: Mapping[str, Serving]) -> Iterator[dict[str, tuple[int, int]]]:
    """Run all servers at once, to measure them in turn. An idle server uses no CPU time."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving.process())
            for name, serving in served.items()
            if serving.is_available
        }


def worker_of(pid: int) -> int:
    """The process that does the work for this one (Linux)."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])


def processor_seconds(pid: int) -> float:
    """The CPU time that a process has used so far (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) computes it


def main_thread_seconds(pid: int) -> float:
    """What its main thread has used, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def allow_many_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
