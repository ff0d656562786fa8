"""Fixtures for the tests of projects, `ws_client` and `group_messages`; pytest loads them by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastws_compat.groups import Sent
    from fastws_compat.testclient import TestClient


@pytest.fixture
def ws_client() -> TestClient:
    """A client of the project's ASGI application; `ws_client.force_login(user)` logs it in."""
    from fastws_compat.catalogue import project
    from fastws_compat.testclient import TestClient

    return TestClient(project())


@pytest.fixture
def group_messages() -> Iterator[list[Sent]]:
    """What is sent to groups during the test, in order; each has a `group` and a `message`."""
    from fastws_compat.groups import record

    with record() as sent:
        yield sent
