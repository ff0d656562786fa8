"""Publishers, a store, a layer, processes and clients on a virtual clock, with faults at random.

The feed, the judge, joining, publishing and the members are the product's own. Store, layer and clients are
models that fail: they drop, delay and reorder messages, forget, restart, and are killed. Some clients join
before their socket is accepted, and some messages exclude one of them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from fastws_compat import WebSocket, WebSocketDisconnect, conf
from fastws_compat.exceptions import GroupStoreError
from fastws_compat.groups import Group, arrivals, feeds, keeping, publishing
from fastws_compat.groups.arrivals import Arrival, Wish
from fastws_compat.groups.breaker import Breaker
from fastws_compat.groups.delivery import Delivery, RecentFrames
from fastws_compat.groups.feeds import GroupFeed
from fastws_compat.groups.kinds import History, Kind, State
from fastws_compat.groups.member import member_of
from fastws_compat.groups.positions import Position
from fastws_compat.groups.ring import Budget, Ring
from fastws_compat.groups.stores import (
    Appended,
    Draft,
    Hole,
    Life,
    Reading,
    Store,
    StoreError,
    StoreRefused,
    change_state,
    history_of,
)
from fastws_compat.layers.wire import Envelope, Payload, unpack
from tests.fake_server import CONNECT, websocket_scope

GROUP = "g"
CHECK = 2.0
# How long a world lives, on its own clock.
SECONDS = 16.0
# The ids of earlier connections that a client names.
MAX_IDS = 8
# The frames that may wait for a client. Those that it missed while it was away are not among them.
QUEUE = 150


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes when no task is ready; there are neither files nor threads to wait for.

    Its turns are those of asyncio's own loop, without what only real time and real files need: worlds consist
    of little else than timers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        # Tuples are compared faster than handles.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_numbers = itertools.count()

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            assert timers, "everybody waits for ever"
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()


class FaultyStore(Store):
    """One group on a server that may be away, forget, or do something and not say so."""

    looks_first = True
    asks_run_id = True

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self.kind = Kind("*", History(count, 1e9), state=State())
        self.life: Life | None = None
        self.is_up = True
        self.responds = asyncio.Event()
        self.responds.set()
        self.run = 1
        # The run in which the group was last used.
        self.known_run: int | None = None
        self.saved: tuple[Life | None, int | None] = (None, None)
        self.log: list[tuple[str, int, str]] = []
        # The content of each entry, by its position.
        self.ids: dict[Position, str] = {}
        # The last values at each position, as JSON.
        self.states: dict[Position, dict[str, str]] = {}

    async def _travel(self) -> None:
        await asyncio.sleep(self.world.random() * 0.01)
        await self.responds.wait()
        if not self.is_up:
            raise StoreRefused("away")

    async def _return(self, risk: float = 0.0) -> None:
        if self.world.random() < 0.3:  # else the answer is there at once
            await asyncio.sleep(self.world.random() * 0.02)
        if not self.is_up or self.world.random() < risk:
            raise StoreError("reset")

    def _group(self) -> Life:
        if self.life is None:
            self.life, self.known_run = Life(), self.run
        return self.life

    def _notice_run(self, life: Life) -> None:
        if self.known_run != self.run and self.asks_run_id:
            life.begin_epoch()
        self.known_run = self.run

    @property
    def first(self) -> tuple[str | None, int]:
        """The epoch, and the first offset that is kept."""
        if self.life is None:
            return None, 0
        return self.life.epoch, self.life.reading(None, 0, False).first

    async def append(
        self, group: str, kind: Kind, draft: Draft, *, is_retry: bool = False, hole: Hole | None = None
    ) -> Appended:
        await self._travel()
        life = self._group()
        known = life.known(draft, is_retry and self.looks_first)
        if known is not None:
            return known
        if draft.field is not None:
            change_state(life.state, draft.field, draft.value, State())
        self._notice_run(life)
        if hole is not None:
            life.note_hole(hole)
        life.top += 1
        place = Appended(life.epoch, life.top)
        life.entries.append(entry_of(draft, life.top))
        life.forget_what_is_old(history_of(self.kind))
        self.log.append((life.epoch, life.top, draft.id))
        position = Position(life.epoch, life.top)
        self.ids[position], self.states[position] = draft.id, {**life.state}
        await self._return(0.02)
        return place

    async def read(
        self, group: str, kind: Kind, after: int | None = None, limit: int = 0, state: bool = False
    ) -> Reading:
        await self._travel()
        life = self._group()
        self._notice_run(life)
        reading = life.reading(after, min(limit, 20), state)
        await self._return()
        return reading

    async def begin_epoch(self, group: str, kind: Kind, epoch: str, top: int) -> None:
        await self._travel()
        life = self._group()
        if life.epoch == epoch and life.top < top:
            life.begin_epoch()

    async def mark_hole(self, group: str, kind: Kind, epoch: str | None = None, hole: Hole = Hole()) -> None:
        await self._travel()
        life = self._group()
        if epoch in (None, life.epoch):
            life.note_hole(hole)

    async def clear(self, group: str, kind: Kind) -> None:
        await self._travel()
        life = self._group()
        life.entries.clear()
        life.state.clear()
        life.begin_epoch()
        # Whoever clears may learn that late, when others have gone on in the new epoch.
        await asyncio.sleep(self.world.random() * 0.5)

    def restart(self) -> None:
        self.run += 1

    def flush(self) -> None:
        self.run += 1
        self.life = None

    def save(self) -> None:
        self.saved = copy_of(self.life), self.known_run

    def roll_back(self) -> None:
        self.run += 1
        life, self.known_run = self.saved
        self.life = copy_of(life)


def copy_of(life: Life | None) -> Life | None:
    """Another life with the same entries, which never change."""
    if life is None:
        return None
    return replace(life, entries=life.entries.copy(), unkept={**life.unkept}, state={**life.state})


def entry_of(draft: Draft, offset: int) -> Any:
    from fastws_compat.groups.entries import Kept

    return Kept(offset, draft.id, time.time(), draft.content, draft.exclude, draft.key)


class FakeBreaker:
    """Marks holes as the product's breaker does, but on the virtual clock."""

    is_open = False

    alias = "default"

    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self._holes: dict[str, tuple[Kind, Hole]] = {}
        self._task: asyncio.Task[None] | None = None

    def failed(self, exc: Exception, call: object) -> None: ...

    def succeeded(self, call: object) -> None: ...

    def forget(self, *calls: object) -> None: ...

    def hole(self, group: str) -> Hole | None:
        return self._holes[group][1] if group in self._holes else None

    def fill_hole(self, group: str, hole: Hole) -> None:
        if self.hole(group) is hole:
            del self._holes[group]

    def add_hole(self, group: str, kind: Kind, hole: Hole | None = None) -> None:
        self._holes[group] = (kind, hole or Hole())
        if self._task is None or self._task.done():
            self._task = self.store.world.spawn(self._probe())

    async def _probe(self) -> None:
        while self._holes:
            await asyncio.sleep(1)
            with suppress(StoreError):
                await self.mark_hole(GROUP)

    take_over, mark_hole = Breaker.take_over, Breaker.mark_hole


