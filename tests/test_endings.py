"""All the ways a connection can end: the endpoint sees the end or is cancelled, and cleanup runs once."""

import asyncio
import contextvars
import gc
import logging
import random
import threading
import time

import pytest
from django.test import override_settings

from fastws_compat import BackgroundTasks, Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.concurrency import is_cleaning, run_in_threadpool
from fastws_compat.connections import sweeper as sweeping
from fastws_compat.connections.registry import register
from fastws_compat.connections.states import SESSION
from fastws_compat.responses import PlainTextResponse
from fastws_compat.testclient import TestClient
from fastws_compat.threads.orm import _close_stale
from tests.fake_server import CONNECT, FakeServer, connected, converse, disconnect, until, websocket_scope
from tests.servers import faults

TIMEOUT = 10


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Sweep connections so often that no test has to wait, without checking the database."""

    async def check(): ...

    monkeypatch.setattr(sweeping, "INTERVAL", 0.01)
    monkeypatch.setattr(sweeping, "close_stale_connections", check)


class Sweeps:
    """Counts the sweeps, as a member of the connections that are swept."""

    task = None

    def __init__(self):
        self.number = 0

    def sweep(self, now):
        self.number += 1


async def swept(times=5):
    """Wait until all connections have been swept at least this many more times."""
    sweeps = Sweeps()
    connections = register(sweeps)
    await until(lambda: sweeps.number >= times)
    connections.discard(sweeps)


def records(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "fastws_compat"]


# The client leaves while the endpoint is not receiving


def test_endpoint_that_only_sends_sees_the_real_code(caplog):
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def ticker(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                await websocket.send_text("tick")
                await asyncio.sleep(0.001)
        except WebSocketDisconnect as exc:
            seen.append((exc.code, exc.reason))
            raise

    async def run():
        line = connected(app)
        await line.wait_sent("websocket.send")
        line.hang_up(4321, "enough")
        await line.wait_ended()
        assert line.closes == []

    asyncio.run(run())
    assert seen == [(4321, "enough")]
    assert records(caplog) == []


def test_client_state_shows_a_disconnect_that_was_not_received():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def polls(websocket: WebSocket):
        await websocket.accept()
        while websocket.client_state.name == "CONNECTED":
            await asyncio.sleep(0.001)
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as exc:
            seen.append(exc.code)

    async def run():
        line = connected(app)
        await line.wait_sent("websocket.accept")
        line.hang_up()
        await line.wait_ended()

    asyncio.run(run())
    assert seen == [1001]


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
@pytest.mark.parametrize("kind", ["plain", "with a generator", "starlette"])
def test_endpoint_that_sleeps_is_cancelled_after_the_grace(kind, caplog):
    app, seen = FastAPI(), []

    async def generator():
        try:
            yield
        except BaseException as exc:
            seen.append(repr(exc))
            raise

    async def sleeps(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    match kind:
        case "plain":
            app.websocket("/ws")(sleeps)
        case "with a generator":
            app.websocket("/ws", dependencies=[Depends(generator)])(sleeps)
        case "starlette":
            app.websocket_route("/ws")(sleeps)

    async def run():
        line = connected(app)
        await line.wait_sent("websocket.accept")
        line.hang_up(1001)
        await line.wait_ended()
        assert line.closes == []
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(run())
    assert seen == ["cancelled", *(["WebSocketDisconnect(1001)"] if kind == "with a generator" else [])]
    assert records(caplog) == []


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
def test_endpoint_is_not_cancelled_again_while_it_handles_the_first_time():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def sleeps(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        finally:
            for seconds in (10, 20):  # much later
                websocket.scope[SESSION].sweep(asyncio.get_running_loop().time() + seconds)
            await asyncio.sleep(0)
            seen.append("saved")

    converse(app, disconnect())
    assert seen == ["saved"]


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
def test_endpoint_that_swallows_its_cancellation_is_cancelled_again():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def stubborn(websocket: WebSocket):
        await websocket.accept()
        while len(seen) < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")

    converse(app, disconnect())
    assert seen == ["cancelled", "cancelled"]


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
def test_endpoint_that_saw_the_disconnect_takes_the_time_it_needs():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def thorough(websocket: WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            await swept()
            seen.append("saved")

    converse(app, disconnect())
    assert seen == ["saved"]


@override_settings(FASTWS={"DISCONNECT_GRACE": None})
def test_without_a_grace_no_endpoint_is_cancelled():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def deaf(websocket: WebSocket):
        await websocket.accept()
        while websocket.client_state.name == "CONNECTED":
            await asyncio.sleep(0.001)
        await swept()
        seen.append("ran to its end")

    assert [message["type"] for message in converse(app, disconnect())] == ["websocket.accept"]
    assert seen == ["ran to its end"]


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
def test_background_tasks_and_teardown_are_not_cancelled_when_the_client_is_gone():
    app, seen = FastAPI(), []

    async def generator():
        yield
        await swept()
        seen.append("torn down")

    async def work():
        await swept()
        seen.append("worked")

    @app.websocket("/ws", dependencies=[Depends(generator)])
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks):
        tasks.add_task(work)
        await websocket.accept()
        while websocket.client_state.name == "CONNECTED":
            await asyncio.sleep(0)

    converse(app, disconnect())
    assert seen == ["worked", "torn down"]


def test_cancellation_from_outside_is_not_swallowed():
    app = FastAPI()

    @app.websocket("/ws")
    async def sleeps(websocket: WebSocket):
        await websocket.accept()
        await asyncio.Event().wait()

    async def run():
        line = connected(app)
        await line.wait_sent("websocket.accept")
        line.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await line.task

    asyncio.run(run())


# Messages that were read ahead are not lost


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ([str(number) for number in range(20)], 4),  # 16 fill the buffer
        (["x" * 40_000 + str(number) for number in range(5)], 3),  # as 2 long ones do
    ],
    ids=["many", "long"],
)
def test_messages_that_were_read_ahead_keep_their_order(messages, left):
    app, go = FastAPI(), asyncio.Event()

    @app.websocket("/ws")
    async def slow(websocket: WebSocket):
        await websocket.accept()
        await go.wait()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    async def run():
        line = connected(app)
        for message in messages:
            line.say(message)
        await until(lambda: len(line.incoming) == left)
        await swept()
        assert len(line.incoming) == left
        go.set()
        line.hang_up()
        await line.wait_ended()
        assert line.texts == messages

    asyncio.run(run())


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
def test_endpoint_with_unread_messages_is_cancelled_when_the_client_is_gone():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def sleeps(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            with pytest.raises(WebSocketDisconnect) as end:
                await websocket.send_text("anybody there?")
            seen.append(end.value.code)

    async def run():
        line = connected(app)
        line.say("unread")
        line.say("unread, too")
        line.hang_up(4001)
        await line.wait_ended()
        assert (line.texts, line.closes) == ([], [])

    asyncio.run(run())
    assert seen == ["cancelled", 4001]


@override_settings(FASTWS={"DISCONNECT_GRACE": TIMEOUT})
def test_endpoint_that_comes_back_in_time_gets_its_messages_and_the_end():
    app, seen, back = FastAPI(), [], asyncio.Event()

    @app.websocket("/ws")
    async def slow(websocket: WebSocket):
        await websocket.accept()
        await back.wait()
        back.clear()
        seen.append(await websocket.receive_text())
        await back.wait()
        async for text in websocket.iter_text():
            seen.append(text)

    async def run():
        line = connected(app)
        line.say("a")
        line.say("b")
        await until(lambda: not line.incoming)
        back.set()
        await until(lambda: seen == ["a"])
        line.say("c")
        await until(lambda: not line.incoming)  # the endpoint is busy again, and the read-ahead receives
        line.hang_up()
        await until(lambda: not line.incoming)
        back.set()
        await line.wait_ended()

    asyncio.run(run())
    assert seen == ["a", "b", "c"]


def test_cancelled_receive_loses_no_message_that_was_read_ahead():
    app = FastAPI()

    @app.websocket("/ws")
    async def impatient(websocket: WebSocket):
        await websocket.accept()
        await until(lambda: lines[0].receiving)  # by the read-ahead
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(websocket.receive_text(), 0.01)
        lines[0].say("at last")
        await websocket.send_text(await websocket.receive_text())

    lines = []

    async def run():
        lines.append(connected(app))
        await lines[0].wait_ended()
        assert lines[0].texts == ["at last"]
        assert lines[0].closes == [1000]

    asyncio.run(run())


def test_two_tasks_that_receive_get_each_message_once():
    app, got = FastAPI(), []

    @app.websocket("/ws")
    async def two(websocket: WebSocket):
        await websocket.accept()
        await until(lambda: lines[0].receiving)  # by the read-ahead

        async def reader():
            got.append(await websocket.receive_text())

        async with asyncio.TaskGroup() as group:
            group.create_task(reader())
            group.create_task(reader())
            await asyncio.sleep(0)
            lines[0].say("a")
            lines[0].say("b")

    lines = []

    async def run():
        lines.append(connected(app))
        await lines[0].wait_ended()

    asyncio.run(run())
    assert sorted(got) == ["a", "b"]


def test_endpoint_that_is_receiving_has_no_task_besides_its_own():
    app = FastAPI()

    @app.websocket("/ws")
    async def echo(websocket: WebSocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    async def run():
        line = connected(app)
        await line.wait_sent("websocket.accept")
        for number in range(20):
            await swept(1)
            line.say(str(number))
        await until(lambda: len(line.texts) == 20)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task(), line.task})
        line.hang_up()
        await line.wait_ended()

    asyncio.run(run())


def test_watcher_ends_with_the_endpoint():
    app = FastAPI()

    @app.websocket("/ws")
    async def busy(websocket: WebSocket):
        await websocket.accept()
        await until(lambda: lines[0].receiving)

    lines = []

    async def run():
        lines.append(connected(app))
        await lines[0].wait_ended()
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        assert lines[0].closes == [1000]

    asyncio.run(run())


def test_error_of_the_server_reaches_the_endpoint_that_receives_later():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await swept()
        try:
            await websocket.receive_text()
        except ValueError as exc:
            seen.append(str(exc))

    converse(app, ValueError("broken server"))
    assert seen == ["broken server"]


def test_sweep_has_no_context_of_the_first_connection():
    variable, seen = contextvars.ContextVar("variable", default="nobody's"), []
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await until(lambda: seen)

    async def run():
        class Server(FakeServer):
            async def receive(self):
                if not self.incoming:
                    seen.append(variable.get())
                return await super().receive()

        variable.set("the first one's")
        server = Server(CONNECT)
        server.start(app)
        await server.wait_ended()

    asyncio.run(run())
    assert seen == ["nobody's"]


# The handshake


@override_settings(FASTWS={"HANDSHAKE_TIMEOUT": 0.05})
@pytest.mark.parametrize("can_deny", [True, False])
def test_handshake_that_is_not_answered_is_refused(can_deny, caplog):
    app, seen = FastAPI(), []

    async def slow():
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("left")

    @app.websocket("/ws/{name}", dependencies=[Depends(slow)])
    async def endpoint(websocket: WebSocket): ...

    async def run():
        extensions = {"websocket.http.response": {}} if can_deny else {}
        line = connected(app, path="/ws/x", extensions=extensions)
        await line.wait_ended()
        answer = line.sent[0]
        assert answer.get("status", answer["type"]) == (503 if can_deny else "websocket.close")
        assert len(line.sent) == (2 if can_deny else 1)

    asyncio.run(run())
    assert seen == ["left"]
    assert records(caplog) == ["WebSocket /ws/{name}: the handshake was not answered in 0.05 s"]
    [record] = caplog.records
    assert record.route == "/ws/{name}"
    assert record.connection_id is not None


def gone():
    """The connection to a client that has left, as far as `send` knows."""
    return FakeServer(CONNECT, error=ConnectionResetError("gone"))


@override_settings(FASTWS={"HANDSHAKE_TIMEOUT": 0.05})
@pytest.mark.parametrize("can_deny", [True, False])
def test_refusal_that_comes_too_late_for_its_client_is_no_error(can_deny, caplog):
    app, failures = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await asyncio.Event().wait()

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        server = gone()
        server.start(app, websocket_scope(extensions={"websocket.http.response": {}} if can_deny else {}))
        await server.wait_ended()
        gc.collect()  # reports tasks whose exceptions nobody has seen

    asyncio.run(run())
    assert failures == []
    assert records(caplog) == ["WebSocket /ws: the handshake was not answered in 0.05 s"]


async def answering(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})


async def answering_in_a_group(scope, receive, send):
    async with asyncio.TaskGroup() as group:
        group.create_task(answering(scope, receive, send))


async def failing(scope, receive, send):
    raise FileNotFoundError("its own")


def denying(app):
    return PlainTextResponse("not you", 418)


def passing(app):
    return app


@pytest.mark.parametrize("is_method", [True, False])
@pytest.mark.parametrize(
    ("mounted", "middleware", "errors"),
    [
        (None, None, 0),
        (None, denying, 0),
        (answering, None, 0),
        (answering, passing, 0),
        (answering_in_a_group, None, 0),
        (failing, None, 1),
    ],
)
def test_code_that_sends_to_a_client_that_has_left_is_no_error(
    mounted, middleware, errors, is_method, caplog
):
    """Here nothing turns the error of the server's `send` into a WebSocketDisconnect."""
    app = FastAPI()
    if mounted is not None:
        app.mount("/ws", mounted)
    if middleware is not None:
        app.add_middleware(middleware)

    async def run():
        server = gone()

        async def send(message):
            await server.send(message)

        scope = websocket_scope("/ws/", extensions={"websocket.http.response": {}})
        await app(scope, server.receive, server.send if is_method else send)

    asyncio.run(run())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        FileNotFoundError
    ] * errors


