"""This process on the control line, the group over which operators ask all processes at once."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any

from fastws_compat.layers.client import with_timeout
from fastws_compat.layers.subscription import Subscription
from fastws_compat.logger import in_words, logger
from fastws_compat.logins.remote import sender_id, shared_layer
from fastws_compat.operations.answers import QUESTION, Answer, is_stale, parts, respond

GROUP = "fastws_compat.control"
# How often a reply is sent again to an asker whose channel was full, and the seconds before each time.
MAX_RETRIES = 10
MIN_PAUSE, MAX_PAUSE = 0.05, 0.15
# The maximum number of rows in a further attempt.
FEWER_ROWS = 10


class Line:
    """Answers the questions of other processes; one loop does it for all loops of the process."""

    def __init__(self) -> None:
        self.layer: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._is_late = False

    def begin(self) -> None:
        """Join the line from the running loop, if the layer reaches other processes."""
        layer = shared_layer()
        if layer is None or self.is_joined:
            return
        self.layer, self._loop = layer, asyncio.get_running_loop()
        subscription = Subscription(layer, GROUP, self._hear, lambda: None)
        # In an empty context: that of the first connection would be kept forever.
        self._task = self._loop.create_task(subscription.run(), context=Context())

    @property
    def is_joined(self) -> bool:
        loop, task = self._loop, self._task
        return loop is not None and loop.is_running() and task is not None and not task.done()

    def serves(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is the loop that is on the line, which may use the layer's own connections."""
        return self._loop is loop

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("type") != QUESTION or message.get("asker") == sender_id() or self._drops(message):
            return
        assert self._loop is not None
        task = self._loop.create_task(self._answer(message), context=Context())
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def _drops(self, question: Mapping[str, Any]) -> bool:
        """Whether a question is too old; the first of several in a row is logged."""
        was_late, self._is_late = self._is_late, is_stale(question)
        if self._is_late and not was_late:
            logger.warning(
                "An operator's question that was sent %.0f s ago is not answered: this process was suspended,"
                " or the clocks of the machines differ",
                time.time() - question["at"],
            )
        return self._is_late

    async def _answer(self, question: Mapping[str, Any]) -> None:
        try:
            answer = await respond(question)
            for part in parts(answer):
                await self._send(question["reply"], part)
        except Exception as exc:
            logger.warning("An operator's question could not be answered (%s)", in_words(exc))

    async def _send(self, channel: str, part: Answer) -> None:
        """Send a part of a reply. While the channel is full, try again a moment later, with fewer rows."""
        from channels.exceptions import ChannelFull

        for _ in range(MAX_RETRIES):
            with suppress(ChannelFull):
                await with_timeout(self.layer.send(channel, part))
                return
            await asyncio.sleep(random.uniform(MIN_PAUSE, MAX_PAUSE))
            part = {**part, "rows": part["rows"][:FEWER_ROWS]}
        await with_timeout(self.layer.send(channel, part))


line = Line()
