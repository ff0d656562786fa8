"""The time limit of calls to channel layers, compared with `asyncio.timeout`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from fastws_compat.layers import timeouts
from fastws_compat.layers.client import with_timeout
from fastws_compat.layers.timeouts import TimeLimit

NEVER = 3600.0


async def by_asyncio(work: Callable[[], Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await work()


async def by_time_limit(work: Callable[[], Any], seconds: float) -> Any:
    with TimeLimit(seconds):
        return await work()


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def swallow() -> str:
    with suppress(asyncio.CancelledError):
        await wait_for_ever()
    return "swallowed"


async def replace() -> None:
    try:
        await wait_for_ever()
    except asyncio.CancelledError:
        raise KeyError("of the call") from None


async def be_cancelled_too() -> None:
    task = asyncio.current_task()
    assert task is not None
    try:
        await wait_for_ever()
    except asyncio.CancelledError:
        task.cancel()
        raise


async def answer() -> str:
    await asyncio.sleep(0)
    return "answer"


@pytest.mark.parametrize("limited", [by_asyncio, by_time_limit])
@pytest.mark.parametrize(
    ("work", "seconds", "expected", "cancellations"),
    [
        (answer, NEVER, "answer", 0),
        (wait_for_ever, 0.01, TimeoutError, 0),
        (swallow, 0.01, "swallowed", 0),
        (replace, 0.01, KeyError, 0),
        (be_cancelled_too, 0.01, asyncio.CancelledError, 1),
    ],
)
def test_what_comes_of_a_call(
    limited: Any, work: Any, seconds: float, expected: Any, cancellations: int
) -> None:
    found: list[Any] = []

    async def caller() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            found.append(await limited(work, seconds))
        except BaseException as exc:
            found.append(type(exc))
        found.append(task.cancelling())

    async def main() -> None:
        await asyncio.wait([asyncio.create_task(caller())], timeout=30)

    asyncio.run(main())
    assert found == [expected, cancellations]


def test_a_call_that_its_caller_cancels() -> None:
    async def main() -> None:
        task = asyncio.create_task(by_time_limit(wait_for_ever, NEVER))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=30)
        assert task.cancelled()

    asyncio.run(main())


def test_loops_that_are_closed_are_forgotten() -> None:
    for _ in range(3):
        asyncio.run(by_time_limit(answer, NEVER))
    open_loops = [loop for loop, _ in timeouts._deadlines if not loop.is_closed()]
    assert len(timeouts._deadlines) - len(open_loops) == 1


def test_the_error_says_how_long_the_call_took(settings: Any) -> None:
    settings.FASTWS = {"LAYER_TIMEOUT": 0.01}
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        asyncio.run(with_timeout(wait_for_ever()))
    with pytest.raises(TimeoutError, match=r"no answer within 0\.02 s"):
        asyncio.run(with_timeout(wait_for_ever(), 0.02))
