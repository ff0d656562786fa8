"""Server processes, each of which runs one peer."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "daphne": ["daphne", "-v", "0", "--bind", "127.0.0.1", "--port"],
    "uvicorn": [
        *("uvicorn", "--log-level", "critical", "--no-access-log", "--lifespan", "off"),
        *("--host", "127.0.0.1", "--port"),
    ],
}


@dataclass(frozen=True)
class Serving:
    """One peer on one server; `daphne` is "complete" or "stock", `layer` the URL of a channel layer."""

    peer: str
    server: str
    daphne: str = "stock"
    app: str = "benchmarks.peers:app"
    layer: str = ""

    @contextmanager
    def process(self) -> Iterator[tuple[int, int]]:
        """The port and the pid of a process that serves it, ended afterwards."""
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[self.server], str(port), self.app],
            cwd=ROOT,
            env={
                **environment(),
                "BENCH_PEER": self.peer,
                "BENCH_DAPHNE": self.daphne,
                "BENCH_LAYER": self.layer,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(process, port)
            yield port, process.pid
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
    """All servers at once, so that they can be measured in turn; an idle server uses no CPU time."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving.process()) for name, serving in served.items()}


def processor_seconds(pid: int) -> float:
    """What a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def allow_many_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
