"""Signals of sockets. A connection that begins while nobody listens to one costs nothing for it.

Each is sent with `sender`, the route, and `websocket`. Receivers may be async; one that raises is logged
by Django and harms no socket.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

from fastws_compat.connections import lifecycle as sessions
from fastws_compat.connections.lifecycle import SESSION, Session
from fastws_compat.types import Message, Receive, Send
from fastws_compat.websockets import WebSocket

# The handshake was accepted.
connected = Signal()
# It is over; `code` is the close code of whoever closed first, 1006 if nobody said good-bye.
disconnected = Signal()
# `message` is the ASGI message, `{"type": "websocket.receive", "text": ...}`.
message_received = Signal()
# `message` is the ASGI message, `{"type": "websocket.send", "text": ...}`.
message_sent = Signal()


def observe(websocket: WebSocket) -> None:
    """Send the signals of this connection, if anybody listens."""
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
        Observer(websocket, route, listened)


class Observer:
    """Stands between a WebSocket and the server and tells what passes."""

    def __init__(self, websocket: WebSocket, route: Any, listened: set[Signal]) -> None:
        self.websocket = websocket
        self.route = route
        self.listened = listened
        self.accepted = False
        self.code: int | None = None
        session: Session = websocket.scope[SESSION]
        if listened & {message_received, disconnected}:
            websocket._receive = self._hear(websocket._receive)
        if listened != {message_received}:
            websocket._send = self._speak(websocket._send)
        if disconnected in listened:
            session._send = self._speak(session._send)
            session.at_end(self._over)

    def _hear(self, receive: Receive) -> Receive:
        async def hear() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                await self._tell(message_received, message=message)
            elif message["type"] == "websocket.disconnect":
                self._note(message.get("code") or 1005)
            return message

        return hear

    def _speak(self, send: Send) -> Send:
        async def speak(message: Message) -> None:
            await send(message)
            kind = message["type"]
            if kind == "websocket.send":
                await self._tell(message_sent, message=message)
            elif kind == "websocket.close":
                self._note(message.get("code", 1000))
            elif kind == "websocket.accept":
                self.accepted = True
                await self._tell(connected)

        return speak

    def _note(self, code: int) -> None:
        self.code = self.code or code

    async def _over(self) -> None:
        if self.accepted:
            await self._tell(disconnected, code=self.code or 1006)

    async def _tell(self, signal: Signal, **values: Any) -> None:
        if signal in self.listened:
            await signal.asend_robust(sender=self.route, websocket=self.websocket, **values)


sessions.observers.append(observe)
