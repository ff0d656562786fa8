"""A process works on a bounded number of handshakes; the others begin in the order of their arrival."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextvars import ContextVar
from types import SimpleNamespace

import pytest

from fastws_compat import FastAPI, WebSocket
from fastws_compat.asgi import ProtocolRouter
from fastws_compat.connections import admission as admissions
from fastws_compat.connections.admission import Admission, admission
from fastws_compat.connections.peers import have_left
from fastws_compat.connections.states import TURN
from fastws_compat.exceptions import HTTPException
from fastws_compat.logins import batches
from fastws_compat.logins.judge import ALONE


class Client:
    """A client of an ASGI server: what it sends, and what it is sent."""

    gone = False

    def __init__(self, app, path="/ws"):
        self.app = app
        self.scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
        self.scope["extensions"] = {"websocket.http.response": {}}
        self.inbox = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.sent = []
        # `get_asgi_application` ends in one of these.
        router = app if isinstance(app, ProtocolRouter) else ProtocolRouter(app, app, app)
        self.task = asyncio.create_task(router(self.scope, self.inbox.get, self.send))

    async def send(self, message):
        self.sent.append(message)

    def leave(self):
        self.client_socket = None
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    @property
    def answer(self):
        kind = self.sent[0]["type"] if self.sent else None
        return self.sent[0]["status"] if kind == "websocket.http.response.start" else kind


ACCEPTED = "websocket.accept"


class Slow:
    """An application whose endpoint answers when it is told to."""

    def __init__(self):
        self.begun = []
        self.may_answer = asyncio.Semaphore(0)
        self.app = FastAPI()

        @self.app.websocket("/ws")
        async def endpoint(websocket: WebSocket):
            self.begun.append(websocket.scope[TURN].server)
            await self.may_answer.acquire()
            await websocket.accept()
            await websocket.receive()

    def clients(self, count):
        return [Client(self.app) for _ in range(count)]

    async def answer(self, count):
        for _ in range(count):
            self.may_answer.release()
        await settle()


async def settle():
    """Let everything run that is ready."""
    for _ in range(30):
        await asyncio.sleep(0)


async def leave_all(clients):
    for client in clients:
        client.leave()
    await asyncio.gather(*(client.task for client in clients), return_exceptions=True)


@pytest.fixture(autouse=True)
def three(settings):
    settings.FASTWS = {"MAX_HANDSHAKES": 3}


def test_no_more_than_allowed_and_in_order_of_arrival():
    async def main():
        slow = Slow()
        clients = slow.clients(8)
        await settle()
        assert slow.begun == clients[:3]
        assert admission().free == -5
        await slow.answer(1)
        assert slow.begun == clients[:4]
        await slow.answer(2)
        assert slow.begun == clients[:6]
        late = slow.clients(1)
        await slow.answer(6)
        assert slow.begun == clients + late
        assert [client.answer for client in clients + late] == [ACCEPTED] * 9
        assert admission().free == 3
        await leave_all(clients + late)
        assert admission().free == 3

    asyncio.run(main())


def test_no_bound(settings):
    settings.FASTWS = {"MAX_HANDSHAKES": None}

    async def main():
        slow = Slow()
        clients = slow.clients(600)
        await settle()
        assert slow.begun == clients
        await slow.answer(600)
        await leave_all(clients)

    asyncio.run(main())


def test_client_that_leaves_while_it_waits_costs_nothing(monkeypatch):
    monkeypatch.setattr(admissions, "BRIEF", -1.0)

    async def main():
        slow = Slow()
        clients = slow.clients(6)
        await settle()
        clients[3].leave()
        clients[4].leave()
        await slow.answer(3)
        assert slow.begun == [*clients[:3], clients[5]]
        assert [client.answer for client in clients[3:5]] == [503, 503]
        await slow.answer(1)
        await leave_all(clients)
        assert admission().free == 3

    asyncio.run(main())


def test_client_is_not_looked_at_after_a_brief_wait(monkeypatch):
    monkeypatch.setattr(admissions, "BRIEF", 60.0)
    monkeypatch.setattr(admissions, "has_left", None)

    async def main():
        slow = Slow()
        clients = slow.clients(4)
        await settle()
        clients[3].leave()
        await slow.answer(4)
        assert slow.begun == clients
        await leave_all(clients)
        assert admission().free == 3

    asyncio.run(main())


def test_server_that_gives_a_waiting_handshake_up():
    async def main():
        slow = Slow()
        clients = slow.clients(6)
        await settle()
        clients[3].task.cancel()
        await settle()
        await slow.answer(1)
        assert slow.begun == [*clients[:3], clients[4]]
        # In the very moment in which its turn comes.
        clients[5].task.cancel()
        await slow.answer(2)
        assert slow.begun == [*clients[:3], clients[4]]
        await slow.answer(1)
        await leave_all(clients)
        assert admission().free == 3

    asyncio.run(main())


def test_turn_that_comes_to_a_cancelled_task_goes_to_the_next():
    async def main():
        held = [await admission().turn(None) for _ in range(3)]
        waiting = [asyncio.create_task(admission().turn(None)) for _ in range(2)]
        await settle()
        held[0].end()
        waiting[0].cancel()
        await settle()
        assert waiting[1].done()
        for turn in (held[1], held[2], waiting[1].result()):
            turn.end()
            turn.end()  # has no effect
        assert admission().free == 3

    asyncio.run(main())


@pytest.mark.parametrize("answer", ["deny", "raise", "return", "close"])
def test_each_end_of_a_handshake_lets_the_next_begin(answer):
    async def main():
        app = FastAPI()
        begun = []

        @app.websocket("/ws")
        async def endpoint(websocket: WebSocket):
            begun.append(websocket)
            if answer == "deny":
                raise HTTPException(404)
            if answer == "raise":
                raise ValueError
            if answer == "close":
                await websocket.close()
                await websocket.receive()

        clients = [Client(app) for _ in range(9)]
        for client in clients:
            client.inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await asyncio.gather(*(client.task for client in clients))
        assert len(begun) == 9
        assert admission().free == 3

    asyncio.run(main())


def test_mounted_application_that_answers_itself():
    """Its messages pass through the session, and an open socket does not keep its place."""

    async def mounted(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def main():
        app = FastAPI()
        app.mount("/mounted", mounted)
        clients = [Client(app, "/mounted/ws") for _ in range(9)]
        await settle()
        assert [client.answer for client in clients] == [ACCEPTED] * 9
        await leave_all(clients)

    asyncio.run(main())


def test_fallback_that_answers_itself():
    from fastws_compat.asgi import get_asgi_application

    async def fallback(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async def main():
        app = get_asgi_application(FastAPI(), fallback=fallback)
        clients = [Client(app, "/elsewhere") for _ in range(9)]
        await settle()
        assert [client.answer for client in clients] == [ACCEPTED] * 9
        await leave_all(clients)

    asyncio.run(main())


async def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_time_for_an_answer_begins_with_the_turn(settings):
    """Each takes half of the time that it has; those at the end wait for longer than that."""
    settings.FASTWS = {"MAX_HANDSHAKES": 1, "HANDSHAKE_TIMEOUT": 2}

    async def main():
        app = FastAPI()

        @app.websocket("/ws")
        async def endpoint(websocket: WebSocket):
            await asyncio.sleep(0.7)
            await websocket.accept()
            await websocket.receive()

        begun = time.monotonic()
        clients = [Client(app) for _ in range(4)]
        await wait_until(lambda: all(client.sent for client in clients))
        assert time.monotonic() - begun > 2
        assert [client.answer for client in clients] == [ACCEPTED] * 4
        await leave_all(clients)

    asyncio.run(main())


def test_endpoint_that_never_answers_gives_its_place_up(settings):
    """HANDSHAKE_TIMEOUT refuses it, even if it goes on and on."""
    settings.FASTWS = {"MAX_HANDSHAKES": 1, "HANDSHAKE_TIMEOUT": 0.2}

    async def main():
        app = FastAPI()
        over = asyncio.Event()

        @app.websocket("/ws")
        async def endpoint(websocket: WebSocket):
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue

        clients = [Client(app) for _ in range(3)]
        await wait_until(lambda: all(client.sent for client in clients))
        assert [client.answer for client in clients] == [503] * 3
        headers = [dict(client.sent[0]["headers"]) for client in clients]
        assert all(1 <= int(each[b"Retry-After"]) <= 10 for each in headers)
        over.set()
        await leave_all(clients)

    asyncio.run(main())


def test_middleware_that_hangs_does_not_keep_its_place(settings, monkeypatch):
    """Before there is a WebSocket nothing refuses the handshake on this server, but others begin."""
    settings.FASTWS = {"MAX_HANDSHAKES": 1, "HANDSHAKE_TIMEOUT": 0.2}
    monkeypatch.setattr(admissions, "MARGIN", 0.1)
    monkeypatch.setattr(admissions, "INTERVAL", 0.05)

    async def main():
        app = FastAPI()
        begun = []

        class Hangs:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                begun.append(scope)
                await asyncio.Event().wait()

        app.add_middleware(Hangs)
        clients = [Client(app) for _ in range(3)]
        await wait_until(lambda: len(begun) == 3)
        for client in clients:
            client.task.cancel()
        await asyncio.gather(*(client.task for client in clients), return_exceptions=True)

    asyncio.run(main())


def test_server_is_told_when_no_place_is_free():
    async def main():
        told = []
        admission().on_full.append(told.append)
        turns = [await admission().turn(None) for _ in range(3)]
        assert told == [True]
        turns.pop().end()
        assert told == [True, False]
        begun = []
        assert admission().request(None, begun.append)
        assert not admission().request(None, begun.append)
        assert told == [True, False, True]
        turns.pop().end()
        assert len(begun) == 2
        for turn in turns + begun:
            turn.end()
        assert told == [True, False, True, False]

    asyncio.run(main())


@pytest.fixture
def now(monkeypatch):
    """The time of the admission, in a list."""
    times = [0.0]
    monkeypatch.setattr(Admission, "_now", lambda self: times[0])
    return times


async def begun_after(seconds, now, count):
    """How many handshakes begin at a time when this many have been answered, each after the seconds."""
    turns, begun = admission(), []
    for _ in range(2000):
        turns.request(None, begun.append)
    for _ in range(count):
        now[0] += seconds
        begun.pop(0).end()
    return len(begun)


@pytest.mark.parametrize(
    ("most", "answered", "expected"), [(3, 50, 3), (200, 50, 200), ("auto", 50, 150), ("auto", 350, 400)]
)
def test_more_places_while_answers_are_fast(settings, now, most, answered, expected):
    settings.FASTWS = {"MAX_HANDSHAKES": most, "HANDSHAKE_TIMEOUT": 4}
    assert asyncio.run(begun_after(0, now, answered)) == expected


def test_first_places_only_while_answers_are_slow(settings, now):
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": 4}

    async def main():
        assert await begun_after(0, now, 50) == 150
        turns = list(admission()._turns)
        now[0] += 0.5
        for turn in turns[:49]:
            turn.end()
        assert len(admission()._turns) == 101
        for turn in turns[49:]:
            turn.end()
        assert len(admission()._turns) == 100

    asyncio.run(main())


def test_more_places_without_a_time_limit(settings, now):
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": None}
    assert asyncio.run(begun_after(10, now, 20)) == 120


def test_fewer_places_than_handshakes_stop_the_server_from_accepting(settings):
    async def main():
        told, begun = [], []
        admission().on_full.append(told.append)
        turns = [await admission().turn(None) for _ in range(2)]
        settings.FASTWS = {"MAX_HANDSHAKES": 1}
        admission().request(None, begun.append)
        assert (told, begun) == ([True], [])
        for turn in turns:
            turn.end()
        begun.pop().end()
        assert told == [True, False]

    asyncio.run(main())


def test_many_turns_that_end_at_once_do_not_nest():
    async def main():
        turns = [await admission().turn(None) for _ in range(3)]
        ended = []

        def begin(turn):
            ended.append(turn)
            turn.end()

        for _ in range(5000):
            admission().request(None, begin)
        turns.pop().end()
        assert len(ended) == 5000
        assert admission().free == 1

    asyncio.run(main())


def test_places_that_fast_answers_add_meanwhile_are_given_to_those_that_wait(settings, now):
    """Those that end as they begin add places; a newcomer must not find them before those that wait."""
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": 4}

    async def main():
        turns, begun = admission(), []
        for _ in range(100):
            turns.request(None, begun.append)
        for _ in range(5):
            turns.request(None, lambda turn: turn.end())
        for _ in range(10):
            turns.request(None, begun.append)
        begun.pop(0).end()
        assert len(begun) == 99 + 7
        assert turns.free == -3

    asyncio.run(main())


def test_server_without_a_transport_never_loses_its_client():
    assert have_left([None, object()]) == [False, False]


class Transport:
    """What uvicorn's object for a connection has, on asyncio or on uvloop."""

    def __init__(self, connection=None, closing=False):
        self.connection, self.closing = connection, closing

    def is_closing(self):
        return self.closing

    def get_extra_info(self, name):
        return {"socket": self.connection}[name]


