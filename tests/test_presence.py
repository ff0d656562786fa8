"""Who is present: the public API, the frames and the signals, in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.exceptions import GroupKindError
from fastws_compat.groups import Group, kinds
from fastws_compat.groups.attendance import attendance_of
from fastws_compat.groups.seats import MemorySeats
from fastws_compat.layers import client as layers
from fastws_compat.signals import presence_joined, presence_left
from fastws_compat.testclient import TestClient
from tests.fake_server import FakeServer, websocket_scope

ROOM = Group("room.7")


@pytest.fixture(autouse=True, params=["no layer", "in-memory layer"])
def layer(request: pytest.FixtureRequest, settings: Any) -> None:
    backend = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.CHANNEL_LAYERS = {} if request.param == "no layer" else backend
    settings.FASTWS = {"GROUPS": {"room.*": {"presence": {"linger": 0.3, "limit": 3}}}}
    layers.local_layer.cache_clear()


app = FastAPI()


@app.websocket("/ws/{user}")
async def room(websocket: WebSocket, user: str) -> None:
    """The client says what to do."""
    await websocket.accept()
    websocket.scope["user"] = SimpleNamespace(pk=user, is_authenticated=user != "nobody")
    async for command in websocket.iter_json():
        match command:
            case {"join": options}:
                await websocket.join(ROOM, **options)
            case {"update": info}:
                await websocket.update(ROOM, info)
            case {"leave": _}:
                await websocket.leave(ROOM)
            case {"close": code}:
                await websocket.close(code)
                return
            case {"who": _}:
                people = await ROOM.apresence()
                await websocket.send_json({"who": [[each.key, each.info, each.sockets] for each in people]})
            case {"number": _}:
                await websocket.send_json({"number": await ROOM.acount()})


class Client:
    """A client of live.js in the room."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def join(self, **options: Any) -> None:
        self.socket.send_json({"join": options})

    def ask(self, **command: Any) -> Any:
        """The answer to a command, whatever comes before it."""
        self.socket.send_json(command)
        [name] = command
        while name not in (answer := self.socket.receive_json()):
            pass
        return answer[name]

    def presence(self) -> dict[str, Any]:
        while (frame := self.socket.receive_json()).get("fastws") != "presence":
            pass
        return frame


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def connect(client: TestClient, user: str, claim: str | None = "") -> Any:
    return client.websocket_connect(f"/ws/{user}" + ("" if claim is None else f"?fastws={claim}"))


def test_the_first_frame_has_everybody_and_the_next_ones_what_has_changed(client: TestClient) -> None:
    with connect(client, "1") as first, connect(client, "2") as second:
        ann, bob = Client(first), Client(second)
        ann.join(presence={"name": "Ann"})
        everybody = ann.presence()
        bob.join(presence={"name": "Bob"})
        joined, all_for_bob = ann.presence(), bob.presence()
        second.send_json({"update": {"name": "Rob"}})
        changed = ann.presence()
        second.send_json({"leave": True})
        left = ann.presence()

    assert (everybody["group"], everybody["count"]) == ("room.7", 1)
    assert everybody["all"] == {"1": {"name": "Ann"}}
    assert (joined["joined"], joined["left"], joined["changed"]) == ({"2": {"name": "Bob"}}, [], {})
    assert all_for_bob["all"] == {"1": {"name": "Ann"}, "2": {"name": "Bob"}}
    assert all_for_bob["version"] == joined["version"]
    assert (changed["joined"], changed["left"], changed["changed"]) == ({}, [], {"2": {"name": "Rob"}})
    assert (left["joined"], left["left"], left["changed"], left["count"]) == ({}, ["2"], {}, 1)
    assert len({frame["version"] for frame in (everybody, joined, changed, left)}) == 4


