"""Watching the messages of one socket: who may, what is kept, and how it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from fastws_compat import FastAPI, WebSocket
from fastws_compat.connections.states import SESSION
from fastws_compat.operations import api, send, taps
from fastws_compat.operations import sockets as list_sockets
from fastws_compat.operations.census import everybody, tapped
from tests.fake_server import FakeServer, binary, connected
from tests.test_operations_admin import LIST, Sockets
from tests.test_operations_admin import _plain_static as _plain_static
from tests.test_operations_admin import as_user as as_user
from tests.test_operations_admin import sockets as sockets

# Its tests replace it, because only one of them has the database.
record = taps.record

WATCHER = ("view_livesocket", "tap_livesocket")
ANN = User(pk=1, username="ann")

# The ids of the sockets that the tests have opened; those of other tests may still be listed.
ids: list[str] = []
echo = FastAPI()


@echo.websocket("/ws")
async def echo_text(websocket: WebSocket) -> None:
    ids.append(websocket.scope[SESSION].id)
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@echo.websocket("/raw")
async def echo_bytes(websocket: WebSocket) -> None:
    ids.append(websocket.scope[SESSION].id)
    await websocket.accept()
    await websocket.send_bytes(await websocket.receive_bytes())
    await websocket.receive()
    await websocket.close(4000, "enough")


@pytest.fixture(autouse=True)
def _allowed(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watching is allowed, and its end is recorded only where a test has the database."""
    settings.FASTWS = {**getattr(settings, "FASTWS", {}), "OPERATIONS_TAP": True}
    monkeypatch.setattr(taps, "record", lambda deed, watcher: None)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))

    return run


async def opened(path: str = "/ws", **scope: Any) -> tuple[FakeServer, str]:
    """A socket whose endpoint waits for its first message, and the socket's id."""
    server = connected(echo, path=path, **scope)
    await server.wait_sent("websocket.accept")
    server.take()
    while not server.receiving:
        await asyncio.sleep(0)
    return server, ids[-1]


async def tap(id: str, action: str, *, by: Any = ANN, **values: Any) -> dict[str, Any]:
    answer = await api.tap(id, action, by=by, **{"spare": False, **values})
    await asyncio.sleep(0)  # a start takes effect in the loop's next turn
    return answer


async def seen(id: str, **values: Any) -> list[tuple[str, str, str]]:
    found = (await tap(id, "read", **values))["messages"]
    return [(each["direction"], each["kind"], each["text"]) for each in found]


@in_loop
async def test_messages_in_both_directions() -> None:
    server, id = await opened()
    assert (await tap(id, "start"))["matched"] == 1
    for number in range(3):
        server.say(f"number {number}")
        await server.text()
    expected = [(way, "text", f"number {n}") for n in range(3) for way in ("in", "out")]
    assert await seen(id) == expected
    assert await seen(id, after=4) == expected[4:]
    await server.leave()
    assert tapped == {}


@in_loop
async def test_binary_and_close(monkeypatch: pytest.MonkeyPatch) -> None:
    excerpt = taps.excerpt
    server, id = await opened("/raw")
    await tap(id, "start")
    server.put(binary(b"\x00\xff"))
    await server.frame()
    assert await seen(id) == [("in", "bytes", "00 ff"), ("out", "bytes", "00 ff")]
    noted: list[Any] = []
    monkeypatch.setattr(taps, "excerpt", lambda message: noted.append(excerpt(message)) or noted[-1])
    server.say("bye")
    await server.wait_ended()
    assert [each["text"] for each in noted] == ["bye", "4000 enough"]


@in_loop
async def test_no_more_than_the_last_fifty_and_four_kibibytes() -> None:
    server, id = await opened()
    await tap(id, "start")
    for number in range(30):
        server.say(f"{number} " + "ä" * 4096)
        await server.text()
    found = (await tap(id, "read"))["messages"]
    assert [each["number"] for each in found] == list(range(11, 61))
    assert max(len(each["text"].encode()) for each in found) <= 4096
    assert all(each["cut"] and each["size"] > 8192 for each in found)
    assert taps.excerpt({"type": "websocket.send", "text": "\ud800"}) == {
        "kind": "text",
        "text": "?",
        "cut": False,
    }
    assert taps.excerpt({"type": "websocket.send", "bytes": b"x" * 4096})["cut"]
    await server.leave()


