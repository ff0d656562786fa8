"""FastAPI's ConnectionManager, for any number of processes."""

from __future__ import annotations

from typing import Any, Protocol

from fastws_compat.connections.pipe import Socket
from fastws_compat.groups.group import Group, discard, join


class ManagedSocket(Socket, Protocol):
    """A WebSocket as the manager sees it."""

    async def accept(self) -> None: ...

    async def send_text(self, data: str) -> None: ...


class ConnectionManager:
    """The manager of FastAPI's documentation, built on a group: `broadcast` reaches every process.

    Managers with the same name share one group; give each of yours its own name.
    """

    def __init__(self, name: str = "connections") -> None:
        #: The group behind the manager.
        self.group = Group(name)
        # The sockets of this process, as they were given to `connect`.
        #: The connections of this process.
        self.active_connections: list[Any] = []

    async def connect(self, websocket: ManagedSocket) -> None:
        """Accept the socket and add it."""
        await websocket.accept()
        self.active_connections.append(websocket)
        await join(websocket, self.group)

    def disconnect(self, websocket: ManagedSocket) -> None:
        """Remove the socket; raises ValueError if it has not been added."""
        self.active_connections.remove(websocket)
        discard(websocket, self.group)

    async def send_personal_message(self, message: str, websocket: ManagedSocket) -> None:
        """Send a text to one connection."""
        await websocket.send_text(message)

    async def broadcast(self, message: str) -> None:
        """Send a text to every connection, in every process."""
        await self.group.asend(message)
