"""Broadcasts on daphne are written to ready sockets directly, until something about a socket changes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from threading import Thread
from typing import Any, ClassVar, cast
from weakref import ref

import pytest
from django.test import override_settings

from fastws_compat import FastAPI, WebSocket
from fastws_compat.connections import census
from fastws_compat.connections.pipe import Place, Stage, hang_up, pipe_of
from fastws_compat.connections.registry import everywhere
from fastws_compat.connections.states import MEMBER, SESSION
from fastws_compat.groups import Group, hub
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.hub import hub_of
from fastws_compat.groups.member import Member, member_of
from fastws_compat.logins.gate import Login
from fastws_compat.types import Message
from tests.fake_server import until
from tests.test_daphne import REQUEST, Connection, Socket, masked, settle

ROOM = Group("room")


class Wire(Socket):
    """A socket that takes some bytes; what Twisted writes instead follows in the same stream."""

    def __init__(self, stream: bytearray) -> None:
        super().__init__()
        self.stream = stream
        self.room: int | None = None
        self.on_send: Callable[[], object] = lambda: None

    def send(self, data: bytes) -> int:
        self.on_send()
        if self.room == 0:
            raise BlockingIOError
        taken = data[: self.room]
        self.stream += taken
        return len(taken)


class Client(Connection):
    """A client that has joined the group, and what it has been sent since."""

    websocket: WebSocket

    @classmethod
    async def of(cls, app: FastAPI, path: bytes = b"/a") -> Client:
        client = cls(app)
        transport = cast(Any, client.transport)
        transport._tempDataLen, transport.dataBuffer = 0, b""
        client.wire = client.protocol._socket = Wire(client.transport.written)
        client.protocol.upgrade = replace(client.protocol.upgrade, target=path)
        client.receive(REQUEST)
        await until(lambda: b"ready" in client.transport.written)
        client.transport.take()
        [session] = [each for each in everywhere() if each.server is client.protocol]
        client.websocket = cast(Any, session.websocket)
        client.session = session
        return client

    wire: Wire
    session: Any

    @property
    def member(self) -> Member:
        return member_of(self.websocket)

    @property
    def is_ready(self) -> bool:
        return self.member.socket is not None

    async def end(self) -> None:
        self.lose()
        await until(lambda: self.session not in everywhere())


def app_with(group: Group[Any] = ROOM) -> FastAPI:
    app = FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(group)
        await websocket.send_text("ready")
        async for _ in websocket.iter_text():
            pass

    return app


def frame(text: str) -> bytes:
    return bytes((0x81, len(text))) + text.encode()


async def tell(text: str, group: Group[Any] = ROOM) -> None:
    await group.asend(text)
    await settle()


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages for which the state of a member has been looked at."""
    found: list[str] = []
    deliver = Member.deliver

    def noted(member: Member, delivery: Frame) -> None:
        found.append(delivery.message["text"])
        deliver(member, delivery)

    monkeypatch.setattr(Member, "deliver", noted)
    return found


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(limited())


def test_a_ready_socket_is_written_to_directly_and_counted(checked: list[str]) -> None:
    async def main() -> None:
        clients = [await Client.of(app_with()) for _ in range(2)]
        for text in ("one", "two", "three"):
            await tell(text)
        for client in clients:
            assert client.transport.take() == frame("one") + frame("two") + frame("three")
            assert client.session.counts == (0, 4, 0, len("readyonetwothree"))
        assert checked == ["one", "one"]
        for client in clients:
            await client.end()
            assert client.protocol.counts == (0, 4, 0, len("readyonetwothree"))

    run(main)


def test_what_a_socket_does_not_take_is_left_to_twisted_and_comes_first(checked: list[str]) -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        await tell("one")
        transport = cast(Any, client.transport)
        client.wire.room = 2
        transport.dataBuffer = b"kept"
        await tell("two")
        assert not client.is_ready
        client.wire.room = None
        await tell("three")
        assert not client.is_ready  # Twisted still has the rest
        transport.dataBuffer = b""
        await tell("four")
        assert client.is_ready
        client.wire.room = 0  # full
        await tell("five")
        client.wire.room = None
        await tell("six")
        assert client.transport.take() == b"".join(map(frame, ("one", "two", "three", "four", "five", "six")))
        assert checked == ["one", "three", "four", "six"]
        assert client.session.messages_out == 7
        await client.end()

    run(main)


