"""Groups with a history: positions, recovery, what clients of `live.js` and raw ones receive."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from pydantic import BaseModel

from fastws_compat import FastAPI, TypedWebSocket, WebSocket
from fastws_compat.exceptions import GroupKindError
from fastws_compat.groups import Group, counters, hub, record
from fastws_compat.groups.breaker import breaker_of
from fastws_compat.groups.feeds import GroupFeed
from fastws_compat.groups.positions import Claim, Position, claims_of, parse_claims, parse_position
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import StoreRefused
from fastws_compat.layers import client as layers
from tests.fake_server import CONNECT, FakeServer, websocket_scope
from tests.live_clients import Client, acting_app, client, eventually, joining_app
from tests.redis_server import RedisServer
from tests.redis_server import redis as redis

pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

BACKENDS = {
    "memory": "channels.layers.InMemoryChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}


@pytest.fixture(autouse=True, params=["no layer", *BACKENDS])
def layer(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    config: dict[str, Any] = {"CONFIG": {}, "BACKEND": BACKENDS.get(request.param)}
    if request.param in ("pubsub", "core"):
        server: RedisServer = request.getfixturevalue("redis")
        # Each test has keys of its own.
        config["CONFIG"] = {"hosts": server.hosts, "prefix": f"test{uuid4().hex}"}
    settings.CHANNEL_LAYERS = {} if request.param == "no layer" else {"default": config}
    settings.FASTWS = {
        "GROUPS": {
            "short.*": {"history": {"count": 5, "bytes": 100}},
            "board.*": {"history": True, "state": {"keys": 2, "bytes": 100}},
            "who.*": {"presence": True},
            "room.*": {"history": {"count": 1000}},
            "long.*": {"history": {"count": 1000}, "state": True},
            "whole.*": {"history": True, "state": True, "presence": True},
        }
    }
    layers.health.cache_clear()
    layers.local_layer.cache_clear()
    counters.clear()
    yield request.param
    assert not hub.hubs


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(45):
            await main()
        for layer in channel_layers.backends.values():
            if hasattr(layer, "close_pools"):
                await layer.close_pools()
            elif "pubsub" in type(layer).__module__:
                await layer.flush()

    asyncio.run(limited())
    gc.collect()


def test_a_client_of_ours_gets_hello_its_position_and_envelopes() -> None:
    room = Group("room.1")
    app = joining_app(room)

    async def main() -> None:
        async with client(app) as one:
            hello = await one.next()
            assert (hello["fastws"], hello["beat"]) == ("hello", 25)
            assert hello["id"]
            joined = await one.next()
            epoch = joined.pop("epoch")
            assert len(epoch) == 8
            assert joined == {"fastws": "joined", "group": "room.1", "offset": 0, "recovered": None}
            assert one.sent[1]["text"].startswith('{"fastws":')
            assert await room.asend({"text": "hi"}) is True
            await room.asend("plain")
            await room.asend(b"\x00\xff", key="k")
            head = {"fastws": "message", "group": "room.1"}
            assert await one.next() == {**head, "offset": 1, "data": {"text": "hi"}}
            assert await one.next() == {**head, "offset": 2, "text": "plain"}
            assert await one.next() == {**head, "offset": 3, "key": "k", "payload": b"\x00\xff"}
            assert await room.aposition() == f"{epoch}:3"
        [joined] = app.state.joined
        assert (joined.recovered, joined.groups) == (None, {"room.1": None})

    run(main)


def test_a_raw_client_gets_todays_frames() -> None:
    room = Group("room.1")
    app = joining_app(room)

    async def main() -> None:
        async with client(app, None) as raw, client(app) as ours:
            await ours.until("joined")
            await eventually(lambda: len(app.state.joined) == 2)
            await room.asend({"text": "hi"})
            await room.asend(b"\x00")
            await room.asend("end")
            await eventually(lambda: len(raw.sent) == 4)
            assert [message.get("text", message.get("bytes")) for message in raw.sent[1:]] == [
                '{"text":"hi"}',
                b"\x00",
                "end",
            ]

    run(main)


def commanded_app(group: Group, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for command in websocket.iter_text():
            if command == "join":
                await websocket.join(group, **options)
            elif command == "leave":
                await websocket.leave(group)
            else:
                await group.asend(command, exclude=websocket if command == "to the others" else None)
            await websocket.send_text(f"done: {command}")

    return app


async def seen_by_a_raw_client(group: Group, keeps: bool) -> list[Any]:
    """Everything that a raw client receives in a group with members of both sorts, to its close frame."""
    options = {"presence": {"name": "Ann"}, "presence_key": "ann"} if keeps else {}
    app = commanded_app(group, **options)

    async with client(app, None) as raw, client(app) as ours:

        async def say(socket: FakeServer, command: str) -> None:
            before = len(socket.sent)
            socket.say(command)
            await eventually(lambda: f"done: {command}" in texts(socket)[before:])

        async def until(text: str, socket: FakeServer = raw) -> None:
            await group.asend(text)
            await eventually(lambda: any(text in each for each in texts(socket)))

        for socket in (raw, ours):
            await say(socket, "join")
        await group.asend({"text": "\u00fc\U0001f600", "fastws": 1})
        await group.asend(b"\x00\xff")
        await group.asend("")
        await until("all sorts")
        await say(ours, "from a client")
        await until("before its own")
        await say(raw, "to the others")
        await say(ours, "to the others")
        if keeps:
            await group.aset("a", 1)
            await group.aunset("a")
            await group.asend("with a key", key="k")
            assert await group.asend("with a key", key="k") is False
            async with client(app) as another:
                await say(another, "join")
                await say(another, "leave")
            await group.aclear()
        else:
            await group.asend("with a key")
        await until("after the changes")
        await say(raw, "leave")
        await until("after it has left", ours)
        await say(raw, "join")
        await until("back again")
        if keeps:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(store_of("default")), "append", refuse)
                await group.asend("live only")
            await eventually(lambda: breaker_of("default").hole(group.name) is None)
        else:
            await group.asend("live only")
        await until("the end")
        await group.adisconnect(4000, "bye")
        await eventually(lambda: raw.sent[-1]["type"] == "websocket.close")
        return list(raw.sent)


def texts(socket: FakeServer) -> list[str]:
    return [message.get("text") or "" for message in socket.sent]


def refuse(*arguments: Any, **options: Any) -> Any:
    raise StoreRefused("full")


def test_a_raw_client_gets_byte_for_byte_what_it_gets_without_a_kind() -> None:
    """The bytes do not depend on what the group keeps or on its other members."""

    async def main() -> None:
        with_kind = await seen_by_a_raw_client(Group("whole.1"), True)
        without = await seen_by_a_raw_client(Group("plain.1"), False)
        assert with_kind == without
        assert len(without) == 18

    run(main)


def test_a_client_gets_exactly_what_it_missed() -> None:
    room = Group("room.1")
    app = joining_app(room)

    async def main() -> None:
        await room.asend([0])
        epoch = (await room.aposition()).partition(":")[0]
        async with client(app) as one:
            await one.until("joined")
            for number in range(1, 4):
                await room.asend([number])
            await one.until_offset(4)
        for number in range(4, 300):
            await room.asend([number])
        async with client(app, f"room.1:{epoch}:4") as one:
            joined = await one.until("joined")
            assert joined == {
                "fastws": "joined", "group": "room.1", "epoch": epoch, "offset": 4, "recovered": True
            }  # fmt: skip
            await one.until_offset(300)
            await room.asend([300])
            await one.until_offset(301)
            assert [frame["data"] for frame in one.of("message")] == [[n] for n in range(4, 301)]
            assert one.offsets == list(range(5, 302))
            assert one.of("lost") == []
        assert app.state.joined[-1].recovered is True
        assert counters["recovered"] == 1

    run(main)


@pytest.mark.parametrize(
    ("claim", "recovered"),
    [
        ("short.1:{epoch}:7", True),
        ("short.1:{epoch}:2", True),
        ("short.1:{epoch}:1", False),
        ("short.1:{epoch}:8", False),
        ("short.1:zzzzzzzz:3", False),
        ("short.1:{epoch}:99999999999999999999", False),
        ("short.1:{epoch}:-1", None),
        ("short.1::0:v1", None),
        ("short.1:{epoch}", None),
        ("short.1:{epoch}:x", None),
        ("short.1:{epoch}:1:2:3", None),
        ("short.2:{epoch}:7", None),
        ("", None),
    ],
)
def test_a_position_is_judged_by_the_store(claim: str, recovered: bool | None) -> None:
    group = Group("short.1")
    app = joining_app(group)

    async def main() -> None:
        for number in range(7):
            await group.asend([number])
        epoch = (await group.aposition()).partition(":")[0]
        async with client(app, claim.format(epoch=epoch)) as one:
            joined = await one.until("joined")
            assert (joined["recovered"], joined["epoch"]) == (recovered, epoch)
            await group.asend(["live"])
            await one.until_offset(8)
            start = joined["offset"]
            assert one.offsets == list(range(start + 1, 9))
            assert start == (int(claim.split(":")[2]) if recovered else 7)
        assert [joined.recovered for joined in app.state.joined] == [recovered]
        assert (counters["recovered"], counters["unrecovered"]) == (recovered is True, recovered is False)

    run(main)


def test_the_worst_of_several_groups() -> None:
    app = joining_app(Group("room.1"), "room.2", "room.3", "plain")

    async def main() -> None:
        position = await Group("room.1").aposition()
        async with client(app, f"room.1:{position},room.2:abcdefgh:3") as one:
            await eventually(lambda: app.state.joined)
            [joined] = app.state.joined
            assert joined.groups == {"room.1": True, "room.2": False, "room.3": None, "plain": None}
            assert joined.recovered is False
            assert {frame["group"] for frame in one.of("joined")} == {"room.1", "room.2", "room.3"}
        new = joining_app("room.1", "room.3")
        async with client(new, f"room.1:{position}"):
            await eventually(lambda: new.state.joined)
            assert [(each.groups, each.recovered) for each in new.state.joined] == [
                ({"room.1": True, "room.3": None}, None)
            ]

    run(main)


def test_a_group_that_is_named_twice_is_joined_once() -> None:
    room = Group("room.1")
    app = joining_app(room, "room.1")

    async def main() -> None:
        async with client(app, f"room.1:{await room.aposition()}") as one:
            await room.asend(["live"])
            await one.until_offset(1)
            assert [frame["recovered"] for frame in one.of("joined")] == [True]
        assert [joined.groups for joined in app.state.joined] == [{"room.1": True}]

    run(main)


def test_a_group_without_a_kind_is_as_before_but_in_envelopes() -> None:
    app = joining_app("plain")

    async def main() -> None:
        async with client(app) as ours, client(app, None) as raw:
            await eventually(lambda: len(app.state.joined) == 2)
            await Group("plain").asend({"a": 1})
            await ours.until("hello")
            assert await ours.next() == {"fastws": "message", "group": "plain", "data": {"a": 1}}
            assert await raw.next() == {"a": 1}
            with pytest.raises(GroupKindError, match=r"'plain'.*FASTWS"):
                await Group("plain").asend({"a": 1}, key="k")
            with pytest.raises(GroupKindError, match="no history"):
                await Group("plain").aposition()
        assert [joined.recovered for joined in app.state.joined] == [None, None]

    run(main)


def test_a_kind_without_a_history() -> None:
    app = joining_app("who.1")

    async def main() -> None:
        async with client(app) as ours:
            await ours.until("hello")
            frame = {"fastws": "joined", "group": "who.1", "epoch": None, "offset": 0, "recovered": None}
            assert await ours.next() == frame
            await Group("who.1").asend({"a": 1})
            assert await ours.next() == {"fastws": "message", "group": "who.1", "data": {"a": 1}}
            with pytest.raises(GroupKindError, match=r"'who\.\*' has no history"):
                await Group("who.1").asend({"a": 1}, key="k")

    run(main)


def test_who_is_excluded_moves_on() -> None:
    app = joining_app("room.1")

    async def main() -> None:
        async with client(app) as one, client(app) as two, client(app, None) as raw:
            hello = await one.until("hello")
            for each in (one, two):
                await each.until("joined")
            await eventually(lambda: len(app.state.joined) == 3)
            one.say('{"group": "room.1", "message": ["mine"], "alone": true}')
            raw.say('{"group": "room.1", "message": ["raw"], "alone": true}')
            moved = {"fastws": "message", "group": "room.1", "offset": 1}
            assert await one.next() == moved
            await one.until_offset(2)
            await two.until_offset(2)
            assert [frame["data"] for frame in two.of("message")] == [["mine"], ["raw"]]
            await eventually(lambda: len(raw.sent) == 2)
            assert raw.frames == [["mine"]]
        epoch = (await Group("room.1").aposition()).partition(":")[0]
        async with client(app, f"@{hello['id']},room.1:{epoch}:0") as again:
            await again.until_offset(2)
            assert again.of("message")[0] == moved
            assert again.of("message")[1]["data"] == ["raw"]

    run(main)


def test_who_is_excluded_learns_that_its_post_has_arrived() -> None:
    """It would otherwise repeat it at its next return, also after the key has been forgotten."""
    app = joining_app("room.1")

    async def main() -> None:
        async with client(app) as one:
            hello = await one.until("hello")
            await one.until("joined")
            one.say('{"group": "room.1", "message": ["mine"], "alone": true, "key": "k"}')
            moved = {"fastws": "message", "group": "room.1", "offset": 1, "key": "k"}
            assert await one.next() == moved
        epoch = (await Group("room.1").aposition()).partition(":")[0]
        async with client(app, f"@{hello['id']},room.1:{epoch}:0") as again:
            await again.until_offset(1)
            assert again.of("message") == [moved]
        async with client(joining_app("room.1", since=datetime.now(UTC)), f"room.1:{epoch}:0") as later:
            await later.until_offset(1)
            assert "key" not in later.of("message")[0]

    run(main)


def test_who_is_excluded_stays_so_without_a_history() -> None:
    app, gone = joining_app("plain"), []

    @app.websocket("/gone")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join("plain")
        gone.append(websocket)

    async def main() -> None:
        one = Client({"type": "websocket.connect"})
        one.start(app, websocket_scope("/gone", query_string=b"fastws="))
        hello = await one.until("hello")
        await eventually(lambda: gone)
        async with client(app, f"@{hello['id']}") as again:
            await eventually(lambda: app.state.joined)
            await Group("plain").asend(["mine"], exclude=gone[0])
            await Group("plain").asend(["another's"])
            assert (await again.until("message"))["data"] == ["another's"]
        await one.leave()

    run(main)


def test_who_is_excluded_stays_so_over_several_connections() -> None:
    """A client may lose its connection again before it has got what an earlier one was excluded from."""
    room, sockets = Group("room.1"), list[WebSocket]()

    @acting_app
    async def app(websocket: WebSocket) -> None:
        await websocket.join(room)
        sockets.append(websocket)

    async def main() -> None:
        ids = []
        position = await room.aposition()
        for _ in range(2):
            async with client(app, ",".join(f"@{id}" for id in ids)) as one:
                ids.append((await one.until("hello"))["id"])
                await one.until("joined")
                await eventually(lambda: len(sockets) == len(ids))
        for socket in sockets:
            await room.asend(["mine"], exclude=socket)
        async with client(app, f"@{ids[0]},@{ids[1]},room.1:{position}") as one:
            await one.until_offset(2)
            # The endpoint of an earlier connection may still be sending.
            await room.asend(["mine"], exclude=sockets[0])
            await room.asend(["another's"])
            await one.until_offset(4)
            assert [frame.get("data") for frame in one.of("message")] == [None, None, None, ["another's"]]

    run(main)


def test_an_endpoint_says_where_a_raw_client_was() -> None:
    room = Group("room.1")

    async def main() -> None:
        for number in range(3):
            await room.asend([number])
        epoch = (await room.aposition()).partition(":")[0]
        app = joining_app(room, recover=f"{epoch}:1")
        async with client(app, None) as raw:
            assert [await raw.next(), await raw.next()] == [[1], [2]]
            await eventually(lambda: app.state.joined)
            await room.asend([3])
            assert await raw.next() == [3]
        assert [joined.recovered for joined in app.state.joined] == [True]
        unknown = joining_app(room, recover="zzzzzzzz:1")
        async with client(unknown, None):
            await eventually(lambda: unknown.state.joined)
        assert [joined.recovered for joined in unknown.state.joined] == [False]

    run(main)


def test_an_endpoint_that_does_not_want_recovery() -> None:
    room = Group("room.1")
    app = joining_app(room, recover=False)

    async def main() -> None:
        await room.asend([0])
        position = await room.aposition()
        await room.asend([1])
        async with client(app, f"room.1:{position}") as one:
            joined = await one.until("joined")
            assert (joined["offset"], joined["recovered"]) == (2, None)
            assert one.of("message") == []

    run(main)


def test_newcomers_get_the_last_messages() -> None:
    room = Group("room.1")
    app = joining_app(room, last=2)

    async def main() -> None:
        for number in range(5):
            await room.asend([number])
        async with client(app) as ours, client(app, None) as raw:
            joined = await ours.until("joined")
            assert (joined["offset"], joined["recovered"]) == (3, None)
            await ours.until_offset(5)
            assert ours.offsets == [4, 5]
            assert [await raw.next(), await raw.next()] == [[3], [4]]
        async with client(app, "room.1:" + await room.aposition()) as back:
            assert (await back.until("joined"))["offset"] == 5
            assert back.of("message") == []

    run(main)


def test_nothing_older_than_a_membership() -> None:
    room = Group("room.1")

    async def main() -> None:
        position = await room.aposition()
        await room.asend(["old"])
        await asyncio.sleep(0.05)
        app = joining_app(room, since=datetime.now(UTC) + timedelta(milliseconds=-20), last=20)
        await room.asend(["new"])
        for claims in ("", f"room.1:{position}"):
            async with client(app, claims) as one:
                await one.until_offset(2)
                moved, new = one.of("message")
                assert moved == {"fastws": "message", "group": "room.1", "offset": 1}
                assert new["data"] == ["new"]
        async with client(app, None) as raw:
            assert await raw.next() == ["new"]

    run(main)


def test_a_time_without_a_zone_is_local() -> None:
    """Projects with USE_TZ = False have such times."""
    room = Group("room.1")

    async def main() -> None:
        await room.asend(["kept"])
        for since, offsets in ((datetime.now() - timedelta(hours=1), [1]), (datetime.now(), [])):
            app = joining_app(room, since=since, last=20)
            async with client(app) as one:
                await one.until("joined")
                await eventually(lambda app=app: app.state.joined)
                assert [frame["offset"] for frame in one.of("message") if "data" in frame] == offsets

    run(main)


def in_an_endpoint_that_gets_nothing(check: Callable[[WebSocket], Awaitable[None]]) -> None:
    """Run the check with a socket, whose client must get nothing before its end."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await check(websocket)
        await websocket.send_text("end")

    async def main() -> None:
        async with client(app, None) as socket:
            await eventually(lambda: len(socket.sent) > 1)
            assert socket.sent[1].get("text") == "end"

    run(main)


