"""A group's feed in one process: what members receive, also while they come, go and catch up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastws_compat.groups import arrivals, feeds
from fastws_compat.groups import feed as feed_module
from fastws_compat.groups.arrivals import Arrival, Waiting, Wish
from fastws_compat.groups.breaker import HEADS, Breaker
from fastws_compat.groups.delivery import RecentFrames
from fastws_compat.groups.entries import Kept
from fastws_compat.groups.feed import Lost, Values
from fastws_compat.groups.feeds import GroupFeed, check_heads, feed_of
from fastws_compat.groups.hub import MAX_DELIVERIES_IN_A_ROW, Hub
from fastws_compat.groups.kinds import History, Kind, State
from fastws_compat.groups.positions import Position
from fastws_compat.groups.ring import Budget, Ring
from fastws_compat.groups.stores import Appended, Draft, MemoryStore, Reading, StoreRefused
from fastws_compat.layers.wire import Change, Close, Envelope, Payload

KIND = Kind("*", History(count=1000), state=State())


class Listener:
    """A member that records what it receives."""

    socket = None

    def __init__(self, id: str, on_message: Callable[[], None] = lambda: None) -> None:
        self.id, self.ids = id, (id,)
        self.offsets: list[int] = []
        self.told: list[dict[str, Any]] = []
        self._on_message = on_message

    def deliver(self, delivery: Any) -> None:
        self.offsets.append(delivery.offset)
        self._on_message()

    def tell(self, frame: Any) -> None:
        self.told.append(json.loads(frame.message["text"]))

    def close(self, close: Close) -> None: ...

    def kinds(self) -> list[str]:
        return [frame["fastws"] for frame in self.told]


class World:
    """One process with one group, and the store."""

    def __init__(self, kind: Kind = KIND) -> None:
        self.store = MemoryStore()
        self.kind = kind
        members: dict[str, dict[str, Any]] = {"g": {}}
        self.members = members["g"]
        hub = SimpleNamespace(
            alias="default", members=members, feeds={}, checker=None, recent=RecentFrames(), departures=0
        )
        self.hub = cast(Hub, hub)
        self.feed = GroupFeed(
            self.hub, "g", kind, self.store, Breaker("default", self.store), Ring(Budget(), 1000)
        )
        self.hub.feeds["g"] = self.feed

    def join(self, *listeners: Listener) -> None:
        self.members.update((each.id, each) for each in listeners)

    async def send(self, number: int = 1, exclude: str | None = None) -> Appended:
        """Keep messages, which nobody receives yet; returns the place of the last."""
        for _ in range(number):
            draft = Draft("?", Payload("text", "x"), exclude=exclude)
            place = await self.store.append("g", self.kind, draft)
        return place

    async def arrive(self, place: Appended, content: Payload | Change = Payload("text", "x")) -> None:
        """A message comes from the layer."""
        await self.feed.receive(
            Envelope("g", content, None, "p", place.offset, epoch=place.epoch, offset=place.offset, kept=True)
        )


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


CROWD = MAX_DELIVERIES_IN_A_ROW + 44


def test_who_joins_waits_until_the_crowd_has_what_the_store_had() -> None:
    """With this many members, a message is delivered in several turns of the loop."""

    async def main() -> None:
        world = World()
        await world.feed.confirm()
        crowd = [Listener(str(number)) for number in range(CROWD)]
        world.join(*crowd)
        place = await world.send(3)
        reading = await world.feed.confirm()
        assert reading is not None
        assert (reading.top, world.feed.given) == (3, Position(place.epoch, 3))
        await until(lambda: crowd[-1].offsets == [1, 2, 3])  # the last message is on its way
        assert [each.offsets for each in crowd] == [[1, 2, 3]] * CROWD
        world.feed.close()

    run(main)


def test_who_leaves_during_a_message_does_not_get_it_and_who_sent_it_moves_on() -> None:
    async def main() -> None:
        world = World()
        await world.feed.confirm()
        last = Listener("last")
        first = Listener("first", lambda: world.members.pop("last", None))
        sender = Listener("sender")
        world.join(first, sender, last)
        await world.send(exclude="sender")
        await world.feed.confirm()
        assert (first.offsets, sender.offsets, last.offsets) == ([1], [], [])
        assert sender.told[-1] == {"fastws": "message", "group": "g", "offset": 1}
        world.feed.close()

    run(main)


def test_who_leaves_before_a_message_reaches_it_has_not_received_it() -> None:
    """It may come back in the middle of the message too, and then gets it once: by catching up."""

    async def main() -> None:
        world = World()
        await world.feed.confirm()
        crowd = [Listener(str(number)) for number in range(CROWD)]
        first, last = crowd[0], crowd[-1]
        world.join(*crowd)
        place = await world.send()
        arriving = asyncio.create_task(world.arrive(place))
        await until(lambda: bool(first.offsets))
        assert (first.offsets, last.offsets) == ([1], [])
        assert world.feed.position_of(first.id) == Position(place.epoch, 1)
        assert world.feed.position_of(last.id) == Position(place.epoch, 0)
        world.hub.departures += 1
        world.feed.catch(last.id, Waiting())
        del world.feed.catchers[last.id]
        await arriving
        assert [each.offsets for each in crowd] == [[1]] * (CROWD - 1) + [[]]
        assert world.feed.position_of(last.id) == Position(place.epoch, 1)
        world.feed.close()

    run(main)


def test_messages_that_arrive_together_are_passed_on_by_one_task() -> None:
    async def main() -> None:
        world = World()
        await world.feed.confirm()
        crowd = [Listener(str(number)) for number in range(CROWD)]
        world.join(*crowd)
        epoch = (await world.send(4)).epoch
        await asyncio.gather(*(world.arrive(Appended(epoch, offset)) for offset in (1, 2, 4, 3)))
        await until(lambda: crowd[-1].offsets == [1, 2, 3, 4])
        assert [each.offsets for each in crowd] == [[1, 2, 3, 4]] * CROWD
        world.feed.close()

    run(main)


def test_a_message_that_should_have_been_kept_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        await world.feed.confirm()
        unkept = Envelope("g", Payload("text", "x"), None, "p", 1)
        assert [await world.feed.receive(unkept) for _ in range(2)] == [False, False]
        assert await world.feed.receive(Envelope("g", Close(4000, ""), None, "p", 2)) is False
        assert world.feed.feed.has_hole
        world.feed.close()

    run(main)
    assert caplog.text.count("A message to group 'g' was not kept") == 1


def test_a_message_that_its_sender_could_not_keep_is_reported_at_once() -> None:
    """The sender may die before it does so. As long as the store refuses that, it is asked once only."""

    async def main() -> None:
        world, reports = World(), []
        await world.feed.confirm()
        assert world.feed._task is None

        async def mark_hole(*arguments: Any) -> None:
            reports.append(arguments)
            if len(reports) == 1:
                raise StoreRefused("full")

        world.store.mark_hole = mark_hole  # type: ignore[method-assign]
        for number in (1, 2):
            unkept = Envelope("g", Payload("text", "x"), None, "p", number, kept=False)
            await world.feed.receive(unkept)
            await until(lambda: reports and world.feed._task is None and world.feed._timer is None)
        assert [hole.number for *_, hole in reports] == [1]
        world.feed.check(await world.store.head("g", world.feed.kind), 0)
        await until(lambda: not world.feed.feed.has_hole)
        assert [hole.number for *_, hole in reports] == [1, 2]
        world.feed.close()

    run(main)


def test_a_doubt_is_not_delayed_by_a_gap_that_may_close_by_itself() -> None:
    async def main() -> None:
        world = World()
        reader = Listener("reader")
        world.join(reader)
        await world.feed.confirm()
        epoch = (await world.send(2)).epoch
        await world.arrive(Appended(epoch, 2))
        waiting = world.feed._timer
        assert waiting is not None
        world.feed.check(Reading("another", 0), 0)
        assert waiting.cancelled()
        await until(lambda: reader.offsets == [1, 2])
        world.feed.close()

    run(main)


def test_a_sender_that_pauses_before_it_publishes_loses_nothing_in_a_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other senders' messages would push its own out of the store before the grace is over."""
    monkeypatch.setattr(feed_module, "GRACE", 1000)

    async def main() -> None:
        count = 10
        world = World(Kind("*", History(count=count)))
        world.feed.feed.ring.count = count
        reader = Listener("reader")
        world.join(reader)
        await world.feed.confirm()
        expected = 0
        for _ in range(3):
            await world.send()  # and this sender pauses
            for _ in range(2 * count):
                await world.arrive(await world.send())
                await asyncio.sleep(0)
            expected += 1 + 2 * count
            await until(lambda: len(reader.offsets) >= expected)
        assert reader.offsets == list(range(1, expected + 1))
        world.feed.close()

    run(main)


