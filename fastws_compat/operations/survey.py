"""A query to all processes: to this one by a call, to the others over the control line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from fastws_compat import conf
from fastws_compat.layers.client import DEFAULT
from fastws_compat.logger import in_words, logger
from fastws_compat.logins.remote import sender_id, shared_layer
from fastws_compat.operations.answers import QUESTION, VERSION, Answer, respond
from fastws_compat.operations.census import process_name, serves
from fastws_compat.operations.line import GROUP, line

# Seconds of silence after which no more replies are expected: for an asker that knows the processes, and for
# one that asks for the first time.
QUIET, FIRST_QUIET = 0.15, 0.3
# Seconds for which a process that does not reply is named.
MEMORY = 60.0
# Seconds that releasing a channel may take.
CLEANUP_TIMEOUT = 0.1


@dataclass(slots=True)
class Heard:
    """A process that has replied: when, and whether it replied to the latest query."""

    at: float
    answers: bool = True


@dataclass(slots=True)
class Answers:
    """The result of a query."""

    # The messages of each process that answered.
    parts: dict[str, list[Answer]] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    # The processes whose version does not know the question.
    older: list[str] = field(default_factory=list)
    # Since when the channel layer has failed for this process.
    unreached_since: datetime | None = None

    @property
    def answered(self) -> list[str]:
        """The processes that answered."""
        return sorted(self.parts)

    @property
    def last(self) -> list[Answer]:
        """The final message of each process."""
        return [parts[-1] for parts in self.parts.values()]

    def sum(self, name: str) -> int:
        return sum(answer.get(name) or 0 for answer in self.last)


# The processes that each layer's askers have heard, by name.
_known: WeakKeyDictionary[Any, dict[str, Heard]] = WeakKeyDictionary()
# The layers of loops that are not on the line: channels_redis lets only one loop receive from a layer.
_private: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, Any]] = WeakKeyDictionary()
_failing_since: datetime | None = None


def is_local() -> bool:
    """Whether no channel layer reaches other processes."""
    return shared_layer() is None


async def ask(op: str, where: Mapping[str, Any], **values: Any) -> Answers:
    """Query all processes, and wait at most `OPERATIONS_TIMEOUT` seconds for their replies."""
    layer = shared_layer()
    known = {} if layer is None else _known.setdefault(layer, {})
    survey = Survey({"op": op, "where": dict(where), **values}, known)
    if serves():
        survey.take(await respond(survey.question))
    if layer is not None:
        await survey.ask(layer_here(layer))
    return survey.result()


def layer_here(shared: Any) -> Any:
    """The layer for the running loop."""
    loop = asyncio.get_running_loop()
    if line.serves(loop) or not hasattr(type(shared), "receive_single"):
        return shared
    found = _private.get(loop)
    if found is None or found[0] is not shared:
        from channels.layers import channel_layers

        found = _private[loop] = shared, channel_layers.make_backend(DEFAULT)
    return found[1]


class Survey:
    """One question to the other processes."""

    def __init__(self, question: dict[str, Any], known: dict[str, Heard]) -> None:
        now = time.monotonic()
        self._id = uuid4().hex
        self._known = known
        for name in [name for name, heard in list(known.items()) if now - heard.at > MEMORY]:
            known.pop(name, None)
        self._began = self._heard = now
        self._deadline = now + float(conf.get("OPERATIONS_TIMEOUT"))
        self._changed = asyncio.Event()
        self._complete: set[str] = set()
        self._answers = Answers()
        self.question = {
            "type": QUESTION,
            "v": VERSION,
            "id": self._id,
            "at": time.time(),
            "asker": sender_id(),
            **question,
        }

    def take(self, message: Answer) -> None:
        """Keep a message if it belongs to an answer."""
        if message.get("id") != self._id:
            return
        process = str(message.get("process"))
        self._heard = time.monotonic()
        if "error" in message:
            self._answers.older.append(process)
        else:
            self._answers.parts.setdefault(process, []).append(message)
        if message.get("last", True):
            self._complete.add(process)
        self._changed.set()

    async def ask(self, layer: Any) -> None:
        """Send the question, and wait until the answers are complete."""
        reading: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                channel = await layer.new_channel()
                reading = asyncio.create_task(self._read(layer, channel))
                await layer.group_send(GROUP, {**self.question, "reply": channel})
            _note_success()
            await self._wait()
        except Exception as exc:
            _note_failure(exc)
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading], timeout=CLEANUP_TIMEOUT)

    async def _read(self, layer: Any, channel: str) -> None:
        while True:
            self.take(await layer.receive(channel))

    async def _wait(self) -> None:
        while (patience := self._patience()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._changed.wait()

    def _patience(self) -> float:
        """Seconds to wait for the next message."""
        now = time.monotonic()
        # A copy: other threads may be asking too.
        is_expected = any(
            heard.answers for name, heard in list(self._known.items()) if name not in self._complete
        )
        if is_expected or not self._complete:
            return self._deadline - now
        quiet = QUIET if self._known else FIRST_QUIET
        return min(self._deadline, self._heard + quiet) - now

    def result(self) -> Answers:
        """The answers, after noting who has answered."""
        for name, heard in list(self._known.items()):
            heard.answers = name in self._complete
        for name in self._complete:
            self._known[name] = Heard(time.monotonic())
        self._answers.silent = sorted({*self._known} - self._complete - {process_name()})
        self._answers.unreached_since = None if is_local() else _failing_since
        return self._answers


def _note_success() -> None:
    global _failing_since
    _failing_since = None


def _note_failure(exc: Exception) -> None:
    """Log once that other processes cannot be asked."""
    global _failing_since
    if _failing_since is None:
        _failing_since = datetime.now(UTC)
        logger.warning("Other processes cannot be asked for their sockets: %s", in_words(exc))
