"""The demo project: its pages, its command and its sockets, without a server."""

from __future__ import annotations

import io
from uuid import uuid4

import pytest
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.urls import reverse

from fastws_compat import WebSocketDisconnect
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from wsproject.accounts import make_accounts, make_rooms
from wsproject.asgi import application
from wsproject.chat.models import MAX_TEXT, Message, Room
from wsproject.chat.sockets import PAGE, Posted, Said
from wsproject.management.commands import demo

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


def sentence(text="Hello", key=None):
    return {"type": "post", "id": 7, "key": str(key or uuid4()), "text": text}


# ---- Models ----------------------------------------------------------------------------------------


def test_messages_are_numbered_per_room():
    ann, lab, office = make_user("ann"), make_room("lab"), make_room("office")
    numbers = [room.post(ann, uuid4(), "x")[0].number for room in (lab, lab, office)]
    assert numbers == [1, 2, 1]


def test_a_number_is_not_given_again_when_the_last_message_is_deleted():
    ann, lab = make_user("ann"), make_room()
    lab.post(ann, uuid4(), "x")[0].delete()
    assert lab.post(ann, uuid4(), "y")[0].number == 2


def test_a_message_sent_twice_is_saved_once():
    ann, lab, key = make_user("ann"), make_room(), uuid4()
    first, second = lab.post(ann, key, "x"), lab.post(ann, key, "x")
    assert first == (second[0], True)
    assert second[1] is False
    assert lab.messages.count() == 1


def test_a_key_belongs_to_its_author():
    lab, key = make_room(), uuid4()
    assert all(lab.post(make_user(name), key, "x")[1] for name in ("ann", "bob"))


def test_names_in_the_admin():
    message, _ = make_room().post(make_user("ann"), uuid4(), "x" * 100)
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
    for name in ("login", "chat:rooms", "ops:live"):
        assert f'href="{reverse(name)}"' in response.text


@pytest.mark.parametrize("path", ["/chat/", "/chat/lab/"])
def test_chat_pages_ask_for_the_login(client, path):
    make_room()
    assert client.get(path).headers["location"] == f"/login/?next={path}"


def test_rooms_are_listed_with_their_last_message(client):
    ann, lab = make_user("ann"), make_room()
    make_room("office")
    lab.post(ann, uuid4(), "x")
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


def test_the_client_of_the_room_page_is_up_to_date():
    call_command("ws_types", "--out", CLIENT, "--only", "chat", "--check")


def test_unknown_room(client):
    client.force_login(make_user("ann"))
    assert client.get("/chat/nowhere/").status_code == 404


@pytest.mark.parametrize("is_staff", [False, True])
def test_operations_page_is_for_staff(client, is_staff):
    client.force_login(make_user("ann", is_staff=is_staff))
    response = client.get("/admin/ops/")
    assert (response.status_code == 200) is is_staff
    if not is_staff:
        assert response.headers["location"] == "/admin/login/?next=/admin/ops/"


def test_admin_links_the_operations_page(client):
    client.force_login(make_user("ann", is_staff=True))
    assert 'href="/admin/ops/"' in client.get("/admin/").text


def test_messages_are_not_written_in_the_admin(client):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    message, _ = make_room().post(boss, uuid4(), "x")
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


def test_a_new_tab_gets_the_last_page():
    ann, lab = make_user("ann"), make_room()
    for _ in range(PAGE + 5):
        lab.post(ann, uuid4(), "x")
    with socket_client(ann).websocket_connect("/ws/chat/lab") as tab:
        full, rest = tab.receive_json(), tab.receive_json()
    assert [full["done"], rest["done"]] == [False, True]
    assert [message["number"] for message in full["messages"]] == list(range(6, PAGE + 6))
    assert rest["messages"] == []


def test_a_tab_that_comes_back_gets_what_it_missed():
    ann, lab = make_user("ann"), make_room()
    for text in ("one", "two", "three"):
        lab.post(ann, uuid4(), text)
    with socket_client(ann).websocket_connect("/ws/chat/lab?after=1") as tab:
        frame = tab.receive_json()
    assert [message["text"] for message in frame["messages"]] == ["two", "three"]
    assert frame["done"]