def test_clients_that_have_left_are_found_together():
    here, there = zip(*(socket.socketpair() for _ in range(3)), strict=True)
    transports = [*map(Transport, here), Transport(here[0], closing=True), Transport()]
    servers = [SimpleNamespace(transport=each) for each in transports]
    there[1].shutdown(socket.SHUT_WR)
    there[0].send(b"unread")
    assert have_left(servers) == [False, True, False, True, False]
    here[2].close()
    assert have_left(servers) == [False, True, True, True, False]
    for each in (*here, *there):
        each.close()


# Batches


class Blocked(batches.LookUp):
    """Look-ups that are made when they are told to."""

    def __init__(self):
        self.calls = []
        self.may_return = threading.Event()

    def one(self, item, release):
        self.calls.append([item])
        if item == "own code":
            release()
        assert self.may_return.wait(20)
        if item == "raises":
            raise ValueError(item)
        return f"{item} alone"

    def many(self, items):
        self.calls.append(list(items))
        if "hangs" in items:
            assert self.may_return.wait(20)
        if "fails" in items:
            raise ValueError("fails")
        return [ALONE if item == "alone" else f"{item} together" for item in items]


def find_all(blocked, *items, place="here"):
    return [asyncio.create_task(batches.find(blocked, place, item)) for item in items]


