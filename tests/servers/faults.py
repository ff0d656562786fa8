"""An application that can fail at any point of a connection, and that counts starts and ends.

"/fault/{point}/{fault}/{name}" runs up to a point and fails there, or waits until "/control" receives
"go {name}". The other commands of "/control" are answered: "reached {name}" when the point is reached,
"ended {name}" when the connection no longer runs any code, for which it waits at most two seconds, and
"stats" with the counts and what the process holds.

By itself, it runs without Django settings, so its group is on the process's own channel layer.
`faults_django` serves it in a project with a database and a channel layer.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any

from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.groups import Group
from fastws_compat.groups.hub import hubs
from fastws_compat.layers.client import layer_of
from fastws_compat.layers.local import LocalLayer

SYNC = ("in_sync_dependency", "in_sync_teardown")
POINTS = (
    "before_dependency",
    "in_dependency",
    "in_sync_dependency",
    "after_dependency",
    "before_accept",
    "after_accept",
    "in_receive",
    "in_send",
    "in_close",
    "in_teardown",
    "in_sync_teardown",
)
# Faults of the application, and faults of the client.
OWN_FAULTS = ("exception", "return", "cancel", "escape", "timeout")
CLIENT_FAULTS = ("close", "reset", "half_close")
MAX_SECONDS = 15
# How long a connection may hold resources after its end.
BACK_SECONDS = 2
MAX_TURN_SECONDS = 0.05
# A thread does not notice that the server is stopping, so it waits only this long.
THREAD_SECONDS = 0.2
EVERYBODY = Group("everybody")
# For the fault "together": blocks threads until all threads of a pool are in use.
THREADS = 8
together = threading.Barrier(THREADS)

app = FastAPI()
began: Counter[str] = Counter()
ended: Counter[str] = Counter()
reached: dict[str, asyncio.Event] = {}
go: dict[str, asyncio.Event] = {}


async def query() -> None:
    """A placeholder that `faults_django` replaces with a query of the async ORM."""


def sync_query() -> None:
    """A placeholder that `faults_django` replaces with a query in a thread."""


class Boom(Exception):
    """The fault "exception"."""


class Return(Exception):
    """The fault "return", at points that the endpoint itself runs."""


def begin(what: str, name: str) -> str:
    key = f"{what} {name}"
    began[key] += 1
    say(f"BEGAN {key}")
    return key


def end(key: str) -> None:
    ended[key] += 1
    say(f"ENDED {key}")


def say(line: str) -> None:
    """Write a line to stdout in one system call, so that the lines of threads do not mix."""
    os.write(1, f"{line}\n".encode())


def event(events: dict[str, asyncio.Event], name: str) -> asyncio.Event:
    return events.setdefault(name, asyncio.Event())


class Case:
    """One connection: the point of its fault, and the fault."""

    def __init__(self, websocket: WebSocket) -> None:
        self.point, self.fault, self.name = (websocket.path_params[k] for k in ("point", "fault", "name"))
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()

    async def at(self, point: str) -> None:
        """Fail if this is the point of the fault."""
        if point != self.point:
            return
        event(reached, self.name).set()
        match self.fault:
            case "exception":
                raise Boom
            case "return" if point in ENDPOINT_POINTS:
                raise Return
            case "cancel":
                self.cancel()
                await asyncio.sleep(0)
            case "escape":
                raise asyncio.CancelledError
            case "timeout":
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            case "close" | "reset" | "half_close" | "sigterm":
                await asyncio.wait_for(event(go, self.name).wait(), MAX_SECONDS)

    def cancel(self) -> None:
        assert self.task is not None
        self.task.cancel()

    def sync_at(self, point: str) -> None:
        """Like `at`, in a thread."""
        if point != self.point:
            return
        self.loop.call_soon_threadsafe(event(reached, self.name).set)
        match self.fault:
            case "exception":
                raise Boom
            case "cancel":
                self.loop.call_soon_threadsafe(self.cancel)
                time.sleep(0.01)
            case "escape":
                raise asyncio.CancelledError
            case "timeout":
                raise TimeoutError
            case "close" | "reset" | "half_close":
                self.wait_in_thread(MAX_SECONDS)
            case "sigterm":
                self.wait_in_thread(THREAD_SECONDS)
            case "together":
                together.wait(MAX_SECONDS)

    def wait_in_thread(self, seconds: float) -> None:
        waiting = asyncio.run_coroutine_threadsafe(event(go, self.name).wait(), self.loop)
        with suppress(TimeoutError):
            waiting.result(seconds)
        waiting.cancel()


ENDPOINT_POINTS = frozenset(POINTS[4:9])


async def case(websocket: WebSocket) -> Case:
    return Case(websocket)


async def member(websocket: WebSocket) -> None:
    await websocket.join(EVERYBODY)


async def before(case: Case = Depends(case), member: None = Depends(member)) -> None:
    await query()
    await case.at("before_dependency")


async def resource(case: Case = Depends(case), before: None = Depends(before)) -> AsyncIterator[None]:
    key = begin("resource", case.name)
    try:
        await case.at("in_dependency")
        yield
    finally:
        end(key)
        await case.at("in_teardown")


def sync_resource(case: Case = Depends(case), resource: None = Depends(resource)) -> Iterator[None]:
    key = begin("sync_resource", case.name)
    try:
        sync_query()
        case.sync_at("in_sync_dependency")
        yield
    finally:
        end(key)
        sync_query()
        case.sync_at("in_sync_teardown")


async def after(case: Case = Depends(case), resource: None = Depends(sync_resource)) -> None:
    await case.at("after_dependency")


@app.websocket("/fault/{point}/{fault}/{name}", dependencies=[Depends(after)])
async def endpoint(websocket: WebSocket, case: Case = Depends(case)) -> None:
    key = begin("endpoint", case.name)
    try:
        await run(websocket, case)
    except Return:
        return
    finally:
        end(key)


async def run(websocket: WebSocket, case: Case) -> None:
    await case.at("before_accept")
    await websocket.accept()
    await EVERYBODY.asend(case.name)
    await case.at("after_accept")
    if case.point == "in_receive":
        await receive(websocket, case)
    if case.point == "in_send":
        await send(websocket, case)
    if case.point == "in_close":
        await beside(websocket.close(4000), case, "in_close")


async def receive(websocket: WebSocket, case: Case) -> None:
    if case.fault in CLIENT_FAULTS or case.fault == "sigterm":
        event(reached, case.name).set()
        await websocket.receive_text()
    await beside(websocket.receive_text(), case, "in_receive")


async def beside(work: Coroutine[Any, Any, Any], case: Case, point: str) -> None:
    """Fail while `work` is running."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    try:
        await case.at(point)
    finally:
        task.cancel()


