"""A store that refuses, or does not say what it did: what is sent, what is raised, and who may recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from fastws_compat import FastAPI
from fastws_compat.exceptions import GroupSendError, GroupStoreError
from fastws_compat.groups import Group, breaker, counters, feeds
from fastws_compat.groups.stores import MemoryStore, Store, StoreError, StoreRefused
from fastws_compat.layers import client as layers
from fastws_compat.layers.local import LocalLayer
from fastws_compat.layers.wire import encode, pack
from tests.live_clients import Client, client, eventually, joining_app

ROOM = Group("room.1")


@pytest.fixture(autouse=True)
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {
        "GROUPS": {
            "room.*": {"history": True, "state": True},
            "strict.*": {"history": {"on_failure": "raise"}},
        }
    }
    layers.local_layer.cache_clear()
    counters.clear()
    monkeypatch.setattr(breaker, "RETRY_INTERVAL", 0.05)


def refuse(*arguments: Any, **options: Any) -> Any:
    raise StoreRefused("full")


@contextmanager
def refusing(
    monkeypatch: pytest.MonkeyPatch, *methods: str, store: type[Store] = MemoryStore
) -> Iterator[None]:
    """While the store refuses these calls."""
    with monkeypatch.context() as patch:
        for method in methods:
            patch.setattr(store, method, refuse)
        yield


async def until_tried_again() -> None:
    """Wait until the store may be tried again."""
    await eventually(lambda: not breaker.breaker_of("default").is_open)


@asynccontextmanager
async def arrived(app: FastAPI) -> AsyncIterator[Client]:
    """A client that has the state of the room."""
    async with client(app) as one:
        await one.until("state")
        yield one


async def recovers(app: FastAPI, position: str) -> Any:
    """Whether a client that comes back with a position has missed nothing."""
    async with client(app, f"room.1:{position}") as back:
        return (await back.until("joined"))["recovered"]


def fail(*arguments: Any, **options: Any) -> Any:
    raise StoreError("no reply")


async def nothing(*arguments: Any) -> None: ...


def run(main: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await main()

    asyncio.run(limited())


def test_what_the_store_refuses_is_delivered_and_nobody_recovers_over_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = joining_app(ROOM)

    async def main() -> None:
        await ROOM.asend(["kept"])
        before = await ROOM.aposition()
        async with arrived(app) as one:
            with refusing(monkeypatch, "append"):
                assert await ROOM.asend(["not kept"], key="k") is True
                assert await ROOM.asend(["the breaker is open"]) is True
            # With its key, by which the client that posted it learns that it need not do so again.
            frame = {"fastws": "message", "group": "room.1", "key": "k", "data": ["not kept"]}
            assert await one.next() == frame
            await one.next()
        assert counters["unkept"] == 2
        await eventually(lambda: "has recovered" in caplog.text)
        assert caplog.text.count("messages are not kept") == 1
        assert await recovers(app, before) is False
        await ROOM.asend(["kept again"])
        assert await recovers(app, await ROOM.aposition()) is True

    run(main)


def test_who_is_excluded_learns_that_its_post_has_arrived_although_it_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = joining_app(ROOM)

    async def main() -> None:
        async with arrived(app) as one, arrived(app) as two:
            with refusing(monkeypatch, "append"):
                one.say('{"group": "room.1", "message": ["mine"], "alone": true, "key": "k"}')
                frame = {"fastws": "message", "group": "room.1", "key": "k"}
                assert await one.next() == frame
                assert await two.next() == {**frame, "data": ["mine"]}

    run(main)


def test_a_store_that_is_full_can_be_read(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Clients keep their positions; none recovers across a hole that the store could not record."""
    settings.FASTWS = {**settings.FASTWS, "CHECK_SECONDS": 0.05}
    app = joining_app(ROOM)

    async def main() -> None:
        await ROOM.asend(["kept"])
        before = await ROOM.aposition()
        async with arrived(app) as one:
            with refusing(monkeypatch, "append", "mark_hole"):
                await ROOM.asend(["not kept"])
                await one.until("message")
                async with client(app, f"room.1:{before}") as back:
                    joined = await back.until("joined")
                    assert (f"{joined['epoch']}:{joined['offset']}", joined["recovered"]) == (before, False)
            await until_tried_again()
            await ROOM.asend(["kept again"])
            await one.until("message")
            assert await recovers(app, before) is False
            assert await recovers(app, await ROOM.aposition()) is True
            assert one.of("lost") == []

    run(main)


