"""What `test_presence.py` cannot reach: faults, checks, versions, and the stores of real layers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import channel_layers

from fastws_compat.exceptions import GroupStoreError
from fastws_compat.groups import Group, Store, attendance, seating
from fastws_compat.groups.attendance import Attendance, attendance_of, diffs_group, release_all
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.keeper import Keeper
from fastws_compat.groups.redis_seats import RedisSeats
from fastws_compat.groups.roster import MAX_DIFFS, Diff, Roster
from fastws_compat.groups.seats import MemorySeats, Seat
from fastws_compat.groups.stores import StoreError
from fastws_compat.groups.watch import Watch
from fastws_compat.layers import client as layers
from fastws_compat.signals import presence_joined, presence_left
from tests.fake_server import until
from tests.redis_server import RedisServer, running
from tests.redis_server import redis_server as redis_server

GROUPS = {"room.*": {"presence": {"linger": 7}}}


class OwnStore(Store):
    """A project's history, which knows nothing of presence."""


class Screen:
    """A member that sees who is present."""

    def __init__(self) -> None:
        self.id = "screen"
        self.frames: list[dict[str, Any]] = []
        self.people: dict[str, Any] = {}

    def tell(self, frame: Frame) -> None:
        told = json.loads(frame.message["text"])
        self.frames.append(told)
        people = {**told.get("all", self.people), **told.get("joined", {}), **told.get("changed", {})}
        self.people = {key: info for key, info in people.items() if key not in told.get("left", ())}

    async def next(self, number: int) -> dict[str, Any]:
        """The frame with this number, once it is there."""
        await until(lambda: len(self.frames) > number)
        return self.frames[number]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": GROUPS, "CHECK_SECONDS": 0.05}
    layers.local_layer.cache_clear()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


def seat(socket: str, key: str) -> Seat:
    return Seat(socket, key, f'"{key}"')


def seats_here() -> MemorySeats:
    found = seating.seats_of("default", "room.1")
    assert isinstance(found, MemorySeats)
    return found


async def watched(here: Attendance, screen: Screen, version: str = "") -> None:
    await here.watch(screen.id, "room.1")
    here.show(screen, "room.1", version)  # type: ignore[arg-type]


def test_a_change_that_the_layer_lost_is_found_at_the_next_check() -> None:
    async def steps() -> None:
        here, screen = attendance_of("default"), Screen()
        await watched(here, screen)
        assert (await screen.next(0))["all"] == {}
        # Another process tells nobody.
        await seats_here().enter("room.1", "other", [seat("a", "7")])
        assert (await screen.next(1))["joined"] == {"7": "7"}
        here.leave(screen.id, "room.1")
        here.leave(screen.id, "room.1")
        await until(lambda: here._tasks["checks"].done())

    asyncio.run(steps())


def test_who_only_watches_sees_that_another_process_has_died(settings: Any) -> None:
    settings.FASTWS = {**settings.FASTWS, "PRESENCE_TTL": 0.1}

    async def steps() -> None:
        here, screen, seats = attendance_of("default"), Screen(), seats_here()
        await seats.tick("dead", 0.1)
        await seats.enter("room.1", "dead", [seat("a", "7")])
        await watched(here, screen)
        assert (await screen.next(0))["all"] == {"7": "7"}
        assert (await screen.next(1))["left"] == ["7"]
        [keeper] = here._keepers.values()
        here.leave(screen.id, "room.1")
        await until(lambda: keeper.task is None)

    asyncio.run(steps())