@pytest.mark.parametrize("since", [date(2026, 1, 1), "2026-01-01", 0])
def test_what_is_no_moment_is_refused_and_joins_nothing(since: Any) -> None:
    """A `DateField` has no moment: which hour of the day is meant is for the project to say."""

    async def check(websocket: WebSocket) -> None:
        with pytest.raises(TypeError, match=f"takes a datetime, not a {type(since).__name__}"):
            await websocket.join("room.1", since=since)
        await Group("room.1").asend("to nobody")

    in_an_endpoint_that_gets_nothing(check)


class Hold:
    """Lets the first message with a certain text wait on its way to the client."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.reached, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, message: dict[str, Any]) -> None:
        if self._text in message.get("text", "") and not self.reached.is_set():
            self.reached.set()
            await self.may_go_on.wait()


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_member_that_leaves_and_joins_while_it_recovers(is_alone: bool) -> None:
    """The recovery that it has left sends nothing more, and nothing overtakes what it has sent last."""
    room, hold, ended = Group("room.1"), Hold('"message"'), asyncio.Event()

    @acting_app
    async def app(websocket: WebSocket) -> None:
        first = asyncio.create_task(websocket.join(room))
        await hold.reached.wait()
        await websocket.leave(room)
        second = asyncio.create_task(websocket.join(room))
        await eventually(lambda: room.name in hub.hub_of("default").feeds)
        hold.may_go_on.set()
        assert (await second).recovered is True
        await first
        ended.set()

    async def main() -> None:
        position = await room.aposition()
        for number in range(1, 11):
            await room.asend([number])
        async with AsyncExitStack() as stack:
            if not is_alone:
                other = await stack.enter_async_context(client(joining_app(room)))
                await other.until("joined")
            one = Client({"type": "websocket.connect"}, on_send=hold)
            one.start(app, websocket_scope(query_string=f"fastws=room.1:{position}".encode()))
            stack.push_async_callback(one.leave)
            async with asyncio.timeout(30):
                await ended.wait()
            await room.asend([11])
            await one.until_offset(11)
            kinds = [frame["fastws"] for frame in one.frames]
            assert kinds[:6] == ["hello", "joined", "message", "left", "joined", "message"]
            # The one that was on its way is the first, and does not come again.
            assert one.offsets == [*range(1, 12)]

    run(main)


def test_a_member_that_comes_back_in_its_connection_gets_only_what_it_missed() -> None:
    room, app, held = Group("room.1"), FastAPI(), asyncio.Event()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        app.state.joined = [await websocket.join(room)]
        async for word in websocket.iter_text():
            if word == "leave":
                await websocket.leave(room)
                held.set()
            else:
                app.state.joined.append(await websocket.join(room))

    async def main() -> None:
        position = Position(*(await room.aposition()).split(":"))  # type: ignore[arg-type]
        await room.asend([1])
        await room.asend([2])
        async with client(app, f"room.1:{position}") as one:
            await one.until_offset(2)
            await room.asend([3])
            await one.until_offset(3)
            one.say("leave")
            await held.wait()
            await room.asend([4])
            one.say("join")
            await one.until_offset(4)
            await room.asend([5])
            await one.until_offset(5)
            assert [(frame["offset"], frame["recovered"]) for frame in one.of("joined")] == [
                (0, True),
                (3, True),
            ]
            assert one.offsets == [1, 2, 3, 4, 5]

    run(main)


def test_a_member_that_leaves_in_the_middle_of_its_recovery_continues_there() -> None:
    room, hold, ended = Group("room.1"), Hold('"offset":4'), asyncio.Event()

    @acting_app
    async def app(websocket: WebSocket) -> None:
        first = asyncio.create_task(websocket.join(room))
        await hold.reached.wait()
        await websocket.leave(room)
        hold.may_go_on.set()
        await first
        assert (await websocket.join(room)).recovered is True
        ended.set()

    async def main() -> None:
        position = await room.aposition()
        for number in range(1, 7):
            await room.asend([number])
        one = Client({"type": "websocket.connect"}, on_send=hold)
        one.start(app, websocket_scope(query_string=f"fastws=room.1:{position}".encode()))
        async with asyncio.timeout(30):
            await ended.wait()
        await one.until_offset(6)
        # The fourth was on its way, and does not come again: on `left`, the client has dropped its position.
        assert one.offsets == [1, 2, 3, 4, 5, 6]
        assert [frame["offset"] for frame in one.of("joined")] == [0, 4]
        await one.leave()

    run(main)


@pytest.mark.parametrize("are_kept", [True, False])
def test_a_member_that_leaves_while_the_store_is_read(
    are_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been read is not sent after `left`, nor is it said that messages are no longer kept."""
    room, app, entries_after = Group("room.1"), FastAPI(), GroupFeed.entries_after
    reading, may_go_on = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any, **options: Any) -> Any:
        found = await entries_after(*arguments, **options)
        reading.set()
        await may_go_on.wait()
        return found if are_kept else []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with monkeypatch.context() as patch:
            patch.setattr(GroupFeed, "entries_after", slowly)
            first = asyncio.create_task(websocket.join(room))
            await reading.wait()
            await websocket.leave(room)
            may_go_on.set()
            await first
        assert (await websocket.join(room)).recovered is True
        async for _ in websocket.iter_text():
            pass

    async def main() -> None:
        position = await room.aposition()
        for number in (1, 2):
            await room.asend([number])
        async with client(app, f"room.1:{position}") as one:
            await one.until_offset(2)
            kinds = [frame["fastws"] for frame in one.frames]
            assert kinds == ["hello", "joined", "left", "joined", "message", "message"]

    run(main)


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_member_that_leaves_before_it_has_a_position(is_cancelled: bool) -> None:
    room = Group("room.1")

    @acting_app
    async def app(websocket: WebSocket) -> None:
        joining = asyncio.create_task(websocket.join(room))
        await asyncio.sleep(0)
        await websocket.leave(room)
        if is_cancelled:
            joining.cancel()
            await asyncio.wait([joining])
        else:
            assert (await joining).recovered is None
        await websocket.send_json("done")

    async def main() -> None:
        async with client(app) as one:
            await one.next()
            frames = [await one.next()]
            while frames[-1] != "done":
                frames.append(await one.next())
            assert [frame["fastws"] for frame in frames[:-1]] == ["left"]

    run(main)


