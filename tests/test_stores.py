"""The stores, in memory and on Redis: both give the same answers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer

from fastws_compat.exceptions import GroupKindError
from fastws_compat.groups import Group, servers, stores
from fastws_compat.groups.entries import Kept
from fastws_compat.groups.feed import can_recover
from fastws_compat.groups.kinds import History, Kind, State
from fastws_compat.groups.positions import Position
from fastws_compat.groups.redis import RedisStore
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import (
    Appended,
    Draft,
    Hole,
    MemoryStore,
    Store,
    StoreError,
    StoreRefused,
    StoreRejected,
)
from fastws_compat.layers.wire import Change, Payload
from tests.fake_server import until
from tests.redis_server import RedisServer, running
from tests.redis_server import redis as redis
from tests.redis_server import redis_server as redis_server

pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

KIND = Kind("*", History(5, 60), state=State(2, 20))
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


def use(settings: Any, server: RedisServer, backend: str = PUBSUB, **config: Any) -> RedisStore:
    config = {"hosts": server.hosts, **config}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    store = store_of("default")
    assert isinstance(store, RedisStore)
    return store


@pytest.fixture(params=["memory", PUBSUB, CORE])
def store(request: pytest.FixtureRequest, settings: Any) -> Store:
    if request.param == "memory":
        return MemoryStore()
    server: RedisServer = request.getfixturevalue("redis")
    redis_call(server, "FLUSHALL")
    return use(settings, server, request.param)


def redis_call(server: RedisServer, *command: Any) -> Any:
    """One command over a connection of its own."""
    import redis

    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return client.execute_command(*command)


def key(server: RedisServer, part: str) -> str:
    [found] = [key for key in redis_call(server, "KEYS", "*") if key.endswith(f"{{g}}:{part}")]
    return str(found)


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]
    gc.collect()  # report streams that were left open


def draft(text: str, **more: Any) -> Draft:
    return Draft(f"id-{text}", Payload("json", f'"{text}"'), **more)


def change(field: str, value: str | None) -> Draft:
    data = f'{{"del":["{field}"]}}' if value is None else f'{{"set":{{"{field}":{value}}}}}'
    return Draft(f"change-{field}-{value}", Change(data), field=field, value=value)


def offsets(entries: tuple[Kept, ...]) -> list[int]:
    return [entry.offset for entry in entries]


def test_an_empty_group_has_a_position(store: Store) -> None:
    async def main() -> None:
        first = await store.head("g", KIND)
        assert len(first.epoch) == 8
        assert (first.top, first.base, first.hole, first.first) == (0, 0, -1, 1)
        assert (await store.head("g", KIND)).epoch == first.epoch
        assert (await store.head("other", KIND)).epoch != first.epoch

    run(main)


def test_entries_get_dense_offsets_and_come_back_as_they_were(store: Store) -> None:
    contents = [
        Payload("json", '{"ä":1}'),
        Payload("text", "grüße"),
        Payload("bytes", b"\x00\xff"),
        Change("{}"),
    ]

    async def main() -> None:
        for number, content in enumerate(contents, 1):
            place = await store.append(
                "g", KIND, Draft(str(number), content, exclude="me" if number > 2 else None)
            )
            assert place[1:] == (number, True)
        reading = await store.read("g", KIND, 0, 100)
        assert [entry.content for entry in reading.entries] == contents
        assert offsets(reading.entries) == [1, 2, 3, 4]
        assert [entry.exclude for entry in reading.entries] == [None, None, "me", "me"]
        assert [entry.id for entry in reading.entries] == ["1", "2", "3", "4"]
        assert offsets((await store.read("g", KIND, 1, 2)).entries) == [2, 3]
        assert (await store.read("g", KIND, 4, 2)).entries == ()

    run(main)


def test_no_more_entries_than_the_kind_allows(store: Store) -> None:
    async def main() -> None:
        for number in range(1, 9):
            await store.append("g", KIND, draft(str(number)))
        reading = await store.read("g", KIND, 0, 100)
        assert (reading.top, reading.first, offsets(reading.entries)) == (8, 4, [4, 5, 6, 7, 8])

    run(main)


def test_entries_over_age_are_not_kept(store: Store) -> None:
    short = Kind("*", History(100, 0.05))

    async def main() -> None:
        for number in range(1, 4):
            await store.append("g", short, draft(str(number)))
        await asyncio.sleep(0.1)
        reading = await store.read("g", short, 0, 100)
        assert (reading.top, reading.first, reading.entries) == (3, 4, ())
        assert (await store.append("g", short, draft("4")))[1] == 4

    run(main)


def test_entries_over_age_go_although_others_follow(store: Store) -> None:
    async def main() -> None:
        for number in range(1, 4):
            await store.append("g", KIND, draft(str(number)))
        await asyncio.sleep(0.1)
        short = Kind("*", History(100, 0.05))
        await store.append("g", short, draft("4"))
        reading = await store.read("g", short, 0, 100)
        assert (reading.first, offsets(reading.entries)) == (4, [4])

    run(main)


def test_a_key_is_appended_once(store: Store) -> None:
    async def main() -> None:
        first = await store.append("g", KIND, draft("one", key="k"))
        again = await store.append("g", KIND, draft("two", key="k"))
        assert again == (first.epoch, 1, False)
        assert (await store.append("g", KIND, draft("three", key="other")))[1:] == (2, True)
        # The retry of an append that was carried out is no second message.
        assert await store.append("g", KIND, draft("one", key="k"), is_retry=True) == first
        entries = (await store.read("g", KIND, 0, 9)).entries
        assert [(entry.id, entry.key) for entry in entries] == [("id-one", "k"), ("id-three", "other")]

    run(main)


def test_a_key_is_forgotten_with_its_entry(store: Store) -> None:
    short = Kind("*", History(100, 0.05))

    async def main() -> None:
        await store.append("g", short, draft("one", key="k"))
        await asyncio.sleep(0.1)
        assert (await store.append("g", short, draft("two", key="k"))).is_new

    run(main)


def test_a_retry_looks_first(store: Store) -> None:
    async def main() -> None:
        await store.append("g", KIND, draft("one"))
        place = await store.append("g", KIND, draft("two"))
        assert await store.append("g", KIND, draft("two"), is_retry=True) == place
        assert (await store.append("g", KIND, draft("three"), is_retry=True))[1] == 3

    run(main)


def test_a_hole_is_noted(store: Store) -> None:
    async def main() -> None:
        epoch = (await store.append("g", KIND, draft("one"))).epoch
        await store.mark_hole("g", KIND, "another")
        assert (await store.head("g", KIND)).hole == -1
        await store.mark_hole("g", KIND, epoch)
        assert (await store.head("g", KIND)).hole == 1
        await store.append("g", KIND, draft("two"))
        await store.append("g", KIND, draft("three"), hole=Hole())
        assert (await store.head("g", KIND)).hole == 2
        await store.mark_hole("new", KIND)
        assert (await store.head("new", KIND)).hole == 0

    run(main)


def test_a_hole_that_its_sender_has_reported_stays_where_it_is(store: Store) -> None:
    """A process that only received the message cannot move it behind what was kept afterwards."""

    async def main() -> None:
        async def hole() -> int:
            return (await store.head("g", KIND)).hole

        epoch = (await store.append("g", KIND, draft("one"))).epoch
        await store.append("g", KIND, draft("two"), hole=Hole("a", 7))
        await store.append("g", KIND, draft("three"))
        await store.mark_hole("g", KIND, epoch, Hole("a", 7, 0))
        assert await hole() == 1
        await store.mark_hole("g", KIND, epoch, Hole("a", 6, 2))  # some had received more when it came
        assert await hole() == 2
        await store.mark_hole("g", KIND, epoch, Hole("a", 6, 50))  # in an epoch that is over
        assert await hole() == 3
        await store.append("g", KIND, draft("four"))
        await store.mark_hole("g", KIND, epoch, Hole("b", 1, 0))  # its sender has died
        assert await hole() == 4
        await store.append("g", KIND, draft("five"))
        await store.mark_hole("g", KIND, epoch, Hole("b", 1, 0))
        assert await hole() == 4
        await store.mark_hole("g", KIND, epoch, Hole("a", 8, 0))
        assert await hole() == 5

    run(main)


def test_an_epoch_ends_if_somebody_has_seen_more(store: Store) -> None:
    async def main() -> None:
        epoch = (await store.append("g", KIND, draft("one"))).epoch
        await store.begin_epoch("g", KIND, epoch, 1)
        await store.begin_epoch("g", KIND, "another", 5)
        assert (await store.head("g", KIND)).epoch == epoch
        await store.begin_epoch("g", KIND, epoch, 5)
        reading = await store.read("g", KIND, 0, 9)
        assert reading.epoch != epoch
        assert (reading.top, reading.base, reading.hole, offsets(reading.entries)) == (1, 1, -1, [1])

    run(main)


def test_the_state_is_that_of_the_last_values(store: Store) -> None:
    async def main() -> None:
        for field, value in (
            ("a", "1"),
            ("b", '"x"'),
            ("a", "2"),
            ("b", None),
            ("c", "null"),
            ("never", None),
        ):
            await store.append("g", KIND, change(field, value))
        reading = await store.read("g", KIND, 0, 9, state=True)
        assert (reading.top, reading.state) == (6, {"a": "2", "c": "null"})
        assert not (await store.read("g", KIND)).state

    run(main)


def test_the_state_has_limits(store: Store) -> None:
    async def main() -> None:
        await store.append("g", KIND, change("a", "1"))
        await store.append("g", KIND, change("b", "1"))
        with pytest.raises(ValueError, match="2 keys"):
            await store.append("g", KIND, change("c", "1"))
        with pytest.raises(ValueError, match="20 bytes"):
            await store.append("g", KIND, change("b", '"' + 20 * "x" + '"'))
        assert (await store.head("g", KIND)).top == 2
        await store.append("g", KIND, change("b", '"' + 15 * "x" + '"'))  # 20 with its key and that of "a"
        await store.append("g", KIND, change("b", None))
        await store.append("g", KIND, change("c", '"' + 15 * "x" + '"'))

    run(main)


def test_the_size_of_a_state_survives_an_eviction(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)

    async def main() -> None:
        await store.append("g", KIND, change("a", '"' + 8 * "x" + '"'))
        redis_call(redis, "DEL", key(redis, "m"))
        with pytest.raises(ValueError, match="20 bytes"):
            await store.append("g", KIND, change("b", '"' + 8 * "x" + '"'))
        await store.append("g", KIND, change("a", None))
        await store.append("g", KIND, change("b", '"' + 17 * "x" + '"'))
        with pytest.raises(ValueError, match="20 bytes"):
            await store.append("g", KIND, change("c", "1"))

    run(main)


def test_a_group_is_cleared(store: Store) -> None:
    async def main() -> None:
        place = await store.append("g", KIND, change("a", "1"))
        await store.clear("g", KIND)
        reading = await store.read("g", KIND, 0, 9, state=True)
        assert reading.epoch != place.epoch
        assert (reading.top, reading.base, reading.entries, reading.state) == (1, 1, (), {})
        await store.append("g", KIND, change("b", '"' + 15 * "x" + '"'))

    run(main)


def test_several_heads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastws_compat.groups import redis

    monkeypatch.setattr(redis, "BATCH", 2)

    async def main() -> None:
        for name in ("a", "b", "c"):
            await store.append(name, KIND, draft(name))
        other = Kind("d*", History(1, 1))
        kinds = {"a": KIND, "d": other, "b": KIND, "c": KIND, "e": KIND, "d2": other}
        heads = await store.heads(kinds)
        tops = {name: head.top for name, head in heads.items()}
        assert tops == {"a": 1, "b": 1, "c": 1, "d": 0, "d2": 0, "e": 0}
        assert len({head.epoch for head in heads.values()}) == 6
        for name, kind in kinds.items():
            assert (await store.head(name, kind))[:5] == heads[name][:5]

    run(main)


def test_heads_of_groups_that_cannot_be_read_are_left_out(
    redis: RedisServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastws_compat.groups import redis as module

    monkeypatch.setattr(module, "PAGE", 2)
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)
    kinds = dict.fromkeys("abcd", KIND)
    redis_call(redis, "SET", store.servers.key("b", "m"), "something else")

    async def main() -> None:
        assert list(await store.heads(kinds)) == ["a", "c", "d"]
        run_all = store.servers.run_all

        async def refuse_the_first(*arguments: Any) -> list[Any]:
            return [StoreRefused("away"), *(await run_all(*arguments))[1:]]

        monkeypatch.setattr(store.servers, "run_all", refuse_the_first)
        assert list(await store.heads(kinds)) == ["c", "d"]

    run(main)


def test_memory_forgets_the_group_that_was_used_least_recently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "MAX_GROUPS", 2)
    store = MemoryStore()

    async def main() -> None:
        epochs = {name: (await store.append(name, KIND, draft(name))).epoch for name in ("a", "b")}
        await store.head("a", KIND)
        await store.append("c", KIND, draft("c"))
        assert (await store.head("a", KIND)).epoch == epochs["a"]
        reading = await store.head("b", KIND)
        assert (reading.epoch == epochs["b"], reading.top) == (False, 0)

    run(main)


# Redis alone


def test_concurrent_appends(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)
    many = Kind("*", History(1000, 60))

    async def main() -> None:
        places = await asyncio.gather(*(store.append("g", many, draft(str(n))) for n in range(200)))
        assert sorted(place.offset for place in places) == list(range(1, 201))
        [links] = store.servers._here().links
        assert len(links.free) <= servers.MAX_CONNECTIONS

    run(main)
    assert store.servers._layers == {}

    async def in_another_loop() -> None:
        assert (await store.head("g", many)).top == 200

    run(in_another_loop)
    assert store.servers._layers == {}


def test_another_server_begins_another_epoch(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)

    async def main() -> None:
        place = await store.append("g", KIND, draft("one"))
        assert (await store.head("g", KIND)).epoch == place.epoch
        redis_call(redis, "HSET", key(redis, "m"), "r", "another server")
        reading = await store.read("g", KIND, 0, 9)
        assert reading.epoch != place.epoch
        assert (reading.top, reading.base, offsets(reading.entries)) == (1, 1, [1])
        assert (await store.head("g", KIND)).epoch == reading.epoch

    run(main)


def test_a_snapshot_from_before_the_first_read(redis_server: RedisServer, settings: Any) -> None:
    """Positions given after it must not stand for other messages, although nobody reads at first."""
    store = use(settings, redis_server)
    seen: list[Appended] = []

    async def before() -> None:
        await store.append("g", KIND, draft("one"))
        redis_call(redis_server, "SAVE")
        assert (await store.head("g", KIND)).top == 1
        seen.append(await store.append("g", KIND, draft("two")))

    async def after() -> None:
        places = [await store.append("g", KIND, draft(f"other {number}")) for number in range(3)]
        assert [place.offset for place in places] == [2, 3, 4]
        reading = await store.head("g", KIND)
        assert ({place.epoch for place in places}, reading.base) == ({reading.epoch}, 1)
        assert not can_recover(Position(seen[0].epoch, seen[0].offset), reading)

    run(before)
    redis_server.kill()
    redis_server.start()
    run(after)


def test_a_server_that_another_one_has_stood_in_for(redis_server: RedisServer, settings: Any) -> None:
    """The first server never restarts, and the promoted replica is only written to."""
    store = use(settings, redis_server)
    with running() as replica:
        replica.follow(redis_server)

        async def main() -> None:
            settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": replica.hosts}}}
            channel_layers.backends.clear()
            other = store_of("default")
            await store.append("g", KIND, draft("one"))
            await store.head("g", KIND)
            replica.follow(redis_server)
            replica.promote()
            seen = await store.append("g", KIND, draft("seen by a client"))
            for text in ("not seen", "not seen either"):
                await other.append("g", KIND, draft(text))
            redis_server.follow(replica)
            redis_server.promote()
            reading = await store.read("g", KIND, 0, 9)
            assert offsets(reading.entries) == [1, 2, 3]
            assert not can_recover(Position(seen.epoch, seen.offset), reading)

        run(main)


def test_a_server_that_has_become_a_replica(redis_server: RedisServer, settings: Any) -> None:
    """It rejects what is written and keeps its connections, but the address may lead to the new primary."""
    store = use(settings, redis_server)
    with running() as primary:

        async def main() -> None:
            [links] = store.servers._here().links
            await asyncio.gather(*(store.head("g", KIND) for _ in range(3)))
            assert len(links.free) == 3
            redis_server.follow(primary)
            with pytest.raises(StoreRefused, match="read only replica"):
                await store.append("g", KIND, draft("rejected"))
            assert links.free == []
            redis_server.promote()
            await store.append("g", KIND, draft("kept"))
            assert len(links.free) == 1

        run(main)


def test_a_durable_server_may_restart(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    settings.FASTWS = {"STORE_DURABLE": True}
    store = use(settings, redis)

    async def main() -> None:
        place = await store.append("g", KIND, draft("one"))
        await store.head("g", KIND)
        redis_call(redis, "HSET", key(redis, "m"), "r", "another server")
        assert (await store.head("g", KIND)).epoch == place.epoch

    run(main)


def test_a_server_that_does_not_tell_its_run_id(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    redis_call(redis, "ACL", "SETUSER", "shy", "on", ">secret", "~*", "&*", "+@all", "-info")
    url = redis.url.replace("//", "//shy:secret@")
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": PUBSUB, "CONFIG": {"hosts": [url]}}}
    store = store_of("default")

    async def main() -> None:
        place = await store.append("g", KIND, draft("one"))
        assert (await store.head("g", KIND)).epoch == place.epoch

    run(main)
    redis_call(redis, "ACL", "DELUSER", "shy")


@pytest.mark.parametrize("part", ["m", "s"])
def test_a_key_that_was_evicted(redis: RedisServer, settings: Any, part: str) -> None:
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)

    async def main() -> None:
        for number in range(1, 4):
            place = await store.append("g", KIND, draft(str(number)))
        redis_call(redis, "DEL", key(redis, part))
        after = await store.append("g", KIND, draft("4"))
        reading = await store.read("g", KIND, 0, 9)
        if part == "m":
            assert after.epoch != place.epoch
            assert (reading.top, reading.first) == (1, 1)
        else:
            assert (after.epoch, after.offset) == (place.epoch, 4)
            assert (reading.top, reading.first) == (4, 4)

    run(main)


def test_a_server_that_is_full_refuses(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)

    async def main() -> None:
        await store.append("g", KIND, draft("one"))
        redis_call(redis, "CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(StoreRefused, match="maxmemory"):
                await store.append("g", KIND, draft("two"))
        finally:
            redis_call(redis, "CONFIG", "SET", "maxmemory", "0")
        assert (await store.append("g", KIND, draft("three"))).offset == 2

    run(main)


def test_a_server_that_is_full_notes_a_hole(redis: RedisServer, settings: Any) -> None:
    """It refuses the offset, but knows that there is a hole, wherever it turns out to be."""
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis)

    async def hole() -> int:
        return (await store.head("g", KIND)).hole

    async def main() -> None:
        for text in ("one", "two"):
            await store.append("g", KIND, draft(text))
        assert await hole() == -1
        redis_call(redis, "CONFIG", "SET", "maxmemory", "1")
        try:
            for _ in range(2):
                with pytest.raises(StoreRejected, match="maxmemory"):
                    await store.mark_hole("g", KIND)
                assert await hole() == 2
        finally:
            redis_call(redis, "CONFIG", "SET", "maxmemory", "0")
        assert await hole() == 2
        for text in ("three", "four"):
            await store.append("g", KIND, draft(text))
            assert await hole() == 2
        redis_call(redis, "HDEL", key(redis, "m"), "h")
        assert await hole() == 4
        await store.mark_hole("g", KIND, hole=Hole("sender", 1, 3))
        await store.mark_hole("g", KIND, hole=Hole("sender", 1, 3))
        assert await hole() == 4

    run(main)


def test_an_encrypting_layer_has_an_encrypted_history(redis: RedisServer, settings: Any) -> None:
    redis_call(redis, "FLUSHALL")
    store = use(settings, redis, symmetric_encryption_keys=["secret"])
    roomy = Kind("*", History(), state=State())

    async def main() -> None:
        await store.append("g", roomy, Draft("1", Payload("json", '"confidential"')))
        value = '"confidential"'
        await store.append("g", roomy, Draft("2", Change(value), field="a", value=value))
        reading = await store.read("g", roomy, 0, 9, state=True)
        assert reading.entries[0].content == Payload("json", '"confidential"')
        assert reading.state == {"a": '"confidential"'}
        dump = (
            redis_call(redis, "XRANGE", key(redis, "s"), "-", "+"),
            redis_call(redis, "HVALS", key(redis, "st")),
        )
        assert "confidential" not in str(dump)
        other = use(settings, redis, symmetric_encryption_keys=["another secret"])
        for read in (other.read("g", roomy, 0, 9), other.read("g", roomy, state=True)):
            with pytest.raises(StoreError, match=r"cannot be decrypted \(InvalidToken\)"):
                await read
        assert (await other.head("g", roomy)).top == 2

    run(main)


def test_a_server_that_is_away(redis_server: RedisServer, settings: Any) -> None:
    store = use(settings, redis_server)

    async def main() -> None:
        await store.append("g", KIND, draft("one"))
        redis_server.kill()
        [link] = store.servers._here().links[0].free
        await until(lambda: link.has_ended)
        with pytest.raises(StoreRefused, match="ConnectionError"):
            await store.append("g", KIND, draft("two"))
        redis_server.start()
        assert (await store.append("g", KIND, draft("three"))).offset == 1

    run(main)


def test_a_server_that_loads_its_data(redis_server: RedisServer, settings: Any) -> None:
    """It has refused the command for certain, so a message may be delivered without being kept."""
    store = use(settings, redis_server)
    redis_call(redis_server, "EVAL", "for i = 1, 1000 do redis.call('SET', i, string.rep('x', 100)) end", 0)
    redis_call(redis_server, "SAVE")
    redis_server.kill()
    slowly = ("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
    redis_server.start(*slowly, answer=b"-LOADING")

    async def main() -> None:
        with pytest.raises(StoreRefused, match="loading"):
            await store.append("g", KIND, draft("one"))
        with pytest.raises(StoreRefused, match="loading"):
            await store.head("g", KIND)
        async with asyncio.timeout(20):
            while True:
                with suppress(StoreRefused):
                    place = await store.append("g", KIND, draft("two"))
                    break
                await asyncio.sleep(0.05)
        assert place.offset == 1

    run(main)


def test_a_server_that_hangs(redis_server: RedisServer, settings: Any) -> None:
    settings.FASTWS = {"LAYER_TIMEOUT": 0.2}
    store = use(settings, redis_server)

    async def main() -> None:
        await store.append("g", KIND, draft("one"))
        redis_server.freeze()
        with pytest.raises(StoreError, match="no answer within"):
            await store.append("g", KIND, draft("two"))
        redis_server.thaw()
        [links] = store.servers._here().links
        assert links.free == []

    run(main)


def test_a_script_that_the_server_refuses(redis: RedisServer, settings: Any) -> None:
    store = use(settings, redis)

    async def main() -> None:
        wrong = servers.Call(servers.Script("return redis.error_reply('no')"), [])
        with pytest.raises(StoreRefused, match="no"):
            await store.servers.run("g", wrong)

    run(main)


def test_a_connection_that_breaks_during_a_call(redis_server: RedisServer, settings: Any) -> None:
    store = use(settings, redis_server)

    async def main() -> None:
        await store.head("g", KIND)
        [links] = store.servers._here().links
        redis_server.freeze()
        call = asyncio.ensure_future(store.head("g", KIND))
        await until(lambda: not links.free)
        redis_server.kill()
        with pytest.raises(StoreError, match=r"^Connection\w*Error: ") as info:
            await call
        assert not isinstance(info.value, StoreRefused)
        assert links.free == []

    run(main)


def test_a_connection_that_breaks_between_two_steps_of_a_call(redis: RedisServer, settings: Any) -> None:
    """The server has replied that it does not know the script, and does not get its text."""
    store = use(settings, redis)

    async def main() -> None:
        links = store.servers._here().links[0]
        link = await links._take()
        redis_call(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: link.has_ended)
        with pytest.raises(ConnectionError, match="has ended"):
            await link.ask(b"*1\r\n$4\r\nPING\r\n")
        await link.close()

    run(main)


def test_a_reply_that_nothing_waits_for(redis: RedisServer, settings: Any) -> None:
    """The connection is not used again: the next reply might be that of another command."""
    store = use(settings, redis)

    async def main() -> None:
        await store.head("g", KIND)
        [links] = store.servers._here().links
        [link] = links.free
        await link._replies.send(b"*1\r\n$4\r\nPING\r\n")
        await until(lambda: link.has_ended)
        await store.head("g", KIND)
        assert link not in links.free

    run(main)


@pytest.mark.parametrize(("limit", "idle", "is_kept"), [(0, 1000, True), (100, 0, True), (100, 1000, False)])
def test_a_connection_that_has_been_idle(
    redis: RedisServer, settings: Any, limit: float, idle: float, is_kept: bool
) -> None:
    """redis-py would check one that has been idle for `health_check_interval`; here, a new one is made."""
    [host] = redis.hosts
    store = use(settings, redis, hosts=[{**host, "health_check_interval": limit}])

    async def main() -> None:
        await store.head("g", KIND)
        [links] = store.servers._here().links
        [link] = links.free
        link._used -= idle
        await store.head("g", KIND)
        assert (link in links.free) is is_kept

    run(main)


def test_a_call_that_is_cancelled(redis: RedisServer, settings: Any) -> None:
    store = use(settings, redis)

    async def main() -> None:
        await store.head("g", KIND)
        [links] = store.servers._here().links
        call = asyncio.ensure_future(store.head("g", KIND))
        while links.free:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert links.free == []

    run(main)


def test_a_server_that_forgets_at_will(redis: RedisServer, settings: Any, caplog: Any) -> None:
    servers._warn_of_eviction.cache_clear()
    redis_call(redis, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    store = use(settings, redis)

    async def main() -> None:
        await asyncio.gather(*(store.head(f"g{number}", KIND) for number in range(3)))

    try:
        run(main)
        run(main)
    finally:
        redis_call(redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    [text] = caplog.messages
    assert "maxmemory-policy allkeys-lru" in text


async def send_with_groups() -> None:
    async with Group("plain").subscribe() as messages:
        for number in range(20):
            await Group("plain").asend([number])
        assert [await anext(messages) for _ in range(20)] == [[number] for number in range(20)]


async def send_with_channels() -> None:
    layer = channel_layers["default"]
    channel = await layer.new_channel()
    await layer.group_add("plain", channel)
    for number in range(20):
        await layer.group_send("plain", {"type": "message", "number": number})
    assert [(await layer.receive(channel))["number"] for _ in range(20)] == [*range(20)]
    await layer.group_discard("plain", channel)
    waiting = asyncio.ensure_future(layer.receive(channel))  # as a hub does until its last member leaves
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])


@pytest.mark.parametrize("backend", [PUBSUB, CORE])
def test_a_group_without_a_kind_costs_not_one_command_more_than_channels(
    redis: RedisServer, settings: Any, backend: str
) -> None:
    use(settings, redis, backend)
    settings.FASTWS = {"GROUPS": {"room.*": {"history": True, "presence": True}}}

    def used(main: Callable[[], Awaitable[None]]) -> dict[str, int]:
        redis_call(redis, "FLUSHALL")
        redis_call(redis, "SCRIPT", "FLUSH")
        redis_call(redis, "CONFIG", "RESETSTAT")

        async def work() -> None:
            await main()
            layer = channel_layers["default"]
            await (layer.flush() if backend == PUBSUB else layer.close_pools())

        run(work)
        stats = redis_call(redis, "INFO", "commandstats")
        calls = {
            name.removeprefix("cmdstat_").partition("|")[0]: each["calls"] for name, each in stats.items()
        }
        for name in ("config", "info", "client", "hello", "select", "ping", "script", "flushall"):
            calls.pop(name, None)
        return calls

    channels, groups = used(send_with_channels), used(send_with_groups)
    assert groups.keys() == channels.keys()
    if backend == PUBSUB:  # on the other layer, a reader also waits for a message that does not come
        # A hub subscribes to the channels of groups only, and channels_redis also to one for each reader.
        fewer = {name: channels[name] - groups[name] for name in channels}
        assert {name: number for name, number in fewer.items() if number} == {
            "subscribe": 1,
            "unsubscribe": 1,
        }
    assert not any("fastws" in key for key in redis_call(redis, "KEYS", "*"))
    ours = [servers.script(path.stem).sha for path in servers.SCRIPTS.glob("*.lua")]
    assert not any(map(int, redis_call(redis, "SCRIPT", "EXISTS", *ours)))


# Which store a layer has


def test_the_store_of_a_layer(settings: Any, redis: RedisServer) -> None:
    settings.CHANNEL_LAYERS = {}
    store = store_of("default")
    assert isinstance(store, MemoryStore)
    assert store_of("default") is store
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert isinstance(store_of("default"), MemoryStore)
    settings.FASTWS = {"STORE": {"other": "memory", "default": redis.hosts}}
    assert isinstance(store_of("default"), RedisStore)
    settings.FASTWS = {"STORE": {"other": redis.hosts}}
    assert isinstance(store_of("default"), MemoryStore)
    settings.FASTWS = {"STORE": {"default": "fastws_compat.groups.stores.Store"}}
    assert type(store_of("default")) is Store


def test_subclasses_of_the_layers_count(settings: Any, redis: RedisServer) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_stores.Sub", "CONFIG": {"prefix": "mine"}}}
    store = store_of("default")
    assert isinstance(store, RedisStore)
    assert store.servers.key("g", "m") == "mine.fastws:{g}:m"
    settings.FASTWS = {"STORE": "memory"}
    assert isinstance(store_of("default"), MemoryStore)


def test_a_layer_with_positional_hosts(redis: RedisServer) -> None:
    from fastws_compat.layers.backends import hosts_of

    assert hosts_of(Sub(redis.hosts)) == redis.hosts


def test_servers_are_chosen_as_the_layer_does(settings: Any) -> None:
    hosts = [f"redis://host-{number}" for number in range(7)]
    for backend in (PUBSUB, CORE):
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": hosts}}}
        store, layer = store_of("default"), channel_layers["default"]
        assert isinstance(store, RedisStore)

        async def main() -> None:
            for number in range(50):
                name = f"g{number}"
                if backend == PUBSUB:
                    loop_layer = layer._get_layer()
                    chosen = loop_layer._shards.index(loop_layer._get_shard(f"asgi__group__{name}"))
                else:
                    chosen = layer.consistent_hash(name)
                assert store.servers.index(name) == chosen

        run(main)


def test_a_layer_without_a_store(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.test_stores.Foreign"}}
    with pytest.raises(GroupKindError, match=r"neither in memory nor a layer of channels_redis: name Redis"):
        store_of("default")


def test_a_store_of_the_project_needs_three_methods() -> None:
    class Three(MemoryStore):
        begin_epoch, mark_hole, clear = Store.begin_epoch, Store.mark_hole, Store.clear

    store = Three()

    async def main() -> None:
        place = await store.append("g", KIND, draft("one"))
        await store.begin_epoch("g", KIND, place.epoch, 5)
        await store.mark_hole("g", KIND)
        await store.clear("g", KIND)
        assert (await store.head("g", KIND))[:2] == Appended(place.epoch, 1)[:2]

    run(main)


class Foreign:
    """A channel layer of somebody else."""


class Sub(RedisPubSubChannelLayer):  # type: ignore[misc]
    """A layer of channels_redis, as a project may change it."""
