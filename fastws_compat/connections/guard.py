"""The stage that closes a connection that exceeds the rate and time limits of its route."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic
from typing import Any, ClassVar, NamedTuple

from fastws_compat.connections.interrupt import Interrupt
from fastws_compat.connections.pipe import Place, Socket, Stage, hang_up, pipe_of
from fastws_compat.connections.states import CONNECTED, message_size
from fastws_compat.types import Message

RATE_EXCEEDED, TIMED_OUT = 4429, 4408

# Seconds. If `receive` takes longer, no message was waiting.
MAX_INSTANT = 0.01


class Rate(NamedTuple):
    """At most `amount` messages, or bytes of messages, in `seconds`."""

    amount: float
    seconds: float
    of_bytes: bool


class Bucket:
    """The remaining allowance of a connection under a rate; it is full after `seconds` of silence."""

    __slots__ = ("_left", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = rate.amount

    def charge(self, message: Message, busy: float, waited: float) -> bool:
        """Subtract a message from the allowance; False if it was not enough.

        For `busy` seconds the endpoint was not receiving. Messages that arrived meanwhile had to wait, so
        that time is credited in full. Then it waited for `waited` seconds to receive; if no message was
        waiting, the allowance is limited to a full bucket.
        """
        rate = self._rate
        self._left += (busy + waited) * rate.amount / rate.seconds
        if waited > MAX_INSTANT:
            self._left = min(self._left, rate.amount)
        self._left -= message_size(message) if rate.of_bytes else 1
        return self._left >= 0


class Guard(Stage):
    """Enforces the rate limits, the idle timeout and the maximum age of a connection."""

    __slots__ = (
        "_buckets",
        "_busy_since",
        "_disconnect",
        "_idle",
        "_interrupt",
        "_last",
        "_spawn",
        "_timers",
    )

    place: ClassVar[Place] = Place.GUARD

    def __init__(
        self,
        socket: Socket,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        rates: Iterable[Rate] = (),
        idle: float | None = None,
        max_age: float | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._socket = socket
        self._spawn = spawn
        self._buckets = [Bucket(rate) for rate in rates]
        self._busy_since = self._last = monotonic()
        self._interrupt = Interrupt()
        self._disconnect: Message | None = None
        self._idle = idle
        self._timers: dict[str, asyncio.TimerHandle] = {}
        if idle is not None:
            self._timers["idle"] = loop.call_later(idle, self._check_idle)
        if max_age is not None:
            self._timers["max age"] = loop.call_later(max_age, self._time_out, "max age")
        pipe_of(socket).insert(self)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    async def send(self, message: Message) -> None:
        self._last = monotonic()
        await self._send(message)

    async def receive(self) -> Message:
        begun = monotonic()
        message = await self._interrupt.wait(self._receive)
        # It runs, but the tracer of CPython 3.11 does not see it (python/cpython#106749).
        if message is None:  # pragma: no cover
            assert self._disconnect is not None
            self._socket._pending_disconnect = None
            return self._disconnect
        if self.has_ended:
            return message
        now = self._last = monotonic()
        busy, self._busy_since = max(0.0, begun - self._busy_since), now
        if message["type"] == "websocket.receive" and not self._charge(message, busy, now - begun):
            await self._hang_up(RATE_EXCEEDED, "too many messages")
            self._socket._pending_disconnect = None
            assert self._disconnect is not None
            return self._disconnect
        return message

    def _charge(self, message: Message, busy: float, waited: float) -> bool:
        # Every bucket must be charged, even if an earlier one is empty, so no generator expression.
        charged = [bucket.charge(message, busy, waited) for bucket in self._buckets]
        return all(charged)

    def _check_idle(self) -> None:
        """Time out if the connection is idle; else check again at the earliest time when it may be."""
        assert self._idle is not None
        left = self._last + self._idle - monotonic()
        if left > 0:
            self._timers["idle"] = asyncio.get_running_loop().call_later(left, self._check_idle)
        else:
            self._time_out("idle")

    def _time_out(self, reason: str) -> None:
        socket = self._socket
        if socket.application_state is CONNECTED and socket.client_state is CONNECTED:
            self._spawn(self._hang_up(TIMED_OUT, reason))
            self._interrupt.fire()

    def _hang_up(self, code: int, reason: str) -> Coroutine[Any, Any, None]:
        closing = hang_up(self._socket, code, reason)
        self._disconnect = self._socket._pending_disconnect
        return closing
