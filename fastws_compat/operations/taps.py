"""Watching the messages of one connection, for a minute at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial
from time import monotonic, time
from typing import Any, ClassVar

from django.apps import apps
from django.conf import settings

from fastws_compat import conf
from fastws_compat.connections.pipe import Place, Stage, pipe_of
from fastws_compat.connections.states import message_size
from fastws_compat.logger import in_words, logger
from fastws_compat.logins.lookups import in_thread
from fastws_compat.operations import audit
from fastws_compat.operations.acts import soon
from fastws_compat.operations.audit import Deed
from fastws_compat.operations.census import Found, is_superuser, route_of, state_of, tapped
from fastws_compat.operations.records import Done
from fastws_compat.types import Message

# Seconds for which a connection is watched unless a page asks again.
SECONDS = 60.0
# The number of messages that are kept, and the bytes of each.
MAX_MESSAGES, MAX_BYTES = 50, 4096
# The maximum number of connections of a process that are watched at once.
MAX_TAPS = 20
DIRECTIONS = {
    "websocket.receive": "in",
    "websocket.disconnect": "in",
    "websocket.send": "out",
    "websocket.close": "out",
}
ONE = Done(1, 1, [])


class Tap(Stage):
    """Keeps the last messages of a connection while somebody watches it, and then removes itself."""

    __slots__ = (
        "_fits",
        "_session",
        "_timer",
        "count",
        "deadline",
        "messages",
        "size",
        "watchers",
    )

    place: ClassVar[Place] = Place.TAP

    def __init__(self, session: Any) -> None:
        self._session, self._socket = session, session.websocket
        # The primary keys of the users who watch, as texts.
        self.watchers: set[str] = set()
        self.messages: deque[dict[str, Any]] = deque(maxlen=MAX_MESSAGES)
        self.count = self.size = 0
        self.deadline = monotonic() + SECONDS
        self._timer: asyncio.TimerHandle | None = None
        # The limit below which the socket does not check a message, while its first one is awaited.
        self._fits: float | None = None

    @property
    def is_on(self) -> bool:
        return self._timer is not None

    def begin(self) -> None:
        """Insert the stage; called in the connection's loop."""
        if self.is_on:
            return
        if state_of(self._session) == "closing":
            self._forget()
            return
        pipe_of(self._socket).insert(self)
        self._catch_first()
        self._session.at_end(self._finish)
        self._arm()

    def renew(self) -> None:
        self.deadline = monotonic() + SECONDS

    def stop(self) -> None:
        """Remove the stage; called in the connection's loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.remove()
            self._release_first()
        self._forget()

    def _forget(self) -> None:
        if tapped.get(self._session.id) is self:
            del tapped[self._session.id]
        self.messages.clear()

    async def receive(self) -> Message:
        self._release_first()
        message = await self._receive()
        self._note(message)
        return message

    async def send(self, message: Message) -> None:
        await self._send(message)
        self._note(message)

    def _note(self, message: Message) -> None:
        if (direction := DIRECTIONS.get(message["type"])) is not None:
            size = message_size(message)
            self.count += 1
            self.size += size
            head = {"number": self.count, "at": time(), "direction": direction, "size": size}
            self.messages.append({**head, **excerpt(message)})

    def _catch_first(self) -> None:
        """Note the message for which the endpoint is waiting already: its call does not pass the stage."""
        socket = self._socket
        if socket._receive_calls > socket._receive_returns:
            self._fits = socket._surely_fits
            socket._surely_fits = -1
            socket._checked = self._check_first

    async def _check_first(self, message: Message) -> Message:
        self._release_first()
        self._note(message)
        checked: Message = await self._socket._checked(message)
        return checked

    def _release_first(self) -> None:
        if self._fits is not None:
            self._socket._surely_fits, self._fits = self._fits, None
            del self._socket._checked

    def _arm(self) -> None:
        left = self.deadline - monotonic()
        if left > 0 or not self.is_on:  # it may begin late, in a loop that is busy
            self._timer = asyncio.get_running_loop().call_later(max(left, 0), self._arm)
        else:
            self._session.spawn(self._finish("nobody asked for more"))

    async def _finish(self, cause: str = "the socket ended") -> None:
        """Stop, and record the end for everybody who still watches."""
        if not self.is_on:
            return
        self.stop()
        deed = untap(self._session.id, route_of(self._session), self.count, self.size, cause)
        for watcher in sorted(self.watchers):
            try:
                await in_thread(record, deed, watcher)
            except Exception as exc:
                logger.error("The end of a tap could not be recorded (%s)", in_words(exc))
                audit.log(deed, f"user {watcher}", ONE)


def record(deed: Deed, watcher: str) -> None:
    """Record the end of a tap in the admin's log, if there is one, and in the audit log."""
    if apps.is_installed("django.contrib.admin"):
        audit.record(deed, watcher, ONE)
    else:
        audit.log(deed, f"user {watcher}", ONE)


