"""The demo project: its pages, its command and its sockets, without a server."""

from __future__ import annotations

import io
import json
import re
from contextlib import contextmanager
from html import unescape

import pytest
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.urls import reverse

from fastws_compat import WebSocketDisconnect
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from wsproject.accounts import make_accounts, make_rooms
from wsproject.asgi import application
from wsproject.chat.models import MAX_KEY, MAX_TEXT, Message, Room
from wsproject.chat.sockets import RECENT, Said, SomeoneTypes, room_group
from wsproject.management.commands import demo
from wsproject.ops.journal import RECENT as RECENT_ENTRIES
from wsproject.ops.journal import staff_group

pytestmark = pytest.mark.django_db

CLIENT = str(settings.BASE_DIR / "wsproject" / "chat" / "static" / "chat" / "sockets.js")


def socket_client(user=None):
    client = TestClient(application, headers={"origin": "http://testserver"}, timeout=5)
    if user is not None:
        client.force_login(user)
    return client


def make_room(slug="lab"):
    return Room.objects.create(slug=slug, name=slug.title())


def make_user(username, **rights):
    return User.objects.create_user(username, **rights)


def sentence(text="Hello", key="1-2"):
    return {"type": "post", "id": key, "key": key, "text": text}


@contextmanager
def chat_tab(user, slug="lab"):
    """A client other than ours, which has joined the room."""
    with socket_client(user).websocket_connect(f"/ws/chat/{slug}") as tab:
        assert_silent(tab)
        yield tab


def assert_silent(tab):
    """Nothing has been sent to this client, and its endpoint is listening."""
    tab.send_json({"type": "ping"})
    assert tab.receive_json() == {"type": "pong"}


@contextmanager
def live_tab(user, path, claim=""):
    """A client that speaks as `live.js` does, and how it joined."""
    with socket_client(user).websocket_connect(f"{path}?fastws={claim}") as tab:
        assert tab.receive_json()["fastws"] == "hello"
        yield tab, tab.receive_json()


def next_message(tab):
    """The data of the next message of a group; who is present does not matter here."""
    while (frame := tab.receive_json())["fastws"] != "message":
        pass
    return frame["data"]


def page_data(page):
    """What a page passes to its script: the position, and the rows that it shows."""
    position = unescape(re.search(r'data-position="([^"]*)"', page)[1])
    rows = re.search(r'<script id="recent" type="application/json">(.*?)</script>', page)[1]
    return position, json.loads(rows)


# ---- Models ----------------------------------------------------------------------------------------


def test_a_message_sent_twice_is_saved_once():
    ann, lab = make_user("ann"), make_room()
    assert lab.post(ann, "k", "x") == lab.post(ann, "k", "y")
    assert [message.text for message in lab.messages.all()] == ["x"]


def test_a_key_belongs_to_its_author_and_its_room():
    lab, office, ann, bob = make_room("lab"), make_room("office"), make_user("ann"), make_user("bob")
    posted = [room.post(user, "k", "x") for room, user in ((lab, ann), (lab, bob), (office, ann))]
    assert len({message.pk for message in posted}) == 3


def test_names_in_the_admin():
    message = make_room().post(make_user("ann"), "k", "x" * 100)
    assert str(message) == "ann: " + "x" * 60
    assert str(message.room) == "Lab"


# ---- Accounts and command --------------------------------------------------------------------------


def test_accounts_open_and_keep_their_passwords():
    member, staff = make_accounts()
    hashes = list(User.objects.order_by("pk").values_list("password", flat=True))
    assert [member, staff] == make_accounts()
    assert hashes == list(User.objects.order_by("pk").values_list("password", flat=True))
    assert member.password != staff.password
    assert User.objects.get(username="member").check_password(member.password)
    assert not User.objects.get(username="member").is_staff
    assert User.objects.get(username="staff").is_superuser


def test_accounts_are_repaired():
    make_accounts()
    user = User.objects.get(username="member")
    user.is_staff, user.is_active = True, False
    user.set_unusable_password()
    user.save()
    member, _ = make_accounts()
    user.refresh_from_db()
    assert (user.is_staff, user.is_active) == (False, True)
    assert user.check_password(member.password)


