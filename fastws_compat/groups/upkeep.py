"""What the tasks that keep groups up to date have in common: each runs once, and callers wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any


def start_once(
    tasks: dict[str, asyncio.Task[None]], name: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Start a task, unless the one of this name is still running."""
    task = tasks.get(name)
    if task is None or task.done():
        # In an empty context: that of the first connection would be shared with all others.
        tasks[name] = asyncio.get_running_loop().create_task(work(), context=Context())


def resolve(waiters: dict[str, asyncio.Future[None]], groups: Iterable[str]) -> None:
    """Let those continue who wait for one of these groups."""
    for group in groups:
        waiter = waiters.pop(group, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
