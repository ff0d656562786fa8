"""Background tasks."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import pytest

from fastws_compat import FastAPI, WebSocket
from fastws_compat.background import BackgroundTask, BackgroundTasks
from tests.fake_server import CONNECT, DENIAL, FakeServer, websocket_scope


def test_sync_function_runs_in_a_thread() -> None:
    seen: list[threading.Thread] = []
    task = BackgroundTask(lambda: seen.append(threading.current_thread()))
    assert not task.is_async
    asyncio.run(task())
    assert seen != [threading.current_thread()]


def test_async_function_runs_in_the_loop() -> None:
    seen: list[Any] = []

    async def note(*args: int, **kwargs: int) -> None:
        seen.append((threading.current_thread(), args, kwargs))

    asyncio.run(BackgroundTask(note, 1, b=2)())
    assert seen == [(threading.current_thread(), (1,), {"b": 2})]


class Caller:
    async def __call__(self) -> None:
        pass

    async def method(self) -> None:
        pass

    def sync(self) -> None:
        pass


async def function() -> None:
    pass


@pytest.mark.parametrize(
    ("func", "is_async"),
    [
        (function, True),
        (functools.partial(functools.partial(function)), True),
        (Caller(), True),
        (functools.partial(Caller()), True),
        (Caller().method, True),
        (Caller().sync, False),
        (print, False),
        (functools.partial(print), False),
    ],
)
def test_what_counts_as_async(func: Any, is_async: bool) -> None:
    assert BackgroundTask(func).is_async is is_async


def test_tasks_run_one_after_another() -> None:
    order: list[int] = []

    async def slow(number: int, gate: asyncio.Event) -> None:
        gate.set()
        await asyncio.sleep(0)
        order.append(number)

    async def run() -> None:
        gate = asyncio.Event()
        tasks = BackgroundTasks([BackgroundTask(slow, 1, gate)])
        tasks.add_task(order.append, 2)
        tasks.add_task(slow, 3, gate=gate)
        await tasks()

    asyncio.run(run())
    assert order == [1, 2, 3]


def test_first_error_ends_the_row() -> None:
    order: list[int] = []

    def fail() -> None:
        raise LookupError

    tasks = BackgroundTasks()
    tasks.add_task(fail)
    tasks.add_task(order.append, 1)
    with pytest.raises(LookupError):
        asyncio.run(tasks())
    assert order == []


def test_given_list_of_tasks_is_not_shared() -> None:
    given = [BackgroundTask(print)]
    tasks = BackgroundTasks(given)
    tasks.add_task(print)
    assert len(given) == 1
    assert BackgroundTasks().tasks == []


class Passing:
    """Middleware of the project."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_socket_below_a_middleware_is_closed_once(accepts: bool, fails: bool) -> None:
    app = FastAPI()
    app.add_middleware(Passing)

    def work() -> None:
        if fails:
            raise ValueError

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks) -> None:
        tasks.add_task(work)
        if accepts:
            await websocket.accept()

    server = FakeServer(CONNECT)
    asyncio.run(app(websocket_scope(extensions=DENIAL), server.receive, server.send))
    kinds = [message["type"] for message in server.sent]
    assert kinds == ["websocket.accept", "websocket.close"][not accepts :]
