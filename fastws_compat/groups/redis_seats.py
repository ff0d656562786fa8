"""The presence of sockets on one Redis server. Only the server's clock is used.

The keys contain the run id of the server. What a server restores from a file was true at some earlier time,
so it counts as lost: every process registers its sockets again, and the old keys expire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import uuid4

from fastws_compat.groups.redis import RedisStore
from fastws_compat.groups.roster import Diff, People
from fastws_compat.groups.seats import BATCH, Listed, Seat, Tick
from fastws_compat.groups.servers import Call, script
from fastws_compat.groups.stores import StoreRefused, new_epoch

# The number of people or groups that one call reads.
PAGE = 500
# Seconds for which Redis keeps data that nobody renews; `keeper.RENEWAL_INTERVAL` is much less.
TTL = 86_400


class RedisSeats:
    """The presence in the groups of one server of a store, which is the one with this number."""

    def __init__(self, store: RedisStore, server: int) -> None:
        self._store = store
        self._server = server

    async def enter(self, group: str, process: str, seats: Sequence[Seat]) -> Diff:
        seal = self._store.seal
        fields = [
            field
            for seat in seats
            for field in (seat.socket, seat.key, seal(seat.info), "1" if seat.renewed else "")
        ]
        epoch, version, joined, changed = await self._run(
            "presence_enter", self._keys(group, process), TTL, new_epoch(), group, *fields
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
            "presence_leave", keys, new_epoch(), group, process, size, *sockets
        )
        last = {key.decode(): self._info(info) for key, info in zip(left[::2], left[1::2], strict=True)}
        return Diff(epoch.decode(), version, {}, list(last), {}, last), remaining > 0

    async def tick(self, process: str, lease: float) -> Tick:
        keys = [self._key(name) for name in ("leases", "tokens", "seen", f"in:{process}")]
        token, dead = await self._run("presence_tick", keys, process, int(lease * 1000), uuid4().hex, TTL)
        return Tick(token.decode(), [other.decode() for other in dead])

    async def release(self, process: str, seconds: float) -> None:
        await self._run("presence_release", [self._key("leases")], process, int(seconds * 1000))

    async def groups_of(self, process: str) -> list[str]:
        names = await self._run("presence_groups", [self._key(f"in:{process}")])
        return [name.decode() for name in names]

    async def versions(self, groups: Sequence[str]) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for at in range(0, len(groups), PAGE):
            heads = await self._heads(groups[at : at + PAGE])
            found += [(epoch, version) for epoch, version, _ in heads]
        return found

    async def people(self, group: str) -> tuple[str, int, People]:
        people: People = {}
        first: tuple[str, int] | None = None
        async for version, page in self._pages(group):
            first = first or version
            people |= {key: self._info(value) for key, value, _ in page}
        assert first is not None, "there is at least one page"
        return *first, people

    async def listed(self, group: str) -> dict[str, Listed]:
        found: dict[str, Listed] = {}
        async for _, page in self._pages(group):
            for key, value, count in page:
                found[key] = Listed(self._info(value), int(value.partition(b" ")[0]), int(count))
        return found

    async def _pages(
        self, group: str
    ) -> AsyncIterator[tuple[tuple[str, int], Iterator[tuple[str, bytes, bytes]]]]:
        from msgpack import unpackb

        keys = [self._of(group, part) for part in ("pm", "p", "pn")]
        cursor: Any = b"0"
        while True:
            page = await self._run("presence_read", keys, cursor, PAGE)
            epoch, version, cursor, fields = unpackb(page, raw=True)
            names = (key.decode() for key in fields[::3])
            yield (epoch.decode(), version), zip(names, fields[1::3], fields[2::3], strict=True)
            if cursor == b"0":
                return

    async def count(self, group: str) -> int:
        [(_, _, number)] = await self._heads([group])
        return number

    def abandon(self, process: str) -> None:
        """Do nothing: the lease expires, and users may have reconnected to other processes by then."""

    async def _heads(self, groups: Sequence[str]) -> list[tuple[str, int, int]]:
        """Epoch, version and number of people of each group."""
        from msgpack import unpackb

        keys = [self._of(group, part) for group in groups for part in ("pm", "p")]
        fields = unpackb(await self._run("presence_head", keys))
        return list(zip(fields[::3], fields[1::3], fields[2::3], strict=True))

    async def _run(self, name: str, keys: list[str], *args: Any) -> Any:
        call = Call(script(name), keys, args, is_of_run=True)
        [reply] = await self._store.servers.run_all(self._server, [call])
        if isinstance(reply, Exception):
            raise StoreRefused(str(reply)) from reply
        return reply

    def _keys(self, group: str, process: str) -> list[str]:
        own = [self._of(group, part) for part in ("pm", "p", "pn", f"pc:{process}")]
        return [*own, self._key(f"in:{process}")]

    def _of(self, group: str, part: str) -> str:
        return self._store.servers.key(group, part)

    def _key(self, name: str) -> str:
        return self._store.servers.shared_key(name)

    def _info(self, value: bytes) -> str:
        return self._store.open(value.partition(b" ")[2]).decode()


def _at(seats: Sequence[Seat], numbers: Sequence[int]) -> People:
    return {seats[number].key: seats[number].info for number in numbers}
