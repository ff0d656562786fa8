"""Detects clients that have left unnoticed by their endpoint, and handshakes that are not answered."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from math import inf
from typing import Any
from weakref import ref

from fastws_compat import conf
from fastws_compat.connections import census
from fastws_compat.connections.admission import Turn
from fastws_compat.connections.interrupt import absorb_cancellation
from fastws_compat.connections.misuse import MAX_INSTANT_ERRORS
from fastws_compat.connections.outcomes import Reason, template_of
from fastws_compat.connections.peers import has_left
from fastws_compat.connections.pipe import mark_disconnected
from fastws_compat.connections.readahead import ReadAhead
from fastws_compat.connections.states import (
    CONNECTED,
    CONNECTING,
    DISCONNECTED,
    RAISE_EXCEPTIONS,
    disconnect_message,
)
from fastws_compat.connections.sweeper import INTERVAL
from fastws_compat.logger import logger
from fastws_compat.types import Scope
from fastws_compat.websockets import WebSocket


class Notice(str):
    """The message of a cancellation. It exists as long as the exception is being handled."""


class Monitored:
    """The part of a connection that the sweeper checks; cancels an endpoint that does not end by itself.

    Most connections change few of these attributes, so the others stay in the class.
    """

    scope: Scope
    # When the connection began, on the loop's clock.
    begun: float
    # The handshake's place among those that the process works on; None if nothing has admitted it.
    turn: Turn | None = None
    # The server's own object for the connection, if `send` is a method of it.
    server: Any = None
    websocket: WebSocket | None = None
    # The task that runs the endpoint, once there is one, and whether the endpoint has returned.
    task: asyncio.Task[Any] | None = None
    leaving = False
    read_ahead: ReadAhead | None = None
    _receive_calls_seen = -1
    # The time of the last sweep, if the metrics are on.
    _swept_at: float | None = None
    _errors_seen = 0
    _deadline: float | None = None
    _cancels = 0
    _notice: ref[Notice] | None = None

    @property
    def extra(self) -> dict[str, Any]:
        raise NotImplementedError

    def end_turn(self) -> None:
        """The handshake is answered, so another one may begin."""
        if self.turn is not None:
            self.turn.end()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        raise NotImplementedError

    async def deny(self, status: int, reason: Reason) -> None:
        raise NotImplementedError

    @property
    def is_ending(self) -> bool:
        """Whether the endpoint has returned or been cancelled, and only the cleanup remains."""
        return self.leaving or (self.task is not None and self.task.cancelling() > 0)

    @property
    def is_unaware(self) -> bool:
        """Whether the client has left and the endpoint has not seen it yet."""
        websocket = self.websocket
        return websocket is not None and websocket._pending_disconnect is not None and not self.is_ending

    def sweep(self, now: float) -> bool:
        """Check the connection; whether it may need something soon, unlike one whose endpoint receives."""
        websocket = self.websocket
        if websocket is None or self.leaving:
            return False
        if websocket._instant_errors and self._only_fails(websocket):
            self._end_failing_endpoint(now)
        elif websocket._pending_disconnect is not None:
            self._cancel_when_due(now)
        elif websocket.application_state is CONNECTING:
            self._check_handshake(websocket, now)
        elif websocket.application_state is CONNECTED:
            return self._check_client(websocket, now)
        return True

    def _check_client(self, websocket: WebSocket, now: float) -> bool:
        """Read ahead for an endpoint that has been away since the last sweep; whether it is away now."""
        calls, read_ahead = websocket._receive_calls, self.read_ahead
        is_away = calls == websocket._receive_returns
        is_busy = is_away and calls == self._receive_calls_seen
        self._receive_calls_seen = calls
        if census.is_on:
            self._measure(is_away, now)
        if not is_busy or websocket.client_state is not CONNECTED:
            self._deadline = None
        elif read_ahead is None or read_ahead.left:
            self.read_ahead = ReadAhead(websocket)
        elif read_ahead.disconnect is None:
            read_ahead.read_on()
            if read_ahead.is_full and has_left(self.server):
                read_ahead.disconnect = disconnect_message(1006)
        elif self._is_due(now):
            mark_disconnected(websocket, read_ahead.disconnect)
            self._cancel()
        return is_away

    def _measure(self, is_away: bool, now: float) -> None:
        """Count the time since the last sweep if the endpoint is away."""
        if is_away:
            seconds = INTERVAL if self._swept_at is None else now - self._swept_at
            census.totals_of(template_of(self.scope)).away += seconds
        self._swept_at = now

    def _only_fails(self, websocket: WebSocket) -> bool:
        """Whether the endpoint only uses a closed socket. A handshake has its own time limit."""
        seen, self._errors_seen = self._errors_seen, websocket._instant_errors
        if websocket._instant_errors > max(seen, MAX_INSTANT_ERRORS):
            return websocket.application_state is not CONNECTING
        websocket._instant_errors = self._errors_seen = 0
        return False

    def _end_failing_endpoint(self, now: float) -> None:
        if self._deadline is None:
            logger.warning(
                "WebSocket %s: the endpoint keeps using a closed socket in a loop that swallows the errors; "
                "it will be cancelled",
                self.extra["route"],
                extra=self.extra,
            )
        self._cancel_when_due(now)

    def _is_due(self, now: float) -> bool:
        """Whether the grace period since the client left is over; if so, the next one begins."""
        grace = conf.get("DISCONNECT_GRACE")
        if self._deadline is None:
            self._deadline = inf if grace is None else now + grace
        if now < self._deadline:
            return False
        self._deadline = now + max(grace, 1)
        return True

    def _cancel_when_due(self, now: float) -> None:
        if self._is_due(now):
            self._cancel()

    def _check_handshake(self, websocket: WebSocket, now: float) -> None:
        """Refuse a handshake that was not answered in time, except in a test, which may be in a debugger."""
        timeout = conf.get("HANDSHAKE_TIMEOUT")
        if timeout is None or now < self.begun + timeout or self.scope.get(RAISE_EXCEPTIONS):
            return
        if has_left(self.server):  # or the server itself has refused it, as one that stops does
            mark_disconnected(websocket, disconnect_message(1006))
        else:
            extra = self.extra
            text = "WebSocket %s: the handshake was not answered in %g s"
            logger.warning(text, extra["route"], timeout, extra=extra)
            self.spawn(self.deny(503, "timeout"))
        self.end_turn()
        websocket.application_state = DISCONNECTED
        self._cancel()

    def _cancel(self) -> None:
        """Cancel the endpoint, unless it is still handling an earlier cancellation."""
        is_handling = self._notice is not None and self._notice() is not None
        if self.task is None or self.task.done() or is_handling or self.task.cancelling() > self._cancels:
            return
        notice = Notice("The client has left")
        self._notice = ref(notice)
        self._cancels += 1
        self.task.cancel(notice)

    def absorb_cancellation(self) -> bool:
        """Undo the monitor's cancellations; False if there were none, or if another is pending."""
        cancels, self._cancels = self._cancels, 0
        return cancels > 0 and absorb_cancellation(cancels)

    @property
    def disconnect_code(self) -> int:
        """The close code for an endpoint that was cancelled before it saw the disconnect."""
        pending = self.websocket._pending_disconnect if self.websocket is not None else None
        code = pending.get("code") if pending else None
        return 1006 if code is None else code
