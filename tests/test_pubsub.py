"""Sending and receiving on a pub/sub layer without its client, and the layers that do it themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection
from redis import Redis

from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from fastws_compat.groups.servers import Link, Links
from fastws_compat.groups.stores import StoreRefused
from fastws_compat.layers.client import counters, health
from fastws_compat.layers.pubsub import PubSub, pubsub_of
from tests.fake_server import until
from tests.redis_server import RedisServer
from tests.redis_server import other as other
from tests.redis_server import redis as redis

pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
GROUP = Group("g")


class OwnSend(RedisPubSubChannelLayer):  # type: ignore[misc]
    """A layer through which all messages must go."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._get_layer().group_send(group, message)


class OwnReceive(RedisPubSubChannelLayer):  # type: ignore[misc]
    """A layer from which all messages must come."""

    async def receive(self, channel: str) -> Any:
        return await self._get_layer().receive(channel)


@pytest.fixture
def use(redis: RedisServer, settings: Any) -> Iterator[Callable[..., None]]:
    def configure(backend: str = PUBSUB, **config: Any) -> None:
        config = {"hosts": redis.hosts, **config}
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}

    health.cache_clear()
    counters.clear()
    yield configure
    health.cache_clear()
    counters.clear()


@pytest.fixture
def admin(redis: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(redis.url) as client:
        yield client


@pytest.fixture
def by_layer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The channels that channels_redis itself publishes on and subscribes to."""
    used: list[str] = []
    for name in ("publish", "subscribe"):
        method = getattr(RedisSingleShardConnection, name)

        async def record(self: Any, channel: str, *message: bytes, method: Any = method) -> None:
            used.append(channel)
            await method(self, channel, *message)

        monkeypatch.setattr(RedisSingleShardConnection, name, record)
    return used


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            try:
                await main()
            finally:
                await channel_layers["default"].flush()

    asyncio.run(limited())


async def exchange(*numbers: int, servers: tuple[RedisServer, ...] = ()) -> None:
    """Send to a subscriber. channels_redis does not wait until one of the servers has subscribed it."""
    async with GROUP.subscribe() as messages:
        await until(lambda: not servers or any(map(subscribed, servers)))
        for number in numbers:
            await GROUP.asend([number])
        assert [await anext(messages) for _ in numbers] == [[number] for number in numbers]


def subscribed(server: RedisServer) -> bool:
    with Redis.from_url(server.url) as client:
        return subscribers(client)[0][1] == 1


def test_a_stock_layer_is_bypassed(use: Any, by_layer: list[str]) -> None:
    use()
    run(lambda: exchange(1, 2, 3))
    assert by_layer == []


@pytest.mark.parametrize("name", ["OwnSend", "OwnReceive"])
def test_a_layer_of_the_project_is_not_bypassed(
    use: Any, by_layer: list[str], redis: RedisServer, name: str
) -> None:
    use(f"{__name__}.{name}")
    run(lambda: exchange(1, servers=(redis,)))
    own, *others = by_layer
    assert own.startswith("asgispecific.")
    assert others == ["asgi__group__g", "asgi__group__g"]  # subscribed and published


def test_a_method_that_is_replaced_on_the_object(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use()

    async def refuse(group: str, message: Any) -> None:
        raise OSError("refused")

    async def main() -> None:
        await GROUP.asend("sent")
        monkeypatch.setattr(channel_layers["default"], "group_send", refuse)
        with pytest.raises(GroupSendError, match="OSError: refused"):
            await GROUP.asend("not sent")

    run(main)


def test_messages_that_are_sent_at_the_same_time_keep_their_order_and_go_together(
    use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far away Redis is, the last one does not wait for a round trip of each."""
    use()
    numbers, trips = range(300), []
    ask = Link.ask

    async def counted(self: Link, *commands: bytes) -> Any:
        trips.append(len(commands))
        return await ask(self, *commands)

    async def main() -> None:
        async with GROUP.subscribe() as messages:
            await GROUP.asend("first")
            assert await anext(messages) == "first"
            monkeypatch.setattr(Link, "ask", counted)
            await asyncio.gather(*(GROUP.asend([number]) for number in numbers))
            assert [await anext(messages) for _ in numbers] == [[number] for number in numbers]

    run(main)
    assert trips == [1, 256, 43]


def test_groups_on_two_servers_are_the_business_of_the_layer(
    use: Any, by_layer: list[str], redis: RedisServer, other: RedisServer
) -> None:
    use(hosts=[*redis.hosts, *other.hosts])
    run(lambda: exchange(1, servers=(redis, other)))
    assert by_layer[1:] == ["asgi__group__g", "asgi__group__g"]


@pytest.mark.parametrize("option", ["on_disconnect", "on_reconnect"])
def test_a_project_that_is_told_about_connections_has_those_of_the_layer(
    use: Any, by_layer: list[str], redis: RedisServer, option: str
) -> None:
    use(**{option: print})
    run(lambda: exchange(1, servers=(redis,)))
    assert by_layer[1:] == ["asgi__group__g", "asgi__group__g"]


def test_the_layer_sends_what_could_not_be_published(
    use: Any, by_layer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use()
    calls = []
    take = Links._take

    async def broken(self: Links) -> Any:
        calls.append(self)
        raise StoreRefused("no connection")

    async def main() -> None:
        async with GROUP.subscribe() as messages:
            monkeypatch.setattr(Links, "_take", broken)
            await GROUP.asend("by the layer")
            monkeypatch.setattr(Links, "_take", take)
            await GROUP.asend("directly")
            assert [await anext(messages), await anext(messages)] == ["by the layer", "directly"]

    run(main)
    assert (len(calls), by_layer) == (1, ["asgi__group__g"])


def test_what_may_have_been_published_is_not_sent_again(
    use: Any, by_layer: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after Redis has published the message, and before its reply arrives."""
    use()
    ask = Link.ask

    async def broken(self: Link, *commands: bytes) -> Any:
        await ask(self, *commands)
        raise ConnectionError("Connection closed by server.")

    async def main() -> None:
        async with GROUP.subscribe() as messages:
            await GROUP.asend([1])
            monkeypatch.setattr(Link, "ask", broken)
            with pytest.raises(GroupSendError, match=r"'g': ConnectionError: Connection closed by server$"):
                await GROUP.asend([2])
            monkeypatch.setattr(Link, "ask", ask)
            await GROUP.asend([3])
            assert [await anext(messages) for _ in range(3)] == [[1], [2], [3]]

    run(main)
    assert by_layer == []


def test_a_server_that_rejects_messages(use: Any, admin: Redis) -> None:
    use()
    admin.execute_command("ACL", "SETUSER", "default", "-publish")

    async def main() -> None:
        with pytest.raises(GroupSendError, match="NoPermissionError"):
            await GROUP.asend("not sent")

    try:
        run(main)
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+publish")


def test_a_connection_that_breaks_is_replaced_at_once(
    use: Any, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    use()

    async def main() -> None:
        async with GROUP.subscribe() as messages, Group("h").subscribe() as others:
            for number in range(3):
                await GROUP.asend([number])
                assert await anext(messages) == [number]
                assert admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
                await until(lambda: {count for _, count in subscribers(admin)} == {1})
            await Group("h").asend("still here")
            assert await anext(others) == "still here"

    run(main)
    assert counters["outages"] == 0
    assert "fails" not in caplog.text


def subscribers(admin: Redis) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = admin.pubsub_numsub("asgi__group__g", "asgi__group__h")
    return found


def test_a_server_that_refuses_subscribers(use: Any, admin: Redis, caplog: pytest.LogCaptureFixture) -> None:
    """The hub logs the outage, tries again, and ends it when the server answers."""
    use()

    async def main() -> None:
        async with GROUP.subscribe() as messages:
            admin.execute_command("ACL", "SETUSER", "default", "-subscribe")
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: "fails (ConnectionError: NoPermissionError" in caplog.text)
            admin.execute_command("ACL", "SETUSER", "default", "+subscribe")
            await until(lambda: "has recovered" in caplog.text)
            await GROUP.asend("again")
            assert await anext(messages) == "again"

    try:
        run(main)
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+subscribe")


def test_a_server_that_is_away_has_not_recovered_when_the_last_member_leaves(
    use: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving a group that has never been joined asks the server for nothing."""
    monkeypatch.setattr("fastws_compat.groups.hub.RETRY_INTERVAL", 0.01)
    use(hosts=["redis://127.0.0.1:1"])

    async def main() -> None:
        async with GROUP.subscribe():
            await until(lambda: "'default' fails" in caplog.text)
        await until(lambda: health("default").failing_since is None)

    run(main)
    assert "has recovered" not in caplog.text
    assert "'default' has no members here any more" in caplog.text


def test_what_arrives_is_read_although_nothing_receives_it(
    use: Any, redis: RedisServer, admin: Redis
) -> None:
    """Redis closes the connection of a subscriber that lets 8 MiB wait for a minute."""
    use()
    layer = RedisPubSubChannelLayer(redis.hosts)
    messages = [layer.serialize({"number": number, "text": "x" * 60_000}) for number in range(50)]

    async def main() -> None:
        pubsub = pubsub_of(layer)
        assert pubsub is not None
        channel = await pubsub.new_channel()
        await pubsub.group_add("g", channel)
        for message in messages:
            admin.publish("asgi__group__g", message)
        await until(lambda: len(pubsub._messages) == len(messages))
        assert pubsub.has_message(channel)
        assert [(await pubsub.receive(channel))["number"] for _ in messages] == list(range(50))
        assert not pubsub.has_message(channel)
        await pubsub.group_discard("g", channel)
        await until(lambda: subscribers(admin)[0][1] == 0)
        pubsub.forget(channel)
        await until(lambda: not admin.client_list("pubsub"))
        await pubsub.group_discard("g", channel)  # there is no connection
        assert not admin.client_list("pubsub")

    run(main)


def test_a_server_that_does_not_answer(settings: Any, use: Any, redis: RedisServer) -> None:
    use()
    settings.FASTWS = {"LAYER_TIMEOUT": 0.2}

    async def main() -> None:
        pubsub = pubsub_of(RedisPubSubChannelLayer(redis.hosts))
        assert pubsub is not None
        redis.freeze()
        try:
            with pytest.raises(ConnectionError, match=r"TimeoutError: no answer within 0\.2 s"):
                await pubsub.new_channel()
            made = []
            make = pubsub._pool.make_connection
            pubsub._pool.make_connection = lambda: made.append(make()) or made[0]
            connecting = asyncio.create_task(pubsub.new_channel())
            await until(lambda: made and made[0].is_connected)
            connecting.cancel()
            await asyncio.wait([connecting])
            assert connecting.cancelled()
        finally:
            redis.thaw()
        pubsub.forget("no connection")

    run(main)


def test_a_subscription_that_is_refused(use: Any, redis: RedisServer, admin: Redis) -> None:
    use()

    async def main() -> None:
        pubsub = pubsub_of(RedisPubSubChannelLayer(redis.hosts))
        assert pubsub is not None
        with pytest.raises(ConnectionError, match="NoPermissionError"):
            await pubsub.group_add("g", "pubsub")
        with pytest.raises(ConnectionError, match="NoPermissionError"):
            await pubsub.receive("pubsub")

    admin.execute_command("ACL", "SETUSER", "default", "-subscribe")
    try:
        run(main)
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+subscribe")


def test_a_confirmation_that_nobody_waits_for(use: Any, redis: RedisServer, admin: Redis) -> None:
    use()

    async def main() -> None:
        pubsub = pubsub_of(RedisPubSubChannelLayer(redis.hosts))
        assert pubsub is not None
        await pubsub.new_channel()
        redis.freeze()
        try:
            joining = asyncio.create_task(pubsub.group_add("g", "pubsub"))
            await until(lambda: pubsub._unconfirmed)
            joining.cancel()
            await asyncio.wait([joining])
        finally:
            redis.thaw()
        await pubsub.group_add("h", "pubsub")
        assert subscribers(admin) == [(b"asgi__group__g", 1), (b"asgi__group__h", 1)]
        pubsub.forget("pubsub")
        await until(lambda: not admin.client_list("pubsub"))

    run(main)


def test_layers_that_receive_by_themselves(redis: RedisServer, other: RedisServer) -> None:
    async def main() -> None:
        assert isinstance(pubsub_of(RedisPubSubChannelLayer(redis.hosts)), PubSub)
        assert pubsub_of(OwnReceive(redis.hosts)) is None
        assert pubsub_of(RedisChannelLayer(redis.hosts)) is None
        assert pubsub_of(RedisPubSubChannelLayer([*redis.hosts, *other.hosts])) is None
        for options in ({"health_check_interval": 5}, {"no such option": 1}):
            hosts = [{"address": redis.url, **options}]
            assert pubsub_of(RedisPubSubChannelLayer(hosts)) is None
        assert pubsub_of(RedisPubSubChannelLayer([f"{redis.url}?protocol=3"])) is None

    asyncio.run(main())
