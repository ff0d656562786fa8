"""The Redis servers of a channel layer: few connections for each event loop, and scripts.

Unlike in redis-py's client, a call is never repeated, and its error says whether it may have been executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from hashlib import sha1
from pathlib import Path
from typing import Any

from fastws_compat import conf
from fastws_compat.groups.stores import StoreError, StoreRefused, StoreRejected
from fastws_compat.groups.together import Together
from fastws_compat.layers.client import with_timeout
from fastws_compat.layers.replies import command, packed, replies_of
from fastws_compat.logger import in_words, logger

# The maximum number of connections of one event loop to one server.
MAX_CONNECTIONS = 8
SCRIPTS = Path(__file__).parent / "scripts"
# The number of keys above which a call is for many groups, and its head is not remembered.
MAX_KEYS_OF_A_GROUP = 8


@dataclass(frozen=True)
class Script:
    """A Lua script, which Redis runs as one step."""

    text: str

    @cached_property
    def sha(self) -> str:
        return sha1(self.text.encode()).hexdigest()


@cache
def script(name: str) -> Script:
    """The script in `scripts/NAME.lua`."""
    return Script((SCRIPTS / f"{name}.lua").read_text())


@dataclass(slots=True)
class Call:
    """One call of a script. The argument `RUN_ID` stands for the run id of the server."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Any] = ()
    # The first arguments, which are the same in each call for a group.
    constants: Sequence[Any] = ()
    # Whether the keys are of this run of the server only: what it restores from a file is left to expire.
    is_of_run: bool = False

    def packed(self, run_id: str, *, whole: bool = False) -> bytes:
        """The command that runs it, by its digest or with its whole text, in the protocol of Redis."""
        keys, arguments = self.keys, self.arguments
        if RUN_ID in arguments:
            arguments = _with_run_id(arguments, run_id)
        if self.is_of_run and run_id:
            keys = [f"{key}:{run_id[:8]}" for key in keys]
        if whole or len(keys) > MAX_KEYS_OF_A_GROUP:
            what = ("EVAL", self.script.text) if whole else ("EVALSHA", self.script.sha)
            head = packed(*what, len(keys), *keys, *_with_run_id(self.constants, run_id))
        else:
            head = _packed_head(self.script.sha, tuple(keys), tuple(self.constants), run_id)
        size = 3 + len(keys) + len(self.constants) + len(arguments)
        return b"*%d\r\n%b%b" % (size, head, packed(*arguments))


RUN_ID = object()


@dataclass(slots=True)
class Publication:
    """A message for a channel."""

    channel: str
    data: bytes

    def packed(self, run_id: str, *, whole: bool = False) -> bytes:
        channel, data = self.channel.encode(), self.data
        return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(data), data)


Command = Call | Publication


class Link:
    """One connection, and the run id of the server that it leads to."""

    def __init__(self, connection: Any) -> None:
        self.run_id = ""
        self._replies = replies_of(connection, self._take, self._end)
        # The project may limit how long a connection is trusted that has not been used.
        self._max_idle: float = connection.health_check_interval
        self._used = 0.0
        # The call that waits for its replies.
        self._answered: asyncio.Future[list[Any]] | None = None
        self._answers: list[Any] = []
        self._missing = 0

    @property
    def has_ended(self) -> bool:
        """Whether the connection cannot be used again: the server has closed it while it was idle."""
        if self._max_idle and asyncio.get_running_loop().time() - self._used > self._max_idle:
            return True
        return self._replies.has_ended

    async def ask(self, *commands: bytes) -> list[Any]:
        """The replies to commands that are sent together. An error with which the server replies is one."""
        loop = asyncio.get_running_loop()
        self._answered, self._answers, self._missing = loop.create_future(), [], len(commands)
        self._used = loop.time()
        await self._replies.send(b"".join(commands))
        return await self._answered

    def _take(self, reply: Any) -> None:
        if self._answered is None or self._answered.done():
            raise ConnectionError("The server has replied to no command.")
        self._answers.append(reply)
        if len(self._answers) == self._missing:
            self._answered.set_result(self._answers)

    def _end(self, exc: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc)

    async def close(self, wait: bool = False) -> None:
        await self._replies.close(wait)


@dataclass(slots=True)
class Links:
    """The connections of one event loop to one server."""

    pool: Any
    # How many calls are made at the same time, each on a connection of its own.
    limit: asyncio.Semaphore
    free: list[Link] = field(default_factory=list)
    # Whether the server's eviction policy has been checked.
    is_checked: bool = False
    # The messages for the one connection of a publisher.
    publications: Together = field(init=False)

    def __post_init__(self) -> None:
        self.publications = Together(self.run)

    async def run(self, calls: Sequence[Command]) -> list[Any]:
        """The replies to several calls, sent together. A reply may be an exception."""
        async with self.limit:
            link = await self._take()
            try:
                replies = await _ask(link, calls)
            except BaseException as exc:
                await link.close()
                if isinstance(exc, Exception):
                    raise _failure(exc) from exc
                raise
            self.free.append(link)
            if any(map(_is_read_only, replies)):
                await self.close()  # after a failover, the address may lead to another server
            return replies

    async def _take(self) -> Link:
        while self.free:
            link = self.free.pop()
            if not link.has_ended:
                return link
            await link.close()
        return await self._open()

    async def _open(self) -> Link:
        connection = self.pool.make_connection()
        connection.socket_timeout = None  # each call has the time limit of the layer
        try:
            await connection.connect()
            link = Link(connection)
            link.run_id = await _run_id(link)
            if not self.is_checked:
                self.is_checked = True
                _warn_of_eviction(await _info(link, "memory", "maxmemory_policy"))
        except BaseException as exc:
            await connection.disconnect(nowait=True)
            if isinstance(exc, Exception):
                raise StoreRefused(in_words(exc)) from exc
            raise
        return link

    async def close(self) -> None:
        while self.free:
            await self.free.pop().close(wait=True)