class Noting(Stage):
    """A stage that sees every message."""

    place: ClassVar[Place] = Place.TAP

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def send(self, message: Message) -> None:
        self.seen.append(message.get("text"))
        await self._send(message)


def test_a_stage_that_is_inserted_sees_the_next_message(checked: list[str]) -> None:
    async def main() -> None:
        client, stage = await Client.of(app_with()), Noting()
        await tell("one")
        pipe_of(client.websocket).insert(stage)
        await tell("two")
        assert not client.is_ready
        pipe_of(client.websocket).remove(stage)
        await tell("three")
        assert client.is_ready
        assert (stage.seen, checked) == (["two"], ["one", "two", "three"])
        assert client.transport.take() == frame("one") + frame("two") + frame("three")
        await client.end()

    run(main)


async def hung_up(client: Client) -> None:
    await hang_up(client.websocket, 4000, "")


async def closed(client: Client) -> None:
    await client.websocket.close()


async def closed_by_client(client: Client) -> None:
    client.receive(masked(0x8, b"\x03\xe8"))


async def closed_by_server(client: Client) -> None:
    client.protocol.close_from_server(1012)


async def logged_out(client: Client) -> None:
    login = Login(client.websocket, client.websocket.scope[SESSION], "1")
    await tell("again")
    assert client.is_ready
    client.transport.take()
    login.end(4401, "")


async def told_that_it_is_over(client: Client) -> None:
    """As middleware may do that has a `receive` of its own."""
    await client.websocket._checked({"type": "websocket.disconnect", "code": 1000})


async def left(client: Client) -> None:
    await client.websocket.leave(ROOM)


async def expelled(client: Client) -> None:
    client.member.expel(4401)