def test_a_change_that_was_overtaken_is_waited_for() -> None:
    async def steps() -> None:
        seats, screen = MemorySeats(), Screen()
        watch = Watch("room.1", seats, 10)
        watch.add(screen, "")
        await screen.next(0)
        first = await seats.enter("room.1", "p", [seat("a", "1")])
        second = await seats.enter("room.1", "p", [seat("b", "2")])
        watch.apply(second)
        watch.apply(first)
        assert watch.roster.version == 2
        assert (await screen.next(1))["joined"] == {"1": "1", "2": "2"}
        await asyncio.sleep(0.06)  # the gap has been filled by then
        third = await seats.leave("room.1", "p", ["a"])
        fourth = await seats.leave("room.1", "p", ["b"])
        assert third
        watch.apply(fourth)  # the third is lost
        assert sorted((await screen.next(2))["left"]) == ["1", "2"]
        watch.stop()

    asyncio.run(steps())


def test_a_store_that_fails_delays_the_list_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws_compat.groups.watch.RETRY_INTERVAL", 0.01)
    monkeypatch.setattr("fastws_compat.groups.keeper.RETRY_INTERVAL", 0.01)
    fails = 3

    def failing(name: str) -> None:
        works = getattr(MemorySeats, name)

        async def call(self: MemorySeats, *args: Any) -> Any:
            nonlocal fails
            if fails:
                fails -= 1
                raise StoreError("away")
            return await works(self, *args)

        monkeypatch.setattr(MemorySeats, name, call)

    for name in ("people", "versions", "tick"):
        failing(name)

    async def steps() -> None:
        here, screen = attendance_of("default"), Screen()
        await watched(here, screen)
        await here.enter("m", "room.1", "7", "null")
        await until(
            lambda: screen.frames and "7" in screen.frames[-1].get("joined", screen.frames[-1].get("all"))
        )
        here.leave("m", "room.1")
        here.leave(screen.id, "room.1")
        await until(lambda: not here._keepers[seats_here()].task)

    asyncio.run(steps())


