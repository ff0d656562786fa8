"""The completed daphne, on a fake transport: refused handshakes, responses cut off, and time-outs."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import daphne.server
import pytest

from fastws_compat.daphne import frames
from tests.test_daphne import REQUEST, Connection, Transport, held, masked, recorder, settle
from tests.test_daphne import without_timers as without_timers

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\n"


@pytest.fixture(autouse=True)
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give transports a socket, whose other end is open."""
    here, there = socket.socketpair()
    monkeypatch.setattr(Transport, "getHandle", lambda transport: here, raising=False)
    with here, there:
        yield


pytestmark = pytest.mark.usefixtures("without_timers")


def check_timeouts(connection: Connection, **options: Any) -> None:
    """What daphne does every two seconds, with these options of its command line."""
    vars(connection.server).update(options)
    connection.server.timeout_checker()


class Slow:
    """An application that answers a handshake when it is told to."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        await receive()
        await self.may_answer.wait()
        await send({"type": "websocket.accept"})
        await receive()


@pytest.mark.parametrize("timeout", [0, 30], ids=["no time-out", "time-out"])
def test_a_handshake_begins_when_another_has_been_answered(settings: Any, timeout: int) -> None:
    settings.FASTWS = {"MAX_HANDSHAKES": 1}

    async def main() -> None:
        application = Slow()
        first, second = (Connection(application, openHandshakeTimeout=timeout) for _ in range(2))
        first.receive(REQUEST)
        second.receive(REQUEST)
        await settle()
        assert application.calls == 1
        application.may_answer.set()
        await settle()
        assert application.calls == 2
        for connection in (first, second):
            assert connection.transport.take().startswith(b"HTTP/1.1 101 ")
            connection.lose()
        await settle()

    asyncio.run(main())


@pytest.mark.parametrize("reason", ["the client has left", "the server is stopping"])
def test_a_handshake_that_waited_in_vain_is_refused(settings: Any, reason: str) -> None:
    settings.FASTWS = {"MAX_HANDSHAKES": 1}

    async def main() -> None:
        application = Slow()
        first, second = Connection(application), Connection(application)
        first.receive(REQUEST)
        second.receive(REQUEST)
        second.transport.connected = reason != "the client has left"
        second.server.stopping = reason == "the server is stopping"
        application.may_answer.set()
        await settle()
        assert application.calls == 1
        assert second.transport.take().startswith(UNAVAILABLE)
        assert not second.transport.connected
        for connection in (first, second):
            connection.lose()
        await settle()

    asyncio.run(main())


def test_a_handshake_that_is_not_answered_in_time_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        connection = Connection(Slow())
        connection.receive(REQUEST)
        await settle()
        check_timeouts(connection, websocket_connect_timeout=0)
        assert connection.transport.take().startswith(UNAVAILABLE)
        check_timeouts(connection, websocket_connect_timeout=0)
        assert connection.transport.take() == b""
        connection.task.cancel()
        connection.lose()
        await settle()

    asyncio.run(main())
    assert caplog.text.count("The handshake was not answered in time") == 1


def test_an_answer_that_comes_after_the_refusal_raises() -> None:
    raised: list[Exception] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await may_answer.wait()
        try:
            await send({"type": "websocket.accept"})
        except Exception as exc:
            raised.append(exc)

    async def main() -> None:
        connection = Connection(late)
        connection.receive(REQUEST)
        await settle()
        check_timeouts(connection, websocket_connect_timeout=0)
        assert connection.transport.take().startswith(UNAVAILABLE)
        may_answer.set()
        await settle()
        assert connection.transport.take() == b""
        connection.lose()
        await settle()

    may_answer = asyncio.Event()
    asyncio.run(main())
    [error] = raised
    assert isinstance(error, OSError)
    assert str(error) == "The server has refused the handshake."


def test_a_refused_client_that_does_not_read_is_not_refused_again() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    async def main() -> None:
        connection = Connection(refuse)
        connection.transport.loseConnection = lambda: None  # type: ignore[method-assign]
        connection.receive(REQUEST)
        await settle()
        assert connection.transport.take().startswith(b"HTTP/1.1 403 Forbidden\r\n")
        connection.protocol.onOpenHandshakeTimeout()  # autobahn's timer
        assert connection.transport.take() == b""
        connection.lose()

    asyncio.run(main())


def test_more_early_messages_than_the_inbox_takes_stay_unread_until_they_are_received() -> None:
    count = 5000

    async def main() -> None:
        may_answer, may_read = asyncio.Event(), asyncio.Event()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await may_answer.wait()
            await send({"type": "websocket.accept"})
            await may_read.wait()
            for _ in range(count):
                await receive()

        connection = Connection(application)
        connection.receive(REQUEST)
        connection.receive(b"".join(masked(frames.TEXT, b"") for _ in range(count)))
        may_answer.set()
        await settle()
        assert not connection.protocol.inbox.is_low
        assert not connection.transport.reading
        may_read.set()
        await connection.task
        await settle()
        assert connection.transport.reading
        connection.lose()

    asyncio.run(main())


# A response in parts instead of an open socket


class Streaming:
    """An application that refuses with a body in parts; `go` lets it send the next one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.go = asyncio.Semaphore(0)
        self.sent = 0
        self.error = error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        for part in (b"one", b"two"):
            await send({"type": "websocket.http.response.body", "body": part, "more_body": True})
            self.sent += 1
            await self.go.acquire()
        if self.error is not None:
            raise self.error
        await send({"type": "websocket.http.response.body", "body": b"three"})