def test_a_changed_password_is_replaced():
    make_accounts()
    user = User.objects.get(username="staff")
    user.set_password("something else")
    user.save()
    _, staff = make_accounts()
    user.refresh_from_db()
    assert user.check_password(staff.password)


def test_rooms_are_made_once_and_left_as_they_are():
    make_rooms()
    Room.objects.filter(slug="general").update(name="Renamed")
    make_rooms()
    assert Room.objects.count() == 3
    assert Room.objects.get(slug="general").name == "Renamed"


def test_demo_prepares_prints_and_serves(settings, monkeypatch):
    settings.DEBUG = True
    served = []
    monkeypatch.setattr(demo, "serve", lambda *where: served.append(where))
    out = io.StringIO()
    call_command("demo", "--port", "8123", stdout=out)
    assert served == [("127.0.0.1", 8123)]
    assert "http://127.0.0.1:8123/admin/ops/" in out.getvalue()
    for account in make_accounts():
        assert f"{account.username} / {account.password}" in out.getvalue()


def test_demo_refuses_without_debug(settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="only with DEBUG on"):
        call_command("demo")
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("::1", "[::1]"),
        ("demo.local", "demo.local"),
    ],
)
def test_address_for_the_browser(bind, host):
    assert demo.browsable(bind) == host


def test_serve_runs_daphne_quietly(settings, monkeypatch):
    calls = []

    class CommandLine:
        def run(self, args):
            calls.append(args)

    settings.ALLOWED_HOSTS = ["localhost"]
    monkeypatch.setattr("daphne.cli.CommandLineInterface", CommandLine)
    demo.serve("192.0.2.7", 8000)
    assert calls == [
        ["--bind", "192.0.2.7", "--port", "8000", "--verbosity", "0", "wsproject.asgi:application"]
    ]
    assert settings.ALLOWED_HOSTS == ["localhost", "192.0.2.7"]


# ---- Pages -----------------------------------------------------------------------------------------


def test_landing_page_is_for_everybody(client):
    response = client.get("/")
    assert response.status_code == 200
    for address in (f"{reverse('login')}?next=/", reverse("chat:rooms"), reverse("ops:live")):
        assert f'href="{address}"' in response.text


def test_the_page_of_the_login_does_not_lead_back_to_itself(client):
    page = client.get(reverse("login")).text
    assert f'href="{reverse("login")}"' in page
    assert "?next=" not in page


def test_whoever_logs_in_returns_to_the_page(client):
    make_user("ann", password="secret")
    [link] = set(re.findall(r'href="(/login/[^"]*)"', client.get("/").text))
    answer = client.post(link, {"username": "ann", "password": "secret"})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("path", ["/chat/", "/chat/lab/", "/chat/lab/messages/"])
def test_chat_pages_ask_for_the_login(client, path):
    make_room()
    assert client.get(path).headers["location"] == f"/login/?next={path}"


def test_rooms_are_listed_with_their_last_message(client):
    ann, lab = make_user("ann"), make_room()
    make_room("office")
    lab.post(ann, "k", "x")
    client.force_login(ann)
    page = client.get("/chat/").text
    assert "last message" in page
    assert "no messages yet" in page


def test_room_page_names_its_room_and_user(client):
    make_room()
    client.force_login(make_user("ann"))
    page = client.get("/chat/lab/").text
    assert 'data-slug="lab"' in page
    assert 'data-user="ann"' in page


def test_room_page_has_the_newest_messages_and_the_position_before_them(client):
    ann, lab = make_user("ann"), make_room()
    for number in range(RECENT + 5):
        lab.post(ann, f"k{number}", f"</script> {number}")
    client.force_login(ann)
    position, rows = page_data(client.get("/chat/lab/").text)
    assert [row["text"] for row in rows] == [f"</script> {number}" for number in range(5, RECENT + 5)]
    assert position == room_group(lab).position()
    assert client.get("/chat/lab/messages/").json() == {"position": position, "messages": rows}