def test_two_tabs_are_one_person(client: TestClient) -> None:
    with connect(client, "1") as watching, connect(client, "2") as tab:
        ann, bob = Client(watching), Client(tab)
        ann.join(presence=1)
        assert ann.presence()["all"] == {"1": 1}
        bob.join(presence=2)
        assert ann.presence()["joined"] == {"2": 2}
        with connect(client, "2") as other:
            again = Client(other)
            again.join(presence=2)
            assert again.presence()["count"] == 2
            assert ann.ask(who=True) == [["1", 1, 1], ["2", 2, 2]]
            tab.send_json({"leave": True})
            bob.ask(number=True)
            assert again.ask(number=True) == 2
            other.send_json({"leave": True})
            assert ann.presence()["left"] == ["2"]


def test_somebody_who_comes_back_in_time_has_not_left(client: TestClient) -> None:
    with connect(client, "1") as watching:
        ann = Client(watching)
        ann.join(presence=1)
        ann.presence()
        for _ in range(2):
            with connect(client, "2") as tab:
                bob = Client(tab)
                bob.join(presence=2)
                bob.presence()
        assert ann.presence()["joined"] == {"2": 2}
        begun = datetime.now(UTC)
        assert ann.presence()["left"] == ["2"]
        assert datetime.now(UTC) - begun > timedelta(seconds=0.1)


@pytest.mark.parametrize("code", [4401, 4403])
def test_who_may_no_longer_be_there_leaves_at_once(client: TestClient, code: int, settings: Any) -> None:
    settings.FASTWS = {"GROUPS": {"room.*": {"presence": {"linger": 600}}}}
    with connect(client, "1") as watching, connect(client, "2") as tab:
        ann, bob = Client(watching), Client(tab)
        ann.join(watch=True)
        assert ann.presence()["all"] == {}
        bob.join(presence=2)
        ann.presence()
        tab.send_json({"close": code})
        assert ann.presence()["left"] == ["2"]


def test_a_loop_that_serves_again_has_presence_again() -> None:
    """As with one event loop for all tests of a session."""

    async def serve(user: str) -> list[str]:
        says, said = asyncio.Queue[Any](), asyncio.Queue[Any]()
        lifespan = asyncio.ensure_future(app({"type": "lifespan"}, says.get, said.put))
        says.put_nowait({"type": "lifespan.startup"})
        assert (await said.get())["type"] == "lifespan.startup.complete"
        socket = FakeServer({"type": "websocket.connect"})
        socket.start(app, websocket_scope(path=f"/ws/{user}"))
        socket.say(json.dumps({"join": {"presence": 1}}))
        socket.say(json.dumps({"who": True}))
        await socket.wait_sent("websocket.send")
        says.put_nowait({"type": "lifespan.shutdown"})
        await lifespan
        await socket.leave()
        return [key for key, *_ in json.loads(socket.texts[0])["who"]]

    async def main() -> None:
        assert "1" in await serve("1")
        assert "2" in await serve("2")

    asyncio.run(main())


def test_who_only_watches_is_not_present(client: TestClient) -> None:
    with connect(client, "1") as watching:
        ann = Client(watching)
        ann.join(watch=True)

        assert ann.presence() | {"version": ""} == {
            "fastws": "presence",
            "group": "room.7",
            "version": "",
            "count": 0,
            "all": {},
        }
        assert ann.ask(who=True) == []


def test_a_client_of_another_kind_gets_no_frame(client: TestClient) -> None:
    with connect(client, "1", None) as plain:
        raw = Client(plain)
        raw.join(presence=1)
        plain.send_json({"who": True})
        assert plain.receive_json() == {"who": [["1", 1, 1]]}


def test_above_the_limit_there_is_only_the_count(client: TestClient) -> None:
    with connect(client, "1") as watching, connect(client, "2") as crowd:
        ann, many = Client(watching), Client(crowd)
        ann.join(presence=1)
        ann.presence()
        with connect(client, "3") as third, connect(client, "4") as fourth:
            for socket in (crowd, third, fourth):
                Client(socket).join(presence=2)
            while (above := ann.presence())["count"] < 4:
                pass
            assert above.keys() == {"fastws", "group", "version", "count"}
            crowd.send_json({"update": 3})
            fourth.send_json({"leave": True})
            below = ann.presence()
        assert below["all"] == {"1": 1, "2": 3, "3": 2}
        assert many.ask(number=True) == 3


