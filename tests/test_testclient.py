from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync, sync_to_async
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.db import close_old_connections, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TestCase, TransactionTestCase

from fastws_compat import BackgroundTasks, FastAPI, WebSocket
from fastws_compat.concurrency import run_in_threadpool
from fastws_compat.connections.states import SESSION
from fastws_compat.testclient import TestClient, WebSocketDenialResponse, conversation, portal, pump
from fastws_compat.testclient.pump import Pump
from fastws_compat.threads.pool import thread_executors
from fastws_compat.websockets import WebSocketDisconnect

ACCEPT = {"type": "websocket.accept"}


def text(data):
    return {"type": "websocket.send", "text": data}


async def silent(scope, receive, send):
    """Accept, and then read until the client has left."""
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def echo(scope, receive, send):
    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({**message, "type": "websocket.send"})


def refuses(app, error, **options):
    """The exception that entering a session with `app` raises."""
    with pytest.raises(error) as caught:
        with TestClient(app, **options).websocket_connect("/ws/room"):
            raise AssertionError("the session was entered")
    return caught.value


# --- frames


def test_frames_both_ways():
    with TestClient(echo).websocket_connect("/") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"
        websocket.send_bytes(b"\x00")
        assert websocket.receive_bytes() == b"\x00"
        websocket.send_json({"é": 1})
        assert websocket.receive() == text('{"é":1}')
        websocket.send_json([1], mode="binary")
        assert websocket.receive_json(mode="binary") == [1]
        websocket.send({"type": "websocket.receive", "text": "[2]"})
        assert websocket.receive_json() == [2]


def test_accept_with_subprotocol_and_headers():
    async def app(scope, receive, send):
        await send({**ACCEPT, "subprotocol": "v2", "headers": [(b"x-a", b"1")]})

    with TestClient(app).websocket_connect("/", subprotocols=["v1", "v2"]) as websocket:
        assert websocket.accepted_subprotocol == "v2"
        assert websocket.extra_headers == [(b"x-a", b"1")]
        assert websocket.scope["subprotocols"] == ["v1", "v2"]
        assert websocket.app is app


def test_session_that_was_not_entered():
    session = TestClient(echo).websocket_connect("/")
    with pytest.raises(RuntimeError, match="Open the connection first"):
        session.receive_text()


def test_session_entered_twice_connects_twice():
    session = TestClient(echo).websocket_connect("/")
    for data in ("first", "second"):
        with session as websocket:
            websocket.send_text(data)
            assert websocket.receive_text() == data


def test_server_closes():
    async def app(scope, receive, send):
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})

    with TestClient(app).websocket_connect("/") as websocket:
        with pytest.raises(WebSocketDisconnect) as caught:
            websocket.receive_json()
    assert (caught.value.code, caught.value.reason) == (4001, "enough")


def test_client_closes_with_code_and_reason():
    seen = []

    async def app(scope, receive, send):
        await send(ACCEPT)
        await receive()
        seen.append(await receive())

    with TestClient(app).websocket_connect("/") as websocket:
        websocket.close(4002, "bye")
    assert seen == [{"type": "websocket.disconnect", "code": 4002, "reason": "bye"}]


def test_received_message_means_the_application_went_on_to_its_next_await():
    steps = []

    async def app(scope, receive, send):
        await send(ACCEPT)
        for number in range(50):
            await send(text(str(number)))
            time.sleep(0.001)
            steps.append(number)

    with TestClient(app).websocket_connect("/") as websocket:
        for number in range(50):
            websocket.receive_text()
            assert number in steps


# --- refused handshakes


def test_close_before_accept():
    async def app(scope, receive, send):
        await send({"type": "websocket.close", "code": 1008, "reason": "no"})

    error = refuses(app, WebSocketDisconnect)
    assert (error.code, error.reason) == (1008, "no")


def test_denial_response():
    async def app(scope, receive, send):
        headers = [
            (b"Content-Type", b"application/json; charset=latin-1"),
            (b"set-cookie", b"a=1; Path=/"),
            (b"set-cookie", b"b=2"),
        ]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b'{"detail": ', "more_body": True})
        await send({"type": "websocket.http.response.body", "body": '"né"}'.encode("latin-1")})

    response = refuses(app, WebSocketDenialResponse)
    assert isinstance(response, WebSocketDisconnect)
    assert response.status_code == 401
    assert response.headers["CONTENT-TYPE"] == "application/json; charset=latin-1"
    assert response.cookies == {"a": "1", "b": "2"}
    assert response.text == '{"detail": "né"}'
    assert response.content == '{"detail": "né"}'.encode("latin-1")
    assert (response.reason_phrase, response.is_error, response.is_success) == ("Unauthorized", True, False)
    assert str(response) == "401 Unauthorized"


def test_denial_response_without_headers_and_with_json():
    async def app(scope, receive, send):
        await send({"type": "websocket.http.response.start", "status": 299})
        await send({"type": "websocket.http.response.body", "body": b"[1]"})

    response = refuses(app, WebSocketDenialResponse)
    assert response.json() == [1]
    assert response.text == "[1]"
    assert (response.reason_phrase, response.is_error, response.is_success) == ("", False, True)


