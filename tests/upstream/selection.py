"""The pytest plugin that keeps, of upstream's tests, those of sockets on asyncio."""

from __future__ import annotations

import inspect

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if _is_about_sockets(item)]


def _is_about_sockets(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or "trio" in item.name:
        return False
    return "websocket" in inspect.getsource(item.function).lower()