def test_a_client_that_knows_only_the_count_gets_the_whole_list_when_it_returns(client: TestClient) -> None:
    with connect(client, "1") as watching, connect(client, "2") as second, connect(client, "3") as third:
        ann = Client(watching)
        ann.join(presence=1)
        for socket in (second, third):
            Client(socket).join(presence=2)
        with connect(client, "4") as fourth:
            Client(fourth).join(presence=2)
            while (above := ann.presence())["count"] < 4:
                pass
            fourth.send_json({"leave": True})
            while ann.presence()["count"] > 3:
                pass
        with connect(client, "5", f"room.7::0:{above['version']}") as returned:
            Client(returned).join(watch=True)
            assert Client(returned).presence()["all"] == {"1": 1, "2": 2, "3": 2}


def test_a_client_that_knows_a_version_gets_what_has_changed_since(client: TestClient) -> None:
    with connect(client, "1") as watching:
        ann = Client(watching)
        ann.join(presence=1)
        first = ann.presence()["version"]
        with connect(client, "2") as tab:
            Client(tab).join(presence=2)
            second = ann.presence()["version"]
            with connect(client, "3", f"room.7::0:{first}") as returned:
                Client(returned).join(watch=True)
                assert Client(returned).presence()["joined"] == {"2": 2}
            with connect(client, "3", f"room.7::0:{second}") as returned:
                bob = Client(returned)
                bob.join(watch=True)
                assert bob.ask(number=True) == 2
                ann.socket.send_json({"update": 5})
                assert bob.presence()["changed"] == {"1": 5}
            with connect(client, "3", "room.7::0:other.1") as returned:
                Client(returned).join(watch=True)
                assert "all" in Client(returned).presence()


def test_the_key_of_the_anonymous_is_their_socket_unless_one_is_given(client: TestClient) -> None:
    with connect(client, "nobody") as first, connect(client, "nobody") as second:
        one, two = Client(first), Client(second)
        one.join(presence=1)
        one.presence()
        two.join(presence=2, presence_key="guest")
        assert one.presence()["joined"] == {"guest": 2}
        assert one.ask(number=True) == 2
        two.join(presence=2, presence_key="other")
        changed = one.presence()
        while "guest" not in changed["left"]:
            changed = one.presence()
        assert two.ask(number=True) == 2


def test_a_key_that_is_too_long_is_refused_before_the_socket_joins() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for length in (500, 501):
            try:
                await websocket.join("room.7", presence=1, presence_key="\u00fc" * length)
            except ValueError as exc:
                await websocket.send_json(str(exc))
            else:
                await websocket.send_json(await Group("room.7").acount())
                await websocket.leave("room.7")
        await Group("room.7").asend("to nobody")
        await websocket.send_json("end")

    with TestClient(app) as client, client.websocket_connect("/") as socket:
        assert socket.receive_json() == 1
        assert socket.receive_json() == "A key of 1002 bytes exceeds the maximum of 1000."
        assert socket.receive_json() == "end"


def test_signals_come_once_for_a_person(client: TestClient) -> None:
    heard: list[tuple[str, Any]] = []

    def joined(sender: Any, **values: Any) -> None:
        values.pop("signal")
        heard.append(("joined", values))

    async def left(sender: Any, **values: Any) -> None:
        values.pop("signal")
        heard.append(("left", values))

    presence_joined.connect(joined)
    presence_left.connect(left)
    try:
        with connect(client, "1") as watching, connect(client, "2") as tab, connect(client, "2") as other:
            ann = Client(watching)
            ann.join(watch=True)
            ann.presence()
            Client(tab).join(presence="b")
            ann.presence()
            Client(other).join(presence="b")
            Client(other).ask(number=True)
            tab.send_json({"leave": True})
            other.send_json({"leave": True})
            ann.presence()
            ann.ask(number=True)
    finally:
        presence_joined.disconnect(joined)
        presence_left.disconnect(left)

    person = {"group": "room.7", "key": "2", "info": "b"}
    assert heard == [("joined", person), ("left", person)]


