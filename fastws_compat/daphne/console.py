"""The lines of `runserver` about WebSockets: how each was closed, and with what a handshake was refused.

The sentence about a refusal is in the library's own log, in the line before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from daphne.management.commands import runserver

from fastws_compat.connections import census, hooks
from fastws_compat.connections.outcomes import LOST, Closed
from fastws_compat.connections.users import name_of
from fastws_compat.terminal import printable
from fastws_compat.types import Scope

LogAction = Callable[[str, str, dict[str, Any]], None]


@dataclass(eq=False, slots=True)
class Note:
    """What is known of a connection, which may have ended when its line is written."""

    session: Any = None
    user: str | None = None
    closed: Closed | None = None
    refusal: tuple[int, str] | None = None

    def update(self) -> None:
        """Read what the session knows, while there is one."""
        if self.session is not None:
            self.user = name_of(self.session.scope)
            self.closed, self.refusal = self.session.closed, self.session.refusal


class Console:
    """Writes the lines."""

    def __init__(self, log_action: LogAction) -> None:
        self._log_action = log_action
        self._by_task: WeakKeyDictionary[asyncio.Task[Any], Note] = WeakKeyDictionary()
        self._by_socket: WeakKeyDictionary[Any, Note] = WeakKeyDictionary()
        # Those whose handshakes were accepted, and those whose handshakes were refused.
        self._open: WeakSet[Any] = WeakSet()
        self._refused: WeakSet[Any] = WeakSet()

    def follow(self) -> None:
        """Begin to follow the connections of this process."""
        census.start()
        hooks.begun.append(self.begin)
        hooks.ended.append(self.end)
        hooks.refused.append(self.refuse)

    # Called by hooks, in the task of a connection

    def begin(self, session: Any) -> None:
        note = self._note_here()
        note.session = session
        if session.server is not None:
            self._by_socket[session.server] = note

    def end(self, session: Any) -> None:
        note = self._note_here()
        note.update()
        note.session = None

    def refuse(self, scope: Scope | None, status: int, reason: str) -> None:
        self._note_here().refusal = (status, reason)

    def _note_here(self) -> Note:
        """The note of the connection whose task this is; elsewhere one that is discarded."""
        task = asyncio.current_task()
        return Note() if task is None else self._by_task.setdefault(task, Note())

    # Called by the server

    def log_action(self, protocol: str, action: str, details: dict[str, Any]) -> None:
        """What daphne's command does with an action, with more in the lines of two of them."""
        socket = details.pop("socket", None)
        if action == "rejected" and socket is not None:
            self._refused.add(socket)
            # The reason is known once the application continues after the answer.
            asyncio.get_running_loop().call_soon(_reject, socket, details, self._note_here())
        elif action == "disconnected" and socket in self._open:
            _disconnect(socket, details, self._by_socket.get(socket, Note()))
        elif action != "disconnected" or socket not in self._refused:
            if action == "connected":
                self._open.add(socket)
            self._log_action(protocol, action, details)


def _reject(socket: Any, details: dict[str, Any], note: Note) -> None:
    note.update()
    _write("REJECT", details, _refusal(note.refusal or socket.refusal))


def _disconnect(socket: Any, details: dict[str, Any], note: Note) -> None:
    note.update()
    _write("DISCONNECT", details, _end(socket, note))


def _write(what: str, details: Mapping[str, Any], end: str) -> None:
    runserver.logger.info("WebSocket %s %s [%s]%s", what, details["path"], details["client"], end)


def _end(socket: Any, note: Note) -> str:
    code, by = note.closed or socket.closed or LOST
    user = f", {printable(note.user)}" if note.user else ""
    seconds = time() - socket.socket_opened
    received, sent, *_ = socket.counts
    return f" {code} by {by}, {seconds:.1f} s, {received} in, {sent} out{user}"


def _refusal(refusal: tuple[int, str] | None) -> str:
    return "" if refusal is None else f" {refusal[0]} {refusal[1]}"
