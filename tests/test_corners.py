"""Small parts under conditions that tests of whole connections rarely produce."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel, field_serializer
from pydantic_core import PydanticSerializationError
from websockets import ConnectionClosedOK

from fastws_compat import BackgroundTasks, FastAPI, WebSocket, WebSocketDisconnect, figures, operations
from fastws_compat.checks.settings import check_settings
from fastws_compat.connections import hooks, registry
from fastws_compat.connections.admission import Admission
from fastws_compat.connections.counted import Counted
from fastws_compat.connections.deadlines import Deadlines
from fastws_compat.connections.interrupt import Cleanup
from fastws_compat.connections.lifecycle import Session, open_socket
from fastws_compat.connections.states import CONNECTED, CONNECTING, DISCONNECTED, SESSION
from fastws_compat.contrib import gathering, prometheus
from fastws_compat.contrib.prometheus.apps import PrometheusConfig
from fastws_compat.daphne import shutdown
from fastws_compat.daphne.server import Server
from fastws_compat.exception_handlers import from_django, request_validation_exception_handler
from fastws_compat.exceptions import DeclarationError, RequestValidationError
from fastws_compat.groups import Group
from fastws_compat.groups.breaker import Breaker, Call
from fastws_compat.groups.feeds import GroupFeed
from fastws_compat.groups.keeper import Keeper
from fastws_compat.groups.kinds import History, Kind
from fastws_compat.groups.seats import MemorySeats, Seat
from fastws_compat.groups.stores import MemoryStore, StoreError, StoreRefused, StoreRejected
from fastws_compat.layers.content import dump_model
from fastws_compat.management.clients import NetworkClient
from fastws_compat.management.commands import ws_send
from fastws_compat.management.dialogue import Dialogue
from fastws_compat.operations import acts, survey
from fastws_compat.operations import census as operations_census
from fastws_compat.operations.apps import OperationsConfig
from fastws_compat.operations.management.top import Sample
from fastws_compat.testclient import TestClient
from fastws_compat.threads import databases, pool
from tests.live_clients import client, joining_app


def test_the_handler_for_requests_answers_with_422() -> None:
    error = RequestValidationError([{"type": "missing", "loc": ("query", "n"), "msg": "Field required"}])
    response: Any = asyncio.run(request_validation_exception_handler(cast(Any, None), error))
    assert response.status_code == 422
    assert json.loads(response.body)["detail"][0]["loc"] == ["query", "n"]


def test_without_django_nothing_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.http import Http404

    translated = from_django(Http404())
    assert translated is not None
    assert translated.status_code == 404
    monkeypatch.delitem(sys.modules, "django.core.exceptions")
    assert from_django(Http404()) is None


def test_a_generator_is_no_endpoint() -> None:
    app = FastAPI()

    def endpoint(websocket: WebSocket) -> Iterator[int]:
        yield 1

    with pytest.raises(DeclarationError, match="endpoint is a generator: an endpoint has no 'yield'"):
        app.websocket("/ws")(cast(Any, endpoint))


def test_a_connection_is_accepted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(hooks, "answered", [told.append])
    connection = Counted.__new__(Counted)
    connection.begun = 0.0
    connection.note_accepted()
    connection.note_accepted()
    assert told == [connection]


# Places of handshakes


def test_places_are_watched_without_a_time_limit_and_not_on_a_closed_loop(settings: Any) -> None:
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": None}
    loop = asyncio.new_event_loop()
    places = Admission(loop)
    places._free_places()
    assert not places._is_armed
    loop.close()
    places._arm()
    assert not places._is_armed


# Metrics


def test_the_app_enters_the_default_registry_once() -> None:
    before = list(REGISTRY._collector_to_names)
    app = PrometheusConfig("fastws_compat.contrib.prometheus", prometheus)
    try:
        app.ready()
        app.ready()
        added = [each for each in REGISTRY._collector_to_names if each not in before]
        assert len(added) <= 1
        assert prometheus.collector in REGISTRY._collector_to_names
    finally:
        for each in [each for each in REGISTRY._collector_to_names if each not in before]:
            REGISTRY.unregister(each)


def test_groups_and_their_members_are_counted_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus.figures, "groups", lambda: {"default": (2, 5)})
    groups, members = prometheus._groups()
    assert [(each.labels, each.value) for each in groups.samples] == [({"layer": "default"}, 2)]
    assert [(each.labels, each.value) for each in members.samples] == [({"layer": "default"}, 5)]


@pytest.mark.parametrize("installed", [True, False])
def test_metrics_of_other_processes_come_with_the_operations_app(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = list(prometheus.collector.collect())
    part = {"families": [gathering.packed(metric) for metric in own]}

    async def ask(operation: str, question: Any) -> Any:
        return SimpleNamespace(parts={gathering.process_name(): [part], "other:1": [part, {}]})

    monkeypatch.setattr(gathering, "ask", ask)
    monkeypatch.setattr(gathering.apps, "is_installed", lambda name: installed)
    found = dict(gathering.gather(lambda: own))
    assert list(found) == [gathering.process_name(), *["other:1"] * installed]
    if installed:
        assert [metric.name for metric in found["other:1"]] == [metric.name for metric in own]


# Groups


ONE: Call = ("append", "one")
OTHER: Call = ("append", "other")


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Which lines about the store have been logged, in order."""
    return [
        record.getMessage().split("layer 'default' ")[1].split(": messages")[0] for record in caplog.records
    ]