def test_sync_code_reads_who_is_there(client: TestClient) -> None:
    with connect(client, "1") as socket:
        ann = Client(socket)
        ann.join(presence={"name": "Ann"})
        ann.presence()
        [person] = ROOM.presence()

        assert ROOM.count() == 1
        assert (person.key, person.info, person.sockets) == ("1", {"name": "Ann"}, 1)
        assert abs(datetime.now(UTC) - person.since) < timedelta(seconds=30)


def test_a_group_without_presence_says_what_to_declare(client: TestClient) -> None:
    async def fails(call: Any) -> str:
        with pytest.raises(GroupKindError) as caught:
            await call
        return str(caught.value)

    texts = [
        asyncio.run(fails(Group("other").apresence())),
        asyncio.run(fails(Group("other").acount())),
    ]
    kinds.declare("other", history=True)
    try:
        texts.append(asyncio.run(fails(Group("other").apresence())))
    finally:
        kinds.declared.clear()
        kinds._found.clear()
    assert all('"presence": True' in text and 'FASTWS["GROUPS"]' in text for text in texts)


def test_only_who_is_present_can_update() -> None:
    errors: list[Exception] = []
    local = FastAPI()

    @local.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.update("room.7", {})
        except RuntimeError as exc:
            errors.append(exc)
        await websocket.join("room.7")
        try:
            await websocket.update(ROOM, {})
        except RuntimeError as exc:
            errors.append(exc)
        await websocket.close()

    with TestClient(local) as client, client.websocket_connect("/ws") as socket:
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    assert [str(exc)[:42] for exc in errors] == ["The socket is not present in 'room.7': joi"] * 2


@pytest.mark.parametrize("info", [object(), {"at": float("nan")}, {"name": "\ud800"}, {1, object()}])
def test_an_info_that_is_no_json_is_refused_and_changes_nothing(info: Any) -> None:
    local, seen = FastAPI(), []

    @local.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises((TypeError, ValueError)):
            await websocket.join(ROOM, presence=info)
        seen.append(await ROOM.acount())
        await ROOM.asend("to nobody")
        await websocket.join(ROOM, presence={"name": "Ann"}, presence_key="1")
        with pytest.raises((TypeError, ValueError)):
            await websocket.update(ROOM, info)
        seen.extend(person.info for person in await ROOM.apresence())
        await websocket.send_json("done")
        await websocket.close()

    with TestClient(local) as client, client.websocket_connect("/ws") as socket:
        assert socket.receive_json() == "done"
    assert seen == [0, {"name": "Ann"}]


@pytest.mark.parametrize("claim", ["", "?fastws="])
def test_who_leaves_while_the_store_is_slow_is_not_present(
    claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, counts = FastAPI(), []
    entering, may_go_on = asyncio.Event(), asyncio.Event()
    enter = MemorySeats.enter

    async def slowly(*arguments: Any) -> Any:
        entering.set()
        await may_go_on.wait()
        return await enter(*arguments)

    monkeypatch.setattr(MemorySeats, "enter", slowly)

    @local.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        joining = asyncio.create_task(websocket.join(ROOM, "room.8", presence={}))
        await entering.wait()
        await websocket.leave(ROOM, "room.8")
        may_go_on.set()
        await joining
        while await ROOM.acount():
            await asyncio.sleep(0.01)
        here = attendance_of("default")
        counts.extend([await Group("room.8").acount(), len(here._watches), any(here._places.values())])
        await websocket.close()

    with TestClient(local) as client, client.websocket_connect("/ws" + claim) as socket:
        with pytest.raises(WebSocketDisconnect):
            while True:
                socket.receive_json()
    assert counts == [0, 0, False]