# Cleanup


@override_settings(FASTWS={"CLEANUP_TIMEOUT": 0.05})
def test_teardown_that_hangs_is_cancelled_and_the_others_run(caplog):
    app, seen = FastAPI(), []

    async def outer():
        try:
            yield
        finally:
            seen.append("outer")

    async def hangs(outer=Depends(outer)):
        yield
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("hung")

    @app.websocket("/ws", dependencies=[Depends(hangs)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    assert converse(app)[-1] == {"type": "websocket.close", "code": 1011, "reason": ""}
    assert seen == ["hung", "outer"]
    [message] = records(caplog)
    assert message == "Exception in WebSocket /ws"
    assert "The cleanup of a dependency took longer than 0.05 s" in caplog.text
    assert "await asyncio.Event().wait()" in caplog.text  # where it was blocked


@override_settings(FASTWS={"CLEANUP_TIMEOUT": 0.05})
def test_background_tasks_are_no_cleanup():
    app, seen = FastAPI(), []

    async def generator():
        yield
        seen.append("torn down")

    async def work():
        await asyncio.sleep(0.2)
        seen.append("worked")

    @app.websocket("/ws", dependencies=[Depends(generator)])
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks):
        tasks.add_task(work)
        await websocket.accept()

    converse(app)
    assert seen == ["worked", "torn down"]


def test_a_task_is_cleaning_while_its_dependencies_are_torn_down():
    app, seen = FastAPI(), []

    def look(where):
        seen.append((where, is_cleaning(asyncio.current_task())))

    def looking(where):
        async def generator():
            look(f"before {where}")
            yield
            look(where)

        return generator

    async def work():
        look("background")

    request, function = Depends(looking("request")), Depends(looking("function"), scope="function")

    @app.websocket("/ws", dependencies=[request, function])
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks):
        tasks.add_task(work)
        await websocket.accept()
        look("endpoint")

    async def run():
        line = connected(app)
        await line.wait_ended()
        assert not is_cleaning(line.task)

    asyncio.run(run())
    assert seen == [
        ("before request", False),
        ("before function", False),
        ("endpoint", False),
        ("function", True),
        ("background", False),
        ("request", True),
    ]


