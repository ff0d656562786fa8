"""The replies of one connection of redis-py, passed on as they arrive.

redis-py reads a reply through a stream, futures and six coroutines. That costs more than the delivery to a
member of a group, so its parser is fed by the transport itself where the connection allows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

OnReply = Callable[[Any], None]
OnEnd = Callable[[Exception], None]


class Replies:
    """Calls `on_reply` with each reply, and `on_end` once with the reason why the connection has ended.

    A reply may be an exception of the server. If `on_reply` raises, the connection has ended, too.
    This class reads with the methods of redis-py.
    """

    def __init__(self, connection: Any, on_reply: OnReply, on_end: OnEnd) -> None:
        self.has_ended = False
        self._connection = connection
        self._on_reply = on_reply
        self._on_end = on_end
        self._reading: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._reading = asyncio.create_task(self._read_forever())

    async def send(self, data: bytes) -> None:
        """Send commands; ConnectionError if the connection has ended. redis-py would open another one."""
        if self.has_ended:
            raise ConnectionError("The connection has ended.")
        await self._send(data)

    async def close(self, wait: bool = False) -> None:
        """Close the connection; neither function is called any more."""
        self.has_ended = True
        if self._reading is not None:
            self._reading.cancel()
        await self._connection.disconnect(nowait=not wait)

    async def _send(self, data: bytes) -> None:
        # Its check would read the reply to a PING itself.
        await self._connection.send_packed_command(data, check_health=False)

    async def _read_forever(self) -> None:
        try:
            while True:
                self._on_reply(await self._read())
        except Exception as exc:
            self._end(exc)

    async def _read(self) -> Any:
        from redis.exceptions import ResponseError

        try:
            return await self._connection.read_response()
        except ResponseError as exc:
            return exc

    def _end(self, exc: Exception) -> None:
        if not self.has_ended:
            self.has_ended = True
            self._on_end(exc)


class Push:
    """Stands for the class of what a server says unasked, in version 3 of the protocol only."""


class DirectReplies(Replies, asyncio.Protocol):
    """Reads in the place of redis-py's stream, with its parser."""

    def begin(self) -> None:
        import hiredis
        from redis.exceptions import ConnectionError as RedisConnectionError

        self._fatal = RedisConnectionError
        self._push = getattr(hiredis, "PushNotification", Push)
        parser = self._connection._parser._reader
        self._feed, self._gets = parser.feed, parser.gets
        self._nothing = parser.gets()
        self._transport = self._connection._writer.transport
        # redis-py waits for the stream's protocol when it sends a lot, and when it closes.
        self._stream = self._transport.get_protocol()
        self._transport.set_protocol(self)

    async def _send(self, data: bytes) -> None:
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.has_ended:
            return
        gets, nothing = self._gets, self._nothing
        try:
            self._feed(data)
            while (reply := gets()) is not nothing:
                if isinstance(reply, self._fatal):
                    raise reply  # such as that the server is loading its data
                if type(reply) is not self._push:
                    self._on_reply(reply)
        except Exception as exc:
            self._transport.close()
            self._end(exc)

    def eof_received(self) -> None:
        self._end(ConnectionError("Connection closed by server."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream.connection_lost(exc)
        self._end(exc or ConnectionError("Connection closed."))

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()


def replies_of(connection: Any, on_reply: OnReply, on_end: OnEnd) -> Replies:
    """The replies of a connection that is open and waits for none."""
    kind = DirectReplies if _is_known(connection) else Replies
    replies = kind(connection, on_reply, on_end)
    replies.begin()
    return replies


def _is_known(connection: Any) -> bool:
    """Whether the connection is redis-py's own and has hiredis as its parser, with nothing left to read."""
    if type(connection).__module__ != "redis.asyncio.connection":
        return False  # that of a Sentinel looks at what it reads
    try:
        from hiredis import Reader

        parser, stream = connection._parser._reader, connection._reader
        is_idle = not (stream._buffer or stream.at_eof() or stream.exception() or parser.has_data())
        return is_idle and isinstance(parser, Reader)
    except (ImportError, AttributeError):
        return False


def packed(*parts: Any) -> bytes:
    """Parts of a command in the protocol of Redis; redis-py's own function takes four times as long."""
    arguments = [
        part if type(part) is bytes else part.encode() if type(part) is str else b"%d" % part
        for part in parts
    ]
    return b"".join([b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments])


def command(*parts: Any) -> bytes:
    """A command in the protocol of Redis."""
    return b"*%d\r\n%b" % (len(parts), packed(*parts))