def test_a_closed_feed_has_no_answer() -> None:
    async def main() -> None:
        world = World()
        asking = asyncio.create_task(world.feed.confirm())
        await asyncio.sleep(0)
        world.feed.close()
        assert await asking is None
        assert await world.feed.confirm() is None
        world.feed.owe_values()
        assert world.feed._timer is None

    run(main)


# The last values


def test_a_feed_that_is_closed_while_it_reads_lets_everybody_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        world, reading = World(), asyncio.Event()

        async def hang(*arguments: Any) -> None:
            reading.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(world.store, "read", hang)
        waiting = [asyncio.create_task(world.feed.confirm()) for _ in range(2)]
        await reading.wait()
        waiting.append(asyncio.create_task(world.feed.confirm()))
        await asyncio.sleep(0)
        world.feed.close()
        assert await asyncio.gather(*waiting) == [None, None, None]

    run(main)


def test_a_feed_that_is_closed_in_the_middle_of_a_message_lets_everybody_go() -> None:
    """With this many members, a message is delivered in several turns of the loop."""

    async def main() -> None:
        world, reached = World(), asyncio.Event()
        crowd = [Listener(f"m{number}", reached.set) for number in range(CROWD)]
        world.join(*crowd)
        await world.feed.confirm()
        await world.send(2)
        waiting = asyncio.create_task(world.feed.confirm())
        await reached.wait()
        world.feed.close()
        await waiting

    run(main)


