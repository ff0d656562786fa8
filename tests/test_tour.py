"""The demo's home page: every capability works, and its code is one click away."""

from __future__ import annotations

import io
import json
import re

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import reverse

from fastws_compat import WebSocketDisconnect, __version__
from fastws_compat.groups import Group
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from wsproject.accounts import make_rooms
from wsproject.asgi import application
from wsproject.tour.capabilities import BY_SLUG, CAPABILITIES

pytestmark = pytest.mark.django_db


def client_of(username: str = "", **rights: bool) -> TestClient:
    client = TestClient(application, headers={"origin": "http://testserver"}, timeout=5)
    if username:
        client.force_login(User.objects.create_user(username, **rights))
    return client


def refusal_of(client: TestClient, path: str) -> int:
    with pytest.raises(WebSocketDenialResponse) as refusal:
        with client.websocket_connect(path):
            pass
    return int(refusal.value.status_code)


def test_slugs_are_unique():
    assert len(BY_SLUG) == len(CAPABILITIES)


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda capability: capability.slug)
def test_the_code_is_one_click_away(client, capability):
    page = client.get("/").text
    address = reverse("tour:code", args=[capability.slug])
    assert (f'href="{address}"' in page) is capability.is_available
    shown = client.get(address).text
    assert shown.count("<pre") == len(capability.code)
    for name in capability.code:
        assert f"wsproject/{name}" in shown


def test_the_code_of_something_else_is_not_shown(client):
    assert client.get("/tour/code/settings/").status_code == 404


def test_every_socket_of_the_page_exists(client):
    make_rooms()
    staff = client_of("boss", is_staff=True)
    sockets = re.findall(r'data-socket="([^"]+)"', client.get("/").text)
    assert sockets == [capability.socket for capability in CAPABILITIES if capability.socket]
    for path in sockets:
        with staff.websocket_connect(path):
            pass


def test_a_capability_whose_app_is_missing_is_left_out(client, monkeypatch):
    monkeypatch.setitem(vars(BY_SLUG["operations"]), "url", "")
    assert 'id="operations"' not in client.get("/").text


def test_parameters():
    path = "/ws/tour/hello/7"
    with client_of().websocket_connect(f"{path}?greeting=Welcome") as socket:
        socket.send_text("It is me")
        assert socket.receive_text() == "Welcome number 7: It is me"
    with pytest.raises(WebSocketDisconnect):
        with client_of().websocket_connect("/ws/tour/hello/seven"):
            pass


def test_dependencies():
    assert refusal_of(client_of(), "/ws/tour/rooms") == 404
    make_rooms()
    with client_of().websocket_connect("/ws/tour/rooms") as socket:
        assert socket.receive_json() == {"rooms": ["Coffee", "General", "Releases"]}


def test_messages():
    good, bad = BY_SLUG["messages"].lines
    with client_of().websocket_connect("/ws/tour/kitchen") as socket:
        socket.send_text(good)
        assert socket.receive_json() == {"type": "receipt", "text": "2 × Soup"}
        socket.send_text(bad)
        assert socket.receive_json()["status"] == 422
        socket.send_text(good)
        assert socket.receive_json()["type"] == "receipt"


def test_streams():
    with client_of().websocket_connect("/ws/tour/clock?ticks=1") as socket:
        assert set(socket.receive_json()) == {"at"}
        with pytest.raises(WebSocketDisconnect) as end:
            socket.receive_json()
    assert end.value.code == 1000


def test_groups(client):
    ann = User.objects.create_user("ann")
    assert client.get("/tour/publish/").status_code == 405
    assert client.post("/tour/publish/").headers["location"] == "/login/?next=/tour/publish/"
    client.force_login(ann)
    with client_of().websocket_connect("/ws/tour/news") as socket:
        assert client.post("/tour/publish/").status_code == 204
        assert socket.receive_json()["news"] == "ann pressed the button"


def test_logins():
    assert refusal_of(client_of(), "/ws/tour/members") == 401
    with client_of("ann").websocket_connect("/ws/tour/members") as socket:
        assert socket.receive_text().startswith("You are ann.")


def test_permissions():
    assert refusal_of(client_of(), "/ws/tour/staff") == 401
    assert refusal_of(client_of("ann"), "/ws/tour/staff") == 403
    with client_of("boss", is_staff=True).websocket_connect("/ws/tour/staff") as socket:
        assert socket.receive_text() == "You are staff."


@pytest.mark.parametrize(("sent", "code"), [(["x" * 101], 1009), (["Again"] * 4, 4429)])
def test_limits(sent, code):
    with client_of().websocket_connect("/ws/tour/limited") as socket:
        for text in sent:
            socket.send_text(text)
        with pytest.raises(WebSocketDisconnect) as end:
            for _ in sent:
                socket.receive_text()
    assert end.value.code == code


def test_codes():
    with client_of().websocket_connect("/ws/tour/wrong") as socket:
        with pytest.raises(WebSocketDisconnect) as end:
            socket.receive_text()
    assert (end.value.code, end.value.reason) == (4000, "This is the reason, and it arrives.")


def test_the_wall_keeps_what_was_written():
    client = client_of()
    with client.websocket_connect("/ws/tour/wall") as websocket:
        for text in ("one", "two"):
            websocket.send_text(text)
            assert websocket.receive_text() == text
    with client.websocket_connect("/ws/tour/wall") as websocket:
        assert [websocket.receive_text(), websocket.receive_text()] == ["one", "two"]


def test_a_user_with_two_tabs_is_one_person():
    client = client_of("ann")
    with (
        client.websocket_connect("/ws/tour/people"),
        client.websocket_connect("/ws/tour/people?fastws=") as tab,
    ):
        frames = [tab.receive_json() for _ in range(3)]
    assert [frame["fastws"] for frame in frames] == ["hello", "joined", "presence"]
    assert frames[-1]["count"] == 1
    assert list(frames[-1]["all"].values()) == [{"name": "ann"}]


def test_a_visitor_has_no_name():
    with client_of().websocket_connect("/ws/tour/people?fastws=") as tab:
        frames = [tab.receive_json() for _ in range(3)]
    assert list(frames[-1]["all"].values()) == [{"name": "a visitor"}]


def test_a_lamp_stays_as_it_was_switched():
    client, switch = client_of(), {"type": "switch", "lamp": "hall", "on": True}
    with client.websocket_connect("/ws/tour/lamps") as websocket:
        websocket.send_json({**switch, "lamp": "cellar"})
        assert websocket.receive_json()["status"] == 422
        websocket.send_json(switch)
        websocket.send_json({**switch, "lamp": "cellar"})  # answered after the switch
        assert websocket.receive_json()["status"] == 422
    assert Group("tour.lamps").state() == {"hall": True}
    with client.websocket_connect("/ws/tour/lamps?fastws=") as websocket:
        frames = [websocket.receive_json() for _ in range(3)]
    assert (frames[-1]["fastws"], frames[-1]["all"]) == ("state", {"hall": True})


def test_the_sockets_of_the_demo_have_a_name():
    out = io.StringIO()
    call_command("asyncapi", stdout=out)
    info = json.loads(out.getvalue())["info"]
    assert (info["title"], info["version"]) == ("The demo of fastws_compat", __version__)
