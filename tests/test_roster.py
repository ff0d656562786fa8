"""Presence under random faults, on a virtual clock, in the scenarios of the specification's model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastws_compat.groups.keeper import Keeper
from fastws_compat.groups.roster import Diff, Roster
from fastws_compat.groups.seats import Book, Leases, MemorySeats, Seat
from tests.presence_world import CHECK, LEASE, LINGER, TICK, World, run
from tests.sizes import size

EXAMPLES = size("FASTWS_EXAMPLES", 40, 1000)


async def churn(world: World) -> list[str]:
    """Users come and go, some with a second tab."""
    for _ in range(100):
        await asyncio.sleep(world.random.random() * 0.3)
        user = f"u{world.random.randrange(world.users + 10)}"
        if world.sockets.get(user) and world.random.random() < 0.5:
            world.disconnect(user, at_once=world.random.random() < 0.5)
        else:
            world.connect(user, world.random.choice(world.hubs))
    return await world.settled()


async def deploy(world: World) -> list[str]:
    """Each process is replaced in turn, and its users come back within the linger."""
    for index in range(3):
        await world.hubs[index].keeper.release(LINGER)
        world.move(world.replace(index), 5)
        await asyncio.sleep(8)
    return await world.settled() + events(world)


async def kill(world: World) -> list[str]:
    """A process dies, and its users come back to others."""
    world.move(world.replace(0), 8)
    return await world.settled() + events(world)


async def dead(world: World) -> list[str]:
    """A process dies, and its users stay away."""
    gone = world.forget(world.replace(0))
    wrong = await world.settled()
    if world.left != gone:
        wrong.append("others have left than those who are gone")
    for hub in world.hubs:
        if hub.screen.last_left - world.begun > LEASE + TICK + CHECK + 1:
            wrong.append("they left late")
    return wrong


async def freeze(world: World) -> list[str]:
    """The store answers nobody for a time."""
    world.store.is_frozen = True
    await asyncio.sleep(world.random.choice([12, 30, 60]))
    world.store.is_frozen = False
    return await world.settled() + events(world)


async def flush(world: World) -> list[str]:
    """The store comes back empty."""
    world.store.is_up = False
    await asyncio.sleep(world.random.random() * 5)
    world.store.wipe()
    world.store.is_up = True
    return await world.settled() + events(world)


async def wiped(world: World) -> list[str]:
    """The store loses everything, and users of a process that has died with it stay away."""
    world.forget(world.replace(0))
    world.store.wipe()
    return await world.settled()


async def reload(world: World) -> list[str]:
    """Every user closes the page, and opens it again before anybody would miss them."""
    for user in list(world.sockets):
        while world.sockets[user]:
            world.disconnect(user, at_once=False)
        delay = world.random.random() * (LINGER - 2)
        hub = world.random.choice(world.hubs)
        asyncio.get_running_loop().call_later(delay, world.connect, user, hub)
    return await world.settled() + events(world)


async def lost_reaper(world: World) -> list[str]:
    """The process that finds a dead process is not told which groups that process was in."""
    groups_of, losses = world.store.groups_of, iter(range(2))

    async def answer(process: str) -> list[str]:
        found = await groups_of(process)
        if next(losses, None) is not None:
            raise OSError("the answer is lost")
        return found

    world.store.groups_of = answer  # type: ignore[method-assign]
    world.forget(world.replace(0))
    return await world.settled()


async def away(world: World) -> list[str]:
    """The store is away for a time, and comes back as it was."""
    world.store.is_up = False
    await asyncio.sleep(world.random.choice([3, 15, 40]))
    world.store.is_up = True
    return await world.settled() + events(world)


async def stop(world: World) -> list[str]:
    """A process is stopped for a minute, and its sockets live on when it continues."""
    link = world.hubs[0].link
    link.open.clear()
    await asyncio.sleep(60)
    link.open.set()
    return await world.settled()


FAULTS = (kill, dead, freeze, flush, wiped, away, stop, lost_reaper)
SCENARIOS = {each.__name__: each for each in (churn, reload, deploy, *FAULTS)}


def events(world: World) -> list[str]:
    """Whether a client saw somebody leave or join although nobody did, or a signal says so."""
    joined = [key for hub in world.hubs for key in hub.screen.joined if hub.screen.left[key]]
    told = [key for diff in world.layer.told for key in (*(diff.joined.keys() - diff.again), *diff.left)]
    wrong = {"left": sorted(world.left), "again": joined, "signals": told}
    return [f"{what}: {keys}" for what, keys in wrong.items() if keys]


def outcome(seed: int, scenario: Callable[[World], Awaitable[list[str]]], users: int = 20) -> list[str]:
    async def play() -> list[str]:
        world = World(seed, users)
        await world.fill()
        wrong = await scenario(world)
        for hub in world.hubs:
            hub.kill()
        return wrong

    found: list[str] = run(play)
    return found


@pytest.mark.sized
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(SCENARIOS)))
def test_nobody_is_lost_and_nobody_remains(seed: int, name: str) -> None:
    assert outcome(seed, SCENARIOS[name]) == []


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_each_scenario_ends_well(name: str) -> None:
    assert [outcome(seed, SCENARIOS[name], 8) for seed in range(2)] == [[], []]


def without_gaps(self: Roster, diff: Diff) -> None:
    """Apply whatever comes, in the order in which it comes."""
    self.version = diff.version - 1
    self._pending[diff.version] = diff
    self._apply_pending()


async def end_at_once(self: MemorySeats, process: str, seconds: float) -> None:
    self._leases.ends[process] = self._clock()


def sit_again(self: Book, process: str, seat: Seat) -> bool:
    """Count a socket each time that it is registered."""
    self.sockets.setdefault(process, {})[seat.socket] = seat.key
    self.counts[seat.key] += 1
    return True


def exit_at_once(self: Keeper, group: str, socket: str, linger: float = 0) -> None:
    self._exit(group, socket)


async def strike_first(self: MemorySeats, process: str) -> list[str]:
    """Forget a dead process before its sockets have been removed."""
    self._strike(process)
    return [group for group, book in self._books.items() if process in book.sockets]


def tell_everything(self: Keeper, group: str, diff: Diff) -> None:
    """Tell that somebody has joined whose presence the store had only lost."""
    if diff:
        self._tell(group, replace(diff, again=frozenset()))


MUTATIONS: dict[str, tuple[Any, str, Any, str]] = {
    "nobody registers again": (Keeper, "_register_again", lambda self: None, "flush"),
    "the returned are not told that they were gone": (Leases, "forget", lambda self, process: None, "stop"),
    "the dead are judged at once": (Leases, "is_quiet", lambda self, now: False, "freeze"),
    "who is unknown leaves at once": (Roster, "_doubt", lambda self, keys, now: None, "flush"),
    "a deploy is a leave": (MemorySeats, "release", end_at_once, "deploy"),
    "a gap is not seen": (Roster, "apply", without_gaps, "churn"),
    "nothing is checked": (Roster, "check", lambda self, epoch, version: None, "churn"),
    "every tab counts": (Book, "_is_last", lambda self, key: True, "churn"),
    "what is repeated counts again": (Book, "_sit", sit_again, "churn"),
    "nobody has time to come back": (Keeper, "exit", exit_at_once, "reload"),
    "the dead are forgotten before they are removed": (MemorySeats, "groups_of", strike_first, "lost_reaper"),
    "nobody looks again": (Roster, "is_due", lambda self, now: self.stale, "wiped"),
    "who is registered again joins again": (Keeper, "_told", tell_everything, "flush"),
    "nobody removes the dead": (Keeper, "_reap", lambda self, process: asyncio.sleep(0), "dead"),
}


@pytest.mark.parametrize("rule", MUTATIONS)
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, mutation, scenario = MUTATIONS[rule]
    monkeypatch.setattr(owner, name, mutation)

    assert any(outcome(seed, SCENARIOS[scenario], 8) for seed in range(40))
