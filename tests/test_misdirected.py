"""The log line about a handshake that a view answers with 404."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.utils.log import log_response

from fastws_compat.connections import misdirected

KEY = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
HANDSHAKE = {**KEY, "Upgrade": "WebSocket", "Connection": "Upgrade"}
PATH = "/ws/nowhere"

pytestmark = pytest.mark.django_db  # the demo's 404 page queries the user


@pytest.fixture(autouse=True)
def _fresh_filter() -> Iterator[None]:
    """The filter of a process that has logged nothing yet."""
    log = logging.getLogger("django.request")
    before = log.filters
    log.filters = []
    misdirected.install()
    yield
    log.filters = before


def explained(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastws_compat"]


def line(advice: str) -> str:
    return f"A view answered the WebSocket handshake for '/ws/nowhere' with 404: {advice}."


def test_wsgi(caplog: pytest.LogCaptureFixture) -> None:
    assert Client().get(PATH, headers=HANDSHAKE).status_code == 404
    assert explained(caplog) == [line(misdirected.WSGI)]
    assert [record.getMessage() for record in caplog.records][-1] == f"Not Found: {PATH}"


def test_an_asgi_server_without_websockets(caplog: pytest.LogCaptureFixture) -> None:
    assert async_to_sync(AsyncClient().get)(PATH, headers=HANDSHAKE).status_code == 404
    assert explained(caplog) == [line(misdirected.NO_LIBRARY)]


def test_a_proxy_that_drops_the_upgrade(caplog: pytest.LogCaptureFixture) -> None:
    assert Client().get(PATH, headers=KEY).status_code == 404
    assert explained(caplog) == [line(misdirected.NO_UPGRADE)]


def test_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    misdirected.install()
    for _ in range(2):
        Client().get(PATH, headers=HANDSHAKE)
    assert len(explained(caplog)) == 1


def test_other_responses_and_records_are_not_explained(caplog: pytest.LogCaptureFixture) -> None:
    assert Client().get(PATH).status_code == 404
    request = RequestFactory().post(PATH, headers=HANDSHAKE)
    log_response("Method Not Allowed", response=HttpResponse(status=405), request=request)
    logging.getLogger("django.request").warning("A record without a request")
    assert len(caplog.records) == 3
    assert explained(caplog) == []