def test_a_layer_that_fails_is_no_error_of_the_member(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    async def steps() -> None:
        here = attendance_of("default")
        monkeypatch.setattr(type(layers.layer_of("default")), "group_send", None)
        with caplog.at_level(logging.DEBUG, "fastws_compat"):
            await here.enter("m", "room.1", "7", "null")
            await until(lambda: not here._sending)
        here.leave("m", "room.1")
        await until(lambda: not here._sending)

    asyncio.run(steps())
    assert "late" in caplog.text


def test_a_frame_that_cannot_be_sent_is_logged(caplog: Any) -> None:
    class Broken(Screen):
        def tell(self, frame: Frame) -> None:
            raise ValueError("broken")

    async def steps() -> None:
        watch = Watch("room.1", MemorySeats(), 10)
        watch.add(Broken(), "")
        await until(lambda: "could not be sent" in caplog.text)
        watch.stop()

    asyncio.run(steps())


def test_more_viewers_than_one_turn_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws_compat.groups.watch.MAX_DELIVERIES_IN_A_ROW", 1)

    async def steps() -> None:
        watch = Watch("room.1", MemorySeats(), 10)
        screens = [Screen() for _ in range(3)]
        for number, screen in enumerate(screens):
            screen.id = str(number)
            watch.add(screen, "")
        # The last one leaves while the others are told.
        screens[0].tell = lambda frame: watch.discard("2")  # type: ignore[method-assign,assignment]
        await until(lambda: screens[1].frames)
        await asyncio.sleep(0)
        assert screens[2].frames == []
        watch.stop()

    asyncio.run(steps())


def test_at_a_shutdown_nobody_leaves_and_the_lease_ends_after_the_linger() -> None:
    async def steps() -> None:
        here = attendance_of("default")
        await here.enter("m", "room.1", "7", "null")
        seats, keeper = seats_here(), here._keepers[seats_here()]
        await release_all()
        here.leave("m", "room.1")

        assert await seats.count("room.1") == 1
        assert 6 < seats._leases.ends[keeper.process] - seats._clock() <= 7
        assert (await seats.reap("room.1", keeper.process))[1] is False
        await release_all()  # again: nothing is left to do
        seats.abandon(keeper.process)

    asyncio.run(steps())


def test_who_joins_in_the_moment_of_a_shutdown_does_not_wait() -> None:
    async def steps() -> None:
        entering = asyncio.ensure_future(attendance_of("default").enter("m", "room.1", "7", "null"))
        await asyncio.sleep(0)
        await release_all()
        async with asyncio.timeout(20):
            await entering

    asyncio.run(steps())


def test_the_end_of_a_loop_without_a_shutdown_leaves_nobody_in_memory() -> None:
    async def steps() -> MemorySeats:
        await attendance_of("default").enter("m", "room.1", "7", "null")
        return seats_here()

    seats = asyncio.run(steps())
    assert asyncio.run(seats.count("room.1")) == 0


def test_a_place_in_another_process_is_kept_after_1012(settings: Any) -> None:
    settings.FASTWS = {"GROUPS": GROUPS, "SHUTDOWN_GRACE": 3}
    assert [attendance._linger("room.1", code) for code in (1000, None, 1012, 4401, 4403)] == [7, 7, 10, 0, 0]


def test_long_names_get_a_group_for_changes_too() -> None:
    assert diffs_group("room.1") == "fastws.presence.room.1"
    assert len(diffs_group("r" * 99)) < 100


def test_who_is_not_in_a_group_is_shown_nothing() -> None:
    async def steps() -> None:
        here, screen = Attendance("default"), Screen()
        here.show(screen, "room.1", None)  # type: ignore[arg-type]
        await here.enter(screen.id, "room.1", "7", "null")
        here.show(screen, "room.1", None)  # type: ignore[arg-type]
        assert screen.frames == []
        here.leave(screen.id, "room.1")
        await until(lambda: not here._keepers[seats_here()].task)

    asyncio.run(steps())


def test_a_member_outside_of_a_connection_has_no_end() -> None:
    async def steps() -> None:
        member: Any = SimpleNamespace(id="m", websocket=SimpleNamespace(scope={}))
        Attendance("default").expect_end(member)

    asyncio.run(steps())


def test_a_list_that_is_older_than_the_copy_is_dropped() -> None:
    roster = Roster(20)
    roster.compare("e", 2, {"a": "1"}, 0)
    roster.compare("e", 1, {}, 0)
    assert roster.people == {"a": "1"}
    roster.apply(Diff("e", 2, {"b": "1"}))
    assert roster.people == {"a": "1"}


def test_who_is_shown_the_list_again_gets_what_has_changed_since_the_last_frame() -> None:
    """The version in the URL is older: a person who has come and gone since then is in the client's list."""

    async def steps() -> None:
        seats, screen = MemorySeats(), Screen()
        watch = Watch("room.1", seats, 10)
        await seats.enter("room.1", "p", [seat("a", "1")])
        watch.add(screen, "")
        known = (await screen.next(0))["version"]
        watch.apply(await seats.enter("room.1", "p", [seat("b", "2")]))
        assert (await screen.next(1))["joined"] == {"2": "2"}
        watch.apply(await seats.leave("room.1", "p", ["b"]))
        watch.add(screen, known)
        assert (await screen.next(2))["left"] == ["2"]
        watch.stop()

    asyncio.run(steps())


def test_a_version_is_known_as_long_as_its_changes() -> None:
    roster = Roster(20)
    roster.compare("e", 0, {"a": "1"}, 0)
    roster.apply(Diff("e", 1, {"b": "1"}))
    roster.apply(Diff("e", 2, {}, ["a"], {"b": "2"}))
    roster.apply(Diff("e", 3, {"c": "1"}))
    roster.apply(Diff("e", 4, {}, ["c"]))

    assert roster.since("e.4") is not None
    assert not roster.since("e.4")
    since = roster.since("e.0")
    assert since is not None
    assert (since.joined, since.left, since.changed) == ({"b": "2"}, ["a"], {})
    since = roster.since("e.1")
    assert since is not None
    assert (since.joined, since.left, since.changed) == ({}, ["a"], {"b": "2"})
    for number in range(5, 5 + MAX_DIFFS):
        roster.apply(Diff("e", number, {}, [], {"b": str(number)}))
    assert roster.since("e.1") is None
    assert roster.since("x.1") is None


def test_nobody_knows_a_version_in_which_somebody_is_unsure() -> None:
    roster = Roster(20)
    roster.compare("e", 1, {"a": "1"}, 0)
    roster.compare("f", 0, {}, 0)
    roster.stale = False

    assert roster.people == {"a": "1"}
    assert roster.since(roster.name) is None
    assert not roster.is_due(19)
    assert roster.is_due(20)
    roster.compare("f", 0, {}, 20)
    assert roster.people == {}


@pytest.mark.redis
def test_on_redis_each_server_has_its_own_seats(server: RedisServer, settings: Any) -> None:
    config = {"hosts": [*server.hosts, {"address": f"redis://127.0.0.1:{server.port}/1"}]}
    backend = "channels_redis.core.RedisChannelLayer"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    found = {seating.seats_of("default", f"room.{number}") for number in range(50)}
    assert len(found) == 2
    assert all(isinstance(each, RedisSeats) for each in found)

    settings.FASTWS = {"GROUPS": GROUPS, "STORE": f"{__name__}.OwnStore"}
    assert isinstance(seating.seats_of("default", "room.1"), RedisSeats)


@pytest.mark.redis
def test_what_redis_refuses_is_an_error_of_the_store(server: RedisServer, settings: Any) -> None:
    backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": server.hosts}}}

    async def steps() -> None:
        from redis import asyncio as aioredis

        seats: Any = seating.seats_of("default", "room.1")
        seats.abandon("p")
        async with aioredis.Redis.from_url(server.url) as redis:
            run = (await redis.info("server"))["run_id"]
            for part in ("pm", "p"):
                await redis.set(f"{seats._of('room.1', part)}:{run[:8]}", "no hash")
        with pytest.raises(StoreError):
            await seats.versions(["room.1"])
        with pytest.raises(GroupStoreError):
            await Group("room.1").apresence()

    asyncio.run(steps())


def test_a_keeper_that_has_stopped_takes_nobody() -> None:
    async def steps() -> None:
        seats = MemorySeats()
        keeper = Keeper(seats, lambda group, diff: None)
        await keeper.release(0)
        keeper.enter("room.1", seat("a", "7"))
        async with asyncio.timeout(10):
            await keeper.wait_settled("room.1")
        assert keeper.task is None
        assert await seats.count("room.1") == 0

    asyncio.run(steps())


class Heard:
    """What the signals have told."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, str]] = []

    def join(self, key: str, **values: Any) -> None:
        self.signals.append(("joined", key))

    def leave(self, key: str, **values: Any) -> None:
        self.signals.append(("left", key))


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    presence_joined.connect(heard.join)
    presence_left.connect(heard.leave)
    yield heard
    presence_joined.disconnect(heard.join)
    presence_left.disconnect(heard.leave)


@pytest.mark.redis
@pytest.mark.parametrize("backend", ["pubsub.RedisPubSubChannelLayer", "core.RedisChannelLayer"])
@pytest.mark.parametrize("fault", ["flushed", "restored", "restarted"])
def test_a_redis_that_has_lost_something_is_no_event(
    fault: str, backend: str, redis_server: RedisServer, settings: Any, heard: Heard
) -> None:
    """Afterwards the list has all who are present and nobody else, and no signal is sent a second time."""
    layer = {"BACKEND": f"channels_redis.{backend}", "CONFIG": {"hosts": redis_server.hosts}}
    settings.CHANNEL_LAYERS = {"default": layer}
    settings.FASTWS = {
        "GROUPS": GROUPS,
        "PRESENCE_TTL": 0.8,
        "CHECK_SECONDS": 0.1,
        "STORE_DURABLE": fault == "restarted",
    }

    async def steps() -> None:
        from redis import asyncio as aioredis

        here, other, screen = attendance_of("default"), Attendance("default"), Screen()
        await here.enter("ann", "room.1", "ann", '"ann"')
        await here.enter("eve", "room.1", "eve", '"eve"')
        await watched(here, screen)
        await until(lambda: screen.people.keys() == {"ann", "eve"})
        async with aioredis.Redis.from_url(redis_server.url) as redis:
            await redis.save()
            here.leave("eve", "room.1")
            await other.enter("bob", "room.1", "bob", '"bob"')
            await until(lambda: screen.people.keys() == {"ann", "bob"})
            await until(lambda: len(heard.signals) == 4)
            screen.frames.clear()
            if fault == "flushed":
                await redis.flushall()
            elif fault == "restarted":
                await redis.save()
        if fault != "flushed":
            redis_server.kill()
            redis_server.start()
        seats: Any = seating.seats_of("default", "room.1")
        async with asyncio.timeout(20):
            while (await known(seats)) != {"ann", "bob"}:
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)  # longer than anybody would be waited for
        assert await known(seats) == {"ann", "bob"}
        assert screen.people.keys() == {"ann", "bob"}
        assert [frame for frame in screen.frames if frame.get("joined") or frame.get("left")] == []
        assert sorted(heard.signals) == [
            ("joined", "ann"),
            ("joined", "bob"),
            ("joined", "eve"),
            ("left", "eve"),
        ]
        here.leave("ann", "room.1")
        other.leave("bob", "room.1")
        await until(lambda: len(heard.signals) == 6)
        assert sorted(heard.signals[4:]) == [("left", "ann"), ("left", "bob")]
        here.leave(screen.id, "room.1")
        for each in (here, other):
            await until(lambda each=each: not each._keepers[seats].task)
        used = channel_layers["default"]
        await (used.flush() if "pubsub" in backend else used.close_pools())

    asyncio.run(steps())


@pytest.mark.parametrize("is_noticed", [False, True], ids=["at once", "after a check"])
def test_another_tab_in_a_store_that_has_lost_everything_is_no_event(heard: Heard, is_noticed: bool) -> None:
    """The first tab has not been registered again yet."""

    async def steps() -> None:
        here, screen = attendance_of("default"), Screen()
        await watched(here, screen)
        await here.enter("one", "room.1", "7", "1")
        await until(lambda: screen.people.keys() == {"7"})
        roster = here._watches["room.1"][0].roster
        epoch = roster.epoch
        seats_here()._books.clear()
        if is_noticed:
            await until(lambda: roster.epoch != epoch)
        await here.enter("two", "room.1", "7", "2")
        await here.enter("new", "room.1", "8", "2")
        await until(lambda: ("joined", "8") in heard.signals)
        assert heard.signals == [("joined", "7"), ("joined", "8")]
        here.end(screen.id, 4401)
        for id in ("one", "two", "new"):
            here.leave(id, "room.1")
        await until(lambda: not here._keepers[seats_here()].task)

    asyncio.run(steps())


def test_a_store_that_has_lost_everything_has_the_newest_info_again(settings: Any) -> None:
    settings.FASTWS = {**settings.FASTWS, "PRESENCE_TTL": 0.2}

    async def steps() -> None:
        here, seats = attendance_of("default"), seats_here()
        await here.enter("one", "room.1", "7", '"free"')
        await here.enter("two", "room.1", "7", '"free"')
        await here.update("one", "room.1", '"busy"')
        seats._books.clear()
        seats._leases.tokens.clear()
        await until(lambda: "room.1" in seats._books)
        assert seats._books["room.1"].counts["7"] == 2
        assert seats._books["room.1"].people == {"7": '"busy"'}
        here.leave("one", "room.1")
        here.leave("two", "room.1")
        await until(lambda: not here._keepers[seats].task)

    asyncio.run(steps())


async def known(seats: Any) -> set[str]:
    """Who is present, as far as the store says."""
    try:
        return {*await seats.listed("room.1")}
    except StoreError:
        return set()


class Calls(MemorySeats):
    """Seats that note which sockets each call has registered or removed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, list[str]]] = []

    async def enter(self, group: str, process: str, found: Any) -> Diff:
        self.calls.append(("enter", [each.socket for each in found]))
        return await super().enter(group, process, found)

    async def leave(self, group: str, process: str, sockets: Any) -> Diff:
        self.calls.append(("leave", list(sockets)))
        return await super().leave(group, process, sockets)


