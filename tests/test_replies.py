"""The replies of a connection to Redis, as the parser gets them from the transport or redis-py reads them."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import connection as connections
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError

from fastws_compat.layers.replies import DirectReplies, Replies, command, replies_of
from tests.fake_server import until
from tests.redis_server import RedisServer, running
from tests.servers.tls import certificate

pytestmark = [pytest.mark.redis, pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")]

Run = Callable[[Callable[[], Awaitable[None]]], None]
PONG = b"+PONG\r\n"
PING = command("PING")


class OwnConnection(Connection):
    """As that of a Sentinel, it may look at what it reads."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    loops = asyncio if request.param == "asyncio" else pytest.importorskip("uvloop")

    def in_loop(main: Callable[[], Awaitable[None]]) -> None:
        async def limited() -> None:
            async with asyncio.timeout(10):
                await main()

        with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
            runner.run(limited())

    return in_loop


class Log:
    """What has been called."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.ends: list[Exception] = []
        self.refused: Any = None

    def take(self, reply: Any) -> None:
        self.replies.append(reply)
        if reply == self.refused:
            raise ValueError("refused")

    async def wait(self, number: int) -> list[Any]:
        await until(lambda: len(self.replies) >= number)
        return self.replies

    async def end(self) -> Exception:
        await until(lambda: self.ends)
        [reason] = self.ends
        return reason


def to(server: RedisServer, kind: type[Connection] = Connection) -> Connection:
    return kind(host="127.0.0.1", port=server.port, socket_timeout=None)


@asynccontextmanager
async def opened(connection: Any, kind: type[Replies] = DirectReplies) -> AsyncIterator[tuple[Replies, Log]]:
    """The replies of a connection, which are of this kind, and a log of them."""
    log = Log()
    connection.socket_timeout = None
    await connection.connect()
    replies = replies_of(connection, log.take, log.ends.append)
    try:
        assert type(replies) is kind
        yield replies, log
    finally:
        await replies.close(wait=True)
        assert not connection.is_connected


class Scripted:
    """A server that replies to commands: with `answer` to PING, and to those of redis-py's handshake."""

    def __init__(self, answer: bytes = PONG) -> None:
        self.answer = answer
        self.writer: asyncio.StreamWriter

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(65536):
            pings = data.count(PING)
            writer.write(b"+OK\r\n" * (data.count(b"*") - pings) + self.answer * pings)
        writer.close()

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[int]:
        """Serve on a port while the block runs."""
        async with await asyncio.start_server(self.serve, "127.0.0.1", **options) as server:
            yield server.sockets[0].getsockname()[1]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with self.running() as port:
            yield Connection(host="127.0.0.1", port=port, protocol=2)


KINDS = pytest.mark.parametrize("kind", [DirectReplies, Replies])


def of(kind: type[Replies], connection: Connection) -> Connection:
    """The connection, so that its replies are of this kind."""
    if kind is Replies:
        connection.__class__ = OwnConnection
    return connection


@KINDS
def test_replies_come_in_order(run: Run, redis: RedisServer, kind: type[Replies]) -> None:
    async def main() -> None:
        async with opened(of(kind, to(redis)), kind) as (replies, log):
            large = b"x" * 5_000_000
            await replies.send(command("SET", "large", large))
            assert await log.wait(1) == [b"OK"]
            await replies.send(b"".join(command("ECHO", number) for number in range(5000)))
            await replies.send(command("GET", "large"))
            numbers = [b"%d" % number for number in range(5000)]
            assert await log.wait(5002) == [b"OK", *numbers, large]
        assert log.ends == []

    run(main)


@KINDS
def test_an_error_of_the_server_is_a_reply(run: Run, redis: RedisServer, kind: type[Replies]) -> None:
    async def main() -> None:
        async with opened(of(kind, to(redis)), kind) as (replies, log):
            await replies.send(command("NONSENSE") + PING)
            error, pong = await log.wait(2)
            assert isinstance(error, ResponseError)
            assert (pong, log.ends) == (b"PONG", [])

    run(main)


@KINDS
def test_a_connection_that_the_server_closes(run: Run, redis: RedisServer, kind: type[Replies]) -> None:
    async def main() -> None:
        async with opened(of(kind, to(redis)), kind) as (replies, log):
            with Redis.from_url(redis.url) as admin:
                assert admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") == 1
            assert "Connection closed by server" in str(await log.end())
            assert replies.has_ended
            with pytest.raises(ConnectionError, match="has ended"):
                await replies.send(PING)
        assert (len(log.ends), log.replies) == (1, [])

    run(main)


@KINDS
def test_a_server_that_dies(run: Run, kind: type[Replies]) -> None:
    async def main() -> None:
        with running() as server:
            async with opened(of(kind, to(server)), kind) as (replies, log):
                server.freeze()
                await replies.send(PING)
                server.kill()
                assert isinstance(await log.end(), Exception)
            assert (len(log.ends), log.replies) == (1, [])

    run(main)


@KINDS
def test_what_is_not_the_protocol_ends_the_connection(run: Run, kind: type[Replies]) -> None:
    async def main() -> None:
        async with Scripted(PONG + b"nonsense\r\n").connection() as connection:
            async with opened(of(kind, connection), kind) as (replies, log):
                await replies.send(PING)
                assert isinstance(await log.end(), InvalidResponse)
                assert log.replies == [b"PONG"]

    run(main)