def test_next_batch_gathers_while_one_is_made():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, "a")
        await wait_until(lambda: blocked.calls)
        tasks += find_all(blocked, *"bcd")
        await settle()
        tasks += find_all(blocked, *"ef")
        await settle()
        assert blocked.calls == [["a"]]
        blocked.may_return.set()
        found = await asyncio.gather(*tasks)
        assert found == ["a alone", *(f"{name} together" for name in "bcdef")]
        assert blocked.calls == [["a"], ["b", "c", "d", "e", "f"]]
        assert await batches.find(blocked, "here", "g") == "g alone"

    asyncio.run(main())


def test_batch_takes_all_that_arrive_before_it_runs():
    async def main():
        blocked = Blocked()
        found = await asyncio.gather(*find_all(blocked, *"abc"))
        assert found == ["a together", "b together", "c together"]
        assert blocked.calls == [["a", "b", "c"]]

    asyncio.run(main())


def test_batch_gathers_while_every_pass_of_the_loop_brings_another():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, "a", "b")
        for name in "cdef":
            await asyncio.sleep(0)
            tasks += find_all(blocked, name)
        await asyncio.gather(*tasks)
        assert blocked.calls == [list("abcdef")]

    asyncio.run(main())


def test_batch_does_not_gather_for_long():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, 0, 1)
        async with asyncio.timeout(20):
            while not blocked.calls:
                await asyncio.sleep(0)
                tasks += find_all(blocked, len(tasks))
        tasks += find_all(blocked, len(tasks), len(tasks) + 1)  # what came too late must not be alone
        found = await asyncio.gather(*tasks)
        assert found == [f"{number} together" for number in range(len(tasks))]
        assert blocked.calls[0] == list(range(len(blocked.calls[0])))

    asyncio.run(main())