def test_values_apply_only_changes_that_they_lack() -> None:
    values = Values({"a": "1", "b": "2"}, Position("e", 5))
    values.apply(Change('{"set":{"a":9}}'), Position("e", 5))
    assert values.texts == {"a": "1", "b": "2"}
    values.apply(Change('{"set":{"c":3},"del":["b"]}'), Position("e", 6))
    assert values.texts == {"a": "1", "c": "3"}
    assert not values.covers(Position("e", 7))
    assert not values.covers(Position("f", 6))


def test_values_are_shown_only_at_the_position_that_members_have_reached() -> None:
    world = World()
    assert world.feed.snapshot() is None
    world.feed.given = Position("e", 5)
    for at in (Position("f", 5), Position("e", 6)):
        world.feed._values = Values({"a": "1"}, at)
        assert world.feed.snapshot() is None
    world.feed._values = Values({"a": "1"}, Position("e", 4))
    frame = world.feed.snapshot()
    assert frame is not None
    assert json.loads(frame.message["text"])["all"] == {"a": 1}


def test_values_that_are_owed_are_read_and_sent_to_all() -> None:
    async def main() -> None:
        world = World()
        reader = Listener("reader")
        world.join(reader)
        await world.feed.confirm()
        world.feed._values = None
        draft = Draft("c", Change('{"set":{"a":1}}'), field="a", value="1")
        await world.arrive(await world.store.append("g", KIND, draft), draft.content)
        assert reader.told[-1]["set"] == {"a": 1}  # the change itself needs no values
        world.feed.owe_values()
        await until(lambda: "all" in reader.told[-1])
        assert reader.told[-1]["all"] == {"a": 1}
        world.feed.close()

    run(main)


def test_values_from_before_a_loss_are_read_again() -> None:
    async def main() -> None:
        world = World()
        reader = Listener("reader")
        world.join(reader)
        draft = Draft("c", Change('{"set":{"a":1}}'), field="a", value="1")
        await world.store.append("g", KIND, draft)
        await world.feed.confirm()
        await world.store.clear("g", KIND)
        world.feed._push([Lost(Position("later", 9))])
        await world.feed._give_all()
        assert reader.kinds()[-1] == "lost"
        assert world.feed._values is None
        await until(lambda: reader.told[-1].get("all") == {})
        world.feed.close()

    run(main)


# Catching up


def test_who_joins_waits_until_every_page_has_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "PAGE", 2)

    async def main() -> None:
        world, member = World(), Listener("m")
        world.join(member)
        await world.feed.confirm()
        place = await world.send(5)
        reading = await world.feed.confirm()
        assert reading is not None
        assert (reading.top, world.feed.given) == (5, Position(place.epoch, 5))
        assert member.offsets == [1, 2, 3, 4, 5]

    run(main)