def test_the_client_of_the_room_page_is_up_to_date():
    call_command("ws_types", "--out", CLIENT, "--only", "chat", "--check")


def test_unknown_room(client):
    client.force_login(make_user("ann"))
    for path in ("/chat/nowhere/", "/chat/nowhere/messages/"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/admin/ops/", "/admin/ops/entries/"])
@pytest.mark.parametrize("is_staff", [False, True])
def test_operations_page_is_for_staff(client, is_staff, path):
    client.force_login(make_user("ann", is_staff=is_staff))
    response = client.get(path)
    assert (response.status_code == 200) is is_staff
    if not is_staff:
        assert response.headers["location"] == f"/admin/login/?next={path}"


def test_admin_links_the_operations_page(client):
    client.force_login(make_user("ann", is_staff=True))
    assert 'href="/admin/ops/"' in client.get("/admin/").text


def test_messages_are_not_written_in_the_admin(client):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    message = make_room().post(boss, "k", "x")
    client.force_login(boss)
    assert client.get("/admin/chat/message/add/").status_code == 403
    assert client.post(f"/admin/chat/message/{message.pk}/change/", {"text": "y"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/login/", "/chat/", "/chat/lab/", "/admin/", "/admin/ops/"])
def test_pages_have_no_inline_script_or_style(client, path):
    make_room()
    if path != "/login/":
        client.force_login(make_user("boss", is_staff=True, is_superuser=True))
    response = client.get(path)
    assert "script-src" not in response.headers["content-security-policy"]
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "unsafe-inline" not in response.headers["content-security-policy"]
    assert "<script>" not in response.text
    assert " style=" not in response.text
    assert " onclick=" not in response.text


@pytest.mark.parametrize("debug", [False, True])
def test_debug_pages_keep_their_styles(client, settings, debug):
    settings.DEBUG = debug
    response = client.get("/nowhere/")
    assert response.status_code == 404
    assert ("content-security-policy" in response.headers) is not debug


# ---- The chat's socket -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws/chat/lab", "/ws/ops"])
def test_anonymous_is_refused_before_accept(path):
    make_room()
    with pytest.raises(WebSocketDenialResponse) as refusal:
        with socket_client().websocket_connect(path):
            pass
    assert refusal.value.status_code == 401


def test_an_unknown_room_is_refused():
    with pytest.raises(WebSocketDenialResponse) as refusal:
        with socket_client(make_user("ann")).websocket_connect("/ws/chat/nowhere"):
            pass
    assert refusal.value.status_code == 404


def test_another_origin_is_refused():
    ann, _ = make_user("ann"), make_room()
    client = socket_client(ann)
    with pytest.raises(WebSocketDisconnect):
        with client.websocket_connect("/ws/chat/lab", headers={"origin": "http://evil.example"}):
            pass


def test_a_tab_gets_what_was_said_since_its_page_was_rendered(client):
    ann, lab = make_user("ann"), make_room()
    client.force_login(ann)
    position, rows = page_data(client.get("/chat/lab/").text)
    with chat_tab(ann) as other:
        for number in (1, 2):
            other.send_json(sentence(f"Number {number}", key=f"k{number}"))
            other.receive_json()
    with live_tab(ann, "/ws/chat/lab", f"chat.{lab.pk}:{position}") as (tab, joined):
        assert (rows, joined["recovered"]) == ([], True)
        assert [next_message(tab)["text"], next_message(tab)["text"]] == ["Number 1", "Number 2"]


def test_a_tab_whose_position_is_unknown_is_told_so():
    ann, lab = make_user("ann"), make_room()
    with live_tab(ann, "/ws/chat/lab", f"chat.{lab.pk}:abcdefgh:7") as (_, joined):
        assert joined["recovered"] is False


def test_two_tabs_of_a_user_are_one_person():
    ann, bob, lab = make_user("ann"), make_user("bob"), make_room()
    with chat_tab(ann), chat_tab(ann), chat_tab(bob):
        people = room_group(lab).presence()
    assert {person.key: (person.info, person.sockets) for person in people} == {
        str(ann.pk): ({"name": "ann"}, 2),
        str(bob.pk): ({"name": "bob"}, 1),
    }


def test_every_member_receives_a_message():
    ann, bob, _ = make_user("ann"), make_user("bob"), make_room()
    with chat_tab(ann) as one, chat_tab(bob) as two:
        one.send_json(sentence(" Hello "))
        own, heard = one.receive_message(), two.receive_message()
    saved = Message.objects.get()
    assert own == heard == Said.model_validate(saved)
    assert (saved.text, saved.author, saved.key) == ("Hello", ann, "1-2")


def test_a_message_sent_again_is_heard_once():
    ann, _ = make_user("ann"), make_room()
    with chat_tab(ann) as tab:
        for _ in range(2):
            tab.send_json(sentence())
        assert tab.receive_json()["type"] == "said"
        assert_silent(tab)
    assert Message.objects.count() == 1


def test_a_message_that_is_saved_but_not_delivered_is_posted_again(monkeypatch):
    ann, _ = make_user("ann"), make_room()

    async def fail(*args, **options):
        raise GroupSendError("The layer is gone.")

    with pytest.raises(WebSocketDisconnect) as closed, monkeypatch.context() as broken:
        broken.setattr(Group, "asend", fail)
        with chat_tab(ann) as tab:
            tab.send_json(sentence())
            tab.receive_json()
    assert closed.value.code == 1013
    with chat_tab(ann) as tab:
        tab.send_json(sentence())
        assert tab.receive_json()["text"] == "Hello"
    assert Message.objects.count() == 1


def test_rooms_do_not_hear_each_other():
    ann = make_user("ann")
    for slug in ("lab", "office"):
        make_room(slug)
    with chat_tab(ann, "lab") as lab, chat_tab(ann, "office") as office:
        lab.send_json(sentence())
        assert lab.receive_json()["type"] == "said"
        assert_silent(office)


def test_others_see_who_is_typing_and_the_history_does_not_keep_it():
    ann, bob, lab = make_user("ann"), make_user("bob"), make_room()
    with chat_tab(ann) as one, chat_tab(bob) as two:
        one.send_json({"type": "typing"})
        assert two.receive_message() == SomeoneTypes(user="ann")
        assert_silent(one)
    assert room_group(lab).history() == []


@pytest.mark.parametrize("text", ["", "  \n ", "x" * (MAX_TEXT + 1), "a\0b"])
def test_a_text_of_the_wrong_length_or_with_a_zero_is_not_saved(text):
    ann, _ = make_user("ann"), make_room()
    wrong = sentence(text)
    with chat_tab(ann) as tab:
        tab.send_json(wrong)
        complaint = tab.receive_json()
    assert (complaint["type"], complaint["status"], complaint["id"]) == ("error", 422, wrong["id"])
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"type": "unknown"}',
        '{"type": "post", "key": "", "text": "y"}',
        '{"type": "post", "key": "no spaces", "text": "y"}',
        '{"type": "post", "key": 7, "text": "y"}',
        '{"type": "post", "key": "%s", "text": "y"}' % ("k" * (MAX_KEY + 1)),
        '{"type": "post", "key": "k", "text": "\\ud800"}',
        "[" * 100_000,
    ],
)
def test_a_frame_that_is_not_understood_harms_nothing(text):
    make_room()
    with chat_tab(make_user("ann")) as tab:
        tab.send_text(text)
        assert tab.receive_json()["type"] == "error"
        assert_silent(tab)


