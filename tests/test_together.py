"""Calls to one server that are made together with those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fastws_compat.groups import together
from fastws_compat.groups.stores import StoreError
from fastws_compat.groups.together import Together
from tests.fake_server import until


class Server:
    """It replies to a number with its negative, as soon as it may."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.replies = asyncio.Event()
        self.error: Exception | None = None

    async def run(self, calls: Sequence[int]) -> list[Any]:
        self.calls.append([*calls])
        await self.replies.wait()
        if self.error is not None:
            raise self.error
        return [-call for call in calls]


def run(main: Callable[[Server, Together], Awaitable[None]]) -> None:
    async def with_server() -> None:
        server = Server()
        await main(server, Together(server.run))

    asyncio.run(asyncio.wait_for(with_server(), 30))


async def begun(calls: Together, *numbers: int) -> list[asyncio.Task[Any]]:
    """Tasks that have made their calls, or wait."""
    tasks = [asyncio.create_task(calls.call(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


def test_calls_that_wait_are_made_together() -> None:
    async def main(server: Server, calls: Together) -> None:
        tasks = await begun(calls, 1, 2, 3)
        server.replies.set()
        assert await asyncio.gather(*tasks) == [-1, -2, -3]
        assert server.calls == [[1], [2, 3]]
        assert await calls.call(4) == -4
        assert server.calls[2:] == [[4]]

    run(main)


def test_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MAX_TOGETHER", 2)

    async def main(server: Server, calls: Together) -> None:
        tasks = await begun(calls, *range(6))
        server.replies.set()
        assert await asyncio.gather(*tasks) == [0, -1, -2, -3, -4, -5]
        assert server.calls == [[0], [1, 2], [3, 4], [5]]

    run(main)


def test_a_call_whose_caller_has_gone_is_not_made() -> None:
    async def main(server: Server, calls: Together) -> None:
        first, gone, last = await begun(calls, 1, 2, 3)
        gone.cancel()
        first.cancel()
        await until(lambda: server.calls == [[1], [3]])
        server.replies.set()
        assert await last == -3

    run(main)


def test_a_caller_that_goes_while_its_call_is_made_takes_nobody_along() -> None:
    async def main(server: Server, calls: Together) -> None:
        first, gone, last = await begun(calls, 1, 2, 3)
        first.cancel()
        await until(lambda: server.calls == [[1], [2, 3]])
        gone.cancel()
        await asyncio.sleep(0)
        server.replies.set()
        assert await last == -3

    run(main)


class OwnArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)


@pytest.mark.parametrize("error", [StoreError("it is away"), OwnArguments(1, "it is away")])
def test_each_caller_has_the_failure(error: Exception) -> None:
    error.__cause__ = OSError("reset")

    async def main(server: Server, calls: Together) -> None:
        tasks = await begun(calls, 1, 2, 3, 4)
        server.error = error
        tasks[2].cancel()
        server.replies.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(2), asyncio.CancelledError)
        assert [(type(each), str(each), each.__cause__) for each in results] == 3 * [
            (type(error), "it is away", error.__cause__)
        ]
        server.error = None
        assert await calls.call(5) == -5

    run(main)


def test_a_failure_of_some_that_go_meanwhile() -> None:
    async def main(server: Server, calls: Together) -> None:
        first, gone, last = await begun(calls, 1, 2, 3)
        first.cancel()
        await until(lambda: len(server.calls) == 2)
        gone.cancel()
        await asyncio.sleep(0)
        server.error = StoreError("it is away")
        server.replies.set()
        with pytest.raises(StoreError, match="it is away"):
            await last

    run(main)


def test_calls_that_are_not_answered_in_time(settings: Any) -> None:
    settings.FASTWS = {"LAYER_TIMEOUT": 0.01}

    async def main(server: Server, calls: Together) -> None:
        first, second = await begun(calls, 1, 2)
        first.cancel()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
            await second

    run(main)


def test_the_end_of_the_loop() -> None:
    waiting: list[asyncio.Task[Any]] = []

    async def main(server: Server, calls: Together) -> None:
        first, *others = await begun(calls, 1, 2, 3)
        first.cancel()
        await until(lambda: len(server.calls) == 2)
        waiting.extend([*others, *await begun(calls, 4)])

    run(main)
    assert [task.cancelled() for task in waiting] == [True] * 3
