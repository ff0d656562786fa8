"""Work that runs after the response has been sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from fastws_compat.concurrency import is_async, run_in_threadpool

P = ParamSpec("P")


class BackgroundTask:
    """A deferred call: `await task()` runs it, in a thread if the function is sync."""

    def __init__(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        #: What to call.
        self.func = func
        #: The positional arguments of the call.
        self.args = args
        #: The keyword arguments of the call.
        self.kwargs = kwargs
        #: Whether `func` is a coroutine function; others run in a thread.
        self.is_async = is_async(func)

    async def __call__(self) -> None:
        if self.is_async:
            await self.func(*self.args, **self.kwargs)
        else:
            await run_in_threadpool(self.func, *self.args, **self.kwargs)


class BackgroundTasks(BackgroundTask):
    """Tasks that run one after another, in the order in which they were added, until one raises."""

    def __init__(self, tasks: Sequence[BackgroundTask] | None = None) -> None:
        #: The tasks in the order in which they run.
        self.tasks = list(tasks or ())

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a function and its arguments; tasks run in the order in which they were added."""
        self.tasks.append(BackgroundTask(func, *args, **kwargs))

    async def __call__(self) -> None:
        for task in self.tasks:
            await task()
