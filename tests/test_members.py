"""Members of groups: what a client that does not understand recovery gets, queues, heartbeats and layers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastws_compat.connections.states import CONNECTED, DISCONNECTED
from fastws_compat.groups import attendance, greeting, hub
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.entries import text_frame
from fastws_compat.groups.greeting import Beats
from fastws_compat.groups.hub import Hub
from fastws_compat.groups.member import LiveMember, Member, member_of
from fastws_compat.groups.positions import NO_CLAIM, parse_claims
from fastws_compat.groups.reader import ChannelReader
from fastws_compat.layers.subscription import Subscription
from fastws_compat.layers.wire import Change, Envelope
from tests.live_clients import acting_app, client


def socket_of(**more: Any) -> Any:
    return SimpleNamespace(scope={"type": "websocket"}, **more)


def test_a_plain_client_has_one_id_and_claims_nothing() -> None:
    plain = Member(socket_of())
    assert plain.ids == (plain.id,)
    assert plain.claim("g") is NO_CLAIM
    assert plain.close_reason("reads too slowly") == "reads too slowly"


def test_a_queue_that_overflows_in_one_step_is_closed_with_its_code(settings: Any) -> None:
    """What a member missed is queued at once, before the task that sends it has begun."""
    settings.FASTWS = {"SLOW_CONSUMER_QUEUE": 3}

    async def overflow(websocket: Any) -> None:
        member = member_of(websocket)
        for number in range(10):
            member.put(Frame(text_frame("message", offset=number)))

    async def main() -> None:
        async with client(acting_app(overflow)) as one:
            await one.wait_sent("websocket.close")
            await one.wait_ended()
            assert one.closes == [1013]
            assert one.of("message") == []

    asyncio.run(main())


def test_a_client_of_ours_is_told_over_how_many_seconds_to_reconnect(settings: Any) -> None:
    settings.FASTWS = {"RECONNECT_SPREAD": 7}
    ours = LiveMember(socket_of(), parse_claims(""))
    assert ours.close_reason("reads too slowly") == "reads too slowly; spread=7"
    assert set(ours.ids) == {ours.id}


def test_a_member_forgets_a_group_of_one_layer() -> None:
    member = Member(socket_of())
    here = cast(Hub, object())
    member.joined.update({("default", "a"): here, ("other", "a"): here, ("default", "b"): here})
    member.forget("default", "a")
    member.forget("default", "never joined")
    assert list(member.joined) == [("other", "a"), ("default", "b")]


# Sends that fail


def failing_member(error: Exception) -> Member:
    async def fail(message: Any) -> None:
        raise error

    connected = {"application_state": CONNECTED, "client_state": CONNECTED}
    return Member(socket_of(_send=fail, **connected))


@pytest.mark.parametrize(("error", "is_logged"), [(OSError("gone"), False), (ValueError("bad"), True)])
def test_a_lost_connection_is_no_error_and_anything_else_is(
    error: Exception, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        member = failing_member(error)
        await member.send(Frame(text_frame("hello")))
        member.put(Frame(text_frame("hello")))
        assert member._task is not None
        await member._task
        assert not member._queue

    asyncio.run(main())
    assert caplog.text.count("A group message could not be sent to a member") == 2 * is_logged


@pytest.mark.parametrize("state", [CONNECTED, DISCONNECTED])
def test_a_closed_socket_gets_no_more_of_what_it_missed(state: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is not a slow one, however much it has missed, and nothing follows a close."""

    async def main() -> None:
        member = failing_member(AssertionError("sent"))
        if state is DISCONNECTED:
            member.websocket.client_state = DISCONNECTED
        else:
            member._close_send = cast(Any, object())
        for _ in range(1_001):
            await member.send(Frame(text_frame("hello")))
        assert not member._queue

    asyncio.run(main())
    assert caplog.text == ""