async def begun(application: Streaming) -> Connection:
    connection = Connection(application)
    connection.receive(REQUEST)
    await settle()
    assert connection.transport.take().endswith(b"one")
    return connection


def test_a_body_in_parts_waits_for_the_client() -> None:
    async def main() -> None:
        application = Streaming()
        connection = await begun(application)
        connection.transport.producer.pauseProducing()
        application.go.release()
        await settle()
        assert (application.sent, connection.transport.take()) == (1, b"")
        connection.transport.producer.resumeProducing()
        await settle()
        assert (application.sent, connection.transport.take()) == (2, b"two")
        application.go.release()
        await settle()
        assert (connection.transport.take(), connection.transport.closed) == (b"three", "closed")
        connection.lose()

    asyncio.run(main())


def test_a_body_whose_application_fails_is_cut_off() -> None:
    async def main() -> None:
        application = Streaming(LookupError("no more"))
        connection = await begun(application)
        application.go.release()
        application.go.release()
        await settle()
        assert (connection.transport.take(), connection.transport.closed) == (b"two", "aborted")
        connection.lose()

    asyncio.run(main())


def test_a_body_is_cut_off_when_the_server_stops() -> None:
    async def main() -> None:
        application = Streaming()
        connection = await begun(application)
        task = connection.task
        connection.protocol.close_for_restart()
        assert connection.transport.closed == "aborted"
        application.go.release()
        with pytest.raises(OSError, match="disconnected"):
            await task
        connection.lose()

    asyncio.run(main())


# Open sockets


def test_a_socket_may_be_open_for_a_limited_time() -> None:
    async def main() -> None:
        messages: list[Any] = []
        connection = await Connection(recorder(messages)).open()
        check_timeouts(connection, websocket_timeout=0)
        assert connection.transport.take() == frames.build(0x8, (1000).to_bytes(2, "big"))
        await settle()
        assert messages == [{"type": "websocket.disconnect", "code": 1000, "reason": ""}]
        connection.task.cancel()
        connection.lose()
        await settle()

    asyncio.run(main())


def test_the_timeouts_of_a_socket_are_checked_when_one_may_be_due(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        connection = await Connection(recorder([]), autoPingTimeout=30).open()
        protocol, now = connection.protocol, [time.time()]
        for module in ("fastws_compat.daphne.server", "fastws_compat.daphne.protocol"):
            monkeypatch.setattr(f"{module}.time", lambda: now[0])
        checks = []
        check = type(protocol).check_timeouts
        monkeypatch.setattr(
            type(protocol), "check_timeouts", lambda self: checks.append(now[0]) or check(self)
        )
        check_timeouts(connection, ping_interval=20)
        check_timeouts(connection)
        assert len(checks) == 1
        now[0] += 19
        check_timeouts(connection)
        assert len(checks) == 1
        now[0] += 2
        check_timeouts(connection)
        check_timeouts(connection)
        assert len(checks) == 3
        assert connection.transport.take().startswith(b"\x89")
        protocol._pause_reading()
        check_timeouts(connection)
        check_timeouts(connection)
        assert len(checks) == 5
        protocol._resume_reading()
        check_timeouts(connection, websocket_timeout=30)
        assert len(checks) == 6
        now[0] += 10  # the socket has been open for 31 seconds
        check_timeouts(connection)
        assert len(checks) == 7
        connection.task.cancel()
        connection.lose()
        await settle()

    asyncio.run(main())


def test_daphne_looks_only_at_requests_and_at_sockets_whose_client_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[list[Any]] = []
    look = daphne.server.Server.application_checker

    def record(server: Any) -> None:
        shown.append(list(server.connections))
        look(server)

    monkeypatch.setattr(daphne.server.Server, "application_checker", record)

    async def main() -> None:
        go = asyncio.Event()
        connection = await Connection(held(go)).open()
        server, protocol = connection.server, connection.protocol
        request, done = object(), object()
        server.connections |= {request: {}, done: {"disconnected": 1.0}}
        known = server.connections
        server.application_checker()
        assert set(shown[-1]) == {request, done}
        assert server.connections is known
        assert list(known) == [protocol, request]
        connection.lose()
        server.application_checker()
        assert set(shown[-1]) == {protocol, request}
        go.set()
        await settle()
        assert list(known) == [request]
        server.application_checker()
        assert shown[-1] == [request]

    asyncio.run(main())


def test_a_client_is_not_pinged_again_before_its_pong_and_any_message_counts_as_one() -> None:
    async def main() -> None:
        connection = await Connection(recorder([]), autoPingTimeout=30).open()
        check_timeouts(connection, ping_interval=-1)
        assert connection.transport.take().startswith(b"\x89")
        check_timeouts(connection)
        assert connection.transport.take() == b""
        connection.receive(masked(frames.TEXT, b"here"))
        check_timeouts(connection)
        assert connection.transport.take().startswith(b"\x89")
        connection.task.cancel()
        connection.lose()
        await settle()

    asyncio.run(main())
