"""Server processes that run one peer, and the load that client processes put on them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 2
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    sys.exit("The server did not start.")


@dataclass(frozen=True)
class Load:
    """What the clients reached per second, and the microseconds of processor time it took the server each."""

    rate: float
    cost: float


def load(work: str, server: tuple[int, int], path: str, seconds: float, **options: Any) -> Load:
    """Load from all client processes, which begin together, on the server of this port and pid."""
    port, pid = server
    order = {"work": work, "port": port, "path": path, "seconds": seconds, **options}
    order["sockets"] = max(1, options["sockets"] // CLIENTS)
    clients = [client(order) for _ in range(CLIENTS)]
    for process in clients:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            sys.exit("A client could not connect.")
    before = processor_seconds(pid)
    for process in clients:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    rate = sum(json.loads(process.communicate()[0]) for process in clients)
    return Load(rate, (processor_seconds(pid) - before) / (rate * seconds) * 1e6)


def processor_seconds(pid: int) -> float:
    """What a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def client(order: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.clients", json.dumps(order)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