def test_sockets_that_make_no_difference_are_registered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deploy with thousands of users who come back costs few calls, and nobody waits for them."""
    monkeypatch.setattr("fastws_compat.groups.keeper.COLLECTING", 0.05)
    seats, here, screen = Calls(), Attendance("default"), Screen()
    monkeypatch.setattr(attendance, "seats_of", lambda alias, group: seats)

    async def steps() -> None:
        users = [str(number) for number in range(20)]
        for user in users:  # at first nobody shows who is there
            await here.enter(f"old {user}", "room.1", user, "null")
        await watched(here, screen)
        await screen.next(0)
        seats.calls.clear()
        for user in users:
            await here.enter(f"new {user}", "room.1", user, "null")
            await asyncio.sleep(0)
        await here.enter("new", "room.1", "new", "null")
        await here.enter("other info", "room.1", "0", "1")
        assert [len(sockets) for _, sockets in seats.calls] == [1, 1]
        await until(lambda: len(seats.calls) == 3)
        assert len(seats.calls[2][1]) == 20
        assert (await seats.listed("room.1"))["1"].sockets == 2
        here.leave(screen.id, "room.1")

    asyncio.run(steps())


def test_who_opens_a_tab_and_closes_another_has_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seats, here, screen = Calls(), Attendance("default"), Screen()
    monkeypatch.setattr(attendance, "seats_of", lambda alias, group: seats)

    async def steps() -> None:
        await here.enter("one", "room.1", "7", "null")
        await watched(here, screen)
        await screen.next(0)
        await here.enter("two", "room.1", "7", "null")
        here.leave("one", "room.1")
        await until(lambda: len(seats.calls) == 3)
        assert [what for what, _ in seats.calls] == ["enter", "enter", "leave"]
        assert await seats.versions(["room.1"]) == [(screen.frames[0]["version"].split(".")[0], 1)]
        here.leave(screen.id, "room.1")

    asyncio.run(steps())


@pytest.mark.parametrize("linger", [0, 0.5])
def test_without_a_linger_every_socket_is_registered_at_once(settings: Any, linger: float) -> None:
    settings.FASTWS["GROUPS"] = {"room.*": {"presence": {"linger": linger}}}

    async def steps() -> None:
        here, screen = attendance_of("default"), Screen()
        await here.enter("one", "room.1", "7", "null")
        await watched(here, screen)
        await screen.next(0)
        await here.enter("two", "room.1", "7", "null")
        assert (await seats_here().listed("room.1"))["7"].sockets == 2
        here.leave(screen.id, "room.1")

    asyncio.run(steps())


def test_a_seat_that_changes_while_it_is_registered_is_registered_again() -> None:
    async def steps() -> None:
        seats, told = MemorySeats(), []
        keeper = Keeper(seats, lambda group, diff: told.append(diff))
        works = seats.enter

        async def enter(group: str, process: str, found: Any) -> Diff:
            if len(told) == 0:
                keeper.enter("room.1", Seat("a", "7", "2", renewed=True))
            keeper.exit("room.1", "b") if len(told) == 0 else None
            return await works(group, process, found)

        seats.enter = enter  # type: ignore[method-assign]
        keeper.enter("room.1", Seat("a", "7", "1"))
        keeper.enter("room.1", seat("b", "8"))
        await keeper.wait_settled("room.1")
        assert (await seats.people("room.1"))[2] == {"7": "2"}
        keeper.exit("room.1", "a")
        await keeper.wait_settled("room.1")
        await until(lambda: keeper.task is None)

    asyncio.run(steps())
