"""Which sockets stay open: changes that concern others, and rounds that cannot judge."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.backends import db
from django.db import OperationalError, connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from fastws_compat.auth import login_required, permission_required, user_passes_test
from fastws_compat.connections import census
from fastws_compat.logins.registry import checks
from tests.test_revalidation import KEPT, app_for, check_now, committed, connected, end_of, nothing_is_left
from tests.users import client_of, make_user

__all__ = ["committed", "nothing_is_left"]  # fixtures
pytestmark = pytest.mark.django_db


class SessionStore(db.SessionStore):
    """A session of a project that reads it in its own way."""

    def _get_session(self, no_load: bool = False) -> Any:
        return super()._get_session(no_load)

    _session = property(_get_session)


def test_sessions_of_an_own_engine_are_read_as_it_reads_them(settings: Any) -> None:
    settings.SESSION_ENGINE = __name__
    ann = make_user()
    with connected(ann, login_required) as websocket:
        check_now()
        assert end_of(websocket) == "open"
        SessionStore.get_model_class().objects.all().delete()
        check_now()
        assert end_of(websocket) == 4401


def test_the_queries_of_a_round_are_counted_while_somebody_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(make_user(), login_required):
        before = checks["queries"]
        check_now()
        assert checks["queries"] == before
        monkeypatch.setattr(census, "is_on", True)
        with CaptureQueriesContext(connection) as queries:
            check_now()
        assert checks["queries"] - before == len(queries) > 0


def test_a_login_or_logout_without_a_session_closes_nothing() -> None:
    ann = make_user()
    request: Any = RequestFactory().get("/")
    with connected(ann, login_required) as websocket:
        user_logged_in.send(User, request=request, user=ann)
        user_logged_out.send(User, request=request, user=ann)
        user_logged_out.send(User, request=request, user=None)
        assert end_of(websocket) == "open"


def session_of(client: Any, **contents: Any) -> Any:
    """The session of a client, with these contents; they are not saved."""
    session = db.SessionStore(client.cookies["sessionid"])
    session.update(contents)
    return session


@pytest.mark.parametrize("spelled", ["{:04}", " {}", "{}"])
def test_a_key_may_be_written_in_another_way(spelled: str) -> None:
    """As on Django's pages, which convert what the session holds."""
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    session = session_of(client, **{SESSION_KEY: spelled.format(ann.pk)})
    session.save()
    with client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"
        check_now()
        assert end_of(websocket) == "open"
        user_logged_out.send(User, request=SimpleNamespace(session=session), user=ann)
        assert end_of(websocket) == 4401


def test_a_session_that_names_no_user_of_this_model_is_closed() -> None:
    """Its logout closes nothing: its user has no sockets."""
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"
        session = session_of(client, **{SESSION_KEY: "a-uuid-of-old"})
        user_logged_out.send(User, request=SimpleNamespace(session=session), user=None)
        assert end_of(websocket) == "open"
        session.save()
        check_now()
        assert end_of(websocket) == 4401


def test_a_change_of_another_user_checks_nobody() -> None:
    ann, bob, checked = make_user(), make_user("bob"), []

    def is_known(user: Any) -> bool:
        checked.append(user.username)
        return True

    with connected(ann, user_passes_test(is_known)) as websocket:
        checked.clear()
        bob.save()
        bob.save(update_fields=["first_name"])
        assert end_of(websocket) == "open"
    assert checked == []


def test_a_test_that_cannot_reach_its_database_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answers: list[Any] = [True, OperationalError("down"), False]

    def is_member(user: Any) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    with connected(make_user(), user_passes_test(is_member)) as websocket:
        check_now()
        assert end_of(websocket) == "open"
        assert caplog.messages == ["Open WebSockets could not be revalidated (OperationalError: down)"]
        check_now()
        assert end_of(websocket) == 4403


def test_a_permission_that_is_required_twice_is_checked_once() -> None:
    ann = make_user(perms=["auth.view_user"])
    needed = [permission_required("auth.view_user") for _ in range(2)]
    with connected(ann, *needed) as websocket:
        check_now()
        assert end_of(websocket) == "open"
        ann.user_permissions.clear()
        assert end_of(websocket) == 4403


WITHOUT_USERS = """
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["fastws_compat"])
django.setup()

from fastws_compat import FastAPI, WebSocket
from fastws_compat.testclient import TestClient

app = FastAPI()

@app.websocket("/")
async def endpoint(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text("in")

with TestClient(app).websocket_connect("/") as websocket:
    print(websocket.receive_text())
"""


def test_a_project_without_users_has_sockets() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_USERS], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("in\n", "")


class Elsewhere(db.SessionStore):
    """A session of a project that keeps its data outside of the table, and cannot read one of them."""

    rows: ClassVar[dict[str, dict[str, Any]]] = {}

    def exists(self, session_key: str | None) -> bool:
        return session_key in self.rows

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        self.rows[self.session_key] = dict(self._get_session(no_load=must_create))

    def load(self) -> dict[str, Any]:
        if self.rows.get(self.session_key or "", {}).get("is_corrupt"):
            raise LookupError("no key to decrypt it")
        return dict(self.rows.get(self.session_key or "", {}))

    def delete(self, session_key: str | None = None) -> None:
        self.rows.pop(session_key or self.session_key or "", None)


def test_an_engine_with_a_load_of_its_own_is_asked_for_each_session(
    settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that it cannot read says nothing about the others."""
    monkeypatch.setattr(f"{__name__}.SessionStore", Elsewhere)
    settings.SESSION_ENGINE = __name__
    Elsewhere.rows.clear()
    ann, bob, eve = (make_user(name) for name in ("ann", "bob", "eve"))
    with ExitStack() as stack:
        sockets = [stack.enter_context(connected(user, login_required)) for user in (ann, bob, eve)]
        check_now()
        assert [end_of(websocket) for websocket in sockets] == ["open"] * 3
        keys = {data[SESSION_KEY]: key for key, data in Elsewhere.rows.items()}
        del Elsewhere.rows[keys[str(ann.pk)]]
        Elsewhere.rows[keys[str(bob.pk)]]["is_corrupt"] = True
        check_now()
        assert [end_of(websocket) for websocket in sockets] == [4401, "open", "open"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [KEPT]