def test_refusing_application_may_clean_up():
    done = []

    async def app(scope, receive, send):
        await send({"type": "websocket.close", "code": 1000})
        await asyncio.to_thread(time.sleep, 0.02)
        done.append(True)

    refuses(app, WebSocketDisconnect, grace=60)
    assert done


def test_refusing_application_that_then_waits_for_messages_is_cancelled_at_once():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        await receive()

    began = time.monotonic()
    refuses(app, WebSocketDisconnect, grace=60)
    assert time.monotonic() - began < 30


# --- waits that would never end


def test_application_that_never_accepts():
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    error = refuses(app, TimeoutError, timeout=0.02)
    assert str(error) == (
        "The application at /ws/room sent no response to the handshake within 0.02 s and is still running."
    )


def test_application_that_sends_nothing():
    def chat():
        pass

    async def app(scope, receive, send):
        scope["endpoint"] = chat
        await silent(scope, receive, send)

    with TestClient(app, timeout=60).websocket_connect("/ws/chat") as websocket:
        with pytest.raises(TimeoutError) as caught:
            websocket.receive_text(timeout=0.02)
    assert str(caught.value) == (
        "The application at /ws/chat (endpoint chat) sent no message within 0.02 s "
        "and is waiting for a message from the test."
    )


@pytest.mark.parametrize("method", ["receive", "receive_text", "receive_bytes", "receive_json"])
def test_every_receive_has_a_timeout(method):
    with TestClient(silent).websocket_connect("/") as websocket:
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            getattr(websocket, method)(timeout=0.01)


def test_timeout_of_the_connection():
    with TestClient(silent).websocket_connect("/", timeout=0.01) as websocket:
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            websocket.receive()


@pytest.mark.parametrize("timeout", [None, float("inf")])
def test_client_without_a_timeout(timeout):
    with TestClient(echo, timeout=timeout).websocket_connect("/") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"


def test_application_that_returned_while_the_test_waits():
    async def app(scope, receive, send):
        await send(ACCEPT)
        await send(text("last"))

    with TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "last"
        with pytest.raises(RuntimeError, match=r"^The application at /ws has returned and sent no message"):
            websocket.receive_text()
        websocket.send_text("into the void")


def test_application_that_returns_without_an_answer():
    async def app(scope, receive, send):
        await receive()

    assert "has returned and sent no response to the handshake" in str(refuses(app, RuntimeError))


def test_time_that_sync_code_takes_on_the_tests_thread_does_not_count(monkeypatch):
    class Clock:
        later = 0

        def monotonic(self):
            return time.monotonic() + self.later

    clock = Clock()
    monkeypatch.setattr(pump, "time", clock)

    async def app(scope, receive, send):
        await send(ACCEPT)
        await sync_to_async(setattr)(clock, "later", 3600)
        await send(text("an hour later"))

    with TestClient(app, timeout=60).websocket_connect("/") as websocket:
        assert websocket.receive_text() == "an hour later"


# --- exceptions of the application


def test_exception_before_accept():
    async def app(scope, receive, send):
        raise LookupError("early")

    assert str(refuses(app, LookupError)) == "early"


def test_exception_while_the_test_waits():
    async def app(scope, receive, send):
        await send(ACCEPT)
        await receive()
        await receive()
        raise LookupError("mid")

    with pytest.raises(LookupError, match="mid"):
        with TestClient(app).websocket_connect("/") as websocket:
            websocket.send_text("go")
            websocket.receive_text()


def test_exception_that_the_test_swallowed_comes_at_exit():
    async def app(scope, receive, send):
        await send(ACCEPT)
        raise LookupError("mid")

    with pytest.raises(LookupError):
        with TestClient(app).websocket_connect("/") as websocket:
            with pytest.raises(LookupError):
                websocket.receive_text()
            with pytest.raises(LookupError):
                websocket.send_text("to the dead")


def test_exception_in_answer_to_the_disconnect():
    async def app(scope, receive, send):
        await silent(scope, receive, send)
        raise LookupError("late")

    with pytest.raises(LookupError, match="late"):
        with TestClient(app).websocket_connect("/"):
            pass


def test_exception_in_the_cleanup_of_a_cancelled_application():
    async def app(scope, receive, send):
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("cleanup")

    with pytest.raises(LookupError, match="cleanup"):
        with TestClient(app).websocket_connect("/"):
            pass


def test_uncaught_disconnect():
    async def app(scope, receive, send):
        await silent(scope, receive, send)
        raise WebSocketDisconnect(1000)

    with pytest.raises(WebSocketDisconnect):
        with TestClient(app).websocket_connect("/"):
            pass


def test_failing_test_is_not_hidden_by_an_uncaught_disconnect():
    async def app(scope, receive, send):
        await silent(scope, receive, send)
        raise WebSocketDisconnect(1000)

    with pytest.raises(AssertionError, match="the test's own"):
        with TestClient(app).websocket_connect("/"):
            raise AssertionError("the test's own")


def test_application_that_cancels_itself():
    async def app(scope, receive, send):
        await send(ACCEPT)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        with TestClient(app).websocket_connect("/") as websocket:
            websocket.receive()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, pytest.fail.Exception])
