"""FastAPI's ConnectionManager, for any number of processes."""

from __future__ import annotations

from typing import Any

from fastws_compat.groups.group import Group, discard, join
from fastws_compat.websockets import WebSocket


class ConnectionManager:
    """The manager of FastAPI's documentation on a group: `broadcast` reaches every process.

    Managers with the same name are one; give each of your own a name.
    """

    def __init__(self, name: str = "connections") -> None:
        self.group = Group(name)
        self.active_connections: list[WebSocket[Any]] = []

    async def connect(self, websocket: WebSocket[Any]) -> None:
        """Accept the socket and add it."""
        await websocket.accept()
        self.active_connections.append(websocket)
        await join(websocket, self.group)

    def disconnect(self, websocket: WebSocket[Any]) -> None:
        """Take the socket out; ValueError if it is not in."""
        self.active_connections.remove(websocket)
        discard(websocket, self.group)

    async def send_personal_message(self, message: str, websocket: WebSocket[Any]) -> None:
        await websocket.send_text(message)

    async def broadcast(self, message: str) -> None:
        """Send a text to everybody."""
        await self.group.asend(message)