@pytest.mark.parametrize("waits_for", ["the layer", "the store"])
def test_a_join_that_is_cancelled_leaves_no_member(waits_for: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room, reading = Group("room.1"), asyncio.Event()

    async def confirm(feed: GroupFeed) -> None:
        reading.set()
        await asyncio.Event().wait()

    @acting_app
    async def app(websocket: WebSocket) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(GroupFeed, "confirm", confirm)
            joining = asyncio.create_task(websocket.join(room))
            await (asyncio.sleep(0) if waits_for == "the layer" else reading.wait())
            joining.cancel()
            await asyncio.wait([joining])
        await room.asend("missed")
        await websocket.join(room)
        await room.asend("heard")

    async def main() -> None:
        async with client(app) as one:
            await one.next()
            frames = [await one.next(), await one.next()]
            assert [frame["fastws"] for frame in frames] == ["joined", "message"]
            assert frames[1]["text"] == "heard"

    run(main)


@pytest.mark.parametrize("options", [{"presence": {}}, {"watch": True}])
def test_a_wish_that_a_kind_cannot_fulfil_joins_nothing(options: dict[str, Any]) -> None:
    room, app = Group("room.1"), FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        with pytest.raises(GroupKindError, match="has no presence"):
            await websocket.join(room, **options)
        await room.asend(["to nobody"])
        await websocket.send_json("refused")

    async def main() -> None:
        async with client(app) as one:
            await one.next()
            assert await one.next() == "refused"

    run(main)


def test_a_client_that_leaves_a_group() -> None:
    @acting_app
    async def app(websocket: WebSocket) -> None:
        await websocket.join("room.1", "plain")
        await websocket.leave("room.1", "plain")
        await websocket.join("room.1")
        await websocket.join("room.1")

    async def main() -> None:
        async with client(app) as one:
            assert [(await one.next())["fastws"] for _ in range(4)] == ["hello", "joined", "left", "joined"]
            await Group("room.1").asend([1])
            assert (await one.next())["offset"] == 1

    run(main)


def test_a_join_before_accept() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.join("room.1", last=5)
        await Group("room.1").asend(["early"])
        await websocket.accept()
        await websocket.receive()

    async def main() -> None:
        await Group("room.1").asend(["before"])
        async with client(app) as one:
            assert [(await one.next())["fastws"] for _ in range(2)] == ["hello", "joined"]
            await one.until_offset(2)
            assert [frame["data"] for frame in one.of("message")] == [["before"], ["early"]]

    run(main)


def before_accept(may_accept: asyncio.Event, answer: str = "accept") -> FastAPI:
    """An application that joins a group before it accepts or refuses the socket."""
    app = FastAPI()
    app.state.joined = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        app.state.joined.append(await websocket.join("long.1"))
        await may_accept.wait()
        await getattr(websocket, answer)()
        await websocket.send_json({"mine": True})
        async for _ in websocket.iter_text():
            pass

    return app


def test_a_long_recovery_before_accept_is_not_slow(settings: Any) -> None:
    """What a member has missed waits in the history until the socket is accepted, not in its queue."""
    settings.FASTWS |= {"SLOW_CONSUMER_QUEUE": 10}
    room, may_accept, missed = Group("long.1"), asyncio.Event(), 150
    app = before_accept(may_accept)

    async def main() -> None:
        position = await room.aposition()
        for number in range(missed):
            await room.asend([number])
        await room.aset("x", 1)
        async with client(app, f"@earlier,long.1:{position}") as back, client(app) as new:
            await eventually(lambda: len(app.state.joined) == 2)
            assert {joined.recovered for joined in app.state.joined} == {True, None}
            for number in range(20):
                await room.asend(["late", number])
            may_accept.set()
            for each in (back, new):
                await each.until_offset(missed + 21)
            await room.asend(["last"])
            for each in (back, new):
                await each.until_offset(missed + 22)
                assert each.of("lost") == []
            assert back.offsets == [*range(1, missed + 1), *range(missed + 2, missed + 23)]
            assert [frame["offset"] for frame in back.of("state")] == [missed + 1]
            assert new.offsets == list(range(missed + 2, missed + 23))
            [snapshot] = new.of("state")
            assert snapshot["all"] == {"x": 1}
            for each in (back, new):
                assert next(frame for frame in each.frames if "group" in frame)["fastws"] == "joined"

    run(main)


@pytest.mark.parametrize("answer", ["close", "accept"])
def test_a_recovery_that_waits_for_accept_ends_with_its_connection(answer: str) -> None:
    room, may_accept = Group("long.1"), asyncio.Event()
    app = before_accept(may_accept, answer)

    async def main() -> None:
        position = await room.aposition()
        await room.asend([1])
        async with client(joining_app(room)) as other:  # so that the feed outlives the one that leaves
            await other.until("joined")
            feed: Any = hub.hub_of("default").feeds[room.name]
            async with client(app, f"long.1:{position}") as one:
                await eventually(lambda: app.state.joined)
                assert len(feed.catchers) == 1
                if answer == "close":
                    may_accept.set()
                    await eventually(lambda: not feed.catchers)
                    assert one.of("message") == []
            await eventually(lambda: not feed.catchers)
            await room.asend([2])
            await other.until_offset(2)

    run(main)


def test_the_server_shows_that_it_lives(settings: Any) -> None:
    settings.FASTWS = {"BEAT_SECONDS": 0.05}
    app = joining_app()

    async def main() -> None:
        async with client(app) as one, client(app) as two, client(app, None) as raw:
            for each in (one, two):
                assert await each.until("beat") == {"fastws": "beat"}
                await each.until("beat")
            assert raw.frames == []

    run(main)


def test_a_client_that_is_refused_is_not_greeted() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.close(4003)

    async def main() -> None:
        server = FakeServer(CONNECT)
        await app(websocket_scope("/ws", query_string=b"fastws="), server.receive, server.send)
        assert [message["type"] for message in server.sent] == ["websocket.close"]
        assert server.closes == [4003]

    run(main)


def test_the_history_is_read_and_forgotten() -> None:
    group = Group("short.1")
    app = joining_app(group)

    async def main() -> None:
        for number in range(7):
            await group.asend([number])
        entries = await group.ahistory()
        assert [(entry.offset, entry.message) for entry in entries] == [(n + 1, [n]) for n in range(2, 7)]
        assert abs(datetime.now(UTC) - entries[0].time) < timedelta(seconds=20)
        assert [entry.offset for entry in await group.ahistory(after=5)] == [6, 7]
        assert [entry.offset for entry in await group.ahistory(after=3, limit=2)] == [4, 5]
        position = await group.aposition()
        async with client(app) as one:
            await one.until("joined")
            await group.aclear()
            lost = await one.until("lost")
            assert lost["group"] == "short.1"
            assert f"{lost['epoch']}:{lost['offset']}" == await group.aposition() != position
            assert await group.ahistory() == []
            await group.asend(["after"])
            await one.until_offset(lost["offset"] + 1)

    run(main)


def test_sync_code(layer: str) -> None:
    group = Group("board.1")
    before = group.position()
    assert group.send({"n": 1}, key="k") is True
    assert group.send({"n": 1}, key="k") is False
    group.set("a", {"b": None})
    assert group.position() == before.partition(":")[0] + ":2"
    assert [entry.message for entry in group.history()] == [{"n": 1}]
    assert group.state() == {"a": {"b": None}}
    group.unset("a")
    assert group.state() == {}
    group.clear()
    assert group.history() == []
    assert not group.position().startswith(before[:8])


@pytest.mark.django_db(transaction=True)
def test_sending_on_commit() -> None:
    from django.db import transaction

    group = Group("board.1")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        group.send_on_commit(["rolled back"])
        group.set_on_commit("a", 1)
        raise ZeroDivisionError
    assert group.position().endswith(":0")
    with transaction.atomic():
        group.send_on_commit(["one"], key="k")
        group.send_on_commit(["two"], key="k")
        group.set_on_commit("a", 1)
        assert group.history() == []
    assert [entry.message for entry in group.history()] == [["one"]]
    assert group.state() == {"a": 1}
    with pytest.raises(GroupKindError):
        Group("plain").send_on_commit(["no"], key="k")
    with pytest.raises(GroupKindError):
        Group("room.1").set_on_commit("a", 1)


def test_a_key_that_is_too_long_is_refused_before_the_commit() -> None:
    with pytest.raises(ValueError, match="1001 bytes"):
        Group("room.1").send_on_commit("x", key="k" * 1001)


@pytest.mark.django_db(transaction=True)
def test_what_a_savepoint_rolls_back_is_not_kept() -> None:
    from django.db import transaction

    group = Group("board.1")
    with transaction.atomic():
        group.send_on_commit(["before"])
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            group.send_on_commit(["rolled back"])
            group.set_on_commit("a", 1)
            raise ZeroDivisionError
        group.send_on_commit(["after"])
    assert [(entry.offset, entry.message) for entry in group.history()] == [(1, ["before"]), (2, ["after"])]
    assert group.state() == {}


def test_a_message_with_a_known_key_is_not_sent() -> None:
    room = Group("room.1")
    app = joining_app(room)

    async def main() -> None:
        async with client(app) as one:
            await one.until("joined")
            with record() as sent:
                assert await room.asend({"n": 1}, key="k") is True
                assert await room.asend({"n": 1}, key="k") is False
                assert await room.asend({"n": 2}, key=17) is True  # type: ignore[arg-type]  # a client's
                assert await room.asend({"n": 3}, key="\ud800") is True
                assert await room.asend({"n": 4}, key="") is True
                assert await room.asend({"n": 4}, key="") is False
            assert len(sent) == 4
            await one.until_offset(4)
            assert [frame["key"] for frame in one.of("message")] == ["k", "17", "?", ""]
            await room.aclear()  # a client that repeats a post must not bring back what was deleted
            assert await room.asend({"n": 1}, key="k") is False

    run(main)


@pytest.mark.parametrize("act", ["asend", "send", "send in a thread of asyncio"])
def test_a_client_that_repeats_a_post_learns_that_it_is_known(act: str) -> None:
    """Its message may be trimmed, or older than the page; it would be sent anew once its key is forgotten."""
    group = Group("short.1")
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(group)
        async for key in websocket.iter_text():
            if act == "asend":
                await group.asend([0], key=key)
            elif act == "send":
                await sync_to_async(group.send)([0], key=key)
            else:  # it does not know of this loop
                await asyncio.to_thread(group.send, [0], key=key)

    async def main() -> None:
        async with client(app) as one, client(app) as other, client(app, None) as raw:
            await one.until("joined")
            await other.until("joined")
            one.say("k1")
            await one.until_offset(1)
            for number in range(9):
                await group.asend([number])  # what no client sends is confirmed to none
            await one.until_offset(10)
            assert await group.asend([0], key="k1") is False
            one.say("k1")
            raw.say("k1")
            await eventually(lambda: one.frames[-1].get("key") == "k1")
            raw.say("k2")
            for each in (one, other):
                await eventually(lambda each=each: each.frames[-1].get("key") == "k2")
            assert {"fastws": "message", "group": "short.1", "key": "k1"} in one.frames
            assert [len(each.of("message")) for each in (one, other)] == [12, 11]
            assert len(raw.frames) == 11

    run(main)


def test_keys_of_values_are_text() -> None:
    board = Group("board.1")

    async def main() -> None:
        for key in (1, None, b"a"):
            with pytest.raises(TypeError, match="key of a value must be a str"):
                await board.aset(key, 1)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="key of a value must be a str"):
                await board.aunset(key)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            await board.aset("\ud800", 1)
        assert (await board.aposition()).endswith(":0")

    run(main)
    with pytest.raises(
        TypeError, match="key of a value must be a str"
    ):  # now, not in the log after the commit
        board.set_on_commit(1, 1)  # type: ignore[arg-type]