def _failure(exc: Exception) -> StoreError:
    """The failure of a call. A server that is loading its data has certainly executed nothing."""
    from redis.exceptions import BusyLoadingError

    error = StoreRefused if isinstance(exc, BusyLoadingError) else StoreError
    return error(in_words(exc))


async def _run_id(link: Link) -> str:
    """The run id of the server, or "" if it is unknown or does not matter."""
    return "" if conf.get("STORE_DURABLE") else await _info(link, "server", "run_id")


async def _info(link: Link, section: str, name: str) -> str:
    """The server's INFO, or "" if it refuses the command."""
    [reply] = await link.ask(command("INFO", section))
    if isinstance(reply, Exception):
        return ""
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    lines = (line.partition(":") for line in text.splitlines())
    return next((value for key, _, value in lines if key == name), "")


@cache
def _warn_of_eviction(policy: str) -> None:
    """Log, once per process, that the server may evict any key."""
    if policy.startswith("allkeys"):
        logger.warning(
            "Redis has the maxmemory-policy %s: it may forget the history of any group, and clients are then "
            "told that they missed something. Set it to noeviction or volatile-ttl.",
            policy,
        )


async def _ask(link: Link, calls: Sequence[Command]) -> list[Any]:
    replies = await link.ask(*[call.packed(link.run_id) for call in calls])
    unknown = [number for number, reply in enumerate(replies) if _is_unknown_script(reply)]
    if unknown:
        again = await link.ask(*[calls[number].packed(link.run_id, whole=True) for number in unknown])
        for number, reply in zip(unknown, again, strict=True):
            replies[number] = reply
    return replies


def _is_read_only(reply: Any) -> bool:
    """Whether the server is a replica now. It keeps the connections that it had before."""
    if not isinstance(reply, Exception):
        return False
    from redis.exceptions import ReadOnlyError

    return isinstance(reply, ReadOnlyError)


def _is_unknown_script(reply: Any) -> bool:
    if not isinstance(reply, Exception):
        return False
    from redis.exceptions import NoScriptError

    return isinstance(reply, NoScriptError)


@lru_cache(maxsize=1_000)
def _packed_head(sha: str, keys: tuple[str, ...], constants: tuple[Any, ...], run_id: str) -> bytes:
    """The part of a command that is the same in each call for a group."""
    return packed("EVALSHA", sha, len(keys), *keys, *_with_run_id(constants, run_id))


def _with_run_id(arguments: Sequence[Any], run_id: str) -> list[Any]:
    return [run_id if argument is RUN_ID else argument for argument in arguments]


class LoopServers:
    """The servers as one event loop uses them. channels_redis calls `flush` when the loop is closed."""

    def __init__(self, hosts: Sequence[Any], connections: int) -> None:
        from channels_redis.utils import create_pool

        self.links = [Links(create_pool(host), asyncio.Semaphore(connections)) for host in hosts]

    async def flush(self) -> None:
        for links in self.links:
            await links.close()


class Servers:
    """The servers of one layer, with the groups distributed over them as in the layer itself."""

    def __init__(
        self, hosts: Any, prefix: str, place: Callable[[str], str] = str, connections: int = MAX_CONNECTIONS
    ) -> None:
        from channels_redis.utils import _consistent_hash, decode_hosts

        self._hash = _consistent_hash
        self.hosts: list[Any] = decode_hosts(hosts)
        self._prefix = prefix
        self._connections = connections
        # The name by which the layer chooses the server of a group.
        self.place = place
        # channels_redis' name for what belongs to a loop.
        self._layers: dict[asyncio.AbstractEventLoop, LoopServers] = {}

    def key(self, group: str, part: str) -> str:
        """The key of one part of a group."""
        return f"{self._prefix}.fastws:{{{group}}}:{part}"

    def shared_key(self, name: str) -> str:
        """The key of what all groups of a server share."""
        return f"{self._prefix}.fastws:{name}"

    def index(self, group: str) -> int:
        """The number of the server that a group lives on."""
        return int(self._hash(self.place(group), len(self.hosts)))

    async def run(self, group: str, call: Call) -> Any:
        """The reply to one call; StoreRejected if the server rejects it, StoreError if that is unknown."""
        [reply] = await self.run_all(self.index(group), [call])
        if isinstance(reply, Exception):
            raise StoreRejected(str(reply)) from reply
        return reply

    async def run_all(self, index: int, calls: Sequence[Call]) -> list[Any]:
        """The replies of one server to calls that are sent together; a reply may be an exception."""
        try:
            replies: list[Any] = await with_timeout(self._here().links[index].run(calls))
        except TimeoutError as exc:
            raise StoreError(str(exc)) from exc
        return replies

    async def publish(self, group: str, data: bytes) -> None:
        """Publish a message on the channel of a group; StoreError if the server may not have taken it."""
        links = self._here().links[self.index(group)]
        reply = await links.publications.call(Publication(self.place(group), data))
        if isinstance(reply, Exception):
            raise StoreRejected(str(reply)) from reply

    def _here(self) -> LoopServers:
        loop = asyncio.get_running_loop()
        return self._layers.get(loop) or self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> LoopServers:
        from channels_redis.utils import _wrap_close

        servers = self._layers[loop] = LoopServers(self.hosts, self._connections)
        _wrap_close(self, loop)
        return servers