def test_a_connection_without_generators_is_never_cleaning():
    app, seen = FastAPI(), []

    async def plain():
        seen.append(is_cleaning(asyncio.current_task()))

    @app.websocket("/ws", dependencies=[Depends(plain)])
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks):
        tasks.add_task(plain)
        await websocket.accept()

    converse(app)
    assert seen == [False, False]


def test_the_test_client_does_not_cancel_a_cleanup_below_a_middleware_that_copies_the_scope():
    app, seen, began = FastAPI(), [], threading.Event()

    async def copying(scope, receive, send):
        await app(dict(scope), receive, send)

    async def slow():
        yield
        began.set()
        await asyncio.sleep(0.2)
        seen.append("cleaned up")

    @app.websocket("/ws", dependencies=[Depends(slow)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    with TestClient(copying, grace=0.01).websocket_connect("/ws"):
        assert began.wait(TIMEOUT)
    assert seen == ["cleaned up"]


@override_settings(FASTWS={"CLEANUP_TIMEOUT": 0.05})
def test_end_of_a_session_that_hangs_is_left_behind(caplog):
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        async def hangs():
            await asyncio.Event().wait()

        async def works():
            seen.append("left")

        session = websocket.scope["fastws_compat.session"]
        session.at_end(works)
        session.at_end(hangs)

    converse(app)
    assert seen == ["left"]
    assert records(caplog) == ["The end of a WebSocket session failed"]


@pytest.mark.parametrize("while_waiting", ["for a callback", "for a task", "for nothing"])
def test_cancellation_at_the_end_of_a_session_leaves_no_callback_out(while_waiting, caplog):
    """They free what is counted: the places of users, members of groups, logins."""
    app, seen, release = FastAPI(), [], asyncio.Event()
    waits = asyncio.Event()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        async def works():
            seen.append("left")

        async def hangs():
            waits.set()
            await release.wait()

        async def raises():
            raise asyncio.CancelledError  # by awaiting a task that was cancelled, for example

        session = websocket.scope["fastws_compat.session"]
        session.at_end(works)
        if while_waiting == "for a task":
            session.spawn(hangs())
        else:
            session.at_end(hangs if while_waiting == "for a callback" else raises)

    async def run():
        line = connected(app)
        if while_waiting == "for nothing":
            await line.wait_ended()
            return
        await asyncio.wait_for(waits.wait(), TIMEOUT)
        line.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await line.task
        release.set()

    asyncio.run(run())
    assert seen == ["left"]
    failed = ["The end of a WebSocket session failed"] if while_waiting == "for nothing" else []
    assert records(caplog) == failed


def test_cancelled_sync_dependency_has_left_its_thread_before_the_teardown():
    app, seen = FastAPI(), []
    entered, release = threading.Event(), threading.Event()

    def resource():
        try:
            yield
        finally:
            seen.append("teardown")

    def works(resource=Depends(resource)):
        entered.set()
        assert release.wait(TIMEOUT)
        seen.append("left the thread")

    @app.websocket("/ws", dependencies=[Depends(works)])
    async def endpoint(websocket: WebSocket): ...

    async def run():
        line = connected(app)
        await asyncio.to_thread(entered.wait, TIMEOUT)
        line.task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert seen == []
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await line.task

    asyncio.run(run())
    assert seen == ["left the thread", "teardown"]


# Threads and Django's connections


def test_sync_dependencies_of_many_handshakes_share_the_threads():
    app, count, threads, duration = FastAPI(), 200, 8, 0.05
    together = threading.Barrier(threads)

    def slow():
        together.wait(TIMEOUT)  # no thread continues until all eight are here
        time.sleep(duration)

    @app.websocket("/ws", dependencies=[Depends(slow)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    async def run():
        start = time.monotonic()
        lines = [connected(app) for _ in range(count)]
        for line in lines:
            await line.wait_ended()
        assert all(line.sent[0]["type"] == "websocket.accept" for line in lines)
        return time.monotonic() - start

    with override_settings(FASTWS={"HANDSHAKE_TIMEOUT": None}):
        # An eighth of the time on an idle machine, and slightly more on a busy one.
        assert asyncio.run(run()) < count * duration / 5


class Connection:
    """The part of a Django database connection that the check uses."""

    def __init__(self, close_at=None, errors_occurred=False):
        self.close_at = close_at
        self.errors_occurred = errors_occurred
        self.checked = False

    def close_if_unusable_or_obsolete(self):
        self.checked = True


def test_connections_of_the_async_orm_are_checked_when_broken_or_long_expired(monkeypatch):
    now = time.monotonic()
    broken, old = Connection(errors_occurred=True), Connection(close_at=now - 61)
    fresh, persistent = Connection(close_at=now), Connection()

    class Connections:
        def all(self, initialized_only):
            return [broken, old, fresh, persistent]

    monkeypatch.setattr("django.db.connections", Connections())
    _close_stale()
    assert [c.checked for c in (broken, old, fresh, persistent)] == [True, True, False, False]


def test_connections_are_checked_without_a_hop_per_message(monkeypatch):
    app, checks = FastAPI(), []

    async def check():
        checks.append("check")

    monkeypatch.setattr(sweeping, "close_stale_connections", check)
    monkeypatch.setattr(sweeping, "DATABASE_INTERVAL", 0.05)

    @app.websocket("/ws")
    async def echo(websocket: WebSocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    async def run():
        line = connected(app)
        for number in range(500):
            line.say(str(number))
        await until(lambda: len(line.texts) == 500)
        await until(lambda: len(checks) >= 2)
        line.hang_up()
        await line.wait_ended()

    asyncio.run(run())
    assert len(checks) < 500


def test_failed_check_of_connections_is_logged_and_affects_no_socket(monkeypatch, caplog):
    app = FastAPI()

    async def check():
        raise LookupError("no such database")

    monkeypatch.setattr(sweeping, "close_stale_connections", check)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await until(lambda: records(caplog))

    async def run():
        line = connected(app)
        await line.wait_ended()
        assert line.closes == [1000]

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert records(caplog) == ["Django's database connections could not be checked"]


@pytest.mark.django_db(transaction=True)
def test_async_orm_of_an_old_endpoint_survives_a_broken_connection():
    from django.contrib.auth.models import User
    from django.db import connection, connections
    from django.db.backends.base.base import BaseDatabaseWrapper

    from fastws_compat.threads.orm import close_stale_connections

    def leave():
        """Close for real: Django keeps in-memory SQLite databases open, which would affect later tests."""
        BaseDatabaseWrapper.close(connections["default"])

    def break_it():
        connection.ensure_connection()
        connection.errors_occurred = True

    async def run():
        from asgiref.sync import sync_to_async

        assert await User.objects.acount() == 0
        await sync_to_async(break_it)()
        await close_stale_connections()
        assert not await sync_to_async(lambda: connection.errors_occurred)()
        assert await User.objects.acount() == 0
        await sync_to_async(leave)()

    asyncio.run(run())


def test_result_of_a_thread_that_is_not_cancelled():
    assert asyncio.run(run_in_threadpool(lambda: 1)) == 1


# Faults at random points


def pairs(count):
    """Seeded pairs of a point and a fault."""
    dice = random.Random(2026)
    chosen = [*faults.OWN_FAULTS, "close", "reset", "stop"]
    return [(dice.choice(faults.POINTS), dice.choice(chosen), dice.random() / 100) for _ in range(count)]


async def suffer(number, point, fault, delay):
    """One connection with a fault. The server refuses to send after a "reset", and cancels for "stop"."""
    name = f"pair{number}"
    outside = fault in ("close", "reset", "stop")
    line = connected(faults.app, path=f"/fault/{point}/{'close' if outside else fault}/{name}")
    if outside:
        await asyncio.wait_for(faults.event(faults.reached, name).wait(), TIMEOUT)
        await asyncio.sleep(delay)
        if fault == "stop":
            line.task.cancel()
        else:
            line.error = OSError("The client is gone.") if fault == "reset" else None
            line.hang_up(1006 if fault == "reset" else 1001)
        faults.event(faults.go, name).set()
    await asyncio.wait([line.task], timeout=TIMEOUT)
    assert line.task.done(), (point, fault)
    assert line.task.cancelled() or line.task.exception() is None


def test_a_thousand_faults_leave_nothing_behind():
    for books in (faults.began, faults.ended, faults.reached, faults.go):
        books.clear()
    threads = set(threading.enumerate())

    async def run():
        for start in range(0, 1000, 100):
            cases = enumerate(pairs(1000)[start : start + 100], start)
            await asyncio.gather(*(suffer(number, *case) for number, case in cases))
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(run())
    assert faults.began == faults.ended
    assert set(faults.began.values()) == {1}
    assert sum(key.startswith("resource ") for key in faults.began) > 800
    # pytest-xdist's own thread appears as a dummy once something asks in it for the current thread, such as
    # a log line of the garbage collector; nothing that a connection starts is one.
    started = [
        thread.name
        for thread in threading.enumerate()
        if thread not in threads and not isinstance(thread, threading._DummyThread)
    ]
    assert [name for name in started if not name.startswith("fastws-")] == []
