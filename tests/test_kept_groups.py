"""What groups keep, at its boundaries, on every layer. Redis layers are distributed over three servers."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from channels.layers import channel_layers
from redis import Redis

from fastws_compat import FastAPI, WebSocket
from fastws_compat.exceptions import GroupNameError, GroupSendError, GroupStoreError
from fastws_compat.groups import Group, feeds
from fastws_compat.groups.arrivals import listen
from fastws_compat.groups.breaker import breaker_of
from fastws_compat.groups.feeds import GroupFeed
from fastws_compat.groups.hub import hub_of
from fastws_compat.groups.kinds import kind_with
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import Draft
from fastws_compat.groups.subscriber import Subscriber
from fastws_compat.layers import client as layers
from fastws_compat.layers.replies import command
from fastws_compat.layers.wire import Payload
from tests.live_clients import client, eventually, joining_app
from tests.presence_world import VirtualLoop
from tests.redis_server import RedisServer
from tests.redis_server import redis as redis
from tests.redis_server import redis_server as redis_server

pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

BACKENDS = {
    "memory": None,
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}
ROOM = Group("room.1")
FASTWS = {
    "CHECK_SECONDS": 0.3,
    "GROUPS": {
        "room.*": {"history": {"count": 5}},
        "single.*": {"history": {"count": 1}},
        "brief.*": {"history": {"age": 0.3}},
        "seen.*": {"presence": True},
        "*": {"history": True, "presence": True, "state": True},
    },
}


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest, settings: Any) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Run a coroutine function on a layer with nothing in its store."""
    settings.FASTWS = FASTWS
    settings.CHANNEL_LAYERS = {}
    layers.local_layer.cache_clear()
    if request.param != "memory":
        server: RedisServer = request.getfixturevalue("redis")
        with Redis.from_url(server.url) as admin:
            admin.flushall()
        hosts = [{**server.hosts[0], "address": f"redis://127.0.0.1:{server.port}/{db}"} for db in (1, 2, 3)]
        layer = {"BACKEND": BACKENDS[request.param], "CONFIG": {"hosts": hosts}}
        settings.CHANNEL_LAYERS = {"default": layer}

    async def limited(main: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(60):
            try:
                await main()
            finally:
                if request.param != "memory":
                    used = channel_layers["default"]
                    await (used.close_pools() if request.param == "core" else used.flush())

    return lambda main: asyncio.run(limited(main))


async def epoch_of(group: Group) -> str:
    return (await group.aposition()).partition(":")[0]


async def returns(group: Group, position: str, newest: int) -> tuple[Any, list[int]]:
    """Whether a client with this position recovers, and the offsets of the messages that it gets."""
    async with client(joining_app(group), f"{group.name}:{position}") as socket:
        joined = await socket.until("joined")
        if joined["offset"] < newest:
            await socket.until_offset(newest)
        return joined["recovered"], socket.offsets


async def keep_silently(group: Group, *texts: str) -> None:
    """Keep messages of which the layer learns nothing, as if their sender had died."""
    for text in texts:
        draft = Draft(f"dead.{text}", Payload("text", text))
        await store_of("default").append(group.name, kind_with(group.name, "history"), draft)


def test_checks_go_on_if_the_last_member_leaves_in_the_step_in_which_another_joins(run: Any) -> None:
    async def main() -> None:
        last, next_one, hub, kind = (
            Subscriber(),
            Subscriber(),
            hub_of("default"),
            kind_with("room.1", "history"),
        )
        await listen(hub, "room.2", kind, last)
        hub.discard("room.2", last)
        await listen(hub, "room.1", kind, next_one)
        await keep_silently(ROOM, "lost")
        assert await anext(next_one.messages()) == "lost"
        hub.discard("room.1", next_one)
        await hub.wait_synced("room.1")

    run(main)


def test_what_is_just_kept_and_what_is_just_gone(run: Any) -> None:
    single = Group("single.1")

    async def main() -> None:
        epoch, other = await epoch_of(ROOM), await epoch_of(single)
        for number in range(6):
            await ROOM.asend([number])
            await single.asend([number])
        for offset, found in {
            0: (False, []),
            1: (True, [2, 3, 4, 5, 6]),
            5: (True, [6]),
            6: (True, []),
            7: (False, []),
        }.items():
            assert await returns(ROOM, f"{epoch}:{offset}", 6) == found
        for offset, found in {4: (False, []), 5: (True, [6]), 6: (True, [])}.items():
            assert await returns(single, f"{other}:{offset}", 6) == found

    run(main)


def test_what_is_over_age_is_gone_and_its_position_is_not(run: Any) -> None:
    brief = Group("brief.1")

    async def main() -> None:
        epoch = await epoch_of(brief)
        await brief.asend(["old"])
        await asyncio.sleep(0.5)
        assert await returns(brief, f"{epoch}:0", 1) == (False, [])
        assert await returns(brief, f"{epoch}:1", 1) == (True, [])
        await keep_silently(brief, "new")
        assert [entry.offset for entry in await brief.ahistory()] == [2]

    run(main)


def test_no_position_of_before_a_clear_is_valid(run: Any) -> None:
    async def main() -> None:
        epoch = await epoch_of(ROOM)
        for _ in range(2):
            await ROOM.asend(["x"])
        await ROOM.aclear()
        for _ in range(2):
            await ROOM.asend(["y"])
        for offset in range(6):
            assert await returns(ROOM, f"{epoch}:{offset}", 4) == (False, [])

    run(main)


def test_the_news_of_a_clear_take_the_place_of_no_message(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with client(joining_app(ROOM)) as socket:
            await socket.until("joined")
            await ROOM.asend(["before"])
            await socket.until_offset(1)
            store, feed = store_of("default"), cast(GroupFeed, hub_of("default").feeds["room.1"])
            head = store.head

            async def head_after_another_message(*arguments: Any) -> Any:
                await feed.confirm()
                await keep_silently(ROOM, "after")
                return await head(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(store, "head", head_after_another_message)
                await ROOM.aclear()
            await socket.until_offset(2)
            assert [(frame["offset"], frame["epoch"]) for frame in socket.of("lost")] == [
                (1, await epoch_of(ROOM))
            ]
            assert socket.of("message")[-1]["text"] == "after"
            assert socket.of("state") == []

    run(main)


def test_the_clock_of_the_store_says_what_is_older_than_a_membership(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process knows only when a message has arrived, and its clock may be wrong."""
    monkeypatch.setattr(feeds, "time", SimpleNamespace(time=lambda: time.time() + 3600))

    async def main() -> None:
        async with client(joining_app(ROOM)) as crowd:
            await crowd.until("joined")
            for number in range(3):
                await ROOM.asend([number])
                await asyncio.sleep(0.005)
            await crowd.until_offset(3)
            newest = (await ROOM.ahistory())[-1]
            async with client(joining_app(ROOM, since=newest.time, last=20)) as newcomer:
                await newcomer.until_offset(3)
                assert [frame.get("data") for frame in newcomer.of("message")] == [None, None, [2]]

    run(main)


def test_values_that_are_older_than_a_membership_are_shown_only_if_they_are_the_last(run: Any) -> None:
    board = Group("board.1")

    async def main() -> None:
        position = await board.aposition()
        await board.aset("secret", 1)
        await board.aunset("secret")
        await board.aset("known", 2)
        await asyncio.sleep(0.01)
        since = datetime.now(UTC)
        await asyncio.sleep(0.01)
        await board.aset("new", 3)
        async with client(joining_app(board, since=since), f"@earlier,board.1:{position}") as back:
            joined = await back.until("joined")
            # Until it has all values, it could not recover.
            assert (joined["recovered"], joined["state"]) == (True, True)
            assert (await back.until("state"))["set"] == {"new": 3}
            assert (await back.until("state"))["all"] == {"known": 2, "new": 3}
            assert "secret" not in str(back.frames)
            assert back.offsets == [1, 2, 3]

    run(main)


def test_more_than_the_history_keeps_was_not_announced(run: Any) -> None:
    async def main() -> None:
        async with client(joining_app(ROOM)) as socket:
            await socket.until("joined")
            await ROOM.asend(["first"])
            await socket.until_offset(1)
            await keep_silently(ROOM, *"abcdefghi")
            await socket.until_offset(10)
            assert [frame["offset"] for frame in socket.of("lost")] == [5]
            assert socket.offsets == [1, 6, 7, 8, 9, 10]

    run(main)


def test_a_kind_for_all_names_includes_those_of_the_library(run: Any) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join("x", Group.everyone(), presence={"a": 1})
        async for _ in websocket.iter_text():
            pass

    async def main() -> None:
        async with client(app) as one, client(app) as two:
            for socket in (one, two):
                await eventually(
                    lambda socket=socket: [f["count"] for f in socket.of("presence")][-1:] == [2]
                )
            await Group.everyone().asend(["all"])
            for socket in (one, two):
                await socket.until_offset(1)
        await Group.for_user(SimpleNamespace(pk=7)).asend(["you"])  # type: ignore[arg-type]
        assert [entry.message for entry in await Group.everyone().ahistory()] == [["all"]]

    run(main)


def test_two_layers_with_a_group_of_the_same_name(settings: Any) -> None:
    """A client would take the messages of one for those of the other: it has one position for a name."""
    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": layer, "other": layer}
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True}}}
    app, failures = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join("plain", Group("plain", layer="other"), "room.1")
        for groups in (
            [Group("room.1", layer="other")],
            ["room.2", Group("room.3"), Group("room.2", layer="other")],
        ):
            with pytest.raises(GroupNameError, match="different names") as caught:
                await websocket.join(*groups)
            failures.append(str(caught.value))
        await websocket.leave("room.1")
        await websocket.join(Group("room.1", layer="other"))
        await websocket.receive()

    async def main() -> None:
        async with client(app) as one:
            async with asyncio.timeout(20):
                await one.until("left")
                await one.until("joined")
            assert [frame["group"] for frame in one.of("joined")] == ["room.1", "room.1"]
            assert "'room.1' on layer 'other'" in failures[0]
            assert "'room.2' on layer 'other'" in failures[1]

    asyncio.run(main())


def test_two_layers_that_lead_to_the_same_groups(redis: RedisServer, settings: Any) -> None:
    """Their messages have ids of their own: a known key is not taken for the repetition of one message."""
    layer = {"BACKEND": BACKENDS["pubsub"], "CONFIG": {"hosts": redis.hosts, "prefix": "shared"}}
    settings.CHANNEL_LAYERS = {"default": layer, "other": layer}
    settings.FASTWS = FASTWS
    other = Group("room.1", layer="other")

    async def main() -> None:
        async with client(joining_app(ROOM)) as one, client(joining_app(other)) as two:
            for socket in (one, two):
                await socket.until("joined")
            assert await ROOM.asend(["x"], key="k") is True
            assert await other.asend(["y"], key="k") is False
            assert await other.asend(["z"]) is True
            for socket in (one, two):
                await socket.until_offset(2)
                assert [frame["data"] for frame in socket.of("message")] == [["x"], ["z"]]
        for each in channel_layers["default"], channel_layers["other"]:
            await each.flush()

    asyncio.run(main())


def test_a_socket_that_is_present_under_another_key(run: Any) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for info, key in ((1, "a"), (2, "b"), (3, "b")):
            await websocket.join("seen.1", presence=info, presence_key=key)
        people = await Group("seen.1").apresence()
        await websocket.send_json([[person.key, person.info, person.sockets] for person in people])
        async for _ in websocket.iter_text():
            pass

    async def main() -> None:
        async with client(app, None) as socket:
            assert await socket.next() == [["b", 3, 1]]

    run(main)


@pytest.mark.parametrize("run", ["pubsub", "core"], indirect=True)
def test_something_else_in_the_place_of_a_group(run: Any) -> None:
    """Messages are delivered without being kept, and everybody learns that nothing is known."""

    async def main() -> None:
        await change_key("SET", ROOM, "m", "something else")
        async with client(joining_app(ROOM)) as socket:
            joined = await socket.until("joined")
            assert (joined["epoch"], joined["recovered"]) == (None, False)
            await ROOM.asend(["live"])
            assert await socket.until("message") == {"fastws": "message", "group": "room.1", "data": ["live"]}
        with pytest.raises(GroupStoreError):
            await ROOM.ahistory()
        assert await ROOM.aposition() == ""

    run(main)


async def change_key(name: str, group: Group, kind: str, *arguments: str) -> None:
    """Run a command on a key of a group, behind the back of the store."""
    servers = cast(Any, store_of("default")).servers
    link = await servers._here().links[servers.index(group.name)]._take()
    await link.ask(command(name, servers.key(group.name, kind), *arguments))
    await link.close()


@pytest.mark.parametrize("run", ["pubsub"], indirect=True)
def test_a_group_that_the_store_refuses_does_not_stand_in_the_way_of_others(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are kept at once, and what they lack is reported. One group is no outage."""
    monkeypatch.setattr("fastws_compat.groups.breaker.RETRY_INTERVAL", 0.05)
    bad, good = Group("room.bad"), Group("room.good")

    async def main() -> None:
        breaker = breaker_of("default")
        await change_key("SET", bad, "m", "something else")
        position = await good.aposition()
        for number in range(3):
            await bad.asend([number])
            await good.asend([number])
        assert [entry.offset for entry in await good.ahistory()] == [1, 2, 3]
        assert await returns(good, position, 3) == (True, [1, 2, 3])
        breaker.add_hole(good.name, kind_with(good.name, "history"))
        await eventually(lambda: breaker.hole(good.name) is None)
        assert breaker.hole(bad.name) is not None
        assert (await returns(good, position, 3))[0] is False
        await change_key("DEL", bad, "m")
        await eventually(lambda: breaker.hole(bad.name) is None)

    run(main)


@pytest.mark.parametrize("run", ["pubsub"], indirect=True)
def test_the_log_says_once_that_a_group_fails_while_others_work(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its position can be written, but its messages cannot, so that only some of its calls fail."""
    monkeypatch.setattr("fastws_compat.groups.breaker.RETRY_INTERVAL", 0.05)
    bad, good = Group("room.bad"), Group("room.good")

    async def main() -> None:
        breaker = breaker_of("default")
        await bad.asend(["kept"])
        await change_key("SET", bad, "s", "something else")
        await bad.asend(["not kept"])
        begun = breaker._failing_since
        for number in range(3):
            await good.asend([number])
            timer = breaker._retry._timer
            await eventually(
                lambda timer=timer: breaker._retry._timer is not timer
            )  # it has reported in vain
            await bad.asend([number])
        assert breaker._failing_since == begun is not None
        assert caplog.text.count(" fails (group 'room.bad': ") == 1
        await change_key("DEL", bad, "s")
        await eventually(lambda: breaker.hole(bad.name) is None)
        await eventually(lambda: breaker._failing_since is None)
        assert caplog.text.count(" fails (group 'room.bad': ") == 1

    run(main)


@pytest.mark.parametrize("seconds", [1, 5])
def test_what_the_layer_never_got_arrives_with_the_next_check(settings: Any, seconds: float) -> None:
    """Whenever the sender dies. The clock is virtual, so nothing but the library can be late."""
    settings.FASTWS = {**FASTWS, "CHECK_SECONDS": seconds}
    settings.CHANNEL_LAYERS = {}
    layers.local_layer.cache_clear()

    async def main() -> None:
        now, waits = asyncio.get_running_loop().time, []
        async with client(joining_app(ROOM)) as ours, client(joining_app(ROOM), None) as raw:
            await ours.until("joined")
            for number in range(1, 30):
                await asyncio.sleep(0.37 * number % seconds)
                begun = now()
                await keep_silently(ROOM, str(number))
                await eventually(lambda number=number: raw.frames[-1:] == [number])
                await ours.until_offset(number)
                waits.append(now() - begun)
            assert ours.of("lost") == []
        assert max(waits) < seconds + 0.1
        assert min(waits) < seconds / 2 < sorted(waits)[-2]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


# A Redis that loses or refuses something

REDIS_LAYERS = pytest.mark.parametrize("run", ["pubsub", "core"], indirect=True)
WHOLE = Group("whole.1")


@REDIS_LAYERS
@pytest.mark.parametrize("what", ["m", "s", "everything"])
def test_what_redis_has_forgotten(run: Any, redis: RedisServer, what: str) -> None:
    """Without its position, a group begins another epoch; without its entries, it has been trimmed."""

    async def main() -> None:
        async with client(joining_app(WHOLE)) as socket:
            await socket.until("joined")
            for number in range(3):
                await WHOLE.asend([number])
            await WHOLE.aset("a", 1)
            await eventually(lambda: socket.of("state")[-1:] and socket.of("state")[-1].get("set"))
            epoch = await epoch_of(WHOLE)
            if what == "everything":
                with Redis.from_url(redis.url) as admin:
                    admin.flushall()
            else:
                await change_key("DEL", WHOLE, what)
            await WHOLE.asend(["after"])
            await eventually(lambda: ["after"] in [frame.get("data") for frame in socket.of("message")])
            offset = socket.offsets[-1]
            position = await WHOLE.aposition()
            if what == "s":
                assert position == f"{epoch}:5"
                assert socket.of("lost") == []
                assert [entry.offset for entry in await WHOLE.ahistory()] == [offset] == [5]
            else:
                [lost] = socket.of("lost")
                assert position == f"{lost['epoch']}:1"
                assert (lost["epoch"] != epoch, lost["offset"], offset) == (True, 0, 1)
            assert await WHOLE.astate() == ({} if what == "everything" else {"a": 1})
        for before in range(3):
            assert (await returns(WHOLE, f"{epoch}:{before}", offset))[0] is False
        assert await returns(WHOLE, position, offset) == (True, [])

    run(main)


@REDIS_LAYERS
def test_a_redis_that_is_full(run: Any, redis: RedisServer, request: pytest.FixtureRequest) -> None:
    """One layer can still deliver, and the other cannot. Neither says that nobody missed anything."""
    is_pubsub = request.node.callspec.params["run"] == "pubsub"

    async def main() -> None:
        await WHOLE.asend(["kept"])
        before = await WHOLE.aposition()
        with Redis.from_url(redis.url) as admin:
            async with client(joining_app(WHOLE)) as socket:
                await socket.until("joined")
                admin.config_set("maxmemory", 1)
                try:
                    if is_pubsub:
                        assert await WHOLE.asend(["not kept"]) is True
                        unkept = {"fastws": "message", "group": "whole.1", "data": ["not kept"]}
                        assert await socket.until("message") == unkept
                    else:
                        with pytest.raises(GroupSendError):
                            await WHOLE.asend(["not kept"])
                    with pytest.raises(GroupSendError):
                        await WHOLE.aset("a", 1)
                    if is_pubsub:
                        assert (await returns(WHOLE, before, 1))[0] is False
                    async with client(joining_app(WHOLE, presence=1, presence_key="ann")) as other:
                        joined = await other.until("joined")
                        assert f"{joined['epoch']}:{joined['offset']}" == before
                        admin.config_set("maxmemory", 0)
                        await eventually(lambda: [frame["count"] for frame in other.of("presence")] == [1])
                finally:
                    admin.config_set("maxmemory", 0)
                await eventually(lambda: not breaker_of("default").is_open)
                await WHOLE.aset("a", 2)
                await WHOLE.asend(["kept again"])
                await eventually(
                    lambda: ["kept again"] in [frame.get("data") for frame in socket.of("message")]
                )
                assert await WHOLE.astate() == {"a": 2}
        assert (await returns(WHOLE, before, 3))[0] is False
        assert (await returns(WHOLE, await WHOLE.aposition(), 3)) == (True, [])

    run(main)


@pytest.mark.parametrize("backend", ["pubsub", "core"])
@pytest.mark.parametrize("is_encrypted", [True, False])
def test_what_the_file_of_redis_shows(
    redis_server: RedisServer, settings: Any, backend: str, is_encrypted: bool
) -> None:
    """With encryption, the file contains no message, no value and no info of a person in plain text."""
    config: dict[str, Any] = {"hosts": redis_server.hosts}
    if is_encrypted:
        config["symmetric_encryption_keys"] = ["secret"]
    settings.FASTWS = FASTWS
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": BACKENDS[backend], "CONFIG": config}}
    texts = ["what was said", "what was written", "what stays", "what is shown", "what is sent"]

    async def main() -> None:
        app = joining_app(WHOLE, presence={"name": "what is shown"}, presence_key="ann")
        async with client(app) as socket:
            await socket.until("presence")
            await WHOLE.asend({"text": "what was said"}, key="what-names-it")
            await WHOLE.asend("what was written")
            await WHOLE.asend(b"what is sent")
            await WHOLE.aset("a", {"text": "what stays"})
            await eventually(lambda: socket.of("state")[-1].get("set"))
            assert [person.info for person in await WHOLE.apresence()] == [{"name": "what is shown"}]
            with Redis.from_url(redis_server.url) as admin:
                admin.config_set("rdbcompression", "no")
                admin.save()
        layer = channel_layers["default"]
        await (layer.close_pools() if backend == "core" else layer.flush())

    asyncio.run(main())
    dump = redis_server.dump()
    assert b"whole.1" in dump
    assert [text for text in texts if text.encode() in dump] == ([] if is_encrypted else texts)


# Connections


def use_from_sync_code() -> int:
    """What a view, a command or the shell does; returns how many messages there are."""
    ROOM.send("sync")
    assert ROOM.position()
    WHOLE.set("a", 1)
    assert WHOLE.state() == {"a": 1}
    assert (WHOLE.count(), WHOLE.presence()) == (0, [])
    return len(ROOM.history())


def in_threads() -> None:
    threads = [threading.Thread(target=use_from_sync_code) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def in_two_loops() -> None:
    async def main() -> None:
        async with client(joining_app(ROOM)) as one, client(joining_app("seen.1", presence=1)) as two:
            await one.until("joined")
            await ROOM.asend("async")
            await one.until("message")
            await two.until("presence")

    for _ in range(2):
        asyncio.run(main())


def in_a_child_of_a_process_with_connections() -> None:
    """The parent's loop has connections, which the child inherits and must not use."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ROOM.asend("parent"))
    child = os.fork()
    if not child:  # pragma: no cover - coverage ends with the fork
        try:
            os._exit(0 if use_from_sync_code() == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.run_until_complete(ROOM.asend("parent"))
    assert len(loop.run_until_complete(ROOM.ahistory())) == 3
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.parametrize(
    "work", [use_from_sync_code, in_threads, in_two_loops, in_a_child_of_a_process_with_connections]
)
@pytest.mark.parametrize("backend", ["pubsub", "core"])
def test_no_connection_is_left_open(redis: RedisServer, settings: Any, backend: str, work: Any) -> None:
    with Redis.from_url(redis.url) as admin:
        admin.flushall()
    settings.FASTWS = FASTWS
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": BACKENDS[backend], "CONFIG": {"hosts": redis.hosts}}}
    asyncio.run(until_connections(redis, 0))
    work()
    gc.collect()
    asyncio.run(until_connections(redis, 0))
    assert use_from_sync_code() > 1


async def until_connections(redis: RedisServer, number: int) -> None:
    await eventually(lambda: redis.connections() == number)