def test_the_groups_are_left_however_the_tab_ends():
    ann, _ = make_user("ann"), make_room()
    layer = get_channel_layer()
    with chat_tab(ann):
        assert len(layer.groups) == 2
    assert layer.groups == {}


def test_a_layer_that_fails_once_keeps_the_tab_open(monkeypatch):
    ann, bob, _ = make_user("ann"), make_user("bob"), make_room()
    layer = get_channel_layer()
    receive, failures = layer.receive, [ConnectionError("The layer is gone.")]

    async def receive_and_fail(channel):
        message = await receive(channel)
        if failures:
            raise failures.pop()
        return message

    monkeypatch.setattr(layer, "receive", receive_and_fail)
    with chat_tab(ann) as one, chat_tab(bob) as two:
        one.send_json({"type": "typing"})  # lost, because the layer fails
        assert_silent(one)
        one.send_json({"type": "typing"})
        assert two.receive_json() == {"type": "typing", "user": "ann"}
    assert layer.groups == {}


# ---- The operations page's socket ------------------------------------------------------------------


def log(user, text, flag=ADDITION):
    kind = ContentType.objects.get_for_model(Room)
    return LogEntry.objects.create(
        user=user, content_type=kind, object_id="1", object_repr=text, action_flag=flag
    )


def test_a_member_is_refused_the_operations_socket():
    with pytest.raises(WebSocketDenialResponse) as refusal:
        with socket_client(make_user("ann")).websocket_connect("/ws/ops"):
            pass
    assert refusal.value.status_code == 403