def test_application_that_raises_more_than_an_exception(error):
    async def app(scope, receive, send):
        await send(ACCEPT)
        raise error

    with pytest.raises(error):
        with TestClient(app).websocket_connect("/") as websocket:
            websocket.receive()
    assert threading.active_count() == len(threading.enumerate())


# --- the end of a session


def test_disconnect_is_delivered_and_cleanup_awaited():
    events = []

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        events.append(await receive())
        await asyncio.to_thread(time.sleep, 0.02)
        events.append(await sync_to_async(threading.get_ident)())

    with TestClient(app, grace=60).websocket_connect("/"):
        pass
    assert events == [
        {"type": "websocket.disconnect", "code": 1000, "reason": None},
        threading.get_ident(),
    ]


def test_cleanup_that_outlasts_the_grace_is_cancelled():
    events = []

    async def app(scope, receive, send):
        try:
            await silent(scope, receive, send)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("finally")

    with pytest.raises(TimeoutError, match=r"at / was still running 0\.01 s after its connection"):
        with TestClient(app, grace=0.01).websocket_connect("/"):
            pass
    assert events == ["finally"]


def test_failure_of_a_test_comes_before_work_that_outlasts_the_grace():
    async def app(scope, receive, send):
        await silent(scope, receive, send)
        await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        with TestClient(app, grace=0.01).websocket_connect("/"):
            raise ZeroDivisionError


def test_work_after_a_close_of_the_application_itself_is_awaited():
    done = []

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 1000})
        await asyncio.to_thread(time.sleep, 0.1)
        done.append(True)

    with TestClient(app).websocket_connect("/"):
        pass
    assert done


def test_overtime_names_the_endpoint():
    app = FastAPI()

    @app.websocket("/ws")
    async def saves(websocket: WebSocket, tasks: BackgroundTasks):
        tasks.add_task(asyncio.Event().wait)
        await websocket.accept()

    with pytest.raises(TimeoutError, match=r"at /ws \(endpoint saves\) was still running 0\.05 s"):
        with TestClient(app, grace=0.05).websocket_connect("/ws"):
            pass


def test_background_tasks_are_awaited():
    app, done = FastAPI(), []

    async def work():
        await asyncio.sleep(0.1)
        done.append(True)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks):
        tasks.add_task(work)
        await websocket.accept()

    with TestClient(app).websocket_connect("/ws"):
        pass
    assert done


def test_endpoint_that_did_not_receive_the_disconnect_is_cancelled_at_once():
    """The read-ahead received the disconnect, because the endpoint never receives."""
    app, ahead = FastAPI(), threading.Event()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        session = websocket.scope[SESSION]
        while session.read_ahead is None:
            await asyncio.sleep(0.01)
        ahead.set()
        await asyncio.Event().wait()

    with TestClient(app, grace=60).websocket_connect("/ws"):
        assert ahead.wait(30)
        began = time.monotonic()
    assert time.monotonic() - began < 30


def test_no_grace():
    events = []

    async def app(scope, receive, send):
        await silent(scope, receive, send)
        events.append("disconnected")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")

    with TestClient(app, grace=0).websocket_connect("/"):
        pass
    assert events == ["disconnected", "cancelled"]


def test_application_that_never_reads_is_cancelled_at_once():
    events = []

    async def app(scope, receive, send):
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        finally:
            await sync_to_async(events.append)("finally")

    began = time.monotonic()
    with TestClient(app, grace=60).websocket_connect("/"):
        pass
    assert events == ["finally"]
    assert time.monotonic() - began < 30


def test_application_that_reads_on_after_the_disconnect_is_cancelled_at_once():
    async def app(scope, receive, send):
        await send(ACCEPT)
        while True:
            await receive()

    began = time.monotonic()
    with TestClient(app, grace=60).websocket_connect("/"):
        pass
    assert time.monotonic() - began < 30


def test_application_that_only_sends_is_cancelled():
    async def app(scope, receive, send):
        await send(ACCEPT)
        while True:
            await send(text("tick"))

    with TestClient(app).websocket_connect("/") as websocket:
        assert websocket.receive_text() == "tick"


def test_messages_sent_before_the_end_are_handled():
    handled = []

    async def app(scope, receive, send):
        await send(ACCEPT)
        await receive()
        while (message := await receive())["type"] != "websocket.disconnect":
            await sync_to_async(handled.append)(message["text"])
            await send(text("ok"))

    with TestClient(app).websocket_connect("/") as websocket:
        for number in range(30):
            websocket.send_text(str(number))
    assert handled == [str(number) for number in range(30)]


def test_application_that_ignores_its_cancellation(monkeypatch):
    monkeypatch.setattr(conversation, "CANCEL_TIMEOUT", 0.05)
    free = asyncio.Event()

    async def app(scope, receive, send):
        await send(ACCEPT)
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling() == 2:
                    return

    with pytest.raises(RuntimeError, match=r"^The application at /ws did not end within 0\.05 s of being"):
        with TestClient(app).websocket_connect("/ws"):
            pass
    assert not AsyncToSync.loop_thread_executors