@pytest.mark.parametrize("after", ["-1", "x", str(2**40)])
def test_a_wrong_number_is_refused(after):
    make_room()
    with pytest.raises(WebSocketDisconnect):
        with socket_client(make_user("ann")).websocket_connect(f"/ws/chat/lab?after={after}"):
            pass


def test_every_member_receives_a_message_and_its_author_a_receipt():
    ann, bob, _ = make_user("ann"), make_user("bob"), make_room()
    key = uuid4()
    with (
        socket_client(ann).websocket_connect("/ws/chat/lab") as one,
        socket_client(bob).websocket_connect("/ws/chat/lab") as two,
    ):
        for tab in (one, two):
            assert tab.receive_json() == {"type": "history", "messages": [], "done": True}
        one.send_json(sentence(" Hello ", key))
        receipt, own, heard = one.receive_message(), one.receive_message(), two.receive_message()
    saved = Message.objects.get()
    assert receipt == Posted(id=7, message=Said.model_validate(saved))
    assert own == heard == receipt.message
    assert (saved.text, saved.author, saved.key) == ("Hello", ann, key)


def test_a_message_sent_again_is_answered_with_the_first():
    ann, _ = make_user("ann"), make_room()
    again = sentence()
    with socket_client(ann).websocket_connect("/ws/chat/lab") as tab:
        tab.receive_json()
        tab.send_json(again)
        receipt, heard = tab.receive_message(), tab.receive_message()
        tab.send_json(again)
        assert tab.receive_message() == receipt
        assert receipt.message == heard
        tab.send_json({"type": "ping"})
        assert tab.receive_json() == {"type": "pong"}
    assert Message.objects.count() == 1


def test_rooms_do_not_hear_each_other():
    ann = make_user("ann")
    for slug in ("lab", "office"):
        make_room(slug)
    client = socket_client(ann)
    with (
        client.websocket_connect("/ws/chat/lab") as lab,
        client.websocket_connect("/ws/chat/office") as office,
    ):
        assert lab.receive_json()["done"]
        assert office.receive_json()["done"]
        lab.send_json(sentence())
        assert [lab.receive_json()["type"], lab.receive_json()["type"]] == ["posted", "said"]
        office.send_json({"type": "ping"})
        assert office.receive_json() == {"type": "pong"}


def test_others_see_who_is_typing():
    ann, bob, _ = make_user("ann"), make_user("bob"), make_room()
    with (
        socket_client(ann).websocket_connect("/ws/chat/lab") as one,
        socket_client(bob).websocket_connect("/ws/chat/lab") as two,
    ):
        for tab in (one, two):
            tab.receive_json()
        one.send_json({"type": "typing"})
        assert two.receive_json() == {"type": "typing", "user": "ann"}


def test_a_gap_can_be_asked_for():
    ann, lab = make_user("ann"), make_room()
    with socket_client(ann).websocket_connect("/ws/chat/lab") as tab:
        tab.receive_json()
        lab.post(ann, uuid4(), "not heard")
        tab.send_json({"type": "recall", "after": 0})
        assert [message["text"] for message in tab.receive_json()["messages"]] == ["not heard"]


@pytest.mark.parametrize("text", ["", "  \n ", "x" * (MAX_TEXT + 1), "a\0b"])
def test_a_text_of_the_wrong_length_or_with_a_zero_is_not_saved(text):
    ann, _ = make_user("ann"), make_room()
    wrong = sentence(text)
    with socket_client(ann).websocket_connect("/ws/chat/lab") as tab:
        tab.receive_json()
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
        '{"type": "post", "id": 1, "key": "x", "text": "y"}',
        '{"type": "post", "id": 1, "key": "6f8f2d4e-55f7-4a54-9d1c-0d3f6e2f1a11", "text": "\\ud800"}',
        '{"type": "recall", "after": -1}',
        "[" * 100_000,
    ],
)
def test_a_frame_that_is_not_understood_harms_nothing(text):
    make_room()
    with socket_client(make_user("ann")).websocket_connect("/ws/chat/lab") as tab:
        tab.receive_json()
        tab.send_text(text)
        assert tab.receive_json()["type"] == "error"
        tab.send_json({"type": "ping"})
        assert tab.receive_json() == {"type": "pong"}


