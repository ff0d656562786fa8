"""Signals of sockets. A signal without receivers costs a connection nothing.

Each is sent with `sender`, the route, and `websocket`. Receivers may be async. Django logs one that
raises, and the socket is not affected.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from django.dispatch import Signal

from fastws_compat.connections import lifecycle
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.pipe import Place, Stage, pipe_of
from fastws_compat.connections.states import SESSION
from fastws_compat.groups import attendance
from fastws_compat.types import Message
from fastws_compat.websockets import WebSocket

#: The handshake was accepted.
connected = Signal()
#: The accepted connection has ended. `code` is the code of the first close, 1006 if there was no close frame.
#: No other signal follows.
disconnected = Signal()
#: A message arrived. `message` is the ASGI message, `{"type": "websocket.receive", "text": ...}`.
message_received = Signal()
#: A message was sent. `message` is the ASGI message, `{"type": "websocket.send", "text": ...}`.
message_sent = Signal()
#: An operator has closed sockets, sent a message, drained processes or watched a socket. `action` is
#: `"kick"`, `"send"`, `"drain"`, `"undrain"`, `"tap"` or `"untap"`, `where` holds the filters, `by` says who
#: did it as far as that is known, and `done` is the result, whose class `fastws_compat.operations.Done` is
#: the sender.
operated = Signal()
#: Somebody has joined a group. `group` is its name, and `key` and `info` are those of the person.
presence_joined = attendance.presence_joined
#: Somebody has left a group. `group` is its name, and `key` and `info` are those of the person.
presence_left = attendance.presence_left


def observe(websocket: WebSocket) -> None:
    """Send the signals of this connection, if they have receivers."""
    if not (
        connected.receivers or disconnected.receivers or message_received.receivers or message_sent.receivers
    ):
        return
    route = websocket.scope.get("route")
    listened = {
        signal
        for signal in (connected, disconnected, message_received, message_sent)
        if signal.receivers and signal.has_listeners(route)
    }
    if listened:
        pipe_of(websocket).insert(Observer(websocket, route, listened))


class Observer(Stage):
    """The stage that sends the signals of one connection."""

    __slots__ = ("_accepted", "_kept", "_listened", "_route", "_session")

    place: ClassVar[Place] = Place.SIGNALS

    def __init__(self, websocket: WebSocket, route: Any, listened: set[Signal]) -> None:
        self._socket = websocket
        self._route = route
        self._listened = listened
        self._accepted = False
        # A message whose signal was sent, if the call that had received it was cancelled meanwhile.
        self._kept: Message | None = None
        self._session: Session = websocket.scope[SESSION]
        if disconnected in listened:
            self._session.at_end(self._send_disconnected)

    def let_go(self) -> None:
        super().let_go()
        self._listened = set()

    @property
    def passes(self) -> bool:
        return self._listened == {message_received}

    @property
    def runs_user_code(self) -> bool:
        return not self.passes

    async def receive(self) -> Message:
        if self._kept is not None:
            message, self._kept = self._kept, None
            return message
        message = await self._receive()
        if message["type"] == "websocket.receive":
            try:
                await self._send_signal(message_received, message=message)
            except asyncio.CancelledError:
                self._kept = message  # for the next call: only this one has been given up
                raise
        return message

    async def send(self, message: Message) -> None:
        await self._send(message)
        kind = message["type"]
        if kind == "websocket.send":
            await self._send_signal(message_sent, message=message)
        elif kind == "websocket.accept":
            self._accepted = True
            await self._send_signal(connected)

    async def _send_disconnected(self) -> None:
        self._listened = {disconnected}
        if self._accepted:
            code, _ = self._session.closed
            await self._send_signal(disconnected, code=code)

    async def _send_signal(self, signal: Signal, **values: Any) -> None:
        if signal in self._listened:
            await signal.asend_robust(sender=self._route, websocket=self._socket, **values)


lifecycle.observers.append(observe)
