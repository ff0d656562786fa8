"""Fixtures for the tests of projects, `ws_client` and `group_messages`; pytest loads them by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastws_compat.groups import Sent
    from fastws_compat.testclient.client import TestClient

# How long a test waits for the async ORM's thread, in seconds.
PATIENCE = 5.0


@pytest.fixture
def ws_client() -> TestClient:
    """A client of the project's ASGI application; `ws_client.force_login(user)` logs it in."""
    from fastws_compat.schema.catalogue import project
    from fastws_compat.testclient.client import TestClient

    return TestClient(project())


@pytest.fixture
def group_messages() -> Iterator[list[Sent]]:
    """What is sent to groups during the test, in order; each has a `group` and a `message`."""
    from fastws_compat.groups import record

    with record() as sent:
        yield sent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """PostgreSQL does not drop a test database that somebody is connected to."""
    orm = sys.modules.get("fastws_compat.threads.orm")
    closing = orm.release() if orm is not None else None
    if closing is not None:
        with suppress(TimeoutError):  # the test has left the thread blocked
            closing.result(PATIENCE)