def test_a_store_that_lost_what_members_have_begins_an_epoch() -> None:
    async def main() -> None:
        world, member = World(), Listener("m")
        world.join(member)
        await world.feed.confirm()
        place = await world.send(3)
        await world.feed.confirm()
        assert member.offsets == [1, 2, 3]
        member.told.clear()
        life = world.store._groups["g"]
        life.top = 1
        while len(life.entries) > 1:
            life.entries.pop()
        reading = await world.feed.confirm()
        assert reading is not None
        assert reading.epoch != place.epoch
        assert world.feed.given == Position(reading.epoch, reading.top)
        assert member.kinds() == ["lost", "state"]
        kept = await world.send()
        await world.feed.confirm()
        assert member.offsets == [1, 2, 3, kept.offset]

    run(main)


def test_members_that_catch_up_get_only_what_continues_their_position() -> None:
    async def main() -> None:
        kind = Kind("*", History(count=5))
        world = World(kind)
        epoch = (await world.send(8)).epoch
        await world.feed.confirm()
        offsets = [entry.offset for entry in await world.feed.entries_after(Position(epoch, 4))]
        assert offsets == [4 + number for number in range(1, 5)]
        for gone in (Position(epoch, 1), Position("old", 4)):
            assert await world.feed.entries_after(gone) == []
        world.feed.close()

    run(main)


def test_entries_of_another_epoch_are_not_passed_off_as_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        world = World()
        epoch = (await world.send(3)).epoch
        await world.feed.confirm()
        world.feed.feed.ring.clear()
        entries = (Kept(2, "?", 0.0, Payload("text", "x")),)

        async def read(*arguments: Any) -> Reading:
            return Reading("reborn", 3, entries=entries)

        monkeypatch.setattr(world.store, "read", read)
        assert await world.feed.entries_after(Position(epoch, 1)) == []
        world.feed.close()

    run(main)


class Newcomer:
    """A member that is catching up."""

    id = "newcomer"
    ids = (id,)
    is_ours = True
    is_connecting = False

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.closed: list[Close] = []

    def put(self, frame: Any) -> None:
        text = frame.message["text"]
        self.frames.append(json.loads(text) if self.is_ours else text)

    tell = put

    def close(self, close: Close) -> None:
        self.closed.append(close)

    def close_reason(self, reason: str) -> str:
        return f"{reason}; spread=1"


def arrival_in(world: World, member: Newcomer) -> Arrival:
    arrival: Any = Arrival.__new__(Arrival)
    arrival.group, arrival._hub, arrival._member, arrival._wish = "g", world.hub, member, Wish()
    arrival._feed = world.feed
    world.feed.catchers[member.id] = arrival
    return cast(Arrival, arrival)


def test_values_that_are_not_known_yet_follow() -> None:
    async def main() -> None:
        world, member = World(), Newcomer()
        await world.feed.confirm()
        world.members[member.id] = member
        world.feed._values = None
        arrival_in(world, member)._send_values(world.feed)
        assert member.frames == []
        del world.feed.catchers[member.id]  # as at the end of `run`
        await until(lambda: bool(member.frames))
        assert member.frames[-1]["all"] == {}
        world.feed.close()

    run(main)


def test_who_catches_up_too_slowly_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "TIMEOUT", 0.01)

    async def main() -> None:
        world, member = World(), Newcomer()
        arrival: Any = arrival_in(world, member)
        arrival._chase, arrival.wants_values = lambda *arguments: asyncio.sleep(20), False
        await arrival._catch_up(world.feed, Position("e", 0))
        assert member.closed == [Close(1013, "caught up too slowly; spread=1")]

    run(main)


def test_who_catches_up_in_an_epoch_that_has_ended_is_told_and_who_has_left_is_not() -> None:
    async def main() -> None:
        world, member = World(Kind("*", History())), Newcomer()
        world.feed.given = Position("new", 3)
        arrival = arrival_in(world, member)
        await arrival._chase(world.feed, Position("old", 1))
        assert member.frames == []  # it is no longer a member
        world.members[member.id] = member
        await arrival._chase(world.feed, Position("old", 1))
        assert member.frames == [{"fastws": "lost", "group": "g", "epoch": "new", "offset": 3}]

    run(main)