def test_nothing_older_than_a_membership_follows_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that are there when the store is back get what they have missed, page by page."""
    monkeypatch.setattr(feeds, "PAGE", 2)
    monkeypatch.setattr(feeds, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(feeds, "MAX_FAILURES", 1)
    crowd = joining_app(ROOM)

    async def main() -> None:
        async with client(crowd) as one:
            await one.until("state")
            with monkeypatch.context() as patch:
                patch.setattr(MemoryStore, "read", fail)
                patch.setattr(LocalLayer, "group_send", nothing)
                await ROOM.aset("secret", 1)
                await ROOM.aunset("secret")
                await ROOM.asend(["old"])
                await asyncio.sleep(0.01)
                newcomers = joining_app(ROOM, since=datetime.now(UTC))
                async with client(newcomers) as new, client(newcomers, None) as raw:
                    assert (await new.until("joined"))["epoch"] is None
                    await eventually(lambda: len(newcomers.state.joined) == 2)
                    await ROOM.asend(["new"])
                    patch.undo()
                    await one.until_offset(4)
                    await new.until_offset(4)
                    assert [frame.get("data") for frame in new.of("message")] == [None, None, None, ["new"]]
                    assert await raw.next() == ["new"]
                    assert new.of("state")[-1]["all"] == {}
                    assert "secret" not in str(new.frames)
            assert [frame["data"] for frame in one.of("message")] == [["old"], ["new"]]

    run(main)


def test_the_process_that_knows_of_a_hole_judges_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has sent the message, no member of this process has received it, and the store works again."""
    monkeypatch.setattr(breaker, "RETRY_INTERVAL", 60)
    app = joining_app(ROOM)

    async def main() -> None:
        await ROOM.asend(["kept"])
        before = await ROOM.aposition()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryStore, "append", refuse)
            await ROOM.asend(["not kept"])
        async with client(app, f"room.1:{before}") as back:
            assert (await back.until("joined"))["recovered"] is False
        await breaker.breaker_of("default").mark_holes()
        async with client(app, f"room.1:{before}") as back:
            assert (await back.until("joined"))["recovered"] is False

    run(main)


def test_a_hole_outlives_the_members_that_have_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has sent the message and died. The store cannot note the hole before they leave."""
    app = joining_app(ROOM)

    async def main() -> None:
        await ROOM.asend(["kept"])
        before = await ROOM.aposition()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryStore, "mark_hole", refuse)
            async with client(app) as one:
                await one.until("state")
                unkept = {"from": "another.process", "number": 7, "kept": False}
                await ROOM._asend(pack("room.1", encode(["not kept"]), None, unkept))
                assert (await one.until("message"))["data"] == ["not kept"]
            async with client(app, f"room.1:{before}") as back:
                assert (await back.until("joined"))["recovered"] is False
        await eventually(lambda: breaker.breaker_of("default").hole("room.1") is None)
        async with client(app, f"room.1:{before}") as back:
            assert (await back.until("joined"))["recovered"] is False

    run(main)


def test_a_kept_message_ends_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that joins after it recovers, although the next regular attempt is seconds away."""
    monkeypatch.setattr(feeds, "RETRY_INTERVAL", 60)
    monkeypatch.setattr(feeds, "MAX_FAILURES", 1)
    app = joining_app(ROOM)

    async def main() -> None:
        async with arrived(app) as one:
            with refusing(monkeypatch, "read"):
                async with client(app) as late:
                    assert (await late.until("joined"))["epoch"] is None
            await until_tried_again()
            await ROOM.asend(["kept"])
            await one.until_offset(1)
            assert await recovers(app, await ROOM.aposition()) is True

    run(main)