def test_offsets_that_the_history_does_not_have() -> None:
    room = Group("room.1")

    async def main() -> None:
        await room.asend(["one"])
        for after, messages in ((0, [["one"]]), (1, []), (7, []), (10**30, [])):
            assert [entry.message for entry in await room.ahistory(after)] == messages
        assert await room.ahistory(limit=0) == []

    run(main)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(-1, ValueError, "{}=-1 is negative."), ("1", TypeError, "integer"), (1.0, TypeError, "integer")],
)
def test_a_number_that_makes_no_sense(value: Any, error: type[Exception], text: str) -> None:
    """It is refused, and joins nothing. An empty list would look like an empty history."""
    room = Group("room.1")

    async def check(websocket: WebSocket) -> None:
        for group in (room, Group("plain")):
            with pytest.raises(error, match=text.format("last")):
                await websocket.join(group, last=value)
            await group.asend("to nobody")
        for name in ("after", "limit"):
            with pytest.raises(error, match=text.format(name)):
                await room.ahistory(**{name: value})
            with pytest.raises(error, match=text.format(name)):
                await asyncio.to_thread(room.history, **{name: value})

    in_an_endpoint_that_gets_nothing(check)


def test_a_message_that_is_too_big_for_its_kind() -> None:
    async def main() -> None:
        group = Group("short.1")
        async with client(joining_app(group, "room.1")) as one:
            for _ in range(2):
                await one.until("joined")
            with pytest.raises(ValueError, match="101 bytes exceeds the 100 `bytes`"):
                await group.asend("x" * 101)
            with pytest.raises(ValueError, match="key of 1001 bytes exceeds the maximum of 1000"):
                await Group("room.1").asend(b"x", key="x" * 1001)
            assert (await group.aposition()).endswith(":0")
            await group.asend("x" * 100)
            frame = {"fastws": "message", "group": "short.1", "offset": 1, "text": "x" * 100}
            assert await one.next() == frame

    run(main)