@in_loop
async def test_socket_is_as_before_after_the_tap() -> None:
    server, id = await opened()
    for _ in range(2):  # with and without a message for the call of `receive` that was waiting
        await tap(id, "start")
        server.say("watched")
        await server.text()
        await tap(id, "start")
        answer = await tap(id, "stop")
        assert (answer["matched"], answer["count"], answer["size"]) == (1, 2, 14)
        server.say("unwatched")
        await server.text()
    await tap(id, "start")
    await tap(id, "stop")
    [websocket] = [each.session.websocket for each in everybody()]
    assert websocket._pipe.passes
    assert "_checked" not in vars(websocket)
    assert (await tap(id, "read"))["refused"] == (await tap(id, "stop"))["refused"] == "ended"
    await server.leave()


@in_loop
async def test_cancelled_receive_is_not_noted_twice() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def patient(websocket: WebSocket) -> None:
        ids.append(websocket.scope[SESSION].id)
        await websocket.accept()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(websocket.receive_text(), 0.05)
        await websocket.send_text(await websocket.receive_text())
        await websocket.receive_text()

    server = connected(app)
    await server.wait_sent("websocket.accept")
    id = ids[-1]
    await tap(id, "start")
    await asyncio.sleep(0.1)
    server.take()
    server.say("once")
    await server.text()
    assert await seen(id) == [("in", "text", "once"), ("out", "text", "once")]
    await server.leave()


@in_loop
async def test_tap_during_the_handshake() -> None:
    app, go = FastAPI(), asyncio.Event()

    @app.websocket("/hesitant")
    async def hesitant(websocket: WebSocket) -> None:
        await go.wait()
        await websocket.accept(headers=[(b"set-cookie", b"token=secret")])
        await websocket.receive_text()

    server = connected(app, path="/hesitant")
    while not (rows := (await api.page({"route": "/hesitant"})).rows):
        await asyncio.sleep(0)
    await tap(rows[0].id, "start")
    go.set()
    await server.wait_sent("websocket.accept")
    await api.asend(rows[0].id, "hello")
    await server.wait_sent("websocket.send")
    assert await seen(rows[0].id) == [("out", "text", "hello")]
    await server.leave()


@in_loop
async def test_somebody_begins_while_another_stops() -> None:
    server, id = await opened()
    await tap(id, "start")
    await api.tap(id, "stop", by=ANN, spare=False)
    await tap(id, "start", by=User(pk=5))
    assert tapped[id].is_on
    await server.leave()


@in_loop
async def test_group_messages_are_seen() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def member(websocket: WebSocket) -> None:
        ids.append(websocket.scope[SESSION].id)
        await websocket.accept()
        await websocket.receive_text()

    server = connected(app)
    await server.wait_sent("websocket.accept")
    server.take()
    id = ids[-1]
    await tap(id, "start")
    await api.asend(id, "from an operator")
    assert await server.text() == "from an operator"
    assert await seen(id) == [("out", "text", "from an operator")]
    await server.leave()


@in_loop
async def test_it_ends_by_itself(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(taps, "SECONDS", 2.0)
    recorded: list[tuple[Any, str]] = []
    monkeypatch.setattr(taps, "record", lambda deed, watcher: recorded.append((deed, watcher)))
    server, id = await opened()
    await tap(id, "start")
    server.say("secret words")
    await server.text()
    while id in tapped:
        await asyncio.sleep(0.02)
    while not recorded:
        await asyncio.sleep(0.02)
    [(deed, watcher)] = recorded
    assert (deed.action, deed.subject, watcher) == ("untap", id, "1")
    assert deed.text(taps.ONE) == "Stopped watching 1 socket (2 messages, 24 bytes, nobody asked for more)"
    assert "secret" not in caplog.text
    await server.leave()


@in_loop
async def test_its_time_is_over_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps, "SECONDS", 0)
    server, id = await opened()
    await tap(id, "start")
    while id in tapped:
        await asyncio.sleep(0)
    await server.leave()