def test_task_left_behind_that_does_not_end(monkeypatch):
    monkeypatch.setattr(portal, "CANCEL_TIMEOUT", 1.0)
    tasks = []

    async def stubborn():
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
            except GeneratorExit:
                return

    async def app(scope, receive, send):
        tasks.append(asyncio.create_task(stubborn()))
        await send(ACCEPT)

    with pytest.raises(RuntimeError, match=r"^1 task\(s\) of the application did not end when cancelled"):
        with TestClient(app).websocket_connect("/"):
            pass
    tasks[0]._log_destroy_pending = False


def test_application_that_blocks_the_loop(monkeypatch):
    for module in (conversation, portal):
        monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.02)
    free = threading.Event()

    async def app(scope, receive, send):
        free.wait()

    client = TestClient(app, timeout=0.02)
    with pytest.raises(RuntimeError, match="loop does not end: the application blocks it"):
        with client.websocket_connect("/"):
            pass
    left = [thread for thread in threading.enumerate() if thread.name == "fastws-testclient"]
    free.set()
    for thread in left:
        thread.join()
    assert len(left) == 1


def test_task_left_behind_is_cancelled():
    events = []

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            events.append("cancelled")

    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.create_task(background()))
        await send(ACCEPT)

    with TestClient(app).websocket_connect("/"):
        pass
    assert events == ["cancelled"]
    assert tasks[0].cancelled()


def test_send_to_a_socket_whose_session_is_over():
    sends, errors = [], []

    async def app(scope, receive, send):
        await send(ACCEPT)
        if scope["path"] == "/first":
            sends.append(send)
            return
        try:
            await sends[0](text("stale"))
        except OSError as exc:
            errors.append(str(exc))

    client = TestClient(app)
    with client.websocket_connect("/first"):
        pass
    with client.websocket_connect("/second"):
        pass
    assert errors == ["The test has closed this connection."]


def test_nothing_is_left_after_the_end():
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await sync_to_async(str)()
        await asyncio.to_thread(str)
        await echo(scope, receive, send)

    threads, main_loop = threading.enumerate(), dict(vars(SyncToAsync.threadlocal))
    client = TestClient(app)
    for _ in range(3):
        with client.websocket_connect("/") as websocket:
            websocket.send_text("a")
            websocket.receive_text()
            assert loops[-1] in AsyncToSync.loop_thread_executors
    assert threading.enumerate() == threads
    assert vars(SyncToAsync.threadlocal) == main_loop
    assert not AsyncToSync.loop_thread_executors
    assert not thread_executors
    assert all(loop.is_closed() for loop in loops)


def test_nothing_is_left_after_a_refusal():
    async def app(scope, receive, send):
        await send({"type": "websocket.close"})

    threads = threading.enumerate()
    refuses(app, WebSocketDisconnect)
    assert threading.enumerate() == threads
    assert not AsyncToSync.loop_thread_executors


def test_keyboard_interrupt_in_the_test():
    events = []

    async def app(scope, receive, send):
        try:
            await silent(scope, receive, send)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise LookupError("does not hide the interrupt")

    threads = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        with TestClient(app).websocket_connect("/"):
            raise KeyboardInterrupt
    assert events == ["cancelled"]
    assert threading.enumerate() == threads


def test_keyboard_interrupt_in_sync_code_on_the_tests_thread():
    events = []

    def interrupted():
        raise KeyboardInterrupt

    async def app(scope, receive, send):
        await send(ACCEPT)
        try:
            await sync_to_async(interrupted)()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    threads = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        with TestClient(app).websocket_connect("/") as websocket:
            websocket.receive()
    assert events == ["cancelled"]
    assert threading.enumerate() == threads


def test_keyboard_interrupt_before_the_application_began():
    began = []

    async def app(scope, receive, send):
        began.append(True)

    class Interrupted(Pump):
        def run_until(self, done, timeout=None):
            if not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            return super().run_until(done, timeout)

    interrupted = []
    threads = threading.enumerate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portal, "Pump", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            with TestClient(app).websocket_connect("/"):
                pass
    assert threading.enumerate() == threads


# --- threads and loops


def test_context_variables_of_the_test_reach_the_application():
    tenant = contextvars.ContextVar("tenant", default="nobody")

    async def app(scope, receive, send):
        await send(ACCEPT)
        await send(text(tenant.get()))
        tenant.set("changed")

    tenant.set("acme")
    with TestClient(app).websocket_connect("/") as websocket:
        assert websocket.receive_text() == "acme"
    assert tenant.get() == "acme"


def test_sync_code_of_one_socket_runs_while_the_test_waits_for_another():
    sockets = {}

    async def app(scope, receive, send):
        sockets[scope["path"]] = send
        await receive()
        await send(ACCEPT)
        while (message := await receive())["type"] != "websocket.disconnect":
            thread = await sync_to_async(threading.get_ident)()
            await sockets["/b"](text(f"{message['text']} {thread}"))

    with TestClient(app).websocket_connect("/a") as a, TestClient(app).websocket_connect("/b") as b:
        a.send_text("hello")
        assert b.receive_text() == f"hello {threading.get_ident()}"