def test_a_subscription_is_ordered_and_complete() -> None:
    room = Group("board.1")

    async def main() -> None:
        await room.asend(["before"])
        async with room.subscribe() as messages:
            await room.asend([1])
            await room.aset("a", 1)
            await room.asend([2])
            assert [await anext(messages), await anext(messages)] == [[1], [2]]

    run(main)


# State


def test_the_state_comes_with_joining_and_changes_in_order() -> None:
    board = Group("board.1")
    app = joining_app(board)

    async def main() -> None:
        await board.aset("a", 1)
        async with client(app) as one, client(app, None) as raw:
            joined = await one.until("joined")
            assert await one.next() == {"fastws": "state", "group": "board.1", "offset": 1, "all": {"a": 1}}
            await eventually(lambda: len(app.state.joined) == 2)
            await board.aset("b", ["x"])
            await board.asend({"n": 1})
            await board.aunset("a")
            head = {"fastws": "state", "group": "board.1"}
            assert await one.next() == {**head, "offset": 2, "set": {"b": ["x"]}}
            assert (await one.next())["offset"] == 3
            assert await one.next() == {**head, "offset": 4, "del": ["a"]}
            assert await board.astate() == {"b": ["x"]}
            assert [(entry.offset, entry.message) for entry in await board.ahistory()] == [(3, {"n": 1})]
            assert raw.frames == [{"n": 1}]
        async with client(app, f"@earlier,board.1:{joined['epoch']}:2") as back:
            assert (await back.until("joined"))["recovered"] is True
            assert [(await back.next())["offset"] for _ in range(2)] == [3, 4]
            await board.aset("c", 1)
            assert await back.next() == {**head, "offset": 5, "set": {"c": 1}}
        async with client(app, "board.1:zzzzzzzz:2") as stranger:
            assert (await stranger.until("joined"))["recovered"] is False
            assert await stranger.next() == {**head, "offset": 5, "all": {"b": ["x"], "c": 1}}

    run(main)


