"""The admin's pages of open sockets: who may see and do what, what is shown, and what is logged."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import translation

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.operations import api, listing, selections
from fastws_compat.operations.models import LiveSocket
from fastws_compat.operations.rates import Meter, Rates
from fastws_compat.operations.records import Done, Page, Row, Traffic
from fastws_compat.operations.survey import Answers
from tests.fake_server import FakeServer, connected

pytestmark = pytest.mark.django_db

LIST = "/admin/fastws_operations/livesocket/"
EVIL = "<img src=x onerror=alert(1)>"


class Sockets:
    """An application with open sockets in a loop of its own, as in a server."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.add_api_websocket_route("/ws/{room}", self.echo)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.servers: list[FakeServer] = []

    async def echo(self, websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            pass

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def open(self, room: str, user: Any = None, agent: str = "curl/8", client: str = "203.0.113.7") -> str:
        """Open a socket; returns its id."""

        async def begin() -> FakeServer:
            headers = [(b"user-agent", agent.encode())]
            server = connected(self.app, path=f"/ws/{room}", user=user, headers=headers, client=[client, 5])
            await server.wait_sent("websocket.accept")
            return server

        self.servers.append(self.run(begin()))
        listing.forget()
        from fastws_compat.operations import sockets

        return sockets(limit=1).rows[0].id

    async def say(self, number: int, text: str) -> None:
        """Send a text of a client, and wait until its endpoint has it."""
        self.servers[number].say(text)
        while self.servers[number].incoming:
            await asyncio.sleep(0)

    def closed(self, number: int) -> tuple[int, str]:
        server = self.servers[number]
        self.run(server.wait_sent("websocket.close"))
        message = server.sent[-1]
        return message["code"], message["reason"]

    def close(self) -> None:
        async def leave() -> None:
            for server in self.servers:
                if server.task is not None and not server.task.done():
                    await server.leave()

        self.run(leave())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()
        listing.forget()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    opened = Sockets()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _plain_static(settings: Any) -> None:
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if "wsproject" not in each]


@pytest.fixture
def as_user(db: None) -> Callable[..., Client]:
    """A client that is logged in as a member of the staff with some permissions."""

    def make(*permissions: str, superuser: bool = False, staff: bool = True) -> Client:
        name = f"user{User.objects.count()}"
        user = User.objects.create_user(name, is_staff=staff, is_superuser=superuser)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client(enforce_csrf_checks=False)
        client.force_login(user)
        return client

    return make


OPERATOR = ("view_livesocket", "kick_livesocket", "message_livesocket")


def hidden(page: Any) -> str:
    """The signed selection of a confirmation."""
    found = re.search(r'name="selection" value="([^"]+)"', page.content.decode())
    assert found is not None, page.content.decode()
    return found[1]


# Who


VIEWS = ["", "data/", "processes/", "some-id/"]