class Hub:
    """One process: its members, and their feed."""

    alias = "default"
    checker = None

    def __init__(self, world: World) -> None:
        self.world = world
        self.members: dict[str, dict[str, Any]] = {GROUP: {}}
        self.feeds: dict[str, Any] = {}
        self.departures = 0
        self.recent = RecentFrames()
        store = world.store
        ring = Ring(Budget(), history_of(store.kind).count)
        feed: Any = GroupFeed(self, GROUP, store.kind, store, FakeBreaker(store), ring)  # type: ignore[arg-type]
        self.feed: GroupFeed = feed
        self.feeds[GROUP] = feed
        self.is_dead = False

    def discard(self, group: str, member: Any) -> None:
        self.members[group].pop(member.id, None)
        self.departures += 1

    async def arrive(self, envelope: Envelope) -> None:
        if self.is_dead:
            return
        if not await self.feed.receive(envelope):
            for member in list(self.members[GROUP].values()):
                if envelope.exclude not in member.ids and isinstance(envelope.content, Payload):
                    member.deliver(Delivery(envelope.content, GROUP))

    async def check(self) -> None:
        while not self.is_dead:
            await asyncio.sleep(CHECK)
            if self.world.checks:
                await feeds.check_heads(self, [self.feed])  # type: ignore[arg-type]

    def kill(self) -> None:
        self.is_dead = True
        self.feed.close()


class Client:
    """A client of `live.js` over several connections: what it was told, in order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.position: Position | None = None
        self.trail: list[tuple[str, str | None, int, str | None]] = []
        self.connection: Connection | None = None
        # The ids of its connections that were accepted.
        self.ids: list[str] = []
        # The last values, as JSON.
        self.state: dict[str, Any] = {}
        self.lacks_state = False
        # What it has received that is not kept.
        self.unkept: set[str | None] = set()
        # When it was away, for the check that nothing which was not kept is called recovered.
        self.left = self.came = 0.0

    @property
    def claims(self) -> str:
        """What its URL says."""
        ids = [f"@{id}" for id in self.ids[-MAX_IDS:]]
        has_position = self.position is not None and not self.lacks_state
        return ",".join([*ids, f"{GROUP}:{self.position}"] if has_position else ids)

    def start(self, epoch: str | None, offset: int) -> None:
        if epoch is not None and self.position is not None and self.position.epoch == epoch:
            offset = max(offset, self.position.offset)
        if epoch is not None:
            self.position = Position(epoch, offset)
        self.trail.append(("start", epoch, offset, None))

    def receive(self, frame: Any) -> None:
        getattr(self, f"on_{frame['fastws']}")(frame)

    def on_joined(self, frame: Any) -> None:
        self.lacks_state = frame.get("state", False)
        if not frame["recovered"]:
            self.start(frame["epoch"], frame["offset"])
            return
        self.world.recovered += 1
        if self.position != (frame["epoch"], frame["offset"]):
            self.world.problem(f"recovered at {frame}, not at {self.position}")
        else:
            self.check_recovery(self.position)
            epoch, first = (None, 0) if self.connection is None else self.connection.began
            if epoch == frame["epoch"] and frame["offset"] + 1 < first:
                self.world.problem(f"recovered at {frame['offset']}, and the history began at {first}")
            life = self.world.store.life
            if life is not None and life.epoch == frame["epoch"] and frame["offset"] > life.top:
                self.world.problem(f"recovered at {frame['offset']}, and the history ends at {life.top}")

    def check_recovery(self, position: Position) -> None:
        if any(self.left < moment < self.came for moment, _ in self.world.unkept):
            self.world.problem("recovered, although something was sent meanwhile that is not kept")

    def on_beat(self, frame: Any) -> None: ...

    def on_lost(self, frame: Any) -> None:
        self.world.told += 1
        self.lacks_state = frame.get("state", False)
        self.start(frame["epoch"], frame["offset"])

    def on_state(self, frame: Any) -> None:
        position, offset = self.position, frame["offset"]
        if position is None or ("all" in frame and offset > position.offset):
            self.world.problem(f"{frame}, which is not of {position}")
        elif "all" in frame:
            if offset == position.offset:  # a process that lags may have older ones
                self.state, self.lacks_state = frame["all"], False
        elif not (frame.get("set") or frame.get("del")):
            self.world.problem("the news of a deleted history took the place of a message")
        elif offset > position.offset:
            self.position = position._replace(offset=offset)
            self.trail.append(("message", position.epoch, offset, None))
            self.state = {**self.state, **frame.get("set", {})}
            for key in frame.get("del", ()):
                self.state.pop(key, None)
        self.check_state(self.world.store.states.get(self.position) if self.position else None)

    def check_state(self, texts: dict[str, str] | None) -> None:
        """Compare with the values that the store had at the same position."""
        expected = None if texts is None else {key: json.loads(text) for key, text in texts.items()}
        if expected is not None and not self.lacks_state and self.state != expected:
            self.world.problem(f"the values at {self.position} are {self.state}, not {expected}")

    def on_message(self, frame: Any) -> None:
        id = frame.get("data")
        if self.is_excluded(id):
            self.world.problem(f"{id} was not meant for it")
        if "offset" not in frame:
            self.unkept.add(id)
            return
        position, offset = self.position, frame["offset"]
        if position is None:
            self.world.problem("a message before a position")
        elif offset > position.offset:
            self.position = position._replace(offset=offset)
            self.trail.append(("message", position.epoch, offset, id))
            if id is None and not self.is_excluded(self.world.store.ids.get(self.position)):
                self.world.problem(f"the content of {self.position} was hidden from it")

    def is_excluded(self, id: str | None) -> bool:
        """Whether a message excludes this connection, or one of those that its URL named."""
        return self.connection is not None and self.world.excluded.get(id) in self.connection.ids


class Liar(Client):
    """A client that was at another place than it says, each time that it comes."""

    def forge(self) -> None:
        """Invent a position: of now or of the past, ahead of everybody, or of no epoch at all."""
        choose, store = self.world.choose, self.world.store
        epoch, offset, _ = choose(store.log) if store.log else ("00000000", 0, "")
        if store.life is not None and self.world.random() < 0.5:
            epoch, offset = store.life.epoch, max(0, store.life.top + choose(range(-40, 3)))
        self.position = Position(
            choose([epoch, epoch, epoch, "ffffffff"]), choose([offset, offset, 0, 10**39])
        )
        self.trail.append(("claim", *self.position, None))

    def start(self, epoch: str | None, offset: int) -> None:
        self.position = None
        super().start(epoch, offset)

    def on_message(self, frame: Any) -> None:
        if self.position is not None:  # else the store was away when it came
            super().on_message(frame)

    def on_state(self, frame: Any) -> None:
        if self.position is not None:
            super().on_state(frame)

    def check_state(self, texts: dict[str, str] | None) -> None:
        """It may have the values of another position than it has claimed."""

    def check_recovery(self, position: Position) -> None:
        places = [place for when, place in self.world.unkept if place is not None and when < self.came]
        if any(epoch == position.epoch and top >= position.offset for epoch, top in places):
            self.world.problem("a forged position is called recovered, although something is not kept")


class Connection:
    """One connection of a client, which sometimes reads slowly."""

    def __init__(self, client: Client, hub: Hub) -> None:
        self.client = client
        self.hub = hub
        self.is_open = True
        query = f"fastws={client.claims}".encode()
        self.websocket = WebSocket(websocket_scope(query_string=query), self._receive, self._send)
        self.member: Any = member_of(self.websocket)
        self.ids = {*client.ids[-MAX_IDS:], self.member.id}
        # What the history had when the client came.
        self.began = client.world.store.first

    async def _receive(self) -> Any:
        return CONNECT

    async def _send(self, message: Any) -> None:
        if not self.is_open:
            raise OSError("the client has left")
        world, kind = self.client.world, message["type"].removeprefix("websocket.")
        if kind == "accept":
            self.client.ids.append(self.member.id)
        elif kind == "close":
            self.break_off()
            if message["reason"].startswith("reads too slowly") and not world.faults:
                world.problem("it was not slow")
        else:
            try:
                self.client.receive(world.parsed(message["text"]))
            except Exception as exc:  # the member would log it
                world.problem(f"the client raised {exc!r}")
            if world.random() < 0.3:
                await asyncio.sleep(world.random() * 0.01)

    def break_off(self) -> None:
        if self.is_open:
            self.is_open, self.client.left = False, self.client.world.now

    async def join(self) -> None:
        world = self.client.world
        is_early = world.random() < 0.3
        if not is_early:
            await self.websocket.accept()
        await self._join()
        if is_early:
            await asyncio.sleep(world.random() * 0.5)
            with suppress(WebSocketDisconnect):  # too many messages have come meanwhile
                await self.websocket.accept()
        if world.random() < 0.2:
            await asyncio.sleep(world.random())
            self._leave_group()
            await asyncio.sleep(world.random() * 0.5)
            self.client.came = world.now
            await self._join()

    async def _join(self) -> None:
        member, hub = self.member, self.hub
        arrival = Arrival(member, hub, GROUP, self.client.world.store.kind, Wish())  # type: ignore[arg-type]
        member.joined["default", GROUP] = hub
        hub.members[GROUP][member.id] = member
        await arrival.run()

    def _leave_group(self) -> None:
        """Leave the group, as the product does, but not the server."""
        member, hub = self.member, self.hub
        member.joined.clear()
        member.leaving(GROUP, hub)
        hub.discard(GROUP, member)
        self.client.left = self.client.world.now

    async def leave(self) -> None:
        self.break_off()
        await self.member.leave()


class World:
    def __init__(self, seed: int, *, faults: bool = True, count: int = 0) -> None:
        self._random = random.Random(seed)
        self.random = self._random.random
        self.choose: Callable[[Any], Any] = self._random.choice
        self.faults = faults
        self.checks = True
        # For how many seconds, at most, a client stays, it stays away, and nothing fails.
        self.stay, self.away, self.calm = 4.0, 2.0, 12.0
        self.troubles: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.save,
            self.outage,
            self.freeze,
            self.clear,
            self.restart,
            self.flush,
            self.roll_back,
            self.kill,
        ]
        self.drop = self._random.choice([0, 0.1, 0.3])
        self.store = FaultyStore(self, count or self._random.choice([30, 100, 300]))
        self.hubs: list[Hub] = []
        self.clients = [*(Client(self) for _ in range(3)), Liar(self)]
        # What was sent and is not kept: when, and where the history stood.
        self.unkept: list[tuple[float, tuple[str, int] | None]] = []
        # By the id of a message, the id of the connection that it excludes.
        self.excluded: dict[str | None, str] = {}
        # How often clients recovered, and how often they were told that something may be missing.
        self.recovered = 0
        self.told = 0
        self.problems: list[str] = []
        self._parsed: tuple[Any, Any] = (None, None)
        self.is_over = False
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers: Counter[str] = Counter()
        self._values = itertools.count()

    def be_hectic(self, *troubles: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let these troubles be frequent, and let clients come and go all the time."""
        self.troubles, self.stay, self.away, self.calm = [*troubles], 0.3, 0.3, 2.0

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def parsed(self, text: str) -> Any:
        """The content of a frame; the members of a process receive the same one in turn."""
        if text is not self._parsed[0]:
            self._parsed = text, json.loads(text)
        return self._parsed[1]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def send(self, message: dict[str, Any], envelope: dict[str, Any]) -> None:
        """The layer: it drops, delays and reorders."""
        if self.random() < 0.5:
            await asyncio.sleep(self.random() * 0.005)
        content, kept = Payload("json", json.dumps(message["id"])), envelope.get("kept")
        place = {"epoch": envelope.get("epoch"), "offset": envelope.get("offset", 0)}
        exclude, sender = envelope.get("exclude"), message["sender"]
        self.carry(Envelope(GROUP, content, exclude, sender, message["number"], **place, kept=kept))

    def carry(self, envelope: Envelope) -> None:
        for hub in self.hubs:
            if self.random() >= self.drop:
                delay = self.random() * (0.004 if self.random() < 0.95 else 0.2)
                asyncio.get_running_loop().call_later(delay, self._arrive, hub, envelope)

    def _arrive(self, hub: Hub, envelope: Envelope) -> None:
        self.spawn(hub.arrive(envelope))

    async def publish(self, sender: str) -> None:
        while not self.is_over:
            await asyncio.sleep(self._random.expovariate(20) if self.random() < 0.8 else self.random() * 2)
            if self.random() < 0.2:
                await self.change()
                continue
            number = self._numbers[sender]
            self._numbers[sender] += 1
            id = f"{sender}.{number}"
            extra = {"from": sender, "number": number, **self._excluding(id)}
            message = {"sender": sender, "number": number, "id": id}

            async def send(envelope: dict[str, Any], message: dict[str, Any] = message) -> None:
                if envelope.get("kept") is False:
                    life = self.store.life
                    self.unkept.append((self.now, life and (life.epoch, life.top)))
                elif self.random() < 0.02:
                    return  # killed between the two steps
                await self.send(message, envelope)

            payload = Payload("json", json.dumps(id))
            with suppress(publishing.GroupSendError):  # not known whether it was sent, and the caller knows
                route = publishing.Route("default", GROUP, dict, send)
                await publishing.publish(route, self.store.kind, payload, extra, None)

    async def change(self) -> None:
        """Set or remove one of the last values."""
        key, value = self.choose("abcdef"), next(self._values)
        with suppress(publishing.GroupSendError):
            await (Group(GROUP).aset(key, value) if value % 5 else Group(GROUP).aunset(key))

    def _excluding(self, id: str) -> dict[str, str]:
        """Exclude, sometimes, a client that sends the message itself, or has sent it before it came back."""
        client = self.choose(self.clients)
        if self.random() < 0.7 or not client.ids:
            return {}
        self.excluded[id] = self.choose(client.ids[-3:])
        return {"exclude": self.excluded[id]}

    async def connect(self, client: Client) -> None:
        """Come and go."""
        while not self.is_over:
            work = self.join(client, self._random.choice(self.hubs))
            await asyncio.sleep(self.random() * (self.stay if self.random() < 0.8 else 0.05))
            if self.is_over:
                return
            await self.part(client, work)
            await asyncio.sleep(self.random() * (self.away if self.random() < 0.9 else 10))

    def join(self, client: Client, hub: Hub) -> asyncio.Task[None]:
        if isinstance(client, Liar):
            client.forge()
        client.connection, client.came = Connection(client, hub), self.now
        return self.spawn(client.connection.join())

    async def part(self, client: Client, work: asyncio.Task[None]) -> None:
        self.leave(client)
        work.cancel()
        await asyncio.wait([work])

    def leave(self, client: Client) -> None:
        if client.connection is not None:
            client.connection.break_off()
            self.spawn(client.connection.leave())

    async def trouble(self) -> None:
        while self.faults and not self.is_over:
            await asyncio.sleep(self.random() * self.calm)
            if self.is_over:
                return
            await self._random.choice(self.troubles)()

    async def save(self) -> None:
        self.store.save()

    async def outage(self, then: Callable[[], None] = lambda: None) -> None:
        self.store.is_up = False
        await asyncio.sleep(self.random() * 3)
        then()
        self.store.is_up = True

    async def freeze(self) -> None:
        """The store answers nobody for a time, and then everybody."""
        self.store.responds.clear()
        await asyncio.sleep(self.random() * 3)
        self.store.responds.set()

    async def clear(self) -> None:
        """Somebody deletes the history, and the news of that travel as fast as the next messages."""
        with suppress(GroupStoreError):
            await Group(GROUP).aclear()

    async def send_news(self, message: dict[str, Any]) -> None:
        envelope = unpack(message)
        assert envelope is not None
        self.carry(envelope)

    async def restart(self) -> None:
        """The store comes back with everything, which nobody can know."""
        await self.outage(self.store.restart)

    async def flush(self) -> None:
        await self.outage(self.store.flush)

    async def roll_back(self) -> None:
        await self.outage(self.store.roll_back)

    async def kill(self) -> None:
        """A process ends, and another one starts."""
        number = self._random.randrange(len(self.hubs))
        dead = self.hubs[number]
        dead.kill()
        for client in self.clients:
            if client.connection is not None and client.connection.hub is dead:
                client.connection.break_off()
        self.hubs[number] = self.begin_hub()

    def begin_hub(self) -> Hub:
        hub = Hub(self)
        self.spawn(hub.check())
        return hub

    async def live(self) -> None:
        self.hubs = [self.begin_hub(), self.begin_hub()]
        for sender in "abc":
            self.spawn(self.publish(sender))
        work = [self.spawn(self.connect(client)) for client in self.clients]
        self.spawn(self.trouble())
        await asyncio.sleep(SECONDS)
        self.is_over = True
        await asyncio.wait(work)
        await asyncio.sleep(10)  # everybody still here has everything
        for client in self.clients:
            connection = client.connection
            if connection is not None and connection.is_open and not connection.hub.is_dead:
                self._check_is_at_the_top(client, "without coming back")
                client.check_state(self.store.life and self.store.life.state)
                if client.lacks_state:
                    self.problem("the values have never come")
            self.leave(client)
            await self.join(client, self.hubs[0])
        await asyncio.sleep(5)
        self._check_at_the_end()

    def _check_is_at_the_top(self, client: Client, when: str) -> None:
        life = self.store.life
        if life is not None and client.position != (life.epoch, life.top):
            self.problem(f"{when} at {client.position}, not {life.epoch}:{life.top}")

    def _check_at_the_end(self) -> None:
        # After a rollback, an offset is given once more, until the first read begins another epoch.
        log: dict[tuple[str | None, int], set[str]] = defaultdict(set)
        for epoch, offset, id in self.store.log:
            log[epoch, offset].add(id)
        for client in self.clients:
            self._check_is_at_the_top(client, "in the end")
            client.check_state(self.store.life and self.store.life.state)
            self._check_trail(client, log)

    def _check_trail(self, client: Client, log: dict[tuple[str | None, int], set[str]]) -> None:
        at: tuple[str | None, int] | None = None
        seen: Counter[str] = Counter()
        for what, epoch, offset, id in client.trail:
            if what == "message":
                seen[id or ""] += id is not None
                if id is not None and id not in log[epoch, offset]:
                    self.problem(f"{id} is not {epoch}:{offset}")
                if at is not None and at[0] is not None and at != (epoch, offset - 1):
                    self.problem(f"{at} is followed by {epoch}:{offset}")
            at = (epoch, offset)
        repeated = [id for id, count in seen.items() if count > 1 or id in client.unkept]
        if repeated and not isinstance(client, Liar):
            self.problem(f"twice: {repeated[:5]}")


def run(world: World, monkeypatch: Any) -> World:
    """Let the world live, on a clock of its own."""
    loop = VirtualLoop()
    breaker = FakeBreaker(world.store)
    with monkeypatch.context() as patch:  # undone now: it would keep this world, and its tasks, alive
        patch.setattr(feeds, "store_of", lambda alias: world.store)
        patch.setitem(conf.DEFAULTS, "SLOW_CONSUMER_QUEUE", QUEUE)
        patch.setattr(keeping, "store_of", lambda alias: world.store)
        patch.setattr(keeping, "kind_with", lambda *arguments: world.store.kind)
        patch.setattr(Group, "_asend", world.send_news)
        patch.setattr(publishing, "spliced_layer", lambda alias, store: None)
        for module in (publishing, feeds):
            patch.setattr(module, "breaker_of", lambda alias: breaker)
        try:
            loop.run_until_complete(world.live())
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
    return world


__all__ = ["FaultyStore", "World", "arrivals", "run"]
