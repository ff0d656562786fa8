"""How costs grow with the number of routes, dependencies and sockets, and with the size of a message.

    python -m benchmarks.growth [--quick | --sockets]

In process, for messages also on servers, and for sockets on one daphne (`--sockets` measures only these).
"""

# No `from __future__ import annotations`, because annotations name local classes.

import importlib
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from benchmarks import peers
from benchmarks.broadcast import Audience, connect, serving
from benchmarks.in_process import echoes, handshakes
from benchmarks.load import echo
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, in_turn, main, rounds
from benchmarks.servers import Serving, allow_many_files, main_thread_seconds, started

LIBRARIES = (OURS, "fastapi")
ROUTES = (1, 10, 100, 1000, 2000)
DEPENDENCIES = (0, 1, 2, 5, 10, 20)
SIZES = (32, 1024, 16 * 1024, 128 * 1024, 1024 * 1024)


def tables(quick: bool) -> Iterator[Table]:
    peers.django()
    yield routes(quick)
    yield dependencies(quick)
    yield sizes(quick)
    yield sizes_on_servers(quick)
    yield sockets_of_one_daphne(quick)


def routes(quick: bool) -> Table:
    """A handshake at the last of many routes, half of which have a parameter."""
    table = Table("Handshake at the last of many routes, in process", "us per connection")
    for count in ROUTES[:2] if quick else ROUTES:
        apps = {name: with_routes(importlib.import_module(name), count) for name in LIBRARIES}
        apps["channels"] = channels_with_routes(count)
        runs = {
            name: partial(handshakes, app, f"/r{count - 1}/lobby", b"", 2 if quick else _few(name, count))
            for name, app in apps.items()
        }
        table.add(f"{count:,}", in_turn(rounds(9, quick), runs), Ratio(OURS, "fastapi"))
    return table


