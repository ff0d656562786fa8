"""Receiving from a pub/sub layer of channels_redis on a connection of our own.

channels_redis reads with a timeout of 0.1 s, in a task that hands each message to another one. That costs
more than delivering it to ten members.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from fastws_compat.layers.backends import hosts_of, is_pubsub, place_in, replaces
from fastws_compat.layers.client import with_timeout
from fastws_compat.layers.local import OwnLayer
from fastws_compat.layers.replies import Replies, command, replies_of
from fastws_compat.logger import in_words

# What a project's own layer may have replaced.
METHODS = ("new_channel", "receive", "group_add", "group_discard", "group_send")
# Options with which the layer tells the project about its connections.
CALLBACKS = ("on_disconnect", "on_reconnect")

# By layer, whether its hosts are such that it can be bypassed.
_plain: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class PubSub(OwnLayer):
    """The groups of one event loop; it has the methods of a layer with which a hub receives."""

    def __init__(self, layer: Any, pool: Any) -> None:
        self._layer = layer
        self._pool = pool
        self._place = place_in(layer)
        # The channels of Redis that are wanted.
        self._names: set[str] = set()
        # Those that the server has not confirmed yet.
        self._unconfirmed: dict[bytes, asyncio.Future[None]] = {}
        self._replies: Replies | None = None
        # Whether this connection has received anything.
        self._works = False
        self._connecting = asyncio.Lock()
        # What replaces a connection or closes it.
        self._task: asyncio.Task[None] | None = None
        self._messages: deque[bytes] = deque()
        self._failure: Exception | None = None
        # Set when there is a message or a failure.
        self._arrived = asyncio.Event()

    async def new_channel(self) -> str:
        await self._connected()
        return "pubsub"

    async def group_add(self, group: str, channel: str) -> None:
        """Subscribe, and wait for the confirmation: what is sent afterwards is received."""
        name = self._place(group)
        self._names.add(name)
        replies = await self._connected()
        confirmed = self._unconfirmed[name.encode()] = asyncio.get_running_loop().create_future()
        await replies.send(command("SUBSCRIBE", name))
        await confirmed

    async def group_discard(self, group: str, channel: str) -> None:
        name = self._place(group)
        self._names.discard(name)
        if self._replies is not None and not self._replies.has_ended:
            await self._replies.send(command("UNSUBSCRIBE", name))

    async def receive(self, channel: str) -> Any:
        while not self._messages:
            self._arrived.clear()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            await self._arrived.wait()
        return self._layer.deserialize(self._messages.popleft())

    def has_message(self, channel: str) -> bool:
        return bool(self._messages)

    async def _connected(self) -> Replies:
        async with self._connecting:
            if self._replies is None or self._replies.has_ended:
                self._replies = await self._connect()
                self._failure = None
            return self._replies

    async def _connect(self) -> Replies:
        connection = self._pool.make_connection()
        connection.socket_timeout = None  # it may be silent for hours
        try:
            await with_timeout(connection.connect())
            if self._names:
                await connection.send_command("SUBSCRIBE", *self._names)
        except BaseException as exc:
            await connection.disconnect(nowait=True)
            if isinstance(exc, Exception):
                # A reader takes a TimeoutError for a layer that only had no message.
                raise ConnectionError(in_words(exc)) from exc
            raise
        self._works = False
        return replies_of(connection, self._take, self._end)

    def _take(self, reply: Any) -> None:
        """Read at once what comes, as Redis closes the connection of a slow subscriber."""
        if isinstance(reply, Exception):
            raise reply
        kind, name, data = reply
        self._works = True
        if kind == b"message":
            self._messages.append(data)
            self._arrived.set()
        elif kind == b"subscribe":
            self._confirm(name)

    def _end(self, exc: Exception) -> None:
        assert self._replies is not None
        replacing = self._replace(self._replies, ConnectionError(in_words(exc)), self._works)
        self._task = asyncio.get_running_loop().create_task(replacing)

    async def _replace(self, ended: Replies, failure: Exception, worked: bool) -> None:
        """Replace a connection that has worked, as redis-py's client does; else let the hub know."""
        await ended.close()
        if worked:
            with suppress(ConnectionError):
                await self._connected()
                return
        self._failure = failure
        self._arrived.set()
        for name in list(self._unconfirmed):
            self._confirm(name, failure)

    def _confirm(self, name: bytes, failure: Exception | None = None) -> None:
        confirmed = self._unconfirmed.pop(name, None)
        if confirmed is None or confirmed.done():
            return
        if failure is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(failure)

    def forget(self, channel: str) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._replies is not None:
            self._task = asyncio.get_running_loop().create_task(self._replies.close())
            self._replies = None
        self._messages.clear()


def pubsub_of(layer: Any) -> PubSub | None:
    """What receives instead of the layer; None if the layer has to do that itself."""
    if not is_bypassed(layer):
        return None
    return PubSub(layer, _pool_of(layer))


def is_bypassed(layer: Any) -> bool:
    """Whether the layer does no more than we do: it is channels_redis' own, with one ordinary server."""
    if not is_pubsub(layer) or replaces(layer, *METHODS):
        return False
    known = _plain.get(layer)
    return _plain.setdefault(layer, _is_plain(layer)) if known is None else known


def _is_plain(layer: Any) -> bool:
    if any(map(layer._kwargs.get, CALLBACKS)):
        return False
    try:
        connection = _pool_of(layer).make_connection()
        return bool(connection.protocol == 2 and not connection.health_check_interval)
    except Exception:  # an older redis-py, several servers, or hosts that the layer will complain about
        return False


def _pool_of(layer: Any) -> Any:
    from channels_redis.utils import create_pool, decode_hosts

    [host] = decode_hosts(hosts_of(layer))
    # In version 2 of the protocol, messages are replies like any other.
    return create_pool({**host, "protocol": 2})