@KINDS
def test_a_server_that_cannot_serve_ends_the_connection(run: Run, kind: type[Replies]) -> None:
    async def main() -> None:
        async with Scripted(b"-LOADING Redis is loading\r\n").connection() as connection:
            async with opened(of(kind, connection), kind) as (replies, log):
                await replies.send(PING)
                assert isinstance(await log.end(), BusyLoadingError)
                assert log.replies == []

    run(main)


@KINDS
def test_a_reply_that_is_refused_ends_the_connection(
    run: Run, redis: RedisServer, kind: type[Replies]
) -> None:
    async def main() -> None:
        async with opened(of(kind, to(redis)), kind) as (replies, log):
            log.refused = b"PONG"
            await replies.send(PING * 3)
            assert str(await log.end()) == "refused"
            if isinstance(replies, DirectReplies):
                with Redis.from_url(redis.url) as admin:  # the server need not send more
                    await until(lambda: len(admin.client_list()) == 1)
            await replies.close(wait=True)
            assert log.replies == [b"PONG"]

    run(main)


@KINDS
def test_nothing_is_called_after_the_close(run: Run, redis: RedisServer, kind: type[Replies]) -> None:
    async def main() -> None:
        async with opened(of(kind, to(redis)), kind) as (replies, log):
            await replies.send(PING)
            await replies.close()
            if isinstance(replies, DirectReplies):  # TLS passes on what it has decrypted already
                replies.data_received(PONG)
            await replies.close(wait=True)
        assert (log.replies, log.ends) == ([], [])

    run(main)


def test_what_a_server_says_unasked_is_no_reply(run: Run, redis: RedisServer) -> None:
    """In version 3 of the protocol: redis-py asks for messages about maintenance."""

    async def main() -> None:
        connection = to(redis)
        connection.protocol = 3
        async with opened(connection) as (replies, log):
            await replies.send(command("SUBSCRIBE", "c") + PING)
            assert await log.wait(1) == [b"PONG"]

    run(main)


@KINDS
def test_a_sender_waits_for_a_server_that_does_not_read(run: Run, kind: type[Replies]) -> None:
    """redis-py's own methods still work: they wait for the stream that has been replaced.

    Not with `writelines`, for which asyncio of Python 3.13.0 forgets to pause the sender.
    """

    async def main() -> None:
        with running() as server:
            connection = of(kind, to(server))
            async with opened(connection, kind) as (_, log):
                server.freeze()
                large = command("SET", "large", b"x" * 20_000_000)
                connection._writer.write(large)
                sending = asyncio.create_task(connection._writer.drain())
                done, _ = await asyncio.wait([sending], timeout=0.1)
                assert not done
                server.thaw()
                await sending
                assert await log.wait(1) == [b"OK"]

    run(main)


def test_a_socket_in_the_file_system(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "redis.sock")

    async def main() -> None:
        async with await asyncio.start_unix_server(Scripted().serve, path):
            async with opened(UnixDomainSocketConnection(path=path, protocol=2)) as (replies, log):
                await replies.send(PING)
                assert await log.wait(1) == [b"PONG"]

    run(main)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the file of the authority that clients trust."""
    key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(key)
    return context, str(key)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_tls(run: Run, tls: tuple[ssl.SSLContext, str], end: str) -> None:
    context, authority = tls

    async def main() -> None:
        server = Scripted()
        async with server.running(ssl=context) as port:
            connection = SSLConnection(host="127.0.0.1", port=port, ssl_ca_certs=authority, protocol=2)
            async with opened(connection) as (replies, log):
                await replies.send(PING * 1000)
                assert await log.wait(1000) == [b"PONG"] * 1000
                getattr(server.writer.transport, end)()
                assert isinstance(await log.end(), ConnectionError)
                assert replies.has_ended

    run(main)


# Connections that are read with redis-py's own methods


async def check(connection: Any, *sent: bytes) -> None:
    """Open a connection whose replies redis-py has to read, and send a command."""
    async with opened(connection, Replies) as (replies, log):
        await replies.send(PING)
        assert await log.wait(1 + len(sent)) == [*sent, b"PONG"]


def test_a_parser_in_python(run: Run, redis: RedisServer) -> None:
    connection = to(redis)
    connection.set_parser(connections._AsyncRESP2Parser)
    connection.protocol = 2
    run(lambda: check(connection))


def test_without_hiredis(run: Run, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        connection = to(redis)
        await connection.connect()
        monkeypatch.setitem(sys.modules, "hiredis", None)
        await check(connection)

    run(main)


def test_a_connection_that_has_been_read_already(run: Run, redis: RedisServer) -> None:
    """What has arrived before is not lost, wherever it is."""

    async def main() -> None:
        in_stream, in_parser, ended, failed = (to(redis) for _ in range(4))
        for connection in (in_stream, in_parser, ended, failed):
            await connection.connect()
        in_stream._reader.feed_data(b"+early\r\n")
        await check(in_stream, b"early")
        in_parser._parser._reader.feed(b"+early\r\n")
        await check(in_parser, b"early")
        ended._reader.feed_eof()
        failed._reader.set_exception(ConnectionResetError("reset"))
        for connection in (ended, failed):
            async with opened(connection, Replies) as (_, log):
                assert isinstance(await log.end(), Exception)
                assert log.replies == []

    run(main)
