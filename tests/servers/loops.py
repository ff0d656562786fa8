"""Sockets that tell about the event loop under the server, and use what loops do differently."""

from __future__ import annotations

import json
import os

from django.conf import settings

if "DJANGO_SETTINGS_MODULE" not in os.environ:
    settings.configure(FASTWS=json.loads(os.environ.get("FASTWS", "{}")))

from fastws_compat.daphne import install

install()

import asyncio  # noqa: E402
import gc  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from typing import Any  # noqa: E402

from asgiref.sync import sync_to_async  # noqa: E402
from twisted.internet import protocol  # noqa: E402
from twisted.internet import reactor as installed  # noqa: E402

from fastws_compat import Depends, FastAPI, WebSocket  # noqa: E402

app = FastAPI()
reactor: Any = installed


def record(what: str) -> None:
    os.write(1, f"EVENT {what}\n".encode())


@app.websocket("/loop")
async def loop(websocket: WebSocket) -> None:
    running = asyncio.get_running_loop()
    await websocket.accept()
    await websocket.send_json(
        {
            "loop": type(running).__module__.partition(".")[0],
            "is the reactor's": reactor._asyncioEventloop is running,
            "uvloop is imported": "uvloop" in sys.modules,
        }
    )


def thread() -> str:
    return threading.current_thread().name


@app.websocket("/threads")
async def threads(websocket: WebSocket, pooled: str = Depends(thread)) -> None:
    """Threads that belong to the loop, to asgiref and to us, and calls from them."""
    running = asyncio.get_running_loop()
    called = running.create_future()

    def call() -> str:
        running.call_soon_threadsafe(running.call_later, 0.01, called.set_result, "called later")
        return thread()

    found = [await running.run_in_executor(None, call), await called]
    from_twisted = running.create_future()
    await running.run_in_executor(None, reactor.callFromThread, from_twisted.set_result, "called by Twisted")
    found.append(await from_twisted)
    sensitive = {await sync_to_async(threading.get_ident)() for _ in range(3)}
    await websocket.accept()
    await websocket.send_json({"found": found, "sensitive threads": len(sensitive), "pooled": pooled})


class Ended(protocol.ProcessProtocol):  # type: ignore[misc]
    def __init__(self) -> None:
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def processEnded(self, reason: Any) -> None:
        self.code.set_result(reason.value.exitCode)


@app.websocket("/processes")
async def processes(websocket: WebSocket) -> None:
    """A child process of asyncio's, and one of Twisted's."""
    await websocket.accept()
    child = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
    ended = Ended()
    reactor.spawnProcess(ended, "/bin/sh", ["sh", "-c", "exec <&- >&- 2>&-; sleep 0.5; exit 4"])
    await websocket.send_json([await child.wait(), await ended.code])


# Asked of the reactor before it runs, as a module of a project may.
reactor.callFromThread(record, "called from a thread")
reactor.callLater(0.01, record, "called later")
reactor.callWhenRunning(record, "called when running")


@app.websocket("/early")
async def early(websocket: WebSocket) -> None:
    await websocket.accept()


@app.websocket("/frozen")
async def frozen(websocket: WebSocket) -> None:
    await websocket.accept()
    gc.collect()
    for _ in range(30):  # a timer of the server freezes
        if gc.get_freeze_count():
            break
        await asyncio.sleep(0.1)
    await websocket.send_json(gc.get_freeze_count())