def test_a_position_is_announced_with_the_values_that_follow() -> None:
    """A client that loses its connection before they come cannot recover from there without them."""
    room, app = Group("board.1"), joining_app("board.1")

    async def main() -> None:
        await room.aset("a", 1)
        async with client(app) as one:
            assert (await one.until("joined"))["state"] is True
            await one.until("state")
            await room.aclear()
            assert (await one.until("lost"))["state"] is True
            await one.until("state")
        position = f"board.1:{await room.aposition()}"
        async with client(app, f"@earlier,{position}") as back:
            assert "state" not in await back.until("joined")
        for earlier in ("", "@lost.before.it.joined,"):
            async with client(app, f"{earlier}{position}:-") as page:  # it has a position, but no values
                joined = await page.until("joined")
                assert (joined["recovered"], joined["state"]) == (True, True)
                assert (await page.until("state"))["all"] == {}
        async with client(joining_app("room.1")) as other:
            assert "state" not in await other.until("joined")

    run(main)


def test_a_member_that_leaves_before_its_values_come_joins_anew() -> None:
    room, ended = Group("board.1"), asyncio.Event()

    @acting_app
    async def app(websocket: WebSocket) -> None:
        await websocket.join(room)
        feed: Any = hub.hub_of("default").feeds[room.name]
        feed._owes_values = True
        await websocket.leave(room)
        assert (await websocket.join(room)).recovered is None
        ended.set()

    async def main() -> None:
        async with client(app, f"board.1:{await room.aposition()}") as one:
            async with asyncio.timeout(30):
                await ended.wait()
            assert [frame["recovered"] for frame in one.of("joined")] == [True, None]
            assert (await one.until("state"))["all"] == {}

    run(main)