@pytest.mark.parametrize(
    "change",
    [
        hung_up,
        closed,
        closed_by_client,
        closed_by_server,
        logged_out,
        told_that_it_is_over,
        left,
        expelled,
    ],
)
def test_a_socket_gets_nothing_after_its_end(change: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        client, other = await Client.of(app_with()), await Client.of(app_with())
        await tell("one")
        assert client.is_ready
        client.transport.take()
        await change(client)
        assert change is left or not client.is_ready
        await tell("late")
        assert b"late" not in client.transport.take()
        assert other.transport.take().endswith(frame("late"))
        await client.end()
        await other.end()

    run(main)


def test_a_client_that_does_not_read_gets_everything_in_order(checked: list[str]) -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        await tell("one")
        client.protocol.pauseProducing()
        await tell("two")
        await tell("three")
        assert client.transport.take() == frame("one")
        client.protocol.resumeProducing()
        await until(lambda: client.member._task is None)
        await tell("four")
        assert client.transport.take() == frame("two") + frame("three") + frame("four")
        assert checked == ["one", "two", "three", "four"]
        await client.end()

    run(main)


def test_what_is_queued_comes_before_the_next_message() -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        await tell("one")
        client.member.put(Frame({"type": "websocket.send", "text": "queued"}))
        assert not client.is_ready
        await tell("two")
        assert client.transport.take() == frame("one") + frame("queued") + frame("two")
        await client.end()

    run(main)


def test_two_members_on_one_connection_are_counted_together() -> None:
    """A socket made from a copy of the scope is a member of its own."""

    async def main() -> None:
        client = await Client.of(app_with())
        websocket = client.websocket
        scope = {key: value for key, value in websocket.scope.items() if key != MEMBER}
        again = WebSocket(scope, websocket._receive, websocket._send)
        again.client_state = again.application_state = websocket.client_state
        second = member_of(again)
        hub_of("default").add("room", second)
        for text in ("one", "two"):
            await tell(text)
        assert client.transport.take() == 2 * frame("one") + 2 * frame("two")
        assert (client.member.socket is None) != (second.socket is None)
        assert client.session.counts == (0, 5, 0, len("readyoneonetwotwo"))
        hub_of("default").discard("room", second)
        await client.end()

    run(main)


@pytest.fixture
def _measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(census, "_totals", {})
    monkeypatch.setattr(census, "is_on", True)
    with override_settings(FASTWS={"METRICS_SIZES": True}):
        yield


@pytest.mark.usefixtures("_measured")
def test_sizes_that_are_measured_are_those_of_every_message() -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        await tell("one")
        await tell("two")
        assert client.transport.take() == frame("one") + frame("two")
        assert sum(client.protocol.sizes[1].counts) == 3
        assert not client.is_ready
        await client.end()

    run(main)


def test_a_client_of_live_js_gets_its_envelope_and_others_do_not() -> None:
    async def main() -> None:
        app = app_with()
        plain, ours = await Client.of(app), await Client.of(app, b"/a?fastws=")
        for text in ("one", "two"):
            await tell(text)
        assert plain.transport.take() == frame("one") + frame("two")
        written = ours.transport.take()
        assert written.count(b'"fastws":"message"') == 2
        assert ours.is_ready
        assert plain.is_ready
        await plain.end()
        await ours.end()

    run(main)


def test_a_history_uses_ready_sockets_except_for_who_must_not_see_the_message(
    settings: Any, checked: list[str]
) -> None:
    settings.FASTWS = {"GROUPS": {"kept": {"history": True}}}
    kept = Group("kept")

    async def main() -> None:
        clients = [await Client.of(app_with(kept)) for _ in range(2)]
        await tell("one", kept)
        await tell("two", kept)
        await kept.asend("three", exclude=clients[0].websocket)
        await settle()
        assert clients[0].transport.take() == frame("one") + frame("two")
        assert clients[1].transport.take() == frame("one") + frame("two") + frame("three")
        assert checked == ["one", "one", "three"]
        for client in clients:
            await client.end()

    run(main)


def test_a_message_that_excludes_a_member_is_written_to_the_others_directly(checked: list[str]) -> None:
    async def main() -> None:
        clients = [await Client.of(app_with()) for _ in range(2)]
        await tell("one")
        await ROOM.asend("two", exclude=clients[0].websocket)
        await settle()
        assert clients[0].transport.take() == frame("one")
        assert clients[1].transport.take() == frame("one") + frame("two")
        assert checked == ["one", "one"]
        for client in clients:
            await client.end()

    run(main)


def test_who_leaves_because_of_a_delivery_to_another_member_does_not_get_it() -> None:
    async def main() -> None:
        first, second = [await Client.of(app_with()) for _ in range(2)]
        first.wire.on_send = lambda: hub_of("default").discard("room", second.member)
        await tell("one")
        assert first.transport.take() == frame("one")
        assert second.transport.take() == b""
        for client in (first, second):
            await client.end()

    run(main)


@pytest.mark.parametrize("is_kept", [False, True])
def test_who_leaves_while_others_get_a_message_does_not_get_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    settings.FASTWS = {"GROUPS": {"kept": {"history": True}}}
    monkeypatch.setattr(hub, "MAX_DELIVERIES_IN_A_ROW", 1)
    group = Group("kept") if is_kept else ROOM

    async def main() -> None:
        first, second, third = [await Client.of(app_with(group)) for _ in range(3)]
        await tell("one", group)
        leaving = (group.name, second.member)
        first.wire.on_send = lambda: asyncio.get_running_loop().call_soon(hub_of("default").discard, *leaving)
        await tell("two", group)
        assert second.is_ready  # only the group has changed
        assert second.transport.take() == frame("one")
        assert first.transport.take() == third.transport.take() == frame("one") + frame("two")
        for client in (first, second, third):
            await client.end()

    run(main)


def test_a_login_that_another_thread_ends_during_a_write_gets_nothing_more() -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        login = Login(client.websocket, client.websocket.scope[SESSION], "1")

        def end() -> None:
            thread = Thread(target=login.end, args=(4401, ""))
            thread.start()
            thread.join()

        client.wire.on_send = end
        client.member.deliver(Frame({"type": "websocket.send", "text": "one"}))
        assert not client.is_ready
        await client.end()

    run(main)


@pytest.mark.parametrize("is_lent", [False, True])
def test_a_member_whose_connection_has_ended_is_freed_without_the_collector(is_lent: bool) -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        if is_lent:
            await tell("one")
            await tell("two")
        freed = [ref(client.member), ref(client.websocket)]
        await client.end()
        del client
        await until(lambda: [each() for each in freed] == [None, None])

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()


def test_a_connection_that_is_lost_keeps_the_counts_and_not_the_member() -> None:
    async def main() -> None:
        client = await Client.of(app_with())
        await tell("one")
        await tell("two")
        member = client.member
        client.lose()
        assert member.socket is None
        assert client.protocol._outlet is not member
        await until(lambda: client.session not in everywhere())
        assert client.protocol.counts[1] == 3

    run(main)
