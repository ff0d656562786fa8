"""Fixtures for the tests of projects: `ws_client` and `group_messages`. pytest loads them automatically."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastws_compat.groups import Sent
    from fastws_compat.testclient.client import TestClient

# How many seconds the teardown of a test waits for the thread of the async ORM.
ORM_TIMEOUT = 5.0


@pytest.fixture
def ws_client() -> TestClient:
    """A client for the project's ASGI application; `ws_client.force_login(user)` logs it in."""
    from fastws_compat.schema.catalogue import project
    from fastws_compat.testclient.client import TestClient

    return TestClient(project())


@pytest.fixture
def group_messages() -> Iterator[list[Sent]]:
    """The messages sent to groups during the test, in order; each has a `group` and a `message`."""
    from fastws_compat.groups import record

    with record() as sent:
        yield sent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Close the connections of the async ORM: PostgreSQL cannot drop a test database that is in use."""
    orm = sys.modules.get("fastws_compat.threads.orm")
    closing = orm.release() if orm is not None else None
    if closing is not None:
        with suppress(TimeoutError):  # the test left the thread blocked
            closing.result(ORM_TIMEOUT)
