"""Sessions that are deleted from the database, by an operator or by code of the project."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channels.auth import logout
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.signals import request_started
from django.db import transaction
from django.db.models.signals import post_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fastws_compat import Depends, WebSocket
from fastws_compat.auth import get_user, login_required
from fastws_compat.logins import deletions, remote
from fastws_compat.testclient import TestClient
from tests.test_revalidation import app_for, connected, end_of, nothing_is_left
from tests.users import client_of, make_user

__all__ = ["nothing_is_left"]  # a fixture
pytestmark = pytest.mark.django_db

Commit = Callable[..., Any]


@pytest.fixture
def _listening() -> None:
    deletions.connect()
    request_started.send(sender=None)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(remote, "publish", messages.append)
    return messages


def sessions_of(*clients: TestClient) -> Any:
    return Session.objects.filter(pk__in=[client.cookies["sessionid"] for client in clients])


def delete_row(client: TestClient) -> None:
    sessions_of(client).get().delete()


def delete_rows(client: TestClient) -> None:
    sessions_of(client).delete()


def delete_unread(client: TestClient) -> None:
    """The row's contents can no longer be read when the signal is sent."""
    sessions_of(client).only("pk").delete()


@pytest.mark.usefixtures("_listening")
@pytest.mark.parametrize("delete", [delete_row, delete_rows, delete_unread])
@pytest.mark.parametrize("engine", ["db", "cached_db"])
def test_sockets_of_a_deleted_session_close(
    django_capture_on_commit_callbacks: Commit, settings: Any, engine: str, delete: Any
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    ann = make_user()
    here = client_of(ann, app_for(login_required))
    with here.websocket_connect("/ws") as one, connected(ann, login_required) as other:
        assert one.receive_text() == "in"
        with django_capture_on_commit_callbacks(execute=True):
            delete(here)
            assert end_of(one) == "open"
        assert [end_of(one), end_of(other)] == [4401, "open"]


@pytest.mark.usefixtures("_listening")
def test_a_deletion_that_is_rolled_back_closes_nothing(
    django_capture_on_commit_callbacks: Commit, published: list[Any]
) -> None:
    client = client_of(make_user(), None)
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        delete_row(client)
        transaction.set_rollback(True)
    assert published == []


@pytest.mark.usefixtures("_listening")
def test_one_message_tells_other_processes_of_many_deletions(
    django_capture_on_commit_callbacks: Commit, published: list[Any]
) -> None:
    ann = make_user()
    clients = [client_of(ann, None) for _ in range(3)]
    with django_capture_on_commit_callbacks(execute=True):
        with transaction.atomic():
            delete_rows(clients[0])
            transaction.set_rollback(True)
        sessions_of(*clients).delete()
    assert [(message["event"], message["users"]) for message in published] == [("recheck", None)]


@pytest.mark.usefixtures("_listening")
def test_a_session_without_a_login_tells_nobody(
    django_capture_on_commit_callbacks: Commit, published: list[Any]
) -> None:
    Session.objects.save("k" * 32, {"cart": [1]}, timezone.now())
    with django_capture_on_commit_callbacks(execute=True):
        Session.objects.all().delete()
    assert published == []


def test_a_process_without_requests_reads_no_row_that_it_deletes() -> None:
    """`clearsessions` may delete millions."""
    deletions.connect()
    client_of(make_user(), None)
    Session.objects.update(expire_date=timezone.now())
    with CaptureQueriesContext(transaction.get_connection()) as queries:
        call_command("clearsessions")
    assert len(queries) == 1
    assert not Session.objects.exists()


def test_a_process_that_serves_only_sockets_listens_too(django_capture_on_commit_callbacks: Commit) -> None:
    """It has no requests, but an endpoint may call Channels' `logout`."""
    deletions.connect()
    deletions.connect()  # `ready` and `get_asgi_application` call it
    post_delete.disconnect(sender=Session, dispatch_uid=deletions.DELETED)
    app = app_for(login_required)

    @app.websocket("/out", dependencies=[Depends(get_user)])
    async def out(websocket: WebSocket) -> None:
        await websocket.accept()
        await logout(websocket.scope)

    client = client_of(make_user(), app)
    with client.websocket_connect("/ws") as socket:
        assert socket.receive_text() == "in"
        with django_capture_on_commit_callbacks(execute=True), client.websocket_connect("/out") as leaving:
            assert leaving.receive()["type"] == "websocket.close"
        assert end_of(socket) == 4401


def test_sessions_outside_of_the_database(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    deletions.connect()
    request_started.send(sender=None)
    assert not post_delete.has_listeners(Session)