def test_sockets_open_at_a_time_share_a_loop():
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await echo(scope, receive, send)

    client = TestClient(app)
    first = client.websocket_connect("/")
    with client.websocket_connect("/"):
        first.__enter__()
    first.send_text("still open")
    assert first.receive_text() == "still open"
    first.__exit__(None, None, None)
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_socket_used_in_another_thread():
    received = []

    def wait(websocket):
        received.append(websocket.receive_text())

    with TestClient(echo).websocket_connect("/") as websocket:
        thread = threading.Thread(target=wait, args=[websocket])
        thread.start()
        websocket.send_text("over there")
        thread.join()
    assert received == ["over there"]


def test_socket_of_an_entered_client_in_another_thread():
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        if scope["type"] == "websocket":
            await echo(scope, receive, send)

    def use(client):
        with client.websocket_connect("/") as websocket:
            websocket.send_text("a")
            assert websocket.receive_text() == "a"

    with TestClient(app) as client:
        thread = threading.Thread(target=use, args=[client])
        thread.start()
        thread.join()
    assert len(loops) == 2
    assert loops[0] is loops[1]


def test_socket_closed_in_another_thread():
    client = TestClient(echo)
    first = client.websocket_connect("/")
    first.__enter__()
    thread = threading.Thread(target=first.__exit__, args=[None, None, None])
    thread.start()
    thread.join()
    assert not AsyncToSync.loop_thread_executors
    with client.websocket_connect("/") as second:
        second.send_text("a")
        assert second.receive_text() == "a"


def test_client_without_django(monkeypatch):
    monkeypatch.setitem(sys.modules, "django.db", None)
    with TestClient(echo).websocket_connect("/") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"


def test_async_to_sync_in_the_test_runs_in_the_applications_loop():
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        await silent(scope, receive, send)

    async def loop_and_thread():
        return asyncio.get_running_loop(), await sync_to_async(threading.get_ident)()

    with TestClient(app).websocket_connect("/"):
        assert async_to_sync(loop_and_thread)() == (loops[0], threading.get_ident())
    assert async_to_sync(loop_and_thread)()[0] is not loops[0]


def test_group_send_from_the_test():
    from channels.layers import get_channel_layer

    async def app(scope, receive, send):
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        await send(ACCEPT)
        await send(text((await layer.receive(channel))["data"]))

    with TestClient(app).websocket_connect("/") as websocket:
        async_to_sync(get_channel_layer().group_send)("room", {"type": "x", "data": "from the test"})
        assert websocket.receive_text() == "from the test"


def test_asgiref_has_what_the_client_needs():
    assert isinstance(AsyncToSync.loop_thread_executors, dict)
    assert isinstance(SyncToAsync.threadlocal, threading.local)


def test_asgiref_without_what_the_client_needs(monkeypatch):
    monkeypatch.delattr(AsyncToSync, "loop_thread_executors")
    with pytest.raises(RuntimeError, match=r"needs asgiref's AsyncToSync\.loop_thread_executors"):
        with TestClient(echo).websocket_connect("/"):
            pass


def test_pump_runs_work_of_its_own_thread_at_once():
    assert Pump().submit(threading.get_ident).result(timeout=0) == threading.get_ident()


def test_pump_runs_work_of_other_threads_while_it_waits():
    pump, results = Pump(), []

    def submit():
        results.append(pump.submit(threading.get_ident).result())
        results.append(pump.submit(int, "x").exception())
        pump.wake()

    thread = threading.Thread(target=submit)
    thread.start()
    assert pump.run_until(lambda: len(results) == 2, timeout=10)
    thread.join()
    assert results[0] == threading.get_ident()
    assert isinstance(results[1], ValueError)


def test_pump_that_is_shut_down():
    pump, futures, errors = Pump(), [], []

    def submit():
        futures.append(pump.submit(str))
        pump.shutdown()
        try:
            pump.submit(str)
        except RuntimeError as exc:
            errors.append(str(exc))

    thread = threading.Thread(target=submit)
    thread.start()
    thread.join()
    assert futures[0].cancelled()
    assert errors == ["The test client is closed, so no thread can run its sync code."]


def test_pump_skips_work_that_was_cancelled():
    pump, calls = Pump(), []
    future: Future[None] = Future()
    thread = threading.Thread(target=lambda: calls.append(pump.submit(calls.append, "ran").cancel()))
    thread.start()
    thread.join()
    assert not pump.run_until(future.done, timeout=0)
    assert calls == [True]


# --- lifespan


def lifespan_app(startup=None, shutdown=None, reply=True):
    """An ASGI application with a lifespan, and the list of its events."""
    events = []

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            events.append(dict(scope["state"]))
            scope["state"]["own"] = True
            return await send({"type": "websocket.close"})
        for event, hook in (("startup", startup), ("shutdown", shutdown)):
            await receive()
            events.append(event)
            try:
                if hook:
                    hook(scope)
            except Exception as exc:
                await send({"type": f"lifespan.{event}.failed", "message": str(exc)})
                if reply:
                    raise
                return None
            await send({"type": f"lifespan.{event}.complete"})
        return None

    return app, events