def test_the_state_follows_when_something_was_lost() -> None:
    board = Group("board.1")
    app = joining_app(board)

    async def main() -> None:
        async with client(app) as one:
            await one.until("state")
            await board.aset("a", 1)
            await board.aclear()
            lost = await one.until("lost")
            frame = {"fastws": "state", "group": "board.1", "offset": lost["offset"], "all": {}}
            assert await one.next() == frame
            await board.aset("b", 1)
            assert (await one.next())["set"] == {"b": 1}

    run(main)


def test_the_state_has_limits() -> None:
    async def main() -> None:
        board = Group("board.1")
        await board.aset("a", 1)
        async with client(joining_app(board)) as one:
            await one.until("state")
            with pytest.raises(ValueError, match="bytes"):
                await board.aset("b", "x" * 100)
            await board.aset("b", 1)
            with pytest.raises(ValueError, match="keys"):
                await board.aset("c", 1)
            assert (await board.aposition()).endswith(":2")
            await board.aunset("c")  # takes an offset, although there is no such key
            head = {"fastws": "state", "group": "board.1"}
            assert await one.next() == {**head, "offset": 2, "set": {"b": 1}}
            assert await one.next() == {**head, "offset": 3, "del": ["c"]}
        with pytest.raises(GroupKindError, match="no state"):
            await Group("room.1").aset("a", 1)
        with pytest.raises(TypeError, match="cannot contain object"):
            await board.aset("a", object())

    run(main)


