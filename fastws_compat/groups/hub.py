"""The one member that a process has in the groups of a channel layer: its sockets stand behind it.

The members of a group in this process are what is wanted; one task, the keeper, brings the layer in line
with it. So any number of joins and leaves of a group cost the layer one call, and after an outage the same
task joins everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from itertools import islice
from typing import Any

from fastws_compat.connections.tracebacks import for_log
from fastws_compat.groups import handlers
from fastws_compat.groups.member import Delivery, Participant
from fastws_compat.layers.client import health, layer_of, limited
from fastws_compat.layers.local import LocalLayer
from fastws_compat.layers.sequence import Gaps
from fastws_compat.layers.wire import Close, Envelope, Payload, unpack
from fastws_compat.logger import logger

# After a failure the layer is asked again so often, in seconds.
RETRY = 1.0
# A layer that gave up waiting for a message is asked for one again after so long.
PAUSE = 0.05
# So many calls to the layer run at a time.
WIDTH = 16
# After so many members the others in the process get a turn.
MEMBERS_IN_A_ROW = 256
MOST_COMPLAINTS = 100


class Line:
    """A channel of the layer and the task that receives from it.

    One line serves all groups, because our messages name their group. What plain Channels code sends does
    not, so a group that expects such messages has a line of its own.
    """

    def __init__(self, group: str | None) -> None:
        self.group = group
        self.channel: str | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self.task is not None and not self.task.done()

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Hub:
    """The groups of one event loop on one layer; it lives as long as one of them has a member here."""

    def __init__(self, alias: str, layer: Any) -> None:
        self.alias = alias
        self.layer = layer
        self.members: dict[str, dict[str, Participant]] = {}
        self._joined: set[str] = set()
        self._shared = Line(None)
        self._lines: dict[str, Line] = {}
        self._own: set[Line] = set()
        # Groups of which the layer does not have, or may not have, what is wanted.
        self._wrong: set[str] = set()
        self._unsettled: dict[str, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._failing = False
        self._rejoin_at: float | None = None
        self._gaps = Gaps()
        self._unknown: set[str] = set()

    def add(self, group: str, member: Participant) -> bool:
        """Add a member; whether the layer has to be told."""
        self.members.setdefault(group, {})[member.id] = member
        if group in self._joined:
            return False
        self._unsettle(group)
        return True

    def discard(self, group: str, member: Participant) -> bool:
        """Take a member out; whether the layer has to be told."""
        members = self.members.get(group, {})
        if members.pop(member.id, None) is None or members:
            return False
        del self.members[group]
        self._gaps.forget(group)
        self._unsettle(group)
        return True

    async def settle(self, group: str) -> None:
        """Wait until the layer knows; if it fails, it is told later."""
        settled = self._unsettled.get(group)
        if settled is not None and not self._failing:
            await asyncio.shield(settled)

    # The keeper

    def _unsettle(self, group: str) -> None:
        if group not in self._unsettled:
            self._unsettled[group] = asyncio.get_running_loop().create_future()
        self._wrong.add(group)
        self._wake.set()
        if self._keeper is None:
            # In no connection's context: whoever comes first would lend it to all others.
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), context=Context())

    async def _keep(self) -> None:
        try:
            while self._wrong or self.members or self._lines:
                await self._next_occasion()
                try:
                    await self._bring_in_line()
                except Exception as exc:
                    self._fail(exc)
                else:
                    self._answered()
        finally:
            _forget(self)
            self._keeper = None
            for group in list(self._unsettled):
                self._tell(group)
            for line in self._open_lines():
                line.close()

    async def _next_occasion(self) -> None:
        """Wait until there is something to do."""
        if self._failing:
            await asyncio.sleep(RETRY)
            return
        timeout = None
        if self._rejoin_at is not None:
            timeout = max(0.0, self._rejoin_at - asyncio.get_running_loop().time())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    async def _bring_in_line(self) -> None:
        """Join and leave on the layer until it has what this process wants."""
        self._wake.clear()
        if self._failing or self._is_time_to_rejoin():
            self._joined.clear()
            self._wrong.update(self.members, self._lines)
        for line in self._open_lines():
            await self._open(line)
        while batch := list(islice(self._wrong, WIDTH)):
            for group in batch:
                await self._choose_line(group)
            failures = await asyncio.gather(*map(self._correct, batch), return_exceptions=True)
            for failure in failures:
                if failure is not None:
                    raise failure
            self._release(filter(self._is_right, batch))
        await self._close_shared()

    def _is_right(self, group: str) -> bool:
        wanted = group in self.members
        return wanted == (group in self._joined) == (group in self._lines)

    async def _correct(self, group: str) -> None:
        line = self._lines.get(group)
        if line is None:
            return
        if group not in self.members:
            self._joined.discard(group)
            await limited(self.layer.group_discard(group, line.channel))
            del self._lines[group]
            if line is not self._shared:
                self._own.discard(line)
                line.close()
        elif group not in self._joined:
            await limited(self.layer.group_add(group, line.channel))
            self._joined.add(group)

    def _release(self, groups: Iterable[str]) -> None:
        for group in groups:
            self._wrong.discard(group)
            self._tell(group)

    def _tell(self, group: str) -> None:
        """Whoever waits for the group need not any more."""
        settled = self._unsettled.pop(group, None)
        if settled is not None and not settled.done():
            settled.set_result(None)

    def _fail(self, exc: Exception) -> None:
        """The layer is away: nobody waits for it, and the keeper tries again."""
        self._failing = True
        health(self.alias).failed(exc)
        for group in list(self._unsettled):
            self._tell(group)
        self._wake.set()

    def _answered(self) -> None:
        """The layer has taken everything; whether it is well the lines have to say, too."""
        self._failing = not all(line.is_open for line in self._open_lines())
        if self._failing:
            return
        health(self.alias).answered()
        expiry = getattr(self.layer, "group_expiry", None)
        if expiry and self._rejoin_at is None:
            self._rejoin_at = asyncio.get_running_loop().time() + expiry / 2

    def _is_time_to_rejoin(self) -> bool:
        """A layer forgets members after its `group_expiry`, so they join again in time."""
        if self._rejoin_at is None or asyncio.get_running_loop().time() < self._rejoin_at:
            return False
        self._rejoin_at = None
        return True

    # The lines

    def _open_lines(self) -> list[Line]:
        return [*self._own, *([self._shared] if self._shared.channel else [])]

    async def _choose_line(self, group: str) -> None:
        if group in self.members:
            if group not in self._lines:
                line = self._shared
                if handlers.expects_messages(group):
                    line = Line(group)
                    self._own.add(line)
                self._lines[group] = line
            await self._open(self._lines[group])

    async def _open(self, line: Line) -> None:
        if line.channel is None:
            line.channel = await limited(self.layer.new_channel())
        if not line.is_open:
            line.task = asyncio.get_running_loop().create_task(self._listen(line))
            if isinstance(self.layer, LocalLayer):
                # Not in `receive`: the task may be cancelled elsewhere, or before it began.
                line.task.add_done_callback(partial(_forget_channel, self.layer, line.channel))

    async def _close_shared(self) -> None:
        """End the shared line if it serves no group any more."""
        if self._shared.task is not None and len(self._own) == len(self._lines):
            task, self._shared = self._shared.task, Line(None)
            task.cancel()
            await asyncio.wait([task], timeout=RETRY)

    async def _listen(self, line: Line) -> None:
        while True:
            try:
                message = await self.layer.receive(line.channel)
            except Exception as exc:
                if _is_timeout(exc):
                    await asyncio.sleep(PAUSE)
                    continue
                self._fail(exc)
                return
            try:
                await self._dispatch(message, line.group)
            except Exception as exc:
                logger.error("A message of a group could not be handled", exc_info=for_log(exc))
            await asyncio.sleep(0)  # members that wait for their server come first

    # Messages

    async def _dispatch(self, message: dict[str, Any], group: str | None) -> None:
        try:
            envelope = unpack(message)
        except ValueError as exc:
            self._complain(message.get("type"), str(exc))
            return
        if envelope is not None:
            if envelope.group in self.members:
                self._gaps.see(envelope)
                await self._hand_out(envelope)
        elif group is None or (handler := handlers.handler_for(message.get("type"), group)) is None:
            self._complain(message.get("type"), "no handler is registered for it (fastws_compat.groups.on)")
        else:
            payload = await handler.translate(message)
            if payload is not None:
                await self._hand_out(Envelope(group, payload, None, None, 0))

    async def _hand_out(self, envelope: Envelope) -> None:
        """Give a message to every member, or close them all."""
        members = self.members.get(envelope.group, {})
        content, exclude = envelope.content, envelope.exclude
        delivery = Delivery(content) if isinstance(content, Payload) else None
        for number, (id, member) in enumerate(tuple(members.items()), 1):
            if id == exclude or id not in members:
                continue
            if delivery is not None:
                member.deliver(delivery)
            elif isinstance(content, Close):
                member.close(content)
            if not number % MEMBERS_IN_A_ROW:
                await asyncio.sleep(0)

    def _complain(self, type: Any, why: str) -> None:
        """Say once per type that a message is not understood."""
        known = repr(type)[:100]
        if known not in self._unknown and len(self._unknown) < MOST_COMPLAINTS:
            self._unknown.add(known)
            logger.warning("Groups were sent a message of type %s that nobody understands: %s", known, why)


def _forget_channel(layer: LocalLayer, channel: str, task: asyncio.Task[None]) -> None:
    layer.forget(channel)


def _is_timeout(exc: Exception) -> bool:
    """Whether a layer only has nothing to give: redis-py 8 ends a wait of five seconds with an error."""
    return type(exc).__name__ == "TimeoutError"


_hubs: dict[asyncio.AbstractEventLoop, dict[int, Hub]] = {}


def hub_of(alias: str) -> Hub:
    """The running loop's hub for a layer."""
    for loop in list(_hubs):
        if loop.is_closed():
            _hubs.pop(loop, None)
    layer = layer_of(alias)
    hubs = _hubs.setdefault(asyncio.get_running_loop(), {})
    hub = hubs.get(id(layer))
    if hub is None:
        hub = hubs[id(layer)] = Hub(alias, layer)
    return hub


def home_of(layer: Any) -> asyncio.AbstractEventLoop | None:
    """A running loop that has a hub for the layer, the present one first."""
    here = asyncio.get_running_loop()
    loops = [loop for loop, hubs in list(_hubs.items()) if id(layer) in hubs and loop.is_running()]
    return here if here in loops else next(iter(loops), None)


def _forget(hub: Hub) -> None:
    for loop, hubs in list(_hubs.items()):
        if hubs.get(id(hub.layer)) is hub:
            del hubs[id(hub.layer)]
        if not hubs:
            _hubs.pop(loop, None)
