"""The stage that ends a connection which exceeds the limits of its route on rate and time."""

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

# Seconds. A `receive` that took longer did not find a message waiting.
NOTHING_WAITED = 0.01


class Rate(NamedTuple):
    """At most `amount` messages, or bytes of messages, in `seconds`."""

    amount: float
    seconds: float
    of_bytes: bool


class Bucket:
    """What a connection has left of a rate; it is full after `seconds` of silence."""

    __slots__ = ("_left", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = rate.amount

    def pays(self, message: Message, busy: float, waited: float) -> bool:
        """Whether there is enough left for a message.

        The endpoint was not receiving for `busy` seconds: messages that arrived meanwhile had to wait, so
        that time is credited in full. Then it received for `waited` seconds; if no message was waiting, a
        full bucket is the most that it can need.
        """
        rate = self._rate
        self._left += (busy + waited) * rate.amount / rate.seconds
        if waited > NOTHING_WAITED:
            self._left = min(self._left, rate.amount)
        self._left -= message_size(message) if rate.of_bytes else 1
        return self._left >= 0


class Guard(Stage):
    """Counts messages against rates, and time against the idle time-out and the maximum age."""

    __slots__ = (
        "_buckets",
        "_busy_since",
        "_disconnect",
        "_idle",
        "_interrupt",
        "_last",
        "_socket",
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
        if message is None:
            assert self._disconnect is not None
            self._socket._pending_disconnect = None
            return self._disconnect
        now = self._last = monotonic()
        busy, self._busy_since = max(0.0, begun - self._busy_since), now
        if message["type"] == "websocket.receive" and not self._pays(message, busy, now - begun):
            await self._hang_up(RATE_EXCEEDED, "too many messages")
            self._socket._pending_disconnect = None
            assert self._disconnect is not None
            return self._disconnect
        return message

    def _pays(self, message: Message, busy: float, waited: float) -> bool:
        # Every bucket is charged, also after another one is empty.
        charged = [bucket.pays(message, busy, waited) for bucket in self._buckets]
        return all(charged)

    def _check_idle(self) -> None:
        """Time out if the connection is idle; else check again when it can be."""
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
