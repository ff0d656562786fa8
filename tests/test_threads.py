"""Sync code in threads: what is cancelled, and what the threads keep between calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import deque
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.backends.signals import connection_created

from fastws_compat.concurrency import run_in_threadpool
from fastws_compat.threads import databases
from fastws_compat.threads.pool import OwnThread, own_thread, run_in


def test_cancelled_work_that_has_not_begun_is_dropped() -> None:
    calls: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        may_end.wait(30)
        calls.append("first")

    async def main() -> None:
        with own_thread() as thread:
            first = asyncio.create_task(run_in(thread, occupy))
            await asyncio.to_thread(begun.wait, 30)
            second = asyncio.create_task(run_in(thread, lambda: calls.append("second")))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            may_end.set()
            await first

    asyncio.run(main())
    assert calls == ["first"]


def test_a_cancellation_reaches_what_a_thread_awaits() -> None:
    ended: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def wait_for_ever() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("awaited")

        task = asyncio.create_task(run_in_threadpool(async_to_sync(wait_for_ever)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == ["awaited"]


def locmem(name: str) -> dict[str, Any]:
    return {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": name}}


def test_other_settings_have_other_cache_clients(settings: Any) -> None:
    def store(value: str) -> Any:
        from django.core.cache import cache

        cache.set("name", value)

    def read() -> Any:
        from django.core.cache import cache

        return cache.get("name")

    async def main() -> list[Any]:
        found = []
        for name in ("one", "two"):
            settings.CACHES = locmem(name)
            found.append(await run_in_threadpool(read))
            await run_in_threadpool(store, name)
            found.append(await run_in_threadpool(read))
        return found

    assert asyncio.run(main()) == [None, "one", None, "two"]


WITHOUT_DJANGO = """
import asyncio
from asgiref.local import Local
from fastws_compat.concurrency import run_in_threadpool

language = Local()

async def main():
    await run_in_threadpool(setattr, language, "code", "de")
    return language.code

print(asyncio.run(main()))
"""


def test_what_a_thread_sets_comes_back_without_django_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DJANGO], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "de\n"


def test_another_thread_is_importing_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two dependencies are the first of a process to use Django's caches."""
    import django.db  # noqa: F401
    from django.conf import settings
    from django.utils import translation

    assert settings.INSTALLED_APPS  # Django is in use
    monkeypatch.setattr(databases, "_spare", deque())
    spec = ModuleSpec("django.core.cache", None)
    spec._initializing = True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, spec.name, module_from_spec(spec))
    asyncio.run(run_in_threadpool(translation.activate, "de"))


def test_a_thread_in_a_project_without_django_counts_no_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "has_django", lambda: False)
    connection_created.disconnect(dispatch_uid="fastws_compat.connections")
    OwnThread().shutdown()
    assert not connection_created.disconnect(dispatch_uid="fastws_compat.connections")
    monkeypatch.undo()
    OwnThread().shutdown()
    assert connection_created.disconnect(dispatch_uid="fastws_compat.connections")
    databases.count_references()
