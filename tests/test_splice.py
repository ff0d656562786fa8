"""Keeping and publishing a message in one call of Redis, and the layers with which that is not possible."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection
from channels_redis.serializers import BaseMessageSerializer, registry
from redis import Redis

from fastws_compat.connections import census, hooks
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from fastws_compat.groups.storage import spliced_layer, store_of
from fastws_compat.groups.stores import StoreError
from fastws_compat.layers.client import counters, health
from tests.redis_server import RedisServer
from tests.redis_server import other as other
from tests.redis_server import redis as redis

pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"
KINDS = {"GROUPS": {"room.*": {"history": True, "state": True}}}
ROOM = Group("room.1")


class Own(RedisPubSubChannelLayer):  # type: ignore[misc]
    """A layer through which all messages must go."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._get_layer().group_send(group, message)


class Hexadecimal(BaseMessageSerializer):  # type: ignore[misc]
    """A serializer that leaves no text as it is."""

    def as_bytes(self, message: Any, *args: Any, **kwargs: Any) -> bytes:
        return repr(message).encode().hex().encode()

    def from_bytes(self, message: bytes, *args: Any, **kwargs: Any) -> Any:
        return eval(bytes.fromhex(message.decode()))


registry.register_serializer("hexadecimal", Hexadecimal)