def test_batch_whose_gathering_is_cancelled_is_made_by_the_next():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, "a", "b")
        await asyncio.sleep(0)
        [queue] = batches._of_loop()._queues.values()
        gathering = queue.batch
        tasks += find_all(blocked, "c")
        await asyncio.sleep(0)
        gathering.cancel()
        assert await asyncio.gather(*tasks) == ["a together", "b together", "c together"]
        assert gathering.done()
        assert blocked.calls == [["a", "b", "c"]]

    asyncio.run(main())


def test_batch_that_cannot_ask_whether_clients_have_left_fails_once(monkeypatch):
    asked = []

    def fail(servers):
        asked.append(servers)
        if len(asked) == 1:
            raise OSError("asked")
        return have_left(servers)

    monkeypatch.setattr(batches, "have_left", fail)

    async def main():
        async with asyncio.timeout(20):
            tasks = find_all(Blocked(), "a", "b")
            failed = await asyncio.gather(*tasks, return_exceptions=True)
            assert [str(exc) for exc in failed] == ["asked"] * 2
            assert not batches._of_loop()._queues
            found = await asyncio.gather(*find_all(Blocked(), "c", "d"))
        assert found == ["c together", "d together"]

    asyncio.run(main())


def test_places_do_not_wait_for_each_other():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, *"ab") + find_all(blocked, *"cd", place="there")
        tasks += find_all(blocked, *"ef", place=None)
        await wait_until(lambda: len(blocked.calls) == 4)
        assert sorted(blocked.calls) == [["a", "b"], ["c", "d"], ["e"], ["f"]]
        blocked.may_return.set()
        assert await asyncio.gather(*tasks) == [
            *("a together", "b together", "c together", "d together", "e alone", "f alone"),
        ]

    asyncio.run(main())


