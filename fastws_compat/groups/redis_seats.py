"""The presence of sockets in one Redis server. Only its clock is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from uuid import uuid4

from fastws_compat.groups.roster import Diff, People
from fastws_compat.groups.seats import BATCH, Listed, Seat, Tick

# The number of people or groups that one call reads.
PAGE = 500
# Seconds that Redis keeps what nobody renews; `keeper.RENEWAL_INTERVAL` is much less.
TTL = 86_400


class Cipher(Protocol):
    """How text is stored: encrypted, if the layer encrypts."""

    def encrypt(self, text: str) -> bytes: ...

    def decrypt(self, data: bytes) -> str: ...


@cache
def script(name: str) -> str:
    return files("fastws_compat.groups").joinpath("scripts", f"{name}.lua").read_text()


class RedisSeats:
    """`client` returns the running loop's connection to the server."""

    def __init__(self, client: Callable[[], Awaitable[Any]], prefix: str, cipher: Cipher) -> None:
        self._client = client
        self._prefix = prefix
        self._cipher = cipher

    async def enter(self, group: str, process: str, seats: Sequence[Seat]) -> Diff:
        fields = [
            field
            for seat in seats
            for field in (seat.socket, seat.key, self._cipher.encrypt(seat.info), "1" if seat.renewed else "")
        ]
        epoch, version, joined, changed = await self._run(
            "presence_enter", self._keys(group, process), TTL, _new_epoch(), group, *fields
        )
        return Diff(epoch.decode(), version, _at(seats, joined), [], _at(seats, changed))

    async def leave(self, group: str, process: str, sockets: Sequence[str]) -> Diff:
        diff, _ = await self._leave(group, process, 0, *sockets)
        return diff

    async def reap(self, group: str, process: str) -> tuple[Diff, bool]:
        return await self._leave(group, process, BATCH)

    async def _leave(self, group: str, process: str, size: int, *sockets: str) -> tuple[Diff, bool]:
        keys = [*self._keys(group, process), self._key("leases"), self._key("tokens")]
        epoch, version, left, remaining = await self._run(
            "presence_leave", keys, _new_epoch(), group, process, size, *sockets
        )
        return Diff(epoch.decode(), version, {}, [key.decode() for key in left]), remaining > 0

    async def tick(self, process: str, lease: float) -> Tick:
        beginning = self._key("in:")
        keys = [self._key("leases"), self._key("tokens"), self._key("seen"), beginning + process]
        token, dead = await self._run(
            "presence_tick", keys, process, int(lease * 1000), uuid4().hex, TTL, beginning
        )
        return Tick(token.decode(), [other.decode() for other in dead])

    async def release(self, process: str, seconds: float) -> None:
        redis = await self._client()
        now, micros = await redis.time()
        ends = now * 1000 + micros // 1000 + int(seconds * 1000)
        await redis.zadd(self._key("leases"), {process: ends}, xx=True)

    async def groups_of(self, process: str) -> list[str]:
        redis = await self._client()
        return [name.decode() for name in await redis.smembers(self._key(f"in:{process}"))]

    async def versions(self, groups: Sequence[str]) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for at in range(0, len(groups), PAGE):
            pipeline = (await self._client()).pipeline(transaction=False)
            for group in groups[at : at + PAGE]:
                pipeline.hmget(self._of(group, "m"), "pe", "v")
            found += map(_version, await pipeline.execute())
        return found

    async def people(self, group: str) -> tuple[str, int, People]:
        redis = await self._client()
        # The version first: diffs after it may be in the list already, and can be applied to it again.
        epoch, version = _version(await redis.hmget(self._of(group, "m"), "pe", "v"))
        people: People = {}
        cursor = None
        while cursor != 0:
            cursor, page = await redis.hscan(self._of(group, "p"), cursor or 0, count=PAGE)
            people |= {key.decode(): self._info(value) for key, value in page.items()}
            await asyncio.sleep(0)
        return epoch, version, people

    async def listed(self, group: str) -> dict[str, Listed]:
        redis = await self._client()
        found: dict[str, Listed] = {}
        cursor = None
        while cursor != 0:
            cursor, page = await redis.hscan(self._of(group, "p"), cursor or 0, count=PAGE)
            counts = await redis.hmget(self._of(group, "pn"), *page) if page else []
            for (key, value), count in zip(page.items(), counts, strict=True):
                since = int(value.partition(b" ")[0])
                found[key.decode()] = Listed(self._info(value), since, int(count or 1))
        return found

    async def count(self, group: str) -> int:
        redis = await self._client()
        return int(await redis.hlen(self._of(group, "p")))

    def abandon(self, process: str) -> None:
        """Nothing: the lease ends by itself, and the users may have come back to other processes by then."""

    async def _run(self, name: str, keys: list[str], *args: Any) -> Any:
        redis = await self._client()
        return await redis.register_script(script(name))(keys, args, client=redis)

    def _keys(self, group: str, process: str) -> list[str]:
        own = [self._of(group, name) for name in ("m", "p", "pn", f"pc:{process}")]
        return [*own, self._key(f"in:{process}")]

    def _of(self, group: str, name: str) -> str:
        return f"{self._prefix}:{{{group}}}:{name}"

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _info(self, value: bytes) -> str:
        return self._cipher.decrypt(value.partition(b" ")[2])


def _new_epoch() -> str:
    return uuid4().hex[:8]


def _at(seats: Sequence[Seat], numbers: Sequence[int]) -> People:
    return {seats[number].key: seats[number].info for number in numbers}


def _version(fields: Sequence[bytes | None]) -> tuple[str, int]:
    epoch, version = fields
    return (epoch or b"").decode(), int(version or 0)
