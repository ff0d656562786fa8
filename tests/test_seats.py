"""The store of presence: memory, and a real Redis server, answer alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from fastws_compat.groups.redis import RedisStore
from fastws_compat.groups.redis_seats import RedisSeats
from fastws_compat.groups.seats import BATCH, Book, MemorySeats, Seat
from fastws_compat.groups.servers import Call, Script, Servers
from tests.redis_server import RedisServer, running

Step = Callable[[Any], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def check(request: pytest.FixtureRequest) -> Callable[[Step], None]:
    """Run a coroutine function with an empty store."""
    if request.param == "memory":
        return lambda steps: asyncio.run(steps(MemorySeats()))  # type: ignore[arg-type,return-value]
    server = request.getfixturevalue("server")

    async def with_redis(steps: Step) -> None:
        servers = Servers(server.hosts, "test")
        await servers.run_all(0, [Call(Script("return redis.call('FLUSHALL')"), [])])
        await steps(RedisSeats(RedisStore(servers), 0))

    return lambda steps: asyncio.run(with_redis(steps))


def seat(socket: str, key: str, info: Any = None, *, renewed: bool = False) -> Seat:
    return Seat(socket, key, json.dumps(info), renewed)


def test_the_first_socket_of_a_key_joins_and_the_last_one_leaves(check: Any) -> None:
    async def steps(seats: Any) -> None:
        first = await seats.enter("room", "p1", [seat("a", "7", {"name": "Ann"})])
        second = await seats.enter("room", "p2", [seat("b", "7", {"name": "Ann"}), seat("c", "8")])
        third = await seats.leave("room", "p1", ["a"])
        fourth = await seats.leave("room", "p2", ["b", "b", "unknown"])

        assert (first.joined, first.version) == ({"7": '{"name": "Ann"}'}, 1)
        assert (second.joined, second.changed, second.version) == ({"8": "null"}, {}, 2)
        assert (third.left, third.version) == ([], 2)
        assert (fourth.left, fourth.version) == (["7"], 3)
        assert {each.epoch for each in (first, second, third, fourth)} == {first.epoch}
        assert not third
        assert fourth
        assert await seats.people("room") == (first.epoch, 3, {"8": "null"})
        assert await seats.count("room") == 1
        assert (first.last, fourth.last) == ({}, {"7": '{"name": "Ann"}'})

    check(steps)


def test_what_is_repeated_changes_nothing(check: Any) -> None:
    async def steps(seats: Any) -> None:
        await seats.enter("room", "p1", [seat("a", "7", 1)])
        await seats.enter("room", "p1", [seat("b", "7", 2)])
        again = await seats.enter("room", "p1", [seat("a", "7", 1)])
        await seats.leave("room", "p1", ["a"])
        left = await seats.leave("room", "p1", ["a"])

        assert not again
        assert not left
        assert (await seats.people("room"))[2] == {"7": "2"}
        assert (await seats.listed("room"))["7"].sockets == 1

    check(steps)


@pytest.mark.redis
def test_redis_counts_only_the_sockets_of_who_has_several(server: RedisServer) -> None:
    """A count of one for everybody would take a fifth of the memory."""

    async def main() -> None:
        servers = Servers(server.hosts, "counted")
        seats = RedisSeats(RedisStore(servers), 0)
        read = Call(
            Script("return redis.call('HGETALL', KEYS[1])"), [servers.key("room", "pn")], is_of_run=True
        )

        async def counts() -> dict[str, str]:
            [fields] = await servers.run_all(0, [read])
            texts = [field.decode() for field in fields]
            return dict(zip(texts[::2], texts[1::2], strict=True))

        await seats.enter("room", "p1", [seat("a", "7"), seat("b", "8")])
        assert await counts() == {}
        await seats.enter("room", "p2", [seat("c", "7"), seat("d", "7")])
        assert await counts() == {"7": "3"}
        await seats.enter("room", "p2", [seat("c", "7", renewed=True)])
        assert (await seats.listed("room"))["7"].sockets == 3
        for socket, left in (("c", {"7": "2"}), ("d", {})):
            assert not await seats.leave("room", "p2", [socket])
            assert await counts() == left
        assert (await seats.leave("room", "p1", ["a"])).left == ["7"]
        assert [each.sockets for each in (await seats.listed("room")).values()] == [1]

    asyncio.run(main())


@pytest.mark.redis
def test_everything_in_redis_expires(server: RedisServer) -> None:
    """Each key, whenever it begins to exist, and all of them later if a process registers again."""

    async def main() -> None:
        servers = Servers(server.hosts, "expiring")
        seats = RedisSeats(RedisStore(servers), 0)
        keys = [servers.key("room", part) for part in ("pm", "p", "pn", "pc:p1", "pc:p2")]
        keys += [servers.shared_key(f"in:{process}") for process in ("p1", "p2")]

        async def times(command: str, *arguments: int) -> set[int]:
            text = f"return redis.call('{command}', KEYS[1]{''.join(f', {each}' for each in arguments)})"
            calls = [Call(Script(text), [key], is_of_run=True) for key in keys]
            return {*await servers.run_all(0, calls)} - {-2}

        async def soon() -> None:
            await times("EXPIRE", 100)

        await seats.enter("room", "p1", [seat("a", "7"), seat("b", "8")])
        assert min(await times("TTL")) > 80_000
        for process, entering in (("p2", seat("c", "9")), ("p1", seat("d", "8")), ("p1", seat("a", "7"))):
            await soon()
            await seats.enter("room", process, [entering])
            assert max(await times("TTL")) > 80_000
            assert -1 not in await times("TTL")
        await soon()
        await seats.enter("room", "p1", [seat("e", "10")])
        assert max(await times("TTL")) <= 100
        for process, sockets in (("p1", ["a", "b", "d", "e"]), ("p2", ["c"])):
            await seats.leave("room", process, sockets)
        await seats.enter("room", "p2", [seat("f", "9")])
        assert -1 not in await times("TTL")

    asyncio.run(main())


def test_another_info_is_a_change_if_it_is_new(check: Any) -> None:
    async def steps(seats: Any) -> None:
        await seats.enter("room", "p1", [seat("a", "7", 1)])
        second_tab = await seats.enter("room", "p2", [seat("b", "7", 2)])
        registered_again = await seats.enter("room", "p1", [seat("a", "7", 1)])
        renewed = await seats.enter("room", "p1", [seat("a", "7", 3, renewed=True)])
        same = await seats.enter("room", "p1", [seat("a", "7", 3, renewed=True)])
        both = await seats.enter("room", "p1", [seat("c", "8", 1), seat("c", "8", 2, renewed=True)])

        assert second_tab.changed == {"7": "2"}
        assert not registered_again
        assert renewed.changed == {"7": "3"}
        assert not same
        assert (both.joined, both.changed) == ({"8": "2"}, {})
        since = (await seats.listed("room"))["7"].since
        assert since <= (await seats.listed("room"))["8"].since

    check(steps)


def test_a_process_whose_lease_is_over_is_removed_in_batches(check: Any) -> None:
    async def steps(seats: Any) -> None:
        await seats.tick("p1", 0.2)
        await seats.tick("p2", 100)
        many = [seat(f"s{number}", f"u{number}") for number in range(700)]
        for at in range(0, len(many), BATCH):
            await seats.enter("room", "p1", many[at : at + BATCH])
        await seats.enter("room", "p2", [seat("x", "u0")])
        await seats.enter("lobby", "p1", [seat("y", "u0")])
        alive, more = await seats.reap("room", "p1")
        assert (alive.left, more) == ([], False)

        dead = await until_dead(seats, "p1")
        assert dead == ["p1"]
        assert sorted(await seats.groups_of("p1")) == ["lobby", "room"]
        first, more = await seats.reap("room", "p1")
        assert more
        # Another process goes on where the first one stopped.
        assert (await until_dead(seats, "p1")) == ["p1"]
        left = [*first.left]
        while more:
            diff, more = await seats.reap("room", "p1")
            left += diff.left
        third, _ = await seats.reap("lobby", "p1")

        assert len(left) == len({*left}) == 699
        assert third.left == ["u0"]
        assert (await seats.people("room"))[2] == {"u0": "null"}
        assert await seats.groups_of("p1") == []
        assert (await seats.tick("p2", 0.02)).dead == []

    check(steps)


def test_a_dead_process_with_thousands_of_sockets_is_removed_to_the_last(check: Any) -> None:
    async def steps(seats: Any) -> None:
        await seats.tick("p1", 0.001)
        many = [seat(f"{number:x}", f"u{number}") for number in range(5_000)]
        for at in range(0, len(many), BATCH):
            await seats.enter("room", "p1", many[at : at + BATCH])

        left: list[str] = []
        more = True
        while more:
            diff, more = await seats.reap("room", "p1")
            assert diff.left, "a batch without anybody would be repeated for ever"
            left += diff.left

        assert sorted(left) == sorted(each.key for each in many)
        assert await seats.count("room") == 0

    check(steps)


def test_a_process_that_was_removed_gets_another_token(check: Any) -> None:
    async def steps(seats: Any) -> None:
        before = await seats.tick("p1", 0.02)
        assert (await seats.tick("p1", 0.02)).token == before.token
        await seats.enter("room", "p1", [seat("a", "7")])
        await until_dead(seats, "p1")
        await seats.reap("room", "p1")

        assert (await seats.tick("p1", 20)).token != before.token

    check(steps)


def test_nobody_is_judged_after_the_store_was_away(check: Any) -> None:
    async def steps(seats: Any) -> None:
        await seats.tick("p1", 0.02)
        await seats.enter("room", "p1", [seat("a", "7")])
        await asyncio.sleep(0.05)
        # Nobody came for more than half a lease.
        assert (await seats.tick("p2", 0.02)).dead == []

    check(steps)


def test_a_process_that_stops_gives_its_users_time_to_come_back(check: Any) -> None:
    async def steps(seats: Any) -> None:
        await seats.tick("p1", 100)
        await seats.enter("room", "p1", [seat("a", "7")])
        await seats.release("p1", 0.05)
        refused, _ = await seats.reap("room", "p1")
        await seats.enter("room", "p2", [seat("b", "7")])
        await asyncio.sleep(0.06)
        diff, more = await seats.reap("room", "p1")

        assert (refused.left, diff.left, more) == ([], [], False)
        assert (await seats.listed("room"))["7"].sockets == 1

    check(steps)


def test_versions_of_many_groups_are_read_at_once(check: Any) -> None:
    async def steps(seats: Any) -> None:
        diff = await seats.enter("g3", "p1", [seat("a", "7")])
        versions = await seats.versions([f"g{number}" for number in range(600)])

        assert versions[3] == (diff.epoch, 1)
        assert {version for _, version in versions[4:]} == {0}

    check(steps)


def test_many_people_are_read_in_pages(check: Any) -> None:
    async def steps(seats: Any) -> None:
        for at in range(0, 1200, BATCH):
            await seats.enter("room", "p1", [seat(f"s{n}", f"u{n}", n) for n in range(at, at + BATCH)])
        _, version, people = await seats.people("room")

        assert version == 6
        assert people == {f"u{number}": str(number) for number in range(1200)}
        assert len(await seats.listed("room")) == 1200

    check(steps)


async def until_dead(seats: Any, process: str) -> list[str]:
    """Tick as another process until `process` is judged."""
    async with asyncio.timeout(5):
        while process not in (dead := (await seats.tick("judge", 0.1)).dead):
            await asyncio.sleep(0.02)
    return [each for each in dead if each == process]


def test_memory_forgets_what_has_ended_without_a_shutdown() -> None:
    async def steps() -> None:
        seats = MemorySeats()
        await seats.tick("p1", 20)
        await seats.enter("room", "p1", [seat("a", "7")])
        seats.abandon("p1")

        assert await seats.count("room") == 0

    asyncio.run(steps())


def test_memory_keeps_a_limited_number_of_empty_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws_compat.groups.seats.MAX_GROUPS", 2)

    async def steps() -> None:
        seats = MemorySeats()
        for name in ("g1", "g2", "g3"):
            await seats.enter(name, "p1", [seat("a", "7")])
        await seats.leave("g1", "p1", ["a"])

        assert set(seats._books) == {"g2", "g3"}

    asyncio.run(steps())


def test_memory_keeps_a_limited_number_of_groups_that_were_only_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastws_compat.groups.seats.MAX_GROUPS", 3)

    async def steps() -> None:
        seats = MemorySeats()
        await seats.enter("full", "p1", [seat("a", "7")])
        for number in range(10):
            assert await seats.count(f"empty.{number}") == 0
            assert len(seats._books) <= 3
        assert await seats.count("full") == 1

    asyncio.run(steps())


def test_a_book_without_a_change_keeps_its_version() -> None:
    assert Book().enter("p1", [], 0).version == 0