def test_own_code_of_a_project_keeps_nobody_waiting():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, "own code")
        await wait_until(lambda: blocked.calls)
        tasks += find_all(blocked, "a", "b")
        assert await asyncio.gather(*tasks[1:]) == ["a together", "b together"]
        assert not tasks[0].done()
        blocked.may_return.set()
        assert await tasks[0] == "own code alone"

    asyncio.run(main())


def test_batch_that_fails_is_made_one_by_one():
    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, "a", "fails", "raises", "b")
        blocked.may_return.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(2), ValueError)
        assert found == ["a alone", "fails alone", "b alone"]
        tasks = find_all(blocked, "c", "alone", "d")
        assert await asyncio.gather(*tasks) == ["c together", "alone alone", "d together"]

    asyncio.run(main())


def test_no_more_than_a_database_accepts(monkeypatch):
    monkeypatch.setattr(batches, "BATCH", 4)

    async def main():
        blocked = Blocked()
        tasks = find_all(blocked, *range(10))
        blocked.may_return.set()
        await asyncio.gather(*tasks)
        assert blocked.calls == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    asyncio.run(main())


class Turn:
    server = None


@pytest.mark.parametrize("together", [True, False])
def test_handshake_whose_look_up_hangs_is_refused(settings, monkeypatch, caplog, together):
    """Those of a batch that hangs, and those that wait for it."""
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": 0.1}
    monkeypatch.setattr(batches, "INTERVAL", 0.05)

    async def main():
        blocked = Blocked()
        tasks = []
        for item in ("hangs", "b", "c"):
            tasks.append(asyncio.create_task(batches.find(blocked, "here", item, Turn())))
            if not together:
                await wait_until(lambda: blocked.calls)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [refusal.status_code for refusal in found] == [503] * 3
        assert all(int(refusal.headers["Retry-After"]) > 0 for refusal in found)
        assert blocked.calls == [["hangs", "b", "c"]] if together else [["hangs"]]
        blocked.may_return.set()

    asyncio.run(main())
    assert caplog.text.count("its user was not found in 0.1 s") == 3


@pytest.mark.parametrize("place", ["here", None])
def test_lone_handshake_whose_look_up_hangs_is_refused(settings, monkeypatch, place):
    """Also where it is looked up by itself, because its place is not known."""
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": 0.1}
    monkeypatch.setattr(batches, "INTERVAL", 0.05)

    async def main():
        blocked = Blocked()
        async with asyncio.timeout(20):
            with pytest.raises(HTTPException) as refused:
                await batches.find(blocked, place, "hangs", Turn())
        assert refused.value.status_code == 503
        blocked.may_return.set()
        assert await batches.find(blocked, place, "b", Turn()) == "b alone"

    asyncio.run(main())


def test_handshake_that_is_left_to_itself_is_refused_when_it_hangs(settings, monkeypatch):
    """The batch has found the others; this one waits for code of the project."""
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": 0.1}
    monkeypatch.setattr(batches, "INTERVAL", 0.05)

    async def main():
        blocked = Blocked()
        work = [batches.find(blocked, "here", item, Turn()) for item in ("a", "alone", "b")]
        async with asyncio.timeout(20):
            found = await asyncio.gather(*work, return_exceptions=True)
        assert found.pop(1).status_code == 503
        assert found == ["a together", "b together"]
        assert not batches._of_loop()._alone
        blocked.may_return.set()

    asyncio.run(main())


def test_handshake_that_waits_begins_in_its_own_context(settings):
    settings.FASTWS = {"MAX_HANDSHAKES": 1}
    name, found = ContextVar("name", default="nobody"), []

    async def main():
        turns, ended = admission(), []
        assert turns.request(None, ended.append)
        name.set("second")
        assert not turns.request(None, lambda turn: found.append(name.get()))
        name.set("first")
        ended[0].end()

    asyncio.run(main())
    assert found == ["second"]
