"""The one membership that a process has in each group of a channel layer, on behalf of all its sockets.

`Hub.members` holds the members of each group in this process. One task reconciles the layer with it. Any
number of joins and leaves of a group thus cost one call to the layer, and after an outage the same task
joins every group again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from contextvars import Context
from itertools import islice
from typing import Any

from fastws_compat.connections import hooks
from fastws_compat.connections.outlet import write_to_ready
from fastws_compat.groups import handlers
from fastws_compat.groups.delivery import Delivery, Frame, Participant, Receiver, RecentFrames
from fastws_compat.groups.entries import text_frame
from fastws_compat.groups.reader import ChannelReader
from fastws_compat.groups.upkeep import resolve
from fastws_compat.layers.client import health, layer_of, with_timeout
from fastws_compat.layers.pubsub import pubsub_of
from fastws_compat.layers.sequence import LossDetector
from fastws_compat.layers.wire import Close, Envelope, Payload, unpack
from fastws_compat.logger import logger

# Seconds between two attempts while the layer fails.
RETRY_INTERVAL = 1.0
# Seconds that the shared reader has to stop before another one takes its place.
READER_STOP_TIMEOUT = 1.0
# The maximum number of concurrent calls to the layer.
MAX_CONCURRENT_CALLS = 16
# The maximum number of members that get a message before other tasks get a turn.
MAX_DELIVERIES_IN_A_ROW = 256
# The maximum number of unknown message types that are logged.
MAX_UNKNOWN_TYPES = 100


class Hub:
    """The groups of one event loop on one layer; it exists while one of them has a member here."""

    def __init__(self, alias: str, layer: Any) -> None:
        self.alias = alias
        self.layer = layer
        self.members: dict[str, dict[str, Participant]] = {}
        # How many members have left a group, by which a delivery notices that some have.
        self.departures = 0
        # Reconciles the layer with `members`.
        self.task: asyncio.Task[None] | None = None
        self._joined: set[str] = set()
        self._pubsub = pubsub_of(layer)
        self._shared_reader = self._new_reader(None)
        self._readers: dict[str, ChannelReader] = {}
        self._own_readers: set[ChannelReader] = set()
        # Groups whose membership on the layer is stale, or may be.
        self._stale: set[str] = set()
        self._waiters: dict[str, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._failing = False
        self._rejoin_at: float | None = None
        # The feeds of the groups that have a history.
        self.feeds: dict[str, Receiver] = {}
        # What members that catch up in these groups have received last.
        self.recent = RecentFrames()
        # Checks periodically that the feeds have everything.
        self.checker: asyncio.Task[None] | None = None
        self._loss_detector = LossDetector(alias)
        self._unknown_types: set[str] = set()

    def add(self, group: str, member: Participant) -> bool:
        """Add a member; return whether the layer has to be updated."""
        self.members.setdefault(group, {})[member.id] = member
        if group in self._joined:
            return False
        self._mark_stale(group)
        return True

    def discard(self, group: str, member: Participant) -> bool:
        """Remove a member; return whether the layer has to be updated."""
        members = self.members.get(group, {})
        self.departures += 1
        if members.pop(member.id, None) is None or members:
            return False
        del self.members[group]
        self._loss_detector.forget(group)
        if group in self.feeds:
            self.feeds.pop(group).close()
        self._mark_stale(group)
        return True

    async def wait_synced(self, group: str) -> None:
        """Wait until the layer has the group's membership; return at once while the layer fails."""
        waiter = self._waiters.get(group)
        if waiter is not None and not self._failing:
            await asyncio.shield(waiter)

    # Reconciling the layer

    def _mark_stale(self, group: str) -> None:
        if group not in self._waiters:
            self._waiters[group] = asyncio.get_running_loop().create_future()
        self._stale.add(group)
        self._wake.set()
        if self.task is None:
            # In an empty context: that of the first connection would be shared with all others.
            self.task = asyncio.get_running_loop().create_task(self._reconcile_forever(), context=Context())

    async def _reconcile_forever(self) -> None:
        """Keep the layer up to date while there are members."""
        try:
            while self._stale or self.members or self._readers:
                await self._wait_for_work()
                try:
                    await self._reconcile()
                except Exception as exc:
                    self._layer_failed(exc)
                else:
                    self._layer_succeeded()
        finally:
            _forget(self)
            self.task = None
            resolve(self._waiters, list(self._waiters))
            for reader in self._active_readers():
                reader.close()
            if self.checker is not None:
                self.checker.cancel()

    async def _wait_for_work(self) -> None:
        """Wait for a change, the next retry or the time to join again."""
        if self._failing:
            await asyncio.sleep(RETRY_INTERVAL)
            return
        timeout = None
        if self._rejoin_at is not None:
            timeout = max(0.0, self._rejoin_at - asyncio.get_running_loop().time())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    async def _reconcile(self) -> None:
        """Join and leave groups on the layer until no group is stale."""
        self._wake.clear()
        if self._failing or self._is_time_to_rejoin():
            self._joined.clear()
            self._stale.update(self.members, self._readers)
        for reader in self._active_readers():
            await reader.open()
        while batch := list(islice(self._stale, MAX_CONCURRENT_CALLS)):
            for group in batch:
                await self._assign_reader(group)
            failures = await asyncio.gather(*map(self._update_layer, batch), return_exceptions=True)
            for failure in failures:
                if failure is not None:
                    raise failure
            current = list(filter(self._is_current, batch))
            self._stale.difference_update(current)
            resolve(self._waiters, current)
        await self._close_shared_reader()

    def _is_current(self, group: str) -> bool:
        has_members = group in self.members
        return has_members == (group in self._joined) == (group in self._readers)

    async def _update_layer(self, group: str) -> None:
        """Join or leave one group on the layer, if that is needed."""
        reader = self._readers.get(group)
        if reader is None:
            return
        if group not in self.members:
            self._joined.discard(group)
            await with_timeout(reader.layer.group_discard(group, reader.channel))
            del self._readers[group]
            if reader is not self._shared_reader:
                self._own_readers.discard(reader)
                reader.close()
        elif group not in self._joined:
            await with_timeout(reader.layer.group_add(group, reader.channel))
            self._joined.add(group)

    def _layer_failed(self, exc: Exception) -> None:
        """Let all callers continue without the layer, and have the task retry."""
        self._failing = True
        health(self.alias).failed(exc)
        resolve(self._waiters, list(self._waiters))
        self._wake.set()

    def _layer_succeeded(self) -> None:
        """The layer is up to date, but it has recovered only if all readers run, too."""
        self._failing = not all(reader.is_open for reader in self._active_readers())
        if self._failing:
            return
        if self._readers:
            health(self.alias).succeeded()
        else:
            health(self.alias).unused()
        expiry = getattr(self.layer, "group_expiry", None)
        if expiry and self._rejoin_at is None:
            self._rejoin_at = asyncio.get_running_loop().time() + expiry / 2

    def _is_time_to_rejoin(self) -> bool:
        """Whether half of the layer's `group_expiry` is over, after which the layer drops members."""
        if self._rejoin_at is None or asyncio.get_running_loop().time() < self._rejoin_at:
            return False
        self._rejoin_at = None
        return True

    # Readers

    def _new_reader(self, group: str | None) -> ChannelReader:
        # Plain Channels code does not name the group, so each such group needs a channel of the layer itself.
        layer = self.layer if self._pubsub is None or group is not None else self._pubsub
        return ChannelReader(layer, group, self._dispatch, self._layer_failed)

    def _active_readers(self) -> list[ChannelReader]:
        return [*self._own_readers, *([self._shared_reader] if self._shared_reader.channel else [])]

    async def _assign_reader(self, group: str) -> None:
        """Give a group with members an open reader."""
        if group in self.members:
            if group not in self._readers:
                reader = self._shared_reader
                if handlers.expects_messages(group):
                    reader = self._new_reader(group)
                    self._own_readers.add(reader)
                self._readers[group] = reader
            await self._readers[group].open()

    async def _close_shared_reader(self) -> None:
        """Close the shared reader once it serves no group."""
        if self._shared_reader.task is not None and len(self._own_readers) == len(self._readers):
            task, self._shared_reader = self._shared_reader.task, self._new_reader(None)
            task.cancel()
            await asyncio.wait([task], timeout=READER_STOP_TIMEOUT)

    # Messages

    async def _dispatch(self, message: dict[str, Any], group: str | None) -> None:
        """Deliver a message from the layer; `group` is that of the reader, if it serves only one."""
        try:
            envelope = unpack(message)
        except ValueError as exc:
            self._warn_once(message.get("type"), str(exc))
            return
        if envelope is None:
            await self._dispatch_foreign(message, group)
        elif members := self.members.get(envelope.group):
            taking = self._take(envelope)
            if hooks.delivering is not None:
                names = self.alias, envelope.group
                taking = hooks.wrapped(hooks.delivering, taking, *names, message, len(members))
            await taking

    async def _take(self, envelope: Envelope) -> None:
        """Pass a message to the members, in its order if the group has a feed."""
        if self.feeds and (feed := self.feeds.get(envelope.group)) and await feed.receive(envelope):
            return
        self._loss_detector.record(envelope)
        await self._deliver(envelope)
        if envelope.key is not None:
            self._tell_sender(envelope)

    def _tell_sender(self, envelope: Envelope) -> None:
        """A client that is excluded as the sender learns by the key that its message has arrived."""
        frame = Frame(text_frame("message", group=envelope.group, key=envelope.key))
        for member in [*self.members.get(envelope.group, {}).values()]:
            if envelope.exclude in member.ids:
                member.tell(frame)

    async def _dispatch_foreign(self, message: dict[str, Any], group: str | None) -> None:
        """Translate a message from plain Channels code with its handler, and deliver the result."""
        type = message.get("type")
        if group is None or (handler := handlers.handler_for(type, group)) is None:
            self._warn_once(type, "no handler is registered for it (fastws_compat.groups.on)")
            return
        payload = await handler.translate(message)
        if payload is not None:
            await self._deliver(Envelope(group, payload, None, None, 0))

    async def _deliver(self, envelope: Envelope) -> None:
        """Pass the message to every member, or close every member."""
        members = self.members.get(envelope.group, {})
        content, exclude, departures = envelope.content, envelope.exclude, self.departures
        delivery = None
        if isinstance(content, Payload):
            delivery = Delivery(content, envelope.group, key=envelope.key)
        health(self.alias).counts["deliveries"] += len(members)
        for number, batch in enumerate(batches([*members.values()])):
            if number:
                await asyncio.sleep(0)
            if exclude is not None or departures != self.departures:
                batch = [each for each in batch if each.id in members and exclude not in each.ids]
            for member in batch if delivery is None else write_to_ready(delivery, batch):
                if member.id not in members:
                    continue  # one of those before has made it leave
                if delivery is not None:
                    member.deliver(delivery)
                elif isinstance(content, Close):  # without a feed, nobody receives the state
                    member.close(content)

    def _warn_once(self, type: Any, why: str) -> None:
        """Log once per type that a message cannot be handled."""
        name = repr(type)[:100]
        if name not in self._unknown_types and len(self._unknown_types) < MAX_UNKNOWN_TYPES:
            self._unknown_types.add(name)
            logger.warning("A message of type %s to a group cannot be handled: %s", name, why)


