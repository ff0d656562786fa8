"""Order and recovery under faults: everything once, in order, or the client is told. No rule is idle."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fastws_compat.groups import arrivals, keeping, publishing
from fastws_compat.groups.arrivals import Arrival, Wish
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.entries import Kept, snapshot_frame, text_frame
from fastws_compat.groups.feed import Feed, Hand, Step, Values
from fastws_compat.groups.feeds import GroupFeed
from fastws_compat.groups.kinds import History
from fastws_compat.groups.member import LiveMember
from fastws_compat.groups.positions import Position
from fastws_compat.groups.stores import Reading, StoreRefused
from fastws_compat.layers.wire import Change, Payload
from tests.feed_world import FakeBreaker, FaultyStore, World, run
from tests.sizes import size

EXAMPLES = size("FASTWS_EXAMPLES", 10, 1000)
SEEDS = st.integers(0, 2**32 - 1)
AS_OFTEN = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # a smaller seed is not a simpler world
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.sized
@AS_OFTEN
@given(seed=SEEDS)
def test_every_client_gets_everything_once_in_order_or_is_told(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert run(World(seed), monkeypatch).problems == []


@pytest.mark.sized
@AS_OFTEN
@given(seed=SEEDS)
def test_a_layer_that_loses_messages_is_not_noticed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    world = run(World(seed, faults=False, count=10_000), monkeypatch)
    assert world.problems == []
    assert world.told == 0


# Each rule, taken away: within these worlds somebody notices.
ENOUGH = 40


def without_gaps(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Whatever is newer is handed out at once."""

    def receive(self: Feed, epoch: str, entry: Kept) -> list[Step]:
        if epoch != self.epoch:
            self.doubts = True
            return []
        return [self._hand(entry)] if entry.offset > self.top else []

    monkeypatch.setattr(Feed, "receive", receive)


