"""Members of groups: what a client that does not understand recovery gets, queues, heartbeats and layers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastws_compat.groups import greeting, hub
from fastws_compat.groups.greeting import Beats
from fastws_compat.groups.hub import Hub
from fastws_compat.groups.member import LiveMember, Member
from fastws_compat.groups.positions import NO_CLAIM, parse_claims
from fastws_compat.layers.subscription import Subscription
from fastws_compat.layers.wire import Change, Envelope


def socket_of(**more: Any) -> Any:
    return SimpleNamespace(scope={"type": "websocket"}, **more)


def test_a_plain_client_has_one_id_and_claims_nothing() -> None:
    plain = Member(socket_of())
    assert plain.ids == (plain.id,)
    assert plain.claim("g") is NO_CLAIM
    assert plain.close_reason("reads too slowly") == "reads too slowly"


def test_a_client_of_ours_is_told_over_how_many_seconds_to_reconnect(settings: Any) -> None:
    settings.FASTWS = {"RECONNECT_SPREAD": 7}
    ours = LiveMember(socket_of(), parse_claims(""))
    assert ours.close_reason("reads too slowly") == "reads too slowly; spread=7"
    assert set(ours.ids) == {ours.id}


def test_a_member_forgets_a_group_on_every_layer() -> None:
    member = Member(socket_of())
    here = cast(Hub, object())
    member.joined.update({("default", "a"): here, ("other", "a"): here, ("default", "b"): here})
    member.forget("a")
    assert list(member.joined) == [("default", "b")]


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
    assert caplog.text.count("The channel layer fails (ConnectionError('away'))") == 1