def _few(name: str, count: int) -> int:
    return max(5, 20_000 // (count + 100)) if name == "fastapi" else 30 if name == "channels" else 300


def with_routes(library: Any, count: int) -> Any:
    app = library.FastAPI()

    async def endpoint(websocket: library.WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    for number in range(count):
        last = number == count - 1
        app.websocket(f"/r{number}/{{room}}" if last or number % 2 else f"/r{number}")(endpoint)
    return app


def channels_with_routes(count: int) -> Any:
    from channels.generic.websocket import AsyncWebsocketConsumer
    from channels.routing import URLRouter
    from django.urls import path

    class Plain(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.accept()
            await self.close()

    application = Plain.as_asgi()
    return URLRouter([path(f"r{number}/<room>", application) for number in range(count)])


def dependencies(quick: bool) -> Table:
    """A handshake whose endpoint has many dependencies, each with a query parameter of its own."""
    table = Table("Handshake with many dependencies, in process", "us per connection")
    for count in DEPENDENCIES[:2] if quick else DEPENDENCIES:
        query = "&".join(f"q{number}={number}" for number in range(count)).encode()
        runs = {
            name: partial(
                handshakes,
                with_dependencies(importlib.import_module(name), count),
                "/",
                query,
                2 if quick else 150,
            )
            for name in LIBRARIES
        }
        table.add(str(count), in_turn(rounds(9, quick), runs), Ratio(OURS, "fastapi"))
    return table


def with_dependencies(library: Any, count: int) -> Any:
    app = library.FastAPI()

    def dependency(number: int) -> Any:
        async def value(q: Annotated[int, library.Query(alias=f"q{number}")]) -> int:
            return q

        return library.Depends(value)

    @app.websocket("/", dependencies=[dependency(number) for number in range(count)])
    async def endpoint(websocket: library.WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    return app


def sizes(quick: bool) -> Table:
    table = Table("Echo of a text by size in bytes, in process", "us per message")
    apps = {name: peers.MAKERS[name]() for name in peers.MANY}
    for size in SIZES[:2] if quick else SIZES:
        message = {"type": "websocket.receive", "text": "x" * size}
        runs = {
            name: partial(echoes, app, "/text", message, 10 if quick else 100 if name == "channels" else 2000)
            for name, app in apps.items()
        }
        table.add(f"{size:,}", in_turn(rounds(7, quick), runs), Ratio(OURS, "bare"), Ratio(OURS, "fastapi"))
    return table


SERVED = {
    "bare, daphne stock": Serving("bare", "daphne", "stock"),
    f"{OURS}, daphne": Serving(OURS, "daphne", "complete"),
    "bare, uvicorn": Serving("bare", "uvicorn"),
    f"{OURS}, uvicorn": Serving(OURS, "uvicorn"),
}


def sizes_on_servers(quick: bool) -> Table:
    table = Table("Echo of a text by size in bytes on servers, 10 sockets", "messages per second")
    cases = SIZES[:1] if quick else SIZES
    samples: dict[int, Samples] = {size: {} for size in cases}
    for _ in range(rounds(3, quick)):
        with started(SERVED) as servers:
            for _ in range(rounds(3, quick)):
                for size in cases:
                    for name, server in servers.items():
                        rate = echo(server, "/text", b"x" * size, 0.2 if quick else 0.6, 10).rate
                        samples[size].setdefault(name, []).append(rate)
    for size, rows in samples.items():
        table.add(
            f"{size:,}",
            rows,
            Ratio(f"{OURS}, daphne", "bare, daphne stock"),
            Ratio(f"{OURS}, uvicorn", "bare, uvicorn"),
        )
    return table


# In most shells, 20,000 open files are the limit for one client.
SOCKETS = (2000, 8000, 18_000)
# Seconds without work after which a server has done what a burst has left to do.
SETTLED = 1.5
FROZEN = {"GC_FREEZE": True, "GC_FREEZE off": False}


def sockets_of_one_daphne(quick: bool) -> Table:
    """The server's CPU time for a connect and for a delivery, by the number of members in a group."""
    allow_many_files()
    counts = (40, 80) if quick else SOCKETS
    samples: dict[str, Samples] = {}
    for _ in range(rounds(3, quick)):
        for name, freeze in FROZEN.items():
            for case, found in costs(counts, freeze).items():
                for count, cost in found.items():
                    samples.setdefault(f"{case}, {name}", {}).setdefault(f"{count:,}", []).append(cost)
    table = Table("Members of one group on one daphne", "us of the server's processor time")
    for case, values in samples.items():
        aim = "" if case.endswith("off") else "<= 1.3"
        table.add(case, values, Ratio(f"{counts[-1]:,}", f"{counts[0]:,}", aim))
    return table


def costs(counts: tuple[int, ...], freeze: bool) -> dict[str, dict[int, float]]:
    """The cost of a connect up to each count, and of a delivery to that many, garbage collection included.

    The pass of the collector that follows a burst of connects belongs to them, not to the first deliveries.
    """
    found: dict[str, dict[int, float]] = {"connect": {}, "delivery": {}}
    with serving(OURS, "complete", "", freeze).process() as (port, pid):
        audience = Audience([connect(port, "g") for _ in range(20)])
        for count in counts:
            before, members = main_thread_seconds(pid), len(audience.sockets)
            while len(audience.sockets) < count:
                audience.add(connect(port, "g", len(audience.sockets)))
            settle(pid)
            found["connect"][count] = (main_thread_seconds(pid) - before) / (count - members) * 1e6
            times = max(5, 100_000 // count)
            taken = []
            for _ in range(times):
                before = main_thread_seconds(pid)
                audience.broadcast()
                taken.append((main_thread_seconds(pid) - before) / count * 1e6)
            found["delivery"][count] = statistics.mean(taken)
        audience.close()
    return found


def settle(pid: int) -> None:
    """Wait until the server does next to nothing for longer than its timers wait."""
    deadline, idle_since, spent = time.monotonic() + 30, time.monotonic(), main_thread_seconds(pid)
    while time.monotonic() < min(deadline, idle_since + SETTLED):
        time.sleep(0.1)
        before, spent = spent, main_thread_seconds(pid)
        if spent - before > 0.01:
            idle_since = time.monotonic()


if __name__ == "__main__":
    if "--sockets" in sys.argv:
        sys.argv.remove("--sockets")
        main(__doc__, lambda quick: [sockets_of_one_daphne(quick)])
    else:
        main(__doc__, tables)