async def send(websocket: WebSocket, case: Case) -> None:
    if case.fault in CLIENT_FAULTS or case.fault == "sigterm":
        event(reached, case.name).set()
        while True:
            await websocket.send_bytes(b"x" * 4096)
            await asyncio.sleep(0)
    await beside(websocket.send_text("x"), case, "in_send")


@app.websocket("/control")
async def control(websocket: WebSocket) -> None:
    await websocket.accept()
    async for command in websocket.iter_text():
        verb, _, name = command.partition(" ")
        if verb == "reached":
            await asyncio.wait_for(event(reached, name).wait(), MAX_SECONDS)
            await websocket.send_json(True)
        elif verb == "go":
            event(go, name).set()
        elif verb == "ended":
            await until(lambda name=name: not still_open(name))  # type: ignore[misc]
            await websocket.send_json(still_open(name))
        else:
            await websocket.send_json(stats())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for at most two seconds, not counting delays of a busy machine."""
    left, last = float(BACK_SECONDS), time.monotonic()
    while not condition() and left > 0:
        await asyncio.sleep(0.005)
        now = time.monotonic()
        left, last = left - min(now - last, MAX_TURN_SECONDS), now


def still_open(name: str) -> list[str]:
    """The resources of one connection that were acquired more often than released."""
    return [key for key in tuple(began) if key.endswith(f" {name}") and began[key] != ended[key]]


def stats() -> dict[str, Any]:
    """The resources that were not released, and what the process holds."""
    counts = tuple(began.items())  # threads may change them at the same time
    return {
        "open": {key: count - ended[key] for key, count in counts if count != ended[key]},
        "repeated": [key for key, count in counts if count > 1],
        "held": held(),
        "running": [str(task.get_coro()) for task in asyncio.all_tasks()],
    }


def held() -> dict[str, int]:
    files = list(open_files())
    layer = layer_of("default")
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(files),
        "databases": sum(file.endswith(".sqlite3") for file in files),
        "members": size(hub.members for hub in hubs.get(asyncio.get_running_loop(), {}).values()),
        "groups": size([layer.groups]),
        # Channels' own layer keeps a channel until the messages in it have been received or have expired.
        "channels": len(layer.channels) if is_local(layer) else 0,
        "local": int(is_local(layer)),
    }


def open_files() -> Iterator[str]:
    """What the file descriptors of the process refer to, except that of the listing itself."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{number}")


def size(registers: Iterable[dict[str, Any]]) -> int:
    """The total number of members of all groups."""
    return sum(len(members) for register in registers for members in register.values())


def is_local(layer: Any) -> bool:
    """Whether it is the process's own layer, as opposed to Channels' in-memory layer."""
    return isinstance(layer, LocalLayer)
