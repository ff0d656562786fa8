"""What presence costs Redis and this process: joining, the list of a large group, and idle sockets.

    python -m benchmarks.presence

Redis reports its own time (`INFO commandstats`); other times are those of the whole call.
For comparison, the same sockets are put into a plain hash, one HSET each in pipelines of the same size.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from redis.exceptions import ResponseError

from fastws_compat.groups.redis import RedisStore
from fastws_compat.groups.redis_seats import RedisSeats
from fastws_compat.groups.roster import Roster, presence_text
from fastws_compat.groups.seats import BATCH, Seat
from fastws_compat.groups.servers import Servers
from tests.redis_server import running

MEMBERS = 2_000
LARGE = 10_000
INFO = '{"name":"Somebody Else","avatar":"/media/avatars/somebody.png"}'


def seats_of(number: int) -> list[Seat]:
    return [Seat(f"{each:x}", str(100_000 + each), INFO) for each in range(number)]


class Measured:
    """A Redis server, and what a call costs it."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    async def spent(
        self, work: Callable[[], Awaitable[Any]], commands: tuple[str, ...] = ("eval", "evalsha")
    ) -> tuple[float, float, int, int]:
        """The seconds of the call and of Redis, the number of its commands, and its new bytes of memory."""
        await self.redis.config_resetstat()
        before = (await self.redis.info("memory"))["used_memory"]
        begun = time.perf_counter()
        await work()
        wall = time.perf_counter() - begun
        stats = await self.redis.info("commandstats")
        outer = {name: each for name, each in stats.items() if name.split("_")[1] in commands}
        seconds = sum(each["usec"] for each in outer.values()) / 1e6
        calls = sum(each["calls"] for each in outer.values())
        taken = (await self.redis.info("memory"))["used_memory"] - before
        return wall, seconds, calls, taken


async def without_histograms(redis: Any) -> None:
    """Redis 7 allocates one for each command at its first call, which has nothing to do with what is kept."""
    with suppress(ResponseError):
        await redis.config_set("latency-tracking", "no")


def report(name: str, value: float, unit: str) -> None:
    print(f"{name:<58}{value:>12,.1f} {unit}")


async def enter(seats: RedisSeats, group: str, found: list[Seat]) -> None:
    for at in range(0, len(found), BATCH):
        await seats.enter(group, "p1", found[at : at + BATCH])


async def enter_one_by_one(seats: RedisSeats, group: str, found: list[Seat]) -> None:
    for seat in found:
        await seats.enter(group, "p1", [seat])


async def enter_at_once(seats: RedisSeats, group: str, found: list[Seat]) -> None:
    """Each socket has a call of its own, as from many processes: Redis goes from one to the next."""
    for at in range(0, len(found), BATCH):
        await asyncio.gather(*(seats.enter(group, "p1", [seat]) for seat in found[at : at + BATCH]))


async def plain(redis: Any, found: list[Seat]) -> None:
    """The lower bound: one field for each socket."""
    for at in range(0, len(found), BATCH):
        pipeline = redis.pipeline(transaction=False)
        for seat in found[at : at + BATCH]:
            pipeline.hset("plain", seat.socket, seat.info)
        await pipeline.execute()


async def measure(redis: Any, seats: RedisSeats) -> None:
    measured = Measured(redis)
    await enter(seats, "warm", seats_of(1))
    found = seats_of(MEMBERS)
    wall, busy, calls, taken = await measured.spent(lambda: enter(seats, "room", found))
    report(f"{MEMBERS:,} sockets enter: all", wall * 1e3, "ms")
    report("    scripts", calls, "")
    report("    Redis, for each", busy / MEMBERS * 1e6, "µs")
    report("    memory of Redis, for each", taken / MEMBERS, "bytes")
    _, busy, calls, _ = await measured.spent(lambda: enter_one_by_one(seats, "alone", found))
    report("    one by one: Redis, for each", busy / calls * 1e6, "µs")
    _, busy, calls, _ = await measured.spent(lambda: enter_at_once(seats, "at once", found))
    report("    each in a call, many calls at once: Redis, for each", busy / calls * 1e6, "µs")
    wall, busy, _, _ = await measured.spent(lambda: plain(redis, found), ("hset",))
    report("    a plain HSET, Redis, for each", busy / MEMBERS * 1e6, "µs")
    wall, busy, _, _ = await measured.spent(lambda: seats.tick("p1", 20))
    report("a lease is renewed: Redis", busy * 1e6, "µs")
    groups = [f"g{number}" for number in range(1000)]
    begun = time.process_time()
    wall, busy, _, _ = await measured.spent(lambda: seats.versions(groups))
    report("1,000 groups are checked: all", wall * 1e3, "ms")
    report("    CPU of this process", (time.process_time() - begun) * 1e3, "ms")

    await enter(seats, "large", seats_of(LARGE))
    wall, busy, calls, _ = await measured.spent(lambda: seats.people("large"))
    report(f"the list of {LARGE:,}: all", wall * 1e3, "ms")
    report("    Redis, for each page", busy / calls * 1e3, "ms")
    roster = Roster(20)
    roster.compare(*await seats.people("large"), 0)
    for name, limit in (("complete", LARGE), ("above the limit", 1000)):
        begun = time.perf_counter()
        presence_text("large", roster, limit, None)
        report(f"a frame for {LARGE:,}, {name}", (time.perf_counter() - begun) * 1e3, "ms")


async def main() -> None:
    from redis import asyncio as aioredis

    with running() as server:
        async with aioredis.Redis.from_url(server.url) as redis:
            await without_histograms(redis)
            await measure(redis, RedisSeats(RedisStore(Servers(server.hosts, "asgi")), 0))


if __name__ == "__main__":
    settings.configure()
    asyncio.run(main())