def untap(id: str, shown: str, count: int, size: int, cause: str = "") -> Deed:
    """The end of a tap as the logs have it: the number and the size of the messages, not what they say."""
    details = f"{count} messages, {size} bytes"
    return Deed("untap", id, shown, f"{details}, {cause}" if cause else details)


def excerpt(message: Message) -> dict[str, Any]:
    """What is shown of a message: its kind, its first bytes, and whether there were more."""
    if message["type"] in ("websocket.close", "websocket.disconnect"):
        ending = f"{message.get('code') or ''} {message.get('reason') or ''}"
        return {"kind": "close", "text": ending.strip(), "cut": False}
    text: str | None = message.get("text")
    if text is None:
        data = message.get("bytes") or b""
        most = MAX_BYTES // 3  # a byte is shown as two digits and a space
        return {"kind": "bytes", "text": data[:most].hex(" "), "cut": len(data) > most}
    data = text[:MAX_BYTES].encode("utf-8", "replace")
    cut = len(data) > MAX_BYTES or len(text) > MAX_BYTES
    return {"kind": "text", "text": data[:MAX_BYTES].decode("utf-8", "ignore"), "cut": cut}


# What a question may ask for


def is_allowed() -> bool:
    """Whether messages may be watched at all."""
    found = conf.get("OPERATIONS_TAP")
    return bool(settings.DEBUG if found is None else found)


def act(found: Found, question: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a question about one connection; a refusal says why."""
    perform, watcher = ACTIONS[question["action"]], str(question["by"])
    refused = _refusal(found.session, bool(question.get("spare")))
    if refused is not None:
        return {"matched": 0, "refused": refused}
    return perform(found, watcher, int(question.get("after") or 0))


def _refusal(session: Any, spare: bool) -> str | None:
    if not is_allowed():
        return "off"
    if spare and is_superuser(session):
        return "superuser"
    if session.websocket is not None:
        return None
    return "gone" if state_of(session) == "closing" else "foreign"


def _start(found: Found, watcher: str, after: int) -> dict[str, Any]:
    id = found.session.id
    if state_of(found.session) == "closing":
        return {"matched": 0, "refused": "gone"}
    if id not in tapped and len(tapped) >= MAX_TAPS:
        return {"matched": 0, "refused": "busy"}
    tap = tapped.setdefault(id, Tap(found.session))
    tap.watchers.add(watcher)
    tap.renew()
    try:
        soon(found, tap.begin)
    except RuntimeError:  # the loop has been closed meanwhile
        tapped.pop(id, None)
        return {"matched": 0, "refused": "gone"}
    return {"matched": 1}


def _read(found: Found, watcher: str, after: int) -> dict[str, Any]:
    tap = _watched(found, watcher)
    if tap is None:
        return {"matched": 0, "refused": "ended"}
    return {"matched": 1, "messages": [each for each in tap.messages.copy() if each["number"] > after]}


def _renew(found: Found, watcher: str, after: int) -> dict[str, Any]:
    if (tap := _watched(found, watcher)) is not None:
        tap.renew()
    return _read(found, watcher, after)


def _stop(found: Found, watcher: str, after: int) -> dict[str, Any]:
    tap = _watched(found, watcher)
    if tap is None:
        return {"matched": 0, "refused": "ended"}
    tap.watchers.discard(watcher)
    if not tap.watchers:
        soon(found, partial(_stop_unwatched, tap))
    return {"matched": 1, "count": tap.count, "size": tap.size}


def _stop_unwatched(tap: Tap) -> None:
    if not tap.watchers:  # else somebody has begun to watch in the meantime
        tap.stop()


def _watched(found: Found, watcher: str) -> Tap | None:
    """The tap of a connection, for somebody whose watching has been recorded."""
    tap: Tap | None = tapped.get(found.session.id)
    return tap if tap is not None and watcher in tap.watchers else None


ACTIONS = {"start": _start, "read": _read, "renew": _renew, "stop": _stop}