@in_loop
async def test_renewing_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server, id = await opened()
    monkeypatch.setattr(taps, "SECONDS", 0.5)
    await tap(id, "start")
    monkeypatch.setattr(taps, "SECONDS", 60)
    assert (await tap(id, "renew"))["matched"] == 1
    await asyncio.sleep(0.7)
    assert id in tapped
    await server.leave()


@in_loop
async def test_end_that_cannot_be_recorded_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(deed: Any, watcher: str) -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(taps, "record", fail)
    caplog.set_level(logging.INFO)
    server, id = await opened()
    await tap(id, "start")
    await server.leave()
    assert "The end of a tap could not be recorded (OSError: the database is away)" in caplog.text
    assert "user 1: /ws Stopped watching 1 socket (1 messages, 0 bytes, the socket ended)" in caplog.text


@pytest.mark.django_db
def test_record(admin_user: User, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deed = taps.untap("1234", "/ws", 3, 30, "the socket ended")
    record(deed, str(admin_user.pk))
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, "1234")
    assert entry.change_message == "Stopped watching 1 socket (3 messages, 30 bytes, the socket ended)"
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "django.contrib.admin"]
    record(deed, "7")
    assert LogEntry.objects.count() == 1
    assert "user 7: /ws Stopped watching" in caplog.text