def test_who_never_catches_up_gets_the_rest_at_once() -> None:
    async def main() -> None:
        world, member = World(), Newcomer()
        epoch = (await world.send(4)).epoch
        await world.feed.confirm()
        for offset in (1, 2, 3, 4):
            exclude = member.id if offset == 3 else None
            world.feed.feed.ring.add(Kept(offset, "?", 0.0, Payload("text", "x"), exclude))
        reached = arrival_in(world, member)._queue_rest(world.feed, Position(epoch, 1))
        assert reached == Position(epoch, 4)
        assert [frame["offset"] for frame in member.frames] == [2, 3, 4]
        assert ["text" in frame for frame in member.frames] == [True, False, True]
        member.is_ours, member.frames = False, []
        arrival_in(world, member)._queue_rest(world.feed, Position(epoch, 2))
        assert member.frames == ["x"]  # a plain client does not learn what it misses
        # What the ring has may be of another epoch, of which members have not been told yet.
        old = Position("old", 2)
        assert arrival_in(world, member)._queue_rest(world.feed, old) == old
        assert member.frames == ["x"]
        world.feed.close()

    run(main)


# The feeds of a process


class Other:
    """A receiver of a group, but not a feed."""

    def close(self) -> None: ...


def test_feeds_of_a_process_share_their_memory() -> None:
    async def main() -> None:
        world = World()
        world.hub.feeds = cast(Any, {"other": Other()})
        first, second = feed_of(world.hub, "a", KIND), feed_of(world.hub, "b", KIND)
        assert first.feed.ring.budget is second.feed.ring.budget
        assert feed_of(world.hub, "a", KIND) is first
        checker = world.hub.checker
        assert checker is not None
        for feed in (first, second):
            del world.hub.feeds[feed.group]
            feed.close()
        del world.hub.feeds["other"]
        await checker  # it ends with the last feed

    run(main)


def test_many_groups_are_checked_in_several_calls(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.FASTWS = {"CHECK_SECONDS": 0.01}
    monkeypatch.setattr(feeds, "BATCH", 2)
    pauses: list[float] = []
    checked: list[list[str]] = []

    async def note(hub: Hub, batch: list[GroupFeed]) -> None:
        checked.append([feed.group for feed in batch])
        if len(checked) == 3:
            hub.feeds.clear()

    async def main() -> None:
        world = World()
        world.hub.feeds = {name: feed_of(world.hub, name, KIND) for name in "abcde"}
        assert world.hub.checker is not None
        await world.hub.checker

    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(feeds, "check_heads", note)
    monkeypatch.setattr(feeds.asyncio, "sleep", pause)
    run(main)
    assert checked == [["a", "b"], ["c", "d"], ["e"]]
    assert pauses == [0.01, 1, 1]


def test_a_check_passes_over_a_store_that_fails_and_a_group_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    async def main() -> None:
        world = World()
        await world.feed.confirm()
        store = feeds.store_of("default")

        async def nothing(*arguments: Any) -> dict[str, Reading]:
            return {}

        monkeypatch.setattr(store, "heads", nothing)
        await check_heads(world.hub, [world.feed])
        assert world.feed.feed.delay is None

        async def refuse(*arguments: Any) -> Any:
            raise StoreRefused("away")

        monkeypatch.setattr(store, "heads", refuse)
        await check_heads(world.hub, [world.feed])
        breaker = feeds.breaker_of("default")
        assert breaker.is_open
        breaker.succeeded(HEADS)

        async def fail(*arguments: Any) -> Any:
            raise ZeroDivisionError("an error of a store of the project")

        monkeypatch.setattr(store, "heads", fail)
        await check_heads(world.hub, [world.feed])
        assert not breaker.is_open
        breaker.succeeded(HEADS)
        world.feed.close()

    settings.CHANNEL_LAYERS = {}
    run(main)


def test_a_gap_that_opens_while_the_store_is_read_is_looked_up_later() -> None:
    """The message that is missing may only be slower than the next one."""

    async def main() -> None:
        world = World()
        await world.feed.confirm()
        listener = Listener("a")
        world.join(listener)
        first = await world.send()
        read = world.store.read
        late: list[Appended] = []

        async def read_slowly(*arguments: Any) -> Reading:
            reading = await read(*arguments)
            if not late:
                late.append(await world.send(2))
                await world.arrive(late[0])
            return reading

        world.store.read = read_slowly  # type: ignore[method-assign]
        await world.feed.confirm()
        assert listener.offsets == [first.offset]
        await until(lambda: listener.offsets == [1, 2, 3])
        world.feed.close()

    run(main)