def batches(members: list[Participant]) -> Iterator[list[Participant]]:
    """Members that may get a message without a turn for other tasks between them."""
    for start in range(0, len(members), MAX_DELIVERIES_IN_A_ROW):
        yield members[start : start + MAX_DELIVERIES_IN_A_ROW]


def next_batch(waiting: dict[str, Participant]) -> list[Participant]:
    """Take the members of the next batch off the end, where the next one is."""
    return [waiting.popitem()[1] for _ in range(min(len(waiting), MAX_DELIVERIES_IN_A_ROW))]


# The hubs of each event loop, by the id of their layer.
hubs: dict[asyncio.AbstractEventLoop, dict[int, Hub]] = {}


def hub_of(alias: str) -> Hub:
    """The running loop's hub for a layer."""
    for loop in list(hubs):
        if loop.is_closed():
            hubs.pop(loop, None)
    layer = layer_of(alias)
    hubs_here = hubs.setdefault(asyncio.get_running_loop(), {})
    hub = hubs_here.get(id(layer))
    if hub is None:
        hub = hubs_here[id(layer)] = Hub(alias, layer)
    return hub


def tell(alias: str, group: str, member_id: str, frame: Frame) -> None:
    """Send a frame to a participant of a group, also if another loop of the process serves it."""
    here, layer = asyncio.get_running_loop(), id(layer_of(alias))
    for loop, by_layer in list(hubs.items()):
        hub = by_layer.get(layer)
        member = None if hub is None else hub.members.get(group, {}).get(member_id)
        if member is not None and loop is here:
            member.tell(frame)
        elif member is not None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(member.tell, frame)


def loop_of(layer: Any) -> asyncio.AbstractEventLoop | None:
    """A running loop that has a hub for the layer: the current one, if it has."""
    here = asyncio.get_running_loop()
    loops = [loop for loop, by_layer in list(hubs.items()) if id(layer) in by_layer and loop.is_running()]
    return here if here in loops else next(iter(loops), None)


def _forget(hub: Hub) -> None:
    for loop, by_layer in list(hubs.items()):
        if by_layer.get(id(hub.layer)) is hub:
            del by_layer[id(hub.layer)]
        if not by_layer:
            hubs.pop(loop, None)
