"""Groups on a real Redis. Two layers in one loop represent two processes, because each has its own hub."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.layers import channel_layers
from django.contrib.auth.models import User
from django.utils import translation
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from fastws_compat import FastAPI, WebSocket
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group, counters, handlers, on
from fastws_compat.layers import client as layers
from tests.fake_server import FakeServer, connected, until
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server
from tests.test_groups import opened

# redis-py leaves a stream open if the server stops while it connects.
pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

TIMEOUT = 10
# Seconds in which membership must be restored after Redis is back (docs/howto/groups.md).
SOON = 5
BACKENDS = {
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
}


@pytest.fixture(params=["pubsub", "core"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def two_processes(kind: str, redis_server: RedisServer, settings: Any) -> None:
    config = {"BACKEND": BACKENDS[kind], "CONFIG": {"hosts": redis_server.hosts}}
    if kind == "core":
        config["CONFIG"]["capacity"] = 10_000
    settings.CHANNEL_LAYERS = {"default": config, "other": config}
    layers.health.cache_clear()
    counters.clear()


def app_of(layer: str, *names: str) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(*(Group(name, layer=layer) for name in names))
        await websocket.send_text("joined")
        async for text in websocket.iter_text():
            await websocket.send_text(f"echo {text}")

    return app


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(45):
            await main()
        for alias in ("default", "other"):
            await close(channel_layers[alias])

    asyncio.run(limited())
    gc.collect()  # report streams that were left open in this test and not in another


async def close(layer: Any) -> None:
    if hasattr(layer, "close_pools"):
        await layer.close_pools()
    else:
        await layer.flush()


@asynccontextmanager
async def one_in_each(*names: str):
    async with opened(app_of("default", *names)) as one, opened(app_of("other", *names)) as two:
        yield one, two


async def echoes(socket: FakeServer) -> None:
    socket.say("there?")
    while await socket.text() != "echo there?":
        pass


async def until_sent(text: str, *sockets: FakeServer, group: str = "g") -> None:
    """Send until every socket has received the text, which shows that its membership is restored."""
    missing = set(sockets)
    async with asyncio.timeout(SOON):
        while missing:
            try:
                await Group(group).asend(text)
            except GroupSendError:
                await asyncio.sleep(0.1)
                continue
            await asyncio.sleep(0.05)
            missing -= {socket for socket in missing if text in received(socket)}


def received(socket: FakeServer) -> list[Any]:
    return [message.get("text") for message in socket.take()]


def test_both_processes_receive_everything_in_order() -> None:
    texts = [str(number) for number in range(200)]

    async def main() -> None:
        async with one_in_each("g") as sockets:
            for text in texts:
                await Group("g").asend(text)
            for socket in sockets:
                assert [await socket.text() for _ in texts] == texts

    run(main)
    assert counters["lost"] == 0


def test_every_kind_of_message_arrives_unchanged() -> None:
    async def main() -> None:
        async with one_in_each("g") as (_, two):
            for message in ({"ü": [1, None]}, "text", b"\x00\xff"):
                await Group("g").asend(message)
            assert [await two.frame() for _ in range(3)] == [
                {"type": "websocket.send", "text": '{"ü":[1,null]}'},
                {"type": "websocket.send", "text": "text"},
                {"type": "websocket.send", "bytes": b"\x00\xff"},
            ]

    run(main)


def test_a_hundred_sockets_join_and_leave_with_one_membership(redis_server: RedisServer, kind: str) -> None:
    app = app_of("default", "g")

    async def main() -> None:
        sockets = [connected(app) for _ in range(100)]
        for socket in sockets:
            await socket.frame()
            await socket.text()
        assert await members(redis_server, kind) == 1
        await Group("g").asend("hi")
        for socket in sockets:
            assert await socket.text() == "hi"
        await asyncio.gather(*(socket.leave() for socket in sockets))
        assert await members(redis_server, kind) == 0

    run(main)


async def members(server: RedisServer, kind: str) -> int:
    from redis.asyncio import Redis

    async with Redis.from_url(server.url) as redis:
        if kind == "core":
            return int(await redis.zcard("asgi:group:g"))
        return int((await redis.pubsub_numsub("asgi__group__g"))[0][1])


def test_a_member_in_another_process_is_excluded_and_closed() -> None:
    app = FastAPI()
    group = Group("g", layer="other")

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(group)
        await websocket.send_text("joined")
        async for text in websocket.iter_text():
            await Group("g").asend(text, exclude=websocket)
            await Group("g").adisconnect(4001, "bye", exclude=websocket)
            await Group("g").asend("after")

    async def main() -> None:
        async with opened(app_of("default", "g")) as one, opened(app) as two:
            two.say("others")
            assert await one.text() == "others"
            assert await one.frame() == {"type": "websocket.close", "code": 4001, "reason": "bye"}
            assert await two.text() == "after"

    run(main)


def test_a_worker_process_sends() -> None:
    from django.conf import settings

    script = (
        "import sys; from django.conf import settings; import ast\n"
        "settings.configure(CHANNEL_LAYERS=ast.literal_eval(sys.argv[1]))\n"
        "from fastws_compat.groups import Group\n"
        "Group('g').send({'from': 'a worker'}); Group('g').send('twice')"
    )
    command = [sys.executable, "-c", script, repr(settings.CHANNEL_LAYERS)]

    async def main() -> None:
        async with one_in_each("g") as sockets:
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
            for socket in sockets:
                assert [await socket.text(), await socket.text()] == ['{"from":"a worker"}', "twice"]

    run(main)


def test_native_messages_reach_sockets_through_a_handler() -> None:
    before = list(handlers.registered)

    @on("chat.message", groups="chat.*")
    def translate(message: dict[str, Any]) -> Any:
        return {"ours": message["text"]}

    async def main() -> None:
        async with one_in_each("chat.1", "chat.2", "g") as sockets:
            native = channel_layers["other"]
            await native.group_send("chat.1", {"type": "chat.message", "text": "hi"})
            await native.group_send("g", {"type": "unknown"})
            for socket in sockets:
                assert await socket.text() == '{"ours":"hi"}'
            await Group("chat.2").asend("2")
            await Group("g").asend("g")
            for socket in sockets:
                assert {await socket.text(), await socket.text()} == {"2", "g"}

    try:
        run(main)
    finally:
        handlers.registered[:] = before


def test_redis_is_killed_and_restarted(
    redis_server: RedisServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with one_in_each("g") as sockets, opened(app_of("default")) as without:
            await until_sent("before", *sockets)
            redis_server.kill()
            for _ in range(3):
                with pytest.raises(GroupSendError, match="did not accept a message"):
                    await Group("g").asend("lost")
            failed.append(counters["failed"])
            async with opened(app_of("default", "late", "g")) as late:
                for socket in (*sockets, without, late):
                    await echoes(socket)
                await asyncio.to_thread(redis_server.start)
                await until_sent("back", *sockets, late)
            await echoes(without)
            await until(lambda: "did not reach this process" in caplog.text)

    failed: list[int] = []
    run(main)
    assert failed == [3]
    assert counters["lost"] >= 3
    assert "messages from this process were lost" in caplog.text


@pytest.mark.parametrize("kind", ["core"], indirect=True)  # pub/sub never drops a member
def test_membership_outlives_the_group_expiry(settings: Any) -> None:
    config = settings.CHANNEL_LAYERS["default"]
    config = {**config, "CONFIG": {**config["CONFIG"], "group_expiry": 2}}
    settings.CHANNEL_LAYERS = {"default": config, "other": config}

    async def main() -> None:
        async with opened(app_of("default", "g")) as socket:
            begin = asyncio.get_running_loop().time()
            await until(lambda: asyncio.get_running_loop().time() > begin + 3)
            await Group("g").asend("still a member")
            assert await socket.text() == "still a member"

    run(main)


def test_redis_is_frozen_and_resumes(redis_server: RedisServer, settings: Any) -> None:
    settings.FASTWS = {"LAYER_TIMEOUT": 0.5}

    async def main() -> None:
        async with one_in_each("g") as sockets:
            redis_server.freeze()
            with pytest.raises(GroupSendError, match=r"no answer within 0\.5 s"):
                await Group("g").asend("lost, or late")
            async with opened(app_of("default", "late")) as late:
                for socket in (*sockets, late):
                    await echoes(socket)
                redis_server.thaw()
                await until_sent("back", *sockets)
                await until_sent("back", late, group="late")

    run(main)


def test_lazy_text_reaches_every_process_as_text_and_a_model_instance_none() -> None:
    async def main() -> None:
        async with opened(app_of("default", "g")) as here, opened(app_of("other", "g")) as there:
            with pytest.raises(TypeError, match="User"):
                await Group("g").asend({"user": User(pk=1, username="ann")})
            with translation.override("de"):
                await Group("g").asend({"day": gettext_lazy("Monday"), "name": mark_safe("<b>")})
                await Group("g").asend(gettext_lazy("Monday"))
            for socket in (here, there):
                assert await socket.text() == '{"day":"Montag","name":"<b>"}'
                assert await socket.text() == "Montag"

    run(main)
