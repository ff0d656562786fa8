"""All clients reconnect at once: logged-in sockets per second, by how many arrive together.

    python -m benchmarks.storm [--quick]

Users have sessions in Django's database. `anonymous` is a socket without a session and without a dependency,
on the same server.

    python -m benchmarks.storm --database postgresql --sessions cached_db   # starts PostgreSQL and Redis
    python -m benchmarks.storm --server uvicorn
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load import apart, compiled
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, end_in_order, markdown, rounds
from benchmarks.servers import ROOT, Serving, environment, free_port, started, wait_for

APP = "benchmarks.storm_site:app"
USERS = 1000
SIZES = (50, 200, 1000, 3000)
# Channels accepts a few hundred and refuses the others, so its rate is that with 200.
MOST_OF_CHANNELS = 200
TIMEOUT = 60.0
KEY = "k" * 32
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "{cookie}\r\n"
)
COOKIE = f"Cookie: sessionid={KEY}\r\n"


@dataclass(frozen=True)
class Outcome:
    """What became of the sockets that arrived together."""

    accepted: int
    refused: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.accepted / self.seconds if self.seconds else 0.0


@dataclass
class Site:
    """The project's database, its cache and the sessions of its users."""

    settings: dict[str, Any]
    keys: list[str] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {"STORM_SETTINGS": json.dumps(self.settings)}

    def prepare(self, users: int) -> None:
        command = [sys.executable, "-m", "benchmarks.storm_site", str(users)]
        done = subprocess.run(
            command, cwd=ROOT, env={**environment(), **self.env}, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        self.keys = json.loads(done.stdout)


@contextmanager
def site(database: str = "sqlite", sessions: str = "db", users: int = USERS) -> Iterator[Site]:
    """A project with users; PostgreSQL and Redis run as long as they are needed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastws-storm-")))
        settings: dict[str, Any] = {"SESSION_ENGINE": f"django.contrib.sessions.backends.{sessions}"}
        if database == "postgresql":
            settings["DATABASES"] = {"default": stack.enter_context(postgresql(folder / "postgresql"))}
        else:
            settings["DATABASES"] = {
                "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "site.sqlite3")}
            }
        if "cache" in sessions:
            location = stack.enter_context(redis())
            settings["CACHES"] = {
                "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": location}
            }
        found = Site(settings)
        found.prepare(users)
        yield found


@contextmanager
def redis() -> Iterator[str]:
    port = free_port()
    with program("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "") as process:
        wait_for(process, port)
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgresql(folder: Path) -> Iterator[dict[str, Any]]:
    """A server of its own that does not sync to disk. Started by root, it runs as the user "postgres"."""
    folder.mkdir()
    port, user = free_port(), []
    if os.geteuid() == 0:
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        folder.parent.chmod(0o755)
        shutil.chown(folder, "postgres", "postgres")
    data = str(folder / "data")
    subprocess.run(
        [*user, find("initdb"), "-D", data, "-U", "storm", "-A", "trust"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    options = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with program(*user, find("postgres"), "-D", data, *options, cwd=folder) as process:
        wait_for(process, port)
        yield {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "storm",
            "HOST": "127.0.0.1",
            "PORT": port,
            "CONN_MAX_AGE": 60,
        }


def find(name: str) -> str:
    places = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    return str(Path(found).resolve()) if found else sys.exit(f"{name} is not installed.")


@contextmanager
def program(
    *command: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=silent, stderr=silent)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)


def storm(
    server: tuple[int, int], path: str, sockets: int, keys: list[str], timeout: float = TIMEOUT
) -> Outcome:
    """Open this many sockets at once. If there are session keys, the sockets use them in turn."""
    port, pid = server
    handshake = HANDSHAKE.format(path=path, port=port, cookie=COOKIE if keys else "").encode()
    numbers = (port, sockets, timeout, len(handshake), len(keys), handshake.find(KEY.encode()) if keys else 0)
    client = subprocess.Popen(
        [compiled(), "storm", *map(str, numbers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with client:
        assert client.stdin is not None
        assert client.stdout is not None
        apart(pid, client.pid)
        client.stdin.write(handshake + "".join(keys).encode())
        client.stdin.flush()
        assert client.stdout.readline() == b"ready\n"
        accepted, refused, seconds = client.communicate(b"go\n")[0].split()
        return Outcome(int(accepted), int(refused), float(seconds))


def tables(
    quick: bool, database: str = "sqlite", sessions: str = "db", server: str = "daphne"
) -> Iterator[Table]:
    kind = f"{server}, {database}, {sessions}"
    rates = Table(f"Sockets that arrive at once, {kind}", "accepted per second", is_curve=True)
    lost = Table(f"Sockets that arrive at once and are not let in, {kind}", "sockets")
    stock = "stock" if server == "daphne" else "complete"
    served = {
        OURS: Serving(OURS, server, "complete", APP),
        "channels": Serving("channels", server, stock, APP),
    }
    sizes = (20, 50) if quick else SIZES
    with site(database, sessions, 50 if quick else USERS) as found:
        os.environ.update(found.env)
        cases = {
            OURS: (OURS, "/members", found.keys),
            "anonymous": (OURS, "/anybody", []),
            "channels": ("channels", "/members", found.keys),
        }
        of_200: list[float] = []
        for size in sizes:
            rate: Samples = {name: [] for name in cases}
            left: Samples = {name: [] for name in cases}
            for _ in range(rounds(3, quick)):
                for name, (peer, path, keys) in cases.items():
                    # In a new process, as after a deploy: one that has had a storm has its memory already.
                    with started({peer: served[peer]}) as servers:
                        storm(servers[peer], path, 10, keys)  # the first connections build what all share
                        outcome = storm(servers[peer], path, size, keys)
                        rate[name].append(outcome.rate)
                        left[name].append(size - outcome.accepted)
            if size == MOST_OF_CHANNELS:
                of_200 = rate["channels"]
            if of_200:
                rate["channels, 200"] = of_200
            rates.add(
                f"{size:,}",
                rate,
                Ratio(OURS, "channels, 200", ">= 5"),
                Ratio(OURS, "anonymous", ">= 0.7"),
                Ratio(OURS, "channels"),
            )
            lost.add(f"{size:,}", left)
    yield rates
    yield lost


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only check that it runs")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--sessions", default="db", help="the name of Django's session engine")
    parser.add_argument("--server", choices=["daphne", "uvicorn"], default="daphne")
    options = parser.parse_args()
    end_in_order()
    for table in tables(options.quick, options.database, options.sessions, options.server):
        print(markdown(table.data()), flush=True)


if __name__ == "__main__":
    main()