def test_the_operations_page_has_the_latest_entries(client):
    boss = make_user("boss", is_staff=True)
    entries = [log(boss, f"Room {number}", CHANGE) for number in range(RECENT_ENTRIES + 5)]
    client.force_login(boss)
    position, rows = page_data(client.get("/admin/ops/").text)
    assert [row["id"] for row in rows] == [entry.pk for entry in entries[5:]]
    assert rows[-1] == {
        "type": "entry",
        "id": entries[-1].pk,
        "at": entries[-1].action_time.isoformat(),
        "user": "boss",
        "flag": CHANGE,
        "action": "Change",
        "kind": "Chat | room",
        "object": "Room 24",
        "url": "/admin/chat/room/1/change/",
        "change": "",
    }
    assert client.get("/admin/ops/entries/").json() == {"position": position, "entries": rows}


def test_staff_who_come_back_get_what_they_missed(client, django_capture_on_commit_callbacks):
    boss = make_user("boss", is_staff=True)
    client.force_login(boss)
    position, _ = page_data(client.get("/admin/ops/").text)
    with django_capture_on_commit_callbacks(execute=True):
        entries = [log(boss, f"Room {number}") for number in range(2)]
    with live_tab(boss, "/ws/ops", f"ops:{position}") as (page, joined):
        assert joined["recovered"] is True
        assert [next_message(page)["id"], next_message(page)["id"]] == [entry.pk for entry in entries]


def test_what_is_saved_in_the_admin_is_shown_live(client, django_capture_on_commit_callbacks):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    client.force_login(boss)
    with live_tab(boss, "/ws/ops") as (page, _):
        with django_capture_on_commit_callbacks(execute=True):
            client.post("/admin/chat/room/add/", {"name": "Lab", "slug": "lab", "topic": ""})
        entry = next_message(page)
    assert (entry["action"], entry["object"], entry["user"]) == ("Addition", "Lab", "boss")


def test_what_is_not_committed_is_not_sent(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=False) as waiting:
        log(make_user("boss", is_staff=True), "Not yet")
    assert len(waiting) == 1
    assert staff_group.history() == []


def test_an_entry_that_is_changed_is_not_announced(django_capture_on_commit_callbacks):
    entry = log(make_user("boss"), "Old")
    with django_capture_on_commit_callbacks() as waiting:
        entry.save()
    assert waiting == []


def test_several_deletions_at_once_are_shown_live(client, django_capture_on_commit_callbacks):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    rooms = [make_room("lab"), make_room("office")]
    client.force_login(boss)
    form = {"action": "delete_selected", "_selected_action": [room.pk for room in rooms], "post": "yes"}
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/admin/chat/room/", form)
    shown = [entry.message for entry in staff_group.history()]
    assert not Room.objects.exists()
    assert {entry["object"] for entry in shown} == {"Lab", "Office"}
    assert [(entry["flag"], entry["url"]) for entry in shown] == [(DELETION, None)] * 2


def test_a_single_deletion_is_sent_once(client, django_capture_on_commit_callbacks):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    client.force_login(boss)
    form = {"action": "delete_selected", "_selected_action": [make_room().pk], "post": "yes"}
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/admin/chat/room/", form)
    assert [entry.message["object"] for entry in staff_group.history()] == ["Lab"]