@in_loop
async def test_who_and_what_is_refused(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, id = await opened(user=User(pk=2, username="boss", is_superuser=True))
    assert (await tap(id, "start", spare=True))["refused"] == "superuser"
    assert (await tap("unknown", "start"))["refused"] == "gone"
    assert (await tap(id, "nonsense"))["refused"] == "gone"
    monkeypatch.setattr(taps, "MAX_TAPS", 0)
    assert (await tap(id, "start"))["refused"] == "busy"
    monkeypatch.setattr(taps, "MAX_TAPS", 20)
    await tap(id, "start")
    other = User(pk=5, username="eve")
    assert (await tap(id, "read", by=other))["refused"] == "ended"  # without a record of its own
    assert (await tap(id, "renew", by=other))["refused"] == "ended"
    await tap(id, "start", by=other)
    await tap(id, "stop")
    assert await seen(id, by=other) == []
    settings.FASTWS = {**settings.FASTWS, "OPERATIONS_TAP": False}
    assert (await tap(id, "read", by=other))["refused"] == "off"
    await server.leave()


@in_loop
async def test_socket_of_another_library_is_refused() -> None:
    async def foreign(scope: Any, receive: Any, send: Any) -> None:
        ids.append(scope[SESSION].id)
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    app = FastAPI()
    app.mount("/", foreign)
    server = connected(app)
    await server.wait_sent("websocket.accept")
    id = ids[-1]
    assert (await tap(id, "start"))["refused"] == "foreign"
    await server.leave()


@in_loop
async def test_socket_that_is_closing_is_gone() -> None:
    server, _ = await opened()
    [found] = everybody()
    found.session.leaving = True
    assert taps.act(found, {"action": "start", "by": "1"}) == {"matched": 0, "refused": "gone"}
    found.session.leaving = False
    await server.leave()
    assert taps.act(found, {"action": "start", "by": "1"}) == {"matched": 0, "refused": "gone"}
    assert tapped == {}


@in_loop
async def test_socket_whose_loop_has_ended_is_gone() -> None:
    server, _ = await opened()
    [found] = everybody()
    ended = asyncio.new_event_loop()
    ended.close()
    answer = taps.act(replace(found, loop=ended), {"action": "start", "by": "1"})
    assert (answer, tapped) == ({"matched": 0, "refused": "gone"}, {})
    await server.leave()


@in_loop
async def test_socket_that_ends_before_the_tap_begins() -> None:
    server, id = await opened()
    [found] = everybody()
    await server.leave()
    tapped[id] = late = taps.Tap(found.session)
    late.begin()
    assert (tapped, late.is_on) == ({}, False)
    late.stop()
    assert tapped == {}


def test_by_default_only_in_debug(settings: Any) -> None:
    settings.FASTWS = {}
    assert not taps.is_allowed()
    settings.DEBUG = True
    assert taps.is_allowed()
    settings.FASTWS = {"OPERATIONS_TAP": False}
    assert not taps.is_allowed()


# The admin


@pytest.mark.django_db
def test_page(as_user: Callable[..., Client], sockets: Sockets) -> None:
    one = sockets.open("lobby")
    client = as_user(*WATCHER)
    page = f"{LIST}{one}/"
    assert "Watch messages" in client.get(page).content.decode()
    assert client.post(page + "tap/", {"action": "nonsense"}).url == page
    assert LogEntry.objects.count() == 0
    assert client.post(page + "tap/", {"action": "start"}).url == page
    sockets.run(sockets.say(0, "<img src=x onerror=alert(1)>"))
    send(one, "hello")
    sockets.run(sockets.servers[0].wait_sent("websocket.send"))
    html = client.get(page).content.decode()
    assert "Stop watching" in html
    assert "&lt;img src=x" in html
    assert "<img src=x" not in html
    assert "open, watched" in html
    assert list_sockets().rows[0].tapped
    news = client.post(page + "tap/", {"action": "renew", "after": "1"})
    assert "no-store" in news["Cache-Control"]
    assert not news.cookies
    [line] = news.json()["lines"]
    assert (line["number"], line["way"], line["text"], line["size"]) == (2, "out", "hello", "5 B")
    assert len(client.post(page + "tap/", {"action": "renew", "after": "x"}).json()["lines"]) == 2
    assert len(client.post(page + "tap/", {"action": "renew", "after": "9" * 5000}).json()["lines"]) == 2
    rows = as_user("view_livesocket").get(LIST + "data/").json()["rows"]
    assert rows[0]["cells"][0]["text"] == "– (watched)"
    client.post(page + "tap/", {"action": "stop"})
    client.post(page + "tap/", {"action": "stop"})
    assert client.post(page + "tap/", {"action": "renew"}).json() == {"is_on": False, "lines": []}
    texts = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert texts == [
        "Began to watch 1 socket (for a minute, or as long as the page is open)",
        "Stopped watching 1 socket (2 messages, 33 bytes)",
    ]
    assert {entry.object_repr for entry in LogEntry.objects.all()} == {"– /ws/{room} 203.0.113.x"}


@pytest.mark.django_db
def test_numbers_of_messages_are_for_the_script(
    as_user: Callable[..., Client], sockets: Sockets, settings: Any
) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    one = sockets.open("lobby")
    client = as_user(*WATCHER)
    client.post(f"{LIST}{one}/tap/", {"action": "start"})
    tapped[one].count = 1233
    sockets.run(sockets.say(0, "hello"))
    assert 'data-number="1234"' in client.get(f"{LIST}{one}/").content.decode()
    client.post(f"{LIST}{one}/tap/", {"action": "stop"})


@pytest.mark.django_db
def test_who_may(as_user: Callable[..., Client], sockets: Sockets, admin_user: User, settings: Any) -> None:
    one = sockets.open("lobby", admin_user)
    page = f"{LIST}{one}/"
    client = as_user("view_livesocket", "kick_livesocket")
    assert "Watch messages" not in client.get(page).content.decode()
    assert client.post(page + "tap/", {"action": "start"}).status_code == 403
    assert client.get(page + "tap/").status_code == 405
    client = as_user(*WATCHER)
    answer = client.post(page + "tap/", {"action": "start"}, follow=True)
    assert "Only a superuser may watch" in answer.content.decode()
    assert "Stop watching" not in answer.content.decode()
    boss = as_user(superuser=True)
    assert "Stop watching" in boss.post(page + "tap/", {"action": "start"}, follow=True).content.decode()
    boss.post(page + "tap/", {"action": "stop"})
    settings.FASTWS = {**settings.FASTWS, "OPERATIONS_TAP": False}
    assert "Watch messages" not in boss.get(page).content.decode()
    assert (
        "OPERATIONS_TAP is off" in boss.post(page + "tap/", {"action": "start"}, follow=True).content.decode()
    )
    boss.handler.enforce_csrf_checks = True
    assert boss.post(page + "tap/", {"action": "start"}).status_code == 403