def without_order(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """What was handed out before is handed out again."""

    def receive(self: Feed, epoch: str, entry: Kept) -> list[Step]:
        return [self._hand(entry)] if epoch == self.epoch else []

    monkeypatch.setattr(Feed, "receive", receive)


def without_looking_first(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(world.store, "looks_first", False)


def without_run_id(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A rollback in the same epoch goes unnoticed where no process has seen more."""
    monkeypatch.setattr(world.store, "asks_run_id", False)

    async def move() -> None:
        await world.roll_back()
        for _ in range(4):
            await world.kill()

    world.troubles = [world.save, move]


def without_checks(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    world.checks = False


def without_chasing(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A member goes live before it has caught up."""

    async def at_once(self: Arrival, feed: GroupFeed, position: Position, **options: bool) -> None: ...

    monkeypatch.setattr(Arrival, "_catch_up", at_once)


def without_passing_by(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Members that catch up get what arrives at the same time."""

    class Unseen(dict[str, object]):
        def __contains__(self, id: object) -> bool:
            return False

    begin = GroupFeed.__init__

    def begin_unseen(self: GroupFeed, *arguments: Any) -> None:
        begin(self, *arguments)
        self.catchers = Unseen()

    monkeypatch.setattr(GroupFeed, "__init__", begin_unseen)


def without_judge(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A position of the present epoch is good enough, unless it is in the future."""

    def is_possible(position: Position, reading: Reading) -> bool:
        return position.epoch == reading.epoch and position.offset <= reading.top

    monkeypatch.setattr(arrivals, "can_recover", is_possible)


def without_holes(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    judge = arrivals.can_recover
    monkeypatch.setattr(
        arrivals, "can_recover", lambda position, reading: judge(position, reading._replace(hole=-1))
    )


def without_reports(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Nobody tells the store that something was sent which it does not keep."""

    async def forget(self: Any, *arguments: Any) -> None: ...

    append = FaultyStore.append

    async def append_only(self: Any, group: str, kind: Any, draft: Any, **options: Any) -> Any:
        return await append(self, group, kind, draft, **options | {"hole": None})

    monkeypatch.setattr(FaultyStore, "mark_hole", forget)
    monkeypatch.setattr(FaultyStore, "append", append_only)


def without_saying_what_is_gone(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """The first entry that is still kept counts as the next one."""
    jump = Feed._jump

    def be_silent(self: Feed, epoch: str, offset: int) -> Any:
        step = jump(self, epoch, offset)
        return step if self.epoch is None else Hand(Kept(offset, "", 0, Payload("json", '"gone"')))

    take = Feed._take

    def take_silently(self: Feed, reading: Reading) -> list[Step]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Feed, "_jump", be_silent)
            return take(self, reading)

    world.store.kind = replace(world.store.kind, history=History(5, 1e9))
    monkeypatch.setattr(Feed, "_take", take_silently)


def without_reading_after_joining(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A client is judged by what its process has, which may be behind."""
    confirm = GroupFeed.confirm

    async def from_memory(self: GroupFeed) -> Reading | None:
        if self.given is None:
            return await confirm(self)
        return Reading(self.given.epoch, self.given.offset, first=max(1, self.given.offset - 20))

    monkeypatch.setattr(GroupFeed, "confirm", from_memory)


def with_news_in_the_place_of_a_message(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """The news of a clear have the offset of the newest message, and not of the last one before the clear."""
    pack = keeping.pack_change

    def pack_at_the_top(group: str, change: Change, extra: dict[str, Any]) -> Any:
        life = world.store.life
        return pack(group, change, extra if life is None else {**extra, "offset": life.top})

    world.troubles = [world.clear]
    monkeypatch.setattr(keeping, "pack_change", pack_at_the_top)


def without_the_end_of_an_epoch(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Of another epoch, everything that the store has is handed out."""

    def change(self: Feed, reading: Reading) -> list[Step]:
        return [self._jump(reading.epoch, max(0, reading.first - 1)), *self._take(reading)]

    world.troubles = [world.save, world.roll_back]
    monkeypatch.setattr(Feed, "_change_epoch", change)
    read = FaultyStore.read

    async def read_all(self: Any, group: str, kind: Any, after: Any = None, *more: Any) -> Any:
        reading = await read(self, group, kind, after, *more)
        whole = self._group().reading(max(0, reading.first - 1), 100, False)
        return whole if more and after == reading.base else reading

    monkeypatch.setattr(FaultyStore, "read", read_all)


def with_what_excludes_the_client(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A client that comes back gets its own messages."""
    monkeypatch.setattr(Arrival, "_is_hidden", lambda self, entry: False)


def without_earlier_connections(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Only the present connection is excluded, and not the client that has come back."""
    monkeypatch.setattr(LiveMember, "ids", property(lambda self: (self.id,)))


def without_moving(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """An excluded client is told nothing, and stays where it was."""
    monkeypatch.setattr(GroupFeed, "moved", lambda self, offset: Frame(text_frame("beat")))


def with_recovery_before_accept(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """What a client missed is sent although its socket has not been accepted."""
    monkeypatch.setattr(LiveMember, "is_connecting", False)


def with_a_queue_before_accept(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """What a client missed waits in its queue until its socket has been accepted."""

    async def send(self: LiveMember, frame: Frame) -> None:
        self.put(frame)

    world.faults, world.store.kind = False, replace(world.store.kind, history=History(10_000, 1e9))
    monkeypatch.setattr(LiveMember, "is_connecting", False)
    monkeypatch.setattr(LiveMember, "send", send)


def with_a_step_before_going_live(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A member goes live soon after it has caught up, but not in the same step."""
    chase = Arrival._chase

    async def chase_and_wait(self: Arrival, feed: GroupFeed, position: Position) -> None:
        await chase(self, feed, position)
        await asyncio.sleep(0.01)

    monkeypatch.setattr(Arrival, "_chase", chase_and_wait)


def without_the_position_at_leaving(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A member that joins again recovers from the position in its URL, although it has received more."""
    monkeypatch.setattr(LiveMember, "leaving", lambda self, group, hub: None)


def without_announcing_values(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A client that is told a position, but not yet the values at it, recovers from there without them."""
    world.be_hectic(world.clear)
    monkeypatch.setattr(GroupFeed, "announcement", {})


def without_values_after_a_loss(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """What was lost may have changed values, and nobody tells the members."""
    give = GroupFeed._give_lost

    def give_only(self: GroupFeed, position: Position) -> None:
        give(self, position)
        self._owes_values = False

    world.troubles, world.calm = [world.clear], 2.0
    monkeypatch.setattr(GroupFeed, "_give_lost", give_only)


def with_values_of_another_time(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Members get the values that the store has, and not those of the position that they have reached."""

    def snapshot(self: GroupFeed) -> Frame | None:
        values, given = self._values, self.given
        return (
            None
            if values is None or given is None
            else Frame(snapshot_frame(values.texts, "g", given.offset))
        )

    monkeypatch.setattr(GroupFeed, "snapshot", snapshot)
    monkeypatch.setattr(Values, "apply", lambda self, change, position: None)


def without_breaking(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A store that has less than a process has seen keeps its epoch; its run id is not known."""

    async def keep(self: Any, *arguments: Any) -> None: ...

    world.troubles = [world.save, world.roll_back]
    monkeypatch.setattr(world.store, "asks_run_id", False)
    monkeypatch.setattr(FaultyStore, "begin_epoch", keep)


def with_what_may_have_been_kept_sent_at_once(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """What is not known to be kept is sent without being kept, and found in the store as well."""
    world.troubles, world.calm = [world.outage], 0.5
    monkeypatch.setattr(publishing, "failure", lambda *arguments: StoreRefused("unknown"))


def without_reports_of_senders(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Only processes that have received a message which is not kept say so, and others judge meanwhile."""
    world.drop = 0.9
    world.be_hectic(world.outage)
    monkeypatch.setattr(FakeBreaker, "add_hole", lambda self, group, kind, hole=None: None)


def without_reports_of_receivers(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A process that has received a message which is not kept judges as if it had not."""
    world.be_hectic(world.outage)
    monkeypatch.setattr(GroupFeed, "_note_unkept", lambda self, envelope: None)


def without_telling_who_cannot_continue(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """A member whose next message is gone while it catches up goes on where the others are."""
    world.store.kind = replace(world.store.kind, history=History(5, 1e9))
    monkeypatch.setattr(Arrival, "_give_up", lambda self, feed: None)


def without_positions_for_strangers(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Who has joined while the store was away is not told where it is when the store is back."""
    world.be_hectic(world.outage)
    monkeypatch.setattr(GroupFeed, "owe_position", lambda self, id, since: None)


def judging(count: int = 100, **fields: Any) -> Any:
    """The judge of a history of so many entries, without looking at some of what the store says."""
    judge = arrivals.can_recover

    def judge_less(position: Position, reading: Reading) -> bool:
        values = {name: find(position, reading) for name, find in fields.items()}
        return judge(position, reading._replace(**values))

    def mutation(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
        world.be_hectic(world.restart, world.save, world.roll_back)
        world.store.kind = replace(world.store.kind, history=History(count, 1e9))
        monkeypatch.setattr(arrivals, "can_recover", judge_less)

    return mutation


def without_the_epoch_of_a_claim(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """An offset counts as one of the present epoch."""
    find = Wish.position

    def position(self: Wish, member: Any, group: str) -> Position | None:
        found, life = find(self, member, group), world.store.life
        return found if found is None or life is None else found._replace(epoch=life.epoch)

    monkeypatch.setattr(Wish, "position", position)


JUDGES = {
    "any beginning": judging(base=lambda position, reading: 0),
    "any end": judging(top=lambda position, reading: max(position.offset, reading.top)),
    "any first entry": judging(5, first=lambda position, reading: 0),
}


@pytest.mark.parametrize(
    "mutation",
    [
        without_gaps,
        without_order,
        without_looking_first,
        without_run_id,
        without_checks,
        without_chasing,
        without_passing_by,
        without_judge,
        without_holes,
        without_reports,
        without_saying_what_is_gone,
        without_reading_after_joining,
        with_news_in_the_place_of_a_message,
        without_the_end_of_an_epoch,
        with_what_excludes_the_client,
        without_earlier_connections,
        without_moving,
        with_recovery_before_accept,
        with_a_queue_before_accept,
        with_a_step_before_going_live,
        without_the_position_at_leaving,
        without_announcing_values,
        without_values_after_a_loss,
        with_values_of_another_time,
        without_breaking,
        without_the_epoch_of_a_claim,
        with_what_may_have_been_kept_sent_at_once,
        without_reports_of_senders,
        without_reports_of_receivers,
        without_telling_who_cannot_continue,
        without_positions_for_strangers,
        *(pytest.param(mutation, id=name) for name, mutation in JUDGES.items()),
    ],
)
def test_every_rule_is_needed(monkeypatch: pytest.MonkeyPatch, mutation: Any) -> None:
    for seed in range(ENOUGH):
        with monkeypatch.context() as patch:
            world = World(seed)
            mutation(patch, world)
            if run(world, patch).problems:
                return
    pytest.fail(f"nobody noticed in {ENOUGH} worlds")