def test_an_outage_that_is_known_is_logged_once_and_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker("default", MemoryStore())
    breaker.failed(StoreError("reset."), ONE)
    assert not breaker.is_open  # the next call may succeed
    breaker.failed(StoreError("reset"), ONE)
    assert outages(caplog) == ["fails (group 'one': reset)"]
    breaker.succeeded(ONE)
    breaker.succeeded(ONE)
    assert outages(caplog)[1:] == ["has recovered after 0.0 s"]


def test_the_success_of_one_group_is_no_recovery_while_another_one_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breaker = Breaker("default", MemoryStore())
    for _ in range(3):
        breaker.failed(StoreRejected("wrong"), ONE)
        breaker.succeeded(OTHER)
    assert outages(caplog) == ["fails (group 'one': wrong)"]
    breaker.failed(StoreRefused("away"), OTHER)
    breaker.succeeded(OTHER)
    assert len(outages(caplog)) == 1  # it has come back, and group one still fails
    breaker.succeeded(ONE)
    assert outages(caplog)[1:] == ["has recovered after 0.0 s"]


def test_a_failing_group_that_nobody_uses_any_longer_is_no_outage(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = Breaker("default", MemoryStore())
    breaker.failed(StoreRejected("wrong"), ONE)
    monkeypatch.setattr("fastws_compat.groups.breaker.MEMORY", -1)
    breaker.succeeded(OTHER)
    assert outages(caplog)[1:] == ["has recovered after 0.0 s"]


@pytest.mark.parametrize("error", [StoreRefused, StoreRejected])
def test_a_report_in_vain_keeps_no_send_from_trying(
    error: type[StoreError], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a rejection says that this group still fails; a store that is away is for sends to find out."""

    async def refuse(*arguments: object) -> None:
        raise error("no")

    breaker = Breaker("default", MemoryStore())
    monkeypatch.setattr(breaker._retry, "arm", lambda interval: None)
    monkeypatch.setattr(breaker.store, "mark_hole", refuse)
    breaker.add_hole("one", Kind("*", History()))
    with pytest.raises(error):
        asyncio.run(breaker.mark_holes())
    assert not breaker.is_open
    assert outages(caplog) == (["fails (group 'one': no)"] if error is StoreRejected else [])
    assert breaker.hole("one") is not None


def test_a_newer_hole_stays_when_an_older_one_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = Breaker("default", MemoryStore())
    monkeypatch.setattr(breaker._retry, "arm", lambda interval: None)
    kind = Kind("*", History())
    breaker.add_hole("g", kind)
    older = breaker.hole("g")
    breaker.add_hole("g", kind)
    assert older is not None
    breaker.fill_hole("g", older)
    newer = breaker.hole("g")
    assert newer not in (None, older)
    breaker.fill_hole("g", cast(int, newer))
    assert breaker.hole("g") is None


def test_a_history_of_many_pages_is_read_to_its_end(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {"pages.*": {"history": {"count": 1000}}}}
    group = Group("pages.1")

    async def main() -> None:
        for number in range(250):
            await group.asend([number])
        assert [entry.message for entry in await group.ahistory()] == [[number] for number in range(250)]
        assert [entry.offset for entry in await group.ahistory(after=200, limit=3)] == [201, 202, 203]
        assert await group.ahistory(limit=0) == []
        assert len(await group.ahistory(limit=200)) == 200
        await group.aclear()

    asyncio.run(main())


def test_a_client_that_joins_during_an_outage_learns_its_position_afterwards(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {"late.*": {"history": True, "state": True}}}
    group = Group("late.1")
    app = joining_app(group)

    async def refuse(*arguments: Any, **options: Any) -> Any:
        raise StoreError("away")

    async def main() -> None:
        async with asyncio.timeout(30):
            await group.asend(["before"])
            with monkeypatch.context() as away:
                away.setattr(MemoryStore, "read", refuse)
                away.setattr("fastws_compat.groups.feeds.RETRY_INTERVAL", 0.05)
                async with client(app) as one:
                    joined = await one.until("joined")
                    assert (joined["epoch"], joined["offset"]) == (None, 0)
                    away.undo()
                    assert (await one.until("lost"))["offset"] == 1

    asyncio.run(main())


def test_a_client_whose_next_messages_are_gone_is_told_that_they_are_lost(settings: Any) -> None:
    """They are trimmed while it catches up: the history keeps fewer messages than it still needs."""
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {"gone.*": {"history": True, "state": True}}}
    group = Group("gone.1")
    app = joining_app(group)

    async def main() -> None:
        async with asyncio.timeout(30):
            for number in range(3):
                await group.asend([number])
            position = await group.aposition()
            epoch = position.partition(":")[0]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(GroupFeed, "entries_after", nothing)
                async with client(app, f"gone.1:{epoch}:1") as one:
                    assert (await one.until("joined"))["recovered"] is True
                    assert (await one.until("lost"))["offset"] == 3
                    assert one.of("message") == []

    async def nothing(*arguments: Any) -> list[Any]:
        raise StoreError("away")

    asyncio.run(main())


def test_marks_of_what_a_store_has_pass_over_what_has_changed_meanwhile() -> None:
    keeper = Keeper(MemorySeats(), lambda group, diff: None)
    back = Seat("back", "ann", "{}")
    keeper._wanted["g"] = {"back": back}
    keeper._stale["g"] = dict.fromkeys(("back", "gone"))
    keeper._strike("g", [], ["back", "gone"], "")
    assert keeper._stale == {"g": {"back": None}}


def test_a_process_that_renewed_its_lease_is_not_struck() -> None:
    now = 0.0
    seats = MemorySeats(lambda: now)
    seats._leases.tick("p", 10, now)
    seats._strike("p")
    assert "p" in seats._leases.ends
    now = 11.0
    seats._strike("p")
    assert "p" not in seats._leases.ends


# Connections


def test_an_application_that_has_no_task_is_not_cancelled() -> None:
    session = Session.__new__(Session)
    session.cancel_foreign()
    assert session._cancels == 0


def test_a_session_keeps_its_tasks_until_they_are_done() -> None:
    async def main() -> None:
        session = Session.__new__(Session)
        for _ in range(2):
            session.spawn(asyncio.sleep(0))
        assert session._tasks is not None
        assert len(session._tasks) == 2
        await asyncio.gather(*session._tasks)
        await asyncio.sleep(0)
        assert session._tasks == set()

    asyncio.run(main())


def test_a_socket_outside_of_our_applications_has_no_session() -> None:
    async def nothing(*arguments: Any) -> Any: ...

    websocket = open_socket({"type": "websocket", "path": "/"}, nothing, nothing)
    assert isinstance(websocket, WebSocket)


def test_a_send_that_waited_until_the_socket_was_closed_is_a_disconnect() -> None:
    async def nothing(*arguments: Any) -> Any: ...

    websocket = WebSocket({"type": "websocket", "path": "/"}, nothing, nothing)
    websocket._pending_disconnect = {"type": "websocket.disconnect", "code": 4403, "reason": "abuse"}
    found = asyncio.run(websocket._send_error(RuntimeError("already closed")))
    assert (type(found), cast(Any, found).code) == (WebSocketDisconnect, 4403)
    assert websocket._pending_disconnect is None


def test_the_thread_of_the_tests_has_no_tenants_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Any:
        monkeypatch.setattr(pool, "thread_executors", {asyncio.get_running_loop(): object()})
        return await pool._tenants(None)

    assert asyncio.run(main()) == {}


def test_a_route_that_is_called_on_its_own_runs_its_background_tasks() -> None:
    """Without an application around it there is no session that would send the close frame first."""
    app = FastAPI()
    sent: list[str] = []
    done: list[list[str]] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks) -> None:
        await websocket.accept()
        tasks.add_task(lambda: done.append(list(sent)))
        await websocket.close()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    [route] = app.routes
    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "path_params": {}}
    asyncio.run(cast(Any, route).app(scope, receive, send))
    assert done == [sent] == [["websocket.accept", "websocket.close"]]


@pytest.mark.parametrize("seconds", [None, 0])
def test_the_end_of_a_session_without_a_time_limit(settings: Any, seconds: Any) -> None:
    settings.FASTWS = {"CLEANUP_TIMEOUT": seconds}
    app, ended = FastAPI(), []

    async def end() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("whole")

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        websocket.scope[SESSION].at_end(end)
        await websocket.accept()

    with TestClient(app).websocket_connect("/ws"):
        pass
    assert ended == ["whole"]


@pytest.mark.parametrize("seconds", [None, 0])
def test_a_teardown_without_a_time_limit_sets_no_timer(settings: Any, seconds: Any) -> None:
    settings.FASTWS = {"CLEANUP_TIMEOUT": seconds}

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    async def main() -> None:
        cleanup = Cleanup()
        assert await cleanup.limit(work()) == "done"
        assert cleanup._timer is None

    asyncio.run(main())


def test_what_is_late_may_end_others_that_are_late_too() -> None:
    async def main() -> None:
        late: list[str] = []

        def end(item: str) -> None:
            late.append(item)
            deadlines.discard("second")

        deadlines = Deadlines(asyncio.get_running_loop(), 0.0, end)
        deadlines.add("first")
        deadlines.add("second")
        await asyncio.sleep(0.01)
        assert late == ["first"]

    asyncio.run(main())


def test_figures_leave_out_what_was_refused() -> None:
    route: Any = SimpleNamespace(open=0, pending=0)
    figures.add(route, SimpleNamespace(is_accepted=False, refusal=object(), waited=None))
    assert (route.open, route.pending) == (0, 0)
    figures.add(route, SimpleNamespace(is_accepted=False, refusal=None, waited=None))
    assert (route.open, route.pending) == (0, 1)


def test_an_idle_thread_keeps_what_a_transaction_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    held, idle = (SimpleNamespace(name=name, close=lambda name=name: closed.append(name)) for name in "hi")
    monkeypatch.setattr(databases, "_opened", lambda: [held, idle])
    monkeypatch.setattr(databases, "_is_held", lambda connection: connection is held)
    assert databases.close_idle() is True
    assert closed == ["i"]
    monkeypatch.setattr(databases, "_opened", lambda: [idle])
    assert databases.close_idle() is False


def test_a_state_that_has_changed_meanwhile_is_not_restored() -> None:
    """The send of an accept fails after the connection has been closed."""

    async def main() -> None:
        async def nothing(*arguments: Any) -> Any: ...

        session = Session({"type": "websocket", "path": "/"}, nothing)

        async def fail(message: Any) -> None:
            session.mark_closed()
            raise OSError("gone")

        session._sent = CONNECTING
        with pytest.raises(OSError, match="gone"):
            await session._pass_on({"type": "websocket.accept"}, fail)
        assert session.state is DISCONNECTED

    asyncio.run(main())


def test_a_server_that_has_ended_is_not_stopped_at_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    callbacks: list[Any] = []
    monkeypatch.setattr(threading, "_register_atexit", callbacks.append)
    ended = threading.Event()
    ended.set()
    shutdown.stop_at_exit(cast(Any, SimpleNamespace(ended=ended)))
    before = signal.getsignal(signal.SIGTERM)
    callbacks[0]()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_projects_own_handler_of_sigterm_stays() -> None:
    server: Any = Server.__new__(Server)
    server.signal_handlers = False
    own = lambda *arguments: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, own)
    try:
        server._stop_with_process()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_empty_token_for_metrics_is_reported(settings: Any) -> None:
    settings.FASTWS = {"METRICS_TOKEN": ""}
    assert [message.msg for message in check_settings()] == [
        "FASTWS['METRICS_TOKEN'] has the invalid value ''."
    ]
    settings.FASTWS = {"METRICS_TOKEN": "secret"}
    assert check_settings() == []


def test_a_field_that_cannot_be_written_fails_as_pydantic_says() -> None:
    class Moody(BaseModel):
        value: int

        @field_serializer("value")
        def write(self, value: int) -> int:
            raise PydanticSerializationError("not today")

    with pytest.raises(PydanticSerializationError, match="not today"):
        dump_model(Moody(value=1))


# Operators


def test_a_layer_that_gives_no_channel_is_a_failure() -> None:
    class Down:
        async def new_channel(self) -> str:
            raise ConnectionError("away")

    async def main() -> None:
        question = survey.Survey({"op": "state"}, {})
        await question.ask(Down())
        assert not question._complete

    asyncio.run(main())


def test_a_loop_that_serves_nobody_keeps_a_layer_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared:
        receive_single = None

    monkeypatch.setattr("channels.layers.channel_layers.make_backend", lambda alias: object())

    async def main() -> None:
        shared, other = Shared(), Shared()
        own = survey.layer_here(shared)
        assert survey.layer_here(shared) is own is not shared
        assert survey.layer_here(other) is not own

    asyncio.run(main())


def test_a_part_of_an_answer_is_not_the_whole() -> None:
    async def main() -> None:
        question = survey.Survey({"op": "state"}, {})
        part = {"id": question._id, "process": "other:1"}
        question.take({**part, "last": False})
        assert not question._complete
        question.take({**part, "id": "another question"})
        question.take(part)
        assert question._complete == {"other:1"}

    asyncio.run(main())


def test_many_connections_are_read_with_a_turn_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations_census, "SLICE", 2)
    ended = SimpleNamespace(session=SimpleNamespace(websocket=None, scope={"path": ""}))
    early = SimpleNamespace(session=SimpleNamespace(websocket=None, scope={"path": "/ws"}))
    turns: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(turns.append, "another task")
        found = [each async for each in operations_census.slices(cast(Any, [early, ended, early]))]
        assert found == [early, early]
        assert turns == ["another task"]

    asyncio.run(main())


def test_a_connection_that_is_closing_is_not_ended_again() -> None:
    session: Any = SimpleNamespace(websocket=None, leaving=True, state=CONNECTED)
    acts.end(session, 4403, "abuse")  # it neither notes nor logs a close
    acts._deliver(session, cast(Any, None))
    assert vars(session) == {"websocket": None, "leaving": True, "state": CONNECTED}


def test_a_foreign_application_is_closed_by_the_server() -> None:
    closed: list[tuple[int, str]] = []
    server = SimpleNamespace(close_from_server=lambda *close: closed.append(close))
    acts._close_foreign(cast(Any, SimpleNamespace(server=server)), 4403, "abuse")
    assert closed == [(4403, "abuse")]


def test_a_process_that_has_just_come_has_no_counts() -> None:
    ready: Any = SimpleNamespace(process="a:1", routes={"/ws": {"open": 1}})
    other: Any = SimpleNamespace(process="b:2", routes={})
    sample = Sample(0.0, [ready, other])
    assert sample.counts("a:1", "/ws") == {"open": 1}
    assert sample.counts("b:2", "/ws") == {}
    assert sample.counts("c:3", "/ws") == {}


def test_the_operations_app_listens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "on_begin", [])
    app = OperationsConfig("fastws_compat.operations", operations)
    app.ready()
    app.ready()
    assert len(registry.on_begin) == 1


# Commands


def test_with_a_shared_layer_a_message_needs_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(ws_send, "shared_layer", lambda: object())
    monkeypatch.setattr(ws_send, "members", lambda group: "")
    command = ws_send.Command(stdout=io.StringIO(), stderr=io.StringIO())
    command.send_to_group(cast(Any, SimpleNamespace(name="alarms", send=sent.append)), "fire")
    assert sent == ["fire"]
    assert command.stdout._out.getvalue() == "Sent to alarms.\n"
    assert command.stderr._out.getvalue() == ""


def test_a_second_close_is_not_sent() -> None:
    closed: list[tuple[int, str]] = []

    class Connected:
        async def close(self, *close: Any) -> None:
            closed.append(close)

    dialogue = Dialogue.__new__(Dialogue)
    dialogue._closing = False
    dialogue._client = cast(Any, Connected())

    async def main() -> None:
        await dialogue._command("/close 4000 bye")
        await dialogue._command("/close 4001 again")

    asyncio.run(main())
    assert closed == [(4000, "bye")]


def test_a_ping_to_a_closed_connection_has_no_answer() -> None:
    class Closed:
        async def ping(self) -> Any:
            raise ConnectionClosedOK(None, None)

    connected = NetworkClient.__new__(NetworkClient)
    connected._connection = cast(Any, Closed())
    assert asyncio.run(connected.ping()) is None