@pytest.fixture
def use(redis: RedisServer, settings: Any) -> Iterator[Callable[..., None]]:
    def configure(backend: str = PUBSUB, fastws: Any = None, **config: Any) -> None:
        config = {"hosts": redis.hosts, "prefix": "splice", **config}
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
        settings.FASTWS = {**KINDS, **(fastws or {})}

    with Redis.from_url(redis.url) as admin:
        admin.flushall()
    health.cache_clear()
    counters.clear()
    yield configure
    health.cache_clear()
    counters.clear()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The channels on which the layer itself has published."""
    channels: list[str] = []
    publish = RedisSingleShardConnection.publish

    async def record(self: Any, channel: str, message: bytes) -> None:
        channels.append(channel)
        await publish(self, channel, message)

    monkeypatch.setattr(RedisSingleShardConnection, "publish", record)
    return channels


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            try:
                await main()
            finally:
                layer = channel_layers["default"]
                await (layer.close_pools() if hasattr(layer, "close_pools") else layer.flush())

    asyncio.run(limited())


async def exchange() -> None:
    """Send every sort of content, and receive it in order with offsets that the store agrees with."""
    sent = [{"a": "é\U0001f600"}, "text", b"\x00\xff", ["x" * 60_000]]
    await ROOM.aclear()
    start = int((await ROOM.aposition()).partition(":")[2])
    async with ROOM.subscribe() as messages:
        for number, message in enumerate(sent):
            assert await ROOM.asend(message, key=str(number))
            assert not await ROOM.asend(message, key=str(number))
        assert [await anext(messages) for _ in sent] == sent
    await ROOM.aset("a", 1)
    assert await ROOM.astate() == {"a": 1}
    history = await ROOM.ahistory()
    assert [entry.message for entry in history] == sent
    assert [entry.offset for entry in history] == list(range(start + 1, start + 5))


@pytest.mark.parametrize(
    "config",
    [{}, {"prefix": "mine"}, {"serializer_format": "json"}, {"hosts": 2}],
    ids=["plain", "prefix", "json", "sharded"],
)
def test_one_script_keeps_and_publishes(
    use: Any, redis: RedisServer, published: list[str], config: dict[str, Any]
) -> None:
    if "json" in config.values():
        use(**config)
        run(exchange_texts)
    elif "hosts" in config:
        shards = [{**redis.hosts[0], "address": f"redis://127.0.0.1:{redis.port}/{db}"} for db in (1, 2)]
        use(hosts=shards)
        run(exchange)
    else:
        use(**config)
        run(exchange)
    prefix = config.get("prefix", "splice")
    # The one message that says that the history was cleared is not kept.
    assert published in ([f"{prefix}__group__room.1"], [])


async def exchange_texts() -> None:
    """The serializer for JSON takes no bytes."""
    async with ROOM.subscribe() as messages:
        await ROOM.asend({"a": "é"})
        assert await anext(messages) == {"a": "é"}


@pytest.mark.parametrize(
    "config",
    [
        {"backend": CORE},
        {"symmetric_encryption_keys": ["secret"]},
        {"serializer_format": "hexadecimal"},
        {"backend": "tests.test_splice.Own"},
    ],
    ids=["core", "encrypted", "serializer", "own group_send"],
)
def test_two_steps_where_one_is_not_possible(use: Any, config: dict[str, Any]) -> None:
    use(**config)
    assert spliced_layer("default", store_of("default")) is None
    run(exchange)


@pytest.mark.parametrize("own", ["another server", "memory"])
def test_two_steps_with_a_store_of_its_own(use: Any, other: RedisServer, own: str) -> None:
    use(fastws={"STORE": "memory" if own == "memory" else {"default": other.hosts}})
    assert spliced_layer("default", store_of("default")) is None
    run(exchange)


def test_a_store_that_names_the_servers_of_the_layer(use: Any, redis: RedisServer) -> None:
    use(fastws={"STORE": {"default": redis.hosts}})
    assert spliced_layer("default", store_of("default")) is channel_layers["default"]
    run(exchange)


def test_a_layer_whose_method_is_replaced_later(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use()
    assert spliced_layer("default", store_of("default")) is not None
    seen: list[Any] = []

    async def group_send(group: str, message: dict[str, Any]) -> None:
        seen.append(message["fastws"]["json"])

    monkeypatch.setattr(channel_layers["default"], "group_send", group_send, raising=False)

    async def main() -> None:
        await ROOM.asend([1])

    run(main)
    assert seen == ["[1]"]


def test_plain_consumers_get_a_message_with_a_place(use: Any) -> None:
    use()

    async def main() -> None:
        layer = channel_layers["default"]
        channel = await layer.new_channel()
        await layer.group_add("room.1", channel)
        await Group("room.1", type="chat.said").asend({"text": "hi"}, key="k")
        message = await layer.receive(channel)
        [entry] = (await ROOM.ahistory())[-1:]
        epoch = (await ROOM.aposition()).partition(":")[0]
        assert (message["type"], message["text"]) == ("chat.said", "hi")
        assert message["fastws"]["epoch"] == epoch
        assert int(message["fastws"]["offset"]) == entry.offset
        assert message["fastws"]["key"] == "k"

    run(main)


def test_a_retry_publishes_once(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use()
    store = store_of("default")
    append, failures = store.append, [StoreError("the reply was lost")]

    async def unsure(*args: Any, **kwargs: Any) -> Any:
        place = await append(*args, **kwargs)
        if failures:
            raise failures.pop()
        return place

    monkeypatch.setattr(store, "append", unsure)

    async def main() -> None:
        async with ROOM.subscribe() as messages:
            await ROOM.asend(["once"])
            await ROOM.asend(["after"])
            assert [await anext(messages), await anext(messages)] == [["once"], ["after"]]

    run(main)
    assert not failures


def test_redis_that_is_full_still_delivers(use: Any, redis: RedisServer) -> None:
    """XADD is refused and PUBLISH is not: the message arrives, but is not kept."""
    use()

    async def main() -> None:
        with Redis.from_url(redis.url) as admin:
            async with ROOM.subscribe() as messages:
                await ROOM.asend(["kept"])
                assert await anext(messages) == ["kept"]
                offset = (await ROOM.aposition()).partition(":")[2]
                admin.config_set("maxmemory", 1)
                try:
                    await ROOM.asend(["live only"])
                    assert await anext(messages) == ["live only"]
                finally:
                    admin.config_set("maxmemory", 0)
                assert (await ROOM.aposition()).partition(":")[2] == offset

    run(main)
    assert counters["unkept"] == 1


def test_a_send_is_counted_and_traced(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use()
    begun: list[tuple[str, str]] = []

    async def within(call: Any) -> None:
        await call

    def sending(call: Any, alias: str, group: str, message: dict[str, Any]) -> Any:
        begun.append((alias, group))
        message["fastws"]["trace"] = "00-1-1-01"
        return within(call)

    monkeypatch.setattr(hooks, "sending", sending)
    monkeypatch.setattr(census, "is_on", True)

    async def main() -> None:
        layer = channel_layers["default"]
        channel = await layer.new_channel()
        await layer.group_add("room.1", channel)
        assert await ROOM.asend(["hi"], key="traced")
        assert not await ROOM.asend(["hi"], key="traced")
        assert (await layer.receive(channel))["fastws"]["trace"] == "00-1-1-01"

    run(main)
    assert begun == [("default", "room.1")] * 2
    assert (counters["kept"], counters["sent"]) == (1, 1)
    assert sum(health("default").send_times.counts) == 1


def test_a_store_that_is_away_is_told_as_before(use: Any, redis: RedisServer) -> None:
    use(hosts=[{"address": "redis://127.0.0.1:1/0"}], fastws={"LAYER_TIMEOUT": 1})

    async def main() -> None:
        with pytest.raises(GroupSendError):
            await ROOM.asend(["nobody hears"])

    run(main)
    assert counters["kept"] == 0