def test_lifespan_and_its_state():
    app, events = lifespan_app(startup=lambda scope: scope["state"].update(pool=1))
    with TestClient(app) as client:
        assert events == ["startup"]
        assert client.app_state == {"pool": 1}
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect):
                client.websocket_connect("/").__enter__()
    assert events == ["startup", {"pool": 1}, {"pool": 1}, "shutdown"]
    assert not AsyncToSync.loop_thread_executors


def test_no_lifespan_without_with():
    app, events = lifespan_app()
    with pytest.raises(WebSocketDisconnect):
        TestClient(app).websocket_connect("/").__enter__()
    assert events == [{}]


def fail(scope):
    raise LookupError("broken")


def test_startup_that_raises():
    app, _ = lifespan_app(startup=fail)
    with pytest.raises(LookupError, match="broken"):
        with TestClient(app):
            pass
    assert not AsyncToSync.loop_thread_executors


def test_startup_that_says_that_it_failed():
    app, _ = lifespan_app(startup=fail, reply=False)
    with pytest.raises(RuntimeError, match=r"^The application's lifespan failed at startup: broken$"):
        with TestClient(app):
            pass


def test_shutdown_that_raises():
    app, _ = lifespan_app(shutdown=fail)
    with pytest.raises(LookupError, match="broken"):
        with TestClient(app):
            pass
    assert not AsyncToSync.loop_thread_executors


def test_startup_that_never_ends():
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"application at lifespan sent no response to lifespan\.startup"):
        with TestClient(app, timeout=0.02, grace=0.02):
            pass


def test_application_that_has_no_lifespan():
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await echo(scope, receive, send)

    with TestClient(app) as client, client.websocket_connect("/") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"


def test_lifespan_task_and_sockets_share_the_loop():
    loops = []

    async def app(scope, receive, send):
        loops.append(asyncio.get_running_loop())
        if scope["type"] == "websocket":
            return await echo(scope, receive, send)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return None

    with TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/"):
                pass
    assert len(set(map(id, loops))) == 1


# --- the client


def test_http_is_not_there():
    client = TestClient(echo)
    for verb in ("get", "post", "put", "patch", "delete", "options", "head", "request", "stream"):
        with pytest.raises(AttributeError, match=f"^TestClient has no {verb}: Django serves HTTP"):
            getattr(client, verb)
    with pytest.raises(AttributeError, match=r"^'TestClient' object has no attribute 'nonsense'$"):
        client.nonsense


def test_url_of_http():
    with pytest.raises(ValueError, match=r"^A WebSocket URL must begin with ws:// or wss://"):
        TestClient(echo).websocket_connect("https://testserver/ws")


@pytest.mark.parametrize("options", [{"backend": "trio"}, {"backend_options": {"use_uvloop": True}}])
def test_other_backend(options):
    with pytest.raises(ValueError, match="supports only asyncio"):
        TestClient(echo, **options)


def test_headers_of_the_client():
    client = TestClient(echo, headers={"X-Token": "a"})
    assert client.headers["x-TOKEN"] == "a"
    assert client.headers["User-Agent"] == "testclient"
    client.headers["x-token"] = "b"
    client.headers.update({"X-More": "c"})
    del client.headers["accept"]
    headers = dict(client.websocket_connect("/").scope["headers"])
    assert headers[b"x-token"] == b"b"
    assert headers[b"x-more"] == b"c"
    assert b"accept" not in headers
    assert "'x-token': 'b'" in repr(client.headers)
    client.headers = {"x": "1"}
    assert list(client.headers) == ["accept", "accept-encoding", "connection", "x", "user-agent"]
    assert len(client.headers) == 5


def test_cookies_of_the_client():
    client = TestClient(echo, cookies={"a": "1"})
    client.cookies.set("b", "2")
    client.cookies.update({"c": "3"})
    client.cookies.delete("a")
    client.cookies.delete("never there")
    assert client.cookies.get("a") is None
    session = client.websocket_connect("/", cookies={"d": "4"})
    assert dict(session.scope["headers"])[b"cookie"] == b"b=2; c=3; d=4"
    client.cookies.clear()
    assert b"cookie" not in dict(client.websocket_connect("/").scope["headers"])
    client.cookies = [("e", "5")]
    assert client.cookies["e"] == "5"


def test_raise_server_exceptions_is_in_the_scope():
    key = "fastws_compat.raise_exceptions"
    assert TestClient(echo).websocket_connect("/").scope[key] is True
    assert TestClient(echo, raise_server_exceptions=False).websocket_connect("/").scope[key] is False


def test_application_of_asgi_2():
    class App:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await echo(self.scope, receive, send)

    with TestClient(App).websocket_connect("/") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"