def test_only_those_who_may(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("1")
    for client, statuses in [
        (Client(), (302, 302)),
        (as_user(staff=False), (302, 302)),
        (as_user(), (403, 403)),
        (as_user("kick_livesocket"), (403, 403)),
        (as_user("view_livesocket"), (200, 403)),
        (as_user(*OPERATOR), (200, 200)),
        (as_user(superuser=True), (200, 200)),
    ]:
        assert [client.get(LIST + view).status_code for view in VIEWS] == [statuses[0]] * 4
        for action in ("kick/", "message/"):
            assert client.post(LIST + action, {"_selected_action": one}).status_code == statuses[1]


def test_each_action_has_its_permission(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("1")
    forms = {"kick": {"code": "1012"}, "message": {"text": "hello"}}
    for action, values in forms.items():
        client = as_user("view_livesocket", f"{action}_livesocket")
        [other] = forms.keys() - {action}
        assert client.post(f"{LIST}{other}/", {"_selected_action": one}).status_code == 403
        page = client.post(f"{LIST}{action}/", {"_selected_action": one})
        assert page.status_code == 200
        # What was allowed when the confirmation was shown is checked again.
        User.objects.get(pk=client.session["_auth_user_id"]).user_permissions.remove(
            Permission.objects.get(codename=f"{action}_livesocket")
        )
        answer = client.post(f"{LIST}{action}/", {"selection": hidden(page), **values})
        assert answer.status_code == 403
    assert not LogEntry.objects.exists()
    assert (sockets.servers[0].closes, sockets.servers[0].texts) == ([], [])


def test_verbs(as_user: Callable[..., Client]) -> None:
    client = as_user(superuser=True)
    assert client.get(LIST + "kick/").status_code == 405
    assert client.get(LIST + "message/").status_code == 405
    assert client.post(LIST + "data/").status_code == 405
    assert client.post(LIST + "some-id/").status_code == 405
    assert client.get(LIST + "some-id/tap/").status_code == 405
    for view in VIEWS:
        assert client.head(LIST + view).status_code == 200


# What each role may at most get of a URL: the status for reading, and that for the action of a POST.
ROLES: dict[str, tuple[tuple[str, ...], dict[str, bool], int, int]] = {
    "nobody": ((), {"staff": False}, 302, 302),
    "staff": ((), {}, 403, 403),
    "viewer": (("view_livesocket",), {}, 200, 403),
    "all but view": (("kick_livesocket", "message_livesocket", "tap_livesocket"), {}, 403, 403),
    "superuser": ((), {"superuser": True}, 200, 200),
}
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.mark.parametrize("role", ROLES)
def test_every_url_with_every_verb(as_user: Callable[..., Client], sockets: Sockets, role: str) -> None:
    """Nothing happens without a POST that is allowed, and no answer shows more than the role may see."""
    one = sockets.open("secret", agent="secret-agent")
    permissions, options, reads, acts = ROLES[role]
    client = as_user(*permissions, **options)
    for verb in VERBS:
        for url in ("", "data/", "processes/", f"{one}/"):
            answer = client.generic(verb, LIST + url)
            allowed = (reads, 302) if not url and verb == "POST" and reads == 200 else (reads, 405)
            assert answer.status_code in (allowed if reads == 200 else (reads,)), (verb, url)
            assert reads == 200 or b"secret" not in answer.content
        for url in ("kick/", "message/", f"{one}/tap/"):
            answer = client.generic(verb, LIST + url)
            if reads != 200:
                assert answer.status_code == reads, (verb, url)
            elif verb != "POST":
                assert answer.status_code == 405, (verb, url)
            else:
                # Nothing is selected, so that an operator is sent back to the list or the socket.
                assert answer.status_code == (302 if acts == 200 else 403), url
    assert not LogEntry.objects.exists()
    assert (sockets.servers[0].closes, sockets.servers[0].texts) == ([], [])


def test_post_without_token(sockets: Sockets, as_user: Callable[..., Client]) -> None:
    client = as_user(superuser=True)
    client.handler.enforce_csrf_checks = True
    assert client.post(LIST + "kick/", {"_selected_action": sockets.open("1")}).status_code == 403


def test_menu_entry(as_user: Callable[..., Client]) -> None:
    assert LIST not in as_user().get("/admin/").content.decode()
    page = as_user("view_livesocket").get("/admin/").content.decode()
    assert LIST in page
    assert "livesocket/add" not in page


# What is shown


def test_list(as_user: Callable[..., Client], sockets: Sockets, admin_user: User) -> None:
    one = sockets.open("lobby", admin_user, agent=EVIL)
    page = as_user("view_livesocket", "view_personal").get(LIST)
    html = page.content.decode()
    assert "1 open · 1 process" in html
    assert f'href="{LIST}{one}/">admin</a>' in html
    assert EVIL not in html
    assert "&lt;img src=x onerror" in html
    assert "203.0.113.7" in html
    assert 'name="action"' not in html  # without permission for any
    assert 'value="kick"' in as_user(*OPERATOR).get(LIST).content.decode()


def test_masks(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("secret")
    client = as_user("view_livesocket")
    for page in (client.get(LIST), client.get(LIST + "data/"), client.get(f"{LIST}{one}/")):
        html = page.content.decode()
        assert "203.0.113.x" in html
        assert "203.0.113.7" not in html
        assert "secret" not in html
    assert client.get(LIST + "data/", {"q": "secret"}).json()["rows"] == []
    assert len(client.get(LIST + "data/", {"q": "113.x"}).json()["rows"]) == 1


def test_search_filters_and_order(as_user: Callable[..., Client], sockets: Sockets, admin_user: User) -> None:
    sockets.open("1", admin_user)
    sockets.open("2")
    client = as_user(*OPERATOR, "view_personal")

    def users(**query: str) -> list[str]:
        rows = client.get(LIST + "data/", query).json()["rows"]
        return [row["cells"][0]["text"] for row in rows]

    assert users() == ["–", "admin"]
    assert users(o="since") == users(o="user") == ["admin", "–"]
    assert users(q="/ws/2") == users(login="no") == ["–"]
    assert users(login="yes", route="/ws/{room}", state="open") == ["admin"]
    assert users(route="/other") == []
    assert users(o="nonsense") == ["–", "admin"]
    html = client.get(LIST, {"login": "yes", "q": "adm", "o": "-user"}).content.decode()
    assert 'class="selected"' in html
    assert "Clear all filters" in html
    assert 'name="login" value="yes"' in html
    assert "No socket fits" in client.get(LIST, {"route": "/other"}).content.decode()


def test_a_thousand_sockets(as_user: Callable[..., Client], sockets: Sockets) -> None:
    async def open_all() -> list[FakeServer]:
        opened = [connected(sockets.app, path=f"/ws/{number}") for number in range(1000)]
        for server in opened:
            await server.wait_sent("websocket.accept")
        return opened

    sockets.servers = sockets.run(open_all())
    client = as_user("view_livesocket")
    html = client.get(LIST).content.decode()
    assert html.count("<tr data-id=") == 100
    assert "1,000 open · 1 process" in html
    assert "Showing 100 of 1,000, newest first. Narrow the search to see others." in html
    answer = client.get(LIST + "data/").json()
    assert len(answer["rows"]) == 100
    assert answer["totals"]["matched"] == 1000


def test_data_keeps_no_session(as_user: Callable[..., Client], sockets: Sockets, settings: Any) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = True
    client = as_user("view_livesocket")
    assert client.get(LIST).cookies
    answer = client.get(LIST + "data/")
    assert answer.status_code == 200
    assert not answer.cookies
    assert answer["Cache-Control"] == "no-store" or "no-store" in answer["Cache-Control"]


def reads_session(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Middleware of a project that looks into the session after the view."""

    def respond(request: Any) -> Any:
        response = get_response(request)
        response["X-Seen"] = request.session.get("_auth_user_id", "") + str("other" in request.session)
        return response

    return respond


def test_middleware_reads_the_session_after_data(
    as_user: Callable[..., Client], sockets: Sockets, settings: Any
) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = True
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.reads_session"]
    client = as_user("view_livesocket")
    answer = client.get(LIST + "data/")
    assert (answer.status_code, answer.cookies) == (200, {})
    assert answer["X-Seen"] == f"{client.session['_auth_user_id']}False"


def test_answers_are_kept_for_a_second(
    as_user: Callable[..., Client], sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = as_user("view_livesocket")
    assert client.get(LIST + "data/").json()["rows"] == []
    opened = listing.forget
    monkeypatch.setattr(listing, "forget", lambda: None)
    sockets.open("1")
    assert client.get(LIST + "data/").json()["rows"] == []
    opened()
    assert len(client.get(LIST + "data/").json()["rows"]) == 1


def test_socket(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("1")
    html = as_user(*OPERATOR).get(f"{LIST}{one}/").content.decode()
    assert "/ws/{room}" in html
    assert f'formaction="{LIST}kick/"' in html
    assert "Nobody has acted" in html


def test_socket_that_is_gone(as_user: Callable[..., Client]) -> None:
    page = as_user(*OPERATOR).get(LIST + "gone/")
    assert page.status_code == 200
    assert "not open any more" in page.content.decode()


def refuse_nul(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """Refuse what psycopg refuses for PostgreSQL."""
    if any("\0" in each for each in params or () if isinstance(each, str)):
        raise ValueError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return execute(sql, params, many, context)


def test_nul_reaches_no_database(as_user: Callable[..., Client], sockets: Sockets, settings: Any) -> None:
    settings.FASTWS = {**settings.FASTWS, "OPERATIONS_TAP": True}
    sockets.open("1")
    client = as_user(*OPERATOR, "tap_livesocket")

    def kick(page: Any) -> str:
        answer = client.post(LIST + "kick/", {"selection": hidden(page), "code": "1012"})
        assert answer.status_code == 302
        return LogEntry.objects.latest("pk").object_id or ""

    with connection.execute_wrapper(refuse_nul):
        nul = "%00"
        for address in (
            "a%00b/",
            f"?q={nul}&username={nul}&route={nul}&o={nul}",
            f"data/?q={nul}&process={nul}",
        ):
            assert client.get(LIST + address).status_code == 200
        assert client.post(f"{LIST}a%00b/tap/", {"action": "start"}).status_code == 302
        assert kick(client.post(f"{LIST}?group=a%00b", {"action": "kick_all"})) == "group:a\ufffdb"
        assert kick(client.post(LIST + "kick/", {"_selected_action": "a\0b"})) == "a\ufffdb"
        assert kick(client.post(LIST + "kick/", {"_selected_action": ["a\0", "b\0"]})) == "2 sockets"
        form = {"selection": hidden(client.post(LIST + "kick/", {"_selected_action": "a"})), "code": "1012"}
        page = client.post(LIST + "kick/", {**form, "reason": "a\0"})
        assert "Null characters are not allowed" in page.content.decode()


ODD_QUERIES = ["o=-", "o=--since", "login=maybe", "route=a&route=b", "q=%ff&state=%ed%a0%80", "&&&=", "%00=1"]
ODD_IDS = [
    "a/b/c",
    "%2F",
    "x/change",
    "x/delete",
    "..%2f",
    "%ff",
    "a" * 4000,
    "2_20sockets",
    "_",
]


def test_odd_addresses(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("1")
    client = as_user(*OPERATOR)
    for query in ODD_QUERIES:
        for view in ("", "data/"):
            assert client.get(f"{LIST}{view}?{query}", follow=True).status_code == 200, query
        for action in ("kick", "kick_all", "message", "kicked", "other"):
            answer = client.post(f"{LIST}?{query}", {"action": action, "_selected_action": [one, ""]})
            assert answer.status_code in (200, 302), (query, action)
    for id in ODD_IDS:
        answer = client.get(f"{LIST}{id}/")
        assert (answer.status_code, answer.get("X")) == (200, None), id
    assert LogEntry.objects.count() == 0
    assert sockets.servers[0].closes == []


PROJECTS: dict[str, dict[str, Any]] = {
    "no translation": {"USE_I18N": False, "LANGUAGE_CODE": "de"},
    "German": {"LANGUAGE_CODE": "de", "USE_THOUSAND_SEPARATOR": True},
    "naive times": {"USE_TZ": False},
    "no layer": {"CHANNEL_LAYERS": {}},
    "cookies": {
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "SESSION_SAVE_EVERY_REQUEST": True,
    },
    "all in the session": {
        "CSRF_USE_SESSIONS": True,
        "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
    },
}


@pytest.mark.parametrize("project", PROJECTS)
def test_settings_of_projects(
    as_user: Callable[..., Client], sockets: Sockets, settings: Any, project: str
) -> None:
    for name, value in PROJECTS[project].items():
        setattr(settings, name, value)
    one = sockets.open("1")
    client = as_user(superuser=True)
    for view in ("", "processes/", f"{one}/"):
        assert client.get(LIST + view).status_code == 200
    assert not client.get(LIST + "data/").cookies
    page = client.post(LIST, {"action": "kick", "_selected_action": one})
    answer = client.post(
        LIST + "kick/", {"selection": hidden(page), "code": "1012", "over": "0"}, follow=True
    )
    assert sockets.closed(0) == (1012, "")
    assert "Closed 1 socket in 1 process." in answer.content.decode()


@pytest.mark.parametrize("name", ["text", "number", "uuid"])
def test_bare_user_model_and_a_second_site(name: str) -> None:
    """Users without PermissionsMixin, and an admin site of the project's own, need a separate process."""
    script = Path(__file__).parent / "bare_user" / "run.py"
    environ = {**os.environ, "BADGE": name}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=environ)
    said = "1 0 0\n1 1 1 True\n[True] 1\nTrue 0\nTrue\nTrue\nTrue\n"
    said += "True True\nTrue\nTrue\nTrue True\n4403\n['Began', 'Closed']\n"
    assert done.stdout == said, done.stderr


PEOPLE = dict.fromkeys(("auth", "contenttypes", "routed"), "people")
PLACES: dict[str, dict[str, str]] = {
    "everything elsewhere": {**PEOPLE, "admin": "people", "sessions": "people"},
    "only the log elsewhere": {"admin": "log"},
    "all but the log elsewhere": {**PEOPLE, "sessions": "people"},
    "four databases": {**PEOPLE, "admin": "log", "sessions": "keys"},
}


@pytest.mark.parametrize("places", PLACES)
def test_a_router_spreads_the_tables_over_databases(places: str, tmp_path: Path) -> None:
    script = Path(__file__).parent / "routed" / "run.py"
    command = [sys.executable, script, tmp_path, json.dumps(PLACES[places])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = "4403\n4000\nTrue True\n['Began', 'Closed', 'Sent', 'Stopped']\nTrue\n"
    assert done.stdout == said, done.stderr


def test_what_goes_through_all_models_needs_no_table(admin_user: User) -> None:
    for options in ({}, {"use_base_manager": True}):
        said = StringIO()
        call_command("dumpdata", stdout=said, **options)
        models = {each["model"] for each in json.loads(said.getvalue())}
        assert "auth.user" in models
        assert "fastws_operations.livesocket" not in models
    assert LiveSocket.objects.count() == 0
    call_command("makemigrations", "fastws_operations", check=True, dry_run=True, verbosity=0)


def test_before_migrate(as_user: Callable[..., Client], sockets: Sockets) -> None:
    sockets.open("1")
    client = as_user(superuser=True)
    Permission.objects.filter(codename="kick_livesocket").delete()
    html = client.get(LIST).content.decode()
    assert "manage.py migrate" in html
    assert 'name="action"' not in html


# What is done


def test_kick_one(as_user: Callable[..., Client], sockets: Sockets, admin_user: User) -> None:
    one = sockets.open("lobby", User(pk=7, username="ann"))
    client = as_user(*OPERATOR)
    page = client.post(LIST, {"action": "kick", "_selected_action": one})
    assert "close 1 socket?" in page.content.decode()
    assert "ann on /ws/{room}" in page.content.decode()
    assert sockets.servers[0].closes == []
    answer = client.post(
        LIST + "kick/", {"selection": hidden(page), "code": "4403", "reason": "abuse", "over": ""}
    )
    assert answer.status_code == 302
    assert sockets.closed(0) == (4403, "abuse")
    assert "Closed 1 socket in 1 process." in client.get(LIST).content.decode()
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.object_repr) == (one, "ann /ws/{room} 203.0.113.x")
    assert entry.change_message == "Closed 1 socket (code 4403, reason 'abuse')"
    assert entry.is_change()
    url = entry.get_admin_url()
    assert url == reverse("admin:fastws_operations_livesocket_change", args=[one])
    assert "Closed 1 socket" in client.get(url).content.decode()


def test_kick_several(as_user: Callable[..., Client], sockets: Sockets) -> None:
    ids = [sockets.open("1"), sockets.open("2")]
    sockets.open("3")
    client = as_user(*OPERATOR)
    page = client.post(LIST + "kick/", {"_selected_action": [*ids, ids[0]]})
    assert "close 2 sockets?" in page.content.decode()
    client.post(LIST + "kick/", {"selection": hidden(page), "code": "1012"})
    assert [sockets.closed(n) for n in (0, 1)] == [(1012, "")] * 2
    assert sockets.servers[2].closes == []
    [entry] = LogEntry.objects.all()
    assert entry.object_id == "2 sockets"
    assert all(one in entry.change_message for one in ids)
    assert client.get(entry.get_admin_url()).status_code == 200


def test_kick_all_that_match(as_user: Callable[..., Client], sockets: Sockets) -> None:
    sockets.open("1")
    client = as_user(*OPERATOR)
    page = client.post(f"{LIST}?route=/ws/{{room}}", {"action": "kick_all"})
    assert "All that match:" in page.content.decode()
    assert "route:/ws/{room}" in page.content.decode()
    client.post(LIST + "kick/", {"selection": hidden(page), "code": "1012", "over": "0"})
    assert sockets.closed(0) == (1012, "")
    entry = LogEntry.objects.get()
    assert entry.object_id == "route:/ws/{room}"
    client.get(LIST)  # shows what was done
    history = client.get(entry.get_admin_url()).content.decode()
    assert "Closed 1 socket (code 1012)" in history
    assert "This socket is not open" not in history
    client.post(
        LIST + "kick/", {"selection": hidden(client.post(LIST, {"action": "kick_all"})), "code": "1012"}
    )
    assert LogEntry.objects.latest("pk").object_id == "*"


@pytest.mark.parametrize("filters", ["user=1", "login=maybe", "state=opened", "_route=/ws/{room}"])
def test_an_unknown_filter_selects_nothing(
    filters: str, as_user: Callable[..., Client], sockets: Sockets
) -> None:
    sockets.open("1")
    client = as_user(*OPERATOR)
    address = f"?{filters}&process=here&q=ws"
    refused = f"The list has no such filter or value: {filters.partition('=')[0]}."
    listed = client.get(LIST + address, follow=True)
    assert listed.redirect_chain == [(f"{LIST}?q=ws&process=here", 302)]
    assert refused in listed.content.decode()
    for path in (LIST, f"{LIST}kick/"):
        page = client.post(path + address, {"action": "kick_all"}, follow=True)
        assert page.redirect_chain == [(LIST, 302)]
        assert refused in page.content.decode()
    assert not LogEntry.objects.exists()


def test_sockets_of_a_superuser_stay_open(
    as_user: Callable[..., Client], sockets: Sockets, admin_user: User
) -> None:
    ids = [sockets.open("1", admin_user), sockets.open("2")]
    client = as_user(*OPERATOR)
    page = client.post(LIST + "kick/", {"_selected_action": ids})
    answer = client.post(LIST + "kick/", {"selection": hidden(page), "code": "1012"}, follow=True)
    assert sockets.closed(1) == (1012, "")
    assert sockets.servers[0].closes == []
    assert f"only a superuser may close the sockets of a superuser: {ids[0]}" in answer.content.decode()
    root = as_user(superuser=True)
    page = root.post(LIST + "kick/", {"_selected_action": ids[:1]})
    root.post(LIST + "kick/", {"selection": hidden(page), "code": "4403"})
    assert sockets.closed(0) == (4403, "")


def test_message(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("1")
    client = as_user(*OPERATOR)
    page = client.post(LIST, {"action": "message", "_selected_action": one})
    answer = client.post(LIST + "message/", {"selection": hidden(page), "text": " hello "}, follow=True)
    assert "Sent a message to 1 socket in 1 process." in answer.content.decode()
    sockets.run(sockets.servers[0].wait_sent("websocket.send"))
    assert sockets.servers[0].texts == [" hello "]
    assert LogEntry.objects.get().change_message == "Sent a message to 1 socket (7 bytes)"


def test_line_breaks_of_a_message_are_those_that_were_typed(
    as_user: Callable[..., Client], sockets: Sockets
) -> None:
    """HTML: a form submits each line break of a text area as CR LF."""
    one = sockets.open("1")
    client = as_user(*OPERATOR)
    page = client.post(LIST, {"action": "message", "_selected_action": one})
    client.post(LIST + "message/", {"selection": hidden(page), "text": "first\r\nsecond"})
    sockets.run(sockets.servers[0].wait_sent("websocket.send"))
    assert sockets.servers[0].texts == ["first\nsecond"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"code": "1005"}, "cannot be closed with this code"),
        ({"code": "x"}, "Enter a whole number"),
        ({"code": "1012", "reason": "é" * 62}, "more than 123 bytes"),
        ({"code": "1012", "over": "-1"}, "greater than or equal to 0"),
    ],
)
def test_mistakes_in_the_form(
    as_user: Callable[..., Client], sockets: Sockets, values: dict[str, str], error: str
) -> None:
    client = as_user(*OPERATOR)
    page = client.post(LIST + "kick/", {"_selected_action": sockets.open("1")})
    page = client.post(LIST + "kick/", {"selection": hidden(page), **values})
    assert error in page.content.decode()
    assert hidden(page)
    assert not LogEntry.objects.exists()
    assert sockets.servers[0].closes == []


def test_selections_that_do_not_hold(
    as_user: Callable[..., Client], sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sockets.open("1")
    client = as_user(*OPERATOR)
    own = hidden(client.post(LIST + "kick/", {"_selected_action": one}))
    others = hidden(as_user(*OPERATOR).post(LIST + "kick/", {"_selected_action": one}))
    of_message = hidden(client.post(LIST + "message/", {"_selected_action": one}))
    for selection in (own[:-1], others, of_message, "nonsense"):
        page = client.post(LIST + "kick/", {"selection": selection, "code": "1012"})
        assert page.status_code == 400
        assert "Nothing was done" in page.content.decode()
    monkeypatch.setattr(selections, "MAX_AGE", -1)
    assert client.post(LIST + "kick/", {"selection": own, "code": "1012"}).status_code == 400
    assert sockets.servers[0].closes == []
    assert signing.loads(own, salt=f"{selections.SALT}.kick")[1] == {"id": [one]}


def test_nothing_selected(as_user: Callable[..., Client]) -> None:
    client = as_user(*OPERATOR)
    assert "Select the sockets first" in client.post(LIST, {"action": "kick"}, follow=True).content.decode()
    assert "No action selected" in client.post(LIST, {}, follow=True).content.decode()


def test_what_cannot_be_logged_is_not_done(
    as_user: Callable[..., Client], sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the disk is full")

    client = as_user(*OPERATOR)
    page = client.post(LIST + "kick/", {"_selected_action": sockets.open("1")})
    monkeypatch.setattr(LogEntry, "save", fail)
    with pytest.raises(RuntimeError, match="disk"):
        client.post(LIST + "kick/", {"selection": hidden(page), "code": "1012"})
    assert sockets.servers[0].closes == []


@pytest.mark.django_db(transaction=True)
def test_the_record_is_committed_before_the_action(
    as_user: Callable[..., Client], sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each request is a transaction, which could still fail when the sockets are closed."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    close, atomic = api.close, []

    async def closing(*args: Any, **values: Any) -> Any:
        atomic.append(await sync_to_async(lambda: connection.in_atomic_block)())
        return await close(*args, **values)

    monkeypatch.setattr(api, "close", closing)
    client = as_user(*OPERATOR)
    selection = hidden(client.post(LIST + "kick/", {"_selected_action": sockets.open("1")}))
    client.post(LIST + "kick/", {"selection": selection, "code": "1012"})
    assert sockets.closed(0) == (1012, "")
    assert atomic == [False]


def page(**values: Any) -> Page:
    return Page(
        **{
            "rows": [],
            "total": 0,
            "matched": 0,
            "silent": [],
            "older": [],
            "processes": [],
            "facets": {},
            **values,
        }
    )


def test_what_the_list_lacks() -> None:
    since = datetime(2026, 11, 26, 12, 4, tzinfo=UTC)
    lacking = page(silent=["web:2", "web:3"], older=["web:4"], unreached_since=since)
    assert listing.warnings(lacking) == [
        "No answer from web:2, web:3; its sockets are not listed.",
        "No answer from web:4, which runs an older version.",
        "Other processes are not reached since 12:04 UTC.",
    ]
    query = listing.Query("", {}, "-since")
    assert "does not reach others" in listing.empty(query, page(local=True))
    assert "no process answers" in listing.empty(query, page())
    assert listing.empty(query, page(processes=["web:1"])) == "No socket is open."
    rows = [Row.from_wire({"id": "a", "waiting": 3}, "web:1")]
    assert listing.footer(query, page(rows=rows, matched=7)).startswith("Showing 1 of 7, newest first.")
    cells = {each["name"]: each["text"] for each in listing.shown(rows[0], "admin")["cells"]}
    assert cells["waiting"] == "▲ 3"


def test_rates_need_two_answers() -> None:
    meter = Meter()
    assert meter.read(100, {"a": Traffic(10, 20, 0.002)}) == Rates(None, None, 0.002)
    assert meter.read(100.5, {"a": Traffic(11, 20)}) == Rates(None, None, None)
    # The answer of half a second ago is too recent to be compared.
    now = {"a": Traffic(14, 28, 0.004), "new": Traffic(99, 99, 0.001)}
    assert meter.read(101, now) == Rates(4, 8, 0.004)
    # A process that does not count makes the sum unknown; one that is there no more does not.
    assert meter.read(102, {"new": Traffic(101, None)}) == Rates(2, None, None)
    assert meter.read(104, {"older": Traffic()}) == Rates(None, None, None)
    assert meter.read(400, {"older": Traffic()}) == Rates(None, None, None)


def test_head_of_the_list() -> None:
    def head(*values: float | None) -> str:
        return listing.summary(page(total=1204, processes=["a", "b", "c"]), Rates(*values))

    assert head(38.2, 412, 0.004) == "1,204 open · 3 processes · 38 in/s · 412 out/s · lag p99 4 ms"
    assert head(None, 0, None).endswith(" · – in/s · 0 out/s · lag p99 –")
    assert head(0.01, 2.25, 0.0004).endswith(" · 0.1 in/s · 2.2 out/s · lag p99 < 1 ms")


def test_rates_of_consecutive_polls(
    as_user: Callable[..., Client], sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_meter", Meter())
    sockets.open("1")
    client = as_user("view_livesocket")
    first = client.get(LIST + "data/").json()["summary"]
    assert first.startswith("1 open · 1 process · – in/s · – out/s · lag p99 ")
    for text in ("a", "b", "c"):
        sockets.run(sockets.say(0, text))
    [(at, sample)] = listing._meter._samples
    listing._meter._samples[0] = (at - 30, sample)
    listing.forget()
    second = client.get(LIST + "data/").json()["summary"]
    assert " · 0.1 in/s · – out/s · " in second  # this server does not count what it sends


def test_few_pages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_CACHED", 1)
    for search in ("a", "b"):
        listing.ask(listing.Query(search, {}, "-since"), personal=True)
    assert len(listing._cache) == 1
    listing.forget()


class Asking:
    """Stands for `api.page`: its questions are answered when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.changed = threading.Condition()
        self.release = threading.Event()

    async def page(self, where: dict[str, Any], order: str, personal: bool) -> Page:
        with self.changed:
            self.asked.append(where["search"])
            total = len(self.asked)
            self.changed.notify_all()
        await asyncio.to_thread(self.release.wait, 20)
        if where["search"] == "broken":
            raise RuntimeError("no layer")
        return page(total=total)

    def wait_asked(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) == count, 20), self.asked


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asking]:
    asking = Asking()
    monkeypatch.setattr(api, "page", asking.page)
    listing.forget()
    yield asking
    asking.release.set()
    listing.forget()


def ask(search: str) -> int:
    return listing.ask(listing.Query(search, {}, "-since"), personal=True)[0].total


class Joined(Future[Any]):
    """A future that tells how many threads have begun to wait for it."""

    waiting = threading.Semaphore(0)

    def result(self, timeout: float | None = None) -> Any:
        self.waiting.release()
        return super().result(20)


def test_polls_at_the_same_time_share_a_question(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "Future", Joined)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(ask, "a")
        asking.wait_asked(1)
        others = [threads.submit(ask, "a") for _ in range(3)]
        for _ in others:
            assert Joined.waiting.acquire(timeout=20)
        # Another query is asked meanwhile, and what an operator changed is not in the answer to come.
        other = threads.submit(ask, "b")
        asking.wait_asked(2)
        listing.forget()
        later = threads.submit(ask, "a")
        asking.wait_asked(3)
        asking.release.set()
        assert [each.result(20) for each in (first, *others, other, later)] == [1, 1, 1, 1, 2, 3]
    assert asking.asked == ["a", "b", "a"]
    assert ask("a") == 3  # the late answer to the first question has not replaced it
    assert asking.asked == ["a", "b", "a"]


def test_a_question_that_fails_fails_for_all_who_wait(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "Future", Joined)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask, "broken")
        asking.wait_asked(1)
        second = threads.submit(ask, "broken")
        assert Joined.waiting.acquire(timeout=20)
        asking.release.set()
        for each in (first, second):
            with pytest.raises(RuntimeError, match="no layer"):
                each.result(20)
    with pytest.raises(RuntimeError, match="no layer"):
        ask("broken")
    assert asking.asked == ["broken"] * 2


def test_processes_page(as_user: Callable[..., Client], sockets: Sockets) -> None:
    sockets.open("1")
    html = as_user("view_livesocket").get(LIST + "processes/").content.decode()
    assert f'href="{LIST}?process=' in html
    assert "serving" in html


UNHEARD = (
    "No answer from web:9.",
    "No answer from web:8, which runs an older version.",
    "Other processes are not reached since 12:04 UTC.",
)


def test_order_by_bytes_and_silent_processes_after_an_action(
    as_user: Callable[..., Client], sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sockets.open("1")
    client = as_user(*OPERATOR)
    for order in ("bytes", "-messages", "last_in"):
        assert len(client.get(LIST + "data/", {"o": order}).json()["rows"]) == 1
    selection = hidden(client.post(LIST + "message/", {"_selected_action": one}))

    async def send(*args: Any, **values: Any) -> Done:
        return Done(1, 1, ["web:9"], ["web:8"], datetime(2026, 11, 27, 12, 4, tzinfo=UTC))

    monkeypatch.setattr(api, "send_payload", send)
    answer = client.post(LIST + "message/", {"selection": selection, "text": "x"}, follow=True)
    for warning in UNHEARD:
        assert warning in answer.content.decode()
    message = LogEntry.objects.get().change_message
    assert message.endswith("; no answer from web:9, web:8; the channel layer failed")

    async def survey() -> Any:
        return [], Answers({}, ["web:9"], ["web:8"], datetime(2026, 11, 27, 12, 4, tzinfo=UTC))

    monkeypatch.setattr(api, "survey_processes", survey)
    page = client.get(LIST + "processes/").content.decode()
    for warning in (*UNHEARD, "No process answers."):
        assert warning in page
    assert str(LiveSocket(pk="abc")) == "abc"


def test_texts() -> None:
    assert [listing.duration(n) for n in (-1, 59, 60, 7200, 90000, 200000)] == [
        "0 s",
        "59 s",
        "1 min",
        "2 h",
        "25 h",
        "2 d",
    ]
    assert [listing.size(n) for n in (None, 5, 2048, 5 * 2**20, 3 * 2**30)] == [
        "–",
        "5 B",
        "2 KiB",
        "5 MiB",
        "3 GiB",
    ]
    assert json.dumps(listing.number(None)) == '"\\u2013"'
    numbers = [lambda: listing.number(1204), lambda: listing.size(1000 * 2**20), lambda: listing.rate(3.44)]
    assert [text() for text in numbers] == ["1,204", "1,000 MiB", "3.4"]
    with translation.override("de"):  # where "1,204" is little more than one
        assert [text() for text in numbers] == ["1.204", "1.000 MiB", "3,4"]