def test_a_close_that_waits_for_nobody_stays_in_the_queue() -> None:
    member = failing_member(OSError())
    member._close_send = cast(Any, object())
    member._queue.extend([{"type": "websocket.send"}, {"type": "websocket.close"}])
    member._skip_to_close()
    assert list(member._queue) == [{"type": "websocket.close"}]


def test_a_reader_that_was_never_opened_can_be_closed() -> None:
    reader = ChannelReader.__new__(ChannelReader)
    reader.task = None
    reader.close()
    assert not reader.is_open


# Presence


def test_many_groups_of_presence_are_checked_over_several_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    refreshed: list[str] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    class Away:
        async def versions(self, groups: list[str]) -> Any:
            raise ConnectionError("away")

    def watch(group: str) -> Any:
        return SimpleNamespace(group=group, refresh=lambda: refreshed.append(group))

    monkeypatch.setattr(attendance, "CHECKS_PER_SECOND", 2)
    monkeypatch.setattr(attendance.asyncio, "sleep", pause)
    present = attendance.Attendance.__new__(attendance.Attendance)

    async def main() -> None:
        await present._check(cast(Any, Away()), [watch("a"), watch("b")])
        await present._check(cast(Any, Away()), [watch("c")])

    asyncio.run(main())
    assert (pauses, refreshed) == ([1], ["a", "b", "c"])


# Heartbeats


class Told:
    def __init__(self, id: str, beats: list[str], then: Any = None) -> None:
        self.id = id
        self._beats = beats
        self._then = then

    def tell(self, frame: Any) -> None:
        self._beats.append(self.id)
        if self._then is not None:
            self._then()


def test_a_heartbeat_gives_others_a_turn_and_passes_over_who_has_left(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FASTWS = {"BEAT_SECONDS": 0.01}
    monkeypatch.setattr(greeting, "MAX_DELIVERIES_IN_A_ROW", 2)
    heard: list[str] = []

    async def main() -> None:
        beats = Beats()
        leaver: Any = Told("leaver", heard)
        first: Any = Told("first", heard, lambda: beats._members.pop("leaver", None))
        for member in (first, leaver, cast(Any, Told("last", heard))):
            beats.start(member)
        async with asyncio.timeout(20):
            while "last" not in heard:
                await asyncio.sleep(0.001)
        for member in (first, leaver, cast(Any, Told("last", heard))):
            await beats.stop(member)
        assert beats._task is None

    asyncio.run(main())
    assert heard[:2] == ["first", "last"]
    assert "leaver" not in heard


# A hub


def test_a_change_of_state_reaches_nobody_in_a_group_without_a_feed() -> None:
    closed: list[Any] = []

    async def main() -> None:
        process = Hub("default", object())
        member: Any = SimpleNamespace(id="m", deliver=closed.append, close=closed.append)
        process.members["g"] = {"m": member}
        await process._deliver(Envelope("g", Change('{"set":{}}'), None, "p", 1))

    asyncio.run(main())
    assert closed == []


def test_a_hub_that_ends_leaves_the_one_that_took_its_place() -> None:
    async def main() -> None:
        layer = object()
        old, new = Hub("default", layer), Hub("default", layer)
        loop = asyncio.get_running_loop()
        hub.hubs[loop] = {id(layer): new}
        hub._forget(old)
        assert hub.hubs[loop] == {id(layer): new}
        hub._forget(new)
        assert loop not in hub.hubs

    asyncio.run(main())


# A subscription


def test_an_outage_of_the_layer_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastws_compat.layers.subscription.RETRY_INTERVAL", 0)
    attempts = 0

    class Down:
        async def new_channel(self, *arguments: Any) -> str:
            nonlocal attempts
            attempts += 1
            raise ConnectionError("away")

    async def main() -> None:
        subscription: Any = Subscription(cast(Any, Down()), "g", cast(Any, None), cast(Any, None))
        running = asyncio.create_task(subscription.run())
        async with asyncio.timeout(20):
            while attempts < 3:
                await asyncio.sleep(0)
        running.cancel()

    asyncio.run(main())
    assert caplog.text.count("The channel layer fails (ConnectionError: away)") == 1