def test_channels_consumer():
    from channels.generic.websocket import AsyncWebsocketConsumer

    class Echo(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            await self.send(text_data=text_data)

    with TestClient(Echo.as_asgi()).websocket_connect("/") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a"


def test_own_application_raises_or_closes():
    app = FastAPI()

    @app.websocket("/ws")
    async def broken(websocket: WebSocket):
        await websocket.accept()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        with TestClient(app).websocket_connect("/ws") as websocket:
            websocket.receive_text()
    with TestClient(app, raise_server_exceptions=False).websocket_connect("/ws") as websocket:
        with pytest.raises(WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert caught.value.code == 1011


def test_own_applications_lifespan():

    @asynccontextmanager
    async def lifespan(app):
        yield {"pool": "ready"}

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def state(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.state.pool)

    with TestClient(app) as client, client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "ready"


# --- Django: users and the database


async def names(scope, receive, send):
    """Send the names of all users, read in each way that a project may use; create one per message."""
    User = get_user_model()

    def read():
        return list(User.objects.order_by("username").values_list("username", flat=True))

    await receive()
    await send(ACCEPT)
    while (message := await receive())["type"] != "websocket.disconnect":
        name = message["text"]
        await run_in_threadpool(User.objects.create, username=f"{name}-pool")
        await sync_to_async(User.objects.create)(username=f"{name}-sync")
        await User.objects.acreate(username=f"{name}-async")
        ways = [
            await run_in_threadpool(read),
            await sync_to_async(read)(),
            [user.username async for user in User.objects.order_by("username")],
        ]
        await send(text(json.dumps(ways)))


def check_both_ways():
    """Each side sees the other's rows, and none of an earlier test."""
    User = get_user_model()
    assert not User.objects.exists()
    User.objects.create(username="test")
    with TestClient(names).websocket_connect("/") as websocket:
        websocket.send_text("app")
        ways = websocket.receive_json()
        User.objects.create(username="during")
        websocket.send_text("then")
        later = websocket.receive_json()
    assert ways == [["app-async", "app-pool", "app-sync", "test"]] * 3
    assert all("during" in way for way in later)
    assert User.objects.count() == 8


class TransactionOfTheTest(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.user = get_user_model().objects.create(username="class")

    def test_rows_of_the_class_are_seen(self):
        with TestClient(names).websocket_connect("/") as websocket:
            websocket.send_text("app")
            assert "class" in websocket.receive_json()[0]

    def test_rows_of_other_tests_are_not(self):
        with TestClient(names).websocket_connect("/") as websocket:
            websocket.send_text("mine")
            ways = websocket.receive_json()
        assert ways == [["class", "mine-async", "mine-pool", "mine-sync"]] * 3


class BothWaysInTestCase(TestCase):
    def test_first(self):
        check_both_ways()

    def test_second(self):
        check_both_ways()


class BothWaysInTransactionTestCase(TransactionTestCase):
    def test_first(self):
        check_both_ways()

    def test_second(self):
        check_both_ways()


@pytest.mark.parametrize("run", [1, 2])
def test_rows_with_db(db, run):
    check_both_ways()


@pytest.mark.parametrize("run", [1, 2])
def test_rows_with_transactional_db(transactional_db, run):
    check_both_ways()


def test_connection_of_the_test_is_the_one_that_is_used(db):
    connections = []

    async def app(scope, receive, send):
        await run_in_threadpool(lambda: connections.append(connection.connection))
        await sync_to_async(lambda: connections.append(connection.connection))()
        await send(ACCEPT)

    with TestClient(app).websocket_connect("/"):
        pass
    assert connections == [connection.connection] * 2


def test_stale_connections_of_the_test_stay_open(transactional_db):
    events = []

    def close_old():
        connection.close_at = 0
        connection.ensure_connection()
        connection.close = lambda: events.append("closed")
        close_old_connections()
        del connection.close

    async def app(scope, receive, send):
        await sync_to_async(close_old)()
        await send(ACCEPT)

    connection.ensure_connection()
    with TestClient(app).websocket_connect("/"):
        pass
    assert events == []
    close_old()
    assert events == ["closed"]


async def closing_stale_connections(scope, receive, send):
    """Call the ORM as projects of Channels do: around the call, it closes the connections that look stale."""
    await database_sync_to_async(get_user_model().objects.count)()
    await send(ACCEPT)


def test_the_connection_of_an_async_test_stays_open(db, monkeypatch):
    """As in an async test of Django's TestCase: a connection in a transaction looks stale to Django."""
    closed = []
    monkeypatch.setattr(connection, "close", lambda: closed.append("closed"))

    async def use_the_client():
        with TestClient(closing_stale_connections).websocket_connect("/"):
            pass

    async_to_sync(use_the_client)()
    assert closed == []
    close_old_connections()
    assert closed == ["closed"]


def test_sync_dependencies_run_in_threads_without_a_database():
    threads = []

    async def app(scope, receive, send):
        threads.append(await run_in_threadpool(threading.get_ident))
        await send(ACCEPT)

    with TestClient(app).websocket_connect("/"):
        pass
    assert threads[0] != threading.get_ident()


async def user_of_session(scope, receive, send):
    """Send the name of the logged-in user, as channels.auth sees it."""
    await send(ACCEPT)
    await send(text(scope["user"].get_username() or "anonymous"))


def who(client):
    with client.websocket_connect("/") as websocket:
        return websocket.receive_text()


def authenticated(app):
    from channels.auth import AuthMiddlewareStack

    return AuthMiddlewareStack(app)


def test_force_login(db):
    client = TestClient(authenticated(user_of_session))
    assert who(client) == "anonymous"
    client.force_login(get_user_model().objects.create(username="ada"))
    assert who(client) == "ada"
    client.logout()
    assert who(client) == "anonymous"
    assert client.cookies == {}


def test_login_with_credentials(db):
    get_user_model().objects.create_user("ada", password="secret")
    client = TestClient(authenticated(user_of_session), cookies={"theme": "dark"})
    assert not client.login(username="ada", password="wrong")
    assert client.login(username="ada", password="secret")
    assert who(client) == "ada"
    client.logout()
    assert client.cookies == {"theme": "dark"}


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda cookies: TestClient(authenticated(user_of_session), cookies=cookies),
        lambda cookies: set_attribute(TestClient(authenticated(user_of_session)), cookies),
        lambda cookies: updated(TestClient(authenticated(user_of_session)), cookies),
    ],
    ids=["argument", "attribute", "update"],
)
def test_the_cookies_of_djangos_client(db, client, hand_over):
    """The values of a `SimpleCookie` are morsels. They are sent as Django's client sends them."""
    client.force_login(get_user_model().objects.create(username="ada"))
    client.cookies["theme"] = "dark; grey"
    socket_client = hand_over(client.cookies)
    assert who(socket_client) == "ada"
    assert socket_client.cookies["theme"] == client.cookies["theme"].coded_value == '"dark\\073 grey"'
    session = TestClient(echo).websocket_connect("/", cookies=client.cookies)
    key = client.cookies["sessionid"].value
    assert dict(session.scope["headers"])[b"cookie"].decode() == f'sessionid={key}; theme="dark\\073 grey"'


def set_attribute(client, cookies):
    client.cookies = cookies
    return client


def updated(client, cookies):
    client.cookies.update(cookies)
    return client


@pytest.mark.parametrize("cookies", ["a=1", b"a=1", {"a": None}, {"a": 1}])
def test_cookies_that_are_not_valid(cookies):
    for connect in (
        lambda: TestClient(echo, cookies=cookies),
        lambda: TestClient(echo).websocket_connect("/", cookies=cookies),
    ):
        with pytest.raises(TypeError, match="cookie"):
            connect()


def test_login_of_another_user_replaces_the_first(db):
    User = get_user_model()
    client = TestClient(authenticated(user_of_session))
    client.force_login(User.objects.create(username="ada"))
    client.force_login(User.objects.create(username="bob"))
    assert who(client) == "bob"


# --- async tests


async def rows(scope, receive, send):
    """The number of users that each way of querying sees."""
    await send(ACCEPT)
    User = get_user_model()
    counts = [await User.objects.acount(), await run_in_threadpool(User.objects.count)]
    counts.append(await sync_to_async(User.objects.count)())
    await send(text(str(counts)))


async def ask_in_an_async_test():
    user = await sync_to_async(get_user_model().objects.create)(username="ada")
    client = TestClient(authenticated(user_of_session))
    client.force_login(user)
    with client.websocket_connect("/") as websocket:
        assert websocket.receive_text() == "ada"
    client.logout()
    with TestClient(rows).websocket_connect("/") as websocket:
        return websocket.receive_text()


class AsyncTests(TestCase):
    """In the transaction of the test, which Django runs through `async_to_sync`."""

    async def test_the_application_sees_the_tests_rows(self):
        assert await ask_in_an_async_test() == "[1, 1, 1]"

    async def test_and_they_are_gone(self):
        with TestClient(rows).websocket_connect("/") as websocket:
            assert websocket.receive_text() == "[0, 0, 0]"


@pytest.fixture
def sync_thread(monkeypatch):
    """The test's own thread instead of asgiref's, because what it leaves open would affect other tests."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
        yield
        # Closing an in-memory SQLite database does nothing.
        executor.submit(lambda: BaseDatabaseWrapper.close(connections["default"])).result()


@pytest.mark.django_db(transaction=True)
def test_an_async_test_without_djangos_runner(sync_thread):
    """As pytest-asyncio and anyio run tests: the thread has a loop that asgiref does not know about."""
    assert asyncio.run(ask_in_an_async_test()) == "[1, 1, 1]"
    assert get_user_model().objects.count() == 1


def test_a_client_that_blocks_the_tests_own_loop_explains_it():
    async def main():
        from_the_test = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def waits(scope, receive, send):
            await send(ACCEPT)
            while not from_the_test.is_set():
                await asyncio.sleep(0.01)
            await send(text("set"))

        loop.call_soon(from_the_test.set)
        with TestClient(waits).websocket_connect("/") as websocket:
            with pytest.raises(
                TimeoutError, match=r"blocks the event loop of an async test.+WebsocketCommunicator"
            ):
                websocket.receive_text(timeout=0.2)
            await asyncio.sleep(0)
            assert websocket.receive_text() == "set"

    asyncio.run(main())
    with TestClient(silent).websocket_connect("/") as websocket:
        with pytest.raises(TimeoutError) as caught:
            websocket.receive_text(timeout=0.05)
    assert "async test" not in str(caught.value)