# Typed groups


class Said(BaseModel):
    text: str


def test_a_typed_group_has_a_history() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: TypedWebSocket[Any, Said]) -> None:
        await websocket.accept()
        await websocket.join(Group[Said]("room.1"), last=1)
        await websocket.receive()

    async def main() -> None:
        await Group[Said]("room.1").asend(Said(text="hi"))
        async with client(app) as one:
            await one.until("joined")
            frame = await one.next()
            assert frame["data"]["text"] == "hi"
        assert [entry.message for entry in await Group[Said]("room.1").ahistory()] == [Said(text="hi")]

    run(main)


# What a client says


def test_claims() -> None:
    assert claims_of(b"a=b") is None
    assert claims_of(b"x=fastws") is None
    claims = claims_of(b"a=b&fastws=%40abc.1%2C%40abc.2%2Croom.7%3Ak3x9ab2c%3A17%3Av1%2Cwho%3A%3A0%3Av2&c=d")
    assert claims is not None
    assert claims.ids == {"abc.1", "abc.2"}
    assert claims.of("room.7") == Claim(Position("k3x9ab2c", 17), "v1")
    assert claims.of("who") == Claim(None, "v2")
    assert claims.of("other") == Claim(None, None)
    claims = parse_claims("page:k3x9ab2c:17:-")
    assert claims.of("page") == Claim(Position("k3x9ab2c", 17), None, is_first=True)


def test_claims_that_are_too_long_are_cut_between_two() -> None:
    texts = [f"room.{number}:k3x9ab2c:17" for number in range(1000)]
    claims = parse_claims(",".join(texts))
    assert 100 < len(claims.groups) < 300
    assert all(claim.position == Position("k3x9ab2c", 17) for claim in claims.groups.values())


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:-1", "a:1:2", "a:²", "ä:1", "a" * 33 + ":1", 7, None]
)
def test_what_is_no_position(text: Any) -> None:
    assert parse_position(text) is None