def test_who_joined_without_a_position_is_told_one_before_the_first_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process cannot read the store, but the sender can write to it."""
    monkeypatch.setattr(feeds, "MAX_FAILURES", 1)
    app = joining_app(ROOM)

    async def main() -> None:
        await ROOM.asend(["before"])
        async with arrived(app):
            with refusing(monkeypatch, "read"):
                async with client(app) as late:
                    assert (await late.until("joined"))["epoch"] is None
                    await until_tried_again()
                    await ROOM.asend(["kept"])
                    lost, message = await late.next(), await late.next()
                    assert (lost["fastws"], lost["offset"], lost["state"]) == ("lost", 1, True)
                    assert (message["offset"], message["data"]) == (2, ["kept"])

    run(main)


def test_what_the_store_refuses_may_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "append", refuse)

    async def main() -> None:
        with pytest.raises(GroupSendError, match=r"'strict\.1': full"):
            await Group("strict.1").asend(["no"])
        with pytest.raises(GroupSendError):
            await ROOM.aset("a", 1)

    run(main)


def test_an_append_whose_answer_is_lost_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    append, lost = MemoryStore.append, iter([True, False, True, True])

    async def unsure(*arguments: Any, **options: Any) -> Any:
        place = await append(*arguments, **options)
        if next(lost):
            raise StoreError("reset")
        return place

    monkeypatch.setattr(MemoryStore, "append", unsure)

    async def main() -> None:
        assert await ROOM.asend(["once"]) is True
        with pytest.raises(GroupSendError, match="reset"):
            await ROOM.asend(["nobody knows"])
        assert [entry.message for entry in await ROOM.ahistory()] == [["once"], ["nobody knows"]]

    run(main)


def test_a_store_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "read", refuse)
    app = joining_app(ROOM)

    async def main() -> None:
        assert await ROOM.aposition() == ""
        with pytest.raises(GroupStoreError, match="full"):
            await ROOM.ahistory()
        with pytest.raises(GroupStoreError):
            await ROOM.astate()
        async with client(app) as one:
            joined = await one.until("joined")
            assert (joined["epoch"], joined["offset"], joined["recovered"]) == (None, 0, False)
            monkeypatch.undo()
            lost = await one.until("lost")
            assert f"{lost['epoch']}:{lost['offset']}" == await ROOM.aposition()
            assert (await one.until("state"))["all"] == {}

    run(main)


class Own(Store):
    """A store of the project, with no more than it needs."""

    def __init__(self) -> None:
        self._kept = MemoryStore()

    async def append(self, *arguments: Any, **options: Any) -> Any:
        return await self._kept.append(*arguments, **options)

    async def read(self, *arguments: Any, **options: Any) -> Any:
        return await self._kept.read(*arguments, **options)


def test_what_a_store_refuses_is_not_sent_if_it_cannot_note_the_gap(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Otherwise a client that missed it would be told that it has everything."""
    settings.FASTWS = {**settings.FASTWS, "STORE": {"default": f"{__name__}.Own"}}
    app = joining_app(ROOM)

    async def main() -> None:
        await ROOM.asend(["kept"])
        before = await ROOM.aposition()
        async with arrived(app) as one:
            with refusing(monkeypatch, "append", store=Own):
                with pytest.raises(GroupSendError):
                    await ROOM.asend(["refused"])
            await until_tried_again()
            await ROOM.asend(["kept, too"])
            assert (await one.next())["data"] == ["kept, too"]
        async with client(app, f"room.1:{before}") as two:
            assert (await two.until("joined"))["recovered"] is True
            assert (await two.until("message"))["data"] == ["kept, too"]
        assert counters["unkept"] == 0

    run(main)