def test_the_group_is_left_however_the_tab_ends():
    ann, _ = make_user("ann"), make_room()
    layer = get_channel_layer()
    with socket_client(ann).websocket_connect("/ws/chat/lab") as tab:
        tab.receive_json()
        assert len(layer.groups) == 1
    assert layer.groups == {}


def test_a_layer_that_fails_once_keeps_the_tab_open(monkeypatch):
    ann, _ = make_user("ann"), make_room()
    layer = get_channel_layer()
    receive, failures = layer.receive, [ConnectionError("The layer is gone.")]

    async def receive_and_fail(channel):
        message = await receive(channel)
        if failures:
            raise failures.pop()
        return message

    monkeypatch.setattr(layer, "receive", receive_and_fail)
    with socket_client(ann).websocket_connect("/ws/chat/lab") as tab:
        tab.receive_json()
        tab.send_json({"type": "typing"})  # lost, because the layer fails
        tab.send_json({"type": "ping"})
        assert tab.receive_json() == {"type": "pong"}
        tab.send_json({"type": "typing"})
        assert tab.receive_json() == {"type": "typing", "user": "ann"}
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


def test_staff_get_the_last_twenty_entries():
    boss = make_user("boss", is_staff=True)
    entries = [log(boss, f"Room {number}", CHANGE) for number in range(25)]
    with socket_client(boss).websocket_connect("/ws/ops") as page:
        history = page.receive_json()
    assert [entry["id"] for entry in history["entries"]] == [entry.pk for entry in entries[5:]]
    assert history["entries"][-1] == {
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


def test_staff_who_come_back_get_all_they_missed():
    boss = make_user("boss", is_staff=True)
    entries = [log(boss, f"Room {number}") for number in range(25)]
    with socket_client(boss).websocket_connect(f"/ws/ops?after={entries[0].pk}") as page:
        assert len(page.receive_json()["entries"]) == 24


def test_what_is_saved_in_the_admin_is_shown_live(client, django_capture_on_commit_callbacks):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    client.force_login(boss)
    with socket_client(boss).websocket_connect("/ws/ops") as page:
        assert page.receive_json() == {"type": "history", "entries": []}
        with django_capture_on_commit_callbacks(execute=True):
            client.post("/admin/chat/room/add/", {"name": "Lab", "slug": "lab", "topic": ""})
        entry = page.receive_json()
        assert (entry["action"], entry["object"], entry["user"]) == ("Addition", "Lab", "boss")
        page.send_json({"type": "ping"})
        assert page.receive_json() == {"type": "pong"}


def test_what_is_not_committed_is_not_shown(django_capture_on_commit_callbacks):
    boss = make_user("boss", is_staff=True)
    with socket_client(boss).websocket_connect("/ws/ops") as page:
        page.receive_json()
        with django_capture_on_commit_callbacks(execute=False) as waiting:
            log(boss, "Not yet")
        assert len(waiting) == 1
        page.send_json({"type": "ping"})
        assert page.receive_json() == {"type": "pong"}


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
    with socket_client(boss).websocket_connect("/ws/ops") as page:
        page.receive_json()
        with django_capture_on_commit_callbacks(execute=True):
            client.post("/admin/chat/room/", form)
        shown = [page.receive_json(), page.receive_json()]
    assert not Room.objects.exists()
    assert {entry["object"] for entry in shown} == {"Lab", "Office"}
    assert [(entry["flag"], entry["url"]) for entry in shown] == [(DELETION, None)] * 2
