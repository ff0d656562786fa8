"""An application that lets a fault happen at any point of a connection, and counts what began and ended.

"/fault/{point}/{fault}/{name}" reaches a point and has the fault, or waits there until "/control" is told
"go {name}". "/control" answers "reached {name}" when the point is reached, and "stats" with the books.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from fastws_compat import Depends, FastAPI, WebSocket

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
# What the application does to itself, and what is done to it.
OWN_FAULTS = ("exception", "return", "cancel", "timeout")
CLIENT_FAULTS = ("close", "reset", "half_close")
MOST_SECONDS = 15

app = FastAPI()
began: Counter[str] = Counter()
ended: Counter[str] = Counter()
reached: dict[str, asyncio.Event] = {}
go: dict[str, asyncio.Event] = {}


class Boom(Exception):
    """The fault "exception"."""


class Return(Exception):
    """The fault "return", where it is an endpoint that returns."""


def begin(what: str, name: str) -> str:
    key = f"{what} {name}"
    began[key] += 1
    say(f"BEGAN {key}")
    return key


def end(key: str) -> None:
    ended[key] += 1
    say(f"ENDED {key}")


def say(line: str) -> None:
    """A line on stdout at once; threads do not come in between."""
    os.write(1, f"{line}\n".encode())


def event(events: dict[str, asyncio.Event], name: str) -> asyncio.Event:
    return events.setdefault(name, asyncio.Event())


class Case:
    """One connection: where its fault is due, and what it is."""

    def __init__(self, websocket: WebSocket) -> None:
        self.point, self.fault, self.name = (websocket.path_params[k] for k in ("point", "fault", "name"))
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()

    async def at(self, point: str) -> None:
        """Have the fault if it is due here."""
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
            case "timeout":
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            case "close" | "reset" | "half_close" | "sigterm":
                await asyncio.wait_for(event(go, self.name).wait(), MOST_SECONDS)

    def cancel(self) -> None:
        assert self.task is not None
        self.task.cancel()

    def sync_at(self, point: str) -> None:
        """The same in a thread."""
        if point != self.point:
            return
        self.loop.call_soon_threadsafe(event(reached, self.name).set)
        match self.fault:
            case "exception":
                raise Boom
            case "cancel":
                self.loop.call_soon_threadsafe(self.cancel)
                time.sleep(0.01)
            case "timeout":
                raise TimeoutError
            case "close" | "reset" | "half_close" | "sigterm":
                time.sleep(0.2)


ENDPOINT_POINTS = frozenset(POINTS[4:9])


async def case(websocket: WebSocket) -> Case:
    return Case(websocket)


async def before(case: Case = Depends(case)) -> None:
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
        case.sync_at("in_sync_dependency")
        yield
    finally:
        end(key)
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
    """Have the fault while `work` is under way."""
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
            await asyncio.wait_for(event(reached, name).wait(), MOST_SECONDS)
            await websocket.send_text("yes")
        elif verb == "go":
            event(go, name).set()
        else:
            await websocket.send_text(json.dumps(stats()))


def stats() -> dict[str, object]:
    """The books, and what the process holds."""
    return {
        "open": {key: count - ended[key] for key, count in began.items() if count != ended[key]},
        "repeated": [key for key, count in began.items() if count > 1],
        "cases": len(reached),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }
