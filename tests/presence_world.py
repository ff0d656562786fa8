"""The keeper, the list and the store of presence on a virtual clock; the store fails, the layer loses."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.keeper import Keeper
from fastws_compat.groups.roster import Diff, People
from fastws_compat.groups.seats import MemorySeats, Seat, Tick
from fastws_compat.groups.watch import Watch

GROUP = "room"
LEASE, TICK, CHECK, LINGER = 20.0, 5.0, 5.0, 10.0


class VirtualSelector(selectors.DefaultSelector):
    """Time passes only while nothing is to be done."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for ever"
        self.now += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(world: Callable[[], Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(world())


class Store:
    """The product's memory store behind a network: slow, sometimes away, and answers get lost."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.is_up = True
        self.is_frozen = False
        self.wipe()

    def wipe(self) -> None:
        self.inner = MemorySeats(lambda: asyncio.get_running_loop().time())

    async def _call(self, name: str, *args: Any) -> Any:
        await self._wait()
        if not self.is_up:
            raise OSError("the store is away")
        answer = await getattr(self.inner, name)(*args)
        await self._wait()
        if not self.is_up or self.random.random() < 0.02:
            raise OSError("the answer is lost")
        return answer

    async def _wait(self) -> None:
        await asyncio.sleep(self.random.random() * 0.01)
        while self.is_frozen:
            await asyncio.sleep(0.05)

    async def enter(self, group: str, process: str, seats: Sequence[Seat]) -> Diff:
        return await self._call("enter", group, process, seats)

    async def leave(self, group: str, process: str, sockets: Sequence[str]) -> Diff:
        return await self._call("leave", group, process, sockets)

    async def tick(self, process: str, lease: float) -> Tick:
        return await self._call("tick", process, lease)

    async def release(self, process: str, seconds: float) -> None:
        await self._call("release", process, seconds)

    async def groups_of(self, process: str) -> list[str]:
        return await self._call("groups_of", process)

    async def reap(self, group: str, process: str) -> tuple[Diff, bool]:
        return await self._call("reap", group, process)

    async def versions(self, groups: Sequence[str]) -> list[tuple[str, int]]:
        return await self._call("versions", groups)

    async def people(self, group: str) -> tuple[str, int, People]:
        return await self._call("people", group)

    def abandon(self, process: str) -> None:
        """A process that is killed says nothing."""


class Link:
    """The way of one process to the store; while the process is stopped, nothing passes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.abandon = store.abandon
        self.open = asyncio.Event()
        self.open.set()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)

        async def passed(*args: Any) -> Any:
            await self.open.wait()
            return await call(*args)

        return passed


class Layer:
    """Loses a share of the changes, and lets others overtake."""

    def __init__(self, random: Random, loss: float) -> None:
        self.random = random
        self.loss = loss
        self.hubs: list[Hub] = []
        # The changes that processes have made in the store, as they tell them to receivers of signals.
        self.told: list[Diff] = []

    def send(self, diff: Diff) -> None:
        loop = asyncio.get_running_loop()
        for hub in list(self.hubs):
            if self.random.random() >= self.loss:
                loop.call_later(self.random.random() * 0.02, hub.watch.apply, diff)


class Screen:
    """What a client of live.js makes of the frames, and what it shows as joins and leaves."""

    id = "screen"

    def __init__(self) -> None:
        self.people: dict[str, Any] = {}
        self.joined: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.last_left = 0.0

    def tell(self, told: Frame) -> None:
        frame = json.loads(told.message["text"])
        if "all" in frame:
            frame |= {"joined": frame["all"], "left": [], "changed": {}}
            frame["left"] = [key for key in self.people if key not in frame["all"]]
        for key, info in frame["joined"].items():
            self.joined[key] += key not in self.people
            self.people[key] = info
        for key in frame["left"]:
            self.left[key] += 1
            self.last_left = asyncio.get_running_loop().time()
            del self.people[key]
        for key, info in frame["changed"].items():
            assert key in self.people
            self.people[key] = info
        assert frame["count"] == len(self.people)


class Hub:
    """A process: a keeper, and a list that one client sees."""

    def __init__(self, store: Store, layer: Layer) -> None:
        self.layer = layer
        self.link = link = Link(store)
        self.keeper = Keeper(link, self.tell)
        self.watch = Watch(GROUP, link, 1000)
        self.screen = Screen()
        self.is_alive = True
        layer.hubs.append(self)
        self.watch.add(self.screen, "")
        self.checks = asyncio.get_running_loop().create_task(self._check())

    def tell(self, group: str, diff: Diff) -> None:
        self.layer.told.append(diff)
        self.watch.apply(diff)
        self.layer.send(diff)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK)
            try:
                async with asyncio.timeout(5):
                    [(epoch, version)] = await self.link.versions([GROUP])
            except (OSError, TimeoutError):
                self.watch.roster.stale = True
            else:
                self.watch.roster.check(epoch, version)
            self.watch.refresh()

    def kill(self) -> None:
        self.is_alive = False
        self.layer.hubs.remove(self)
        self.checks.cancel()
        self.watch.stop()
        if self.keeper.task is not None:
            self.keeper.task.cancel()


class World:
    """Three processes, and users with one socket or two."""

    def __init__(self, seed: int, users: int = 20) -> None:
        self.random = Random(seed)
        self.store = Store(self.random)
        self.layer = Layer(self.random, self.random.choice([0, 0.1, 0.3]))
        self.hubs = [Hub(self.store, self.layer) for _ in range(3)]
        self.sockets: dict[str, dict[str, Hub]] = {}
        self.number = 0
        self.users = users

    async def fill(self) -> None:
        for number in range(self.users):
            for _ in range(self.random.choice([1, 1, 2])):
                self.connect(f"u{number}", self.random.choice(self.hubs))
        await asyncio.sleep(30)
        for hub in self.hubs:
            hub.screen.joined.clear()
            hub.screen.left.clear()
        self.layer.told.clear()
        self.begun = asyncio.get_running_loop().time()

    def connect(self, user: str, hub: Hub) -> None:
        self.number += 1
        id = f"s{self.number}"
        is_urgent = user not in hub.watch.roster.people
        hub.keeper.enter(GROUP, Seat(id, user, f'"{user}"'), is_urgent=is_urgent)
        self.sockets.setdefault(user, {})[id] = hub

    def disconnect(self, user: str, *, at_once: bool) -> None:
        id, hub = self.sockets[user].popitem()
        hub.keeper.exit(GROUP, id, 0 if at_once else LINGER)

    def replace(self, index: int) -> Hub:
        """Start another process in the place of one that is killed."""
        old = self.hubs[index]
        old.kill()
        self.hubs[index] = Hub(self.store, self.layer)
        return old

    def move(self, hub: Hub, seconds: float) -> None:
        """The users of a process come back to others."""
        for user, sockets in self.sockets.items():
            for id in [id for id, at in sockets.items() if at is hub]:
                del sockets[id]
                delay = self.random.random() * seconds
                asyncio.get_running_loop().call_later(
                    delay, lambda user=user: self.connect(user, self.random.choice(self.hubs))
                )

    def forget(self, hub: Hub) -> set[str]:
        """The users of a process stay away; return those who have no other socket."""
        for sockets in self.sockets.values():
            for id in [id for id, at in sockets.items() if at is hub]:
                del sockets[id]
        return {user for user, sockets in self.sockets.items() if not sockets}

    @property
    def present(self) -> set[str]:
        return {user for user, sockets in self.sockets.items() if sockets}

    @property
    def left(self) -> set[str]:
        return {key for hub in self.hubs for key in hub.screen.left}

    async def settled(self, seconds: float = 90) -> list[str]:
        """What is wrong once all is quiet."""
        await asyncio.sleep(seconds)
        wrong = []
        book = self.store.inner._books.get(GROUP)
        if set(book.people if book else ()) != self.present:
            wrong.append("the store differs")
        for hub in self.hubs:
            if set(hub.watch.roster.people) != self.present:
                wrong.append("a list differs")
            if set(hub.screen.people) != self.present:
                wrong.append("a client sees others")
        return wrong
