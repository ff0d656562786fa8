"""One call of sync code in a thread: its context variables, asgiref's locals, Django's caches and tenants."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from asgiref import sync
from asgiref.sync import SyncToAsync

from fastws_compat.threads import databases

# The name of the context variable that asgiref creates for each `Local` object.
LOCAL = "asgiref.local"
# Since asgiref 3.12, a `Local` object knows the thread that it belongs to.
MOVES_LOCALS = hasattr(sync, "_rehome")
# Sets variables in the current context. `Local` objects among them then belong to the current thread.
_set_locals: Any = sync._restore_context

# Prepares the thread for `async_to_sync`, which then finds the loop that the thread works for.
_async_to_sync_handler: Any = SyncToAsync(lambda: None, thread_sensitive=False)
_NO_EXCEPTION = (None, None, None)


class ThreadCall:
    """One call of sync code in a thread, with the context of its caller."""

    __slots__ = ("_context", "_inner", "_loop", "_tenants", "_work", "changed")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Any], tenants: Mapping[str, Any]
    ) -> None:
        self._loop = loop
        self._work = work
        self._tenants = tenants
        self._context = contextvars.copy_context()
        # The tasks that asgiref runs in the loop for an `async_to_sync` in the thread.
        self._inner: list[asyncio.Task[Any]] = []
        # The `Local` objects that the call has set.
        self.changed: dict[contextvars.ContextVar[Any], Any] | None = None

    def run(self) -> Any:
        """Make the call. Runs in the thread."""
        return _async_to_sync_handler.thread_handler(
            self._loop, _NO_EXCEPTION, self._inner, self._context.run, self._in_context
        )

    def _in_context(self) -> Any:
        if MOVES_LOCALS:  # pragma: no branch - the asgiref of the tests has it
            _set_locals(_locals(self._context))
        if self._tenants:
            databases.set_tenants(self._tenants)
        home = contextvars.copy_context()
        lent = databases.lend_caches()
        given = _locals(self._context)
        try:
            return self._with_anyio()
        except StopIteration as exc:  # a future cannot hold one
            raise RuntimeError("coroutine raised StopIteration") from exc
        finally:
            self._find_changed(given)
            if self.changed:
                lent |= databases.new_caches(home)
            if lent:
                databases.return_caches(lent)
            if lent and self.changed:
                self._find_changed(given)

    def _with_anyio(self) -> Any:
        anyio = import_module("anyio._core._eventloop") if "anyio" in sys.modules else None
        if anyio is None or not hasattr(anyio, "get_async_backend"):  # before anyio 4
            return self._work()
        # As in a worker thread of anyio, so that `anyio.from_thread` finds the loop.
        with anyio.claim_worker_thread(anyio.get_async_backend("asyncio"), self._loop):
            anyio.threadlocals.current_cancel_scope = None
            return self._work()

    def _find_changed(self, given: Mapping[contextvars.ContextVar[Any], Any]) -> None:
        now = _locals(self._context)
        self.changed = {
            variable: now[variable] for variable in now if given.get(variable) is not now[variable]
        }

    def cancel(self) -> None:
        """Cancel the tasks that the thread awaits; the thread itself cannot be stopped."""
        for task in self._inner:
            task.cancel()

    def copy_locals_back(self) -> None:
        """Copy the changed `Local` objects into the context of the caller, which runs this."""
        if self.changed:
            _set_locals(self.changed)


def _locals(context: contextvars.Context) -> dict[contextvars.ContextVar[Any], Any]:
    return {variable: value for variable, value in context.items() if variable.name == LOCAL}
