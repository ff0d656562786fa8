"""A rolling restart: processes behind nginx restart one after another, and all clients reconnect.

    python -m benchmarks.rolling [--sockets 4000] [--processes 4] [--database postgresql] [--sessions db]

All sockets are logged in. A client whose socket closes waits for a random time of up to a second before it
tries again, and longer after each failure, as the documentation says. The run fails if a client
was refused, or was not connected again 15 seconds after the last restart.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.report import end_in_order
from benchmarks.servers import COMMANDS, allow_many_files, environment, free_port, wait_for
from benchmarks.storm import APP, COOKIE, HANDSHAKE, KEY, Site, program, site

MOST_SECONDS = 15.0
NGINX = """
worker_processes 1;
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log /dev/null;
daemon off;
events {{ worker_connections 30000; }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    upstream django {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=65535;
        location / {{
            proxy_pass http://django;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 75s;
            # A process that is stopping resets the connection or answers 503; another takes the handshake.
            proxy_next_upstream error timeout http_503;
        }}
    }}
}}
"""


class Crowd:
    """The clients, which reconnect until the run ends."""

    def __init__(self, port: int, keys: list[str]) -> None:
        self.port = port
        self._keys = keys
        self.inside = 0
        # The statuses other than 101, and the attempts without an answer.
        self.refused: Counter[str] = Counter()
        self.unanswered = 0
        self.longest = 0.0

    async def live(self, number: int) -> None:
        """One client: connect, wait until the socket closes, and reconnect."""
        attempts, lost_at = 0, 0.0
        while True:
            writer = None
            was_inside = False
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                head = HANDSHAKE.format(path="/members", port=self.port, cookie=COOKIE)
                writer.write(head.replace(KEY, self._keys[number % len(self._keys)]).encode())
                answer = await reader.readuntil(b"\r\n\r\n")
                if answer.startswith(b"HTTP/1.1 101"):
                    self.longest = max(self.longest, time.monotonic() - lost_at if lost_at else 0.0)
                    attempts, was_inside = 0, True
                    self.inside += 1
                    try:
                        await closed(reader)
                    finally:
                        self.inside -= 1
                        lost_at = time.monotonic()
                else:
                    self.refused[answer.split()[1].decode()] += 1
                    self.unanswered -= 1
            self.unanswered += not was_inside
            if writer is not None:
                writer.close()
            await asyncio.sleep(random.random() * min(15, 2**attempts))
            attempts += 1

    async def wait_until_complete(self, count: int, timeout: float) -> float:
        begun = time.monotonic()
        while self.inside < count:
            if time.monotonic() - begun > timeout:
                sys.exit(f"Only {self.inside} of {count} were let in within {timeout:g} s.")
            await asyncio.sleep(0.02)
        return time.monotonic() - begun


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait for a close frame or the end of the connection; pings are not answered in so short a run."""
    while data := await reader.read(4096):
        if data[0] & 0x0F == 8:
            return


def listening_ports(count: int) -> list[int]:
    """Free ports that the kernel does not give to a client while the process that listens there restarts."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found[:count]


class Processes:
    """The daphne processes, each of which can be started again on its port."""

    def __init__(self, count: int, found: Site, stack: ExitStack) -> None:
        self._env = {**environment(), **found.env, "BENCH_PEER": "fastws_compat", "BENCH_DAPHNE": "complete"}
        self._stack = stack
        self.ports = listening_ports(count)
        self._running = [self._start(port) for port in self.ports]

    def _start(self, port: int) -> ExitStack:
        running = self._stack.enter_context(ExitStack())
        command = [sys.executable, "-m", *COMMANDS["daphne"], str(port), "--ping-timeout", "600", APP]
        wait_for(running.enter_context(program(*command, env=self._env)), port)
        return running

    def restart(self, number: int) -> None:
        self._running[number].close()
        self._running[number] = self._start(self.ports[number])


@contextmanager
def nginx(ports: list[int]) -> Iterator[int]:
    port = free_port()
    servers = "\n".join(f"        server 127.0.0.1:{each} max_fails=0;" for each in ports)
    with tempfile.TemporaryDirectory(prefix="fastws-nginx-") as folder:
        path = Path(folder, "nginx.conf")
        path.write_text(NGINX.format(folder=folder, servers=servers, port=port))
        with program("nginx", "-c", str(path), "-p", folder) as process:
            wait_for(process, port)
            yield port


async def run(sockets: int, processes: Processes, port: int, keys: list[str]) -> None:
    crowd = Crowd(port, keys)
    clients = [asyncio.create_task(crowd.live(number)) for number in range(sockets)]
    print(f"{sockets} let in after {await crowd.wait_until_complete(sockets, 120):.1f} s", flush=True)
    for number in range(len(processes.ports)):
        await asyncio.to_thread(processes.restart, number)
    last = await crowd.wait_until_complete(sockets, 120)
    print(
        f"everybody back {last:.1f} s after the last restart, "
        f"at most {crowd.longest:.1f} s without a socket, {crowd.unanswered} attempts without an answer, "
        f"{crowd.refused.total()} refused {dict(crowd.refused) or ''}".rstrip()
    )
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    if crowd.refused or last > MOST_SECONDS:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--sessions", default="db", help="the name of Django's session engine")
    options = parser.parse_args()
    end_in_order()
    allow_many_files()
    with site(options.database, options.sessions) as found, ExitStack() as stack:
        processes = Processes(options.processes, found, stack)
        port = stack.enter_context(nginx(processes.ports))
        asyncio.run(run(options.sockets, processes, port, found.keys))


if __name__ == "__main__":
    main()
