"""The application's own startup and shutdown (ASGI, lifespan protocol)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastws_compat.connections.tracebacks import for_log
from fastws_compat.types import ASGIApp, Message, Scope

logger = logging.getLogger("daphne.server")


class Lifespan:
    """Runs the application's lifespan; connections receive copies of its `state`."""

    def __init__(self, application: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._application = application
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> bool:
        """Start the application and return whether it may serve; True if it does not support the protocol."""
        self._task = asyncio.create_task(self._run())
        self._inbox.put_nowait({"type": "lifespan.startup"})
        await self._started.wait()
        return not self._failed

    async def shutdown(self, timeout: float) -> None:
        if self._task is None or self._task.done():
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        try:
            await asyncio.wait_for(self._stopped.wait(), timeout)
        except TimeoutError:
            logger.warning("The application did not shut down in time.")
        self._task.cancel()
        await asyncio.wait([self._task], timeout=max(0.1, timeout / 10))

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._application(scope, self._inbox.get, self._send)
        except Exception as error:
            self._report(error)
        finally:
            self._started.set()
            self._stopped.set()

    def _report(self, error: Exception) -> None:
        if self._failed:
            return
        if self._started.is_set():
            logger.error("Exception in the lifespan of the application: %s", error, exc_info=for_log(error))
        else:
            logger.info("The application does not support the lifespan protocol: %s", error)

    async def _send(self, message: Message) -> None:
        step, _, outcome = message["type"].removeprefix("lifespan.").partition(".")
        event = {"startup": self._started, "shutdown": self._stopped}.get(step)
        if event is None or outcome not in ("complete", "failed"):
            raise RuntimeError(f"Unexpected ASGI message {message['type']!r} in the lifespan protocol.")
        if outcome == "failed":
            self._failed = True
            logger.error("Application %s failed: %s", step, message.get("message", ""))
        event.set()
